//! Finding runs and reading their records, newest first. Writes nothing.
//!
//! Names come first, records only when asked for: 50 of 10,000 runs cost 50 reads, and one more for
//! each that began in the same second as another. Links are not followed, and a record that cannot
//! be read is a crashed run that says so.
//!
//! Others may keep files in the log root, so a name is no proof. A run is a directory with the name
//! that this program gives and a trace of a runner: a record, a `runner.log`, a mark, or nothing at
//! all. Directories of the programs before may have other names; those hold a record. A directory
//! that may not be listed is passed over, and [`unlisted`] names it.

use std::cmp::Reverse;
use std::fs::{self, TryLockError};
use std::io;
use std::path::{self, Path, PathBuf};
use std::vec;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

use crate::model::ids::{AgentName, RunId, RunPath, TaskName};
use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::text;
use crate::regular::{open_read, read, read_end};
use crate::store::StoreError;
use crate::store::crashed::crashed;
use crate::store::format;
use crate::store::layout::{Layout, RunDirectory};
use crate::store::private::{is_directory, is_empty, list};

/// A run as it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Which run it is.
    pub path: RunPath,
    /// Where its files lie.
    pub directory: RunDirectory,
    /// Its record. One that says `running` while nobody runs it is told as crashed.
    pub record: Record,
}

impl Run {
    /// The log root that it lies in, which is another one where it was named by its directory.
    pub(crate) fn layout(&self) -> Layout {
        let mut above = self.directory.path().ancestors();
        Layout::new(above.nth(3).expect("a run lies three below its log root"))
    }
}

/// Which runs are wanted; `None` wants all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Runs of this task.
    pub task: Option<TaskName>,
    /// Runs by this agent.
    pub agent: Option<AgentName>,
    /// Runs that started at this time or later; those whose name tells no start are left out.
    pub since: Option<DateTime<Utc>>,
    /// Runs that started before this time; the same.
    pub until: Option<DateTime<Utc>>,
}

impl Filter {
    /// Runs that began before `now`, or so little after it that a clock was set back. One that began
    /// later did so by a clock that was ahead, and would be the newest until then.
    pub fn past(now: DateTime<Utc>) -> Self {
        Self {
            until: now.checked_add_signed(BELIEVED_AHEAD),
            ..Self::default()
        }
    }

    fn takes(&self, run_id: &RunId) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        run_id.started().is_some_and(|started| {
            self.since.is_none_or(|since| started >= since)
                && self.until.is_none_or(|until| started < until)
        })
    }
}

/// Why a text names no run.
#[derive(Debug, Error)]
pub enum FindError {
    /// There is no such run.
    #[error("there is no run `{text}` in `{}`", root.display())]
    Missing {
        /// What was asked for.
        text: String,
        /// The log root.
        root: path::PathBuf,
    },
    /// Several tasks or agents have a run of that name.
    #[error("`{text}` is not unique: {}", join(candidates))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// All runs of that name.
        candidates: Vec<RunPath>,
    },
    /// The log root cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn join(candidates: &[RunPath]) -> String {
    let texts: Vec<String> = candidates.iter().map(RunPath::to_string).collect();
    texts.join(", ")
}

/// A clock that is set back by no more than this hides no run.
const BELIEVED_AHEAD: TimeDelta = TimeDelta::hours(1);

/// A larger record is not read: it is none of ours, and whatever lies there costs memory.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// Finds the runs that are wanted, newest first. Each is read when the iterator comes to it.
///
/// # Errors
/// When the log root cannot be listed. A missing one has no runs.
pub fn runs<'a>(
    layout: &'a Layout,
    filter: &Filter,
) -> Result<impl Iterator<Item = Run> + use<'a>, StoreError> {
    Ok(paths(layout, filter)?.map(|path| read_run(layout, path)))
}

