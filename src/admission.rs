//! Whether a run may start: its agent is not parked, and no cap of the day is reached.
//!
//! What is used up is counted from the records of the day, which are the truth and lie on disk
//! anyway; there is no second book to keep in step. The memory of parked agents is one small file
//! each. A database is needed for neither on one machine, and opening one would cost every start
//! more than all of this. What other machines know is brought here by [`crate::sharing`].

use std::fs::File;
use std::time::Duration;

use chrono::{DateTime, Local, Utc};
use tokio::time::{Instant, sleep};

use crate::model::caps::{Caps, Reached, Spent};
use crate::model::clock::Clock;
use crate::model::outcome::Outcome;
use crate::model::parking::Parking;
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::report::ErrorClass;
use crate::model::reset::{ResetHint, day_began};
use crate::model::text;
use crate::model::verdict::Verdict;
use crate::planner::RunPlan;
use crate::process::shutdown::Shutdown;
use crate::store::StoreError;
use crate::store::elsewhere;
use crate::store::layout::Layout;
use crate::store::parked;
use crate::store::reader::{self, Filter};
use crate::store::recorder::{self, is_taken};
use crate::store::told;

/// Why a run is not started.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// What its record says.
    pub verdict: Verdict,
    occasion: Option<Occasion>,
}

/// What a person is told of once, however many starts it refuses.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Occasion {
    subject: String,
    name: String,
}

impl Refusal {
    /// The runner was told to stop before the start.
    pub fn stopped(signal: i32, meanwhile: &str) -> Self {
        let outcome = Outcome::Interrupted { signal };
        let error = format!("the runner was stopped by signal {signal} {meanwhile}");
        Self::new(outcome, error, EvidenceSource::Runner, None)
    }

    fn parked(plan: &RunPlan, parking: &Parking, now: DateTime<Utc>) -> Self {
        let reason = text::first_line(&parking.reason, 200);
        let error = format!("`{}` is {}: {reason}", plan.agent, parking.words(now));
        let occasion = Occasion {
            subject: format!("parked.{}", plan.agent),
            name: parking.since.to_rfc3339(),
        };
        let mut refusal = Self::new(
            Outcome::RateLimited,
            error,
            EvidenceSource::Runner,
            Some(occasion),
        );
        let met = format!("{} met the limit", text::first_line(&parking.run, 200));
        let met = Evidence::new(EvidenceSource::Runner, met);
        refusal.verdict.evidence.push(met);
        refusal.verdict.error_class = Some(ErrorClass::RateLimit);
        refusal.verdict.resets = Some(ResetHint::At(parking.until));
        refusal
    }

    fn new(
        outcome: Outcome,
        error: String,
        source: EvidenceSource,
        occasion: Option<Occasion>,
    ) -> Self {
        let verdict = Verdict {
            outcome,
            error_class: None,
            error: Some(error.clone()),
            resets: None,
            evidence: vec![Evidence::new(source, error)],
        };
        Self { verdict, occasion }
    }

    /// Why, in one sentence.
    pub fn reason(&self) -> &str {
        self.verdict.error.as_deref().unwrap_or_default()
    }

    /// When waiting would help; `None` where nobody knows.
    fn until(&self) -> Option<DateTime<Utc>> {
        match self.verdict.resets {
            Some(ResetHint::At(until)) => Some(until),
            Some(ResetHint::After(_) | ResetHint::WallClock { .. }) | None => None,
        }
    }

    /// The refusal to record when these kept every agent of a list from starting: a cap, else the
    /// parking that ends first.
    pub fn of_all(refusals: Vec<Self>) -> Option<Self> {
        let parked = |refusal: &Self| refusal.until().is_some();
        refusals
            .into_iter()
            .min_by_key(|refusal| (parked(refusal), refusal.until()))
    }

    /// Whether a person is to be told now, for the first time. Asking is telling; where it cannot
    /// be noted that somebody was told, they are told again.
    pub fn first_told(&self, layout: &Layout) -> bool {
        let Some(Occasion { subject, name }) = &self.occasion else {
            return true;
        };
        told::first_told(layout, subject, name).unwrap_or_else(|error| {
            tracing::warn!(error = text::chain(&error), "it may be told again");
            true
        })
    }
}

/// What keeps a run from starting at `now`; `None` when nothing does.
///
/// Writes nothing. Costs a look for one file, and with caps the reading of the day's records.
///
/// # Errors
/// When the records cannot be listed, and so cannot be counted.
pub fn refusal(
    plan: &RunPlan,
    layout: &Layout,
    now: DateTime<Utc>,
) -> Result<Option<Refusal>, StoreError> {
    if let Some(parking) = parked::parked(layout, &plan.agent, now) {
        return Ok(Some(Refusal::parked(plan, &parking, now)));
    }
    for subject in subjects(plan) {
        let Subject { noun, name, .. } = &subject;
        let (key, error) = if let Some(error) = subject.uncounted(layout) {
            let why = text::chain(&error);
            let error =
                format!("what the {noun} `{name}` has used up today cannot be counted: {why}");
            ("uncounted", error)
        } else if let Some(Reached { key, fact }) = subject.reached(plan, layout, now)? {
            let error = format!("the {noun} `{name}` has reached its `{key}` today: {fact}");
            (key, error)
        } else {
            continue;
        };
        let occasion = Occasion {
            subject: format!("{}.{key}", subject.key()),
            name: day(now),
        };
        let source = EvidenceSource::Policy;
        let refusal = Refusal::new(Outcome::PolicyBlocked, error, source, Some(occasion));
        return Ok(Some(refusal));
    }
    Ok(None)
}

