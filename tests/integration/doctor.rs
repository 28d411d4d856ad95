//! `doctor`: a machine that is well, one with each fault, and no false claim.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use agent_runner::github::Permission;
use chrono::{TimeDelta, Utc};
use serde_json::Value;

use crate::real::http;
use crate::real::ntfy_server::NtfyServer;
use crate::support::github::Host;
use crate::support::{Done, TestEnv, eventually, processes_with, unique_sleep};

/// Puts a program into the place's own directory of programs.
fn program(env: &TestEnv, name: &str, script: &str) {
    let file = env.root().join("bin").join(name);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn crontab(env: &TestEnv, text: &str) {
    fs::write(env.root().join("crontab"), text).unwrap();
    program(
        env,
        "crontab",
        &format!("cat {}", env.root().join("crontab").display()),
    );
}

/// A machine with codex, an identity, no crontab, and nobody to ask.
fn well() -> TestEnv {
    let env = TestEnv::new();
    program(&env, "codex", "echo codex-cli 0.169.0");
    program(&env, "crontab", "echo no crontab for nobody >&2; exit 1");
    env.git(&["config", "user.name", "A Person"]);
    env.git(&["config", "user.email", "person@example.invalid"]);
    let path = format!("{}:/usr/bin:/bin", env.root().join("bin").display());
    env.variable("PATH", path)
        .variable("CODEX_API_KEY", "key-of-a-test")
}

/// What `doctor` found, and its exit code.
struct Report {
    code: Option<i32>,
    findings: Vec<Value>,
}

impl Report {
    #[track_caller]
    fn of(env: &TestEnv, arguments: &[&str]) -> Self {
        Self::read(&env.agent_runner(&[&["doctor", "--json"], arguments].concat()))
    }

    #[track_caller]
    fn read(done: &Done) -> Self {
        let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| {
            panic!("{error}: {} {}", done.stdout, done.stderr);
        });
        Self {
            code: done.code,
            findings: report["findings"].as_array().unwrap().clone(),
        }
    }

    fn of_level(&self, level: &str) -> Vec<String> {
        let found = self
            .findings
            .iter()
            .filter(|finding| finding["level"] == level);
        found
            .map(|finding| finding["what"].as_str().unwrap().to_owned())
            .collect()
    }

    #[track_caller]
    fn has(&self, level: &str, words: &str) {
        let found = self.of_level(level);
        assert!(
            found.iter().any(|what| what.contains(words)),
            "{words}: {:#?}",
            self.findings
        );
    }
}

#[test]
fn a_machine_that_is_well_has_no_warning_and_nothing_is_left_by_looking() {
    let env = well();
    let report = Report::of(&env, &[]);
    assert_eq!(report.of_level("warning"), [""; 0]);
    assert_eq!(report.of_level("error"), [""; 0]);
    assert_eq!(report.code, Some(0));
    report.has("ok", "0.169.0, ");
    report.has("ok", "signed in by CODEX_API_KEY");
    report.has("ok", "branch main");
    assert!(!env.logs().exists());
    let page = env.agent_runner(&["doctor"]);
    assert!(!page.stdout.contains("key-of-a-test"), "{}", page.stdout);
    assert!(
        page.stdout.starts_with("configuration\n"),
        "{}",
        page.stdout
    );
}

type Fault = fn(TestEnv) -> TestEnv;

