//! The other half of the loop: who hands a task over, and how its end is heard of.

use serde_json::Value;

use super::place::{DISPATCH, Place, TARGET, adds};
use crate::support::TestEnv;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_delegated_task_comes_back_as_a_pull_request() {
    let place = Place::new();
    let instruction = adds("delegated.txt");
    let handed = [
        "delegate",
        &instruction,
        "--repo",
        TARGET,
        "--task-id",
        "t-delegated",
        "--json",
    ];
    let done = place.env.agent_runner(&handed);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let answer = json(&done.stdout);
    assert_eq!(answer["status"], "running");
    let issue = answer["trace"]["issue_number"].as_u64().unwrap();
    assert_eq!(place.host.labels(DISPATCH, issue), ["copilot-agent"]);
    let body = place.host.issue(DISPATCH, issue)["body"].clone();
    assert!(body.as_str().unwrap().starts_with(
        "# Agent Task Delegation\n\n**Task ID:** `t-delegated`\n**User ID:** `agent-runner`\n\n\
         **Target:** repository `octo/target`\n\n## Instructions\n\n"
    ));

    let listed = |env: &TestEnv| json(&env.agent_runner(&["delegated", "--json"]).stdout);
    assert_eq!(listed(&place.env)[0]["state"], "running");
    // Our own account opened the issue, and may write.
    let done = place.env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let task = &listed(&place.env)[0];
    assert_eq!(task["state"], "completed");
    assert_eq!(task["result"], place.host.pulls(TARGET)[0]["html_url"]);
    place.assert_done(issue);
}

#[test]
fn a_task_of_the_local_queue_is_done_without_any_code_host() {
    let env = TestEnv::new();
    let instruction = adds("local.txt");
    let handed = [
        "delegate",
        &instruction,
        "--provider",
        "local",
        "--task-id",
        "local-one",
    ];
    let done = env.agent_runner(&handed);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let again = env.agent_runner(&["dispatch", "--source", "local", "--once"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);

    assert_eq!(
        env.git(&["show", "agent-task-local-on:local.txt"]).trim(),
        "by an agent"
    );
    let trace = env.git(&["show", "agent-task-local-on:agent-tasks/local-on.md"]);
    assert!(trace.contains("# Agent Task Trace: local-on"));
    assert_eq!(env.git(&["branch", "--show-current"]).trim(), "main");
    assert_eq!(env.git(&["status", "--porcelain"]), "");
    let status = env.root().join("repository.agent-tasks/local-one.json");
    let status = json(&std::fs::read_to_string(status).unwrap());
    assert_eq!(status["state"], "completed");
    assert_eq!(status["branch"], "agent-task-local-on");
    let tasks = json(&env.agent_runner(&["delegated", "--json"]).stdout);
    assert_eq!(tasks[0]["state"], "completed");
    assert_eq!(env.record("dispatch_issue", "patch")["source"], "local#1");
}

#[test]
fn a_local_task_that_cannot_be_done_says_why() {
    let env = TestEnv::new();
    let instruction = "```diff\n--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n```";
    assert_eq!(
        env.agent_runner(&["delegate", instruction, "--provider", "local"])
            .code,
        Some(0)
    );
    let done = env.agent_runner(&["dispatch", "--source", "local", "--once"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let tasks = json(&env.agent_runner(&["delegated", "--json"]).stdout);
    assert_eq!(tasks[0]["state"], "failed");
    assert!(
        tasks[0]["message"]
            .as_str()
            .unwrap()
            .contains("does not apply"),
        "{tasks}"
    );
}

#[test]
fn the_mock_provider_plays_the_states_of_the_original() {
    let env = TestEnv::new();
    let done = env.agent_runner(&["delegate", "x", "--provider", "mock", "--json"]);
    assert_eq!(json(&done.stdout)["message"], "Mock agent started");
    for (state, message) in [
        ("running", "Analyzing code"),
        ("running", "Generating changes"),
        (
            "completed",
            "Mock PR opened at https://github.com/mock/repo/pull/123",
        ),
    ] {
        let tasks = json(&env.agent_runner(&["delegated", "--json"]).stdout);
        assert_eq!(
            (&tasks[0]["state"], &tasks[0]["message"]),
            (&state.into(), &message.into())
        );
    }
}

#[test]
fn a_provider_that_cannot_be_used_says_what_is_missing() {
    let place = Place::new();
    for (arguments, code, words) in [
        (&["--provider", "copilto"][..], 2, "did you mean `copilot`?"),
        (&["--provider", "copilot"], 2, "needs `--repo owner/name`"),
        (
            &["--provider", "copilot", "--repo", TARGET],
            1,
            "octo/target does not offer GitHub's coding agent",
        ),
        (
            &["--provider", "local", "--repo", "nowhere"],
            2,
            "there is no repository",
        ),
    ] {
        let done = place
            .env
            .agent_runner(&[&["delegate", "x"], arguments].concat());
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
    let bare = TestEnv::new().agent_runner(&["delegate", "x"]);
    assert_eq!(bare.code, Some(2));
    assert!(bare.stderr.contains("GITHUB_TOKEN"), "{}", bare.stderr);
    assert!(place.host.writes().is_empty());
}
