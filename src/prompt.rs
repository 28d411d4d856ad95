//! Prompts: where their text comes from, and how a template becomes the exact text of one run.
//!
//! A template holds `{{ name }}` where a variable's value belongs. Everything else stays as it is,
//! byte for byte: values are not expanded again, and double braces round anything but a name are
//! text, since prompts show code.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::model::task::PromptSource;
use crate::model::text;

/// The prompts that are part of the program, by their path below the prompts directory.
pub const BUILT_IN: &[(&str, &str)] = &[
    (
        "agent_management.md",
        include_str!("../prompts/agent_management.md"),
    ),
    ("debug/ping.md", include_str!("../prompts/debug/ping.md")),
    ("debug/smoke.md", include_str!("../prompts/debug/smoke.md")),
    (
        "debug_hello_simple.md",
        include_str!("../prompts/debug_hello_simple.md"),
    ),
    (
        "debug_hello_world.md",
        include_str!("../prompts/debug_hello_world.md"),
    ),
    (
        "debug_smoke_commit.md",
        include_str!("../prompts/debug_smoke_commit.md"),
    ),
    (
        "dispatch_issue.md",
        include_str!("../prompts/dispatch_issue.md"),
    ),
    (
        "document_coverage.md",
        include_str!("../prompts/document_coverage.md"),
    ),
    (
        "document_test_alignment.md",
        include_str!("../prompts/document_test_alignment.md"),
    ),
];

/// The largest prompt file that is read: more than any CLI takes, and little enough for memory.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Why there is no prompt for a run.
#[derive(Debug, Error)]
pub enum PromptError {
    /// The file exists and cannot be read as text.
    #[error("cannot read the prompt `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Something that is no prompt lies where the file should be.
    #[error("`{}` is no prompt: {reason}", path.display())]
    NoPrompt {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: &'static str,
    },
    /// Neither a file nor a built-in prompt has the name.
    #[error("there is no prompt `{name}` in `{}`, and none is built in; {suggestion}", directory.display())]
    Missing {
        /// The path that was asked for.
        name: String,
        /// The prompts directory.
        directory: PathBuf,
        /// What is built in.
        suggestion: String,
    },
    /// The path leads out of the prompts directory.
    #[error("the prompt `{name}` does not lie below the prompts directory")]
    Outside {
        /// The path that was asked for.
        name: String,
    },
    /// A template names a variable that this run does not have.
    #[error("line {line} of the prompt: there is no variable `{name}`; {suggestion}")]
    Variable {
        /// The name between the braces.
        name: String,
        /// Its line in the template, from 1.
        line: usize,
        /// The nearest right name, or all of them.
        suggestion: String,
    },
    /// Nothing but white space would reach the agent.
    #[error("the prompt is empty")]
    Empty,
}

/// The built-in prompt of that path, such as `debug/smoke.md`.
pub fn built_in(name: &str) -> Option<&'static str> {
    BUILT_IN
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// The template of a prompt: the text itself, else the file below the prompts directory, else the
/// built-in prompt of that name.
pub fn load(source: &PromptSource, directory: &Path) -> Result<String, PromptError> {
    let name = match source {
        PromptSource::Text(text) => return Ok(text.clone()),
        PromptSource::File(name) => name,
    };
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(name).components().all(plain) {
        return Err(PromptError::Outside { name: name.clone() });
    }
    let path = directory.join(name);
    match read(&path) {
        Err(PromptError::Read { source, .. })
            if source.kind() == io::ErrorKind::NotFound && !path.is_symlink() =>
        {
            let missing = || PromptError::Missing {
                name: name.clone(),
                directory: directory.to_owned(),
                suggestion: text::suggest(name, BUILT_IN.iter().map(|(known, _)| *known)),
            };
            built_in(name).map(str::to_owned).ok_or_else(missing)
        }
        result => result,
    }
}

