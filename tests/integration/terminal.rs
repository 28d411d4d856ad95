//! A person at a terminal: Ctrl-C, Ctrl-\, Ctrl-Z and `fg`, a terminal that is closed, a reader
//! that goes away. The terminal is a real one, made by `script`, with a shell that has job control.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::containment::containments;
use crate::support::{TestEnv, eventually, processes_with, unique_sleep};

const SOON: Duration = Duration::from_secs(10);

/// A terminal with an interactive shell.
#[derive(Debug)]
struct Terminal {
    child: Child,
    keys: Option<ChildStdin>,
    screen: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    fn open(env: &TestEnv) -> Self {
        let mut script = Command::new("script");
        script.args(["-qefc", "bash --norc --noprofile -i", "/dev/null"]);
        env.settle(&mut script);
        let mut child = script
            .env("PS1", "$ ")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(String::new()));
        let (shown, mut output) = (Arc::clone(&screen), child.stdout.take().unwrap());
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(number @ 1..) = output.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..number]);
                shown.lock().unwrap().push_str(&text);
            }
        });
        Self {
            keys: child.stdin.take(),
            child,
            screen,
            reader: Some(reader),
        }
    }

    /// A terminal in which a run has begun: its agent has written `begun`.
    #[track_caller]
    fn run(env: &TestEnv) -> Self {
        let mut terminal = Self::open(env);
        let program = env!("CARGO_BIN_EXE_agent-runner");
        terminal.press(&format!(
            "{program} run --agent fake --task work; echo code=$?\n"
        ));
        let begun = env.repository().join("begun");
        assert!(eventually(SOON, || begun.exists()), "{}", terminal.screen());
        terminal
    }

    #[track_caller]
    fn press(&mut self, keys: &str) {
        let terminal = self.keys.as_mut().unwrap();
        terminal.write_all(keys.as_bytes()).unwrap();
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        let shown = eventually(2 * SOON, || self.screen().contains(text));
        assert!(shown, "no {text:?} in {}", self.screen());
    }

    /// The window is closed: its program is gone at once.
    fn close(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing more will be typed, so the shell ends.
        drop(self.keys.take());
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

fn env(grace: &str, script: &str) -> TestEnv {
    TestEnv::new()
        .config(&format!("[runner]\ngrace_period = \"{grace}\""))
        .script("fake", "text", script)
        .task("work", "timeout = \"60s\"")
}

#[test]
fn ctrl_c_at_a_terminal_says_what_is_awaited_and_lets_the_agent_end_in_order() {
    let script =
        "trap 'echo tidied > tidied; exit 0' TERM; touch begun; while :; do sleep 0.1; done";
    for (key, code) in [("\u{3}", 130), ("\u{1c}", 131)] {
        let env = env("30s", script);
        let mut terminal = Terminal::run(&env);
        terminal.press(key);
        terminal.wait_for("the agent has 30s to end");
        terminal.wait_for(&format!("code={code}"));
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "interrupted");
        assert_eq!(record["exit_code"], code);
        assert!(env.repository().join("tidied").exists());
    }
}

#[test]
fn ctrl_c_twice_at_a_terminal_kills_at_once() {
    let env = env(
        "60s",
        "trap '' TERM; touch begun; while :; do sleep 0.1; done",
    );
    let mut terminal = Terminal::run(&env);
    terminal.press("\u{3}");
    terminal.wait_for("to end");
    let began = Instant::now();
    terminal.press("\u{3}");
    terminal.wait_for("code=130");
    assert!(began.elapsed() < SOON);
    assert_eq!(env.record("work", "fake")["agent_signal"], 9);
}

#[test]
fn a_closed_terminal_ends_the_run_and_leaves_its_record() {
    let sleep = unique_sleep(50);
    let env = env(
        "1s",
        &format!("touch begun; setsid sleep {sleep} & sleep {sleep}"),
    );
    let mut terminal = Terminal::run(&env);
    terminal.close();
    let ended = || env.record("work", "fake")["outcome"] != "running";
    assert!(eventually(SOON, ended));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "interrupted");
    assert_eq!(record["exit_code"], 129);
    assert!(processes_with(&sleep).is_empty());
}

