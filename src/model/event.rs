//! One thing an agent said while it worked, in words that all agents share.

use std::time::Duration;

use crate::model::report::{AgentError, Usage};
use crate::model::reset::ResetHint;

/// A normalised event of an agent's output stream. A report is a fold over these.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentEvent {
    /// The agent named its session, model or version; `None` leaves what is known.
    Session {
        /// The agent's own name for the conversation.
        id: Option<String>,
        /// The model it uses.
        model: Option<String>,
        /// The version of the CLI.
        version: Option<String>,
    },
    /// Text of the agent for the person. A `Whole` one replaces the last message.
    Message {
        /// The text.
        text: String,
        /// Whether it stands alone or continues the last one.
        part: MessagePart,
    },
    /// The agent called a tool.
    ToolUse {
        /// The tool's name in the agent's own words.
        name: String,
        /// What it was called with, shortened, when the stream tells.
        detail: Option<String>,
    },
    /// A tool came back.
    ToolResult {
        /// Whether the agent marked it as failed.
        failed: bool,
    },
    /// The agent was not allowed to use a tool.
    PermissionDenied {
        /// The tool's name.
        tool: String,
    },
    /// One answer of the model is complete.
    Turn,
    /// Tokens were counted.
    Usage {
        /// The counts.
        usage: Usage,
        /// Whether they add to those before or replace them.
        count: Count,
    },
    /// Money was counted, in US dollars.
    Cost {
        /// The amount.
        usd: f64,
        /// Whether it adds to what was told before or replaces it.
        count: Count,
    },
    /// The number of turns was told as a whole.
    Turns(u64),
    /// The agent waits for a rate limit or a usage limit. Not an end by itself.
    RateLimit {
        /// The agent's words.
        message: String,
        /// When it ends, as far as told.
        resets: Option<ResetHint>,
    },
    /// The agent repeats a failed request.
    Retry {
        /// The agent's words.
        message: String,
        /// How long it waits first.
        delay: Option<Duration>,
    },
    /// Something the agent wants to be known and that is no failure.
    Warning {
        /// The agent's words.
        message: String,
    },
    /// The agent reported a failure. The run is no success any more.
    Error(AgentError),
    /// The agent said that it ended, and that it ended well.
    Completed,
    /// The agent goes on, with nothing to tell: a limit or retry told before is over.
    Progress,
    /// An event this version does not know; kept and ignored.
    Other {
        /// Its type in the agent's own words.
        kind: String,
    },
}

/// How a message text relates to the one before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MessagePart {
    /// It replaces the last message.
    Whole,
    /// It continues the last message.
    Continued,
}

/// How a count relates to the counts before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Count {
    /// It adds to them.
    More,
    /// It replaces them.
    Total,
}