#[test]
#[cfg_attr(
    any(not(target_os = "linux"), agent_runner_portable),
    ignore = "needs Linux"
)]
fn every_fault_of_a_machine_is_found_with_the_right_exit_code() {
    let faults: &[(&str, &str, Fault)] = &[
        ("error", "started by the task nightly", |env| {
            env.task("nightly", "schedule = \"@daily\"\nagents = [\"kilo\"]")
        }),
        ("error", "none is installed", |env| {
            fs::remove_file(env.root().join("bin/codex")).unwrap();
            env
        }),
        ("error", "`no-such-node` is not in PATH", |env| {
            let file = env.root().join("bin/codex");
            fs::write(file, "#!/usr/bin/env no-such-node\n").unwrap();
            env
        }),
        ("note", "99.1.0 is newer than 0.169.0", |env| {
            program(&env, "codex", "echo codex-cli 99.1.0");
            env
        }),
        ("ok", "of unknown version", |env| {
            program(&env, "codex", "sleep 60");
            env
        }),
        ("warning", "no sign of being signed in", |env| {
            env.variable("CODEX_API_KEY", "")
        }),
        ("warning", "AGENT_RUNNER_NTFY_TPOIC", |env| {
            env.variable("AGENT_RUNNER_NTFY_TPOIC", "x")
        }),
        ("warning", "1 uncommitted change", |env| {
            fs::write(env.repository().join("new"), "x").unwrap();
            env
        }),
        ("note", "git knows nobody", |env| {
            env.git(&["config", "--unset", "user.name"]);
            env
        }),
        ("error", "index.lock", |env| {
            let lock = env.repository().join(".git/index.lock");
            let lock = fs::File::create(lock).unwrap();
            let before = std::time::SystemTime::now() - Duration::from_secs(600);
            lock.set_modified(before).unwrap();
            env
        }),
        ("error", "is not a git repository", |env| {
            fs::rename(env.repository().join(".git"), env.root().join("away")).unwrap();
            env
        }),
        ("error", "does not exist", |env| {
            env.variable("AGENT_RUNNER_REPO_ROOT", "/no/such")
        }),
        ("error", "brnach", |env| {
            env.config("[tasks.bad]\nprompt_text = \"on {{ brnach }}\"")
        }),
        ("error", "no-such.md", |env| {
            env.config("[tasks.bad]\nprompt = \"no-such.md\"")
        }),
        ("error", "nothing can be written", |env| {
            env.variable("AGENT_RUNNER_LOG_ROOT", "/proc/logs")
        }),
        ("warning", "other users may write in it", |env| {
            fs::create_dir(env.logs()).unwrap();
            fs::set_permissions(env.logs(), fs::Permissions::from_mode(0o777)).unwrap();
            env
        }),
        ("error", "refused", TestEnv::unreachable_server),
        ("error", "GITHUB_TOKEN", |env| {
            env.variable("DISPATCH_REPO", "octo/hello")
        }),
        ("error", "bubblewrap", |env| {
            env.config("[runner]\ncontainment = \"namespace\"\n")
                .variable("AGENT_RUNNER_CODEX_BIN", "codex")
                .variable("PATH", "/nowhere")
        }),
        ("error", "git is not installed", |env| {
            env.variable("PATH", "/nowhere")
        }),
        ("warning", "have a schedule: nightly", |env| {
            env.task("nightly", "schedule = \"@daily\"\nagents = [\"codex\"]")
        }),
        ("warning", "have a schedule: nightly", |env| {
            env.task("nightly", "schedules = { codex = \"@daily\" }")
        }),
        ("error", "started by the task nightly", |env| {
            env.task("nightly", "schedules = { kilo = \"@daily\" }")
        }),
    ];
    for (level, words, fault) in faults {
        let report = Report::of(&fault(well()), &[]);
        report.has(level, words);
        let expected = i32::from(*level == "error");
        assert_eq!(
            report.code,
            Some(expected),
            "{words}: {:#?}",
            report.findings
        );
    }
}

