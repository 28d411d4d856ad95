//! The limits of one process, as a state machine without process, clock or sleep.
//!
//! The loop tells it what happened and when; it answers what to do. It asks for an end in order
//! before it asks for a kill, and for neither twice.

use std::time::Duration;

use crate::model::process_end::StopReason;

/// The limits of one process. All are measured on the monotonic clock from its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The longest run.
    pub timeout: Duration,
    /// The longest silence; `None` is no limit.
    pub stall_timeout: Option<Duration>,
    /// From the request to end to the kill. Zero kills at once.
    pub grace_period: Duration,
    /// The longest time for which the process may do nothing but wait (see [`Activity::Waiting`]).
    pub patience: Duration,
}

/// From the kill until the runner gives a process up as unkillable. 3 s: the kernel ends any
/// process in milliseconds that is not stuck inside it.
const KILL_PATIENCE: Duration = Duration::from_secs(3);

/// What a piece of output meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Activity {
    /// Bytes without a meaning: they end a silence, nothing else.
    Output,
    /// The process made progress.
    Progress,
    /// The process said that it does nothing but wait, until this time from its start if it knows.
    Waiting {
        /// When the waiting ends.
        until: Option<Duration>,
        /// It made progress before: this is another wait.
        anew: bool,
    },
}

impl Activity {
    /// What two pieces of output mean together.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        match (self, next) {
            (meant, Self::Output) => meant,
            (Self::Progress | Self::Waiting { anew: true, .. }, Self::Waiting { until, .. }) => {
                Self::Waiting { until, anew: true }
            }
            (_, meant) => meant,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Happening {
    /// Nothing but time passing.
    Time,
    /// The process printed something.
    Printed(Activity),
    /// Somebody asked the runner to stop, by this signal.
    Shutdown(i32),
}

/// What to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing until this time from the start, if nothing happens before.
    WaitUntil(Duration),
    /// Ask the process to end.
    Stop(StopReason),
    /// End it.
    Kill,
    /// It cannot be ended: stop waiting for it.
    GiveUp,
}

/// Watches one process.
#[derive(Clone, Debug)]
pub struct Watchdog {
    limits: Limits,
    last_output: Duration,
    waiting: Option<Waiting>,
    shutdowns: u32,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Waiting {
    since: Duration,
    until: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Running,
    Stopping {
        reason: StopReason,
        kill_at: Duration,
    },
    Killed {
        reason: StopReason,
        give_up_at: Duration,
    },
}

impl Watchdog {
    /// A watchdog for a process that starts now.
    pub fn new(limits: Limits) -> Self {
        let state = State::Running;
        Self {
            limits,
            last_output: Duration::ZERO,
            waiting: None,
            shutdowns: 0,
            state,
        }
    }

    /// Why the process is being ended, if it is.
    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.state {
            State::Running => None,
            State::Stopping { reason, .. } | State::Killed { reason, .. } => Some(reason),
        }
    }

    /// Takes what happened at `now` from the start and tells what to do.
    pub fn advance(&mut self, now: Duration, happening: Happening) -> Step {
        match happening {
            Happening::Time => {}
            Happening::Printed(activity) => self.hear(now, activity),
            Happening::Shutdown(signal) => {
                self.shutdowns += 1;
                if self.state == State::Running {
                    return self.stop(now, StopReason::Shutdown(signal));
                }
            }
        }
        match self.state {
            State::Running => match self.exceeded(now) {
                Some(reason) => self.stop(now, reason),
                None => Step::WaitUntil(self.next_deadline()),
            },
            State::Stopping { reason, kill_at } => {
                let told_twice = self.shutdowns >= 2
                    || (self.shutdowns == 1 && !matches!(reason, StopReason::Shutdown(_)));
                if now < kill_at && !told_twice {
                    return Step::WaitUntil(kill_at);
                }
                self.state = State::Killed {
                    reason,
                    give_up_at: now + KILL_PATIENCE,
                };
                Step::Kill
            }
            State::Killed { give_up_at, .. } if now < give_up_at => Step::WaitUntil(give_up_at),
            State::Killed { .. } => Step::GiveUp,
        }
    }

