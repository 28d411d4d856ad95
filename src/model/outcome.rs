//! What the runner concludes of a run, and the exit code that says so.

use std::fmt;

/// What became of a run.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// It has begun and not ended.
    Running,
    /// The agent did the task, and the evidence agrees.
    Success,
    /// The agent found nothing to do, and the task allows that.
    NoChange,
    /// The agent failed, or its success is not credible.
    AgentError,
    /// The agent could not be started.
    StartFailed,
    /// The task requires a commit, and none of the run's own counts.
    CommitMissing,
    /// A command of the task's `verify` failed.
    VerifyFailed,
    /// The work breaks a rule of the task or of the configuration.
    PolicyBlocked,
    /// A rate limit or a usage limit ended it, or kept it from starting.
    RateLimited,
    /// The time limit ended it.
    Timeout,
    /// It was silent longer than the stall timeout.
    Stalled,
    /// The runner was told to stop by this signal.
    Interrupted {
        /// The signal's number.
        signal: i32,
    },
    /// Another run held the repository.
    Skipped,
    /// Another worker took the task over.
    LostLease,
    /// The runner died during the run.
    Crashed,
}

/// Exit code of a good run.
pub const EXIT_SUCCESS: u8 = 0;
/// Exit code of a failed run, or of a runner that could not work.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of a wrong command line or configuration; nothing was started.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of a rate limit.
pub const EXIT_RATE_LIMITED: u8 = 10;
/// Exit code of a time limit.
pub const EXIT_TIMEOUT: u8 = 11;

/// The exit code of what a signal ended: 128+n.
pub fn exit_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(EXIT_FAILURE)
}

impl Outcome {
    /// Every outcome once, for tables and parsers; the signal is SIGTERM.
    pub const ALL: [Self; 15] = [
        Self::Running,
        Self::Success,
        Self::NoChange,
        Self::AgentError,
        Self::StartFailed,
        Self::CommitMissing,
        Self::VerifyFailed,
        Self::PolicyBlocked,
        Self::RateLimited,
        Self::Timeout,
        Self::Stalled,
        Self::Interrupted { signal: 15 },
        Self::Skipped,
        Self::LostLease,
        Self::Crashed,
    ];

    /// The exit code of a run that ended so; `None` while it runs and when its runner died.
    ///
    /// Scripts may rely on 0, 1, 2, 10, 11 and 128+n; any other code is to be read as failure.
    pub fn exit_code(self) -> Option<u8> {
        match self {
            Self::Success | Self::NoChange | Self::Skipped => Some(EXIT_SUCCESS),
            Self::AgentError
            | Self::StartFailed
            | Self::CommitMissing
            | Self::VerifyFailed
            | Self::PolicyBlocked
            | Self::LostLease => Some(EXIT_FAILURE),
            Self::RateLimited => Some(EXIT_RATE_LIMITED),
            Self::Timeout | Self::Stalled => Some(EXIT_TIMEOUT),
            Self::Interrupted { signal } => Some(exit_of_signal(signal)),
            Self::Running | Self::Crashed => None,
        }
    }

    /// Whether the run has ended.
    pub fn is_final(self) -> bool {
        self != Self::Running
    }

    /// Tells how long a run took; of one whose runner died is known only how long it was seen.
    pub fn took(self, words: String) -> String {
        match self {
            Self::Crashed => format!("at least {words}"),
            _ => words,
        }
    }

    /// Whether the run ended well.
    pub fn is_good(self) -> bool {
        self.exit_code() == Some(EXIT_SUCCESS)
    }

    /// The outcome's name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::NoChange => "no_change",
            Self::AgentError => "agent_error",
            Self::StartFailed => "start_failed",
            Self::CommitMissing => "commit_missing",
            Self::VerifyFailed => "verify_failed",
            Self::PolicyBlocked => "policy_blocked",
            Self::RateLimited => "rate_limited",
            Self::Timeout => "timeout",
            Self::Stalled => "stalled",
            Self::Interrupted { .. } => "interrupted",
            Self::Skipped => "skipped",
            Self::LostLease => "lost_lease",
            Self::Crashed => "crashed",
        }
    }

    /// The outcome of that name in records; `exit_code` tells the signal of an interrupted run.
    pub fn from_name(name: &str, exit_code: Option<i32>) -> Option<Self> {
        let outcome = Self::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == name)?;
        Some(match (outcome, exit_code) {
            (Self::Interrupted { .. }, Some(code)) if code > 128 => {
                Self::Interrupted { signal: code - 128 }
            }
            (outcome, _) => outcome,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}
