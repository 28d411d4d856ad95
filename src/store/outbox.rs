//! Notifications wait here until the server has them.
//!
//! One file a notification, `<order>-<id>.json`; the id of a run's notification is made of the
//! run and its outcome, so that putting it again replaces it. Whoever delivers holds the lock of
//! the directory. Not for sending: that is `notify`'s, and the loop over both is `deliver`.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::model::ids::RunPath;
use crate::model::message::{Message, Priority};
use crate::model::outcome::Outcome;
use crate::regular::read;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::store::private::{create_directory, list, open_append, remove};

/// The longest time a notification waits.
pub const EXPIRES_AFTER: TimeDelta = TimeDelta::days(7);

/// A clock that is set back by no more than this is believed.
const BELIEVED_AHEAD: TimeDelta = TimeDelta::days(1);

/// How old a notification is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Age {
    /// It is kept on.
    Kept,
    /// It waited longer than notifications are kept.
    Expired,
    /// The clock was set, or for more than a week nobody was there to deliver: it begins to wait anew.
    Unbelievable,
}

/// A notification that waits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    id: String,
    /// The run it tells of, if it does.
    pub run: Option<RunPath>,
    /// What is told.
    pub message: Message,
    /// Since when it waits.
    pub created: DateTime<Utc>,
    /// How often the server was tried.
    pub attempts: u32,
}

impl Entry {
    /// The notification of a run's end.
    pub fn of_run(run: &RunPath, outcome: Outcome, message: Message, now: DateTime<Utc>) -> Self {
        Self {
            id: format!("{}{outcome}", id_prefix(run)),
            run: Some(run.clone()),
            message,
            created: now,
            attempts: 0,
        }
    }

    /// A notification that tells of no run.
    pub fn of_message(message: Message, now: DateTime<Utc>) -> Self {
        Self {
            id: format!("message.{}", micros(now)),
            run: None,
            message,
            created: now,
            attempts: 0,
        }
    }

    /// A notification of an event that has an identity of its own, as a file's name can hold it.
    pub fn of_event(event: &str, message: Message, now: DateTime<Utc>) -> Self {
        Self {
            id: format!("event.{event}"),
            run: None,
            message,
            created: now,
            attempts: 0,
        }
    }

    /// The event's identity: the same for every attempt.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The outcome of its run, by name.
    pub fn outcome(&self) -> Option<&str> {
        self.id.strip_prefix(&id_prefix(self.run.as_ref()?))
    }

    /// For how long it has waited, as far as the clock can be believed.
    pub fn age(&self, now: DateTime<Utc>) -> Age {
        let age = now - self.created;
        if age > EXPIRES_AFTER * 2 || age < -BELIEVED_AHEAD {
            Age::Unbelievable
        } else if age > EXPIRES_AFTER {
            Age::Expired
        } else {
            Age::Kept
        }
    }
}

/// An entry with the file it was read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    name: String,
    /// The entry.
    pub entry: Entry,
}

/// The notifications that wait below one log root.
#[derive(Clone, Debug)]
pub struct Outbox {
    layout: Layout,
}

impl Outbox {
    /// The outbox of a log root; nothing is created.
    pub fn new(layout: &Layout) -> Self {
        Self {
            layout: layout.clone(),
        }
    }

    /// Puts a notification in; it survives a loss of power from here on.
    ///
    /// Another one of the same run is replaced and gives its place in the order.
    pub fn put(&self, entry: &Entry) -> Result<(), StoreError> {
        let directory = self.layout.outbox();
        self.layout.create_state(&directory)?;
        let names = self.names()?;
        let prefix = entry.run.as_ref().map(id_prefix);
        // Others may well be sent twice at the same moment.
        let is_event = entry.id.starts_with("event.");
        let of_same_run = |name: &&String| {
            let id = split_name(name).map_or("", |(_order, id)| id);
            is_event && id == entry.id
                || prefix.as_ref().is_some_and(|prefix| id.starts_with(prefix))
        };
        let replaced: Vec<&String> = names.iter().filter(of_same_run).collect();
        let order = match (replaced.first(), names.last()) {
            (Some(replaced), _) => order_of(replaced),
            // The clock may have been set back.
            (None, Some(last)) => micros(entry.created).max(order_of(last).saturating_add(1)),
            (None, None) => micros(entry.created),
        };
        let name = format!("{order:020}-{}.json", entry.id);
        self.write(&name, entry)?;
        for old in replaced {
            if *old != name {
                remove(&directory.join(old))?;
            }
        }
        Ok(())
    }

