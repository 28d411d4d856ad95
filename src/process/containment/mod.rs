//! How the processes of a run are held together, and how what is left of them is ended.
//!
//! Killing the process group is not enough: all agent CLIs start their tools in sessions of their
//! own. There are three ways, and each has the ones below it as its nets:
//!
//! - [`namespace`]: the processes have a namespace of their own. It ends when its first process
//!   ends, and that one ends with the runner, however the runner ends.
//! - [`cgroup`]: whatever its processes do, they stay in their control group, which is killed as a
//!   whole; after the death of the runner by the next command that recovers runs. A process with
//!   the rights of the runner can leave it on purpose.
//! - subreaper: every orphan of the run becomes a child of the runner, so that nothing escapes as
//!   long as the runner lives. What it had as children before is left alone, with its offspring.
//!
//! Elsewhere than on Linux there is a fourth alone, group: the processes are a process group, and
//! who descends from it is looked up every 2 s. What left the group and lost its parent in between
//! is found by its marker or not at all.
//!
//! The marker in the environment is always the last net, for what was reparented elsewhere.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, waitpid,
};

use crate::model::task::Containment;
use crate::process::containment::cgroup::Cgroup;
use crate::process::containment::namespace::Namespace;
use crate::process::identity::{ProcessStat, all_processes, carries, children, has_children, stat};
use crate::process::ps;
use crate::process::system::{self, Entry, IS_LINUX, ProcessHandle, number};

pub mod cgroup;
pub mod namespace;

/// The variable that marks every process of a run; its value is unique to the run.
pub const MARKER_VARIABLE: &str = "AGENT_RUNNER_MARKER";

/// The longest time for killing what is left. A run must end within 5 s after the kill.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// How often what is left is killed at least, however long ps takes to list it.
const LEAST_ROUNDS: u32 = if IS_LINUX { 1 } else { 3 };

/// Tells what will be in force; `None` wants the strongest that needs no program.
///
/// # Errors
/// Why what is wanted cannot be had, as a sentence.
pub fn choose(wanted: Option<Containment>, search_path: &OsStr) -> Result<Containment, String> {
    match wanted {
        Some(Containment::Namespace) => {
            namespace::find(search_path)?;
        }
        Some(Containment::Cgroup) => {
            cgroup::place().map_err(|error| cgroup_failure(&error))?;
        }
        Some(Containment::Subreaper | Containment::Group) => bare(wanted)?,
        None if cgroup::place().is_ok() => return Ok(Containment::Cgroup),
        None => {}
    }
    Ok(wanted.unwrap_or(BARE))
}

/// What holds processes together where nothing is made for it.
const BARE: Containment = if IS_LINUX {
    Containment::Subreaper
} else {
    Containment::Group
};

/// Whether what is wanted is [`BARE`].
fn bare(wanted: Option<Containment>) -> Result<(), String> {
    match wanted {
        Some(wanted) if wanted != BARE => Err(format!(
            "containment `{}` cannot be had here, only `{}`",
            wanted.as_str(),
            BARE.as_str()
        )),
        Some(_) | None => Ok(()),
    }
}

fn cgroup_failure(error: &io::Error) -> String {
    format!("containment `cgroup` cannot be had here: {error}")
}

/// Makes this process adopt every orphan among its descendants, on Linux. Those that it has when
/// this is first called are none of a run's and are left alone.
///
/// # Errors
/// When the kernel refuses, which no Linux since 3.4 does.
pub fn adopt_orphans() -> io::Result<()> {
    STRANGERS.get_or_init(|| {
        // A shell that executes this program hands its children on; mostly there are none.
        if IS_LINUX && !has_children() {
            return Vec::new();
        }
        let (mut all, _shown) = look("");
        let found = descendants(&all, vec![getpid()]);
        all.retain(|process| found.contains(&process.pid));
        all
    });
    system::adopt_orphans()
}

/// Descendants of this process that are older than what it starts.
static STRANGERS: OnceLock<Vec<ProcessStat>> = OnceLock::new();

fn strangers() -> &'static [ProcessStat] {
    STRANGERS.get().map_or(&[], Vec::as_slice)
}

fn is_stranger(process: &ProcessStat) -> bool {
    strangers()
        .iter()
        .any(|stranger| is_same(stranger, process))
}