const TICKS: usize = 30;

/// Waits until the length of a file stays the same for a second.
#[track_caller]
fn rests(file: &Path) {
    let length = || fs::metadata(file).unwrap().len();
    let rested = eventually(SOON, || {
        let before = length();
        thread::sleep(Duration::from_secs(1));
        length() == before
    });
    assert!(rested, "{} still grows", file.display());
}

#[test]
fn ctrl_z_stops_the_whole_run_and_its_clock_and_fg_continues_both() {
    // One process of the agent's own session, one of another, both at work for three seconds.
    let script = "tick() { for i in $(seq 30); do echo $i >> $1; sleep 0.1; done; }; \
                  (tick other) & (until [ -e own ] && [ -e other ]; do sleep 0.1; done; touch begun) & \
                  tick own; wait; echo done";
    for containment in containments() {
        let env = TestEnv::new()
            .config(&format!("[runner]\ncontainment = \"{containment}\""))
            .script("fake", "text", &format!("setsid -w sh -c '{script}'"))
            .task("work", "timeout = \"5s\"\nstall_timeout = \"5s\"");
        let mut terminal = Terminal::run(&env);
        terminal.press("\u{1a}");
        terminal.wait_for("Stopped");
        let ticks = |file| {
            let ticks = fs::read_to_string(env.repository().join(file)).unwrap();
            ticks.lines().count()
        };
        for file in ["own", "other"] {
            rests(&env.repository().join(file));
            assert!(ticks(file) < TICKS, "{containment}: {file}");
        }
        // Longer than its limits.
        thread::sleep(Duration::from_secs(4));
        terminal.press("fg\n");
        terminal.wait_for("last_message: done");
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "success", "{containment}");
        assert!(record["elapsed_seconds"].as_f64().unwrap() > 6.0);
        for file in ["own", "other"] {
            assert_eq!(ticks(file), TICKS, "{containment}: {file}");
        }
        let events = env.run_directory("work", "fake").join("events.jsonl");
        let events = fs::read_to_string(events).unwrap();
        assert!(events.contains("paused") && events.contains("resumed"));
    }
}

#[test]
fn a_storm_of_stops_and_continues_leaves_no_stuck_run() {
    let script = "for i in $(seq 200); do /bin/true; done; setsid -w /bin/true; echo done";
    let env = env("1s", script);
    for _ in 0..3 {
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        let pid = runner.id().to_string();
        for _ in 0..50 {
            for signal in ["-TSTP", "-CONT"] {
                let sent = Command::new("kill").args([signal, &pid]).status();
                assert!(sent.unwrap().success());
            }
        }
        let ended = eventually(3 * SOON, || runner.try_wait().unwrap().is_some());
        if !ended {
            runner.kill().unwrap();
        }
        assert!(ended);
        assert_eq!(runner.wait().unwrap().code(), Some(0));
    }
    for record in env.records("work", "fake") {
        assert_eq!(record["outcome"], "success");
    }
}

#[test]
fn a_reader_that_goes_away_changes_nothing_of_the_run() {
    let env = env("1s", "echo one; echo two; sleep 0.3; echo three");
    let program = env!("CARGO_BIN_EXE_agent-runner");
    let line = format!(
        "{{ {program} run --agent fake --task work --follow 2>&1; echo $? > code; }} | head -n 1"
    );
    let mut shell = Command::new("bash");
    env.settle(shell.args(["-c", &line]));
    let output = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "one\n");
    let code = fs::read_to_string(env.root().join("code")).unwrap();
    assert_eq!(code, "0\n");
    assert_eq!(env.record("work", "fake")["outcome"], "success");
    let transcript = env.run_directory("work", "fake").join("transcript.log");
    assert_eq!(fs::read_to_string(transcript).unwrap(), "one\ntwo\nthree\n");
}
