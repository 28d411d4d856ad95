//! The queue does what a model in memory does, whatever happens in whatever order.

use std::thread;
use std::time::Duration;

use agent_runner::model::dispatch::WorkKey;
use agent_runner::queue::{Claim, End, NewWork, Queue, State};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{MINUTE, Place, block_on, key, work};

/// All pairs of an author and a repository, one of them twice.
const WORKS: usize = 8;

#[derive(Clone, Debug)]
enum Step {
    Offer(Vec<usize>),
    Claim(Vec<usize>, u32),
    Renew(usize, u32),
    Note(usize),
    Finish(usize, Finish),
    Reset(usize),
    Cancel(usize),
    Pass(u32),
}

#[derive(Clone, Copy, Debug)]
enum Finish {
    Done,
    Rested,
    Cancelled,
    Retry { minutes: u32, counts: bool },
}

impl Finish {
    fn end(self) -> End {
        let reason = "why\0not".to_owned();
        match self {
            Self::Done => End::Done,
            Self::Rested => End::Rested { reason },
            Self::Cancelled => End::Cancelled { reason },
            Self::Retry { minutes, counts } => End::Retry {
                after: minutes * MINUTE,
                reason,
                counts,
            },
        }
    }

    fn state(self) -> State {
        match self {
            Self::Done => State::Done,
            Self::Rested => State::Rested,
            Self::Cancelled => State::Cancelled,
            Self::Retry { .. } => State::Retrying,
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let works = || proptest::collection::vec(0..WORKS, 1..=WORKS);
    let finish = prop_oneof![
        Just(Finish::Done),
        Just(Finish::Rested),
        Just(Finish::Cancelled),
        (1u32..9, any::<bool>()).prop_map(|(minutes, counts)| Finish::Retry { minutes, counts }),
    ];
    prop_oneof![
        2 => works().prop_map(Step::Offer),
        6 => (works(), 1u32..20).prop_map(|(works, minutes)| Step::Claim(works, minutes)),
        2 => (0usize..20, 1u32..20).prop_map(|(claim, minutes)| Step::Renew(claim, minutes)),
        1 => (0usize..20).prop_map(Step::Note),
        4 => (0usize..20, finish).prop_map(|(claim, finish)| Step::Finish(claim, finish)),
        1 => (0..WORKS).prop_map(Step::Reset),
        1 => (0..WORKS).prop_map(Step::Cancel),
        3 => (1u32..15).prop_map(Step::Pass),
    ]
}

/// A work as it must be; times in minutes.
#[derive(Clone, Debug)]
struct Row {
    state: State,
    fence: i64,
    attempts: u32,
    lease_until: u32,
    not_before: u32,
    notes: Option<String>,
    /// The number of its latest claim among all claims.
    served: u32,
}

#[derive(Debug, Default)]
struct Model {
    rows: [Option<Row>; WORKS],
    now: u32,
    claims: u32,
}

impl Model {
    fn offer(&mut self, works: &[usize]) -> usize {
        let mut added = 0;
        for number in works {
            self.rows[*number].get_or_insert_with(|| {
                added += 1;
                Row {
                    state: State::Waiting,
                    fence: 0,
                    attempts: 0,
                    lease_until: 0,
                    not_before: 0,
                    notes: None,
                    served: 0,
                }
            });
        }
        added
    }

    fn is_held(&self, row: &Row) -> bool {
        row.state == State::Claimed && row.lease_until > self.now
    }

    fn claim(&mut self, candidates: &[usize], minutes: u32) -> Option<(usize, i64, u32)> {
        let is_ready = |row: &Row| match row.state {
            State::Waiting | State::Retrying => row.not_before <= self.now,
            State::Claimed => row.lease_until <= self.now,
            State::Done | State::Rested | State::Cancelled => false,
        };
        // How many works like this one are in progress, and when the latest of them was served.
        let turn = |same: &dyn Fn(usize) -> bool| {
            let rows = self.rows.iter().enumerate();
            let rows = rows.filter(|(other, _)| same(*other));
            let rows: Vec<&Row> = rows.filter_map(|(_, row)| row.as_ref()).collect();
            let held = rows.iter().filter(|row| self.is_held(row)).count();
            (held, rows.iter().map(|row| row.served).max())
        };
        let next = candidates
            .iter()
            .copied()
            .filter(|number| self.rows[*number].as_ref().is_some_and(is_ready))
            .min_by_key(|number| {
                let is_author = |other: usize| other % 3 == number % 3;
                (
                    turn(&is_author),
                    turn(&|other| is_author(other) && other % 2 == number % 2),
                    work(*number).created,
                    key(*number),
                )
            })?;
        self.claims += 1;
        let served = self.claims;
        let lease_until = self.now + minutes;
        let row = self.rows[next].as_mut()?;
        row.state = State::Claimed;
        row.lease_until = lease_until;
        row.fence += 1;
        row.attempts += 1;
        row.served = served;
        Some((next, row.fence, row.attempts))
    }

    fn row(&mut self, key: &WorkKey) -> &mut Row {
        let number = (0..WORKS).find(|number| super::key(*number) == *key);
        self.rows[number.unwrap()].as_mut().unwrap()
    }

    fn held_by(&mut self, claim: &Claim) -> Option<&mut Row> {
        let row = self.row(&claim.key);
        (row.state == State::Claimed && row.fence == claim.fence).then_some(row)
    }

    fn finish(&mut self, claim: &Claim, finish: Finish) -> bool {
        let now = self.now;
        let row = self.row(&claim.key);
        let is_repeated = row.state == finish.state();
        if row.fence != claim.fence || !(row.state == State::Claimed || is_repeated) {
            return false;
        }
        row.state = finish.state();
        if let Finish::Retry { minutes, counts } = finish {
            row.not_before = now + minutes;
            row.attempts -= u32::from(!counts && !is_repeated);
        }
        true
    }

    fn change_unheld(&mut self, number: usize, change: impl FnOnce(&mut Row)) -> bool {
        let now = self.now;
        match &mut self.rows[number] {
            Some(row) if row.state != State::Claimed || row.lease_until <= now => {
                row.fence += 1;
                change(row);
                true
            }
            _ => false,
        }
    }

    fn reset(&mut self, number: usize) -> bool {
        self.change_unheld(number, |row| {
            row.state = State::Waiting;
            row.attempts = 0;
            row.not_before = 0;
            row.notes = None;
        })
    }

    fn cancel(&mut self, number: usize) -> bool {
        let open = [State::Waiting, State::Retrying, State::Claimed];
        let is_open = self.rows[number]
            .as_ref()
            .is_some_and(|row| open.contains(&row.state));
        is_open && self.change_unheld(number, |row| row.state = State::Cancelled)
    }
}

async fn check(place: &Place, queue: &Queue, steps: &[Step]) {
    let mut model = Model::default();
    let mut claims: Vec<Claim> = Vec::new();
    for step in steps {
        let claim =
            |number: usize| (!claims.is_empty()).then(|| claims[number % claims.len()].clone());
        match step.clone() {
            Step::Offer(numbers) => {
                let works: Vec<_> = numbers.iter().map(|number| work(*number)).collect();
                assert_eq!(queue.offer(&works).await.unwrap(), model.offer(&numbers));
            }
            Step::Claim(numbers, minutes) => {
                let keys: Vec<WorkKey> = numbers.iter().map(|number| key(*number)).collect();
                let claim = queue.claim("me", minutes * MINUTE, &keys).await.unwrap();
                let expected = model.claim(&numbers, minutes);
                let found = claim
                    .as_ref()
                    .map(|claim| (claim.key.clone(), claim.fence, claim.attempt));
                assert_eq!(
                    found,
                    expected.map(|(number, fence, attempt)| (key(number), fence, attempt))
                );
                claims.extend(claim);
            }
            Step::Renew(number, minutes) => {
                let Some(claim) = claim(number) else { continue };
                let now = model.now;
                let row = model.held_by(&claim);
                let expected = row.map(|row| row.lease_until = now + minutes).is_some();
                assert_eq!(
                    queue.renew(&claim, minutes * MINUTE).await.unwrap(),
                    expected
                );
            }
            Step::Note(number) => {
                let Some(claim) = claim(number) else { continue };
                let notes = format!("{{\"of\":{}}}", claim.fence);
                let row = model.held_by(&claim);
                let expected = row.map(|row| row.notes = Some(notes.clone())).is_some();
                assert_eq!(queue.note(&claim, &notes).await.unwrap(), expected);
                assert_eq!(queue.set_revision(&claim, &notes).await.unwrap(), expected);
            }
            Step::Finish(number, finish) => {
                let Some(claim) = claim(number) else { continue };
                let expected = model.finish(&claim, finish);
                assert_eq!(queue.finish(&claim, &finish.end()).await.unwrap(), expected);
            }
            Step::Reset(number) => {
                assert_eq!(
                    queue.reset(&key(number)).await.unwrap(),
                    model.reset(number)
                );
            }
            Step::Cancel(number) => {
                let cancelled = queue.cancel(&key(number), "gone").await.unwrap();
                assert_eq!(cancelled, model.cancel(number));
            }
            Step::Pass(minutes) => {
                place.pass(minutes * MINUTE).await;
                model.now += minutes;
            }
        }
    }
    for (number, row) in model.rows.iter().enumerate() {
        let found = queue.state(&key(number)).await.unwrap();
        let seen = found.as_ref().map(|found| {
            (
                found.state,
                found.fence,
                found.attempts,
                found.notes.clone(),
                found.is_lapsed,
            )
        });
        let expected = row.as_ref().map(|row| {
            let is_lapsed = row.state == State::Claimed && row.lease_until <= model.now;
            (
                row.state,
                row.fence,
                row.attempts,
                row.notes.clone(),
                is_lapsed,
            )
        });
        assert_eq!(seen, expected, "work {number}");
        if let Some(found) = found {
            let offered = work(number);
            assert_eq!(
                (found.origin, found.payload, found.created),
                (offered.origin, offered.payload, offered.created)
            );
            assert_eq!(found.notes, found.revision);
            assert_eq!(found.holder.is_some(), found.state == State::Claimed);
            assert_eq!(found.lease_until.is_some(), found.state == State::Claimed);
            assert_eq!(found.not_before.is_some(), found.state == State::Retrying);
        }
    }
}

fn check_many(place: &Place, cases: u32) {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = proptest::collection::vec(step(), 1..50);
    let ran = TestRunner::new(config).run(&steps, |steps| {
        block_on(async {
            let queue = place.open().await;
            place.execute("DELETE FROM agent_runner_work").await;
            check(place, &queue, &steps).await;
            queue.close().await;
        });
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn claims_leases_and_ends_follow_the_model() {
    for place in Place::all() {
        check_many(&place, 60);
    }
}

#[test]
fn works_that_are_numbered_at_the_same_time_have_different_numbers() {
    for place in Place::all() {
        let give = &|number: usize| {
            block_on(async {
                let queue = place.open().await;
                let numbered = queue.offer_numbered("local#", |next| NewWork {
                    origin: format!("local#{next}"),
                    ..work(number % 8)
                });
                numbered.await.unwrap()
            })
        };
        // Each is offered twice, and is one work.
        let added = thread::scope(|scope| {
            let hands: Vec<_> = (0..16).map(|n| scope.spawn(move || give(n))).collect();
            let added = hands.into_iter().map(|hand| hand.join().unwrap());
            added.filter(|is_new| *is_new).count()
        });
        assert_eq!(added, 8, "{place:?}");
        let works = block_on(async { place.open().await.list().await.unwrap() });
        let mut origins: Vec<_> = works.into_iter().map(|work| work.origin).collect();
        origins.sort();
        let expected: Vec<_> = (1..=8).map(|number| format!("local#{number}")).collect();
        assert_eq!(origins, expected, "{place:?}");
    }
}

#[test]
fn works_in_progress_of_authors_and_their_repositories_take_turns() {
    for place in Place::all() {
        block_on(async {
            let queue = place.open().await;
            let mut works: Vec<_> = (0..8).map(work).collect();
            for (number, work) in works.iter_mut().enumerate() {
                // Seven of one repository, older than the one of another.
                work.group_repository = if number == 7 { "b/b" } else { "a/a" }.to_owned();
                work.group_author = if number == 6 { "two" } else { "one" }.to_owned();
                work.created += Duration::from_secs(number as u64 * 100);
            }
            queue.offer(&works).await.unwrap();
            let mut order = Vec::new();
            while let Some(claim) = super::claim_any(&queue, "me", MINUTE).await {
                order.push(claim.key);
            }
            // The oldest; the other author; the other repository; the rest by age.
            let expected = [0, 6, 7, 1, 2, 3, 4, 5].map(key);
            assert_eq!(order, expected, "{place:?}");
        });
    }
}

/// Works off the queue one by one, and tells which work came when.
async fn work_off(queue: &Queue) -> Vec<usize> {
    let mut order = Vec::new();
    while let Some(claim) = super::claim_any(queue, "me", MINUTE).await {
        assert!(queue.finish(&claim, &End::Done).await.unwrap());
        order.push(claim.origin.rsplit_once('#').unwrap().1.parse().unwrap());
    }
    order
}

#[test]
fn one_hand_serves_the_single_issue_of_another_author_or_repository_at_once() {
    /// So many older issues of one author for one repository.
    const CROWD: usize = 200;
    for place in Place::all() {
        block_on(async {
            let queue = place.open().await;
            let single = |number: usize, author: &str, repository: &str| {
                let mut single = work(number);
                single.group_author = author.to_owned();
                single.group_repository = repository.to_owned();
                single.created += Duration::from_secs(number as u64 * 100);
                single
            };
            let crowd = (0..CROWD).map(|number| single(number, "many", "a/a"));
            queue.offer(&crowd.collect::<Vec<_>>()).await.unwrap();
            // The crowd has been served for a while, and nothing is in progress.
            for _ in 0..3 {
                let claim = super::claim_any(&queue, "me", MINUTE).await.unwrap();
                assert!(queue.finish(&claim, &End::Done).await.unwrap());
            }
            let late = [
                single(CROWD, "one", "a/a"),
                single(CROWD + 1, "many", "b/b"),
                single(CROWD + 2, "one", "c/c"),
            ];
            queue.offer(&late).await.unwrap();
            let order = work_off(&queue).await;
            assert_eq!(order[..5], [CROWD, CROWD + 1, CROWD + 2, 3, 4], "{place:?}");
            assert_eq!(order.len(), CROWD);
        });
    }
}

#[test]
fn nobody_is_passed_over_twice_whoever_asks_for_how_much() {
    let place = Place::sqlite();
    let groups = proptest::collection::vec((0usize..4, 0usize..4), 1..60);
    let config = Config {
        cases: 30,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&groups, |groups| {
        block_on(async {
            let queue = place.open().await;
            place.execute("DELETE FROM agent_runner_work").await;
            let works = groups
                .iter()
                .enumerate()
                .map(|(number, (author, repository))| {
                    let mut work = work(number);
                    work.group_author = author.to_string();
                    work.group_repository = repository.to_string();
                    work
                });
            queue.offer(&works.collect::<Vec<_>>()).await.unwrap();
            let order: Vec<_> = work_off(&queue)
                .await
                .into_iter()
                .map(|n| groups[n])
                .collect();
            assert_eq!(order.len(), groups.len());
            let authors: Vec<_> = order.iter().map(|(author, _)| *author).collect();
            assert_turns(&authors);
            for wanted in 0..4 {
                let own = order.iter().filter(|(author, _)| *author == wanted);
                assert_turns(&own.map(|(_, repository)| *repository).collect::<Vec<_>>());
            }
            queue.close().await;
        });
        Ok(())
    });
    ran.unwrap();
}

/// Who still waits has one turn between two turns of anybody else.
#[track_caller]
fn assert_turns(order: &[usize]) {
    for (at, turn) in order.iter().enumerate() {
        let Some(next) = order[at + 1..].iter().position(|other| other == turn) else {
            continue;
        };
        let (between, after) = order[at + 1..].split_at(next);
        for waiting in after {
            assert!(waiting == turn || between.contains(waiting), "{order:?}");
        }
    }
}

#[test]
fn ended_works_are_forgotten_after_their_time_and_no_others() {
    for place in Place::all() {
        block_on(async {
            let of_a_source = |number| NewWork {
                payload: work(number).payload.filter(|_| number == 0),
                ..work(number)
            };
            let queue = place.open().await;
            queue
                .offer(&(0..8).map(of_a_source).collect::<Vec<_>>())
                .await
                .unwrap();
            let reason = || "why".to_owned();
            let ends = [
                End::Done,
                End::Rested { reason: reason() },
                End::Cancelled { reason: reason() },
                End::Retry {
                    after: Duration::ZERO,
                    reason: reason(),
                    counts: true,
                },
            ];
            for (number, end) in ends.iter().chain(&ends[..1]).enumerate() {
                let claim = queue
                    .claim("me", MINUTE, &[key(number)])
                    .await
                    .unwrap()
                    .unwrap();
                assert!(queue.finish(&claim, end).await.unwrap());
            }
            queue.claim("me", MINUTE, &[key(5)]).await.unwrap().unwrap();
            let old = "UPDATE agent_runner_work SET changed_at = changed_at - 3600000, lease_until = 1 \
                       WHERE origin <> 'owner/dispatch#4'";
            place.execute(old).await;
            assert_eq!(queue.prune(2 * 60 * MINUTE).await.unwrap(), 0);
            assert_eq!(queue.prune(30 * MINUTE).await.unwrap(), 2, "{place:?}");
            let left = queue.list().await.unwrap().into_iter().map(|work| work.key);
            let mut left: Vec<_> = left.collect();
            left.sort();
            // The first is known to the queue alone.
            let mut expected = [0, 3, 4, 5, 6, 7].map(key);
            expected.sort();
            assert_eq!(left, expected, "{place:?}");
        });
    }
}
