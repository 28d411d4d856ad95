//! A run in a git work tree of its own, and what becomes of its commits.
//!
//! The repository is held by nobody while the agent works. At the end the commits of a good run are
//! brought to the branch where it began, by fast-forward or rebase, one run at a time. What cannot
//! be brought there stays on the run's branch, commits that no branch has come to one, what was not
//! committed stays in its work tree, and all are told; everything else is removed. Blocks: to be
//! called where waiting is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::git::{
    Began, Git, GitError, Home, Homecoming, Identity, May, RUN_BRANCHES, Snapshot, WorkTree,
};
use crate::model::change::{RepositoryChange, Standing};
use crate::model::ids::RunPath;
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::task::Isolation;
use crate::model::text;
use crate::planner::{self, RunPlan};
use crate::process::budget::Budget;
use crate::store::layout::Layout;
use crate::store::reader::read_record;

/// The longest time for making a work tree: git writes every file of the repository.
pub const MAKING: Duration = Duration::from_mins(10);

/// The longest time for bringing commits home, and again for tidying up.
pub const ENDING: Duration = Duration::from_mins(2);

/// The longest time for looking at commits that came home.
const LOOKING: Duration = Duration::from_secs(30);

/// The longest time for tidying up after a runner that died, and for what `clean` removes.
const RECOVERING: Duration = Duration::from_secs(30);

/// Where an isolated run works, and where it came from.
#[derive(Clone, Debug)]
pub struct Room {
    tree: WorkTree,
    home: Home,
    /// The task has checks, which what is rebased must pass again.
    is_checked: bool,
}

/// What became of a good run's commits.
#[derive(Clone, Debug)]
pub struct Ending {
    /// How they came home.
    pub homecoming: Homecoming,
    /// The filters that changed at home during the run; on what came there none ran as it is now.
    pub filters: BTreeSet<String>,
    /// What the run changed, where its commits are others now.
    pub change: Option<RepositoryChange>,
    /// How many signatures that cost: the runner has no key.
    pub signatures: usize,
}

impl Room {
    /// Makes the work tree of a run, which begins at `base`, else where the branch is.
    pub fn make(
        git: &Git,
        layout: &Layout,
        run: &RunPath,
        base: Option<&str>,
        is_checked: bool,
    ) -> Result<Self, String> {
        let make = || {
            let mut home = git.home()?;
            if let Some(base) = base {
                base.clone_into(&mut home.commit);
            }
            let tree = git.add_work_tree(&layout.work_tree(run), &branch(run), &home.commit)?;
            Ok(Self {
                tree,
                home,
                is_checked,
            })
        };
        layout
            .create_state(&layout.work_trees())
            .map_err(|error| text::chain(&error))?;
        make().map_err(|error: GitError| {
            let in_the_way = RUN_BRANCHES.trim_end_matches('/');
            let cause = match git.commit_of(&format!("refs/heads/{in_the_way}")) {
                Ok(Some(_)) => {
                    format!("rename the branch `{in_the_way}`: no other may be below it")
                }
                Ok(None) | Err(_) => text::chain(&error),
            };
            let tree = git.work_tree(&layout.work_tree(run), &branch(run));
            let stays = if tree.is_there() {
                format!("; {}", stay(&tree))
            } else {
                String::new()
            };
            format!("no work tree can be made for the run: {cause}{stays}")
        })
    }

    /// The branch where the run began.
    pub fn home(&self) -> &str {
        &self.home.branch
    }

    /// The branch of the run.
    pub fn branch(&self) -> &str {
        self.tree.branch()
    }

    /// The plan, with the work tree for its repository.
    pub fn plan(&self, plan: &RunPlan) -> RunPlan {
        let mut plan = plan.clone();
        // Without a slash at its end where it is the top.
        let place = self.tree.path().join(&self.home.below);
        plan.repository = place.components().collect();
        plan
    }

    /// Brings the commits of a good run home, as [`WorkTree::bring_home`] does, by
    /// [`Git::with_programs_of`]; `git` is the work tree's, `before` its state at the start. The
    /// repository must be held.
    pub fn bring_home(
        &self,
        git: &Git,
        before: &Snapshot,
        change: &RepositoryChange,
        identity: &Identity,
        mark: &str,
        paths: &[String],
    ) -> Result<Ending, GitError> {
        let may_come = May {
            // What was fetched was not looked at for its paths.
            fetched: paths.is_empty(),
            rebased: !self.is_checked,
        };
        let home = &self.home;
        // Asked without the settings that keep programs from running.
        let now = self.tree.with(git).programs_at(home)?;
        let git = git.with_programs_of(before)?;
        let tree = self.tree.with(&git);
        let filters = now.changed_filters(&home.programs);
        let homecoming = tree.bring_home(home, &now, mark, identity, change, may_come)?;
        let mut ending = Ending {
            homecoming,
            filters,
            change: None,
            signatures: 0,
        };
        let (onto, is_home) = match &ending.homecoming {
            Homecoming::Home { onto: Some(onto) } => (onto, true),
            Homecoming::Rebased { onto } => (onto, false),
            Homecoming::Nothing | Homecoming::Home { onto: None } | Homecoming::Left { .. } => {
                return Ok(ending);
            }
        };
        let look = |git: &Git| {
            let now = git.compare(&before.moved_to(onto), mark, paths)?;
            let old = change.commits.iter().filter(|one| one.standing.is_own());
            let old: Vec<&str> = old.map(|commit| commit.id.as_str()).collect();
            Ok((now, git.signed(&old)?))
        };
        let looked = if is_home {
            // A request to stop, or one look in vain, takes no commits away again.
            look(&git.within(&Budget::new(LOOKING)))
                .inspect_err(
                    |error: &GitError| tracing::warn!(%error, "what came home is told by the names that it had before"),
                )
                .ok()
        } else {
            Some(look(&git)?)
        };
        if let Some((now, signatures)) = looked {
            ending.change = Some(now);
            ending.signatures = signatures;
        }
        Ok(ending)
    }

