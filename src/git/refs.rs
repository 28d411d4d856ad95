//! The branches, tags and stashes of a repository, and what a run's time took from them.
//!
//! Read as files, which costs no process; with refs in the reftable format git is asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::path::Path;

use crate::git::history::Facts;
use crate::git::place::Place;
use crate::git::reflog::{
    Entry, Log, Run, absent, is_object_name, split_line, were_remote_branches,
};
use crate::git::snapshot::{Snapshot, Status};
use crate::git::standing::Rewrites;
use crate::git::work_tree::RUN_BRANCHES;
use crate::git::{Git, GitError, files};
use crate::model::change::Commit;
use crate::model::verdict::short;
use crate::regular;

/// The most commits that are looked for.
const MAX_WALKED: usize = 100;

/// More than a file has that is a ref: an object's name, or the name of another ref.
const MAX_REF_BYTES: u64 = 4096;

/// Where refs point at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Refs {
    /// Local branches and tags that have a file of their own, by their full names. Of a linked work
    /// tree none: others work in the repository, too.
    loose: BTreeMap<String, String>,
    /// All others as git lists them, read only where they changed: there may be many.
    packed: String,
    /// All stashes.
    pub stashes: Vec<String>,
}

/// What a run left, set against what refs had.
pub(super) struct Left<'a> {
    pub after: &'a Status,
    pub appeared: &'a [Facts],
    /// What the run made off the branch where it began.
    pub made: &'a [Facts],
    pub commits: &'a [Commit],
}