/// Finds one run by what a person calls it: its directory, `task/agent/run_id`, a `run_id` that
/// only one has, `latest` or `latest:task/agent`. A run that began after `now`, by a clock that was
/// ahead, is the latest only where there is no other.
pub fn find(layout: &Layout, text: &str, now: DateTime<Utc>) -> Result<Run, FindError> {
    let missing = || FindError::Missing {
        text: text.to_owned(),
        root: layout.root().to_owned(),
    };
    if let Some(filter) = latest_filter(text) {
        let past = Filter {
            until: Filter::past(now).until,
            ..filter.clone()
        };
        for filter in [past, filter] {
            if let Some(run) = runs(layout, &filter)?.next() {
                return Ok(run);
            }
        }
        return Err(missing());
    }
    if let Ok(path) = text.parse::<RunPath>()
        && is_run(layout, &path)
    {
        return Ok(read_run(layout, path));
    }
    if let Some((layout, path)) = split_directory(Path::new(text)) {
        return Ok(read_run(&layout, path));
    }
    let mut candidates = listed(layout, &Filter::default())?;
    candidates.retain(|path| path.run_id.as_str() == text && has_trace(layout, path));
    if candidates.len() > 1 {
        return Err(FindError::Ambiguous {
            text: text.to_owned(),
            candidates,
        });
    }
    let path = candidates.pop().ok_or_else(missing)?;
    Ok(read_run(layout, path))
}

/// The newest run that goes on of those that `latest` or `latest:task/agent` means.
pub fn find_going(layout: &Layout, text: &str) -> Result<Option<Run>, FindError> {
    let Some(filter) = latest_filter(text) else {
        return Ok(None);
    };
    let is_marked = |path: &RunPath| layout.run(path).mark().exists();
    let mut marked = paths(layout, &filter)?.filter(is_marked);
    let read = |path| Some(read_run(layout, path)).filter(|run| !run.record.outcome.is_final());
    Ok(marked.find_map(read))
}

/// Reads one run. There is always something to tell of a directory.
pub fn read_run(layout: &Layout, path: RunPath) -> Run {
    let directory = layout.run(&path);
    let mut record = read_record(&directory, &path);
    if record.outcome == Outcome::Running && is_lock_free(&directory) {
        // It may have ended between the two looks.
        record = read_record(&directory, &path);
        if record.outcome == Outcome::Running {
            record = crashed(record, &directory);
        }
    }
    Run {
        path,
        directory,
        record,
    }
}

/// Whether a run lies there, and nothing of somebody else.
fn is_run(layout: &Layout, path: &RunPath) -> bool {
    let directory = layout.run(path);
    is_directory(directory.path())
        && if path.run_id.started().is_some() {
            has_trace(layout, path)
        } else {
            has_record(&directory)
        }
}

/// Whether a runner left something in, or of, a directory with the name of a run; or died before it
/// did, so that nobody left anything there; or nobody may look.
pub(crate) fn has_trace(layout: &Layout, path: &RunPath) -> bool {
    let directory = layout.run(path);
    [
        directory.metadata(),
        directory.runner_log(),
        directory.mark(),
    ]
    .iter()
    .any(|trace| match fs::symlink_metadata(trace) {
        Ok(_) => true,
        // What may not be looked into is not said to be empty.
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    }) || is_empty(directory.path())
}

/// Whether a run lies there beyond doubt: as [`is_run`], but what is to be its record must be one.
pub(crate) fn is_run_for_certain(layout: &Layout, path: &RunPath) -> bool {
    let directory = layout.run(path);
    let is_file = |path: PathBuf| fs::symlink_metadata(path).is_ok_and(|file| file.is_file());
    let is_named = path.run_id.started().is_some();
    is_directory(directory.path())
        && (is_named && (is_file(directory.runner_log()) || is_file(directory.mark()))
            || has_record(&directory))
}

fn has_record(directory: &RunDirectory) -> bool {
    read_metadata(&directory.metadata()).is_ok_and(|bytes| format::is_record(&bytes))
}

/// What is said first of a run of which something else may be true.
const UNREADABLE: &str = "unreadable record";

/// Why a record cannot be read; what it says of its run is then not known.
pub fn unreadable(record: &Record) -> Option<&str> {
    let facts = record.evidence.iter().map(|fact| fact.fact.as_str());
    let mut facts = facts.filter(|fact| fact.starts_with(UNREADABLE));
    facts.next().filter(|_| record.runner_version.is_none())
}

