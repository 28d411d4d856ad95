//! What every source of work can do, and what the worker needs to know of it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::git::Remote;
use crate::model::dispatch::{WorkKey, WorkRequest};
use crate::model::work_name::WorkName;

/// Work that a source shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// Which work it is.
    pub key: WorkKey,
    /// Where it comes from, such as `owner/repo#7`.
    pub origin: String,
    /// The number of the issue, or of the local task.
    pub number: u64,
    /// Its title, as somebody wrote it.
    pub title: String,
    /// The repository it is for, as far as that can be told.
    pub repository: String,
    /// Who asks.
    pub author: String,
    /// Since when.
    pub created: DateTime<Utc>,
}

/// Work that may be done.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// What is to be done.
    pub request: WorkRequest,
    /// The repository to change.
    pub remote: Remote,
    /// The branch that the result is for; `None` where the repository's default branch is meant.
    pub base: Option<String>,
    /// Tells the text that was accepted from every other text.
    pub revision: String,
}

/// A result that is published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Publication {
    /// Where it can be looked at.
    pub address: String,
    /// What whoever asked must know of it, in whole sentences.
    pub remarks: Vec<String>,
    /// The [revision](Accepted::revision) of the text that it answers, where it says so.
    pub revision: Option<String>,
}

impl Publication {
    /// One of which nothing more is to be said.
    pub fn at(address: String) -> Self {
        Self {
            address,
            remarks: Vec::new(),
            revision: None,
        }
    }
}

/// How the publication of a branch stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Nobody has published anything under this name.
    Free,
    /// It is published, and perhaps already merged or closed by a person.
    Published(Publication),
    /// Somebody else has published something under this name, with this commit: perhaps the work.
    Taken(Publication, String),
}

/// What has become of work that is not among the offers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It waits all the same, or it is of another source.
    Open,
    /// It is done.
    Done,
    /// Nobody wants it any more, and why.
    Unwanted(String),
}

/// What comes after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// It rests until a person asks again.
    Rests,
    /// It is tried again after this time.
    AgainAfter(Duration),
}

/// Why a source did not do what was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SourceError {
    /// Nobody wants the work any more.
    Unwanted(String),
    /// The work will not be done as it is: somebody must change something.
    Refused(String),
    /// It may go well later, without anybody's doing.
    Later {
        /// Why not now.
        reason: String,
        /// Not before this time, where that is known.
        retry_at: Option<DateTime<Utc>>,
    },
    /// It went wrong, and may go well when it is tried again, but not for ever.
    Failed(String),
    /// The source does not let us in at all.
    NoAccess(String),
}

impl fmt::Display for SourceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwanted(reason)
            | Self::Refused(reason)
            | Self::Later { reason, .. }
            | Self::Failed(reason)
            | Self::NoAccess(reason) => formatter.write_str(reason),
        }
    }
}

impl std::error::Error for SourceError {}

/// A place that work comes from and results go to.
///
/// Everything it does to the outside is looked for before it is done, so that it may be asked for
/// again after any crash.
#[expect(async_fn_in_trait, reason = "the worker is one thread and no library")]
pub trait TaskSource: fmt::Debug {
    /// The work that waits, oldest first.
    async fn offers(&self) -> Result<Vec<Offer>, SourceError>;

    /// The work of that number, when it waits.
    async fn offer(&self, number: u64) -> Result<Offer, SourceError>;

    /// What has become of the work of an [`Offer::origin`].
    async fn fate(&self, origin: &str) -> Result<Fate, SourceError>;

    /// Whether an offer really waits that the queue calls rested or cancelled: a person wants it
    /// done afresh.
    async fn is_asked_again(&self, offer: &Offer) -> Result<bool, SourceError>;

    /// Decides whether the work may be done, and what it is.
    async fn accept(&self, offer: &Offer) -> Result<Accepted, SourceError>;

    /// The repository to change, with a token that lasts a while: [`Accepted::remote`] may be old.
    async fn remote(&self, work: &Accepted) -> Result<Remote, SourceError>;

    /// An error when the work is not wanted any more, or its text is another one.
    async fn check_wanted(&self, work: &Accepted) -> Result<(), SourceError>;

    /// How the publication under a name stands.
    async fn standing(&self, work: &Accepted, name: &WorkName) -> Result<Standing, SourceError>;

    /// The publication of this work that an earlier text of it led to: of another name, or in
    /// another repository.
    async fn earlier(&self, work: &Accepted) -> Result<Option<Publication>, SourceError>;

    /// Tells that the work begins.
    async fn tell_started(&self, work: &Accepted) -> Result<(), SourceError>;

    /// Publishes the branch, which has been pushed.
    async fn publish(
        &self,
        work: &Accepted,
        name: &WorkName,
        base: &str,
    ) -> Result<Publication, SourceError>;

    /// Tells that the work is done.
    async fn tell_completed(
        &self,
        work: &Accepted,
        publication: &Publication,
    ) -> Result<(), SourceError>;

    /// Tells that the work failed, and what comes next.
    async fn tell_failed(&self, offer: &Offer, reason: &str, next: Next)
    -> Result<(), SourceError>;
}
