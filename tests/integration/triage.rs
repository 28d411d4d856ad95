//! What `triage` says of a machine where things went wrong.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::real::ntfy_server::NtfyServer;
use crate::support::{Done, TestEnv};

/// A place where no crontab is seen, with an agent that works and one that does not.
fn place() -> TestEnv {
    TestEnv::new()
        .variable("PATH", "/usr/bin:/bin")
        .variable("HOME", "/nonexistent")
        .script("good", "text", "echo hello")
        .script("bad", "text", "echo 'cannot go on' >&2; exit 3")
        .task("work", "")
}

fn rows(done: &Done) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_str(&done.stdout).expect(&done.stderr);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = report["rows"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "status"), text(row, "agent"), text(row, "why")))
        .collect()
}

fn statuses(done: &Done) -> Vec<String> {
    rows(done)
        .into_iter()
        .map(|(status, agent, _)| format!("{status} {agent}"))
        .collect()
}

#[test]
fn a_machine_without_trouble_has_nothing_to_do() {
    let env = place();
    let empty = env.agent_runner(&["triage"]);
    assert_eq!(empty.code, Some(0), "{}{}", empty.stdout, empty.stderr);
    drop(env.run("good", "work"));
    let done = env.agent_runner(&["triage", "--json"]);
    assert_eq!(
        (done.code, statuses(&done)),
        (Some(0), vec!["ok good".to_owned()])
    );
}

#[test]
fn a_failure_is_counted_over_time_and_a_due_start_without_a_run_is_missed() {
    let env = place().task("nightly", "schedule = \"* * * * *\"\nagents = [\"good\"]");
    env.beat(20);
    for _ in 0..3 {
        drop(env.run("bad", "work"));
    }
    let done = env.agent_runner(&["triage", "--since", "10m", "--json"]);
    assert_eq!(done.code, Some(1));
    let statuses = statuses(&done);
    assert!(
        statuses
            .iter()
            .filter(|status| *status == "missed good")
            .count()
            >= 7,
        "{statuses:?}"
    );
    assert_eq!(
        statuses
            .iter()
            .filter(|status| *status == "failed bad")
            .count(),
        3
    );
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 2, "{failures:#?}");
    assert_eq!(
        (&failures[1]["streak"], &failures[1]["rows"]),
        (&3.into(), &3.into())
    );
    let shown = env.agent_runner(&["triage", "--since", "10m"]).stdout;
    assert!(!shown.contains('\u{1b}'), "no colours but on a terminal");
    assert!(
        shown
            .replace("\n  ", " ")
            .contains("the same failure as the last 3 runs"),
        "{shown}"
    );
}

#[test]
fn real_ntfy_tells_triage_which_runs_a_person_heard_of() {
    let Some(mut server) = NtfyServer::start() else {
        return;
    };
    let config = |topic: &str| {
        format!(
            "[ntfy]\nserver = \"{}\"\ntopic = \"{topic}\"\ntoken = \"{}\"",
            server.url(),
            server.token()
        )
    };
    let (heard, deaf) = (config("runs"), config("runs-others"));
    let env = place().config(&heard);
    drop(env.run("good", "work"));
    drop(env.run("bad", "work"));
    let done = env.agent_runner(&["triage", "--json"]);
    assert_eq!(
        statuses(&done),
        ["failed bad", "ok good"],
        "{}",
        done.stderr
    );

    // What was told on another topic is not missed on this one.
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    let file = env.root().join("config.toml");
    let text = fs::read_to_string(&file).unwrap().replace(&heard, &deaf);
    fs::write(&file, text).unwrap();
    for _ in 0..2 {
        let done = env.agent_runner(&["triage", "--json"]);
        assert_eq!(statuses(&done), ["failed bad", "ok good"]);
    }

    // A topic that was always this one, and where nothing arrived.
    fs::remove_file(env.note_of("topic")).unwrap();
    let done = env.agent_runner(&["triage", "--json"]);
    assert_eq!(done.code, Some(1));
    assert_eq!(statuses(&done), ["silent bad", "silent good"]);

    // Nor does it matter how the path is spelled.
    let link = env.root().join("link");
    symlink(env.root(), &link).unwrap();
    let spelled = link.join("config.toml");
    let done = env.agent_runner(&["--config", spelled.to_str().unwrap(), "triage", "--json"]);
    assert_eq!(statuses(&done), ["silent bad", "silent good"]);

    // Neither another topic of a shell nor another configuration makes anybody forget that.
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    let topic = [("AGENT_RUNNER_NTFY_TOPIC", "mistyped")];
    drop(env.command(&["triage"]).envs(topic).output().unwrap());
    let other = env.root().join("other.toml");
    fs::write(
        &other,
        format!(
            "{}\n[tasks.work]\nprompt_text = \"x\"",
            config("runs-third")
        ),
    )
    .unwrap();
    let other = ["--config", other.to_str().unwrap()];
    let elsewhere = |verb: &[&str]| env.agent_runner(&[&other, verb].concat());
    assert_eq!(elsewhere(&["heartbeat"]).code, Some(0));
    let done = env.agent_runner(&["triage", "--json"]);
    assert_eq!(statuses(&done), ["silent bad", "silent good"]);
    // Whose run it is may tell of it on another topic.
    let done = elsewhere(&["triage", "--json"]);
    assert_eq!(statuses(&done), ["failed bad", "ok good"]);
    assert!(
        rows(&done)[0].2.contains("cannot go on"),
        "{:?}",
        rows(&done)
    );

    // A run of ours that they delivered, on their topic, nobody here heard of.
    let offline = [("AGENT_RUNNER_NTFY_SERVER", "http://127.0.0.1:1")];
    let mut run = env.command(&["run", "--agent", "bad", "--task", "work"]);
    drop(run.envs(offline).output().unwrap());
    assert_eq!(elsewhere(&["heartbeat"]).code, Some(0));
    assert!(env.outbox().is_empty());
    let done = env.agent_runner(&["triage", "--json"]);
    let silent = ["silent bad", "silent bad", "silent good"];
    assert_eq!(statuses(&done), silent);

    // A server that does not answer proves no silence.
    server.stop();
    let done = env.agent_runner(&["triage", "--json"]);
    let known = ["failed bad", "failed bad", "ok good"];
    assert_eq!(statuses(&done), known);
    assert!(
        done.stdout.contains("silence cannot be told"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains(server.token()));
}

#[test]
fn records_of_every_form_are_told_and_none_breaks_it() {
    let env = place();
    let plant = |run: &str, text: &str| {
        let directory = env.logs().join(run);
        fs::create_dir_all(&directory).unwrap();
        if !text.is_empty() {
            fs::write(directory.join("metadata.json"), text).unwrap();
        }
    };
    plant(
        "old/claude/20260219_010003",
        r#"{"run_id":"20260219_010003","agent":"claude","task":"old","exit_code":null,
        "error":"Usage limit for claude: Claude usage limit","classified_error":"usage_limit","requires_commit":true}"#,
    );
    plant("old/kilo/20260219_020003", "");
    plant("old/codex/20260219_030003", "{torn");
    let done = env.agent_runner(&["triage", "--since", "20000d", "--json"]);
    assert_eq!(
        statuses(&done),
        ["crashed codex", "crashed kilo", "limited claude"]
    );
    let since = env.agent_runner(&["triage", "--since", "99999999d"]);
    assert_eq!(since.code, Some(2), "{}", since.stderr);
}
