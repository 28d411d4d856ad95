//! The loop over a source of work: claim, start a run, publish, tell.
//!
//! One process works on several pieces of work at a time, each as an `agent-runner run` of its own
//! (`run`) in a clone of its own (`workspace`). Who works on what is decided by the
//! [queue](crate::queue); `story` is what is done with one piece: `place` tells what is there of it,
//! `result` makes and judges it, `push` brings it to the remote. No concrete source is known here:
//! where work comes from and results go to is behind [`TaskSource`].

mod hands;
mod lease;
mod left;
mod notes;
mod objection;
mod place;
mod push;
mod record;
mod result;
mod run;
mod settings;
mod story;
mod trace;
mod workspace;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument as _;
use tracing::field::Empty;

use crate::git::{Mirror, Remote};
use crate::model::dispatch::WorkKey;
use crate::model::duration;
use crate::model::text::{self, chain};
use crate::process::shutdown::Shutdown;
use crate::queue::{NewWork, Queue, QueueError, State, Work};
use crate::sources::source::{Fate, Offer, SourceError, TaskSource};
use crate::worker::hands::Hands;
use crate::worker::lease::Lease;
pub use crate::worker::left::holder;
pub use crate::worker::objection::ask;
pub use crate::worker::settings::{Observe, RunCommand, WorkerSettings};

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Works that are done.
    pub done: u64,
    /// Works that failed, and rest or are tried again.
    pub failed: u64,
    /// Works that were given up because nobody wants them, or others have them.
    pub dropped: u64,
}

/// Why a worker ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ended {
    /// All that there was to do has been tried.
    Finished(Tally),
    /// It was stopped by the signal of this number.
    Stopped(i32),
    /// The one piece of work does not wait to be done.
    Unwanted(String),
    /// The one piece of work waits, and is not for this worker now: another holds it, or it is
    /// tried again later.
    Left(String),
    /// The source does not let it in.
    NoAccess(String),
    /// The source or the queue could not be asked.
    Failed(String),
}

/// What a worker tells of itself while it works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The loop has come round: it works on so many, and has done so much.
    Turn(usize, Tally),
    /// A piece of work has ended so, after this time.
    Ended(End, Duration),
    /// It was asked to end.
    Stopping,
}

/// How a piece of work ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// It is done.
    Done,
    /// It failed, and rests or is tried again.
    Failed,
    /// Nobody wants it, or others have it.
    Dropped,
}

/// The longest look at the source; the next one comes anyway.
const LONGEST_LOOK: Duration = Duration::from_secs(240);

/// How often what is old is looked for.
const TIDY_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How long an ended work is kept in the queue. It is found published at the source for as long as
/// it is there, so that forgetting it does not make it be done again.
const KEPT_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

/// What a worker is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// All work, for ever.
    Forever,
    /// The work that waits now.
    Once,
    /// The work of this number.
    One(u64),
}

/// Works off what a source offers.
#[derive(Debug)]
pub struct Worker<S> {
    source: Rc<S>,
    queue: Queue,
    settings: Rc<WorkerSettings>,
}

