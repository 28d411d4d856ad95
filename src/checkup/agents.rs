//! The agents' CLIs.

use crate::agents::installation::{Standing, standing};
use crate::checkup::facts::{Agent, Facts, SignIn};
use crate::checkup::{Report, Section};
use crate::config::env;

const SECTION: Section = Section::Agents;

pub(super) fn agents(facts: &Facts, report: &mut Report) {
    let is_installed = |agent: &&Agent| matches!(agent.program, Ok(Some(_)));
    let mut missing = Vec::new();
    for agent in &facts.agents {
        match &agent.program {
            Ok(program) => {
                let program = program
                    .as_ref()
                    .map(|program| program.display().to_string());
                installed(agent, program.as_deref(), report);
            }
            Err(why) if !agent.wanted_by.is_empty() => {
                let by = agent.wanted_by.join(", ");
                let what = format!("{why}, and it is started by {by}");
                report.error(
                    SECTION,
                    agent.name.as_str(),
                    what,
                    remedy_for_missing(agent),
                );
            }
            Err(_) => missing.push(agent.name.as_str()),
        }
        if let Some(Err(why)) = &agent.probe {
            let fix = format!(
                "agent-runner explain latest:debug_hello_simple/{}",
                agent.name
            );
            report.error(
                SECTION,
                agent.name.as_str(),
                format!("its run on trial failed: {why}"),
                fix,
            );
        } else if let Some(Ok(())) = agent.probe {
            report.ok(SECTION, agent.name.as_str(), "did a small run on trial");
        }
    }
    if facts.agents.iter().find(is_installed).is_none() {
        let what = "none is installed: there is nothing to run but `patch`";
        report.error(
            SECTION,
            "all",
            what,
            "install one; or name it, as in AGENT_RUNNER_CODEX_BIN or AGENT_RUNNER_PATH_PREFIX",
        );
    } else if !missing.is_empty() {
        let what = format!("not in PATH: {}", missing.join(", "));
        let fix = "nothing, unless you want to use them; `agent-runner agents` tells more";
        report.note(SECTION, "others", what, fix);
    }
}

fn remedy_for_missing(
    Agent {
        name, binary_key, ..
    }: &Agent,
) -> String {
    let variable = env::binary_variable(name);
    format!(
        "install it, or name it: {variable}, AGENT_RUNNER_PATH_PREFIX, \
         or `{binary_key}` in [agents.{name}]"
    )
}

fn installed(agent: &Agent, program: Option<&str>, report: &mut Report) {
    let name = agent.name.as_str();
    if let Some(why) = &agent.no_interpreter {
        let what = format!("{} is a script, and {why}", program.unwrap_or(name));
        let fix = "put the interpreter's directory into PATH or AGENT_RUNNER_PATH_PREFIX";
        report.error(SECTION, name, what, fix);
        return;
    }
    let version = agent.version.as_deref();
    let Some(program) = program else {
        report.ok(SECTION, name, "built in");
        return;
    };
    let sign_in = match &agent.sign_in {
        SignIn::Seen(sign) => format!(", signed in by {sign}"),
        SignIn::NotSeen(_) | SignIn::NotNeeded(_) => String::new(),
        SignIn::Unknown => ", whether signed in cannot be seen".to_owned(),
    };
    let version_text = version.unwrap_or("of unknown version");
    report.ok(SECTION, name, format!("{version_text}, {program}{sign_in}"));
    match agent.sign_in {
        SignIn::NotSeen(remedy) => {
            let what = "no sign of being signed in: neither a file of its own nor a key";
            report.warning(SECTION, name, what, remedy);
        }
        SignIn::NotNeeded(remedy) => {
            let what = "no sign of being signed in: only free models work";
            report.note(SECTION, name, what, remedy);
        }
        SignIn::Seen(_) | SignIn::Unknown => {}
    }
    if let Some((version, tested)) = version.zip(agent.tested) {
        let fix = format!("agent-runner doctor --probe {name}");
        match standing(version, tested) {
            Standing::Newer => {
                let what = format!("{version} is newer than {tested}, which was tested");
                report.note(SECTION, name, what, fix);
            }
            Standing::Older => {
                let what = format!("{version} is older than {tested}, which was tested");
                report.note(SECTION, name, what, format!("update it, or try it: {fix}"));
            }
            Standing::Tested | Standing::Unknown => {}
        }
    }
    if let Some(parking) = &agent.parked {
        let fix = format!("wait, or `agent-runner agents unpark {name}`");
        report.warning(SECTION, name, parking, fix);
    }
}
