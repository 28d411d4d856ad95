//! Dispatched work that failed: what rests until a person resets it, and what is tried again.

use chrono::{DateTime, Utc};

use crate::model::clock::utc;
use crate::model::text;
use crate::queue::{State, Work};
use crate::sources::local::ORIGIN;
use crate::triage::Facts;

/// A dispatched work that failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FailedWork {
    /// Where it comes from, such as `owner/repo#7`.
    pub origin: String,
    /// Since when it is in this state.
    pub since: DateTime<Utc>,
    /// The tries that count.
    pub attempts: u32,
    /// Why, in one line.
    pub why: String,
    /// When it is tried again; `None` when it rests.
    pub retry_at: Option<DateTime<Utc>>,
    /// What to do next.
    pub step: &'static str,
}

impl FailedWork {
    /// Whether it rests until a person does something.
    pub fn needs_somebody(&self) -> bool {
        self.retry_at.is_none()
    }
}

/// What to do about an issue at rest.
pub const RESTING_ISSUE: &str =
    "mend what it names, then take the label `failed` off the issue: that starts it afresh";
/// What to do about a local task at rest.
pub const RESTING_TASK: &str =
    "mend what it names, then delegate it again: `agent-runner delegate`";
/// What to do about a work that is tried again.
const RETRYING: &str = "nothing yet: it is tried again by itself";

/// Those that came to rest since the look back began, then those that are tried again.
pub(crate) fn failed(facts: &Facts) -> Vec<FailedWork> {
    let mut failed: Vec<FailedWork> = (facts.works.iter())
        .filter(|work| work.state == State::Retrying || rests_since(work, facts))
        .map(describe)
        .collect();
    failed.sort_by_key(|work| (work.retry_at, std::cmp::Reverse(work.since)));
    failed
}

/// Those that came to rest before the look back began.
pub(crate) fn rests_long(facts: &Facts) -> Option<String> {
    let works = &facts.works;
    let rests = |work: &&Work| work.state == State::Rested && !rests_since(work, facts);
    let last = works
        .iter()
        .filter(rests)
        .max_by_key(|work| work.changed_at)?;
    let number = text::count(works.iter().filter(rests).count(), "dispatched work");
    let (origin, since) = (&last.origin, utc(last.changed_at));
    Some(format!(
        "{number} at rest since before; the last: {origin}, since {since}"
    ))
}

fn rests_since(work: &Work, facts: &Facts) -> bool {
    work.state == State::Rested && work.changed_at >= facts.since
}

fn describe(work: &Work) -> FailedWork {
    let step = match work.state {
        State::Retrying => RETRYING,
        _ if work.origin.starts_with(ORIGIN) => RESTING_TASK,
        State::Waiting | State::Claimed | State::Done | State::Rested | State::Cancelled => {
            RESTING_ISSUE
        }
    };
    FailedWork {
        origin: work.origin.clone(),
        since: work.changed_at,
        attempts: work.attempts,
        why: text::first_line(work.reason.as_deref().unwrap_or("it says no reason"), 160),
        retry_at: (work.state == State::Retrying)
            .then(|| work.not_before.unwrap_or(work.changed_at)),
        step,
    }
}
