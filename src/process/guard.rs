//! What holds a process to its time limit, and ends it when that is asked for, when the loop that
//! follows it cannot: it may hang in a write to a file system that does not answer. A thread of its
//! own, which writes nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::model::process_end::StopReason;
use crate::process::system;

/// How long the loop may be late.
const PATIENCE: Duration = Duration::from_secs(4);

/// How often it is looked whether the loop comes round. By many looks a runner that was stopped for
/// a while is not taken for one that hangs.
const LOOK: Duration = Duration::from_millis(250);

/// How often it is looked whether the loop is asked for something that it does not hear.
const IDLE_LOOK: Duration = Duration::from_secs(1);

const STACK_BYTES: usize = 64 * 1024;

/// Watches the loop that follows one process, until it is dropped.
pub(super) struct Guard(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// How often the loop came round.
    rounds: u64,
    /// When the loop comes round again, and the process is to be gone.
    due: Instant,
    is_over: bool,
    /// Why the process was killed.
    killed: Option<StopReason>,
}

impl Guard {
    /// Begins to watch. `kill` ends the process, and tells whether it lived; it is called at most
    /// once, and never after [`Guard::dismiss`].
    pub(super) fn post(due: Instant, kill: impl Fn() -> bool + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                rounds: 0,
                due,
                is_over: false,
                killed: None,
            }),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        if let Err(error) = thread.spawn(move || watched.watch(&kill)) {
            tracing::debug!(%error, "nobody watches the loop");
        }
        Self(shared)
    }

    /// The loop came round; it does so again at `due`, or the process is gone before.
    pub(super) fn round(&self, due: Instant) {
        let mut state = self.0.lock();
        state.rounds += 1;
        state.due = due;
    }

    /// Ends the watch, and tells why the process was killed, if it was.
    pub(super) fn dismiss(&self) -> Option<StopReason> {
        let mut state = self.0.lock();
        state.is_over = true;
        self.0.changed.notify_one();
        state.killed
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dismiss();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, kill: &dyn Fn() -> bool) {
        system::leave_signals();
        let mut state = self.lock();
        let (mut rounds, mut quiet) = (0, Duration::ZERO);
        while !state.is_over {
            let early = state.due.saturating_duration_since(Instant::now());
            let asked = system::untaken_request().map(StopReason::Shutdown);
            let reason = asked.or(early.is_zero().then_some(StopReason::Timeout));
            if quiet >= PATIENCE && reason.is_some() {
                state.killed = reason.filter(|_| kill());
                return;
            }
            let pause = match reason {
                Some(_) => LOOK,
                None => early.clamp(LOOK, IDLE_LOOK),
            };
            let waited = self.changed.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if reason.is_some() && rounds == state.rounds {
                quiet += LOOK;
            } else {
                quiet = Duration::ZERO;
                rounds = state.rounds;
            }
        }
    }
}