fn is_same(one: &ProcessStat, other: &ProcessStat) -> bool {
    (one.pid, one.start_ticks) == (other.pid, other.start_ticks)
}

/// All processes, and, elsewhere than on Linux, which of them carry the marker.
fn look(marker: &str) -> (Vec<ProcessStat>, HashSet<Pid>) {
    if IS_LINUX {
        (all_processes(), HashSet::new())
    } else {
        ps::all(marker)
    }
}

/// Those of `all` that descend from these, strangers and what descends from them left out.
fn descendants(all: &[ProcessStat], mut ancestors: Vec<Pid>) -> HashSet<Pid> {
    let mut offspring: HashMap<u32, Vec<Pid>> = HashMap::new();
    for process in all.iter().filter(|process| !is_stranger(process)) {
        offspring
            .entry(process.parent)
            .or_default()
            .push(process.pid);
    }
    let mut found = HashSet::new();
    while let Some(parent) = ancestors.pop() {
        let children = offspring.get(&number(parent)).into_iter().flatten();
        ancestors.extend(children.filter(|child| found.insert(**child)));
    }
    found
}

/// How often a run is searched for processes that are to be stopped.
const STOP_ROUNDS: usize = 10;

/// What holds one process tree. Dropping it kills nothing.
#[derive(Debug)]
pub(super) enum Cage {
    Namespace(Namespace),
    Cgroup(Cgroup),
    /// Nothing is made for it: see [`BARE`].
    Bare,
}

impl Cage {
    /// Builds what is wanted; see [`choose`].
    pub(super) fn build(
        wanted: Option<Containment>,
        search_path: &OsStr,
        marker: &str,
    ) -> Result<Self, String> {
        match wanted {
            Some(Containment::Namespace) => Namespace::prepare(search_path).map(Self::Namespace),
            Some(Containment::Cgroup) => match Cgroup::create(marker) {
                Ok(cgroup) => Ok(Self::Cgroup(cgroup)),
                Err(error) => Err(cgroup_failure(&error)),
            },
            Some(Containment::Subreaper | Containment::Group) => bare(wanted).map(|()| Self::Bare),
            None => Ok(Cgroup::create(marker).map_or_else(
                |error| {
                    tracing::debug!(%error, "no cgroup");
                    Self::Bare
                },
                Self::Cgroup,
            )),
        }
    }

    pub(super) fn containment(&self) -> Containment {
        match self {
            Self::Namespace(_) => Containment::Namespace,
            Self::Cgroup(_) => Containment::Cgroup,
            Self::Bare => BARE,
        }
    }

    /// Where the process is put before it executes its program.
    pub(super) fn entry(&self) -> Entry<'_> {
        match self {
            Self::Namespace(namespace) => namespace.entry(),
            Self::Cgroup(cgroup) => Entry::Cgroup(cgroup.descriptor()),
            Self::Bare => Entry::Here,
        }
    }

    /// The signal that ends the leader's group at once. In a namespace its first process is asked
    /// to do it, so that it lives to tell how the agent ended.
    pub(super) fn kill_signal(&self) -> Signal {
        match self {
            Self::Namespace(_) => namespace::KILL,
            Self::Cgroup(_) | Self::Bare => Signal::KILL,
        }
    }

    /// What ends the leader's group and the control group at once, and tells whether the leader lived.
    pub(super) fn killer(&self, leader: Pid) -> impl Fn() -> bool + Send + 'static + use<> {
        let signal = self.kill_signal();
        let switch = match self {
            Self::Cgroup(cgroup) => Some(cgroup.switch()),
            Self::Namespace(_) | Self::Bare => None,
        };
        move || {
            let lived = !system::has_ended(leader);
            let group = kill_process_group(leader, signal).is_ok();
            let cgroup = switch
                .as_deref()
                .is_some_and(|it| cgroup::throw(it).is_ok());
            lived && (group || cgroup)
        }
    }

    /// Kills everything of the run but its leader: see [`Net::kill`]. What was seen of it before
    /// belongs to it as well.
    pub(super) fn kill_rest(
        &self,
        leader: Option<&ProcessStat>,
        marker: &str,
        seen: &[ProcessStat],
    ) -> Sweep {
        let net = self.net(leader, marker);
        Net { seen, ..net }.kill()
    }

    /// What has to be remembered of a run while its leader lives, where orphans are not adopted; with
    /// what was seen before.
    pub(super) fn see(&self, leader: &ProcessStat, seen: &[ProcessStat]) -> Vec<ProcessStat> {
        if IS_LINUX {
            return Vec::new();
        }
        let net = self.net(Some(leader), "");
        Net { seen, ..net }.living(leader.start_ticks)
    }

    fn net<'a>(&'a self, leader: Option<&'a ProcessStat>, marker: &'a str) -> Net<'a> {
        let cgroup = match self {
            Self::Cgroup(cgroup) => Some(cgroup),
            Self::Namespace(_) | Self::Bare => None,
        };
        Net {
            leader,
            descendants: true,
            cgroup,
            marker,
            seen: &[],
        }
    }

    /// Stops every process of the run until [`resume`]; gives those that were not stopped already.
    pub(super) fn pause(&self, leader: &ProcessStat, marker: &str) -> Vec<ProcessStat> {
        self.net(None, marker).stop(leader.start_ticks)
    }

    /// Leaves nothing of the containment behind, once its processes have ended.
    pub(super) fn remove(&self) {
        match self {
            Self::Cgroup(cgroup) => cgroup.remove(),
            Self::Namespace(_) | Self::Bare => {}
        }
    }
}

