//! What is broken around the runner is said, with the right exit code, and breaks nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Done, TestEnv, eventually, evidence};

fn working() -> TestEnv {
    TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "")
}

/// Runs a shell line in the place, with the program as `$RUN`.
fn shell(env: &TestEnv, line: &str) -> Done {
    let mut command = Command::new("timeout");
    env.settle(&mut command);
    command.env("RUN", env!("CARGO_BIN_EXE_agent-runner"));
    let output = command.args(["-k", "1", "30", "bash", "-c", line]).output();
    Done::from(output.unwrap())
}

#[test]
fn data_that_cannot_be_printed_is_an_error_and_a_reader_that_left_is_none() {
    let env = working();
    assert_eq!(env.run("fake", "work").code, Some(0));
    for verb in [
        "runs",
        "runs --json",
        "show",
        "show --json",
        "explain",
        "agents",
        "agents --json",
        "tasks",
        "tasks --json",
        "clean",
        "run --agent fake --task work --dry-run",
    ] {
        let done = shell(&env, &format!("$RUN {verb} >/dev/full"));
        assert_eq!(done.code, Some(1), "{verb}");
        assert!(
            done.stderr.contains("No space left"),
            "{verb}: {}",
            done.stderr
        );
        let done = shell(&env, &format!("$RUN {verb} > >(exec true); exit $?"));
        assert!(
            [Some(0), Some(141)].contains(&done.code),
            "{verb}: {done:?}"
        );
        assert!(!done.stderr.contains("error"), "{verb}: {}", done.stderr);
    }
    // The exit code of a run is what its record says.
    for verb in ["run --agent fake --task work", "rerun"] {
        let done = shell(&env, &format!("$RUN {verb} >/dev/full"));
        assert_eq!(done.code, Some(0), "{verb}");
        assert!(done.stderr.contains("No space left"), "{}", done.stderr);
    }
    let done = shell(&env, "$RUN rerun --dry-run >/dev/full");
    assert_eq!(done.code, Some(1));
}

#[test]
fn a_configuration_that_is_no_regular_file_is_refused_and_never_waited_for() {
    for (plant, reason) in [
        ("mkfifo config.toml", "no regular file"),
        ("ln -s /dev/zero config.toml", "no regular file"),
        ("ln -s nowhere config.toml", "leads nowhere"),
        ("mkdir config.toml", "directory"),
        (
            "yes '# a comment' | head -c 1100000 > config.toml",
            "larger than 1 MiB",
        ),
        (
            "printf '[runner]\\n# \\351t\\351\\n' > config.toml",
            "line 2 holds bytes that are not UTF-8",
        ),
        (
            "mkfifo fifo; export AGENT_RUNNER_CONFIG=fifo",
            "no regular file",
        ),
    ] {
        let env = TestEnv::new();
        let done = shell(&env, &format!("{plant}; $RUN tasks"));
        assert_eq!(done.code, Some(2), "{plant}: {}", done.stderr);
        assert!(done.stderr.contains(reason), "{plant}: {}", done.stderr);
    }
    let env = working();
    fs::rename(env.root().join("config.toml"), env.root().join("real.toml")).unwrap();
    symlink("real.toml", env.root().join("config.toml")).unwrap();
    assert_eq!(
        env.run("fake", "work").code,
        Some(0),
        "a link to a file is as good"
    );
}

#[test]
fn a_configuration_that_others_can_write_is_warned_of() {
    let env = working();
    let config = env.root().join("config.toml");
    for (mode, warned) in [(0o644, false), (0o666, true), (0o640, false)] {
        fs::set_permissions(&config, fs::Permissions::from_mode(mode)).unwrap();
        let done = env.agent_runner(&["tasks"]);
        assert_eq!(done.code, Some(0));
        assert_eq!(
            done.stderr.contains("chmod o-w"),
            warned,
            "{mode:o}: {}",
            done.stderr
        );
    }
}

#[test]
fn a_directory_in_which_others_can_write_is_warned_of_where_configuration_or_records_lie() {
    let env = working();
    fs::create_dir_all(env.logs()).unwrap();
    let root = env.root().to_owned();
    for (directory, mode, warned) in [
        (&root, 0o755, false),
        (&root, 0o777, true),
        (&root, 0o1777, false),
        (&env.logs(), 0o777, true),
        // Nobody gets there.
        (&root, 0o700, false),
    ] {
        fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        let doctor = env.agent_runner(&["doctor", "--json"]);
        let run = env.run("fake", "work");
        let [told, found] = [run.stderr, doctor.stdout].map(|told| told.contains("-w /"));
        assert_eq!([told, found], [warned; 2], "{mode:o}");
    }
}

