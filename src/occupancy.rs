//! One run at a time in a repository, by a lock that dies with its holder.
//!
//! The lock is on the work tree's own directory: it leaves no file behind, is the same for every
//! configuration and log root, and different for a linked work tree.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::duration;
use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, EvidenceSource};
use crate::model::task::Overlap;
use crate::model::verdict::Verdict;
use crate::planner::RunPlan;
use crate::process::shutdown::Shutdown;

/// How often a waiting run looks whether the repository is free.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether a run has its repository for itself.
#[derive(Debug)]
pub enum Hold {
    /// It has, until this is dropped. `None` where there is no directory to hold: the run will
    /// find that out and say it.
    Ours(Option<File>),
    /// It has not, and ends so.
    Refused(Verdict),
}

/// Takes the repository for a run, or concludes that it is skipped or interrupted.
///
/// Waits only with [`Overlap::Wait`], at most for the task's time limit.
pub async fn hold(plan: &RunPlan, shutdown: &mut Shutdown) -> Hold {
    let tree = work_tree(&plan.repository);
    let Ok(lock) = File::open(&tree) else {
        return Hold::Ours(None);
    };
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Hold::Ours(Some(lock)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => {
                tracing::warn!(%error, "the repository cannot be locked");
                return Hold::Ours(None);
            }
        }
        let waited = began.elapsed();
        if plan.task.overlap == Overlap::Skip || waited >= plan.limits.timeout {
            return refused(Outcome::Skipped, &tree, waited);
        }
        tokio::select! {
            signal = shutdown.next() => return refused(Outcome::Interrupted { signal }, &tree, waited),
            () = sleep(PAUSE) => {}
        }
    }
}

fn refused(outcome: Outcome, tree: &Path, waited: Duration) -> Hold {
    let holder = format!("another run holds `{}`", tree.display());
    let error = match outcome {
        Outcome::Interrupted { signal } => {
            format!("the runner was stopped by signal {signal} while {holder}")
        }
        _ if waited < PAUSE => holder,
        _ => format!("{holder}, and did so for {}", duration::words(waited)),
    };
    let evidence = vec![Evidence::new(EvidenceSource::Runner, error.clone())];
    let error = Some(error);
    Hold::Refused(Verdict {
        outcome,
        error_class: None,
        error,
        resets: None,
        evidence,
    })
}

/// The nearest directory above `repository`, itself among them, that git calls a work tree.
fn work_tree(repository: &Path) -> PathBuf {
    let tree = repository
        .ancestors()
        .find(|directory| directory.join(".git").exists());
    tree.unwrap_or(repository).to_owned()
}
