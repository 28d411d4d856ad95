//! What was seen. Every reason is a sentence that holds no secret.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::config::settings::Warning;
use crate::github::Grant;
use crate::model::ids::AgentName;
use crate::schedule::crontab::Job;
use crate::store::ground::Ground;

/// All that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    /// When it was seen.
    pub now: DateTime<Utc>,
    /// The settings and the process that has them.
    pub configuration: Configuration,
    /// Every agent.
    pub agents: Vec<Agent>,
    /// The repository.
    pub repository: Repository,
    /// Tasks whose prompt cannot be made, each with the reason.
    pub bad_prompts: Vec<(String, String)>,
    /// How many prompts there are.
    pub prompts: usize,
    /// The log root and its runs.
    pub runs: Runs,
    /// Each way of holding processes together that a task asks for, and what came of trying it.
    pub containments: Vec<(String, Result<String, String>)>,
    /// Notifications.
    pub notifications: Notifications,
    /// GitHub; `None` when nothing of it is configured.
    pub github: Option<GitHub>,
    /// The queue; `None` when nothing would use it.
    pub queue: Option<Result<(), String>>,
    /// cron.
    pub cron: Cron,
    /// How many seconds the clocks of servers are ahead of ours, each with the server's name.
    pub skews: Vec<(String, i64)>,
}

/// The settings and the process that has them.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// The file.
    pub file: Option<PathBuf>,
    /// Whether other users may write the file.
    pub open_to_others: bool,
    /// The keys that are no defaults, each with its origin.
    pub set: Vec<(String, String)>,
    /// What is in force and probably not meant.
    pub warnings: Vec<Warning>,
    /// Whether `HOME` is set.
    pub has_home: bool,
    /// Whether this process runs as root.
    pub is_root: bool,
    /// Whether processes can be seen, on Linux below `/proc`.
    pub can_look: bool,
}

/// One agent.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its name.
    pub name: AgentName,
    /// The key of its table that names its program.
    pub binary_key: &'static str,
    /// Its program; `Ok(None)` for a part of the runner itself.
    pub program: Result<Option<PathBuf>, String>,
    /// Why the interpreter of its program is not found, when it needs one.
    pub no_interpreter: Option<String>,
    /// The version that is installed.
    pub version: Option<String>,
    /// The version that was tested.
    pub tested: Option<&'static str>,
    /// Whether it is signed in.
    pub sign_in: SignIn,
    /// Until when it is not started, and why.
    pub parked: Option<String>,
    /// Who would start it: tasks with a schedule, the crontab, dispatch.
    pub wanted_by: Vec<String>,
    /// What came of a small run on trial, if it was asked for.
    pub probe: Option<Result<(), String>>,
}

/// Whether an agent's CLI is signed in, as far as can be seen without asking anybody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SignIn {
    /// A file or a variable says so; which one.
    Seen(String),
    /// Neither says so; what to do.
    NotSeen(&'static str),
    /// Neither says so, and some models work without; what to do for the others.
    NotNeeded(&'static str),
    /// The CLI leaves no sign.
    Unknown,
}

/// The repository and git.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Where it is configured to be.
    pub path: PathBuf,
    /// git's version as numbers and as it says it.
    pub git: Result<((u32, u32), String), String>,
    /// What git sees, or why not and what to do.
    pub state: Result<RepositoryState, (String, Option<String>)>,
}

/// What git sees.
#[derive(Clone, Debug, Default)]
pub struct RepositoryState {
    /// The branch that is checked out.
    pub branch: Option<String>,
    /// Whether there is a commit.
    pub has_commit: bool,
    /// Paths with uncommitted changes.
    pub changes: usize,
    /// A rebase or the like that is half-done.
    pub in_progress: Option<String>,
    /// How long the lock of the index is held already.
    pub index_lock: Option<Duration>,
    /// Who commits.
    pub committer: String,
    /// Whether git's configuration says so.
    pub is_committer_configured: bool,
}

