//! Everything that is looked at: each room is asked for what it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;

use super::agents::{self, names};
use super::network::{self, Heard};
use crate::checkup::facts::{
    Agent, Configuration, Cron, Facts, Missing, Repository, RepositoryState, Runs,
};
use crate::cli::args::DoctorArguments;
use crate::cli::commands::{due, schedule, timers};
use crate::cli::error::CliError;
use crate::cli::log_root::{self, Ignorance};
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::settings::Settings;
use crate::git::{Git, GitError, Identity};
use crate::model::clock::Clock as _;
use crate::model::record::NotificationState;
use crate::model::task::Containment;
use crate::model::text::chain;
use crate::planner;
use crate::process::budget::Budget;
use crate::process::identity::{can_look, is_root};
use crate::process::program::{find_program, interpreter};
use crate::process::trial;
use crate::recovery;
use crate::schedule::crontab::{CRON_PATH, Job};
use crate::store::foreign::foreign;
use crate::store::ground;
use crate::store::layout::Layout;
use crate::store::outbox::{EXPIRES_AFTER, Outbox};
use crate::store::reader::{self, Filter};
use crate::store::recovery::{find_lost, running};
use crate::writers;

/// The longest time for git in all.
const GIT_LIMIT: Duration = Duration::from_secs(10);

/// The newest runs that are searched for notifications that were given up.
const RECENT_RUNS: usize = 500;

/// Looks at everything, and ends runs whose runner died.
pub(super) fn gather(
    world: &World,
    settings: &Settings,
    arguments: &DoctorArguments,
) -> Result<Facts, CliError> {
    let layout = wiring::layout(settings);
    let inherited = wiring::inherited(&world.environment, settings);
    let runs = runs(world, settings, &layout);
    let mut agents = agents::agents(settings, &inherited);
    let cron = cron(world, settings, arguments.cron, &layout, &agents);
    let jobs = cron.jobs.as_deref().unwrap_or(&[]);
    agents::note_wanted(&mut agents, settings, &layout, jobs);
    let publishes = arguments.probe.is_some();
    let (containments, heard) = wiring::block_on(async {
        let containments = containments(settings, &inherited).await;
        (containments, network::ask(settings, publishes).await)
    })?;
    let Heard {
        mut notifications,
        github,
        queue,
        skews,
    } = heard;
    let outbox = Outbox::new(&layout);
    notifications.waiting = outbox.count().unwrap_or_default();
    let unread = outbox.unread().unwrap_or_else(|error| vec![error]);
    notifications.unread = unread.iter().map(|error| chain(error)).collect();
    notifications.refused = outbox.refused().unwrap_or_default();
    notifications.refused_directory = layout.refused();
    notifications.expired = expired(&layout);
    let (prompts, bad_prompts) = prompts(world, settings);
    Ok(Facts {
        now: SystemClock.now(),
        configuration: configuration(world, settings),
        agents,
        repository: repository(settings, &inherited, &layout),
        bad_prompts,
        prompts,
        runs,
        containments: containments?,
        notifications,
        github,
        queue,
        cron,
        skews,
    })
}

fn configuration(world: &World, settings: &Settings) -> Configuration {
    let set = settings.set.iter();
    // What everybody can do is told in its own words.
    let is_open = |file: &Path| writers::has_others(file) && !writers::has_everybody(file);
    Configuration {
        file: settings.file.clone(),
        open_to_others: settings.file.as_deref().is_some_and(is_open),
        set: set
            .map(|(key, origin)| (key.clone(), origin.to_string()))
            .collect(),
        warnings: settings.warnings.clone(),
        has_home: world.environment.home().is_some(),
        is_root: is_root(),
        can_look: can_look(),
    }
}

