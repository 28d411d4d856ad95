//! Where a value comes from.

use std::fmt;
use std::path::PathBuf;

/// The layer that a value was taken from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A flag of this call, such as `--timeout`.
    Flag(&'static str),
    /// The environment variable of this name.
    Environment(String),
    /// The configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the value, from 1.
        line: usize,
    },
    /// The shipped configuration, or what follows from other settings.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => formatter.write_str(flag),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::File { path, line } => write!(formatter, "{}:{line}", path.display()),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

impl<T> Sourced<T> {
    pub(crate) fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }

    pub(crate) fn default(value: T) -> Self {
        Self::new(value, Origin::Default)
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced::new(change(self.value), self.origin)
    }
}
