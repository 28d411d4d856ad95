//! Whose commit it is. Pure: from what the reflogs tell and what the commits themselves say.
//!
//! A commit is the run's own when an entry of the run's *made* it (see
//! [`crate::git::reflog`]). The logs of a branch and of a work tree go with them: where nothing
//! tells who made a commit, it is the run's when a movement of the run brought it, it was
//! committed after the run's start, and it was not fetched.

use std::collections::{HashMap, HashSet};

use crate::git::history::{Facts, Graph, reach};
use crate::git::reflog::{Entry, Log, Run};
use crate::model::change::Standing;

/// What is known of one run's time.
pub(super) struct Case<'a> {
    run: Run<'a>,
    entries: HashMap<&'a str, Vec<&'a Entry>>,
    graph: Graph<'a>,
    tip: Option<&'a Facts>,
    fetched: HashSet<&'a str>,
    brought: HashSet<&'a str>,
}

/// In whose environment git made a commit.
enum Maker<'a> {
    ThisRun,
    OtherRun(&'a str),
    Somebody,
    Untold,
}

impl<'a> Case<'a> {
    /// `on_branch` are the commits that appeared on the branch where the run began, its tip last;
    /// `fetch_heads` is what git fetched last.
    pub(super) fn new(
        run: Run<'a>,
        entries: &'a [Entry],
        on_branch: &'a [Facts],
        fetch_heads: &[String],
    ) -> Self {
        let graph: Graph = on_branch
            .iter()
            .map(|facts| (facts.id.as_str(), facts))
            .collect();
        let fetched = entries
            .iter()
            .filter(|entry| entry.is_fetch())
            .map(|entry| &entry.new)
            .chain(fetch_heads)
            .flat_map(|tip| reach(&graph, tip))
            .collect();
        let brought = entries
            .iter()
            .filter(|entry| entry.log != Log::Remote && run.wrote(entry))
            .flat_map(|entry| {
                let there_before = reach(&graph, &entry.old);
                let mut brought = reach(&graph, &entry.new);
                brought.retain(|id| !there_before.contains(id));
                brought
            })
            .collect();
        let mut by_commit: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in entries.iter().filter(|entry| entry.log != Log::Remote) {
            by_commit.entry(&entry.new).or_default().push(entry);
        }
        Self {
            run,
            entries: by_commit,
            graph,
            tip: on_branch.last(),
            fetched,
            brought,
        }
    }

    /// Whether a commit appeared on the branch.
    pub(super) fn is_on_branch(&self, id: &str) -> bool {
        self.graph.contains_key(id)
    }

    /// Whether an entry is the run's.
    pub(super) fn wrote(&self, entry: &Entry) -> bool {
        self.run.wrote(entry)
    }

    /// Whether the branch goes on from a commit that it had before.
    pub(super) fn continues(&self, id: &str) -> bool {
        self.graph
            .values()
            .any(|facts| facts.parents.iter().any(|parent| parent == id))
    }

    /// Whether the reflogs tell how the branch came to its tip.
    pub(super) fn explains_the_tip(&self) -> bool {
        self.tip.is_none_or(|tip| {
            self.entries.contains_key(tip.id.as_str())
                || self.graph.values().any(|facts| self.made(facts))
        })
    }

    /// Counts a commit as brought by the run, although no entry says so.
    pub(super) fn credit(&mut self, id: &str) {
        if let Some(facts) = self.graph.get(id) {
            self.brought.insert(&facts.id);
        }
    }

    /// Whether the run made the commit.
    pub(super) fn made(&self, commit: &Facts) -> bool {
        match self.maker(commit) {
            Maker::ThisRun => true,
            Maker::OtherRun(_) | Maker::Somebody | Maker::Untold => false,
        }
    }

    /// Whether somebody else made the commit during the run.
    pub(super) fn others_made(&self, commit: &Facts) -> bool {
        match self.maker(commit) {
            Maker::OtherRun(_) | Maker::Somebody => true,
            Maker::ThisRun | Maker::Untold => false,
        }
    }

    /// Whose a commit is that appeared on the branch where the run began.
    pub(super) fn standing(&self, commit: &Facts) -> Standing {
        let why = match self.maker(commit) {
            Maker::ThisRun => return Standing::Own,
            Maker::OtherRun(mark) => format!("run {mark} made it"),
            Maker::Somebody => "its reflog entry is not the run's".to_owned(),
            Maker::Untold if self.fetched.contains(commit.id.as_str()) => {
                "it came by a fetch".to_owned()
            }
            Maker::Untold if commit.committed < self.run.start => {
                "it was there before the run".to_owned()
            }
            Maker::Untold if self.others_moved_to(commit) => {
                "its reflog entry is not the run's".to_owned()
            }
            Maker::Untold if self.brought.contains(commit.id.as_str()) => return Standing::Own,
            Maker::Untold => "no reflog entry tells who made it".to_owned(),
        };
        let is_fetched = self.fetched.contains(commit.id.as_str());
        Standing::Foreign { why, is_fetched }
    }

