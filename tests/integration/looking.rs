//! Looking back at runs: lists that fit, an index that is never the truth.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use insta::{assert_snapshot, with_settings};

use crate::records::with_original_records;
use crate::support::{Done, TestEnv, eventually, filters};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_list_of_runs_fits_the_terminal_and_leaves_out_the_least_useful_first() {
    let mut shown = String::new();
    for columns in ["40", "80", "120", "200"] {
        let env = TestEnv::new().variable("COLUMNS", columns);
        with_original_records(&env);
        let done = env.agent_runner(&["runs"]);
        let limit: usize = columns.parse().unwrap();
        for line in done.stdout.lines() {
            assert!(line.chars().count() <= limit, "{columns}: {line}");
        }
        write!(shown, "-- {columns}\n{}", done.stdout).unwrap();
    }
    assert_snapshot!(shown);
}

#[test]
fn a_real_terminal_of_forty_columns_gets_lines_of_forty_and_colours_unless_it_wants_none() {
    let env = TestEnv::new();
    with_original_records(&env);
    let screen = |variable: &str| {
        let program = env!("CARGO_BIN_EXE_agent-runner");
        let line = format!("stty cols 40; {variable} {program} runs");
        let mut script = Command::new("script");
        env.settle(script.args(["-qec", &line, "/dev/null"]));
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    let colourful = screen("");
    assert!(
        colourful.contains("\u{1b}[32msuccess\u{1b}[0m"),
        "{colourful}"
    );
    let plain = screen("NO_COLOR=1");
    assert!(!plain.contains('\u{1b}'), "{plain}");
    assert!(plain.contains("timeout"), "{plain}");
    assert!(
        plain.lines().all(|line| line.trim_end().len() <= 40),
        "{plain}"
    );
}

#[test]
fn runs_are_chosen_by_when_they_began() {
    let env = TestEnv::new();
    with_original_records(&env);
    let count = |arguments: &[&str]| {
        let done = env.agent_runner(&[&["runs", "--json"], arguments].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        done.stdout.lines().count()
    };
    assert_eq!(count(&["--since", "2026-01-12"]), 8);
    assert_eq!(count(&["--since", "2026-01-12T08:20:03Z"]), 5);
    assert_eq!(count(&["--until", "2026-01-12T08:20:03Z"]), 3);
    assert_eq!(count(&["--until", "2026-01-12"]), 8);
    assert_eq!(count(&["--until", "2026-01-11"]), 0);
    assert_eq!(count(&["--since", "1h"]), 0);
    let wrong = env.agent_runner(&["runs", "--since", "yesterday"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("2026-11-20"), "{}", wrong.stderr);
}

#[test]
fn the_index_is_never_the_truth_and_nothing_fails_without_it() {
    let env = TestEnv::new();
    with_original_records(&env);
    let runs = || env.agent_runner(&["runs", "--limit", "0"]).stdout;
    let first = runs();
    assert!(
        !env.logs().join(".state").exists(),
        "looking wrote into records of others"
    );
    fs::create_dir(env.logs().join(".state")).unwrap();
    let index = env.logs().join(".state/index");
    assert_eq!(runs(), first);
    assert!(index.is_dir());
    assert_eq!(runs(), first);
    let metadata = env
        .logs()
        .join("document_coverage/claude/20260112_080003/metadata.json");
    fs::write(&metadata, r#"{"outcome":"stalled","error":"silent"}"#).unwrap();
    assert!(runs().contains("stalled"));
    fs::remove_dir_all(metadata.parent().unwrap()).unwrap();
    assert!(!runs().contains("stalled"));
    fs::remove_dir_all(&index).unwrap();
    fs::write(&index, "a file").unwrap();
    assert_eq!(runs().lines().count(), first.lines().count() - 1);
}

#[test]
fn two_that_list_runs_at_once_agree() {
    let env = TestEnv::new();
    with_original_records(&env);
    fs::create_dir(env.logs().join(".state")).unwrap();
    let start = |_| env.spawn(&["runs", "--limit", "0", "--outcome", "success"]);
    let listing: Vec<_> = (0..8).map(start).collect();
    for child in listing {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);
    }
}

/// A run of an agent that speaks claude's format and used a tool.
fn with_events(env: &TestEnv) {
    assert_eq!(env.run("teller", "work").code, Some(0));
}

fn teller() -> TestEnv {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/agents/claude/2.1.197/b-tool.stdout"
    );
    TestEnv::new()
        .script("teller", "claude", &format!("cat '{fixture}'"))
        .task("work", "")
}

#[test]
fn a_log_is_told_for_people_from_the_events_of_the_agent() {
    let env = teller();
    with_events(&env);
    let mut filters = filters();
    filters.push((r" +\d+m\d\ds  ", "  [AFTER]  "));
    with_settings!({ filters => filters }, {
        assert_snapshot!(env.agent_runner(&["logs"]).shown(&env));
    });
    let json = env.agent_runner(&["logs", "--json"]).stdout;
    let events = env.run_directory("work", "teller").join("events.jsonl");
    assert_eq!(json, fs::read_to_string(events).unwrap());
    let raw = env.agent_runner(&["logs", "--raw"]).stdout;
    let transcript = env.run_directory("work", "teller").join("transcript.log");
    assert_eq!(raw, fs::read_to_string(transcript).unwrap());
}

#[test]
fn a_raw_log_is_byte_exact_in_a_pipe_and_harmless_on_a_terminal() {
    let env = TestEnv::new()
        .script(
            "fake",
            "text",
            r"printf '\033]0;title\007one\377\000\033[2J'; printf 'error' >&2",
        )
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let output = env.command(&["logs", "--raw"]).output().unwrap();
    let transcript = env.run_directory("work", "fake").join("transcript.log");
    assert_eq!(output.stdout, fs::read(transcript).unwrap());
    let stdout = env.command(&["logs", "--stdout"]).output().unwrap().stdout;
    assert_eq!(stdout, b"\x1b]0;title\x07one\xff\x00\x1b[2J");
    for arguments in ["logs --raw", "logs", "show", "explain", "runs"] {
        let program = env!("CARGO_BIN_EXE_agent-runner");
        let line = format!("NO_COLOR=1 {program} {arguments}");
        let mut script = Command::new("script");
        env.settle(script.args(["-qec", &line, "/dev/null"]));
        let screen = script.output().unwrap().stdout;
        let is_control = |byte: &u8| *byte < b' ' && !b"\r\n\t".contains(byte);
        assert!(!screen.iter().any(is_control), "{arguments}: {screen:?}");
        assert!(screen.windows(3).any(|part| part == b"one"), "{arguments}");
    }
}

#[test]
fn a_run_that_goes_on_is_followed_to_its_end() {
    let script = "echo first; until [ -e go ]; do sleep 0.05; done; echo second; exit 3";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .task("work", "");
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    let transcript = |text: &str| {
        let runs = env.run_directories("work", "fake");
        let log = runs
            .first()
            .map(|run| fs::read_to_string(run.join("transcript.log")));
        log.is_some_and(|log| log.is_ok_and(|log| log.contains(text)))
    };
    assert!(eventually(SOON, || transcript("first")));
    let forms: [&[&str]; 3] = [&[], &["--raw"], &["--json"]];
    let mut following = forms.map(|form| env.spawn(&[&["logs", "-f"], form].concat()));
    std::thread::sleep(Duration::from_millis(300));
    for child in &mut following {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before the run"
        );
    }
    fs::write(env.repository().join("go"), "").unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(1));
    let [told, raw, json] = following.map(|child| {
        let done = Done::from(child.wait_with_output().unwrap());
        assert_eq!(done.code, Some(0));
        done
    });
    for part in ["started", "\nfirst\nsecond\n", "agent_error"] {
        assert!(told.stdout.contains(part), "{part}: {}", told.stdout);
    }
    assert_eq!(raw.stdout, "first\nsecond\n");
    assert!(raw.stderr.contains("agent_error"), "{}", raw.stderr);
    assert!(
        json.stdout.contains("\"phase\":\"ended\""),
        "{}",
        json.stdout
    );
}

