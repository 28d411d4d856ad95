//! The pieces of work that are being done.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::model::dispatch::WorkKey;
use crate::worker::lease::{Lease, Stop};
use crate::worker::settings::WorkerSettings;
use crate::worker::story::Conclusion;
use crate::worker::{End, Moment, Tally};

/// The works at hand, and what became of the others.
pub(super) struct Hands {
    settings: Rc<WorkerSettings>,
    busy: BTreeMap<WorkKey, (Rc<Lease>, Instant)>,
    tasks: JoinSet<(WorkKey, Conclusion)>,
    /// What has ended in this round; it is not taken up again before the next one.
    ended: Vec<WorkKey>,
    tally: Tally,
    no_access: Option<String>,
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
        }
    }

    pub(super) fn are_free(&self) -> bool {
        self.busy.is_empty()
    }

    pub(super) fn busy(&self) -> usize {
        self.busy.len()
    }

    pub(super) fn are_new_to(&self, key: &WorkKey) -> bool {
        !self.busy.contains_key(key) && !self.ended.contains(key)
    }

    pub(super) fn begin_round(&mut self) {
        self.ended.clear();
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally
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
        self.busy.insert(key.clone(), (lease, Instant::now()));
        self.tasks.spawn_local(async move { (key, work.await) });
    }

    /// Waits until one work has ended; for ever when there is none.
    pub(super) async fn one_finished(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok((key, conclusion))) => {
                let began = self.busy.remove(&key).map(|(_, began)| began);
                self.ended.push(key);
                let (end, count) = match conclusion {
                    Conclusion::Done => (End::Done, &mut self.tally.done),
                    Conclusion::Failed => (End::Failed, &mut self.tally.failed),
                    Conclusion::Dropped => (End::Dropped, &mut self.tally.dropped),
                    Conclusion::NoAccess(reason) => {
                        self.no_access = Some(reason);
                        return;
                    }
                };
                *count += 1;
                let took = began.map(|began| began.elapsed()).unwrap_or_default();
                (self.settings.observe)(Moment::Ended(end, took));
            }
            Some(Err(error)) => {
                // It is not told which one it was. It keeps its hand; its lease runs out.
                tracing::error!("Unexpected error: {error}");
                self.tally.failed += 1;
                if self.tasks.is_empty() {
                    self.ended
                        .extend(std::mem::take(&mut self.busy).into_keys());
                }
            }
            None => std::future::pending().await,
        }
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
        for (lease, _) in self.busy.values() {
            lease.stop(Stop::Shutdown { at_once });
        }
        while !self.tasks.is_empty() {
            self.one_finished().await;
        }
    }
}
