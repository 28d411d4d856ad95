//! Programs that a repository's configuration names and that git runs: filters, merge drivers, and
//! whatever speaks with a repository that has what is missing here.
//!
//! An agent may have named them. What was named before it began is run as ever; what it changed is
//! not run by our own commands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::git::place::Place;
use crate::git::submodules::may_have_submodules;
use crate::git::{Git, GitError, Snapshot};
use crate::process::command::RunningHelper;

/// Reads of a configuration the identity, the programs, where the work tree lies, and what else it
/// includes.
const CONFIGURED: [&str; 4] = [
    "config",
    "-z",
    "--get-regexp",
    r"^(user\.(name|email)|core\.worktree|include(if\..*)?\.path|filter\..*|merge\..*\.driver|extensions\.partialclone|remote\..*\.(promisor|partialclonefilter))$",
];

/// Settings that name programs, by their keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Programs {
    own: BTreeMap<String, String>,
    /// Those of submodules, by where they are.
    of_submodules: BTreeMap<(PathBuf, String), String>,
}

impl Programs {
    /// The keys that tell something else at `now`, here or in a submodule.
    fn changed<'a>(&'a self, now: &'a Self) -> BTreeSet<&'a str> {
        let own = differing(&self.own, &now.own);
        let theirs = differing(&self.of_submodules, &now.of_submodules);
        let changed = own.chain(theirs.map(|(_, key)| key));
        changed.map(String::as_str).collect()
    }

    /// The filters that are configured otherwise than at an earlier look.
    pub fn changed_filters(&self, earlier: &Self) -> BTreeSet<String> {
        let changed = earlier.changed(self).into_iter();
        let filters = changed.filter_map(|key| key.strip_prefix("filter.")?.rsplit_once('.'));
        filters.map(|(filter, _)| filter.to_owned()).collect()
    }

    /// The settings with which git runs what was named in `self` alone, when these keys have
    /// changed. They count in submodules, too.
    fn instead_of(&self, changed: &BTreeSet<&str>) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let mut set_back = |key: String, nothing: &str| {
            let value = self.own.get(&key).map_or(nothing, String::as_str);
            settings.insert(key, value.to_owned());
        };
        for key in changed.iter().filter(|key| !is_of_partial_clone(key)) {
            // A merge driver that fails leaves a conflict.
            if key.starts_with("merge.") {
                set_back((*key).to_owned(), "false");
            } else if let Some((filter, _)) = key.rsplit_once('.') {
                // An empty filter changes nothing. But an empty `process` hides the others, so what
                // did not change is left alone.
                set_back((*key).to_owned(), "");
                set_back(format!("{filter}.required"), "false");
            }
        }
        settings
    }
}

/// The keys under which two differ.
fn differing<'a, K: Ord>(
    one: &'a BTreeMap<K, String>,
    other: &'a BTreeMap<K, String>,
) -> impl Iterator<Item = &'a K> {
    let keys = one.keys().chain(other.keys());
    keys.filter(|key| one.get(*key) != other.get(*key))
}

impl Git {
    /// The repository that was looked at before, with commands that run no filter or merge driver
    /// that was not configured then, and fetch nothing from a repository that was not.
    pub fn with_programs_of(&self, before: &Snapshot) -> Result<Self, GitError> {
        let git = self.pinned(&before.place)?;
        let configured = git.ask_for_programs(before)?;
        git.with_programs(before, configured)
    }

    /// The same repository, with commands that run no filter or merge driver that was not configured
    /// at an earlier look, also in another work tree, and fetch nothing from a repository that was
    /// not.
    pub fn with_programs_since(&self, earlier: &Programs) -> Result<Self, GitError> {
        self.running(earlier, &self.programs_at(&self.place()?)?)
    }

    /// What is configured in the repository that lies there.
    pub(super) fn programs_at(&self, place: &Place) -> Result<Programs, GitError> {
        self.programs(&place.top_level, &place.directory, &self.configured()?)
    }

