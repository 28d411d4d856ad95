//! What the heartbeat expects by now: a success of each task that names a time for it, and starts
//! that were missed while the machine was off.

use chrono::{DateTime, TimeDelta, Utc};

use super::due;
use crate::cli::args::{OverlapPolicy, RunArguments};
use crate::cli::error::CliError;
use crate::cli::wiring::World;
use crate::config::schedule::Scheduled;
use crate::config::settings::Settings;
use crate::model::ids::TaskName;
use crate::model::message::Message;
use crate::model::outcome::Outcome;
use crate::model::task::CatchUp;
use crate::model::text::chain;
use crate::notify::wording;
use crate::store::beats::Beats;
use crate::store::layout::Layout;
use crate::store::outbox::{Entry, Outbox};
use crate::store::reader::{self, Filter};
use crate::store::since::Since;
use crate::store::{StoreError, told};
use crate::triage::late;

/// Tells once of every task whose success is overdue, and once when one has succeeded again.
/// `is_told`: there is a server to tell it to.
pub(super) fn tell(
    world: &World,
    settings: &Settings,
    layout: &Layout,
    beats: &Beats,
    now: DateTime<Utc>,
    is_told: bool,
) -> Result<(), CliError> {
    let Some(began) = beats.first else {
        return Ok(());
    };
    let failed = |error| CliError::failure("an overdue success cannot be told").because(error);
    for settings in settings.tasks.values() {
        let task = &settings.task;
        let Some(within) = task.expect_success_within else {
            continue;
        };
        // A run that ended in time may have begun long before.
        let reach = TimeDelta::from_std(within + task.timeout * 2).unwrap_or(TimeDelta::MAX);
        let since = now.checked_sub_signed(reach);
        let last = last_success(layout, &task.name, since, now).map_err(failed)?;
        let ended = last.as_ref().map(|(_, end)| *end);
        let is_overdue = late::is_overdue(within, ended, began, now);
        let (occasion, subject) = (
            if is_overdue { "overdue" } else { "good" },
            format!("expect.{}", task.name),
        );
        let name = task.name.as_str();
        let put = |event: String, message: Message| {
            world.ui.talk(&format!("warning: {}", message.title));
            if !is_told {
                return Ok(());
            }
            Outbox::new(layout).put(&Entry::of_event(&event, message, now))
        };
        // Ends are noted by the second.
        let alarm = told::told_at(layout, &subject).map_or(DateTime::<Utc>::MAX_UTC, |told| {
            told - TimeDelta::seconds(1)
        });
        let tell = |before: &str| {
            let last = if is_overdue {
                last_success(layout, &task.name, None, now)?
            } else {
                last
            };
            let last = last.as_ref().map(|(run, end)| (run.as_str(), *end));
            let of = last.map_or("none".to_owned(), |(run, _)| run.replace('/', "."));
            match (is_overdue, before) {
                (true, _) => put(
                    format!("overdue.{name}.{of}"),
                    wording::of_overdue(name, within, last),
                ),
                // A longer time to wait, or another clock, is no success.
                (false, "overdue") => match last.filter(|(_, end)| *end >= alarm) {
                    Some(last) => put(
                        format!("recovered.{name}.{of}"),
                        wording::of_recovered(name, last),
                    ),
                    None => Ok(()),
                },
                (false, _) => Ok(()),
            }
        };
        told::tell_once(layout, &subject, occasion, tell).map_err(failed)?;
    }
    Ok(())
}

/// The newest success of a task, among the newest thousand runs that began since a time.
fn last_success(
    layout: &Layout,
    task: &TaskName,
    since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Option<(String, DateTime<Utc>)>, StoreError> {
    let filter = Filter {
        task: Some(task.clone()),
        since,
        ..Filter::past(now)
    };
    let mut runs = reader::runs(layout, &filter)?.take(1000).filter(|run| {
        matches!(run.record.outcome, Outcome::Success | Outcome::NoChange)
            && run.record.debug_prompt.is_none()
    });
    Ok(runs.next().and_then(|run| {
        Some((
            run.path.to_string(),
            run.record.end_time.or(run.record.start_time)?,
        ))
    }))
}

/// Starts one run that was missed while nobody was there, and carries it out. The next heartbeat
/// takes the next one. `configured` is since when each line is known.
pub(super) fn catch_up(
    world: &World,
    settings: &Settings,
    layout: &Layout,
    beats: &Beats,
    configured: &Since,
    now: DateTime<Utc>,
) -> Result<(), CliError> {
    let Some(began) = beats.first else {
        return Ok(());
    };
    for entry in due::configured(settings, layout).filter(|entry| entry.catch_up == CatchUp::Once) {
        // Whoever starts it in time may be a little late.
        let slack = TimeDelta::from_std(entry.jitter).unwrap_or_default() + TimeDelta::minutes(2);
        // What was not scheduled then is not made up for.
        let since = configured.get(&due::line(&entry)).copied().flatten();
        let after = since
            .into_iter()
            .fold(now - late::MAX_CATCH_UP, DateTime::max);
        let fires = entry.expression.fires(entry.zone(), after, now - slack);
        let is_started = |fire| is_started(layout, &entry, fire, now);
        let Some(fire) = late::missed(fires, began, &beats.recent, is_started) else {
            continue;
        };
        let (task, agent) = (entry.task.as_str(), &entry.agent);
        let subject = format!("caught-up.{task}.{agent}");
        let is_first = told::first_told(layout, &subject, &fire.to_rfc3339());
        if !is_first
            .map_err(|error| CliError::failure("a missed run cannot be noted").because(error))?
        {
            continue;
        }
        world.ui.talk(&format!(
            "warning: {task}/{agent} was missed at {fire}; it is started now"
        ));
        return super::run::run(world, &run_arguments(task, agent)).map(drop);
    }
    Ok(())
}

fn is_started(layout: &Layout, entry: &Scheduled, fire: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    let filter = Filter {
        task: Some(entry.task.clone()),
        agent: entry.agent.parse().ok().filter(|_| entry.agent != "auto"),
        since: Some(fire),
        ..Filter::past(now)
    };
    match reader::runs(layout, &filter) {
        Ok(mut runs) => runs.next().is_some(),
        Err(error) => {
            tracing::warn!(error = chain(&error), "nothing is made up for");
            true
        }
    }
}

fn run_arguments(task: &str, agent: &str) -> RunArguments {
    RunArguments {
        agent: agent.to_owned(),
        task: task.to_owned(),
        debug: false,
        debug_prompt: None,
        dry_run: false,
        timeout: None,
        model: None,
        repo: None,
        request: None,
        // What runs now is what was missed elsewhere, or what is due now.
        overlap: Some(OverlapPolicy::Wait),
        isolation: None,
        follow: false,
        json: false,
    }
}
