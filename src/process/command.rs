//! Short helper commands, such as git: run to their end under a limit, their output kept.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use crate::process::budget::Budget;
use crate::process::limits;
use crate::process::program::{find_program, search_path};
use crate::process::system::{LOOK_INTERVAL, ProcessHandle, spawn_open};

/// A helper command.
#[derive(Clone, Copy, Debug)]
pub struct HelperCommand<'a> {
    /// The program, found in the environment's `PATH`.
    pub program: &'a OsStr,
    /// Its arguments.
    pub arguments: &'a [&'a OsStr],
    /// Its working directory.
    pub directory: &'a Path,
    /// Its whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Its standard input.
    pub stdin: &'a [u8],
    /// The longest it may take; then it is killed.
    pub limit: Duration,
    /// A time that it shares with others, and in which it must end as well.
    pub budget: Option<&'a Budget>,
    /// How much is kept of each record, ended by NUL, of its standard output; `None` keeps all.
    pub record_bytes: Option<usize>,
}

/// What a helper command printed, and its exit status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Captured {
    /// The exit status; `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

/// Why a helper command has no result.
#[derive(Debug, Error)]
pub enum HelperError {
    /// It could not be started.
    #[error("cannot start `{program}`")]
    NotStarted {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("`{program}` did not end within {}", crate::model::duration::words(*limit))]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// The runner was asked to stop meanwhile, and it was killed.
    #[error("`{program}` was ended, for the runner was asked to stop")]
    CutShort {
        /// The program.
        program: String,
    },
    /// It printed too much and was killed.
    #[error("`{program}` printed more than {limit} bytes")]
    TooMuchOutput {
        /// The program.
        program: String,
        /// The most it may print.
        limit: usize,
    },
    /// Its status or output could not be read.
    #[error("cannot follow `{program}`")]
    Lost {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
}

impl HelperError {
    /// Whether it was killed for what it printed.
    pub fn is_too_much_output(&self) -> bool {
        matches!(self, Self::TooMuchOutput { .. })
    }
}

/// The helpers that run, by their process groups. None is in it that was reaped: its number may be
/// another's by then.
struct Helpers {
    groups: Vec<Pid>,
    are_over: bool,
}

impl Helpers {
    fn forget(&mut self, group: Option<Pid>) {
        self.groups.retain(|known| Some(*known) != group);
    }
}

static HELPERS: Mutex<Helpers> = Mutex::new(Helpers {
    groups: Vec::new(),
    are_over: false,
});

fn helpers() -> MutexGuard<'static, Helpers> {
    HELPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all helpers that run, in whichever threads, and lets no other start: the runner ends.
pub fn end_all() {
    let mut helpers = helpers();
    helpers.are_over = true;
    for group in &helpers.groups {
        if let Err(error) = kill_process_group(*group, Signal::KILL) {
            tracing::debug!(%error, "helper not killed");
        }
    }
}

/// Runs a helper command to its end. Blocks, at most for its limit.
pub fn run(command: &HelperCommand<'_>) -> Result<Captured, HelperError> {
    start(command)?.finish()
}

/// A helper command that was started; dropped, it is killed. Several may run side by side.
#[derive(Debug)]
pub struct RunningHelper {
    program: String,
    limit: Duration,
    budget: Option<Budget>,
    record_bytes: Option<usize>,
    child: Child,
    /// Its process group, as long as it is among [`HELPERS`].
    group: Option<Pid>,
    input: Vec<u8>,
}

/// Starts a helper command. What it prints beyond the size of a pipe, and its input, wait until it
/// is finished.
pub fn start(command: &HelperCommand<'_>) -> Result<RunningHelper, HelperError> {
    let program = command.program.to_string_lossy().into_owned();
    let mut helpers = helpers();
    let spawned = if helpers.are_over {
        Err(io::Error::other("the runner ends"))
    } else {
        spawn(command)
    };
    let group = spawned.as_ref().ok().map(Pid::from_child);
    helpers.groups.extend(group);
    drop(helpers);
    match spawned {
        Ok(child) => Ok(RunningHelper {
            program,
            limit: command.limit,
            budget: command.budget.cloned(),
            record_bytes: command.record_bytes,
            child,
            group,
            input: command.stdin.to_owned(),
        }),
        Err(source) => Err(HelperError::NotStarted {
            program,
            source: io::Error::new(source.kind(), limits::advised(&source)),
        }),
    }
}

impl RunningHelper {
    /// Waits for its end, at most for its limit from now and within its budget; then it is killed.
    /// A pipe that another process still holds is not waited for.
    pub fn finish(self) -> Result<Captured, HelperError> {
        self.finish_within(usize::MAX)
    }

