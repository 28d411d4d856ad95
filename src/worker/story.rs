//! One piece of work from its claim to its end, top to bottom.
//!
//! Accept, look what is already there, run, take the result, judge it, push, publish, tell. What is
//! already there is never done again, so that the story may break off anywhere and be told anew.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tracing::Span;

use crate::git::{Mirror, MirrorError, MirrorLimits, PushError, RemoteFault};
use crate::model::outcome::Outcome;
use crate::model::record::Record;
use crate::model::text::{self, chain};
use crate::model::tree_policy::{TreeEvidence, TreePolicy};
use crate::model::work_name::{TRACE_DIRECTORY, WorkName};
use crate::queue::{End, Queue};
use crate::redact::Redactor;
use crate::sources::source::{
    Accepted, Fate, Next, Offer, Publication, SourceError, Standing, TaskSource,
};
use crate::store::reader;
use crate::worker::lease::{Lease, Stop};
use crate::worker::notes::Kept;
use crate::worker::settings::WorkerSettings;
use crate::worker::workspace::{self, Workspace};
use crate::worker::{record, run, trace};

/// The pause between two tries to tell somebody where the source refuses to take a word.
const TELLING_PAUSE: Duration = Duration::from_secs(3600);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// The most of an agent's last message that is passed on to whoever asked; it is asked for that
/// much.
const MAX_MESSAGE_CHARS: usize = 1500;

/// What is said of a result that was published before the text became another.
const EARLIER_TEXT: &str = "It answers the text that this issue had before it was edited. What the \
    text asks for now is not done: open another issue for it.";

/// How a piece of work ended for this worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Conclusion {
    Done,
    Failed,
    /// Nobody wants it, or somebody else has it.
    Dropped,
    /// Another machine may be at it; who that is shows after a lease.
    Elsewhere,
    /// The source does not let us in.
    NoAccess(String),
}

/// Why a piece of work did not come to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// The source says so.
    Source(SourceError),
    /// It went wrong, and may go well when it is tried again.
    Failed(String),
    /// It must not go on.
    Stopped(Stop),
    /// Another machine, which has another queue, may be publishing it.
    Elsewhere,
}

impl Failure {
    /// Something passed by that has nothing to do with the work.
    pub(super) fn later(reason: String) -> Self {
        Self::Source(SourceError::Later {
            reason,
            retry_at: None,
        })
    }

