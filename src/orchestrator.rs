//! The story of one run, top to bottom: the only room that knows the order of things.
//!
//! Begin the record (no record, no run), look at the repository, start the agent and listen, read
//! its report, look at the repository again, carry out the task's checks, conclude, and finish the
//! record with its notification in the outbox. It names no concrete agent and no notifier.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use crate::admission::{self, Admission, Refusal};
use crate::agents::{AgentExit, TranscriptParser};
use crate::checks::{self, Ended};
use crate::git::{
    Applied, Git, GitError, Homecoming, Identity, LEAST_PATIENCE, PatchError, Snapshot,
};
use crate::isolation::{self, Ending, Room};
use crate::model::change::{Commit, RepositoryChange};
use crate::model::clock::Clock;
use crate::model::event::AgentEvent;
use crate::model::ids::RunPath;
use crate::model::message::Message;
use crate::model::outcome::Outcome;
use crate::model::process_end::{ProcessEnd, StopReason, Stream};
use crate::model::record::{CommitRecord, Evidence, EvidenceSource, NotificationState, Record};
use crate::model::report::{AgentError, AgentReport, ErrorClass};
use crate::model::task::Overlap;
use crate::model::text;
use crate::model::verdict::{self, Check, Verdict};
use crate::occupancy::{self, Hold};
use crate::planner::{self, Place, Prepared, RunPlan};
use crate::process::budget::{self, Budget};
use crate::process::containment;
use crate::process::identity;
use crate::process::shutdown::Shutdown;
use crate::process::supervise::{Act, Observer, Process, supervise};
use crate::process::watchdog::Activity;
use crate::redact::{Masked, Redactor};
use crate::store::StoreError;
use crate::store::capped_log::{CappedLog, LogCaps, LogEnd};
use crate::store::event_log::EventLog;
use crate::store::format;
use crate::store::layout::Layout;
use crate::store::outbox::{Entry, Outbox};
use crate::store::recorder::RunFolder;

/// Words what is told of a finished run; `None` when it is not told.
pub type Announce<'a> = dyn Fn(&Record) -> Option<Message> + 'a;

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
    /// Hears which run has begun, so that the runner's own log can follow it.
    pub begun: &'a dyn Fn(&RunFolder),
    /// Shows the run while it works.
    pub spectator: &'a mut dyn Spectator,
    /// Asks the runner to stop.
    pub shutdown: &'a mut Shutdown,
}

/// Watches a run while it works.
pub trait Spectator: fmt::Debug {
    /// Sees what the agent printed, byte by byte.
    fn printed(&mut self, bytes: &[u8]);
    /// Sees the events that it completed.
    fn happened(&mut self, events: &[AgentEvent], elapsed: Duration);
    /// Sees what is done to the agent's process.
    fn acted(&mut self, act: Act);
}

