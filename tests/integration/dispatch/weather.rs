//! Every call of a dispatch fails in every way, and exactly one pull request comes of it.

use std::time::Duration;

use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::support::github::{Action, Fault, Seen};
use crate::support::is_full;

/// A call of a dispatch: its method, its path, and which of those it is.
type Call = (&'static str, &'static str, usize);

const CALLS: [Call; 15] = [
    ("GET", "/user", 1),
    ("GET", "/repos/*/*", 1),
    ("GET", "/repos/*/*/issues", 1),
    ("GET", "/repos/*/*/issues/*", 1),
    ("GET", "/repos/*/*/issues/*/comments", 1),
    ("GET", "/repos/*/*/pulls", 1),
    ("GET", "/repos/*/*/issues/*/timeline", 1),
    ("GET", "/repos/*/*/collaborators/*/permission", 1),
    ("POST", "/repos/*/*/issues/*/comments", 1),
    ("POST", "/repos/*/*/issues/*/comments", 2),
    ("POST", "/repos/*/*/pulls", 1),
    ("POST", "/repos/*/*/issues/*/labels", 1),
    ("GET", "/octo/target.git/info/refs", 1),
    ("POST", "/octo/target.git/git-upload-pack", 1),
    ("POST", "/octo/target.git/git-receive-pack", 1),
];

/// How long GitHub asks us to wait.
const WINDOW_SECS: u64 = 2;

fn is_git(call: &Call) -> bool {
    call.1.contains(".git")
}

/// Plans the fault for a call, and for the times that a read is repeated.
fn plan(place: &Place, (method, path, nth): Call, fault: impl Fn(Fault) -> Fault) {
    let repeated = if method == "GET" { 3 } else { 1 };
    for nth in nth..nth + repeated {
        place.host.fault(fault(Fault::on(method, path).nth(nth)));
    }
}

/// Lets each call fail, and looks at what comes of it. Without `--full` every fourth is taken.
fn each_call(number: usize, skip: impl Fn(&Call) -> bool, fault: impl Fn(Fault) -> Fault) {
    let wanted = |index: usize| is_full() || (index + number).is_multiple_of(4);
    let calls = CALLS.into_iter().enumerate();
    for (_, call) in calls.filter(|(index, call)| wanted(*index) && !skip(call)) {
        let place = Place::new();
        let issue = place.issue("t", &body("task-1", &adds("a.txt")));
        plan(&place, call, &fault);
        place.until_processed(issue);
        let labels = place.host.labels(DISPATCH, issue);
        assert_eq!(labels, ["copilot-agent", "processed"], "{call:?}");
        place.assert_done(issue);
        assert_eq!(place.host.pulls(TARGET).len(), 1, "{call:?}");
        assert_eq!(place.branches(), ["agent-task-task-1"], "{call:?}");
        assert_eq!(place.workspaces(), Vec::<String>::new(), "{call:?}");
        assert_no_request_in_a_window(&place.host.history());
    }
}

#[track_caller]
fn assert_no_request_in_a_window(history: &[Seen]) {
    let api: Vec<_> = history
        .iter()
        .filter(|seen| !seen.path.contains(".git/"))
        .collect();
    for (index, limited) in api.iter().enumerate() {
        if !matches!(limited.status, Some(403 | 429)) {
            continue;
        }
        if let Some(next) = api.get(index + 1) {
            let pause = next.at - limited.at;
            assert!(
                pause >= Duration::from_secs(WINDOW_SECS),
                "{} {} after {pause:?}",
                next.method,
                next.path
            );
        }
    }
}

fn limited(status: u16) -> Action {
    let headers = vec![("retry-after", WINDOW_SECS.to_string())];
    let message = r#"{"message": "You have exceeded a secondary rate limit."}"#;
    Action::Answer(status, headers, message.to_owned())
}

#[test]
fn the_list_of_calls_is_complete() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.dispatches(0);
    place.assert_done(issue);
    for seen in place.host.history() {
        let is_listed = CALLS.iter().any(|(method, path, _)| {
            let (wanted, is): (Vec<_>, Vec<_>) =
                (path.split('/').collect(), seen.path.split('/').collect());
            *method == seen.method
                && wanted.len() == is.len()
                && wanted
                    .iter()
                    .zip(is)
                    .all(|(wanted, is)| *wanted == "*" || *wanted == is)
        });
        assert!(is_listed, "{} {}", seen.method, seen.path);
    }
}

#[test]
fn a_call_that_fails_is_made_up_for() {
    each_call(0, |_| false, |fault| fault.before(Action::Status(500)));
}

#[test]
fn a_call_whose_success_is_not_told_is_not_made_twice() {
    each_call(1, |_| false, |fault| fault.after(Action::Status(502)));
}

#[test]
fn a_connection_that_breaks_before_the_effect_is_made_up_for() {
    each_call(2, |_| false, |fault| fault.before(Action::Reset));
}

#[test]
fn a_connection_that_breaks_after_the_effect_repeats_nothing() {
    each_call(3, |_| false, |fault| fault.after(Action::Reset));
}

#[test]
fn a_limit_is_waited_for_and_nothing_is_asked_meanwhile() {
    each_call(0, is_git, |fault| fault.before(limited(429)));
}

#[test]
fn a_secondary_limit_is_waited_for_and_nothing_is_asked_meanwhile() {
    each_call(1, is_git, |fault| fault.before(limited(403)));
}

#[test]
fn a_login_page_of_the_network_is_not_taken_for_an_answer() {
    each_call(2, is_git, |fault| fault.before(Action::Html));
}

/// git takes a page of one line for a repository without branches.
#[test]
fn a_repository_that_seems_to_be_empty_is_looked_at_again() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let info = Fault::on("GET", "/octo/target.git/info/refs");
    place.host.fault(info.nth(1).before(Action::Html));
    place.until_processed(issue);
    let labels = place.host.labels(DISPATCH, issue);
    assert_eq!(labels, ["copilot-agent", "processed"]);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
}

#[test]
fn an_answer_that_ends_in_the_middle_is_asked_for_again() {
    each_call(3, |_| false, |fault| fault.after(Action::Truncated));
}

/// F104: the list of pull requests is older than the pull request.
#[test]
fn a_list_that_lags_behind_never_makes_a_second_pull_request() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.host.set_lag(5);
    place.host.fault(
        Fault::on("POST", "/repos/*/*/pulls")
            .nth(1)
            .after(Action::Status(502)),
    );
    place.until_processed(issue);
    place.assert_done(issue);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
}

#[test]
fn a_worker_that_works_for_ever_outlives_the_weather() {
    let place = Place::new();
    for path in ["/repos/*/*/issues", "/repos/*/*/pulls"] {
        place
            .host
            .fault(Fault::on("GET", path).nth(1).before(limited(429)));
    }
    for nth in 2..=4 {
        place.host.fault(
            Fault::on("GET", "/repos/*/*/issues")
                .nth(nth)
                .before(Action::Status(503)),
        );
    }
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let mut worker = place.env.spawn(&["dispatch"]);
    let is_done = crate::support::eventually(Duration::from_secs(60), || {
        place.host.labels(DISPATCH, issue).len() == 2
    });
    let was_alive = worker.try_wait().unwrap().is_none();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert!(is_done && was_alive);
    place.assert_done(issue);
    assert_no_request_in_a_window(&place.host.history());
}
