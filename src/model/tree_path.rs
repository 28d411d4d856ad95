//! What a path in a tree means to git, to file systems and to programs that look for their
//! configuration. Pure; a path is bytes, as in git.

use icu_normalizer::DecomposingNormalizerBorrowed;

/// A part of a path as the most careless file system sees it: letters of one case, Unicode
/// decomposed, without what HFS+ ignores.
pub fn fold(part: &str) -> String {
    if part.is_ascii() {
        return part.to_ascii_lowercase();
    }
    let visible: String = part.chars().filter(|c| !is_ignored(*c)).collect();
    // Upper case first: it joins letters that lower case alone keeps apart, such as `ſ` and `s`.
    let lower = visible.to_uppercase().to_lowercase();
    DecomposingNormalizerBorrowed::new_nfd()
        .normalize(&lower)
        .into_owned()
}

/// The code points that HFS+ leaves out of names, from git's utf8.c.
fn is_ignored(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// The parts of a path, folded, each as Windows would open it: without an alternate stream and
/// without dots and spaces at the end. A backslash parts, too.
pub fn opened_parts(path: &str) -> Vec<String> {
    let opened = |part: &str| {
        let part = fold(part);
        let name = part.split(':').next().unwrap_or_default();
        name.trim_end_matches(['.', ' ']).to_owned()
    };
    path.split(['/', '\\']).map(opened).collect()
}

/// Whether a part is git's own directory under any of its names (`git~1` is the short one).
pub fn is_git_directory(part: &str) -> bool {
    part == ".git" || is_short_name(part, "git~")
}

/// Whether a part is `.gitmodules` under any of its names.
pub fn is_gitmodules(part: &str) -> bool {
    part == ".gitmodules" || is_short_name(part, "gitmod~") || is_short_name(part, "gi7eba~")
}

/// Whether a part is `.gitattributes` under any of its names.
pub fn is_gitattributes(part: &str) -> bool {
    part == ".gitattributes" || is_short_name(part, "gitatt~") || is_short_name(part, "gi7d29~")
}

fn is_short_name(part: &str, prefix: &str) -> bool {
    let digit = part.strip_prefix(prefix);
    digit.is_some_and(|digit| matches!(digit.as_bytes(), [b'1'..=b'9']))
}

/// Where code hosts look for what they run.
const HOSTS: [&str; 3] = [".github", ".gitea", ".forgejo"];

/// Directories of which some files are orders to agents and editors.
const PLACES: [(&str, &[&str]); 2] = [
    (
        ".vscode",
        &["tasks.json", "launch.json", "settings.json", "mcp.json"],
    ),
    (
        ".github",
        &["copilot-instructions.md", "instructions", "hooks"],
    ),
];

/// Whether a code host would run what the file says.
pub fn is_workflow(parts: &[String]) -> bool {
    matches!(parts, [host, what, ..]
        if HOSTS.contains(&host.as_str()) && matches!(what.as_str(), "workflows" | "actions"))
}

/// Whether a coding agent, an editor or a hook manager would take orders from the file.
pub fn is_agent_config(parts: &[String]) -> bool {
    const DIRECTORIES: [&str; 13] = [
        ".agents",
        ".claude",
        ".clinerules",
        ".codex",
        ".continue",
        ".cursor",
        ".devcontainer",
        ".gemini",
        ".husky",
        ".opencode",
        ".qwen",
        ".roo",
        ".windsurf",
    ];
    const FILES: [&str; 20] = [
        ".cursorrules",
        ".devcontainer.json",
        ".envrc",
        ".mcp.json",
        ".pre-commit-config.yaml",
        ".pre-commit-config.yml",
        ".roomodes",
        ".windsurfrules",
        "agent.md",
        "agents.md",
        "agents.override.md",
        "claude.local.md",
        "claude.md",
        "gemini.md",
        "kilo.json",
        "kilo.jsonc",
        "opencode.json",
        "opencode.jsonc",
        "qwen.md",
        "skill.md",
    ];
    const PREFIXES: [&str; 5] = [
        ".aider",
        ".kilo",
        ".lefthook",
        "lefthook.",
        "lefthook-local.",
    ];
    parts.iter().enumerate().any(|(at, part)| {
        let next = parts.get(at + 1).map_or("", String::as_str);
        DIRECTORIES.contains(&part.as_str())
            || FILES.contains(&part.as_str())
            || PREFIXES.iter().any(|prefix| part.starts_with(prefix))
            || PLACES
                .iter()
                .any(|(place, names)| part == place && names.contains(&next))
    })
}

/// Whether the path is where [`is_workflow`] begins: what it holds would be run.
pub fn holds_workflows(parts: &[String]) -> bool {
    matches!(parts, [host] if HOSTS.contains(&host.as_str()))
}

/// Whether files of [`is_agent_config`] may be below the path, as below `.vscode`.
pub fn holds_agent_config(parts: &[String]) -> bool {
    let last = parts.last().map_or("", String::as_str);
    PLACES.iter().any(|(place, _)| *place == last)
}

/// Where in the tree a symbolic link at `path` to `target` leads, in parts as [`opened_parts`] has
/// them; `None` where that is out of it.
pub fn led_to(path: &str, target: &str) -> Option<Vec<String>> {
    if target.starts_with(['/', '\\']) {
        return None;
    }
    let mut parts = opened_parts(path);
    parts.pop();
    // A dot at the end of a name is nothing, so `..` is told first.
    for part in target.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.extend(opened_parts(name)),
        }
    }
    Some(parts)
}