    fn refused(reason: impl Into<String>) -> Self {
        Self::Source(SourceError::Refused(reason.into()))
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Self {
        let reason = chain(&error);
        match &error {
            MirrorError::Remote(fault) if !fault.is_transient() => Self::refused(reason),
            MirrorError::TooLarge { .. } | MirrorError::Work { .. } => Self::refused(reason),
            // It would be as much the next time.
            MirrorError::Git(error) if error.is_too_much() => Self::refused(reason),
            _ if error.is_transient() => Self::later(reason),
            _ => Self::Failed(reason),
        }
    }
}

/// Carries out claimed work, and ends its claim.
pub(super) async fn tell<S: TaskSource>(
    source: &S,
    queue: &Queue,
    settings: &WorkerSettings,
    offer: &Offer,
    lease: &Lease,
) -> Conclusion {
    let title = text::first_line(&offer.title, 200);
    tracing::info!("Processing task: {title}");
    let result = match lease.notes().to_tell {
        None => carry_out(source, queue, settings, offer, lease).await,
        Some(reason) => Err(to_tell(source, offer, &reason).await),
    };
    let (conclusion, end) = match result {
        Ok(()) => {
            tracing::info!("Task processed successfully: {}", offer.number);
            (Conclusion::Done, Some(End::Done))
        }
        Err(failure) => conclude(source, settings, offer, lease, failure).await,
    };
    if let Some(end) = end {
        match queue.finish(&lease.claim, &end).await {
            Ok(true) => {}
            Ok(false) => tracing::warn!("somebody else has the claim"),
            // The lease runs out; then what is there is found.
            Err(error) => tracing::warn!("{}", chain(&error)),
        }
    }
    conclusion
}

/// What follows from a failure: for whoever asked, and for the queue.
async fn conclude<S: TaskSource>(
    source: &S,
    settings: &WorkerSettings,
    offer: &Offer,
    lease: &Lease,
    failure: Failure,
) -> (Conclusion, Option<End>) {
    let pause = pause(settings.retry_pause, lease.claim.attempt);
    let again = |reason: String, after| End::Retry {
        after,
        reason,
        counts: false,
    };
    let (reason, next) = match failure {
        Failure::Stopped(Stop::LostLease) => {
            tracing::warn!("the claim is lost: somebody else may work on it");
            // Nothing is changed where somebody does.
            let reason = "the claim was lost".to_owned();
            return (Conclusion::Dropped, Some(again(reason, Duration::ZERO)));
        }
        Failure::Elsewhere => {
            let reason = "another machine has pushed its branch".to_owned();
            tracing::info!("left alone for a lease: {reason}");
            return (Conclusion::Elsewhere, Some(again(reason, settings.lease)));
        }
        Failure::Stopped(Stop::Shutdown { .. }) => {
            let reason = "the worker was stopped".to_owned();
            return (Conclusion::Dropped, Some(again(reason, Duration::ZERO)));
        }
        Failure::Source(SourceError::Unwanted(reason)) => {
            tracing::info!("given up: {reason}");
            // Somebody who died before writing down the end may have been faster.
            let end = match source.fate(&offer.origin).await {
                Ok(Fate::Done) => End::Done,
                _ => End::Cancelled { reason },
            };
            return (Conclusion::Dropped, Some(end));
        }
        Failure::Source(SourceError::NoAccess(reason)) => {
            let end = again(reason.clone(), Duration::ZERO);
            return (Conclusion::NoAccess(reason), Some(end));
        }
        Failure::Source(SourceError::Later { reason, retry_at }) => {
            tracing::warn!("tried again later: {reason}");
            let until = retry_at.map(|at| (at - settings.clock.now()).to_std().unwrap_or_default());
            return (
                Conclusion::Failed,
                Some(again(reason, until.unwrap_or(pause))),
            );
        }
        Failure::Source(SourceError::Refused(reason)) => (reason, Next::Rests),
        Failure::Failed(reason) | Failure::Source(SourceError::Failed(reason)) => {
            let is_last = lease.claim.attempt >= settings.attempts;
            let again = Next::AgainAfter(pause);
            (reason, if is_last { Next::Rests } else { again })
        }
    };
    let reason = settings.redactor.text(&reason);
    tracing::error!("failed: {reason}");
    let told = lease.hold(source.tell_failed(offer, &reason, next)).await;
    let Ok(told) = told else {
        return (Conclusion::Dropped, Some(again(reason, Duration::ZERO)));
    };
    let end = match (next, told) {
        (Next::AgainAfter(after), _) => End::Retry {
            after,
            reason,
            counts: true,
        },
        (Next::Rests, Ok(())) => End::Rested { reason },
        // It rests when somebody knows; the work itself is not done again until then.
        (Next::Rests, Err(error)) => {
            tracing::error!("nobody is told yet: {error}");
            let note = lease.note(|notes| notes.to_tell = Some(reason.clone()));
            if let Err(error) = note.await {
                tracing::warn!("{}", chain(&error));
            }
            let pause = match error {
                SourceError::Later { .. } | SourceError::Failed(_) => pause,
                SourceError::Unwanted(_) | SourceError::Refused(_) | SourceError::NoAccess(_) => {
                    TELLING_PAUSE
                }
            };
            again(reason, pause)
        }
    };
    (Conclusion::Failed, Some(end))
}

/// Why work that is only to be told of failed; nothing is told of work that nobody wants any more.
async fn to_tell<S: TaskSource>(source: &S, offer: &Offer, reason: &str) -> Failure {
    match source.offer(offer.number).await {
        Err(error @ (SourceError::Unwanted(_) | SourceError::NoAccess(_))) => error.into(),
        Ok(_) | Err(_) => Failure::refused(reason),
    }
}

/// The pause after an attempt, from 1: twice as long each time.
fn pause(first: Duration, attempt: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    first.saturating_mul(doubled).min(LONGEST_PAUSE)
}

async fn carry_out<S: TaskSource>(
    source: &S,
    queue: &Queue,
    settings: &WorkerSettings,
    offer: &Offer,
    lease: &Lease,
) -> Result<(), Failure> {
    let begun = begin(source, queue, settings, offer, lease);
    let (work, mut mirror, base) = lease.unless_stopped(begun).await?;

    // A name may be taken between the look at it and the push; the work is not done again then.
    let mut done = kept(settings, &mirror, &work, &base, lease).await?;
    for _try in 0..3 {
        let choice = choose(source, &mirror, &work, &base);
        let (name, place) = lease.unless_stopped(choice).await?;
        let publication = match place {
            Place::Published(mut publication, tip) => {
                tracing::info!("found published: {}", publication.address);
                let mut told = work.clone();
                let made_from = match (&publication.revision, &tip) {
                    (Some(revision), _) => Some(revision.clone()),
                    (None, Some(tip)) => made_from(&mirror, &base, &name, tip).await?,
                    (None, None) => None,
                };
                // A merged branch does not say it any more.
                let made_from = made_from.or_else(|| lease.notes().revision);
                if let Some(earlier) = made_from.filter(|text| *text != work.revision) {
                    told.revision = earlier;
                    publication.remarks.push(EARLIER_TEXT.to_owned());
                }
                let found = Found { name: &name, tip };
                take_over(settings, &mirror, &told, &base, found, lease).await?;
                publication
            }
            Place::Pushed(tip) => {
                let branch = name.branch();
                tracing::info!("Branch {branch} already exists remotely, checking it out");
                let made_from = made_from(&mirror, &base, &name, &tip).await?;
                if made_from.is_some_and(|text| text != work.revision) {
                    return Err(Failure::refused(format!(
                        "the text was edited after the work on it began; the branch {branch} holds \
                         what was done before, and when it is deleted the work is done anew"
                    )));
                }
                let found = Found {
                    name: &name,
                    tip: Some(tip),
                };
                take_over(settings, &mirror, &work, &base, found, lease).await?;
                publish(source, settings, &mirror, &work, &name, &base, lease).await?
            }
            Place::Free => {
                check_trace(&mirror, &base).await?;
                let result = match done.take() {
                    Some(result) => result,
                    None => {
                        run_in_clone(source, settings, &mirror, &work, &base, &name, lease).await?
                    }
                };
                let sealed = seal(settings, &mirror, &work, &name, &result);
                let commit = lease.unless_stopped(sealed).await?;
                let result = done.insert(result);
                let not_published = |outcome, reason: &str| {
                    not_published(settings, &result.record, outcome, reason);
                };
                match push(source, &mut mirror, &work, &name, &commit, lease).await {
                    Ok(()) => {}
                    Err(NotPushed::Taken(tip)) if lease.notes().is_own(Some(&tip)) => continue,
                    Err(NotPushed::Taken(tip)) => {
                        if !owned(&mirror, &work, &base, &name, &tip).await? {
                            continue;
                        }
                        let reason = "another machine has published this work";
                        not_published(Outcome::LostLease, reason);
                        return Err(leave(lease, &tip).await);
                    }
                    Err(NotPushed::Refused(reason)) => {
                        not_published(Outcome::PolicyBlocked, &reason);
                        return Err(Failure::refused(reason));
                    }
                    Err(NotPushed::Failed(failure)) => {
                        if failure == Failure::Stopped(Stop::LostLease) {
                            not_published(Outcome::LostLease, "the claim was lost before the push");
                        } else {
                            keep(result, &work, &base, lease).await;
                        }
                        return Err(failure);
                    }
                }
                publish(source, settings, &mirror, &work, &name, &base, lease).await?
            }
        };
        return complete(source, &work, lease, &publication).await;
    }
    Err(Failure::Failed(
        "the names of its branches were taken by others again and again".to_owned(),
    ))
}

/// Decides whether the work may be done, and gets ready what it is done from.
async fn begin<S: TaskSource>(
    source: &S,
    queue: &Queue,
    settings: &WorkerSettings,
    offer: &Offer,
    lease: &Lease,
) -> Result<(Accepted, Mirror, Base), Failure> {
    let mut work = source.accept(offer).await?;
    work.request.fence = lease.claim.fence;
    // It becomes that of the pull request, and of a commit.
    work.request.title = settings.redactor.text(&work.request.title);
    let task_id = text::first_line(&work.request.task_id, 300);
    Span::current().record("task_id", &task_id);
    tracing::info!("Task ID: {task_id}");
    tracing::debug!("Instruction: {}", work.request.instruction);
    let kept = queue.set_revision(&lease.claim, &work.revision).await;
    kept.map_err(|error| Failure::later(chain(&error)))?;

    let directory = workspace::mirror(&settings.workspace, &work.request.target, &work.remote);
    let limits = MirrorLimits {
        fetch: settings.git_timeout,
        push: settings.git_timeout,
        ..MirrorLimits::default()
    };
    let mirror = Mirror::new(&settings.inherited, &directory, work.remote.clone());
    let mirror = mirror.with_limits(limits);
    let base = prepare(&mirror, &work, &directory).await?;
    Ok((work, mirror, base))
}

/// Publishes the branch, which is at the remote, or was there a moment ago.
async fn publish<S: TaskSource>(
    source: &S,
    settings: &WorkerSettings,
    mirror: &Mirror,
    work: &Accepted,
    name: &WorkName,
    base: &Base,
    lease: &Lease,
) -> Result<Publication, Failure> {
    let mut shown = work.clone();
    shown.request.task_id = settings.redactor.text(&work.request.task_id);
    let publish = async {
        source.check_wanted(work).await?;
        source.publish(&shown, name, &base.branch).await
    };
    let error = match lease.hold(publish).await? {
        Ok(publication) => return Ok(publication),
        Err(error @ (SourceError::Unwanted(_) | SourceError::NoAccess(_))) => {
            return Err(error.into());
        }
        Err(error) => error,
    };
    let (asked, branch) = (mirror.clone(), name.branch());
    let tips = blocking(move || asked.remote_tips([&branch])).await;
    Err(match tips {
        // It is done and pushed again, but not for ever: somebody may delete it each time.
        Ok([None]) => {
            let branch = name.branch();
            Failure::Failed(format!(
                "the branch {branch} was deleted before it was published: {error}"
            ))
        }
        Ok([Some(_)]) | Err(_) => error.into(),
    })
}

/// Tells that the work is done.
async fn complete<S: TaskSource>(
    source: &S,
    work: &Accepted,
    lease: &Lease,
    publication: &Publication,
) -> Result<(), Failure> {
    match lease.hold(source.tell_completed(work, publication)).await? {
        // It is done, whether the source takes the word or not.
        Err(SourceError::Refused(reason)) => tracing::warn!("not told that it is done: {reason}"),
        told => told?,
    }
    Ok(())
}

/// A result that is already at the remote.
struct Found<'a> {
    name: &'a WorkName,
    /// The commit of its branch; `None` where that is gone.
    tip: Option<String>,
}

