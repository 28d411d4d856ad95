//! Dispatched work that was processed: counted by the worker while it lives, or from the day's
//! records.

use std::time::Duration;

use crate::metrics::exposition::{Histogram, Kind, Page, as_float};
use crate::worker::End;

/// How much dispatched work ended in which way, and how long it took.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    success: u64,
    failed: u64,
    dropped: u64,
    took: Histogram,
}

impl Tasks {
    /// Counts one.
    pub fn ended(&mut self, end: End, took: Duration) {
        match end {
            End::Done => self.success += 1,
            End::Failed => self.failed += 1,
            End::Dropped => self.dropped += 1,
        }
        self.took.observe(took);
    }

    /// Writes the two families.
    pub fn write(&self, page: &mut Page) {
        let help = "Dispatched tasks that were processed.";
        let mut family = page.family("agent_tasks_processed_total", Kind::Counter, help);
        for (status, count) in [
            ("success", self.success),
            ("failed", self.failed),
            ("dropped", self.dropped),
        ] {
            family.sample(&[("status", status)], as_float(count));
        }
        let help = "Time for a dispatched task, from its claim to its end.";
        page.family("agent_task_duration_seconds", Kind::Histogram, help)
            .histogram(&[], &self.took);
    }
}
