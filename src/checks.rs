//! A task's own checks: shell command lines that must pass in the repository after the agent.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::model::invocation::StopSignal;
use crate::model::process_end::{ProcessEnd, ProcessExit, StopReason, Stream};
use crate::model::verdict::Check;
use crate::model::{duration, text};
use crate::planner::{self, RunPlan};
use crate::process::shutdown::Shutdown;
use crate::process::supervise::{Act, Observer, Process, supervise};
use crate::process::watchdog::{Activity, Limits};
use crate::redact::{Masked, Redactor};
use crate::store::capped_log::CappedLog;

/// How much of a check's last output is kept.
const TAIL_BYTES: usize = 16 * 1024;

/// How much of a failing check's last output becomes evidence.
const EVIDENCE_BYTES: usize = 2000;

/// A check that has ended.
#[derive(Debug)]
pub struct Ended<'a> {
    /// Which, and why it failed.
    pub check: &'a Check,
    /// How it failed, in a few words; `None` when it passed.
    pub how: Option<&'a str>,
    /// How long it took.
    pub elapsed: Duration,
    /// What it printed last.
    pub output: &'a str,
}

/// Carries out the checks in order, up to the first that fails; their output goes to `log`.
///
/// Each is supervised like an agent: nothing of it is alive afterwards; `ended` hears of it. Also
/// tells whether the runner was asked to stop meanwhile.
pub async fn carry_out(
    plan: &RunPlan,
    marker: &str,
    log: &mut Option<CappedLog>,
    redactor: &Redactor,
    shutdown: &mut Shutdown,
    ended: &mut dyn FnMut(&Ended<'_>),
) -> (Vec<Check>, Option<StopReason>) {
    let environment = environment(plan);
    let limits = Limits {
        timeout: plan.task.verify_timeout,
        stall_timeout: None,
        patience: plan.task.verify_timeout,
        ..plan.limits
    };
    let mut checks = Vec::new();
    for command in &plan.task.verify {
        let mut tail = Tail::new(log, command, redactor);
        let process = Process {
            program: Path::new("/bin/sh"),
            arguments: &["-c".to_owned(), command.clone()],
            directory: &plan.repository,
            environment: &environment,
            stdin: &[],
            containment: plan.task.containment,
            stop_signal: StopSignal::Terminate,
            marker,
        };
        let end = supervise(&process, limits, &mut tail, shutdown).await;
        let output = tail.finish();
        let how = how(&end);
        let failed = how.is_some();
        let check = Check {
            command: command.clone(),
            failure: how.as_deref().map(|how| failure(how, &output)),
        };
        ended(&Ended {
            check: &check,
            how: how.as_deref(),
            elapsed: end.elapsed,
            output: &output,
        });
        checks.push(check);
        if let Some(StopReason::Shutdown(_)) = end.stopped {
            return (checks, end.stopped);
        }
        if failed {
            break;
        }
    }
    (checks, None)
}

fn environment(plan: &RunPlan) -> Vec<(OsString, OsString)> {
    let mut environment = planner::inheritable(&plan.inherited, &[], &plan.pass_environment);
    environment.insert("PWD".into(), plan.repository.clone().into());
    environment.into_iter().collect()
}

/// How a check failed.
fn how(end: &ProcessEnd) -> Option<String> {
    Some(match (&end.exit, end.stopped) {
        (_, Some(StopReason::Shutdown(signal))) => format!("stopped by signal {signal}"),
        (_, Some(StopReason::Timeout | StopReason::Stalled | StopReason::Limited)) => {
            format!("not done after {}", duration::words(end.elapsed))
        }
        (ProcessExit::Code(0), None) => return None,
        (ProcessExit::Code(code), None) => format!("exit status {code}"),
        (ProcessExit::Signal(signal), None) => format!("signal {signal}"),
        (ProcessExit::NotStarted(reason) | ProcessExit::Unknown(reason), None) => reason.clone(),
    })
}

fn failure(how: &str, output: &str) -> String {
    let output = text::end(output, EVIDENCE_BYTES).trim();
    if output.is_empty() {
        how.to_owned()
    } else {
        format!("{how}; its output ends: {output}")
    }
}

/// Keeps the end of what a check prints, and all of it in the log.
struct Tail<'a> {
    redactor: &'a Redactor,
    masked: Masked,
    bytes: Vec<u8>,
    log: &'a mut Option<CappedLog>,
}

impl<'a> Tail<'a> {
    fn new(log: &'a mut Option<CappedLog>, command: &str, redactor: &'a Redactor) -> Self {
        let masked = Masked::default();
        let mut tail = Self {
            redactor,
            masked,
            bytes: Vec::new(),
            log,
        };
        tail.write(redactor.text(&format!("$ {command}\n")).as_bytes());
        tail
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(log) = &mut self.log {
            log.write(bytes);
        }
    }

    fn keep(&mut self, clean: &[u8]) {
        self.write(clean);
        self.bytes
            .extend_from_slice(&clean[clean.len().saturating_sub(TAIL_BYTES)..]);
        let excess = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.bytes.drain(..excess);
    }

    /// The end of what was printed.
    fn finish(mut self) -> String {
        let rest = self.masked.finish(self.redactor);
        self.keep(&rest);
        text::sanitize(&String::from_utf8_lossy(&self.bytes))
    }
}

impl Observer for Tail<'_> {
    fn printed(&mut self, _stream: Stream, bytes: &[u8], _elapsed: Duration) -> Activity {
        for clean in self.masked.push(self.redactor, bytes) {
            self.keep(&clean);
        }
        Activity::Output
    }

    fn acted(&mut self, act: Act, elapsed: Duration) {
        tracing::info!(?act, ?elapsed, "check");
    }
}