#[test]
fn an_error_is_told_with_its_cause_and_without_a_second_hint() {
    let found = |env: &TestEnv, arguments: &[&str], words: &str| {
        let report = Report::of(env, arguments);
        let errors = report.of_level("error");
        let found = errors.into_iter().find(|what| what.contains(words));
        found.unwrap_or_else(|| panic!("{words}: {:#?}", report.findings))
    };
    let env = well()
        .variable("GITHUB_APP_ID", "7")
        .variable("GITHUB_APP_PRIVATE_KEY_PATH", "/no/such.pem");
    assert_eq!(
        found(&env, &[], "App's key"),
        "the App's key `/no/such.pem` cannot be read: No such file or directory (os error 2)"
    );
    let env = well().variable("AGENT_RUNNER_LOG_ROOT", "/proc/logs");
    let probed = found(&env, &["--probe", "codex"], "the run cannot be recorded");
    assert!(probed.contains("/proc/logs"), "{probed}");
    assert!(!probed.contains("hint:"), "{probed}");
}

#[test]
fn a_wrong_configuration_or_agent_is_wrong_usage() {
    let env = well().config("[runner]\ntimeuot = \"5m\"");
    let done = env.agent_runner(&["doctor"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""));
    assert!(done.stderr.contains("timeout"), "{}", done.stderr);
    assert_eq!(
        well().agent_runner(&["doctor", "--probe", "cluade"]).code,
        Some(2)
    );
}

#[test]
fn a_crashed_run_is_ended_and_told() {
    let sleep = unique_sleep(70);
    let env = well()
        .script("fake", "text", &format!("sleep {sleep}"))
        .task("work", "");
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(Duration::from_secs(10), || !processes_with(
        &sleep
    )
    .is_empty()));
    Report::of(&env, &[]).has("ok", "1 run");
    runner.kill().unwrap();
    runner.wait().unwrap();
    Report::of(&env, &[]).has("warning", "the runner of work/fake/");
    assert_eq!(env.record("work", "fake")["outcome"], "crashed");
    assert!(processes_with(&sleep).is_empty());
}

/// A server that answers every request with this status until the test ends.
fn server(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(&stream).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let answer = "content-length: 0\r\nconnection: close\r\n\r\n";
            write!(stream, "HTTP/1.1 {status}\r\n{answer}").unwrap();
        }
    });
    url
}

#[test]
fn a_refused_notification_is_shown_until_it_is_removed() {
    let env = well()
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", server("403 Forbidden"))
        .script("fake", "text", "echo hello")
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let report = Report::of(&env, &[]);
    report.has("warning", "1 notification put aside for good; the last: ");
    report.has("error", "403 Forbidden");
    fs::remove_dir_all(env.logs().join(".state/outbox/refused")).unwrap();
    assert_eq!(Report::of(&env, &[]).of_level("warning"), [""; 0]);
}

#[test]
fn github_is_asked_for_token_repositories_and_label() {
    let host = Host::start();
    host.repository("octo/hello");
    let token = host.user("alice", Permission::Write);
    let reader = host.user("bob", Permission::Read);
    let place = |token: &str| {
        well()
            .variable("GITHUB_API_URL", host.url())
            .variable("GITHUB_TOKEN", token)
            .variable("DISPATCH_REPO", "octo/hello")
    };
    let report = Report::of(&place(&token), &[]);
    report.has("ok", "signed in as alice");
    report.has("warning", "no label `copilot-agent`");
    report.has("ok", "opens");
    assert_eq!(report.code, Some(0), "{:#?}", report.findings);
    Report::of(&place(&reader), &[]).has("error", "read and not written");
    host.set_skew(TimeDelta::minutes(10));
    Report::of(&place(&token), &[]).has("warning", "behind that of GitHub");
    host.set_skew(TimeDelta::zero());
    let elsewhere = place(&token).variable("DISPATCH_REPO", "octo/none");
    Report::of(&elsewhere, &[]).has("error", "(404)");
    host.revoke(&token);
    let report = Report::of(&place(&token), &[]);
    report.has("error", "(401)");
    assert_eq!(report.code, Some(1));
    assert!(host.writes().is_empty());
}

