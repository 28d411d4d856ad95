//! Work that fails, names that are taken, and publications that are there already.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::support::eventually;
use crate::support::github::{Action, Fault, Hook, git};

/// Replaces a line of a README that the target does not have.
const WRONG: &str =
    "```diff\n--- a/README.md\n+++ b/README.md\n@@ -1 +1 @@\n-# nothing like it\n+# new\n```";

#[test]
fn a_failing_task_is_tried_three_times_under_one_comment_and_rests() {
    let place = Place::agent("echo x >> $HOME/attempts; exit 3", "");
    let issue = place.issue("t", &body("task-1", "Do it."));
    let attempts = || {
        fs::read_to_string(place.env.root().join("home/attempts"))
            .unwrap_or_default()
            .lines()
            .count()
    };
    for attempt in 1..=3 {
        let done = place.dispatches(1);
        assert_eq!(attempts(), attempt, "{}", done.stderr);
        let comments = place.comments(issue, "❌");
        assert_eq!(comments.len(), 1, "{comments:?}");
        let next = if attempt < 3 {
            format!("It is tried again in {attempt}s.")
        } else {
            "until somebody removes the label `failed`".to_owned()
        };
        assert!(comments[0].contains(&next), "{comments:?}");
        if attempt == 1 {
            // Not before the pause is over.
            place.dispatches(0);
            assert_eq!(attempts(), 1);
        }
        std::thread::sleep(Duration::from_secs(attempt as u64));
    }
    assert_eq!(place.comments(issue, "🤖").len(), 1);
    assert_eq!(
        place.host.labels(DISPATCH, issue),
        ["copilot-agent", "failed"]
    );
    assert_eq!(place.branches(), Vec::<String>::new());
    let writes = place.host.writes().len();
    place.dispatches(0);
    assert_eq!((place.host.writes().len(), attempts()), (writes, 3));

    place.host.unlabel(DISPATCH, issue, "failed", "alice");
    place.dispatches(1);
    assert_eq!(attempts(), 4);
    assert!(place.comments(issue, "❌")[0].contains("It is tried again in 1s."));
    assert_eq!(place.host.comments(DISPATCH, issue).len(), 2);
}

#[test]
fn a_patch_that_does_not_apply_names_its_block_and_rests_at_once() {
    let place = Place::new();
    let issue = place.issue(
        "t",
        &body("task-1", &format!("{}\n\n{WRONG}", adds("a.txt"))),
    );
    place.dispatches(1);
    let comment = &place.comments(issue, "❌")[0];
    assert!(
        comment.contains("block 2") && comment.contains("patch does not apply"),
        "{comment}"
    );
    assert_eq!(
        place.host.labels(DISPATCH, issue),
        ["copilot-agent", "failed"]
    );
    assert_eq!(
        (place.branches().len(), place.host.pulls(TARGET).len()),
        (0, 0)
    );
}

/// As the runner of HandsFree does it: who waits for a pull request gets one, with the trace.
#[test]
fn an_instruction_without_a_patch_becomes_a_pull_request_with_its_trace_alone() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", "Do something nice."));
    place.dispatches(0);
    place.assert_done(issue);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    let changed = place.git(&["diff", "--name-only", "main", "agent-task-task-1"]);
    assert_eq!(changed, "agent-tasks/task-1.md");
    let record = place.env.record("dispatch_issue", "patch");
    assert_eq!(record["outcome"], "no_change");
    let said = record["last_message"].as_str().unwrap();
    assert!(said.contains("has no diff block"), "{said}");
}

/// An agent with a model that did nothing has not done what was asked.
#[test]
fn an_agent_that_changes_nothing_has_failed() {
    let place = Place::agent("cat > /dev/null", "attempts = 1");
    let issue = place.issue("t", &body("task-1", "Do something nice."));
    place.dispatches(1);
    assert_eq!(place.host.pulls(TARGET).len(), 0);
    assert_eq!(place.comments(issue, "❌").len(), 1);
}

