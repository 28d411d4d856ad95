//! ollama in its two modes, after its source of August 2026: it has not been run here.
//!
//! `launch` starts claude on a model of ollama's, and claude's events come back. `chat` asks the
//! model once; it has no tools, and the patches in its answer are the work:
//!
//! ```text
//! (standard output) Here is the fix:
//! (standard error)  prompt eval count:    26 token(s)
//! (standard error)  Error: could not connect to ollama server, run 'ollama serve' to start it
//! ```
//!
//! A model that is not there is pulled first, whatever its size. Without a login a model in the
//! cloud is answered by a notice on standard output, with exit 0.

use crate::agents::claude;
use crate::agents::lines::{LineParser, LineTranslator, class_of_status};
use crate::agents::plain::last_words;
use crate::agents::{
    AgentExit, AgentInterface, AgentRequest, InvocationError, TranscriptParser, named_model,
};
use crate::model::event::{AgentEvent, Count};
use crate::model::invocation::Invocation;
use crate::model::patch::patch_blocks;
use crate::model::report::{AgentError, AgentReport, Ending, ErrorClass, MAX_MESSAGE_BYTES, Usage};
use crate::model::text;

/// The longest answer that is read for patches. Half an answer is never applied.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The notice that stands in place of an answer.
const SIGN_IN: &str = "You need to be signed in to Ollama to run Cloud models.";

/// `ollama launch claude`.
#[derive(Debug)]
pub struct Ollama;

/// `ollama run`.
#[derive(Debug)]
pub struct OllamaChat;

impl AgentInterface for Ollama {
    fn name(&self) -> &'static str {
        "ollama"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &["OLLAMA_API_KEY"]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        let launch = [
            "launch",
            "claude",
            "--yes",
            "--model",
            named_model(self.name(), request)?,
            "--",
        ];
        let claude = claude::arguments(&AgentRequest {
            model: None,
            ..*request
        });
        let arguments = launch.map(str::to_owned).into_iter().chain(claude);
        let stdin = claude::stdin(self.name(), request.prompt)?;
        Ok(Invocation {
            environment: claude::environment(request),
            ..Invocation::new(request.program, arguments, stdin)
        })
    }

    fn parser(&self, _arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::new(Launched(claude::Translator::default())))
    }
}

impl AgentInterface for OllamaChat {
    fn name(&self) -> &'static str {
        "ollama_chat"
    }

    fn credentials(&self) -> &'static [&'static str] {
        Ollama.credentials()
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        // Words would be wrapped even in a pipe, and thoughts printed into the answer.
        let flags = ["run", "--nowordwrap", "--hidethinking", "--verbose"];
        let mut arguments = Vec::from(flags.map(str::to_owned));
        arguments.extend(request.effort.map(|effort| format!("--think={effort}")));
        arguments.push(named_model(self.name(), request)?.to_owned());
        arguments.extend(request.arguments.iter().cloned());
        Ok(Invocation::new(request.program, arguments, request.prompt))
    }

    fn parser(&self, _arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::new(Chat::default()))
    }
}

/// Claude's events, and ollama's own words where claude was not started.
#[derive(Debug)]
struct Launched(claude::Translator);

impl LineTranslator for Launched {
    fn stdout_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        self.0.stdout_line(line, events);
    }

    fn stdout_text(&mut self, lines: &[u8], events: &mut Vec<AgentEvent>) {
        self.0.stdout_text(lines, events);
    }

    fn stderr_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        self.0.stderr_line(line, events);
    }

    fn conclude(&mut self, exit: &AgentExit<'_>, stderr_tail: &str, report: &mut AgentReport) {
        // ollama adds its own line when the claude that it started has failed.
        let own_line = stderr_tail.rsplit_once("Error: exit status ");
        let claudes = own_line.map_or(stderr_tail, |(told, _)| told);
        self.0.conclude(exit, claudes, report);
        if let Some(error) = &mut report.error
            && error.class == ErrorClass::Unknown
        {
            error.class = class(&error.message);
        }
    }
}

/// The whole answer of the model.
#[derive(Debug, Default)]
struct Chat {
    answer: String,
    too_long: bool,
}

impl LineTranslator for Chat {
    const HAS_EVENTS: bool = false;

    fn stdout_line(&mut self, line: &[u8], _events: &mut Vec<AgentEvent>) {
        if self.answer.len() + line.len() >= MAX_ANSWER_BYTES {
            self.too_long = true;
        } else {
            self.answer.push_str(&String::from_utf8_lossy(line));
            self.answer.push('\n');
        }
    }

    fn stderr_line(&mut self, line: &[u8], events: &mut Vec<AgentEvent>) {
        let line = String::from_utf8_lossy(line);
        let Some((label, count)) = line.trim_end().rsplit_once(':') else {
            return;
        };
        let Ok(tokens) = count.trim().trim_end_matches(" token(s)").parse() else {
            return;
        };
        let mut usage = Usage::default();
        if label.ends_with("prompt eval count") {
            usage.input_tokens = Some(tokens);
        } else if label.ends_with("eval count") {
            usage.output_tokens = Some(tokens);
            events.push(AgentEvent::Turn);
        } else {
            return;
        }
        let count = Count::More;
        events.push(AgentEvent::Usage { usage, count });
    }

