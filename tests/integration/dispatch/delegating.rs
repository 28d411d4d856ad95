//! The other half of the loop: who hands a task over, and how its end is heard of.

use std::process::{Child, Command};
use std::time::Duration;

use agent_runner::github::Permission;
use serde_json::Value;

use super::place::{DISPATCH, Place, TARGET, adds};
use crate::support::github::{Action, Fault, Seen, git};
use crate::support::publications::Publications;
use crate::support::{Done, TestEnv, eventually};

const LONG: Duration = Duration::from_secs(90);

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
fn a_task_whose_id_was_just_made_is_looked_for_among_no_issues() {
    let place = Place::new();
    for (given, lists) in [(&[][..], 0), (&["--task-id", "t-1"], 1)] {
        place.host.clear_history();
        let handed = ["delegate", "Do it.", "--repo", TARGET];
        let done = place.env.agent_runner(&[&handed[..], given].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let history = place.host.history();
        let path = format!("/repos/{DISPATCH}/issues");
        let listed = |seen: &&Seen| seen.method == "GET" && seen.path.ends_with(&path);
        assert_eq!(history.iter().filter(listed).count(), lists, "{history:?}");
    }
}

#[test]
fn a_task_that_would_be_read_as_another_is_refused_and_opens_no_issue() {
    let place = Place::new();
    let cut = "First do A.\n\n## Then\n\nDo B as well.";
    let named = "Target Repository: octo/other\nDo it.";
    for (id, instruction, words) in [
        ("t-1", cut, "from the line `## Then`"),
        (
            "t-2",
            named,
            "from the line `Target Repository: octo/other`",
        ),
        ("a\nb", "Do it.", "control characters"),
    ] {
        let handed = ["delegate", instruction, "--repo", TARGET, "--task-id", id];
        let done = place.env.agent_runner(&handed);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
    assert_eq!(place.host.writes().len(), 0);
}

#[test]
fn a_task_whose_issue_github_does_not_label_is_not_handed_over() {
    let place = Place::new();
    let token = place.host.user("reader", Permission::Read);
    let env = Place::env(&place.host, &token, "");
    let done = env.agent_runner(&["delegate", "Do it.", "--repo", TARGET]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let words = "GitHub did not set the label `copilot-agent`";
    assert!(done.stderr.contains(words), "{}", done.stderr);
    assert_eq!(place.host.issue(DISPATCH, 1)["state"], "closed");
    let listed = env.agent_runner(&["delegated", "--json"]);
    assert_eq!(json(&listed.stdout), Value::Array(Vec::new()));
}

#[test]
fn the_pull_request_of_an_earlier_task_of_the_same_id_is_not_taken_for_that_of_a_later() {
    let place = Place::new();
    let give = |file: &str| {
        let task = adds(file);
        let handed = ["delegate", &task, "--repo", TARGET, "--task-id", "again"];
        assert_eq!(place.env.agent_runner(&handed).code, Some(0));
        json(&place.env.agent_runner(&["delegated", "--json"]).stdout)[0].clone()
    };
    give("a.txt");
    place.dispatches(0);
    // GitHub tells the second alone.
    std::thread::sleep(Duration::from_millis(1100));
    let task = json(&place.env.agent_runner(&["delegated", "--json"]).stdout)[0].clone();
    assert_eq!(task["state"], "completed");
    assert_eq!(give("b.txt")["state"], "running");
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
fn a_task_can_be_waited_for_however_long_the_wait_may_be() {
    let env = TestEnv::new().variable("POLL_INTERVAL_SECONDS", "1");
    let longest = u64::MAX.to_string();
    let instruction = adds("waited.txt");
    let waiting = env.spawn(&[
        "delegate",
        &instruction,
        "--provider",
        "local",
        "--wait",
        "--timeout",
        &longest,
    ]);
    let handed_over = || json(&env.agent_runner(&["delegated", "--json"]).stdout)[0].is_object();
    assert!(eventually(LONG, handed_over));
    let worked = env.agent_runner(&["dispatch", "--source", "local", "--once"]);
    assert_eq!(worked.code, Some(0), "{}", worked.stderr);
    let done = done(waiting);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

#[test]
fn local_tasks_whose_ids_look_alike_are_all_done() {
    let env = TestEnv::new();
    for (id, file) in [("fix.1", "a.txt"), ("fix_1", "b.txt"), ("fix 1", "c.txt")] {
        let task = adds(file);
        let handed = ["delegate", &task, "--provider", "local", "--task-id", id];
        assert_eq!(env.agent_runner(&handed).code, Some(0));
        let done = env.agent_runner(&["dispatch", "--source", "local", "--once"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let tasks = json(&env.agent_runner(&["delegated", "--json"]).stdout);
        let list = tasks.as_array().unwrap();
        let task = list.iter().find(|task| task["task_id"] == id).unwrap();
        let result = format!("{}:{file}", task["result"].as_str().unwrap());
        assert_eq!(env.git(&["show", &result]).trim(), "by an agent");
    }
}

#[test]
fn local_tasks_that_are_handed_over_at_the_same_time_are_all_done() {
    const IDS: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
    let env = TestEnv::new();
    let give = |id: &&str| {
        let task = adds(&format!("{id}.txt"));
        env.spawn(&["delegate", &task, "--provider", "local", "--task-id", id])
    };
    let given: Vec<Child> = IDS.iter().map(give).collect();
    for child in given {
        let done = Done::from(child.wait_with_output().unwrap());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let done = env.agent_runner(&["dispatch", "--source", "local", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    for id in IDS {
        let file = format!("agent-task-{id}:{id}.txt");
        assert_eq!(env.git(&["show", &file]).trim(), "by an agent");
    }
    let sources = env.records("dispatch_issue", "patch").into_iter();
    let mut sources: Vec<_> = sources.map(|record| record["source"].clone()).collect();
    sources.sort_by_key(Value::to_string);
    assert_eq!(
        sources,
        (1..=6).map(|n| format!("local#{n}")).collect::<Vec<_>>()
    );
}

#[test]
fn the_id_of_a_task_that_has_not_ended_is_refused() {
    let env = TestEnv::new();
    let give = |file: &str| {
        let task = adds(file);
        env.agent_runner(&[
            "delegate",
            &task,
            "--provider",
            "local",
            "--task-id",
            "same",
        ])
    };
    let tasks = || json(&env.agent_runner(&["delegated", "--json"]).stdout);
    let work = || env.agent_runner(&["dispatch", "--source", "local", "--once"]);
    assert_eq!(give("one.txt").code, Some(0));
    let refused = give("two.txt");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let words = "there is a task `same` already, which is created";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);
    assert_eq!(work().code, Some(0));
    // Nobody has asked after it since it ended, and the second was not queued.
    assert_eq!(
        env.git(&["branch", "--list", "agent-task-*"])
            .lines()
            .count(),
        1
    );
    // The queue remembers it longer, and would take another for it.
    let known = give("three.txt");
    assert_eq!(known.code, Some(2), "{}", known.stderr);
    assert!(
        known.stderr.contains("knows a task `same`"),
        "{}",
        known.stderr
    );
    let list = tasks();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["state"], "completed", "{list}");
}

#[test]
fn a_local_task_in_a_place_without_a_repository_is_refused() {
    let env = TestEnv::new();
    let home = env.root().join("home");
    let home = home.to_str().unwrap();
    let done = env.agent_runner(&["delegate", "x", "--provider", "local", "--repo", home]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("no task can be done in"));
    let tasks = json(&env.agent_runner(&["delegated", "--json"]).stdout);
    assert_eq!(tasks.as_array().unwrap().len(), 0);
}

#[test]
fn a_local_task_that_is_given_a_directory_below_is_done_in_its_repository() {
    let env = TestEnv::new();
    std::fs::create_dir_all(env.root().join("repository/below/it")).unwrap();
    let task = adds("a.txt");
    let place = [
        "--provider",
        "local",
        "--repo",
        "repository/below/it",
        "--task-id",
        "x",
    ];
    let handed = env.agent_runner(&[&["delegate", &task], &place[..]].concat());
    assert_eq!(handed.code, Some(0), "{}", handed.stderr);
    let done = env.agent_runner(&["dispatch", "--source", "local", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(
        env.git(&["show", "agent-task-x:a.txt"]).trim(),
        "by an agent"
    );
}

#[test]
fn a_local_task_whose_queue_is_lost_is_told_done_where_it_is_and_never_failed() {
    let env = TestEnv::new();
    for (id, state) in [("one", "completed"), ("two", "created")] {
        let task = adds(&format!("{id}.txt"));
        let handed = ["delegate", &task, "--provider", "local", "--task-id", id];
        assert_eq!(env.agent_runner(&handed).code, Some(0));
        if id == "one" {
            let done = env.agent_runner(&["dispatch", "--source", "local", "--once"]);
            assert_eq!(done.code, Some(0), "{}", done.stderr);
        }
        for end in ["", "-wal", "-shm"] {
            let file = env.logs().join(format!(".state/queue.sqlite{end}"));
            drop(std::fs::remove_file(file));
        }
        let tasks = json(&env.agent_runner(&["delegated", "--json"]).stdout);
        let list = tasks.as_array().unwrap();
        let task = list.iter().find(|task| task["task_id"] == id).unwrap();
        assert_eq!(task["state"], state, "{tasks}");
    }
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
    let mut writes = place.host.writes().into_iter();
    assert!(writes.all(|write| write.path == "/graphql"));
}

/// A place whose notifications are heard.
fn heard() -> (Place, Publications) {
    let (mut place, publications) = (Place::new(), Publications::start());
    place.env = place
        .env
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", publications.url());
    (place, publications)
}

/// Hands a task over and waits for its end, in a process of its own, until its issue is open.
#[track_caller]
fn begin_waiting(place: &Place, further: &[&str]) -> Child {
    let told = [
        &["delegate", "Do it", "--task-id", "t-waited", "--wait"],
        further,
    ]
    .concat();
    let waiting = place.env.spawn(&told);
    let opens = |path: &str| path.ends_with("/issues") || path.ends_with("/graphql");
    let is_open = eventually(LONG, || {
        let writes = place.host.writes();
        writes
            .iter()
            .any(|write| opens(&write.path) && write.status.is_some())
    });
    assert!(is_open);
    waiting
}

fn done(waiting: Child) -> Done {
    Done::from(waiting.wait_with_output().unwrap())
}

/// Opens a pull request with this text as a person.
fn open_pull(place: &Place, repository: &str, branch: &str, text: &str) -> String {
    git::commit(
        &place.host.bare(repository),
        branch,
        "new.txt",
        "new\n",
        "work",
    );
    let number = place
        .host
        .open_pull(repository, "alice", "By hand", branch, "main");
    place
        .host
        .change_issue(repository, number, Some(text), false);
    format!("{}/{repository}/pull/{number}", place.host.url())
}

#[test]
fn a_task_that_is_waited_for_ends_with_its_pull_request_and_a_notification() {
    let (place, publications) = heard();
    // A worker of another machine, which tells nobody.
    let other = place.other_env("");
    let mut worker = other.spawn(&["dispatch"]);
    let instruction = adds("waited.txt");
    let told = [
        "delegate",
        &instruction,
        "--repo",
        TARGET,
        "--wait",
        "--json",
    ];
    let done = place.env.agent_runner(&told);
    let pid = worker.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    worker.wait().unwrap();
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let answer = json(&done.stdout);
    assert_eq!(answer["status"], "completed");
    let address = place.host.pulls(TARGET)[0]["html_url"].clone();
    assert_eq!(answer["trace"]["result"], address);
    let titles = publications.take();
    assert_eq!(titles.len(), 1, "{titles:?}");
    assert!(titles[0].starts_with("[delegated] "), "{titles:?}");
    assert!(titles[0].ends_with(" — COMPLETED"), "{titles:?}");
}

#[test]
fn a_pull_request_of_a_person_ends_the_wait_by_the_issue_that_it_names() {
    for (target, repository, text) in [
        (None, DISPATCH, "By hand.\n\nFixes #1"),
        (Some(TARGET), DISPATCH, "resolves #1"),
        (Some(TARGET), TARGET, "Closes octo/dispatch#1."),
        (
            Some(TARGET),
            TARGET,
            "<!--  agent_task_metadata\n{\"user_id\": \"u\", \"task_id\": \"t-waited\"}\n-->",
        ),
    ] {
        let place = Place::new();
        let mut further = vec!["--timeout", "90s"];
        further.extend(target.into_iter().flat_map(|target| ["--repo", target]));
        let waiting = begin_waiting(&place, &further);
        // `#1` of another repository, another number, another task, and mere talk of it.
        open_pull(&place, TARGET, "a", "Fixes #1");
        open_pull(
            &place,
            DISPATCH,
            "b",
            "Fixes #100, and `Fixes #1`\n\n    Fixes #1",
        );
        let other = "<!-- agent_task_metadata {\"task_id\": \"t-other\"} --> on octo/dispatch#1";
        open_pull(&place, TARGET, "c", other);
        let asked = place.host.history().len();
        assert!(eventually(LONG, || place.host.history().len() > asked + 4));
        let address = open_pull(&place, repository, "d", text);
        let done = done(waiting);
        assert_eq!(done.code, Some(0), "{text}: {}", done.stderr);
        assert!(
            done.stdout.contains(&format!("PR opened: {address}\n")),
            "{text}: {}",
            done.stdout
        );
    }
}

#[test]
fn a_wait_ends_with_the_issue_or_its_time_and_says_so() {
    let (place, publications) = heard();
    let waiting = begin_waiting(&place, &[]);
    place.host.set_open(DISPATCH, 1, false);
    let closed = done(waiting);
    assert_eq!(closed.code, Some(1), "{}", closed.stderr);
    let words = "the issue was closed without a pull request";
    assert!(closed.stdout.contains(words), "{}", closed.stdout);
    assert_eq!(publications.take(), ["[delegated] Do it — FAILED"]);

    let (place, publications) = heard();
    let waiting = begin_waiting(&place, &[]);
    place.host.label(DISPATCH, 1, "failed", "alice");
    let failed = done(waiting);
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    assert!(
        failed.stdout.contains("it rests as failed"),
        "{}",
        failed.stdout
    );
    assert_eq!(publications.take(), ["[delegated] Do it — FAILED"]);

    let (place, publications) = heard();
    let late = done(begin_waiting(&place, &["--timeout", "2s"]));
    assert_eq!(late.code, Some(11), "{}", late.stderr);
    assert_eq!(publications.take(), ["[delegated] Do it — NOT DONE YET"]);
    // It goes on, and is still heard of.
    open_pull(&place, DISPATCH, "a", "Fixes #1");
    let tasks = json(&place.env.agent_runner(&["delegated", "--json"]).stdout);
    assert_eq!(tasks[0]["state"], "completed");
}

#[test]
fn a_wait_outlasts_what_passes_and_no_more() {
    let place = Place::new();
    let waiting = begin_waiting(&place, &[]);
    place
        .host
        .fault(Fault::on("GET", "/repos/*/*/pulls").before(Action::Status(502)));
    let asked = |place: &Place| {
        let history = place.host.history();
        history
            .iter()
            .filter(|seen| seen.status == Some(502))
            .count()
    };
    // More often than one question is repeated.
    assert!(eventually(LONG, || asked(&place) > 3));
    place.host.clear_faults();
    open_pull(&place, DISPATCH, "a", "Fixes #1");
    let passed = done(waiting);
    assert_eq!(passed.code, Some(0), "{}", passed.stderr);
    assert!(
        passed
            .stderr
            .contains("warning: t-waited: GitHub cannot be asked"),
        "{}",
        passed.stderr
    );

    let place = Place::new();
    let waiting = begin_waiting(&place, &[]);
    place.host.revoke(&place.token);
    let revoked = done(waiting);
    assert_eq!(revoked.code, Some(1), "{}", revoked.stderr);
    assert!(revoked.stderr.contains("(401)"), "{}", revoked.stderr);
}

#[test]
fn an_issue_is_assigned_to_the_coding_agent_of_github_where_it_is_offered() {
    let place = Place::new();
    place.host.offer_agent(TARGET);
    let waiting = begin_waiting(&place, &["--provider", "copilot", "--repo", TARGET]);
    let is_assigned = eventually(LONG, || {
        let mut writes = place.host.writes().into_iter();
        writes.any(|write| write.path.ends_with("/issues") && write.status == Some(201))
            && place.host.assignees(TARGET, 1) == ["copilot-swe-agent[bot]"]
    });
    assert!(is_assigned);
    // Nobody else is meant.
    assert_eq!(place.host.labels(TARGET, 1), Vec::<String>::new());
    let address = open_pull(&place, TARGET, "copilot/do-it", "All done.\n\nFixes #1");
    let done = done(waiting);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stdout.contains(&address), "{}", done.stdout);
}

#[test]
fn a_task_whose_answer_was_lost_is_handed_over_once() {
    let place = Place::new();
    let lost = Fault::on("POST", "/repos/*/*/issues").nth(1);
    place.host.fault(lost.after(Action::Status(502)));
    let give = |instruction: &str| {
        let handed = ["delegate", instruction, "--repo", TARGET, "--task-id", "it"];
        let done = place.env.agent_runner(&handed);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let tasks = json(&place.env.agent_runner(&["delegated", "--json"]).stdout);
        tasks[0]["issue_number"].clone()
    };
    assert_eq!(give("Do it."), 1);
    // As after a call that was killed before it had the answer.
    place.forget();
    assert_eq!(give("Do it."), 1);
    place.forget();
    assert_eq!(give("Do something else."), 2);
    place.host.label(DISPATCH, 1, "processed", "alice");
    place.forget();
    assert_eq!(give("Do it."), 3, "the first has ended");
}

#[test]
fn an_issue_of_somebody_else_or_without_the_label_is_not_taken_for_that_of_a_task() {
    let place = Place::new();
    let give = || {
        place.forget();
        let handed = ["delegate", "Do it.", "--repo", TARGET, "--task-id", "it"];
        place.env.agent_runner(&handed)
    };
    std::fs::create_dir_all(place.env.logs().join(".state")).unwrap();
    let first = give();
    assert!(first.stdout.contains("issue created"), "{}", first.stdout);
    let again = give();
    assert!(again.stdout.contains("issue found"), "{}", again.stdout);
    let text = place.host.issue(DISPATCH, 1)["body"].clone();
    place.host.unlabel(DISPATCH, 1, "copilot-agent", "alice");
    place.host.user("mallory", Permission::Read);
    let labels = ["copilot-agent"];
    place
        .host
        .open_issue(DISPATCH, "mallory", "x", text.as_str(), &labels);
    let third = give();
    assert_eq!(third.code, Some(0), "{}", third.stderr);
    assert!(third.stdout.contains("issues/3"), "{}", third.stdout);
    assert_eq!(place.host.issue(DISPATCH, 1)["state"], "open");
}

#[test]
fn an_id_that_has_ended_hands_a_new_task_to_the_coding_agent() {
    let place = Place::new();
    place.host.offer_agent(TARGET);
    let give = || {
        let kind = ["delegate", "Do it.", "--provider", "copilot"];
        let handed = [&kind[..], &["--repo", TARGET, "--task-id", "weekly"]].concat();
        let done = place.env.agent_runner(&handed);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let tasks = json(&place.env.agent_runner(&["delegated", "--json"]).stdout);
        tasks[0]["issue_number"].as_u64().unwrap()
    };
    let first = give();
    let closes = format!("All done.\n\nFixes #{first}");
    open_pull(&place, TARGET, "copilot/do-it", &closes);
    let second = give();
    assert!(second > first, "{second}");
    assert_eq!(place.host.issue(TARGET, first)["state"], "open");
}

#[test]
fn an_issue_that_was_open_before_is_not_closed_when_it_cannot_be_assigned() {
    let place = Place::new();
    place.host.offer_agent(TARGET);
    let told = ["delegate", "x", "--provider", "copilot", "--repo", TARGET];
    let give = || {
        place
            .env
            .agent_runner(&[&told[..], &["--task-id", "it"]].concat())
    };
    assert_eq!(give().code, Some(0));
    // As after a call that was killed before it assigned the issue.
    let text = place.host.issue(TARGET, 1)["body"].clone();
    place.host.delete_issue(TARGET, 1);
    place.forget();
    let left = place
        .host
        .open_issue(TARGET, "runner-bot", "x", text.as_str(), &[]);
    let dropped =
        r#"{"data": {"replaceActorsForAssignable": {"assignable": {"assignees": {"nodes": []}}}}}"#;
    let answer = Action::Answer(200, Vec::new(), dropped.to_owned());
    place
        .host
        .fault(Fault::on("POST", "/graphql").nth(2).before(answer));
    let refused = give();
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("stays so"), "{}", refused.stderr);
    assert_eq!(place.host.issue(TARGET, left)["state"], "open");
}

#[test]
fn an_assignment_whose_answer_was_lost_counts() {
    let place = Place::new();
    place.host.offer_agent(TARGET);
    let lost = Fault::on("POST", "/graphql").nth(2);
    place.host.fault(lost.after(Action::Status(502)));
    let told = ["delegate", "x", "--provider", "copilot", "--repo", TARGET];
    let done = place.env.agent_runner(&told);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(place.host.issue(TARGET, 1)["state"], "open");
}

#[test]
fn an_issue_that_cannot_be_assigned_to_the_coding_agent_does_not_stay_open() {
    let graphql = |data: &str| {
        let answer = Action::Answer(200, Vec::new(), data.to_owned());
        Fault::on("POST", "/graphql").nth(2).before(answer)
    };
    let forbidden = r#"{"data": null, "errors": [{"type": "FORBIDDEN", "message": "Bot does not have access"}]}"#;
    let limited = r#"{"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}"#;
    let dropped =
        r#"{"data": {"replaceActorsForAssignable": {"assignable": {"assignees": {"nodes": []}}}}}"#;
    for (answer, words, is_lack) in [
        (forbidden, "(403): Bot does not have access", true),
        (
            dropped,
            "the agent is not among the assignees afterwards",
            true,
        ),
        (limited, "rate limit allows the next request at 20", false),
    ] {
        let place = Place::new();
        place.host.offer_agent(TARGET);
        place.host.fault(graphql(answer));
        let told = ["delegate", "x", "--provider", "copilot", "--repo", TARGET];
        let done = place.env.agent_runner(&told);
        assert_eq!(done.code, Some(1), "{}", done.stderr);
        assert!(done.stderr.contains(words), "{}", done.stderr);
        assert!(done.stderr.contains("is closed again"), "{}", done.stderr);
        let is_told = done.stderr.contains("a paid Copilot plan");
        assert_eq!(is_told, is_lack, "{}", done.stderr);
        assert_eq!(place.host.issue(TARGET, 1)["state"], "closed");
        let tasks = json(&place.env.agent_runner(&["delegated", "--json"]).stdout);
        assert_eq!(tasks, serde_json::json!([]));
    }
    // The default of the environment counts as the flag does, and an App is no user.
    let place = Place::new();
    place.host.offer_agent(TARGET);
    let keys = place.host.app("runner", Duration::from_secs(3600));
    let pem = place.env.root().join("app.pem");
    std::fs::write(&pem, keys.pkcs1).unwrap();
    let env = TestEnv::new()
        .variable("GITHUB_APP_ID", keys.id.to_string())
        .variable("GITHUB_APP_PRIVATE_KEY_PATH", pem.to_str().unwrap())
        .variable("GITHUB_API_URL", place.host.url())
        .variable("DISPATCH_REPO", DISPATCH)
        .variable("HANDSFREE_AGENT_DEFAULT_PROVIDER", "copilot");
    let done = env.agent_runner(&["delegate", "x", "--repo", TARGET]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let words = "octo/target does not offer GitHub's coding agent";
    assert!(done.stderr.contains(words), "{}", done.stderr);
    let mut writes = place.host.writes().into_iter();
    assert!(writes.all(|write| write.path == "/graphql"));
}

#[test]
fn half_of_a_github_app_is_a_wrong_configuration() {
    for (variable, value) in [
        ("GITHUB_APP_ID", "7"),
        ("GITHUB_APP_PRIVATE_KEY_PATH", "/key.pem"),
    ] {
        let env = TestEnv::new().variable(variable, value);
        let done = env.agent_runner(&["dispatch", "--once"]);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        let words = format!("environment {variable}: half of a GitHub App");
        assert!(done.stderr.contains(&words), "{}", done.stderr);
    }
}
