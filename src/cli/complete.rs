//! What a shell is told when somebody presses Tab: commands and flags by clap, names and runs from
//! the configuration and the log root.
//!
//! Nothing here prints or fails: where the configuration is wrong there are no candidates.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory as _;
use clap_complete::{CompleteEnv, CompletionCandidate};

use crate::cli::args::Arguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::config::env::COMPLETE;
use crate::config::settings::Settings;
use crate::model::outcome::Outcome;
use crate::store::reader::{self, Filter};

/// The newest runs that are offered.
const MAX_RUNS: usize = 50;

/// Answers a shell that asks; false when none does and the program goes on.
pub(crate) fn answer() -> Result<bool, CliError> {
    CompleteEnv::with_factory(Arguments::command)
        .var(COMPLETE)
        .try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref())
        .map_err(|error| CliError::usage("the shell cannot be answered").because(error))
}

/// The names of all agents.
pub(crate) fn agents(typed: &OsStr) -> Vec<CompletionCandidate> {
    let settings = settings();
    let names = settings.iter().flat_map(|settings| settings.agents.keys());
    matching(typed, names.map(ToString::to_string))
}

/// What `run --agent` takes: a name, `auto`, or the next name of a list.
pub(crate) fn agent_lists(typed: &OsStr) -> Vec<CompletionCandidate> {
    let settings = settings();
    let names = settings.iter().flat_map(|settings| settings.agents.keys());
    let names = names.map(ToString::to_string);
    match typed.to_str().and_then(|typed| typed.rsplit_once(',')) {
        None => matching(typed, names.chain(["auto".to_owned()])),
        Some((before, _)) => {
            let is_new = |name: &String| !before.split(',').any(|known| known == name);
            let longer = names.filter(is_new).map(|name| format!("{before},{name}"));
            matching(typed, longer)
        }
    }
}

/// The names of all tasks.
pub(crate) fn tasks(typed: &OsStr) -> Vec<CompletionCandidate> {
    let settings = settings();
    let names = settings.iter().flat_map(|settings| settings.tasks.keys());
    matching(typed, names.map(ToString::to_string))
}

/// The outcomes that a run can have.
pub(crate) fn outcomes(typed: &OsStr) -> Vec<CompletionCandidate> {
    matching(typed, Outcome::ALL.iter().map(ToString::to_string))
}

/// The newest runs, and `latest`.
pub(crate) fn runs(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(settings) = settings() else {
        return Vec::new();
    };
    let layout = wiring::layout(&settings);
    let Ok(runs) = reader::runs(&layout, &Filter::default()) else {
        return Vec::new();
    };
    let runs = runs.take(MAX_RUNS).map(|run| run.path.to_string());
    matching(typed, ["latest".to_owned()].into_iter().chain(runs))
}

fn matching(typed: &OsStr, names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = names.filter(|name| name.starts_with(&*typed));
    names.map(CompletionCandidate::new).collect()
}

/// The settings of the command that is being typed.
fn settings() -> Option<Settings> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let named = typed.windows(2).rfind(|pair| pair[0] == "--config");
    let world = World::new(named.map(|pair| (&pair[1]).into())).ok()?;
    world.settings_quietly(Overrides::default()).ok()
}
