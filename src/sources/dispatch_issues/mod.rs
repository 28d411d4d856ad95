//! GitHub issues as a source of work: an issue with a label becomes one pull request.

pub mod grammar;
mod issues;
mod wording;

pub(crate) use crate::sources::dispatch_issues::issues::is_by;
pub use crate::sources::dispatch_issues::issues::{
    FAILED, Issues, IssuesSettings, PROCESSED, work_key,
};
