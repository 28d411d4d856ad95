//! Workers as processes of their own: many at once, killed, stopped and woken.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use agent_runner::queue::{Claim, End, Queue, State};
use sqlx::Row as _;

use super::{MINUTE, Place, block_on, claim_any, connect, key, open, work};
use crate::support::eventually;

const WORKER: &str = "queue::workers::a_worker";
const URL: &str = "AGENT_RUNNER_TEST_QUEUE";
const MANNER: &str = "AGENT_RUNNER_TEST_MANNER";
const SHORT: Duration = Duration::from_millis(1500);

/// This test binary once more, as a worker.
#[derive(Debug)]
struct Worker {
    child: Child,
    says: BufReader<ChildStdout>,
    hears: ChildStdin,
}

impl Worker {
    fn start(place: &Place, manner: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", WORKER, "--nocapture"])
            .env(URL, place.url())
            .env(MANNER, manner)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            says: BufReader::new(child.stdout.take().unwrap()),
            hears: child.stdin.take().unwrap(),
            child,
        }
    }

    /// Waits for a line that begins with the word, and gives its rest.
    #[track_caller]
    fn hear(&mut self, word: &str) -> String {
        let mut line = String::new();
        while self.says.read_line(&mut line).unwrap() > 0 {
            // The test harness begins its own line.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
            line.clear();
        }
        panic!("the worker ended without saying {word}");
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "other tests start it as a process of its own"]
fn a_worker() {
    let Ok(url) = std::env::var(URL) else { return };
    let manner = std::env::var(MANNER).unwrap();
    block_on(async {
        let queue = open(&url).await;
        match manner.as_str() {
            "hold" => hold(&queue).await,
            manner => drain(&queue, &url, manner).await,
        }
        queue.close().await;
    });
}

/// Tells the test that started this process.
#[expect(clippy::print_stdout, reason = "its standard output is the test's")]
fn say(line: &str) {
    println!("\n{line}");
}

/// Claims one work, waits to be told, and tries all that a holder may do.
async fn hold(queue: &Queue) {
    let claim = claim_any(queue, "a process", SHORT).await.unwrap();
    say(&format!("claimed {}", claim.fence));
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let may = [
        queue.renew(&claim, MINUTE).await.unwrap(),
        queue.note(&claim, "mine").await.unwrap(),
        queue.finish(&claim, &End::Done).await.unwrap(),
    ];
    say(&format!("may {may:?}"));
}

/// Does all works, and writes down each claim where a second at the same time would collide.
async fn drain(queue: &Queue, url: &str, name: &str) {
    let mut log = connect(url).await;
    let mut done = 0;
    while let Some(claim) = claim_any(queue, name, MINUTE).await {
        for statement in [
            "INSERT INTO at_work (work_key) VALUES ($1)",
            "DELETE FROM at_work WHERE work_key = $1",
        ] {
            let query = sqlx::query(statement).bind(claim.key.as_str());
            query.execute(&mut log).await.unwrap();
        }
        sqlx::query("INSERT INTO claim_log (work_key, fence) VALUES ($1, $2)")
            .bind(claim.key.as_str())
            .bind(claim.fence)
            .execute(&mut log)
            .await
            .unwrap();
        // Every fifth is given back once.
        let end = if claim.key.as_str().starts_with(['0', '1', '2']) && claim.fence == 1 {
            End::Retry {
                after: Duration::ZERO,
                reason: "once more".to_owned(),
                counts: true,
            }
        } else {
            done += 1;
            End::Done
        };
        assert!(queue.finish(&claim, &end).await.unwrap());
    }
    say(&format!("done {done}"));
}

#[test]
fn eight_processes_never_hold_the_same_work_at_once() {
    const WORKS: usize = 200;
    for place in Place::all() {
        block_on(async {
            let queue = place.open().await;
            let works: Vec<_> = (0..WORKS).map(work).collect();
            assert_eq!(queue.offer(&works).await.unwrap(), WORKS);
            place
                .execute("CREATE TABLE at_work (work_key TEXT PRIMARY KEY)")
                .await;
            place
                .execute("CREATE TABLE claim_log (work_key TEXT, fence BIGINT, PRIMARY KEY (work_key, fence))")
                .await;
            queue.close().await;
        });
        let mut workers: Vec<Worker> = (0..8)
            .map(|number| Worker::start(&place, &format!("worker {number}")))
            .collect();
        let done: usize = workers
            .iter_mut()
            .map(|worker| worker.hear("done ").parse::<usize>().unwrap())
            .sum();
        assert_eq!(done, WORKS, "{place:?}");
        block_on(async {
            let works = place.open().await.list().await.unwrap();
            assert!(works.iter().all(|work| work.state == State::Done));
            let fences: i64 = works.iter().map(|work| work.fence).sum();
            let log = sqlx::query("SELECT count(*) FROM claim_log");
            let row = log.fetch_one(&mut place.connect().await).await.unwrap();
            assert_eq!(row.get::<i64, _>(0), fences, "{place:?}");
            assert!(fences > i64::try_from(WORKS).unwrap());
        });
    }
}

/// Waits until the lease of the other has run out by itself, and takes the work over.
fn take_over(place: &Place) -> Claim {
    let mut taken = None;
    let is_taken = eventually(Duration::from_secs(30), || {
        taken = block_on(async {
            let queue = place.open().await;
            let claim = claim_any(&queue, "a successor", MINUTE).await;
            queue.close().await;
            claim
        });
        taken.is_some()
    });
    assert!(is_taken, "{place:?}");
    taken.unwrap()
}

fn offer_one(place: &Place) {
    block_on(async {
        let queue = place.open().await;
        queue.offer(&[work(1)]).await.unwrap();
        queue.close().await;
    });
}

#[test]
fn the_work_of_a_killed_holder_is_taken_over_after_its_lease() {
    for place in Place::all() {
        offer_one(&place);
        let mut worker = Worker::start(&place, "hold");
        assert_eq!(worker.hear("claimed "), "1");
        worker.signal("-KILL");
        let claim = take_over(&place);
        assert_eq!((claim.fence, claim.attempt), (2, 2), "{place:?}");
    }
}

#[test]
fn a_stopped_holder_that_wakes_up_too_late_is_refused() {
    for place in Place::all() {
        offer_one(&place);
        let mut worker = Worker::start(&place, "hold");
        assert_eq!(worker.hear("claimed "), "1");
        worker.signal("-STOP");
        let claim = take_over(&place);
        worker.signal("-CONT");
        worker.hears.write_all(b"go on\n").unwrap();
        assert_eq!(worker.hear("may "), "[false, false, false]", "{place:?}");
        block_on(async {
            let queue = place.open().await;
            let work = queue.state(&key(1)).await.unwrap().unwrap();
            assert_eq!((work.state, work.notes), (State::Claimed, None));
            assert!(queue.finish(&claim, &End::Done).await.unwrap());
        });
    }
}

#[test]
fn a_holder_that_nobody_replaced_may_still_finish() {
    for place in Place::all() {
        offer_one(&place);
        let mut worker = Worker::start(&place, "hold");
        assert_eq!(worker.hear("claimed "), "1");
        block_on(place.pass(MINUTE));
        worker.hears.write_all(b"go on\n").unwrap();
        assert_eq!(worker.hear("may "), "[true, true, true]", "{place:?}");
    }
}
