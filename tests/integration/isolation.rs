//! Runs in a work tree of their own: their commits come home, and nobody's work is touched.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Done, TestEnv, claude, eventually, evidence, processes_with};

/// An isolated task that requires a commit, for an agent that does `script`.
fn env(script: &str) -> TestEnv {
    isolated(script, "")
}

fn isolated(script: &str, keys: &str) -> TestEnv {
    let keys = format!("requires_commit = true\nisolation = \"worktree\"\n{keys}");
    TestEnv::new()
        .script("fake", "text", &format!("{script}\necho done"))
        .task("work", &keys)
}

/// A script that commits a file and waits until it may go on.
const COMMIT_AND_WAIT: &str = "echo agent > agent.txt; git add agent.txt; git commit -qm agent
    touch $OUT/begun; while [ ! -e $OUT/go ]; do sleep 0.05; done";

fn waiting(script: &str) -> TestEnv {
    let env = env(script);
    let out = env.root().display().to_string();
    env.config(&format!("[agents.fake.env]\nOUT = \"{out}\""))
}

/// Runs the agent; when it waits, a person does something.
#[track_caller]
fn meanwhile(env: &TestEnv, person: impl FnOnce()) -> (Option<i32>, Value) {
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let begun = || env.root().join("begun").exists();
    assert!(eventually(Duration::from_secs(20), begun));
    person();
    fs::write(env.root().join("go"), "").unwrap();
    let code = runner.wait().unwrap().code();
    (code, env.record("work", "fake"))
}

fn work_trees(env: &TestEnv) -> Vec<PathBuf> {
    let directory = env.logs().join(".state/worktrees");
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Nothing of the run is left beside its commits.
#[track_caller]
fn is_tidy(env: &TestEnv) {
    assert_eq!(work_trees(env), Vec::<PathBuf>::new());
    assert_eq!(env.git(&["branch", "--list", "agent-runner/*"]), "");
    assert_eq!(env.git(&["worktree", "list"]).lines().count(), 1);
}

/// The branch that a run left.
#[track_caller]
fn left_branch(env: &TestEnv) -> String {
    left_branch_like(env, "")
}

/// The branch with this end to its name, among those that a run left.
#[track_caller]
fn left_branch_like(env: &TestEnv, end: &str) -> String {
    let branch = env.git(&[
        "branch",
        "--list",
        "--format=%(refname:short)",
        "agent-runner/*",
    ]);
    let record = env.record("work", "fake");
    let run = record["run_id"].as_str().unwrap();
    assert_eq!(branch, format!("agent-runner/work/fake/{run}{end}"));
    branch
}

/// A person's uncommitted work of every kind.
fn dirty(env: &TestEnv) {
    let write = |name: &str, text: &str| fs::write(env.repository().join(name), text).unwrap();
    write("staged.txt", "staged\n");
    env.git(&["add", "staged.txt"]);
    write("staged.txt", "staged, then changed\n");
    write("README.md", "# changed\n");
    write("untracked.txt", "untracked\n");
    write(".git/info/exclude", "ignored.txt\n");
    write("ignored.txt", "ignored\n");
}

/// All that a person has not committed, byte for byte.
fn uncommitted(env: &TestEnv) -> Vec<String> {
    let read = |name: &str| fs::read_to_string(env.repository().join(name)).unwrap();
    let mut all = vec![
        env.git(&["diff", "--binary"]),
        env.git(&["diff", "--cached", "--binary"]),
        env.git(&["status", "--porcelain", "--ignored"]),
        env.git(&["stash", "list"]),
    ];
    all.extend(["staged.txt", "README.md", "untracked.txt", "ignored.txt"].map(read));
    all
}

#[test]
fn commits_of_an_isolated_run_come_to_the_branch_past_a_persons_uncommitted_work() {
    let env = env(
        "test ! -e untracked.txt && echo agent > agent.txt && git add . && git commit -qm agent",
    );
    dirty(&env);
    let before = uncommitted(&env);
    let done = env.run("fake", "work");
    let record = env.record("work", "fake");
    assert_eq!(done.code, Some(0), "{}", evidence(&record));
    assert_eq!(uncommitted(&env), before);
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "agent\nfirst");
    assert_eq!(
        record["commits"][0]["commit"],
        env.git(&["rev-parse", "main"]).as_str()
    );
    assert_eq!(
        (&record["branch"], &record["outcome"]),
        (&"main".into(), &"success".into())
    );
    assert!(env.repository().join("agent.txt").exists());
    is_tidy(&env);
}

#[test]
fn a_run_is_rebased_over_a_commit_that_a_person_made_meanwhile() {
    let env = waiting(COMMIT_AND_WAIT);
    let (code, record) = meanwhile(&env, || {
        fs::write(env.repository().join("person.txt"), "p\n").unwrap();
        env.git(&["add", "person.txt"]);
        env.git(&["commit", "-qm", "person"]);
        dirty(&env);
    });
    let facts = evidence(&record);
    assert_eq!(code, Some(0), "{facts}");
    assert_eq!(
        env.git(&["log", "--format=%s", "main"]),
        "agent\nperson\nfirst"
    );
    assert_eq!(record["commits"].as_array().unwrap().len(), 1, "{facts}");
    assert_eq!(
        record["commits"][0]["commit"],
        env.git(&["rev-parse", "main"]).as_str()
    );
    assert!(facts.contains("rebased onto"), "{facts}");
    assert!(
        facts.contains("its commits came to branch `main`"),
        "{facts}"
    );
    assert_eq!(
        env.git(&["log", "-1", "--format=%an %cn"]),
        "agent-runner agent-runner"
    );
    assert_eq!(
        fs::read_to_string(env.repository().join("README.md")).unwrap(),
        "# changed\n"
    );
    is_tidy(&env);
}

