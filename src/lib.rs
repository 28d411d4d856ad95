//! agent-runner

pub mod agents;
pub mod model;
pub mod notify;
pub mod store;
