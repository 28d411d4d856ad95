//! The composition root: settings become plans, layouts and notifiers here and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};
use tokio::runtime::{self, Runtime};

use crate::agents::configured::{ConfiguredAgent, OutputFormat};
use crate::agents::{self, AgentInterface};
use crate::cli::actions;
use crate::cli::error::CliError;
use crate::cli::log_root;
use crate::cli::ui::Ui;
use crate::config::env::Environment;
use crate::config::settings::{
    AgentSettings, GithubCredentials, NtfyCredentials, Settings, TaskSettings, Warning,
};
use crate::config::{self, Overrides};
use crate::deliver::{self, Delivered};
use crate::git::Identity;
use crate::model::caps::WorstCase;
use crate::model::clock::{Clock, utc};
use crate::model::ids::RunPath;
use crate::model::record::Record;
use crate::model::secret::Secret;
use crate::model::text::{self, chain};
use crate::notify::ntfy::{Credentials, Ntfy};
use crate::notify::wording;
use crate::orchestrator::Announce;
use crate::planner::{self, RunPlan};
use crate::process::limits::{self, TOO_MANY_FILES, TOO_MANY_PROCESSES};
use crate::process::shutdown::{Shutdown, leave_signals_to_main};
use crate::process::watchdog::Limits;
use crate::queue::QueueUrl;
use crate::recovery;
use crate::redact;
use crate::regular;
use crate::store::StoreError;
use crate::store::capped_log::LogCaps;
use crate::store::layout::Layout;
use crate::store::outbox::Entry;
use crate::store::reader::{self, Filter, Run};
use crate::store::recovery::{find_lost, odd_marks};

/// What every command starts from.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ui: Ui,
    pub(crate) environment: Environment,
    pub(crate) current_directory: PathBuf,
    config: Option<PathBuf>,
}

impl World {
    /// Takes one look at the process: environment, directory, terminal.
    pub(crate) fn new(config: Option<PathBuf>) -> Result<Self, CliError> {
        let environment = Environment::of_this_process();
        let current_directory = std::env::current_dir().map_err(|error| {
            CliError::failure("the current directory cannot be told")
                .because(error)
                .hint("it may have been removed: change to another one")
        })?;
        let columns = environment.get("COLUMNS").and_then(OsStr::to_str);
        let is_dumb = environment.get("TERM").is_some_and(|term| term == "dumb");
        let no_colour = is_dumb || environment.get("NO_COLOR").is_some();
        let ui = Ui::new(no_colour, columns, actions::are_around(&environment));
        let now = SystemClock.now();
        if now < DateTime::UNIX_EPOCH {
            // TLS, for one, would panic.
            let message = format!("the clock of this machine says {}", utc(now));
            return Err(CliError::failure(message).hint("set it: nothing works before 1970"));
        }
        Ok(Self {
            ui,
            environment,
            current_directory,
            config,
        })
    }

    /// The same, but for another repository and log root: what the environment would say.
    pub(crate) fn elsewhere(&self, repository: &Path, logs: &Path) -> Self {
        let mut variables = self.environment.variables().clone();
        variables.insert("AGENT_RUNNER_REPO_ROOT".into(), repository.into());
        variables.insert("AGENT_RUNNER_LOG_ROOT".into(), logs.into());
        Self {
            ui: self.ui.clone(),
            environment: variables.into_iter().collect(),
            current_directory: self.current_directory.clone(),
            config: self.config.clone(),
        }
    }

    /// The same configuration in another environment, as cron has one, started in the repository.
    pub(crate) fn under(&self, environment: Environment, settings: &Settings) -> Self {
        Self {
            ui: self.ui.clone(),
            environment,
            current_directory: settings.runner.repo_root.value.clone(),
            config: settings.file.clone(),
        }
    }