#[test]
fn a_name_that_is_taken_before_the_push_does_not_let_the_work_be_done_twice() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let bare = place.host.bare(TARGET);
    let theirs = Hook::new(move || {
        git::commit(
            &bare,
            "agent-task-task-1",
            "their.txt",
            "theirs\n",
            "theirs",
        );
    });
    let push = Fault::on("GET", "/octo/target.git/info/refs").nth(3);
    place.host.fault(push.before(Action::Call(theirs)));
    place.dispatches(0);
    place.assert_done(issue);
    let branches = place.branches();
    assert_eq!(branches.len(), 2, "{branches:?}");
    let own = branches
        .iter()
        .find(|branch| *branch != "agent-task-task-1")
        .unwrap();
    assert_eq!(place.file(own, "a.txt").unwrap(), "by an agent");
    let name = own.strip_prefix("agent-task-").unwrap();
    assert!(place.file(own, &format!("agent-tasks/{name}.md")).is_some());
    assert_eq!(place.file(own, "agent-tasks/task-1.md"), None);
    assert_eq!(place.env.records("dispatch_issue", "patch").len(), 1);
}

/// A commit is named by 64 digits there.
#[test]
fn a_repository_of_sha_256_is_served_like_any_other() {
    let place = Place::new();
    let bare = place.host.bare(TARGET);
    fs::remove_dir_all(&bare).unwrap();
    fs::create_dir(&bare).unwrap();
    let init = [
        "init",
        "-q",
        "--bare",
        "-b",
        "main",
        "--object-format=sha256",
    ];
    git::run(&bare, &init).unwrap();
    git::commit(&bare, "main", "README.md", "# a repository\n", "first");
    let issues =
        ["1-a", "2-b"].map(|task| place.issue("t", &body(task, &adds(&format!("{task}.txt")))));
    place.dispatches(0);
    for issue in issues {
        place.assert_done(issue);
    }
    let tip = place.git(&["rev-parse", "agent-task-1-a"]);
    assert_eq!(tip.len(), 64);
    assert_eq!(
        place.file("agent-task-2-b", "2-b.txt").unwrap(),
        "by an agent"
    );
}

#[test]
fn a_limit_of_use_costs_no_attempt_and_is_waited_for() {
    // Claude's own words for a limit that ends soon.
    let place = Place::agent_with(
        "claude",
        "cat > /dev/null; echo x >> $HOME/attempts\n\
         now=$(date +%s); printf '{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"rejected\",\"resetsAt\":%s,\"rateLimitType\":\"five_hour\"}}\\n' $((now + 3600))\n\
         echo '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":429,\"result\":\"You have hit your limit\",\"session_id\":\"s\"}'; exit 1",
        "attempts = 1",
    );
    let issue = place.issue("t", &body("task-1", "Do it."));
    let done = place.dispatches(1);
    assert_eq!(
        place.env.record("dispatch_issue", "script")["outcome"],
        "rate_limited",
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("tried again later"), "{}", done.stderr);
    // Its time has not come: no run is started, and nobody is told of a failure.
    place.dispatches(0);
    let attempts = fs::read_to_string(place.env.root().join("home/attempts")).unwrap();
    assert_eq!(attempts.lines().count(), 1);
    assert_eq!(place.comments(issue, "❌"), Vec::<String>::new());
    assert_eq!(place.host.labels(DISPATCH, issue), ["copilot-agent"]);
}

#[test]
fn two_tasks_whose_ids_begin_alike_get_two_branches_and_two_traces() {
    let place = Place::with("concurrency = 2");
    let first = place.issue("one", &body("smoke-test-1", &adds("a.txt")));
    let second = place.issue("two", &body("smoke-test-2", &adds("b.txt")));
    place.dispatches(0);
    for issue in [first, second] {
        place.assert_done(issue);
    }
    let branches = place.branches();
    assert_eq!(branches.len(), 2);
    assert_eq!(branches[0], "agent-task-smoke-te");
    assert!(
        branches[1].starts_with("agent-task-smoke-te-"),
        "{branches:?}"
    );
    let pulls = place.host.pulls(TARGET);
    assert_eq!(pulls.len(), 2);
    for branch in &branches {
        let name = branch.strip_prefix("agent-task-").unwrap();
        assert!(
            place
                .file(branch, &format!("agent-tasks/{name}.md"))
                .is_some()
        );
    }
}

