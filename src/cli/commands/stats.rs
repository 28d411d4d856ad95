//! `stats`: sums over runs, by day, agent, task or outcome.

use std::collections::BTreeMap;

use chrono::{DateTime, Local, Offset as _, Utc};
use serde_json::{Value, json};

use crate::cli::args::{StatsArguments, StatsBy};
use crate::cli::columns::{Column, Columns};
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::model::clock::Clock as _;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::tally::{Tallied, Tally};
use crate::model::{duration, text};
use crate::store::index::Entry;

/// Prints sums over runs.
pub(crate) fn stats(world: &World, arguments: &StatsArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    wiring::tell_unlisted(world, &layout);
    let filter = super::runs::filter(&arguments.filter);
    let entries = super::runs::entries(world, &layout, &filter)?;
    let mut groups: BTreeMap<String, Tally> = BTreeMap::new();
    let mut total = Tally::default();
    for entry in &entries {
        let run = tallied(entry);
        groups.entry(key(entry, arguments.by)).or_default().add(run);
        total.add(run);
    }
    let zone = zone(SystemClock.now());
    let text = if arguments.json {
        let groups: Vec<Value> = groups
            .iter()
            .map(|(key, tally)| value(key, tally))
            .collect();
        let by = arguments.by.name();
        let all =
            json!({"by": by, "groups": groups, "total": value("total", &total), "zone": zone});
        format!("{all:#}")
    } else if arguments.csv {
        csv(arguments.by, &groups)
    } else if entries.is_empty() {
        world
            .ui
            .talk(&format!("no such runs in {}", layout.root().display()));
        return Ok(EXIT_SUCCESS);
    } else {
        let first = entries.iter().filter_map(|entry| entry.start).min();
        let since = first.map(|first| format!(" since {}", local(first).format("%F %H:%M")));
        let since = since.unwrap_or_default();
        let runs = text::count(entries.len(), "run");
        let is_partial = total.tokens_unknown + total.usd_unknown > 0;
        let note = if is_partial {
            "; `+n?`: and n runs of which it is unknown"
        } else {
            ""
        };
        (world.ui).prose(&format!("{runs}{since} (days are of {zone}{note})\n\n"));
        table(world, arguments.by, &groups, &total)
    };
    world.ui.data(&text);
    Ok(EXIT_SUCCESS)
}

fn tallied(entry: &Entry) -> Tallied {
    Tallied {
        outcome: entry.outcome,
        elapsed: entry.elapsed,
        tokens: entry.tokens,
        usd: entry.cost_usd,
        was_started: entry.was_started,
        commits: entry.commits,
        lines: (entry.insertions, entry.deletions),
    }
}

fn key(entry: &Entry, by: StatsBy) -> String {
    match by {
        StatsBy::Day => entry.start.map_or("unknown".to_owned(), |start| {
            local(start).format("%F").to_string()
        }),
        StatsBy::Agent => entry.path.agent.to_string(),
        StatsBy::Task => entry.path.task.to_string(),
        StatsBy::Outcome => entry.outcome.to_string(),
    }
}

fn local(time: DateTime<Utc>) -> DateTime<Local> {
    time.with_timezone(&Local)
}

/// The machine's zone, by its distance from UTC now.
fn zone(now: DateTime<Utc>) -> String {
    match local(now).offset().fix() {
        offset if offset.local_minus_utc() == 0 => "UTC".to_owned(),
        offset => format!("UTC{offset}"),
    }
}

fn value(key: &str, tally: &Tally) -> Value {
    let seconds = |percent| {
        tally
            .duration(percent)
            .map(|duration| duration.as_secs_f64())
    };
    let known = |unknown: usize, value: Value| match unknown {
        unknown if tally.started > 0 && unknown == tally.started => Value::Null,
        _ => value,
    };
    json!({
        "key": key,
        "runs": tally.runs,
        "running": tally.running,
        "skipped": tally.skipped,
        "good": tally.good,
        "success_rate": tally.success_rate(),
        "reasons": tally.reasons,
        "median_seconds": seconds(50),
        "p90_seconds": seconds(90),
        "tokens": known(tally.tokens_unknown, json!(tally.tokens)),
        "tokens_unknown_runs": tally.tokens_unknown,
        "cost_usd": known(tally.usd_unknown, json!(tally.usd)),
        "cost_unknown_runs": tally.usd_unknown,
        "commits": known(tally.commits_unknown, json!(tally.commits)),
        "commits_unknown_runs": tally.commits_unknown,
        "insertions": tally.insertions,
        "deletions": tally.deletions,
    })
}

