//! One run at a time in a repository: skipped or waiting, recorded, and free when its holder dies.

use std::fs;
use std::time::Duration;

use crate::support::{TestEnv, eventually, evidence};

/// A task whose agent works until a file appears.
fn env() -> TestEnv {
    let script = "echo begun >> begun; while [ ! -e go ]; do sleep 0.05; done; echo done";
    TestEnv::new()
        .script("slow", "text", script)
        .script("quick", "text", "echo done")
        .task("work", "timeout = \"20s\"")
}

fn begun(env: &TestEnv) -> bool {
    eventually(Duration::from_secs(10), || {
        env.repository().join("begun").exists()
    })
}

#[test]
fn a_second_run_in_the_same_repository_is_skipped_and_recorded() {
    let env = env();
    let mut first = env.spawn(&["run", "--agent", "slow", "--task", "work"]);
    assert!(begun(&env));
    let done = env.run("quick", "work");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let record = env.record("work", "quick");
    assert_eq!(record["outcome"], "skipped");
    assert_eq!(record["exit_code"], 0);
    assert_eq!(record["notification"]["state"], "disabled");
    assert!(evidence(&record).contains("another run holds"));
    let inside = env.repository().join("below");
    fs::create_dir(&inside).unwrap();
    let below = [
        "run",
        "--agent",
        "quick",
        "--task",
        "work",
        "--repo",
        inside.to_str().unwrap(),
    ];
    assert_eq!(env.agent_runner(&below).code, Some(0));
    assert_eq!(
        env.run_directories("work", "quick").len(),
        2,
        "also from a directory inside it"
    );
    fs::write(env.repository().join("go"), "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(env.run("quick", "work").code, Some(0));
}

#[test]
fn a_run_may_wait_for_the_repository() {
    let env = env();
    let mut first = env.spawn(&["run", "--agent", "slow", "--task", "work"]);
    assert!(begun(&env));
    let mut second = env.spawn(&[
        "run",
        "--agent",
        "quick",
        "--task",
        "work",
        "--overlap",
        "wait",
    ]);
    assert!(eventually(Duration::from_secs(10), || env
        .run_directories("work", "quick")
        .len()
        == 1));
    fs::write(env.repository().join("go"), "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(env.record("work", "quick")["outcome"], "success");
}

#[test]
fn waiting_is_bounded_by_the_time_limit_and_ends_as_skipped() {
    let env = env();
    let mut first = env.spawn(&["run", "--agent", "slow", "--task", "work"]);
    assert!(begun(&env));
    let wait = [
        "run",
        "--agent",
        "quick",
        "--task",
        "work",
        "--overlap",
        "wait",
        "--timeout",
        "1s",
    ];
    assert_eq!(env.agent_runner(&wait).code, Some(0));
    assert_eq!(env.record("work", "quick")["outcome"], "skipped");
    fs::write(env.repository().join("go"), "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
}

#[test]
fn the_repository_is_free_when_the_runner_that_held_it_was_killed() {
    let env = env();
    let mut first = env.spawn(&["run", "--agent", "slow", "--task", "work"]);
    assert!(begun(&env));
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(env.run("quick", "work").code, Some(0));
    assert_eq!(env.record("work", "quick")["outcome"], "success");
}
