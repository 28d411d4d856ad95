//! Metrics in a file and over HTTP.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::process::Command;
use std::time::Duration;

use super::finds_nothing;
use crate::dispatch::place::{Place, adds, body};
use crate::real::components;
use crate::support::{TestEnv, eventually, make_pipe};

/// Prometheus's own checker must find nothing.
#[track_caller]
fn check(page: &str) {
    let Some(promtool) = components::path("promtool") else {
        return;
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(page.as_bytes()).unwrap();
    let input = File::open(file.path()).unwrap();
    let told = finds_nothing(
        Command::new(promtool)
            .args(["check", "metrics"])
            .stdin(input),
    );
    assert_eq!(told, "", "{page}");
}

#[test]
fn runs_leave_a_file_of_metrics_that_promtool_accepts() {
    let env = TestEnv::new()
        .script("good", "text", "cat >/dev/null; echo fine")
        .script("bad", "text", "cat >/dev/null; exit 3")
        .task("work", "");
    assert_eq!(env.run("good", "work").code, Some(0));
    let file = env.root().join("agent-runner.prom");
    let env = env.variable("AGENT_RUNNER_METRICS_FILE", file.to_str().unwrap());
    assert!(!file.exists());
    assert_eq!(env.run("good", "work").code, Some(0));
    assert_eq!(env.run("bad", "work").code, Some(1));
    let page = fs::read_to_string(&file).unwrap();
    for line in [
        r#"agent_runner_runs_total{task="work",agent="good",outcome="success"} 2"#,
        r#"agent_runner_runs_total{task="work",agent="bad",outcome="agent_error"} 1"#,
        r#"agent_runner_run_duration_seconds_count{task="work",agent="good"} 2"#,
        r#"agent_runner_runs_running{task="work",agent="good"} 0"#,
        "agent_runner_notifications_waiting 0",
        r#"agent_tasks_processed_total{status="success"} 0"#,
    ] {
        assert!(page.lines().any(|told| told == line), "{line}\n{page}");
    }
    assert!(
        page.contains(r#"agent_runner_last_success_timestamp_seconds{task="work",agent="good"}"#)
    );
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    check(&page);

    assert_eq!(
        env.agent_runner(&["rerun", "latest:work/good"]).code,
        Some(0)
    );
    let page = fs::read_to_string(&file).unwrap();
    let three = r#"agent_runner_runs_total{task="work",agent="good",outcome="success"} 3"#;
    assert!(page.contains(three), "{page}");

    let before = fs::metadata(&file).unwrap().modified().unwrap();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_ne!(fs::metadata(&file).unwrap().modified().unwrap(), before);
    // Nothing half written is left beside it.
    let names = fs::read_dir(env.root()).unwrap();
    let left = names.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.to_str().unwrap().starts_with(".tmp")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn a_file_of_metrics_that_cannot_be_written_changes_no_run() {
    let env = TestEnv::new()
        .script("good", "text", "cat >/dev/null; echo fine")
        .task("work", "")
        .variable("AGENT_RUNNER_METRICS_FILE", "/nowhere/agent-runner.prom");
    let done = env.run("good", "work");
    assert_eq!(done.code, Some(0));
    assert!(
        done.stderr.contains("the metrics are not written"),
        "{}",
        done.stderr
    );
    // What is no file, a device for one, is not replaced by one.
    let pipe = env.root().join("pipe");
    make_pipe(&pipe);
    let env = env.variable("AGENT_RUNNER_METRICS_FILE", pipe.to_str().unwrap());
    let done = env.run("good", "work");
    assert_eq!(done.code, Some(0));
    assert!(
        done.stderr.contains("is no regular file"),
        "{}",
        done.stderr
    );
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
}

fn ask(port: u16, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn dispatch_serves_metrics_and_health_to_its_own_machine_alone() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let address = format!("127.0.0.1:{port}");
    let health = || {
        place
            .env
            .agent_runner(&["dispatch", "--health", "--metrics", &address])
    };
    let nobody = health();
    assert_eq!(nobody.code, Some(1));
    assert!(
        nobody.stderr.contains("no worker answers at"),
        "{}",
        nobody.stderr
    );

    place.issue("t", &body("task-1", &adds("a.txt")));
    let mut worker = place
        .env
        .command(&["dispatch", "--metrics", &address])
        .spawn()
        .unwrap();
    let get = |target: &str, host: &str| {
        ask(
            port,
            &format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        )
        .unwrap_or_default()
    };
    let done = "agent_tasks_processed_total{status=\"success\"} 1\n";
    let mut page = String::new();
    let is_done = eventually(Duration::from_secs(60), || {
        page = get("/metrics", &address);
        page.contains(done)
    });
    assert!(is_done, "{page}");
    let (head, page) = page.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(
        page.contains("\ngithub_api_rate_limit_remaining "),
        "{page}"
    );
    assert!(
        page.contains("\nagent_task_duration_seconds_count 1\n"),
        "{page}"
    );
    assert!(page.contains(
        r#"agent_runner_runs_total{task="dispatch_issue",agent="patch",outcome="success"} 1"#
    ));
    check(page);
    let well = health();
    assert_eq!(
        (well.code, well.stdout.as_str()),
        (Some(0), "working on 0; 1 done, 0 failed\n")
    );

    assert!(get("/metrics", "evil.example").starts_with("HTTP/1.1 421 "));
    let post = ask(port, "POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(post.unwrap().starts_with("HTTP/1.1 405 "));
    // Whoever sends nothing or too much holds nobody up.
    let _silent: Vec<TcpStream> = (0..4)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    ask(port, &format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000)));
    assert!(get("/healthz", "localhost").starts_with("HTTP/1.1 200 "));

    let pid = worker.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(worker.wait().unwrap().code(), Some(143));
}

#[test]
fn the_alert_rules_are_accepted_by_promtool() {
    let Some(promtool) = components::path("promtool") else {
        return;
    };
    finds_nothing(Command::new(promtool).args(["check", "rules", "--lint=all", "docs/alerts.yml"]));
}
