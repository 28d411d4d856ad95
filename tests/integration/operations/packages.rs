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
    let name = package.file_name().unwrap().to_str().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        name.starts_with(&format!("agent-runner_{version}_")),
        "{name}"
    );
    let field = |field: &str| {
        let told = finds_nothing(Command::new("dpkg-deb").arg("-f").arg(&package).arg(field));
        told.trim().to_owned()
    };
    assert_eq!(field("Package"), "agent-runner");
    assert_eq!(field("Version"), version);
    let depends = field("Depends");
    assert!(
        depends.contains("libc6") && depends.contains("git"),
        "{depends}"
    );
    let listed = finds_nothing(Command::new("dpkg-deb").arg("-c").arg(&package));
    // Nobody who built it owns anything of it.
    assert!(
        listed.lines().all(|line| line.contains(" root/root ")),
        "{listed}"
    );

    let tree = directory.path().join("tree");
    finds_nothing(Command::new("dpkg-deb").arg("-x").args([&package, &tree]));
    for file in [
        "usr/lib/systemd/system/agent-runner-dispatch.service",
        "usr/share/bash-completion/completions/agent-runner",
        "usr/share/doc/agent-runner/agent-runner-setup.md",
        "usr/share/fish/vendor_completions.d/agent-runner.fish",
        "usr/share/man/man1/agent-runner-smoke.1.gz",
        "usr/share/man/man1/agent-runner.1.gz",
        "usr/share/zsh/vendor-completions/_agent-runner",
    ] {
        let size = std::fs::metadata(tree.join(file)).map(|file| file.len());
        assert!(size.is_ok_and(|size| size > 100), "{file}");
    }
    let program = tree.join("usr/bin/agent-runner");
    for (arguments, begin) in [
        (&["--version"][..], "agent-runner "),
        (&["completions", "bash"], "\n_clap_complete_agent_runner()"),
        (&["man"], ".ie \\n(.g .ds Aq"),
    ] {
        let told = finds_nothing(Command::new(&program).args(arguments));
        assert!(told.starts_with(begin), "{arguments:?}: {told}");
    }
}

#[test]
fn a_package_that_cannot_be_made_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    // All that the script calls, but neither dpkg-deb nor a compiler.
    for program in [
        "bash", "dirname", "sed", "head", "git", "mkdir", "mktemp", "rm", "rustc",
    ] {
        let found =
            finds_nothing(Command::new("sh").args(["-c", &format!("command -v {program}")]));
        std::os::unix::fs::symlink(found.trim(), bin.join(program)).unwrap();
    }
    let told = finds_nothing(
        Command::new(root().join("packaging/build"))
            .args(["--binary", env!("CARGO_BIN_EXE_agent-runner")])
            .env("PATH", &bin)
            .env("PACKAGES", directory.path()),
    );
    assert!(
        told.contains("no Debian package: there is no dpkg-deb"),
        "{told}"
    );
}