/// The same numbers as lines of fields; what is unknown is an empty field.
fn csv(by: StatsBy, groups: &BTreeMap<String, Tally>) -> String {
    const FIELDS: [&str; 15] = [
        "runs",
        "running",
        "skipped",
        "good",
        "success_rate",
        "median_seconds",
        "p90_seconds",
        "tokens",
        "tokens_unknown_runs",
        "cost_usd",
        "cost_unknown_runs",
        "commits",
        "commits_unknown_runs",
        "insertions",
        "deletions",
    ];
    let mut lines = format!("{},{}\n", by.name(), FIELDS.join(","));
    for (key, tally) in groups {
        let value = value(key, tally);
        let field = |name: &&str| match &value[*name] {
            Value::Null => String::new(),
            number => number.to_string(),
        };
        let fields: Vec<String> = FIELDS.iter().map(field).collect();
        lines.extend([format!("{key},{}\n", fields.join(","))]);
    }
    lines
}

fn table(world: &World, by: StatsBy, groups: &BTreeMap<String, Tally>, total: &Tally) -> String {
    let most = groups.values().map(|tally| tally.runs).max().unwrap_or(0);
    let has_blocks = world.has_utf8();
    let rows: Vec<[String; 10]> = groups
        .iter()
        .map(|(key, tally)| row(key, tally, &bar(tally.runs, most, has_blocks)))
        .chain([row("total", total, "")])
        .collect();
    let columns = Columns::fit(
        world.ui.width(),
        [
            Column::new(by.title(), 0),
            Column::new("RUNS", 1),
            Column::new("", 9),
            Column::new("GOOD", 2),
            Column::new("MEDIAN", 5),
            Column::new("P90", 6),
            Column::new("TOKENS", 4),
            Column::new("COST", 3),
            Column::new("COMMITS", 7),
            Column::new("FAILED", 8).cut_to(20),
        ],
        rows.iter().cloned(),
    );
    columns.page(&rows)
}

fn row(key: &str, tally: &Tally, bar: &str) -> [String; 10] {
    let took = |percent| {
        tally
            .duration(percent)
            .map(duration::words)
            .unwrap_or_default()
    };
    let rate = tally.success_rate();
    let rate = rate.map_or_else(String::new, |rate| format!("{:.0}%", rate * 100.0));
    let mut reasons: Vec<_> = tally.reasons.iter().collect();
    reasons.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, number)| format!("{reason} {number}"))
        .collect();
    [
        key.to_owned(),
        tally.runs.to_string(),
        bar.to_owned(),
        rate,
        took(50),
        took(90),
        with_unknown(
            tally.tokens.to_string(),
            tally.tokens_unknown,
            tally.started,
        ),
        with_unknown(
            format!("${:.2}", tally.usd),
            tally.usd_unknown,
            tally.started,
        ),
        with_unknown(
            format!(
                "{} +{}/-{}",
                tally.commits, tally.insertions, tally.deletions
            ),
            tally.commits_unknown,
            tally.started,
        ),
        reasons.join(", "),
    ]
}

/// A sum with the number of runs that are not in it.
fn with_unknown(sum: String, unknown: usize, of: usize) -> String {
    match unknown {
        0 if of == 0 => String::new(),
        0 => sum,
        unknown if unknown == of => "unknown".to_owned(),
        unknown => format!("{sum} +{unknown}?"),
    }
}

/// The longest bar, in columns.
const BAR: usize = 10;

/// A bar in eighths of a column; without such characters in whole columns, and never nothing for
/// something.
fn bar(number: usize, most: usize, has_blocks: bool) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if most == 0 {
        return String::new();
    }
    if !has_blocks {
        return "#".repeat((number * BAR).div_ceil(most));
    }
    let eighths = (number * BAR * 8).div_ceil(most);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_never_nothing_for_something() {
        assert_eq!(bar(80, 80, true), "██████████");
        assert_eq!(bar(9, 80, true), "█▏");
        assert_eq!(bar(1, 8000, true), "▏");
        assert_eq!(bar(0, 80, true), "");
        assert_eq!(bar(0, 0, true), "");
        assert_eq!(bar(1, 8000, false), "#");
        assert_eq!(bar(40, 80, false), "#####");
    }
}
