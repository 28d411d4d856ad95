//! `tasks`: which tasks there are, and what is in force for each.

use serde_json::{Value, json};

use crate::cli::args::ListArguments;
use crate::cli::columns::{Column, Columns};
use crate::cli::error::CliError;
use crate::cli::wiring::World;
use crate::config::Overrides;
use crate::config::settings::TaskSettings;
use crate::model::duration;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::task::{Containment, PromptSource};

/// Lists the tasks.
pub(crate) fn tasks(world: &World, arguments: &ListArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    if arguments.json {
        let list: Vec<Value> = settings.tasks.values().map(describe).collect();
        world.ui.data(&format!("{:#}", Value::Array(list)));
        return Ok(EXIT_SUCCESS);
    }
    let mut rows = Vec::new();
    for settings in settings.tasks.values() {
        let task = &settings.task;
        let commit = match (task.requires_commit, task.allow_no_change) {
            (false, _) => "no",
            (true, false) => "required",
            (true, true) => "or no change",
        };
        let (prompt, prompt_key) = match &task.prompt {
            PromptSource::File(file) => (file.as_str(), "prompt"),
            PromptSource::Text(_) => ("in the configuration", "prompt_text"),
        };
        rows.push([
            task.name.to_string(),
            commit.to_owned(),
            duration::words(task.timeout),
            settings.origin("timeout").to_string(),
            task.verify.len().to_string(),
            prompt.to_owned(),
            settings.origin(prompt_key).to_string(),
        ]);
    }
    let columns = Columns::fit(
        world.ui.width(),
        [
            Column::new("TASK", 0),
            Column::new("COMMIT", 2),
            Column::new("TIMEOUT", 1),
            Column::new("TIMEOUT FROM", 5),
            Column::new("VERIFY", 4),
            Column::new("PROMPT", 3).cut_to(16),
            Column::new("PROMPT FROM", 6),
        ],
        rows.iter().cloned(),
    );
    world.ui.data(&columns.page(&rows));
    Ok(EXIT_SUCCESS)
}

fn describe(settings: &TaskSettings) -> Value {
    let task = &settings.task;
    let sourced = |key: &'static str, value: Value| json!({ "value": value, "origin": settings.origin(key).to_string() });
    let seconds = |duration: std::time::Duration| json!(duration.as_secs_f64());
    let agents: Vec<_> = task.agents.iter().map(ToString::to_string).collect();
    let schedules: serde_json::Map<_, _> = (task.schedules.iter())
        .map(|(agent, text)| (agent.to_string(), json!(text)))
        .collect();
    let (prompt_key, prompt) = match &task.prompt {
        PromptSource::File(file) => ("prompt", file),
        PromptSource::Text(text) => ("prompt_text", text),
    };
    json!({
        "name": task.name.as_str(),
        prompt_key: sourced(prompt_key, json!(prompt)),
        "requires_commit": sourced("requires_commit", json!(task.requires_commit)),
        "allow_no_change": sourced("allow_no_change", json!(task.allow_no_change)),
        "notify": sourced("notify", json!(task.notify)),
        "agents": sourced("agents", json!(agents)),
        "timeout_seconds": sourced("timeout", seconds(task.timeout)),
        "stall_timeout_seconds": sourced("stall_timeout", task.stall_timeout.map_or(Value::Null, seconds)),
        "verify": sourced("verify", json!(task.verify)),
        "verify_timeout_seconds": sourced("verify_timeout", seconds(task.verify_timeout)),
        "schedule": sourced("schedule", json!(task.schedule)),
        "schedules": sourced("schedules", json!(schedules)),
        "timezone": sourced("timezone", json!(task.timezone)),
        "jitter_seconds": sourced("jitter", seconds(task.jitter)),
        "catch_up": sourced("catch_up", json!(task.catch_up.as_str())),
        "expect_success_within_seconds": sourced(
            "expect_success_within",
            task.expect_success_within.map_or(Value::Null, seconds),
        ),
        "overlap": sourced("overlap", json!(task.overlap.as_str())),
        "isolation": sourced("isolation", json!(task.isolation.as_str())),
        "containment": sourced(
            "containment",
            json!(task.containment.map_or("auto", Containment::as_str)),
        ),
        "min_changes": sourced("min_changes", json!(task.min_changes)),
        "paths": sourced("paths", json!(task.paths)),
        "retries": sourced("retries", json!(task.retries)),
        "max_runs_per_day": sourced("max_runs_per_day", json!(task.caps.runs)),
        "max_tokens_per_day": sourced("max_tokens_per_day", json!(task.caps.tokens)),
        "max_usd_per_day": sourced("max_usd_per_day", json!(task.caps.usd)),
    })
}