#[test]
fn what_a_token_or_an_app_may_not_do_and_when_it_ends_is_told_with_what_to_do() {
    let host = Host::start();
    host.repository("octo/hello");
    let token = host.user("alice", Permission::Write);
    let place = |token: &str| {
        well()
            .variable("GITHUB_API_URL", host.url())
            .variable("GITHUB_TOKEN", token)
            .variable("DISPATCH_REPO", "octo/hello")
    };
    let look = |level: &str, words: &str| {
        let report = Report::of(&place(&token), &[]);
        report.has(level, words);
        let found = report.findings.iter();
        let mut found = found.filter(|found| found["what"].as_str().unwrap().contains(words));
        assert!(found.all(|found| found["fix"].as_str().is_some_and(|fix| fix.len() > 10)));
        assert_eq!(report.code, Some(i32::from(level == "error")), "{words}");
    };
    host.set_scopes(&token, "read:user, public_repo");
    look("note", "no scope `workflow`");
    host.set_private("octo/hello");
    look(
        "error",
        "needs the scope `repo` and has: read:user, public_repo",
    );
    host.set_scopes(&token, "");
    look("error", "has: none");
    host.set_scopes(&token, "repo, workflow");
    host.set_token_end(&token, TimeDelta::days(30));
    let report = Report::of(&place(&token), &[]);
    let told = report.findings.iter().map(Value::to_string);
    let about: Vec<_> = told
        .filter(|found| found.contains("scope") || found.contains("ends at"))
        .collect();
    assert_eq!(about, [""; 0]);
    host.set_token_end(&token, TimeDelta::days(3));
    look("warning", "the token of GitHub ends at");
    host.set_token_end(&token, TimeDelta::days(-1));
    look("error", "(401)");
    host.set_token_end(&token, TimeDelta::days(30));
    host.impoverish(&token);
    look("error", "sufficient is: pull_requests=read");
    look("error", "sufficient is: issues=read");

    let app = host.app("a-runner", Duration::from_secs(3600));
    let env = well()
        .variable("GITHUB_API_URL", host.url())
        .variable("DISPATCH_REPO", "octo/hello")
        .variable("GITHUB_APP_ID", app.id.to_string());
    let file = env.root().join("app.pem");
    fs::write(&file, &app.pkcs1).unwrap();
    let env = env.variable("GITHUB_APP_PRIVATE_KEY_PATH", file.to_str().unwrap());
    let report = Report::of(&env, &[]);
    report.has("ok", "signed in as a-runner[bot]");
    assert_eq!(report.code, Some(0), "{:#?}", report.findings);
    host.set_app_permissions(
        serde_json::json!({"issues": "write", "contents": "read", "metadata": "read"}),
    );
    let report = Report::of(&env, &[]);
    report.has(
        "error",
        "the app has not the permission contents: write, pull_requests: write",
    );
    assert_eq!(report.code, Some(1));
}

#[test]
fn real_ntfy_tells_doctor_when_its_token_ends() {
    let Some(server) = NtfyServer::start() else {
        return;
    };
    let soon = (Utc::now() + TimeDelta::days(2)).timestamp();
    let authorization = format!("Authorization: Bearer {}", server.token());
    let wish = format!("{{\"label\": \"short\", \"expires\": {soon}}}");
    let made = http::post(server.url(), "/v1/account/token", &[authorization], &wish).unwrap();
    let made: Value = serde_json::from_str(&made.body).expect(&made.body);
    let place = |token: &str| {
        well().config(&format!(
            "[ntfy]\nserver = \"{}\"\ntopic = \"runs\"\ntoken = \"{token}\"",
            server.url()
        ))
    };
    let report = Report::of(&place(made["token"].as_str().unwrap()), &[]);
    report.has("warning", "the token of [ntfy] ends at");
    assert_eq!(report.code, Some(0));
    let report = Report::of(&place(server.token()), &[]);
    assert_eq!(report.of_level("warning"), [""; 0]);
    let report = Report::of(&place("tk_00000000000000000000000000000"), &[]);
    report.has("error", "does not accept the credentials (401");
}

