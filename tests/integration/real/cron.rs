//! A real cron that starts runs from the lines of `crontab.example`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_runner::process::identity;
use serde_json::Value;

use crate::real::components;
use crate::support::{TestEnv, eventually, processes_of};

/// The one crontab of a cron that sees no other; it is PID 1 of a namespace that ends with it.
const START: &str = r#"
set -e
for place in /var/spool/cron /etc/cron.d /run; do mount -t tmpfs none "$place"; done
mount --bind /dev/null /etc/crontab
mkdir -m 1730 /var/spool/cron/crontabs
"$@"
exec cron -f
"#;

/// What cron finds its own programs with, and what a job finds beside the runner.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The shipped crontab with its two lines edited: its heartbeat, and its first run as one of the
/// agent `patch` in each minute.
fn crontab(env: &TestEnv) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_agent-runner"));
    let programs = program.parent().unwrap().display();
    let shipped = include_str!("../../../crontab.example");
    let mut lines = Vec::new();
    let mut run = None;
    for line in shipped.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with("REPO=") {
            lines.push(format!("REPO={}", env.repository().display()));
        } else if line.starts_with("PATH=") {
            lines.push(format!("PATH={programs}:{PATH}"));
        } else if line.contains("agent-runner run") {
            run.get_or_insert(line);
        } else {
            lines.push(line.to_owned());
        }
    }
    let (schedule, command) = run.unwrap().split_once(" cd ").unwrap();
    assert_eq!(schedule.split(' ').count(), 5, "{schedule}");
    let command = command.replace("--agent claude", "--agent patch");
    let command = command.replace("--task document_coverage", "--task debug_hello_world");
    lines.push(format!("* * * * * cd {command}"));
    // Nothing of this machine's own configuration.
    lines.insert(0, format!("HOME={}", env.root().join("home").display()));
    lines.join("\n") + "\n"
}

/// A running cron; it and all that it started are killed when this is dropped.
struct Cron(Child);

impl Cron {
    /// Starts it after a command that installs the crontab.
    fn start(directory: &Path, install: &[&str]) -> Self {
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", START, "cron"])
            .args(install)
            .current_dir(directory)
            .env_clear()
            .env("PATH", format!("/usr/sbin:/sbin:{PATH}"))
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        // With the first process of the namespace all others end, and then `unshare` does.
        let unshare = self.0.id();
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        Command::new("kill")
            .arg("-KILL")
            .args(children.unwrap().split_whitespace())
            .status()
            .unwrap();
        self.0.wait().unwrap();
    }
}

/// Whether a cron of one's own can be started here; says why it cannot.
fn is_possible() -> bool {
    if !identity::is_root() {
        components::skipped("cron is tested by root alone");
        return false;
    }
    for program in ["/usr/sbin/cron", "/usr/bin/crontab", "/usr/bin/unshare"] {
        if !Path::new(program).exists() {
            components::missing(&format!("{program} is not installed; run tests/install"));
            return false;
        }
    }
    let attempt = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--mount-proc", "true"])
        .stderr(Stdio::null())
        .status();
    let permitted = attempt.unwrap().success();
    if !permitted {
        components::skipped("this root may not make namespaces for a cron of its own");
    }
    permitted
}

#[test]
fn real_cron_starts_a_run_and_a_heartbeat_from_the_lines_of_the_crontab_example() {
    if !is_possible() {
        return;
    }
    let env = TestEnv::new();
    let logs = env.repository().join("logs");
    fs::create_dir(&logs).unwrap();
    fs::write(env.repository().join(".git/info/exclude"), "/logs/\n").unwrap();
    let file = env.root().join("crontab");
    fs::write(&file, crontab(&env)).unwrap();

    let cron = Cron::start(env.root(), &["crontab", file.to_str().unwrap()]);
    let read = |place: &Path| fs::read_to_string(place).unwrap_or_default();
    let record = || -> Option<Value> {
        let mut runs = fs::read_dir(logs.join("debug_hello_world/patch")).ok()?;
        let run = runs.find_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_dir()))?;
        serde_json::from_str(&read(&run.join("metadata.json"))).ok()
    };
    // The next full minute, and time for the run.
    let ended = eventually(Duration::from_secs(100), || {
        record().is_some_and(|record| record["outcome"] != "running")
            && !read(&logs.join("cron.log")).is_empty()
            && !read(&logs.join("heartbeat/task.log")).is_empty()
    });
    drop(cron);

    let said = read(&logs.join("cron.log"));
    assert!(ended, "cron.log: {said}");
    let record = record().unwrap();
    assert_eq!(record["outcome"], "success", "{record:#}\n{said}");
    assert_eq!(record["commits"].as_array().unwrap().len(), 1);
    assert_eq!(record["commits"][0]["author"], "agent-runner");
    assert!(said.contains("[patch/debug_hello_world]"), "{said}");
    assert!(!said.contains("error"), "{said}");
    assert_eq!(read(&logs.join("heartbeat/task.log")).lines().count(), 1);
    assert_eq!(env.git(&["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(env.git(&["status", "--porcelain"]), "");
    assert_eq!(processes_of(env.root()), [0_u32; 0]);
}

#[test]
fn real_cron_starts_what_schedule_install_wrote_and_triage_finds_it_in_order() {
    if !is_possible() {
        return;
    }
    let env = TestEnv::new();
    let runner = format!(
        "[runner]\nrepo_root = {:?}\nlog_root = {:?}",
        env.repository(),
        env.logs()
    );
    let env = env
        .config(&runner)
        .script("fake", "text", "echo hello")
        .task("work", "schedule = \"* * * * *\"\nagents = [\"fake\"]");
    let program = env!("CARGO_BIN_EXE_agent-runner");
    let cron = Cron::start(env.root(), &[program, "schedule", "install"]);
    let log = env.logs().join("cron.log");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let beats = || fs::read_to_string(env.logs().join("heartbeat/task.log")).unwrap_or_default();
    let ended = eventually(Duration::from_secs(100), || {
        said().contains("[fake/work]") && !beats().is_empty()
    });
    drop(cron);
    assert!(ended, "cron.log: {}", said());
    let done = env.agent_runner(&["triage", "--json"]);
    let report: Value = serde_json::from_str(&done.stdout).expect(&done.stderr);
    let row = &report["rows"][0];
    assert_eq!(
        (&row["status"], &row["scheduled"]),
        (&"ok".into(), &true.into()),
        "{report:#}"
    );
    assert_eq!(processes_of(env.root()), [0_u32; 0]);
}
