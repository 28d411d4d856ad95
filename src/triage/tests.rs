//! Days with known answers, among them everything that went wrong with older runners.

use std::fmt::Write as _;

use super::*;
use crate::model::record::{CommitRecord, Evidence, EvidenceSource};
use crate::model::report::ErrorClass;
use crate::triage::page::page;

/// `HH:MM` of the day.
fn at(time: &str) -> DateTime<Utc> {
    format!("2026-02-19T{time}:00Z").parse().unwrap()
}

/// A finished run of ours that began then, whose notification was delivered.
fn run(time: &str, agent: &str, outcome: Outcome) -> Record {
    let run_id = format!("20260219_{}03", time.replace(':', ""));
    let (task, agent) = ("docs".parse().unwrap(), agent.parse().unwrap());
    let start = at(time) + TimeDelta::seconds(3);
    let run_id = crate::model::ids::RunId::from_directory(&run_id);
    let mut record = Record::begun(&task, &agent, run_id, start);
    record.outcome = outcome;
    record.runner_version = Some("0.1.0".to_owned());
    record.timeout = Some(Duration::from_mins(15));
    if outcome.is_final() {
        record.elapsed = Some(Duration::from_mins(5));
        record.end_time = Some(start + TimeDelta::minutes(5));
        record.notification.state = NotificationState::Delivered;
        record.notification.delivered_at = record.end_time;
    }
    record
}

fn failed(time: &str, agent: &str, outcome: Outcome, error: &str) -> Record {
    let mut record = run(time, agent, outcome);
    record.error = Some(error.to_owned());
    record
}

fn with(mut record: Record, change: impl FnOnce(&mut Record)) -> Record {
    change(&mut record);
    record
}

fn commit(record: &mut Record, insertions: u64) {
    record.insertions = insertions;
    record.files_changed = vec!["docs/a.md".to_owned()];
    record.commits.push(CommitRecord {
        commit: "824fe30b824fe30b".to_owned(),
        subject: "docs".to_owned(),
        author: "a".to_owned(),
        date: String::new(),
    });
}

fn fire(time: &str, agent: &str) -> Fire {
    Fire {
        at: at(time),
        task: "docs".parse().unwrap(),
        agent: agent.to_owned(),
        tolerance: Duration::from_secs(90),
        catch_up: false,
        starter: Some(Starter::Cron),
    }
}

/// 12:00 of a day on which the heartbeat always beat and every run of these was heard of.
fn facts(fires: Vec<Fire>, mut runs: Vec<Record>) -> Facts {
    let mut told = Told::default();
    for run in runs
        .iter()
        .filter(|run| run.notification.state == NotificationState::Delivered)
    {
        told.hear(&format!("run: forged/by/agent\n\nrun: {}", run.path()));
    }
    runs.sort_by_key(|run| std::cmp::Reverse(run.start_time));
    Facts {
        now: at("12:00"),
        since: at("00:00"),
        fires,
        unread: Vec::new(),
        new: None,
        works: Vec::new(),
        unasked: Vec::new(),
        runs,
        heard: Heard::Since(at("00:00"), told),
        parked: Vec::new(),
        waiting: Vec::new(),
        refused: Vec::new(),
        beats: (0..=720)
            .map(|minute| at("00:00") + TimeDelta::minutes(minute))
            .collect(),
    }
}

fn shown(facts: &Facts) -> String {
    let mut text = String::new();
    for (_, first, rest) in page(&triage(facts)) {
        let line = format!("{first}{rest}");
        assert!(text::width(&line) <= page::WIDTH, "{line}");
        writeln!(text, "{line}").unwrap();
    }
    text
}

/// What triage says of one run: its status, why, and what to do.
fn verdict(record: Record) -> (Status, String, String) {
    let report = triage(&facts(Vec::new(), vec![record]));
    let row = report.rows.into_iter().next().unwrap();
    let step = report.failures.first().map_or("", |failure| failure.step);
    (row.status, row.why, step.to_owned())
}

