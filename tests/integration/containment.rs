//! Containment: whatever the agent does, nothing of a run outlives it; in each way of holding
//! processes together that this machine has.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{TestEnv, eventually, evidence, processes_with, unique_sleep};

const SOON: Duration = Duration::from_secs(10);

/// The ways that this machine has; the others are said loudly, and with `CI=true` root has them
/// all but for cgroups, which a container may lack.
#[expect(clippy::print_stderr, reason = "what is skipped is said")]
pub fn containments() -> Vec<&'static str> {
    let is_strict = std::env::var("CI").is_ok_and(|ci| ci == "true") && is_root();
    if cfg!(any(not(target_os = "linux"), agent_runner_portable)) {
        return vec!["group"];
    }
    let mut found = vec!["subreaper"];
    if cgroups().is_some() {
        found.push("cgroup");
    } else {
        eprintln!("SKIPPED: containment `cgroup`: no cgroup of version 2 can be made here");
    }
    if has_namespace() {
        found.push("namespace");
    } else {
        assert!(!is_strict, "bubblewrap is missing or cannot do its work");
        eprintln!("SKIPPED: containment `namespace`: bubblewrap is missing or not allowed");
    }
    found
}

fn has_namespace() -> bool {
    let arguments = "--unshare-pid --dev-bind / / --proc /proc true".split(' ');
    let bubblewrap = Command::new("bwrap")
        .args(arguments)
        .stderr(Stdio::null())
        .status();
    bubblewrap.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

/// Where cgroups of version 2 are mounted, when the agent-runner can make them.
fn cgroups() -> Option<PathBuf> {
    let env = env("cgroup", "true");
    let done = env.agent_runner(&["run", "--agent", "fake", "--task", "work", "--dry-run"]);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" cgroup2 "));
    let mount = PathBuf::from(mount?.split(' ').nth(1)?);
    (done.code == Some(0)).then_some(mount)
}

/// The directory of the cgroup of a run, if there is one.
fn cgroup_of(record: &Value) -> String {
    let Some(mount) = cgroups() else {
        return String::new();
    };
    let (run_id, pid) = (record["run_id"].as_str().unwrap(), &record["pid"]);
    let name = format!("agent-runner.*.{run_id}.{pid}");
    let mut find = Command::new("find");
    find.arg(mount).args(["-type", "d", "-name", &name]);
    String::from_utf8(find.stderr(Stdio::null()).output().unwrap().stdout).unwrap()
}

/// A place with the task `work` in a containment, for an agent that is a script.
fn env(containment: &str, script: &str) -> TestEnv {
    TestEnv::new()
        .config(&format!(
            "[runner]\ngrace_period = \"1s\"\ncontainment = \"{containment}\""
        ))
        .script("fake", "text", script)
        .task("work", "timeout = \"60s\"")
        .task("short", "timeout = \"1s\"")
}

fn transcript(env: &TestEnv, task: &str) -> String {
    let file = env.run_directory(task, "fake").join("transcript.log");
    fs::read_to_string(file).unwrap()
}

/// Two processes that leave the agent's session, one of them without its environment.
fn escape(sleep: &str) -> String {
    format!(
        "setsid sleep {sleep} </dev/null >/dev/null 2>&1 & \
         env -i setsid sh -c 'sleep {sleep} & sleep {sleep}' </dev/null >/dev/null 2>&1 &"
    )
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "a group does not hold this"
)]
fn nothing_of_a_run_is_alive_after_it_whatever_session_or_environment_it_chose() {
    let sleep = unique_sleep(2);
    for containment in containments() {
        let script = format!("{} sleep 0.3; echo hello", escape(&sleep));
        let env = env(containment, &script);
        assert_eq!(env.run("fake", "work").code, Some(0), "{containment}");
        assert!(processes_with(&sleep).is_empty(), "{containment}");
        let record = env.record("work", "fake");
        assert_eq!(record["survivors_killed"], 4, "{containment}");
        assert_eq!(record["containment"], containment);
        assert_eq!(transcript(&env, "work"), "hello\n");
        assert_eq!(cgroup_of(&record), "", "{containment}");
    }
}

