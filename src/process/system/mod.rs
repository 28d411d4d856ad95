//! The system calls that no safe library offers. All `unsafe` of the program is here.
//!
//! What differs between systems stands twice, under the same names: `linux.rs` and `portable.rs`.
//! Elsewhere [`IS_LINUX`] tells which it is, as far as that compiles everywhere. To try the portable
//! file on Linux: `RUSTFLAGS="--cfg agent_runner_portable"`.
#![expect(
    unsafe_code,
    reason = "fork and exec, wait4, signal masks, advice on memory and a descriptor's registration have no safe form"
)]

#[cfg_attr(
    all(target_os = "linux", not(agent_runner_portable)),
    path = "linux.rs"
)]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    path = "portable.rs"
)]
mod platform;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::process::Pid;

use crate::model::process_end::ProcessExit;

use platform::StopRequests;
pub(super) use platform::{
    ExitWatch, IS_LINUX, LOOK_INTERVAL, ProcessHandle, adopt_orphans, enlarge_pipe,
    give_back_files, spawn_follower, spawn_leader,
};

/// The signals that ask the runner, or the first process of a namespace, for something.
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

/// Leaves requests, also those to stop for a while (SIGTSTP), to the other threads: the main one.
pub(super) fn leave_signals() {
    let left =
        mask(libc::SIG_BLOCK, &REQUESTS).and_then(|()| mask(libc::SIG_BLOCK, &[libc::SIGTSTP]));
    if let Err(error) = left {
        tracing::debug!(%error, "a thread may take what the main one is asked for");
    }
}

/// Spawns a process that no signal is held back from, whatever this thread leaves to others. What
/// comes while it does, this thread may take; nobody must rely on its leaving it then.
pub(super) fn spawn_open<T>(spawn: impl FnOnce() -> T) -> T {
    let (none, mut left) = (set_of(&[]), set_of(&[]));
    // SAFETY: both sets are initialised; it fails for a bad first argument only.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), left.as_mut_ptr()) };
    let spawned = spawn();
    // SAFETY: the set was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, left.as_ptr(), std::ptr::null_mut()) };
    spawned
}

/// A request that no thread takes; asked by one that leaves them to others.
pub(super) fn untaken_request() -> Option<libc::c_int> {
    let mut set = set_of(&[]);
    // SAFETY: the set is initialised, and filled.
    let is_filled = unsafe { libc::sigpending(set.as_mut_ptr()) } == 0;
    // SAFETY: the set is initialised.
    let is_in = |signal: &libc::c_int| unsafe { libc::sigismember(set.as_ptr(), *signal) } == 1;
    REQUESTS.into_iter().find(is_in).filter(|_| is_filled)
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
    requests: StopRequests,
}

impl HeldStop {
    /// Begins to hold the request back.
    ///
    /// # Errors
    /// When descriptors have run out.
    pub(super) fn begin() -> io::Result<Self> {
        let requests = StopRequests::begin()?;
        mask(libc::SIG_BLOCK, &[libc::SIGTSTP])?;
        Ok(Self { requests })
    }

    /// Waits for a request.
    pub(super) async fn requested(&self) {
        self.requests.next().await;
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

impl Drop for HeldStop {
    fn drop(&mut self) {
        if let Err(error) = mask(libc::SIG_UNBLOCK, &[libc::SIGTSTP]) {
            tracing::debug!(%error, "the signal stays held back");
        }
    }
}

/// A child that has ended and waits to be reaped.
pub(super) fn ended_child() -> Option<Pid> {
    look(libc::P_ALL, 0).unwrap_or_default()
}

/// Whether a child has ended; it may wait to be reaped.
pub(super) fn has_ended(pid: Pid) -> bool {
    !matches!(look(libc::P_PID, number(pid)), Ok(None))
}

/// The number of a process, as others take and tell it.
pub(super) fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// Looks for a child that has ended, and leaves it to be reaped. See waitid(2), WNOWAIT.
fn look(which: libc::idtype_t, number: libc::id_t) -> io::Result<Option<Pid>> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let mut found = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the pointer is to live memory of the right type.
    let result = unsafe { libc::waitid(which, number, found.as_mut_ptr(), options) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the memory began as zeros, which is a valid `siginfo_t`.
    let found = unsafe { found.assume_init() };
    // SAFETY: waitid(2) sets the number, or leaves the zero.
    Ok(Pid::from_raw(unsafe { found.si_pid() }))
}

/// Whether this process ignores a signal.
pub(super) fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is changed; the pointer is to live memory of the right type.
    unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: the memory began as zeros, which is a valid `sigaction`.
    let action = unsafe { action.assume_init() };
    action.sa_sigaction == libc::SIG_IGN
}

/// How a process ended, and what it used.
#[derive(Clone, Debug)]
pub(super) struct Reaped {
    pub(super) exit: ProcessExit,
    pub(super) max_rss_bytes: u64,
    pub(super) cpu: Duration,
}

/// In how many bytes getrusage(2) counts memory.
const RSS_UNIT: u64 = if cfg!(target_vendor = "apple") {
    1
} else {
    1024
};

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
            + Duration::from_micros(time.tv_usec.try_into().unwrap_or_default())
    };
    Ok(Reaped {
        exit,
        max_rss_bytes: usage.ru_maxrss.unsigned_abs() * RSS_UNIT,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    })
}
