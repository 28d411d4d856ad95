//! What a piece of work is called in the target repository: its branch and its trace file.

use std::fmt;

use crate::model::dispatch::WorkKey;

/// The directory of the trace files. Only the runner writes there.
pub const TRACE_DIRECTORY: &str = "agent-tasks";

/// How many characters of a task's id a name shows.
const SHOWN_CHARS: usize = 8;

/// The part that the branch and the trace file share: `[A-Za-z0-9_-]`, never empty, never an
/// option.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct WorkName(String);

impl WorkName {
    /// The name that is tried first: the first eight characters of the task's id.
    pub fn first(task_id: &str) -> Self {
        let plain = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => c,
            _ => '_',
        };
        let shown: String = task_id.chars().take(SHOWN_CHARS).map(plain).collect();
        Self(match shown.strip_prefix('-') {
            Some(rest) => format!("_{rest}"),
            None if shown.is_empty() => "task".to_owned(),
            None => shown,
        })
    }

    /// The name where other work has the first: with eight digits that only this work has.
    pub fn second(task_id: &str, key: &WorkKey) -> Self {
        let own = WorkKey::new("name", &[key.as_str(), task_id]);
        Self(format!("{}-{}", Self::first(task_id).0, own.short()))
    }

    /// The branch, without `refs/heads/`.
    pub fn branch(&self) -> String {
        format!("agent-task-{}", self.0)
    }

    /// The trace file, from the root of the tree.
    pub fn trace_path(&self) -> String {
        format!("{TRACE_DIRECTORY}/{}.md", self.0)
    }
}

impl fmt::Display for WorkName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_eight_characters_of_the_id_and_is_never_an_option() {
        for (task_id, shown) in [
            ("20260219-hello", "20260219"),
            ("a/../b.lock", "a____b_l"),
            ("--upload-pack=x", "_-upload"),
            ("", "task"),
            ("ä\n€", "___"),
            ("x.lock", "x_lock"),
        ] {
            let name = WorkName::first(task_id);
            assert_eq!(name.branch(), format!("agent-task-{shown}"));
            assert_eq!(name.trace_path(), format!("agent-tasks/{shown}.md"));
        }
    }

    #[test]
    fn work_with_the_same_first_name_has_different_second_names() {
        let key = |number| WorkKey::new("github", &["a/b", number]);
        let first = WorkName::second("20260219-a", &key("1"));
        assert_ne!(first, WorkName::second("20260219-b", &key("1")));
        assert_ne!(first, WorkName::second("20260219-a", &key("2")));
        assert_eq!(first, WorkName::second("20260219-a", &key("1")));
        assert!(first.branch().starts_with("agent-task-20260219-"));
    }
}
