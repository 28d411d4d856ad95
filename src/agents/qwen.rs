//! Qwen Code: `qwen --yolo --output-format stream-json`, seen with 0.24.4.
//!
//! ```text
//! {"type":"system","subtype":"retry","data":{"reason":"retry","attempt":1,"maxRetries":10,"delayMs":60000,…},…}
//! {"type":"assistant","message":{"model":"coder","content":[{"type":"text","text":"Wrote and committed."}],"usage":{"input_tokens":1200,"output_tokens":34,"cache_read_input_tokens":200,…},…},…}
//! {"type":"result","subtype":"error_during_execution","is_error":true,"num_turns":1,"error":{"message":"[API Error: 401 Incorrect API key …]"},…}
//! ```
//!
//! A failure is also printed as a text of the assistant, which is not read. A `result` may be that
//! of a failed subagent; the last one counts. With its own limits (exit 53 and 55) there is none.
//!
//! Known traits: qwen puts the content of `path` in the place of `@path` in a prompt, and has no
//! argument for an effort, so one that is asked for is not passed on.

use std::time::Duration;

use serde_json::Value;

use crate::agents::lines::{
    LineParser, LineTranslator, SessionId, class_of_status, list_at, number_at, text_at, told_wait,
    tool_detail,
};
use crate::agents::plain::{PlainText, last_words};
use crate::agents::{
    AgentExit, AgentInterface, AgentRequest, InvocationError, TranscriptParser, variables,
    without_command,
};
use crate::model::event::{AgentEvent, Count, MessagePart};
use crate::model::invocation::Invocation;
use crate::model::report::{AgentError, AgentReport, ErrorClass, Usage};
use crate::model::reset::ResetHint;

/// How qwen begins a failure of the model's provider.
const API_ERROR: &str = "[API Error: ";

/// Qwen Code of Alibaba.
#[derive(Debug)]
pub struct Qwen;

impl AgentInterface for Qwen {
    fn name(&self) -> &'static str {
        "qwen"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &[
            "OPENAI_API_KEY",
            "DASHSCOPE_API_KEY",
            "BAILIAN_CODING_PLAN_API_KEY",
            "BAILIAN_TOKEN_PLAN_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "OPENROUTER_API_KEY",
        ]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        let mut arguments = vec!["--yolo", "--output-format", "stream-json"];
        arguments.extend(request.model.iter().flat_map(|model| ["-m", model]));
        arguments.extend(request.arguments.iter().map(String::as_str));
        let environment = [
            ("QWEN_CODE_SUPPRESS_YOLO_WARNING", "1"),
            ("QWEN_USAGE_STATISTICS_ENABLED", "false"),
        ];
        Ok(Invocation {
            environment: variables(&environment),
            ..Invocation::new(request.program, arguments, without_command(request.prompt))
        })
    }

    fn parser(&self, arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::asked(Translator::default(), arguments))
    }
}

#[derive(Debug, Default)]
struct Translator {
    plain: PlainText,
    session: SessionId,
    /// A `result` came.
    closed: bool,
    /// The failure in the last `result`, unless the agent went on after it.
    failure: Option<AgentError>,
    /// Requests were refused for a limit, and nothing was answered since.
    limited: bool,
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
        self.plain.conclude_without_events(report);
        // A request may be under way, but what is known of it is that the last ones were refused.
        report.waiting_for_limit |= self.limited;
        report.error = match exit.code {
            Some(53 | 55) => Some(own_limit(stderr_tail)),
            Some(_) | None if self.closed => self.failure.take(),
            Some(_) | None => {
                let noise = ["Ripgrep not available", "Warning:", "Retrying "];
                last_words(exit, stderr_tail, &noise).map(|error| failure(&error.message))
            }
        };
    }
}

impl Translator {
    fn event(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        self.session.hear(text_at(event, "/session_id"), events);
        match text_at(event, "/type").unwrap_or_default() {
            "system" => self.system(event, events),
            "assistant" => {
                self.goes_on();
                assistant(event, events);
            }
            "user" => {
                self.goes_on();
                user(event, events);
            }
            "result" => self.result(event, events),
            "stream_event" => events.push(AgentEvent::Progress),
            other => events.push(AgentEvent::Other { kind: other.into() }),
        }
    }

    fn goes_on(&mut self) {
        self.limited = false;
        self.failure = None;
    }

    fn system(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        let at = |pointer| text_at(event, pointer).map(str::to_owned);
        events.push(match text_at(event, "/subtype").unwrap_or_default() {
            "init" => AgentEvent::Session {
                id: None,
                model: at("/model"),
                version: at("/qwen_code_version"),
            },
            "model_fallback" => AgentEvent::Session {
                id: None,
                model: at("/data/toModel"),
                version: None,
            },
            "retry" => self.retry(event),
            "session_start" | "session_end" | "task_started" | "task_notification"
            | "worktree_started" | "worktree_restored" => AgentEvent::Progress,
            other => AgentEvent::Other {
                kind: format!("system/{other}"),
            },
        });
    }

    /// Only the wait for a limit has a delay; without one the next attempt begins.
    fn retry(&mut self, event: &Value) -> AgentEvent {
        let Some(delay) = number_at(event, "/data/delayMs").map(Duration::from_millis) else {
            let reason = text_at(event, "/data/reason").unwrap_or("retry");
            return AgentEvent::Retry {
                message: format!("the request is repeated ({reason})"),
                delay: None,
            };
        };
        self.limited = true;
        let number = |pointer| event.pointer(pointer).unwrap_or(&Value::Null);
        AgentEvent::RateLimit {
            message: format!(
                "rate limit: attempt {} of {} in {} s",
                number("/data/attempt"),
                number("/data/maxRetries"),
                delay.as_secs()
            ),
            resets: Some(ResetHint::After(delay)),
        }
    }

