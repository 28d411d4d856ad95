//! The schedule of `config.toml` in a crontab, and what the heartbeat makes of it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::support::{TestEnv, eventually};

/// Keeps the crontab in a file, as the real one does below /var/spool.
const CRONTAB: &str = r#"#!/bin/sh
case "$1" in
-l) cat "$0.tab" 2>/dev/null || { echo "no crontab for me" >&2; exit 1; } ;;
-) cat > "$0.new" && mv "$0.new" "$0.tab" ;;
*) echo "usage" >&2; exit 1 ;;
esac
"#;

/// A place with a program `crontab` of its own.
fn place() -> TestEnv {
    let env = TestEnv::new();
    let bin = env.root().join("bin");
    fs::create_dir(&bin).unwrap();
    let program = bin.join("crontab");
    fs::write(&program, CRONTAB).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.display());
    env.variable("PATH", path)
}

fn tab(env: &TestEnv) -> PathBuf {
    env.root().join("bin/crontab.tab")
}

const FOREIGN: &str =
    "# mine\nMAILTO=me\n\n5 4 * * *\techo '100\\%'  \n# END agent-runner /elsewhere";

#[test]
fn a_crontab_that_is_not_utf8_is_told_with_its_line_and_left_as_it_is() {
    let env = place();
    let text = b"# mine\n5 4 * * * echo caf\xe9\n";
    fs::write(tab(&env), text).unwrap();
    for verb in ["install", "check", "remove"] {
        let done = env.agent_runner(&["schedule", verb]);
        assert_eq!(done.code, Some(1), "{verb}: {}", done.stderr);
        for words in ["line 2 holds bytes that are not UTF-8", "crontab -e"] {
            assert!(done.stderr.contains(words), "{verb}: {}", done.stderr);
        }
        assert_eq!(fs::read(tab(&env)).unwrap(), text);
    }
}

#[test]
fn what_is_set_in_the_shell_alone_is_told_when_the_schedule_is_written() {
    let env = place()
        .task("work", "schedule = \"0 1 * * *\"\nagents = [\"claude\"]")
        .variable("AGENT_RUNNER_NTFY_TOKEN", "tk_of-the-shell")
        .variable("AGENT_RUNNER_CLAUDE_BIN", "/opt/claude");
    let units = env.root().join("units").display().to_string();
    for arguments in [
        &["schedule", "print"][..],
        &["schedule", "install", "--dry-run"],
        &["schedule", "systemd", &units],
    ] {
        let done = env.agent_runner(arguments);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        for (name, key) in [
            ("AGENT_RUNNER_NTFY_TOKEN", "`ntfy.token`"),
            ("AGENT_RUNNER_CLAUDE_BIN", "`agents.claude.binary`"),
        ] {
            let mut lines = done.stderr.lines();
            let told = lines.any(|line| line.contains(name) && line.contains(key));
            assert!(told, "{}", done.stderr);
        }
        assert!(!(done.stdout + &done.stderr).contains("tk_of"));
    }
}

