//! The built-in agent without a model: the runner's own program applies the patches of the prompt.
//!
//! ```text
//! {"type":"message","text":"2 patches applied and committed as 1a2b3c4"}
//! {"type":"error","message":"patch 2 of 2 does not apply: error: patch failed: README.md:1"}
//! {"type":"completed"}
//! ```
//!
//! It is a process like any other agent, so that it is supervised and recorded like any other; the
//! verb that does the work prints what [`line()`] writes.

use serde::{Deserialize, Serialize};

use crate::agents::lines::{LineParser, LineTranslator, events_in, text_at};
use crate::agents::plain::last_words;
use crate::agents::{AgentExit, AgentInterface, AgentRequest, InvocationError, TranscriptParser};
use crate::model::event::{AgentEvent, MessagePart};
use crate::model::invocation::Invocation;
use crate::model::report::{AgentError, AgentReport, ErrorClass, Usage};

/// The hidden verb of the runner that applies the patches in its standard input.
pub const VERB: &str = "apply-patches";

/// The patch agent; its request's program is the runner itself.
#[derive(Debug)]
pub struct Patch;

/// One thing that the verb says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Said {
    /// For the person; the last one is the final message.
    Message {
        /// The text.
        text: String,
    },
    /// What went wrong. Nothing was changed.
    Error {
        /// The reason.
        message: String,
    },
    /// All is done.
    Completed,
}

/// The line that tells it, without a line feed.
#[expect(
    clippy::missing_panics_doc,
    reason = "an enum of texts can always be written as JSON"
)]
pub fn line(said: &Said) -> String {
    serde_json::to_string(said).expect("texts can always be written as JSON")
}

impl AgentInterface for Patch {
    fn name(&self) -> &'static str {
        "patch"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &[]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        Ok(Invocation::new(request.program, [VERB], request.prompt))
    }

    fn parser(&self, _arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::new(Translator))
    }
}

#[derive(Debug)]
struct Translator;

impl LineTranslator for Translator {
    fn stdout_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        for event in events_in(line) {
            let kind = text_at(&event, "/type").unwrap_or_default().to_owned();
            events.push(match serde_json::from_value(event) {
                Ok(Said::Message { text }) => AgentEvent::Message {
                    text,
                    part: MessagePart::Whole,
                },
                Ok(Said::Error { message }) => {
                    AgentEvent::Error(AgentError::new(ErrorClass::Unknown, message))
                }
                Ok(Said::Completed) => AgentEvent::Completed,
                Err(_) => AgentEvent::Other { kind },
            });
        }
    }

    fn conclude(&mut self, exit: &AgentExit<'_>, stderr_tail: &str, report: &mut AgentReport) {
        if report.error.is_none() {
            report.error = last_words(exit, stderr_tail, &[]);
        }
        // There is no model: this is known, and not merely untold.
        report.cost_usd = Some(0.0);
        report.usage = Usage {
            input_tokens: Some(0),
            output_tokens: Some(0),
            ..Usage::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::process_end::Stream;
    use crate::model::report::Ending;

    fn read(said: &[Said]) -> AgentReport {
        let mut parser = Patch.parser(&[]);
        for said in said {
            let line = format!("{}\n", line(said));
            parser.feed(Stream::Stdout, line.as_bytes(), &mut Vec::new());
        }
        parser.finish(&AgentExit::default())
    }

    #[test]
    fn what_the_verb_says_is_what_is_read() {
        let message = |text: &str| Said::Message { text: text.into() };
        let report = read(&[message("one"), message("two\n\"2\""), Said::Completed]);
        assert_eq!(report.final_message.unwrap(), "two\n\"2\"");
        assert_eq!(report.ending, Ending::Completed);
        assert_eq!(report.error, None);

        let message = "patch 1 does not apply".to_owned();
        let report = read(&[Said::Error { message }]);
        assert_eq!(report.error.unwrap().message, "patch 1 does not apply");
        assert_eq!(report.ending, Ending::Missing);
    }

    #[test]
    fn a_line_of_a_later_version_is_counted_and_passed_over() {
        let mut parser = Patch.parser(&[]);
        let lines = b"{\"type\":\"progress\"}\nnoise\n{\"type\":\"completed\"}\n";
        parser.feed(Stream::Stdout, lines, &mut Vec::new());
        let report = parser.finish(&AgentExit::default());
        assert_eq!(
            (report.unknown_events, report.ending),
            (1, Ending::Completed)
        );
    }
}
