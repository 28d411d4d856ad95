//! `demo`: the whole job on a scratch repository, with no agent, key or network.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::args::{DelegateArguments, DemoArguments, DispatchArguments, SourceName};
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::config::settings::Settings;
use crate::git::{Git, Identity};
use crate::model::duration;
use crate::model::outcome::EXIT_FAILURE;
use crate::model::text::chain;
use crate::notify::wording;
use crate::store::summary;

/// Runs the `patch` agent on `debug_hello_world` in a new repository and shows what it left.
pub(crate) fn demo(world: &World, arguments: &DemoArguments) -> Result<u8, CliError> {
    let place = place(arguments.directory.as_deref(), &world.current_directory)?;
    let (repository, logs) = (place.join("repository"), place.join("logs"));
    let world = world.elsewhere(&repository, &logs);
    let settings = world.settings(Overrides::default())?;
    let tell = |text: &str| world.ui.prose(text);

    tell(&format!(
        "A repository to work in:\n  {}\n\n",
        repository.display()
    ));
    make_repository(&world, &repository)?;

    tell("The built-in agent `patch` does the task `debug_hello_world`, as this would:");
    tell("  agent-runner run --agent patch --task debug_hello_world\n\n");
    let task = settings.task("debug_hello_world");
    let agent = settings.agent("patch");
    let (Ok(task), Ok(agent)) = (task, agent) else {
        return Err(CliError::usage(
            "the demo needs the built-in task and agent",
        ));
    };
    let plan = wiring::plan(&world, &settings, agent, task)?;
    let record = super::run::carry_out(&world, &settings, vec![plan], false)?;
    tell(&indented(&summary::summary(&record)));

    let directory = logs.join(record.path());
    tell(&format!("\nWhat the run left in {}:", directory.display()));
    tell(&listing(&directory)?);
    tell("\nHow the outcome was concluded (`agent-runner explain`):");
    for fact in &record.evidence {
        tell(&format!("  {:<8} {}", fact.source.as_str(), fact.fact));
    }
    if let Some(message) = wording::of_run(&record, &directory) {
        let sent = if settings.ntfy.topic.is_some() {
            "sent"
        } else {
            "would have sent"
        };
        tell(&format!("\nThe notification it {sent}:"));
        tell(&indented(&format!("{}\n{}", message.title, message.body)));
    }
    let code = record.outcome.exit_code().unwrap_or(EXIT_FAILURE);
    let code = code.max(delegate(&world, &settings)?);
    tell(NEXT);
    Ok(code)
}

/// Hands a task to the local queue and works it off.
fn delegate(world: &World, settings: &Settings) -> Result<u8, CliError> {
    let tell = |text: &str| world.ui.prose(text);
    tell("\nA task that is handed over, and done in a clone of its own, as these would:");
    tell("  agent-runner delegate --provider local \"$(cat task.md)\"");
    tell("  agent-runner dispatch --source local --once\n\n");
    let arguments = DelegateArguments {
        instruction: DELEGATED.to_owned(),
        repo: None,
        provider: Some("local".to_owned()),
        wait: false,
        timeout: Duration::ZERO,
        task_id: Some("demo".to_owned()),
        user_id: "agent-runner".to_owned(),
        json: false,
    };
    super::delegate::delegate(world, &arguments)?;
    let arguments = DispatchArguments {
        once: true,
        issue: None,
        source: SourceName::Local,
        event: None,
        metrics: None,
        health: false,
    };
    let code = super::dispatch::dispatch(world, &arguments)?;
    let repository = &settings.runner.repo_root.value;
    let status = repository.with_extension("agent-tasks").join("demo.json");
    tell(&format!("\nWhat stands in {}:", status.display()));
    let status = fs::read_to_string(&status)
        .map_err(|error| CliError::failure("the task left no status").because(error))?;
    tell(&indented(&status));
    Ok(code)
}

const DELEGATED: &str = "\
Add a second file.

```diff
--- /dev/null
+++ b/second.txt
@@ -0,0 +1 @@
+done by a delegated task
```";

const NEXT: &str = "
What to type next:
  agent-runner agents                       which agents are installed
  agent-runner init                         a config.toml, the prompts and a crontab to start from
  agent-runner run --agent claude --task debug_hello_simple --dry-run";

fn place(wanted: Option<&Path>, current: &Path) -> Result<PathBuf, CliError> {
    let Some(wanted) = wanted else {
        let failed = |error| CliError::failure("no scratch directory can be made").because(error);
        let scratch = tempfile::Builder::new()
            .prefix("agent-runner-demo-")
            .tempdir()
            .map_err(failed)?;
        return Ok(scratch.keep());
    };
    let place = current.join(wanted);
    if fs::read_dir(&place).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(
            CliError::usage(format!("`{}` is not empty", place.display()))
                .hint("name a new directory, or none for a temporary one"),
        );
    }
    wiring::make_directory(&place)?;
    Ok(place)
}

fn make_repository(world: &World, repository: &Path) -> Result<(), CliError> {
    let identity = Identity {
        name: "A Person".to_owned(),
        email: "person@localhost".to_owned(),
    };
    wiring::make_directory(repository)?;
    Git::new(world.environment.variables(), repository)
        .init(&identity, "A repository for the demo")
        .map(drop)
        .map_err(|error| CliError::failure(format!("no repository can be made: {}", chain(&error))))
}

fn listing(directory: &Path) -> Result<String, CliError> {
    let failed = |error| CliError::failure("the run's directory cannot be listed").because(error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let size = entry.metadata().map_err(failed)?.len();
        files.push((entry.file_name().to_string_lossy().into_owned(), size));
    }
    files.sort();
    let mut text = String::new();
    for (name, size) in files {
        writeln!(text, "  {name:<16} {}", duration::size(size))
            .expect("writing to a string cannot fail");
    }
    Ok(text.trim_end().to_owned())
}

fn indented(text: &str) -> String {
    let lines = text.trim_end().lines();
    let lines: Vec<_> = lines
        .map(|line| format!("  {line}").trim_end().to_owned())
        .collect();
    lines.join("\n")
}
