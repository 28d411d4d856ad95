//! The runner's own log: JSON lines in the run's `runner.log` and in a log rolled by day.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

/// Days for which the rolled log is kept.
const KEPT_DAYS: usize = 14;

/// Turns on the log: rolled files in `directory`, which must exist, and the file of the run at hand.
///
/// A rolled log that cannot be written is left away: a missing log about the runner must not keep
/// it from running.
pub fn begin(directory: &Path) -> RunLog {
    let run_log = RunLog::default();
    let rolled = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("runner")
        .filename_suffix("log")
        .max_log_files(KEPT_DAYS)
        .build(directory)
        .ok();
    let json = tracing_subscriber::fmt::layer()
        .json()
        .with_target(false)
        .flatten_event(true);
    let rolled = rolled.map(|writer| {
        let writer = Mutex::new(writer);
        tracing_subscriber::fmt::layer()
            .json()
            .with_target(false)
            .flatten_event(true)
            .with_writer(writer)
    });
    let shared = run_log.clone();
    let subscriber = Registry::default()
        .with(
            json.with_writer(move || shared.clone())
                .with_filter(LevelFilter::INFO),
        )
        .with(rolled.with_filter(LevelFilter::INFO));
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        // Only a second call could fail, and what it would log is logged by the first.
    }
    run_log
}

/// Writes to the log of the run at hand; to nowhere between runs.
#[derive(Clone, Debug, Default)]
pub struct RunLog {
    file: Arc<Mutex<Option<File>>>,
}

impl RunLog {
    /// Directs the log to a run's file.
    pub fn follow(&self, file: Option<File>) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }
}

impl Write for RunLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.file.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(bytes),
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
