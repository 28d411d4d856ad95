//! Runs that began and whose runner died without ending them.
//!
//! Every run that has begun has a mark, so looking costs nothing when there is none. What is done
//! about such a run (its processes, its notification) is decided elsewhere.

use std::path::PathBuf;

use crate::model::ids::RunPath;
use crate::model::outcome::Outcome;
use crate::model::record::{NotificationState, Record};
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::private::{is_directory, list};
use crate::store::reader::{crashed, read_record};
use crate::store::recorder::{Mark, RunFolder};

/// A run whose runner died, held against everybody else who would recover it.
#[derive(Debug)]
pub struct Abandoned {
    /// The run's directory, to be finished.
    pub folder: RunFolder,
    /// The record as it was left, told as crashed.
    pub record: Record,
}

/// What lies among the marks and is no file, so no runner put it there; it is never opened.
pub fn odd_marks(layout: &Layout) -> Result<Vec<PathBuf>, StoreError> {
    let marks = list(&layout.running())?.into_iter();
    let odd = marks.filter(|(_, kind)| !kind.is_file());
    Ok(odd.map(|(name, _)| layout.running().join(name)).collect())
}

/// Finds the runs whose runner died. Marks of runs that did end are removed.
pub fn abandoned(layout: &Layout) -> Result<Vec<Abandoned>, StoreError> {
    let mut found = Vec::new();
    for (mark, kind) in list(&layout.running())? {
        if !kind.is_file() {
            continue;
        }
        let run = mark.replace('.', "/").parse::<RunPath>().ok();
        let run = run.filter(|run| run.run_id.started().is_some());
        let Some(mark) = Mark::hold(layout.running().join(mark))? else {
            continue;
        };
        let Some(run) = run.filter(|run| is_directory(layout.run(run).path())) else {
            // None of ours, or its run has been cleaned away or never had a directory.
            mark.remove()?;
            continue;
        };
        if let Some(folder) = RunFolder::take_over(layout, &run, Some(mark))? {
            if let Err(error) = folder.tidy() {
                tracing::warn!(cause = %error.source, "{error}");
            }
            let directory = folder.directory();
            let mut record = read_record(&directory, &run);
            if !directory.metadata().exists() {
                // It died before it could say whether it is to be told, so it is.
                record.notification.state = NotificationState::Pending;
            }
            if record.outcome == Outcome::Running {
                let record = crashed(record, &directory);
                found.push(Abandoned { folder, record });
            } else {
                folder.forget()?;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::reader::read_run;
    use crate::store::testing::{begun, folder, full_record, log_root, plant};

    #[test]
    fn a_run_without_its_runner_is_found_once_and_can_be_finished() {
        let (_root, layout) = log_root();
        assert!(abandoned(&layout).unwrap().is_empty());
        let (alive, dead) = (folder(&layout), folder(&layout));
        let run = dead.run().clone();
        alive.begin(&begun(alive.run())).unwrap();
        dead.begin(&begun(dead.run())).unwrap();
        drop(dead);
        let mut found = abandoned(&layout).unwrap();
        assert_eq!(found.len(), 1);
        assert!(abandoned(&layout).unwrap().is_empty(), "it is held");
        let Abandoned { folder, record } = found.remove(0);
        assert_eq!(folder.run(), &run);
        assert_eq!(record.outcome, Outcome::Crashed);
        folder.finish(&record).unwrap();
        assert_eq!(read_run(&layout, run).record.outcome, Outcome::Crashed);
        assert!(abandoned(&layout).unwrap().is_empty());
    }

    #[test]
    fn a_run_whose_log_was_removed_or_replaced_lives_as_long_as_its_runner() {
        let (_root, layout) = log_root();
        let alive = folder(&layout);
        let (run, log) = (alive.run().clone(), alive.directory().runner_log());
        alive.begin(&begun(&run)).unwrap();
        let outcome = || read_run(&layout, run.clone()).record.outcome;
        std::fs::remove_file(&log).unwrap();
        assert_eq!(outcome(), Outcome::Running);
        assert!(abandoned(&layout).unwrap().is_empty());
        plant(&log, b"another one");
        assert_eq!(outcome(), Outcome::Running);
        assert!(abandoned(&layout).unwrap().is_empty());
        drop(alive);
        assert_eq!(outcome(), Outcome::Crashed);
        assert_eq!(abandoned(&layout).unwrap().len(), 1);
    }

    #[test]
    fn a_runner_that_died_before_its_first_record_is_found_too() {
        let (_root, layout) = log_root();
        drop(folder(&layout));
        let Abandoned { folder, record } = abandoned(&layout).unwrap().remove(0);
        let run = folder.run().clone();
        folder.finish(&record).unwrap();
        let record = read_run(&layout, run).record;
        assert_eq!(record.outcome, Outcome::Crashed);
        assert!(record.evidence[0].fact.contains("has begun"));
    }

    #[test]
    fn a_mark_whose_run_is_being_made_stays() {
        let (_root, layout) = log_root();
        let run = folder(&layout).run().clone();
        let path = layout.running().join("nightly.claude.20300101_000000");
        plant(&path, b"");
        let held = Mark::hold(path.clone()).unwrap().unwrap();
        assert!(Mark::hold(path.clone()).unwrap().is_none());
        let found = abandoned(&layout).unwrap();
        assert_eq!(found.len(), 1, "the other one");
        assert_eq!(found[0].folder.run(), &run);
        assert!(path.exists());
        drop(held);
        abandoned(&layout).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_file_is_no_mark_and_is_never_opened() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let (_root, layout) = log_root();
        drop(folder(&layout));
        let odd = ["a.x.20260101_000000", "a.x.20260102_000000"];
        let odd = odd.map(|name| layout.running().join(name));
        std::fs::create_dir(&odd[0]).unwrap();
        mkfifoat(CWD, &odd[1], Mode::RUSR).unwrap();
        for day in 1..=2 {
            let run = format!("a/x/2026010{day}_000000").parse().unwrap();
            plant(&layout.run(&run).runner_log(), b"");
            assert_eq!(read_run(&layout, run).record.outcome, Outcome::Crashed);
        }
        assert_eq!(abandoned(&layout).unwrap().len(), 1);
        let mut found = odd_marks(&layout).unwrap();
        found.sort();
        assert_eq!(found, odd);
    }

    #[test]
    fn marks_without_a_running_record_are_removed() {
        let (_root, layout) = log_root();
        let ended = folder(&layout);
        plant(
            &ended.directory().metadata(),
            crate::store::format::write(&full_record()).as_bytes(),
        );
        drop(ended);
        for mark in ["nightly.claude.20260101_000000", "x", "..."] {
            plant(&layout.running().join(mark), b"");
        }
        assert!(abandoned(&layout).unwrap().is_empty());
        assert!(list(&layout.running()).unwrap().is_empty());
    }
}
