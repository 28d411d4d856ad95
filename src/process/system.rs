//! The system calls that no safe library offers. All `unsafe` of the program is here.
#![expect(
    unsafe_code,
    reason = "fork and exec, wait4, signal masks and a descriptor's registration have no safe form"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, set_parent_process_death_signal, setsid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::model::process_end::ProcessExit;

/// The highest signal number of Linux on the machines we know.
const LAST_SIGNAL: libc::c_int = 64;

/// The kernel's `struct sigaction` for `SIG_DFL`: handler, flags, restorer and mask are all zero.
static DEFAULT_ACTION: [u64; 4] = [0; 4];

/// The signals that ask the first process of a namespace for something.
const REQUESTS: [libc::c_int; 5] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGQUIT,
    libc::SIGUSR1,
];

/// Where a new process is put before it executes its program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'a> {
    /// Where the runner is.
    Here,
    /// Into the cgroup of this directory.
    Cgroup(BorrowedFd<'a>),
    /// Where the runner is; the program makes a namespace. It inherits this descriptor, too, and
    /// requests wait until its first process hears them by [`hear_signals`].
    Namespace(BorrowedFd<'a>),
}

/// A process that was spawned, with our ends of its pipes.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: Pid,
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

/// Why a process was not spawned.
#[derive(Debug)]
pub(super) enum SpawnError {
    /// It may not enter the cgroup, or the kernel cannot put it there.
    Cgroup(io::Error),
    /// Fork or exec failed.
    Program(io::Error),
}

impl From<io::Error> for SpawnError {
    fn from(error: io::Error) -> Self {
        Self::Program(error)
    }
}

/// Spawns a command as the leader of a session of its own.
///
/// The new process has default signal dispositions (cron and nohup leave some ignored), inherits
/// no descriptor but 0, 1 and 2, and is killed when the calling *thread* dies: call it from the
/// main thread.
///
/// # Errors
/// Those of fork and exec, and of entering the cgroup.
pub(super) fn spawn_leader(command: &mut Command, entry: Entry<'_>) -> Result<Spawned, SpawnError> {
    let parent = getpid();
    let (number, teller) =
        pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(io::Error::from)?;
    let (cgroup, inherited) = match entry {
        Entry::Here => (None, None),
        Entry::Cgroup(directory) => (Some((directory.as_raw_fd(), teller.as_raw_fd())), None),
        Entry::Namespace(descriptor) => (None, Some(descriptor.as_raw_fd())),
    };
    // Runs between fork and exec: system calls only, nothing that allocates or locks.
    let prepare = move || {
        if let Some((directory, teller)) = cgroup {
            go_on_in_cgroup(directory, teller)?;
        }
        setsid()?;
        for signal in 1..=LAST_SIGNAL {
            let (new, old) = (DEFAULT_ACTION.as_ptr(), std::ptr::null::<u64>());
            // The bare call, because libc keeps two signals to itself that may be ignored, too.
            // SAFETY: the pointer is to a whole kernel sigaction; for KILL and STOP it fails, unheard.
            unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, size_of::<u64>()) };
        }
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(parent) {
            // The parent died before the line above took effect.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let (first, last) = (3, libc::c_uint::MAX);
        // SAFETY: close_range(2) takes plain integers; closing on exec leaves std's own pipe open.
        unsafe {
            libc::syscall(
                libc::SYS_close_range,
                first,
                last,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        if let Some(descriptor) = inherited {
            // SAFETY: fcntl(2) takes plain integers here.
            unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) };
            mask(libc::SIG_BLOCK, &REQUESTS)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes only the calls above.
    unsafe { command.pre_exec(prepare) };
    let spawned = command.spawn();
    let mut told = [0; size_of::<libc::pid_t>()];
    let told = match rustix::io::read(&number, &mut told) {
        Ok(_) => Pid::from_raw(libc::pid_t::from_ne_bytes(told)),
        Err(_nothing_was_written) => None,
    };
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if cgroup.is_some() && told.is_none() => return Err(SpawnError::Cgroup(error)),
        Err(error) => return Err(SpawnError::Program(error)),
    };
    // Before any wait for the child, which would close its input.
    let stdin = child.stdin.take().map(OwnedFd::from);
    let pid = if cgroup.is_some() {
        // The process that was forked has ended, and the one in the cgroup is our child.
        child.wait()?;
        told.ok_or_else(|| io::Error::other("the process in the cgroup has no number"))?
    } else {
        Pid::from_child(&child)
    };
    Ok(Spawned {
        pid,
        stdin,
        stdout: child.stdout.take().map(OwnedFd::from),
        stderr: child.stderr.take().map(OwnedFd::from),
    })
}

/// Spawns a command in a process group of its own, which is asked to end (SIGTERM) when the calling
/// *thread* dies. The caller reaps it.
///
/// # Errors
/// Those of fork and exec.
pub(super) fn spawn_follower(command: &mut Command) -> io::Result<Pid> {
    let parent = getpid();
    command.process_group(0);
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::TERM))?;
        if getppid() != Some(parent) {
            // The parent died before the line above took effect.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
    Ok(Pid::from_child(&command.spawn()?))
}

