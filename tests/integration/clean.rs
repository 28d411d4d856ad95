//! `clean`: what is old goes, whole; what somebody still needs stays.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Done, TestEnv, make_pipe};

const LIMITS: [&str; 2] = ["--older-than", "1d"];

/// An isolated run of long ago that made a commit, left a file uncommitted and failed; with its
/// work tree and its branch.
fn isolated() -> (TestEnv, PathBuf, String) {
    let script = "echo a > a.txt; git add .; git commit -qm agent; echo b > b.txt; exit 3";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .task("work", "isolation = \"worktree\"");
    env.beat(1);
    assert_eq!(env.run("fake", "work").code, Some(1));
    let run = env.run_directory("work", "fake");
    let id = run.file_name().unwrap().to_str().unwrap();
    let of = |id: &str| {
        let tree = env.logs().join(format!(".state/worktrees/work.fake.{id}"));
        (tree, format!("agent-runner/work/fake/{id}"))
    };
    let ((tree, branch), (old_tree, old_branch)) = (of(id), of("20200101_000000"));
    env.git(&["branch", "-m", &branch, &old_branch]);
    let trees = [&tree, &old_tree].map(|tree| tree.to_str().unwrap());
    env.git(&["worktree", "move", trees[0], trees[1]]);
    fs::rename(&run, run.with_file_name("20200101_000000")).unwrap();
    (env, old_tree, old_branch)
}

fn in_tree(env: &TestEnv, tree: &Path, arguments: &[&str]) -> String {
    env.git(&[&["-C", tree.to_str().unwrap()], arguments].concat())
}

/// The run and its work tree stay, and `why` is said, also when nothing is to be removed.
#[track_caller]
fn stays(env: &TestEnv, tree: &Path, why: &str) {
    for more in [&["--dry-run", "--json"][..], &["--json"]] {
        let done = clean(env, &[&LIMITS, more].concat());
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(report["removed"]["runs"], json!([]));
        assert_eq!(report["kept"]["unsaved"], 1);
        let said = format!("work/fake/20200101_000000 stays: {why}");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
        assert!(tree.join(".git").exists());
    }
}

