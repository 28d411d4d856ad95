//! The normalised events of a run, one JSON object a line.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use chrono::{DateTime, Utc};

use crate::model::event::AgentEvent;
use crate::store::StoreError;
use crate::store::format::{event_line, lifecycle_line};
use crate::store::private::create_file;

/// The log of events. Taking one never fails; what could not be written is told at the end.
///
/// Beyond its cap the agent's events are left out, the lifecycle is not.
#[derive(Debug)]
pub struct EventLog {
    file: File,
    buffer: String,
    taken: u64,
    cap: u64,
    capped: bool,
    error: Option<io::Error>,
}

/// Lines are collected up to this size before they are written.
const BUFFER_BYTES: usize = 64 * 1024;

impl EventLog {
    /// Creates the log's file, which must not exist; about `cap` bytes of events are kept.
    pub fn create(path: &Path, cap: u64) -> Result<Self, StoreError> {
        Ok(Self {
            file: create_file(path)?,
            buffer: String::new(),
            taken: 0,
            cap,
            capped: false,
            error: None,
        })
    }

    /// Takes an event of the agent.
    pub fn event(&mut self, time: DateTime<Utc>, event: &AgentEvent) {
        if self.taken < self.cap {
            self.push(&event_line(time, event));
        } else if !self.capped {
            self.capped = true;
            self.lifecycle(time, "capped", "further events of the agent are left out");
        }
    }

    /// Takes a moment in the life of the agent's process, as [`lifecycle_line`] does.
    pub fn lifecycle(&mut self, time: DateTime<Utc>, phase: &str, detail: &str) {
        self.push(&lifecycle_line(time, phase, detail));
    }

    /// Hands the lines to the system, for those who follow the log.
    pub fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.file.write_all(self.buffer.as_bytes()).err();
        }
        self.buffer.clear();
    }

    /// Ends the log.
    ///
    /// # Errors
    /// The first failure of the disk; no line after it was kept.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush();
        self.error.map_or(Ok(()), Err)
    }

    fn push(&mut self, line: &str) {
        self.taken += line.len() as u64;
        self.buffer.push_str(line);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::testing::start;

    #[test]
    fn lines_are_there_after_a_flush_and_the_lifecycle_beyond_the_cap() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut log = EventLog::create(&path, 200).unwrap();
        log.lifecycle(start(), "started", "pid 7");
        log.flush();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        for _ in 0..100 {
            log.event(start(), &AgentEvent::Turn);
        }
        log.lifecycle(start(), "exited", "status 0");
        log.finish().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() < 600, "{text}");
        assert_eq!(text.matches("capped").count(), 1);
        assert!(text.lines().last().unwrap().contains("exited"));
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let mut log = EventLog {
            file: File::options().write(true).open("/dev/full").unwrap(),
            buffer: String::new(),
            taken: 0,
            cap: 1000,
            capped: false,
            error: None,
        };
        log.event(start(), &AgentEvent::Turn);
        log.flush();
        log.event(start(), &AgentEvent::Turn);
        let error = log.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
