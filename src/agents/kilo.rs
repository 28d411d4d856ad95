//! kilo, a fork of opencode with the same events. Seen with 7.7.7.
//!
//! ```text
//! {"type":"text","sessionID":"ses_e0…","part":{"messageID":"msg_1f…","text":"Created hello.txt and committed it.",…},…}
//! {"type":"error","sessionID":"ses_e0…","error":{"name":"UnknownError","data":{"message":"Model not found: mock/no-such-model."}},…}
//! {"type":"error","sessionID":"ses_e0…","error":"run ended with an auto-rejected permission; pass --auto for autonomous use",…}
//! ```
//!
//! What differs from opencode are the variables, `error` as a text, and that it names the cause of
//! an "unexpected server error" in a second event, so that its log is not needed.

use crate::agents::lines::LineParser;
use crate::agents::opencode;
use crate::agents::opencode_events::Translator;
use crate::agents::{AgentInterface, AgentRequest, InvocationError, TranscriptParser};
use crate::model::invocation::Invocation;

/// Kilo Code.
#[derive(Debug)]
pub struct Kilo;

impl AgentInterface for Kilo {
    fn name(&self) -> &'static str {
        "kilo"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &[
            "KILO_API_KEY",
            "KILO_AUTH_CONTENT",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "OPENROUTER_API_KEY",
        ]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        let switches = [
            ("KILO_TELEMETRY_LEVEL", "off"),
            ("KILO_DISABLE_AUTOUPDATE", "1"),
            ("KILO_DISABLE_SHARE", "1"),
            ("KILO_DISABLE_SESSION_INGEST", "1"),
            ("KILO_DISABLE_PRESENCE", "1"),
            ("KILO_DISABLE_CODEBASE_INDEXING", "1"),
        ];
        opencode::invocation(self.name(), request, &[], &switches)
    }

    fn parser(&self, _arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::new(Translator::default()))
    }
}
