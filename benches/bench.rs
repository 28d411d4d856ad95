//! What the runner costs, beside the same work without it.
//!
//! `cargo bench` measures everything, `cargo bench -- flood` one part: `start`, `overhead`, `flood`,
//! `redaction`, `runs`, `recovery`, `many` or `dispatch`. A number is the median of repetitions that
//! alternate with those of what it is compared with, so that whatever else the machine does hits both.
//! No time is asserted: it is a fact about one machine, and a goal stands beside it.
#![expect(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on must say where"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark spawns, writes and reads the clock by itself"
)]
#![expect(clippy::print_stdout, reason = "printing is what a benchmark is for")]

mod dispatch;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use agent_runner::agents::lines::LineParser;
use agent_runner::agents::plain::PlainText;
use agent_runner::agents::{self, AgentExit, TranscriptParser};
use agent_runner::model::process_end::Stream;
use agent_runner::redact::{Masked, Redactor};
use agent_runner::store::capped_log::{CappedLog, LogCaps};
use chrono::{DateTime, Utc};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_agent-runner");

/// Where files lie in memory: what is measured there has no disk in it.
const MEMORY: &str = "/dev/shm";

const GIGABYTE: u64 = 1_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, kind] = &arguments[..]
        && mode == "--print"
    {
        return print_flood(kind);
    }
    let wanted = |part: &str| {
        let mut named = arguments.iter().filter(|name| !name.starts_with('-'));
        named.clone().next().is_none() || named.any(|name| name == part)
    };
    let disk = std::env::temp_dir();
    let mut places = vec![disk.as_path()];
    if Path::new(MEMORY).is_dir() {
        places.push(Path::new(MEMORY));
    }
    if wanted("start") {
        start();
    }
    if wanted("overhead") {
        for place in &places {
            overhead(place);
        }
    }
    if wanted("flood") {
        for place in &places {
            flood(place);
        }
    }
    if wanted("redaction") {
        for place in &places {
            redaction(place);
        }
    }
    if wanted("runs") {
        runs(&disk);
    }
    if wanted("recovery") {
        recovery(&disk);
    }
    if wanted("many") {
        many(&disk);
    }
    if wanted("dispatch") {
        heading("dispatch: 10 issues against a stand-in of GitHub");
        dispatch::dispatch();
    }
}

/// `--version` beside a program that does nothing.
fn start() {
    heading("start of the program: 101 repetitions");
    let size = fs::metadata(PROGRAM).unwrap().len();
    let [nothing, version] = alternate(
        101,
        [
            &mut || time(Command::new("/bin/true").env_clear()),
            &mut || time(Command::new(PROGRAM).env_clear().arg("--version")),
        ],
    );
    row("/bin/true", &nothing, "");
    row("agent-runner --version", &version, "goal: under 5 ms");
    println!("size of the program: {size} bytes (goal: at most 20 MB)");
}

/// `run` beside the bare command of the agent.
fn overhead(base: &Path) {
    const REPETITIONS: usize = 31;
    let place = Place::new(base);
    let plain = place.root.path().join("plain");
    fs::create_dir(&plain).unwrap();
    heading(&format!(
        "overhead of `run` over the bare command of the agent, in {}: {REPETITIONS} repetitions",
        base.display()
    ));
    let status = [
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=all",
    ];
    let mut steps = Steps::default();
    let [sync, git, bare, without_git, run, bare_commit, commit] = alternate(
        REPETITIONS,
        [
            &mut || sync_once(place.root.path()),
            &mut || time(place.settle(Command::new("git").args(status))),
            &mut || time(place.settle(&mut shell(SAY))),
            &mut || time(place.run("say").arg("--repo").arg(&plain)),
            &mut || {
                let began = SystemTime::now();
                let took = time(&mut place.run("say"));
                steps.take(&place.last_run("say"), began.into(), took);
                took
            },
            &mut || time(place.settle(&mut shell(COMMIT))),
            &mut || {
                // Commits of the minute before a run are looked at, too.
                fs::remove_dir_all(place.root.path().join("repository/.git/logs")).unwrap();
                time(&mut place.run("commit"))
            },
        ],
    );
    row("one write and its fsync", &sync, "");
    row("one `git status`", &git, "");
    row("the bare command, `echo`", &bare, "");
    let plus = |whole: &Samples, part: &Samples| {
        let more = whole.median().saturating_sub(part.median());
        format!("overhead {}", milliseconds(more))
    };
    row(
        "run, not in a repository",
        &without_git,
        &plus(&without_git, &bare),
    );
    let goal = "(goal: at most 15 ms where an fsync takes under 1 ms)";
    row(
        "run, in a repository",
        &run,
        &format!("{} {goal}", plus(&run, &bare)),
    );
    row("the bare command, a commit", &bare_commit, "");
    row("run that commits", &commit, &plus(&commit, &bare_commit));
    steps.print();
    for task in ["say", "commit"] {
        count_calls(&place, task);
    }
}