/// Makes sure that nobody else is publishing what was found.
///
/// The claim keeps away the workers of this queue, so what this queue pushed may be published at
/// once. Machines that share no queue have only the branch: it is theirs who pushed it for a lease,
/// and after that theirs who moves it first. So a branch that this queue did not push is left alone
/// until it has stood still for a lease by the clock of this queue; then it is moved from exactly
/// that commit to one that says the same.
async fn take_over(
    settings: &WorkerSettings,
    mirror: &Mirror,
    work: &Accepted,
    base: &Base,
    Found { name, tip }: Found<'_>,
    lease: &Lease,
) -> Result<(), Failure> {
    if lease.notes().is_own(tip.as_deref()) {
        return Ok(());
    }
    let sight = tip.as_deref().unwrap_or("gone");
    if lease.notes().seen.as_deref() != Some(sight) {
        return Err(leave(lease, sight).await);
    }
    let Some(tip) = tip else { return Ok(()) };
    let (asked, below, path) = (mirror.clone(), base.commit.clone(), name.trace_path());
    let (seen, identity) = (tip.clone(), settings.identity.clone());
    let message = settings
        .redactor
        .text(&trace::commit_message(work, &settings.holder));
    let branch = name.branch();
    let commit = blocking(move || {
        up_to_date(&asked, &branch, &seen)?;
        // A branch that a person has added to is not moved.
        let Some(parent) = asked.below_trace(&seen, &below)? else {
            return Ok(None);
        };
        let trace = asked.file(&seen, &path)?.unwrap_or_default();
        let made = asked.commit_file(&parent, &path, &trace, &message, &identity);
        made.map(Some)
    });
    let Some(commit) = commit.await.map_err(Failure::from)? else {
        return Ok(());
    };
    tracing::info!("Taking over branch {} from another machine", name.branch());
    match push_commit(mirror, work, name, &commit, Some(tip), lease).await {
        Ok(()) => Ok(()),
        Err(NotPushed::Taken(tip)) => Err(leave(lease, &tip).await),
        // Where branches must not be moved, the wait has to do.
        Err(NotPushed::Refused(reason)) => {
            tracing::warn!("branch {} is not moved: {reason}", name.branch());
            Ok(())
        }
        Err(NotPushed::Failed(failure)) => Err(failure),
    }
}