#[test]
fn a_misspelt_variable_is_warned_of_with_the_one_that_was_meant() {
    let env = working()
        .variable("AGENT_RUNNER_NTFY_TOPIK", "x")
        .variable("AGENT_RUNNER_CLOUDE_BIN", "x")
        .variable("AGENT_RUNNER_FAKE_BIN", "/bin/sh")
        .variable("AGENT_RUNNER_RUN_ID", "x")
        .variable("AGENT_RUNNER_FOO", "x")
        .variable("AGENT_RUNNER_EMPTY", "");
    let done = env.agent_runner(&["tasks"]);
    assert_eq!(done.code, Some(0));
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].contains("did you mean `AGENT_RUNNER_CLAUDE_BIN`?"),
        "{lines:?}"
    );
    // What all have in common makes none near.
    assert!(
        lines[1].contains("`AGENT_RUNNER_FOO`") && lines[1].contains("docs/config.md lists them"),
        "{lines:?}"
    );
    assert!(
        lines[2].contains("did you mean `AGENT_RUNNER_NTFY_TOPIC`?"),
        "{lines:?}"
    );
}

#[test]
fn an_empty_notification_is_refused_and_no_password_is_printed() {
    let server = "http://user:canary@127.0.0.1:1/?auth=canary";
    let env = working().config(&format!("[ntfy]\nserver = \"{server}\"\ntopic = \"t\""));
    let done = env.agent_runner(&["notify", "--title", "", "--body", " "]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("needs a title or a body"));
    let done = env.agent_runner(&["notify", "--title", "", "--body", "x"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(
        done.stderr.contains("not published to http://127.0.0.1:1/"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("canary"), "{}", done.stderr);
    let bad = working().config("[ntfy]\nserver = \"http://user:canary@127.0.0.1:99999\"");
    let done = bad.agent_runner(&["tasks"]);
    assert_eq!(done.code, Some(2));
    assert!(!done.stderr.contains("canary"), "{}", done.stderr);
}

#[test]
fn a_log_root_that_is_a_repository_is_refused_and_left_as_it_is() {
    let env = working();
    let repository = env.repository();
    let other = env.root().join("other");
    fs::create_dir_all(other.join(".git")).unwrap();
    symlink(&repository, env.root().join("link")).unwrap();
    for log_root in [&repository, &other, &env.root().join("link")] {
        let mut command = env.command(&["run", "--agent", "fake", "--task", "work"]);
        let output = command
            .env("AGENT_RUNNER_LOG_ROOT", log_root)
            .output()
            .unwrap();
        let done = Done::from(output);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains("is a repository"), "{}", done.stderr);
        assert!(!log_root.join(".gitignore").exists());
    }
    assert_eq!(env.git(&["status", "--porcelain"]), "");
}

#[test]
fn too_few_open_files_are_an_error_and_no_panic() {
    let env = working();
    for most in [8, 16, 32] {
        for verb in ["run --agent fake --task work", "heartbeat", "runs"] {
            let done = shell(&env, &format!("ulimit -n {most}; exec $RUN {verb}"));
            assert!(
                !done.stderr.contains("panicked"),
                "{most} {verb}: {}",
                done.stderr
            );
            if verb != "runs" {
                assert_eq!(done.code, Some(1), "{most} {verb}: {}", done.stderr);
                assert!(
                    done.stderr.contains("ulimit -n"),
                    "{most} {verb}: {}",
                    done.stderr
                );
            }
        }
    }
    assert_eq!(
        env.run_directories("work", "fake").len(),
        0,
        "nothing was started"
    );
    let done = shell(&env, "ulimit -n 64; exec $RUN run --agent fake --task work");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn descriptors_that_run_out_at_any_point_of_a_start_are_said_with_what_to_do_and_recovered() {
    for inherited in (20..62).step_by(2) {
        let env = TestEnv::new()
            .script("fake", "text", "touch started; echo hello")
            .task("work", "")
            .unreachable_server();
        let line = format!(
            "ulimit -n 64; for i in $(seq {inherited}); do exec {{x}}</dev/null; done; \
             exec $RUN run --agent fake --task work"
        );
        let done = shell(&env, &line);
        let what = format!("{inherited}: {done:?}");
        assert!(!done.stderr.contains("panicked"), "{what}");
        let has_started = env.repository().join("started").exists();
        assert_eq!(done.code, Some(i32::from(!has_started)), "{what}");
        let said = [&done.stdout, &done.stderr].map(|said| said.contains("ulimit -n"));
        assert_eq!(said.contains(&true), !has_started, "{what}");
        // A directory that could not be removed again becomes a crashed run.
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0), "{what}");
        let records = env.records("work", "fake");
        assert!(records.len() <= 1, "{what}");
        for record in &records {
            let expected = match record["outcome"].as_str().unwrap() {
                "success" => has_started,
                "start_failed" | "crashed" => !has_started,
                _ => false,
            };
            assert!(expected, "{what}: {record}");
        }
        assert_eq!(env.outbox().len(), records.len(), "{what}");
    }
}

#[test]
fn a_directory_in_the_place_of_the_record_leaves_record_and_notification_agreed() {
    let env = TestEnv::new();
    let logs = env.logs().display().to_string();
    let script = format!(
        "RUN={logs}/work/fake/$AGENT_RUNNER_RUN_ID; rm $RUN/metadata.json; \
         mkdir -p $RUN/metadata.json/x; echo hello"
    );
    let env = env
        .script("fake", "text", &script)
        .task("work", "")
        .unreachable_server();
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "success");
    let outbox = env.outbox();
    assert_eq!(outbox.len(), 1);
    assert_eq!(outbox[0]["id"], record["notification"]["id"]);
}

