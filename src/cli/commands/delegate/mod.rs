//! `delegate` and `delegated`: hands a task to whoever works on dispatch issues, and follows it.

pub(super) mod issues;

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::args::{DelegateArguments, DelegatedArguments};
use crate::cli::columns::{Column, Columns};
use crate::cli::commands::delegate::issues::Id;
use crate::cli::commands::dispatch;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::settings::Settings;
use crate::git::Git;
use crate::github::GitHub;
use crate::model::clock::{Clock as _, utc};
use crate::model::delegated::{Delegated, DelegatedState, Provider};
use crate::model::dispatch::WorkKey;
use crate::model::duration;
use crate::model::message::{Message, Priority};
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS, EXIT_TIMEOUT};
use crate::model::repository::RepositoryName;
use crate::model::text::{self, chain};
use crate::planner;
use crate::process::identity;
use crate::queue::{Queue, QueueError, State as WorkState, Work};
use crate::sources::delegation::Delegation;
use crate::sources::local::{self, LocalTask, PutError};
use crate::store::delegated;
use crate::store::layout::Layout;
use crate::store::outbox::{Entry, Outbox};

/// What helps when an id is taken.
const ANOTHER_ID: &str =
    "another `--task-id`, or none, names a new one; `delegated` lists what was handed over";

/// The longest instruction: what an issue holds.
const MAX_INSTRUCTION_BYTES: u64 = 60_000;

/// Hands a task over; with `--wait` follows it to its end.
pub(crate) fn delegate(world: &World, arguments: &DelegateArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let provider = provider(world, &settings, arguments)?;
    let order = Delegation {
        task_id: arguments
            .task_id
            .clone()
            .unwrap_or_else(|| new_id(SystemClock.now())),
        user_id: arguments.user_id.clone(),
        instruction: instruction(&arguments.instruction)?,
        target: arguments.repo.clone(),
    };
    wiring::block_on(async {
        let desk = Desk::open(&settings, &layout, provider).await?;
        let ended = desk.refuse_known(&order.task_id).await?;
        let ended = ended.and_then(|task| task.issue);
        let id = match arguments.task_id {
            Some(_) => Id::Given(ended.as_ref()),
            None => Id::New,
        };
        let mut task = desk.hand_over(world, &order, id).await?;
        desk.keep(&task)?;
        let mut is_unfinished = false;
        if arguments.wait {
            is_unfinished = !desk.follow(world, &mut task, arguments.timeout).await?;
            tell(&layout, &task, arguments.timeout);
            let notifier = wiring::notifier(&settings);
            wiring::deliver(&world.ui, &layout, notifier.as_ref()).await;
        }
        if arguments.json {
            let answer = json!({
                "ok": task.state != DelegatedState::Failed,
                "status": task.state.as_str(),
                "message": task.message,
                "trace": delegated::value(&task),
            });
            world.ui.data(&format!("{answer:#}"));
        } else {
            world
                .ui
                .data(&format!("{}\ntask: {}", task.message, task.task_id));
        }
        Ok(match task.state {
            DelegatedState::Failed => EXIT_FAILURE,
            _ if is_unfinished => EXIT_TIMEOUT,
            _ => EXIT_SUCCESS,
        })
    })?
}

/// Lists the tasks that were handed over, and how far they are.
pub(crate) fn delegated(world: &World, arguments: &DelegatedArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let failed = |error| CliError::failure("the delegated tasks cannot be read").because(error);
    let mut tasks = delegated::all(&layout).map_err(failed)?;
    wiring::block_on(async {
        for task in tasks.iter_mut().filter(|task| !task.state.is_final()) {
            let looked = async {
                let desk = Desk::open(&settings, &layout, task.provider).await?;
                desk.look(task).await.map_err(|unheard| unheard.error)?;
                desk.keep(task)
            };
            if let Err(error) = looked.await {
                world
                    .ui
                    .talk(&format!("warning: {}: {}", task.task_id, error.brief()));
            }
        }
        Ok::<_, CliError>(())
    })??;
    if arguments.json {
        let list: Vec<_> = tasks.iter().map(delegated::value).collect();
        world.ui.data(&format!("{:#}", json!(list)));
        return Ok(EXIT_SUCCESS);
    }
    if tasks.is_empty() {
        world.ui.talk("no task was delegated from here");
        return Ok(EXIT_SUCCESS);
    }
    let row = |task: &Delegated| {
        [
            utc(task.created_at).replace(" UTC", ""),
            text::first_line(&task.task_id, 36),
            task.provider.as_str().to_owned(),
            task.state.as_str().to_owned(),
            task.result.clone().unwrap_or_default(),
            text::first_line(&task.title, 100),
        ]
    };
    let rows: Vec<_> = tasks.iter().map(row).collect();
    let columns = Columns::fit(
        world.ui.width(),
        [
            Column::new("CREATED (UTC)", 4),
            Column::new("TASK", 1),
            Column::new("PROVIDER", 5),
            Column::new("STATE", 0),
            Column::new("RESULT", 2),
            Column::new("WHAT", 3).cut_to(20),
        ],
        rows.iter().cloned(),
    );
    world.ui.data(&columns.page(&rows));
    Ok(EXIT_SUCCESS)
}

