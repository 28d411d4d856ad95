//! What is due: by the installed crontab and timers, and by the configuration where those have
//! nothing for a task and agent.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{schedule, timers};
use crate::cli::wiring::{self, World};
use crate::config::schedule::Scheduled;
use crate::config::settings::Settings;
use crate::model::ids::TaskName;
use crate::model::task::CatchUp;
use crate::process::program::find_program;
use crate::schedule::Zone;
use crate::schedule::crontab::Call;
use crate::schedule::expression::Expression;
use crate::store::layout::Layout;
use crate::store::probed;
use crate::store::since::{Since, since};
use crate::triage::{Fire, Starter};

/// A start is on time within this.
const ON_TIME: Duration = Duration::from_secs(90);

/// What was due.
pub(super) struct Due {
    pub(super) fires: Vec<Fire>,
    /// What of the timers is not understood.
    pub(super) unread: Vec<String>,
    /// How many lines are known only since later than the look back, and since when the newest.
    pub(super) new: Option<(usize, DateTime<Utc>)>,
}

/// What is scheduled.
struct Schedule {
    starts: Vec<Start>,
    /// What is configured, also where it is installed: a crontab is not seen from everywhere.
    configured: Vec<String>,
    /// What of the timers is not understood.
    unread: Vec<String>,
    /// All that is installed was seen.
    is_whole: bool,
}

/// A time at which something is started.
struct Start {
    expression: Expression,
    zone: Zone,
    fire: Fire,
    /// What tells it from what was scheduled before, whoever starts it.
    line: String,
    is_installed: bool,
}

