//! Who is asked over the network: ntfy, GitHub, the queue. All at once, each for a bounded time.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use tokio::time::timeout;

use crate::checkup::facts::{self, Access, Notifications, Refusal, RemoteRepository};
use crate::cli::commands::dispatch;
use crate::cli::wiring::{self, SystemClock};
use crate::config::settings::Settings;
use crate::github::{self, Fault, GitHub, GitHubError, Grant};
use crate::model::clock::Clock as _;
use crate::model::duration;
use crate::model::message::{Message, Priority};
use crate::model::repository::RepositoryName;
use crate::model::text::{self, chain};
use crate::notify::Notifier as _;
use crate::queue::Queue;

/// The longest wait for anybody.
const LIMIT: Duration = Duration::from_secs(10);

/// What was heard.
pub(super) struct Heard {
    pub(super) notifications: Notifications,
    pub(super) github: Option<facts::GitHub>,
    pub(super) queue: Option<Result<(), String>>,
    pub(super) skews: Vec<(String, i64)>,
}

/// Asks all that are configured; publishes a notification only when that is asked for.
pub(super) async fn ask(settings: &Settings, publishes: bool) -> Heard {
    let ((notifications, ntfy_skew), (github, github_skew), queue) = tokio::join!(
        ask_ntfy(settings, publishes),
        ask_github(settings),
        ask_queue(settings),
    );
    let ntfy_skew = ntfy_skew.map(|skew| ("ntfy".to_owned(), skew));
    let github_skew = github_skew.map(|skew| ("GitHub".to_owned(), skew));
    Heard {
        notifications,
        github,
        queue,
        skews: ntfy_skew.into_iter().chain(github_skew).collect(),
    }
}

async fn ask_ntfy(settings: &Settings, publishes: bool) -> (Notifications, Option<i64>) {
    let mut told = Notifications {
        server: text::without_secrets(&settings.ntfy.server.value),
        ..Notifications::default()
    };
    let Some(ntfy) = wiring::notifier(settings) else {
        return (told, None);
    };
    let reached = ntfy.reach().await;
    let now = SystemClock.now();
    let skew = reached
        .as_ref()
        .ok()
        .and_then(|reached| Some((reached.date? - now).num_seconds()));
    told.token_end = reached.as_ref().ok().and_then(|reached| reached.token_end);
    let is_reached = reached.is_ok();
    told.may_publish = (reached.as_ref()).is_ok_and(|reached| reached.may_publish);
    told.reached = Some(reached.map(drop).map_err(|error| {
        let fix = "check the token or the password of [ntfy], and who may write to the topic";
        Refusal {
            why: chain(&error),
            fix: (!error.is_transient()).then(|| fix.to_owned()),
        }
    }));
    if publishes && is_reached {
        let message = Message {
            title: "[doctor] a test".to_owned(),
            body: "agent-runner doctor --probe: notifications arrive.".to_owned(),
            priority: Priority::Min,
            tags: vec!["stethoscope".to_owned()],
        };
        let published = ntfy.publish(&message).await;
        told.published = Some(published.map_err(|error| chain(&error)));
    }
    (told, skew)
}

async fn ask_queue(settings: &Settings) -> Option<Result<(), String>> {
    if settings.queue.url.is_none() && settings.dispatch.repo.is_none() {
        return None;
    }
    let url = match wiring::queue_url(settings, &wiring::layout(settings)) {
        Ok(url) => url,
        Err(error) => return Some(Err(error.brief())),
    };
    Some(match timeout(LIMIT, Queue::open(&url)).await {
        Ok(Ok(_queue)) => Ok(()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_elapsed) => Err(too_late()),
    })
}

fn too_late() -> String {
    format!("it does not answer within {}", duration::words(LIMIT))
}

async fn ask_github(settings: &Settings) -> (Option<facts::GitHub>, Option<i64>) {
    let dispatch_repository = settings.dispatch.repo.as_ref().map(|repo| &repo.value);
    if settings.github.credentials.is_none() && dispatch_repository.is_none() {
        return (None, None);
    }
    let mut told = facts::GitHub {
        login: Err(Refusal {
            why: too_late(),
            fix: Some("check the network and the proxy variables".to_owned()),
        }),
        rate: None,
        repositories: Vec::new(),
        label: None,
        grant: Grant::default(),
    };
    let client = match client(settings) {
        Ok(client) => client,
        Err(refusal) => {
            told.login = Err(refusal);
            return (Some(told), None);
        }
    };
    // What was heard until then counts.
    let asked = timeout(
        LIMIT,
        talk(settings, &client, dispatch_repository, &mut told),
    )
    .await;
    drop(asked);
    told.grant = client.grant();
    let status = client.status();
    let rate = status.rate.filter(|rate| rate.limit > 0);
    told.rate = rate.and_then(|rate| {
        let reset = DateTime::from_timestamp(rate.reset, 0)?;
        Some((rate.remaining, rate.limit, reset))
    });
    (
        Some(told),
        (status.requests > 0).then_some(status.skew_secs),
    )
}

fn client(settings: &Settings) -> Result<GitHub, Refusal> {
    let credentials = dispatch::credentials(settings).map_err(|error| Refusal {
        why: error.brief(),
        fix: None,
    })?;
    let api_url = settings.github.api_url.value.clone();
    let mut client = github::Settings::new(api_url, credentials, Arc::new(SystemClock));
    client.total_limit = LIMIT;
    GitHub::new(client).map_err(|error| refusal(&error))
}

fn refusal(error: &GitHubError) -> Refusal {
    Refusal {
        why: chain(error),
        fix: error.hint(),
    }
}

async fn talk(
    settings: &Settings,
    client: &GitHub,
    dispatch_repository: Option<&RepositoryName>,
    told: &mut facts::GitHub,
) {
    told.login = client.login().await.map_err(|error| refusal(&error));
    if told.login.is_err() {
        return;
    }
    let targets = settings.dispatch.targets.value.iter();
    // `owner/*` names no single one.
    let targets = targets.filter_map(|name| name.parse::<RepositoryName>().ok());
    let mut names: Vec<RepositoryName> = dispatch_repository.cloned().into_iter().collect();
    names.extend(targets.filter(|name| Some(name) != dispatch_repository));
    for name in names {
        let access = client.repository(&name).await;
        // What a fine-grained token may read is found out by reading; nothing is written to learn more.
        let mut refused = Vec::new();
        if access.is_ok() {
            refused.extend(client.newest_pulls(&name).await.err());
        }
        if access.is_ok() && Some(&name) == dispatch_repository {
            match client.labels(&name).await {
                Ok(labels) => {
                    let label = settings.dispatch.label.value.clone();
                    let is_there = labels
                        .iter()
                        .any(|known| known.eq_ignore_ascii_case(&label));
                    told.label = Some((label, is_there));
                }
                Err(error) => refused.push(error),
            }
        }
        refused.retain(|error| {
            matches!(
                error.fault(),
                Fault::Forbidden { .. } | Fault::NotFound { .. }
            )
        });
        told.repositories.push(RemoteRepository {
            name: name.to_string(),
            access: access.map_err(|error| refusal(&error)).map(|found| Access {
                can_write: found.permissions.map(|permissions| permissions.push),
                is_archived: found.archived,
                is_private: found.private,
                renamed_to: (found.full_name != name).then(|| found.full_name.to_string()),
            }),
            refused: refused.iter().map(refusal).collect(),
        });
    }
}
