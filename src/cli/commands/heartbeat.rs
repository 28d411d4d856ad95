//! `heartbeat`: a sign of life each minute, and the care for what crashes and outages left.

use std::{fs, iter};

use chrono::{DateTime, Utc};

use super::{due, expectations};
use crate::cli::error::CliError;
use crate::cli::metrics;
use crate::cli::sharing::Sharing;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::model::clock::Clock as _;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::task::CatchUp;
use crate::store::beats::{Beats, beat, beats};
use crate::store::since::since;

/// Appends a line to the heartbeat's log, ends runs whose runner died, tells of successes that are
/// overdue, delivers what waits, and starts a run that was missed. Quiet when all is well.
pub(crate) fn heartbeat(world: &World) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    wiring::refuse_missing_repository(&settings)?;
    let layout = wiring::layout(&settings);
    let now = SystemClock.now();
    let hour = |at: DateTime<Utc>| at.timestamp().div_euclid(3600);
    let last = fs::metadata(layout.heartbeat_log()).and_then(|log| log.modified());
    let is_first_of_hour = !last.is_ok_and(|last| hour(last.into()) == hour(now));
    beat(&layout, now)
        .map_err(|error| CliError::failure("the heartbeat is not recorded").because(error))?;
    let notifier = wiring::notifier(&settings);
    if let Some(notifier) = &notifier {
        let subject = wiring::subject("topic", &settings);
        since(&layout, &subject, iter::once(wiring::place(notifier)), now);
    }
    let configured = due::note_configured(&settings, &layout, now);
    let announce = wiring::announcement(&settings, &layout);
    let recover = if is_first_of_hour {
        wiring::recover_all
    } else {
        wiring::recover
    };
    recover(world, &layout, announce.as_deref())?;
    if let Some(sharing) = Sharing::new(&settings)? {
        wiring::block_on(sharing.exchange(Some(&world.ui), &[]))?;
    }
    let tasks = || settings.tasks.values().map(|settings| &settings.task);
    let catches_up = tasks().any(|task| task.catch_up == CatchUp::Once);
    let expects = tasks().any(|task| task.expect_success_within.is_some());
    let beats = if catches_up || expects {
        let failed = |error| CliError::failure("the heartbeat's log is not read").because(error);
        beats(&layout).map_err(failed)?
    } else {
        Beats::default()
    };
    let told = expectations::tell(world, &settings, &layout, &beats, now, notifier.is_some());
    wiring::block_on(wiring::deliver(&world.ui, &layout, notifier.as_ref()))?;
    told?;
    expectations::catch_up(world, &settings, &layout, &beats, &configured, now)?;
    metrics::write_file(&world.ui, &settings, None);
    Ok(EXIT_SUCCESS)
}
