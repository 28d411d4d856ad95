//! `run`: one agent on one task; with a list or `auto`, the first that can.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use crate::cli::args::{DebugPrompt, OverlapPolicy, RunArguments};
use crate::cli::error::CliError;
use crate::cli::logging;
use crate::cli::ui::{LiveLine, Ui};
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::settings::{AgentSettings, Settings, UnknownName};
use crate::model::event::{AgentEvent, Count};
use crate::model::ids::AgentName;
use crate::model::outcome::{EXIT_FAILURE, Outcome};
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::report::Usage;
use crate::model::task::Overlap;
use crate::orchestrator::{self, Announce, Services, Spectator};
use crate::planner::{self, RunPlan};
use crate::process::shutdown::Shutdown;
use crate::store::layout::Layout;
use crate::store::reader;
use crate::store::{format as record_format, summary};

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
        return super::plan::show(world, &plans, arguments.json);
    }
    let record = carry_out(world, &settings, plans, arguments.follow)?;
    let text = if arguments.json {
        record_format::write(&record)
    } else {
        summary::summary(&record)
    };
    world.ui.data(&text);
    Ok(exit_code(&record))
}

fn exit_code(record: &Record) -> u8 {
    record.outcome.exit_code().unwrap_or(EXIT_FAILURE)
}

/// A plan for every candidate, in the order in which they are tried.
fn plans(
    world: &World,
    settings: &Settings,
    arguments: &RunArguments,
) -> Result<Vec<RunPlan>, CliError> {
    let unknown = |error: UnknownName| CliError::usage(error.to_string());
    let task = settings.task(&arguments.task).map_err(unknown)?;
    if task.task.name.as_str() == "dispatch_issue" {
        return Err(CliError::usage(
            "the task `dispatch_issue` is started by `dispatch` alone",
        ));
    }
    let names: Vec<&str> = match arguments.agent.as_str() {
        "auto" => settings
            .runner
            .auto_order
            .value
            .iter()
            .map(AgentName::as_str)
            .collect(),
        list => list.split(',').map(str::trim).collect(),
    };
    let agents: Result<Vec<&AgentSettings>, _> =
        names.into_iter().map(|name| settings.agent(name)).collect();
    let debug = if arguments.debug {
        Some(DebugPrompt::Smoke)
    } else {
        arguments.debug_prompt
    };
    let mut plans = Vec::new();
    for agent in agents.map_err(unknown)? {
        let mut plan = wiring::plan(world, settings, agent, task)?;
        plan.debug_prompt = debug.map(DebugPrompt::as_str);
        plan.task.overlap = match arguments.overlap {
            None => plan.task.overlap,
            Some(OverlapPolicy::Skip) => Overlap::Skip,
            Some(OverlapPolicy::Wait) => Overlap::Wait,
        };
        planner::check_variables(&plan).map_err(|error| {
            CliError::usage(format!("the prompt of `{}` is wrong", task.task.name)).because(error)
        })?;
        plans.push(plan);
    }
    Ok(plans)
}

/// Runs the plans in order up to the first that neither is limited nor fails to start.
pub(super) fn carry_out(
    world: &World,
    settings: &Settings,
    plans: Vec<RunPlan>,
    follow: bool,
) -> Result<Record, CliError> {
    let layout = wiring::layout(settings);
    let not_recorded = |error| {
        CliError::failure("the run cannot be recorded")
            .because(error)
            .hint("the log root must be a directory that can be written; see AGENT_RUNNER_LOG_ROOT")
    };
    layout
        .create_state(&layout.runner_logs())
        .map_err(not_recorded)?;
    let log = logging::begin(&layout.runner_logs());
    let notifier = wiring::notifier(settings);
    let announce = wiring::announcement(&layout);
    let announce = notifier.as_ref().map(|_| &announce as &Announce<'_>);
    wiring::recover(&world.ui, &layout, announce)?;
    wiring::block_on(async {
        let mut shutdown = Shutdown::listen()
            .map_err(|error| CliError::failure("signals cannot be taken").because(error))?;
        let mut queue = Queue::new(plans);
        let mut last = None;
        while let Some(plan) = queue.next(last.as_ref()) {
            let mut spectator = Watcher::new(&world.ui, &plan, follow);
            let mut services = Services {
                clock: &SystemClock,
                layout: &layout,
                caps: wiring::log_caps(settings),
                announce,
                begun: &|folder| {
                    log.follow(folder.runner_log().ok());
                },
                spectator: &mut spectator,
                shutdown: &mut shutdown,
            };
            let record = orchestrator::run(&plan, &mut services).await;
            spectator.clear();
            log.follow(None);
            last = Some(record.map_err(not_recorded)?);
        }
        let record = last.ok_or_else(|| CliError::usage("no agent was named"))?;
        tokio::select! {
            () = wiring::deliver(&world.ui, &layout, notifier.as_ref()) => {}
            // The run is over and recorded; what is not delivered waits in the outbox.
            _ = shutdown.next() => {}
        }
        Ok(as_told(&layout, record))
    })?
}

/// The record with what became of its notification.
fn as_told(layout: &Layout, mut record: Record) -> Record {
    let told = reader::find(layout, &record.path()).map(|run| run.record.notification);
    if let Some(told) = told.ok().filter(|told| told.id == record.notification.id) {
        record.notification = told;
    }
    record
}

/// The candidates of one call.
struct Queue {
    plans: std::vec::IntoIter<RunPlan>,
    /// The first candidate, for the one record when none can start.
    first: Option<RunPlan>,
    notes: Vec<Evidence>,
}

impl Queue {
    fn new(plans: Vec<RunPlan>) -> Self {
        let first = plans.first().filter(|_| plans.len() > 1).cloned();
        Self {
            plans: plans.into_iter(),
            first,
            notes: Vec::new(),
        }
    }

    /// The next plan, given the record of the last; `None` when there is nothing more to try.
    fn next(&mut self, last: Option<&Record>) -> Option<RunPlan> {
        let again = |outcome| matches!(outcome, Outcome::RateLimited | Outcome::StartFailed);
        if last.is_some_and(|record| !again(record.outcome)) {
            return None;
        }
        let Some(first) = &self.first else {
            // A single agent is not passed over: what keeps it from starting is recorded.
            return self.plans.next();
        };
        for mut plan in self.plans.by_ref() {
            match plan.find_program() {
                Ok(_) => {
                    plan.previous_run = last.map(Record::path);
                    plan.notes.clone_from(&self.notes);
                    return Some(plan);
                }
                Err(error) => {
                    let fact = format!("`{}` was passed over: {}", plan.agent, error.brief());
                    self.notes.push(Evidence::new(EvidenceSource::Runner, fact));
                }
            }
        }
        let mut first = first.clone();
        self.first = None;
        first.notes.clone_from(&self.notes);
        last.is_none().then_some(first)
    }
}

/// Shows a run on the terminal while it works.
struct Watcher {
    line: LiveLine,
    follow: bool,
    events: u64,
    usage: Usage,
    action: String,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Watcher {
    fn new(ui: &Ui, plan: &RunPlan, follow: bool) -> Self {
        let line = ui.live_line(&format!("[{}/{}]", plan.agent, plan.task.name), !follow);
        Self {
            line,
            follow,
            events: 0,
            usage: Usage::default(),
            action: String::new(),
        }
    }

    fn clear(&self) {
        self.line.clear();
    }
}

impl Spectator for Watcher {
    fn printed(&mut self, bytes: &[u8]) {
        if self.follow
            && let Err(error) = std::io::stderr().write_all(bytes)
        {
            tracing::debug!(%error, "nobody follows");
            self.follow = false;
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
}
