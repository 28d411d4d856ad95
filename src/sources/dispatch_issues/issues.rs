//! The issues of one repository as a [`TaskSource`].

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::TimeDelta;

use crate::git::Remote;
use crate::github::{
    Comment, Fault, GitHub, GitHubError, Issue, Mention, NewPull, Permission, Pull, State,
};
use crate::model::clock::Clock;
use crate::model::dispatch::{WorkKey, WorkRequest};
use crate::model::repository::RepositoryName;
use crate::model::work_name::WorkName;
use crate::sources::correlation::closed_issues;
use crate::sources::dispatch_issues::grammar::{self, Instructed, Reading};
use crate::sources::dispatch_issues::wording::{self, Kind};
use crate::sources::source::{
    Accepted, Fate, Next, Offer, Publication, SourceError, Standing, TaskSource,
};

/// The label of an issue that is done.
pub const PROCESSED: &str = "processed";
/// The label of an issue that rests.
pub const FAILED: &str = "failed";

/// How long GitHub is believed about who may write to a repository.
const PERMISSIONS_KEPT: Duration = Duration::from_secs(300);

/// What is worked on, and for whom.
#[derive(Clone, Debug)]
pub struct IssuesSettings {
    /// The repository of the issues.
    pub repository: RepositoryName,
    /// The label that an issue needs.
    pub label: String,
    /// The name under which we speak.
    pub agent_name: String,
    /// The base of clone URLs, such as `https://github.com`.
    pub server_url: String,
    /// Repositories that may be changed, as `owner/name` or `owner/*`; empty means those of the
    /// owner of [`IssuesSettings::repository`].
    pub targets: Vec<String>,
    /// Users who may ask although they cannot write.
    pub authors: Vec<String>,
}

impl IssuesSettings {
    fn allows(&self, target: &RepositoryName) -> bool {
        if *target == self.repository {
            return true;
        }
        let same_owner = |owner: &str| owner.eq_ignore_ascii_case(target.owner());
        if self.targets.is_empty() {
            return same_owner(self.repository.owner());
        }
        self.targets
            .iter()
            .any(|allowed| match allowed.strip_suffix("/*") {
                Some(owner) => same_owner(owner),
                None => allowed.eq_ignore_ascii_case(target.as_str()),
            })
    }
}

/// The issues of a repository.
#[derive(Debug)]
pub struct Issues {
    github: GitHub,
    settings: IssuesSettings,
    clock: Arc<dyn Clock + Send + Sync>,
    login: RefCell<Option<String>>,
    permissions: RefCell<BTreeMap<String, (Permission, Instant)>>,
    /// Issues without a task, which are passed over with one line in the log.
    passed_over: RefCell<BTreeSet<u64>>,
}

impl Issues {
    /// Asks nothing yet.
    pub fn new(
        github: GitHub,
        settings: IssuesSettings,
        clock: Arc<dyn Clock + Send + Sync>,
    ) -> Self {
        Self {
            github,
            settings,
            clock,
            login: RefCell::default(),
            permissions: RefCell::default(),
            passed_over: RefCell::default(),
        }
    }

    fn origin(&self, number: u64) -> String {
        format!("{}#{number}", self.settings.repository)
    }

    /// The offer of an issue; `None` when it is not for us.
    fn offer_of(&self, issue: &Issue) -> Option<Offer> {
        let reading = grammar::read(&issue.title, Some(&issue.body));
        let repository = match reading {
            Reading::NotOurs => {
                if self.passed_over.borrow_mut().insert(issue.number) {
                    tracing::warn!("Issue #{} missing task_id, skipping", issue.number);
                }
                return None;
            }
            Reading::Work(work) => work.target,
            Reading::Invalid { .. } => None,
        };
        let repository = repository.unwrap_or_else(|| self.settings.repository.clone());
        Some(Offer {
            key: work_key(issue),
            origin: self.origin(issue.number),
            number: issue.number,
            title: issue.title.clone(),
            repository: repository.to_string(),
            author: login_of(issue).to_owned(),
            // GitHub tells the second alone; of one second the lower number is older.
            created: issue.created_at
                + TimeDelta::milliseconds(i64::try_from(issue.number % 1000).unwrap_or(0)),
        })
    }

