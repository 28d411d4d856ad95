//! GitHub's own coding agent. It is asked for and assigned by GraphQL: REST drops an assignee that
//! it does not take without a word.
//!
//! ```text
//! POST /graphql
//! GraphQL-Features: issues_copilot_assignment_api_support,coding_agent_model_selection
//! ```
//!
//! See "Using Copilot cloud agent via the API" in GitHub's documentation.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::github::GitHub;
use crate::github::error::{Fault, GitHubError};
use crate::github::wire::{Issue, User};
use crate::model::repository::RepositoryName;

/// The agent among those that issues can be assigned to.
const LOGIN: &str = "copilot-swe-agent";

const FIND: &str = "query($owner: String!, $name: String!) {
  repository(owner: $owner, name: $name) {
    id
    suggestedActors(capabilities: [CAN_BE_ASSIGNED], first: 100) {
      nodes { login __typename ... on Bot { id } }
    }
  }
}";

const ASSIGN: &str = "mutation($issue: ID!, $agent: ID!, $repository: ID!) {
  replaceActorsForAssignable(input: {
    assignableId: $issue, actorIds: [$agent], agentAssignment: {targetRepositoryId: $repository}
  }) {
    assignable { ... on Issue { assignees(first: 10) { nodes { login } } } }
  }
}";

/// The agent, as a repository offers it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CodingAgent {
    id: String,
    repository_id: String,
}

impl Issue {
    /// Whether the coding agent works on it.
    pub fn is_with_coding_agent(&self) -> bool {
        // REST calls it `copilot-swe-agent[bot]` or by its other name.
        let is_agent = |user: &User| user.login.starts_with(LOGIN) || user.login == "Copilot";
        self.assignees.iter().any(is_agent)
    }
}

#[derive(Deserialize)]
struct Actor {
    #[serde(default)]
    login: String,
    id: Option<String>,
}

impl GitHub {
    /// The coding agent, where a repository offers it to this caller.
    pub async fn coding_agent(
        &self,
        repository: &RepositoryName,
    ) -> Result<Option<CodingAgent>, GitHubError> {
        let variables = json!({"owner": repository.owner(), "name": repository.name()});
        let found = async {
            let data = self.0.graphql(repository, FIND, variables).await?;
            let told = &data["repository"];
            let actors = actors(&told["suggestedActors"]["nodes"])?;
            let agent = actors.into_iter().find(|actor| actor.login == LOGIN);
            let ids = agent.and_then(|actor| actor.id).zip(told["id"].as_str());
            Ok(ids.map(|(id, repository_id)| CodingAgent {
                id,
                repository_id: repository_id.to_owned(),
            }))
        };
        found.await.map_err(|fault| GitHubError {
            attempt: format!("ask whether `{repository}` offers GitHub's coding agent"),
            is_write: false,
            fault,
        })
    }

    /// Assigns an issue to the coding agent, which begins at once; in the place of whoever had it.
    pub async fn assign(&self, issue: &Issue, agent: &CodingAgent) -> Result<(), GitHubError> {
        let variables = json!({
            "issue": issue.node_id,
            "agent": agent.id,
            "repository": agent.repository_id,
        });
        let assigned = async {
            let data = self.0.graphql(&issue.repository, ASSIGN, variables).await?;
            let issue = &data["replaceActorsForAssignable"]["assignable"];
            // Here it goes by another name as well.
            let is_agent = |actor: &Actor| actor.login == LOGIN || actor.login == "Copilot";
            if actors(&issue["assignees"]["nodes"])?.iter().any(is_agent) {
                return Ok(());
            }
            Err(Fault::Invalid {
                message: "the agent is not among the assignees afterwards".to_owned(),
            })
        };
        assigned.await.map_err(|fault| GitHubError {
            attempt: format!(
                "assign `{}#{}` to GitHub's coding agent",
                issue.repository, issue.number
            ),
            is_write: true,
            fault,
        })
    }
}

fn actors(nodes: &Value) -> Result<Vec<Actor>, Fault> {
    if nodes.is_null() {
        return Ok(Vec::new());
    }
    serde_json::from_value(nodes.clone()).map_err(|error| Fault::Unreadable(error.to_string()))
}