/// F157: the same id in another issue neither takes over nor changes what the first one made.
#[test]
fn the_same_task_id_in_two_issues_makes_two_pull_requests() {
    let place = Place::new();
    let first = place.issue("one", &body("task-1", &adds("a.txt")));
    place.dispatches(0);
    let second = place.issue("two", &body("task-1", &adds("b.txt")));
    place.dispatches(0);
    for issue in [first, second] {
        place.assert_done(issue);
    }
    let titles: Vec<_> = place
        .host
        .pulls(TARGET)
        .iter()
        .map(|pull| pull["title"].clone())
        .collect();
    assert_eq!(titles, ["Agent task: one", "Agent task: two"]);
    assert_eq!(place.branches().len(), 2);
}

#[test]
fn a_foreign_branch_trace_or_pull_request_is_not_taken_over() {
    for kind in ["branch", "trace", "pull"] {
        let place = Place::new();
        let bare = place.host.bare(TARGET);
        let theirs = match kind {
            "trace" => git::commit(&bare, "main", "agent-tasks/task-1.md", "theirs\n", "theirs"),
            _ => git::commit(
                &bare,
                "agent-task-task-1",
                "their.txt",
                "theirs\n",
                "theirs",
            ),
        };
        if kind == "pull" {
            place
                .host
                .open_pull(TARGET, "alice", "theirs", "agent-task-task-1", "main");
        }
        let issue = place.issue("t", &body("task-1", &adds("a.txt")));
        place.dispatches(0);
        place.assert_done(issue);
        let own = place
            .branches()
            .into_iter()
            .find(|branch| branch.starts_with("agent-task-task-1-"));
        let own = own.unwrap_or_else(|| panic!("{kind}: {:?}", place.branches()));
        assert!(place.file(&own, "a.txt").is_some());
        let kept = if kind == "trace" {
            "main"
        } else {
            "agent-task-task-1"
        };
        assert_eq!(git::commit_of(&bare, kept), Some(theirs));
        let pulls = place.host.pulls(TARGET);
        assert_eq!(pulls.len(), if kind == "pull" { 2 } else { 1 });
        assert!(
            pulls
                .iter()
                .all(|pull| pull["title"] != "theirs" || pull["body"].is_null())
        );
    }
}

#[test]
fn a_pull_request_that_a_person_closed_or_merged_is_left_alone() {
    for is_merged in [false, true] {
        let place = Place::with("lease = \"2s\"");
        let issue = place.issue("t", &body("task-1", &adds("a.txt")));
        place.dispatches(0);
        let pull = place.host.pulls(TARGET)[0]["number"].as_u64().unwrap();
        if is_merged {
            place.host.merge(TARGET, pull);
        } else {
            place.host.set_open(TARGET, pull, false);
        }
        let before = place.host.pulls(TARGET);
        // Another machine that knows nothing finds the issue as if it were new.
        place.host.unlabel(DISPATCH, issue, "processed", "alice");
        place.forget();
        place.dispatches(0);
        place.assert_done(issue);
        assert_eq!(place.host.pulls(TARGET), before);
        assert_eq!(place.branches(), ["agent-task-task-1"]);
    }
}

#[test]
fn a_closed_pull_request_stays_the_only_one_whatever_its_text_became() {
    for (is_rewritten, is_deleted) in [(true, false), (false, true)] {
        let place = Place::with("lease = \"2s\"");
        let issue = place.issue("t", &body("task-1", &adds("a.txt")));
        place.dispatches(0);
        let pull = place.host.pulls(TARGET)[0]["number"].as_u64().unwrap();
        let text = if is_rewritten {
            "In my own words.".to_owned()
        } else {
            format!("In my own words.\n\nFixes {DISPATCH}#{issue}")
        };
        place.host.change_issue(TARGET, pull, Some(&text), false);
        place.host.set_open(TARGET, pull, false);
        if is_deleted {
            place.git(&["update-ref", "-d", "refs/heads/agent-task-task-1"]);
        }
        place.host.unlabel(DISPATCH, issue, "processed", "alice");
        place.forget();
        place.until_processed(issue);
        place.assert_done(issue);
        assert_eq!(place.host.pulls(TARGET).len(), 1, "{is_rewritten}");
        let comment = &place.comments(issue, "✅")[0];
        assert!(comment.contains("closed without a merge"), "{comment}");
    }
}

