//! What an issue may look like, and what becomes of one that cannot be read.

use super::place::{DISPATCH, Place, TARGET, adds, body};

const TRACE: &str = "agent-tasks/task-gra.md";

fn metadata(task_id: &str) -> String {
    format!("<!-- agent_task_metadata {{\"task_id\": \"{task_id}\"}} -->")
}

#[test]
fn every_form_of_an_issue_is_understood() {
    let diff = adds("a.txt");
    let forms = [
        (
            "Target Repository: octo/target\n\n## Instruction\n\nDo it.\n\nDIFF",
            TARGET,
        ),
        (
            "## Instructions\n\nDo it.\n\nDIFF\n\n---\n\n**Target Repository:** octo/target",
            TARGET,
        ),
        (
            "**Target:** pull_request `octo/target#3`\n\n## INSTRUCTIONS\n\nDo it.\n\n### Details\n\nDIFF",
            TARGET,
        ),
        ("## instruction\r\n\r\nDo it.\r\n\r\nDIFF", DISPATCH),
    ];
    for (number, (form, target)) in forms.into_iter().enumerate() {
        let place = Place::new();
        let task_id = format!("task-gra-{number}");
        let text = format!("{}\n\n{}", form.replace("DIFF", &diff), metadata(&task_id));
        let issue = place.issue("A title", &text);
        let done = place.dispatch();
        assert_eq!(done.code, Some(0), "{form}: {}", done.stderr);
        place.assert_done(issue);
        assert_eq!(place.host.pulls(target).len(), 1, "{form}");
        let file = place.file_of(target, "agent-task-task-gra", "a.txt");
        assert_eq!(file.as_deref(), Some("by an agent"), "{form}");
        let trace = place.file_of(target, "agent-task-task-gra", TRACE).unwrap();
        assert!(trace.contains("## Instruction\n\nDo it."), "{trace}");
        assert!(!trace.contains("Target"), "{trace}");
        let line = "No target_repo specified, using dispatch repo: octo/dispatch";
        assert_eq!(done.stderr.contains(line), target == DISPATCH, "{form}");
    }
}

#[test]
fn without_an_instruction_the_title_is_the_instruction() {
    let place = Place::agent("cat > prompt.txt; git add . && git commit -qm work", "");
    let issue = place.issue("Correct the spelling", &metadata("task-gra-1"));
    place.dispatches(0);
    place.assert_done(issue);
    let trace = place
        .file_of(DISPATCH, "agent-task-task-gra", TRACE)
        .unwrap();
    assert!(
        trace.contains("## Instruction\n\nCorrect the spelling\n"),
        "{trace}"
    );
    let prompt = place
        .file_of(DISPATCH, "agent-task-task-gra", "prompt.txt")
        .unwrap();
    assert!(prompt.ends_with("Correct the spelling"), "{prompt}");
}

/// The bodies of B10 and F105, and every other way not to be readable.
#[test]
fn an_issue_that_cannot_be_read_is_told_once_and_keeps_nobody_waiting() {
    let place = Place::new();
    let open = |title: &str, body: Option<&str>| {
        place
            .host
            .open_issue(DISPATCH, "alice", title, body, &["copilot-agent"])
    };
    let alone = [
        open("null", None),
        open("empty", Some("")),
        open("no task", Some("## Instructions\n\nhello")),
        open("fenced", Some(&format!("```\n{}\n```", metadata("task-1")))),
        open("quoted", Some(&format!("> {}", metadata("task-1")))),
    ];
    let huge = format!("{}\n{}", metadata("task-2"), "x".repeat(65_536 * 8));
    let deep = format!("<!-- agent_task_metadata {} -->", "[".repeat(60_000));
    let two = format!("{}\n\n{}", metadata("task-1"), metadata("task-2"));
    let targets = format!(
        "Target Repository: octo/a\nTarget Repository: octo/b\n\n{}",
        metadata("task-1")
    );
    let invalid = [
        "<!-- agent_task_metadata {\"task_id\": {}} -->",
        "<!-- agent_task_metadata [1] -->",
        "<!-- agent_task_metadata {\"task_id\": \"x\" -->",
        "<!-- agent_task_metadata {\"task_id\": \"a\\nb\"} -->",
        "Target Repository: ../..\n\n<!-- agent_task_metadata {\"task_id\": \"t\"} -->",
        &huge,
        &deep,
        &two,
        &targets,
    ]
    .map(|body| open("invalid", Some(body)));
    let good = place.issue("good", &body("task-gra-1", &adds("a.txt")));

    let done = place.dispatch();
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    place.assert_done(good);
    for issue in alone {
        assert_eq!(place.host.comments(DISPATCH, issue), []);
        assert_eq!(place.host.labels(DISPATCH, issue), ["copilot-agent"]);
        let line = format!("Issue #{issue} missing task_id, skipping");
        assert_eq!(done.stderr.matches(&line).count(), 1, "{}", done.stderr);
    }
    for issue in invalid {
        place.assert_refused(issue, "");
    }
    assert_eq!(
        place.host.pulls(TARGET).len() + place.host.pulls(DISPATCH).len(),
        1
    );

    let writes = place.host.writes().len();
    place.dispatches(0);
    assert_eq!(place.host.writes().len(), writes);
}

#[test]
fn a_pull_request_with_the_label_is_no_issue() {
    let place = Place::new();
    let issue = place.issue("first", &body("task-gra-1", &adds("a.txt")));
    place.dispatches(0);
    place.assert_done(issue);
    let pull = place.host.pulls(TARGET)[0]["number"].as_u64().unwrap();
    place.host.label(TARGET, pull, "copilot-agent", "alice");
    place
        .host
        .change_issue(TARGET, pull, Some(&body("task-2", &adds("b.txt"))), false);
    let env = place.other_env("repo = \"octo/target\"\n");
    let done = env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(place.host.comments(TARGET, pull), []);
    let done = env.agent_runner(&["dispatch", "--issue", &pull.to_string()]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("is a pull request"), "{}", done.stderr);
}

/// B5 to B7, B30: an id is a label, never a path, an option or the end of a comment.
#[test]
fn a_task_id_is_only_ever_data() {
    for (number, task_id) in [
        "../../x",
        "-x",
        "a b",
        "x.lock",
        "/tmp/pw0-",
        "a --> b",
        "ü€",
    ]
    .into_iter()
    .enumerate()
    {
        let place = Place::new();
        let json = task_id.replace('>', "\\u003e");
        let issue = place.issue("t", &body("TASK", &adds("a.txt")).replace("TASK", &json));
        let done = place.dispatch();
        assert_eq!(done.code, Some(0), "{number}: {}", done.stderr);
        place.assert_done(issue);
        let branches = place.branches();
        assert_eq!(branches.len(), 1);
        let shown = branches[0].strip_prefix("agent-task-").unwrap();
        assert!(
            shown
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
            "{shown}"
        );
        let trace = place
            .file(&branches[0], &format!("agent-tasks/{shown}.md"))
            .unwrap();
        let read = grammar_task_id(&trace);
        assert_eq!(read, task_id);
        let pull = &place.host.pulls(TARGET)[0];
        assert_eq!(grammar_task_id(pull["body"].as_str().unwrap()), task_id);
    }
}

/// What the other side reads: the first comment of its expression, as JSON.
fn grammar_task_id(text: &str) -> String {
    let (_, rest) = text.split_once("<!-- agent_task_metadata ").unwrap();
    let (json, _) = rest.split_once(" -->").unwrap();
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    value["task_id"].as_str().unwrap().to_owned()
}
