//! A control group with a limit of processes, so that what forks for ever harms nobody outside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{TestEnv, eventually};

/// Waits until its input is closed, by whatever end of the test; then lets nothing in the group fork
/// any more, kills all of it, and removes it.
const GUARD: &str = r#"
read -r _
for _ in $(seq 600); do
    [ -d "$0" ] || exit 0
    echo 0 > "$0/pids.max"
    find "$0" -depth -type d | while read -r group; do
        while read -r pid; do kill -9 "$pid"; done < "$group/cgroup.procs"
        rmdir "$group"
    done
    sleep 0.1
done
exit 1"#;

/// The control group, with whatever is in it as long as this lives.
#[derive(Debug)]
pub struct ProcessLimit {
    directory: PathBuf,
    guard: Child,
}

impl ProcessLimit {
    /// Makes a group of at most `most` processes; where none can be made, tells why.
    pub fn of(most: u32) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let place = mounts.lines().find_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            let place = Path::new(fields[1]);
            let limits = match fields[2] {
                "cgroup" => fields[3].split(',').any(|option| option == "pids"),
                "cgroup2" => fs::read_to_string(place.join("cgroup.subtree_control"))
                    .is_ok_and(|all| all.split_whitespace().any(|one| one == "pids")),
                _ => false,
            };
            limits.then(|| place.to_owned())
        });
        let place = place.ok_or("no control group limits processes here")?;
        let name = format!(
            "test-of-agent-runner-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        );
        let directory = place.join(name.replace(['(', ')'], ""));
        fs::create_dir(&directory)
            .map_err(|error| format!("no control group can be made: {error}"))?;
        let guard = Command::new("setsid")
            .args(["sh", "-c", GUARD])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Self { directory, guard };
        limit.set(most);
        Ok(limit)
    }

    /// Changes the limit.
    pub fn set(&self, most: u32) {
        fs::write(self.directory.join("pids.max"), most.to_string()).unwrap();
    }

    /// How many processes and threads are in it, dead ones that nobody reaped with them.
    pub fn current(&self) -> u32 {
        let current = fs::read_to_string(self.directory.join("pids.current")).unwrap();
        current.trim().parse().unwrap()
    }

    /// How often a fork was refused.
    pub fn refused(&self) -> u64 {
        let events = fs::read_to_string(self.directory.join("pids.events")).unwrap();
        let refused = events.lines().find_map(|line| line.strip_prefix("max "));
        refused.unwrap().parse().unwrap()
    }

    /// The program with arguments, which will be in the group before it is executed.
    pub fn command(&self, env: &TestEnv, arguments: &[&str]) -> Command {
        let mut shell = Command::new("sh");
        env.settle(&mut shell);
        shell
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.directory)
            .arg(env!("CARGO_BIN_EXE_agent-runner"))
            .args(arguments);
        shell
    }
}

impl Drop for ProcessLimit {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let is_gone = eventually(Duration::from_secs(60), || !self.directory.exists());
        let is_removed = self.guard.wait().is_ok_and(|status| status.success());
        if !std::thread::panicking() {
            assert!(is_gone && is_removed, "{}", self.directory.display());
        }
    }
}
