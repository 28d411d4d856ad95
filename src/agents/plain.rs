//! What agents say outside of events: text on standard output, last words on standard error.
//!
//! Text is shown to people and never searched for failures. [`PlainText`] reads an agent with
//! `output = "text"` by itself, and is the fall-back inside a translator of JSON lines for a CLI
//! that turns out to print text.

use std::collections::VecDeque;

use serde_json::Value;

use crate::agents::AgentExit;
use crate::agents::lines::{LineTranslator, events_in};
use crate::model::event::AgentEvent;
use crate::model::report::{AgentError, AgentReport, Ending, ErrorClass};
use crate::model::text;

/// The most lines of the last paragraph that are kept: a closing word, not the whole answer.
const MAX_LINES: usize = 20;

/// The most bytes of one such line that are kept.
const MAX_LINE_BYTES: usize = 4 * 1024;

/// The longest message made of standard error, in characters.
const MAX_LAST_WORDS: usize = 500;

/// Keeps the last paragraph of a text in bounded memory.
#[derive(Debug, Default)]
pub struct PlainText {
    paragraph: VecDeque<String>,
    /// A blank line came after the paragraph; the next text begins a new one.
    ended: bool,
    /// There was a JSON event, whole or torn, so what else is printed is no answer.
    structured: bool,
}

impl PlainText {
    /// Takes one or more lines of text. Only what can be part of the last paragraph is looked at.
    pub fn take(&mut self, lines: &[u8]) {
        let text = lines.trim_ascii_end();
        let mut ended = text.is_empty() || lines[text.len()..].contains(&b'\n');
        let mut fresh: Vec<String> = Vec::new();
        for line in text.rsplit(|byte| *byte == b'\n') {
            let line = &line[..line.len().min(MAX_LINE_BYTES)];
            let line = text::sanitize(String::from_utf8_lossy(line).trim_end());
            let is_blank = line.trim().is_empty();
            if !is_blank {
                fresh.push(line);
            }
            if fresh.is_empty() {
                ended = true;
            } else if is_blank || fresh.len() == MAX_LINES {
                self.ended = true;
                break;
            }
        }
        if self.ended && !fresh.is_empty() {
            self.paragraph.clear();
        }
        self.paragraph.extend(fresh.into_iter().rev());
        let excess = self.paragraph.len().saturating_sub(MAX_LINES);
        self.paragraph.drain(..excess);
        self.ended = ended;
    }

    /// The [`events_in`] a line. One without any is kept as text.
    pub fn take_events(&mut self, line: &[u8]) -> Vec<Value> {
        let events = events_in(line);
        if events.is_empty() {
            self.take(line);
        } else {
            self.structured = true;
        }
        events
    }

    /// The last paragraph; `None` where there was no text, or JSON besides it.
    pub fn last_paragraph(&self) -> Option<String> {
        let lines: Vec<&str> = self.paragraph.iter().map(String::as_str).collect();
        (!self.structured && !lines.is_empty()).then(|| lines.join("\n"))
    }

    /// Makes the report of an agent that printed text in place of events. Does nothing for one
    /// that printed events, or nothing.
    pub fn conclude_without_events(&self, report: &mut AgentReport) {
        if let Some(paragraph) = self.last_paragraph() {
            report.ending = Ending::Untold;
            report.final_message = Some(paragraph);
        }
    }
}

impl LineTranslator for PlainText {
    const HAS_EVENTS: bool = false;

    fn stdout_line(&mut self, line: &[u8], _events: &mut Vec<AgentEvent>) {
        self.take(line);
    }

    fn stdout_text(&mut self, lines: &[u8], _events: &mut Vec<AgentEvent>) {
        self.take(lines);
    }

    fn conclude(&mut self, exit: &AgentExit<'_>, stderr_tail: &str, report: &mut AgentReport) {
        report.ending = Ending::Untold;
        report.final_message = self.last_paragraph();
        report.error = last_words(exit, stderr_tail, &[]);
    }
}

