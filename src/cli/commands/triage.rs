//! `triage`: what was due, what ran, what arrived, and what to do about the rest.

use std::iter;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::due;
use crate::cli::args::TriageArguments;
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::settings::Settings;
use crate::model::clock::Clock as _;
use crate::model::duration;
use crate::model::ids::AgentName;
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS, Outcome};
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::text::chain;
use crate::notify::ntfy::Ntfy;
use crate::queue::{Queue, Work};
use crate::store::beats::{Beats, beats};
use crate::store::layout::Layout;
use crate::store::outbox::Outbox;
use crate::store::reader::{self, Filter, Run};
use crate::store::since::look;
use crate::store::{StoreError, parked};
use crate::triage::page::{Part, page};
use crate::triage::{self, Facts, Heard, Report, Told};

/// Sets schedule, runs and notifications against each other; exits 1 when there is something to do.
pub(crate) fn triage(world: &World, arguments: &TriageArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let notifier = wiring::notifier(&settings);
    let announce = wiring::announcement(&settings, &layout);
    wiring::recover(world, &layout, announce.as_deref())?;
    wiring::tell_unlisted(world, &layout);
    let now = SystemClock.now();
    let since = TimeDelta::from_std(arguments.since).ok();
    let since = since.and_then(|back| now.checked_sub_signed(back));
    let since = since.ok_or_else(|| CliError::usage("`--since` looks too far back"))?;
    let facts = facts(world, &settings, notifier.as_ref(), since, now)?;
    let report = triage::triage(&facts);
    if arguments.json {
        world.ui.data(&format!("{:#}", json(&report)));
    } else {
        print(&world.ui, &report);
    }
    let to_do = report.needs_somebody();
    Ok(if to_do { EXIT_FAILURE } else { EXIT_SUCCESS })
}

/// As many runs are compared; those of the look back are read in any case.
const HISTORY: usize = 1000;

