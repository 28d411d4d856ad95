//! What is due: by the installed crontab and timers, and by the configuration where those have
//! nothing for a task and agent.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{schedule, timers};
use crate::cli::wiring::World;
use crate::config::settings::Settings;
use crate::model::task::CatchUp;
use crate::schedule::Zone;
use crate::schedule::crontab::Call;
use crate::schedule::expression::Expression;
use crate::store::layout::Layout;
use crate::store::probed;
use crate::store::since::{Since, since};
use crate::triage::{Fire, Starter};

/// A start is on time within this.
const ON_TIME: Duration = Duration::from_secs(90);

/// What is scheduled.
struct Due {
    starts: Vec<Start>,
    /// What is configured, also where it is installed: a crontab is not seen from everywhere.
    configured: Vec<String>,
    /// What of the timers is not understood.
    unread: Vec<String>,
    /// Nothing could not be looked at.
    is_whole: bool,
}

/// A time at which something is started.
struct Start {
    expression: Expression,
    zone: Zone,
    fire: Fire,
    /// What tells it from what was scheduled before.
    line: String,
}

/// What was due since a time, and what of the timers is not understood. Of a line that is known
/// since later, nothing was due before.
pub(super) fn fires(
    world: &World,
    settings: &Settings,
    layout: &Layout,
    from: DateTime<Utc>,
    now: DateTime<Utc>,
) -> (Vec<Fire>, Vec<String>) {
    let due = due(world, settings, layout, now);
    let known = note_lines(&due, layout, now);
    // A fire at the very moment of the look back counts.
    let from = from - TimeDelta::seconds(1);
    let fires_of = |start: Start| {
        let since = known.get(&start.line).copied().flatten();
        let from = since.map_or(from, |since| since.max(from));
        let moments = start.expression.fires(start.zone, from, now);
        moments.map(move |at| Fire {
            at,
            ..start.fire.clone()
        })
    };
    let mut fires: Vec<Fire> = due.starts.into_iter().flat_map(fires_of).collect();
    fires.sort_by(|a, b| (a.at, &a.task, &a.agent).cmp(&(b.at, &b.task, &b.agent)));
    // Two values of one timer may name the same moment; two lines of a crontab are two starts.
    fires.dedup_by(|a, b| a.starter == Some(Starter::Systemd) && a == b);
    (fires, due.unread)
}

/// Notes what is scheduled from now on.
pub(super) fn note(world: &World, settings: &Settings, layout: &Layout, now: DateTime<Utc>) {
    note_lines(&due(world, settings, layout, now), layout, now);
}

fn note_lines(due: &Due, layout: &Layout, now: DateTime<Utc>) -> Since {
    if !due.is_whole {
        return Since::new();
    }
    let starts = due.starts.iter().map(|start| &start.line);
    let lines = starts.chain(&due.configured).cloned();
    since(layout, "schedule", lines, now)
}

fn due(world: &World, settings: &Settings, layout: &Layout, now: DateTime<Utc>) -> Due {
    let jobs = schedule::jobs(world, settings);
    let timers = timers::timers(world, settings);
    let is_whole = jobs.is_ok() || !timers.is_empty();
    let jobs = jobs.unwrap_or_else(|error| {
        tracing::debug!(%error, "no crontab");
        None
    });
    let heeds_zones = jobs.is_some() && schedule::heeds_zones(world);
    let mut starts = Vec::new();
    let mut installed = Vec::new();
    let mut unread = Vec::new();
    let mut add = |expression, zone: Option<&str>, fire: Fire, line: &str| {
        starts.push(Start {
            line: line_of(&fire, line, zone),
            expression,
            zone: Zone::of(zone),
            fire,
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
        add(expression, zone, fire, &format!("cron {}", job.expression));
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
        let line = format!("{} {}", timer.name, timer.calendars.join(", "));
        for time in &timer.times {
            let zone = time.timezone.as_deref();
            add(time.expression, zone, fire.clone(), &line);
        }
        let not_understood = timer.unread.iter();
        unread.extend(not_understood.map(|value| format!("{} ({value})", timer.name)));
    }
    let mut configured = Vec::new();
    for entry in settings.scheduled() {
        let is_installed = installed.contains(&(entry.task.clone(), entry.agent.clone()));
        let is_off = entry.agent == "gemini" && !probed::is_probed(layout, &entry.agent);
        if is_off {
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
        let zone = entry.timezone.as_deref();
        let line = format!("config {}", entry.text);
        configured.push(line_of(&fire, &line, zone));
        if !is_installed {
            add(entry.expression, zone, fire, &line);
        }
    }
    Due {
        starts,
        configured,
        unread,
        is_whole,
    }
}

fn line_of(fire: &Fire, line: &str, zone: Option<&str>) -> String {
    let zone = zone.unwrap_or_default();
    format!("{} {} {line} {zone}", fire.task, fire.agent)
}
