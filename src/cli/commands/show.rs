//! `show`: everything that is known of a run, on one page.

use std::fmt::Write as _;

use crate::cli::args::RunReference;
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::model::clock::utc;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::record::{NotificationState, Record};
use crate::model::verdict::short;
use crate::model::{duration, text};
use crate::store::format;
use crate::store::reader::Run;

/// Shows a run.
pub(crate) fn show(world: &World, arguments: &RunReference) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let run = wiring::find_run(&wiring::layout(&settings), &arguments.run)?;
    if arguments.json {
        world.ui.data(&json(&run.record));
    } else {
        world.ui.data(&page(&world.ui, &run));
    }
    Ok(EXIT_SUCCESS)
}

/// A record as its file holds it.
pub(super) fn json(record: &Record) -> String {
    format::write(record)
}

/// The most files of a run's commits that are listed.
const MAX_FILES: usize = 20;

fn page(ui: &Ui, run: &Run) -> String {
    let record = &run.record;
    let mut page = Page {
        text: String::new(),
    };
    page.line(&format!(
        "{}  {}",
        ui.strong(&run.path.to_string()),
        ui.outcome(record.outcome)
    ));
    page.field(
        "error",
        record
            .error
            .as_deref()
            .map(|error| text::first_line(error, 1000)),
    );
    page.field("class", record.error_class.map(|class| class.to_string()));
    page.field("resets", record.resets_at.map(utc));
    page.line("");
    page.field("started", record.start_time.map(utc));
    page.field("ended", record.end_time.map(utc));
    page.field("took", record.elapsed.map(duration::words));
    page.field("exit code", record.exit_code.map(|code| code.to_string()));
    page.field("agent", agent(record));
    page.field("tokens", tokens(record));
    page.field("cost", record.cost_usd.map(|usd| format!("${usd:.4}")));
    page.field("turns", record.turns.map(|turns| turns.to_string()));
    page.field("resources", resources(record));
    page.field("containment", record.containment.clone());
    page.field("output", output(record));
    page.field("previous run", record.previous_run.clone());
    page.field("source", record.source.clone());
    page.field("branch", record.branch.clone());
    page.field("notification", notification(record));
    if !record.commits.is_empty() {
        page.line("");
        let changed = format!("+{}/-{}", record.insertions, record.deletions);
        page.line(&format!(
            "commits ({}, {changed})",
            text::count(record.files_changed.len(), "file")
        ));
        for commit in &record.commits {
            page.line(&format!(
                "  {} {}",
                short(&commit.commit),
                text::first_line(&commit.subject, 100)
            ));
        }
        for file in record.files_changed.iter().take(MAX_FILES) {
            page.line(&format!("    {}", text::sanitize(file)));
        }
    }
    if let Some(message) = &record.last_message {
        page.line("\nlast message");
        for line in text::cut_middle(&text::sanitize(message), 2000).lines() {
            page.line(&format!("  {line}"));
        }
    }
    if !record.evidence.is_empty() {
        page.line("\nevidence");
        for fact in &record.evidence {
            let line = text::first_line(&fact.fact, 300);
            page.line(&format!("  {:<8} {line}", fact.source.as_str()));
        }
    }
    page.line(&format!("\n{}", run.directory.path().display()));
    page.text
}

struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn field(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            writeln!(self.text, "  {name:<13} {value}").expect("writing to a string cannot fail");
        }
    }
}

fn agent(record: &Record) -> Option<String> {
    let parts = [
        record
            .binary
            .as_ref()
            .map(|binary| binary.display().to_string()),
        record.agent_version.clone(),
        record.model.as_ref().map(|model| format!("model {model}")),
        record
            .session_id
            .as_ref()
            .map(|session| format!("session {session}")),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .flatten()
        .map(|part| text::first_line(&part, 100))
        .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn tokens(record: &Record) -> Option<String> {
    let usage = &record.usage;
    let parts = [
        ("input", usage.input_tokens),
        ("cached", usage.cached_input_tokens),
        ("output", usage.output_tokens),
        ("reasoning", usage.reasoning_tokens),
    ];
    let parts: Vec<_> = parts
        .iter()
        .filter_map(|(name, number)| Some(format!("{name} {}", (*number)?)))
        .collect();
    let total = record.tokens()?;
    Some(if parts.is_empty() {
        total.to_string()
    } else {
        format!("{total} ({})", parts.join(", "))
    })
}

fn resources(record: &Record) -> Option<String> {
    let parts = [
        record
            .cpu
            .map(|cpu| format!("{} of CPU", duration::words(cpu))),
        record
            .max_rss_bytes
            .map(|bytes| format!("{} at most", duration::size(bytes))),
        record
            .survivors_killed
            .filter(|n| *n > 0)
            .map(|n| format!("{} killed", text::count(n as usize, "survivor"))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn output(record: &Record) -> Option<String> {
    let dropped = record.output_dropped_bytes.filter(|bytes| *bytes > 0);
    let dropped = dropped.map(|bytes| format!(", {} of it not kept", duration::size(bytes)));
    Some(format!(
        "{}{}",
        duration::size(record.output_bytes?),
        dropped.unwrap_or_default()
    ))
}

fn notification(record: &Record) -> Option<String> {
    let notification = &record.notification;
    if notification.state == NotificationState::Disabled {
        return None;
    }
    let at = notification
        .delivered_at
        .map(|at| format!(" at {}", utc(at)));
    let tries = text::count(notification.attempts as usize, "attempt");
    Some(format!(
        "{}{} after {tries}",
        notification.state.as_str(),
        at.unwrap_or_default()
    ))
}
