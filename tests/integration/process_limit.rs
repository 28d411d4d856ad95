//! No further process can be started: a fork bomb is ended whole, and a runner that cannot fork says
//! so and leaves nothing half done.

use std::time::{Duration, Instant};

use crate::containment::containments;
use crate::real::components;
use crate::support::process_limit::ProcessLimit;
use crate::support::{Done, TestEnv, evidence, processes_of};

const RUN: [&str; 5] = ["run", "--agent", "fake", "--task", "work"];

fn limit_of(most: u32) -> Option<ProcessLimit> {
    ProcessLimit::of(most)
        .inspect_err(|why| components::skipped(why))
        .ok()
}

#[test]
fn a_fork_bomb_is_ended_whole_at_its_time_limit() {
    // As it is known. Its processes wait when a fork is refused.
    ends_whole(150, "bash -c ':(){ :|:& };: ; exec sleep 900'");
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "a group does not hold this"
)]
fn a_fork_bomb_that_never_waits_and_hides_is_ended_whole_at_its_time_limit() {
    // Its processes hear nothing, and have neither session nor environment in common.
    ends_whole(
        60,
        "env -i perl -MPOSIX -e '$SIG{TERM} = q(IGNORE); while (1) { fork or setsid }'",
    );
}

#[track_caller]
fn ends_whole(most: u32, bomb: &str) {
    for containment in containments() {
        let Some(limit) = limit_of(most) else { return };
        let env = TestEnv::new()
            .config(&format!(
                "[runner]\ngrace_period = \"1s\"\ncontainment = \"{containment}\""
            ))
            .script("fake", "text", &format!("exec {bomb}"))
            .task("work", "timeout = \"5s\"");
        let began = Instant::now();
        let done = Done::from(limit.command(&env, &RUN).output().unwrap());
        let took = began.elapsed();
        assert_eq!(limit.current(), 0, "{containment}: nothing is left");
        assert_eq!(processes_of(env.root()), [0; 0], "{containment}");
        assert_eq!(done.code, Some(11), "{containment}: {}", done.stderr);
        let refused = limit.refused();
        assert!(refused > 0, "{containment}: no bomb, {took:?}, {done:?}");
        assert!(
            took < Duration::from_secs(5 + 1 + 5),
            "{containment}: {took:?}"
        );
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "timeout", "{containment}");
        assert_eq!(record["containment"], containment);
        let killed = record["survivors_killed"].as_u64().unwrap();
        assert!(killed > u64::from(most) / 2, "{containment}: {killed}");
        let facts = evidence(&record);
        assert!(
            !facts.contains("could not be killed"),
            "{containment}: {facts}"
        );
    }
}

#[test]
fn a_runner_that_cannot_fork_says_what_to_do_and_leaves_nothing_half_done() {
    // The fewest processes with which each succeeds; below, something cannot be started.
    for (containment, enough) in [("subreaper", 5), ("cgroup", 5), ("namespace", 12)] {
        if !containments().contains(&containment) {
            continue;
        }
        let mut codes = Vec::new();
        for most in 1..=enough {
            let Some(limit) = limit_of(most) else { return };
            let env = TestEnv::new()
                .config(&format!("[runner]\ncontainment = \"{containment}\""))
                .script("fake", "text", "touch started; exec echo hello")
                .task("work", "")
                .unreachable_server();
            let done = Done::from(limit.command(&env, &RUN).output().unwrap());
            let what = format!("{containment}, {most}: {done:?}");
            codes.push(done.code);
            assert!(!done.stderr.contains("panicked"), "{what}");
            assert_eq!(limit.current(), 0, "{what}");
            assert!(limit.refused() > 0 || done.code == Some(0), "{what}");
            if most == 1 {
                assert!(done.stderr.contains("no thread can be started"), "{what}");
                assert_eq!(env.run_directories("work", "fake").len(), 0, "{what}");
            } else {
                check_record(&env, &done, &what);
            }
        }
        assert_eq!(codes.first(), Some(&Some(1)), "{containment}");
        assert_eq!(codes.last(), Some(&Some(0)), "{containment}");
    }
}

/// One final record that says the same as the exit code, told once, and no agent without it.
#[track_caller]
fn check_record(env: &TestEnv, done: &Done, what: &str) {
    let record = env.record("work", "fake");
    assert_eq!(
        record["exit_code"].as_i64(),
        done.code.map(i64::from),
        "{what}"
    );
    assert_eq!(env.outbox().len(), 1, "{what}");
    let has_started = env.repository().join("started").exists();
    let error = record["error"].as_str().unwrap_or_default();
    match record["outcome"].as_str().unwrap() {
        "success" => assert!(has_started, "{what}"),
        "start_failed" => {
            assert!(!has_started, "{what}");
            assert!(
                error.contains("raise the limit of processes"),
                "{what}: {error}"
            );
        }
        // The agent itself could not fork.
        "agent_error" => assert!(error.contains("Cannot fork"), "{what}: {error}"),
        _ => panic!("{what}: {record}"),
    }
}
