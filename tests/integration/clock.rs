//! A clock that is set while runs work, notifications wait and records lie there. The program reads
//! the time of day from libfaketime, which the agent sets; the monotonic clock is the machine's.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::real::components;
use crate::support::publications::Publications;
use crate::support::{Done, TestEnv};

/// Where the clock is set to, in the words of libfaketime.
const JUMPS: &[&str] = &[
    "-1d",
    "+3650d",
    "@1970-01-01 00:00:00",
    "@2038-01-19 03:14:06",
    "@2106-02-07 06:28:14",
];

/// The library that the machine has, and that works here.
fn library() -> Option<String> {
    let places = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let path = |place| format!("/usr/lib/{place}/faketime/libfaketime.so.1");
    let found = places
        .map(path)
        .into_iter()
        .find(|path| Path::new(path).exists());
    if found.is_none() {
        components::missing("libfaketime is not installed; run tests/install");
    }
    found
}

/// A place whose agent sets the clock to `jump` in the middle of its work.
fn env(library: &str, server: &Publications, jump: &str) -> TestEnv {
    let env = TestEnv::new();
    let clock = env.root().join("clock");
    fs::write(&clock, "+0").unwrap();
    let script = format!(
        "sleep 0.3; echo '{jump}' > '{clock}'; sleep 0.3; echo done",
        clock = clock.display()
    );
    env.script("fake", "text", &script)
        .task("work", "timeout = \"50s\"\nstall_timeout = \"40s\"")
        .variable("LD_PRELOAD", library)
        .variable("FAKETIME_TIMESTAMP_FILE", clock.display().to_string())
        .variable("FAKETIME_NO_CACHE", "1")
        .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .variable("DONT_FAKE_MONOTONIC", "1")
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", server.url())
}

#[test]
fn a_clock_that_is_set_changes_no_duration_and_no_outcome_and_loses_no_notification() {
    let Some(library) = library() else { return };
    for jump in JUMPS {
        let server = Publications::start();
        let env = env(&library, &server, jump);
        let offline = |arguments: &[&str]| {
            let mut command = env.command(arguments);
            command.env("AGENT_RUNNER_NTFY_SERVER", "http://127.0.0.1:1");
            Done::from(command.output().unwrap())
        };
        let run = ["run", "--agent", "fake", "--task", "work"];
        // The first sees the jump, the others come after it.
        for _ in 0..3 {
            let done = offline(&run);
            assert_eq!(done.code, Some(0), "{jump}: {}", done.stderr);
            assert!(!done.stderr.contains("crashed"), "{jump}: {}", done.stderr);
        }
        let records = env.records("work", "fake");
        assert_eq!(records.len(), 3, "{jump}");
        for record in &records {
            assert_eq!(record["outcome"], "success", "{jump}");
            let elapsed = record["elapsed_seconds"].as_f64().unwrap();
            assert!((0.5..30.0).contains(&elapsed), "{jump}: {elapsed}");
        }
        assert_eq!(env.outbox().len(), 3, "{jump}");
        let pid = |record: &Value| record["pid"].as_u64();
        assert_ne!(pid(&records[0]), pid(&records[1]));
        // The clock is right again, and the server is back.
        for clock in [jump, "+0"] {
            fs::write(env.root().join("clock"), clock).unwrap();
            assert_eq!(offline(&["heartbeat"]).code, Some(0), "{jump}");
            assert_eq!(env.outbox().len(), 3, "{jump}");
        }
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        assert_eq!(server.take().len(), 3, "{jump}");
        for record in env.records("work", "fake") {
            assert_eq!(record["notification"]["state"], "delivered", "{jump}");
        }
        let list = env.agent_runner(&["runs", "--json"]);
        assert_eq!(list.code, Some(0), "{jump}: {}", list.stderr);
    }
}

#[test]
fn a_clock_before_1970_is_named_and_is_no_panic() {
    let Some(library) = library() else { return };
    let server = Publications::start();
    let env = env(&library, &server, "");
    fs::write(env.root().join("clock"), "@1960-01-01 00:00:00").unwrap();
    let done = env.run("fake", "work");
    let expected = "error: the clock of this machine says 1960-01-01 00:00:0";
    assert!(done.stderr.starts_with(expected), "{}", done.stderr);
    assert_eq!(done.code, Some(1));
}

#[test]
fn a_clock_that_jumps_ahead_lets_clean_remove_nothing_for_its_age_or_size() {
    let Some(library) = library() else { return };
    let server = Publications::start();
    let env = env(&library, &server, "+0");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let clean = |more: &[&str]| {
        let done = env.agent_runner(&[&["clean"], more].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let has_jumped = done.stderr.contains("nothing is removed for its ");
        (env.records("work", "fake").len(), has_jumped)
    };
    let (limit, size) = (["--older-than", "90d"], ["--max-size", "1"]);
    assert_eq!(clean(&limit), (1, false));
    assert_eq!(clean(&size), (1, false), "it is of today");
    fs::write(env.root().join("clock"), "+3650d").unwrap();
    assert_eq!(clean(&limit), (1, true));
    assert_eq!(clean(&size), (1, true));
    assert_eq!(clean(&[&limit[..], &size].concat()), (1, true));
    assert_eq!(clean(&[]), (1, false), "no limit");
    // What a person does who knows that the clock is right.
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_eq!(clean(&size), (0, false));
}

#[test]
fn the_clock_of_these_tests_can_be_set() {
    let Some(library) = library() else { return };
    let server = Publications::start();
    let env = env(&library, &server, "");
    fs::write(env.root().join("clock"), "@2038-01-19 03:14:06").unwrap();
    let mut date = Command::new("date");
    env.settle(date.args(["-u", "+%Y"]));
    assert_eq!(date.output().unwrap().stdout, b"2038\n");
}
