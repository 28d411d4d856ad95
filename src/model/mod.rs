//! The vocabulary: what a run is made of, as values. No I/O, no clock, no process, no file format.
//!
//! A value of a type in this room is always valid; text from outside is parsed where it enters
//! ([`ids`], [`duration`]) and trusted afterwards.

pub mod caps;
pub mod change;
pub mod clock;
pub mod delegated;
pub mod dispatch;
pub mod duration;
pub mod event;
pub mod ids;
pub mod invocation;
pub mod message;
pub mod moment;
pub mod outcome;
pub mod parking;
pub mod patch;
pub mod process_end;
pub mod record;
pub mod report;
pub mod repository;
pub mod reset;
pub mod retention;
pub mod secret;
pub mod tally;
pub mod task;
pub mod text;
pub mod tree_path;
pub mod tree_policy;
pub mod verdict;
#[cfg(test)]
mod verdict_table;
pub mod work_name;