/// The provider that was named, else the environment's, else the dispatch repository where one is
/// configured with a token, else GitHub's own agent.
fn provider(
    world: &World,
    settings: &Settings,
    arguments: &DelegateArguments,
) -> Result<Provider, CliError> {
    const VARIABLE: &str = "HANDSFREE_AGENT_DEFAULT_PROVIDER";
    let variable = world.environment.get(VARIABLE);
    let variable = variable.map(|name| name.to_string_lossy().into_owned());
    let (name, place) = match (&arguments.provider, variable) {
        (Some(name), _) => (name.clone(), "--provider"),
        (None, Some(name)) => (name, VARIABLE),
        (None, None) => {
            let dispatch = settings.dispatch.repo.as_ref();
            let has_issues = dispatch.zip(settings.github.credentials.as_ref()).is_some();
            return Ok(if has_issues {
                Provider::GithubIssueDispatch
            } else {
                Provider::Copilot
            });
        }
    };
    Provider::from_name(&name).ok_or_else(|| {
        let known = Provider::ALL.map(Provider::as_str);
        let suggestion = text::suggest(&name, known.into_iter());
        CliError::usage(format!(
            "{place}: there is no provider `{name}`; {suggestion}"
        ))
    })
}

fn instruction(given: &str) -> Result<String, CliError> {
    let instruction = if given == "-" {
        if std::io::stdin().is_terminal() {
            return Err(CliError::usage(
                "`-` reads the instruction from standard input",
            ));
        }
        let mut read = String::new();
        std::io::stdin()
            .take(MAX_INSTRUCTION_BYTES + 1)
            .read_to_string(&mut read)
            .map_err(|error| CliError::usage("the instruction cannot be read").because(error))?;
        read.trim_end().to_owned()
    } else {
        given.to_owned()
    };
    if instruction.trim().is_empty() {
        return Err(CliError::usage("the instruction is empty"));
    }
    if instruction.len() as u64 > MAX_INSTRUCTION_BYTES {
        return Err(CliError::usage(
            "the instruction is longer than an issue can hold",
        ));
    }
    Ok(instruction)
}

/// A new id, in the form of a UUID of one's own making (version 8 of RFC 9562).
pub(super) fn new_id(now: DateTime<Utc>) -> String {
    let (pid, nanoseconds) = (
        std::process::id(),
        now.timestamp_nanos_opt().unwrap_or_default(),
    );
    let boot = identity::boot_id().unwrap_or_default();
    let key = WorkKey::new(
        "task",
        &[
            &identity::host_name(),
            &boot,
            &pid.to_string(),
            &nanoseconds.to_string(),
        ],
    );
    let digits = key.as_str();
    let (a, b, c) = (&digits[..8], &digits[8..12], &digits[12..15]);
    format!("{a}-{b}-8{c}-9{}-{}", &digits[15..18], &digits[18..30])
}

/// Why nothing was heard of a task.
struct Unheard {
    error: CliError,
    /// Whether it may be heard of later without anybody's doing.
    is_passing: bool,
}

/// Where tasks are handed over and asked after.
struct Desk<'a> {
    provider: Provider,
    settings: &'a Settings,
    layout: &'a Layout,
    asked: Asked,
}

/// Who is asked at a desk.
enum Asked {
    /// GitHub, and where there is one, the queue from which workers on this machine, or who share
    /// it, take issues.
    GitHub(GitHub, Option<Queue>),
    /// The queue of local tasks.
    Local(Queue),
    /// Nobody.
    Mock,
}