/// Runs a plan to its final record.
///
/// Whatever becomes of the agent is in the record; a notification waits in the outbox.
///
/// # Errors
/// When no record could be made: nothing was started. Or when the final record could not be
/// written: the run is over, and its record still says `running`.
pub async fn run(plan: &RunPlan, services: &mut Services<'_>) -> Result<Record, StoreError> {
    let mut begun = Begun::new(plan, services)?;
    if plan.task.overlap == Overlap::Wait && !isolation::is_wanted(plan) {
        // It may wait long, and a run that has begun has a record.
        begun.folder.begin(&begun.record)?;
    }
    let story = if isolation::is_wanted(plan) {
        tell_apart(plan, services, &mut begun).await?
    } else {
        match occupancy::hold(plan, services.shutdown).await {
            Hold::Ours(_lock) => tell(plan, services, &mut begun).await?,
            Hold::Refused(verdict) => unstarted(verdict),
        }
    };
    begun.end(plan, services, story)
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

/// A run that has a directory and no end.
struct Begun {
    /// Durations are not the difference of two times of day: the clock may be set meanwhile.
    since: Instant,
    folder: RunFolder,
    redactor: Redactor,
    record: Record,
}

impl Begun {
    fn new(plan: &RunPlan, services: &Services<'_>) -> Result<Self, StoreError> {
        let start = services.clock.now();
        let folder = RunFolder::create(services.layout, &plan.task.name, &plan.agent, start)?;
        (services.begun)(&folder);
        tracing::info!(run = %folder.run(), "run begins");
        let mut record = opening(plan, folder.run(), start);
        if plan.task.notify && services.announce.is_some() {
            // Whoever finds the run without its runner knows from this that it is to be told.
            record.notification.state = NotificationState::Pending;
        }
        Ok(Self {
            since: Instant::now(),
            folder,
            redactor: Redactor::new(plan.secrets.iter().map(String::as_str)),
            record,
        })
    }

    fn end(
        self,
        plan: &RunPlan,
        services: &Services<'_>,
        mut story: Story,
    ) -> Result<Record, StoreError> {
        let Self {
            since,
            folder,
            redactor,
            mut record,
        } = self;
        if folder.make_room()? {
            let fact = "the run's directory was gone at its end, and what it held is lost";
            story.note(EvidenceSource::Runner, fact.to_owned());
        }
        let now = services.clock.now();
        close(&mut record, plan, &story, now);
        record.elapsed = Some(since.elapsed().max(story.end.elapsed));
        mask(&mut record, &redactor);
        if record.outcome == Outcome::RateLimited && record.was_started() {
            admission::park(plan, services.layout, &mut record, now);
        }
        if record.notification.state == NotificationState::Pending
            && let Some(refusal) = &story.refusal
            && !refusal.first_told(services.layout)
        {
            record.notification.state = NotificationState::Disabled;
        }
        let (announce, layout) = (services.announce, services.layout);
        if let Err(error) = tell_by_outbox(&mut record, announce, layout, folder.run(), now) {
            let fact = format!("nobody is told of the run: {}", planner::chain(&error));
            let evidence = Evidence::new(EvidenceSource::Runner, fact);
            record.evidence.push(evidence);
        }
        tracing::info!(outcome = %record.outcome, error = record.error, "run ended");
        folder.finish(&record)?;
        Ok(record)
    }
}

/// Puts the notification where it survives, before the record is final: of a run that is to be
/// told, as its record says, when there is somebody to tell.
pub(crate) fn tell_by_outbox(
    record: &mut Record,
    announce: Option<&Announce<'_>>,
    layout: &Layout,
    run: &RunPath,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let wanted = record.notification.state == NotificationState::Pending;
    let message = announce
        .filter(|_| wanted)
        .and_then(|announce| announce(record));
    let Some(message) = message else {
        record.notification.state = NotificationState::Disabled;
        return Ok(());
    };
    let entry = Entry::of_run(run, record.outcome, message, now);
    Outbox::new(layout)
        .put(&entry)
        .inspect_err(|_| record.notification.state = NotificationState::Disabled)?;
    record.notification.id = Some(entry.id().to_owned());
    Ok(())
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
        let seen = self.change.as_ref().map(Option::as_ref);
        self.verdict = verdict::conclude(
            &self.end,
            &self.report,
            seen.map_err(String::as_str),
            &self.checks,
            plan.policy(),
        );
    }

    fn note(&mut self, source: EvidenceSource, fact: String) {
        self.notes.push(Evidence::new(source, fact));
    }
}

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
        let (git, requires_commit) = (git.clone(), plan.policy().requires_commit);
        move |budget: &Budget| snapshot(&git.within(budget), start, requires_commit)
    };
    let (before, signal) = budget::within(FIRST_LOOK, services.shutdown, look).await;
    if let Some(signal) = signal {
        containment::kill_started(&marker(folder.run(), std::process::id()));
        let meanwhile = "while it looked at the repository";
        return Ok(refused(Refusal::stopped(signal, meanwhile)));
    }
    let private_directory = folder.directory().private_directory();
    let prepared = before.as_ref().map_err(Clone::clone).and_then(|before| {
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
        planner::prepare(plan, place)
    });
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => return Ok(not_started(plan, reason)),
    };
    let before = before.ok().flatten();
    let turn = match admission::admit(plan, services.layout, services.clock.now())? {
        Admission::Granted(turn) => turn,
        Admission::Refused(refusal) => return Ok(refused(refusal)),
    };
    describe_start(record, &prepared, before.as_ref());
    folder.write_prompt(&redactor.text(&prepared.prompt))?;
    folder.create_private_directory()?;
    folder.begin(record)?;
    drop(turn);
    if let Err(reason) = planner::write_private_files(&prepared.invocation) {
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
    let mut end = supervise(&process, plan.limits, &mut listener, services.shutdown).await;
    let result_file = prepared
        .invocation
        .result_file
        .as_deref()
        .and_then(read_result_file);
    let (mut report, dropped_bytes, mut notes) = listener.finish(&end, result_file.as_deref());
    if let Err(error) = fs::remove_dir_all(&private_directory) {
        tracing::warn!(%error, "private files stay behind");
    }

    let patience = before.as_ref().map_or(LEAST_PATIENCE, Snapshot::patience);
    let aftermath = Aftermath {
        git,
        before,
        mark,
        paths: plan.task.paths.clone(),
        patches: if report.error.is_none() {
            std::mem::take(&mut report.patches)
        } else {
            Vec::new()
        },
        subject: format!("Apply the answer of {} to {}", plan.agent, plan.task.name),
        identity: plan.identity.clone(),
    };
    let look = move |budget: &Budget| {
        let (applied, change) = aftermath.look(budget);
        (aftermath, applied, change)
    };
    let ((aftermath, applied, change), signal) =
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
    let seen = change.as_ref().map(Option::as_ref).map_err(String::as_str);
    let mut checks = Vec::new();
    if verdict::wants_checks(&end, &report, seen, plan.policy()) {
        checks = carry_out_checks(plan, folder, services, redactor, &mut end).await;
    }
    // What git or a check was made to start.
    end.survivors_killed +=
        containment::kill_started(&marker(folder.run(), std::process::id())).killed;
    let verdict = verdict::conclude(&end, &report, seen, &checks, plan.policy());
    Ok(Story {
        end,
        report,
        change,
        checks,
        verdict,
        aftermath: Some(Arc::new(aftermath)),
        dropped_bytes,
        notes,
        refusal: None,
    })
}

