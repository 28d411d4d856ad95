//! The resolved settings: what the rest of the program works with.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::config::origin::{Origin, Sourced};
use crate::model::caps::Caps;
use crate::model::ids::{AgentName, TaskName};
use crate::model::invocation::{PromptDelivery, StopSignal};
use crate::model::repository::RepositoryName;
use crate::model::secret::Secret;
use crate::model::task::{Containment, Isolation, Overlap, Task};
use crate::model::text;

/// What a person is told of settings that can be in force.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Warning {
    /// Whether it is about the `file`, the `environment` or a `secret`.
    pub about: &'static str,
    /// How it is.
    pub what: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.what, self.fix)
    }
}

/// Everything that is set for this call. Paths are absolute.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The configuration file that was found.
    pub file: Option<PathBuf>,
    /// The keys that the environment sets, or the file otherwise than by default, and which of them.
    pub set: BTreeMap<String, Origin>,
    /// What is in force and probably not meant.
    pub warnings: Vec<Warning>,
    /// What holds for every run.
    pub runner: RunnerSettings,
    /// Who commits where the repository names nobody.
    pub git: GitSettings,
    /// Where finished runs are told.
    pub ntfy: NtfySettings,
    /// Where claims are kept.
    pub queue: QueueSettings,
    /// How GitHub is reached.
    pub github: GithubSettings,
    /// Work that comes from dispatch issues.
    pub dispatch: DispatchSettings,
    /// Every agent, built in or configured.
    pub agents: BTreeMap<AgentName, AgentSettings>,
    /// Every task, built in or configured.
    pub tasks: BTreeMap<TaskName, TaskSettings>,
}

impl Settings {
    /// The agent that a person named.
    pub fn agent(&self, name: &str) -> Result<&AgentSettings, UnknownName> {
        let known = |known: &&AgentSettings| known.name.as_str() == name;
        let names = self.agents.keys().map(AgentName::as_str);
        (self.agents.values().find(known)).ok_or_else(|| UnknownName::new("agent", name, names))
    }

    /// What tells one installation on a machine from another: its file, else its repository.
    pub fn owner(&self) -> &Path {
        let repository = &self.runner.repo_root.value;
        self.file.as_ref().unwrap_or(repository)
    }

    /// The task that a person named.
    pub fn task(&self, name: &str) -> Result<&TaskSettings, UnknownName> {
        let known = |known: &&TaskSettings| known.task.name.as_str() == name;
        let names = self.tasks.keys().map(TaskName::as_str);
        (self.tasks.values().find(known)).ok_or_else(|| UnknownName::new("task", name, names))
    }
}

/// A person named an agent or a task that is not configured.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("there is no {noun} `{name}`; {suggestion}")]
pub struct UnknownName {
    noun: &'static str,
    name: String,
    suggestion: String,
}

impl UnknownName {
    fn new<'a>(
        noun: &'static str,
        name: &str,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Self {
        Self {
            noun,
            name: name.to_owned(),
            suggestion: text::suggest(name, names),
        }
    }
}

/// What holds for every run.
#[derive(Clone, Debug)]
pub struct RunnerSettings {
    /// The repository that agents work in.
    pub repo_root: Sourced<PathBuf>,
    /// The directory of records and logs.
    pub log_root: Sourced<PathBuf>,
    /// The directory of prompt files; it need not exist.
    pub prompts_dir: Sourced<PathBuf>,
    /// Directories to put in front of `PATH`.
    pub path_prefix: Sourced<Vec<PathBuf>>,
    /// The longest run of a task that names no limit.
    pub timeout: Sourced<Duration>,
    /// The longest silence, for tasks that name none; `None` is no limit.
    pub stall_timeout: Sourced<Option<Duration>>,
    /// The time between the stop signal and SIGKILL; zero kills at once.
    pub grace_period: Sourced<Duration>,
    /// The longest silent wait for a rate limit.
    pub limit_patience: Sourced<Duration>,
    /// The longest time for one command of `verify`, for tasks that name none.
    pub verify_timeout: Sourced<Duration>,
    /// What a run does while another one holds its repository, for tasks that name nothing.
    pub overlap: Sourced<Overlap>,
    /// Where a run works, for tasks that name nothing.
    pub isolation: Sourced<Isolation>,
    /// How the processes of a run are held together, for tasks that name nothing; `None` is
    /// `auto`.
    pub containment: Sourced<Option<Containment>>,
    /// Bytes of an output's beginning that are kept.
    pub log_head_bytes: Sourced<u64>,
    /// Bytes of an output's end that are kept.
    pub log_tail_bytes: Sourced<u64>,
    /// The age at which `clean` removes a run; `None` is never.
    pub keep_for: Sourced<Option<Duration>>,
    /// The bytes that all runs may take before `clean` removes the oldest; `None` is any number.
    pub keep_size: Sourced<Option<u64>>,
    /// The file for metrics, absolute.
    pub metrics_file: Option<Sourced<PathBuf>>,
    /// The agents that `auto` tries, in this order.
    pub auto_order: Sourced<Vec<AgentName>>,
    /// How long an agent is parked whose limit has no known end.
    pub park_default: Sourced<Duration>,
    /// How often a failure that passes by itself is tried again, for tasks that name no number.
    pub retries: Sourced<u32>,
    /// The pause before the first of these tries.
    pub retry_pause: Sourced<Duration>,
    /// The US dollars that a run of unknown cost counts as.
    pub worst_case_usd: Sourced<f64>,
    /// The tokens that a run of unknown use counts as.
    pub worst_case_tokens: Sourced<u64>,
}

