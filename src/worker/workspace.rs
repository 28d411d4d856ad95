//! The directory of one attempt: its clone, its request, what its run prints.
//!
//! ```text
//! mirrors/owner.name.git        ours alone; shared by all attempts
//! work/<key>-<fence>/lock       held as long as the attempt lasts
//!                    request.json  run.json  run.err
//!                    tree/      the agent's
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::git::{Remote, remove_workspace};
use crate::model::dispatch::{WorkKey, WorkRequest};
use crate::model::text;

/// The directory of one attempt. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Workspace {
    directory: PathBuf,
    _lock: File,
}

impl Workspace {
    /// Makes the directory of an attempt below `root`.
    pub(super) fn create(root: &Path, request: &WorkRequest) -> io::Result<Self> {
        let work = root.join("work");
        private_directory(&work)?;
        let directory = work.join(format!("{}-{}", request.key.short(), request.fence));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let lock = File::create_new(directory.join("lock"))?;
        lock.lock()?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The agent's clone.
    pub(super) fn tree(&self) -> PathBuf {
        self.path("tree")
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        match remove_workspace(&self.directory) {
            Ok(()) => tracing::info!("Cleaned up workspace: {}", self.directory.display()),
            Err(error) => {
                let directory = self.directory.display();
                tracing::warn!("the workspace {directory} is not removed: {error}");
            }
        }
    }
}

/// Where the mirror of a repository lies.
pub(super) fn mirror(root: &Path, target: &str, remote: &Remote) -> PathBuf {
    // A readable name, and one that only this address has.
    let plain = |c: char| {
        let is_plain = c.is_ascii_alphanumeric() || "-_.".contains(c);
        if is_plain {
            c.to_ascii_lowercase()
        } else {
            '.'
        }
    };
    let name: String = target.chars().map(plain).collect();
    let name = text::shorten(name.trim_start_matches('.'), 100);
    let own = WorkKey::new("mirror", &[remote.url()]);
    root.join("mirrors")
        .join(format!("{name}-{}.git", own.short()))
}

/// Removes what attempts left whose worker died.
pub(super) fn tidy(root: &Path) {
    let Ok(left) = fs::read_dir(root.join("work")) else {
        return;
    };
    for entry in left.flatten() {
        let lock = File::open(entry.path().join("lock"));
        let is_held = lock
            .as_ref()
            .is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        if is_held {
            continue;
        }
        if let Err(error) = remove_workspace(&entry.path()) {
            let directory = entry.path();
            tracing::warn!(
                "the workspace {} is not removed: {error}",
                directory.display()
            );
        }
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
