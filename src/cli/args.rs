//! What can be typed: commands and flags, as clap reads them.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::ArgValueCompleter;

use crate::cli::{complete, help};
use crate::model::duration;
use crate::model::ids::{AgentName, TaskName};
use crate::model::moment::{self, Moment};
use crate::model::task::Isolation;
use crate::process::containment::namespace::VERB;

/// Runs coding-agent CLIs unattended and records what really happened.
#[derive(Debug, Parser)]
#[command(
    name = "agent-runner",
    version = VERSION,
    max_term_width = 100,
    after_help = help::MAIN
)]
pub struct Arguments {
    /// Configuration file [default: `$AGENT_RUNNER_CONFIG`, else ./config.toml, else the user's]
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
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

/// One verb of the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one agent on one task, and record what happened
    #[command(after_long_help = help::RUN)]
    Run(RunArguments),
    /// See the whole job on a scratch repository: no agent, key or network needed
    #[command(after_long_help = help::DEMO)]
    Demo(DemoArguments),
    /// Write a commented config.toml, the prompts and a crontab example to start from
    #[command(after_long_help = help::INIT)]
    Init(InitArguments),
    /// Check agents, configuration, repository, notifications, GitHub and schedule
    #[command(after_long_help = help::DOCTOR)]
    Doctor(DoctorArguments),
    /// List the agents: installed, missing or parked, program, version, model
    #[command(after_long_help = help::AGENTS)]
    Agents(AgentsArguments),
    /// List the tasks and their settings
    #[command(after_long_help = help::TASKS)]
    Tasks(ListArguments),
    /// List runs, the newest first
    #[command(after_long_help = help::RUNS)]
    Runs(RunsArguments),
    /// Show everything that is known of a run
    #[command(after_long_help = help::SHOW)]
    Show(ShowArguments),
    /// Show what the agent of a run did and said, or what it printed
    #[command(after_long_help = help::LOGS)]
    Logs(LogsArguments),
    /// Say in plain words how the outcome of a run was concluded
    #[command(after_long_help = help::LOOKING)]
    Explain(RecordArguments),
    /// Sum up runs: success, duration, tokens, cost, commits
    #[command(after_long_help = help::STATS)]
    Stats(StatsArguments),
    /// Give an agent the prompt of a run once more, the same agent or another one
    #[command(after_long_help = help::RERUN)]
    Rerun(RerunArguments),
    /// End a run that goes on
    ///
    /// Asks the runner of the run to end it, and waits for its record. The agent has its
    /// `grace_period` (5 seconds unless configured) to end; `cancel` once more ends it at once.
    #[command(after_long_help = help::CANCEL)]
    Cancel(RecordArguments),
    /// Remove runs that are too old or too large, and what crashes left
    #[command(after_long_help = help::CLEAN)]
    Clean(CleanArguments),
    /// Say what was due, what ran, what arrived, and what to do about the rest
    #[command(after_long_help = help::TRIAGE)]
    Triage(TriageArguments),
    /// Print, compare or install the crontab lines that config.toml asks for
    #[command(after_long_help = help::SCHEDULE)]
    Schedule(ScheduleArguments),
    /// Leave a sign of life, end runs whose runner died, deliver waiting notifications
    ///
    /// Meant for cron, once a minute. Also tells of successes that are overdue, and starts what was
    /// missed where a task has `catch_up = "once"`. Prints nothing when all is well.
    #[command(after_long_help = help::HEARTBEAT)]
    Heartbeat,
    /// Publish a message of your own to the configured ntfy topic
    #[command(after_long_help = help::NOTIFY)]
    Notify(NotifyArguments),
    /// Work on dispatch issues: each becomes one pull request
    ///
    /// Looks for open issues with the label `copilot-agent` in the dispatch repository
    /// (`DISPATCH_REPO`), has their instructions carried out by `[dispatch] agent`, and publishes
    /// what comes of it. Needs `GITHUB_TOKEN`, or a GitHub App in `[github]`. Works until it is
    /// stopped, unless an option says otherwise. docs/dispatch.md has the steps, the states of an
    /// issue, the permissions, and what is refused.
    #[command(after_long_help = help::DISPATCH)]
    Dispatch(DispatchArguments),
    /// Hand a task to whoever works on dispatch issues, or to this machine's queue
    #[command(after_long_help = help::DELEGATE)]
    Delegate(DelegateArguments),
    /// List the delegated tasks, and how far they are
    #[command(after_long_help = help::DELEGATED)]
    Delegated(DelegatedArguments),
    /// Let one issue go the whole way to its pull request, and check every step on GitHub
    ///
    /// Opens an issue in the dispatch repository with a small diff, works on it as `dispatch
    /// --issue` does (or lets a running worker do it), then reads everything back from GitHub:
    /// label, comments, branch, trace file, change, pull request, metadata, reference, and that one
    /// more look does nothing. Closes and deletes what it made.
    #[command(after_long_help = help::SMOKE)]
    Smoke(SmokeArguments),
    /// Print the script that lets a shell complete commands, names and runs
    #[command(after_long_help = help::COMPLETIONS)]
    Completions(CompletionsArguments),
    /// Print the manual page, or write one for every command
    #[command(after_long_help = help::MAN)]
    Man(ManArguments),
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
    /// The agent (see `agent-runner agents`), several to try in order (`kilo,claude`), or `auto`: the
    /// first of `auto_order` that can start
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agent_lists))]
    pub agent: String,
    /// The task (see `agent-runner tasks`)
    #[arg(long, value_name = "TASK", add = ArgValueCompleter::new(complete::tasks))]
    pub task: String,
    /// Use the built-in prompt `smoke` instead of the task's, to try an agent
    #[arg(long, conflicts_with = "debug_prompt")]
    pub debug: bool,
    /// Use this built-in prompt instead of the task's, to try an agent
    #[arg(long, value_name = "NAME")]
    pub debug_prompt: Option<DebugPrompt>,
    /// Print the plan (program, directory, limits, prompt size); start, write and notify nothing.
    /// Exits 1 where machine, limit or cap lets none start
    #[arg(long)]
    pub dry_run: bool,
    /// The longest run, all tries together: `90s`, `15m`, `1h30m`, or seconds [default: the task's, else
    /// `timeout` of `[runner]`]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// The model to name to the agent [default: the agent's, see `agent-runner agents`]
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
    /// Where the agent works [default: the task's, else `none`]
    #[arg(long, value_name = "PLACE")]
    pub isolation: Option<WorkPlace>,
    /// Copy the agent's output to standard error while it works
    #[arg(long)]
    pub follow: bool,
    /// Print the record as JSON instead of the summary; with `--dry-run` the plan
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
    ///
    /// An agent that met a rate or usage limit is parked until the time it named. Do this after you
    /// bought more, or changed the account. Says so when the agent is not parked.
    Unpark {
        /// The agent, as `agent-runner agents` names it
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
    /// Let this agent, or every installed one, do a small run (a few tokens, 2 minutes at most), and
    /// publish a test notification
    #[arg(
        long,
        value_name = "AGENT",
        num_args = 0..=1,
        add = ArgValueCompleter::new(complete::agents)
    )]
    pub probe: Option<Option<String>>,
    /// Also check whether cron would find every program, before there is a crontab
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
    /// Serve `/metrics` and `/healthz` at this address, such as `127.0.0.1:9464` [default: the
    /// configured one, else none]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub metrics: Option<SocketAddr>,
    /// Ask the worker that serves at the address of `--metrics` whether it is well, and end: exit code
    /// 0 when it is
    #[arg(long, conflicts_with_all = ["once", "issue", "event"])]
    pub health: bool,
    /// Work on the issue of this event of GitHub Actions (`$GITHUB_EVENT_PATH`), and end
    #[arg(long, value_name = "FILE", conflicts_with = "once")]
    pub event: Option<PathBuf>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_source| "write a number and a port, as in `127.0.0.1:9464`".to_owned())
}