impl<S: TaskSource + 'static> Worker<S> {
    /// A worker that does nothing yet.
    pub fn new(source: S, queue: Queue, settings: WorkerSettings) -> Self {
        Self {
            source: Rc::new(source),
            queue,
            settings: Rc::new(settings),
        }
    }

    /// Works until the scope is done or the runner is asked to stop. Call it on the main thread.
    pub async fn work(&self, scope: Scope, shutdown: &mut Shutdown) -> Ended {
        let mut hands = Hands::new(Rc::clone(&self.settings));
        let rounds = self.rounds(scope, shutdown, &mut hands);
        let ended = LocalSet::new().run_until(rounds).await;
        workspace::tidy(&self.settings.workspace);
        if matches!(ended, Ended::Finished(_)) {
            tokio::select! {
                () = tidy(self.queue.clone(), Rc::clone(&self.settings)) => {}
                // It goes on the next time.
                signal = shutdown.next() => return Ended::Stopped(signal),
            }
        }
        ended
    }

    async fn rounds(&self, scope: Scope, shutdown: &mut Shutdown, hands: &mut Hands) -> Ended {
        let is_endless = scope == Scope::Forever;
        let mut tidied: Option<Instant> = None;
        loop {
            self.tell_turn(hands);
            workspace::tidy(&self.settings.workspace);
            if is_endless && tidied.is_none_or(|at| at.elapsed() > TIDY_EVERY) {
                tidied = Some(Instant::now());
                // In the background; it ends with the worker.
                drop(spawn_local(tidy(
                    self.queue.clone(),
                    Rc::clone(&self.settings),
                )));
            }
            let looked = tokio::select! {
                looked = timeout(LONGEST_LOOK, self.look(scope)) => looked,
                signal = shutdown.next() => return self.stop(hands, shutdown, signal).await,
            };
            let offers = match looked.unwrap_or(Err(Trouble::Slow)) {
                Ok(offers) => offers,
                Err(Trouble::Source(SourceError::NoAccess(reason))) => {
                    hands.shut_down().await;
                    return Ended::NoAccess(reason);
                }
                // The other machine has done it.
                Err(Trouble::Source(SourceError::Unwanted(_))) if hands.has_left() => {
                    return Ended::Finished(hands.tally());
                }
                Err(Trouble::Source(SourceError::Unwanted(reason)))
                    if matches!(scope, Scope::One(_)) =>
                {
                    return Ended::Unwanted(reason);
                }
                Err(trouble) if is_endless => {
                    tracing::warn!("{trouble}");
                    Vec::new()
                }
                Err(trouble) => return Ended::Failed(trouble.to_string()),
            };
            hands.begin_round();
            let next_look = Instant::now() + self.settings.poll_interval;
            while !is_endless || Instant::now() < next_look {
                self.tell_turn(hands);
                match self.fill(hands, &offers).await {
                    Err(error) if !is_endless && hands.are_free() => {
                        return Ended::Failed(chain(&error));
                    }
                    Err(error) => tracing::warn!("{}", chain(&error)),
                    Ok(()) if !is_endless && hands.are_free() && hands.has_left() => {
                        // A little longer, so that it may be claimed again.
                        tokio::select! {
                            () = sleep(self.settings.lease + Duration::from_secs(1)) => {}
                            signal = shutdown.next() => return Ended::Stopped(signal),
                        }
                        break;
                    }
                    Ok(()) if !is_endless && hands.are_free() => {
                        return self.finish(scope, hands, &offers).await;
                    }
                    Ok(()) => {}
                }
                tokio::select! {
                    () = hands.one_finished() => {
                        if let Some(reason) = hands.no_access() {
                            hands.shut_down().await;
                            return Ended::NoAccess(reason);
                        }
                    }
                    () = sleep(next_look - Instant::now()), if is_endless => {}
                    () = sleep(self.settings.pulse) => {}
                    signal = shutdown.next() => return self.stop(hands, shutdown, signal).await,
                }
            }
        }
    }

    /// Ends where nothing is left that could be done now; says what is left all the same.
    async fn finish(&self, scope: Scope, hands: &Hands, offers: &[Offer]) -> Ended {
        let tally = hands.tally();
        let is_asked_for = matches!(scope, Scope::One(_)) && tally.failed == 0;
        let is_left = |key: &WorkKey| is_asked_for || hands.are_new_to(key);
        let keys = offers.iter().map(|offer| offer.key.clone());
        let left: Vec<WorkKey> = keys.filter(is_left).collect();
        let works = match self.queue.states(&left).await {
            Ok(works) => works,
            Err(error) => return Ended::Failed(chain(&error)),
        };
        for reason in works.iter().filter_map(left::reason) {
            if is_asked_for {
                return Ended::Left(reason);
            }
            tracing::warn!("{reason}");
        }
        Ended::Finished(tally)
    }

    /// Ends all works, at once when a second signal comes.
    async fn stop(&self, hands: &mut Hands, shutdown: &mut Shutdown, signal: i32) -> Ended {
        (self.settings.observe)(Moment::Stopping);
        tokio::select! {
            () = hands.shut_down() => {}
            _ = shutdown.next() => {}
        }
        hands.shut_down_at_once().await;
        Ended::Stopped(signal)
    }

    fn tell_turn(&self, hands: &Hands) {
        (self.settings.observe)(Moment::Turn(hands.busy(), hands.tally()));
    }

    /// Looks at the source, and brings what waits there into the queue.
    async fn look(&self, scope: Scope) -> Result<Vec<Offer>, Trouble> {
        let offers = match scope {
            Scope::One(number) => vec![self.source.offer(number).await?],
            Scope::Forever | Scope::Once => self.source.offers().await?,
        };
        let keys: Vec<WorkKey> = offers.iter().map(|offer| offer.key.clone()).collect();
        let known = self.queue.states(&keys).await?.into_iter();
        let known: BTreeMap<WorkKey, Work> = known.map(|work| (work.key.clone(), work)).collect();
        let is_new = |offer: &&Offer| !known.contains_key(&offer.key);
        let new: Vec<NewWork> = offers.iter().filter(is_new).map(new_work).collect();
        if !new.is_empty() {
            self.queue.offer(&new).await?;
        }
        for offer in &offers {
            let Some(work) = known.get(&offer.key) else {
                continue;
            };
            let is_at_rest = match work.state {
                State::Rested | State::Cancelled => true,
                // It may be that the source did not take the word; whoever names it asks for more.
                State::Done => matches!(scope, Scope::One(_)),
                State::Waiting | State::Retrying | State::Claimed => false,
            };
            if !is_at_rest {
                continue;
            }
            match self.source.is_asked_again(offer).await {
                Ok(true) => drop(self.queue.reset(&offer.key).await?),
                Ok(false) => {}
                Err(error @ SourceError::NoAccess(_)) => return Err(error.into()),
                Err(error) if matches!(scope, Scope::One(_)) => return Err(error.into()),
                // The others are served all the same.
                Err(error) => tracing::warn!(issue = offer.origin, "{error}"),
            }
        }
        if !matches!(scope, Scope::One(_)) {
            self.settle_gone(&keys).await?;
        }
        Ok(offers)
    }

    /// Ends in the queue what nobody holds and the source does not offer any more: its holder died
    /// before it could, or a person was faster.
    async fn settle_gone(&self, offered: &[WorkKey]) -> Result<(), Trouble> {
        for work in self.queue.idle().await? {
            if offered.contains(&work.key) {
                continue;
            }
            match self.source.fate(&work.origin).await {
                Ok(Fate::Open) => {}
                Ok(Fate::Done) => drop(self.queue.settle(&work.key).await?),
                Ok(Fate::Unwanted(reason)) => drop(self.queue.cancel(&work.key, &reason).await?),
                Err(error @ SourceError::NoAccess(_)) => return Err(error.into()),
                Err(error) => tracing::warn!(issue = work.origin, "{error}"),
            }
        }
        Ok(())
    }

    /// Takes up work while hands are free.
    async fn fill(&self, hands: &mut Hands, offers: &[Offer]) -> Result<(), QueueError> {
        let settings = &self.settings;
        while hands.busy() < settings.concurrency {
            let new = offers.iter().filter(|offer| hands.are_new_to(&offer.key));
            let candidates: Vec<WorkKey> = new.map(|offer| offer.key.clone()).collect();
            let asked = Instant::now();
            let claimed = self
                .queue
                .claim(&settings.holder, settings.lease, &candidates);
            let Some(claim) = claimed.await? else { break };
            let Some(offer) = offers.iter().find(|offer| offer.key == claim.key).cloned() else {
                break;
            };
            let title = text::first_line(&offer.title, 200);
            tracing::info!("Found new dispatch issue: #{} - {title}", offer.number);
            let lease = Rc::new(Lease::new(&self.queue, claim, settings.lease, asked));
            let (source, settings) = (Rc::clone(&self.source), Rc::clone(settings));
            let queue = self.queue.clone();
            let (key, held) = (offer.key.clone(), Rc::clone(&lease));
            let span =
                tracing::info_span!("task", issue = offer.origin, task_id = Empty, run = Empty);
            let told = async move {
                tokio::select! {
                    conclusion = story::tell(&*source, &queue, &settings, &offer, &lease) => conclusion,
                    never = lease.keep() => never,
                }
            };
            hands.take(key, held, told.instrument(span));
        }
        Ok(())
    }
}

