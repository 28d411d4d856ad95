//! What was due, what ran and what a person heard of it, set against each other. Pure: facts in,
//! a report out.
//!
//! One row a fire of the schedule, and one a run that no schedule asked for. The worst state is
//! silence: a run whose end nobody was told of looks like one that never was.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::clock::utc;
use crate::model::duration;
use crate::model::ids::{AgentName, TaskName};
use crate::model::outcome::Outcome;
use crate::model::parking::Parking;
use crate::model::record::{NotificationState, Record};
use crate::model::text;
use crate::queue::Work;

pub mod failures;
pub mod heartbeat;
pub mod late;
mod matching;
pub mod page;
pub mod steps;
#[cfg(test)]
mod tests;
pub mod works;

pub use failures::Failure;
pub use works::FailedWork;

/// A start that a schedule asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fire {
    /// When.
    pub at: DateTime<Utc>,
    /// The task.
    pub task: TaskName,
    /// The agent as `run --agent` was told: a name, several, or `auto`.
    pub agent: String,
    /// How late the run may begin.
    pub tolerance: Duration,
    /// One that was missed is made up for.
    pub catch_up: bool,
    /// Who starts it; `None` where a configured start is nowhere installed.
    pub starter: Option<Starter>,
}

/// Who starts what is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Starter {
    /// A line of the crontab, or something that is not seen.
    Cron,
    /// A timer of systemd.
    Systemd,
}

/// What reached the notification server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Heard {
    /// Notifications are off.
    Off,
    /// The server could not be asked, for this reason: silence cannot be told.
    Unknown(String),
    /// Everything since that time.
    Since(DateTime<Utc>, Told),
}

/// The runs that messages name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Told {
    runs: BTreeSet<String>,
    digests: BTreeSet<String>,
}

impl Told {
    /// Takes in the body of a message. Only its last lines count: what comes before may be an
    /// agent's words.
    pub fn hear(&mut self, body: &str) {
        let last = body.trim_end().lines().next_back().unwrap_or_default();
        if let Some(run) = last.strip_prefix("run: ") {
            self.runs.insert(run.to_owned());
        } else if let Some(digest) = last.strip_prefix("digest: ") {
            self.digests.insert(digest.to_owned());
        }
    }

    /// Takes a run that was delivered for one that was heard of.
    pub fn trust(&mut self, record: &Record) {
        if record.notification.state == NotificationState::Delivered {
            self.runs.insert(record.path());
        }
    }

    fn names(&self, record: &Record) -> bool {
        let id = record.notification.id.as_ref();
        self.runs.contains(&record.path()) || id.is_some_and(|id| self.digests.contains(id))
    }
}

/// Everything that triage looks at.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The present.
    pub now: DateTime<Utc>,
    /// Where the look back begins.
    pub since: DateTime<Utc>,
    /// What was due since then, oldest first.
    pub fires: Vec<Fire>,
    /// Installed times that are not understood, each with whose they are.
    pub unread: Vec<String>,
    /// How many lines of the schedule are known for less than the look back, and since when the
    /// newest.
    pub new: Option<(usize, DateTime<Utc>)>,
    /// Dispatched works that rest or wait for another try.
    pub works: Vec<Work>,
    /// Queues that cannot be asked, and why.
    pub unasked: Vec<String>,
    /// The runs, newest first, those from before `since` too, as far as they are known.
    pub runs: Vec<Record>,
    /// What reached the server.
    pub heard: Heard,
    /// Agents that are parked.
    pub parked: Vec<(AgentName, Parking)>,
    /// Notifications that wait, with the time since when.
    pub waiting: Vec<DateTime<Utc>>,
    /// Titles of notifications that are put aside: the server refused them, or they are torn.
    pub refused: Vec<String>,
    /// The heartbeats of the last day, oldest first; empty where there never was one.
    pub beats: Vec<DateTime<Utc>>,
}

/// What became of a fire or a run, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Status {
    /// It ran, and nobody was told.
    Silent,
    /// Its runner died.
    Crashed,
    /// It never ran.
    Missed,
    /// It failed.
    Failed,
    /// It still runs although its time is over.
    Overdue,
    /// A limit ended it or kept it from starting.
    Limited,
    /// Another run held the repository.
    Skipped,
    /// It runs.
    Running,
    /// It did what it should.
    Ok,
}

impl Status {
    /// The status in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Crashed => "crashed",
            Self::Missed => "missed",
            Self::Failed => "failed",
            Self::Overdue => "overdue",
            Self::Limited => "limited",
            Self::Skipped => "skipped",
            Self::Running => "running",
            Self::Ok => "ok",
        }
    }

    /// Whether a person has something to do about it.
    pub fn needs_somebody(self) -> bool {
        self <= Self::Overdue
    }
}

