//! A task as an issue on GitHub: how it is opened, and how its pull request is found again.

use crate::cli::commands::dispatch;
use crate::cli::error::CliError;
use crate::config::settings::Settings;
use crate::github::{GitHub, GitHubError, Issue, NewIssue, Pull, State};
use crate::model::delegated::{Delegated, DelegatedState};
use crate::model::repository::RepositoryName;
use crate::model::text::chain;
use crate::sources::correlation::answers;
use crate::sources::delegation::Delegation;
use crate::sources::dispatch_issues::{FAILED, PROCESSED};

/// An issue's repository and number.
pub(super) type Named = (RepositoryName, u64);

/// The issue by which a task is handed over.
pub(in crate::cli::commands) struct Handed {
    pub(in crate::cli::commands) issue: Issue,
    /// Whether it was open already: the answer to an earlier call may have been lost.
    pub(super) is_found: bool,
}

/// Where the id of a task comes from.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::commands) enum Id<'a> {
    /// It was just made: no issue has it.
    New,
    /// Somebody gave it. An issue up to this one, of an earlier task of the same id, is none of it.
    Given(Option<&'a Named>),
}

/// Opens the issue of a task in the dispatch repository.
pub(in crate::cli::commands) async fn open(
    github: &GitHub,
    settings: &Settings,
    order: &Delegation,
    id: Id<'_>,
) -> Result<Handed, CliError> {
    let repository = dispatch::repository(settings, None)?;
    let unfit = |why| CliError::usage("the task does not fit into an issue").because(why);
    order.check().map_err(unfit)?;
    let label = settings.dispatch.label.value.as_str();
    create(github, &repository, order, &[label], id).await
}

/// Opens the issue of a task; one that carries no label, and that nobody would see, is closed.
pub(super) async fn open_labelled(
    github: &GitHub,
    settings: &Settings,
    order: &Delegation,
    id: Id<'_>,
) -> Result<Handed, CliError> {
    let handed = open(github, settings, order, id).await?;
    let label = settings.dispatch.label.value.as_str();
    if handed.issue.has_label(label) {
        return Ok(handed);
    }
    let issue = &handed.issue;
    // GitHub leaves out what the caller may not set, and says nothing.
    let place = close(github, issue).await;
    let what = format!("GitHub did not set the label `{label}`; {place}");
    let hint = format!(
        "the token needs Issues: read and write on {}, of a user who may write",
        issue.repository
    );
    Err(CliError::failure(what).hint(hint))
}

/// Closes an issue on which nobody would work; tells what became of it.
async fn close(github: &GitHub, issue: &Issue) -> String {
    match github.close_issue(&issue.repository, issue.number).await {
        Ok(_) => format!("{} is closed again", issue.html_url),
        Err(error) => format!("{} stays open: {}", issue.html_url, chain(&error)),
    }
}

/// Opens an issue and assigns it to GitHub's own agent; one that cannot be assigned is closed.
pub(super) async fn open_for_copilot(
    github: &GitHub,
    repository: &RepositoryName,
    order: &Delegation,
    id: Id<'_>,
) -> Result<Handed, CliError> {
    const NEEDS: &str = "a paid Copilot plan, the coding agent switched on for the repository, and \
        a user's token with read and write for actions, contents, issues and pull requests are \
        needed; or set DISPATCH_REPO and use `--provider github_issue_dispatch`";
    let agent = github.coding_agent(repository).await;
    let agent = agent.map_err(|error| failure("GitHub's coding agent cannot be used", &error))?;
    let Some(agent) = agent else {
        let what = format!("{repository} does not offer GitHub's coding agent");
        return Err(CliError::failure(what).hint(NEEDS));
    };
    let handed = create(github, repository, order, &[], id).await?;
    let Handed { issue, is_found } = &handed;
    if issue.is_with_coding_agent() {
        return Ok(handed);
    }
    let Err(error) = github.assign(issue, &agent).await else {
        return Ok(handed);
    };
    // It may work on it although the answer was lost.
    if error.is_ambiguous()
        && let Ok(issue) = github.issue(repository, issue.number).await
        && issue.is_with_coding_agent()
    {
        return Ok(Handed { issue, ..handed });
    }
    let place = if *is_found {
        format!("{} was open before and stays so", issue.html_url)
    } else {
        // Nobody else works on it.
        close(github, issue).await
    };
    let failure = CliError::failure(format!("{}; {place}", chain(&error)));
    // What passes is nobody's lack.
    Err(if error.is_transient() {
        failure
    } else {
        failure.hint(NEEDS)
    })
}

