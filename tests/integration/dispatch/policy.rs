//! What an agent may leave behind, and what of it is published.

use std::os::unix::fs::PermissionsExt as _;

use super::place::{DISPATCH, Place, TARGET, body};

const PROMPT: &str = "cat > /dev/null\n";

fn commit(script: &str) -> String {
    format!("{PROMPT}{script}\ngit add -A && git commit -qm work")
}

#[test]
fn what_an_agent_commits_is_published_on_its_branch() {
    let place = Place::agent(&commit("echo new > a.txt; mkdir d; echo x > d/b.txt"), "");
    let issue = place.issue("t", &body("task-1", "Do it."));
    place.dispatches(0);
    place.assert_done(issue);
    assert_eq!(
        place.file("agent-task-task-1", "a.txt").as_deref(),
        Some("new")
    );
    assert_eq!(
        place.env.record("dispatch_issue", "script")["outcome"],
        "success"
    );
    let log = place.git(&["log", "--format=%s|%an|%b", "main..agent-task-task-1"]);
    assert!(
        log.starts_with(&format!(
            "Process agent task from dispatch issue #{issue}|custom-agent|Task ID: task-1"
        )),
        "{log}"
    );
    assert!(log.contains("\nwork|"), "{log}");
}

#[test]
fn work_that_is_not_a_commit_on_its_branch_is_not_published() {
    for (script, words) in [
        ("echo new > a.txt", "commit"),
        (
            "git checkout -qb other; echo new > a.txt; git add a.txt; git commit -qm work",
            "commit",
        ),
        ("git commit -q --amend -m 'another first'", "commit"),
        ("git commit -q --allow-empty -m empty", "commit"),
        (
            "git checkout -q --orphan lone; git rm -rqf .; echo x > x; git add x; git commit -qm lone; git branch -f agent-task-task-1 HEAD; git checkout -q agent-task-task-1",
            "",
        ),
        (
            "rm -rf .git; git init -q -b agent-task-task-1; echo x > x; git add x; git commit -qm own",
            "",
        ),
    ] {
        let place = Place::agent(&format!("{PROMPT}{script}"), "attempts = 1");
        let issue = place.issue("t", &body("task-1", "Do it."));
        place.dispatches(1);
        let comments = place.comments(issue, "❌");
        assert_eq!(comments.len(), 1, "{script}");
        assert!(comments[0].contains(words), "{script}: {comments:?}");
        assert_eq!(
            place.host.labels(DISPATCH, issue),
            ["copilot-agent", "failed"]
        );
        assert_eq!(
            (place.branches().len(), place.host.pulls(TARGET).len()),
            (0, 0),
            "{script}"
        );
        assert_eq!(place.workspaces(), Vec::<String>::new());
    }
}

/// F169 to F171: nothing that an agent writes into its clone is run or followed by the runner.
#[test]
fn hooks_and_settings_in_the_clone_of_an_agent_are_never_used() {
    let script = commit(
        "echo new > a.txt; canary=$HOME/canary
         for hook in pre-commit commit-msg post-commit pre-push reference-transaction post-checkout pre-auto-gc post-index-change; do
           printf '#!/bin/sh\\necho %s >> %s\\n' $hook $canary > .git/hooks/$hook; chmod +x .git/hooks/$hook
         done
         git add -A; git -c core.hooksPath=/dev/null commit -qm one
         git config core.fsmonitor \"touch $canary\"; git config core.sshCommand \"touch $canary\"
         git config credential.helper \"!touch $canary\"; git config url.http://127.0.0.1:1/.insteadOf http://
         git config remote.origin.url /nowhere; git config filter.x.clean \"touch $canary\"
         git config uploadpack.packObjectsHook \"touch $canary\"; git config http.proxy http://127.0.0.1:1
         echo again > b.txt",
    )
    .replace("git add -A && git commit -qm work", "git -c core.hooksPath=/dev/null -c core.fsmonitor=false add -A; git -c core.hooksPath=/dev/null -c core.fsmonitor=false commit -qm work; rm -f $canary");
    let place = Place::agent(&script, "");
    let issue = place.issue("t", &body("task-1", "Do it."));
    place.dispatches(0);
    place.assert_done(issue);
    assert_eq!(
        place.file("agent-task-task-1", "b.txt").as_deref(),
        Some("again")
    );
    assert!(!place.env.root().join("home/canary").exists());
}

/// One for each reason to refuse: what the agent does, what the comment says, and what allows it.
const REFUSED: [(&str, &str, Option<&str>); 12] = [
    (
        "mkdir -p .github/workflows; echo 'on: push' > .github/workflows/x.yml",
        "`.github/workflows/x.yml`",
        Some("workflows"),
    ),
    ("echo obey > CLAUDE.md", "`CLAUDE.md`", Some("agent_config")),
    (
        "mkdir .husky; echo x > .husky/pre-commit",
        "`.husky/pre-commit`",
        Some("agent_config"),
    ),
    (
        "git -c protocol.file.allow=always submodule --quiet add \"$PWD\" sub",
        "submodule",
        Some("submodules"),
    ),
    ("ln -s /etc/passwd link", "`link`", Some("symlinks")),
    (
        "echo '*.x filter=evil' > .gitattributes",
        "`.gitattributes`",
        Some("attributes"),
    ),
    (
        "head -c 11000000 /dev/urandom > big",
        "bytes in `big`",
        None,
    ),
    (
        "i=0; while [ $i -lt 2001 ]; do echo $i > f$i; i=$((i+1)); done",
        "changed files: 2001",
        None,
    ),
    (
        "mkdir agent-tasks; echo forged > agent-tasks/task-1.md",
        "is the runner's own",
        None,
    ),
    (
        "mkdir tools; echo {} > tools/tasks.json; ln -s tools .vscode",
        "`.vscode` instructs",
        Some("agent_config"),
    ),
    ("echo a > Name; echo b > name", "`name`", None),
    // Taken back, and yet it would be published with its commit.
    (
        "echo obey > AGENTS.md; git add -A; git commit -qm evil; git rm -q AGENTS.md; echo x > x",
        "`AGENTS.md`",
        Some("agent_config"),
    ),
];