#[test]
fn the_schedule_is_installed_renewed_and_removed_and_all_else_in_the_crontab_stays() {
    let env = place().script("fake", "text", "echo hello").task(
        "work",
        "schedule = \"*/30 6-18 * * 1-5\"\nagents = [\"fake\", \"claude\"]",
    );
    fs::write(tab(&env), FOREIGN).unwrap();

    assert_eq!(env.agent_runner(&["schedule", "check"]).code, Some(1));
    let dry = env.agent_runner(&["schedule", "install", "--dry-run"]);
    assert_eq!(
        (dry.code, fs::read_to_string(tab(&env)).unwrap().as_str()),
        (Some(0), FOREIGN)
    );
    let done = env.agent_runner(&["schedule", "install"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(done.stdout, dry.stdout);
    let installed = fs::read_to_string(tab(&env)).unwrap();
    assert!(
        installed.starts_with(&format!("{FOREIGN}\n# BEGIN agent-runner ")),
        "{installed}"
    );
    let printed = env.agent_runner(&["schedule", "print"]).stdout;
    assert!(installed.ends_with(&printed), "{installed}\n{printed}");
    let lines = printed
        .lines()
        .filter(|line| line.starts_with("*/30 6-18 * * 1-5 "));
    assert_eq!(lines.count(), 2, "{printed}");
    let check = env.agent_runner(&["schedule", "check", "--json"]);
    assert_eq!(check.code, Some(0), "{}{}", check.stdout, check.stderr);
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(
        (&check["same"], check["next"].as_array().unwrap().len()),
        (&true.into(), 2)
    );

    // Twice changes nothing, another schedule changes its line, and removing leaves the rest.
    drop(env.agent_runner(&["schedule", "install"]));
    assert_eq!(fs::read_to_string(tab(&env)).unwrap(), installed);
    let env = env.config("[tasks.other]\nprompt_text = \"x\"\nschedule = \"@daily\"\n");
    let check = env.agent_runner(&["schedule", "check"]);
    assert_eq!(check.code, Some(1));
    assert!(
        check.stdout.contains("missing: @daily cd "),
        "{}",
        check.stdout
    );
    drop(env.agent_runner(&["schedule", "install"]));
    assert_eq!(env.agent_runner(&["schedule", "check"]).code, Some(0));
    drop(env.agent_runner(&["schedule", "remove"]));
    assert_eq!(
        fs::read_to_string(tab(&env)).unwrap(),
        format!("{FOREIGN}\n")
    );
}

#[test]
fn gemini_is_started_by_no_line_before_it_passed_its_probe() {
    let env =
        place().config("[tasks.agent_management]\nschedule = \"@hourly\"\nagents = [\"gemini\"]");
    let line = |env: &TestEnv| {
        let printed = env.agent_runner(&["schedule", "print"]).stdout;
        let line = printed.lines().find(|line| line.contains("--agent gemini"));
        line.unwrap().to_owned()
    };
    assert!(line(&env).starts_with("#@hourly "));
    let probed = env.logs().join(".state/probed");
    fs::create_dir_all(&probed).unwrap();
    fs::write(probed.join("gemini"), "").unwrap();
    assert!(line(&env).starts_with("@hourly "));
}

#[test]
fn a_zone_that_cron_would_not_heed_is_refused() {
    let env = place().task(
        "work",
        "schedule = \"0 6 * * *\"\ntimezone = \"Asia/Tokyo\"",
    );
    let done = env.agent_runner(&["schedule", "install"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stderr.contains("not by that of Asia/Tokyo"),
        "{}",
        done.stderr
    );
    assert!(!tab(&env).exists());
    // The zone of a shell is none of cron's.
    let env = env.variable("TZ", "Asia/Tokyo");
    assert_eq!(env.agent_runner(&["schedule", "install"]).code, Some(1));
    let same = place().task("work", "schedule = \"0 6 * * *\"\ntimezone = \"Etc/UTC\"");
    assert_eq!(same.agent_runner(&["schedule", "install"]).code, Some(0));
}

#[test]
fn a_path_that_no_line_can_hold_is_refused_by_name() {
    let env = place();
    let odd = env.root().join("two\nlines");
    std::fs::create_dir(&odd).unwrap();
    let env = env.variable("AGENT_RUNNER_LOG_ROOT", odd.to_str().unwrap());
    for action in ["print", "check", "install", "systemd"] {
        let done = env.agent_runner(&["schedule", action]);
        assert_eq!((done.code, &*done.stdout), (Some(1), ""), "{action}");
        assert!(done.stderr.contains("two\\nlines"), "{}", done.stderr);
    }
}

#[test]
fn the_units_for_systemd_are_good_ones() {
    let env = place().task(
        "work",
        "schedule = \"0 6 13 * fri\"\njitter = \"5m\"\ncatch_up = \"once\"",
    );
    let units = env.root().join("units");
    let done = env.agent_runner(&["schedule", "systemd", units.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!env.logs().exists(), "the first run makes it");
    let timer = fs::read_to_string(units.join("agent-runner-work-auto.timer")).unwrap();
    for line in [
        "OnCalendar=*-*-13 06:00:00",
        "OnCalendar=Fri *-*-* 06:00:00",
        "RandomizedDelaySec=300",
        "Persistent=true",
    ] {
        assert!(timer.contains(line), "{timer}");
    }
    let mut verify = std::process::Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]);
    let files = fs::read_dir(&units)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    match verify.args(files).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let ours: Vec<&str> = said
                .lines()
                .filter(|line| line.contains("agent-runner"))
                .collect();
            assert!(output.status.success() && ours.is_empty(), "{said}");
        }
        Err(error) => eprintln!("SKIPPED: systemd-analyze: {error}"),
    }
}