/// Opens the issue, unless one is open by which we handed over the same.
async fn create(
    github: &GitHub,
    repository: &RepositoryName,
    order: &Delegation,
    labels: &[&str],
    id: Id<'_>,
) -> Result<Handed, CliError> {
    let (title, body) = (order.title(), order.body());
    let after = match id {
        Id::Given(Some((place, number))) if place == repository => *number,
        Id::New | Id::Given(_) => 0,
    };
    let find = async || {
        let is_it = |issue: &Issue| {
            let is_ended = issue.has_label(PROCESSED) || issue.has_label(FAILED);
            issue.body == body
                && !is_ended
                && labels.iter().all(|label| issue.has_label(label))
                && issue.number > after
        };
        let mut issues = github.newest_issues(repository).await?;
        issues.retain(is_it);
        if issues.is_empty() {
            return Ok(None);
        }
        // Anybody may write the same.
        let login = github.login().await?;
        let is_ours = |issue: &Issue| {
            issue
                .author
                .as_ref()
                .is_some_and(|author| author.is(&login))
        };
        Ok::<_, GitHubError>(issues.into_iter().find(is_ours))
    };
    let opened = |issue| Handed {
        issue,
        is_found: false,
    };
    let failed = |error: GitHubError| failure("Failed to create dispatch issue", &error);
    if let Id::Given(_) = id
        && let Some(issue) = find().await.map_err(failed)?
    {
        return Ok(Handed {
            issue,
            is_found: true,
        });
    }
    let new = NewIssue {
        title: &title,
        body: &body,
        labels,
    };
    match github.create_issue(repository, &new).await {
        Err(error) if error.is_ambiguous() => match find().await {
            Ok(Some(issue)) => Ok(opened(issue)),
            Ok(None) | Err(_) => Err(failed(error).hint(format!(
                "it may be open all the same: the same call with `--task-id {}` finds it",
                order.task_id
            ))),
        },
        created => created.map(opened).map_err(failed),
    }
}

/// What GitHub did not do, why, and what a person can do about it.
pub(in crate::cli::commands) fn failure(what: &str, error: &GitHubError) -> CliError {
    let failure = CliError::failure(format!("{what}: {}", chain(error)));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Asks how far a task is: its pull request may be in the repository that it is for, or in that of
/// its issue.
pub(super) async fn look(github: &GitHub, task: &mut Delegated) -> Result<(), GitHubError> {
    let (Some((repository, number)), Some(target)) = (&task.issue, &task.target) else {
        return Ok(());
    };
    let found = github.issue(repository, *number).await?;
    let issue = (repository.clone(), *number);
    let mut places = vec![target];
    places.extend((repository != target).then_some(repository));
    for place in places {
        let pulls = github.newest_pulls(place).await?;
        let ours = |body: &str| answers(body, place, &task.task_id, &issue);
        // The id may have been another task's before.
        let is_new = |pull: &Pull| pull.created_at >= found.created_at;
        if let Some(pull) = pulls.iter().find(|pull| is_new(pull) && ours(&pull.body)) {
            task.state = DelegatedState::Completed;
            task.message = format!("PR opened: {}", pull.html_url);
            task.result = Some(pull.html_url.clone());
            return Ok(());
        }
    }
    let issue = found;
    if issue.has_label(FAILED) {
        task.state = DelegatedState::Failed;
        task.message = format!("it rests as failed: {}", issue.html_url);
    } else if issue.state == State::Closed {
        task.state = DelegatedState::Failed;
        task.message = format!(
            "the issue was closed without a pull request: {}",
            issue.html_url
        );
    }
    Ok(())
}
