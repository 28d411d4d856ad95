//! What a usual repository is configured by, as far as it is known without asking git.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::git::place::Place;
use crate::git::{Git, files};
use crate::process::program;

/// Where a repository lies, and what is in each file that git reads settings from, whether it is
/// there or not. Only a digest is kept: a configuration may hold secrets.
///
/// Two that are equal configure the same, as long as no setting includes further files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Configuration {
    place: Place,
    files: Vec<Option<[u8; 32]>>,
}

impl Git {
    /// The configuration as it is now, by the rules of git-config(1), "FILES"; `None` where git may
    /// read other files than are known here.
    pub(super) fn configuration(&self) -> Option<Configuration> {
        let place = Place::usual(&self.repository)?;
        // Between here and the root git would take whatever looks like a repository for one.
        if place.top_level != self.repository.canonicalize().ok()? {
            return None;
        }
        let files = self.configuration_files(&place)?;
        // Which file another path is depends on where git is when it reads it.
        if !files.iter().all(|file| file.is_absolute()) {
            return None;
        }
        let files = files.into_iter().map(digest);
        let files = files.collect::<io::Result<_>>().ok()?;
        Some(Configuration { place, files })
    }

    fn configuration_files(&self, place: &Place) -> Option<Vec<PathBuf>> {
        let variable = |name: &str| {
            let value = self.environment.get(OsStr::new(name));
            value.filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let home = variable("HOME");
        let below_home = |path| home.as_ref().map(|home| home.join(path));
        let own = || variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let of_user = match variable("GIT_CONFIG_GLOBAL") {
            Some(file) => vec![file],
            None => [
                own().map(|own| own.join("git/config")),
                below_home(".gitconfig"),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let of_system = match variable("GIT_CONFIG_SYSTEM") {
            Some(file) => vec![file],
            None => self.system_files()?,
        };
        let of_repository = ["config", "config.worktree"].map(|name| place.directory.join(name));
        Some([&of_system, &of_user[..], &of_repository].concat())
    }

    /// Where git may have been built to look: in `/etc`, or in `etc` beside the `bin` with its
    /// program. `None` where a script is in its place.
    fn system_files(&self) -> Option<Vec<PathBuf>> {
        let search_path = self.environment.get(OsStr::new("PATH"))?;
        let program = program::find_program(Path::new("git"), search_path).ok()?;
        let real = fs::canonicalize(&program).ok()?;
        if program::interpreter(&real).is_some() {
            return None;
        }
        let beside = |program: &Path| Some(program.parent()?.parent()?.join("etc/gitconfig"));
        Some(vec![
            "/etc/gitconfig".into(),
            beside(&program)?,
            beside(&real)?,
        ])
    }
}

/// That of a file, which may be a link to one; `None` where there is none.
fn digest(path: impl AsRef<Path>) -> io::Result<Option<[u8; 32]>> {
    match fs::canonicalize(path).and_then(|path| files::read(&path)) {
        Ok(bytes) => Ok(Some(Sha256::digest(bytes).into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