/// A fire or a run, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What became of it.
    pub status: Status,
    /// When it was due, else when it began.
    pub at: DateTime<Utc>,
    /// The task.
    pub task: String,
    /// The agent that ran, else the one that was due.
    pub agent: String,
    /// A schedule asked for it.
    pub scheduled: bool,
    /// Its run, as `task/agent/run_id`; of several tries the last.
    pub run: Option<String>,
    /// Why, in one line; empty where there is nothing to say.
    pub why: String,
}

/// What triage found.
#[derive(Clone, Debug)]
pub struct Report {
    /// When it looked.
    pub now: DateTime<Utc>,
    /// Where the look back began.
    pub since: DateTime<Utc>,
    /// One row a fire or run, the most urgent first, then the newest.
    pub rows: Vec<Row>,
    /// The failures of these rows, each once, with what to do next.
    pub failures: Vec<Failure>,
    /// Dispatched works that failed, those at rest first.
    pub works: Vec<FailedWork>,
    /// What else a person should know, the most urgent first.
    pub remarks: Vec<Remark>,
}

/// Something to know besides the rows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// A person has something to do about it.
    pub urgent: bool,
    /// What it is.
    pub text: String,
}

impl Report {
    /// Whether a person has something to do.
    pub fn needs_somebody(&self) -> bool {
        self.to_do() > 0
    }

    /// How much a person has to do.
    pub fn to_do(&self) -> usize {
        let rows = (self.rows.iter()).filter(|row| row.status.needs_somebody());
        let works = (self.works.iter()).filter(|work| work.needs_somebody());
        let remarks = (self.remarks.iter()).filter(|remark| remark.urgent);
        rows.count() + works.count() + remarks.count()
    }
}

/// Sets the facts against each other.
pub fn triage(facts: &Facts) -> Report {
    let mut rows = matching::rows(facts);
    rows.sort_by(|a, b| (a.status, b.at).cmp(&(b.status, a.at)));
    Report {
        now: facts.now,
        since: facts.since,
        failures: failures::failures(facts, &rows),
        works: works::failed(facts),
        remarks: remarks(facts),
        rows,
    }
}

/// A notification that waits longer has a reason.
const WAITS_LONG: TimeDelta = TimeDelta::minutes(10);

fn remarks(facts: &Facts) -> Vec<Remark> {
    let mut remarks = heartbeat::remarks(&facts.beats, facts.now);
    let mut say = |urgent, text| remarks.push(Remark { urgent, text });
    if let Heard::Unknown(why) = &facts.heard {
        say(
            true,
            format!("the notification server cannot be asked, so silence cannot be told: {why}"),
        );
    }
    for why in &facts.unasked {
        say(
            true,
            format!("a queue cannot be asked, so its works at rest cannot be told: {why}"),
        );
    }
    for unread in &facts.unread {
        say(
            false,
            format!(
                "when {unread} is due is not understood, so what is missed of that cannot be told"
            ),
        );
    }
    if let Some((lines, newest)) = facts.new {
        let (lines, newest) = (text::count(lines, "line"), utc(newest));
        say(
            false,
            format!(
                "{lines} of the schedule known only since {newest}: no start from before is missed"
            ),
        );
    }
    if let Some(text) = works::rests_long(facts) {
        say(false, text);
    }
    if let Some(title) = facts.refused.last() {
        let number = text::count(facts.refused.len(), "notification");
        say(
            true,
            format!("{number} put aside for good; the last: {title}"),
        );
    }
    if let Some(oldest) = facts.waiting.iter().min() {
        let number = text::count(facts.waiting.len(), "notification");
        say(
            facts.now - *oldest > WAITS_LONG,
            format!("{number} not delivered yet, since {}", utc(*oldest)),
        );
    }
    let unplaced = facts.runs.iter().filter(|run| run.start_time.is_none());
    if let Some(run) = unplaced.clone().next() {
        let number = text::count(unplaced.count(), "run");
        say(
            false,
            format!("{number} of unknown start, such as {}", run.path()),
        );
    }
    for (agent, parking) in &facts.parked {
        say(false, format!("{agent} is {}", parking.words(facts.now)));
    }
    remarks.sort_by_key(|remark| !remark.urgent);
    remarks
}

