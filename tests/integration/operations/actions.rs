//! GitHub Actions: the example, the action, and that nobody else gives commands there.

use std::fs;
use std::process::Command;

use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use yaml_rust2::Yaml;

use super::{files, finds_nothing, read, root, yaml};
use crate::dispatch::place::{DISPATCH, Place, TARGET, adds, body};
use crate::real::components;
use crate::support::TestEnv;

/// As the runner of Actions reads the output of a step.
fn obeyed(output: &str) -> Vec<&str> {
    output
        .split(['\n', '\r'])
        .filter(|line| line.trim_start().starts_with("::") || line.contains("##["))
        .collect()
}

/// Every mapping in a document.
fn mappings(yaml: &Yaml) -> Vec<&Yaml> {
    let mut all = Vec::new();
    match yaml {
        Yaml::Hash(hash) => {
            all.push(yaml);
            all.extend(hash.values().flat_map(mappings));
        }
        Yaml::Array(array) => all.extend(array.iter().flat_map(mappings)),
        _ => {}
    }
    all
}

#[test]
fn actionlint_finds_nothing_in_the_workflows() {
    let Some(actionlint) = components::path("actionlint") else {
        return;
    };
    finds_nothing(Command::new(actionlint).args(files(".github/workflows", &["yml", "yaml"])));
}

#[test]
fn no_script_of_a_workflow_holds_an_expression_and_every_action_is_pinned() {
    let mut documents: Vec<_> = files(".github/workflows", &["yml", "yaml"]);
    documents.push(root().join("action.yml"));
    let (mut scripts, mut actions) = (0, 0);
    for path in documents {
        let document = yaml(&fs::read_to_string(&path).unwrap());
        for step in mappings(&document) {
            for key in ["run", "script"] {
                if let Some(script) = step[key].as_str() {
                    assert!(!script.contains("${{"), "{}: {script}", path.display());
                    scripts += 1;
                }
            }
            let Some(action) = step["uses"].as_str() else {
                continue;
            };
            actions += 1;
            let version = action.rsplit_once('@').map_or("", |(_, version)| version);
            let is_pinned = version.len() == 40 && version.bytes().all(|c| c.is_ascii_hexdigit());
            assert!(action == "./" || is_pinned, "{action}");
            if action.starts_with("actions/checkout@") {
                let keeps = step["with"]["persist-credentials"].as_bool();
                assert_eq!(keeps, Some(false), "{}", path.display());
            }
        }
        if document["jobs"].as_hash().is_some() {
            assert!(document["permissions"].as_hash().unwrap().is_empty());
            assert!(document["concurrency"]["group"].as_str().is_some());
        }
    }
    assert!(scripts >= 2 && actions >= 2, "{scripts} {actions}");
}

/// The last script of the action, which does the work.
fn script_of_the_action() -> String {
    let action = yaml(&read("action.yml"));
    let steps = action["runs"]["steps"].as_vec().unwrap();
    steps.last().unwrap()["run"].as_str().unwrap().to_owned()
}

/// What a step of the action leaves.
struct Step {
    told: String,
    summary: String,
}

/// Runs the action's script on an issue, as Actions does, and asserts that nobody but the program
/// itself has given a command.
#[track_caller]
fn step(place: &Place, number: u64) -> Step {
    let event = serde_json::json!({
        "action": "opened",
        "issue": place.host.issue(DISPATCH, number),
        "repository": { "full_name": DISPATCH },
    });
    let file = |name: &str| place.env.root().join(name);
    fs::write(file("event.json"), event.to_string()).unwrap();
    for name in ["output", "env", "path", "summary.md"] {
        fs::write(file(name), "").unwrap();
    }
    let mut bash = Command::new("bash");
    place.env.settle(&mut bash);
    let output = bash
        .args(["--noprofile", "--norc", "-eo", "pipefail", "-c"])
        .arg(script_of_the_action())
        .env("BINARY", env!("CARGO_BIN_EXE_agent-runner"))
        .env("AGENT_RUNNER_CONFIG", file("config.toml"))
        .env("RUNNER_TEMP", place.env.root())
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_EVENT_PATH", file("event.json"))
        .env("GITHUB_OUTPUT", file("output"))
        .env("GITHUB_ENV", file("env"))
        .env("GITHUB_PATH", file("path"))
        .env("GITHUB_STEP_SUMMARY", file("summary.md"))
        .output()
        .unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for line in obeyed(&told) {
        // Our own annotations are the only commands.
        let own = [
            "::error title=agent-runner::",
            "::warning title=agent-runner::",
        ];
        assert!(own.iter().any(|own| line.starts_with(own)), "{line}");
    }
    for name in ["output", "env", "path"] {
        assert_eq!(fs::read_to_string(file(name)).unwrap(), "", "{name}");
    }
    let summary = fs::read_to_string(file("summary.md")).unwrap();
    Step { told, summary }
}

/// An agent that says commands wherever somebody may print them: its output, its last words, its
/// commit, its file.
const SAYS_COMMANDS: &str = r#"
printf '::add-mask::a\n  ::set-output name=x::y\n##[error]b\r::error::c\n::warning file=a::d\n' | tee /dev/stderr
printf '::error::in a file\n' > a.txt
git add . && git commit -qm '::error::in a commit

