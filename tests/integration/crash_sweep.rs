//! A runner that is killed at any of its system calls loses nothing: the same run is repeated and
//! killed by SIGKILL before each call that changes a file or starts a process, one call after the other.
//!
//! strace kills, without `-f`: it follows the runner's own thread and none of its children, and
//! counts the calls of each name by themselves. Kills at random times would find nothing, because
//! the moments that matter are microseconds long; that these are found is tested first.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::real::components;
use crate::support::publications::Publications;
use crate::support::{TestEnv, eventually, is_full, processes_of, unique_sleep};

/// The calls that change what is on disk, tell another process something, or start one.
const CALLS: &[&str] = &[
    "write",
    "pwrite64",
    "writev",
    "sendto",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "rmdir",
    "unlink",
    "unlinkat",
    "ftruncate",
    "fallocate",
    "flock",
    "clone",
    "clone3",
    "vfork",
    "kill",
];

/// The calls that create a file only sometimes.
const OPENS: &[&str] = &["open", "openat"];

/// Just before the `number`th call of this name.
#[derive(Clone, Debug)]
struct Point {
    call: String,
    number: usize,
}

/// Where a command can be killed, as one run of it shows; `None` without strace.
#[track_caller]
fn points(env: &TestEnv, command: &[&str]) -> Option<Vec<Point>> {
    let trace = env.root().join("trace");
    let calls = [CALLS, OPENS].concat().join(",");
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-e", &format!("trace={calls}"), "-o"]);
    env.settle(strace.arg(&trace).args(command));
    let Ok(output) = strace.output() else {
        components::missing("strace is not installed; run tests/install");
        return None;
    };
    let trace = fs::read_to_string(trace).unwrap_or_default();
    if trace.is_empty() {
        components::missing(&format!("strace cannot trace here: {output:?}"));
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    let mut numbers = HashMap::new();
    let mut points = Vec::new();
    for line in trace.lines() {
        let Some((call, arguments)) = line.split_once('(') else {
            continue;
        };
        let number = numbers.entry(call).or_insert(0);
        *number += 1;
        if CALLS.contains(&call) || arguments.contains("O_CREAT") {
            points.push(Point {
                call: call.to_owned(),
                number: *number,
            });
        }
    }
    Some(points)
}

/// Runs the command and kills it at a point; tells whether it came there.
#[track_caller]
fn kill_at(env: &TestEnv, command: &[&str], point: &Point) -> bool {
    let Point { call, number } = point;
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-e", &format!("trace={call}"), "-e"]);
    strace.arg(format!("inject={call}:signal=SIGKILL:when={number}"));
    env.settle(strace.args(["-o", "/dev/null"]).args(command));
    let status = strace.output().unwrap().status;
    // strace ends as the traced process did.
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

/// The points of a normal test: each tenth. The full test takes them all.
fn chosen(points: Vec<Point>) -> impl Iterator<Item = Point> {
    points.into_iter().step_by(if is_full() { 1 } else { 10 })
}

/// Whether a writer of two versions leaves a valid one wherever it is killed.
fn survives_every_kill(script: &str) -> Option<bool> {
    let env = TestEnv::new();
    let command = ["sh", "-c", script];
    let file = env.root().join("record");
    for point in points(&env, &command)? {
        fs::write(&file, "{\"version\": 1}").unwrap();
        assert!(kill_at(&env, &command, &point), "{point:?}");
        let text = fs::read(&file).unwrap_or_default();
        if serde_json::from_slice::<Value>(&text).is_err() {
            return Some(false);
        }
    }
    Some(true)
}

#[test]
fn the_sweep_catches_a_writer_that_overwrites_in_place() {
    let write = "printf '{\"version\": 2}' >";
    let Some(naive) = survives_every_kill(&format!("{write} record")) else {
        return;
    };
    assert!(!naive);
    let whole = survives_every_kill(&format!("{write} new; mv new record"));
    assert_eq!(whole, Some(true));
}

const RUN: [&str; 6] = [
    env!("CARGO_BIN_EXE_agent-runner"),
    "run",
    "--agent",
    "fake",
    "--task",
    "work",
];

const HEARTBEAT: [&str; 2] = [env!("CARGO_BIN_EXE_agent-runner"), "heartbeat"];

/// A place where an agent commits, prints and leaves a process behind, and is told of.
fn env(server: &Publications) -> TestEnv {
    let sleep = unique_sleep(40);
    let script = format!(
        "setsid sleep {sleep} </dev/null >/dev/null 2>&1 & \
         date +%N >> work && git add work && git commit -qm work; echo done"
    );
    TestEnv::new()
        .script("fake", "text", &script)
        .task("work", "requires_commit = true\nverify = [\"true\"]")
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", server.url())
}

/// All files below a directory.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// What is not as it must be once a recovering command has seen what a killed one left.
fn faults(env: &TestEnv, told: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut found = Vec::new();
    files(&env.logs(), &mut found);
    let mut records = Vec::new();
    for file in &found {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(file).unwrap();
        let is = |ending: &str| name.ends_with(ending);
        let documents: Vec<&str> = match () {
            () if is(".json") => vec![&text],
            () if is(".jsonl") || name.starts_with("runner.") => text.lines().collect(),
            () => Vec::new(),
        };
        for document in documents {
            match serde_json::from_str::<Value>(document) {
                Ok(record) if name == "metadata.json" => records.push(record),
                Ok(_) => {}
                Err(error) => faults.push(format!("{}: {error}: {document}", file.display())),
            }
        }
        // One of an outbox is removed after an hour: it might be another process's.
        let is_left = name.starts_with(".tmp") && !file.parent().unwrap().ends_with("outbox");
        if is_left || name == "reserve" || (name == ".gitignore" && text != "*\n") {
            faults.push(format!("left behind: {}: {text:?}", file.display()));
        }
    }
    let begun = env.run_directories("work", "fake").len();
    if begun > 1 || records.len() != begun {
        faults.push(format!("{begun} runs, {} records", records.len()));
    }
    for record in records {
        let (outcome, told_of) = (&record["outcome"], &record["notification"]["state"]);
        if outcome != "success" && outcome != "crashed" || told_of != "delivered" {
            faults.push(format!("outcome {outcome}, notification {told_of}"));
        }
        // Once more when the runner died before it could note that it had told.
        let count = told.iter().filter(|title| title.contains("work")).count();
        if !(1..=2).contains(&count) {
            faults.push(format!("{outcome} was told {count} times: {told:?}"));
        }
    }
    let marks = fs::read_dir(env.logs().join(".state/running"));
    if marks.into_iter().flatten().count() > 0 || !env.outbox().is_empty() {
        faults.push("a mark or a notification is left".to_owned());
    }
    if !eventually(Duration::from_secs(10), || {
        processes_of(env.root()).is_empty()
    }) {
        faults.push(format!("processes left: {:?}", processes_of(env.root())));
    }
    faults
}

/// Recovers what a command left that was killed at a point, and tells what is not as it must be.
fn recover(env: &TestEnv, server: &Publications, point: &Point) -> Vec<String> {
    let done = env.agent_runner(&HEARTBEAT[1..]);
    let mut faults = faults(env, &server.take());
    if done.code != Some(0) {
        faults.push(format!("heartbeat: {}", done.stderr));
    }
    let again = env.agent_runner(&HEARTBEAT[1..]);
    if again.code != Some(0) || !again.stderr.is_empty() || !server.take().is_empty() {
        faults.push(format!("not once: {}", again.stderr));
    }
    let at = |fault| format!("{point:?}: {fault}");
    faults.into_iter().map(at).collect()
}

#[test]
fn a_run_that_is_killed_at_any_system_call_has_one_final_record_is_told_and_leaves_no_process() {
    let server = Publications::start();
    let Some(points) = points(&env(&server), &RUN) else {
        return;
    };
    assert!(points.len() > 60, "{points:?}");
    server.take();
    let mut faults = Vec::new();
    for point in chosen(points) {
        let env = env(&server);
        // Which call comes when depends a little on what else the machine does.
        kill_at(&env, &RUN, &point);
        faults.extend(recover(&env, &server, &point));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_recovery_that_is_killed_at_any_system_call_is_completed_by_the_next() {
    let server = Publications::start();
    // The agent works; what has to be recovered is complete.
    let crashed = || {
        let env = env(&server);
        let point = Point {
            call: "pwrite64".to_owned(),
            number: 3,
        };
        env.git(&["status"]);
        kill_at(&env, &RUN, &point).then_some(env)
    };
    let Some(env) = crashed() else {
        return;
    };
    let Some(points) = points(&env, &HEARTBEAT) else {
        return;
    };
    server.take();
    let mut faults = Vec::new();
    for point in chosen(points) {
        let env = crashed().unwrap();
        kill_at(&env, &HEARTBEAT, &point);
        faults.extend(recover(&env, &server, &point));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
