//! `clean`: what is old goes, whole; what somebody still needs stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Done, TestEnv};

/// Plants a run that ended long ago, with a transcript of 40 KiB.
fn plant(env: &TestEnv, run: &str, notification: &str) -> PathBuf {
    let directory = env.logs().join(run);
    fs::create_dir_all(&directory).unwrap();
    let record = json!({"outcome": "success", "exit_code": 0,
                        "notification": {"state": notification}});
    fs::write(directory.join("metadata.json"), record.to_string()).unwrap();
    fs::write(directory.join("runner.log"), "").unwrap();
    fs::write(directory.join("transcript.log"), "x".repeat(40 << 10)).unwrap();
    directory
}

fn old(env: &TestEnv, name: &str) -> PathBuf {
    plant(env, &format!("work/fake/{name}"), "disabled")
}

#[track_caller]
fn clean(env: &TestEnv, arguments: &[&str]) -> Done {
    let done = env.agent_runner(&[&["clean"], arguments].concat());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    done
}

#[track_caller]
fn removed(env: &TestEnv, arguments: &[&str]) -> Vec<String> {
    let done = clean(env, &[arguments, &["--json"]].concat());
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let runs = report["removed"]["runs"].as_array().unwrap();
    let name = |run: &Value| run.as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
    runs.iter().map(name).collect()
}

fn touch(path: &Path, time: &str) {
    let done = Command::new("touch").args(["-d", time]).arg(path).status();
    assert!(done.unwrap().success());
}

#[test]
fn what_is_too_old_or_too_much_goes_the_oldest_first() {
    let env = TestEnv::new();
    let names = [
        "20200101_000000",
        "20210101_000000",
        "20220101_000000",
        "20230101_000000",
    ];
    let runs = names.map(|name| old(&env, name));
    let nothing = clean(&env, &[]);
    assert_eq!(nothing.stdout, "removed 0 runs, 0 B\n");
    assert!(nothing.stderr.contains("keep_for"), "{}", nothing.stderr);
    assert_eq!(
        removed(&env, &["--max-size", "150KiB", "--dry-run"]),
        names[..1]
    );
    assert!(runs.iter().all(|run| run.is_dir()));
    assert_eq!(removed(&env, &["--max-size", "150KiB"]), names[..1]);
    let env = env.config("[runner]\nkeep_size = \"100KiB\"");
    assert_eq!(removed(&env, &[]), names[1..2]);
    let said = clean(&env, &["--older-than", "1d", "--dry-run"]);
    assert!(
        said.stdout.starts_with(
            "work/fake/20220101_000000\nwork/fake/20230101_000000\nwould remove 2 runs, "
        ),
        "{}",
        said.stdout
    );
    assert_eq!(removed(&env, &["--older-than", "1d"]), names[2..]);
    assert!(runs.iter().all(|run| !run.exists()));
    assert_eq!(
        fs::read_dir(env.logs().join(".state/trash"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn active_untold_and_todays_runs_are_never_removed() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let held = old(&env, "20200101_000000");
    let lock = fs::File::open(held.join("runner.log")).unwrap();
    lock.lock().unwrap();
    old(&env, "20200102_000000");
    let untold = plant(&env, "work/fake/20200103_000000", "pending");
    let waits = old(&env, "20200104_000000");
    let entry = json!({"id": "work.fake.20200104_000000.success", "run": "work/fake/20200104_000000",
        "title": "t", "body": "b", "priority": 3, "tags": [], "attempts": 1,
        "created": "2020-01-04T00:00:00Z"});
    let outbox = env.logs().join(".state/outbox");
    fs::create_dir_all(&outbox).unwrap();
    let name = "00000000000000000001-work.fake.20200104_000000.success.json";
    fs::write(outbox.join(name), entry.to_string()).unwrap();
    let limits = ["--older-than", "0s", "--max-size", "1"];
    assert_eq!(removed(&env, &limits), ["20200102_000000"]);
    assert!(held.is_dir() && untold.is_dir() && waits.is_dir());
    assert_eq!(env.run_directories("work", "fake").len(), 4);
    drop(lock);
    assert_eq!(removed(&env, &limits), ["20200101_000000"]);
}

#[test]
fn links_are_not_followed_and_a_linked_task_is_left_alone() {
    let env = TestEnv::new();
    let elsewhere = env.root().join("elsewhere");
    let outside = elsewhere.join("fake/20200101_000000");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("metadata.json"), "{\"outcome\":\"success\"}").unwrap();
    let run = old(&env, "20200101_000000");
    symlink(&elsewhere, run.join("link")).unwrap();
    symlink(&elsewhere, env.logs().join("linked")).unwrap();
    symlink(&outside, env.logs().join("work/fake/20200102_000000")).unwrap();
    assert_eq!(removed(&env, &["--older-than", "1d"]), ["20200101_000000"]);
    assert!(outside.join("metadata.json").is_file());
    assert!(!run.exists());
}

#[test]
fn a_tree_whose_directories_have_no_permissions_is_removed() {
    let env = TestEnv::new();
    let run = old(&env, "20200101_000000");
    fs::create_dir_all(run.join("a/b")).unwrap();
    fs::write(run.join("a/b/file"), "").unwrap();
    for directory in ["a/b", "a"] {
        fs::set_permissions(run.join(directory), fs::Permissions::from_mode(0o0)).unwrap();
    }
    if !is_root() {
        assert_eq!(removed(&env, &["--older-than", "1d"]), ["20200101_000000"]);
        assert!(!run.exists());
        return;
    }
    // root is stopped by no permissions: somebody else cleans.
    let chown = Command::new("chown")
        .args(["-R", "65534:65534"])
        .arg(env.root())
        .status();
    assert!(chown.unwrap().success());
    let binary = env.root().join("agent-runner");
    fs::copy(env!("CARGO_BIN_EXE_agent-runner"), &binary).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    env.settle(&mut command);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let done = Done::from(
        command
            .arg(binary)
            .args(["clean", "--older-than", "1d"])
            .output()
            .unwrap(),
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.starts_with("removed 1 run, "),
        "{}",
        done.stdout
    );
    assert!(!run.exists());
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout == b"0\n"
}

#[test]
fn what_crashes_left_is_removed_once_it_is_old() {
    let env = TestEnv::new();
    let run = old(&env, "20200101_000000");
    let state = env.logs().join(".state");
    let stale = [
        run.join(".tmpAbc123"),
        state.join("outbox/.tmpAbc123"),
        state.join("parked/.tmpAbc123"),
    ];
    let young = run.join(".tmpYoung1");
    for file in stale.iter().chain([&young]) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "{").unwrap();
    }
    let empty = env.logs().join("gone/fake");
    fs::create_dir_all(&empty).unwrap();
    for file in stale.iter().chain([&empty, &env.logs().join("gone")]) {
        touch(file, "2020-01-01");
    }
    let trash = state.join("trash/work.fake.20190101_000000");
    fs::create_dir_all(trash.join("private")).unwrap();
    let said = clean(&env, &[]);
    assert!(
        said.stdout.contains("removed 5 leftovers, "),
        "{}",
        said.stdout
    );
    assert!(stale.iter().all(|file| !file.exists()));
    assert!(young.exists() && run.is_dir());
    assert!(!trash.exists() && !empty.exists());
    // The task's directory has lost its agent's just now.
    touch(&env.logs().join("gone"), "2020-01-01");
    assert_eq!(clean(&env, &[]).stderr.lines().count(), 1);
    assert!(!env.logs().join("gone").exists());
}

