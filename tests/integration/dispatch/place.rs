//! A dispatch repository, a worker's configuration, and what is looked at afterwards.

use agent_runner::github::Permission;

use crate::support::TestEnv;
use crate::support::github::{Host, git};

pub const DISPATCH: &str = "octo/dispatch";
pub const TARGET: &str = "octo/target";

/// A diff that adds a file.
pub fn adds(file: &str) -> String {
    format!(
        "```diff\ndiff --git a/{file} b/{file}\nnew file mode 100644\n--- /dev/null\n+++ b/{file}\n\
         @@ -0,0 +1 @@\n+by an agent\n```"
    )
}

/// An issue's body as `HandsFree`'s provider writes it.
pub fn body(task_id: &str, instruction: &str) -> String {
    format!(
        "# Agent Task Delegation\n\n**Task ID:** `{task_id}`\n**User ID:** `u-1`\n\n\
         **Target:** issue `{TARGET}#1`\n\n## Instructions\n\n{instruction}\n\n---\n\n\
         <!-- agent_task_metadata\n{{\"task_id\": \"{task_id}\", \"user_id\": \"u-1\", \
         \"provider\": \"github_issue_dispatch\"}}\n-->"
    )
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
        let name = format!("refs/heads/{branch}:{path}");
        git::run(&self.host.bare(TARGET), &["show", &name])
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