/// Writes the heartbeat's log: a beat each minute from so many minutes ago to so many.
fn beats(env: &TestEnv, from: i64, to: i64) {
    let directory = env.logs().join("heartbeat");
    fs::create_dir_all(&directory).unwrap();
    let beat = |minutes| {
        (Utc::now() - TimeDelta::minutes(minutes))
            .format("%Y-%m-%d %H:%M:%S UTC\n")
            .to_string()
    };
    let text: String = (to..=from).rev().map(beat).collect();
    fs::write(directory.join("task.log"), text).unwrap();
}

#[test]
fn a_start_that_was_missed_while_the_machine_was_off_is_made_up_for_once() {
    let env = place()
        .script("fake", "text", "echo hello")
        .task("often", "schedule = \"* * * * *\"\nagents = [\"fake\"]")
        .task(
            "work",
            "schedule = \"* * * * *\"\nagents = [\"fake\"]\ncatch_up = \"once\"",
        );
    beats(&env, 300, 60);
    let done = env.agent_runner(&["heartbeat"]);
    assert!(
        done.stderr.contains("work/fake was missed"),
        "{}",
        done.stderr
    );
    assert_eq!(env.record("work", "fake")["outcome"], "success");
    assert_eq!(env.run_directories("often", "fake").len(), 0);
    drop(env.agent_runner(&["heartbeat"]));
    assert_eq!(env.run_directories("work", "fake").len(), 1);
}

#[test]
fn nothing_is_made_up_for_where_the_heartbeat_beat_or_never_did() {
    for from in [None, Some(300)] {
        let env = place().script("fake", "text", "echo hello").task(
            "work",
            "schedule = \"* * * * *\"\nagents = [\"fake\"]\ncatch_up = \"once\"",
        );
        if let Some(from) = from {
            beats(&env, from, 0);
        }
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        assert_eq!(env.run_directories("work", "fake").len(), 0);
    }
}

