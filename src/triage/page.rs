//! The report as a person reads it on a phone: 40 columns, the most urgent first.

use chrono::{DateTime, Utc};

use crate::model::duration;
use crate::model::text;
use crate::triage::{FailedWork, Failure, Report, Row, Status};

/// The width of a small screen.
pub const WIDTH: usize = 40;

/// A piece of a line with what it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Nothing special.
    Plain,
    /// A heading.
    Strong,
    /// A status.
    Status(Status),
}

/// The lines of the report: each a first piece with what it is, and its rest.
pub fn page(report: &Report) -> Vec<(Part, String, String)> {
    let mut page = Page(Vec::new());
    let back = report.now - report.since;
    let back = match back.num_days() {
        0..3 => duration::words(back.to_std().unwrap_or_default()),
        days => format!("{days} days"),
    };
    let to_do = match report.to_do() {
        0 => "nothing to do".to_owned(),
        number => format!("{number} to do"),
    };
    let now = report.now.format("%H:%M UTC");
    page.0.push((
        Part::Strong,
        format!("{now}, last {back}: {to_do}"),
        String::new(),
    ));
    for remark in report.remarks.iter().filter(|remark| remark.urgent) {
        page.wrap("! ", &remark.text);
    }
    for row in &report.rows {
        page.row(row, report.now);
    }
    for work in &report.works {
        page.work(work);
    }
    if report.rows.is_empty() && report.works.is_empty() {
        page.wrap("", "nothing was due and nothing ran");
    }
    let rests = report.works.iter().any(FailedWork::needs_somebody);
    if rests || !report.failures.is_empty() {
        page.0
            .push((Part::Strong, "next".to_owned(), String::new()));
    }
    for failure in &report.failures {
        page.failure(failure);
    }
    let mut steps: Vec<_> = report
        .works
        .iter()
        .filter(|work| work.needs_somebody())
        .collect();
    steps.sort_by_key(|work| work.step);
    steps.dedup_by_key(|work| work.step);
    for work in steps {
        page.wrap("* ", "dispatched work at rest");
        page.wrap("  -> ", work.step);
    }
    let calm: Vec<_> = report
        .remarks
        .iter()
        .filter(|remark| !remark.urgent)
        .collect();
    if !calm.is_empty() {
        page.0
            .push((Part::Strong, "also".to_owned(), String::new()));
    }
    for remark in calm {
        page.wrap("- ", &remark.text);
    }
    page.0
}

struct Page(Vec<(Part, String, String)>);

impl Page {
    fn row(&mut self, row: &Row, now: DateTime<Utc>) {
        let form = if row.at.date_naive() == now.date_naive() {
            "%H:%M"
        } else {
            "%m-%d %H:%M"
        };
        let by_hand = if row.scheduled { "" } else { " (extra)" };
        let rest = format!("{} {}{by_hand}", row.at.format(form), row.agent);
        let first = format!("{:<7}", row.status.as_str());
        self.0
            .push((Part::Status(row.status), first, format!(" {rest}")));
        let why = if row.why.is_empty() {
            String::new()
        } else {
            format!(": {}", row.why)
        };
        // A good run is one line more than its status, not three.
        self.wrap("  ", &format!("{}{why}", row.task));
    }

    fn work(&mut self, work: &FailedWork) {
        let (status, word) = match work.retry_at {
            None => (Status::Failed, "resting"),
            Some(_) => (Status::Limited, "retries"),
        };
        let since = work.since.format("%m-%d %H:%M");
        self.0
            .push((Part::Status(status), word.to_owned(), format!(" {since}")));
        let attempts = text::count(work.attempts as usize, "attempt");
        let again = work
            .retry_at
            .map(|at| format!("; again at {}", at.format("%H:%M UTC")));
        let (origin, why) = (&work.origin, &work.why);
        let again = again.unwrap_or_default();
        self.wrap("  ", &format!("{origin}: {why} ({attempts}){again}"));
    }

    fn failure(&mut self, failure: &Failure) {
        self.wrap(
            "* ",
            &format!("{}: {}", failure.who.join(", "), failure.what),
        );
        let mut counted = Vec::new();
        if failure.streak > 1 {
            counted.push(format!(
                "the same failure as the last {} runs",
                failure.streak
            ));
        } else if failure.runs > 1 {
            counted.push(format!("seen {} times", failure.runs));
        }
        if failure.runs > 1 {
            let first = failure
                .first_seen
                .map(|at| format!("first seen {}", at.format("%Y-%m-%d %H:%M")));
            counted.extend(first);
            counted.extend(
                failure
                    .last_good
                    .as_ref()
                    .map(|(run, commit)| match commit {
                        Some(commit) => {
                            format!("last good commit {}", commit.get(..8).unwrap_or(commit))
                        }
                        None => format!("last good run {run}"),
                    }),
            );
            let tokens = failure
                .tokens
                .map(|tokens| format!("{tokens} tokens so far"));
            counted.extend(
                failure
                    .cost_usd
                    .map(|usd| format!("${usd:.2} so far"))
                    .or(tokens),
            );
        }
        if !counted.is_empty() {
            self.wrap("  ", &counted.join("; "));
        }
        self.wrap("  -> ", failure.step);
    }

    /// Breaks a text at blanks; a word that is too long is broken anywhere. What follows `first` is
    /// indented like it.
    fn wrap(&mut self, first: &str, text: &str) {
        let clean = text::sanitize(text);
        let words: Vec<&str> = clean.split_whitespace().collect();
        let (indent, mut begin) = (" ".repeat(first.len()), first);
        for line in text::wrap(&words.join(" "), WIDTH - first.len()) {
            self.0
                .push((Part::Plain, format!("{begin}{line}"), String::new()));
            begin = &indent;
        }
    }
}