    /// Whether a limit is exceeded for which the process will be asked to end.
    pub fn is_exceeded(&self, now: Duration) -> bool {
        self.state == State::Running && self.exceeded(now).is_some()
    }

    /// Takes what the process printed, before it is judged by [`Watchdog::advance`].
    pub fn hear(&mut self, now: Duration, activity: Activity) {
        self.last_output = now;
        match activity {
            Activity::Output => {}
            Activity::Progress => self.waiting = None,
            Activity::Waiting { until, anew } => {
                let before = self.waiting.filter(|_| !anew);
                let since = before.map_or(now, |waiting| waiting.since);
                self.waiting = Some(Waiting { since, until });
            }
        }
    }

    fn stop(&mut self, now: Duration, reason: StopReason) -> Step {
        if self.limits.grace_period.is_zero() {
            self.state = State::Killed {
                reason,
                give_up_at: now + KILL_PATIENCE,
            };
            return Step::Kill;
        }
        self.state = State::Stopping {
            reason,
            kill_at: now + self.limits.grace_period,
        };
        Step::Stop(reason)
    }

    /// The strongest limit that is exceeded.
    fn exceeded(&self, now: Duration) -> Option<StopReason> {
        let timeout = (now >= self.limits.timeout).then_some(StopReason::Timeout);
        let stalled = self.stall_deadline().is_some_and(|at| now >= at);
        let limited = self.waiting.is_some_and(|waiting| {
            waiting
                .until
                .is_some_and(|until| until > self.limits.timeout)
                || now >= waiting.since.saturating_add(self.limits.patience)
        });
        timeout
            .or_else(|| limited.then_some(StopReason::Limited))
            .or_else(|| stalled.then_some(StopReason::Stalled))
    }

    fn stall_deadline(&self) -> Option<Duration> {
        Some(self.last_output.saturating_add(self.limits.stall_timeout?))
    }

