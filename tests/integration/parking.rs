//! Parked agents: an agent that met a limit is not started before it is over, in no process.

use std::fs;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{TestEnv, claude, evidence};

fn now() -> DateTime<Utc> {
    Utc::now()
}

/// A script that leaves a trace of its start and says that its limit resets then.
fn limited_until(resets: DateTime<Utc>) -> String {
    let lines = claude::limited(resets.timestamp());
    format!("echo x >> {STARTS}; {}", claude::stream(&lines, 1))
}

/// Where scripts leave a line each time they are started.
const STARTS: &str = "$AGENT_RUNNER_TEST_STARTS";

fn env_with(agent_script: &str) -> TestEnv {
    let env = TestEnv::new();
    let starts = env.root().join("starts").display().to_string();
    env.script("fake", "claude", &agent_script.replace(STARTS, &starts))
        .task("work", "")
}

fn starts(env: &TestEnv) -> usize {
    let text = fs::read_to_string(env.root().join("starts")).unwrap_or_default();
    text.lines().count()
}

fn parked_until(env: &TestEnv, agent: &str) -> Option<DateTime<Utc>> {
    let list = env.agent_runner(&["agents", "--json"]).stdout;
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let agent = list.iter().find(|entry| entry["name"] == agent).unwrap();
    agent["parked"]["until"].as_str()?.parse().ok()
}

#[test]
fn a_limited_agent_is_not_started_again_before_its_limit_is_over() {
    let resets = now() + TimeDelta::hours(3);
    let env = env_with(&limited_until(resets));
    assert_eq!(env.run("fake", "work").code, Some(10));
    assert_eq!(starts(&env), 1);
    let until = parked_until(&env, "fake").unwrap();
    assert_eq!(until.timestamp(), resets.timestamp());

    let began = Instant::now();
    let done = env.run("fake", "work");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(done.code, Some(10), "{}", done.stderr);
    assert_eq!(starts(&env), 1, "no token is spent");
    let records = env.records("work", "fake");
    let [limited, refused] = records.as_slice() else {
        panic!("{records:?}");
    };
    assert_eq!(refused["outcome"], "rate_limited");
    assert_eq!(refused["exit_code"], 10);
    assert_eq!(refused["resets_at"], limited["resets_at"]);
    assert_eq!(refused["agent_exit_code"], Value::Null);
    let error = refused["error"].as_str().unwrap();
    assert!(
        error.contains("parked until") && error.contains("UTC (in "),
        "{error}"
    );
    assert!(evidence(refused).contains(" met the limit"));
    assert!(evidence(limited).contains("`fake` is parked until"));
}

#[test]
fn a_parking_is_told_once_however_many_starts_it_refuses() {
    let env = env_with(&limited_until(now() + TimeDelta::hours(3))).unreachable_server();
    assert_eq!(env.run("fake", "work").code, Some(10));
    assert_eq!(env.outbox().len(), 1, "the run itself");
    assert_eq!(env.run_at_once(8, "fake", "work"), [Some(10); 8]);
    assert_eq!(env.run("fake", "work").code, Some(10));
    let outbox = env.outbox();
    assert_eq!(outbox.len(), 2, "{outbox:?}");
    let body = outbox[1]["body"].as_str().unwrap();
    assert!(
        body.contains("parked until") && body.contains("Resets: "),
        "{body}"
    );
    let told = |record: &&Value| record["notification"]["state"] == "pending";
    assert_eq!(env.records("work", "fake").iter().filter(told).count(), 2);
    assert_eq!(starts(&env), 1);
}

#[test]
fn a_task_that_is_not_told_does_not_use_up_the_one_notification_of_a_parking() {
    let env = env_with(&limited_until(now() + TimeDelta::hours(3)))
        .task("silent", "notify = false")
        .unreachable_server();
    for _ in 0..2 {
        assert_eq!(env.run("fake", "silent").code, Some(10));
    }
    assert_eq!(env.outbox().len(), 0);
    for _ in 0..2 {
        assert_eq!(env.run("fake", "work").code, Some(10));
    }
    assert_eq!(env.outbox().len(), 1);
}