    /// Whether a notification of a run waits, also one that cannot be read, as of now.
    pub fn waits(&self) -> Result<impl Fn(&RunPath) -> bool + use<>, StoreError> {
        let names = self.names()?;
        Ok(move |run: &RunPath| names.iter().any(|name| is_of(run, name)))
    }

    /// Takes back the notification of a run.
    pub fn withdraw(&self, run: &RunPath) -> Result<(), StoreError> {
        for name in self.names()? {
            if is_of(run, &name) {
                remove(&self.layout.outbox().join(name))?;
            }
        }
        Ok(())
    }

    /// The notifications that wait, in the order in which they are to be delivered.
    pub fn pending(&self) -> Result<Vec<Waiting>, StoreError> {
        let names = self.names()?;
        Ok(names
            .iter()
            .filter_map(|name| self.read(name).ok())
            .collect())
    }

    /// How many wait, those that cannot be read among them.
    pub fn count(&self) -> Result<usize, StoreError> {
        Ok(self.names()?.len())
    }

    /// Why notifications that wait cannot be read.
    pub fn unread(&self) -> Result<Vec<StoreError>, StoreError> {
        let names = self.names()?;
        let unread = names
            .iter()
            .filter_map(|name| Some(self.read(name).err()?.0));
        Ok(unread.collect())
    }

    /// The titles of the notifications that are put aside, oldest first: the server refused them, or
    /// they are torn and named.
    pub fn refused(&self) -> Result<Vec<String>, StoreError> {
        let directory = self.layout.refused();
        let title = |name: String| match read_entry(&directory.join(&name)) {
            Ok(entry) => entry.message.title,
            Err(error) => format!("`{name}`, which cannot be read: {error}"),
        };
        Ok(entry_names(&directory)?.into_iter().map(title).collect())
    }

    /// Takes the right to deliver; `None` while somebody else has it.
    pub fn try_deliver(&self) -> Result<Option<Delivery<'_>>, StoreError> {
        let path = self.layout.outbox().join(".lock");
        let lock = open_append(&path)?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Delivery {
                outbox: self,
                _lock: lock,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::new("lock", &path, source)),
        }
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        entry_names(&self.layout.outbox())
    }

    /// Reads one; else tells why it cannot be, and what that makes of the file.
    fn read(&self, name: &str) -> Result<Waiting, (StoreError, io::ErrorKind)> {
        let path = self.layout.outbox().join(name);
        let entry = read_entry(&path).map_err(|error| {
            let kind = error.kind();
            (StoreError::new("read", &path, error), kind)
        })?;
        let name = name.to_owned();
        Ok(Waiting { name, entry })
    }

    fn write(&self, name: &str, entry: &Entry) -> Result<(), StoreError> {
        let text = serde_json::to_string_pretty(&EntryForm::from(entry))
            .expect("text and numbers are JSON");
        atomic::write(&self.layout.outbox().join(name), text.as_bytes())
    }

    fn put_aside(&self, name: &str) -> Result<(), StoreError> {
        let aside = self.layout.refused();
        create_directory(&aside)?;
        atomic::rename(&self.layout.outbox().join(name), &aside.join(name))
    }
}

/// The right to deliver, as long as it lives.
#[derive(Debug)]
pub struct Delivery<'a> {
    outbox: &'a Outbox,
    _lock: File,
}

impl Delivery<'_> {
    pub(super) fn layout(&self) -> &Layout {
        &self.outbox.layout
    }

    /// The notifications that wait, in order, and why others cannot be read. A file that is none is
    /// put aside; what cannot be opened stays.
    pub fn waiting(
        &self,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Waiting>, Vec<StoreError>), StoreError> {
        // Another process may be writing one now.
        for leftover in atomic::leftovers(&self.outbox.layout.outbox(), now)? {
            remove(&leftover)?;
        }
        let (mut waiting, mut unread) = (Vec::new(), Vec::new());
        for name in self.outbox.names()? {
            match self.outbox.read(&name) {
                Ok(entry) => waiting.push(entry),
                // Its run took it back.
                Err((_, io::ErrorKind::NotFound)) => {}
                Err((error, kind)) => {
                    if is_no_entry(kind) {
                        self.outbox.put_aside(&name)?;
                    }
                    unread.push(error);
                }
            }
        }
        Ok((waiting, unread))
    }

    /// Removes one that the server has, or that nobody wants any more.
    pub fn done(&self, waiting: &Waiting) -> Result<(), StoreError> {
        remove(&self.outbox.layout.outbox().join(&waiting.name))
    }

    /// Puts one aside that the server refused for good.
    pub fn refuse(&self, waiting: &Waiting) -> Result<(), StoreError> {
        self.outbox.put_aside(&waiting.name)
    }

    /// Keeps one whose attempts have changed.
    pub fn keep(&self, waiting: &Waiting) -> Result<(), StoreError> {
        self.outbox.write(&waiting.name, &waiting.entry)
    }
}

