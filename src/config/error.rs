//! Why a configuration is refused. All of it is exit code 2: nothing was started.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::origin::Origin;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file that was named or found cannot be read.
    #[error("cannot read the configuration file `{}`{}", path.display(), by(named_by.as_ref()))]
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// Who named it; `None` when it was found where it is looked for.
        named_by: Option<Origin>,
        /// The system's reason.
        source: io::Error,
    },
    /// A key, type or value is wrong.
    #[error("{place}: {problem}")]
    Wrong {
        /// `file:line:column`, or the flag or environment variable.
        place: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
}

fn by(named_by: Option<&Origin>) -> String {
    named_by.map_or_else(String::new, |origin| format!(", named by {origin}"))
}