    fn is_waiting(&self, issue: &Issue) -> bool {
        issue.state == State::Open
            && !issue.is_pull_request()
            && issue.has_label(&self.settings.label)
            && !issue.has_label(PROCESSED)
            && !issue.has_label(FAILED)
    }

    async fn read(&self, number: u64) -> Result<Issue, SourceError> {
        let issue = self.github.issue(&self.settings.repository, number).await;
        let issue = issue.map_err(|error| match error.fault() {
            Fault::Gone { .. } => SourceError::Unwanted(format!("issue #{number} is gone")),
            Fault::NotFound { .. } => SourceError::Unwanted(format!(
                "there is no issue #{number} in {}, or the token may not see it",
                self.settings.repository
            )),
            _ => trouble(&error),
        })?;
        if issue.repository != self.settings.repository {
            let reason = format!("issue #{number} has moved to {}", issue.repository);
            return Err(SourceError::Unwanted(reason));
        }
        Ok(issue)
    }

    async fn read_waiting(&self, number: u64) -> Result<Issue, SourceError> {
        let issue = self.read(number).await?;
        if self.is_waiting(&issue) {
            return Ok(issue);
        }
        let label = &self.settings.label;
        let why = if issue.is_pull_request() {
            "is a pull request".to_owned()
        } else if issue.state != State::Open {
            "is closed".to_owned()
        } else if issue.has_label(PROCESSED) {
            format!("is done: it carries the label `{PROCESSED}`")
        } else if issue.has_label(FAILED) {
            format!("rests: it carries the label `{FAILED}`, whose removal starts it afresh")
        } else {
            format!("does not carry the label `{label}`")
        };
        Err(SourceError::Unwanted(format!("issue #{number} {why}")))
    }

    async fn check_author(&self, issue: &Issue) -> Result<(), SourceError> {
        let author = login_of(issue);
        let is_listed = |known: &String| known.eq_ignore_ascii_case(author);
        if self.settings.authors.iter().any(is_listed) {
            return Ok(());
        }
        let known = self.permissions.borrow().get(author).copied();
        let permission = match known {
            Some((permission, when)) if when.elapsed() < PERMISSIONS_KEPT => permission,
            Some(_) | None => {
                let asked = self.github.permission(&self.settings.repository, author);
                let permission = asked.await.map_err(|error| trouble(&error))?;
                let entry = (permission, Instant::now());
                self.permissions
                    .borrow_mut()
                    .insert(author.to_owned(), entry);
                permission
            }
        };
        match permission {
            Permission::Admin | Permission::Write => Ok(()),
            Permission::Read | Permission::None => Err(SourceError::Refused(format!(
                "the author cannot write to {}, and is not on the list of those who may ask \
                 (`dispatch.authors`)",
                self.settings.repository
            ))),
        }
    }

    async fn login(&self) -> Result<String, SourceError> {
        if let Some(login) = self.login.borrow().clone() {
            return Ok(login);
        }
        let login = self.github.login().await.map_err(|error| trouble(&error))?;
        *self.login.borrow_mut() = Some(login.clone());
        Ok(login)
    }

    /// Our own comments on an issue, the oldest first. Anybody may write a marker into a comment.
    async fn own_comments(&self, number: u64) -> Result<Vec<Comment>, SourceError> {
        let login = self.login().await?;
        let listed = self.github.comments(&self.settings.repository, number);
        let mut comments = listed.await.map_err(|error| trouble(&error))?;
        comments.retain(|comment| {
            comment
                .author
                .as_ref()
                .is_some_and(|author| author.is(&login))
        });
        Ok(comments)
    }

