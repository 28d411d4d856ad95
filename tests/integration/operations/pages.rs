//! What the pages say is so: links lead somewhere, names exist, commands do what is shown.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::containers::known_variables;
use super::{files, root};
use crate::support::{Done, TestEnv};

fn pages() -> Vec<PathBuf> {
    let mut pages = files("docs", &["md"]);
    pages.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    pages
}

/// A heading as GitHub addresses it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    text.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.starts_with("http") {
                continue;
            }
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() {
                page.clone()
            } else {
                page.parent().unwrap().join(file)
            };
            assert!(path.exists(), "{}: {target}", page.display());
            if !fragment.is_empty() {
                let text = fs::read_to_string(&path).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line) == fragment),
                    "{}: {target}",
                    page.display()
                );
            }
        }
    }
}

/// Spans of code and lines of fenced blocks.
fn code(text: &str) -> Vec<&str> {
    let mut code = Vec::new();
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 {
            code.extend(part.lines().skip(1));
        } else {
            code.extend(part.split('`').skip(1).step_by(2));
        }
    }
    code
}

/// Pages that were written with the program, not generated from it.
const WRITTEN: [&str; 5] = [
    "docs/agent-runner-setup.md",
    "docs/quickstart.md",
    "docs/adding-an-agent.md",
    "docs/security.md",
    "docs/operations.md",
];

#[test]
fn every_variable_that_the_pages_name_exists() {
    let known = known_variables();
    let ours = ["AGENT_RUNNER_", "DISPATCH_", "GITHUB_APP_", "HANDSFREE_"];
    // Names of agents that are examples, and what is set for agents themselves.
    let other = |name: &str| {
        name.ends_with("_BIN") || ["AGENT_RUNNER_RUN_ID", "AGENT_RUNNER_TOKEN"].contains(&name)
    };
    for page in WRITTEN
        .iter()
        .map(|page| root().join(page))
        .chain([root().join("README.md")])
    {
        let text = fs::read_to_string(&page).unwrap();
        // What is gone is in a table of its own.
        let text = text.split("<!-- gone -->").step_by(2).collect::<String>();
        let plain = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        for name in code(&text).into_iter().flat_map(|code| code.split(plain)) {
            if ours.iter().any(|start| name.starts_with(start))
                && !other(name)
                && !name.ends_with('_')
            {
                assert!(known.contains(name), "{}: {name}", page.display());
            }
        }
    }
}

/// The names of all tests.
fn tests() -> String {
    let mut open = vec![root().join("src"), root().join("tests/integration")];
    let mut text = String::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    text
}

#[test]
fn every_test_that_the_pages_name_exists() {
    let tests = tests();
    let mut named = 0;
    for page in WRITTEN.into_iter().chain(["docs/kubernetes.md"]) {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        for name in code(&text) {
            let metric = ["agent_runner_", "agent_task", "github_api_"];
            let is_metric = metric.iter().any(|start| name.starts_with(start));
            if name.matches('_').count() < 4 || !name.chars().all(plain) || is_metric {
                continue;
            }
            named += 1;
            assert!(tests.contains(&format!("fn {name}(")), "{page}: {name}");
        }
    }
    assert!(named > 20, "{named}");
}

/// Every flag of every verb, as the program's own help tells them.
fn flags() -> BTreeSet<String> {
    let env = TestEnv::new();
    let flags_of = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
            .filter(|word| word.len() > 2 && word.starts_with("--"))
            .map(str::to_owned)
            .collect()
    };
    let help = env.agent_runner(&["--help"]).stdout;
    let (_, verbs) = help.split_once("Commands:\n").unwrap();
    let (verbs, _) = verbs.split_once("\n\n").unwrap();
    let mut flags: BTreeSet<String> = flags_of(&help).into_iter().collect();
    for verb in verbs
        .lines()
        .filter_map(|line| line.split_whitespace().next())
    {
        let help = env.agent_runner(&[verb, "--help"]).stdout;
        flags.extend(flags_of(&help));
    }
    flags
}

#[test]
fn every_flag_that_the_pages_name_exists() {
    let flags = flags();
    assert!(flags.contains("--metrics"), "{flags:?}");
    for page in WRITTEN {
        let text = fs::read_to_string(root().join(page)).unwrap();
        for code in code(&text) {
            // A verb that is planned elsewhere is no verb of this program.
            let Some((_, call)) = code.split_once("agent-runner ") else {
                continue;
            };
            let call = call.split(['|', '#', ';']).next().unwrap();
            for word in call
                .split_whitespace()
                .filter(|word| word.starts_with("--") && word.len() > 2)
            {
                let flag = word.split(['=', ']', ',']).next().unwrap();
                assert!(flags.contains(flag), "{page}: `{code}` has {flag}");
            }
        }
    }
}

#[test]
fn the_commands_of_the_pages_do_what_is_said() {
    let mut blocks = 0;
    for page in files("docs", &["md"]) {
        let text = fs::read_to_string(&page).unwrap();
        let tested: Vec<&str> = text
            .split("```sh test\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap())
            .collect();
        if tested.is_empty() {
            continue;
        }
        blocks += tested.len();
        // The blocks of a page are one session in one place.
        let env = TestEnv::new();
        let mut bash = Command::new("bash");
        env.settle(&mut bash);
        let program = PathBuf::from(env!("CARGO_BIN_EXE_agent-runner"));
        let path = std::env::var("PATH").unwrap();
        let output = bash
            .args(["--noprofile", "--norc", "-eu", "-o", "pipefail", "-c"])
            .arg(tested.join("\n"))
            .env(
                "PATH",
                format!("{}:{path}", program.parent().unwrap().display()),
            )
            .env("TMPDIR", env.root())
            .env_remove("AGENT_RUNNER_REPO_ROOT")
            .env_remove("AGENT_RUNNER_LOG_ROOT")
            .current_dir(env.root().join("home"))
            .output()
            .unwrap();
        let done = Done::from(output);
        assert_eq!(
            done.code,
            Some(0),
            "{}\n{}\n{}",
            page.display(),
            done.stdout,
            done.stderr
        );
    }
    assert!(blocks >= 4, "{blocks}");
}
