//! Commits that would go with a work tree: its own logs and refs lead to them, and nothing else.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::Path;

use crate::git::compare::fetch_heads;
use crate::git::history::{Facts, Graph};
use crate::git::work_tree::{Began, WorkTree, common_directory};
use crate::git::{Git, GitError, files};
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
    pub(super) fn keep_strays(&self, began: Began<'_>, own: &Path) -> Result<Strays, GitError> {
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
    fn strays(&self, own: &Path, outside: &Git, began: Began<'_>) -> Result<Vec<Facts>, GitError> {
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
        // A HEAD on no branch, whose log the run may have thrown away.
        let head = files::read(&own.join("HEAD")).unwrap_or_default();
        let head = String::from_utf8_lossy(head.trim_ascii_end());
        if !head.is_empty() && head.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            told.push(head.into_owned());
        }
        let mut seen: HashSet<&str> = began.commit().into_iter().collect();
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
        // The log of the work tree's HEAD tells it, too, the last.
        let began = began.commit().or_else(|| told[0].lines().last());
        kept.extend(began);
        let mut kept = outside.look_up(&kept)?;
        let is_began = |facts: &mut Facts| Some(&*facts.id) == began;
        let began: Vec<Facts> = kept.extract_if(.., is_began).collect();
        // A log tells the last first.
        let moves: HashSet<(&str, &str)> = (told.iter().take(2))
            .flat_map(|log| log.lines().skip(1).zip(log.lines()))
            .collect();
        drop_replaced(&mut strays, &kept, began.first(), &moves);
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
    kept: &[Facts],
    began: Option<&Facts>,
    moves: &HashSet<(&str, &str)>,
) {
    let graph: Graph = strays.iter().map(|old| (old.id.as_str(), old)).collect();
    let mut by_tree: HashMap<&str, Vec<&Facts>> = HashMap::new();
    let mut by_work: HashMap<_, HashMap<&[String], Vec<&Facts>>> = HashMap::new();
    for old in strays.iter() {
        by_tree.entry(&old.tree).or_default().push(old);
        let alike = by_work.entry(old.work()).or_default();
        alike.entry(&old.parents).or_default().push(old);
    }
    let mut by_move: HashMap<&str, Vec<&Facts>> = HashMap::new();
    for (old, new) in moves {
        by_move.entry(new).or_default().extend(graph.get(old));
    }
    let mut replaced = HashSet::new();
    let mut open: VecDeque<&Facts> = kept.iter().collect();
    while let Some(new) = open.pop_front() {
        if began.is_none_or(|began| began.tree != new.tree) {
            let mut held = by_tree.remove(&*new.tree).unwrap_or_default();
            while let Some(old) = held.pop() {
                if replaced.insert(old.id.clone()) {
                    held.extend(old.parents.iter().filter_map(|id| graph.get(&**id)));
                    open.push_back(old);
                }
            }
        }
        let moved = by_move.remove(&*new.id).unwrap_or_default();
        let amended = moved.into_iter().filter(|old| old.parents == new.parents);
        let alike = by_work.get_mut(&new.work());
        let rebased = alike.map(|alike| alike.extract_if(|parents, _| *parents != new.parents));
        let rebased = rebased.into_iter().flatten().flat_map(|(_, olds)| olds);
        for old in amended.chain(rebased) {
            if replaced.insert(old.id.clone()) {
                open.push_back(old);
            }
        }
    }
    strays.retain(|old| !replaced.contains(&old.id));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(id: &str, parent: &str, tree: &str, line: &str) -> Facts {
        Facts {
            id: id.to_owned(),
            parents: vec![parent.to_owned()],
            tree: tree.to_owned(),
            committed: 0,
            author: String::new(),
            email: String::new(),
            authored: String::new(),
            first_line: line.to_owned(),
        }
    }

    #[test]
    fn what_others_took_the_place_of_is_no_stray_however_many_there_are() {
        let began = commit("began", "none", "tree", "first");
        let mut strays = vec![
            commit("squashed-1", "began", "tree-1", "one"),
            commit("squashed-2", "squashed-1", "tree-2", "two"),
            commit("reset-away", "began", "tree-3", "three"),
            commit("undone", "squashed-2", "tree", "undo"),
            commit("same-parent", "began", "tree-4", "twice"),
        ];
        let kept = [
            commit("squash", "began", "tree-2", "both"),
            commit("empty", "began", "tree", "empty"),
            commit("twice", "began", "tree-5", "twice"),
            commit("last", "began", "tree-6", "9999"),
            commit("on-top", "last", "tree-7", "rebased"),
        ];
        let mut moves = Vec::new();
        for number in 0..10_000 {
            let id = |number| format!("amended-{number}");
            let (tree, line) = (format!("a{number}"), number.to_string());
            strays.push(commit(&id(number), "began", &tree, &line));
            let (rebased, tree) = (format!("rebased-{number}"), format!("b{number}"));
            strays.push(commit(&rebased, &id(number), &tree, "rebased"));
            moves.push((id(number), id(number + 1)));
        }
        moves.push(("amended-9999".to_owned(), "last".to_owned()));
        let moves = moves.iter().map(|(old, new)| (old.as_str(), new.as_str()));
        drop_replaced(&mut strays, &kept, Some(&began), &moves.collect());
        let left: Vec<&str> = strays.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(left, ["reset-away", "undone", "same-parent"]);
    }
}
