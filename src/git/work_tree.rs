//! A work tree of a run's own, and the way of its commits home: to the branch where the run began.
//!
//! A person's index, tree and uncommitted work are left alone: git itself moves their branch, and
//! refuses where that would overwrite anything.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::git::place::Place;
use crate::git::programs::Programs;
use crate::git::snapshot::in_progress;
use crate::git::strays::Strays;
use crate::git::{Git, GitError, Identity, files, reason, reflog, remove_workspace};
use crate::model::change::{RepositoryChange, Standing};
use crate::model::text;
use crate::model::verdict::short;
use crate::process::budget::Budget;

/// Where an isolated run begins.
#[derive(Clone, Debug)]
pub struct Home {
    /// The person's work tree.
    pub(super) place: Place,
    /// What was configured there.
    pub programs: Programs,
    /// The directory within it where the run was to work.
    pub below: PathBuf,
    /// The branch that is checked out.
    pub branch: String,
    /// Its commit.
    pub commit: String,
}

/// How commits came home.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Homecoming {
    /// The run made none.
    Nothing,
    /// The branch has them.
    Home {
        /// The commit onto which they were rebased, when the branch had moved.
        onto: Option<String>,
    },
    /// They were rebased, and the branch does not have them yet.
    Rebased {
        /// The commit on which they are now, where the branch was.
        onto: String,
    },
    /// They stay on the run's branch.
    Left {
        /// Why, as a clause.
        why: String,
    },
}

/// What may come to the branch besides the run's own commits as they are.
#[derive(Clone, Copy, Debug)]
pub struct May {
    /// Commits that the run fetched.
    pub fetched: bool,
    /// Commits that were rebased, without another look at what they have become.
    pub rebased: bool,
}

/// Where a run whose work tree is put away began.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Began<'a> {
    /// Nowhere: its agent was never started.
    Never,
    /// At this commit.
    At(&'a str),
    /// Nobody knows, so everything is looked at.
    Unknown,
}

impl<'a> Began<'a> {
    /// The commit, where it is known.
    pub(super) fn commit(self) -> Option<&'a str> {
        match self {
            Self::At(commit) => Some(commit),
            Self::Never | Self::Unknown => None,
        }
    }
}

/// A run's work tree and its branch.
#[derive(Clone, Debug)]
pub struct WorkTree {
    /// git in the work tree.
    pub(super) git: Git,
    path: PathBuf,
    /// What the repository keeps of it; `None` where its `.git` file must be asked.
    directory: Option<PathBuf>,
    pub(super) branch: String,
}

/// What the names of runs' branches begin with.
pub const RUN_BRANCHES: &str = "agent-runner/";

/// The longest time for removing what was not made to its end.
const UNMAKING: Duration = Duration::from_secs(10);

/// How often the branch may move under our hands before its commits are left where they are.
const TRIES: usize = 3;

impl Git {
    /// Finds the branch and the commit from which an isolated run may begin.
    pub fn home(&self) -> Result<Home, GitError> {
        let place = self.place()?;
        let below = self.read_path(&["rev-parse", "--show-prefix"])?;
        let refused = |reason| {
            refused(format!(
                "{reason}; isolation needs a branch to bring the commits to"
            ))
        };
        let branch = self.head_branch()?;
        Ok(Home {
            branch: branch.ok_or_else(|| refused("HEAD is detached"))?,
            commit: self
                .commit_of("HEAD")?
                .ok_or_else(|| refused("the repository has no commit yet"))?,
            programs: self.programs_at(&place)?,
            place,
            below,
        })
    }

    /// Makes a work tree at `path`, on a new branch that begins at a commit.
    pub fn add_work_tree(
        &self,
        path: &Path,
        branch: &str,
        commit: &str,
    ) -> Result<WorkTree, GitError> {
        let turn = self.turn()?;
        let is_new = path.symlink_metadata().is_err();
        let made = self.make_work_tree(path, branch, commit, turn);
        if made.is_err() && is_new {
            self.unmake_work_tree(path, branch, commit);
        }
        made
    }

