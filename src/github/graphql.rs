//! GraphQL: one address, and errors in answers whose status is that of a success.
//!
//! ```text
//! POST /graphql
//! 200 {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded for user ID 1."}]}
//! x-ratelimit-resource: graphql
//! ```

use reqwest012::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::github::Shared;
use crate::github::answer;
use crate::github::error::Fault;
use crate::github::transport::parse;
use crate::model::repository::RepositoryName;
use crate::model::text;

#[derive(Deserialize)]
struct Answered {
    #[serde(default)]
    data: Value,
    #[serde(default)]
    errors: Vec<Problem>,
    /// In the place of both, as the REST API says it.
    message: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
}

impl Shared {
    /// Sends a request, once; gives the data of an answer without errors.
    pub(super) async fn graphql(
        &self,
        repository: &RepositoryName,
        query: &str,
        variables: Value,
    ) -> Result<Value, Fault> {
        let mut url = self.url(&["graphql"], &[])?;
        // On GitHub Enterprise Server it lies beside the REST API.
        if let Some(base) = url.path().strip_suffix("/api/v3/graphql") {
            let path = format!("{base}/api/graphql");
            url.set_path(&path);
        }
        let body = json!({"query": query, "variables": variables});
        let sent = self.write(repository, Method::POST, url, Some(body));
        let answer = sent.await?;
        let headers = answer.headers().clone();
        let mut answered: Answered = parse(&answer.json()?)?;
        if let Some(message) = answered.message {
            let kind = String::new();
            answered.errors.push(Problem { kind, message });
        }
        let now = self.clock.now();
        let mut limits = (answered.errors.iter())
            .filter_map(|one| answer::graphql_limit(&one.kind, &one.message, &headers, now));
        if let Some(limit) = limits.next() {
            return Err(self.shut(now, limit));
        }
        let Some(first) = answered.errors.first() else {
            return Ok(answered.data);
        };
        let message = text::first_line(&first.message, 300);
        Err(match first.kind.as_str() {
            "FORBIDDEN" | "INSUFFICIENT_SCOPES" => Fault::Forbidden {
                message,
                needed: None,
            },
            "NOT_FOUND" => Fault::NotFound {
                message,
                needed: None,
            },
            _ => Fault::Invalid { message },
        })
    }
}
