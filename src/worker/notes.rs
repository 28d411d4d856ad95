//! What claims on a piece of work note in the queue for those that follow.

use serde::{Deserialize, Serialize};

/// More pushes of one piece of work than ever happen.
const MAX_PUSHED: usize = 8;

/// What is noted with a piece of work.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Notes {
    /// It rests as soon as somebody is told this reason.
    pub(super) to_tell: Option<String>,
    /// The commits that were about to be pushed, the newest last.
    pushed: Vec<String>,
    /// The text that the newest of them was made from.
    pub(super) revision: Option<String>,
    /// The commit of a branch that another machine pushed; a lease was waited since it was seen.
    pub(super) seen: Option<String>,
    /// What was done and is not pushed yet.
    pub(super) kept: Option<Kept>,
}

/// A result in the mirror of one machine that was judged and not pushed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Kept {
    /// Its commit.
    pub(super) tip: String,
    /// The run that made it.
    pub(super) run: String,
    /// The text that it was made from.
    pub(super) revision: String,
    /// The commit that it was made on.
    #[serde(default)]
    pub(super) base: String,
}

impl Notes {
    /// Reads what was noted; what cannot be read is nothing.
    pub(super) fn from_text(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON")
    }

    pub(super) fn will_push(&mut self, commit: &str, revision: &str) {
        self.revision = Some(revision.to_owned());
        self.pushed.push(commit.to_owned());
        let surplus = self.pushed.len().saturating_sub(MAX_PUSHED);
        self.pushed.drain(..surplus);
    }

    /// Whether a branch at this commit, or gone, was pushed by this queue.
    pub(super) fn is_own(&self, tip: Option<&str>) -> bool {
        match tip {
            Some(tip) => self.pushed.iter().any(|pushed| pushed == tip),
            None => !self.pushed.is_empty(),
        }
    }
}