    /// Whether characters beyond ASCII can be shown, as the locale says.
    pub(crate) fn has_utf8(&self) -> bool {
        let names = ["LC_ALL", "LC_CTYPE", "LANG"];
        let named = names.iter().find_map(|name| self.environment.get(name));
        named.and_then(OsStr::to_str).is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.ends_with("utf-8") || locale.ends_with("utf8")
        })
    }

    /// Loads the settings with what the command line overrides.
    pub(crate) fn settings(&self, overrides: Overrides) -> Result<Settings, CliError> {
        let settings = self.settings_quietly(overrides)?;
        let open = log_root::writable_by_others(&settings.runner);
        let warnings = settings.warnings.iter().map(ToString::to_string);
        for warning in warnings.chain(open) {
            self.ui.talk(&format!("warning: {warning}"));
        }
        Ok(settings)
    }

    /// The same for whoever tells the warnings itself, or nobody.
    pub(crate) fn settings_quietly(&self, overrides: Overrides) -> Result<Settings, CliError> {
        let overrides = Overrides {
            config: self.config.clone(),
            ..overrides
        };
        let mut settings = config::load(&self.environment, &self.current_directory, &overrides)
            .map_err(|error| CliError::usage("the configuration is wrong").because(error))?;
        let short = short_secrets(&self.environment, &settings);
        settings.warnings.extend(short);
        log_root::refuse_repository(&settings.runner)?;
        Ok(settings)
    }
}

/// The machine's clock.
#[derive(Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one clock that is not a test's"
    )]
    fn now(&self) -> DateTime<Utc> {
        // Unlike this, `Utc::now` panics before 1970.
        SystemTime::now().into()
    }
}

pub(crate) fn layout(settings: &Settings) -> Layout {
    Layout::new(&settings.runner.log_root.value)
}

/// Makes no repository where a path was mistyped: logs lie in it unless the log root is elsewhere.
///
/// # Errors
/// When the log root would be in a directory that is not there.
pub(crate) fn refuse_missing_repository(settings: &Settings) -> Result<(), CliError> {
    let runner = &settings.runner;
    let (repository, logs) = (&runner.repo_root.value, &runner.log_root.value);
    if !logs.starts_with(repository) || repository.exists() {
        return Ok(());
    }
    let message = format!("the repository `{}` does not exist", repository.display());
    Err(CliError::failure(message).hint(
        "nothing was started or recorded; name the right one: --repo, AGENT_RUNNER_REPO_ROOT or \
         `repo_root`",
    ))
}

/// Makes a directory that was asked for, and those above it.
pub(crate) fn make_directory(path: &Path) -> Result<(), CliError> {
    fs::create_dir_all(path).map_err(|error| {
        let message = format!("cannot make the directory `{}`", path.display());
        let error = CliError::failure(message).because(error);
        error.hint("name one that is there, or a new one where you can write")
    })
}

/// The queue of this log root alone, where none is configured.
pub(crate) fn own_queue(layout: &Layout) -> QueueUrl {
    QueueUrl::sqlite(layout.state().join("queue.sqlite"))
}

/// Whether this log root has had a queue of its own.
pub(crate) fn has_own_queue(layout: &Layout) -> bool {
    own_queue(layout).path().is_some_and(Path::is_file)
}

/// Where claims are kept.
pub(crate) fn queue_url(settings: &Settings, layout: &Layout) -> Result<QueueUrl, CliError> {
    match &settings.queue.url {
        None => Ok(own_queue(layout)),
        Some(url) => url.value.expose().parse().map_err(|error| {
            CliError::usage(format!("the queue's address ({}) is wrong", url.origin)).because(error)
        }),
    }
}

/// Where local tasks wait: only this machine has their repositories. A server's queue is for several.
pub(crate) fn local_queue_url(settings: &Settings, layout: &Layout) -> Result<QueueUrl, CliError> {
    Ok(local_queue(&queue_url(settings, layout)?, layout))
}

/// The same beside a queue.
pub(crate) fn local_queue(url: &QueueUrl, layout: &Layout) -> QueueUrl {
    match url.path() {
        Some(_) => url.clone(),
        None => own_queue(layout),
    }
}