/// Lets go of what is old: ended works in the queue, loose ends in the mirrors.
async fn tidy(queue: Queue, settings: Rc<WorkerSettings>) {
    match queue.prune(KEPT_FOR).await {
        Ok(0) => {}
        Ok(old) => tracing::debug!("{old} ended works are forgotten"),
        Err(error) => tracing::warn!("{}", chain(&error)),
    }
    for directory in workspace::untidy_mirrors(&settings.workspace, TIDY_EVERY) {
        // Nobody is spoken with.
        let Ok(remote) = Remote::new(&directory.to_string_lossy(), None) else {
            continue;
        };
        let mirror = Mirror::new(&settings.inherited, &directory, remote);
        if let Err(error) = story::blocking(move || mirror.tidy()).await {
            tracing::warn!("{}", chain(&error));
        }
    }
}

fn new_work(offer: &Offer) -> NewWork {
    NewWork {
        key: offer.key.clone(),
        origin: offer.origin.clone(),
        group_repository: offer.repository.clone(),
        group_author: offer.author.clone(),
        created: offer.created,
        payload: None,
    }
}

/// Why it is not known what waits.
#[derive(Debug)]
enum Trouble {
    Source(SourceError),
    Queue(QueueError),
    Slow,
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => write!(formatter, "the work that waits is not known: {error}"),
            Self::Queue(error) => formatter.write_str(&chain(error)),
            Self::Slow => write!(
                formatter,
                "the work that waits is not known: no answer in {}",
                duration::words(LONGEST_LOOK)
            ),
        }
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<QueueError> for Trouble {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}
