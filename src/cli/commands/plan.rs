//! `run --dry-run` and `rerun --dry-run`: what would be run; nothing is started, written or told.

use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::admission;
use crate::cli::error::CliError;
use crate::cli::wiring::{SystemClock, World};
use crate::git::{Git, GitError};
use crate::isolation;
use crate::model::clock::Clock as _;
use crate::model::duration;
use crate::model::ids::{RunId, RunPath};
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS};
use crate::model::text::chain;
use crate::planner::{self, Place, Prepared, RunPlan};
use crate::store::layout::Layout;

/// Shows the plan of the first candidate that could start; exits 1 when none could.
pub(super) fn show(
    world: &World,
    layout: &Layout,
    plans: &[RunPlan],
    as_json: bool,
) -> Result<u8, CliError> {
    let now = SystemClock.now();
    let refusal = |plan: &RunPlan| match admission::refusal(plan, layout, now) {
        Ok(refusal) => refusal.map(|refusal| refusal.reason().to_owned()),
        Err(error) => Some(chain(&error)),
    };
    let able = (plans.iter()).find(|plan| plan.find_program().is_ok() && refusal(plan).is_none());
    let Some(plan) = able.or(plans.first()) else {
        return Err(CliError::usage("no agent was named"));
    };
    let prepared = match refusal(plan) {
        None => prepare(plan, now),
        Some(reason) => Err(reason),
    };
    let code = if prepared.is_ok() {
        EXIT_SUCCESS
    } else {
        EXIT_FAILURE
    };
    let value = describe(plan, prepared.as_ref());
    let text = if as_json {
        format!("{value:#}")
    } else {
        lines(&value)
    };
    world.ui.data(&text);
    Ok(code)
}

fn prepare(plan: &RunPlan, start: DateTime<Utc>) -> Result<Prepared, String> {
    let (task, agent) = (plan.task.name.clone(), plan.agent.clone());
    let run = RunPath {
        task,
        agent,
        run_id: RunId::new(start, 1),
    };
    let git = Git::new(&plan.inherited, &plan.repository);
    let git_environment = git.agent_environment(&run.to_string(), &plan.identity);
    let private_directory = Path::new("/run-directory/private");
    let prepared = planner::prepare(
        plan,
        Place {
            run: &run,
            private_directory,
            branch: None,
            start,
            git_environment: &git_environment,
        },
    )?;
    check_repository(plan).map_err(|error| chain(&error))?;
    Ok(prepared)
}

/// Finds out whether the run could begin in the repository as it is now.
fn check_repository(plan: &RunPlan) -> Result<(), GitError> {
    let environment = planner::inheritable(&plan.inherited, &[], &[]);
    let git = Git::new(&environment, &plan.repository);
    if isolation::is_wanted(plan) {
        return git.home().map(drop);
    }
    match git.check() {
        Err(GitError::NotARepository { .. }) if !plan.policy().requires_commit => Ok(()),
        checked => checked,
    }
}

fn describe(plan: &RunPlan, prepared: Result<&Prepared, &String>) -> Value {
    let limit = |duration: std::time::Duration| duration::words(duration);
    let mut value = json!({
        "task": plan.task.name.as_str(),
        "agent": plan.agent.as_str(),
        "model": plan.model,
        "repository": plan.repository,
        "isolation": plan.task.isolation.as_str(),
        "requires_commit": plan.policy().requires_commit,
        "timeout": limit(plan.limits.timeout),
        "stall_timeout": plan.limits.stall_timeout.map(limit),
        "grace_period": limit(plan.limits.grace_period),
        "verify": plan.task.verify,
    });
    match prepared {
        Ok(prepared) => {
            let names: Vec<_> = prepared
                .environment
                .iter()
                .map(|(name, _)| name.to_string_lossy())
                .collect();
            value["program"] = json!(prepared.invocation.program);
            value["arguments"] = json!(prepared.invocation.arguments);
            value["environment"] = json!(names);
            value["containment"] = json!(prepared.containment.as_str());
            value["prompt_bytes"] = json!(prepared.prompt.len());
        }
        Err(reason) => value["would_not_start"] = json!(reason),
    }
    value
}

fn lines(value: &Value) -> String {
    let mut text = String::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => continue,
            Value::Array(items) => {
                let items: Vec<_> = items
                    .iter()
                    .map(|item| item.as_str().map_or(item.to_string(), quoted))
                    .collect();
                items.join(" ")
            }
            other => other.to_string(),
        };
        writeln!(text, "{:<16} {value}", key.replace('_', " "))
            .expect("writing to a string cannot fail");
    }
    text
}

/// An argument as one would type it in a shell.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}
