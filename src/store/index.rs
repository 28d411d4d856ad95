//! What was read of ended runs, kept so that it need not be read again. Never the truth.
//!
//! The truth is each run's `metadata.json`. Below `.state/index` lies one file of lines for each task
//! and agent: what was read of a run, with the identity of the file in which it was read. A line
//! counts while that identity (number, time of change, size) is still the file's own. So a run that
//! is new, changed or gone is noticed, a torn or foreign line is as good as none, and the whole may
//! be deleted at any time. Two processes that append the same line agree.
//!
//! Nothing here fails because the index cannot be read or written, and it is written only in a log
//! root in which runs have been recorded by this program.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use serde::{Deserialize, Serialize};

use crate::model::ids::{AgentName, RunPath, TaskName};
use crate::model::outcome::Outcome;
use crate::model::record::{NotificationState, Record};
use crate::model::report::ErrorClass;
use crate::model::text;
use crate::regular::read;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::store::private::{append, create_directory, is_directory};
use crate::store::reader::{self, Filter, has_trace, read_record, read_run};

/// What lists and sums need of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Which run it is.
    pub path: RunPath,
    /// What became of it.
    pub outcome: Outcome,
    /// The kind of failure.
    pub error_class: Option<ErrorClass>,
    /// What went wrong, one short line.
    pub error: Option<String>,
    /// What the agent said last, else what was seen first; one short line. Only without `error`.
    pub said: Option<String>,
    /// When it began.
    pub start: Option<DateTime<Utc>>,
    /// How long it took.
    pub elapsed: Option<Duration>,
    /// All its tokens.
    pub tokens: Option<u64>,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// Its own commits that count; `None` is unknown.
    pub commits: Option<usize>,
    /// Lines that they add.
    pub insertions: u64,
    /// Lines that they remove.
    pub deletions: u64,
    /// The run that it repeats or continues.
    pub previous_run: Option<String>,
    /// How far its notification is.
    pub notification: NotificationState,
    /// Whether it may have cost anything: the agent was started, or nobody knows.
    pub was_started: bool,
}

/// The longest line of an entry, in characters.
const MAX_LINE_CHARS: usize = 160;

impl Entry {
    /// What lists and sums need of a record.
    pub fn of(path: RunPath, record: &Record) -> Self {
        let short = |told: Option<&str>| {
            let line = text::first_line(told?, MAX_LINE_CHARS);
            (!line.is_empty()).then_some(line)
        };
        let error = short(record.error.as_deref());
        let seen = record.evidence.first().map(|seen| seen.fact.as_str());
        let said = record.last_message.as_deref().or(seen);
        Self {
            path,
            outcome: record.outcome,
            error_class: record.error_class,
            said: if error.is_none() { short(said) } else { None },
            error,
            start: record.start_time,
            elapsed: record.elapsed,
            tokens: record.tokens(),
            cost_usd: record.cost_usd,
            commits: record.knows_changes().then_some(record.commits.len()),
            insertions: record.insertions,
            deletions: record.deletions,
            previous_run: record.previous_run.clone(),
            notification: record.notification.state,
            was_started: record.may_have_been_started(),
        }
    }

    /// Why it failed, else what it says it did.
    pub fn what(&self) -> &str {
        let what = self.error.as_deref().or(self.said.as_deref());
        what.unwrap_or_default()
    }
}

/// Hears, from any thread, how many runs had to be read so far, and of how many at most.
pub type Reading<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Tells what lists and sums need of the runs that are wanted, newest first.
///
/// # Errors
/// When the log root cannot be listed.
pub fn entries(
    layout: &Layout,
    filter: &Filter,
    reading: &Reading<'_>,
) -> Result<Vec<Entry>, StoreError> {
    let paths = reader::listed(layout, filter)?;
    let number = paths.len();
    let mut places: HashMap<(TaskName, AgentName), Vec<(usize, RunPath)>> = HashMap::new();
    for (place, path) in paths.into_iter().enumerate() {
        let key = (path.task.clone(), path.agent.clone());
        places.entry(key).or_default().push((place, path));
    }
    let is_whole = filter.since.is_none() && filter.until.is_none();
    let read = AtomicUsize::new(0);
    let look = |((task, agent), runs): ((TaskName, AgentName), Vec<(usize, RunPath)>)| {
        let mut shelf = Shelf::open(layout, &task, &agent);
        let count = &mut || reading(read.fetch_add(1, Ordering::Relaxed) + 1, number);
        let runs = runs.into_iter();
        let found: Vec<_> = runs
            .filter_map(|(place, path)| Some((place, shelf.entry(layout, path, count)?)))
            .collect();
        shelf.save(layout, is_whole);
        found
    };
    // Most of the time goes to the system, once for each run, and to reading lines.
    let queue = Mutex::new(places.into_iter());
    let next = || queue.lock().ok()?.next();
    let work = || std::iter::from_fn(next).flat_map(look).collect::<Vec<_>>();
    let threads = if number < MANY { 1 } else { MAX_THREADS };
    let mut found = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut found = work();
        for other in others {
            found.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        found
    });
    found.sort_by_cached_key(|(place, entry)| {
        let order = reader::order(&entry.path.run_id, entry.start, entry.outcome);
        (Reverse(order), *place)
    });
    Ok(found.into_iter().map(|(_, entry)| entry).collect())
}

