//! `dispatch`: works off dispatch issues until it is stopped, or those that wait now.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::cli::actions::StepSummary;
use crate::cli::args::{DispatchArguments, SourceName};
use crate::cli::commands::run;
use crate::cli::error::CliError;
use crate::cli::logging::{self, Talk, TalkFormat};
use crate::cli::metrics::{self, Station};
use crate::cli::service::ServiceManager;
use crate::cli::sharing::Sharing;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::settings::{AgentSettings, GithubCredentials, Settings};
use crate::git::Identity;
use crate::github::{self, GitHub};
use crate::metrics::serve;
use crate::model::clock::Clock as _;
use crate::model::dispatch::DISPATCH_TASK;
use crate::model::message::{Message, Priority};
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS, EXIT_USAGE, exit_of_signal};
use crate::model::record::Record;
use crate::model::repository::RepositoryName;
use crate::model::secret::Secret;
use crate::model::text::chain;
use crate::model::tree_policy::{Permission, TreePolicy};
use crate::planner::RunPlan;
use crate::process::{command, identity};
use crate::queue::{Queue, QueueUrl};
use crate::redact::Redactor;
use crate::sources::dispatch_issues::{Issues, IssuesSettings};
use crate::sources::local::Local;
use crate::sources::source::TaskSource;
use crate::store::layout::Layout;
use crate::store::outbox::{Entry, Outbox};
use crate::store::reader::{self, Filter};
use crate::worker::{Ended, Moment, Observe, RunCommand, Scope, Worker, WorkerSettings, holder};

/// How often crashed runs and waiting notifications are looked after.
const CARE_INTERVAL: Duration = Duration::from_secs(60);
/// How often the loop comes round at least.
const PULSE: Duration = Duration::from_secs(15);
/// How late it may be beyond its pause, when a look takes as long as one may.
const LATE: Duration = Duration::from_secs(300);
/// The largest event payload that GitHub sends is 25 MB.
const MAX_EVENT_BYTES: u64 = 32 << 20;

/// Works on dispatch issues; the exit code tells whether all went well.
pub(crate) fn dispatch(world: &World, arguments: &DispatchArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let address = arguments.metrics;
    let address = address.or(settings.dispatch.metrics.as_ref().map(|set| set.value));
    if arguments.health {
        let address = address.ok_or_else(|| {
            CliError::usage("no address is known to ask at")
                .hint("give --metrics ADDRESS, or set AGENT_RUNNER_METRICS")
        })?;
        world.ui.data(&metrics::ask_health(address)?);
        return Ok(EXIT_SUCCESS);
    }
    let event = arguments.event.as_deref().map(read_event).transpose()?;
    let layout = wiring::layout(&settings);
    let issues = match arguments.source {
        SourceName::Github => Some((
            repository(&settings, event.as_ref())?,
            credentials(&settings)?,
        )),
        SourceName::Local => None,
    };
    let redactor = begin(world, &settings, &layout)?;
    let scope = match (arguments.issue, &event) {
        (Some(number), _) => Scope::One(number),
        (None, Some(event)) => Scope::One(event.number),
        (None, None) if arguments.once => Scope::Once,
        (None, None) => Scope::Forever,
    };
    let dispatch = &settings.dispatch;
    tracing::info!("Starting {}", dispatch.agent_name.value);
    let began = SystemClock.now();
    let mut office = Office {
        world,
        settings: &settings,
        layout: &layout,
        scope,
        redactor,
        address,
        github: None,
    };
    let ended = if let Some((repository, credentials)) = issues {
        tracing::info!("Monitoring dispatch repository: {repository}");
        office.work_off_issues(repository, credentials)?
    } else {
        let url = wiring::local_queue_url(&settings, &layout)?;
        office.work_off(&url, |queue| Local::new(queue, Arc::new(SystemClock)))?
    };
    if scope != Scope::Forever {
        metrics::write_file(&world.ui, &settings, office.github.as_ref());
    }
    tell_actions(world, &layout, &ended, began);
    exit_code(&ended, arguments.event.is_some())
}