/// The story of a run in a work tree of its own. The repository is held only at its end.
async fn tell_apart(
    plan: &RunPlan,
    services: &mut Services<'_>,
    begun: &mut Begun,
) -> Result<Story, StoreError> {
    let environment = planner::inheritable(&plan.inherited, &[], &[]);
    let git = Git::new(&environment, &plan.repository);
    let make = {
        let (git, layout) = (git.clone(), services.layout.clone());
        let run = begun.folder.run().clone();
        let base = plan.base.clone();
        move |budget: &Budget| Room::make(&git.within(budget), &layout, &run, base.as_deref())
    };
    let (room, signal) = budget::within(isolation::MAKING, services.shutdown, make).await;
    let room = match room {
        Ok(room) => room,
        Err(_) if let Some(signal) = signal => {
            let meanwhile = "while it made a work tree";
            return Ok(refused(Refusal::stopped(signal, meanwhile)));
        }
        Err(reason) => return Ok(not_started(plan, reason)),
    };
    begun.record.branch = Some(room.home().to_owned());
    let mut story = match signal {
        None => tell(&room.plan(plan), services, begun).await?,
        Some(signal) => refused(Refusal::stopped(signal, "while it made a work tree")),
    };
    if story.verdict.outcome.is_good() {
        bring_home(plan, services, &room, &mut story).await;
    }
    if story.change.is_err() {
        // Tidying up would wait for what looking has waited for.
        story.notes.push(room.left());
        return Ok(story);
    }
    let was_started = begun.record.was_started();
    let aftermath = story.aftermath.clone();
    let put_away = move |budget: &Budget| {
        let guarded = aftermath.map(|aftermath| aftermath.git(budget));
        let git = guarded.unwrap_or_else(|| Ok(git.within(budget)));
        room.put_away(git, was_started)
    };
    let (left, _) = budget::within(isolation::ENDING, services.shutdown, put_away).await;
    story.notes.extend(left);
    Ok(story)
}

