//! The form of a record on disk (`metadata.json`) and of an event (`events.jsonl`).
//!
//! A record is written by one straight function and read field by field: whatever is missing,
//! unknown or of a wrong type costs that field and nothing else. So older and newer records are
//! read, and those of the Python program that came before:
//!
//! ```json
//! {
//!   "agent": "kilo",
//!   "classified_error": "timeout",
//!   "error": "Agent kilo timed out after 900s for task nightly",
//!   "exit_code": null,
//!   "requires_commit": true,
//!   "run_id": "20260219_112003",
//!   "task": "nightly"
//! }
//! ```

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::model::event::{AgentEvent, Count, MessagePart};
use crate::model::ids::RunPath;
use crate::model::outcome::Outcome;
use crate::model::record::{
    CommitRecord, Evidence, EvidenceSource, NotificationRecord, NotificationState, Record,
};
use crate::model::report::{ErrorClass, MAX_MESSAGE_BYTES, Usage};
use crate::model::reset::ResetHint;
use crate::model::text;

/// The version of the form that [`write()`] writes.
pub const SCHEMA_VERSION: u32 = 1;

/// Writes a record: keys sorted, two spaces, a line feed at the end.
pub fn write(record: &Record) -> String {
    format!("{:#}\n", value(record))
}

/// Writes a record as one line, with its line feed.
pub fn write_line(record: &Record) -> String {
    format!("{}\n", value(record))
}

