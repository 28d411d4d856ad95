//! What an agent or a task may use up on a day.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;

use crate::support::{TestEnv, claude, eventually};

/// An agent that answers at 0.25 dollars and 180 tokens a run.
fn env(agent_keys: &str, task_keys: &str) -> TestEnv {
    TestEnv::new()
        .script("fake", "claude", &claude::stream(&claude::success(), 0))
        .config(agent_keys)
        .task("work", task_keys)
        .task("other", "")
}

fn outcomes(env: &TestEnv, task: &str) -> Vec<String> {
    let records = env.records(task, "fake");
    let outcome = |record: &Value| record["outcome"].as_str().unwrap().to_owned();
    records.iter().map(outcome).collect()
}

#[test]
fn a_reached_cap_of_runs_stops_the_next_start_with_a_reason_told_once() {
    let env = env("max_runs_per_day = 2", "").unreachable_server();
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert_eq!(env.run("fake", "other").code, Some(0));
    for _ in 0..3 {
        assert_eq!(env.run("fake", "work").code, Some(1));
    }
    assert_eq!(
        outcomes(&env, "work"),
        [
            "success",
            "policy_blocked",
            "policy_blocked",
            "policy_blocked"
        ]
    );
    let blocked = &env.records("work", "fake")[1];
    assert_eq!(
        blocked["error"],
        "the agent `fake` has reached its `max_runs_per_day` today: 2 of 2 runs"
    );
    assert_eq!(blocked["evidence"][0]["source"], "policy");
    assert_eq!(blocked["agent_exit_code"], Value::Null);
    let outbox = env.outbox();
    assert_eq!(outbox.len(), 3, "two runs and one refusal");
    let body = outbox[2]["body"].as_str().unwrap();
    assert!(
        body.contains("policy_blocked") && body.contains("2 of 2 runs"),
        "{body}"
    );
}

#[test]
fn what_cannot_be_counted_lets_no_capped_run_start() {
    let env = env("", "max_runs_per_day = 5");
    let shut = env.logs().join("work/shut");
    let give = |mode| {
        fs::create_dir_all(&shut).unwrap();
        fs::set_permissions(&shut, fs::Permissions::from_mode(mode)).unwrap();
    };
    give(0);
    let run = |task| env.agent_runner_of_nobody(&["run", "--agent", "fake", "--task", task]);
    assert_eq!(run("work").code, Some(1));
    let error = env.record("work", "fake")["error"].clone();
    let expected = format!(
        "what the task `work` has used up today cannot be counted: cannot list `{}`",
        shut.display()
    );
    assert!(error.as_str().unwrap().starts_with(&expected), "{error}");
    assert_eq!(run("other").code, Some(0), "it has no cap");
    give(0o700);
    assert_eq!(run("work").code, Some(0));
}

#[test]
fn a_cap_of_a_task_counts_its_runs_by_every_agent_and_no_other_task() {
    let env = env("", "max_runs_per_day = 1").script("text", "text", "echo hello");
    assert_eq!(env.run("text", "work").code, Some(0));
    assert_eq!(env.run("fake", "work").code, Some(1));
    let error = &env.record("work", "fake")["error"];
    assert!(
        error
            .as_str()
            .unwrap()
            .starts_with("the task `work` has reached")
    );
    assert_eq!(env.run("fake", "other").code, Some(0));
}

#[test]
fn tokens_and_dollars_are_counted_and_unknown_ones_at_the_worst_case() {
    let dollars = env("max_usd_per_day = 0.5", "");
    let tokens = env("max_tokens_per_day = 360", "");
    for env in [&dollars, &tokens] {
        let codes = [0; 3].map(|_| env.run("fake", "work").code.unwrap());
        assert_eq!(codes, [0, 0, 1]);
    }
    let unknown = TestEnv::new()
        .config("[runner]\nworst_case_usd = 2\n[agents.fake]\ncommand = [\"echo\", \"hello\"]\nmax_usd_per_day = 4.0")
        .task("work", "");
    let codes = [0; 3].map(|_| unknown.run("fake", "work").code.unwrap());
    assert_eq!(codes, [0, 0, 1]);
    assert_eq!(
        unknown.records("work", "fake")[2]["error"],
        "the agent `fake` has reached its `max_usd_per_day` today: 4.00 of 4.00 US dollars, \
         2 of the 2 runs at the worst case"
    );
}

#[test]
fn a_run_that_never_started_does_not_count() {
    let env = env("max_runs_per_day = 1", "")
        .config("[agents.absent]\ncommand = [\"no-such\"]\nmax_runs_per_day = 1");
    for _ in 0..2 {
        assert_eq!(env.run("absent", "work").code, Some(1));
    }
    for record in env.records("work", "absent") {
        assert_eq!(record["outcome"], "start_failed");
    }
}

#[test]
fn eight_runs_at_once_are_no_more_than_the_cap_allows() {
    let env = TestEnv::new()
        .config("[runner]\nworst_case_usd = 1.0")
        .script("fake", "text", "echo x >> ../starts; sleep 0.5; echo hello")
        .config("max_runs_per_day = 3")
        .task("work", "");
    let mut codes = env.run_at_once(8, "fake", "work");
    codes.sort_unstable();
    assert_eq!(
        codes,
        [[0; 3].as_slice(), &[1; 5]]
            .concat()
            .into_iter()
            .map(Some)
            .collect::<Vec<_>>()
    );
    let starts = std::fs::read_to_string(env.root().join("starts")).unwrap();
    assert_eq!(starts.lines().count(), 3);
}

