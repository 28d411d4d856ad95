//! The events of opencode and of its fork kilo. Seen with opencode 1.18.33 and kilo 7.7.7.
//!
//! ```text
//! {"type":"text","sessionID":"ses_e0…","part":{"messageID":"msg_1f…","text":"Hello from the mock model.",…},…}
//! {"type":"step_finish","sessionID":"ses_e0…","part":{"messageID":"msg_1f…","reason":"stop","tokens":{"input":1000,"output":24,"reasoning":10,"cache":{"write":0,"read":200}},"cost":0.00357,…},…}
//! {"type":"error","sessionID":"ses_e0…","error":{"name":"APIError","data":{"message":"Incorrect API key …","statusCode":401,…}},…}
//! ```
//!
//! No event closes a run. It ended well when its last step finished with the reason `stop` and a
//! text; exit 0 alone means nothing, it also follows a rejected permission and a cut answer. So
//! `--format default` among the configured arguments makes every run a failure.

use std::mem;
use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use crate::agents::AgentExit;
use crate::agents::lines::{
    LineTranslator, SessionId, UNREADABLE, class_of_status, number_at, text_at, told_wait,
    tool_detail,
};
use crate::agents::plain::{PlainText, last_words};
use crate::model::event::{AgentEvent, Count, MessagePart};
use crate::model::report::{AgentError, AgentReport, Ending, ErrorClass, Usage};
use crate::model::reset::ResetHint;

/// Reads the events of opencode and kilo.
#[derive(Debug, Default)]
pub(crate) struct Translator {
    plain: PlainText,
    session: SessionId,
    /// The message of the last text; each step has a message of its own.
    last_text: Option<String>,
    step: Step,
    /// The first reported failure whose kind is known.
    known: Option<AgentError>,
}

/// What became of the last step.
#[derive(Debug, Default)]
enum Step {
    #[default]
    Open,
    /// The model has ended its work, with a text or without a word.
    Stopped { with_text: bool },
    /// It went wrong, and the run with it unless another step follows.
    Failed(AgentError),
}

impl LineTranslator for Translator {
    fn stdout_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        for event in self.plain.take_events(line) {
            self.event(&event, events);
        }
    }

    fn stdout_text(&mut self, lines: &[u8], _events: &mut Vec<AgentEvent>) {
        self.plain.take(lines);
    }

    fn conclude(&mut self, exit: &AgentExit<'_>, stderr_tail: &str, report: &mut AgentReport) {
        // Text in place of events is shown and proves nothing: exit 0 does not either.
        let text = self.plain.last_paragraph();
        report.final_message = report.final_message.take().or(text);
        match mem::take(&mut self.step) {
            Step::Open => {}
            Step::Stopped { with_text } => {
                report.ending = Ending::Completed;
                // What it said before its last step is no answer.
                report.final_message = report.final_message.take().filter(|_| with_text);
            }
            Step::Failed(error) => {
                report.error.get_or_insert(error);
            }
        }
        match &mut report.error {
            Some(error) if error.class == ErrorClass::Unknown => {
                let logged = || logged_cause(error, stderr_tail);
                if let Some(cause) = self.known.take().or_else(logged) {
                    *error = cause;
                }
            }
            Some(_) => {}
            None => report.error = last_error(exit, stderr_tail),
        }
    }
}

impl Translator {
    fn event(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        self.session.hear(text_at(event, "/sessionID"), events);
        match text_at(event, "/type").unwrap_or_default() {
            "step_start" => {
                self.step = Step::Open;
                events.push(AgentEvent::Progress);
            }
            "text" => self.text(event, events),
            "tool_use" => self.tool_use(event, events),
            "step_finish" => self.step_finish(event, events),
            "error" => self.error(event.get("error").unwrap_or(&Value::Null), events),
            "reasoning" => events.push(AgentEvent::Progress),
            other => {
                if other == UNREADABLE && matches!(self.step, Step::Stopped { .. }) {
                    self.step = Step::Open;
                }
                events.push(AgentEvent::Other { kind: other.into() });
            }
        }
    }

    fn text(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        let text = text_at(event, "/part/text").unwrap_or_default();
        let message = text_at(event, "/part/messageID").map(str::to_owned);
        let (part, text) = if message.is_some() && message == self.last_text {
            (MessagePart::Continued, format!("\n\n{text}"))
        } else {
            (MessagePart::Whole, text.to_owned())
        };
        self.last_text = message;
        events.push(AgentEvent::Message { text, part });
    }

    fn tool_use(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        let tool = text_at(event, "/part/tool").unwrap_or_default();
        let error = text_at(event, "/part/state/error");
        let exit = number_at(event, "/part/state/metadata/exit");
        events.push(AgentEvent::ToolUse {
            name: tool.to_owned(),
            detail: event.pointer("/part/state/input").and_then(tool_detail),
        });
        events.push(AgentEvent::ToolResult {
            failed: error.is_some() || exit.is_some_and(|code| code != 0),
        });
        // The CLI's own words, by a person's refusal and by a rule.
        let denied = error.filter(|error| {
            error.starts_with("The user rejected permission")
                || error.starts_with("The user has specified a rule which prevents")
        });
        if let Some(error) = denied {
            let message = format!("{tool}: {error}");
            self.step = Step::Failed(AgentError::new(ErrorClass::PermissionDenied, message));
            let tool = tool.to_owned();
            events.push(AgentEvent::PermissionDenied { tool });
        }
    }