    fn conclude(&mut self, exit: &AgentExit<'_>, stderr_tail: &str, report: &mut AgentReport) {
        report.ending = Ending::Untold;
        let answer = self.answer.trim();
        // The parser passes over a line that is too long and counts it; there are no other events.
        let too_long = self.too_long || report.unknown_events > 0;
        if let Some(error) = last_words(exit, stderr_tail, &[]) {
            let class = class(&error.message);
            report.error = Some(AgentError::new(class, error.message));
        } else if is_sign_in(answer) {
            report.error = Some(AgentError::new(ErrorClass::Auth, SIGN_IN));
            return;
        } else if too_long {
            let message = format!("the answer is longer than {MAX_ANSWER_BYTES} bytes");
            report.error = Some(AgentError::new(ErrorClass::Unknown, message));
        } else if exit.code == Some(0) {
            report.patches = patch_blocks(&self.answer);
        }
        if !answer.is_empty() {
            report.final_message = Some(text::cut_middle(answer, MAX_MESSAGE_BYTES));
        }
    }
}

/// Whether this is the notice and nothing else; a model may well write about it.
fn is_sign_in(answer: &str) -> bool {
    let Some(rest) = answer.strip_prefix(SIGN_IN) else {
        return false;
    };
    let lines: Vec<&str> = rest
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    match lines[..] {
        [] => true,
        [line, url] => line.starts_with("To sign in,") && url.trim().starts_with("https://"),
        _ => false,
    }
}

/// The kind of a failure that ollama tells by `Error: …`, with the HTTP status in front, if any.
fn class(message: &str) -> ErrorClass {
    let cause = message.strip_prefix("Error: ").unwrap_or(message);
    let status = cause.get(..3).and_then(|status| status.parse().ok());
    let unreachable = ["could not connect to ollama", "dial tcp"];
    if unreachable.iter().any(|words| cause.contains(words)) {
        ErrorClass::Network
    } else if cause == "pull model manifest: file does not exist"
        || (cause.starts_with("model ") && cause.ends_with("not found"))
    {
        ErrorClass::ModelNotFound
    } else if cause.starts_with("server busy") {
        ErrorClass::Overloaded
    } else {
        status.map_or(ErrorClass::Unknown, class_of_status)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::process_end::Stream;

    fn read(agent: &dyn AgentInterface, code: i32, stdout: &[u8], stderr: &str) -> AgentReport {
        let mut parser = agent.parser(&[]);
        parser.feed(Stream::Stdout, stdout, &mut Vec::new());
        parser.feed(Stream::Stderr, stderr.as_bytes(), &mut Vec::new());
        parser.finish(&AgentExit {
            code: Some(code),
            result_file: None,
        })
    }

    #[test]
    fn the_output_of_a_launch_is_read_as_claudes() {
        let fixtures = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/agents/claude/2.1.197"
        );
        for name in ["b-tool", "c-429long", "a-json"] {
            let stdout = fs::read(format!("{fixtures}/{name}.stdout")).unwrap();
            let claude = read(&claude::Claude, 0, &stdout, "");
            assert_eq!(read(&Ollama, 0, &stdout, ""), claude, "{name}");
        }
    }

    #[test]
    fn a_launch_without_claudes_events_is_no_success() {
        let report = read(&Ollama, 0, b"Sign in to continue\n", "");
        assert_eq!(report.ending, Ending::Missing);
        let stderr = "Error: could not connect to ollama server, run 'ollama serve' to start it\n";
        let error = read(&Ollama, 1, b"", stderr).error.unwrap();
        assert_eq!(error.class, ErrorClass::Network);
        let stderr = "error: unknown option '--x'\nError: exit status 1\n";
        let error = read(&Ollama, 1, b"", stderr).error.unwrap();
        assert_eq!(error.message, "error: unknown option '--x'");
    }

    #[test]
    fn an_answer_that_is_too_long_has_no_patches_and_is_a_failure() {
        let block = "```diff\n+a\n```\n";
        let flood = [block.as_bytes(), &b"x\n".repeat(MAX_ANSWER_BYTES / 2)].concat();
        let line = [block.as_bytes(), &b"x".repeat(MAX_ANSWER_BYTES + 1), b"\n"].concat();
        for answer in [flood, line] {
            let report = read(&OllamaChat, 0, &answer, "");
            assert!(report.patches.is_empty());
            assert!(report.error.unwrap().message.contains("longer than"));
        }
        assert_eq!(read(&OllamaChat, 0, block.as_bytes(), "").patches, ["+a\n"]);
        assert!(
            read(&OllamaChat, 1, block.as_bytes(), "")
                .patches
                .is_empty()
        );
    }

    #[test]
    fn an_answer_that_ends_like_an_event_is_whole() {
        let answer = "It prints:\n{\"a\":";
        let report = read(&OllamaChat, 0, answer.as_bytes(), "");
        assert_eq!(report.final_message.as_deref(), Some(answer));
        assert_eq!(report.ending, Ending::Untold);
    }

    #[test]
    fn only_the_bare_notice_is_a_missing_login() {
        let class = |answer: &str| {
            let report = read(&OllamaChat, 0, answer.as_bytes(), "");
            report.error.map(|error| error.class)
        };
        assert_eq!(class(&format!("{SIGN_IN}\n\n")), Some(ErrorClass::Auth));
        let explained = format!("{SIGN_IN}\n\nSo it says.\nhttps://ollama.com/\n");
        assert_eq!(class(&explained), None);
        assert_eq!(class(&format!("It says: {SIGN_IN}")), None);
    }

    #[test]
    fn the_kinds_of_failure_are_told_apart() {
        let tell = |text: &str| class(&format!("Error: {text}")).as_str();
        for (text, class) in [
            (
                "429 Too Many Requests: you've reached your limit",
                "rate_limit",
            ),
            ("401 Unauthorized: unauthorized", "auth"),
            ("500 Internal Server Error: llama runner", "overloaded"),
            ("server busy, please try again.", "overloaded"),
            ("model 'x' not found", "model_not_found"),
            (
                "pull model manifest: Get \"x\": dial tcp: lookup x",
                "network",
            ),
            ("unknown flag: --x", "unknown"),
        ] {
            assert_eq!(tell(text), class, "{text}");
        }
    }
}
