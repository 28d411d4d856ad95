//! Machines with one queue: each has a log root of its own, and they know of each other's parked
//! agents and of what the day has used up. On SQLite and PostgreSQL.

use std::fs;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use sqlx::{Executor as _, Row as _};

use crate::queue::{Place, block_on};
use crate::support::postgres::Postgres;
use crate::support::{TestEnv, claude, eventually};

fn machine(queue: &str, script: &str, agent_keys: &str) -> TestEnv {
    TestEnv::new()
        .script("fake", "claude", script)
        .config(agent_keys)
        .config(&format!("[queue]\nurl = \"{queue}\""))
        .task("work", "")
}

fn limited(hours: i64) -> String {
    let resets = Utc::now() + TimeDelta::hours(hours);
    claude::stream(&claude::limited(resets.timestamp()), 1)
}

fn is_parked(machine: &TestEnv) -> bool {
    let list = machine.agent_runner(&["agents", "--json"]).stdout;
    let list: Vec<Value> = serde_json::from_str(&list).unwrap();
    let agent = list.iter().find(|entry| entry["name"] == "fake").unwrap();
    !agent["parked"].is_null()
}

#[test]
fn an_agent_that_met_its_limit_on_one_machine_is_not_started_on_another() {
    for queue in Place::all() {
        let good = claude::stream(&claude::success(), 0);
        let [one, other] = [limited(3), good].map(|script| machine(&queue.url(), &script, ""));
        assert_eq!(one.run("fake", "work").code, Some(10));
        let refused = other.run("fake", "work");
        assert_eq!(refused.code, Some(10), "{}", refused.stderr);
        let record = other.record("work", "fake");
        assert_eq!(record["agent_exit_code"], Value::Null);
        assert_eq!(record["resets_at"], one.record("work", "fake")["resets_at"]);
        assert!(is_parked(&other));

        // What a person ends is ended everywhere, and does not come back.
        assert_eq!(
            other.agent_runner(&["agents", "unpark", "fake"]).code,
            Some(0)
        );
        assert!(!is_parked(&other) && !is_parked(&one));
        assert_eq!(other.run("fake", "work").code, Some(0));
        assert_eq!(one.run("fake", "work").code, Some(10), "met anew");
        assert!(is_parked(&other));
    }
}

#[test]
fn what_the_runs_of_a_worker_meet_is_known_elsewhere_too() {
    for queue in Place::all() {
        let other = machine(&queue.url(), "", "");
        // As the compose file has it: the variable alone.
        let worker = TestEnv::new()
            .script("fake", "claude", &limited(3))
            .config("[dispatch]\nagent = \"fake\"")
            .variable("AGENT_RUNNER_QUEUE_URL", queue.url());
        let repository = worker.repository().display().to_string();
        let order = [
            "delegate",
            "Do it.",
            "--provider",
            "local",
            "--repo",
            &repository,
        ];
        let ordered = worker.agent_runner(&order);
        assert_eq!(ordered.code, Some(0), "{}", ordered.stderr);
        let done = worker.agent_runner(&["dispatch", "--source", "local", "--once"]);
        assert!(is_parked(&other), "{}", done.stderr);
    }
}

#[test]
fn a_local_task_is_done_by_the_machine_that_has_its_repository_and_by_no_other() {
    let Some(queue) = Postgres::start() else {
        return;
    };
    let machine = || {
        TestEnv::new()
            .script("fake", "text", "exit 3")
            .config("[dispatch]\nagent = \"fake\"\nattempts = 1")
            .variable("AGENT_RUNNER_QUEUE_URL", queue.url())
    };
    let (one, other) = (machine(), machine());
    let ordered = one.agent_runner(&["delegate", "Do it.", "--provider", "local"]);
    assert_eq!(ordered.code, Some(0), "{}", ordered.stderr);
    let work = |env: &TestEnv| env.agent_runner(&["dispatch", "--source", "local", "--once"]);
    let runs = |env: &TestEnv| env.records("dispatch_issue", "fake").len();
    assert_eq!(work(&other).code, Some(0));
    assert_eq!((runs(&one), runs(&other)), (0, 0));
    assert_eq!(work(&one).code, Some(1));
    assert_eq!((runs(&one), runs(&other)), (1, 0));
    // At rest it is told where it rests, beside what the shared queue has.
    let told = |env: &TestEnv| env.agent_runner(&["triage"]).stdout.contains("local#1");
    assert!(told(&one) && !told(&other));
}

#[test]
fn a_cap_counts_the_runs_of_all_machines_also_while_they_run() {
    for queue in Place::all() {
        let good = claude::stream(&claude::success(), 0);
        let long = format!("while [ ! -e go ]; do sleep 0.1; done; {good}");
        let cap = "max_runs_per_day = 2";
        let [one, other] = [long, good].map(|script| machine(&queue.url(), &script, cap));
        assert_eq!(other.run("fake", "work").code, Some(0));
        let mut running = one.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let is_refused = || other.run("fake", "work").code == Some(1);
        let told = "SELECT CAST(sum(runs) AS BIGINT) FROM agent_runner_spent";
        assert!(eventually(Duration::from_secs(30), || {
            block_on(async { queue.connect().await.fetch_one(told).await })
                .unwrap()
                .get::<i64, _>(0)
                == 2
        }));
        assert!(is_refused(), "the cap is reached while one runs");
        let error = other.records("work", "fake").pop().unwrap()["error"].clone();
        assert_eq!(
            error,
            "the agent `fake` has reached its `max_runs_per_day` today: 2 of 2 runs"
        );
        fs::write(one.repository().join("go"), "").unwrap();
        assert!(running.wait().unwrap().success());
        assert!(is_refused());
        assert_eq!(one.run("fake", "work").code, Some(1), "here, too");
    }
}

#[test]
fn a_queue_that_does_not_answer_is_warned_of_and_stops_no_run() {
    let good = claude::stream(&claude::success(), 0);
    let machine = machine(
        "postgres://u:hidden@127.0.0.1:9/none",
        &good,
        "max_runs_per_day = 1",
    );
    let began = Instant::now();
    let done = machine.run("fake", "work");
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stderr.contains("other machines are not heard of"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("hidden"), "{}", done.stderr);
    assert_eq!(
        machine.run("fake", "work").code,
        Some(1),
        "what is known here counts"
    );
    let unpark = machine.agent_runner(&["agents", "unpark", "fake"]);
    assert_eq!(unpark.code, Some(1), "{}", unpark.stderr);
    assert!(
        unpark.stderr.contains("other machines are not told"),
        "{}",
        unpark.stderr
    );
}
