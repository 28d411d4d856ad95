//! `schedule`: lines for cron and units for systemd from `config.toml`, and what the installed
//! crontab has of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{due, timers};
use crate::cli::args::{ScheduleAction, ScheduleArguments};
use crate::cli::columns::{Column, Columns};
use crate::cli::error::CliError;
use crate::cli::wiring::{self, SystemClock, World};
use crate::config::Overrides;
use crate::config::schedule::Scheduled;
use crate::config::settings::Settings;
use crate::model::clock::{Clock as _, utc};
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS};
use crate::model::task::CatchUp;
use crate::model::text;
use crate::process::command::{Captured, HelperCommand, run};
use crate::process::identity;
use crate::schedule::crontab::{self, Block, BrokenBlock, Call, Job, MAX_LINE, quoted};
use crate::schedule::units::Timer;
use crate::schedule::{Zone, machine_zone};
use crate::store::atomic;

/// Does what is asked for with the schedule.
pub(crate) fn schedule(world: &World, arguments: &ScheduleArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let plan = Plan {
        world,
        settings: &settings,
        program: wiring::own_program()?,
    };
    if !matches!(&arguments.action, ScheduleAction::Remove { .. }) {
        plan.refuse_paths()?;
    }
    match &arguments.action {
        ScheduleAction::Print { all } => {
            let entries = if *all {
                settings.scheduled_or_suggested()
            } else {
                settings.scheduled()
            };
            world.ui.data(&plan.block().text(&plan.lines(&entries)?));
            plan.say_when_empty(&entries);
            plan.warn_of_variables();
            Ok(EXIT_SUCCESS)
        }
        ScheduleAction::Check { json } => plan.check(*json),
        ScheduleAction::Install { dry_run } => {
            let entries = settings.scheduled();
            plan.refuse_zones(&entries)?;
            plan.say_when_empty(&entries);
            plan.warn_of_variables();
            let lines = plan.lines(&entries)?;
            plan.change(*dry_run, |block, crontab| block.put(crontab, &lines))
        }
        ScheduleAction::Remove { dry_run } => plan.change(*dry_run, Block::remove),
        ScheduleAction::Systemd { directory } => {
            plan.warn_of_variables();
            plan.systemd(directory.as_deref())
        }
    }
}

struct Plan<'a> {
    world: &'a World,
    settings: &'a Settings,
    program: PathBuf,
}

