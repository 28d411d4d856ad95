//! The endpoints: what can be asked and done.

use std::collections::BTreeSet;

use reqwest012::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::github::GitHub;
use crate::github::error::{Fault, GitHubError};
use crate::github::identity::Identity;
use crate::github::transport::parse;
use crate::github::wire::{
    AppOf, Comment, File, Issue, LabelOf, Mention, Permission, PermissionOf, Pull, Reference,
    Repository, State, User,
};
use crate::model::repository::RepositoryName;
use crate::model::secret::Secret;

/// An issue to be made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NewIssue<'a> {
    /// The title.
    pub title: &'a str,
    /// The body.
    pub body: &'a str,
    /// Labels; GitHub drops them silently when the caller cannot write.
    pub labels: &'a [&'a str],
}

/// A pull request to be made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NewPull<'a> {
    /// The title.
    pub title: &'a str,
    /// The branch that is offered, in the same repository.
    pub head: &'a str,
    /// The branch that it goes to.
    pub base: &'a str,
    /// The body.
    pub body: &'a str,
}

const PER_PAGE: (&str, &str) = ("per_page", "100");

impl GitHub {
    /// Our own name; of an app `<slug>[bot]`, as which its comments appear.
    pub async fn login(&self) -> Result<String, GitHubError> {
        let path: &[&str] = match self.0.identity {
            Identity::Token { .. } => &["user"],
            Identity::App { .. } => &["app"],
        };
        let told = async {
            let url = self.0.url(path, &[])?;
            Ok(match self.0.identity {
                Identity::Token { .. } => self.0.read::<User>(None, url).await?.login,
                Identity::App { .. } => {
                    format!("{}[bot]", self.0.read::<AppOf>(None, url).await?.slug)
                }
            })
        };
        told.await
            .map_err(|fault| failed("tell who the credentials are of", fault))
    }

    /// Open issues with a label, the oldest first; pull requests are left out.
    ///
    /// An issue may be missing when others were closed meanwhile: it is in the next list.
    pub async fn issues(
        &self,
        repository: &RepositoryName,
        label: &str,
    ) -> Result<Vec<Issue>, GitHubError> {
        let query = [
            ("state", "open"),
            ("labels", label),
            ("sort", "created"),
            ("direction", "asc"),
            PER_PAGE,
        ];
        let listed = self.list(repository, &["issues"], &query).await;
        let mut issues: Vec<Issue> =
            listed.map_err(|fault| failed(format!("list the issues of `{repository}`"), fault))?;
        // Pages shift while they are read.
        let mut seen = BTreeSet::new();
        issues.retain(|issue| !issue.is_pull_request() && seen.insert(issue.id));
        Ok(issues)
    }

