//! What went wrong with older runners, as trees of files: a log root, a crontab, the heartbeat's log
//! and a real notification server, and what `triage` has to say of each.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use agent_runner::model::ids::{AgentName, RunId, TaskName};
use agent_runner::model::outcome::Outcome;
use agent_runner::model::record::{CommitRecord, NotificationState, Record};
use agent_runner::model::report::ErrorClass;
use agent_runner::store::format;
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use serde_json::{Value, json};

use crate::real::http;
use crate::real::ntfy_server::NtfyServer;
use crate::support::TestEnv;

/// What a run left.
enum Left {
    /// No directory at all.
    Nothing,
    /// The record of an older runner and its transcript.
    Original(Value, &'static [u8]),
    /// A directory without a record.
    Bare(&'static [(&'static str, &'static str)]),
    /// A record of ours; whether its notification reached the server.
    Ours(Box<Record>, Heard),
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Heard {
    Yes,
    No,
}

/// A scheduled start, what it left, and what is to be said of it.
struct Case {
    task: String,
    agent: &'static str,
    left: Left,
    status: &'static str,
    why: &'static str,
    next: &'static str,
}

/// The minute of every start but those in the gap of the heartbeat.
struct Day {
    now: DateTime<Utc>,
    due: DateTime<Utc>,
    cases: Vec<Case>,
}

impl Day {
    fn add(&mut self, row: &str, agent: &'static str, left: Left, said: [&'static str; 3]) {
        let [status, why, next] = said;
        let task = row.to_owned();
        self.cases.push(Case {
            task,
            agent,
            left,
            status,
            why,
            next,
        });
    }

    /// A run of ours that ended so, and of which a person heard.
    fn ours(&mut self, row: &str, outcome: Outcome, error: &str, said: [&'static str; 3]) {
        self.changed(row, outcome, error, Heard::Yes, |_| {}, said);
    }

    fn changed(
        &mut self,
        row: &str,
        outcome: Outcome,
        error: &str,
        heard: Heard,
        change: impl FnOnce(&mut Record),
        said: [&'static str; 3],
    ) {
        let start = self.due + TimeDelta::seconds(3);
        let agent: AgentName = "claude".parse().unwrap();
        let task: TaskName = row.parse().unwrap();
        let mut record = Record::begun(&task, &agent, id(start), start);
        record.outcome = outcome;
        record.runner_version = Some("0.1.0".to_owned());
        record.timeout = Some(Duration::from_mins(15));
        record.error = (!error.is_empty()).then(|| error.to_owned());
        if outcome.is_final() {
            record.elapsed = Some(Duration::from_mins(2));
            record.end_time = Some(start + TimeDelta::minutes(2));
            record.notification.state = NotificationState::Delivered;
            record.notification.delivered_at = record.end_time;
        }
        change(&mut record);
        self.add(row, "claude", Left::Ours(Box::new(record), heard), said);
    }

    /// A failed run of an older runner.
    fn original(&mut self, row: &str, error: &str, said: [&'static str; 3]) {
        let record = json!({"error": error, "exit_code": null, "classified_error": "unknown"});
        self.add(row, "claude", Left::Original(record, b"...\n"), said);
    }

    fn classified(
        &mut self,
        row: &str,
        class: &Value,
        error: &str,
        transcript: &'static [u8],
        said: [&'static str; 3],
    ) {
        let record = json!({"error": error, "exit_code": null, "classified_error": class});
        self.add(row, "opencode", Left::Original(record, transcript), said);
    }

    /// A good run of an older runner.
    fn good(&mut self, row: &str, agent: &'static str, more: &Value, said: [&'static str; 3]) {
        let start = self.due + TimeDelta::seconds(3);
        let mut record = json!({
            "exit_code": 0, "error": null, "classified_error": null, "elapsed_seconds": 120.5,
            "start_time": start.to_rfc3339(), "end_time": (start + TimeDelta::minutes(2)).to_rfc3339(),
        });
        let fields = record.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        self.add(row, agent, Left::Original(record, b"done\n"), said);
    }
}

fn id(start: DateTime<Utc>) -> RunId {
    RunId::from_directory(&start.format("%Y%m%d_%H%M%S").to_string())
}

const OK: [&str; 3] = ["ok", "", ""];

fn day() -> Day {
    use Outcome::{
        AgentError, CommitMissing, Crashed, Interrupted, RateLimited, Running, StartFailed,
        Success, Timeout,
    };
    let now = Utc::now();
    let due = now - TimeDelta::hours(3);
    let due = due.with_second(0).unwrap().with_nanosecond(0).unwrap();
    let mut day = Day {
        now,
        due,
        cases: Vec::new(),
    };
    let none = "the task requires a commit of the run's own; there is: ";

    // The process of an older runner ended with 0 whatever happened.
    day.original(
        "a1",
        "Agent claude failed (exit=1): boom",
        ["failed", "agent_error: Agent claude failed", "transcript"],
    );
    // Words and numbers that look like a limit.
    day.changed(
        "a2",
        Success,
        "",
        Heard::Yes,
        |run| run.last_message = Some("429 usage limit".into()),
        OK,
    );
    day.changed(
        "a3",
        Success,
        "",
        Heard::Yes,
        |run| run.usage.input_tokens = Some(1_642_970),
        OK,
    );
    // A limit with its end.
    let reset = now + TimeDelta::hours(5);
    day.changed(
        "a4",
        RateLimited,
        "usage limit",
        Heard::Yes,
        |run| run.resets_at = Some(reset),
        ["limited", "; until 2", "parked"],
    );
    day.classified(
        "a4-old",
        &json!("usage_limit"),
        "Usage limit for codex: Codex usage limit",
        b"...\n",
        ["limited", "rate_limited: Usage limit", "parked"],
    );
    // What held the pipe open, left the session, or would not go.
    day.changed(
        "a5",
        Success,
        "",
        Heard::Yes,
        |run| run.leaked_output = Some(true),
        OK,
    );
    day.changed(
        "a6",
        Success,
        "",
        Heard::Yes,
        |run| run.survivors_killed = Some(2),
        OK,
    );
    day.ours(
        "a7",
        Timeout,
        "did not end within its time limit",
        ["failed", "timeout", "raise `timeout`"],
    );
    // A runner that died: before and after it said how it ends.
    day.changed(
        "a8",
        Running,
        "",
        Heard::No,
        |_| {},
        ["crashed", "the runner died", "dmesg"],
    );
    let said = "the runner died during the run";
    day.ours("a8-told", Crashed, said, ["crashed", said, "dmesg"]);
    day.ours(
        "a9",
        Interrupted { signal: 2 },
        "stopped by signal 2",
        ["failed", "interrupted", "somebody"],
    );
    day.add(
        "a9-old",
        "claude",
        Left::Bare(&[("transcript.log", "hello\n"), ("runner.log", "")]),
        ["crashed", "no metadata.json", "cron.log"],
    );
    // Commits that are not its own, or none.
    let commit = json!({"commits": [{"author": "Codex", "commit": "2adf0d47426b32bf", "date": "", "subject": "x"}], "insertions": 40});
    day.good("a10", "claude", &commit, ["ok", "ollama/", ""]);
    day.good(
        "a10-too",
        "ollama",
        &commit,
        ["ok", "has the same commit", ""],
    );
    day.ours(
        "a10-new",
        CommitMissing,
        &format!("{none}1 commit by somebody else"),
        ["failed", "somebody else", "not its own"],
    );
    day.ours(
        "a11",
        CommitMissing,
        &format!("{none}1 commit empty or too small to count"),
        ["failed", "empty", "without a change"],
    );
    day.ours(
        "a11-amend",
        CommitMissing,
        &format!("{none}1 commit amended instead of made"),
        ["failed", "amended", "without a change"],
    );
    day.ours(
        "a12",
        CommitMissing,
        &format!("{none}1 commit left off the branch"),
        ["failed", "off the branch", "another branch"],
    );
    day.ours(
        "a14",
        CommitMissing,
        &format!("{none}1 path left uncommitted"),
        ["failed", "uncommitted", "lies uncommitted"],
    );
    day.classified(
        "a14-old",
        &Value::Null,
        "No git commits detected during agent run for claude/x.",
        b"all is done\n",
        ["failed", "its transcript ends with: all is done", "claims"],
    );
    day.ours(
        "a15",
        CommitMissing,
        "the task requires a commit, and the run left no change at all",
        ["failed", "no change at all", "claims"],
    );
    // What could not begin.
    for (row, error, next) in [
        (
            "a16-missing",
            "Binary not found: claude",
            "missing for cron",
        ),
        (
            "a16-mode",
            "[Errno 13] Permission denied: 'claude'",
            "chmod",
        ),
        (
            "a16-long",
            "[Errno 7] Argument list too long: 'claude'",
            "--dry-run",
        ),
        (
            "a16-prompt",
            "[Errno 2] No such file or directory: 'prompts/x.md'",
            "missing for cron",
        ),
    ] {
        day.original(row, error, ["failed", "start_failed", next]);
    }
    day.original(
        "a16-place",
        "/srv/no-repository",
        ["failed", "agent_error: /srv/no-repository", "transcript"],
    );
    day.original(
        "a16-unborn",
        "Reference at 'refs/heads/master' does not exist",
        ["failed", "refs/heads/master", "transcript"],
    );
    day.ours(
        "a16-new",
        StartFailed,
        "the repository has no commit: refs/heads/master does not exist",
        ["failed", "has no commit", "first commit"],
    );
    // No record and no notification: an unknown argument, a wrong variable.
    day.add(
        "a17",
        "claude",
        Left::Nothing,
        ["missed", "although the heartbeat beat", "cron.log"],
    );
    // A message that never arrived.
    day.changed(
        "a18",
        Success,
        "",
        Heard::No,
        |run| {
            run.notification.state = NotificationState::Expired;
            run.notification.attempts = 9;
        },
        ["silent", "given up after 9 attempts", "notify --test"],
    );
    // Several starts in one second of which one left files.
    day.good("a19", "claude", &json!({}), OK);
    day.add(
        "a19",
        "claude",
        Left::Nothing,
        ["missed", "although the heartbeat beat", "cron.log"],
    );
    // A flood, a line without an end, bytes that are no text.
    day.changed(
        "a20",
        Success,
        "",
        Heard::Yes,
        |run| run.output_dropped_bytes = Some(1 << 31),
        OK,
    );
    day.good(
        "a21",
        "claude",
        &json!({"last_message": "x".repeat(2 << 20)}),
        OK,
    );
    day.original(
        "a21-failed",
        &"y".repeat(2 << 20),
        ["failed", "agent_error: yyy", "transcript"],
    );
    day.classified(
        "a22",
        &Value::Null,
        "No git commits detected \u{1b}]0;evil\u{7}",
        b"\xff\xfe\x1b[31mred\x1b[0m\n",
        ["failed", "ends with: ", "claims"],
    );
    day.good(
        "a23",
        "claude",
        &json!({"dry_run": true}),
        ["ok", "a dry run of an older runner", ""],
    );
    // A time limit that the agent never used, and one that it did.
    let over = "Agent kilo timed out after 900s for task a24";
    day.classified(
        "a24",
        &json!("timeout"),
        over,
        b"",
        ["failed", "its transcript is empty", "never got going"],
    );
    day.classified(
        "a24-worked",
        &json!("timeout"),
        over,
        b"working\n",
        ["failed", "timeout: Agent kilo", "raise `timeout`"],
    );
    day.classified(
        "a25",
        &Value::Null,
        "Object of type timedelta is not JSON serializable",
        b"all done\n",
        ["failed", "timedelta", "older runner"],
    );
    day.classified(
        "a25-too",
        &Value::Null,
        "_run_with_prompt() got an unexpected keyword argument 'timeout_seconds'",
        b"",
        ["failed", "keyword argument", "older runner"],
    );
    // Delivered, says the record, and the server has nothing.
    day.changed(
        "a26",
        Success,
        "",
        Heard::No,
        |_| {},
        ["silent", "does not have it", "notify --test"],
    );
    day.add(
        "a28",
        "claude",
        Left::Bare(&[]),
        ["crashed", "no metadata.json", "cron.log"],
    );
    // Ends with 0 and did nothing, since its model is no more.
    day.classified(
        "drift",
        &Value::Null,
        "No git commits detected during agent run for opencode/x.",
        b"\x1b[91mError: \x1b[0mModel not found: a/b.\n",
        ["failed", "Model not found: a/b", "`model`"],
    );
    day.changed(
        "drift-new",
        AgentError,
        "Model not found: a/b",
        Heard::Yes,
        |run| run.error_class = Some(ErrorClass::ModelNotFound),
        ["failed", "Model not found", "`model`"],
    );
    day.classified(
        "absent",
        &json!("unknown"),
        "Agent ollama failed (exit=1)",
        b"Error: claude is not installed\n",
        ["failed", "claude is not installed", "not installed"],
    );
    day.changed(
        "small",
        Success,
        "",
        Heard::Yes,
        |run| {
            run.insertions = 1;
            run.files_changed = vec!["docs/a.md".to_owned()];
            run.commits = vec![CommitRecord {
                commit: "824fe30b".into(),
                subject: "x".into(),
                author: "a".into(),
                date: String::new(),
            }];
        },
        ["ok", "look at it: only 1 line changed", ""],
    );
    day
}

fn plant(directory: &Path, case: &Case, run_id: &str) {
    let write = |name: &str, bytes: &[u8]| {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join(name), bytes).unwrap();
    };
    match &case.left {
        Left::Nothing => {}
        Left::Bare(files) => {
            fs::create_dir_all(directory).unwrap();
            for (name, text) in *files {
                write(name, text.as_bytes());
            }
        }
        Left::Original(record, transcript) => {
            let mut record = record.clone();
            record["run_id"] = run_id.into();
            record["task"] = case.task.as_str().into();
            record["agent"] = case.agent.into();
            record["requires_commit"] = true.into();
            write("metadata.json", format!("{record:#}\n").as_bytes());
            write("transcript.log", transcript);
        }
        Left::Ours(record, _) => write("metadata.json", format::write(record).as_bytes()),
    }
}

/// A machine with that day behind it. The heartbeat was silent from ten to five hours ago.
fn machine(day: &Day, server: &NtfyServer) -> TestEnv {
    let mut env = TestEnv::new().config(&format!(
        "[ntfy]\nserver = \"{}\"\ntopic = \"runs\"\ntoken = \"{}\"",
        server.url(),
        server.token()
    ));
    let mut crontab = String::new();
    let clock = |at: DateTime<Utc>| format!("{} {} * * *", at.minute(), at.hour());
    let mut tasks = vec!["gap"];
    for case in &day.cases {
        writeln!(
            crontab,
            "{} agent-runner run --agent {} --task {} >> logs/cron.log 2>&1",
            clock(day.due),
            case.agent,
            case.task
        )
        .unwrap();
        if !tasks.contains(&case.task.as_str()) {
            tasks.push(&case.task);
        }
        let run_id = id(day.due + TimeDelta::seconds(3)).to_string();
        let run = format!("{}/{}/{run_id}", case.task, case.agent);
        plant(&env.logs().join(&run), case, &run_id);
        if matches!(case.left, Left::Ours(_, Heard::Yes)) {
            let token = format!("Authorization: Bearer {}", server.token());
            let sent = http::post(
                server.url(),
                "/runs",
                &[token],
                &format!("ended\n\nrun: {run}"),
            );
            assert_eq!(sent.unwrap().status, 200);
        }
    }
    let in_gap = day.now - TimeDelta::hours(7);
    writeln!(
        crontab,
        "{} agent-runner run --agent claude --task gap",
        clock(in_gap)
    )
    .unwrap();
    for task in tasks {
        env = env.task(task, "");
    }
    let beats: String = (0..12 * 60)
        .rev()
        .filter(|minutes| !(300..600).contains(minutes))
        .map(|minutes| {
            let beat = day.now - TimeDelta::minutes(minutes);
            beat.format("%Y-%m-%d %H:%M:%S UTC\n").to_string()
        })
        .collect();
    let heartbeat = env.logs().join("heartbeat");
    fs::create_dir_all(&heartbeat).unwrap();
    fs::write(heartbeat.join("task.log"), beats).unwrap();
    let bin = env.root().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("tab"), crontab).unwrap();
    fs::write(bin.join("crontab"), "#!/bin/sh\nexec cat \"${0%/*}/tab\"\n").unwrap();
    fs::set_permissions(bin.join("crontab"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    env.variable("PATH", path)
}

#[test]
fn every_way_in_which_older_runners_failed_is_told_from_the_files_that_it_leaves() {
    let Some(server) = NtfyServer::start() else {
        return;
    };
    let day = day();
    let env = machine(&day, &server);
    let done = env.agent_runner(&["triage", "--since", "11h", "--json"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        !done.stdout.contains("\\u001b"),
        "no control sequence of anybody"
    );
    assert!(
        done.stdout.len() < 200_000,
        "no flood: {}",
        done.stdout.len()
    );
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows: Vec<&Value> = report["rows"].as_array().unwrap().iter().collect();
    let failures = report["failures"].as_array().unwrap();
    let mut wrong = String::new();
    for case in &day.cases {
        let place = rows.iter().position(|row| {
            row["task"] == case.task.as_str()
                && row["agent"] == case.agent
                && row["status"] == case.status
        });
        let Some(place) = place else {
            writeln!(wrong, "{} {}: no row", case.task, case.status).unwrap();
            continue;
        };
        let row = rows.remove(place);
        let who = format!("{}/{}", case.task, case.agent);
        let mut steps = failures
            .iter()
            .filter(|failure| {
                failure["who"]
                    .as_array()
                    .unwrap()
                    .contains(&who.clone().into())
            })
            .map(|failure| text(&failure["next"]));
        let why = text(&row["why"]);
        let same = |other: &&Case| other.task == case.task && other.agent == case.agent;
        let is_alone = day.cases.iter().filter(same).count() == 1;
        let is_quiet = case.next.is_empty() && (!is_alone || steps.next().is_none());
        let is_step = |step: String| step.contains(case.next);
        if !why.contains(case.why)
            || why.chars().count() > 400
            || !(is_quiet || !case.next.is_empty() && steps.any(is_step))
            || row["scheduled"] != true
        {
            writeln!(
                wrong,
                "{} wants {} -> {}: {row}",
                case.task, case.why, case.next
            )
            .unwrap();
            for failure in failures {
                if failure["who"]
                    .as_array()
                    .unwrap()
                    .contains(&who.clone().into())
                {
                    writeln!(wrong, "    next: {}", failure["next"]).unwrap();
                }
            }
        }
    }
    // The start in the gap of the heartbeat, and nothing else.
    let gap = rows.pop().unwrap();
    assert_eq!(
        (&gap["task"], &gap["status"]),
        (&"gap".into(), &"missed".into()),
        "{wrong}"
    );
    assert!(
        text(&gap["why"]).contains("the machine, or what starts it, was off"),
        "{gap}"
    );
    assert!(rows.is_empty() && wrong.is_empty(), "{wrong}{rows:#?}");
    let remarks = report["remarks"].to_string();
    assert!(
        remarks.contains("a gap in the heartbeat for 5h"),
        "{remarks}"
    );
}
