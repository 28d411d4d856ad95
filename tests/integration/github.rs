//! The client of GitHub's API against a stand-in that fails on purpose.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_runner::github::{
    App, Credentials, Fault as ClientFault, GitHub, GitHubError, NewIssue, NewPull, Permission,
    Settings, State,
};
use agent_runner::model::clock::Clock;
use agent_runner::model::repository::RepositoryName;
use agent_runner::model::secret::Secret;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

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
            total_limit: Duration::from_secs(3),
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
        assert_eq!(
            client.issue(repository, first).await.unwrap().labels,
            ["copilot-agent", "processed"]
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
        let pulls = client.pulls(repository, "work").await.unwrap();
        assert_eq!(pulls.len(), 1);
        assert_eq!(pulls[0].head.repository.as_ref(), Some(repository));
        assert!(client.pulls(repository, "other").await.unwrap().is_empty());
        assert_eq!(client.newest_pulls(repository).await.unwrap().len(), 1);

        place.host.merge("octo/hello", pull.number);
        let merged = &client.pulls(repository, "work").await.unwrap()[0];
        assert!(merged.merged_at.is_some() && merged.state == State::Closed);
        let empty = client.create_pull(repository, &new).await.unwrap_err();
        assert!(chain(&empty).contains("No commits between"));

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

/// The writes, each by its request and a call.
const WRITES: [(&str, &str); 7] = [
    ("POST", "/repos/octo/hello/issues/*/comments"),
    ("PATCH", "/repos/octo/hello/issues/comments/*"),
    ("POST", "/repos/octo/hello/issues/*/labels"),
    ("POST", "/repos/octo/hello/pulls"),
    ("PATCH", "/repos/octo/hello/pulls/*"),
    ("POST", "/repos/octo/hello/issues"),
    ("DELETE", "/repos/octo/hello/git/refs/*"),
];

/// A place where each of [`WRITES`] can be done once.
fn place_for_writes() -> (Place, u64, u64, u64) {
    let place = Place::new();
    let issue = place.issue("an issue", None);
    let comment = place
        .host
        .comment("octo/hello", issue, "alice", "a comment");
    place.branch("offered");
    place.branch("work");
    let new = NewPull {
        title: "offered",
        head: "offered",
        base: "main",
        body: "",
    };
    let pull = run(place.client().create_pull(&place.repository, &new)).unwrap();
    place.host.clear_history();
    (place, issue, comment, pull.number)
}

async fn write(
    client: &GitHub,
    repository: &RepositoryName,
    path: &str,
    method: &str,
    (issue, comment, pull): (u64, u64, u64),
) -> Result<(), GitHubError> {
    let end = path.rsplit('/').find(|part| *part != "*").unwrap();
    match (method, end) {
        ("POST", "comments") => client
            .create_comment(repository, issue, "x")
            .await
            .map(drop),
        ("PATCH", "comments") => client
            .edit_comment(repository, comment, "x")
            .await
            .map(drop),
        ("POST", "labels") => client.add_labels(repository, issue, &["x"]).await,
        ("POST", "pulls") => {
            let new = NewPull {
                title: "x",
                head: "work",
                base: "main",
                body: "",
            };
            client.create_pull(repository, &new).await.map(drop)
        }
        ("PATCH", "pulls") => client.close_pull(repository, pull).await.map(drop),
        ("POST", "issues") => {
            let new = NewIssue {
                title: "x",
                body: "",
                labels: &[],
            };
            client.create_issue(repository, &new).await.map(drop)
        }
        ("DELETE", "refs") => client.delete_branch(repository, "work").await,
        other => panic!("{other:?}"),
    }
}

fn answer(status: u16, headers: &[(&'static str, &str)], message: &str) -> Action {
    let headers = headers
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    let body = serde_json::json!({ "message": message }).to_string();
    Action::Answer(status, headers, body)
}

#[test]
fn a_write_is_sent_once_whatever_is_answered_and_says_whether_to_look_first() {
    /// What is planned, and whether the write may have happened, and whether it may work later.
    type Row = (&'static str, bool, Action, bool, bool);
    let rows: Vec<Row> = vec![
        ("500 before", false, Action::Status(500), true, true),
        ("502 after", true, Action::Status(502), true, true),
        ("reset before", false, Action::Reset, true, true),
        ("reset after", true, Action::Reset, true, true),
        ("hang after", true, Action::Hang, true, true),
        ("drip", false, Action::Drip, true, true),
        ("html", false, Action::Html, true, true),
        ("truncated after", true, Action::Truncated, true, true),
        (
            "429",
            false,
            answer(429, &[("retry-after", "5")], "slow down"),
            false,
            true,
        ),
        (
            "secondary",
            false,
            answer(403, &[], "You have exceeded a secondary rate limit"),
            false,
            true,
        ),
        (
            "401",
            false,
            answer(401, &[], "Bad credentials"),
            false,
            false,
        ),
        (
            "403",
            false,
            answer(403, &[], "Resource not accessible"),
            false,
            false,
        ),
        ("409", false, answer(409, &[], "Conflict"), false, false),
    ];
    for (name, after, action, is_ambiguous, is_transient) in rows {
        let (place, issue, comment, pull) = place_for_writes();
        let each = |(method, path): (&str, &str)| {
            // A client of its own: a limit would stop the next one.
            let client = match action {
                Action::Hang | Action::Drip => place.hasty_client(),
                _ => place.client(),
            };
            let fault = Fault::on(method, path).nth(1);
            let action = action.clone();
            place.host.fault(if after {
                fault.after(action)
            } else {
                fault.before(action)
            });
            let numbers = (issue, comment, pull);
            let written = run(write(&client, &place.repository, path, method, numbers));
            let error = written.expect_err(&format!("{name}: {method} {path}"));
            let told = format!(
                "{name}: {method} {path}: {} {error:?} {client:?}",
                chain(&error)
            );
            assert_eq!(error.is_ambiguous(), is_ambiguous, "{told}");
            assert_eq!(error.is_transient(), is_transient, "{told}");
            assert!(!told.contains(&place.token), "{told}");
        };
        std::thread::scope(|scope| {
            for write in WRITES {
                let each = &each;
                scope.spawn(move || each(write));
            }
        });
        let writes = place.host.writes();
        assert_eq!(writes.len(), WRITES.len(), "{name}: {writes:#?}");
        let happened = place.host.comments("octo/hello", issue).len() == 2;
        assert_eq!(happened, after, "{name}");
    }
}

#[test]
fn a_read_is_repeated_when_it_fails_in_passing_and_not_for_ever() {
    let place = Place::new();
    let number = place.issue("an issue", None);
    let path = "/repos/*/*/issues/*";
    let read = |client: &GitHub| run(client.issue(&place.repository, number));
    for action in [
        Action::Status(500),
        Action::Status(503),
        Action::Reset,
        Action::Html,
        Action::Truncated,
        Action::Huge(49 << 20),
    ] {
        let name = format!("{action:?}");
        place.host.clear_history();
        place
            .host
            .fault(Fault::on("GET", path).nth(1).before(action.clone()));
        place
            .host
            .fault(Fault::on("GET", path).nth(2).before(action.clone()));
        read(&place.client()).unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        assert_eq!(place.host.history().len(), 3, "{name}");
        place.host.clear_faults();
        place.host.clear_history();

        place.host.fault(Fault::on("GET", path).before(action));
        let error = read(&place.client()).unwrap_err();
        assert!(
            error.is_transient() && !error.is_ambiguous(),
            "{}",
            chain(&error)
        );
        assert_eq!(place.host.history().len(), 3, "{name}");
        place.host.clear_faults();
    }
    for action in [Action::Hang, Action::Drip] {
        place
            .host
            .fault(Fault::on("GET", path).nth(1).before(action));
        read(&place.hasty_client()).unwrap();
        place.host.clear_faults();
    }
}

#[test]
fn a_limit_that_another_process_meets_holds_at_once() {
    let place = Place::new();
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| {
        let mut settings = place.settings();
        settings.cache = Some(directory.path().to_owned());
        GitHub::new(settings).unwrap()
    });
    run(other.issues(&place.repository, "copilot-agent")).unwrap();
    let limit = Action::Answer(429, vec![("retry-after", "60".to_owned())], String::new());
    place
        .host
        .fault(Fault::on("GET", "/repos/*/*/issues").before(limit));
    run(one.issues(&place.repository, "copilot-agent")).unwrap_err();
    let before = place.host.history().len();
    let error = run(other.issues(&place.repository, "copilot-agent")).unwrap_err();
    assert!(
        matches!(error.fault(), ClientFault::Limited { .. }),
        "{error:?}"
    );
    assert!(other.status().limited_until.is_some());
    assert_eq!(place.host.history().len(), before);
}

#[test]
fn no_request_is_sent_while_a_rate_limit_lasts_and_all_clones_share_it() {
    for (action, seconds) in [
        (answer(429, &[("retry-after", "120")], "slow down"), 120),
        (
            answer(403, &[("retry-after", "30")], "secondary rate limit"),
            30,
        ),
        (
            answer(403, &[], "You have exceeded a secondary rate limit"),
            60,
        ),
    ] {
        let place = Place::new();
        let number = place.issue("an issue", None);
        let client = place.client();
        place.host.fault(
            Fault::on("GET", "/repos/*/*/issues/*")
                .nth(1)
                .before(action),
        );
        let error = run(client.issue(&place.repository, number)).unwrap_err();
        let wait = error.retry_at().unwrap() - place.clock.now();
        assert!(
            (seconds - 5..=seconds).contains(&wait.num_seconds()),
            "{wait}"
        );
        assert_eq!(client.status().limited_until, error.retry_at());

        let clone = client.clone();
        let sent = place.host.history().len();
        place.clock.advance(TimeDelta::seconds(seconds - 10));
        assert!(run(clone.login()).unwrap_err().retry_at().is_some());
        let refused = run(clone.create_comment(&place.repository, number, "x")).unwrap_err();
        assert!(refused.retry_at().is_some() && !refused.is_ambiguous());
        assert_eq!(place.host.history().len(), sent, "nothing was sent");
        assert!(
            chain(&refused).contains("rate limit allows the next request at 20"),
            "{}",
            chain(&refused)
        );

        place.clock.advance(TimeDelta::seconds(11));
        run(clone.create_comment(&place.repository, number, "x")).unwrap();
    }
}

/// What GitHub says of GraphQL's own limit, with the status of a success; something may be left.
fn graphql_limit(place: &Place, kind: &str, left: u32, message: &str) -> Action {
    let reset = place.clock.now() + TimeDelta::seconds(1800);
    let body = json!({"errors": [{"type": kind, "message": message}]});
    let headers = [
        ("x-ratelimit-limit", "5000".to_owned()),
        ("x-ratelimit-remaining", left.to_string()),
        ("x-ratelimit-reset", reset.timestamp().to_string()),
        ("x-ratelimit-resource", "graphql".to_owned()),
    ];
    Action::Answer(200, headers.into(), body.to_string())
}

#[test]
fn the_rate_limit_of_graphql_is_one_although_its_status_is_that_of_a_success() {
    for (kind, left) in [("RATE_LIMITED", 0), ("RATE_LIMIT", 4)] {
        let place = Place::new();
        place.host.offer_agent("octo/hello");
        let directory = tempfile::tempdir().unwrap();
        let client = place.cached_client(directory.path());
        let words = "API rate limit exceeded for user ID 1.";
        let limit = graphql_limit(&place, kind, left, words);
        place
            .host
            .fault(Fault::on("POST", "/graphql").nth(1).before(limit));
        let error = run(client.coding_agent(&place.repository)).unwrap_err();
        let wait = error.retry_at().expect("a limit") - place.clock.now();
        assert!((1795..=1800).contains(&wait.num_seconds()), "{wait}");
        assert!(error.is_transient() && !error.is_ambiguous());

        // Nobody asks before the reset, and the REST API is counted apart.
        let sent = place.host.history().len();
        for one in [client.clone(), place.cached_client(directory.path())] {
            let again = run(one.coding_agent(&place.repository)).unwrap_err();
            assert!(again.retry_at().is_some(), "{}", chain(&again));
        }
        assert_eq!(place.host.history().len(), sent);
        run(client.login()).unwrap();
        assert_eq!(client.status().limited_until, None);

        place.clock.advance(TimeDelta::seconds(1801));
        let agent = run(client.coding_agent(&place.repository));
        assert!(agent.unwrap().is_some());
    }
}

#[test]
fn a_secondary_limit_that_graphql_tells_stops_every_request() {
    let words = "You have exceeded a secondary rate limit. Please wait.";
    let said = |body: Value| Action::Answer(200, Vec::new(), body.to_string());
    for (action, seconds) in [
        (answer(403, &[("retry-after", "30")], words), 30),
        (answer(429, &[("retry-after", "90")], ""), 90),
        (answer(200, &[("retry-after", "45")], words), 45),
        (said(json!({"errors": [{"message": words}]})), 60),
    ] {
        let place = Place::new();
        place.host.offer_agent("octo/hello");
        let client = place.client();
        let asked = Fault::on("POST", "/graphql").nth(1).before(action);
        place.host.fault(asked);
        let error = run(client.coding_agent(&place.repository)).unwrap_err();
        let wait = error.retry_at().expect("a limit") - place.clock.now();
        assert!(
            (seconds - 5..=seconds).contains(&wait.num_seconds()),
            "{wait}"
        );
        assert_eq!(client.status().limited_until, error.retry_at());
        assert!(run(client.login()).unwrap_err().retry_at().is_some());
    }
}

#[test]
fn the_last_request_of_the_hour_is_the_last_one_sent() {
    let place = Place::new();
    // The host's clock is wrong by a day: only differences of its own times count.
    place.host.set_skew(TimeDelta::days(1));
    place
        .host
        .set_remaining("alice", 2, Duration::from_secs(600));
    let client = place.client();
    run(client.login()).unwrap();
    run(client.login()).unwrap();
    let error = run(client.login()).unwrap_err();
    assert_eq!(place.host.history().len(), 2);
    let wait = error.retry_at().unwrap() - place.clock.now();
    assert!((590..=600).contains(&wait.num_seconds()), "{wait}");

    // Another client, which does not know, is told.
    let other = place.client();
    assert!(run(other.login()).unwrap_err().retry_at().is_some());
    assert!(run(other.login()).unwrap_err().retry_at().is_some());
    assert_eq!(place.host.history().len(), 3);
}

#[test]
fn writes_keep_their_distance_and_reads_do_not_wait() {
    let place = Place::new();
    let number = place.issue("an issue", None);
    let repository = &place.repository;
    let client = |write_interval: Duration| {
        GitHub::new(Settings {
            write_interval,
            ..place.settings()
        })
        .unwrap()
    };
    let interval = Duration::from_millis(300);
    let paced = client(interval);
    let write = |text: &'static str| {
        let client = paced.clone();
        async move {
            client
                .create_comment(repository, number, text)
                .await
                .unwrap()
        }
    };
    run(async { tokio::join!(write("1"), write("2"), write("3")) });
    let writes = place.host.writes();
    assert_eq!(writes.len(), 3);
    for pair in writes.windows(2) {
        let distance = pair[1].at - pair[0].at;
        assert!(distance >= interval, "{distance:?}");
    }

    let slow = client(Duration::from_secs(3600));
    run(async {
        slow.create_comment(repository, number, "4").await.unwrap();
        tokio::select! {
            _ = slow.create_comment(repository, number, "5") => panic!("an hour has not passed"),
            login = slow.login() => assert_eq!(login.unwrap(), "alice"),
        }
    });
}

#[test]
fn a_poll_that_finds_nothing_new_costs_nothing_also_in_the_next_process() {
    let place = Place::new();
    for number in 0..150 {
        place.issue(&format!("issue {number}"), Some("body"));
    }
    let cache = tempfile::tempdir().unwrap();
    let poll = |client: &GitHub| run(client.issues(&place.repository, "copilot-agent")).unwrap();
    let first = place.cached_client(cache.path());
    assert_eq!(poll(&first).len(), 150);
    let left = place.host.remaining("alice");
    assert_eq!(poll(&first).len(), 150);
    // As a new process has it.
    let second = place.cached_client(cache.path());
    let again = poll(&second);
    assert_eq!(again.last().unwrap().title, "issue 149");
    assert_eq!(place.host.remaining("alice"), left);
    let status = second.status();
    assert_eq!((status.requests, status.not_modified), (2, 2));

    // Something new is seen at once, and only its page costs.
    place.issue("new", None);
    assert_eq!(poll(&second).len(), 151);
    assert_eq!(place.host.remaining("alice"), left - 1);

    // Another caller is not shown what this one was.
    let mut settings = place.settings();
    settings.credentials =
        Credentials::Token(Secret::new(place.host.user("bob", Permission::Read)));
    settings.cache = Some(cache.path().to_owned());
    let other = GitHub::new(settings).unwrap();
    assert_eq!(poll(&other).len(), 151);
    assert_eq!(other.status().not_modified, 0);

    // Damaged files cost a request and nothing else.
    for entry in std::fs::read_dir(cache.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(&place.token));
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(poll(&place.cached_client(cache.path())).len(), 151);
    // Nor does a directory that cannot be written.
    std::fs::remove_dir_all(cache.path()).unwrap();
    std::fs::write(cache.path(), "").unwrap();
    assert_eq!(poll(&second).len(), 151);
    std::fs::remove_file(cache.path()).unwrap();
    std::fs::create_dir(cache.path()).unwrap();
}

#[test]
fn pages_are_followed_on_the_same_origin_only() {
    let place = Place::new();
    let stranger = Host::start();
    for to in [
        format!("{}/repos/octo/hello/issues?page=2", stranger.url()),
        "https://example.invalid/repos/octo/hello/issues?page=2".to_owned(),
        "file:///etc/passwd".to_owned(),
        format!(
            "http://user:pass@{}/x",
            place.host.url().trim_start_matches("http://")
        ),
    ] {
        let link = format!("<{to}>; rel=\"next\"");
        let page = Action::Answer(200, vec![("link", link)], "[]".to_owned());
        place.host.clear_faults();
        place
            .host
            .fault(Fault::on("GET", "/repos/*/*/issues").before(page));
        let error = run(place.client().issues(&place.repository, "x")).unwrap_err();
        assert!(
            matches!(error.fault(), ClientFault::Unreadable(_)),
            "{}",
            chain(&error)
        );
    }
    // A list that never ends is given up.
    let link = format!(
        "<{}/repos/octo/hello/issues?page=2>; rel=\"next\"",
        place.host.url()
    );
    let page = Action::Answer(200, vec![("link", link)], "[]".to_owned());
    place.host.clear_faults();
    place
        .host
        .fault(Fault::on("GET", "/repos/*/*/issues").before(page));
    let error = run(place.client().issues(&place.repository, "x")).unwrap_err();
    assert!(
        chain(&error).contains("more than 100 pages"),
        "{}",
        chain(&error)
    );
    assert!(stranger.history().is_empty());
}

#[test]
fn a_renamed_repository_is_read_under_its_new_name_and_never_written_under_the_old_one() {
    let place = Place::new();
    let number = place.issue("an issue", None);
    place.host.rename("octo/hello", "octo/renamed");
    let client = place.client();
    let told = run(client.repository(&place.repository)).unwrap();
    assert_eq!(told.full_name.as_str(), "octo/renamed");
    let issues = run(client.issues(&place.repository, "copilot-agent")).unwrap();
    assert_eq!(issues[0].repository.as_str(), "octo/renamed");
    let error = run(client.create_comment(&place.repository, number, "x")).unwrap_err();
    assert!(matches!(
        error.fault(),
        ClientFault::Moved { same_api: true, .. }
    ));
    assert!(!error.is_ambiguous() && !error.is_transient());
    assert!(place.host.comments("octo/renamed", number).is_empty());

    // To another host nothing goes at all, least of all the token.
    let stranger = Host::start();
    let location = vec![("location", format!("{}/user", stranger.url()))];
    place
        .host
        .fault(Fault::on("GET", "/user").before(Action::Answer(302, location, String::new())));
    let error = run(client.login()).unwrap_err();
    assert!(
        matches!(
            error.fault(),
            ClientFault::Moved {
                same_api: false,
                ..
            }
        ),
        "{}",
        chain(&error)
    );
    assert!(error.is_transient());
    assert!(stranger.history().is_empty());
}

#[test]
fn what_happens_to_an_issue_meanwhile_is_told_apart() {
    let place = Place::new();
    place.host.repository("octo/other");
    let client = place.client();
    let (moved, deleted, locked) = (
        place.issue("1", None),
        place.issue("2", None),
        place.issue("3", None),
    );
    place.host.transfer_issue("octo/hello", moved, "octo/other");
    place.host.delete_issue("octo/hello", deleted);
    place
        .host
        .change_issue("octo/hello", locked, Some("edited"), true);
    let told = run(client.issue(&place.repository, moved)).unwrap();
    assert_eq!(told.repository.as_str(), "octo/other");
    let error = run(client.issue(&place.repository, deleted)).unwrap_err();
    assert!(matches!(error.fault(), ClientFault::Gone { .. }) && error.is_not_found());
    let told = run(client.issue(&place.repository, locked)).unwrap();
    assert_eq!(told.body, "edited");
    let error = run(client.issue(&place.repository, 99)).unwrap_err();
    assert!(error.is_not_found());
    insta::assert_snapshot!(chain(&error), @"cannot read `octo/hello#99`: it does not exist or these credentials cannot see it (404): Not Found");

    // Pull requests are among the issues of GitHub, and not among ours.
    place.branch("work");
    let new = NewPull {
        title: "x",
        head: "work",
        base: "main",
        body: "",
    };
    let pull = run(client.create_pull(&place.repository, &new)).unwrap();
    place
        .host
        .label("octo/hello", pull.number, "copilot-agent", "alice");
    let issues = run(client.issues(&place.repository, "copilot-agent")).unwrap();
    assert_eq!(
        issues.iter().map(|issue| issue.number).collect::<Vec<_>>(),
        [locked]
    );
}

#[test]
fn wrong_types_are_an_error_and_unknown_fields_are_none() {
    let place = Place::new();
    let number = place.issue("an issue", None);
    let good = place.host.issue("octo/hello", number);
    let mut grown = good.clone();
    grown["something_new"] = serde_json::json!({"a": [1]});
    grown["user"] = serde_json::Value::Null;
    let wrong = |field: &str, value: serde_json::Value| {
        let mut issue = good.clone();
        issue[field] = value;
        issue
    };
    let cases = [
        (grown, true),
        (wrong("number", serde_json::json!("7")), false),
        (wrong("title", serde_json::json!(null)), false),
        (wrong("labels", serde_json::json!({})), false),
        (wrong("state", serde_json::json!("ajar")), false),
        (wrong("created_at", serde_json::json!("yesterday")), false),
        (
            wrong("repository_url", serde_json::json!("https://h/repos/../..")),
            false,
        ),
        (serde_json::json!([]), false),
    ];
    for (body, is_good) in cases {
        place.host.clear_faults();
        let answer = Action::Answer(200, Vec::new(), body.to_string());
        place
            .host
            .fault(Fault::on("GET", "/repos/*/*/issues/*").before(answer));
        match run(place.client().issue(&place.repository, number)) {
            Ok(issue) => assert!(is_good && issue.author.is_none(), "{body}"),
            Err(error) => {
                assert!(!is_good, "{}", chain(&error));
                assert!(matches!(error.fault(), ClientFault::Unreadable(_)));
            }
        }
    }
}

#[test]
fn missing_permissions_and_revoked_tokens_are_told_with_what_would_be_sufficient() {
    let place = Place::new();
    let number = place.issue("an issue", None);
    place.host.permit("octo/hello", "alice", Permission::Read);
    let client = place.client();
    let error = run(client.add_labels(&place.repository, number, &["x"])).unwrap_err();
    insta::assert_snapshot!(chain(&error), @"cannot label `octo/hello#1`: GitHub forbids it (403): Resource not accessible by personal access token; sufficient is: issues=write");
    insta::assert_snapshot!(error.hint().unwrap(), @"give the token that permission");

    place.host.set_private("octo/hello");
    place.host.permit("octo/hello", "alice", Permission::None);
    assert!(
        run(client.repository(&place.repository))
            .unwrap_err()
            .is_not_found()
    );

    place.host.permit("octo/hello", "alice", Permission::Write);
    place.host.set_archived("octo/hello", true);
    assert!(run(client.repository(&place.repository)).unwrap().archived);
    let error = run(client.create_comment(&place.repository, number, "x")).unwrap_err();
    assert!(chain(&error).contains("archived"), "{}", chain(&error));

    place.host.revoke(&place.token);
    let error = run(client.login()).unwrap_err();
    assert!(error.is_bad_credentials() && !error.is_transient());
    insta::assert_snapshot!(chain(&error), @"cannot tell who the credentials are of: GitHub does not accept the credentials (401): Bad credentials");
}

#[test]
fn an_app_acts_as_its_bot_with_one_token_that_is_renewed_in_time() {
    let place = Place::new();
    let number = place.issue("an issue", None);
    let keys = place.host.app("runner", Duration::from_secs(3600));
    for (pem, installation) in [
        (&keys.pkcs1, None),
        (&keys.pkcs8, None),
        (&keys.pkcs1, Some(keys.installation)),
    ] {
        let before = place.host.minted();
        let client = place.app_client(&keys, pem, installation);
        run(async {
            assert_eq!(client.login().await.unwrap(), "runner[bot]");
            let repository = &place.repository;
            let (a, b) = tokio::join!(
                client.create_comment(repository, number, "by the app"),
                client.repository(repository),
            );
            assert_eq!(a.unwrap().author.unwrap().login, "runner[bot]");
            b.unwrap();
            let token = client.git_token(repository).await.unwrap();
            assert!(token.expose().starts_with("ghs_"));
            let shown = format!("{client:?} {token:?}");
            assert!(
                !shown.contains("ghs_") && !shown.contains("PRIVATE"),
                "{shown}"
            );
        });
        assert_eq!(place.host.minted() - before, 1, "one token for all");
    }

    // Fifty-five minutes later, by both clocks, the old token would not outlive a push.
    let client = place.app_client(&keys, &keys.pkcs1, None);
    let old = run(client.git_token(&place.repository)).unwrap();
    let later = TimeDelta::minutes(55);
    place.host.set_skew(later);
    place.clock.advance(later);
    assert_ne!(run(client.git_token(&place.repository)).unwrap(), old);

    // After a revocation a call is repeated with a new token.
    run(client.issue(&place.repository, number)).unwrap();
    place.host.revoke_installations();
    run(client.issue(&place.repository, number)).unwrap();
    place.host.revoke_installations();
    run(client.create_comment(&place.repository, number, "x")).unwrap();
    let comments = run(client.comments(&place.repository, number)).unwrap();
    let written = comments.iter().filter(|comment| comment.body == "x");
    assert_eq!(written.count(), 1);
}

#[test]
fn a_clock_that_is_wrong_by_hours_does_not_keep_an_app_out() {
    for skew in [TimeDelta::hours(3), TimeDelta::hours(-3)] {
        let place = Place::new();
        let keys = place.host.app("runner", Duration::from_secs(3600));
        place.host.set_skew(skew);
        let client = place.app_client(&keys, &keys.pkcs8, None);
        run(client.repository(&place.repository)).unwrap();
        run(client.repository(&place.repository)).unwrap();
        assert_eq!(place.host.minted(), 1);
    }
}

#[test]
fn what_goes_wrong_when_an_app_gets_its_token_is_told_apart() {
    let place = Place::new();
    let number = place.issue("an issue", None);
    let keys = place.host.app("runner", Duration::from_secs(3600));
    let minting = || Fault::on("POST", "/app/installations/*/access_tokens");
    let answer = |status: u16, headers: Vec<(&'static str, String)>, message: &str| {
        Action::Answer(status, headers, format!("{{\"message\": \"{message}\"}}"))
    };
    let read = |client: &GitHub| run(client.issue(&place.repository, number));
    let client = || place.app_client(&keys, &keys.pkcs1, None);

    // It passes.
    for nth in 1..3 {
        place
            .host
            .fault(minting().nth(nth).before(Action::Status(502)));
    }
    read(&client()).unwrap();
    // It does not pass soon: later, and no word of credentials.
    place.host.clear_faults();
    place.host.fault(minting().before(Action::Status(503)));
    let error = read(&client()).unwrap_err();
    assert!(
        error.is_transient() && !error.is_bad_credentials(),
        "{error:?}"
    );
    // A comment that was never sent is nowhere to be found.
    let error = run(client().create_comment(&place.repository, number, "x")).unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    // The key was deleted or has expired: nothing will help but a person.
    place.host.clear_faults();
    let refusal = answer(401, Vec::new(), "A JSON web token could not be decoded");
    place.host.fault(minting().before(refusal));
    let before = place.host.history().len();
    let error = read(&client()).unwrap_err();
    assert!(error.is_bad_credentials(), "{error:?}");
    assert!(error.hint().unwrap().contains("the app's id and key"));
    // One look for the installation, one try: what is refused is not repeated.
    assert_eq!(place.host.history().len() - before, 2);
    // The installation was suspended by its owner.
    place.host.clear_faults();
    let refusal = answer(403, Vec::new(), "This installation has been suspended");
    place.host.fault(minting().before(refusal));
    let error = read(&client()).unwrap_err();
    assert!(
        matches!(error.fault(), ClientFault::Forbidden { .. }),
        "{error:?}"
    );
    assert!(error.fault().to_string().contains("suspended"));
    // Too many tokens were asked for.
    place.host.clear_faults();
    let limit = answer(429, vec![("retry-after", "60".to_owned())], "slow down");
    place.host.fault(minting().before(limit));
    let limited = client();
    assert!(read(&limited).unwrap_err().retry_at().is_some());
    let before = place.host.history().len();
    assert!(read(&limited).unwrap_err().retry_at().is_some());
    assert_eq!(place.host.history().len(), before);
    // The key is whole again.
    place.host.clear_faults();
    read(&client()).unwrap();
    assert_eq!(place.host.comments("octo/hello", number), []);
}

#[test]
fn credentials_and_addresses_that_cannot_work_are_refused_before_anything_is_sent() {
    let place = Place::new();
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = place.settings();
        change(&mut settings);
        chain(&GitHub::new(settings).unwrap_err())
    };
    for token in ["", " ", "secret\nvalue", "secret\0"] {
        let text = refused(&|settings: &mut Settings| {
            settings.credentials = Credentials::Token(Secret::new(token));
        });
        assert!(!text.contains("secret"), "{text}");
    }
    for url in [
        "",
        "api.github.com",
        "http://api.github.com",
        "ftp://h/",
        "mailto:x",
        "https://h/?x",
    ] {
        refused(&|settings: &mut Settings| url.clone_into(&mut settings.api_url));
    }
    let text = refused(&|settings: &mut Settings| {
        "https://user:secret@h/".clone_into(&mut settings.api_url);
    });
    assert!(!text.contains("secret"), "{text}");
    for pem in [
        "",
        "secret",
        "-----BEGIN PRIVATE KEY-----\nsecr\n-----END PRIVATE KEY-----",
    ] {
        let error = App::new("1", &Secret::new(pem), None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secr\n"), "{error}");
    }
    // A path that would name another endpoint: the list of all files.
    for path in ["..", ".", ""] {
        let error = run(place.client().file(&place.repository, "main", path)).unwrap_err();
        assert!(matches!(error.fault(), ClientFault::Unaddressable(_)));
    }
    assert!(place.host.history().is_empty());
    // Other odd ones are only odd.
    let odd = "ä/b?c#d %2e&e";
    let number = place.issue("an issue", None);
    run(place.client().add_labels(&place.repository, number, &[odd])).unwrap();
    let listed = run(place.client().issues(&place.repository, odd)).unwrap();
    assert_eq!(listed.len(), 1);
    let bare = place.host.bare("octo/hello");
    git::commit(&bare, "work", odd, "odd\n", "a commit");
    let file = run(place.client().file(&place.repository, "work", odd)).unwrap();
    assert_eq!(file.as_deref(), Some("odd\n"));
}

#[test]
fn a_base_path_as_of_github_enterprise_server_is_kept_on_all_pages() {
    let place = Place::new();
    for number in 0..101 {
        place.issue(&number.to_string(), None);
    }
    let mut settings = place.settings();
    settings.api_url = format!("{}/api/v3/", place.host.url());
    let client = GitHub::new(settings).unwrap();
    assert_eq!(
        run(client.issues(&place.repository, "copilot-agent"))
            .unwrap()
            .len(),
        101
    );
    let history = place.host.history();
    assert_eq!(history.len(), 2);
    assert!(
        history
            .iter()
            .all(|seen| seen.path.starts_with("/api/v3/repos/"))
    );
}

#[test]
fn a_server_that_cannot_be_reached_is_no_ambiguity() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.api_url = "http://127.0.0.1:1".to_owned();
    let error = run(GitHub::new(settings)
        .unwrap()
        .create_comment(&place.repository, 1, "x"))
    .unwrap_err();
    assert!(
        matches!(error.fault(), ClientFault::Unreachable(_)),
        "{}",
        chain(&error)
    );
    assert!(error.is_transient() && !error.is_ambiguous());
    assert!(chain(&error).contains("refused"), "{}", chain(&error));
}

#[test]
fn the_stand_in_serves_git_with_its_permissions_and_hooks() {
    let place = Place::new();
    let home = tempfile::tempdir().unwrap();
    let git = |token: Option<&str>, arguments: &[&str]| {
        let mut command = Command::new("git");
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", home.path())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        if let Some(token) = token {
            let credentials = format!("x-access-token:{token}");
            let encoded =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, credentials);
            command
                .env("GIT_CONFIG_COUNT", "1")
                .env("GIT_CONFIG_KEY_0", "http.extraHeader")
                .env(
                    "GIT_CONFIG_VALUE_0",
                    format!("Authorization: Basic {encoded}"),
                );
        }
        let output = command
            .current_dir(home.path())
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        output.status.success().then_some(()).ok_or(text)
    };
    let url = place.host.git_url("octo/hello");
    git(None, &["clone", "-q", &url, "a"]).unwrap();
    let commit = [
        "-C",
        "a",
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@example.invalid",
        "commit",
    ];
    std::fs::write(home.path().join("a/large"), "x".repeat(3 << 20)).unwrap();
    git(None, &["-C", "a", "add", "large"]).unwrap();
    git(None, &[&commit[..], &["-q", "-m", "work"]].concat()).unwrap();
    let push = [
        "-C",
        "a",
        "-c",
        "http.postBuffer=4096",
        "push",
        "-q",
        "origin",
        "HEAD:refs/heads/work",
    ];
    let reader = place.host.user("reader", Permission::Read);
    assert!(git(None, &push).is_err());
    assert!(git(Some(&reader), &push).unwrap_err().contains("403"));
    let hook = place.host.bare("octo/hello").join("hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho refused by the hook >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(
        git(Some(&place.token), &push)
            .unwrap_err()
            .contains("refused by the hook")
    );
    std::fs::remove_file(&hook).unwrap();
    git(Some(&place.token), &push).unwrap();
    place.host.set_private("octo/hello");
    place.host.permit("octo/hello", "reader", Permission::None);
    assert!(git(None, &["clone", "-q", &url, "b"]).is_err());
    assert!(git(Some(&reader), &["clone", "-q", &url, "b"]).is_err());
    git(Some(&place.token), &["clone", "-q", &url, "b"]).unwrap();
}

