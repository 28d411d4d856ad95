//! The story of one run, top to bottom: the only room that knows the order of things.
//!
//! Begin the record (no record, no run), look at the repository, start the agent and listen, read
//! its report, look at the repository again, carry out the task's checks, conclude, hear the objection
//! of whoever asked for the run, and finish the record with its notification in the outbox. It names
//! no concrete agent and no notifier.

mod aftermath;
mod apart;
mod begun;
mod filling;
mod listener;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::admission::{self, Admission, Refusal};
use crate::checks::{self, Ended};
use crate::git::{Git, GitError, LEAST_PATIENCE, Programs, Snapshot};
use crate::isolation;
use crate::model::change::RepositoryChange;
use crate::model::clock::Clock;
use crate::model::event::AgentEvent;
use crate::model::ids::RunPath;
use crate::model::invocation::Invocation;
use crate::model::message::Message;
use crate::model::outcome::Outcome;
use crate::model::process_end::{ProcessEnd, StopReason};
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::report::{AgentError, AgentReport, ErrorClass};
use crate::model::task::Overlap;
use crate::model::text;
use crate::model::verdict::{self, Check, Verdict};
use crate::occupancy::{self, Hold};
use crate::planner::{self, Place, RunPlan};
use crate::process::budget::{self, Budget};
use crate::process::containment;
use crate::process::shutdown::Shutdown;
use crate::process::supervise::{Act, Process, supervise};
use crate::redact::Redactor;
use crate::regular;
use crate::store::StoreError;
use crate::store::capped_log::LogCaps;
use crate::store::format;
use crate::store::layout::Layout;
use crate::store::recorder::RunFolder;

use crate::orchestrator::aftermath::{Aftermath, Looking};
use crate::orchestrator::apart::tell_apart;
use crate::orchestrator::begun::Begun;
pub(crate) use crate::orchestrator::begun::tell_by_outbox;
use crate::orchestrator::filling::describe_start;
use crate::orchestrator::listener::{Heard, Listener};

/// Words what is told of a finished run; `None` when it is not told.
pub type Announce<'a> = dyn Fn(&Record) -> Option<Message> + 'a;

/// Tells why whoever asked for the run refuses what it left; `None` when they do not.
pub type Objection = dyn Fn() -> Pin<Box<dyn Future<Output = Option<String>>>>;

/// What a run needs from outside.
#[expect(missing_debug_implementations, reason = "it holds borrowed closures")]
pub struct Services<'a> {
    /// Tells the time of day.
    pub clock: &'a dyn Clock,
    /// Where records go.
    pub layout: &'a Layout,
    /// How much of the output is kept.
    pub caps: LogCaps,
    /// Words what is told of a finished run; `None` when nobody is to be told.
    pub announce: Option<&'a Announce<'a>>,
    /// Asked before a good run is final; `None` when nobody has an objection.
    pub objection: Option<&'a Objection>,
    /// Hears which run has begun, so that the runner's own log can follow it.
    pub begun: &'a dyn Fn(&RunFolder),
    /// Shows the run while it works.
    pub spectator: &'a mut dyn Spectator,
    /// The programs that were configured before the first of several runs, one after another: git
    /// runs no other for a later one.
    pub first_programs: &'a mut Option<Programs>,
    /// Asks the runner to stop.
    pub shutdown: &'a mut Shutdown,
}

/// Watches a run while it works.
pub trait Spectator {
    /// Sees what the agent printed, byte by byte.
    fn printed(&mut self, bytes: &[u8]);
    /// Sees the events that it completed.
    fn happened(&mut self, events: &[AgentEvent], elapsed: Duration);
    /// Sees what is done to the agent's process.
    fn acted(&mut self, act: Act);
}

/// Runs a plan to its final record, and tells what it changed, as far as that is known.
///
/// Whatever becomes of the agent is in the record; a notification waits in the outbox.
///
/// # Errors
/// When no record could be made: nothing was started. Or when the final record could not be
/// written: the run is over, and its record still says `running`.
pub async fn run(
    plan: &RunPlan,
    services: &mut Services<'_>,
) -> Result<(Record, Option<RepositoryChange>), StoreError> {
    let mut begun = Begun::new(plan, services)?;
    let is_apart = isolation::is_wanted(plan);
    // It may wait long, and a run that has begun has a record.
    let begun_early = if plan.task.overlap == Overlap::Wait && !is_apart {
        begun.folder.begin(&begun.record)
    } else {
        Ok(())
    };
    let mut story = match begun_early {
        Err(error) => not_started(plan, text::chain(&error)),
        Ok(()) if is_apart => tell_apart(plan, services, &mut begun).await,
        Ok(()) => match occupancy::hold(plan, services.shutdown).await {
            Hold::Ours(_lock) => tell_or_refuse(plan, services, &mut begun).await,
            Hold::Refused(verdict) => unstarted(verdict),
        },
    };
    hear_objection(plan, services, &mut story).await;
    let change = story.change.clone().ok().flatten();
    Ok((begun.end(plan, services, story)?, change))
}

