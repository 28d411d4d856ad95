//! `heartbeat`: a sign of life each minute, and the care for what crashes and outages left.

use crate::cli::error::CliError;
use crate::cli::metrics;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::model::clock::Clock as _;
use crate::model::outcome::EXIT_SUCCESS;
use crate::orchestrator::Announce;
use crate::store::recorder;

/// Appends a line to the heartbeat's log, ends runs whose runner died, and delivers what waits.
/// Quiet when all is well.
pub(crate) fn heartbeat(world: &World) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    recorder::beat(&layout, SystemClock.now())
        .map_err(|error| CliError::failure("the heartbeat is not recorded").because(error))?;
    let notifier = wiring::notifier(&settings);
    let announce = wiring::announcement(&layout);
    let announce = notifier.as_ref().map(|_| &announce as &Announce<'_>);
    wiring::recover(world, &layout, announce)?;
    wiring::block_on(wiring::deliver(&world.ui, &layout, notifier.as_ref()))?;
    metrics::write_file(&world.ui, &settings, None);
    Ok(EXIT_SUCCESS)
}
