//! What a repository is like at one moment: where HEAD is, and what is not committed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::git::configuration::Configuration;
use crate::git::environment::Identity;
use crate::git::place::Place;
use crate::git::programs::{Programs, includes, setting};
use crate::git::refs::Refs;
use crate::git::{Git, GitError};

/// The least time for looking at a repository again.
pub const LEAST_PATIENCE: Duration = Duration::from_secs(10);

/// A repository before a run.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) place: Place,
    pub(super) status: Status,
    /// `None` where they could not be read, as when there are too many.
    pub(super) refs: Option<Refs>,
    /// When it was taken, in seconds since 1970.
    pub(super) start: i64,
    name: Option<String>,
    email: Option<String>,
    pub(super) programs: Programs,
    /// `None` where it must be asked for.
    pub(super) configuration: Option<Configuration>,
    took: Duration,
}

impl Snapshot {
    /// The commit that is checked out; `None` in a repository without commits.
    pub fn head(&self) -> Option<&str> {
        self.status.head.as_deref()
    }

    /// The branch that is checked out; `None` when HEAD is detached.
    pub fn branch(&self) -> Option<&str> {
        self.status.branch.as_deref()
    }

    /// The programs that its configuration names.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The same, had another commit been checked out.
    #[must_use]
    pub fn moved_to(&self, commit: &str) -> Self {
        let mut moved = self.clone();
        moved.status.head = Some(commit.to_owned());
        moved
    }

    /// An operation that is half-done: `rebase`, `merge`, `cherry-pick`, `revert`, `bisect`, `am`.
    pub fn in_progress(&self) -> Option<&str> {
        self.status.in_progress
    }

    /// How long looking again may take in all: ten seconds more than a few times as long as this
    /// look took.
    pub fn patience(&self) -> Duration {
        LEAST_PATIENCE + self.took * 3
    }

    /// The identity that the repository's configuration gives to commits (`user.name`,
    /// `user.email`), completed by `fallback`.
    pub fn identity(&self, fallback: &Identity) -> Identity {
        Identity {
            name: self.name.clone().unwrap_or_else(|| fallback.name.clone()),
            email: self.email.clone().unwrap_or_else(|| fallback.email.clone()),
        }
    }
}

/// HEAD, and all that is not committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub head: Option<String>,
    pub branch: Option<String>,
    /// Paths from the root of the work tree.
    pub changes: BTreeMap<PathBuf, Change>,
    pub in_progress: Option<&'static str>,
    /// A git works there, or was killed when it did.
    pub index_lock: bool,
}

/// The uncommitted state of one path. Two states that are equal hold the same change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Change {
    /// git's line about it: status letters, modes, object names.
    line: Vec<u8>,
    pub file: Option<FileStamp>,
}

impl Change {
    /// Whether it is a merge's conflict that is not resolved.
    pub(super) fn is_conflict(&self) -> bool {
        self.line.starts_with(b"u ")
    }

    /// Whether it is a submodule's: `1 .M S.M.`.
    pub(super) fn is_submodule(&self) -> bool {
        !self.line.starts_with(b"? ") && self.line.get(5) == Some(&b'S')
    }

    /// Whether it is but another commit of a submodule: `1 .M SC..`.
    pub(super) fn is_submodules_commit(&self) -> bool {
        self.line.get(5..9) == Some(b"SC..")
    }
}

/// A file's time of change, size and inode; a file that was written has another one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct FileStamp {
    seconds: i64,
    nanoseconds: i64,
    size: u64,
    inode: u64,
}

pub(super) const STATUS: [&str; 7] = [
    "status",
    "--porcelain=v2",
    "--branch",
    "-z",
    "--untracked-files=all",
    "--no-renames",
    "--no-ahead-behind",
];

