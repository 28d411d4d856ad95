//! Where records may lie: not in git's own directories, and where no agent commits them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::origin::Sourced;
use crate::config::settings::{RunnerSettings, Settings};
use crate::git::{Git, GitError};
use crate::model::ids::TaskName;
use crate::model::text::chain;
use crate::process::budget::Budget;
use crate::process::limits::{TOO_MANY_FILES, is_too_many_files};
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::writers;

/// The longest time for git in all.
const GIT_LIMIT: Duration = Duration::from_secs(10);

/// Refuses a log root that is the top of a repository: its `.gitignore`, which leaves out all that
/// lies beside it, would hide the repository's own files. Refuses one in git's own directory, too,
/// where a task's directory could be taken for refs.
pub(super) fn refuse_repository(runner: &RunnerSettings) -> Result<(), CliError> {
    let Sourced { value, origin } = &runner.log_root;
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let refused = |what: &str| {
        let message = format!("the log root `{}` ({origin}) is {what}", value.display());
        let place = runner.repo_root.value.join("logs");
        CliError::usage(message).hint(format!(
            "name a directory of its own, such as {}: git is told to ignore everything in it",
            place.display()
        ))
    };
    if value
        .ancestors()
        .chain(real(value).ancestors())
        .any(is_of_git)
    {
        return Err(refused("in a directory of git's own"));
    }
    if real(value) == real(&runner.repo_root.value) || value.join(".git").exists() {
        return Err(refused("a repository"));
    }
    Ok(())
}

/// What a person is told of a log root that is open to everybody; `doctor` tells it, too.
pub(super) fn writable_by_others(runner: &RunnerSettings) -> Option<String> {
    let root = &runner.log_root.value;
    writers::has_everybody(root).then(|| {
        format!(
            "everybody on this machine can write in the log root, and so change records and \
             notifications: {}",
            writers::remedy("o", root)
        )
    })
}

/// Whether it is where git keeps a repository, see gitrepository-layout(5).
fn is_of_git(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".git")
        || path.join("HEAD").is_file()
            && ["objects", "refs"]
                .iter()
                .all(|name| path.join(name).is_dir())
}

/// What git makes of a log root.
#[derive(Default)]
pub(super) struct Ignorance {
    /// The directories of the runner in which git would take a new file into a commit.
    pub unignored: Vec<String>,
    /// A file of somebody that git tracks.
    pub tracked: Option<PathBuf>,
}

/// Asks git about a log root that is there.
pub(super) fn ignorance(
    world: &World,
    settings: &Settings,
    layout: &Layout,
    tasks: &[&TaskName],
) -> Result<Ignorance, GitError> {
    let git = git(world, settings, layout);
    let directories = directories(tasks);
    let names: Vec<&str> = directories.iter().map(String::as_str).collect();
    Ok(Ignorance {
        unignored: (git.unignored(&names)?.into_iter())
            .map(str::to_owned)
            .collect(),
        tracked: git.tracked_here()?,
    })
}

/// Creates the log root. Where it has a `.gitignore` of somebody else that lets git take records
/// into a commit, the repository is told to leave them out.
///
/// # Errors
/// When git takes them nevertheless: an agent would commit them, and be judged by it.
pub(super) fn prepare(
    world: &World,
    settings: &Settings,
    layout: &Layout,
    task: &TaskName,
) -> Result<(), CliError> {
    if layout.ignores_itself() {
        return Ok(());
    }
    layout.create().map_err(not_recorded)?;
    // Where git does not answer, the run says so.
    let Ok(found) = ignorance(world, settings, layout, &[task]) else {
        return Ok(());
    };
    let root = layout.root().display();
    if let Some(file) = &found.tracked {
        world.ui.talk(&format!(
            "warning: git tracks `{}` in the log root `{root}`: what a run adds there is not \
             seen; {ELSEWHERE}",
            file.display()
        ));
    }
    if found.unignored.is_empty() {
        return Ok(());
    }
    let git = git(world, settings, layout);
    let names: Vec<&str> = found.unignored.iter().map(String::as_str).collect();
    let gitignore = layout.gitignore();
    let refused = || {
        CliError::failure(format!(
            "git does not ignore the records of runs in `{root}`: an agent could commit them"
        ))
        .hint(format!(
            "let `{}` hold the line `*`, or {ELSEWHERE}",
            gitignore.display()
        ))
    };
    let excluded = git.exclude(&names);
    let excluded = excluded.map_err(|error| refused().because(error))?;
    let left = git.unignored(&names);
    if !left.map_err(|error| refused().because(error))?.is_empty() {
        return Err(refused());
    }
    world.ui.talk(&format!(
        "note: `{}` lets git commit records of runs; `{}` leaves them out now",
        gitignore.display(),
        excluded.display()
    ));
    Ok(())
}

/// Why a run cannot begin, with what to do.
pub(super) fn not_recorded(error: StoreError) -> CliError {
    let hint = if is_too_many_files(&chain(&error)) {
        TOO_MANY_FILES
    } else {
        "the log root must be a directory that can be written; see AGENT_RUNNER_LOG_ROOT"
    };
    let failure = CliError::failure("the run cannot be recorded");
    failure.because(error).hint(hint)
}

const ELSEWHERE: &str =
    "give records a directory of their own: AGENT_RUNNER_LOG_ROOT or `log_root`";

fn git(world: &World, settings: &Settings, layout: &Layout) -> Git {
    let inherited = wiring::inherited(&world.environment, settings);
    Git::new(&inherited, layout.root()).within(&Budget::new(GIT_LIMIT))
}

/// The directories of the runner's own in the log root.
fn directories(tasks: &[&TaskName]) -> Vec<String> {
    let tasks = tasks.iter().map(ToString::to_string);
    [".state".to_owned(), "heartbeat".to_owned()]
        .into_iter()
        .chain(tasks)
        .collect()
}
