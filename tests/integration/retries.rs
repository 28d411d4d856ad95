//! Failures that pass by themselves are tried again, each try a run of its own.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::publications::Publications;
use crate::support::{TestEnv, claude, eventually, evidence};

/// An agent whose first runs find the provider overloaded.
fn env(failures: u32, runner: &str, task: &str) -> TestEnv {
    let (bad, good) = (claude::overloaded(), claude::success());
    let script = format!(
        "echo x >> starts; if [ $(wc -l < starts) -le {failures} ]; then {}; fi; {}",
        claude::stream(&bad, 1).replace("exit 1", "\nexit 1"),
        claude::stream(&good, 0)
    );
    TestEnv::new()
        .config(&format!("[runner]\n{runner}"))
        .script("fake", "claude", &script.replace("exit 1;", "exit 1\n"))
        .task("work", task)
}

#[test]
fn an_overloaded_provider_is_tried_again_each_time_with_a_record_of_its_own() {
    let env = env(2, "retry_pause = \"100ms\"", "timeout = \"1m\"");
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let records = env.records("work", "fake");
    let outcomes: Vec<_> = records.iter().map(|record| &record["outcome"]).collect();
    assert_eq!(outcomes, ["agent_error", "agent_error", "success"]);
    assert_eq!(records[0]["error_class"], "overloaded");
    assert_eq!(records[0]["previous_run"], Value::Null);
    for pair in records.windows(2) {
        let before = format!("work/fake/{}", pair[0]["run_id"].as_str().unwrap());
        assert_eq!(pair[1]["previous_run"], before.as_str());
        let limit = |record: &Value| record["timeout_seconds"].as_f64().unwrap();
        assert!(limit(&pair[1]) < limit(&pair[0]), "one limit for all tries");
    }
    assert!(evidence(&records[2]).contains("try 3 of 3"));
    assert!(
        done.stderr.contains("529 Overloaded; once more in"),
        "{}",
        done.stderr
    );
}

#[test]
fn each_try_is_told_at_once_where_the_outbox_takes_none() {
    let server = Publications::start();
    let env = env(1, "retry_pause = \"0s\"", "")
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", server.url());
    let state = env.logs().join(".state");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("outbox"), "").unwrap();
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(server.take().len(), 2, "{}", done.stderr);
    for record in env.records("work", "fake") {
        assert_eq!(record["notification"]["state"], "delivered");
    }
}

#[test]
fn a_rerun_of_a_further_try_has_the_whole_time() {
    let env = env(2, "retry_pause = \"100ms\"", "timeout = \"1m\"");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let limits = || -> Vec<_> {
        let records = env.records("work", "fake").into_iter();
        records
            .map(|record| record["timeout_seconds"].as_f64())
            .collect()
    };
    assert!(limits()[2] < Some(60.0));
    drop(env.agent_runner(&["rerun", "latest"]));
    assert_eq!(limits()[3], Some(60.0));
    // A limit that was given is the run's own.
    drop(env.agent_runner(&["rerun", "latest", "--timeout", "40s"]));
    drop(env.agent_runner(&["rerun", "latest"]));
    assert_eq!(limits()[4..], [Some(40.0); 2]);
}

/// An agent whose first run does something and then finds the provider overloaded.
fn first_fails_after(work: &str, then: &str, task: &str) -> TestEnv {
    let (bad, good) = (claude::overloaded(), claude::success());
    let script = format!(
        "if ! [ -e ../tried ]; then touch ../tried; {work}\n{}\nfi\n{then}\n{}",
        claude::stream(&bad, 1),
        claude::stream(&good, 0)
    );
    TestEnv::new()
        .config("[runner]\nretry_pause = \"0s\"")
        .script("fake", "claude", &script)
        .task("work", &format!("requires_commit = true\n{task}"))
}

