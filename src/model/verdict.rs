//! The verdict: one pure function from everything that was seen to what is concluded.
//!
//! Four witnesses are heard and kept apart: the kernel ([`ProcessEnd`]), the agent
//! ([`AgentReport`]), the repository ([`RepositoryChange`]) and the task's own checks ([`Check`]).
//! What we did to the process outranks what the process did, and that outranks what the agent
//! says; the repository decides last. Unknown is never success.

use crate::model::change::{Attribution, Commit, RepositoryChange, Standing};
use crate::model::duration;
use crate::model::outcome::Outcome;
use crate::model::process_end::{ProcessEnd, ProcessExit, StopReason};
use crate::model::record::{Evidence, EvidenceSource};
use crate::model::report::{AgentReport, Ending, ErrorClass};
use crate::model::reset::ResetHint;
use crate::model::text;

/// What a task counts as done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// A run must leave a commit of its own.
    pub requires_commit: bool,
    /// A run that changes nothing is good, too.
    pub allow_no_change: bool,
    /// The least inserted and deleted lines for a commit to count.
    pub min_changes: u64,
}

/// What is known of the repository after the run: `None` where there is none, or why nothing is
/// known.
pub type Seen<'a> = Result<Option<&'a RepositoryChange>, &'a str>;

/// One of the task's own checks, carried out after the agent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// The command line.
    pub command: String,
    /// What went wrong, or nothing.
    pub failure: Option<String>,
}

/// What is concluded, and from what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// What became of the run.
    pub outcome: Outcome,
    /// The kind of failure, where there is one to tell.
    pub error_class: Option<ErrorClass>,
    /// What went wrong, in one sentence without a period; `None` when nothing did.
    pub error: Option<String>,
    /// When the limit that ended the run is over, as told.
    pub resets: Option<ResetHint>,
    /// The facts, in the order in which they were weighed.
    pub evidence: Vec<Evidence>,
}

impl Verdict {
    /// The same run, whose work whoever asked for it refuses.
    pub fn refuse(&mut self, reason: String) {
        self.outcome = Outcome::PolicyBlocked;
        self.evidence
            .push(Evidence::new(EvidenceSource::Policy, reason.clone()));
        self.error = Some(reason);
    }
}

/// Whether the task's own checks are worth carrying out: so far everything else is good.
pub fn wants_checks(
    end: &ProcessEnd,
    report: &AgentReport,
    change: Seen<'_>,
    policy: Policy,
) -> bool {
    conclude(end, report, change, &[], policy).outcome == Outcome::Success
}

/// Concludes what became of a run.
///
/// Total and pure.
pub fn conclude(
    end: &ProcessEnd,
    report: &AgentReport,
    change: Seen<'_>,
    checks: &[Check],
    policy: Policy,
) -> Verdict {
    let mut case = Case {
        evidence: Vec::new(),
    };
    case.hear_process(end);
    if !matches!(end.exit, ProcessExit::NotStarted(_)) {
        case.hear_agent(report);
    }
    match change {
        Ok(Some(change)) => case.hear_repository(change, policy),
        Ok(None) => {}
        Err(reason) => case.note(EvidenceSource::Git, unreadable(reason)),
    }
    let failed = checks.iter().any(|check| check.failure.is_some());
    let finding = process_finding(end, report)
        .or_else(|| agent_finding(end, report))
        .or_else(|| policy_finding(change.ok().flatten()))
        // For their sake commits may have been left off the branch.
        .or_else(|| failed.then(|| case.hear_checks(checks)))
        .or_else(|| commit_finding(report, change, policy))
        .unwrap_or_else(|| case.hear_checks(checks));
    case.close(finding)
}

/// A conclusion without its evidence.
struct Finding {
    outcome: Outcome,
    class: Option<ErrorClass>,
    error: Option<String>,
    resets: Option<ResetHint>,
}

impl Finding {
    fn bad(outcome: Outcome, class: Option<ErrorClass>, error: impl Into<String>) -> Self {
        Self {
            outcome,
            class,
            error: Some(error.into()),
            resets: None,
        }
    }

    fn good(outcome: Outcome) -> Self {
        Self {
            outcome,
            class: None,
            error: None,
            resets: None,
        }
    }
}

