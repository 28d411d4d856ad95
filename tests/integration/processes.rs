//! Supervision: limits, signals, survivors, leaks, floods.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{TestEnv, eventually, is_full, processes_with, unique_sleep};

fn env(timeout: &str, script: &str) -> TestEnv {
    TestEnv::new()
        .config("[runner]\ngrace_period = \"1s\"")
        .script("fake", "text", script)
        .task("work", &format!("timeout = \"{timeout}\""))
}

#[test]
fn silence_beyond_the_stall_timeout_ends_the_run() {
    let env = TestEnv::new()
        .config("[runner]\ngrace_period = \"1s\"")
        .script(
            "fake",
            "text",
            "for i in 1 2 3 4; do echo $i; sleep 0.4; done; sleep 600",
        )
        .task("work", "stall_timeout = \"1s\"");
    assert_eq!(env.run("fake", "work").code, Some(11));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "stalled");
    assert!(record["elapsed_seconds"].as_f64().unwrap() > 1.6);
}

#[test]
fn ctrl_c_and_sigterm_end_the_agent_and_leave_a_final_record() {
    for (signal, code, tag) in [("INT", 130, 3), ("TERM", 143, 4), ("HUP", 129, 5)] {
        let sleep = unique_sleep(tag);
        let env = env(
            "60s",
            &format!("echo begun; setsid sleep {sleep} & sleep {sleep}"),
        );
        let mut child = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        assert!(eventually(Duration::from_secs(10), || processes_with(
            &sleep
        )
        .len()
            >= 3));
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &pid])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "interrupted");
        assert_eq!(record["exit_code"], code);
        assert!(processes_with(&sleep).is_empty());
    }
}

#[test]
fn a_hang_up_that_was_ignored_before_the_runner_began_ends_nothing() {
    let env = env(
        "60s",
        "touch begun; until [ -e go ]; do sleep 0.1; done; echo done",
    );
    let mut shell = Command::new("sh");
    env.settle(&mut shell);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let line = format!("trap '' HUP; exec {run} run --agent fake --task work");
    let mut runner = shell.args(["-c", &line]).spawn().unwrap();
    let begun = env.repository().join("begun");
    assert!(eventually(Duration::from_secs(10), || begun.exists()));
    signal(runner.id(), "-HUP");
    std::thread::sleep(Duration::from_millis(300));
    fs::write(env.repository().join("go"), "").unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    assert_eq!(env.record("work", "fake")["outcome"], "success");
}

#[test]
fn a_second_signal_ends_a_stubborn_agent_at_once() {
    let sleep = unique_sleep(6);
    let script = format!("trap '' TERM INT; while :; do sleep {sleep}; done");
    let env = TestEnv::new()
        .config("[runner]\ngrace_period = \"60s\"")
        .script("fake", "text", &script)
        .task("work", "");
    let mut child = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(Duration::from_secs(10), || processes_with(
        &sleep
    )
    .len()
        >= 2));
    let began = Instant::now();
    let pid = child.id().to_string();
    for _ in 0..2 {
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .unwrap()
                .success()
        );
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(8));
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn what_an_agent_did_while_its_runner_could_not_run_is_seen_before_a_limit_is_applied() {
    let cases = [
        // It ended in time.
        ("sleep 1; echo done", "timeout = \"2s\"", "success"),
        // It was never silent.
        (
            "for i in $(seq 20); do echo $i; sleep 0.2; done",
            "stall_timeout = \"2s\"",
            "success",
        ),
        // It was late, and is so still.
        ("sleep 600", "timeout = \"2s\"", "timeout"),
        ("sleep 600", "stall_timeout = \"2s\"", "stalled"),
    ];
    let mut runs = cases.map(|(script, limit, _outcome)| {
        let env = TestEnv::new()
            .config("[runner]\ngrace_period = \"1s\"")
            .script("fake", "text", &format!("touch begun; {script}"))
            .task("work", limit);
        let runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let begun = env.repository().join("begun");
        assert!(eventually(Duration::from_secs(10), || begun.exists()));
        signal(runner.id(), "-STOP");
        (env, runner)
    });
    std::thread::sleep(Duration::from_secs(3));
    for ((env, runner), (script, _limit, outcome)) in runs.iter_mut().zip(cases) {
        signal(runner.id(), "-CONT");
        runner.wait().unwrap();
        assert_eq!(env.record("work", "fake")["outcome"], outcome, "{script}");
    }
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn the_agent_inherits_no_ignored_signal_and_no_descriptor() {
    let script = "ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status";
    let env = env("60s", script);
    let mut shell = Command::new("sh");
    env.settle(&mut shell);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let line = format!("trap '' INT HUP QUIT; exec {run} run --agent fake --task work 7</dev/null");
    let output = shell.args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let transcript = env.run_directory("work", "fake").join("transcript.log");
    let transcript = fs::read_to_string(transcript).unwrap();
    // 0, 1, 2 and the directory that `ls` itself has open.
    assert_eq!(transcript, "4\nSigIgn:\t0000000000000000\n");
}

/// A process's resident memory now (`VmRSS:`) or at its peak (`VmHWM:`), see proc(5); 0 when it is
/// gone.
fn memory_kib(pid: u32, kind: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(kind));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0)
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn a_run_that_waits_gives_back_the_memory_that_only_its_start_needed() {
    let script = "touch begun; while [ ! -e go ]; do sleep 0.1; done; echo done";
    let env = env("60s", script);
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let begun = env.repository().join("begun");
    assert!(eventually(Duration::from_secs(10), || begun.exists()));
    let pid = runner.id();
    let is_given = || memory_kib(pid, "VmRSS:") < memory_kib(pid, "VmHWM:") * 2 / 3;
    assert!(eventually(Duration::from_secs(20), is_given));
    fs::write(env.repository().join("go"), "").unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(0));
}

