//! A namespace of processes, made by [bubblewrap](https://github.com/containers/bubblewrap).
//!
//! ```text
//! agent-runner run ─► bwrap ─► agent-runner namespace-init ─► the agent
//!                              process 1 of the namespace
//! ```
//!
//! When any of the first three dies, the kernel kills all that are below it. The file system and
//! the network are those of the runner; only `/proc` is the namespace's own, and programs that get
//! rights by being executed (sudo) get none.
//!
//! bwrap tells neither a signal from an exit status nor what the agent used. So the first process
//! in the namespace is this program again: it passes signals on, reaps, and reports by a pipe.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

use crate::model::process_end::ProcessExit;
use crate::process::containment::{self, Cage};
use crate::process::identity;
use crate::process::program::find_program;
use crate::process::shutdown::Shutdown;
use crate::process::supervise::LEAK_WINDOW;
use crate::process::system::{self, Entry, IS_LINUX, Reaped, SpawnError};

/// The verb of this program that is the first process of a namespace.
pub const VERB: &str = "namespace-init";

/// The signal by which the first process is asked to kill the agent. It is blocked until it is
/// heard, and no agent is asked to end by it.
pub(super) const KILL: Signal = Signal::USR1;

/// Finds bubblewrap.
pub(super) fn find(search_path: &OsStr) -> Result<PathBuf, String> {
    if !IS_LINUX {
        return Err("containment `namespace` needs Linux".to_owned());
    }
    find_program(Path::new("bwrap"), search_path)
        .map_err(|error| format!("containment `namespace` needs bubblewrap: {error}"))
}

/// A namespace to be made.
#[derive(Debug)]
pub(in crate::process) struct Namespace {
    bubblewrap: PathBuf,
    runner: PathBuf,
    report: OwnedFd,
    reporter: OwnedFd,
}

impl Namespace {
    pub(super) fn prepare(search_path: &OsStr) -> Result<Self, String> {
        let failure = |error| format!("containment `namespace` cannot be had: {error}");
        let bubblewrap = find(search_path)?;
        let (report, reporter) = io::pipe().map_err(failure)?;
        ioctl_fionbio(&report, true).map_err(|error| failure(error.into()))?;
        Ok(Self {
            bubblewrap,
            runner: std::env::current_exe().map_err(failure)?,
            report: report.into(),
            reporter: reporter.into(),
        })
    }

    pub(super) fn entry(&self) -> Entry<'_> {
        Entry::Namespace(self.reporter.as_fd())
    }

    /// What is executed instead of the program.
    pub(in crate::process) fn wrap(
        &self,
        program: &Path,
        arguments: &[String],
        directory: &Path,
    ) -> (&Path, Vec<OsString>) {
        let mut wrapped: Vec<OsString> = [
            "--unshare-pid",
            "--as-pid-1",
            "--die-with-parent",
            "--dev-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--chdir",
        ]
        .map(OsString::from)
        .to_vec();
        wrapped.extend([
            directory.into(),
            "--".into(),
            self.runner.clone().into(),
            VERB.into(),
            self.reporter.as_raw_fd().to_string().into(),
            "--".into(),
            program.into(),
        ]);
        wrapped.extend(arguments.iter().map(OsString::from));
        (&self.bubblewrap, wrapped)
    }

    /// What the first process reported. Does not wait; call it when all have ended.
    pub(in crate::process) fn report(&self) -> Report {
        let mut text = [0; 512];
        match rustix::io::read(&self.report, &mut text) {
            Ok(length) => Report::read(&String::from_utf8_lossy(&text[..length])),
            Err(_nothing_was_written) => Report::Nothing,
        }
    }
}

/// What is known of an agent in a namespace.
#[derive(Clone, Debug)]
pub(in crate::process) enum Report {
    /// There was no namespace.
    Nothing,
    /// Its program could not be executed; see errno(3).
    NotStarted(i32),
    /// It was started, and how it ended was not told.
    Started,
    /// It ended, and this many others were killed after it.
    Ended(Reaped, u32),
}

