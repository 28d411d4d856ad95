//! Agents that attack the runner: what they plant in the log root or the repository costs them
//! their own run at most, never the runner's record, its word or its time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::publications::Publications;
use crate::support::{TestEnv, eventually, evidence, processes_with};

/// A place whose agent does `script` with `$RUN` as the directory of its run and `$LOGS` as the
/// log root, and whose task has a check.
fn env(script: &str) -> TestEnv {
    let env = TestEnv::new();
    let logs = env.logs().display().to_string();
    let head = format!("LOGS={logs}; RUN=$LOGS/work/fake/$AGENT_RUNNER_RUN_ID");
    env.script("fake", "text", &format!("{head}\n{script}\necho hello"))
        .task("work", "verify = [\"echo checked\"]")
}

/// Runs the agent, which must succeed in both the exit code and the record.
#[track_caller]
fn succeeds(env: &TestEnv) -> String {
    evidence(&success_of("fake", env))
}

#[track_caller]
fn success_of(agent: &str, env: &TestEnv) -> Value {
    let began = Instant::now();
    let mut command = Command::new("timeout");
    env.settle(&mut command);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let arguments = [
        "-k", "1", "30", run, "run", "--agent", agent, "--task", "work",
    ];
    let output = command.args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let record = env.record("work", agent);
    assert_eq!(record["outcome"], "success");
    assert_eq!(record["exit_code"], 0);
    record
}

#[test]
fn pipes_planted_where_the_runner_will_write_hold_up_nothing() {
    for file in ["$RUN/checks.log", "$RUN/summary.txt", "$LOGS/work/task.log"] {
        succeeds(&env(&format!("mkfifo {file}")));
    }
}

#[test]
fn links_planted_where_the_runner_will_write_are_not_followed() {
    for file in ["$RUN/checks.log", "$RUN/summary.txt"] {
        let env = env(&format!("ln -s $LOGS/../target {file}"));
        succeeds(&env);
        assert!(!env.root().join("target").exists(), "{file}");
    }
}

#[test]
fn a_summary_that_cannot_be_written_leaves_exit_code_and_record_agreed() {
    succeeds(&env("mkdir $LOGS/work/task.log"));
}

const BROKEN_OUTBOX: &str = "rm -rf $LOGS/.state/outbox; touch $LOGS/.state/outbox";

#[test]
fn a_broken_outbox_changes_no_outcome_and_the_run_is_told_at_once() {
    let server = Publications::start();
    let env = env(BROKEN_OUTBOX)
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", server.url());
    let record = success_of("fake", &env);
    let facts = evidence(&record);
    assert!(facts.contains("could not be kept"), "{facts}");
    assert_eq!(record["notification"]["state"], "delivered");
    assert_eq!(server.take().len(), 1);
    fs::remove_file(env.logs().join(".state/outbox")).unwrap();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert!(server.take().is_empty());
    assert_eq!(env.record("work", "fake"), record);
}

#[test]
fn what_a_broken_outbox_did_not_take_is_warned_of_and_waits_in_the_next_that_works() {
    let env = env(BROKEN_OUTBOX).unreachable_server();
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0));
    assert!(done.stderr.contains("cannot be settled"), "{}", done.stderr);
    let doctor = env.agent_runner(&["doctor"]).stdout;
    assert!(doctor.contains("cannot list"), "{doctor}");
    assert!(!doctor.contains("1 run"), "{doctor}");
    fs::remove_file(env.logs().join(".state/outbox")).unwrap();
    for _ in 0..2 {
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        let told = &env.record("work", "fake")["notification"];
        assert_eq!(told["state"], "pending");
        let waiting = env.outbox();
        assert_eq!((waiting.len(), &waiting[0]["id"]), (1, &told["id"]));
    }
    let marks = fs::read_dir(env.logs().join(".state/running"));
    assert_eq!(marks.unwrap().count(), 0);
}

