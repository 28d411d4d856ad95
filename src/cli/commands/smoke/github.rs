//! What the smoke test does and sees on GitHub.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::checkup::smoke::{Criterion, Ordered, Seen, SeenPull, trace_path};
use crate::cli::commands::delegate::issues::{self, Id};
use crate::cli::commands::dispatch;
use crate::cli::commands::smoke::Work;
use crate::cli::error::CliError;
use crate::cli::wiring;
use crate::config::settings::Settings;
use crate::github::{Comment, Fault, GitHub, GitHubError, Issue};
use crate::model::duration;
use crate::model::repository::RepositoryName;
use crate::model::text::chain;
use crate::model::work_name::WorkName;
use crate::sources::correlation::answers;
use crate::sources::delegation::Delegation;
use crate::sources::dispatch_issues::{FAILED, PROCESSED};

/// How often an issue is looked at while another worker has it, where the worker itself looks less
/// often.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The two repositories.
pub(super) struct Bench<'a> {
    pub(super) settings: &'a Settings,
    pub(super) dispatch: RepositoryName,
    pub(super) target: RepositoryName,
}

impl Bench<'_> {
    /// Makes sure that both repositories can be seen, and gives the target's default branch.
    pub(super) fn check(&self) -> Result<String, CliError> {
        let wrong = |error: GitHubError| {
            if error.is_transient() {
                return issues::failure("GitHub cannot be asked", &error);
            }
            let wrong = CliError::usage(format!("GitHub cannot be used: {}", chain(&error)));
            match error.hint() {
                Some(hint) => wrong.hint(hint),
                None => wrong,
            }
        };
        self.ask(async |github| {
            github.repository(&self.dispatch).await.map_err(wrong)?;
            let target = github.repository(&self.target).await.map_err(wrong)?;
            Ok(target.default_branch)
        })
    }

    pub(super) fn open(&self, order: &Delegation) -> Result<Issue, CliError> {
        let handed =
            self.ask(async |github| issues::open(&github, self.settings, order, Id::New).await)?;
        Ok(handed.issue)
    }

    /// Waits until a worker has ended the work, at most `limit`, and no longer than one may take to
    /// notice it.
    pub(super) fn wait(
        &self,
        ordered: &Ordered,
        issue: &Issue,
        limit: Duration,
    ) -> Result<Work, CliError> {
        self.ask(async |github| {
            let mut shutdown = wiring::listen()?;
            let began = Instant::now();
            let pause = self.settings.dispatch.poll_interval.value;
            let pause = pause.min(LOOK_INTERVAL);
            let mut is_noticed = false;
            loop {
                let now = github.issue(&self.dispatch, issue.number).await;
                match now {
                    Err(error) if error.is_transient() => tracing::warn!("{}", chain(&error)),
                    Err(error) => return Err(issues::failure("GitHub cannot be asked", &error)),
                    Ok(now) => {
                        if now.has_label(PROCESSED) || now.has_label(FAILED) {
                            return Ok(Work::Over(None));
                        }
                        if !is_noticed && began.elapsed() > ordered.notice_limit {
                            let comments = github.comments(&self.dispatch, issue.number).await;
                            is_noticed = comments
                                .is_ok_and(|comments| noticed_after(&comments, issue).is_some());
                            if !is_noticed {
                                let reason = "none looks at these issues".to_owned();
                                return Ok(Work::Over(Some(reason)));
                            }
                        }
                    }
                }
                if began.elapsed() > limit {
                    let limit = duration::words(limit);
                    return Ok(Work::Over(Some(format!("it has not ended within {limit}"))));
                }
                tokio::select! {
                    () = sleep(pause) => {}
                    signal = shutdown.next() => return Ok(Work::Stopped(signal)),
                }
            }
        })
    }

    /// Lets a worker come round.
    pub(super) fn pause(&self, time: Duration) -> Result<Work, CliError> {
        self.ask(async |_| {
            let mut shutdown = wiring::listen()?;
            Ok(tokio::select! {
                () = sleep(time) => Work::Over(None),
                signal = shutdown.next() => Work::Stopped(signal),
            })
        })
    }

    /// What is to be seen now.
    pub(super) fn see(&self, ordered: &Ordered, issue: &Issue) -> Result<Seen, CliError> {
        self.ask(async |github| {
            let seen = self.look(&github, ordered, issue).await;
            seen.map_err(|error| issues::failure("GitHub cannot be asked", &error))
        })
    }

    async fn look(
        &self,
        github: &GitHub,
        ordered: &Ordered,
        issue: &Issue,
    ) -> Result<Seen, GitHubError> {
        let now = github.issue(&self.dispatch, issue.number).await?;
        let comments = github.comments(&self.dispatch, issue.number).await?;
        let mut pulls = Vec::new();
        for listed in github.newest_pulls(&self.target).await? {
            // A worker pushes to the target: what comes from a fork is somebody else's.
            if listed.head.repository != listed.base.repository {
                continue;
            }
            let (task, number) = (&ordered.task_id, &ordered.issue);
            let is_of_branch = listed.head.name == WorkName::first(task).branch();
            if is_of_branch || answers(&listed.body, &self.target, task, number) {
                pulls.push(SeenPull {
                    number: listed.number,
                    address: listed.html_url,
                    body: listed.body,
                    head: listed.head.name,
                    base: listed.base.name,
                });
            }
        }
        // The oldest first.
        pulls.reverse();
        let name = pulls.first().map(|pull| pull.head.clone());
        let name = name.unwrap_or_else(|| WorkName::first(&ordered.task_id).branch());
        let branch = github.branch(&self.target, &name).await?;
        let (mut trace, mut file) = (None, None);
        if branch.is_some() {
            let path = trace_path(&name);
            trace = github.file(&self.target, &name, &path).await?;
            file = github.file(&self.target, &name, &ordered.file).await?;
        }
        Ok(Seen {
            labels: now.labels,
            noticed_after: noticed_after(&comments, issue),
            comments: comments.into_iter().map(|comment| comment.body).collect(),
            pulls,
            branch: branch.map(|_| name),
            trace,
            file,
        })
    }

    /// Closes the issue, so that nobody works on it any more, and the pull requests; deletes the
    /// branches. Of these only what has a name of this task: anybody may name it in a pull request.
    pub(super) fn clean(&self, ordered: &Ordered, issue: &Issue) -> Criterion {
        const NAME: &str = "cleaned_up";
        let cleaned = self.ask(async |github| {
            let mut left = Vec::new();
            let mut note = |what: String, error: &GitHubError| {
                // What is gone is as it should be.
                if !matches!(error.fault(), Fault::NotFound { .. } | Fault::Gone { .. }) {
                    left.push(format!("{what} ({})", chain(error)));
                }
            };
            let closed = github.close_issue(&self.dispatch, issue.number).await;
            if let Err(error) = closed {
                note(format!("the issue {}", issue.html_url), &error);
            }
            let seen = match self.look(&github, ordered, issue).await {
                Ok(seen) => seen,
                Err(error) => {
                    left.push(format!("what else there may be ({})", chain(&error)));
                    return Ok(left);
                }
            };
            let own = WorkName::first(&ordered.task_id).branch();
            for pull in seen.pulls.iter().filter(|pull| pull.head.starts_with(&own)) {
                if let Err(error) = github.close_pull(&self.target, pull.number).await {
                    note(pull.address.clone(), &error);
                }
            }
            let heads = seen.pulls.iter().map(|pull| &pull.head);
            let branches: BTreeSet<&String> = heads.chain(&seen.branch).collect();
            for branch in branches.into_iter().filter(|name| name.starts_with(&own)) {
                if let Err(error) = github.delete_branch(&self.target, branch).await {
                    note(format!("the branch `{branch}`"), &error);
                }
            }
            Ok(left)
        });
        let left = match cleaned {
            Ok(left) => left.join("; "),
            Err(error) => error.brief(),
        };
        if left.is_empty() {
            return Criterion::met(
                NAME,
                "the issue and the pull request are closed, the branch is deleted",
            );
        }
        let fix = "close and delete by hand what is named";
        Criterion::failed(NAME, format!("left: {left}"), fix)
    }

    /// Asks with connections of its own: those of an earlier call ended with it.
    fn ask<T>(&self, what: impl AsyncFnOnce(GitHub) -> Result<T, CliError>) -> Result<T, CliError> {
        let credentials = dispatch::credentials(self.settings)?;
        wiring::block_on(async {
            let github =
                dispatch::github(self.settings, &wiring::layout(self.settings), credentials)?;
            what(github).await
        })?
    }
}

/// How long after the issue the first word of a worker came, by GitHub's own clock.
fn noticed_after(comments: &[Comment], issue: &Issue) -> Option<Duration> {
    let is_word = |comment: &&Comment| comment.body.starts_with(['🤖', '❌']);
    let first = comments.iter().find(is_word)?;
    Some(
        (first.created_at - issue.created_at)
            .to_std()
            .unwrap_or_default(),
    )
}