/// Brings the commits of a good run to the branch where it began; where that fails, the run is
/// judged again without them.
async fn bring_home(plan: &RunPlan, services: &mut Services<'_>, room: &Room, story: &mut Story) {
    let (Some(aftermath), Ok(Some(change))) = (story.aftermath.clone(), story.change.clone())
    else {
        return;
    };
    if change.commits.is_empty() {
        return;
    }
    let mut patient = plan.clone();
    patient.task.overlap = Overlap::Wait;
    let ending = match occupancy::hold(&patient, services.shutdown).await {
        Hold::Refused(verdict) => {
            if let Outcome::Interrupted { signal } = verdict.outcome {
                story.end.stopped = Some(StopReason::Shutdown(signal));
            }
            Err(verdict.error.unwrap_or_default())
        }
        Hold::Ours(_lock) => {
            let room = room.clone();
            let come = move |budget: &Budget| aftermath.bring_home(&room, &change, budget);
            let (ending, signal) = budget::within(isolation::ENDING, services.shutdown, come).await;
            let stopped = signal.map(StopReason::Shutdown);
            story.end.stopped = story.end.stopped.or(stopped);
            ending.map_err(|error| planner::chain(&error))
        }
    };
    let (home, branch) = (room.home(), room.branch());
    let why = match ending {
        Ok(Ending {
            homecoming: Homecoming::Nothing,
            ..
        }) => return,
        Ok(Ending {
            homecoming: Homecoming::Home { onto },
            change,
        }) => {
            if let Some(onto) = onto {
                let after = if story.checks.is_empty() {
                    ""
                } else {
                    ", after the task's checks"
                };
                let onto = verdict::short(&onto);
                let fact = format!("the run's commits were rebased onto {onto}{after}");
                story.note(EvidenceSource::Git, fact);
            }
            if let Some(change) = change {
                story.change = Ok(Some(change));
            }
            story.judge(plan);
            return;
        }
        Ok(Ending {
            homecoming: Homecoming::Left { why },
            ..
        })
        | Err(why) => why,
    };
    if let Ok(Some(change)) = &mut story.change {
        isolation::strand(change, branch);
    }
    story.judge(plan);
    let fact = format!("the run's commits are on `{branch}` and not on `{home}`: {why}");
    if let Some(error) = &mut story.verdict.error {
        *error = format!("{error}; {fact}");
    }
    story.note(EvidenceSource::Git, fact);
}

/// The longest look at the repository before the run: `git status` of a work tree with a million
/// files on a cold disk needs most of a minute.
const FIRST_LOOK: Duration = Duration::from_mins(2);

/// The repository before the run; `None` where there is none and none is needed.
fn snapshot(
    git: &Git,
    start: DateTime<Utc>,
    requires_commit: bool,
) -> Result<Option<Snapshot>, String> {
    match git.snapshot(start) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(GitError::NotARepository { .. }) if !requires_commit => Ok(None),
        Err(error) => Err(planner::chain(&error)),
    }
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

fn opening(plan: &RunPlan, run: &RunPath, start: DateTime<Utc>) -> Record {
    let mut record = Record::begun(&run.task, &run.agent, run.run_id.clone(), start);
    record.requires_commit = Some(plan.policy().requires_commit);
    record.debug_prompt = plan.debug_prompt.map(str::to_owned);
    record.previous_run.clone_from(&plan.previous_run);
    record.source = plan.request.as_ref().map(|request| request.origin.clone());
    record.model.clone_from(&plan.model);
    record.timeout = Some(plan.limits.timeout);
    record.stall_timeout = plan.limits.stall_timeout;
    record.binary = Some(plan.binary.clone());
    record.host = Some(identity::host_name());
    record.pid = Some(std::process::id());
    record.boot_id = identity::boot_id();
    record.runner_version = Some(env!("CARGO_PKG_VERSION").to_owned());
    record
}

