//! The smoke test of dispatch, judged: one issue was opened, and this is what GitHub shows of it.
//!
//! Pure. Each criterion is met, failed, or was not reached because an earlier one failed.

use std::path::PathBuf;
use std::time::Duration;

use crate::model::duration;
use crate::model::repository::RepositoryName;
use crate::model::text;
use crate::model::work_name::{TRACE_DIRECTORY, WorkName};
use crate::sources::correlation::{closed_issues, task_metadata, task_of};
use crate::sources::dispatch_issues::PROCESSED;

/// What was ordered.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The task's id.
    pub task_id: String,
    /// The repository of the issue, and its number.
    pub issue: (RepositoryName, u64),
    /// The label that the issue was opened with.
    pub label: String,
    /// The repository to change.
    pub target: RepositoryName,
    /// Its default branch.
    pub base: String,
    /// A file that is to be added.
    pub file: String,
    /// Its only line.
    pub line: String,
    /// How soon a worker should notice the issue.
    pub notice_limit: Duration,
    /// How long was waited for the end.
    pub waited: Duration,
}

/// A pull request that says it is for the task.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeenPull {
    /// Its number.
    pub number: u64,
    /// Its address.
    pub address: String,
    /// Its text.
    pub body: String,
    /// The branch that is offered.
    pub head: String,
    /// The branch that it goes to.
    pub base: String,
}

/// What GitHub shows, and what lies on this machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seen {
    /// The issue's labels.
    pub labels: Vec<String>,
    /// The texts of its comments, the oldest first.
    pub comments: Vec<String>,
    /// How long after the issue the first comment of a worker came.
    pub noticed_after: Option<Duration>,
    /// The pull requests for the task.
    pub pulls: Vec<SeenPull>,
    /// The task's branch.
    pub branch: Option<String>,
    /// The trace file on it.
    pub trace: Option<String>,
    /// The file that was to be added.
    pub file: Option<String>,
}

/// All that is judged.
#[derive(Debug)]
pub struct Facts<'a> {
    /// What was ordered.
    pub ordered: &'a Ordered,
    /// The labels with which GitHub opened the issue.
    pub opened_with: &'a [String],
    /// What was to be seen at the end of the work.
    pub seen: &'a Seen,
    /// What was to be seen after one more look of the worker; `None` when there was none.
    pub later: Option<&'a Seen>,
    /// Directories of the work that are left on this machine.
    pub left: &'a [PathBuf],
    /// Why the worker ended, where it said so.
    pub reason: Option<&'a str>,
}

/// How a criterion stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It is as it should be.
    Met,
    /// It is not.
    Failed,
    /// An earlier one is not met, so that this could not come to be.
    NotReached,
}

impl State {
    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Failed => "failed",
            Self::NotReached => "not_reached",
        }
    }
}

/// One thing that must be so after a task.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Criterion {
    /// Its name.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// How it is, or why it is not.
    pub what: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Criterion {
    /// A criterion that is met.
    pub fn met(name: &'static str, what: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Met,
            what: what.into(),
            fix: None,
        }
    }

    /// A criterion that is not met.
    pub fn failed(name: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            name,
            state: State::Failed,
            what: what.into(),
            fix: Some(fix.into()),
        }
    }

    fn not_reached(name: &'static str, what: &str) -> Self {
        Self {
            name,
            state: State::NotReached,
            what: what.to_owned(),
            fix: None,
        }
    }
}

/// Judges every criterion, in the order in which they come to be.
pub fn judge(facts: &Facts<'_>) -> Vec<Criterion> {
    let mut criteria = vec![label(facts), notice(facts)];
    criteria.extend(branch(facts));
    criteria.extend(pull(facts));
    criteria.extend([comments(facts), processed(facts), second_look(facts)]);
    criteria.push(workspace(facts));
    criteria
}

fn label(facts: &Facts<'_>) -> Criterion {
    let Ordered { label, issue, .. } = facts.ordered;
    let (repository, number) = issue;
    if has(facts.opened_with, label) {
        return Criterion::met("issue", format!("{repository}#{number} with `{label}`"));
    }
    Criterion::failed(
        "issue",
        format!("GitHub opened {repository}#{number} without the label `{label}`"),
        format!(
            "GitHub drops labels from whoever may not write: give the token Issues: read and \
             write on {repository}, and its account the right to write there"
        ),
    )
}

