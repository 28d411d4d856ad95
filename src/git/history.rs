//! What git tells of commits.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::git::{Git, GitError};
use crate::process::command::RunningHelper;

/// One commit, without what it changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Facts {
    pub id: String,
    pub parents: Vec<String>,
    /// What all its files are.
    pub tree: String,
    /// When it was committed, in seconds since 1970.
    pub committed: i64,
    pub author: String,
    pub email: String,
    /// When it was written, as ISO 8601.
    pub authored: String,
    /// The first line of its message, as [`cut_line`] gives it.
    pub first_line: String,
}

impl Facts {
    /// What a rebase keeps.
    pub(super) fn work(&self) -> [&str; 3] {
        [&self.first_line, &self.email, &self.authored]
    }
}

/// What one commit changes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Numbers {
    pub insertions: u64,
    pub deletions: u64,
    pub binary: bool,
    pub files: Vec<String>,
}

/// Commits at hand, by id.
pub(super) type Graph<'a> = HashMap<&'a str, &'a Facts>;

/// The commits of `graph` that can be reached from `tip` without leaving it.
pub(super) fn reach<'a>(graph: &Graph<'a>, tip: &str) -> HashSet<&'a str> {
    let mut reached = HashSet::new();
    let mut open = vec![tip];
    while let Some(id) = open.pop() {
        if let Some(commit) = graph.get(id)
            && reached.insert(commit.id.as_str())
        {
            open.extend(commit.parents.iter().map(String::as_str));
        }
    }
    reached
}

/// Commits at hand, by id, each with how many generations are below it.
pub(super) struct Lineage<'a>(HashMap<&'a str, (usize, &'a Facts)>);

impl<'a> Lineage<'a> {
    pub(super) fn new(graph: &Graph<'a>) -> Self {
        let mut known: HashMap<&str, (usize, &Facts)> = HashMap::new();
        let mut entered = HashSet::new();
        let mut open: Vec<&Facts> = graph.values().copied().collect();
        while let Some(&commit) = open.last() {
            let parents = commit.parents.iter().map(String::as_str);
            if entered.insert(commit.id.as_str()) {
                // A circle, which a file of grafts can make, is not gone round.
                let is_open = |parent: &&&Facts| !entered.contains(parent.id.as_str());
                open.extend(parents.filter_map(|id| graph.get(id)).filter(is_open));
            } else {
                let below = parents.filter_map(|id| Some(known.get(id)?.0)).max();
                known.insert(&commit.id, (below.map_or(0, |below| below + 1), commit));
                open.pop();
            }
        }
        Self(known)
    }

    /// The commits that can be reached from `tip` and not from `other`. Looks at no more than lies
    /// between the two.
    pub(super) fn beyond(&self, tip: &str, other: &str) -> Vec<&'a str> {
        let key = |id: &str| {
            self.0
                .get(id)
                .map(|(height, commit)| (*height, &*commit.id))
        };
        let mut found = Vec::new();
        // The highest first: when a commit comes up, all that lead to it have.
        let mut is_others: BTreeMap<(usize, &str), bool> = BTreeMap::new();
        is_others.extend(key(tip).map(|key| (key, false)));
        is_others.extend(key(other).map(|key| (key, true)));
        while is_others.values().any(|is_others| !is_others)
            && let Some(((height, id), is_reached)) = is_others.pop_last()
        {
            if !is_reached {
                found.push(id);
            }
            let parents = self.0[id].1.parents.iter().filter_map(|parent| key(parent));
            for parent in parents.filter(|(below, _)| *below < height) {
                *is_others.entry(parent).or_insert(is_reached) |= is_reached;
            }
        }
        found
    }
}

/// The most that is read of one commit: an agent can write a message of any size.
const MAX_RECORD_BYTES: usize = 16 * 1024;

/// The longest first line that is told and compared.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// A line with white space as git writes it in reflogs, as far as it is told and compared.
pub(super) fn cut_line(line: &str) -> String {
    let mut words = line.split_whitespace().collect::<Vec<_>>().join(" ");
    words.truncate(words.floor_char_boundary(MAX_LINE_BYTES));
    words
}

const FORMAT: &str = "--format=tformat:%H%n%P%n%T%n%ct%n%an%n%ae%n%aI%n%B";

