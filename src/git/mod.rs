//! The git commands we use, each a function with a typed result.
//!
//! [`Git`] is one repository as our own commands see it: it builds their environment, and the
//! agent's. [`Git::snapshot`] before a run and [`Git::compare`] after it tell what the run did
//! ([`crate::model::change`]); [`Git::apply_patches`] commits diffs, all or none;
//! [`Git::tree_changes`] lists what commits changed, for a policy. [`Mirror`] is a repository that
//! no agent reaches: it alone talks to remote repositories.
//!
//! Needs git 2.31 (`GIT_CONFIG_COUNT`, `--path-format`).

mod compare;
mod configuration;
mod environment;
mod files;
mod health;
mod history;
mod ignores;
mod mirror;
mod patches;
mod place;
mod plumbing;
mod programs;
mod publish;
mod quarantine;
mod reflog;
mod refs;
mod remote;
mod snapshot;
mod standing;
mod strays;
mod submodules;
#[cfg(test)]
mod tests;
mod tree;
mod uncommitted;
mod work_tree;
mod workspace;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

pub use crate::git::environment::{Identity, REPOSITORY_VARIABLES};
pub use crate::git::health::{Health, LEAST_VERSION};
pub use crate::git::mirror::{Mirror, MirrorError, MirrorLimits};
pub use crate::git::patches::{Applied, PatchError};
use crate::git::place::Place;
pub use crate::git::programs::Programs;
pub use crate::git::publish::PushError;
pub use crate::git::remote::{Remote, RemoteError, RemoteFault};
pub use crate::git::snapshot::{LEAST_PATIENCE, Snapshot};
pub use crate::git::work_tree::{Began, Home, Homecoming, May, RUN_BRANCHES, WorkTree};
pub use crate::git::workspace::remove_workspace;
use crate::model::text;
use crate::process::budget::Budget;
use crate::process::command::{self, Captured, HelperCommand, HelperError, RunningHelper};

/// The longest one git command may take where nothing else bounds it.
const LIMIT: Duration = Duration::from_secs(120);

/// A repository, and how git is called in it.
#[derive(Clone, Debug)]
pub struct Git {
    repository: PathBuf,
    inherited: BTreeMap<OsString, OsString>,
    environment: BTreeMap<OsString, OsString>,
    ignored: Option<PathBuf>,
    budget: Option<Budget>,
    /// The longest one command may take.
    limit: Duration,
    /// The most bytes one command may print.
    max_output: usize,
}

/// Why a question to git has no answer.
#[derive(Debug, Error)]
pub enum GitError {
    /// There is no git program.
    #[error("git is not installed, or not on PATH")]
    Missing,
    /// The directory does not exist.
    #[error("the repository `{}` does not exist", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// The directory lies in no repository.
    #[error("`{}` is not a git repository", path.display())]
    NotARepository {
        /// The directory.
        path: PathBuf,
    },
    /// The repository has no work tree.
    #[error("`{}` is a repository without a work tree", path.display())]
    NoWorkTree {
        /// The directory.
        path: PathBuf,
    },
    /// The repository belongs to another user.
    #[error("the repository `{}` belongs to another user, and git refuses to use it", path.display())]
    DubiousOwnership {
        /// The directory.
        path: PathBuf,
        /// The command that git names as the remedy.
        remedy: Option<String>,
    },
    /// git prints paths line by line, and one has a line feed.
    #[error(
        "the path of the repository {path:?}, or of its git directory, has a line feed; rename it"
    )]
    LineFeed {
        /// The directory.
        path: PathBuf,
    },
    /// git could not be run.
    #[error("cannot run `git {command}`")]
    Run {
        /// The command's name.
        command: String,
        /// Why not.
        source: HelperError,
    },
    /// git ran and refused.
    #[error("`git {command}` failed: {reason}")]
    Refused {
        /// The command's name.
        command: String,
        /// What git said.
        reason: String,
    },
    /// git printed what this program cannot read.
    #[error("cannot understand the output of `git {command}`")]
    Output {
        /// The command's name.
        command: String,
    },
    /// A file or directory of the repository could not be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of the task's `paths` is no pattern.
    #[error("`{pattern}` is no pattern for paths")]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// Other runs make or remove work trees.
    #[error("other runs work on the list of work trees in `{}`", path.display())]
    Busy {
        /// The repository's own directory.
        path: PathBuf,
    },
    /// What git is to ignore could not be written down.
    #[error("cannot write `{}`", path.display())]
    Exclude {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A work tree could not be moved or removed.
    #[error("cannot {action} the work tree `{}`", path.display())]
    WorkTree {
        /// What was to be done.
        action: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no directory for files of our own.
    #[error("cannot make a temporary directory")]
    Scratch(#[source] io::Error),
}

impl GitError {
    fn output(command: &str) -> Self {
        let command = command.to_owned();
        Self::Output { command }
    }

    /// Whether there was more than may be looked at.
    pub fn is_too_much(&self) -> bool {
        let too_much = HelperError::is_too_much_output;
        matches!(self, Self::Run { source, .. } if too_much(source))
    }

    /// Whether git had no room to write: the disk is full, or the user's share of it.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if says_full(reason))
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::DubiousOwnership { remedy, .. } => remedy.as_deref(),
            Self::Missing
            | Self::NoDirectory { .. }
            | Self::NotARepository { .. }
            | Self::NoWorkTree { .. }
            | Self::LineFeed { .. }
            | Self::Run { .. }
            | Self::Refused { .. }
            | Self::Output { .. }
            | Self::Read { .. }
            | Self::Pattern { .. }
            | Self::Busy { .. }
            | Self::Exclude { .. }
            | Self::WorkTree { .. }
            | Self::Scratch(_) => None,
        }
    }
}