fn value(record: &Record) -> Value {
    let fields = [
        ("agent", json!(record.agent)),
        ("agent_exit_code", json!(record.agent_exit_code)),
        ("agent_signal", json!(record.agent_signal)),
        ("agent_version", json!(record.agent_version)),
        (
            "binary",
            json!(record.binary.as_ref().map(|path| path.to_string_lossy())),
        ),
        ("boot_id", json!(record.boot_id)),
        ("branch", json!(record.branch)),
        ("classified_error", json!(record.classified_error())),
        ("commits", record.commits.iter().map(commit).collect()),
        ("containment", json!(record.containment)),
        ("cost_usd", json!(record.cost_usd)),
        ("cpu_seconds", seconds(record.cpu)),
        ("debug_prompt", json!(record.debug_prompt)),
        ("deletions", json!(record.deletions)),
        ("dirty_after", json!(record.dirty_after)),
        ("dry_run", json!(record.dry_run)),
        ("elapsed_seconds", seconds(record.elapsed)),
        ("end_time", moment(record.end_time)),
        ("error", json!(record.error)),
        (
            "error_class",
            json!(record.error_class.map(ErrorClass::as_str)),
        ),
        ("evidence", record.evidence.iter().map(evidence).collect()),
        ("exit_code", json!(record.exit_code)),
        ("files_changed", json!(record.files_changed)),
        ("files_changed_dropped", json!(record.files_changed_dropped)),
        ("head_after", json!(record.head_after)),
        ("head_before", json!(record.head_before)),
        ("host", json!(record.host)),
        ("insertions", json!(record.insertions)),
        ("last_message", json!(record.last_message)),
        ("leaked_output", json!(record.leaked_output)),
        ("max_rss_bytes", json!(record.max_rss_bytes)),
        ("model", json!(record.model)),
        ("notification", notification(&record.notification)),
        ("outcome", json!(record.outcome.as_str())),
        ("output_bytes", json!(record.output_bytes)),
        ("output_dropped_bytes", json!(record.output_dropped_bytes)),
        ("pid", json!(record.pid)),
        ("previous_run", json!(record.previous_run)),
        ("prompt_sha256", json!(record.prompt_sha256)),
        ("requires_commit", json!(record.requires_commit)),
        ("resets_at", moment(record.resets_at)),
        ("retryable", json!(record.retryable())),
        ("run_id", json!(record.run_id.as_str())),
        ("runner_version", json!(record.runner_version)),
        ("schema_version", json!(SCHEMA_VERSION)),
        ("session_id", json!(record.session_id)),
        ("source", json!(record.source)),
        ("stall_timeout_seconds", seconds(record.stall_timeout)),
        ("start_time", moment(record.start_time)),
        ("survivors_killed", json!(record.survivors_killed)),
        ("task", json!(record.task)),
        ("timeout_seconds", seconds(record.timeout)),
        ("token_count", json!(record.tokens())),
        ("turns", json!(record.turns)),
        ("usage", usage(&record.usage)),
    ];
    fields
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Whether a text is a record: of this program or of one before it, which all named their run.
pub(crate) fn is_record(bytes: &[u8]) -> bool {
    let fields = serde_json::from_slice::<Map<String, Value>>(bytes);
    fields.is_ok_and(|fields| {
        let is_text = |name| fields.get(name).is_some_and(Value::is_string);
        ["run_id", "agent", "task"].into_iter().all(is_text)
    })
}

/// Reads a record. Its identity is that of the place where it lies, whatever it says itself.
///
/// # Errors
/// Only when the text is no JSON object.
pub fn read(bytes: &[u8], run: &RunPath) -> Result<Record, serde_json::Error> {
    let mut fields = Fields(serde_json::from_slice(bytes)?);
    let mut record = Record::unknown(run.task.as_str(), run.agent.as_str(), run.run_id.clone());
    record.start_time = fields.moment("start_time").or(record.start_time);
    record.end_time = fields.moment("end_time");
    record.elapsed = fields.seconds("elapsed_seconds");
    record.exit_code = fields.take("exit_code");
    record.agent_exit_code = fields.take("agent_exit_code");
    record.agent_signal = fields.take("agent_signal");
    record.last_message = fields.take("last_message");
    record.commits = fields.objects("commits", |commit| {
        Some(CommitRecord {
            commit: commit.take("commit")?,
            subject: commit.take("subject").unwrap_or_default(),
            author: commit.take("author").unwrap_or_default(),
            date: commit.take("date").unwrap_or_default(),
        })
    });
    record.files_changed = fields.take("files_changed").unwrap_or_default();
    record.files_changed_dropped = fields.take("files_changed_dropped").unwrap_or_default();
    record.insertions = fields.take("insertions").unwrap_or(0);
    record.deletions = fields.take("deletions").unwrap_or(0);
    record.debug_prompt = fields.take("debug_prompt");
    record.dry_run = fields.take("dry_run").unwrap_or(false);
    record.requires_commit = fields.take("requires_commit");
    record.error = fields.take("error");
    record.error_class = fields.name("error_class", ErrorClass::from_name);
    record.resets_at = fields.moment("resets_at");
    record.model = fields.take("model");
    record.session_id = fields.take("session_id");
    record.usage = fields
        .object("usage")
        .map_or_else(Usage::default, |mut usage| Usage {
            input_tokens: usage.take("input_tokens"),
            cached_input_tokens: usage.take("cached_input_tokens"),
            output_tokens: usage.take("output_tokens"),
            reasoning_tokens: usage.take("reasoning_tokens"),
        });
    // The sum of `usage` is not kept twice.
    record.token_count = fields
        .take("token_count")
        .filter(|_sum| record.usage.total().is_none());
    record.cost_usd = fields.take("cost_usd");
    record.turns = fields.take("turns");
    record.evidence = fields.objects("evidence", |evidence| {
        let source = evidence.name("source", |name| {
            EvidenceSource::ALL
                .into_iter()
                .find(|source| source.as_str() == name)
        });
        let fact: String = evidence.take("fact")?;
        Some(Evidence::new(
            source.unwrap_or(EvidenceSource::Runner),
            fact,
        ))
    });
    record.head_before = fields.take("head_before");
    record.head_after = fields.take("head_after");
    record.branch = fields.take("branch");
    record.dirty_after = fields.take("dirty_after");
    record.source = fields.take("source");
    record.previous_run = fields.take("previous_run");
    record.timeout = fields.seconds("timeout_seconds");
    record.stall_timeout = fields.seconds("stall_timeout_seconds");
    record.binary = fields.take::<String>("binary").map(PathBuf::from);
    record.agent_version = fields.take("agent_version");
    record.prompt_sha256 = fields.take("prompt_sha256");
    record.containment = fields.take("containment");
    record.survivors_killed = fields.take("survivors_killed");
    record.leaked_output = fields.take("leaked_output");
    record.max_rss_bytes = fields.take("max_rss_bytes");
    record.cpu = fields.seconds("cpu_seconds");
    record.output_bytes = fields.take("output_bytes");
    record.output_dropped_bytes = fields.take("output_dropped_bytes");
    record.host = fields.take("host");
    record.pid = fields.take("pid");
    record.boot_id = fields.take("boot_id");
    record.runner_version = fields.take("runner_version");
    if let Some(mut notification) = fields.object("notification") {
        let named = |name: &str| {
            NotificationState::ALL
                .into_iter()
                .find(|state| state.as_str() == name)
        };
        record.notification = NotificationRecord {
            state: notification.name("state", named).unwrap_or_default(),
            id: notification.take("id"),
            attempts: notification.take("attempts").unwrap_or(0),
            delivered_at: notification.moment("delivered_at"),
            configuration: notification.take("configuration"),
        };
    }
    let outcome: Option<String> = fields.take("outcome");
    let classified: Option<String> = fields.take("classified_error");
    let is_ours = fields.value("schema_version").is_some();
    match outcome {
        Some(name) => conclude_by_name(&mut record, &name),
        // Only the program before named none; this one's is damaged.
        None if is_ours && record.exit_code == Some(0) => conclude_by_name(&mut record, "none"),
        None => conclude_original(&mut record, classified.as_deref()),
    }
    Ok(record)
}

/// Replaces what a record's text says of its notification and leaves all else as it is, also
/// what this version does not know. Whose run it is stays as it was noted, whoever delivers.
///
/// # Errors
/// Only when the text is no JSON object.
pub fn with_notification(
    bytes: &[u8],
    told: &NotificationRecord,
) -> Result<String, serde_json::Error> {
    let mut fields: Map<String, Value> = serde_json::from_slice(bytes)?;
    let mut told = notification(told);
    if let Some(noted) = fields
        .get("notification")
        .and_then(|old| old.get("configuration"))
    {
        told["configuration"] = noted.clone();
    }
    fields.insert("notification".to_owned(), told);
    Ok(format!("{:#}\n", Value::Object(fields)))
}

/// Writes an event of the agent as one line with its line feed.
pub fn event_line(time: DateTime<Utc>, event: &AgentEvent) -> String {
    let (kind, fields) = match event {
        AgentEvent::Session { id, model, version } => (
            "session",
            json!({"id": id, "model": model, "version": version}),
        ),
        AgentEvent::Message { text, part } => (
            "message",
            json!({"text": bounded(text), "continued": *part == MessagePart::Continued}),
        ),
        AgentEvent::ToolUse { name, detail } => (
            "tool_use",
            json!({"name": name, "detail": detail.as_deref().map(bounded)}),
        ),
        AgentEvent::ToolResult { failed } => ("tool_result", json!({"failed": failed})),
        AgentEvent::PermissionDenied { tool } => ("permission_denied", json!({"tool": tool})),
        AgentEvent::Turn => ("turn", json!({})),
        AgentEvent::Progress => ("progress", json!({})),
        AgentEvent::Usage {
            usage: tokens,
            count,
        } => (
            "usage",
            json!({"usage": usage(tokens), "total": *count == Count::Total}),
        ),
        AgentEvent::Cost { usd, count } => {
            ("cost", json!({"usd": usd, "total": *count == Count::Total}))
        }
        AgentEvent::Turns(turns) => ("turns", json!({"turns": turns})),
        AgentEvent::RateLimit { message, resets } => (
            "rate_limit",
            json!({"message": bounded(message), "resets": reset(resets.as_ref())}),
        ),
        AgentEvent::Retry { message, delay } => (
            "retry",
            json!({"message": bounded(message), "delay_seconds": seconds(*delay)}),
        ),
        AgentEvent::Warning { message } => ("warning", json!({"message": bounded(message)})),
        AgentEvent::Error(error) => (
            "error",
            json!({
                "class": error.class.as_str(),
                "message": bounded(&error.message),
                "resets": reset(error.resets.as_ref()),
            }),
        ),
        AgentEvent::Completed => ("completed", json!({})),
        AgentEvent::Other { kind } => ("other", json!({"kind": kind})),
    };
    line(time, kind, fields)
}

/// Writes a moment in the life of the agent's process as one line with its line feed.
///
/// `phase` is one word (`started`, `stopping`, `killed`, `paused`, `resumed`, `ended`, or `capped` of
/// the events themselves), `detail` what there is to say.
pub fn lifecycle_line(time: DateTime<Utc>, phase: &str, detail: &str) -> String {
    line(time, "lifecycle", json!({"phase": phase, "detail": detail}))
}

/// Writes how a check of the task ended as one line with its line feed. `how` is why it failed,
/// `output` what it printed last.
pub fn check_line(
    time: DateTime<Utc>,
    command: &str,
    how: Option<&str>,
    elapsed: Duration,
    output: &str,
) -> String {
    let took = seconds(Some(elapsed));
    line(
        time,
        "check",
        json!({"command": command, "failure": how, "seconds": took, "output": output}),
    )
}

fn line(time: DateTime<Utc>, kind: &str, mut fields: Value) -> String {
    fields["time"] = moment(Some(time));
    fields["type"] = json!(kind);
    format!("{fields}\n")
}

/// One event is never longer than a message may be; the transcript has the whole.
fn bounded(text: &str) -> String {
    text::cut_middle(text, MAX_MESSAGE_BYTES)
}

fn reset(hint: Option<&ResetHint>) -> Value {
    match hint {
        None => Value::Null,
        Some(ResetHint::At(time)) => moment(Some(*time)),
        Some(ResetHint::After(wait)) => json!({"after_seconds": seconds(Some(*wait))}),
        Some(ResetHint::WallClock { date, time, zone }) => json!({
            "date": date.map(|date| date.to_string()),
            "time": time.to_string(),
            "zone": zone.map(Tz::name),
        }),
    }
}

fn commit(commit: &CommitRecord) -> Value {
    json!({
        "author": commit.author,
        "commit": commit.commit,
        "date": commit.date,
        "subject": commit.subject,
    })
}

fn evidence(evidence: &Evidence) -> Value {
    json!({"fact": evidence.fact, "source": evidence.source.as_str()})
}

fn usage(usage: &Usage) -> Value {
    json!({
        "cached_input_tokens": usage.cached_input_tokens,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    })
}

fn notification(notification: &NotificationRecord) -> Value {
    json!({
        "attempts": notification.attempts,
        "configuration": notification.configuration,
        "delivered_at": moment(notification.delivered_at),
        "id": notification.id,
        "state": notification.state.as_str(),
    })
}

/// ISO 8601 in UTC to the microsecond, with `+00:00` as in the original records.
fn moment(time: Option<DateTime<Utc>>) -> Value {
    json!(time.map(|time| time.to_rfc3339_opts(SecondsFormat::Micros, false)))
}

/// Seconds as a number with a fraction, to the microsecond.
fn seconds(duration: Option<Duration>) -> Value {
    json!(duration.map(|duration| (duration.as_secs_f64() * 1e6).round() / 1e6))
}

/// The fields of an object, taken one by one; one that does not fit is as good as none.
struct Fields(Map<String, Value>);

impl Fields {
    fn value(&mut self, key: &str) -> Option<Value> {
        // Taken, not removed, which would rebuild the map for each field. Most that is missing is
        // null, and an error costs more than the value.
        let value = self.0.get_mut(key).map(Value::take);
        value.filter(|value| !value.is_null())
    }

    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Option<T> {
        serde_json::from_value(self.value(key)?).ok()
    }

    fn moment(&mut self, key: &str) -> Option<DateTime<Utc>> {
        let text: String = self.take(key)?;
        DateTime::parse_from_rfc3339(&text)
            .ok()
            .map(|time| time.to_utc())
    }

    fn seconds(&mut self, key: &str) -> Option<Duration> {
        Duration::try_from_secs_f64(self.take(key)?).ok()
    }

    fn name<T>(&mut self, key: &str, named: impl Fn(&str) -> Option<T>) -> Option<T> {
        named(&self.take::<String>(key)?)
    }

    fn object(&mut self, key: &str) -> Option<Self> {
        self.value(key).and_then(Self::of)
    }

    fn objects<T>(&mut self, key: &str, read: impl Fn(&mut Self) -> Option<T>) -> Vec<T> {
        let Some(Value::Array(values)) = self.value(key) else {
            return Vec::new();
        };
        let objects = values.into_iter().filter_map(Self::of);
        objects.filter_map(|mut fields| read(&mut fields)).collect()
    }

    fn of(value: Value) -> Option<Self> {
        if let Value::Object(fields) = value {
            Some(Self(fields))
        } else {
            None
        }
    }
}

fn conclude_by_name(record: &mut Record, name: &str) {
    record.outcome = Outcome::from_name(name, record.exit_code).unwrap_or_else(|| {
        let fact = format!("the record has an outcome that this version does not know: {name}");
        record
            .evidence
            .push(Evidence::new(EvidenceSource::Runner, fact));
        Outcome::AgentError
    });
}

/// What the records of the program before mean in our words. They have no outcome; a good one has
/// an exit code, a bad one an error.
fn conclude_original(record: &mut Record, classified: Option<&str>) {
    let error = record.error.as_deref().unwrap_or("");
    let not_started = ["Binary not found", "[Errno 2]", "[Errno 7]", "[Errno 13]"];
    let (outcome, class) = match (classified, error, record.exit_code) {
        (Some("usage_limit"), ..) => (Outcome::RateLimited, Some(ErrorClass::RateLimit)),
        (Some("timeout"), ..) => (Outcome::Timeout, None),
        (Some("connectivity"), ..) => (Outcome::AgentError, Some(ErrorClass::Network)),
        (None, "", Some(0)) => (Outcome::Success, None),
        (None, "", None) => (Outcome::Crashed, None),
        (_, error, _) if error.starts_with("No git commits detected") => {
            (Outcome::CommitMissing, None)
        }
        (_, error, _) if not_started.iter().any(|start| error.starts_with(start)) => {
            (Outcome::StartFailed, Some(ErrorClass::Spawn))
        }
        (..) => (Outcome::AgentError, Some(ErrorClass::Unknown)),
    };
    record.outcome = outcome;
    record.error_class = class;
    let fact = "the record is of an older program and names no outcome; \
                it was concluded from its exit code and error";
    record
        .evidence
        .push(Evidence::new(EvidenceSource::Runner, fact));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::report::AgentError;
    use crate::store::testing::{at, full_record, run_path, start};

    fn read_text(text: &str) -> Record {
        read(text.as_bytes(), &run_path("nightly/kilo/20260219_112003")).unwrap()
    }

    #[test]
    fn a_record_is_written_with_every_field_of_the_contract() {
        insta::assert_snapshot!(write(&full_record()));
    }

    #[test]
    fn keys_are_sorted_and_unknown_numbers_are_null() {
        let record = Record::unknown("t", "a", RunPath::clone(&run_path("t/a/test")).run_id);
        let text = write(&record);
        let keys: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("  \""))
            .collect();
        assert!(keys.is_sorted(), "{text}");
        for key in [
            "token_count",
            "cost_usd",
            "elapsed_seconds",
            "exit_code",
            "cpu_seconds",
        ] {
            assert!(text.contains(&format!("\"{key}\": null")), "{key}: {text}");
        }
        assert!(text.ends_with("}\n"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut record = full_record();
        for outcome in Outcome::ALL {
            record.outcome = outcome;
            record.exit_code = outcome.exit_code().map(i32::from);
            for class in [None, Some(ErrorClass::Network), Some(ErrorClass::Spawn)] {
                record.error_class = class;
                let run = run_path(&record.path());
                assert_eq!(read(write(&record).as_bytes(), &run).unwrap(), record);
            }
        }
        record.usage = Usage::default();
        record.token_count = Some(8876);
        record.cost_usd = None;
        record.elapsed = None;
        let run = run_path(&record.path());
        assert_eq!(read(write(&record).as_bytes(), &run).unwrap(), record);
    }

    #[test]
    fn the_original_failures_get_their_outcomes() {
        let original = |fields: &str| {
            let record = read_text(&format!(
                r#"{{"agent":"kilo","requires_commit":true,"task":"nightly",{fields}}}"#
            ));
            let class = record.error_class.map_or("", ErrorClass::as_str);
            format!("{} {class} {:?}", record.outcome, record.exit_code)
        };
        let error = |error: &str, class: &str| {
            original(&format!(
                r#""exit_code":null,"classified_error":{class},"error":"{error}""#
            ))
        };
        assert_eq!(
            original(r#""exit_code":0,"classified_error":null"#),
            "success  Some(0)"
        );
        assert_eq!(original(r#""exit_code":0"#), "success  Some(0)");
        assert_eq!(original(r#""exit_code":3"#), "agent_error unknown Some(3)");
        assert_eq!(original(r#""exit_code":null"#), "crashed  None");
        assert_eq!(
            error("Usage limit for x", r#""usage_limit""#),
            "rate_limited rate_limit None"
        );
        assert_eq!(
            error("timed out after 900s", r#""timeout""#),
            "timeout  None"
        );
        assert_eq!(
            error("no route", r#""connectivity""#),
            "agent_error network None"
        );
        assert_eq!(
            error("something new", r#""novel""#),
            "agent_error unknown None"
        );
        assert_eq!(
            error("No git commits detected during …", "null"),
            "commit_missing  None"
        );
        assert_eq!(
            error("Binary not found: /x", "null"),
            "start_failed spawn None"
        );
        assert_eq!(
            error("[Errno 13] Permission denied", "null"),
            "start_failed spawn None"
        );
        assert_eq!(
            error("[Errno 2] No such file", "null"),
            "start_failed spawn None"
        );
        assert_eq!(
            error("Agent kilo failed (exit=1)", "null"),
            "agent_error unknown None"
        );
    }

    #[test]
    fn an_original_without_times_has_the_start_of_its_name() {
        let record = read_text(r#"{"exit_code":null,"error":"x"}"#);
        assert_eq!(record.start_time, Some(at("2026-02-19T11:20:03Z")));
        assert_eq!(record.end_time, None);
        assert_eq!(record.elapsed, None);
        assert_eq!(record.tokens(), None);
    }

    #[test]
    fn a_field_of_a_wrong_type_costs_only_itself() {
        let record = read_text(
            r#"{"outcome":"success","exit_code":"zero","elapsed_seconds":-1,"insertions":1.5,
                "commits":[7,{"commit":"abc"},{"subject":"lost"}],"usage":[],"evidence":null,
                "start_time":"yesterday","notification":{"state":9,"attempts":2},"turns":4,
                "files_changed":"a","session_id":{"deep":[1]}}"#,
        );
        assert_eq!(record.outcome, Outcome::Success);
        assert_eq!(
            (record.exit_code, record.elapsed, record.insertions),
            (None, None, 0)
        );
        assert_eq!(record.commits.len(), 1);
        assert_eq!(record.notification.attempts, 2);
        assert_eq!(record.turns, Some(4));
    }

    #[test]
    fn a_newer_record_is_read_as_far_as_known_and_never_as_success() {
        let record = read_text(
            r#"{"schema_version":9,"outcome":"transcended","exit_code":0,"model":"m","new":1}"#,
        );
        assert_eq!(record.outcome, Outcome::AgentError);
        assert_eq!(record.model.as_deref(), Some("m"));
        assert!(record.evidence[0].fact.contains("transcended"));
    }

    #[test]
    fn a_record_cannot_claim_to_be_another_run() {
        let record =
            read_text(r#"{"task":"../..","agent":"x/y","run_id":"/etc","outcome":"success"}"#);
        assert_eq!(record.path(), "nightly/kilo/20260219_112003");
    }

    #[test]
    fn what_is_no_object_is_no_record() {
        let deep = "[".repeat(100_000);
        for text in [
            "",
            "{",
            "[]",
            "null",
            "{\"a\":1}}",
            "\u{feff}{}",
            deep.as_str(),
        ] {
            assert!(read(text.as_bytes(), &run_path("t/a/x")).is_err());
        }
    }

    #[test]
    fn a_changed_notification_leaves_unknown_fields() {
        let told = NotificationRecord {
            state: NotificationState::Refused,
            ..NotificationRecord::default()
        };
        let text = with_notification(br#"{"new":[1],"outcome":"success"}"#, &told).unwrap();
        let record = read_text(&text);
        assert!(text.contains("\"new\": ["), "{text}");
        assert_eq!(record.notification, told);
    }

    #[test]
    fn every_event_is_one_line_of_json() {
        let usage = Usage {
            input_tokens: Some(3),
            ..Usage::default()
        };
        let message = |text: &str| AgentEvent::Message {
            text: text.to_owned(),
            part: MessagePart::Continued,
        };
        let mut error = AgentError::new(ErrorClass::RateLimit, "limit");
        error.resets = Some(ResetHint::At(start()));
        let events = [
            AgentEvent::Session {
                id: Some("s".to_owned()),
                model: None,
                version: None,
            },
            message("two\nlines \u{1b}[2J"),
            AgentEvent::ToolUse {
                name: "Bash".to_owned(),
                detail: Some("ls".to_owned()),
            },
            AgentEvent::ToolResult { failed: true },
            AgentEvent::PermissionDenied {
                tool: "Bash".to_owned(),
            },
            AgentEvent::Turn,
            AgentEvent::Usage {
                usage,
                count: Count::Total,
            },
            AgentEvent::Cost {
                usd: 0.5,
                count: Count::More,
            },
            AgentEvent::Turns(3),
            AgentEvent::RateLimit {
                message: "wait".to_owned(),
                resets: Some(ResetHint::After(Duration::from_secs(60))),
            },
            AgentEvent::Retry {
                message: "again".to_owned(),
                delay: None,
            },
            AgentEvent::Warning {
                message: "old".to_owned(),
            },
            AgentEvent::Error(error),
            AgentEvent::Completed,
            AgentEvent::Other {
                kind: "x".to_owned(),
            },
        ];
        let mut text: String = events
            .iter()
            .map(|event| event_line(start(), event))
            .collect();
        text.push_str(&lifecycle_line(start(), "started", "pid 7"));
        insta::assert_snapshot!(text);
        for line in text.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        assert!(event_line(start(), &message(&"x".repeat(1 << 20))).len() < 2 * MAX_MESSAGE_BYTES);
    }

    #[test]
    fn a_record_that_lost_its_outcome_is_no_success() {
        let skipped = |fields: &str| read_text(&format!("{{{fields}\"exit_code\":0}}")).outcome;
        assert_eq!(skipped(r#""schema_version":1,"#), Outcome::AgentError);
        assert_eq!(
            skipped(r#""schema_version":1,"outcome":[],"#),
            Outcome::AgentError
        );
        assert_eq!(skipped(""), Outcome::Success);
    }

    fn nothing_of_use() -> impl Strategy<Value = Value> {
        prop::sample::select(vec![
            json!(null),
            json!([[]]),
            json!([[{}]]),
            json!({"x": []}),
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn a_value_of_a_wrong_kind_costs_its_field_and_nothing_else(
            field in any::<prop::sample::Index>(),
            wrong in nothing_of_use(),
        ) {
            let mut fields = value(&full_record()).as_object().unwrap().clone();
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = field.get(&keys);
            fields.remove(key);
            let without = read_text(&Value::Object(fields.clone()).to_string());
            fields.insert(key.clone(), wrong);
            prop_assert_eq!(read_text(&Value::Object(fields).to_string()), without, "{}", key);
        }

        #[test]
        fn a_record_that_is_damaged_anywhere_is_read_without_a_panic_and_a_bad_one_never_as_a_success(
            outcome in prop::sample::select(Outcome::ALL.to_vec()),
            damages in prop::collection::vec((any::<prop::sample::Index>(), b' '..=b'~'), 1..8),
            end in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut record = full_record();
            record.outcome = outcome;
            record.exit_code = outcome.exit_code().map(i32::from);
            let mut bytes = write(&record).into_bytes();
            for (place, byte) in damages {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.truncate(end.map_or(usize::MAX, |end| end.index(bytes.len())));
            if let Ok(read) = read(&bytes, &run_path("nightly/claude/20260219_204003")) {
                let is_success = read.outcome == Outcome::Success;
                prop_assert!(!is_success || outcome.is_good(), "{}", outcome);
                prop_assert_eq!(read.path(), "nightly/claude/20260219_204003");
            }
        }
    }
}
