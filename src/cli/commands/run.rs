//! `run`: one agent on one task; with a list or `auto`, the first that can.

use std::cell::OnceCell;
use std::io::Write as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::task::JoinHandle;

use crate::admission::Refusal;
use crate::attempts::{self, Attempt, Attempts};
use crate::cli::actions::{Annotation, NeutralLines, StepSummary};
use crate::cli::args::{DebugPrompt, OverlapPolicy, RunArguments};
use crate::cli::error::CliError;
use crate::cli::log_root;
use crate::cli::logging;
use crate::cli::metrics;
use crate::cli::sharing::Sharing;
use crate::cli::ui::{LiveLine, Ui};
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::settings::{AgentSettings, Settings};
use crate::model::dispatch::{DISPATCH_TASK, WorkRequest};
use crate::model::duration;
use crate::model::event::{AgentEvent, Count};
use crate::model::ids::{AgentName, RunPath};
use crate::model::outcome::{EXIT_FAILURE, Outcome};
use crate::model::process_end::StopReason;
use crate::model::record::Record;
use crate::model::report::Usage;
use crate::model::task::Overlap;
use crate::model::text;
use crate::notify::ping::{Ping, Signal};
use crate::orchestrator::{self, Objection, Services, Spectator};
use crate::planner::{self, RunPlan};
use crate::process::identity;
use crate::process::supervise::Act;
use crate::store::layout::Layout;
use crate::store::request;
use crate::store::{format as record_format, summary};
use crate::worker;

/// Runs an agent; the exit code is the run's.
pub(crate) fn run(world: &World, arguments: &RunArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides {
        config: None,
        repo: arguments.repo.clone(),
        timeout: arguments.timeout,
        model: arguments.model.clone(),
    })?;
    let plans = plans(world, &settings, arguments)?;
    if arguments.dry_run {
        let layout = wiring::layout(&settings);
        return super::plan::show(world, &layout, &plans, arguments.json);
    }
    let number = plans.len();
    let record = carry_out(world, &settings, plans, arguments.follow)?;
    let code = tell(world, &settings, &record, arguments.json);
    let is_first = record.previous_run.is_none();
    if number > 1 && is_first && record.outcome == Outcome::StartFailed {
        world.ui.talk(&format!(
            "note: none of {number} agents could be started; `agent-runner agents` says why"
        ));
    }
    Ok(code)
}

/// Tells of a run that has ended: here, in Actions and in the file of metrics. Gives its exit code.
pub(super) fn tell(world: &World, settings: &Settings, record: &Record, as_json: bool) -> u8 {
    tell_actions(world, record);
    metrics::write_file(&world.ui, settings, None);
    if as_json {
        world.ui.data(&record_format::write(record));
    } else {
        world.ui.prose(&summary::summary(record));
    }
    exit_code(record)
}

/// In Actions: an annotation and the summary of the step.
fn tell_actions(world: &World, record: &Record) {
    let (path, outcome) = (record.path(), record.outcome);
    if outcome.is_good() {
        (world.ui).annotate(Annotation::Notice, &format!("{path}: {outcome}"));
    } else {
        let why = record.error.as_deref().unwrap_or_default();
        (world.ui).annotate(Annotation::Error, &format!("{path}: {outcome}\n{why}"));
    }
    if let Some(page) = StepSummary::find(&world.environment)
        && let Err(error) = page.append(&format!("{outcome}"), std::slice::from_ref(record))
    {
        (world.ui).talk(&format!(
            "warning: the summary of the step is not written: {error}"
        ));
    }
}

fn exit_code(record: &Record) -> u8 {
    record.outcome.exit_code().unwrap_or(EXIT_FAILURE)
}