/// The same with a check that passes while there is no `person.txt`, and a person who commits one.
fn checked_and_rebased(verify: &str) -> (TestEnv, Option<i32>, Value) {
    let verify = Value::from(verify);
    let env = isolated(COMMIT_AND_WAIT, &format!("verify = [{verify}]"));
    let out = env.root().display().to_string();
    let env = env.config(&format!("[agents.fake.env]\nOUT = \"{out}\""));
    let (code, record) = meanwhile(&env, || {
        fs::write(env.repository().join("person.txt"), "p\n").unwrap();
        env.git(&["add", "person.txt"]);
        env.git(&["commit", "-qm", "person"]);
    });
    (env, code, record)
}

#[test]
fn what_is_rebased_passes_the_checks_again_before_it_comes_to_the_branch() {
    let (env, code, record) = checked_and_rebased("test -e agent.txt && ls");
    let facts = evidence(&record);
    assert_eq!(code, Some(0), "{facts}");
    assert_eq!(
        env.git(&["log", "--format=%s", "main"]),
        "agent\nperson\nfirst"
    );
    assert_eq!(
        record["commits"][0]["commit"],
        env.git(&["rev-parse", "main"]).as_str()
    );
    assert_eq!(facts.matches("rebased onto").count(), 1, "{facts}");
    let run = env.run_directory("work", "fake");
    let log = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    assert!(!log("checks.log").contains("person.txt"));
    assert!(log("checks.2.log").contains("person.txt"));
    is_tidy(&env);
}

#[test]
fn what_fails_the_checks_after_it_was_rebased_stays_on_a_named_branch() {
    let (env, code, record) = checked_and_rebased("test ! -e person.txt");
    assert_eq!(code, Some(1));
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "person\nfirst");
    let branch = left_branch(&env);
    assert_eq!(
        env.git(&["log", "--format=%s", &branch]),
        "agent\nperson\nfirst"
    );
    let error = record["error"].as_str().unwrap();
    assert!(
        error.contains("test ! -e person.txt") && error.contains(&branch),
        "{error}"
    );
    let facts = evidence(&record);
    assert!(facts.contains("fail on them as rebased onto"), "{facts}");
    assert_eq!(work_trees(&env), Vec::<PathBuf>::new());
}

#[test]
fn a_rebase_after_which_git_waits_is_not_told_as_a_branch_that_kept_moving() {
    let (env, code, record) = checked_and_rebased("test ! -e person.txt || mkfifo .gitignore");
    assert_eq!(code, Some(1));
    let facts = evidence(&record);
    let told = "could not be looked at after the rebase";
    assert!(facts.contains(told), "{facts}");
    assert!(!facts.contains("kept moving"), "{facts}");
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "person\nfirst");
    left_branch(&env);
}

#[test]
fn a_branch_in_the_way_of_those_of_runs_is_named() {
    let env = env("true");
    env.git(&["branch", "agent-runner"]);
    assert_eq!(env.run("fake", "work").code, Some(1));
    let error = env.record("work", "fake")["error"].to_string();
    assert!(
        error.contains("rename the branch `agent-runner`"),
        "{error}"
    );
}

#[test]
fn a_merge_that_a_rebase_would_drop_stays_on_a_named_branch() {
    let merge = "home=$(git branch --show-current)
        git switch -qc side; echo one > one; git add one; git commit -qm one
        git switch -q $home; echo two > two; git add two; git commit -qm two
        git merge -q --no-commit --no-ff side; echo fix > fix; git add fix; git commit -qm merge";
    let env = waiting(&format!("{merge}\n{COMMIT_AND_WAIT}"));
    let (code, record) = meanwhile(&env, || {
        env.git(&["commit", "-q", "--allow-empty", "-m", "person"]);
    });
    assert_eq!(code, Some(1), "{}", evidence(&record));
    assert!(
        evidence(&record).contains("a merge is among them"),
        "{}",
        evidence(&record)
    );
    let branch = left_branch(&env);
    assert_eq!(env.git(&["show", &format!("{branch}:fix")]), "fix");
}

#[test]
fn a_check_that_moves_the_branch_changes_the_verdict() {
    let script = "echo a > a.txt; git add .; git commit -qm agent; echo done";
    for isolation in ["none", "worktree"] {
        for check in [
            "git reset -q --hard HEAD~1",
            "git commit -q --amend -m reworded",
            "rm -rf .git",
        ] {
            let keys = format!(
                "requires_commit = true\nisolation = \"{isolation}\"\nverify = [\"{check}\"]"
            );
            let env = TestEnv::new()
                .script("fake", "text", script)
                .task("work", &keys);
            let done = env.run("fake", "work");
            let record = env.record("work", "fake");
            let facts = evidence(&record);
            assert_eq!(done.code, Some(1), "{isolation} {check}: {facts}");
            let outcome = &record["outcome"];
            assert_eq!(outcome, "commit_missing", "{isolation} {check}: {facts}");
            if isolation == "worktree" {
                assert_eq!(env.git(&["log", "--format=%s", "main"]), "first");
            }
        }
    }
}

#[test]
fn a_commit_that_is_not_the_runs_does_not_come_home_with_it() {
    for (script, keys) in [
        (
            "env -i PATH=$PATH git -c user.name=q -c user.email=q@q commit -qm sneaky",
            "paths = [\"docs/**\"]",
        ),
        ("true", "verify = [\"git commit -qm sneaky\"]"),
    ] {
        let script = format!(
            "mkdir docs; echo 1 > docs/a; git add docs; git commit -qm ok
             echo bad > bad; git add bad; {script}"
        );
        let env = isolated(&script, keys);
        let done = env.run("fake", "work");
        let facts = evidence(&env.record("work", "fake"));
        assert_eq!(done.code, Some(1), "{facts}");
        assert_eq!(env.git(&["log", "--format=%s", "main"]), "first");
        assert!(facts.contains("is not the run's"), "{facts}");
        let branch = left_branch(&env);
        let log = env.git(&["log", "--format=%s", &branch]);
        assert_eq!(log, "sneaky\nok\nfirst");
    }
}

