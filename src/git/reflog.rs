//! What git noted of every movement of HEAD and the branches since a run began.
//!
//! git writes `GIT_REFLOG_ACTION` of its environment into each entry. Three entries of a run with
//! the mark `7`, of a commit, a fast-forward and a person's commit (object names shortened, a tab
//! before the message):
//!
//! ```text
//! d3ce535 719c434 P <p@x> 1795229138 +0000  agent-runner/7: add the parser
//! 719c434 7e2454c P <p@x> 1795229139 +0000  agent-runner/7: Fast-forward
//! 7e2454c 2d19b82 P <p@x> 1795229140 +0000  commit: fix the docs
//! ```
//!
//! Where git makes a commit, and only there, the text after the action is the commit's own first
//! line (or `Merge made by …`). That is how a commit that was made is told from one that was
//! pulled, checked out or reset to.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::git::history::{Facts, cut_line};
use crate::git::place::Place;
use crate::git::{Git, GitError};
use crate::regular;

const ACTION_PREFIX: &str = "agent-runner/";

/// The value of `GIT_REFLOG_ACTION` for a run.
pub(super) fn action(run_mark: &str) -> String {
    format!("{ACTION_PREFIX}{run_mark}")
}

/// Which log an entry is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Log {
    /// HEAD of any work tree of the repository.
    Head,
    /// A local branch.
    Branch(String),
    /// A branch of a remote repository.
    Remote,
}

/// One movement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub log: Log,
    pub old: String,
    pub new: String,
    /// Seconds since 1970.
    pub time: i64,
    /// The mark of the run in whose environment git wrote it.
    pub run: Option<String>,
    /// What is told after the action; `None` where there is but an action.
    pub text: Option<String>,
    /// Whether a remote repository's branch moved because it was pushed to.
    pub is_push: bool,
}

impl Entry {
    fn new(log: Log, old: &str, new: &str, time: i64, message: &str) -> Self {
        let (action, text) = match message.split_once(": ") {
            Some((action, text)) => (action, Some(text.trim().to_owned())),
            // A commit with an empty message.
            None => match message.strip_suffix(':') {
                Some(action) => (action, Some(String::new())),
                None => (message, None),
            },
        };
        let run = action
            .strip_prefix(ACTION_PREFIX)
            // `agent-runner/7 (pick)` is a rebase.
            .and_then(|rest| rest.split(' ').next());
        Self {
            log,
            old: old.to_owned(),
            new: new.to_owned(),
            time,
            run: run.map(str::to_owned),
            text,
            is_push: message == "update by push",
        }
    }

    /// Whether git made the commit, which is the new one, when it wrote this entry.
    pub(super) fn made(&self, commit: &Facts) -> bool {
        self.text.as_ref().is_some_and(|text| {
            cut_line(text) == commit.first_line
                || (commit.parents.len() > 1 && text.starts_with("Merge made by"))
        })
    }

    /// Whether the entry tells that commits came from a remote repository: as its branch, or
    /// straight to a local one, of which `git fetch` notes what it did.
    pub(super) fn is_fetch(&self) -> bool {
        match &self.log {
            Log::Remote => !self.is_push,
            Log::Branch(_) => (self.text.as_deref()).is_some_and(|text| {
                ["storing head", "fast-forward", "forced-update"].contains(&text)
            }),
            Log::Head => false,
        }
    }
}

/// What branches of remote repositories had before a fetch moved them, as revisions to leave out:
/// a remote repository had it, and it was no work of this place alone. What was pushed may have
/// been.
pub(super) fn were_remote_branches(entries: &[Entry]) -> Vec<String> {
    let moves = entries.iter().filter(|entry| entry.log == Log::Remote);
    let (pushes, fetches): (Vec<&Entry>, Vec<&Entry>) = moves.partition(|entry| entry.is_push);
    let pushed: HashSet<&str> = pushes.iter().map(|push| push.new.as_str()).collect();
    let had = fetches.iter().map(|fetch| fetch.old.as_str());
    had.filter(|id| !is_none(id) && !pushed.contains(id))
        .map(|id| format!("^{id}"))
        .collect()
}

/// The most that is read of all logs.
const MAX_LOGS_BYTES: u64 = 32 << 20;

/// Entries this much older than the run are read, too, should the clock have been set back.
const CLOCK_SLACK_SECONDS: i64 = 60;

/// The run in question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    pub mark: &'a str,
    /// When it began, in seconds since 1970.
    pub start: i64,
}

impl Run<'_> {
    /// Whether git wrote the entry in the run's environment.
    pub(super) fn wrote(self, entry: &Entry) -> bool {
        entry.run.as_deref() == Some(self.mark)
    }

    fn earliest(self) -> i64 {
        self.start - CLOCK_SLACK_SECONDS
    }
}

impl Git {
    /// The entries of all logs since the run began, in order of time, and all that the run wrote:
    /// by `GIT_COMMITTER_DATE` an agent can give them any time.
    pub(super) fn entries(&self, place: &Place, run: Run<'_>) -> Result<Vec<Entry>, GitError> {
        let mut entries = Vec::new();
        if place.has_reftable() {
            entries = self.reftable_entries()?;
        } else {
            let mut bytes_left = MAX_LOGS_BYTES;
            for (path, log) in self.log_files(place)? {
                self.has_time(&path)?;
                entries.extend(read_log(&path, &log, run, &mut bytes_left)?);
            }
        }
        entries.retain(|entry| entry.time >= run.earliest() || run.wrote(entry));
        entries.sort_by_key(|entry| entry.time);
        Ok(entries)
    }

