//! What a dispatch issue asks for, read from its text. It decides nothing about who may ask.
//!
//! An issue is ours when a comment in it names a task:
//!
//! ```text
//! Target Repository: owner/repo
//!
//! ## Instructions
//!
//! Correct the spelling.
//!
//! ---
//!
//! <!-- agent_task_metadata
//! {"task_id": "7a0c…", "user_id": "…"}
//! -->
//! ```
//!
//! The text is parsed as CommonMark, so what only looks like a comment, a heading or a line in a
//! code block, a code span or a quotation is none.

use std::ops::Range;

use pulldown_cmark::{Event, HeadingLevel, Parser, Tag, TagEnd};
use serde_json::{Map, Value};

use crate::model::repository::RepositoryName;
use crate::model::text;

/// The longest body: GitHub's own limit of 65,536 characters, and as much again.
const MAX_BODY_BYTES: usize = 2 * 65_536 * 4;
/// The longest name of a task. The known dispatchers use identifiers of 36 characters.
const MAX_TASK_ID_CHARS: usize = 256;

/// What an issue turns out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// It asks for work.
    Work(Instructed),
    /// It names no task: it is left alone.
    NotOurs,
    /// It is meant for us and cannot be worked from.
    Invalid {
        /// What is wrong, for whoever wrote it.
        reason: String,
    },
}

/// The work that an issue asks for. All texts are as somebody wrote them.
#[derive(Clone, Debug, PartialEq)]
pub struct Instructed {
    /// The name of the task: a label, never an identity. One line, 1 to 256 characters.
    pub task_id: String,
    /// The issue's title, on one line.
    pub title: String,
    /// What to do, as Markdown with line feeds and without comments; never empty.
    pub instruction: String,
    /// The repository to change; `None` when the issue does not say.
    pub target: Option<RepositoryName>,
    /// Whether the title, the task or the instruction has characters that a reader does not see.
    pub hidden_characters: bool,
}

/// Reads an issue. Takes time in proportion to the length of its text, whatever stands there.
pub fn read(title: &str, body: Option<&str>) -> Reading {
    match read_body(title, body.unwrap_or_default()) {
        Ok(Some(work)) => Reading::Work(work),
        Ok(None) => Reading::NotOurs,
        Err(reason) => Reading::Invalid { reason },
    }
}

fn read_body(title: &str, body: &str) -> Result<Option<Instructed>, String> {
    if body.len() > MAX_BODY_BYTES {
        return Err(format!("its text is longer than {MAX_BODY_BYTES} bytes"));
    }
    // As CommonMark has it; no reading depends on how lines end.
    let body = body
        .trim_start_matches('\u{feff}')
        .replace('\0', "\u{fffd}");
    let body = body.replace("\r\n", "\n").replace('\r', "\n");
    let parts = Parts::find(&body);
    let Some(task_id) = task_id(metadata(&body, &parts.metadata)?)? else {
        return Ok(None);
    };
    if parts.is_open {
        return Err("it has a comment `<!--` that is not closed by `-->`".to_owned());
    }
    let title = title.replace(char::is_control, " ").trim().to_owned();
    let mut instruction = parts.instruction(&body);
    if instruction.is_empty() {
        instruction.clone_from(&title);
    }
    if instruction.is_empty() {
        return Err("it has neither a title nor an instruction".to_owned());
    }
    Ok(Some(Instructed {
        target: parts.target(&body)?,
        hidden_characters: [&title, &task_id, &instruction]
            .iter()
            .any(|text| text::has_hidden_characters(text)),
        task_id,
        title,
        instruction,
    }))
}

/// Where in a body the parts are that mean something; ranges of bytes.
#[derive(Debug, Default)]
struct Parts {
    /// What the comments about the metadata say; `None` for one that has no end.
    metadata: Vec<Option<Range<usize>>>,
    /// All comments, which a page does not show.
    comments: Vec<Range<usize>>,
    /// Whether a comment has no end, and text follows it that a page may not show.
    is_open: bool,
    /// The first section with an instruction, without its heading.
    section: Option<Range<usize>>,
    /// Lines `Target Repository: …`, with the line feed.
    target_repository: Vec<Range<usize>>,
    /// Lines `**Target:** …`, with the line feed.
    target: Vec<Range<usize>>,
}

