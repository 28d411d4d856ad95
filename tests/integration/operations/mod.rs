//! How people put the program to work: in GitHub Actions, as a service, in containers, watched by
//! Prometheus; and what the pages say about it.

mod actions;
mod containers;
mod metrics;
mod packages;
mod pages;
mod service;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use yaml_rust2::{Yaml, YamlLoader};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[track_caller]
fn yaml(text: &str) -> Yaml {
    YamlLoader::load_from_str(text).unwrap().remove(0)
}

/// Runs a checker, which must find nothing.
#[track_caller]
fn finds_nothing(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{told}");
    told
}

/// Files of a directory with one of these endings.
fn files(directory: &str, endings: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let ending = path.extension().unwrap_or_default().to_str().unwrap();
            endings.contains(&ending)
        })
        .collect();
    files.sort();
    files
}