/// The steps of a run, from the times in its `runner.log`.
#[derive(Default)]
struct Steps(Vec<[Duration; 5]>);

impl Steps {
    fn take(&mut self, run: &Path, began: DateTime<Utc>, took: Duration) {
        let log = fs::read_to_string(run.join("runner.log")).unwrap();
        let lines: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let at = |wanted: &str| {
            let is_wanted = |line: &&Value| {
                let act = line["act"].as_str().unwrap_or_default();
                line["message"] == wanted || act.starts_with(wanted)
            };
            let line = lines.iter().find(is_wanted).unwrap();
            let time: DateTime<Utc> = line["timestamp"].as_str().unwrap().parse().unwrap();
            (time - began).to_std().unwrap_or_default()
        };
        let ends = [
            at("run begins"),
            at("Started"),
            at("Ended"),
            at("run ended"),
            took,
        ];
        let mut last = Duration::ZERO;
        self.0.push(ends.map(|end| {
            let step = end.saturating_sub(last);
            last = end;
            step
        }));
    }

    fn print(&self) {
        let names = [
            "program, settings, directory of the run",
            "snapshot of the repository, first record, spawn",
            "agent, and the search for what it left running",
            "comparison of the repository, verdict",
            "final record, end of the program",
        ];
        println!("steps of `run, in a repository`:");
        for (number, name) in names.into_iter().enumerate() {
            let step = Samples(self.0.iter().map(|steps| steps[number]).collect());
            row(&format!("  {name}"), &step, "");
        }
    }
}

/// Counts what a run asks of the system.
fn count_calls(place: &Place, task: &str) {
    let trace = place.root.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=fsync,fdatasync,execve", "-o"]);
    command.arg(&trace).arg(PROGRAM).args(arguments(task));
    if place.settle(&mut command).output().is_err() {
        println!("strace is not installed: fsyncs and helper processes are not counted");
        return;
    }
    let trace = fs::read_to_string(trace).unwrap();
    let calls = |name: &str| {
        let failed = |line: &&str| line.contains(" = -1 ");
        let lines: Vec<&str> = trace.lines().filter(|line| line.contains(name)).collect();
        lines
            .into_iter()
            .filter(|line| !failed(line))
            .collect::<Vec<_>>()
    };
    let syncs: Vec<&str> = calls("sync(")
        .into_iter()
        .filter_map(|line| {
            line.split_once('<')?
                .1
                .split('>')
                .next()?
                .rsplit('/')
                .next()
        })
        .collect();
    let helpers: Vec<String> = calls("execve(")
        .into_iter()
        .filter_map(|line| {
            let mut words = line.split('"').skip(1).step_by(2);
            let program = words.next()?.rsplit('/').next()?;
            let first = words.nth(1).unwrap_or_default();
            Some(format!("{program} {first}"))
        })
        .collect();
    println!("`{task}`: {} fsyncs: {}", syncs.len(), syncs.join(", "));
    println!(
        "`{task}`: {} programs: {}",
        helpers.len(),
        helpers.join(", ")
    );
}