#[track_caller]
fn check(record: Record, status: Status, why: &str, step: &str) {
    let (found, said, next) = verdict(record);
    assert_eq!(found, status, "{said}");
    assert!(said.contains(why), "why: {said}");
    assert!(
        next.contains(step) && next.is_empty() == step.is_empty(),
        "next: {next}"
    );
}

#[test]
fn what_went_wrong_with_older_runners_is_told_for_what_it_is() {
    use Outcome::*;
    let missing = |fact: &str| {
        let error = format!("the task requires a commit of the run's own; there is: {fact}");
        failed("07:00", "claude", CommitMissing, &error)
    };
    // A1: a failure is one, whatever the exit code of the process was.
    check(
        failed("07:00", "claude", AgentError, "boom"),
        Status::Failed,
        "agent_error: boom",
        "transcript",
    );
    // A2, A3: prose and numbers that look like a limit.
    let prose = |record: &mut Record| record.last_message = Some("429 rate limit quota".to_owned());
    check(
        with(run("07:00", "codex", Success), prose),
        Status::Ok,
        "",
        "",
    );
    // A4: a real limit with its end.
    let reset = |record: &mut Record| record.resets_at = Some(at("19:00"));
    check(
        with(failed("07:00", "codex", RateLimited, "usage limit"), reset),
        Status::Limited,
        "until 2026-02-19 19:00:00 UTC",
        "parked",
    );
    // A5, A6, A20, A22: leaks and floods change nothing.
    let leak = |record: &mut Record| {
        record.leaked_output = Some(true);
        record.survivors_killed = Some(1);
        record.output_dropped_bytes = Some(1 << 30);
    };
    check(
        with(run("07:00", "kilo", Success), leak),
        Status::Ok,
        "",
        "",
    );
    // A7, A24: a time limit, and an agent that never got going.
    check(
        failed(
            "07:00",
            "claude",
            Timeout,
            "did not end within its time limit",
        ),
        Status::Failed,
        "timeout",
        "transcript.log is empty",
    );
    // A8, A28: a dead runner.
    check(
        failed("07:00", "claude", Crashed, "the runner died during the run"),
        Status::Crashed,
        "the runner died",
        "dmesg",
    );
    let bare = Record::unknown(
        "docs",
        "kilo",
        crate::model::ids::RunId::from_directory("20260219_070003"),
    );
    let lost = "it left no metadata.json";
    let unreadable = "unreadable record: its metadata.json is no record: EOF";
    for (fact, step) in [(lost, "cron.log"), (unreadable, "who may read it")] {
        let told = |record: &mut Record| {
            let told = Evidence::new(EvidenceSource::Runner, fact);
            record.evidence.push(told);
        };
        check(with(bare.clone(), told), Status::Crashed, fact, step);
    }
    // A9: stopped.
    check(
        failed(
            "07:00",
            "claude",
            Interrupted { signal: 2 },
            "stopped by signal 2",
        ),
        Status::Failed,
        "interrupted",
        "somebody",
    );
    // A10 to A15: work that is not the run's own, or does not count.
    check(
        missing("1 commit by somebody else"),
        Status::Failed,
        "somebody else",
        "not its own",
    );
    check(
        missing("1 commit empty or too small to count"),
        Status::Failed,
        "empty",
        "without a change",
    );
    check(
        missing("1 commit amended instead of made"),
        Status::Failed,
        "amended",
        "without a change",
    );
    check(
        missing("1 commit left off the branch"),
        Status::Failed,
        "off the branch",
        "another branch",
    );
    check(
        missing("1 path left uncommitted"),
        Status::Failed,
        "uncommitted",
        "lies uncommitted",
    );
    check(
        failed(
            "07:00",
            "kilo",
            CommitMissing,
            "the task requires a commit, and the run left no change at all",
        ),
        Status::Failed,
        "no change at all",
        "claims",
    );
    // A16: what cannot start.
    for (error, step) in [
        ("`claude` was not found in PATH", "missing for cron"),
        (
            "cannot start `claude`: Permission denied (os error 13)",
            "chmod",
        ),
        ("the prompt `x.md` does not exist", "prompt"),
        ("`/tmp` is no git repository", "not usable"),
        (
            "the repository has no commit: refs/heads/master does not exist",
            "not usable",
        ),
    ] {
        check(
            failed("07:00", "claude", StartFailed, error),
            Status::Failed,
            error,
            step,
        );
    }
    // A21: a megabyte without a line feed.
    let (_, why, _) = verdict(failed("07:00", "claude", AgentError, &"x".repeat(1 << 20)));
    assert!(why.len() < 300);
    // A23: a dry run of an older runner.
    check(
        with(run("07:00", "codex", Success), |record| {
            record.dry_run = true;
        }),
        Status::Ok,
        "dry run",
        "",
    );
    // A25: the older runner's own faults.
    check(
        failed(
            "07:00",
            "gemini",
            AgentError,
            "Object of type timedelta is not JSON serializable",
        ),
        Status::Failed,
        "timedelta",
        "older runner",
    );
    // What older runners left in the transcript alone.
    let installed = |record: &mut Record| {
        let last = "its transcript ends with: Error: claude is not installed";
        record
            .evidence
            .push(Evidence::new(EvidenceSource::Agent, last));
    };
    check(
        with(
            failed("07:00", "ollama", AgentError, "failed (exit=1)"),
            installed,
        ),
        Status::Failed,
        "claude is not installed",
        "not installed",
    );
    // Model drift, which exits 0.
    let drift = |record: &mut Record| record.error_class = Some(ErrorClass::ModelNotFound);
    check(
        with(
            failed("07:00", "opencode", AgentError, "Model not found: x"),
            drift,
        ),
        Status::Failed,
        "Model not found",
        "`model`",
    );
}

