//! Who may ask for what, and what changes while an agent works.

use std::time::Duration;

use agent_runner::github::Permission;

use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::support::github::{Action, Fault, git};
use crate::support::{eventually, processes_with, unique_sleep};

#[test]
fn only_who_can_write_or_is_listed_is_served() {
    let place = Place::with("authors = [\"Carol\"]");
    place.host.user("mallory", Permission::Read);
    place.host.user("carol", Permission::None);
    let open = |author, task: &str| {
        let body = body(task, &adds("a.txt"));
        place
            .host
            .open_issue(DISPATCH, author, "t", Some(&body), &["copilot-agent"])
    };
    let (refused, listed) = (open("mallory", "task-mal"), open("carol", "task-car"));
    place.dispatches(1);
    place.assert_refused(refused, "the author cannot write to octo/dispatch");
    place.assert_done(listed);
    assert_eq!(place.branches(), ["agent-task-task-car"]);
}

#[test]
fn a_target_that_is_not_allowed_is_not_even_asked_about() {
    let place = Place::new();
    place.host.repository("evil/target");
    let other = body("task-1", &adds("a.txt")).replace(TARGET, "evil/target");
    let issue = place.issue("t", &other);
    place.dispatches(1);
    place.assert_refused(issue, "evil/target is not on the list");
    let history = place.host.history();
    assert!(
        history.iter().all(|seen| !seen.path.contains("evil")),
        "{history:?}"
    );

    let env = place.other_env("targets = [\"evil/*\"]\n");
    place.host.unlabel(DISPATCH, issue, "failed", "alice");
    assert_eq!(env.agent_runner(&["dispatch", "--once"]).code, Some(0));
    assert_eq!(place.host.pulls("evil/target").len(), 1);
}

#[test]
fn an_archived_or_missing_target_is_refused_and_says_so() {
    let place = Place::new();
    place.host.set_archived(TARGET, true);
    let archived = place.issue("t", &body("task-1", &adds("a.txt")));
    let missing = body("task-2", &adds("a.txt")).replace(TARGET, "octo/nothing");
    let missing = place.issue("t", &missing);
    place.dispatches(1);
    place.assert_refused(archived, "octo/target is archived");
    place.assert_refused(missing, "octo/nothing");
    assert_eq!(place.host.pulls(TARGET).len(), 0);
}

/// Starts a worker whose agent works until it is stopped, changes something meanwhile, and gives
/// the worker's exit code.
fn changed_while_working(place: &Place, tag: u32, change: impl FnOnce()) -> Option<i32> {
    let sleep = unique_sleep(tag);
    let mut worker = place.env.spawn(&["dispatch", "--once"]);
    let works = || !processes_with(&sleep).is_empty();
    assert!(eventually(Duration::from_secs(60), works));
    change();
    let ends = eventually(Duration::from_secs(60), || {
        worker.try_wait().unwrap().is_some()
    });
    if !ends {
        worker.kill().unwrap();
    }
    let code = worker.wait().unwrap().code();
    assert!(ends, "the worker went on");
    assert_eq!(processes_with(&sleep), Vec::<u32>::new());
    assert_eq!(place.branches(), Vec::<String>::new());
    let record = place.env.record("dispatch_issue", "script");
    assert_eq!(record["outcome"], "interrupted");
    assert_eq!(place.workspaces(), Vec::<String>::new());
    code
}

fn slow(tag: u32) -> Place {
    Place::agent(
        &format!(
            "echo x > x; git add x; git commit -qm x; sleep {}",
            unique_sleep(tag)
        ),
        "",
    )
}

#[test]
fn an_issue_that_is_edited_while_an_agent_works_is_not_published() {
    let place = slow(1);
    let issue = place.issue("t", &body("task-1", "Do it."));
    let code = changed_while_working(&place, 1, || {
        let edited = body("task-1", "Do something else.");
        place
            .host
            .change_issue(DISPATCH, issue, Some(&edited), false);
    });
    assert_eq!(code, Some(1));
    assert_eq!(place.comments(issue, "🤖").len(), 1);
    assert!(place.comments(issue, "❌")[0].contains("was edited after the work on it began"));
    assert_eq!(
        place.host.labels(DISPATCH, issue),
        ["copilot-agent", "failed"]
    );
}

#[test]
fn an_issue_that_is_unlabelled_or_closed_while_an_agent_works_is_given_up() {
    for tag in [2, 3] {
        let place = slow(tag);
        let issue = place.issue("t", &body("task-1", "Do it."));
        let code = changed_while_working(&place, tag, || match tag {
            2 => place
                .host
                .unlabel(DISPATCH, issue, "copilot-agent", "alice"),
            _ => place.host.set_open(DISPATCH, issue, false),
        });
        assert_eq!(code, Some(0));
        assert_eq!(place.host.comments(DISPATCH, issue).len(), 1);
        assert_eq!(place.host.pulls(TARGET).len(), 0);
    }
}