impl Parts {
    fn find(body: &str) -> Self {
        let mut parts = Self::default();
        let mut section: Option<usize> = None;
        let mut heading: Option<String> = None;
        // Quotations and list items around the present place: no section begins or ends in them.
        let (mut quotations, mut items) = (0_usize, 0_usize);
        let mut is_code = false;
        for (event, range) in Parser::new(body).into_offset_iter() {
            let is_outermost = quotations + items == 0;
            match event {
                Event::Start(Tag::BlockQuote(_)) => quotations += 1,
                Event::End(TagEnd::BlockQuote(_)) => quotations -= 1,
                Event::Start(Tag::Item) => items += 1,
                Event::End(TagEnd::Item) => items -= 1,
                Event::Start(Tag::CodeBlock(_)) => is_code = true,
                Event::End(TagEnd::CodeBlock) => is_code = false,
                Event::Start(Tag::HtmlBlock) | Event::InlineHtml(_) => {
                    parts.add_comments(body, &range, quotations);
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(level)) => {
                    let name = heading.take().unwrap_or_default();
                    if !is_outermost || level > HeadingLevel::H2 {
                        continue;
                    }
                    let name = name.trim().to_ascii_lowercase();
                    let is_ours = level == HeadingLevel::H2
                        && matches!(name.as_str(), "instruction" | "instructions");
                    if let Some(start) = section.take() {
                        let line = thematic_line(&body[range.clone()]).filter(|_| !is_ours);
                        let end = range.start + line.unwrap_or(0);
                        parts.section.get_or_insert(start..end);
                    }
                    section = Some(range.end).filter(|_| is_ours);
                }
                Event::Rule if is_outermost && body[range.clone()].trim().bytes().all(is_dash) => {
                    if let Some(start) = section.take() {
                        parts.section.get_or_insert(start..range.start);
                    }
                }
                Event::Text(text) | Event::Code(text) if heading.is_some() => {
                    parts.add_target(body, range.start, quotations);
                    heading.get_or_insert_default().push_str(&text);
                }
                Event::Text(_) if !is_code => parts.add_target(body, range.start, quotations),
                _ => {}
            }
        }
        if let Some(start) = section {
            parts.section.get_or_insert(start..body.len());
        }
        parts
    }

    /// Looks for comments in a piece of HTML; those about the metadata stand in no quotation.
    fn add_comments(&mut self, body: &str, html: &Range<usize>, quotations: usize) {
        let text = &body[html.clone()];
        // Browsers find no comment in these.
        let is_raw = ["<script", "<style", "<textarea"].iter().any(|tag| {
            let start = text.trim_start().get(..tag.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(tag))
        });
        let mut at = 0;
        while let Some(start) = text[at..].find('<').filter(|_| !is_raw) {
            let start = at + start;
            at = start + 1;
            let is_comment = text[at..].starts_with("!--");
            // Browsers take all else that begins so for a comment, too, up to the next `>`.
            if !is_comment && !text[at..].starts_with(['!', '?']) {
                continue;
            }
            // The dashes of the beginning may be those of the end: `<!-->`.
            let (after, mark) = if is_comment {
                (start + 2, "-->")
            } else {
                (at, ">")
            };
            let end = text[after..].find(mark).map(|end| after + end);
            self.is_open |= end.is_none() && html.end < body.trim_end().len();
            at = end.map_or(text.len(), |end| end + mark.len());
            self.comments.push(html.start + start..html.start + at);
            if !is_comment {
                continue;
            }
            let inside = start + 4..end.unwrap_or(text.len()).max(start + 4);
            let comment = text[inside.clone()].trim_start();
            if quotations == 0
                && let Some(rest) = comment.strip_prefix("agent_task_metadata")
                && !rest.starts_with(|c: char| c.is_alphanumeric() || "_-".contains(c))
            {
                let json = html.start + inside.end - rest.len()..html.start + inside.end;
                self.metadata.push(end.map(|_| json));
            }
        }
    }

    /// Looks whether the text at `start` begins a line that names a target.
    fn add_target(&mut self, body: &str, start: usize, quotations: usize) {
        let begins = |word: &str| {
            let text = body.as_bytes().get(start..start + word.len());
            text.is_some_and(|text| text.eq_ignore_ascii_case(word.as_bytes()))
        };
        let lines = if begins("Target Repository") {
            &mut self.target_repository
        } else if begins("Target:") {
            &mut self.target
        } else {
            return;
        };
        // Before it only the markers of emphasis and of a list.
        let before = body[..start].trim_end_matches([' ', '\t', '*', '_', '-', '+']);
        if quotations == 0 && (before.is_empty() || before.ends_with('\n')) {
            let end = body[start..].find('\n');
            let end = end.map_or(body.len(), |end| start + end + 1);
            lines.push(before.len()..end);
        }
    }

