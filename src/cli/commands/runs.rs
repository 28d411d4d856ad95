//! `runs`: what ran, the newest first.

use crate::cli::args::RunsArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::model::clock::utc;
use crate::model::outcome::{EXIT_SUCCESS, Outcome};
use crate::model::record::Record;
use crate::model::{duration, text};
use crate::store::format;
use crate::store::reader::{self, Filter, Run};

/// Lists runs.
pub(crate) fn runs(world: &World, arguments: &RunsArguments) -> Result<u8, CliError> {
    let outcome = arguments
        .outcome
        .as_deref()
        .map(parse_outcome)
        .transpose()?;
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let filter = Filter {
        task: arguments.task.clone(),
        agent: arguments.agent.clone(),
        since: None,
    };
    let limit = if arguments.limit == 0 {
        usize::MAX
    } else {
        arguments.limit
    };
    let runs = reader::runs(&layout, &filter)
        .map_err(|error| CliError::failure("runs cannot be listed").because(error))?
        .filter(|run| outcome.is_none_or(|wanted| run.record.outcome.as_str() == wanted.as_str()))
        .take(limit);
    if arguments.json {
        for run in runs {
            world.ui.data(&format::write_line(&run.record));
        }
        return Ok(EXIT_SUCCESS);
    }
    let mut table = world.ui.table(&[
        "STARTED (UTC)",
        "TASK",
        "AGENT",
        "OUTCOME",
        "TOOK",
        "TOKENS",
        "COMMITS",
        "WHAT",
    ]);
    let mut empty = true;
    for run in runs {
        empty = false;
        table.short_row(row(&run));
    }
    if empty {
        world
            .ui
            .talk(&format!("no such runs in {}", layout.root().display()));
    } else {
        world.ui.data(&table.text());
    }
    Ok(EXIT_SUCCESS)
}

fn parse_outcome(name: &str) -> Result<Outcome, CliError> {
    Outcome::from_name(name, None).ok_or_else(|| {
        let names = Outcome::ALL.map(Outcome::as_str);
        CliError::usage(format!(
            "there is no outcome `{name}`; {}",
            text::suggest(name, names.into_iter())
        ))
    })
}

fn row(Run { path, record, .. }: &Run) -> [String; 8] {
    [
        record.start_time.map_or(path.run_id.to_string(), |start| {
            utc(start).replace(" UTC", "")
        }),
        path.task.to_string(),
        path.agent.to_string(),
        record.outcome.to_string(),
        record.elapsed.map(duration::words).unwrap_or_default(),
        record
            .tokens()
            .map(|tokens| tokens.to_string())
            .unwrap_or_default(),
        record.commits.len().to_string(),
        what(record),
    ]
}

/// Why it failed, else what it says it did.
fn what(record: &Record) -> String {
    let evidence = record
        .evidence
        .first()
        .map(|evidence| evidence.fact.as_str());
    let told = record
        .error
        .as_deref()
        .or(record.last_message.as_deref())
        .or(evidence);
    text::first_line(told.unwrap_or(""), 100)
}
