//! Linux: pidfds, the child subreaper, control groups, a signal at the death of the parent.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, getppid, pidfd_open, pidfd_send_signal, set_child_subreaper,
    set_parent_process_death_signal, setsid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Entry, REQUESTS, SpawnError, Spawned, mask, set_of};

/// Whether there is all that this file uses, and `/proc`.
pub(in crate::process) const IS_LINUX: bool = true;

/// How often somebody who waits for a process looks at what no descriptor tells.
pub(in crate::process) const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The highest signal number of Linux on the machines we know.
const LAST_SIGNAL: libc::c_int = 64;

/// The kernel's `struct sigaction` for `SIG_DFL`: handler, flags, restorer and mask are all zero.
static DEFAULT_ACTION: [u64; 4] = [0; 4];

/// Makes this process adopt every orphan among its descendants.
///
/// # Errors
/// When the kernel refuses, which no Linux since 3.4 does.
pub(in crate::process) fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Gives a pipe more room.
pub(in crate::process) fn enlarge_pipe(pipe: &OwnedFd, bytes: usize) {
    if let Err(error) = fcntl_setpipe_size(pipe, bytes) {
        tracing::debug!(%error, "pipe not enlarged");
    }
}

/// Gives back the memory of files that are mapped and unchanged: the program's code and constants,
/// most of which only the start needs. What is used again comes back from the page cache.
pub(in crate::process) fn give_back_files() {
    let mappings = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (begin, end) in unchanged_files(&mappings) {
        // SAFETY: nobody may write to it, and nobody has, as a debugger would: its pages hold the same
        // when they are read again.
        if unsafe { libc::madvise(begin as *mut _, end - begin, libc::MADV_DONTNEED) } != 0 {
            let error = io::Error::last_os_error();
            tracing::debug!(%error, "the memory of a file is kept");
        }
    }
}

/// Where files are mapped so that nobody may write to them, and nobody has; `mappings` as in
/// `/proc/self/smaps`, see proc(5).
fn unchanged_files(mappings: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut mapping = None;
    mappings.lines().filter_map(move |line| {
        let (key, rest) = line.split_once(' ')?;
        if !key.ends_with(':') {
            mapping = None;
            let mut words = rest.split_ascii_whitespace();
            let is_read = words.next()?.starts_with("r-");
            let is_file = words.nth(2)? != "0";
            let (begin, end) = key.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            mapping = number(begin)
                .zip(number(end))
                .filter(|_| is_read && is_file);
        }
        mapping.filter(|_| key == "Anonymous:" && rest.trim() == "0 kB")
    })
}

/// Spawns a command as the leader of a session of its own.
///
/// The new process has default signal dispositions (cron and nohup leave some ignored) and holds no
/// signal back, inherits no descriptor but 0, 1 and 2, and is killed when the calling *thread* dies:
/// call it from the main thread.
///
/// # Errors
/// Those of fork and exec, and of entering the cgroup.
pub(in crate::process) fn spawn_leader(
    command: &mut Command,
    entry: Entry<'_>,
) -> Result<Spawned, SpawnError> {
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
        mask(libc::SIG_SETMASK, &[])?;
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
pub(in crate::process) fn spawn_follower(command: &mut Command) -> io::Result<Pid> {
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

/// A process that cannot be mistaken for another one that has its number later.
#[derive(Debug)]
pub(in crate::process) struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// From here on the process that has the number is meant.
    pub(in crate::process) fn open(pid: Pid) -> Result<Self, Errno> {
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Sends it a signal.
    pub(in crate::process) fn send(&self, signal: Signal) -> Result<(), Errno> {
        pidfd_send_signal(&self.0, signal)
    }

    /// What tells its end to poll(2), if anything does.
    #[expect(clippy::unnecessary_wraps, reason = "elsewhere nothing does")]
    pub(in crate::process) fn watch(&self) -> Option<PollFd<'_>> {
        Some(PollFd::new(&self.0, PollFlags::IN))
    }

    /// Whether it has ended, being a child of this process; `watched` begins with what
    /// [`Self::watch`] gave, and was polled.
    #[expect(clippy::unused_self, reason = "where nothing is watched, it is asked")]
    pub(in crate::process) fn has_ended(&self, watched: &[PollFd<'_>]) -> bool {
        !watched[0].revents().is_empty()
    }
}

/// Waits for the end of a child, which stays to be reaped. Needs a runtime.
#[derive(Debug)]
pub(in crate::process) struct ExitWatch(AsyncFd<OwnedFd>);

impl ExitWatch {
    /// Begins to look.
    ///
    /// # Errors
    /// When the process is gone or descriptors have run out.
    pub(in crate::process) fn begin(pid: Pid) -> io::Result<Self> {
        let handle = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` returns the same open descriptor for as long as it lives.
        let watched = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
        Ok(Self(watched.map_err(io::Error::from)?))
    }

    /// Returns when it has ended. May be given up and called again.
    pub(in crate::process) async fn ended(&mut self) -> io::Result<()> {
        self.0.readable().await?.retain_ready();
        Ok(())
    }
}

/// Tells when a request to stop (SIGTSTP), which is held back, lies there.
#[derive(Debug)]
pub(super) struct StopRequests(AsyncFd<OwnedFd>);

impl StopRequests {
    /// Begins to look. Needs a runtime.
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
        Ok(Self(pending.map_err(io::Error::from)?))
    }

    /// Waits for one.
    pub(super) async fn next(&self) {
        match self.0.readable().await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => tracing::debug!(%error, "the runtime ends"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::unchanged_files;

    #[test]
    fn only_files_that_are_mapped_and_unchanged_are_given_back() {
        let mapping = |place: &str, access: &str, inode: u32, own: u32| {
            format!(
                "{place} {access} 00000000 fe:00 {inode}  /usr/bin/it\nRss: 64 kB\nAnonymous: {own} kB\n\
                 VmFlags: rd mr\n"
            )
        };
        let mappings = [
            mapping("1000-2000", "r--p", 7, 0),
            mapping("2000-4000", "r-xp", 7, 0),
            mapping("4000-5000", "r--p", 7, 4),
            mapping("5000-6000", "rw-p", 7, 0),
            mapping("6000-7000", "r-xp", 0, 0),
        ]
        .concat();
        let found: Vec<_> = unchanged_files(&mappings).collect();
        assert_eq!(found, [(0x1000, 0x2000), (0x2000, 0x4000)]);
    }
}