#[test]
fn no_start_is_missed_that_lies_before_its_line() {
    let env = place()
        .script("good", "text", "echo hello")
        .task("nightly", "schedule = \"* * * * *\"\nagents = [\"good\"]");
    beats(&env, 20, 0);
    let missed = || {
        let done = env.agent_runner(&["triage", "--since", "10m", "--json"]);
        done.stdout.matches("\"missed\"").count()
    };
    assert!(missed() >= 7, "configured for long, and started by nobody");
    let done = env.agent_runner(&["schedule", "install"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(missed(), 0, "installed just now");
    let note = env.note_of("configured");
    let mut noted: Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    for since in noted.as_object_mut().unwrap().values_mut() {
        *since = (Utc::now() - TimeDelta::minutes(6)).to_rfc3339().into();
    }
    fs::write(&note, noted.to_string()).unwrap();
    assert!((2..=6).contains(&missed()), "installed a few minutes ago");
    fs::write(&note, "torn").unwrap();
    assert!(missed() >= 7, "nobody knows since when");
}

#[test]
fn what_another_configuration_schedules_in_the_same_log_root_is_forgotten_by_nobody() {
    let env = place()
        .script("good", "text", "echo hello")
        .task("nightly", "schedule = \"* * * * *\"\nagents = [\"good\"]");
    beats(&env, 20, 0);
    let triage = || {
        env.agent_runner(&["triage", "--since", "10m", "--json"])
            .stdout
    };
    let count = || triage().matches("\"missed\"").count();
    assert!(count() >= 7);
    let other = env.root().join("other.toml");
    fs::write(&other, "").unwrap();
    let other = ["--config", other.to_str().unwrap()];
    for verb in ["triage", "heartbeat"] {
        drop(env.agent_runner(&[&other[..], &[verb]].concat()));
        assert!(count() >= 7, "{verb}");
    }
}

#[test]
fn a_heartbeat_knows_what_is_configured_before_anybody_looks() {
    let env = place().script("good", "text", "echo hello");
    beats(&env, 20, 0);
    drop(env.agent_runner(&["heartbeat"]));
    let env = env.task("nightly", "schedule = \"* * * * *\"\nagents = [\"good\"]");
    drop(env.agent_runner(&["heartbeat"]));
    let note = env.note_of("configured");
    let noted: Value = serde_json::from_slice(&fs::read(&note).unwrap()).unwrap();
    assert_eq!(noted.as_object().unwrap().len(), 1);
    let earlier = (Utc::now() - TimeDelta::minutes(6)).to_rfc3339();
    let key = noted.as_object().unwrap().keys().next().unwrap();
    fs::write(&note, serde_json::json!({key: earlier}).to_string()).unwrap();
    let triage = env
        .agent_runner(&["triage", "--since", "10m", "--json"])
        .stdout;
    let missed = triage.matches("\"missed\"").count();
    assert!((2..=6).contains(&missed), "{triage}");
    assert!(
        triage.contains("1 line of the schedule known only since"),
        "{triage}"
    );
}

#[test]
fn what_was_not_scheduled_then_is_not_made_up_for() {
    let env = place().script("fake", "text", "echo hello");
    beats(&env, 300, 60);
    drop(env.agent_runner(&["heartbeat"]));
    beats(&env, 300, 60);
    let env = env.task(
        "work",
        "schedule = \"* * * * *\"\nagents = [\"fake\"]\ncatch_up = \"once\"",
    );
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_eq!(env.run_directories("work", "fake").len(), 0);
}

#[test]
fn the_first_installation_misses_nothing_from_before_it() {
    let env = place()
        .script("good", "text", "echo hello")
        .task("nightly", "schedule = \"* * * * *\"\nagents = [\"good\"]");
    assert_eq!(env.agent_runner(&["schedule", "install"]).code, Some(0));
    beats(&env, 20, 0);
    let triage = env
        .agent_runner(&["triage", "--since", "10m", "--json"])
        .stdout;
    assert_eq!(triage.matches("\"missed\"").count(), 0, "{triage}");
}

#[test]
fn an_overdue_success_that_may_now_take_longer_is_no_success() {
    let env = place()
        .unreachable_server()
        .script("good", "text", "echo hello")
        .task("work", "notify = false\nexpect_success_within = \"1h\"");
    beats(&env, 120, 0);
    drop(env.agent_runner(&["heartbeat"]));
    assert_eq!(env.outbox().len(), 1);
    let file = env.root().join("config.toml");
    let text = fs::read_to_string(&file).unwrap().replace("1h", "9h");
    fs::write(&file, text).unwrap();
    drop(env.agent_runner(&["heartbeat"]));
    assert_eq!(env.outbox().len(), 1, "{:?}", env.outbox());
}

#[test]
fn an_overdue_success_is_told_once_and_its_return_once() {
    let env = place()
        .unreachable_server()
        .script("bad", "text", "exit 1")
        .script("good", "text", "echo hello")
        .task("work", "notify = false\nexpect_success_within = \"1h\"");
    let titles = |env: &TestEnv| -> Vec<String> {
        let titles = env
            .outbox()
            .into_iter()
            .map(|entry| entry["title"].as_str().unwrap().to_owned());
        titles.collect()
    };
    beats(&env, 30, 0);
    drop(env.agent_runner(&["heartbeat"]));
    assert_eq!(titles(&env), [""; 0], "nobody has watched for an hour");
    beats(&env, 120, 0);
    drop(env.run("bad", "work"));
    for _ in 0..2 {
        drop(env.agent_runner(&["heartbeat"]));
        assert_eq!(titles(&env), ["[work] NO SUCCESS for 1h"]);
    }
    drop(env.run("good", "work"));
    for _ in 0..2 {
        drop(env.agent_runner(&["heartbeat"]));
        assert_eq!(
            titles(&env),
            ["[work] NO SUCCESS for 1h", "[work] SUCCESS again"]
        );
    }
}

#[test]
fn a_run_by_a_clock_that_was_ahead_stops_no_task_hides_no_alarm_and_is_no_news() {
    let env = place();
    let metrics = env.root().join("agent-runner.prom");
    let env = env
        .unreachable_server()
        .variable("AGENT_RUNNER_METRICS_FILE", metrics.to_str().unwrap())
        .script("good", "text", "echo hello")
        .script("bad", "text", "exit 1")
        .task(
            "work",
            "notify = false\nexpect_success_within = \"1h\"\nmax_runs_per_day = 1",
        );
    for (agent, outcome) in [("good", "success"), ("bad", "agent_error")] {
        let run = env.logs().join("work").join(agent).join("20990101_000000");
        fs::create_dir_all(&run).unwrap();
        let record = json!({
            "run_id": "20990101_000000", "agent": agent, "task": "work", "outcome": outcome,
            "start_time": "2099-01-01T00:00:00+00:00", "end_time": "2099-01-01T00:01:00+00:00",
        });
        fs::write(run.join("metadata.json"), record.to_string()).unwrap();
    }
    beats(&env, 120, 0);
    drop(env.agent_runner(&["heartbeat"]));
    assert_eq!(env.outbox()[0]["title"], "[work] NO SUCCESS for 1h");
    let page = fs::read_to_string(metrics).unwrap();
    assert!(!page.contains(r#"task="work""#), "{page}");
    let triage = env.agent_runner(&["triage"]).stdout;
    assert!(!triage.contains("2099"), "{triage}");
    assert_eq!(env.run("good", "work").code, Some(0));
    assert_eq!(env.run("good", "work").code, Some(1));
}

/// A watchdog service that keeps the first line of each request, and answers with `status`.
fn service(status: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "http://{}/ping/secret-check",
        listener.local_addr().unwrap()
    );
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&heard);
    // It ends with the process of the test.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let size = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..size]).into_owned();
            keep.lock()
                .unwrap()
                .push(request.lines().next().unwrap_or_default().to_owned());
            write!(
                stream,
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            .unwrap();
        }
    });
    (url, heard)
}

