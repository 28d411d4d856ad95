//! How `dispatch` is asked for one issue, how it logs, and how it ends.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{Executor as _, Row as _};

use agent_runner::github::Permission;

use super::crashes::Target;
use super::place::{DISPATCH, Place, TARGET, adds, body};
use crate::queue::{block_on, connect};
use crate::support::github::{Action, Fault, Hook};
use crate::support::{Done, TestEnv, eventually, processes_of, processes_with, unique_sleep};

fn event(place: &Place, event: &Value) -> Done {
    let file = place.env.root().join("event.json");
    fs::write(&file, event.to_string()).unwrap();
    place
        .env
        .agent_runner(&["dispatch", "--event", file.to_str().unwrap()])
}

#[test]
fn one_issue_is_worked_on_when_it_is_named() {
    let place = Place::new();
    let first = place.issue("one", &body("task-1", &adds("a.txt")));
    let second = place.issue("two", &body("task-2", &adds("a.txt")));
    let done = place
        .env
        .agent_runner(&["dispatch", "--issue", &second.to_string()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    place.assert_done(second);
    assert_eq!(place.host.comments(DISPATCH, first), []);
    let gone = "there is no issue #99 in octo/dispatch, or the token may not see it";
    for (number, why) in [("99", gone), (&*second.to_string(), "is done")] {
        let done = place.env.agent_runner(&["dispatch", "--issue", number]);
        assert_eq!(done.code, Some(1));
        assert!(done.stderr.contains(why), "{}", done.stderr);
    }
}

#[test]
fn an_issue_that_is_named_again_after_it_was_done_is_told_done_again() {
    let place = Place::with("lease = \"1s\"");
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.dispatches(0);
    place.host.unlabel(DISPATCH, issue, "processed", "alice");
    let named = ["dispatch", "--issue", &issue.to_string()];
    let done = place.env.agent_runner(&named);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    place.assert_done(issue);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    assert_eq!(place.env.records("dispatch_issue", "patch").len(), 1);
}

#[test]
fn the_issue_of_an_event_is_worked_on() {
    let place = Place::new();
    let [first, second] = ["task-1", "task-2"].map(|id| place.issue(id, &body(id, &adds("a.txt"))));
    let repository = json!({"full_name": "Octo/Dispatch"});
    let labelled =
        json!({"action": "labeled", "issue": {"number": first}, "repository": repository});
    let done = event(&place, &labelled);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    place.assert_done(first);
    assert_eq!(place.host.comments(DISPATCH, second), []);
    // A workflow that is started by hand has its inputs as text.
    let by_hand = json!({"inputs": {"issue_number": second.to_string()}, "repository": repository});
    assert_eq!(event(&place, &by_hand).code, Some(0));
    place.assert_done(second);
    // GitHub delivers an event twice, and events of issues that are not for us.
    for wanted in [labelled, json!({"issue": {"number": 99}})] {
        let done = event(&place, &wanted);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stderr.contains("nothing to do"), "{}", done.stderr);
    }
    let other = json!({"issue": {"number": 1}, "repository": {"full_name": "evil/dispatch"}});
    for wrong in [
        other,
        json!({"action": "created"}),
        json!([]),
        json!({"issue": {"number": -1}}),
    ] {
        let done = event(&place, &wrong);
        assert_eq!(done.code, Some(2), "{wrong}: {}", done.stderr);
    }
    let none = place
        .env
        .agent_runner(&["dispatch", "--event", "/nowhere/event.json"]);
    assert_eq!(none.code, Some(2));
    assert!(none.stderr.contains("GITHUB_EVENT_PATH"), "{}", none.stderr);
    let event = place.env.root().join("event.json");
    fs::write(&event, "{").unwrap();
    assert_eq!(
        place
            .env
            .agent_runner(&["dispatch", "--event", event.to_str().unwrap()])
            .code,
        Some(2)
    );
}

#[test]
fn who_holds_an_issue_and_until_when_is_said_while_the_lease_of_a_killed_worker_lasts() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let target = Target::default();
    let kill = Action::Call(Hook::new({
        let target = target.clone();
        move || target.hit(Signal::KILL)
    }));
    let started = Fault::on("POST", "/repos/*/*/issues/*/comments");
    place.host.fault(started.before(kill));
    let mut killed = place.env.spawn(&["dispatch", "--once"]);
    target.aim(&killed);
    assert_eq!(killed.wait().unwrap().code(), None);
    place.host.clear_faults();

    let queue = format!(
        "sqlite:{}",
        place.env.logs().join(".state/queue.sqlite").display()
    );
    let until: i64 = block_on(async {
        let mut connection = connect(&queue).await;
        let lease = "SELECT lease_until FROM agent_runner_work";
        connection.fetch_one(lease).await.unwrap().get(0)
    });
    let until = DateTime::from_timestamp_millis(until).unwrap();
    let host = agent_runner::process::identity::host_name();
    let line = format!(
        "{DISPATCH}#{issue} is not done: the worker with process number {} on {host} holds it \
         until {}, and longer while it works; if that worker is dead, try again then",
        killed.id(),
        until.format("%Y-%m-%d %H:%M:%S UTC"),
    );
    let number = issue.to_string();
    let labelled = json!({"issue": {"number": issue}});
    for (done, code) in [
        (place.dispatch(), 0),
        (place.env.agent_runner(&["dispatch", "--issue", &number]), 1),
        (event(&place, &labelled), 1),
    ] {
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert_eq!(done.stderr.matches(&line).count(), 1, "{}", done.stderr);
    }
    assert_eq!(place.branches(), Vec::<String>::new());
}

