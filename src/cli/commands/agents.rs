//! `agents`: which agents there are, and whether they could start.

use serde_json::{Value, json};

use crate::cli::args::ListArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::config::origin::Sourced;
use crate::config::settings::{AgentSettings, Settings};
use crate::model::outcome::EXIT_SUCCESS;
use crate::process::program::{find_program, packaged_version};

/// Lists the agents.
pub(crate) fn agents(world: &World, arguments: &ListArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let path =
        wiring::inherited(&world.environment, &settings).remove(std::ffi::OsStr::new("PATH"));
    let path = path.unwrap_or_default();
    let found = |agent: &AgentSettings| match &agent.binary {
        None => Ok(None),
        Some(binary) => find_program(&binary.value, &path).map(Some),
    };
    if arguments.json {
        let list: Vec<Value> = settings
            .agents
            .values()
            .map(|agent| describe(agent, &settings, &found(agent)))
            .collect();
        world.ui.data(&format!("{:#}", Value::Array(list)));
        return Ok(EXIT_SUCCESS);
    }
    let mut table = world
        .ui
        .table(&["AGENT", "STATE", "VERSION", "MODEL", "FROM", "PROGRAM"]);
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
        let model = agent.model.as_ref();
        table.row([
            agent.name.to_string(),
            state.to_owned(),
            version,
            model.map_or("its own".to_owned(), |model| model.value.clone()),
            model
                .map(|model| model.origin.to_string())
                .unwrap_or_default(),
            program,
        ]);
    }
    world.ui.data(&table.text());
    let order: Vec<_> = settings
        .runner
        .auto_order
        .value
        .iter()
        .map(ToString::to_string)
        .collect();
    world
        .ui
        .data(&format!("\nauto tries: {}", order.join(", ")));
    Ok(EXIT_SUCCESS)
}

fn describe(
    agent: &AgentSettings,
    settings: &Settings,
    found: &Result<Option<std::path::PathBuf>, crate::process::program::ProgramError>,
) -> Value {
    let program = found.as_ref().ok().and_then(Option::as_ref);
    json!({
        "name": agent.name.as_str(),
        "installed": found.is_ok(),
        "problem": found.as_ref().err().map(ToString::to_string),
        "program": program,
        "version": program.and_then(|program| packaged_version(program)),
        "interface": agent.interface,
        "auto": settings.runner.auto_order.value.contains(&agent.name),
        "binary": agent.binary.as_ref().map(sourced),
        "model": agent.model.as_ref().map(sourced),
        "effort": agent.effort.as_ref().map(sourced),
        "args": sourced(&agent.arguments),
        "env": agent.environment.value.keys().collect::<Vec<_>>(),
        "pass_env": sourced(&agent.pass_environment),
    })
}

fn sourced<T: serde::Serialize>(sourced: &Sourced<T>) -> Value {
    json!({ "value": sourced.value, "origin": sourced.origin.to_string() })
}
