//! Delivering what waits in the outbox: the one place where the outbox and a notifier meet.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::model::clock::Clock;
use crate::model::ids::RunPath;
use crate::model::message::Message;
use crate::model::record::{NotificationRecord, NotificationState};
use crate::model::text;
use crate::notify::wording::{self, Event};
use crate::notify::{Notifier, NotifyError};
use crate::store::StoreError;
use crate::store::digest::{Digest, is_digest};
use crate::store::layout::Layout;
use crate::store::outbox::{Age, Delivery, Entry, Outbox, Waiting};
use crate::store::reader::read_record;
use crate::store::recorder::{mark_delivered, update_notification};

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
    /// Why files of the outbox cannot be read: what is no notification is put aside, the others wait
    /// on.
    pub unread: Vec<StoreError>,
    /// What became of one that its run's record could not take, and why.
    pub unnoted: Option<(NotificationState, StoreError)>,
}

/// More that wait are told in one message: a server that comes back is not flooded, and neither is
/// the person who reads.
const MOST_SINGLE: usize = 20;

/// Delivers the notifications that wait, in order, and notes in each run's record what became of
/// its own. When many wait, they become one digest, whose id the records then name.
///
/// Takes about `limit` at most. Stops trying at the first failure that may pass; what cannot be
/// delivered and is too old expires. A notification whose run has no final record yet is left: the
/// two might not agree. While another process delivers, nothing is done.
pub async fn deliver(
    layout: &Layout,
    notifier: &dyn Notifier,
    limit: Duration,
    clock: &dyn Clock,
) -> Result<Delivered, StoreError> {
    let deadline = Instant::now() + limit;
    let outbox = Outbox::new(layout);
    let pending = outbox.count()?;
    if pending == 0 {
        return Ok(Delivered::default());
    }
    let Some(delivery) = outbox.try_deliver()? else {
        return Ok(Delivered {
            left: pending,
            ..Delivered::default()
        });
    };
    let mut courier = Courier {
        layout,
        notifier,
        deadline,
        clock,
        delivery,
        told: Delivered::default(),
    };
    let ready = courier.ready()?;
    let digest = courier.delivery.digest();
    let anew = || (ready.len() > MOST_SINGLE).then(|| Digest::new(clock.now()));
    let single = match digest.or_else(anew) {
        None => ready,
        Some(digest) if digest.delivered_at.is_some() => courier.note_members(&digest, ready)?,
        Some(digest) => {
            courier.together(digest, ready).await?;
            Vec::new()
        }
    };
    courier.one_by_one(single).await?;
    Ok(courier.told)
}

/// Publishes, once and within `limit`, the notification of an ended run that the outbox does not
/// take, and notes in the record that the server has it. Else recovery tries the outbox again.
pub async fn deliver_unkept(
    layout: &Layout,
    notifier: &dyn Notifier,
    entry: &Entry,
    limit: Duration,
    clock: &dyn Clock,
) -> Delivered {
    let mut told = Delivered::default();
    match publish(notifier, &entry.message, Instant::now() + limit).await {
        Ok(()) => told.delivered = 1,
        Err(error) => told.error = Some(error),
    }
    if let (Some(run), None) = (&entry.run, &told.error) {
        let notification = NotificationRecord {
            state: NotificationState::Delivered,
            id: Some(entry.id().to_owned()),
            attempts: 1,
            delivered_at: Some(clock.now()),
            configuration: None,
        };
        told.note(layout, run, &notification);
    }
    told
}

async fn publish(
    notifier: &dyn Notifier,
    message: &Message,
    deadline: Instant,
) -> Result<(), NotifyError> {
    let publishing = timeout_at(deadline, notifier.publish(message));
    let late = |elapsed: Elapsed| Err(NotifyError::Transient(elapsed.into()));
    publishing.await.unwrap_or_else(late)
}

/// One delivery under way.
struct Courier<'a> {
    layout: &'a Layout,
    notifier: &'a dyn Notifier,
    deadline: Instant,
    clock: &'a dyn Clock,
    delivery: Delivery<'a>,
    told: Delivered,
}

