//! `clean`: removes runs that are too old or too many, and what crashes left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use chrono::{DateTime, Local, TimeDelta, Utc};
use serde_json::json;

use crate::cli::args::CleanArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::isolation;
use crate::model::clock::{Clock as _, utc};
use crate::model::ids::RunPath;
use crate::model::outcome::EXIT_SUCCESS;
use crate::model::reset::day_began;
use crate::model::retention::{Kept, Protection, Retention};
use crate::model::{duration, text};
use crate::store::StoreError;
use crate::store::beats::{Beats, beats};
use crate::store::retention::{self, Removed};

/// Removes what may go, the oldest first, and says what it was.
pub(crate) fn clean(world: &World, arguments: &CleanArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let layout = wiring::layout(&settings);
    let mut limits = Retention {
        age: arguments.older_than.or(settings.runner.keep_for.value),
        bytes: arguments.max_size.or(settings.runner.keep_size.value),
    };
    if !arguments.dry_run {
        // A run whose runner died is to be told before it may go.
        let announce = wiring::announcement(&settings, &layout);
        wiring::recover_all(world, &layout, announce.as_deref())?;
    }
    wiring::tell_unlisted(world, &layout);
    let now = SystemClock.now();
    let day_began = day_began(now, &Local);
    let not_listed = |error| CliError::failure("the log root cannot be cleaned").because(error);
    let beats = beats(&layout).unwrap_or_else(|error| {
        tracing::warn!(error = text::chain(&error), "it is passed over");
        Beats::default()
    });
    let is_confirmed = beats.confirm(now);
    let mut runs = retention::survey(&layout, now, is_confirmed).map_err(not_listed)?;
    let is_ahead = |run: &&Kept| run.began - now >= TimeDelta::days(1);
    let ahead = runs.iter().filter(is_ahead).count();
    if let Some(first) = runs.iter().find(is_ahead) {
        world.ui.talk(&format!(
            "{} of the future by this machine's clock, {}, may be of today by the right one, and stay \
             until the heartbeats of a week confirm that clock: set it where it is wrong, else let cron \
             or a timer start `agent-runner heartbeat`, or remove them by hand, such as {}",
            text::count(ahead, "run"),
            utc(now),
            layout.run(&first.run).path().display(),
        ));
    }
    let signs = runs.iter().map(|run| run.began).chain(beats.recent);
    let asked = limits;
    if let Some(last) = limits.doubt(signs, now) {
        let what = match (limits.age == asked.age, limits.bytes == asked.bytes) {
            (false, false) => "age or size",
            (false, true) => "age",
            (true, _) => "size",
        };
        world.ui.talk(&format!(
            "nothing is removed for its {what}: it is {} by this machine's clock, and the last run or \
             heartbeat is of {}; if that clock is right, run `agent-runner heartbeat` before `clean`",
            utc(now),
            utc(last),
        ));
    }
    let inherited = world.environment.variables();
    let mut stays = BTreeMap::new();
    while let Some(run) = (limits.surplus(&runs, now, day_began).into_iter())
        .find(|run| run.has_work_tree && !stays.contains_key(&run.run.to_string()))
        .map(|run| run.run.clone())
    {
        let why = isolation::unsaved(inherited, &layout, &run);
        let kept = runs.iter_mut().find(|kept| kept.run == run);
        kept.expect("the surplus is of these runs").is_unsaved = why.is_some();
        stays.insert(run.to_string(), why);
    }
    let mut report = Report::default();
    for surplus in limits.surplus(&runs, now, day_began) {
        let first = || {
            if !surplus.has_work_tree {
                return true;
            }
            let why = isolation::clear(inherited, &layout, &surplus.run).err();
            let is_cleared = why.is_none();
            stays.insert(surplus.run.to_string(), why);
            is_cleared
        };
        let removed = arguments.dry_run || {
            let removed = retention::remove_run(&layout, &surplus.run, first);
            removed.unwrap_or_else(|error| {
                report.failed(error);
                false
            })
        };
        if removed {
            report.removed.push(&surplus.run);
            report.bytes += surplus.bytes;
            report.work_trees += usize::from(surplus.has_work_tree);
        }
    }
    let refused_before = limits.too_old_before(now);
    let dry_run = arguments.dry_run;
    report.leftovers = retention::remove_leftovers(&layout, now, refused_before, dry_run)
        .unwrap_or_else(|error| {
            report.failed(error);
            Removed::default()
        });

    for (run, bytes) in retention::stray_work_trees(&layout, now).map_err(not_listed)? {
        let why = if arguments.dry_run {
            isolation::unsaved(inherited, &layout, &run)
        } else {
            isolation::clear(inherited, &layout, &run).err()
        };
        if why.is_none() {
            report.leftovers.number += 1;
            report.leftovers.bytes += bytes;
        }
        stays.insert(run.to_string(), why);
    }

    let gone: BTreeSet<String> = report.removed.iter().map(ToString::to_string).collect();
    let left: Vec<&Kept> = (runs.iter())
        .filter(|run| !gone.contains(&run.run.to_string()))
        .collect();
    world.ui.data(&if arguments.json {
        report.json(&left, dry_run, day_began)
    } else {
        report.lines(dry_run)
    });
    for (run, why) in &stays {
        if let Some(why) = why {
            world.ui.talk(&format!("{run} stays: {why}"));
        }
    }
    if asked == Retention::default() {
        world.ui.talk(
            "no run is too old or too large: name a limit with --older-than or --max-size, or as \
             keep_for or keep_size in config.toml",
        );
    }
    let size = left.iter().map(|run| run.bytes).sum();
    if limits.bytes.is_some_and(|most| size > most) {
        world.ui.talk(&format!(
            "warning: {} of {} stay: they are active, waiting to be told, of today, or hold \
             unsaved work",
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
    /// How many of the runs had a work tree.
    work_trees: usize,
    leftovers: Removed,
    /// The first failure.
    error: Option<StoreError>,
}

impl Report<'_> {
    fn failed(&mut self, error: StoreError) {
        self.error.get_or_insert(error);
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
        if self.work_trees > 0 {
            let number = text::count(self.work_trees, "work tree");
            writeln!(lines, "{number} among them").expect("writing to a string cannot fail");
        }
        lines
    }

    fn json(&self, left: &[&Kept], dry_run: bool, day_began: DateTime<Utc>) -> String {
        let runs: Vec<String> = self.removed.iter().map(ToString::to_string).collect();
        let protected = |by| {
            let runs = left.iter();
            runs.filter(|run| run.protection(day_began) == Some(by))
                .count()
        };
        let value = json!({
            "dry_run": dry_run,
            "removed": {
                "runs": runs,
                "bytes": self.bytes,
                "work_trees": self.work_trees,
                "leftovers": self.leftovers.number,
                "leftover_bytes": self.leftovers.bytes,
            },
            "kept": {
                "runs": left.len(),
                "bytes": left.iter().map(|run| run.bytes).sum::<u64>(),
                "active": protected(Protection::Active),
                "untold": protected(Protection::Untold),
                "today": protected(Protection::Today),
                "unsaved": protected(Protection::Unsaved),
            },
        });
        format!("{value:#}")
    }
}