/// Begins the log, and the talk that is free of secrets.
pub(super) fn begin(
    world: &World,
    settings: &Settings,
    layout: &Layout,
) -> Result<Arc<Redactor>, CliError> {
    layout
        .create_state(&layout.runner_logs())
        .map_err(|error| CliError::failure("work cannot be recorded").because(error))?;
    let secrets = wiring::secrets(world, settings);
    let redactor = Arc::new(Redactor::new(secrets.iter().map(String::as_str)));
    logging::begin_talking(&layout.runner_logs(), talk(world, &redactor)?);
    Ok(redactor)
}

/// Works on one issue, as `--issue` does.
pub(super) fn work_on(
    (world, settings, layout): (&World, &Settings, &Layout),
    redactor: Arc<Redactor>,
    number: u64,
) -> Result<Ended, CliError> {
    let mut office = Office {
        world,
        settings,
        layout,
        scope: Scope::One(number),
        redactor,
        address: None,
        github: None,
    };
    office.work_off_issues(repository(settings, None)?, credentials(settings)?)
}

/// In Actions: the summary of the step, with the runs of this call.
fn tell_actions(world: &World, layout: &Layout, ended: &Ended, began: DateTime<Utc>) {
    let Some(page) = StepSummary::find(&world.environment) else {
        return;
    };
    let title = match ended {
        Ended::Finished(tally) => format!("{} done, {} failed", tally.done, tally.failed),
        Ended::Stopped(signal) => format!("stopped by signal {signal}"),
        Ended::Unwanted(_) => "nothing to do".to_owned(),
        Ended::Left(_) => "not done now".to_owned(),
        Ended::NoAccess(_) | Ended::Failed(_) => "it could not work".to_owned(),
    };
    let wanted = Filter {
        task: DISPATCH_TASK.parse().ok(),
        // The names of runs are whole seconds.
        since: Some(began - TimeDelta::seconds(1)),
        ..Filter::default()
    };
    let runs = reader::runs(layout, &wanted).into_iter().flatten();
    let records: Vec<Record> = runs.map(|run| run.record).collect();
    if let Err(error) = page.append(&title, &records) {
        tracing::warn!("the summary of the step is not written: {error}");
    }
}

/// What work is done with, whatever its source.
struct Office<'a> {
    world: &'a World,
    settings: &'a Settings,
    layout: &'a Layout,
    scope: Scope,
    redactor: Arc<Redactor>,
    /// Where metrics are served.
    address: Option<SocketAddr>,
    github: Option<GitHub>,
}

