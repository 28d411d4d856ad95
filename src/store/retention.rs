//! Removing runs and what crashes left, so that a log root does not grow for ever.
//!
//! Which runs may go is decided by [`model::retention`](crate::model::retention), and nothing goes
//! that is not a run for certain: others may keep files in the log root. A run goes by a
//! rename into `.state/trash`, so it is there whole or not at all; what a killed removal left in the
//! trash, the next one clears. The run's lock is held meanwhile: nobody is writing in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::ids::RunPath;
use crate::model::outcome::Outcome;
use crate::model::retention::Kept;
use crate::model::text;
use crate::store::StoreError;
use crate::store::atomic::{self, LEFTOVER_AFTER, modified};
use crate::store::layout::{Layout, mark_name};
use crate::store::outbox::Outbox;
use crate::store::private::{is_directory, list, remove};
use crate::store::reader::{self, Filter, Run, is_run_for_certain, read_record};
use crate::store::recorder::RunFolder;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Removed {
    /// Files and directories, or runs.
    pub number: usize,
    /// What they took on disk.
    pub bytes: u64,
}

/// Finds all runs, the newest first, with what is to be known to decide which may go. Where the clock
/// `is_confirmed`, one that began after `now` did so by a clock that was ahead.
pub fn survey(
    layout: &Layout,
    now: DateTime<Utc>,
    is_confirmed: bool,
) -> Result<Vec<Kept>, StoreError> {
    let waiting: BTreeSet<String> = (Outbox::new(layout).pending()?.into_iter())
        .filter_map(|waiting| Some(waiting.entry.run?.to_string()))
        .collect();
    let marks: BTreeSet<String> = list(&layout.running())?
        .into_iter()
        .filter(|(_, kind)| kind.is_file())
        .map(|(name, _)| name)
        .collect();
    let work_trees = work_trees(layout)?;
    let until = Filter::past(now).until;
    let is_past = |at: &DateTime<Utc>| until.is_none_or(|until| *at < until);
    let is_believed = |at: &DateTime<Utc>| *at - now < TimeDelta::days(1);
    let kept = |run: Run| {
        let path = run.directory.path();
        let name = mark_name(&run.path);
        let work_tree = work_trees.get(&name);
        let told = run.path.run_id.started().or(run.record.start_time);
        Kept {
            // By a clock that was ahead it would be of today for ever.
            began: (told.filter(is_past))
                .or_else(|| Some(modified(path)).filter(is_believed))
                .or(told.filter(|_| !is_confirmed))
                .unwrap_or_default(),
            bytes: size(path) + work_tree.map_or(0, |path| size(path)),
            is_active: marks.contains(&name) || is_being_made(&run, now),
            has_work_tree: work_tree.is_some(),
            is_unsaved: false,
            outcome: run.record.outcome,
            notification: run.record.notification.state,
            waits: waiting.contains(&run.path.to_string()),
            run: run.path,
        }
    };
    Ok(reader::runs(layout, &Filter::default())?
        .filter(|run| is_run_for_certain(layout, &run.path))
        .map(kept)
        .collect())
}

/// The work trees that runs were given, by the names of the runs' marks. One that is half-removed
/// has something more in its name.
fn work_trees(layout: &Layout) -> Result<BTreeMap<String, PathBuf>, StoreError> {
    let named = |path: PathBuf| {
        let parts: Vec<&str> = path.file_name()?.to_str()?.split('.').take(3).collect();
        let name = parts.join(".");
        is_directory(&path).then_some((name, path))
    };
    let trees = children(&layout.work_trees())?;
    Ok(trees.into_iter().filter_map(named).collect())
}

/// Work trees whose runs are gone, with what they take on disk.
pub fn stray_work_trees(
    layout: &Layout,
    now: DateTime<Utc>,
) -> Result<Vec<(RunPath, u64)>, StoreError> {
    let stray = |(name, path): (String, PathBuf)| {
        let run: RunPath = name.replace('.', "/").parse().ok()?;
        let is_old = now - modified(&path) > LEFTOVER_AFTER;
        // Where nobody may look, the run may be there.
        let is_gone = matches!(layout.run(&run).path().try_exists(), Ok(false));
        (is_old && is_gone).then(|| (run, size(&path)))
    };
    Ok(work_trees(layout)?.into_iter().filter_map(stray).collect())
}

