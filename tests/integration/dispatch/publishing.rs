//! What becomes of an issue when nothing fails.

use super::place::{DISPATCH, Place, TARGET, adds, body};

#[test]
fn an_issue_becomes_one_pull_request_with_its_metadata() {
    let place = Place::new();
    let issue = place.issue("Add a file", &body("task-0001-abc", &adds("hello.txt")));
    let done = place.env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);

    place.assert_done(issue);
    let pulls = place.host.pulls(TARGET);
    assert_eq!(pulls.len(), 1);
    let pull = &pulls[0];
    assert_eq!(pull["title"], "Agent task: Add a file");
    assert_eq!(pull["head"]["ref"], "agent-task-task-000");
    assert_eq!(pull["base"]["ref"], "main");
    let text = pull["body"].as_str().unwrap();
    assert!(text.contains("<!-- agent_task_metadata {\"task_id\": \"task-0001-abc\"} -->"));
    assert!(text.contains(&format!("Fixes {DISPATCH}#{issue}")));
    let address = pull["html_url"].as_str().unwrap();
    assert!(place.comments(issue, "✅")[0].contains(address));

    assert_eq!(
        place.file("agent-task-task-000", "hello.txt").unwrap(),
        "by an agent"
    );
    let trace = place
        .file("agent-task-task-000", "agent-tasks/task-000.md")
        .unwrap();
    assert!(trace.contains("# Agent Task Trace: task-000"), "{trace}");
    let record = place.env.record("dispatch_issue", "patch");
    assert_eq!(record["outcome"], "success");
    assert_eq!(record["source"], format!("{DISPATCH}#{issue}"));

    // The next look finds nothing to do; the one after it costs nothing of the rate limit.
    let writes = place.host.writes().len();
    for cost in [1, 0] {
        let remaining = place.host.remaining("runner-bot");
        let again = place.env.agent_runner(&["dispatch", "--once"]);
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        assert_eq!(remaining - place.host.remaining("runner-bot"), cost);
    }
    assert_eq!(place.host.writes().len(), writes);
}