    /// The same, but it is also killed when it prints more than about `max_output` bytes.
    pub fn finish_within(mut self, max_output: usize) -> Result<Captured, HelperError> {
        let mut deadline = Instant::now() + self.limit;
        if let Some(budget) = self.budget.as_ref().filter(|budget| budget.end < deadline) {
            (deadline, self.limit) = (budget.end, budget.length());
        }
        let result = self.listen(deadline, max_output);
        let program = std::mem::take(&mut self.program);
        match result {
            Ok(Heard::All(captured)) => Ok(captured),
            Ok(Heard::TooLate) if self.is_cut() => Err(HelperError::CutShort { program }),
            Ok(Heard::TooLate) => Err(HelperError::TimedOut {
                program,
                limit: self.limit,
            }),
            Ok(Heard::TooMuch) => Err(HelperError::TooMuchOutput {
                program,
                limit: max_output,
            }),
            Err(source) => Err(HelperError::Lost { program, source }),
        }
    }

    fn is_cut(&self) -> bool {
        self.budget.as_ref().is_some_and(Budget::is_cut)
    }

    /// Kills it and the processes that it has started: one that speaks with a server would go on.
    ///
    /// One that hangs in the kernel, as in a file system that does not answer, is left to it.
    fn kill(&mut self) -> io::Result<()> {
        let process = Pid::from_child(&self.child);
        kill_process_group(process, Signal::KILL)?;
        let Ok(exit) = ProcessHandle::open(process) else {
            return self.reap().map(drop);
        };
        let deadline = Instant::now() + KILL_LIMIT;
        let look = Timespec::try_from(LOOK_INTERVAL).map_err(io::Error::other)?;
        loop {
            let mut watched: Vec<PollFd<'_>> = exit.watch().into_iter().collect();
            match poll(&mut watched, Some(&look)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if exit.has_ended(&watched) {
                return self.reap().map(drop);
            }
            if deadline <= Instant::now() {
                helpers().forget(self.group.take());
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn reap(&mut self) -> io::Result<ExitStatus> {
        helpers().forget(self.group.take());
        self.child.wait()
    }

    /// Feeds it and takes what it prints until it ends.
    fn listen(&mut self, deadline: Instant, max_output: usize) -> io::Result<Heard> {
        let exit = ProcessHandle::open(Pid::from_child(&self.child))?;
        let mut stdin = Pipe::new(self.child.stdin.take())?;
        let mut stdout = Pipe::new(self.child.stdout.take())?;
        let mut stderr = Pipe::new(self.child.stderr.take())?;
        let mut input = &self.input[..];
        let mut printed = Kept::new(self.record_bytes);
        let mut complained = Kept::new(None);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_cut() {
                return Ok(Heard::TooLate);
            }
            let mut watched: Vec<PollFd<'_>> = exit.watch().into_iter().collect();
            watched.extend(stdin.watch(PollFlags::OUT));
            watched.extend(stdout.watch(PollFlags::IN));
            watched.extend(stderr.watch(PollFlags::IN));
            // Nothing tells its end, which is near when its pipes are closed.
            let look = if watched.is_empty() {
                Duration::from_millis(1)
            } else {
                LOOK_INTERVAL
            };
            let pause = left.min(look);
            let limit = Timespec::try_from(pause).map_err(io::Error::other)?;
            match poll(&mut watched, Some(&limit)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let has_ended = exit.has_ended(&watched);
            stdin.write(&mut input)?;
            stdout.read(&mut printed)?;
            stderr.read(&mut complained)?;
            if printed.bytes.len().max(complained.bytes.len()) > max_output {
                return Ok(Heard::TooMuch);
            }
            if has_ended {
                return Ok(Heard::All(Captured {
                    code: self.reap()?.code(),
                    stdout: printed.bytes,
                    stderr: String::from_utf8_lossy(&complained.bytes).into_owned(),
                }));
            }
        }
    }
}

impl Drop for RunningHelper {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        // Of one that was waited for, the number may be another's now.
        if self.group.is_none() {
            return;
        }
        // One that has ended is reaped here, and nobody may signal its number from then on.
        let mut helpers = helpers();
        if !matches!(self.child.try_wait(), Ok(None)) {
            return helpers.forget(self.group.take());
        }
        drop(helpers);
        if let Err(error) = self.kill() {
            tracing::debug!(%error, "helper not killed");
        }
    }
}

/// The longest time for the kernel to end what was killed.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// What is kept of an output.
struct Kept {
    bytes: Vec<u8>,
    /// The most of one record.
    record_bytes: Option<usize>,
    /// How much of the last record has come.
    length: usize,
}

impl Kept {
    fn new(record_bytes: Option<usize>) -> Self {
        Self {
            bytes: Vec::new(),
            record_bytes,
            length: 0,
        }
    }

    fn take(&mut self, piece: &[u8]) {
        let Some(most) = self.record_bytes else {
            self.bytes.extend_from_slice(piece);
            return;
        };
        for part in piece.split_inclusive(|byte| *byte == 0) {
            let (text, end) = match part.split_last() {
                Some((0, text)) => (text, &part[text.len()..]),
                Some(_) | None => (part, &part[part.len()..]),
            };
            let room = most.saturating_sub(self.length).min(text.len());
            self.bytes.extend_from_slice(&text[..room]);
            self.bytes.extend_from_slice(end);
            self.length = if end.is_empty() {
                self.length.saturating_add(text.len())
            } else {
                0
            };
        }
    }
}

/// How far a helper was followed.
enum Heard {
    All(Captured),
    TooLate,
    TooMuch,
}

/// The most that is read at once, more than a pipe holds.
const PIECE_BYTES: u64 = 1024 * 1024;

/// Our end of a pipe, until it has ended. Nothing here waits.
struct Pipe(Option<File>);

impl Pipe {
    fn new(end: Option<impl Into<OwnedFd>>) -> io::Result<Self> {
        let file = end.map(|end| File::from(end.into()));
        if let Some(file) = &file {
            ioctl_fionbio(file, true)?;
        }
        Ok(Self(file))
    }

    fn watch(&self, flags: PollFlags) -> Option<PollFd<'_>> {
        self.0.as_ref().map(|file| PollFd::new(file, flags))
    }

    fn read(&mut self, kept: &mut Kept) -> io::Result<()> {
        let Some(file) = &mut self.0 else {
            return Ok(());
        };
        let mut piece = Vec::new();
        let result = file.take(PIECE_BYTES).read_to_end(&mut piece);
        kept.take(&piece);
        match result {
            Ok(number) if number as u64 == PIECE_BYTES => {}
            Ok(_) => self.0 = None,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Writes what there is room for, and closes the pipe at the end. A helper that does not read
    /// its input says so by its exit status.
    fn write(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.0 else {
            return Ok(());
        };
        match file.write(bytes) {
            Ok(number) => *bytes = &bytes[number..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *bytes = &[],
            Err(error) => return Err(error),
        }
        if bytes.is_empty() {
            self.0 = None;
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
fn spawn(command: &HelperCommand<'_>) -> io::Result<Child> {
    let search_path = search_path(command.environment);
    // With a whole path the process is spawned by vfork; std forks where it searches by itself.
    let program = find_program(Path::new(command.program), search_path)
        .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error))?;
    let mut builder = Command::new(program);
    let stdin = if command.stdin.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    builder
        .args(command.arguments)
        .current_dir(command.directory)
        .env_clear()
        .envs(
            command
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    spawn_open(|| builder.spawn())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper<'a>(program: &'a str, arguments: &'a [&'a OsStr]) -> HelperCommand<'a> {
        HelperCommand {
            program: OsStr::new(program),
            arguments,
            directory: Path::new("/"),
            environment: &[],
            stdin: b"",
            limit: LIMIT,
            budget: None,
            record_bytes: None,
        }
    }

    fn sh(script: &str, stdin: &[u8], limit: Duration) -> Result<Captured, HelperError> {
        let arguments = ["-c", script].map(OsStr::new);
        run(&HelperCommand {
            environment: &[("PATH".into(), "/usr/bin:/bin".into())],
            stdin,
            limit,
            ..helper("/bin/sh", &arguments)
        })
    }

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    #[cfg(target_os = "linux")]
    fn no_signal_is_held_back_from_a_helper_and_its_thread_goes_on_leaving_them() {
        crate::process::shutdown::leave_signals_to_main();
        let held = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let held = status.lines().find(|line| line.starts_with("SigBlk"));
            held.unwrap().to_owned()
        };
        let before = held();
        let arguments = ["SigBlk", "/proc/self/status"].map(OsStr::new);
        let captured = run(&helper("/bin/grep", &arguments));
        let nothing = "SigBlk:\t0000000000000000";
        assert_eq!(captured.unwrap().stdout, format!("{nothing}\n").as_bytes());
        assert_eq!(before, held());
        assert_ne!(before, nothing);
    }

    #[test]
    fn input_and_output_of_any_size_pass() {
        let input = vec![b'x'; 3 * 1024 * 1024 + 1];
        let captured = sh("tee /dev/stderr; exit 3", &input, LIMIT).unwrap();
        assert_eq!(captured.code, Some(3));
        assert_eq!(captured.stdout, input);
        assert_eq!(captured.stderr.len(), input.len());
        let unread = sh("echo done", &input, LIMIT).unwrap();
        assert_eq!((unread.code, &unread.stdout[..]), (Some(0), &b"done\n"[..]));
    }

    #[test]
    fn a_helper_beyond_its_limit_is_killed() {
        for script in ["exec sleep 60", "exec yes", "exec sleep 60 >&- 2>&-"] {
            let began = Instant::now();
            let error = sh(script, b"", Duration::from_millis(100)).unwrap_err();
            assert!(matches!(error, HelperError::TimedOut { .. }), "{error}");
            assert!(began.elapsed() < LIMIT / 2, "{script}");
        }
    }

    #[test]
    fn of_each_record_only_the_beginning_is_kept() {
        let mut kept = Kept::new(Some(3));
        for piece in [&b"ab\0abcd"[..], b"ef", b"g\0\0x", b"yz!\0abc\0q"] {
            kept.take(piece);
        }
        assert_eq!(kept.bytes, b"ab\0abc\0\0xyz\0abc\0q");
    }

    #[test]
    fn a_helper_beyond_its_limit_takes_its_children_with_it() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("child");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        sh(&script, b"", Duration::from_secs(1)).unwrap_err();
        let child = std::fs::read_to_string(&file).unwrap();
        let stat = format!("/proc/{}/stat", child.trim());
        let is_gone = || match std::fs::read_to_string(&stat) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let began = Instant::now();
        while !is_gone() && began.elapsed() < LIMIT / 2 {
            std::thread::yield_now();
        }
        assert!(is_gone());
    }

    #[test]
    fn a_helper_that_prints_without_end_is_killed_in_bounded_memory() {
        for script in ["exec yes", "exec yes >&2"] {
            let arguments = ["-c", script].map(OsStr::new);
            let helper = start(&helper("/bin/sh", &arguments));
            let error = helper.unwrap().finish_within(1 << 20).unwrap_err();
            assert!(
                matches!(error, HelperError::TooMuchOutput { .. }),
                "{error}"
            );
        }
    }

    #[test]
    fn a_helper_that_nobody_waited_for_is_not_signalled_once_it_has_ended() {
        let helper = start(&helper("/bin/sh", &["-c", "true"].map(OsStr::new))).unwrap();
        let group = Pid::from_child(&helper.child);
        let is_known = || helpers().groups.contains(&group);
        assert!(is_known());
        while !crate::process::system::has_ended(group) {
            std::thread::yield_now();
        }
        drop(helper);
        assert!(!is_known());
    }

    #[test]
    fn a_process_that_a_helper_leaves_behind_is_not_waited_for() {
        let began = Instant::now();
        let captured = sh("echo done; sleep 30 &", b"", LIMIT).unwrap();
        assert_eq!(captured.stdout, b"done\n");
        assert!(began.elapsed() < LIMIT / 4);
    }

    #[test]
    fn a_program_that_does_not_exist_is_not_started() {
        let error = run(&HelperCommand {
            program: OsStr::new("no-such-program"),
            arguments: &[],
            directory: Path::new("/"),
            environment: &[("PATH".into(), "/usr/bin:/bin".into())],
            stdin: &[],
            limit: LIMIT,
            budget: None,
            record_bytes: None,
        });
        let Err(HelperError::NotStarted { source, .. }) = error else {
            panic!("{error:?}");
        };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
    }
}