impl Plan<'_> {
    /// Two installations on one machine have a block each.
    fn block(&self) -> Block {
        let owner = self.settings.owner();
        Block::of(&text::sanitize(&owner.to_string_lossy()).replace(['\n', '\t'], " "))
    }

    /// A line of a crontab or of a unit cannot hold every path.
    fn refuse_paths(&self) -> Result<(), CliError> {
        let runner = &self.settings.runner;
        let paths = [
            &runner.repo_root.value,
            &runner.log_root.value,
            &self.program,
        ];
        let is_bad = |path: &&PathBuf| path.to_str().is_none_or(|path| path.contains(['\n', '\0']));
        let bad = paths.into_iter().chain(&self.settings.file).find(is_bad);
        bad.map_or(Ok(()), |path| {
            let what = format!(
                "no crontab and no unit can hold the path {}",
                path.to_string_lossy().escape_debug()
            );
            Err(CliError::failure(what).hint("give it a name in UTF-8 without line feeds"))
        })
    }

    fn say_when_empty(&self, entries: &[Scheduled]) {
        if entries.is_empty() {
            self.world.ui.talk(
                "no task has a `schedule`: see docs/config.md, and `schedule print --all` for suggested times",
            );
        }
    }

    /// What is set in this shell alone is not there when cron or systemd starts a run, so that its
    /// notification would go nowhere. It may be secret, and is not written into their files.
    fn warn_of_variables(&self) {
        let agents = self.settings.agents.keys();
        for (name, key) in self.world.environment.settings_of_runs(agents) {
            self.world.ui.talk(&format!(
                "warning: {name} is set in this shell, and what is started by schedule does not have \
                 it: set `{key}` in config.toml"
            ));
        }
    }

    /// The lines between the marks.
    fn lines(&self, entries: &[Scheduled]) -> Result<String, CliError> {
        let mut lines = vec![
            "# Written by `agent-runner schedule install` from config.toml: change that, and install again."
                .to_owned(),
            // Not PATH, which would hold for the lines below this block, too.
            format!("AGENT_RUNNER_PATH_PREFIX={}", self.path()),
            format!("* * * * * {}", self.command("heartbeat", "> /dev/null 2>>", None)),
        ];
        let layout = wiring::layout(self.settings);
        // Zones come last, since an assignment holds for all lines below it.
        let mut entries: Vec<&Scheduled> = entries.iter().collect();
        entries.sort_by_key(|entry| entry.timezone.clone());
        let mut zone = &None;
        for entry in entries {
            if entry.timezone != *zone {
                lines.push(format!(
                    "CRON_TZ={}",
                    entry.timezone.as_deref().unwrap_or_default()
                ));
                zone = &entry.timezone;
            }
            let (task, agent) = (&entry.task, &entry.agent);
            let verb = format!("run --agent {} --task {task}", quoted(agent));
            let line = format!("{} {}", entry.text, self.command(&verb, ">>", delay(entry)));
            if due::is_held_back(&layout, agent) {
                lines.push(
                    "# not started before `agent-runner doctor --probe gemini` has passed:"
                        .to_owned(),
                );
                lines.push(format!("#{line}"));
            } else {
                lines.push(line);
            }
        }
        if zone.is_some() {
            lines.push(format!(
                "CRON_TZ={}",
                machine_zone().unwrap_or("UTC".to_owned())
            ));
        }
        if let Some(line) = lines.iter().find(|line| line.len() > MAX_LINE) {
            return Err(CliError::failure(format!(
                "a line would have {} characters, and cron cuts it off after {MAX_LINE}: {}",
                line.len(),
                text::first_line(line, 60)
            ))
            .hint("shorten PATH, or move program and configuration to shorter paths"));
        }
        Ok(lines.join("\n") + "\n")
    }

    /// Where agents and git are found now, which cron would not know.
    fn path(&self) -> String {
        let path =
            wiring::inherited(&self.world.environment, self.settings).remove(OsStr::new("PATH"));
        let path = path.unwrap_or_default();
        let mut seen = BTreeSet::new();
        let directories = std::env::split_paths(&path)
            .filter(|path| path.is_absolute() && seen.insert(path.clone()));
        let words: Vec<String> = directories
            .filter_map(|path| path.into_os_string().into_string().ok())
            .collect();
        words.join(":").replace('\n', "")
    }

    fn command(&self, verb: &str, redirection: &str, delay: Option<u64>) -> String {
        let log = self.settings.runner.log_root.value.join("cron.log");
        let delay = delay.map_or(String::new(), |seconds| format!("sleep {seconds}; "));
        let program = self.call(verb);
        format!(
            "{delay}cd {} && {program} {redirection} {}{}",
            shell(&self.settings.runner.repo_root.value),
            shell(&log),
            if redirection == ">>" { " 2>&1" } else { "" }
        )
    }

    fn call(&self, verb: &str) -> String {
        let config = self.settings.file.as_ref();
        let config = config.map_or(String::new(), |file| format!("--config {} ", shell(file)));
        format!("{} {config}{verb}", shell(&self.program))
    }

    /// A zone of one's own needs a cron that heeds `CRON_TZ`.
    fn refuse_zones(&self, entries: &[Scheduled]) -> Result<(), CliError> {
        let now = SystemClock.now();
        let foreign = entries
            .iter()
            .find(|entry| !entry.zone().agrees_with(Zone::Local, now));
        let Some(entry) = foreign.filter(|_| !heeds_zones(self.world)) else {
            return Ok(());
        };
        Err(CliError::failure(format!(
            "this machine's cron would start `{}` by the machine's clock, not by that of {}",
            entry.task,
            entry.timezone.as_deref().unwrap_or_default()
        ))
        .hint("`agent-runner schedule systemd DIR` makes timers that know zones; or leave `timezone` out"))
    }

    /// Replaces the user's crontab, which `crontab` does whole or not at all.
    fn change(
        &self,
        dry_run: bool,
        edit: impl FnOnce(&Block, &str) -> Result<String, BrokenBlock>,
    ) -> Result<u8, CliError> {
        let before = installed(self.world)?.unwrap_or_default();
        let after = edit(&self.block(), &before).map_err(|error| {
            CliError::failure("the crontab stays as it is")
                .because(error)
                .hint("mend the lines `# BEGIN agent-runner …` and `# END agent-runner …` with `crontab -e`")
        })?;
        let changes = difference(&before, &after);
        if changes.is_empty() {
            self.world
                .ui
                .talk("the crontab is as it should be; nothing was changed");
            return Ok(EXIT_SUCCESS);
        }
        self.world.ui.data(&changes);
        if dry_run {
            self.world.ui.talk("nothing was changed (--dry-run)");
            return Ok(EXIT_SUCCESS);
        }
        // The lines append to a log there, and cron starts nothing where that fails.
        let layout = wiring::layout(self.settings);
        layout
            .create()
            .map_err(|error| CliError::failure("the crontab stays as it is").because(error))?;
        due::begin_anew(self.world, self.settings, &layout, SystemClock.now());
        let done = crontab_program(self.world, &["-"], after.as_bytes())?;
        if done.code != Some(0) {
            return Err(CliError::failure("`crontab` refused the new crontab").because(done.stderr));
        }
        due::note(self.world, self.settings, &layout, SystemClock.now());
        self.world.ui.talk("the crontab is changed");
        Ok(EXIT_SUCCESS)
    }

    fn check(&self, as_json: bool) -> Result<u8, CliError> {
        let ui = &self.world.ui;
        let entries = self.settings.scheduled();
        let mut timers = timers::timers(self.world, self.settings);
        // What else a person starts by a timer is not for config.toml to say.
        timers.retain(|timer| ["run", "heartbeat"].contains(&timer.call.verb.as_str()));
        let crontab = match installed(self.world) {
            // A machine with timers needs no cron.
            Err(_) if !timers.is_empty() => None,
            crontab => crontab?,
        };
        let crontab = crontab.unwrap_or_default();
        let block = self
            .block()
            .find(&crontab)
            .map_err(|error| CliError::failure("the crontab cannot be compared").because(error))?;
        let by_timers = block.is_none() && !timers.is_empty();
        let wanted = if by_timers {
            self.starts(&entries)
        } else {
            self.lines(&entries)?.lines().map(str::to_owned).collect()
        };
        // The marks themselves say nothing.
        let count = block.map_or(0, |block| block.lines().count());
        let lines = block.unwrap_or_default().lines().skip(1);
        let mut found: Vec<String> = lines
            .take(count.saturating_sub(2))
            .map(str::to_owned)
            .collect();
        found.extend(timers.iter().map(start));
        let missing: Vec<&String> = wanted.iter().filter(|line| !found.contains(line)).collect();
        let foreign: Vec<&String> = found.iter().filter(|line| !wanted.contains(line)).collect();
        let zones = self.refuse_zones(&entries).err();
        let zones = zones.filter(|_| !by_timers).map(|error| error.to_string());
        let now = SystemClock.now();
        let next: Vec<(&Scheduled, Option<DateTime<Utc>>)> = {
            let mut next: Vec<_> = entries
                .iter()
                .map(|entry| (entry, entry.expression.next(entry.zone(), now)))
                .collect();
            next.sort_by_key(|(_, at)| at.unwrap_or(DateTime::<Utc>::MAX_UTC));
            next
        };
        let same = missing.is_empty() && foreign.is_empty() && zones.is_none();
        if as_json {
            let next: Vec<_> = next
                .iter()
                .map(|(entry, at)| {
                    json!({
                        "task": entry.task.as_str(),
                        "agent": entry.agent,
                        "schedule": entry.text,
                        "timezone": entry.timezone,
                        "next": at.map(|at| at.to_rfc3339()),
                        "next_local": at.map(|at| Zone::Local.shows(at)),
                    })
                })
                .collect();
            ui.data(&format!(
                "{:#}",
                json!({
                    "installed": block.is_some() || by_timers,
                    "same": same,
                    "missing": missing,
                    "foreign": foreign,
                    "zones": zones,
                    "next": next,
                })
            ));
        } else {
            match block {
                None if by_timers && same => ui.data("the timers have what config.toml schedules"),
                None if by_timers => ui.prose("the timers differ from config.toml: see `agent-runner schedule systemd`"),
                None => ui.prose("not installed: `agent-runner schedule install` puts these lines into your crontab"),
                Some(_) if same => ui.data("the crontab has what config.toml schedules"),
                Some(_) if !timers.is_empty() => ui.prose("timers start this program besides the crontab: disable them, or `agent-runner schedule remove`"),
                Some(_) => ui.prose("the crontab differs from config.toml; `agent-runner schedule install` mends it"),
            }
            for (sign, lines) in [("missing:", &missing), ("no longer wanted:", &foreign)] {
                for line in lines {
                    ui.data(&format!("{sign} {line}"));
                }
            }
            if let Some(zones) = &zones {
                ui.prose(zones);
            }
            let row = |(entry, at): &(&Scheduled, Option<DateTime<Utc>>)| {
                let schedule = [Some(entry.text.clone()), entry.timezone.clone()];
                [
                    at.map_or("never".to_owned(), |at| utc(at).replace(" UTC", "")),
                    at.map_or(String::new(), |at| Zone::Local.shows(at)),
                    entry.task.to_string(),
                    entry.agent.clone(),
                    schedule.into_iter().flatten().collect::<Vec<_>>().join(" "),
                ]
            };
            if next.is_empty() {
                self.say_when_empty(&entries);
            } else {
                let rows: Vec<_> = next.iter().map(row).collect();
                let columns = Columns::fit(
                    ui.width(),
                    [
                        Column::new("NEXT (UTC)", 0),
                        Column::new("LOCAL", 4),
                        Column::new("TASK", 1).cut_to(12),
                        Column::new("AGENT", 2),
                        Column::new("SCHEDULE", 3),
                    ],
                    rows.iter().cloned(),
                );
                ui.data(&format!("\n{}", columns.page(&rows)));
            }
        }
        Ok(if same { EXIT_SUCCESS } else { EXIT_FAILURE })
    }

    /// What timers are to start, in the words of [`start`].
    fn starts(&self, entries: &[Scheduled]) -> Vec<String> {
        let layout = wiring::layout(self.settings);
        let entries = entries.iter();
        let entries = entries.filter(|entry| !due::is_held_back(&layout, &entry.agent));
        let starts = entries.map(|entry| {
            let calendars = entry.expression.calendars(entry.timezone.as_deref());
            format!(
                "{}: run --agent {} --task {}",
                calendars.join(", "),
                entry.agent,
                entry.task
            )
        });
        let heartbeat = format!("{MINUTELY}: heartbeat");
        [heartbeat].into_iter().chain(starts).collect()
    }

    fn systemd(&self, directory: Option<&Path>) -> Result<u8, CliError> {
        let units = self.units();
        let Some(directory) = directory else {
            for (name, text) in &units {
                self.world.ui.data(&format!("# {name}\n{text}"));
            }
            return Ok(EXIT_SUCCESS);
        };
        let directory = self.world.current_directory.join(directory);
        wiring::make_directory(&directory)?;
        let layout = wiring::layout(self.settings);
        due::begin_anew(self.world, self.settings, &layout, SystemClock.now());
        for (name, text) in &units {
            let path = directory.join(name);
            // One that is masked is a link to /dev/null, and stays it.
            atomic::target(&path)
                .and_then(|path| atomic::write(&path, text.as_bytes()))
                .map_err(|error| CliError::failure("a unit is not written").because(error))?;
            self.world.ui.talk(&format!("written  {}", path.display()));
        }
        due::note(self.world, self.settings, &layout, SystemClock.now());
        self.world.ui.talk(
            "\nNext: systemctl --user daemon-reload, then systemctl --user enable --now on each timer,\n\
             and loginctl enable-linger for the time when you are not logged in",
        );
        Ok(EXIT_SUCCESS)
    }

    /// A service and a timer for the heartbeat and for each entry, with their names.
    fn units(&self) -> Vec<(String, String)> {
        let mut units = Vec::new();
        let mut add = |name: String, what: &str, verb: &str, timer: String, stop: Duration| {
            units.push((format!("{name}.service"), self.service(what, verb, stop)));
            let timer = format!(
                "[Unit]\nDescription=When to start: {what}\n\n[Timer]\n{timer}\n[Install]\nWantedBy=timers.target\n"
            );
            units.push((format!("{name}.timer"), timer));
        };
        let minutely = format!("OnCalendar={MINUTELY}\nAccuracySec=1s\n");
        add(
            "agent-runner-heartbeat".to_owned(),
            "agent-runner heartbeat",
            "heartbeat",
            minutely,
            Duration::ZERO,
        );
        let layout = wiring::layout(self.settings);
        for entry in self.settings.scheduled() {
            let (task, agent) = (&entry.task, &entry.agent);
            if due::is_held_back(&layout, agent) {
                self.world.ui.talk(
                    "gemini is left out until `agent-runner doctor --probe gemini` has passed",
                );
                continue;
            }
            let mut timer = String::new();
            for calendar in entry.expression.calendars(entry.timezone.as_deref()) {
                writeln!(timer, "OnCalendar={calendar}").expect("writing to a string cannot fail");
            }
            timer.push_str("AccuracySec=1s\n");
            if !entry.jitter.is_zero() {
                writeln!(
                    timer,
                    "RandomizedDelaySec={}\nFixedRandomDelay=true",
                    entry.jitter.as_secs()
                )
                .expect("writing to a string cannot fail");
            }
            if entry.catch_up == CatchUp::Once {
                timer.push_str("Persistent=true\n");
            }
            let grace = self.settings.runner.grace_period.value;
            add(
                format!("agent-runner-{task}-{agent}"),
                &format!("agent-runner {task} by {agent}"),
                &format!("run --agent {agent} --task {task}"),
                timer,
                grace + Duration::from_secs(20),
            );
        }
        units
    }

    fn service(&self, what: &str, verb: &str, stop: Duration) -> String {
        // 0 of `skipped` and 10 of a limit are no faults of the unit.
        let stop = stop.as_secs().max(10);
        format!(
            "[Unit]\nDescription={what}\n\n[Service]\nType=oneshot\nWorkingDirectory={}\nEnvironment={}\n\
             ExecStart={}\nSuccessExitStatus=10\n\
             # The runner ends its agent by itself, and then delivers what is to be told.\n\
             KillMode=mixed\nTimeoutStopSec={stop}\n",
            unit(&self.settings.runner.repo_root.value.to_string_lossy()),
            unit_quoted(&format!("AGENT_RUNNER_PATH_PREFIX={}", self.path())),
            self.unit_call(verb),
        )
    }

    fn unit_call(&self, verb: &str) -> String {
        let config = self.settings.file.as_ref();
        let config = config.map_or(String::new(), |file| {
            format!("--config {} ", unit_quoted(&file.to_string_lossy()))
        });
        format!(
            "{} {config}{verb}",
            unit_quoted(&self.program.to_string_lossy())
        )
    }
}

