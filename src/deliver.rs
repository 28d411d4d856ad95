//! Delivering what waits in the outbox: the one place where the outbox and a notifier meet.

use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::model::clock::Clock;
use crate::model::record::{NotificationRecord, NotificationState};
use crate::notify::{Notifier, NotifyError};
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::outbox::{Age, Outbox, Waiting};
use crate::store::reader::read_record;
use crate::store::recorder::update_notification;

/// What became of the notifications that waited.
#[derive(Debug, Default)]
pub struct Delivered {
    /// The server has them.
    pub delivered: usize,
    /// The server refused them for good; they are put aside.
    pub refused: usize,
    /// They had waited too long and are gone.
    pub expired: usize,
    /// They wait on.
    pub left: usize,
    /// Why one that was tried failed.
    pub error: Option<NotifyError>,
}

/// Delivers the notifications that wait, in order, and notes in each run's record what became of
/// its own.
///
/// Takes about `limit` at most. Stops trying at the first failure that may pass; what cannot be
/// delivered and is too old expires. A notification
/// whose run has no final record yet is left: the two might not agree. While another process
/// delivers, nothing is done.
pub async fn deliver(
    layout: &Layout,
    notifier: &dyn Notifier,
    limit: Duration,
    clock: &dyn Clock,
) -> Result<Delivered, StoreError> {
    let deadline = Instant::now() + limit;
    let outbox = Outbox::new(layout);
    let mut told = Delivered::default();
    let pending = outbox.pending()?.len();
    if pending == 0 {
        return Ok(told);
    }
    let Some(delivery) = outbox.try_deliver()? else {
        told.left = pending;
        return Ok(told);
    };
    for mut waiting in delivery.waiting()? {
        let run = waiting.entry.run.as_ref();
        let record = run.map(|run| read_record(&layout.run(run), run));
        if record
            .as_ref()
            .is_some_and(|record| !record.outcome.is_final())
        {
            told.left += 1;
            continue;
        }
        if record.is_some_and(|record| is_delivered(&record.notification, &waiting)) {
            // Whoever delivered it died before it could be removed.
            delivery.done(&waiting)?;
            continue;
        }
        let is_tried = !told.error.as_ref().is_some_and(NotifyError::is_transient);
        let mut state = NotificationState::Pending;
        if is_tried {
            waiting.entry.attempts += 1;
            let publishing = timeout_at(deadline, notifier.publish(&waiting.entry.message));
            let late = |elapsed: Elapsed| Err(NotifyError::Transient(elapsed.into()));
            state = match publishing.await.unwrap_or_else(late) {
                Ok(()) => NotificationState::Delivered,
                Err(error) => told.fail(error),
            };
        }
        if state == NotificationState::Pending {
            let now = clock.now();
            match waiting.entry.age(now) {
                Age::Kept if is_tried => {}
                Age::Kept => {
                    told.left += 1;
                    continue;
                }
                Age::Expired => state = NotificationState::Expired,
                Age::Unbelievable => waiting.entry.created = now,
            }
        }
        let noted = note(layout, &waiting, state, clock);
        match state {
            NotificationState::Delivered => {
                told.delivered += 1;
                delivery.done(&waiting)?;
            }
            NotificationState::Expired => {
                told.expired += 1;
                delivery.done(&waiting)?;
            }
            NotificationState::Refused => {
                told.refused += 1;
                delivery.refuse(&waiting)?;
            }
            NotificationState::Pending | NotificationState::Disabled => {
                told.left += 1;
                delivery.keep(&waiting)?;
            }
        }
        noted?;
    }
    Ok(told)
}

impl Delivered {
    /// Keeps a failure; one that may pass outranks a refusal, which concerns one notification.
    fn fail(&mut self, error: NotifyError) -> NotificationState {
        let transient = error.is_transient();
        if transient || self.error.is_none() {
            self.error = Some(error);
        }
        if transient {
            NotificationState::Pending
        } else {
            NotificationState::Refused
        }
    }
}

fn is_delivered(told: &NotificationRecord, waiting: &Waiting) -> bool {
    told.state == NotificationState::Delivered && told.id.as_deref() == Some(waiting.entry.id())
}

