//! Gemini CLI: `gemini -o stream-json`, seen with 0.61.0.
//!
//! ```text
//! {"type":"init","timestamp":"2026-11-21T00:50:00.062Z","session_id":"f778ba8a-…","model":"gemini-2.5-pro"}
//! {"type":"tool_result","timestamp":"…","tool_id":"run_shell_command__fc_1","status":"success","output":"turn 0"}
//! {"type":"result","timestamp":"…","status":"error","error":{"type":"unknown","message":"[API Error: …]"},"stats":{"total_tokens":0,…}}
//! ```
//!
//! The exit status is 0 after a signal, after a blocked or cut answer and, with no answer at all,
//! after a prompt that is too large. Else it is gemini's own number or the lowest eight bits of
//! the HTTP status: 173 is 429, and no signal. Retries are told on standard error alone.
//!
//! Usage statistics and updates have no switch but settings. Machine-wide defaults, which the user's
//! own settings beat, are read from a file only if root alone could have written it and every
//! directory above it, so the runner offers them only when it runs as root.
//!
//! Known traits: gemini puts the content of `path` in the place of `@path` in a prompt, and has no
//! argument for an effort, so one that is asked for is not passed on.

use serde_json::{Deserializer, Value};

use crate::agents::lines::{
    LineParser, LineTranslator, OpenTools, number_at, repaired, text_at, tool_detail,
};
use crate::agents::plain::{PlainText, last_words};
use crate::agents::{
    AgentExit, AgentInterface, AgentRequest, InvocationError, TranscriptParser, check_size,
    variables,
};
use crate::model::event::{AgentEvent, Count, MessagePart};
use crate::model::invocation::{Invocation, PrivateFile};
use crate::model::report::{AgentError, AgentReport, Ending, ErrorClass, MAX_MESSAGE_BYTES, Usage};
use crate::model::reset;
use crate::model::text;

/// What gemini reads from standard input; the rest of a larger prompt would be dropped silently.
const MAX_PROMPT_BYTES: usize = 8 * 1024 * 1024;

/// The most that is kept of the object that `-o json` prints.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// The machine's defaults for this run. The user's own settings, with the login, come first.
const DEFAULTS: &str = r#"{
  "privacy": { "usageStatisticsEnabled": false },
  "telemetry": { "enabled": false },
  "general": { "enableAutoUpdate": false, "enableAutoUpdateNotification": false }
}
"#;

/// Gemini CLI of Google.
#[derive(Debug)]
pub struct Gemini;

impl AgentInterface for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &[
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            "GOOGLE_CLOUD_ACCESS_TOKEN",
        ]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        check_size(self.name(), request.prompt.len(), MAX_PROMPT_BYTES)?;
        let mut arguments = vec!["-o", "stream-json", "--approval-mode", "yolo"];
        arguments.extend(request.model.iter().flat_map(|model| ["-m", model]));
        arguments.extend(request.arguments.iter().map(String::as_str));
        // Relaunched, it would be a child of a process that ignores signals.
        let mut environment = variables(&[
            ("GEMINI_CLI_NO_RELAUNCH", "true"),
            ("GEMINI_CLI_TRUST_WORKSPACE", "true"),
            ("NO_COLOR", "1"),
        ]);
        let mut private_files = Vec::new();
        if request.as_root {
            let path = request.private_directory.join("gemini-defaults.json");
            let name = "GEMINI_CLI_SYSTEM_DEFAULTS_PATH".to_owned();
            environment.insert(name, path.display().to_string());
            private_files.push(PrivateFile {
                path,
                contents: DEFAULTS.into(),
            });
        }
        Ok(Invocation {
            environment,
            private_files,
            ..Invocation::new(request.program, arguments, request.prompt)
        })
    }

    fn parser(&self, arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::asked(Translator::default(), arguments))
    }
}

#[derive(Debug, Default)]
struct Translator {
    plain: PlainText,
    /// What came in place of events: `-o json` prints one object over many lines.
    document: String,
    /// The closing event came.
    closed: bool,
    /// The last event was a part of the model's answer, which the next part continues.
    answering: bool,
    /// The last failure told before the closing event, which may not name it again.
    announced: Option<String>,
    open_tools: OpenTools,
}

