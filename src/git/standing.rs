//! Whose commit it is. Pure: from what the reflogs tell and what the commits themselves say.
//!
//! A commit is the run's own when an entry of the run's *made* it (see
//! [`crate::git::reflog`]). The logs of a branch and of a work tree go with them: where nothing
//! tells who made a commit, it is the run's when a movement of the run brought it, it was
//! committed after the run's start, and it was not fetched.

use std::collections::{HashMap, HashSet};

use crate::git::history::{Facts, Graph, Lineage, reach};
use crate::git::reflog::{Entry, Log, Run, is_none};
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
        let lineage = Lineage::new(&graph);
        let brought = entries
            .iter()
            .filter(|entry| entry.log != Log::Remote && run.wrote(entry))
            .flat_map(|entry| lineage.beyond(&entry.new, &entry.old))
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
    fn others_made(&self, commit: &Facts) -> bool {
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

impl<'a> Rewrites<'a> {
    /// What was put in the place of others, each with the first of `gone` in whose place it was put;
    /// of `kept` none is gone. Takes the longer, the more are gone.
    pub(super) fn amended(
        self,
        kept: &'a [Facts],
        gone: &'a [Facts],
    ) -> HashMap<&'a str, &'a Facts> {
        let ways = Ways::new(self, kept, gone, Direction::ToNew);
        let mut amended = HashMap::new();
        for old in gone.iter().rev() {
            let new = ways.follow(std::slice::from_ref(old));
            amended.extend(new.into_iter().map(|new| (new, old)));
        }
        amended
    }

    /// Drops what `kept` took the place of, and what that had taken the place of before.
    pub(super) fn drop_replaced(self, gone: &mut Vec<Facts>, kept: &[Facts]) {
        let replaced = Ways::new(self, kept, gone, Direction::ToOld).follow(kept);
        let replaced: HashSet<String> = replaced.into_iter().map(str::to_owned).collect();
        gone.retain(|old| !replaced.contains(&old.id));
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Direction {
    ToOld,
    ToNew,
}

/// A commit, or what two commits have in common when one is in the place of the other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Node<'a> {
    Commit(&'a str),
    /// It is the same work, as after a rebase.
    Work([&'a str; 3]),
    /// It is the same content on the same parents, as after a `reset --soft`.
    Content(&'a [String], &'a str),
}

/// The ways between commits and those in whose place they are.
#[derive(Default)]
struct Ways<'a> {
    edges: HashMap<Node<'a>, Vec<Node<'a>>>,
    /// The commits by which a way may lead.
    steps: HashSet<&'a str>,
}

impl<'a> Ways<'a> {
    fn new(
        rewrites: Rewrites<'a>,
        kept: &'a [Facts],
        gone: &'a [Facts],
        direction: Direction,
    ) -> Self {
        if gone.is_empty() {
            return Self::default();
        }
        let mut edges: HashMap<_, Vec<_>> = HashMap::new();
        let steps = gone.iter().chain(rewrites.made);
        let all: Graph = (steps.clone().chain(kept))
            .map(|one| (one.id.as_str(), one))
            .collect();
        let mut alike: HashMap<_, Vec<_>> = HashMap::new();
        for one in all.values() {
            let content = Node::Content(&one.parents, &one.tree);
            for same in [Node::Work(one.work()), content] {
                alike.entry(same).or_default().push(Node::Commit(&one.id));
            }
        }
        for (same, commits) in alike.into_iter().filter(|(_, commits)| commits.len() > 1) {
            for commit in &commits {
                edges.entry(*commit).or_default().push(same);
            }
            edges.insert(same, commits);
        }
        // Or git went from old to new when it made that, as for `commit --amend`. The same parents
        // alone tell nothing: what is new after a `reset --hard` has them, too.
        for entry in rewrites.entries {
            if let (Some(old), Some(new)) = (all.get(&*entry.old), all.get(&*entry.new))
                && old.id != new.id
                && old.parents == new.parents
                && entry.made(new)
            {
                let (from, to) = match direction {
                    Direction::ToOld => (new, old),
                    Direction::ToNew => (old, new),
                };
                let to = Node::Commit(&to.id);
                edges.entry(Node::Commit(&from.id)).or_default().push(to);
            }
        }
        Self {
            edges,
            steps: steps.map(|one| one.id.as_str()).collect(),
        }
    }

    /// All commits to which these lead.
    fn follow(&self, from: &'a [Facts]) -> HashSet<&'a str> {
        let mut seen = HashSet::new();
        let mut reached = HashSet::new();
        let mut open: Vec<Node> = from.iter().map(|one| Node::Commit(&one.id)).collect();
        while let Some(node) = open.pop() {
            for &next in self.edges.get(&node).into_iter().flatten() {
                if !seen.insert(next) {
                    continue;
                }
                if let Node::Commit(id) = next {
                    reached.insert(id);
                    if !self.steps.contains(id) {
                        continue;
                    }
                }
                open.push(next);
            }
        }
        reached
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
        run: Run<'_>,
        rewrites: Rewrites<'a>,
    ) -> Self {
        // `git branch -m` and `git update-ref -d` never carry a mark.
        let moves: Vec<&Entry> = (rewrites.entries.iter())
            .filter(|one| one.log == Log::Head && !is_none(&one.old) && !is_none(&one.new))
            .collect();
        // Of the very second when the run began there may be earlier entries.
        let known = moves.iter().rposition(|one| Some(&*one.new) == head);
        let others_moved =
            (moves.iter().skip(known.map_or(0, |known| known + 1))).any(|one| !run.wrote(one));

        let graph: Graph = (gone.iter().chain(rewrites.made))
            .map(|one| (one.id.as_str(), one))
            .collect();
        let lineage = Lineage::new(&graph);
        let mut by_others = HashMap::new();
        for entry in moves {
            let left = lineage.beyond(&entry.old, &entry.new);
            let is_others = !run.wrote(entry);
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
