//! What can be typed: commands and flags, as clap reads them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCompleter;

use crate::cli::complete;
use crate::model::duration;
use crate::model::ids::{AgentName, TaskName};
use crate::model::moment::{self, Moment};
use crate::model::task::Isolation;
use crate::process::containment::namespace::VERB;

/// Runs coding-agent CLIs unattended and records what really happened.
#[derive(Debug, Parser)]
#[command(name = "agent-runner", version = VERSION, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Configuration file [default: ./config.toml, then the user's]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The version, with the commit where the build was told it (`packaging/build`).
const VERSION: &str = match option_env!("AGENT_RUNNER_VERSION_TEXT") {
    Some(text) => text,
    None => env!("CARGO_PKG_VERSION"),
};

const EXIT_CODES: &str = "\
Exit codes: 0 success, 1 the run failed, 2 wrong usage or configuration (nothing was started),
10 rate limit, 11 timeout, 128+n stopped by signal n.

Try it: agent-runner demo";

/// One verb of the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one agent on one task, and record what happened
    Run(RunArguments),
    /// Show the agents: installed, parked, binary, model, and where each setting comes from
    Agents(AgentsArguments),
    /// Show the tasks and their settings
    Tasks(ListArguments),
    /// See the whole job on a scratch repository: no agent, key or network needed
    Demo(DemoArguments),
    /// Check binaries, configuration, repository, notifications, GitHub and schedule
    Doctor(DoctorArguments),
    /// Work on dispatch issues: each becomes one pull request
    ///
    /// Looks for open issues with the label `copilot-agent` in the dispatch repository
    /// (`DISPATCH_REPO`), has their instructions carried out by `[dispatch] agent`, and publishes
    /// what comes of it. Needs `GITHUB_TOKEN`, or a GitHub App in `[github]`. Works until it is
    /// stopped, unless an option says otherwise. docs/dispatch.md has the steps, the states of an
    /// issue, the permissions, and what is refused.
    Dispatch(DispatchArguments),
    /// Hand a task to whoever works on dispatch issues, or to the local queue
    Delegate(DelegateArguments),
    /// List the delegated tasks, and how far they are
    Delegated(ListArguments),
    /// Let one issue go the whole way to its pull request, and check every step on GitHub
    ///
    /// Opens an issue in the dispatch repository with a small diff, works on it as `dispatch
    /// --issue` does (or lets a running worker do it), then reads everything back from GitHub:
    /// label, comments, branch, trace file, change, pull request, metadata, reference, and that one
    /// more look does nothing. Closes and deletes what it made. Exit codes: 0 all criteria are met,
    /// 1 some are not, 2 wrong configuration.
    Smoke(SmokeArguments),
    /// Say what was due, what ran, what arrived, and what to do about the rest
    Triage(TriageArguments),
    /// Print, compare or install the crontab lines that config.toml asks for
    Schedule(ScheduleArguments),
    /// Publish a notification to the configured ntfy topic
    Notify(NotifyArguments),
    /// Leave a sign of life, end runs whose runner died, and deliver waiting notifications
    Heartbeat,
    /// List runs, the newest first
    Runs(RunsArguments),
    /// Show everything that is known of a run
    Show(ShowArguments),
    /// Show what the agent of a run did and said, or what it printed
    Logs(LogsArguments),
    /// Sum up runs: success, duration, tokens, cost, commits
    Stats(StatsArguments),
    /// Say in plain words how the outcome of a run was concluded
    Explain(RunReference),
    /// Remove runs that are too old or too many, and what crashes left
    Clean(CleanArguments),
    /// Print what makes a shell complete this program's commands, names and runs
    Completions(CompletionsArguments),
    /// Print the manual page, or write one for every command
    Man(ManArguments),
    /// Run the same prompt once more, by the same agent or another one
    Rerun(RerunArguments),
    /// End a run that goes on, in order; once more ends it at once
    Cancel(RunReference),
    /// Write a commented config.toml, the prompts and a crontab example to start from
    Init(InitArguments),
    /// Apply the patches of the prompt on standard input and commit them (the `patch` agent)
    #[command(hide = true)]
    ApplyPatches,
    /// Be the first process of a run's namespace
    #[command(hide = true, name = VERB)]
    NamespaceInit(NamespaceInitArguments),
}

