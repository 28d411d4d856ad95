//! Whatever an agent does, its run ends on time with the right outcome and leaves nothing: once in
//! each containment of this machine, twenty times over in the full test.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::containment::containments;
use crate::support::{
    TestEnv, eventually, evidence, is_full, processes_of, processes_with, unique_sleep,
};

const LIMIT: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(1);
/// How late a run may end, after its limit and the grace period.
const LATE: Duration = Duration::from_secs(5);

/// How many runs are carried out at once.
const AT_ONCE: usize = 4;

/// What an agent does, and what is to be concluded from it.
#[derive(Clone, Debug)]
struct Misbehaviour {
    /// `SLEEP` stands for a sleep that can be told from all others.
    script: &'static str,
    output: &'static str,
    outcome: &'static str,
    code: i32,
    /// Further fields of the record.
    record: Value,
    /// The fewest survivors.
    survivors: u64,
}

/// An agent that is ended at its time limit.
fn timeout(script: &'static str, record: Value) -> Misbehaviour {
    Misbehaviour {
        script,
        output: "text",
        outcome: "timeout",
        code: 11,
        record,
        survivors: 0,
    }
}

/// Runs it again and again. `tag` tells its sleeps from those of other tests.
#[track_caller]
fn check(tag: u32, misbehaviour: &Misbehaviour) {
    let containments = containments();
    let times = if is_full() { 20 } else { containments.len() };
    let repetitions: Vec<usize> = (0..times).collect();
    let faults = repetitions.chunks(AT_ONCE).flat_map(|chunk| {
        std::thread::scope(|scope| {
            let runs: Vec<_> = chunk
                .iter()
                .map(|number| {
                    let containment = containments[number % containments.len()];
                    scope.spawn(move || once(tag, containment, misbehaviour))
                })
                .collect();
            runs.into_iter()
                .filter_map(|run| run.join().unwrap())
                .collect::<Vec<String>>()
        })
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let sleep = unique_sleep(tag);
    assert!(processes_with(&sleep).is_empty());
}

/// One run; gives what was wrong with it.
fn once(tag: u32, containment: &str, misbehaviour: &Misbehaviour) -> Option<String> {
    let script = misbehaviour
        .script
        .replace("SLEEP", &format!("sleep {}", unique_sleep(tag)));
    let env = TestEnv::new()
        .config(&format!(
            "[runner]\ngrace_period = \"1s\"\nlimit_patience = \"700ms\"\n\
             containment = \"{containment}\"\nlog_head_bytes = \"1MiB\"\nlog_tail_bytes = \"1MiB\""
        ))
        .script("fake", misbehaviour.output, &script)
        .task("work", "timeout = \"1s\"");
    let began = Instant::now();
    let done = env.run("fake", "work");
    let took = began.elapsed();
    let left = processes_of(env.root());
    let record = env.record("work", "fake");
    let mut expected = misbehaviour.record.clone();
    expected["outcome"] = misbehaviour.outcome.into();
    expected["exit_code"] = misbehaviour.code.into();
    expected["containment"] = containment.into();
    if containment == "namespace" && expected["leaked_output"] == true {
        // Whoever held the pipe there has ended before that is looked for.
        expected["leaked_output"] = false.into();
    }
    let says_leak = evidence(&record).contains("still held the output pipe");
    let differs = |(key, value): (&String, &Value)| record[key] != *value;
    let wrong = expected.as_object().unwrap().iter().any(differs)
        || done.code != Some(misbehaviour.code)
        || record["survivors_killed"].as_u64() < Some(misbehaviour.survivors)
        || says_leak != (record["leaked_output"] == true)
        || !left.is_empty()
        || took > LIMIT + GRACE + LATE;
    wrong.then(|| format!("{containment}: {took:?}, left {left:?}, not {expected}: {record}"))
}

#[test]
fn a_silent_agent_is_ended_at_its_time_limit_and_exits_11() {
    let record = json!({"agent_signal": 15, "classified_error": "timeout", "output_bytes": 6});
    check(60, &timeout("echo begun; SLEEP", record));
}

#[test]
fn an_agent_that_ignores_sigterm_is_killed_after_the_grace_period() {
    let script = "trap '' TERM HUP INT; while :; do SLEEP; done";
    check(61, &timeout(script, json!({"agent_signal": 9})));
}

#[test]
fn an_agent_that_closes_its_output_is_still_held_to_its_time_limit() {
    check(
        62,
        &timeout("exec >&- 2>&-; SLEEP", json!({"agent_signal": 15})),
    );
}

#[test]
fn a_leaked_output_pipe_is_a_warning_and_not_a_hang() {
    let leak = Misbehaviour {
        script: "SLEEP & echo hello",
        output: "text",
        outcome: "success",
        code: 0,
        record: json!({"last_message": "hello", "leaked_output": true}),
        survivors: 1,
    };
    check(63, &leak);
}

#[test]
fn an_agent_that_forks_daemons_is_ended_with_them_at_its_time_limit() {
    let script = "for i in 1 2 3; do (setsid sh -c 'SLEEP & SLEEP & wait' </dev/null \
                  >/dev/null 2>&1 &); done; SLEEP";
    let mut daemons = timeout(script, json!({}));
    daemons.survivors = 9;
    check(64, &daemons);
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "a group does not hold this"
)]
fn daemons_that_threw_their_environment_away_are_ended_too() {
    let script = "(env -i setsid sh -c 'SLEEP & SLEEP' </dev/null >/dev/null 2>&1 &); SLEEP";
    let mut daemons = timeout(script, json!({}));
    daemons.survivors = 3;
    check(65, &daemons);
}

#[test]
fn processes_that_are_forked_after_the_request_to_end_are_killed() {
    let script = "trap 'for i in $(seq 100); do setsid SLEEP & done; exit 0' TERM; \
                  while :; do sleep 0.1; done";
    let mut late = timeout(script, json!({"agent_exit_code": 0}));
    late.survivors = 100;
    check(66, &late);
}

#[test]
fn a_stopped_agent_gets_the_signal_and_ends_on_time() {
    let record = json!({"agent_signal": 15});
    for script in [
        "kill -STOP $$; echo never",
        "SLEEP & kill -STOP 0; echo never",
    ] {
        check(67, &timeout(script, record.clone()));
    }
}

#[test]
fn an_agent_that_floods_its_output_is_ended_at_its_time_limit() {
    check(68, &timeout("exec yes", json!({"agent_signal": 15})));
    check(68, &timeout("exec yes >&2", json!({"agent_signal": 15})));
}

#[test]
fn an_agent_that_exits_0_in_the_grace_period_is_a_timeout_still() {
    let script = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
    check(69, &timeout(script, json!({"agent_exit_code": 0})));
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "a group does not hold this"
)]
fn an_agent_that_kills_its_own_group_when_it_is_to_end_is_a_timeout_still() {
    let script = "trap 'kill -9 0' TERM; (env -i setsid SLEEP &) ; while :; do sleep 0.1; done";
    check(70, &timeout(script, json!({"agent_signal": 9})));
}