/// Leaves work to the machine that pushed `tip`, for a lease from now.
async fn leave(lease: &Lease, tip: &str) -> Failure {
    if let Err(stop) = lease.confirm().await {
        return stop.into();
    }
    match lease.note(|notes| notes.seen = Some(tip.to_owned())).await {
        Ok(_) => Failure::Elsewhere,
        Err(error) => Failure::later(chain(&error)),
    }
}

/// What the result is put on.
#[derive(Clone, Debug)]
struct Base {
    branch: String,
    commit: String,
}

/// Brings the mirror up to date.
async fn prepare(
    mirror: &Mirror,
    work: &Accepted,
    directory: &std::path::Path,
) -> Result<Base, Failure> {
    let (mirror, named) = (mirror.clone(), work.base.clone());
    tracing::info!("Cloning {} to {}", work.request.target, directory.display());
    blocking(move || {
        mirror.fetch()?;
        let branch = match named {
            Some(branch) => Some(branch),
            None => mirror.default_branch()?,
        };
        let Some(branch) = branch else {
            return Err(Failure::Failed(
                "the repository is empty, or its HEAD names no branch".to_owned(),
            ));
        };
        // Not for good: git takes a network's login page of one line for an empty repository.
        let commit = mirror
            .tip(&branch)?
            .ok_or_else(|| Failure::Failed(format!("the repository has no branch `{branch}`")))?;
        Ok(Base { branch, commit })
    })
    .await
}