#[test]
fn eight_runs_that_meet_the_limit_at_once_park_the_agent_until_the_latest_of_their_times() {
    let resets = now() + TimeDelta::hours(2);
    let script = "n=$(basename $PWD | tail -c 2); sleep 0.3; \
                  echo '{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}'; \
                  echo '{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":'$((BASE + (8 - n) * 60))'}}'; \
                  echo '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":429,\"result\":\"limit\"}'; exit 1";
    let env = env_with(&script.replace("BASE", &resets.timestamp().to_string()));
    assert_eq!(env.run_at_once(8, "fake", "work"), [Some(10); 8]);
    let until = parked_until(&env, "fake").unwrap();
    assert_eq!(until.timestamp(), resets.timestamp() + 8 * 60);
}

#[test]
fn a_list_passes_over_who_is_parked_without_a_record_and_names_it() {
    let env = env_with(&limited_until(now() + TimeDelta::hours(3)))
        .script("able", "text", "cat; echo hello")
        .config("[runner]\nauto_order = [\"fake\", \"able\"]");
    for agent in ["fake,able", "fake,able", "auto"] {
        let done = env.run(agent, "work");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    assert_eq!(starts(&env), 1);
    let dry = |agent| env.agent_runner(&["run", "--agent", agent, "--task", "work", "--dry-run"]);
    assert!(dry("auto").stdout.contains("agent            able"));
    let refused = dry("fake");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused
            .stdout
            .contains("would not start  `fake` is parked until")
    );
    assert_eq!(env.records("work", "fake").len(), 1);
    let records = env.records("work", "able");
    assert_eq!(records.len(), 3);
    for record in &records[1..] {
        let facts = evidence(record);
        assert!(
            facts.contains("`fake` was passed over: `fake` is parked until"),
            "{facts}"
        );
        assert_eq!(record["previous_run"], Value::Null);
    }
    let prompts = env.run_directories("work", "able");
    let prompts: Vec<_> = prompts
        .iter()
        .map(|run| fs::read_to_string(run.join("prompt.md")).unwrap())
        .collect();
    assert_eq!(prompts, ["do the work"; 3]);
}

#[test]
fn a_list_whose_agents_are_all_parked_exits_10_with_the_earliest_reset_and_one_record() {
    let (late, early) = (now() + TimeDelta::hours(4), now() + TimeDelta::hours(2));
    let env = env_with(&limited_until(late))
        .script(
            "other",
            "claude",
            &claude::stream(&claude::limited(early.timestamp()), 1),
        )
        .config("[agents.absent]\ncommand = [\"no-such-program\"]")
        .unreachable_server();
    assert_eq!(env.run("absent,fake,other", "work").code, Some(10));
    let told = env.outbox().len();
    for _ in 0..2 {
        assert_eq!(env.run("absent,fake,other", "work").code, Some(10));
    }
    assert_eq!(env.records("work", "fake").len(), 1);
    assert_eq!(env.records("work", "other").len(), 1);
    let records = env.records("work", "absent");
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["outcome"], "rate_limited");
    let resets: DateTime<Utc> = records[0]["resets_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(resets.timestamp(), early.timestamp());
    let facts = evidence(&records[0]);
    for agent in ["absent", "fake", "other"] {
        assert!(
            facts.contains(&format!("`{agent}` was passed over")),
            "{facts}"
        );
    }
    assert_eq!(env.outbox().len(), told + 1);
}

#[test]
fn a_limit_without_a_reset_time_parks_for_the_default_and_one_that_is_over_lets_start() {
    let limit = json!({"type": "result", "subtype": "success", "is_error": true,
                       "api_error_status": 429, "result": "429 slow down", "session_id": "s"});
    let script = format!(
        "echo x >> {STARTS}; {}",
        claude::stream(&[claude::init(), limit], 1)
    );
    let env = env_with(&script).config("[runner]\npark_default = \"2s\"");
    assert_eq!(env.run("fake", "work").code, Some(10));
    let until = parked_until(&env, "fake").unwrap();
    assert!(until <= now() + TimeDelta::seconds(2));
    assert_eq!(env.run("fake", "work").code, Some(10));
    assert_eq!(starts(&env), 1);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(parked_until(&env, "fake"), None);
    assert_eq!(env.run("fake", "work").code, Some(10));
    assert_eq!(starts(&env), 2);
}

