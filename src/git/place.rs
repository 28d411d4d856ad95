//! Where the parts of a repository lie.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::git::{Git, GitError, files};

/// Where the parts of a repository lie, without symbolic links.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// The root of the work tree.
    pub top_level: PathBuf,
    /// What belongs to this work tree: HEAD, the index, a merge in progress.
    pub directory: PathBuf,
    /// What all work trees share: branches, objects.
    pub common_directory: PathBuf,
}

const PLACE: [&str; 5] = [
    "rev-parse",
    "--path-format=absolute",
    "--show-toplevel",
    "--git-dir",
    "--git-common-dir",
];

impl Place {
    /// That of a usual repository, found as git finds it: everything lies in `.git` in the root of
    /// its work tree, unless `core.worktree` says otherwise. `None` where git must be asked.
    ///
    /// Whether git takes it for a repository, and this user may use it, only git can say.
    pub(super) fn usual(directory: &Path) -> Option<Self> {
        let below = fs::canonicalize(directory).ok()?;
        let mut above = below.ancestors();
        let top_level = above.find(|above| above.join(".git").symlink_metadata().is_ok())?;
        let directory = top_level.join(".git");
        let has = |name| directory.join(name).exists();
        let is_usual = directory.symlink_metadata().ok()?.is_dir()
            && is_head(&files::read(&directory.join("HEAD")).ok()?)
            && has("objects")
            && has("refs")
            && !has("commondir")
            && !top_level.as_os_str().as_bytes().contains(&b'\n');
        is_usual.then(|| Self {
            top_level: top_level.to_owned(),
            common_directory: directory.clone(),
            directory,
        })
    }

    /// Whether refs and their logs are in a format that only git can read.
    pub(super) fn has_reftable(&self) -> bool {
        self.common_directory.join("reftable").is_dir()
    }
}

/// Whether git takes a directory with such a HEAD for a repository; a stranger one is its to judge.
fn is_head(head: &[u8]) -> bool {
    let head = head.trim_ascii_end();
    head.starts_with(b"ref: refs/") || (head.len() >= 40 && head.iter().all(u8::is_ascii_hexdigit))
}

impl Git {
    /// Checks that the repository and its work tree are there.
    pub fn check(&self) -> Result<(), GitError> {
        self.place().map(drop)
    }

    /// What belongs to this work tree of the repository, see [`Place::directory`].
    pub(super) fn git_directory(&self) -> Result<PathBuf, GitError> {
        self.read_path(&["rev-parse", "--absolute-git-dir"])
    }

    /// Where the parts of the repository lie.
    pub(super) fn place(&self) -> Result<Place, GitError> {
        let output = self.read(&PLACE)?;
        let lines = output.strip_suffix(b"\n").unwrap_or(&output);
        let paths: Vec<PathBuf> = lines
            .split(|byte| *byte == b'\n')
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
            .collect();
        let [top_level, directory, common_directory] =
            paths.try_into().map_err(|_paths| GitError::LineFeed {
                path: self.repository.clone(),
            })?;
        Ok(Place {
            top_level,
            directory,
            common_directory,
        })
    }
}
