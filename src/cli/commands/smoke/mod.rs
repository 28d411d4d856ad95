//! `smoke`: one issue goes the whole way from its opening to its pull request, and every step is
//! looked at on GitHub afterwards.

mod github;
mod page;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checkup::smoke::{self, Criterion, Facts, Ordered, Seen, State};
use crate::cli::args::SmokeArguments;
use crate::cli::commands::smoke::github::Bench;
use crate::cli::commands::{delegate, dispatch};
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::settings::Settings;
use crate::github::Issue;
use crate::model::clock::Clock as _;
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS, exit_of_signal};
use crate::model::repository::RepositoryName;
use crate::sources::delegation::Delegation;
use crate::sources::dispatch_issues::work_key;
use crate::worker::Ended;

/// What a worker may need beyond its poll interval before its first comment: the look itself, and
/// the first fetch of a repository.
const NOTICE_GRACE: Duration = Duration::from_secs(30);

/// How the work went, from here.
enum Work {
    /// It has come to an end; why, where that was said.
    Over(Option<String>),
    /// A signal of this number came.
    Stopped(i32),
}

/// What came of trying it out.
enum Tried {
    /// The criteria, and what they were judged by.
    Judged(Vec<Criterion>, Seen),
    /// A signal of this number came first.
    Stopped(i32),
}

/// Opens an issue, has it worked on, judges what became of it, and cleans up.
pub(crate) fn smoke(world: &World, arguments: &SmokeArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let dispatch = dispatch::repository(&settings, None)?;
    let target = match &arguments.repo {
        Some(name) => name
            .parse::<RepositoryName>()
            .map_err(|error| CliError::usage("--repo is wrong").because(error))?,
        None => dispatch.clone(),
    };
    let bench = Bench {
        settings: &settings,
        dispatch,
        target,
    };
    let base = bench.check()?;
    let redactor = dispatch::begin(world, &settings, &layout)?;

    let (order, file, line) = order(&bench.target);
    let issue = bench.open(&order)?;
    world.ui.talk(&format!("opened {}", issue.html_url));
    let poll_interval = settings.dispatch.poll_interval.value;
    let mut ordered = Ordered {
        task_id: order.task_id,
        issue: (issue.repository.clone(), issue.number),
        label: settings.dispatch.label.value.clone(),
        target: bench.target.clone(),
        base,
        file,
        line,
        notice_limit: poll_interval + NOTICE_GRACE,
        waited: Duration::ZERO,
    };
    let own = || {
        let place = (world, &settings, &layout);
        let ended = dispatch::work_on(place, Arc::clone(&redactor), issue.number);
        ended.map_or_else(|error| Work::Over(Some(error.brief())), work_of)
    };
    let tried = try_out(&bench, arguments, &mut ordered, &issue, own);
    let cleaned = (!arguments.keep).then(|| bench.clean(&ordered, &issue));
    let ended = match tried {
        Ok(Tried::Judged(mut criteria, seen)) => {
            criteria.extend(cleaned);
            if arguments.json {
                let answer = answer(arguments, &ordered, &issue, &criteria, &seen);
                world.ui.data(&format!("{answer:#}"));
            } else {
                world.ui.data(&page::page(world.has_utf8(), &criteria));
            }
            return Ok(if are_met(&criteria) {
                EXIT_SUCCESS
            } else {
                EXIT_FAILURE
            });
        }
        Ok(Tried::Stopped(signal)) => Ok(exit_of_signal(signal)),
        Err(error) => Err(error),
    };
    // There is no list that could say it.
    let missed = cleaned.filter(|criterion| criterion.state != State::Met);
    if let Some(criterion) = missed {
        world.ui.talk(&format!("warning: {}", criterion.what));
    }
    ended
}

