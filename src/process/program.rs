//! Finding a program file the way a shell does.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use thiserror::Error;

use crate::regular;

/// Why a program cannot be started.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ProgramError {
    /// No directory of the search path has it.
    #[error("`{name}` is not in PATH ({path})")]
    NotInPath {
        /// The name that was looked for.
        name: String,
        /// The directories that were searched.
        path: String,
    },
    /// The file does not exist.
    #[error("`{0}` does not exist")]
    Missing(PathBuf),
    /// The file exists, and may not be executed.
    #[error("`{0}` is not executable")]
    NotExecutable(PathBuf),
    /// It is a directory.
    #[error("`{0}` is a directory")]
    Directory(PathBuf),
}

impl ProgramError {
    /// The reason in a few words, for a list.
    pub fn brief(&self) -> String {
        match self {
            Self::NotInPath { name, .. } => format!("`{name}` is not in PATH"),
            Self::Missing(_) | Self::NotExecutable(_) | Self::Directory(_) => self.to_string(),
        }
    }
}

/// The search path of an environment.
pub(super) fn search_path(environment: &[(OsString, OsString)]) -> &OsStr {
    let path = environment.iter().find(|(name, _)| name == "PATH");
    path.map_or(OsStr::new(""), |(_, value)| value)
}

/// Finds `name`: a path when it has a slash, else in the directories of `search_path`.
pub fn find_program(name: &Path, search_path: &OsStr) -> Result<PathBuf, ProgramError> {
    if name.as_os_str().as_bytes().contains(&b'/') {
        return check(name).map(|()| name.to_owned());
    }
    let mut refused = None;
    for directory in std::env::split_paths(search_path).filter(|path| path.is_absolute()) {
        let file = directory.join(name);
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(ProgramError::Missing(_)) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let path = search_path.to_string_lossy().into_owned();
    Err(refused.unwrap_or(ProgramError::NotInPath {
        name: name.display().to_string(),
        path,
    }))
}

fn check(file: &Path) -> Result<(), ProgramError> {
    let Ok(metadata) = fs::metadata(file) else {
        return Err(ProgramError::Missing(file.to_owned()));
    };
    if metadata.is_dir() {
        return Err(ProgramError::Directory(file.to_owned()));
    }
    access(file, Access::EXEC_OK).map_err(|_errno| ProgramError::NotExecutable(file.to_owned()))
}

/// The program that a script names in its first line, as [`find_program`] takes it: `node` for
/// `#!/usr/bin/env node`. `None` for what is no script.
pub fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    open(program)?.take(256).read_to_end(&mut head).ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let first = Path::new(words.next()?);
    if first.file_name()? != "env" {
        return Some(first.to_owned());
    }
    // `env -S node --flag`, `env NAME=value node`.
    words
        .find(|word| !word.starts_with('-') && !word.contains('='))
        .map(PathBuf::from)
}

/// The version in the nearest `package.json` above the real program file: how a CLI from npm tells
/// its version without being started.
pub fn packaged_version(program: &Path) -> Option<String> {
    let real = fs::canonicalize(program).ok()?;
    let manifest = real.ancestors().skip(1).take(6).find_map(|directory| {
        let mut text = String::new();
        let file = open(&directory.join("package.json"))?;
        file.take(MAX_MANIFEST_BYTES)
            .read_to_string(&mut text)
            .ok()?;
        Some(text)
    })?;
    let manifest: serde_json::Value = serde_json::from_str(&manifest).ok()?;
    Some(manifest.get("version")?.as_str()?.to_owned())
}

/// What is cut off here is no manifest any more.
const MAX_MANIFEST_BYTES: u64 = 1024 * 1024;

fn open(path: &Path) -> Option<fs::File> {
    regular::open_linked(fs::OpenOptions::new().read(true), path).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_pipe_above_an_agents_program_is_not_waited_for() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("bin");
        fs::create_dir(&inner).unwrap();
        mkfifoat(CWD, inner.join("package.json"), Mode::RUSR).unwrap();
        let mut manifest = fs::File::create(root.path().join("package.json")).unwrap();
        manifest.write_all(br#"{"version":"1.2"}"#).unwrap();
        let program = inner.join("agent");
        fs::File::create(&program).unwrap();
        assert_eq!(packaged_version(&program).as_deref(), Some("1.2"));
        assert_eq!(interpreter(&inner.join("package.json")), None);
    }
}