/// A gigabyte of output beside `cat` into a file.
fn flood(base: &Path) {
    heading(&format!(
        "1 GB of output, in {}: 5 repetitions (1 of events), speed beside `cat > file` (goal: at least 0.8, \
         under 32 MB)",
        base.display()
    ));
    let place = Place::new(base);
    for (kind, name) in [
        ("text", "lines of 80 bytes, read as text"),
        ("code", "source code, read as text"),
        ("short", "lines of 1 byte, read as text"),
        ("endless", "one line, read as text"),
        ("stderr", "lines of 80 bytes on standard error"),
        ("stray", "lines of 80 bytes, where codex's events are due"),
        ("events", "codex's events"),
    ] {
        let file = place.root.path().join("file");
        let copy = format!(
            "'{}' --print {kind} | cat > '{}'",
            own_program(),
            file.display()
        );
        let mut memory = 0;
        let [cat, run] = alternate(
            if kind == "events" { 1 } else { 5 },
            [
                &mut || {
                    let took = time(&mut shell(&copy));
                    fs::remove_file(&file).unwrap();
                    took
                },
                &mut || {
                    let (took, peak) = watch(&mut place.run(kind));
                    memory = memory.max(peak);
                    fs::remove_dir_all(place.last_run(kind)).unwrap();
                    took
                },
            ],
        );
        println!(
            "{name:<50} cat {:>9}  run {:>9}  speed {:.2} of cat's  peak {:.1} MB",
            milliseconds(cat.median()),
            milliseconds(run.median()),
            cat.median().as_secs_f64() / run.median().as_secs_f64(),
            megabytes(memory),
        );
    }
}

/// The search for secrets beside all else of the same capture: as CLIs really print, event by event,
/// and in floods of text, where all else is a few copies of it.
fn redaction(base: &Path) {
    const REPETITIONS: usize = 5;
    heading(&format!(
        "the search for secrets beside all else of the same capture (waiting for the pipe and reading it, writing two logs, \
         understanding it), in {}: {REPETITIONS} repetitions (goal: under 10 % more of what CLIs print; floods, which none prints, have no goal)",
        base.display()
    ));
    let directory = tempfile::tempdir_in(base).unwrap();
    let secrets = (0..10).map(|number| format!("vpEv8Qm2xLr0Zt6Yb{number}N4w"));
    let secrets: Vec<String> = secrets.collect();
    let recorded = [
        (
            "claude",
            include_str!("../tests/fixtures/agents/claude/2.1.197/b-dontask.stdout"),
        ),
        (
            "codex",
            include_str!("../tests/fixtures/agents/codex/0.169.0/j-loop.stdout"),
        ),
        (
            "gemini",
            include_str!("../tests/fixtures/agents/gemini/0.61.0/b-edit.stdout"),
        ),
        (
            "kilo",
            include_str!("../tests/fixtures/agents/kilo/7.7.7/z-aimock-tool.stdout"),
        ),
        (
            "opencode",
            include_str!("../tests/fixtures/agents/opencode/1.18.33/f-loop-steps.stdout"),
        ),
        (
            "qwen",
            include_str!("../tests/fixtures/agents/qwen/0.24.4/b-edit.stdout"),
        ),
    ];
    let prose = include_str!("../README.md");
    let flood = |text: &str| text.repeat(1 + READ_BYTES / text.len());
    let floods = ["text", "code"].map(|kind| (kind, flood(&flood_piece(kind))));
    for number in [1, 10] {
        let redactor = Redactor::new(secrets.iter().take(number).map(String::as_str));
        let measure = |name: &str, agent: Option<&str>, pieces: &[&[u8]], bytes: u64| {
            let mut searches = Samples(Vec::new());
            let mut others = Samples(Vec::new());
            for _ in 0..REPETITIONS {
                let parser: Box<dyn TranscriptParser> = match agent {
                    Some(agent) => agents::find(agent).unwrap().parser(&[]),
                    None => Box::new(LineParser::new(PlainText::default())),
                };
                let (search, other) = capture(directory.path(), &redactor, parser, pieces, bytes);
                searches.0.push(search);
                others.0.push(other);
            }
            println!(
                "{name:<26} {number:>2} secrets: {:>4} MB: search {:>9}  all else {:>10}  {:+.1} %",
                bytes / 1_000_000,
                milliseconds(searches.median()),
                milliseconds(others.median()),
                searches.median().as_secs_f64() / others.median().as_secs_f64() * 100.0,
            );
        };
        for (agent, text) in recorded {
            let lines: Vec<&[u8]> = text.split_inclusive('\n').map(str::as_bytes).collect();
            measure(
                &format!("{agent}, as recorded"),
                Some(agent),
                &lines,
                GIGABYTE / 10,
            );
        }
        let words: Vec<&[u8]> = prose.split_inclusive(' ').map(str::as_bytes).collect();
        measure("prose, word by word", None, &words, GIGABYTE / 100);
        for (kind, flood) in &floods {
            let pieces: Vec<&[u8]> = flood.as_bytes().chunks_exact(READ_BYTES).collect();
            measure(&format!("a flood of {kind}"), None, &pieces, GIGABYTE);
        }
    }
}