/// Each minute, in systemd's words.
const MINUTELY: &str = "*-*-* *:*:00";

/// What a timer starts and when, in words that can be compared.
fn start(timer: &Timer) -> String {
    let call = &timer.call;
    let options = ["--agent", "--task"]
        .into_iter()
        .filter_map(|name| Some(format!(" {name} {}", call.option(name)?)));
    let mut times = timer.calendars.clone();
    times.extend(
        timer
            .unread
            .iter()
            .filter(|value| !value.starts_with("OnCalendar="))
            .cloned(),
    );
    let times = times.join(", ");
    format!("{times}: {}{}", call.verb, options.collect::<String>())
}

/// `%` begins a specifier in a unit.
fn unit(text: &str) -> String {
    text.replace('%', "%%").replace('\n', " ")
}

fn unit_quoted(text: &str) -> String {
    let escaped = unit(text)
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('$', "$$");
    format!("\"{escaped}\"")
}

fn shell(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The share of the jitter that belongs to this task, agent and machine, in seconds: always the
/// same, so that the installed line can be compared.
fn delay(entry: &Scheduled) -> Option<u64> {
    let most = entry.jitter.as_secs();
    if most == 0 {
        return None;
    }
    let name = format!("{}/{}/{}", identity::host_name(), entry.task, entry.agent);
    let hash = Sha256::digest(name.as_bytes());
    let number = hash
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some(number % (most + 1))
}

/// The lines that go and those that come, as `diff` marks them.
fn difference(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same_start = old
        .iter()
        .zip(&new)
        .take_while(|(old, new)| old == new)
        .count();
    let rest = old.len().min(new.len()) - same_start;
    let pairs = old.iter().rev().zip(new.iter().rev()).take(rest);
    let same_end = pairs.take_while(|(old, new)| old == new).count();
    let mut changes = String::new();
    for (sign, lines) in [("-", &old), ("+", &new)] {
        for line in &lines[same_start..lines.len() - same_end] {
            writeln!(changes, "{sign} {line}").expect("writing to a string cannot fail");
        }
    }
    changes
}

fn crontab_program(world: &World, arguments: &[&str], stdin: &[u8]) -> Result<Captured, CliError> {
    // Its words are read, and it needs none of the secrets that may be set here.
    let known = ["PATH", "HOME", "LOGNAME", "USER", "TMPDIR"];
    let mut environment = vec![("LC_ALL".into(), "C".into())];
    environment.extend(known.into_iter().filter_map(|name| {
        let value = world.environment.get(name)?;
        Some((name.into(), value.to_owned()))
    }));
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    run(&HelperCommand {
        program: OsStr::new("crontab"),
        arguments: &arguments,
        directory: Path::new("/"),
        environment: &environment,
        stdin,
        limit: Duration::from_secs(10),
        budget: None,
        record_bytes: None,
    })
    .map_err(|error| {
        CliError::failure("the crontab cannot be read")
            .because(error)
            .hint("without cron, `agent-runner schedule systemd DIR` makes timers")
    })
}

/// Whether the installed cron is one that knows `CRON_TZ`: cronie tells its name.
pub(super) fn heeds_zones(world: &World) -> bool {
    crontab_program(world, &["-V"], b"").is_ok_and(|told| {
        let said = format!("{}{}", String::from_utf8_lossy(&told.stdout), told.stderr);
        said.contains("cronie")
    })
}

/// The user's crontab; `None` when there is none.
fn installed(world: &World) -> Result<Option<String>, CliError> {
    let told = crontab_program(world, &["-l"], b"")?;
    match told.code {
        Some(0) => String::from_utf8(told.stdout).map(Some).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.split(|byte| *byte == b'\n').count();
            CliError::failure(format!(
                "the crontab cannot be read: line {line} holds bytes that are not UTF-8"
            ))
            .hint("write that line anew with `crontab -e`; nothing was changed")
        }),
        _ if told.stderr.contains("no crontab") => Ok(None),
        _ => Err(CliError::failure("the crontab cannot be read").because(told.stderr)),
    }
}

