//! The token of the worker: who has it, and where it never is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::place::{DISPATCH, Place, TARGET, body};

/// The token as it is, and as git and HTTP write it.
fn canaries(token: &str) -> Vec<String> {
    let basic = STANDARD.encode(format!("x-access-token:{token}"));
    vec![token.to_owned(), STANDARD.encode(token), basic]
}

fn holds(bytes: &[u8], canaries: &[String]) -> bool {
    let found = |canary: &String| {
        bytes
            .windows(canary.len())
            .any(|part| part == canary.as_bytes())
    };
    canaries.iter().any(found)
}

/// Files below a directory that hold one of the texts.
fn files_with(directory: &Path, canaries: &[String], found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_symlink() {
        } else if path.is_dir() {
            files_with(&path, canaries, found);
        } else if holds(&fs::read(&path).unwrap_or_default(), canaries) {
            found.push(path.display().to_string());
        }
    }
}

/// Processes of this place as they come and go: command lines, and the programs with the token in
/// their environment.
#[derive(Default)]
struct Watch {
    command_lines: Vec<String>,
    holders: BTreeSet<String>,
}

impl Watch {
    fn look(&mut self, place: &str, canaries: &[String]) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            // The first word of a command line is missing for a moment while a program starts.
            let program = fs::read_link(entry.path().join("exe")).unwrap_or_default();
            let read = |file: &str| fs::read(entry.path().join(file)).unwrap_or_default();
            let (line, environment) = (read("cmdline"), read("environ"));
            let text = String::from_utf8_lossy(&line).replace('\0', " ");
            if !text.contains(place) && !String::from_utf8_lossy(&environment).contains(place) {
                continue;
            }
            if holds(&line, canaries) {
                self.command_lines.push(text.clone());
            }
            if holds(&environment, canaries) {
                let name = program.file_name().unwrap_or_default();
                self.holders.insert(name.to_string_lossy().into_owned());
            }
        }
    }
}

/// F166. The agent itself tells all that it can see of the runner.
#[test]
fn the_token_is_nowhere_but_with_git_and_in_headers() {
    let nosy = "env > seen.txt; cat /proc/[0-9]*/cmdline /proc/$PPID/environ >> seen.txt 2>&1
        git config --list --show-origin >> seen.txt; cat .git/config >> seen.txt
        cp seen.txt $HOME/seen.txt; sleep 1; rm seen.txt; echo x > x; git add x; git commit -qm x";
    let mut place = Place::agent(nosy, "");
    place.env = place.env.unreachable_server();
    // Long pauses in git's traffic, so that its processes are seen.
    place.host.set_private(TARGET);
    let issue = place.issue("t", &body("task-1", "Do it."));
    let canaries = canaries(&place.token);
    let mut worker = place.env.command(&["dispatch", "--once"]);
    let log = fs::File::create(place.env.root().join("worker.log")).unwrap();
    worker
        .env("LOG_LEVEL", "trace")
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let mut worker = worker.spawn().unwrap();
    let mut watch = Watch::default();
    let root = place.env.root().display().to_string();
    let code = loop {
        watch.look(&root, &canaries);
        if let Some(status) = worker.try_wait().unwrap() {
            break status.code();
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(code, Some(0));
    place.assert_done(issue);

    assert_eq!(watch.command_lines, Vec::<String>::new());
    let holders = watch.holders;
    assert!(
        holders.iter().any(|program| program.starts_with("git")),
        "git was seen: {holders:?}"
    );
    for program in holders {
        // The worker itself was given it.
        assert!(
            program == "agent-runner" || program.starts_with("git"),
            "{program}"
        );
    }
    let mut found = Vec::new();
    files_with(place.env.root(), &canaries, &mut found);
    files_with(&place.host.bare(TARGET), &canaries, &mut found);
    assert_eq!(found, Vec::<String>::new());
    let seen = fs::read_to_string(place.env.root().join("home/seen.txt")).unwrap();
    assert!(
        seen.contains("agent-task-task-1") || seen.contains("PATH="),
        "{seen}"
    );
    for seen in place.host.history() {
        assert!(
            !holds(seen.body.to_string().as_bytes(), &canaries),
            "{} {}",
            seen.method,
            seen.path
        );
        assert!(!holds(
            format!("{}{}", seen.path, seen.query).as_bytes(),
            &canaries
        ));
        let carriers = seen
            .headers
            .iter()
            .filter(|(_, value)| holds(value.as_bytes(), &canaries));
        assert!(
            carriers
                .into_iter()
                .all(|(name, _)| name.eq_ignore_ascii_case("authorization"))
        );
    }
    for (_, text) in place.host.comments(DISPATCH, issue) {
        assert!(!holds(text.as_bytes(), &canaries));
    }
    let log = fs::read_to_string(place.env.root().join("worker.log")).unwrap();
    assert!(
        log.contains(" - DEBUG - ") && log.contains(" - TRACE - "),
        "{log}"
    );
}
