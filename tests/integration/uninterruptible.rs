//! Processes that no signal ends: they hang in a file system that does not answer. The run ends
//! all the same, and names them.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{TestEnv, eventually, evidence, processes_with};

/// More than limit, grace period and all that the runner waits for together, on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

const SKIPPED: &str = "SKIPPED: no file system of our own can be mounted here";

/// A file system whose root exists, and which takes every other question and never answers; see
/// fuse(4) and `include/uapi/linux/fuse.h`.
struct Silence {
    place: PathBuf,
    server: Option<JoinHandle<()>>,
}

impl Silence {
    /// Mounts it; `None` where that is not allowed.
    fn mount(place: &Path) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let device = File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .ok()?;
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o"])
            .arg("fd=0,rootmode=40000,user_id=0,group_id=0")
            .arg("silence")
            .arg(place)
            .stdin(Stdio::from(device.try_clone().unwrap()))
            .output()
            .ok()?;
        let asked = place.with_file_name("asked");
        mounted.status.success().then(|| Self {
            place: place.to_owned(),
            server: Some(thread::spawn(move || serve(device, &asked))),
        })
    }

    /// Ends all that hangs in it.
    fn end(&mut self) {
        let unmount = |how| {
            Command::new("umount")
                .args(["-i", how])
                .arg(&self.place)
                .output()
        };
        unmount("-f").unwrap();
        unmount("-l").unwrap();
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.end();
    }
}

/// Answers INIT, and GETATTR of the root, until the connection is aborted. Makes the file `asked`
/// when it keeps silent for the first time: whoever asked cannot be killed any more.
fn serve(mut device: File, asked: &Path) {
    let mut request = vec![0; 256 << 10];
    while let Ok(length) = device.read(&mut request) {
        let number = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        assert!(length >= 40);
        let mut body = match number(4) {
            // Version 7.31; writes of 4 KiB.
            26 => [7, 31, 4096, 0, 0, 4096, 1].map(u32::to_le_bytes).concat(),
            // Valid for a minute; inode 1, a directory with two links.
            3 => {
                let mut words = [0_u32; 26];
                (words[0], words[4], words[19], words[20]) = (60, 1, 0o040_755, 2);
                words.map(u32::to_le_bytes).concat()
            }
            _ => {
                fs::write(asked, "").unwrap();
                continue;
            }
        };
        if number(4) == 26 {
            body.resize(64, 0);
        }
        let length = u32::try_from(16 + body.len()).unwrap();
        let answer = [&length.to_le_bytes(), &[0; 4][..], &request[8..16], &body].concat();
        device.write_all(&answer).unwrap();
    }
}

/// An agent for a place that does not answer; `None` where there can be none.
fn env(script: &str, keys: &str) -> Option<(TestEnv, Silence)> {
    let env = TestEnv::new().config("[runner]\ngrace_period = \"1s\"");
    let silence = Silence::mount(&env.root().join("silence"))?;
    let file = format!("{}/file", silence.place.display());
    let env = env
        .script("fake", "text", &script.replace("FILE", &file))
        .task("work", keys);
    Some((env, silence))
}

/// Waits until somebody hangs.
#[track_caller]
fn hangs(env: &TestEnv) {
    assert!(eventually(BOUND, || env.root().join("asked").exists()));
}

/// The record names one process that could not be killed and still hangs; it ends with its file
/// system.
#[track_caller]
fn names_what_hangs(env: &TestEnv, mut silence: Silence) {
    let record = env.record("work", "fake");
    let facts = evidence(&record);
    let pid = facts.split("could not be killed: [").nth(1);
    let pid = pid
        .unwrap_or_else(|| panic!("{facts}"))
        .split(']')
        .next()
        .unwrap();
    let there = format!("/proc/{pid}/stat");
    assert!(
        fs::read_to_string(&there).unwrap().contains(") "),
        "{facts}"
    );
    let began = Instant::now();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert!(began.elapsed() < BOUND);
    silence.end();
    assert!(eventually(BOUND, || !Path::new(&there).exists()));
}

#[test]
fn an_agent_that_hangs_in_the_kernel_is_given_up_and_named() {
    for (keys, outcome) in [
        ("timeout = \"10s\"", "timeout"),
        ("containment = \"subreaper\"", "interrupted"),
    ] {
        let Some((env, silence)) = env("exec cat FILE", keys) else {
            return eprintln!("{SKIPPED}");
        };
        let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
        hangs(&env);
        if outcome == "interrupted" {
            let pid = runner.id().to_string();
            let kill = Command::new("kill").args(["-TERM", &pid]).status();
            assert!(kill.unwrap().success());
        }
        let ended = eventually(BOUND, || runner.try_wait().unwrap().is_some());
        assert!(ended, "{keys}");
        assert_eq!(env.record("work", "fake")["outcome"], outcome);
        names_what_hangs(&env, silence);
    }
}