    fn next_deadline(&self) -> Duration {
        let patience = self
            .waiting
            .map(|w| w.since.saturating_add(self.limits.patience));
        [self.stall_deadline(), patience]
            .into_iter()
            .flatten()
            .fold(self.limits.timeout, Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn watchdog() -> Watchdog {
        Watchdog::new(Limits {
            timeout: 100 * S,
            stall_timeout: Some(20 * S),
            grace_period: 5 * S,
            patience: 10 * S,
        })
    }

    fn printed(activity: Activity) -> Happening {
        Happening::Printed(activity)
    }

    #[test]
    fn output_postpones_the_stall_timeout_but_not_the_time_limit() {
        let mut watchdog = watchdog();
        for second in (10..100).step_by(10) {
            let step = watchdog.advance(second * S, printed(Activity::Output));
            assert_eq!(step, Step::WaitUntil((second * S + 20 * S).min(100 * S)));
        }
        assert_eq!(
            watchdog.advance(100 * S, Happening::Time),
            Step::Stop(StopReason::Timeout)
        );
        assert_eq!(
            watchdog.advance(101 * S, printed(Activity::Output)),
            Step::WaitUntil(105 * S)
        );
        assert_eq!(watchdog.advance(105 * S, Happening::Time), Step::Kill);
        assert_eq!(
            watchdog.advance(106 * S, Happening::Time),
            Step::WaitUntil(108 * S)
        );
        assert_eq!(watchdog.advance(108 * S, Happening::Time), Step::GiveUp);
    }

    #[test]
    fn silence_is_a_stall() {
        let mut watchdog = watchdog();
        assert_eq!(
            watchdog.advance(S, Happening::Time),
            Step::WaitUntil(20 * S)
        );
        assert_eq!(
            watchdog.advance(20 * S, Happening::Time),
            Step::Stop(StopReason::Stalled)
        );
    }

    #[test]
    fn waiting_for_a_limit_ends_after_the_patience_unless_progress_follows() {
        let mut watchdog = watchdog();
        let waiting = printed(Activity::Waiting {
            until: None,
            anew: false,
        });
        watchdog.advance(S, waiting);
        watchdog.advance(6 * S, waiting);
        watchdog.advance(7 * S, printed(Activity::Output));
        let mut recovered = watchdog.clone();
        assert_eq!(
            watchdog.advance(11 * S, Happening::Time),
            Step::Stop(StopReason::Limited)
        );
        recovered.advance(8 * S, printed(Activity::Progress));
        assert_eq!(
            recovered.advance(11 * S, Happening::Time),
            Step::WaitUntil(28 * S)
        );
    }

    #[test]
    fn what_is_heard_at_once_means_what_it_means_piece_by_piece() {
        let waiting = Activity::Waiting {
            until: None,
            anew: false,
        };
        let pieces = [Activity::Output, Activity::Progress, waiting];
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    let [mut one_by_one, mut at_once] = [watchdog(), watchdog()];
                    for watchdog in [&mut one_by_one, &mut at_once] {
                        watchdog.hear(S, waiting);
                    }
                    for activity in [a, b, c] {
                        one_by_one.hear(2 * S, activity);
                    }
                    at_once.hear(2 * S, a.then(b).then(c));
                    assert_eq!(at_once.waiting, one_by_one.waiting, "{a:?} {b:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn waiting_beyond_the_deadline_ends_at_once() {
        let mut watchdog = watchdog();
        let step = watchdog.advance(
            S,
            printed(Activity::Waiting {
                until: Some(101 * S),
                anew: false,
            }),
        );
        assert_eq!(step, Step::Stop(StopReason::Limited));
    }

    #[test]
    fn a_second_shutdown_kills_at_once() {
        let mut watchdog = watchdog();
        let shutdown = Happening::Shutdown(2);
        assert_eq!(
            watchdog.advance(S, shutdown),
            Step::Stop(StopReason::Shutdown(2))
        );
        assert_eq!(watchdog.advance(S, Happening::Time), Step::WaitUntil(6 * S));
        assert_eq!(watchdog.advance(2 * S, shutdown), Step::Kill);
        assert_eq!(watchdog.stop_reason(), Some(StopReason::Shutdown(2)));
    }

    #[test]
    fn a_shutdown_during_the_grace_period_of_a_timeout_kills_and_stays_a_timeout() {
        let mut watchdog = watchdog();
        watchdog.advance(100 * S, Happening::Time);
        assert_eq!(
            watchdog.advance(101 * S, Happening::Shutdown(15)),
            Step::Kill
        );
        assert_eq!(watchdog.stop_reason(), Some(StopReason::Timeout));
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            proptest::strategy::Just(Happening::Time),
            proptest::strategy::Just(printed(Activity::Output)),
            proptest::strategy::Just(printed(Activity::Progress)),
            any::<(Option<u16>, bool)>().prop_map(|(until, anew)| {
                let until = until.map(|seconds| u32::from(seconds) * S);
                printed(Activity::Waiting { until, anew })
            }),
            proptest::strategy::Just(Happening::Shutdown(15)),
        ]
    }

    proptest! {
        #[test]
        fn it_stops_before_it_kills_and_waits_only_for_the_future(
            happenings in proptest::collection::vec((0u64..40_000, happening()), 0..60),
        ) {
            let mut watchdog = watchdog();
            let mut now = Duration::ZERO;
            let (mut stops, mut kills) = (0, 0);
            for (millis, happening) in happenings {
                now += Duration::from_millis(millis);
                match watchdog.advance(now, happening) {
                    Step::WaitUntil(at) => assert!(at > now),
                    Step::Stop(_) => stops += 1,
                    Step::Kill => {
                        kills += 1;
                        assert_eq!(stops, 1);
                    }
                    Step::GiveUp => assert_eq!(kills, 1),
                }
                assert!(stops <= 1 && kills <= 1);
                assert_eq!(watchdog.stop_reason().is_some(), stops == 1);
            }
            if now >= 100 * S {
                assert_eq!(stops, 1);
            }
        }
    }
}