fn runs(world: &World, settings: &Settings, layout: &Layout) -> Runs {
    let announce = wiring::announcement(settings, layout);
    let announce = announce.as_deref();
    let variables = world.environment.variables();
    let recovered = find_lost(layout, SystemClock.now())
        .and_then(|()| recovery::recover(variables, layout, announce, &SystemClock));
    let ground = ground::survey(layout.root()).map_err(|error| error.to_string());
    let mut crashed = Vec::new();
    let failed = match recovered {
        Ok(ended) => (ended.into_iter())
            .filter_map(|ended| ended.map(|record| crashed.push(record.path())).err())
            .last(),
        Err(error) => Some(error),
    };
    let ground = ground.and_then(|ground| match failed {
        // What cannot be written is told in better words.
        Some(error) if ground.unwritable.is_none() => Err(chain(&error)),
        _ => Ok(ground),
    });
    // Before the first run there is nothing to ask git about; git's faults are told elsewhere.
    let ignorance = if layout.gitignore().is_file() {
        let tasks = settings.tasks.values().map(|task| &task.task.name);
        let tasks: Vec<_> = tasks.filter(|task| layout.task(task).is_dir()).collect();
        log_root::ignorance(world, settings, layout, &tasks).unwrap_or_default()
    } else {
        Ignorance::default()
    };
    Runs {
        root: layout.root().to_owned(),
        ground,
        // A log root that cannot be listed is told by its ground.
        foreign: foreign(layout).unwrap_or_default(),
        unlisted: (reader::unlisted(layout, &Filter::default()).iter())
            .map(|error| chain(error))
            .collect(),
        tracked: ignorance.tracked,
        unignored: ignorance.unignored,
        crashed,
        // Marks that cannot be listed are told with what failed above.
        running: running(layout).unwrap_or_default(),
    }
}

fn expired(layout: &Layout) -> usize {
    let now = SystemClock.now();
    let filter = Filter {
        since: Some(now - EXPIRES_AFTER - TimeDelta::days(7)),
        ..Filter::past(now)
    };
    let Ok(runs) = reader::runs(layout, &filter) else {
        return 0;
    };
    runs.take(RECENT_RUNS)
        .filter(|run| run.record.notification.state == NotificationState::Expired)
        .count()
}

/// How many prompts there are, and which of them cannot be made.
fn prompts(world: &World, settings: &Settings) -> (usize, Vec<(String, String)>) {
    let mut bad = Vec::new();
    // Any agent does: the prompt is the task's.
    let agent = settings
        .agents
        .values()
        .find(|agent| agent.command.is_none());
    for task in settings.tasks.values() {
        let plan = agent.map(|agent| wiring::plan(world, settings, agent, task));
        let checked = match plan {
            Some(Ok(plan)) => planner::check_prompt(&plan).map_err(|error| chain(&error)),
            Some(Err(error)) => Err(error.brief()),
            None => Ok(()),
        };
        bad.extend(checked.err().map(|why| (task.task.name.to_string(), why)));
    }
    (settings.tasks.len(), bad)
}

fn repository(
    settings: &Settings,
    inherited: &BTreeMap<OsString, OsString>,
    layout: &Layout,
) -> Repository {
    let path = settings.runner.repo_root.value.clone();
    let budget = Budget::new(GIT_LIMIT);
    let anywhere = Git::new(inherited, Path::new("/")).within(&budget);
    let git = Git::new(inherited, &path)
        .ignoring(layout.root())
        .within(&budget);
    let told = |error: GitError| (chain(&error), error.hint().map(str::to_owned));
    Repository {
        git: anywhere.version().map_err(|error| chain(&error)),
        state: git.health(SystemClock.now()).map_err(told).map(|health| {
            let snapshot = health.snapshot();
            let identity = snapshot.identity(&Identity {
                name: settings.git.name.value.clone(),
                email: settings.git.email.value.clone(),
            });
            RepositoryState {
                branch: snapshot.branch().map(str::to_owned),
                has_commit: snapshot.head().is_some(),
                changes: health.changes,
                in_progress: snapshot.in_progress().map(str::to_owned),
                index_lock: health.index_lock,
                committer: format!("{} <{}>", identity.name, identity.email),
                is_committer_configured: health.names_committer(),
            }
        }),
        path,
    }
}

/// What came of trying every containment that a task asks for.
async fn containments(
    settings: &Settings,
    inherited: &BTreeMap<OsString, OsString>,
) -> Result<Vec<(String, Result<String, String>)>, CliError> {
    let program = wiring::own_program()?;
    let mut shutdown = wiring::listen()?;
    let environment: Vec<_> = planner::inheritable(inherited, &[], &[])
        .into_iter()
        .collect();
    let mut wanted: Vec<_> = settings
        .tasks
        .values()
        .map(|task| task.task.containment)
        .collect();
    wanted.sort_unstable_by_key(|wanted| wanted.map_or("", Containment::as_str));
    wanted.dedup();
    let mut tried = Vec::new();
    for wanted in wanted {
        let got = trial::contain(wanted, &program, &environment, &mut shutdown).await;
        let name = wanted.map_or("auto", Containment::as_str);
        tried.push((name.to_owned(), got.map(|got| got.as_str().to_owned())));
    }
    Ok(tried)
}

