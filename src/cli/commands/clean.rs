//! `clean`: removes runs that are too old or too many, and what crashes left.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use chrono::{Local, TimeDelta};
use serde_json::json;

use crate::cli::args::CleanArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::model::clock::Clock as _;
use crate::model::ids::RunPath;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::reset::day_began;
use crate::model::retention::{Kept, Protection, Retention};
use crate::model::{duration, text};
use crate::orchestrator::Announce;
use crate::store::StoreError;
use crate::store::retention::{self, Removed};

/// Removes what may go, the oldest first, and says what it was.
pub(crate) fn clean(world: &World, arguments: &CleanArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let limits = Retention {
        age: arguments.older_than.or(settings.runner.keep_for.value),
        bytes: arguments.max_size.or(settings.runner.keep_size.value),
    };
    if !arguments.dry_run {
        // A run whose runner died is to be told before it may go.
        let announce = wiring::announcement(&layout);
        let announce = wiring::notifier(&settings).map(|_| &announce as &Announce<'_>);
        wiring::recover(world, &layout, announce)?;
    }
    let now = SystemClock.now();
    let day_began = day_began(now, &Local);
    let not_listed = |error| CliError::failure("the log root cannot be cleaned").because(error);
    let runs = retention::survey(&layout, now).map_err(not_listed)?;
    let mut report = Report::default();
    for surplus in limits.surplus(&runs, now, day_began) {
        let removed = arguments.dry_run || {
            let removed = retention::remove_run(&layout, &surplus.run);
            removed.unwrap_or_else(|error| report.failed(error))
        };
        if removed {
            report.removed.push(&surplus.run);
            report.bytes += surplus.bytes;
        }
    }
    let refused_before = (limits.age)
        .and_then(|age| TimeDelta::from_std(age).ok())
        .and_then(|age| now.checked_sub_signed(age));
    let dry_run = arguments.dry_run;
    report.leftovers = retention::remove_leftovers(&layout, now, refused_before, dry_run)
        .unwrap_or_else(|error| {
            report.failed(error);
            Removed::default()
        });

    let gone: BTreeSet<String> = report.removed.iter().map(ToString::to_string).collect();
    let left: Vec<&Kept> = (runs.iter())
        .filter(|run| !gone.contains(&run.run.to_string()))
        .collect();
    world.ui.data(&if arguments.json {
        report.json(&left, dry_run, |run| run.protection(day_began))
    } else {
        report.lines(dry_run)
    });
    if limits == Retention::default() {
        world.ui.talk(
            "no run is too old or too large: name a limit with --older-than or --max-size, or as \
             keep_for or keep_size in config.toml",
        );
    }
    let size = left.iter().map(|run| run.bytes).sum();
    if limits.bytes.is_some_and(|most| size > most) {
        world.ui.talk(&format!(
            "warning: {} of {} stay: they are active, waiting to be told, or of today",
            duration::size(size),
            text::count(left.len(), "run"),
        ));
    }
    match report.error {
        None => Ok(EXIT_SUCCESS),
        Some(error) => Err(CliError::failure("not everything could be removed").because(error)),
    }
}

/// What was done.
#[derive(Default)]
struct Report<'a> {
    removed: Vec<&'a RunPath>,
    bytes: u64,
    leftovers: Removed,
    /// The first failure.
    error: Option<StoreError>,
}

impl Report<'_> {
    fn failed(&mut self, error: StoreError) -> bool {
        self.error.get_or_insert(error);
        false
    }

    fn lines(&self, dry_run: bool) -> String {
        let mut lines = String::new();
        let verb = if dry_run { "would remove" } else { "removed" };
        for run in self.removed.iter().filter(|_| dry_run) {
            writeln!(lines, "{run}").expect("writing to a string cannot fail");
        }
        let mut line = |number: usize, noun: &str, bytes: u64| {
            let (number, bytes) = (text::count(number, noun), duration::size(bytes));
            writeln!(lines, "{verb} {number}, {bytes}").expect("writing to a string cannot fail");
        };
        line(self.removed.len(), "run", self.bytes);
        if self.leftovers.number > 0 {
            line(self.leftovers.number, "leftover", self.leftovers.bytes);
        }
        lines
    }

    fn json(
        &self,
        left: &[&Kept],
        dry_run: bool,
        protection: impl Fn(&Kept) -> Option<Protection>,
    ) -> String {
        let runs: Vec<String> = self.removed.iter().map(ToString::to_string).collect();
        let protected = |by| {
            left.iter()
                .filter(|run| protection(run) == Some(by))
                .count()
        };
        let value = json!({
            "dry_run": dry_run,
            "removed": {
                "runs": runs,
                "bytes": self.bytes,
                "leftovers": self.leftovers.number,
                "leftover_bytes": self.leftovers.bytes,
            },
            "kept": {
                "runs": left.len(),
                "bytes": left.iter().map(|run| run.bytes).sum::<u64>(),
                "active": protected(Protection::Active),
                "untold": protected(Protection::Untold),
                "today": protected(Protection::Today),
            },
        });
        format!("{value:#}")
    }
}
