//! The record of a run: everything that is kept of it.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::model::ids::{AgentName, RunId, TaskName};
use crate::model::outcome::Outcome;
use crate::model::report::{ErrorClass, Usage};

/// Everything that is kept of one run. An unknown number is `None`, never 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The name of the run's directory.
    pub run_id: RunId,
    /// The agent's name as the record tells it. Older records may hold any text.
    pub agent: String,
    /// The task's name as the record tells it.
    pub task: String,
    /// What became of the run.
    pub outcome: Outcome,
    /// When it began.
    pub start_time: Option<DateTime<Utc>>,
    /// When it ended; for a crashed run the last sign of life.
    pub end_time: Option<DateTime<Utc>>,
    /// How long it took, on the monotonic clock.
    pub elapsed: Option<Duration>,
    /// The runner's exit code.
    pub exit_code: Option<i32>,
    /// The agent's exit status.
    pub agent_exit_code: Option<i32>,
    /// The signal that ended the agent.
    pub agent_signal: Option<i32>,
    /// The agent's last message.
    pub last_message: Option<String>,
    /// The run's own commits that count, oldest first.
    pub commits: Vec<CommitRecord>,
    /// Paths that those commits touch.
    pub files_changed: Vec<String>,
    /// How many more they touch.
    pub files_changed_dropped: usize,
    /// Lines that they add.
    pub insertions: u64,
    /// Lines that they remove.
    pub deletions: u64,
    /// The debug prompt that replaced the task's, if one did.
    pub debug_prompt: Option<String>,
    /// Records of older programs: nothing was really run.
    pub dry_run: bool,
    /// The task requires a commit.
    pub requires_commit: Option<bool>,
    /// What went wrong, in one sentence.
    pub error: Option<String>,
    /// The kind of failure, where the outcome does not say it all.
    pub error_class: Option<ErrorClass>,
    /// When the limit that ended the run is over.
    pub resets_at: Option<DateTime<Utc>>,
    /// The model, as the agent named it, else as it was asked for.
    pub model: Option<String>,
    /// The agent's own name for the conversation.
    pub session_id: Option<String>,
    /// Tokens.
    pub usage: Usage,
    /// Tokens of records that tell only one number.
    pub token_count: Option<u64>,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// Answers of the model.
    pub turns: Option<u64>,
    /// The facts from which the outcome was concluded.
    pub evidence: Vec<Evidence>,
    /// The commit that was checked out before.
    pub head_before: Option<String>,
    /// The commit that was checked out after.
    pub head_after: Option<String>,
    /// The branch where the run began.
    pub branch: Option<String>,
    /// Index or work tree had changes after the run.
    pub dirty_after: Option<bool>,
    /// Where the task came from; `None` for the registry.
    pub source: Option<String>,
    /// The run that this one repeats or continues, as `task/agent/run_id`.
    pub previous_run: Option<String>,
    /// The time limit.
    pub timeout: Option<Duration>,
    /// The longest silence.
    pub stall_timeout: Option<Duration>,
    /// The program file.
    pub binary: Option<PathBuf>,
    /// The CLI's version.
    pub agent_version: Option<String>,
    /// SHA-256 of the exact prompt, in hexadecimal.
    pub prompt_sha256: Option<String>,
    /// How the run's processes were held together.
    pub containment: Option<String>,
    /// Processes that were alive after the run's end and were killed.
    pub survivors_killed: Option<u32>,
    /// An output pipe was still open after the agent's end.
    pub leaked_output: Option<bool>,
    /// Peak memory of the agent's largest process.
    pub max_rss_bytes: Option<u64>,
    /// User and system time of the agent.
    pub cpu: Option<Duration>,
    /// Bytes that the agent printed.
    pub output_bytes: Option<u64>,
    /// Bytes of them that the transcript leaves out.
    pub output_dropped_bytes: Option<u64>,
    /// The machine's name.
    pub host: Option<String>,
    /// The runner's process id.
    pub pid: Option<u32>,
    /// The identity of the machine's boot, with which `pid` is unique.
    pub boot_id: Option<String>,
    /// The version of the runner that wrote the record.
    pub runner_version: Option<String>,
    /// What became of the notification.
    pub notification: NotificationRecord,
}

impl Record {
    /// A record of which only its place is known.
    pub fn unknown(task: &str, agent: &str, run_id: RunId) -> Self {
        Self {
            start_time: run_id.started(),
            run_id,
            agent: agent.to_owned(),
            task: task.to_owned(),
            outcome: Outcome::Crashed,
            end_time: None,
            elapsed: None,
            exit_code: None,
            agent_exit_code: None,
            agent_signal: None,
            last_message: None,
            commits: Vec::new(),
            files_changed: Vec::new(),
            files_changed_dropped: 0,
            insertions: 0,
            deletions: 0,
            debug_prompt: None,
            dry_run: false,
            requires_commit: None,
            error: None,
            error_class: None,
            resets_at: None,
            model: None,
            session_id: None,
            usage: Usage::default(),
            token_count: None,
            cost_usd: None,
            turns: None,
            evidence: Vec::new(),
            head_before: None,
            head_after: None,
            branch: None,
            dirty_after: None,
            source: None,
            previous_run: None,
            timeout: None,
            stall_timeout: None,
            binary: None,
            agent_version: None,
            prompt_sha256: None,
            containment: None,
            survivors_killed: None,
            leaked_output: None,
            max_rss_bytes: None,
            cpu: None,
            output_bytes: None,
            output_dropped_bytes: None,
            host: None,
            pid: None,
            boot_id: None,
            runner_version: None,
            notification: NotificationRecord::default(),
        }
    }

