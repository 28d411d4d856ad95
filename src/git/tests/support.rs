//! A repository to try things in: what a person does, what an agent does, what this room tells.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tempfile::TempDir;

use crate::git::{Git, Identity, Snapshot};
use crate::model::change::{RepositoryChange, Standing};
use crate::process::command::{self, Captured, HelperCommand};

/// The mark of the run under test.
pub(super) const MARK: &str = "hello/claude/20261121_010203";

/// Scratch space with a home, a repository `work` in it with one commit, and no other
/// configuration of git.
#[derive(Debug)]
pub(super) struct Scene {
    space: TempDir,
    pub environment: BTreeMap<OsString, OsString>,
}

impl Scene {
    /// A repository on `main` with `old.txt` (ten lines) committed twice, long ago.
    pub(super) fn new() -> Self {
        let scene = Self::empty();
        scene.person(&["init", "-q", "work"]);
        scene.write("work/old.txt", "0\n");
        scene.person_before(&["add", "."]);
        scene.person_before(&["commit", "-qm", "base"]);
        scene.write("work/old.txt", "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
        scene.person_before(&["commit", "-qam", "base two"]);
        scene
    }

    /// No repository yet.
    pub(super) fn empty() -> Self {
        let space = tempfile::tempdir().unwrap();
        let home = space.path().join("home");
        fs::create_dir(&home).unwrap();
        #[expect(
            clippy::disallowed_methods,
            reason = "tests find git where the developer does"
        )]
        let path = std::env::var_os("PATH").unwrap();
        let environment = BTreeMap::from([
            ("PATH".into(), path),
            ("HOME".into(), home.into()),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
        ]);
        let scene = Self { space, environment };
        scene.write(
            "home/.gitconfig",
            "[user]\nname = Pat\nemail = pat@example.org\n[init]\ndefaultBranch = main\n[protocol \"file\"]\nallow = always\n",
        );
        scene
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.space.path().join(name)
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own scratch file")]
    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    pub(super) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The room under test, for the repository `work`.
    pub(super) fn git(&self) -> Git {
        Git::new(&self.environment, &self.path("work"))
    }

    /// A person's git in `work` (or in the whole space where there is no `work` yet).
    #[track_caller]
    pub(super) fn person(&self, arguments: &[&str]) -> String {
        let work = self.path("work");
        let directory = if work.is_dir() { work } else { self.path("") };
        self.run(&directory, arguments, &[])
    }

    /// A person's git in another directory.
    #[track_caller]
    pub(super) fn person_in(&self, directory: &str, arguments: &[&str]) -> String {
        self.run(&self.path(directory), arguments, &[])
    }

    /// A person's git long before the run.
    #[track_caller]
    pub(super) fn person_before(&self, arguments: &[&str]) -> String {
        let date = "2020-01-01T00:00:00Z";
        let dates = ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"].map(|n| (n.into(), date.into()));
        self.run(&self.path("work"), arguments, &dates)
    }

    /// git in the agent's environment, in `work`.
    #[track_caller]
    pub(super) fn agent(&self, arguments: &[&str]) -> String {
        self.run(&self.path("work"), arguments, &self.agent_environment(MARK))
    }

    /// git in the agent's environment, in another directory.
    #[track_caller]
    pub(super) fn agent_in(&self, directory: &str, arguments: &[&str]) -> String {
        self.run(
            &self.path(directory),
            arguments,
            &self.agent_environment(MARK),
        )
    }

    /// git in the environment of another run.
    #[track_caller]
    pub(super) fn other_run(&self, mark: &str, arguments: &[&str]) -> String {
        self.run(&self.path("work"), arguments, &self.agent_environment(mark))
    }

    fn agent_environment(&self, mark: &str) -> Vec<(OsString, OsString)> {
        self.git().agent_environment(mark, &identity())
    }

    /// Writes a file of one line in `work` and commits it as the agent.
    #[track_caller]
    pub(super) fn agent_commits(&self, file: &str) {
        self.write(&format!("work/{file}"), format!("{file}\n"));
        self.agent(&["add", file]);
        self.agent(&["commit", "-qm", &format!("agent {file}")]);
    }

    /// Writes a file of one line in `work` and commits it as a person.
    #[track_caller]
    pub(super) fn person_commits(&self, file: &str) {
        self.write(&format!("work/{file}"), format!("{file}\n"));
        self.person(&["add", file]);
        self.person(&["commit", "-qm", &format!("person {file}")]);
    }

    /// Runs git as the agent, where git stops half-way.
    #[track_caller]
    pub(super) fn agent_fails(&self, arguments: &[&str]) {
        let environment = self.agent_environment(MARK);
        let captured = self.capture(&self.path("work"), arguments, &environment);
        assert_ne!(captured.code, Some(0), "git {arguments:?} succeeded");
    }

    #[track_caller]
    fn run(&self, directory: &Path, arguments: &[&str], more: &[(OsString, OsString)]) -> String {
        let captured = self.capture(directory, arguments, more);
        let stdout = String::from_utf8_lossy(&captured.stdout).trim().to_owned();
        let said = &captured.stderr;
        assert_eq!(captured.code, Some(0), "git {arguments:?}: {stdout}{said}");
        stdout
    }

    fn capture(
        &self,
        directory: &Path,
        arguments: &[&str],
        more: &[(OsString, OsString)],
    ) -> Captured {
        let mut environment = self.environment.clone();
        environment.extend(more.iter().cloned());
        command::run(&HelperCommand {
            program: OsStr::new("git"),
            arguments: &arguments.iter().map(OsStr::new).collect::<Vec<_>>(),
            directory,
            environment: &environment.into_iter().collect::<Vec<_>>(),
            stdin: &[],
            limit: Duration::from_secs(60),
            budget: None,
            record_bytes: None,
        })
        .unwrap()
    }

    #[track_caller]
    #[must_use]
    pub(super) fn snapshot(&self) -> Snapshot {
        self.git().snapshot(start()).unwrap()
    }

    /// What the room tells of the time since `before`.
    #[track_caller]
    #[must_use]
    pub(super) fn change(&self, before: &Snapshot) -> RepositoryChange {
        self.git().compare_guarded(before, MARK, &[]).unwrap()
    }

    /// The commits of that time in short: `own: agent a.txt +1/-0`.
    #[track_caller]
    #[must_use]
    pub(super) fn told(&self, before: &Snapshot) -> Vec<String> {
        told(&self.change(before))
    }
}

/// The commits of a change in short: `own: agent a.txt +1/-0`.
pub(super) fn told(change: &RepositoryChange) -> Vec<String> {
    change
        .commits
        .iter()
        .map(|commit| {
            let standing = match &commit.standing {
                Standing::Own => "own".to_owned(),
                Standing::Amended { .. } => "amended".to_owned(),
                Standing::Elsewhere { branch } => {
                    format!("on {}", branch.as_deref().unwrap_or("no branch"))
                }
                Standing::Foreign { why, .. } => format!("foreign ({why})"),
            };
            let (more, less) = (commit.insertions, commit.deletions);
            format!("{standing}: {} +{more}/-{less}", commit.subject)
        })
        .collect()
}

/// The identity that agents commit with in these tests: the repository's, as in real runs.
pub(super) fn identity() -> Identity {
    Identity {
        name: "Pat".to_owned(),
        email: "pat@example.org".to_owned(),
    }
}

/// After everything done by [`Scene::person_before`], before everything else.
pub(super) fn start() -> DateTime<Utc> {
    "2024-01-01T00:00:00Z".parse().unwrap()
}
