//! As a service of systemd.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::finds_nothing;
use crate::dispatch::place::{Place, adds, body};
use crate::real::components;

/// Waits for a message with this line.
#[track_caller]
fn hear(socket: &UnixDatagram, line: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = socket
            .recv(&mut buffer)
            .unwrap_or_else(|error| panic!("nobody says `{line}`: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|said| said.starts_with(line)) {
            return message;
        }
    }
}

#[test]
fn a_service_manager_hears_of_ready_work_life_and_end() {
    let place = Place::agent("sleep 3", "");
    let path = place.env.root().join("notify");
    let name = format!("agent-runner-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let sockets = [
        (
            UnixDatagram::bind(&path).unwrap(),
            path.to_str().unwrap().to_owned(),
        ),
        (
            UnixDatagram::bind_addr(&address).unwrap(),
            format!("@{name}"),
        ),
    ];
    let issue = place.issue("t", &body("task-1", &adds("a.txt")));
    for (number, (socket, variable)) in sockets.into_iter().enumerate() {
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut worker = place
            .env
            .command(&["dispatch"])
            .env("NOTIFY_SOCKET", &variable)
            .env("WATCHDOG_USEC", "2000000")
            .spawn()
            .unwrap();
        hear(&socket, "READY=1");
        if number == 0 {
            hear(&socket, "STATUS=working on 1 task; 0 done");
            hear(&socket, "STATUS=waiting for work; ");
        }
        hear(&socket, "WATCHDOG=1");
        hear(&socket, "WATCHDOG=1");
        let pid = worker.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        let last = hear(&socket, "STOPPING=1");
        assert!(last.contains("EXTEND_TIMEOUT_USEC="), "{last}");
        assert_eq!(worker.wait().unwrap().code(), Some(143));
    }
    assert!(!place.comments(issue, "🤖").is_empty());
}

#[test]
fn a_worker_that_stands_still_gives_no_sign_of_life() {
    let place = Place::new();
    let path = place.env.root().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let patience = |time| socket.set_read_timeout(Some(time)).unwrap();
    patience(Duration::from_secs(60));
    let mut worker = place
        .env
        .command(&["dispatch"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000")
        .spawn()
        .unwrap();
    hear(&socket, "WATCHDOG=1");
    let kill = |signal: &str| {
        let pid = worker.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status();
        assert!(sent.unwrap().success());
    };
    kill("-STOP");
    patience(Duration::from_millis(300));
    while socket.recv(&mut [0; 4096]).is_ok() {}
    patience(Duration::from_secs(2));
    assert!(
        socket.recv(&mut [0; 4096]).is_err(),
        "it is stopped and says that it lives"
    );
    kill("-CONT");
    patience(Duration::from_secs(60));
    hear(&socket, "WATCHDOG=1");
    kill("-TERM");
    worker.wait().unwrap();
}

#[test]
fn the_units_are_accepted_by_systemd_and_closed_well() {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return components::missing("systemd-analyze is not installed; run tests/install");
    }
    let directory = tempfile::tempdir().unwrap();
    for unit in super::files("systemd", &["service", "timer"]) {
        let text = fs::read_to_string(&unit).unwrap();
        // The reader wants the program to be there.
        let text = text.replace("/usr/bin/agent-runner", env!("CARGO_BIN_EXE_agent-runner"));
        // A template is read as one of its units.
        let name = unit.file_name().unwrap().to_str().unwrap();
        let path = directory.path().join(name.replace('@', "@nightly"));
        fs::write(&path, text).unwrap();
    }
    for unit in fs::read_dir(directory.path()).unwrap() {
        let unit = unit.unwrap().path();
        let told = finds_nothing(
            Command::new("systemd-analyze")
                .args(["verify", "--man=no"])
                .env(
                    "SYSTEMD_UNIT_PATH",
                    format!("{}:", directory.path().display()),
                )
                .arg(&unit),
        );
        // Unknown keys are only warnings.
        let name = unit.file_name().unwrap().to_str().unwrap();
        let ours: Vec<&str> = told.lines().filter(|line| line.contains(name)).collect();
        assert_eq!(ours, Vec::<&str>::new());
        if name.ends_with(".service") {
            // The exposure from 0 to 10, times ten.
            let limit = ["security", "--offline=true", "--no-pager", "--threshold=39"];
            finds_nothing(Command::new("systemd-analyze").args(limit).arg(&unit));
        }
    }
}
