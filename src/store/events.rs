//! Reading a run's files while they grow: its events one by one, its logs byte by byte.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::regular::open_read;

/// An event as its log holds it. What an older or newer version wrote is there as far as it is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoggedEvent {
    /// When it was seen.
    pub time: Option<DateTime<Utc>>,
    /// What it is: `message`, `tool_use`, `error`, `lifecycle`, …
    pub kind: String,
    fields: Map<String, Value>,
}

impl LoggedEvent {
    /// Reads a line; `None` where it is no event, or not a whole one.
    pub fn read(line: &[u8]) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
        let time = fields.get("time").and_then(Value::as_str);
        Some(Self {
            time: time
                .and_then(|time| DateTime::parse_from_rfc3339(time).ok())
                .map(|time| time.to_utc()),
            kind: fields.get("type")?.as_str()?.to_owned(),
            fields,
        })
    }

    /// A text of the event; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        let text = self.fields.get(name).and_then(Value::as_str);
        text.unwrap_or_default()
    }

    /// Whether something is said of the event.
    pub fn is(&self, name: &str) -> bool {
        self.fields.get(name) == Some(&Value::Bool(true))
    }

    /// A number of the event.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.fields.get(name).and_then(Value::as_f64)
    }
}

/// A file that is read as far as it goes, and again when it has grown. One that is not there yet
/// is as good as empty.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    file: Option<File>,
    at: u64,
}

/// A longer line is given in pieces.
const MAX_LINE_BYTES: usize = 8 << 20;

/// The most that is read at once.
const PIECE_BYTES: usize = 256 * 1024;

impl Growing {
    /// A file from its beginning.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            at: 0,
        }
    }

    /// The bytes that follow; empty at what is the end for now.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn more(&mut self) -> io::Result<Vec<u8>> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match open_read(&self.path) {
                Ok((file, _size)) => self.file.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            },
        };
        let mut piece = vec![0; PIECE_BYTES];
        let length = file.read_at(&mut piece, self.at)?;
        piece.truncate(length);
        self.at += length as u64;
        Ok(piece)
    }
}

/// A growing file line by line. A line that is not ended yet is kept for later.
#[derive(Debug)]
pub struct GrowingLines {
    bytes: Growing,
    rest: Vec<u8>,
}

impl GrowingLines {
    /// The lines of a file from its beginning.
    pub fn new(path: PathBuf) -> Self {
        Self {
            bytes: Growing::new(path),
            rest: Vec::new(),
        }
    }

    /// The whole lines that follow, each with its line feed; none at what is the end for now.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn more(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let piece = self.bytes.more()?;
            if piece.is_empty() {
                return Ok(piece);
            }
            let ended = memchr::memrchr(b'\n', &piece);
            let Some(ended) = ended else {
                self.rest.extend(piece);
                if self.rest.len() > MAX_LINE_BYTES {
                    return Ok(self.rest());
                }
                continue;
            };
            let mut lines = std::mem::take(&mut self.rest);
            lines.extend_from_slice(&piece[..=ended]);
            self.rest.extend_from_slice(&piece[ended + 1..]);
            return Ok(lines);
        }
    }

    /// What follows the last line feed.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }
}

/// Every event of a log, in order, to its present end.
///
/// # Errors
/// When the log is there and cannot be read.
pub fn each_event(path: PathBuf, mut take: impl FnMut(LoggedEvent)) -> io::Result<()> {
    let mut log = GrowingLines::new(path);
    loop {
        let lines = log.more()?;
        if lines.is_empty() {
            return Ok(());
        }
        lines
            .split(|byte| *byte == b'\n')
            .filter_map(LoggedEvent::read)
            .for_each(&mut take);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::model::event::AgentEvent;
    use crate::store::event_log::EventLog;
    use crate::store::testing::start;

    #[test]
    fn a_growing_log_gives_whole_lines_and_its_rest_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut lines = GrowingLines::new(path.clone());
        assert_eq!(lines.more().unwrap(), b"");
        let mut file = File::create(&path).unwrap();
        for (written, read) in [
            ("one\ntw", "one\n"),
            ("o", ""),
            ("\nthree\nfo", "two\nthree\n"),
        ] {
            file.write_all(written.as_bytes()).unwrap();
            assert_eq!(lines.more().unwrap(), read.as_bytes());
        }
        assert_eq!(lines.more().unwrap(), b"");
        assert_eq!(lines.rest(), b"fo");
    }

    #[test]
    fn events_are_read_as_they_were_logged_and_what_is_none_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let mut log = EventLog::create(&path, 10_000).unwrap();
        log.lifecycle(start(), "started", "process 7");
        log.event(start(), &AgentEvent::ToolResult { failed: true });
        log.finish().unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(b"{}\n[]\nno json\n\xff\n{\"type\":\"turn\"}\n{\"type\":\"mess")
            .unwrap();
        let mut events = Vec::new();
        each_event(path, |event| events.push(event)).unwrap();
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["lifecycle", "tool_result", "turn"]);
        assert_eq!(events[0].time, Some(start()));
        assert_eq!(events[0].text("detail"), "process 7");
        assert!(events[1].is("failed") && !events[0].is("failed"));
    }
}