    fn result(&mut self, result: &Value, events: &mut Vec<AgentEvent>) {
        self.closed = true;
        self.goes_on();
        // The run's total. A request that failed and a failed subagent are told as 0.
        let usage = usage(result.get("usage"));
        if usage.total().is_some_and(|total| total > 0) {
            let count = Count::Total;
            events.push(AgentEvent::Usage { usage, count });
        }
        let turns = number_at(result, "/num_turns").filter(|turns| *turns > 0);
        events.extend(turns.map(AgentEvent::Turns));
        for denial in list_at(result, "/permission_denials") {
            let tool = text_at(denial, "/tool_name").unwrap_or_default().to_owned();
            events.push(AgentEvent::PermissionDenied { tool });
        }
        let text = text_at(result, "/result").unwrap_or_default();
        let succeeded = result.get("is_error") == Some(&Value::Bool(false));
        // Without a turn no model was asked: the answer is qwen's own, `Context cleared. …`.
        if succeeded && number_at(result, "/num_turns") != Some(0) {
            let (text, part) = (text.to_owned(), MessagePart::Whole);
            events.push(AgentEvent::Message { text, part });
            events.push(AgentEvent::Completed);
        } else {
            let told = text_at(result, "/error/message").or((!text.is_empty()).then_some(text));
            let message = told.unwrap_or("error without a word");
            self.failure = Some(failure(message));
            let message = message.to_owned();
            events.push(AgentEvent::Warning { message });
        }
    }
}

fn assistant(event: &Value, events: &mut Vec<AgentEvent>) {
    // What a subagent says is not said to the person.
    let is_own = text_at(event, "/parent_tool_use_id").is_none();
    for block in blocks(event) {
        let text = text_at(block, "/text").unwrap_or_default();
        events.push(match text_at(block, "/type") {
            Some("text") if is_own && !text.starts_with(API_ERROR) => AgentEvent::Message {
                text: text.to_owned(),
                part: MessagePart::Whole,
            },
            Some("tool_use") => AgentEvent::ToolUse {
                name: text_at(block, "/name").unwrap_or_default().to_owned(),
                detail: block.get("input").and_then(tool_detail),
            },
            _ => AgentEvent::Progress,
        });
    }
    // All blocks of an answer but the last have zeros.
    let usage = usage(event.pointer("/message/usage"));
    if usage.total().is_some_and(|total| total > 0) {
        let count = Count::More;
        events.push(AgentEvent::Usage { usage, count });
        if is_own {
            events.push(AgentEvent::Turn);
        }
    }
}

fn user(event: &Value, events: &mut Vec<AgentEvent>) {
    for block in blocks(event) {
        events.push(match text_at(block, "/type") {
            Some("tool_result") => AgentEvent::ToolResult {
                failed: block.get("is_error") == Some(&Value::Bool(true)),
            },
            _ => AgentEvent::Progress,
        });
    }
}

fn usage(usage: Option<&Value>) -> Usage {
    let count = |name: &str| usage?.get(name)?.as_u64();
    Usage {
        input_tokens: count("input_tokens"),
        cached_input_tokens: count("cache_read_input_tokens"),
        output_tokens: count("output_tokens"),
        reasoning_tokens: None,
    }
}

fn failure(message: &str) -> AgentError {
    let class = class(message);
    AgentError {
        class,
        message: message.to_owned(),
        resets: told_wait(message).filter(|_| class == ErrorClass::RateLimit),
    }
}

fn class(message: &str) -> ErrorClass {
    let begins = |words: &[&str]| words.iter().any(|word| message.starts_with(word));
    if begins(&["No auth type is selected", "Qwen OAuth free tier has been"]) {
        return ErrorClass::Auth;
    }
    if begins(&["Quota exhausted: ", "Qwen OAuth quota exceeded:"]) {
        return ErrorClass::RateLimit;
    }
    if begins(&["Context is too large"]) {
        return ErrorClass::ContextLimit;
    }
    let Some(cause) = message.strip_prefix(API_ERROR) else {
        return ErrorClass::Unknown;
    };
    if cause.starts_with("Connection error.") {
        return ErrorClass::Network;
    }
    // qwen itself adds this sentence, after every status 429 and after no other.
    if cause.contains("]\nPossible quota limitations in place") {
        return ErrorClass::RateLimit;
    }
    match cause.get(..3).and_then(|status| status.parse().ok()) {
        Some(400) if cause.contains("context length") => ErrorClass::ContextLimit,
        Some(status) => class_of_status(status),
        None => ErrorClass::Unknown,
    }
}

/// A limit that qwen was given by its arguments or settings: of turns, time or tool calls.
fn own_limit(stderr_tail: &str) -> AgentError {
    let told = ["Reached max session turns", "Run aborted:"]
        .iter()
        .filter_map(|words| stderr_tail.get(stderr_tail.rfind(words)?..))
        .filter_map(|words| words.lines().next())
        .map(|line| line.trim_end_matches(['"', ',']))
        .next();
    let message = told.unwrap_or("a limit of turns, time or tool calls was reached");
    AgentError::new(ErrorClass::TurnLimit, message)
}

fn blocks(event: &Value) -> &[Value] {
    list_at(event, "/message/content")
}