impl Report {
    fn read(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let ended = |exit, numbers: &[&str]| {
            let number = |index: usize| numbers.get(index)?.parse::<u64>().ok();
            let reaped = Reaped {
                exit,
                max_rss_bytes: number(0)?,
                cpu: Duration::from_micros(number(1)?),
            };
            Some(Self::Ended(reaped, u32::try_from(number(2)?).ok()?))
        };
        let number = |word: &str| word.parse().ok();
        let read = match words[..] {
            [] => Some(Self::Nothing),
            ["failed", errno] => number(errno).map(Self::NotStarted),
            ["started", "code", code, ref rest @ ..] => {
                number(code).and_then(|code| ended(ProcessExit::Code(code), rest))
            }
            ["started", "signal", signal, ref rest @ ..] => {
                number(signal).and_then(|signal| ended(ProcessExit::Signal(signal), rest))
            }
            _ => None,
        };
        read.unwrap_or(Self::Started)
    }
}

/// Is the first process of a namespace: starts the agent, passes on what it is asked, and ends when
/// the agent and all others have ended. Reports by the descriptor of that number.
///
/// # Errors
/// When it cannot report or listen; the runner then knows that nothing was started.
pub async fn init(reporter: i32, program: &Path, arguments: &[OsString]) -> io::Result<()> {
    let mut reporter = File::options()
        .write(true)
        .open(format!("/proc/self/fd/{reporter}"))?;
    let mut shutdown = Shutdown::listen()?;
    let mut kill = signal(SignalKind::user_defined1())?;
    let mut ended = signal(SignalKind::child())?;
    system::hear_signals()?;
    #[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
    let mut command = Command::new(program);
    let agent = match system::spawn_leader(command.args(arguments), Entry::Here) {
        Ok(agent) => agent.pid,
        Err(SpawnError::Program(error) | SpawnError::Cgroup(error)) => {
            let errno = error.raw_os_error().unwrap_or_default();
            return reporter.write_all(format!("failed {errno}\n").as_bytes());
        }
    };
    reporter.write_all(b"started\n")?;
    let reaped = loop {
        tokio::select! {
            number = shutdown.next() => {
                pass_on(agent, Signal::from_named_raw(number));
                // A stopped process takes the signal only once it continues.
                pass_on(agent, Some(Signal::CONT));
            }
            _ = kill.recv() => pass_on(agent, Some(Signal::KILL)),
            _ = ended.recv() => {
                containment::reap_orphans(Some(agent));
                if let Ok(reaped) = system::reap(agent) {
                    break reaped;
                }
            }
        }
    };
    // As outside: what the agent leaves may still print a little.
    let began = Instant::now();
    while !identity::children().is_empty() && began.elapsed() < LEAK_WINDOW {
        tokio::select! {
            _ = ended.recv() => {}
            () = tokio::time::sleep(LEAK_WINDOW.saturating_sub(began.elapsed())) => {}
        }
        containment::reap_orphans(None);
    }
    let sweep = Cage::Bare.kill_rest(None, "", &[]);
    reporter.write_all(ending(&reaped, sweep.killed).as_bytes())
}

fn pass_on(agent: Pid, signal: Option<Signal>) {
    if let Some(signal) = signal
        && let Err(error) = kill_process_group(agent, signal)
    {
        tracing::debug!(%error, ?signal, "group not signalled");
    }
}

fn ending(reaped: &Reaped, killed: u32) -> String {
    let (rss, cpu) = (reaped.max_rss_bytes, reaped.cpu.as_micros());
    let (how, number) = match &reaped.exit {
        ProcessExit::Code(code) => ("code", *code),
        ProcessExit::Signal(signal) => ("signal", *signal),
        ProcessExit::NotStarted(_) | ProcessExit::Unknown(_) => return String::new(),
    };
    format!("{how} {number} {rss} {cpu} {killed}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reported_is_read_and_nothing_else() {
        let exits = [
            ProcessExit::Code(0),
            ProcessExit::Code(137),
            ProcessExit::Signal(9),
        ];
        for exit in exits {
            let reaped = Reaped {
                exit: exit.clone(),
                max_rss_bytes: 4096,
                cpu: Duration::from_micros(1_500_001),
            };
            let text = format!("started\n{}", ending(&reaped, 3));
            let Report::Ended(read, 3) = Report::read(&text) else {
                panic!("{text}");
            };
            assert_eq!(read.exit, exit);
            assert_eq!((read.max_rss_bytes, read.cpu), (4096, reaped.cpu));
        }
        assert!(matches!(Report::read(""), Report::Nothing));
        assert!(matches!(
            Report::read("failed 13\n"),
            Report::NotStarted(13)
        ));
        for torn in ["started\n", "started\ncode 1 2", "started\ncode x 1 2 3\n"] {
            assert!(matches!(Report::read(torn), Report::Started), "{torn}");
        }
    }
}
