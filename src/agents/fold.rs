//! Events in, report out: the part of reading that is the same for every agent.

use crate::agents::lines::UNREADABLE;
use crate::model::event::{AgentEvent, Count, MessagePart};
use crate::model::report::{AgentReport, Ending, ErrorClass, MAX_MESSAGE_BYTES};
use crate::model::text;

/// The most refused tools that are named in one report.
const MAX_DENIALS: usize = 100;

/// The longest name, identifier or version that is kept.
pub const MAX_NAME_CHARS: usize = 256;

/// The longest message of a failure that is kept.
const MAX_ERROR_BYTES: usize = 16 * 1024;

/// The highest cost that is believed.
const MAX_USD: f64 = 1e6;

/// Cuts the texts of a report to what a record takes: an agent may print megabytes anywhere.
pub fn bound(report: &mut AgentReport) {
    let names = [
        &mut report.session_id,
        &mut report.model,
        &mut report.version,
    ];
    for name in names.into_iter().flatten() {
        *name = text::shorten(name, MAX_NAME_CHARS);
    }
    if let Some(error) = &mut report.error {
        error.message = text::cut_middle(&error.message, MAX_ERROR_BYTES);
    }
    if let Some(message) = &mut report.final_message {
        *message = text::cut_middle(message, MAX_MESSAGE_BYTES);
    }
}

/// Folds the events of one run into its report.
#[derive(Debug, Default)]
pub struct ReportFold {
    report: AgentReport,
    message: String,
}

impl ReportFold {
    /// Takes the next event.
    pub fn take(&mut self, event: &AgentEvent) {
        let report = &mut self.report;
        match event {
            AgentEvent::Session { id, model, version } => {
                let keep = |known: &mut Option<String>, told: &Option<String>| {
                    if told.is_some() {
                        known.clone_from(told);
                    }
                };
                keep(&mut report.session_id, id);
                keep(&mut report.model, model);
                keep(&mut report.version, version);
            }
            AgentEvent::Message { text, part } => {
                if *part == MessagePart::Whole {
                    self.message.clear();
                }
                self.message.push_str(text);
                // The middle is cut early, so that a flood of deltas cannot grow the text.
                if self.message.len() > 4 * MAX_MESSAGE_BYTES {
                    self.message = text::cut_middle(&self.message, 2 * MAX_MESSAGE_BYTES);
                }
            }
            AgentEvent::ToolUse { .. } => report.tool_uses += 1,
            AgentEvent::PermissionDenied { tool } => {
                if report.permission_denials.len() < MAX_DENIALS {
                    let tool = text::shorten(tool, MAX_NAME_CHARS);
                    report.permission_denials.push(tool);
                }
            }
            AgentEvent::Turn => report.turns = Some(report.turns.unwrap_or(0) + 1),
            AgentEvent::Turns(turns) => report.turns = Some(*turns),
            AgentEvent::Usage {
                usage,
                count: Count::More,
            } => {
                report.usage = report.usage.plus(usage);
            }
            AgentEvent::Usage {
                usage,
                count: Count::Total,
            } => report.usage = *usage,
            AgentEvent::Cost { usd, .. } if !(0.0..=MAX_USD).contains(usd) => {}
            AgentEvent::Cost {
                usd,
                count: Count::More,
            } => {
                report.cost_usd = Some(report.cost_usd.unwrap_or(0.0) + usd);
            }
            AgentEvent::Cost {
                usd,
                count: Count::Total,
            } => report.cost_usd = Some(*usd),
            AgentEvent::RateLimit { resets, .. } => {
                if resets.is_some() {
                    report.limit_resets.clone_from(resets);
                }
            }
            AgentEvent::Error(error) => {
                if report.error.is_none() {
                    report.error = Some(error.clone());
                }
            }
            AgentEvent::Completed => report.ending = Ending::Completed,
            AgentEvent::Other { kind } => {
                report.unknown_events += 1;
                if kind == UNREADABLE {
                    report.unreadable_events += 1;
                    // It may have told a failure.
                    report.ending = Ending::Missing;
                }
            }
            AgentEvent::ToolResult { .. }
            | AgentEvent::Retry { .. }
            | AgentEvent::Progress
            | AgentEvent::Warning { .. } => {}
        }
        let failed =
            matches!(event, AgentEvent::Error(error) if error.class == ErrorClass::RateLimit);
        report.waiting_for_limit = failed || matches!(event, AgentEvent::RateLimit { .. });
    }

    /// The report of everything taken so far.
    pub fn finish(self) -> AgentReport {
        let mut report = self.report;
        let message = self.message.trim();
        if !message.is_empty() {
            report.final_message = Some(text::cut_middle(message, MAX_MESSAGE_BYTES));
        }
        report
    }
}