#[test]
fn an_issue_that_carries_a_label_of_the_end_is_not_worked_on() {
    let place = Place::new();
    for label in ["processed", "failed", "Processed"] {
        let issue = place.issue("t", &body("task-1", &adds("a.txt")));
        place.host.label(DISPATCH, issue, label, "alice");
    }
    place.dispatches(0);
    assert_eq!(place.host.writes().len(), 0);
    let done = place.env.agent_runner(&["dispatch", "--issue", "2"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("whose removal starts it afresh"),
        "{}",
        done.stderr
    );
}

/// B14, F083: what is in the base already is no change, and no empty pull request.
#[test]
fn a_patch_that_is_in_the_base_already_says_so() {
    let place = Place::new();
    git::commit(
        &place.host.bare(TARGET),
        "main",
        "a.txt",
        "by an agent\n",
        "theirs",
    );
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.dispatches(1);
    let comment = &place.comments(issue, "❌")[0];
    assert!(comment.contains("already"), "{comment}");
    assert_eq!(place.host.pulls(TARGET).len(), 0);
}

#[test]
fn where_the_failure_cannot_be_told_the_work_is_not_done_again() {
    let place = Place::agent("echo x >> $HOME/attempts; exit 3", "attempts = 1");
    let issue = place.issue("t", &body("task-1", "Do it."));
    for nth in 2..=3 {
        let comments = "/repos/*/*/issues/*/comments";
        place.host.fault(
            Fault::on("POST", comments)
                .nth(nth)
                .before(Action::Status(502)),
        );
    }
    for _round in 0..2 {
        place.dispatches(1);
        std::thread::sleep(Duration::from_millis(1100));
    }
    assert_eq!(place.comments(issue, "❌"), Vec::<String>::new());
    place.dispatches(1);
    assert_eq!(place.comments(issue, "❌").len(), 1);
    assert_eq!(
        place.host.labels(DISPATCH, issue),
        ["copilot-agent", "failed"]
    );
    let attempts = fs::read_to_string(place.env.root().join("home/attempts")).unwrap();
    assert_eq!(attempts.lines().count(), 1);
}

#[test]
fn a_push_that_is_forbidden_is_tried_again_once_and_the_work_is_not_done_again() {
    for is_once in [true, false] {
        let script = "echo x >> $HOME/runs; echo x > x; git add x; git commit -qm x";
        let place = Place::agent(script, "");
        let issue = place.issue("t", &body("task-1", "Do it."));
        let forbidden = Fault::on("POST", "/octo/target.git/git-receive-pack");
        let forbidden = if is_once { forbidden.nth(1) } else { forbidden };
        place.host.fault(forbidden.before(Action::Status(403)));
        place.dispatches(1);
        assert!(place.comments(issue, "❌")[0].contains("tried again in"));
        // What was fetched meanwhile does not matter to the result.
        let bare = place.host.bare(TARGET);
        git::commit(&bare, "main", "their.txt", "theirs\n", "theirs");
        std::thread::sleep(Duration::from_millis(1200));
        place.dispatches(i32::from(!is_once));
        let label = if is_once { "processed" } else { "failed" };
        assert_eq!(place.host.labels(DISPATCH, issue), ["copilot-agent", label]);
        let runs = fs::read_to_string(place.env.root().join("home/runs")).unwrap();
        assert_eq!(runs.lines().count(), 1, "{is_once}");
        assert_eq!(place.comments(issue, "❌").len(), usize::from(!is_once));
        let record = place.env.records("dispatch_issue", "script").pop().unwrap();
        let outcome = if is_once { "success" } else { "policy_blocked" };
        assert_eq!(record["outcome"], outcome);
    }
}

#[test]
fn a_failure_that_was_overcome_is_not_told_as_one_any_more() {
    let place = Place::agent("echo x > x; git add x; git commit -qm x", "");
    let issue = place.issue("t", &body("task-1", "Do it."));
    let refused = Fault::on("POST", "/octo/target.git/git-receive-pack").nth(1);
    place.host.fault(refused.before(Action::Status(403)));
    place.dispatches(1);
    assert_eq!(place.comments(issue, "❌").len(), 1);
    place.until_processed(issue);
    place.assert_done(issue);
    let words = "failed to process this task at first, and has completed it since";
    let texts = place.host.comments(DISPATCH, issue);
    assert!(
        texts.iter().any(|(_, text)| text.contains(words)),
        "{texts:?}"
    );
}

#[test]
fn a_base_that_github_never_takes_lets_the_task_rest_and_says_what_to_mend() {
    let place = Place::with("attempts = 2");
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let gone = r#"{"message": "Validation Failed", "errors": [{"resource": "PullRequest", "field": "base", "code": "invalid"}]}"#;
    let answer = Action::Answer(422, Vec::new(), gone.to_owned());
    let opened = Fault::on("POST", "/repos/*/*/pulls");
    place.host.fault(opened.before(answer));
    for _attempt in 0..2 {
        place.dispatches(1);
        std::thread::sleep(Duration::from_millis(1100));
    }
    let labels = place.host.labels(DISPATCH, issue);
    assert_eq!(labels, ["copilot-agent", "failed"]);
    let said = &place.comments(issue, "❌")[0];
    assert!(
        said.contains("which was `main` when the work began"),
        "{said}"
    );
    assert!(said.contains("choose another in the settings"), "{said}");
    assert_eq!(place.env.records("dispatch_issue", "patch").len(), 1);
}

#[test]
fn a_default_branch_that_is_renamed_during_the_work_is_asked_for_again() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let gone = r#"{"message": "Validation Failed", "errors": [{"resource": "PullRequest", "field": "base", "code": "invalid"}]}"#;
    let opened = Fault::on("POST", "/repos/*/*/pulls").nth(1);
    let answer = Action::Answer(422, Vec::new(), gone.to_owned());
    place.host.fault(opened.before(answer));
    place.dispatches(1);
    place.host.rename_default_branch(TARGET, "trunk");
    place.until_processed(issue);
    place.assert_done(issue);
    assert_eq!(place.host.pulls(TARGET)[0]["base"]["ref"], "trunk");
    assert_eq!(place.env.records("dispatch_issue", "patch").len(), 1);
}