    /// Writes a comment of a kind, unless it is there; an existing one is edited where `edit`.
    async fn comment(
        &self,
        (number, key): (u64, &WorkKey),
        kind: Kind,
        body: &str,
        edit: bool,
    ) -> Result<(), SourceError> {
        let repository = &self.settings.repository;
        let comments = self.own_comments(number).await?;
        match first(&comments, kind, key) {
            Some(comment) if edit && comment.body != body => {
                let edited = self.github.edit_comment(repository, comment.id, body);
                edited.await.map_err(|error| trouble(&error))?;
            }
            Some(_) => {}
            None => {
                let created = self.github.create_comment(repository, number, body);
                let created = created.await.map_err(|error| trouble(&error))?;
                // Every machine may tell that it begins.
                if kind != Kind::Started {
                    self.leave_the_first((number, key), kind, created.id).await;
                }
            }
        }
        let body = wording::overcome(&self.settings.agent_name, key);
        if kind == Kind::Completed
            && let Some(failed) = first(&comments, Kind::Failed, key)
            && failed.body != body
        {
            let edited = self.github.edit_comment(repository, failed.id, &body);
            // It is done all the same.
            if let Err(error) = edited.await {
                tracing::warn!("{}", reason(&error));
            }
        }
        Ok(())
    }

    /// Takes our comment back if another machine, which has the same name, wrote its own before it:
    /// neither could see the other's when it looked.
    async fn leave_the_first(&self, (number, key): (u64, &WorkKey), kind: Kind, created: u64) {
        let Ok(comments) = self.own_comments(number).await else {
            return;
        };
        if first(&comments, kind, key).is_some_and(|first| first.id < created) {
            let repository = &self.settings.repository;
            if let Err(error) = self.github.delete_comment(repository, created).await {
                tracing::warn!("{}", reason(&error));
            }
        }
    }

    async fn label(&self, number: u64, label: &str) -> Result<(), SourceError> {
        let repository = &self.settings.repository;
        let added = self.github.add_labels(repository, number, &[label]).await;
        added.map_err(|error| {
            tracing::warn!("Could not add '{label}' label: {error}");
            trouble(&error)
        })
    }

    fn target(work: &Accepted) -> Result<RepositoryName, SourceError> {
        let target = work.request.target.parse();
        target.map_err(|error| SourceError::Refused(format!("{error}")))
    }

    async fn remote_of(&self, target: &RepositoryName) -> Result<Remote, SourceError> {
        let token = self.github.git_token(target).await;
        let token = token.map_err(|error| trouble(&error))?;
        let server = self.settings.server_url.trim_end_matches('/');
        Remote::new(
            &format!("{server}/{target}.git"),
            Some(token.expose().to_owned()),
        )
        .map_err(|error| SourceError::Refused(error.to_string()))
    }

    /// What an issue asks for, if it is readable and for a repository that may be changed.
    fn instructed(&self, issue: &Issue) -> Result<(Instructed, RepositoryName), SourceError> {
        let work = match grammar::read(&issue.title, Some(&issue.body)) {
            Reading::Work(work) => work,
            Reading::Invalid { reason } => return Err(SourceError::Refused(reason)),
            Reading::NotOurs => {
                return Err(SourceError::Unwanted(format!(
                    "issue #{} names no task",
                    issue.number
                )));
            }
        };
        if work.hidden_characters {
            return Err(SourceError::Refused(
                "the title or the instruction holds characters that a reader does not see".into(),
            ));
        }
        let target = work.target.clone().unwrap_or_else(|| {
            let repository = self.settings.repository.clone();
            tracing::info!("No target_repo specified, using dispatch repo: {repository}");
            repository
        });
        if !self.settings.allows(&target) {
            return Err(SourceError::Refused(format!(
                "the repository {target} is not on the list of those that may be changed \
                 (`dispatch.targets`)"
            )));
        }
        Ok((work, target))
    }