#[test]
fn the_end_of_the_agent_is_told_as_it_was() {
    for containment in containments() {
        for (script, code, signal) in [
            ("exit 137", Some(137), None),
            ("kill -9 $$", None, Some(9)),
            ("kill -TERM $$", None, Some(15)),
        ] {
            let env = env(containment, script);
            assert_eq!(env.run("fake", "work").code, Some(1), "{containment}");
            let record = env.record("work", "fake");
            assert_eq!(record["agent_exit_code"].as_i64(), code, "{containment}");
            assert_eq!(record["agent_signal"].as_i64(), signal, "{containment}");
            assert!(record["max_rss_bytes"].as_u64().unwrap() > 0);
            assert!(record["cpu_seconds"].is_number());
            assert_eq!(record["survivors_killed"], 0, "{containment}");
        }
    }
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn the_agent_gets_its_input_and_inherits_nothing_else_in_every_containment() {
    for containment in containments() {
        let env = env(
            containment,
            "cat; echo; ls /proc/self/fd | wc -l; grep -E 'Sig(Blk|Ign)' /proc/self/status; \
             pwd; echo $AGENT_RUNNER_MARKER | grep -c work/fake",
        );
        assert_eq!(env.run("fake", "work").code, Some(0), "{containment}");
        let repository = env.repository();
        let expected = format!(
            "do the work\n4\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n{}\n1\n",
            repository.display()
        );
        assert_eq!(transcript(&env, "work"), expected, "{containment}");
    }
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn no_signal_is_held_back_from_an_agent_or_from_git() {
    for containment in containments() {
        // No shell, which may let all signals through before it starts a program.
        let shown = "#!/usr/bin/python3 -I\nimport os, sys\nfor line in open('/proc/self/status'):\n\
                     \x20   if line.startswith('SigBlk'): open('SEEN', 'a').write(line)\n\
                     os.execv('/usr/bin/git', sys.argv)\n";
        let env = env(containment, "");
        let (seen, programs) = (env.root().join("seen"), env.root().join("programs"));
        fs::create_dir(&programs).unwrap();
        let git = programs.join("git");
        fs::write(&git, shown.replace("SEEN", seen.to_str().unwrap())).unwrap();
        fs::set_permissions(&git, fs::Permissions::from_mode(0o700)).unwrap();
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
        let env = env.variable("PATH", path).config(
            "[agents.bare]\ncommand = [\"/bin/grep\", \"SigBlk\", \"/proc/self/status\"]\n\
             output = \"text\"",
        );
        assert_eq!(env.run("bare", "work").code, Some(0), "{containment}");
        let nothing = "SigBlk:\t0000000000000000\n";
        let transcript = env.run_directory("work", "bare").join("transcript.log");
        assert_eq!(
            fs::read_to_string(transcript).unwrap(),
            nothing,
            "{containment}"
        );
        let seen = fs::read_to_string(seen).unwrap();
        assert_eq!(seen, nothing.repeat(seen.lines().count()), "{containment}");
    }
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "a group does not hold this"
)]
fn two_hundred_processes_that_replace_themselves_for_ever_are_ended() {
    for containment in containments() {
        let mark = format!("again{}{containment}", std::process::id());
        // Each forks its successor and exits; the name stands in all their command lines. The first
        // two do it as fast as they can.
        let chain = format!("{mark}() {{ [ $1 -lt 3 ] || sleep 0.3; {mark} $1 & }}; {mark} $0");
        let script = format!(
            "for i in $(seq 200); do setsid sh -c '{chain}' $i </dev/null >/dev/null 2>&1 & done; \
             sleep 0.5; echo hello"
        );
        let env = env(containment, &script);
        let began = Instant::now();
        let done = env.run("fake", "work");
        assert_eq!(done.code, Some(0), "{containment}: {}", done.stdout);
        assert!(processes_with(&mark).is_empty(), "{containment}");
        assert!(began.elapsed() < 3 * SOON, "{containment}");
        let record = env.record("work", "fake");
        assert!(record["survivors_killed"].as_u64().unwrap() > 0);
        assert!(!evidence(&record).contains("could not be killed"));
    }
}

#[test]
fn ctrl_c_ends_the_agent_in_every_containment() {
    let sleep = unique_sleep(9);
    for containment in containments() {
        let env = env(
            containment,
            &format!("setsid sleep {sleep} & sleep {sleep}"),
        );
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        assert!(eventually(SOON, || processes_with(&sleep).len() >= 3));
        let began = Instant::now();
        let pid = runner.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.unwrap().success());
        assert_eq!(runner.wait().unwrap().code(), Some(130), "{containment}");
        assert!(began.elapsed() < Duration::from_secs(5), "{containment}");
        assert_eq!(env.record("work", "fake")["outcome"], "interrupted");
        assert!(processes_with(&sleep).is_empty(), "{containment}");
    }
}