#[test]
fn a_clean_killed_at_any_moment_leaves_whole_runs_and_the_next_one_finishes() {
    let Ok(version) = Command::new("strace").arg("-V").output() else {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "strace is not installed"
        );
        return eprintln!("SKIPPED: strace is not installed");
    };
    assert!(version.status.success());
    let mut killed = 0;
    for moment in (1..).step_by(3) {
        let env = TestEnv::new();
        let runs = [old(&env, "20200101_000000"), old(&env, "20200102_000000")];
        let mut command = Command::new("strace");
        env.settle(&mut command);
        let inject = format!(
            "inject=rename,renameat,renameat2,unlink,unlinkat,mkdir,fsync:signal=SIGKILL:when={moment}"
        );
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject]);
        command.arg(env!("CARGO_BIN_EXE_agent-runner"));
        let status = command
            .args(["clean", "--older-than", "1d"])
            .output()
            .unwrap()
            .status;
        for run in &runs {
            let files = ["metadata.json", "runner.log", "transcript.log"];
            let whole = files.iter().filter(|file| run.join(file).exists()).count();
            assert!(
                whole == 3 || !run.exists(),
                "killed at {moment}: {whole} files"
            );
        }
        let _told = clean(&env, &["--older-than", "1d"]);
        assert!(runs.iter().all(|run| !run.exists()));
        assert_eq!(
            fs::read_dir(env.logs().join(".state/trash"))
                .unwrap()
                .count(),
            0
        );
        if status.success() {
            break;
        }
        killed += 1;
    }
    assert!(killed >= 3, "{killed}");
}