#[test]
fn a_clock_time_is_meant_in_the_zone_that_is_named_else_in_the_machines() {
    let berlin = chrono_tz::Europe::Berlin;
    let wall = now().with_timezone(&berlin) + TimeDelta::hours(3);
    let clock = wall.format("%-I:%M%P");
    // The whole minute may be the limit's.
    let expected = (wall + TimeDelta::minutes(1)).format("%F %R").to_string();
    for (text, zone) in [
        (
            format!("You've hit your limit · resets {clock} (Europe/Berlin)"),
            "America/New_York",
        ),
        (
            format!("You've hit your limit · resets {clock}"),
            "Europe/Berlin",
        ),
    ] {
        let script = claude::stream(&[claude::init(), claude::result(&text, true)], 1);
        let env = env_with(&script).variable("TZ", zone);
        assert_eq!(env.run("fake", "work").code, Some(10));
        let until = parked_until(&env, "fake").unwrap().with_timezone(&berlin);
        assert_eq!(until.format("%F %R").to_string(), expected, "{text}");
        assert_eq!(env.run("fake", "work").code, Some(10));
    }
}

#[test]
fn an_unparked_agent_is_started_again_and_an_unknown_one_is_refused() {
    let env = env_with(&limited_until(now() + TimeDelta::minutes(125)));
    assert_eq!(env.run("fake", "work").code, Some(10));
    let shown = env.agent_runner(&["agents"]).stdout;
    let line = shown
        .lines()
        .find(|line| line.starts_with("fake is parked until"));
    assert!(
        line.is_some_and(|line| line.contains(" UTC (in 2h ")),
        "{shown}"
    );

    let done = env.agent_runner(&["agents", "unpark", "faek"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (
            Some(2),
            "error: there is no agent `faek`; did you mean `fake`?\n"
        )
    );
    let done = env.agent_runner(&["agents", "unpark", "fake"]);
    assert_eq!(done.code, Some(0));
    assert!(
        done.stderr.starts_with("`fake` may start again"),
        "{}",
        done.stderr
    );
    let done = env.agent_runner(&["agents", "unpark", "fake"]);
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (Some(0), "`fake` is not parked\n")
    );
    assert!(!env.agent_runner(&["agents"]).stdout.contains("parked"));
    assert_eq!(env.run("fake", "work").code, Some(10));
    assert_eq!(starts(&env), 2);
}

#[test]
fn a_run_that_waited_for_its_repository_is_not_started_when_its_agent_was_parked_meanwhile() {
    let env = env_with(&format!(
        "sleep 1; {}",
        limited_until(now() + TimeDelta::hours(3))
    ));
    let mut first = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let begun = || env.run_directories("work", "fake").len() == 1;
    assert!(crate::support::eventually(Duration::from_secs(10), begun));
    let wait = [
        "run",
        "--agent",
        "fake",
        "--task",
        "work",
        "--overlap",
        "wait",
    ];
    assert_eq!(env.agent_runner(&wait).code, Some(10));
    assert_eq!(first.wait().unwrap().code(), Some(10));
    assert_eq!(starts(&env), 1);
}

#[test]
fn what_somebody_wrote_into_a_parking_reaches_no_terminal_raw() {
    let env = env_with(&limited_until(now() + TimeDelta::minutes(125)));
    assert_eq!(env.run("fake", "work").code, Some(10));
    let file = env.logs().join(".state/parked/fake.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("work/fake/", r"\u001b]0;title\u0007")).unwrap();
    let shown = env.agent_runner(&["agents"]).stdout;
    assert!(
        shown.contains("fake is parked until") && !shown.contains('\u{1b}'),
        "{shown:?}"
    );
    assert_eq!(env.run("fake", "work").code, Some(10));
    let refused = &env.records("work", "fake")[1];
    assert!(!evidence(refused).contains('\u{1b}'));
}
