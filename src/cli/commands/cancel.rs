//! `cancel`: ends a run that goes on, in order; once more ends it at once.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::args::RecordArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::model::duration;
use crate::model::outcome::{EXIT_SUCCESS, Outcome};
use crate::process::holder::{self, HolderError};
use crate::process::identity;
use crate::store::layout::Layout;
use crate::store::reader::{self, Run};
use crate::store::{format, summary};

/// How long a runner has after the grace period of its agent: to kill what is left, to look at the
/// repository, and to write its record.
const ENDING: Duration = Duration::from_mins(1);

/// How often it is looked whether the run has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks the runner of a run to end it, and waits until it has.
pub(crate) fn cancel(world: &World, arguments: &RecordArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let name = &arguments.reference.run;
    // A start that was skipped meanwhile is not what is meant.
    let mut run = match reader::find_going(&layout, name) {
        Ok(Some(run)) => run,
        Ok(None) | Err(_) => wiring::find_run(&layout, name)?,
    };
    let layout = run.layout();
    let path = run.path.clone();
    if run.record.outcome == Outcome::Running {
        stop(&run).or_else(|error| {
            // It may have ended by itself between the two looks.
            let now = reader::read_run(&layout, path.clone());
            if now.record.outcome.is_final() {
                Ok(())
            } else {
                Err(error)
            }
        })?;
        let grace = settings.runner.grace_period.value;
        let words = duration::words(grace);
        world.ui.talk(&format!(
            "{path}: the agent has {words} to end; `cancel` once more ends it at once"
        ));
        run = wiring::block_on(wait(&layout, &run, grace + ENDING))??;
    } else if let Some(why) = reader::unreadable(&run.record) {
        let hint = match stop(&run) {
            Ok(()) => "its runner is there and is asked to end",
            Err(_) => "nothing was signalled; see who may read its record",
        };
        let unknown = CliError::failure(format!("whether {path} has ended is not known: {why}"));
        return Err(unknown.hint(hint));
    } else {
        let outcome = run.record.outcome;
        // Whoever still holds the log of a run that has ended waits to try once more.
        let what = match stop(&run) {
            Ok(()) => format!("{path} has ended, {outcome}, and is not tried again"),
            Err(_) => format!("{path} has ended already: {outcome}"),
        };
        world.ui.talk(&what);
    }
    if arguments.json {
        world.ui.data(&format::write(&run.record));
    } else {
        world.ui.prose(&summary::summary(&run.record));
    }
    Ok(EXIT_SUCCESS)
}

fn stop(run: &Run) -> Result<(), CliError> {
    let record = &run.record;
    let failed = || CliError::failure(format!("{} cannot be cancelled", run.path));
    // Before its agent is started a run may have no record yet.
    let (log, mark) = (run.directory.runner_log(), run.directory.mark());
    let Some(runner) = record.pid.or_else(|| holder::holder(&mark)) else {
        return Err(failed().hint("it has only just begun: try again"));
    };
    let here = identity::host_name();
    if record.host.as_deref().is_some_and(|host| host != here) {
        let host = record.host.as_deref().unwrap_or_default();
        return Err(failed().hint(format!("it runs on `{host}`: cancel it there")));
    }
    if record.boot_id.is_some() && record.boot_id != identity::boot_id() {
        return Err(failed().hint("it began before this machine was started, or on another one"));
    }
    let stopped = match holder::terminate(runner, &log) {
        // The log may be gone, or another one.
        Err(HolderError::Other(_)) => holder::terminate(runner, &mark),
        stopped => stopped,
    };
    stopped.map_err(|error| {
        let hint = match &error {
            HolderError::Forbidden(_) => "cancel it as the user who started it, or as root",
            HolderError::Other(_) => {
                "its runner may be in another container, where it can be cancelled; \
                 nothing was signalled"
            }
            HolderError::System(..) => "nothing was signalled",
        };
        failed().because(error).hint(hint)
    })
}

async fn wait(layout: &Layout, run: &Run, limit: Duration) -> Result<Run, CliError> {
    let began = Instant::now();
    loop {
        let run = reader::read_run(layout, run.path.clone());
        if run.record.outcome.is_final() {
            return Ok(run);
        }
        if began.elapsed() > limit {
            let words = duration::words(limit);
            let message = format!("{} has not ended within {words}", run.path);
            return Err(CliError::failure(message).hint("`cancel` once more ends it at once"));
        }
        sleep(PAUSE).await;
    }
}
