//! Regular files, opened without waiting: whoever can write in a place, an agent above all, may have
//! put a pipe, a device, a link or a giant there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens what is a regular file or will be one; a link, and a pipe that nobody reads, is an error
/// and never waited for.
pub(crate) fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_with(options, path, libc::O_NOFOLLOW)
}

/// The same, also through a link.
pub(crate) fn open_linked(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    open_with(options, path, 0)
}

fn open_with(options: &mut OpenOptions, path: &Path, flags: i32) -> io::Result<File> {
    let options = options.custom_flags(flags | libc::O_NONBLOCK);
    let file = options.open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok(file)
    } else if kind.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        let reason = "it is no regular file";
        Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
    }
}

/// Opens a file for reading as [`open`] does, and tells its size.
pub(crate) fn open_read(path: &Path) -> io::Result<(File, u64)> {
    let file = open(OpenOptions::new().read(true), path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Reads a file, opened as [`open`] does, that is not larger than `max_bytes`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let (file, size) = open_read(path)?;
    if size > max_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // One byte more, so that one read finds the end.
    let mut bytes = Vec::with_capacity(usize::try_from(size + 1).unwrap_or(0));
    file.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads what a file, opened as [`open`] does, ends with: `max_bytes` of it at most.
pub(crate) fn read_end(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let (file, size) = open_read(path)?;
    let mut bytes = vec![0; usize::try_from(size.min(max_bytes)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, size.saturating_sub(max_bytes))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[test]
    fn nothing_but_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let (file, link, pipe) = (place("file"), place("link"), place("pipe"));
        fs::File::create(&file).unwrap().set_len(3).unwrap();
        symlink(&file, &link).unwrap();
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
        let read = OpenOptions::new().read(true).clone();
        assert_eq!(super::read(&file, 3).unwrap(), [0; 3]);
        let kind = |result: io::Result<Vec<u8>>| result.unwrap_err().kind();
        assert_eq!(kind(super::read(&file, 2)), io::ErrorKind::FileTooLarge);
        assert!(open(&mut read.clone(), &link).is_err());
        assert!(open_linked(&mut read.clone(), &link).is_ok());
        for other in [&pipe, directory.path(), Path::new("/dev/null")] {
            for options in [read.clone(), OpenOptions::new().append(true).clone()] {
                assert!(open(&mut options.clone(), other).is_err(), "{other:?}");
                assert!(
                    open_linked(&mut options.clone(), other).is_err(),
                    "{other:?}"
                );
            }
        }
    }
}