    /// The pull request of this work under a branch, and one that somebody else opened of it.
    async fn pulls(
        &self,
        work: &Accepted,
        name: &WorkName,
    ) -> Result<(Option<Pull>, Option<Pull>), SourceError> {
        let target = Self::target(work)?;
        let login = self.login().await?;
        let listed = self.github.pulls(&target, &name.branch()).await;
        let pulls = listed.map_err(|error| trouble(&error))?;
        let (ours, others): (Vec<Pull>, Vec<Pull>) = pulls.into_iter().partition(|pull| {
            pull.author.as_ref().is_some_and(|author| author.is(&login))
                && self.names(&work.request, &pull.body, &target)
        });
        Ok((first_open(ours), first_open(others)))
    }

    /// Whether the text of a pull request in a repository is that of this work. Somebody may have
    /// written another one around what it closes.
    fn names(&self, request: &WorkRequest, body: &str, repository: &RepositoryName) -> bool {
        let issue = (self.settings.repository.clone(), request.number);
        body.contains(&wording::pull_marker(&request.key))
            || closed_issues(body, repository).contains(&issue)
    }
}

impl TaskSource for Issues {
    async fn offers(&self) -> Result<Vec<Offer>, SourceError> {
        let settings = &self.settings;
        let listed = self.github.issues(&settings.repository, &settings.label);
        let issues = listed.await.map_err(|error| trouble(&error))?;
        let waiting = issues.iter().filter(|issue| self.is_waiting(issue));
        Ok(waiting.filter_map(|issue| self.offer_of(issue)).collect())
    }

    async fn offer(&self, number: u64) -> Result<Offer, SourceError> {
        let issue = self.read_waiting(number).await?;
        self.offer_of(&issue)
            .ok_or_else(|| SourceError::Unwanted(format!("issue #{number} names no task")))
    }

    async fn fate(&self, origin: &str) -> Result<Fate, SourceError> {
        let number = origin
            .strip_prefix(self.settings.repository.as_str())
            .and_then(|rest| rest.strip_prefix('#')?.parse().ok());
        let Some(number) = number else {
            return Ok(Fate::Open);
        };
        let issue = match self.read(number).await {
            Err(SourceError::Unwanted(reason)) => return Ok(Fate::Unwanted(reason)),
            issue => issue?,
        };
        Ok(if issue.has_label(PROCESSED) {
            Fate::Done
        } else if self.is_waiting(&issue) {
            Fate::Open
        } else {
            Fate::Unwanted(format!("issue #{number} does not wait any more"))
        })
    }

    async fn is_asked_again(&self, offer: &Offer) -> Result<bool, SourceError> {
        // Not from the list, which may be older than the label.
        Ok(self.is_waiting(&self.read(offer.number).await?))
    }

    async fn accept(&self, offer: &Offer) -> Result<Accepted, SourceError> {
        let issue = self.read_waiting(offer.number).await?;
        let (work, target) = self.instructed(&issue)?;
        self.check_author(&issue).await?;
        let repository = self.github.repository(&target).await;
        let repository = repository.map_err(|error| {
            if error.is_not_found() {
                SourceError::Refused(format!("{target}: {}", reason(&error)))
            } else {
                trouble(&error)
            }
        })?;
        if repository.archived {
            let reason = format!("the repository {target} is archived");
            return Err(SourceError::Refused(reason));
        }
        if !self.settings.allows(&repository.full_name) {
            let reason = format!("the repository {target} is now {}", repository.full_name);
            return Err(SourceError::Refused(reason));
        }
        let remote = self.remote_of(&repository.full_name).await?;
        Ok(Accepted {
            request: WorkRequest {
                key: offer.key.clone(),
                origin: offer.origin.clone(),
                number: offer.number,
                task_id: work.task_id,
                title: work.title,
                instruction: work.instruction,
                target: repository.full_name.to_string(),
                fence: 0,
            },
            remote,
            base: Some(repository.default_branch),
            revision: revision(&issue),
        })
    }