/// Kills every descendant of this process, but for older ones, and what carries the marker: what
/// helpers of a run were made to start.
pub fn kill_started(marker: &str) -> Sweep {
    // Orphans of helpers became children of this process, so without one there is nothing to find.
    if IS_LINUX && !has_children() {
        return Sweep::default();
    }
    Cage::Bare.kill_rest(None, marker, &[])
}

/// Kills what a run left whose runner died: what is in its control group, when it had one, and what
/// carries its marker. The empty control group is removed.
pub fn kill_abandoned(is_in_cgroup: bool, marker: &str) -> Sweep {
    let cgroup = is_in_cgroup.then(|| Cgroup::find(marker)).flatten();
    let net = Net {
        leader: None,
        descendants: false,
        cgroup: cgroup.as_ref(),
        marker,
        seen: &[],
    };
    let sweep = net.kill();
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    sweep
}

/// What came of killing the rest of a tree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sweep {
    /// Living processes that were killed.
    pub killed: u32,
    /// Processes that were still there at the end of the time.
    pub unkillable: Vec<u32>,
}

/// What is of a run.
struct Net<'a> {
    /// Its first process, which is left to its parent.
    leader: Option<&'a ProcessStat>,
    /// All descendants of this process are, but for [`STRANGERS`] and theirs.
    descendants: bool,
    cgroup: Option<&'a Cgroup>,
    /// What carries this marker is; none when it is empty.
    marker: &'a str,
    /// These are, if they still are the same.
    seen: &'a [ProcessStat],
}

