//! Committing diffs, all or none.
//!
//! The diffs are put together in an index of their own, where nothing can be harmed. Only when all
//! of them apply there does one `git apply --index` bring the sum to index and work tree (it
//! refuses whole what meets uncommitted changes), and then the branch moves to the commit. What a
//! person has staged or changed elsewhere is neither touched nor committed.

use std::fmt;

use thiserror::Error;

use crate::git::environment::Identity;
use crate::git::{Git, GitError, reason, reflog};
use crate::model::text;
use crate::model::verdict;

/// What became of a list of diffs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// The commit; `None` when nothing was left to change.
    pub commit: Option<String>,
    /// How many diffs there were.
    pub blocks: usize,
    /// How many of them the repository already had.
    pub already_there: usize,
}

impl fmt::Display for Applied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", text::count(self.blocks, "diff"))?;
        if self.already_there > 0 {
            write!(formatter, ", {} already there", self.already_there)?;
        }
        match &self.commit {
            Some(commit) => write!(formatter, ", commit {}", verdict::short(commit)),
            None => write!(formatter, ", nothing to commit"),
        }
    }
}

/// Why no diff was applied. The repository is as it was.
#[derive(Debug, Error)]
pub enum PatchError {
    /// A diff does not fit what is committed.
    #[error("block {number} does not apply: {reason}")]
    Block {
        /// Which, from 1.
        number: usize,
        /// What git said.
        reason: String,
    },
    /// The diffs meet changes that are not committed.
    #[error("the diffs meet uncommitted changes: {reason}")]
    WorkTree {
        /// What git said.
        reason: String,
    },
    /// Something else went wrong.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl Git {
    /// Applies diffs one after another on what is committed, and commits the sum with `message`.
    ///
    /// A diff that is already there is passed over. Line ends follow the file that is patched.
    /// No hook runs. The entry in the reflog carries `run_mark`; the author is the repository's
    /// configured one, completed by `fallback`.
    ///
    /// # Errors
    /// After any error HEAD, index and work tree are as they were.
    pub fn apply_patches(
        &self,
        blocks: &[String],
        message: &str,
        run_mark: &str,
        fallback: &Identity,
    ) -> Result<Applied, PatchError> {
        // Below the root, `git apply` silently passes over what lies outside the directory.
        let top_level = self.read_path(&["rev-parse", "--show-toplevel"])?;
        let work_tree = self.at(&top_level);
        let head = work_tree.commit_of("HEAD")?;
        let scratch = tempfile::tempdir().map_err(GitError::Scratch)?;
        let index = work_tree.with_variable("GIT_INDEX_FILE", scratch.path().join("index"));
        let base = match &head {
            Some(head) => head.clone(),
            None => index.read_line(&["mktree"])?,
        };
        index.read(&["read-tree", &base])?;

        let mut already_there = 0;
        for (number, block) in (1..).zip(blocks) {
            match index.apply_block(block)? {
                Fit::Applied => {}
                Fit::AlreadyThere => already_there += 1,
                Fit::Refused(reason) => return Err(PatchError::Block { number, reason }),
            }
        }

        let tree = index.read_line(&["write-tree"])?;
        let diff = index.read(&["diff-tree", "-r", "-p", "--binary", &base, &tree])?;
        let mut commit = None;
        if !diff.is_empty() {
            let id = work_tree.commit_tree(&tree, head.as_deref(), message, fallback)?;
            work_tree.bring(&diff, &["apply", "--index", "--whitespace=nowarn"])?;
            let subject = text::first_line(message, 200);
            let note = format!("{}: {subject}", reflog::action(run_mark));
            // An empty old value: there must be no commit yet.
            let old = head.unwrap_or_default();
            if let Err(error) = work_tree.read(&["update-ref", "-m", &note, "HEAD", &id, &old]) {
                work_tree.bring(&diff, &["apply", "--index", "--whitespace=nowarn", "-R"])?;
                return Err(error.into());
            }
            commit = Some(id);
        }
        Ok(Applied {
            commit,
            blocks: blocks.len(),
            already_there,
        })
    }

