//! The agents: translators between a run and the command line of one coding-agent CLI.
//!
//! A backend turns an [`AgentRequest`] into an [`Invocation`] and the bytes that come back into
//! [`AgentEvent`]s and one [`AgentReport`]. It never spawns, reads a clock or touches a file, so
//! its contract tests need none of these. A new agent is one file, one line in [`AGENTS`] and its
//! recorded output under `tests/fixtures/agents/<name>/`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use thiserror::Error;

use crate::model::event::AgentEvent;
use crate::model::invocation::Invocation;
use crate::model::process_end::Stream;
use crate::model::report::AgentReport;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod cases_opencode_qwen;
pub mod claude;
pub mod codex;
pub mod configured;
#[cfg(test)]
mod contract;
pub mod fold;
pub mod gemini;
pub mod installation;
pub mod kilo;
pub mod lines;
pub mod ollama;
pub mod opencode;
pub mod opencode_events;
pub mod patch;
pub mod plain;
pub mod qwen;

/// Every built-in backend, in the order in which they are listed to people.
pub const AGENTS: &[&dyn AgentInterface] = &[
    &codex::Codex,
    &claude::Claude,
    &gemini::Gemini,
    &kilo::Kilo,
    &ollama::Ollama,
    &ollama::OllamaChat,
    &opencode::OpenCode,
    &qwen::Qwen,
    &patch::Patch,
];

/// The built-in backend of that name.
pub fn find(name: &str) -> Option<&'static dyn AgentInterface> {
    AGENTS.iter().copied().find(|agent| agent.name() == name)
}

/// What one CLI needs to be told, and how what it says is read.
pub trait AgentInterface: fmt::Debug + Send + Sync {
    /// The stable name in configuration, records and exit tables. Unique among [`AGENTS`].
    fn name(&self) -> &str;

    /// Names of the environment variables that hold this CLI's own credentials. They alone reach
    /// the agent although they look like secrets.
    fn credentials(&self) -> &'static [&'static str];

    /// The command for one run. Pure.
    ///
    /// The law: no shell is involved, the program is the request's, and the prompt arrives
    /// byte-exact whatever it begins with, up to the limit that the CLI has. A prompt that the CLI
    /// would take for something else is refused.
    ///
    /// # Errors
    /// When the CLI cannot take this prompt, or needs a model and none is named.
    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError>;

    /// A reader for the output of one run with these configured arguments: where they ask for plain
    /// text, it may be text.
    fn parser(&self, arguments: &[String]) -> Box<dyn TranscriptParser>;
}

/// A row of [`AGENTS`] serves like an agent that owns itself.
impl AgentInterface for &'static dyn AgentInterface {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn credentials(&self) -> &'static [&'static str] {
        (**self).credentials()
    }

    fn invocation(&self, request: &AgentRequest<'_>) -> Result<Invocation, InvocationError> {
        (**self).invocation(request)
    }

    fn parser(&self, arguments: &[String]) -> Box<dyn TranscriptParser> {
        (**self).parser(arguments)
    }
}

/// Everything that a backend may know of a run.
#[derive(Clone, Copy, Debug)]
pub struct AgentRequest<'a> {
    /// The resolved program file.
    pub program: &'a Path,
    /// The repository, absolute; also the working directory and `PWD`.
    pub repository: &'a Path,
    /// An existing directory of mode 0700 for files of this run alone, outside the repository.
    pub private_directory: &'a Path,
    /// The exact prompt.
    pub prompt: &'a str,
    /// The model to name; `None` leaves the choice to the CLI.
    pub model: Option<&'a str>,
    /// How much the model should think, in the CLI's own words.
    pub effort: Option<&'a str>,
    /// Arguments from the configuration, put behind the backend's own.
    pub arguments: &'a [String],
    /// A name for the conversation, where the CLI wants one: `task/agent/run_id`.
    pub title: &'a str,
    /// The runner runs as root; some CLIs need to be told that this is meant.
    pub as_root: bool,
}

/// Why a backend cannot take a run.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum InvocationError {
    /// The CLI takes no prompt of this size.
    #[error("the prompt has a length of {size}, and {agent} takes at most {limit}")]
    PromptTooLarge {
        /// The agent's name.
        agent: String,
        /// The prompt's length in the CLI's own unit, bytes or characters.
        size: usize,
        /// The most it takes, in the same unit.
        limit: usize,
    },
    /// The prompt has a NUL character, which no program can be given in an argument.
    #[error("the prompt has a NUL character, which cannot be passed in an argument")]
    Nul,
    /// The prompt would reach the CLI as an option.
    #[error(
        "the prompt begins with `-`, which {agent} would read as an option; \
         `{{prompt}}` behind `--` or inside an argument of its command avoids that"
    )]
    PromptIsOption {
        /// The agent's name.
        agent: String,
    },
    /// The backend needs a model to be named.
    #[error("{agent} needs a model to be named: without one it would choose a vendor's own")]
    ModelMissing {
        /// The agent's name.
        agent: String,
    },
}

/// Refuses a prompt that is larger than a CLI takes.
fn check_size(agent: &str, size: usize, limit: usize) -> Result<(), InvocationError> {
    if size <= limit {
        return Ok(());
    }
    Err(InvocationError::PromptTooLarge {
        agent: agent.to_owned(),
        size,
        limit,
    })
}

/// The model that a request names, for a CLI that needs one.
fn named_model<'a>(agent: &str, request: &AgentRequest<'a>) -> Result<&'a str, InvocationError> {
    request.model.ok_or_else(|| InvocationError::ModelMissing {
        agent: agent.to_owned(),
    })
}

/// The prompt for a CLI that takes a leading `/` as a command of its own: such a prompt gets one
/// line before it.
fn without_command(prompt: &str) -> String {
    let guard = if prompt.trim_start().starts_with('/') {
        "The task:\n"
    } else {
        ""
    };
    [guard, prompt].concat()
}

/// Environment variables as an invocation holds them.
fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// Reads the output of one run.
///
/// The law: the report depends on the bytes of each stream alone, not on how they were split.
pub trait TranscriptParser: fmt::Debug {
    /// Takes the next bytes of a stream and adds the events that they complete.
    fn feed(&mut self, stream: Stream, bytes: &[u8], events: &mut Vec<AgentEvent>);

    /// Ends both streams and tells the report. A last line without a line feed is used when it is
    /// whole and ignored when it is torn.
    fn finish(self: Box<Self>, exit: &AgentExit<'_>) -> AgentReport;
}

/// What is known of the agent's end when its report is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgentExit<'a> {
    /// The exit status; `None` after a signal.
    pub code: Option<i32>,
    /// The content of the invocation's result file, when it was written.
    pub result_file: Option<&'a str>,
}
