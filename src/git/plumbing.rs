//! A commit without a work tree: one file changed in an index of its own.

use crate::git::environment::Identity;
use crate::git::{Git, GitError};

impl Git {
    /// Makes a commit on `parent` in which `path` is a file with this content, and returns it. No
    /// branch moves; index, work tree, hooks, filters and signatures have no part in it.
    pub fn commit_file(
        &self,
        parent: &str,
        path: &str,
        content: &[u8],
        message: &str,
        identity: &Identity,
    ) -> Result<String, GitError> {
        let scratch = tempfile::tempdir().map_err(GitError::Scratch)?;
        let index = self.with_variable("GIT_INDEX_FILE", scratch.path().join("index"));
        index.read(&["read-tree", parent])?;
        let hash = ["hash-object", "-w", "--no-filters", "--stdin"];
        let blob = index.read_with_input(&hash, content)?;
        let blob = String::from_utf8_lossy(&blob).trim().to_owned();
        let entry = format!("100644,{blob},{path}");
        index.read(&["update-index", "--add", "--cacheinfo", &entry])?;
        let tree = index.read_line(&["write-tree"])?;
        index.commit_tree(&tree, Some(parent), message, identity)
    }
}
