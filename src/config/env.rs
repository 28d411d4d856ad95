//! The environment, read once: the only place that reads environment variables.
//!
//! An empty or blank variable counts as unset.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::config::settings::Warning;
use crate::model::ids::AgentName;
use crate::model::text;

/// `true` in every step of a workflow of GitHub Actions, and the file of the step's summary.
pub(crate) const GITHUB_ACTIONS: &str = "GITHUB_ACTIONS";
pub(crate) const GITHUB_STEP_SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// Where a service manager hears from its service, and how often it wants to, in microseconds. See
/// `sd_notify(3)` and `sd_watchdog_enabled(3)`.
pub(crate) const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
pub(crate) const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
pub(crate) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Names the configuration file.
pub(crate) const CONFIG: &str = "AGENT_RUNNER_CONFIG";

/// What all variables of this program begin with.
const PREFIX: &str = "AGENT_RUNNER_";

/// Set for an agent, which may start this program itself.
const RUN_ID: &str = "AGENT_RUNNER_RUN_ID";
const MARKER: &str = "AGENT_RUNNER_MARKER";

/// Set by a shell that asks for completions.
pub(crate) const COMPLETE: &str = "AGENT_RUNNER_COMPLETE";

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

/// An environment variable that sets a key of the configuration file.
#[derive(Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) key: &'static str,
}

/// Every variable that sets a key. `AGENT_RUNNER_<AGENT>_BIN` comes on top, see
/// [`binary_variable`].
pub(crate) const VARIABLES: &[Variable] = &[
    variable("AGENT_RUNNER_TIMEOUT_SECONDS", "runner.timeout"),
    variable("AGENT_RUNNER_REPO_ROOT", "runner.repo_root"),
    variable("AGENT_RUNNER_LOG_ROOT", "runner.log_root"),
    variable("AGENT_RUNNER_PROMPTS_DIR", "runner.prompts_dir"),
    variable("AGENT_RUNNER_PATH_PREFIX", "runner.path_prefix"),
    variable("AGENT_RUNNER_METRICS_FILE", "runner.metrics_file"),
    variable("AGENT_RUNNER_NTFY_SERVER", "ntfy.server"),
    variable("AGENT_RUNNER_NTFY_TOPIC", "ntfy.topic"),
    variable("AGENT_RUNNER_NTFY_TOKEN", "ntfy.token"),
    variable("AGENT_RUNNER_QUEUE_URL", "queue.url"),
    variable("GITHUB_API_URL", "github.api_url"),
    variable("GITHUB_SERVER_URL", "github.server_url"),
    variable("GITHUB_TOKEN", "github.token"),
    variable("GITHUB_APP_ID", "github.app_id"),
    variable("GITHUB_APP_PRIVATE_KEY_PATH", "github.app_key_file"),
    variable("GITHUB_APP_INSTALLATION_ID", "github.app_installation"),
    variable("DISPATCH_REPO", "dispatch.repo"),
    variable("HANDSFREE_AGENT_DISPATCH_REPO", "dispatch.repo"),
    variable("DISPATCH_LABEL", "dispatch.label"),
    variable("DISPATCH_AGENT", "dispatch.agent"),
    variable("AGENT_NAME", "dispatch.agent_name"),
    variable("POLL_INTERVAL_SECONDS", "dispatch.poll_interval"),
    variable("MAX_CONCURRENT_TASKS", "dispatch.concurrency"),
    variable("MAX_TASK_RETRIES", "dispatch.attempts"),
    variable("RETRY_DELAY_SECONDS", "dispatch.retry_pause"),
    variable("AGENT_RUNNER_METRICS", "dispatch.metrics"),
    variable("AGENT_RUNNER_GEMINI_MODEL", "agents.gemini.model"),
    variable("OLLAMA_MODEL", "agents.ollama.model"),
    variable("OPENCODE_MODEL", "agents.opencode.model"),
    variable("QWEN_MODEL", "agents.qwen.model"),
];