#[test]
fn an_agent_that_asks_a_person_gets_no_answer_and_no_terminal() {
    let script = "cat; read answer; read answer </dev/tty && exit 0; read answer <&1; SLEEP";
    check(71, &timeout(script, json!({"agent_signal": 15})));
}

#[test]
fn an_agent_that_tells_of_its_limit_for_ever_is_ended_as_rate_limited() {
    let limit = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected"}}"#;
    let script = format!("while :; do echo '{limit}'; sleep 0.1; done");
    let limited = Misbehaviour {
        script: Box::leak(script.into_boxed_str()),
        output: "claude",
        outcome: "rate_limited",
        code: 10,
        record: json!({}),
        survivors: 0,
    };
    check(72, &limited);
}

#[test]
fn a_bounded_fork_bomb_is_ended_whole() {
    let sleep = unique_sleep(73);
    let generations: u32 = if is_full() { 10 } else { 7 };
    let all = 2_u32.pow(generations + 1) - 1;
    // Each forks two, down to the last generation, and tells of itself before it sleeps.
    let script = format!(
        "b() {{ [ $1 = 0 ] || {{ b $(($1 - 1)) & b $(($1 - 1)) & }}; printf x >> count; \
         exec sleep {sleep} >/dev/null 2>&1; }}; b {generations} & \
         until [ $(wc -c < count) -ge {all} ]; do sleep 0.1; done; touch ended; echo done"
    );
    for containment in containments() {
        let env = TestEnv::new()
            .config(&format!("[runner]\ncontainment = \"{containment}\""))
            .script("fake", "text", &script)
            .task("work", "timeout = \"60s\"");
        assert_eq!(env.run("fake", "work").code, Some(0), "{containment}");
        let ended = std::fs::metadata(env.repository().join("ended")).unwrap();
        let took = ended.modified().unwrap().elapsed().unwrap();
        assert!(took < GRACE + LATE, "{containment}: {took:?}");
        let record = env.record("work", "fake");
        assert_eq!(record["survivors_killed"], all, "{containment}");
        assert!(processes_with(&sleep).is_empty(), "{containment}");
    }
}