/// Records that a plan is not started, and why.
///
/// # Errors
/// When no record could be made or finished.
pub fn refuse(
    plan: &RunPlan,
    refusal: Refusal,
    services: &Services<'_>,
) -> Result<Record, StoreError> {
    Begun::new(plan, services)?.end(plan, services, refused(refusal))
}

/// What was seen of a run, from every side.
struct Story {
    end: ProcessEnd,
    report: AgentReport,
    /// `None` where there is no repository, or why nothing is known of it.
    change: Result<Option<RepositoryChange>, String>,
    checks: Vec<Check>,
    verdict: Verdict,
    /// What git was asked after the agent, to be asked again.
    aftermath: Option<Arc<Aftermath>>,
    dropped_bytes: u64,
    notes: Vec<Evidence>,
    /// What kept it from starting.
    refusal: Option<Refusal>,
}

impl Story {
    fn judge(&mut self, plan: &RunPlan) {
        let seen = seen(&self.change);
        self.verdict =
            verdict::conclude(&self.end, &self.report, seen, &self.checks, plan.policy());
    }

    fn note(&mut self, source: EvidenceSource, fact: String) {
        self.notes.push(Evidence::new(source, fact));
    }
}

fn seen(change: &Looking) -> Result<Option<&RepositoryChange>, &str> {
    change.as_ref().map(Option::as_ref).map_err(String::as_str)
}

/// Tells the story; where there is no room for its files, the agent is not started. The space that
/// was kept for the run's end may be enough for a record that says so.
async fn tell_or_refuse(plan: &RunPlan, services: &mut Services<'_>, begun: &mut Begun) -> Story {
    let story = tell(plan, services, begun).await;
    story.unwrap_or_else(|error| not_started(plan, text::chain(&error)))
}

/// # Errors
/// Before the agent is started.
async fn tell(
    plan: &RunPlan,
    services: &mut Services<'_>,
    begun: &mut Begun,
) -> Result<Story, StoreError> {
    let Begun {
        folder,
        redactor,
        record,
        since: _,
    } = begun;
    let (folder, redactor) = (&*folder, &*redactor);
    // What the repository names as its filters is run by git, and an agent may have named it.
    let environment = planner::inheritable(&plan.inherited, &[], &[]);
    let git = Git::new(&environment, &plan.repository).ignoring(services.layout.root());
    let mark = folder.run().to_string();
    let start = record.start_time.unwrap_or_default();
    if let Err(error) = containment::adopt_orphans() {
        tracing::warn!(%error, "what git is made to start may outlive the run");
    }
    let look = {
        let first = services.first_programs.clone();
        let requires_commit = plan.policy().requires_commit;
        move |budget: &Budget| snapshot(git.within(budget), first.as_ref(), start, requires_commit)
    };
    let (looked, signal) = budget::within(FIRST_LOOK, services.shutdown, look).await;
    if let Some(signal) = signal {
        containment::kill_started(&marker(folder.run(), std::process::id()));
        let meanwhile = "while it looked at the repository";
        return Ok(refused(Refusal::stopped(signal, meanwhile)));
    }
    let (git, before, programs) = match looked {
        Ok(looked) => looked,
        Err(reason) => return Ok(not_started(plan, reason)),
    };
    services.first_programs.get_or_insert(programs);
    let private_directory = folder.directory().private_directory();
    let identity = before
        .as_ref()
        .map(|before| before.identity(&plan.identity));
    let identity = identity.as_ref().unwrap_or(&plan.identity);
    let git_environment = git.agent_environment(&mark, identity);
    let place = Place {
        run: folder.run(),
        private_directory: &private_directory,
        branch: before.as_ref().and_then(Snapshot::branch),
        start,
        git_environment: &git_environment,
    };
    let prepared = match planner::prepare(plan, place) {
        Ok(prepared) => prepared,
        Err(reason) => return Ok(not_started(plan, reason)),
    };
    let (layout, clock) = (services.layout, services.clock);
    let turn = match admission::admit(plan, layout, clock, services.shutdown).await? {
        Admission::Granted(turn) => turn,
        Admission::Refused(refusal) => return Ok(refused(refusal)),
    };
    describe_start(record, &prepared, before.as_ref());
    folder.write_prompt(&redactor.text(&prepared.prompt))?;
    folder.create_private_directory()?;
    folder.begin(record)?;
    drop(turn);
    if let Err(reason) = write_private_files(&prepared.invocation) {
        return Ok(not_started(plan, reason));
    }

    let (now, caps) = (services.clock.now(), services.caps);
    let mut listener = Listener::new(plan, folder, caps, now, services.spectator, redactor)?;
    let process = Process {
        program: &prepared.invocation.program,
        arguments: &prepared.invocation.arguments,
        directory: &plan.repository,
        environment: &prepared.environment,
        stdin: &prepared.invocation.stdin,
        containment: plan.task.containment,
        stop_signal: prepared.invocation.stop_signal,
        marker: &marker(folder.run(), std::process::id()),
    };
    let end = supervise(&process, plan.limits, &mut listener, services.shutdown).await;
    let result_file = prepared
        .invocation
        .result_file
        .as_deref()
        .and_then(read_result_file);
    let mut heard = listener.finish(end, result_file.as_deref());
    if let Err(error) = fs::remove_dir_all(&private_directory) {
        tracing::warn!(%error, "private files stay behind");
    }

    let aftermath = Aftermath {
        git,
        before,
        mark,
        paths: plan.task.paths.clone(),
        patches: if heard.report.error.is_none() {
            std::mem::take(&mut heard.report.patches)
        } else {
            Vec::new()
        },
        subject: format!("Apply the answer of {} to {}", plan.agent, plan.task.name),
        identity: plan.identity.clone(),
        earlier: plan.earlier.clone(),
    };
    Ok(judge_what_was_left(plan, services, begun, aftermath, heard).await)
}