/// Has the issue worked on, and judges what became of it.
fn try_out(
    bench: &Bench<'_>,
    arguments: &SmokeArguments,
    ordered: &mut Ordered,
    issue: &Issue,
    own: impl Fn() -> Work,
) -> Result<Tried, CliError> {
    let began = SystemClock.now();
    let work = if arguments.wait_for_worker {
        bench.wait(ordered, issue, arguments.timeout)?
    } else {
        own()
    };
    ordered.waited = (SystemClock.now() - began).to_std().unwrap_or_default();
    let reason = match work {
        Work::Over(reason) => reason,
        Work::Stopped(signal) => return Ok(Tried::Stopped(signal)),
    };
    let seen = bench.see(ordered, issue)?;
    let mut later = None;
    // Only what was done can be done twice.
    if !seen.pulls.is_empty() {
        let again = if arguments.wait_for_worker {
            let pause = bench.settings.dispatch.poll_interval.value + Duration::from_secs(1);
            bench.pause(pause)?
        } else {
            own()
        };
        if let Work::Stopped(signal) = again {
            return Ok(Tried::Stopped(signal));
        }
        later = Some(bench.see(ordered, issue)?);
    }
    let facts = Facts {
        ordered,
        opened_with: &issue.labels,
        seen: &seen,
        later: later.as_ref(),
        left: &left(bench.settings, issue),
        reason: reason.as_deref(),
    };
    let criteria = smoke::judge(&facts);
    Ok(Tried::Judged(criteria, seen))
}

fn are_met(criteria: &[Criterion]) -> bool {
    let mut criteria = criteria.iter();
    criteria.all(|criterion| criterion.state == State::Met)
}

/// A task that every agent can do, also the one that only applies patches.
fn order(target: &RepositoryName) -> (Delegation, String, String) {
    let task_id = delegate::new_id(SystemClock.now());
    let short = &task_id[..8];
    let file = format!("smoke-test-{short}.md");
    let line = format!("Written by the smoke test {task_id}.");
    let instruction = format!(
        "Smoke test {short}: add the file `{file}` with this one line, and change nothing else.\n\n\
         ```diff\n\
         diff --git a/{file} b/{file}\n\
         new file mode 100644\n\
         --- /dev/null\n\
         +++ b/{file}\n\
         @@ -0,0 +1 @@\n\
         +{line}\n\
         ```"
    );
    let order = Delegation {
        task_id,
        user_id: "agent-runner-smoke".to_owned(),
        instruction,
        target: Some(target.to_string()),
    };
    (order, file, line)
}

fn work_of(ended: Ended) -> Work {
    match ended {
        Ended::Finished(_) => Work::Over(None),
        Ended::Stopped(signal) => Work::Stopped(signal),
        Ended::Unwanted(reason)
        | Ended::Left(reason)
        | Ended::NoAccess(reason)
        | Ended::Failed(reason) => Work::Over(Some(reason)),
    }
}

/// What is left of the work's directories on this machine.
fn left(settings: &Settings, issue: &Issue) -> Vec<PathBuf> {
    let work = settings.dispatch.workspace.value.join("work");
    let ours = format!("{}-", work_key(issue).short());
    let entries = fs::read_dir(work).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&ours))
        .map(|entry| entry.path())
        .collect()
}

fn answer(
    arguments: &SmokeArguments,
    ordered: &Ordered,
    issue: &Issue,
    criteria: &[Criterion],
    seen: &Seen,
) -> Value {
    let list: Vec<Value> = criteria
        .iter()
        .map(|criterion| {
            json!({
                "name": criterion.name,
                "state": criterion.state.as_str(),
                "what": criterion.what,
                "fix": criterion.fix,
            })
        })
        .collect();
    json!({
        "ok": are_met(criteria),
        "task_id": ordered.task_id,
        "issue": issue.html_url,
        "pull_request": seen.pulls.first().map(|pull| &pull.address),
        "worker": if arguments.wait_for_worker { "other" } else { "own" },
        "kept": arguments.keep,
        "criteria": list,
    })
}