#[test]
fn a_file_in_the_place_of_the_traces_is_named_before_anything_is_done() {
    let place = Place::new();
    let bare = place.host.bare(TARGET);
    git::commit(&bare, "main", "agent-tasks", "a file\n", "theirs");
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.dispatches(1);
    place.assert_refused(issue, "the branch `main` has a file `agent-tasks`");
}

#[test]
fn a_file_in_the_place_of_the_traces_fails_no_issue_whose_pull_request_is_open() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let told = Fault::on("POST", "/repos/*/*/issues/*/comments").nth(2);
    place.host.fault(told.before(Action::Status(502)));
    place.dispatches(1);
    let bare = place.host.bare(TARGET);
    git::commit(&bare, "main", "agent-tasks", "a file\n", "theirs");
    place.until_processed(issue);
    place.assert_done(issue);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
}

#[test]
fn a_result_whose_worker_is_stopped_or_killed_before_the_push_is_not_made_again() {
    for name in ["TERM", "KILL"] {
        let script = "echo run >> $HOME/runs; echo x > x; git add x; git commit -qm x";
        let mut place = Place::agent(script, "lease = \"2s\"");
        let issue = place.issue("t", &body("task-1", "Do it."));
        let (root, path) = (place.env.root(), std::env::var("PATH").unwrap());
        // When the trace is put on top.
        let git = format!(
            "#!/bin/sh\nPATH='{path}'\n\
             case \" $* \" in *' commit-tree '*)\n\
             mkdir '{}/hit' 2>/dev/null && kill -{name} $PPID && sleep 1;; esac\n\
             exec git \"$@\"\n",
            root.display(),
        );
        let bin = root.join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("git"), git).unwrap();
        fs::set_permissions(bin.join("git"), Permissions::from_mode(0o755)).unwrap();
        let with_git = format!("{}:{path}", bin.display());
        place.env = place.env.variable("PATH", with_git);
        let stopped = place.dispatch();
        assert_ne!(stopped.code, Some(0), "{}", stopped.stderr);
        assert!(place.env.root().join("hit").exists());
        assert_eq!(place.branches(), Vec::<String>::new());
        place.until_processed(issue);
        place.assert_done(issue);
        let runs = fs::read_to_string(place.env.root().join("home/runs")).unwrap();
        assert_eq!(runs.lines().count(), 1, "{name}");
    }
}

