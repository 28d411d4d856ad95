//! Replacing a file whole: at every moment, also of a crash, it is absent, the old or the new one.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tempfile::Builder;

use crate::store::StoreError;
use crate::store::private::{list, remove, sync_directory};

/// How the names of temporary files begin.
pub(crate) const TEMPORARY: &str = ".tmp";

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

/// Replaces a file that every user may read, without syncs: it is made again soon.
pub fn write_for_all(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
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

/// Removes what writers that died left half done in a directory: their temporary files, when they
/// have not been touched for this long.
pub(crate) fn remove_leftovers(directory: &Path, untouched: Duration) -> Result<(), StoreError> {
    for (name, kind) in list(directory)? {
        let path = directory.join(&name);
        let is_old = || {
            let age = fs::symlink_metadata(&path).and_then(|file| file.modified());
            untouched.is_zero()
                || age.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > untouched))
        };
        if name.starts_with(TEMPORARY) && kind.is_file() && is_old() {
            remove(&path)?;
        }
    }
    Ok(())
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
