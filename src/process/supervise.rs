//! One process tree under limits: started, listened to, ended, and swept up.
//!
//! One loop owns the child and selects over its end, its two output pipes, the clock and requests
//! to stop; the [`Watchdog`] decides. The end is the end of the *process*: a pipe that somebody
//! still holds is a leak, noted and closed, never a hang. When [`supervise`] returns, nothing of
//! the tree is alive. Should the loop itself hang, a `guard` ends the process.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process_group};
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};

use crate::model::invocation::StopSignal;
use crate::model::process_end::{ProcessEnd, ProcessExit, StopReason, Stream};
use crate::model::task::Containment;
use crate::process::containment::namespace::{Namespace, Report};
use crate::process::containment::{self, Cage, MARKER_VARIABLE, Sweep};
use crate::process::guard::Guard;
use crate::process::identity::{self, ProcessStat};
use crate::process::limits;
use crate::process::program::search_path;
use crate::process::shutdown::Shutdown;
use crate::process::system::{self, ExitWatch, HeldStop, IS_LINUX, SpawnError, Spawned, number};
use crate::process::watchdog::{Activity, Happening, Limits, Step, Watchdog};

/// How long an output pipe may stay open after the process has ended.
pub(super) const LEAK_WINDOW: Duration = Duration::from_millis(300);

/// The size of one read. Large, because a chatty agent is read in few calls.
const READ_BYTES: usize = 256 * 1024;

/// The size asked for the output pipes, the most an unprivileged process may have.
const PIPE_BYTES: usize = 1024 * 1024;

/// How often it is looked what belongs to the tree, where orphans are not adopted.
const SEE_INTERVAL: Duration = Duration::from_secs(2);

/// When what only the start needed is given back, as the process may go on for hours.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// How much of standard error is kept for the case that bubblewrap fails.
const COMPLAINT_BYTES: usize = 500;

/// A program that was just replaced may be busy for a moment (an agent that updates itself).
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What is started.
#[derive(Clone, Copy, Debug)]
pub struct Process<'a> {
    /// The program file.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [String],
    /// Its working directory.
    pub directory: &'a Path,
    /// Its whole environment; the marker is added.
    pub environment: &'a [(OsString, OsString)],
    /// Its standard input, closed after these bytes; `/dev/null` when empty.
    pub stdin: &'a [u8],
    /// How its processes are to be held together; `None` for the strongest way that works here.
    pub containment: Option<Containment>,
    /// How to ask it to end.
    pub stop_signal: StopSignal,
    /// A text that is unique to the run, put into the environment of the whole tree.
    pub marker: &'a str,
}

/// Listens to a supervised process.
pub trait Observer {
    /// Takes what the process printed and tells what it means. Must not block for long.
    fn printed(&mut self, stream: Stream, bytes: &[u8], elapsed: Duration) -> Activity;

    /// Takes what was done to the process, for the record.
    fn acted(&mut self, act: Act, elapsed: Duration);
}

/// What the supervisor did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// The process was started under this number.
    Started(u32),
    /// It was asked to end.
    Stopping(StopReason),
    /// It was killed.
    Killed,
    /// It was stopped for a while, as the runner is.
    Paused,
    /// It continues.
    Resumed,
    /// It has ended.
    Ended,
}