/// Whether a symbolic link at `path` to `target` can lead out of the tree, or into git's own
/// directory.
///
/// A `..` after a name counts as leaving: where the name is a link itself, it may.
pub fn leaves_the_tree(path: &str, target: &str) -> bool {
    let depth = path.split('/').count() - 1;
    let mut parts = target.split('/').filter(|part| !matches!(*part, "" | "."));
    let up = parts.clone().take_while(|part| *part == "..").count();
    let is_absolute = target.starts_with(['/', '\\']) || target.contains(':');
    is_absolute
        || target.is_empty()
        || up > depth
        || parts.clone().skip(up).any(|part| part == "..")
        || parts.any(|part| opened_parts(part).iter().any(|part| is_git_directory(part)))
}

/// The first driver that a line of a `.gitattributes` file names, such as `filter=lfs`: a program
/// that git would run where it is configured.
pub fn attribute_driver(line: &str) -> Option<&str> {
    // git's own drivers run nothing, see userdiff.c and merge-ll.c.
    const DIFF: [&str; 27] = [
        "ada", "bash", "bibtex", "cpp", "csharp", "css", "dts", "elixir", "fortran", "fountain",
        "golang", "html", "ini", "java", "kotlin", "markdown", "matlab", "objc", "pascal", "perl",
        "php", "python", "r", "ruby", "rust", "scheme", "tex",
    ];
    const MERGE: [&str; 3] = ["text", "binary", "union"];
    let mut words = line.split_ascii_whitespace();
    if words.clone().next()?.starts_with('#') {
        return None;
    }
    words.find(|word| match word.split_once('=') {
        Some(("filter", _)) => true,
        Some(("diff", driver)) => !DIFF.contains(&driver),
        Some(("merge", driver)) => !MERGE.contains(&driver),
        Some(_) | None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Vec<String> {
        opened_parts(path)
    }

    #[test]
    fn every_name_of_gits_directory_is_known() {
        for path in [
            ".git/config",
            ".GIT/hooks/x",
            "a/.git",
            ".g\u{200c}it/x",
            "\u{feff}.git",
            ".git ",
            ".git. .",
            "git~1",
            "GIT~2/config",
            ".git::$INDEX_ALLOCATION/config",
            "a\\.git\\config",
        ] {
            assert!(
                parts(path).iter().any(|part| is_git_directory(part)),
                "{path}"
            );
        }
        for path in [
            ".github/x",
            ".gitignore",
            "git",
            "a.git",
            "git~12",
            "digit~1",
        ] {
            assert!(
                !parts(path).iter().any(|part| is_git_directory(part)),
                "{path}"
            );
        }
    }

    #[test]
    fn links_that_could_leave_the_tree_are_told_from_those_that_cannot() {
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", "../x"),
            ("d/a", "../../x"),
            ("d/a", "l/../x"),
            ("a", ".git/config"),
            ("a", ""),
            ("a", "C:/x"),
            ("a", "././/../x"),
        ] {
            assert!(leaves_the_tree(path, target), "{path} -> {target}");
        }
        for (path, target) in [
            ("a", "b"),
            ("d/a", "../b/c"),
            ("d/e/a", "../../x"),
            ("a", "./b..c"),
        ] {
            assert!(!leaves_the_tree(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn where_a_link_leads_is_told_as_it_would_be_opened() {
        let led = |path, target| led_to(path, target).map(|parts| parts.join("/"));
        for (path, target, place) in [
            (".vscode", "tools", "tools"),
            ("a/b", "../Tools/./x/", "tools/x"),
            ("a/b", "..", ""),
            ("a/b", "c/../d", "a/d"),
            ("a", "b\\c", "b/c"),
        ] {
            assert_eq!(
                led(path, target).as_deref(),
                Some(place),
                "{path} -> {target}"
            );
        }
        assert_eq!(led("a", "../b"), None);
        assert_eq!(led("a", "/b"), None);
    }

    #[test]
    fn names_that_some_file_system_takes_for_one_another_fold_to_one() {
        for (one, other) in [
            ("README", "readme"),
            ("\u{e9}", "e\u{301}"),
            ("stra\u{df}e", "STRASSE"),
            ("a\u{200d}b", "ab"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
        }
        assert_ne!(fold("a"), fold("b"));
    }

    #[test]
    fn drivers_that_run_programs_are_found_in_attributes() {
        for line in [
            "*.bin filter=lfs diff=lfs",
            "[attr]x filter=y",
            "* diff=mine",
            "* -text merge=mine",
        ] {
            assert!(attribute_driver(line).is_some(), "{line}");
        }
        for line in [
            "* text=auto",
            "*.rs diff=rust",
            "x merge=union -diff",
            "# filter=x",
            "",
            "* -filter",
        ] {
            assert_eq!(attribute_driver(line), None, "{line}");
        }
    }
}