#[test]
fn work_at_which_git_was_told_not_to_look_stays_in_its_tree() {
    for flag in ["--skip-worktree", "--assume-unchanged"] {
        let env = env(&format!(
            "echo z > z; git add z; git commit -qm agent
             git update-index {flag} README.md; echo precious >> README.md"
        ));
        assert_eq!(env.run("fake", "work").code, Some(0));
        let trees = work_trees(&env);
        let [tree] = &trees[..] else {
            panic!("{trees:?}")
        };
        let text = fs::read_to_string(tree.join("README.md")).unwrap();
        assert!(text.contains("precious"));
        let facts = evidence(&env.record("work", "fake"));
        assert!(
            facts.contains("README.md, at which git was told"),
            "{facts}"
        );
    }
}

#[test]
fn directories_that_may_not_be_written_go_with_their_work_tree() {
    let env = env("echo ignored > .gitignore; git add .; git commit -qm agent
         mkdir -p ignored/inner; echo x > ignored/inner/file; chmod 555 ignored/inner ignored");
    let done = env.agent_runner_of_nobody(&["run", "--agent", "fake", "--task", "work"]);
    let facts = evidence(&env.record("work", "fake"));
    assert_eq!(done.code, Some(0), "{facts}");
    assert_eq!(work_trees(&env), Vec::<PathBuf>::new(), "{facts}");
}

/// A repository of somebody else's with one commit more, for a run to fetch.
fn upstream(env: &TestEnv) -> String {
    let upstream = env.root().join("upstream").display().to_string();
    env.git(&["clone", "-q", ".", &upstream]);
    env.git(&[
        "-C",
        &upstream,
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "theirs",
    ]);
    upstream
}

#[test]
fn what_a_run_fetched_comes_home_with_its_commits_unless_paths_are_named() {
    for (keys, fetched_come) in [("", true), ("paths = [\"agent.txt\"]", false)] {
        let script = "git pull -q --ff-only \"$UPSTREAM\" main
             echo agent > agent.txt; git add agent.txt; git commit -qm agent";
        let env = isolated(script, keys);
        let upstream = upstream(&env);
        let env = env.config(&format!("[agents.fake.env]\nUPSTREAM = \"{upstream}\""));
        let done = env.run("fake", "work");
        let facts = evidence(&env.record("work", "fake"));
        let code = i32::from(!fetched_come);
        assert_eq!(done.code, Some(code), "{facts}");
        let subjects = env.git(&["log", "--format=%s", "main"]);
        let expected = if fetched_come {
            "agent\ntheirs\nfirst"
        } else {
            "first"
        };
        assert_eq!(subjects, expected, "{facts}");
    }
}

#[test]
fn what_the_branch_has_meanwhile_may_be_merged_into_an_isolated_run() {
    let env = waiting(
        "touch $OUT/begun; while [ ! -e $OUT/go ]; do sleep 0.05; done
        git merge -q main; echo agent > agent.txt; git add agent.txt; git commit -qm agent",
    );
    let (code, record) = meanwhile(&env, || {
        fs::write(env.repository().join("person.txt"), "p\n").unwrap();
        env.git(&["add", "person.txt"]);
        env.git(&["commit", "-qm", "person"]);
    });
    assert_eq!(code, Some(0), "{}", evidence(&record));
    assert_eq!(
        env.git(&["log", "--format=%s", "main"]),
        "agent\nperson\nfirst"
    );
    is_tidy(&env);
}

#[test]
fn commits_come_home_to_a_repository_whose_directory_lies_elsewhere() {
    let env = env("echo agent > agent.txt; git add agent.txt; git commit -qm agent");
    let directory = env.root().join("directory.git");
    env.git(&[
        "init",
        "-q",
        "--separate-git-dir",
        directory.to_str().unwrap(),
    ]);
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "agent\nfirst");
    assert!(env.repository().join("agent.txt").exists());
    is_tidy(&env);
}

#[test]
fn commits_come_home_to_a_repository_whose_path_is_not_utf_8_and_such_a_log_root_is_refused() {
    let env = env("echo a > a.txt; git add a.txt; git commit -qm agent");
    let odd = env.root().join(OsStr::from_bytes(b"re\xffpository"));
    fs::rename(env.repository(), &odd).unwrap();
    symlink(&odd, env.repository()).unwrap();
    let done = env.run("fake", "work");
    let facts = evidence(&env.record("work", "fake"));
    assert_eq!(done.code, Some(0), "{facts}");
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "agent\nfirst");
    is_tidy(&env);

    let mut command = env.command(&["run", "--agent", "fake", "--task", "work"]);
    command.env("AGENT_RUNNER_LOG_ROOT", odd.join("logs"));
    let done = Done::from(command.output().unwrap());
    assert_eq!(done.code, Some(1));
    let told = "is not UTF-8; set another log root";
    assert!(done.stdout.contains(told), "{}", done.stdout);
}

#[test]
fn a_conflict_leaves_the_commits_on_a_named_branch_and_says_so() {
    let env = waiting(COMMIT_AND_WAIT).unreachable_server();
    let mut before = Vec::new();
    let (code, record) = meanwhile(&env, || {
        fs::write(env.repository().join("agent.txt"), "p\n").unwrap();
        env.git(&["add", "agent.txt"]);
        env.git(&["commit", "-qm", "person"]);
        dirty(&env);
        before = uncommitted(&env);
    });
    assert_eq!(code, Some(1));
    assert_eq!(record["outcome"], "commit_missing");
    assert_eq!(record["commits"], Value::Array(Vec::new()));
    assert_eq!(uncommitted(&env), before);
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "person\nfirst");
    let branch = left_branch(&env);
    assert_eq!(env.git(&["log", "--format=%s", &branch]), "agent\nfirst");
    assert_eq!(work_trees(&env), Vec::<PathBuf>::new());
    let facts = evidence(&record);
    assert!(facts.contains(&format!("`git merge {branch}`")), "{facts}");
    let error = record["error"].as_str().unwrap();
    assert!(
        error.contains(&branch) && error.contains("they conflict: agent.txt"),
        "{error}"
    );
    for page in [
        env.agent_runner(&["show", "latest"]),
        env.agent_runner(&["explain", "latest"]),
    ] {
        assert!(page.stdout.contains(&branch), "{}", page.stdout);
    }
    let told = env.outbox()[0].to_string();
    assert!(told.contains(&branch), "{told}");
}

