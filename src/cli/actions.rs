//! GitHub Actions as the place where the program runs: annotations, the summary of the step, and no
//! workflow command from anybody else.
//!
//! The runner of Actions obeys each line of a step's output that is one of its commands:
//!
//! ```text
//! ::error title=agent-runner::The run failed%0Aand here is why
//! ::add-mask::…      ##[set-env name=PATH]…      the second also in the middle of a line
//! ```
//!
//! What is printed therefore passes [`neutral`]. Not `::stop-commands::`: that needs an order between
//! standard output and standard error, which two pipes do not have, and a word that nobody may learn.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use crate::config::env::{Environment, GITHUB_ACTIONS, GITHUB_STEP_SUMMARY};
use crate::model::record::Record;
use crate::model::text;
use crate::store::summary;

/// GitHub takes 1 MiB a step; the rest is refused with an error that fails nobody.
const MAX_SUMMARY_BYTES: usize = 512 << 10;
/// A longer annotation is cut by GitHub.
const MAX_ANNOTATION_BYTES: usize = 4 << 10;

/// Whether this process is a step of a workflow.
pub fn are_around(environment: &Environment) -> bool {
    environment
        .get(GITHUB_ACTIONS)
        .is_some_and(|value| value == "true")
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Annotation {
    Notice,
    Warning,
    Error,
}

/// The workflow command that shows a text on the page of the workflow run.
pub fn annotation(kind: Annotation, message: &str) -> String {
    let kind = match kind {
        Annotation::Notice => "notice",
        Annotation::Warning => "warning",
        Annotation::Error => "error",
    };
    let message = text::cut_middle(&text::sanitize(message), MAX_ANNOTATION_BYTES);
    let message = message.replace('%', "%25").replace('\r', "%0D");
    format!(
        "::{kind} title=agent-runner::{}",
        message.trim_end().replace('\n', "%0A")
    )
}

/// The text with nothing in it that Actions would obey. Lines end as .NET ends them, at `\r`, too.
pub fn neutral(text: &str) -> Cow<'_, str> {
    let is_command = |line: &str| line.trim_start().starts_with("::");
    if !text.contains("##[") && !text.split(['\n', '\r']).any(is_command) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive(['\n', '\r']) {
        let rest = line.trim_start_matches(|c: char| c.is_whitespace() && c != '\n' && c != '\r');
        let indent = &line[..line.len() - rest.len()];
        clean.push_str(indent);
        clean.push_str(if rest.starts_with("::") { "\\" } else { "" });
        clean.push_str(&rest.replace("##[", "## ["));
    }
    Cow::Owned(clean)
}

/// A stream that comes in pieces, made neutral line by line.
#[derive(Debug, Default)]
pub struct NeutralLines {
    held: Vec<u8>,
}

impl NeutralLines {
    /// A longer line is passed on in parts, each as a line of its own.
    const MAX_HELD_BYTES: usize = 16 << 10;

    /// What is held of a last line without an end, as a line.
    pub fn finish(&mut self) -> Vec<u8> {
        if self.held.is_empty() {
            return Vec::new();
        }
        self.take(b"\n")
    }

    /// Takes a piece, and gives the lines that are complete.
    pub fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let end = match memchr::memrchr2(b'\n', b'\r', &self.held) {
            Some(end) => end + 1,
            None if self.held.len() > Self::MAX_HELD_BYTES => {
                self.held.push(b'\n');
                self.held.len()
            }
            None => return Vec::new(),
        };
        let lines: Vec<u8> = self.held.drain(..end).collect();
        neutral(&String::from_utf8_lossy(&lines))
            .into_owned()
            .into_bytes()
    }
}

/// The page that a step leaves on its workflow run.
#[derive(Debug)]
pub struct StepSummary(PathBuf);

impl StepSummary {
    /// `None` outside of Actions.
    pub fn find(environment: &Environment) -> Option<Self> {
        let path = environment.get(GITHUB_STEP_SUMMARY)?;
        are_around(environment).then(|| Self(path.into()))
    }

    /// Appends what became of runs; what others said stands in fenced blocks, where nothing is
    /// Markdown.
    pub fn append(&self, title: &str, records: &[Record]) -> io::Result<()> {
        let mut page = format!("### agent-runner: {title}\n\n");
        for record in records {
            let told = text::sanitize(&summary::summary(record));
            let fence = fence(&told);
            let block = format!("{fence}text\n{}\n{fence}\n\n", told.trim_end());
            if page.len() + block.len() > MAX_SUMMARY_BYTES {
                page.push_str("More runs are left out.\n");
                break;
            }
            page.push_str(&block);
        }
        let mut file = File::options().append(true).create(true).open(&self.0)?;
        file.write_all(page.as_bytes())
    }
}

/// A fence longer than any in the text.
fn fence(text: &str) -> String {
    let longest = text
        .split(|c| c != '`')
        .map(str::len)
        .max()
        .unwrap_or_default();
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the runner of Actions reads a line: `::` behind blanks, `##[` anywhere.
    fn is_obeyed(line: &str) -> bool {
        line.trim_start().starts_with("::") || line.contains("##[")
    }

    #[test]
    fn no_text_of_others_is_obeyed_by_actions() {
        for text in [
            "::add-mask::x",
            "fine\n  ::set-output name=a::b\n",
            "fine\r::error::x",
            "fine\r\n\t::error::x",
            "in the middle ##[error] of a line",
            "##[##[group]",
            "\u{a0}::stop-commands::x",
            "::::",
        ] {
            let neutral = neutral(text);
            assert!(!neutral.split(['\n', '\r']).any(is_obeyed), "{neutral:?}");
            let mut lines = NeutralLines::default();
            let mut streamed = Vec::new();
            for byte in text.bytes().chain([b'\n']) {
                streamed.extend(lines.take(&[byte]));
            }
            let streamed = String::from_utf8(streamed).unwrap();
            assert!(!streamed.split(['\n', '\r']).any(is_obeyed), "{streamed:?}");
        }
        assert_eq!(neutral("std::fs: a::b\n# x [1]"), "std::fs: a::b\n# x [1]");
    }

    #[test]
    fn an_annotation_is_one_line_whatever_it_says() {
        assert_eq!(
            annotation(Annotation::Error, "100 %\n::add-mask::x\n"),
            "::error title=agent-runner::100 %25%0A::add-mask::x"
        );
    }

    #[test]
    fn a_fence_is_longer_than_any_in_the_text() {
        assert_eq!(fence("a ```` b ` c"), "`````");
        assert_eq!(fence(""), "```");
    }
}
