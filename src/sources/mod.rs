//! Where work comes from.
//!
//! What stands in an issue is data: nothing in it becomes a path, an option or a command.

pub mod dispatch_issues;