#[test]
fn uncommitted_work_in_the_way_stays_as_it_is_and_the_commits_stay_on_a_named_branch() {
    for file in ["README.md", "staged.txt", "untracked.txt", "ignored.txt"] {
        let env = env(&format!(
            "echo agent > {file}; git add -f {file}; git commit -qm agent"
        ));
        dirty(&env);
        let before = uncommitted(&env);
        let index = fs::read(env.repository().join(".git/index")).unwrap();
        assert_eq!(env.run("fake", "work").code, Some(1), "{file}");
        assert_eq!(uncommitted(&env), before, "{file}");
        // `git status` of the test may refresh it; what is in it is compared above.
        let now = fs::read(env.repository().join(".git/index")).unwrap();
        assert_eq!(index.len(), now.len(), "{file}");
        assert_eq!(env.git(&["log", "--format=%s", "main"]), "first");
        let branch = left_branch(&env);
        assert_eq!(env.git(&["log", "--format=%s", &branch]), "agent\nfirst");
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "commit_missing");
        let error = record["error"].as_str().unwrap();
        let named = format!("would be overwritten by merge: {file}; Please ");
        assert!(error.contains(&named), "{error}");
    }
}

#[test]
fn a_branch_that_nobody_has_checked_out_moves_alone() {
    let env = waiting(COMMIT_AND_WAIT);
    let (code, record) = meanwhile(&env, || {
        env.git(&["switch", "-qc", "elsewhere"]);
    });
    assert_eq!(code, Some(0), "{}", evidence(&record));
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "agent\nfirst");
    assert_eq!(env.git(&["log", "--format=%s", "HEAD"]), "first");
    assert!(!env.repository().join("agent.txt").exists());
    is_tidy(&env);
}

#[test]
fn of_a_filter_that_an_isolated_run_configured_it_is_told_that_it_did_not_run() {
    let env = env(
        "git config filter.case.clean 'tr a-z A-Z'; git config filter.case.smudge 'tr A-Z a-z'
        echo '*.txt filter=case' > .gitattributes; echo agent > agent.txt
        touch -d 2001-01-01 agent.txt; git add .; git commit -qm agent",
    );
    assert_eq!(env.run("fake", "work").code, Some(0));
    let came = fs::read_to_string(env.repository().join("agent.txt")).unwrap();
    assert_eq!(came, "AGENT\n");
    let facts = evidence(&env.record("work", "fake"));
    let told =
        "filters that changed during the run did not run as they are now on what came home: `case`";
    assert!(facts.contains(told), "{facts}");
    // Now a person has it.
    env.git(&["rm", "-qrf", "."]);
    env.git(&["commit", "-qm", "anew"]);
    assert_eq!(env.run("fake", "work").code, Some(0));
    let came = fs::read_to_string(env.repository().join("agent.txt")).unwrap();
    assert_eq!(came, "agent\n");
    let facts = evidence(&env.records("work", "fake")[1]);
    assert!(!facts.contains("filters"), "{facts}");
    // The run has it changed; git must run it or fail.
    env.git(&["config", "filter.case.required", "true"]);
    env.git(&["config", "filter.case.smudge", "cat"]);
    env.git(&["rm", "-qrf", "."]);
    env.git(&["commit", "-qm", "anew"]);
    assert_eq!(env.run("fake", "work").code, Some(0));
    let facts = evidence(&env.records("work", "fake")[2]);
    assert!(facts.contains(told), "{facts}");
}

#[test]
fn two_isolated_runs_work_at_once_and_both_land() {
    let script = "touch $OUT/$1; while [ ! -e $OUT/go ]; do sleep 0.05; done
        echo $$ > $$.txt; git add .; git commit -qm agent; echo done";
    let env = env("").script("one", "text", &script.replace("$1", "one"));
    let env = env.script("two", "text", &script.replace("$1", "two"));
    let out = env.root().display().to_string();
    let env = env
        .config(&format!("[agents.one.env]\nOUT = \"{out}\""))
        .config(&format!("[agents.two.env]\nOUT = \"{out}\""));
    let start = |agent| env.spawn(&["run", "--agent", agent, "--task", "work"]);
    let runners = ["one", "two"].map(start);
    let both = || {
        ["one", "two"]
            .iter()
            .all(|name| env.root().join(name).exists())
    };
    assert!(eventually(Duration::from_secs(20), both));
    fs::write(env.root().join("go"), "").unwrap();
    for mut runner in runners {
        assert_eq!(runner.wait().unwrap().code(), Some(0));
    }
    assert_eq!(
        env.git(&["log", "--format=%s", "main"]),
        "agent\nagent\nfirst"
    );
    assert_eq!(env.git(&["status", "--porcelain"]), "");
    for agent in ["one", "two"] {
        let commit = &env.record("work", agent)["commits"][0]["commit"];
        env.git(&[
            "merge-base",
            "--is-ancestor",
            commit.as_str().unwrap(),
            "main",
        ]);
    }
    is_tidy(&env);
}

#[test]
fn an_isolated_run_works_while_another_holds_the_repository_and_waits_only_to_land() {
    let env = waiting(COMMIT_AND_WAIT);
    let slow = format!(
        "touch {0}/slow; while [ ! -e {0}/end ]; do sleep 0.05; done; echo done",
        env.root().display()
    );
    let env = env.script("slow", "text", &slow).task("plain", "");
    let mut holder = env.spawn(&["run", "--agent", "slow", "--task", "plain"]);
    assert!(eventually(Duration::from_secs(20), || env
        .root()
        .join("slow")
        .exists()));
    fs::write(env.root().join("go"), "").unwrap();
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(Duration::from_secs(20), || env
        .root()
        .join("begun")
        .exists()));
    assert!(!eventually(Duration::from_millis(700), || runner
        .try_wait()
        .unwrap()
        .is_some()));
    fs::write(env.root().join("end"), "").unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(0));
    assert_eq!(runner.wait().unwrap().code(), Some(0));
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "agent\nfirst");
}