#[test]
fn what_lies_in_the_place_of_a_result_file_is_not_waited_for_followed_or_read_without_end() {
    for planted in [
        "mkfifo $2",
        "mkdir $2",
        "echo secret > ../secret; ln -s $PWD/../secret $2",
        "truncate -s 10G $2",
        "ln -s /dev/zero $2",
    ] {
        let env = TestEnv::new().task("work", "");
        let codex = env.root().join("codex");
        let script = format!(
            "#!/bin/sh
            [ \"$1\" != --version ] || {{ echo codex-cli 0.50.0; exit; }}
            while [ \"$1\" != -o ]; do shift; done
            {planted}
            echo '{{\"type\": \"thread.started\", \"thread_id\": \"t\"}}'
            echo '{{\"type\": \"item.completed\", \"item\": {{\"type\": \"agent_message\", \"text\": \"hello\"}}}}'
            echo '{{\"type\": \"turn.completed\", \"usage\": {{}}}}'
            "
        );
        fs::write(&codex, script).unwrap();
        fs::set_permissions(&codex, PermissionsExt::from_mode(0o700)).unwrap();
        let env = env.variable("AGENT_RUNNER_CODEX_BIN", codex.to_str().unwrap());
        let record = success_of("codex", &env);
        assert_eq!(record["last_message"], "hello", "{planted}");
    }
}

#[test]
fn a_run_whose_directory_was_removed_has_its_record_all_the_same() {
    for gone in ["$RUN", "$LOGS/work", "$LOGS"] {
        let facts = succeeds(&env(&format!("rm -rf {gone}")));
        assert!(facts.contains("directory was gone"), "{gone}: {facts}");
    }
}

#[test]
fn a_run_directory_that_became_a_link_is_a_directory_again() {
    let env = env("mv $RUN $LOGS/../moved; ln -s $LOGS/../moved $RUN");
    succeeds(&env);
    assert!(!env.run_directory("work", "fake").is_symlink());
}

#[test]
fn a_commit_with_a_giant_subject_has_a_record_that_can_be_read() {
    let env = TestEnv::new()
        .script(
            "fake",
            "text",
            "head -c 2000000 /dev/zero | tr '\\0' s > ../m; echo x > a; git add a; \
             git commit -qF ../m; echo hello",
        )
        .task("work", "requires_commit = true");
    succeeds(&env);
    let metadata = env.run_directory("work", "fake").join("metadata.json");
    assert!(fs::metadata(metadata).unwrap().len() < 20_000);
}

/// A filter that an earlier run planted and that git runs when somebody looks at the tree.
fn with_planted_filter(filter: &str) -> TestEnv {
    let env = with_filter(filter);
    assert_eq!(env.run("fake", "work").code, Some(0));
    env
}

/// A filter that git runs when somebody looks at the tree, as an agent can plant it.
fn with_filter(filter: &str) -> TestEnv {
    let script = format!(
        "printf '#!/bin/sh\\n{filter}\\ncat\\n' > ../filter; chmod +x ../filter; \
         git config filter.f.clean \"$PWD/../filter\"; \
         echo '* filter=f' > .git/info/attributes; touch -d 2001-01-01 README.md; echo hello"
    );
    TestEnv::new()
        .script("fake", "text", &script)
        .task("work", "")
}

#[test]
fn a_program_that_the_repository_names_sees_no_secret_of_the_runner() {
    let env = with_planted_filter("env > $0.seen")
        .variable("GITHUB_TOKEN", "ghp_canary")
        .variable("AGENT_RUNNER_NTFY_TOKEN", "tk_canary");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let seen = fs::read_to_string(env.root().join("filter.seen")).unwrap();
    assert!(!seen.contains("canary"), "{seen}");
}

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "a group does not hold this"
)]
fn a_program_that_the_repository_names_cannot_hold_up_the_run_or_outlive_it() {
    let sleep = format!("{}", 910_000_000 + u64::from(std::process::id()));
    let env = with_planted_filter(&format!("setsid sleep {sleep} >/dev/null &"));
    let began = Instant::now();
    let mut command = Command::new("timeout");
    env.settle(&mut command);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let arguments = [
        "-k", "1", "30", run, "run", "--agent", "fake", "--task", "work",
    ];
    let output = command.args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(processes_with(&sleep).is_empty());
}