/// The dispatched work that is asked for, by the one task that does such work.
fn request(arguments: &RunArguments) -> Result<Option<WorkRequest>, CliError> {
    match (&arguments.request, arguments.task.as_str()) {
        (None, DISPATCH_TASK) => Err(CliError::usage(format!(
            "the task `{DISPATCH_TASK}` is started by `dispatch` alone"
        ))),
        (Some(_), task) if task != DISPATCH_TASK => Err(CliError::usage(format!(
            "`--request` is for the task `{DISPATCH_TASK}`, not for `{task}`"
        ))),
        (None, _) => Ok(None),
        (Some(path), _) => request::read(path)
            .map(Some)
            .map_err(|error| CliError::usage("the request is wrong").because(error)),
    }
}

/// The agents of a list, or of `auto`, in the order in which they are tried.
pub(super) fn candidates<'a>(
    settings: &'a Settings,
    list: &str,
) -> Result<Vec<&'a AgentSettings>, CliError> {
    let names: Vec<&str> = if list == "auto" {
        let order = settings.runner.auto_order.value.iter();
        order.map(AgentName::as_str).collect()
    } else {
        list.split(',').map(str::trim).collect()
    };
    if names.contains(&"") {
        return Err(
            CliError::usage(format!("`--agent {list}` lacks the name of an agent"))
                .hint("`agent-runner agents` lists them; `auto` takes the first that can start"),
        );
    }
    let agent = |name| Ok(settings.agent(name)?);
    names.into_iter().map(agent).collect()
}

/// A plan for every candidate, in the order in which they are tried.
fn plans(
    world: &World,
    settings: &Settings,
    arguments: &RunArguments,
) -> Result<Vec<RunPlan>, CliError> {
    let task = settings.task(&arguments.task)?;
    let request = request(arguments)?;
    let agents = candidates(settings, &arguments.agent)?;
    let debug = if arguments.debug {
        Some(DebugPrompt::Smoke)
    } else {
        arguments.debug_prompt
    };
    let mut plans = Vec::new();
    for agent in agents {
        let mut plan = wiring::plan(world, settings, agent, task)?;
        plan.debug_prompt = debug.map(DebugPrompt::as_str);
        plan.request.clone_from(&request);
        plan.task.overlap = match arguments.overlap {
            None => plan.task.overlap,
            Some(OverlapPolicy::Skip) => Overlap::Skip,
            Some(OverlapPolicy::Wait) => Overlap::Wait,
        };
        plan.task.isolation = match arguments.isolation {
            None => plan.task.isolation,
            Some(place) => place.isolation(),
        };
        planner::check_variables(&plan).map_err(|error| {
            CliError::usage(format!("the prompt of `{}` is wrong", task.task.name)).because(error)
        })?;
        plans.push(plan);
    }
    Ok(plans)
}

/// The built-in debug prompt of a name.
pub(super) fn debug_prompt(name: &str) -> Option<&'static str> {
    let known = [DebugPrompt::Ping, DebugPrompt::Smoke].map(DebugPrompt::as_str);
    known.into_iter().find(|known| *known == name)
}