const fn variable(name: &'static str, key: &'static str) -> Variable {
    Variable { name, key }
}

/// The variable that names an agent's binary: `AGENT_RUNNER_CODEX_BIN`.
pub(crate) fn binary_variable(agent: &AgentName) -> String {
    let agent = agent.as_str().to_ascii_uppercase().replace('-', "_");
    format!("AGENT_RUNNER_{agent}_BIN")
}

/// The variables of a process, as they were when it started.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// Reads the variables of this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    /// Every variable, for what is inherited by an agent. Values may be secret.
    pub fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.variables
    }

    /// The value of a variable; `None` when it is unset, empty or blank.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        (!is_blank(value)).then_some(value)
    }

    /// Says of each variable that begins like ours and is none what may have been meant.
    pub(crate) fn unknown<'a>(
        &self,
        agents: impl Iterator<Item = &'a AgentName>,
    ) -> impl Iterator<Item = Warning> {
        let mut known: Vec<String> = agents.map(binary_variable).collect();
        known.extend(VARIABLES.iter().map(|known| known.name.to_owned()));
        known.extend([CONFIG, RUN_ID, MARKER, COMPLETE].map(str::to_owned));
        let set = |(name, value): (&OsString, &OsString)| {
            let name = name.to_str()?.to_owned();
            (name.starts_with(PREFIX) && !is_blank(value)).then_some(name)
        };
        let names: Vec<String> = self.variables.iter().filter_map(set).collect();
        names.into_iter().filter_map(move |name| {
            let mut names = known.iter().map(String::as_str);
            if names.any(|known| known == name) {
                return None;
            }
            // What all of them begin with makes none near.
            let (own, owns) = (&name[PREFIX.len()..], known.iter());
            let owns = owns.filter_map(|known| known.strip_prefix(PREFIX));
            let nearest = text::nearest(own, owns).map(|near| format!("{PREFIX}{near}"));
            let meant = nearest.map_or("docs/config.md lists them".to_owned(), |nearest| {
                format!("did you mean `{nearest}`?")
            });
            Some(Warning {
                about: "environment",
                what: format!("the environment variable `{name}` is unknown and has no effect"),
                fix: format!("correct or unset it; {meant}"),
            })
        })
    }

    /// The variables that set something for runs here, each with the key of the configuration file
    /// that does so everywhere.
    pub(crate) fn settings_of_runs<'a>(
        &self,
        agents: impl Iterator<Item = &'a AgentName>,
    ) -> impl Iterator<Item = (String, String)> {
        let is_of_runs = |known: &&Variable| {
            let sections = ["dispatch.", "github.", "runner.path_prefix"];
            !sections
                .iter()
                .any(|section| known.key.starts_with(section))
        };
        let general = VARIABLES.iter().filter(is_of_runs);
        let general = general.map(|known| (known.name.to_owned(), known.key.to_owned()));
        let programs = agents.map(|name| (binary_variable(name), format!("agents.{name}.binary")));
        let is_set = |(name, _): &(String, String)| self.get(name).is_some();
        general.chain(programs).filter(is_set)
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The user's home directory, when it is told.
    pub fn home(&self) -> Option<PathBuf> {
        self.path("HOME")
    }

    /// The user's directory for configuration; a relative `XDG_CONFIG_HOME` does not count.
    pub(crate) fn user_directory(&self) -> Option<PathBuf> {
        self.path("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(self.home()?.join(".config")))
    }
}

impl<Name: Into<OsString>, Value: Into<OsString>> FromIterator<(Name, Value)> for Environment {
    fn from_iter<Pairs: IntoIterator<Item = (Name, Value)>>(pairs: Pairs) -> Self {
        let variables = pairs
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self { variables }
    }
}

// By hand: values may be secret.
impl std::fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_set()
            .entries(self.variables.keys())
            .finish()
    }
}
