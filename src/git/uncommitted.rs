//! What became of uncommitted changes: what a run left, and what it took away.

use std::collections::HashSet;

use crate::git::refs::Refs;
use crate::git::snapshot::{FileStamp, Snapshot, Status, told};
use crate::git::{Git, GitError};
use crate::model::change::{Commit, Standing};

/// The most new stashes that are looked into.
const MAX_STASHES: usize = 20;

/// Paths, in order.
#[derive(Default)]
pub(super) struct Uncommitted {
    /// Their uncommitted state is new, or another one.
    pub left: Vec<String>,
    /// Their changes from before are gone.
    pub discarded: Vec<String>,
    /// Their changes from before are in a stash.
    pub stashed: Vec<String>,
}

impl Git {
    /// Tells what became of uncommitted changes.
    ///
    /// Runs no command but where some are gone that were there before, and a stash is new.
    pub(super) fn uncommitted(
        &self,
        before: &Snapshot,
        after: &Status,
        refs: &Refs,
        commits: &[Commit],
    ) -> Result<Uncommitted, GitError> {
        let was = &before.status.changes;
        let changed =
            (after.changes.iter()).filter(|(path, change)| was.get(*path) != Some(change));
        let left = changed.map(|(path, _)| told(path)).collect();
        let mut discarded = before.discarded(after, commits);
        let mut stashed = Vec::new();
        if !discarded.is_empty() {
            let was = before.refs.as_ref();
            let is_new = |id: &&String| was.is_none_or(|was| !was.stashes.contains(id));
            let stashes = refs.stashes.iter().rev().filter(is_new).take(MAX_STASHES);
            let stashes: Vec<&str> = stashes.map(String::as_str).collect();
            let mut paths = HashSet::new();
            for stash in self.look_up(&stashes)? {
                paths.extend(self.stashed_paths(&stash)?);
            }
            stashed.extend(discarded.extract_if(.., |path| paths.contains(path)));
        }
        Ok(Uncommitted {
            left,
            discarded,
            stashed,
        })
    }
}

impl Snapshot {
    /// The paths whose uncommitted changes are neither there any more nor committed.
    fn discarded(&self, after: &Status, commits: &[Commit]) -> Vec<String> {
        let mut vanished = (self.status.changes.iter())
            .filter(|(path, _)| !after.changes.contains_key(*path))
            .peekable();
        if vanished.peek().is_none() {
            return Vec::new();
        }
        let is_kept = |commit: &&Commit| commit.standing != Standing::Elsewhere { branch: None };
        let committed: HashSet<&str> = (commits.iter().filter(is_kept))
            .flat_map(|commit| &commit.files)
            .map(String::as_str)
            .collect();
        let top_level = &self.place.top_level;
        // A file that was renamed is still the same.
        let stamps: HashSet<_> = (committed.iter())
            .filter_map(|path| FileStamp::of(&top_level.join(path)))
            .chain(after.changes.values().filter_map(|change| change.file))
            .collect();
        vanished
            .filter(|(path, change)| {
                let is_there = |stamp| FileStamp::of(&top_level.join(path)) == Some(stamp);
                // The directory of a submodule is the same whatever becomes of a file deep in it.
                let is_kept =
                    |stamp| stamps.contains(&stamp) || !change.is_submodule() && is_there(stamp);
                let is_settled = change.is_conflict() && !commits.is_empty();
                !change.file.is_some_and(is_kept) && !is_settled && !change.is_submodules_commit()
            })
            .map(|(path, _)| told(path))
            .filter(|path| !committed.contains(path.as_str()))
            .collect()
    }
}
