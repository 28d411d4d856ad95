//! When a request may be sent: writes one after another, and none at all while a rate limit lasts.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard};
use tokio::time::{Instant, sleep, sleep_until};

use crate::github::error::Fault;
use crate::model::clock::Clock;

/// The turns of the writes: one at a time, `interval` between the end of one and the next. Other
/// processes with the same ledger keep that distance, too.
#[derive(Debug)]
pub(super) struct Turns {
    interval: Duration,
    last: AsyncMutex<Option<Instant>>,
    ledger: Option<Ledger>,
}

/// The turn of one write; others wait until it is dropped, and `interval` longer.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    last: MutexGuard<'a, Option<Instant>>,
    turns: &'a Turns,
}

impl Turns {
    pub(super) fn new(interval: Duration, ledger: Option<Ledger>) -> Self {
        Self {
            interval,
            last: AsyncMutex::new(None),
            ledger: ledger.filter(|_| !interval.is_zero()),
        }
    }

    pub(super) async fn wait(&self) -> Turn<'_> {
        let turn = Turn {
            last: self.last.lock().await,
            turns: self,
        };
        if let Some(last) = *turn.last {
            sleep_until(last + self.interval).await;
        }
        if let Some(ledger) = &self.ledger {
            sleep(ledger.reserve(self.interval).await).await;
        }
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.last = Some(Instant::now());
        if let Some(ledger) = &self.turns.ledger {
            ledger.keep_clear(self.turns.interval);
        }
    }
}

/// When the next write may begin, in a file that all processes with the same credentials share.
///
/// A process takes its turn beforehand and lets go of the file: one that dies or stands still holds
/// up nobody.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    clock: Arc<dyn Clock + Send + Sync>,
}

/// How long the file is waited for at most; it is locked for a moment only.
const LEDGER_PATIENCE: Duration = Duration::from_secs(2);
/// Turns are never taken so far ahead: the clock was set back since.
const FARTHEST_TURN: TimeDelta = TimeDelta::minutes(10);

impl Ledger {
    pub(super) fn new(path: PathBuf, clock: Arc<dyn Clock + Send + Sync>) -> Self {
        Self { path, clock }
    }

    /// Takes the next turn; tells how long it is until then. Where the file cannot be used, the
    /// turn is at once.
    async fn reserve(&self, interval: Duration) -> Duration {
        let began = Instant::now();
        let error = loop {
            match self.change(|next, _now| next + interval) {
                Ok(wait) => return wait,
                Err(TryLockError::WouldBlock) if began.elapsed() < LEDGER_PATIENCE => {
                    sleep(Duration::from_millis(5)).await;
                }
                Err(error) => break error,
            }
        };
        let path = self.path.display();
        tracing::warn!("other processes may write to GitHub at the same time: `{path}`: {error}");
        Duration::ZERO
    }

    /// Lets nobody begin before `interval` from now. Where the file is in use, the distance to the
    /// turn that was taken has to do.
    fn keep_clear(&self, interval: Duration) {
        drop(self.change(|next, now| next.max(now + interval)));
    }

    /// Changes when the next write may begin; tells how long it was until then.
    fn change(
        &self,
        change: impl FnOnce(DateTime<Utc>, DateTime<Utc>) -> DateTime<Utc>,
    ) -> Result<Duration, TryLockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(TryLockError::Error)?;
        file.try_lock()?;
        let now = self.clock.now();
        let next = read_time(&mut file)
            .filter(|next| *next - now <= FARTHEST_TURN)
            .map_or(now, |next| next.max(now));
        write_time(&mut file, change(next, now)).map_err(TryLockError::Error)?;
        Ok((next - now).to_std().unwrap_or_default())
    }
}

/// What is torn or foreign is as good as nothing.
fn read_time(file: &mut File) -> Option<DateTime<Utc>> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    DateTime::from_timestamp_millis(text.parse().ok()?)
}

fn write_time(file: &mut File, time: DateTime<Utc>) -> io::Result<()> {
    file.rewind()?;
    file.set_len(0)?;
    write!(file, "{}", time.timestamp_millis())
}

/// How long to wait at first when a limit names no time; then twice as long each time. GitHub says
/// "at least one minute".
const UNNAMED_WAIT: TimeDelta = TimeDelta::seconds(60);
/// The longest wait: GitHub's windows are one hour, and a broken header must not stop us for good.
pub(super) const LONGEST_WAIT: TimeDelta = TimeDelta::hours(24);

/// What a rate limit holds for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Budget {
    /// All requests: that of the REST API, and the limits on doing too much at once.
    All,
    /// GraphQL alone, which GitHub counts apart.
    Graphql,
}

/// A rate limit that was met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Limit {
    pub(super) budget: Budget,
    /// How long it lasts, if that was named.
    pub(super) wait: Option<TimeDelta>,
}

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

    #[derive(Debug)]
    struct StillClock(DateTime<Utc>);

    impl Clock for StillClock {
        fn now(&self) -> DateTime<Utc> {
            self.0
        }
    }

    #[test]
    fn a_ledger_hands_out_turns_at_a_distance_whatever_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let wait = |second: i64| {
            let ledger = Ledger::new(path.clone(), Arc::new(StillClock(at(second))));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build();
            let turn = ledger.reserve(Duration::from_secs(1));
            runtime.unwrap().block_on(turn).as_secs()
        };
        assert_eq!([wait(0), wait(0), wait(0)], [0, 1, 2]);
        assert_eq!([wait(2), wait(60)], [1, 0]);
        let ended = Ledger::new(path.clone(), Arc::new(StillClock(at(90))));
        ended.keep_clear(Duration::from_secs(1));
        assert_eq!(wait(90), 1, "the distance is from the end of a write");
        assert_eq!(wait(-3600), 0, "the clock was set back");
        #[expect(clippy::disallowed_methods, reason = "damage on purpose")]
        std::fs::write(&path, "\u{0}\u{0}garbage that is longer than a time").unwrap();
        assert_eq!([wait(0), wait(0)], [0, 1]);
        let absent = Ledger::new("/nonexistent/ledger".into(), Arc::new(StillClock(at(0))));
        let turn = absent.change(|next, _| next);
        assert!(matches!(turn, Err(TryLockError::Error(_))));
    }

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