impl Office<'_> {
    fn work_off_issues(
        &mut self,
        repository: RepositoryName,
        credentials: github::Credentials,
    ) -> Result<Ended, CliError> {
        let github = github(self.settings, self.layout, credentials)?;
        let issues = issues_settings(self.settings, repository);
        self.github = Some(github.clone());
        let url = wiring::queue_url(self.settings, self.layout)?;
        self.work_off(&url, |_| Issues::new(github, issues, Arc::new(SystemClock)))
    }

    fn work_off<S: TaskSource + 'static>(
        &self,
        url: &QueueUrl,
        source: impl FnOnce(Queue) -> S,
    ) -> Result<Ended, CliError> {
        let Self {
            world,
            settings,
            layout,
            scope,
            address,
            ..
        } = *self;
        if scope == Scope::Forever {
            let seconds = settings.dispatch.poll_interval.value.as_secs();
            tracing::info!("Poll interval: {seconds} seconds");
        }
        let notifier = wiring::notifier(settings);
        let announce = wiring::announcement(settings, layout);
        let announce = announce.as_deref();
        wiring::recover(world, layout, announce)?;
        let service = ServiceManager::find(&world.environment).map(Rc::new);
        let watchdog = service.as_deref().and_then(ServiceManager::watchdog);
        // Whoever watches hears twice as often as it must.
        let pulse = watchdog.map_or(PULSE, |watchdog| PULSE.min(watchdog / 2));
        let patience = settings.dispatch.poll_interval.value + LATE;
        let station = Arc::new(Station::new(settings, self.github.clone(), patience));
        let grace = settings.runner.grace_period.value;
        let observe = observe(service.clone(), Arc::clone(&station), grace);
        let redactor = Arc::clone(&self.redactor);
        let worker_settings = worker(world, settings, redactor, observe, pulse)?;
        wiring::block_on(async {
            let mut shutdown = wiring::listen()?;
            if let Some(address) = address {
                let listener = TcpListener::bind(address).await.map_err(|error| {
                    CliError::failure(format!("metrics cannot be served at {address}"))
                        .because(error)
                })?;
                tokio::spawn(serve(listener, station));
            }
            let queue = Queue::open(url)
                .await
                .map_err(|error| CliError::failure("the queue cannot be used").because(error))?;
            let worker = Worker::new(source(queue.clone()), queue.clone(), worker_settings);
            if let Some(service) = &service {
                service.ready();
            }
            let exchange = async || {
                // Anew each time: a queue that did not answer may do so now.
                if let Ok(Some(sharing)) = Sharing::new(settings)
                    && let Ok(plans) = plans(world, settings)
                {
                    sharing.exchange(None, &plans).await;
                }
            };
            exchange().await;
            let care = async {
                loop {
                    sleep(CARE_INTERVAL).await;
                    exchange().await;
                    if let Err(error) = wiring::recover(world, layout, announce) {
                        tracing::warn!("{}", error.brief());
                    }
                    wiring::deliver(&world.ui, layout, notifier.as_ref()).await;
                }
            };
            let ended = tokio::select! {
                ended = worker.work(scope, &mut shutdown) => ended,
                never = care => never,
            };
            // What was given up in the middle of a fetch or a push.
            command::end_all();
            exchange().await;
            queue.close().await;
            if let Ended::NoAccess(reason) = &ended {
                tell_no_access(layout, reason);
            }
            wiring::deliver(&world.ui, layout, notifier.as_ref()).await;
            Ok(ended)
        })?
    }
}

/// Who hears how the work goes on: the service manager, and the pages that are served.
fn observe(
    service: Option<Rc<ServiceManager>>,
    station: Arc<Station>,
    grace: Duration,
) -> Box<Observe> {
    Box::new(move |moment| match moment {
        Moment::Turn(busy, tally) => {
            station.turn(busy, tally);
            if let Some(service) = &service {
                service.turn(busy, tally);
            }
        }
        Moment::Ended(end, took) => station.ended(end, took),
        Moment::Stopping => {
            if let Some(service) = &service {
                service.stopping(grace * 2 + LATE);
            }
        }
    })
}

fn exit_code(ended: &Ended, is_event: bool) -> Result<u8, CliError> {
    match ended {
        Ended::Finished(tally) if tally.failed > 0 => Ok(EXIT_FAILURE),
        Ended::Finished(_) => Ok(EXIT_SUCCESS),
        Ended::Stopped(signal) => Ok(exit_of_signal(*signal)),
        Ended::Unwanted(reason) if is_event => {
            tracing::info!("nothing to do: {reason}");
            Ok(EXIT_SUCCESS)
        }
        Ended::Unwanted(reason) => {
            Err(CliError::failure("there is nothing to do").because(reason.clone()))
        }
        Ended::Left(reason) => Err(CliError::failure(reason.clone())),
        Ended::NoAccess(reason) => {
            tracing::error!("GitHub API error: {reason}");
            Ok(EXIT_USAGE)
        }
        Ended::Failed(reason) => {
            Err(CliError::failure("the work that waits is not done").because(reason.clone()))
        }
    }
}

/// What an event of GitHub Actions is about.
pub(super) struct Event {
    number: u64,
    repository: Option<RepositoryName>,
}

fn read_event(path: &Path) -> Result<Event, CliError> {
    let wrong = |why: String| {
        let what = format!("the event `{}` cannot be used", path.display());
        CliError::usage(what)
            .because(why)
            .hint("give the file that GITHUB_EVENT_PATH names, of an `issues` event")
    };
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_EVENT_BYTES).read_to_end(&mut text))
        .map_err(|error| wrong(error.to_string()))?;
    let event: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    // A dispatched workflow has its inputs as text.
    let input = &event["inputs"]["issue_number"];
    let number = event["issue"]["number"]
        .as_u64()
        .or_else(|| input.as_u64())
        .or_else(|| input.as_str()?.trim().parse().ok());
    let repository = event["repository"]["full_name"].as_str();
    Ok(Event {
        number: number.ok_or_else(|| wrong("it names no issue".to_owned()))?,
        repository: repository
            .map(|name| name.parse().map_err(|error| wrong(format!("{error}"))))
            .transpose()?,
    })
}