/// Looks at the repository after the agent, has the task's checks carried out and concludes.
async fn judge_what_was_left(
    plan: &RunPlan,
    services: &mut Services<'_>,
    begun: &Begun,
    aftermath: Aftermath,
    heard: Heard,
) -> Story {
    let Heard {
        mut end,
        mut report,
        dropped_bytes,
        mut notes,
    } = heard;
    let (folder, redactor) = (&begun.folder, &begun.redactor);
    let patience = patience(&aftermath);
    let look = move |budget: &Budget| {
        let (applied, change) = aftermath.look(budget);
        (aftermath, applied, change)
    };
    let ((aftermath, applied, mut change), signal) =
        budget::within(patience, services.shutdown, look).await;
    end.stopped = end.stopped.or(signal.map(StopReason::Shutdown));
    match applied {
        Ok(Some(applied)) => {
            let fact = format!("the runner applied the diffs in the answer: {applied}");
            notes.push(Evidence::new(EvidenceSource::Git, fact));
        }
        Ok(None) => {}
        Err(message) => report.error = Some(AgentError::new(ErrorClass::Unknown, message)),
    }
    let aftermath = Arc::new(aftermath);
    let mut checks = Vec::new();
    if verdict::wants_checks(&end, &report, seen(&change), plan.policy()) {
        checks = carry_out_checks(plan, folder, services, redactor, &mut end).await;
    }
    sweep(folder.run(), &mut end);
    if !checks.is_empty() {
        change = look_again(&aftermath, None, change, services, &mut end).await;
    }
    let verdict = verdict::conclude(&end, &report, seen(&change), &checks, plan.policy());
    Story {
        end,
        report,
        change,
        checks,
        verdict,
        aftermath: Some(aftermath),
        dropped_bytes,
        notes,
        refusal: None,
    }
}

fn patience(aftermath: &Aftermath) -> Duration {
    let before = aftermath.before.as_ref();
    before.map_or(LEAST_PATIENCE, Snapshot::patience)
}

/// What the run's time changed, where the checks moved what had been looked at; an agent may have
/// written them. What else they left is not the run's.
async fn look_again(
    aftermath: &Arc<Aftermath>,
    onto: Option<String>,
    seen: Looking,
    services: &mut Services<'_>,
    end: &mut ProcessEnd,
) -> Looking {
    let patience = patience(aftermath);
    let aftermath = Arc::clone(aftermath);
    let look = move |budget: &Budget| aftermath.compare(onto.as_deref(), budget);
    let (now, signal) = budget::within(patience, services.shutdown, look).await;
    end.stopped = end.stopped.or(signal.map(StopReason::Shutdown));
    let place = |change: &RepositoryChange| {
        let ids = change.commits.iter().map(|commit| commit.id.clone());
        let ids: Vec<String> = ids.collect();
        (change.head_after.clone(), change.branch_after.clone(), ids)
    };
    match (&seen, &now) {
        (Ok(Some(before)), Ok(Some(after))) if place(before) == place(after) => seen,
        (Ok(None), Ok(None)) => seen,
        _ => now,
    }
}

/// Ends what git or a check was made to start.
fn sweep(run: &RunPath, end: &mut ProcessEnd) {
    let sweep = containment::kill_started(&marker(run, std::process::id()));
    end.survivors_killed += sweep.killed;
    end.unkillable.extend(sweep.unkillable);
    end.unkillable.sort_unstable();
    end.unkillable.dedup();
}

