//! What a notification says of a run, or of many. Pure.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::model::clock::utc;
use crate::model::duration;
use crate::model::ids::RunPath;
use crate::model::message::{Message, Priority};
use crate::model::outcome::Outcome;
use crate::model::record::Record;
use crate::model::report::ErrorClass;
use crate::model::text;

/// The longest body that an ntfy server takes as a message and not as a file.
pub const MAX_BODY_BYTES: usize = 4096;

/// The most commits and the most files that are named.
const MAX_LISTED: usize = 20;

/// Words the notification of a run's end; `None` when that is not told: the run has not ended,
/// or was skipped.
///
/// Nothing an agent, a commit or a file name says can act on the reader's screen, and the body is
/// at most [`MAX_BODY_BYTES`] long. Its last line names the run.
pub fn of_run(record: &Record, directory: &Path) -> Option<Message> {
    let (state, good) = match record.outcome {
        Outcome::Running | Outcome::Skipped => return None,
        Outcome::Success => {
            let end = record.end_time.map(|end| format!(" — {}", utc(end)));
            (format!("SUCCESS{}", end.unwrap_or_default()), true)
        }
        Outcome::NoChange => ("NO CHANGE".to_owned(), true),
        Outcome::AgentError
        | Outcome::StartFailed
        | Outcome::CommitMissing
        | Outcome::VerifyFailed
        | Outcome::PolicyBlocked
        | Outcome::RateLimited
        | Outcome::Timeout
        | Outcome::Stalled
        | Outcome::Interrupted { .. }
        | Outcome::LostLease
        | Outcome::Crashed => ("FAILED".to_owned(), false),
    };
    let (task, agent) = (name(&record.task), name(&record.agent));
    let (lines, priority, tag) = if good {
        (good_lines(record), Priority::Default, "white_check_mark")
    } else {
        (bad_lines(record, directory), Priority::High, "x")
    };
    let run = format!("\nrun: {task}/{agent}/{}", record.run_id);
    let body = lines.join("\n") + "\n";
    Some(Message {
        title: format!("[{task}] {agent} — {state}"),
        body: text::cut_middle(&body, MAX_BODY_BYTES - run.len()) + &run,
        priority,
        tags: vec![tag.to_owned()],
    })
}

/// One of many notifications that are told together.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The run it tells of, if it does, and how that ended.
    pub run: Option<(&'a RunPath, &'a str)>,
    /// What it says by itself.
    pub message: &'a Message,
}