pub(crate) fn log_caps(settings: &Settings) -> LogCaps {
    LogCaps {
        head: settings.runner.log_head_bytes.value,
        tail: settings.runner.log_tail_bytes.value,
    }
}

/// The notifier that is configured, if one is.
pub(crate) fn notifier(settings: &Settings) -> Option<Ntfy> {
    let topic = settings.ntfy.topic.as_ref()?;
    let credentials = settings
        .ntfy
        .credentials
        .as_ref()
        .map(|known| match &known.value {
            NtfyCredentials::Token(token) => Credentials::Token(token.expose().to_owned()),
            NtfyCredentials::User { name, password } => Credentials::Password {
                user: name.clone(),
                password: password.expose().to_owned(),
            },
        });
    let server = &settings.ntfy.server.value;
    Some(Ntfy::new(server, &topic.value, credentials))
}

/// The name of this configuration, however its path is spelled: others may have the same log root.
pub(crate) fn configuration(settings: &Settings) -> String {
    let owner = settings.owner();
    let path = fs::canonicalize(owner).unwrap_or_else(|_| owner.to_owned());
    digest(path.as_os_str().as_encoded_bytes())
}

/// The name of what is noted of this configuration: of its path as it is spelled, which stays the same
/// where a link leads to another version.
pub(crate) fn subject(what: &str, settings: &Settings) -> String {
    let owner = settings.owner().as_os_str();
    format!("{what}-{}", digest(owner.as_encoded_bytes()))
}

/// Where notifications go, in a word: a topic may be all that it takes to read along.
pub(crate) fn place(notifier: &Ntfy) -> String {
    digest(format!("{}/{}", notifier.server(), notifier.topic()).as_bytes())
}

fn digest(bytes: &[u8]) -> String {
    text::hexadecimal(&Sha256::digest(bytes)[..8])
}

/// The environment that programs are found in and agents inherit from: the runner's own, with the
/// configured directories in front of `PATH`.
pub(crate) fn inherited(
    environment: &Environment,
    settings: &Settings,
) -> BTreeMap<OsString, OsString> {
    let mut variables = environment.variables().clone();
    let prefix = &settings.runner.path_prefix.value;
    if !prefix.is_empty() {
        let path = variables
            .get(OsStr::new("PATH"))
            .cloned()
            .unwrap_or_default();
        let directories = prefix.iter().cloned().chain(std::env::split_paths(&path));
        // A directory with a colon in its name cannot stand in PATH; it is left out.
        let path = std::env::join_paths(directories.filter(|path| !has_colon(path)));
        variables.insert("PATH".into(), path.unwrap_or_default());
    }
    variables
}

fn has_colon(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&b':')
}

/// A plan for one agent on one task.
pub(crate) fn plan(
    world: &World,
    settings: &Settings,
    agent: &AgentSettings,
    task: &TaskSettings,
) -> Result<RunPlan, CliError> {
    let runner = &settings.runner;
    let takes_no_model = agent
        .command
        .as_ref()
        .is_some_and(|own| own.model_flag.is_none());
    if takes_no_model && agent.model.is_some() {
        return Err(
            CliError::usage(format!("the agent `{}` takes no model", agent.name))
                .hint("name the flag for it as `model_flag` in its table of config.toml"),
        );
    }
    let exposed = |(name, value): (&String, &Secret)| (name.clone(), value.expose().to_owned());
    let inherited = inherited(&world.environment, settings);
    let set_environment = agent.environment.value.iter().map(exposed).collect();
    let secrets = planner::secrets(&inherited, &set_environment, own_secrets(settings));
    Ok(RunPlan {
        task: task.task.clone(),
        agent: agent.name.clone(),
        backend: backend(agent)?,
        binary: binary(agent)?,
        binary_key: binary_key(agent),
        model: agent.model.as_ref().map(|model| model.value.clone()),
        effort: agent.effort.as_ref().map(|effort| effort.value.clone()),
        arguments: agent.arguments.value.clone(),
        set_environment,
        pass_environment: agent.pass_environment.value.clone(),
        inherited,
        repository: runner.repo_root.value.clone(),
        prompts_directory: runner.prompts_dir.value.clone(),
        debug_prompt: None,
        limits: Limits {
            timeout: task.task.timeout,
            stall_timeout: task.task.stall_timeout,
            grace_period: runner.grace_period.value,
            patience: runner.limit_patience.value,
        },
        identity: Identity {
            name: settings.git.name.value.clone(),
            email: settings.git.email.value.clone(),
        },
        configuration: configuration(settings),
        caps: agent.caps,
        worst_case: WorstCase {
            tokens: runner.worst_case_tokens.value,
            usd: runner.worst_case_usd.value,
        },
        park_default: runner.park_default.value,
        retry_pause: runner.retry_pause.value,
        secrets,
        request: None,
        exact_prompt: None,
        base: None,
        previous_run: None,
        earlier: None,
        notes: Vec::new(),
    })
}

