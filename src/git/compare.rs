//! What a run's time changed in a repository, against the snapshot from before.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use chrono::DateTime;
use glob::{MatchOptions, Pattern};

use crate::git::files;
use crate::git::history::{Facts, Numbers};
use crate::git::reflog::{Entry, Log, Run, were_remote_branches};
use crate::git::refs::{Left, Refs};
use crate::git::snapshot::{STATUS, Snapshot, Status};
use crate::git::standing::{Case, Rewrites, Took};
use crate::git::{Git, GitError};
use crate::model::change::{Attribution, Commit, RepositoryChange, Standing};
use crate::model::verdict::short;
use crate::process::command::RunningHelper;

/// The most commits that are looked at on one branch; a pull may bring any number.
const MAX_WALKED: usize = 10_000;

/// The most commits of others that are told, the newest.
const MAX_LISTED_FOREIGN: usize = 100;

/// What appeared during a run, and what went.
#[derive(Default)]
struct Appeared {
    /// The oldest first, each with whose it is.
    commits: Vec<(Facts, Standing)>,
    attribution: Attribution,
    lost: Vec<String>,
    /// The run's own commits off the branch, those that none has included.
    made: Vec<Facts>,
}

impl Git {
    /// Compares the repository with `before`, and says of each new commit whose it is.
    ///
    /// `run_mark` is the one given to [`Git::agent_environment`]. `paths` are globs for paths from
    /// the root of the work tree: `*` and `?` do not match `/`, so `*.md` is a file in the root and
    /// `docs/**` anything below `docs`; none at all allow every path.
    ///
    /// The commits told are those that appeared on the branch where the run began, and the run's
    /// own elsewhere. Of a run that began on a detached HEAD, HEAD is the branch. What the run made
    /// and nothing keeps any more (amended, reset away) is told only if there is nothing else, and
    /// without `outside_paths`.
    ///
    /// Runs one git command where nothing was committed, else two more, and up to four where the
    /// run left commits elsewhere or changed history. Writes nothing.
    pub fn compare(
        &self,
        before: &Snapshot,
        run_mark: &str,
        paths: &[String],
    ) -> Result<RepositoryChange, GitError> {
        self.compare_with(before, run_mark, paths, None)
    }

    /// The same by [`Git::with_programs_of`]. What a run that committed is asked about is asked
    /// before it is known which programs it configured, by commands that run none.
    pub fn compare_guarded(
        &self,
        before: &Snapshot,
        run_mark: &str,
        paths: &[String],
    ) -> Result<RepositoryChange, GitError> {
        let git = self.pinned(&before.place)?;
        let configured = git.ask_for_programs(before)?;
        // What is asked ahead runs no other program than those that fetch what is missing.
        let ahead = git.fetching_nothing().ask_ahead(before, run_mark)?;
        let git = git.with_programs(before, configured)?;
        git.compare_with(before, run_mark, paths, ahead)
    }