#[test]
fn an_issue_that_is_tried_again_later_is_not_done_and_says_when() {
    let place = Place::new();
    let env = place.other_env("retry_pause = \"1h\"");
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let pulls = Fault::on("POST", "/repos/*/*/pulls");
    place.host.fault(pulls.before(Action::Status(500)));
    let number = issue.to_string();
    for (code, words) in [
        (1, "tried again later: cannot open a pull request"),
        (
            1,
            &*format!("{DISPATCH}#{issue} is not done: it is tried again from 2"),
        ),
    ] {
        let done = env.agent_runner(&["dispatch", "--issue", &number]);
        assert_eq!(done.code, Some(code), "{}", done.stderr);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
    let once = env.agent_runner(&["dispatch", "--once"]);
    assert_eq!(once.code, Some(0), "{}", once.stderr);
    assert!(
        once.stderr.contains("it is tried again from "),
        "{}",
        once.stderr
    );
}

#[test]
fn what_is_not_configured_is_said_before_anything_is_asked() {
    let place = Place::with("targets = [\"octo/*\"]");
    let without = |name: &str| {
        let mut command = place.env.command(&["dispatch", "--once"]);
        command.env_remove(name);
        Done::from(command.output().unwrap())
    };
    let done = without("GITHUB_TOKEN");
    assert_eq!(done.code, Some(2));
    assert!(
        done.stderr
            .contains("GITHUB_TOKEN environment variable is required"),
        "{}",
        done.stderr
    );
    let with = |name: &str, value: &str| {
        let mut command = place.env.command(&["dispatch", "--once"]);
        Done::from(command.env(name, value).output().unwrap())
    };
    for (name, value) in [
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("DISPATCH_REPO", "../x"),
        ("AGENT_RUNNER_QUEUE_URL", "mysql://x"),
        ("POLL_INTERVAL_SECONDS", "soon"),
        ("GITHUB_API_URL", "ftp://x"),
    ] {
        let done = with(name, value);
        assert_eq!(done.code, Some(2), "{name}: {}", done.stderr);
        assert!(done.stderr.contains(name), "{name}: {}", done.stderr);
    }
    let unknown = place
        .other_env("agent = \"nobody\"\n")
        .agent_runner(&["dispatch", "--once"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("nobody"), "{}", unknown.stderr);
    assert_eq!(place.host.history().len(), 0);
}

/// What those who watch the original's log look for.
#[test]
fn the_log_has_the_lines_of_the_original() {
    let place = Place::new();
    let issue = place.issue("Add a file", &body("task-1", &adds("a.txt")));
    let done = place.dispatches(0);
    let lines: Vec<&str> = done
        .stderr
        .lines()
        .filter_map(|line| line.split_once(" - INFO - "))
        .map(|(_, line)| line)
        .collect();
    let pull = &place.host.pulls(TARGET)[0];
    let expected = [
        "Starting custom-agent".to_owned(),
        format!("Monitoring dispatch repository: {DISPATCH}"),
        format!("Found new dispatch issue: #{issue} - Add a file"),
        "Processing task: Add a file".to_owned(),
        "Task ID: task-1".to_owned(),
        format!("Cloning {TARGET} to "),
        "Creating new branch agent-task-task-1".to_owned(),
        "Cleaned up workspace: ".to_owned(),
        "Created trace file: agent-tasks/task-1.md".to_owned(),
        "Committed and pushed changes to agent-task-task-1".to_owned(),
        "Creating new PR from agent-task-task-1 to main".to_owned(),
        format!(
            "Created PR #{}: {}",
            pull["number"],
            pull["html_url"].as_str().unwrap()
        ),
        format!("Task processed successfully: {issue}"),
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(&expected) {
        let is_whole = !expected.ends_with(' ');
        assert!(
            line.starts_with(expected) && (!is_whole || line.len() == expected.len()),
            "{line}"
        );
    }
    // What is pushed already is gone on with.
    place.host.fault(
        Fault::on("POST", "/repos/*/*/pulls")
            .nth(1)
            .before(Action::Status(500)),
    );
    place.issue("Another", &body("task-2", &adds("b.txt")));
    place.dispatches(1);
    std::thread::sleep(Duration::from_millis(1100));
    let again = place.dispatches(0);
    assert!(
        again
            .stderr
            .contains("Branch agent-task-task-2 already exists remotely, checking it out"),
        "{}",
        again.stderr
    );
}

#[test]
fn log_lines_as_json_say_which_issue_task_and_run_they_are_about() {
    let place = Place::new();
    let issue = place.issue("Add a file", &body("task-1", &adds("a.txt")));
    let mut command = place.env.command(&["dispatch", "--once"]);
    let done = Done::from(
        command
            .env("LOG_FORMAT", "json")
            .env("LOG_LEVEL", "DEBUG")
            .output()
            .unwrap(),
    );
    assert_eq!(done.code, Some(0));
    let lines: Vec<Value> = done
        .stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let find = |text: &str| {
        let found = lines.iter().find(|line| {
            line["message"]
                .as_str()
                .is_some_and(|message| message.starts_with(text))
        });
        found.unwrap_or_else(|| panic!("{text}: {}", done.stderr))
    };
    let last = find("Task processed successfully");
    assert_eq!(last["level"], "INFO");
    assert_eq!(last["span"]["issue"], format!("{DISPATCH}#{issue}"));
    assert_eq!(last["span"]["task_id"], "task-1");
    let record = place.env.record("dispatch_issue", "patch");
    assert_eq!(
        last["span"]["run"],
        format!(
            "dispatch_issue/patch/{}",
            record["run_id"].as_str().unwrap()
        )
    );
    // What a person wrote into the issue is in the debug log alone.
    find("Instruction: ");
    let above = lines
        .iter()
        .filter(|line| line["level"] != "DEBUG" && line["level"] != "TRACE");
    assert!(
        above
            .into_iter()
            .all(|line| !line.to_string().contains("by an agent"))
    );
    let quiet = Done::from(
        place
            .env
            .command(&["dispatch", "--once"])
            .env("LOG_LEVEL", "ERROR")
            .output()
            .unwrap(),
    );
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
}

/// A worker that is an app.
fn as_app(place: &Place, env: &TestEnv) -> Command {
    let keys = place.host.app("runner-app", Duration::from_secs(3600));
    let key_file = place.env.root().join("key.pem");
    fs::write(&key_file, &keys.pkcs1).unwrap();
    let config = env.root().join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let app = format!(
        "[github]\napp_id = {}\napp_key_file = \"{}\"\n",
        keys.id,
        key_file.display()
    );
    fs::write(&config, text.replace("[github]\n", &app)).unwrap();
    let mut command = env.command(&["dispatch", "--once"]);
    command
        .env_remove("GITHUB_TOKEN")
        .env("GITHUB_API_URL", format!("{}/api/v3", place.host.url()));
    command
}

#[test]
fn a_result_is_published_though_the_token_of_the_app_ended_during_the_run() {
    for is_revoked in [false, true] {
        let mut place = Place::with("agent = \"script\"\n");
        let go = place.env.root().join("go");
        let script = format!(
            "until [ -e {} ]; do sleep 0.1; done; echo x > x; git add x; git commit -qm x; echo done",
            go.display()
        );
        place.env = place.env.script("script", "text", &script);
        let issue = place.issue("t", &body("task-1", "Do it."));
        let mut command = as_app(&place, &place.env);
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let worker = piped.spawn().unwrap();
        let begun = || place.comments(issue, "🤖").len() == 1;
        assert!(eventually(Duration::from_secs(60), begun));
        if is_revoked {
            place.host.revoke_installations();
        } else {
            place.host.set_skew(TimeDelta::minutes(61));
        }
        fs::write(&go, "").unwrap();
        let done = Done::from(worker.wait_with_output().unwrap());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(place.host.pulls(TARGET).len(), 1);
        place.assert_done(issue);
    }
}

#[test]
fn a_github_app_works_like_a_token_and_below_api_v3_too() {
    let place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let env = place.other_env("");
    let mut command = as_app(&place, &env);
    let done = Done::from(command.output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let comments = place.host.comments(DISPATCH, issue);
    assert_eq!(comments.len(), 2);
    assert!(
        comments
            .iter()
            .all(|(author, _)| author == "runner-app[bot]")
    );
    assert_eq!(place.host.pulls(TARGET).len(), 1);
    let history = place.host.history();
    assert!(
        history
            .iter()
            .all(|seen| seen.path.contains(".git/") || seen.path.starts_with("/api/v3/"))
    );
}

#[test]
fn a_refused_token_ends_the_worker_with_one_notification() {
    for arguments in [&["dispatch"][..], &["dispatch", "--once"]] {
        let mut place = Place::new();
        place.env = place.env.unreachable_server();
        place.issue("t", &body("task-1", &adds("a.txt")));
        place.host.revoke(&place.token);
        let done = place.env.agent_runner(arguments);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(
            done.stderr
                .contains("GitHub does not accept the credentials (401)"),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("make a new token"), "{}", done.stderr);
        let told = place.env.outbox();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0]
                .to_string()
                .contains("GitHub does not let the worker in"),
            "{told:?}"
        );
        assert_eq!(place.host.history().len(), 1, "nothing else is asked");
    }
}

#[test]
fn a_token_that_is_revoked_in_the_middle_ends_the_worker_and_what_is_left_is_done_later() {
    let mut place = Place::new();
    place.env = place.env.unreachable_server();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    place.host.fault(
        Fault::on("POST", "/repos/*/*/pulls")
            .nth(1)
            .before(Action::Status(401)),
    );
    let done = place.dispatches(2);
    let told = place.env.outbox();
    let no_access = told
        .iter()
        .filter(|entry| entry.to_string().contains("let the worker in"));
    assert_eq!(no_access.count(), 1, "{told:?} {}", done.stderr);
    assert_eq!(place.comments(issue, "❌"), Vec::<String>::new());
    place.dispatches(0);
    place.assert_done(issue);
    assert_eq!(place.host.pulls(TARGET).len(), 1);
}

fn signal(child: &Child, signal: &str) {
    send(signal, &[&child.id().to_string()]);
}

fn send(signal: &str, processes: &[&str]) {
    let mut kill = Command::new("kill");
    let sent = kill.arg(signal).args(processes).status().unwrap();
    assert!(sent.success());
}

/// Starts a worker whose agent works for long.
fn working(tag: u32, script: &str) -> (Place, u64, Child, String) {
    let sleep = unique_sleep(tag);
    let place = Place::agent(&script.replace("SLEEP", &sleep), "");
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let worker = place.env.spawn(&["dispatch"]);
    let works = eventually(Duration::from_secs(60), || {
        !processes_with(&sleep).is_empty()
    });
    assert!(works);
    (place, issue, worker, sleep)
}

#[test]
fn a_worker_that_is_stopped_ends_its_run_and_lets_its_claim_go() {
    for (tag, name, code) in [(11, "-TERM", 143), (12, "-INT", 130), (13, "-HUP", 129)] {
        let (place, issue, mut worker, sleep) = working(tag, "sleep SLEEP");
        signal(&worker, name);
        assert_eq!(worker.wait().unwrap().code(), Some(code));
        assert_eq!(processes_with(&sleep), Vec::<u32>::new());
        assert_eq!(processes_of(place.env.root()), Vec::<u32>::new());
        assert_eq!(
            place.env.record("dispatch_issue", "script")["outcome"],
            "interrupted"
        );
        assert_eq!(place.workspaces(), Vec::<String>::new());
        assert_eq!(place.comments(issue, "❌"), Vec::<String>::new());
        // The next worker need not wait for a lease.
        let done = place.same_env("").agent_runner(&["dispatch", "--once"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        place.assert_done(issue);
    }
}

/// As Ctrl-C and a service manager send it: to all at once, and one hears of it first.
#[test]
fn a_signal_to_a_worker_and_its_run_costs_no_attempt_whoever_is_hit_first() {
    for (tag, is_run_first) in [(16, true), (17, false)] {
        let (place, issue, mut worker, sleep) = working(tag, "sleep SLEEP");
        let record = || place.env.record("dispatch_issue", "script");
        let run = record()["pid"].to_string();
        if is_run_first {
            send("-TERM", &[&run]);
            let ended = || record()["outcome"] == "interrupted";
            assert!(eventually(Duration::from_secs(60), ended));
            signal(&worker, "-TERM");
        } else {
            send("-TERM", &[&worker.id().to_string(), &run]);
        }
        assert_eq!(worker.wait().unwrap().code(), Some(143));
        assert_eq!(processes_with(&sleep), Vec::<u32>::new());
        let done = place.same_env("").agent_runner(&["dispatch", "--once"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        place.assert_done(issue);
    }
}

#[test]
fn a_second_signal_ends_a_worker_at_once() {
    let script = "trap '' TERM; while :; do sleep SLEEP; done";
    let (place, _issue, mut worker, sleep) = working(14, script);
    let config = place.env.root().join("config.toml");
    assert!(fs::read_to_string(config).unwrap().contains("script"));
    signal(&worker, "-TERM");
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    signal(&worker, "-TERM");
    assert_eq!(worker.wait().unwrap().code(), Some(143));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "the grace period was waited for"
    );
    assert_eq!(processes_with(&sleep), Vec::<u32>::new());
    assert_eq!(place.workspaces(), Vec::<String>::new());
}

#[test]
fn a_worker_that_is_stopped_while_it_judges_a_result_ends_its_run_and_lets_its_claim_go() {
    let mut place = Place::new();
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    let (root, path) = (place.env.root(), std::env::var("PATH").unwrap());
    let (bin, judges) = (root.join("bin"), root.join("judges"));
    // The mirror fetches, the clone is made, and then the result is taken.
    let script = format!(
        "#!/bin/sh\nPATH='{path}'; at='{}'\n\
         case \" $* \" in *' fetch '*) echo >> $at/count;; *) exec git \"$@\";; esac\n\
         [ $(wc -l < $at/count) != 3 ] || {{ touch $at/judges; exec sleep 60; }}\n\
         exec git \"$@\"\n",
        root.display(),
    );
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("git"), script).unwrap();
    fs::set_permissions(bin.join("git"), Permissions::from_mode(0o755)).unwrap();
    let with_script = format!("{}:{path}", bin.display());
    place.env = place.env.variable("PATH", with_script);
    let mut worker = place.env.spawn(&["dispatch"]);
    assert!(eventually(Duration::from_secs(60), || judges.exists()));
    // Not final, and nobody has been told.
    let record = place.env.record("dispatch_issue", "patch");
    assert_eq!(record["outcome"], "running");
    signal(&worker, "-TERM");
    assert_eq!(worker.wait().unwrap().code(), Some(143));
    let gone = eventually(Duration::from_secs(10), || {
        processes_of(place.env.root()).is_empty()
    });
    assert!(gone);
    let record = place.env.record("dispatch_issue", "patch");
    assert_eq!(record["outcome"], "interrupted");
    assert_eq!(place.workspaces(), Vec::<String>::new());
    place.dispatches(0);
    place.assert_done(issue);
}

#[test]
fn a_worker_that_waits_for_the_network_ends_when_it_is_asked_to() {
    for (method, path) in [
        ("GET", "/octo/target.git/info/refs"),
        ("GET", "/repos/*/*/issues/*"),
        ("GET", "/repos/*/*/issues"),
    ] {
        let place = Place::new();
        place.issue("t", &body("task-1", &adds("a.txt")));
        place
            .host
            .fault(Fault::on(method, path).before(Action::Hang));
        let mut worker = place.env.spawn(&["dispatch"]);
        let is_there = || {
            let history = place.host.history();
            let last = path.rsplit('/').next().unwrap();
            history.iter().any(|seen| {
                last == "*" && seen.path.ends_with("issues/1") || seen.path.ends_with(last)
            })
        };
        assert!(eventually(Duration::from_secs(60), is_there));
        let began = Instant::now();
        signal(&worker, "-TERM");
        let end = worker.wait().unwrap();
        assert_eq!((end.code(), end.signal()), (Some(143), None), "{path}");
        assert!(began.elapsed() < Duration::from_secs(5), "{path}");
        let gone = eventually(Duration::from_secs(10), || {
            processes_of(place.env.root()).is_empty()
        });
        assert!(gone, "{path}");
        assert_eq!(place.workspaces(), Vec::<String>::new());
    }
}

#[test]
fn works_of_one_repository_or_author_do_not_keep_the_others_waiting() {
    let place = Place::agent(
        "sleep 1; echo x > x; git add x; git commit -qm x",
        "concurrency = 2",
    );
    place.host.repository("octo/other");
    place.host.user("bob", Permission::Write);
    let many: Vec<u64> = (0..3)
        .map(|number| place.issue("many", &body(&format!("a{number}-many"), "Do it.")))
        .collect();
    let text = body("b0-other", "Do it.").replace(TARGET, "octo/other");
    let other = place
        .host
        .open_issue(DISPATCH, "bob", "other", Some(&text), &["copilot-agent"]);
    place.dispatches(0);
    // In the order of their claims; that of their comments is chance where two begin at once.
    let queue = place.env.logs().join(".state/queue.sqlite");
    let order = block_on(async {
        let mut connection = connect(&format!("sqlite:{}", queue.display())).await;
        let works = "SELECT origin FROM agent_runner_work ORDER BY served";
        connection.fetch_all(works).await.unwrap()
    });
    let order: Vec<String> = order.iter().map(|row| row.get(0)).collect();
    let begun = |issue: u64| {
        let origin = format!("{DISPATCH}#{issue}");
        order.iter().position(|known| *known == origin).unwrap()
    };
    assert!(begun(other) < begun(many[1]), "{order:?}");
    assert!(
        begun(many[0]) < begun(many[1]) && begun(many[1]) < begun(many[2]),
        "{order:?}"
    );
    // Two at a time: the second began before the first was published.
    let comments = place.host.writes();
    let pushed = comments
        .iter()
        .position(|seen| seen.path.ends_with("/pulls"))
        .unwrap();
    let begun_before = comments[..pushed]
        .iter()
        .filter(|seen| seen.path.ends_with("/comments"))
        .count();
    assert_eq!(begun_before, 2);
}