/// An entry as it lies on disk.
#[derive(Deserialize, Serialize)]
struct EntryForm {
    id: String,
    run: Option<String>,
    title: String,
    body: String,
    priority: u8,
    tags: Vec<String>,
    created: String,
    attempts: u32,
}

impl From<&Entry> for EntryForm {
    fn from(entry: &Entry) -> Self {
        Self {
            id: entry.id.clone(),
            run: entry.run.as_ref().map(RunPath::to_string),
            title: entry.message.title.clone(),
            body: entry.message.body.clone(),
            priority: entry.message.priority.number(),
            tags: entry.message.tags.clone(),
            created: entry.created.to_rfc3339(),
            attempts: entry.attempts,
        }
    }
}

/// An outbox file is a message of at most 4 KiB with its frame.
const MAX_ENTRY_BYTES: u64 = 1 << 20;

/// Whether what was read is no entry; all else may be one that could not be read now.
fn is_no_entry(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

fn read_entry(path: &Path) -> io::Result<Entry> {
    let form: EntryForm = serde_json::from_slice(&read(path, MAX_ENTRY_BYTES)?)?;
    let priority = Priority::ALL
        .into_iter()
        .find(|priority| priority.number() == form.priority);
    Ok(Entry {
        id: form.id,
        run: form.run.and_then(|run| run.parse().ok()),
        message: Message {
            title: form.title,
            body: form.body,
            priority: priority.unwrap_or_default(),
            tags: form.tags,
        },
        created: (form.created.parse())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
        attempts: form.attempts,
    })
}

/// The names of the entries in a directory, in order.
fn entry_names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let mut names: Vec<String> = list(directory)?
        .into_iter()
        .map(|(name, _kind)| name)
        .collect();
    names.retain(|name| split_name(name).is_some());
    names.sort_unstable();
    Ok(names)
}

/// The order and the id in the name of an entry's file.
fn split_name(name: &str) -> Option<(u64, &str)> {
    let (order, id) = name.strip_suffix(".json")?.split_once('-')?;
    Some((order.parse().ok()?, id))
}

fn order_of(name: &str) -> u64 {
    split_name(name).map_or(0, |(order, _id)| order)
}

/// Whether a name is that of a run's notification.
fn is_of(run: &RunPath, name: &str) -> bool {
    split_name(name).is_some_and(|(_order, id)| id.starts_with(&id_prefix(run)))
}

/// What the ids of all notifications of a run begin with.
fn id_prefix(run: &RunPath) -> String {
    format!("{}.{}.{}.", run.task, run.agent, run.run_id)
}

