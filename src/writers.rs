//! Who else on this machine can write a file, or in a directory.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Whether every user can. In a sticky directory nobody can change what is another's, and below one
/// that lets nobody in nobody can do anything.
pub(crate) fn has_everybody(path: &Path) -> bool {
    has(path, 0o007)
}

/// Whether any other user can, be it by a group; one with the owner's number is the owner's alone.
pub(crate) fn has_others(path: &Path) -> bool {
    has(path, 0o077)
}

fn has(path: &Path, users: u32) -> bool {
    let allows = |path: &Path, what: u32| {
        let Ok(found) = path.metadata() else {
            return false;
        };
        let mode = found.mode();
        let is_group_own = found.uid() == found.gid();
        let users = if is_group_own { users & 0o007 } else { users };
        let is_sticky = what == 0o222 && path.is_dir() && mode & 0o1000 != 0;
        mode & what & users != 0 && !is_sticky
    };
    // A link lets in whom that lets in which it leads to.
    allows(path, 0o222)
        && path.canonicalize().is_ok_and(|path| {
            let mut above = path.ancestors().skip(1);
            above.all(|directory| allows(directory, 0o111))
        })
}

/// What a person does about it.
pub(crate) fn remedy(users: &str, path: &Path) -> String {
    format!(
        "chmod {users}-w {}; where that changes nothing, as on drvfs, SMB or vfat, mount it so that only \
         you can write",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn whom_a_directory_above_keeps_out_does_not_write() {
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        let (home, link) = (root.path().join("home"), root.path().join("link"));
        let place = home.join("place");
        fs::create_dir_all(&place).unwrap();
        symlink(&place, &link).unwrap();
        set(root.path(), 0o755).unwrap();
        let own = root.path().metadata().unwrap().uid();
        // Only root can give it another group.
        let has_group = [&home, &place].iter().all(|path| {
            chown(path, None, Some(own + 1)).is_ok() || path.metadata().unwrap().gid() != own
        });
        for (above, mode, everybody, others) in [
            (0o755, 0o755, false, false),
            (0o755, 0o775, false, has_group),
            (0o755, 0o777, true, true),
            (0o755, 0o1777, false, false),
            (0o744, 0o777, false, false),
            (0o750, 0o777, false, has_group),
            (0o700, 0o777, false, false),
        ] {
            set(&place, mode).unwrap();
            set(&home, above).unwrap();
            for path in [&place, &link] {
                let found = (has_everybody(path), has_others(path));
                assert_eq!(found, (everybody, others), "{above:o} {mode:o}");
            }
        }
        assert!(!has_others(&home.join("none")));
        // A group of its own, as most systems give each user.
        set(&home, 0o755).unwrap();
        set(&place, 0o775).unwrap();
        if chown(&place, None, Some(own)).is_ok() {
            assert!(!has_others(&place));
        }
    }
}