/// Refuses a base in which a trace has no place.
async fn check_trace(mirror: &Mirror, base: &Base) -> Result<(), Failure> {
    let (mirror, commit) = (mirror.clone(), base.commit.clone());
    if blocking(move || mirror.file(&commit, TRACE_DIRECTORY))
        .await?
        .is_none()
    {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "the branch `{}` has a file `{TRACE_DIRECTORY}`, where the directory of the traces has to \
         be: it needs another name",
        base.branch
    )))
}

/// What is found under a name.
enum Place {
    /// Nothing.
    Free,
    /// The branch of this work, at this commit.
    Pushed(String),
    /// This work, published, and the commit of its branch.
    Published(Publication, Option<String>),
}

/// Chooses the name of the work: the first that is this work's own, or nobody's. Both are looked at:
/// what was published under the second stays published when the first becomes free.
async fn choose<S: TaskSource>(
    source: &S,
    mirror: &Mirror,
    work: &Accepted,
    base: &Base,
) -> Result<(WorkName, Place), Failure> {
    let (task_id, key) = (&work.request.task_id, &work.request.key);
    let names = [WorkName::first(task_id), WorkName::second(task_id, key)];
    let (asked, branches) = (mirror.clone(), names.each_ref().map(WorkName::branch));
    let tips = blocking(move || asked.remote_tips(branches.each_ref().map(String::as_str)));
    let tips = tips.await?;
    let mut free = None;
    for (name, tip) in names.into_iter().zip(tips) {
        match (tip, source.standing(work, &name).await?) {
            (tip, Standing::Published(publication)) => {
                return Ok((name, Place::Published(publication, tip)));
            }
            (Some(tip), standing) if owned(mirror, work, base, &name, &tip).await? => {
                let place = match standing {
                    // By a person, who perhaps closed it since.
                    Standing::Taken(publication, _) => Place::Published(publication, Some(tip)),
                    Standing::Free | Standing::Published(_) => Place::Pushed(tip),
                };
                return Ok((name, place));
            }
            // Its branch is deleted.
            (None, Standing::Taken(publication, commit)) if was(mirror, work, &commit).await? => {
                return Ok((name, Place::Published(publication, None)));
            }
            (None, Standing::Free) if free.is_none() => {
                let (asked, commit) = (mirror.clone(), base.commit.clone());
                let trace = name.trace_path();
                if blocking(move || asked.file(&commit, &trace))
                    .await?
                    .is_none()
                {
                    free = Some(name);
                }
            }
            _ => {}
        }
    }
    if let Some(publication) = source.earlier(work).await? {
        let name = WorkName::second(task_id, key);
        return Ok((name, Place::Published(publication, None)));
    }
    // The second name has no other owner; where it is taken, somebody has put something there.
    let name = free.ok_or_else(|| {
        Failure::refused("the branches that belong to this task hold something else")
    })?;
    Ok((name, Place::Free))
}

/// Whether a branch at the remote holds this work.
async fn owned(
    mirror: &Mirror,
    work: &Accepted,
    base: &Base,
    name: &WorkName,
    tip: &str,
) -> Result<bool, Failure> {
    let (mirror, key, branch) = (mirror.clone(), work.request.key.clone(), name.branch());
    let (tip, base) = (tip.to_owned(), base.commit.clone());
    blocking(move || {
        up_to_date(&mirror, &branch, &tip)?;
        Ok(mirror.owner(&tip, &base)? == Some(key))
    })
    .await
}

/// Whether a commit, whose branch is gone, is of this work.
async fn was(mirror: &Mirror, work: &Accepted, commit: &str) -> Result<bool, Failure> {
    let (mirror, commit) = (mirror.clone(), commit.to_owned());
    let key = work.request.key.clone();
    blocking(move || Ok(mirror.get(&commit)? && mirror.owner_of_merged(&commit)? == Some(key)))
        .await
}