#[test]
fn a_result_that_could_not_be_pushed_is_made_again_from_another_text() {
    let place = Place::agent(
        "cat >> $HOME/runs; echo x > x; git add x; git commit -qm x",
        "",
    );
    let issue = place.issue("t", &body("task-1", "Do it this way."));
    let forbidden = Fault::on("POST", "/octo/target.git/git-receive-pack").nth(1);
    place.host.fault(forbidden.before(Action::Status(502)));
    place.dispatches(1);
    let other = body("task-1", "Do it that way.");
    place
        .host
        .change_issue(DISPATCH, issue, Some(&other), false);
    place.until_processed(issue);
    let runs = fs::read_to_string(place.env.root().join("home/runs")).unwrap();
    assert!(
        runs.contains("this way") && runs.contains("that way"),
        "{runs}"
    );
}

#[test]
fn a_result_that_could_not_be_pushed_is_judged_again_by_what_is_allowed_now() {
    let allow = "allow = [\"workflows\"]";
    let script = "echo run >> $HOME/runs; mkdir -p .github/workflows; \
        echo on: push > .github/workflows/x.yml; git add .; git commit -qm x";
    let place = Place::agent(script, allow);
    let issue = place.issue("t", &body("task-1", "Do it."));
    let push = Fault::on("POST", "/octo/target.git/git-receive-pack").nth(1);
    place.host.fault(push.before(Action::Status(502)));
    place.dispatches(1);
    let config = place.env.root().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(allow), "{text}");
    fs::write(&config, text.replace(allow, "")).unwrap();
    let is_refused = eventually(Duration::from_secs(60), || {
        std::thread::sleep(Duration::from_millis(200));
        drop(place.dispatch());
        place.host.labels(DISPATCH, issue).len() > 1
    });
    assert!(is_refused);
    let texts = place.comments(issue, "❌");
    assert!(texts[0].contains("x.yml"), "{texts:?}");
    assert_eq!(place.branches(), Vec::<String>::new());
    let records = place.env.records("dispatch_issue", "script");
    assert_eq!(records.last().unwrap()["outcome"], "policy_blocked");

    // Asked for again, it is done anew.
    fs::write(&config, text).unwrap();
    place.host.unlabel(DISPATCH, issue, "failed", "alice");
    place.until_processed(issue);
    let runs = fs::read_to_string(place.env.root().join("home/runs")).unwrap();
    assert_eq!(runs.lines().count(), 2);
}

#[test]
fn a_result_that_could_not_be_pushed_brings_back_no_history_that_was_taken_away() {
    let place = Place::agent("echo x > x; git add x; git commit -qm x", "");
    let bare = place.host.bare(TARGET);
    let clean = place.git(&["rev-parse", "main"]);
    git::commit(&bare, "main", "leak.txt", "pushed by mistake\n", "oops");
    let issue = place.issue("t", &body("task-1", "Do it."));
    let push = Fault::on("POST", "/octo/target.git/git-receive-pack").nth(1);
    place.host.fault(push.before(Action::Status(502)));
    place.dispatches(1);
    place.git(&["update-ref", "refs/heads/main", clean.trim()]);
    place.until_processed(issue);
    place.assert_done(issue);
    assert_eq!(place.file("agent-task-task-1", "leak.txt"), None);
    assert_eq!(place.env.records("dispatch_issue", "script").len(), 2);
}

#[test]
fn an_issue_that_cannot_be_read_keeps_no_other_from_being_served() {
    for status in [404, 500] {
        let place = Place::new();
        let first = place.issue("one", &body("task-1", &adds("a.txt")));
        let read = || Fault::on("GET", &format!("/repos/*/*/issues/{first}"));
        place.host.fault(read().nth(1).before(Action::Status(410)));
        place.dispatches(0);
        let second = place.issue("two", &body("task-2", &adds("b.txt")));
        place.host.fault(read().before(Action::Status(status)));
        place.dispatches(0);
        place.assert_done(second);
    }
}