#[test]
fn a_list_passes_over_an_agent_whose_cap_is_reached() {
    let env = env("max_runs_per_day = 1", "").script("able", "text", "echo hello");
    assert_eq!(env.run("fake,able", "work").code, Some(0));
    assert_eq!(env.run("fake,able", "work").code, Some(0));
    assert_eq!(outcomes(&env, "work"), ["success"]);
    assert_eq!(env.records("work", "able").len(), 1);
}

#[test]
fn a_list_goes_on_when_its_agent_reaches_a_cap_just_as_it_would_start() {
    let wait = "touch started; until [ -e go ]; do sleep 0.05; done; echo hello";
    let env = TestEnv::new()
        .script("first", "text", wait)
        .script("able", "text", "echo hello")
        .script("fake", "text", "echo hello")
        .config("max_runs_per_day = 1")
        .task("work", "overlap = \"wait\"");
    let mut first = env.spawn(&["run", "--agent", "first", "--task", "work"]);
    let started = || env.repository().join("started").exists();
    assert!(eventually(Duration::from_secs(30), started));
    // Both find no cap reached yet, and wait for the repository.
    let list = ["run", "--agent", "fake,able", "--task", "work"];
    let waiting = [env.spawn(&list), env.spawn(&list)];
    let both = || {
        let runs = env.run_directories("work", "fake");
        let begun = runs.iter().filter(|run| run.join("metadata.json").exists());
        begun.count() == 2
    };
    assert!(eventually(Duration::from_secs(30), both));
    std::fs::write(env.repository().join("go"), "").unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(0));
    for mut waiting in waiting {
        assert_eq!(waiting.wait().unwrap().code(), Some(0));
    }
    let mut fakes = env.records("work", "fake");
    fakes.sort_by_key(|record| record["outcome"] == "success");
    assert_eq!(fakes[0]["outcome"], "policy_blocked");
    assert_eq!(fakes[1]["outcome"], "success");
    let able = env.record("work", "able");
    assert_eq!(able["outcome"], "success");
    let refused = format!("work/fake/{}", fakes[0]["run_id"].as_str().unwrap());
    assert_eq!(able["previous_run"], refused.as_str());
}

#[test]
fn a_retry_that_meets_a_cap_leaves_its_list_to_the_next_agent() {
    let script = claude::stream(&claude::overloaded(), 1);
    let env = TestEnv::new()
        .config("[runner]\nretry_pause = \"0s\"")
        .script("fake", "claude", &script)
        .config("max_runs_per_day = 1")
        .script("able", "text", "echo hello")
        .task("work", "");
    assert_eq!(env.run("fake,able", "work").code, Some(0));
    assert_eq!(outcomes(&env, "work"), ["agent_error", "policy_blocked"]);
}

#[test]
fn yesterday_does_not_count_and_a_day_is_the_machines() {
    let env = env("max_runs_per_day = 1", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    // The same run as it would lie there had it been made 24 hours ago.
    let today = env.run_directory("work", "fake");
    let name = today.file_name().unwrap().to_str().unwrap();
    let day = chrono::NaiveDateTime::parse_from_str(name, "%Y%m%d_%H%M%S").unwrap();
    let yesterday = (day - chrono::TimeDelta::hours(24)).format("%Y%m%d_%H%M%S");
    std::fs::rename(&today, today.with_file_name(yesterday.to_string())).unwrap();
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert_eq!(env.run("fake", "work").code, Some(1));
}

#[test]
fn a_run_that_waits_for_its_turn_ends_when_it_is_asked_to() {
    let env = env("max_runs_per_day = 2", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let turn = File::open(env.logs().join(".state/running")).unwrap();
    turn.lock().unwrap();
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let waits = || env.run_directories("work", "fake").len() == 2;
    assert!(eventually(Duration::from_secs(20), waits));
    // Until then it looks at its repository, and may be stopped, too.
    std::thread::sleep(Duration::from_millis(500));
    let pid = rustix::process::Pid::from_child(&runner);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let has_ended = || runner.try_wait().unwrap().is_some();
    let ended = eventually(Duration::from_secs(20), has_ended);
    drop(turn);
    runner.wait().unwrap();
    assert!(ended);
    assert_eq!(outcomes(&env, "work"), ["success", "interrupted"]);
    assert_eq!(
        env.records("work", "fake")[1]["agent_exit_code"],
        Value::Null
    );
}

#[test]
fn a_run_whose_turn_does_not_come_within_its_time_limit_is_not_started() {
    let env = env("max_runs_per_day = 2", "timeout = \"1s\"");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let turn = File::open(env.logs().join(".state/running")).unwrap();
    turn.lock().unwrap();
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let has_ended = || runner.try_wait().unwrap().is_some();
    let ended = eventually(Duration::from_secs(20), has_ended);
    drop(turn);
    runner.wait().unwrap();
    assert!(ended);
    assert_eq!(outcomes(&env, "work"), ["success", "start_failed"]);
    let record = &env.records("work", "fake")[1];
    assert_eq!(record["agent_exit_code"], Value::Null);
    assert!(
        record["error"]
            .as_str()
            .unwrap()
            .contains("somebody else holds it")
    );
}