    fn compare_with(
        &self,
        before: &Snapshot,
        run_mark: &str,
        paths: &[String],
        ahead: Option<RunningHelper>,
    ) -> Result<RepositoryChange, GitError> {
        let allowed = parse_paths(paths)?;
        let status = self.start(&STATUS, &[])?;
        // What could not be told ahead is asked for again.
        let ahead = ahead.and_then(|log| self.walked_counted(log).ok());
        let ahead = ahead.filter(|commits| commits.len() < MAX_LISTED_FOREIGN);
        let ids = |(facts, numbers): (Facts, _)| (facts.clone(), (facts.id, numbers));
        let (walked, mut numbers): (Vec<_>, HashMap<_, _>) =
            ahead.unwrap_or_default().into_iter().map(ids).unzip();
        let after = self.parse_status(&before.place, &self.output(&STATUS, status)?)?;
        let run = Run {
            mark: run_mark,
            start: before.start,
        };
        let entries = self.entries(&before.place, run)?;
        let Appeared {
            commits: appeared,
            attribution,
            mut lost,
            made,
        } = self.appeared(before, &after, &entries, run, walked)?;

        let uncounted: Vec<&str> = appeared
            .iter()
            .map(|(facts, _)| facts.id.as_str())
            .filter(|id| !numbers.contains_key(*id))
            .collect();
        numbers.extend(self.numbers(&uncounted)?);
        let facts: Vec<Facts> = appeared.iter().map(|(facts, _)| facts.clone()).collect();
        let commits: Vec<Commit> = appeared
            .into_iter()
            .map(|(facts, standing)| {
                let numbers = numbers.remove(&facts.id).unwrap_or_default();
                describe(facts, numbers, standing, &allowed)
            })
            .collect();
        let refs = match &before.refs {
            Some(_) => self.refs(&before.place)?,
            None => Refs::default(),
        };
        let left = Left {
            after: &after,
            appeared: &facts,
            made: &made,
            commits: &commits,
        };
        lost.extend(self.lost_of_refs(before, &refs, &entries, run, &left)?);
        let uncommitted = self.uncommitted(before, &after, &refs, &commits)?;
        Ok(RepositoryChange {
            left_uncommitted: uncommitted.left,
            discarded: uncommitted.discarded,
            stashed: uncommitted.stashed,
            head_before: before.status.head.clone(),
            head_after: after.head,
            branch_before: before.status.branch.clone(),
            branch_after: after.branch,
            commits,
            lost,
            attribution,
            changed_before: before.status.paths().collect(),
            earlier: None,
            locked_before: before.status.index_lock,
            locked_after: after.index_lock,
            dirty_after: !after.changes.is_empty(),
            in_progress: after
                .in_progress
                .filter(|_| after.in_progress != before.status.in_progress)
                .map(str::to_owned),
        })
    }

    /// Asks for the commits that the branch where the run began has gained, and what they change,
    /// where the run's reflog entries tell of any.
    fn ask_ahead(
        &self,
        before: &Snapshot,
        run_mark: &str,
    ) -> Result<Option<RunningHelper>, GitError> {
        let run = Run {
            mark: run_mark,
            start: before.start,
        };
        let place = &before.place;
        if place.has_reftable() {
            return Ok(None);
        }
        if candidates(&self.entries(place, run)?, run).is_empty() {
            return Ok(None);
        }
        let branch = before.status.branch.as_ref();
        let tip = branch.map_or("HEAD".to_owned(), |branch| format!("refs/heads/{branch}"));
        let excluded = before.status.head.as_ref().map(|head| format!("^{head}"));
        let range: Vec<&str> = [&tip]
            .into_iter()
            .chain(&excluded)
            .map(String::as_str)
            .collect();
        self.start_counted_walk(&range, MAX_LISTED_FOREIGN)
            .map(Some)
    }

