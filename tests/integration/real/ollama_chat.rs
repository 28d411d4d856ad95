//! `ollama run`, whose model has no tools: the diffs in its answer are the work. ollama itself is
//! a stand-in that prints what its documentation says, because no registry has an ollama server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::real::agents::in_own_name;
use crate::support::{Done, TestEnv, evidence};

/// What `ollama run --verbose` prints on standard error after an answer.
const STATISTICS: &str = "
total duration:       4.935886791s
load duration:        12.563334ms
prompt eval count:    26 token(s)
prompt eval duration: 130.079ms
prompt eval rate:     199.88 tokens/s
eval count:           298 token(s)
eval duration:        4.79s
eval rate:            62.21 tokens/s
";

/// Runs ollama's chat with a stand-in that gives this answer and ends like this.
fn chat(answer: &str, stderr: &str, exit: i32) -> (TestEnv, Done, Value) {
    let env = TestEnv::new();
    env.git(&["config", "user.name", "The Repository"]);
    env.git(&["config", "user.email", "repository@example.invalid"]);
    let program = env.root().join("ollama");
    let place = env.root().display();
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = --version ] && exec echo 'ollama version is 0.0.0'\n\
         echo \"$*\" > {place}/arguments\ncat > {place}/prompt\ncat {place}/answer\n\
         cat {place}/stderr >&2\nexit {exit}\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(env.root().join("answer"), answer).unwrap();
    fs::write(env.root().join("stderr"), stderr).unwrap();
    let env = env
        .config(&format!(
            "[agents.ollama]\nbinary = \"{}\"\nmode = \"chat\"\nmodel = \"small:1b\"",
            program.display()
        ))
        .task("work", "requires_commit = true\nretries = 0");
    let command = env.command(&["run", "--agent", "ollama", "--task", "work"]);
    let done = Done::from(in_own_name(command).output().unwrap());
    let record = env.record("work", "ollama");
    assert_eq!(
        fs::read_to_string(env.root().join("arguments")).unwrap(),
        "run --nowordwrap --hidethinking --verbose small:1b\n"
    );
    assert_eq!(
        fs::read_to_string(env.root().join("prompt")).unwrap(),
        "do the work"
    );
    (env, done, record)
}

const ANSWER: &str = "Here is the change:

```diff
--- a/README.md
+++ b/README.md
@@ -1 +1,2 @@
 # a repository
+Good morning.
```

And a new file:

```diff
--- /dev/null
+++ b/notes/new.txt
@@ -0,0 +1 @@
+new
```
";

#[test]
fn the_diffs_in_an_answer_are_applied_and_committed_as_the_runs_own() {
    let (env, done, record) = chat(ANSWER, STATISTICS, 0);
    assert_eq!(done.code, Some(0), "{record:#}");
    assert_eq!(record["outcome"], "success");
    assert_eq!(record["usage"]["input_tokens"], 26);
    assert_eq!(record["usage"]["output_tokens"], 298);
    assert_eq!(record["turns"], 1);
    assert_eq!(record["model"], "small:1b");
    assert_eq!(
        record["files_changed"],
        json!(["README.md", "notes/new.txt"])
    );
    let commits = record["commits"].as_array().unwrap();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0]["subject"], "Apply the answer of ollama to work");
    assert_eq!(commits[0]["author"], "The Repository");
    let mark = env.git(&["reflog", "-1", "--format=%gs"]);
    let run = format!("work/ollama/{}", record["run_id"].as_str().unwrap());
    assert!(mark.contains(&run), "{mark}");
    let facts = evidence(&record);
    assert!(
        facts.contains("git: the runner applied the diffs in the answer"),
        "{facts}"
    );
    assert_eq!(env.git(&["status", "--porcelain"]), "");
    assert_eq!(env.git(&["show", "HEAD:notes/new.txt"]), "new");
}

#[test]
fn a_diff_that_does_not_apply_is_an_error_and_changes_nothing() {
    let answer = ANSWER
        .replace("--- /dev/null", "--- a/notes/new.txt")
        .replace("-0,0 +1", "-1 +1");
    let (env, done, record) = chat(&answer, STATISTICS, 0);
    assert_eq!(done.code, Some(1), "{record:#}");
    assert_eq!(record["outcome"], "agent_error");
    let error = record["error"].as_str().unwrap();
    assert!(
        error.starts_with("the answer's diffs do not apply: "),
        "{error}"
    );
    assert_eq!(env.git(&["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(env.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_diff_with_a_masked_secret_is_not_applied() {
    let good = ANSWER.replace("Good morning.", "literally [redacted]");
    let (_env, done, record) = chat(&good, STATISTICS, 0);
    assert_eq!(done.code, Some(0), "{record:#}");
    let (env, done, record) = chat(
        &ANSWER.replace("Good morning.", "key = AKIAIOSFODNN7EXAMPLE"),
        STATISTICS,
        0,
    );
    assert_eq!(done.code, Some(1), "{record:#}");
    assert_eq!(record["outcome"], "agent_error");
    let error = record["error"].as_str().unwrap();
    assert!(error.contains("hold a secret"), "{error}");
    assert_eq!(env.git(&["rev-list", "--count", "HEAD"]), "1");
}

#[test]
fn an_answer_without_a_diff_is_no_work() {
    let (_env, done, record) = chat("I would change the README.\n", STATISTICS, 0);
    assert_eq!(done.code, Some(1));
    assert_eq!(record["outcome"], "commit_missing");
    assert_eq!(record["last_message"], "I would change the README.");
}

#[test]
fn what_ollama_fails_at_is_told() {
    let sign_in = "You need to be signed in to Ollama to run Cloud models.\n\n\
                   To sign in, navigate to:\n    https://ollama.com/connect?name=x\n\n";
    for (answer, stderr, exit, code, class) in [
        (
            "",
            "Error: model 'small:1b' not found\n",
            1,
            1,
            "model_not_found",
        ),
        (
            "",
            "Error: could not connect to ollama server, run 'ollama serve' to start it\n",
            1,
            1,
            "network",
        ),
        (
            "",
            "Error: 429 Too Many Requests: you've reached your hourly limit\n",
            1,
            10,
            "rate_limit",
        ),
        (sign_in, "", 0, 1, "auth"),
        (ANSWER, "Error: unexpected EOF\n", 1, 1, "unknown"),
    ] {
        let (env, done, record) = chat(answer, stderr, exit);
        assert_eq!(done.code, Some(code), "{record:#}");
        assert_eq!(record["error_class"], class, "{record:#}");
        assert_eq!(record["commits"], json!([]));
        assert_eq!(env.git(&["status", "--porcelain"]), "");
    }
}
