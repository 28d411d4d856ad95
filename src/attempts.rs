//! Which run comes next in one call: the next agent of a list, or the same once more.
//!
//! A list goes on when a run is limited or cannot start, or meets a cap at its start; agents that are
//! known not to start are passed over. A failure of the network or the provider is tried again after
//! a pause, as often as the task says and within its time limit. Every attempt is a run with a record
//! of its own.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use crate::admission::{self, Refusal};
use crate::model::change::{Earlier, RepositoryChange};
use crate::model::clock::Clock;
use crate::model::duration;
use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::task::Overlap;
use crate::planner::RunPlan;
use crate::process::shutdown::Shutdown;
use crate::store::StoreError;
use crate::store::layout::Layout;

/// The runs of one call, one after another.
#[derive(Debug)]
pub struct Attempts<'a> {
    layout: &'a Layout,
    clock: &'a dyn Clock,
    candidates: std::vec::IntoIter<RunPlan>,
    /// The first candidate, for the one record when none can start.
    first: Option<RunPlan>,
    is_list: bool,
    notes: Vec<Evidence>,
    refusals: Vec<Refusal>,
    earlier: Option<Earlier>,
    current: Option<Current>,
}

/// The candidate that was started last.
#[derive(Debug)]
struct Current {
    plan: RunPlan,
    began: Instant,
    retries: u32,
}

/// One run to be made.
pub struct Attempt {
    /// What is to be run.
    pub plan: RunPlan,
    /// How long to wait before.
    pub pause: Duration,
    /// Why it is only recorded and not started.
    pub refusal: Option<Refusal>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Attempt")
            .field("agent", &self.plan.agent)
            .finish_non_exhaustive()
    }
}

impl<'a> Attempts<'a> {
    /// The attempts at plans for one task, in the order of their preference.
    pub fn new(plans: Vec<RunPlan>, layout: &'a Layout, clock: &'a dyn Clock) -> Self {
        Self {
            layout,
            clock,
            first: plans.first().cloned(),
            is_list: plans.len() > 1,
            candidates: plans.into_iter(),
            notes: Vec::new(),
            refusals: Vec::new(),
            earlier: None,
            current: None,
        }
    }

    /// The next attempt, given the record of the last and what that changed, as far as it is known;
    /// `None` when there is nothing more to try.
    pub fn next(
        &mut self,
        last: Option<&Record>,
        change: Option<RepositoryChange>,
    ) -> Result<Option<Attempt>, StoreError> {
        if let Some(last) = last {
            self.remember(last, change);
            if let Some(again) = self.again(last) {
                return Ok(Some(again));
            }
            if !leaves_it_to_others(last) {
                return Ok(None);
            }
        }
        while let Some(mut plan) = self.candidates.next() {
            if self.is_passed_over(&plan)? {
                continue;
            }
            if let Some(last) = last {
                plan.previous_run = Some(last.path());
            }
            plan.notes.extend(self.notes.iter().cloned());
            self.current = Some(Current {
                plan: plan.clone(),
                began: Instant::now(),
                retries: 0,
            });
            self.tell_earlier(&mut plan);
            return Ok(Some(Attempt {
                plan,
                pause: Duration::ZERO,
                refusal: None,
            }));
        }
        let first = self.first.take().filter(|_| last.is_none());
        Ok(first.map(|mut plan| {
            if self.is_list {
                plan.notes.extend(self.notes.iter().cloned());
            }
            Attempt {
                plan,
                pause: Duration::ZERO,
                refusal: Refusal::of_all(std::mem::take(&mut self.refusals)),
            }
        }))
    }

    fn is_passed_over(&mut self, plan: &RunPlan) -> Result<bool, StoreError> {
        let refusal = match plan.find_program() {
            Ok(_) => admission::refusal(plan, self.layout, self.clock.now())?,
            Err(error) => {
                self.note(plan, &error.brief());
                return Ok(true);
            }
        };
        let Some(refusal) = refusal else {
            return Ok(false);
        };
        self.note(plan, refusal.reason());
        self.refusals.push(refusal);
        Ok(true)
    }

    /// Keeps what a try did before it failed: the next may find its work done, or what it destroyed
    /// gone.
    fn remember(&mut self, last: &Record, change: Option<RepositoryChange>) {
        if !last.was_started() {
            return;
        }
        let is_first = self.earlier.is_none();
        let earlier = self.earlier.get_or_insert_default();
        if let Some(change) = change {
            earlier.lost = change.lost_in_all();
            earlier.discarded = change.discarded_in_all();
            if is_first {
                earlier.changed_before = Some(change.changed_before);
            }
        }
        if last.commits.is_empty() {
            return;
        }
        earlier.run = last.path();
        let commits = last.commits.iter().map(|commit| commit.commit.clone());
        earlier.commits.extend(commits);
        earlier.head.clone_from(&last.head_after);
    }