#[test]
fn what_cron_would_not_find_is_found_before_cron_does_not_find_it() {
    let env = well();
    let bin = env.root().join("bin");
    let line = "* * * * * agent-runner run --agent codex --task t\n";
    crontab(&env, line);
    let report = Report::of(&env, &[]);
    report.has("error", "cron does not find agent-runner in /usr/bin:/bin");
    report.has("error", "cron does not find codex in /usr/bin:/bin");
    assert_eq!(report.code, Some(1));
    program(&env, "agent-runner", "");
    crontab(
        &env,
        &format!("PATH={}:/usr/bin:/bin\n{line}", bin.display()),
    );
    let report = Report::of(&env, &[]);
    assert_eq!(report.code, Some(0), "{:#?}", report.findings);
    report.has("ok", "cron finds every program");
    crontab(&env, &format!("PATH=$HOME/bin:/usr/bin\n{line}"));
    Report::of(&env, &[]).has("error", "expands");
    let without = well();
    let report = Report::of(&without, &["--cron"]);
    report.has("note", "cron does not find codex");
    assert_eq!(report.code, Some(0));
}

/// Keeps the crontab in a file, as the real one does below /var/spool.
const KEEPING: &str = r#"case "$1" in
-l) cat "$0.tab" 2>/dev/null || { echo "no crontab for me" >&2; exit 1; } ;;
-) cat > "$0.tab" ;;
esac"#;

#[test]
fn a_crontab_that_schedule_installs_is_one_that_doctor_has_nothing_to_say_against() {
    let env = well().task("nightly", "schedule = \"@daily\"\nagents = [\"codex\"]");
    program(&env, "crontab", KEEPING);
    let installed = env.agent_runner(&["schedule", "install"]);
    assert_eq!(installed.code, Some(0), "{}", installed.stderr);
    let report = Report::of(&env, &[]);
    report.has("ok", "2 lines start this program");
    report.has("ok", "cron finds every program");
    let of_cron = |report: &Report| -> Vec<Value> {
        let findings = report.findings.iter();
        let findings = findings.filter(|finding| finding["section"] == "schedule");
        let bad = findings.filter(|finding| {
            finding["level"] != "ok" && !finding["what"].as_str().unwrap().contains("none has come")
        });
        bad.cloned().collect()
    };
    assert_eq!(of_cron(&report), [Value::Null; 0]);

    // Without its line with the directories, the same block finds the agent no more, and neither is
    // what only the person's shell knows of use to cron.
    let tab = env.root().join("bin/crontab.tab");
    let text = fs::read_to_string(&tab).unwrap();
    let lines = text.lines();
    let without: Vec<&str> = lines
        .filter(|line| !line.starts_with("AGENT_RUNNER_PATH_PREFIX="))
        .collect();
    fs::write(&tab, without.join("\n") + "\n").unwrap();
    let bin = env.root().join("bin");
    let env = env.variable("AGENT_RUNNER_PATH_PREFIX", bin.to_str().unwrap());
    let report = Report::of(&env, &[]);
    report.has("error", "cron does not find codex in /usr/bin:/bin");
    assert_eq!(report.code, Some(1));
}

#[test]
fn lines_of_another_configuration_and_words_in_a_line_are_no_lines_of_ours() {
    let env = well();
    crontab(
        &env,
        "* * * * * agent-runner --config /elsewhere.toml run --agent kilo --task t\n\
         * * * * * cd /elsewhere && /no/agent-runner run --agent kilo --task t\n\
         * * * * * echo to-agent-runner > ~/agent-runner.log\n",
    );
    let report = Report::of(&env, &[]);
    assert_eq!(report.of_level("error"), [""; 0], "{:#?}", report.findings);
    assert_eq!(report.code, Some(0));
}