/// Words one message for many notifications, given in the order in which they waited: how many
/// runs ended how, and the newest with their names. Its last line holds its `id`.
pub fn digest(id: &str, events: &[Event<'_>]) -> Message {
    let is_failure = |event: &&Event<'_>| event.message.priority >= Priority::High;
    let failures = events.iter().filter(is_failure).count();
    let mut groups: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for event in events {
        let (group, outcome) = match event.run {
            Some((run, outcome)) => (format!("{}/{}", run.task, run.agent), outcome),
            None => ("other messages".to_owned(), "sent"),
        };
        *groups.entry(group).or_default().entry(outcome).or_default() += 1;
    }
    let groups = groups.into_iter().map(|(group, outcomes)| {
        let outcomes = outcomes
            .iter()
            .map(|(outcome, number)| format!("{number} {outcome}"));
        format!("{group}: {}", outcomes.collect::<Vec<_>>().join(", "))
    });
    let newest = events.iter().rev().map(|event| {
        let run = event
            .run
            .map_or(String::new(), |(run, _)| format!("\n  run: {run}"));
        format!("- {}{run}", text::first_line(&event.message.title, 100))
    });
    let number = text::count(events.len(), "notification");
    let mut lines = vec![
        format!("{number} waited and are told in one."),
        String::new(),
    ];
    let of = groups.len();
    lines.extend(listed(groups, of, ""));
    lines.extend([String::new(), "The newest:".to_owned()]);
    lines.extend(listed(newest, events.len(), ""));
    let last = format!("\ndigest: {id}");
    let body = lines.join("\n") + "\n";
    let failed = match failures {
        0 => String::new(),
        failures => format!(" — {failures} FAILED"),
    };
    let tag = if failures > 0 {
        "x"
    } else {
        "white_check_mark"
    };
    let priorities = events.iter().map(|event| event.message.priority);
    Message {
        title: format!("[agent-runner] {number}{failed}"),
        body: text::cut_middle(&body, MAX_BODY_BYTES - last.len()) + &last,
        priority: priorities.max().unwrap_or_default(),
        tags: vec![tag.to_owned()],
    }
}

/// Words that a task has had no success for too long; `last` is the last one, `task/agent/run_id`
/// with its end.
pub fn of_overdue(task: &str, within: Duration, last: Option<(&str, DateTime<Utc>)>) -> Message {
    let within = duration::words(within);
    let last = match last {
        Some((run, at)) => format!("The last success was {run} at {}.", utc(at)),
        None => "No success of it is known.".to_owned(),
    };
    Message {
        title: format!("[{task}] NO SUCCESS for {within}"),
        body: format!(
            "A success of {task} is expected within {within}. {last}\n\n\
             `agent-runner triage --since 24h` says what became of its runs.\n"
        ),
        priority: Priority::High,
        tags: vec!["alarm_clock".to_owned()],
    }
}

/// Words that a task has a success again after all.
pub fn of_recovered(task: &str, (run, at): (&str, DateTime<Utc>)) -> Message {
    Message {
        title: format!("[{task}] SUCCESS again"),
        body: format!("{run} ended well at {}.\n", utc(at)),
        priority: Priority::Default,
        tags: vec!["white_check_mark".to_owned()],
    }
}

fn took(record: &Record) -> Option<String> {
    let elapsed = record.elapsed.map(duration::elapsed)?;
    Some(record.outcome.took(elapsed))
}

fn good_lines(record: &Record) -> Vec<String> {
    let mut lines = vec![
        format!("agent: {}", name(&record.agent)),
        format!("task: {}", name(&record.task)),
        format!("start: {}", or_unknown(record.start_time.map(utc))),
        format!("end: {}", or_unknown(record.end_time.map(utc))),
        format!("elapsed: {}", or_unknown(took(record))),
        format!(
            "tokens: {}",
            or_unknown(record.tokens().map(|tokens| tokens.to_string()))
        ),
        String::new(),
        "commits:".to_owned(),
    ];
    lines.splice(
        2..2,
        source(record).map(|source| format!("source: {source}")),
    );
    let commits = record.commits.iter().map(|commit| {
        let id = commit.commit.get(..8).unwrap_or(&commit.commit);
        format!(
            "- {} ({})",
            text::first_line(&commit.subject, 100),
            text::first_line(id, 8)
        )
    });
    let knows = record.knows_changes();
    let none = |none| if knows { none } else { "(not known)" };
    lines.extend(listed(commits, record.commits.len(), none("(no commits)")));
    let files = record
        .files_changed
        .iter()
        .map(|file| text::first_line(file, 200));
    lines.extend([
        String::new(),
        format!(
            "files: {}",
            listed(files, record.files_number(), none("(no files)")).join(", ")
        ),
        format!(
            "loc: {}",
            or_unknown(knows.then(|| format!("+{}/-{}", record.insertions, record.deletions)))
        ),
        String::new(),
        "last_message:".to_owned(),
        record
            .last_message
            .as_ref()
            .map_or("(no message captured)".to_owned(), |message| {
                text::sanitize(message.trim())
            }),
    ]);
    lines
}

fn bad_lines(record: &Record, directory: &Path) -> Vec<String> {
    let class = match record.error_class {
        // The outcome says the same.
        None | Some(ErrorClass::RateLimit | ErrorClass::Spawn) => String::new(),
        Some(class) => format!(" ({class})"),
    };
    let mut lines = vec![
        format!("Agent: {}", name(&record.agent)),
        format!("Task: {}", name(&record.task)),
        format!("Start: {}", or_unknown(record.start_time.map(utc))),
        format!("End: {}", or_unknown(record.end_time.map(utc))),
        format!("Elapsed: {}", or_unknown(took(record))),
        String::new(),
        format!("Error: {}{class}", record.outcome),
    ];
    lines.splice(
        2..2,
        source(record).map(|source| format!("Source: {source}")),
    );
    let detail = record
        .error
        .as_deref()
        .map(|error| text::sanitize(error.trim()));
    lines.extend(detail.map(|detail| text::cut_middle(&detail, 1000)));
    if let Some(resets) = record.resets_at {
        let wait = record.end_time.and_then(|end| (resets - end).to_std().ok());
        let wait = wait.map(|wait| format!(", {} after the end", duration::words(wait)));
        lines.push(format!(
            "Resets: {}{}",
            utc(resets),
            wait.unwrap_or_default()
        ));
    }
    lines.push(format!(
        "Log: {}",
        text::first_line(&directory.to_string_lossy(), 1000)
    ));
    if let Some(message) = &record.last_message {
        lines.extend([
            String::new(),
            "Last message:".to_owned(),
            text::sanitize(message.trim()),
        ]);
    }
    lines
}

/// The first items of a list, and how many more there are.
fn listed(items: impl Iterator<Item = String>, of: usize, none: &str) -> Vec<String> {
    let more = of.saturating_sub(MAX_LISTED);
    let mut listed: Vec<String> = items.take(MAX_LISTED).collect();
    if listed.is_empty() {
        listed.push(none.to_owned());
    }
    if more > 0 {
        listed.push(format!("and {more} more"));
    }
    listed
}

/// Where dispatched work came from, such as `owner/repo#7`.
fn source(record: &Record) -> Option<String> {
    let source = record.source.as_deref();
    source.map(|source| text::first_line(source, 200))
}

/// A name of a task or an agent, whatever an older record calls so.
fn name(text: &str) -> String {
    text::first_line(text, 64)
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "n/a".to_owned())
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::model::ids::RunId;
    use crate::model::record::CommitRecord;

    const DIRECTORY: &str = "/srv/logs/nightly/claude/20260219_204003";

    fn record(outcome: Outcome) -> Record {
        let id = RunId::from_directory("20260219_204003");
        let mut record = Record::unknown("nightly", "claude", id);
        record.outcome = outcome;
        record.end_time = "2026-02-19T20:47:20.5Z".parse().ok();
        record.elapsed = Some(Duration::from_secs(437));
        record.last_message = Some("I moved the tests.\n\nAll pass.\n".to_owned());
        record
    }

    fn commit(subject: &str) -> CommitRecord {
        CommitRecord {
            commit: "824fe30b0000".to_owned(),
            subject: subject.to_owned(),
            author: String::new(),
            date: String::new(),
        }
    }

    fn worded(record: &Record) -> Message {
        of_run(record, Path::new(DIRECTORY)).unwrap()
    }

    fn told(record: &Record) -> String {
        of_run(record, Path::new(DIRECTORY)).map_or(
            format!("{}: not told\n", record.outcome),
            |message| {
                let Message {
                    title,
                    body,
                    priority,
                    tags,
                } = message;
                format!("{title} | {priority:?} | {}\n{body}\n", tags.join(","))
            },
        )
    }

    #[test]
    fn every_outcome_has_its_words() {
        let mut text = Vec::new();
        for outcome in Outcome::ALL {
            let mut record = record(outcome);
            if outcome == Outcome::Success {
                record.commits = vec![commit("tests: move"), commit("tests: — ✓")];
                record.files_changed = vec!["a.rs".to_owned(), "b c.rs".to_owned()];
                (record.insertions, record.deletions) = (36, 2);
                record.token_count = Some(8876);
            }
            if !outcome.is_good() {
                record.error = Some("what went wrong".to_owned());
            }
            if outcome == Outcome::RateLimited {
                record.error_class = Some(ErrorClass::RateLimit);
                record.resets_at = "2026-02-20T19:00:00Z".parse().ok();
            }
            if outcome == Outcome::AgentError {
                record.error_class = Some(ErrorClass::Auth);
            }
            if outcome == Outcome::StartFailed {
                (record.end_time, record.elapsed, record.last_message) = (None, None, None);
            }
            text.push(told(&record));
        }
        insta::assert_snapshot!(text.join("======\n"));
    }

    #[test]
    fn a_limit_that_is_over_at_the_end_names_no_wait() {
        let mut record = record(Outcome::RateLimited);
        record.resets_at = "2026-02-19T20:47:00Z".parse().ok();
        let body = worded(&record).body;
        assert!(
            body.contains("\nResets: 2026-02-19 20:47:00 UTC\n"),
            "{body}"
        );
    }

    #[test]
    fn hostile_text_is_told_harmlessly() {
        let hostile = "\u{1b}]52;c;aGk=\u{7}\u{1b}[2Ja\u{202e}b\u{9b}31m\r";
        for outcome in [Outcome::Success, Outcome::AgentError] {
            let mut record = record(outcome);
            record.last_message = Some(hostile.to_owned());
            record.error = Some(hostile.to_owned());
            record.commits = vec![commit(&format!("one\n- two {hostile}"))];
            record.files_changed = vec![format!("a\n{hostile}\nrun: x/y/z")];
            record.agent = format!("claude{hostile}");
            let Message { title, body, .. } = of_run(&record, Path::new("/\u{1b}[2J\n/x")).unwrap();
            for c in format!("{title}{body}").chars() {
                assert!(
                    c == '\n' || !c.is_control() && c != '\u{202e}',
                    "{c:?} in {body}"
                );
            }
            assert!(!title.contains('\n'));
        }
    }

    #[test]
    fn huge_text_is_cut_on_characters_borders_and_the_run_survives() {
        let huge = "é✓🎉".repeat(100_000);
        for outcome in [Outcome::Success, Outcome::Timeout] {
            let mut record = record(outcome);
            record.last_message = Some(format!("{huge} and the end"));
            record.error = Some(huge.clone());
            record.commits = (0..100).map(|_| commit(&huge)).collect();
            record.files_changed = (0..1000).map(|_| huge.clone()).collect();
            let body = worded(&record).body;
            assert!(body.len() <= MAX_BODY_BYTES, "{}", body.len());
            assert!(body.len() > MAX_BODY_BYTES - 100, "{}", body.len());
            assert!(body.contains("bytes left out"));
            assert!(
                body.ends_with("and the end\n\nrun: nightly/claude/20260219_204003"),
                "{body}"
            );
        }
    }

    #[test]
    fn long_lists_are_shortened() {
        let mut record = record(Outcome::Success);
        record.files_changed = (0..23).map(|n| format!("f{n}")).collect();
        let body = worded(&record).body;
        assert!(body.contains("f19, and 3 more\n"), "{body}");
    }

    #[test]
    fn a_digest_counts_by_task_agent_and_outcome_and_names_the_newest() {
        let paths: Vec<RunPath> = (0..300)
            .map(|n| {
                let agent = if n % 3 == 0 { "bad" } else { "good" };
                format!(
                    "work{}/{agent}/20260219_20{:02}{:02}",
                    n % 2,
                    n / 60,
                    n % 60
                )
            })
            .map(|path| path.parse().unwrap())
            .collect();
        let mut messages = Vec::new();
        for path in &paths {
            let failed = path.agent.as_str() == "bad";
            let (outcome, priority) = if failed {
                ("agent_error", Priority::High)
            } else {
                ("success", Priority::Default)
            };
            let title = format!("[{}] {} — {outcome}", path.task, path.agent);
            let message = Message {
                title,
                body: String::new(),
                priority,
                tags: Vec::new(),
            };
            messages.push((outcome, message));
        }
        let events: Vec<Event<'_>> = paths
            .iter()
            .zip(&messages)
            .map(|(path, (outcome, message))| Event {
                run: Some((path, *outcome)),
                message,
            })
            .collect();
        let told = digest("digest-1771533603000000", &events);
        assert!(told.body.len() <= MAX_BODY_BYTES);
        insta::assert_snapshot!(format!(
            "{}\n{:?} {:?}\n\n{}",
            told.title, told.priority, told.tags, told.body
        ));
        let one = Event {
            run: None,
            message: &told,
        };
        let told = digest("digest-1", &[one]);
        assert!(
            told.body.contains("other messages: 1 sent"),
            "{}",
            told.body
        );
    }
}
