//! What happened in a run, for people: one line an event, with the time since the start.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::model::{duration, text};
use crate::store::events::LoggedEvent;

/// The longest line about a tool, an error or a limit, in characters.
const MAX_CHARS: usize = 200;

/// How much an event matters to a reader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Weight {
    /// A moment in the life of the agent's process.
    Lifecycle,
    /// What the agent said.
    Message,
    /// What it used.
    Tool,
    /// What went wrong or was waited for.
    Trouble,
    /// Counts and the like.
    Quiet,
}

/// Whether and how an event is told.
pub(crate) fn weight(event: &LoggedEvent) -> Weight {
    match event.kind.as_str() {
        "lifecycle" | "check" => Weight::Lifecycle,
        "message" => Weight::Message,
        "tool_use" => Weight::Tool,
        "tool_result" if event.is("failed") => Weight::Trouble,
        "permission_denied" | "rate_limit" | "retry" | "warning" | "error" => Weight::Trouble,
        _ => Weight::Quiet,
    }
}

/// An event in one line; a message is not.
pub(crate) fn words(event: &LoggedEvent) -> String {
    let line = |name: &str| text::first_line(event.text(name), MAX_CHARS);
    let told = |what: &str, name: &str| match line(name) {
        detail if detail.is_empty() => what.to_owned(),
        detail => format!("{what}: {detail}"),
    };
    match event.kind.as_str() {
        "lifecycle" => match line("detail") {
            detail if detail.is_empty() => line("phase"),
            detail => format!("{} ({detail})", line("phase")),
        },
        "check" => match line("failure") {
            failure if failure.is_empty() => format!("check passed: {}", line("command")),
            failure => format!("! check failed ({failure}): {}", line("command")),
        },
        "tool_use" => format!("> {} {}", line("name"), line("detail"))
            .trim_end()
            .to_owned(),
        "tool_result" => "! the tool failed".to_owned(),
        "permission_denied" => told("! not permitted", "tool"),
        "rate_limit" => told("! rate limit", "message"),
        "retry" => told("! tries again", "message"),
        "warning" => told("! warning", "message"),
        "error" => told("! error", "message"),
        "session" => told("session with model", "model"),
        other => text::first_line(other, MAX_CHARS),
    }
}

/// Tells times since a start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Since(pub(crate) Option<DateTime<Utc>>);

impl Since {
    /// How long after the start an event was; of one without a time, blanks.
    pub(crate) fn tell(&mut self, event: &LoggedEvent) -> String {
        let Some(time) = event.time else {
            return " ".repeat(7);
        };
        let start = *self.0.get_or_insert(time);
        let after = (time - start).to_std().unwrap_or(Duration::ZERO);
        format!("{:>7}", duration::elapsed(after))
    }
}
