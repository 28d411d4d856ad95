//! Runs that began and whose runner died without ending them.
//!
//! Every run that has begun has a mark, so looking costs nothing when there is none. What is done
//! about such a run (its processes, its notification) is decided elsewhere.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::model::ids::RunPath;
use crate::model::outcome::Outcome;
use crate::model::record::{NotificationRecord, NotificationState, Record};
use crate::store::StoreError;
use crate::store::crashed::crashed;
use crate::store::index;
use crate::store::layout::Layout;
use crate::store::outbox::{EXPIRES_AFTER, Outbox};
use crate::store::private::{is_directory, is_own, list};
use crate::store::reader::{Filter, read_record, read_run};
use crate::store::recorder::{Mark, RunFolder, update_notification};

/// A run whose runner died, held against everybody else who would recover it.
#[derive(Debug)]
pub struct Abandoned {
    /// The run's directory, to be finished.
    pub folder: RunFolder,
    /// The record as it was left, told as crashed unless the run has ended.
    pub record: Record,
    /// The run did end, and its notification may have found no place in the outbox.
    pub has_ended: bool,
}

/// What lies among the marks and is no file, so no runner put it there; it is never opened.
pub fn odd_marks(layout: &Layout) -> Result<Vec<PathBuf>, StoreError> {
    let marks = list(&layout.running())?.into_iter();
    let odd = marks.filter(|(_, kind)| !kind.is_file());
    Ok(odd.map(|(name, _)| layout.running().join(name)).collect())
}

/// How many runs go on.
pub fn running(layout: &Layout) -> Result<usize, StoreError> {
    let marks = list(&layout.running())?.into_iter();
    let runs = marks.filter_map(|(mark, kind)| marked(&mark).filter(|_| kind.is_file()));
    let outcomes = runs.map(|run| read_run(layout, run).record.outcome);
    Ok(outcomes.filter(|outcome| !outcome.is_final()).count())
}

/// The run of a mark.
fn marked(mark: &str) -> Option<RunPath> {
    let run = mark.replace('.', "/").parse::<RunPath>().ok();
    run.filter(|run| run.run_id.started().is_some())
}

/// Marks the runs anew whose runner died and whose mark is lost, so that they are found; and gives
/// the notifications up that nobody keeps any more, where the outbox can be looked at. It looks at
/// every run; [`abandoned`] does not. Nothing is made in another user's log root.
pub fn find_lost(layout: &Layout, now: DateTime<Utc>) -> Result<(), StoreError> {
    if !is_own(layout.root()) {
        return Ok(());
    }
    let waits = Outbox::new(layout).waits();
    let waits = waits.inspect_err(|error| tracing::warn!(cause = %error.source, "{error}"));
    for entry in index::entries(layout, &Filter::default(), &|_, _| ())? {
        let directory = layout.run(&entry.path);
        let is_lost = entry.outcome == Outcome::Crashed
            && !directory.mark().exists()
            // Without a log that is not locked, nothing says that the runner is dead.
            && directory.runner_log().is_file()
            && read_record(&directory, &entry.path).outcome == Outcome::Running;
        if is_lost {
            layout.create_state(&layout.running())?;
            Mark::create(layout, &entry.path)?;
        }
        let is_pending = entry.notification == NotificationState::Pending;
        if is_pending
            && waits.as_ref().is_ok_and(|waits| !waits(&entry.path))
            && !directory.mark().exists()
            && let Err(error) = give_up(layout, &entry.path, now)
        {
            tracing::warn!(cause = %error.source, "{error}");
        }
    }
    Ok(())
}

/// Notes in a final record that its notification, which neither the outbox nor a mark keeps, is given
/// up, once it would have expired in the outbox. What became of it could not be noted.
fn give_up(layout: &Layout, run: &RunPath, now: DateTime<Utc>) -> Result<(), StoreError> {
    let record = read_record(&layout.run(run), run);
    let is_final = record.outcome.is_final();
    let mut notification = record.notification;
    let end = (record.end_time.or(record.start_time)).or(run.run_id.started());
    let is_late = end.is_some_and(|end| now - end > EXPIRES_AFTER);
    if is_final && is_late && notification.state == NotificationState::Pending {
        notification.state = NotificationState::Expired;
        update_notification(layout, run, &notification)?;
    }
    Ok(())
}

