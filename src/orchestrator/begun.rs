//! A run that has begun: from its directory to its final record, with its notification.

use std::time::Instant;

use chrono::{DateTime, Utc};

use crate::admission;
use crate::model::ids::RunPath;
use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, EvidenceSource, NotificationState, Record};
use crate::model::text;
use crate::orchestrator::filling::{close, mask, opening};
use crate::orchestrator::{Announce, Services, Story};
use crate::planner::RunPlan;
use crate::redact::Redactor;
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::outbox::{Entry, Outbox};
use crate::store::recorder::RunFolder;

/// A run that has a directory and no end.
pub(super) struct Begun {
    /// Durations are not the difference of two times of day: the clock may be set meanwhile.
    pub(super) since: Instant,
    pub(super) folder: RunFolder,
    pub(super) redactor: Redactor,
    pub(super) record: Record,
}

impl Begun {
    pub(super) fn new(plan: &RunPlan, services: &Services<'_>) -> Result<Self, StoreError> {
        let start = services.clock.now();
        let folder = RunFolder::create(services.layout, &plan.task.name, &plan.agent, start)?;
        (services.begun)(&folder);
        tracing::info!(run = %folder.run(), "run begins");
        let mut record = opening(plan, folder.run(), start);
        if plan.task.notify && services.announce.is_some() {
            // Whoever finds the run without its runner knows from this that it is to be told.
            record.notification.state = NotificationState::Pending;
            record.notification.configuration = Some(plan.configuration.clone());
        }
        Ok(Self {
            since: Instant::now(),
            folder,
            redactor: Redactor::new(plan.secrets.iter().map(String::as_str)),
            record,
        })
    }

    pub(super) fn end(
        self,
        plan: &RunPlan,
        services: &Services<'_>,
        mut story: Story,
    ) -> Result<Record, StoreError> {
        let Self {
            since,
            folder,
            redactor,
            mut record,
        } = self;
        if folder.make_room()? {
            let fact = "the run's directory was gone at its end, and what it held is lost";
            story.note(EvidenceSource::Runner, fact.to_owned());
        }
        let now = services.clock.now();
        close(&mut record, plan, &story, now);
        record.elapsed = Some(since.elapsed().max(story.end.elapsed));
        mask(&mut record, &redactor);
        if record.outcome == Outcome::RateLimited && record.was_started() {
            admission::park(plan, services.layout, &mut record, now);
        }
        if record.notification.state == NotificationState::Pending
            && let Some(refusal) = &story.refusal
            && !refusal.first_told(services.layout)
        {
            record.notification.state = NotificationState::Disabled;
        }
        let (announce, layout) = (services.announce, services.layout);
        if let Err(error) = tell_by_outbox(&mut record, announce, layout, folder.run(), now) {
            record.evidence.push(unkept(&error));
        }
        // The record has the whole; for it the space may be needed.
        let error = record.error.as_deref().map(|e| text::first_line(e, 300));
        tracing::info!(outcome = %record.outcome, error, "run ended");
        if let Err(error) = folder.finish(&record) {
            finish_untold(&folder, &mut record, layout, &error)?;
        }
        Ok(record)
    }
}

/// Says of a run that its notification found no place. Recovery tries again.
fn unkept(error: &StoreError) -> Evidence {
    let fact = format!("the notification could not be kept: {}", text::chain(error));
    Evidence::new(EvidenceSource::Runner, fact)
}

/// Tries once more to finish a run, without its notification: nobody is told what no record says,
/// and the record may fit into the space that the notification took. Recovery tells what it records.
fn finish_untold(
    folder: &RunFolder,
    record: &mut Record,
    layout: &Layout,
    error: &StoreError,
) -> Result<(), StoreError> {
    Outbox::new(layout).withdraw(folder.run())?;
    if record.notification.state == NotificationState::Pending {
        record.evidence.push(unkept(error));
        record.notification.id = None;
    }
    folder.finish(record).inspect_err(|_| {
        if !record.was_started() {
            RunFolder::discard(layout, folder.run());
        }
    })
}

/// Puts the notification where it survives, before the record is final: of a run that is to be
/// told, as its record says, when there is somebody to tell.
pub(crate) fn tell_by_outbox(
    record: &mut Record,
    announce: Option<&Announce<'_>>,
    layout: &Layout,
    run: &RunPath,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let wanted = record.notification.state == NotificationState::Pending;
    let message = announce
        .filter(|_| wanted)
        .and_then(|announce| announce(record));
    let Some(message) = message else {
        record.notification.state = NotificationState::Disabled;
        return Ok(());
    };
    let entry = Entry::of_run(run, record.outcome, message, now);
    Outbox::new(layout).put(&entry)?;
    record.notification.id = Some(entry.id().to_owned());
    Ok(())
}
