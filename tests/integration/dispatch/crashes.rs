//! A worker that is killed, or stands still, at any of its effects: in the end there is one of each.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::outcome::{Allowed, left_on};
use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::support::github::{Action, Fault, Hook};
use crate::support::{TestEnv, eventually, is_full};

/// Longer than a busy machine needs between two renewals, and short for a test.
pub const LEASE: Duration = Duration::from_secs(3);
const KEYS: &str = "lease = \"3s\"";

/// Where the worker is hit.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// At the n-th request like this one: before its effect, after it, or its answer is lost.
    Request(&'static str, &'static str, usize, When),
    /// At the n-th git command of this name, before or after it.
    Git(&'static str, usize, When),
    /// As soon as the log says this.
    Said(&'static str),
    /// As soon as there is a file like this below the machine's logs.
    File(&'static str),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum When {
    Before,
    After,
    /// The worker lives on.
    AnswerLost,
}

use Point::{File, Git, Request, Said};
use When::{After, AnswerLost, Before};

const COMMENT: (&str, &str) = ("POST", "/repos/*/*/issues/*/comments");
const PULL: (&str, &str) = ("POST", "/repos/*/*/pulls");
const LABEL: (&str, &str) = ("POST", "/repos/*/*/issues/*/labels");
pub const PUSH: (&str, &str) = ("POST", "/octo/target.git/git-receive-pack");
const FETCH: (&str, &str) = ("POST", "/octo/target.git/git-upload-pack");

/// Every effect, before and after it, and with its answer lost.
fn points() -> Vec<Point> {
    let mut points = vec![
        Said("Found new dispatch issue"),
        Git("fetch", 1, Before),
        Git("fetch", 1, After),
        Git("fetch", 2, Before),
        Git("fetch", 2, After),
        Git("reset", 1, After),
        Said("Creating new branch"),
        File("request.json"),
        File("run.json"),
        Git("apply", 1, Before),
        // The agent's commit, and the one with the trace.
        Git("commit-tree", 1, Before),
        Git("commit-tree", 1, After),
        File("metadata.json"),
        Git("fetch", 3, Before),
        Git("fetch", 3, After),
        Git("commit-tree", 2, Before),
        Git("commit-tree", 2, After),
        Said("Cleaned up workspace"),
        Git("push", 1, Before),
        Git("push", 1, After),
        Said("Task processed successfully"),
    ];
    for when in [Before, After, AnswerLost] {
        let requests = [
            (FETCH, 1),
            (COMMENT, 1),
            (PUSH, 1),
            (PULL, 1),
            (COMMENT, 2),
            (LABEL, 1),
        ];
        points.extend(requests.map(|((method, path), nth)| Request(method, path, nth, when)));
    }
    points
}

/// A worker, known to those who will hit it.
#[derive(Clone, Debug, Default)]
pub struct Target(Arc<AtomicU32>);

impl Target {
    pub fn aim(&self, worker: &Child) {
        self.0.store(worker.id(), Ordering::SeqCst);
    }

    pub fn hit(&self, signal: Signal) {
        let pid = self.0.load(Ordering::SeqCst);
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).expect("it was aimed at");
        // It may have ended by itself.
        kill_process(pid, signal).ok();
    }
}

/// A git that kills the worker before or after its n-th command of a name, whoever gives it.
fn wrap_git(env: TestEnv, command: &str, nth: usize, when: When) -> TestEnv {
    let directory = env.root().join("bin");
    fs::create_dir(&directory).unwrap();
    let root = env.root().display();
    let (before, after) = match when {
        Before => ("kill -9 $(cat $at/pid)", ":"),
        After | AnswerLost => (":", "kill -9 $(cat $at/pid)"),
    };
    let path = std::env::var("PATH").unwrap();
    let script = format!(
        "#!/bin/sh\nPATH='{path}'; at='{root}'\n\
         case \" $* \" in *' {command} '*) ;; *) exec git \"$@\";; esac\n\
         echo >> $at/count; [ $(wc -l < $at/count) = {nth} ] || exec git \"$@\"\n\
         while [ ! -s $at/pid ]; do sleep 0.01; done\n\
         {before}; git \"$@\"; code=$?; {after}; exit $code\n"
    );
    let file = directory.join("git");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{path}", directory.display());
    env.variable("PATH", path)
}

fn has_file(directory: &Path, name: &str) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let is_it = entry.file_name() == name;
        is_it || entry.file_type().is_ok_and(|kind| kind.is_dir()) && has_file(&entry.path(), name)
    })
}

/// Starts a worker and hits it at the point. Tells whether it was.
fn hit(place: &Place, point: Point) -> bool {
    let target = Target::default();
    let env = &place.env;
    if let Request(method, path, nth, when) = point {
        let fault = Fault::on(method, path).nth(nth);
        let target = target.clone();
        let kill = Action::Call(Hook::new(move || target.hit(Signal::KILL)));
        place.host.fault(match when {
            Before => fault.before(kill),
            After => fault.after(kill),
            AnswerLost => fault.after(Action::Reset),
        });
    }
    let log = env.root().join("worker.log");
    let mut worker = env
        .command(&["dispatch", "--once"])
        .stdout(fs::File::create(&log).unwrap())
        .stderr(fs::File::options().append(true).open(&log).unwrap())
        .spawn()
        .unwrap();
    target.aim(&worker);
    fs::write(env.root().join("pid"), worker.id().to_string()).unwrap();
    let mut has_ended = || worker.try_wait().unwrap().is_some();
    let is_there = || match point {
        Said(words) => fs::read_to_string(&log).unwrap().contains(words),
        File(name) => has_file(&env.logs(), name),
        Request(..) | Git(..) => false,
    };
    let ended = eventually(Duration::from_secs(60), || {
        if is_there() {
            target.hit(Signal::KILL);
        }
        has_ended()
    });
    assert!(ended, "{point:?}: {}", fs::read_to_string(&log).unwrap());
    let status = worker.wait().unwrap();
    let was_killed = status.code().is_none();
    was_killed || matches!(point, Request(.., AnswerLost))
}