/// Runs one process to its end under `limits`. Never fails: what cannot be started is a
/// [`ProcessEnd`], too.
///
/// Returns at most the grace period and 5 s after a limit, unless `observer` hangs: the process is
/// killed then, or soon after a request to end, and this returns once the observer does. A request
/// to stop for a while (Ctrl-Z) stops the whole tree first, and the pause counts toward no limit.
/// While the runner alone cannot run, the limits go on; what the process did meanwhile is looked at
/// before they are applied.
///
/// Must run on the main thread, in a current-thread runtime: the child dies with the thread that
/// spawned it. A dropped future kills nothing; poll it to its end.
pub async fn supervise(
    process: &Process<'_>,
    limits: Limits,
    observer: &mut dyn Observer,
    shutdown: &mut Shutdown,
) -> ProcessEnd {
    if let Err(error) = containment::adopt_orphans() {
        return ProcessEnd::not_started(format!("cannot become the reaper of orphans: {error}"));
    }
    let search_path = search_path(process.environment);
    let held_stop = match HeldStop::begin() {
        Ok(held_stop) => held_stop,
        Err(error) => return ProcessEnd::not_started(format!("signals cannot be taken: {error}")),
    };
    let mut cage = match Cage::build(process.containment, search_path, process.marker) {
        Ok(cage) => cage,
        Err(reason) => return ProcessEnd::not_started(reason),
    };
    let spawned = match spawn(process, &mut cage).await {
        Ok(spawned) => spawned,
        Err(reason) => {
            cage.remove();
            return ProcessEnd::not_started(reason);
        }
    };
    let started = Instant::now();
    let Some(leader) = identity::stat(spawned.pid) else {
        // Descriptors have run out, and so may those for a look at what to kill.
        if let Err(error) = kill_process_group(spawned.pid, Signal::KILL) {
            tracing::debug!(%error, "group not signalled");
        }
        cage.kill_rest(None, process.marker, &[]);
        containment::reap_orphans(None);
        cage.remove();
        return ProcessEnd::not_started("the process could not be looked at");
    };
    observer.acted(Act::Started(number(leader.pid)), started.elapsed());
    let mut tree = Tree {
        leader,
        cage,
        process,
        observer,
        started,
        paused: Duration::ZERO,
        seen: Vec::new(),
        output_bytes: 0,
        complaint: Vec::new(),
    };
    let mut end = match tree.follow(spawned, limits, shutdown, &held_stop).await {
        Ok(end) => end,
        Err(error) => tree.lost(&error),
    };
    tree.cage.remove();
    end.containment = Some(tree.cage.containment());
    if let Cage::Namespace(namespace) = &tree.cage {
        tree.correct(&mut end, namespace);
    }
    end
}

