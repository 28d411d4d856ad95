//! From bytes to lines to events: what all backends share in reading output.
//!
//! A backend implements [`LineTranslator`]; [`LineParser`] does the splitting, bounds the memory
//! and folds the events into the report.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::agents::fold::{MAX_NAME_CHARS, ReportFold, bound};
use crate::agents::{AgentExit, TranscriptParser};
use crate::model::event::AgentEvent;
use crate::model::process_end::Stream;
use crate::model::report::{AgentReport, Ending, ErrorClass};
use crate::model::reset::{self, ResetHint};
use crate::model::text;

/// The longest line that is kept whole. A longer one is passed over and counted as one unknown
/// event, so that memory stays bounded whatever is printed. 8 MiB: a CLI that echoes the prompt
/// does so in one line, and no event of interest is near that size.
pub const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// The most bytes of standard error that are kept for a translator's last resort.
pub const STDERR_TAIL_BYTES: usize = 16 * 1024;

/// The longest summary of a tool's input.
pub const MAX_DETAIL_CHARS: usize = 120;

/// Reads the lines of one CLI's output.
pub trait LineTranslator: fmt::Debug {
    /// Whether there are events in standard output. Where there are none, all of it is text.
    const HAS_EVENTS: bool = true;

    /// Takes one line of standard output, without its line ending, and adds its events.
    fn stdout_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>);

    /// Takes whole lines of standard output that hold no event, as without a `{`, all at once: a
    /// flood of text need not be looked at line by line.
    fn stdout_text(&mut self, lines: &[u8], events: &mut Vec<AgentEvent>) {
        for line in lines.split(|byte| *byte == b'\n') {
            self.stdout_line(line, events);
        }
    }

    /// Takes one line of standard error. Most CLIs say nothing there that counts.
    fn stderr_line(&mut self, _line: &[u8], _events: &mut Vec<AgentEvent>) {}

    /// Completes the report from what is only known at the end: the exit status, a result file,
    /// and, when no closing event told the failure, the tail of standard error.
    fn conclude(&mut self, exit: &AgentExit<'_>, stderr_tail: &str, report: &mut AgentReport);
}

/// A [`TranscriptParser`] over a [`LineTranslator`].
#[derive(Debug)]
pub struct LineParser<T> {
    stdout: LineSplitter,
    stderr: LineSplitter,
    stderr_tail: Vec<u8>,
    /// Text in place of events is an answer.
    may_be_text: bool,
    translator: T,
    fold: ReportFold,
}

impl<T: LineTranslator> LineParser<T> {
    /// A parser at the beginning of both streams.
    pub fn new(translator: T) -> Self {
        Self {
            stdout: LineSplitter::new(T::HAS_EVENTS),
            stderr: LineSplitter::new(false),
            stderr_tail: Vec::new(),
            may_be_text: !T::HAS_EVENTS,
            translator,
            fold: ReportFold::default(),
        }
    }

    /// A parser for a CLI that may have been asked for text by its configured arguments, as by
    /// `--output-format text`.
    pub fn asked(translator: T, arguments: &[String]) -> Self {
        let is_text = |argument: &String| argument == "text" || argument.ends_with("=text");
        Self {
            may_be_text: arguments.iter().any(is_text),
            ..Self::new(translator)
        }
    }

    fn keep_stderr_tail(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(STDERR_TAIL_BYTES)..];
        let excess = (self.stderr_tail.len() + fresh.len()).saturating_sub(STDERR_TAIL_BYTES);
        self.stderr_tail.drain(..excess);
        self.stderr_tail.extend_from_slice(fresh);
    }
}

impl<T: LineTranslator> TranscriptParser for LineParser<T> {
    fn feed(&mut self, stream: Stream, bytes: &[u8], events: &mut Vec<AgentEvent>) {
        let first = events.len();
        let translator = &mut self.translator;
        match stream {
            Stream::Stdout => {
                self.stdout.push(bytes, |piece| match piece {
                    Piece::Line(line) => translator.stdout_line(line, events),
                    Piece::Text(lines) => translator.stdout_text(lines, events),
                    Piece::TooLong => events.push(AgentEvent::Other {
                        kind: "line too long".into(),
                    }),
                });
            }
            Stream::Stderr => {
                self.stderr.push(bytes, |piece| match piece {
                    Piece::Line(lines) | Piece::Text(lines) => {
                        for line in lines.split(|byte| *byte == b'\n') {
                            translator.stderr_line(line, events);
                        }
                    }
                    Piece::TooLong => {}
                });
                self.keep_stderr_tail(bytes);
            }
        }
        for event in &events[first..] {
            self.fold.take(event);
        }
    }