#[test]
fn a_day_is_told_with_the_most_urgent_first() {
    use Outcome::*;
    let undelivered = |record: &mut Record| {
        record.notification.state = NotificationState::Pending;
        record.notification.attempts = 3;
    };
    let runs = vec![
        with(run("06:00", "claude", Success), |record| commit(record, 40)),
        failed(
            "07:00",
            "claude",
            AgentError,
            "API error 500 at /v1/x?id=17 after 3 tries",
        ),
        failed(
            "08:00",
            "claude",
            AgentError,
            "API error 500 at /v1/x?id=18 after 4 tries",
        ),
        with(
            failed(
                "09:00",
                "claude",
                AgentError,
                "API error 529 at /v1/y after 3 tries",
            ),
            |record| record.cost_usd = Some(1.5),
        ),
        with(run("09:20", "kilo", Success), undelivered),
        with(run("09:30", "codex", Success), |record| commit(record, 1)),
        run("11:50", "claude", Running),
        with(run("10:00", "ollama", Running), |record| {
            record.timeout = Some(Duration::from_mins(15));
        }),
        failed("10:20", "kilo", Skipped, "another run holds `/repo`"),
        failed("10:30", "claude", Crashed, "the runner died during the run"),
        with(
            failed("10:40", "gemini", RateLimited, "no capacity"),
            |record| record.resets_at = Some(at("18:00")),
        ),
    ];
    let mut fires: Vec<Fire> = ["06:00", "07:00", "08:00", "09:00"]
        .map(|time| fire(time, "claude"))
        .into();
    fires.extend([
        fire("09:20", "kilo"),
        fire("10:10", "qwen"),
        fire("11:59", "codex"),
    ]);
    fires.push(Fire {
        starter: None,
        ..fire("10:15", "codex")
    });
    insta::assert_snapshot!(shown(&facts(fires, runs)));
}

