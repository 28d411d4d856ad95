//! Which run belongs to which fire.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::clock::utc;
use crate::model::outcome::Outcome;
use crate::model::record::Record;
use crate::model::text;
use crate::triage::{Facts, Fire, Row, Starter, Status, heartbeat, silence, status, why};

/// A run may begin a little before its minute, by another clock's second.
const EARLY: TimeDelta = TimeDelta::seconds(5);
/// A second try or the next agent of a list begins so soon after a run's end.
const SOON: TimeDelta = TimeDelta::minutes(15);

/// A run with its further tries, the first one first.
struct Chain<'a>(Vec<&'a Record>);

impl<'a> Chain<'a> {
    fn first(&self) -> &'a Record {
        self.0[0]
    }

    fn last(&self) -> &'a Record {
        self.0[self.0.len() - 1]
    }

    fn start(&self) -> DateTime<Utc> {
        self.first().start_time.unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    fn is_of(&self, fire: &Fire) -> bool {
        is_of(self.first(), fire)
    }

    fn row(&self, facts: &Facts, fire: Option<&Fire>, late: bool) -> Row {
        let record = self.last();
        let ended = status(record, facts.now);
        let (status, why) = match silence(record, facts) {
            Some(silence) => (Status::Silent, format!("{}; {silence}", words(record))),
            None => (ended, why(record)),
        };
        let mut notes = vec![why];
        notes.extend(shared_commit(record, facts));
        if self.0.len() > 1 {
            notes.push(format!("after {} runs", self.0.len()));
        }
        if late {
            notes.push(format!("started late, at {}", utc(self.start())));
        }
        notes.retain(|note| !note.is_empty());
        Row {
            status,
            at: fire.map_or(self.start(), |fire| fire.at),
            task: record.task.clone(),
            agent: record.agent.clone(),
            scheduled: fire.is_some(),
            run: Some(record.path()),
            why: notes.join("; "),
        }
    }
}

/// Whether another run counts the same commit as its own, as older runners let it.
fn shared_commit(record: &Record, facts: &Facts) -> Option<String> {
    let commits = |run: &Record| {
        run.commits
            .iter()
            .map(|commit| commit.commit.clone())
            .collect::<Vec<_>>()
    };
    let own = commits(record);
    let is_other = |run: &&Record| {
        run.path() != record.path() && commits(run).iter().any(|commit| own.contains(commit))
    };
    let other = facts.runs.iter().find(is_other)?;
    Some(format!("look at it: {} has the same commit", other.path()))
}

fn words(record: &Record) -> String {
    let why = why(record);
    if why.is_empty() {
        record.outcome.to_string()
    } else {
        why
    }
}

/// One row a fire, and one a run that no fire asked for.
pub(crate) fn rows(facts: &Facts) -> Vec<Row> {
    let mut chains: Vec<Option<Chain<'_>>> = chains(facts).into_iter().map(Some).collect();
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for fire in &facts.fires {
        let tolerance = TimeDelta::from_std(fire.tolerance).unwrap_or(TimeDelta::MAX);
        let end = fire
            .at
            .checked_add_signed(tolerance)
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        let is_its = |chain: &Chain<'_>| {
            chain.is_of(fire) && chain.start() >= fire.at - EARLY && chain.start() <= end
        };
        let found = chains
            .iter_mut()
            .find(|chain| chain.as_ref().is_some_and(is_its));
        match found.and_then(Option::take) {
            Some(chain) => rows.push(chain.row(facts, Some(fire), false)),
            // It may still begin.
            None if end > facts.now => {}
            None => missed.push(fire),
        }
    }
    for (at, fire) in missed.iter().enumerate() {
        let same = |other: &&&Fire| other.task == fire.task && other.agent == fire.agent;
        let next = missed[at + 1..]
            .iter()
            .find(same)
            .map_or(facts.now, |next| next.at);
        let is_its = |chain: &Chain<'_>| {
            fire.catch_up && chain.is_of(fire) && chain.start() > fire.at && chain.start() <= next
        };
        let found = chains
            .iter_mut()
            .find(|chain| chain.as_ref().is_some_and(is_its));
        rows.push(match found.and_then(Option::take) {
            Some(chain) => chain.row(facts, Some(fire), true),
            None => missed_row(fire, facts),
        });
    }
    let unscheduled = chains
        .iter()
        .flatten()
        .filter(|chain| chain.start() >= facts.since);
    rows.extend(unscheduled.map(|chain| chain.row(facts, None, false)));
    rows
}

/// Whether a run may have come from a fire.
fn is_of(run: &Record, fire: &Fire) -> bool {
    let mut agents = fire.agent.split(',').map(str::trim);
    run.task == fire.task.as_str() && agents.any(|agent| agent == "auto" || agent == run.agent)
}

fn missed_row(fire: &Fire, facts: &Facts) -> Row {
    let by_timer = fire.starter == Some(Starter::Systemd);
    let went_on = |run: &Record| {
        is_of(run, fire)
            && run.start_time.is_some_and(|start| start < fire.at)
            && run
                .end_time
                .map_or(run.outcome == Outcome::Running, |end| end > fire.at)
    };
    let (mut status, mut why) = (
        Status::Missed,
        match heartbeat::beat_at(&facts.beats, fire.at) {
            _ if fire.starter.is_none() => {
                "no record; it is in no crontab line or timer: `agent-runner schedule check`"
            }
            Some(false) => {
                "no record, and no heartbeat then: the machine, or what starts it, was off"
            }
            Some(true) if by_timer => {
                "no record although the heartbeat beat: see `journalctl` of its service"
            }
            Some(true) => "no record although the heartbeat beat: see logs/cron.log",
            None if by_timer => "no record: see `journalctl` of its service",
            None => "no record; nobody knows whether cron was there: see logs/cron.log",
        },
    );
    // See systemd.timer(5): a service that is active is left running.
    if by_timer && facts.runs.iter().any(went_on) {
        status = Status::Skipped;
        why = "the run before it went on, and systemd starts no second one";
    }
    Row {
        status,
        at: fire.at,
        task: fire.task.to_string(),
        agent: fire.agent.clone(),
        scheduled: true,
        run: None,
        why: text::first_line(why, 160),
    }
}

/// The runs with their further tries, oldest first. Those of before the look back are there for
/// what began then and ended later.
fn chains(facts: &Facts) -> Vec<Chain<'_>> {
    let mut chains: Vec<Chain<'_>> = Vec::new();
    let mut place: BTreeMap<String, usize> = BTreeMap::new();
    let from = facts.since - EARLY;
    let recent = facts
        .runs
        .iter()
        .filter(|record| record.start_time.is_some_and(|start| start >= from));
    for record in recent.rev() {
        let before = record
            .previous_run
            .as_ref()
            .and_then(|run| place.get(run))
            .copied();
        let before = before.filter(|at| {
            let last = chains[*at].last();
            let end = last.end_time.or(last.start_time);
            end.zip(record.start_time)
                .is_some_and(|(end, start)| start - end <= SOON)
        });
        let at = before.unwrap_or(chains.len());
        match before {
            Some(at) => chains[at].0.push(record),
            None => chains.push(Chain(vec![record])),
        }
        place.insert(record.path(), at);
    }
    chains
}
