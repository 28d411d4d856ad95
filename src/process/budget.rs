//! A time that several helper commands share, and that a request to stop cuts short.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::process::shutdown::Shutdown;

/// A time that several helper commands share. All clones are the same time.
#[derive(Clone, Debug)]
pub struct Budget {
    length: Duration,
    pub(super) end: Instant,
    cut: Arc<AtomicBool>,
}

/// How often somebody who waits looks again.
const PAUSE: Duration = Duration::from_millis(20);

impl Budget {
    /// A time from now on.
    pub fn new(length: Duration) -> Self {
        Self {
            length,
            end: Instant::now() + length,
            cut: Arc::default(),
        }
    }

    /// How long it is in all.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Waits until something is so; false when the time was over before.
    pub fn wait_until(&self, mut is_so: impl FnMut() -> bool) -> bool {
        while !is_so() {
            if self.is_over() {
                return false;
            }
            std::thread::park_timeout(PAUSE);
        }
        true
    }

    /// Whether nothing is left of it.
    pub fn is_over(&self) -> bool {
        self.is_cut() || Instant::now() >= self.end
    }

    /// Whether a request to stop cut it short.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// Does work that waits for helper commands on a thread of its own. A request to stop cuts their
/// time short; its signal is given beside the result.
///
/// Work that does not keep to the budget is waited for.
///
/// # Panics
/// When the work does.
pub async fn within<T: Send + 'static>(
    length: Duration,
    shutdown: &mut Shutdown,
    work: impl FnOnce(&Budget) -> T + Send + 'static,
) -> (T, Option<i32>) {
    cut_by(1, length, shutdown, work).await
}

/// The same for work of which half is worse than none: only a second request to stop cuts it short,
/// whoever heard the first.
pub async fn patiently<T: Send + 'static>(
    length: Duration,
    shutdown: &mut Shutdown,
    work: impl FnOnce(&Budget) -> T + Send + 'static,
) -> T {
    let left = if shutdown.heard().is_some() { 1 } else { 2 };
    cut_by(left, length, shutdown, work).await.0
}

/// `requests`: so many cut the time short.
async fn cut_by<T: Send + 'static>(
    requests: usize,
    length: Duration,
    shutdown: &mut Shutdown,
    work: impl FnOnce(&Budget) -> T + Send + 'static,
) -> (T, Option<i32>) {
    let budget = Budget::new(length);
    let mut working = {
        let budget = budget.clone();
        tokio::task::spawn_blocking(move || work(&budget))
    };
    let (mut heard, mut first) = (0, None);
    let result = loop {
        tokio::select! {
            result = &mut working => break result,
            signal = shutdown.next() => {
                heard += 1;
                first = first.or(Some(signal));
            }
        }
        if heard >= requests {
            budget.cut.store(true, Ordering::Relaxed);
        }
    };
    (
        result.expect("the work does not panic, and nothing calls it off"),
        first,
    )
}