    /// What stands in the section, without comments and target.
    fn instruction(&self, body: &str) -> String {
        let Some(section) = self.section.clone() else {
            return String::new();
        };
        let mut left_out: Vec<_> = (self.comments.iter())
            .chain(&self.target_repository)
            .collect();
        left_out.sort_by_key(|range| range.start);
        let mut instruction = String::new();
        let mut at = section.start;
        for range in left_out {
            let start = range.start.clamp(at, section.end);
            instruction.push_str(&body[at..start]);
            at = range.end.clamp(start, section.end);
        }
        instruction.push_str(&body[at..section.end]);
        let text = instruction.trim_end();
        // Whole lines: the indent of the first one may mean code.
        let blank = &text[..text.len() - text.trim_start().len()];
        text[blank.rfind('\n').map_or(0, |feed| feed + 1)..].to_owned()
    }

    /// The repository to change. A line `Target Repository:` beats the dispatcher's own.
    fn target(&self, body: &str) -> Result<Option<RepositoryName>, String> {
        let mut names: Vec<&str> = Vec::new();
        for line in &self.target_repository {
            let line = body[line.clone()].trim_start_matches([' ', '\t', '*', '_', '-', '+']);
            let value = line["Target Repository".len()..].trim_start_matches(['*', '_']);
            if let Some(value) = value.strip_prefix(':') {
                let value = value.trim_start_matches(['*', '_']);
                let word = value.split_whitespace().next();
                // A form that was not filled in says nothing.
                names.extend(word.map(|word| word.trim_matches(['`', '*'])));
            }
        }
        if names.is_empty() {
            for line in &self.target {
                let section = self.section.as_ref();
                // In the instruction it is a word like any other.
                let is_outside = section.is_none_or(|section| !section.contains(&line.start));
                let line = body[line.clone()].trim();
                if let Some(value) = line.strip_prefix("**Target:**").filter(|_| is_outside) {
                    let reference = value.split('`').nth(1);
                    names.extend(reference.and_then(|reference| reference.split('#').next()));
                }
            }
        }
        let mut target: Option<RepositoryName> = None;
        for name in names {
            let name: RepositoryName = name
                .parse()
                .map_err(|error| format!("its target is not valid: {error}"))?;
            if target.as_ref().is_some_and(|other| *other != name) {
                return Err("it names two different target repositories".to_owned());
            }
            target = Some(name);
        }
        Ok(target)
    }
}

fn is_dash(byte: u8) -> bool {
    byte == b'-'
}

/// Where the last line of a heading begins when that is `---`.
///
/// Below a line of text it makes that line a heading; whoever wrote it meant the end of the text.
/// A longer underline is meant as one.
fn thematic_line(heading: &str) -> Option<usize> {
    let heading = heading.trim_end();
    let last = heading.rfind('\n')? + 1;
    (heading[last..].trim() == "---").then_some(last)
}

/// What all comments say together.
fn metadata(body: &str, comments: &[Option<Range<usize>>]) -> Result<Map<String, Value>, String> {
    let mut metadata = Map::new();
    for comment in comments {
        let json = comment
            .clone()
            .ok_or("its comment `agent_task_metadata` is not closed by `-->`")?;
        let value = serde_json::from_str(body[json].trim())
            .map_err(|error| format!("its metadata is not valid JSON: {error}"))?;
        let Value::Object(keys) = value else {
            return Err("its metadata is not a JSON object".to_owned());
        };
        for (key, value) in keys {
            let value = match value {
                Value::Null if key == "task_id" => continue,
                Value::Number(number) if key == "task_id" && !number.is_f64() => {
                    Value::String(number.to_string())
                }
                value => value,
            };
            if metadata.get(&key).is_some_and(|other| *other != value) {
                return Err(format!(
                    "two metadata comments differ in `{}`",
                    text::shorten(&key, 40)
                ));
            }
            metadata.insert(key, value);
        }
    }
    Ok(metadata)
}

/// The task that the metadata names; `None` where it names none.
fn task_id(mut metadata: Map<String, Value>) -> Result<Option<String>, String> {
    let task_id = match metadata.remove("task_id") {
        None => return Ok(None),
        Some(Value::String(task_id)) => task_id,
        Some(_) => return Err("its `task_id` is neither a text nor a whole number".to_owned()),
    };
    if task_id.trim().is_empty() {
        return Err("its `task_id` is empty".to_owned());
    }
    if task_id.chars().count() > MAX_TASK_ID_CHARS {
        return Err(format!(
            "its `task_id` is longer than {MAX_TASK_ID_CHARS} characters"
        ));
    }
    // Line and paragraph separators end a line too.
    if task_id.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err("its `task_id` has control characters".to_owned());
    }
    Ok(Some(task_id))
}

#[cfg(test)]
mod tests;
