//! What ps(1), lsof(8) and sysctl(8) tell, for systems without `/proc`.
//!
//! Slower by far, and less sure: start times are whole seconds, and macOS shows the environment of no
//! program that is part of it.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use chrono::NaiveDateTime;
use rustix::process::Pid;

use crate::process::identity::ProcessStat;
use crate::process::system::number;

/// How ps is asked for all processes, with the environment after the command.
const ALL: &str = if cfg!(target_vendor = "apple") {
    "-AEww"
} else {
    "axeww"
};

const LSOF: &str = if cfg!(target_vendor = "apple") {
    "/usr/sbin/lsof"
} else {
    "/usr/bin/lsof"
};

/// The system's value that is another one after each boot.
const BOOT: &str = if cfg!(target_os = "linux") {
    "kernel.random.boot_id"
} else if cfg!(target_vendor = "apple") {
    "kern.bootsessionuuid"
} else {
    "kern.boottime"
};

/// One process; `None` when there is none of that number.
pub(super) fn stat(pid: Pid) -> Option<ProcessStat> {
    let number = pid.as_raw_nonzero().to_string();
    let (text, _) = ask("/bin/ps", &[&["-p", &number], COLUMNS].concat());
    read(text.lines().next()?)
}

/// All processes but the one that lists them, and those whose environment shows `variable`, a name
/// with its value.
pub(super) fn all(variable: &str) -> (Vec<ProcessStat>, HashSet<Pid>) {
    let (text, lister) = ask("/bin/ps", &[&[ALL], COLUMNS, &["-o", "command="]].concat());
    let mut all = Vec::new();
    let mut carriers = HashSet::new();
    for line in text.lines() {
        let Some(process) = read(line) else { continue };
        if number(process.pid) == lister {
            continue;
        }
        if line.split(' ').any(|word| word == variable) {
            carriers.insert(process.pid);
        }
        all.push(process);
    }
    (all, carriers)
}

/// Whether a process has a file open.
pub(super) fn has_open(number: u32, file: &Path) -> bool {
    let (text, _) = ask(
        LSOF,
        &[OsStr::new("-t"), OsStr::new("--"), file.as_os_str()],
    );
    text.lines().any(|line| line.trim().parse() == Ok(number))
}

/// The identity of this boot.
pub(super) fn boot_id() -> Option<String> {
    static BOOT_ID: OnceLock<Option<String>> = OnceLock::new();
    let find = || {
        let (text, _) = ask("/usr/sbin/sysctl", &["-n", BOOT]);
        Some(text.trim().to_owned()).filter(|id| !id.is_empty())
    };
    BOOT_ID.get_or_init(find).clone()
}

const COLUMNS: &[&str] = &[
    "-o", "pid=", "-o", "ppid=", "-o", "pgid=", "-o", "stat=", "-o", "lstart=",
];

/// A line such as ` 4711     1  4711 Ss   Sat Nov 21 14:29:51 2026`; a command may follow.
fn read(line: &str) -> Option<ProcessStat> {
    let mut fields = line.split_whitespace();
    let pid = Pid::from_raw(fields.next()?.parse().ok()?)?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let state = fields.next()?;
    let started = fields.take(5).collect::<Vec<_>>().join(" ");
    let started = NaiveDateTime::parse_from_str(&started, "%a %b %d %H:%M:%S %Y").ok()?;
    Some(ProcessStat {
        pid,
        parent,
        group,
        start_ticks: started.and_utc().timestamp().unsigned_abs(),
        is_zombie: state.starts_with('Z'),
        is_stopped: state.starts_with(['T', 't']),
    })
}

/// What a program prints, and the number that it had; nothing when it cannot be run.
#[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
fn ask(program: &str, arguments: &[impl AsRef<OsStr>]) -> (String, u32) {
    let asked = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .and_then(|child| Ok((child.id(), child.wait_with_output()?)));
    match asked {
        Ok((number, output)) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            (text, number)
        }
        Err(error) => {
            tracing::warn!(%error, program, "processes cannot be looked at");
            (String::new(), 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whole_or_not_at_all() {
        let seen = read("  471     1   470 Ss+  Sun Feb  1 04:09:51 2026 /bin/sh -c x").unwrap();
        assert_eq!((seen.parent, seen.group), (1, 470));
        assert_eq!(seen.start_ticks, 1_769_918_991);
        assert!(!seen.is_zombie && !seen.is_stopped);
        assert!(
            read("471 1 470 Z Thu Jan  1 00:00:00 1970")
                .unwrap()
                .is_zombie
        );
        assert!(
            read("471 1 470 T+ Thu Jan  1 00:00:00 1970")
                .unwrap()
                .is_stopped
        );
        for other in ["", "ps: illegal option", "0 1 2 S Thu Jan  1 00:00:00 1970"] {
            assert_eq!(read(other), None);
        }
    }

    #[test]
    fn ps_tells_of_this_process_what_the_system_tells() {
        let own = rustix::process::getpid();
        let seen = stat(own).unwrap();
        let parent = rustix::process::getppid().unwrap();
        assert_eq!(seen.parent, parent.as_raw_nonzero().get().unsigned_abs());
        let group = rustix::process::getpgrp().as_raw_nonzero();
        assert_eq!(seen.group, group.get().unsigned_abs());
        assert!(!seen.is_zombie && !seen.is_stopped && seen.start_ticks > 1_700_000_000);
        let (all, _) = all("");
        assert!(all.iter().any(|process| process.pid == own));
        assert!(boot_id().is_some());
    }

    #[test]
    fn who_carries_a_variable_is_found_and_nobody_else() {
        #[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
        let mut child = Command::new("/bin/sleep")
            .arg("60")
            .env("AGENT_RUNNER_PS_TEST", "this@one")
            .spawn()
            .unwrap();
        let carriers = |value: &str| all(&format!("AGENT_RUNNER_PS_TEST={value}")).1;
        let mut found = carriers("this@one");
        while found.is_empty() {
            // It has not executed its program yet.
            found = carriers("this@one");
        }
        assert_eq!(found, HashSet::from([Pid::from_child(&child)]));
        assert!(carriers("this").is_empty() && carriers("this@one2").is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(stat(Pid::from_child(&child)).is_none());
    }
}
