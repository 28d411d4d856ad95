//! Where the queue is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// A text is no address of a queue. It may hold a password, so the message does not show it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "this is no address of a queue: `sqlite:/path/to/file` or \
     `postgres://user:password@host/database` is needed"
)]
pub struct QueueUrlError;

/// A SQLite file, or a PostgreSQL database. Its password is shown nowhere.
#[derive(Clone, Eq, PartialEq)]
pub struct QueueUrl(pub(super) Target);

#[derive(Clone, Eq, PartialEq)]
pub(super) enum Target {
    Sqlite(PathBuf),
    Postgres(String),
}

impl QueueUrl {
    /// The queue in this file; an absolute path.
    pub fn sqlite(path: impl Into<PathBuf>) -> Self {
        Self(Target::Sqlite(path.into()))
    }

    /// The file, when the queue is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Target::Sqlite(path) => Some(path),
            Target::Postgres(_) => None,
        }
    }
}

impl FromStr for QueueUrl {
    type Err = QueueUrlError;

    /// Reads `sqlite:PATH`, `sqlite://PATH` (as it stands, nothing in it is decoded) or
    /// `postgres://…`, `postgresql://…`.
    fn from_str(text: &str) -> Result<Self, QueueUrlError> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path.contains('\0') {
                return Err(QueueUrlError);
            }
            return Ok(Self::sqlite(path));
        }
        let is_postgres = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme));
        let is_url = is_postgres && text.parse::<sqlx::any::AnyConnectOptions>().is_ok();
        is_url
            .then(|| Self(Target::Postgres(text.to_owned())))
            .ok_or(QueueUrlError)
    }
}

impl fmt::Display for QueueUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Sqlite(path) => write!(formatter, "{}", path.display()),
            Target::Postgres(url) => {
                // What follows `?` may hold a password too.
                let url = url.split('?').next().unwrap_or_default();
                let (scheme, rest) = url.split_once("://").unwrap_or_default();
                let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
                write!(formatter, "{scheme}://{place}")
            }
        }
    }
}

impl fmt::Debug for QueueUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "QueueUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_never_shows_its_password() {
        let secret = "postgres://me:s3cret@host:5432/db?password=s3cret&host=/run/p";
        let url: QueueUrl = secret.parse().unwrap();
        assert_eq!(url.to_string(), "postgres://host:5432/db");
        assert_eq!(format!("{url:?}"), "QueueUrl(postgres://host:5432/db)");
        let awkward: QueueUrl = "postgres://me:p%40s@s3c/ret@host/db".parse().unwrap();
        assert!(!awkward.to_string().contains("s3c"));
    }

    #[test]
    fn a_file_or_a_server_is_an_address_and_nothing_else() {
        let path = |text: &str| text.parse::<QueueUrl>().unwrap().path().map(Path::to_owned);
        assert_eq!(path("sqlite:/a/b.db"), Some(PathBuf::from("/a/b.db")));
        assert_eq!(path("sqlite:///a/b %?.db"), Some("/a/b %?.db".into()));
        assert_eq!(path("postgresql://h/d"), None);
        for bad in [
            "",
            "/a/b.db",
            "sqlite:",
            "mysql://h/d",
            "postgres:",
            "postgres://[",
            "http://x",
        ] {
            assert_eq!(bad.parse::<QueueUrl>(), Err(QueueUrlError), "{bad}");
        }
    }
}