impl Git {
    /// The commit that a revision names; `None` where there is none.
    pub fn commit_of(&self, revision: &str) -> Result<Option<String>, GitError> {
        let revision = format!("{revision}^{{commit}}");
        let captured = self.run(&["rev-parse", "--quiet", "--verify", &revision], &[])?;
        let id = String::from_utf8_lossy(&captured.stdout).trim().to_owned();
        Ok(Some(id).filter(|id| !id.is_empty()))
    }

    /// At most `limit` commits that `git log` lists for `revisions`, oldest first. Revisions that
    /// do not exist are passed over.
    pub(super) fn walk(&self, revisions: &[&str], limit: usize) -> Result<Vec<Facts>, GitError> {
        let log = self.start_walk(revisions, limit, &[])?;
        parse_facts(&self.output(&["log"], log)?)
    }

    fn start_walk(
        &self,
        revisions: &[&str],
        limit: usize,
        options: &[&str],
    ) -> Result<RunningHelper, GitError> {
        let limit = format!("--max-count={limit}");
        let mut arguments = vec!["log", "--topo-order", "--reverse", &limit];
        arguments.extend(LOG_OPTIONS);
        arguments.extend(options);
        arguments.extend(revisions);
        arguments.push("--");
        self.start_keeping(Some(MAX_RECORD_BYTES), &arguments, &[])
    }

    /// As [`Git::walk`], without what `refs` have.
    pub(super) fn walk_unkept(
        &self,
        revisions: &[&str],
        refs: &[&str],
        limit: usize,
    ) -> Result<Vec<Facts>, GitError> {
        let limit = format!("--max-count={limit}");
        let mut arguments = vec!["log", "--topo-order", "--reverse", &limit];
        arguments.extend(LOG_OPTIONS);
        arguments.extend(["--stdin", "--not"]);
        arguments.extend(refs);
        self.facts(&arguments, &lines(revisions))
    }

    /// These very commits, in this order; those that do not exist are passed over.
    pub(super) fn look_up(&self, ids: &[&str]) -> Result<Vec<Facts>, GitError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["log", "--no-walk=unsorted", "--stdin"];
        arguments.extend(LOG_OPTIONS);
        self.facts(&arguments, &lines(ids))
    }

    fn facts(&self, arguments: &[&str], stdin: &[u8]) -> Result<Vec<Facts>, GitError> {
        let log = self.start_keeping(Some(MAX_RECORD_BYTES), arguments, stdin)?;
        parse_facts(&self.output(&["log"], log)?)
    }

    /// A walk that tells what each commit changes, too, as [`Git::numbers`] does; to be read by
    /// [`Git::walked_counted`].
    pub(super) fn start_counted_walk(
        &self,
        revisions: &[&str],
        limit: usize,
    ) -> Result<RunningHelper, GitError> {
        self.start_walk(revisions, limit, &CHANGE_OPTIONS)
    }

    pub(super) fn walked_counted(
        &self,
        log: RunningHelper,
    ) -> Result<Vec<(Facts, Numbers)>, GitError> {
        let output = self.output(&["log"], log)?;
        let text = String::from_utf8_lossy(&output);
        let commits = parse_changes(&text).and_then(|commits| {
            let facts = |(record, numbers)| Some((parse_record(record)?, numbers));
            commits.into_iter().map(facts).collect()
        });
        commits.ok_or_else(|| GitError::output("log"))
    }

    /// What each of these commits changes against its parent. Those that do not exist are passed
    /// over.
    ///
    /// A merge is told only the paths that it makes different from all its parents: what it brings
    /// together was changed elsewhere, and is counted there.
    pub(super) fn numbers(&self, ids: &[&str]) -> Result<HashMap<String, Numbers>, GitError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut arguments = vec!["diff-tree", "--stdin", "-z", "-r"];
        arguments.extend(CHANGE_OPTIONS);
        let output = self.output(&["diff-tree"], self.start(&arguments, &lines(ids))?)?;
        let commits = parse_changes(&String::from_utf8_lossy(&output)).map(|commits| {
            let commits = commits.into_iter();
            commits
                .map(|(id, numbers)| (id.to_owned(), numbers))
                .collect()
        });
        commits.ok_or_else(|| GitError::output("diff-tree"))
    }

    /// How many of these commits are signed.
    pub fn signed(&self, ids: &[&str]) -> Result<usize, GitError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let list = ["rev-list", "--no-walk", "--header", "--stdin"];
        let helper = self.start_keeping(Some(MAX_RECORD_BYTES), &list, &lines(ids))?;
        let output = self.output(&list, helper)?;
        let output = String::from_utf8_lossy(&output);
        // Its headers, an empty line, its message.
        let header = |commit: &str| commit.split("\n\n").next().map(str::to_owned);
        let headers = output.split('\0').filter_map(header);
        let is_signed = |header: &String| header.contains("\ngpgsig");
        Ok(headers.filter(is_signed).count())
    }

    /// A branch that has the commit, for each commit in turn; a local one where there is one.
    pub(super) fn branches_of(&self, ids: &[&str]) -> Result<Vec<Option<String>>, GitError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec![
            "name-rev",
            "--name-only",
            "--refs=refs/heads/*",
            "--refs=refs/remotes/*",
        ];
        arguments.extend(ids);
        let output = self.read(&arguments)?;
        let names = String::from_utf8_lossy(&output);
        let branch = |line: &str| {
            // `side~2^2`; `undefined` where no branch has it.
            let name = line.split(['~', '^']).next()?;
            let name = name.strip_prefix("remotes/").unwrap_or(name);
            (name != "undefined").then(|| name.to_owned())
        };
        Ok(names.lines().map(branch).collect())
    }
}

