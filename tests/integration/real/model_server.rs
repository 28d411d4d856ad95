//! aimock, the server of models whose names choose what they do (`tests/real/model-server.json`).

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::real::{components, http};
use crate::support::eventually;

/// A running model server; killed when dropped.
#[derive(Debug)]
pub struct ModelServer {
    child: Child,
    url: String,
}

impl ModelServer {
    /// Starts a server; `None` where it is not installed.
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// Starts a server that says `answer` to whoever has `prompt` in the last message of a person,
    /// and else does what the model's name says. (Its journal leaves out large requests.)
    #[track_caller]
    pub fn start_for(prompt: &str, answer: &str) -> Option<Self> {
        let file = NamedTempFile::with_suffix(".json").unwrap();
        let fixture = json!({"match": {"userMessage": prompt}, "response": {"content": answer}});
        let fixtures = json!({"fixtures": [fixture]});
        fs::write(file.path(), fixtures.to_string()).unwrap();
        Self::start_with(&[file.path()])
    }

    #[track_caller]
    fn start_with(first: &[&Path]) -> Option<Self> {
        let program = components::agent("aimock")?;
        let output = NamedTempFile::new().unwrap();
        let usual = components::files().join("model-server.json");
        let fixtures = first.iter().copied().chain([usual.as_path()]);
        let mut child = Command::new(program)
            .args(["-p", "0", "--validate-on-load"])
            .args(fixtures.flat_map(|file| [Path::new("-f"), file]))
            .stdin(Stdio::null())
            .stdout(output.reopen().unwrap())
            .stderr(output.reopen().unwrap())
            .spawn()
            .unwrap();
        let mut url = None;
        let told = eventually(Duration::from_secs(20), || {
            let text = fs::read_to_string(output.path()).unwrap();
            let address = text.split_once("listening on ");
            url = address.and_then(|(_, rest)| Some(rest.split_once('\n')?.0.to_owned()));
            url.is_some() || child.try_wait().unwrap().is_some()
        });
        let said = fs::read_to_string(output.path()).unwrap();
        let server = Self {
            child,
            url: url.unwrap_or_default(),
        };
        assert!(told && !server.url.is_empty(), "aimock says: {said}");
        Some(server)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every request that was made.
    pub fn journal(&self) -> Vec<Value> {
        let answer = http::get(&self.url, "/__aimock/journal", &[]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        // SIGKILL: on SIGTERM it would wait for open connections.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
