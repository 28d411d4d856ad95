//! The house rules that the compiler does not know: which room may name which.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room with its floor and the rooms of its own floor that it may name.
const ROOMS: &[(&str, u32, &[&str])] = &[
    ("model", 0, &[]),
    ("regular", 0, &[]),
    ("tls", 0, &[]),
    ("writers", 0, &[]),
    ("schedule", 0, &["model"]),
    ("config", 1, &[]),
    ("prompt", 1, &[]),
    ("agents", 1, &[]),
    ("process", 1, &[]),
    ("git", 1, &["process"]),
    ("github", 1, &[]),
    ("redact", 1, &[]),
    ("store", 1, &[]),
    ("queue", 1, &[]),
    ("sources", 1, &["git", "github", "queue"]),
    ("notify", 1, &[]),
    ("planner", 2, &[]),
    ("checks", 2, &["planner"]),
    ("occupancy", 2, &["planner"]),
    ("isolation", 2, &["planner"]),
    ("admission", 2, &["planner"]),
    ("attempts", 2, &["planner", "admission"]),
    ("sharing", 2, &["planner", "admission"]),
    (
        "orchestrator",
        2,
        &["planner", "checks", "occupancy", "isolation", "admission"],
    ),
    ("recovery", 2, &["orchestrator", "isolation"]),
    ("deliver", 2, &[]),
    ("checkup", 2, &[]),
    ("triage", 2, &[]),
    ("worker", 2, &["orchestrator"]),
    ("metrics", 2, &["worker"]),
    ("cli", 3, &[]),
];

fn source_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Rooms that a source text names by `crate::ROOM`, but for those named in comments.
fn named_rooms(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect()
        })
        .filter(|room: &String| !room.is_empty())
        .collect()
}

#[test]
fn a_room_names_only_rooms_on_lower_floors() {
    let rooms: BTreeMap<&str, (u32, &[&str])> = ROOMS
        .iter()
        .map(|(room, floor, beside)| (*room, (*floor, *beside)))
        .collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in source_files(&source) {
        let inside = file.strip_prefix(&source).unwrap();
        let room = inside
            .iter()
            .next()
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs");
        if room == "lib" || room == "main" {
            continue;
        }
        let (floor, beside) = rooms
            .get(room)
            .unwrap_or_else(|| panic!("`{room}` is no known room"));
        for named in named_rooms(&fs::read_to_string(&file).unwrap()) {
            let Some((named_floor, _)) = rooms.get(named.as_str()) else {
                wrong.push(format!("{}: unknown room `{named}`", inside.display()));
                continue;
            };
            if named != room && named_floor >= floor && !beside.contains(&named.as_str()) {
                wrong.push(format!("{}: {room} names {named}", inside.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows against the layers:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn the_test_of_the_layers_sees_an_arrow() {
    assert_eq!(
        named_rooms("use crate::store::reader;\n// crate::git\nlet x = crate::cli::ui();"),
        ["store", "cli"]
    );
}
