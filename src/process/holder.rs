//! Stopping the process that holds a file's lock, and no other that has its number by now.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use thiserror::Error;

use crate::process::identity;
use crate::process::ps;
use crate::process::system::{IS_LINUX, ProcessHandle};

/// Why a process was not asked to end.
#[derive(Debug, Error)]
pub enum HolderError {
    /// There is no process of that number, or it does not hold the lock.
    #[error("process {0} does not hold the lock of the run")]
    Other(u32),
    /// It belongs to another user.
    #[error("process {0} belongs to another user")]
    Forbidden(u32),
    /// The system refused.
    #[error("process {0} cannot be asked to end")]
    System(u32, #[source] io::Error),
}

/// Asks a process to end (SIGTERM), if it holds the exclusive lock of a file.
///
/// The lock is its proof: a number may have passed to another process. A process that is stopped is
/// also continued, or it would not hear.
pub fn terminate(number: u32, locked: &Path) -> Result<(), HolderError> {
    let gone = || HolderError::Other(number);
    let system = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => HolderError::Other(number),
        io::ErrorKind::PermissionDenied => HolderError::Forbidden(number),
        _ => HolderError::System(number, error),
    };
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(gone)?;
    // From here on the handle means the process that is looked at, or one that has ended.
    let handle = ProcessHandle::open(pid).map_err(|errno| match errno {
        Errno::SRCH => gone(),
        errno => system(errno.into()),
    })?;
    if !holds_lock(number, locked).map_err(system)? {
        return Err(gone());
    }
    let is_stopped = identity::stat(pid).is_some_and(|process| process.is_stopped);
    let send = |signal| match handle.send(signal) {
        Err(Errno::SRCH) => Err(gone()),
        sent => sent.map_err(|errno| system(errno.into())),
    };
    send(Signal::TERM)?;
    if is_stopped {
        send(Signal::CONT)?;
    }
    Ok(())
}

/// The process that took the exclusive lock of a file, for [`terminate`] to look at; `None` where
/// the system does not tell. See proc(5), `/proc/locks`.
pub fn holder(file: &Path) -> Option<u32> {
    let inode = fs::symlink_metadata(file).ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        // `1: FLOCK  ADVISORY  WRITE 9373 fe:00:11322689 0 EOF`; a waiting one has `->` before it.
        let mut words = line.split_whitespace().skip(1);
        let is_lock =
            ["FLOCK", "ADVISORY", "WRITE"].map(Some) == [words.next(), words.next(), words.next()];
        let number = words.next()?.parse().ok().filter(|_| is_lock)?;
        let place = words.next()?.rsplit(':').next()?;
        // Files of other systems may have the same inode.
        (place == inode && holds_lock(number, file).ok()?).then_some(number)
    })
}

/// Whether one of a process's descriptors holds the exclusive lock of a file. See proc(5),
/// `/proc/pid/fdinfo`. Where there is none, it is enough that somebody has the lock and the process
/// has the file open.
fn holds_lock(number: u32, file: &Path) -> io::Result<bool> {
    if !IS_LINUX {
        return match File::open(file)?.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(ps::has_open(number, file)),
            Err(TryLockError::Error(error)) => Err(error),
        };
    }
    let wanted = fs::symlink_metadata(file)?;
    for descriptor in fs::read_dir(format!("/proc/{number}/fd"))? {
        let path = descriptor?.path();
        // One may be closed meanwhile.
        let Ok(open) = fs::metadata(&path) else {
            continue;
        };
        if (open.dev(), open.ino()) != (wanted.dev(), wanted.ino()) {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let told = fs::read_to_string(format!("/proc/{number}/fdinfo/{name}"));
        let is_lock = |line: &str| {
            line.starts_with("lock:") && line.contains("FLOCK") && line.contains("WRITE")
        };
        if told.is_ok_and(|told| told.lines().any(is_lock)) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_holder_of_the_lock_is_taken_for_it() {
        let own = std::process::id();
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!holds_lock(own, file.path()).unwrap(), "it is only open");
        file.as_file().lock_shared().unwrap();
        assert!(
            !holds_lock(own, file.path()).unwrap(),
            "whoever looks shares it"
        );
        file.as_file().lock().unwrap();
        assert!(holds_lock(own, file.path()).unwrap());
        assert_eq!(holder(file.path()), IS_LINUX.then_some(own));
        let other = tempfile::NamedTempFile::new().unwrap();
        other.as_file().lock().unwrap();
        assert!(!holds_lock(1, file.path()).unwrap_or(false));
        let copy = file.path().with_extension("copy");
        fs::copy(file.path(), &copy).unwrap();
        assert!(!holds_lock(own, &copy).unwrap(), "another file");
        assert_eq!(holder(&copy), None);
        fs::remove_file(copy).unwrap();
        for number in [0, u32::MAX, 999_999_999] {
            let refused = terminate(number, file.path()).unwrap_err();
            assert!(matches!(refused, HolderError::Other(_)), "{refused}");
        }
    }
}