    /// A record that begins at `start` with a directory of its own.
    pub fn begun(task: &TaskName, agent: &AgentName, run_id: RunId, start: DateTime<Utc>) -> Self {
        let mut record = Self::unknown(task.as_str(), agent.as_str(), run_id);
        record.outcome = Outcome::Running;
        record.start_time = Some(start);
        record
    }

    /// Where the run's directory lies below the log root: `task/agent/run_id`.
    pub fn path(&self) -> String {
        format!("{}/{}/{}", self.task, self.agent, self.run_id)
    }

    /// All tokens of the run.
    pub fn tokens(&self) -> Option<u64> {
        self.usage.total().or(self.token_count)
    }

    /// Whether the agent was started, so that it may have cost something: the record was begun with
    /// its prompt, and the start did not fail.
    pub fn was_started(&self) -> bool {
        self.prompt_sha256.is_some() && self.outcome != Outcome::StartFailed
    }

    /// The same where nobody knows: older programs did not say, and a lost record does not.
    pub fn may_have_been_started(&self) -> bool {
        self.was_started() || self.runner_version.is_none() && self.outcome != Outcome::StartFailed
    }

    /// How many paths its commits touch.
    pub fn files_number(&self) -> usize {
        self.files_changed.len() + self.files_changed_dropped
    }

    /// Whether it tells what the run changed: of one whose runner died, or whose repository could not
    /// be read afterwards, nobody knows.
    pub fn knows_changes(&self) -> bool {
        let is_unseen =
            self.was_started() && self.head_before.is_some() && self.dirty_after.is_none();
        self.outcome != Outcome::Crashed && !is_unseen
    }

    /// The failure in the words of the original records: `usage_limit`, `timeout`,
    /// `connectivity`, or nothing.
    pub fn classified_error(&self) -> Option<&'static str> {
        match (self.outcome, self.error_class) {
            (Outcome::RateLimited, _) => Some("usage_limit"),
            (Outcome::Timeout | Outcome::Stalled, _) => Some("timeout"),
            (_, Some(ErrorClass::Network)) => Some("connectivity"),
            (_, _) => None,
        }
    }

    /// Whether the same run may succeed when it is simply tried again later; `None` where there
    /// is nothing to repeat.
    pub fn retryable(&self) -> Option<bool> {
        if self.outcome.is_good() || !self.outcome.is_final() {
            return None;
        }
        let transient = self.error_class.is_some_and(ErrorClass::is_transient);
        Some(transient || self.outcome == Outcome::RateLimited)
    }

    /// Whether a failure of the network or the provider ended it, which passes by itself in a
    /// short time. A limit does not.
    pub fn failed_in_passing(&self) -> bool {
        self.outcome == Outcome::AgentError && self.retryable() == Some(true)
    }
}

/// A commit as a record names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommitRecord {
    /// Its object name.
    pub commit: String,
    /// The first line of its message.
    pub subject: String,
    /// The author's name.
    pub author: String,
    /// The author's date in ISO 8601.
    pub date: String,
}

/// One fact from which an outcome was concluded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Evidence {
    /// Who saw it.
    pub source: EvidenceSource,
    /// The fact, as a sentence without a period.
    pub fact: String,
}

impl Evidence {
    /// A fact with the one who saw it.
    pub fn new(source: EvidenceSource, fact: impl Into<String>) -> Self {
        Self {
            source,
            fact: fact.into(),
        }
    }
}

/// Who saw a fact.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EvidenceSource {
    /// The kernel, about the agent's processes.
    Process,
    /// The agent, about itself: a claim.
    Agent,
    /// The repository.
    Git,
    /// The task's own checks.
    Verify,
    /// A rule of the task or the configuration.
    Policy,
    /// The runner, about its own doing.
    Runner,
}

impl EvidenceSource {
    /// All sources.
    pub const ALL: [Self; 6] = [
        Self::Process,
        Self::Agent,
        Self::Git,
        Self::Verify,
        Self::Policy,
        Self::Runner,
    ];

    /// The source's name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Agent => "agent",
            Self::Git => "git",
            Self::Verify => "verify",
            Self::Policy => "policy",
            Self::Runner => "runner",
        }
    }
}

/// What became of a run's notification.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NotificationRecord {
    /// How far it is.
    pub state: NotificationState,
    /// The event's identity: the same for every attempt.
    pub id: Option<String>,
    /// How often the server was tried.
    pub attempts: u32,
    /// When the server accepted it.
    pub delivered_at: Option<DateTime<Utc>>,
    /// Whose configuration the run is of, in a word; others in the same log root may have their own
    /// topics. `None` where it is not known, and where it stays as it was noted.
    pub configuration: Option<String>,
}

impl NotificationRecord {
    /// Whether the run has a notification that the outbox did not take.
    pub fn is_unkept(&self) -> bool {
        self.state == NotificationState::Pending && self.id.is_none()
    }
}

/// How far a notification is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum NotificationState {
    /// The task or the configuration wants none.
    #[default]
    Disabled,
    /// It waits in the outbox.
    Pending,
    /// The server accepted it.
    Delivered,
    /// The server refused it for good.
    Refused,
    /// It waited longer than notifications are kept; or nobody keeps it, and what became of it could not
    /// be noted.
    Expired,
}

impl NotificationState {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Disabled,
        Self::Pending,
        Self::Delivered,
        Self::Refused,
        Self::Expired,
    ];

    /// The state's name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}
