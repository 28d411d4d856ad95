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

/// The commit among `gone` in whose place `commit` was put: it has the same parents, as after
/// `commit --amend`, or it is the same work on other parents, as after a rebase.
pub(super) fn replaced<'a>(commit: &Facts, gone: &'a [Facts]) -> Option<&'a Facts> {
    gone.iter().find(|old| {
        old.id != commit.id && (old.parents == commit.parents || old.is_same_work(commit))
    })
}
