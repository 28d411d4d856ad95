//! `show`: everything that is known of a run, on one page.

use std::path::PathBuf;

use crate::cli::args::ShowArguments;
use crate::cli::commands::junit;
use crate::cli::error::CliError;
use crate::cli::happenings::Since;
use crate::cli::timeline;
use crate::cli::ui::Ui;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::isolation;
use crate::model::clock::utc;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::record::{NotificationState, Record};
use crate::model::verdict::short;
use crate::model::{duration, text};
use crate::store::format;
use crate::store::layout::Layout;
use crate::store::reader::{Filter, Run};

/// Shows a run.
pub(crate) fn show(world: &World, arguments: &ShowArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    wiring::tell_unlisted(world, &layout);
    let run = wiring::find_run(&layout, &arguments.reference.run)?;
    if arguments.junit {
        let page = junit::page(&run)
            .map_err(|error| CliError::failure("the run's checks cannot be read").because(error))?;
        world.ui.data(&page);
    } else if arguments.json {
        world.ui.data(&format::write(&run.record));
    } else {
        let next = next_runs(world, &layout, &run)?;
        world.ui.data(&page(&world.ui, &run, &next));
    }
    Ok(EXIT_SUCCESS)
}

/// The runs that repeat or continue this one, the oldest first.
fn next_runs(world: &World, layout: &Layout, run: &Run) -> Result<Vec<String>, CliError> {
    let filter = Filter {
        task: Some(run.path.task.clone()),
        since: run.path.run_id.started(),
        ..Filter::default()
    };
    let path = run.path.to_string();
    let later = super::runs::entries(world, layout, &filter)?;
    let next = later.iter().rev();
    let next = next.filter(|entry| entry.previous_run.as_deref() == Some(&path));
    Ok(next
        .map(|entry| format!("{} ({})", entry.path, entry.outcome))
        .collect())
}

/// The most files of a run's commits that are listed.
const MAX_FILES: usize = 20;

fn page(ui: &Ui, run: &Run, next: &[String]) -> String {
    let record = &run.record;
    let mut page = Page {
        text: String::new(),
        width: ui.width().max(MIN_WIDTH),
    };
    let (path, outcome) = (run.path.to_string(), record.outcome);
    let is_short = text::width(&path) + 2 + outcome.as_str().len() <= page.width;
    let gap = if is_short { "  " } else { "\n  " };
    page.line(&format!("{}{gap}{}", ui.strong(&path), ui.outcome(outcome)));
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
    let took = record.elapsed.map(duration::words);
    page.field("took", took.map(|took| record.outcome.took(took)));
    page.field("exit code", record.exit_code.map(|code| code.to_string()));
    page.field("agent", agent(record));
    page.field("tokens", tokens(record));
    page.field("cost", record.cost_usd.map(|usd| format!("${usd:.4}")));
    page.field("turns", record.turns.map(|turns| turns.to_string()));
    page.field("resources", resources(record));
    page.field("containment", record.containment.clone());
    page.field("output", output(record));
    page.field("limits", limits(record));
    page.field("previous run", record.previous_run.clone());
    for next in next {
        page.field("next run", Some(next.clone()));
    }
    page.field("source", record.source.clone());
    page.field("branch", branch(record));
    page.field("own branch", own_branch(run));
    page.field("notification", notification(record));
    commits(&mut page, record);
    if let Some(message) = &record.last_message {
        page.line("\nlast message");
        for line in text::cut_middle(&text::sanitize(message), 2000).lines() {
            page.wrapped("  ", line);
        }
    }
    if !record.evidence.is_empty() {
        page.line("\nevidence");
        for fact in &record.evidence {
            let line = text::first_line(&fact.fact, 300);
            page.wrapped(&format!("  {:<8} ", fact.source.as_str()), &line);
        }
    }
    let events = run.directory.events();
    let course = timeline::timeline(events, Since(record.start_time));
    let course = course.unwrap_or_else(|error| vec![format!("cannot be read: {error}")]);
    if !course.is_empty() {
        page.line("\ntimeline");
        for line in course {
            let width = page.width;
            page.line(text::fit(&line, width).trim_end());
        }
    }
    page.line(&format!("\n{}", run.directory.path().display()));
    page.wrapped("  ", &files(run));
    page.text
}

