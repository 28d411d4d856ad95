//! Many workers, of which some stand still and some are killed: each issue becomes one pull
//! request, and none is forgotten.

use std::process::{Child, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::crashes::{LEASE, PUSH, Target, pause};
use super::outcome::{Allowed, left_on};
use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::queue::Place as Database;
use crate::support::github::{Action, Fault, Hook};
use crate::support::{TestEnv, eventually, is_full};

const KEYS: &str = "lease = \"4s\"\nattempts = 99";

/// Numbers without a pattern, the same in every run of a test.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A machine and the worker on it.
struct Machine {
    env: TestEnv,
    worker: Child,
    /// Since when it stands still, and for how long.
    stopped: Option<(Instant, Duration)>,
}

impl Machine {
    fn start(env: TestEnv) -> Self {
        let worker = Self::spawn(&env);
        Self {
            env,
            worker,
            stopped: None,
        }
    }

    fn spawn(env: &TestEnv) -> Child {
        let mut command = env.command(&["dispatch"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.worker.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn stop(&mut self, time: Duration) {
        if self.stopped.is_none() {
            self.signal(Signal::STOP);
            self.stopped = Some((Instant::now(), time));
        }
    }

    fn go_on(&mut self) {
        if self.stopped.take().is_some() {
            self.signal(Signal::CONT);
        }
    }

    fn replace(&mut self) {
        self.worker.kill().unwrap();
        self.worker.wait().unwrap();
        self.stopped = None;
        self.worker = Self::spawn(&self.env);
    }
}

/// Lets the machines work while some of them stand still or are killed, until nothing is `left`.
fn disturb(machines: &mut [Machine], seed: u64, left: impl Fn() -> usize) {
    let mut dice = Dice(seed);
    let began = Instant::now();
    let limit = Duration::from_secs(if is_full() { 1800 } else { 170 });
    loop {
        let left = left();
        if left == 0 {
            break;
        }
        assert!(began.elapsed() < limit, "{left} issues are left over");
        thread::sleep(Duration::from_millis(300));
        for machine in &mut *machines {
            let is_over = |(since, time): (Instant, Duration)| since.elapsed() > time;
            if machine.stopped.is_some_and(is_over) {
                machine.go_on();
            }
        }
        let index = usize::try_from(dice.below(machines.len() as u64)).unwrap();
        match dice.below(4) {
            0 => machines[index].replace(),
            1 => machines[index].stop(Duration::from_millis(dice.below(8000))),
            _ => {}
        }
    }
    // What stood still may still do what it was about to.
    machines.iter_mut().for_each(Machine::go_on);
    thread::sleep(Duration::from_secs(2));
    for machine in &*machines {
        machine.signal(Signal::TERM);
    }
    for machine in machines {
        machine.worker.wait().unwrap();
    }
}

fn open_issues(place: &Place, number: usize) -> Vec<u64> {
    let open = |number| {
        let task = format!("{number:04}-task");
        let text = body(&task, &adds(&format!("file-{number}.txt")));
        place.issue(&format!("Issue {number}"), &text)
    };
    (0..number).map(open).collect()
}

/// Lists of comments are old when they arrive: several that look at once find nothing.
fn slow_comments(delay: Duration) -> Fault {
    let wait = Hook::new(move || thread::sleep(delay));
    Fault::on("GET", "/repos/*/*/issues/*/comments").after(Action::Call(wait))
}

fn left(place: &Place, issues: &[u64]) -> usize {
    let is_left = |issue: &&u64| {
        let labels = place.host.labels(DISPATCH, **issue);
        !labels.contains(&"processed".to_owned())
    };
    issues.iter().filter(is_left).count()
}

/// Twenty workers with one queue.
fn crowd(queue: &str, seed: u64) {
    let place = Place::new();
    let issues = open_issues(&place, if is_full() { 200 } else { 40 });
    let mut machines: Vec<Machine> = (0..20)
        .map(|_| Place::env(&place.host, &place.token, KEYS))
        .map(|env| Machine::start(env.variable("AGENT_RUNNER_QUEUE_URL", queue)))
        .collect();
    disturb(&mut machines, seed, || left(&place, &issues));
    // One more look on each machine ends in the queue what nobody could, and removes what a killed
    // worker left.
    thread::sleep(Duration::from_secs(3));
    for machine in &mut machines {
        machine.worker = machine.env.spawn(&["dispatch", "--once"]);
    }
    let mut complaints = place.complaints(&issues, Allowed { started: 1 });
    for machine in machines {
        let output = machine.worker.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        complaints.extend(left_on(&machine.env, Some(queue)));
    }
    complaints.dedup();
    assert_eq!(complaints, Vec::<String>::new(), "seed {seed}");
}

#[test]
fn twenty_workers_with_one_file_publish_each_issue_once() {
    let directory = Database::sqlite();
    crowd(&directory.url(), 0x5eed_0001);
}

#[test]
fn twenty_workers_with_one_server_publish_each_issue_once() {
    for database in Database::all().into_iter().skip(1) {
        crowd(&database.url(), 0x5eed_0002);
    }
}

#[test]
fn machines_that_share_nothing_but_github_publish_each_issue_once() {
    let place = Place::new();
    let issues = open_issues(&place, if is_full() { 40 } else { 6 });
    place.host.fault(slow_comments(Duration::from_millis(300)));
    let mut machines: Vec<Machine> = (0..5)
        .map(|_| Machine::start(Place::env(&place.host, &place.token, KEYS)))
        .collect();
    disturb(&mut machines, 0x5eed_0003, || left(&place, &issues));
    let complaints = place.complaints(&issues, Allowed { started: 5 });
    assert_eq!(complaints, Vec::<String>::new());
    let outcomes = machines.iter().flat_map(|machine| {
        let records = machine.env.records("dispatch_issue", "patch");
        records.into_iter().map(|record| record["outcome"].clone())
    });
    let lost = outcomes.filter(|outcome| outcome == "lost_lease").count();
    assert!(lost > 0, "none of them has lost anything");
}

#[test]
fn of_two_machines_that_tell_the_same_at_once_the_later_takes_its_comment_back() {
    let place = Place::new();
    let issue = open_issues(&place, 1)[0];
    let meeting = Arc::new(Barrier::new(2));
    let meet = {
        let meeting = Arc::clone(&meeting);
        Hook::new(move || {
            meeting.wait();
            meeting.wait();
        })
    };
    // The first tells that the work begins.
    let telling = Fault::on("POST", "/repos/*/*/issues/*/comments").nth(2);
    place.host.fault(telling.before(Action::Call(meet)));
    let worker = place.env.spawn(&["dispatch", "--once"]);
    meeting.wait();
    let theirs = place.comments(issue, "🤖").remove(0);
    let theirs = theirs.replace("agent-runner started", "agent-runner completed");
    let theirs = theirs.replacen('🤖', "✅", 1);
    (place.host).comment(DISPATCH, issue, "runner-bot", &theirs);
    meeting.wait();
    let output = worker.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(place.comments(issue, "✅"), [theirs]);
}

#[test]
fn what_a_dead_machine_pushed_is_published_by_one_other_and_not_before_a_lease() {
    let place = Place::with(KEYS);
    let others: Vec<TestEnv> = (0..3)
        .map(|_| Place::env(&place.host, &place.token, KEYS))
        .collect();
    let issue = open_issues(&place, 1)[0];
    let target = Target::default();
    let kill = {
        let target = target.clone();
        Action::Call(Hook::new(move || target.hit(Signal::KILL)))
    };
    place.host.fault(Fault::on(PUSH.0, PUSH.1).after(kill));
    let mut dead = place.env.spawn(&["dispatch", "--once"]);
    target.aim(&dead);
    assert_eq!(dead.wait().unwrap().code(), None);
    let is_pushed = eventually(Duration::from_secs(30), || place.branches().len() == 1);
    assert!(is_pushed);
    place.host.clear_faults();

    place.host.fault(slow_comments(Duration::from_secs(1)));
    let began = Instant::now();
    let run = |env: &TestEnv| env.spawn(&["dispatch", "--once"]);
    let workers: Vec<Child> = others.iter().map(run).collect();
    while place.host.pulls(TARGET).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > LEASE, "the dead one might be alive");
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    // The dead one comes back.
    let back = place.env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(back.code, Some(0), "{}", back.stderr);
    let complaints = place.complaints(&[issue], Allowed { started: 1 });
    assert_eq!(complaints, Vec::<String>::new());
    assert_eq!(left_on(&place.env, None), Vec::<String>::new());
}

#[test]
fn a_machine_that_stood_still_publishes_nothing_that_another_took_over() {
    let is_shared = false;
    thread::scope(|scope| {
        scope.spawn(|| pause(("POST", "/repos/*/*/pulls"), 1, is_shared));
        scope.spawn(|| pause(("GET", "/repos/*/*/issues/*/comments"), 2, is_shared));
    });
}
