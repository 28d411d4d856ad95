//! A task: what is to be done, and what counts as done.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::caps::Caps;
use crate::model::ids::{AgentName, TaskName};

/// A task with every setting resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its name.
    pub name: TaskName,
    /// Where its prompt comes from.
    pub prompt: PromptSource,
    /// A run must leave a commit of its own.
    pub requires_commit: bool,
    /// A run that changes nothing is good, too.
    pub allow_no_change: bool,
    /// Finished runs are told by notification.
    pub notify: bool,
    /// Agents meant for it, for the schedule; empty means any.
    pub agents: Vec<AgentName>,
    /// The longest run.
    pub timeout: Duration,
    /// The longest silence; `None` is no limit.
    pub stall_timeout: Option<Duration>,
    /// Shell command lines that must pass after the agent, in this order.
    pub verify: Vec<String>,
    /// The longest time for one of them.
    pub verify_timeout: Duration,
    /// When it is due, as a cron expression of five fields.
    pub schedule: Option<String>,
    /// The same for single agents.
    pub schedules: BTreeMap<AgentName, String>,
    /// The zone of both; `None` is the machine's.
    pub timezone: Option<String>,
    /// The most that a scheduled start is put off.
    pub jitter: Duration,
    /// What becomes of a start that was missed.
    pub catch_up: CatchUp,
    /// The longest time without a success; `None` is no limit.
    pub expect_success_within: Option<Duration>,
    /// What to do while another run holds the repository.
    pub overlap: Overlap,
    /// Where its runs work.
    pub isolation: Isolation,
    /// How its processes are held together; `None` is the strongest way that needs no program.
    pub containment: Option<Containment>,
    /// The least inserted and deleted lines for a commit to count.
    pub min_changes: u64,
    /// Globs of the paths that a commit may touch; empty allows all.
    pub paths: Vec<String>,
    /// How often a failure that passes by itself is tried again.
    pub retries: u32,
    /// The most that its runs may use up on one day.
    pub caps: Caps,
}

/// What a run does while another one holds its repository.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Overlap {
    /// It ends at once as `skipped`.
    #[default]
    Skip,
    /// It waits, at most for the task's time limit.
    Wait,
}

impl Overlap {
    /// The policy's name on the command line and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Wait => "wait",
        }
    }
}

/// Where a run works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Isolation {
    /// In the repository itself, on the branch that is checked out.
    #[default]
    None,
    /// In a git work tree of its own, whose commits are brought to that branch at the end.
    Worktree,
}

impl Isolation {
    /// Its name on the command line and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Worktree => "worktree",
        }
    }
}

/// What becomes of a scheduled start that was missed while nobody was there.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CatchUp {
    /// It is left out.
    #[default]
    Skip,
    /// The last one is made up for, however many were missed.
    Once,
}

impl CatchUp {
    /// The policy's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
        }
    }
}

/// How the processes of a run are held together, the strongest first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Containment {
    /// In a namespace of processes that ends with the runner, made by bubblewrap.
    Namespace,
    /// In a control group of their own, which is killed as a whole.
    Cgroup,
    /// As descendants of the runner, which adopts orphans.
    Subreaper,
    /// As a process group and what can be seen of others, where the system is not Linux.
    Group,
}

impl Containment {
    /// Its name in records and in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Cgroup => "cgroup",
            Self::Subreaper => "subreaper",
            Self::Group => "group",
        }
    }
}

/// Where a prompt's text comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PromptSource {
    /// A file below the prompts directory.
    File(String),
    /// The text itself.
    Text(String),
}
