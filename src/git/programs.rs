//! Programs that a repository's configuration names and that git runs: filters and merge drivers.
//!
//! An agent may have named them. What was named before it began is run as ever; what it changed is
//! not run by our own commands.

use std::collections::{BTreeMap, BTreeSet};

use crate::git::{Git, GitError, Snapshot};
use crate::process::command::RunningHelper;

/// Reads of a configuration the identity, the programs, where the work tree lies, and what else it
/// includes.
pub(super) const CONFIGURED: [&str; 4] = [
    "config",
    "-z",
    "--get-regexp",
    r"^(user\.(name|email)|core\.worktree|include(if\..*)?\.path|filter\..*|merge\..*\.driver)$",
];

/// Settings that name programs, by their keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Programs(BTreeMap<String, String>);

impl Programs {
    pub(super) fn parse(output: &[u8]) -> Self {
        let is_program = |key: &str| key.starts_with("filter.") || key.starts_with("merge.");
        let programs = entries(output).filter(|(key, _)| is_program(key));
        Self(programs.collect())
    }

    /// The settings with which git runs what was named in `self` alone, when the configuration
    /// says `now`.
    fn instead_of(&self, now: &Self) -> Vec<(String, String)> {
        let keys = self.0.keys().chain(now.0.keys());
        let changed = keys.filter(|key| self.0.get(*key) != now.0.get(*key));
        let drivers: BTreeSet<&str> = changed
            .filter_map(|key| key.rsplit_once('.'))
            .map(|(driver, _)| driver)
            .collect();
        let mut settings = Vec::new();
        for driver in drivers {
            // An empty filter changes nothing; a merge driver that fails leaves a conflict.
            let variables: &[(&str, &str)] = if driver.starts_with("merge.") {
                &[("driver", "false")]
            } else {
                &[
                    ("clean", ""),
                    ("smudge", ""),
                    ("process", ""),
                    ("required", "false"),
                ]
            };
            for (variable, nothing) in variables {
                let key = format!("{driver}.{variable}");
                let value = self.0.get(&key).map_or(*nothing, String::as_str).to_owned();
                settings.push((key, value));
            }
        }
        settings
    }
}

impl Git {
    /// The same repository, with commands that run no filter or merge driver that was not
    /// configured at `before`.
    pub fn with_programs_of(&self, before: &Snapshot) -> Result<Self, GitError> {
        match self.ask_for_programs(before)? {
            Some(configured) => self.with_programs(&before.programs, configured),
            None => Ok(self.clone()),
        }
    }

    /// Asks for the configuration, unless it is known to be the same as at `before`.
    pub(super) fn ask_for_programs(
        &self,
        before: &Snapshot,
    ) -> Result<Option<RunningHelper>, GitError> {
        let known = before.configuration.as_ref();
        let is_same = known.is_some_and(|known| self.configuration().as_ref() == Some(known));
        (!is_same).then(|| self.start(&CONFIGURED, &[])).transpose()
    }

    /// The same repository, with commands that run no filter or merge driver.
    pub fn without_programs(&self) -> Result<Self, GitError> {
        self.with_programs(&Programs::default(), self.start(&CONFIGURED, &[])?)
    }

    /// `configured`: [`CONFIGURED`], started.
    pub(super) fn with_programs(
        &self,
        before: &Programs,
        configured: RunningHelper,
    ) -> Result<Self, GitError> {
        let now = Programs::parse(&self.finish(&CONFIGURED, configured)?.stdout);
        let settings = before.instead_of(&now);
        if settings.is_empty() {
            return Ok(self.clone());
        }
        let keys: Vec<&str> = settings.iter().map(|(key, _)| key.as_str()).collect();
        tracing::warn!(?keys, "configured programs are not run");
        let settings: Vec<_> = settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        Ok(self.with_settings(&settings))
    }
}

/// Whether a configuration goes on in further files.
pub(super) fn includes(output: &[u8]) -> bool {
    entries(output).any(|(key, _)| key.starts_with("include"))
}

/// The value that counts of a setting, the last.
pub(super) fn setting(output: &[u8], key: &str) -> Option<String> {
    entries(output)
        .filter(|(name, value)| name == key && !value.trim().is_empty())
        .map(|(_, value)| value)
        .last()
}

/// Reads `key`, a line feed, `value`, ended by NUL; a key alone is true.
fn entries(output: &[u8]) -> impl Iterator<Item = (String, String)> {
    let text = String::from_utf8_lossy(output).into_owned();
    let entry = |entry: &str| {
        let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
        (key.to_owned(), value.to_owned())
    };
    let entries: Vec<_> = text.split_terminator('\0').map(entry).collect();
    entries.into_iter()
}