#[test]
fn a_failed_isolated_run_leaves_its_commits_on_its_branch_and_its_uncommitted_work_in_its_tree() {
    let commit = "echo agent > agent.txt; git add .; git commit -qm agent";
    let failed = env(&format!("{commit}; exit 3"));
    assert_eq!(failed.run("fake", "work").code, Some(1));
    let branch = left_branch(&failed);
    assert_eq!(failed.git(&["log", "--format=%s", &branch]), "agent\nfirst");
    assert_eq!(failed.git(&["log", "--format=%s", "main"]), "first");
    assert_eq!(work_trees(&failed), Vec::<PathBuf>::new());
    let facts = evidence(&failed.record("work", "fake"));
    assert!(facts.contains(&format!("`git merge {branch}`")), "{facts}");

    let dirty = env(&format!("{commit}; echo more > more.txt; exit 3"));
    assert_eq!(dirty.run("fake", "work").code, Some(1));
    let trees = work_trees(&dirty);
    assert_eq!(
        fs::read_to_string(trees[0].join("more.txt")).unwrap(),
        "more\n"
    );
    let facts = evidence(&dirty.record("work", "fake"));
    assert!(facts.contains(&trees[0].display().to_string()), "{facts}");
    assert!(facts.contains(&left_branch(&dirty)), "{facts}");

    let nothing = env("exit 3");
    assert_eq!(nothing.run("fake", "work").code, Some(1));
    is_tidy(&nothing);
}

#[test]
fn a_signature_that_a_rebase_cost_is_told() {
    for key in ["commit.gpgSign", "agent.none"] {
        let env = waiting(COMMIT_AND_WAIT);
        let sign = env.root().join("sign");
        let script =
            "#!/bin/sh\ncat >&2\nprintf '\\n[GNUPG:] SIG_CREATED \\n' >&2\necho signature\n";
        fs::write(&sign, script).unwrap();
        fs::set_permissions(&sign, fs::Permissions::from_mode(0o755)).unwrap();
        env.git(&["config", "gpg.program", sign.to_str().unwrap()]);
        env.git(&["config", key, "true"]);
        let (code, record) = meanwhile(&env, || {
            env.git(&["commit", "-q", "--allow-empty", "-m", "person"]);
        });
        let facts = evidence(&record);
        assert_eq!(code, Some(0), "{facts}");
        let told = facts.contains("1 commit lost the signature by that");
        assert_eq!(told, key == "commit.gpgSign", "{facts}");
    }
}

#[test]
fn commits_that_an_isolated_run_left_on_no_branch_are_kept_on_a_named_one() {
    let aside = "b=$(git branch --show-current); git checkout -q --detach
        echo v > v; git add v; git commit -qm valuable; git checkout -q $b";
    let own = "echo own > own; git add own; git commit -qm own";
    let own_ref = format!("{aside}; git update-ref refs/worktree/x $(git rev-parse HEAD@{{1}})");
    let hidden = "git reflog expire --expire=now --all";
    let detached = "git checkout -q --detach; echo v > v; git add v; git commit -qm valuable";
    for (script, code) in [
        (detached.to_owned(), 1),
        (format!("{detached}; echo more > more"), 1),
        (format!("{detached}; {hidden}; exit 3"), 1),
        (format!("{aside}; exit 1"), 1),
        (format!("{aside}; {own}"), 0),
        (format!("{own_ref}; {hidden}; {own}"), 0),
        // Of the same second and with the same words, and yet another one.
        (
            format!(
                "export GIT_AUTHOR_DATE='2026-01-01 00:00:00 +0000'; {aside}; {}",
                own.replace("-qm own", "-qm valuable")
            ),
            0,
        ),
        (
            format!(
                "{own}; echo v > v; git add v; git commit -qm valuable; git reset -q --hard HEAD~1"
            ),
            0,
        ),
    ] {
        let env = env(&script);
        let done = env.run("fake", "work");
        let facts = evidence(&env.record("work", "fake"));
        assert_eq!(done.code, Some(code), "{script}: {facts}");
        env.git(&["reflog", "expire", "--expire=now", "--all"]);
        env.git(&["gc", "-q", "--prune=now"]);
        assert!(
            facts.contains("`valuable`, which no branch had"),
            "{script}: {facts}"
        );
        let keeps_tree = script.contains("more");
        let branch = if keeps_tree {
            env.git(&["branch", "--list", "--format=%(refname:short)", "*-aside"])
        } else {
            left_branch_like(&env, "-aside")
        };
        assert_eq!(env.git(&["log", "-1", "--format=%s", &branch]), "valuable");
        assert!(
            facts.contains(&format!("is on branch `{branch}` now")),
            "{facts}"
        );
        assert_eq!(work_trees(&env).len(), usize::from(keeps_tree));
    }
}

#[test]
fn commits_in_whose_place_an_isolated_run_put_others_leave_nothing() {
    let commit = |name: &str| format!("echo {name} > {name}; git add .; git commit -qm {name}");
    let (a, b) = (commit("a"), commit("b"));
    for script in [
        format!(
            "{a}; echo more >> a; git commit -qa --amend -m better; git commit -q --amend -m best"
        ),
        format!("{a}; {b}; git reset -q --soft HEAD~2; git commit -qm both"),
        format!(
            "{a}; {b}; echo more >> a; git commit -qa --fixup HEAD~1
            GIT_SEQUENCE_EDITOR=true git rebase -q -i --autosquash HEAD~3"
        ),
    ] {
        let env = env(&script);
        let done = env.run("fake", "work");
        let facts = evidence(&env.record("work", "fake"));
        assert_eq!(done.code, Some(0), "{script}: {facts}");
        is_tidy(&env);
    }
}