    fn make_work_tree(
        &self,
        path: &Path,
        branch: &str,
        commit: &str,
        turn: File,
    ) -> Result<WorkTree, GitError> {
        let path_text = path.to_str().ok_or_else(|| {
            let path = path.display();
            refused(format!(
                "the path `{path}` is not UTF-8; set another log root"
            ))
        })?;
        let add = [
            "worktree",
            "add",
            "-q",
            "--no-checkout",
            "--no-track",
            "-b",
            branch,
            path_text,
            commit,
        ];
        self.quiet().read(&add)?;
        let tree = WorkTree {
            directory: own_directory(path),
            ..self.work_tree(path, branch)
        };
        let top_level = tree.git.read_path(&["rev-parse", "--show-toplevel"])?;
        drop(turn);
        if path.canonicalize().ok().as_ref() == Some(&top_level) {
            tree.inside().read(&["reset", "-q", "--hard"])?;
            return Ok(tree);
        }
        let elsewhere = top_level.display();
        Err(refused(format!(
            "the repository's `core.worktree` leads every work tree to `{elsewhere}`; \
             `git config --worktree` is the place for it"
        )))
    }

    /// Removes what there is of a work tree in which nobody has worked, and its branch.
    fn unmake_work_tree(&self, path: &Path, branch: &str, commit: &str) {
        // What cut the making short does not cut this short, too.
        let git = self.quiet().within(&Budget::new(UNMAKING));
        let tree = git.work_tree(path, branch);
        let unmade = git.turn().and_then(|_turn| {
            tree.forget(&git)?;
            remove(path)?;
            tree.release_branch(&git, None, Began::At(commit))
        });
        if let Err(error) = unmade {
            tracing::warn!(%error, path = %path.display(), "half a work tree stays");
        }
    }

    /// A work tree that was made before.
    pub fn work_tree(&self, path: &Path, branch: &str) -> WorkTree {
        WorkTree {
            git: self.quiet().found_at(path),
            path: path.to_owned(),
            directory: None,
            branch: branch.to_owned(),
        }
    }

    /// Without what configuration adds to the commands of this file: signatures, submodules, work
    /// put aside and brought back.
    fn quiet(&self) -> Self {
        self.with_settings(&[
            ("commit.gpgSign", "false"),
            ("merge.autoStash", "false"),
            ("rebase.autoStash", "false"),
            ("rebase.updateRefs", "false"),
            ("rerere.enabled", "false"),
            ("submodule.recurse", "false"),
        ])
    }

    /// Waits for one's turn to look at or change the list of work trees, which lasts until the file
    /// is dropped: git fails where it meets one that is just being made.
    fn turn(&self) -> Result<File, GitError> {
        let path = self.read_path(&["rev-parse", "--path-format=absolute", "--git-common-dir"])?;
        let directory = File::open(&path).map_err(|source| GitError::Read {
            path: path.clone(),
            source,
        })?;
        let budget = (self.budget.clone()).unwrap_or_else(|| Budget::new(self.limit));
        let has_turn = has_turn(&budget, || directory.try_lock());
        has_turn.then_some(directory).ok_or(GitError::Busy { path })
    }

    fn head_branch(&self) -> Result<Option<String>, GitError> {
        let arguments = ["symbolic-ref", "-q", "HEAD"];
        let captured = self.run(&arguments, &[])?;
        match captured.code {
            Some(0) => {
                let name = String::from_utf8_lossy(&captured.stdout);
                Ok(name.trim().strip_prefix("refs/heads/").map(str::to_owned))
            }
            Some(1) => Ok(None),
            Some(_) | None => Err(self.refused(&arguments, &captured)),
        }
    }