impl Courier<'_> {
    /// What is to be told now. What is told already is taken out.
    fn ready(&mut self) -> Result<Vec<Waiting>, StoreError> {
        let mut ready = Vec::new();
        let (waiting, unread) = self.delivery.waiting(self.clock.now())?;
        self.told.unread = unread;
        for waiting in waiting {
            let run = waiting.entry.run.as_ref();
            let record = run.map(|run| read_record(&self.layout.run(run), run));
            if (record.as_ref()).is_some_and(|record| !record.outcome.is_final()) {
                self.told.left += 1;
            } else if record.is_some_and(|record| is_delivered(&record.notification, &waiting)) {
                // Whoever delivered it died before it could be removed.
                self.delivery.done(&waiting)?;
            } else {
                ready.push(waiting);
            }
        }
        Ok(ready)
    }

    async fn one_by_one(&mut self, ready: Vec<Waiting>) -> Result<(), StoreError> {
        for mut waiting in ready {
            let is_tried = !(self.told.error.as_ref()).is_some_and(NotifyError::is_transient);
            let mut state = NotificationState::Pending;
            if is_tried {
                waiting.entry.attempts += 1;
                state = self.publish(&waiting.entry.message).await;
            }
            if state == NotificationState::Pending {
                self.keep_on(&mut waiting, is_tried)?;
            } else {
                self.end(&waiting, state)?;
            }
        }
        Ok(())
    }

    /// Lets one wait on that is not delivered, unless it is too old. `is_changed`: it is to be
    /// written anew.
    fn keep_on(&mut self, waiting: &mut Waiting, is_changed: bool) -> Result<(), StoreError> {
        let now = self.clock.now();
        match waiting.entry.age(now) {
            Age::Kept if is_changed => {}
            Age::Kept => {
                self.told.left += 1;
                return Ok(());
            }
            Age::Expired => return self.end(waiting, NotificationState::Expired),
            Age::Unbelievable => waiting.entry.created = now,
        }
        self.end(waiting, NotificationState::Pending)
    }

    /// Tells all of these in one message.
    async fn together(
        &mut self,
        mut digest: Digest,
        ready: Vec<Waiting>,
    ) -> Result<(), StoreError> {
        if ready.is_empty() {
            return self.delivery.remove_digest();
        }
        let entries = || ready.iter().map(|waiting| &waiting.entry);
        digest.members = entries().map(|entry| entry.id().to_owned()).collect();
        digest.attempts += 1;
        // Before it is published: whoever repeats it must give it the same id.
        self.delivery.keep_digest(&digest)?;
        let events: Vec<Event<'_>> = entries()
            .map(|entry| Event {
                run: entry.run.as_ref().zip(entry.outcome()),
                message: &entry.message,
            })
            .collect();
        let message = wording::digest(&digest.id, &events);
        match self.publish(&message).await {
            NotificationState::Delivered => {
                digest.delivered_at = Some(self.clock.now());
                self.delivery.keep_digest(&digest)?;
                self.note_members(&digest, ready)?;
            }
            NotificationState::Refused => {
                for waiting in &ready {
                    self.end(waiting, NotificationState::Refused)?;
                }
                self.delivery.remove_digest()?;
            }
            NotificationState::Pending
            | NotificationState::Disabled
            | NotificationState::Expired => {
                for mut waiting in ready {
                    self.keep_on(&mut waiting, false)?;
                }
            }
        }
        Ok(())
    }

    /// Notes in the records of what a delivered digest tells that it does; gives the rest.
    fn note_members(
        &mut self,
        digest: &Digest,
        ready: Vec<Waiting>,
    ) -> Result<Vec<Waiting>, StoreError> {
        let members: BTreeSet<&str> = digest.members.iter().map(String::as_str).collect();
        let is_member = |waiting: &Waiting| members.contains(waiting.entry.id());
        let (told, rest): (Vec<_>, Vec<_>) = ready.into_iter().partition(is_member);
        for (position, waiting) in told.iter().enumerate() {
            if Instant::now() > self.deadline {
                // Each record costs a sync; the next delivery goes on here.
                self.told.left += told.len() - position + rest.len();
                return Ok(Vec::new());
            }
            let notification = NotificationRecord {
                state: NotificationState::Delivered,
                id: Some(digest.id.clone()),
                attempts: waiting.entry.attempts + digest.attempts,
                delivered_at: digest.delivered_at,
                configuration: None,
            };
            self.note(waiting, &notification);
            self.delivery.done(waiting)?;
            self.told.delivered += 1;
        }
        self.delivery.remove_digest()?;
        Ok(rest)
    }

    async fn publish(&mut self, message: &Message) -> NotificationState {
        match publish(self.notifier, message, self.deadline).await {
            Ok(()) => NotificationState::Delivered,
            Err(error) => self.told.fail(error),
        }
    }

    /// Notes what became of one notification, and takes it out of the outbox when that is final.
    fn end(&mut self, waiting: &Waiting, state: NotificationState) -> Result<(), StoreError> {
        let is_delivered = state == NotificationState::Delivered;
        let notification = NotificationRecord {
            state,
            id: Some(waiting.entry.id().to_owned()),
            attempts: waiting.entry.attempts,
            delivered_at: is_delivered.then(|| self.clock.now()),
            configuration: None,
        };
        self.note(waiting, &notification);
        match state {
            NotificationState::Delivered => {
                self.told.delivered += 1;
                self.delivery.done(waiting)?;
            }
            NotificationState::Expired => {
                self.told.expired += 1;
                self.delivery.done(waiting)?;
            }
            NotificationState::Refused => {
                self.told.refused += 1;
                self.delivery.refuse(waiting)?;
            }
            NotificationState::Pending | NotificationState::Disabled => {
                self.told.left += 1;
                self.delivery.keep(waiting)?;
            }
        }
        Ok(())
    }

    /// Notes what became of a run's notification. In vain, the others still get through.
    fn note(&mut self, waiting: &Waiting, notification: &NotificationRecord) {
        if let Some(run) = &waiting.entry.run {
            self.told.note(self.layout, run, notification);
        }
    }
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

    /// Notes in a record what became of its notification, or where that is in vain, in the run's
    /// mark that it was delivered: nobody is told twice, and recovery gives it to the record.
    fn note(&mut self, layout: &Layout, run: &RunPath, notification: &NotificationRecord) {
        let Err(error) = update_notification(layout, run, notification) else {
            return;
        };
        if let (NotificationState::Delivered, Some(id)) = (notification.state, &notification.id)
            && let Err(error) = mark_delivered(layout, run, id)
        {
            tracing::warn!(
                error = text::chain(&error),
                "the mark does not note it either"
            );
        }
        self.unnoted.get_or_insert((notification.state, error));
    }
}