fn notice(facts: &Facts<'_>) -> Criterion {
    let Ordered {
        notice_limit,
        waited,
        ..
    } = facts.ordered;
    let limit = duration::words(*notice_limit);
    match facts.seen.noticed_after {
        Some(after) if after <= *notice_limit => Criterion::met(
            "noticed",
            format!("a worker began after {}", duration::words(after)),
        ),
        Some(after) => Criterion::failed(
            "noticed",
            format!(
                "a worker began only after {}, and {limit} is the limit",
                duration::words(after)
            ),
            "set a shorter POLL_INTERVAL_SECONDS, or let more workers work \
             (MAX_CONCURRENT_TASKS)",
        ),
        None => {
            let told = reason(facts);
            let told = told.map_or_else(String::new, |reason| format!(": {reason}"));
            Criterion::failed(
                "noticed",
                format!(
                    "no worker has begun within {}{told}",
                    duration::words(*waited)
                ),
                "mend what is said; a worker that runs elsewhere needs the same DISPATCH_REPO and \
                 DISPATCH_LABEL, and an author whom it serves (`authors` in [dispatch])",
            )
        }
    }
}

/// Branch, trace file and change.
fn branch(facts: &Facts<'_>) -> [Criterion; 3] {
    let Ordered {
        target,
        task_id,
        file,
        line,
        ..
    } = facts.ordered;
    let names = ["branch", "trace_file", "change"];
    let Some(branch) = &facts.seen.branch else {
        let [_, trace, change] = names.map(|name| Criterion::not_reached(name, "no branch"));
        let branch = if facts.seen.noticed_after.is_none() {
            Criterion::not_reached("branch", "no work was begun")
        } else {
            let wanted = WorkName::first(task_id).branch();
            Criterion::failed(
                "branch",
                missing(facts, &format!("{target} has no branch `{wanted}`")),
                format!("the token needs Contents: read and write on {target}"),
            )
        };
        return [branch, trace, change];
    };
    let trace_path = trace_path(branch);
    let trace = match &facts.seen.trace {
        Some(trace) if trace.contains(&task_metadata(task_id)) => {
            Criterion::met("trace_file", trace_path)
        }
        Some(_) => Criterion::failed(
            "trace_file",
            format!("`{trace_path}` does not hold the task's metadata"),
            "it was not written by this program: look at who pushes to the branch",
        ),
        None => Criterion::failed(
            "trace_file",
            format!("there is no `{trace_path}` on `{branch}`"),
            "it was not written by this program: look at who pushes to the branch",
        ),
    };
    let change = match &facts.seen.file {
        Some(text) if text.trim_end() == line => Criterion::met("change", file),
        Some(_) => Criterion::failed(
            "change",
            format!("`{file}` is another one than was asked for"),
            "`agent-runner explain latest` says what the agent did",
        ),
        None => Criterion::failed(
            "change",
            format!("there is no `{file}` on `{branch}`"),
            "`agent-runner explain latest` says what the agent did",
        ),
    };
    [Criterion::met("branch", branch), trace, change]
}

/// The pull request, its metadata and its reference.
fn pull(facts: &Facts<'_>) -> [Criterion; 3] {
    let Ordered {
        target,
        base,
        task_id,
        issue,
        ..
    } = facts.ordered;
    let [pull, others @ ..] = facts.seen.pulls.as_slice() else {
        let pull = if facts.seen.branch.is_none() {
            Criterion::not_reached("pull_request", "no branch")
        } else {
            Criterion::failed(
                "pull_request",
                missing(facts, &format!("{target} has no pull request for the task")),
                format!("the token needs Pull requests: read and write on {target}"),
            )
        };
        let rest = |name| Criterion::not_reached(name, "no pull request");
        return [pull, rest("metadata"), rest("reference")];
    };
    let opened = if !others.is_empty() {
        Criterion::failed(
            "pull_request",
            format!("there are {}, and not one", facts.seen.pulls.len()),
            "let the workers share their queue (AGENT_RUNNER_QUEUE_URL)",
        )
    } else if pull.base == *base {
        Criterion::met("pull_request", &pull.address)
    } else {
        Criterion::failed(
            "pull_request",
            format!(
                "{} goes to `{}`, and not to `{base}`",
                pull.address, pull.base
            ),
            "it was not opened by this program: look at who opened it",
        )
    };
    let metadata = match task_of(&pull.body) {
        Some(id) if id == *task_id => Criterion::met("metadata", task_metadata(task_id)),
        found => Criterion::failed(
            "metadata",
            match found {
                Some(other) => format!(
                    "the pull request names the task `{}`",
                    text::first_line(&other, 60)
                ),
                None => "the pull request names no task".to_owned(),
            },
            "whoever delegated the task cannot find it: look at who changed the text",
        ),
    };
    let (repository, number) = issue;
    let fixes = format!("Fixes {repository}#{number}");
    let reference = if closed_issues(&pull.body, target).contains(issue) {
        Criterion::met("reference", fixes)
    } else {
        Criterion::failed(
            "reference",
            format!("the pull request does not say `{fixes}`"),
            "merging it would not close the issue: look at who changed the text",
        )
    };
    [opened, metadata, reference]
}