pub(super) fn repository(
    settings: &Settings,
    event: Option<&Event>,
) -> Result<RepositoryName, CliError> {
    let configured = settings.dispatch.repo.as_ref().map(|repo| &repo.value);
    let of_event = event.and_then(|event| event.repository.as_ref());
    match (configured, of_event) {
        (Some(configured), Some(other)) if configured != other => Err(CliError::usage(format!(
            "the event is of {other}, and the dispatch repository is {configured}"
        ))),
        (Some(known), _) | (None, Some(known)) => Ok(known.clone()),
        (None, None) => Err(CliError::usage("no dispatch repository is configured")
            .hint("set DISPATCH_REPO=owner/name, or `repo` in [dispatch] of config.toml")),
    }
}

/// Who we are on GitHub.
pub(super) fn credentials(settings: &Settings) -> Result<github::Credentials, CliError> {
    let Some(credentials) = &settings.github.credentials else {
        return Err(
            CliError::usage("GITHUB_TOKEN environment variable is required").hint(
                "or set `app_id` and `app_key_file` of a GitHub App in [github] of config.toml; \
                 `delegate --provider local` and `dispatch --source local` need neither",
            ),
        );
    };
    match &credentials.value {
        GithubCredentials::Token(token) => Ok(github::Credentials::Token(token.clone())),
        GithubCredentials::App {
            id,
            key_file,
            installation,
        } => {
            let key = std::fs::read_to_string(key_file).map_err(|error| {
                let what = format!("the App's key `{}` cannot be read", key_file.display());
                CliError::usage(what).because(error)
            })?;
            github::App::new(id.to_string(), &Secret::new(key), *installation)
                .map(github::Credentials::App)
                .map_err(|error| CliError::usage("the App's key cannot be used").because(error))
        }
    }
}

/// The API as these credentials see it; answers are kept in `cache`.
pub(super) fn github(
    settings: &Settings,
    layout: &Layout,
    credentials: github::Credentials,
) -> Result<GitHub, CliError> {
    let api_url = settings.github.api_url.value.clone();
    let mut client = github::Settings::new(api_url, credentials, Arc::new(SystemClock));
    client.write_interval = settings.github.write_interval.value;
    client.cache = Some(layout.state().join("github"));
    GitHub::new(client).map_err(|error| CliError::usage("GitHub cannot be used").because(error))
}

fn issues_settings(settings: &Settings, repository: RepositoryName) -> IssuesSettings {
    let dispatch = &settings.dispatch;
    IssuesSettings {
        repository,
        label: dispatch.label.value.clone(),
        agent_name: dispatch.agent_name.value.clone(),
        server_url: settings.github.server_url.value.clone(),
        targets: dispatch.targets.value.clone(),
        authors: dispatch.authors.value.clone(),
    }
}

fn worker(
    world: &World,
    settings: &Settings,
    redactor: Arc<Redactor>,
    observe: Box<Observe>,
    pulse: Duration,
) -> Result<WorkerSettings, CliError> {
    let dispatch = &settings.dispatch;
    let agent_name = dispatch.agent_name.value.clone();
    let layout = wiring::layout(settings);
    let allow = dispatch.allow.value.iter();
    let allow: BTreeSet<Permission> = allow
        .filter_map(|name| Permission::from_name(name))
        .collect();
    let (host, pid) = (identity::host_name(), std::process::id());
    Ok(WorkerSettings {
        // Containers may have one name and number, and begin at once.
        holder: holder(&host, pid, RandomState::new().hash_one(pid)),
        concurrency: usize::try_from(dispatch.concurrency.value).unwrap_or(usize::MAX),
        poll_interval: dispatch.poll_interval.value,
        lease: dispatch.lease.value,
        attempts: u32::try_from(dispatch.attempts.value).unwrap_or(u32::MAX),
        retry_pause: dispatch.retry_pause.value,
        workspace: dispatch.workspace.value.clone(),
        git_timeout: dispatch.git_timeout.value,
        policy: TreePolicy {
            allow,
            max_files: usize::try_from(dispatch.max_files.value).unwrap_or(usize::MAX),
            max_bytes: dispatch.max_bytes.value,
            max_blob_bytes: dispatch.max_file_bytes.value,
        },
        identity: Identity {
            email: format!("{}@agent-runner.local", agent_name.replace(' ', "-")),
            name: agent_name.clone(),
        },
        agent_name,
        run: run_command(world, settings)?,
        inherited: wiring::inherited(&world.environment, settings),
        announce: wiring::announcement(settings, &layout),
        layout,
        redactor,
        clock: Arc::new(SystemClock),
        observe,
        pulse,
    })
}

