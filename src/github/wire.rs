//! What GitHub's API says, as far as it is used here. Unknown fields are passed over, absent texts
//! are empty, and anything else that differs is an error.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, de};

use crate::github::error::Fault;
use crate::model::repository::RepositoryName;

/// An issue.
#[derive(Clone, Debug, Deserialize)]
pub struct Issue {
    /// Unique on that GitHub, whatever happens to the repository.
    pub id: u64,
    /// Its name in GraphQL.
    pub node_id: String,
    /// Its number in its repository.
    pub number: u64,
    /// Where it lives; differs from where it was asked for when it was transferred.
    #[serde(rename = "repository_url", deserialize_with = "repository_of_url")]
    pub repository: RepositoryName,
    /// The title.
    pub title: String,
    /// The body; empty when there is none.
    #[serde(default, deserialize_with = "text_or_null")]
    pub body: String,
    /// Who wrote it; `None` when that account is no more.
    #[serde(rename = "user")]
    pub author: Option<User>,
    /// Open or closed.
    pub state: State,
    /// The names of its labels.
    #[serde(deserialize_with = "label_names")]
    pub labels: Vec<String>,
    /// Who is to work on it.
    #[serde(default)]
    pub assignees: Vec<User>,
    /// Its page for people.
    pub html_url: String,
    /// When it was made.
    #[serde(deserialize_with = "time")]
    pub created_at: DateTime<Utc>,
    /// Present when this is a pull request.
    pull_request: Option<de::IgnoredAny>,
}

impl Issue {
    /// Whether this is a pull request, which GitHub lists among the issues.
    pub fn is_pull_request(&self) -> bool {
        self.pull_request.is_some()
    }

    /// Whether it carries a label. GitHub's labels differ by more than case.
    pub fn has_label(&self, label: &str) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|known| known.eq_ignore_ascii_case(label))
    }
}

/// Whether an issue or pull request is open.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Open.
    Open,
    /// Closed, or merged.
    Closed,
}

impl State {
    /// As GitHub writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// An account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct User {
    /// Its name; may change.
    pub login: String,
}

impl User {
    /// Whether it has this name, in whatever case.
    pub fn is(&self, login: &str) -> bool {
        self.login.eq_ignore_ascii_case(login)
    }
}

/// A comment on an issue or pull request.
#[derive(Clone, Debug, Deserialize)]
pub struct Comment {
    /// Its number, unique on that GitHub.
    pub id: u64,
    /// The text.
    #[serde(default, deserialize_with = "text_or_null")]
    pub body: String,
    /// Who wrote it; `None` when that account is no more.
    #[serde(rename = "user")]
    pub author: Option<User>,
    /// When it was made.
    #[serde(deserialize_with = "time")]
    pub created_at: DateTime<Utc>,
}

/// What GitHub tells of the credentials besides whose they are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Grant {
    /// The scopes of a classic token; `None` for all else.
    pub scopes: Option<Vec<String>>,
    /// When the token ends; `None` for one that does not, or of an app, which gets new ones.
    pub expires_at: Option<DateTime<Utc>>,
    /// What an app may do where it is installed, such as `issues` and `write`.
    pub permissions: BTreeMap<String, String>,
}

/// A repository.
#[derive(Clone, Debug, Deserialize)]
pub struct Repository {
    /// Its present name; differs from the name asked for when it was renamed.
    #[serde(deserialize_with = "repository_name")]
    pub full_name: RepositoryName,
    /// The branch that pull requests go to.
    pub default_branch: String,
    /// Whether it is read-only.
    #[serde(default)]
    pub archived: bool,
    /// Whether only some people can see it.
    pub private: bool,
    /// What the caller may do; `None` when GitHub does not say.
    pub permissions: Option<Permissions>,
}

/// What the caller may do in a repository.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Permissions {
    /// Write.
    #[serde(default)]
    pub push: bool,
}

/// What somebody may do in a repository, from less to more. GitHub counts `triage` as read and
/// `maintain` as write here.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Nothing, or there is no such account.
    None,
    /// Read.
    Read,
    /// Write.
    Write,
    /// Everything.
    Admin,
}

/// A pull request.
#[derive(Clone, Debug, Deserialize)]
pub struct Pull {
    /// Its number in its repository.
    pub number: u64,
    /// The body; empty when there is none.
    #[serde(default, deserialize_with = "text_or_null")]
    pub body: String,
    /// Who opened it; `None` when that account is no more.
    #[serde(rename = "user")]
    pub author: Option<User>,
    /// Open or closed.
    pub state: State,
    /// When it was merged; `None` when it was not.
    #[serde(default, deserialize_with = "time_or_null")]
    pub merged_at: Option<DateTime<Utc>>,
    /// The branch that is offered.
    pub head: Branch,
    /// The branch that it goes to.
    pub base: Branch,
    /// Its page for people.
    pub html_url: String,
    /// When it was made.
    #[serde(deserialize_with = "time")]
    pub created_at: DateTime<Utc>,
}

