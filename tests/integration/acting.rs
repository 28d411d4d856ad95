//! Acting on runs: `cancel` ends one, `rerun` repeats one, `show --junit` hands one to a CI server.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use insta::{assert_snapshot, with_settings};
use serde_json::Value;

use crate::support::{
    Done, TestEnv, eventually, evidence, filters, make_pipe, processes_with, unique_sleep,
};

const SOON: Duration = Duration::from_secs(20);

/// A run that goes on until it is ended; its agent has begun.
fn running(env: &TestEnv) -> Child {
    let runner = env.spawn(&["run", "--agent", "fake", "--task", "work"]);
    assert!(eventually(SOON, || env.repository().join("begun").exists()));
    runner
}

fn sleeper(grace: &str, script: &str) -> TestEnv {
    TestEnv::new()
        .config(&format!("[runner]\ngrace_period = \"{grace}\""))
        .script("fake", "text", &format!("touch begun; {script}"))
        .task("work", "")
}

#[test]
fn a_cancelled_run_ends_in_order_and_cancel_waits_for_its_record() {
    let sleep = unique_sleep(60);
    let script = format!("trap 'echo tidied; exit 0' TERM; sleep {sleep} & wait");
    let env = sleeper("30s", &script);
    let mut runner = running(&env);
    let done = env.agent_runner(&["cancel", "latest", "--json"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let record: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(
        (&record["outcome"], &record["exit_code"]),
        (&"interrupted".into(), &143.into())
    );
    assert_eq!(record["last_message"], "tidied");
    assert_eq!(runner.wait().unwrap().code(), Some(143));
    assert!(processes_with(&sleep).is_empty());
    let again = env.agent_runner(&["cancel"]);
    assert_eq!(again.code, Some(0));
    assert!(
        again.stderr.contains("has ended already: interrupted"),
        "{}",
        again.stderr
    );
    let unknown = env.agent_runner(&["cancel", "work/fake/20200101_000000"]);
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.stderr.contains("there is no run"),
        "{}",
        unknown.stderr
    );
}

#[test]
fn the_run_that_goes_on_is_cancelled_and_not_a_later_one_that_was_skipped() {
    let env = sleeper("30s", "sleep 60");
    let mut runner = running(&env);
    let skipped = env.agent_runner(&["run", "--agent", "fake", "--task", "work"]);
    assert_eq!(skipped.code, Some(0), "{}", skipped.stderr);
    for (name, told) in [("latest:work/fake", "has"), ("latest", "has ended already")] {
        let done = env.agent_runner(&["cancel", name]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stderr.contains(told), "{}", done.stderr);
    }
    assert_eq!(runner.wait().unwrap().code(), Some(143));
}

#[test]
fn cancelling_once_more_kills_at_once() {
    let env = sleeper("10m", "trap '' TERM; while :; do sleep 0.1; done");
    let mut runner = running(&env);
    let first = env.spawn(&["cancel"]);
    let events = || {
        let run = env.run_directory("work", "fake");
        fs::read_to_string(run.join("events.jsonl")).unwrap()
    };
    assert!(eventually(SOON, || events().contains("stopping")));
    let second = env.agent_runner(&["cancel"]);
    assert_eq!(second.code, Some(0), "{}", second.stderr);
    assert_eq!(runner.wait().unwrap().code(), Some(143));
    let first = Done::from(first.wait_with_output().unwrap());
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert_eq!(env.record("work", "fake")["agent_signal"], 9);
}

#[test]
fn a_stopped_run_is_cancelled_too() {
    let env = sleeper("5s", "sleep 600 & wait");
    let mut runner = running(&env);
    let pid = runner.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(env.agent_runner(&["cancel"]).code, Some(0));
    assert_eq!(runner.wait().unwrap().code(), Some(143));
}

#[test]
fn a_run_that_still_looks_at_its_repository_is_cancelled() {
    for isolation in ["none", "worktree"] {
        let env = sleeper("5s", "echo done");
        let waits_for = env.repository().join(".git/info/exclude");
        if waits_for.exists() {
            fs::remove_file(&waits_for).unwrap();
        }
        make_pipe(&waits_for);
        let run = [
            "run",
            "--agent",
            "fake",
            "--task",
            "work",
            "--isolation",
            isolation,
        ];
        let mut runner = env.spawn(&run);
        let begun = || {
            let runs = env.run_directories("work", "fake");
            runs.first()
                .is_some_and(|run| run.join("runner.log").exists())
        };
        assert!(eventually(SOON, begun));
        std::thread::sleep(Duration::from_millis(500));
        assert!(
            !env.run_directory("work", "fake")
                .join("metadata.json")
                .exists()
        );
        let done = env.agent_runner(&["cancel", "latest"]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(runner.wait().unwrap().code(), Some(143));
        assert_eq!(env.record("work", "fake")["outcome"], "interrupted");
    }
}

#[test]
fn a_process_that_is_not_the_runs_runner_is_never_signalled() {
    let env = sleeper("5s", "sleep 600 & wait");
    let mut runner = running(&env);
    let mut innocent = Command::new("sleep").arg("600").spawn().unwrap();
    let file = env.run_directory("work", "fake").join("metadata.json");
    let whole = fs::read_to_string(&file).unwrap();
    let host = env.record("work", "fake")["host"].to_string();
    for (from, to) in [
        (
            format!("\"pid\": {}", runner.id()),
            format!("\"pid\": {}", innocent.id()),
        ),
        (
            format!("\"host\": {host}"),
            "\"host\": \"elsewhere\"".to_owned(),
        ),
        ("\"boot_id\": \"".to_owned(), "\"boot_id\": \"x".to_owned()),
    ] {
        let changed = whole.replacen(&from, &to, 1);
        assert_ne!(changed, whole);
        fs::write(&file, changed).unwrap();
        let done = env.agent_runner(&["cancel"]);
        assert_eq!(done.code, Some(1), "{to}");
        assert!(
            done.stderr.contains("cannot be cancelled"),
            "{}",
            done.stderr
        );
    }
    assert!(innocent.try_wait().unwrap().is_none());
    innocent.kill().unwrap();
    innocent.wait().unwrap();
    fs::write(&file, whole).unwrap();
    assert!(runner.try_wait().unwrap().is_none());
    assert_eq!(env.agent_runner(&["cancel"]).code, Some(0));
    runner.wait().unwrap();
}

/// An agent that commits its prompt.
fn scribe() -> TestEnv {
    TestEnv::new()
        .script(
            "scribe",
            "text",
            "cat > said; git add -A; git commit -qm said; echo done",
        )
        .script("other", "text", "cat > other; echo done")
        .config("[tasks.work]\nprompt_text = \"{{ run_id }} says {{ date }}\"\n")
}

fn runs(env: &TestEnv, agent: &str) -> Vec<Value> {
    env.records("work", agent)
}

#[test]
fn a_rerun_gives_the_same_prompt_and_limits_and_names_the_run_it_repeats() {
    let env = scribe();
    let arguments = [
        "run",
        "--agent",
        "scribe",
        "--task",
        "work",
        "--timeout",
        "77s",
    ];
    assert_eq!(env.agent_runner(&arguments).code, Some(0));
    let before = env.git(&["show", "HEAD:said"]);
    let done = env.agent_runner(&["rerun", "latest"]);
    // The same words are in place already, so there is nothing to commit.
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains("as it is now"), "{}", done.stderr);
    let records = runs(&env, "scribe");
    let first = format!("work/scribe/{}", records[0]["run_id"].as_str().unwrap());
    assert_eq!(records[1]["previous_run"], first.as_str());
    assert_eq!(records[1]["timeout_seconds"], 77.0);
    assert_eq!(records[1]["prompt_sha256"], records[0]["prompt_sha256"]);
    assert_eq!(
        fs::read_to_string(env.repository().join("said"))
            .unwrap()
            .trim(),
        before
    );
    assert!(evidence(&records[1]).contains("it repeats work/scribe/"));
    let shown = env.agent_runner(&["show", &first]).stdout;
    assert!(shown.contains("next run      work/scribe/"), "{shown}");
    let by_other = env.agent_runner(&["rerun", &first, "--agent", "other"]);
    assert_eq!(by_other.code, Some(1), "{}", by_other.stderr);
    assert_eq!(
        runs(&env, "other")[0]["prompt_sha256"],
        records[0]["prompt_sha256"]
    );
    assert_eq!(runs(&env, "other")[0]["previous_run"], first.as_str());
}

#[test]
fn an_isolated_rerun_begins_at_the_commit_where_the_run_began() {
    let env = scribe();
    let base = env.git(&["rev-parse", "HEAD"]);
    assert_eq!(env.run("scribe", "work").code, Some(0));
    fs::write(env.repository().join("later"), "by a person").unwrap();
    env.git(&["add", "-A"]);
    env.git(&["commit", "-qm", "later"]);
    let done = env.agent_runner(&["rerun", "--agent", "other", "--isolation", "worktree"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let record = &runs(&env, "other")[0];
    assert_eq!(record["head_before"], base.as_str());
    // What it did not commit stays in its work tree, which knows nothing of what came later.
    let text = evidence(record);
    let tree = text
        .split('`')
        .find(|part| part.contains("worktrees"))
        .unwrap();
    assert!(fs::exists(format!("{tree}/other")).unwrap());
    assert!(!fs::exists(format!("{tree}/later")).unwrap());
    assert!(!fs::exists(format!("{tree}/said")).unwrap());
    let commits = "echo new > new; git add -A; git commit -qm new; echo done";
    let env = env.script("maker", "text", commits);
    let first = format!(
        "work/scribe/{}",
        runs(&env, "scribe")[0]["run_id"].as_str().unwrap()
    );
    let again = [
        "rerun",
        &first,
        "--agent",
        "maker",
        "--isolation",
        "worktree",
    ];
    let done = env.agent_runner(&again);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    // Its commit came home on top of what was there.
    assert_eq!(env.git(&["log", "--format=%s"]), "new\nlater\nsaid\nfirst");
}

#[test]
fn a_rerun_elsewhere_names_its_own_place_and_branch_in_the_old_prompt() {
    // It goes where it is told.
    let script = "read -r place; read -r branch; cd \"$place\"; \
                  test \"$(git branch --show-current)\" = \"$branch\" || exit 9; \
                  echo x > said.$$; git add said.*; git commit -qm said; echo done";
    let env = TestEnv::new()
        .script("scribe", "text", script)
        .config("[tasks.work]\nprompt_text = \"{{ repo_root }}\\n{{ branch }}\\n\"\n");
    let isolated = ["--isolation", "worktree"];
    let run = ["run", "--agent", "scribe", "--task", "work"];
    assert_eq!(
        env.agent_runner(&[&run[..], &isolated].concat()).code,
        Some(0)
    );
    let prompt = |number: usize| {
        let run = &env.run_directories("work", "scribe")[number];
        fs::read_to_string(run.join("prompt.md")).unwrap()
    };
    // To another work tree, and to none.
    for (place, further) in [
        (&isolated[..], "agent-runner/work/scribe/"),
        (&["--isolation", "none"], "main"),
    ] {
        let done = env.agent_runner(&[&["rerun", "latest"], place].concat());
        assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
        assert!(
            done.stderr.contains("stand for the old ones"),
            "{}",
            done.stderr
        );
        let text = prompt(env.run_directories("work", "scribe").len() - 1);
        assert!(text.lines().nth(1).unwrap().starts_with(further), "{text}");
    }
    assert_ne!(prompt(0), prompt(1));
    let here = prompt(2).replacen("/\n", "\n", 1);
    assert_eq!(here, format!("{}\nmain\n", env.repository().display()));
    assert!(evidence(&runs(&env, "scribe")[2]).contains("stand for the old ones"));
    // From the person's checkout to a work tree, the checkout is not named any more.
    let text = "{{ repo_root }}/said\\n";
    let env = TestEnv::new()
        .script("reader", "text", "cat > read; echo done")
        .config(&format!(
            "[tasks.work]\nprompt_text = \"{text}\"\nrequires_commit = false\n"
        ));
    assert_eq!(env.run("reader", "work").code, Some(0));
    assert_eq!(
        env.agent_runner(&[&["rerun"], &isolated[..]].concat()).code,
        Some(0)
    );
    let directories = env.run_directories("work", "reader");
    let text = fs::read_to_string(directories[1].join("prompt.md")).unwrap();
    assert!(
        text.contains("/worktrees/work.reader.") && text.ends_with("/said\n"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_repeated_as_it_was_is_refused_with_the_reason() {
    let env = scribe();
    assert_eq!(env.run("scribe", "work").code, Some(0));
    let directory = env.run_directory("work", "scribe");
    fs::write(directory.join("prompt.md"), "masked").unwrap();
    let refused = env.agent_runner(&["rerun"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("secrets were masked"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("--new-prompt"),
        "{}",
        refused.stderr
    );
    assert_eq!(runs(&env, "scribe").len(), 1);
    assert_eq!(env.agent_runner(&["rerun", "--new-prompt"]).code, Some(0));
    crate::records::with_original_records(&env);
    let original = env.agent_runner(&["rerun", "document_coverage/claude/20260112_080003"]);
    assert_eq!(original.code, Some(1));
    assert!(
        original.stderr.contains("does not name its prompt"),
        "{}",
        original.stderr
    );
    let env = sleeper("1s", "sleep 600 & wait");
    let mut runner = running(&env);
    let refused = env.agent_runner(&["rerun"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("cancel"), "{}", refused.stderr);
    assert_eq!(env.agent_runner(&["cancel"]).code, Some(0));
    runner.wait().unwrap();
}

#[test]
fn the_checks_of_a_run_are_handed_to_a_ci_server_as_junit() {
    let verify = r#"verify = ["echo 'one & two' tk_verysecretverysecretverysecret", "printf 'a<b>\\033\\001'; exit 3", "never"]"#;
    let env = TestEnv::new()
        .script("fake", "text", "echo done")
        .task("work", verify)
        .variable(
            "AGENT_RUNNER_NTFY_TOKEN",
            "tk_verysecretverysecretverysecret",
        );
    assert_eq!(env.run("fake", "work").code, Some(1));
    let done = env.agent_runner(&["show", "--junit"]);
    assert!(!done.stdout.contains("tk_very"), "{}", done.stdout);
    let mut filters = filters();
    filters.push((r#"time="[0-9.]+""#, "time=\"[TIME]\""));
    filters.push((r#"hostname="[^"]*""#, "hostname=\"[HOST]\""));
    with_settings!({ filters => filters }, { assert_snapshot!(done.shown(&env)); });
}

/// Claude's own name for its model, as the real CLI tells it.
const CLAUDES: &str = "claude-sonnet-4-5";

#[test]
fn a_rerun_by_another_agent_takes_that_ones_model_and_says_so() {
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/agents/claude/2.1.197/b-tool.stdout"
    );
    let others = ["codex", "gemini", "kilo", "ollama", "opencode", "qwen"];
    let mut env = TestEnv::new()
        .script("plain", "text", "echo done")
        .task("work", "");
    let program = env.root().join("claude");
    fs::write(&program, format!("#!/bin/sh\ncat '{fixture}'\n")).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, executable).unwrap();
    for agent in others.iter().chain(&["claude"]) {
        let variable = format!("AGENT_RUNNER_{}_BIN", agent.to_uppercase());
        env = env.variable(&variable, program.to_str().unwrap());
    }
    assert_eq!(env.run("claude", "work").code, Some(0));
    assert_eq!(env.record("work", "claude")["model"], CLAUDES);
    let plan = |arguments: &[&str]| {
        let done = env.agent_runner(&[&["rerun", "--dry-run", "--json"], arguments].concat());
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        (done.stdout, done.stderr)
    };
    for agent in others.iter().chain(&["plain"]) {
        let (plan, said) = plan(&["--agent", agent]);
        assert!(!plan.contains(CLAUDES), "{agent}: {plan}");
        let dropped = format!("instead of {CLAUDES} of claude");
        assert!(said.contains(&dropped), "{agent}: {said}");
    }
    let (_, said) = plan(&["--agent", "kilo"]);
    assert!(said.contains("the model kilo/minimax/"), "{said}");
    let (_, said) = plan(&["--agent", "codex"]);
    assert!(said.contains("the default model of codex"), "{said}");
    let (same, said) = plan(&[]);
    assert!(same.contains(CLAUDES), "{same}");
    assert!(!said.contains("instead of"), "{said}");
    let (named, said) = plan(&["--agent", "codex", "--model", "gpt-x"]);
    assert!(
        named.contains("gpt-x") && !said.contains("instead of"),
        "{named}{said}"
    );
}

#[test]
fn junit_is_xml_whatever_a_check_prints() {
    if !crate::real::components::has("xmllint") {
        return;
    }
    let hostile =
        "printf 'a]]>b<![CDATA[c<!--&amp;\\000\\001\\033[2J\\377\\300é\\357\\277\\277<?x'";
    let verify = toml::Value::from(vec![hostile, &format!("{hostile}; exit 3")]);
    let env = TestEnv::new()
        .script("fake", "text", &format!("{hostile}; echo done"))
        .task("work", &format!("verify = {verify}"));
    assert_eq!(env.run("fake", "work").code, Some(1));
    let page = env.agent_runner(&["show", "--junit"]).stdout;
    let file = env.root().join("junit.xml");
    fs::write(&file, &page).unwrap();
    let read = |path: &str| {
        let mut xmllint = Command::new("xmllint");
        env.settle(xmllint.args(["--nonet", "--xpath", path]).arg(&file));
        let done = Done::from(xmllint.output().unwrap());
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{page}");
        done.stdout.trim_end().to_owned()
    };
    assert_eq!(read("count(//testcase)"), "3");
    assert_eq!(read("string(//testsuite/@tests)"), "3");
    assert_eq!(
        read("string(//testsuite/@failures)"),
        read("count(//failure)")
    );
    assert_eq!(read("string(//testcase[2]/@name)"), hostile);
    for case in ["//testcase[1]", "//testcase[2]", "//testcase[3]"] {
        let printed = read(&format!("string({case}/system-out)"));
        assert!(printed.starts_with("a]]>b<![CDATA[c<!--&amp;"), "{printed}");
        assert!(
            printed.contains("\\u{0}\\u{1}") && printed.contains("<?x"),
            "{printed}"
        );
    }
    assert!(read("string(//testcase[3]/failure/@message)").contains('3'));
}