/// `delegate`
#[derive(Args, Debug)]
pub struct DelegateArguments {
    /// What is to be done, as Markdown; `-` reads it from standard input
    #[arg(value_name = "INSTRUCTION")]
    pub instruction: String,
    /// The repository to change: `owner/name`, or a directory for the provider `local` [default: the
    /// dispatch repository; for `local` the configured one]
    #[arg(long, value_name = "REPOSITORY")]
    pub repo: Option<String>,
    /// Who is to do it: `github_issue_dispatch`, `copilot`, `local` or `mock` [default:
    /// `HANDSFREE_AGENT_DEFAULT_PROVIDER`, else the first where a dispatch repository and a token are
    /// configured, else `copilot`]
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// Wait until the task is done or has failed, and tell its end by ntfy
    #[arg(long)]
    pub wait: bool,
    /// The longest wait: `90s`, `20m`, `1h30m`, or seconds; after it the task goes on alone
    #[arg(
        long,
        value_name = "DURATION",
        value_parser = duration::parse,
        default_value = "1h",
        requires = "wait"
    )]
    pub timeout: Duration,
    /// The task's id, not that of another task that goes on [default: a new one]
    #[arg(long, value_name = "ID")]
    pub task_id: Option<String>,
    /// Who asks, in the issue's metadata
    #[arg(long, value_name = "ID", default_value = "agent-runner")]
    pub user_id: String,
    /// Print what became of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `delegated`