/// Plants a run that ended long ago, with a transcript of 40 KiB, and a heartbeat of now.
fn plant(env: &TestEnv, run: &str, notification: &str) -> PathBuf {
    env.beat(1);
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
fn a_run_by_a_clock_that_was_ahead_is_as_old_as_its_file_and_where_that_is_ahead_too_the_oldest() {
    let env = TestEnv::new();
    touch(&old(&env, "20990101_000000"), "2020-01-01");
    touch(&old(&env, "20990102_000000"), "2099-01-02");
    old(&env, "20990103_000000");
    let untold = plant(&env, "work/fake/20990104_000000", "pending");
    touch(&untold, "2020-01-01");
    env.beat(8 * 24 * 60);
    let gone = ["20990102_000000", "20990101_000000"];
    assert_eq!(removed(&env, &["--older-than", "1d"]), gone);
    assert_eq!(env.run_directories("work", "fake").len(), 2);
}

#[test]
fn a_clock_that_is_behind_lets_clean_remove_no_run_of_the_right_today() {
    let env = TestEnv::new();
    for name in ["20990101_000000", "20990102_000000"] {
        touch(&old(&env, name), "2099-01-02");
    }
    old(&env, "20200101_000000");
    // As of a machine that starts with a wrong clock.
    let beats = env.logs().join("heartbeat/task.log");
    let now = fs::read_to_string(&beats).unwrap();
    fs::write(&beats, format!("2099-01-01 00:00:00 UTC\n{now}")).unwrap();
    let limits = ["--older-than", "1d", "--max-size", "1"];
    let said = clean(&env, &[&limits[..], &["--dry-run"]].concat()).stderr;
    for words in [
        "2 runs of the future",
        "`agent-runner heartbeat`",
        "work/fake/20990102_000000",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(removed(&env, &limits), ["20200101_000000"]);
    // Only the clock that made them was wrong.
    env.beat(8 * 24 * 60);
    let gone = ["20990102_000000", "20990101_000000"];
    assert_eq!(removed(&env, &limits), gone);
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
    // root is stopped by no permissions: somebody else cleans.
    let done = env.agent_runner_of_nobody(&["clean", "--older-than", "1d"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(
        done.stdout.starts_with("removed 1 run, "),
        "{}",
        done.stdout
    );
    assert!(!run.exists());
}

#[test]
fn a_place_of_somebody_else_that_may_not_be_listed_is_passed_over() {
    let env = TestEnv::new();
    let run = old(&env, "20200101_000000");
    let place = env.logs().join(".state/since");
    fs::create_dir_all(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o0)).unwrap();
    let done = env.agent_runner_of_nobody(&["clean", "--older-than", "1d"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!run.exists());
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
    for file in &stale {
        touch(file, "2020-01-01");
    }
    let trash = state.join("trash/work.fake.20190101_000000");
    fs::create_dir_all(trash.join("private")).unwrap();
    let said = clean(&env, &[]);
    assert!(
        said.stdout.contains("removed 4 leftovers, "),
        "{}",
        said.stdout
    );
    assert!(stale.iter().all(|file| !file.exists()));
    assert!(young.exists() && run.is_dir());
    assert!(!trash.exists());
}

#[test]
fn what_is_not_for_certain_a_run_is_never_removed() {
    let env = TestEnv::new();
    let run = old(&env, "20200101_000000");
    let foreign = [
        "reports/2024/q1/r.pdf",
        "backup/db/20200101_020000/dump.sql",
        "backup/db/20200102_020000/metadata.json",
        "backup/db/20200102_020000/.tmpAbc123",
        "ci/cache/abc/metadata.json",
    ];
    for file in foreign {
        let file = env.logs().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "{}").unwrap();
        touch(&file, "2020-01-01");
        touch(file.parent().unwrap(), "2020-01-01");
    }
    let empty = env.logs().join("spool/in");
    fs::create_dir_all(&empty).unwrap();
    touch(&empty, "2020-01-01");
    let done = env.agent_runner(&["stats", "--json"]);
    let stats: Value = serde_json::from_str(&done.stdout).unwrap();
    // One of the foreign ones looks like a run with a broken record.
    assert_eq!(stats["total"]["runs"], 2);
    let limits = ["--older-than", "0s", "--max-size", "1"];
    let said = clean(&env, &limits).stdout;
    assert!(
        said.starts_with("removed 1 run, ") && said.lines().count() == 1,
        "{said}"
    );
    assert!(!run.exists() && empty.is_dir());
    for file in foreign {
        assert!(env.logs().join(file).is_file(), "{file}");
    }
}

#[test]
fn what_is_no_mark_stops_no_command_and_is_named() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    let marks = env.logs().join(".state/running");
    fs::create_dir_all(marks.join("work.fake.20200101_000000")).unwrap();
    let pipe = marks.join("work.fake.20200102_000000");
    make_pipe(&pipe);
    old(&env, "20200102_000000");
    assert_eq!(env.run("fake", "work").code, Some(0));
    for command in [
        &["heartbeat"][..],
        &["triage"],
        &["clean", "--older-than", "1d"],
    ] {
        let done = env.agent_runner(command);
        assert_eq!(done.code, Some(0), "{command:?}: {}", done.stderr);
        assert!(
            done.stderr.contains("is no file, so no mark"),
            "{}",
            done.stderr
        );
    }
    assert_eq!(env.run_directories("work", "fake").len(), 1);
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

#[test]
fn a_work_tree_with_unsaved_work_stays_with_its_run_and_goes_with_it_once_that_is_saved() {
    let (env, tree, branch) = isolated();
    stays(&env, &tree, "uncommitted work stays");
    assert_eq!(fs::read_to_string(tree.join("b.txt")).unwrap(), "b\n");
    in_tree(&env, &tree, &["add", "."]);
    in_tree(&env, &tree, &["commit", "-qm", "person"]);
    let told = clean(&env, &[&LIMITS[..], &["--dry-run"]].concat()).stdout;
    assert!(told.contains("1 work tree among them"), "{told}");
    assert!(tree.is_dir());
    assert_eq!(removed(&env, &LIMITS), ["20200101_000000"]);
    assert!(!tree.exists());
    assert_eq!(env.git(&["worktree", "list"]).lines().count(), 1);
    // Not a commit is lost.
    let log = env.git(&["log", "--format=%s", &branch]);
    assert_eq!(log, "person\nagent\nfirst");
}

#[test]
fn the_size_of_a_work_tree_counts_and_its_branch_goes_when_another_has_its_commits() {
    let (env, tree, branch) = isolated();
    env.git(&["merge", "-q", &branch]);
    fs::write(tree.join("b.txt"), "b".repeat(400 << 10)).unwrap();
    let limits = ["--max-size", "300KiB"];
    assert_eq!(removed(&env, &limits), [""; 0]);
    assert!(tree.is_dir());
    fs::rename(tree.join("b.txt"), tree.join("ignored.txt")).unwrap();
    fs::write(env.repository().join(".git/info/exclude"), "ignored.txt\n").unwrap();
    assert_eq!(removed(&env, &limits), ["20200101_000000"]);
    assert!(!tree.exists());
    assert_eq!(env.git(&["branch", "--list", "agent-runner/*"]), "");
    assert_eq!(env.git(&["log", "--format=%s"]), "agent\nfirst");
}

#[test]
fn commits_on_no_branch_broken_work_trees_and_those_of_a_repository_that_is_gone_stay() {
    let (env, tree, branch) = isolated();
    in_tree(&env, &tree, &["switch", "-q", "--detach"]);
    in_tree(&env, &tree, &["add", "."]);
    in_tree(&env, &tree, &["commit", "-qm", "nowhere"]);
    stays(&env, &tree, "commits on no branch stay");
    in_tree(&env, &tree, &["switch", "-q", "-C", &branch]);

    // The logs may lie in a repository, which git would look at.
    let around = env.root();
    env.git(&["init", "-q", around.to_str().unwrap()]);
    let link = fs::read(tree.join(".git")).unwrap();
    fs::remove_file(tree.join(".git")).unwrap();
    fs::create_dir(tree.join(".git")).unwrap();
    stays(&env, &tree, "what is no work tree any more stays");
    fs::remove_dir(tree.join(".git")).unwrap();
    fs::write(tree.join(".git"), link).unwrap();

    let elsewhere = env.root().join("elsewhere");
    fs::rename(env.repository(), &elsewhere).unwrap();
    stays(&env, &tree, "");
    fs::rename(&elsewhere, env.repository()).unwrap();
    assert_eq!(removed(&env, &LIMITS), ["20200101_000000"]);
    assert!(!tree.exists());
}

#[test]
fn a_work_tree_that_was_half_removed_or_whose_run_is_gone_goes_unless_it_holds_unsaved_work() {
    let (env, tree, branch) = isolated();
    fs::remove_dir_all(env.logs().join("work/fake/20200101_000000")).unwrap();
    let young = clean(&env, &LIMITS);
    assert!(!young.stderr.contains("stays"), "{}", young.stderr);
    touch(&tree, "2020-01-01");
    let told = clean(&env, &LIMITS);
    assert!(
        told.stderr.contains("uncommitted work stays"),
        "{}",
        told.stderr
    );
    assert!(!told.stdout.contains("leftover"), "{}", told.stdout);
    fs::rename(&tree, tree.with_file_name("work.fake.20200101_000000.gone")).unwrap();
    let told = clean(&env, &[]);
    assert!(
        told.stdout.contains("removed 1 leftover"),
        "{}",
        told.stdout
    );
    let left = fs::read_dir(env.logs().join(".state/worktrees")).unwrap();
    assert_eq!(left.count(), 0);
    assert_eq!(env.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(env.git(&["log", "--format=%s", &branch]), "agent\nfirst");
}

#[test]
fn a_filter_that_a_run_configured_is_not_run_by_clean() {
    let (env, tree, _) = isolated();
    let trap = env.root().join("trap");
    let filter = format!("touch '{}'; cat", trap.display());
    env.git(&["config", "filter.evil.clean", &filter]);
    fs::write(
        env.repository().join(".git/info/attributes"),
        "* filter=evil\n",
    )
    .unwrap();
    // Of another length git knows without reading it, mostly.
    fs::write(tree.join("a.txt"), "b\n").unwrap();
    stays(&env, &tree, "uncommitted work stays");
    assert!(!trap.exists());
    in_tree(&env, &tree, &["status"]);
    assert!(trap.exists(), "the trap works");
}
