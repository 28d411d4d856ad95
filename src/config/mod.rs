//! The configuration: what applies to this call, and where every value comes from.
//!
//! Key by key the order is flag, environment, file, default. The defaults are the shipped
//! `config.toml`, read by the same code as a user's file, so what people read there is in force.
//! A task's or an agent's own value is more specific than the runner-wide one, whatever layer that
//! comes from. This room reads one file and takes one look at the environment ([`mod@env`]); it
//! starts nothing, and checks neither that a binary nor that a directory exists.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::env::Environment;
use crate::config::error::ConfigError;
use crate::config::layer::Layer;
use crate::config::origin::Origin;
use crate::config::settings::{Settings, Warning};
use crate::regular;
use crate::writers;

mod check;
pub mod env;
pub mod error;
mod file;
mod layer;
pub mod origin;
#[cfg(test)]
mod page;
mod resolve;
pub mod schedule;
pub mod settings;
#[cfg(test)]
mod tests;
mod value;

/// The lowest layer: the file that ships with the program.
pub const SHIPPED: &str = include_str!("../../config.toml");

/// What the command line says; it beats every other layer.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`: the configuration file.
    pub config: Option<PathBuf>,
    /// `--repo`: the repository.
    pub repo: Option<PathBuf>,
    /// `--timeout`: the longest run, for every task.
    pub timeout: Option<Duration>,
    /// `--model`: the model, for every agent.
    pub model: Option<String>,
}

/// Finds the configuration file, reads it and resolves every setting.
///
/// `current_directory` is absolute. Relative paths of a file are relative to its directory, those
/// of environment and flags to the current directory.
///
/// # Errors
/// At the first wrong key, type or value, and when a file that was named cannot be read.
pub fn load(
    environment: &Environment,
    current_directory: &Path,
    overrides: &Overrides,
) -> Result<Settings, ConfigError> {
    let shipped = Layer::parse(None, SHIPPED)?;
    let file = find_file(environment, current_directory, overrides)?;
    let user = match &file {
        Some(file) => Some(Layer::parse(Some(&file.shown), &file.text)?),
        None => None,
    };
    if let Some(user) = &user {
        check::own_file(user, &shipped.form)?;
    }
    let mut settings = resolve::Resolver {
        environment,
        current_directory,
        overrides,
        file: file.as_ref().map(|file| file.path.as_path()),
        user: user.as_ref(),
        shipped: &shipped,
    }
    .settings()?;
    let warning = file.as_ref().and_then(|file| file.warning.clone());
    settings.warnings.extend(warning);
    let unknown = environment.unknown(settings.agents.keys());
    settings.warnings.extend(unknown);
    Ok(settings)
}

struct FoundFile {
    /// Absolute.
    path: PathBuf,
    /// As people named it, for messages.
    shown: PathBuf,
    text: String,
    /// What is wrong with it, although it can be read.
    warning: Option<Warning>,
}

fn find_file(
    environment: &Environment,
    current_directory: &Path,
    overrides: &Overrides,
) -> Result<Option<FoundFile>, ConfigError> {
    let named = match (&overrides.config, environment.path(env::CONFIG)) {
        (Some(path), _) => Some((path.clone(), Origin::Flag("--config"))),
        (None, Some(path)) => Some((path, Origin::Environment(env::CONFIG.to_owned()))),
        (None, None) => None,
    };
    if let Some((shown, origin)) = named {
        return read(current_directory, shown, Some(origin)).map(Some);
    }
    let places = [
        Some(PathBuf::from("config.toml")),
        environment
            .user_directory()
            .map(|directory| directory.join("agent-runner/config.toml")),
    ];
    for shown in places.into_iter().flatten() {
        match read(current_directory, shown, None) {
            Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// A larger file is none that a person wrote.
const MAX_FILE_BYTES: u64 = 1 << 20;

fn read(
    current_directory: &Path,
    shown: PathBuf,
    named_by: Option<Origin>,
) -> Result<FoundFile, ConfigError> {
    let path = current_directory.join(&shown);
    match read_regular(&path) {
        Ok((text, metadata)) => Ok(FoundFile {
            warning: writable_by_others(&path, &metadata).or_else(|| replaceable_by_others(&path)),
            path,
            shown,
            text,
        }),
        Err(source) => Err(ConfigError::Read {
            path: shown,
            named_by,
            source,
        }),
    }
}

/// Reads a regular file, also through a link, with what the system knows of it. Nothing else is
/// waited for or read without end, and only where there is no name at all there is no file.
fn read_regular(path: &Path) -> io::Result<(String, Metadata)> {
    let file = match regular::open_linked(File::options().read(true), path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            let reason = "it is a link that leads nowhere";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.split(|byte| *byte == b'\n').count();
        let reason = format!("line {line} holds bytes that are not UTF-8: write it anew");
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })?;
    Ok((text, metadata))
}

/// Whoever can write the file decides which programs run, as whom the runner runs.
fn writable_by_others(path: &Path, metadata: &Metadata) -> Option<Warning> {
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let shown = path.display();
    let (what, fix) = if writers::has_everybody(path) {
        let what =
            format!("everybody on this machine can write `{shown}`, and so run commands as you");
        (what, writers::remedy("o", path))
    } else if owner != own && owner != 0 {
        let what = format!(
            "`{shown}` belongs to another user (number {owner}), who can so run commands as you"
        );
        (
            what,
            "name a copy that belongs to you by --config or AGENT_RUNNER_CONFIG".to_owned(),
        )
    } else {
        return None;
    };
    let about = "file";
    Some(Warning { about, what, fix })
}

/// So does whoever can put another in its place: in the directory of its name, and in the one that it
/// lies in where that is a link.
fn replaceable_by_others(path: &Path) -> Option<Warning> {
    let real = path.canonicalize().ok();
    let directories = [Some(path), real.as_deref()].map(|path| path?.parent());
    let mut directories = directories.into_iter().flatten();
    let open = directories.find(|directory| writers::has_everybody(directory))?;
    Some(Warning {
        about: "file",
        what: format!(
            "everybody on this machine can put another file in the place of `{}`, and so run commands \
             as you",
            path.display()
        ),
        fix: writers::remedy("o", open),
    })
}
