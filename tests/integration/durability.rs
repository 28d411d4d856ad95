//! A machine that loses its power: what is relied on was brought to disk before, as the calls of a
//! run show. A disk that fails costs neither the record nor its notification.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::real::components;
use crate::support::TestEnv;

/// What a run did to the disk.
#[derive(Debug)]
enum Call {
    Made(PathBuf),
    Moved(PathBuf, PathBuf),
    Synced(PathBuf),
    Started(PathBuf),
}

impl Call {
    fn read(line: &str) -> Option<Self> {
        let (call, arguments) = line.split_once(' ')?.1.trim().split_once('(')?;
        let mut quoted = arguments.split('"').skip(1).step_by(2).map(PathBuf::from);
        let is_failed = line.contains(" = -1 ");
        match call {
            _ if is_failed => None,
            "fsync" | "fdatasync" => {
                let path = arguments.split(['<', '>']).nth(1)?;
                Some(Self::Synced(path.into()))
            }
            "open" | "openat" if arguments.contains("O_CREAT") => quoted.next().map(Self::Made),
            "mkdir" | "mkdirat" => quoted.next().map(Self::Made),
            "execve" => quoted.next().map(Self::Started),
            "rename" | "renameat" | "renameat2" => {
                Some(Self::Moved(quoted.next()?, quoted.next()?))
            }
            _ => None,
        }
    }
}

/// The calls of a run, in order; `None` without strace.
fn calls(env: &TestEnv) -> Option<Vec<Call>> {
    let trace = env.root().join("trace");
    let mut strace = Command::new("strace");
    let names = "trace=open,openat,mkdir,mkdirat,rename,renameat,renameat2,fsync,fdatasync,execve";
    strace
        .args(["-f", "-y", "-qq", "-e", names, "-o"])
        .arg(&trace);
    let run = ["run", "--agent", "fake", "--task", "work"];
    env.settle(strace.arg(env!("CARGO_BIN_EXE_agent-runner")).args(run));
    let output = strace.output();
    let trace = fs::read_to_string(trace).unwrap_or_default();
    if trace.is_empty() {
        components::missing(&format!("strace cannot trace here: {output:?}"));
        return None;
    }
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(trace.lines().filter_map(Call::read).collect())
}

fn is_synced(calls: &[Call], path: &Path) -> bool {
    calls
        .iter()
        .any(|call| matches!(call, Call::Synced(synced) if synced == path))
}

/// Whether the newest file or directory of that name is in its directory for good.
fn is_lasting(calls: &[Call], path: &Path) -> bool {
    let named = |call: &Call| matches!(call, Call::Made(new) | Call::Moved(_, new) if new == path);
    let made = calls.iter().rposition(named);
    made.is_some_and(|made| is_synced(&calls[made..], path.parent().unwrap()))
}

#[test]
fn what_a_crash_is_found_and_told_by_is_on_disk_before_it_is_relied_on() {
    let env = TestEnv::new().unreachable_server().task("work", "");
    let agent = env.root().join("agent");
    fs::write(&agent, "#!/bin/sh\necho hello\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&agent, mode).unwrap();
    let command = format!("[agents.fake]\ncommand = [{agent:?}]\noutput = \"text\"");
    let env = env.config(&command);
    let Some(calls) = calls(&env) else { return };
    let first = |wanted: &dyn Fn(&Call) -> bool| calls.iter().position(wanted).unwrap();

    let (logs, run) = (env.logs(), env.run_directory("work", "fake"));
    let id = run.file_name().unwrap().to_str().unwrap();
    let metadata = run.join("metadata.json");
    let mark = logs.join(format!(".state/running/work.fake.{id}"));
    let started = first(&|call| matches!(call, Call::Started(path) if *path == agent));
    for path in mark.ancestors().chain(metadata.ancestors()) {
        let is_ours = path.starts_with(&logs);
        let lasts = || is_lasting(&calls[..started], path);
        assert!(!is_ours || lasts(), "{}: {calls:#?}", path.display());
    }

    let outbox = logs.join(".state/outbox");
    let is_told = |call: &Call| matches!(call, Call::Moved(_, to) if to.starts_with(&outbox));
    let Call::Moved(_, entry) = &calls[first(&is_told)] else {
        unreachable!("it is one");
    };
    let is_record = |call: &Call| matches!(call, Call::Moved(_, to) if *to == metadata);
    let ended = started + calls[started..].iter().position(is_record).unwrap();
    for path in [&outbox, entry] {
        let lasts = is_lasting(&calls[..ended], path);
        assert!(lasts, "{}: {calls:#?}", path.display());
    }

    // Each is whole before it has its name, and has it before anything else is done.
    for (at, call) in calls.iter().enumerate() {
        if let Call::Moved(from, to) = call
            && to.starts_with(&logs)
        {
            assert!(is_synced(&calls[..at], from), "{calls:#?}");
            assert!(
                is_synced(&calls[at..=at + 1], to.parent().unwrap()),
                "{calls:#?}"
            );
        }
    }
}