fn cron(
    world: &World,
    settings: &Settings,
    is_wanted: bool,
    layout: &Layout,
    agents: &[Agent],
) -> Cron {
    let jobs = schedule::jobs(world, settings).map_err(|error| error.brief());
    let jobs = jobs.map(Option::unwrap_or_default);
    let mut scheduled: Vec<_> = due::configured(settings, layout)
        .map(|entry| entry.task.to_string())
        .collect();
    scheduled.dedup();
    let beat = fs::metadata(layout.heartbeat_log()).and_then(|file| file.modified());
    let (paths, missing) = programs(world, settings, jobs.as_deref().unwrap_or(&[]), agents);
    Cron {
        jobs,
        timers: timers::timers(world, settings)
            .into_iter()
            .map(|timer| timer.name)
            .collect(),
        is_wanted,
        paths,
        missing,
        scheduled,
        heartbeat: beat.ok().map(|beat| {
            let age = SystemClock.now() - chrono::DateTime::from(beat);
            age.to_std().unwrap_or_default()
        }),
    }
}

/// Where the lines of the crontab, else one without any, find programs, and those that they do not
/// find.
fn programs(
    world: &World,
    settings: &Settings,
    jobs: &[Job],
    agents: &[Agent],
) -> (Vec<String>, Vec<Missing>) {
    let installed = |agent: &&Agent| matches!(agent.program, Ok(Some(_)));
    let binary = |settings: &Settings, agent: &Agent| {
        let known = settings.agents.get(&agent.name);
        known.and_then(|known| known.binary.clone())
    };
    let (mut paths, mut missing) = (BTreeSet::new(), BTreeSet::new());
    let mut look = |name: &Path, path: &OsStr, is_needed| {
        missing.extend(unfound(name, path).map(|program| Missing {
            program,
            path: path.to_string_lossy().into_owned(),
            is_needed,
        }));
    };
    for job in jobs {
        let call = job.call().expect("only lines with a call were kept");
        // The runner's own settings do not help cron to find the runner.
        let program = match &call.directory {
            Some(directory) if call.program.contains('/') => {
                Path::new(directory).join(&call.program)
            }
            _ => PathBuf::from(&call.program),
        };
        look(&program, OsStr::new(job.path()), true);
        let (settings, path) = under_cron(world, settings, Some(job));
        look(Path::new("git"), &path, true);
        for agent in agents.iter().filter(installed) {
            if let Some(binary) =
                binary(&settings, agent).filter(|_| names(job, agent.name.as_str()))
            {
                look(&binary.value, &path, true);
            }
        }
        paths.insert(path.to_string_lossy().into_owned());
    }
    let (settings, path) = under_cron(world, settings, jobs.first());
    if jobs.is_empty() {
        look(Path::new("agent-runner"), OsStr::new(CRON_PATH), false);
        look(Path::new("git"), &path, true);
        paths.insert(path.to_string_lossy().into_owned());
    }
    for agent in agents.iter().filter(installed) {
        let is_named = jobs.iter().any(|job| names(job, agent.name.as_str()));
        if let Some(binary) = binary(&settings, agent).filter(|_| !is_named) {
            look(&binary.value, &path, false);
        }
    }
    (paths.into_iter().collect(), missing.into_iter().collect())
}

/// The settings as a line of the crontab has them, and where it finds programs.
fn under_cron(world: &World, settings: &Settings, job: Option<&Job>) -> (Settings, OsString) {
    let mut variables = job.map_or_else(BTreeMap::new, |job| job.environment.clone());
    let path = job.map_or(CRON_PATH, Job::path).to_owned();
    variables.insert("PATH".to_owned(), path);
    let there = world.under(variables.into_iter().collect(), settings);
    // Where the configuration does not hold without what is set here, that is its own finding.
    let loaded = there.settings_quietly(Overrides::default());
    let settings = loaded.unwrap_or_else(|_| settings.clone());
    let path = wiring::inherited(&there.environment, &settings).remove(OsStr::new("PATH"));
    (settings, path.unwrap_or_default())
}

/// What is not found of a program and its interpreter.
fn unfound(name: &Path, path: &OsStr) -> Option<String> {
    let Ok(file) = find_program(name, path) else {
        return Some(name.display().to_string());
    };
    let needed = interpreter(&file)?;
    find_program(&needed, path).err()?;
    Some(format!(
        "{}, which {} needs",
        needed.display(),
        name.display()
    ))
}
