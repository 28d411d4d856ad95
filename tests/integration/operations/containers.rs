//! The image, the compose file and Kubernetes, as far as they can be held against something without
//! an engine.

use std::collections::BTreeSet;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use super::{finds_nothing, read};
use crate::dispatch::place::{DISPATCH, Place, TARGET, adds, body};
use crate::real::components;
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// Variables that the program reads, and those of agents that the files pass on.
pub fn known_variables() -> BTreeSet<String> {
    let page = read("docs/config.md");
    let is_name = |word: &&str| {
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        word.contains('_') && word.chars().all(plain)
    };
    let mut known: BTreeSet<String> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(is_name)
        .map(str::to_owned)
        .collect();
    known.extend(
        [
            "AGENT_RUNNER_CONFIG",
            "LOG_FORMAT",
            "LOG_LEVEL",
            "NO_COLOR",
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "GEMINI_API_KEY",
        ]
        .map(str::to_owned),
    );
    known
}

#[test]
fn hadolint_finds_nothing_in_the_dockerfile() {
    let Some(hadolint) = components::path("hadolint") else {
        return;
    };
    finds_nothing(Command::new(hadolint).arg("Dockerfile"));
}

/// The compose file as docker-compose understands it, with every profile.
fn compose() -> Option<Value> {
    let compose = components::path("docker-compose")?;
    let text = finds_nothing(Command::new(compose).env_clear().args([
        "-f",
        "docker-compose.agent-runner.yml",
        "--profile",
        "scale",
        "config",
        "--format",
        "json",
    ]));
    let begin = text.find('{').unwrap();
    Some(serde_json::from_str(&text[begin..]).unwrap())
}

fn environment(compose: &Value, service: &str) -> Vec<(String, String)> {
    let variables = compose["services"][service]["environment"].as_object();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let variables = variables.unwrap().iter();
    variables
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

#[test]
fn every_variable_of_the_compose_file_does_something() {
    let Some(compose) = compose() else { return };
    let known = known_variables();
    for service in ["agent-runner", "worker"] {
        for (name, _) in environment(&compose, service) {
            assert!(known.contains(&name), "{service}: {name} does nothing");
        }
    }
    let source = read("docker-compose.agent-runner.yml");
    // What the operator sets is passed on.
    for name in [
        "TASK_TIMEOUT_SECONDS",
        "MAX_TASK_RETRIES",
        "POSTGRES_PASSWORD",
        "AGENTS",
    ] {
        assert!(source.contains(&format!("${{{name}:-")), "{name}");
    }
}

#[test]
fn workers_of_the_compose_file_share_one_queue() {
    const ISSUES: u64 = 6;
    let (Some(compose), Some(postgres)) = (compose(), Postgres::start()) else {
        return;
    };
    let place = Place::new();
    let issues: Vec<u64> = (0..ISSUES)
        .map(|number| {
            let task = format!("{number}-task-of-many");
            place.issue("t", &body(&task, &adds(&format!("{number}.txt"))))
        })
        .collect();
    // What a container has of its own is replaced: addresses, credentials, its disk.
    let own = [
        "GITHUB_TOKEN",
        "DISPATCH_REPO",
        "AGENT_RUNNER_METRICS",
        "AGENT_RUNNER_QUEUE_URL",
        "POLL_INTERVAL_SECONDS",
    ];
    let mut workers: Vec<Child> = (0..3)
        .map(|number| {
            let shared = environment(&compose, "worker").into_iter();
            let shared = shared.filter(|(name, _)| !own.contains(&name.as_str()));
            place
                .env
                .command(&["dispatch"])
                .envs(shared)
                .env("AGENT_RUNNER_QUEUE_URL", postgres.url())
                .env(
                    "AGENT_RUNNER_LOG_ROOT",
                    place.env.root().join(format!("logs-{number}")),
                )
                .spawn()
                .unwrap()
        })
        .collect();
    let all_done = eventually(Duration::from_secs(90), || {
        // The label comes last.
        let done = |issue: &&u64| {
            let labels = place.host.labels(DISPATCH, **issue);
            labels.iter().any(|label| label == "processed")
        };
        issues.iter().filter(done).count() == issues.len()
    });
    for worker in &mut workers {
        let pid = worker.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert_eq!(worker.wait().unwrap().code(), Some(143));
    }
    assert!(all_done);
    for issue in issues {
        place.assert_done(issue);
    }
    assert_eq!(place.host.pulls(TARGET).len() as u64, ISSUES);
}

/// The fenced YAML of a page, document by document.
fn documents(page: &str) -> Vec<Yaml> {
    read(page)
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .flat_map(|block| YamlLoader::load_from_str(block).unwrap())
        .collect()
}

#[test]
fn the_manifests_for_kubernetes_are_yaml_and_set_only_known_variables() {
    let documents = documents("docs/kubernetes.md");
    let kinds: Vec<&str> = documents
        .iter()
        .filter_map(|document| document["kind"].as_str())
        .collect();
    assert!(
        kinds.contains(&"Deployment") && kinds.contains(&"ScaledObject"),
        "{kinds:?}"
    );
    let known = known_variables();
    let deployment = documents
        .iter()
        .find(|document| document["kind"].as_str() == Some("Deployment"))
        .unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    for variable in container["env"].as_vec().unwrap() {
        let name = variable["name"].as_str().unwrap();
        assert!(known.contains(name), "{name}");
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    let probe = &container["livenessProbe"]["exec"]["command"];
    let words: Vec<&str> = probe
        .as_vec()
        .unwrap()
        .iter()
        .filter_map(Yaml::as_str)
        .collect();
    assert_eq!(words, ["agent-runner", "dispatch", "--health"]);
}
