//! Whether git leaves alone what lies in a directory, for one in which the runner keeps its records.
//! The repository of a [`Git`] is that directory here.

use std::ffi::OsStr;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::git::{Git, GitError};
use crate::regular;

/// Tracked so that a directory is there or ignored; they hold nothing of anybody.
const KEEPERS: [&str; 3] = [".gitignore", ".gitkeep", ".keep"];

impl Git {
    /// Those of the directories, named from here, in which git would take a new file into a commit;
    /// none where there is no work tree.
    pub fn unignored<'a>(&self, directories: &[&'a str]) -> Result<Vec<&'a str>, GitError> {
        let files: Vec<String> = (directories.iter())
            .map(|directory| format!("{directory}/file"))
            .collect();
        let arguments = ["check-ignore", "-z", "--stdin"];
        let captured = self.run(&arguments, files.join("\0").as_bytes())?;
        // Status 1: none is ignored.
        if !matches!(captured.code, Some(0 | 1)) {
            return match self.refused(&arguments, &captured) {
                GitError::NotARepository { .. } | GitError::NoWorkTree { .. } => Ok(Vec::new()),
                error => Err(error),
            };
        }
        let ignored: Vec<&[u8]> = captured.stdout.split(|byte| *byte == 0).collect();
        let is_ignored = |file: &String| ignored.contains(&file.as_bytes());
        let named = directories.iter().zip(&files);
        let unignored = named.filter(|(_, file)| !is_ignored(file));
        Ok(unignored.map(|(directory, _)| *directory).collect())
    }

    /// Adds the directories, named from here, to `info/exclude` of the repository and returns that
    /// file. Patterns in a `.gitignore` outrank it.
    ///
    /// # Errors
    /// When the file cannot be written, as where it is a link.
    pub fn exclude(&self, directories: &[&str]) -> Result<PathBuf, GitError> {
        let find = [
            "rev-parse",
            "--path-format=absolute",
            "--git-path",
            "info/exclude",
            "--show-prefix",
        ];
        let found = self.read(&find)?;
        let lines: Vec<&[u8]> = found.split(|byte| *byte == b'\n').collect();
        let [file, prefix, b""] = lines[..] else {
            return Err(GitError::output("rev-parse"));
        };
        let file = PathBuf::from(OsStr::from_bytes(file));
        let mut text = b"\n# Records of agent-runner.\n".to_vec();
        for directory in directories {
            text.push(b'/');
            for byte in prefix.iter().chain(directory.as_bytes()) {
                if b"\\*?[ ".contains(byte) {
                    text.push(b'\\');
                }
                text.push(*byte);
            }
            text.extend(b"/\n");
        }
        append(&file, &text).map_err(|source| GitError::Exclude {
            path: file.clone(),
            source,
        })?;
        Ok(file)
    }

    /// A file here or below that git tracks.
    pub fn tracked_here(&self) -> Result<Option<PathBuf>, GitError> {
        let files = match self.read(&["ls-files", "-z"]) {
            Err(GitError::NotARepository { .. } | GitError::NoWorkTree { .. }) => return Ok(None),
            files => files?,
        };
        let paths = files
            .split(|byte| *byte == 0)
            .filter(|path| !path.is_empty());
        let mut paths = paths.map(|path| Path::new(OsStr::from_bytes(path)));
        let is_keeper = |path: &&Path| {
            path.file_name()
                .is_some_and(|name| KEEPERS.iter().any(|keeper| name == *keeper))
        };
        Ok(paths.find(|path| !is_keeper(path)).map(Path::to_owned))
    }
}

/// Appends to a file of the repository, never through a link that somebody put there.
fn append(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).create(directory)?;
    }
    regular::open(OpenOptions::new().append(true).create(true), path)?.write_all(text)
}