fn read(path: &Path) -> Result<String, PromptError> {
    let failed = |source| PromptError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(failed)?;
    let reason = if !metadata.is_file() {
        // A named pipe would be waited for without end.
        Some("it is no file")
    } else if metadata.len() > MAX_FILE_BYTES {
        Some("it is larger than 64 MiB")
    } else {
        None
    };
    match reason {
        Some(reason) => Err(PromptError::NoPrompt {
            path: path.to_owned(),
            reason,
        }),
        None => fs::read_to_string(path).map_err(failed),
    }
}

/// Puts the variables' values into a template: the exact prompt.
pub fn render(template: &str, variables: &[(&str, &str)]) -> Result<String, PromptError> {
    let mut prompt = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        let (before, braces) = rest.split_at(at);
        prompt.push_str(before);
        let Some((name, after)) = placeholder(braces) else {
            // One brace only: in `{{{ name }}` the second one opens the placeholder.
            prompt.push('{');
            rest = &braces[1..];
            continue;
        };
        let Some((_, value)) = variables.iter().find(|(known, _)| *known == name) else {
            let done = template.len() - braces.len();
            return Err(PromptError::Variable {
                name: name.to_owned(),
                line: template[..done].matches('\n').count() + 1,
                suggestion: text::suggest(name, variables.iter().map(|(known, _)| *known)),
            });
        };
        prompt.push_str(value);
        rest = after;
    }
    prompt.push_str(rest);
    if prompt.trim().is_empty() {
        return Err(PromptError::Empty);
    }
    Ok(prompt)
}

/// The name in the `{{ name }}` that a text begins with, and what follows it.
fn placeholder(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix("{{")?.trim_start_matches(' ');
    let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, after) = inside.split_at(end);
    let after = after.trim_start_matches(' ').strip_prefix("}}")?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    is_name.then_some((name, after))
}

