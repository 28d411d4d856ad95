//! Wrong input: a clear error that names it and the nearest right one; nothing started or lost.

use std::fs;

use insta::{assert_snapshot, with_settings};

use crate::support::{TestEnv, filters};

#[test]
fn an_unknown_task_agent_or_flag_exits_2_and_starts_nothing() {
    let env = TestEnv::new();
    for (agent, task) in [
        ("cluade", "debug_hello_simple"),
        ("claude", "debug_hello_simpel"),
    ] {
        let done = env.run(agent, task);
        assert_eq!(done.code, Some(2));
        assert!(done.stdout.is_empty());
    }
    assert_snapshot!(env.run("cluade", "debug_hello_simple").stderr);
    assert_snapshot!(env.run("claude", "debug_hello_simpel").stderr);
    let modelled = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    let model = ["run", "--agent", "fake", "--task", "work", "--model", "x"];
    assert_eq!(modelled.agent_runner(&model).code, Some(2));
    assert_eq!(env.agent_runner(&["run", "--agnet", "x"]).code, Some(2));
    assert_eq!(env.agent_runner(&["frobnicate"]).code, Some(2));
    assert!(!env.logs().exists());
}

#[test]
fn names_that_are_paths_are_refused() {
    let env = TestEnv::new();
    for (agent, task) in [
        ("../claude", "debug_hello_simple"),
        ("claude", "../../etc"),
        ("/bin/sh", "x"),
    ] {
        assert_eq!(env.run(agent, task).code, Some(2), "{agent} {task}");
    }
    assert!(!env.logs().exists());
}

#[test]
fn a_wrong_key_names_file_line_column_and_the_nearest_right_one() {
    let env = TestEnv::new().config("[runner]\ntimeuot = \"5m\"");
    let done = env.run("patch", "debug_hello_world");
    assert_eq!(done.code, Some(2));
    assert_snapshot!(done.shown(&env));
    assert!(!env.logs().exists());
}

#[test]
fn an_unknown_prompt_variable_is_a_run_that_did_not_start() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .config("[tasks.work]\nprompt_text = \"on {{ brnach }}\"\nrequires_commit = false");
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert_snapshot!(done.stderr);
}

#[test]
fn what_keeps_a_run_from_starting_is_recorded_and_exits_1() {
    let missing_binary = TestEnv::new()
        .config("[agents.fake]\ncommand = [\"no-such-program\"]")
        .task("work", "");
    let not_executable = TestEnv::new();
    let file = not_executable.root().join("agent");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    let not_executable = not_executable
        .config(&format!(
            "[agents.fake]\ncommand = [\"{}\"]",
            file.display()
        ))
        .task("work", "");
    let interpreter = TestEnv::new();
    let file = interpreter.root().join("agent");
    fs::write(&file, "#!/no/such/interpreter\n").unwrap();
    std::process::Command::new("chmod")
        .arg("+x")
        .arg(&file)
        .status()
        .unwrap();
    let interpreter = interpreter
        .config(&format!(
            "[agents.fake]\ncommand = [\"{}\"]",
            file.display()
        ))
        .task("work", "");
    let missing_prompt = TestEnv::new()
        .script("fake", "text", "echo hello")
        .config("[tasks.work]\nprompt = \"nowhere.md\"");
    let empty_prompt = TestEnv::new()
        .script("fake", "text", "echo hello")
        .config("[tasks.work]\nprompt = \"empty.md\"");
    fs::create_dir(empty_prompt.root().join("prompts")).unwrap();
    fs::write(empty_prompt.root().join("prompts/empty.md"), " \n").unwrap();
    let missing_repository = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    fs::remove_dir_all(missing_repository.repository()).unwrap();
    let no_repository = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "requires_commit = true");
    fs::remove_dir_all(no_repository.repository().join(".git")).unwrap();

    let mut errors = Vec::new();
    for env in [
        missing_binary,
        not_executable,
        interpreter,
        missing_prompt,
        empty_prompt,
        missing_repository,
        no_repository,
    ] {
        let done = env.run("fake", "work");
        assert_eq!(done.code, Some(1), "{}", done.shown(&env));
        let record = env.record("work", "fake");
        assert_eq!(record["outcome"], "start_failed");
        assert_eq!(record["error_class"], "spawn");
        assert!(
            env.run_directory("work", "fake")
                .join("summary.txt")
                .exists()
        );
        let error = record["error"].as_str().unwrap();
        let path = std::env::var("PATH").unwrap();
        errors.push(
            error
                .replace(&env.root().display().to_string(), "[ROOT]")
                .replace(&path, "[PATH]"),
        );
    }
    assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_log_root_that_cannot_be_written_exits_1_before_anything_is_started() {
    let env = TestEnv::new()
        .script("fake", "text", "touch started")
        .task("work", "");
    fs::write(env.logs(), "a file in the way").unwrap();
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(1));
    with_settings!({ filters => filters() }, { assert_snapshot!(done.shown(&env)); });
    assert!(!env.repository().join("started").exists());
}

#[test]
fn a_run_that_does_not_exist_exits_1_and_says_so() {
    let env = TestEnv::new();
    for verb in ["show", "explain"] {
        let done = env.agent_runner(&[verb, "20200101_000000"]);
        assert_eq!(done.code, Some(1));
        assert!(done.stderr.contains("20200101_000000"), "{}", done.stderr);
    }
}

#[test]
fn a_closed_standard_output_does_not_end_the_run() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    let mut shell = std::process::Command::new("sh");
    env.settle(&mut shell);
    let run = env!("CARGO_BIN_EXE_agent-runner");
    let line = format!("{run} run --agent fake --task work >&- 2>&-; echo $?");
    let output = shell.args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n");
    assert_eq!(env.record("work", "fake")["outcome"], "success");
}

#[test]
fn a_mistyped_repository_is_not_made() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    let nowhere = env.root().join("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    for arguments in [
        &[
            "run", "--agent", "fake", "--task", "work", "--repo", nowhere,
        ][..],
        &["heartbeat"],
    ] {
        let mut command = env.command(arguments);
        command.env_remove("AGENT_RUNNER_LOG_ROOT");
        let output = command.env("AGENT_RUNNER_REPO_ROOT", nowhere).output();
        let done = crate::support::Done::from(output.unwrap());
        assert_eq!(done.code, Some(1), "{arguments:?}");
        let told = format!("the repository `{nowhere}` does not exist");
        assert!(done.stderr.contains(&told), "{}", done.stderr);
        assert!(!fs::exists(nowhere).unwrap(), "{arguments:?}");
    }
}

#[test]
fn a_list_of_agents_lacks_no_name_and_says_when_none_could_start() {
    let env = TestEnv::new()
        .task("work", "")
        .variable("PATH", "/usr/bin:/bin");
    for list in ["", "claude,", ",claude"] {
        let done = env.run(list, "work");
        assert_eq!(done.code, Some(2), "{list}");
        assert!(done.stderr.contains("lacks the name"), "{}", done.stderr);
    }
    assert!(!env.logs().exists());
    let env = env
        .config("[agents.one]\ncommand = [\"no-such-program\"]")
        .config("[agents.two]\ncommand = [\"no-such-program-either\"]");
    let done = env.run("one,two", "work");
    assert_eq!(done.code, Some(1));
    assert!(done.stderr.contains("none of 2 agents"), "{}", done.stderr);
}