#[test]
fn an_isolated_run_that_set_its_branch_back_is_told_of_no_commits_that_came() {
    let env = env("git reset -q --hard HEAD~1");
    env.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    assert_eq!(env.run("fake", "work").code, Some(1));
    let facts = evidence(&env.record("work", "fake"));
    assert!(!facts.contains("came to branch"), "{facts}");
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "second\nfirst");
    is_tidy(&env);
}

#[test]
fn of_an_isolated_run_that_removed_its_work_tree_nothing_stays_but_its_commits() {
    let commit = "echo x > x; git add x; git commit -qm agent";
    let aside = format!("{commit}; git reset -q --hard HEAD~1");
    for (work, ends) in [
        ("true", vec![]),
        (commit, vec![""]),
        (&aside, vec!["-aside"]),
    ] {
        for remove in ["rm -r $tree", "git worktree remove -f $tree"] {
            let env = env(&format!("tree=$PWD; {work}; {remove}; cd /"));
            assert_eq!(env.run("fake", "work").code, Some(1));
            let facts = evidence(&env.record("work", "fake"));
            assert!(facts.contains("` is gone"), "{facts}");
            // git forgets with the work tree what had been there.
            if ends.is_empty() || work == aside && remove.starts_with("git") {
                is_tidy(&env);
                continue;
            }
            let branch = left_branch_like(&env, ends[0]);
            assert_eq!(env.git(&["log", "--format=%s", &branch]), "agent\nfirst");
            assert!(facts.contains(&branch), "{facts}");
            assert_eq!(env.git(&["worktree", "list"]).lines().count(), 1);
        }
    }
}

#[test]
fn checks_of_an_isolated_run_see_its_work_tree() {
    let commit = "echo agent > agent.txt; git add .; git commit -qm agent";
    let there = format!(
        "test -e agent.txt && test ! -e {}",
        "$HOME/../repository/agent.txt"
    );
    let good = isolated(commit, &format!("verify = ['{there}']"));
    assert_eq!(
        good.run("fake", "work").code,
        Some(0),
        "{}",
        evidence(&good.record("work", "fake"))
    );
    is_tidy(&good);
    let bad = isolated(commit, "verify = ['false']");
    assert_eq!(bad.run("fake", "work").code, Some(1));
    assert_eq!(bad.record("work", "fake")["outcome"], "verify_failed");
    assert_eq!(bad.git(&["log", "--format=%s", "main"]), "first");
    left_branch(&bad);
}

#[test]
fn a_runner_that_was_killed_loses_nothing_of_an_isolated_run() {
    for (more, keeps_tree) in [
        ("", false),
        ("echo more > more.txt; ", true),
        // Where the run began is told there alone.
        ("rm $OUT/logs/work/fake/*/metadata.json; ", false),
        (
            "cd $OUT/logs/work/fake/*/; rm metadata.json transcript.log; cd -; ",
            false,
        ),
    ] {
        let env = waiting(&format!("{more}{COMMIT_AND_WAIT}"));
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        assert!(eventually(Duration::from_secs(20), || env
            .root()
            .join("begun")
            .exists()));
        runner.kill().unwrap();
        runner.wait().unwrap();
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "crashed");
        let branch = left_branch(&env);
        assert_eq!(env.git(&["log", "--format=%s", &branch]), "agent\nfirst");
        assert!(evidence(&record).contains(&branch), "{}", evidence(&record));
        assert_eq!(work_trees(&env).len(), usize::from(keeps_tree));
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    }
    let env = waiting("touch $OUT/begun; sleep 60");
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(Duration::from_secs(20), || env
        .root()
        .join("begun")
        .exists()));
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    is_tidy(&env);
}

#[test]
fn what_makes_git_wait_in_an_isolated_run_is_kept_and_waited_for_once() {
    let env = env("echo agent > agent.txt; git add .; git commit -qm agent; mkfifo .gitignore");
    let began = Instant::now();
    assert_eq!(env.run("fake", "work").code, Some(1));
    assert!(began.elapsed() < Duration::from_secs(20));
    let facts = evidence(&env.record("work", "fake"));
    assert!(
        facts.contains("what the run changed is not known"),
        "{facts}"
    );
    assert!(
        facts.contains(&work_trees(&env)[0].display().to_string()),
        "{facts}"
    );
    assert!(facts.contains(&left_branch(&env)), "{facts}");
}

#[test]
fn an_isolated_run_without_commits_waits_for_nobody() {
    let env = env("true");
    let slow = format!(
        "touch {0}/slow; while [ ! -e {0}/end ]; do sleep 0.05; done; echo done",
        env.root().display()
    );
    let env = env
        .script("slow", "text", &slow)
        .task("plain", "isolation = \"none\"");
    let mut holder = env.spawn(&["run", "--agent", "slow", "--task", "plain"]);
    assert!(eventually(Duration::from_secs(20), || env
        .root()
        .join("slow")
        .exists()));
    let quick = [
        "run",
        "--agent",
        "fake",
        "--task",
        "plain",
        "--isolation",
        "worktree",
    ];
    assert_eq!(env.agent_runner(&quick).code, Some(0));
    assert_eq!(holder.try_wait().unwrap(), None);
    fs::write(env.root().join("end"), "").unwrap();
    assert_eq!(holder.wait().unwrap().code(), Some(0));
    is_tidy(&env);
}