/// Runs the plans in order up to the first that neither is limited nor fails to start.
pub(super) fn carry_out(
    world: &World,
    settings: &Settings,
    plans: Vec<RunPlan>,
    follow: bool,
) -> Result<Record, CliError> {
    wiring::refuse_missing_repository(settings)?;
    let layout = wiring::layout(settings);
    if let Some(plan) = plans.first() {
        log_root::prepare(world, settings, &layout, &plan.task.name)?;
    }
    layout
        .create_state(&layout.runner_logs())
        .map_err(log_root::not_recorded)?;
    let log = logging::begin(&layout.runner_logs());
    let notifier = wiring::notifier(settings);
    let announce = wiring::announcement(settings, &layout);
    let announce = announce.as_deref();
    wiring::recover(world, &layout, announce)?;
    let sharing = Sharing::new(settings)?;
    wiring::block_on(async {
        let mut shutdown = wiring::listen()?;
        let watched = Watched::new(settings, &plans);
        let shared = sharing.as_ref().map(|sharing| (sharing, plans.clone()));
        let exchange = async || {
            if let Some((sharing, plans)) = &shared {
                sharing.exchange(Some(&world.ui), plans).await;
            }
        };
        tokio::select! {
            () = exchange() => {}
            _ = shutdown.next() => {}
        }
        let mut attempts = Attempts::new(plans, &layout, &SystemClock);
        let mut last: Option<Record> = None;
        let mut unkept = Vec::new();
        let mut change = None;
        let mut first_programs = None;
        while let Some(attempt) =
            (attempts.next(last.as_ref(), change.take())).map_err(log_root::not_recorded)?
        {
            let Attempt {
                plan,
                pause,
                mut refusal,
            } = attempt;
            // Whoever heard of it.
            let stopped = (shutdown.heard())
                .map(|signal| Refusal::stopped(signal, "before the agent was started"));
            let is_again = stopped.is_none() && !pause.is_zero();
            if let Some(last) = last.as_ref().filter(|_| is_again) {
                let error = text::first_line(last.error.as_deref().unwrap_or_default(), 200);
                let wait = duration::words(pause);
                let run = last.path();
                (world.ui).talk(&format!("warning: {run}: {error}; once more in {wait}"));
            }
            refusal = match stopped {
                None => attempts::pause(pause, &mut shutdown).await.or(refusal),
                stopped => stopped,
            };
            log.follow(None);
            let mut spectator = Watcher::new(&world.ui, &plan, follow);
            let mut services = Services {
                clock: &SystemClock,
                layout: &layout,
                caps: wiring::log_caps(settings),
                announce,
                // Whoever asks for dispatched work judges it.
                objection: plan.request.as_ref().map(|_| &worker::ask as &Objection),
                begun: &|folder| {
                    log.follow(folder.runner_log().ok());
                    watched.begin(folder.run());
                },
                spectator: &mut spectator,
                first_programs: &mut first_programs,
                shutdown: &mut shutdown,
            };
            let record = match refusal {
                None => {
                    // Others are to hear of a run before it is over.
                    let tell = async {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        exchange().await;
                        std::future::pending().await
                    };
                    tokio::select! {
                        ran = orchestrator::run(&plan, &mut services) => ran.map(|(record, seen)| {
                            change = seen;
                            record
                        }),
                        never = tell => never,
                    }
                }
                Some(refusal) => orchestrator::refuse(&plan, refusal, &services),
            };
            spectator.clear();
            let record = record.map_err(log_root::not_recorded)?;
            if record.notification.is_unkept() {
                unkept.push(record.clone());
            }
            tokio::select! {
                () = exchange() => {}
                _ = shutdown.next() => {}
            }
            if record.outcome == Outcome::Skipped && last.is_some() {
                // That another run was in the way does not undo what came before it.
                break;
            }
            // Its log stays held while it waits to be tried again: so `cancel` knows who waits.
            last = Some(record);
        }
        log.follow(None);
        let record = last.ok_or_else(|| CliError::usage("no agent was named"))?;
        let notifier = notifier.as_ref();
        let delivery = async {
            wiring::deliver_unkept(world, &layout, notifier, announce, &unkept).await;
            wiring::deliver(&world.ui, &layout, notifier).await;
        };
        tokio::select! {
            ((), ()) = async { tokio::join!(delivery, watched.end(&world.ui, &record)) } => {}
            // The run is over and recorded; what is not delivered waits in the outbox.
            _ = shutdown.next() => {}
        }
        Ok(as_told(&layout, record))
    })?
}

/// The record with what became of its notification.
fn as_told(layout: &Layout, mut record: Record) -> Record {
    let told = wiring::find_run(layout, &record.path()).map(|run| run.record.notification);
    let is_same =
        |id: &Option<String>| record.notification.is_unkept() || *id == record.notification.id;
    if let Some(told) = told.ok().filter(|told| is_same(&told.id)) {
        record.notification = told;
    }
    record
}

/// The service that watches over the task, which is told of the start and the end.
struct Watched {
    url: Option<String>,
    ping: OnceCell<(Ping, JoinHandle<()>)>,
}

impl Watched {
    fn new(settings: &Settings, plans: &[RunPlan]) -> Self {
        // A try with another prompt is no success of the task.
        let plan = plans.first().filter(|plan| plan.debug_prompt.is_none());
        let task = plan.and_then(|plan| settings.tasks.get(&plan.task.name));
        let url = task.and_then(|task| task.ping_url.as_ref());
        Self {
            url: url.map(|url| url.expose().to_owned()),
            ping: OnceCell::new(),
        }
    }