impl Git {
    /// The refs as they are now.
    pub(super) fn refs(&self, place: &Place) -> Result<Refs, GitError> {
        let is_linked = place.directory != place.common_directory;
        if place.has_reftable() {
            return self.reftable_refs(is_linked);
        }
        let common = &place.common_directory;
        let read = |path: &str, max_bytes| {
            let path = common.join(path);
            let bytes = regular::read(&path, max_bytes).or_else(|error| absent(&path, error))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let stashes = read("logs/refs/stash", files::MAX_BYTES)?;
        let stashes = stashes.lines().filter_map(split_line);
        let mut refs = Refs {
            stashes: stashes.map(|(_, new)| new.to_owned()).collect(),
            ..Refs::default()
        };
        if is_linked {
            return Ok(refs);
        }
        // In git's own order: a ref that is being packed is in one of both.
        for kind in [BRANCHES, TAGS] {
            for path in self.list_files(&common.join(kind))? {
                self.has_time(&path)?;
                let name = path.strip_prefix(common).unwrap_or(&path);
                let name = name.to_string_lossy().into_owned();
                let id = read(&name, MAX_REF_BYTES)?;
                refs.loose.insert(name, id.trim().to_owned());
            }
        }
        refs.packed = read("packed-refs", files::MAX_BYTES)?;
        Ok(refs)
    }

    fn reftable_refs(&self, is_linked: bool) -> Result<Refs, GitError> {
        let mut refs = Refs::default();
        let log = ["log", "-g", "--ignore-missing", "--format=%H", "refs/stash"];
        let stashes = String::from_utf8_lossy(&self.read(&log)?).into_owned();
        refs.stashes.extend(stashes.lines().map(str::to_owned));
        if !is_linked {
            let list = ["for-each-ref", "--format=%(objectname) %(refname)"];
            let list = self.read(&[&list[..], &[BRANCHES, TAGS]].concat())?;
            refs.packed = String::from_utf8_lossy(&list).into_owned();
        }
        Ok(refs)
    }

    /// The commits of other branches than the one that was checked out, of tags and of stashes, that
    /// nothing has any more, as [`RepositoryChange::lost`] tells them. Who took them is not known:
    /// the log of a branch goes with it.
    ///
    /// Runs no command where every ref is as it was.
    ///
    /// [`RepositoryChange::lost`]: crate::model::change::RepositoryChange::lost
    pub(super) fn lost_of_refs(
        &self,
        before: &Snapshot,
        now: &Refs,
        entries: &[Entry],
        run: Run<'_>,
        left: &Left<'_>,
    ) -> Result<Vec<String>, GitError> {
        let Some(was) = &before.refs else {
            return Ok(Vec::new());
        };
        let gone = was.gone(now, before.branch(), entries, run);
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        let (names, mut lost) = self.peel(&gone)?;
        let kept = now.stashes.iter().map(|id| format!("^{id}"));
        let kept = kept.chain(were_remote_branches(entries));
        let tips: Vec<String> = names.keys().cloned().chain(kept).collect();
        let tips: Vec<&str> = tips.iter().map(String::as_str).collect();
        let mut commits = self.walk_unkept(&tips, &["--all"], MAX_WALKED)?;
        let moved: Vec<&str> = gone.values().filter_map(|one| one.new.as_deref()).collect();
        let put_there = if moved.is_empty() || commits.is_empty() {
            Vec::new()
        } else {
            let old = gone.values().map(|one| one.old.as_str());
            let range: Vec<&str> = moved.into_iter().chain(["--not"]).chain(old).collect();
            self.walk(&range, MAX_WALKED)?
        };
        let appeared: HashSet<_> = left.appeared.iter().map(Facts::work).collect();
        commits.retain(|old| !appeared.contains(&old.work()));
        let made = left.made;
        Rewrites { entries, made }.drop_replaced(&mut commits, &put_there);
        // What was staged and what was untracked is part of a stash.
        let parts: HashSet<String> = (commits.iter())
            .filter(|one| names.get(&one.id).is_some_and(|name| name == STASH))
            .flat_map(|one| one.parents.iter().skip(1).cloned())
            .collect();
        for commit in commits.iter().filter(|one| !parts.contains(&one.id)) {
            let name = names.get(&commit.id).map(String::as_str);
            if name == Some(STASH) && self.is_brought_back(commit, before, left)? {
                continue;
            }
            let of = name.map_or(String::new(), |name| format!(" of {}", words(name)));
            let (id, line) = (short(&commit.id), &commit.first_line);
            lost.push(format!("{id} `{line}`{of}"));
        }
        Ok(lost)
    }

    /// The commits that these names had, with the names; and those that do not exist any more.
    fn peel(
        &self,
        gone: &BTreeMap<String, Gone>,
    ) -> Result<(HashMap<String, String>, Vec<String>), GitError> {
        let peel = ["cat-file", "--batch-check=%(objecttype) %(objectname)"];
        let ids: Vec<String> = (gone.values())
            .map(|one| format!("{}^{{}}\n", one.old))
            .collect();
        let peeled = self.read_with_input(&peel, ids.concat().as_bytes())?;
        let peeled = String::from_utf8_lossy(&peeled).into_owned();
        let (mut names, mut lost) = (HashMap::new(), Vec::new());
        for ((name, Gone { old, .. }), peeled) in gone.iter().zip(peeled.lines()) {
            let name = if name.starts_with(STASH) { STASH } else { name };
            if peeled.ends_with(" missing") {
                lost.push(format!("{} of {}", short(old), words(name)));
            } else if let Some(id) = peeled.strip_prefix("commit ") {
                names.insert(id.to_owned(), name.to_owned());
            }
        }
        Ok((names, lost))
    }

    /// Whether all that a stash changes was changed or committed meanwhile.
    fn is_brought_back(
        &self,
        stash: &Facts,
        before: &Snapshot,
        left: &Left<'_>,
    ) -> Result<bool, GitError> {
        let paths = self.stashed_paths(stash)?;
        let committed: HashSet<&str> = (left.commits.iter())
            .flat_map(|commit| commit.files.iter().map(String::as_str))
            .collect();
        let (was, is) = (&before.status.changes, &left.after.changes);
        let is_new = |path: &Path| is.contains_key(path) && is.get(path) != was.get(path);
        let is_back = |path: &String| committed.contains(path.as_str()) || is_new(Path::new(path));
        Ok(paths.iter().all(is_back))
    }

    /// The paths that a stash changes.
    pub(super) fn stashed_paths(&self, stash: &Facts) -> Result<Vec<String>, GitError> {
        let mut paths = Vec::new();
        if let Some(base) = stash.parents.first() {
            let diff = ["diff-tree", "-r", "-z", "--name-only", "--no-renames"];
            paths.push(self.read(&[&diff[..], &[base, &stash.id]].concat())?);
        }
        if let Some(untracked) = stash.parents.get(2) {
            paths.push(self.read(&["ls-tree", "-r", "-z", "--name-only", untracked])?);
        }
        let paths = String::from_utf8_lossy(&paths.concat()).into_owned();
        Ok(paths.split_terminator('\0').map(str::to_owned).collect())
    }
}

const STASH: &str = "refs/stash";
const BRANCHES: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

/// What a ref had, and where it points now, if it is there.
struct Gone {
    old: String,
    new: Option<String>,
}

impl Refs {
    /// The branches and tags of this choice; what else there is is passed over.
    fn names(&self, is_wanted: &dyn Fn(&str) -> bool) -> BTreeMap<&str, &str> {
        let packed = self.packed.lines().filter_map(|line| line.split_once(' '));
        let loose = self
            .loose
            .iter()
            .map(|(name, id)| (id.as_str(), name.as_str()));
        let is_ref = |(id, name): &(&str, &str)| {
            (name.starts_with(BRANCHES) || name.starts_with(TAGS))
                && Path::new(name).extension() != Some(OsStr::new("lock"))
                && is_object_name(id)
        };
        (packed.chain(loose))
            .filter(|(_, name)| is_wanted(name))
            .filter(is_ref)
            .map(|(id, name)| (name, id))
            .collect()
    }