fn describe_start(record: &mut Record, prepared: &Prepared, before: Option<&Snapshot>) {
    record.binary = Some(prepared.invocation.program.clone());
    record.agent_version.clone_from(&prepared.version);
    record.prompt_sha256 = Some(text::hexadecimal(&Sha256::digest(&prepared.prompt)));
    record.containment = Some(prepared.containment.as_str().to_owned());
    record.head_before = before.and_then(Snapshot::head).map(str::to_owned);
    // Of an isolated run it is known already: it is not the one that is checked out for it.
    if record.branch.is_none() {
        record.branch = before.and_then(Snapshot::branch).map(str::to_owned);
    }
}

/// The largest result file that is read.
const MAX_RESULT_BYTES: u64 = 1024 * 1024;

/// Reads what the agent wrote aside. It may have put a pipe, a link or a giant there instead.
fn read_result_file(path: &Path) -> Option<String> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_RESULT_BYTES {
        return None;
    }
    let text = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// What is done with the repository after the agent, which may have planted there what git waits for.
struct Aftermath {
    git: Git,
    before: Option<Snapshot>,
    mark: String,
    paths: Vec<String>,
    /// The diffs in the answer of an agent that cannot write files itself.
    patches: Vec<String>,
    subject: String,
    identity: Identity,
}

type Applying = Result<Option<Applied>, String>;
type Looking = Result<Option<RepositoryChange>, String>;

impl Aftermath {
    /// Applies the answer's diffs, and tells what the run's time changed.
    fn look(&self, budget: &Budget) -> (Applying, Looking) {
        let git = match self.git(budget) {
            Ok(git) => git,
            Err(error) => return (Ok(None), Err(planner::chain(&error))),
        };
        let applied = self.apply(&git).map_err(|error| {
            let cause = planner::chain(&error);
            format!("the answer's diffs do not apply: {cause}")
        });
        let compare = |before| git.compare(before, &self.mark, &self.paths);
        let change = self.before.as_ref().map(compare).transpose();
        (applied, change.map_err(|error| planner::chain(&error)))
    }

    /// git within a time, without the programs that the run configured.
    fn git(&self, budget: &Budget) -> Result<Git, GitError> {
        let git = self.git.within(budget);
        match &self.before {
            Some(before) => git.with_programs_of(before),
            None => Ok(git),
        }
    }

    fn bring_home(
        &self,
        room: &Room,
        change: &RepositoryChange,
        budget: &Budget,
    ) -> Result<Ending, GitError> {
        let before = self.before.as_ref().expect("a work tree is a repository");
        let identity = before.identity(&self.identity);
        let git = self.git(budget)?;
        room.bring_home(&git, before, change, &identity, &self.mark, &self.paths)
    }