/// The state of a run without regard to who heard of it.
fn status(record: &Record, now: DateTime<Utc>) -> Status {
    match record.outcome {
        Outcome::Running => {
            let late = record.timeout.map_or(LONGEST_RUN, |limit| {
                limit.saturating_mul(2).saturating_add(SLACK)
            });
            let is_late = |start: DateTime<Utc>| (now - start).to_std().is_ok_and(|ran| ran > late);
            if record.start_time.is_some_and(is_late) {
                Status::Overdue
            } else {
                Status::Running
            }
        }
        Outcome::Success | Outcome::NoChange => Status::Ok,
        Outcome::Skipped => Status::Skipped,
        Outcome::RateLimited => Status::Limited,
        Outcome::Crashed => Status::Crashed,
        Outcome::AgentError
        | Outcome::StartFailed
        | Outcome::CommitMissing
        | Outcome::VerifyFailed
        | Outcome::PolicyBlocked
        | Outcome::Timeout
        | Outcome::Stalled
        | Outcome::Interrupted { .. }
        | Outcome::LostLease => Status::Failed,
    }
}

/// For a run whose record names no limit.
const LONGEST_RUN: Duration = Duration::from_hours(24);
/// A run may wait for its repository as long as it may last, and its checks come after it.
const SLACK: Duration = Duration::from_mins(15);
/// How long the common ntfy server keeps its messages; what is older proves nothing by its absence.
const SERVER_KEEPS: TimeDelta = TimeDelta::hours(12);

/// Why nobody heard of a run that was to be told.
fn silence(record: &Record, facts: &Facts) -> Option<String> {
    let is_told = record.outcome.is_final() && record.outcome != Outcome::Skipped;
    // The originals noted nothing of their notifications.
    let is_ours = record.runner_version.is_some() || record.outcome == Outcome::Crashed;
    if !is_told || !is_ours {
        return None;
    }
    if let Heard::Since(_, told) = &facts.heard
        && told.names(record)
    {
        return None;
    }
    let end = record.end_time.or(record.start_time)?;
    let waited = facts.now - end;
    let notification = &record.notification;
    let attempts = || text::count(notification.attempts as usize, "attempt");
    match (notification.state, &facts.heard) {
        (NotificationState::Disabled, _) => None,
        (NotificationState::Pending, _) if waited <= WAITS_LONG => None,
        (NotificationState::Pending, _) => {
            Some(format!("its notification still waits after {}", attempts()))
        }
        (NotificationState::Refused, _) => Some("the server refused its notification".to_owned()),
        (NotificationState::Expired, _) => Some(format!(
            "its notification was given up after {}",
            attempts()
        )),
        (NotificationState::Delivered, Heard::Since(since, _)) => {
            let at = notification.delivered_at.unwrap_or(end);
            (at >= *since && facts.now - at < SERVER_KEEPS)
                .then(|| "the server accepted its notification and does not have it".to_owned())
        }
        (NotificationState::Delivered, Heard::Off | Heard::Unknown(_)) => None,
    }
}

/// Why a run ended as it did, in one line.
fn why(record: &Record) -> String {
    let fact = || {
        record
            .evidence
            .first()
            .map(|evidence| evidence.fact.clone())
    };
    let said = match record.outcome {
        Outcome::Success | Outcome::NoChange => return audit(record).unwrap_or_default(),
        Outcome::Running => {
            let start = record.start_time.map(utc).unwrap_or_default();
            return format!("since {start}");
        }
        _ => record.error.clone().or_else(fact).unwrap_or_default(),
    };
    let resets = record.resets_at.map(|at| format!("; until {}", utc(at)));
    let said = text::first_line(&said, 160);
    let outcome = match record.outcome {
        Outcome::Crashed | Outcome::Skipped => String::new(),
        outcome => format!("{outcome}: "),
    };
    let last_words = record.evidence.iter().map(|evidence| &evidence.fact);
    let mut last_words = last_words.filter(|fact| fact.starts_with("its transcript "));
    let last_words = last_words
        .next()
        .map(|fact| format!("; {}", text::first_line(fact, 120)));
    let (resets, last_words) = (resets.unwrap_or_default(), last_words.unwrap_or_default());
    format!("{outcome}{said}{resets}{last_words}")
}

/// A change this small, or of notes alone, is looked at although it counts.
fn audit(record: &Record) -> Option<String> {
    if record.dry_run {
        return Some("a dry run of an older runner: nothing was really run".to_owned());
    }
    if record.commits.is_empty() {
        return None;
    }
    let lines = record.insertions + record.deletions;
    let notes = |file: &String| {
        ["memories", "logs", ".agent"]
            .iter()
            .any(|part| file.split('/').any(|name| name == *part))
    };
    let what = if !record.files_changed.is_empty() && record.files_changed.iter().all(notes) {
        "only notes and logs changed".to_owned()
    } else if lines <= 2 {
        format!(
            "only {} changed",
            text::count(usize::try_from(lines).ok()?, "line")
        )
    } else {
        return None;
    };
    let took = record
        .elapsed
        .map(|took| format!(" in {}", duration::words(took)));
    Some(format!("look at it: {what}{}", took.unwrap_or_default()))
}