/// `run`
#[derive(Args, Debug)]
pub struct RunArguments {
    /// The agent, `auto` for the first that can start, or several to try in order: `kilo,claude`
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agent_lists))]
    pub agent: String,
    /// The task (see `agent-runner tasks`)
    #[arg(long, value_name = "TASK", add = ArgValueCompleter::new(complete::tasks))]
    pub task: String,
    /// Use the built-in smoke prompt instead of the task's
    #[arg(long, conflicts_with = "debug_prompt")]
    pub debug: bool,
    /// Use this built-in prompt instead of the task's
    #[arg(long, value_name = "NAME")]
    pub debug_prompt: Option<DebugPrompt>,
    /// Print what would be run; start, write and notify nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The longest run: `90s`, `15m`, `1h30m`, or seconds
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// The model to name to the agent
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// The repository to work in [default: the configured one, else the current directory]
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// The work that `dispatch` asks for
    #[arg(long, value_name = "FILE", hide = true)]
    pub request: Option<PathBuf>,
    /// What to do while another run holds the repository [default: the task's, else `skip`]
    #[arg(long, value_name = "POLICY")]
    pub overlap: Option<OverlapPolicy>,
    /// Where to work [default: the task's, else `none`]
    #[arg(long, value_name = "PLACE")]
    pub isolation: Option<WorkPlace>,
    /// Copy the agent's output to standard error while it works
    #[arg(long)]
    pub follow: bool,
    /// Print the record as JSON instead of the summary
    #[arg(long)]
    pub json: bool,
}

/// What to do while another run holds the repository.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum OverlapPolicy {
    /// End at once as `skipped`, with exit code 0.
    Skip,
    /// Wait, at most for the task's time limit.
    Wait,
}

/// Where a run works.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum WorkPlace {
    /// In the repository itself.
    None,
    /// In a git work tree of its own; its commits are brought to the branch at the end.
    Worktree,
}

impl WorkPlace {
    /// What the task is to have.
    pub fn isolation(self) -> Isolation {
        match self {
            Self::None => Isolation::None,
            Self::Worktree => Isolation::Worktree,
        }
    }
}

/// The built-in prompts for trying an agent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum DebugPrompt {
    /// One word back.
    Ping,
    /// Two lines back.
    Smoke,
}

impl DebugPrompt {
    /// The prompt's name in records and below `prompts/debug/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Smoke => "smoke",
        }
    }
}

/// `agents`
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentsArguments {
    /// What to do with them, instead of showing them
    #[command(subcommand)]
    pub action: Option<AgentsAction>,
    /// Print JSON, every value with its origin
    #[arg(long)]
    pub json: bool,
}

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub enum AgentsAction {
    /// Let a parked agent be started again before its limit is over
    Unpark {
        /// The agent
        #[arg(value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
        agent: String,
    },
}

/// `tasks`
#[derive(Args, Debug)]
pub struct ListArguments {
    /// Print JSON, every value with its origin
    #[arg(long)]
    pub json: bool,
}

/// `doctor`
#[derive(Args, Debug)]
pub struct DoctorArguments {
    /// Let this agent, or every installed one, do a small run, and publish a test notification
    #[arg(
        long,
        value_name = "AGENT",
        num_args = 0..=1,
        add = ArgValueCompleter::new(complete::agents)
    )]
    pub probe: Option<Option<String>>,
    /// Check also whether cron finds every program, before there is a crontab
    #[arg(long)]
    pub cron: bool,
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
}

/// `dispatch`
#[derive(Args, Debug)]
pub struct DispatchArguments {
    /// Work on the issues that wait now, and end
    #[arg(long)]
    pub once: bool,
    /// Work on this issue, and end
    #[arg(long, value_name = "N", conflicts_with_all = ["once", "event"])]
    pub issue: Option<u64>,
    /// Where the work comes from
    #[arg(long, value_name = "SOURCE", default_value = "github")]
    pub source: SourceName,
    /// Serve `/metrics` and `/healthz` at this address [default: the configured one, else none]
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Ask the worker that serves there whether it is well, and end: 0 when it is
    #[arg(long, conflicts_with_all = ["once", "issue", "event"])]
    pub health: bool,
    /// Work on the issue of this event of GitHub Actions (`$GITHUB_EVENT_PATH`), and end
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    pub event: Option<PathBuf>,
}

/// `delegate`
#[derive(Args, Debug)]
pub struct DelegateArguments {
    /// What is to be done, as Markdown; `-` reads it from standard input
    #[arg(value_name = "INSTRUCTION")]
    pub instruction: String,
    /// The repository to change: `owner/name`, or a directory for the provider `local`
    #[arg(long, value_name = "REPOSITORY")]
    pub repo: Option<String>,
    /// `github_issue_dispatch`, `copilot`, `local` or `mock` [default: what is configured]
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// Wait for the pull request, and notify of it
    #[arg(long)]
    pub wait: bool,
    /// The longest wait; after it the task goes on without being waited for
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration::parse,
        default_value = "1h",
        requires = "wait"
    )]
    pub timeout: Duration,
    /// The task's id [default: a new one]
    #[arg(long, value_name = "ID")]
    pub task_id: Option<String>,
    /// Who asks, in the issue's metadata
    #[arg(long, value_name = "ID", default_value = "agent-runner")]
    pub user_id: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `smoke`