fn comments(facts: &Facts<'_>) -> Criterion {
    const NAME: &str = "comments";
    let with = |sign: &str| {
        let comments = facts.seen.comments.iter();
        comments.filter(|text| text.starts_with(sign)).count()
    };
    let address = facts.seen.pulls.first().map(|pull| pull.address.as_str());
    let names_pull = |text: &&String| {
        text.starts_with('✅') && address.is_some_and(|address| text.contains(address))
    };
    match (with("🤖"), with("✅"), with("❌")) {
        (0, 0, 0) => Criterion::not_reached(NAME, "no work was begun"),
        (1, 1, 0) if facts.seen.comments.iter().any(|text| names_pull(&text)) => Criterion::met(
            NAME,
            "one 🤖 at the beginning, one ✅ with the pull request",
        ),
        (1, 1, 0) => Criterion::failed(
            NAME,
            "the ✅ comment does not name the pull request",
            "it was not written by this program: look at who comments",
        ),
        (_, _, failed) if failed > 0 => Criterion::failed(
            NAME,
            missing(facts, "the worker has failed"),
            "docs/agent-runner-setup.md, `When something is wrong`, has the reasons",
        ),
        (started, completed, _) => Criterion::failed(
            NAME,
            missing(
                facts,
                &format!("there are {started} 🤖 and {completed} ✅, and not one of each"),
            ),
            "let the workers share their queue (AGENT_RUNNER_QUEUE_URL); an end that is missing \
             may need more time (`--timeout`)",
        ),
    }
}

fn processed(facts: &Facts<'_>) -> Criterion {
    if has(&facts.seen.labels, PROCESSED) {
        return Criterion::met("label", PROCESSED);
    }
    if !facts
        .seen
        .comments
        .iter()
        .any(|text| text.starts_with('✅'))
    {
        return Criterion::not_reached("label", "the work was not completed");
    }
    Criterion::failed(
        "label",
        missing(facts, &format!("the issue lacks the label `{PROCESSED}`")),
        format!(
            "the token needs Issues: read and write on {}",
            facts.ordered.issue.0
        ),
    )
}

fn second_look(facts: &Facts<'_>) -> Criterion {
    const NAME: &str = "second_look";
    let (Some(later), true) = (facts.later, has(&facts.seen.labels, PROCESSED)) else {
        return Criterion::not_reached(NAME, "the work was not completed");
    };
    let seen = facts.seen;
    let changes: Vec<&str> = [
        (seen.comments != later.comments, "the comments"),
        (seen.labels != later.labels, "the labels"),
        (seen.pulls != later.pulls, "the pull request"),
        (seen.trace != later.trace, "the trace file"),
    ]
    .into_iter()
    .filter_map(|(differs, what)| differs.then_some(what))
    .collect();
    if changes.is_empty() {
        return Criterion::met(NAME, "one more look at the issue did nothing");
    }
    Criterion::failed(
        NAME,
        format!("one more look has changed {}", changes.join(", ")),
        "another program works on the same issues: give it another label",
    )
}

fn workspace(facts: &Facts<'_>) -> Criterion {
    match facts.left {
        [] => Criterion::met("workspace", "no clone is left on this machine"),
        [first, ..] => Criterion::failed(
            "workspace",
            format!("left: {}", first.display()),
            "`agent-runner clean` removes what nobody holds",
        ),
    }
}

/// Where the trace file of a branch lies.
pub fn trace_path(branch: &str) -> String {
    let name = branch.strip_prefix("agent-task-").unwrap_or(branch);
    format!("{TRACE_DIRECTORY}/{name}.md")
}

fn has(labels: &[String], label: &str) -> bool {
    let mut labels = labels.iter();
    labels.any(|known| known.eq_ignore_ascii_case(label))
}

/// What is missing, and why, as far as anybody has said so.
fn missing(facts: &Facts<'_>, what: &str) -> String {
    match reason(facts) {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    }
}

/// The reason of the ❌ comment, else what the worker has said.
fn reason(facts: &Facts<'_>) -> Option<String> {
    let mut comments = facts.seen.comments.iter();
    let failed = comments.find(|text| text.starts_with('❌'));
    let told = failed.and_then(|text| text.split_once("failed to process this task: "));
    let reason = told.map(|(_, reason)| reason).or(facts.reason)?;
    Some(text::first_line(reason, 300))
}