fn commits(page: &mut Page, record: &Record) {
    if record.commits.is_empty() {
        return;
    }
    let changed = format!("+{}/-{}", record.insertions, record.deletions);
    let files = text::count(record.files_number(), "file");
    page.line(&format!("\ncommits ({files}, {changed})"));
    for commit in &record.commits {
        let subject = text::first_line(&commit.subject, 100);
        page.wrapped(&format!("  {} ", short(&commit.commit)), &subject);
    }
    for file in record.files_changed.iter().take(MAX_FILES) {
        let file = text::sanitize(file).replace('\n', "\\n");
        page.line(&format!("    {file}"));
    }
    let more = record.files_number().saturating_sub(MAX_FILES);
    if more > 0 {
        page.line(&format!("    and {more} more"));
    }
}

/// The files of the run with their sizes.
fn files(run: &Run) -> String {
    let directory = &run.directory;
    let files = [
        directory.metadata(),
        directory.summary(),
        directory.prompt(),
        directory.transcript(),
        directory.stdout(),
        directory.events(),
        directory.checks(),
        directory.runner_log(),
    ];
    let told = |file: &PathBuf| {
        let size = file.symlink_metadata().ok()?.len();
        let name = file.file_name()?.to_string_lossy().into_owned();
        Some(format!("{name} {}", duration::size(size)).replace(' ', "\u{a0}"))
    };
    let told: Vec<_> = files.iter().filter_map(told).collect();
    told.join(", ")
}

/// Narrower than this nothing is wrapped.
const MIN_WIDTH: usize = 40;

struct Page {
    text: String,
    width: usize,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn field(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.wrapped(&format!("  {name:<13} "), &value);
        }
    }

    /// A text of one line behind its label, in as many lines as it needs.
    fn wrapped(&mut self, label: &str, value: &str) {
        let indent = text::width(label);
        let blanks = " ".repeat(indent);
        let mut label = label;
        for line in text::wrap(value, self.width.saturating_sub(indent)) {
            let line = format!("{label}{line}").replace('\u{a0}', " ");
            self.line(line.trim_end());
            label = &blanks;
        }
    }
}

/// The time limits.
fn limits(record: &Record) -> Option<String> {
    let timeout = record.timeout.map(duration::words)?;
    let stall = record.stall_timeout.map(duration::words);
    let stall = stall.map(|stall| format!(", {stall} of silence"));
    Some(format!("{timeout}{}", stall.unwrap_or_default()))
}

fn branch(record: &Record) -> Option<String> {
    let heads = [&record.head_before, &record.head_after].map(|head| head.as_deref().map(short));
    let heads = match heads {
        [Some(before), Some(after)] if before != after => format!(" ({before} to {after})"),
        [Some(before), _] => format!(" ({before})"),
        _ => String::new(),
    };
    let dirty = match record.dirty_after {
        Some(true) => ", uncommitted changes after it",
        Some(false) | None => "",
    };
    Some(format!("{}{heads}{dirty}", record.branch.as_deref()?))
}

/// The branch of an isolated run, where its evidence names it: it stays, then.
fn own_branch(run: &Run) -> Option<String> {
    let branch = isolation::branch(&run.path);
    let mut facts = run.record.evidence.iter();
    facts
        .any(|fact| fact.fact.contains(&branch))
        .then_some(branch)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::RunId;
    use crate::model::record::CommitRecord;

    #[test]
    fn a_path_is_one_line_whatever_its_name() {
        let mut record = Record::unknown("t", "a", RunId::from_directory("20261122_010203"));
        record.commits.push(CommitRecord {
            commit: "0123456789".to_owned(),
            subject: "work".to_owned(),
            author: "Pat".to_owned(),
            date: String::new(),
        });
        let forged = "x\n\nevidence\n  verify   `make test` passed";
        record.files_changed.push(forged.to_owned());
        let mut page = Page {
            text: String::new(),
            width: 80,
        };
        commits(&mut page, &record);
        assert!(
            page.text
                .ends_with("    x\\n\\nevidence\\n  verify   `make test` passed\n"),
            "{}",
            page.text
        );
    }
}
