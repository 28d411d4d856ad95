//! One piece of work from its claim to its end, top to bottom.
//!
//! Accept, look what is already there ([`place`](crate::worker::place)), run, take the result and
//! judge it ([`result`](crate::worker::result)), push, publish, tell. What is already there is never
//! done again, so that the story may break off anywhere and be told anew.

use std::path::Path;
use std::time::Duration;

use tracing::Span;

use crate::git::{Mirror, MirrorError, MirrorLimits};
use crate::model::outcome::Outcome;
use crate::model::text::{self, chain};
use crate::model::work_name::WorkName;
use crate::queue::{End, Queue};
use crate::sources::source::{Accepted, Fate, Next, Offer, Publication, SourceError, TaskSource};
use crate::worker::lease::{Lease, Stop};
use crate::worker::place::Place;
use crate::worker::push::NotPushed;
use crate::worker::result::Finished;
use crate::worker::settings::WorkerSettings;
use crate::worker::{trace, workspace};

/// The pause between two tries to tell somebody where the source refuses to take a word.
const TELLING_PAUSE: Duration = Duration::from_secs(3600);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

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

    pub(super) fn refused(reason: impl Into<String>) -> Self {
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
    let begun = Story::begin(source, queue, settings, offer, lease);
    lease.unless_stopped(begun).await?.carry_out().await
}

/// A piece of work that is being done.
pub(super) struct Story<'a, S> {
    pub(super) source: &'a S,
    pub(super) settings: &'a WorkerSettings,
    pub(super) lease: &'a Lease,
    pub(super) work: Accepted,
    pub(super) mirror: Mirror,
    pub(super) base: Base,
}

/// What the result is put on.
pub(super) struct Base {
    pub(super) branch: String,
    pub(super) commit: String,
}

impl<'a, S: TaskSource> Story<'a, S> {
    /// Decides whether the work may be done, and gets ready what it is done from.
    async fn begin(
        source: &'a S,
        queue: &Queue,
        settings: &'a WorkerSettings,
        offer: &Offer,
        lease: &'a Lease,
    ) -> Result<Self, Failure> {
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
        Ok(Self {
            source,
            settings,
            lease,
            work,
            mirror,
            base,
        })
    }

    async fn carry_out(mut self) -> Result<(), Failure> {
        // A name may be taken between the look at it and the push; the work is not done again then.
        let mut done = self.kept().await?;
        for _try in 0..3 {
            let (name, place) = self.lease.unless_stopped(self.choose()).await?;
            let publication = match place {
                Place::Published(mut publication, tip) => {
                    tracing::info!("found published: {}", publication.address);
                    let made_from = match (&publication.revision, &tip) {
                        (Some(revision), _) => Some(revision.clone()),
                        (None, Some(tip)) => self.made_from(&name, tip).await?,
                        (None, None) => None,
                    };
                    // A merged branch does not say it any more.
                    let made_from = made_from.or_else(|| self.lease.notes().revision);
                    let revision = made_from.unwrap_or_else(|| self.work.revision.clone());
                    if revision != self.work.revision {
                        publication.remarks.push(EARLIER_TEXT.to_owned());
                    }
                    self.take_over(&name, tip, &revision).await?;
                    publication
                }
                Place::Pushed(tip) => {
                    let branch = name.branch();
                    tracing::info!("Branch {branch} already exists remotely, checking it out");
                    let made_from = self.made_from(&name, &tip).await?;
                    if made_from.is_some_and(|text| text != self.work.revision) {
                        return Err(Failure::refused(format!(
                            "the text was edited after the work on it began; the branch {branch} \
                             holds what was done before, and when it is deleted the work is done \
                             anew"
                        )));
                    }
                    self.take_over(&name, Some(tip), &self.work.revision)
                        .await?;
                    self.publish(&name).await?
                }
                Place::Free => match self.publish_new(&name, &mut done).await? {
                    Some(publication) => publication,
                    None => continue,
                },
            };
            return self.complete(&publication).await;
        }
        Err(Failure::Failed(
            "the names of its branches were taken by others again and again".to_owned(),
        ))
    }

