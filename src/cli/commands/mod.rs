//! The verbs, one file each: from what was typed to an exit code.

pub(crate) mod agents;
pub(crate) mod apply_patches;
pub(crate) mod cancel;
pub(crate) mod clean;
pub(crate) mod delegate;
pub(crate) mod demo;
pub(crate) mod dispatch;
pub(crate) mod doctor;
mod expectations;
pub(crate) mod explain;
pub(crate) mod heartbeat;
pub(crate) mod init;
mod junit;
pub(crate) mod logs;
pub(crate) mod namespace_init;
pub(crate) mod notify;
mod plan;
pub(crate) mod rerun;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedule;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod smoke;
pub(crate) mod stats;
pub(crate) mod tasks;
pub(crate) mod triage;