    fn is_ancestor(&self, old: &str, new: &str) -> Result<bool, GitError> {
        let arguments = ["merge-base", "--is-ancestor", old, new];
        let captured = self.run(&arguments, &[])?;
        match captured.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            Some(_) | None => Err(self.refused(&arguments, &captured)),
        }
    }

    /// Runs a command; what git says against it is a value.
    fn attempt(&self, arguments: &[&str]) -> Result<Result<(), String>, GitError> {
        let captured = self.run(arguments, &[])?;
        Ok(if captured.code == Some(0) {
            Ok(())
        } else {
            Err(reason(&captured))
        })
    }

    /// What is not committed in a work tree, whose root is the directory, as a clause.
    pub(super) fn uncommitted_in(&self, tree: &Path) -> Result<Option<String>, GitError> {
        let status = [
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=normal",
            "--ignore-submodules=none",
        ];
        if !self.read(&status)?.is_empty() {
            return Ok(Some("uncommitted work stays".to_owned()));
        }
        // `h` and `S`, in either case: `update-index --assume-unchanged` and `--skip-worktree`.
        let files = self.read(&["ls-files", "-v", "-z"])?;
        let is_hidden = |entry: &&[u8]| {
            let [flag, b' ', path @ ..] = entry else {
                return false;
            };
            let is_flagged = *flag == b'S' || flag.is_ascii_lowercase();
            is_flagged && tree.join(OsStr::from_bytes(path)).is_file()
        };
        Ok(files.split(|byte| *byte == 0).find(is_hidden).map(|entry| {
            let path = String::from_utf8_lossy(&entry[2..]);
            let path = text::first_line(&path, 300);
            format!("{path}, at which git was told not to look, stays")
        }))
    }

    /// The work tree that has a branch checked out.
    fn holder(&self, branch: &str) -> Result<Option<PathBuf>, GitError> {
        let output = self.read(&["worktree", "list", "--porcelain", "-z"])?;
        let wanted = format!("branch refs/heads/{branch}");
        let mut tree = None;
        for line in output.split(|byte| *byte == 0) {
            if let Some(path) = line.strip_prefix(b"worktree ") {
                tree = Some(OsStr::from_bytes(path).into());
            } else if line == wanted.as_bytes() {
                return Ok(tree);
            }
        }
        Ok(None)
    }

    /// Moves a branch forward, with the work tree that has it checked out, if one has. `now` is what
    /// is configured at home.
    fn fast_forward(
        &self,
        home: &Home,
        now: &Programs,
        old: &str,
        new: &str,
        action: &str,
    ) -> Result<Result<(), String>, GitError> {
        let git = self.with_variable("GIT_REFLOG_ACTION", action);
        let name = format!("refs/heads/{}", home.branch);
        let Some(git) = git.at_branch(home, now)? else {
            let note = format!("{action}: Fast-forward");
            return git.attempt(&["update-ref", "-m", &note, &name, new, old]);
        };
        // Half of it would be somebody's broken work tree, so no request to stop cuts it short.
        // Nor does any setting make git wait for a file, or merge after all: as it does, in spite
        // of `--ff-only`, by the strategy `ours`.
        let merge_options = format!("branch.{}.mergeOptions", home.branch);
        let unhurried = |git| Self {
            budget: None,
            ..git
        };
        let git = unhurried(git.with_settings(&[(&merge_options, "")]));
        let merge = [
            "merge",
            "-q",
            "--strategy=recursive",
            "--ff-only",
            "--no-overwrite-ignore",
            "--no-stat",
            "--no-verify-signatures",
            "--no-autostash",
            "--no-squash",
            "--commit",
            new,
        ];
        let merged = git.attempt(&merge)?;
        let elsewhere = || "git moved a branch of another repository".to_owned();
        Ok(match merged {
            Ok(()) if !unhurried(self.clone()).is_ancestor(new, &name)? => Err(elsewhere()),
            merged => merged,
        })
    }

    /// Waits, where there is time, until a file is gone.
    fn outlasts(&self, file: &Path) -> bool {
        let budget = self.budget.as_ref();
        let is_gone = || file.symlink_metadata().is_err();
        budget.is_some_and(|budget| !budget.is_over() && budget.wait_until(is_gone))
    }

    /// git in the work tree that has the home's branch checked out, if one has, without programs
    /// that were not configured at home. The run may have led any of them elsewhere.
    fn at_branch(&self, home: &Home, now: &Programs) -> Result<Option<Self>, GitError> {
        let at_home = self.pinned(&home.place)?;
        if at_home.head_branch()?.as_ref() == Some(&home.branch) {
            return at_home.running(&home.programs, now).map(Some);
        }
        let Some(tree) = self.holder(&home.branch)? else {
            return Ok(None);
        };
        let git = self.found_at(&tree);
        git.with_programs_since(&home.programs).map(Some)
    }
}

impl WorkTree {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it lies, be it half removed.
    pub fn remains(&self) -> PathBuf {
        let gone = gone(&self.path);
        if !self.path.is_dir() && gone.is_dir() {
            return gone;
        }
        self.path.clone()
    }

