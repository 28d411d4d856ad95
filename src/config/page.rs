//! `docs/config.md`, generated from the types of the file form and the shipped configuration.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::config::env::{self, Environment};
use crate::config::file::Form;
use crate::config::layer::Layer;
use crate::config::{Overrides, SHIPPED, load};

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from src/config/file.rs by its tests: UPDATE_DOCS=1 cargo test --lib config_page -->

The file is the one named by `--config`, else by `AGENT_RUNNER_CONFIG`, else `config.toml` in the
current directory, else `agent-runner/config.toml` in `$XDG_CONFIG_HOME` (or `~/.config`). Without
one the defaults hold, which are the [config.toml](../config.toml) that ships with the program.

What applies is decided key by key: a flag beats the environment, the environment beats the file,
the file beats the default. A task's or an agent's own value is more specific than the runner-wide
one and beats it wherever that was set. A wrong key, type or value stops the program with exit
code 2; the message names the place and what would be right.

Relative paths are relative to the file's directory, in flags and in the environment to the
current directory; `~/` is the home directory. Durations are written `90s`, `15m` or `1h30m`, and a
bare number is seconds.

A task of your own, and an agent that the program does not know:

```toml
[tasks.update_dependencies]
prompt_text = \"Update the dependencies and commit what passes the tests.\"
verify = [\"cargo test\"]
schedule = \"30 6 * * 1\"
agents = [\"claude\", \"mine\"]
paths = [\"Cargo.*\"]

[agents.mine]
command = [\"my-agent\", \"--yes\"]
model = \"small\"
model_flag = \"--model\"
```
";

#[test]
fn config_page_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config.md");
    let page = page();
    if Environment::of_this_process().get("UPDATE_DOCS").is_some() {
        #[expect(
            clippy::disallowed_methods,
            reason = "a page of the repository, looked at before it is committed"
        )]
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == page,
        "docs/config.md is not what the types say: UPDATE_DOCS=1 cargo test --lib config_page"
    );
}

fn page() -> String {
    let schema = schemars::schema_for!(Form).to_value();
    let mut page = INTRODUCTION.to_owned();
    for (table, name) in [
        ("runner", ""),
        ("git", ""),
        ("ntfy", ""),
        ("queue", ""),
        ("github", ""),
        ("dispatch", ""),
        ("agents", ".NAME"),
        ("tasks", ".NAME"),
    ] {
        let field = &schema["properties"][table];
        let form = field["$ref"]
            .as_str()
            .or_else(|| field["additionalProperties"]["$ref"].as_str())
            .and_then(|path| schema.pointer(path.trim_start_matches('#')))
            .unwrap();
        write!(page, "\n## `[{table}{name}]`\n\n{}\n\n", description(field)).unwrap();
        page += "| key | value | default | environment variable | meaning |\n";
        page += "| --- | --- | --- | --- | --- |\n";
        for (key, field) in form["properties"].as_object().unwrap() {
            row(&mut page, table, key, field);
        }
        if table == "agents" {
            agents(&mut page);
        }
    }
    environment(&mut page);
    page
}

fn row(page: &mut String, table: &str, key: &str, field: &Value) {
    let description = description(field);
    let (meaning, default) = match description.split_once(" Default: ") {
        Some((meaning, default)) => (meaning, default.trim_end_matches('.').to_owned()),
        None => (description.as_str(), shipped(table, key)),
    };
    let known = env::VARIABLES.iter().filter(|variable| {
        let path: Vec<&str> = variable.key.split('.').collect();
        path.first() == Some(&table) && path.last() == Some(&key)
    });
    let mut variables: Vec<String> = known.map(|known| format!("`{}`", known.name)).collect();
    if (table, key) == ("agents", "binary") {
        variables.push("`AGENT_RUNNER_<AGENT>_BIN`".to_owned());
    }
    let variables = variables.join(", ");
    let value = field["title"].as_str().unwrap();
    writeln!(
        page,
        "| `{key}` | {value} | {default} | {variables} | {meaning} |"
    )
    .unwrap();
}

/// A doc comment as one line.
fn description(field: &Value) -> String {
    field["description"]
        .as_str()
        .expect("every key has a doc comment")
        .replace('\n', " ")
}

/// The value in the shipped configuration, as it is written there.
fn shipped(table: &str, key: &str) -> String {
    let shipped = toml::de::DeTable::parse(SHIPPED).unwrap();
    let value = shipped
        .get_ref()
        .get(table)
        .and_then(|table| table.get_ref().get(key));
    value.map_or_else(String::new, |value| format!("`{}`", &SHIPPED[value.span()]))
}

fn agents(page: &mut String) {
    let settings = load(
        &Environment::default(),
        Path::new("/nowhere"),
        &Overrides::default(),
    )
    .unwrap();
    *page += "\nThe built-in agents and their defaults:\n\n";
    *page += "| agent | binary | model | effort |\n| --- | --- | --- | --- |\n";
    for (name, agent) in &settings.agents {
        let binary = agent.binary.as_ref().map_or_else(
            || "part of the runner".to_owned(),
            |binary| format!("`{}`", binary.value.display()),
        );
        let cell = |value: &Option<crate::config::origin::Sourced<String>>| {
            let value = value.as_ref();
            value.map_or_else(
                || "its own".to_owned(),
                |value| format!("`{}`", value.value),
            )
        };
        let (model, effort) = match agent.binary {
            Some(_) => (cell(&agent.model), cell(&agent.effort)),
            None => ("none".to_owned(), "none".to_owned()),
        };
        writeln!(page, "| `{name}` | {binary} | {model} | {effort} |").unwrap();
    }
}

fn environment(page: &mut String) {
    *page += "\n## Environment variables\n\nAn empty or blank variable counts as unset. \
              One that begins with `AGENT_RUNNER_` and is none of these is warned of.\n\n";
    *page += "| variable | sets |\n| --- | --- |\n";
    writeln!(page, "| `{}` | the configuration file |", env::CONFIG).unwrap();
    for variable in env::VARIABLES {
        writeln!(page, "| `{}` | `{}` |", variable.name, variable.key).unwrap();
    }
    *page += "| `AGENT_RUNNER_<AGENT>_BIN` | `agents.<agent>.binary`; the name in capitals, `-` \
              as `_`: `AGENT_RUNNER_CODEX_BIN` |\n";
}

/// Parsing the shipped file is what makes the defaults; it must not need a user's.
#[test]
fn the_shipped_configuration_passes_the_checks_of_a_users_file() {
    let shipped = Layer::parse(None, SHIPPED).unwrap();
    crate::config::check::own_file(&shipped, &shipped.form).unwrap();
}