/// Notes in the run's record what became of its notification.
fn note(
    layout: &Layout,
    waiting: &Waiting,
    state: NotificationState,
    clock: &dyn Clock,
) -> Result<(), StoreError> {
    let Some(run) = &waiting.entry.run else {
        return Ok(());
    };
    let notification = NotificationRecord {
        state,
        id: Some(waiting.entry.id().to_owned()),
        attempts: waiting.entry.attempts,
        delivered_at: (state == NotificationState::Delivered).then(|| clock.now()),
    };
    update_notification(layout, run, &notification)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::future;

    use chrono::{DateTime, TimeDelta, Utc};
    use tempfile::TempDir;

    use super::*;
    use crate::model::ids::RunPath;
    use crate::model::message::{Message, Priority};
    use crate::model::outcome::Outcome;
    use crate::model::record::Record;
    use crate::notify::Publishing;
    use crate::store::outbox::Entry;
    use crate::store::reader::read_run;
    use crate::store::recorder::RunFolder;

    #[derive(Debug)]
    struct At(Cell<DateTime<Utc>>);

    impl Clock for At {
        fn now(&self) -> DateTime<Utc> {
            self.0.get()
        }
    }

    /// What the server does with the next notification; it accepts all further ones.
    #[derive(Clone, Copy, Debug)]
    enum Next {
        Accept,
        Fail,
        Refuse,
        Hang,
    }

    #[derive(Debug, Default)]
    struct Server {
        script: RefCell<VecDeque<Next>>,
        titles: RefCell<Vec<String>>,
    }

    impl Notifier for Server {
        fn publish<'a>(&'a self, message: &'a Message) -> Publishing<'a> {
            let next = self.script.borrow_mut().pop_front();
            Box::pin(async move {
                match next.unwrap_or(Next::Accept) {
                    Next::Accept => {
                        self.titles.borrow_mut().push(message.title.clone());
                        Ok(())
                    }
                    Next::Fail => Err(NotifyError::Transient("down".into())),
                    Next::Refuse => Err(NotifyError::Refused("no".into())),
                    Next::Hang => future::pending().await,
                }
            })
        }
    }

    struct Stage {
        _root: TempDir,
        layout: Layout,
        clock: At,
        server: Server,
    }

    impl Stage {
        fn new(script: &[Next]) -> Self {
            let root = tempfile::tempdir().unwrap();
            Self {
                layout: Layout::new(root.path().join("logs")),
                _root: root,
                clock: At(Cell::new("2026-02-19T20:40:03Z".parse().unwrap())),
                server: Server {
                    script: RefCell::new(script.iter().copied().collect()),
                    titles: RefCell::default(),
                },
            }
        }

        /// A run whose notification waits and whose record is not final.
        fn begin(&self, title: &str) -> (RunFolder, Record) {
            let (task, agent) = ("nightly".parse().unwrap(), "claude".parse().unwrap());
            let now = self.clock.now();
            let folder = RunFolder::create(&self.layout, &task, &agent, now).unwrap();
            let run = folder.run().clone();
            let mut record = Record::begun(&task, &agent, run.run_id.clone(), now);
            folder.begin(&record).unwrap();
            record.outcome = Outcome::Success;
            let message = Message {
                title: title.to_owned(),
                body: String::new(),
                priority: Priority::Default,
                tags: Vec::new(),
            };
            let entry = Entry::of_run(&run, record.outcome, message, now);
            Outbox::new(&self.layout).put(&entry).unwrap();
            record.notification.state = NotificationState::Pending;
            record.notification.id = Some(entry.id().to_owned());
            (folder, record)
        }

        fn finish(&self, title: &str) -> RunPath {
            let (folder, record) = self.begin(title);
            let run = folder.run().clone();
            folder.finish(&record).unwrap();
            run
        }

        fn deliver(&self) -> Delivered {
            let limit = Duration::from_millis(50);
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(deliver(&self.layout, &self.server, limit, &self.clock))
                .unwrap()
        }

        fn notification(&self, run: &RunPath) -> NotificationRecord {
            read_run(&self.layout, run.clone()).record.notification
        }

        #[track_caller]
        fn check(&self, expected: (usize, usize, usize, usize), titles: &[&str]) {
            let told = self.deliver();
            let counts = (told.delivered, told.refused, told.expired, told.left);
            assert_eq!(counts, expected, "{told:?}");
            assert_eq!(*self.server.titles.borrow(), titles);
        }
    }

    #[test]
    fn what_waits_is_delivered_once_in_order_and_noted() {
        let stage = Stage::new(&[]);
        let runs = ["one", "two", "three"].map(|title| stage.finish(title));
        stage.check((3, 0, 0, 0), &["one", "two", "three"]);
        stage.check((0, 0, 0, 0), &["one", "two", "three"]);
        for run in &runs {
            let told = stage.notification(run);
            assert_eq!(
                (told.state, told.attempts),
                (NotificationState::Delivered, 1)
            );
            assert_eq!(told.delivered_at, Some(stage.clock.now()));
        }
    }

    #[test]
    fn a_failure_that_may_pass_keeps_everything_in_order() {
        for failure in [Next::Fail, Next::Hang] {
            let stage = Stage::new(&[Next::Accept, failure]);
            let runs = ["one", "two", "three"].map(|title| stage.finish(title));
            stage.check((1, 0, 0, 2), &["one"]);
            let told = stage.notification(&runs[1]);
            assert_eq!((told.state, told.attempts), (NotificationState::Pending, 1));
            stage.check((2, 0, 0, 0), &["one", "two", "three"]);
            assert_eq!(stage.notification(&runs[1]).attempts, 2);
        }
    }

    #[test]
    fn a_refused_notification_is_put_aside_and_holds_up_nothing() {
        let stage = Stage::new(&[Next::Refuse]);
        let refused = stage.finish("one");
        stage.finish("two");
        stage.check((1, 1, 0, 0), &["two"]);
        assert_eq!(
            stage.notification(&refused).state,
            NotificationState::Refused
        );
        assert_eq!(Outbox::new(&stage.layout).refused().unwrap().len(), 1);
    }

    #[test]
    fn a_run_without_a_final_record_is_not_told_of_and_holds_up_nothing() {
        let stage = Stage::new(&[]);
        let (folder, record) = stage.begin("one");
        stage.finish("two");
        stage.check((1, 0, 0, 1), &["two"]);
        folder.finish(&record).unwrap();
        stage.check((1, 0, 0, 0), &["two", "one"]);
    }

    #[test]
    fn what_was_delivered_before_a_crash_is_not_delivered_again() {
        let stage = Stage::new(&[]);
        let (folder, mut record) = stage.begin("one");
        record.notification.state = NotificationState::Delivered;
        folder.finish(&record).unwrap();
        stage.check((0, 0, 0, 0), &[]);
        assert!(Outbox::new(&stage.layout).pending().unwrap().is_empty());
    }

    #[test]
    fn what_waited_for_a_week_expires_even_while_the_server_is_down() {
        let stage = Stage::new(&[Next::Fail]);
        let old = stage.finish("old");
        stage.clock.0.set(stage.clock.now() + TimeDelta::days(6));
        stage.finish("new");
        stage.check((0, 0, 0, 2), &[]);
        stage.clock.0.set(stage.clock.now() + TimeDelta::days(2));
        stage.server.script.borrow_mut().push_back(Next::Fail);
        stage.check((0, 0, 1, 1), &[]);
        assert_eq!(stage.notification(&old).state, NotificationState::Expired);
    }

    #[test]
    fn a_clock_that_is_set_expires_nothing() {
        let stage = Stage::new(&[Next::Fail, Next::Fail, Next::Fail]);
        stage.finish("one");
        stage.finish("two");
        let jump = |days| stage.clock.0.set(stage.clock.now() + TimeDelta::days(days));
        for days in [3_650, -20_000, 40_000] {
            jump(days);
            stage.check((0, 0, 0, 2), &[]);
        }
        jump(8);
        stage.check((2, 0, 0, 0), &["one", "two"]);
    }

    #[test]
    fn a_run_that_was_cleaned_away_is_told_of_all_the_same() {
        let stage = Stage::new(&[]);
        let run = stage.finish("one");
        std::fs::remove_dir_all(stage.layout.run(&run).path()).unwrap();
        stage.check((1, 0, 0, 0), &["one"]);
    }

    #[test]
    fn while_somebody_else_delivers_nothing_is_done() {
        let stage = Stage::new(&[]);
        stage.finish("one");
        let outbox = Outbox::new(&stage.layout);
        let delivery = outbox.try_deliver().unwrap().unwrap();
        stage.check((0, 0, 0, 1), &[]);
        drop(delivery);
        stage.check((1, 0, 0, 0), &["one"]);
    }
}
