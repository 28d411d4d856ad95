//! A run's record as text for people: `summary.txt` and the blocks of the aggregate logs. Pure.

use crate::model::clock::utc;
use crate::model::duration;
use crate::model::outcome::Outcome;
use crate::model::record::Record;
use crate::model::text;

/// The longest message or error in a summary.
const MAX_TEXT_BYTES: usize = 2000;

/// Writes a run's summary.
///
/// ```text
/// 2026-02-19 20:40:03 UTC [claude/nightly] elapsed=7m17s tokens=n/a files=3 loc=+36/-2
/// last_message: I moved the tests.
/// ```
pub fn summary(record: &Record) -> String {
    let if_known = |told: String| or_unknown(record.knows_changes().then_some(told));
    let mut first = format!(
        "{} [{}/{}] elapsed={} tokens={} files={} loc={}",
        start(record),
        record.agent,
        record.task,
        or_unknown(record.elapsed.map(duration::elapsed)),
        or_unknown(record.tokens().map(|tokens| tokens.to_string())),
        if_known(record.files_number().to_string()),
        if_known(format!("+{}/-{}", record.insertions, record.deletions)),
    );
    if record.outcome != Outcome::Success {
        first = format!("{first} outcome={}", record.outcome);
    }
    let mut lines = vec![first];
    let mut tell = |label: &str, told: Option<&str>| {
        if let Some(told) = told {
            let clean = text::sanitize(told.trim());
            lines.push(format!(
                "{label}: {}",
                text::cut_middle(&clean, MAX_TEXT_BYTES)
            ));
        }
    };
    tell("error", record.error.as_deref());
    tell("resets", record.resets_at.map(utc).as_deref());
    let nothing_said = record.outcome.is_good().then_some("(no message captured)");
    tell(
        "last_message",
        record.last_message.as_deref().or(nothing_said),
    );
    lines.join("\n") + "\n"
}

/// The summary as it stands in `task.log` and `agent.log`.
pub fn block(record: &Record, summary: &str) -> String {
    format!(
        "\n=== {} [{}/{}] ===\n{summary}",
        start(record),
        record.agent,
        record.task
    )
}

fn start(record: &Record) -> String {
    or_unknown(record.start_time.map(utc))
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "n/a".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::report::ErrorClass;
    use crate::store::testing::full_record;

    #[test]
    fn every_outcome_has_its_summary() {
        let mut record = full_record();
        record.usage = crate::model::report::Usage::default();
        record.resets_at = None;
        let mut summaries = Vec::new();
        for outcome in Outcome::ALL {
            record.outcome = outcome;
            record.error = (!outcome.is_good()).then(|| format!("what went wrong: {outcome}"));
            record.resets_at = (outcome == Outcome::RateLimited)
                .then(|| full_record().resets_at)
                .flatten();
            record.error_class = (outcome == Outcome::RateLimited).then_some(ErrorClass::RateLimit);
            summaries.push(summary(&record));
        }
        insta::assert_snapshot!(summaries.join("---\n"));
    }

    #[test]
    fn the_first_line_of_a_success_is_the_original_one() {
        let mut record = full_record();
        record.agent = "claude".to_owned();
        record.task = "agent_management".to_owned();
        record.usage = crate::model::report::Usage::default();
        record.resets_at = None;
        record.files_changed.push("c".to_owned());
        let text = summary(&record);
        let first = "2026-02-19 20:40:03 UTC [claude/agent_management] elapsed=7m17s tokens=n/a \
                     files=3 loc=+36/-2";
        assert_eq!(text.lines().next(), Some(first));
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("last_message: I moved")
        );
        assert!(block(&record, &text).starts_with(
            "\n=== 2026-02-19 20:40:03 UTC [claude/agent_management] ===\n2026-02-19"
        ));
    }

    #[test]
    fn hostile_and_huge_messages_are_harmless() {
        let mut record = full_record();
        record.last_message = Some(format!("\u{1b}]0;owned\u{7}{}end", "é".repeat(100_000)));
        record.error = Some("\u{1b}[2J\u{202e}".to_owned());
        let text = summary(&record);
        assert!(text.len() < 2 * MAX_TEXT_BYTES + 500, "{}", text.len());
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
        assert!(text.ends_with("end\n"));
    }
}