#[test]
fn an_agent_that_fills_the_disk_with_its_output_costs_no_record() {
    // A file system of its own for the log root needs a mount namespace of its own.
    let unshare = ["--user", "--map-root-user", "--mount"];
    let able = Command::new("unshare")
        .args(unshare)
        .args(["sh", "-c", "mount -t tmpfs x /mnt"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !able {
        return;
    }
    let flood = "head -c 5000000 /dev/zero | tr '\\0' x; echo; echo hello";
    let env = TestEnv::new()
        .script("fake", "text", flood)
        .task("work", "");
    fs::create_dir(env.logs()).unwrap();
    let mut command = Command::new("unshare");
    env.settle(&mut command);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let line = format!(
        "mount -t tmpfs -o size=1m x logs && {run} run --agent fake --task work --json; \
         echo exit $?; cat logs/work/fake/*/metadata.json"
    );
    let output = command.args(unshare).args(["sh", "-c", &line]).output();
    let told = String::from_utf8(output.unwrap().stdout).unwrap();
    let (printed, kept) = told.split_once("exit 0\n").unwrap_or_default();
    assert_eq!(printed, kept, "{told}");
    assert!(kept.contains("\"outcome\": \"success\""), "{told}");
    assert!(kept.contains("the logs are not complete"), "{told}");
}

#[test]
fn a_pipe_in_the_place_of_a_reflog_or_of_fetched_heads_is_never_waited_for() {
    for planted in [
        "rm .git/logs/HEAD; mkfifo .git/logs/HEAD",
        "echo x > a; git add a; git commit -qm own; mkfifo .git/FETCH_HEAD",
        "echo x > a; git add a; git commit -qm own; ln -s /dev/zero .git/FETCH_HEAD",
    ] {
        let env = TestEnv::new()
            .script("fake", "text", &format!("{planted}; echo done"))
            .task("work", "requires_commit = true");
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let ended = eventually(Duration::from_secs(30), || {
            runner.try_wait().unwrap().is_some()
        });
        if !ended {
            runner.kill().unwrap();
        }
        assert!(ended, "{planted}");
        assert_ne!(env.record("work", "fake")["outcome"], "running");
    }
}

/// What an agent can plant so that git waits for ever.
const GIT_WAITS: [&str; 6] = [
    "rm .git/HEAD; mkfifo .git/HEAD",
    "rm .git/index; mkfifo .git/index",
    "rm .git/config; mkfifo .git/config",
    "mkfifo .git/packed-refs; rm .git/refs/heads/main",
    "mkfifo .gitignore",
    "printf '#!/bin/sh\nsleep 600 &\ncat' > ../filter; chmod +x ../filter
     echo '* filter=f' > .git/info/attributes; touch -d 2001-01-01 README.md",
];

#[test]
fn what_makes_git_wait_costs_ten_seconds_and_the_change_is_unknown() {
    let runs: Vec<_> = GIT_WAITS
        .iter()
        .map(|planted| {
            let env = TestEnv::new()
                .script("fake", "text", &format!("{planted}; echo done"))
                .task("work", "");
            env.git(&["config", "filter.f.clean", "../filter"]);
            let runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
            (planted, env, runner)
        })
        .collect();
    let began = Instant::now();
    for (planted, env, mut runner) in runs {
        let left = Duration::from_secs(18).saturating_sub(began.elapsed());
        let ended = eventually(left, || runner.try_wait().unwrap().is_some());
        if !ended {
            runner.kill().unwrap();
        }
        assert!(ended, "{planted}");
        assert_eq!(runner.wait().unwrap().code(), Some(1), "{planted}");
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "agent_error", "{planted}");
        let facts = evidence(&record);
        assert!(
            facts.contains("what the run changed is not known"),
            "{facts}"
        );
        let place = env.root().display().to_string();
        assert!(processes_with(&place).is_empty(), "{planted}");
    }
}

#[test]
fn a_request_to_stop_is_heard_while_git_waits() {
    let env = TestEnv::new()
        .script("fake", "text", "mkfifo .gitignore; echo done")
        .task("work", "");
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let waits = || {
        let stat = |pid: u32| fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        env.repository().join(".gitignore").exists()
            && processes_with("git\0status")
                .iter()
                .any(|pid| stat(*pid) == env.repository())
    };
    assert!(eventually(Duration::from_secs(9), waits));
    let began = Instant::now();
    let pid = runner.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(143));
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(env.record("work", "fake")["outcome"], "interrupted");
}

#[test]
fn a_filter_that_the_run_configured_is_not_run_and_an_older_one_is() {
    let env = with_filter("touch $0.ran");
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert!(!env.root().join("filter.ran").exists());
    // Now it was there before the run.
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert!(env.root().join("filter.ran").exists());
}

#[test]
fn a_follower_that_does_not_read_does_not_stop_the_time_limit() {
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; sleep 600";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .task("work", "");
    // Nobody reads the pipe of its standard error.
    let follow = [
        "run",
        "--agent",
        "fake",
        "--task",
        "work",
        "--follow",
        "--timeout",
        "2s",
    ];
    let mut runner = env.spawn(&follow);
    let ended = eventually(Duration::from_secs(30), || {
        runner.try_wait().unwrap().is_some()
    });
    if !ended {
        runner.kill().unwrap();
    }
    assert!(ended);
    assert_eq!(env.record("work", "fake")["outcome"], "timeout");
}
