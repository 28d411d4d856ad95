//! A dispatch repository, a worker's configuration, and what is looked at afterwards.

use std::time::Duration;

use agent_runner::github::Permission;

use crate::support::github::{Host, git};
use crate::support::{Done, TestEnv, eventually};

pub const DISPATCH: &str = "octo/dispatch";
pub const TARGET: &str = "octo/target";

/// A diff that adds a file.
pub fn adds(file: &str) -> String {
    format!(
        "```diff\ndiff --git a/{file} b/{file}\nnew file mode 100644\n--- /dev/null\n+++ b/{file}\n\
         @@ -0,0 +1 @@\n+by an agent\n```"
    )
}

/// An issue's body as the dispatcher writes it.
pub fn body(task_id: &str, instruction: &str) -> String {
    format!(
        "# Agent Task Delegation\n\n**Task ID:** `{task_id}`\n**User ID:** `u-1`\n\n\
         **Target:** issue `{TARGET}#1`\n\n## Instructions\n\n{instruction}\n\n---\n\n\
         <!-- agent_task_metadata\n{{\"task_id\": \"{task_id}\", \"user_id\": \"u-1\", \
         \"provider\": \"github_issue_dispatch\"}}\n-->"
    )
}

/// What a worker said that ended as it should.
pub struct Told {
    pub stderr: String,
}

/// GitHub with a dispatch and a target repository, and a worker that is set up for them.
pub struct Place {
    pub host: Host,
    pub env: TestEnv,
    pub token: String,
}

impl Place {
    pub fn new() -> Self {
        Self::with("")
    }

    /// With further lines in `[dispatch]`.
    pub fn with(keys: &str) -> Self {
        let host = Host::start();
        host.repository(DISPATCH);
        host.repository(TARGET);
        let token = host.user("runner-bot", Permission::Write);
        host.user("alice", Permission::Write);
        let env = Self::env(&host, &token, keys);
        Self { host, env, token }
    }

    /// A machine with a worker.
    pub fn env(host: &Host, token: &str, keys: &str) -> TestEnv {
        TestEnv::new()
            .config(&format!(
                "[github]\nwrite_interval = \"0s\"\n\
                 [dispatch]\nrepo = \"{DISPATCH}\"\npoll_interval = \"1s\"\nretry_pause = \"1s\"\n{keys}"
            ))
            .variable("GITHUB_TOKEN", token)
            .variable("GITHUB_API_URL", host.url())
            .variable("GITHUB_SERVER_URL", host.url())
    }

    /// With a script as the agent, and further lines in `[dispatch]`. The prompt is on standard input.
    pub fn agent(script: &str, keys: &str) -> Self {
        Self::agent_with("text", script, keys)
    }

    /// As [`Place::agent`], whose output is read as that of another one.
    pub fn agent_with(output: &str, script: &str, keys: &str) -> Self {
        let mut place = Self::with(&format!("agent = \"script\"\n{keys}\n"));
        let script = format!("{script}\necho all done");
        place.env = place.env.script("script", output, &script);
        place
    }

    /// Another machine with these lines in `[dispatch]`.
    pub fn other_env(&self, keys: &str) -> TestEnv {
        let env = Self::env(&self.host, &self.token, "");
        let text = std::fs::read_to_string(env.root().join("config.toml")).unwrap();
        let given = keys.split('=').next().unwrap().trim();
        let lines = text
            .lines()
            .filter(|line| line.split('=').next().unwrap().trim() != given);
        let text: Vec<_> = lines.chain([keys]).collect();
        std::fs::write(env.root().join("config.toml"), text.join("\n")).unwrap();
        env
    }

    /// The same machine after its configuration was changed to the agent `patch` and these lines.
    pub fn same_env(&self, keys: &str) -> TestEnv {
        Self::env(&self.host, &self.token, keys)
            .variable("AGENT_RUNNER_LOG_ROOT", self.env.logs().to_str().unwrap())
    }

    /// Loses what the machine knows of its work, as a new one would.
    pub fn forget(&self) {
        std::fs::remove_dir_all(self.env.logs().join(".state")).unwrap();
    }

    /// Works on what waits now.
    pub fn dispatch(&self) -> Done {
        self.env.agent_runner(&["dispatch", "--once"])
    }