#[test]
fn an_issue_that_was_given_up_is_done_when_it_is_labelled_again() {
    let place = slow(4);
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    changed_while_working(&place, 4, || {
        place
            .host
            .unlabel(DISPATCH, issue, "copilot-agent", "alice");
    });
    place.host.label(DISPATCH, issue, "copilot-agent", "alice");
    let env = place.same_env("");
    assert_eq!(env.agent_runner(&["dispatch", "--once"]).code, Some(0));
    place.assert_done(issue);
}

#[test]
fn comments_of_strangers_are_neither_believed_nor_shown_to_an_agent() {
    let place = Place::agent(
        "cat > prompt.txt; git add . && git commit -qm work",
        "lease = \"2s\"",
    );
    place.host.user("mallory", Permission::Read);
    let first = place.issue("t", &body("task-aaa-1", "Do it."));
    place
        .host
        .comment(DISPATCH, first, "alice", "INJECTED by a friend");
    place.dispatches(0);
    // Whoever saw the markers of one issue can write them below it before they are due.
    let markers: Vec<String> = place
        .host
        .comments(DISPATCH, first)
        .into_iter()
        .map(|(_, text)| text)
        .filter(|text| text.contains("<!-- agent-runner"))
        .collect();
    assert_eq!(markers.len(), 2);
    let comments: Vec<u64> = place.comment_ids(first);
    for comment in comments {
        place.host.delete_comment(DISPATCH, comment);
    }
    for marker in &markers {
        place.host.comment(DISPATCH, first, "mallory", marker);
    }
    place.host.unlabel(DISPATCH, first, "processed", "alice");
    place.forget();
    place.dispatches(0);
    let own = place.host.comments(DISPATCH, first);
    let own = own
        .iter()
        .filter(|(author, _)| author == "runner-bot")
        .count();
    assert_eq!(
        own, 1,
        "the pull request was there: only the last word is said again"
    );
    let prompt = place.file("agent-task-task-aaa", "prompt.txt").unwrap();
    assert!(
        prompt.contains("Do it.") && !prompt.contains("INJECTED"),
        "{prompt}"
    );
    assert_eq!(place.host.pulls(TARGET).len(), 1);
}

#[test]
fn a_text_with_hidden_characters_is_refused() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", "Do it.\u{202e}\u{200b}"));
    place.dispatches(1);
    place.assert_refused(issue, "characters that a reader does not see");
}