/// Reads a run's record as it is on disk. A run that is just being created has none and runs.
pub(crate) fn read_record(directory: &RunDirectory, path: &RunPath) -> Record {
    let (task, agent) = (path.task.as_str(), path.agent.as_str());
    let mut record = Record::unknown(task, agent, path.run_id.clone());
    let why = match read_metadata(&directory.metadata()) {
        Ok(bytes) => match format::read(&bytes, path) {
            Ok(record) => return record,
            Err(error) => format!("{UNREADABLE}: its metadata.json is no record: {error}"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !is_lock_free(directory) {
                record.outcome = Outcome::Running;
                return record;
            }
            "it left no metadata.json".to_owned()
        }
        Err(error) => format!("{UNREADABLE}: its metadata.json cannot be read: {error}"),
    };
    record
        .evidence
        .push(Evidence::new(EvidenceSource::Runner, why));
    record
}

/// Reads the prompt of a run.
///
/// # Errors
/// When there is none, or none that is text.
pub fn read_prompt(directory: &RunDirectory) -> io::Result<String> {
    let bytes = read(&directory.prompt(), MAX_RECORD_BYTES)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads the bytes of a record.
pub(crate) fn read_metadata(path: &Path) -> io::Result<Vec<u8>> {
    read(path, MAX_RECORD_BYTES)
}

/// What the transcript ends with: its last line that is not blank, made harmless and shortened.
pub fn last_line(directory: &RunDirectory) -> Option<String> {
    const TAIL_BYTES: u64 = 8 * 1024;
    let tail = read_end(&directory.transcript(), TAIL_BYTES).ok()?;
    let tail = text::sanitize(&String::from_utf8_lossy(&tail));
    let last = tail.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(text::shorten(last, 200))
}

/// Whether the run's transcript is there and has nothing in it.
pub fn is_transcript_empty(directory: &RunDirectory) -> bool {
    open_read(&directory.transcript()).is_ok_and(|(_, size)| size == 0)
}

/// Whether no living runner holds the run. Where that cannot be told, somebody may.
fn is_lock_free(directory: &RunDirectory) -> bool {
    let is_free = |path: PathBuf| match open_read(&path) {
        Ok((file, _size)) => match file.try_lock_shared() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
        },
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    // What is no file is no runner's.
    let is_odd = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
    let mut held = [directory.runner_log(), directory.mark()].into_iter();
    held.all(|path| is_odd(&path) || is_free(path))
}

/// `latest` or `latest:task/agent`.
fn latest_filter(text: &str) -> Option<Filter> {
    if text == "latest" {
        return Some(Filter::default());
    }
    let (task, agent) = text.strip_prefix("latest:")?.split_once('/')?;
    Some(Filter {
        task: Some(task.parse().ok()?),
        agent: Some(agent.parse().ok()?),
        ..Filter::default()
    })
}

/// A run's directory as log root and path.
fn split_directory(directory: &Path) -> Option<(Layout, RunPath)> {
    let directory = path::absolute(directory).ok()?;
    let root = directory.ancestors().nth(3)?;
    let path = directory.strip_prefix(root).ok()?.to_str()?.parse().ok()?;
    let layout = Layout::new(root);
    is_run(&layout, &path).then_some((layout, path))
}

/// Names the runs that are wanted, newest first. Whether a runner left a trace is looked at when the
/// iterator comes to them, and of those that began in one second the records are read for the order.
///
/// # Errors
/// When the log root cannot be listed.
pub fn paths<'a>(
    layout: &'a Layout,
    filter: &Filter,
) -> Result<impl Iterator<Item = RunPath> + use<'a>, StoreError> {
    Ok(Newest {
        layout,
        left: listed(layout, filter)?.into_iter(),
        tied: Vec::new().into_iter(),
    })
}

struct Newest<'a> {
    layout: &'a Layout,
    left: vec::IntoIter<RunPath>,
    /// Of one second, in order.
    tied: vec::IntoIter<RunPath>,
}

