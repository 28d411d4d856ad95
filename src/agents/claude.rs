//! Claude Code: `claude -p --output-format stream-json`, seen with 2.1.197.
//!
//! ```text
//! {"type":"system","subtype":"init","session_id":"f6…","model":"claude-sonnet-4-5","claude_code_version":"2.1.197",…}
//! {"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":507.7,"error_status":429,"error":"rate_limit",…}
//! {"type":"result","subtype":"success","is_error":true,"api_error_status":429,"num_turns":1,"result":"API Error: …","modelUsage":{},…}
//! ```
//!
//! A failure of the API comes with `subtype: "success"` and `is_error: true`; what kind it is says
//! the `error` of the answer before it, whose model is `<synthetic>`. The exit status alone is no
//! evidence: an interrupted claude exits with 0 and without a `result`.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};
use serde_json::Value;

use crate::agents::lines::{LineParser, LineTranslator, list_at, number_at, text_at, tool_detail};
use crate::agents::plain::{PlainText, last_words};
use crate::agents::{
    AgentExit, AgentInterface, AgentRequest, InvocationError, TranscriptParser, check_size,
    without_command,
};
use crate::model::event::{AgentEvent, Count, MessagePart};
use crate::model::invocation::Invocation;
use crate::model::report::{AgentError, AgentReport, ErrorClass, Usage};
use crate::model::reset::{self, ResetHint};

/// What claude reads from standard input at most ("piped stdin input exceeds 10MB").
const MAX_PROMPT_BYTES: usize = 10_000_000;

/// Claude Code of Anthropic.
#[derive(Debug)]
pub struct Claude;

impl AgentInterface for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &[
            "ANTHROPIC_API_KEY",
            "ANTHROPIC_AUTH_TOKEN",
            "CLAUDE_CODE_OAUTH_TOKEN",
        ]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        let stdin = stdin(self.name(), request.prompt)?;
        Ok(Invocation {
            environment: environment(request),
            ..Invocation::new(request.program, arguments(request), stdin)
        })
    }

    fn parser(&self, arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::asked(Translator::default(), arguments))
    }
}

/// Claude's own arguments and then the configured ones.
pub(crate) fn arguments(request: &AgentRequest<'_>) -> Vec<String> {
    let mut arguments = vec!["-p", "--output-format", "stream-json", "--verbose"];
    arguments.extend(["--dangerously-skip-permissions", "--no-session-persistence"]);
    arguments.extend(request.model.iter().flat_map(|model| ["--model", model]));
    arguments.extend(request.effort.iter().flat_map(|e| ["--effort", e]));
    arguments.extend(request.arguments.iter().map(String::as_str));
    arguments.into_iter().map(str::to_owned).collect()
}

/// Claude's variables: only the model is talked to, and root is told to be meant.
pub(crate) fn environment(request: &AgentRequest<'_>) -> BTreeMap<String, String> {
    let mut names = vec!["DISABLE_AUTOUPDATER", "DISABLE_TELEMETRY"];
    names.extend([
        "DISABLE_ERROR_REPORTING",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    ]);
    names.extend(request.as_root.then_some("IS_SANDBOX"));
    let on = |name: &str| (name.to_owned(), "1".to_owned());
    names.into_iter().map(on).collect()
}

/// The prompt as claude is given it: unchanged, after one fixed line where it begins with `/`.
///
/// # Errors
/// When it is larger than what claude reads.
pub(crate) fn stdin(agent: &str, prompt: &str) -> Result<Vec<u8>, InvocationError> {
    let stdin = without_command(prompt);
    check_size(agent, stdin.len(), MAX_PROMPT_BYTES)?;
    Ok(stdin.into_bytes())
}

/// Reads claude's events; also those of an `ollama launch claude`.
#[derive(Debug, Default)]
pub(crate) struct Translator {
    plain: PlainText,
    /// The closing event came.
    closed: bool,
    /// The model's answer that is being printed: each of its blocks is an event of its own.
    answer: Option<String>,
    /// What kind of failure the last answer is, when claude made it up to tell one.
    failure: Option<String>,
    /// The end of a usage limit that refuses requests, until one is answered.
    rejected: Option<Option<ResetHint>>,
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
        if !self.closed && report.error.is_none() {
            report.error = last_words(exit, stderr_tail, &["Warning:"]);
        }
    }
}

impl Translator {
    fn event(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        match text_at(event, "/type").unwrap_or_default() {
            "system" => system(event, events),
            "assistant" => self.assistant(event, events),
            "user" => user(event, events),
            "rate_limit_event" => self.rate_limit(event, events),
            "result" => self.result(event, events),
            "stream_event" => events.push(AgentEvent::Progress),
            other => events.push(AgentEvent::Other { kind: other.into() }),
        }
    }

