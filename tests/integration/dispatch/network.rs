//! A GitHub of a company's own: behind an authority of its own, and behind a proxy.

use std::time::{Duration, Instant};

use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::support::TestEnv;
use crate::support::network::{Authority, Front, Proxy};

/// A name that no resolver knows.
const HOST: &str = "github.corp.test";

/// GitHub behind TLS, with one issue to work on.
struct Company {
    place: Place,
    authority: Authority,
    front: Front,
    issue: u64,
}

impl Company {
    fn new() -> Self {
        let place = Place::new();
        let authority = Authority::new();
        let front = Front::new(&authority, HOST, &place.host.url());
        let issue = place.issue("t", &body("task-1", &adds("a.txt")));
        Self {
            place,
            authority,
            front,
            issue,
        }
    }

    /// A worker that knows GitHub by this address, and nothing of its authority.
    fn worker(&self, url: &str) -> TestEnv {
        self.place.host.set_public_url(url);
        Place::env(&self.place.host, &self.place.token, "")
            .variable("GITHUB_API_URL", format!("{url}/api/v3"))
            .variable("GITHUB_SERVER_URL", url)
    }

    fn url(&self) -> String {
        format!("https://{}", self.front.address())
    }

    #[track_caller]
    fn is_served_by(&self, worker: &TestEnv) {
        let done = worker.agent_runner(&["dispatch", "--once"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        self.place.assert_done(self.issue);
        assert_eq!(self.place.host.pulls(TARGET).len(), 1);
    }
}

#[test]
fn one_named_authority_is_trusted_by_the_api_and_by_git() {
    let company = Company::new();
    let worker = company.worker(&company.url());
    company.is_served_by(&worker.variable("SSL_CERT_FILE", company.authority.file()));
}

#[test]
fn a_server_that_is_not_trusted_is_told_nothing_and_the_remedy_is_named() {
    let company = Company::new();
    let done = company
        .worker(&company.url())
        .agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for word in ["certificate is not trusted", "SSL_CERT_FILE"] {
        assert!(done.stderr.contains(word), "{}", done.stderr);
    }
    assert!(!done.stderr.contains(&company.place.token));
    assert!(company.place.host.history().is_empty());

    // git alone: it goes by the authority of somebody else, or by a file that is not there.
    let other = Authority::new();
    for file in [other.file(), "/nonexistent/ca.pem".to_owned()] {
        let worker = company
            .worker(&company.url())
            .variable("SSL_CERT_FILE", company.authority.file())
            .variable("GIT_SSL_CAINFO", file);
        let done = worker.agent_runner(&["dispatch", "--once"]);
        for word in ["certificate of `https://", "SSL_CERT_FILE"] {
            assert!(done.stderr.contains(word), "{}", done.stderr);
        }
        assert!(!done.stderr.contains(&company.place.token));
        let history = company.place.host.history();
        assert!(history.iter().all(|seen| !seen.path.contains(".git")));
    }
    // It is no fault of whoever asked.
    let labels = company.place.host.labels(DISPATCH, company.issue);
    assert_eq!(labels, ["copilot-agent"]);
    assert!(company.place.comments(company.issue, "").is_empty());
}

#[test]
fn the_api_and_git_go_through_the_proxy_and_tell_it_no_token() {
    let company = Company::new();
    let proxy = Proxy::new(company.front.address());
    let worker = company
        .worker(&format!("https://{HOST}"))
        .variable("SSL_CERT_FILE", company.authority.file())
        .variable("HTTPS_PROXY", proxy.url());
    // Nothing but the proxy knows where the host is.
    company.is_served_by(&worker);
    let heads = proxy.heads();
    let wanted = format!("CONNECT {HOST}:443 ");
    assert!(
        heads.iter().all(|head| head.starts_with(&wanted)),
        "{heads:?}"
    );
    // By those who speak: the API's client, and git.
    let by = |name: &str| heads.iter().any(|head| head.contains(name));
    assert!(
        by("git/") && !heads.iter().all(|head| head.contains("git/")),
        "{heads:?}"
    );
    let heads = heads.concat().to_lowercase();
    assert!(!heads.contains("\nauthorization:"), "{heads}");
}

#[test]
fn a_host_that_needs_no_proxy_is_reached_without() {
    let company = Company::new();
    let proxy = Proxy::new(company.front.address());
    let worker = company
        .worker(&company.url())
        .variable("SSL_CERT_FILE", company.authority.file())
        .variable("HTTPS_PROXY", proxy.url())
        .variable("NO_PROXY", "example.invalid,127.0.0.1");
    company.is_served_by(&worker);
    assert_eq!(proxy.heads(), Vec::<String>::new());
}

#[test]
fn workers_with_one_token_keep_their_distance_as_one() {
    /// Much longer than all else takes, so that two distances of their own would be seen.
    const INTERVAL: Duration = Duration::from_secs(3);
    let place = Place::new();
    let issues = [1, 2].map(|number| {
        let task = format!("{number:08}");
        place.issue("t", &body(&task, &adds(&format!("{number}.txt"))))
    });
    let distant = format!("write_interval = \"{}s\"", INTERVAL.as_secs());
    let workers = [(); 2].map(|()| Place::env(&place.host, &place.token, ""));
    let logs = workers[0].logs().display().to_string();
    let began = Instant::now();
    let running: Vec<_> = workers
        .iter()
        .zip(issues)
        .map(|(worker, issue)| {
            let file = worker.root().join("config.toml");
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, text.replace("write_interval = \"0s\"", &distant)).unwrap();
            let mut command = worker.command(&["dispatch", "--issue", &issue.to_string()]);
            command.env("AGENT_RUNNER_LOG_ROOT", &logs).spawn().unwrap()
        })
        .collect();
    for mut worker in running {
        assert_eq!(worker.wait().unwrap().code(), Some(0));
    }
    for issue in issues {
        place.assert_done(issue);
    }
    let writes = place.host.writes();
    let last = writes.last().unwrap().at;
    let distances = u32::try_from(writes.len()).unwrap() - 1;
    // Four of each: two comments, a pull request, a label.
    assert_eq!(distances, 7);
    // A slow machine makes it longer, and never shorter.
    assert!(last - began >= INTERVAL * distances, "{:?}", last - began);
}
