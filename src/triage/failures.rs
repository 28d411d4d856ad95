//! The same failure is one failure, however often it happens: counted by its fingerprint.

use chrono::{DateTime, Utc};

use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, Record};
use crate::triage::steps::{self, next_step};
use crate::triage::{Facts, Row, Status, status, why};

/// A failure that one or several rows share.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Who shares it, as `task/agent`, once each.
    pub who: Vec<String>,
    /// What it is, in one line.
    pub what: String,
    /// What to do next.
    pub step: &'static str,
    /// How many rows of the report have it.
    pub rows: usize,
    /// How many of all known runs have it.
    pub runs: usize,
    /// How many of the newest runs of its task and agent have it, without another in between.
    pub streak: usize,
    /// When it was first seen.
    pub first_seen: Option<DateTime<Utc>>,
    /// The last good run of the task before that, and its commit.
    pub last_good: Option<(String, Option<String>)>,
    /// US dollars of all these runs, as far as they are known.
    pub cost_usd: Option<f64>,
    /// Tokens of all these runs, as far as they are known.
    pub tokens: Option<u64>,
    fingerprint: String,
}

impl Failure {
    /// What is the same about it every time.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// What is the same about a failure every time: outcome, class, and the error without the numbers,
/// paths and identities in it.
pub fn fingerprint(record: &Record) -> String {
    let class = record.error_class.map_or("", |class| class.as_str());
    let fact = || {
        record
            .evidence
            .first()
            .map(|evidence| evidence.fact.as_str())
    };
    let error = record.error.as_deref().or_else(fact).unwrap_or_default();
    let mut error: String = error
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(400)
        .collect();
    let last_words = |evidence: &Evidence| {
        let fact = evidence.fact.strip_prefix("its transcript ends with: ")?;
        fact.starts_with("Error").then(|| format!(" {fact}"))
    };
    error.extend(record.evidence.iter().find_map(last_words));
    let (task, agent) = (record.task.to_lowercase(), record.agent.to_lowercase());
    let mut words: Vec<String> = Vec::new();
    for word in error.to_lowercase().split_whitespace() {
        let word = word.trim_matches(|c: char| !c.is_alphanumeric());
        let word = match word {
            word if word == task || word == agent => "@",
            word if word.contains(['/', '\\']) => "/",
            word if word.contains(|c: char| c.is_ascii_digit()) => "#",
            word => word,
        };
        if !word.is_empty() && words.last().is_none_or(|last| last != word) {
            words.push(word.to_owned());
        }
    }
    format!("{} {class} {}", record.outcome.as_str(), words.join(" "))
}

/// The failures of the rows, those of the most urgent rows first.
pub(crate) fn failures(facts: &Facts, rows: &[Row]) -> Vec<Failure> {
    let mut found: Vec<Failure> = Vec::new();
    for row in rows
        .iter()
        .filter(|row| row.status.needs_somebody() || row.status == Status::Limited)
    {
        let record = row
            .run
            .as_ref()
            .and_then(|run| facts.runs.iter().find(|record| record.path() == *run));
        let failure = describe(facts, row, record);
        let who = format!("{}/{}", row.task, row.agent);
        match found
            .iter_mut()
            .find(|other| other.fingerprint == failure.fingerprint)
        {
            Some(other) => {
                other.rows += 1;
                if !other.who.contains(&who) {
                    other.who.push(who);
                }
            }
            None => found.push(failure),
        }
    }
    found
}

fn describe(facts: &Facts, row: &Row, record: Option<&Record>) -> Failure {
    let mut failure = Failure {
        who: vec![format!("{}/{}", row.task, row.agent)],
        what: row.why.clone(),
        step: steps::MISSED,
        rows: 1,
        runs: 0,
        streak: 0,
        first_seen: None,
        last_good: None,
        cost_usd: None,
        tokens: None,
        fingerprint: format!("{} {}", row.status.as_str(), row.why),
    };
    let Some(record) = record else { return failure };
    if row.status == Status::Silent && status(record, facts.now) == Status::Ok {
        failure.step = steps::SILENT;
        "silent".clone_into(&mut failure.fingerprint);
        return failure;
    }
    failure.what = why(record);
    failure.step = next_step(record);
    if row.status == Status::Overdue {
        return failure;
    }
    failure.fingerprint = fingerprint(record);
    let same: Vec<&Record> = facts
        .runs
        .iter()
        .filter(|run| run.outcome == record.outcome && fingerprint(run) == failure.fingerprint)
        .collect();
    failure.runs = same.len();
    let told = |run: &&Record| !matches!(run.outcome, Outcome::Skipped | Outcome::Running);
    let own = facts
        .runs
        .iter()
        .filter(|run| run.task == record.task && run.agent == record.agent);
    failure.streak = own
        .filter(told)
        .take_while(|run| fingerprint(run) == failure.fingerprint)
        .count();
    failure.first_seen = same.iter().filter_map(|run| run.start_time).min();
    let before = |run: &&Record| {
        run.task == record.task
            && run.outcome == Outcome::Success
            && !run.dry_run
            && run.start_time < failure.first_seen
    };
    failure.last_good = facts.runs.iter().find(before).map(|run| {
        let commit = run.commits.last().map(|commit| commit.commit.clone());
        (run.path(), commit.or_else(|| run.head_after.clone()))
    });
    failure.cost_usd = same
        .iter()
        .filter_map(|run| run.cost_usd)
        .reduce(|sum, usd| sum + usd);
    failure.tokens = same
        .iter()
        .filter_map(|run| run.tokens())
        .reduce(u64::saturating_add);
    failure
}