/// What a run reads at once, at most.
const READ_BYTES: usize = 256 * 1024;

/// Captures pieces as a run does, until there are so many bytes. How long the search for secrets took,
/// and all else. Nobody waits for a writer.
fn capture(
    directory: &Path,
    redactor: &Redactor,
    mut parser: Box<dyn TranscriptParser>,
    pieces: &[&[u8]],
    bytes: u64,
) -> (Duration, Duration) {
    let (mut output, mut input) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&input, READ_BYTES).unwrap();
    let paths = ["transcript", "stdout"].map(|name| directory.join(name));
    let mut logs = paths
        .each_ref()
        .map(|path| CappedLog::create(path, LogCaps::default()).unwrap());
    let mut events = Vec::new();
    let mut masked = Masked::default();
    let mut buffer = vec![0; READ_BYTES];
    let (mut search, mut other) = (Duration::ZERO, Duration::ZERO);
    let mut left = bytes;
    for piece in pieces.iter().cycle() {
        left = left.saturating_sub(piece.len() as u64);
        input.write_all(piece).unwrap();
        let began = Instant::now();
        let mut ready = [PollFd::new(&output, PollFlags::IN)];
        poll(&mut ready, None).unwrap();
        let number = output.read(&mut buffer).unwrap();
        let asked = Instant::now();
        let clean = masked.push(redactor, &buffer[..number]);
        let searched = asked.elapsed();
        for piece in &clean {
            for log in &mut logs {
                log.write(piece);
            }
            events.clear();
            parser.feed(Stream::Stdout, piece, &mut events);
        }
        search += searched;
        other += began.elapsed().saturating_sub(searched);
        if left == 0 {
            break;
        }
    }
    let (code, result_file) = (Some(0), None);
    parser.finish(&AgentExit { code, result_file });
    for path in &paths {
        fs::remove_file(path).unwrap();
    }
    (search, other)
}

/// `runs` and `stats` over many records beside `cat` of all of them.
fn runs(base: &Path) {
    heading(
        "`runs`, `runs --limit 0` and `stats`: 5 repetitions after a first call, beside `cat` of all \
         records (goal: 100,000 in under 0.5 s)",
    );
    let is_full = std::env::var_os("AGENT_RUNNER_FULL").is_some_and(|full| full == "1");
    let most: &[u32] = if is_full { &[100_000] } else { &[] };
    for number in [1_000, 10_000].iter().chain(most).copied() {
        let place = Place::new(base);
        time(&mut place.run("say"));
        plant(&place, number);
        let command = |arguments: &str| {
            let mut command = Command::new(PROGRAM);
            command.args(arguments.split(' '));
            place.settle(&mut command);
            command
        };
        let list = |arguments: &str| time(&mut command(arguments));
        let first = list("runs --limit 0");
        let read = format!(
            "find '{}' -name metadata.json -exec cat {{}} +",
            place.logs().display()
        );
        let [cat, some, all, sums, triage] = alternate(
            5,
            [
                &mut || time(&mut shell(&read)),
                &mut || list("runs"),
                &mut || list("runs --limit 0"),
                &mut || list("stats"),
                &mut || list("triage"),
            ],
        );
        println!(
            "{number:>6} records: cat {:>9}  first call {:>9} ({:.1} µs a record)",
            milliseconds(cat.median()),
            milliseconds(first),
            first.as_secs_f64() * 1e6 / f64::from(number),
        );
        for (arguments, samples) in [
            ("runs", some),
            ("runs --limit 0", all),
            ("stats", sums),
            ("triage", triage),
        ] {
            let (_, peak) = watch(&mut command(arguments));
            println!(
                "  {arguments:<16} {:>10}  {:>5.2} of cat's time  peak {:.1} MB",
                milliseconds(samples.median()),
                samples.median().as_secs_f64() / cat.median().as_secs_f64(),
                megabytes(peak),
            );
        }
    }
}