    /// `walked`: what the branch had gained when that was asked ahead.
    fn appeared(
        &self,
        before: &Snapshot,
        after: &Status,
        entries: &[Entry],
        run: Run<'_>,
        walked: Vec<Facts>,
    ) -> Result<Appeared, GitError> {
        let mut candidates = candidates(entries, run);
        let stayed = before.status.branch == after.branch;
        if stayed && before.status.head == after.head && candidates.is_empty() {
            return Ok(Appeared::default());
        }
        let tip = match &before.status.branch {
            Some(branch) if !stayed => self.commit_of(&format!("refs/heads/{branch}"))?,
            Some(_) | None => after.head.clone(),
        };
        let excluded = before.status.head.as_ref().map(|head| format!("^{head}"));
        let range: Vec<&str> = tip.iter().chain(&excluded).map(String::as_str).collect();
        let on_branch = match &tip {
            Some(tip) if walked.last().is_some_and(|last| last.id == *tip) => walked,
            Some(_) => self.walk(&range, MAX_WALKED)?,
            None => Vec::new(),
        };

        let fetch_heads = fetch_heads(&before.place.directory);
        let mut case = Case::new(run, entries, &on_branch, &fetch_heads);
        let mut attribution = Attribution::Reflog;
        if !case.explains_the_tip() {
            attribution = Attribution::Range;
            let not_remote = [&range[..], &["--not", "--remotes"]].concat();
            for facts in self.walk(&not_remote, MAX_WALKED)? {
                case.credit(&facts.id);
            }
        }
        candidates.retain(|id| !case.is_on_branch(id));
        let mut made = self.look_up(&candidates)?;
        made.retain(|facts| case.made(facts));
        let rewrites = Rewrites {
            entries,
            made: &made,
        };
        let standings = on_branch.iter().map(|facts| case.standing(facts));
        let mut appeared: Vec<_> = on_branch.iter().cloned().zip(standings).collect();
        let left_behind = (before.status.head.as_deref())
            .filter(|head| tip.as_deref() != Some(head) && !case.continues(head));
        let gone = self.gone(before, tip.as_deref(), left_behind, entries, &case)?;
        let mut of_others = case.of_others(before.head(), &gone);
        of_others.drain(..of_others.len().saturating_sub(MAX_LISTED_FOREIGN));
        tell_amended(&mut appeared, &rewrites.amended(&on_branch, &of_others));
        bound_foreign(&mut appeared);
        rewrites.drop_replaced(&mut of_others, &on_branch);
        let took = Took::new(before.head(), &gone, run, rewrites);
        let lost = self.lost(left_behind, &gone, of_others, &took, entries)?;

        let some_stay = !appeared.iter().all(|(_, standing)| is_foreign(standing));
        appeared.extend(self.elsewhere(&made, some_stay)?);
        Ok(Appeared {
            commits: appeared,
            attribution,
            lost,
            made,
        })
    }

    /// What is gone from the branch, is not the run's, and nothing else has, unless somebody else
    /// took it away.
    fn lost(
        &self,
        left_behind: Option<&str>,
        gone: &[Facts],
        mut of_others: Vec<Facts>,
        took: &Took<'_>,
        entries: &[Entry],
    ) -> Result<Vec<String>, GitError> {
        if let Some(head) = left_behind
            && !gone.iter().any(|one| one.id == head)
            && !took.others_took(head)
            && self.commit_of(head)?.is_none()
        {
            return Ok(vec![short(head).to_owned()]);
        }
        of_others.retain(|one| !took.others_took(&one.id));
        if of_others.is_empty() {
            return Ok(Vec::new());
        }
        let remote = were_remote_branches(entries);
        let ids = of_others.iter().map(|one| &one.id).chain(&remote);
        let ids: Vec<&str> = ids.map(String::as_str).collect();
        let unkept = self.walk_unkept(&ids, &["--all"], MAX_LISTED_FOREIGN)?;
        of_others.retain(|one| unkept.contains(one));
        let told = |old: &Facts| format!("{} `{}`", short(&old.id), old.first_line);
        Ok(of_others.iter().map(told).collect())
    }

    /// The commits that the branch had at any time of the run, and has no more.
    fn gone(
        &self,
        before: &Snapshot,
        tip: Option<&str>,
        left_behind: Option<&str>,
        entries: &[Entry],
        case: &Case<'_>,
    ) -> Result<Vec<Facts>, GitError> {
        let log = before.status.branch.clone().map_or(Log::Head, Log::Branch);
        let mut revisions: Vec<&str> = (entries.iter())
            .filter(|entry| entry.log == log)
            .map(|entry| entry.new.as_str())
            .filter(|id| Some(*id) != before.head() && !case.is_on_branch(id))
            .chain(left_behind)
            .collect();
        if revisions.is_empty() {
            return Ok(Vec::new());
        }
        let excluded = tip.map(|tip| format!("^{tip}"));
        revisions.extend(excluded.as_deref());
        self.walk(&revisions, MAX_WALKED)
    }