    async fn remote(&self, work: &Accepted) -> Result<Remote, SourceError> {
        self.remote_of(&Self::target(work)?).await
    }

    async fn check_wanted(&self, work: &Accepted) -> Result<(), SourceError> {
        let issue = self.read_waiting(work.request.number).await?;
        if revision(&issue) == work.revision {
            return Ok(());
        }
        let reason = "the issue was edited after the work on it began";
        Err(SourceError::Refused(reason.to_owned()))
    }

    async fn standing(&self, work: &Accepted, name: &WorkName) -> Result<Standing, SourceError> {
        Ok(match self.pulls(work, name).await? {
            (Some(pull), _) => Standing::Published(publication_of(pull)),
            (None, Some(pull)) => {
                let commit = pull.head.sha.clone();
                Standing::Taken(publication_of(pull), commit)
            }
            (None, None) => Standing::Free,
        })
    }

    async fn earlier(&self, work: &Accepted) -> Result<Option<Publication>, SourceError> {
        let (repository, number) = (&self.settings.repository, work.request.number);
        let listed = self.github.mentions(repository, number).await;
        let mentions = listed.map_err(|error| trouble(&error))?;
        let login = self.login().await?;
        let is_ours = |pull: &Mention| {
            pull.author.as_ref().is_some_and(|author| author.is(&login))
                && self.names(&work.request, &pull.body, &pull.repository)
        };
        // The newest that is open, else the newest.
        let ours = mentions.into_iter().filter(is_ours);
        let found = ours.max_by_key(|pull| pull.state == State::Open);
        Ok(found.map(|pull| {
            let is_merged = pull.merged_at().is_some();
            let mut publication = publication(pull.html_url, &pull.body, pull.state, is_merged);
            if pull.body.contains(&wording::pull_marker(&work.request.key)) {
                // Whatever it was, it led elsewhere.
                publication.revision.get_or_insert_default();
            }
            publication
        }))
    }

    async fn tell_started(&self, work: &Accepted) -> Result<(), SourceError> {
        let WorkRequest { key, number, .. } = &work.request;
        let body = wording::started(&self.settings.agent_name, key, self.clock.now());
        self.comment((*number, key), Kind::Started, &body, false)
            .await
    }

    async fn publish(
        &self,
        work: &Accepted,
        name: &WorkName,
        base: &str,
    ) -> Result<Publication, SourceError> {
        let (target, branch, trace) = (Self::target(work)?, name.branch(), name.trace_path());
        tracing::info!("Creating new PR from {branch} to {base}");
        let settings = &self.settings;
        let now = self.clock.now();
        let (agent_name, dispatch) = (&settings.agent_name, &settings.repository);
        let body = wording::pull_body(work, dispatch, agent_name, &trace, now);
        let pull = NewPull {
            title: &wording::pull_title(&work.request),
            head: &branch,
            base,
            body: &body,
        };
        let created = match self.github.create_pull(&target, &pull).await {
            // Made by an attempt whose answer was lost, or by somebody else.
            Err(error) if error.is_already_exists() || error.is_ambiguous() => {
                let (found, other) = self.pulls(work, name).await?;
                found.ok_or_else(|| {
                    if other.is_some() {
                        let what = "somebody else has opened a pull request of the branch";
                        return SourceError::Refused(format!("{what} {branch}"));
                    }
                    // The list may be older than the pull request.
                    let (reason, retry_at) = (reason(&error), None);
                    SourceError::Later { reason, retry_at }
                })?
            }
            // What was just pushed may not be seen everywhere yet; whether it is there, git tells.
            Err(error) if error.is_unknown_head() => {
                let (reason, retry_at) = (reason(&error), None);
                return Err(SourceError::Later { reason, retry_at });
            }
            // It may have another name now, which is asked for the next time.
            Err(error) if error.is_unknown_base() => {
                return Err(SourceError::Failed(format!(
                    "{}; a pull request goes to the default branch of {target}, which was `{base}` when the work began: \
                     make that branch, or choose another in the settings of the repository",
                    reason(&error)
                )));
            }
            created => created.map_err(|error| trouble(&error))?,
        };
        tracing::info!("Created PR #{}: {}", created.number, created.html_url);
        Ok(Publication::at(created.html_url))
    }

