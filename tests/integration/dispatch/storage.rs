//! A queue that fails while work is done: the worker says so and goes on; nothing is there twice.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::Executor as _;

use super::crashes::PUSH;
use super::outcome::{Allowed, left_on};
use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::queue::{block_on, connect};
use crate::support::eventually;
use crate::support::github::{Action, Fault, Hook, git};
use crate::support::postgres::Postgres;

const KEYS: &str = "lease = \"3s\"";

fn issue(place: &Place, number: u32) -> u64 {
    let task = format!("{number:04}-task");
    place.issue(
        "Add a file",
        &body(&task, &adds(&format!("file-{number}.txt"))),
    )
}

/// A worker for ever; its log is in a file.
fn start(place: &Place) -> (Child, PathBuf) {
    let log = place.env.root().join("worker.log");
    let file = fs::File::create(&log).unwrap();
    let mut command = place.env.command(&["dispatch"]);
    (
        command
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap(),
        log,
    )
}

#[track_caller]
fn wait_for(place: &Place, issues: &[u64], log: &PathBuf) {
    let is_done = eventually(Duration::from_secs(120), || {
        let labels = |issue: &u64| place.host.labels(DISPATCH, *issue);
        issues
            .iter()
            .all(|issue| labels(issue).contains(&"processed".to_owned()))
    });
    assert!(is_done, "{}", fs::read_to_string(log).unwrap());
}

/// Ends the worker, looks once more, and judges.
#[track_caller]
fn judge(place: &Place, mut worker: Child, issues: &[u64], queue: Option<&str>) {
    let pid = Pid::from_raw(i32::try_from(worker.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    worker.wait().unwrap();
    thread::sleep(Duration::from_secs(4));
    let once = place.env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    let complaints = place.complaints(issues, Allowed { started: 1 });
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(left_on(&place.env, queue), Vec::<String>::new());
}

#[test]
fn a_queue_that_is_locked_for_longer_than_a_lease_delays_the_work() {
    let place = Place::with(KEYS);
    let issues = [issue(&place, 1)];
    let file = place.env.logs().join(".state/queue.sqlite");
    let lock = move || {
        let url = format!("sqlite:{}", file.display());
        // Longer than a writer waits.
        block_on(async {
            let mut connection = connect(&url).await;
            connection.execute("BEGIN EXCLUSIVE").await.unwrap();
            tokio::time::sleep(Duration::from_secs(12)).await;
            connection.execute("ROLLBACK").await.unwrap();
        });
    };
    place.host.fault(
        Fault::on(PUSH.0, PUSH.1)
            .nth(1)
            .before(Action::Call(Hook::new(lock))),
    );
    let (worker, log) = start(&place);
    wait_for(&place, &issues, &log);
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("the lease is not renewed"), "{said}");
    judge(&place, worker, &issues, None);
}

#[test]
fn a_server_that_is_restarted_in_the_middle_of_work_delays_it() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let url = server.url();
    let mut place = Place::with(KEYS);
    place.env = place.env.variable("AGENT_RUNNER_QUEUE_URL", &url);
    let issues = [issue(&place, 1), issue(&place, 2)];
    // By this thread: the server ends with the thread that started it.
    let (ask, asked) = mpsc::channel();
    for (method, path) in [PUSH, ("POST", "/repos/*/*/pulls")] {
        let ask = ask.clone();
        let restart = Hook::new(move || {
            let (answer, answered) = mpsc::channel();
            ask.send(answer).unwrap();
            answered.recv().unwrap();
        });
        let fault = Fault::on(method, path).nth(1);
        place.host.fault(fault.after(Action::Call(restart)));
    }
    let (worker, log) = start(&place);
    for _restart in 0..2 {
        let answer = asked.recv_timeout(Duration::from_secs(60)).unwrap();
        server.restart();
        answer.send(()).unwrap();
    }
    wait_for(&place, &issues, &log);
    judge(&place, worker, &issues, Some(&url));
}

#[test]
fn a_queue_that_is_deleted_is_made_anew_and_nothing_is_done_twice() {
    let place = Place::with(KEYS);
    let first = issue(&place, 1);
    let (worker, log) = start(&place);
    wait_for(&place, &[first], &log);
    // The end of the work is written down after its label.
    thread::sleep(Duration::from_secs(2));
    for end in ["", "-wal", "-shm"] {
        let file = place.env.logs().join(format!(".state/queue.sqlite{end}"));
        fs::remove_file(file).unwrap();
    }
    let second = issue(&place, 2);
    wait_for(&place, &[first, second], &log);
    judge(&place, worker, &[first, second], None);
}

#[test]
fn old_works_are_forgotten_mirrors_are_tidied_and_nothing_is_published_twice() {
    let place = Place::with("lease = \"1s\"");
    let issue = issue(&place, 1);
    place.dispatches(0);
    let queue = place.env.logs().join(".state/queue.sqlite");
    let queue = format!("sqlite:{}", queue.display());
    let works = || block_on(async { crate::queue::open(&queue).await.list().await.unwrap().len() });
    let mirrors = place.env.logs().join(".state/workspaces/mirrors");
    let find = |end: &str| {
        let entries = fs::read_dir(&mirrors)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut found = entries.filter(|path| path.extension().is_some_and(|is| is == end));
        found.next().unwrap()
    };
    let mirror = find("git");
    let refs = git::run(&mirror, &["for-each-ref", "--format=%(refname)"]).unwrap();
    let is_theirs = |name: &str| name.starts_with("refs/heads/");
    assert!(refs.lines().all(is_theirs), "{refs}");
    let loose = || {
        let counted = git::run(&mirror, &["count-objects"]).unwrap();
        counted.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert!(loose() > 0);
    assert_eq!(works(), 1);

    // A hundred days later.
    let aged = "UPDATE agent_runner_work SET changed_at = changed_at - 8640000000";
    block_on(async { connect(&queue).await.execute(aged).await.unwrap() });
    let then = SystemTime::now() - Duration::from_secs(100 * 24 * 3600);
    File::options()
        .write(true)
        .open(find("tidied"))
        .unwrap()
        .set_modified(then)
        .unwrap();
    place.dispatches(0);
    assert_eq!(works(), 0);
    let packed = git::run(&mirror, &["count-objects", "-v"]).unwrap();
    assert!(!packed.contains("\npacks: 0\n"), "{packed}");

    place.host.unlabel(DISPATCH, issue, "processed", "alice");
    place.dispatches(0);
    place.assert_done(issue);
    // Like a machine that knows nothing of it, this one finds it published.
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    assert_eq!(place.branches().len(), 1);
}