async fn spawn(process: &Process<'_>, cage: &mut Cage) -> Result<Spawned, String> {
    let mut attempt = 0;
    loop {
        match system::spawn_leader(&mut command(process, cage), cage.entry()) {
            Ok(spawned) => return Ok(spawned),
            Err(SpawnError::Program(error))
                if error.kind() == io::ErrorKind::ExecutableFileBusy && attempt < BUSY_RETRIES =>
            {
                attempt += 1;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            Err(SpawnError::Program(error)) => return Err(spawn_failure(process, &error)),
            Err(SpawnError::Cgroup(error)) if process.containment.is_none() => {
                tracing::debug!(%error, "the cgroup cannot be entered");
                cage.remove();
                *cage = Cage::Bare;
            }
            Err(SpawnError::Cgroup(error)) => {
                let why = limits::advised(&error);
                return Err(format!("the cgroup of the run cannot be entered: {why}"));
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
fn command(process: &Process<'_>, cage: &Cage) -> Command {
    let mut command = match cage {
        Cage::Namespace(namespace) => {
            let (program, arguments) =
                namespace.wrap(process.program, process.arguments, process.directory);
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
        Cage::Cgroup(_) | Cage::Bare => {
            let mut command = Command::new(process.program);
            command.args(process.arguments);
            command
        }
    };
    let stdin = if process.stdin.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    command
        .current_dir(process.directory)
        .env_clear()
        .envs(
            process
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .env(MARKER_VARIABLE, process.marker)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Says why a program did not start, in words that name what is missing.
fn spawn_failure(process: &Process<'_>, error: &io::Error) -> String {
    let program = process.program.display();
    let directory = process.directory.display();
    match error.kind() {
        io::ErrorKind::NotFound if !process.directory.is_dir() => {
            format!("cannot start `{program}`: its working directory `{directory}` does not exist")
        }
        io::ErrorKind::NotFound if process.program.exists() => {
            format!("cannot start `{program}`: the interpreter in its first line does not exist")
        }
        _ => format!("cannot start `{program}`: {}", limits::advised(error)),
    }
}

/// A running tree.
struct Tree<'a> {
    leader: ProcessStat,
    cage: Cage,
    process: &'a Process<'a>,
    observer: &'a mut dyn Observer,
    started: Instant,
    /// For how long it was stopped, as the runner was.
    paused: Duration,
    /// What was seen of it, where orphans are not adopted.
    seen: Vec<ProcessStat>,
    output_bytes: u64,
    /// The beginning of its standard error, where bubblewrap says why it cannot.
    complaint: Vec<u8>,
}

/// Where the loop is.
enum Phase {
    Running,
    /// The process has ended; its pipes are read until this time.
    Draining(tokio::time::Instant),
}

impl Tree<'_> {
    async fn follow(
        &mut self,
        spawned: Spawned,
        limits: Limits,
        shutdown: &mut Shutdown,
        held_stop: &HeldStop,
    ) -> io::Result<ProcessEnd> {
        let mut exit = ExitWatch::begin(self.leader.pid)?;
        let mut orphans = signal(SignalKind::child())?;
        let mut stdout = Output::new(Stream::Stdout, spawned.stdout)?;
        let mut stderr = Output::new(Stream::Stderr, spawned.stderr)?;
        let mut feeding = pin!(feed(spawned.stdin, self.process.stdin));
        let mut fed = false;
        let mut watchdog = Watchdog::new(limits);
        let mut happening = Happening::Time;
        let mut phase = Phase::Running;
        let mut elapsed = Duration::ZERO;
        let mut gave_up = false;
        let mut next_look = tokio::time::Instant::now() + SEE_INTERVAL;
        let mut settling = pin!(tokio::time::sleep(SETTLED_AFTER));
        let mut is_settled = false;
        let mut buffer = vec![0; READ_BYTES];
        let gone_after = limits.timeout + limits.grace_period;
        let guard = Guard::post(self.started + gone_after, self.cage.killer(self.leader.pid));
        loop {
            if matches!(phase, Phase::Running) && watchdog.is_exceeded(self.working()) {
                // The runner may have been unable to run: what happened meanwhile comes first.
                if system::has_ended(self.leader.pid) {
                    elapsed = self.started.elapsed();
                    phase = Phase::Draining(tokio::time::Instant::now() + LEAK_WINDOW);
                } else {
                    self.catch_up(&mut stdout, &mut buffer, &mut watchdog);
                    self.catch_up(&mut stderr, &mut buffer, &mut watchdog);
                }
            }
            let deadline = match phase {
                Phase::Draining(deadline) => {
                    if !stdout.is_open() && !stderr.is_open()
                        || deadline <= tokio::time::Instant::now()
                    {
                        break;
                    }
                    deadline
                }
                Phase::Running => match watchdog.advance(self.working(), happening) {
                    Step::WaitUntil(at) if IS_LINUX => (self.started + self.paused + at).into(),
                    Step::WaitUntil(at) => next_look.min((self.started + self.paused + at).into()),
                    step => {
                        happening = Happening::Time;
                        if !self.act(step) {
                            gave_up = true;
                            elapsed = self.started.elapsed();
                            break;
                        }
                        continue;
                    }
                },
            };
            happening = Happening::Time;
            guard.round(
                deadline
                    .into_std()
                    .max(self.started + self.paused + gone_after),
            );
            tokio::select! {
                ended = exit.ended(), if matches!(phase, Phase::Running) => {
                    ended?;
                    elapsed = self.started.elapsed();
                    phase = Phase::Draining(tokio::time::Instant::now() + LEAK_WINDOW);
                }
                () = stdout.ready(), if stdout.is_open() => {
                    let number = stdout.take(&mut buffer);
                    happening = self.hear(Stream::Stdout, number, &buffer);
                }
                () = stderr.ready(), if stderr.is_open() => {
                    let number = stderr.take(&mut buffer);
                    happening = self.hear(Stream::Stderr, number, &buffer);
                }
                () = &mut feeding, if !fed => fed = true,
                () = &mut settling, if !is_settled => {
                    system::give_back_files();
                    is_settled = true;
                }
                number = shutdown.next() => happening = Happening::Shutdown(number),
                () = held_stop.requested(), if matches!(phase, Phase::Running) => {
                    self.pause(held_stop);
                }
                _ = orphans.recv() => containment::reap_orphans(Some(self.leader.pid)),
                () = tokio::time::sleep_until(deadline) => {
                    if !IS_LINUX && matches!(phase, Phase::Running) {
                        self.see();
                        next_look = tokio::time::Instant::now() + SEE_INTERVAL;
                    }
                }
            }
        }
        let killed = guard.dismiss();
        let leaked_output = !gave_up && (stdout.is_open() || stderr.is_open());
        let sweep = self.kill_rest(Some(&self.leader));
        // The leader is still unreaped, so its group's number cannot mean another group.
        self.signal_group(Signal::KILL);
        self.catch_up(&mut stdout, &mut buffer, &mut watchdog);
        self.catch_up(&mut stderr, &mut buffer, &mut watchdog);
        let reaped = system::reap(self.leader.pid);
        containment::reap_orphans(None);
        self.observer.acted(Act::Ended, elapsed);
        let mut unkillable = sweep.unkillable;
        let (exit, usage) = match reaped {
            Ok(reaped) => (reaped.exit.clone(), Some(reaped)),
            Err(error) => {
                let number = number(self.leader.pid);
                unkillable.push(number);
                let reason = format!("process {number} cannot be reaped: {error}");
                (ProcessExit::Unknown(reason), None)
            }
        };
        Ok(ProcessEnd {
            exit,
            stopped: watchdog.stop_reason().or(killed),
            elapsed,
            max_rss_bytes: usage.as_ref().map(|usage| usage.max_rss_bytes),
            cpu: usage.as_ref().map(|usage| usage.cpu),
            output_bytes: self.output_bytes,
            containment: None,
            leaked_output,
            survivors_killed: sweep.killed,
            unkillable,
        })
    }

    /// Carries out a step of the watchdog; false when the process is to be given up.
    fn act(&mut self, step: Step) -> bool {
        let elapsed = self.started.elapsed();
        match step {
            Step::WaitUntil(_) => {}
            Step::Stop(reason) => {
                self.observer.acted(Act::Stopping(reason), elapsed);
                self.see();
                self.signal_group(match self.process.stop_signal {
                    StopSignal::Hangup => Signal::HUP,
                    StopSignal::Interrupt => Signal::INT,
                    StopSignal::Terminate => Signal::TERM,
                });
                // A stopped process takes the signal only once it continues.
                self.signal_group(Signal::CONT);
            }
            Step::Kill => {
                self.observer.acted(Act::Killed, elapsed);
                self.see();
                self.signal_group(self.cage.kill_signal());
            }
            Step::GiveUp => return false,
        }
        true
    }

    /// Looks what belongs to the tree as long as that can be seen.
    fn see(&mut self) {
        self.seen = self.cage.see(&self.leader, &self.seen);
    }

    fn kill_rest(&self, leader: Option<&ProcessStat>) -> Sweep {
        let marker = self.process.marker;
        self.cage.kill_rest(leader, marker, &self.seen)
    }

    /// For how long the process has worked, which the limits are about.
    fn working(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.paused)
    }

    /// Hears what lies in a pipe. At most what fits there: somebody outside may write to it for ever.
    fn catch_up(&mut self, output: &mut Output, buffer: &mut [u8], watchdog: &mut Watchdog) {
        for _ in 0..=PIPE_BYTES / READ_BYTES {
            let Some(number) = output.read_rest(buffer) else {
                return;
            };
            if let Happening::Printed(activity) = self.hear(output.stream, number, buffer) {
                watchdog.hear(self.working(), activity);
            }
        }
    }

    /// Stops the whole tree, then this process; goes on with both when it is told to continue.
    fn pause(&mut self, held_stop: &HeldStop) {
        let began = Instant::now();
        self.observer.acted(Act::Paused, self.started.elapsed());
        let paused = self.cage.pause(&self.leader, self.process.marker);
        held_stop.let_through();
        containment::resume(&paused);
        self.paused += began.elapsed();
        self.observer.acted(Act::Resumed, self.started.elapsed());
    }

    fn signal_group(&self, signal: Signal) {
        // ESRCH: the group is gone already, which is what is wanted.
        if let Err(error) = kill_process_group(self.leader.pid, signal) {
            tracing::debug!(%error, ?signal, "group not signalled");
        }
    }

    fn hear(&mut self, stream: Stream, number: usize, buffer: &[u8]) -> Happening {
        if number == 0 {
            return Happening::Time;
        }
        self.output_bytes += number as u64;
        if stream == Stream::Stderr {
            let room = COMPLAINT_BYTES.saturating_sub(self.complaint.len());
            self.complaint
                .extend_from_slice(&buffer[..number.min(room)]);
        }
        let elapsed = self.started.elapsed();
        let activity = self.observer.printed(stream, &buffer[..number], elapsed);
        Happening::Printed(match activity {
            Activity::Waiting { until, anew } => Activity::Waiting {
                until: until.map(|until| until.saturating_sub(self.paused)),
                anew,
            },
            Activity::Output | Activity::Progress => activity,
        })
    }

    /// Puts what the first process of the namespace reported in the place of what bubblewrap's own
    /// end tells.
    fn correct(&self, end: &mut ProcessEnd, namespace: &Namespace) {
        end.max_rss_bytes = None;
        end.cpu = None;
        match namespace.report() {
            Report::Ended(reaped, killed) => {
                end.exit = reaped.exit;
                end.max_rss_bytes = Some(reaped.max_rss_bytes);
                end.cpu = Some(reaped.cpu);
                end.survivors_killed += killed;
            }
            Report::NotStarted(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                end.exit = ProcessExit::NotStarted(spawn_failure(self.process, &error));
            }
            Report::Nothing if end.stopped.is_none() => {
                let complaint = String::from_utf8_lossy(&self.complaint);
                end.exit = ProcessExit::NotStarted(format!(
                    "bubblewrap made no namespace: {}",
                    limits::advised(complaint.trim())
                ));
            }
            Report::Nothing => {}
            Report::Started => {
                end.exit = ProcessExit::Unknown(
                    "the first process of its namespace did not tell".to_owned(),
                );
            }
        }
    }

    /// Ends a tree that could not be followed: descriptors ran out, or the runtime failed.
    fn lost(&mut self, error: &io::Error) -> ProcessEnd {
        self.signal_group(Signal::KILL);
        let sweep = self.kill_rest(None);
        let mut end = ProcessEnd::not_started(String::new());
        end.exit = ProcessExit::Unknown(format!("the process could not be followed: {error}"));
        end.elapsed = self.started.elapsed();
        end.survivors_killed = sweep.killed;
        end.unkillable = sweep.unkillable;
        end
    }
}

/// Writes the input and closes it. A process that does not read it, or not to its end, is fine.
async fn feed(stdin: Option<OwnedFd>, bytes: &[u8]) {
    let Some(Ok(sender)) = stdin.map(pipe::Sender::from_owned_fd) else {
        return;
    };
    let mut rest = bytes;
    while !rest.is_empty() {
        if sender.writable().await.is_err() {
            return;
        }
        match sender.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_broken_pipe) => return,
        }
    }
}

/// One output pipe of the process.
struct Output {
    stream: Stream,
    pipe: Option<pipe::Receiver>,
}

impl Output {
    fn new(stream: Stream, pipe: Option<OwnedFd>) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            system::enlarge_pipe(pipe, PIPE_BYTES);
        }
        Ok(Self {
            stream,
            pipe: pipe.map(pipe::Receiver::from_owned_fd).transpose()?,
        })
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Waits until the pipe can be read or has ended.
    async fn ready(&self) {
        if let Some(pipe) = &self.pipe
            && let Err(error) = pipe.readable().await
        {
            tracing::debug!(%error, "the runtime ends");
        }
    }

    /// What is left in the pipe, without waiting; `None` when it is empty or has ended.
    fn read_rest(&mut self, buffer: &mut [u8]) -> Option<usize> {
        // The pipe itself is asked: the runtime may not have looked at it for a while.
        match rustix::io::read(self.pipe.as_ref()?, buffer) {
            Ok(0) => {
                self.pipe = None;
                None
            }
            Ok(number) => Some(number),
            Err(_nothing_is_left) => None,
        }
    }

    /// Reads without waiting and tells how many bytes came; 0 when none did or the pipe has ended.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let Some(pipe) = &self.pipe else { return 0 };
        match pipe.try_read(buffer) {
            Ok(0) => {
                self.pipe = None;
                0
            }
            Ok(number) => number,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                tracing::warn!(%error, stream = ?self.stream, "cannot read the output");
                self.pipe = None;
                0
            }
        }
    }
}
