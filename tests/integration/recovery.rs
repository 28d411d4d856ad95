//! A runner that died leaves a run that the next command ends: recorded, swept up, told once.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::dispatch::place::Place;
use crate::real::components;
use crate::support::{Done, TestEnv, eventually, evidence, processes_with, unique_sleep};

/// Starts a run whose agent has a helper in a session of its own, and kills the runner.
fn killed_run(env: &TestEnv, sleep: &str) {
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let events = || {
        let directory = env.run_directories("work", "fake").pop()?;
        fs::read_to_string(directory.join("events.jsonl")).ok()
    };
    let is_at_work = || {
        processes_with(sleep).len() >= 2
            && events().is_some_and(|events| events.contains("started"))
    };
    assert!(eventually(Duration::from_secs(10), is_at_work));
    runner.kill().unwrap();
    runner.wait().unwrap();
}

fn env(sleep: &str) -> TestEnv {
    prepared(TestEnv::new(), sleep)
}

fn prepared(env: TestEnv, sleep: &str) -> TestEnv {
    let script = format!("echo begun; setsid sleep {sleep} & sleep {sleep}");
    env.script("fake", "text", &script).task("work", "")
}

#[test]
fn whichever_command_comes_next_ends_a_killed_run_and_what_it_left() {
    let sleep = unique_sleep(76);
    for next in [
        "run --agent quick --task other",
        "heartbeat",
        "triage",
        "clean",
        "doctor",
        "dispatch --once",
    ] {
        let Place { host, env, .. } = Place::new();
        let env = prepared(env, &sleep)
            .script("quick", "text", "echo done")
            .task("other", "")
            .unreachable_server();
        killed_run(&env, &sleep);
        let done = env.agent_runner(&next.split(' ').collect::<Vec<_>>());
        assert!(processes_with(&sleep).is_empty(), "{next}");
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "crashed", "{next}");
        let run = format!("work/fake/{}", record["run_id"].as_str().unwrap());
        let (said, words) = match next {
            "doctor" => (&done.stdout, format!("the runner of {run} died")),
            _ => (&done.stderr, format!("{run} crashed: its runner died")),
        };
        assert!(said.contains(&words), "{next}: {said}");
        let waiting = env.outbox();
        let told = waiting.iter().filter(|entry| entry["run"] == run.as_str());
        assert_eq!(told.count(), 1, "{next}: {waiting:?}");
        drop(host);
    }
}

#[test]
fn the_next_command_records_a_killed_run_as_crashed_and_kills_what_it_left() {
    let sleep = unique_sleep(20);
    let env = env(&sleep);
    killed_run(&env, &sleep);
    let done = env.agent_runner(&["heartbeat"]);
    assert_eq!(done.code, Some(0));
    assert!(done.stderr.contains("crashed"), "{}", done.stderr);
    assert!(processes_with(&sleep).is_empty());
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "crashed");
    assert!(record["exit_code"].is_null());
    assert!(record["end_time"].is_string());
    assert!(record["survivors_killed"].as_u64().unwrap() >= 1);
    assert!(
        evidence(&record).contains("last seen: started (process"),
        "{}",
        evidence(&record)
    );
    let summary = env.run_directory("work", "fake").join("summary.txt");
    let summary = fs::read_to_string(summary).unwrap();
    assert!(
        summary.contains(" files=n/a loc=n/a outcome=crashed"),
        "{summary}"
    );
    for command in ["runs", "show"] {
        let shown = env.agent_runner(&[command]).stdout;
        assert!(shown.contains("at least "), "{shown}");
    }
    let csv = env.agent_runner(&["stats", "--csv"]).stdout;
    assert!(csv.ends_with(",,1,0,0\n"), "{csv}");
    let again = env.agent_runner(&["heartbeat"]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""), "once");
}

