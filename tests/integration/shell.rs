//! The program in a shell: completion in a real bash, manual pages that `man` reads.

use std::fs;
use std::process::Command;

use crate::support::{Done, TestEnv};

/// What a real bash offers for a command line whose last word is being typed.
fn offered(env: &TestEnv, line: &str) -> Vec<String> {
    let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
    let (count, last) = (words.len() - 1, &words[words.len() - 1]);
    // What bash itself does when Tab is pressed.
    let script = format!(
        "source <(agent-runner completions bash)\n\
         function=$(complete -p agent-runner | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
         COMP_WORDS=({words}) COMP_CWORD={count} COMP_TYPE=9\n\
         $function agent-runner {last} {before}\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words = words.join(" "),
        before = words[count - 1],
    );
    let mut command = Command::new("bash");
    env.settle(command.args(["--norc", "--noprofile", "-c", &script]));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_agent-runner"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    let done = Done::from(command.env("PATH", path).output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{line}");
    done.stdout
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn bash_completes_commands_flags_names_and_runs() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let run = env.records("work", "fake")[0]["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(offered(&env, "agent-runner doc"), ["doctor"]);
    assert_eq!(
        offered(&env, "agent-runner run --agent c"),
        ["claude", "codex"]
    );
    assert_eq!(
        offered(&env, "agent-runner run --agent fake,o"),
        ["fake,ollama", "fake,opencode"]
    );
    assert_eq!(offered(&env, "agent-runner run --agent au"), ["auto"]);
    assert_eq!(offered(&env, "agent-runner run --task w"), ["work"]);
    assert_eq!(offered(&env, "agent-runner run --overlap w"), ["wait"]);
    assert_eq!(
        offered(&env, "agent-runner show w"),
        [format!("work/fake/{run}")]
    );
    assert_eq!(offered(&env, "agent-runner explain lat"), ["latest"]);
    assert_eq!(offered(&env, "agent-runner agents unpark fa"), ["fake"]);
    assert_eq!(
        offered(&env, "agent-runner runs --outcome succ"),
        ["success"]
    );
    let commands = offered(&env, "agent-runner ");
    assert!(commands.contains(&"run".to_owned()), "{commands:?}");
    assert!(!commands.contains(&"namespace-init".to_owned()), "hidden");
    let config = env.root().join("other.toml");
    fs::write(&config, "[tasks.elsewhere]\nprompt_text = \"x\"\n").unwrap();
    let line = format!("agent-runner --config {} run --task else", config.display());
    assert_eq!(offered(&env, &line), ["elsewhere"]);
}

#[test]
fn a_wrong_configuration_costs_names_and_nothing_else() {
    let env = TestEnv::new().config("[runner]\nnonsense = 1");
    assert!(offered(&env, "agent-runner run --task d").is_empty());
    assert_eq!(offered(&env, "agent-runner run --overl"), ["--overlap"]);
}

#[test]
fn every_shell_gets_a_script_that_names_the_program() {
    let env = TestEnv::new();
    for shell in ["bash", "zsh", "fish"] {
        let done = env.agent_runner(&["completions", shell]);
        assert_eq!(done.code, Some(0));
        assert!(
            done.stdout.contains("AGENT_RUNNER_COMPLETE"),
            "{}",
            done.stdout
        );
        let script = env.root().join("script");
        fs::write(&script, &done.stdout).unwrap();
        match Command::new(shell).arg("-n").arg(&script).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {output:?}"),
            Err(_) => crate::real::components::skipped(&format!("{shell} is not installed")),
        }
    }
    assert_eq!(env.agent_runner(&["completions", "tcsh"]).code, Some(2));
}

#[test]
fn there_is_a_manual_page_for_every_command_and_man_reads_it() {
    let env = TestEnv::new();
    let directory = env.root().join("man");
    let done = env.agent_runner(&["man", directory.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let pages: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|page| page.unwrap().path())
        .collect();
    let names: Vec<_> = pages
        .iter()
        .map(|page| page.file_name().unwrap().to_str().unwrap())
        .collect();
    for name in [
        "agent-runner.1",
        "agent-runner-run.1",
        "agent-runner-doctor.1",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(
        !names.iter().any(|name| name.contains("namespace-init")),
        "{names:?}"
    );
    let main = env.agent_runner(&["man"]).stdout;
    assert!(main.contains("Exit codes"), "{main}");
    for page in pages {
        let man = Command::new("groff")
            .args(["-k", "-man", "-Tutf8", "-ww", "-z"])
            .arg(&page)
            .output();
        let Ok(man) = man else {
            crate::real::components::skipped("groff is not installed");
            return;
        };
        let said = String::from_utf8_lossy(&man.stderr);
        assert!(
            man.status.success() && said.is_empty(),
            "{}: {said}",
            page.display()
        );
    }
}
