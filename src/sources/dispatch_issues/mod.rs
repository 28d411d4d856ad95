//! GitHub issues as a source of work: an issue with a label becomes one pull request.

pub mod grammar;
mod issues;
mod wording;

pub use crate::sources::dispatch_issues::issues::{
    FAILED, Issues, IssuesSettings, PROCESSED, work_key,
};