    /// With refs in the reftable format the logs are in there, too, and only git can read them.
    fn reftable_entries(&self) -> Result<Vec<Entry>, GitError> {
        let arguments = [
            "log",
            "-g",
            "--all",
            "-z",
            "--date=raw",
            "--format=tformat:%gD%n%H%n%gs",
        ];
        let output = self.read(&arguments)?;
        let output = String::from_utf8_lossy(&output);
        let mut entries = Vec::new();
        let mut tips: HashMap<&str, &str> = HashMap::new();
        let mut records: Vec<&str> = output.split_terminator('\0').collect();
        records.reverse();
        for record in records {
            // refs/heads/main@{1795229138 +0000}
            let mut lines = record.splitn(3, '\n');
            let (Some((name, time)), Some(new)) = (
                lines.next().and_then(|selector| selector.split_once("@{")),
                lines.next(),
            ) else {
                continue;
            };
            let old = tips.insert(name, new).unwrap_or_default();
            let log = if let Some(branch) = name.strip_prefix("refs/heads/") {
                Log::Branch(branch.to_owned())
            } else if name.starts_with("refs/remotes/") {
                Log::Remote
            } else if name.ends_with("HEAD") {
                Log::Head
            } else {
                continue;
            };
            let time = time.split(' ').next().and_then(|time| time.parse().ok());
            if let Some(time) = time {
                let message = lines.next().unwrap_or_default();
                entries.push(Entry::new(log, old, new, time, message));
            }
        }
        Ok(entries)
    }

    fn log_files(&self, place: &Place) -> Result<Vec<(PathBuf, Log)>, GitError> {
        let common = &place.common_directory;
        let mut files = vec![(common.join("logs/HEAD"), Log::Head)];
        for work_tree in list(&common.join("worktrees"))? {
            files.push((work_tree.join("logs/HEAD"), Log::Head));
        }
        let branches = common.join("logs/refs/heads");
        for path in self.list_files(&branches)? {
            let name = path.strip_prefix(&branches).unwrap_or(&path);
            let name = name.to_string_lossy().into_owned();
            files.push((path, Log::Branch(name)));
        }
        for path in self.list_files(&common.join("logs/refs/remotes"))? {
            files.push((path, Log::Remote));
        }
        Ok(files)
    }

    pub(super) fn list_files(&self, directory: &Path) -> Result<Vec<PathBuf>, GitError> {
        let mut files = Vec::new();
        for path in list(directory)? {
            self.has_time(&path)?;
            match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => files.extend(self.list_files(&path)?),
                Ok(_) => files.push(path),
                Err(error) => absent(&path, error)?,
            }
        }
        Ok(files)
    }

    /// Fails where no time is left to read a file or directory: there may be any number of them.
    pub(super) fn has_time(&self, path: &Path) -> Result<(), GitError> {
        if let Some(budget) = self.budget.as_ref().filter(|budget| budget.is_over()) {
            let source = if budget.is_cut() {
                io::Error::other("the runner was asked to stop")
            } else {
                io::ErrorKind::TimedOut.into()
            };
            let path = path.to_owned();
            return Err(GitError::Read { path, source });
        }
        Ok(())
    }
}

/// What is in a directory, which need not be there.
pub(super) fn list(directory: &Path) -> Result<Vec<PathBuf>, GitError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?
            .map(|entry| Ok(entry?.path()))
            .collect()
    };
    read().or_else(|error| absent(directory, error))
}

/// What is not there says nothing; what is there and cannot be read is an error.
pub(super) fn absent<T: Default>(path: &Path, error: io::Error) -> Result<T, GitError> {
    if error.kind() == io::ErrorKind::NotFound {
        return Ok(T::default());
    }
    Err(GitError::Read {
        path: path.to_owned(),
        source: error,
    })
}

/// Reads a log, of at most so many bytes as are left for all.
fn read_log(
    path: &Path,
    log: &Log,
    run: Run<'_>,
    bytes_left: &mut u64,
) -> Result<Vec<Entry>, GitError> {
    let read = || -> io::Result<Vec<u8>> {
        // Most branches have not moved for long.
        if fs::metadata(path)?.mtime() < run.earliest() {
            return Ok(Vec::new());
        }
        regular::read(path, *bytes_left).map_err(|error| match error.kind() {
            kind @ io::ErrorKind::FileTooLarge => {
                io::Error::new(kind, "all reflogs together are larger than 32 MiB")
            }
            _ => error,
        })
    };
    let bytes = read().or_else(|error| absent(path, error))?;
    *bytes_left -= bytes.len() as u64;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.split_inclusive('\n');
    Ok(lines.filter_map(|line| parse_line(log, line)).collect())
}

/// Reads `old new name <email> time zone`, a tab and a message. A line without its end is still
/// being written.
fn parse_line(log: &Log, line: &str) -> Option<Entry> {
    let line = line.strip_suffix('\n')?;
    let (head, message) = line.split_once('\t').unwrap_or((line, ""));
    let (old, new) = split_line(head)?;
    let time = head.rsplit(' ').nth(1)?.parse().ok()?;
    Some(Entry::new(log.clone(), old, new, time, message))
}

/// Whether this name says that there is no object.
pub(super) fn is_none(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

/// Whether a word can only be the name of an object; an agent may have written anything for one.
pub(super) fn is_object_name(word: &str) -> bool {
    matches!(word.len(), 40 | 64) && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The old and the new object name of a line.
pub(super) fn split_line(line: &str) -> Option<(&str, &str)> {
    let mut words = line.splitn(3, ' ');
    let mut name = || words.next().filter(|word| is_object_name(word));
    Some((name()?, name()?))
}
