//! Which process is meant, for longer than its number lives: pid, start time and boot.

use std::fs::{self, File};
use std::io::Read as _;

use rustix::process::{Pid, getpid};

use crate::process::ps;
use crate::process::system::IS_LINUX;

/// What the system tells of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProcessStat {
    /// Its number.
    pub pid: Pid,
    /// Its parent's number; 0 for the first process of a namespace.
    pub parent: u32,
    /// Its group's number.
    pub group: u32,
    /// When it started: on Linux in clock ticks since the boot, with `pid` unique within a boot;
    /// elsewhere in seconds.
    pub start_ticks: u64,
    /// It has ended, with all its threads, and waits to be reaped.
    pub is_zombie: bool,
    /// It is stopped, by a signal or a debugger.
    pub is_stopped: bool,
}

/// Reads `/proc/PID/stat`, or asks ps(1) where there is none; `None` when there is no such process.
pub fn stat(pid: Pid) -> Option<ProcessStat> {
    if !IS_LINUX {
        return ps::stat(pid);
    }
    // One read into room enough for the whole line: a machine has many processes.
    let mut buffer = [0; 2048];
    let mut file = File::open(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let length = file.read(&mut buffer).ok()?;
    let text = &buffer[..length];
    // The command's name stands in parentheses and may hold anything, parentheses among it.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end + 2..)?).ok()?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // Fields 20 and 22 of proc(5); the state is field 3.
    let threads: u32 = fields.nth(14)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    Some(ProcessStat {
        pid,
        parent,
        group,
        start_ticks,
        // The state is that of the first thread; the others may go on, or hang in the kernel.
        is_zombie: matches!(state, "Z" | "X") && threads <= 1,
        is_stopped: matches!(state, "T" | "t"),
    })
}

/// All processes that can be seen below `/proc`.
pub fn all_processes() -> Vec<ProcessStat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|raw| stat(Pid::from_raw(raw)?))
        .collect()
}

/// Whether any thread of this process has children, dead or alive; on Linux. Helpers are those of the
/// thread that started them.
pub(super) fn has_children() -> bool {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    threads.flatten().any(|thread| {
        fs::read(thread.path().join("children")).is_ok_and(|children| !children.is_empty())
    })
}

/// The children of this process's first thread, dead or alive; on Linux.
pub(super) fn children() -> Vec<Pid> {
    let own = getpid().as_raw_nonzero();
    // The kernel hands orphans to the reaper's first thread; see proc(5), `children`.
    let children =
        fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    let children = children.split(' ');
    children
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
        .collect()
}

/// Whether the process began with a variable, `NAME=value`, in its environment, as `/proc` tells.
pub(super) fn carries(pid: Pid, variable: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else {
        return false;
    };
    let mut variables = environ.split(|byte| *byte == 0);
    variables.any(|other| other == variable.as_bytes())
}

/// Whether processes can be looked at here.
pub fn can_look() -> bool {
    stat(getpid()).is_some()
}

/// The identity of this boot; numbers of an older boot mean nothing now.
pub fn boot_id() -> Option<String> {
    if !IS_LINUX {
        return ps::boot_id();
    }
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// The machine's name.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_parent() {
        let own = stat(rustix::process::getpid()).unwrap();
        let parent = rustix::process::getppid().unwrap();
        assert_eq!(
            i64::from(own.parent),
            i64::from(parent.as_raw_nonzero().get())
        );
        assert!(!own.is_zombie && own.start_ticks > 0);
        assert!(all_processes().contains(&own));
    }
}
