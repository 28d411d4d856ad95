//! Commits that would go with a work tree: its own logs and refs lead to them, and nothing else.

use std::collections::HashSet;
use std::path::Path;

use crate::git::compare::fetch_heads;
use crate::git::history::{Facts, Graph, reach};
use crate::git::work_tree::{WorkTree, common_directory};
use crate::git::{Git, GitError};
use crate::model::verdict::short;

/// The most commits that are looked at, the newest.
const MAX_WALKED: usize = 10_000;

/// The most branches that are made of one run's stray commits.
const MAX_BRANCHES: usize = 20;

/// The refs that a work tree has for itself.
const OWN_REFS: [&str; 3] = ["refs/worktree", "refs/bisect", "refs/rewritten"];

/// What became of stray commits.
pub(super) enum Strays {
    /// They are on branches of their own now, each told as a fact.
    Kept(Vec<String>),
    /// They are too many.
    TooMany(usize),
}

impl WorkTree {
    /// Gives the run's commits that go with the work tree branches of their own. Those do not count
    /// in whose place the run put others. `own` is what the repository keeps of the work tree.
    pub(super) fn keep_strays(&self, began: &str, own: &Path) -> Result<Strays, GitError> {
        let outside = self.outside(common_directory(own).unwrap_or(own));
        let tips = self.strays(own, &outside, began)?;
        if tips.len() > MAX_BRANCHES {
            return Ok(Strays::TooMany(tips.len()));
        }
        let mut told = Vec::new();
        for (number, tip) in (1..).zip(tips) {
            let mut branch = format!("{}-aside", self.branch);
            if number > 1 {
                branch = format!("{branch}-{number}");
            }
            // It must not exist yet.
            let none = "0".repeat(tip.id.len());
            let name = format!("refs/heads/{branch}");
            outside.read(&["update-ref", &name, &tip.id, &none])?;
            let (id, line) = (short(&tip.id), tip.first_line);
            told.push(format!(
                "commit {id} `{line}`, which no branch had, is on branch `{branch}` now"
            ));
        }
        Ok(Strays::Kept(told))
    }

    /// The newest of each line of stray commits, oldest first.
    fn strays(&self, own: &Path, outside: &Git, began: &str) -> Result<Vec<Facts>, GitError> {
        let name = format!("refs/heads/{}", self.branch);
        let limit = format!("--max-count={MAX_WALKED}");
        let log = ["log", "-g", "--ignore-missing", "--format=%H", &limit];
        let asked = [
            [&log[..], &["HEAD"]].concat(),
            [&log[..], &[&name]].concat(),
            [&["for-each-ref", "--format=%(objectname)"][..], &OWN_REFS].concat(),
        ];
        let git = self.outside(own);
        let started = asked.iter().map(|asked| git.start(asked, &[]));
        let started = started.collect::<Result<Vec<_>, _>>()?;
        let mut told = Vec::new();
        for (asked, helper) in asked.iter().zip(started) {
            let output = git.output(asked, helper)?;
            told.push(String::from_utf8_lossy(&output).into_owned());
        }
        let mut seen = HashSet::from([began]);
        let ids: Vec<&str> = (told.iter().flat_map(|told| told.lines()))
            .filter(|id| seen.insert(id))
            .collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let fetched = fetch_heads(own).into_iter().map(|id| format!("^{id}"));
        let walk: Vec<String> = (ids.iter().copied().map(str::to_owned))
            .chain(fetched)
            .collect();
        let walk: Vec<&str> = walk.iter().map(String::as_str).collect();
        let mut strays = outside.walk_unkept(&walk, &["--single-worktree", "--all"], MAX_WALKED)?;
        if strays.is_empty() {
            return Ok(strays);
        }
        let stray: HashSet<&str> = strays.iter().map(|facts| facts.id.as_str()).collect();
        let mut kept: Vec<&str> = ids.into_iter().filter(|id| !stray.contains(id)).collect();
        kept.push(began);
        let mut kept = outside.look_up(&kept)?;
        kept.retain(|facts| facts.id != began);
        let began = outside.look_up(&[began])?;
        // A log tells the last first.
        let moves: HashSet<(&str, &str)> = (told.iter().take(2))
            .flat_map(|log| log.lines().skip(1).zip(log.lines()))
            .collect();
        drop_replaced(&mut strays, kept, began.first(), &moves);
        let parents: HashSet<String> = (strays.iter())
            .flat_map(|facts| facts.parents.iter().cloned())
            .collect();
        strays.retain(|facts| !parents.contains(&facts.id));
        Ok(strays)
    }
}

/// Drops what others took the place of, which are kept or were replaced in their turn: a move led
/// from a commit to one with the same parents, as `commit --amend` does; it is the same work on
/// other parents, as after a rebase; or all of its content is in another, as after a squash.
fn drop_replaced(
    strays: &mut Vec<Facts>,
    mut kept: Vec<Facts>,
    began: Option<&Facts>,
    moves: &HashSet<(&str, &str)>,
) {
    let mut checked = 0;
    while let Some(new) = kept.get(checked).cloned() {
        checked += 1;
        let holds_new_content = began.is_none_or(|began| began.tree != new.tree);
        let graph: Graph = strays.iter().map(|old| (old.id.as_str(), old)).collect();
        let mut replaced = HashSet::new();
        for old in strays.iter() {
            let is_rewritten = if old.parents == new.parents {
                moves.contains(&(&old.id, &new.id))
            } else {
                old.is_same_work(&new)
            };
            if old.tree == new.tree && holds_new_content {
                replaced.extend(reach(&graph, &old.id));
            } else if is_rewritten {
                replaced.insert(&old.id);
            }
        }
        let replaced: HashSet<String> = replaced.into_iter().map(str::to_owned).collect();
        kept.extend(strays.extract_if(.., |old| replaced.contains(&old.id)));
    }
}
