//! A disk that is full at every moment of a run, or fails: whatever did not fit, nothing is torn,
//! nobody waits, and exit code, record and notification agree, at the latest when it works again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::Value;

use crate::real::components::missing;
use crate::support::TestEnv;

/// What lets a process mount something that nobody else sees; `None` where nothing does.
fn unshare() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let able = |way: &&&[&str]| {
        let mut command = Command::new("unshare");
        command
            .args(**way)
            .args(["sh", "-c", "mount -t tmpfs x /mnt"]);
        command.output().is_ok_and(|output| output.status.success())
    };
    let way = ways.iter().find(able).copied();
    if way.is_none() {
        missing("no file system can be mounted here: a full disk is not tested");
    }
    way
}

/// The numbers that are swept: all up to `most` where `tests/run --full` asks for it.
fn swept(most: usize, few: &[usize]) -> Vec<usize> {
    if std::env::var_os("AGENT_RUNNER_FULL").is_some_and(|set| set == "1") {
        (1..=most).collect()
    } else {
        few.to_vec()
    }
}

/// What a run on a file system of those options, or with those faults, left, before and after all
/// was well again.
struct Left {
    options: String,
    env: TestEnv,
    code: i32,
    was_started: bool,
}

impl Left {
    /// `filler`: a shell line that goes on beside the run from the agent's start.
    fn new(unshare: &[&str], options: String, filler: &str) -> Self {
        let line = format!(
            "mount -t tmpfs -o {options} x logs || exit 99
             {{ until [ -e started ]; do sleep 0.01; done; {filler}; }} 2>/dev/null & filler=$!
             timeout -k 1 30 $RUN run --agent fake --task work >out 2>err; echo $? >code
             kill $filler; wait $filler
             cp -r logs before
             mount -o remount,size=64m,nr_inodes=1000 logs || exit 98
             timeout -k 1 30 $RUN heartbeat >>out 2>>err || exit 97
             cp -r logs after"
        );
        Self::of(options, &[&["unshare"], unshare].concat(), &line)
    }

    /// What came of a run whose call fails as strace is told.
    fn failing(fault: String) -> Self {
        let line = format!(
            "timeout -k 1 30 strace -qq -o trace -e trace=fsync -e inject={fault} \
             $RUN run --agent fake --task work >out 2>err; echo $? >code
             cp -r logs before
             timeout -k 1 30 $RUN heartbeat >>out 2>>err || exit 97
             cp -r logs after"
        );
        let left = Self::of(fault, &["env"], &line);
        let trace = fs::read_to_string(left.env.root().join("trace")).unwrap();
        assert!(trace.contains("(INJECTED)"), "{left}: {trace}");
        left
    }

    /// What a shell line left behind.
    fn of(options: String, within: &[&str], line: &str) -> Self {
        let env = TestEnv::new().unreachable_server();
        let started = env.root().join("started");
        let prints = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); \
                      echo '................................................................'; done";
        let script = format!("echo x >> {}; {prints}; echo hello", started.display());
        let env = env.script("fake", "text", &script).task("work", "");
        fs::create_dir(env.logs()).unwrap();
        let mut command = Command::new(within[0]);
        env.settle(&mut command);
        command.env("RUN", env!("CARGO_BIN_EXE_agent-runner"));
        let done = command
            .args(&within[1..])
            .args(["sh", "-c", line])
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(0), "{options}: {done:?}");
        let code = fs::read_to_string(env.root().join("code")).unwrap();
        Self {
            options,
            code: code.trim().parse().unwrap(),
            was_started: started.exists(),
            env,
        }
    }

    fn check(&self) {
        let before = self.tree("before");
        let after = self.tree("after");
        assert!([0, 1].contains(&self.code), "{self}: it ends, and in time");
        let told = fs::read_to_string(self.env.root().join("err")).unwrap();
        assert!(!told.contains("panicked"), "{self}");
        assert!(
            self.code == 0 || !told.is_empty() || !before.records.is_empty(),
            "{self}: silent"
        );
        if self.code == 0 {
            assert!(self.was_started, "{self}");
            assert_eq!(
                before.records.len(),
                1,
                "{self}: a success without a record"
            );
            assert_eq!(before.records[0]["outcome"], "success", "{self}");
        }
        if self.was_started {
            assert_eq!(after.records.len(), 1, "{self}: one record of the run");
        }
        assert!(
            after.records.len() <= 1 && after.runs == after.records.len(),
            "{self}"
        );
        for record in &after.records {
            let outcome = record["outcome"].as_str().unwrap();
            assert_ne!(outcome, "running", "{self}");
            assert_eq!(outcome == "success", self.code == 0, "{self}");
            assert!(
                record["exit_code"].is_null() || record["exit_code"] == self.code,
                "{self}"
            );
            assert!(outcome != "crashed" || self.code == 1, "{self}");
            // What waits is what the record says; and nothing waits of which it knows nothing.
            let waits: Vec<_> = after.outbox.iter().map(|entry| &entry["id"]).collect();
            assert_eq!(record["notification"]["state"], "pending", "{self}");
            assert_eq!(waits, [&record["notification"]["id"]], "{self}");
        }
        assert_eq!(
            after.outbox.len().min(after.records.len()),
            after.outbox.len(),
            "{self}"
        );
    }

    /// Reads all that was copied from the log root at one moment; what is torn fails here.
    fn tree(&self, name: &str) -> Tree {
        let root = self.env.root().join(name);
        let is_run = |path: &&PathBuf| {
            let inside = path.strip_prefix(&root).unwrap();
            path.is_dir() && inside.starts_with("work") && inside.iter().count() == 3
        };
        let mut tree = Tree::default();
        let files = all_files(&root);
        tree.runs = files.iter().filter(is_run).count();
        for file in files
            .iter()
            .filter(|file| file.extension().is_some_and(|e| e == "json"))
        {
            let bytes = fs::read(file).unwrap();
            let value: Value = serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                panic!("{self}: {} is torn: {error}", file.display());
            });
            if file.ends_with("metadata.json") {
                tree.records.push(value);
            } else if file
                .parent()
                .is_some_and(|parent| parent.ends_with("outbox"))
            {
                tree.outbox.push(value);
            }
        }
        tree
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let told = fs::read_to_string(self.env.root().join("err")).unwrap();
        write!(formatter, "{}, exit {}, {told:?}", self.options, self.code)
    }
}

