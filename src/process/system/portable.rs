//! What every Unix has. Weaker than [Linux](super): a process is known by its number alone, orphans go
//! to the system's first process, nothing ends with the runner that was killed, and what is started
//! stays together as a session and no better.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::event::PollFd;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, setsid, test_kill_process};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::{Entry, SpawnError, Spawned, has_ended, mask};

/// Whether there are pidfds, the child subreaper, control groups, namespaces and `/proc`.
pub(in crate::process) const IS_LINUX: bool = false;

/// How often somebody who waits for a process looks at what no descriptor tells.
pub(in crate::process) const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How often it is looked whether a request to stop lies there.
const STOP_INTERVAL: Duration = Duration::from_millis(200);

/// The highest signal number that all systems have.
const LAST_SIGNAL: libc::c_int = 31;

/// Orphans cannot be adopted here.
#[expect(clippy::unnecessary_wraps, reason = "Linux may refuse")]
pub(in crate::process) fn adopt_orphans() -> io::Result<()> {
    Ok(())
}

/// The system gives a pipe the room that it wants to.
pub(in crate::process) fn enlarge_pipe(_pipe: &OwnedFd, _bytes: usize) {}

/// The system takes the memory of mapped files when it needs it.
pub(in crate::process) fn give_back_files() {}

/// Spawns a command as the leader of a session of its own.
///
/// The new process has default signal dispositions and holds no signal back, and inherits no
/// descriptor but 0, 1 and 2. It outlives this one.
///
/// # Errors
/// Those of fork and exec, and for every other entry than [`Entry::Here`].
pub(in crate::process) fn spawn_leader(
    command: &mut Command,
    entry: Entry<'_>,
) -> Result<Spawned, SpawnError> {
    if let Entry::Cgroup(place) | Entry::Namespace(place) = entry {
        let why = format!("descriptor {place:?} means something on Linux only");
        return Err(SpawnError::Cgroup(io::Error::other(why)));
    }
    let inherited = open_descriptors();
    // Runs between fork and exec: system calls only, nothing that allocates or locks.
    let prepare = move || {
        setsid()?;
        mask(libc::SIG_SETMASK, &[])?;
        for number in 1..=LAST_SIGNAL {
            // SAFETY: signal(2) takes plain integers here; for KILL and STOP it fails, unheard.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
        for descriptor in &inherited {
            // SAFETY: fcntl(2) takes plain integers here; one that was closed meanwhile fails, unheard.
            unsafe { libc::fcntl(*descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        Ok(())
    };
    // SAFETY: the closure makes only the calls above.
    unsafe { command.pre_exec(prepare) };
    let mut child = command.spawn()?;
    Ok(Spawned {
        pid: Pid::from_child(&child),
        stdin: child.stdin.take().map(OwnedFd::from),
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
    })
}

/// The descriptors of this process beyond the first three; those that it opens itself are closed on
/// exec anyway.
fn open_descriptors() -> Vec<RawFd> {
    let open = fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    open.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect()
}

/// Spawns a command in a process group of its own. The caller reaps it; when the caller dies it goes
/// on.
///
/// # Errors
/// Those of fork and exec.
pub(in crate::process) fn spawn_follower(command: &mut Command) -> io::Result<Pid> {
    Ok(Pid::from_child(&command.process_group(0).spawn()?))
}

/// A process, by its number.
#[derive(Debug)]
pub(in crate::process) struct ProcessHandle(Pid);

impl ProcessHandle {
    /// The process that has the number.
    pub(in crate::process) fn open(pid: Pid) -> Result<Self, Errno> {
        match test_kill_process(pid) {
            Err(Errno::SRCH) => Err(Errno::SRCH),
            Ok(()) | Err(_) => Ok(Self(pid)),
        }
    }

    /// Sends it a signal.
    pub(in crate::process) fn send(&self, signal: Signal) -> Result<(), Errno> {
        kill_process(self.0, signal)
    }

    /// What tells its end to poll(2): nothing.
    #[expect(clippy::unused_self, reason = "Linux has a descriptor")]
    pub(in crate::process) fn watch(&self) -> Option<PollFd<'_>> {
        None
    }

    /// Whether it has ended, being a child of this process.
    pub(in crate::process) fn has_ended(&self, _watched: &[PollFd<'_>]) -> bool {
        has_ended(self.0)
    }
}

/// Waits for the end of a child, which stays to be reaped. Needs a runtime.
#[derive(Debug)]
pub(in crate::process) struct ExitWatch {
    pid: Pid,
    children: SignalStream,
}

impl ExitWatch {
    /// Begins to look.
    ///
    /// # Errors
    /// When signals cannot be taken.
    pub(in crate::process) fn begin(pid: Pid) -> io::Result<Self> {
        let children = signal(SignalKind::child())?;
        Ok(Self { pid, children })
    }

    /// Returns when it has ended. May be given up and called again.
    pub(in crate::process) async fn ended(&mut self) -> io::Result<()> {
        while !has_ended(self.pid) {
            if self.children.recv().await.is_none() {
                return Err(io::Error::other("the runtime ends"));
            }
        }
        Ok(())
    }
}

/// Tells when a request to stop (SIGTSTP), which is held back, lies there.
#[derive(Debug)]
pub(super) struct StopRequests;

impl StopRequests {
    /// Begins to look. Needs a runtime.
    #[expect(clippy::unnecessary_wraps, reason = "Linux needs a descriptor")]
    pub(super) fn begin() -> io::Result<Self> {
        Ok(Self)
    }

    /// Waits for one.
    pub(super) async fn next(&self) {
        loop {
            tokio::time::sleep(STOP_INTERVAL).await;
            let mut pending = MaybeUninit::uninit();
            // SAFETY: the pointer is to memory of the right type, which the call fills.
            unsafe { libc::sigpending(pending.as_mut_ptr()) };
            // SAFETY: filled by the call above, which fails for bad pointers only.
            if unsafe { libc::sigismember(pending.as_ptr(), libc::SIGTSTP) } == 1 {
                return;
            }
        }
    }
}