    /// The branch of the run.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// Whether it is there, or half-removed.
    pub fn is_there(&self) -> bool {
        self.path.is_dir() || gone(&self.path).is_dir()
    }

    /// The same, with `git`, which is one in it.
    #[must_use]
    pub fn with(&self, git: &Git) -> Self {
        Self {
            git: git.quiet().at(&self.path),
            ..self.clone()
        }
    }

    /// git in the work tree, whatever the run made of `core.worktree`.
    fn inside(&self) -> Git {
        self.git.with_variable("GIT_WORK_TREE", &self.path)
    }

    /// git in what all work trees share, or in what is kept of one.
    pub(super) fn outside(&self, directory: &Path) -> Git {
        let git = self.git.found_at(directory).fetching_nothing();
        git.with_variable("GIT_DIR", directory)
    }

    fn tip(&self) -> Result<Option<String>, GitError> {
        self.git.commit_of(&format!("refs/heads/{}", self.branch))
    }

    /// Brings the run's commits, which `change` tells, to the branch where it began; rebases them
    /// when that has moved, and only when all are the run's own and none is a merge, which would be
    /// lost. Nothing else comes but what `may` allows. Other runs must be kept out meanwhile. `now` is
    /// what is configured at home; of it, what was not configured when the run began is not run.
    pub fn bring_home(
        &self,
        home: &Home,
        now: &Programs,
        run_mark: &str,
        identity: &Identity,
        change: &RepositoryChange,
        may: May,
    ) -> Result<Homecoming, GitError> {
        let left = |why: String| Ok(Homecoming::Left { why });
        let ids = |is_known: &dyn Fn(&Standing) -> bool| -> HashSet<&str> {
            let known = change.commits.iter().filter(|one| is_known(&one.standing));
            known.map(|commit| commit.id.as_str()).collect()
        };
        let own = ids(&Standing::is_own);
        let welcome = ids(&|standing| match standing {
            Standing::Foreign { is_fetched, .. } => *is_fetched && may.fetched,
            Standing::Own | Standing::Amended { .. } | Standing::Elsewhere { .. } => true,
        });
        let mut turn = self.git.turn()?;
        let Some(mut tip) = self.tip()? else {
            return left("the run removed its branch".to_owned());
        };
        if tip == home.commit {
            let is_there =
                |standing: &Standing| matches!(standing, Standing::Own | Standing::Amended { .. });
            return if ids(&is_there).is_empty() {
                Ok(Homecoming::Nothing)
            } else {
                left("they were taken off the run's branch".to_owned())
            };
        }
        if !self.git.is_ancestor(&home.commit, &tip)? {
            return left(format!("they do not go on from {}", short(&home.commit)));
        }
        let action = reflog::action(run_mark);
        let mut since = home.commit.clone();
        let mut onto = None;
        let mut tries = 0..TRIES;
        while tries.next().is_some() {
            if let Some(operation) = in_progress(&home.place.directory) {
                return left(format!(
                    "a {operation} is half-done in `{}`",
                    home.place.top_level.display()
                ));
            }
            let name = format!("refs/heads/{}", home.branch);
            let Some(target) = self.git.commit_of(&name)? else {
                return left(format!("branch `{}` does not exist any more", home.branch));
            };
            if self.git.is_ancestor(&target, &tip)? {
                if onto.is_none()
                    && let Some(other) = self.stranger(&target, &tip, &welcome)?
                {
                    return left(format!("{} among them is not the run's", short(&other)));
                }
            } else {
                if onto.is_none() && self.stranger(&since, &tip, &own)?.is_some() {
                    return left(format!(
                        "`{}` has moved, and commits of others are among them",
                        home.branch
                    ));
                }
                if self.has_merge(&since, &tip)? {
                    return left(format!(
                        "`{}` has moved, and a merge is among them, which a rebase would drop",
                        home.branch
                    ));
                }
                if let Err(why) = self.rebase(&since, &target, &action, identity)? {
                    return left(format!("on `{}` as it is now {why}", home.branch));
                }
                if !may.rebased {
                    return Ok(Homecoming::Rebased { onto: target });
                }
                since.clone_from(&target);
                onto = Some(target.clone());
                tip = self.tip()?.unwrap_or_default();
            }
            let Err(why) = self.git.fast_forward(home, now, &target, &tip, &action)? else {
                return Ok(Homecoming::Home { onto });
            };
            if let Some(lock) = lock_in(&why) {
                // Somebody commits there just now, perhaps with an editor open. Other runs may have
                // their turn meanwhile.
                if lock.symlink_metadata().is_ok() {
                    drop(turn);
                    if !self.git.outlasts(lock) {
                        return left(why);
                    }
                    turn = self.git.turn()?;
                    tries = 0..TRIES;
                } else if tries.is_empty() {
                    return left(why);
                }
                continue;
            }
            // Where no time is left to see whether it moved, the reason stays what it was.
            let is_elsewhere = |commit: Option<String>| commit.as_ref() != Some(&target);
            if !self.git.commit_of(&name).is_ok_and(is_elsewhere) {
                return left(why);
            }
        }
        left(format!("`{}` kept moving", home.branch))
    }

