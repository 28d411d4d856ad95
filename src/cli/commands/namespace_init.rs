//! `namespace-init`: the first process of a namespace that a run's processes are in. Not for people.

use crate::cli::args::NamespaceInitArguments;
use crate::cli::error::CliError;
use crate::cli::wiring;
use crate::model::outcome::EXIT_SUCCESS;
use crate::process::containment::namespace;

/// Starts an agent and ends when it and all that it left have ended.
pub(crate) fn namespace_init(arguments: &NamespaceInitArguments) -> Result<u8, CliError> {
    let NamespaceInitArguments {
        reporter,
        program,
        arguments,
    } = arguments;
    wiring::block_on(namespace::init(*reporter, program, arguments))?
        .map_err(|error| CliError::failure("the agent cannot be held").because(error))?;
    Ok(EXIT_SUCCESS)
}
