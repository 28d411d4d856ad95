//! Short helper commands, such as git: run to their end under a limit, their output kept.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use thiserror::Error;
use wait_timeout::ChildExt as _;

/// A helper command.
#[derive(Clone, Copy, Debug)]
pub struct HelperCommand<'a> {
    /// The program, found in the environment's `PATH`.
    pub program: &'a OsStr,
    /// Its arguments.
    pub arguments: &'a [&'a OsStr],
    /// Its working directory.
    pub directory: &'a Path,
    /// Its whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Its standard input.
    pub stdin: &'a [u8],
    /// The longest it may take; then it is killed.
    pub limit: Duration,
}

/// What a helper command printed, and its exit status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Captured {
    /// The exit status; `None` after a signal.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

/// Why a helper command has no result.
#[derive(Debug, Error)]
pub enum HelperError {
    /// It could not be started.
    #[error("cannot start `{program}`")]
    NotStarted {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("`{program}` did not end within {}", crate::model::duration::words(*limit))]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        limit: Duration,
    },
    /// Its status or output could not be read.
    #[error("cannot follow `{program}`")]
    Lost {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
}

/// Runs a helper command to its end. Blocks, at most for its limit.
pub fn run(command: &HelperCommand<'_>) -> Result<Captured, HelperError> {
    start(command)?.finish()
}

/// A helper command that was started. Several may run side by side.
#[derive(Debug)]
pub struct RunningHelper {
    program: String,
    limit: Duration,
    child: Child,
    stdout: Pieces,
    stderr: Pieces,
}

/// Starts a helper command.
pub fn start(command: &HelperCommand<'_>) -> Result<RunningHelper, HelperError> {
    let program = command.program.to_string_lossy().into_owned();
    let lost = |source| HelperError::Lost {
        program: program.clone(),
        source,
    };
    let mut child = builder(command)
        .spawn()
        .map_err(|source| HelperError::NotStarted {
            program: program.clone(),
            source,
        })?;
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(command.stdin) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(lost(error)),
            // A helper that does not read its input says so by its exit status.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(RunningHelper {
        program,
        limit: command.limit,
        child,
        stdout,
        stderr,
    })
}

impl RunningHelper {
    /// Waits for its end, at most for its limit from now.
    pub fn finish(mut self) -> Result<Captured, HelperError> {
        let program = self.program.clone();
        let lost = |source| HelperError::Lost {
            program: program.clone(),
            source,
        };
        let Some(status) = self.child.wait_timeout(self.limit).map_err(lost)? else {
            self.child.kill().map_err(lost)?;
            self.child.wait().map_err(lost)?;
            return Err(HelperError::TimedOut {
                program,
                limit: self.limit,
            });
        };
        let stdout = joined(&self.stdout).map_err(lost)?;
        let stderr = joined(&self.stderr).map_err(lost)?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(Captured {
            code: status.code(),
            stdout,
            stderr,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the room that spawns")]
fn builder(command: &HelperCommand<'_>) -> Command {
    let mut builder = Command::new(command.program);
    let stdin = if command.stdin.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
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
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    builder
}

/// What a pipe gives, piece by piece, until it ends.
type Pieces = Receiver<io::Result<Vec<u8>>>;

/// How long a pipe may stay silent and open after the command has ended. What it started may hold
/// it for ever; 2 s, because giving up costs the whole output and a busy machine may be slow.
const LEAK_WINDOW: Duration = Duration::from_secs(2);

const PIECE_BYTES: usize = 64 * 1024;

fn read_all<R: Read + Send + 'static>(pipe: Option<R>) -> Pieces {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let piece = match pipe.read(&mut buffer) {
                Ok(0) => return,
                Ok(number) => Ok(buffer[..number].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_last = piece.is_err();
            if sender.send(piece).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

fn joined(pieces: &Pieces) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match pieces.recv_timeout(LEAK_WINDOW) {
            Ok(piece) => bytes.append(&mut piece?),
            Err(RecvTimeoutError::Disconnected) => return Ok(bytes),
            Err(RecvTimeoutError::Timeout) => {
                let why = "something that it started holds its output open";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }
}
