//! The system calls that no safe library offers. All `unsafe` of the program is here.
#![expect(
    unsafe_code,
    reason = "fork and exec, wait4 and a descriptor's registration have no safe form"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

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

/// Spawns a command as the leader of a session of its own.
///
/// The new process has default signal dispositions (cron and nohup leave some ignored), inherits
/// no descriptor but 0, 1 and 2, and is killed when the calling *thread* dies: call it from the
/// main thread.
///
/// # Errors
/// Those of fork and exec.
pub(super) fn spawn_leader(command: &mut Command) -> io::Result<Child> {
    let parent = getpid();
    // Runs between fork and exec: system calls only, nothing that allocates or locks.
    let prepare = move || {
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
        Ok(())
    };
    // SAFETY: the closure makes only the calls above.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
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