    fn assistant(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        let model = text_at(event, "/message/model");
        if model == Some("<synthetic>") {
            self.failure = text_at(event, "/error").map(str::to_owned);
            events.push(AgentEvent::Progress);
            return;
        }
        self.failure = None;
        self.rejected = None;
        // What a subagent says is not said to the person, and its tokens are in the result only.
        let is_own = text_at(event, "/parent_tool_use_id").is_none();
        let answer = text_at(event, "/message/id");
        if is_own && answer.is_some() && self.answer.as_deref() != answer {
            self.answer = answer.map(str::to_owned);
            events.push(AgentEvent::Turn);
        }
        for block in list_at(event, "/message/content") {
            events.push(match text_at(block, "/type") {
                Some("text") if is_own => AgentEvent::Message {
                    text: text_at(block, "/text").unwrap_or_default().to_owned(),
                    part: MessagePart::Whole,
                },
                Some("tool_use") => AgentEvent::ToolUse {
                    name: text_at(block, "/name").unwrap_or_default().to_owned(),
                    detail: block.get("input").and_then(tool_detail),
                },
                _ => AgentEvent::Progress,
            });
        }
    }

    fn rate_limit(&mut self, event: &Value, events: &mut Vec<AgentEvent>) {
        let at = |name: &str| text_at(event, &format!("/rate_limit_info/{name}"));
        let kind = at("rateLimitType").unwrap_or("usage");
        let resets = event["rate_limit_info"]["resetsAt"]
            .as_i64()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .map(ResetHint::At);
        // Beyond the limit an account may go on at extra cost.
        let refuses = at("status") == Some("rejected")
            && !at("overageStatus").is_some_and(|status| status.starts_with("allowed"));
        self.rejected = refuses.then(|| resets.clone());
        events.push(match at("status") {
            Some("allowed") => AgentEvent::Progress,
            _ if refuses => AgentEvent::RateLimit {
                message: format!("the {kind} limit is reached"),
                resets,
            },
            status => AgentEvent::Warning {
                message: format!("{kind} limit: {}", status.unwrap_or("unknown")),
            },
        });
    }

    fn result(&mut self, result: &Value, events: &mut Vec<AgentEvent>) {
        self.closed = true;
        events.push(AgentEvent::Usage {
            usage: usage(result),
            count: Count::Total,
        });
        if let Some(usd) = result["total_cost_usd"].as_f64() {
            let count = Count::Total;
            events.push(AgentEvent::Cost { usd, count });
        }
        events.extend(number_at(result, "/num_turns").map(AgentEvent::Turns));
        for denial in list_at(result, "/permission_denials") {
            let tool = text_at(denial, "/tool_name").unwrap_or_default().to_owned();
            events.push(AgentEvent::PermissionDenied { tool });
        }
        let succeeded = text_at(result, "/subtype") == Some("success")
            && result["is_error"] == Value::Bool(false);
        // Without a turn no model was asked: the answer is claude's own, `Unknown command: …`.
        if succeeded && number_at(result, "/num_turns") != Some(0) {
            let text = text_at(result, "/result").unwrap_or_default().to_owned();
            let part = MessagePart::Whole;
            events.push(AgentEvent::Message { text, part });
            events.push(AgentEvent::Completed);
        } else {
            events.push(AgentEvent::Error(self.failed(result)));
        }
    }

    fn failed(&self, result: &Value) -> AgentError {
        let reason = text_at(result, "/terminal_reason").or(text_at(result, "/subtype"));
        let reason = reason.unwrap_or("unknown reason");
        let text = text_at(result, "/result").map_or("", str::trim);
        let message = match text_at(result, "/errors/0") {
            _ if !text.is_empty() => text.to_owned(),
            Some(told) => format!("{told} ({reason})"),
            None if reason == "success" => "it ended without an answer".to_owned(),
            None => reason.to_owned(),
        };
        let class = self.class(result, &message);
        let resets = self.rejected.clone().flatten().or_else(|| resets(&message));
        AgentError {
            class,
            message,
            resets: resets.filter(|_| class == ErrorClass::RateLimit),
        }
    }

    fn class(&self, result: &Value, message: &str) -> ErrorClass {
        let told = |name| text_at(result, name).unwrap_or_default();
        match (
            told("/subtype"),
            told("/terminal_reason"),
            told("/stop_reason"),
        ) {
            ("error_max_turns", _, _) => return ErrorClass::TurnLimit,
            ("error_max_budget_usd", _, _) => return ErrorClass::BudgetLimit,
            (_, "prompt_too_long", _) => return ErrorClass::ContextLimit,
            (_, _, "refusal") => return ErrorClass::Refused,
            _ => {}
        }
        let words = message.trim_start_matches("API Error: ");
        let begins = |beginning| words.starts_with(beginning);
        let failure = self.failure.as_deref().unwrap_or_default();
        match (failure, number_at(result, "/api_error_status")) {
            ("rate_limit" | "billing_error", _) => ErrorClass::RateLimit,
            _ if begins("You've hit your ") || old_limit(words).is_some() => ErrorClass::RateLimit,
            ("authentication_failed", _) => ErrorClass::Auth,
            ("model_not_found", _) => ErrorClass::ModelNotFound,
            (_, None) if begins("Unable to connect") => ErrorClass::Network,
            (_, None) if begins("Request timed out") => ErrorClass::Network,
            ("server_error" | "overloaded", _) => ErrorClass::Overloaded,
            (_, Some(402 | 429)) => ErrorClass::RateLimit,
            (_, Some(401 | 403)) => ErrorClass::Auth,
            (_, Some(404)) => ErrorClass::ModelNotFound,
            (_, Some(500..)) => ErrorClass::Overloaded,
            _ if self.rejected.is_some() => ErrorClass::RateLimit,
            _ => ErrorClass::Unknown,
        }
    }
}