const LOG_OPTIONS: [&str; 5] = [
    "-z",
    "--ignore-missing",
    "--no-show-signature",
    "--encoding=UTF-8",
    FORMAT,
];

const CHANGE_OPTIONS: [&str; 8] = [
    "-c",
    "--root",
    "--raw",
    "--numstat",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    // `.gitmodules` may say otherwise.
    "--ignore-submodules=none",
];

fn lines(ids: &[&str]) -> Vec<u8> {
    let mut lines = ids.join("\n").into_bytes();
    lines.push(b'\n');
    lines
}

fn parse_facts(output: &[u8]) -> Result<Vec<Facts>, GitError> {
    let text = String::from_utf8_lossy(output);
    text.split_terminator('\0')
        .map(|record| parse_record(record).ok_or_else(|| GitError::output("log")))
        .collect()
}

fn parse_record(record: &str) -> Option<Facts> {
    let mut fields = record.splitn(8, '\n');
    Some(Facts {
        id: fields.next()?.to_owned(),
        parents: fields
            .next()?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        tree: fields.next()?.to_owned(),
        committed: fields.next()?.parse().ok()?,
        author: fields.next()?.to_owned(),
        email: fields.next()?.to_owned(),
        authored: fields.next()?.to_owned(),
        first_line: cut_line(fields.next()?.lines().next().unwrap_or_default()),
    })
}

/// Reads, for each commit, its id or its record in [`FORMAT`], `:modes ids status` with a path each,
/// and `insertions<tab>deletions<tab>path`, all ended by NUL. `log` puts line feeds and empty pieces
/// between them.
///
/// Of a merge git prints all paths that differ from the first parent in the second list, which comes
/// first then, and only those of interest in the other.
fn parse_changes(text: &str) -> Option<Vec<(&str, Numbers)>> {
    let mut commits: Vec<(&str, HashSet<&str>, Vec<&str>)> = Vec::new();
    let mut pieces = text.split_terminator('\0');
    while let Some(piece) = pieces.next() {
        let piece = piece.trim_start_matches('\n');
        if piece.starts_with(':') {
            commits.last_mut()?.1.insert(pieces.next()?);
        } else if (piece.find(['\t', '\n'])).is_some_and(|at| piece[at..].starts_with('\t')) {
            commits.last_mut()?.2.push(piece);
        } else if !piece.is_empty() {
            commits.push((piece, HashSet::new(), Vec::new()));
        }
    }
    let numbers = |(record, touched, lines): (_, HashSet<&str>, Vec<&str>)| {
        let mut numbers = Numbers::default();
        for line in lines {
            numbers.count(line, &touched)?;
        }
        Some((record, numbers))
    };
    commits.into_iter().map(numbers).collect()
}

impl Numbers {
    fn count(&mut self, line: &str, touched: &HashSet<&str>) -> Option<()> {
        let mut fields = line.splitn(3, '\t');
        let (insertions, deletions, path) = (fields.next()?, fields.next()?, fields.next()?);
        if touched.contains(path) {
            self.files.push(path.to_owned());
            if insertions == "-" {
                self.binary = true;
            } else {
                self.insertions += insertions.parse::<u64>().ok()?;
                self.deletions += deletions.parse::<u64>().ok()?;
            }
        }
        Some(())
    }
}
