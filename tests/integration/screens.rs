//! What a person sees: every command that shows something, in a real tmux of 40, 80 and 200 columns.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use insta::{assert_snapshot, with_settings};

use crate::real::components;
use crate::records::with_original_records;
use crate::support::{Done, TestEnv, eventually, filters};

const SOON: Duration = Duration::from_secs(60);
const SIZES: [(usize, usize); 3] = [(40, 30), (80, 24), (200, 50)];

/// A tmux server of its own, with one window that stays when its program has ended.
struct Screen<'a> {
    env: &'a TestEnv,
    socket: PathBuf,
}

impl<'a> Screen<'a> {
    /// Runs the program in a window of that size.
    fn open(env: &'a TestEnv, (columns, lines): (usize, usize), arguments: &str) -> Self {
        let socket = env.root().join("tmux");
        let screen = Self { env, socket };
        fs::write(
            env.root().join("tmux.conf"),
            "set -g remain-on-exit on\nset -g remain-on-exit-format ''\nset -g status off\n",
        )
        .unwrap();
        let program = env!("CARGO_BIN_EXE_agent-runner");
        let (x, y) = (columns.to_string(), lines.to_string());
        let line = format!("exec {program} {arguments}");
        screen.tmux(&["new-session", "-d", "-x", &x, "-y", &y, &line]);
        screen
    }

    #[track_caller]
    fn tmux(&self, arguments: &[&str]) -> String {
        let mut tmux = Command::new("tmux");
        self.env.settle(&mut tmux);
        let config = self.env.root().join("tmux.conf");
        tmux.args(["-u", "-S"]).arg(&self.socket).arg("-f");
        let done = Done::from(tmux.arg(config).args(arguments).output().unwrap());
        assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
        done.stdout
    }

    /// Everything that was printed, as the lines of the screen; joined where one wrapped.
    fn lines(&self, joined: bool) -> Vec<String> {
        let mut arguments = vec!["capture-pane", "-p", "-S", "-"];
        arguments.extend(joined.then_some("-J"));
        let shown = self.tmux(&arguments);
        let shown = shown.trim_end().lines();
        shown.map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits for the program to end.
    #[track_caller]
    fn end(&self) {
        let dead = || self.tmux(&["display-message", "-p", "#{pane_dead}"]) == "1\n";
        assert!(eventually(SOON, dead), "{:#?}", self.lines(false));
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
        // Its socket goes last; another server may have the place then.
        assert!(eventually(SOON, || !self.socket.exists()
            || fs::remove_file(&self.socket).is_ok()));
    }
}

/// Only a single word that is longer than the screen runs over its edge, so that it can be copied.
#[track_caller]
fn check(what: &str, columns: usize, screen: &Screen) {
    let (lines, joined) = (screen.lines(false), screen.lines(true));
    for line in &joined {
        let is_word = !line.trim().contains(' ');
        let width = line.chars().count();
        assert!(
            width <= columns || is_word,
            "{what} at {columns} columns: {line}\n{}",
            lines.join("\n")
        );
    }
    let text = joined.concat();
    let is_odd = |c: char| c.is_control() || c == '\u{fffd}' || c == '^';
    assert!(!text.contains(is_odd), "{what}: {text:?}");
}

fn place() -> TestEnv {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/agents/claude/2.1.197/b-tool.stdout"
    );
    let env = TestEnv::new()
        .variable("PATH", "/usr/bin:/bin")
        .config("[runner]\ncontainment = \"subreaper\"")
        .script("teller", "claude", &format!("cat '{fixture}'"))
        .task("work", "schedule = \"@daily\"\nagents = [\"teller\"]");
    with_original_records(&env);
    env
}

#[test]
fn no_command_wraps_a_line_on_a_phone_or_any_other_terminal() {
    if !components::has("tmux") {
        return;
    }
    let env = place();
    assert_eq!(env.run("teller", "work").code, Some(0));
    let old = "document_coverage/claude/20260112_080003";
    for size in SIZES {
        let mut shown = String::new();
        for arguments in [
            "runs --until 2026-01-31",
            &format!("show {old}"),
            &format!("explain {old}"),
            &format!("logs -f {old}"),
            "stats --until 2026-01-31",
            "agents",
            "tasks",
            "show",
            "explain",
            "triage",
            "doctor",
            "clean --dry-run",
            "run --agent teller --task work",
            "run --agent teller --task wrok",
        ] {
            let screen = Screen::open(&env, size, arguments);
            screen.end();
            check(arguments, size.0, &screen);
            // What else is shown differs from machine to machine, or from second to second.
            if arguments.contains("2026") || ["agents", "tasks"].contains(&arguments) {
                let lines = screen.lines(true).join("\n");
                write!(shown, "$ agent-runner {arguments}\n{lines}\n\n").unwrap();
            }
        }
        let root = env.root().display().to_string();
        let shown = shown.replace(&root, "[ROOT]");
        let name = format!("screens_of_{}_columns", size.0);
        let mut filters = filters();
        filters.push((r"/\S*agent-runner-test-[\s\S]{6}(\S*\n?\S*)", "[PATH]"));
        with_settings!({ filters => filters }, { assert_snapshot!(name, shown); });
    }
}

#[test]
fn the_live_line_is_one_line_and_leaves_nothing_behind() {
    if !components::has("tmux") {
        return;
    }
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/agents/claude/2.1.197/b-tool.stdout"
    );
    let script = format!("cat '{fixture}'; until [ -e go ]; do sleep 0.1; done; rm go");
    for size in SIZES {
        let env = TestEnv::new()
            .script("teller", "claude", &script)
            .task("work", "");
        let screen = Screen::open(&env, size, "run --agent teller --task work");
        let shows = |text: &str| screen.lines(true).concat().contains(text);
        // Events come at once; the last of them is what the agent says.
        assert!(eventually(SOON, || shows("events")), "{size:?}");
        let live = screen.lines(false);
        assert_eq!(live.len(), 1, "{live:#?}");
        assert!(live[0].contains("[teller/work]"), "{live:#?}");
        fs::write(env.repository().join("go"), "").unwrap();
        screen.end();
        check("run", size.0, &screen);
        let left = screen.lines(true);
        assert!(left[0].contains(" UTC [teller/work]"), "{left:#?}");
        assert!(!shows("events"), "{left:#?}");
    }
}
