//! Every test that the README names for a promise exists.

use std::fs;
use std::path::Path;

fn sources(directory: &Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_readme_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, promises) = readme.split_once("## What you can rely on").unwrap();
    let (promises, _) = promises.split_once("\n## ").unwrap();
    let mut code = String::new();
    sources(&root.join("src"), &mut code);
    sources(&root.join("tests/integration"), &mut code);
    let is_test =
        |name: &&str| name.matches('_').count() >= 2 && !name.contains([' ', '/', '.', '=']);
    let named: Vec<&str> = promises
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(is_test)
        .collect();
    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        // `real_ntfy_…` stands for all tests whose names begin so.
        let wanted = name
            .strip_suffix('…')
            .map_or(format!("fn {name}("), |start| format!("fn {start}"));
        assert!(
            code.contains(&wanted),
            "the README promises `{name}`, and there is no such test"
        );
    }
}
