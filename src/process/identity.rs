//! Which process is meant, for longer than its number lives: pid, start time and boot.

use std::fs::{self, File};
use std::io::Read as _;

use rustix::process::Pid;

/// What `/proc/PID/stat` tells of a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProcessStat {
    /// Its number.
    pub pid: Pid,
    /// Its parent's number; 0 for the first process of a namespace.
    pub parent: u32,
    /// When it started, in clock ticks since the boot. With `pid` unique within a boot.
    pub start_ticks: u64,
    /// It has ended, with all its threads, and waits to be reaped.
    pub is_zombie: bool,
    /// It is stopped, by a signal or a debugger.
    pub is_stopped: bool,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
pub fn stat(pid: Pid) -> Option<ProcessStat> {
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
    // Fields 20 and 22 of proc(5); the state is field 3.
    let threads: u32 = fields.nth(15)?.parse().ok()?;
    let start_ticks = fields.nth(1)?.parse().ok()?;
    Some(ProcessStat {
        pid,
        parent,
        start_ticks,
        // The state is that of the first thread; the others may go on, or hang in the kernel.
        is_zombie: matches!(state, "Z" | "X") && threads <= 1,
        is_stopped: matches!(state, "T" | "t"),
    })
}

/// All processes that can be seen.
pub fn all_processes() -> Vec<ProcessStat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|raw| stat(Pid::from_raw(raw)?))
        .collect()
}

/// The identity of this boot; numbers of an older boot mean nothing now.
pub fn boot_id() -> Option<String> {
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