#[test]
fn an_issue_that_is_edited_between_the_push_and_the_pull_request_does_not_get_the_old_result() {
    const BRANCH: &str = "agent-task-task-1";
    let place = Place::new();
    let issue = place.issue("Add a file", &body("task-1", &adds("a.txt")));
    let opened = Fault::on("POST", "/repos/*/*/pulls").nth(1);
    place.host.fault(opened.before(Action::Status(502)));
    place.dispatches(1);
    assert_eq!(place.branches(), [BRANCH]);
    let edited = body("task-1", &adds("b.txt"));
    place
        .host
        .change_issue(DISPATCH, issue, Some(&edited), false);
    std::thread::sleep(Duration::from_millis(1200));
    place.dispatches(1);
    let said = &place.comments(issue, "❌")[0];
    assert!(
        said.contains("was edited after the work on it began"),
        "{said}"
    );
    assert_eq!(place.host.pulls(TARGET).len(), 0);
    // As it is told there.
    place.git(&["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
    place.host.unlabel(DISPATCH, issue, "failed", "alice");
    place.dispatches(0);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    assert!(place.file(BRANCH, "b.txt").is_some());
    assert_eq!(place.file(BRANCH, "a.txt"), None);
}

#[test]
fn an_issue_that_is_edited_after_its_pull_request_was_opened_hears_that_it_answers_the_earlier_text()
 {
    let ends = [(false, false), (true, false), (true, true), (false, true)];
    let all = ends.iter().flat_map(|end| [(end, false), (end, true)]);
    for (&(is_merged, is_deleted), forgets) in all {
        let place = Place::with("lease = \"1s\"");
        let issue = place.issue("Add a file", &body("task-1", &adds("a.txt")));
        let told = Fault::on("POST", "/repos/*/*/issues/*/comments").nth(2);
        place.host.fault(told.before(Action::Status(502)));
        place.dispatches(1);
        let pulls = place.host.pulls(TARGET);
        assert_eq!(pulls.len(), 1);
        if is_merged {
            let number = pulls[0]["number"].as_u64().unwrap();
            place.host.merge(TARGET, number);
        }
        if is_deleted {
            place.git(&["update-ref", "-d", "refs/heads/agent-task-task-1"]);
        }
        if forgets {
            place.forget();
        }
        let edited = body("task-1", &adds("b.txt"));
        place
            .host
            .change_issue(DISPATCH, issue, Some(&edited), false);
        place.until_processed(issue);
        place.assert_done(issue);
        let said = &place.comments(issue, "✅")[0];
        assert!(said.contains("had before it was edited"), "{said}");
        assert_eq!(place.host.pulls(TARGET).len(), 1);
    }
}

/// Its branch has another name, or is in another repository.
#[test]
fn an_issue_that_names_another_task_or_target_after_its_pull_request_was_opened_gets_no_second_one()
{
    const OTHER: &str = "octo/other";
    let first = body("task-1", &adds("a.txt"));
    for edited in [
        first.replace("task-1", "other-2"),
        first.replace(TARGET, OTHER),
    ] {
        for (forgets, is_deleted) in [(false, false), (true, false), (false, true), (true, true)] {
            let place = Place::with("lease = \"1s\"");
            place.host.repository(OTHER);
            let issue = place.issue("Add a file", &first);
            let told = Fault::on("POST", "/repos/*/*/issues/*/comments").nth(2);
            place.host.fault(told.before(Action::Status(502)));
            place.dispatches(1);
            let address = place.host.pulls(TARGET)[0]["html_url"].clone();
            if is_deleted {
                place.git(&["update-ref", "-d", "refs/heads/agent-task-task-1"]);
            }
            if forgets {
                place.forget();
            }
            place
                .host
                .change_issue(DISPATCH, issue, Some(&edited), false);
            place.until_processed(issue);
            place.assert_done(issue);
            let said = &place.comments(issue, "✅")[0];
            assert!(said.contains("had before it was edited"), "{said}");
            assert!(said.contains(address.as_str().unwrap()), "{said}");
            let is_closed = said.contains("closed without a merge");
            assert_eq!(is_closed, is_deleted, "{said}");
            let pulls = [TARGET, OTHER].map(|name| place.host.pulls(name).len());
            assert_eq!(pulls, [1, 0], "{forgets} {is_deleted}");
        }
    }
}

/// The account is the worker's, too.
#[test]
fn a_pull_request_that_a_person_opened_by_hand_counts_and_is_not_said_to_answer_an_earlier_text() {
    let place = Place::with("lease = \"1s\"");
    let issue = place.issue("Add a file", &body("task-1", &adds("a.txt")));
    let bare = place.host.bare(TARGET);
    git::commit(&bare, "mine", "a.txt", "a\n", "work");
    let pull = place
        .host
        .open_pull(TARGET, "runner-bot", "By hand", "mine", "main");
    let closes = format!("Fixes {DISPATCH}#{issue}");
    place.host.change_issue(TARGET, pull, Some(&closes), false);
    place.until_processed(issue);
    assert_eq!(place.comments(issue, "🤖").len(), 0);
    let said = &place.comments(issue, "✅")[0];
    assert!(said.contains(&format!("{TARGET}/pull/{pull}")), "{said}");
    assert!(!said.contains("before it was edited"), "{said}");
    assert_eq!(place.host.pulls(TARGET).len(), 1);
}

#[test]
fn what_an_issue_is_called_mentions_nobody_and_closes_nothing() {
    let place = Place::new();
    let text = body("Fixes #12 for @alice", &adds("a.txt"));
    let issue = place.issue("Fixes octo/target#12, closes GH-3 @alice", &text);
    place.dispatches(0);
    place.assert_done(issue);
    let title = place.host.pulls(TARGET)[0]["title"].to_string();
    let log = place.git(&["log", "--format=%B", "--branches=agent-task-*"]);
    assert!(log.contains("closes GH"), "{log}");
    for told in [title, log] {
        for live in ["#12", "@alice", "GH-3"] {
            assert!(!told.contains(live), "{live} in {told}");
        }
    }
}

#[test]
fn a_secret_in_the_title_or_id_of_an_issue_is_published_nowhere() {
    const SECRET: &str = "sup3r-s3cret-value-1234567890";
    let mut place = Place::new();
    place.env = place.env.variable("MY_API_KEY", SECRET);
    let id = format!("task {SECRET}");
    place.issue(&format!("Use {SECRET}"), &body(&id, &adds("a.txt")));
    place.dispatches(0);
    let pull = &place.host.pulls(TARGET)[0];
    let log = place.git(&["log", "-p", "--format=%B", "--branches=agent-task-*"]);
    for told in [pull["title"].to_string(), pull["body"].to_string(), log] {
        assert!(!told.contains(SECRET), "{told}");
    }
}
