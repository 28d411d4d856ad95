//! Which agents a person has tried with success: one file an agent, `.state/probed/<agent>`. Its
//! writer is `doctor --probe`.

use crate::store::layout::Layout;

/// Whether an agent has passed its probe.
pub fn is_probed(layout: &Layout, agent: &str) -> bool {
    layout.state().join("probed").join(agent).is_file()
}