    /// What is configured for every repository, where there is none.
    pub fn programs_of_user(&self) -> Result<Programs, GitError> {
        let own = parse(&self.configured()?).collect();
        Ok(Programs {
            own,
            ..Programs::default()
        })
    }

    /// Asks for the configuration, unless it is known to be the same as at `before`, without
    /// submodules that have their own.
    pub(super) fn ask_for_programs(
        &self,
        before: &Snapshot,
    ) -> Result<Option<RunningHelper>, GitError> {
        let known = before.configuration.as_ref();
        let is_same = known.is_some_and(|known| self.configuration().as_ref() == Some(known))
            && !may_have_submodules(&before.place.directory);
        (!is_same).then(|| self.start(&CONFIGURED, &[])).transpose()
    }

    /// What is configured; status 1 says nothing.
    pub(super) fn configured(&self) -> Result<Vec<u8>, GitError> {
        Ok(self.run(&CONFIGURED, &[])?.stdout)
    }

    /// The same repository, with commands that run no filter or merge driver, and fetch nothing. Its
    /// directory is the root of its work tree.
    pub fn without_programs(&self) -> Result<Self, GitError> {
        let configured = self.configured()?;
        let directory = match self.git_directory() {
            Ok(directory) => directory,
            // No other command runs there either.
            Err(GitError::NotARepository { .. }) => PathBuf::new(),
            Err(error) => return Err(error),
        };
        let now = self.programs(&self.repository, &directory, &configured)?;
        self.running(&Programs::default(), &now)
    }

    /// `configured`: what [`Git::ask_for_programs`] asks.
    pub(super) fn with_programs(
        self,
        before: &Snapshot,
        configured: Option<RunningHelper>,
    ) -> Result<Self, GitError> {
        let Some(configured) = configured else {
            return Ok(self);
        };
        let configured = self.finish(&CONFIGURED, configured)?.stdout;
        let place = &before.place;
        let now = self.programs(&place.top_level, &place.directory, &configured)?;
        self.running(&before.programs, &now)
    }

    /// What is named in a repository, whose own configuration is at hand, and in its submodules.
    pub(super) fn programs(
        &self,
        top_level: &Path,
        directory: &Path,
        configured: &[u8],
    ) -> Result<Programs, GitError> {
        let mut programs = Programs {
            own: parse(configured).collect(),
            ..Programs::default()
        };
        for (tree, git) in self.submodules(top_level, directory)? {
            let configured = git.configured()?;
            let theirs = parse(&configured).map(|(key, value)| ((tree.clone(), key), value));
            programs.of_submodules.extend(theirs);
        }
        Ok(programs)
    }

    /// The same repository, with commands that run what `before` names, when the configuration says
    /// `now`.
    pub(super) fn running(&self, before: &Programs, now: &Programs) -> Result<Self, GitError> {
        let changed = before.changed(now);
        if changed.is_empty() {
            return Ok(self.clone());
        }
        // Of a name that is not UTF-8 no setting can be made.
        if changed.iter().any(|key| key.contains('\u{fffd}')) {
            return Err(GitError::output("config"));
        }
        tracing::warn!(keys = ?changed, "configured programs are not run");
        let settings = before.instead_of(&changed);
        let settings = settings.iter();
        let settings: Vec<_> = settings
            .map(|(key, value)| (&key[..], &value[..]))
            .collect();
        let git = self.with_settings(&settings);
        Ok(if changed.iter().any(|key| is_of_partial_clone(key)) {
            git.fetching_nothing()
        } else {
            git
        })
    }

    /// The same repository, with commands that do not fetch what is missing in it.
    pub(super) fn fetching_nothing(&self) -> Self {
        self.with_variable("GIT_ALLOW_PROTOCOL", "none")
    }
}

fn is_of_partial_clone(key: &str) -> bool {
    key.starts_with("remote.") || key.starts_with("extensions.")
}

/// The settings that name programs.
fn parse(output: &[u8]) -> impl Iterator<Item = (String, String)> {
    let is_program = |key: &str| {
        key.starts_with("filter.") || key.starts_with("merge.") || is_of_partial_clone(key)
    };
    entries(output).filter(move |(key, _)| is_program(key))
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
