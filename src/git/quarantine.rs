//! A repository that somebody hostile could write, made safe to fetch from.
//!
//! git reads the configuration of the repository that it fetches from, and follows what lies in it.
//! Here a repository of our own is put around two of its parts alone, the objects and the branches:
//! no configuration, hook, graft, shallow border or attribute of the other is ever read.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// The most files and directories in a repository that is fetched from.
const MAX_ENTRIES: usize = 1_000_000;

/// Why a repository is not touched.
pub(super) enum Unsafe {
    /// It holds what it must not hold.
    Found(String),
    /// It could not be looked at.
    Lost { path: PathBuf, source: io::Error },
}

/// Puts the objects and branches of the work tree's repository into `shell`, an empty bare
/// repository of ours. `max_bytes` is the most they may have.
///
/// Nothing may write in the work tree any more.
pub(super) fn enclose(work_tree: &Path, shell: &TempDir, max_bytes: u64) -> Result<(), Unsafe> {
    let theirs = work_tree.join(".git");
    if !is(&theirs, fs::FileType::is_dir)? {
        return Err(Unsafe::Found("`.git` is no directory".to_owned()));
    }
    let mut sum = Sum::default();
    for part in ["objects", "refs"] {
        let (from, to) = (theirs.join(part), shell.path().join(part));
        if !is(&from, fs::FileType::is_dir)? {
            return Err(Unsafe::Found(format!("`.git/{part}` is no directory")));
        }
        walk(&theirs, &from, &mut sum, max_bytes)?;
        lost(&to, fs::remove_dir_all(&to))?;
        lost(&to, symlink(&from, &to))?;
    }
    let packed = theirs.join("packed-refs");
    if packed.symlink_metadata().is_ok() {
        if !is(&packed, fs::FileType::is_file)? {
            return Err(Unsafe::Found("`.git/packed-refs` is no file".to_owned()));
        }
        let to = shell.path().join("packed-refs");
        lost(&to, symlink(&packed, &to))?;
    }
    Ok(())
}

#[derive(Default)]
struct Sum {
    entries: usize,
    bytes: u64,
}

/// Finds what would lead elsewhere or hold up a reader.
fn walk(root: &Path, part: &Path, sum: &mut Sum, max_bytes: u64) -> Result<(), Unsafe> {
    let mut directories = vec![part.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in lost(&directory, fs::read_dir(&directory))? {
            let path = lost(&directory, entry)?.path();
            let metadata = lost(&path, path.symlink_metadata())?;
            let inside = path.strip_prefix(root).unwrap_or(&path);
            sum.entries += 1;
            sum.bytes += metadata.len();
            let alternates = ["objects/info/alternates", "objects/info/http-alternates"];
            if metadata.is_dir() {
                directories.push(path);
            } else if !metadata.is_file() {
                let what = format!("`.git/{}` is no file", inside.display());
                return Err(Unsafe::Found(what));
            } else if alternates.iter().any(|name| inside == Path::new(name)) {
                let what = format!("`.git/{}` leads to other objects", inside.display());
                return Err(Unsafe::Found(what));
            }
            if sum.entries > MAX_ENTRIES || sum.bytes > max_bytes {
                return Err(Unsafe::Found("`.git` is too large".to_owned()));
            }
        }
    }
    Ok(())
}

fn is(path: &Path, test: impl Fn(&fs::FileType) -> bool) -> Result<bool, Unsafe> {
    match path.symlink_metadata() {
        Ok(metadata) => Ok(test(&metadata.file_type())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => lost(path, Err(error)),
    }
}

fn lost<T>(path: &Path, result: io::Result<T>) -> Result<T, Unsafe> {
    result.map_err(|source| Unsafe::Lost {
        path: path.to_owned(),
        source,
    })
}
