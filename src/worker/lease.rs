//! Holding a claim while its work is done: renewed in the background, confirmed before every
//! effect.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::queue::{Claim, Queue, QueueError};
use crate::worker::notes::Notes;
use crate::worker::story::Failure;

/// Why work must not go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// Somebody else has the claim, or may have it soon.
    LostLease,
    /// The worker is asked to end; `at_once` the second time.
    Shutdown { at_once: bool },
}

/// A claim that is being worked on.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) claim: Claim,
    queue: Queue,
    duration: Duration,
    stop: RefCell<Option<Stop>>,
    stopped: Notify,
    renewed: Cell<Instant>,
    /// When the branch was about to be pushed: after a whole lease machines with another queue may
    /// take it.
    pushed: Cell<Option<Instant>>,
    notes: RefCell<Notes>,
}

impl Lease {
    /// Holds a claim that was asked for at `asked`.
    pub(super) fn new(queue: &Queue, claim: Claim, duration: Duration, asked: Instant) -> Self {
        Self {
            notes: RefCell::new(Notes::from_text(claim.notes.as_deref())),
            claim,
            queue: queue.clone(),
            duration,
            stop: RefCell::new(None),
            stopped: Notify::new(),
            renewed: Cell::new(asked),
            pushed: Cell::new(None),
        }
    }

    /// What this queue's claims on the work have noted.
    pub(super) fn notes(&self) -> Notes {
        self.notes.borrow().clone()
    }

    /// Notes more, for this claim and those that follow it in this queue.
    pub(super) async fn note(&self, change: impl FnOnce(&mut Notes)) -> Result<bool, QueueError> {
        let mut notes = self.notes();
        change(&mut notes);
        let text = notes.to_text();
        *self.notes.borrow_mut() = notes;
        self.queue.note(&self.claim, &text).await
    }

    /// Notes that the branch is about to be pushed, and at the remote holds the claim, too: for a
    /// whole lease from now.
    pub(super) fn note_push(&self) {
        self.pushed.set(Some(Instant::now()));
    }

    /// Asks the work to stop.
    pub(super) fn stop(&self, stop: Stop) {
        *self.stop.borrow_mut() = Some(stop);
        self.stopped.notify_one();
    }

    /// Why the work must stop, when it must.
    pub(super) fn must_stop(&self) -> Option<Stop> {
        *self.stop.borrow()
    }

    /// What comes of a step, which is given up where the work is asked to stop: it may break off
    /// anywhere. Nothing but the step may wait for [`Lease::stopped`].
    pub(super) async fn unless_stopped<T>(
        &self,
        step: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            result = step => result,
            () = self.stopped() => Err(self.must_stop().unwrap_or(Stop::LostLease).into()),
        }
    }

    /// Waits until the work is asked to stop, once more each time.
    pub(super) async fn stopped(&self) {
        self.stopped.notified().await;
    }

    /// Confirms that the claim is ours, for a whole lease from now. Call it before every effect on
    /// the outside.
    pub(super) async fn confirm(&self) -> Result<(), Stop> {
        if self.must_stop().is_none() {
            self.renew().await;
        }
        self.must_stop().map_or(Ok(()), Err)
    }

    /// Confirms the claim, and has an effect on the outside, step by step and only while the lease
    /// lasts: a worker that stood still for longer does not go on where it was.
    pub(super) async fn hold<T>(&self, effect: impl Future<Output = T>) -> Result<T, Stop> {
        self.confirm().await?;
        let mut effect = pin!(effect);
        let step = poll_fn(|context| match self.check() {
            Ok(()) => effect.as_mut().poll(context).map(Ok),
            Err(stop) => Poll::Ready(Err(stop)),
        });
        tokio::select! {
            result = step => result,
            () = self.stopped() => Err(self.must_stop().unwrap_or(Stop::LostLease)),
        }
    }

    fn check(&self) -> Result<(), Stop> {
        let is_over = |since: Instant| since.elapsed() >= self.duration;
        if is_over(self.renewed.get()) || self.pushed.get().is_some_and(is_over) {
            return Err(Stop::LostLease);
        }
        self.must_stop().map_or(Ok(()), Err)
    }

    /// Renews the lease for as long as it is polled.
    pub(super) async fn keep(&self) -> ! {
        let mut ticks = interval(self.duration / 3);
        // A machine that slept does not catch up.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.must_stop().is_none() {
                self.renew().await;
            }
        }
    }

    async fn renew(&self) {
        let asked = Instant::now();
        match self.queue.renew(&self.claim, self.duration).await {
            Ok(true) => self.renewed.set(asked),
            Ok(false) => self.stop(Stop::LostLease),
            Err(error) => {
                tracing::warn!(%error, "the lease is not renewed");
                // For a while the claim is still ours; then others may take it.
                if self.renewed.get().elapsed() >= self.duration * 2 / 3 {
                    self.stop(Stop::LostLease);
                }
            }
        }
    }
}
