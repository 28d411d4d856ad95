//! Whether a log root can bear what is asked of it: a file that can be written, locks that hold,
//! room that is left. Leaves nothing behind.

use std::fs::TryLockError;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{statfs, statvfs};

use crate::writers;

/// A log root, or the directory in which it would be made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ground {
    /// The nearest directory that exists.
    pub directory: PathBuf,
    /// Whether that is the log root itself.
    pub exists: bool,
    /// Why nothing can be written there.
    pub unwritable: Option<String>,
    /// Why a lock does not keep others out.
    pub unlockable: Option<String>,
    /// Bytes that this user may still write.
    pub free_bytes: u64,
    /// Files that may still be made; `None` where the file system does not count them.
    pub free_files: Option<u64>,
    /// The network file system it lies on.
    pub network: Option<&'static str>,
    /// Whether other users may write in the log root.
    pub open_to_others: bool,
}

/// The network file system that a directory lies on.
#[cfg(not(target_os = "linux"))]
fn network(directory: &Path) -> io::Result<Option<&'static str>> {
    const NAMES: [(&str, &str); 4] = [
        ("nfs", "NFS"),
        ("smbfs", "SMB"),
        ("afpfs", "AFP"),
        ("webdav", "WebDAV"),
    ];
    let kind = statfs(directory)?.f_fstypename;
    let bytes = kind.iter().map(|byte| byte.cast_unsigned());
    let kind: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    let known = NAMES.iter().find(|(name, _)| name.as_bytes() == kind);
    Ok(known.map(|(_, name)| *name))
}

/// The network file system that a directory lies on.
#[cfg(target_os = "linux")]
fn network(directory: &Path) -> io::Result<Option<&'static str>> {
    let kind = statfs(directory)?.f_type & 0xffff_ffff;
    let known = NETWORK.iter().find(|(number, _)| *number == kind);
    Ok(known.map(|(_, name)| *name))
}

/// Network file systems by their number, see statfs(2): their locks hold on one machine at most.
#[cfg(target_os = "linux")]
const NETWORK: [(i64, &str); 4] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
];

/// Looks at the ground of a log root, with a temporary file that is gone afterwards.
///
/// # Errors
/// When not even a directory above it can be looked at.
pub fn survey(root: &Path) -> io::Result<Ground> {
    let directory = root.ancestors().find(|path| path.is_dir());
    let directory = directory.unwrap_or(Path::new("/"));
    let (space, network) = (statvfs(directory)?, network(directory)?);
    let (unwritable, unlockable) = match write_and_lock(directory) {
        Ok(unlockable) => (None, unlockable),
        Err(error) => (Some(error.to_string()), None),
    };
    Ok(Ground {
        exists: directory == root,
        unwritable,
        unlockable,
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        free_files: (space.f_files > 0).then_some(space.f_favail),
        network,
        open_to_others: directory == root && writers::has_others(root),
        directory: directory.to_owned(),
    })
}

/// Writes a file and locks it; gives why the lock does not hold.
fn write_and_lock(directory: &Path) -> io::Result<Option<String>> {
    let mut file = tempfile::Builder::new()
        .prefix(".agent-runner-trial-")
        .tempfile_in(directory)?;
    file.write_all(b"trial")?;
    file.as_file().sync_all()?;
    let other = file.reopen()?;
    if let Err(error) = file.as_file().lock() {
        return Ok(Some(format!("a file cannot be locked: {error}")));
    }
    Ok(match other.try_lock() {
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => Some(format!("a file cannot be locked: {error}")),
        Ok(()) => Some("a file could be locked twice at once".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_good_log_root_is_told_as_such_and_nothing_stays_in_it() {
        let root = tempfile::tempdir().unwrap();
        let ground = survey(root.path()).unwrap();
        assert!(ground.exists && ground.free_bytes > 0);
        assert_eq!((ground.unwritable, ground.unlockable), (None, None));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        let ground = survey(&root.path().join("logs/below")).unwrap();
        assert_eq!(
            (ground.exists, ground.directory.as_path()),
            (false, root.path())
        );
    }
}
