//! Reading back what reached the topic.
//!
//! ```json
//! {"id":"hwQ2YpKdmg","time":1771533603,"event":"message","topic":"t","title":"…","message":"…"}
//! ```

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest012::{Client, StatusCode};
use serde::Deserialize;

use crate::notify::ntfy::{Ntfy, answer_of, body};
use crate::tls;

/// The longest time for asking the server.
const LIMIT: Duration = Duration::from_secs(10);
/// Thousands of messages; a larger answer is none.
const MAX_BYTES: usize = 32 << 20;

/// A message as the server keeps it.
#[derive(Deserialize)]
struct MessageForm {
    #[serde(default)]
    event: String,
    #[serde(default)]
    message: String,
}

/// Why the server's messages could not be read, without any secret.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It was not reached, or refused.
    #[error("the notification server does not tell its messages")]
    NotTold(#[source] reqwest012::Error),
    /// Who asks may not read the topic; what the server answers.
    #[error(
        "the notification server does not let the topic be read: {0}; let the token or user of \
         [ntfy] read the topic, which writing does not need"
    )]
    NotAllowed(String),
    /// Its answer is too long.
    #[error("the notification server tells more than {MAX_BYTES} bytes")]
    TooLong,
    /// Its answer is not that of an ntfy server.
    #[error("the notification server does not answer as an ntfy server does")]
    Nonsense(#[source] serde_json::Error),
    /// It takes too long.
    #[error("the notification server does not tell its messages within 10s")]
    TooSlow,
}

impl Ntfy {
    /// The texts of the topic's messages since a time, oldest first, as far as the server keeps them.
    pub async fn heard(&self, since: DateTime<Utc>) -> Result<Vec<String>, JournalError> {
        let heard = tokio::time::timeout(LIMIT, self.poll(since)).await;
        heard.unwrap_or(Err(JournalError::TooSlow))
    }

    async fn poll(&self, since: DateTime<Utc>) -> Result<Vec<String>, JournalError> {
        tls::install_provider();
        // The URL may hold a password or a token.
        let not_told = |error: reqwest012::Error| JournalError::NotTold(error.without_url());
        let client = Client::builder()
            .connect_timeout(LIMIT)
            .redirect(reqwest012::redirect::Policy::custom(|attempt| {
                attempt.error("the server answers with a redirect, which is not followed")
            }))
            .build()
            .map_err(not_told)?;
        let server = self.server().trim_end_matches('/');
        let since = since.timestamp();
        let url = format!("{server}/{}/json?poll=1&since={since}", self.topic());
        let mut answer = self
            .authorized(client.get(url))
            .send()
            .await
            .map_err(not_told)?;
        let status = answer.status();
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
            let told = body(answer).await.unwrap_or_default();
            return Err(JournalError::NotAllowed(answer_of(status, &told)));
        }
        answer = answer.error_for_status().map_err(not_told)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(not_told)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_BYTES {
                return Err(JournalError::TooLong);
            }
        }
        let lines = bytes.split(|byte| *byte == b'\n');
        // What is no journal must not pass for an empty one.
        let lines = lines.filter(|line| !line.trim_ascii().is_empty());
        let forms: Result<Vec<MessageForm>, _> = lines.map(serde_json::from_slice).collect();
        let forms = forms.map_err(JournalError::Nonsense)?.into_iter();
        let messages = forms.filter(|form| form.event == "message");
        Ok(messages.map(|form| form.message).collect())
    }
}