impl Git {
    /// Takes the directory of a repository, or one below it, and the environment that the runner
    /// itself was given. Runs nothing.
    pub fn new(inherited: &BTreeMap<OsString, OsString>, repository: &Path) -> Self {
        Self {
            repository: repository.to_owned(),
            inherited: inherited.clone(),
            environment: environment::for_own_commands(inherited),
            ignored: None,
            budget: None,
            limit: LIMIT,
            max_output: usize::MAX,
        }
    }

    /// The same repository, with commands that share a time.
    #[must_use]
    pub fn within(&self, budget: &Budget) -> Self {
        Self {
            budget: Some(budget.clone()),
            limit: budget.length(),
            ..self.clone()
        }
    }

    /// A repository of the runner's own: git sees nothing of the machine's configuration, and
    /// `settings` on top of what keeps it from running or following anything.
    fn sealed(
        inherited: &BTreeMap<OsString, OsString>,
        directory: &Path,
        settings: &[(&str, &str)],
    ) -> Self {
        Self {
            environment: environment::sealed(inherited, settings),
            ..Self::new(inherited, directory)
        }
    }

    /// Leaves what is untracked below `directory` out of every [`Snapshot`]: the runner's own logs
    /// may lie in the work tree.
    #[must_use]
    pub fn ignoring(mut self, directory: &Path) -> Self {
        self.ignored = Some(
            directory
                .canonicalize()
                .unwrap_or_else(|_| directory.to_owned()),
        );
        self
    }

    /// The variables that an agent gets on top of what it inherits without
    /// [`REPOSITORY_VARIABLES`]: whatever git does in its environment carries `run_mark` in the
    /// reflogs, and commits carry `identity`.
    ///
    /// `run_mark` is one word without colons, unique to the run.
    pub fn agent_environment(
        &self,
        run_mark: &str,
        identity: &Identity,
    ) -> Vec<(OsString, OsString)> {
        environment::for_agent(&self.inherited, run_mark, identity)
    }

    /// Makes a new repository of the directory, on branch `main`, with `identity` in its
    /// configuration, and commits all files in it. Returns the commit.
    pub fn init(&self, identity: &Identity, message: &str) -> Result<String, GitError> {
        self.read(&["init", "-q", "-b", "main", "--template="])?;
        self.read(&["config", "user.name", &identity.name])?;
        self.read(&["config", "user.email", &identity.email])?;
        self.read(&["add", "-A"])?;
        let commit = ["commit", "-q", "--allow-empty", "--no-gpg-sign", "-F", "-"];
        self.read_with_input(&commit, message.as_bytes())?;
        self.read_line(&["rev-parse", "HEAD"])
    }

    /// The same repository, with commands running in another directory of it.
    fn at(&self, directory: &Path) -> Self {
        Self {
            repository: directory.to_owned(),
            ..self.clone()
        }
    }

    /// git as it is used here, in the repository that is found from another directory.
    fn found_at(&self, directory: &Path) -> Self {
        let mut changed = self.at(directory);
        changed.environment.remove(OsStr::new("GIT_DIR"));
        changed.environment.remove(OsStr::new("GIT_WORK_TREE"));
        changed
    }

    /// The repository that was looked at before, whatever an agent put in its way: where it is
    /// none any more, git looks for no other.
    fn pinned(&self, place: &Place) -> Result<Self, GitError> {
        let is_linked = place.directory != place.common_directory;
        // So directed, git would not miss it.
        if is_linked && place.top_level.join(".git").symlink_metadata().is_err() {
            let path = place.top_level.clone();
            return Err(GitError::NotARepository { path });
        }
        let git = self.at(&place.top_level);
        Ok(git
            .with_variable("GIT_DIR", &place.directory)
            .with_variable("GIT_WORK_TREE", &place.top_level))
    }

    /// The same repository, with one more variable for its commands.
    fn with_variable(&self, name: &str, value: impl Into<OsString>) -> Self {
        let mut changed = self.clone();
        changed.environment.insert(name.into(), value.into());
        changed
    }

    /// The same repository, with settings that outrank all others.
    fn with_settings(&self, settings: &[(&str, &str)]) -> Self {
        let mut changed = self.clone();
        let settings = environment::appended_settings(&self.environment, settings);
        changed.environment.extend(settings);
        changed
    }

