//! What the program prints as JSON is what `docs/schema` says, field by field.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use boon::{Compiler, Schemas};
use serde_json::Value;

use crate::support::TestEnv;

/// The published schema of that name.
fn schema(name: &str) -> Value {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let text = fs::read_to_string(directory.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Readers must bear new fields; what is printed now must be in the schema.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(list) => list.iter_mut().for_each(close),
        _ => {}
    }
}

/// The names of all published schemas.
fn names() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let files = fs::read_dir(directory).unwrap();
    let name = |file: fs::DirEntry| {
        file.path()
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    files.map(|file| name(file.unwrap())).collect()
}

/// Why a value is not as its schema says.
fn fault(name: &str, value: &Value) -> Option<String> {
    let mut compiler = Compiler::new();
    for name in names() {
        let mut schema = schema(&name);
        close(&mut schema);
        compiler
            .add_resource(&format!("https://schema.invalid/{name}.json"), schema)
            .unwrap();
    }
    let mut schemas = Schemas::new();
    let schema = compiler
        .compile(&format!("https://schema.invalid/{name}.json"), &mut schemas)
        .unwrap();
    schemas
        .validate(value, schema)
        .err()
        .map(|error| format!("{error:#}"))
}

/// Asserts that a text is JSON as the schema of that name says.
#[track_caller]
pub fn check(name: &str, text: &str) {
    let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    if let Some(fault) = fault(name, &value) {
        panic!("{name}: {fault}\n{value:#}");
    }
}

fn env() -> TestEnv {
    let limited =
        r#"printf '%s\n' '{"type":"turn.failed","error":{"message":"usage limit"}}'; exit 1"#;
    let commits = "echo x > a; git add a; git commit -qm 'add a'; echo done";
    TestEnv::new()
        .script("good", "text", commits)
        .script("bad", "text", "exit 3")
        .script("limited", "codex", limited)
        .task(
            "work",
            "requires_commit = true\nschedule = \"@daily\"\npaths = [\"**\"]",
        )
        .config("[agents.codex]\nmodel = \"gpt-x\"\nmax_runs_per_day = 3")
}

#[test]
fn records_are_as_their_schema_says() {
    let env = env().unreachable_server();
    for agent in ["good", "bad", "limited", "no"] {
        let done = env.agent_runner(&["run", "--agent", agent, "--task", "work", "--json"]);
        if agent != "no" {
            check("record", &done.stdout);
            let file = env.run_directory("work", agent).join("metadata.json");
            check("record", &fs::read_to_string(file).unwrap());
        }
    }
    let runs = env.agent_runner(&["runs", "--json"]).stdout;
    assert_eq!(runs.lines().count(), 3);
    runs.lines().for_each(|line| check("runs", line));
    check("record", &env.agent_runner(&["show", "--json"]).stdout);
}

#[test]
fn agents_tasks_plans_and_findings_are_as_their_schemas_say() {
    let env = env();
    check("agents", &env.agent_runner(&["agents", "--json"]).stdout);
    check("tasks", &env.agent_runner(&["tasks", "--json"]).stdout);
    for (agent, code) in [("good", 0), ("claude", 1)] {
        let plan = [
            "run",
            "--agent",
            agent,
            "--task",
            "work",
            "--dry-run",
            "--json",
        ];
        let missing = [("AGENT_RUNNER_CLAUDE_BIN", "/no/such/claude")];
        let output = env.command(&plan).envs(missing).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        check("plan", &String::from_utf8(output.stdout).unwrap());
    }
    check("doctor", &env.agent_runner(&["doctor", "--json"]).stdout);
}

#[test]
fn sums_triage_and_delegated_tasks_are_as_their_schemas_say() {
    let env = env();
    check("triage", &env.agent_runner(&["triage", "--json"]).stdout);
    for agent in ["good", "bad", "bad", "limited"] {
        drop(env.run(agent, "work"));
    }
    check("triage", &env.agent_runner(&["triage", "--json"]).stdout);
    for by in ["day", "agent", "task", "outcome"] {
        let stats = env.agent_runner(&["stats", "--by", by, "--json"]).stdout;
        check("stats", &stats);
    }
    drop(env.agent_runner(&["delegate", "x", "--provider", "local"]));
    drop(env.agent_runner(&["delegate", "x", "--provider", "mock"]));
    let delegated = env.agent_runner(&["delegated", "--json"]).stdout;
    check("delegated", &delegated);
}