    fn apply(&self, git: &Git) -> Result<Option<Applied>, PatchError> {
        if self.patches.is_empty() {
            return Ok(None);
        }
        git.apply_patches(&self.patches, &self.subject, &self.mark, &self.identity)
            .map(Some)
    }
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
            tracing::warn!(error = planner::chain(&error), "the checks have no log");
            None
        }
    };
    let clock = services.clock;
    let mut note = |ended: &Ended<'_>| {
        let command = redactor.text(&ended.check.command);
        let (how, elapsed, output) = (ended.how, ended.elapsed, ended.output);
        let line = format::check_line(clock.now(), &command, how, elapsed, output);
        if let Err(error) = folder.add_event(&line) {
            tracing::warn!(
                error = planner::chain(&error),
                "a check is not in the events"
            );
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

/// Takes secrets out of the texts of a record that did not come through the agent's output.
fn mask(record: &mut Record, redactor: &Redactor) {
    let facts = record
        .evidence
        .iter_mut()
        .map(|evidence| &mut evidence.fact);
    let subjects = record.commits.iter_mut().map(|commit| &mut commit.subject);
    for text in facts
        .chain(subjects)
        .chain(&mut record.error)
        .chain(&mut record.last_message)
    {
        *text = redactor.text(text);
    }
}

/// Completes the record from the whole story.
fn close(record: &mut Record, plan: &RunPlan, story: &Story, now: DateTime<Utc>) {
    let Story {
        end,
        report,
        change,
        checks: _,
        verdict,
        aftermath: _,
        dropped_bytes,
        notes,
        refusal: _,
    } = story;
    record.end_time = Some(now);
    record.outcome = verdict.outcome;
    record.exit_code = verdict.outcome.exit_code().map(i32::from);
    record.error.clone_from(&verdict.error);
    record.error_class = verdict.error_class;
    record.resets_at = verdict
        .resets
        .as_ref()
        .and_then(|hint| hint.resolve(now, &Local));
    record.evidence = [&plan.notes[..], &verdict.evidence, notes].concat();

    record.agent_exit_code = end.exit_code();
    record.agent_signal = end.signal();
    if let Some(containment) = end.containment {
        // `auto` may have found that what it chose does not work here.
        record.containment = Some(containment.as_str().to_owned());
    }
    record.survivors_killed = Some(end.survivors_killed);
    record.leaked_output = Some(end.leaked_output);
    record.max_rss_bytes = end.max_rss_bytes;
    record.cpu = end.cpu;
    record.output_bytes = Some(end.output_bytes);
    record.output_dropped_bytes = Some(*dropped_bytes);

    record.last_message.clone_from(&report.final_message);
    record.model = report.model.clone().or_else(|| record.model.take());
    record.agent_version = report
        .version
        .clone()
        .or_else(|| record.agent_version.take());
    record.session_id.clone_from(&report.session_id);
    record.usage = report.usage;
    record.cost_usd = report.cost_usd;
    record.turns = report.turns;

    if let Ok(Some(change)) = change {
        close_repository(record, change, plan);
    }
}

fn close_repository(record: &mut Record, change: &RepositoryChange, plan: &RunPlan) {
    record.head_after.clone_from(&change.head_after);
    record.dirty_after = Some(change.dirty_after);
    let counted: Vec<&Commit> = change
        .own_commits()
        .filter(|commit| verdict::counts(commit, plan.policy()))
        .collect();
    record.commits = counted.iter().map(|commit| commit_record(commit)).collect();
    let mut files: Vec<String> = counted
        .iter()
        .flat_map(|commit| commit.files.clone())
        .collect();
    files.sort();
    files.dedup();
    record.files_changed = files;
    record.insertions = counted.iter().map(|commit| commit.insertions).sum();
    record.deletions = counted.iter().map(|commit| commit.deletions).sum();
}

/// The longest subject and author that are kept of a commit; git knows the whole.
const MAX_COMMIT_TEXT_BYTES: usize = 1000;

fn commit_record(commit: &Commit) -> CommitRecord {
    CommitRecord {
        commit: commit.id.clone(),
        subject: text::cut_middle(&commit.subject, MAX_COMMIT_TEXT_BYTES),
        author: text::cut_middle(&commit.author, MAX_COMMIT_TEXT_BYTES),
        date: commit
            .date
            .map(|date| date.to_rfc3339())
            .unwrap_or_default(),
    }
}

/// Hears the agent: keeps every byte, reads the events, and tells the watchdog what they mean.
struct Listener<'a> {
    redactor: &'a Redactor,
    /// Standard output and standard error on their way through the redactor.
    masked: [Masked; 2],
    transcript: CappedLog,
    stdout: CappedLog,
    event_log: EventLog,
    parser: Box<dyn TranscriptParser>,
    events: Vec<AgentEvent>,
    start: DateTime<Utc>,
    spectator: &'a mut dyn Spectator,
}

