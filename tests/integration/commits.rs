//! Whose commit it is, seen through the whole program; the git room tests every shape of history.

use insta::{assert_snapshot, with_settings};

use crate::support::{TestEnv, evidence, filters};

/// Runs a script as an agent that must commit; gives outcome, number of counted commits and what
/// git's evidence says.
fn verdict(keys: &str, script: &str) -> String {
    let is_said = keys.contains("requires_commit");
    let required = if is_said {
        ""
    } else {
        "requires_commit = true"
    };
    let env = TestEnv::new()
        .script("fake", "text", &format!("{script}\necho done"))
        .task("work", &format!("{required}\n{keys}"));
    let done = env.run("fake", "work");
    let record = env.record("work", "fake");
    let facts = evidence(&record);
    let facts: Vec<_> = facts
        .lines()
        .filter(|fact| fact.starts_with("git:"))
        .collect();
    format!(
        "exit {:?}: {}, {} counted\n{}",
        done.code.unwrap(),
        record["outcome"].as_str().unwrap(),
        record["commits"].as_array().unwrap().len(),
        facts.join("\n")
    )
}

/// A person's commit in the same tree while the agent works: git without the run's mark.
const PERSON: &str = "env -u GIT_REFLOG_ACTION git";

#[test]
fn commits_of_others_empty_amended_elsewhere_and_uncommitted_work_are_told_apart() {
    let cases = [
        (
            "own commit",
            "",
            "echo x > a; git add a; git commit -qm own".to_owned(),
        ),
        ("nothing", "", "true".to_owned()),
        (
            "somebody else's commit",
            "",
            format!("echo x > a; {PERSON} add a; {PERSON} commit -qm theirs"),
        ),
        (
            "own commit and somebody else's on top",
            "",
            format!(
                "echo x > a; git add a; git commit -qm own; echo y > b; {PERSON} add b; {PERSON} commit -qm theirs"
            ),
        ),
        (
            "empty commit",
            "",
            "git commit -q --allow-empty -m empty".to_owned(),
        ),
        (
            "amended an old commit",
            "",
            "echo x > a; git add a; git commit -q --amend -m amended".to_owned(),
        ),
        (
            "on another branch and back",
            "",
            "git switch -qc side; echo x > a; git add a; git commit -qm side; git switch -q main"
                .to_owned(),
        ),
        (
            "left uncommitted",
            "",
            "echo x > a; echo y >> README.md".to_owned(),
        ),
        (
            "too small",
            "min_changes = 5",
            "echo x > a; git add a; git commit -qm small".to_owned(),
        ),
        (
            "another mode",
            "",
            "chmod +x README.md; git commit -qam mode".to_owned(),
        ),
        (
            "an empty file, of which lines are asked",
            "min_changes = 5",
            "touch a; git add a; git commit -qm touched".to_owned(),
        ),
        (
            "too small, where none is required",
            "requires_commit = false\nmin_changes = 5",
            "echo x > a; git add a; git commit -qm small".to_owned(),
        ),
        (
            "outside the paths",
            "paths = [\"docs/**\"]",
            "echo x > a; git add a; git commit -qm out".to_owned(),
        ),
        (
            "inside the paths",
            "paths = [\"docs/**\"]",
            "mkdir docs; echo x > docs/a; git add docs; git commit -qm in".to_owned(),
        ),
    ];
    let told: Vec<_> = cases
        .iter()
        .map(|(name, keys, script)| format!("## {name}\n{}", verdict(keys, script)))
        .collect();
    with_settings!({ filters => filters() }, { assert_snapshot!(told.join("\n\n")); });
}

#[test]
fn no_change_is_good_only_where_the_task_allows_it_and_nothing_was_left() {
    let script = |work: &str| {
        format!(
            "{work}\necho '{{\"type\":\"message\",\"text\":\"nothing to do\"}}'; echo '{{\"type\":\"completed\"}}'"
        )
    };
    let run = |keys: &str, work: &str| {
        let env = TestEnv::new()
            .script("fake", "patch", &script(work))
            .task("work", &format!("requires_commit = true\n{keys}"));
        let code = env.run("fake", "work").code;
        (
            code,
            env.record("work", "fake")["outcome"]
                .as_str()
                .unwrap()
                .to_owned(),
        )
    };
    assert_eq!(
        run("allow_no_change = true", "true"),
        (Some(0), "no_change".into())
    );
    assert_eq!(
        run("allow_no_change = true", "echo x > a"),
        (Some(1), "commit_missing".into())
    );
    assert_eq!(run("", "true"), (Some(1), "commit_missing".into()));
    // What prints plain text cannot say that there was nothing to do.
    let env = TestEnv::new()
        .script("fake", "text", "echo done")
        .task("work", "requires_commit = true\nallow_no_change = true");
    assert_eq!(env.run("fake", "work").code, Some(1));
    let error = env.record("work", "fake")["error"].to_string();
    assert!(
        error.contains("allowed only to an agent whose output says"),
        "{error}"
    );
}