/// What is wrong after the worker was hit at the point, and started again up to three times.
fn sweep(point: Point) -> Vec<String> {
    let mut place = Place::with(KEYS);
    if let Git(command, nth, when) = point {
        place.env = wrap_git(place.env, command, nth, when);
    }
    place.env = place.env.unreachable_server();
    let issue = place.issue("Add a file", &body("task-0001", &adds("hello.txt")));
    if !hit(&place, point) {
        return vec!["the worker was not hit".to_owned()];
    }
    place.host.clear_faults();
    let mut complaints = Vec::new();
    for _restart in 0..3 {
        thread::sleep(LEASE + Duration::from_millis(500));
        let again = place.env.agent_runner(&["dispatch", "--once"]);
        complaints = place.complaints(&[issue], Allowed { started: 1 });
        complaints.extend(left_on(&place.env, None));
        if complaints.is_empty() {
            return complaints;
        }
        complaints.push(again.stderr);
    }
    complaints
}

#[test]
fn a_worker_that_is_killed_at_any_effect_leaves_one_of_each() {
    let every = if is_full() { 1 } else { 2 };
    let points: Vec<Point> = points().into_iter().step_by(every).collect();
    let (sender, found) = mpsc::channel();
    // Mostly they wait for a lease.
    thread::scope(|scope| {
        for share in 0..4 {
            let (points, sender) = (&points, sender.clone());
            scope.spawn(move || {
                for point in points.iter().skip(share).step_by(4) {
                    let complaints = sweep(*point);
                    if !complaints.is_empty() {
                        sender.send(format!("{point:?}: {complaints:#?}")).unwrap();
                    }
                }
            });
        }
    });
    drop(sender);
    let found: Vec<String> = found.into_iter().collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_there_twice_is_noticed() {
    let place = Place::new();
    let issue = place.issue("Add a file", &body("task-0001", &adds("hello.txt")));
    let done = place.env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let once = Allowed { started: 1 };
    assert_eq!(place.complaints(&[issue], once), Vec::<String>::new());
    assert_eq!(left_on(&place.env, None), Vec::<String>::new());
    let completed = place.comments(issue, "✅").remove(0);
    place
        .host
        .comment(DISPATCH, issue, "runner-bot", &completed);
    assert_eq!(place.complaints(&[issue], once).len(), 1);
}

/// A worker that stands still at its n-th request like this one for longer than its lease, while
/// another does the work; the two share a queue, or nothing.
pub fn pause((method, path): (&str, &str), nth: usize, is_shared: bool) {
    let place = Place::with(KEYS);
    let mut other = Place::env(&place.host, &place.token, KEYS);
    if is_shared {
        other = other.variable("AGENT_RUNNER_QUEUE_URL", queue_of(&place.env));
    }
    let issue = place.issue("Add a file", &body("task-0001", &adds("hello.txt")));
    let target = Target::default();
    let (is_stopped, stopped) = mpsc::channel();
    let stop = {
        let target = target.clone();
        Action::Call(Hook::new(move || {
            target.hit(Signal::STOP);
            is_stopped.send(()).unwrap();
        }))
    };
    place
        .host
        .fault(Fault::on(method, path).nth(nth).before(stop));
    let mut paused = place.env.spawn(&["dispatch", "--once"]);
    target.aim(&paused);
    stopped.recv_timeout(Duration::from_secs(60)).unwrap();
    place.host.clear_faults();
    // Without a queue in common, the other sees for a lease that nothing happens.
    thread::sleep(LEASE + Duration::from_millis(500));
    let done = other.agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let what = format!("{method} {path} {nth}");
    let pulls = place.host.pulls(TARGET).len();
    assert_eq!((pulls, place.comments(issue, "✅").len()), (1, 1), "{what}");
    target.hit(Signal::CONT);
    paused.wait().unwrap();
    let complaints = place.complaints(&[issue], Allowed { started: 1 });
    assert_eq!(complaints, Vec::<String>::new(), "{what}");
    if !is_shared {
        return;
    }
    let queue = queue_of(&place.env);
    assert_eq!(
        left_on(&place.env, Some(&queue)),
        Vec::<String>::new(),
        "{what}"
    );
    assert_eq!(
        left_on(&other, Some(&queue)),
        Vec::<String>::new(),
        "{what}"
    );
}

fn queue_of(env: &TestEnv) -> String {
    format!(
        "sqlite:{}",
        env.logs().join(".state/queue.sqlite").display()
    )
}

/// At what it reads right before each effect: whatever it has read, the world is another one when
/// it goes on.
#[test]
fn a_worker_that_stood_still_for_longer_than_its_lease_publishes_nothing() {
    const READ_COMMENTS: (&str, &str) = ("GET", "/repos/*/*/issues/*/comments");
    const READ_ISSUE: (&str, &str) = ("GET", "/repos/*/*/issues/*");
    const READ_BRANCHES: (&str, &str) = ("GET", "/octo/target.git/info/refs");
    thread::scope(|scope| {
        // Before the push, its refs, the pull request, the comment.
        scope.spawn(|| pause(READ_ISSUE, 2, true));
        scope.spawn(|| pause(READ_BRANCHES, 3, true));
        scope.spawn(|| pause(READ_ISSUE, 3, true));
        scope.spawn(|| pause(READ_COMMENTS, 2, true));
    });
}