/// What our own doing and the kernel decide, whatever was printed.
fn process_finding(end: &ProcessEnd, report: &AgentReport) -> Option<Finding> {
    let took = duration::words(end.elapsed);
    if let Some(reason) = end.stopped {
        return Some(match reason {
            StopReason::Shutdown(signal) => Finding::bad(
                Outcome::Interrupted { signal },
                None,
                format!("the runner was stopped by signal {signal} after {took}"),
            ),
            StopReason::Limited => limited(report, &format!("ended after {took}")),
            StopReason::Timeout | StopReason::Stalled if report.waiting_for_limit => {
                limited(report, &format!("still waiting for it after {took}"))
            }
            StopReason::Timeout => Finding::bad(
                Outcome::Timeout,
                None,
                format!("the agent did not end within its time limit and was ended after {took}"),
            ),
            StopReason::Stalled => Finding::bad(
                Outcome::Stalled,
                None,
                format!(
                    "the agent printed nothing for its stall timeout and was ended after {took}"
                ),
            ),
        });
    }
    match &end.exit {
        ProcessExit::NotStarted(reason) => Some(Finding::bad(
            Outcome::StartFailed,
            Some(ErrorClass::Spawn),
            reason.clone(),
        )),
        ProcessExit::Unknown(reason) => Some(Finding::bad(
            Outcome::AgentError,
            Some(ErrorClass::Unknown),
            format!("the end of the agent's process is not known: {reason}"),
        )),
        ProcessExit::Code(_) | ProcessExit::Signal(_) => None,
    }
}

fn limited(report: &AgentReport, how: &str) -> Finding {
    let told = report
        .error
        .as_ref()
        .filter(|error| error.class == ErrorClass::RateLimit);
    let message = told.map_or("rate limit", |error| error.message.as_str());
    Finding {
        outcome: Outcome::RateLimited,
        class: Some(ErrorClass::RateLimit),
        error: Some(format!("{message} ({how})")),
        resets: told
            .and_then(|error| error.resets.clone())
            .or_else(|| report.limit_resets.clone()),
    }
}

/// What the agent's own words and its exit status decide.
fn agent_finding(end: &ProcessEnd, report: &AgentReport) -> Option<Finding> {
    if let Some(error) = &report.error {
        let outcome = match error.class {
            ErrorClass::RateLimit => Outcome::RateLimited,
            ErrorClass::Auth
            | ErrorClass::ModelNotFound
            | ErrorClass::Network
            | ErrorClass::Overloaded
            | ErrorClass::ContextLimit
            | ErrorClass::TurnLimit
            | ErrorClass::BudgetLimit
            | ErrorClass::PermissionDenied
            | ErrorClass::Refused
            | ErrorClass::Spawn
            | ErrorClass::Unknown => Outcome::AgentError,
        };
        let resets = error.resets.as_ref().or(report.limit_resets.as_ref());
        return Some(Finding {
            outcome,
            class: Some(error.class),
            error: Some(error.message.clone()),
            resets: resets
                .filter(|_| error.class == ErrorClass::RateLimit)
                .cloned(),
        });
    }
    let gave_up = report.ending == Ending::Missing && matches!(end.exit, ProcessExit::Code(_));
    if report.waiting_for_limit && gave_up {
        return Some(limited(report, "the agent gave up"));
    }
    let unknown = |error: String| {
        Some(Finding::bad(
            Outcome::AgentError,
            Some(ErrorClass::Unknown),
            error,
        ))
    };
    match &end.exit {
        ProcessExit::Signal(signal) => {
            return unknown(format!(
                "signal {signal} ended the agent, and the runner did not send it"
            ));
        }
        ProcessExit::Code(code) if *code != 0 => {
            return unknown(format!(
                "the agent exited with status {code} and named no error"
            ));
        }
        ProcessExit::Code(_) | ProcessExit::NotStarted(_) | ProcessExit::Unknown(_) => {}
    }
    match report.ending {
        Ending::Missing => unknown("the agent's output ends without its closing event".to_owned()),
        Ending::Completed | Ending::Untold if report.final_message.is_none() => {
            unknown("the agent ended without a final message".to_owned())
        }
        Ending::Completed | Ending::Untold => None,
    }
}

/// How many lost commits are named.
const MAX_LOST_NAMED: usize = 5;