#[test]
fn explain_says_in_plain_words_what_was_concluded_from_what() {
    let env = TestEnv::new()
        .script(
            "fake",
            "text",
            "git commit -q --allow-empty -m empty; echo all done",
        )
        .task("work", "requires_commit = true");
    assert_eq!(env.run("fake", "work").code, Some(1));
    let done = env.agent_runner(&["explain", "latest:work/fake"]);
    assert_eq!(done.code, Some(0));
    with_settings!({ filters => filters() }, { assert_snapshot!(done.stdout); });
}

#[test]
fn history_that_a_run_throws_away_is_named_and_is_no_success() {
    let commits = "for i in 1 2 3 4; do echo $i > new$i; git add .; git commit -qm new$i; done";
    for (script, lost) in [
        (format!("rm -rf .git; git init -qb main; {commits}"), ""),
        (format!("git reset -q --hard HEAD~2; {commits}"), "`third`"),
        (format!("git reset -q --hard HEAD~1; {commits}"), "`third`"),
        (
            format!("git switch -q --orphan other; {commits}; git branch -qM main"),
            "`third`",
        ),
        ("git reset -q --hard HEAD~2".to_owned(), "`third`"),
    ] {
        let env = TestEnv::new()
            .script("fake", "text", &format!("{script}\necho done"))
            .task("work", "");
        for subject in ["second", "third"] {
            env.git(&["commit", "-q", "--allow-empty", "-m", subject]);
        }
        let done = env.run("fake", "work");
        let record = env.record("work", "fake");
        let facts = evidence(&record);
        assert_eq!(done.code, Some(1), "{script}: {facts}");
        assert_eq!(record["outcome"], "policy_blocked", "{script}: {facts}");
        assert!(
            facts.contains("no branch has any more") && facts.contains(lost),
            "{facts}"
        );
    }
}

#[test]
fn history_that_is_rewritten_kept_elsewhere_or_taken_away_by_others_is_not_lost() {
    for script in [
        // What was not pushed goes onto what was fetched.
        "git branch -q base HEAD~1; git switch -q base; git commit -q --allow-empty -m upstream
         git switch -q main; git rebase -q base; echo x > x; git add x; git commit -qm own",
        "git branch -q keep; git reset -q --hard HEAD~1; echo x > x; git add x; git commit -qm own",
        "echo x > x; git add x; git commit -q --amend -m better; echo y > y; git add y; git commit -qm own",
        "env -u GIT_REFLOG_ACTION git reset -q --hard HEAD~1; echo x > x; git add x; git commit -qm own",
    ] {
        let env = TestEnv::new()
            .script("fake", "text", &format!("{script}\necho done"))
            .task("work", "");
        std::fs::write(env.repository().join("second"), "2").unwrap();
        env.git(&["add", "second"]);
        env.git(&["commit", "-qm", "second"]);
        let done = env.run("fake", "work");
        let facts = evidence(&env.record("work", "fake"));
        assert_eq!(done.code, Some(0), "{script}: {facts}");
        assert!(!facts.contains("no branch has any more"), "{facts}");
    }
}

#[test]
fn work_of_a_person_that_a_run_destroys_is_named_and_is_no_success() {
    let work = "echo z > z; git add z; git commit -qm work";
    let lost = "no branch has any more";
    for (script, told) in [
        (
            "git branch -q -D person",
            [lost, "`theirs` of branch `person`"],
        ),
        ("git stash clear", [lost, "of the stash"]),
        (
            "git reset -q --hard; git clean -fdq",
            [
                "uncommitted changes from before the run are gone",
                "f, untracked",
            ],
        ),
    ] {
        let env = TestEnv::new()
            .script("fake", "text", &format!("{script}; {work}; echo done"))
            .task("work", "");
        let write = |name: &str, text: &str| {
            std::fs::write(env.repository().join(name), text).unwrap();
        };
        write("f", "f");
        env.git(&["add", "f"]);
        env.git(&["commit", "-qm", "f"]);
        env.git(&["checkout", "-qb", "person"]);
        env.git(&["commit", "-q", "--allow-empty", "-m", "theirs"]);
        env.git(&["checkout", "-q", "main"]);
        write("f", "put aside");
        env.git(&["stash", "-q"]);
        write("f", "edited");
        write("untracked", "new");
        let done = env.run("fake", "work");
        let record = env.record("work", "fake");
        let facts = evidence(&record);
        assert_eq!(done.code, Some(1), "{script}: {facts}");
        assert_eq!(record["outcome"], "policy_blocked", "{script}: {facts}");
        assert!(told.iter().all(|told| facts.contains(told)), "{facts}");
        assert!(!facts.contains("left uncommitted"), "{facts}");
    }
}