#[test]
fn a_killed_run_is_told_also_where_the_state_of_the_log_root_is_lost() {
    let sleep = unique_sleep(20);
    let env = env(&sleep);
    killed_run(&env, &sleep);
    fs::remove_dir_all(env.logs().join(".state")).unwrap();
    let done = env.agent_runner(&["heartbeat"]);
    assert!(done.stderr.contains("crashed"), "{}", done.stderr);
    assert!(processes_with(&sleep).is_empty());
    assert_eq!(env.record("work", "fake")["outcome"], "crashed");
    let again = env.agent_runner(&["heartbeat"]);
    assert_eq!((again.code, again.stderr.as_str()), (Some(0), ""), "once");
}

#[test]
fn a_number_that_passed_to_another_process_is_not_believed() {
    let sleep = unique_sleep(30);
    let script = format!("exec sleep {sleep}");
    let env = TestEnv::new()
        .script("fake", "text", &script)
        .task("work", "");
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let agent = || processes_with(&format!("sleep\0{sleep}"));
    assert!(eventually(Duration::from_secs(10), || agent().len() == 1));
    let record = env.record("work", "fake");
    let run = format!("work/fake/{}", record["run_id"].as_str().unwrap());
    // One has the number that the record will name, the other nearly the run's marker.
    let marker = format!("{run}@{}", runner.id());
    let mut innocents = ["", "0"].map(|more| {
        std::process::Command::new("sleep")
            .arg(&sleep)
            .env("AGENT_RUNNER_MARKER", format!("{marker}{more}x"))
            .spawn()
            .unwrap()
    });
    runner.kill().unwrap();
    runner.wait().unwrap();
    let file = env.run_directory("work", "fake").join("metadata.json");
    let (old, new) = (runner.id(), innocents[0].id());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(&format!("\"pid\": {old},")));
    let text = text.replace(&format!("\"pid\": {old},"), &format!("\"pid\": {new},"));
    fs::write(&file, text).unwrap();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_eq!(env.record("work", "fake")["outcome"], "crashed");
    for innocent in &mut innocents {
        assert_eq!(innocent.try_wait().unwrap(), None, "still alive");
        innocent.kill().unwrap();
        innocent.wait().unwrap();
    }
}

#[test]
fn after_a_reboot_a_run_is_recorded_and_told_and_nothing_is_killed() {
    let sleep = unique_sleep(31);
    let env = env(&sleep).unreachable_server();
    killed_run(&env, &sleep);
    let file = env.run_directory("work", "fake").join("metadata.json");
    let record = env.record("work", "fake");
    let text = fs::read_to_string(&file).unwrap();
    let boot = record["boot_id"].as_str().unwrap();
    fs::write(&file, text.replace(boot, "00000000-of-another-boot")).unwrap();
    // Processes of this boot, whatever they carry, are not those of the run.
    let alive = || processes_with(&format!("sleep\0{sleep}"));
    assert!(eventually(Duration::from_secs(10), || alive().len() == 2));
    for _ in 0..2 {
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        assert_eq!(env.outbox().len(), 1);
    }
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "crashed");
    assert!(record["survivors_killed"].is_null());
    let left = alive();
    assert_eq!(left.len(), 2);
    for pid in left {
        let killed = std::process::Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status();
        assert!(killed.unwrap().success());
    }
}

#[test]
fn a_crashed_run_is_told_once() {
    let sleep = unique_sleep(21);
    let env = env(&sleep)
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", "http://127.0.0.1:1");
    killed_run(&env, &sleep);
    let waiting = || {
        let entries = fs::read_dir(env.logs().join(".state/outbox")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.contains(".crashed"))
            .collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        assert_eq!(waiting().len(), 1, "{:?}", waiting());
    }
    assert_eq!(
        env.record("work", "fake")["notification"]["state"],
        "pending"
    );
}