/// Goes on as a new process in the cgroup, a child of the caller's parent; the caller tells its
/// number and exits. Moving the caller instead would wait for all CPUs, some 10 ms.
fn go_on_in_cgroup(directory: RawFd, teller: RawFd) -> io::Result<()> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // The kernel's `struct clone_args`; see clone(2). The first field is the flags, the last the
    // cgroup. With CLONE_PARENT its end is signalled like that of the caller.
    let mut arguments = [0_u64; 11];
    arguments[0] = CLONE_INTO_CGROUP | u64::from(libc::CLONE_PARENT.unsigned_abs());
    arguments[10] = u64::from(directory.unsigned_abs());
    // SAFETY: the pointer is to a whole `clone_args`; without a stack it is a fork.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            arguments.as_ptr(),
            size_of_val(&arguments),
        )
    };
    match libc::pid_t::try_from(pid) {
        Ok(0) => Ok(()),
        Ok(pid @ 1..) => {
            let pid = pid.to_ne_bytes();
            // SAFETY: the pointer and the length are those of the array.
            unsafe { libc::write(teller, pid.as_ptr().cast(), pid.len()) };
            // SAFETY: ends this process, which shares no memory.
            unsafe { libc::_exit(0) }
        }
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Takes the requests to the first process of a namespace, once it listens.
///
/// # Errors
/// When the kernel refuses, which it does not.
pub(super) fn hear_signals() -> io::Result<()> {
    mask(libc::SIG_UNBLOCK, &REQUESTS)
}

fn set_of(signals: &[libc::c_int]) -> MaybeUninit<libc::sigset_t> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: initialises the set that the pointer is to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: the set was initialised above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
    }
    set
}

fn mask(how: libc::c_int, signals: &[libc::c_int]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: the set is initialised; the old mask is not asked for.
    match unsafe { libc::sigprocmask(how, set.as_ptr(), std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Holds back the request to stop for a while (Ctrl-Z), so that others can be stopped first. Needs
/// a runtime; while it lives only this thread must be able to take the signal.
///
/// The request is never taken from the kernel, only seen: when a request to continue comes first,
/// the kernel drops it, and nobody stops for a request that is over.
#[derive(Debug)]
pub(super) struct HeldStop {
    pending: AsyncFd<OwnedFd>,
}

impl HeldStop {
    /// Begins to hold the request back.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub(super) fn begin() -> io::Result<Self> {
        let set = set_of(&[libc::SIGTSTP]);
        // SAFETY: the set is initialised; the descriptor is a new one.
        let number =
            unsafe { libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above made it, and nobody else has it.
        let handle = unsafe { OwnedFd::from_raw_fd(number) };
        // SAFETY: an `OwnedFd` returns the same open descriptor for as long as it lives.
        let pending = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
        let pending = pending.map_err(io::Error::from)?;
        mask(libc::SIG_BLOCK, &[libc::SIGTSTP])?;
        Ok(Self { pending })
    }

    /// Waits for a request.
    pub(super) async fn requested(&self) {
        match self.pending.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => tracing::debug!(%error, "the runtime ends"),
        }
    }

    /// Lets the request through: returns when this process continues.
    #[expect(clippy::unused_self, reason = "only what is held can be let through")]
    pub(super) fn let_through(&self) {
        for how in [libc::SIG_UNBLOCK, libc::SIG_BLOCK] {
            if let Err(error) = mask(how, &[libc::SIGTSTP]) {
                tracing::debug!(%error, "the signal's mask is as it was");
            }
        }
    }
}

/// Leaves requests to stop (SIGTSTP) to the other threads: the one that holds them back.
pub(super) fn pass_over_stops() {
    if let Err(error) = mask(libc::SIG_BLOCK, &[libc::SIGTSTP]) {
        tracing::debug!(%error, "a thread may stop the runner behind its back");
    }
}

impl Drop for HeldStop {
    fn drop(&mut self) {
        if let Err(error) = mask(libc::SIG_UNBLOCK, &[libc::SIGTSTP]) {
            tracing::debug!(%error, "the signal stays held back");
        }
    }
}

/// A handle that becomes readable when the process ends. Needs a runtime.
///
/// # Errors
/// When the process is gone or descriptors have run out.
pub(super) fn watch_exit(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let handle = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    // SAFETY: an `OwnedFd` returns the same open descriptor for as long as it lives.
    let watched = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// A child that has ended and waits to be reaped. See waitid(2), WNOWAIT.
pub(super) fn ended_child() -> Option<Pid> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let mut found = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to live memory of the right type.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, found.as_mut_ptr(), options) };
    // SAFETY: the memory began as zeros, which is a valid `siginfo_t`.
    let found = unsafe { found.assume_init() };
    // SAFETY: waitid(2) sets the number, or leaves the zero.
    let pid = unsafe { found.si_pid() };
    Pid::from_raw(pid).filter(|_| result == 0)
}

/// How a process ended, and what it used.
#[derive(Clone, Debug)]
pub(super) struct Reaped {
    pub(super) exit: ProcessExit,
    pub(super) max_rss_bytes: u64,
    pub(super) cpu: Duration,
}

/// Reaps one ended child and tells its status with its resource usage. See wait4(2).
///
/// # Errors
/// When it is no child of this process or has not ended.
pub(super) fn reap(pid: Pid) -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live memory of the right type.
    let reaped = unsafe {
        libc::wait4(
            pid.as_raw_nonzero().get(),
            &raw mut status,
            libc::WNOHANG,
            usage.as_mut_ptr(),
        )
    };
    match reaped {
        -1 => return Err(io::Error::last_os_error()),
        0 => return Err(io::Error::from(io::ErrorKind::WouldBlock)),
        _ => {}
    }
    // SAFETY: the memory began as zeros, which is a valid `rusage`.
    let usage = unsafe { usage.assume_init() };
    let exit = if libc::WIFEXITED(status) {
        ProcessExit::Code(libc::WEXITSTATUS(status))
    } else {
        ProcessExit::Signal(libc::WTERMSIG(status))
    };
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.unsigned_abs())
            + Duration::from_micros(time.tv_usec.unsigned_abs())
    };
    Ok(Reaped {
        exit,
        max_rss_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    })
}