#[test]
fn a_record_that_cannot_be_written_is_told_as_crashed_and_never_as_a_success() {
    // The record's place is taken while the run ends, by somebody who does not let go of it.
    let env = TestEnv::new();
    let logs = env.logs().display().to_string();
    let script = format!(
        "RUN={logs}/work/fake/$AGENT_RUNNER_RUN_ID; chattr +i $RUN/metadata.json && echo hello"
    );
    let env = env
        .script("fake", "text", &script)
        .task("work", "")
        .unreachable_server();
    let done = env.run("fake", "work");
    let file = env.run_directory("work", "fake").join("metadata.json");
    let freed = Command::new("chattr").arg("-i").arg(&file).status();
    if !freed.is_ok_and(|status| status.success()) {
        return crate::real::components::skipped("this file system knows no immutable files");
    }
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert_eq!(env.outbox().len(), 0, "{:?}", env.outbox());
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "crashed");
    assert_eq!(env.outbox()[0]["id"], record["notification"]["id"]);
}

#[test]
fn a_file_that_may_grow_no_further_is_told_and_does_not_end_the_runner() {
    let env = TestEnv::new()
        .script("fake", "text", "yes word | head -c 5000000; echo; echo end")
        .task("work", "");
    let mut shell = Command::new("sh");
    env.settle(&mut shell);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let line = format!("ulimit -f 2048; exec {run} run --agent fake --task work");
    let output = shell.args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let facts = evidence(&env.record("work", "fake"));
    assert!(
        facts.contains("the logs are not complete: File too large"),
        "{facts}"
    );
}

#[test]
fn more_changed_files_than_a_record_can_name_are_counted() {
    let script = "mkdir many; cd many; seq 1 10050 | xargs touch; seq 1 10050 > list; \
                  cd ..; git add many; git commit -qm many; echo done";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .task("work", "requires_commit = true");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let record = env.record("work", "fake");
    assert_eq!(record["files_changed"].as_array().unwrap().len(), 10_000);
    assert_eq!(record["files_changed_dropped"], 51);
    let summary = env.run_directory("work", "fake").join("summary.txt");
    let summary = fs::read_to_string(summary).unwrap();
    assert!(summary.contains(" files=10051 "), "{summary}");
    let facts = evidence(&record);
    assert!(
        facts.contains("git: 10051 changed files, of which 10000 are listed"),
        "{facts}"
    );
}

#[test]
fn what_a_killed_runner_left_unfinished_in_its_directory_is_removed() {
    let env = TestEnv::new()
        .script("fake", "text", "echo begun; sleep 60")
        .task("work", "");
    let mut runner = env
        .command(&["run", "--agent", "fake", "--task", "work"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = || {
        let directories = env.run_directories("work", "fake");
        let log = directories.first().map(|run| run.join("transcript.log"));
        log.is_some_and(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0))
    };
    assert!(eventually(Duration::from_secs(10), begun));
    let run = env.run_directory("work", "fake");
    fs::write(run.join(".tmpHalf"), "{").unwrap();
    fs::write(run.join("private/secret"), "x").unwrap();
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_eq!(env.record("work", "fake")["outcome"], "crashed");
    assert!(!run.join(".tmpHalf").exists() && !run.join("private").exists());
}
