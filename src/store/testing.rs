//! Records and directories for the tests of this room.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tempfile::TempDir;

use crate::model::ids::{RunId, RunPath};
use crate::model::outcome::Outcome;
use crate::model::record::{
    CommitRecord, Evidence, EvidenceSource, NotificationRecord, NotificationState, Record,
};
use crate::model::report::Usage;
use crate::store::layout::Layout;
use crate::store::recorder::RunFolder;

/// An empty log root that is removed with the value.
pub(crate) fn log_root() -> (TempDir, Layout) {
    let root = tempfile::tempdir().unwrap();
    let layout = Layout::new(root.path().join("logs"));
    (root, layout)
}

/// The start of the first run of these tests.
pub(crate) fn start() -> DateTime<Utc> {
    at("2026-02-19T20:40:03Z")
}

pub(crate) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(crate) fn run_path(text: &str) -> RunPath {
    text.parse().unwrap()
}

/// A folder of `nightly/claude`.
pub(crate) fn folder(layout: &Layout) -> RunFolder {
    let (task, agent) = ("nightly".parse().unwrap(), "claude".parse().unwrap());
    RunFolder::create(layout, &task, &agent, start()).unwrap()
}

/// A record that has begun.
pub(crate) fn begun(run: &RunPath) -> Record {
    Record::begun(&run.task, &run.agent, run.run_id.clone(), start())
}

/// A file that nobody but a test writes in place.
pub(crate) fn plant(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(bytes).unwrap();
}

/// A successful record with something in every field.
pub(crate) fn full_record() -> Record {
    Record {
        run_id: RunId::new(start(), 1),
        agent: "claude".to_owned(),
        task: "nightly".to_owned(),
        outcome: Outcome::Success,
        start_time: Some(start()),
        end_time: Some(at("2026-02-19T20:47:20.123456Z")),
        elapsed: Some(Duration::from_millis(437_250)),
        exit_code: Some(0),
        agent_exit_code: Some(0),
        agent_signal: Some(15),
        last_message: Some("I moved the tests.\nAll of them pass: ✓".to_owned()),
        commits: vec![CommitRecord {
            commit: "824fe30b00000000000000000000000000000000".to_owned(),
            subject: "tests: move".to_owned(),
            author: "A. Person".to_owned(),
            date: "2026-02-19T20:46:00+00:00".to_owned(),
        }],
        files_changed: vec!["tests/a.rs".to_owned(), "tests/b.rs".to_owned()],
        files_changed_dropped: 0,
        insertions: 36,
        deletions: 2,
        debug_prompt: Some("ping".to_owned()),
        dry_run: false,
        requires_commit: Some(true),
        error: None,
        error_class: None,
        resets_at: Some(at("2026-02-20T19:00:00Z")),
        model: Some("sonnet".to_owned()),
        session_id: Some("session".to_owned()),
        usage: Usage {
            input_tokens: Some(1000),
            cached_input_tokens: Some(900),
            output_tokens: Some(50),
            reasoning_tokens: Some(20),
        },
        token_count: None,
        cost_usd: Some(0.25),
        turns: Some(7),
        evidence: vec![Evidence::new(
            EvidenceSource::Process,
            "the agent exited with status 0",
        )],
        head_before: Some("aaaaaaaa".to_owned()),
        head_after: Some("824fe30b".to_owned()),
        branch: Some("main".to_owned()),
        dirty_after: Some(false),
        source: Some("o/r#7".to_owned()),
        previous_run: Some("nightly/codex/20260219_203003".to_owned()),
        timeout: Some(Duration::from_secs(900)),
        stall_timeout: Some(Duration::from_secs(120)),
        binary: Some("/usr/bin/claude".into()),
        agent_version: Some("2.0.1".to_owned()),
        prompt_sha256: Some("00ff".to_owned()),
        containment: Some("cgroup".to_owned()),
        survivors_killed: Some(1),
        leaked_output: Some(true),
        max_rss_bytes: Some(1 << 20),
        cpu: Some(Duration::from_millis(1500)),
        output_bytes: Some(4096),
        output_dropped_bytes: Some(0),
        host: Some("host".to_owned()),
        pid: Some(4711),
        boot_id: Some("boot".to_owned()),
        runner_version: Some("0.1.0".to_owned()),
        notification: NotificationRecord {
            state: NotificationState::Delivered,
            id: Some("nightly.claude.20260219_204003.success".to_owned()),
            attempts: 1,
            delivered_at: Some(at("2026-02-19T20:47:21Z")),
            configuration: Some("0123456789abcdef".to_owned()),
        },
    }
}