/// The key of an agent's table that names its program.
pub(crate) fn binary_key(agent: &AgentSettings) -> &'static str {
    match agent.command {
        Some(_) => "command",
        None => "binary",
    }
}

/// All that no log may show: what the settings name, and what is secret in the environment.
pub(crate) fn secrets(world: &World, settings: &Settings) -> Vec<String> {
    let inherited = inherited(&world.environment, settings);
    planner::secrets(&inherited, &BTreeMap::new(), own_secrets(settings))
}

/// The secrets that the settings name.
fn own_secrets(settings: &Settings) -> impl Iterator<Item = String> {
    let ntfy = settings
        .ntfy
        .credentials
        .iter()
        .map(|known| match &known.value {
            NtfyCredentials::Token(secret)
            | NtfyCredentials::User {
                password: secret, ..
            } => secret.expose().to_owned(),
        });
    let github = settings.github.credentials.iter();
    let github = github.flat_map(|known| match &known.value {
        GithubCredentials::Token(token) => vec![token.expose().to_owned()],
        GithubCredentials::App { key_file, .. } => lines_of_key(key_file),
    });
    // Who knows it can read along; a plain word, or one in the repository's name, is no secret.
    let repository = settings.runner.repo_root.value.display().to_string();
    let is_secret = move |topic: &String| is_unguessable(topic, 16) && !repository.contains(topic);
    let topic = settings.ntfy.topic.as_ref();
    let topic = topic.map(|topic| topic.value.clone()).filter(is_secret);
    let queue = settings.queue.url.iter();
    let queue = queue.flat_map(|url| secrets_of(url.value.expose()));
    let pings = settings
        .tasks
        .values()
        .filter_map(|task| task.ping_url.as_ref());
    let pings = pings.flat_map(|url| {
        // The last part of the path is what the service knows the task by; a plain word is no secret.
        let last = url.expose().trim_end_matches('/').rsplit('/').next();
        let last = last.filter(|part| is_unguessable(part, 16));
        let last = last.map(str::to_owned);
        secrets_of(url.expose()).into_iter().chain(last)
    });
    let server = settings.ntfy.server.value.as_str();
    let server = Some(server).filter(|server| server.contains('@'));
    let server = server.into_iter().flat_map(secrets_of);
    let all = ntfy.chain(topic).chain(github).chain(queue);
    all.chain(pings).chain(server)
}

/// Whether a name is long enough for a secret, and no plain word.
fn is_unguessable(name: &str, least: usize) -> bool {
    name.len() >= least && name.bytes().any(|byte| byte.is_ascii_digit())
}