impl LineTranslator for Translator {
    fn stdout_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        if line == b"{" || !self.document.is_empty() {
            if self.document.len() < MAX_DOCUMENT_BYTES {
                self.document.push_str(&String::from_utf8_lossy(line));
                self.document.push('\n');
            }
            return;
        }
        for event in self.plain.take_events(line) {
            self.event(&event, events);
        }
    }

    fn stderr_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        // `Attempt 2 failed: … Retrying after 10999ms...`
        if line.starts_with(b"Attempt ") {
            let message = text::first_line(&String::from_utf8_lossy(line), 300);
            events.push(AgentEvent::Retry {
                message,
                delay: None,
            });
        }
    }

    fn conclude(&mut self, exit: &AgentExit<'_>, stderr_tail: &str, report: &mut AgentReport) {
        self.plain.conclude_without_events(report);
        if let Some(document) = last_document(&self.document) {
            let at = |pointer| text_at(&document, pointer).map(str::to_owned);
            report.session_id = at("/session_id");
            report.final_message = at("/response").map(|m| text::cut_middle(&m, MAX_MESSAGE_BYTES));
            report.ending = Ending::Completed;
        }
        let Some(code) = exit.code.filter(|code| *code != 0) else {
            return;
        };
        if !self.closed && report.error.is_none() {
            report.error =
                json_error(stderr_tail).or_else(|| last_words(exit, stderr_tail, &NOISE));
        }
        let class = class_of_exit(code);
        match &mut report.error {
            Some(error) if error.class == ErrorClass::Unknown => error.class = class,
            Some(_) => {}
            None if self.closed || class == ErrorClass::Unknown => {}
            None => report.error = Some(AgentError::new(class, "gemini named no reason")),
        }
    }
}

/// What gemini prints on standard error in every run.
const NOISE: [&str; 6] = [
    "Warning:",
    "YOLO mode is enabled",
    "Approval mode overridden",
    "Ripgrep is not available",
    "[STARTUP]",
    "Attempt ",
];

impl Translator {
    fn event(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        let at = |name: &str| text_at(event, &format!("/{name}"));
        let kind = at("type").unwrap_or_default();
        let is_answer = kind == "message" && at("role") == Some("assistant");
        match kind {
            "init" => events.push(AgentEvent::Session {
                id: at("session_id").map(str::to_owned),
                model: at("model")
                    .filter(|model| *model != "auto")
                    .map(str::to_owned),
                version: None,
            }),
            "message" if is_answer => events.push(AgentEvent::Message {
                text: at("content").unwrap_or_default().to_owned(),
                part: if self.answering {
                    MessagePart::Continued
                } else {
                    MessagePart::Whole
                },
            }),
            "message" => events.push(AgentEvent::Progress),
            "tool_use" => {
                let name = at("tool_name").unwrap_or_default().to_owned();
                self.open_tools
                    .begin(at("tool_id").unwrap_or_default(), &name);
                let detail = event.get("parameters").and_then(tool_detail);
                events.push(AgentEvent::ToolUse { name, detail });
            }
            "tool_result" => {
                let tool = self.open_tools.end(at("tool_id").unwrap_or_default());
                if text_at(event, "/error/type") == Some("tool_not_registered") {
                    let tool = tool.unwrap_or_default();
                    events.push(AgentEvent::PermissionDenied { tool });
                }
                let failed = at("status") == Some("error");
                events.push(AgentEvent::ToolResult { failed });
            }
            "error" => {
                let message = at("message").unwrap_or_default().to_owned();
                if at("severity") == Some("error") {
                    self.announced = Some(message.clone());
                }
                events.push(AgentEvent::Warning { message });
            }
            "result" => self.result(event, events),
            other => events.push(AgentEvent::Other { kind: other.into() }),
        }
        self.answering = is_answer;
    }