/// So many runs are worth more than one thread.
const MANY: usize = 5000;

/// More of them would wait for the disk or for one another.
const MAX_THREADS: usize = 4;

/// The identity of a file as it was read.
type Stamp = (u64, i64, i64, i64);

/// The form of the lines. Another one is not read.
const HEADER: &str = "{\"agent_runner_index\":2}";

/// A longer file of lines is not read: it is none of ours.
const MAX_BYTES: u64 = 1 << 30;

/// So many lines that no longer count are no reason to write a file anew.
const MAX_STALE: usize = 1000;

/// What is known of one agent's runs of one task.
struct Shelf {
    file: PathBuf,
    /// The directory of the runs.
    runs: Option<rustix::fd::OwnedFd>,
    known: HashMap<String, Line>,
    is_ours: bool,
    lines: usize,
    used: usize,
    fresh: Vec<(Stamp, Entry)>,
}

/// For looking at what lies in a directory, not for listing it, where the system knows the difference.
#[cfg(target_os = "linux")]
const SEARCH: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const SEARCH: OFlags = OFlags::RDONLY;

impl Shelf {
    fn open(layout: &Layout, task: &TaskName, agent: &AgentName) -> Self {
        let file = layout.index().join(format!("{task}.{agent}.jsonl"));
        let runs = openat(
            rustix::fs::CWD,
            layout.agent(task, agent),
            SEARCH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let bytes = read(&file, MAX_BYTES).unwrap_or_default();
        let body = bytes.strip_prefix(HEADER.as_bytes());
        let mut shelf = Self {
            file,
            runs: runs.ok(),
            known: HashMap::new(),
            is_ours: body.is_some(),
            lines: 0,
            used: 0,
            fresh: Vec::new(),
        };
        for line in body.unwrap_or_default().split(|byte| *byte == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            shelf.lines += 1;
            if let Ok(mut line) = serde_json::from_slice::<Line>(line) {
                shelf.known.insert(std::mem::take(&mut line.run), line);
            }
        }
        shelf
    }

    /// `None` for what is no run.
    fn entry(
        &mut self,
        layout: &Layout,
        path: RunPath,
        reading: &mut dyn FnMut(),
    ) -> Option<Entry> {
        let stamp = self.stamp(&path);
        if stamp.is_none() && !has_trace(layout, &path) {
            return None;
        }
        if let Some(known) = self.known.remove(path.run_id.as_str())
            && Some(known.stamp) == stamp
            && let Some(entry) = known.entry(&path)
        {
            self.used += 1;
            return Some(entry);
        }
        reading();
        // Looked at before it is read: what changes in between is read again next time.
        let record = read_record(&layout.run(&path), &path);
        if record.outcome == Outcome::Running {
            let run = read_run(layout, path);
            return Some(Entry::of(run.path, &run.record));
        }
        let entry = Entry::of(path, &record);
        if let Some(stamp) = stamp {
            self.fresh.push((stamp, entry.clone()));
        }
        Some(entry)
    }

    #[expect(
        clippy::cast_possible_wrap,
        reason = "the types differ between machines; only sameness counts"
    )]
    fn stamp(&self, path: &RunPath) -> Option<Stamp> {
        let name = format!("{}/metadata.json", path.run_id);
        let file = statat(self.runs.as_ref()?, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(file.st_mode) == FileType::RegularFile;
        is_file.then_some((
            file.st_ino as u64,
            file.st_ctime as i64,
            file.st_ctime_nsec as i64,
            file.st_size as i64,
        ))
    }

    /// Keeps what was read. Where that fails, it will be read again.
    fn save(self, layout: &Layout, is_whole: bool) {
        let gone = self.lines - self.used.min(self.lines);
        let is_stale = is_whole && gone > MAX_STALE.max(self.used);
        if (self.fresh.is_empty() && !is_stale) || !is_directory(&layout.state()) {
            return;
        }
        let kept = create_directory(&layout.index()).and_then(|()| {
            if self.is_ours && !is_stale {
                // Whatever another process left half written ends here.
                append(&self.file, &format!("\n{}", lines(&self.fresh)))
            } else {
                let text = format!("{HEADER}\n{}", lines(&self.fresh));
                atomic::write_unsynced(&self.file, text.as_bytes())
            }
        });
        if let Err(error) = kept {
            tracing::debug!(error = text::chain(&error), "the index is not kept");
        }
    }
}