    /// Works on what waits now, which must end with this exit code.
    #[track_caller]
    pub fn dispatches(&self, code: i32) -> Told {
        let Done {
            code: is, stderr, ..
        } = self.dispatch();
        assert_eq!(is, Some(code), "{stderr}");
        Told { stderr }
    }

    /// Works again and again until an issue is processed.
    #[track_caller]
    pub fn until_processed(&self, issue: u64) {
        let mut rounds = Vec::new();
        let is_done = eventually(Duration::from_secs(60), || {
            std::thread::sleep(Duration::from_millis(200));
            rounds.push(self.dispatch());
            self.host.labels(DISPATCH, issue).len() > 1
        });
        assert!(is_done, "{rounds:#?}");
    }

    /// What lies in the directory of clones.
    pub fn workspaces(&self) -> Vec<String> {
        let work = self.env.logs().join(".state/workspaces/work");
        let entries = std::fs::read_dir(work).into_iter().flatten();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// Numbers of the worker's own comments on an issue.
    pub fn comment_ids(&self, issue: u64) -> Vec<u64> {
        self.host.comment_ids(DISPATCH, issue, "runner-bot")
    }

    /// Asserts that an issue was refused with these words and nothing else was done.
    #[track_caller]
    pub fn assert_refused(&self, issue: u64, words: &str) {
        let comments = self.host.comments(DISPATCH, issue);
        assert_eq!(comments.len(), 1, "{comments:?}");
        let (author, text) = &comments[0];
        assert_eq!(author, "runner-bot");
        assert!(
            text.starts_with("❌ custom-agent failed to process this task: "),
            "{text}"
        );
        assert!(text.contains(words), "{text}");
        let labels = self.host.labels(DISPATCH, issue);
        assert_eq!(labels, ["copilot-agent", "failed"]);
    }

    /// Opens an issue of a person who may ask.
    pub fn issue(&self, title: &str, body: &str) -> u64 {
        self.host
            .open_issue(DISPATCH, "alice", title, Some(body), &["copilot-agent"])
    }

    /// The texts of an issue's comments that begin so.
    pub fn comments(&self, issue: u64, begin: &str) -> Vec<String> {
        let comments = self.host.comments(DISPATCH, issue).into_iter();
        let texts = comments.map(|(_, text)| text);
        texts.filter(|text| text.starts_with(begin)).collect()
    }

    /// A file on a branch of the target repository.
    pub fn file(&self, branch: &str, path: &str) -> Option<String> {
        self.file_of(TARGET, branch, path)
    }

    /// A file on a branch of a repository.
    pub fn file_of(&self, repository: &str, branch: &str, path: &str) -> Option<String> {
        let name = format!("refs/heads/{branch}:{path}");
        git::run(&self.host.bare(repository), &["show", &name])
    }

    /// What git says of the target repository.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        git::run(&self.host.bare(TARGET), arguments).expect("git succeeds")
    }

    /// The branches of the target repository, but for `main`.
    pub fn branches(&self) -> Vec<String> {
        let list = ["for-each-ref", "--format=%(refname:short)", "refs/heads"];
        let names = git::run(&self.host.bare(TARGET), &list).unwrap_or_default();
        names
            .lines()
            .filter(|name| *name != "main")
            .map(str::to_owned)
            .collect()
    }

    /// Asserts that an issue has become one pull request and nothing else.
    #[track_caller]
    pub fn assert_done(&self, issue: u64) {
        for sign in ["🤖", "✅"] {
            assert_eq!(self.comments(issue, sign).len(), 1, "{sign}");
        }
        assert_eq!(self.comments(issue, "❌"), Vec::<String>::new());
        let labels = self.host.labels(DISPATCH, issue);
        assert_eq!(labels, ["copilot-agent", "processed"]);
    }
}

/// Hides what differs between two runs of a test.
pub fn filters() -> Vec<(&'static str, &'static str)> {
    let mut filters = crate::support::filters();
    filters.extend([
        (r"http://127\.0\.0\.1:\d+", "[HOST]"),
        (r"\b[0-9a-f]{40}([0-9a-f]{24})?\b", "[ID]"),
        (r"/tmp/agent-runner-test-\w+", "[ROOT]"),
        (r"work/[0-9a-f]{8}-\d+", "work/[WORK]"),
    ]);
    filters
}
