//! Where work comes from, and where its results go.
//!
//! What stands in an issue is data: nothing in it becomes a path, an option or a command.

pub mod correlation;
pub mod delegation;
pub mod dispatch_issues;
pub mod local;
pub mod source;