fn lines(entries: &[(Stamp, Entry)]) -> String {
    let line = |(stamp, entry): &(Stamp, Entry)| {
        let line = serde_json::to_string(&Line::of(*stamp, entry));
        line.expect("a line of numbers and texts has a form") + "\n"
    };
    entries.iter().map(line).collect()
}

/// An entry as it is kept.
#[derive(Debug, Deserialize, Serialize)]
struct Line {
    run: String,
    stamp: Stamp,
    outcome: String,
    code: Option<u8>,
    class: Option<String>,
    error: Option<String>,
    said: Option<String>,
    /// Microseconds since 1970.
    start: Option<i64>,
    /// Microseconds.
    took: Option<u64>,
    tokens: Option<u64>,
    usd: Option<f64>,
    commits: Option<usize>,
    plus: u64,
    minus: u64,
    previous: Option<String>,
    told: String,
    started: bool,
}

impl Line {
    fn of(stamp: Stamp, entry: &Entry) -> Self {
        let micros = |took: Duration| u64::try_from(took.as_micros()).ok();
        Self {
            run: entry.path.run_id.to_string(),
            stamp,
            outcome: entry.outcome.to_string(),
            code: entry.outcome.exit_code(),
            class: entry.error_class.map(|class| class.to_string()),
            error: entry.error.clone(),
            said: entry.said.clone(),
            start: entry.start.map(|start| start.timestamp_micros()),
            took: entry.elapsed.and_then(micros),
            tokens: entry.tokens,
            usd: entry.cost_usd,
            commits: entry.commits,
            plus: entry.insertions,
            minus: entry.deletions,
            previous: entry.previous_run.clone(),
            told: entry.notification.as_str().to_owned(),
            started: entry.was_started,
        }
    }