/// The lines of the user's crontab that start this program for this configuration; `None` when there
/// is no crontab.
pub(super) fn jobs(world: &World, settings: &Settings) -> Result<Option<Vec<Job>>, CliError> {
    let given = ["HOME", "LOGNAME"].into_iter().filter_map(|name| {
        let value = world.environment.get(name)?.to_str()?;
        Some((name.to_owned(), value.to_owned()))
    });
    let given = given.collect();
    let crontab = installed(world)?;
    Ok(crontab.map(|crontab| {
        let mut jobs = crontab::jobs(&crontab, &given);
        jobs.retain(|job| {
            job.call().is_some_and(|mut call| {
                let variable = job.environment.get("AGENT_RUNNER_CONFIG");
                call.config = call.config.or_else(|| variable.cloned());
                is_ours(&call, settings)
            })
        });
        jobs
    }))
}

/// Whether a line of the crontab is of this configuration and repository, as far as it says.
pub(super) fn is_ours(call: &Call, settings: &Settings) -> bool {
    let file = settings.file.as_deref();
    if let Some(config) = &call.config {
        return file.is_some_and(|file| file.as_os_str() == config.as_str());
    }
    let Some(directory) = call.directory.as_ref().map(Path::new) else {
        return true;
    };
    settings.runner.repo_root.value == directory
        || file.and_then(|file| file.parent()) == Some(directory)
}
