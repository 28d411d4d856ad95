//! Writing a run's directory: created, begun, finished.
//!
//! The order is what a crash relies on. A run has a record before its agent is spawned; the locks
//! of its `runner.log` and of its mark are held as long as the runner lives; a final record is the
//! last file that is replaced. So a record that says `running` with both locks free is a run whose
//! runner died. One lock alone proves nothing: whoever tidies logs away makes it look free.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::model::ids::{AgentName, RunId, RunPath, TaskName};
use crate::model::record::{NotificationRecord, Record};
use crate::regular::{open_read, read};
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::capped_log::{self, CappedLog, LogCaps};
use crate::store::event_log::EventLog;
use crate::store::format;
use crate::store::layout::{Layout, RunDirectory};
use crate::store::private::{
    self, append, create_directory, create_file, create_new_directory, is_directory, lock,
    open_append, open_update, overwrite, remove, sync_directory, try_lock,
};
use crate::store::reader::read_metadata;
use crate::store::retention::remove_tree;
use crate::store::summary;

/// The directory of a run that this process carries out.
///
/// Dropping it without [`RunFolder::finish`] frees the lock, and the run counts as crashed.
#[derive(Debug)]
pub struct RunFolder {
    layout: Layout,
    run: RunPath,
    runner_log: File,
    /// `None` for a run without one that was taken over.
    _mark: Option<Mark>,
}

/// Space that is kept for the end of a run, so that an agent that fills the disk with its output
/// does not cost the run its record: a full-sized message in record, notification and summary.
const RESERVE_BYTES: u64 = 128 * 1024;

