//! Codex: `codex exec --json`, seen with 0.169.0.
//!
//! ```text
//! {"type":"thread.started","thread_id":"01a1fb86-2624-73a3-81d6-e0814fa4dd61"}
//! {"type":"error","message":"Reconnecting... 1/5 (exceeded retry limit, last status: 429 Too Many Requests, request id: …)"}
//! {"type":"turn.completed","usage":{"input_tokens":2400,"cached_input_tokens":400,"output_tokens":68,"reasoning_output_tokens":20}}
//! ```
//!
//! A top-level `error` is a retry when it begins with `Reconnecting...`, and else announces the
//! `turn.failed` with the same words that follows. There are no codes: what kind of failure it is
//! can be told from how its message begins. Codex names neither its model, its version nor a
//! price, and shows nothing of commands that its sandbox refused.

use serde_json::Value;

use crate::agents::lines::{
    LineParser, LineTranslator, OpenTools, number_at, text_at, tool_detail,
};
use crate::agents::plain::{PlainText, last_words};
use crate::agents::{
    AgentExit, AgentInterface, AgentRequest, InvocationError, TranscriptParser, check_size,
};
use crate::model::event::{AgentEvent, Count, MessagePart};
use crate::model::invocation::{Invocation, StopSignal};
use crate::model::report::{AgentError, AgentReport, ErrorClass, MAX_MESSAGE_BYTES, Usage};
use crate::model::reset::{self, ResetHint};
use crate::model::text;

/// "Input exceeds the maximum length of 1048576 characters."
const MAX_PROMPT_CHARS: usize = 1_048_576;

/// Codex of `OpenAI`.
#[derive(Debug)]
pub struct Codex;

impl AgentInterface for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &["CODEX_API_KEY", "OPENAI_API_KEY", "CODEX_ACCESS_TOKEN"]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        check_size(
            self.name(),
            request.prompt.chars().count(),
            MAX_PROMPT_CHARS,
        )?;
        let last_message = request.private_directory.join("last_message.txt");
        let output = last_message.display().to_string();
        let repository = request.repository.display().to_string();
        let effort = request
            .effort
            .map(|effort| format!("model_reasoning_effort={}", Value::from(effort)));
        let mut arguments = vec!["exec", "--json", "--ephemeral", "--skip-git-repo-check"];
        arguments.extend([
            "--dangerously-bypass-approvals-and-sandbox",
            "-C",
            &repository,
        ]);
        arguments.extend(request.model.iter().flat_map(|model| ["-m", model]));
        arguments.extend(effort.iter().flat_map(|effort| ["-c", effort]));
        arguments.extend(["-c", "analytics.enabled=false"]);
        arguments.extend(["-c", "check_for_update_on_startup=false"]);
        // A login shell would reset PATH.
        arguments.extend(["-c", "allow_login_shell=false"]);
        arguments.extend(["--disable", "plugins"]);
        // With it codex waits for a network without end.
        arguments.extend(["--disable", "unbounded_connection_retries"]);
        arguments.extend(["-o", &output]);
        arguments.extend(request.arguments.iter().map(String::as_str));
        arguments.push("-");
        Ok(Invocation {
            result_file: Some(last_message.clone()),
            stop_signal: StopSignal::Interrupt,
            ..Invocation::new(request.program, arguments, request.prompt)
        })
    }

    fn parser(&self, _arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::new(Translator::default()))
    }
}

#[derive(Debug, Default)]
struct Translator {
    plain: PlainText,
    /// The closing event came.
    closed: bool,
    /// The model said something to the person.
    answered: bool,
    /// Tools that are being used: some are shown only when they are done.
    open_tools: OpenTools,
    /// The failure that was announced and not yet confirmed.
    announced: Option<String>,
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
        if !self.closed && report.error.is_none() && exit.code.is_some_and(|code| code != 0) {
            let noise = ["WARNING", "Reading "];
            report.error = match &self.announced {
                Some(message) => Some(failure(message)),
                None => last_words(exit, stderr_tail, &noise),
            };
        }
        let last_message = exit.result_file.map_or("", str::trim);
        if !last_message.is_empty() {
            report.final_message = Some(text::cut_middle(last_message, MAX_MESSAGE_BYTES));
        }
    }
}

impl Translator {
    fn event(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        match text_at(event, "/type").unwrap_or_default() {
            "thread.started" => events.push(AgentEvent::Session {
                id: text_at(event, "/thread_id").map(str::to_owned),
                model: None,
                version: None,
            }),
            "turn.started" | "item.updated" => events.push(AgentEvent::Progress),
            "item.started" => self.item(event, false, events),
            "item.completed" => self.item(event, true, events),
            "error" => self.error(text_at(event, "/message").unwrap_or_default(), events),
            "turn.completed" => self.completed(event, events),
            "turn.failed" => {
                self.closed = true;
                let message = text_at(event, "/error/message").unwrap_or("the turn failed");
                events.push(AgentEvent::Error(failure(message)));
            }
            other => events.push(AgentEvent::Other { kind: other.into() }),
        }
    }