    /// Tells the start of the first try, while that goes on. What is over at once, as a run that
    /// is skipped, has no start.
    fn begin(&self, run: &RunPath) {
        let Some(url) = &self.url else { return };
        self.ping.get_or_init(|| {
            let ping = Ping::new(url, &format!("{}/{run}", identity::host_name()));
            let start = ping.clone();
            let told = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if let Err(error) = start.send(Signal::Start).await {
                    tracing::warn!(error = text::chain(&error), "start not told");
                }
            });
            (ping, told)
        });
    }

    async fn end(&self, ui: &Ui, record: &Record) {
        let Some((ping, start)) = self.ping.get() else {
            return;
        };
        start.abort();
        let signal = match record.outcome {
            Outcome::Skipped => Signal::Log,
            _ => Signal::End(exit_code(record)),
        };
        if let Err(error) = ping.send(signal).await {
            ui.talk(&format!(
                "warning: `ping_url` not told: {}",
                text::chain(&error)
            ));
        }
    }
}

/// Shows a run on the terminal while it works.
struct Watcher {
    line: LiveLine,
    grace_period: Duration,
    follow: bool,
    /// In Actions, where whole lines are looked at.
    lines: Option<NeutralLines>,
    events: u64,
    usage: Usage,
    action: String,
}

impl Watcher {
    fn new(ui: &Ui, plan: &RunPlan, follow: bool) -> Self {
        let line = ui.live_line(&format!("[{}/{}]", plan.agent, plan.task.name), !follow);
        Self {
            line,
            grace_period: plan.limits.grace_period,
            follow,
            lines: ui.is_in_actions().then(NeutralLines::default),
            events: 0,
            usage: Usage::default(),
            action: String::new(),
        }
    }

    fn clear(&mut self) {
        if let Some(lines) = &mut self.lines {
            self.follow = self.follow && follow(&lines.finish());
        }
        self.line.clear();
    }
}

/// Shows a piece of output on standard error; false when nobody has read there for a second: whoever
/// pauses a pager must not pause the run's limits.
fn follow(piece: &[u8]) -> bool {
    let stderr = std::io::stderr();
    let patience = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&patience));
    ready.is_ok_and(|number| number > 0) && stderr.lock().write_all(piece).is_ok()
}

impl Spectator for Watcher {
    fn printed(&mut self, bytes: &[u8]) {
        if !self.follow {
            return;
        }
        let lines = self.lines.as_mut().map(|lines| lines.take(bytes));
        // A pipe that is ready takes this much without blocking; see pipe(7), `PIPE_BUF`.
        for piece in lines.as_deref().unwrap_or(bytes).chunks(libc::PIPE_BUF) {
            if self.follow && !follow(piece) {
                tracing::debug!("nobody follows any more");
                self.follow = false;
            }
        }
    }

    fn happened(&mut self, events: &[AgentEvent], elapsed: Duration) {
        self.events += events.len() as u64;
        for event in events {
            match event {
                AgentEvent::Usage {
                    usage,
                    count: Count::More,
                } => self.usage = self.usage.plus(usage),
                AgentEvent::Usage {
                    usage,
                    count: Count::Total,
                } => self.usage = *usage,
                AgentEvent::ToolUse { name, detail } => {
                    self.action = format!("{name} {}", detail.as_deref().unwrap_or(""));
                }
                AgentEvent::Message { text, .. } => self.action.clone_from(text),
                _ => {}
            }
        }
        self.line
            .show(elapsed, self.events, self.usage.total(), &self.action);
    }

    fn acted(&mut self, act: Act) {
        if let Act::Stopping(StopReason::Shutdown(_)) = act {
            let grace = duration::words(self.grace_period);
            self.line.say(&format!(
                "stopping: the agent has {grace} to end; Ctrl-C once more ends it at once"
            ));
        }
    }
}