    /// What is configured now where the run began.
    pub fn programs_at(&self, home: &Home) -> Result<Programs, GitError> {
        self.git.pinned(&home.place)?.programs_at(&home.place)
    }

    /// A commit between these two that is none of the known.
    fn stranger(
        &self,
        since: &str,
        tip: &str,
        known: &HashSet<&str>,
    ) -> Result<Option<String>, GitError> {
        let range = format!("{since}..{tip}");
        let commits = self.git.read(&["rev-list", &range])?;
        let commits = String::from_utf8_lossy(&commits);
        let mut strangers = commits.lines().filter(|id| !known.contains(id));
        Ok(strangers.next().map(str::to_owned))
    }

    fn has_merge(&self, since: &str, tip: &str) -> Result<bool, GitError> {
        let range = format!("{since}..{tip}");
        let merge = ["rev-list", "--merges", "--max-count=1", &range];
        Ok(!self.git.read(&merge)?.is_empty())
    }

    /// Puts the commits after `since` onto `target`; in vain, everything is as it was.
    fn rebase(
        &self,
        since: &str,
        target: &str,
        action: &str,
        identity: &Identity,
    ) -> Result<Result<(), String>, GitError> {
        let git = self
            .inside()
            .with_variable("GIT_REFLOG_ACTION", action)
            .with_variable("GIT_COMMITTER_NAME", &identity.name)
            .with_variable("GIT_COMMITTER_EMAIL", &identity.email);
        let rebase = [
            "rebase",
            "-q",
            "--no-autosquash",
            "--onto",
            target,
            since,
            &self.branch,
        ];
        let why = match git.attempt(&rebase) {
            Ok(Ok(())) => return Ok(Ok(())),
            Ok(Err(why)) => Ok(why),
            Err(error) => Err(error),
        };
        // What cut it short does not cut this short, too.
        let git = git.within(&Budget::new(UNMAKING));
        if in_progress(&git.git_directory()?).is_none() {
            return Ok(Err(format!("they cannot be rebased: {}", why?)));
        }
        let conflicts = git.read(&["diff", "--name-only", "-z", "--diff-filter=U"])?;
        let conflicts = String::from_utf8_lossy(&conflicts);
        let names: Vec<&str> = conflicts.split_terminator('\0').take(5).collect();
        git.read(&["rebase", "--abort"])?;
        // What was being picked when it was cut short is left by that.
        git.read(&["cherry-pick", "--quit"])?;
        why?;
        Ok(Err(format!(
            "they conflict: {}",
            text::first_line(&names.join(", "), 300)
        )))
    }