/// The revision of the text that a branch of this work was made from, where it says so.
async fn made_from(
    mirror: &Mirror,
    base: &Base,
    name: &WorkName,
    tip: &str,
) -> Result<Option<String>, Failure> {
    let (mirror, branch) = (mirror.clone(), name.branch());
    let (tip, base) = (tip.to_owned(), base.commit.clone());
    let revision = blocking(move || {
        up_to_date(&mirror, &branch, &tip)?;
        mirror.revision(&tip, &base)
    });
    Ok(revision.await?.map(|revision| revision.to_string()))
}

/// Makes sure that the mirror has a branch as it is at the remote: it may be younger than the last
/// fetch.
fn up_to_date(mirror: &Mirror, branch: &str, tip: &str) -> Result<(), MirrorError> {
    if mirror.tip(branch)?.as_deref() != Some(tip) {
        mirror.fetch()?;
    }
    Ok(())
}

/// A result that may be published.
struct Finished {
    tip: String,
    record: Record,
    started: DateTime<Utc>,
}

/// Notes a result that could not be pushed, so that the next attempt need not make it again.
async fn keep(result: &Finished, work: &Accepted, base: &Base, lease: &Lease) {
    // One that was kept before stays on what it was made on.
    let earlier = lease.notes().kept.filter(|kept| kept.tip == result.tip);
    let kept = Kept {
        base: earlier.map_or_else(|| base.commit.clone(), |kept| kept.base),
        tip: result.tip.clone(),
        run: result.record.path(),
        revision: work.revision.clone(),
    };
    if let Err(error) = lease.note(|notes| notes.kept = Some(kept)).await {
        tracing::warn!("{}", chain(&error));
    }
}

/// The result of an attempt before, where it was noted, is still here and stands on what the base
/// still has. It is judged again: what may be published may be less now.
async fn kept(
    settings: &WorkerSettings,
    mirror: &Mirror,
    work: &Accepted,
    base: &Base,
    lease: &Lease,
) -> Result<Option<Finished>, Failure> {
    let kept = lease.notes().kept;
    let Some(kept) = kept.filter(|kept| kept.revision == work.revision) else {
        return Ok(None);
    };
    let Ok(run) = kept.run.parse() else {
        return Ok(None);
    };
    let record = reader::read_run(&settings.layout, run).record;
    let (asked, now, tip) = (mirror.clone(), base.commit.clone(), kept.tip.clone());
    let below = kept.base.clone();
    let stands =
        blocking(move || Ok::<_, Failure>(asked.has(&tip)? && asked.continues(&below, &now)?));
    if !stands.await? || judge_run(settings, &record).is_err() {
        return Ok(None);
    }
    let (asked, below, tip) = (mirror.clone(), kept.base, kept.tip.clone());
    let (policy, redactor) = (settings.policy.clone(), Arc::clone(&settings.redactor));
    let judged = blocking(move || judge_tree(&asked, &below, &tip, &policy, &redactor)).await;
    if let Err(Failure::Source(SourceError::Refused(reason))) = &judged {
        not_published(settings, &record, Outcome::PolicyBlocked, reason);
        // When somebody asks again, it is done anew.
        if let Err(error) = lease.note(|notes| notes.kept = None).await {
            tracing::warn!("{}", chain(&error));
        }
    }
    judged?;
    tracing::info!("The work was done before and is only to be pushed");
    let started = record.start_time.unwrap_or_else(|| settings.clock.now());
    Ok(Some(Finished {
        tip: kept.tip,
        record,
        started,
    }))
}

/// Does the work in a clone of its own, and takes the result if it may be published.
async fn run_in_clone<S: TaskSource>(
    source: &S,
    settings: &WorkerSettings,
    mirror: &Mirror,
    work: &Accepted,
    base: &Base,
    name: &WorkName,
    lease: &Lease,
) -> Result<Finished, Failure> {
    if lease.claim.attempt > settings.attempts {
        let attempts = text::count(settings.attempts as usize, "attempt");
        let reason = format!("{attempts} began, and the worker died in the last");
        return Err(Failure::refused(reason));
    }
    lease.hold(source.tell_started(work)).await??;
    let started = settings.clock.now();
    let workspace = Workspace::create(&settings.workspace, &work.request)
        .map_err(|error| Failure::later(format!("no workspace can be made: {error}")))?;
    let branch = name.branch();
    tracing::info!("Creating new branch {branch}");
    let (cloning, tree, commit) = (mirror.clone(), workspace.tree(), base.commit.clone());
    let cloned = blocking(move || Ok::<_, Failure>(cloning.clone_to(&tree, &commit, &branch)?));
    lease.unless_stopped(cloned).await?;

    let take = async || {
        let taking = Taking {
            mirror: mirror.clone(),
            tree: workspace.tree(),
            base: base.commit.clone(),
            branch: name.branch(),
        };
        take(taking, settings, work).await
    };
    let ended = run::carry_out(source, settings, work, &workspace, lease, &take).await?;
    let run::Ended { record, taken } = ended;
    Span::current().record("run", record.path());
    let result = judge_run(settings, &record);
    let tip = match taken {
        // Its own record says so.
        Some(Err(failure)) if result.is_err() => return Err(failure),
        taken => {
            result?;
            let taken = match taken {
                Some(taken) => taken,
                None => lease.unless_stopped(take()).await,
            };
            taken.inspect_err(|failure| {
                if let Failure::Source(SourceError::Refused(reason)) = failure {
                    not_published(settings, &record, Outcome::PolicyBlocked, reason);
                }
            })?
        }
    };
    Ok(Finished {
        tip,
        record,
        started,
    })
}

