//! The pieces of work that are being done.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::model::dispatch::WorkKey;
use crate::worker::lease::{Lease, Stop};
use crate::worker::settings::WorkerSettings;
use crate::worker::story::Conclusion;
use crate::worker::{End, Moment, Tally};

/// The works at hand, and what became of the others.
pub(super) struct Hands {
    settings: Rc<WorkerSettings>,
    busy: BTreeMap<Id, (WorkKey, Rc<Lease>, Instant)>,
    tasks: JoinSet<Conclusion>,
    /// What has ended in this round; it is not taken up again before the next one.
    ended: Vec<WorkKey>,
    tally: Tally,
    no_access: Option<String>,
    /// Whether something was left to another machine in this round.
    has_left: bool,
}

impl Hands {
    pub(super) fn new(settings: Rc<WorkerSettings>) -> Self {
        Self {
            settings,
            busy: BTreeMap::new(),
            tasks: JoinSet::new(),
            ended: Vec::new(),
            tally: Tally::default(),
            no_access: None,
            has_left: false,
        }
    }

    pub(super) fn are_free(&self) -> bool {
        self.busy.is_empty()
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.len()
    }

    pub(super) fn are_new_to(&self, key: &WorkKey) -> bool {
        let is_busy = self.busy.values().any(|(busy, ..)| busy == key);
        !is_busy && !self.ended.contains(key)
    }

    pub(super) fn begin_round(&mut self) {
        self.ended.clear();
        self.has_left = false;
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether another look is due when a lease is over.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Why the source lets nobody in, once a work has found that out.
    pub(super) fn no_access(&mut self) -> Option<String> {
        self.no_access.take()
    }

    pub(super) fn take(
        &mut self,
        key: WorkKey,
        lease: Rc<Lease>,
        work: impl Future<Output = Conclusion> + 'static,
    ) {
        let task = self.tasks.spawn_local(work).id();
        self.busy.insert(task, (key, lease, Instant::now()));
    }

    /// Waits until one work has ended; for ever when there is none.
    pub(super) async fn one_finished(&mut self) {
        let Some(ended) = self.tasks.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let (task, conclusion) = match ended {
            Ok((task, conclusion)) => (task, conclusion),
            Err(error) => {
                // Its lease runs out, and the attempt counts.
                tracing::error!("Unexpected error: {error}");
                (error.id(), Conclusion::Failed)
            }
        };
        let freed = self.busy.remove(&task);
        let took = freed.as_ref().map(|(_, _, began)| began.elapsed());
        self.ended.extend(freed.map(|(key, _, _)| key));
        let (end, count) = match conclusion {
            Conclusion::Done => (End::Done, &mut self.tally.done),
            Conclusion::Failed => (End::Failed, &mut self.tally.failed),
            Conclusion::Dropped => (End::Dropped, &mut self.tally.dropped),
            Conclusion::Elsewhere => return self.has_left = true,
            Conclusion::NoAccess(reason) => return self.no_access = Some(reason),
        };
        *count += 1;
        (self.settings.observe)(Moment::Ended(end, took.unwrap_or_default()));
    }

    /// Asks all works to end, and waits for them.
    pub(super) async fn shut_down(&mut self) {
        self.stop(false).await;
    }

    /// Ends all works at once.
    pub(super) async fn shut_down_at_once(&mut self) {
        self.stop(true).await;
    }

    async fn stop(&mut self, at_once: bool) {
        for (_, lease, _) in self.busy.values() {
            lease.stop(Stop::Shutdown { at_once });
        }
        while !self.tasks.is_empty() {
            self.one_finished().await;
        }
    }
}