#[derive(Args, Debug)]
pub struct DelegatedArguments {
    /// Print the tasks as JSON
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
    /// The longest wait for that worker: `90s`, `20m`, `1h30m`, or seconds
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
    /// Print every criterion and whether it is met as JSON
    #[arg(long)]
    pub json: bool,
}

/// Where dispatched work comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SourceName {
    /// The issues of the dispatch repository.
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
    /// Publish a test message instead of a title and a body
    #[arg(long, conflicts_with_all = ["title", "body"])]
    pub test: bool,
    /// The title, one line
    #[arg(long, required_unless_present = "test")]
    pub title: Option<String>,
    /// The text; beyond 4096 bytes its middle is left out
    #[arg(long, required_unless_present = "test")]
    pub body: Option<String>,
    /// How urgent it is
    #[arg(long, default_value = "default")]
    pub priority: PriorityName,
    /// Tags, separated by commas; ntfy shows those it knows as emoji
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
    /// Only runs that began at this time or later: `3h` or `30d` ago, a day (`2026-11-20`, in this
    /// machine's zone), or a time (`2026-11-20T06:30:00Z`)
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    pub since: Option<Moment>,
    /// Only runs that began before this time, written the same way; of a day, until its end
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
    #[arg(long, value_name = "OUTCOME", add = ArgValueCompleter::new(complete::outcomes))]
    pub outcome: Option<String>,
    /// Show at most this many; 0 shows all
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Print one record a line, as JSON
    #[arg(long)]
    pub json: bool,
}

/// `rerun`
#[derive(Args, Debug)]
pub struct RerunArguments {
    /// Which run
    #[command(flatten)]
    pub reference: RunReference,
    /// Another agent [default: the run's]
    #[arg(long, value_name = "AGENT", add = ArgValueCompleter::new(complete::agents))]
    pub agent: Option<String>,
    /// Another model [default: the run's for the same agent, else the agent's own default]
    #[arg(long, value_name = "MODEL", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub model: Option<String>,
    /// Another time limit, all tries together: `90s`, `15m`, `1h30m`, or seconds [default: the one
    /// that the run and its tries had together]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub timeout: Option<Duration>,
    /// The repository to work in [default: the configured one, else the current directory]
    #[arg(long, value_name = "DIR")]
    pub repo: Option<PathBuf>,
    /// Where the agent works; `worktree` begins at the commit where the run began [default: the task's]
    #[arg(long, value_name = "PLACE")]
    pub isolation: Option<WorkPlace>,
    /// Give the task's prompt as it is now, instead of the run's own
    #[arg(long)]
    pub new_prompt: bool,
    /// Print the plan; start, write and notify nothing. Exits 1 where machine, limit or cap lets none start
    #[arg(long)]
    pub dry_run: bool,
    /// Copy the agent's output to standard error while it works
    #[arg(long)]
    pub follow: bool,
    /// Print the new run's record as JSON instead of the summary; with `--dry-run` the plan
    #[arg(long)]
    pub json: bool,
}