fn is_delivered(told: &NotificationRecord, waiting: &Waiting) -> bool {
    let by_itself_or_digest = |id: &str| id == waiting.entry.id() || is_digest(id);
    told.state == NotificationState::Delivered
        && told.id.as_deref().is_some_and(by_itself_or_digest)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;
    use std::future;

    use chrono::{DateTime, TimeDelta, Utc};
    use tempfile::TempDir;

    use super::*;
    use crate::model::message::Priority;
    use crate::model::outcome::Outcome;
    use crate::model::record::Record;
    use crate::notify::Publishing;
    use crate::store::atomic;
    use crate::store::reader::read_run;
    use crate::store::recorder::RunFolder;
    use crate::store::recovery::abandoned;

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
        limit: Cell<Duration>,
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    }

    /// Reached only by a server that hangs.
    const SHORT: Duration = Duration::from_millis(50);

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
                limit: Cell::new(Duration::from_secs(60)),
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
            record.notification.configuration = Some("whose".to_owned());
            (folder, record)
        }

        fn finish(&self, title: &str) -> RunPath {
            let (folder, record) = self.begin(title);
            let run = folder.run().clone();
            folder.finish(&record).unwrap();
            run
        }

        fn deliver(&self) -> Delivered {
            let limit = self.limit.get();
            block_on(deliver(&self.layout, &self.server, limit, &self.clock)).unwrap()
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
            assert_eq!(told.configuration.as_deref(), Some("whose"));
        }
    }

    #[test]
    fn a_failure_that_may_pass_keeps_everything_in_order() {
        for failure in [Next::Fail, Next::Hang] {
            let stage = Stage::new(&[Next::Accept, failure]);
            stage.limit.set(SHORT);
            let runs = ["one", "two", "three"].map(|title| stage.finish(title));
            stage.check((1, 0, 0, 2), &["one"]);
            stage.limit.set(Duration::from_secs(60));
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

    #[test]
    fn a_torn_notification_that_waits_alone_is_put_aside_and_named() {
        let stage = Stage::new(&[]);
        let outbox = stage.layout.outbox();
        std::fs::create_dir_all(&outbox).unwrap();
        std::fs::File::create(outbox.join("1-torn.json")).unwrap();
        let told = stage.deliver();
        assert!(
            told.unread[0].to_string().contains("1-torn.json"),
            "{told:?}"
        );
        assert_eq!(Outbox::new(&stage.layout).refused().unwrap().len(), 1);
        assert!(stage.deliver().unread.is_empty());
    }

    fn digest(stage: &Stage) -> Option<Digest> {
        let outbox = Outbox::new(&stage.layout);
        let delivery = outbox.try_deliver().unwrap().unwrap();
        delivery.digest()
    }

    fn keep(stage: &Stage, digest: &Digest) {
        let outbox = Outbox::new(&stage.layout);
        let delivery = outbox.try_deliver().unwrap().unwrap();
        delivery.keep_digest(digest).unwrap();
    }

    #[track_caller]
    fn assert_told_by(stage: &Stage, runs: &[RunPath], id: &str) {
        for run in runs {
            let told = stage.notification(run);
            assert_eq!(told.state, NotificationState::Delivered);
            assert_eq!(told.id.as_deref(), Some(id), "{run}");
            assert!(told.delivered_at.is_some());
        }
        assert!(Outbox::new(&stage.layout).pending().unwrap().is_empty());
        assert_eq!(digest(stage), None);
    }

    fn finish_many(stage: &Stage, number: usize) -> Vec<RunPath> {
        let title = |number| format!("run {number}");
        (1..=number).map(|run| stage.finish(&title(run))).collect()
    }

    #[test]
    fn many_that_wait_become_one_digest_and_a_few_do_not() {
        let stage = Stage::new(&[]);
        finish_many(&stage, MOST_SINGLE);
        assert_eq!(stage.deliver().delivered, MOST_SINGLE);
        assert_eq!(stage.server.titles.take().len(), MOST_SINGLE);

        let runs = finish_many(&stage, MOST_SINGLE + 1);
        stage.check((21, 0, 0, 0), &["[agent-runner] 21 notifications"]);
        let id = stage.notification(&runs[0]).id.unwrap();
        assert!(is_digest(&id), "{id}");
        assert_told_by(&stage, &runs, &id);
    }

    #[test]
    fn a_digest_that_did_not_get_through_grows_and_keeps_its_id() {
        let stage = Stage::new(&[Next::Fail, Next::Hang]);
        let mut runs = finish_many(&stage, 21);
        stage.check((0, 0, 0, 21), &[]);
        let id = digest(&stage).unwrap().id;
        runs.extend(finish_many(&stage, 2));
        stage.clock.0.set(stage.clock.now() + TimeDelta::hours(1));
        stage.limit.set(SHORT);
        stage.check((0, 0, 0, 23), &[]);
        stage.limit.set(Duration::from_secs(60));
        stage.check((23, 0, 0, 0), &["[agent-runner] 23 notifications"]);
        assert_told_by(&stage, &runs, &id);
        assert_eq!(stage.notification(&runs[0]).attempts, 3);
    }

    #[test]
    fn a_crash_between_publishing_and_noting_repeats_at_most_the_digest_with_the_same_id() {
        // Published, and killed before that could be kept.
        let stage = Stage::new(&[]);
        let runs = finish_many(&stage, 3);
        let members = |runs: &[RunPath]| -> Vec<String> {
            let id = |run: &RunPath| stage.notification(run).id.unwrap();
            runs.iter().map(id).collect()
        };
        let mut begun = Digest::new(stage.clock.now() - TimeDelta::hours(1));
        begun.members = members(&runs);
        begun.attempts = 1;
        keep(&stage, &begun);
        stage.check((3, 0, 0, 0), &["[agent-runner] 3 notifications"]);
        assert_told_by(&stage, &runs, &begun.id);

        // Kept as delivered, and killed while it was noted; one came since.
        stage.server.titles.take();
        let runs = finish_many(&stage, 3);
        begun.members = members(&runs);
        begun.delivered_at = Some(stage.clock.now());
        keep(&stage, &begun);
        let noted = NotificationRecord {
            state: NotificationState::Delivered,
            id: Some(begun.id.clone()),
            attempts: 1,
            delivered_at: begun.delivered_at,
            ..NotificationRecord::default()
        };
        update_notification(&stage.layout, &runs[0], &noted).unwrap();
        let new = stage.finish("new");
        // The time is up: the noting goes on with the next delivery, and nothing overtakes it.
        stage.limit.set(Duration::ZERO);
        stage.check((0, 0, 0, 3), &[]);
        stage.limit.set(Duration::from_secs(60));
        stage.check((3, 0, 0, 0), &["new"]);
        assert!(!is_digest(&stage.notification(&new).id.unwrap()));
        assert_told_by(&stage, &runs, &begun.id);
    }

    #[test]
    fn a_record_that_cannot_be_read_holds_up_no_notification() {
        let stage = Stage::new(&[]);
        for (number, published) in [(MOST_SINGLE + 2, 1), (3, 4)] {
            let runs = finish_many(&stage, number);
            let torn = stage.layout.run(&runs[1]).metadata();
            std::fs::File::create(torn).unwrap();
            let (_, error) = stage.deliver().unnoted.unwrap();
            assert!(error.to_string().contains("metadata.json"), "{error}");
            assert_eq!(stage.server.titles.borrow().len(), published);
            assert!(Outbox::new(&stage.layout).pending().unwrap().is_empty());
            assert_eq!(digest(&stage), None);
            let last = stage.notification(runs.last().unwrap());
            assert_eq!(last.state, NotificationState::Delivered);
        }
    }

    /// Delivers while no record can be written, and notes it when they can be again: in vain first.
    #[track_caller]
    fn deliver_unnoted(stage: &Stage, runs: &[RunPath], deliver: impl Fn() -> Delivered) {
        let records = runs.iter().map(|run| stage.layout.run(run).metadata());
        let records: Vec<_> = records
            .map(|path| (path.with_extension("aside"), path))
            .collect();
        for (aside, path) in &records {
            atomic::rename(path, aside).unwrap();
            std::fs::File::create(path).unwrap();
        }
        let (state, error) = deliver().unnoted.unwrap();
        assert_eq!(state, NotificationState::Delivered);
        assert!(error.to_string().contains("metadata.json"), "{error}");
        for (aside, path) in &records {
            atomic::rename(aside, path).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(abandoned(&stage.layout).unwrap().count(), 0);
        }
        assert_eq!(stage.server.titles.take().len(), 1, "told once");
        let marks = std::fs::read_dir(stage.layout.running());
        assert_eq!(marks.unwrap().count(), 0);
    }

    #[test]
    fn what_is_delivered_while_its_record_cannot_be_written_is_told_once_and_noted_later() {
        let stage = Stage::new(&[]);
        let one = stage.finish("one");
        let own = stage.notification(&one).id.unwrap();
        deliver_unnoted(&stage, std::slice::from_ref(&one), || stage.deliver());
        assert_told_by(&stage, &[one], &own);

        let many = finish_many(&stage, MOST_SINGLE + 1);
        deliver_unnoted(&stage, &many, || stage.deliver());
        let id = stage.notification(&many[0]).id.unwrap();
        assert!(is_digest(&id), "{id}");
        assert_told_by(&stage, &many, &id);
    }

    #[test]
    fn what_neither_the_outbox_nor_the_record_took_is_told_once_and_noted_later() {
        let stage = Stage::new(&[]);
        let (folder, mut record) = stage.begin("one");
        let run = folder.run().clone();
        let outbox = Outbox::new(&stage.layout);
        let entry = outbox.pending().unwrap().remove(0).entry;
        outbox.withdraw(&run).unwrap();
        record.notification.id = None;
        folder.finish(&record).unwrap();
        drop(folder);
        let limit = stage.limit.get();
        deliver_unnoted(&stage, std::slice::from_ref(&run), || {
            let (layout, server) = (&stage.layout, &stage.server);
            block_on(deliver_unkept(layout, server, &entry, limit, &stage.clock))
        });
        assert_told_by(&stage, &[run], entry.id());
    }

    #[test]
    fn a_refused_digest_puts_all_that_it_tells_aside() {
        let stage = Stage::new(&[Next::Refuse]);
        let runs = finish_many(&stage, 25);
        stage.check((0, 25, 0, 0), &[]);
        for run in &runs {
            assert_eq!(stage.notification(run).state, NotificationState::Refused);
        }
        assert_eq!(Outbox::new(&stage.layout).refused().unwrap().len(), 25);
        assert_eq!(digest(&stage), None);
    }
}