/// Lets whoever asked for the run refuse what it left, when all else is good.
async fn hear_objection(plan: &RunPlan, services: &mut Services<'_>, story: &mut Story) {
    let did_its_work = matches!(story.verdict.outcome, Outcome::Success | Outcome::NoChange);
    let Some(objection) = services.objection.filter(|_| did_its_work) else {
        return;
    };
    tokio::select! {
        refused = objection() => {
            if let Some(reason) = refused {
                story.verdict.refuse(reason);
            }
        }
        signal = services.shutdown.next() => {
            story.end.stopped = Some(StopReason::Shutdown(signal));
            story.judge(plan);
        }
    }
}

/// The longest look at the repository before the run: `git status` of a work tree with a million
/// files on a cold disk needs most of a minute.
const FIRST_LOOK: Duration = Duration::from_mins(2);

/// The repository before the run, by the programs that were configured at the first look, and with
/// those that are; `None` where there is none and none is needed.
fn snapshot(
    mut git: Git,
    first: Option<&Programs>,
    start: DateTime<Utc>,
    requires_commit: bool,
) -> Result<(Git, Option<Snapshot>, Programs), String> {
    let mut look = || {
        if let Some(first) = first {
            git = git.with_programs_since(first)?;
        }
        git.snapshot(start)
    };
    let looked = match look() {
        Ok(before) => Ok((before.programs().clone(), Some(before))),
        Err(GitError::NotARepository { .. }) if !requires_commit => {
            git.programs_of_user().map(|programs| (programs, None))
        }
        Err(error) => Err(error),
    };
    let (programs, before) = looked.map_err(|error| text::chain(&error))?;
    Ok((git, before, programs))
}

fn not_started(plan: &RunPlan, reason: String) -> Story {
    let end = ProcessEnd::not_started(reason);
    let report = AgentReport::default();
    unstarted(verdict::conclude(
        &end,
        &report,
        Ok(None),
        &[],
        plan.policy(),
    ))
}

/// The story of a run whose agent was never started.
fn unstarted(verdict: Verdict) -> Story {
    let end = ProcessEnd::not_started("");
    let report = AgentReport::default();
    Story {
        end,
        report,
        change: Ok(None),
        checks: Vec::new(),
        verdict,
        aftermath: None,
        dropped_bytes: 0,
        notes: Vec::new(),
        refusal: None,
    }
}

fn refused(refusal: Refusal) -> Story {
    Story {
        refusal: Some(refusal.clone()),
        ..unstarted(refusal.verdict)
    }
}

/// A text that only processes of this run carry in their environment; `runner` is the number of
/// the process that supervises it.
pub(crate) fn marker(run: &RunPath, runner: u32) -> String {
    format!("{run}@{runner}")
}

/// Writes the files that the invocation needs, readable by this user alone.
fn write_private_files(invocation: &Invocation) -> Result<(), String> {
    for file in &invocation.private_files {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file.path)
            .and_then(|mut handle| handle.write_all(&file.contents))
            .map_err(|error| format!("cannot write `{}`: {error}", file.path.display()))?;
    }
    Ok(())
}

/// The largest result file that is read.
const MAX_RESULT_BYTES: u64 = 1024 * 1024;

/// Reads what the agent wrote aside. It may have put a pipe, a link or a giant there instead.
fn read_result_file(path: &Path) -> Option<String> {
    let text = regular::read(path, MAX_RESULT_BYTES).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// Runs the task's own checks; a request to stop meanwhile ends the run as interrupted.
async fn carry_out_checks(
    plan: &RunPlan,
    folder: &RunFolder,
    services: &mut Services<'_>,
    redactor: &Redactor,
    end: &mut ProcessEnd,
) -> Vec<Check> {
    if plan.task.verify.is_empty() {
        return Vec::new();
    }
    let marker = marker(folder.run(), std::process::id());
    // The log is for reading along; the result does not depend on it.
    let mut log = match folder.checks(services.caps) {
        Ok(log) => Some(log),
        Err(error) => {
            tracing::warn!(error = text::chain(&error), "the checks have no log");
            None
        }
    };
    let clock = services.clock;
    let mut note = |ended: &Ended<'_>| {
        let command = redactor.text(&ended.check.command);
        let (how, elapsed, output) = (ended.how, ended.elapsed, ended.output);
        let line = format::check_line(clock.now(), &command, how, elapsed, output);
        if let Err(error) = folder.add_event(&line) {
            tracing::warn!(error = text::chain(&error), "a check is not in the events");
        }
    };
    let shutdown = &mut *services.shutdown;
    let (checks, stopped) =
        checks::carry_out(plan, &marker, &mut log, redactor, shutdown, &mut note).await;
    if let Some(error) = log.and_then(|log| log.finish().error) {
        tracing::warn!(%error, "the checks' log is not complete");
    }
    end.stopped = end.stopped.or(stopped);
    checks
}