/// The failure of an agent that exited with a failure and named none in its output, in the words
/// of its standard error: the last line that begins with `error`, else the last two lines.
///
/// Lines that begin with one of `noise` are left out, and so is a usage text. `None` after a
/// signal or exit 0, and when nothing is left.
pub fn last_words(exit: &AgentExit<'_>, stderr_tail: &str, noise: &[&str]) -> Option<AgentError> {
    if exit.code.is_none_or(|code| code == 0) {
        return None;
    }
    let clean = text::sanitize(stderr_tail);
    let lines: Vec<&str> = clean
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !noise.iter().any(|noise| line.starts_with(noise)))
        .collect();
    let is_error = |line: &&&str| {
        line.get(..5)
            .is_some_and(|p| p.eq_ignore_ascii_case("error"))
    };
    let message = match lines.iter().rfind(is_error) {
        Some(line) => (*line).to_owned(),
        None => lines[lines.len().saturating_sub(2)..].join(" "),
    };
    let message = text::shorten(&message, MAX_LAST_WORDS);
    (!message.is_empty()).then(|| AgentError::new(ErrorClass::Unknown, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> PlainText {
        let mut plain = PlainText::default();
        for line in text.lines() {
            plain.take_events(line.as_bytes());
        }
        plain
    }

    #[test]
    fn the_last_paragraph_is_the_message() {
        let plain = read("Working.\n\n\u{1b}[1mDone.\u{1b}[0m \nOne commit.\n\n\n");
        assert_eq!(plain.last_paragraph().unwrap(), "Done.\nOne commit.");
        assert_eq!(read("\n \n").last_paragraph(), None);
    }

    #[test]
    fn the_last_paragraph_is_the_same_for_every_split() {
        let long = "line\n".repeat(MAX_LINES + 3);
        for text in [
            "one\ntwo\n\nthree\nfour\n\u{1b}[0m\n \n",
            "one\n\u{1b}[1m\n\ntwo\nthree",
            "\n\none",
            "\n \n",
            &format!("first\n\n{long}last"),
        ] {
            let mut one_by_one = PlainText::default();
            for line in text.split('\n') {
                one_by_one.take(line.as_bytes());
            }
            for (at, _) in text.match_indices('\n') {
                let mut plain = PlainText::default();
                plain.take(&text.as_bytes()[..at]);
                plain.take(&text.as_bytes()[at + 1..]);
                assert_eq!(
                    plain.last_paragraph(),
                    one_by_one.last_paragraph(),
                    "{text:?}"
                );
                assert_eq!(plain.ended, one_by_one.ended, "{text:?}");
            }
        }
    }

    #[test]
    fn a_flood_of_text_is_kept_in_bounded_memory() {
        let plain = read(&format!("{}\n", "x".repeat(9000)).repeat(5000));
        assert_eq!(
            plain.last_paragraph().unwrap().len(),
            MAX_LINES * (MAX_LINE_BYTES + 1) - 1
        );
    }

    #[test]
    fn text_beside_events_is_no_answer() {
        assert_eq!(read("{\"type\":\"init\"}\nwarning").last_paragraph(), None);
        assert_eq!(read("{\"type\":\"in").last_paragraph(), None);
    }

    #[test]
    fn standard_error_tells_a_failure_only_after_a_failed_exit() {
        let tell = |code, tail| {
            let exit = AgentExit {
                code,
                result_file: None,
            };
            last_words(&exit, tail, &["Reading"]).map(|error| error.message)
        };
        let usage = "Reading\nerror: unexpected argument\n\n  tip: x\n\nUsage: codex\n\nerror";
        assert_eq!(tell(Some(2), usage).unwrap(), "error: unexpected argument");
        assert_eq!(tell(Some(1), "a\nb\n\nc\n").unwrap(), "b c");
        assert_eq!(tell(Some(1), "Reading\n"), None);
        assert_eq!(tell(Some(0), usage), None);
        assert_eq!(tell(None, usage), None);
    }
}
