//! What can be seen of the agents: program, version, sign-in, parking.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agents::installation::{SIGN_INS, TESTED, version_in};
use crate::agents::{self, AgentInterface};
use crate::checkup::facts::{Agent, SignIn};
use crate::cli::commands::due;
use crate::cli::wiring::{self, SystemClock};
use crate::config::settings::{AgentSettings, Settings};
use crate::model::clock::Clock as _;
use crate::planner;
use crate::process::budget::Budget;
use crate::process::command::{self, HelperCommand, RunningHelper};
use crate::process::program::{find_program, interpreter, packaged_version};
use crate::schedule::crontab::Job;
use crate::store::layout::Layout;
use crate::store::parked;

/// The longest time for all CLIs to tell their versions.
const LIMIT: Duration = Duration::from_secs(5);

/// The agents, but for who wants them.
pub(super) fn agents(settings: &Settings, inherited: &BTreeMap<OsString, OsString>) -> Vec<Agent> {
    let path = inherited
        .get(OsStr::new("PATH"))
        .cloned()
        .unwrap_or_default();
    let budget = Budget::new(LIMIT);
    let (layout, now) = (wiring::layout(settings), SystemClock.now());
    let agents: Vec<_> = settings
        .agents
        .values()
        .map(|settings| {
            let parked = parked::parked(&layout, &settings.name, now);
            let parked = parked.map(|parking| parking.words(now));
            let (agent, helper) = look(settings, inherited, &path, &budget);
            (Agent { parked, ..agent }, helper)
        })
        .collect();
    // All were started before the first is waited for.
    agents
        .into_iter()
        .map(|(mut agent, helper)| {
            let told = helper.and_then(|helper| helper.finish_within(1 << 16).ok());
            if let Some(told) = told.filter(|told| told.code == Some(0)) {
                let text = String::from_utf8_lossy(&told.stdout).into_owned() + &told.stderr;
                agent.version = version_in(&text).map(str::to_owned);
            }
            agent
        })
        .collect()
}

fn look(
    settings: &AgentSettings,
    inherited: &BTreeMap<OsString, OsString>,
    path: &OsStr,
    budget: &Budget,
) -> (Agent, Option<RunningHelper>) {
    let is_built_in = settings.command.is_none();
    let program = match &settings.binary {
        None => Ok(None),
        Some(binary) => find_program(&binary.value, path).map(Some),
    };
    let file = program.as_ref().ok().and_then(Option::as_ref);
    let no_interpreter = file
        .and_then(|file| interpreter(file))
        .and_then(|interpreter| find_program(&interpreter, path).err())
        .map(|error| error.brief());
    let version = file
        .filter(|_| is_built_in)
        .and_then(|file| packaged_version(file));
    let asks = is_built_in && version.is_none() && no_interpreter.is_none();
    let helper = file
        .filter(|_| asks)
        .and_then(|file| ask(file, inherited, budget));
    let tested = TESTED
        .iter()
        .find(|(name, _)| is_built_in && *name == settings.interface);
    let agent = Agent {
        name: settings.name.clone(),
        binary_key: wiring::binary_key(settings),
        no_interpreter,
        version,
        tested: tested.map(|(_, version)| *version),
        sign_in: sign_in(settings, inherited),
        parked: None,
        wanted_by: Vec::new(),
        probe: None,
        program: program.map_err(|error| error.brief()),
    };
    (agent, helper)
}

/// Asks a CLI for its version, with what any agent may see of the environment.
fn ask(
    program: &Path,
    inherited: &BTreeMap<OsString, OsString>,
    budget: &Budget,
) -> Option<RunningHelper> {
    let environment: Vec<_> = planner::inheritable(inherited, &[], &[])
        .into_iter()
        .collect();
    let started = command::start(&HelperCommand {
        program: program.as_os_str(),
        arguments: &[OsStr::new("--version")],
        directory: Path::new("/"),
        environment: &environment,
        stdin: &[],
        limit: LIMIT,
        budget: Some(budget),
        record_bytes: None,
    });
    started.ok()
}

fn sign_in(settings: &AgentSettings, inherited: &BTreeMap<OsString, OsString>) -> SignIn {
    let sign = SIGN_INS
        .iter()
        .find(|sign| sign.agent == settings.interface);
    let Some(sign) = sign.filter(|_| settings.command.is_none()) else {
        return SignIn::Unknown;
    };
    let set = |name: &str| {
        let value = inherited
            .get(OsStr::new(name))
            .filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let configured = settings.environment.value.keys().map(String::as_str);
    let configured = configured.filter(|name| name.ends_with("_KEY") || name.ends_with("_TOKEN"));
    let credentials =
        agents::find(&settings.interface).map_or(&[][..], AgentInterface::credentials);
    let named = credentials.iter().chain(sign.instead).copied();
    let passed = settings.pass_environment.value.iter().map(String::as_str);
    let inherited = named.chain(passed).filter(|name| set(name).is_some());
    if let Some(name) = configured.chain(inherited).next() {
        return SignIn::Seen(name.to_owned());
    }
    let (variable, file) = sign.relocated;
    let relocated = set(variable).map(|directory| directory.join(file));
    let file = relocated.or_else(|| Some(set("HOME")?.join(sign.file)));
    match file.filter(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0)) {
        Some(file) => SignIn::Seen(file.display().to_string()),
        None if sign.is_optional => SignIn::NotNeeded(sign.remedy),
        None => SignIn::NotSeen(sign.remedy),
    }
}

/// Notes who would start which agent.
pub(super) fn note_wanted(
    agents: &mut [Agent],
    settings: &Settings,
    layout: &Layout,
    jobs: &[Job],
) {
    let scheduled: Vec<_> = due::configured(settings, layout).collect();
    for agent in agents {
        let name = agent.name.as_str();
        let by_task = (scheduled.iter())
            .filter(|entry| entry.agent == name)
            .map(|entry| format!("the task {}", entry.task));
        let dispatch = settings
            .dispatch
            .repo
            .as_ref()
            .map(|_| &settings.dispatch.agent.value);
        let by_dispatch = dispatch
            .filter(|list| list.split(',').any(|wanted| wanted.trim() == name))
            .map(|_| "dispatch".to_owned());
        let by_crontab = jobs.iter().find(|job| names(job, name));
        let by_crontab = by_crontab.map(|_| "the crontab".to_owned());
        agent.wanted_by = by_task.chain(by_dispatch).chain(by_crontab).collect();
    }
}

/// Whether a line of the crontab starts the agent of this name.
pub(super) fn names(job: &Job, agent: &str) -> bool {
    let call = job.call();
    let list = call.as_ref().and_then(|call| call.option("--agent"));
    list.is_some_and(|list| list.split(',').any(|name| name.trim() == agent))
}
