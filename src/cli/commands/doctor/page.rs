//! The findings on a page for people, wrapped to its width.

use std::fmt::Write as _;

use crate::checkup::{Finding, Level, Section};
use crate::cli::ui::Ui;
use crate::model::text;

/// Less than this beside the subject, and the text goes below it.
const LEAST_COLUMN: usize = 30;

pub(super) fn page(ui: &Ui, findings: &[Finding]) -> String {
    let width = ui.page_width();
    let subject_width = findings
        .iter()
        .map(|finding| finding.subject.chars().count());
    let subject_width = subject_width.max().unwrap_or(0).min(14);
    let beside = 2 + 7 + 2 + subject_width + 2;
    let indent = if width < beside + LEAST_COLUMN {
        4
    } else {
        beside
    };
    let mut page = String::new();
    let mut section: Option<Section> = None;
    for finding in findings {
        if section.replace(finding.section) != Some(finding.section) {
            let title = ui.strong(finding.section.as_str());
            line(&mut page, &title);
        }
        let (level, subject) = (ui.level(finding.level), &finding.subject);
        let mut lines = wrapped(&text::sanitize(&finding.what), width.saturating_sub(indent));
        let fits = indent == beside && subject.chars().count() <= subject_width;
        let head = format!("  {level}  {subject:<subject_width$}  ");
        if fits && !lines.is_empty() {
            line(&mut page, &format!("{head}{}", lines.remove(0)));
        } else {
            line(&mut page, &head);
        }
        if let Some(fix) = &finding.fix {
            lines.extend(wrapped(
                &format!("fix: {fix}"),
                width.saturating_sub(indent),
            ));
        }
        for text in lines {
            line(&mut page, &format!("{:indent$}{text}", ""));
        }
    }
    let count = |level| {
        findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    let counts = [
        (Level::Error, "error"),
        (Level::Warning, "warning"),
        (Level::Note, "note"),
    ];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(level, _)| count(*level) > 0)
        .map(|(level, noun)| text::count(count(*level), noun))
        .collect();
    let sum = if counts.is_empty() {
        "all is well".to_owned()
    } else {
        counts.join(", ")
    };
    line(&mut page, "");
    line(&mut page, &sum);
    page
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{}", text.trim_end()).expect("writing to a string cannot fail");
}

/// Breaks a text between words; a longer word has a line of its own.
fn wrapped(words: &str, width: usize) -> Vec<String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    let filled = text::fill(&words.join(" "), width);
    filled.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(
            wrapped("a /very/long/path b", 4),
            ["a", "/very/long/path", "b"]
        );
        assert_eq!(wrapped("日本 語語", 6), ["日本", "語語"]);
        assert!(wrapped(" ", 4).is_empty());
    }
}
