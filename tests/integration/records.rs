//! Looking back: `runs`, `show`, `agents`, `tasks`, and the records of the original programs.

use std::fs;
use std::path::Path;

use insta::{assert_snapshot, with_settings};
use serde_json::Value;

use crate::support::{TestEnv, filters};

/// Copies the records that stand for those of the original programs into the log root.
pub fn with_original_records(env: &TestEnv) {
    copy(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/original_records"),
        &env.logs(),
    );
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn records_of_the_original_programs_are_listed_and_shown() {
    let env = TestEnv::new();
    with_original_records(&env);
    let done = env.agent_runner(&["runs"]);
    assert_eq!(done.code, Some(0));
    assert_snapshot!(done.stdout);
    let runs = env.agent_runner(&["runs", "--limit", "0", "--json"]);
    let records: Vec<Value> = runs
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for record in &records {
        let run = record["run_id"].as_str().unwrap();
        let path = format!(
            "{}/{}/{run}",
            record["task"].as_str().unwrap(),
            record["agent"].as_str().unwrap()
        );
        assert_eq!(env.agent_runner(&["show", &path]).code, Some(0), "{path}");
        assert_eq!(
            env.agent_runner(&["explain", &path]).code,
            Some(0),
            "{path}"
        );
    }
}

#[test]
fn show_tells_everything_of_a_run_on_one_page() {
    let script = "echo x > a; git add a; git commit -qm 'add a'; printf 'all \\033[2J done\\n'";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .task("work", "requires_commit = true");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let done = env.agent_runner(&["show"]);
    let mut filters = filters();
    filters.push((r"resources .*", "resources [RESOURCES]"));
    filters.push((r"containment +\S+", "containment [CONTAINMENT]"));
    filters.push((r"took  +\S+", "took [TIME]"));
    filters.push((r"  [0-9a-f]{8} add", "  [ID] add"));
    filters.push((r"\([0-9a-f]{8} to [0-9a-f]{8}\)", "([ID] to [ID])"));
    filters.push((r"\d+m\d\ds", "[AFTER]"));
    filters.push((r",\n +", ", "));
    filters.push((r"\.(json|log|txt|md|jsonl) [0-9.]+ (Ki)?B", ".$1 [SIZE]"));
    with_settings!({ filters => filters }, { assert_snapshot!(done.shown(&env)); });
}

#[test]
fn runs_are_filtered_and_limited() {
    let env = TestEnv::new()
        .script("good", "text", "echo hello")
        .script("bad", "text", "exit 3")
        .task("work", "")
        .task("other", "");
    for (agent, task) in [("good", "work"), ("bad", "work"), ("good", "other")] {
        env.run(agent, task).code.unwrap();
    }
    let count = |arguments: &[&str]| {
        let all = [&["runs", "--json"], arguments].concat();
        env.agent_runner(&all).stdout.lines().count()
    };
    assert_eq!(count(&[]), 3);
    assert_eq!(count(&["--task", "work"]), 2);
    assert_eq!(count(&["--agent", "bad"]), 1);
    assert_eq!(count(&["--outcome", "success"]), 2);
    assert_eq!(count(&["--limit", "1"]), 1);
    let done = env.agent_runner(&["runs", "--outcome", "sucess"]);
    assert_eq!(done.code, Some(2));
    assert!(done.stderr.contains("success"), "{}", done.stderr);
}

#[test]
fn agents_and_tasks_show_what_is_in_force_and_where_it_comes_from() {
    let env = TestEnv::new()
        .config("[agents.codex]\nmodel = \"gpt-x\"\nbinary = \"/no/such/codex\"")
        .config("[tasks.debug_hello_simple]\ntimeout = \"5m\"")
        .script("fake", "text", "echo hello")
        .variable("QWEN_MODEL", "qwen-x")
        .variable("AGENT_RUNNER_TIMEOUT_SECONDS", "600");
    let json = |verb: &str| -> Vec<Value> {
        serde_json::from_str(&env.agent_runner(&[verb, "--json"]).stdout).unwrap()
    };
    let agents = json("agents");
    let agent = |name: &str| agents.iter().find(|agent| agent["name"] == name).unwrap();
    assert_eq!(agent("codex")["installed"], false);
    assert_eq!(agent("codex")["model"]["value"], "gpt-x");
    assert!(
        agent("codex")["model"]["origin"]
            .as_str()
            .unwrap()
            .ends_with("config.toml:2")
    );
    assert_eq!(agent("qwen")["model"]["origin"], "environment QWEN_MODEL");
    assert_eq!(agent("claude")["model"]["origin"], "default");
    assert_eq!(agent("fake")["installed"], true);
    assert_eq!(agent("patch")["installed"], true);
    let tasks = json("tasks");
    let task = |name: &str| tasks.iter().find(|task| task["name"] == name).unwrap();
    assert_eq!(
        task("debug_hello_simple")["timeout_seconds"]["value"],
        300.0
    );
    let inherited = &task("document_coverage")["timeout_seconds"];
    assert_eq!(inherited["value"], 600.0);
    assert_eq!(
        inherited["origin"],
        "environment AGENT_RUNNER_TIMEOUT_SECONDS"
    );
    with_settings!({ filters => filters() }, {
        assert_snapshot!(env.agent_runner(&["tasks"]).shown(&env));
    });
    assert_eq!(env.agent_runner(&["agents"]).code, Some(0));
}

#[test]
fn what_lies_in_the_log_root_is_for_its_owner_alone_whatever_the_umask() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "verify = [\"true\"]");
    // The log root itself was made by somebody else.
    fs::create_dir(env.logs()).unwrap();
    let mut shell = std::process::Command::new("sh");
    env.settle(&mut shell);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let line = format!(
        "umask 000; {run} run --agent fake --task work >&2 && \
         find logs/* logs/.state -perm /077"
    );
    let output = shell.args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}