#[test]
fn in_an_environment_as_poor_as_crons_it_says_what_is_missing() {
    let env = well();
    let output = Command::new(env!("CARGO_BIN_EXE_agent-runner"))
        .args(["doctor", "--json"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("AGENT_RUNNER_LOG_ROOT", env.logs())
        .current_dir(env.repository())
        .output()
        .unwrap();
    let done = Done::from(output);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stdout.contains("HOME is not set"), "{}", done.stdout);
    assert!(done.stdout.contains("none is installed"), "{}", done.stdout);
}

#[test]
fn a_containment_that_doctor_claims_holds_a_run() {
    each_claim_holds(TestEnv::agent_runner);
}

#[test]
fn a_containment_that_doctor_claims_holds_a_run_of_an_ordinary_user() {
    each_claim_holds(TestEnv::agent_runner_of_nobody);
}

/// `start` carries out a command of the program.
#[track_caller]
fn each_claim_holds(start: fn(&TestEnv, &[&str]) -> Done) {
    let everything = std::env::var("PATH").unwrap();
    let without_bubblewrap = tempfile::tempdir().unwrap();
    let without_bubblewrap = without_bubblewrap.path();
    for program in ["git", "sleep", "setsid", "setpriv"] {
        let file = Path::new("/usr/bin").join(program);
        std::os::unix::fs::symlink(file, without_bubblewrap.join(program)).unwrap();
    }
    fs::set_permissions(without_bubblewrap, fs::Permissions::from_mode(0o755)).unwrap();
    let without_bubblewrap = without_bubblewrap.to_str().unwrap();
    for (containment, path) in [
        ("auto", everything.as_str()),
        ("subreaper", &everything),
        ("cgroup", &everything),
        ("namespace", &everything),
        ("namespace", without_bubblewrap),
    ] {
        let env = well()
            .variable("PATH", path)
            .config(&format!("[runner]\ncontainment = \"{containment}\"\n"))
            .script("fake", "text", "setsid sleep 0.1 & echo hello")
            .task("work", "");
        let report = Report::read(&start(&env, &["doctor", "--json"]));
        let claim = report
            .findings
            .iter()
            .find(|finding| finding["subject"] == "containment");
        let claim = claim.unwrap();
        let done = start(&env, &["run", "--agent", "fake", "--task", "work"]);
        let record = env.record("work", "fake");
        if claim["level"] == "error" {
            assert_eq!(record["outcome"], "start_failed", "{containment}");
        } else {
            assert_eq!(done.code, Some(0), "{containment}: {}", done.stderr);
            let got = record["containment"].as_str().unwrap();
            assert!(claim["what"].as_str().unwrap().contains(got), "{claim}");
            let is_weaker = containment == "auto" && got != "cgroup";
            assert_eq!(claim["level"] == "note", is_weaker, "{claim}");
        }
    }
}

#[test]
fn a_probe_is_a_real_run_and_leaves_a_mark_only_when_it_is_good() {
    let env = well()
        .script("good", "text", "grep -q pong && echo pong")
        .script("bad", "text", "exit 3");
    let report = Report::of(&env, &["--probe", "good"]);
    report.has("ok", "did a small run on trial");
    let record = env.record("debug_hello_simple", "good");
    assert_eq!(
        (&record["outcome"], &record["debug_prompt"]),
        (&"success".into(), &"ping".into())
    );
    let mark = |agent: &str| env.logs().join(".state/probed").join(agent);
    assert!(mark("good").exists());
    let report = Report::of(&env, &["--probe", "bad"]);
    report.has("error", "its run on trial failed: agent_error");
    assert_eq!((report.code, mark("bad").exists()), (Some(1), false));
    let others = env.run_directories("debug_hello_simple", "codex");
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn the_page_fits_80_columns_and_a_reader_that_goes_away_changes_nothing() {
    let env = well().unreachable_server();
    let done = env.agent_runner(&["doctor"]);
    for line in done.stdout.lines() {
        let is_one_word = line.split_whitespace().count() == 1;
        assert!(line.chars().count() <= 80 || is_one_word, "{line}");
        assert!(!line.contains('\u{1b}'), "{line}");
    }
    let mut child = env
        .command(&["doctor"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}
