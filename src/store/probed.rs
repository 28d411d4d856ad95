//! Agents that did a small run on trial: `.state/probed/<agent>` names the last good one.

use crate::model::ids::AgentName;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;

/// Whether an agent of that name did a run on trial.
pub fn is_probed(layout: &Layout, agent: &str) -> bool {
    let agent = agent.parse::<AgentName>();
    agent.is_ok_and(|agent| layout.probed(&agent).is_file())
}

/// Notes that an agent did a run on trial, and which.
pub fn note(layout: &Layout, agent: &AgentName, run: &str) -> Result<(), StoreError> {
    let path = layout.probed(agent);
    if let Some(directory) = path.parent() {
        layout.create_state(directory)?;
    }
    atomic::write(&path, format!("{run}\n").as_bytes())
}