/// Puts the trace under this name on a result; gives the commit that is to be pushed.
async fn seal(
    settings: &WorkerSettings,
    mirror: &Mirror,
    work: &Accepted,
    name: &WorkName,
    result: &Finished,
) -> Result<String, Failure> {
    let (agent, now) = (&settings.agent_name, settings.clock.now());
    let trace = trace::file(&work.request, name, agent, result.started, now);
    let trace = settings.redactor.text(&trace);
    let message = settings
        .redactor
        .text(&trace::commit_message(work, &settings.holder));
    let (mirror, identity) = (mirror.clone(), settings.identity.clone());
    let (path, tip) = (name.trace_path(), result.tip.clone());
    let made =
        blocking(move || mirror.commit_file(&tip, &path, trace.as_bytes(), &message, &identity));
    let commit = made.await?;
    tracing::info!("Created trace file: {}", name.trace_path());
    Ok(commit)
}

/// Whether a run did what it should.
fn judge_run(settings: &WorkerSettings, record: &Record) -> Result<(), Failure> {
    let said = record
        .error
        .clone()
        .unwrap_or_else(|| record.outcome.to_string());
    let mut reason = format!("{} ({}, run {})", said, record.outcome, record.path());
    if let (Outcome::CommitMissing, Some(last_message)) = (record.outcome, &record.last_message) {
        let last_message = text::shorten(last_message.trim(), MAX_MESSAGE_CHARS);
        reason = format!("{reason}\n\nThe agent's last message:\n\n{last_message}");
    }
    match record.outcome {
        // Where no change is allowed, the trace is published alone.
        Outcome::Success | Outcome::NoChange => Ok(()),
        Outcome::RateLimited => Err(Failure::Source(SourceError::Later {
            reason,
            retry_at: record.resets_at,
        })),
        Outcome::Interrupted { .. } | Outcome::Skipped => Err(Failure::later(reason)),
        Outcome::PolicyBlocked => Err(Failure::refused(reason)),
        Outcome::StartFailed => Err(Failure::Failed(reason)),
        _ if settings.run.is_deterministic() => Err(Failure::refused(reason)),
        _ => Err(Failure::Failed(reason)),
    }
}

/// What is taken of a clone.
struct Taking {
    mirror: Mirror,
    tree: std::path::PathBuf,
    base: String,
    branch: String,
}

/// Takes the result into the mirror, and judges it.
async fn take(
    taking: Taking,
    settings: &WorkerSettings,
    work: &Accepted,
) -> Result<String, Failure> {
    let key = work.request.key.clone();
    let (policy, redactor) = (settings.policy.clone(), Arc::clone(&settings.redactor));
    blocking(move || {
        let Taking { mirror, base, .. } = &taking;
        let taken = mirror.take(&taking.tree, base, &taking.branch, &key);
        // What has no name stays for two weeks, and is pushed long before.
        if let Err(error) = mirror.forget(&key) {
            tracing::warn!("{}", chain(&error));
        }
        let tip = taken?;
        judge_tree(mirror, base, &tip, &policy, &redactor)?;
        Ok(tip)
    })
    .await
}

