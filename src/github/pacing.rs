//! When a request may be sent: writes one after another, and none at all while a rate limit lasts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use crate::github::error::Fault;

/// The turns of the writes: one at a time, `interval` between the end of one and the next.
#[derive(Debug)]
pub(super) struct Turns {
    interval: Duration,
    last: AsyncMutex<Option<Instant>>,
}

/// The turn of one write; others wait until it is dropped, and `interval` longer.
#[derive(Debug)]
pub(super) struct Turn<'a>(MutexGuard<'a, Option<Instant>>);

impl Turns {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: AsyncMutex::new(None),
        }
    }

    pub(super) async fn wait(&self) -> Turn<'_> {
        let turn = Turn(self.last.lock().await);
        if let Some(last) = *turn.0 {
            sleep_until(last + self.interval).await;
        }
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0 = Some(Instant::now());
    }
}

/// How long to wait at first when a limit names no time; then twice as long each time. GitHub says
/// "at least one minute".
const UNNAMED_WAIT: TimeDelta = TimeDelta::seconds(60);
/// The longest wait: GitHub's windows are one hour, and a broken header must not stop us for good.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(24);

/// Shut while a rate limit lasts.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<GateState>);

#[derive(Debug, Default)]
struct GateState {
    until: Option<DateTime<Utc>>,
    /// Limits in a row that named no time.
    unnamed: u32,
}

impl Gate {
    /// Whether a request may be sent now.
    pub(super) fn check(&self, now: DateTime<Utc>) -> Result<(), Fault> {
        match self.until(now) {
            Some(retry_at) => Err(Fault::Limited { retry_at }),
            None => Ok(()),
        }
    }

    /// Until when no request may be sent.
    pub(super) fn until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let until = self.state().until?;
        // A clock that was set back must not prolong the wait.
        (now < until && until - now <= LONGEST_WAIT).then_some(until)
    }

    /// Shuts until `wait` from now, or for a time of our own when none was named; tells until when.
    pub(super) fn shut(&self, now: DateTime<Utc>, wait: Option<TimeDelta>) -> DateTime<Utc> {
        let mut state = self.state();
        let wait = wait.unwrap_or_else(|| {
            state.unnamed += 1;
            UNNAMED_WAIT * 2_i32.pow((state.unnamed - 1).min(6))
        });
        let until = now + wait.clamp(TimeDelta::seconds(1), LONGEST_WAIT);
        let until = state.until.map_or(until, |earlier| earlier.max(until));
        state.until = Some(until);
        until
    }

    /// GitHub answers again.
    pub(super) fn answered(&self) {
        self.state().unnamed = 0;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, GateState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    #[test]
    fn nothing_passes_before_the_named_time_and_all_after_it() {
        let gate = Gate::default();
        assert!(gate.check(at(0)).is_ok());
        assert_eq!(gate.shut(at(0), Some(TimeDelta::seconds(30))), at(30));
        // A shorter one that comes later does not open it.
        gate.shut(at(1), Some(TimeDelta::seconds(2)));
        assert!(gate.check(at(29)).is_err());
        assert!(gate.check(at(30)).is_ok());
    }

    #[test]
    fn a_limit_that_names_no_time_is_waited_for_a_minute_and_then_twice_as_long_each_time() {
        let gate = Gate::default();
        assert_eq!(gate.shut(at(0), None), at(60));
        assert_eq!(gate.shut(at(60), None), at(180));
        assert_eq!(gate.shut(at(180), None), at(420));
        gate.answered();
        assert_eq!(gate.shut(at(420), None), at(480));
    }

    #[test]
    fn neither_a_broken_header_nor_a_clock_that_was_set_back_stops_it_for_good() {
        let gate = Gate::default();
        let until = gate.shut(at(0), Some(TimeDelta::days(36_500)));
        assert_eq!(until, at(24 * 3600));
        assert!(gate.check(at(-3600)).is_ok());
    }
}
