//! agent-runner

pub mod agents;
pub mod config;
pub mod deliver;
pub mod model;
pub mod notify;
pub mod process;
pub mod prompt;
pub mod store;
