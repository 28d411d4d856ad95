//! Issues worked off against a stand-in of GitHub, beside git and the API alone.

#[expect(
    dead_code,
    reason = "the tests' stand-in of GitHub; a benchmark uses a part of it"
)]
#[path = "../../tests/integration/support/github/mod.rs"]
mod github;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_runner::github::Permission;
use github::{Host, Seen};
use tempfile::TempDir;

const DISPATCH: &str = "octo/dispatch";
const TARGET: &str = "octo/target";
const ISSUES: u32 = 10;

/// `dispatch --once` over some issues, and an idle poll.
pub fn dispatch() {
    println!(
        "  git and the API alone: clone, apply, commit, push; a list, two comments, a pull request, a label"
    );
    let alone = by_hand();
    row("git and the API alone", alone, 1.0);
    for concurrency in [1, 4] {
        let place = Place::new(concurrency);
        let numbers = place.open_issues();
        let took = place.dispatch();
        let ratio = took.as_secs_f64() / alone.as_secs_f64();
        row(&format!("dispatch, {concurrency} at a time"), took, ratio);
        let is_done = |number: &u64| {
            let labels = place.host.labels(DISPATCH, *number);
            labels.contains(&"processed".to_owned())
        };
        assert!(numbers.iter().all(is_done));
        place.print_requests("an issue", ISSUES);
        place.host.clear_history();
        place.dispatch();
        place.print_requests("an idle poll", 1);
    }
}

fn row(name: &str, took: Duration, ratio: f64) {
    let each = took.as_secs_f64() / f64::from(ISSUES);
    println!(
        "{name:<26} {:>7.0} ms an issue  {:>6.0} issues a minute  {ratio:.2} times as long",
        each * 1e3,
        60.0 / each,
    );
}

struct Place {
    host: Host,
    token: String,
    root: TempDir,
}

impl Place {
    fn new(concurrency: usize) -> Self {
        let host = Host::start();
        host.repository(DISPATCH);
        host.repository(TARGET);
        let token = host.user("runner-bot", Permission::Write);
        host.user("alice", Permission::Write);
        let root = tempfile::tempdir().unwrap();
        let config = format!(
            "[github]\nwrite_interval = \"0s\"\n\
             [dispatch]\nrepo = \"{DISPATCH}\"\nconcurrency = {concurrency}\n"
        );
        std::fs::write(root.path().join("config.toml"), config).unwrap();
        Self { host, token, root }
    }

    fn open_issues(&self) -> Vec<u64> {
        let open = |number| {
            let text = format!(
                "**Target:** issue `{TARGET}#1`\n\n## Instructions\n\n```diff\n{}```\n\n\
                 <!-- agent_task_metadata\n{{\"task_id\": \"{number:04}-task\"}}\n-->",
                diff(number)
            );
            let title = format!("Issue {number}");
            let labels = ["copilot-agent"];
            self.host
                .open_issue(DISPATCH, "alice", &title, Some(&text), &labels)
        };
        (0..ISSUES).map(open).collect()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.root.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.root.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn dispatch(&self) -> Duration {
        let mut command = self.command(crate::PROGRAM);
        command
            .args(["dispatch", "--once"])
            .env("GITHUB_TOKEN", &self.token)
            .env("GITHUB_API_URL", self.host.url())
            .env("GITHUB_SERVER_URL", self.host.url())
            .env("AGENT_RUNNER_REPO_ROOT", self.root.path());
        let began = Instant::now();
        assert!(command.status().unwrap().success());
        began.elapsed()
    }

    fn print_requests(&self, of: &str, number: u32) {
        let history = self.host.history();
        let each = |is_counted: &dyn Fn(&Seen) -> bool| {
            let count = history.iter().filter(|seen| is_counted(seen)).count();
            f64::from(u32::try_from(count).unwrap()) / f64::from(number)
        };
        let is_git = |seen: &Seen| seen.path.contains(".git/");
        println!(
            "  {of}: {:.1} calls of the API ({:.1} unchanged), {:.1} requests of git",
            each(&|seen| !is_git(seen)),
            each(&|seen| seen.status == Some(304)),
            each(&is_git),
        );
    }
}

fn diff(number: u32) -> String {
    format!(
        "diff --git a/file-{number} b/file-{number}\nnew file mode 100644\n--- /dev/null\n\
         +++ b/file-{number}\n@@ -0,0 +1 @@\n+by an agent\n"
    )
}

/// The same effects without any care.
fn by_hand() -> Duration {
    let place = Place::new(1);
    let numbers = place.open_issues();
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("x-access-token:{}", place.token),
    );
    let header = format!("http.extraHeader=Authorization: Basic {basic}");
    let call = |method: &str, path: &str, body: &str| {
        let address = place.host.url();
        let address = address.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let (token, length) = (&place.token, body.len());
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             user-agent: bench\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 20"), "{method} {path}");
    };
    let git = |directory: &Path, arguments: &[&str]| {
        let mut command = place.command("git");
        command.args([
            "-c",
            &header,
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b.invalid",
        ]);
        let status = command.args(arguments).current_dir(directory).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    };
    let began = Instant::now();
    for (number, issue) in (0..).zip(&numbers) {
        let comments = format!("/repos/{DISPATCH}/issues/{issue}/comments");
        let (tree, branch) = (place.root.path().join("tree"), format!("task-{number}"));
        let patch = place.root.path().join("patch");
        std::fs::write(&patch, diff(number)).unwrap();
        call("GET", &format!("/repos/{DISPATCH}/issues"), "");
        call("POST", &comments, r#"{"body": "started"}"#);
        git(
            place.root.path(),
            &["clone", "-q", &place.host.git_url(TARGET), "tree"],
        );
        git(&tree, &["checkout", "-q", "-b", &branch]);
        git(&tree, &["apply", "--index", patch.to_str().unwrap()]);
        git(&tree, &["commit", "-q", "-m", "work"]);
        git(&tree, &["push", "-q", "origin", &branch]);
        let pull = format!(r#"{{"title": "t", "head": "{branch}", "base": "main", "body": "b"}}"#);
        call("POST", &format!("/repos/{TARGET}/pulls"), &pull);
        call("POST", &comments, r#"{"body": "completed"}"#);
        let labels = format!("/repos/{DISPATCH}/issues/{issue}/labels");
        call("POST", &labels, r#"{"labels": ["processed"]}"#);
        std::fs::remove_dir_all(tree).unwrap();
    }
    began.elapsed()
}
