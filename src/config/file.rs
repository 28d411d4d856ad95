//! The form of the configuration file: its tables and keys, each optional.
//!
//! The comments of the keys are the text of `docs/config.md`; a last sentence `Default: …` fills
//! its own column where the shipped file names no value.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::settings::OllamaMode;
use crate::config::value::{
    Address, AgentLabel, Allowance, Argument, CommandLimit, Containing, Dollars, Expectation, Glob,
    Interval, KeepFor, KeepSize, Lease, Limit, PingUrl, PromptFile, QueueUrl, Repository, Retries,
    Schedule, Server, Setting, Size, Stall, Taken, Target, Text, Token, Topic, VariableName, Zone,
};
use crate::model::ids::{AgentName, TaskName};
use crate::model::invocation::{PromptDelivery, StopSignal};
use crate::model::secret::Secret;
use crate::model::task::{CatchUp, Isolation, Overlap};

/// A whole file.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct Form {
    /// What holds for every run.
    pub(crate) runner: RunnerTable,
    /// Who commits where the repository's own git configuration names nobody.
    pub(crate) git: GitTable,
    /// Where finished runs are told. Without a topic notifications are off.
    pub(crate) ntfy: NtfyTable,
    /// Where claims on dispatched work are kept.
    pub(crate) queue: QueueTable,
    /// How GitHub is reached, for `dispatch`, `delegate` and `smoke`.
    pub(crate) github: GithubTable,
    /// Work that comes from dispatch issues.
    pub(crate) dispatch: DispatchTable,
    /// One table for each agent. A built-in one takes `binary`, `model`, `effort`, `args`, `env`,
    /// `pass_env` and the caps (and ollama `mode`); a new name makes an agent of your own, which needs
    /// `command`.
    #[serde(deserialize_with = "by_name")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, AgentTable>"))]
    pub(crate) agents: BTreeMap<AgentName, AgentTable>,
    /// One table for each task. A new name makes a task of your own, which needs `prompt` or
    /// `prompt_text`.
    #[serde(deserialize_with = "by_name")]
    #[cfg_attr(test, schemars(with = "BTreeMap<String, TaskTable>"))]
    pub(crate) tasks: BTreeMap<TaskName, TaskTable>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct RunnerTable {
    /// The repository that agents work in. Default: the current directory.
    pub(crate) repo_root: Setting<PathBuf>,
    /// The directory of the runs' records and logs. Default: `logs` in the repository.
    pub(crate) log_root: Setting<PathBuf>,
    /// The directory of prompt files. Default: `prompts` beside the configuration file, without
    /// one in the repository.
    pub(crate) prompts_dir: Setting<PathBuf>,
    /// Directories put in front of `PATH`, for finding agents and for the agents themselves; in
    /// the environment variable they are separated by `:`. Default: none.
    pub(crate) path_prefix: Setting<Vec<PathBuf>>,
    /// The longest run of a task that names no limit of its own.
    pub(crate) timeout: Setting<Limit>,
    /// The longest silence of an agent, for tasks that name none.
    pub(crate) stall_timeout: Setting<Stall>,
    /// The time between asking an agent to end and killing it; `0` kills at once.
    pub(crate) grace_period: Setting<Duration>,
    /// How long an agent may wait silently for a rate limit before the run is ended.
    pub(crate) limit_patience: Setting<Duration>,
    /// The longest time for one command of `verify`, for tasks that name none.
    pub(crate) verify_timeout: Setting<CommandLimit>,
    /// What a run does while another one holds its repository: `skip` ends it at once as `skipped`,
    /// `wait` waits at most for the task's time limit. For tasks that name none.
    pub(crate) overlap: Setting<Overlap>,
    /// Where a run works: `none` is the repository itself, `worktree` a git work tree of the run's
    /// own, whose commits are brought to the branch at the end. For tasks that name none.
    pub(crate) isolation: Setting<Isolation>,
    /// How the processes of a run are held together: `namespace` (bubblewrap must be installed),
    /// `cgroup`, `subreaper`, or `auto` for `cgroup` where one can be made and `subreaper` where
    /// not; elsewhere than on Linux there is `group` alone. A way that is named and does not work ends
    /// the run as `start_failed`. For tasks that name none.
    pub(crate) containment: Setting<Containing>,
    /// How much of the beginning of an agent's output is kept.
    pub(crate) log_head_bytes: Setting<Size>,
    /// How much of the end of an agent's output is kept when it is longer than that.
    pub(crate) log_tail_bytes: Setting<Size>,
    /// How old a run may become before `clean` removes it; `off` keeps it for ever.
    pub(crate) keep_for: Setting<KeepFor>,
    /// How much all runs may take on disk together before `clean` removes the oldest; `off` sets no
    /// limit.
    pub(crate) keep_size: Setting<KeepSize>,
    /// A file for the textfile collector of Prometheus, replaced at the end of each `run`, `rerun`,
    /// `heartbeat` and `dispatch --once`. Its directory must exist. Default: none.
    pub(crate) metrics_file: Setting<PathBuf>,
    /// The agents that `--agent auto` tries, in this order.
    pub(crate) auto_order: Setting<Vec<AgentName>>,
    /// How long an agent is not started after a limit whose reset time it did not tell; `0` lets it
    /// be started at once.
    pub(crate) park_default: Setting<Duration>,
    /// How often a run is tried again that an overloaded provider or the network ended, for tasks
    /// that name no number. All tries together stay within the task's time limit.
    pub(crate) retries: Setting<Retries>,
    /// The pause before the first of these tries; each further one is twice as long.
    pub(crate) retry_pause: Setting<Duration>,
    /// What a run of unknown cost counts as where dollars a day are capped.
    pub(crate) worst_case_usd: Setting<Dollars>,
    /// What a run of unknown use counts as where tokens a day are capped.
    pub(crate) worst_case_tokens: Setting<u64>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct GitTable {
    /// Author and committer of the agents' commits.
    pub(crate) name: Setting<String>,
    /// The address of author and committer.
    pub(crate) email: Setting<String>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct NtfyTable {
    /// The ntfy server.
    pub(crate) server: Setting<Server>,
    /// The topic to publish to; on a public server whoever knows it can read along. Default:
    /// none, which switches notifications off.
    pub(crate) topic: Setting<Topic>,
    /// An access token, instead of `username` and `password`. Default: none.
    pub(crate) token: Setting<Token>,
    /// A user of the server. Default: none.
    pub(crate) username: Setting<String>,
    /// That user's password. Default: none.
    pub(crate) password: Setting<Secret>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct QueueTable {
    /// A database that several machines share, as `postgres://USER:PASSWORD@HOST/NAME`, or a file as
    /// `sqlite:PATH`. Besides work they share in it which agents are parked and what caps leave.
    /// Tasks of `delegate --provider local` are not put into a server's, but into the default.
    /// Default: an SQLite file below the log root, for work alone.
    pub(crate) url: Setting<QueueUrl>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct GithubTable {
    /// The REST API; for GitHub Enterprise `https://HOST/api/v3`.
    pub(crate) api_url: Setting<Server>,
    /// Where repositories are cloned from and pages are shown.
    pub(crate) server_url: Setting<Server>,
    /// A token that may read and write issues, contents and pull requests of the repositories
    /// concerned. Better set in the environment than in a file. Default: none.
    pub(crate) token: Setting<Token>,
    /// The id of a GitHub App, instead of a token. Default: none.
    pub(crate) app_id: Setting<NonZeroU64>,
    /// The file with the App's private key (PEM). Default: none.
    pub(crate) app_key_file: Setting<PathBuf>,
    /// The App's installation. Default: the one of the dispatch repository.
    pub(crate) app_installation: Setting<NonZeroU64>,
    /// The least time between two changes on GitHub, which asks for one second.
    pub(crate) write_interval: Setting<Duration>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct DispatchTable {
    /// The repository whose issues are worked on, as `owner/name`. Default: none.
    pub(crate) repo: Setting<Repository>,
    /// The label of such issues.
    pub(crate) label: Setting<String>,
    /// The agents that do the work, as for `run --agent`: a name, several to try in order, or
    /// `auto`. `patch` applies the diffs of the instruction, and needs no model.
    pub(crate) agent: Setting<String>,
    /// The name under which the worker speaks on issues.
    pub(crate) agent_name: Setting<AgentLabel>,
    /// How long to wait between two looks at the issues.
    pub(crate) poll_interval: Setting<Interval>,
    /// How many issues are worked on at a time.
    pub(crate) concurrency: Setting<NonZeroU64>,
    /// How often a failing issue is tried before it rests with the label `failed`.
    pub(crate) attempts: Setting<NonZeroU64>,
    /// The pause before the second try; each further one is twice as long.
    pub(crate) retry_pause: Setting<Duration>,
    /// How long a claim holds that its worker does not renew.
    pub(crate) lease: Setting<Lease>,
    /// The address at which `dispatch` serves `/metrics` and `/healthz`; better one of loopback.
    /// Default: none.
    pub(crate) metrics: Setting<Address>,
    /// The directory of clones. Default: `.state/workspaces` below the log root.
    pub(crate) workspace: Setting<PathBuf>,
    /// The longest clone or push.
    pub(crate) git_timeout: Setting<CommandLimit>,
    /// Repositories that issues may ask to change, as `owner/name` or `owner/*`. Default: the
    /// dispatch repository and those of the same owner.
    pub(crate) targets: Setting<Vec<Target>>,
    /// Users whose issues are worked on although they cannot write to the dispatch repository.
    /// Default: none.
    pub(crate) authors: Setting<Vec<String>>,
    /// What a result may contain although it is refused otherwise: `workflows`, `agent_config`,
    /// `attributes`, `submodules`, `symlinks`. Default: none.
    pub(crate) allow: Setting<Vec<Allowance>>,
    /// The most files that a result may change.
    pub(crate) max_files: Setting<NonZeroU64>,
    /// The largest single file of a result.
    pub(crate) max_file_bytes: Setting<Size>,
    /// The size of all changed files of a result together.
    pub(crate) max_bytes: Setting<Size>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct AgentTable {
    /// Built-in agents: the program, a name to be found in `PATH` or a path. An agent of your own
    /// names it in `command`; the environment variable works for both. Default: the agent's name.
    pub(crate) binary: Setting<PathBuf>,
    /// Agents of your own: the program and its arguments. No shell is involved.
    pub(crate) command: Setting<Vec<Argument>>,
    /// Agents of your own: how the prompt reaches the program: by standard input, as its last
    /// argument, or as the path of a file in its last argument. Default: `stdin`.
    pub(crate) prompt: Setting<PromptDelivery>,
    /// Agents of your own: how the output is read: `text`, or the name of the built-in agent
    /// whose format it has. Default: `text`.
    pub(crate) output: Setting<String>,
    /// The model to name. Default: the CLI's own choice.
    pub(crate) model: Setting<String>,
    /// Agents of your own: the flag that names the model, such as `--model`. Default: none.
    pub(crate) model_flag: Setting<String>,
    /// How much the model should think, in the CLI's own words. Default: the CLI's own choice.
    pub(crate) effort: Setting<String>,
    /// Arguments put behind the built-in ones. Default: none.
    pub(crate) args: Setting<Vec<Argument>>,
    /// Variables set for the agent, on top of what it inherits. Default: none.
    pub(crate) env: Setting<BTreeMap<VariableName, Secret>>,
    /// Variables that the agent inherits although their names look secret. Default: none.
    pub(crate) pass_env: Setting<Vec<VariableName>>,
    /// Agents of your own: the signal that asks the program to end. Default: `SIGTERM`.
    pub(crate) stop_signal: Setting<StopSignal>,
    /// ollama: `launch` lets it start claude with the model, `chat` talks to the model itself and
    /// applies the patches in its answer. Default: `launch`.
    pub(crate) mode: Setting<OllamaMode>,
    /// The most runs of the agent that are started on one day of the machine's zone. Default: any
    /// number.
    pub(crate) max_runs_per_day: Setting<NonZeroU64>,
    /// The most tokens that they use on one day; when they are used up, none is started. Default:
    /// any number.
    pub(crate) max_tokens_per_day: Setting<NonZeroU64>,
    /// The most US dollars that they cost on one day. Default: any amount.
    pub(crate) max_usd_per_day: Setting<Dollars>,
}

#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(crate) struct TaskTable {
    /// The prompt's file below the prompts directory; a built-in prompt that is missing there is
    /// taken from the program.
    pub(crate) prompt: Setting<PromptFile>,
    /// The prompt itself, instead of a file.
    pub(crate) prompt_text: Setting<String>,
    /// A run must leave a commit of its own. Default: `true`.
    pub(crate) requires_commit: Setting<bool>,
    /// A run that changes nothing at all is good, too, if the agent's output says that it completed:
    /// `output = "text"` cannot. Default: `false`.
    pub(crate) allow_no_change: Setting<bool>,
    /// Finished runs are told by notification. Default: `true`.
    pub(crate) notify: Setting<bool>,
    /// The agents that the schedule starts it with. Default: any.
    pub(crate) agents: Setting<Vec<AgentName>>,
    /// The longest run. Default: `runner.timeout`.
    pub(crate) timeout: Setting<Limit>,
    /// The longest silence of the agent. Default: `runner.stall_timeout`.
    pub(crate) stall_timeout: Setting<Stall>,
    /// Shell command lines that must pass after the agent, run in the repository one after
    /// another. Default: none.
    pub(crate) verify: Setting<Vec<String>>,
    /// The longest time for one of them. Default: `runner.verify_timeout`.
    pub(crate) verify_timeout: Setting<CommandLimit>,
    /// When it is due. Default: never.
    pub(crate) schedule: Setting<Schedule>,
    /// When it is due for single agents, as a table of agent and cron expression, instead of the same
    /// time for all of `agents`. Default: none.
    pub(crate) schedules: Setting<BTreeMap<AgentName, Schedule>>,
    /// The time zone of `schedule` and `schedules`. Default: the machine's.
    pub(crate) timezone: Setting<Zone>,
    /// The most that a scheduled start is put off; each agent has its own fixed share of it. Default:
    /// `0s`.
    pub(crate) jitter: Setting<Duration>,
    /// What becomes of a start that was missed while the machine was off: `skip` leaves it out, `once`
    /// lets the heartbeat (or systemd) start the last one late. Default: `skip`.
    pub(crate) catch_up: Setting<CatchUp>,
    /// The longest time without a success; after it the heartbeat tells once, and again when one
    /// succeeds. Default: any.
    pub(crate) expect_success_within: Setting<Expectation>,
    /// Where each run tells its start and its exit code, in the protocol of healthchecks.io. Default:
    /// none.
    pub(crate) ping_url: Setting<PingUrl>,
    /// What to do while another run holds the repository. Default: `runner.overlap`.
    pub(crate) overlap: Setting<Overlap>,
    /// Where its runs work. Default: `runner.isolation`.
    pub(crate) isolation: Setting<Isolation>,
    /// How its processes are held together. Default: `runner.containment`.
    pub(crate) containment: Setting<Containing>,
    /// The least inserted and deleted lines for a commit to count; a binary file does, and with `1`
    /// every change of a file. Default: `1`.
    pub(crate) min_changes: Setting<NonZeroU64>,
    /// Globs of the paths, relative to the repository, that a commit may touch. Default: all.
    pub(crate) paths: Setting<Vec<Glob>>,
    /// How often a run is tried again that an overloaded provider or the network ended. Default:
    /// `runner.retries`.
    pub(crate) retries: Setting<Retries>,
    /// The most runs of the task that are started on one day of the machine's zone. Default: any
    /// number.
    pub(crate) max_runs_per_day: Setting<NonZeroU64>,
    /// The most tokens that they use on one day; when they are used up, none is started. Default:
    /// any number.
    pub(crate) max_tokens_per_day: Setting<NonZeroU64>,
    /// The most US dollars that they cost on one day. Default: any amount.
    pub(crate) max_usd_per_day: Setting<Dollars>,
}

fn by_name<'de, D, Name, Table>(deserializer: D) -> Result<BTreeMap<Name, Table>, D::Error>
where
    D: Deserializer<'de>,
    Name: Text + Ord,
    Table: Deserialize<'de>,
{
    let tables = BTreeMap::<Taken<Name>, Table>::deserialize(deserializer)?;
    Ok(tables
        .into_iter()
        .map(|(name, table)| (name.0, table))
        .collect())
}