impl RunFolder {
    /// Creates the directory of a run that starts at `now`, and takes its lock.
    ///
    /// The creation of the directory decides who has the name; a later run of the same second
    /// gets `_2`, `_3`, ….
    pub fn create(
        layout: &Layout,
        task: &TaskName,
        agent: &AgentName,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        layout.create_state(&layout.running())?;
        create_directory(&layout.task(task))?;
        create_directory(&layout.agent(task, agent))?;
        let (mut attempt, mut again) = (1, false);
        let (run, mark) = loop {
            let run = RunPath {
                task: task.clone(),
                agent: agent.clone(),
                run_id: RunId::new(now, attempt),
            };
            attempt += 1;
            let directory = layout.run(&run);
            if is_directory(directory.path()) {
                continue;
            }
            // A directory without a mark would be found by nobody, so the mark comes first.
            let Some(mark) = Mark::create(layout, &run)? else {
                continue;
            };
            match create_new_directory(directory.path()) {
                Ok(()) => break (run, mark),
                // Somebody cleaned the empty directories away.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !again => {
                    mark.remove()?;
                    again = true;
                    create_directory(&layout.task(task))?;
                    create_directory(&layout.agent(task, agent))?;
                }
                Err(error) => {
                    mark.remove()?;
                    if error.kind() != io::ErrorKind::AlreadyExists {
                        return Err(StoreError::new("create directory", directory.path(), error));
                    }
                }
            }
        };
        // What was refused before it began is no run that crashed.
        Self::furnish(layout, &run, mark).inspect_err(|_| Self::discard(layout, &run))
    }

    /// Puts into a new directory what every run has from its beginning.
    fn furnish(layout: &Layout, run: &RunPath, mark: Mark) -> Result<Self, StoreError> {
        let path = layout.run(run).runner_log();
        let runner_log = create_file(&path)?;
        // Somebody who looks may hold the shared lock for a moment, so this one waits.
        lock(&runner_log).map_err(|source| StoreError::new("lock", &path, source))?;
        let folder = Self {
            layout: layout.clone(),
            run: run.clone(),
            runner_log,
            _mark: Some(mark),
        };
        folder.reserve()?;
        Ok(folder)
    }

    /// Removes a run whose agent was not started, as if it had never begun. What cannot be removed
    /// will count as crashed.
    pub fn discard(layout: &Layout, run: &RunPath) {
        let removed = [
            remove_tree(layout.run(run).path()),
            remove(&layout.run(run).mark()),
        ];
        for error in removed.into_iter().filter_map(Result::err) {
            tracing::warn!(cause = %error.source, "{error}");
        }
    }

    fn reserve(&self) -> Result<(), StoreError> {
        let path = self.directory().reserve();
        let file = create_file(&path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
            // A file system that cannot keep space is no reason not to run.
            Ok(()) => Ok(()),
            Err(errno) if [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS].contains(&errno) => {
                Ok(())
            }
            Err(errno) => Err(StoreError::new("reserve space in", &path, errno.into())),
        }
    }

    /// Takes over the directory of a run whose runner died, with the mark that is held of it;
    /// `None` while somebody has the lock of its log.
    pub(crate) fn take_over(
        layout: &Layout,
        run: &RunPath,
        mark: Option<Mark>,
    ) -> Result<Option<Self>, StoreError> {
        let path = layout.run(run).runner_log();
        if fs::symlink_metadata(&path).is_ok_and(|log| !log.is_file()) {
            // The agent put it there.
            remove_tree(&path)?;
        }
        let runner_log = open_append(&path)?;
        match runner_log.try_lock() {
            Ok(()) => {
                atomic::remove_leftovers(layout.run(run).path())?;
                Ok(Some(Self {
                    layout: layout.clone(),
                    run: run.clone(),
                    runner_log,
                    _mark: mark,
                }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::new("lock", &path, source)),
        }
    }

    /// Which run it is.
    pub fn run(&self) -> &RunPath {
        &self.run
    }

    /// Where its files lie.
    pub fn directory(&self) -> RunDirectory {
        self.layout.run(&self.run)
    }

    /// The open `runner.log`, for the runner's own log lines. The lock lasts until every copy of
    /// it is closed.
    pub fn runner_log(&self) -> io::Result<File> {
        self.runner_log.try_clone()
    }

    /// Writes the exact prompt.
    pub fn write_prompt(&self, prompt: &str) -> Result<(), StoreError> {
        overwrite(&self.directory().prompt(), prompt)
    }

    /// Creates the directory for files of the agent's process alone. It need not survive a loss of
    /// power: its process does not.
    pub fn create_private_directory(&self) -> Result<(), StoreError> {
        let path = self.directory().private_directory();
        create_new_directory(&path)
            .map_err(|source| StoreError::new("create directory", &path, source))
    }

    /// Creates the log of everything the agent prints.
    pub fn transcript(&self, caps: LogCaps) -> Result<CappedLog, StoreError> {
        CappedLog::create(&self.directory().transcript(), caps)
    }

    /// Creates the log of the agent's standard output.
    pub fn stdout(&self, caps: LogCaps) -> Result<CappedLog, StoreError> {
        CappedLog::create(&self.directory().stdout(), caps)
    }

    /// Creates the log of what the task's checks print: `checks.log`, and `checks.2.log` where they
    /// are carried out once more.
    #[expect(clippy::missing_panics_doc, reason = "there is always one more")]
    pub fn checks(&self, caps: LogCaps) -> Result<CappedLog, StoreError> {
        let mut logs = self.check_logs();
        let path = logs.find(|log| !log.exists());
        let path = path.expect("numbers do not end");
        CappedLog::create(&path, caps)
    }

    fn check_logs(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let directory = self.directory();
        (1_u64..).map(move |number| match number {
            1 => directory.checks(),
            _ => directory.path().join(format!("checks.{number}.log")),
        })
    }

    /// Creates the log of events, of which about `cap` bytes are kept.
    pub fn events(&self, cap: u64) -> Result<EventLog, StoreError> {
        EventLog::create(&self.directory().events(), cap)
    }

    /// Adds a line to the log of events after the agent's end. It is for reading along.
    pub fn add_event(&self, line: &str) -> Result<(), StoreError> {
        append(&self.directory().events(), line)
    }

    /// Writes the record of the run that has begun; it survives a loss of power from here on. May
    /// be called again when more is known.
    pub fn begin(&self, record: &Record) -> Result<(), StoreError> {
        self.write_record(record)?;
        // After the record, whose sync has mostly brought the names to disk already: of the mark, by
        // which a run without its runner is found, and of the directory.
        sync_directory(&self.layout.running())?;
        sync_directory(&self.layout.agent(&self.run.task, &self.run.agent))
    }

    /// Makes room for the end of the run: frees the space that was kept for it, and creates the
    /// directory anew where the agent removed it. Tells whether it had to.
    pub fn make_room(&self) -> Result<bool, StoreError> {
        let directory = self.directory();
        // The agent may have put a directory there.
        remove_tree(&directory.reserve())?;
        if is_directory(directory.metadata().as_path()) {
            // The agent put it there; nothing but a directory is not replaced by the record.
            remove_tree(&directory.metadata())?;
        }
        if is_directory(directory.path()) {
            return Ok(false);
        }
        let RunPath { task, agent, .. } = &self.run;
        self.layout.create()?;
        create_directory(&self.layout.task(task))?;
        create_directory(&self.layout.agent(task, agent))?;
        remove(directory.path())?;
        create_directory(directory.path())?;
        Ok(true)
    }

    /// Writes the final record and the summaries. The lock is freed with the value.
    ///
    /// The record decides: a summary that cannot be written is a line in the runner's log. The mark
    /// stays where the outbox did not take the notification.
    ///
    /// # Errors
    /// When the record cannot be written. The run is not finished and will count as crashed.
    pub fn finish(&self, record: &Record) -> Result<(), StoreError> {
        let text = summary::summary(record);
        let block = summary::block(record, &text);
        let RunPath { task, agent, .. } = &self.run;
        self.make_room()?;
        let summary = overwrite(&self.directory().summary(), &text);
        self.write_record(record)?;
        let rest = [
            summary,
            if record.notification.is_unkept() {
                Ok(())
            } else {
                self.forget()
            },
            append(&self.layout.task_log(task), &block),
            append(&self.layout.agent_log(task, agent), &block),
        ];
        for error in rest.into_iter().filter_map(Result::err) {
            tracing::warn!(cause = %error.source, "{error}");
        }
        Ok(())
    }

    /// Removes what only the agent's process had a use for, after its death.
    pub(crate) fn tidy(&self) -> Result<(), StoreError> {
        remove_tree(&self.directory().private_directory())
    }

    /// Puts the logs in order that a runner left that died, each whatever becomes of the others.
    ///
    /// # Errors
    /// The first.
    pub(crate) fn order_logs(&self) -> Result<(), StoreError> {
        let directory = self.directory();
        let logs = [directory.transcript(), directory.stdout()].into_iter();
        let checks = self.check_logs().take_while(|log| log.exists());
        logs.chain(checks)
            .map(|log| capped_log::recover(&log))
            .fold(Ok(()), Result::and)
    }

    /// Removes the mark of a run that has begun and not ended.
    pub(crate) fn forget(&self) -> Result<(), StoreError> {
        remove(&self.directory().mark())
    }

    fn write_record(&self, record: &Record) -> Result<(), StoreError> {
        let text = format::write(record);
        atomic::write(&self.directory().metadata(), text.as_bytes())
    }
}

/// The mark of a run that has begun and not ended, held by its runner or by whoever ends a run
/// whose runner died.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    held: File,
}

