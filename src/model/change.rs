//! What the repository shows after a run, set against what it showed before.

use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, FixedOffset};

/// The difference that a run's time made to a repository, with every new commit told apart.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RepositoryChange {
    /// The commit that was checked out before; `None` in a repository without commits.
    pub head_before: Option<String>,
    /// The commit that is checked out now.
    pub head_after: Option<String>,
    /// The branch that was checked out before; `None` when HEAD was detached.
    pub branch_before: Option<String>,
    /// The branch that is checked out now.
    pub branch_after: Option<String>,
    /// Commits that appeared during the run, oldest first.
    pub commits: Vec<Commit>,
    /// Commits that are not the run's, which the branch, or before the run another one, a tag or the
    /// stash had, that nothing has any more, and that no new commit replaces: `1a2b3c4d`, the first
    /// line of the message and whose it was, where it was not the branch's; the newest last.
    pub lost: Vec<String>,
    /// How the run's own commits were told from others.
    pub attribution: Attribution,
    /// Paths that had uncommitted changes before the run.
    pub changed_before: Vec<String>,
    /// Index or work tree have changes now.
    pub dirty_after: bool,
    /// Paths whose uncommitted state is not what it was before the run.
    pub left_uncommitted: Vec<String>,
    /// Paths whose uncommitted changes from before the run are gone and were not committed.
    pub discarded: Vec<String>,
    /// Paths whose uncommitted changes from before the run are in a stash now.
    pub stashed: Vec<String>,
    /// An operation that was left half-done: `rebase`, `merge`, `cherry-pick`, `revert`, `bisect`.
    pub in_progress: Option<String>,
    /// git's lock of the index was there before the run.
    pub locked_before: bool,
    /// git's lock of the index is there: no commit can be made.
    pub locked_after: bool,
    /// What an earlier try of the same work left; `None` when there was none.
    pub earlier: Option<Earlier>,
}

/// What earlier tries of the same work left, which failed after that. What they did not commit is
/// there uncommitted, and may go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Earlier {
    /// The run that made the last of its commits, as `task/agent/run_id`.
    pub run: String,
    /// Their object names, oldest first; there may be none.
    pub commits: Vec<String>,
    /// Where they left the branch; `None` where they must not stand for a later try's.
    pub head: Option<String>,
    /// Paths that had uncommitted changes before all of them, which are not theirs; `None` where that
    /// is not known.
    pub changed_before: Option<Vec<String>>,
    /// As [`RepositoryChange::lost`], of all of them.
    pub lost: Vec<String>,
    /// As [`RepositoryChange::discarded`], of all of them, without what one had left itself.
    pub discarded: Vec<String>,
}

impl fmt::Display for Earlier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.commits.last().map_or("", String::as_str);
        let last = last.get(..8).unwrap_or(last);
        write!(formatter, "an earlier try, {}, committed ", self.run)?;
        match self.commits.len() {
            0 | 1 => formatter.write_str(last),
            many => write!(formatter, "{many} commits up to {last}"),
        }
    }
}

impl RepositoryChange {
    /// The run's own commits on the branch where it began.
    pub fn own_commits(&self) -> impl Iterator<Item = &Commit> {
        self.commits
            .iter()
            .filter(|commit| commit.standing == Standing::Own)
    }

    /// [`Self::lost`], with what earlier tries took.
    pub fn lost_in_all(&self) -> Vec<String> {
        let earlier = self.earlier.iter().flat_map(|earlier| &earlier.lost);
        earlier.chain(&self.lost).cloned().collect()
    }

    /// [`Self::discarded`] without what earlier tries had left, and with what they took.
    pub fn discarded_in_all(&self) -> Vec<String> {
        let Some(earlier) = &self.earlier else {
            return self.discarded.clone();
        };
        let was_there: Option<HashSet<_>> =
            (earlier.changed_before.as_ref()).map(|paths| paths.iter().collect());
        let discarded = self.discarded.iter();
        let discarded =
            discarded.filter(|path| was_there.as_ref().is_none_or(|was| was.contains(path)));
        earlier.discarded.iter().chain(discarded).cloned().collect()
    }

    /// Whether the branch is where an earlier try's commits left it, so that they are its work.
    pub fn keeps_earlier_commits(&self) -> bool {
        let left = self
            .earlier
            .as_ref()
            .and_then(|earlier| earlier.head.as_ref());
        left.is_some()
            && left == self.head_after.as_ref()
            && self.branch_before == self.branch_after
    }

    /// Whether index and work tree are as they were, and no commit of this run exists anywhere.
    pub fn is_untouched(&self) -> bool {
        [&self.left_uncommitted, &self.discarded, &self.stashed]
            .into_iter()
            .all(Vec::is_empty)
            && self.in_progress.is_none()
            && self.branch_before == self.branch_after
            && self
                .commits
                .iter()
                .all(|commit| matches!(commit.standing, Standing::Foreign { .. }))
    }
}

/// One commit that appeared during the run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Commit {
    /// Its full object name.
    pub id: String,
    /// The first line of its message.
    pub subject: String,
    /// The author's name.
    pub author: String,
    /// The author's date.
    pub date: Option<DateTime<FixedOffset>>,
    /// Lines added.
    pub insertions: u64,
    /// Lines removed.
    pub deletions: u64,
    /// It changes a file that git takes for binary.
    pub binary: bool,
    /// Every path that it touches.
    pub files: Vec<String>,
    /// Those of `files` that the task's `paths` do not allow.
    pub outside_paths: Vec<String>,
    /// Whose it is.
    pub standing: Standing,
}

/// Whose commit it is, and where it lies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Made by this run, on the branch where it began.
    Own,
    /// Made by this run by amending a commit that was there before.
    Amended {
        /// The commit that it replaces.
        of: String,
    },
    /// Made by this run, and not on the branch where it began.
    Elsewhere {
        /// The branch that has it; `None` when no branch does.
        branch: Option<String>,
    },
    /// Not made by this run.
    Foreign {
        /// How that is known, as a clause: `the reflog entry is not the run's`.
        why: String,
        /// It came from another repository.
        is_fetched: bool,
    },
}

impl Standing {
    /// Whether the run made the commit.
    pub fn is_own(&self) -> bool {
        !matches!(self, Self::Foreign { .. })
    }
}

/// How the run's own commits were told from others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Attribution {
    /// By the run's mark in the reflogs.
    #[default]
    Reflog,
    /// By the range from the old to the new head, because no reflog entry explains it.
    Range,
}