    /// The run's own commits that are not on the branch where it began. Those that no branch has
    /// are left out when `some_stay` or a branch has others.
    fn elsewhere(
        &self,
        made: &[Facts],
        some_stay: bool,
    ) -> Result<Vec<(Facts, Standing)>, GitError> {
        let ids: Vec<&str> = made.iter().map(|facts| facts.id.as_str()).collect();
        let branches = self.branches_of(&ids)?;
        let some_stay = some_stay || branches.iter().any(Option::is_some);
        Ok((made.iter().cloned())
            .zip(branches)
            .filter(|(_, branch)| branch.is_some() || !some_stay)
            .map(|(facts, branch)| (facts, Standing::Elsewhere { branch }))
            .collect())
    }
}

/// The commits that entries of the run lead to, in order of time.
fn candidates<'a>(entries: &'a [Entry], run: Run<'_>) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    entries
        .iter()
        .filter(|entry| run.wrote(entry))
        .filter(|entry| entry.log != Log::Remote && entry.old != entry.new)
        .map(|entry| entry.new.as_str())
        .filter(|id| seen.insert(*id))
        .collect()
}

/// What git fetched last, whenever that was: it is asked only about commits that are new.
pub(super) fn fetch_heads(directory: &Path) -> Vec<String> {
    // Each line begins with an object name. Without the file nothing was fetched.
    let bytes = files::read(&directory.join("FETCH_HEAD")).unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| line.split('\t').next())
        .map(str::to_owned)
        .collect()
}

fn is_foreign(standing: &Standing) -> bool {
    matches!(standing, Standing::Foreign { .. })
}

/// Tells an own commit that took the place of one that is gone from a new one.
fn tell_amended(commits: &mut [(Facts, Standing)], amended: &HashMap<&str, &Facts>) {
    for (facts, standing) in commits {
        if *standing == Standing::Own
            && let Some(old) = amended.get(facts.id.as_str())
        {
            let of = old.id.clone();
            *standing = Standing::Amended { of };
        }
    }
}

/// Keeps all of the run's commits and the newest of the others.
fn bound_foreign(commits: &mut Vec<(Facts, Standing)>) {
    let foreign = commits.iter().filter(|(_, standing)| is_foreign(standing));
    let mut surplus = foreign.count().saturating_sub(MAX_LISTED_FOREIGN);
    commits.retain(|(_, standing)| {
        let drop = surplus > 0 && is_foreign(standing);
        surplus -= usize::from(drop);
        !drop
    });
}

fn describe(facts: Facts, numbers: Numbers, standing: Standing, allowed: &[Pattern]) -> Commit {
    let outside_paths = match standing {
        Standing::Elsewhere { branch: None } => Vec::new(),
        Standing::Own
        | Standing::Amended { .. }
        | Standing::Elsewhere { branch: Some(_) }
        | Standing::Foreign { .. } => {
            let outside = |path: &&String| !is_allowed(path, allowed);
            numbers.files.iter().filter(outside).cloned().collect()
        }
    };
    Commit {
        date: DateTime::parse_from_rfc3339(&facts.authored).ok(),
        id: facts.id,
        subject: facts.first_line,
        author: facts.author,
        insertions: numbers.insertions,
        deletions: numbers.deletions,
        binary: numbers.binary,
        files: numbers.files,
        outside_paths,
        standing,
    }
}

fn parse_paths(paths: &[String]) -> Result<Vec<Pattern>, GitError> {
    paths
        .iter()
        .map(|pattern| {
            Pattern::new(pattern).map_err(|source| GitError::Pattern {
                pattern: pattern.clone(),
                source,
            })
        })
        .collect()
}

fn is_allowed(path: &str, allowed: &[Pattern]) -> bool {
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    allowed.is_empty()
        || allowed
            .iter()
            .any(|pattern| pattern.matches_with(path, options))
}
