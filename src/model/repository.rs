//! Repositories on a code host, and issues in them, by name. Parsed here, trusted everywhere else.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest name of an owner on GitHub.
const MAX_OWNER_BYTES: usize = 39;
/// The longest name of a repository on GitHub.
const MAX_NAME_BYTES: usize = 100;

/// A text is no `owner/name`.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{0}` is no repository: `owner/name` is needed, as in its address on GitHub")]
pub struct RepositoryNameError(String);

/// `owner/name`, with only the characters that GitHub allows: never a path, an option or an URL.
///
/// Two names are the same repository when they differ in the case of letters alone, as on GitHub.
#[derive(Clone, Debug)]
pub struct RepositoryName {
    text: String,
    slash: usize,
}

impl RepositoryName {
    /// The user or organisation.
    pub fn owner(&self) -> &str {
        &self.text[..self.slash]
    }

    /// The repository's own name.
    pub fn name(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// `owner/name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// One word for a file or directory, different for different repositories.
    pub fn file_name(&self) -> String {
        // No owner holds a dot.
        self.text.to_ascii_lowercase().replacen('/', ".", 1)
    }

    fn folded(&self) -> String {
        self.text.to_ascii_lowercase()
    }
}

impl FromStr for RepositoryName {
    type Err = RepositoryNameError;

    fn from_str(text: &str) -> Result<Self, RepositoryNameError> {
        let is_valid = |owner: &str, name: &str| {
            let letter = |c: char| c.is_ascii_alphanumeric();
            (1..=MAX_OWNER_BYTES).contains(&owner.len())
                && owner.chars().all(|c| letter(c) || c == '-' || c == '_')
                && owner.starts_with(letter)
                && (1..=MAX_NAME_BYTES).contains(&name.len())
                && name.chars().all(|c| letter(c) || "-_.".contains(c))
                && !matches!(name, "." | "..")
                && !name.to_ascii_lowercase().ends_with(".git")
        };
        match text.split_once('/') {
            Some((owner, name)) if is_valid(owner, name) => Ok(Self {
                text: text.to_owned(),
                slash: owner.len(),
            }),
            _ => Err(RepositoryNameError(text.to_owned())),
        }
    }
}

impl PartialEq for RepositoryName {
    fn eq(&self, other: &Self) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
    }
}

impl Eq for RepositoryName {}

impl PartialOrd for RepositoryName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RepositoryName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

impl std::hash::Hash for RepositoryName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_an_owner_and_a_name_and_nothing_else() {
        for good in ["a/b", "Octo-Org/hello.world", "a_b/c-d", "0/1"] {
            assert_eq!(good.parse::<RepositoryName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../x",
            "a/..",
            "a/.",
            "-a/b",
            "a/b.git",
            "a/b.GIT",
            "a b/c",
            "a/b c",
            "a/b\n",
            "a/b#1",
            "a@h:b/c",
            "http://a/b",
            "a/b%2f",
            "ä/b",
            "a/b\0",
            "a.b/c",
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_the_same_without_regard_to_case_and_files_are_distinct() {
        let name = |text: &str| text.parse::<RepositoryName>().unwrap();
        assert_eq!(name("Octo/Hello"), name("octo/hello"));
        assert_ne!(name("a_b/c").file_name(), name("a/b_c").file_name());
        assert_eq!(name("A/B.c").file_name(), "a.b.c");
    }
}
