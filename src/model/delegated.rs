//! A task that was handed to somebody else, as far as it is known.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::model::repository::RepositoryName;

/// Who does a delegated task.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Provider {
    /// Whoever works on the issues of the dispatch repository.
    GithubIssueDispatch,
    /// GitHub's own coding agent.
    Copilot,
    /// `dispatch --source local` on this machine.
    Local,
    /// Nobody: the states of a task are played through.
    Mock,
}

impl Provider {
    /// All providers.
    pub const ALL: [Self; 4] = [
        Self::GithubIssueDispatch,
        Self::Copilot,
        Self::Local,
        Self::Mock,
    ];

    /// Its name on the command line, in the environment and in metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GithubIssueDispatch => "github_issue_dispatch",
            Self::Copilot => "copilot",
            Self::Local => "local",
            Self::Mock => "mock",
        }
    }

    /// The provider of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str() == name)
    }
}

/// How far a delegated task is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DelegatedState {
    /// Nobody works on it yet.
    Created,
    /// Somebody works on it.
    Running,
    /// It waits for a person.
    NeedsInput,
    /// It has its pull request, or its branch.
    Completed,
    /// It is given up.
    Failed,
}

impl DelegatedState {
    /// All states.
    pub const ALL: [Self; 5] = [
        Self::Created,
        Self::Running,
        Self::NeedsInput,
        Self::Completed,
        Self::Failed,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::NeedsInput => "needs_input",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// Whether nothing follows it.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// A task that was handed to somebody else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delegated {
    /// Its name.
    pub task_id: String,
    /// Who does it.
    pub provider: Provider,
    /// What is to be done, in one line.
    pub title: String,
    /// When it was handed over.
    pub created_at: DateTime<Utc>,
    /// How far it is.
    pub state: DelegatedState,
    /// The last that was heard of it.
    pub message: String,
    /// Its issue, as repository and number.
    pub issue: Option<(RepositoryName, u64)>,
    /// The repository in which its pull request is looked for.
    pub target: Option<RepositoryName>,
    /// The repository of this machine that it is for.
    pub directory: Option<PathBuf>,
    /// Where the result is: a pull request's address, or a branch.
    pub result: Option<String>,
}