    /// Starts a command; several can run side by side.
    fn start(&self, arguments: &[&str], stdin: &[u8]) -> Result<RunningHelper, GitError> {
        self.start_keeping(None, arguments, stdin)
    }

    fn start_keeping(
        &self,
        record_bytes: Option<usize>,
        arguments: &[&str],
        stdin: &[u8],
    ) -> Result<RunningHelper, GitError> {
        let environment: Vec<_> = self.environment.clone().into_iter().collect();
        command::start(&HelperCommand {
            program: OsStr::new("git"),
            arguments: &arguments.iter().map(OsStr::new).collect::<Vec<_>>(),
            directory: &self.repository,
            environment: &environment,
            stdin,
            limit: self.limit,
            budget: self.budget.as_ref(),
            record_bytes,
        })
        .map_err(|error| self.not_run(arguments, error))
    }

    fn finish(&self, arguments: &[&str], helper: RunningHelper) -> Result<Captured, GitError> {
        helper
            .finish_within(self.max_output)
            .map_err(|error| self.not_run(arguments, error))
    }

    /// Runs a command, of which a refusal is an answer, too.
    fn run(&self, arguments: &[&str], stdin: &[u8]) -> Result<Captured, GitError> {
        self.finish(arguments, self.start(arguments, stdin)?)
    }

    /// Waits for a command, which must succeed.
    fn output(&self, arguments: &[&str], helper: RunningHelper) -> Result<Vec<u8>, GitError> {
        let captured = self.finish(arguments, helper)?;
        if captured.code == Some(0) {
            Ok(captured.stdout)
        } else {
            Err(self.refused(arguments, &captured))
        }
    }

    /// Runs a command that must succeed, and returns what it printed.
    fn read(&self, arguments: &[&str]) -> Result<Vec<u8>, GitError> {
        self.read_with_input(arguments, &[])
    }

    fn read_with_input(&self, arguments: &[&str], stdin: &[u8]) -> Result<Vec<u8>, GitError> {
        self.output(arguments, self.start(arguments, stdin)?)
    }

    fn read_line(&self, arguments: &[&str]) -> Result<String, GitError> {
        let output = self.read(arguments)?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// The same, of a path, which need not be UTF-8.
    fn read_path(&self, arguments: &[&str]) -> Result<PathBuf, GitError> {
        let output = self.read(arguments)?;
        let path = output.strip_suffix(b"\n").unwrap_or(&output);
        Ok(OsStr::from_bytes(path).into())
    }

    fn not_run(&self, arguments: &[&str], error: HelperError) -> GitError {
        match error {
            HelperError::NotStarted { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                if self.repository.is_dir() {
                    GitError::Missing
                } else {
                    GitError::NoDirectory {
                        path: self.repository.clone(),
                    }
                }
            }
            source => GitError::Run {
                command: name_of(arguments),
                source,
            },
        }
    }

    fn refused(&self, arguments: &[&str], captured: &Captured) -> GitError {
        let path = self.repository.clone();
        let said = &captured.stderr;
        if said.contains("detected dubious ownership") {
            let remedy = said
                .lines()
                .map(str::trim)
                .find(|line| line.starts_with("git config"))
                .map(str::to_owned);
            GitError::DubiousOwnership { path, remedy }
        } else if said.contains("not a git repository") {
            GitError::NotARepository { path }
        } else if said.contains("must be run in a work tree") {
            GitError::NoWorkTree { path }
        } else {
            GitError::Refused {
                command: name_of(arguments),
                reason: reason(captured),
            }
        }
    }
}

fn name_of(arguments: &[&str]) -> String {
    arguments.first().copied().unwrap_or_default().to_owned()
}

/// Whether git says that it had no room to write. It does not always name the kernel's reason.
fn says_full(said: &str) -> bool {
    const FULL: [&str; 6] = [
        "No space left on device",
        "Disk quota exceeded",
        "Out of diskspace",
        "unable to write file",
        "failed to write new configuration file",
        "couldn't write",
    ];
    FULL.iter().any(|words| said.contains(words))
}

/// What git said, as one clause.
fn reason(captured: &Captured) -> String {
    let clause = clause(&captured.stderr);
    match captured.code {
        _ if !clause.is_empty() => text::first_line(&clause, 500),
        Some(code) => format!("exit status {code}"),
        None => "ended by a signal".to_owned(),
    }
}

/// Lines of git as one: what it lists, in lines that begin with a tab, goes on the line before.
fn clause(said: &str) -> String {
    let mut clause = String::new();
    let mut is_listing = false;
    for line in said.lines() {
        let is_item = line.starts_with('\t');
        let line = line.trim();
        let line = line.strip_prefix("fatal: ").unwrap_or(line);
        let line = line.strip_prefix("error: ").unwrap_or(line);
        if line.is_empty() || line == "Aborting" {
            continue;
        }
        clause += match (is_item, is_listing) {
            _ if clause.is_empty() => "",
            (true, false) => " ",
            (true, true) => ", ",
            (false, _) => "; ",
        };
        clause += line;
        is_listing = is_item;
    }
    clause
}