#[derive(Default)]
struct Tree {
    /// Directories of runs.
    runs: usize,
    records: Vec<Value>,
    outbox: Vec<Value>,
}

fn all_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(all_files(&path));
        }
        files.push(path);
    }
    files
}

/// Checks a run on a file system of each of these, and gives the exit codes that came.
fn sweep(options: Vec<String>, filler: &str) -> Vec<i32> {
    let Some(unshare) = unshare() else {
        return vec![0, 1];
    };
    check_all(options, |options| Left::new(unshare, options, filler))
}

fn check_all(options: Vec<String>, run: impl Fn(String) -> Left + Sync) -> Vec<i32> {
    let (todo, codes) = (Mutex::new(options), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(options) = { todo.lock().unwrap().pop() } {
                    let left = run(options);
                    left.check();
                    codes.lock().unwrap().push(left.code);
                }
            });
        }
    });
    codes.into_inner().unwrap()
}

/// The sizes of file systems in pages, as mount options.
fn pages(numbers: &[usize]) -> Vec<String> {
    let option = |pages: &usize| format!("size={}k", 4 * pages);
    numbers.iter().map(option).collect()
}

#[test]
fn a_disk_that_is_full_at_any_moment_tears_nothing_and_every_run_has_one_end() {
    // Most happens near the space that is kept for the end of a run.
    let few = [
        1, 4, 16, 32, 33, 34, 35, 36, 37, 38, 40, 44, 50, 60, 80, 256,
    ];
    let codes = sweep(pages(&swept(256, &few)), "true");
    assert!(codes.contains(&0) && codes.contains(&1), "{codes:?}");
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_tears_nothing_and_every_run_has_one_end() {
    let others = "while :; do printf '%4096s' x >> logs/others; done";
    let few = [
        34, 36, 37, 38, 39, 40, 41, 42, 44, 46, 50, 60, 80, 100, 150, 256,
    ];
    let codes = sweep(pages(&swept(256, &few)), others);
    assert!(codes.contains(&1), "{codes:?}");
}

#[test]
fn a_disk_without_free_inodes_tears_nothing_and_every_run_has_one_end() {
    let few = [2, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 40];
    let option = |inodes: &usize| format!("size=8m,nr_inodes={inodes}");
    let codes = sweep(swept(40, &few).iter().map(option).collect(), "true");
    assert!(codes.contains(&0) && codes.contains(&1), "{codes:?}");
}

#[test]
fn a_disk_that_fails_at_any_sync_costs_neither_the_record_nor_its_notification() {
    let mut able = Command::new("strace");
    able.args(["-qq", "-o", "/dev/null", "true"]);
    if !able.output().is_ok_and(|output| output.status.success()) {
        return missing("strace cannot trace here: a disk that fails is not tested");
    }
    let fault = |number: usize| format!("fsync:error=EIO:when={number}");
    let codes = check_all((1..=SYNCS).map(fault).collect(), Left::failing);
    assert!(codes.contains(&0) && codes.contains(&1), "{codes:?}");
}

/// How many times a run brings something to disk, its delivery among it.
const SYNCS: usize = 18;