fn facts(
    world: &World,
    settings: &Settings,
    notifier: Option<&Ntfy>,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Facts, CliError> {
    let unreadable =
        |error: StoreError| CliError::failure("the log root cannot be read").because(error);
    let layout = &wiring::layout(settings);
    let mut runs: Vec<Record> = Vec::new();
    let past = Filter::past(now).until;
    for run in reader::runs(layout, &Filter::default()).map_err(unreadable)? {
        let start = run.path.run_id.started();
        if start.zip(past).is_some_and(|(start, past)| start >= past) {
            continue;
        }
        let is_recent = start.is_some_and(|start| start >= since);
        if !is_recent && runs.len() >= HISTORY {
            break;
        }
        runs.push(with_last_words(run));
    }
    let Beats { first, mut recent } = beats(layout).map_err(unreadable)?;
    // Before anything ever happened here nothing was missed.
    let began = first
        .into_iter()
        .chain(runs.iter().filter_map(|run| run.start_time))
        .min();
    // What begins in its minute began at its fire.
    let began = began.unwrap_or(now) - TimeDelta::minutes(1);
    let due = due::due(world, settings, layout, since.max(began), now);
    let day = now - TimeDelta::days(1);
    recent.retain(|beat| *beat >= day.min(since) && *beat <= now);
    if recent.is_empty() {
        recent.extend(first);
    }
    let outbox = Outbox::new(layout);
    let waiting = outbox.pending().map_err(unreadable)?;
    let refused = outbox.refused().map_err(unreadable)?;
    let mut heard = heard(settings, notifier, layout, since, now)?;
    if let Heard::Since(_, told) = &mut heard {
        // Another configuration with this log root may tell of its runs elsewhere.
        let own = wiring::configuration(settings);
        let is_known = |run: &Record| settings.tasks.keys().any(|task| task.as_str() == run.task);
        let is_own = |run: &Record| match &run.notification.configuration {
            Some(configuration) => own == *configuration,
            None => is_known(run),
        };
        runs.iter()
            .filter(|run| !is_own(run))
            .for_each(|run| told.trust(run));
    }
    let (works, unasked) = works(settings, layout)?;
    let parking = |agent: &AgentName| Some((agent.clone(), parked::parked(layout, agent, now)?));
    Ok(Facts {
        now,
        since,
        fires: due.fires,
        unread: due.unread,
        new: due.new,
        works,
        unasked,
        runs,
        heard,
        parked: settings.agents.keys().filter_map(parking).collect(),
        waiting: waiting
            .iter()
            .map(|waiting| waiting.entry.created)
            .collect(),
        refused,
        beats: recent,
    })
}

/// The records of older runners say little of a failure; their transcripts end with it. A time limit
/// after which a transcript is empty was no work that took too long.
fn with_last_words(run: Run) -> Record {
    let mut record = run.record;
    let is_vague = matches!(record.outcome, Outcome::AgentError | Outcome::CommitMissing);
    let is_empty = || reader::is_transcript_empty(&run.directory);
    if record.runner_version.is_some() {
        return record;
    }
    if record.outcome == Outcome::Timeout && is_empty() {
        let fact = "its transcript is empty";
        record
            .evidence
            .push(Evidence::new(EvidenceSource::Agent, fact));
    } else if is_vague {
        let last = reader::last_line(&run.directory);
        let fact = last.map(|line| format!("its transcript ends with: {line}"));
        let evidence = fact.map(|fact| Evidence::new(EvidenceSource::Agent, fact));
        record.evidence.extend(evidence);
    }
    record
}

fn heard(
    settings: &Settings,
    notifier: Option<&Ntfy>,
    layout: &Layout,
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Heard, CliError> {
    let Some(notifier) = notifier else {
        return Ok(Heard::Off);
    };
    // What was told on another topic is not to be found on this one.
    let subject = wiring::subject("topic", settings);
    let place = iter::once(wiring::place(notifier));
    let known = look(layout, &subject, place, now).into_values().flatten();
    let proves = known.fold(since, DateTime::max);
    Ok(match wiring::block_on(notifier.heard(since))? {
        Ok(messages) => {
            let mut told = Told::default();
            for message in &messages {
                told.hear(message);
            }
            Heard::Since(proves, told)
        }
        Err(error) => Heard::Unknown(chain(&error)),
    })
}

/// The longest time for a queue to answer.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// Dispatched works that failed, and why a queue cannot be asked. No file is made by looking for one.
fn works(settings: &Settings, layout: &Layout) -> Result<(Vec<Work>, Vec<String>), CliError> {
    let (mut works, mut unasked) = (Vec::new(), Vec::new());
    let mut urls = match wiring::queue_url(settings, layout) {
        Ok(url) => {
            let local = wiring::local_queue(&url, layout);
            vec![url, local]
        }
        Err(error) => {
            unasked.push(error.brief());
            vec![wiring::own_queue(layout)]
        }
    };
    urls.dedup();
    urls.retain(|url| url.path().is_none_or(Path::exists));
    for url in &urls {
        let ask = async {
            let queue = Queue::open(url).await?;
            let failed = queue.failed().await;
            queue.close().await;
            failed
        };
        match wiring::block_on(async { tokio::time::timeout(QUEUE_LIMIT, ask).await })? {
            Ok(Ok(failed)) => works.extend(failed),
            Ok(Err(error)) => unasked.push(chain(&error)),
            Err(_elapsed) => {
                let limit = duration::words(QUEUE_LIMIT);
                unasked.push(format!("`{url}` does not answer within {limit}"));
            }
        }
    }
    Ok((works, unasked))
}

fn print(ui: &Ui, report: &Report) {
    let mut text = String::new();
    for (part, first, rest) in page(report) {
        text.push_str(&match part {
            Part::Plain => first,
            Part::Strong => ui.strong(&first),
            Part::Status(status) => ui.status(status, &first),
        });
        text.push_str(&rest);
        text.push('\n');
    }
    ui.data(&text);
}

fn json(report: &Report) -> Value {
    let time = |at: DateTime<Utc>| at.to_rfc3339();
    let rows: Vec<Value> = report
        .rows
        .iter()
        .map(|row| {
            json!({
                "status": row.status.as_str(),
                "at": time(row.at),
                "task": row.task,
                "agent": row.agent,
                "scheduled": row.scheduled,
                "run": row.run,
                "why": row.why,
            })
        })
        .collect();
    let failures: Vec<Value> = report.failures.iter().map(|failure| json!({
        "who": failure.who,
        "what": failure.what,
        "next": failure.step,
        "rows": failure.rows,
        "runs": failure.runs,
        "streak": failure.streak,
        "first_seen": failure.first_seen.map(time),
        "last_good_run": failure.last_good.as_ref().map(|(run, _)| run),
        "last_good_commit": failure.last_good.as_ref().and_then(|(_, commit)| commit.as_ref()),
        "cost_usd": failure.cost_usd,
        "tokens": failure.tokens,
        "fingerprint": failure.fingerprint(),
    })).collect();
    let works: Vec<Value> = report
        .works
        .iter()
        .map(|work| {
            json!({
                "origin": work.origin,
                "since": time(work.since),
                "attempts": work.attempts,
                "why": work.why,
                "retry_at": work.retry_at.map(time),
                "next": work.step,
            })
        })
        .collect();
    let remarks: Vec<Value> = report
        .remarks
        .iter()
        .map(|remark| {
            json!({
                "urgent": remark.urgent,
                "text": remark.text,
            })
        })
        .collect();
    json!({
        "now": time(report.now),
        "since": time(report.since),
        "something_to_do": report.needs_somebody(),
        "rows": rows,
        "failures": failures,
        "works": works,
        "remarks": remarks,
    })
}