/// Finds the runs whose runner died, one after the other, so that no more than one is held at a
/// time: there may be more of them than files may be open. Marks of runs that did end are removed,
/// except where the outbox may not have the notification; what such a mark says of its delivery goes
/// into the record first.
pub fn abandoned(
    layout: &Layout,
) -> Result<impl Iterator<Item = Result<Abandoned, StoreError>>, StoreError> {
    let marks = list(&layout.running())?.into_iter();
    let marks = marks.filter(|(_, kind)| kind.is_file());
    Ok(marks.filter_map(|(mark, _)| look_after(layout, &mark).transpose()))
}

fn look_after(layout: &Layout, mark: &str) -> Result<Option<Abandoned>, StoreError> {
    let run = marked(mark);
    let Some(mark) = Mark::hold(layout.running().join(mark))? else {
        return Ok(None);
    };
    if let Some(run) = &run
        && let directory = layout.run(run)
        && let Err(error) = directory.path().try_exists()
    {
        return Err(StoreError::new("look at", directory.path(), error));
    }
    let Some(run) = run.filter(|run| is_directory(layout.run(run).path())) else {
        // None of ours, or its run has been cleaned away or never had a directory.
        return mark.remove().map(|()| None);
    };
    let delivered = mark.delivered();
    let Some(folder) = RunFolder::take_over(layout, &run, Some(mark))? else {
        return Ok(None);
    };
    for error in [folder.tidy(), folder.order_logs()]
        .into_iter()
        .filter_map(Result::err)
    {
        tracing::warn!(cause = %error.source, "{error}");
    }
    let directory = folder.directory();
    let mut record = read_record(&directory, &run);
    if !directory.metadata().exists() {
        // It died before it could say whether it is to be told, so it is.
        record.notification.state = NotificationState::Pending;
    }
    let has_ended = record.outcome != Outcome::Running;
    if !has_ended {
        record = crashed(record, &directory);
    } else if let (NotificationState::Pending, Some((at, id))) =
        (record.notification.state, delivered)
    {
        let notification = NotificationRecord {
            state: NotificationState::Delivered,
            id: id.or(record.notification.id),
            attempts: record.notification.attempts + 1,
            delivered_at: Some(at),
            configuration: None,
        };
        update_notification(layout, &run, &notification)?;
        return folder.forget().map(|()| None);
    } else if record.notification.state != NotificationState::Pending {
        return folder.forget().map(|()| None);
    }
    Ok(Some(Abandoned {
        folder,
        record,
        has_ended,
    }))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::store::capped_log::LogCaps;
    use crate::store::layout::mark_name;
    use crate::store::testing::{begun, folder, full_record, log_root, plant, start};

    fn all(layout: &Layout) -> Vec<Abandoned> {
        abandoned(layout).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_run_without_its_runner_is_found_once_and_can_be_finished() {
        let (_root, layout) = log_root();
        assert!(all(&layout).is_empty());
        let (alive, dead) = (folder(&layout), folder(&layout));
        let run = dead.run().clone();
        alive.begin(&begun(alive.run())).unwrap();
        dead.begin(&begun(dead.run())).unwrap();
        drop(dead);
        let mut found = all(&layout);
        assert_eq!(found.len(), 1);
        assert!(all(&layout).is_empty(), "it is held");
        let Abandoned { folder, record, .. } = found.remove(0);
        assert_eq!(folder.run(), &run);
        assert_eq!(record.outcome, Outcome::Crashed);
        folder.finish(&record).unwrap();
        assert_eq!(read_run(&layout, run).record.outcome, Outcome::Crashed);
        assert!(all(&layout).is_empty());
    }

    #[test]
    fn a_run_whose_mark_was_lost_is_found_once_its_runner_is_dead() {
        let (_root, layout) = log_root();
        let (alive, dead, bare) = (folder(&layout), folder(&layout), folder(&layout));
        for folder in [&alive, &dead, &bare] {
            folder.begin(&begun(folder.run())).unwrap();
        }
        let ended = folder(&layout);
        ended.finish(&full_record()).unwrap();
        // Whether its runner is dead, nothing tells.
        std::fs::remove_file(bare.directory().runner_log()).unwrap();
        let run = dead.run().clone();
        drop(dead);
        std::fs::remove_dir_all(layout.state()).unwrap();
        assert!(all(&layout).is_empty());
        // What waits to be told cannot be seen.
        plant(&layout.outbox(), b"");
        find_lost(&layout, start()).unwrap();
        let found = all(&layout);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].folder.run(), &run);
        found[0].folder.finish(&found[0].record).unwrap();
        find_lost(&layout, start()).unwrap();
        assert!(all(&layout).is_empty());
    }

    #[test]
    fn a_notification_that_nobody_keeps_is_given_up_when_it_would_have_expired() {
        let (_root, layout) = log_root();
        let [lost, waits, marked] = [folder(&layout), folder(&layout), folder(&layout)];
        let mut record = full_record();
        record.notification.state = NotificationState::Pending;
        for folder in [&lost, &waits] {
            folder.finish(&record).unwrap();
        }
        // It cannot be read, and may when somebody mends it.
        let waiting = format!("1-{}.success.json", mark_name(waits.run()));
        plant(&layout.outbox().join(waiting), b"");
        record.notification.id = None;
        marked.finish(&record).unwrap();
        let states = || {
            [&lost, &waits, &marked].map(|folder| {
                let run = read_run(&layout, folder.run().clone());
                run.record.notification.state
            })
        };
        let (pending, expired) = (NotificationState::Pending, NotificationState::Expired);
        find_lost(&layout, start() + EXPIRES_AFTER).unwrap();
        assert_eq!(states(), [pending; 3]);
        find_lost(&layout, start() + EXPIRES_AFTER * 2).unwrap();
        assert_eq!(states(), [expired, pending, pending]);
    }

    #[test]
    fn only_runs_that_go_on_count_as_running() {
        let (_root, layout) = log_root();
        let [alive, ended, dead] = [folder(&layout), folder(&layout), folder(&layout)];
        alive.begin(&begun(alive.run())).unwrap();
        let mut record = full_record();
        record.notification.state = NotificationState::Pending;
        record.notification.id = None;
        ended.finish(&record).unwrap();
        drop(dead);
        plant(&layout.running().join("x"), b"");
        assert_eq!(list(&layout.running()).unwrap().len(), 4);
        assert_eq!(running(&layout).unwrap(), 1);
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
        assert!(all(&layout).is_empty());
        plant(&log, b"another one");
        assert_eq!(outcome(), Outcome::Running);
        assert!(all(&layout).is_empty());
        drop(alive);
        assert_eq!(outcome(), Outcome::Crashed);
        assert_eq!(all(&layout).len(), 1);
    }

    #[test]
    fn a_runner_that_died_before_its_first_record_is_found_too() {
        let (_root, layout) = log_root();
        drop(folder(&layout));
        let Abandoned { folder, record, .. } = all(&layout).remove(0);
        let run = folder.run().clone();
        folder.finish(&record).unwrap();
        let record = read_run(&layout, run).record;
        assert_eq!(record.outcome, Outcome::Crashed);
        assert!(record.evidence[0].fact.contains("has begun"));
    }

    #[test]
    fn every_log_that_a_dead_runner_left_is_put_in_order() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        folder.begin(&begun(folder.run())).unwrap();
        let caps = LogCaps { head: 2, tail: 3 };
        let mut logs = vec![
            folder.transcript(caps).unwrap(),
            folder.stdout(caps).unwrap(),
        ];
        logs.extend((0..3).map(|_| folder.checks(caps).unwrap()));
        for log in &mut logs {
            log.write(b"0123456789");
        }
        let directory = folder.directory();
        drop((folder, logs));
        assert_eq!(all(&layout).len(), 1);
        for name in ["transcript", "stdout", "checks", "checks.2", "checks.3"] {
            let path = directory.path().join(format!("{name}.log"));
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!(text, "01\n… 5 bytes left out …\n789", "{name}");
        }
    }

    #[test]
    fn a_log_that_cannot_be_put_in_order_leaves_the_others_no_less_in_order() {
        let (_root, layout) = log_root();
        let folder = folder(&layout);
        let caps = LogCaps { head: 2, tail: 3 };
        folder.checks(caps).unwrap().write(b"0123456789");
        // As large as a file can be: its tail has no room to be put in order.
        let mut transcript = folder.transcript(caps).unwrap();
        transcript.write(b"0123456789");
        let path = folder.directory().transcript();
        let note = std::fs::read_to_string(&path).unwrap().split_off(5);
        let file = File::options().write(true).open(&path).unwrap();
        let sizes = (0..63).rev().map(|bit| 1_u64 << bit);
        let largest = sizes.fold(0, |size, more| {
            let is_possible = file.set_len(size + more).is_ok();
            size + if is_possible { more } else { 0 }
        });
        file.set_len(largest).unwrap();
        let (end, tail) = (largest - note.len() as u64, 4096);
        let zeroes = |number: u64| format!("{number:020}");
        let note = note.replacen(&zeroes(2), &zeroes(end - tail), 1);
        let note = note.replacen(&zeroes(3), &zeroes(tail), 1);
        let note = note.replacen(&zeroes(10), &zeroes(end + 1), 1);
        file.write_all_at(note.as_bytes(), end).unwrap();
        folder.order_logs().unwrap_err();
        let text = std::fs::read_to_string(folder.directory().path().join("checks.log"));
        assert_eq!(text.unwrap(), "01\n… 5 bytes left out …\n789");
    }

    #[test]
    fn a_mark_whose_run_is_being_made_stays() {
        let (_root, layout) = log_root();
        let run = folder(&layout).run().clone();
        let path = layout.running().join("nightly.claude.20300101_000000");
        plant(&path, b"");
        let held = Mark::hold(path.clone()).unwrap().unwrap();
        assert!(Mark::hold(path.clone()).unwrap().is_none());
        let found = all(&layout);
        assert_eq!(found.len(), 1, "the other one");
        assert_eq!(found[0].folder.run(), &run);
        assert!(path.exists());
        drop(held);
        all(&layout);
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
        assert_eq!(all(&layout).len(), 1);
        let mut found = odd_marks(&layout).unwrap();
        found.sort();
        assert_eq!(found, odd);
    }

    #[test]
    fn directories_that_an_agent_made_of_a_runs_files_hold_up_no_recovery() {
        let (_root, layout) = log_root();
        let dead = folder(&layout);
        let (run, directory) = (dead.run().clone(), dead.directory());
        dead.begin(&begun(&run)).unwrap();
        let made = [directory.runner_log(), directory.reserve()];
        for path in &made {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
            plant(&path.join("within"), b"");
        }
        let outcome = || read_run(&layout, run.clone()).record.outcome;
        assert_eq!(outcome(), Outcome::Running);
        drop(dead);
        assert_eq!(outcome(), Outcome::Crashed);
        let Abandoned { folder, record, .. } = all(&layout).remove(0);
        folder.finish(&record).unwrap();
        assert_eq!(outcome(), Outcome::Crashed);
        assert!(!directory.mark().exists() && directory.runner_log().is_file());
    }

    #[test]
    fn crashed_runs_are_held_one_at_a_time() {
        let (_root, layout) = log_root();
        let dead = [folder(&layout), folder(&layout)].map(|folder| folder.directory());
        let mut found = abandoned(&layout).unwrap();
        let first = found.next().unwrap().unwrap();
        let is_held = |mark: PathBuf| Mark::hold(mark).unwrap().is_none();
        assert_eq!(
            dead.map(|run| is_held(run.mark()))
                .iter()
                .filter(|held| **held)
                .count(),
            1
        );
        drop(first);
        assert!(found.next().unwrap().is_ok());
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
        assert!(all(&layout).is_empty());
        assert!(list(&layout.running()).unwrap().is_empty());
    }
}