fn micros(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp_micros()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{log_root, plant, run_path, start};

    fn message(title: &str) -> Message {
        Message {
            title: title.to_owned(),
            body: "— ✓\nline".to_owned(),
            priority: Priority::High,
            tags: vec!["x".to_owned()],
        }
    }

    fn of_run(run: &str, outcome: Outcome, title: &str) -> Entry {
        Entry::of_run(&run_path(run), outcome, message(title), start())
    }

    fn titles(outbox: &Outbox) -> Vec<String> {
        let pending = outbox.pending().unwrap();
        pending
            .into_iter()
            .map(|waiting| waiting.entry.message.title)
            .collect()
    }

    #[test]
    fn an_entry_is_read_as_it_was_put() {
        let (_root, layout) = log_root();
        let outbox = Outbox::new(&layout);
        assert!(outbox.pending().unwrap().is_empty());
        let entries = [
            of_run("t/a/20260101_000000", Outcome::Success, "one"),
            Entry::of_message(message("two"), start()),
        ];
        for entry in &entries {
            outbox.put(entry).unwrap();
        }
        let pending = outbox.pending().unwrap();
        assert_eq!(
            pending.into_iter().map(|w| w.entry).collect::<Vec<_>>(),
            entries
        );
    }

    #[test]
    fn order_is_that_of_putting_also_when_the_clock_is_set_back() {
        let (_root, layout) = log_root();
        let outbox = Outbox::new(&layout);
        for (seconds, title) in [(5, "one"), (3, "two"), (4, "three"), (9, "four")] {
            let now = start() + TimeDelta::seconds(seconds);
            outbox.put(&Entry::of_message(message(title), now)).unwrap();
        }
        assert_eq!(titles(&outbox), ["one", "two", "three", "four"]);
    }

    #[test]
    fn putting_again_replaces_the_notification_of_the_same_run() {
        let (_root, layout) = log_root();
        let outbox = Outbox::new(&layout);
        let (run, other) = ("t/a/20260101_000000", "t/a/20260101_000000_2");
        outbox.put(&of_run(run, Outcome::Success, "first")).unwrap();
        outbox
            .put(&of_run(other, Outcome::Success, "other"))
            .unwrap();
        outbox.put(&of_run(run, Outcome::Success, "again")).unwrap();
        assert_eq!(titles(&outbox), ["again", "other"]);
        outbox
            .put(&of_run(run, Outcome::Crashed, "crashed"))
            .unwrap();
        assert_eq!(titles(&outbox), ["crashed", "other"]);
        assert_eq!(
            outbox.pending().unwrap()[0].entry.id(),
            "t.a.20260101_000000.crashed"
        );
    }

    #[test]
    fn one_process_delivers_at_a_time() {
        let (_root, layout) = log_root();
        let outbox = Outbox::new(&layout);
        outbox
            .put(&Entry::of_message(message("one"), start()))
            .unwrap();
        let delivery = outbox.try_deliver().unwrap().unwrap();
        assert!(outbox.try_deliver().unwrap().is_none());
        drop(delivery);
        assert!(outbox.try_deliver().unwrap().is_some());
    }

    #[test]
    fn what_the_server_refused_is_put_aside_and_shown() {
        let (_root, layout) = log_root();
        let outbox = Outbox::new(&layout);
        for title in ["one", "two", "three"] {
            outbox
                .put(&Entry::of_message(message(title), start()))
                .unwrap();
        }
        plant(
            &layout.outbox().join("00000000000000000001-torn.json"),
            b"{\"id\":",
        );
        plant(&layout.outbox().join(".tmp123"), b"");
        let delivery = outbox.try_deliver().unwrap().unwrap();
        let (mut waiting, _) = delivery.waiting(start()).unwrap();
        delivery.done(&waiting[0]).unwrap();
        delivery.refuse(&waiting[1]).unwrap();
        waiting[2].entry.attempts = 3;
        delivery.keep(&waiting[2]).unwrap();
        assert_eq!(titles(&outbox), ["three"]);
        assert_eq!(outbox.pending().unwrap()[0].entry.attempts, 3);
        let refused = outbox.refused().unwrap();
        let told = &refused[0];
        assert!(told.starts_with("`00000000000000000001-torn.json`, which cannot be read"));
        assert_eq!(refused[1], "two");
    }

    #[test]
    fn only_what_was_read_and_is_no_notification_is_put_aside() {
        let (_root, layout) = log_root();
        let outbox = Outbox::new(&layout);
        let entry = Entry::of_message(message("one"), start());
        outbox.put(&entry).unwrap();
        let place = |name: &str| layout.outbox().join(name);
        plant(&place("1-torn.json"), b"{\"id\":");
        plant(&place("2-other.json"), b"[]");
        // Nobody opens it through a link, root neither.
        std::os::unix::fs::symlink("/dev/null", place("3-closed.json")).unwrap();
        assert_eq!(outbox.count().unwrap(), 4);
        let delivery = outbox.try_deliver().unwrap().unwrap();
        for left in [3, 1] {
            let (waiting, unread) = delivery.waiting(start()).unwrap();
            assert_eq!(waiting[0].entry, entry);
            assert_eq!(unread.len(), left);
            let last = unread.last().unwrap().to_string();
            assert!(last.contains("3-closed.json"), "{last}");
        }
        assert_eq!(outbox.unread().unwrap().len(), 1);
        assert_eq!(outbox.refused().unwrap().len(), 2);
    }

    #[test]
    fn an_entry_expires_after_a_week() {
        let entry = Entry::of_message(message("one"), start());
        let age = |days| entry.age(start() + TimeDelta::days(days));
        assert_eq!([age(0), age(7)], [Age::Kept; 2]);
        assert_eq!([age(8), age(14)], [Age::Expired; 2]);
        assert_eq!([age(15), age(40_000), age(-2)], [Age::Unbelievable; 3]);
    }
}
