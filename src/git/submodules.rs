//! Submodules, into which `git status` goes by itself, and runs the filters that are configured there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::git::compare::fetch_heads;
use crate::git::reflog::list;
use crate::git::work_tree::{Began, WorkTree};
use crate::git::{Git, GitError, files};

/// The mode of a submodule, as an index has it.
const MODE: [u8; 4] = [0, 0, 0o340, 0];

/// The submodules from the root of a repository.
const LIST: [&str; 6] = ["ls-files", "--stage", "-z", "--full-name", "--", ":/"];

/// A commit that no remote repository is known to have. Tags were fetched; what was committed here
/// is in a log.
const UNPUSHED: [&str; 9] = [
    "rev-list",
    "--max-count=1",
    "--ignore-missing",
    "--exclude=refs/tags/*",
    "--all",
    "--reflog",
    "--stdin",
    "--not",
    "--remotes",
];

impl Git {
    /// The submodules of a repository that are filled in, and theirs, each as the git of its own
    /// that `git status` runs there. `directory` has the index. Runs no command where there is none.
    pub(super) fn submodules(
        &self,
        top_level: &Path,
        directory: &Path,
    ) -> Result<Vec<(PathBuf, Self)>, GitError> {
        let mut submodules: Vec<(PathBuf, Self)> = Vec::new();
        if !may_have_submodules(directory) {
            return Ok(submodules);
        }
        let mut seen = BTreeSet::from([top_level.to_owned()]);
        // Whatever an agent made of `core.bare` and `core.worktree`.
        let git = self.with_variable("GIT_WORK_TREE", top_level);
        let mut open = vec![git];
        while let Some(git) = open.pop() {
            // Where it fails, so does `git status`.
            let listed = git.run(&LIST, &[])?.stdout;
            let entries = listed.split(|byte| *byte == 0);
            let mut entries = entries
                .filter_map(|entry| entry.strip_prefix(b"160000 "))
                .peekable();
            if entries.peek().is_none() {
                continue;
            }
            let tree = git.read_path(&["rev-parse", "--show-toplevel"])?;
            for entry in entries {
                let path = entry.splitn(2, |byte| *byte == b'\t').nth(1);
                let path = Path::new(OsStr::from_bytes(path.unwrap_or_default()));
                // By a link it may lead round in a circle.
                if let Ok(path) = fs::canonicalize(tree.join(path))
                    && path.join(".git").symlink_metadata().is_ok()
                    && seen.insert(path.clone())
                {
                    let git = self.found_at(&path).with_variable("GIT_DIR", ".git");
                    open.push(git.clone());
                    submodules.push((path, git));
                }
            }
        }
        Ok(submodules)
    }
}

impl WorkTree {
    /// Whether a submodule has what would be lost with the work tree: work that is not committed,
    /// or commits that came from nowhere else. `own` is what the repository keeps of the work tree.
    pub(super) fn has_unsaved_submodule(
        &self,
        own: &Path,
        began: Began<'_>,
    ) -> Result<bool, GitError> {
        let mut modules = self.modules(own.join("modules"))?;
        for (tree, git) in self.git.submodules(self.path(), own)? {
            let git = git.with_variable("GIT_WORK_TREE", &tree);
            if git.uncommitted_in(&tree)?.is_some() {
                return Ok(true);
            }
            modules.insert(git.git_directory()?);
        }
        if modules.is_empty() {
            return Ok(false);
        }
        let named = (began.commit()).map(|commit| self.named_submodules(own, commit));
        let named = named.transpose()?.unwrap_or_default();
        for module in modules {
            let known = fetch_heads(&module).into_iter().chain(named.clone());
            let known: Vec<_> = known.map(|id| format!("^{id}\n")).collect();
            // Its configuration may name a work tree that is gone.
            let git = (self.outside(&module)).with_variable("GIT_WORK_TREE", &module);
            if module.join("worktrees").is_dir()
                || !git
                    .read_with_input(&UNPUSHED, known.concat().as_bytes())?
                    .is_empty()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The commits of submodules that a commit names, which the run did not make: only a tag may have
    /// them. Where there is no such commit, none.
    fn named_submodules(&self, own: &Path, commit: &str) -> Result<Vec<String>, GitError> {
        let git = self.outside(own);
        let list = ["ls-tree", "-r", "-z", "--full-tree", commit];
        let listed = git.run(&list, &[])?.stdout;
        let entries = listed.split(|byte| *byte == 0);
        let ids = entries.filter_map(|entry| {
            let entry = entry.strip_prefix(b"160000 commit ")?;
            entry.split(|byte| *byte == b'\t').next()
        });
        Ok(ids
            .map(|id| String::from_utf8_lossy(id).into_owned())
            .collect())
    }

    /// The repositories of submodules in a directory, and theirs, filled in or not.
    fn modules(&self, directory: PathBuf) -> Result<BTreeSet<PathBuf>, GitError> {
        let mut modules = BTreeSet::new();
        let mut open = vec![directory];
        while let Some(directory) = open.pop() {
            self.git.has_time(&directory)?;
            if !directory.symlink_metadata().is_ok_and(|one| one.is_dir()) {
                continue;
            }
            if directory.join("HEAD").symlink_metadata().is_ok() {
                open.push(directory.join("modules"));
                modules.insert(directory);
            } else {
                // A name may have slashes.
                open.extend(list(&directory)?);
            }
        }
        Ok(modules)
    }
}

/// Whether the index has the mode of a submodule somewhere, or cannot tell.
pub(super) fn may_have_submodules(directory: &Path) -> bool {
    match files::read(&directory.join("index")) {
        Ok(index) => {
            let has = |wanted: &[u8]| memchr::memmem::find(&index, wanted).is_some();
            // The end of an index that is split, whose greater part is another file, or of a sparse
            // one, which has whole directories as one entry.
            has(&MODE) || has(b"link\0") || has(b"sdir")
        }
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}