/// A pull request that refers to an issue, in whatever repository.
#[derive(Clone, Debug, Deserialize)]
pub struct Mention {
    /// Where it is.
    #[serde(rename = "repository_url", deserialize_with = "repository_of_url")]
    pub repository: RepositoryName,
    /// The body; empty when there is none.
    #[serde(default, deserialize_with = "text_or_null")]
    pub body: String,
    /// Who opened it; `None` when that account is no more.
    #[serde(rename = "user")]
    pub author: Option<User>,
    /// Open or closed.
    pub state: State,
    /// Its page for people.
    pub html_url: String,
    pull_request: Merged,
}

#[derive(Clone, Debug, Deserialize)]
struct Merged {
    #[serde(default, deserialize_with = "time_or_null")]
    merged_at: Option<DateTime<Utc>>,
}

impl Mention {
    /// When it was merged; `None` when it was not.
    pub fn merged_at(&self) -> Option<DateTime<Utc>> {
        self.pull_request.merged_at
    }
}

/// One end of a pull request.
#[derive(Clone, Debug, Deserialize)]
pub struct Branch {
    /// The branch's name.
    #[serde(rename = "ref")]
    pub name: String,
    /// Its commit.
    pub sha: String,
    /// The repository it is in; `None` when that is no more.
    #[serde(default, rename = "repo", deserialize_with = "name_of_repository")]
    pub repository: Option<RepositoryName>,
}

/// What is left of the rate limit for this API.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct RateLimit {
    /// Requests an hour.
    pub limit: u64,
    /// Requests left until the reset.
    pub remaining: u64,
    /// The reset in seconds since 1970.
    pub reset: i64,
}

#[derive(Deserialize)]
pub(super) struct LabelOf {
    pub(super) name: String,
}

#[derive(Deserialize)]
pub(super) struct PermissionOf {
    pub(super) permission: Permission,
}

#[derive(Deserialize)]
pub(super) struct AppOf {
    pub(super) slug: String,
}

#[derive(Deserialize)]
pub(super) struct Installation {
    pub(super) id: u64,
}

#[derive(Deserialize)]
pub(super) struct InstallationToken {
    pub(super) token: String,
    #[serde(default)]
    pub(super) permissions: BTreeMap<String, String>,
    #[serde(deserialize_with = "time")]
    pub(super) expires_at: DateTime<Utc>,
}

/// Where a branch is.
#[derive(Deserialize)]
pub(super) struct Reference {
    pub(super) object: Object,
}

#[derive(Deserialize)]
pub(super) struct Object {
    pub(super) sha: String,
}

/// A file of a repository; a larger one than 1 MB comes without its text.
#[derive(Deserialize)]
pub(super) struct File {
    encoding: String,
    content: String,
}

impl File {
    pub(super) fn text(&self) -> Result<String, Fault> {
        let unreadable = |why: String| Fault::Unreadable(format!("a file: {why}"));
        if self.encoding != "base64" {
            return Err(unreadable(format!("its encoding is `{}`", self.encoding)));
        }
        let encoded: String = self.content.split_whitespace().collect();
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|error| unreadable(error.to_string()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// GitHub's account of an error.
#[derive(Default, Deserialize)]
pub(super) struct Problem {
    #[serde(default)]
    pub(super) message: String,
    /// Objects, texts or one text.
    #[serde(default)]
    pub(super) errors: serde_json::Value,
}

fn text_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn parse_time<E: de::Error>(text: &str) -> Result<DateTime<Utc>, E> {
    let time = DateTime::parse_from_rfc3339(text).map_err(E::custom)?;
    Ok(time.to_utc())
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<DateTime<Utc>, D::Error> {
    parse_time(&String::deserialize(from)?)
}

fn time_or_null<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| parse_time(&text)).transpose()
}

fn repository_name<'de, D: Deserializer<'de>>(from: D) -> Result<RepositoryName, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(de::Error::custom)
}

/// `https://api.github.com/repos/OWNER/NAME`
fn repository_of_url<'de, D: Deserializer<'de>>(from: D) -> Result<RepositoryName, D::Error> {
    let url = String::deserialize(from)?;
    let (_, name) = url
        .rsplit_once("/repos/")
        .ok_or_else(|| de::Error::custom("no repository in `repository_url`"))?;
    name.parse().map_err(de::Error::custom)
}

fn name_of_repository<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<RepositoryName>, D::Error> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(deserialize_with = "repository_name")]
        full_name: RepositoryName,
    }
    Ok(Option::<Named>::deserialize(from)?.map(|named| named.full_name))
}

fn label_names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    /// GitHub's description allows both.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Label {
        Name(String),
        Object { name: Option<String> },
    }
    let labels = Vec::<Label>::deserialize(from)?.into_iter();
    Ok(labels
        .filter_map(|label| match label {
            Label::Name(name) => Some(name),
            Label::Object { name } => name,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_issue_is_read_that_lacks_what_nobody_uses() {
        let issue = json!({
            "id": 1,
            "node_id": "I_1",
            "number": 7,
            "repository_url": "https://api.github.com/repos/octo/hello",
            "title": "Correct it",
            "user": {"login": "alice"},
            "state": "open",
            "labels": [],
            "html_url": "https://github.com/octo/hello/issues/7",
            "created_at": "2026-02-19T20:40:03Z",
        });
        let issue: Issue = serde_json::from_value(issue).unwrap();
        assert_eq!(issue.author.unwrap().login, "alice");
    }
}
