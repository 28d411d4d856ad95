//! Removing a directory that somebody else has filled.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

/// Removes a directory and all below it; one that is not there is removed already.
///
/// No symbolic link is followed. Directories without permissions are given them; directories of any
/// depth are taken apart without running out of stack, descriptors or path length. Another file
/// system that is mounted inside is an error.
pub fn remove_workspace(directory: &Path) -> io::Result<()> {
    match open_directory(CWD, directory) {
        Ok(root) => take_apart(&root)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    fs::remove_dir(directory)
}

/// Empties a directory. Whatever directories are found in its directories are moved up into it, so
/// that no more than two are ever open.
fn take_apart(root: &OwnedFd) -> io::Result<()> {
    let mut moved: u64 = 0;
    loop {
        let mut is_empty = true;
        for name in names(root)? {
            is_empty = false;
            if !is_directory(root, &name)? {
                unlinkat(root, &*name, AtFlags::empty())?;
                continue;
            }
            let child = open_directory(root, &*name)?;
            for inner in names(&child)? {
                if !is_directory(&child, &inner)? {
                    unlinkat(&child, &*inner, AtFlags::empty())?;
                    continue;
                }
                // Moving a directory writes its `..`.
                drop(open_directory(&child, &*inner)?);
                loop {
                    moved += 1;
                    let free = format!(".removed-{moved}");
                    if !exists(root, &free)? {
                        renameat(&child, &*inner, root, free)?;
                        break;
                    }
                }
            }
            unlinkat(root, &*name, AtFlags::REMOVEDIR)?;
        }
        if is_empty {
            return Ok(());
        }
    }
}

fn names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn is_directory(parent: &OwnedFd, name: &CStr) -> io::Result<bool> {
    let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

fn exists(parent: &OwnedFd, name: &str) -> io::Result<bool> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory, never a link to one, after it was given all permissions of its owner.
#[cfg(not(target_os = "linux"))]
fn open_directory(
    parent: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg + Copy,
) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(&parent, name, flags, Mode::empty());
    let handle = match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(&parent, name, Mode::RWXU, AtFlags::SYMLINK_NOFOLLOW)?;
            open()?
        }
        opened => opened?,
    };
    rustix::fs::fchmod(&handle, Mode::RWXU)?;
    Ok(handle)
}

/// Opens a directory, never a link to one, after it was given all permissions of its owner.
#[cfg(target_os = "linux")]
fn open_directory(
    parent: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    // The handle itself cannot be given permissions, its name in /proc can.
    let place = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
    rustix::fs::chmod(&*place, Mode::RWXU)?;
    Ok(openat(
        &handle,
        c".",
        flags | OFlags::RDONLY,
        Mode::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_directory_that_resists_is_removed_and_no_link_is_followed() {
        let space = tempfile::tempdir().unwrap();
        let keep = space.path().join("keep");
        fs::create_dir_all(keep.join("inner")).unwrap();
        fs::File::create(keep.join("file")).unwrap();
        let work = space.path().join("work");
        fs::create_dir_all(work.join("closed/inner/deeper")).unwrap();
        fs::create_dir_all(work.join(".removed-1/x")).unwrap();
        symlink(&keep, work.join("closed/link")).unwrap();
        symlink("/", work.join("root")).unwrap();
        for closed in ["closed/inner/deeper", "closed/inner", "closed"] {
            let none = fs::Permissions::from_mode(0o000);
            fs::set_permissions(work.join(closed), none).unwrap();
        }
        remove_workspace(&work).unwrap();
        assert!(!work.exists());
        assert!(keep.join("inner").is_dir() && keep.join("file").is_file());
        remove_workspace(&work).unwrap();

        symlink(&keep, &work).unwrap();
        assert!(remove_workspace(&work).is_err(), "a link is no workspace");
        assert!(keep.join("file").is_file());
    }

    #[test]
    fn directories_deeper_than_any_path_are_removed() {
        let space = tempfile::tempdir().unwrap();
        let work = space.path().join("work");
        fs::create_dir(&work).unwrap();
        let mut at = open_directory(CWD, &*work).unwrap();
        let name = "d".repeat(200);
        for _ in 0..2000 {
            rustix::fs::mkdirat(&at, &*name, Mode::RWXU).unwrap();
            at = open_directory(&at, &*name).unwrap();
        }
        drop(at);
        remove_workspace(&work).unwrap();
        assert!(!work.exists());
    }
}