#[test]
fn a_helper_that_hangs_in_the_kernel_holds_up_no_run_and_is_named() {
    let scripts = [
        "setsid cat FILE &",
        // The first thread ends, another one hangs.
        "setsid python3 -c 'import threading
threading.Thread(target=open, args=[\"FILE\"]).start()' &",
    ];
    for script in scripts {
        for containment in ["auto", "subreaper"] {
            let script =
                format!("{script} while [ ! -e ../asked ]; do sleep 0.05; done; echo done");
            let keys = format!("containment = \"{containment}\"");
            let Some((env, silence)) = env(&script, &keys) else {
                return eprintln!("{SKIPPED}");
            };
            let began = Instant::now();
            let done = env.run("fake", "work");
            assert!(began.elapsed() < BOUND, "{}", done.stderr);
            names_what_hangs(&env, silence);
        }
    }
}

#[test]
fn what_a_dead_runner_left_hanging_in_the_kernel_holds_up_no_recovery_and_is_named() {
    let Some((env, silence)) = env("setsid cat FILE & sleep 600", "") else {
        return eprintln!("{SKIPPED}");
    };
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    hangs(&env);
    runner.kill().unwrap();
    runner.wait().unwrap();
    let began = Instant::now();
    let done = env.agent_runner(&["heartbeat"]);
    assert!(began.elapsed() < BOUND, "{}", done.stderr);
    assert!(done.stderr.contains("crashed"), "{}", done.stderr);
    assert_eq!(env.record("work", "fake")["outcome"], "crashed");
    names_what_hangs(&env, silence);
}

#[test]
fn a_git_that_hangs_in_the_kernel_costs_a_run_its_word_and_not_its_end() {
    let script = "touch ../begun; while [ ! -e ../go ]; do sleep 0.05; done; echo done";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .task("work", "");
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(BOUND, || env.root().join("begun").exists()));
    let Some(mut silence) = Silence::mount(&env.repository().join("silence")) else {
        runner.kill().unwrap();
        runner.wait().unwrap();
        return eprintln!("{SKIPPED}");
    };
    fs::write(env.root().join("go"), "").unwrap();
    let ended = eventually(BOUND, || runner.try_wait().unwrap().is_some());
    let record = env.record("work", "fake");
    silence.end();
    runner.wait().unwrap();
    assert!(ended, "the runner waits for git");
    assert!(
        evidence(&record).contains("could not be killed"),
        "{}",
        evidence(&record)
    );
    assert_ne!(record["outcome"], "success");
}

/// A file system of its own whose writers can be made to hang.
struct Frozen(PathBuf);

impl Frozen {
    /// Mounts it; `None` where that is not allowed, or its tools are missing.
    fn mount(place: &Path) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let image = place.with_extension("image");
        File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let mounted = tool("mkfs.ext4", &["-q".as_ref(), &image])
            && tool("mount", &["-o".as_ref(), "loop".as_ref(), &image, place]);
        mounted.then(|| Self(place.to_owned()))
    }

    fn freeze(&self, how: &str) -> bool {
        tool("fsfreeze", &[how.as_ref(), &self.0])
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.freeze("-u");
        tool("umount", &["-l".as_ref(), &self.0]);
    }
}

fn tool(name: &str, arguments: &[&Path]) -> bool {
    let output = Command::new(name).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// A run whose logs cannot be written from its start until `until` says so, of the place where its
/// agent works; its runner gets `signals` once it hangs. Gives its exit code, and whether the agent
/// wrote `end`; `None` where no such logs can be had.
#[track_caller]
fn frozen_run(
    limit: &str,
    keys: &str,
    script: &str,
    signals: &[Signal],
    until: fn(&Path) -> bool,
) -> Option<(i32, bool)> {
    let env = TestEnv::new();
    let (logs, place) = (env.root().join("apart"), env.root().join("place"));
    fs::create_dir(&place).unwrap();
    let frozen = Frozen::mount(&logs)?;
    let script = format!("cd {}; touch begin; {script}", place.display());
    let env = env
        .config(&format!("[runner]\n{keys}"))
        .variable("AGENT_RUNNER_LOG_ROOT", logs.join("logs").to_str().unwrap())
        .script("fake", "text", &script)
        .task("work", &format!("timeout = \"{limit}\""));
    let mut runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(BOUND, || place.join("begin").exists()));
    assert!(frozen.freeze("-f"));
    if !signals.is_empty() {
        let state = format!("/proc/{}/stat", runner.id());
        let hangs = || fs::read_to_string(&state).unwrap().contains(") D ");
        assert!(eventually(BOUND, hangs));
    }
    for signal in signals {
        kill_process(Pid::from_child(&runner), *signal).unwrap();
        // A thread that would take it has the time to.
        thread::sleep(Duration::from_millis(300));
    }
    let is_so = eventually(BOUND, || until(&place));
    let hangs = runner.try_wait().unwrap().is_none();
    assert!(frozen.freeze("-u"));
    assert!(is_so && hangs, "{keys}");
    assert!(eventually(BOUND, || runner.try_wait().unwrap().is_some()));
    let code = runner.wait().unwrap().code().unwrap();
    Some((code, place.join("end").exists()))
}