/// `heartbeat` beside many runs that ended, and where runners died.
fn recovery(base: &Path) {
    const REPETITIONS: usize = 5;
    heading(&format!(
        "`heartbeat`: {REPETITIONS} repetitions (goal: recovery under 50 ms a dead run, and in proportion to their \
         number)"
    ));
    let place = Place::new(base);
    time(&mut place.run("say"));
    let beat = || {
        let mut command = Command::new(PROGRAM);
        time(place.settle(command.arg("heartbeat").stderr(Stdio::null())))
    };
    let beats = || Samples((0..REPETITIONS).map(|_| beat()).collect());
    row("beside 1 run", &beats(), "");
    plant(&place, 30_000);
    row("beside 30,000 runs", &beats(), "");
    for number in [1, 30, 300] {
        let recover = |_| {
            let dead = plant_dead(&place, number);
            let took = beat();
            let crashed = dead.iter().filter(|run| outcome(run) == "crashed").count();
            assert_eq!(crashed, number, "of so many runners that died");
            assert_eq!(marks(&place), 0, "marks are left");
            for run in dead {
                fs::remove_dir_all(run).unwrap();
            }
            took
        };
        let samples = Samples((0..REPETITIONS).map(recover).collect());
        row(&format!("and {number} whose runners died"), &samples, "");
    }
}

/// Leaves so many runs behind as runners do that are killed: their directories.
fn plant_dead(place: &Place, number: usize) -> Vec<PathBuf> {
    let record = fs::read(place.last_run("say").join("metadata.json")).unwrap();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    record["outcome"] = "running".into();
    for field in ["exit_code", "end_time", "elapsed_seconds"] {
        record[field] = Value::Null;
    }
    let leave = |run: usize| {
        let id = format!("20250101_{run:06}");
        let directory = place.logs().join("dead/dead").join(&id);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("metadata.json"), record.to_string()).unwrap();
        fs::write(directory.join("runner.log"), "").unwrap();
        let mark = format!(".state/running/dead.dead.{id}");
        fs::write(place.logs().join(mark), "").unwrap();
        directory
    };
    // Minutes and seconds have two digits each.
    (0..number)
        .map(|run| leave(run / 60 * 100 + run % 60))
        .collect()
}