    /// The same, had the run begun at another commit.
    #[must_use]
    pub fn moved_to(&self, commit: &str) -> Self {
        let mut moved = self.clone();
        commit.clone_into(&mut moved.home.commit);
        moved
    }

    /// Whether its work tree is there.
    pub fn is_there(&self) -> bool {
        self.tree.is_there()
    }

    /// That work tree and branch stay, after an end at which the repository could not be looked at.
    pub fn left(&self) -> Evidence {
        Evidence::new(EvidenceSource::Git, stay(&self.tree))
    }

    /// Removes what need not stay, and tells where the commits are and what stays.
    pub fn put_away(&self, git: Result<Git, GitError>, was_started: bool) -> Vec<Evidence> {
        let began = if was_started {
            Began::At(&self.home.commit)
        } else {
            Began::Never
        };
        let home = Some(self.home.branch.as_str());
        let left = git.and_then(|git| self.tree.with(&git).put_away(home, began));
        told(&self.tree, left)
    }
}

/// What stays of a work tree that was not put away.
fn stay(tree: &WorkTree) -> String {
    let (path, branch) = (tree.remains(), tree.branch());
    let path = path.display();
    if tree.is_there() {
        format!("the work tree `{path}` and branch `{branch}` stay")
    } else {
        format!("the work tree `{path}` is gone; branch `{branch}` is left as it is")
    }
}

fn told(tree: &WorkTree, left: Result<Vec<String>, GitError>) -> Vec<Evidence> {
    let facts = left.unwrap_or_else(|error| {
        let cause = text::chain(&error);
        vec![format!("{}: {cause}", stay(tree))]
    });
    let evidence = |fact| Evidence::new(EvidenceSource::Git, fact);
    facts.into_iter().map(evidence).collect()
}

/// Puts away what a run left whose runner died, and says in its record what stays.
pub fn recover(
    inherited: &BTreeMap<OsString, OsString>,
    layout: &Layout,
    run: &RunPath,
    record: &mut Record,
) {
    let (tree, git) = remnant(inherited, layout, run);
    if tree.is_there() {
        // All are there before the agent is, which may have removed some.
        let directory = layout.run(run);
        let is_missing = |file: PathBuf| {
            (file.symlink_metadata()).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let written = [
            directory.metadata(),
            directory.prompt(),
            directory.transcript(),
            directory.events(),
        ];
        let began = if written.into_iter().all(is_missing) {
            Began::Never
        } else {
            began(record)
        };
        let put_away = |git| tree.with(&git).put_away(record.branch.as_deref(), began);
        let left = git.and_then(put_away);
        record.evidence.extend(told(&tree, left));
    }
}

/// Why the work tree of an ended run must not go: it holds what is nowhere else, or cannot be
/// looked at.
pub fn unsaved(
    inherited: &BTreeMap<OsString, OsString>,
    layout: &Layout,
    run: &RunPath,
) -> Option<String> {
    let (tree, git) = remnant(inherited, layout, run);
    let record = read_record(&layout.run(run), run);
    let found = git.and_then(|git| tree.with(&git).unsaved(began(&record)));
    let why = found.unwrap_or_else(|error| Some(text::chain(&error)))?;
    Some(format!("{why}, in `{}`", tree.path().display()))
}

/// Removes the work tree of an ended run, and its branch where another has its commits. The error
/// says why the work tree stays.
pub fn clear(
    inherited: &BTreeMap<OsString, OsString>,
    layout: &Layout,
    run: &RunPath,
) -> Result<(), String> {
    let (tree, git) = remnant(inherited, layout, run);
    let record = read_record(&layout.run(run), run);
    let home = record.branch.as_deref();
    let put_away = |git| tree.with(&git).put_away(home, began(&record));
    match git.and_then(put_away) {
        Ok(_) if !tree.is_there() => Ok(()),
        Ok(facts) => Err(facts.join("; ")),
        Err(error) => Err(text::chain(&error)),
    }
}

/// Where a run began, as its record tells.
fn began(record: &Record) -> Began<'_> {
    match &record.head_before {
        Some(commit) => Began::At(commit),
        None if record.may_have_been_started() => Began::Unknown,
        None => Began::Never,
    }
}

/// The work tree that a run left, and a git for it that runs nothing that the run configured.
fn remnant(
    inherited: &BTreeMap<OsString, OsString>,
    layout: &Layout,
    run: &RunPath,
) -> (WorkTree, Result<Git, GitError>) {
    let path = layout.work_tree(run);
    let environment = planner::inheritable(inherited, &[], &[]);
    let git = Git::new(&environment, &path).within(&Budget::new(RECOVERING));
    let tree = git.work_tree(&path, &branch(run));
    let guarded = if path.is_dir() {
        git.without_programs()
    } else {
        Ok(git)
    };
    (tree, guarded)
}

/// Counts the run's commits as left on its branch.
pub fn strand(change: &mut RepositoryChange, branch: &str) {
    for commit in &mut change.commits {
        if matches!(commit.standing, Standing::Own | Standing::Amended { .. }) {
            commit.standing = Standing::Elsewhere {
                branch: Some(branch.to_owned()),
            };
        }
    }
}

/// Whether the run is to work in a work tree of its own.
pub fn is_wanted(plan: &RunPlan) -> bool {
    plan.task.isolation == Isolation::Worktree
}

/// The branch of an isolated run.
pub fn branch(run: &RunPath) -> String {
    format!("{RUN_BRANCHES}{run}")
}