/// Puts a new name in the stead of each old one, wherever it stands as a path or a branch of its
/// own and not as a part of a longer word. Of two old names that fit the longer counts.
pub fn moved(text: &str, moves: &[(&str, &str)]) -> String {
    let is_word = |character: char| character.is_alphanumeric() || "_-~".contains(character);
    let ends = |rest: &str| {
        let mut after = rest.chars();
        match after.next() {
            // It ends a sentence, or a name goes on.
            Some('.') => !after.next().is_some_and(is_word),
            next => !next.is_some_and(is_word),
        }
    };
    let mut new = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let begins = !new.ends_with(|before| is_word(before) || before == '.');
        let found = (moves.iter())
            .filter(|(old, _)| begins && !old.is_empty())
            .filter(|(old, _)| rest.strip_prefix(old).is_some_and(ends))
            .max_by_key(|(old, _)| old.len());
        let (put, length) = match found {
            Some((old, put)) => (*put, old.len()),
            None => (&rest[..character.len_utf8()], character.len_utf8()),
        };
        new.push_str(put);
        rest = &rest[length..];
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_moved_only_where_it_stands_for_itself() {
        let moves = [
            ("/srv/app", "/w/new"),
            ("/srv/app/w/old", "/w/new"),
            ("b/1", "b/2"),
        ];
        for (old, new) in [
            ("Go to\n/srv/app", "Go to\n/w/new"),
            ("`/srv/app/src`, /srv/app.", "`/w/new/src`, /w/new."),
            ("/srv/app/w/old/x", "/w/new/x"),
            ("file:///srv/app", "file:///w/new"),
            ("origin/b/1 b/1_2", "origin/b/2 b/1_2"),
            (
                "/srv/app2 /srv/app-x /srv/app.old /mnt/srv/app ~/srv/app",
                "",
            ),
        ] {
            assert_eq!(moved(old, &moves), if new.is_empty() { old } else { new });
        }
    }

    const RUN: [(&str, &str); 6] = [
        ("task", "document_coverage"),
        ("agent", "claude"),
        ("run_id", "20260219_204003"),
        ("repo_root", "/srv/{{ task }}"),
        ("branch", "main"),
        ("date", "2026-02-19"),
    ];
    const DISPATCH: [(&str, &str); 5] = [
        ("instruction", "Fix {{ this }}.\n"),
        ("title", "A title"),
        ("issue_number", "7"),
        ("task_id", "abc"),
        ("target_repo", "o/r"),
    ];

    #[test]
    fn text_round_variables_stays_byte_exact_and_values_are_not_expanded_again() {
        let template = "\u{feff}{{agent}}\r\n{{   repo_root }}{ {{ }} {{{ branch }}} \
            ${{ github.token }} {{ a-b }} {{ 1 }} {{.X}} {{\n agent }} {{ agent";
        let prompt = "\u{feff}claude\r\n/srv/{{ task }}{ {{ }} {main} \
            ${{ github.token }} {{ a-b }} {{ 1 }} {{.X}} {{\n agent }} {{ agent";
        assert_eq!(render(template, &RUN).unwrap(), prompt);
    }

    #[test]
    fn a_prompt_that_is_a_link_to_nowhere_is_told_and_not_replaced_by_the_built_in_one() {
        let directory = tempfile::tempdir().unwrap();
        let source = PromptSource::File("debug_hello_world.md".to_owned());
        load(&source, directory.path()).expect("the built-in one");
        let link = directory.path().join("debug_hello_world.md");
        std::os::unix::fs::symlink("gone", link).unwrap();
        assert!(load(&source, directory.path()).is_err());
    }

    #[test]
    fn an_unknown_variable_is_named_with_its_line_and_the_nearest_one() {
        let error = |template| render(template, &RUN).unwrap_err().to_string();
        assert_eq!(
            error("{{ task }}\n\n a {{ agnt }}"),
            "line 3 of the prompt: there is no variable `agnt`; did you mean `agent`?"
        );
        assert_eq!(
            error("{{ instruction }}"),
            "line 1 of the prompt: there is no variable `instruction`; known: `task`, `agent`, \
             `run_id`, `repo_root`, `branch`, `date`"
        );
    }

    #[test]
    fn a_prompt_of_white_space_is_refused() {
        for template in ["", " \n\t", "{{ empty }}"] {
            let rendered = render(template, &[("empty", "\n")]);
            assert!(matches!(rendered, Err(PromptError::Empty)), "{template:?}");
        }
    }

    #[test]
    fn every_built_in_prompt_renders_and_only_dispatch_needs_the_issue() {
        for (name, template) in BUILT_IN {
            let rendered = render(template, &RUN);
            if *name == "dispatch_issue.md" {
                assert!(rendered.is_err(), "{name}");
                render(template, &[&RUN[..], &DISPATCH[..]].concat()).expect(name);
            } else {
                rendered.expect(name);
            }
        }
    }

    #[test]
    fn every_prompt_file_of_the_repository_is_built_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("prompts");
        let names = |directory: &str| {
            let entries = fs::read_dir(root.join(directory)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap())
                .filter(|entry| entry.file_type().unwrap().is_file())
                .map(|entry| format!("{directory}{}", entry.file_name().display()))
                .collect();
            names.sort();
            names
        };
        let mut files = [names(""), names("debug/")].concat();
        files.sort();
        let built_in: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        assert_eq!(files, built_in);
    }

    #[test]
    fn a_file_comes_before_the_built_in_prompt_and_nothing_outside_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let load = |name: &str| load(&PromptSource::File(name.to_owned()), directory.path());
        assert_eq!(
            Some(load("debug/ping.md").unwrap().as_str()),
            built_in("debug/ping.md")
        );
        let put = |name: &str, bytes: &[u8]| {
            std::io::Write::write_all(
                &mut fs::File::create(directory.path().join(name)).unwrap(),
                bytes,
            )
            .unwrap();
        };
        fs::create_dir(directory.path().join("debug")).unwrap();
        put("debug/ping.md", b"mine");
        put("latin.md", b"\xff");
        assert_eq!(load("./debug/ping.md").unwrap(), "mine");
        let error = |name| load(name).unwrap_err();
        assert!(matches!(error("debug"), PromptError::NoPrompt { .. }));
        assert!(matches!(error("latin.md"), PromptError::Read { .. }));
        assert!(matches!(error("none.md"), PromptError::Missing { .. }));
        for name in ["/etc/passwd", "../x.md", "debug/../../x.md"] {
            assert!(matches!(error(name), PromptError::Outside { .. }), "{name}");
        }
    }
}