/// Whether so many seconds have gone by since a file was written.
fn is_past(file: &Path, seconds: u64) -> bool {
    let written = fs::metadata(file).and_then(|metadata| metadata.modified());
    written.is_ok_and(|at| at.elapsed().unwrap_or_default() > Duration::from_secs(seconds))
}

#[test]
fn a_run_whose_logs_cannot_be_written_keeps_to_its_time_limit() {
    for containment in ["auto", "subreaper", "namespace"] {
        let ended = frozen_run(
            "3s",
            &format!("containment = \"{containment}\"\ngrace_period = \"1s\""),
            "while :; do echo $PWD; sleep 0.02 & wait; done",
            &[],
            |place| processes_with(&place.display().to_string()).is_empty(),
        );
        let Some(ended) = ended else {
            return eprintln!("{SKIPPED}");
        };
        assert_eq!(ended, (11, false), "{containment}");
    }
}

#[test]
fn a_request_to_end_is_heard_while_the_logs_cannot_be_written() {
    // SIGCHLD: an orphan has ended before.
    let cases: [(&[Signal], _); 4] = [
        (&[Signal::INT], 130..=130),
        (&[Signal::TERM], 143..=143),
        (&[Signal::INT, Signal::TERM], 130..=143),
        (&[Signal::CHILD, Signal::INT], 130..=130),
    ];
    for (signals, codes) in cases {
        let ended = frozen_run(
            "10m",
            "grace_period = \"10m\"",
            "trap '' INT TERM; while :; do echo $PWD; sleep 0.02 & wait; done",
            signals,
            |place| processes_with(&place.display().to_string()).is_empty(),
        );
        let Some(ended) = ended else {
            return eprintln!("{SKIPPED}");
        };
        assert!(
            codes.contains(&ended.0) && !ended.1,
            "{signals:?}: {ended:?}"
        );
    }
}

#[test]
fn an_agent_that_ends_while_its_logs_cannot_be_written_ended_in_time() {
    let ended = frozen_run(
        "3s",
        "grace_period = \"1s\"",
        "for i in $(seq 50); do echo $i; sleep 0.02; done; touch end",
        &[],
        |place| is_past(&place.join("end"), 9),
    );
    let Some(ended) = ended else {
        return eprintln!("{SKIPPED}");
    };
    assert_eq!(ended, (0, true));
}

#[test]
fn an_agent_that_is_asked_late_to_end_has_its_whole_grace_period() {
    let ended = frozen_run(
        "3s",
        "grace_period = \"20s\"",
        "trap 'sleep 7; touch end; exit' TERM; while :; do echo on; sleep 0.02 & wait; done",
        &[],
        |place| is_past(&place.join("begin"), 5),
    );
    let Some(ended) = ended else {
        return eprintln!("{SKIPPED}");
    };
    assert_eq!(ended, (11, true));
}

#[test]
fn a_survivor_whose_first_thread_has_ended_is_killed() {
    let script = "setsid python3 -c 'import ctypes, threading, time
def wait():
    while \") Z\" not in open(\"/proc/self/stat\").read(): time.sleep(0.05)
    open(\"../ended\", \"w\")
    time.sleep(900)
threading.Thread(target=wait).start()
ctypes.CDLL(None).pthread_exit(None)' MARK & while [ ! -e ../ended ]; do sleep 0.05; done; echo done";
    let env = TestEnv::new();
    let mark = env.root().display().to_string();
    let env = env
        .script("fake", "text", &script.replace("MARK", &mark))
        .task("work", "containment = \"subreaper\"");
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert_eq!(env.record("work", "fake")["survivors_killed"], 1);
    assert_eq!(processes_with(&mark), [0; 0]);
}