#[test]
fn a_runner_that_was_killed_while_its_commits_came_home_says_where_they_are() {
    // The rebase waits for a filter that a person configured.
    let env = waiting(COMMIT_AND_WAIT);
    let root = env.root().display().to_string();
    let filter = format!("while test -e {root}/slow; do sleep 0.05; done; cat");
    let filters = || processes_with(&format!("test -e {root}/slow"));
    env.git(&["config", "filter.slow.smudge", &filter]);
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(Duration::from_secs(20), || env
        .root()
        .join("begun")
        .exists()));
    fs::write(
        env.repository().join(".gitattributes"),
        "person.txt filter=slow\n",
    )
    .unwrap();
    fs::write(env.repository().join("person.txt"), "p\n").unwrap();
    env.git(&["add", "."]);
    env.git(&["commit", "-qm", "person"]);
    fs::write(env.root().join("slow"), "").unwrap();
    fs::write(env.root().join("go"), "").unwrap();
    assert!(eventually(Duration::from_secs(20), || !filters().is_empty()));
    runner.kill().unwrap();
    runner.wait().unwrap();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "crashed");
    let branch = left_branch(&env);
    assert!(evidence(&record).contains(&branch), "{}", evidence(&record));
    assert_eq!(env.git(&["log", "--format=%s", &branch]), "agent\nfirst");
    assert_eq!(env.git(&["log", "--format=%s", "main"]), "person\nfirst");
    assert_eq!(env.git(&["status", "--porcelain"]), "");
    fs::remove_file(env.root().join("slow")).unwrap();
    assert!(eventually(Duration::from_secs(20), || filters().is_empty()));
}

#[test]
fn a_repository_without_a_branch_to_come_home_to_starts_no_isolated_run() {
    let says = |env: &TestEnv, what: &str| {
        let done = env.run("fake", "work");
        assert_eq!(done.code, Some(1));
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "start_failed");
        assert!(record["error"].as_str().unwrap().contains(what), "{record}");
        assert_eq!(work_trees(env), Vec::<PathBuf>::new());
    };
    let detached = env("exit 0");
    detached.git(&["checkout", "-q", "--detach"]);
    says(&detached, "HEAD is detached");
    let unborn = env("exit 0");
    unborn.git(&["switch", "-q", "--orphan", "new"]);
    says(&unborn, "no commit yet");
    let bare = env("exit 0");
    bare.git(&["config", "core.bare", "true"]);
    fs::rename(bare.repository().join(".git"), bare.root().join("bare")).unwrap();
    fs::remove_dir_all(bare.repository()).unwrap();
    fs::rename(bare.root().join("bare"), bare.repository()).unwrap();
    says(&bare, "without a work tree");
}

#[test]
fn a_submodule_that_an_isolated_run_filled_in_goes_unless_it_has_work_of_its_own() {
    let commit = "git -C lib/core commit -q --allow-empty -m core";
    let emptied = "git submodule -q deinit -f lib/core";
    let deep = "git -C lib/core submodule -q update --init; cd lib/core/deep; \
                git commit -q --allow-empty -m deep; cd ..; git submodule -q deinit -f deep";
    let uncommitted = Some("uncommitted work stays");
    let unsaved = Some("work in a submodule stays");
    let cases = [
        ("git -C lib/core submodule -q update --init", None),
        (emptied, None),
        (commit, uncommitted),
        ("echo y > lib/core/new", uncommitted),
        (
            "cd lib/core; echo y > file; git update-index --assume-unchanged file",
            unsaved,
        ),
        (&format!("{commit}; {emptied}"), unsaved),
        (&format!("{commit}; git commit -qam core"), unsaved),
        (deep, unsaved),
    ];
    for (work, stays) in cases {
        let env = env(&format!(
            "git submodule -q update --init; echo x > x; git add x; git commit -qm agent; {work}"
        ));
        let script = "git config --global protocol.file.allow always
            for each in deep core; do
                git init -q -b main ~/$each; cd ~/$each; echo x > file; git add file
                git commit -qm first; git tag first
            done
            git submodule -q add ~/deep deep; git commit -qm deep
            cd $1; git submodule -q add ~/core lib/core; git commit -qm core";
        let mut make = Command::new("sh");
        env.settle(&mut make);
        let make = make.args(["-c", script, "sh"]).arg(env.repository());
        let made = Done::from(make.output().unwrap());
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        assert_eq!(env.run("fake", "work").code, Some(0), "{work}");
        let facts = evidence(&env.record("work", "fake"));
        if let Some(why) = stays {
            assert!(facts.contains(why), "{work}: {facts}");
            assert_eq!(work_trees(&env).len(), 1, "{work}");
        } else {
            is_tidy(&env);
        }
    }
}

#[test]
fn logs_in_the_repository_submodules_hooks_and_sparse_trees_do_not_disturb_an_isolated_run() {
    let env = env("mkdir -p kept; echo agent > kept/agent.txt; git add kept; git commit -qm agent");
    let logs = env.repository().join("logs").display().to_string();
    let env = env.variable("AGENT_RUNNER_LOG_ROOT", logs);
    let sub = env.root().join("home/sub");
    fs::create_dir(&sub).unwrap();
    let mut init = Command::new("sh");
    env.settle(&mut init);
    let script = "git init -q -b main . && git commit -q --allow-empty -m sub";
    let done = Done::from(
        init.args(["-c", script])
            .current_dir(&sub)
            .output()
            .unwrap(),
    );
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let sub = sub.display().to_string();
    env.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        &sub,
        "sub",
    ]);
    fs::create_dir(env.repository().join("left")).unwrap();
    fs::write(env.repository().join("left/out"), "x").unwrap();
    env.git(&["add", "left"]);
    env.git(&["commit", "-qm", "more"]);
    let tree = env.repository().display().to_string();
    env.git(&["config", "core.worktree", &tree]);
    env.git(&["sparse-checkout", "set", "kept"]);
    env.git(&["config", "submodule.recurse", "true"]);
    env.git(&["config", "merge.autoStash", "true"]);
    for hook in [
        "post-checkout",
        "post-merge",
        "reference-transaction",
        "pre-rebase",
    ] {
        let hook = env.repository().join(".git/hooks").join(hook);
        fs::write(&hook, "#!/bin/sh\ntest -n \"$AGENT_RUNNER_RUN_ID\"\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&hook, mode).unwrap();
    }
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(env.git(&["log", "-1", "--format=%s", "main"]), "agent");
    assert_eq!(env.git(&["status", "--porcelain"]), "");
    assert!(env.repository().join("kept/agent.txt").exists());
    assert!(!env.repository().join("left").exists());
    assert_eq!(env.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(env.git(&["branch", "--list", "agent-runner/*"]), "");

    // git takes this for the place of every work tree.
    env.git(&["config", "core.worktree", &tree]);
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(1));
    assert!(done.stdout.contains("start_failed"), "{}", done.stdout);
    assert!(done.stdout.contains("core.worktree"), "{}", done.stdout);
    assert_eq!(env.git(&["branch", "--list", "agent-runner/*"]), "");
}

