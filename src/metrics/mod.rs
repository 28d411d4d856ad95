//! Numbers for Prometheus: in a file for its textfile collector, and over HTTP beside `dispatch`.
//!
//! ```text
//! # HELP agent_runner_runs_total Runs that ended today.
//! # TYPE agent_runner_runs_total counter
//! agent_runner_runs_total{task="nightly",agent="claude",outcome="success"} 3
//! ```
//!
//! What runs did is counted from the records of the day whenever somebody asks: every run is a process
//! of its own, so no process has counted them all. A counter begins at 0 each midnight of the machine's
//! zone, which Prometheus reads like a restart. The format is written by hand: a client library holds
//! counters for a process that lives on, and would be filled and thrown away at each look.

mod exposition;
mod runs;
mod server;
mod tasks;

pub use crate::metrics::exposition::Page;
pub use crate::metrics::runs::of_runs;
pub use crate::metrics::server::{Answers, serve};
pub use crate::metrics::tasks::Tasks;
