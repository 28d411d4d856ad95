//! The client of GitHub's API against a stand-in that fails on purpose.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_runner::github::{
    App, Credentials, Fault as ClientFault, GitHub, GitHubError, NewIssue, NewPull, Permission,
    PullChange, Secret, Settings, State,
};
use agent_runner::model::clock::Clock;
use agent_runner::model::repository::RepositoryName;
use chrono::{DateTime, TimeDelta, Utc};

use crate::support::github::{Action, AppKeys, Fault, Host, git};

/// The machine's clock, some time ahead of it.
#[derive(Debug, Default)]
struct TestClock(Mutex<TimeDelta>);

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + *self.0.lock().unwrap()
    }
}

impl TestClock {
    fn advance(&self, by: TimeDelta) {
        *self.0.lock().unwrap() += by;
    }
}

/// A host with `octo/hello`, and `alice` who may write.
struct Place {
    host: Host,
    token: String,
    clock: Arc<TestClock>,
    repository: RepositoryName,
}

impl Place {
    fn new() -> Self {
        let host = Host::start();
        host.repository("octo/hello");
        Self {
            token: host.user("alice", Permission::Write),
            host,
            clock: Arc::default(),
            repository: "octo/hello".parse().unwrap(),
        }
    }

    /// Settings that wait for nothing.
    fn settings(&self) -> Settings {
        let token = Credentials::Token(Secret::new(&self.token));
        Settings {
            write_interval: Duration::ZERO,
            retry_delay: Duration::ZERO,
            ..Settings::new(self.host.url(), token, Arc::clone(&self.clock) as _)
        }
    }

    fn client(&self) -> GitHub {
        GitHub::new(self.settings()).unwrap()
    }

    /// A client that soon gives up.
    fn hasty_client(&self) -> GitHub {
        GitHub::new(Settings {
            total_limit: Duration::from_millis(300),
            ..self.settings()
        })
        .unwrap()
    }

    fn cached_client(&self, directory: &Path) -> GitHub {
        GitHub::new(Settings {
            cache: Some(directory.to_owned()),
            ..self.settings()
        })
        .unwrap()
    }

    fn app_client(&self, keys: &AppKeys, pem: &str, installation: Option<u64>) -> GitHub {
        let app = App::new(keys.id.to_string(), &Secret::new(pem), installation).unwrap();
        GitHub::new(Settings {
            credentials: Credentials::App(app),
            ..self.settings()
        })
        .unwrap()
    }

    fn issue(&self, title: &str, body: Option<&str>) -> u64 {
        let labels = &["copilot-agent"];
        self.host
            .open_issue("octo/hello", "alice", title, body, labels)
    }

    /// A branch with a commit that `main` lacks.
    fn branch(&self, name: &str) {
        let bare = self.host.bare("octo/hello");
        git::commit(&bare, name, "new.txt", "new\n", "a commit");
    }
}

