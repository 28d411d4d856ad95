//! agent-runner

pub mod agents;
pub mod config;
pub mod git;
pub mod model;
pub mod process;
pub mod prompt;