    fn tell_earlier(&self, plan: &mut RunPlan) {
        let Some(mut earlier) = self.earlier.clone() else {
            return;
        };
        if !earlier.commits.is_empty() {
            let fact = earlier.to_string();
            plan.notes.push(Evidence::new(EvidenceSource::Git, fact));
        }
        if !plan.task.paths.is_empty() {
            // The record does not say whether there are others that the paths do not allow.
            earlier.head = None;
        }
        plan.earlier = Some(earlier);
    }

    fn note(&mut self, plan: &RunPlan, reason: &str) {
        let fact = format!("`{}` was passed over: {reason}", plan.agent);
        self.notes.push(Evidence::new(EvidenceSource::Runner, fact));
    }

    /// The same once more, when that may help and there is more time left for it than it waits.
    fn again(&mut self, last: &Record) -> Option<Attempt> {
        let current = self.current.as_mut()?;
        let most = current.plan.task.retries;
        if !last.failed_in_passing() || current.retries >= most {
            return None;
        }
        let random = RandomState::new().hash_one(());
        let pause = pause_before(current.plan.retry_pause, current.retries, random);
        let used = current.began.elapsed().saturating_add(pause);
        let left = current.plan.limits.timeout.checked_sub(used)?;
        if left <= pause {
            return None;
        }
        current.retries += 1;
        let mut plan = current.plan.clone();
        plan.limits.timeout = left;
        plan.previous_run = Some(last.path());
        // Somebody else's run meanwhile must not make this one count as skipped.
        plan.task.overlap = Overlap::Wait;
        let fact = format!(
            "{TRY}{} of {}, {} after the one before",
            current.retries + 1,
            most + 1,
            duration::words(pause)
        );
        plan.notes.push(Evidence::new(EvidenceSource::Runner, fact));
        self.tell_earlier(&mut plan);
        Some(Attempt {
            plan,
            pause,
            refusal: None,
        })
    }
}

/// Whether another agent may do what this one did not: it is limited, or it was not started because
/// it cannot be or a cap forbids it. What it was refused after its work is no matter of another.
fn leaves_it_to_others(last: &Record) -> bool {
    match last.outcome {
        Outcome::RateLimited | Outcome::StartFailed => true,
        Outcome::PolicyBlocked => !last.was_started(),
        _ => false,
    }
}

/// Doubles with each retry; up to a quarter longer by chance, so that runs that failed together do
/// not come back together.
fn pause_before(first: Duration, retries: u32, random: u64) -> Duration {
    let pause = first.saturating_mul(1 << retries.min(30));
    let chance = u32::try_from(random % 1000).unwrap_or(0);
    pause.saturating_add(pause / 4000 * chance)
}

/// Waits before an attempt; gives the refusal to record when the runner is told to stop meanwhile.
pub async fn pause(pause: Duration, shutdown: &mut Shutdown) -> Option<Refusal> {
    if pause.is_zero() {
        return None;
    }
    tokio::select! {
        signal = shutdown.next() => {
            Some(Refusal::stopped(signal, "while it waited to try again"))
        }
        () = tokio::time::sleep(pause) => None,
    }
}

/// How the evidence of a further try begins.
const TRY: &str = "try ";

/// Whether a run was the same once more, with what was left of the time.
pub fn is_further_try(record: &Record) -> bool {
    let said = |evidence: &Evidence| {
        evidence.source == EvidenceSource::Runner && evidence.fact.starts_with(TRY)
    };
    record.previous_run.is_some() && record.evidence.iter().any(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_and_chance_adds_at_most_a_quarter() {
        let ten = Duration::from_secs(10);
        for (retries, seconds) in [(0, 10), (1, 20), (2, 40), (9, 5120)] {
            let least = Duration::from_secs(seconds);
            assert_eq!(pause_before(ten, retries, 0), least);
            assert_eq!(pause_before(ten, retries, 1000), least);
            let most = pause_before(ten, retries, 999);
            assert!(most > least && most < least * 5 / 4, "{most:?}");
        }
        assert_eq!(pause_before(Duration::ZERO, 3, 999), Duration::ZERO);
    }
}