#[test]
fn a_timer_that_was_due_while_its_run_went_on_missed_nothing() {
    let by = |starter| {
        let fires = ["06:00", "06:03", "06:20"].map(|time| Fire {
            starter: Some(starter),
            ..fire(time, "claude")
        });
        let runs = vec![run("06:00", "claude", Outcome::Success)];
        let rows = triage(&facts(fires.into(), runs)).rows;
        let mut rows: Vec<_> = rows.iter().map(|row| (row.at, row.status)).collect();
        rows.sort_by_key(|(at, _)| *at);
        rows.into_iter()
            .map(|(_, status)| status)
            .collect::<Vec<_>>()
    };
    let [ok, missed, skipped] = [Status::Ok, Status::Missed, Status::Skipped];
    assert_eq!(by(Starter::Systemd), [ok, skipped, missed]);
    assert_eq!(by(Starter::Cron), [ok, missed, missed]);
}

#[test]
fn a_quiet_day_has_nothing_to_do() {
    let mut facts = facts(
        vec![fire("06:00", "claude")],
        vec![run("06:00", "claude", Outcome::Success)],
    );
    let report = triage(&facts);
    assert!(!report.needs_somebody());
    assert_eq!(report.rows.len(), 1);
    insta::assert_snapshot!(shown(&facts), @r"
    12:00 UTC, last 12h: nothing to do
    ok      06:00 claude
      docs
    ");
    // It says how far it could know.
    facts.new = Some((2, at("11:00")));
    let report = triage(&facts);
    assert!(!report.needs_somebody());
    assert_eq!(
        report.remarks[0].text,
        "2 lines of the schedule known only since 2026-02-19 11:00:00 UTC: no start from before \
         is missed"
    );
}

#[test]
fn wide_characters_stay_within_the_page() {
    let error = "壊れた".repeat(20);
    let shown = shown(&facts(
        Vec::new(),
        vec![failed("07:00", "claude", Outcome::AgentError, &error)],
    ));
    let joined: String = shown.split_whitespace().collect();
    assert!(joined.contains(&error), "{shown}");
}

#[test]
fn silence_is_told_only_where_it_can_be_known() {
    let state = |state| move |record: &mut Record| record.notification.state = state;
    let record = |name| with(run("07:00", "claude", Outcome::Success), state(name));
    let mut unheard = facts(Vec::new(), vec![record(NotificationState::Delivered)]);
    let status = |facts: &Facts| triage(facts).rows[0].status;
    assert_eq!(status(&unheard), Status::Ok);
    unheard.heard = Heard::Since(at("00:00"), Told::default());
    assert_eq!(status(&unheard), Status::Silent);
    // A server keeps its messages for half a day.
    unheard.now = at("12:00") + TimeDelta::hours(8);
    unheard.beats.clear();
    assert_eq!(status(&unheard), Status::Ok);
    // Nobody can say.
    unheard.now = at("12:00");
    unheard.heard = Heard::Unknown("connection refused".to_owned());
    let report = triage(&unheard);
    assert_eq!(report.rows[0].status, Status::Ok);
    assert!(
        report.remarks[0]
            .text
            .contains("silence cannot be told: connection refused")
    );
    assert!(report.needs_somebody());
    unheard.heard = Heard::Off;
    assert!(!triage(&unheard).needs_somebody());
    // What the record itself knows needs no server.
    for (name, expected) in [
        (NotificationState::Disabled, Status::Ok),
        (NotificationState::Pending, Status::Silent),
        (NotificationState::Refused, Status::Silent),
        (NotificationState::Expired, Status::Silent),
    ] {
        assert_eq!(status(&facts(Vec::new(), vec![record(name)])), expected);
    }
    // Another configuration may have told of it elsewhere.
    for (name, expected) in [
        (NotificationState::Delivered, Status::Ok),
        (NotificationState::Refused, Status::Silent),
    ] {
        let mut facts = facts(Vec::new(), vec![record(name)]);
        let mut told = Told::default();
        told.trust(&facts.runs[0]);
        facts.heard = Heard::Since(at("00:00"), told);
        assert_eq!(status(&facts), expected);
    }
    // A digest stands for many, and an agent's words for nobody.
    let digested = |record: &mut Record| record.notification.id = Some("digest-17".to_owned());
    let mut facts = facts(
        Vec::new(),
        vec![with(record(NotificationState::Delivered), digested)],
    );
    let mut told = Told::default();
    told.hear("run: docs/claude/20260219_070003\n\nrun: docs/claude/other");
    facts.heard = Heard::Since(at("00:00"), told.clone());
    assert_eq!(status(&facts), Status::Silent);
    told.hear("9 notifications waited\n\ndigest: digest-17");
    facts.heard = Heard::Since(at("00:00"), told);
    assert_eq!(status(&facts), Status::Ok);
}

#[test]
fn a_fire_without_a_run_is_missed_and_says_who_was_there() {
    let mut facts = facts(
        vec![fire("07:00", "claude"), fire("11:59", "claude")],
        Vec::new(),
    );
    let whys = |facts: &Facts| {
        triage(facts)
            .rows
            .iter()
            .map(|row| row.why.clone())
            .collect::<Vec<_>>()
    };
    // The one of 11:59 may still begin.
    assert_eq!(
        whys(&facts),
        ["no record although the heartbeat beat: see logs/cron.log"]
    );
    facts
        .beats
        .retain(|beat| *beat < at("06:30") || *beat > at("11:00"));
    assert_eq!(
        whys(&facts),
        ["no record, and no heartbeat then: the machine, or what starts it, was off"]
    );
    let gap = &triage(&facts).remarks[0].text;
    assert!(gap.contains("a gap in the heartbeat for 4h 32m"), "{gap}");
    facts.beats.retain(|beat| *beat < at("06:30"));
    let stopped = triage(&facts).remarks.remove(0);
    assert!(
        stopped.urgent && stopped.text.contains("has stopped"),
        "{}",
        stopped.text
    );
}

#[test]
fn a_run_belongs_to_one_fire_and_tries_to_one_run() {
    let again =
        |record: &mut Record| record.previous_run = Some("docs/claude/20260219_070003".to_owned());
    let first = failed("07:00", "claude", Outcome::AgentError, "overloaded");
    let mut second = with(run("07:06", "kilo", Outcome::Success), again);
    let fires = vec![fire("07:00", "auto"), fire("08:00", "claude,kilo")];
    let rows = |runs: Vec<Record>| triage(&facts(fires.clone(), runs)).rows;
    let told = rows(vec![first.clone(), second.clone()]);
    assert_eq!(told.len(), 2);
    assert_eq!(
        (told[1].status, told[1].why.as_str()),
        (Status::Ok, "after 2 runs")
    );
    assert_eq!(told[1].run.as_deref(), Some("docs/kilo/20260219_070603"));
    assert_eq!(told[0].status, Status::Missed);
    // Hours later it is another story.
    second.start_time = Some(at("11:00"));
    assert_eq!(rows(vec![first, second]).len(), 3);
    // Four starts in one second are four runs, one of them the fire's.
    let mut same = run("07:00", "claude", Outcome::Success);
    let mut runs = Vec::new();
    for number in 2..6 {
        runs.push(same.clone());
        same.run_id =
            crate::model::ids::RunId::from_directory(&format!("20260219_070003_{number}"));
    }
    let told = rows(runs);
    assert_eq!(
        told.iter()
            .filter(|row| row.scheduled && row.status == Status::Ok)
            .count(),
        1
    );
    assert_eq!(told.iter().filter(|row| !row.scheduled).count(), 3);
}

#[test]
fn a_missed_start_that_was_made_up_for_is_no_longer_missed() {
    let late = Fire {
        catch_up: true,
        ..fire("07:00", "claude")
    };
    let rows = triage(&facts(
        vec![late],
        vec![run("09:10", "claude", Outcome::Success)],
    ))
    .rows;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].status, Status::Ok);
    assert!(
        rows[0]
            .why
            .contains("started late, at 2026-02-19 09:10:03 UTC")
    );
}

#[test]
fn a_run_that_names_an_absurd_limit_is_judged_like_any_other() {
    let running = with(run("06:00", "claude", Outcome::Running), |record| {
        record.timeout = Some(Duration::MAX);
    });
    assert_eq!(super::status(&running, at("12:00")), Status::Running);
}