#[test]
fn a_filter_that_a_try_configured_is_not_run_by_the_next() {
    let plant = "printf '#!/bin/sh\ntouch $0.ran\ncat\n' > ~/filter; chmod +x ~/filter
        git config filter.f.clean ~/filter; git config filter.f.smudge ~/filter
        echo '* filter=f' > \"$(git rev-parse --git-common-dir)/info/attributes\"
        touch -d 2001-01-01 README.md";
    for task in ["", "isolation = \"worktree\""] {
        let env = first_fails_after(plant, "", task);
        assert_eq!(env.run("fake", "work").code, Some(1), "{task}");
        assert_eq!(env.records("work", "fake").len(), 2, "{task}");
        let ran = env.root().join("home/filter.ran");
        assert!(!ran.exists(), "{task}");
        env.git(&["hash-object", "--path=README.md", "README.md"]);
        assert!(ran.exists(), "{task}: the trap works");
    }
}

#[test]
fn a_filter_of_a_repository_that_a_try_made_is_not_run_by_the_next() {
    let plant = "git init -q; git add README.md; git commit -qm first
        printf '#!/bin/sh\ntouch $0.ran\ncat\n' > ~/filter; chmod +x ~/filter
        git config filter.f.clean ~/filter; echo '* filter=f' > .git/info/attributes
        touch -d 2001-01-01 README.md";
    let env = first_fails_after(plant, "", "").task("anywhere", "");
    fs::remove_dir_all(env.repository().join(".git")).unwrap();
    assert_eq!(env.run("fake", "anywhere").code, Some(0));
    assert_eq!(env.records("anywhere", "fake").len(), 2);
    let ran = env.root().join("home/filter.ran");
    assert!(!ran.exists());
    env.git(&["hash-object", "--path=README.md", "README.md"]);
    assert!(ran.exists(), "the trap works");
}

#[test]
fn what_a_try_committed_before_it_failed_counts_for_the_next() {
    let commit = "echo x > x; git add x; git commit -qm work";
    let env = first_fails_after(commit, "", "");
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let records = env.records("work", "fake");
    let first = records[0]["run_id"].as_str().unwrap();
    let head = env.git(&["rev-parse", "HEAD"]);
    let said = format!(
        "an earlier try, work/fake/{first}, committed {}",
        &head[..8]
    );
    assert!(
        evidence(&records[1]).contains(&said),
        "{}",
        evidence(&records[1])
    );
    // A commit that is not on the branch any more counts for nobody, and is named; so is one on
    // the branch of another run.
    let outcomes = |work: &str, then: &str, task: &str| {
        let env = first_fails_after(work, then, task);
        assert_eq!(env.run("fake", "work").code, Some(1));
        env.records("work", "fake")[1]["error"].to_string()
    };
    let gone = outcomes(commit, "git reset -q --hard HEAD~1", "");
    assert!(gone.contains("no branch has it now"), "{gone}");
    let apart = outcomes(commit, "", "isolation = \"worktree\"");
    assert!(apart.contains("; an earlier try, work/fake/"), "{apart}");
    // Nothing was committed.
    let nothing = outcomes("", "", "");
    assert!(
        nothing.ends_with("the run left no change at all\""),
        "{nothing}"
    );
    let outside = format!("{commit}; mkdir d; echo x > d/x; git add d; git commit -qm further");
    assert!(outcomes(&outside, "", "paths = [\"d/**\"]").contains("an earlier try"));
}