/// Runs a script as one user all of whose processes are those of the script, in a PID namespace: what
/// is killed there is no one else's, whatever goes wrong. `$RUN` is the program, run as that user.
fn alone(env: &TestEnv, script: &str) -> Option<Done> {
    const USER: u32 = 61_234;
    if !rustix::process::geteuid().is_root() {
        components::skipped("only root can become another user");
        return None;
    }
    let user = format!("setpriv --reuid={USER} --regid={USER} --clear-groups");
    let run = format!("{user} {}", env.give_to(USER).display());
    let mut unshare = Command::new("unshare");
    env.settle(&mut unshare);
    let made = unshare.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    made.env("RUN", run);
    let done = Done::from(made.args(["bash", "-c", script]).output().unwrap());
    if done.stderr.contains("unshare failed") {
        components::skipped("no PID namespace can be made here");
        return None;
    }
    Some(done)
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn an_agent_that_kills_its_runner_or_all_of_its_user_leaves_a_crashed_run_that_is_told_once() {
    let sleep = unique_sleep(77);
    // Where its user is another one, or the namespace is not its own, nothing is killed.
    let is_alone = "[ $(id -u) = 61234 ] && grep -q heartbeat /proc/1/cmdline || exit 3";
    let agents = [
        ("the runner", "setsid sleep SLEEP & kill -9 $PPID; wait", 1),
        ("all of its user", "kill -9 -1; wait", 0),
        // A helper kills agent and runner, and lives on.
        (
            "all but a helper",
            "setsid sh -c 'kill -9 -1; exec sleep SLEEP' & wait",
            1,
        ),
    ];
    for (whom, script, survivors) in agents {
        let script = format!("{is_alone}; {}", script.replace("SLEEP", &sleep));
        let env = TestEnv::new()
            .script("fake", "text", &script)
            .task("work", "containment = \"subreaper\"\ntimeout = \"60s\"")
            .unreachable_server();
        let script = format!(
            "$RUN run --agent fake --task work; echo $?; \
             for i in 1 2; do $RUN heartbeat; echo $?; \
             ps -e -o pid=,uid=,args= | awk '$2 == {}' ; done; exit 0",
            61_234
        );
        let Some(done) = alone(&env, &script) else {
            return;
        };
        let what = format!("{whom}: {done:?}");
        // The runner was killed; the next command ended the run; nothing of that user is alive.
        assert_eq!(done.stdout, "137\n0\n0\n", "{what}");
        assert_eq!(
            done.stderr.matches(" crashed: its runner died").count(),
            1,
            "{what}"
        );
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "crashed", "{what}");
        assert_eq!(record["survivors_killed"], survivors, "{what}");
        assert_eq!(env.outbox().len(), 1, "{what}");
        assert!(processes_with(&sleep).is_empty(), "{what}");
    }
}

#[test]
fn a_run_that_still_works_is_left_alone() {
    let sleep = unique_sleep(22);
    let env = env(&sleep);
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(Duration::from_secs(10), || processes_with(
        &sleep
    )
    .len()
        >= 2));
    let done = env.agent_runner(&["heartbeat"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    assert_eq!(env.record("work", "fake")["outcome"], "running");
    assert!(!processes_with(&sleep).is_empty());
    let pid = runner.id().to_string();
    std::process::Command::new("kill")
        .args(["-TERM", &pid])
        .status()
        .unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(143));
}

#[test]
fn a_run_whose_logs_are_removed_goes_on_and_ends_as_itself() {
    let sleep = unique_sleep(23);
    let env = env(&sleep);
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let is_at_work = || processes_with(&sleep).len() >= 2;
    assert!(eventually(Duration::from_secs(10), is_at_work));
    let directory = env.run_directory("work", "fake");
    for log in ["runner.log", "transcript.log", "stdout.log"] {
        fs::remove_file(directory.join(log)).unwrap();
    }
    for _ in 0..2 {
        let done = env.agent_runner(&["heartbeat"]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
        assert!(env.agent_runner(&["runs"]).stdout.contains("running"));
        fs::write(directory.join("runner.log"), "").unwrap();
    }
    assert!(is_at_work());
    let done = env.agent_runner(&["cancel", "latest"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(runner.wait().unwrap().code(), Some(143));
    assert_eq!(env.record("work", "fake")["outcome"], "interrupted");
}