#[test]
fn a_watchdog_service_is_told_start_and_exit_code_of_each_run_and_changes_neither() {
    for status in ["200 OK", "500 Oh"] {
        let (url, heard) = service(status);
        let env = place()
            .script("slow", "text", "sleep 2; echo the url is $URL; exit 3")
            .script("quick", "text", "echo hello")
            .task("work", &format!("ping_url = \"{url}\""));
        assert_eq!(env.run("slow", "work").code, Some(1));
        let quick = env.run("quick", "work");
        assert_eq!(quick.code, Some(0));
        assert_eq!(
            quick.stderr.contains("`ping_url` not told"),
            status != "200 OK"
        );
        assert!(!quick.stderr.contains("secret-check"), "{}", quick.stderr);
        assert!(eventually(Duration::from_secs(10), || heard
            .lock()
            .unwrap()
            .len()
            >= 3));
        let heard = heard.lock().unwrap().clone();
        let paths: Vec<_> = heard
            .iter()
            .map(|line| line.split(['?', ' ']).nth(1).unwrap())
            .collect();
        let paths: Vec<_> = paths
            .iter()
            .map(|path| path.rsplit('/').next().unwrap())
            .collect();
        assert_eq!(paths, ["start", "1", "0"]);
        let run = |line: &String| line.split("?rid=").nth(1).unwrap()[..36].to_owned();
        assert_eq!(run(&heard[0]), run(&heard[1]));
        assert_ne!(run(&heard[1]), run(&heard[2]));
    }
}
