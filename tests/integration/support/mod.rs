//! A place of its own for every test: home, repository, configuration, logs.

pub mod claude;
pub mod git_http;
pub mod github;
pub mod network;
pub mod postgres;
pub mod process_limit;
pub mod publications;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tempfile::TempDir;

/// A hermetic place: nothing of the machine's configuration is seen.
#[derive(Debug)]
pub struct TestEnv {
    root: TempDir,
    config: String,
    variables: Vec<(String, String)>,
}

/// What a finished command left.
#[derive(Debug)]
#[must_use = "check the exit code or take a snapshot"]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl TestEnv {
    /// A place with a repository of one commit and the agent-runner's built-in configuration.
    pub fn new() -> Self {
        let env = Self {
            root: tempfile::Builder::new()
                .prefix("agent-runner-test-")
                .tempdir()
                .unwrap(),
            config: String::new(),
            variables: Vec::new(),
        };
        for directory in ["home", "repository"] {
            fs::create_dir(env.root.path().join(directory)).unwrap();
        }
        env.git(&["init", "-q", "-b", "main"]);
        fs::write(env.repository().join("README.md"), "# a repository\n").unwrap();
        env.git(&["add", "README.md"]);
        env.git(&["commit", "-q", "-m", "first"]);
        env
    }

    /// Adds lines to the configuration file.
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        fs::write(self.root.path().join("config.toml"), &self.config).unwrap();
        self
    }

    /// Adds an agent that is a shell script and whose output is read as `output`. Its prompt is on
    /// standard input.
    pub fn script(self, name: &str, output: &str, script: &str) -> Self {
        let quoted = toml::Value::String(script.to_owned());
        self.config(&format!(
            "[agents.{name}]\ncommand = [\"/bin/sh\", \"-c\", {quoted}]\noutput = \"{output}\"\n"
        ))
    }

    /// Adds a task with a prompt of its own that requires no commit, and further keys.
    pub fn task(self, name: &str, keys: &str) -> Self {
        let requires = if keys.contains("requires_commit") {
            ""
        } else {
            "requires_commit = false\n"
        };
        self.config(&format!(
            "[tasks.{name}]\nprompt_text = \"do the work\"\n{requires}{keys}\n"
        ))
    }

    /// Sets a variable for the program.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn repository(&self) -> PathBuf {
        self.root.path().join("repository")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    /// The log of a heartbeat that beat each of the last minutes.
    pub fn beat(&self, minutes: i64) {
        let beats = (0..minutes).rev().map(|minutes| {
            let at = Utc::now() - TimeDelta::minutes(minutes);
            at.format("%Y-%m-%d %H:%M:%S UTC\n").to_string()
        });
        let directory = self.logs().join("heartbeat");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("task.log"), beats.collect::<String>()).unwrap();
    }

    /// The note of since when something is as it is for this configuration.
    pub fn note_of(&self, what: &str) -> PathBuf {
        let notes = fs::read_dir(self.logs().join(".state/since")).unwrap();
        let mut notes = notes.map(|note| note.unwrap().path());
        let is_it = |note: &PathBuf| {
            let name = note.file_name().unwrap().to_str().unwrap();
            name.starts_with(&format!("{what}-"))
        };
        notes.find(is_it).expect("it was noted")
    }

    /// The program with arguments, ready to be started in this place.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-runner"));
        command.args(arguments);
        self.settle(&mut command);
        command
    }

    /// Gives a command this place's directory and environment.
    pub fn settle(&self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap();
        command
            .current_dir(self.root.path())
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.root.path().join("home"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "A Person")
            .env("GIT_AUTHOR_EMAIL", "person@example.invalid")
            .env("GIT_COMMITTER_NAME", "A Person")
            .env("GIT_COMMITTER_EMAIL", "person@example.invalid")
            .env("AGENT_RUNNER_REPO_ROOT", self.repository())
            .env("AGENT_RUNNER_LOG_ROOT", self.logs())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn agent_runner(&self, arguments: &[&str]) -> Done {
        Done::from(self.command(arguments).output().unwrap())
    }

    /// Runs the program as a user who is stopped by permissions, to whom everything here belongs from
    /// then on.
    #[track_caller]
    pub fn agent_runner_of_nobody(&self, arguments: &[&str]) -> Done {
        if !rustix::process::geteuid().is_root() {
            return self.agent_runner(arguments);
        }
        let mut command = Command::new("setpriv");
        self.settle(&mut command);
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(self.give_to(65534)).args(arguments);
        Done::from(command.output().unwrap())
    }

    /// Gives everything here to a user, and with it a copy of the program, which is returned.
    #[track_caller]
    pub fn give_to(&self, user: u32) -> PathBuf {
        let binary = self.root().join("agent-runner");
        fs::copy(env!("CARGO_BIN_EXE_agent-runner"), &binary).unwrap();
        let mut chown = Command::new("chown");
        chown.args(["-R", &format!("{user}:{user}")]);
        assert!(chown.arg(self.root()).status().unwrap().success());
        binary
    }

    /// Runs an agent on a task.
    #[track_caller]
    pub fn run(&self, agent: &str, task: &str) -> Done {
        self.agent_runner(&["run", "--agent", agent, "--task", task])
    }

    /// Starts the program and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs git as a person in the repository.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        self.settle(&mut command);
        let output = command
            .args(arguments)
            .current_dir(self.repository())
            .output()
            .unwrap();
        let done = Done::from(output);
        assert_eq!(done.code, Some(0), "git {arguments:?}: {}", done.stderr);
        done.stdout.trim().to_owned()
    }

    /// Directories of all runs of a task by an agent, the oldest first.
    pub fn run_directories(&self, task: &str, agent: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.logs().join(task).join(agent)) else {
            return Vec::new();
        };
        let mut runs: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        runs.sort();
        runs
    }

    /// The only run of a task by an agent.
    #[track_caller]
    pub fn run_directory(&self, task: &str, agent: &str) -> PathBuf {
        let runs = self.run_directories(task, agent);
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.into_iter().next().unwrap()
    }

    /// The records of all runs of a task by an agent, the oldest first.
    pub fn records(&self, task: &str, agent: &str) -> Vec<Value> {
        let read = |path: &PathBuf| {
            let text = fs::read(path.join("metadata.json")).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let directories = self.run_directories(task, agent);
        directories.iter().map(read).collect()
    }

    /// Configures a notification server that nobody can reach: what is to be told stays in the
    /// outbox.
    pub fn unreachable_server(self) -> Self {
        self.variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
            .variable("AGENT_RUNNER_NTFY_SERVER", "http://127.0.0.1:1")
    }

    /// What waits in the outbox, the oldest first.
    pub fn outbox(&self) -> Vec<Value> {
        let Ok(entries) = fs::read_dir(self.logs().join(".state/outbox")) else {
            return Vec::new();
        };
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "json")
            })
            .collect();
        files.sort();
        let read = |path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        files.iter().map(read).collect()
    }

    /// Starts runs of an agent on a task at once, each in a directory of its own, and gives their
    /// exit codes.
    pub fn run_at_once(&self, number: usize, agent: &str, task: &str) -> Vec<Option<i32>> {
        let start = |number: usize| {
            let directory = self.root.path().join(format!("place-{number}"));
            fs::create_dir_all(&directory).unwrap();
            let directory = directory.to_str().unwrap();
            self.spawn(&["run", "--agent", agent, "--task", task, "--repo", directory])
        };
        let children: Vec<_> = (0..number).map(start).collect();
        children
            .into_iter()
            .map(|mut child| child.wait().unwrap().code())
            .collect()
    }

    /// The record of the only run of a task by an agent.
    #[track_caller]
    pub fn record(&self, task: &str, agent: &str) -> Value {
        let text = fs::read(self.run_directory(task, agent).join("metadata.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    /// Exit code, standard output and standard error in one text, for a snapshot.
    pub fn shown(&self, env: &TestEnv) -> String {
        let mut text = format!("exit {:?}\n", self.code);
        for (name, stream) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !stream.is_empty() {
                write!(text, "--- {name}\n{stream}").unwrap();
            }
        }
        text.replace(&env.root().display().to_string(), "[ROOT]")
    }
}

/// The facts of a record's evidence, one a line: `git: commit …`.
pub fn evidence(record: &Value) -> String {
    let facts = record["evidence"].as_array().unwrap().iter();
    let lines: Vec<_> = facts
        .map(|e| {
            format!(
                "{}: {}",
                e["source"].as_str().unwrap(),
                e["fact"].as_str().unwrap()
            )
        })
        .collect();
    lines.join("\n")
}

/// Hides what differs between two runs of a test: times, run ids, commit names, numbers of
/// processes.
pub fn filters() -> Vec<(&'static str, &'static str)> {
    vec![
        (r"\b20\d{6}_\d{6}(_\d+)?\b", "[RUN]"),
        (
            r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( UTC|Z|\+00:00)?",
            "[TIME]",
        ),
        (r"\b(commit|amended) [0-9a-f]{8}\b", "$1 [ID]"),
        (r"\([0-9a-f]{8}\)", "([ID])"),
        (r"process \d+", "process [PID]"),
        (r"after \d+(ms|s)\b", "after [TIME]"),
        (r"elapsed=\d+m\d\ds", "elapsed=[TIME]"),
    ]
}

/// Makes a named pipe, at which whoever opens it waits.
pub fn make_pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}

/// Waits until something is so, at most `limit`; tells whether it came to be.
#[must_use = "assert what was waited for"]
pub fn eventually(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < limit {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    is_so()
}

/// A number of seconds that no other process sleeps for, so that survivors can be told.
pub fn unique_sleep(tag: u32) -> String {
    format!(
        "{}{tag:02}",
        900_000_000 + u64::from(std::process::id()) * 10
    )
}

/// Whether every point and repetition is wanted (`tests/run --full`).
pub fn is_full() -> bool {
    std::env::var_os("AGENT_RUNNER_FULL").is_some_and(|full| full == "1")
}

/// Numbers of the living processes whose command line holds a text.
pub fn processes_with(text: &str) -> Vec<u32> {
    processes(&["cmdline"], text)
}

/// Numbers of the living processes that name a place in their command line or environment.
pub fn processes_of(place: &Path) -> Vec<u32> {
    processes(&["cmdline", "environ"], &place.display().to_string())
}

fn processes(files: &[&str], text: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            files.iter().any(|file| {
                let told = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                String::from_utf8_lossy(&told).contains(text)
            })
        })
        .collect()
}