    fn result(&mut self, result: &Value, events: &mut Vec<AgentEvent>) {
        self.closed = true;
        events.push(AgentEvent::Usage {
            usage: usage(result),
            count: Count::Total,
        });
        events.extend(main_model(result).map(|model| AgentEvent::Session {
            id: None,
            model: Some(model),
            version: None,
        }));
        events.push(if text_at(result, "/status") == Some("success") {
            AgentEvent::Completed
        } else {
            let told = text_at(result, "/error/message").or(self.announced.as_deref());
            let kind = text_at(result, "/error/type").unwrap_or_default();
            AgentEvent::Error(failure(kind, told.unwrap_or("gemini named no reason")))
        });
    }
}

/// The model that did most: with the model `auto` a smaller one chooses it first.
fn main_model(result: &Value) -> Option<String> {
    let models = result.pointer("/stats/models")?.as_object()?;
    let tokens = |usage: &Value| number_at(usage, "/total_tokens");
    let (name, _) = models.iter().max_by_key(|(_, usage)| tokens(usage))?;
    Some(name.clone())
}

fn usage(result: &Value) -> Usage {
    let stat = |name: &str| number_at(result, &format!("/stats/{name}"));
    let (input, answer) = (stat("input_tokens"), stat("output_tokens"));
    // Only the total has the reasoning in it.
    let output = stat("total_tokens")
        .zip(input)
        .map(|(total, input)| total.saturating_sub(input));
    Usage {
        input_tokens: input,
        cached_input_tokens: stat("cached"),
        output_tokens: output.or(answer),
        reasoning_tokens: output
            .zip(answer)
            .map(|(all, answer)| all.saturating_sub(answer)),
    }
}

fn failure(kind: &str, message: &str) -> AgentError {
    let message = plain_message(message);
    let class = class(kind, &message);
    let resets = message
        .rsplit_once("retry after ")
        .and_then(|(_, wait)| reset::parse_wait(wait));
    AgentError {
        class,
        message,
        resets,
    }
}

/// `[API Error: {"error":{"code":500,"message":"words",…}}]` in words, `[API Error: words]` too.
fn plain_message(message: &str) -> String {
    let api = message
        .strip_prefix("[API Error: ")
        .and_then(|rest| rest.rsplit_once(']'));
    let Some((inner, advice)) = api else {
        return message.to_owned();
    };
    let json: Option<Value> = serde_json::from_str(inner).ok();
    let words = json
        .as_ref()
        .and_then(|json| text_at(json, "/error/message"));
    format!("{}{advice}", words.unwrap_or(inner))
}

/// The class as the words tell it. The exit status tells the rest when it is known.
fn class(kind: &str, message: &str) -> ErrorClass {
    let has = |part| message.contains(part);
    if kind == "FatalTurnLimitedError" {
        ErrorClass::TurnLimit
    } else if has("API key not valid") {
        ErrorClass::Auth
    } else if has("is not found for API version") || message.starts_with("model not found") {
        ErrorClass::ModelNotFound
    } else if has("input token count") && has("exceeds") {
        ErrorClass::ContextLimit
    } else if has("fetch failed") || has("stream ended without a finish reason") {
        ErrorClass::Network
    } else if has("blocked due to safety settings") || has("returned an empty response") {
        ErrorClass::Refused
    } else {
        ErrorClass::Unknown
    }
}

fn class_of_exit(code: i32) -> ErrorClass {
    match code {
        41 | 145 | 147 => ErrorClass::Auth,
        53 => ErrorClass::TurnLimit,
        55 => ErrorClass::PermissionDenied,
        173 => ErrorClass::RateLimit,
        17 | 244 | 246 | 247 | 248 => ErrorClass::Overloaded,
        _ => ErrorClass::Unknown,
    }
}

/// The failure of a gemini with `-o json` is the last object on standard error.
fn json_error(stderr_tail: &str) -> Option<AgentError> {
    let document = last_document(stderr_tail)?;
    let kind = text_at(&document, "/error/type").unwrap_or_default();
    Some(failure(kind, text_at(&document, "/error/message")?))
}

/// The last object in a text that is printed over many lines, with what follows it passed over.
fn last_document(text: &str) -> Option<Value> {
    let begin = text.rfind("{\n  \"")?;
    let document = repaired(&text.as_bytes()[begin..]);
    let mut values = Deserializer::from_slice(&document).into_iter();
    values.next()?.ok()
}