/// The log root and its runs.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The log root.
    pub root: PathBuf,
    /// What it stands on.
    pub ground: Result<Ground, String>,
    /// What lies in it and is none of ours.
    pub foreign: Vec<PathBuf>,
    /// Why directories in it cannot be listed.
    pub unlisted: Vec<String>,
    /// A file in it that git tracks.
    pub tracked: Option<PathBuf>,
    /// Directories of the runner in it that git does not ignore.
    pub unignored: Vec<String>,
    /// Runs that were found crashed just now and are ended.
    pub crashed: Vec<String>,
    /// Runs that are working now.
    pub running: usize,
}

/// Notifications.
#[derive(Clone, Debug, Default)]
pub struct Notifications {
    /// The server.
    pub server: String,
    /// Whether a topic is configured, and with it what came of asking the server.
    pub reached: Option<Result<(), Refusal>>,
    /// When the access token ends.
    pub token_end: Option<DateTime<Utc>>,
    /// The server says that it lets publish to the topic.
    pub may_publish: bool,
    /// What came of publishing, if it was asked for.
    pub published: Option<Result<(), String>>,
    /// Those that wait.
    pub waiting: usize,
    /// Why some of them cannot be read, or the outbox itself.
    pub unread: Vec<String>,
    /// Titles of those that are put aside, oldest first: the server refused them, or they are torn.
    pub refused: Vec<String>,
    /// Runs of the last days whose notification was given up.
    pub expired: usize,
    /// Where the refused ones lie.
    pub refused_directory: PathBuf,
}

/// Why a server is of no use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The reason.
    pub why: String,
    /// What to do, where the reason tells.
    pub fix: Option<String>,
}

/// GitHub.
#[derive(Clone, Debug)]
pub struct GitHub {
    /// Who we are there.
    pub login: Result<String, Refusal>,
    /// Requests left of how many, and when they are filled up.
    pub rate: Option<(u64, u64, DateTime<Utc>)>,
    /// The repositories that are named.
    pub repositories: Vec<RemoteRepository>,
    /// The label of dispatch issues, and whether the dispatch repository has it.
    pub label: Option<(String, bool)>,
    /// What the credentials allow, as far as GitHub tells it.
    pub grant: Grant,
}

/// A repository on GitHub.
#[derive(Clone, Debug)]
pub struct RemoteRepository {
    /// Its configured name.
    pub name: String,
    /// What we can do there.
    pub access: Result<Access, Refusal>,
    /// What we may not read there, though it is needed.
    pub refused: Vec<Refusal>,
}

/// What we can do in a repository on GitHub.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Access {
    /// Whether we can write; `None` when GitHub does not say.
    pub can_write: Option<bool>,
    /// Whether it is archived.
    pub is_archived: bool,
    /// Whether only some people can see it.
    pub is_private: bool,
    /// Its name, when it was renamed.
    pub renamed_to: Option<String>,
}

/// A program that cron does not find.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Missing {
    /// Its name, and who needs it where that is another program.
    pub program: String,
    /// Where it was looked for.
    pub path: String,
    /// A line of the crontab needs it.
    pub is_needed: bool,
}

/// cron and the heartbeat.
#[derive(Clone, Debug)]
pub struct Cron {
    /// The lines of the user's crontab that start this program for this configuration; a reason
    /// where it cannot be read.
    pub jobs: Result<Vec<Job>, String>,
    /// The names of the enabled timers of systemd that start this program.
    pub timers: Vec<String>,
    /// It was asked for, whether a crontab names this program or not.
    pub is_wanted: bool,
    /// The directories in which these lines find programs; cron's own where there is none.
    pub paths: Vec<String>,
    /// Programs that are not found there.
    pub missing: Vec<Missing>,
    /// Tasks with a schedule.
    pub scheduled: Vec<String>,
    /// The age of the last heartbeat.
    pub heartbeat: Option<Duration>,
}
