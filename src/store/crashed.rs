//! What is known of a run whose runner died: when and where it was last seen.

use std::fs;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::text;
use crate::regular::read_end;
use crate::store::layout::RunDirectory;

/// The record of a run whose runner died, with its last sign of life as its end.
pub(crate) fn crashed(mut record: Record, directory: &RunDirectory) -> Record {
    record.outcome = Outcome::Crashed;
    record.exit_code = None;
    record.end_time = last_sign_of_life(directory);
    let last = last_event(directory);
    record.elapsed = lasted(&record, directory, last.as_ref());
    let phase = last.map_or_else(
        || "no event of the agent".to_owned(),
        |event| describe_event(&event),
    );
    let fact =
        format!("the run has begun and not ended, and its runner is gone; last seen: {phase}");
    record
        .evidence
        .push(Evidence::new(EvidenceSource::Runner, fact));
    record.error = Some("the runner died during the run".to_owned());
    record
}

/// How long a run lasted until its last sign of life: until its last event, whose time follows no
/// clock that is set, and by the times of the files from there on.
fn lasted(record: &Record, directory: &RunDirectory, last: Option<&Value>) -> Option<Duration> {
    let (start, end) = record.start_time.zip(record.end_time)?;
    let until_event = || {
        let event: DateTime<Utc> = last?["time"].as_str()?.parse().ok()?;
        let silence = end - modified(&directory.events())?;
        Some(event - start + silence)
    };
    until_event().unwrap_or(end - start).to_std().ok()
}

fn last_sign_of_life(directory: &RunDirectory) -> Option<DateTime<Utc>> {
    let files = [
        directory.metadata(),
        directory.transcript(),
        directory.events(),
        directory.runner_log(),
    ];
    files.iter().filter_map(|file| modified(file)).max()
}

fn modified(file: &Path) -> Option<DateTime<Utc>> {
    let modified = fs::symlink_metadata(file).ok()?.modified().ok()?;
    Some(modified.into())
}

/// What the run's events end with.
fn last_event(directory: &RunDirectory) -> Option<Value> {
    /// Longer than any line but a rare message, of which the line before serves as well.
    const TAIL_BYTES: u64 = 8 * 1024;
    let tail = read_end(&directory.events(), TAIL_BYTES).ok()?;
    tail.split(|byte| *byte == b'\n')
        .rev()
        .find_map(|line| serde_json::from_slice(line).ok())
}

/// An event in a few words: `started (process 7) at 2026-…`.
fn describe_event(last: &Value) -> String {
    let field = |name: &str| last[name].as_str().unwrap_or_default();
    let what = if field("type") == "lifecycle" {
        field("phase")
    } else {
        field("type")
    };
    let detail = [
        field("detail"),
        field("name"),
        field("text"),
        field("message"),
    ];
    let detail = detail.into_iter().find(|detail| !detail.is_empty());
    let detail = detail.map(|detail| format!(" ({})", text::first_line(detail, 80)));
    let detail = detail.unwrap_or_default();
    format!("{what}{detail} at {}", field("time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reader::read_run;
    use crate::store::testing::{begun, folder, log_root, plant};

    #[test]
    fn a_clock_that_was_set_does_not_change_how_long_a_crashed_run_lasted() {
        let (_root, layout) = log_root();
        let dead = folder(&layout);
        let (run, events) = (dead.run().clone(), dead.directory().events());
        dead.begin(&begun(&run)).unwrap();
        let event = r#"{"time":"2026-02-19T21:41:33+01:00","type":"lifecycle","phase":"started"}"#;
        plant(&events, format!("{event}\n").as_bytes());
        drop(dead);
        // By the times of the files it lasted till today.
        let record = read_run(&layout, run).record;
        assert_eq!(record.outcome, Outcome::Crashed);
        let lasted = record.elapsed.unwrap().as_secs();
        assert!((90..600).contains(&lasted), "{lasted}");
    }
}
