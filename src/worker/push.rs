//! The one effect that nobody takes back: a branch at the remote gets its commit.

use crate::git::{MirrorError, PushError, RemoteFault};
use crate::model::text::chain;
use crate::model::work_name::WorkName;
use crate::sources::source::{SourceError, TaskSource};
use crate::worker::lease::Stop;
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
    pub(super) async fn move_branch(
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
}