    fn entry(self, path: &RunPath) -> Option<Entry> {
        let told = |state: &NotificationState| state.as_str() == self.told;
        Some(Entry {
            path: path.clone(),
            outcome: Outcome::from_name(&self.outcome, self.code.map(i32::from))?,
            error_class: self.class.as_deref().and_then(ErrorClass::from_name),
            error: self.error,
            said: self.said,
            start: self.start.and_then(DateTime::from_timestamp_micros),
            elapsed: self.took.map(Duration::from_micros),
            tokens: self.tokens,
            cost_usd: self.usd,
            commits: self.commits,
            insertions: self.plus,
            deletions: self.minus,
            previous_run: self.previous,
            notification: NotificationState::ALL.into_iter().find(told)?,
            was_started: self.started,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::testing::{full_record, log_root, plant, run_path};

    /// The runs with their outcomes, and how many were read.
    fn look(layout: &Layout) -> (Vec<String>, usize) {
        let read = AtomicUsize::new(0);
        let note = |_, _| {
            read.fetch_add(1, Ordering::Relaxed);
        };
        let found = entries(layout, &Filter::default(), &note).unwrap();
        let lines = found.iter();
        let lines = lines.map(|entry| format!("{} {}", entry.path, entry.outcome));
        (lines.collect(), read.into_inner())
    }

    fn plant_run(layout: &Layout, run: &str, outcome: &str) {
        let text = format!(r#"{{"outcome":"{outcome}","exit_code":0,"error":null}}"#);
        plant(&layout.run(&run_path(run)).metadata(), text.as_bytes());
    }

    /// A log root of this program with three runs that have been read.
    fn three() -> (tempfile::TempDir, Layout) {
        let (root, layout) = log_root();
        fs::create_dir_all(layout.state()).unwrap();
        for day in 1..=3 {
            plant_run(&layout, &format!("a/x/2026010{day}_000000"), "success");
        }
        assert_eq!(look(&layout).1, 3);
        assert_eq!(look(&layout).1, 0);
        (root, layout)
    }

    fn file(layout: &Layout) -> PathBuf {
        layout.index().join("a.x.jsonl")
    }

    #[test]
    fn what_was_read_once_is_not_read_again_and_is_the_same() {
        let (_root, layout) = log_root();
        fs::create_dir_all(layout.state()).unwrap();
        let mut record = full_record();
        for (day, outcome) in (1..).zip(Outcome::ALL.into_iter().skip(1)) {
            record.outcome = outcome;
            record.exit_code = outcome.exit_code().map(i32::from);
            record.error = (!outcome.is_good()).then(|| "it \u{1b}[2J failed\nlong".to_owned());
            let run = run_path(&format!("a/x/202601{day:02}_000000"));
            let text = crate::store::format::write(&record);
            plant(&layout.run(&run).metadata(), text.as_bytes());
        }
        let all = |expected| {
            let read = AtomicUsize::new(0);
            let note = |so_far, _| read.store(so_far, Ordering::Relaxed);
            let found = entries(&layout, &Filter::default(), &note);
            assert_eq!(read.into_inner(), expected);
            found.unwrap()
        };
        assert_eq!(all(14), all(0));
    }

    #[test]
    fn many_runs_are_told_in_the_same_order_by_several_threads() {
        let (_root, layout) = log_root();
        let day = crate::store::testing::start();
        for minute in 0..=MANY {
            let start = day + chrono::TimeDelta::minutes(i64::try_from(minute).unwrap());
            let (task, agent) = (minute % 3, minute % 5);
            let run = format!("task{task}/agent{agent}/{}", start.format("%Y%m%d_%H%M%S"));
            plant(&layout.run(&run_path(&run)).runner_log(), b"");
        }
        let paths = reader::paths(&layout, &Filter::default()).unwrap();
        let found = entries(&layout, &Filter::default(), &|_, _| ()).unwrap();
        assert!(found.into_iter().map(|entry| entry.path).eq(paths));
    }

    #[test]
    fn new_changed_and_removed_runs_are_noticed() {
        let (_root, layout) = three();
        plant_run(&layout, "a/x/20260104_000000", "timeout");
        let changed = layout.run(&run_path("a/x/20260102_000000"));
        atomic::write(&changed.metadata(), br#"{"outcome":"stalled"}"#).unwrap();
        fs::remove_dir_all(layout.run(&run_path("a/x/20260101_000000")).path()).unwrap();
        let now = [
            "a/x/20260104_000000 timeout",
            "a/x/20260103_000000 success",
            "a/x/20260102_000000 stalled",
        ];
        assert_eq!(look(&layout), (now.map(str::to_owned).to_vec(), 2));
        assert_eq!(look(&layout).1, 0);
    }

    #[test]
    fn a_run_that_has_not_ended_is_read_each_time() {
        let (_root, layout) = three();
        plant_run(&layout, "a/x/20260104_000000", "running");
        assert_eq!(look(&layout).0[0], "a/x/20260104_000000 crashed");
        assert_eq!(look(&layout).1, 1);
        let begun = layout.run(&run_path("a/x/20260105_000000"));
        plant(&begun.runner_log(), b"");
        assert_eq!(look(&layout).0[0], "a/x/20260105_000000 crashed");
        assert_eq!(look(&layout).1, 2);
    }

    #[test]
    fn a_torn_foreign_or_missing_index_is_made_anew() {
        let (_root, layout) = three();
        let whole = fs::read(file(&layout)).unwrap();
        let expected = look(&layout).0;
        let check = |read: usize| {
            assert_eq!(look(&layout), (expected.clone(), read));
            assert_eq!(look(&layout).1, 0);
        };
        fs::remove_dir_all(layout.index()).unwrap();
        check(3);
        for foreign in [&b""[..], b"\0\xff", b"{}\n", &whole[1..]] {
            plant(&file(&layout), foreign);
            check(3);
        }
        for cut in HEADER.len()..whole.len() {
            plant(&file(&layout), &whole[..cut]);
            assert_eq!(look(&layout).0, expected, "{cut}");
            assert_eq!(look(&layout).1, 0, "{cut}");
        }
        plant(&file(&layout), &whole);
        check(0);
    }

    #[test]
    fn looking_works_where_the_index_cannot_be_kept() {
        let (_root, layout) = three();
        let expected = look(&layout).0;
        fs::remove_dir_all(layout.index()).unwrap();
        for _ in 0..2 {
            plant(&layout.index(), b"a file");
            assert_eq!(look(&layout), (expected.clone(), 3));
        }
        fs::remove_file(layout.index()).unwrap();
        fs::create_dir(layout.index()).unwrap();
        symlink("/etc/hostname", file(&layout)).unwrap();
        assert_eq!(look(&layout), (expected.clone(), 3));
        // A log root of the programs before stays as it is.
        fs::remove_dir_all(layout.state()).unwrap();
        assert_eq!(look(&layout), (expected, 3));
        assert!(!layout.state().exists());
    }

    #[test]
    fn lines_of_runs_that_are_gone_do_not_pile_up() {
        let (_root, layout) = three();
        let line = fs::read_to_string(file(&layout)).unwrap();
        let line = line.lines().last().unwrap();
        append(&file(&layout), &format!("{line}\n").repeat(MAX_STALE + 1)).unwrap();
        let length = || fs::metadata(file(&layout)).unwrap().len();
        let before = length();
        look(&layout);
        assert!(length() < before);
        assert_eq!(look(&layout).0.len(), 3);
        assert_eq!(look(&layout).1, 0);
    }
}
