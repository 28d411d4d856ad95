//! The run of one piece of work: `agent-runner run` as a child, without any token.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::model::dispatch::{DISPATCH_TASK, WorkRequest};
use crate::model::ids::RunPath;
use crate::model::outcome::Outcome;
use crate::model::process_end::ProcessExit;
use crate::model::record::Record;
use crate::model::text;
use crate::process::child::{Child, ChildCommand};
use crate::sources::source::{SourceError, TaskSource};
use crate::store::{format, request};
use crate::worker::lease::Stop;
use crate::worker::objection;
use crate::worker::settings::WorkerSettings;
use crate::worker::story::{Failure, Story};
use crate::worker::workspace::Workspace;

/// The most that is read of what a run prints.
const MAX_PRINTED_BYTES: u64 = 64 << 20;

/// How much later than its run a worker may hear of a signal that both were sent, as by Ctrl-C or a
/// service manager.
const SAME_SIGNAL: Duration = Duration::from_secs(3);

/// How a run ended.
pub(super) struct Ended {
    pub(super) record: Record,
    /// What the run's question brought about, when it asked.
    pub(super) taken: Option<Result<String, Failure>>,
}

/// Runs the agent of a story in the workspace's tree. Before a good run's record is final, its
/// result is taken with `take`, which may refuse it.
///
/// The run is asked to end when the claim is lost, the work is not wanted any more, or the worker
/// is asked to end; it has ended when this returns.
pub(super) async fn carry_out<S: TaskSource>(
    story: &Story<'_, S>,
    workspace: &Workspace,
    take: impl AsyncFn() -> Result<String, Failure>,
) -> Result<Ended, Failure> {
    let (settings, lease) = (story.settings, story.lease);
    let started = objection::pair().and_then(|(ours, theirs)| {
        Ok((
            ours,
            start(settings, &story.work.request, workspace, theirs)?,
        ))
    });
    let (stream, mut child) =
        started.map_err(|error| Failure::later(format!("the run cannot be started: {error}")))?;
    let taken = RefCell::new(None);
    let mut answering = pin!(objection::answer(stream, async || {
        let result = take().await;
        let refused = match &result {
            Err(Failure::Source(SourceError::Refused(reason))) => {
                Some(settings.redactor.text(reason))
            }
            Ok(_) | Err(_) => None,
        };
        *taken.borrow_mut() = Some(result);
        refused
    }));
    let mut reason: Option<Failure> = None;
    let exit = loop {
        tokio::select! {
            exit = child.ended() => break exit,
            never = &mut answering => never,
            () = lease.stopped() => {
                let stop = lease.must_stop().unwrap_or(Stop::LostLease);
                // Asked twice, a run ends at once, and all that it started with it.
                child.ask_to_end();
                reason = Some(Failure::Stopped(stop));
            }
            () = sleep(settings.poll_interval), if reason.is_none() => {
                match story.source.check_wanted(&story.work).await {
                    Ok(()) | Err(SourceError::Later { .. }) => {}
                    Err(error) => {
                        child.ask_to_end();
                        reason = Some(error.into());
                    }
                }
            }
        }
    };
    if let Some(reason) = reason {
        return Err(reason);
    }
    let exit = exit.map_err(|error| Failure::later(format!("the run is lost: {error}")))?;
    let record = read_record(workspace);
    let is_stopped = match &record {
        Ok(record) => matches!(record.outcome, Outcome::Interrupted { .. }),
        Err(_) => matches!(exit, ProcessExit::Signal(_)),
    };
    if is_stopped && timeout(SAME_SIGNAL, lease.stopped()).await.is_ok() {
        return Err(lease.must_stop().unwrap_or(Stop::LostLease).into());
    }
    let record = record.map_err(|error| unrecorded(workspace, &exit, &error))?;
    let taken = taken.take();
    Ok(Ended { record, taken })
}

fn start(
    settings: &WorkerSettings,
    work: &WorkRequest,
    workspace: &Workspace,
    stdin: UnixStream,
) -> io::Result<Child> {
    let command = &settings.run;
    let request = workspace.path("request.json");
    request::write(&request, work).map_err(|error| io::Error::other(text::chain(&error)))?;
    let mut arguments = command.global_arguments.clone();
    let own = ["run", "--json", "--task", DISPATCH_TASK, "--agent"];
    arguments.extend(own.map(Into::into));
    arguments.push((&command.agent).into());
    arguments.push("--request".into());
    arguments.push(request.into());
    arguments.push("--repo".into());
    arguments.push(workspace.tree().into());
    // The log root may be relative to the repository, and must not be.
    let mut environment = command.environment.clone();
    let logs = settings.layout.root().to_owned();
    environment.push(("AGENT_RUNNER_LOG_ROOT".into(), logs.into()));
    Child::start(ChildCommand {
        program: &command.program,
        arguments: &arguments,
        // Not the tree, where a configuration of somebody else's may lie.
        directory: &workspace.path("."),
        environment: &environment,
        stdin: OwnedFd::from(stdin).into(),
        stdout: File::create_new(workspace.path("run.json"))?,
        stderr: File::create_new(workspace.path("run.err"))?,
    })
}

fn read_record(workspace: &Workspace) -> io::Result<Record> {
    let printed = read(&workspace.path("run.json"))?;
    let value: serde_json::Value = serde_json::from_slice(&printed)?;
    let name = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let path = format!("{}/{}/{}", name("task"), name("agent"), name("run_id"));
    let run: RunPath = path.parse().map_err(io::Error::other)?;
    format::read(&printed, &run).map_err(io::Error::other)
}

/// A run that left no record: the configuration is wrong, or the log root cannot be written.
fn unrecorded(workspace: &Workspace, exit: &ProcessExit, error: &io::Error) -> Failure {
    let said = read(&workspace.path("run.err")).unwrap_or_default();
    let said = text::first_line(&String::from_utf8_lossy(&said), 500);
    let reason = format!("the run left no record ({exit:?}, {error}): {said}");
    match exit {
        ProcessExit::Signal(_) => Failure::Failed(reason),
        _ => Failure::later(reason),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(MAX_PRINTED_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
