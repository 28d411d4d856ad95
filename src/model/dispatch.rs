//! Work that a source hands out: an issue, or a task of the local queue.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::model::text;

/// The name of the task that does dispatched work.
pub const DISPATCH_TASK: &str = "dispatch_issue";
/// The trailer of a commit that tells which work it is.
pub const WORK_TRAILER: &str = "Agent-Runner-Work";
/// The trailer of a commit that tells which text the work was done from.
pub const REVISION_TRAILER: &str = "Agent-Runner-Revision";

/// The identity of a piece of work: the same on every machine and after every restart, and never a
/// text that somebody wrote into an issue.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WorkKey(String);

impl WorkKey {
    /// The key of what a source knows by these identifiers: 64 hexadecimal digits.
    pub fn new(source: &str, identifiers: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in [source].iter().chain(identifiers) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Self(text::hexadecimal(&hash.finalize()))
    }

    /// Takes a key that was written down.
    pub fn from_text(text: &str) -> Option<Self> {
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        (text.len() == 64 && text.chars().all(hexadecimal)).then(|| Self(text.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The line that marks a commit as work with this key: a trailer, the last paragraph of its
    /// message.
    pub fn trailer(&self) -> String {
        format!("{WORK_TRAILER}: {}", self.0)
    }

    /// The first eight digits, for names that people read.
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl fmt::Display for WorkKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// What a run of the task `dispatch_issue` is asked to do.
///
/// All texts are as somebody wrote them: only ever data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkRequest {
    /// Which work it is.
    pub key: WorkKey,
    /// Where it comes from, such as `owner/repo#7`; the record's `source`.
    pub origin: String,
    /// The number of the issue, or of the local task.
    pub number: u64,
    /// The name that whoever asked gave it.
    pub task_id: String,
    /// The title.
    pub title: String,
    /// What is to be done, as Markdown.
    pub instruction: String,
    /// The repository to change, such as `owner/repo`.
    pub target: String,
    /// The number of the claim under which the run was started; later claims have higher ones.
    pub fence: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_however_the_identifiers_are_cut() {
        let key = WorkKey::new("github", &["ab", "c"]);
        assert_ne!(key, WorkKey::new("github", &["a", "bc"]));
        assert_eq!(WorkKey::from_text(key.as_str()), Some(key.clone()));
        assert_eq!(key.short().len(), 8);
        assert_eq!(WorkKey::from_text("../../../x"), None);
    }
}