/// What was due since a time. Of a line that is known since later, nothing was due before.
pub(super) fn due(
    world: &World,
    settings: &Settings,
    layout: &Layout,
    from: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Due {
    let schedule = scheduled(world, settings, layout, now);
    let known = schedule.note(settings, layout, now);
    let since = |line: &String| known.get(line).copied().flatten();
    let lines: BTreeSet<&String> = schedule.starts.iter().map(|start| &start.line).collect();
    let new = lines.into_iter().filter_map(since);
    let new: Vec<_> = new.filter(|since| *since > from).collect();
    let newest = new.iter().max().map(|newest| (new.len(), *newest));
    // A fire at the very moment of the look back counts.
    let from = from - TimeDelta::seconds(1);
    let fires_of = |start: &Start| {
        let from = since(&start.line).map_or(from, |since| since.max(from));
        let moments = start.expression.fires(start.zone, from, now);
        let fire = start.fire.clone();
        moments.map(move |at| Fire { at, ..fire.clone() })
    };
    let mut fires: Vec<Fire> = schedule.starts.iter().flat_map(fires_of).collect();
    fires.sort_by(|a, b| (a.at, &a.task, &a.agent).cmp(&(b.at, &b.task, &b.agent)));
    // Two values of one timer may name the same moment; two lines of a crontab are two starts.
    fires.dedup_by(|a, b| a.starter == Some(Starter::Systemd) && a == b);
    Due {
        fires,
        unread: schedule.unread,
        new: newest,
    }
}

/// Notes what is scheduled from now on.
pub(super) fn note(world: &World, settings: &Settings, layout: &Layout, now: DateTime<Utc>) {
    scheduled(world, settings, layout, now).note(settings, layout, now);
}

/// The same before the schedule is installed: what was configured until now and started by nobody
/// is new with that.
pub(super) fn begin_anew(world: &World, settings: &Settings, layout: &Layout, now: DateTime<Utc>) {
    let mut schedule = scheduled(world, settings, layout, now);
    let installed: Vec<_> = schedule.installed().collect();
    schedule.configured.retain(|line| installed.contains(line));
    schedule.note(settings, layout, now);
}

/// Notes what is configured, and tells since when. No crontab is asked for.
pub(super) fn note_configured(settings: &Settings, layout: &Layout, now: DateTime<Utc>) -> Since {
    let lines = configured(settings, layout).map(|entry| line(&entry));
    let subject = wiring::subject("configured", settings);
    since(layout, &subject, lines, now)
}

impl Schedule {
    fn installed(&self) -> impl Iterator<Item = String> {
        let starts = self.starts.iter().filter(|start| start.is_installed);
        starts.map(|start| start.line.clone())
    }

    /// A line that was configured before it was installed, or elsewhere, is known since then.
    fn note(&self, settings: &Settings, layout: &Layout, now: DateTime<Utc>) -> Since {
        let note = |what: &str, lines: &mut dyn Iterator<Item = String>| {
            since(layout, &wiring::subject(what, settings), lines, now)
        };
        let mut known = note("configured", &mut self.configured.iter().cloned());
        if self.is_whole {
            for (line, since) in note("installed", &mut self.installed()) {
                let first = known.get(&line).map_or(since, |known| since.min(*known));
                known.insert(line, first);
            }
        }
        known
    }
}

fn scheduled(world: &World, settings: &Settings, layout: &Layout, now: DateTime<Utc>) -> Schedule {
    let jobs = schedule::jobs(world, settings);
    let timers = timers::timers(world, settings);
    let search_path = world.environment.get("PATH").unwrap_or_default();
    let has_cron = find_program(Path::new("crontab"), search_path).is_ok();
    // One that has no cron has nothing but its timers.
    let is_whole = jobs.is_ok() || !has_cron && !timers.is_empty();
    let jobs = jobs.unwrap_or_else(|error| {
        tracing::debug!(error = error.brief(), "no crontab");
        None
    });
    let heeds_zones = jobs.is_some() && schedule::heeds_zones(world);
    let mut starts = Vec::new();
    let mut installed = Vec::new();
    let mut unread = Vec::new();
    let mut add = |expression, zone: Option<&str>, fire: Fire, calendars: &[String]| {
        starts.push(Start {
            line: line_of(&fire.task, &fire.agent, calendars),
            expression,
            zone: Zone::of(zone),
            fire,
            is_installed: true,
        });
    };
    let of_call = |call: &Call, starter| {
        let (agent, task) = (call.option("--agent")?, call.option("--task")?);
        let task = &settings.task(task).ok()?.task;
        (call.verb == "run").then(|| Fire {
            at: now,
            task: task.name.clone(),
            agent: agent.to_owned(),
            tolerance: ON_TIME + task.jitter,
            catch_up: task.catch_up == CatchUp::Once,
            starter: Some(starter),
        })
    };
    for job in jobs.iter().flatten() {
        let fire = job.call().and_then(|call| of_call(&call, Starter::Cron));
        let (Some(fire), Ok(expression)) = (fire, Expression::parse(&job.expression)) else {
            continue;
        };
        let zone = job.timezone.as_deref().filter(|_| heeds_zones);
        installed.push((fire.task.clone(), fire.agent.clone()));
        add(expression, zone, fire, &expression.calendars(zone));
    }
    for timer in &timers {
        let Some(fire) = of_call(&timer.call, Starter::Systemd) else {
            continue;
        };
        let fire = Fire {
            tolerance: ON_TIME + timer.tolerance,
            catch_up: timer.persistent,
            ..fire
        };
        installed.push((fire.task.clone(), fire.agent.clone()));
        for time in &timer.times {
            let zone = time.timezone.as_deref();
            add(time.expression, zone, fire.clone(), &timer.calendars);
        }
        let not_understood = timer.unread.iter();
        unread.extend(not_understood.map(|value| format!("{} ({value})", timer.name)));
    }
    let entries: Vec<Scheduled> = configured(settings, layout).collect();
    for entry in &entries {
        if installed.contains(&(entry.task.clone(), entry.agent.clone())) {
            continue;
        }
        let fire = Fire {
            at: now,
            task: entry.task.clone(),
            agent: entry.agent.clone(),
            tolerance: ON_TIME + entry.jitter,
            catch_up: entry.catch_up == CatchUp::Once,
            // Without either, something starts it that is not seen from here.
            starter: (jobs.is_none() && timers.is_empty()).then_some(Starter::Cron),
        };
        starts.push(Start {
            line: line(entry),
            expression: entry.expression,
            zone: entry.zone(),
            fire,
            is_installed: false,
        });
    }
    Schedule {
        starts,
        configured: entries.iter().map(line).collect(),
        unread,
        is_whole,
    }
}

/// What config.toml schedules and may be started.
pub(super) fn configured(settings: &Settings, layout: &Layout) -> impl Iterator<Item = Scheduled> {
    let scheduled = settings.scheduled().into_iter();
    scheduled.filter(|entry| !is_held_back(layout, &entry.agent))
}

/// Whether an agent is not started by any schedule until a small run on trial has passed.
pub(super) fn is_held_back(layout: &Layout, agent: &str) -> bool {
    agent == "gemini" && !probed::is_probed(layout, agent)
}

/// What tells a line of the configuration from others and from what it was before.
pub(super) fn line(entry: &Scheduled) -> String {
    let calendars = entry.expression.calendars(entry.timezone.as_deref());
    line_of(&entry.task, &entry.agent, &calendars)
}

/// Whoever starts it: cron's expression is told in the words of systemd.
fn line_of(task: &TaskName, agent: &str, calendars: &[String]) -> String {
    format!("{task} {agent} {}", calendars.join(", "))
}
