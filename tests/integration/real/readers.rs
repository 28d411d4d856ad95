//! Clients of GitHub's API that others have written read what a whole loop leaves on the stand-in,
//! and find the task from the pull request by rules that are written in their own languages.

use std::process::Command;

use serde_json::{Value, json};

use crate::dispatch::place::{DISPATCH, Place, TARGET, adds, body};
use crate::real::components;
use crate::support::Done;
use crate::support::github::git;

#[test]
fn real_pygithub_reads_a_whole_loop_and_finds_the_task_from_the_pull_request() {
    reads_a_whole_loop("pygithub");
}

#[test]
fn real_octokit_reads_a_whole_loop_and_finds_the_task_from_the_pull_request() {
    reads_a_whole_loop("octokit");
}

#[track_caller]
fn reads_a_whole_loop(reader: &str) {
    let Some(reader) = components::path(reader) else {
        return;
    };
    let place = Place::new();
    let told = [
        "delegate",
        &adds("read.txt"),
        "--repo",
        TARGET,
        "--task-id",
        "t-read-é",
    ];
    let handed = place.env.agent_runner(&told);
    assert_eq!(handed.code, Some(0), "{}", handed.stderr);
    place.dispatches(0);
    // A second task, which a person does without any metadata.
    let second = place.issue("By hand", &body("t-by-hand", "words"));
    git::commit(&place.host.bare(DISPATCH), "mine", "m.txt", "m\n", "mine");
    let pull = place
        .host
        .open_pull(DISPATCH, "alice", "Mine", "mine", "main");
    let text = format!("Words.\n\nFixes #{second}");
    place.host.change_issue(DISPATCH, pull, Some(&text), false);

    let output = Command::new(reader)
        .args([&place.host.url(), DISPATCH, TARGET])
        .env("READER_TOKEN", &place.token)
        .output()
        .unwrap();
    let done = Done::from(output);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let read: Value = serde_json::from_str(&done.stdout).unwrap();

    let branch = "agent-task-t-read-_";
    let number = |value: &Value| value["number"].as_u64().unwrap();
    let ours = number(&place.host.pulls(TARGET)[0]);
    assert_eq!(
        read["correlated"],
        json!([
            {"repository": TARGET, "number": ours, "task_id": "t-read-é", "via": "pr_metadata"},
            {"repository": DISPATCH, "number": pull, "task_id": "t-by-hand", "via": "issue_reference"},
        ])
    );
    let seen = &read["pulls"][0];
    assert_eq!(
        (&seen["base"], &seen["branch"]),
        (&json!("main"), &json!(branch))
    );
    assert_eq!(seen["is_head"], true);
    assert_eq!(seen["title"], place.host.pulls(TARGET)[0]["title"]);
    let issue = &read["issues"][0];
    assert_eq!(issue["labels"], json!(["copilot-agent", "processed"]));
    assert_eq!(
        (&issue["state"], &issue["task_id"]),
        (&json!("open"), &json!("t-read-é"))
    );
    let comments = json!(place.host.comments(DISPATCH, 1));
    assert_eq!(issue["comments"], comments);
    assert_eq!(comments.as_array().unwrap().len(), 2);
    assert_eq!(read["change"], "by an agent\n");
    let trace = read["trace"].as_str().unwrap();
    assert!(
        trace.starts_with("# Agent Task Trace: t-read-_\n"),
        "{trace}"
    );
    let metadata = r#"<!-- agent_task_metadata {"task_id": "t-read-é"} -->"#;
    assert!(trace.contains(metadata), "{trace}");
}
