//! `runs`: what ran, the newest first.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle};

use chrono::{Datelike as _, Local, Timelike as _};

use crate::cli::args::{RunFilter, RunsArguments};
use crate::cli::columns::{Column, Columns};
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::model::clock::Clock as _;
use crate::model::ids::RunPath;
use crate::model::outcome::{EXIT_SUCCESS, Outcome};
use crate::model::{duration, text};
use crate::store::format;
use crate::store::index::{self, Entry};
use crate::store::layout::Layout;
use crate::store::reader::{self, Filter};

/// So many records are read sooner than an index of all of them.
const FEW: usize = 1000;

/// Lists runs.
pub(crate) fn runs(world: &World, arguments: &RunsArguments) -> Result<u8, CliError> {
    let outcome = arguments
        .outcome
        .as_deref()
        .map(parse_outcome)
        .transpose()?;
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let filter = filter(&arguments.filter);
    let limit = match arguments.limit {
        0 => usize::MAX,
        limit => limit,
    };
    let is_wanted = |found: Outcome| outcome.is_none_or(|wanted| wanted.as_str() == found.as_str());
    let failed = |error| CliError::failure("runs cannot be listed").because(error);
    wiring::tell_unlisted(world, &layout);
    if outcome.is_none() && arguments.json {
        let paths = reader::paths(&layout, &filter).map_err(failed)?;
        print_records(world, &layout, &paths.take(limit).collect::<Vec<_>>());
        return Ok(EXIT_SUCCESS);
    }
    if outcome.is_none() && limit <= FEW {
        let runs = reader::runs(&layout, &filter).map_err(failed)?.take(limit);
        let entries = runs.map(|run| Entry::of(run.path, &run.record));
        print(world, &layout, &entries.collect::<Vec<_>>());
        return Ok(EXIT_SUCCESS);
    }
    let mut entries = entries(world, &layout, &filter)?;
    entries.retain(|entry| is_wanted(entry.outcome));
    entries.truncate(limit);
    if arguments.json {
        let paths: Vec<_> = entries.into_iter().map(|entry| entry.path).collect();
        print_records(world, &layout, &paths);
    } else {
        print(world, &layout, &entries);
    }
    Ok(EXIT_SUCCESS)
}

/// Whole records, which no index holds: read by several threads, some at a time so that the first
/// lines come at once, and printed in order.
fn print_records(world: &World, layout: &Layout, paths: &[RunPath]) {
    const AT_ONCE: usize = 2000;
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(4);
    let read = |paths: &[RunPath]| -> String {
        let runs = paths
            .iter()
            .map(|path| reader::read_run(layout, path.clone()));
        runs.map(|run| format::write_line(&run.record)).collect()
    };
    for some in paths.chunks(AT_ONCE) {
        let part = some.len().div_ceil(threads);
        let lines: Vec<String> = thread::scope(|scope| {
            let parts = some
                .chunks(part)
                .map(|part| scope.spawn(move || read(part)));
            let parts: Vec<_> = parts.collect();
            let parts = parts.into_iter().map(ScopedJoinHandle::join);
            parts
                .map(|part| part.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        world.ui.data(&lines.concat());
    }
}

/// What is known of all runs that are wanted, with a word about progress where it takes long.
pub(super) fn entries(
    world: &World,
    layout: &Layout,
    filter: &Filter,
) -> Result<Vec<Entry>, CliError> {
    let line = world.ui.live_line("", true);
    let entries = index::entries(layout, filter, &|read, number| {
        if read % 500 == 0 {
            line.note(&format!("reading records: {read} of at most {number}"));
        }
    });
    line.clear();
    entries.map_err(|error| CliError::failure("runs cannot be listed").because(error))
}

/// What was asked for, with days of the machine's zone.
pub(super) fn filter(wanted: &RunFilter) -> Filter {
    let now = SystemClock.now();
    Filter {
        task: wanted.task.clone(),
        agent: wanted.agent.clone(),
        since: wanted.since.map(|since| since.begin(now, &Local)),
        until: wanted.until.map(|until| until.end(now, &Local)),
    }
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

/// A narrower terminal gets the start without year and seconds.
const NARROW: usize = 60;

fn print(world: &World, layout: &Layout, entries: &[Entry]) {
    if entries.is_empty() {
        let root = layout.root().display();
        world.ui.talk(&format!("no such runs in {root}"));
        return;
    }
    let is_narrow = world.ui.width() < NARROW;
    let columns = Columns::fit(
        world.ui.width(),
        [
            Column::new(if is_narrow { "UTC" } else { "STARTED (UTC)" }, 0),
            Column::new("TASK", 3),
            Column::new("AGENT", 2),
            Column::new("OUTCOME", 1),
            Column::new("TOOK", 5),
            Column::new("TOKENS", 7),
            Column::new("COMMITS", 6),
            Column::new("WHAT", 4).cut_to(20),
        ],
        entries.iter().map(|entry| row(entry, is_narrow)),
    );
    world.ui.data(&columns.header());
    for some in entries.chunks(FEW) {
        let lines = some.iter().map(|entry| {
            columns.line(&row(entry, is_narrow), |column, cell| match column {
                3 => world.ui.painted(entry.outcome, cell),
                _ => cell.to_owned(),
            })
        });
        world.ui.data(&lines.collect::<String>());
    }
}

fn row(entry: &Entry, is_narrow: bool) -> [String; 8] {
    let start = entry.start.map(|start| {
        // Not by a format that is read for each of many runs.
        let (day, time) = (start.date_naive(), start.time());
        if is_narrow {
            let (month, day) = (day.month(), day.day());
            format!(
                "{month:02}-{day:02} {:02}:{:02}",
                time.hour(),
                time.minute()
            )
        } else {
            let second = time.second();
            format!("{day} {:02}:{:02}:{second:02}", time.hour(), time.minute())
        }
    });
    [
        start.unwrap_or_else(|| entry.path.run_id.to_string()),
        entry.path.task.to_string(),
        entry.path.agent.to_string(),
        entry.outcome.to_string(),
        (entry.elapsed.map(duration::words))
            .map_or_else(String::new, |took| entry.outcome.took(took)),
        (entry.tokens).map_or_else(String::new, |tokens| tokens.to_string()),
        (entry.commits).map_or_else(String::new, |commits| commits.to_string()),
        entry.what().to_owned(),
    ]
}