impl Iterator for Newest<'_> {
    type Item = RunPath;

    fn next(&mut self) -> Option<RunPath> {
        if let Some(path) = self.tied.next() {
            return Some(path);
        }
        let layout = self.layout;
        let first = self.left.find(|path| has_trace(layout, path))?;
        let second = first.run_id.started();
        let is_tied = |other: &&RunPath| second.is_some() && other.run_id.started() == second;
        let ties = self.left.as_slice().iter().take_while(is_tied).count();
        if ties == 0 {
            return Some(first);
        }
        let mut tied: Vec<_> = self.left.by_ref().take(ties).collect();
        tied.retain(|path| has_trace(layout, path));
        tied.insert(0, first);
        tied.sort_by_cached_key(|path| {
            let record = read_record(&layout.run(path), path);
            Reverse(order(&path.run_id, record.start_time, record.outcome))
        });
        self.tied = tied.into_iter();
        self.tied.next()
    }
}

/// What orders runs, the older first: the second that the name tells, the start that the record
/// tells, the number. A run that has no record yet has only just begun.
pub(crate) fn order(
    run_id: &RunId,
    start: Option<DateTime<Utc>>,
    outcome: Outcome,
) -> impl Ord + use<> {
    let second = run_id.started();
    let start = second.and(start);
    let is_new = outcome == Outcome::Running && start == second;
    (second, is_new, start, run_id.order().1)
}

/// Names the runs that are wanted, newest first, those of one second in any order; of those whose
/// name tells a start nothing is looked at, so [`has_trace`] is still to be asked. An error is of
/// the log root; what cannot be listed in it is passed over.
pub(crate) fn listed(layout: &Layout, filter: &Filter) -> Result<Vec<RunPath>, StoreError> {
    let mut found = Vec::new();
    for task in subdirectories(layout.root())?
        .iter()
        .filter_map(|name| name.parse().ok())
    {
        if filter.task.as_ref().is_some_and(|wanted| *wanted != task) {
            continue;
        }
        let agents = passing_over(subdirectories(&layout.task(&task)));
        for agent in agents.iter().filter_map(|name| name.parse().ok()) {
            if filter.agent.as_ref().is_some_and(|wanted| *wanted != agent) {
                continue;
            }
            for name in passing_over(subdirectories(&layout.agent(&task, &agent))) {
                let run_id = RunId::from_directory(&name);
                if !filter.takes(&run_id) {
                    continue;
                }
                let is_named = run_id.started().is_some();
                let path = RunPath {
                    task: task.clone(),
                    agent: agent.clone(),
                    run_id,
                };
                if is_named || has_record(&layout.run(&path)) {
                    found.push(path);
                }
            }
        }
    }
    // A name of another form tells no start and sorts as the oldest. Equals keep their order.
    found.sort_by_cached_key(|path| Reverse((path.run_id.started(), path.run_id.order().1)));
    Ok(found)
}

/// No names where the directory cannot be listed.
fn passing_over(names: Result<Vec<String>, StoreError>) -> Vec<String> {
    names.unwrap_or_else(|error| {
        tracing::debug!(error = text::chain(&error), "passed over");
        Vec::new()
    })
}

/// Why directories in which there may be runs that are wanted, whenever they began, are passed over:
/// they cannot be listed.
pub fn unlisted(layout: &Layout, filter: &Filter) -> Vec<StoreError> {
    let named = |parent: &Path| subdirectories(parent).into_iter().flatten();
    let tasks = named(layout.root()).filter_map(|name| name.parse().ok());
    let tasks = tasks.filter(|task| filter.task.as_ref().is_none_or(|wanted| wanted == task));
    let is_wanted = |agent: &AgentName| filter.agent.as_ref().is_none_or(|wanted| wanted == agent);
    let agents = |task: &TaskName| {
        let names = named(&layout.task(task)).filter_map(|name| name.parse().ok());
        let runs = names.filter(is_wanted);
        let runs = runs.map(|agent| layout.agent(task, &agent));
        runs.collect::<Vec<PathBuf>>()
    };
    tasks
        .flat_map(|task| [vec![layout.task(&task)], agents(&task)].concat())
        .filter_map(|path| match fs::read_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Some(StoreError::new("list", &path, error))
            }
            Ok(_) | Err(_) => None,
        })
        .collect()
}