    fn finish(mut self: Box<Self>, exit: &AgentExit<'_>) -> AgentReport {
        let mut events = Vec::new();
        let is_torn = |line: &[u8]| {
            T::HAS_EVENTS
                && events_in(line)
                    .iter()
                    .any(|event| event["type"] == UNREADABLE)
        };
        if let Some(line) = self.stdout.rest().filter(|line| !is_torn(line)) {
            self.translator.stdout_line(line, &mut events);
        }
        if let Some(line) = self.stderr.rest() {
            self.translator.stderr_line(line, &mut events);
        }
        for event in &events {
            self.fold.take(event);
        }
        let mut report = self.fold.finish();
        let tail = String::from_utf8_lossy(&self.stderr_tail);
        self.translator.conclude(exit, &tail, &mut report);
        if report.ending == Ending::Untold && !self.may_be_text {
            // It is shown and proves nothing: `Execution error` may come with exit 0.
            report.ending = Ending::Missing;
        }
        bound(&mut report);
        report
    }
}

/// The kind of the event that stands for a line which begins like an event and cannot be read.
pub const UNREADABLE: &str = "unreadable line";

/// The events in a line: a JSON object is one, and an array holds several (`--output-format json`).
/// Text holds none. A byte order mark and a carriage return are passed over.
pub fn events_in(line: &[u8]) -> Vec<Value> {
    let line = line
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(line)
        .trim_ascii();
    let events = match line {
        [b'{', ..] => parse(line).map(|event| vec![event]),
        [b'[', b'{', ..] => parse(line),
        _ => None,
    };
    events.unwrap_or_else(|| {
        let is_event = line.starts_with(b"{\"") || line.starts_with(b"[{\"");
        Vec::from_iter(is_event.then(|| json!({"type": UNREADABLE})))
    })
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(json);
    read.or_else(|_| serde_json::from_slice(&repaired(json)))
        .ok()
}

/// JSON as this parser takes it: half of a surrogate pair, which JavaScript writes where it cut a
/// text, and what is no UTF-8 are replaced, and what is nested too deep is `null`.
pub fn repaired(json: &[u8]) -> Vec<u8> {
    /// One less than the parser's own limit.
    const MAX_DEPTH: usize = 126;
    let json = String::from_utf8_lossy(json);
    let mut rest = json.as_bytes();
    let mut clean = Vec::with_capacity(rest.len());
    let (mut depth, mut in_string) = (0_usize, false);
    while let [byte, ..] = rest {
        let (before, mut length) = (depth, 1);
        let mut replaced: Option<&[u8]> = None;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => match [utf16_unit(rest), rest.get(6..).and_then(utf16_unit)] {
                [Some(0xd800..0xdc00), Some(0xdc00..0xe000)] => length = 12,
                [Some(0xd800..0xe000), _] => (length, replaced) = (6, Some(&b"\\ufffd"[..])),
                _ => length = 2.min(rest.len()),
            },
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if before == MAX_DEPTH && depth > before {
            clean.extend_from_slice(b"null");
        } else if before.max(depth) <= MAX_DEPTH {
            clean.extend_from_slice(replaced.unwrap_or(&rest[..length]));
        }
        rest = &rest[length..];
    }
    clean
}