    async fn tell_completed(
        &self,
        work: &Accepted,
        publication: &Publication,
    ) -> Result<(), SourceError> {
        let WorkRequest { key, number, .. } = &work.request;
        let body = wording::completed(&self.settings.agent_name, key, publication);
        let is_changed = !publication.remarks.is_empty();
        let told = self
            .comment((*number, key), Kind::Completed, &body, is_changed)
            .await;
        // An issue whose conversation is locked can be labelled.
        if matches!(told, Ok(()) | Err(SourceError::Refused(_))) {
            self.label(*number, PROCESSED).await?;
        }
        told
    }

    async fn tell_failed(
        &self,
        offer: &Offer,
        reason: &str,
        next: Next,
    ) -> Result<(), SourceError> {
        let body = wording::failed(&self.settings.agent_name, &offer.key, reason, next);
        self.comment((offer.number, &offer.key), Kind::Failed, &body, true)
            .await?;
        match next {
            Next::Rests => self.label(offer.number, FAILED).await,
            Next::AgainAfter(_) => Ok(()),
        }
    }
}

/// Which work an issue is.
pub fn work_key(issue: &Issue) -> WorkKey {
    WorkKey::new("github-issue", &[&issue.id.to_string()])
}

fn first<'a>(comments: &'a [Comment], kind: Kind, key: &WorkKey) -> Option<&'a Comment> {
    let marker = wording::marker(kind, key);
    comments
        .iter()
        .find(|comment| comment.body.contains(&marker))
}

/// The newest that is open, else the newest.
fn first_open(pulls: Vec<Pull>) -> Option<Pull> {
    let open = pulls.iter().position(|pull| pull.state == State::Open);
    pulls.into_iter().nth(open.unwrap_or(0))
}

fn publication_of(pull: Pull) -> Publication {
    let is_merged = pull.merged_at.is_some();
    publication(pull.html_url, &pull.body, pull.state, is_merged)
}

fn publication(address: String, body: &str, state: State, is_merged: bool) -> Publication {
    let mut publication = Publication::at(address);
    publication.revision = wording::revision_of(body);
    if state == State::Closed && !is_merged {
        let remark = "It was closed without a merge, and no other is opened for this issue.";
        publication.remarks.push(remark.to_owned());
    }
    publication
}

fn login_of(issue: &Issue) -> &str {
    // GitHub's own name for a deleted account.
    issue.author.as_ref().map_or("ghost", |user| &user.login)
}

/// The text that was read, in short.
fn revision(issue: &Issue) -> String {
    WorkKey::new("revision", &[&issue.title, &issue.body]).to_string()
}

fn reason(error: &GitHubError) -> String {
    let mut reason = crate::model::text::chain(error);
    if let Some(hint) = error.hint() {
        reason = format!("{reason} ({hint})");
    }
    reason
}

/// What an error of the API means for the work at hand.
fn trouble(error: &GitHubError) -> SourceError {
    let reason = reason(error);
    tracing::warn!("GitHub API error: {reason}");
    if error.is_bad_credentials() {
        return SourceError::NoAccess(reason);
    }
    if error.is_transient() || error.is_ambiguous() {
        let retry_at = error.retry_at();
        return SourceError::Later { reason, retry_at };
    }
    SourceError::Refused(reason)
}
