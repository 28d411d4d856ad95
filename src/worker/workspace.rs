//! The directory of one attempt: its clone, its request, what its run prints.
//!
//! ```text
//! mirrors/owner.name.git        ours alone; shared by all attempts
//!         owner.name.git.tidied its time is that of the last tidying
//! work/<key>-<fence>/lock       held as long as the attempt lasts
//!                    request.json  run.json  run.err
//!                    tree/      the agent's
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::git::{Remote, remove_workspace};
use crate::model::dispatch::{WorkKey, WorkRequest};
use crate::model::text;

/// Longer than a directory is without its lock.
const MAKING: Duration = Duration::from_secs(3600);

/// The directory of one attempt. Dropping it removes it.
#[derive(Debug)]
pub(super) struct Workspace {
    directory: PathBuf,
    _lock: File,
}

impl Workspace {
    /// Makes the directory of an attempt below `root`.
    #[expect(
        clippy::disallowed_methods,
        reason = "a new directory, not a file replaced"
    )]
    pub(super) fn create(root: &Path, request: &WorkRequest) -> io::Result<Self> {
        let work = root.join("work");
        private_directory(&work)?;
        let directory = work.join(format!("{}-{}", request.key.short(), request.fence));
        // It gets its name when it is locked, so that nobody takes it for left.
        let making = tempfile::Builder::new().prefix(".").tempdir_in(&work)?;
        let lock = File::create_new(making.path().join("lock"))?;
        lock.lock()?;
        fs::rename(making.path(), &directory)?;
        // Its name is gone.
        drop(making.keep());
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
            // Another worker may have been at it, too.
            Err(_) if !self.directory.exists() => {}
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
        let directory = entry.path();
        if is_held(&directory) || is_being_made(&entry) {
            continue;
        }
        // Others may be at it, too.
        if let Err(error) = remove_workspace(&directory)
            && directory.exists()
        {
            let directory = directory.display();
            tracing::warn!("the workspace {directory} is not removed: {error}");
        }
    }
}

/// The mirrors that have not been tidied for so long. Each is given once, to whoever asks first.
pub(super) fn untidy_mirrors(root: &Path, every: Duration) -> Vec<PathBuf> {
    let Ok(mirrors) = fs::read_dir(root.join("mirrors")) else {
        return Vec::new();
    };
    let paths = mirrors.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "git"))
        .filter(|path| {
            let mark = path.with_extension("git.tidied");
            let age = fs::metadata(&mark).and_then(|mark| mark.modified());
            let is_young = age
                .as_ref()
                .is_ok_and(|age| age.elapsed().is_ok_and(|age| age < every));
            if !is_young
                && let Err(error) = File::create(&mark).and_then(|mut mark| mark.write_all(b"\n"))
            {
                tracing::warn!("`{}` cannot be written: {error}", mark.display());
            }
            // A new one is tidy.
            age.is_ok() && !is_young
        })
        .collect()
}

fn is_held(directory: &Path) -> bool {
    let lock = File::open(directory.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Whether it has no lock yet.
fn is_being_made(entry: &fs::DirEntry) -> bool {
    let age = entry.metadata().and_then(|metadata| metadata.modified());
    let is_young = age.is_ok_and(|age| age.elapsed().is_ok_and(|age| age < MAKING));
    is_young && entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