/// Today, as everybody in one zone calls it.
pub(crate) fn day(now: DateTime<Utc>) -> String {
    now.with_timezone(&Local).date_naive().to_string()
}

/// Whose runs are capped together.
struct Subject<'a> {
    noun: &'static str,
    name: String,
    caps: &'a Caps,
    runs: Filter,
}

/// The agent and the task of a plan, where they have caps.
fn subjects(plan: &RunPlan) -> impl Iterator<Item = Subject<'_>> {
    let agent = Subject {
        noun: "agent",
        name: plan.agent.to_string(),
        caps: &plan.caps,
        runs: Filter {
            agent: Some(plan.agent.clone()),
            ..Filter::default()
        },
    };
    let task = Subject {
        noun: "task",
        name: plan.task.name.to_string(),
        caps: &plan.task.caps,
        runs: Filter {
            task: Some(plan.task.name.clone()),
            ..Filter::default()
        },
    };
    [agent, task]
        .into_iter()
        .filter(|subject| !subject.caps.is_empty())
}

impl Subject<'_> {
    /// The same on every machine.
    fn key(&self) -> String {
        format!("{}.{}", self.noun, self.name)
    }

    /// Why not all records of this log root are known: a directory of them cannot be listed.
    fn uncounted(&self, layout: &Layout) -> Option<StoreError> {
        reader::unlisted(layout, &self.runs).into_iter().next()
    }

    /// What today's records of this log root say.
    fn spent_here(
        &self,
        plan: &RunPlan,
        layout: &Layout,
        now: DateTime<Utc>,
    ) -> Result<Spent, StoreError> {
        let today = Filter {
            since: Some(day_began(now, &Local)),
            until: Filter::past(now).until,
            ..self.runs.clone()
        };
        let mut spent = Spent::default();
        for run in reader::runs(layout, &today)? {
            spent.count(&run.record, plan.worst_case);
        }
        Ok(spent)
    }

    fn reached(
        &self,
        plan: &RunPlan,
        layout: &Layout,
        now: DateTime<Utc>,
    ) -> Result<Option<Reached>, StoreError> {
        let mut spent = self.spent_here(plan, layout, now)?;
        spent.add(&elsewhere::spent(layout, &day(now), &self.key()));
        Ok(self.caps.reached(&spent))
    }
}

/// What the capped agent and the capped task of a plan have used up today, by this log root's
/// records; nothing of one that cannot be counted.
pub(crate) fn spent_here(
    plan: &RunPlan,
    layout: &Layout,
    now: DateTime<Utc>,
) -> Result<Vec<(String, Spent)>, StoreError> {
    subjects(plan)
        .filter(|subject| subject.uncounted(layout).is_none())
        .map(|subject| Ok((subject.key(), subject.spent_here(plan, layout, now)?)))
        .collect()
}

/// Whether a run is let in.
#[derive(Debug)]
pub enum Admission {
    /// It is. Where something is capped nobody else is let in before this is dropped, which the
    /// run does once its record tells that it has begun.
    Granted(Option<File>),
    /// It is not.
    Refused(Refusal),
}

/// Lets a run in, or refuses it; many processes may ask at once.
///
/// Waits for others only with caps, and only as long as they count and begin their record; at most
/// for the task's time limit.
pub async fn admit(
    plan: &RunPlan,
    layout: &Layout,
    clock: &dyn Clock,
    shutdown: &mut Shutdown,
) -> Result<Admission, StoreError> {
    let capped = !plan.caps.is_empty() || !plan.task.caps.is_empty();
    let began = Instant::now();
    let turn = loop {
        match capped.then(|| recorder::turn(layout)).transpose() {
            Err(error) if is_taken(&error) && began.elapsed() < plan.limits.timeout => {}
            turn => break turn?,
        }
        tokio::select! {
            signal = shutdown.next() => {
                let meanwhile = "while another run was about to begin";
                return Ok(Admission::Refused(Refusal::stopped(signal, meanwhile)));
            }
            () = sleep(PAUSE) => {}
        }
    };
    Ok(match refusal(plan, layout, clock.now())? {
        Some(refusal) => Admission::Refused(refusal),
        None => Admission::Granted(turn),
    })
}

/// How often a run looks whether it is its turn.
const PAUSE: Duration = Duration::from_millis(10);

/// Parks the agent of a run that met a limit, and says so in its record.
pub fn park(plan: &RunPlan, layout: &Layout, record: &mut Record, now: DateTime<Utc>) {
    let parking = Parking::new(
        now,
        record.resets_at,
        plan.park_default,
        record.path(),
        record.error.clone().unwrap_or_default(),
    );
    let fact = match parked::park(layout, &plan.agent, parking) {
        Ok(parking) if parking.holds(now) => {
            format!("`{}` is {}", plan.agent, parking.words(now))
        }
        Ok(_) => return,
        Err(error) => format!(
            "`{}` could not be parked: {}",
            plan.agent,
            text::chain(&error)
        ),
    };
    tracing::info!(fact);
    record
        .evidence
        .push(Evidence::new(EvidenceSource::Runner, fact));
}
