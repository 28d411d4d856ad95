//! agent-runner

pub mod agents;
pub mod deliver;
pub mod model;
pub mod notify;
pub mod store;