/// The names of the directories in a directory that can be part of a run's path, sorted.
fn subdirectories(path: &Path) -> Result<Vec<String>, StoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut names: Vec<String> = list(path)?
        .into_iter()
        .filter(|(name, kind)| kind.is_dir() && name.chars().all(plain))
        .map(|(name, _kind)| name)
        .collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::store::index;
    use crate::store::recorder::RunFolder;
    use crate::store::testing::{at, begun, folder, full_record, log_root, plant, run_path};

    fn record_text(outcome: &str) -> Vec<u8> {
        format!(r#"{{"outcome":"{outcome}","exit_code":0}}"#).into_bytes()
    }

    /// Plants a finished run.
    fn plant_run(layout: &Layout, run: &str) {
        plant(
            &layout.run(&run_path(run)).metadata(),
            &record_text("success"),
        );
    }

    /// Plants a record of the programs before in a directory of another name.
    fn plant_original(layout: &Layout, run: &str) {
        let text = r#"{"run_id":"1","agent":"x","task":"a","exit_code":0}"#;
        plant(&layout.run(&run_path(run)).metadata(), text.as_bytes());
    }

    fn found(layout: &Layout, filter: &Filter) -> Vec<String> {
        let runs = runs(layout, filter).unwrap();
        runs.map(|run| run.path.to_string()).collect()
    }

    #[test]
    fn runs_come_newest_first_whatever_their_task() {
        let (_root, layout) = log_root();
        assert!(found(&layout, &Filter::default()).is_empty());
        for run in [
            "a/x/20260101_000000",
            "b/x/20260103_000000_2",
            "b/y/20260103_000000_10",
            "a/y/20260102_000000",
        ] {
            plant_run(&layout, run);
        }
        plant_original(&layout, "a/x/test");
        let all = [
            "b/y/20260103_000000_10",
            "b/x/20260103_000000_2",
            "a/y/20260102_000000",
            "a/x/20260101_000000",
            "a/x/test",
        ];
        assert_eq!(found(&layout, &Filter::default()), all);
        let task = Filter {
            task: Some("a".parse().unwrap()),
            ..Filter::default()
        };
        assert_eq!(found(&layout, &task), all[2..]);
        let agent = Filter {
            agent: Some("y".parse().unwrap()),
            since: Some(at("2026-01-02T00:00:01Z")),
            ..Filter::default()
        };
        assert_eq!(found(&layout, &agent), all[..1]);
    }

    #[test]
    fn runs_of_one_second_come_in_the_order_in_which_they_began() {
        let (_root, layout) = log_root();
        for (run, start) in [
            ("a/x/20260101_000000", "00.100000"),
            ("a/x/20260101_000000_2", "00.300000"),
            ("b/y/20260101_000000", "00.200000"),
            ("c/z/20260101_000000", "00.900000"),
            ("d/x/20260101_000000", "00"),
            ("d/x/20260101_000000_2", "00"),
        ] {
            let start = format!("2026-01-01T00:00:{start}+00:00");
            let text = format!(r#"{{"outcome":"success","start_time":"{start}"}}"#);
            plant(&layout.run(&run_path(run)).metadata(), text.as_bytes());
        }
        let at = at("2026-01-01T00:00:00Z");
        let (task, agent) = ("b".parse().unwrap(), "x".parse().unwrap());
        // Not yet so far as to have a record.
        let _new = RunFolder::create(&layout, &task, &agent, at).unwrap();
        plant_original(&layout, "a/x/test");
        let expected = [
            "b/x/20260101_000000",
            "c/z/20260101_000000",
            "a/x/20260101_000000_2",
            "b/y/20260101_000000",
            "a/x/20260101_000000",
            "d/x/20260101_000000_2",
            "d/x/20260101_000000",
            "a/x/test",
        ];
        assert_eq!(found(&layout, &Filter::default()), expected);
        assert_eq!(
            find(&layout, "latest").unwrap().path.to_string(),
            expected[0]
        );
        let entries = index::entries(&layout, &Filter::default(), &|_, _| ()).unwrap();
        let entries = entries.iter().map(|entry| entry.path.to_string());
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }

    fn find(layout: &Layout, text: &str) -> Result<Run, FindError> {
        super::find(layout, text, at("2026-02-01T00:00:00Z"))
    }

    #[test]
    fn a_run_of_a_clock_that_was_ahead_is_the_latest_only_where_there_is_no_other() {
        let (_root, layout) = log_root();
        let latest = || find(&layout, "latest").unwrap().path.to_string();
        plant_run(&layout, "a/x/20300101_000000");
        assert_eq!(latest(), "a/x/20300101_000000");
        plant_original(&layout, "a/x/test");
        plant_run(&layout, "a/x/20260101_000000");
        assert_eq!(latest(), "a/x/20260101_000000");
        plant_run(&layout, "a/x/20260201_003000");
        assert_eq!(
            latest(),
            "a/x/20260201_003000",
            "the clock was set a little"
        );
    }

    #[test]
    fn a_run_is_found_by_every_name_of_it() {
        let (_root, layout) = log_root();
        plant_run(&layout, "a/x/20260101_000000");
        plant_run(&layout, "b/x/20260101_000000");
        plant_run(&layout, "latest-news/x/20260102_000000");
        let directory = layout.run(&run_path("a/x/20260101_000000"));
        let directory = directory.path().to_str().unwrap();
        let slash = format!("{directory}/");
        for (text, expected) in [
            ("a/x/20260101_000000", "a/x/20260101_000000"),
            (directory, "a/x/20260101_000000"),
            (&slash, "a/x/20260101_000000"),
            ("20260102_000000", "latest-news/x/20260102_000000"),
            (
                "latest-news/x/20260102_000000",
                "latest-news/x/20260102_000000",
            ),
            ("latest", "latest-news/x/20260102_000000"),
            ("latest:b/x", "b/x/20260101_000000"),
        ] {
            assert_eq!(
                find(&layout, text).unwrap().path.to_string(),
                expected,
                "{text}"
            );
        }
        let ambiguous = find(&layout, "20260101_000000").unwrap_err().to_string();
        let candidates = "a/x/20260101_000000, b/x/20260101_000000";
        assert!(ambiguous.ends_with(candidates), "{ambiguous}");
        for text in [
            "",
            "/",
            "..",
            "latest:c/x",
            "latest:",
            "a/x",
            "a/x/../x",
            "nobody",
            "/etc",
        ] {
            assert!(
                matches!(find(&layout, text), Err(FindError::Missing { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn a_run_directory_outside_the_log_root_is_found_too() {
        let (root, layout) = log_root();
        let elsewhere = Layout::new(root.path().join("elsewhere"));
        plant_run(&elsewhere, "a/x/20260101_000000");
        let directory = elsewhere.run(&run_path("a/x/20260101_000000"));
        let run = find(&layout, directory.path().to_str().unwrap()).unwrap();
        assert_eq!(run.directory, directory);
        assert_eq!(run.record.outcome, Outcome::Success);
    }

    #[test]
    fn a_run_whose_runner_is_gone_is_told_as_crashed_and_not_written() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        let run = folder.run().clone();
        assert_eq!(
            read_run(&layout, run.clone()).record.outcome,
            Outcome::Running
        );
        folder.begin(&begun(&run)).unwrap();
        let written = fs::read(layout.run(&run).metadata()).unwrap();
        assert_eq!(
            read_run(&layout, run.clone()).record.outcome,
            Outcome::Running
        );
        let runner_log = folder.runner_log().unwrap();
        drop(folder);
        assert_eq!(
            read_run(&layout, run.clone()).record.outcome,
            Outcome::Running
        );
        drop(runner_log);
        let record = read_run(&layout, run.clone()).record;
        assert_eq!((record.outcome, record.exit_code), (Outcome::Crashed, None));
        assert!(record.end_time.is_some());
        assert_eq!(fs::read(layout.run(&run).metadata()).unwrap(), written);
    }

    #[test]
    fn what_is_no_run_breaks_nothing() {
        let (root, layout) = log_root();
        plant_run(&layout, "a/x/20260101_000000");
        let runs = layout.root().join("a/x");
        symlink(&runs, layout.root().join("linked")).unwrap();
        symlink(runs.join("20260101_000000"), runs.join("20260102_000000")).unwrap();
        symlink("/", layout.root().join("a/root")).unwrap();
        symlink("loop", layout.root().join("loop")).unwrap();
        plant(&runs.join("20260103_000000"), b"a file");
        plant(&layout.root().join("heartbeat/task.log"), b"");
        for name in ["x y/z", "-rf/x", "é/x", ".state/x", "UP/x"] {
            fs::create_dir_all(layout.root().join(name).join("20260104_000000")).unwrap();
        }
        assert_eq!(found(&layout, &Filter::default()), ["a/x/20260101_000000"]);
        for text in [
            "a/x/20260102_000000",
            "linked/x/20260101_000000",
            "20260103_000000",
        ] {
            assert!(find(&layout, text).is_err(), "{text}");
        }
        drop(root);
    }

    #[test]
    fn what_others_keep_in_the_log_root_is_no_run() {
        let (_root, layout) = log_root();
        let crashed = run_path("a/x/20260101_000000");
        plant(&layout.run(&crashed).runner_log(), b"");
        // Its runner died before it left anything.
        let bare = run_path("a/x/20260102_000000");
        fs::create_dir(layout.run(&bare).path()).unwrap();
        let foreign = [
            "reports/2024/q1/r.pdf",
            "backup/db/20240301_020000/dump.sql",
            "backup/db/20240301_020000_old/runner.log",
            "ci/cache/abc/metadata.json",
        ];
        for file in foreign {
            plant(&layout.root().join(file), b"{}");
        }
        let runs = ["a/x/20260102_000000", "a/x/20260101_000000"];
        assert_eq!(found(&layout, &Filter::default()), runs);
        let entries = index::entries(&layout, &Filter::default(), &|_, _| ()).unwrap();
        let outcomes: Vec<_> = entries.iter().map(|entry| entry.outcome).collect();
        assert_eq!(outcomes, [Outcome::Crashed; 2]);
        for file in foreign {
            let (run, _) = file.rsplit_once('/').unwrap();
            let directory = layout.root().join(run);
            for text in [run, directory.to_str().unwrap()] {
                assert!(find(&layout, text).is_err(), "{text}");
            }
        }
        assert!(find(&layout, "20240301_020000").is_err());
    }

    #[test]
    fn a_record_that_cannot_be_read_is_a_crashed_run_that_says_so() {
        let (_root, layout) = log_root();
        let run = run_path("a/x/20260101_000000");
        let directory = layout.run(&run);
        plant(&directory.runner_log(), b"");
        let fact = || {
            let record = read_run(&layout, run.clone()).record;
            assert_eq!(record.outcome, Outcome::Crashed);
            assert_eq!(record.start_time, Some(at("2026-01-01T00:00:00Z")));
            record.evidence[0].fact.clone()
        };
        assert_eq!(fact(), "it left no metadata.json");
        plant(&directory.metadata(), b"");
        assert!(fact().starts_with("unreadable record: its metadata.json is no record"));
        plant(&directory.metadata(), &record_text("success")[..20]);
        assert!(fact().starts_with("unreadable record: its metadata.json is no record"));
        fs::remove_file(directory.metadata()).unwrap();
        symlink("/etc/hostname", directory.metadata()).unwrap();
        assert!(fact().starts_with("unreadable record: its metadata.json cannot be read"));
        fs::remove_file(directory.metadata()).unwrap();
        let fifo = std::ffi::CString::new(directory.metadata().to_str().unwrap()).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert!(fact().starts_with("unreadable record: its metadata.json cannot be read"));
    }

    #[test]
    fn fifty_of_many_runs_cost_fifty_reads() {
        let (_root, layout) = log_root();
        for day in 1..=28 {
            plant_run(&layout, &format!("a/x/202601{day:02}_000000"));
        }
        let mut newest = runs(&layout, &Filter::default()).unwrap();
        let first = newest.next().unwrap();
        // The others are gone before anybody looks at them.
        for day in 1..=27 {
            let run = run_path(&format!("a/x/202601{day:02}_000000"));
            let directory = layout.run(&run);
            plant(&directory.runner_log(), b"");
            fs::remove_file(directory.metadata()).unwrap();
        }
        assert_eq!(first.record.outcome, Outcome::Success);
        assert_eq!(newest.next().unwrap().record.outcome, Outcome::Crashed);
    }

    #[test]
    fn full_records_are_read_back() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        let run = folder.run().clone();
        folder.finish(&full_record()).unwrap();
        assert_eq!(read_run(&layout, run).record, full_record());
    }
}
