//! Published work whose branch a person deletes, before its pull request is opened or after it.

use std::time::Duration;

use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::support::github::{Action, Fault, Hook, git};

const BRANCH: &str = "agent-task-task-1";
const PULL: (&str, &str) = ("POST", "/repos/*/*/pulls");

fn delete(place: &Place, branch: &str) {
    let name = format!("refs/heads/{branch}");
    place.git(&["update-ref", "-d", &name]);
}

fn runs(place: &Place) -> usize {
    place.env.records("dispatch_issue", "patch").len()
}

/// The worker dies between the pull request and the word that it is done.
#[test]
fn a_pull_request_whose_branch_is_gone_is_done_and_no_second_one_is_opened() {
    for (is_merged, forgets) in [(false, false), (true, false), (false, true), (true, true)] {
        let place = Place::with("lease = \"1s\"");
        let issue = place.issue("t", &body("task-1", &adds("a.txt")));
        let told = Fault::on("POST", "/repos/*/*/issues/*/comments").nth(2);
        place.host.fault(told.before(Action::Status(502)));
        place.dispatches(1);
        let pull = place.host.pulls(TARGET).remove(0);
        if is_merged {
            place.host.merge(TARGET, pull["number"].as_u64().unwrap());
        }
        delete(&place, BRANCH);
        if forgets {
            place.forget();
        }
        std::thread::sleep(Duration::from_millis(1100));
        place.dispatches(0);
        place.assert_done(issue);
        let address = pull["html_url"].as_str().unwrap();
        assert!(place.comments(issue, "✅")[0].contains(address));
        let pulls = place.host.pulls(TARGET);
        assert_eq!(pulls.len(), 1, "{is_merged} {forgets}");
        assert_eq!(pulls[0]["state"], "closed");
        assert_eq!(place.branches(), Vec::<String>::new());
        assert_eq!(runs(&place), 1);
    }
}

/// GitHub keeps the commits of a pull request.
#[test]
fn a_closed_pull_request_counts_also_when_its_branch_is_gone_and_its_text_is_anothers() {
    for (is_persons, forgets) in [(false, false), (false, true), (true, false), (true, true)] {
        for is_merged in [false, true] {
            let place = Place::with("lease = \"1s\"");
            let issue = place.issue("t", &body("task-1", &adds("a.txt")));
            let told = Fault::on("POST", "/repos/*/*/issues/*/comments").nth(2);
            let opened = Fault::on(PULL.0, PULL.1).nth(1);
            let fault = if is_persons { opened } else { told };
            place.host.fault(fault.before(Action::Status(502)));
            place.dispatches(1);
            if is_persons {
                place
                    .host
                    .open_pull(TARGET, "alice", "Mine", BRANCH, "main");
            }
            let number = place.host.pulls(TARGET)[0]["number"].as_u64().unwrap();
            place
                .host
                .change_issue(TARGET, number, Some("words"), false);
            if is_merged {
                place.host.merge(TARGET, number);
            }
            delete(&place, BRANCH);
            if forgets {
                place.forget();
            }
            place.until_processed(issue);
            place.assert_done(issue);
            let said = &place.comments(issue, "✅")[0];
            assert_eq!(
                said.contains("closed without a merge"),
                !is_merged,
                "{said}"
            );
            let pulls = place.host.pulls(TARGET).len();
            assert_eq!(pulls, 1, "{is_persons} {forgets} {is_merged}");
            assert_eq!(place.branches(), Vec::<String>::new());
            assert_eq!(runs(&place), 1);
        }
    }
}

/// What took the first name was a branch without a pull request, and is gone as well.
#[test]
fn a_pull_request_under_the_second_name_is_found_when_both_branches_are_gone() {
    let place = Place::new();
    let bare = place.host.bare(TARGET);
    git::commit(&bare, BRANCH, "their.txt", "theirs\n", "theirs");
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.dispatches(0);
    let pull = place.host.pulls(TARGET).remove(0);
    assert_ne!(pull["head"]["ref"], BRANCH);
    place.host.merge(TARGET, pull["number"].as_u64().unwrap());
    for branch in place.branches() {
        delete(&place, &branch);
    }
    place.host.unlabel(DISPATCH, issue, "processed", "alice");

    let other = place.other_env("lease = \"1s\"");
    let done = other.agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    place.assert_done(issue);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    assert_eq!(place.branches(), Vec::<String>::new());
}

#[test]
fn a_branch_that_is_deleted_before_its_pull_request_is_said_and_pushed_again() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let bare = place.host.bare(TARGET);
    let gone = Hook::new(move || {
        let name = format!("refs/heads/{BRANCH}");
        git::run(&bare, &["update-ref", "-d", &name]).unwrap();
    });
    let opened = Fault::on(PULL.0, PULL.1).nth(1);
    place.host.fault(opened.before(Action::Call(gone)));
    let failed = place.dispatches(1);
    let words = format!("the branch {BRANCH} was deleted before it was published");
    assert!(failed.stderr.contains(&words), "{}", failed.stderr);
    let comment = &place.comments(issue, "❌")[0];
    assert!(comment.contains(&words), "{comment}");
    assert!(comment.contains("It is tried again in 1s."), "{comment}");

    std::thread::sleep(Duration::from_millis(1100));
    place.dispatches(0);
    assert_eq!(place.branches(), [BRANCH]);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    assert_eq!(place.comments(issue, "✅").len(), 1);
    assert_eq!(runs(&place), 2);
}

/// An attempt each time, so that it ends.
#[test]
fn a_branch_that_is_deleted_each_time_lets_the_task_rest() {
    let place = Place::with("attempts = 2");
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let bare = place.host.bare(TARGET);
    let gone = Hook::new(move || {
        let name = format!("refs/heads/{BRANCH}");
        git::run(&bare, &["update-ref", "-d", &name]).unwrap();
    });
    let opened = Fault::on(PULL.0, PULL.1);
    place.host.fault(opened.before(Action::Call(gone)));
    for _attempt in 0..2 {
        place.dispatches(1);
        std::thread::sleep(Duration::from_millis(1100));
    }
    let labels = place.host.labels(DISPATCH, issue);
    assert_eq!(labels, ["copilot-agent", "failed"]);
    assert_eq!(place.comments(issue, "❌").len(), 1);
    assert_eq!(runs(&place), 2);
}

#[test]
fn a_branch_that_is_deleted_between_two_attempts_is_pushed_again() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let opened = Fault::on(PULL.0, PULL.1).nth(1);
    place.host.fault(opened.before(Action::Status(502)));
    place.dispatches(1);
    delete(&place, BRANCH);
    std::thread::sleep(Duration::from_millis(1100));
    place.dispatches(0);
    place.assert_done(issue);
    assert_eq!(place.branches(), [BRANCH]);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
}

/// Not every server of GitHub's knows at once what was pushed.
#[test]
fn a_branch_that_github_does_not_see_yet_is_published_later_without_being_made_again() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let unseen = r#"{"message": "Validation Failed", "errors": [{"resource": "PullRequest", "field": "head", "code": "invalid"}]}"#;
    let opened = Fault::on(PULL.0, PULL.1).nth(1);
    let answer = Action::Answer(422, Vec::new(), unseen.to_owned());
    place.host.fault(opened.before(answer));
    let later = place.dispatches(1);
    let words = "tried again later: cannot open a pull request";
    assert!(later.stderr.contains(words), "{}", later.stderr);
    std::thread::sleep(Duration::from_millis(1100));
    place.dispatches(0);
    place.assert_done(issue);
    assert_eq!(runs(&place), 1);
}