/// The identity of commits where the repository has none.
#[derive(Clone, Debug)]
pub struct GitSettings {
    /// The name.
    pub name: Sourced<String>,
    /// The address.
    pub email: Sourced<String>,
}

/// Where finished runs are told.
#[derive(Clone, Debug)]
pub struct NtfySettings {
    /// The server's URL.
    pub server: Sourced<String>,
    /// The topic; `None` switches notifications off.
    pub topic: Option<Sourced<String>>,
    /// How the server knows us; `None` publishes without credentials.
    pub credentials: Option<Sourced<NtfyCredentials>>,
}

/// How an ntfy server knows us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NtfyCredentials {
    /// An access token.
    Token(Secret),
    /// A user of the server.
    User {
        /// The user's name.
        name: String,
        /// The user's password.
        password: Secret,
    },
}

/// Where claims on dispatched work are kept.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// `postgres://…` or `sqlite:PATH`; `None` is a file below the log root.
    pub url: Option<Sourced<Secret>>,
}

/// How GitHub is reached.
#[derive(Clone, Debug)]
pub struct GithubSettings {
    /// The base of the REST API.
    pub api_url: Sourced<String>,
    /// The base of clone URLs.
    pub server_url: Sourced<String>,
    /// Who we are; `None` when nothing is configured.
    pub credentials: Option<Sourced<GithubCredentials>>,
    /// The least time between two writes.
    pub write_interval: Sourced<Duration>,
}

/// Who we are on GitHub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GithubCredentials {
    /// A user with a token.
    Token(Secret),
    /// A GitHub App.
    App {
        /// Its id.
        id: u64,
        /// The file of its private key.
        key_file: PathBuf,
        /// Its installation, when it is told.
        installation: Option<u64>,
    },
}

/// Work that comes from dispatch issues.
#[derive(Clone, Debug)]
pub struct DispatchSettings {
    /// The repository whose issues are worked on.
    pub repo: Option<Sourced<RepositoryName>>,
    /// Their label.
    pub label: Sourced<String>,
    /// Who does the work, as for `run --agent`.
    pub agent: Sourced<String>,
    /// The name under which the worker speaks.
    pub agent_name: Sourced<String>,
    /// The pause between two looks.
    pub poll_interval: Sourced<Duration>,
    /// How much is worked on at a time, at least 1.
    pub concurrency: Sourced<u64>,
    /// How often a failing piece of work is tried, at least once.
    pub attempts: Sourced<u64>,
    /// The pause before the second try.
    pub retry_pause: Sourced<Duration>,
    /// How long a claim holds that is not renewed.
    pub lease: Sourced<Duration>,
    /// Where metrics are served.
    pub metrics: Option<Sourced<SocketAddr>>,
    /// The directory of clones, absolute.
    pub workspace: Sourced<PathBuf>,
    /// The longest clone or push.
    pub git_timeout: Sourced<Duration>,
    /// Repositories that may be changed, as `owner/name` or `owner/*`; empty means those of the
    /// dispatch repository's owner.
    pub targets: Sourced<Vec<String>>,
    /// Users who may ask although they cannot write.
    pub authors: Sourced<Vec<String>>,
    /// What a result may contain although it is refused otherwise.
    pub allow: Sourced<Vec<String>>,
    /// The most files that a result may change.
    pub max_files: Sourced<u64>,
    /// The largest single file of a result.
    pub max_file_bytes: Sourced<u64>,
    /// The size of all changed files together.
    pub max_bytes: Sourced<u64>,
}

/// One agent.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// Its name.
    pub name: AgentName,
    /// Which backend speaks to it: a built-in agent's name, `ollama_chat`, or `text`.
    pub interface: String,
    /// The program, a name to be found in `PATH` or an absolute path; `None` when the agent is
    /// part of the runner itself.
    pub binary: Option<Sourced<PathBuf>>,
    /// How an agent that exists in the configuration alone is called; `None` for built-in ones.
    pub command: Option<CommandSettings>,
    /// The model to name; `None` leaves the choice to the CLI.
    pub model: Option<Sourced<String>>,
    /// How much the model should think, in the CLI's own words.
    pub effort: Option<Sourced<String>>,
    /// Arguments to put behind the backend's own.
    pub arguments: Sourced<Vec<String>>,
    /// Variables to set on top of what is inherited. They often hold keys.
    pub environment: Sourced<BTreeMap<String, Secret>>,
    /// Variables to inherit although their names look secret.
    pub pass_environment: Sourced<Vec<String>>,
    /// The most that its runs may use up on one day.
    pub caps: Caps,
}

/// How a configured agent is called.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandSettings {
    /// Arguments after the program.
    pub arguments: Vec<String>,
    /// How the prompt reaches it.
    pub prompt: PromptDelivery,
    /// The flag that names the model; `None` when it takes none.
    pub model_flag: Option<String>,
    /// The signal that asks it to end.
    pub stop_signal: StopSignal,
}

/// What ollama is used for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum OllamaMode {
    /// It starts claude with its model.
    #[default]
    Launch,
    /// The model itself answers with patches.
    Chat,
}

/// One task.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// The task with every setting resolved.
    pub task: Task,
    /// Where each run tells its start and its exit code.
    pub ping_url: Option<Secret>,
    pub(crate) origins: BTreeMap<&'static str, Origin>,
}

impl TaskSettings {
    /// Where the value of a key comes from, such as `timeout`.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }
}
