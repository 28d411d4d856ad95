//! Trying for real what cannot be known by looking: whether processes can be held together.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::model::invocation::StopSignal;
use crate::model::process_end::{ProcessExit, Stream};
use crate::model::task::Containment;
use crate::process::shutdown::Shutdown;
use crate::process::supervise::{Act, Observer, Process, supervise};
use crate::process::watchdog::{Activity, Limits};

/// The longest trial: a process that ends at once.
const LIMIT: Duration = Duration::from_secs(5);

/// Runs `program --version` as a run is run, and tells what held its processes together.
///
/// Must run on the main thread, as [`supervise`].
///
/// # Errors
/// Why what is wanted does not work here, as a sentence.
pub async fn contain(
    wanted: Option<Containment>,
    program: &Path,
    environment: &[(OsString, OsString)],
    shutdown: &mut Shutdown,
) -> Result<Containment, String> {
    let marker = format!("trial@{}", std::process::id());
    let process = Process {
        program,
        arguments: &["--version".to_owned()],
        directory: Path::new("/"),
        environment,
        stdin: &[],
        containment: wanted,
        stop_signal: StopSignal::Terminate,
        marker: &marker,
    };
    let limits = Limits {
        timeout: LIMIT,
        stall_timeout: None,
        grace_period: Duration::ZERO,
        patience: LIMIT,
    };
    let end = supervise(&process, limits, &mut Deaf, shutdown).await;
    conclude(program, end.exit, end.containment)
}

fn conclude(
    program: &Path,
    exit: ProcessExit,
    containment: Option<Containment>,
) -> Result<Containment, String> {
    let tried = format!("`{} --version`, run on trial,", program.display());
    match (exit, containment) {
        (ProcessExit::Code(0), Some(containment)) => Ok(containment),
        (ProcessExit::NotStarted(why) | ProcessExit::Unknown(why), _) => Err(why),
        (ProcessExit::Code(code), _) => Err(format!("{tried} ended with status {code}")),
        (ProcessExit::Signal(signal), _) => Err(format!("{tried} was ended by signal {signal}")),
    }
}

/// Nobody reads what the process prints.
struct Deaf;

impl Observer for Deaf {
    fn printed(&mut self, _stream: Stream, _bytes: &[u8], _elapsed: Duration) -> Activity {
        Activity::Output
    }

    fn acted(&mut self, _act: Act, _elapsed: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_that_fails_is_told_with_what_was_tried() {
        let conclude = |exit| conclude(Path::new("/bin/x"), exit, None).unwrap_err();
        let tried = "`/bin/x --version`, run on trial,";
        let ended = conclude(ProcessExit::Code(3));
        assert_eq!(ended, format!("{tried} ended with status 3"));
        let killed = conclude(ProcessExit::Signal(9));
        assert_eq!(killed, format!("{tried} was ended by signal 9"));
    }
}
