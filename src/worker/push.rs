//! Brings a commit to a branch at the remote, and keeps two machines from doing so at once.

use crate::git::{MirrorError, PushError, RemoteFault};
use crate::model::text::chain;
use crate::model::work_name::WorkName;
use crate::sources::source::{SourceError, TaskSource};
use crate::worker::lease::Stop;
use crate::worker::place::up_to_date;
use crate::worker::story::{Failure, Story, blocking};

/// Why a branch is not at the commit that it was to have.
pub(super) enum NotPushed {
    /// The branch exists, with this commit.
    Taken(String),
    Refused(String),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for NotPushed {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl<S: TaskSource> Story<'_, S> {
    /// Pushes a new branch.
    pub(super) async fn push(&mut self, name: &WorkName, commit: &str) -> Result<(), NotPushed> {
        self.source.check_wanted(&self.work).await?;
        // The token may have ended during the run.
        let remote = self.source.remote(&self.work).await?;
        self.mirror = self.mirror.clone().with_remote(remote);
        self.move_branch(name, commit, None, &self.work.revision)
            .await
    }

    /// Moves a branch from `expected` to a commit that was made from the text of this revision. That
    /// it is about to be is noted first.
    async fn move_branch(
        &self,
        name: &WorkName,
        commit: &str,
        expected: Option<String>,
        revision: &str,
    ) -> Result<(), NotPushed> {
        let lease = self.lease;
        let noted = lease.note(|notes| notes.will_push(commit, revision));
        match noted.await {
            Ok(true) => {}
            Ok(false) => return Err(Stop::LostLease.into()),
            Err(error) => return Err(Failure::later(chain(&error)).into()),
        }
        lease.confirm().await?;
        lease.note_push();
        let (mirror, branch, commit) = (self.mirror.clone(), name.branch(), commit.to_owned());
        let pushed = async {
            Ok(blocking(move || mirror.push(&branch, &commit, expected.as_deref())).await)
        };
        let pushed = lease.unless_stopped(pushed).await?;
        let is_first = lease.claim.attempt == 1;
        let is_denied = matches!(
            pushed,
            Err(PushError::Mirror(MirrorError::Remote(
                RemoteFault::Denied { .. }
            )))
        );
        match pushed {
            Ok(()) => {
                tracing::info!("Committed and pushed changes to {}", name.branch());
                Ok(())
            }
            Err(PushError::Taken { tip: Some(tip), .. }) => Err(NotPushed::Taken(tip)),
            Err(error @ PushError::Rejected { .. }) => Err(NotPushed::Refused(chain(&error))),
            Err(PushError::Mirror(error)) => match error.into() {
                // What could be read a moment ago may be written in a moment: a server that is
                // overrun says the same.
                Failure::Source(SourceError::Refused(reason)) if is_denied && is_first => {
                    Err(Failure::Failed(reason).into())
                }
                Failure::Source(SourceError::Refused(reason)) => Err(NotPushed::Refused(reason)),
                failure => Err(failure.into()),
            },
            Err(error @ PushError::Taken { tip: None, .. }) => {
                Err(Failure::later(chain(&error)).into())
            }
        }
    }

    /// Makes sure that nobody else is publishing what was found under a name: the commit of its
    /// branch, `None` where that is gone, and the text that it was made from.
    ///
    /// The claim keeps away the workers of this queue, so what this queue pushed may be published at
    /// once. Machines that share no queue have only the branch: it is theirs who pushed it for a
    /// lease, and after that theirs who moves it first. So a branch that this queue did not push is
    /// left alone until it has stood still for a lease by the clock of this queue; then it is moved
    /// from exactly that commit to one that says the same.
    pub(super) async fn take_over(
        &self,
        name: &WorkName,
        tip: Option<String>,
        revision: &str,
    ) -> Result<(), Failure> {
        let notes = self.lease.notes();
        if notes.is_own(tip.as_deref()) {
            return Ok(());
        }
        let sight = tip.as_deref().unwrap_or("gone");
        if notes.seen.as_deref() != Some(sight) {
            return Err(self.leave(sight).await);
        }
        let Some(tip) = tip else { return Ok(()) };
        let (below, path, branch) = (self.base.commit.clone(), name.trace_path(), name.branch());
        let (seen, identity) = (tip.clone(), self.settings.identity.clone());
        let message = self.commit_message(revision);
        let commit = self.ask(move |mirror| {
            up_to_date(mirror, &branch, &seen)?;
            // A branch that a person has added to is not moved.
            let Some(parent) = mirror.below_trace(&seen, &below)? else {
                return Ok(None);
            };
            let trace = mirror.file(&seen, &path)?.unwrap_or_default();
            let made = mirror.commit_file(&parent, &path, &trace, &message, &identity);
            Ok(Some(made?))
        });
        let Some(commit) = commit.await? else {
            return Ok(());
        };
        tracing::info!("Taking over branch {} from another machine", name.branch());
        match self.move_branch(name, &commit, Some(tip), revision).await {
            Ok(()) => Ok(()),
            Err(NotPushed::Taken(tip)) => Err(self.leave(&tip).await),
            // Where branches must not be moved, the wait has to do.
            Err(NotPushed::Refused(reason)) => {
                tracing::warn!("branch {} is not moved: {reason}", name.branch());
                Ok(())
            }
            Err(NotPushed::Failed(failure)) => Err(failure),
        }
    }

    /// Leaves the work to the machine that pushed `tip`, for a lease from now.
    pub(super) async fn leave(&self, tip: &str) -> Failure {
        if let Err(stop) = self.lease.confirm().await {
            return stop.into();
        }
        let seen = self.lease.note(|notes| notes.seen = Some(tip.to_owned()));
        match seen.await {
            Ok(_) => Failure::Elsewhere,
            Err(error) => Failure::later(chain(&error)),
        }
    }
}