    /// Does the work, unless it is `done`, and publishes it under a free name; `None` where somebody
    /// took that meanwhile.
    async fn publish_new(
        &mut self,
        name: &WorkName,
        done: &mut Option<Finished>,
    ) -> Result<Option<Publication>, Failure> {
        self.check_trace().await?;
        let result = match done.take() {
            Some(result) => result,
            None => self.run_in_clone(name).await?,
        };
        let sealed = self.seal(name, &result);
        let commit = self.lease.unless_stopped(sealed).await?;
        let result = done.insert(result);
        match self.push(name, &commit).await {
            Ok(()) => {
                // Where the branch is deleted before it is published, the work is done anew.
                self.note_kept(None).await;
                self.publish(name).await.map(Some)
            }
            Err(NotPushed::Taken(tip)) if self.lease.notes().is_own(Some(&tip)) => Ok(None),
            Err(NotPushed::Taken(tip)) => {
                if !self.owned(name, &tip).await? {
                    return Ok(None);
                }
                let reason = "another machine has published this work";
                self.not_published(&result.record, Outcome::LostLease, reason);
                Err(self.leave(&tip).await)
            }
            Err(NotPushed::Refused(reason)) => {
                self.not_published(&result.record, Outcome::PolicyBlocked, &reason);
                Err(Failure::refused(reason))
            }
            Err(NotPushed::Failed(failure)) => {
                if failure == Failure::Stopped(Stop::LostLease) {
                    let reason = "the claim was lost before the push";
                    self.not_published(&result.record, Outcome::LostLease, reason);
                }
                Err(failure)
            }
        }
    }

    /// Publishes the branch, which is at the remote, or was there a moment ago.
    async fn publish(&self, name: &WorkName) -> Result<Publication, Failure> {
        let (source, work) = (self.source, &self.work);
        let mut shown = work.clone();
        shown.request.task_id = self.settings.redactor.text(&work.request.task_id);
        let publish = async {
            source.check_wanted(work).await?;
            source.publish(&shown, name, &self.base.branch).await
        };
        let error = match self.lease.hold(publish).await? {
            Ok(publication) => return Ok(publication),
            Err(error @ (SourceError::Unwanted(_) | SourceError::NoAccess(_))) => {
                return Err(error.into());
            }
            Err(error) => error,
        };
        let branch = name.branch();
        let asked = branch.clone();
        let tips = self.ask(move |mirror| Ok(mirror.remote_tips([&asked])?));
        Err(match tips.await {
            // It is done and pushed again, but not for ever: somebody may delete it each time.
            Ok([None]) => Failure::Failed(format!(
                "the branch {branch} was deleted before it was published: {error}"
            )),
            Ok([Some(_)]) | Err(_) => error.into(),
        })
    }

    /// Tells that the work is done.
    async fn complete(&self, publication: &Publication) -> Result<(), Failure> {
        let told = self.source.tell_completed(&self.work, publication);
        match self.lease.hold(told).await? {
            // It is done, whether the source takes the word or not.
            Err(SourceError::Refused(reason)) => {
                tracing::warn!("not told that it is done: {reason}");
            }
            told => told?,
        }
        Ok(())
    }

    /// The message of a commit that is pushed, whose result was made from that text.
    pub(super) fn commit_message(&self, revision: &str) -> String {
        let (request, holder) = (&self.work.request, &self.settings.holder);
        let message = trace::commit_message(request, revision, holder);
        self.settings.redactor.text(&message)
    }

    /// Works with the mirror beside this thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Mirror) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let mirror = self.mirror.clone();
        blocking(move || work(&mirror)).await
    }
}

/// Brings the mirror up to date.
async fn prepare(mirror: &Mirror, work: &Accepted, directory: &Path) -> Result<Base, Failure> {
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