/// Starts a run whose agent lets processes escape, and kills the runner.
fn killed_run(containment: &str, sleep: &str) -> TestEnv {
    let env = env(containment, &format!("{} sleep {sleep}", escape(sleep)));
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let all = || processes_with(&format!("sleep\0{sleep}")).len() >= 4;
    assert!(eventually(SOON, all), "{containment}");
    runner.kill().unwrap();
    runner.wait().unwrap();
    env
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "an agent outlives its runner"
)]
fn the_agent_itself_dies_with_its_runner_before_any_next_command() {
    let sleep = unique_sleep(75);
    let agents = || processes_with(&format!("sleep\0{sleep}"));
    for containment in containments() {
        let env = env(containment, &format!("exec sleep {sleep}"));
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        assert!(eventually(SOON, || agents().len() == 1), "{containment}");
        runner.kill().unwrap();
        runner.wait().unwrap();
        let is_gone = eventually(Duration::from_secs(5), || agents().is_empty());
        assert!(is_gone, "{containment}");
        assert_eq!(env.record("work", "fake")["outcome"], "running");
    }
}

#[test]
fn an_agent_outlives_the_threads_of_its_runner() {
    // The kernel ends it with the thread that started it, and one that is idle lives for 10 s.
    let envs: Vec<_> = (containments().into_iter())
        .map(|containment| env(containment, "sleep 12; echo done"))
        .collect();
    let arguments = ["run", "--agent", "fake", "--task", "work"];
    let runners: Vec<_> = envs.iter().map(|env| env.spawn(&arguments)).collect();
    for (mut runner, env) in runners.into_iter().zip(&envs) {
        assert_eq!(runner.wait().unwrap().code(), Some(0));
        assert_eq!(env.record("work", "fake")["agent_exit_code"], 0);
    }
}

#[test]
fn a_namespace_dies_with_its_runner() {
    if !containments().contains(&"namespace") {
        return;
    }
    let sleep = unique_sleep(23);
    let env = killed_run("namespace", &sleep);
    assert!(eventually(SOON, || processes_with(&sleep).is_empty()));
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_eq!(env.record("work", "fake")["outcome"], "crashed");
}

#[test]
fn a_cgroup_whose_runner_died_is_killed_and_removed_by_the_next_command() {
    if !containments().contains(&"cgroup") {
        return;
    }
    let sleep = unique_sleep(24);
    let env = killed_run("cgroup", &sleep);
    assert!(!processes_with(&sleep).is_empty());
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert!(processes_with(&sleep).is_empty());
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "crashed");
    assert_eq!(record["containment"], "cgroup");
    assert!(record["survivors_killed"].as_u64().unwrap() >= 5);
    assert_eq!(cgroup_of(&record), "");
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn without_a_cgroup_the_marker_finds_what_a_dead_runner_left() {
    let sleep = unique_sleep(25);
    let env = killed_run("subreaper", &sleep);
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    // What threw its environment away lives on: only a cgroup or a namespace holds it.
    let left = processes_with(&sleep);
    assert_eq!(left.len(), 3, "{left:?}");
    for pid in left {
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(killed.unwrap().success());
    }
}

