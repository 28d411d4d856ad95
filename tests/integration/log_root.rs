//! Where records lie: an agent commits none of them, git's own directories hold none, and what
//! others keep beside them is named.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Done, TestEnv};

/// A repository that tracks these files below `logs`, which is the log root, and an agent that
/// commits whatever git lets it.
fn with_logs(files: &[(&str, &str)]) -> TestEnv {
    let commit = "git add -A; git commit -qm 'did nothing'; echo done";
    let env = TestEnv::new()
        .script("fake", "text", commit)
        .task("work", "requires_commit = true");
    let logs = env.repository().join("logs");
    for (name, text) in files {
        let file = logs.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    env.git(&["add", "-A"]);
    env.git(&["commit", "--allow-empty", "-qm", "logs"]);
    env.variable("AGENT_RUNNER_LOG_ROOT", logs.to_str().unwrap())
}

fn doctor(env: &TestEnv) -> String {
    env.agent_runner(&["doctor"]).stdout.replace('\n', " ")
}

fn run(env: &TestEnv) -> Done {
    env.run("fake", "work")
}

fn exclude(env: &TestEnv) -> String {
    fs::read_to_string(env.repository().join(".git/info/exclude")).unwrap_or_default()
}

#[test]
fn an_agent_cannot_commit_records_whatever_gitignore_the_log_root_has() {
    for gitignore in ["*.log\n", "# nothing\n", "!*.json\n"] {
        let env = with_logs(&[(".gitignore", gitignore)]);
        assert!(doctor(&env).contains("git does not ignore `.state` in it"));
        for _ in 0..2 {
            let done = run(&env);
            assert_ne!(done.code, Some(0), "{gitignore}: {}", done.stdout);
            assert!(done.stdout.contains("commit_missing"), "{}", done.stdout);
        }
        assert_eq!(env.git(&["status", "--porcelain"]), "");
        assert_eq!(env.git(&["ls-files"]), "README.md\nlogs/.gitignore");
        let excluded = "/logs/.state/\n/logs/heartbeat/\n/logs/work/\n";
        assert_eq!(
            exclude(&env).matches(excluded).count(),
            1,
            "{}",
            exclude(&env)
        );
        assert!(!doctor(&env).contains("git does not ignore"));
        // What is not the runner's stays visible.
        fs::write(env.repository().join("logs/notes.md"), "").unwrap();
        assert_eq!(env.git(&["status", "--porcelain"]), "?? logs/notes.md");
    }
}

#[test]
fn a_log_root_that_ignores_itself_leaves_the_repository_as_it_is() {
    for files in [&[][..], &[(".gitignore", "*\n!.gitignore\n")]] {
        let env = with_logs(files);
        let before = exclude(&env);
        let done = run(&env);
        assert!(done.stdout.contains("commit_missing"), "{}", done.stdout);
        assert_eq!((done.stderr.as_str(), exclude(&env)), ("", before));
    }
}

#[test]
fn a_run_whose_records_git_would_take_is_refused_with_a_remedy() {
    let env = with_logs(&[(".gitignore", "!.state/\n!work/\n")]);
    let done = run(&env);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("git does not ignore the records"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("hold the line `*`"), "{}", done.stderr);
    assert!(!env.repository().join("logs/work").exists());
}

#[test]
fn files_of_others_in_the_log_root_are_named() {
    let env = with_logs(&[("2024/q1/report.md", "x"), (".gitkeep", "")]);
    let said = run(&env).stderr;
    assert!(
        said.contains("git tracks `2024/q1/report.md` in the log root"),
        "{said}"
    );
    assert_eq!(run(&env).stderr, "", "said once");
    let found = doctor(&env);
    assert!(
        found.contains("git tracks `2024/q1/report.md` in it"),
        "{found}"
    );
    assert!(
        found.contains("`2024` is none of agent-runner's"),
        "{found}"
    );
}

#[test]
fn a_log_root_in_gits_own_directory_is_refused() {
    let env = with_logs(&[]);
    let repository = env.repository();
    let bare = env.root().join("bare.git");
    env.git(&["init", "-q", "--bare", bare.to_str().unwrap()]);
    let link = env.root().join("link");
    std::os::unix::fs::symlink(repository.join(".git"), &link).unwrap();
    let places = [
        repository.join(".git"),
        repository.join(".git/new/logs"),
        bare.join("logs"),
        link.join("x"),
    ];
    for place in places {
        let env = with_logs(&[]);
        let env = env.variable("AGENT_RUNNER_LOG_ROOT", place.to_str().unwrap());
        let done = run(&env);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(
            done.stderr.contains("in a directory of git's own"),
            "{}",
            done.stderr
        );
    }
    assert!(!repository.join(".git/new").exists() && !bare.join("logs").exists());
}

#[test]
fn what_may_not_be_read_in_the_log_root_is_passed_over_with_a_word_and_stays() {
    let env = TestEnv::new()
        .script("fake", "text", "echo done")
        .task("work", "");
    for _ in 0..2 {
        assert_eq!(run(&env).code, Some(0));
    }
    let [older, newer] = env.run_directories("work", "fake").try_into().unwrap();
    let logs = env.logs();
    let state = logs.join(".state");
    let tree = state.join("worktrees/x.fake.20260101_000000");
    let mark = state.join("running/x.fake.20260102_000000");
    fs::create_dir_all(&tree).unwrap();
    fs::File::open(&tree)
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    fs::write(&mark, "").unwrap();
    let shut = [logs.join("x"), logs.join("y/fake"), older.clone()];
    let give = |mode| {
        for directory in &shut {
            fs::create_dir_all(directory).unwrap();
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    give(0);
    let show = newer.strip_prefix(&logs).unwrap().display().to_string();
    for arguments in [
        &["runs"][..],
        &["runs", "--json"],
        &["runs", "--outcome", "success"],
        &["stats"],
        &["show", &show],
        &["triage"],
        &["clean", "--older-than", "0s"],
    ] {
        let done = env.agent_runner_of_nobody(arguments);
        for directory in &shut[..2] {
            let warning = format!(
                "warning: cannot list `{}`: Permission denied (os error 13); runs in it are passed over",
                directory.display()
            );
            let said = done.stderr.matches(&warning).count();
            assert_eq!(said, 1, "{arguments:?}: {}", done.stderr);
        }
        assert!(!done.stderr.contains("error:"), "{}", done.stderr);
        if arguments == ["runs"] {
            let denied = "unreadable record: its metadata.json cannot be read:";
            assert!(done.stdout.contains("success"), "{}", done.stdout);
            assert!(done.stdout.contains(denied), "{}", done.stdout);
        }
    }
    let name = older.strip_prefix(&logs).unwrap().to_str().unwrap();
    let explained = env.agent_runner_of_nobody(&["explain", name]).stdout;
    let unknown = "is not known: its record cannot be read.";
    assert!(
        explained.replace('\n', " ").contains(unknown),
        "{explained}"
    );
    let cancelled = env.agent_runner_of_nobody(&["cancel", name]);
    assert_eq!(cancelled.code, Some(1));
    let unknown = format!("whether {name} has ended is not known: unreadable record");
    assert!(cancelled.stderr.contains(&unknown), "{}", cancelled.stderr);
    let found = env.agent_runner_of_nobody(&["doctor"]).stdout;
    let found: String = found.split_whitespace().collect();
    for directory in &shut[..2] {
        let warning = format!("cannotlist`{}`:Permissiondenied", directory.display());
        assert!(found.contains(&warning), "{found}");
    }
    assert!(!found.contains("noneofagent-runner's"), "{found}");
    give(0o700);
    assert!(older.join("metadata.json").exists() && mark.exists() && tree.exists());
}