impl Net<'_> {
    /// Kills all but the leader; repeats until nothing is left, at most 2 s.
    ///
    /// Blocks for as long as the kernel needs to end them, usually under a millisecond.
    fn kill(&self) -> Sweep {
        let began = Instant::now();
        let since = self.leader.map_or(0, |leader| leader.start_ticks);
        let mut killed = HashSet::new();
        let mut rounds = 0;
        loop {
            if rounds > 0 {
                // What forks as fast as it is killed forks no more.
                self.stop(since);
            }
            if let Some(cgroup) = self.cgroup {
                killed.extend(cgroup.members().into_iter().filter(|pid| !self.leads(*pid)));
                cgroup.kill();
            }
            if self.descendants && IS_LINUX {
                self.kill_children(&mut killed);
            }
            let alive = self.living(since);
            for process in &alive {
                send(process, Signal::KILL);
                killed.insert(process.pid);
            }
            rounds += 1;
            if alive.is_empty() || began.elapsed() > KILL_LIMIT && rounds >= LEAST_ROUNDS {
                for process in &alive {
                    killed.remove(&process.pid);
                }
                return Sweep {
                    killed: u32::try_from(killed.len()).unwrap_or(u32::MAX),
                    unkillable: alive.iter().map(|process| number(process.pid)).collect(),
                };
            }
            std::thread::yield_now();
        }
    }

    fn leads(&self, pid: Pid) -> bool {
        self.leader.is_some_and(|leader| leader.pid == pid)
    }

    /// Kills and reaps children of this process until none is left. The orphans of those become
    /// children in their turn, so this is all of the tree, mostly found faster than it can fork.
    fn kill_children(&self, killed: &mut HashSet<Pid>) {
        let began = Instant::now();
        loop {
            let mut children = children();
            children.retain(|pid| {
                let is_stranger = || stat(*pid).is_some_and(|process| is_stranger(&process));
                !self.leads(*pid) && (strangers().is_empty() || !is_stranger())
            });
            if children.is_empty() || began.elapsed() > KILL_LIMIT / 8 {
                return;
            }
            for pid in children {
                if !system::has_ended(pid) {
                    killed.insert(pid);
                    // The number is safe: it is taken until the process is reaped, below.
                    if let Err(error) = kill_process(pid, Signal::KILL) {
                        tracing::debug!(pid = number(pid), %error, "not killed");
                    }
                }
                reap(pid);
            }
            std::thread::yield_now();
        }
    }

    /// Stops all but the leader; gives those that were not stopped already.
    fn stop(&self, since: u64) -> Vec<ProcessStat> {
        let mut stopped: Vec<ProcessStat> = Vec::new();
        // What is forked meanwhile is found the next time; what forks for ever is not waited for.
        for _ in 0..STOP_ROUNDS {
            let mut running = self.living(since);
            running.retain(|process| {
                !process.is_stopped && !stopped.iter().any(|other| other.pid == process.pid)
            });
            if running.is_empty() {
                break;
            }
            for process in &running {
                send(process, Signal::STOP);
            }
            stopped.extend(running);
        }
        stopped
    }

    /// The living processes, without the leader. What carries the marker is not older than `since`.
    fn living(&self, since: u64) -> Vec<ProcessStat> {
        let marker = match self.marker {
            "" => String::new(),
            marker => format!("{MARKER_VARIABLE}={marker}"),
        };
        let (all, shown) = look(&marker);
        let own = getpid();
        let mut found = HashSet::new();
        if self.descendants {
            let still =
                (all.iter()).filter(|process| self.seen.iter().any(|seen| is_same(seen, process)));
            let mut known: Vec<Pid> = still.map(|process| process.pid).collect();
            found.extend(&known);
            known.push(own);
            found.extend(descendants(&all, known));
        }
        found.extend(self.cgroup.map(Cgroup::members).into_iter().flatten());
        let group = self.leader.map(|leader| number(leader.pid));
        let mut living = all;
        living.retain(|process| {
            let is_candidate = !process.is_zombie && process.pid != own && !self.leads(process.pid);
            let is_marked = || {
                if IS_LINUX {
                    carries(process.pid, &marker)
                } else {
                    shown.contains(&process.pid)
                }
            };
            is_candidate
                && (found.contains(&process.pid)
                    || Some(process.group) == group
                    || (process.start_ticks >= since && !marker.is_empty() && is_marked()))
        });
        living
    }
}

/// Lets paused processes continue.
pub(super) fn resume(paused: &[ProcessStat]) {
    for process in paused {
        send(process, Signal::CONT);
    }
}

/// Signals a process through a handle that cannot mean another one; gone already is fine.
fn send(process: &ProcessStat, signal: Signal) {
    let Ok(handle) = ProcessHandle::open(process.pid) else {
        return;
    };
    // Between the walk and the handle the number may have passed to another process. Without a
    // handle that could happen after another look as well.
    let is_same = || stat(process.pid).is_some_and(|now| now.start_ticks == process.start_ticks);
    if (!IS_LINUX || is_same())
        && let Err(error) = handle.send(signal)
    {
        tracing::debug!(pid = number(process.pid), %error, ?signal, "not signalled");
    }
}

/// Reaps adopted orphans that have ended, so that no zombies gather. The leader stays unreaped: as
/// long as it is, neither its number nor its group's can pass to another process.
pub fn reap_orphans(leader: Option<Pid>) {
    while let Some(pid) = system::ended_child() {
        if Some(pid) == leader {
            // It has ended, so the end of the run is near and takes the others.
            return;
        }
        reap(pid);
    }
}

/// Reaps a child if it has ended.
fn reap(pid: Pid) {
    if let Err(error) = waitpid(Some(pid), WaitOptions::NOHANG) {
        tracing::debug!(pid = number(pid), %error, "not reaped");
    }
}