/// The lines of a private key, which are secrets by themselves. That it cannot be read is told
/// elsewhere; what can be read only once is left for there.
fn lines_of_key(file: &Path) -> Vec<String> {
    if !file.is_file() {
        // Opening a pipe and closing it would end who writes to it.
        return Vec::new();
    }
    let key = regular::open_linked(File::options().read(true), file)
        .and_then(|file| io::read_to_string(file.take(1 << 16)));
    let key = key.unwrap_or_default();
    let lines = redact::lines_of_key(&key).into_iter();
    lines.map(str::to_owned).collect()
}

/// What a person is told of secrets that are too short to be masked: their names.
fn short_secrets(environment: &Environment, settings: &Settings) -> Vec<Warning> {
    let ntfy = settings.ntfy.credentials.iter();
    let ntfy = ntfy.map(|known| match &known.value {
        NtfyCredentials::Token(token) => ("ntfy.token", token.expose()),
        NtfyCredentials::User { password, .. } => ("ntfy.password", password.expose()),
    });
    let github = settings.github.credentials.iter();
    let github = github.filter_map(|known| match &known.value {
        GithubCredentials::Token(token) => Some(("github.token", token.expose())),
        GithubCredentials::App { .. } => None,
    });
    let variables = settings.agents.values().flat_map(|agent| {
        let set = agent.environment.value.iter();
        let set = set.map(|(name, value)| (name.as_str(), value.expose()));
        let passed = agent.pass_environment.value.iter();
        let value = |name: &str| environment.get(name).and_then(OsStr::to_str);
        set.chain(passed.filter_map(move |name| Some((name.as_str(), value(name)?))))
    });
    // A plain word, as local models take, is no secret.
    let is_secret = |(name, value): &(&str, &str)| {
        planner::is_secret(OsStr::new(name), OsStr::new(value)) && is_unguessable(value, 1)
    };
    let named = ntfy.chain(github).chain(variables.filter(is_secret));
    let short = named.filter(|(_, value)| !value.is_empty() && redact::is_too_short(value));
    let names: BTreeSet<&str> = short.map(|(name, _)| name).collect();
    let told = names.into_iter().map(|name| Warning {
        about: "secret",
        what: format!("the value of `{name}` is too short to be masked"),
        fix: "take one of 8 bytes or more".to_owned(),
    });
    told.collect()
}

/// An address that holds a secret, and by themselves the user and the password in it.
fn secrets_of(address: &str) -> Vec<String> {
    let mut secrets = vec![address.to_owned()];
    let place = address.split_once("://").map_or(address, |(_, rest)| rest);
    let place = place.split(['/', '?', '#']).next().unwrap_or(place);
    if let Some((user, _)) = place.rsplit_once('@') {
        let password = user.split_once(':').map_or(user, |(_, password)| password);
        for part in [user, password] {
            let plain = percent_encoding::percent_decode_str(part).decode_utf8_lossy();
            secrets.extend([part.to_owned(), plain.into_owned()]);
        }
    }
    secrets
}

/// The program of an agent; the runner itself for an agent that is part of it.
pub(crate) fn binary(agent: &AgentSettings) -> Result<PathBuf, CliError> {
    match &agent.binary {
        Some(binary) => Ok(binary.value.clone()),
        None => own_program(),
    }
}

/// The runner's own program.
pub(crate) fn own_program() -> Result<PathBuf, CliError> {
    std::env::current_exe()
        .map_err(|error| CliError::failure("the runner's own program is not found").because(error))
}

/// How an agent is spoken to.
fn backend(agent: &AgentSettings) -> Result<Arc<dyn AgentInterface>, CliError> {
    let missing = || CliError::usage(format!("no backend `{}` is built in", agent.interface));
    let Some(command) = &agent.command else {
        return Ok(Arc::new(
            agents::find(&agent.interface).ok_or_else(missing)?,
        ));
    };
    Ok(Arc::new(ConfiguredAgent {
        name: agent.name.clone(),
        arguments: command.arguments.clone(),
        prompt: command.prompt,
        output: OutputFormat::from_name(&agent.interface).ok_or_else(missing)?,
        model_flag: command.model_flag.clone(),
        stop_signal: command.stop_signal,
    }))
}

