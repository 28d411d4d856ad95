//! `completions` and `man`: what makes the program at home in a shell.

use clap::CommandFactory as _;
use clap_complete::env::Shells;
use clap_mangen::Man;

use crate::cli::args::{Arguments, CompletionsArguments, ManArguments, Shell};
use crate::cli::error::CliError;
use crate::cli::wiring::World;
use crate::config::env::COMPLETE;
use crate::model::outcome::EXIT_SUCCESS;

const NAME: &str = "agent-runner";

/// Prints the script that makes a shell ask this program, which it finds in `PATH`.
pub(crate) fn completions(world: &World, arguments: &CompletionsArguments) -> Result<u8, CliError> {
    let shell = match arguments.shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let shells = Shells::builtins();
    let shell = shells.completer(shell).expect("all three are built in");
    let mut script = Vec::new();
    shell
        .write_registration(COMPLETE, NAME, NAME, NAME, &mut script)
        .map_err(|error| CliError::failure("the script cannot be made").because(error))?;
    if arguments.shell == Shell::Zsh {
        script.extend_from_slice(ZSH_AT_FIRST.as_bytes());
    }
    world.ui.data(&String::from_utf8_lossy(&script));
    Ok(EXIT_SUCCESS)
}

/// A file of `fpath` is read at the first Tab, which is to be answered, too. Where the script is sourced
/// there is nothing to answer yet.
const ZSH_AT_FIRST: &str = "
if [[ $funcstack[1] == _agent-runner ]]; then
    _clap_dynamic_completer_agent_runner \"$@\"
fi
";

/// Prints the main page, or writes all pages into a directory, over older ones.
pub(crate) fn man(world: &World, arguments: &ManArguments) -> Result<u8, CliError> {
    let Some(directory) = &arguments.directory else {
        let mut page = Vec::new();
        Man::new(Arguments::command())
            .render(&mut page)
            .map_err(|error| CliError::failure("the page cannot be made").because(error))?;
        world.ui.data(&String::from_utf8_lossy(&page));
        return Ok(EXIT_SUCCESS);
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
        .map_err(|error| {
            CliError::failure(format!(
                "no pages can be written to `{}`",
                directory.display()
            ))
            .because(error)
        })?;
    world
        .ui
        .talk(&format!("manual pages are in {}", directory.display()));
    Ok(EXIT_SUCCESS)
}
