//! A program that is started beside this one, watched without waiting, and asked to end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::model::process_end::ProcessExit;
use crate::process::system::{ExitWatch, reap, spawn_follower};

/// What is started.
#[derive(Debug)]
pub struct ChildCommand<'a> {
    /// The program's file.
    pub program: &'a Path,
    /// Its arguments.
    pub arguments: &'a [OsString],
    /// Its working directory.
    pub directory: &'a Path,
    /// Its whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Its standard input.
    pub stdin: Stdio,
    /// Where its standard output goes.
    pub stdout: File,
    /// Where its standard error goes.
    pub stderr: File,
}

/// A program that runs. It is asked to end (SIGTERM) when this is dropped, and on Linux when this
/// process dies.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    exit: ExitWatch,
    has_ended: bool,
}

impl Child {
    /// Starts a program. Call it on the main thread, within a runtime: the program is asked to end
    /// when the thread does.
    ///
    /// # Errors
    /// Those of fork and exec, or when descriptors have run out.
    #[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
    pub fn start(command: ChildCommand<'_>) -> io::Result<Self> {
        let mut builder = Command::new(command.program);
        builder
            .args(command.arguments)
            .current_dir(command.directory)
            .env_clear()
            .envs(
                command
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(command.stdin)
            .stdout(command.stdout)
            .stderr(command.stderr);
        let pid = spawn_follower(&mut builder)?;
        Ok(Self {
            pid,
            exit: ExitWatch::begin(pid)?,
            has_ended: false,
        })
    }

    /// Waits for its end. May be given up and called again.
    ///
    /// # Errors
    /// When the kernel does not tell how it ended.
    pub async fn ended(&mut self) -> io::Result<ProcessExit> {
        self.exit.ended().await?;
        let exit = reap(self.pid)?.exit;
        self.has_ended = true;
        Ok(exit)
    }

    /// Asks it to end.
    pub fn ask_to_end(&self) {
        if self.has_ended {
            return;
        }
        if let Err(error) = kill_process(self.pid, Signal::TERM) {
            tracing::debug!(%error, "a child is not asked to end");
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.ask_to_end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Child {
        Child::start(ChildCommand {
            program: Path::new("/bin/sh"),
            arguments: &["-c".into(), script.into()],
            directory: Path::new("/"),
            environment: &[("PATH".into(), "/usr/bin:/bin".into())],
            stdin: Stdio::null(),
            stdout: tempfile::tempfile().unwrap(),
            stderr: tempfile::tempfile().unwrap(),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_child_tells_its_end_and_is_asked_to_end() {
        assert_eq!(sh("exit 3").ended().await.unwrap(), ProcessExit::Code(3));
        let mut child = sh("trap 'exit 7' TERM; sleep 60 & wait");
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        child.ask_to_end();
        assert_eq!(child.ended().await.unwrap(), ProcessExit::Code(7));
        let killed = sh("kill -9 $$").ended().await;
        assert_eq!(killed.unwrap(), ProcessExit::Signal(9));
    }
}
