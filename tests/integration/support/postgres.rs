//! A PostgreSQL server of a test's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::real::components;
use crate::support::eventually;

/// A server on a socket of its own; it ends with the value, and when the test is killed.
#[derive(Debug)]
pub struct Postgres {
    directory: TempDir,
    server: Option<Child>,
}

impl Postgres {
    /// A new server with nothing in it. `None`: it is not installed, and the test says so.
    pub fn start() -> Option<Self> {
        let programs = (components::path("initdb")?, components::path("postgres")?);
        let directory = tempfile::Builder::new()
            .prefix("agent-runner-postgres-")
            .tempdir()
            .unwrap();
        // The server runs as another user.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let made = as_postgres(&programs.0)
            .args(["-A", "trust", "-U", "postgres", "-N", "-E", "UTF8", "-D"])
            .arg(directory.path().join("data"))
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "initdb: {errors}");
        let mut postgres = Self {
            directory,
            server: None,
        };
        postgres.serve(&programs.1);
        Some(postgres)
    }

    /// Ends the server at once and starts it again: every connection is lost.
    pub fn restart(&mut self) {
        self.end();
        self.serve(&components::path("postgres").unwrap());
    }

    pub fn url(&self) -> String {
        let sockets = self.directory.path().display();
        format!("postgres:///postgres?host={sockets}&user=postgres")
    }

    fn serve(&mut self, program: &Path) {
        let directory = self.directory.path();
        let log = directory.join("log");
        let server = as_postgres(program)
            .arg("-D")
            .arg(directory.join("data"))
            .arg("-k")
            .arg(directory)
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        self.server = Some(server);
        let log = || fs::read_to_string(&log).unwrap();
        let is_ready = eventually(Duration::from_secs(60), || {
            log().contains("ready to accept")
        });
        assert!(is_ready, "PostgreSQL does not start: {}", log());
    }

    fn end(&mut self) {
        let Some(mut server) = self.server.take() else {
            return;
        };
        // SIGQUIT: every session ends at once, and no process is left.
        let ended = Command::new("kill")
            .args(["-QUIT", &server.id().to_string()])
            .status();
        if ended.is_ok_and(|status| status.success()) {
            server.wait().unwrap();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command
        .args(["--pdeathsig=QUIT", "--"])
        .arg(program)
        .current_dir("/")
        .env_remove("LC_ALL")
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}