/// An id is of names that fit into the name of a file.
const MAX_MARK_BYTES: u64 = 1024;

impl Mark {
    /// Marks a run; `None` when the run is marked already.
    pub(crate) fn create(layout: &Layout, run: &RunPath) -> Result<Option<Self>, StoreError> {
        let path = layout.run(run).mark();
        loop {
            let held = match create_file(&path) {
                Ok(file) => file,
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let is_there = lock(&held).and_then(|()| held.metadata());
            let is_there = is_there.map_err(|source| StoreError::new("lock", &path, source))?;
            // Whoever looked between the two lines above saw no directory and removed it.
            if is_there.nlink() > 0 {
                return Ok(Some(Self { path, held }));
            }
        }
    }

    /// Holds a mark that was found; `None` while its runner lives, or when it is gone.
    pub(crate) fn hold(path: PathBuf) -> Result<Option<Self>, StoreError> {
        let held = match open_read(&path) {
            Ok((file, _size)) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::new("open", &path, error)),
        };
        match held.try_lock() {
            Ok(()) => Ok(Some(Self { path, held })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(StoreError::new("lock", &path, source)),
        }
    }

    /// When the notification of its run was delivered, and under which id where that is known, as
    /// [`mark_delivered`] noted it.
    pub(crate) fn delivered(&self) -> Option<(DateTime<Utc>, Option<String>)> {
        let found = self.held.metadata().ok().filter(|mark| mark.len() > 0)?;
        let at = found.modified().ok()?.into();
        let id = read(&self.path, MAX_MARK_BYTES).unwrap_or_default();
        let id = String::from_utf8(id).ok();
        Some((at, id.filter(|id| !matches!(id.as_str(), "" | "\0"))))
    }

    pub(crate) fn remove(self) -> Result<(), StoreError> {
        remove(&self.path)
    }
}

/// One's turn to begin a run, which lasts until the file is dropped; an error that [`is_taken`] while
/// it is somebody else's. Nobody needs a turn; it is for those who must not begin at once.
pub fn turn(layout: &Layout) -> Result<File, StoreError> {
    let running = layout.running();
    layout.create_state(&running)?;
    let turn = File::open(&running).and_then(|file| try_lock(&file).map(|()| file));
    turn.map_err(|source| StoreError::new("lock", &running, source))
}

/// Whether what was to be locked is somebody else's.
pub fn is_taken(error: &StoreError) -> bool {
    private::is_taken(&error.source)
}

/// Writes into a final record what became of its notification; everything else stays as it is.
///
/// A run that has been cleaned away meanwhile is no error.
pub fn update_notification(
    layout: &Layout,
    run: &RunPath,
    notification: &NotificationRecord,
) -> Result<(), StoreError> {
    let path = layout.run(run).metadata();
    let bytes = match read_metadata(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::new("read", &path, error)),
    };
    let text = format::with_notification(&bytes, notification)
        .map_err(|source| StoreError::new("read", &path, source.into()))?;
    // Nobody else writes into the directory of a run that has ended.
    atomic::remove_leftovers(layout.run(run).path())?;
    atomic::write(&path, text.as_bytes())
}

