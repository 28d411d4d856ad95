//! Replacing a file whole: at every moment, also of a crash, it is absent, the old or the new one.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::store::StoreError;
use crate::store::private::sync_directory;

/// What the names of files begin with that are to replace others. A killed writer leaves its own.
pub(crate) const TEMPORARY: &str = ".tmp";

/// Replaces a file and returns when that survives a loss of power. Costs two syncs.
///
/// The file is for its owner alone. A link at `path` is replaced, not followed.
///
/// # Errors
/// When the disk is full or broken; what was there before is there still.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    replace(directory, path, bytes).map_err(|source| StoreError::new("write", path, source))?;
    sync_directory(directory)
}

/// Moves a file within one file system, over one that lies there. After a loss of power it may lie
/// at its old place.
#[expect(clippy::disallowed_methods, reason = "this is the room it points to")]
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(|source| StoreError::new("move", from, source))
}

fn replace(directory: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
