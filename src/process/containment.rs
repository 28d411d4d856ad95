//! What is left of a process tree: found and ended.
//!
//! Killing the process group is not enough: all agent CLIs start their tools in sessions of their
//! own. The runner makes itself a *subreaper*, so that every orphan of the run becomes its child
//! and a walk over its descendants misses none; the marker in the environment is the last net, for
//! what was reparented elsewhere.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, waitpid,
};

use crate::process::identity::{ProcessStat, all_processes, stat};

/// The variable that marks every process of a run; its value is unique to the run.
pub const MARKER_VARIABLE: &str = "AGENT_RUNNER_MARKER";

/// How processes are held together here, as the record names it.
pub const SUBREAPER: &str = "subreaper";

/// The longest time for killing what is left. A run must end within 5 s after the kill.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// Makes this process adopt every orphan among its descendants.
///
/// # Errors
/// When the kernel refuses, which no Linux since 3.4 does.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// What came of killing the rest of a tree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sweep {
    /// Living processes that were killed.
    pub killed: u32,
    /// Processes that were still there at the end of the time.
    pub unkillable: Vec<u32>,
}

/// Kills every descendant of this process but `leader`, and every process that carries the marker
/// and is not older than the leader; repeats until none is left, at most 2 s.
///
/// Blocks for as long as the kernel needs to end them, usually under a millisecond.
pub fn kill_rest(leader: Option<&ProcessStat>, marker: &str) -> Sweep {
    let began = Instant::now();
    let mut killed = HashSet::new();
    loop {
        reap_orphans(leader.map(|leader| leader.pid));
        let alive = survivors(leader, marker);
        if alive.is_empty() {
            return Sweep {
                killed: count(&killed),
                unkillable: Vec::new(),
            };
        }
        for process in &alive {
            kill(process);
            killed.insert((process.pid, process.start_ticks));
        }
        if began.elapsed() > KILL_LIMIT {
            let unkillable: Vec<u32> = alive
                .iter()
                .map(|process| process.pid.as_raw_nonzero().get().unsigned_abs())
                .collect();
            return Sweep {
                killed: count(&killed) - count_of(unkillable.len()),
                unkillable,
            };
        }
        std::thread::yield_now();
    }
}

fn count<T>(set: &HashSet<T>) -> u32 {
    count_of(set.len())
}

fn count_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The living processes of the run, without its leader.
fn survivors(leader: Option<&ProcessStat>, marker: &str) -> Vec<ProcessStat> {
    let all = all_processes();
    let own = getpid();
    let mut children: HashMap<u32, Vec<&ProcessStat>> = HashMap::new();
    for process in &all {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = HashSet::new();
    let mut queue = vec![own];
    while let Some(parent) = queue.pop() {
        for child in children
            .get(&parent.as_raw_nonzero().get().unsigned_abs())
            .into_iter()
            .flatten()
        {
            if found.insert(child.pid) {
                queue.push(child.pid);
            }
        }
    }
    let since = leader.map_or(0, |leader| leader.start_ticks);
    let leader = leader.map(|leader| leader.pid);
    all.iter()
        .filter(|process| !process.is_zombie && process.pid != own && Some(process.pid) != leader)
        .filter(|process| {
            found.contains(&process.pid)
                || (process.start_ticks >= since && carries(process.pid, marker))
        })
        .copied()
        .collect()
}

/// Whether the process began with the marker in its environment.
fn carries(pid: Pid, marker: &str) -> bool {
    let Ok(environ) = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())) else {
        return false;
    };
    let wanted = format!("{MARKER_VARIABLE}={marker}");
    environ
        .split(|byte| *byte == 0)
        .any(|variable| variable == wanted.as_bytes())
}

/// Kills a process through a handle that cannot mean another one; gone already is fine.
fn kill(process: &ProcessStat) {
    let Ok(handle) = pidfd_open(process.pid, PidfdFlags::empty()) else {
        return;
    };
    // Between the walk and the handle the number may have passed to another process.
    if stat(process.pid).is_some_and(|now| now.start_ticks == process.start_ticks)
        && let Err(error) = pidfd_send_signal(&handle, Signal::KILL)
    {
        tracing::debug!(pid = %process.pid.as_raw_nonzero(), %error, "not killed");
    }
}

/// Reaps adopted orphans that have ended, so that no zombies gather. The leader stays unreaped: as
/// long as it is, neither its number nor its group's can pass to another process.
pub fn reap_orphans(leader: Option<Pid>) {
    // The kernel hands orphans to the reaper's first thread; see proc(5), `children`.
    let own = getpid().as_raw_nonzero();
    let children =
        fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    for pid in children
        .split(' ')
        .filter_map(|pid| Pid::from_raw(pid.parse().ok()?))
    {
        if Some(pid) != leader
            && let Err(error) = waitpid(Some(pid), WaitOptions::NOHANG)
        {
            tracing::debug!(pid = %pid.as_raw_nonzero(), %error, "not reaped");
        }
    }
}