/// Judges what `base..tip` changed.
fn judge_tree(
    mirror: &Mirror,
    base: &str,
    tip: &str,
    policy: &TreePolicy,
    redactor: &Redactor,
) -> Result<(), Failure> {
    let changes = mirror.changes(base, tip)?;
    let (paths, links) = mirror.tree(tip)?;
    let mut secrets = Vec::new();
    mirror.added_content(base, tip, &changes, |place, content| {
        if redactor.finds(content) {
            secrets.push(place.to_owned());
        }
    })?;
    let violations = policy.violations(TreeEvidence {
        changes: &changes,
        paths: &paths,
        links: &links,
        secrets: &secrets,
    });
    if violations.is_empty() {
        return Ok(());
    }
    let shown = violations.iter().take(10).map(ToString::to_string);
    let list = shown.collect::<Vec<_>>().join("; ");
    Err(Failure::refused(format!("not published: {list}")))
}

enum NotPushed {
    /// The branch exists, with this commit.
    Taken(String),
    Refused(String),
    Failed(Failure),
}

impl From<Stop> for NotPushed {
    fn from(stop: Stop) -> Self {
        Self::Failed(stop.into())
    }
}

impl From<Failure> for NotPushed {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<SourceError> for NotPushed {
    fn from(error: SourceError) -> Self {
        Self::Failed(error.into())
    }
}

async fn push<S: TaskSource>(
    source: &S,
    mirror: &mut Mirror,
    work: &Accepted,
    name: &WorkName,
    commit: &str,
    lease: &Lease,
) -> Result<(), NotPushed> {
    source.check_wanted(work).await?;
    // The token may have ended during the run.
    *mirror = mirror.clone().with_remote(source.remote(work).await?);
    push_commit(mirror, work, name, commit, None, lease).await
}

/// Moves a branch from `expected`. That it is about to be is noted first.
async fn push_commit(
    mirror: &Mirror,
    work: &Accepted,
    name: &WorkName,
    commit: &str,
    expected: Option<String>,
    lease: &Lease,
) -> Result<(), NotPushed> {
    let noted = lease.note(|notes| notes.will_push(commit, &work.revision));
    match noted.await {
        Ok(true) => {}
        Ok(false) => return Err(Stop::LostLease.into()),
        Err(error) => return Err(NotPushed::Failed(Failure::later(chain(&error)))),
    }
    lease.confirm().await?;
    lease.is_pushed(Instant::now());
    let (mirror, branch, commit) = (mirror.clone(), name.branch(), commit.to_owned());
    let pushed =
        async { Ok(blocking(move || mirror.push(&branch, &commit, expected.as_deref())).await) };
    let pushed = lease.unless_stopped(pushed).await?;
    let is_first = lease.claim.attempt == 1;
    let is_denied = matches!(
        pushed,
        Err(PushError::Mirror(MirrorError::Remote(
            RemoteFault::Denied { .. }
        )))
    );
    match pushed {
        Ok(_) => {
            tracing::info!("Committed and pushed changes to {}", name.branch());
            Ok(())
        }
        Err(PushError::Taken { tip: Some(tip), .. }) => Err(NotPushed::Taken(tip)),
        Err(error @ PushError::Rejected { .. }) => Err(NotPushed::Refused(chain(&error))),
        Err(PushError::Mirror(error)) => match error.into() {
            // What could be read a moment ago may be written in a moment: a server that is
            // overrun says the same.
            Failure::Source(SourceError::Refused(reason)) if is_denied && is_first => {
                Err(NotPushed::Failed(Failure::Failed(reason)))
            }
            Failure::Source(SourceError::Refused(reason)) => Err(NotPushed::Refused(reason)),
            failure => Err(NotPushed::Failed(failure)),
        },
        Err(error @ PushError::Taken { tip: None, .. }) => {
            Err(NotPushed::Failed(Failure::later(chain(&error))))
        }
    }
}

fn not_published(settings: &WorkerSettings, run: &Record, outcome: Outcome, reason: &str) {
    if let Err(error) = record::unpublished(settings, run, outcome, reason) {
        tracing::error!("the failure is not recorded: {}", chain(&error));
    }
}

/// Runs what blocks beside this thread. It is not given up when the caller is.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_cancelled) => unreachable!("the runtime outlives its work"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::GitError;
    use crate::process::command::HelperError;

    #[test]
    fn what_is_too_much_to_look_at_is_refused_and_not_tried_again() {
        let source = HelperError::TooMuchOutput {
            program: "git".to_owned(),
            limit: 1,
        };
        let command = "git ls-tree".to_owned();
        let failure = Failure::from(MirrorError::Git(GitError::Run { command, source }));
        assert!(matches!(failure, Failure::Source(SourceError::Refused(_))));
    }

    #[test]
    fn the_pause_doubles_and_has_an_end() {
        let first = Duration::from_secs(60);
        assert_eq!(pause(first, 1), first);
        assert_eq!(pause(first, 3), first * 4);
        assert_eq!(pause(first, 60), LONGEST_PAUSE);
    }
}