#[test]
fn an_agent_that_reads_nothing_of_a_prompt_of_4_mb_neither_hangs_nor_outlives_its_time_limit() {
    for (script, outcome, code) in [
        ("echo hello", "success", 0),
        ("exec 0<&-; echo hello", "success", 0),
        ("sleep 600", "timeout", 11),
    ] {
        let env = TestEnv::new().script("fake", "text", script);
        fs::create_dir(env.root().join("prompts")).unwrap();
        fs::write(env.root().join("prompts/big.md"), "x".repeat(4 << 20)).unwrap();
        let env = env
            .config("[tasks.work]\nprompt = \"big.md\"\nrequires_commit = false\ntimeout = \"2s\"");
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let ended = eventually(Duration::from_secs(30), || {
            runner.try_wait().unwrap().is_some()
        });
        if !ended {
            runner.kill().unwrap();
        }
        assert!(ended, "{script}");
        assert_eq!(runner.wait().unwrap().code(), Some(code), "{script}");
        assert_eq!(env.record("work", "fake")["outcome"], outcome, "{script}");
    }
}

#[test]
fn an_end_at_the_very_time_limit_is_either_and_never_both() {
    let env = TestEnv::new()
        .script("fake", "text", "sleep 0.$((980 + $$ % 20)); echo done")
        .task("work", "timeout = \"990ms\"");
    let mut codes = env.run_at_once(30, "fake", "work");
    let records = env.records("work", "fake");
    for record in &records {
        let ended = ["outcome", "exit_code", "classified_error", "error"].map(|key| &record[key]);
        let agent = [&record["agent_exit_code"], &record["agent_signal"]];
        if record["outcome"] == "success" {
            assert_eq!(
                ended,
                [&json!("success"), &json!(0), &Value::Null, &Value::Null]
            );
            assert_eq!(agent, [&json!(0), &Value::Null], "{record}");
            assert_eq!(record["last_message"], "done", "{record}");
        } else {
            assert_eq!(
                ended[..3],
                [&json!("timeout"), &json!(11), &json!("timeout")]
            );
            assert!(record["error"].is_string(), "{record}");
        }
    }
    let told = records.iter().map(|record| record["exit_code"].as_i64());
    let mut told: Vec<_> = told
        .map(|code| code.and_then(|code| i32::try_from(code).ok()))
        .collect();
    codes.sort_unstable();
    told.sort_unstable();
    assert_eq!(codes, told);
}
