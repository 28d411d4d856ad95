//! Looking at the repository after the agent.

use crate::git::{Applied, Git, GitError, Identity, PatchError, Snapshot};
use crate::isolation::{Ending, Room};
use crate::model::change::{Earlier, RepositoryChange};
use crate::model::text;
use crate::process::budget::Budget;

/// What is done with the repository after the agent, which may have planted there what git waits for.
pub(super) struct Aftermath {
    pub(super) git: Git,
    pub(super) before: Option<Snapshot>,
    pub(super) mark: String,
    pub(super) paths: Vec<String>,
    /// The diffs in the answer of an agent that cannot write files itself.
    pub(super) patches: Vec<String>,
    pub(super) subject: String,
    pub(super) identity: Identity,
    /// What earlier tries of the same work left.
    pub(super) earlier: Option<Earlier>,
}

pub(super) type Applying = Result<Option<Applied>, String>;
pub(super) type Looking = Result<Option<RepositoryChange>, String>;

impl Aftermath {
    /// Applies the answer's diffs, and tells what the run's time changed.
    pub(super) fn look(&self, budget: &Budget) -> (Applying, Looking) {
        if self.patches.is_empty() {
            return (Ok(None), self.compare(None, budget));
        }
        let git = match self.git(budget) {
            Ok(git) => git,
            Err(error) => return (Ok(None), Err(text::chain(&error))),
        };
        let applied = self.apply(&git).map_err(|error| {
            let cause = text::chain(&error);
            format!("the answer's diffs do not apply: {cause}")
        });
        let compare = |before| git.compare(before, &self.mark, &self.paths);
        let change = self.before.as_ref().map(compare).transpose();
        (applied, self.looked(change))
    }

    /// What the run's time changed, had it begun at `onto`.
    pub(super) fn compare(&self, onto: Option<&str>, budget: &Budget) -> Looking {
        let git = self.git.within(budget);
        let before = self.before.as_ref();
        let moved = onto.and_then(|onto| Some(before?.moved_to(onto)));
        let compare = |before| git.compare_guarded(before, &self.mark, &self.paths);
        self.looked(moved.as_ref().or(before).map(compare).transpose())
    }

    fn looked(&self, change: Result<Option<RepositoryChange>, GitError>) -> Looking {
        let mut change = change.map_err(|error| text::chain(&error))?;
        if let Some(change) = &mut change {
            change.earlier.clone_from(&self.earlier);
        }
        Ok(change)
    }

    /// git within a time, without the programs that the run configured.
    pub(super) fn git(&self, budget: &Budget) -> Result<Git, GitError> {
        let git = self.git.within(budget);
        match &self.before {
            Some(before) => git.with_programs_of(before),
            None => Ok(git),
        }
    }

    pub(super) fn bring_home(
        &self,
        room: &Room,
        change: &RepositoryChange,
        budget: &Budget,
    ) -> Result<Ending, GitError> {
        let before = self.before.as_ref().expect("a work tree is a repository");
        let identity = before.identity(&self.identity);
        let git = self.git.within(budget);
        let (mark, paths) = (&self.mark, &self.paths);
        let mut ending = room.bring_home(&git, before, change, &identity, mark, paths)?;
        if let Some(change) = &mut ending.change {
            change.earlier.clone_from(&self.earlier);
        }
        Ok(ending)
    }

    fn apply(&self, git: &Git) -> Result<Option<Applied>, PatchError> {
        git.apply_patches(&self.patches, &self.subject, &self.mark, &self.identity)
            .map(Some)
    }
}
