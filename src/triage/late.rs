//! What should have happened by now: starts that nobody was there for, and tasks without a success.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::triage::heartbeat::{MAX_GAP, beat_at};

/// A start that was missed longer ago is not made up for.
pub const MAX_CATCH_UP: TimeDelta = TimeDelta::days(1);

/// The start to make up for: the last of the fires, when the heartbeat was silent then and nothing
/// has started since. `began` is the first heartbeat ever; `is_started` says whether a run began at
/// a time or later.
pub fn missed(
    fires: impl Iterator<Item = DateTime<Utc>>,
    began: DateTime<Utc>,
    beats: &[DateTime<Utc>],
    is_started: impl FnOnce(DateTime<Utc>) -> bool,
) -> Option<DateTime<Utc>> {
    let last = fires.last().filter(|fire| *fire > began + MAX_GAP)?;
    (beat_at(beats, last) == Some(false) && !is_started(last)).then_some(last)
}

/// Whether a task's success is overdue. Nothing is before it was watched for as long.
pub fn is_overdue(
    within: Duration,
    last_success: Option<DateTime<Utc>>,
    began: DateTime<Utc>,
    now: DateTime<Utc>,
) -> bool {
    let since = last_success.unwrap_or(began).max(began);
    (now - since).to_std().is_ok_and(|waited| waited > within)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_771_533_600 + minutes * 60, 0).unwrap()
    }

    #[test]
    fn only_the_last_start_that_nobody_was_there_for_is_made_up_for() {
        let beats: Vec<_> = (0..60).chain(200..210).map(at).collect();
        let check = |fires: &[i64], started: bool| {
            missed(fires.iter().copied().map(at), at(0), &beats, |_| started)
        };
        assert_eq!(check(&[90, 150], false), Some(at(150)));
        assert_eq!(check(&[90, 150], true), None, "it ran after all");
        assert_eq!(
            check(&[90, 205], false),
            None,
            "cron was there for the last one"
        );
        assert_eq!(check(&[30], false), None);
        assert_eq!(check(&[], false), None);
        let none = missed([at(150)].into_iter(), at(200), &beats, |_| false);
        assert_eq!(none, None, "nothing was installed then");
    }

    #[test]
    fn a_success_is_overdue_after_its_time_and_not_before_anybody_watched() {
        let hour = Duration::from_hours(1);
        let check =
            |last: Option<i64>, began, now| is_overdue(hour, last.map(at), at(began), at(now));
        assert!(!check(Some(0), -9_999, 60));
        assert!(check(Some(0), -9_999, 61));
        assert!(!check(None, 0, 60));
        assert!(check(None, 0, 61));
        assert!(!check(Some(-500), 0, 60), "installed an hour ago");
    }
}
