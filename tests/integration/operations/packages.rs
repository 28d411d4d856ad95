//! The Debian package, with the program as it was built for the tests.

use std::process::Command;

use super::{finds_nothing, root};
use crate::real::components;

#[test]
fn the_debian_package_holds_the_program_its_units_and_its_pages() {
    if !std::path::Path::new("/usr/bin/dpkg-deb").exists() {
        return components::missing("dpkg-deb is not installed");
    }
    let directory = tempfile::tempdir().unwrap();
    finds_nothing(
        Command::new(root().join("packaging/build"))
            .args(["--binary", env!("CARGO_BIN_EXE_agent-runner")])
            .env("COMPRESS", "none")
            .env("PACKAGES", directory.path()),
    );
    let package = std::fs::read_dir(directory.path()).unwrap().next();
    let package = package.unwrap().unwrap().path();
    let tree = directory.path().join("tree");
    finds_nothing(Command::new("dpkg-deb").arg("-x").args([&package, &tree]));
    for file in [
        "usr/lib/systemd/system/agent-runner-dispatch.service",
        "usr/share/doc/agent-runner/agent-runner-setup.md",
    ] {
        assert!(tree.join(file).exists(), "{file}");
    }
    let version = finds_nothing(Command::new(tree.join("usr/bin/agent-runner")).arg("--version"));
    assert!(version.starts_with("agent-runner "), "{version}");
}