#[test]
fn a_field_that_is_missing_wrong_or_unknown_is_seen() {
    let env = env();
    let mut agents: Value =
        serde_json::from_str(&env.agent_runner(&["agents", "--json"]).stdout).unwrap();
    assert_eq!(fault("agents", &agents), None);
    agents[0]["installed"] = "yes".into();
    assert!(fault("agents", &agents).is_some());
    agents[0]["installed"] = true.into();
    agents[0]["new"] = 1.into();
    assert!(fault("agents", &agents).is_some());
    agents[0].as_object_mut().unwrap().remove("new");
    agents[0].as_object_mut().unwrap().remove("name");
    assert!(fault("agents", &agents).is_some());
}

/// What each command prints with `--json`, by the name of its schema; in this order, so that later
/// ones find the runs of earlier ones.
const PRINTED: [(&str, &str); 21] = [
    ("run --agent good --task work", "record"),
    ("run --agent good --task work --dry-run", "plan"),
    ("logs", "event"),
    ("run --agent teller --task work", "record"),
    ("logs", "event"),
    ("agents", "agents"),
    ("tasks", "tasks"),
    ("doctor", "doctor"),
    ("runs", "runs"),
    ("show", "record"),
    ("explain", "record"),
    ("stats", "stats"),
    ("rerun", "record"),
    ("rerun --dry-run", "plan"),
    ("cancel", "record"),
    ("clean", "clean"),
    ("clean --dry-run --older-than 1h", "clean"),
    ("triage", "triage"),
    ("schedule check", "schedule"),
    ("delegate x --provider mock", "delegate"),
    ("delegated", "delegated"),
];

/// What needs a server: `dispatch::smoke` holds it against its schema.
const PRINTED_ELSEWHERE: [(&str, &str); 1] = [("smoke", "smoke")];

#[test]
fn every_command_that_prints_json_prints_what_its_schema_says() {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/agents/claude/2.1.197/b-tool.stdout"
    );
    let env = env().script("teller", "claude", &format!("cat '{fixture}'"));
    crate::records::with_original_records(&env);
    for (arguments, name) in PRINTED {
        let arguments: Vec<&str> = arguments.split(' ').chain(["--json"]).collect();
        let done = env.agent_runner(&arguments);
        let values: Vec<Value> = serde_json::Deserializer::from_str(&done.stdout)
            .into_iter()
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", done.stdout));
        assert!(!values.is_empty(), "{arguments:?}: {}", done.stderr);
        for value in values {
            if let Some(fault) = fault(name, &value) {
                panic!("{arguments:?}: {fault}\n{value:#}");
            }
        }
    }
    // What was printed above is what can be printed.
    for (verbs, command) in crate::help::commands() {
        let mut arguments = command.get_arguments();
        let verb = verbs.join(" ");
        let mut printed = PRINTED.iter().chain(&PRINTED_ELSEWHERE);
        let is_printed = printed.any(|(line, _)| line.starts_with(&verb));
        let has_json = arguments.any(|argument| argument.get_id() == "json");
        assert!(!has_json || is_printed, "{verb} --json has no schema");
    }
    let used = PRINTED.iter().chain(&PRINTED_ELSEWHERE);
    let used: BTreeSet<String> = used.map(|(_, name)| (*name).to_owned()).collect();
    assert_eq!(used, names());
}

#[test]
fn every_event_of_a_run_is_as_the_schema_says() {
    // Every kind of event, in a run whose checks fail, and in the words of each agent.
    let snapshot = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/store/snapshots/agent_runner__store__format__tests__every_event_is_one_line_of_json.snap"
    );
    let text = fs::read_to_string(snapshot).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('{'));
    assert!(lines.clone().count() > 10);
    lines.for_each(|line| check("event", line));
    let env = TestEnv::new()
        .script("fake", "text", "echo done")
        .task("work", "verify = [\"true\", \"echo no; exit 3\"]");
    assert_eq!(env.run("fake", "work").code, Some(1));
    let events = env.run_directory("work", "fake").join("events.jsonl");
    let events = fs::read_to_string(events).unwrap();
    assert!(events.contains("\"check\""), "{events}");
    events.lines().for_each(|line| check("event", line));
}
