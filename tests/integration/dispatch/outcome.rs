//! What must be true in the end, whatever died on the way; used by `crashes` and `workers`.

use std::fs;
use std::time::Duration;

use agent_runner::queue::State;

use super::place::{DISPATCH, Place, TARGET};
use crate::queue::{block_on, open};
use crate::support::{TestEnv, eventually, processes_of};

/// How often each of the three comments and the pull request of an issue may be there.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The machines that may each have said that they begin.
    pub started: usize,
}

impl Place {
    /// What is wrong with issues that should have become one pull request each.
    pub fn complaints(&self, issues: &[u64], allowed: Allowed) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut check = |is_right: bool, what: String| {
            if !is_right {
                complaints.push(what);
            }
        };
        for issue in issues {
            let count = |sign| self.comments(*issue, sign).len();
            let started = count("🤖");
            let is_right = (1..=allowed.started).contains(&started);
            check(is_right, format!("#{issue}: {started} times 🤖"));
            check(
                count("✅") == 1,
                format!("#{issue}: {} times ✅", count("✅")),
            );
            let failed = self.comments(*issue, "❌");
            check(failed.is_empty(), format!("#{issue}: {failed:?}"));
            let labels = self.host.labels(DISPATCH, *issue);
            let is_right = labels == ["copilot-agent", "processed"];
            check(is_right, format!("#{issue}: labels {labels:?}"));
            let fixes = format!("Fixes {DISPATCH}#{issue}\n");
            let pulls = self.host.pulls(TARGET).into_iter();
            let pulls = pulls.filter(|pull| pull["body"].as_str().unwrap().contains(&fixes));
            let pulls = pulls.count();
            check(pulls == 1, format!("#{issue}: {pulls} pull requests"));
        }
        let branches = self.branches();
        let is_right = branches.len() == issues.len();
        check(is_right, format!("branches {branches:?}"));
        complaints
    }
}

/// What is wrong with a machine whose workers have ended.
pub fn left_on(env: &TestEnv, queue: Option<&str>) -> Vec<String> {
    let mut complaints = Vec::new();
    let is_quiet = eventually(Duration::from_secs(30), || {
        processes_of(env.root()).is_empty()
    });
    if !is_quiet {
        complaints.push(format!("processes {:?}", processes_of(env.root())));
    }
    let workspaces = env.logs().join(".state/workspaces/work");
    for entry in fs::read_dir(workspaces).into_iter().flatten() {
        let left = entry.unwrap().path();
        complaints.push(format!("left behind: {}", left.display()));
    }
    let waiting = env.outbox();
    for run in env.records("dispatch_issue", "patch") {
        let name = format!("run {} ({})", run["run_id"], run["outcome"]);
        if run["outcome"] == "running" || run["end_time"].is_null() {
            complaints.push(format!("{name} is not final"));
        }
        let state = run["notification"]["state"].as_str().unwrap_or_default();
        let id = run["run_id"].as_str().unwrap();
        let waits = waiting
            .iter()
            .filter(|entry| entry.to_string().contains(id))
            .count();
        if waits != usize::from(state == "pending") {
            complaints.push(format!("{name}: {waits} notifications wait, it is {state}"));
        }
    }
    let own = format!(
        "sqlite:{}",
        env.logs().join(".state/queue.sqlite").display()
    );
    let works = block_on(async { open(queue.unwrap_or(&own)).await.list().await.unwrap() });
    for work in works.iter().filter(|work| work.state != State::Done) {
        complaints.push(format!(
            "{} is {:?}: {:?}",
            work.origin, work.state, work.reason
        ));
    }
    complaints
}