impl fmt::Debug for Listener<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Listener")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl<'a> Listener<'a> {
    fn new(
        plan: &RunPlan,
        folder: &RunFolder,
        caps: LogCaps,
        start: DateTime<Utc>,
        spectator: &'a mut dyn Spectator,
        redactor: &'a Redactor,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            redactor,
            masked: [Masked::default(), Masked::default()],
            transcript: folder.transcript(caps)?,
            stdout: folder.stdout(caps)?,
            event_log: folder.events(caps.head)?,
            parser: plan.backend.parser(),
            events: Vec::new(),
            start,
            spectator,
        })
    }

    fn at(&self, elapsed: Duration) -> DateTime<Utc> {
        self.start + TimeDelta::from_std(elapsed).unwrap_or_default()
    }

    /// Until when, from the start, the agent said that it waits.
    fn waiting_until(&self, event: &AgentEvent, elapsed: Duration) -> Activity {
        let AgentEvent::RateLimit { resets, .. } = event else {
            return Activity::Progress;
        };
        let moment = resets
            .as_ref()
            .and_then(|hint| hint.resolve(self.at(elapsed), &Local));
        Activity::Waiting {
            until: moment.map(|moment| (moment - self.start).to_std().unwrap_or_default()),
        }
    }

    /// Takes bytes without secrets: keeps them, shows them, reads them.
    fn take(&mut self, stream: Stream, bytes: &[u8], elapsed: Duration) -> Activity {
        self.transcript.write(bytes);
        if stream == Stream::Stdout {
            self.stdout.write(bytes);
        }
        self.spectator.printed(bytes);
        self.events.clear();
        self.parser.feed(stream, bytes, &mut self.events);
        let time = self.at(elapsed);
        for event in &self.events {
            self.event_log.event(time, event);
        }
        self.event_log.flush();
        self.spectator.happened(&self.events, elapsed);
        match self.events.last() {
            None => Activity::Output,
            Some(event) => self.waiting_until(event, elapsed),
        }
    }

    fn finish(
        mut self,
        end: &ProcessEnd,
        result_file: Option<&str>,
    ) -> (AgentReport, u64, Vec<Evidence>) {
        for (masked, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
            let rest = self.masked[masked].finish(self.redactor);
            self.take(stream, &rest, end.elapsed);
        }
        let report = self.parser.finish(&AgentExit {
            code: end.exit_code(),
            result_file,
        });
        let LogEnd {
            dropped_bytes,
            error,
        } = self.transcript.finish();
        let failure = error
            .or(self.stdout.finish().error)
            .or(self.event_log.finish().err());
        let note = failure.map(|failure| {
            Evidence::new(
                EvidenceSource::Runner,
                format!("the logs are not complete: {failure}"),
            )
        });
        (report, dropped_bytes, note.into_iter().collect())
    }
}

impl Observer for Listener<'_> {
    fn printed(&mut self, stream: Stream, bytes: &[u8], elapsed: Duration) -> Activity {
        let masked = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let mut activity = Activity::Output;
        let pieces = self.masked[masked].push(self.redactor, bytes);
        for clean in pieces.iter().filter(|clean| !clean.is_empty()) {
            match self.take(stream, clean, elapsed) {
                Activity::Output => {}
                meant => activity = meant,
            }
        }
        activity
    }

    fn acted(&mut self, act: Act, elapsed: Duration) {
        tracing::info!(?act, ?elapsed, "agent process");
        let (name, detail) = match act {
            Act::Started(pid) => ("started", format!("process {pid}")),
            Act::Stopping(reason) => ("stopping", format!("{reason:?}").to_lowercase()),
            Act::Killed => ("killed", String::new()),
            Act::Paused => ("paused", String::new()),
            Act::Resumed => ("resumed", String::new()),
            Act::Ended => ("ended", String::new()),
        };
        self.event_log.lifecycle(self.at(elapsed), name, &detail);
        self.event_log.flush();
        self.spectator.acted(act);
    }
}