impl<'a> Desk<'a> {
    async fn open(
        settings: &'a Settings,
        layout: &'a Layout,
        provider: Provider,
    ) -> Result<Self, CliError> {
        let asked = match provider {
            Provider::GithubIssueDispatch | Provider::Copilot => {
                let credentials = dispatch::credentials(settings)?;
                let github = dispatch::github(settings, layout, credentials)?;
                let is_there = settings.queue.url.is_some() || wiring::has_own_queue(layout);
                let mut of_issues = None;
                if provider == Provider::GithubIssueDispatch && is_there {
                    // GitHub alone tells how a task ends; the queue only knows more meanwhile.
                    let url = wiring::queue_url(settings, layout)?;
                    of_issues = Queue::open(&url).await.ok();
                }
                Asked::GitHub(github, of_issues)
            }
            Provider::Local => {
                layout
                    .create()
                    .map_err(|error| CliError::failure("the queue has no place").because(error))?;
                let url = wiring::local_queue_url(settings, layout)?;
                let queue = Queue::open(&url).await;
                Asked::Local(queue.map_err(|error| {
                    CliError::failure("the queue cannot be used").because(error)
                })?)
            }
            Provider::Mock => Asked::Mock,
        };
        Ok(Self {
            provider,
            settings,
            layout,
            asked,
        })
    }

    fn keep(&self, task: &Delegated) -> Result<(), CliError> {
        delegated::put(self.layout, task)
            .map_err(|error| CliError::failure("the task is not noted").because(error))
    }

    /// Refuses the id of a task that has not ended, which would be followed no more. The id of one
    /// that has ended, which is returned, may be given again.
    async fn refuse_known(&self, task_id: &str) -> Result<Option<Delegated>, CliError> {
        let Some(mut known) = delegated::get(self.layout, task_id) else {
            return Ok(None);
        };
        if known.provider == self.provider && !known.state.is_final() {
            // It may have ended since somebody asked. What cannot be asked counts as it was.
            match self.look(&mut known).await {
                Ok(()) => self.keep(&known)?,
                Err(unheard) => tracing::warn!("{task_id}: {}", unheard.error.brief()),
            }
        }
        if known.state.is_final() {
            return Ok(Some(known));
        }
        let state = known.state.as_str();
        let message = format!("there is a task `{task_id}` already, which is {state}");
        Err(CliError::usage(message).hint(ANOTHER_ID))
    }

    async fn hand_over(
        &self,
        world: &World,
        order: &Delegation,
        id: Id<'_>,
    ) -> Result<Delegated, CliError> {
        let mut task = Delegated {
            task_id: order.task_id.clone(),
            provider: self.provider,
            title: text::first_line(&order.instruction, 200),
            created_at: SystemClock.now(),
            state: DelegatedState::Running,
            message: String::new(),
            issue: None,
            target: None,
            directory: None,
            result: None,
        };
        match &self.asked {
            Asked::GitHub(github, _) => self.open_issue(github, order, id, &mut task).await?,
            Asked::Local(queue) => self.queue_locally(queue, world, order, &mut task).await?,
            Asked::Mock => "Mock agent started".clone_into(&mut task.message),
        }
        Ok(task)
    }

    async fn open_issue(
        &self,
        github: &GitHub,
        order: &Delegation,
        id: Id<'_>,
        task: &mut Delegated,
    ) -> Result<(), CliError> {
        let named = order.target.as_deref().map(str::parse);
        let target: Option<RepositoryName> = named
            .transpose()
            .map_err(|error| CliError::usage("--repo is wrong").because(error))?;
        let handed = if self.provider == Provider::Copilot {
            let target = target.as_ref().ok_or_else(|| {
                CliError::usage("the provider `copilot` needs `--repo owner/name`")
            })?;
            issues::open_for_copilot(github, target, order, id).await?
        } else {
            issues::open_labelled(github, self.settings, order, id).await?
        };
        let issues::Handed { issue, is_found } = handed;
        let how = if is_found { "found" } else { "created" };
        task.message = format!("Dispatch issue {how}: {}", issue.html_url);
        task.target = target.or_else(|| Some(issue.repository.clone()));
        task.issue = Some((issue.repository, issue.number));
        Ok(())
    }

