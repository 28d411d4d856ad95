//! A real ntfy server that lets nobody in but the user `runner`.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::real::{components, http};
use crate::support::eventually;

/// The user who may publish to topics that begin with `runs`.
pub const USER: &str = "runner";
pub const PASSWORD: &str = "correct horse";

/// An ntfy server with a directory of its own; killed when dropped.
#[derive(Debug)]
pub struct NtfyServer {
    program: PathBuf,
    directory: TempDir,
    url: String,
    token: String,
    child: Option<Child>,
}

impl NtfyServer {
    /// Starts a server; `None` where it is not installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        let mut server = Self {
            program: components::path("ntfy")?,
            directory: tempfile::tempdir().unwrap(),
            url: format!("http://127.0.0.1:{}", http::free_port()),
            token: String::new(),
            child: None,
        };
        let directory = server.directory.path().display();
        let config = format!(
            "base-url: \"{url}\"\nlisten-http: \"{address}\"\ncache-file: \"{directory}/cache.db\"\n\
             auth-file: \"{directory}/auth.db\"\nauth-default-access: \"deny-all\"\n\
             visitor-request-limit-burst: 1000\n",
            url = server.url,
            address = server.url.trim_start_matches("http://"),
        );
        fs::write(server.config(), config).unwrap();
        fs::write(server.directory.path().join("auth.db"), "").unwrap();
        server.manage("user", &["add", USER]);
        server.manage("access", &[USER, "runs*", "rw"]);
        let told = server.manage("token", &["add", USER]);
        let word = told.split_whitespace().find(|word| word.starts_with("tk_"));
        server.token.push_str(word.unwrap().trim_end_matches(','));
        server.start_again();
        Some(server)
    }

    /// Starts a stopped server on its old port, with all that it has.
    #[track_caller]
    pub fn start_again(&mut self) {
        let log = fs::File::create(self.directory.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .args(["serve", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let healthy = eventually(Duration::from_secs(20), || {
            http::get(&self.url, "/v1/health", &[])
                .is_ok_and(|answer| answer.body.contains("\"healthy\":true"))
        });
        let log = fs::read_to_string(self.directory.path().join("log"));
        assert!(healthy, "ntfy says: {}", log.unwrap());
    }

    /// Kills the server: nothing listens on its port.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Makes the server take connections and answer none.
    #[track_caller]
    pub fn freeze(&self) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args(["-STOP", &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token of `runner`.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// All messages of a topic, the oldest first.
    #[track_caller]
    pub fn messages(&self, topic: &str) -> Vec<Value> {
        let token = format!("Authorization: Bearer {}", self.token);
        let path = format!("/{topic}/json?poll=1");
        let answer = http::get(&self.url, &path, &[token]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        lines(&answer.body)
    }

    /// The same, as ntfy's own command reads them.
    #[track_caller]
    pub fn messages_by_command(&self, topic: &str) -> Vec<Value> {
        let output = Command::new(&self.program)
            .args(["subscribe", "--poll", "--token", &self.token])
            .arg(format!("{}/{topic}", self.url))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        lines(&String::from_utf8(output.stdout).unwrap())
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("server.yml")
    }

    /// Changes who may do what, and gives what was said about it.
    #[track_caller]
    fn manage(&self, command: &str, arguments: &[&str]) -> String {
        let output = Command::new(&self.program)
            .args([command, "--config"])
            .arg(self.config())
            .args(arguments)
            .env("NTFY_PASSWORD", PASSWORD)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "ntfy {command}: {told}");
        told
    }
}

impl Drop for NtfyServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