#[test]
fn an_agent_that_kills_its_parent_leaves_a_crashed_run_and_no_process() {
    let sleep = unique_sleep(26);
    for containment in containments() {
        let script = format!("setsid sleep {sleep} & kill -9 $PPID; echo alive; sleep 0.2");
        let env = env(containment, &script);
        let done = env.run("fake", "work");
        let is_namespace = containment == "namespace";
        assert_eq!(done.code, is_namespace.then_some(0), "{containment}");
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        assert!(processes_with(&sleep).is_empty(), "{containment}");
        let outcome = &env.record("work", "fake")["outcome"];
        assert_eq!(outcome, if is_namespace { "success" } else { "crashed" });
    }
}

#[test]
fn an_agent_that_kills_everything_kills_nothing_outside_its_namespace() {
    if !containments().contains(&"namespace") {
        return;
    }
    let sleep = unique_sleep(27);
    // Outside a namespace this would be the end of the machine, so the script looks first.
    let script = format!(
        "[ $PPID = 1 ] && [ $$ -lt 10 ] || exit 3; \
         sleep {sleep} & kill -9 -1; kill -9 0 & echo alive"
    );
    let env = env("namespace", &script);
    let mut innocent = Command::new("sleep").arg(&sleep).spawn().unwrap();
    let done = env.run("fake", "work");
    assert!(done.code.is_some());
    assert_eq!(processes_with(&sleep), [innocent.id()]);
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    let record = env.record("work", "fake");
    assert!(record["agent_exit_code"] == 0 || record["agent_signal"] == 9);
}

#[test]
fn an_agent_that_leaves_its_cgroup_is_caught_by_the_nets_below() {
    let Some(mount) = cgroups().filter(|_| is_root()) else {
        eprintln!("SKIPPED: only root can leave a cgroup");
        return;
    };
    let sleep = unique_sleep(28);
    let procs = mount.join("cgroup.procs");
    let procs = procs.display();
    let script = format!(
        "env -i setsid sh -c 'echo $$ > {procs}; sleep {sleep} & exec sleep {sleep}' \
         </dev/null >/dev/null 2>&1 & \
         while grep -q agent-runner /proc/$!/cgroup; do sleep 0.05; done; sleep 0.2; echo hello"
    );
    let env = env("cgroup", &script);
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    assert!(processes_with(&sleep).is_empty());
    assert_eq!(env.record("work", "fake")["survivors_killed"], 2);
}

#[test]
fn auto_goes_on_without_a_cgroup_that_cannot_be_entered() {
    let Some(mount) = cgroups().filter(|_| is_root()) else {
        eprintln!("SKIPPED: only root can make a cgroup that nothing can enter");
        return;
    };
    // Below a threaded cgroup new ones can be made, and no process can be put there.
    let outer = mount.join(format!("test-of-agent-runner-{}", std::process::id()));
    let inner = outer.join("threaded");
    fs::create_dir(&outer).unwrap();
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("cgroup.type"), "threaded").unwrap();
    let run = |env: &TestEnv| {
        let line = format!(
            "echo $$ > {}/cgroup.procs && echo $$ > {}/cgroup.procs && \
             exec {} run --agent fake --task work",
            outer.display(),
            inner.display(),
            env!("CARGO_BIN_EXE_agent-runner")
        );
        let mut shell = Command::new("sh");
        env.settle(shell.args(["-c", &line]));
        shell.output().unwrap()
    };
    let sleep = unique_sleep(29);
    let script = format!("{} cat; sleep 0.3", escape(&sleep));
    let auto = env("auto", &script);
    assert_eq!(run(&auto).status.code(), Some(0));
    assert_eq!(auto.record("work", "fake")["containment"], "subreaper");
    assert_eq!(transcript(&auto, "work"), "do the work");
    assert!(processes_with(&sleep).is_empty());
    let demanded = env("cgroup", &script);
    assert_eq!(run(&demanded).status.code(), Some(1));
    let record = demanded.record("work", "fake");
    assert_eq!(record["outcome"], "start_failed");
    let error = record["error"].as_str().unwrap();
    assert!(error.contains("cannot be entered"), "{error}");
    // A cgroup that still had something in it could not be removed.
    fs::remove_dir(&inner).unwrap();
    fs::remove_dir(&outer).unwrap();
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn a_namespace_without_bubblewrap_is_a_failed_start() {
    let env = env("namespace", "touch started");
    let programs = env.root().join("programs");
    fs::create_dir(&programs).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let git = std::env::split_paths(&path).map(|directory| directory.join("git"));
    symlink(
        git.into_iter().find(|git| git.exists()).unwrap(),
        programs.join("git"),
    )
    .unwrap();
    let env = env.variable("PATH", programs.display().to_string());
    assert_eq!(env.run("fake", "work").code, Some(1));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "start_failed");
    let error = record["error"].as_str().unwrap();
    assert!(
        error.contains("needs bubblewrap: `bwrap` is not in PATH"),
        "{error}"
    );
    assert!(!env.repository().join("started").exists());
    let arguments = ["run", "--agent", "fake", "--task", "work", "--dry-run"];
    let done = env.agent_runner(&arguments);
    assert_eq!(done.code, Some(1));
    assert!(done.stdout.contains("needs bubblewrap"), "{}", done.stdout);
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn a_bubblewrap_that_cannot_do_its_work_is_a_failed_start() {
    let env = env("namespace", "touch started");
    let programs = env.root().join("programs");
    fs::create_dir(&programs).unwrap();
    let broken = "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n";
    fs::write(programs.join("bwrap"), broken).unwrap();
    let mut chmod = Command::new("chmod");
    assert!(
        chmod
            .arg("755")
            .arg(programs.join("bwrap"))
            .status()
            .unwrap()
            .success()
    );
    let path = std::env::var("PATH").unwrap();
    let env = env.variable("PATH", format!("{}:{path}", programs.display()));
    assert_eq!(env.run("fake", "work").code, Some(1));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "start_failed");
    let error = record["error"].as_str().unwrap();
    assert!(
        error.contains("No permissions to create new namespace"),
        "{error}"
    );
}

