//! `apply-patches`: the `patch` agent. Applies the prompt's diffs and commits; needs no model.

use std::io::Read as _;

use crate::agents::patch::{Said, line};
use crate::cli::error::CliError;
use crate::cli::wiring::World;
use crate::git::{Git, Identity};
use crate::model::outcome::{EXIT_FAILURE, EXIT_SUCCESS};
use crate::model::patch::patch_blocks;
use crate::model::text::{self, chain};

/// Speaks the `patch` agent's output format, one JSON object a line.
pub(crate) fn apply_patches(world: &World) -> Result<u8, CliError> {
    let mut prompt = String::new();
    std::io::stdin()
        .read_to_string(&mut prompt)
        .map_err(|error| CliError::failure("the prompt cannot be read").because(error))?;
    let say = |said: Said| world.ui.data(&line(&said));
    let blocks = patch_blocks(&prompt);
    if blocks.is_empty() {
        let text = "the prompt has no diff block, so there is nothing to apply".to_owned();
        say(Said::Message { text });
        say(Said::Completed);
        return Ok(EXIT_SUCCESS);
    }
    let variable = |name: &str| {
        world
            .environment
            .get(name)
            .map(|value| value.to_string_lossy().into_owned())
    };
    // The run's mark and identity are in the environment of every agent; this is one of them.
    let identity = Identity {
        name: variable("GIT_AUTHOR_NAME").unwrap_or_else(|| "agent-runner".to_owned()),
        email: variable("GIT_AUTHOR_EMAIL").unwrap_or_else(|| "agent-runner@localhost".to_owned()),
    };
    let action = variable("GIT_REFLOG_ACTION").unwrap_or_default();
    let mark = action.strip_prefix("agent-runner/").unwrap_or("by-hand");
    let git = Git::new(world.environment.variables(), &world.current_directory);
    match git.apply_patches(&blocks, &subject(&prompt), mark, &identity) {
        Ok(applied) => {
            say(Said::Message {
                text: applied.to_string(),
            });
            say(Said::Completed);
            Ok(EXIT_SUCCESS)
        }
        Err(error) => {
            say(Said::Error {
                message: chain(&error),
            });
            Ok(EXIT_FAILURE)
        }
    }
}

/// The commit's subject: what follows `Title:`, as the prompt of dispatched work has it, else the
/// first heading or line of the prompt.
fn subject(prompt: &str) -> String {
    let title = prompt.lines().find_map(|line| line.strip_prefix("Title:"));
    let line = title.into_iter().chain(prompt.lines());
    let line = line
        .map(|line| line.trim_start_matches('#').trim())
        .find(|line| !line.is_empty());
    let line = text::unlinked(line.unwrap_or("Apply patches"));
    text::shorten(&line, 72)
}
