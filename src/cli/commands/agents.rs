//! `agents`: which agents there are, and whether they could start; `agents unpark` lets one.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::cli::args::{AgentsAction, AgentsArguments};
use crate::cli::columns::{Column, Columns};
use crate::cli::error::CliError;
use crate::cli::sharing::Sharing;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::origin::Sourced;
use crate::config::settings::{AgentSettings, Settings};
use crate::model::clock::Clock as _;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::parking::Parking;
use crate::model::text;
use crate::process::program::{find_program, packaged_version};
use crate::store::parked;

/// Lists the agents, or does something with one.
pub(crate) fn agents(world: &World, arguments: &AgentsArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    match &arguments.action {
        None => {
            if let Some(sharing) = Sharing::new(&settings)? {
                wiring::block_on(sharing.exchange(Some(&world.ui), &[]))?;
            }
            list(world, &settings, arguments.json);
        }
        Some(AgentsAction::Unpark { agent }) => unpark(world, &settings, agent)?,
    }
    Ok(EXIT_SUCCESS)
}

fn unpark(world: &World, settings: &Settings, name: &str) -> Result<(), CliError> {
    let agent = settings.agent(name)?;
    let (layout, now) = (wiring::layout(settings), SystemClock.now());
    let parking = parked::parked(&layout, &agent.name, now);
    if let Some(sharing) = Sharing::new(settings)? {
        let stays = |error| {
            CliError::failure("the agent stays parked: other machines are not told").because(error)
        };
        wiring::block_on(sharing.unpark(&agent.name))?.map_err(stays)?;
    }
    parked::unpark(&layout, &agent.name)
        .map_err(|error| CliError::failure("the agent stays parked").because(error))?;
    world.ui.talk(&match parking {
        Some(parking) => format!("`{name}` may start again; it was {}", parking.words(now)),
        None => format!("`{name}` is not parked"),
    });
    Ok(())
}

fn list(world: &World, settings: &Settings, as_json: bool) {
    let path = wiring::inherited(&world.environment, settings).remove(std::ffi::OsStr::new("PATH"));
    let path = path.unwrap_or_default();
    let found = |agent: &AgentSettings| match &agent.binary {
        None => Ok(None),
        Some(binary) => find_program(&binary.value, &path).map(Some),
    };
    let (layout, now) = (wiring::layout(settings), SystemClock.now());
    let parking = |agent: &AgentSettings| parked::parked(&layout, &agent.name, now);
    if as_json {
        let list: Vec<Value> = settings
            .agents
            .values()
            .map(|agent| describe(agent, settings, &found(agent), parking(agent)))
            .collect();
        world.ui.data(&format!("{:#}", Value::Array(list)));
        return;
    }
    let mut rows = Vec::new();
    let mut notes = String::new();
    for agent in settings.agents.values() {
        let (state, version, program) = match found(agent) {
            Ok(None) => (
                "built in",
                env!("CARGO_PKG_VERSION").to_owned(),
                String::new(),
            ),
            Ok(Some(program)) => (
                "installed",
                packaged_version(&program).unwrap_or_default(),
                program.display().to_string(),
            ),
            Err(error) => ("missing", String::new(), error.brief()),
        };
        let state = match parking(agent) {
            Some(parking) => {
                notes.push_str(&note(agent, &parking, now));
                "parked"
            }
            None => state,
        };
        let model = agent.model.as_ref();
        rows.push([
            agent.name.to_string(),
            state.to_owned(),
            version,
            match (model, &agent.binary) {
                (Some(model), _) => model.value.clone(),
                (None, Some(_)) => "its own".to_owned(),
                // The runner itself.
                (None, None) => "none".to_owned(),
            },
            model
                .map(|model| model.origin.to_string())
                .unwrap_or_default(),
            program,
        ]);
    }
    let columns = Columns::fit(
        world.ui.width(),
        [
            Column::new("AGENT", 0),
            Column::new("STATE", 1),
            Column::new("VERSION", 4),
            Column::new("MODEL", 2).cut_to(16),
            Column::new("FROM", 5),
            Column::new("PROGRAM", 3).cut_to(24),
        ],
        rows.iter().cloned(),
    );
    world.ui.data(&columns.page(&rows));
    let order: Vec<_> = settings
        .runner
        .auto_order
        .value
        .iter()
        .map(ToString::to_string)
        .collect();
    let order = order.join(", ");
    world.ui.prose(&format!("\nauto tries: {order}{notes}"));
}

/// The line below the table for an agent that is parked.
fn note(agent: &AgentSettings, parking: &Parking, now: DateTime<Utc>) -> String {
    let words = parking.words(now);
    let reason = text::first_line(&parking.reason, 200);
    let run = text::first_line(&parking.run, 200);
    format!("\n{} is {words} by {run}: {reason}", agent.name)
}

fn describe(
    agent: &AgentSettings,
    settings: &Settings,
    found: &Result<Option<std::path::PathBuf>, crate::process::program::ProgramError>,
    parking: Option<Parking>,
) -> Value {
    let program = found.as_ref().ok().and_then(Option::as_ref);
    json!({
        "name": agent.name.as_str(),
        "installed": found.is_ok(),
        "problem": found.as_ref().err().map(ToString::to_string),
        "program": program,
        "parked": parking.map(|parking| json!({
            "since": parking.since.to_rfc3339(),
            "until": parking.until.to_rfc3339(),
            "run": parking.run,
            "reason": parking.reason,
        })),
        "version": program.and_then(|program| packaged_version(program)),
        "interface": agent.interface,
        "auto": settings.runner.auto_order.value.contains(&agent.name),
        "binary": agent.binary.as_ref().map(sourced),
        "model": agent.model.as_ref().map(sourced),
        "effort": agent.effort.as_ref().map(sourced),
        "args": sourced(&agent.arguments),
        "env": agent.environment.value.keys().collect::<Vec<_>>(),
        "pass_env": sourced(&agent.pass_environment),
        "max_runs_per_day": agent.caps.runs,
        "max_tokens_per_day": agent.caps.tokens,
        "max_usd_per_day": agent.caps.usd,
    })
}

fn sourced<T: serde::Serialize>(sourced: &Sourced<T>) -> Value {
    json!({ "value": sourced.value, "origin": sourced.origin.to_string() })
}