    fn item(&mut self, event: &Value, is_done: bool, events: &mut Vec<AgentEvent>) {
        let at = |name: &str| text_at(event, &format!("/item/{name}")).unwrap_or_default();
        match at("type") {
            "agent_message" if is_done => {
                self.answered = true;
                events.push(AgentEvent::Message {
                    text: at("text").to_owned(),
                    part: MessagePart::Whole,
                });
            }
            "error" => events.push(AgentEvent::Warning {
                message: at("message").to_owned(),
            }),
            "agent_message" | "reasoning" | "todo_list" => events.push(AgentEvent::Progress),
            kind @ ("command_execution" | "file_change" | "mcp_tool_call" | "collab_tool_call"
            | "web_search") => self.tool(kind, event, is_done, events),
            other => events.push(AgentEvent::Other {
                kind: format!("item/{other}"),
            }),
        }
    }

    fn tool(&mut self, kind: &str, event: &Value, is_done: bool, events: &mut Vec<AgentEvent>) {
        let id = text_at(event, "/item/id").unwrap_or_default();
        let name = text_at(event, "/item/tool").unwrap_or(kind).to_owned();
        let inputs = ["/item/arguments", "/item/changes/0", "/item"];
        if self.open_tools.end(id).is_none() {
            events.push(AgentEvent::ToolUse {
                name: name.clone(),
                detail: inputs.iter().find_map(|at| tool_detail(event.pointer(at)?)),
            });
        }
        if !is_done {
            self.open_tools.begin(id, &name);
            return;
        }
        let status = text_at(event, "/item/status").unwrap_or_default();
        if status == "declined" {
            events.push(AgentEvent::PermissionDenied { tool: name });
        }
        let failed = ["failed", "declined"].contains(&status);
        events.push(AgentEvent::ToolResult { failed });
    }

    fn error(&mut self, message: &str, events: &mut Vec<AgentEvent>) {
        let Some(retry) = message.strip_prefix("Reconnecting...") else {
            self.announced = Some(message.to_owned());
            events.push(AgentEvent::Progress);
            return;
        };
        // `Reconnecting... 2/5 (the failure)`
        let reason = retry.split_once('(').map_or("", |(_, reason)| reason);
        let reason = failure(reason.strip_suffix(')').unwrap_or(reason));
        let message = message.to_owned();
        events.push(if reason.class == ErrorClass::RateLimit {
            let resets = reason.resets;
            AgentEvent::RateLimit { message, resets }
        } else {
            let delay = None;
            AgentEvent::Retry { message, delay }
        });
    }

    fn completed(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        self.closed = true;
        let usage = Usage {
            input_tokens: number_at(event, "/usage/input_tokens"),
            cached_input_tokens: number_at(event, "/usage/cached_input_tokens"),
            output_tokens: number_at(event, "/usage/output_tokens"),
            reasoning_tokens: number_at(event, "/usage/reasoning_output_tokens"),
        };
        let count = Count::Total;
        events.push(AgentEvent::Usage { usage, count });
        events.push(if self.answered {
            AgentEvent::Completed
        } else {
            let message = "the model ended its turn without a message";
            AgentEvent::Error(AgentError::new(ErrorClass::Refused, message))
        });
    }
}

fn failure(message: &str) -> AgentError {
    // Codex writes “You’ve” with a typographic apostrophe.
    let plain = message.replace('’', "'");
    let class = class(&plain);
    AgentError {
        class,
        message: message.to_owned(),
        resets: resets(&plain).filter(|_| class == ErrorClass::RateLimit),
    }
}

fn class(message: &str) -> ErrorClass {
    const DISCONNECTED: &str = "stream disconnected before completion: ";
    const BEGINNINGS: [(&str, ErrorClass); 12] = [
        ("rate limit exceeded:", ErrorClass::RateLimit),
        ("You've hit your usage limit", ErrorClass::RateLimit),
        ("Quota exceeded", ErrorClass::RateLimit),
        ("Missing environment variable", ErrorClass::Auth),
        ("model not found", ErrorClass::ModelNotFound),
        ("Selected model is at capacity", ErrorClass::Overloaded),
        (
            "We're currently experiencing high demand",
            ErrorClass::Overloaded,
        ),
        ("The server had an error", ErrorClass::Overloaded),
        (
            "Codex ran out of room in the model's context",
            ErrorClass::ContextLimit,
        ),
        (
            "Incomplete response returned, reason: content_filter",
            ErrorClass::Refused,
        ),
        ("Incomplete response returned", ErrorClass::Unknown),
        ("Connection failed:", ErrorClass::Network),
    ];
    let inner = message.strip_prefix(DISCONNECTED);
    let text = inner.unwrap_or(message);
    for (beginning, class) in BEGINNINGS {
        if text.starts_with(beginning) {
            return class;
        }
    }
    let status = ["unexpected status ", "exceeded retry limit, last status: "]
        .iter()
        .find_map(|beginning| text.strip_prefix(beginning)?.get(..3)?.parse::<u16>().ok());
    match status {
        Some(402 | 429) => ErrorClass::RateLimit,
        Some(401 | 403) => ErrorClass::Auth,
        Some(500..) => ErrorClass::Overloaded,
        _ if text.contains("does not exist or you do not have access") => ErrorClass::ModelNotFound,
        Some(_) => ErrorClass::Unknown,
        None if inner.is_some() => ErrorClass::Network,
        None => ErrorClass::Unknown,
    }
}

/// `… try again at 2:33 AM.`, `… try again in 2s.`
fn resets(message: &str) -> Option<ResetHint> {
    let (_, when) = message.rsplit_once("try again ")?;
    when.strip_prefix("at ")
        .and_then(reset::parse_wall_clock)
        .or_else(|| reset::parse_wait(when.strip_prefix("in ")?))
}