#[test]
fn every_kind_of_change_that_is_not_allowed_is_refused_and_told_once() {
    for (script, words, permission) in REFUSED {
        let mut place = Place::agent(&commit(script), "");
        place.env = place.env.unreachable_server();
        let issue = place.issue("t", &body("task-1", "Do it."));
        let done = place.dispatches(1);
        let comments = place.comments(issue, "❌");
        assert_eq!(comments.len(), 1, "{script}: {}", done.stderr);
        assert!(comments[0].contains(words), "{script}: {comments:?}");
        assert!(comments[0].contains("not published: "), "{comments:?}");
        assert_eq!(
            place.host.labels(DISPATCH, issue),
            ["copilot-agent", "failed"]
        );
        assert_eq!(
            (place.branches().len(), place.host.pulls(TARGET).len()),
            (0, 0),
            "{script}"
        );

        let record = place.env.record("dispatch_issue", "script");
        assert_eq!(record["outcome"], "policy_blocked", "{script}");
        assert_eq!(record["exit_code"], 1);
        let error = record["error"].as_str().unwrap();
        assert!(error.contains(words), "{script}: {error}");
        let told = place.env.outbox();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].to_string().contains("FAILED"), "{told:?}");

        let Some(permission) = permission else {
            continue;
        };
        assert!(
            comments[0].contains(&format!("`{permission}` is not in")),
            "{comments:?}"
        );
        let place = Place::agent(&commit(script), &format!("allow = [\"{permission}\"]"));
        let issue = place.issue("t", &body("task-1", "Do it."));
        place.dispatches(0);
        place.assert_done(issue);
    }
}

#[test]
fn a_result_that_holds_a_secret_of_the_runner_is_not_published() {
    for script in [
        "cat $HOME/secret > a.txt",
        "base64 $HOME/secret > a.txt",
        "echo x > a.txt; git add a.txt; git commit -qm \"$(cat $HOME/secret)\"; echo y > y",
    ] {
        let place = Place::agent(&commit(script), "");
        std::fs::write(
            place.env.root().join("home/secret"),
            format!("key={}\n", place.token),
        )
        .unwrap();
        let issue = place.issue("t", &body("task-1", "Do it."));
        place.dispatches(1);
        let comments = place.comments(issue, "❌");
        assert!(
            comments[0].contains("a secret is in"),
            "{script}: {comments:?}"
        );
        let record = place.env.record("dispatch_issue", "script");
        assert_eq!(record["outcome"], "policy_blocked", "{script}");
        assert!(
            !record["error"].to_string().contains(&place.token),
            "{script}"
        );
        assert_eq!(
            (place.branches().len(), place.host.pulls(TARGET).len()),
            (0, 0)
        );
    }
}

/// What a user sees of a result that was refused.
#[test]
fn a_refused_result_is_shown_as_such() {
    let mut place = Place::agent(&commit("echo obey > CLAUDE.md"), "");
    place.env = place.env.unreachable_server();
    place.issue("t", &body("task-1", "Do it."));
    place.dispatches(1);
    let runs = place.env.agent_runner(&["runs"]).stdout;
    assert!(runs.contains("not published: `CLAUDE"), "{runs}");
    let explained = place.env.agent_runner(&["explain", "latest"]);
    let mut shown = explained.shown(&place.env);
    let told = place.env.outbox();
    shown.push_str(&serde_json::to_string_pretty(&told[0]).unwrap());
    let mut filters = super::place::filters();
    filters.push((r"Elapsed: \d+m\d\ds", "Elapsed: [TIME]"));
    filters.push((r#""attempts": \d+"#, r#""attempts": [COUNT]"#));
    insta::with_settings!({filters => filters}, {
        insta::assert_snapshot!(shown);
    });
}

#[test]
fn a_server_that_refuses_the_branch_ends_the_task_with_its_words() {
    let place = Place::agent(&commit("echo x > a.txt"), "");
    let hook = place.host.bare(TARGET).join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(
        &hook,
        "#!/bin/sh\necho 'GH013: Repository rule violations' >&2\nexit 1\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let issue = place.issue("t", &body("task-1", "Do it."));
    place.dispatches(1);
    let comments = place.comments(issue, "❌");
    assert!(
        comments[0].contains("GH013: Repository rule violations"),
        "{comments:?}"
    );
    assert_eq!(
        place.host.labels(DISPATCH, issue),
        ["copilot-agent", "failed"]
    );
    assert_eq!(place.env.records("dispatch_issue", "script").len(), 2);
}