/// `stats`
#[derive(Args, Debug)]
pub struct StatsArguments {
    /// Which runs
    #[command(flatten)]
    pub filter: RunFilter,
    /// What to sum up by: one line for each
    #[arg(long, value_name = "WHAT", default_value = "day")]
    pub by: StatsBy,
    /// Print JSON; what is unknown is `null`
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
    /// Print what the agent printed, byte by byte; without control sequences on a terminal
    #[arg(long)]
    pub raw: bool,
    /// The same of its standard output alone
    #[arg(long)]
    pub stdout: bool,
    /// Print one event a line, as JSON
    #[arg(long, conflicts_with_all = ["raw", "stdout"])]
    pub json: bool,
}

/// `show`
#[derive(Args, Debug)]
pub struct ShowArguments {
    /// Which run
    #[command(flatten)]
    pub reference: RunReference,
    /// Print the record as JSON
    #[arg(long)]
    pub json: bool,
    /// Print its outcome and its checks as JUnit XML, for a CI server
    #[arg(long, conflicts_with = "json")]
    pub junit: bool,
}

/// `explain` and `cancel`
#[derive(Args, Debug)]
pub struct RecordArguments {
    /// Which run
    #[command(flatten)]
    pub reference: RunReference,
    /// Print the record as JSON
    #[arg(long)]
    pub json: bool,
}

/// Which run
#[derive(Args, Debug)]
pub struct RunReference {
    /// A run's directory, `task/agent/run_id`, a unique run id, `latest` or `latest:task/agent`
    #[arg(
        value_name = "RUN",
        default_value = "latest",
        add = ArgValueCompleter::new(complete::runs)
    )]
    pub run: String,
}

/// `clean`
#[derive(Args, Debug)]
pub struct CleanArguments {
    /// Remove runs that began longer ago: `30d`, `12h` [default: `keep_for` of config.toml, else none]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub older_than: Option<Duration>,
    /// Remove the oldest runs until all take no more: `5GiB`, `512MiB`, or bytes [default: `keep_size`
    /// of config.toml, else none]
    #[arg(long, value_name = "SIZE", value_parser = duration::parse_size)]
    pub max_size: Option<u64>,
    /// Say what would be removed; remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what was removed and what stays as JSON
    #[arg(long)]
    pub json: bool,
}

/// `triage`
#[derive(Args, Debug)]
pub struct TriageArguments {
    /// How far to look back: `90m`, `3h`, `2d`
    #[arg(long, value_name = "DURATION", default_value = "3h", value_parser = duration::parse)]
    pub since: Duration,
    /// Print the findings as JSON
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
    /// Compare with the installed crontab, and show the next starts; exit code 1 when they differ
    Check {
        /// Print the differences and the next starts as JSON
        #[arg(long)]
        json: bool,
    },
    /// Put the lines into your crontab, or renew them; all other lines stay
    Install {
        /// Show what would change; change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take the lines out of your crontab
    Remove {
        /// Show what would change; change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write timers and services for systemd into a directory, or print them
    Systemd {
        /// Where to write, such as `~/.config/systemd/user` [default: print them]
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
    /// The shell to write it for
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The shells that can be taught.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Shell {
    /// Bash, 4.4 or newer.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
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