/// A run that prints this many bytes and `the end`: small in memory and on disk.
#[track_caller]
fn flood(producer: &str, bytes: u64) {
    let script = format!("{producer} | head -c {bytes}; echo; echo the end");
    let env = TestEnv::new()
        .config("[runner]\nlog_head_bytes = \"1MiB\"\nlog_tail_bytes = \"1MiB\"")
        .script("fake", "text", &script)
        .task("work", "timeout = \"1h\"");
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let mut peak = 0;
    let status = loop {
        peak = peak.max(memory_kib(runner.id(), "VmHWM:"));
        match runner.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    assert_eq!(status.code(), Some(0));
    assert!((1..64 * 1024).contains(&peak), "{peak} KiB");
    let record = env.record("work", "fake");
    assert_eq!(record["output_bytes"], bytes + 9);
    assert!(record["output_dropped_bytes"].as_u64().unwrap() > bytes - (10 << 20));
    let last_message = record["last_message"].as_str().unwrap();
    assert!(last_message.ends_with("the end"), "{last_message}");
    let directory = env.run_directory("work", "fake");
    for log in ["transcript.log", "stdout.log"] {
        let log = fs::read(directory.join(log)).unwrap();
        assert!(log.len() < 3 * 1024 * 1024);
        assert!(log.ends_with(b"\nthe end\n"));
    }
}

const ONE_LINE: &str = "tr '\\0' 'x' < /dev/zero";

#[test]
fn a_run_that_only_prints_stays_small_and_keeps_head_and_tail() {
    flood(ONE_LINE, 1_000_000_000);
}

#[test]
fn floods_of_ten_gigabytes_and_of_one_endless_line_stay_small() {
    if !is_full() {
        return eprintln!("SKIPPED: minutes of output, with AGENT_RUNNER_FULL=1 alone");
    }
    flood(ONE_LINE, 2 << 30);
    flood(
        "yes 'a line as an agent prints them, with a few words'",
        10_000_000_000,
    );
}

#[test]
fn many_orphans_leave_no_zombies_behind() {
    let script = "for i in $(seq 300); do (setsid true &) ; done; sleep 0.3; \
                  ps -o stat= --ppid $PPID | grep -c Z; true";
    let env = env("60s", script);
    assert_eq!(env.run("fake", "work").code, Some(0));
    let transcript = env.run_directory("work", "fake").join("transcript.log");
    let zombies: u32 = fs::read_to_string(transcript)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(zombies <= 5, "{zombies}");
}
