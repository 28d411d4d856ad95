//! What a repository is like before anybody works in it, for a person who looks for faults.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::git::{Git, GitError, Identity, Snapshot};

/// The oldest git that has all that is used.
pub const LEAST_VERSION: (u32, u32) = (2, 31);

/// A repository as it lies there.
#[derive(Clone, Debug)]
pub struct Health {
    snapshot: Snapshot,
    /// Paths with uncommitted changes.
    pub changes: usize,
    /// How long the lock of the index is held already; `None` when it is free.
    pub index_lock: Option<Duration>,
}

impl Health {
    /// HEAD, and what is in progress.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The root of the work tree.
    pub fn top_level(&self) -> PathBuf {
        self.snapshot.place.top_level.clone()
    }

    /// Whether the repository, or the user's configuration, says who commits.
    pub fn names_committer(&self) -> bool {
        let nobody = Identity {
            name: String::new(),
            email: String::new(),
        };
        let told = self.snapshot.identity(&nobody);
        !told.name.is_empty() && !told.email.is_empty()
    }
}

impl Git {
    /// The version of the git program, as far as it counts; its whole text with it.
    pub fn version(&self) -> Result<((u32, u32), String), GitError> {
        let text = self.read_line(&["--version"])?;
        let unreadable = || GitError::output("--version");
        let version = text.strip_prefix("git version ").ok_or_else(unreadable)?;
        let mut numbers = version.split('.').map_while(|part| part.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) => Ok(((major, minor), version.to_owned())),
            _ => Err(unreadable()),
        }
    }

    /// Looks at the repository. Writes nothing.
    pub fn health(&self, now: DateTime<Utc>) -> Result<Health, GitError> {
        let snapshot = self.snapshot(now)?;
        let lock = fs::metadata(snapshot.place.directory.join("index.lock"));
        let index_lock = lock.ok().map(|lock| {
            let held_since = lock.modified().map(DateTime::<Utc>::from);
            let held = held_since
                .ok()
                .and_then(|since| (now - since).to_std().ok());
            held.unwrap_or_default()
        });
        Ok(Health {
            changes: snapshot.status.changes.len(),
            snapshot,
            index_lock,
        })
    }
}
