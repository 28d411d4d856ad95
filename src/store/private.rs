//! Files for their owner alone, and never through a link that somebody else put there.

use std::fs::{self, DirBuilder, File, FileType, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::regular;
use crate::store::StoreError;

/// Creates a directory; one that exists is as good, a link is not.
pub(crate) fn create_directory(path: &Path) -> Result<(), StoreError> {
    match create_new_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_directory(path) => Ok(()),
        Ok(()) => path.parent().map_or(Ok(()), sync_directory),
        Err(error) => Err(StoreError::new("create directory", path, error)),
    }
}

/// Creates a directory that must not exist.
pub(crate) fn create_new_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Whether a directory, and no link to one, lies there.
pub(crate) fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Whether a directory of this user lies there: what root makes in another's, that one cannot use.
pub(crate) fn is_own(path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == own)
}

/// Whether a directory lies there with nothing in it.
pub(crate) fn is_empty(path: &Path) -> bool {
    is_directory(path) && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Makes the names in a directory survive a loss of power.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| StoreError::new("sync directory", path, source))
}

/// Opens a file that must not exist, for writing and reading.
pub(crate) fn create_file(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| StoreError::new("create", path, source))
}

/// Opens a file for appending and creates it where there is none.
pub(crate) fn open_append(path: &Path) -> Result<File, StoreError> {
    open_private(OpenOptions::new().append(true).create(true), path)
        .map_err(|source| StoreError::new("open", path, source))
}

/// Opens a file for reading and writing and creates it where there is none.
pub(crate) fn open_update(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    open_private(options, path).map_err(|source| StoreError::new("open", path, source))
}

/// The longest time for what others do under a lock.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

/// Takes the lock of a file or a directory that others hold for a moment; one that somebody does
/// not give back is an error.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    lock_within(file, LOCK_LIMIT)
}

/// Opens a directory and takes its lock, which lives as long as what this gives.
pub(crate) fn lock_directory(path: &Path) -> Result<File, StoreError> {
    File::open(path)
        .and_then(|directory| lock(&directory).map(|()| directory))
        .map_err(|source| StoreError::new("lock", path, source))
}

/// Opens a small text file that many update, creates it where there is none, and takes its lock;
/// gives it with what it holds, the next byte to be written behind that.
pub(crate) fn open_locked(path: &Path) -> Result<(File, String), StoreError> {
    const MAX_BYTES: u64 = 1 << 20;
    let file = open_update(path)?;
    let mut text = String::new();
    lock(&file)
        .and_then(|()| (&file).take(MAX_BYTES).read_to_string(&mut text))
        .map_err(|source| StoreError::new("update", path, source))?;
    Ok((file, text))
}

fn lock_within(file: &File, limit: Duration) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match try_lock(file) {
            Err(error) if is_taken(&error) && began.elapsed() < limit => {
                thread::park_timeout(LOCK_PAUSE);
            }
            result => return result,
        }
    }
}

/// How often it is looked whether a lock is free.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Takes a lock that is free.
pub(crate) fn try_lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::WouldBlock, "somebody else holds it")
        }
        TryLockError::Error(error) => error,
    })
}

/// Whether it is somebody else who has the lock.
pub(crate) fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Reads a small JSON file; `None` where there is none. Where it is none of ours, that is warned of
/// with what follows from it.
pub(crate) fn read_form<T: DeserializeOwned>(
    path: &Path,
    max_bytes: u64,
    consequence: &str,
) -> Option<T> {
    let form = regular::read(path, max_bytes).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
    match form {
        Ok(form) => Some(form),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "{consequence}");
            None
        }
    }
}

/// Writes a text file, over one that exists. Costs no sync: it may be torn by a crash.
pub(crate) fn overwrite(path: &Path, text: &str) -> Result<(), StoreError> {
    open_private(
        OpenOptions::new().write(true).create(true).truncate(true),
        path,
    )
    .and_then(|mut file| file.write_all(text.as_bytes()))
    .map_err(|source| StoreError::new("write", path, source))
}

/// Appends a text in one write, so that blocks of several writers do not mix.
pub(crate) fn append(path: &Path, text: &str) -> Result<(), StoreError> {
    open_append(path)?
        .write_all(text.as_bytes())
        .map_err(|source| StoreError::new("append to", path, source))
}

/// Opens a regular file for its owner alone, as [`regular::open`] does.
fn open_private(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    regular::open(options.mode(0o600), path)
}

/// Removes a file; one that is gone is as good.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::new("remove", path, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The names in a directory that are text, with what they name; none where there is no directory.
pub(crate) fn list(path: &Path) -> Result<Vec<(String, FileType)>, StoreError> {
    let list = |entries: fs::ReadDir| {
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push((name, entry.file_type()?));
            }
        }
        Ok(names)
    };
    match fs::read_dir(path).and_then(list) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(|source| StoreError::new("list", path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_not_given_back_is_an_error_and_one_that_is_is_taken() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let open = || File::open(&path).unwrap();
        let (holder, waiter) = (open(), open());
        holder.lock().unwrap();
        let refused = lock_within(&waiter, Duration::from_millis(50));
        assert!(is_taken(&refused.unwrap_err()));
        let given_back = thread::spawn(move || {
            thread::park_timeout(Duration::from_millis(50));
            drop(holder);
        });
        lock(&waiter).unwrap();
        given_back.join().unwrap();
    }
}