/// What the task's rules forbid, however good the work is.
fn policy_finding(change: Option<&RepositoryChange>) -> Option<Finding> {
    let change = change?;
    let lost = change.lost_in_all();
    if let Some(newest) = lost.last() {
        let lost = match lost.len() {
            1 => format!("{newest} is not the run's own, and no branch has it now"),
            number => format!(
                "{} are not the run's own, and no branch has them now; the newest is {newest}",
                text::count(number, "commit")
            ),
        };
        return Some(Finding::bad(Outcome::PolicyBlocked, None, lost));
    }
    let gone = change.discarded_in_all();
    if !gone.is_empty() {
        return Some(Finding::bad(Outcome::PolicyBlocked, None, discarded(&gone)));
    }
    let (commit, path) = change
        .commits
        .iter()
        .filter(|commit| !matches!(commit.standing, Standing::Foreign { .. }))
        .find_map(|commit| Some((commit, commit.outside_paths.first()?)))?;
    Some(Finding::bad(
        Outcome::PolicyBlocked,
        None,
        format!(
            "commit {} touches `{path}`, which the task's paths do not allow",
            short(&commit.id)
        ),
    ))
}

fn discarded(paths: &[String]) -> String {
    let paths = named(paths);
    format!("uncommitted changes from before the run are gone: {paths}")
}

/// The most names in one fact.
const MAX_NAMED: usize = 20;

fn named(names: &[String]) -> String {
    match names.split_at_checked(MAX_NAMED) {
        Some((first, more)) if !more.is_empty() => {
            format!("{} and {} more", first.join(", "), more.len())
        }
        Some(_) | None => names.join(", "),
    }
}

/// Whether the commit is there that the task requires.
fn commit_finding(report: &AgentReport, change: Seen<'_>, policy: Policy) -> Option<Finding> {
    let change = match change {
        Ok(change) => change,
        Err(reason) => {
            let (outcome, class) = if policy.requires_commit {
                (Outcome::CommitMissing, None)
            } else {
                (Outcome::AgentError, Some(ErrorClass::Unknown))
            };
            return Some(Finding::bad(outcome, class, unreadable(reason)));
        }
    };
    if !policy.requires_commit {
        return None;
    }
    let class = (!report.permission_denials.is_empty()).then_some(ErrorClass::PermissionDenied);
    let missing = |error: String| Some(Finding::bad(Outcome::CommitMissing, class, error));
    let Some(change) = change else {
        return missing("there is no repository in which a commit could be seen".to_owned());
    };
    if change.own_commits().any(|commit| counts(commit, policy)) || change.keeps_earlier_commits() {
        return None;
    }
    // A denied tool, or an output that cannot say that it completed, is no claim of "nothing to do".
    let nothing_to_do = report.ending == Ending::Completed && class.is_none();
    if policy.allow_no_change && nothing_to_do && change.is_untouched() {
        return Some(Finding::good(Outcome::NoChange));
    }
    let mut reason = missing_commit_reason(change);
    if policy.allow_no_change && change.is_untouched() {
        reason += ", which is allowed only to an agent whose output says that it completed, with no tool denied";
    }
    missing(reason)
}

fn unreadable(reason: &str) -> String {
    format!("what the run changed is not known, the repository could not be read: {reason}")
}

fn missing_commit_reason(change: &RepositoryChange) -> String {
    let mut seen = Vec::new();
    let mut tell = |number: usize, what: &str| {
        if number > 0 {
            seen.push(format!("{} {what}", text::count(number, "commit")));
        }
    };
    let standing = |wanted: fn(&Standing) -> bool| {
        change
            .commits
            .iter()
            .filter(|commit| wanted(&commit.standing))
            .count()
    };
    tell(change.own_commits().count(), "empty or too small to count");
    tell(
        standing(|s| matches!(s, Standing::Amended { .. })),
        "amended instead of made",
    );
    tell(
        standing(|s| matches!(s, Standing::Elsewhere { .. })),
        "left off the branch",
    );
    tell(
        standing(|s| matches!(s, Standing::Foreign { .. })),
        "by somebody else",
    );
    if !change.left_uncommitted.is_empty() {
        seen.push(format!(
            "{} left uncommitted",
            text::count(change.left_uncommitted.len(), "path")
        ));
    }
    let earlier = change.earlier.as_ref();
    let earlier = earlier.filter(|earlier| !earlier.commits.is_empty());
    let mut more = earlier.map_or(String::new(), |earlier| format!("; {earlier}"));
    if let Some(fact) = locked(change) {
        more = format!("{more}; {fact}");
    }
    if seen.is_empty() {
        format!("the task requires a commit, and the run left no change at all{more}")
    } else {
        format!(
            "the task requires a commit of the run's own; there is: {}{more}",
            seen.join(", ")
        )
    }
}