    /// Removes the work tree, and the branch where nothing is lost with it; keeps what was not
    /// committed, and commits that `home` does not have, on branches of their own where no branch
    /// has them. Ignored files go. Tells where the commits are and what stays.
    pub fn put_away(&self, home: Option<&str>, began: Began<'_>) -> Result<Vec<String>, GitError> {
        let gone = gone(&self.path);
        if self.directory.is_some() && !self.path.exists() && gone.is_dir() {
            // Nobody has put it away yet but the run itself.
            rename(&gone, &self.path)?;
        }
        let (is_there, is_half_gone) = (self.path.is_dir(), gone.is_dir());
        let known = self.directory.clone();
        let directory = known.or_else(|| own_directory(if is_there { &self.path } else { &gone }));
        let mut facts = Vec::new();
        if !is_there && !is_half_gone {
            facts.push(format!("the work tree `{}` is gone", self.path.display()));
        }
        if began != Began::Never && (is_there || !is_half_gone) {
            let (told, stays) = self.secure(began, directory.as_deref())?;
            facts.extend(told);
            if stays {
                return Ok(facts);
            }
        }
        if is_there {
            // From here on it is to be removed, whatever happens to this process.
            let moved = rename(&self.path, &gone);
            if is_half_gone && moved.is_err() {
                let (path, branch) = (self.path.display(), &self.branch);
                let other = gone.display();
                facts.push(format!(
                    "the work tree `{path}` and branch `{branch}` stay: `{other}` is in the way"
                ));
                return Ok(facts);
            }
            moved?;
        }
        if let Some(common) = directory.as_deref().and_then(common_directory) {
            let outside = self.outside(common);
            let _turn = outside.turn()?;
            self.forget(&outside)?;
            facts.extend(self.release_branch(&outside, home, began)?);
        }
        remove(&gone)?;
        Ok(facts)
    }

    /// Gives branches to the commits that would be lost with the work tree, tells of them, and
    /// whether and why it stays. `directory` is what the repository keeps of it.
    fn secure(
        &self,
        began: Began<'_>,
        directory: Option<&Path>,
    ) -> Result<(Vec<String>, bool), GitError> {
        let (path, branch) = (self.path.display(), &self.branch);
        let strays = match directory.filter(|directory| directory.is_dir()) {
            Some(directory) => self.keep_strays(began, directory)?,
            None => Strays::Kept(Vec::new()),
        };
        let mut facts = match strays {
            Strays::Kept(told) => told,
            Strays::TooMany(many) => {
                let why = format!("{many} lines of commits on no branch stay in `{path}`");
                return Ok((vec![why], true));
            }
        };
        let Some(why) = self.worth_keeping(began)? else {
            return Ok((facts, false));
        };
        let is_known = own_directory(&self.path).is_some();
        let is_on = is_known && self.git.head_branch()?.as_ref() == Some(branch);
        facts.push(if is_on {
            format!("{why} in `{path}`, on branch `{branch}`")
        } else if is_known && self.tip()?.is_some() {
            format!("{why} in `{path}`, and branch `{branch}` stays")
        } else {
            format!("{why} in `{path}`")
        });
        Ok((facts, true))
    }

    /// Takes it off the repository's list.
    fn forget(&self, outside: &Git) -> Result<(), GitError> {
        let path = self.path.to_string_lossy();
        // Twice, for one that a killed `git worktree add` has left locked.
        let removed = outside.attempt(&["worktree", "remove", "--force", "--force", &path])?;
        if let Err(why) = removed {
            tracing::warn!(why, "git does not forget the work tree");
        }
        Ok(())
    }

    /// Removes the run's branch where nothing is lost with it, and tells where its commits are.
    fn release_branch(
        &self,
        outside: &Git,
        home: Option<&str>,
        began: Began<'_>,
    ) -> Result<Vec<String>, GitError> {
        let (branch, mut facts) = (&self.branch, Vec::new());
        let name = format!("refs/heads/{branch}");
        let Some(tip) = outside.commit_of(&name)? else {
            return Ok(facts);
        };
        let has = |other: &str| match outside.commit_of(other)? {
            Some(other) => outside.is_ancestor(&tip, &other),
            None => Ok(false),
        };
        let has_none = began == Began::Never || began.commit() == Some(&tip);
        let home_name = home.map(|home| format!("refs/heads/{home}"));
        if !has_none && !home_name.as_deref().map_or(Ok(false), has)? {
            return Ok(vec![format!(
                "its commits stay on branch `{branch}`; `git merge {branch}` brings them"
            )]);
        }
        // A tree that the run moved, or made, is not one without a commit for that.
        let holder = outside.holder(branch)?;
        if let Some(tree) = holder.filter(|tree| tree.is_dir()) {
            let tree = tree.display();
            facts.push(format!("branch `{branch}` stays, checked out in `{tree}`"));
        } else {
            outside.read(&["update-ref", "-d", &name, &tip])?;
        }
        // Of a branch that was set back nothing came.
        let came = !has_none && !began.commit().map_or(Ok(false), has)?;
        if let Some(home) = home.filter(|_| came) {
            facts.push(format!("its commits came to branch `{home}`"));
        }
        Ok(facts)
    }