#[test]
fn what_a_try_left_uncommitted_may_be_thrown_away_by_the_next() {
    let again = "git clean -fdq; echo done > a; git add a; git commit -qm again";
    let env = first_fails_after("touch half-done", again, "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let records = env.records("work", "fake");
    let facts = evidence(&records[1]);
    assert!(
        facts.contains("uncommitted changes from before the run are gone: half-done"),
        "{facts}"
    );
}

#[test]
fn what_a_person_had_counts_whichever_try_destroys_it() {
    let commit = "echo x > x; git add x; git commit -qm work";
    let blocked = |work: &str, then: &str| {
        let env = first_fails_after(work, then, "");
        env.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
        std::fs::write(env.repository().join("mine"), "mine").unwrap();
        assert_eq!(env.run("fake", "work").code, Some(1));
        let record = env.records("work", "fake").remove(1);
        assert_eq!(record["outcome"], "policy_blocked", "{}", evidence(&record));
        (record["error"].to_string(), evidence(&record))
    };
    let gone = "uncommitted changes from before the run are gone: mine";
    let (error, facts) = blocked("touch half-done", &format!("rm half-done mine; {commit}"));
    assert!(error.ends_with(&format!("{gone}\"")), "{error}");
    assert!(facts.contains("half-done, mine"), "{facts}");
    let (error, _) = blocked(&format!("rm mine; {commit}"), "");
    assert!(error.contains(gone), "{error}");
    let (error, facts) = blocked(&format!("git reset -q --hard HEAD~1; {commit}"), "rm mine");
    assert!(error.contains("`second` is not the run's own"), "{error}");
    assert!(facts.contains(gone), "{facts}");
}

#[test]
fn tries_are_counted_and_the_last_failure_is_the_result() {
    let three = env(9, "retry_pause = \"0s\"", "");
    assert_eq!(three.run("fake", "work").code, Some(1));
    assert_eq!(three.records("work", "fake").len(), 3);
    let task = env(9, "retry_pause = \"0s\"", "retries = 0");
    assert_eq!(task.run("fake", "work").code, Some(1));
    assert_eq!(task.records("work", "fake").len(), 1);
}

#[test]
fn a_pause_that_the_time_limit_does_not_allow_is_not_made() {
    let env = env(9, "retry_pause = \"16s\"", "timeout = \"30s\"");
    let began = Instant::now();
    assert_eq!(env.run("fake", "work").code, Some(1));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(env.records("work", "fake").len(), 1);
}

#[test]
fn a_provider_that_cannot_be_reached_is_tried_again() {
    let env = TestEnv::new()
        .config("[runner]\nretry_pause = \"0s\"")
        .script("fake", "claude", &claude::stream(&claude::unreachable(), 1))
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(1));
    let records = env.records("work", "fake");
    assert_eq!(records.len(), 3);
    assert!(
        records
            .iter()
            .all(|record| record["error_class"] == "network")
    );
}

#[test]
fn a_failure_that_does_not_pass_is_not_tried_again() {
    let lines = [claude::init(), claude::result("no", true)];
    let env = TestEnv::new()
        .config("[runner]\nretry_pause = \"0s\"")
        .script("fake", "claude", &claude::stream(&lines, 1))
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(1));
    assert_eq!(env.records("work", "fake").len(), 1);
}

#[test]
fn a_request_to_stop_ends_the_pause_at_once() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let env = env(9, "retry_pause = \"1m\"", "");
        let mut child = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let waits = || {
            let task_log = env.logs().join("work/task.log");
            std::fs::read_to_string(task_log).is_ok_and(|log| log.contains("agent_error"))
        };
        assert!(eventually(Duration::from_secs(10), waits));
        let began = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        let kill = format!("kill -{signal} {}", child.id());
        std::process::Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(began.elapsed() < Duration::from_secs(5));
        let records = env.records("work", "fake");
        assert_eq!(records.len(), 2);
        assert_eq!(records[1]["outcome"], "interrupted");
        assert_eq!(records[1]["exit_code"], code);
        assert!(records[1]["previous_run"].is_string());
    }
}

#[test]
fn cancel_ends_a_run_that_waits_to_be_tried_again() {
    let env = env(9, "retry_pause = \"1m\"", "");
    let mut child = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let has_ended = || {
        let task_log = env.logs().join("work/task.log");
        std::fs::read_to_string(task_log).is_ok_and(|log| log.contains("agent_error"))
    };
    assert!(eventually(Duration::from_secs(10), has_ended));
    let done = env.agent_runner(&["cancel"]);
    assert_eq!(done.code, Some(0));
    let told = done
        .stderr
        .contains("has ended, agent_error, and is not tried again");
    assert!(told, "{}", done.stderr);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let records = env.records("work", "fake");
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["outcome"], "interrupted");
    let after = env.agent_runner(&["cancel"]);
    assert!(
        after.stderr.contains("has ended already"),
        "{}",
        after.stderr
    );
}

#[test]
fn a_list_does_not_leave_an_agent_for_a_failure_that_passes() {
    let env = env(1, "retry_pause = \"0s\"", "").script("other", "text", "echo hello");
    assert_eq!(env.run("fake,other", "work").code, Some(0));
    assert_eq!(env.records("work", "fake").len(), 2);
    assert!(env.records("work", "other").is_empty());
}