fn locked(change: &RepositoryChange) -> Option<&'static str> {
    if !change.locked_after {
        return None;
    }
    Some(if change.locked_before {
        "the index was locked before the run and still is: if no git works there, remove the file that `git rev-parse --git-path index.lock` names"
    } else {
        "the index is locked since the run: if no git works there, remove the file that `git rev-parse --git-path index.lock` names"
    })
}

/// Whether a commit of the run's own satisfies a task that requires one.
pub fn counts(commit: &Commit, policy: Policy) -> bool {
    commit.standing == Standing::Own
        && commit.outside_paths.is_empty()
        && (commit.binary
            || commit.insertions + commit.deletions >= policy.min_changes
            // An empty file, or another mode.
            || policy.min_changes <= 1 && !commit.files.is_empty())
}

/// A commit's name as people read it.
pub fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The facts of a case as they are heard.
struct Case {
    evidence: Vec<Evidence>,
}

impl Case {
    fn note(&mut self, source: EvidenceSource, fact: impl Into<String>) {
        self.evidence.push(Evidence::new(source, fact));
    }

    fn hear_process(&mut self, end: &ProcessEnd) {
        use EvidenceSource::Process;
        match end.stopped {
            Some(StopReason::Shutdown(signal)) => {
                self.note(
                    Process,
                    format!("the runner got signal {signal} and ended the agent"),
                );
            }
            Some(StopReason::Timeout) => self.note(
                Process,
                "the time limit was reached; the runner ended the agent",
            ),
            Some(StopReason::Stalled) => self.note(
                Process,
                "the stall timeout was reached; the runner ended the agent",
            ),
            Some(StopReason::Limited) => self.note(
                Process,
                "the agent only waited for a rate limit; the runner ended it",
            ),
            None => {}
        }
        match &end.exit {
            ProcessExit::NotStarted(reason) => self.note(Process, format!("not started: {reason}")),
            ProcessExit::Code(code) => self.note(
                Process,
                format!(
                    "the agent exited with status {code} after {}",
                    duration::words(end.elapsed)
                ),
            ),
            ProcessExit::Signal(signal) => self.note(
                Process,
                format!(
                    "signal {signal} ended the agent after {}",
                    duration::words(end.elapsed)
                ),
            ),
            ProcessExit::Unknown(reason) => self.note(Process, format!("end unknown: {reason}")),
        }
        if end.leaked_output {
            self.note(
                Process,
                "a process still held the output pipe after the agent's end; it was closed",
            );
        }
        if end.survivors_killed > 0 {
            let number = text::count(end.survivors_killed as usize, "process")
                .replace("processs", "processes");
            self.note(Process, format!("{number} of the agent killed"));
        }
        if !end.unkillable.is_empty() {
            self.note(
                Process,
                format!("could not be killed: {:?}", end.unkillable),
            );
        }
    }

    fn hear_agent(&mut self, report: &AgentReport) {
        use EvidenceSource::Agent;
        match report.ending {
            Ending::Completed => self.note(Agent, "its output says that it completed"),
            Ending::Untold => self.note(Agent, "its output is plain text and has no closing event"),
            Ending::Missing => self.note(Agent, "its output has no closing event"),
        }
        if report.unreadable_events > 0 {
            let number = text::count(report.unreadable_events, "event");
            self.note(Agent, format!("{number} in its output could not be read"));
        }
        if let Some(error) = &report.error {
            let message = text::first_line(&error.message, 300);
            self.note(
                Agent,
                format!("it reported an error ({}): {message}", error.class),
            );
        }
        if report.waiting_for_limit {
            self.note(
                Agent,
                "the last thing it reported was that it waits for a rate limit",
            );
        }
        match &report.final_message {
            None => self.note(Agent, "it left no final message"),
            Some(message) => {
                self.note(
                    Agent,
                    format!("its last message: {}", text::first_line(message, 120)),
                );
            }
        }
        if !report.permission_denials.is_empty() {
            let mut tools = report.permission_denials.clone();
            tools.dedup();
            self.note(
                Agent,
                format!("it was denied permission for: {}", named(&tools)),
            );
        }
    }