##[group]of two lines'
for file in "$GITHUB_ENV" "$GITHUB_OUTPUT" "$GITHUB_PATH" "$GITHUB_STEP_SUMMARY"; do
    test -z "$file" || echo forged=1 >>"$file"
done
printf '::error title=agent-runner::forged\n##[error]forged\n```\n# forged\n'"#;

#[test]
fn an_agent_that_works_in_a_step_gives_no_command_whether_it_ends_well_or_not() {
    for (end, outcome) in [("", "success"), ("; exit 3", "agent_error")] {
        let script = format!("{SAYS_COMMANDS}{end}");
        let place = Place::with("agent = \"loud\"\nattempts = 1\n");
        let place = Place {
            env: place.env.script("loud", "text", &script),
            ..place
        };
        let number = place.issue("##[error]title", &body("::error::id", "::error::do it"));
        let Step { told, summary } = step(&place, number);
        let forged = "::error title=agent-runner::forged";
        let commands = obeyed(&told);
        assert!(
            !commands.iter().any(|line| line.starts_with(forged)),
            "{told}"
        );
        assert!(summary.contains(outcome), "{outcome}: {summary}");
        // The page shows the agent's words as they are, and nothing of them is Markdown there.
        let mut is_code = false;
        for event in Parser::new(&summary) {
            match event {
                Event::Start(Tag::CodeBlock(_)) => is_code = true,
                Event::End(TagEnd::CodeBlock) => is_code = false,
                Event::Text(text) if !is_code => assert!(!text.contains("forged"), "{summary}"),
                Event::Html(_) | Event::InlineHtml(_) => panic!("{summary}"),
                _ => {}
            }
        }
        assert!(summary.contains("forged"), "{summary}");
        // A failure is on the page of the workflow run, in the program's own words.
        let annotated = !commands.is_empty();
        assert_eq!(annotated, outcome != "success", "{told}");
    }
}

#[test]
fn hostile_texts_of_an_issue_are_inert_in_the_script_of_the_action() {
    let place = Place::new();
    let canary = place.env.root().join("canary");
    let shell = format!(
        "$(touch {0}) `touch {0}` '; touch {0}; \"",
        canary.display()
    );
    let title = format!("{shell}\n::add-mask::title\r\n##[set-env name=A]b");
    let instruction = format!(
        "::stop-commands::x\n{shell}\npr_url=forged\n'}}}}\n\n{}",
        adds("a.txt")
    );
    let metadata = serde_json::json!({ "task_id": format!("{shell}\n::error::forged") });
    let body = format!(
        "<!-- agent_task_metadata {metadata} -->\nTarget Repository: {TARGET}\n## Instruction\n\n{instruction}"
    );
    let number = place.issue(&title, &body);
    let Step { told, summary } = step(&place, number);
    assert!(told.contains("Processing task"), "{told}");
    assert!(!canary.exists(), "{told}");
    assert!(summary.starts_with("### agent-runner: "), "{summary}");
    assert_eq!(obeyed(&summary), Vec::<&str>::new());
}

const PRINTS_COMMANDS: &str = r"cat >/dev/null
printf '::add-mask::a\n   ::set-output name=x::y\nin the middle ##[error]b\r::error::c\n'
printf '::no end of line'
env | grep -E '^(GITHUB_(ENV|OUTPUT|PATH|STATE|STEP_SUMMARY)|NOTIFY_SOCKET)=' >names
exit 3";

#[test]
fn what_an_agent_prints_is_no_workflow_command() {
    let env = TestEnv::new()
        .script("loud", "text", PRINTS_COMMANDS)
        .task("work", "")
        .variable("GITHUB_ACTIONS", "true");
    let summary = env.root().join("summary.md");
    let env = env
        .variable("GITHUB_STEP_SUMMARY", summary.to_str().unwrap())
        .variable("GITHUB_ENV", "/dev/null")
        .variable("NOTIFY_SOCKET", "/nowhere");
    let done = env.agent_runner(&["run", "--agent", "loud", "--task", "work", "--follow"]);
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("add-mask"), "{}", done.stderr);
    let told = format!("{}\n{}", done.stdout, done.stderr);
    let commands = obeyed(&told);
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert!(commands[0].starts_with("::error title=agent-runner::work/loud/"));
    let names = fs::read_to_string(env.repository().join("names")).unwrap();
    assert_eq!(names, "", "an agent may write to the step's files");
    let told = fs::read_to_string(&summary).unwrap();
    assert!(told.contains("outcome=agent_error"), "{told}");
    let again = env.agent_runner(&["rerun"]);
    let commands = obeyed(&again.stderr);
    assert_eq!(commands.len(), 1, "{}", again.stderr);
    let summary = fs::read_to_string(summary).unwrap();
    assert_eq!(
        summary.matches("outcome=agent_error").count(),
        2 * told.matches("outcome=agent_error").count()
    );

    for command in [&["show"][..], &["explain"], &["show", "--json"]] {
        let shown = env.agent_runner(command);
        assert_eq!(obeyed(&shown.stdout), Vec::<&str>::new(), "{command:?}");
    }
}
