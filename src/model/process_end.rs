//! What the kernel saw: how a supervised process ended, and what had to be done about it.

use std::time::Duration;

use crate::model::task::Containment;

/// One of the two output streams of a process.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How the process itself ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProcessExit {
    /// It could not be started; the text says what was attempted and why it failed.
    NotStarted(String),
    /// It called exit with this status, 0 to 255.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel did not tell, or the process could not be ended. Never success.
    Unknown(String),
}

/// Why the runner ended the process; ordered by rank, the strongest last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum StopReason {
    /// It waited for a rate limit longer than it may, or beyond the deadline.
    Limited,
    /// It printed nothing for the stall timeout.
    Stalled,
    /// It reached the run's time limit.
    Timeout,
    /// The runner was told to stop by this signal.
    Shutdown(i32),
}

/// Everything the process room knows of a finished process tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProcessEnd {
    /// How the agent's own process ended.
    pub exit: ProcessExit,
    /// Why we ended it, if we did. Outranks `exit`.
    pub stopped: Option<StopReason>,
    /// From spawn to the end of the process, monotonic.
    pub elapsed: Duration,
    /// Largest resident set of any waited-for process of the tree, in bytes.
    pub max_rss_bytes: Option<u64>,
    /// User and system time of the waited-for processes.
    pub cpu: Option<Duration>,
    /// Bytes read from both output streams.
    pub output_bytes: u64,
    /// How its processes were held together; `None` when it was not started.
    pub containment: Option<Containment>,
    /// An output pipe was still open after the process had ended.
    pub leaked_output: bool,
    /// Processes of the run that were alive after its end and were killed.
    pub survivors_killed: u32,
    /// Processes that could not be killed (state D); named, never waited for.
    pub unkillable: Vec<u32>,
}

impl ProcessEnd {
    /// The end of a process that never began.
    pub fn not_started(reason: impl Into<String>) -> Self {
        Self {
            exit: ProcessExit::NotStarted(reason.into()),
            stopped: None,
            elapsed: Duration::ZERO,
            max_rss_bytes: None,
            cpu: None,
            output_bytes: 0,
            containment: None,
            leaked_output: false,
            survivors_killed: 0,
            unkillable: Vec::new(),
        }
    }

    /// The exit status, when the process ended by itself with one.
    pub fn exit_code(&self) -> Option<i32> {
        match self.exit {
            ProcessExit::Code(code) => Some(code),
            ProcessExit::NotStarted(_) | ProcessExit::Signal(_) | ProcessExit::Unknown(_) => None,
        }
    }

    /// The signal that ended the process, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.exit {
            ProcessExit::Signal(signal) => Some(signal),
            ProcessExit::NotStarted(_) | ProcessExit::Code(_) | ProcessExit::Unknown(_) => None,
        }
    }
}
