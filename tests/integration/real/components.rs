//! Where `tests/install` has put the components, and what a test does without one.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The path of an installed component.
///
/// `None` when it is not there: the test says so and passes. Where `CI=true` that is a failure.
#[track_caller]
pub fn path(name: &str) -> Option<PathBuf> {
    let path = bin().join(name);
    if path.exists() {
        return Some(path);
    }
    missing(&format!("{name} is not installed; run tests/install"));
    None
}

/// The path of an agent's CLI or of its model server; `None` also when they are to be left out.
#[track_caller]
pub fn agent(name: &str) -> Option<PathBuf> {
    if is("AGENT_RUNNER_SKIP_REAL", "1") {
        skipped(&format!("{name} is left out (AGENT_RUNNER_SKIP_REAL=1)"));
        return None;
    }
    path(name)
}

/// Whether a program of a Debian package is in `PATH`; where it is not, the test says so and passes,
/// and fails where `CI=true`.
#[track_caller]
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).exists());
    if !found {
        missing(&format!("{program} is not installed; run tests/install"));
    }
    found
}

/// Says what is missing for a test; where `CI=true` that is a failure.
#[track_caller]
pub fn missing(what: &str) {
    assert!(!is("CI", "true"), "{what}");
    skipped(what);
}

/// Says why a test proves nothing here, which no installation would change.
#[expect(clippy::print_stderr, reason = "a test that proves nothing says so")]
pub fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}");
}

fn is(variable: &str, value: &str) -> bool {
    std::env::var_os(variable).is_some_and(|set| set == value)
}

/// The directory with one name per component.
pub fn bin() -> PathBuf {
    root().join("target/components/bin")
}

/// The directory `tests/real`.
pub fn files() -> PathBuf {
    root().join("tests/real")
}

/// The `node_modules` that an installed program of npm's lies in: its name in `bin` is a link, or a
/// script that names the real one.
pub fn npm_modules(program: &Path) -> PathBuf {
    let script = match fs::read_link(program) {
        Ok(target) => target,
        Err(_) => fs::read_to_string(program)
            .unwrap()
            .split('"')
            .find(|part| part.contains("node_modules/.bin") && !part.ends_with("/node"))
            .unwrap()
            .into(),
    };
    script.ancestors().nth(2).unwrap().to_owned()
}

/// The version that an npm package is pinned at.
pub fn pinned_version(package: &str) -> String {
    ["package.json", "qwen/package.json", "github/package.json"]
        .into_iter()
        .find_map(|file| {
            let text = fs::read(files().join(file)).unwrap();
            let pinned: Value = serde_json::from_slice(&text).unwrap();
            Some(pinned["dependencies"][package].as_str()?.to_owned())
        })
        .unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