    fn step_finish(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        events.push(AgentEvent::Turn);
        events.push(AgentEvent::Usage {
            usage: usage(event),
            count: Count::More,
        });
        // 0 is the cost of a model whose price is not known.
        let cost = event.pointer("/part/cost").and_then(Value::as_f64);
        if let Some(usd) = cost.filter(|usd| *usd > 0.0) {
            let count = Count::More;
            events.push(AgentEvent::Cost { usd, count });
        }
        match text_at(event, "/part/reason").unwrap_or("none") {
            "tool-calls" => {}
            "stop" => {
                let message = text_at(event, "/part/messageID");
                let with_text = message.is_some() && self.last_text.as_deref() == message;
                self.step = Step::Stopped { with_text };
            }
            reason => {
                let is_filtered = reason == "content-filter";
                let class = if is_filtered {
                    ErrorClass::Refused
                } else {
                    ErrorClass::Unknown
                };
                let message = format!("the model's answer is cut off: it ended by `{reason}`");
                self.fail_step(AgentError::new(class, message), events);
            }
        }
    }

    fn error(&mut self, error: &Value, events: &mut Vec<AgentEvent>) {
        let error = failure(error);
        // The CLI may make room by a summary and go on.
        if error.class == ErrorClass::ContextLimit {
            self.fail_step(error, events);
            return;
        }
        if self.known.is_none() && error.class != ErrorClass::Unknown {
            self.known = Some(error.clone());
        }
        self.step = Step::Open;
        events.push(AgentEvent::Error(error));
    }

    fn fail_step(&mut self, error: AgentError, events: &mut Vec<AgentEvent>) {
        let message = error.message.clone();
        events.push(AgentEvent::Warning { message });
        self.step = Step::Failed(error);
    }
}

fn usage(event: &Value) -> Usage {
    let tokens = |name: &str| number_at(event, &format!("/part/tokens/{name}"));
    let and = |first: Option<u64>, more: [Option<u64>; 2]| {
        first.map(|first| more.into_iter().flatten().fold(first, u64::saturating_add))
    };
    let (read, reasoning) = (tokens("cache/read"), tokens("reasoning"));
    // opencode counts both beside the input and the output.
    Usage {
        input_tokens: and(tokens("input"), [read, tokens("cache/write")]),
        cached_input_tokens: read,
        output_tokens: and(tokens("output"), [reasoning, None]),
        reasoning_tokens: reasoning,
    }
}

/// The failure in an `error` event: an object, or a text in kilo's own.
fn failure(error: &Value) -> AgentError {
    if let Some(text) = error.as_str() {
        let class = if text.contains("auto-rejected permission") {
            ErrorClass::PermissionDenied
        } else {
            ErrorClass::Unknown
        };
        return AgentError::new(class, text);
    }
    let name = text_at(error, "/name").unwrap_or("error without a name");
    let message = text_at(error, "/data/message").unwrap_or(name);
    let body = text_at(error, "/data/responseBody").unwrap_or_default();
    let speaks_of_model = [message, body].iter().any(|it| it.contains("model"));
    let begins = |words: &[&str]| words.iter().any(|it| message.starts_with(it));
    let no_answer = [
        "Cannot connect to API",
        "SSE read timed",
        "The operation timed",
    ];
    let class = match (name, number_at(error, "/data/statusCode")) {
        ("ContextOverflowError", _) => ErrorClass::ContextLimit,
        ("ProviderAuthError", _) => ErrorClass::Auth,
        (_, Some(404)) if !speaks_of_model => ErrorClass::Unknown,
        (_, Some(status)) => class_of_status(status),
        (_, None) if begins(&no_answer) => ErrorClass::Network,
        (_, None) if begins(&["Model not found:"]) => ErrorClass::ModelNotFound,
        (_, None) => ErrorClass::Unknown,
    };
    AgentError {
        class,
        message: message.to_owned(),
        resets: (class == ErrorClass::RateLimit)
            .then(|| retry_after(error).or_else(|| told_wait(message)))
            .flatten(),
    }
}

/// The provider's `Retry-After`: seconds or a date.
fn retry_after(error: &Value) -> Option<ResetHint> {
    let wait = text_at(error, "/data/responseHeaders/retry-after")?;
    match wait.parse() {
        Ok(seconds) => Some(ResetHint::After(Duration::from_secs(seconds))),
        Err(_) => DateTime::parse_from_rfc2822(wait)
            .ok()
            .map(|moment| ResetHint::At(moment.to_utc())),
    }
}

/// The cause that the event hides and the log tells: `… ref=err_d5… error="NAME: …" cause="…"`.
fn logged_cause(error: &AgentError, stderr_tail: &str) -> Option<AgentError> {
    if !error.message.starts_with("Unexpected server error") {
        return None;
    }
    let (_, logged) = stderr_tail.rsplit_once(" error=\"")?;
    let cause = logged.split(['"', '\n']).next()?;
    Some(match cause.strip_prefix("ProviderModelNotFoundError: ") {
        Some(message) => AgentError::new(ErrorClass::ModelNotFound, message),
        None => AgentError::new(ErrorClass::Unknown, cause),
    })
}

/// A failure that is told on standard error alone.
fn last_error(exit: &AgentExit<'_>, stderr_tail: &str) -> Option<AgentError> {
    let mut error = last_words(exit, stderr_tail, &[])?;
    if stderr_tail.contains("\nOptions:\n") {
        "the arguments were not understood, and the usage was printed"
            .clone_into(&mut error.message);
    }
    Some(error)
}