/// The open files that any command gets by with: pipes, logs and locks of a run, and what it reads.
const ENOUGH_FILES: u64 = 64;

/// For how long a thread that may block stays: as long as any command works. There are as many as were
/// ever needed at once, a few.
const THREAD_KEPT: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Runs a command's future: everything on this thread, which agents must be spawned from.
pub(crate) fn block_on<F: Future>(future: F) -> Result<F::Output, CliError> {
    let most = limits::open_files();
    if most < ENOUGH_FILES {
        let message =
            format!("only {most} files may be open at once, and {ENOUGH_FILES} are needed");
        return Err(CliError::failure(message).hint(TOO_MANY_FILES));
    }
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(THREAD_KEPT)
        .on_thread_start(leave_signals_to_main)
        .build()
        .map_err(|error| CliError::failure("the runtime cannot be started").because(error))?;
    start_first_thread(&runtime)?;
    let output = runtime.block_on(future);
    // Dropping it would wait for a name server that does not answer.
    runtime.shutdown_background();
    Ok(output)
}

/// Starts the first thread for what blocks. As every such thread stays, there is always one that does
/// such work, also where no other can be had; tokio panics where there is none.
fn start_first_thread(runtime: &Runtime) -> Result<(), CliError> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_told_below| ()));
    let started = panic::catch_unwind(AssertUnwindSafe(|| drop(runtime.spawn_blocking(|| ()))));
    panic::set_hook(hook);
    let failure = |_| CliError::failure("no thread can be started").hint(TOO_MANY_PROCESSES);
    started.map_err(failure)
}

/// Begins to take the signals that ask to end; within [`block_on`].
pub(crate) fn listen() -> Result<Shutdown, CliError> {
    Shutdown::listen().map_err(|error| CliError::failure("signals cannot be taken").because(error))
}

/// Ends also the runs whose mark is lost, and gives notifications up that are, for which it looks at
/// every run.
pub(crate) fn recover_all(
    world: &World,
    layout: &Layout,
    announce: Option<&Announce<'_>>,
) -> Result<(), CliError> {
    find_lost(layout, SystemClock.now()).map_err(not_ended)?;
    recover(world, layout, announce)
}

fn not_ended(error: StoreError) -> CliError {
    CliError::failure("runs that crashed cannot be ended").because(error)
}

/// Ends the runs whose runner died, at the head of every command that changes anything.
pub(crate) fn recover(
    world: &World,
    layout: &Layout,
    announce: Option<&Announce<'_>>,
) -> Result<(), CliError> {
    let inherited = world.environment.variables();
    let recovered =
        recovery::recover(inherited, layout, announce, &SystemClock).map_err(not_ended)?;
    for ended in recovered {
        world.ui.talk(&match ended {
            Ok(record) => format!("warning: {} crashed: its runner died", record.path()),
            Err(error) => format!(
                "warning: a crashed run, or the notification of an ended one, cannot be settled: {}",
                chain(&error)
            ),
        });
    }
    for odd in odd_marks(layout).map_err(not_ended)? {
        world.ui.talk(&format!(
            "warning: `{}` is no file, so no mark of a run that has begun: it is passed over; \
             remove it",
            odd.display()
        ));
    }
    Ok(())
}

/// Words what is told of a finished run; `None` where nobody is told.
pub(crate) fn announcement(settings: &Settings, layout: &Layout) -> Option<Box<Announce<'static>>> {
    settings.ntfy.topic.as_ref()?;
    let root = layout.root().to_owned();
    Some(Box::new(move |record| {
        wording::of_run(record, &root.join(record.path()))
    }))
}

/// The longest time that a command spends on delivering notifications.
const DELIVERY_LIMIT: Duration = Duration::from_secs(10);