fn outcome(run: &Path) -> String {
    let record = fs::read(run.join("metadata.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    record["outcome"].as_str().unwrap().to_owned()
}

/// How many runs are marked as not ended.
fn marks(place: &Place) -> usize {
    fs::read_dir(place.logs().join(".state/running"))
        .unwrap()
        .count()
}

/// Many runs at once, whose agents all wait at a gate that opens 30 s after the last one came.
fn many(base: &Path) {
    let is_full = std::env::var_os("AGENT_RUNNER_FULL").is_some_and(|full| full == "1");
    let number = if is_full { 1_000 } else { 100 };
    heading(&format!(
        "{number} runs at once, whose agents wait till 30 s after the last start (goal: all final, at most 8 MB \
         each)"
    ));
    let place = Place::new(base);
    let gate = place.root.path().join("home/gate");
    time(Command::new("mkfifo").arg(&gate));
    let began = Instant::now();
    let runners: Vec<Child> = (0..number)
        .map(|run| {
            let directory = place.root.path().join(format!("place-{run}"));
            fs::create_dir(&directory).unwrap();
            let mut command = place.run("wait");
            command.arg("--repo").arg(directory).stdout(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    let is_waiting = |runner: &Child| {
        let children = format!("/proc/{0}/task/{0}/children", runner.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        children.split_whitespace().any(|child| {
            fs::read_to_string(format!("/proc/{child}/cmdline"))
                .is_ok_and(|line| line.contains("/gate"))
        })
    };
    while began.elapsed() < Duration::from_mins(5) && !runners.iter().all(is_waiting) {
        std::thread::sleep(Duration::from_millis(200));
    }
    let started = began.elapsed();
    // After a second a run gives back what only its start needed.
    std::thread::sleep(Duration::from_secs(2));
    let waiting: Vec<&Child> = runners.iter().filter(|runner| is_waiting(runner)).collect();
    let memory = |name: &str| {
        let mut found: Vec<u64> = waiting
            .iter()
            .map(|runner| {
                let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", runner.id()));
                let text = text.unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
                kilobytes.unwrap_or(0_u64) * 1024
            })
            .collect();
        found.sort_unstable();
        let median = found.get(found.len() / 2).copied().unwrap_or(0);
        (
            megabytes(median),
            megabytes(found.last().copied().unwrap_or(0)),
        )
    };
    let descriptors = waiting.iter().map(|runner| {
        let directory = fs::read_dir(format!("/proc/{}/fd", runner.id()));
        directory.map_or(0, Iterator::count)
    });
    println!(
        "{} wait after {:.1} s; RSS {:.1} MB (most {:.1}), of it {:.1} MB no file's; PSS {:.1} MB (most {:.1}); \
         at most {} descriptors",
        waiting.len(),
        started.as_secs_f64(),
        memory("Rss:").0,
        memory("Rss:").1,
        memory("Anonymous:").0,
        memory("Pss:").0,
        memory("Pss:").1,
        descriptors.max().unwrap_or(0),
    );
    std::thread::sleep(Duration::from_secs(30));
    let is_over = AtomicBool::new(false);
    let wait = |mut runner: Child| runner.wait().unwrap().code();
    let codes = std::thread::scope(|scope| {
        // Who opens it to read is let through by whoever opens it to write.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                drop(File::options().read(true).write(true).open(&gate).unwrap());
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let codes: Vec<Option<i32>> = runners.into_iter().map(wait).collect();
        is_over.store(true, Ordering::Relaxed);
        codes
    });
    let good = codes
        .into_iter()
        .flatten()
        .filter(|code| *code == 0)
        .count();
    let runs = fs::read_dir(place.logs().join("wait/wait")).unwrap();
    let recorded = runs
        .map(|run| run.unwrap().path())
        .filter(|run| run.is_dir() && outcome(run) == "success")
        .count();
    assert_eq!(
        (good, recorded),
        (number, number),
        "ended well, and are recorded so"
    );
    assert_eq!(marks(&place), 0, "marks are left");
    println!(
        "all ended well after {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

/// Copies the record of the one run that there is, over tasks, agents and days.
fn plant(place: &Place, number: u32) {
    let record = fs::read(place.last_run("say").join("metadata.json")).unwrap();
    let start = DateTime::<Utc>::from(SystemTime::UNIX_EPOCH + Duration::from_hours(490_000));
    for run in 0..number - 1 {
        let began = start + Duration::from_mins(10) * run;
        let (task, agent) = (["nightly", "weekly", "docs"][run as usize % 3], run % 4);
        let directory = format!("{task}/agent{agent}/{}", began.format("%Y%m%d_%H%M%S"));
        let directory = place.logs().join(directory);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("metadata.json"), &record).unwrap();
    }
}

const SAY: &str = "echo done";

const COMMIT: &str = "date +%N >> file && git add file && git commit -q -m work && echo done";

/// A repository, a configuration and a log root of their own.
struct Place {
    root: TempDir,
}

impl Place {
    fn new(base: &Path) -> Self {
        let root = tempfile::Builder::new()
            .prefix("agent-runner-bench-")
            .tempdir_in(base)
            .unwrap();
        let place = Self { root };
        for directory in ["home", "repository"] {
            fs::create_dir(place.root.path().join(directory)).unwrap();
        }
        let first =
            "git init -q -b main && echo text > file && git add . && git commit -q -m first";
        time(place.settle(&mut shell(first)));
        fs::write(place.root.path().join("config.toml"), configuration()).unwrap();
        place
    }

    fn logs(&self) -> PathBuf {
        self.root.path().join("logs")
    }

    /// Gives a command this place's directory and environment.
    fn settle<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let root = self.root.path();
        command
            .current_dir(root.join("repository"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", root.join("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "A Person")
            .env("GIT_AUTHOR_EMAIL", "person@example.invalid")
            .env("GIT_COMMITTER_NAME", "A Person")
            .env("GIT_COMMITTER_EMAIL", "person@example.invalid")
            .env("AGENT_RUNNER_CONFIG", root.join("config.toml"))
            .env("AGENT_RUNNER_LOG_ROOT", self.logs())
    }

    /// The runner with the task and the agent of this name.
    fn run(&self, name: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments(name));
        self.settle(&mut command);
        command
    }

    /// The directory of the last run of a task.
    fn last_run(&self, task: &str) -> PathBuf {
        let runs = fs::read_dir(self.logs().join(task).join(task)).unwrap();
        let run = runs
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .max_by_key(|path| fs::metadata(path).unwrap().created().unwrap());
        run.unwrap()
    }
}

fn arguments(name: &str) -> [&str; 5] {
    ["run", "--task", name, "--agent", name]
}

/// A task and an agent of the same name for everything that is run.
fn configuration() -> String {
    let own = own_program();
    let flood = |kind: &str| format!("'{own}' --print {kind}");
    let mut text = String::new();
    for (name, output, script) in [
        ("say", "text", SAY.to_owned()),
        (
            "wait",
            "text",
            "read line < \"$HOME/gate\"; echo done".to_owned(),
        ),
        ("commit", "text", COMMIT.to_owned()),
        ("text", "text", flood("text")),
        ("short", "text", flood("short")),
        ("endless", "text", flood("endless")),
        (
            "stderr",
            "text",
            format!("{} >&2; echo done", flood("text")),
        ),
        ("code", "text", flood("code")),
        ("stray", "codex", flood("text")),
        ("events", "codex", flood("events")),
    ] {
        let script = Value::from(script);
        let commit = name == "commit";
        writeln!(
            text,
            "[agents.{name}]\ncommand = ['/bin/sh', '-c', {script}]\noutput = '{output}'\n\
             [tasks.{name}]\nprompt_text = 'work'\nrequires_commit = {commit}\n"
        )
        .unwrap();
    }
    text
}

fn own_program() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

/// Prints a gigabyte and a good end: what the agents of `flood` do.
fn print_flood(kind: &str) {
    let piece = flood_piece(kind);
    let block = piece.repeat(1 + 64 * 1024 / piece.len());
    let mut stdout = std::io::stdout().lock();
    let mut left = usize::try_from(GIGABYTE).unwrap();
    while left > 0 {
        let part = left.min(block.len());
        stdout.write_all(&block.as_bytes()[..part]).unwrap();
        left -= part;
    }
    let end = match kind {
        "events" => "\n{\"type\":\"turn.completed\",\"usage\":{}}\n",
        _ => "\ndone\n",
    };
    stdout.write_all(end.as_bytes()).unwrap();
}

fn flood_piece(kind: &str) -> String {
    match kind {
        "short" => "y\n".to_owned(),
        "endless" => "x".repeat(80),
        "events" => {
            let text = "word ".repeat(30);
            let item = format!(r#"{{"id":"1","type":"agent_message","text":"{text}"}}"#);
            format!("{{\"type\":\"item.completed\",\"item\":{item}}}\n")
        }
        // Its own words have the beginnings of tokens, too: this very line names sk- and npm_.
        "code" => include_str!("bench.rs").to_owned(),
        _ => format!("{}\n", "x".repeat(79)),
    }
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

/// How long a command takes; it must succeed.
#[track_caller]
fn time(command: &mut Command) -> Duration {
    let began = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    let took = began.elapsed();
    assert!(status.success(), "{command:?} ended with {status}");
    took
}

/// How long a command takes, and the most memory of its process in bytes. Looks every 5 ms.
#[track_caller]
fn watch(command: &mut Command) -> (Duration, u64) {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{command:?} ended with {status}");
            return (began.elapsed(), peak);
        }
        let text = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One small file written and brought to disk.
fn sync_once(directory: &Path) -> Duration {
    let path = directory.join("synced");
    let began = Instant::now();
    let mut file = File::create(&path).unwrap();
    file.write_all(&[b'x'; 4096]).unwrap();
    file.sync_all().unwrap();
    let took = began.elapsed();
    fs::remove_file(path).unwrap();
    took
}

/// Takes the measurements in turn, so that a slow moment of the machine hits all of them.
fn alternate<const N: usize>(
    repetitions: usize,
    mut measurements: [&mut dyn FnMut() -> Duration; N],
) -> [Samples; N] {
    let mut samples = [const { Samples(Vec::new()) }; N];
    for _ in 0..repetitions {
        for (samples, measure) in samples.iter_mut().zip(&mut measurements) {
            samples.0.push(measure());
        }
    }
    samples
}

#[derive(Debug)]
struct Samples(Vec<Duration>);

impl Samples {
    fn median(&self) -> Duration {
        self.part(2, 4)
    }

    fn part(&self, numerator: usize, denominator: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[(sorted.len() - 1) * numerator / denominator]
    }
}

fn heading(text: &str) {
    println!("\n== {text}");
}

fn row(name: &str, samples: &Samples, note: &str) {
    println!(
        "{name:<52} {:>9}  (quartiles {} to {})  {note}",
        milliseconds(samples.median()),
        milliseconds(samples.part(1, 4)),
        milliseconds(samples.part(3, 4)),
    );
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "two digits are printed")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