impl Git {
    /// Looks at the repository, for a later comparison. `start` is the present time; what was
    /// committed before it is not new.
    ///
    /// Runs two git commands side by side, in an unusual place one more, and where there are
    /// submodules up to three for each repository. Writes nothing.
    pub fn snapshot(&self, start: DateTime<Utc>) -> Result<Snapshot, GitError> {
        let began = Instant::now();
        let status = self.start(&STATUS, &[])?;
        let configuration = self.configuration();
        let configured = self.configured()?;
        let usual = setting(&configured, "core.worktree").is_none();
        let place = match Place::usual(&self.repository).filter(|_| usual) {
            Some(place) => Ok(place),
            None => self.place(),
        };
        let refs = place.as_ref().ok().and_then(|place| {
            let unseen = |error: &GitError| {
                tracing::warn!(%error, "what becomes of other branches is not seen");
            };
            self.refs(place).inspect_err(unseen).ok()
        });
        let status = self.output(&STATUS, status)?;
        let place = place?;
        Ok(Snapshot {
            status: self.parse_status(&place, &status)?,
            refs,
            start: start.timestamp(),
            name: setting(&configured, "user.name"),
            email: setting(&configured, "user.email"),
            programs: self.programs(&place.top_level, &place.directory, &configured)?,
            configuration: configuration.filter(|_| !includes(&configured)),
            took: began.elapsed(),
            place,
        })
    }

    /// The identity for a commit of the runner's own.
    pub(super) fn identity(&self, fallback: &Identity) -> Result<Identity, GitError> {
        let output = self.configured()?;
        let or = |key, other: &String| setting(&output, key).unwrap_or_else(|| other.clone());
        Ok(Identity {
            name: or("user.name", &fallback.name),
            email: or("user.email", &fallback.email),
        })
    }

    /// Reads `# branch.…` headers and one line for each path, all ended by NUL; the path follows
    /// 8 fields in a changed entry (`1`), 10 in an unmerged one (`u`), none in an untracked one
    /// (`?`).
    pub(super) fn parse_status(&self, place: &Place, output: &[u8]) -> Result<Status, GitError> {
        let mut status = Status {
            in_progress: in_progress(&place.directory),
            index_lock: place.directory.join("index.lock").exists(),
            ..Status::default()
        };
        for line in output.split(|byte| *byte == 0) {
            let fields = match line.first() {
                Some(b'#') => {
                    status.take_header(&String::from_utf8_lossy(line));
                    continue;
                }
                Some(b'1') => 8,
                Some(b'u') => 10,
                Some(b'?') => 1,
                Some(_) => return Err(GitError::output("status")),
                None => continue,
            };
            let path = line
                .splitn(fields + 1, |byte| *byte == b' ')
                .nth(fields)
                .ok_or_else(|| GitError::output("status"))?;
            let path = Path::new(OsStr::from_bytes(path));
            if line[0] != b'?' || !self.ignores(place, path) {
                let change = Change {
                    line: line.to_owned(),
                    file: FileStamp::of(&place.top_level.join(path)),
                };
                status.changes.insert(path.to_owned(), change);
            }
        }
        Ok(status)
    }

    fn ignores(&self, place: &Place, path: &Path) -> bool {
        self.ignored.as_ref().is_some_and(|ignored| {
            *ignored != place.top_level
                && ignored.starts_with(&place.top_level)
                && place.top_level.join(path).starts_with(ignored)
        })
    }
}

impl Status {
    /// The paths with changes, as they are told.
    pub(super) fn paths(&self) -> impl Iterator<Item = String> {
        self.changes.keys().map(|path| told(path))
    }

    fn take_header(&mut self, line: &str) {
        if let Some(id) = line.strip_prefix("# branch.oid ") {
            self.head = (id != "(initial)").then(|| id.to_owned());
        } else if let Some(branch) = line.strip_prefix("# branch.head ") {
            self.branch = (branch != "(detached)").then(|| branch.to_owned());
        }
    }
}

/// A path as it is told; git ends that of a repository in the work tree with a slash.
pub(super) fn told(path: &Path) -> String {
    path.to_string_lossy().trim_end_matches('/').to_owned()
}

impl FileStamp {
    /// That of a file as it is now; `None` where there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some(Self {
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
            size: metadata.len(),
            inode: metadata.ino(),
        })
    }
}

/// The files by which git itself knows what is half-done, see wt-status.c.
pub(super) fn in_progress(directory: &Path) -> Option<&'static str> {
    [
        ("rebase-merge", "rebase"),
        ("rebase-apply/applying", "am"),
        ("rebase-apply", "rebase"),
        ("MERGE_HEAD", "merge"),
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
        ("BISECT_LOG", "bisect"),
    ]
    .into_iter()
    .find(|(file, _)| directory.join(file).exists())
    .map(|(_, operation)| operation)
}