/// The number in an escape sequence such as `\ud83d`.
fn utf16_unit(json: &[u8]) -> Option<u16> {
    let digits = json.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// The text at a JSON pointer such as `/message/model`.
pub fn text_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

/// The whole number at a JSON pointer.
pub fn number_at(value: &Value, pointer: &str) -> Option<u64> {
    value.pointer(pointer)?.as_u64()
}

/// The list at a JSON pointer; an empty one where there is none.
pub fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The name of the conversation, which some CLIs repeat in every event.
#[derive(Debug, Default)]
pub struct SessionId(Option<String>);

impl SessionId {
    /// Adds an event when it is told for the first time, or is another one.
    pub fn hear(&mut self, told: Option<&str>, events: &mut Vec<AgentEvent>) {
        if told.is_some() && self.0.as_deref() != told {
            self.0 = told.map(str::to_owned);
            events.push(AgentEvent::Session {
                id: self.0.clone(),
                model: None,
                version: None,
            });
        }
    }
}

/// The most tools that are taken to be in use at once.
const MAX_OPEN_TOOLS: usize = 1000;

/// The names of the tools that are being used, by the call's id, in bounded memory.
#[derive(Debug, Default)]
pub struct OpenTools(BTreeMap<String, String>);

impl OpenTools {
    /// Takes a tool that is used from now on. Where too many are, it is not kept.
    pub fn begin(&mut self, id: &str, name: &str) {
        if self.0.len() < MAX_OPEN_TOOLS {
            let [id, name] = [id, name].map(|text| text::shorten(text, MAX_NAME_CHARS));
            self.0.insert(id, name);
        }
    }

    /// The name of a tool that is done; `None` where its beginning was not seen.
    pub fn end(&mut self, id: &str) -> Option<String> {
        self.0.remove(&text::shorten(id, MAX_NAME_CHARS))
    }
}

/// The failure behind the HTTP status of a model's provider.
pub fn class_of_status(status: u64) -> ErrorClass {
    match status {
        402 | 429 => ErrorClass::RateLimit,
        401 | 403 => ErrorClass::Auth,
        404 => ErrorClass::ModelNotFound,
        500..=599 => ErrorClass::Overloaded,
        _ => ErrorClass::Unknown,
    }
}

/// The wait that a provider asks for in words: `… Please try again in 1s.`
pub fn told_wait(message: &str) -> Option<ResetHint> {
    let (_, wait) = message.rsplit_once("try again in ")?;
    reset::parse_wait(wait)
}

/// One short line that says what a tool was called with, from the first of the usual fields.
pub fn tool_detail(input: &Value) -> Option<String> {
    const FIELDS: [&str; 9] = [
        "command",
        "file_path",
        "filePath",
        "absolute_path",
        "path",
        "pattern",
        "query",
        "url",
        "description",
    ];
    let detail = FIELDS.iter().find_map(|field| input.get(field)?.as_str())?;
    Some(text::first_line(detail, MAX_DETAIL_CHARS))
}

enum Piece<'a> {
    /// One line.
    Line(&'a [u8]),
    /// Lines without an event, the last without its line feed.
    Text(&'a [u8]),
    TooLong,
}

/// Cuts a stream into lines, however it is split.
#[derive(Debug, Default)]
struct LineSplitter {
    /// A line with a `{` may be an event, and is taken by itself.
    has_events: bool,
    partial: Vec<u8>,
    /// The line being read is longer than allowed; its bytes are dropped until it ends.
    too_long: bool,
}

impl LineSplitter {
    fn new(has_events: bool) -> Self {
        Self {
            has_events,
            ..Self::default()
        }
    }

    fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Piece<'_>)) {
        // A line within one of these cannot be too long.
        for bytes in bytes.chunks(MAX_LINE_BYTES) {
            self.push_chunk(bytes, &mut take);
        }
    }

    fn push_chunk(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Piece<'_>)) {
        if (self.too_long || !self.partial.is_empty())
            && let Some(end) = memchr::memchr(b'\n', bytes)
        {
            self.keep(&bytes[..end]);
            take(if self.too_long {
                Piece::TooLong
            } else {
                Piece::Line(&self.partial)
            });
            self.partial.clear();
            self.too_long = false;
            bytes = &bytes[end + 1..];
        }
        if let Some(end) = memchr::memrchr(b'\n', bytes) {
            if self.has_events {
                cut(&bytes[..end], take);
            } else {
                take(Piece::Text(&bytes[..end]));
            }
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// Keeps the beginning of a line, up to the limit.
    fn keep(&mut self, bytes: &[u8]) {
        if self.too_long || self.partial.len() + bytes.len() > MAX_LINE_BYTES {
            self.too_long = true;
            self.partial = Vec::new();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// The last line, when the stream did not end in a line feed.
    fn rest(&self) -> Option<&[u8]> {
        (!self.partial.is_empty()).then_some(&self.partial)
    }
}

/// Cuts whole lines, the last without its line feed, into those with a `{` and what lies between.
fn cut(mut lines: &[u8], take: &mut impl FnMut(Piece<'_>)) {
    while let Some(brace) = memchr::memchr(b'{', lines) {
        let (before, from) = lines.split_at(brace);
        let start = memchr::memrchr(b'\n', before).map_or(0, |feed| feed + 1);
        if start > 0 {
            take(Piece::Text(&lines[..start - 1]));
        }
        let Some(length) = memchr::memchr(b'\n', from) else {
            return take(Piece::Line(&lines[start..]));
        };
        take(Piece::Line(&lines[start..brace + length]));
        lines = &from[length + 1..];
    }
    take(Piece::Text(lines));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> Vec<String> {
        let mut splitter = LineSplitter::new(true);
        let mut lines = Vec::new();
        for piece in pieces {
            splitter.push(piece, |piece| match piece {
                Piece::Line(text) | Piece::Text(text) => {
                    let text = String::from_utf8_lossy(text);
                    lines.extend(text.split('\n').map(str::to_owned));
                }
                Piece::TooLong => lines.push("too long".into()),
            });
        }
        lines.extend(
            splitter
                .rest()
                .map(|line| String::from_utf8_lossy(line).into_owned()),
        );
        lines
    }

    #[test]
    fn lines_are_the_same_for_every_split() {
        let text = b"one\n\ntwo\r\n{\n a { b {\n\n{}\nthree";
        for at in 0..=text.len() {
            let (a, b) = text.split_at(at);
            let lines = ["one", "", "two\r", "{", " a { b {", "", "{}", "three"];
            assert_eq!(split(&[a, b]), lines);
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_over_and_the_next_is_read() {
        let long = vec![b'x'; MAX_LINE_BYTES / 2 + 1];
        assert_eq!(split(&[&long, &long, b"y\nnext\n"]), ["too long", "next"]);
        let whole: Vec<u8> = [&long[..], &long[..], b"\nnext"].concat();
        assert_eq!(split(&[&whole]), ["too long", "next"]);
    }

    #[test]
    fn tools_in_use_are_kept_in_bounded_memory() {
        let mut tools = OpenTools::default();
        let id = |number: usize| format!("{number}{}", "x".repeat(2 * MAX_NAME_CHARS));
        for number in 0..2 * MAX_OPEN_TOOLS {
            tools.begin(&id(number), &id(number));
        }
        let bytes: usize = (tools.0.iter())
            .map(|(id, name)| id.len() + name.len())
            .sum();
        assert!(bytes < MAX_OPEN_TOOLS * 3 * MAX_NAME_CHARS);
        assert!(tools.end(&id(1)).is_some_and(|name| name.starts_with("1x")));
        assert_eq!(tools.end(&id(1)), None);
    }

    #[test]
    fn only_whole_json_is_read_and_text_is_none() {
        let kinds = |line: &[u8]| -> Vec<String> {
            let kind = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
            events_in(line).iter().map(kind).collect()
        };
        assert_eq!(kinds(b"\xef\xbb\xbf{\"type\":\"a\"}\r"), ["a"]);
        assert_eq!(kinds(b"[{\"type\":\"a\"},{\"type\":\"b\"}]"), ["a", "b"]);
        for line in [
            &b"{\"a\":"[..],
            b"{\"a\":1} x",
            b"[{\"a\":1}",
            b"{\"a\":1e999}",
        ] {
            assert_eq!(kinds(line), [UNREADABLE], "{}", line.escape_ascii());
        }
        for line in [&b"[1]"[..], b"text {", b"", b"{ a"] {
            assert!(kinds(line).is_empty(), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn an_event_with_half_a_character_or_deep_nesting_is_read() {
        for (told, read) in [
            (r"\ud83d", "\u{fffd}"),
            (r"a\udc00b", "a\u{fffd}b"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\\ud83d\ud83d\", r"\ud83d�"),
            (r"\ud83d\n\", "�\n"),
        ] {
            let escaped = told.strip_suffix('\\').unwrap_or(told);
            let line = format!(r#"[{{"text":"{escaped}"}}]"#);
            assert_eq!(events_in(line.as_bytes())[0]["text"], read, "{told}");
        }
        assert_eq!(events_in(b"{\"text\":\"\xff\"}")[0]["text"], "\u{fffd}");
        for depth in [100, 125, 126, 127, 200, 1_000_000] {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            let line = format!(r#"{{"deep":{open}"]\"["{close},"after":1}}"#);
            assert_eq!(events_in(line.as_bytes())[0]["after"], 1, "{depth}");
        }
    }
}