    fn hear_repository(&mut self, change: &RepositoryChange, policy: Policy) {
        use EvidenceSource::Git;
        let name = |branch: &Option<String>| {
            branch
                .as_ref()
                .map_or("a detached HEAD".to_owned(), |branch| {
                    format!("branch `{branch}`")
                })
        };
        if change.branch_before != change.branch_after {
            let (before, after) = (name(&change.branch_before), name(&change.branch_after));
            self.note(
                Git,
                format!("the run began on {before} and left {after} checked out"),
            );
        }
        for commit in &change.commits {
            self.note(Git, describe(commit, policy));
        }
        let lost = change.lost_in_all();
        if !lost.is_empty() {
            let newest: Vec<&str> = (lost.iter().rev().take(MAX_LOST_NAMED))
                .map(String::as_str)
                .collect();
            let number = text::count(lost.len(), "commit");
            let fact = format!(
                "{number} that no branch has any more: {}",
                newest.join(", ")
            );
            self.note(Git, fact);
        }
        if change.commits.is_empty() {
            self.note(Git, "no commit appeared during the run");
        } else if change.attribution == Attribution::Range {
            self.note(
                Git,
                "no reflog entry explains the new head; commits were taken from the range since the old one",
            );
        }
        if !change.left_uncommitted.is_empty() {
            self.note(
                Git,
                format!("left uncommitted: {}", named(&change.left_uncommitted)),
            );
        }
        let earlier = change.earlier.iter().flat_map(|earlier| &earlier.discarded);
        let gone: Vec<String> = earlier.chain(&change.discarded).cloned().collect();
        if !gone.is_empty() {
            self.note(Git, discarded(&gone));
        }
        if !change.stashed.is_empty() {
            let paths = named(&change.stashed);
            self.note(
                Git,
                format!("uncommitted changes from before the run are in the stash now: {paths}"),
            );
        }
        if !change.changed_before.is_empty() {
            self.note(Git, "index or work tree already had changes before the run");
        }
        if let Some(operation) = &change.in_progress {
            self.note(Git, format!("a {operation} was left half-done"));
        }
        if let Some(fact) = locked(change) {
            self.note(Git, fact);
        }
    }

    fn hear_checks(&mut self, checks: &[Check]) -> Finding {
        for check in checks {
            match &check.failure {
                None => self.note(
                    EvidenceSource::Verify,
                    format!("`{}` passed", check.command),
                ),
                Some(failure) => {
                    self.note(
                        EvidenceSource::Verify,
                        format!("`{}` failed: {failure}", check.command),
                    );
                }
            }
        }
        checks
            .iter()
            .find_map(|check| {
                let failure = check.failure.as_ref()?;
                let first = text::first_line(failure, 200);
                Some(Finding::bad(
                    Outcome::VerifyFailed,
                    None,
                    format!("the task's check `{}` failed: {first}", check.command),
                ))
            })
            .unwrap_or(Finding::good(Outcome::Success))
    }

    fn close(self, finding: Finding) -> Verdict {
        Verdict {
            outcome: finding.outcome,
            error_class: finding.class,
            error: finding.error,
            resets: finding.resets,
            evidence: self.evidence,
        }
    }
}

fn describe(commit: &Commit, policy: Policy) -> String {
    let id = short(&commit.id);
    let subject = text::first_line(&commit.subject, 100);
    let lines = format!("+{}/-{}", commit.insertions, commit.deletions);
    let whose = match &commit.standing {
        Standing::Own if counts(commit, policy) => "the run's own".to_owned(),
        Standing::Own if !commit.outside_paths.is_empty() => {
            format!(
                "the run's own, outside the task's paths: {}",
                named(&commit.outside_paths)
            )
        }
        Standing::Own if commit.files.is_empty() => "the run's own, but empty".to_owned(),
        Standing::Own => format!(
            "the run's own, but below {} changed lines",
            policy.min_changes
        ),
        Standing::Amended { of } => format!("an amended {}, which was there before", short(of)),
        Standing::Elsewhere {
            branch: Some(branch),
        } => format!("the run's own, on branch `{branch}`"),
        Standing::Elsewhere { branch: None } => "the run's own, on no branch".to_owned(),
        Standing::Foreign { why, .. } => format!("not the run's: {why}"),
    };
    format!("commit {id} `{subject}` ({lines}): {whose}")
}