#[test]
fn processes_that_a_shell_handed_on_to_the_runner_outlive_the_run() {
    let (older, own) = (unique_sleep(41), unique_sleep(42));
    for containment in containments() {
        let env = TestEnv::new()
            .script(
                "fake",
                "text",
                &format!("setsid sleep {own} & sleep 2; echo done"),
            )
            .task("work", &format!("containment = \"{containment}\""));
        let program = env!("CARGO_BIN_EXE_agent-runner");
        // One of them loses its parent, so that the runner adopts it like those of the agent.
        let script = format!(
            "sleep {older} & (sleep {older} & sleep 1) & \
             exec {program} run --agent fake --task work"
        );
        let mut shell = Command::new("bash");
        env.settle(&mut shell);
        shell.args(["-c", &script]).stdout(Stdio::null());
        let code = shell.status().unwrap().code();
        let is_left = |sleep: &str| processes_with(&format!("sleep\0{sleep}"));
        let (older, own) = (is_left(&older), is_left(&own));
        for pid in &older {
            let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        assert_eq!(
            (code, older.len(), own.len()),
            (Some(0), 2, 0),
            "{containment}"
        );
        let killed = &env.record("work", "fake")["survivors_killed"];
        assert_eq!(killed, 1, "{containment}");
    }
}

#[test]
fn an_agent_that_cannot_be_looked_at_is_ended_and_its_run_has_not_started() {
    // Without /proc nothing can be looked at.
    let unshare = ["--user", "--map-root-user", "--mount"];
    let hidden = |line: &str| {
        let line = format!("mount -t tmpfs x /proc && {line}");
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", &line]);
        command
    };
    let able = hidden("true").stderr(Stdio::null()).status();
    if cfg!(agent_runner_portable) || !able.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no mount namespace can be made here");
        return;
    }
    let sleep = unique_sleep(74);
    let env = TestEnv::new()
        .script("fake", "text", &format!("sleep {sleep} & sleep {sleep}"))
        .task("work", "containment = \"subreaper\"");
    let program = env!("CARGO_BIN_EXE_agent-runner");
    let mut command = hidden(&format!("{program} run --agent fake --task work"));
    env.settle(&mut command);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "start_failed");
    let error = record["error"].as_str().unwrap();
    assert!(error.contains("could not be looked at"), "{error}");
    assert!(eventually(SOON, || processes_with(&sleep).is_empty()));
}