fn system(event: &Value, events: &mut Vec<AgentEvent>) {
    let subtype = text_at(event, "/subtype").unwrap_or_default();
    let at = |pointer| text_at(event, pointer).map(str::to_owned);
    events.push(match subtype {
        "init" => AgentEvent::Session {
            id: at("/session_id"),
            model: at("/model"),
            version: at("/claude_code_version"),
        },
        "api_retry" => api_retry(event),
        "model_fallback" => AgentEvent::Session {
            id: None,
            model: at("/fallback_model"),
            version: None,
        },
        "status" | "thinking_tokens" | "model_refusal_no_fallback" => AgentEvent::Progress,
        "task_started" | "task_updated" | "task_notification" => AgentEvent::Progress,
        other => AgentEvent::Other {
            kind: format!("system/{other}"),
        },
    });
}

fn api_retry(event: &Value) -> AgentEvent {
    let error = text_at(event, "/error").unwrap_or("failed request");
    let status = number_at(event, "/error_status");
    let (attempt, most) = (&event["attempt"], &event["max_retries"]);
    let message = format!("{error}, retry {attempt} of {most}");
    if error == "rate_limit" || status == Some(429) {
        let resets = None; // The delay is claude's own patience, not the limit's end.
        return AgentEvent::RateLimit { message, resets };
    }
    let delay = event["retry_delay_ms"]
        .as_f64()
        .and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
    AgentEvent::Retry { message, delay }
}

fn user(event: &Value, events: &mut Vec<AgentEvent>) {
    events.push(AgentEvent::Progress);
    for block in list_at(event, "/message/content") {
        if text_at(block, "/type") == Some("tool_result") {
            let failed = block["is_error"] == Value::Bool(true);
            events.push(AgentEvent::ToolResult { failed });
        }
    }
}

/// The tokens of the run: those of each model, because `usage` leaves out repeated requests.
fn usage(result: &Value) -> Usage {
    match result["modelUsage"].as_object() {
        Some(models) if !models.is_empty() => models
            .values()
            .map(|usage| {
                tokens(
                    usage,
                    [
                        "inputTokens",
                        "cacheReadInputTokens",
                        "cacheCreationInputTokens",
                        "outputTokens",
                    ],
                )
            })
            .fold(Usage::default(), |sum, one| sum.plus(&one)),
        _ => tokens(
            &result["usage"],
            [
                "input_tokens",
                "cache_read_input_tokens",
                "cache_creation_input_tokens",
                "output_tokens",
            ],
        ),
    }
}

/// Claude counts the tokens that it read from a cache or wrote into it beside its input.
fn tokens(usage: &Value, names: [&str; 4]) -> Usage {
    let [input, read, written, output] = names.map(|name| usage[name].as_u64());
    Usage {
        input_tokens: input.map(|input| {
            [read, written]
                .into_iter()
                .flatten()
                .fold(input, u64::saturating_add)
        }),
        cached_input_tokens: read,
        output_tokens: output,
        reasoning_tokens: None,
    }
}

/// What follows the words with which versions before 2 tell a limit.
fn old_limit(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("Claude AI usage limit reached");
    rest.or_else(|| message.strip_prefix("Claude usage limit reached"))
}

/// `… resets 2:51am (UTC)`, `… You will regain access on 2026-12-01 at 00:00 UTC.`
fn resets(message: &str) -> Option<ResetHint> {
    if let Some(rest) = old_limit(message) {
        if let Some(seconds) = rest.strip_prefix('|') {
            return DateTime::from_timestamp(seconds.trim().parse().ok()?, 0).map(ResetHint::At);
        }
        let (_, time) = rest.split_once("will reset at ")?;
        return reset::parse_wall_clock(time.trim_end_matches('.'));
    }
    if let Some((_, time)) = message.rsplit_once("resets ") {
        return reset::parse_wall_clock(time);
    }
    let (_, time) = message.rsplit_once("You will regain access on ")?;
    let (time, _) = NaiveDateTime::parse_and_remainder(time, "%Y-%m-%d at %H:%M UTC").ok()?;
    Some(ResetHint::At(time.and_utc()))
}
