//! Looking back at runs: lists that fit, an index that is never the truth.

use std::fs;
use std::process::Command;

use insta::assert_snapshot;

use crate::records::with_original_records;
use crate::support::TestEnv;

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
        shown.push_str(&format!("-- {columns}\n{}", done.stdout));
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
