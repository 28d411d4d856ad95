//! Every call of the client, and every answer of the stand-in, against GitHub's own description of
//! its API: a proxy between the two holds both against it.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_runner::github::{App, Credentials, GitHub, NewIssue, NewPull, Permission, Settings};
use agent_runner::model::clock::Clock;
use agent_runner::model::repository::RepositoryName;
use agent_runner::model::secret::Secret;
use chrono::{DateTime, Utc};
use tempfile::TempDir;

use crate::dispatch::place::{DISPATCH, Place, TARGET, adds, body};
use crate::real::{components, http};
use crate::support::eventually;
use crate::support::github::{Host, git};

#[derive(Debug)]
struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Prism, which passes requests on and writes down what differs from the description.
struct Proxy {
    url: String,
    directory: TempDir,
    child: Child,
}

impl Proxy {
    /// `None` where it is not installed.
    #[track_caller]
    fn start(upstream: &str) -> Option<Self> {
        let program = components::agent("prism")?;
        let directory = tempfile::tempdir().unwrap();
        let description = directory.path().join("github.json");
        // Debian's own Node runs this; the installed packages are found by where the proxy lies.
        let modules = components::npm_modules(&program);
        let sliced = Command::new(components::files().join("github/slice"))
            .arg(modules.join("@octokit/openapi/generated/api.github.com.json"))
            .stdout(File::create(&description).unwrap())
            .status();
        assert!(sliced.unwrap().success());
        let port = http::free_port().to_string();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = Command::new(program)
            .arg("proxy")
            .arg(&description)
            .args([upstream, "-h", "127.0.0.1", "-p", &port])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        let proxy = Self {
            url: format!("http://127.0.0.1:{port}"),
            directory,
            child: child.unwrap(),
        };
        let listens = eventually(Duration::from_secs(60), || {
            proxy.log().contains("Prism is listening")
        });
        assert!(listens, "{}", proxy.log());
        Some(proxy)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn real_prism_finds_every_request_and_answer_as_github_describes_them() {
    let host = Host::start();
    host.repository("octo/hello");
    let token = host.user("alice", Permission::Write);
    let keys = host.app("runner", Duration::from_secs(3600));
    let Some(proxy) = Proxy::start(&host.url()) else {
        return;
    };
    host.set_public_url(&proxy.url);
    let client = |credentials| {
        GitHub::new(Settings {
            write_interval: Duration::ZERO,
            ..Settings::new(&proxy.url, credentials, std::sync::Arc::new(MachineClock))
        })
        .unwrap()
    };
    let user = client(Credentials::Token(Secret::new(token)));
    let app = App::new(keys.id.to_string(), &Secret::new(&keys.pkcs1), None).unwrap();
    let app = client(Credentials::App(app));
    for number in 0..101 {
        let labels = &["copilot-agent"];
        host.open_issue("octo/hello", "alice", &number.to_string(), None, labels);
    }
    git::commit(
        &host.bare("octo/hello"),
        "work/1",
        "new.txt",
        "new\n",
        "work",
    );
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(every_call(&user, &app));
    let log = proxy.log();
    let told: Vec<_> = log.lines().filter(|line| is_finding(line)).collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
    // All of it went through the proxy, and the proxy knew all of it.
    let forwarded = log.matches("Forwarding").count();
    assert_eq!(forwarded, host.history().len());
    assert!(forwarded > 25, "{forwarded}");
}

#[test]
fn real_prism_finds_nothing_in_a_whole_loop_from_a_delegated_task_to_its_pull_request() {
    let place = Place::new();
    let Some(proxy) = Proxy::start(&place.host.url()) else {
        return;
    };
    place.host.set_public_url(&proxy.url);
    place.host.answer_whole();
    // Only the API goes through the proxy: git's own protocol is none of GitHub's description.
    let env = Place::env(&place.host, &place.token, "").variable("GITHUB_API_URL", &proxy.url);
    let instruction = adds("delegated.txt");
    for (arguments, code) in [
        (&["delegate", &instruction, "--repo", TARGET][..], 0),
        (&["dispatch", "--once"], 0),
        (&["delegated"], 0),
        (&["dispatch", "--once"], 0),
        (&["smoke", "--repo", TARGET], 0),
    ] {
        let done = env.agent_runner(arguments);
        assert_eq!(done.code, Some(code), "{arguments:?}: {}", done.stderr);
    }
    let diff = "```diff\n--- a/none.txt\n+++ b/none.txt\n@@ -1 +1 @@\n-x\n+y\n```";
    let bad = place.issue("Bad diff", &body("t-bad", diff));
    let done = env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert_eq!(
        place.host.labels(DISPATCH, bad),
        ["copilot-agent", "failed"]
    );
    assert_eq!(place.host.pulls(TARGET).len(), 2);
    let log = proxy.log();
    let findings: Vec<&str> = log.lines().filter(|line| is_finding(line)).collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
    assert!(log.contains("/repos/octo/target/pulls"), "{log}");
}

fn is_finding(line: &str) -> bool {
    ["iolation", "warning", "error "]
        .iter()
        .any(|word| line.contains(word))
}

async fn every_call(client: &GitHub, app: &GitHub) {
    let repository: &RepositoryName = &"octo/hello".parse().unwrap();
    client.login().await.unwrap();
    client.repository(repository).await.unwrap();
    let issues = client.issues(repository, "copilot-agent").await.unwrap();
    assert_eq!(issues.len(), 101);
    let number = issues[0].number;
    client.issue(repository, number).await.unwrap();
    client.mentions(repository, number).await.unwrap();
    let comment = client
        .create_comment(repository, number, "hello")
        .await
        .unwrap();
    client
        .edit_comment(repository, comment.id, "hello again")
        .await
        .unwrap();
    client.comments(repository, number).await.unwrap();
    client
        .add_labels(repository, number, &["processed"])
        .await
        .unwrap();
    client.permission(repository, "alice").await.unwrap();
    client
        .permission(repository, "no-such-account")
        .await
        .unwrap();
    let new = NewPull {
        title: "a title",
        head: "work/1",
        base: "main",
        body: "a body",
    };
    let pull = client.create_pull(repository, &new).await.unwrap();
    assert!(
        client
            .create_pull(repository, &new)
            .await
            .unwrap_err()
            .is_already_exists()
    );
    assert_eq!(client.pulls(repository, "work/1").await.unwrap().len(), 1);
    client.newest_pulls(repository).await.unwrap();
    client.close_pull(repository, pull.number).await.unwrap();
    let commit = client.branch(repository, "work/1").await.unwrap();
    assert_eq!(commit.unwrap().len(), 40);
    let none = client.branch(repository, "work/2").await.unwrap();
    assert_eq!(none, None);
    for (path, text) in [("new.txt", Some("new\n")), ("not/there.txt", None)] {
        let file = client.file(repository, "work/1", path).await.unwrap();
        assert_eq!(file.as_deref(), text);
    }
    client.delete_branch(repository, "work/1").await.unwrap();
    let new = NewIssue {
        title: "made",
        body: "by us",
        labels: &["copilot-agent"],
    };
    let made = client.create_issue(repository, &new).await.unwrap();
    client.close_issue(repository, made.number).await.unwrap();

    assert_eq!(app.login().await.unwrap(), "runner[bot]");
    app.create_comment(repository, number, "by the app")
        .await
        .unwrap();
    app.git_token(repository).await.unwrap();
}