#[test]
fn the_stand_in_follows_the_rules_that_the_dispatch_relies_on() {
    let place = Place::new();
    let (client, repository) = (place.client(), &place.repository);
    let number = place.issue("an issue", None);
    place.branch("work");
    place.host.set_lag(1);
    let new = NewPull {
        title: "x",
        head: "work",
        base: "main",
        body: "",
    };
    let pull = run(client.create_pull(repository, &new)).unwrap();
    // Lists lag behind, and a second one is refused all the same.
    assert!(run(client.pulls(repository, "work")).unwrap().is_empty());
    assert!(
        run(client.create_pull(repository, &new))
            .unwrap_err()
            .is_already_exists()
    );
    assert_eq!(run(client.pulls(repository, "work")).unwrap().len(), 1);
    // A new commit moves it, and without its branch it is closed.
    place.branch("work");
    let moved = run(client.pulls(repository, "work")).unwrap();
    assert_ne!(moved[0].head.sha, pull.head.sha);
    run(client.delete_branch(repository, "work")).unwrap();
    assert_eq!(place.host.pulls("octo/hello")[0]["state"], "closed");
    place.host.set_open("octo/hello", pull.number, true);
    assert_eq!(
        run(client.close_pull(repository, pull.number))
            .unwrap()
            .state,
        State::Closed
    );

    let comment = run(client.create_comment(repository, number, "x")).unwrap();
    place.host.delete_comment("octo/hello", comment.id);
    assert!(
        run(client.edit_comment(repository, comment.id, "y"))
            .unwrap_err()
            .is_not_found()
    );
    let long = "é".repeat(65_537);
    let error = run(client.create_comment(repository, number, &long)).unwrap_err();
    assert!(chain(&error).contains("too long"), "{}", chain(&error));
    place
        .host
        .unlabel("octo/hello", number, "copilot-agent", "bob");
    assert!(
        run(client.issues(repository, "copilot-agent"))
            .unwrap()
            .is_empty()
    );

    let last = place.host.history().pop().unwrap();
    assert_eq!(
        (last.who.as_deref(), last.status),
        (Some("alice"), Some(200))
    );
    let writes = place.host.writes();
    assert_eq!(writes[0].body["head"], "work");
    let lists = place.host.history();
    let list = lists
        .iter()
        .find(|seen| seen.path.ends_with("/pulls") && seen.method == "GET");
    assert_eq!(
        list.unwrap().query,
        "state=all&head=octo%3Awork&per_page=100"
    );
}