    async fn queue_locally(
        &self,
        queue: &Queue,
        world: &World,
        order: &Delegation,
        task: &mut Delegated,
    ) -> Result<(), CliError> {
        let directory = match &order.target {
            Some(path) => &world.current_directory.join(path),
            None => &self.settings.runner.repo_root.value,
        };
        let directory = directory.canonicalize().map_err(|error| {
            let what = format!("there is no repository `{}`", directory.display());
            CliError::usage(what).because(error)
        })?;
        let environment = planner::inheritable(world.environment.variables(), &[], &[]);
        let look = Git::new(&environment, &directory).health(SystemClock.now());
        let look = look.map_err(|error| {
            let what = format!("no task can be done in `{}`", directory.display());
            CliError::usage(what).because(error)
        })?;
        let local = LocalTask {
            number: 0,
            task_id: order.task_id.clone(),
            title: task.title.clone(),
            instruction: order.instruction.clone(),
            repository: look.top_level(),
        };
        let put = local::put(queue, local, &SystemClock).await;
        let local = put.map_err(|error| match error {
            PutError::Known(_) | PutError::Done { .. } => {
                CliError::usage(error.to_string()).hint(ANOTHER_ID)
            }
            error => CliError::failure("the task is not queued").because(error),
        })?;
        task.state = DelegatedState::Created;
        task.message = format!(
            "queued as local task {}; `agent-runner dispatch --source local --once` does it",
            local.number
        );
        task.directory = Some(local.repository);
        Ok(())
    }

    /// Asks how far a task is until it has ended; tells whether it has, within `limit`.
    async fn follow(
        &self,
        world: &World,
        task: &mut Delegated,
        limit: Duration,
    ) -> Result<bool, CliError> {
        let began = Instant::now();
        let mut said = String::new();
        loop {
            let mut now = format!("{}: {}", task.task_id, task.message);
            if task.state.is_final() {
                return Ok(true);
            }
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            if said.is_empty() {
                world.ui.talk(&now);
                said.clone_from(&now);
            }
            sleep(self.settings.dispatch.poll_interval.value.min(left)).await;
            match self.look(task).await {
                Ok(()) => {
                    self.keep(task)?;
                    now = format!("{}: {}", task.task_id, task.message);
                }
                // The task goes on all the same.
                Err(Unheard { error, is_passing }) if is_passing => {
                    now = format!("warning: {}: {}", task.task_id, error.brief());
                }
                Err(unheard) => return Err(unheard.error),
            }
            if now != said {
                world.ui.talk(&now);
                said = now;
            }
        }
    }

    /// Asks how far a task is.
    async fn look(&self, task: &mut Delegated) -> Result<(), Unheard> {
        match &self.asked {
            Asked::GitHub(github, of_issues) => {
                let looked = issues::look(github, task).await;
                looked.map_err(|error| Unheard {
                    is_passing: error.is_transient(),
                    error: issues::failure("GitHub cannot be asked", &error),
                })?;
                if let Some(queue) = of_issues
                    && let Some((repository, number)) = &task.issue
                    && !task.state.is_final()
                    && let Ok(works) = queue.list().await
                {
                    let origin = format!("{repository}#{number}");
                    let ours = |work: &Work| work.origin.eq_ignore_ascii_case(&origin);
                    if let Some(work) = works.into_iter().find(ours) {
                        note_standing(task, &work);
                    }
                }
                Ok(())
            }
            Asked::Local(queue) => {
                let looked = look_locally(queue, task).await;
                looked.map_err(|error| Unheard {
                    is_passing: error.is_transient(),
                    error: CliError::failure("the queue cannot be asked").because(error),
                })
            }
            Asked::Mock => {
                play_on(task);
                Ok(())
            }
        }
    }
}

async fn look_locally(queue: &Queue, task: &mut Delegated) -> Result<(), QueueError> {
    let works = queue.list().await?;
    let found = works.into_iter().find_map(|work| {
        let local = LocalTask::of(&work)?;
        (local.task_id == task.task_id).then_some((work, local))
    });
    let Some((work, local)) = found else {
        let directory = task.directory.clone().unwrap_or_default();
        match LocalTask::branch_of_done(&task.task_id, &directory) {
            Some(branch) => complete(task, branch, &directory),
            // It may be that of another log root.
            None => "this queue does not know the task".clone_into(&mut task.message),
        }
        return Ok(());
    };
    match work.state {
        WorkState::Waiting | WorkState::Claimed | WorkState::Retrying => note_standing(task, &work),
        WorkState::Done => complete(task, local.branch().unwrap_or_default(), &local.repository),
        WorkState::Rested | WorkState::Cancelled => {
            task.state = DelegatedState::Failed;
            if let Some(reason) = work.reason {
                task.message = reason;
            }
        }
    }
    Ok(())
}

