//! Ends the runs whose runner died: their processes are killed, their records become `crashed`,
//! and they are told once.
//!
//! Costs nothing when there is none, and may itself be killed at any point: what is redone has the
//! same result.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::isolation;
use crate::model::clock::Clock;
use crate::model::ids::RunPath;
use crate::model::record::{Evidence, EvidenceSource, NotificationState, Record};
use crate::model::task::Containment;
use crate::orchestrator::{self, Announce};
use crate::process::{containment, identity};
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::outbox::EXPIRES_AFTER;
use crate::store::recorder::{RunFolder, update_notification};
use crate::store::recovery::{Abandoned, abandoned};

/// Recovers every run whose runner died; gives their final records, and why one cannot be ended:
/// its mark stays, and it is tried again the next time. What the outbox did not take of runs that
/// did end, it is given again.
///
/// `inherited` is the environment that the runner itself was given.
pub fn recover(
    inherited: &BTreeMap<OsString, OsString>,
    layout: &Layout,
    announce: Option<&Announce<'_>>,
    clock: &dyn Clock,
) -> Result<Vec<Result<Record, StoreError>>, StoreError> {
    let settle = |Abandoned {
                      folder,
                      mut record,
                      has_ended,
                  }: Abandoned| {
        if has_ended {
            return tell_again(layout, announce, clock, &folder, record).map(|()| None);
        }
        kill_survivors(folder.run(), &mut record);
        isolation::recover(inherited, layout, folder.run(), &mut record);
        orchestrator::tell_by_outbox(&mut record, announce, layout, folder.run(), clock.now())?;
        tracing::info!(run = %folder.run(), "a run whose runner died is recorded as crashed");
        folder.finish(&record)?;
        Ok(Some(record))
    };
    Ok(abandoned(layout)?
        .filter_map(|found| found.and_then(settle).transpose())
        .collect())
}

/// Gives the outbox once more what it did not take of a run that did end.
fn tell_again(
    layout: &Layout,
    announce: Option<&Announce<'_>>,
    clock: &dyn Clock,
    folder: &RunFolder,
    mut record: Record,
) -> Result<(), StoreError> {
    let now = clock.now();
    let is_late = record.end_time.is_none_or(|end| now - end > EXPIRES_AFTER);
    if announce.is_none() && !is_late {
        // Another configuration may have a topic.
        return Ok(());
    }
    orchestrator::tell_by_outbox(&mut record, announce, layout, folder.run(), now)?;
    if record.notification.state == NotificationState::Disabled {
        update_notification(layout, folder.run(), &record.notification)?;
    }
    folder.forget()
}

/// Kills what is in the run's control group or carries its mark. After a reboot there is nothing to
/// look for, and numbers of the old boot mean other processes now.
fn kill_survivors(run: &RunPath, record: &mut Record) {
    let Some(pid) = record.pid.filter(|_| record.boot_id == identity::boot_id()) else {
        return;
    };
    let is_in_cgroup = record.containment.as_deref() == Some(Containment::Cgroup.as_str());
    let sweep = containment::kill_abandoned(is_in_cgroup, &orchestrator::marker(run, pid));
    record.survivors_killed = Some(sweep.killed);
    let mut note = |fact: String| {
        record
            .evidence
            .push(Evidence::new(EvidenceSource::Process, fact));
    };
    if sweep.killed > 0 {
        note(format!(
            "{} of its processes were still alive and were killed",
            sweep.killed
        ));
    }
    if !sweep.unkillable.is_empty() {
        note(format!("could not be killed: {:?}", sweep.unkillable));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;
    use crate::model::message::{Message, Priority};
    use crate::model::outcome::Outcome;
    use crate::store::outbox::Outbox;
    use crate::store::reader::read_run;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> DateTime<Utc> {
            "2026-02-19T12:00:00Z".parse().unwrap()
        }
    }

    #[derive(Debug)]
    struct NextMonth;

    impl Clock for NextMonth {
        fn now(&self) -> DateTime<Utc> {
            Noon.now() + TimeDelta::days(30)
        }
    }

    /// A run that is to be told and whose runner died.
    fn begun(layout: &Layout) -> Record {
        let (task, agent) = ("nightly".parse().unwrap(), "claude".parse().unwrap());
        let folder = RunFolder::create(layout, &task, &agent, Noon.now()).unwrap();
        let mut record = Record::begun(&task, &agent, folder.run().run_id.clone(), Noon.now());
        record.notification.state = NotificationState::Pending;
        folder.begin(&record).unwrap();
        record
    }

    #[expect(clippy::unnecessary_wraps, reason = "others are not told")]
    fn announce(record: &Record) -> Option<Message> {
        Some(Message {
            title: record.path(),
            body: String::new(),
            priority: Priority::Default,
            tags: Vec::new(),
        })
    }

    #[test]
    fn one_run_that_cannot_be_ended_keeps_no_other_from_it_and_is_tried_again() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().join("logs"));
        for _ in 0..3 {
            begun(&layout);
        }
        // Its notification cannot be put there.
        let stone = "00000000000000000001-nightly.claude.20260219_120000_2.crashed.json";
        let stone = layout.outbox().join(stone);
        fs::create_dir_all(&stone).unwrap();
        let inherited = BTreeMap::new();
        let ended = || {
            let ended = recover(&inherited, &layout, Some(&announce), &Noon).unwrap();
            let (ended, failed): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
            (ended.len(), failed.len())
        };
        assert_eq!(ended(), (2, 1));
        assert_eq!(ended(), (0, 1));
        fs::remove_dir(stone).unwrap();
        assert_eq!(ended(), (1, 0));
    }

    #[test]
    fn what_the_outbox_did_not_take_of_an_ended_run_is_given_to_it_again_and_ends_nothing_twice() {
        let inherited = BTreeMap::new();
        let announce: Option<&Announce<'_>> = Some(&announce);
        let (pending, disabled) = (NotificationState::Pending, NotificationState::Disabled);
        for (announce, clock, state, waiting, marks) in [
            (announce, &Noon as &dyn Clock, pending, 1, 0),
            // Another configuration may have a topic, for as long as a notification waits.
            (None, &Noon, pending, 0, 1),
            (None, &NextMonth, disabled, 0, 0),
        ] {
            let root = tempfile::tempdir().unwrap();
            let layout = Layout::new(root.path().join("logs"));
            let mut record = begun(&layout);
            let (run, directory) = (record.path(), layout.root().join(record.path()));
            record.outcome = Outcome::Success;
            record.end_time = Some(Noon.now());
            let folder = abandoned(&layout).unwrap().next().unwrap().unwrap().folder;
            folder.finish(&record).unwrap();
            drop(folder);
            for _ in 0..2 {
                let ended = recover(&inherited, &layout, announce, clock).unwrap();
                assert!(ended.is_empty(), "{ended:?}");
                assert_eq!(Outbox::new(&layout).count().unwrap(), waiting);
                let kept = read_run(&layout, run.parse().unwrap()).record;
                assert_eq!(
                    (kept.outcome, kept.notification.state),
                    (Outcome::Success, state)
                );
                assert!(directory.join("summary.txt").exists());
            }
            assert_eq!(fs::read_dir(layout.running()).unwrap().count(), marks);
        }
    }
}