#[test]
fn bringing_commits_home_starts_no_clean_up_of_the_repository() {
    let env = env(
        "git config gc.auto 0; for each in $(seq 1000); do echo $each > $each; done
        git add .; git commit -qm agent; git config gc.auto 1",
    );
    // One in the background would be hard to catch.
    env.git(&["config", "gc.autoDetach", "false"]);
    env.git(&["config", "maintenance.autoDetach", "false"]);
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert!(env.git(&["count-objects", "-v"]).contains("packs: 0"));
}

#[test]
fn a_person_who_commits_when_an_isolated_run_ends_is_waited_for() {
    let env = waiting(COMMIT_AND_WAIT);
    let held = env.root().join("held");
    let mut person = None;
    let (code, record) = meanwhile(&env, || {
        let hook = env.repository().join(".git/hooks/pre-commit");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\ntouch {held:?}; sleep 1\n")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(env.repository().join("README.md"), "# person\n").unwrap();
        let mut commit = Command::new("git");
        env.settle(&mut commit);
        commit.args(["commit", "-qam", "person"]);
        let commit = commit.current_dir(env.repository()).spawn().unwrap();
        person = Some(commit);
        assert!(eventually(Duration::from_secs(20), || held.exists()));
    });
    assert_eq!(code, Some(0), "{}", evidence(&record));
    assert!(person.unwrap().wait().unwrap().success());
    assert_eq!(
        env.git(&["log", "--format=%s", "main"]),
        "agent\nperson\nfirst"
    );
    is_tidy(&env);
}

#[test]
fn a_lock_that_stays_in_the_way_of_commits_is_named() {
    // Where the index is a link, the lock lies elsewhere than git says, and cannot be waited for.
    for is_link in [false, true] {
        let env = waiting(COMMIT_AND_WAIT);
        let index = env.repository().join(".git/index");
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let begun = || env.root().join("begun").exists();
        assert!(eventually(Duration::from_secs(20), begun));
        if is_link {
            fs::rename(&index, env.root().join("index")).unwrap();
            symlink(env.root().join("index"), &index).unwrap();
            fs::write(env.root().join("index.lock"), "").unwrap();
        } else {
            fs::write(index.with_extension("lock"), "").unwrap();
        }
        fs::write(env.root().join("go"), "").unwrap();
        if !is_link {
            std::thread::sleep(Duration::from_secs(2));
            assert_eq!(runner.try_wait().unwrap(), None);
            let pid = rustix::process::Pid::from_child(&runner);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        let code = if is_link { 1 } else { 143 };
        assert_eq!(runner.wait().unwrap().code(), Some(code));
        let facts = evidence(&env.record("work", "fake"));
        assert!(facts.contains("index.lock"), "{facts}");
        assert_eq!(env.git(&["log", "--format=%s", "main"]), "first");
    }
}

#[test]
fn of_a_work_tree_that_cannot_be_made_to_its_end_nothing_stays() {
    let env = env("true");
    for (key, value) in [("clean", "cat"), ("smudge", "false"), ("required", "true")] {
        env.git(&["config", &format!("filter.full.{key}"), value]);
    }
    fs::write(env.repository().join(".gitattributes"), "*.txt filter=full").unwrap();
    fs::write(env.repository().join("a.txt"), "a").unwrap();
    env.git(&["add", "."]);
    env.git(&["commit", "-qm", "filtered"]);
    assert_eq!(env.run("fake", "work").code, Some(1));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "start_failed");
    is_tidy(&env);
}

/// With a git that waits where its arguments hold a text, from a file `slow` on until a file `go` is
/// there.
fn with_slow_git(env: TestEnv, text: &str) -> TestEnv {
    let (root, path) = (env.root().to_owned(), std::env::var("PATH").unwrap());
    let (bin, place) = (root.join("bin"), root.display());
    fs::create_dir(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nPATH={path:?}\ncase \"$*\" in *{text:?}*) [ ! -e {place}/slow ] || touch {place}/begun
        while [ -e {place}/slow ] && [ ! -e {place}/go ]; do sleep 0.05; done;; esac\nexec git \"$@\"\n"
    );
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
    env.variable("PATH", format!("{}:{path}", bin.display()))
}

#[test]
fn a_request_to_stop_while_a_work_tree_is_made_or_put_away_leaves_nothing_and_starts_nothing_more()
{
    for (when, outcomes) in [
        ("reset -q --hard", &["interrupted"] as &[&str]),
        ("status --porcelain=v2", &["interrupted"]),
        ("worktree remove", &["agent_error", "interrupted"]),
    ] {
        let script = claude::stream(&claude::overloaded(), 1);
        let script = format!("touch $OUT/slow\n{script}");
        let env = TestEnv::new()
            .config("[runner]\nretry_pause = \"0s\"")
            .script("fake", "claude", &script)
            .task("work", "isolation = \"worktree\"");
        let out = env.root().display().to_string();
        let env = env.config(&format!("[agents.fake.env]\nOUT = \"{out}\""));
        let env = with_slow_git(env, when);
        if when.starts_with("reset") {
            fs::write(env.root().join("slow"), "").unwrap();
        }
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let begun = || env.root().join("begun").exists();
        assert!(eventually(Duration::from_secs(20), begun));
        let pid = rustix::process::Pid::from_child(&runner);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        fs::write(env.root().join("go"), "").unwrap();
        assert_eq!(runner.wait().unwrap().code(), Some(143), "{when}");
        let records = env.records("work", "fake");
        let found: Vec<_> = records.iter().map(|record| &record["outcome"]).collect();
        assert_eq!(found, outcomes, "{when}");
        is_tidy(&env);
    }
}