#[derive(Args, Debug)]
pub struct SmokeArguments {
    /// The repository to change, `owner/name` [default: the dispatch repository]
    #[arg(long, value_name = "REPOSITORY")]
    pub repo: Option<String>,
    /// Let a worker that runs already do the work, and wait for it
    #[arg(long)]
    pub wait_for_worker: bool,
    /// The longest wait for that worker
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration::parse,
        default_value = "20m",
        requires = "wait_for_worker"
    )]
    pub timeout: Duration,
    /// Leave issue, pull request and branch as they are
    #[arg(long)]
    pub keep: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where dispatched work comes from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum SourceName {
    /// The issues of the dispatch repository.
    #[default]
    Github,
    /// The tasks that `delegate --provider local` has queued.
    Local,
}

/// `demo`
#[derive(Args, Debug)]
pub struct DemoArguments {
    /// Where to make the scratch repository [default: a new temporary directory]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// `notify`
#[derive(Args, Debug)]
pub struct NotifyArguments {
    /// Publish a test message
    #[arg(long, conflicts_with_all = ["title", "body"])]
    pub test: bool,
    /// The title
    #[arg(long, required_unless_present = "test")]
    pub title: Option<String>,
    /// The text
    #[arg(long, required_unless_present = "test")]
    pub body: Option<String>,
    /// How urgent it is: min, low, default, high or urgent
    #[arg(long, default_value = "default")]
    pub priority: PriorityName,
    /// Tags, which ntfy shows as emoji where it knows them
    #[arg(long, value_delimiter = ',', default_value = "bell")]
    pub tags: Vec<String>,
}

/// ntfy's priorities.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PriorityName {
    /// No sound, no banner.
    #[value(alias = "lowest", alias = "1")]
    Min,
    /// No sound.
    #[value(alias = "2")]
    Low,
    /// Short sound.
    #[value(alias = "3")]
    Default,
    /// Long sound.
    #[value(alias = "4")]
    High,
    /// Long sound, pop-over.
    #[value(alias = "max", alias = "5")]
    Urgent,
}

/// Which runs are wanted.
#[derive(Args, Debug)]
pub struct RunFilter {
    /// Only runs of this task
    #[arg(long, add = ArgValueCompleter::new(complete::tasks))]
    pub task: Option<TaskName>,
    /// Only runs of this agent
    #[arg(long, add = ArgValueCompleter::new(complete::agents))]
    pub agent: Option<AgentName>,
    /// Only runs that began since: `3h` or `30d` ago, a day (`2026-11-20`, in this machine's zone), or
    /// a time (`2026-11-20T06:30:00Z`)
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    pub since: Option<Moment>,
    /// Only runs that began before; a day is still wanted itself
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    pub until: Option<Moment>,
}

/// `runs`
#[derive(Args, Debug)]
pub struct RunsArguments {
    /// Which runs
    #[command(flatten)]
    pub filter: RunFilter,
    /// Only runs with this outcome, such as `success`, `timeout` or `commit_missing`
    #[arg(long, add = ArgValueCompleter::new(complete::outcomes))]
    pub outcome: Option<String>,
    /// Show at most this many; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Print JSON, one record a line
    #[arg(long)]
    pub json: bool,
}

/// `rerun`
#[derive(Args, Debug)]
pub struct RerunArguments {
    /// Which run
    #[command(flatten)]
    pub reference: RunReference,
    /// Another agent
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub agent: Option<String>,
    /// Another model [default: the run's, for the same agent]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// Another time limit [default: the run's]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// The repository to work in [default: the configured one, else the current directory]
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// Where to work; `worktree` begins at the commit at which the run began [default: the task's]
    #[arg(long, value_name = "PLACE")]
    pub isolation: Option<WorkPlace>,
    /// Give the task's prompt as it is now, instead of the run's own
    #[arg(long)]
    pub new_prompt: bool,
    /// Print what would be run; start, write and notify nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Copy the agent's output to standard error while it works
    #[arg(long)]
    pub follow: bool,
}