    /// Of commits that the branch has no more, those that it had at `head` or that others put on it.
    pub(super) fn of_others(&self, head: Option<&str>, gone: &[Facts]) -> Vec<Facts> {
        let graph: Graph = gone.iter().map(|one| (one.id.as_str(), one)).collect();
        let were_there = head.map_or(HashSet::new(), |head| reach(&graph, head));
        let is_of_others =
            |one: &&Facts| were_there.contains(one.id.as_str()) || self.others_made(one);
        gone.iter().filter(is_of_others).cloned().collect()
    }

    fn entries(&self, commit: &Facts) -> impl Iterator<Item = &'a Entry> + Clone {
        let entries = self.entries.get(commit.id.as_str());
        entries.into_iter().flatten().copied()
    }

    /// Whether HEAD went to the commit outside the run's environment. (Entries of branches do not
    /// tell: `branch: Created from …` never carries a mark.)
    fn others_moved_to(&self, commit: &Facts) -> bool {
        self.entries(commit)
            .any(|entry| entry.log == Log::Head && !self.run.wrote(entry))
    }

    fn maker(&self, commit: &Facts) -> Maker<'a> {
        let mut makers = self.entries(commit).filter(|entry| entry.made(commit));
        let Some(first) = makers.clone().next() else {
            return Maker::Untold;
        };
        if makers.any(|entry| self.run.wrote(entry)) {
            return Maker::ThisRun;
        }
        match &first.run {
            Some(mark) => Maker::OtherRun(mark),
            None => Maker::Somebody,
        }
    }
}

/// What is known of commits that took the place of others.
#[derive(Clone, Copy)]
pub(super) struct Rewrites<'a> {
    pub entries: &'a [Entry],
    /// What the run made and no longer is on the branch: steps on the way.
    pub made: &'a [Facts],
}

impl Rewrites<'_> {
    /// The commit among `gone` in whose place `commit` was put.
    pub(super) fn replaced<'g>(self, commit: &Facts, gone: &'g [Facts]) -> Option<&'g Facts> {
        let replaced = self.replaced_by(std::slice::from_ref(commit), gone);
        gone.iter().find(|old| replaced.contains(&old.id))
    }

    /// Drops what `kept` took the place of.
    pub(super) fn drop_replaced(self, gone: &mut Vec<Facts>, kept: &[Facts]) {
        let replaced = self.replaced_by(kept, gone);
        gone.retain(|old| !replaced.contains(&old.id));
    }

    /// What `kept` took the place of, and what that had taken the place of before.
    fn replaced_by(self, kept: &[Facts], gone: &[Facts]) -> HashSet<String> {
        let mut replaced = HashSet::new();
        if gone.is_empty() {
            return replaced;
        }
        let mut new: Vec<&Facts> = kept.iter().collect();
        let mut checked = 0;
        while let Some(&by) = new.get(checked) {
            checked += 1;
            for old in gone.iter().chain(self.made) {
                let is_by = old.id == by.id || replaced.contains(&old.id);
                if !is_by && self.replaces(by, old) {
                    replaced.insert(old.id.clone());
                    new.push(old);
                }
            }
        }
        replaced
    }

    /// Whether it is the same work, as after a rebase; the same content, as after a `reset --soft`;
    /// or git went from `old` to `new` when it made that, as for `commit --amend`. The same parents
    /// alone tell nothing: what is new after a `reset --hard` has them, too.
    fn replaces(self, new: &Facts, old: &Facts) -> bool {
        let made = |entry: &Entry| entry.new == new.id && entry.old == old.id && entry.made(new);
        old.is_same_work(new)
            || old.parents == new.parents && (old.tree == new.tree || self.entries.iter().any(made))
    }
}

/// Who took commits off the branch, as far as HEAD's log tells; that of a branch goes with it.
pub(super) struct Took<'a> {
    by_others: HashMap<&'a str, bool>,
    /// Where the log does not tell: whether others moved HEAD at all.
    others_moved: bool,
}

impl<'a> Took<'a> {
    /// `head` is where the run began; `gone` is what the branch has no more.
    pub(super) fn new(
        head: Option<&str>,
        gone: &'a [Facts],
        case: &Case<'_>,
        rewrites: Rewrites<'a>,
    ) -> Self {
        // `git branch -m` and `git update-ref -d` never carry a mark.
        let is_none = |id: &str| id.bytes().all(|byte| byte == b'0');
        let moves: Vec<&Entry> = (rewrites.entries.iter())
            .filter(|one| one.log == Log::Head && !is_none(&one.old) && !is_none(&one.new))
            .collect();
        // Of the very second when the run began there may be earlier entries.
        let known = moves.iter().rposition(|one| Some(&*one.new) == head);
        let others_moved =
            (moves.iter().skip(known.map_or(0, |known| known + 1))).any(|one| !case.wrote(one));

        let graph: Graph = (gone.iter().chain(rewrites.made))
            .map(|one| (one.id.as_str(), one))
            .collect();
        let mut by_others = HashMap::new();
        for entry in moves {
            let mut left = reach(&graph, &entry.old);
            let stays = reach(&graph, &entry.new);
            left.retain(|id| !stays.contains(id));
            let is_others = !case.wrote(entry);
            by_others.extend(left.into_iter().map(|id| (id, is_others)));
        }
        Self {
            by_others,
            others_moved,
        }
    }

    /// Whether somebody else was the last to take the commit away.
    pub(super) fn others_took(&self, id: &str) -> bool {
        self.by_others.get(id).copied().unwrap_or(self.others_moved)
    }
}
