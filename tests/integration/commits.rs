//! Whose commit it is, seen through the whole program; the git room tests every shape of history.

use insta::{assert_snapshot, with_settings};

use crate::support::{TestEnv, evidence, filters};

/// Runs a script as an agent that must commit; gives outcome, number of counted commits and what
/// git's evidence says.
fn verdict(keys: &str, script: &str) -> String {
    let env = TestEnv::new()
        .script("fake", "text", &format!("{script}\necho done"))
        .task("work", &format!("requires_commit = true\n{keys}"));
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