    /// The newest open issues of a repository, with pull requests at most 100; those are left out.
    pub async fn newest_issues(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<Issue>, GitHubError> {
        let query = [
            ("state", "open"),
            ("sort", "created"),
            ("direction", "desc"),
            PER_PAGE,
        ];
        let listed = async {
            let url = self.url(repository, &["issues"], &query)?;
            self.0.read::<Vec<Issue>>(Some(repository), url).await
        };
        let mut issues = listed
            .await
            .map_err(|fault| failed(format!("list the issues of `{repository}`"), fault))?;
        issues.retain(|issue| !issue.is_pull_request());
        Ok(issues)
    }

    /// One issue. A transferred one names another repository.
    pub async fn issue(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> Result<Issue, GitHubError> {
        self.get(repository, &["issues", &number.to_string()])
            .await
            .map_err(|fault| failed(format!("read `{repository}#{number}`"), fault))
    }

    /// All comments of an issue, the oldest first.
    pub async fn comments(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> Result<Vec<Comment>, GitHubError> {
        self.list(
            repository,
            &["issues", &number.to_string(), "comments"],
            &[PER_PAGE],
        )
        .await
        .map_err(|fault| {
            failed(
                format!("read the comments of `{repository}#{number}`"),
                fault,
            )
        })
    }

    /// The pull requests that refer to an issue, in whatever repository, the oldest reference first.
    pub async fn mentions(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> Result<Vec<Mention>, GitHubError> {
        let path = ["issues", &number.to_string(), "timeline"];
        let listed = self.list::<Value>(repository, &path, &[PER_PAGE]).await;
        let events = listed.map_err(|fault| {
            let attempt = format!("read what refers to `{repository}#{number}`");
            failed(attempt, fault)
        })?;
        // Only one kind of event has a source, and not all of those are pull requests.
        let mention = |mut event: Value| {
            let issue = event.pointer_mut("/source/issue")?.take();
            serde_json::from_value(issue).ok()
        };
        Ok(events.into_iter().filter_map(mention).collect())
    }

    /// Comments on an issue.
    pub async fn create_comment(
        &self,
        repository: &RepositoryName,
        number: u64,
        body: &str,
    ) -> Result<Comment, GitHubError> {
        self.send(
            format!("comment on `{repository}#{number}`"),
            (repository, &["issues", &number.to_string(), "comments"]),
            Method::POST,
            json!({ "body": body }),
        )
        .await
    }

    /// Replaces the text of a comment.
    pub async fn edit_comment(
        &self,
        repository: &RepositoryName,
        comment: u64,
        body: &str,
    ) -> Result<Comment, GitHubError> {
        self.send(
            format!("edit comment {comment} in `{repository}`"),
            (repository, &["issues", "comments", &comment.to_string()]),
            Method::PATCH,
            json!({ "body": body }),
        )
        .await
    }

    /// Adds labels to an issue. Those it has already stay; those that are new to the repository are
    /// made.
    pub async fn add_labels(
        &self,
        repository: &RepositoryName,
        number: u64,
        labels: &[&str],
    ) -> Result<(), GitHubError> {
        self.send(
            format!("label `{repository}#{number}`"),
            (repository, &["issues", &number.to_string(), "labels"]),
            Method::POST,
            json!({ "labels": labels }),
        )
        .await
        .map(|_: Value| ())
    }

    /// What an account may do in a repository; nothing when there is no such account.
    pub async fn permission(
        &self,
        repository: &RepositoryName,
        login: &str,
    ) -> Result<Permission, GitHubError> {
        match self
            .get::<PermissionOf>(repository, &["collaborators", login, "permission"])
            .await
        {
            Ok(told) => Ok(told.permission),
            Err(Fault::NotFound { .. }) => Ok(Permission::None),
            Err(fault) => {
                let attempt = format!("read what `{login}` may do in `{repository}`");
                Err(failed(attempt, fault))
            }
        }
    }

    /// A repository. A renamed one tells its new name.
    pub async fn repository(&self, repository: &RepositoryName) -> Result<Repository, GitHubError> {
        self.get(repository, &[])
            .await
            .map_err(|fault| failed(format!("read the repository `{repository}`"), fault))
    }

    /// The names of the labels of a repository, whether an issue has them or not.
    pub async fn labels(&self, repository: &RepositoryName) -> Result<Vec<String>, GitHubError> {
        match self
            .list::<LabelOf>(repository, &["labels"], &[PER_PAGE])
            .await
        {
            Ok(labels) => Ok(labels.into_iter().map(|label| label.name).collect()),
            Err(fault) => Err(failed(format!("list the labels of `{repository}`"), fault)),
        }
    }

    /// Pull requests of a branch of this repository, open and closed, the newest first.
    pub async fn pulls(
        &self,
        repository: &RepositoryName,
        branch: &str,
    ) -> Result<Vec<Pull>, GitHubError> {
        let head = format!("{}:{branch}", repository.owner());
        let query = [("state", "all"), ("head", &head), PER_PAGE];
        let listed = self.list(repository, &["pulls"], &query).await;
        let mut pulls: Vec<Pull> =
            listed.map_err(|fault| failed(format!("list the pull requests of `{head}`"), fault))?;
        // A filter that GitHub does not understand is no filter: then it lists all of them.
        pulls.retain(|pull| pull.head.name == branch);
        Ok(pulls)
    }

    /// The newest pull requests of a repository, open and closed, at most 100.
    pub async fn newest_pulls(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<Pull>, GitHubError> {
        let query = [
            ("state", "all"),
            ("sort", "created"),
            ("direction", "desc"),
            PER_PAGE,
        ];
        let listed = async {
            let url = self.url(repository, &["pulls"], &query)?;
            self.0.read(Some(repository), url).await
        };
        listed
            .await
            .map_err(|fault| failed(format!("list the pull requests of `{repository}`"), fault))
    }

    /// Opens a pull request.
    pub async fn create_pull(
        &self,
        repository: &RepositoryName,
        pull: &NewPull<'_>,
    ) -> Result<Pull, GitHubError> {
        self.send(
            format!("open a pull request of `{}` in `{repository}`", pull.head),
            (repository, &["pulls"]),
            Method::POST,
            json!(pull),
        )
        .await
    }

    /// Closes a pull request without merging it.
    pub async fn close_pull(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> Result<Pull, GitHubError> {
        self.send(
            format!("close `{repository}#{number}`"),
            (repository, &["pulls", &number.to_string()]),
            Method::PATCH,
            json!({"state": State::Closed.as_str()}),
        )
        .await
    }

    /// Makes an issue.
    pub async fn create_issue(
        &self,
        repository: &RepositoryName,
        issue: &NewIssue<'_>,
    ) -> Result<Issue, GitHubError> {
        self.send(
            format!("open an issue in `{repository}`"),
            (repository, &["issues"]),
            Method::POST,
            json!(issue),
        )
        .await
    }

    /// Closes an issue.
    pub async fn close_issue(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> Result<Issue, GitHubError> {
        self.send(
            format!("close `{repository}#{number}`"),
            (repository, &["issues", &number.to_string()]),
            Method::PATCH,
            json!({"state": State::Closed.as_str()}),
        )
        .await
    }

    /// The commit of a branch; `None` when there is no such branch.
    pub async fn branch(
        &self,
        repository: &RepositoryName,
        branch: &str,
    ) -> Result<Option<String>, GitHubError> {
        let reference = format!("heads/{branch}");
        match self
            .get::<Reference>(repository, &["git", "ref", &reference])
            .await
        {
            Ok(reference) => Ok(Some(reference.object.sha)),
            Err(Fault::NotFound { .. }) => Ok(None),
            Err(fault) => {
                let attempt = format!("read the branch `{branch}` of `{repository}`");
                Err(failed(attempt, fault))
            }
        }
    }

    /// The text of a file on a branch; `None` when there is no such file.
    pub async fn file(
        &self,
        repository: &RepositoryName,
        branch: &str,
        path: &str,
    ) -> Result<Option<String>, GitHubError> {
        let read = async {
            let url = self.url(repository, &["contents", path], &[("ref", branch)])?;
            self.0.read::<File>(Some(repository), url).await?.text()
        };
        match read.await {
            Ok(text) => Ok(Some(text)),
            Err(Fault::NotFound { .. }) => Ok(None),
            Err(fault) => {
                let attempt = format!("read `{path}` on `{branch}` of `{repository}`");
                Err(failed(attempt, fault))
            }
        }
    }

    /// Deletes a comment. One that is not there is as it should be.
    pub async fn delete_comment(
        &self,
        repository: &RepositoryName,
        comment: u64,
    ) -> Result<(), GitHubError> {
        let path = ["issues", "comments", &comment.to_string()];
        let attempt = format!("delete comment {comment} in `{repository}`");
        match self.delete(attempt, repository, &path).await {
            Err(error) if error.is_not_found() => Ok(()),
            end => end,
        }
    }

    /// Deletes a branch. One that is not there is as it should be.
    pub async fn delete_branch(
        &self,
        repository: &RepositoryName,
        branch: &str,
    ) -> Result<(), GitHubError> {
        // One part of the address, as GitHub describes it: its slashes are encoded.
        let reference = format!("heads/{branch}");
        let path = ["git", "refs", &reference];
        let attempt = format!("delete the branch `{branch}` of `{repository}`");
        match self.delete(attempt, repository, &path).await {
            Err(error) if error.says("Reference does not exist") => Ok(()),
            end => end,
        }
    }

    /// The token with which git clones from and pushes to a repository, as the password of
    /// `x-access-token`. An app's is valid for ten minutes more at least.
    pub async fn git_token(&self, repository: &RepositoryName) -> Result<Secret, GitHubError> {
        match self.0.installation(repository).await {
            Ok((_, token)) => Ok(token),
            Err(fault) => {
                let attempt = format!("get a token for `{repository}`");
                Err(failed(attempt, fault))
            }
        }
    }

    fn url(
        &self,
        repository: &RepositoryName,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<reqwest012::Url, Fault> {
        let mut whole = vec!["repos", repository.owner(), repository.name()];
        whole.extend(path);
        self.0.url(&whole, query)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        repository: &RepositoryName,
        path: &[&str],
    ) -> Result<T, Fault> {
        let url = self.url(repository, path, &[])?;
        self.0.read(Some(repository), url).await
    }

    async fn list<T: DeserializeOwned>(
        &self,
        repository: &RepositoryName,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, Fault> {
        let url = self.url(repository, path, query)?;
        self.0.read_all(repository, url).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        attempt: String,
        (repository, path): (&RepositoryName, &[&str]),
        method: Method,
        body: Value,
    ) -> Result<T, GitHubError> {
        let sent = async {
            let url = self.url(repository, path, &[])?;
            let answer = self.0.write(repository, method, url, Some(body)).await?;
            parse(&answer.json()?)
        };
        sent.await.map_err(|fault| GitHubError {
            attempt,
            is_write: true,
            fault,
        })
    }

    async fn delete(
        &self,
        attempt: String,
        repository: &RepositoryName,
        path: &[&str],
    ) -> Result<(), GitHubError> {
        let sent = async {
            let url = self.url(repository, path, &[])?;
            let answer = self.0.write(repository, Method::DELETE, url, None).await?;
            answer.json_or_nothing()
        };
        sent.await.map_err(|fault| GitHubError {
            attempt,
            is_write: true,
            fault,
        })
    }
}

fn failed(attempt: impl Into<String>, fault: Fault) -> GitHubError {
    GitHubError {
        attempt: attempt.into(),
        is_write: false,
        fault,
    }
}