/// The runs get the runner's own environment but for what only the worker needs.
fn run_command(world: &World, settings: &Settings) -> Result<RunCommand, CliError> {
    const WITHHELD: [&str; 7] = [
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "GITHUB_TOKEN",
        "GH_TOKEN",
        // An agent may look at its runner's environment. The worker hears and tells for its runs.
        "AGENT_RUNNER_QUEUE_URL",
        "AGENT_RUNNER_REPO_ROOT",
    ];
    let program = wiring::own_program()?;
    let inherited = wiring::inherited(&world.environment, settings);
    let mut environment: Vec<_> = inherited
        .into_iter()
        .filter(|(name, _)| !WITHHELD.iter().any(|withheld| name == withheld))
        .collect();
    // Beside the clone there is no configuration and no prompt that a run could find.
    let prompts = settings.runner.prompts_dir.value.clone();
    environment.retain(|(name, _)| name != "AGENT_RUNNER_PROMPTS_DIR");
    environment.push(("AGENT_RUNNER_PROMPTS_DIR".into(), prompts.into()));
    let file = settings.file.iter();
    let global_arguments = file
        .flat_map(|file| ["--config".into(), file.clone().into()])
        .collect();
    Ok(RunCommand {
        program,
        global_arguments,
        agent: settings.dispatch.agent.value.clone(),
        environment,
    })
}

/// What its runs could be, for whom caps are counted.
fn plans(world: &World, settings: &Settings) -> Result<Vec<RunPlan>, CliError> {
    let task = settings.task(DISPATCH_TASK)?;
    let agents = run::candidates(settings, &settings.dispatch.agent.value)?;
    let plan = |agent: &AgentSettings| wiring::plan(world, settings, agent, task);
    agents.into_iter().map(plan).collect()
}

fn talk(world: &World, redactor: &Arc<Redactor>) -> Result<Talk, CliError> {
    let text = |name: &str| {
        let value = world.environment.get(name);
        value.map(|value| value.to_string_lossy().to_ascii_lowercase())
    };
    let level = text("LOG_LEVEL").unwrap_or_else(|| "info".to_owned());
    let level = logging::level(&level).ok_or_else(|| {
        CliError::usage(format!("LOG_LEVEL: `{level}` is no level"))
            .hint("use debug, info, warning or error")
    })?;
    let format = match text("LOG_FORMAT").as_deref() {
        None | Some("text") => TalkFormat::Text,
        Some("json") => TalkFormat::Json,
        Some(other) => {
            return Err(CliError::usage(format!(
                "LOG_FORMAT: `{other}` is neither `text` nor `json`"
            )));
        }
    };
    Ok(Talk {
        level,
        format,
        redactor: Arc::clone(redactor),
        in_actions: world.ui.is_in_actions(),
    })
}

/// Nobody works any more: a person must know.
fn tell_no_access(layout: &Layout, reason: &str) {
    let message = Message {
        title: "[dispatch] GitHub does not let the worker in".to_owned(),
        body: format!(
            "{reason}\n\nIt has stopped; no issue is worked on until it is started again."
        ),
        priority: Priority::High,
        tags: vec!["x".to_owned()],
    };
    let entry = Entry::of_message(message, SystemClock.now());
    if let Err(error) = Outbox::new(layout).put(&entry) {
        tracing::error!("nobody is told: {}", chain(&error));
    }
}