/// `stats`
#[derive(Args, Debug)]
pub struct StatsArguments {
    /// Which runs
    #[command(flatten)]
    pub filter: RunFilter,
    /// One line for each
    #[arg(long, value_name = "WHAT", default_value = "day")]
    pub by: StatsBy,
    /// Print JSON; what is unknown is null
    #[arg(long)]
    pub json: bool,
    /// Print comma-separated values; what is unknown is empty
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// What runs are summed up by.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum StatsBy {
    /// The day on which they began, in the machine's zone.
    Day,
    /// Their agent.
    Agent,
    /// Their task.
    Task,
    /// What became of them.
    Outcome,
}

impl StatsBy {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Agent => "agent",
            Self::Task => "task",
            Self::Outcome => "outcome",
        }
    }

    /// Its name at the head of a column.
    pub fn title(self) -> &'static str {
        match self {
            Self::Day => "DAY",
            Self::Agent => "AGENT",
            Self::Task => "TASK",
            Self::Outcome => "OUTCOME",
        }
    }
}

/// `logs`
#[derive(Args, Debug)]
pub struct LogsArguments {
    /// Which run
    #[command(flatten)]
    pub reference: RunReference,
    /// Go on with what is added until the run has ended
    #[arg(long, short)]
    pub follow: bool,
    /// The bytes that the agent printed, as they came; a terminal gets them without control sequences
    #[arg(long)]
    pub raw: bool,
    /// The same of its standard output alone
    #[arg(long)]
    pub stdout: bool,
}

/// `show`
#[derive(Args, Debug)]
pub struct ShowArguments {
    /// Which run
    #[command(flatten)]
    pub reference: RunReference,
    /// Print its outcome and its checks as JUnit XML, for a CI server
    #[arg(long, conflicts_with = "json")]
    pub junit: bool,
}

/// `explain`, and which run elsewhere
#[derive(Args, Debug)]
pub struct RunReference {
    /// A run directory, `task/agent/run_id`, a unique run id, `latest` or `latest:task/agent`
    #[arg(
        value_name = "RUN",
        default_value = "latest",
        add = ArgValueCompleter::new(complete::runs)
    )]
    pub run: String,
    /// Print JSON: the record; of `logs` one event a line
    #[arg(long)]
    pub json: bool,
}

/// `clean`
#[derive(Args, Debug)]
#[command(after_help = CLEAN_KEEPS)]
pub struct CleanArguments {
    /// Remove runs that started longer ago: `30d`, `12h` [default: `keep_for` of config.toml]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub older_than: Option<Duration>,
    /// Remove the oldest runs until all take no more: `5GiB` [default: `keep_size` of config.toml]
    #[arg(long, value_name = "SIZE", value_parser = duration::parse_size)]
    pub max_size: Option<u64>,
    /// Say what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

const CLEAN_KEEPS: &str = "\
Runs that are active, that a person is still to be told of, and those of today, which caps count,
always stay. Without a limit only what crashes left is removed.";

/// `triage`
#[derive(Args, Debug)]
pub struct TriageArguments {
    /// How far to look back: `90m`, `3h`, `2d`
    #[arg(long, value_name = "DURATION", default_value = "3h", value_parser = duration::parse)]
    pub since: Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `schedule`
#[derive(Args, Debug)]
pub struct ScheduleArguments {
    /// What to do with the schedule
    #[command(subcommand)]
    pub action: ScheduleAction,
}

/// What can be done with the schedule.
#[derive(Debug, Subcommand)]
pub enum ScheduleAction {
    /// Print the crontab lines of every task that has a schedule
    Print {
        /// Also the built-in tasks without a schedule, at suggested times
        #[arg(long)]
        all: bool,
    },
    /// Compare with the installed crontab, and show the next starts; exits 1 when they differ
    Check {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Put the lines into your crontab, or renew them; all other lines stay as they are
    Install {
        /// Show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the lines out of your crontab
    Remove {
        /// Show what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Write timers and services for systemd into a directory, or print them
    Systemd {
        /// Where to write, such as `~/.config/systemd/user`
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

/// `namespace-init`
#[derive(Args, Debug)]
pub struct NamespaceInitArguments {
    /// The descriptor to report by
    pub reporter: i32,
    /// The agent's program
    pub program: PathBuf,
    /// The agent's arguments
    pub arguments: Vec<OsString>,
}

/// `completions`
#[derive(Args, Debug)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The shells that can be taught.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shell {
    /// bash, 4.4 or newer.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
}

/// `man`
#[derive(Args, Debug)]
pub struct ManArguments {
    /// Where to write a page for every command [default: print the main page]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// `init`
#[derive(Args, Debug)]
pub struct InitArguments {
    /// Where to write [default: the current directory]
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}