fn run<T>(future: impl Future<Output = T> + Send) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// The error with all its causes.
fn chain(error: &GitHubError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn every_endpoint_says_and_does_what_its_name_tells() {
    let place = Place::new();
    let (client, repository) = (place.client(), &place.repository);
    let first = place.issue("first", Some("do it\r\n"));
    let second = place.issue("second", None);
    place
        .host
        .open_issue("octo/hello", "bob", "without a label", None, &[]);
    place.branch("work");
    run(async {
        assert_eq!(client.login().await.unwrap(), "alice");
        let told = client.repository(repository).await.unwrap();
        assert_eq!(told.full_name, *repository);
        assert_eq!(told.default_branch, "main");
        assert!(told.permissions.unwrap().push && !told.private && !told.archived);

        let issues = client.issues(repository, "copilot-agent").await.unwrap();
        let seen: Vec<_> = issues.iter().map(|i| (i.number, i.body.as_str())).collect();
        assert_eq!(seen, [(first, "do it\r\n"), (second, "")]);
        assert_eq!(issues[0].author.as_ref().unwrap().login, "alice");
        assert_eq!(issues[0].repository, *repository);

        let comment = client
            .create_comment(repository, first, "hello")
            .await
            .unwrap();
        client
            .edit_comment(repository, comment.id, "hello again")
            .await
            .unwrap();
        let comments = client.comments(repository, first).await.unwrap();
        assert_eq!(comments.len(), 1);
        assert_eq!(comments[0].body, "hello again");

        client
            .add_labels(repository, first, &["processed"])
            .await
            .unwrap();
        client
            .remove_label(repository, first, "copilot-agent")
            .await
            .unwrap();
        client
            .remove_label(repository, first, "copilot-agent")
            .await
            .unwrap();
        assert_eq!(
            client.issue(repository, first).await.unwrap().labels,
            ["processed"]
        );

        for (login, permission) in [
            ("alice", Permission::Write),
            ("octo", Permission::Admin),
            ("bob", Permission::Read),
            ("nobody-at-all", Permission::None),
        ] {
            assert_eq!(
                client.permission(repository, login).await.unwrap(),
                permission,
                "{login}"
            );
        }

        let new = NewPull {
            title: "a title",
            head: "work",
            base: "main",
            body: "a body",
        };
        let pull = client.create_pull(repository, &new).await.unwrap();
        assert_eq!((pull.head.name.as_str(), pull.state), ("work", State::Open));
        let again = client.create_pull(repository, &new).await.unwrap_err();
        assert!(
            again.is_already_exists() && !again.is_ambiguous(),
            "{}",
            chain(&again)
        );
        let change = PullChange {
            body: Some("another body"),
            ..PullChange::default()
        };
        let changed = client
            .update_pull(repository, pull.number, &change)
            .await
            .unwrap();
        assert_eq!(
            (changed.title.as_str(), changed.body.as_str()),
            ("a title", "another body")
        );
        let pulls = client.pulls(repository, "work").await.unwrap();
        assert_eq!(pulls.len(), 1);
        assert_eq!(pulls[0].head.repository.as_ref(), Some(repository));
        assert!(client.pulls(repository, "other").await.unwrap().is_empty());
        assert_eq!(client.newest_pulls(repository).await.unwrap().len(), 1);

        place.host.merge("octo/hello", pull.number);
        let merged = client.pull(repository, pull.number).await.unwrap();
        assert!(merged.merged_at.is_some() && merged.state == State::Closed);
        let empty = client.create_pull(repository, &new).await.unwrap_err();
        assert!(empty.no_commits_between(), "{}", chain(&empty));

        client.delete_branch(repository, "work").await.unwrap();
        client.delete_branch(repository, "work").await.unwrap();

        let made = NewIssue {
            title: "made",
            body: "by us",
            labels: &["copilot-agent", "x"],
        };
        let made = client.create_issue(repository, &made).await.unwrap();
        assert_eq!(made.labels, ["copilot-agent", "x"]);
        let closed = client.close_issue(repository, made.number).await.unwrap();
        assert_eq!(closed.state, State::Closed);
        let all = client
            .issues_of_any_state(repository, "copilot-agent")
            .await
            .unwrap();
        assert!(all.iter().any(|issue| issue.number == made.number));

        let limit = client.rate_limit(repository).await.unwrap();
        assert_eq!(Some(limit), client.status().rate);
        assert_eq!(
            client.git_token(repository).await.unwrap().expose(),
            place.token
        );
    });
    for seen in place.host.history() {
        let header = |name: &str| {
            let mut headers = seen.headers.iter();
            headers
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(header("accept"), Some("application/vnd.github+json"));
        assert_eq!(header("x-github-api-version"), Some("2022-11-28"));
        assert_eq!(
            header("user-agent"),
            Some(concat!("agent-runner/", env!("CARGO_PKG_VERSION")))
        );
        assert_eq!(
            header("authorization"),
            Some(format!("Bearer {}", place.token).as_str())
        );
    }
}