    /// Applies one diff to the index alone.
    fn apply_block(&self, block: &str) -> Result<Fit, GitError> {
        let forms = forms(block);
        let mut refusal = None;
        for form in &forms {
            match self.try_apply(form, &["apply", "--cached", "--whitespace=nowarn"])? {
                None => return Ok(Fit::Applied),
                Some(reason) => refusal = refusal.or(Some(reason)),
            }
        }
        for form in &forms {
            if self
                .try_apply(form, &["apply", "--cached", "--check", "-R"])?
                .is_none()
            {
                return Ok(Fit::AlreadyThere);
            }
        }
        Ok(Fit::Refused(refusal.unwrap_or_default()))
    }

    fn try_apply(&self, diff: &str, arguments: &[&str]) -> Result<Option<String>, GitError> {
        let captured = self.run(arguments, diff.as_bytes())?;
        Ok((captured.code != Some(0)).then(|| reason(&captured)))
    }

    /// Applies a diff to index and work tree. git checks all of it before it writes anything.
    fn bring(&self, diff: &[u8], arguments: &[&str]) -> Result<(), PatchError> {
        // `git apply` takes a file with a new time stamp for a changed one. The exit status tells
        // of changed files, which may well lie elsewhere.
        self.run(&["update-index", "-q", "--refresh"], &[])?;
        let captured = self.run(arguments, diff)?;
        if captured.code == Some(0) {
            return Ok(());
        }
        Err(PatchError::WorkTree {
            reason: reason(&captured),
        })
    }

    pub(super) fn commit_tree(
        &self,
        tree: &str,
        parent: Option<&str>,
        message: &str,
        fallback: &Identity,
    ) -> Result<String, GitError> {
        let identity = self.identity(fallback)?;
        let mut committer = self.clone();
        for role in ["AUTHOR", "COMMITTER"] {
            committer = committer
                .with_variable(&format!("GIT_{role}_NAME"), &identity.name)
                .with_variable(&format!("GIT_{role}_EMAIL"), &identity.email);
        }
        let mut arguments = vec!["commit-tree", tree, "-F", "-"];
        if let Some(parent) = parent {
            arguments.extend(["-p", parent]);
        }
        let message = format!("{}\n", message.trim_end());
        let id = committer.read_with_input(&arguments, message.as_bytes())?;
        Ok(String::from_utf8_lossy(&id).trim().to_owned())
    }
}

/// How a diff fits what is there.
enum Fit {
    Applied,
    AlreadyThere,
    Refused(String),
}

/// The forms in which a diff may be meant: as it is; with plain line ends (where a mail or a web
/// form has made all of them CRLF); with CRLF in the patched lines alone (where the file has them,
/// and the way here has lost them).
fn forms(block: &str) -> Vec<String> {
    let mut block = block.to_owned();
    if !block.ends_with('\n') {
        block.push('\n');
    }
    let plain = block.replace("\r\n", "\n");
    let windows = with_windows_lines(&plain);
    let mut headers = block.split('\n').filter(|line| line.starts_with("+++ "));
    let mut forms = vec![block.clone(), plain, windows];
    if headers.any(|line| line.ends_with('\r')) {
        // git would take the carriage return for a part of the file's name.
        forms.remove(0);
    }
    forms.dedup();
    forms
}

/// Ends every line inside a hunk in CRLF.
fn with_windows_lines(diff: &str) -> String {
    let mut converted = String::with_capacity(diff.len() + diff.len() / 16);
    let (mut old, mut new) = (0_usize, 0_usize);
    let mut lines = diff.lines().peekable();
    while let Some(line) = lines.next() {
        converted.push_str(line);
        if old == 0 && new == 0 {
            (old, new) = hunk_lengths(line).unwrap_or_default();
        } else {
            if !line.starts_with('+') {
                old = old.saturating_sub(1);
            }
            if !line.starts_with('-') {
                new = new.saturating_sub(1);
            }
            // `\ No newline at end of file` follows a line that has no end at all.
            if lines.peek().is_none_or(|next| !next.starts_with('\\')) {
                converted.push('\r');
            }
        }
        converted.push('\n');
    }
    converted
}

/// How many old and new lines follow `@@ -1,3 +1,4 @@`.
fn hunk_lengths(line: &str) -> Option<(usize, usize)> {
    let (ranges, _) = line.strip_prefix("@@ -")?.split_once(" @@")?;
    let (old, new) = ranges.split_once(" +")?;
    let length = |range: &str| match range.split_once(',') {
        Some((_, length)) => length.parse().ok(),
        None => Some(1),
    };
    Some((length(old)?, length(new)?))
}