#[test]
fn logs_of_the_original_programs_are_told_by_what_was_printed() {
    let env = TestEnv::new();
    with_original_records(&env);
    let done = env.agent_runner(&["logs", "document_coverage/claude/20260112_080003"]);
    assert_eq!(done.code, Some(0));
    assert!(done.stdout.starts_with("Documented"), "{}", done.stdout);
    assert!(done.stdout.contains("success"), "{}", done.stdout);
    let json = env.agent_runner(&["logs", "--json", "document_coverage/claude/20260112_080003"]);
    assert!(
        json.stdout.starts_with("{\"text\":\"Documented"),
        "{}",
        json.stdout
    );
    let nothing = env.agent_runner(&["logs", "document_coverage/kilo/20260112_082003"]);
    assert_eq!(nothing.code, Some(0));
}

#[test]
fn a_reader_of_a_log_that_goes_away_ends_it_quietly() {
    let env = TestEnv::new()
        .script("fake", "text", "seq 1 200000")
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let program = env!("CARGO_BIN_EXE_agent-runner");
    for arguments in ["logs", "logs --raw", "logs -f", "runs", "show", "stats"] {
        let mut shell = Command::new("bash");
        let line = format!("set -o pipefail; {program} {arguments} | head -n 1 | wc -l");
        env.settle(shell.args(["-c", &line]));
        let done = Done::from(shell.output().unwrap());
        assert_eq!(
            (done.stdout.trim(), done.stderr.as_str()),
            ("1", ""),
            "{arguments}"
        );
    }
}

