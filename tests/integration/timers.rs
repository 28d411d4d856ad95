//! Timers of systemd, as whoever looks at the schedule sees them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use agent_runner::schedule::Zone;
use agent_runner::schedule::systemd::Calendar;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde_json::Value;

use crate::support::{Done, TestEnv};

/// A place without a crontab whose heartbeat beat each of the last 30 minutes.
fn place(keys: &str) -> TestEnv {
    let env = TestEnv::new();
    let crontab = env.root().join("bin/crontab");
    fs::create_dir(env.root().join("bin")).unwrap();
    fs::write(&crontab, "#!/bin/sh\necho no crontab for me >&2\nexit 1\n").unwrap();
    fs::set_permissions(&crontab, fs::Permissions::from_mode(0o755)).unwrap();
    env.beat(30);
    let path = format!("{}/bin:/usr/bin:/bin", env.root().display());
    env.variable("PATH", path)
        .script("good", "text", "echo hello")
        .task("work", keys)
}

fn directory(env: &TestEnv) -> PathBuf {
    env.root().join("home/.config/systemd/user")
}

/// Writes the units and enables them, as `systemctl --user enable` does.
fn install(env: &TestEnv) {
    let units = directory(env);
    let done = env.agent_runner(&["schedule", "systemd", units.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let wants = units.join("timers.target.wants");
    fs::create_dir_all(&wants).unwrap();
    for file in fs::read_dir(&units).unwrap() {
        let file = file.unwrap().path();
        if file.extension().is_some_and(|kind| kind == "timer") {
            symlink(&file, wants.join(file.file_name().unwrap())).unwrap();
        }
    }
}

fn report(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).expect(&done.stderr)
}

fn whys(done: &Done, status: &str) -> Vec<String> {
    let report = report(done);
    let rows = report["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["status"] == status)
        .map(|row| row["why"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_start_by_a_timer_that_left_no_run_is_missed() {
    let env = place("schedule = \"* * * * *\"\nagents = [\"good\"]");
    install(&env);
    let triage = |env: &TestEnv| env.agent_runner(&["triage", "--since", "20m", "--json"]);
    let done = triage(&env);
    assert_eq!(whys(&done, "missed"), [""; 0], "installed just now");
    let remarks = report(&done)["remarks"].to_string();
    assert!(
        remarks.contains("1 line of the schedule known only since"),
        "{remarks}"
    );
    // Known for long in config.toml, whoever starts it.
    fs::remove_file(env.note_of("configured")).unwrap();
    let missed = whys(&triage(&env), "missed");
    assert!(missed.len() >= 15, "{missed:?}");
    assert!(missed.iter().all(|why| why.contains("journalctl")));
    let check = env.agent_runner(&["schedule", "check"]);
    assert_eq!(check.code, Some(0), "{}", check.stdout);
    assert!(
        check.stdout.contains("the timers have what"),
        "{}",
        check.stdout
    );
    let doctor = env.agent_runner(&["doctor"]);
    assert!(
        doctor.stdout.contains("2 timers of it"),
        "{}",
        doctor.stdout
    );

    // A machine without cron.
    let crontab = env.root().join("bin/crontab");
    fs::write(&crontab, "#!/bin/sh\necho out of order >&2\nexit 2\n").unwrap();
    assert_eq!(env.agent_runner(&["schedule", "check"]).code, Some(0));
    assert!(whys(&triage(&env), "missed").len() >= 15);

    // A drop-in that takes the time back, and one whose times are not understood.
    let drop_in = directory(&env).join("agent-runner-work-good.timer.d");
    fs::create_dir(&drop_in).unwrap();
    let file = drop_in.join("override.conf");
    fs::write(&file, "[Timer]\nOnCalendar=\nOnCalendar=2020-01-01\n").unwrap();
    let done = triage(&env);
    assert_eq!(whys(&done, "missed"), [""; 0]);
    let remarks = report(&done)["remarks"].to_string();
    assert!(
        remarks.contains(
            "agent-runner-work-good.timer (OnCalendar=2020-01-01) is due is not understood"
        ),
        "{remarks}"
    );
    let check = env.agent_runner(&["schedule", "check"]);
    assert_eq!(check.code, Some(1));
    assert!(
        check
            .stdout
            .contains("missing: *-*-* *:*:00: run --agent good --task work"),
        "{}",
        check.stdout
    );
}

#[test]
fn a_timer_that_is_not_enabled_or_of_another_configuration_starts_nothing() {
    let env = place("");
    let units = directory(&env);
    let wants = units.join("timers.target.wants");
    fs::create_dir_all(&wants).unwrap();
    let unit = |name: &str, config: &str| {
        let timer = "[Timer]\nOnCalendar=minutely\n";
        fs::write(units.join(format!("{name}.timer")), timer).unwrap();
        let service = format!(
            "[Service]\nExecStart=/opt/agent-runner --config {config} run --agent good --task work\n"
        );
        fs::write(units.join(format!("{name}.service")), service).unwrap();
    };
    let ours = env.root().join("config.toml");
    unit("idle", ours.to_str().unwrap());
    unit("foreign", "/elsewhere/config.toml");
    symlink("../foreign.timer", wants.join("foreign.timer")).unwrap();
    let missed = || {
        whys(
            &env.agent_runner(&["triage", "--since", "20m", "--json"]),
            "missed",
        )
        .len()
    };
    assert_eq!(missed(), 0);
    symlink("../idle.timer", wants.join("idle.timer")).unwrap();
    assert_eq!(missed(), 0, "enabled just now");
    fs::remove_file(env.note_of("installed")).unwrap();
    assert!(missed() >= 15, "nobody knows since when");
    // As `systemctl mask` does it.
    fs::remove_file(units.join("idle.timer")).unwrap();
    symlink("/dev/null", units.join("idle.timer")).unwrap();
    assert_eq!(missed(), 0);
}

#[test]
fn a_relative_directory_for_configuration_does_not_count() {
    let env = place("schedule = \"* * * * *\"\nagents = [\"good\"]");
    install(&env);
    let env = env.variable("XDG_CONFIG_HOME", "relative");
    let done = env.agent_runner(&["schedule", "check"]);
    assert_eq!(done.code, Some(0), "{} {}", done.stdout, done.stderr);
}

#[test]
fn systemd_itself_reads_the_times_of_timers_as_they_are_read_here() {
    let after: DateTime<Utc> = "2026-02-19T12:00:00Z".parse().unwrap();
    for text in [
        "minutely",
        "hourly",
        "weekly",
        "quarterly",
        "*:0/15",
        "06:40",
        "*-*-* *:00/20:00",
        "Mon,Tue *-*-* 06:40:00 Asia/Tokyo",
        "Fri..Sun *-*-13 08..10/2:05,35",
        "Sat,thursday *-02,03-* 23:59:00",
        "*-01-01 00:00:00",
        "Mon *-*-* 02:30:00 Europe/Berlin",
    ] {
        let told = Command::new("systemd-analyze")
            .args(["calendar", "--iterations=6"])
            .args(["--base-time=2026-02-19 12:00:00 UTC", text])
            .env("TZ", "UTC")
            .output();
        let told = match told {
            Ok(told) => told,
            Err(error) => return eprintln!("SKIPPED: systemd-analyze: {error}"),
        };
        let said = String::from_utf8_lossy(&told.stdout).into_owned();
        let expected: Vec<DateTime<Utc>> = said
            .lines()
            .filter(|line| line.contains("Next elapse:") || line.contains("Iter"))
            .map(|line| {
                let time = line.split_once(": ").unwrap().1;
                NaiveDateTime::parse_from_str(time, "%a %Y-%m-%d %H:%M:%S UTC")
                    .unwrap()
                    .and_utc()
            })
            .collect();
        assert_eq!(expected.len(), 6, "{said}");
        let calendar = Calendar::parse(text).unwrap();
        // A zone without a name is this process's; those of the tests name UTC.
        let zone = Zone::of(calendar.timezone.as_deref().or(Some("UTC")));
        let mut found = vec![after];
        for _ in &expected {
            let last = found[found.len() - 1];
            found.push(calendar.expression.next(zone, last).unwrap());
        }
        assert_eq!(found[1..], expected, "{text}");
    }
    for text in [
        "",
        "*-*~01",
        "2026-01-01",
        "*:*:30",
        "Mon Tue",
        "daily 12:00",
        "noon",
        "*:60",
        "0:0:0:0",
    ] {
        assert_eq!(Calendar::parse(text), None, "{text}");
    }
}