    /// What would be lost with the work tree, as a clause that ends with `stays` or `stay`.
    fn worth_keeping(&self, began: Began<'_>) -> Result<Option<String>, GitError> {
        if began == Began::Never || !self.path.is_dir() {
            // Where it is gone, or half-removed, that was found out before.
            return Ok(None);
        }
        if own_directory(&self.path).is_none() {
            // git would look at the repository around it.
            return Ok(Some("what is no work tree any more stays".to_owned()));
        }
        let directory = self.git.git_directory()?;
        if let Some(operation) = in_progress(&directory) {
            return Ok(Some(format!("a half-done {operation} stays")));
        }
        if let Some(why) = self.inside().uncommitted_in(&self.path)? {
            return Ok(Some(why));
        }
        if self.has_unsaved_submodule(&directory, began)? {
            return Ok(Some("work in a submodule stays".to_owned()));
        }
        Ok(None)
    }

    /// The same, of a work tree that nobody puts away: commits on no branch are lost with it, too.
    pub fn unsaved(&self, began: Began<'_>) -> Result<Option<String>, GitError> {
        let why = self.worth_keeping(began)?;
        let is_left = began != Began::Never && self.path.is_dir();
        if why.is_some() || !is_left || self.git.head_branch()?.is_some() {
            return Ok(why);
        }
        let contains = ["for-each-ref", "--count=1", "--contains=HEAD"];
        let is_kept = !self.git.read(&contains)?.is_empty();
        Ok((!is_kept).then(|| "commits on no branch stay".to_owned()))
    }
}

fn refused(reason: String) -> GitError {
    GitError::Refused {
        command: "worktree add".to_owned(),
        reason,
    }
}

/// Where a work tree lies that is being removed.
fn gone(path: &Path) -> PathBuf {
    let mut gone = path.as_os_str().to_owned();
    gone.push(".gone");
    gone.into()
}

/// What the repository of a work tree keeps of it, as its `.git` file tells.
fn own_directory(tree: &Path) -> Option<PathBuf> {
    let link = files::read(&tree.join(".git")).ok()?;
    let own = link.strip_prefix(b"gitdir: ")?.trim_ascii_end();
    Some(tree.join(OsStr::from_bytes(own)))
}

/// What all work trees share.
pub(super) fn common_directory(own: &Path) -> Option<&Path> {
    own.parent()?.parent()
}

/// The file of which git says that somebody else holds a lock by it.
fn lock_in(reason: &str) -> Option<&Path> {
    let (head, _) = reason.split_once("': File exists")?;
    let (_, path) = head.rsplit_once('\'')?;
    Some(Path::new(path))
}

/// Waits for a lock; goes on without one where the file system has none.
fn has_turn(budget: &Budget, mut try_lock: impl FnMut() -> Result<(), TryLockError>) -> bool {
    budget.wait_until(|| match try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(TryLockError::Error(error)) => {
            tracing::warn!(%error, "the list of work trees cannot be locked");
            true
        }
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "a directory, within one directory"
)]
fn rename(from: &Path, to: &Path) -> Result<(), GitError> {
    fs::rename(from, to).map_err(|source| GitError::WorkTree {
        action: "move",
        path: from.to_owned(),
        source,
    })
}

fn remove(directory: &Path) -> Result<(), GitError> {
    remove_workspace(directory).map_err(|source| GitError::WorkTree {
        action: "remove",
        path: directory.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_lock_is_waited_for_while_somebody_has_it_and_not_where_there_can_be_none() {
        for (answer, has) in [
            (Ok(()), true),
            (Err(TryLockError::WouldBlock), false),
            (
                Err(TryLockError::Error(io::ErrorKind::Unsupported.into())),
                true,
            ),
        ] {
            let budget = Budget::new(Duration::ZERO);
            let mut answer = Some(answer);
            let told = has_turn(&budget, || answer.take().expect("asked once"));
            assert_eq!(told, has);
        }
    }
}