/// Everything that prints and changes nothing.
const PRINTING: [&str; 18] = [
    "agents",
    "tasks",
    "runs",
    "show",
    "show --junit",
    "logs",
    "logs --raw",
    "explain",
    "stats",
    "stats --csv",
    "triage",
    "doctor",
    "schedule print --all",
    "schedule check",
    "schedule systemd",
    "delegated",
    "clean --dry-run",
    "man",
];

fn with_a_failed_run() -> TestEnv {
    let env = TestEnv::new()
        .script("fake", "text", "echo out; exit 3")
        .task("work", "schedule = \"@daily\"\nagents = [\"fake\"]");
    assert_eq!(env.run("fake", "work").code, Some(1));
    drop(env.agent_runner(&["delegate", "x", "--provider", "mock"]));
    env
}

#[test]
fn a_reader_that_is_gone_changes_no_exit_code_and_is_not_talked_of() {
    let env = with_a_failed_run();
    let program = env!("CARGO_BIN_EXE_agent-runner");
    let json = [
        "agents", "tasks", "runs", "show", "stats", "triage", "doctor",
    ];
    let json = json.map(|verb| format!("{verb} --json"));
    for arguments in PRINTING
        .iter()
        .copied()
        .chain(json.iter().map(String::as_str))
    {
        let words: Vec<&str> = arguments.split(' ').collect();
        let read = env.agent_runner(&words);
        let line = format!("(sleep 0.2; {program} {arguments} 2>said; echo $? >code) | true");
        let mut shell = Command::new("bash");
        env.settle(shell.args(["-c", &line]));
        drop(shell.output().unwrap());
        let file = |name| fs::read_to_string(env.root().join(name)).unwrap();
        assert!(eventually(SOON, || fs::exists(env.root().join("code")).unwrap()));
        assert_eq!(
            file("code").trim(),
            read.code.unwrap().to_string(),
            "{arguments}"
        );
        let is_told = file("said").contains("pipe") || file("said").contains("panic");
        assert!(!is_told, "{arguments}: {}", file("said"));
        fs::remove_file(env.root().join("code")).unwrap();
    }
}

#[test]
fn nothing_that_prints_is_coloured_where_no_colour_is_wanted() {
    let env = with_a_failed_run();
    let program = env!("CARGO_BIN_EXE_agent-runner");
    let mut coloured = Vec::new();
    for arguments in PRINTING {
        let screen = |variable: &str| {
            let line = format!("{variable} {program} {arguments}");
            let mut script = Command::new("script");
            env.settle(script.args(["-qec", &line, "/dev/null"]));
            script.output().unwrap().stdout
        };
        for none in ["NO_COLOR=1", "TERM=dumb"] {
            assert!(!screen(none).contains(&b'\x1b'), "{none} {arguments}");
        }
        if screen("").contains(&b'\x1b') {
            coloured.push(arguments);
        }
    }
    assert_eq!(coloured, ["runs", "show", "logs", "triage", "doctor"]);
}

#[test]
fn sums_over_runs_count_what_is_unknown_as_unknown() {
    let env = TestEnv::new();
    with_original_records(&env);
    let mut shown = String::new();
    for arguments in [
        &["stats"][..],
        &["stats", "--by", "agent"],
        &["stats", "--by", "task", "--csv"],
    ] {
        let done = env.agent_runner(arguments);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        write!(shown, "-- {arguments:?}\n{}", done.stdout).unwrap();
    }
    assert_snapshot!(shown);
    let json = env
        .agent_runner(&["stats", "--by", "outcome", "--json"])
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    // A directory of another name without a record is none.
    assert_eq!(json["total"]["runs"], 8);
    assert_eq!(json["total"]["tokens"], 1204);
    assert!(json["total"]["cost_usd"].is_null());
    let nothing = env.agent_runner(&["stats", "--since", "1h"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), ""));
}

#[test]
fn days_are_those_of_the_machines_zone_and_say_so() {
    let env = TestEnv::new()
        .variable("TZ", "Asia/Taipei")
        .variable("LC_ALL", "C");
    let run = env.logs().join("work/fake/20260112_180000");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("metadata.json"), r#"{"outcome":"success"}"#).unwrap();
    let stats = env.agent_runner(&["stats"]).stdout;
    assert!(stats.contains("\n2026-01-13 "), "{stats}");
    assert!(stats.contains("UTC+08:00"), "{stats}");
    assert!(stats.is_ascii(), "{stats}");
    let listed = |day: &str| {
        let done = env.agent_runner(&["runs", "--json", "--since", day, "--until", day]);
        done.stdout.lines().count()
    };
    assert_eq!((listed("2026-01-12"), listed("2026-01-13")), (0, 1));
}
