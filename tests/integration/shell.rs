//! The program in a shell: completion in a real bash, manual pages that `man` reads.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::real::components;
use crate::support::{Done, TestEnv};

/// Runs a shell in which `agent-runner` is in `PATH` and `$LINE` is a command line whose last word is
/// being typed; the lines that it prints, sorted.
fn offered_by(env: &TestEnv, shell: &[&str], script: &str, line: &str) -> Vec<String> {
    let mut command = Command::new(shell[0]);
    env.settle(command.args(&shell[1..]).args(["-c", script]));
    let program = Path::new(env!("CARGO_BIN_EXE_agent-runner"));
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", program.parent().unwrap().display());
    command
        .env("PATH", path)
        .env("LINE", line)
        .env("TERM", "xterm");
    let done = Done::from(command.output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{line}");
    let lines = done.stdout.lines().map(|line| line.trim().to_owned());
    let mut lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.sort();
    lines
}

/// What a real bash offers.
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
    offered_by(env, &["bash", "--norc", "--noprofile"], &script, line)
}

/// What a real fish offers: it has a command for that.
fn offered_by_fish(env: &TestEnv, line: &str) -> Vec<String> {
    let script = "agent-runner completions fish | source\n\
                  complete -C \"$LINE\" | cut -f 1";
    offered_by(env, &["fish", "--no-config"], script, line)
}

/// What a real zsh offers: one at a terminal of its own, which looks for the script in its `fpath`, is
/// given the line and the Tab key. What it would show passes through its `compadd`.
fn offered_by_zsh(env: &TestEnv, line: &str) -> Vec<String> {
    const AT_TERMINAL: &str = "\
PS1= PS2= ZSH_DISABLE_COMPFIX=true
fpath=(~/.zfunc $fpath)
autoload -Uz compinit
compinit -u -d ~/.zcompdump
compadd() {
    local -a hits
    [[ -n ${@[(r)-[OAD]*]} ]] || { builtin compadd -O hits \"$@\"; print -rl -- $hits >> ~/hits }
    builtin compadd \"$@\"
}
offer() { zle complete-word; : > ~/done }
zle -N offer
bindkey '^I' offer
zle-line-init() { : > ~/ready }
zle -N zle-line-init
";
    const BESIDE_IT: &str = "\
mkdir -p ~/.zfunc
agent-runner completions zsh > ~/.zfunc/_agent-runner
zmodload zsh/zpty
rm -f ~/hits ~/done ~/ready
wait_for() { repeat 1200; do [[ -e $1 ]] && return; sleep 0.05; done; print -u2 \"no $1\"; exit 9 }
zpty shell zsh -f -i
zpty -w shell 'source ~/at_terminal'
wait_for ~/ready
zpty -w -n shell \"$LINE\"$'\\t'
wait_for ~/done
zpty -d shell
[[ ! -e ~/hits ]] || cat ~/hits";
    fs::write(env.root().join("home/at_terminal"), AT_TERMINAL).unwrap();
    offered_by(env, &["zsh", "-f"], BESIDE_IT, line)
}

/// The same in every shell: what is offered for a line.
fn check_completion(offered: impl Fn(&TestEnv, &str) -> Vec<String>) {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello")
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let record = &env.records("work", "fake")[0];
    let run = format!("work/fake/{}", record["run_id"].as_str().unwrap());
    let config = env.root().join("other.toml");
    fs::write(&config, "[tasks.elsewhere]\nprompt_text = \"x\"\n").unwrap();
    let other = format!("--config {} run --task else", config.display());
    for (line, expected) in [
        ("doc", &["doctor"][..]),
        ("run --agent c", &["claude", "codex"]),
        ("run --agent fake,o", &["fake,ollama", "fake,opencode"]),
        ("run --agent au", &["auto"]),
        ("run --task w", &["work"]),
        ("run --task work --overlap w", &["wait"]),
        ("run --overl", &["--overlap"]),
        ("show w", &[&run]),
        ("explain lat", &["latest"]),
        ("agents unpark fa", &["fake"]),
        ("schedule ch", &["check"]),
        ("runs --outcome succ", &["success"]),
        (&other, &["elsewhere"]),
    ] {
        assert_eq!(
            offered(&env, &format!("agent-runner {line}")),
            expected,
            "{line}"
        );
    }
    let commands = offered(&env, "agent-runner ");
    assert!(commands.contains(&"run".to_owned()), "{commands:?}");
    assert!(!commands.contains(&"namespace-init".to_owned()), "hidden");
}

#[test]
fn bash_completes_commands_flags_names_and_runs() {
    check_completion(offered);
}

#[test]
fn zsh_completes_commands_flags_names_and_runs() {
    if components::has("zsh") {
        check_completion(offered_by_zsh);
    }
}

#[test]
fn fish_completes_commands_flags_names_and_runs() {
    if components::has("fish") {
        check_completion(offered_by_fish);
    }
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
            Err(_) => components::skipped(&format!("{shell} is not installed")),
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
            components::skipped("groff is not installed");
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