/// Delivers the notifications that wait. What fails is said, and changes nothing else.
pub(crate) async fn deliver(ui: &Ui, layout: &Layout, notifier: Option<&Ntfy>) {
    let Some(notifier) = notifier else { return };
    tell_delivered(
        ui,
        deliver::deliver(layout, notifier, DELIVERY_LIMIT, &SystemClock).await,
    );
}

/// Gives the outbox once more what it did not take of runs that have ended; else delivers it at once,
/// up to the first that fails.
pub(crate) async fn deliver_unkept(
    world: &World,
    layout: &Layout,
    notifier: Option<&Ntfy>,
    announce: Option<&Announce<'_>>,
    records: &[Record],
) {
    if !records.is_empty()
        && let Err(error) = recover(world, layout, announce)
    {
        tracing::warn!(error = error.brief(), "not recovered");
    }
    for record in records {
        let run: Option<RunPath> = record.path().parse().ok();
        let run = run.filter(|run| layout.run(run).mark().exists());
        let message = announce.and_then(|announce| announce(record));
        if let (Some(notifier), Some(run), Some(message)) = (notifier, run, message) {
            let clock = SystemClock;
            let entry = Entry::of_run(&run, record.outcome, message, clock.now());
            let delivered =
                deliver::deliver_unkept(layout, notifier, &entry, DELIVERY_LIMIT, &clock).await;
            let has_failed = delivered.error.is_some();
            tell_delivered(&world.ui, Ok(delivered));
            if has_failed {
                return;
            }
        }
    }
}

fn tell_delivered(ui: &Ui, delivered: Result<Delivered, StoreError>) {
    for error in delivered.iter().flat_map(|delivered| &delivered.unread) {
        ui.talk(&format!("warning: not notified: {}", chain(error)));
    }
    let noted = delivered.as_ref();
    if let Some((state, error)) = noted.ok().and_then(|noted| noted.unnoted.as_ref()) {
        let (state, why) = (state.as_str(), chain(error));
        ui.talk(&format!(
            "warning: a notification is {state}, which its run's record cannot note: {why}"
        ));
    }
    match delivered {
        Ok(Delivered { error: None, .. }) => {}
        Ok(Delivered {
            error: Some(error),
            left,
            ..
        }) => {
            let waiting = match left {
                0 => String::new(),
                left => format!(
                    "; {} waiting in the outbox",
                    text::count(left, "notification")
                ),
            };
            ui.talk(&format!(
                "warning: not notified: {}{waiting}",
                chain(&error)
            ));
        }
        Err(error) => ui.talk(&format!(
            "warning: the delivery of notifications broke off: {}",
            chain(&error)
        )),
    }
}

/// Says which directories of the log root are passed over.
pub(crate) fn tell_unlisted(world: &World, layout: &Layout) {
    for error in reader::unlisted(layout, &Filter::default()) {
        let why = chain(&error);
        (world.ui).talk(&format!("warning: {why}; runs in it are passed over"));
    }
}

/// The run that a person named.
pub(crate) fn find_run(layout: &Layout, name: &str) -> Result<Run, CliError> {
    reader::find(layout, name, SystemClock.now()).map_err(|error| {
        CliError::failure("the run is not found")
            .because(error)
            .hint("`agent-runner runs` lists them")
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_user_and_the_password_of_an_address_are_secrets_by_themselves() {
        let address = "postgres://u:a%2Fb@host:5432/name";
        assert_eq!(
            secrets_of(address),
            [address, "u:a%2Fb", "u:a/b", "a%2Fb", "a/b"]
        );
        let plain = "https://ping.example/word@x";
        assert_eq!(secrets_of(plain), [plain]);
    }

    #[test]
    fn what_hangs_in_the_background_holds_up_no_command() {
        let (sender, receiver) = mpsc::channel::<()>();
        let began = Instant::now();
        let waits = move || receiver.recv_timeout(Duration::from_secs(10)).is_err();
        block_on(async { drop(tokio::task::spawn_blocking(waits)) }).unwrap();
        assert!(began.elapsed() < Duration::from_secs(5));
        drop(sender);
    }
}