#[test]
fn a_worker_goes_on_when_its_dispatch_repository_is_renamed() {
    let place = Place::new();
    place.issue("one", &body("task-1", &adds("a.txt")));
    place.host.rename(DISPATCH, "octo/orders");
    let mut worker = place.env.spawn(&["dispatch"]);
    let has_looked = eventually(Duration::from_secs(60), || {
        let history = place.host.history();
        let looks = history
            .iter()
            .filter(|seen| seen.path.ends_with("/octo/dispatch/issues"));
        looks.count() > 3
    });
    let ended = worker.try_wait().unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!((has_looked, ended), (true, None));
}

/// A repository that lets nobody label, or an issue whose conversation was locked.
#[test]
fn done_stays_done_where_the_last_label_is_refused() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place
        .host
        .fault(Fault::on("POST", "/repos/*/*/issues/*/labels").before(Action::Status(403)));
    let done = place.dispatches(0);
    assert!(
        done.stderr.contains("Could not add 'processed' label"),
        "{}",
        done.stderr
    );
    assert_eq!(place.comments(issue, "✅").len(), 1);
    assert_eq!(place.comments(issue, "❌"), Vec::<String>::new());
    let writes = place.host.writes().len();
    place.dispatches(0);
    assert_eq!(place.host.writes().len(), writes);
}

#[test]
fn an_issue_where_the_last_word_is_refused_is_labelled_all_the_same() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let locked = r#"{"message": "Unable to create comment because issue is locked."}"#;
    let told = Fault::on("POST", "/repos/*/*/issues/*/comments").nth(2);
    let answer = Action::Answer(403, Vec::new(), locked.to_owned());
    place.host.fault(told.before(answer));
    place.dispatches(0);
    let labels = place.host.labels(DISPATCH, issue);
    assert_eq!(labels, ["copilot-agent", "processed"]);
}

#[test]
fn the_longest_issues_do_not_hide_the_others() {
    let place = Place::new();
    let long = "\u{1f600}".repeat(65_000);
    for _ in 0..66 {
        let labels = ["copilot-agent"];
        place
            .host
            .open_issue(DISPATCH, "alice", "long", Some(&long), &labels);
    }
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.dispatches(0);
    place.assert_done(issue);
}

/// As by `agent-runner cancel`, or by the agent itself.
#[test]
fn a_task_whose_run_is_stopped_by_others_than_its_worker_each_time_rests() {
    let script = "echo run >> $HOME/runs; kill -TERM $PPID; sleep 60";
    let place = Place::agent(script, "attempts = 2");
    let issue = place.issue("t", &body("task-1", "Do it."));
    place.dispatches(1);
    let comment = &place.comments(issue, "❌")[0];
    assert!(comment.contains("stopped by signal 15"), "{comment}");
    assert!(comment.contains("tried again in"), "{comment}");
    std::thread::sleep(Duration::from_millis(1200));
    place.dispatches(1);
    let labels = place.host.labels(DISPATCH, issue);
    assert_eq!(labels, ["copilot-agent", "failed"]);
    let runs = fs::read_to_string(place.env.root().join("home/runs")).unwrap();
    assert_eq!(runs.lines().count(), 2);
}

/// A task that takes its worker with it is not tried for ever.
#[test]
fn a_task_whose_worker_dies_each_time_rests() {
    let kills =
        "while ! test -s $HOME/worker; do sleep 0.05; done; kill -9 $(cat $HOME/worker); sleep 60";
    let place = Place::agent(kills, "attempts = 1\nlease = \"2s\"");
    let issue = place.issue("t", &body("task-1", "Do it."));
    let mut worker = place.env.spawn(&["dispatch", "--once"]);
    fs::write(
        place.env.root().join("home/worker"),
        worker.id().to_string(),
    )
    .unwrap();
    assert_eq!(worker.wait().unwrap().code(), None);
    std::thread::sleep(Duration::from_secs(3));
    place.dispatches(1);
    let comment = &place.comments(issue, "❌")[0];
    assert!(
        comment.contains("1 attempt began, and the worker died in the last"),
        "{comment}"
    );
    assert_eq!(
        place.host.labels(DISPATCH, issue),
        ["copilot-agent", "failed"]
    );
}
