//! `init`: files to start from. Nothing that exists is overwritten.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use crate::cli::args::InitArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config;
use crate::model::outcome::EXIT_SUCCESS;
use crate::prompt;

const CRONTAB: &str = include_str!("../../../crontab.example");

const NEXT: &str = "
What to type next:
  agent-runner doctor    what would make a run fail, and what to do about it
  agent-runner agents    which agents are installed
  agent-runner tasks     what they can be told to do
config.toml shows every default; take the `# ` away from a line to change it.";

/// Writes `config.toml`, `prompts/` and `crontab.example`.
pub(crate) fn init(world: &World, arguments: &InitArguments) -> Result<u8, CliError> {
    let directory = arguments.directory.as_deref().unwrap_or(Path::new(""));
    let directory = world.current_directory.join(directory);
    let config = commented(config::SHIPPED);
    let mut files = vec![("config.toml".to_owned(), config.as_str())];
    files.extend(
        prompt::BUILT_IN
            .iter()
            .map(|(name, text)| (format!("prompts/{name}"), *text)),
    );
    files.push(("crontab.example".to_owned(), CRONTAB));
    for (name, text) in files {
        let path = directory.join(&name);
        wiring::make_directory(path.parent().unwrap_or(&directory))?;
        let said = match create(&path, text) {
            Ok(()) => "written",
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => "kept as it is",
            Err(error) => {
                return Err(
                    CliError::failure(format!("cannot write `{}`", path.display())).because(error),
                );
            }
        };
        world.ui.talk(&format!("{said:<13}  {}", path.display()));
    }
    world.ui.talk(NEXT);
    Ok(EXIT_SUCCESS)
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    fs::File::create_new(path)?.write_all(text.as_bytes())
}

/// The shipped configuration with every value commented out: it shows what is in force and
/// changes nothing until a line is taken into use.
fn commented(shipped: &str) -> String {
    let mut text = String::new();
    for line in shipped.lines() {
        let is_value = !line.is_empty() && !line.starts_with(['#', '[']);
        text.push_str(if is_value { "# " } else { "" });
        text.push_str(line);
        text.push('\n');
    }
    text
}