/// Notes in the mark of an ended run that its notification was delivered, where the record cannot
/// take it. Where the disk has no space it goes without the id.
pub fn mark_delivered(layout: &Layout, run: &RunPath, id: &str) -> Result<(), StoreError> {
    layout.create_state(&layout.running())?;
    let path = layout.run(run).mark();
    // An empty mark says that nothing was delivered.
    let id = if id.is_empty() { "\0" } else { id };
    atomic::write_unsynced(&path, id.as_bytes()).or_else(|error| {
        tracing::debug!(cause = %error.source, "the mark does not hold the id");
        open_update(&path)?
            .set_len(1)
            .map_err(|source| StoreError::new("write", &path, source))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::model::outcome::Outcome;
    use crate::model::record::NotificationState;
    use crate::store::reader::read_run;
    use crate::store::testing::{begun, folder, full_record, log_root, plant, start};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn runs_of_the_same_second_get_directories_of_their_own() {
        let (_root, layout) = log_root();
        let folders = [folder(&layout), folder(&layout), folder(&layout)];
        let names = folders.map(|folder| folder.run().run_id.to_string());
        let expected = ["20260219_204003", "20260219_204003_2", "20260219_204003_3"];
        assert_eq!(names, expected);
    }

    #[test]
    fn everything_is_for_its_owner_alone_and_ignored_by_git() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        folder.write_prompt("do it\n").unwrap();
        folder.begin(&begun(folder.run())).unwrap();
        let directory = folder.directory();
        folder.finish(&full_record()).unwrap();
        for path in [layout.root(), &layout.state(), directory.path()] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        for path in [
            directory.metadata(),
            directory.summary(),
            directory.prompt(),
            directory.runner_log(),
            layout.task_log(&"nightly".parse().unwrap()),
        ] {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        assert_eq!(
            fs::read_to_string(layout.root().join(".gitignore")).unwrap(),
            "*\n"
        );
        assert_eq!(fs::read_to_string(directory.prompt()).unwrap(), "do it\n");
    }

    #[test]
    fn a_run_has_a_record_before_it_ends_and_summaries_after() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        let run = folder.run().clone();
        folder.begin(&begun(&run)).unwrap();
        assert_eq!(
            read_run(&layout, run.clone()).record.outcome,
            Outcome::Running
        );
        let mut record = full_record();
        record.outcome = Outcome::Timeout;
        folder.finish(&record).unwrap();
        assert_eq!(read_run(&layout, run.clone()).record, record);
        let summary = fs::read_to_string(layout.run(&run).summary()).unwrap();
        let block = format!("\n=== 2026-02-19 20:40:03 UTC [claude/nightly] ===\n{summary}");
        assert!(summary.contains("outcome=timeout"));
        for log in [
            layout.task_log(&run.task),
            layout.agent_log(&run.task, &run.agent),
        ] {
            assert_eq!(fs::read_to_string(log).unwrap(), block);
        }
        assert_eq!(fs::read_dir(layout.running()).unwrap().count(), 0);
    }

    #[test]
    fn a_delivery_is_noted_whole_or_not_at_all() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        let (run, path) = (folder.run().clone(), folder.directory().mark());
        drop(folder);
        for (id, known) in [("id", Some("id")), ("", None)] {
            plant(&path, b"");
            let empty = Mark::hold(path.clone()).unwrap().unwrap();
            mark_delivered(&layout, &run, id).unwrap();
            assert!(empty.delivered().is_none(), "it is replaced");
            let whole = Mark::hold(path.clone()).unwrap().unwrap();
            assert_eq!(whole.delivered().unwrap().1.as_deref(), known);
        }
    }

    #[test]
    fn no_temporary_file_is_left() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        folder.begin(&begun(folder.run())).unwrap();
        let directory = folder.directory();
        folder.finish(&full_record()).unwrap();
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["metadata.json", "runner.log", "summary.txt"]);
    }

    #[test]
    fn links_planted_in_the_log_root_are_not_followed() {
        let (root, layout) = log_root();
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        let (task, agent) = ("nightly".parse().unwrap(), "claude".parse().unwrap());
        fs::create_dir_all(layout.root()).unwrap();
        symlink(&outside, layout.task(&task)).unwrap();
        let refused = RunFolder::create(&layout, &task, &agent, start()).unwrap_err();
        assert!(refused.to_string().contains("nightly"), "{refused}");
        fs::remove_file(layout.task(&task)).unwrap();

        let folder = folder(&layout);
        let target = outside.join("target");
        for name in ["metadata.json", "summary.txt"] {
            symlink(&target, folder.directory().path().join(name)).unwrap();
        }
        symlink(&target, layout.task_log(&task)).unwrap();
        folder.begin(&begun(folder.run())).unwrap();
        folder.finish(&full_record()).unwrap();
        assert!(!target.exists());
    }

    #[test]
    fn what_is_planted_for_a_summary_holds_up_no_record() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        let run = folder.run().clone();
        folder.begin(&begun(&run)).unwrap();
        let pipes = [
            folder.directory().summary(),
            layout.agent_log(&run.task, &run.agent),
        ];
        for pipe in pipes {
            rustix::fs::mkfifoat(rustix::fs::CWD, pipe, rustix::fs::Mode::RUSR).unwrap();
        }
        fs::create_dir(layout.task_log(&run.task)).unwrap();
        folder.finish(&full_record()).unwrap();
        assert_eq!(read_run(&layout, run).record, full_record());
    }

    #[test]
    fn a_directory_in_the_place_of_the_kept_space_costs_no_record() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        folder.begin(&begun(folder.run())).unwrap();
        let reserve = folder.directory().reserve();
        fs::remove_file(&reserve).unwrap();
        fs::create_dir_all(reserve.join("within")).unwrap();
        assert!(!folder.make_room().unwrap());
        folder.finish(&full_record()).unwrap();
    }

    #[test]
    fn a_notification_changes_nothing_else_of_a_record() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        let run = folder.run().clone();
        let mut record = full_record();
        folder.finish(&record).unwrap();
        record.notification.attempts = 4;
        record.notification.state = NotificationState::Refused;
        update_notification(&layout, &run, &record.notification).unwrap();
        assert_eq!(read_run(&layout, run.clone()).record, record);
        fs::remove_dir_all(layout.run(&run).path()).unwrap();
        update_notification(&layout, &run, &record.notification).unwrap();
    }
}
