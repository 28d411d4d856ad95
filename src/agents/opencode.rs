//! opencode: `opencode run --format json`, seen with 1.18.33. Its fork kilo is started alike.
//!
//! ```text
//! {"type":"step_start","sessionID":"ses_e0…","part":{"messageID":"msg_1f…","snapshot":"3942ced…",…},…}
//! {"type":"tool_use","sessionID":"ses_e0…","part":{"tool":"bash","state":{"status":"completed",…},…},…}
//! {"type":"error","sessionID":"ses_e0…","error":{"name":"UnknownError","data":{"message":"Unexpected server error. Check server logs for details.",…}},…}
//! ```
//!
//! The events are read by [`opencode_events`](crate::agents::opencode_events).
//!
//! The list of models is fetched as ever: a hosted model newer than the CLI would not be found
//! without it, and nothing of the user's is sent.

use crate::agents::lines::LineParser;
use crate::agents::opencode_events::Translator;
use crate::agents::{
    AgentInterface, AgentRequest, InvocationError, TranscriptParser, named_model, variables,
};
use crate::model::invocation::Invocation;

/// opencode of SST.
#[derive(Debug)]
pub struct OpenCode;

impl AgentInterface for OpenCode {
    fn name(&self) -> &'static str {
        "opencode"
    }

    fn credentials(&self) -> &'static [&'static str] {
        &[
            "OPENCODE_API_KEY",
            "OPENCODE_AUTH_CONTENT",
            "OPENAI_API_KEY",
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "OPENROUTER_API_KEY",
        ]
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        let switches = [
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
            ("OPENCODE_DISABLE_SHARE", "1"),
        ];
        // Without its log, a model that is not configured is an "unexpected server error".
        let log = ["--print-logs", "--log-level", "ERROR"];
        invocation(self.name(), request, &log, &switches)
    }

    fn parser(&self, _arguments: &[String]) -> Box<dyn TranscriptParser> {
        Box::new(LineParser::new(Translator::default()))
    }
}

/// The command for opencode or its fork.
///
/// # Errors
/// When no model is named: the CLI would choose its vendor's and send the code there.
pub(crate) fn invocation(
    agent: &str,
    request: &AgentRequest<'_>,
    own_arguments: &[&str],
    switches: &[(&str, &str)],
) -> Result<Invocation, InvocationError> {
    let model = named_model(agent, request)?;
    let mut arguments = vec!["run", "--format", "json", "--auto"];
    arguments.extend(own_arguments);
    // A path that is no text cannot be an argument here; then `PWD` alone says it, rightly.
    let directory = request.repository.to_str();
    arguments.extend(directory.iter().flat_map(|path| ["--dir", path]));
    arguments.extend(["-m", model, "--title", request.title]);
    arguments.extend(request.effort.iter().flat_map(|e| ["--variant", e]));
    arguments.extend(request.arguments.iter().map(String::as_str));
    Ok(Invocation {
        environment: variables(switches),
        ..Invocation::new(request.program, arguments, request.prompt)
    })
}
