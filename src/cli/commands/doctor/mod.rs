//! `doctor`: what is wrong before a run finds it out, and what to do about it.

mod agents;
mod gather;
mod network;
mod page;

use std::time::Duration;

use serde_json::{Value, json};

use crate::checkup::facts::Facts;
use crate::checkup::{self, Finding, Level};
use crate::cli::args::DoctorArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::config::settings::{AgentSettings, Settings};
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS, Outcome, exit_of_signal};
use crate::model::text::{self, chain};
use crate::store::probed;

/// The longest run on trial.
const PROBE_LIMIT: Duration = Duration::from_secs(120);

/// Looks at everything that runs need; exits 1 when something would make one fail.
///
/// Takes at most half a minute, runs on trial aside.
pub(crate) fn doctor(world: &World, arguments: &DoctorArguments) -> Result<u8, CliError> {
    let settings = world.settings_quietly(Overrides::default())?;
    if let Some(Some(agent)) = &arguments.probe {
        settings.agent(agent)?;
    }
    let mut facts = gather::gather(world, &settings, arguments)?;
    if let Some(named) = &arguments.probe
        && let Some(signal) = probe_all(world, &settings, named.as_deref(), &mut facts)?
    {
        return Ok(exit_of_signal(signal));
    }
    let findings = checkup::findings(&facts);
    if arguments.json {
        world.ui.data(&format!("{:#}", json(&findings)));
    } else {
        world.ui.data(&page::page(&world.ui, &findings));
    }
    let is_bad = findings.iter().any(|finding| finding.level == Level::Error);
    Ok(if is_bad { EXIT_FAILURE } else { EXIT_SUCCESS })
}

fn json(findings: &[Finding]) -> Value {
    let worst = findings.iter().map(|finding| finding.level).max();
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "section": finding.section.as_str(),
                "level": finding.level.as_str(),
                "subject": finding.subject,
                "what": text::sanitize(&finding.what),
                "fix": finding.fix,
            })
        })
        .collect();
    json!({ "level": worst.unwrap_or(Level::Ok).as_str(), "findings": list })
}

/// Lets the named agent, or every installed one, do a small run; gives the signal that ended it.
fn probe_all(
    world: &World,
    settings: &Settings,
    named: Option<&str>,
    facts: &mut Facts,
) -> Result<Option<i32>, CliError> {
    for agent in &mut facts.agents {
        let is_wanted = match named {
            Some(name) => agent.name.as_str() == name,
            None => matches!(agent.program, Ok(Some(_))),
        };
        let Some(settings_of_it) = settings.agents.get(&agent.name).filter(|_| is_wanted) else {
            continue;
        };
        world.ui.talk(&format!("{}: a small run …", agent.name));
        match probe(world, settings, settings_of_it)? {
            Probed::Done(result) => agent.probe = Some(result),
            Probed::Stopped(signal) => return Ok(Some(signal)),
        }
    }
    Ok(None)
}

enum Probed {
    Done(Result<(), String>),
    Stopped(i32),
}

fn probe(world: &World, settings: &Settings, agent: &AgentSettings) -> Result<Probed, CliError> {
    let task = settings.task("debug_hello_simple")?;
    let mut plan = wiring::plan(world, settings, agent, task)?;
    plan.debug_prompt = Some("ping");
    plan.task.notify = false;
    plan.task.retries = 0;
    plan.limits.timeout = plan.limits.timeout.min(PROBE_LIMIT);
    let record = match super::run::carry_out(world, settings, vec![plan], false) {
        Ok(record) => record,
        Err(error) => return Ok(Probed::Done(Err(error.brief()))),
    };
    Ok(match record.outcome {
        Outcome::Success => {
            let layout = wiring::layout(settings);
            let noted = probed::note(&layout, &agent.name, &record.path());
            Probed::Done(noted.map_err(|error| chain(&error)))
        }
        Outcome::Interrupted { signal } => Probed::Stopped(signal),
        outcome => {
            let why = record.error.as_deref().unwrap_or_default();
            let why = text::first_line(why, 200);
            Probed::Done(Err(format!("{outcome} {why}").trim().to_owned()))
        }
    })
}
