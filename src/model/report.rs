//! What an agent said about its own work.

use std::fmt;

use crate::model::reset::ResetHint;

/// The agent's side of a run, folded from its output. Claims, not facts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentReport {
    /// How the agent says it ended.
    pub ending: Ending,
    /// The first failure that it reported and did not take back.
    pub error: Option<AgentError>,
    /// Its last message for the person, at most [`MAX_MESSAGE_BYTES`].
    pub final_message: Option<String>,
    /// The model, as the agent named it.
    pub model: Option<String>,
    /// The agent's own name for the conversation, with which it could be resumed.
    pub session_id: Option<String>,
    /// The version of the CLI, where its output tells.
    pub version: Option<String>,
    /// Tokens over the whole run.
    pub usage: Usage,
    /// US dollars over the whole run; `None` where the agent does not tell or does not know.
    pub cost_usd: Option<f64>,
    /// Answers of the model; `None` where the agent does not tell.
    pub turns: Option<u64>,
    /// Tool calls seen in the output.
    pub tool_uses: u64,
    /// Names of the tools that the agent was not allowed to use, one entry a refusal.
    pub permission_denials: Vec<String>,
    /// The last structured event said that it waits for a rate limit.
    pub waiting_for_limit: bool,
    /// When that limit ends, as told.
    pub limit_resets: Option<ResetHint>,
    /// Diffs in the answer that the runner is to apply (agents that cannot write files).
    pub patches: Vec<String>,
    /// Events of a type that this version does not know.
    pub unknown_events: u64,
    /// Those of them that could not be read at all.
    pub unreadable_events: usize,
}

/// The longest final message that is kept; the middle of a longer one is dropped.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// How the agent says it ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ending {
    /// Its output ended without the event that ends a good run.
    #[default]
    Missing,
    /// It said that it completed.
    Completed,
    /// Its output has no such event (plain text); the exit status alone must tell.
    Untold,
}

/// Token counts; an unknown number is `None`, never 0.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Tokens of the prompts, cached ones included.
    pub input_tokens: Option<u64>,
    /// Those of `input_tokens` that came from a cache.
    pub cached_input_tokens: Option<u64>,
    /// Tokens of the answers, reasoning ones included.
    pub output_tokens: Option<u64>,
    /// Those of `output_tokens` that were reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Input and output together; `None` when both are unknown.
    pub fn total(&self) -> Option<u64> {
        match (self.input_tokens, self.output_tokens) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        }
    }

    /// Both counts together; a number known on one side only is that number.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        let add = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (known, None) | (None, known) => known,
        };
        Self {
            input_tokens: add(self.input_tokens, more.input_tokens),
            cached_input_tokens: add(self.cached_input_tokens, more.cached_input_tokens),
            output_tokens: add(self.output_tokens, more.output_tokens),
            reasoning_tokens: add(self.reasoning_tokens, more.reasoning_tokens),
        }
    }
}

/// A failure that the agent reported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AgentError {
    /// What kind of failure it is.
    pub class: ErrorClass,
    /// The agent's words.
    pub message: String,
    /// When a limit ends, as told.
    pub resets: Option<ResetHint>,
}

impl AgentError {
    /// A failure of a class, without a reset time.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            resets: None,
        }
    }
}

/// The kinds of failure that people and the runner act on differently.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ErrorClass {
    /// A rate limit, a usage limit or an empty account.
    RateLimit,
    /// A missing, wrong or powerless key or login.
    Auth,
    /// The model does not exist or is not offered to this account.
    ModelNotFound,
    /// The provider could not be reached, or the connection broke.
    Network,
    /// The provider is overloaded or failed on its side.
    Overloaded,
    /// The conversation is larger than the model's context.
    ContextLimit,
    /// The agent's own limit of turns or time was reached.
    TurnLimit,
    /// The agent's own limit of money was reached.
    BudgetLimit,
    /// The agent was not allowed to do what it wanted.
    PermissionDenied,
    /// The model or the provider's filter refused to answer.
    Refused,
    /// The agent could not be started.
    Spawn,
    /// Nothing of the above could be told.
    Unknown,
}

impl ErrorClass {
    /// All classes, in the order of the documentation.
    pub const ALL: [Self; 12] = [
        Self::RateLimit,
        Self::Auth,
        Self::ModelNotFound,
        Self::Network,
        Self::Overloaded,
        Self::ContextLimit,
        Self::TurnLimit,
        Self::BudgetLimit,
        Self::PermissionDenied,
        Self::Refused,
        Self::Spawn,
        Self::Unknown,
    ];

    /// The class's name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Auth => "auth",
            Self::ModelNotFound => "model_not_found",
            Self::Network => "network",
            Self::Overloaded => "overloaded",
            Self::ContextLimit => "context_limit",
            Self::TurnLimit => "turn_limit",
            Self::BudgetLimit => "budget_limit",
            Self::PermissionDenied => "permission_denied",
            Self::Refused => "refused",
            Self::Spawn => "spawn",
            Self::Unknown => "unknown",
        }
    }

    /// The class of that name in records.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// Whether the same run may succeed when it is simply tried again later.
    pub fn is_transient(self) -> bool {
        match self {
            Self::RateLimit | Self::Network | Self::Overloaded => true,
            Self::Auth
            | Self::ModelNotFound
            | Self::ContextLimit
            | Self::TurnLimit
            | Self::BudgetLimit
            | Self::PermissionDenied
            | Self::Refused
            | Self::Spawn
            | Self::Unknown => false,
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}