/// Notes that a local task is done.
fn complete(task: &mut Delegated, branch: String, repository: &Path) {
    task.state = DelegatedState::Completed;
    task.message = format!("done: branch {branch} of {}", repository.display());
    task.result = Some(branch);
}

/// What the queue knows of a task that has not ended: whether somebody works on it.
fn note_standing(task: &mut Delegated, work: &Work) {
    task.state = match work.state {
        WorkState::Waiting => DelegatedState::Created,
        WorkState::Claimed if work.is_lapsed => {
            "its worker is gone; the next one takes it".clone_into(&mut task.message);
            DelegatedState::Created
        }
        WorkState::Claimed => {
            "a worker has it".clone_into(&mut task.message);
            DelegatedState::Running
        }
        WorkState::Retrying => {
            let due = work.not_before.map(utc).unwrap_or_default();
            let before = work.reason.as_deref().unwrap_or("the last attempt failed");
            task.message = format!("it is tried again from {due} on ({before})");
            DelegatedState::Created
        }
        WorkState::Done | WorkState::Rested | WorkState::Cancelled => return,
    };
}

/// The next step of a task that nobody does, as the original plays it.
fn play_on(task: &mut Delegated) {
    task.message = match task.message.as_str() {
        "Mock agent started" => "Analyzing code".to_owned(),
        "Analyzing code" => "Generating changes".to_owned(),
        _ => {
            let address = "https://github.com/mock/repo/pull/123";
            task.state = DelegatedState::Completed;
            task.result = Some(address.to_owned());
            format!("Mock PR opened at {address}")
        }
    };
}

/// Puts the end of a task, or of the wait for it, into the outbox.
fn tell(layout: &Layout, task: &Delegated, limit: Duration) {
    let (title, message) = match task.state {
        DelegatedState::Completed => ("COMPLETED", task.message.clone()),
        DelegatedState::Failed => ("FAILED", task.message.clone()),
        DelegatedState::Created | DelegatedState::Running | DelegatedState::NeedsInput => {
            let limit = duration::words(limit);
            (
                "NOT DONE YET",
                format!("no end within {limit}; {}", task.message),
            )
        }
    };
    let is_good = task.state == DelegatedState::Completed;
    let message = Message {
        title: format!(
            "[delegated] {} — {title}",
            text::first_line(&task.title, 80)
        ),
        body: format!("task: {}\n{message}\n", task.task_id),
        priority: if is_good {
            Priority::Default
        } else {
            Priority::High
        },
        tags: vec![(if is_good { "white_check_mark" } else { "x" }).to_owned()],
    };
    let entry = Entry::of_message(message, SystemClock.now());
    if let Err(error) = Outbox::new(layout).put(&entry) {
        tracing::error!("nobody is told: {}", chain(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_runs_only_while_a_worker_has_it() {
        let now: DateTime<Utc> = "2026-02-19T20:40:03Z".parse().unwrap();
        let look = |state, is_lapsed| {
            let work = Work {
                key: WorkKey::new("local", &["1"]),
                origin: "local#1".to_owned(),
                group_repository: String::new(),
                group_author: String::new(),
                created: now,
                payload: None,
                state,
                fence: 1,
                attempts: 1,
                holder: None,
                lease_until: None,
                is_lapsed,
                not_before: Some(now),
                reason: Some("the agent is parked".to_owned()),
                revision: None,
                notes: None,
                offered_at: now,
                changed_at: now,
            };
            let mut task = Delegated {
                task_id: "t".to_owned(),
                provider: Provider::Local,
                title: String::new(),
                created_at: now,
                state: DelegatedState::Running,
                message: "handed over".to_owned(),
                issue: None,
                target: None,
                directory: None,
                result: None,
            };
            note_standing(&mut task, &work);
            format!("{}: {}", task.state.as_str(), task.message)
        };
        let tried =
            "created: it is tried again from 2026-02-19 20:40:03 UTC on (the agent is parked)";
        assert_eq!(look(WorkState::Waiting, false), "created: handed over");
        assert_eq!(look(WorkState::Claimed, false), "running: a worker has it");
        assert!(look(WorkState::Claimed, true).starts_with("created: its worker is gone"));
        assert_eq!(look(WorkState::Retrying, false), tried);
    }
}
