//! Replacing a file whole: at every moment, also of a crash, it is absent, the old or the new one.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::Builder;

use crate::store::StoreError;
use crate::store::private::{list, remove, sync_directory};

/// How the names of temporary files begin.
const TEMPORARY: &str = ".tmp";

/// Nothing younger is a leftover: whoever made it may still be at work with it.
pub(crate) const LEFTOVER_AFTER: TimeDelta = TimeDelta::hours(1);

/// Replaces a file and returns when that survives a loss of power. Costs two syncs.
///
/// The file is for its owner alone. A link at `path` is replaced, not followed.
///
/// # Errors
/// When the disk is full or broken; what was there before is there still.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    replace(directory, path, bytes, File::sync_all)
        .map_err(|source| StoreError::new("write", path, source))?;
    sync_directory(directory)
}

/// The file that is meant by a path of a person's choice: links are followed, also one whose file
/// is still to be made.
///
/// # Errors
/// When a device, a pipe or a directory lies there, which is not to be replaced by a file.
pub fn target(path: &Path) -> Result<PathBuf, StoreError> {
    let mut target = path.to_owned();
    let failed = |error| StoreError::new("write", path, error);
    // As many as the system follows.
    for _ in 0..40 {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_symlink() => {
                let named = fs::read_link(&target).map_err(failed)?;
                target.pop();
                target.push(named);
            }
            Ok(found) if !found.is_file() => {
                let why = format!(
                    "`{}` is no regular file and is not replaced by one",
                    target.display()
                );
                return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(_) | Err(_) => return Ok(target),
        }
    }
    Err(failed(io::Error::from(rustix::io::Errno::LOOP)))
}

/// Replaces a file that every user may read, without syncs: it is made again soon. The path is a
/// person's choice, see [`target`].
pub fn write_for_all(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let path = &target(path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let open = |file: &File| file.set_permissions(Permissions::from_mode(0o644));
    replace(directory, path, bytes, open).map_err(|source| StoreError::new("write", path, source))
}

/// The same without syncs, for what can be made again: after a loss of power it may be torn.
pub(crate) fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    replace(directory, path, bytes, |_| Ok(()))
        .map_err(|source| StoreError::new("write", path, source))
}

/// What writers that died left half done in a directory: temporary files that nobody has touched for
/// a while before `now`.
pub(crate) fn leftovers(directory: &Path, now: DateTime<Utc>) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = temporary_files(directory)?;
    files.retain(|path| now - modified(path) > LEFTOVER_AFTER);
    Ok(files)
}

/// Removes what writers that died left half done in a directory in which nobody else writes.
pub(crate) fn remove_leftovers(directory: &Path) -> Result<(), StoreError> {
    let files = temporary_files(directory)?;
    files.iter().try_for_each(|path| remove(path))
}

fn temporary_files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = list(directory)?;
    files.retain(|(name, kind)| kind.is_file() && name.starts_with(TEMPORARY));
    let paths = files.into_iter().map(|(name, _)| directory.join(name));
    Ok(paths.collect())
}

/// When a file was last touched; where that cannot be told, very long ago.
pub(crate) fn modified(path: &Path) -> DateTime<Utc> {
    let time = |found: Metadata| found.modified();
    fs::symlink_metadata(path)
        .and_then(time)
        .map_or(DateTime::UNIX_EPOCH, DateTime::from)
}

/// Moves a file within one file system, over one that lies there. After a loss of power it may lie
/// at its old place.
#[expect(clippy::disallowed_methods, reason = "this is the room it points to")]
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|source| StoreError::new("move", from, source))
}

fn replace(
    directory: &Path,
    path: &Path,
    bytes: &[u8],
    finish: impl Fn(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
    file.write_all(bytes)?;
    finish(file.as_file())?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt as _, symlink};

    use super::*;

    #[test]
    fn a_path_of_a_persons_choice_is_followed_to_a_file_and_nothing_else_is_replaced() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        fs::create_dir(place("below")).unwrap();
        symlink("below/page", place("link")).unwrap();
        symlink(place("link"), place("far")).unwrap();
        for text in ["new", "newer"] {
            write_for_all(&place("far"), text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(place("below/page")).unwrap(), text);
        }
        assert!(fs::symlink_metadata(place("far")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(place("link")).unwrap().is_symlink());

        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, place("pipe"), mode).unwrap();
        symlink("pipe", place("to-pipe")).unwrap();
        symlink("loop", place("loop")).unwrap();
        for name in ["pipe", "to-pipe", "below", "loop"] {
            write_for_all(&place(name), b"x").unwrap_err();
        }
        let refused = write_for_all(&place("to-pipe"), b"x").unwrap_err();
        assert!(refused.source.to_string().contains("is no regular file"));
        let is_pipe = |name: &str| fs::metadata(place(name)).unwrap().file_type().is_fifo();
        assert!(is_pipe("pipe") && is_pipe("to-pipe"));
    }
}
