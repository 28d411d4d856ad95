//! `--help` and `-h` of every command, as a terminal of 80 columns shows them.

use agent_runner::cli::args::Arguments;
use clap::{Arg, Command, CommandFactory as _, Parser as _};
use insta::assert_snapshot;

use crate::support::TestEnv;

const COLUMNS: usize = 80;

/// Every command that is not hidden, with the words that name it.
pub(crate) fn commands() -> Vec<(Vec<String>, Command)> {
    fn walk(names: Vec<String>, command: &Command, found: &mut Vec<(Vec<String>, Command)>) {
        for verb in command.get_subcommands() {
            if !verb.is_hide_set() && verb.get_name() != "help" {
                let names = [names.clone(), vec![verb.get_name().to_owned()]].concat();
                walk(names, verb, found);
            }
        }
        found.push((names, command.clone()));
    }
    let mut found = Vec::new();
    let mut root = Arguments::command();
    root.build();
    walk(Vec::new(), &root, &mut found);
    found
}

fn shown(names: &[String], flag: &str) -> String {
    let env = TestEnv::new().variable("COLUMNS", COLUMNS.to_string());
    let mut arguments: Vec<&str> = names.iter().map(String::as_str).collect();
    arguments.push(flag);
    let done = env.agent_runner(&arguments);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    let lines: Vec<_> = done.stdout.lines().map(str::trim_end).collect();
    for line in &lines {
        let width = line.chars().count();
        assert!(width <= COLUMNS, "{names:?} {flag}: {width}: {line}");
    }
    lines.join("\n")
}

#[test]
fn the_help_of_every_command_fits_80_columns() {
    for (names, _) in commands() {
        let name = [vec!["agent-runner".to_owned()], names.clone()].concat();
        let name = name.join("-");
        let (short, long) = (shown(&names, "-h"), shown(&names, "--help"));
        let both = format!("$ {name} -h\n{short}\n\n$ {name} --help\n{long}");
        insta::with_settings!({ snapshot_path => "snapshots/help", prepend_module_to_snapshot => false }, {
            assert_snapshot!(name, both);
        });
    }
}

#[test]
fn every_command_option_and_value_is_described() {
    let says = |help: Option<&clap::builder::StyledStr>| {
        help.is_some_and(|help| !help.to_string().trim().is_empty())
    };
    let described = |argument: &Arg| {
        let values = argument.get_possible_values();
        let is_flag = !argument.get_action().takes_values();
        says(argument.get_help()) && (is_flag || values.iter().all(|value| says(value.get_help())))
    };
    for (names, command) in commands() {
        assert!(says(command.get_about()), "{names:?}");
        for argument in command.get_arguments() {
            let (name, told) = (argument.get_id(), argument.is_hide_set());
            assert!(told || described(argument), "{names:?} {name}");
        }
    }
}

/// The words of a command line up to what the shell does with it; quotes keep blanks.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            None if "'\"".contains(c) => quote = Some(c),
            None if c == ' ' => words.push(String::new()),
            _ => words.last_mut().expect("there is one").push(c),
        }
    }
    words
        .into_iter()
        .take_while(|word| !["|", "<", ">", "&&", "\\"].contains(&word.as_str()))
        .collect()
}

#[test]
fn every_example_of_the_help_is_accepted_by_the_command() {
    let mut number = 0;
    for (names, _) in commands() {
        let help = shown(&names, "--help");
        let (_, examples) = help.split_once("\nExample").unwrap_or_default();
        for line in examples.lines() {
            let Some((_, call)) = line.split_once("agent-runner ") else {
                continue;
            };
            let call = words(&format!("agent-runner {call}"));
            if let Err(error) = Arguments::try_parse_from(&call) {
                panic!("{line}: {error}");
            }
            number += 1;
        }
    }
    assert!(number > 30, "{number}");
}
