//! Control groups, version 2: below the runner's own, one for each process tree, with no limits.
//!
//! Its name holds the run's marker, so that another process finds it again:
//! `agent-runner.work.claude.20260219_204003.4711`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, Mode, OFlags, access, open};
use rustix::process::Pid;

use crate::process::system::IS_LINUX;

/// The control group of one process tree.
#[derive(Debug)]
pub(in crate::process) struct Cgroup {
    directory: PathBuf,
    descriptor: OwnedFd,
}

/// The control group that this process is in, when new ones may be made in it and entered.
///
/// # Errors
/// When there is none, or it may not be written.
pub(super) fn place() -> io::Result<PathBuf> {
    if !IS_LINUX {
        return Err(io::Error::other("only Linux has control groups"));
    }
    let own = fs::read_to_string("/proc/self/cgroup")?;
    // Version 2 is the hierarchy without a number and a name; see cgroups(7).
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let place = own.zip(mount()).map(|(own, mount)| mount.join(own));
    let place = place.ok_or_else(|| io::Error::other("no cgroup of version 2 is mounted"))?;
    // A process may be moved only by those who may write where it comes from.
    for needed in [&place, &place.join("cgroup.procs")] {
        access(needed, Access::WRITE_OK)
            .map_err(|error| io::Error::other(format!("`{}`: {error}", needed.display())))?;
    }
    Ok(place)
}

/// Where control groups of version 2 are mounted, alone or beside version 1.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(path))
    })
}

fn name(marker: &str) -> String {
    format!("agent-runner.{}", marker.replace(['/', '@'], "."))
}

impl Cgroup {
    /// Makes the control group for a marker; one that is there already is taken.
    pub(super) fn create(marker: &str) -> io::Result<Self> {
        let place = place()?;
        tidy(&place);
        let directory = place.join(name(marker));
        match DirBuilder::new().mode(0o755).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let cgroup = Self::open(directory.clone()).and_then(|cgroup| {
            // Linux before 5.14 has none.
            access(directory.join("cgroup.kill"), Access::WRITE_OK)?;
            Ok(cgroup)
        });
        if cgroup.is_err() {
            remove(&directory);
        }
        cgroup
    }

    /// Finds the control group of a marker, wherever its maker was.
    pub(super) fn find(marker: &str) -> Option<Self> {
        let name = name(marker);
        let mut places = vec![mount()?];
        while let Some(place) = places.pop() {
            let candidate = place.join(&name);
            if candidate.is_dir() {
                return Self::open(candidate).ok();
            }
            places.extend(directories(&place));
        }
        None
    }

    fn open(directory: PathBuf) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptor = open(&directory, flags, Mode::empty())?;
        Ok(Self {
            directory,
            descriptor,
        })
    }

    /// Its directory, by which it can be entered.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// The living processes in it and in those that were made inside it.
    pub(super) fn members(&self) -> Vec<Pid> {
        let mut members = Vec::new();
        let mut places = vec![self.directory.clone()];
        while let Some(place) = places.pop() {
            let pids = fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
            members.extend(
                pids.lines()
                    .filter_map(|pid| Pid::from_raw(pid.parse().ok()?)),
            );
            places.extend(directories(&place));
        }
        members
    }

    /// Kills all of them at once; none can fork away.
    pub(super) fn kill(&self) {
        if let Err(error) = throw(&self.switch()) {
            tracing::debug!(%error, "cgroup not killed");
        }
    }

    /// The switch that kills all of them, for [`throw`].
    pub(super) fn switch(&self) -> PathBuf {
        self.directory.join("cgroup.kill")
    }

    /// Removes it. One that still has a process, which cannot be killed, stays.
    pub(super) fn remove(&self) {
        remove(&self.directory);
    }
}

/// Kills all processes of the control group that has this switch.
pub(super) fn throw(switch: &Path) -> io::Result<()> {
    let mut switch = fs::OpenOptions::new().write(true).open(switch)?;
    io::Write::write_all(&mut switch, b"1")
}

/// Removes what stayed behind of runners that are gone: it could not be removed when its run ended,
/// or nobody recovered the run.
fn tidy(place: &Path) {
    for directory in directories(place) {
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let runner = name
            .strip_prefix("agent-runner.")
            .and_then(|name| name.rsplit_once('.'));
        if let Some((_, runner)) = runner
            && !Path::new("/proc").join(runner).exists()
            && fs::read_to_string(directory.join("cgroup.events"))
                .is_ok_and(|events| events.contains("populated 0"))
        {
            remove(&directory);
        }
    }
}

fn directories(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove(directory: &Path) {
    for inside in directories(directory) {
        remove(&inside);
    }
    if let Err(error) = fs::remove_dir(directory) {
        tracing::debug!(%error, directory = %directory.display(), "cgroup stays behind");
    }
}