    /// What was there and is not, or not at the same place, by name. Passed over are the branch that
    /// was checked out, which is looked at for itself; branches of other runs, which the runner
    /// removes; what a log says that somebody else moved; and tags that moved, which a fetch does.
    fn gone(
        &self,
        now: &Self,
        checked_out: Option<&str>,
        entries: &[Entry],
        run: Run<'_>,
    ) -> BTreeMap<String, Gone> {
        let is_packed_anew = self.packed != now.packed;
        let may_differ = |name: &str| is_packed_anew || self.loose.get(name) != now.loose.get(name);
        let is = now.names(&may_differ);
        let is_gone = |(name, old): &(&str, &str)| {
            let new = is.get(name);
            let Some(branch) = name.strip_prefix(BRANCHES) else {
                return new.is_none();
            };
            let others_moved = |entry: &Entry| {
                // `git branch -f` never carries a mark.
                let is_reset = |text: &String| text.starts_with("Reset to ");
                entry.log == Log::Branch(branch.to_owned())
                    && entry.old == *old
                    && !run.wrote(entry)
                    && !entry.text.as_ref().is_some_and(is_reset)
            };
            new != Some(old)
                && Some(branch) != checked_out
                && !branch.starts_with(RUN_BRANCHES)
                && !entries.iter().any(others_moved)
        };
        let names = self.names(&may_differ).into_iter().filter(is_gone);
        let names = names.map(|(name, old)| (name.to_owned(), old, is.get(name).copied()));
        let stashes = self.stashes.iter().filter(|id| !now.stashes.contains(id));
        let stashes = (stashes.enumerate())
            .map(|(number, old)| (format!("{STASH}@{number}"), old.as_str(), None));
        let gone = |(name, old, new): (String, &str, Option<&str>)| {
            let (old, new) = (old.to_owned(), new.map(str::to_owned));
            (name, Gone { old, new })
        };
        names.chain(stashes).map(gone).collect()
    }
}

/// A ref as people call it.
fn words(name: &str) -> String {
    if let Some(branch) = name.strip_prefix(BRANCHES) {
        format!("branch `{branch}`")
    } else if let Some(tag) = name.strip_prefix(TAGS) {
        format!("tag `{tag}`")
    } else {
        "the stash".to_owned()
    }
}