/// A directory without a record in which a runner may just be about to begin.
fn is_being_made(run: &Run, now: DateTime<Utc>) -> bool {
    let is_made = fs::symlink_metadata(run.directory.metadata()).is_ok();
    !is_made && now - modified(run.directory.path()) < LEFTOVER_AFTER
}

/// Removes a run that was found free to go; `false` when somebody has taken hold of it since, or
/// when `first`, done while the run is held, says that it stays.
pub fn remove_run(
    layout: &Layout,
    run: &RunPath,
    first: impl FnOnce() -> bool,
) -> Result<bool, StoreError> {
    let directory = layout.run(run);
    // Records of the original programs have no lock and no runner.
    let folder = if fs::symlink_metadata(directory.runner_log()).is_ok_and(|log| log.is_file()) {
        match RunFolder::take_over(layout, run, None)? {
            Some(folder) => Some(folder),
            None => return Ok(false),
        }
    } else {
        None
    };
    let is_marked = directory.mark().is_file();
    let is_ours = is_run_for_certain(layout, run);
    if !is_ours || is_marked || read_record(&directory, run).outcome == Outcome::Running || !first()
    {
        return Ok(false);
    }
    let trash = layout.trash();
    layout.create_state(&trash)?;
    let gone = trash.join(mark_name(run));
    remove_tree(&gone)?;
    atomic::rename(directory.path(), &gone)?;
    drop(folder);
    remove_tree(&gone)?;
    Ok(true)
}

/// Removes what crashes leave: the trash of a killed removal, temporary files that never got their
/// name; and refused notifications older than `refused_before`. `dry_run` only counts them.
pub fn remove_leftovers(
    layout: &Layout,
    now: DateTime<Utc>,
    refused_before: Option<DateTime<Utc>>,
    dry_run: bool,
) -> Result<Removed, StoreError> {
    let mut leftovers: Vec<PathBuf> = children(&layout.trash())?;
    let places = [
        layout.state(),
        layout.outbox(),
        layout.parked(),
        layout.told(),
        layout.since(),
    ];
    for place in places {
        match atomic::leftovers(&place, now) {
            Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {
                tracing::warn!(error = text::chain(&error), "it is passed over");
            }
            found => leftovers.extend(found?),
        }
    }
    if let Some(before) = refused_before {
        let refused = children(&layout.refused())?;
        leftovers.extend(refused.into_iter().filter(|path| modified(path) < before));
    }
    leftovers.extend(atomic::leftovers(&layout.refused(), now)?);
    for run in reader::listed(layout, &Filter::default())? {
        if is_run_for_certain(layout, &run) {
            leftovers.extend(atomic::leftovers(layout.run(&run).path(), now)?);
        }
    }
    let mut removed = Removed::default();
    for leftover in leftovers {
        removed.number += 1;
        removed.bytes += size(&leftover);
        if !dry_run {
            remove_tree(&leftover)?;
        }
    }
    Ok(removed)
}

fn children(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    if !is_directory(directory) {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(directory).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect::<io::Result<Vec<_>>>()
    });
    entries.map_err(|source| StoreError::new("list", directory, source))
}

/// Removes a file or a directory with all that lies in it; what is gone is as good. Links are
/// removed, not followed, and directories without permissions are given them first.
pub(crate) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_up(path);
                fs::remove_dir_all(path)
            }
            result => result,
        },
        Ok(_) => return remove(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::new("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes every directory of a tree one that its owner can empty. What fails here fails again, and
/// is told, when the tree is removed.
fn open_up(directory: &Path) {
    let opened = give_permissions(directory).and_then(|()| fs::read_dir(directory));
    for entry in opened.into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Gives a directory, never what a link means, all permissions of its owner.
#[cfg(target_os = "linux")]
fn give_permissions(directory: &Path) -> io::Result<()> {
    use std::fs::{File, Permissions};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let handle = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY)
        .open(directory)?;
    // Through the handle, which is no link whatever the path has become.
    let handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    fs::set_permissions(handle, Permissions::from_mode(0o700))
}

/// Gives a directory, never what a link means, all permissions of its owner.
#[cfg(not(target_os = "linux"))]
fn give_permissions(directory: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, Mode, chmodat};
    Ok(chmodat(
        CWD,
        directory,
        Mode::RWXU,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// What a file or a tree takes on disk, in bytes; links are not followed, and what cannot be looked
/// into takes nothing.
fn size(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else {
        return 0;
    };
    let mut bytes = found.blocks() * 512;
    if found.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        bytes += entries.map(|entry| size(&entry.path())).sum::<u64>();
    }
    bytes
}
