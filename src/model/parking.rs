//! An agent that is not started before its limit is over.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::clock::utc;
use crate::model::duration;
use crate::model::reset::FURTHEST_RESET;

/// Until when an agent is not started, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parking {
    /// When it was parked. Parking it for longer does not change that.
    pub since: DateTime<Utc>,
    /// When it may be started again.
    pub until: DateTime<Utc>,
    /// The run that met the limit, as `task/agent/run_id`.
    pub run: String,
    /// What that run said of it.
    pub reason: String,
}

impl Parking {
    /// A parking for a limit that was met at `now`.
    ///
    /// It lasts until `resets`; where that is not told, or over, for `default`. In no case longer
    /// than [`FURTHEST_RESET`].
    pub fn new(
        now: DateTime<Utc>,
        resets: Option<DateTime<Utc>>,
        default: Duration,
        run: String,
        reason: String,
    ) -> Self {
        let after = |wait: Duration| now + TimeDelta::from_std(wait).unwrap_or_default();
        let told = resets.filter(|resets| *resets > now);
        let until = told.unwrap_or_else(|| after(default.min(FURTHEST_RESET)));
        Self {
            since: now,
            until: until.min(after(FURTHEST_RESET)),
            run,
            reason,
        }
    }

    /// Whether it holds at `now`. One that would hold longer than any limit does not: the clock
    /// was wrong when it began.
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        self.left(now)
            .is_some_and(|left| !left.is_zero() && left <= FURTHEST_RESET)
    }

    /// Both parkings as one: it began with the first and holds as long as the longer one.
    #[must_use]
    pub fn extended_by(self, later: Self) -> Self {
        if later.until <= self.until {
            return self;
        }
        Self {
            since: self.since,
            ..later
        }
    }

    /// The sentence for people: `parked until 2026-02-19 20:40:03 UTC (in 2h 5m)`.
    pub fn words(&self, now: DateTime<Utc>) -> String {
        let left = self.left(now).unwrap_or_default();
        // What is left of a second is said as a whole one.
        let left = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
        format!(
            "parked until {} (in {})",
            utc(self.until),
            duration::words(left)
        )
    }

    fn left(&self, now: DateTime<Utc>) -> Option<Duration> {
        (self.until - now).to_std().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-02-19T18:35:03.5Z".parse().unwrap()
    }

    fn parking(resets: Option<i64>, default: u64) -> Parking {
        let resets = resets.map(|seconds| now() + TimeDelta::seconds(seconds));
        let default = Duration::from_secs(default);
        Parking::new(now(), resets, default, "t/a/r".into(), "limit".into())
    }

    fn seconds(parking: &Parking) -> i64 {
        (parking.until - now()).num_seconds()
    }

    #[test]
    fn a_parking_ends_with_the_limit_or_after_the_default_and_within_8_days() {
        let days8 = 8 * 24 * 3600;
        assert_eq!(seconds(&parking(Some(60), 1800)), 60);
        assert_eq!(seconds(&parking(None, 1800)), 1800);
        assert_eq!(seconds(&parking(Some(-5), 1800)), 1800, "over");
        assert_eq!(seconds(&parking(Some(days8 + 60), 1800)), days8);
        assert_eq!(seconds(&parking(None, 1 << 40)), days8);
    }

    #[test]
    fn a_parking_holds_until_its_end_and_is_not_believed_when_the_clock_was_wrong() {
        let parking = parking(Some(60), 1800);
        assert!(parking.holds(now()));
        assert!(!parking.holds(parking.until));
        assert!(!parking.holds(parking.until + TimeDelta::days(1)));
        assert!(!parking.holds(now() - TimeDelta::days(30)));
    }

    #[test]
    fn the_longer_parking_holds_and_the_first_start_stays() {
        let (short, long) = (parking(Some(60), 1800), parking(Some(600), 1800));
        let mut later = long.clone();
        later.since += TimeDelta::seconds(9);
        let both = short.clone().extended_by(later);
        assert_eq!(both, long);
        assert_eq!(both.clone().extended_by(short), both);
    }

    #[test]
    fn what_is_left_is_said_in_two_units() {
        let parking = parking(Some(7500), 1800);
        assert_eq!(
            parking.words(now()),
            "parked until 2026-02-19 20:40:03 UTC (in 2h 5m)"
        );
        assert!(
            parking
                .words(now() + TimeDelta::milliseconds(7_499_900))
                .ends_with("(in 1s)")
        );
    }
}
