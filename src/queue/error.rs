//! What can fail when the queue is asked.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// The queue could not be opened, read or changed.
#[derive(Debug, Error)]
#[expect(
    missing_docs,
    reason = "the fields are what the messages say; `place` never holds a password"
)]
pub enum QueueError {
    /// The SQLite file or its directory cannot be made.
    #[error("cannot create the queue `{}`", path.display())]
    Create { path: PathBuf, source: io::Error },
    /// The file is torn, or no SQLite database.
    #[error(
        "the queue `{place}` is damaged or no SQLite database: move the file and those beside it \
         (`-wal`, `-shm`) away; the next start makes a new one, and sources offer their work again"
    )]
    Damaged { place: String, source: sqlx::Error },
    /// The SQLite database has other tables.
    #[error(
        "`{place}` is the database of another program: name a file of its own in `[queue] url`"
    )]
    Foreign { place: String },
    /// The queue was made by a later version.
    #[error(
        "the queue `{place}` has format {found}, and this version of agent-runner knows formats up \
         to {known}: update agent-runner, or name another queue in `[queue] url`"
    )]
    Newer {
        place: String,
        found: i64,
        known: i64,
    },
    /// The database did not answer in time; the change may have been made.
    #[error("the queue `{place}` did not answer within {} s: cannot {action}", limit.as_secs())]
    NoAnswer {
        action: &'static str,
        place: String,
        limit: Duration,
    },
    /// The database refused, or was not reached; the change may have been made.
    #[error("cannot {action} in the queue `{place}`")]
    Database {
        action: &'static str,
        place: String,
        source: sqlx::Error,
    },
}

impl QueueError {
    pub(super) fn new(action: &'static str, place: &str, source: sqlx::Error) -> Self {
        let place = place.to_owned();
        // SQLITE_CORRUPT and SQLITE_NOTADB; PostgreSQL's codes have five characters.
        if matches!(primary_code(&source).as_deref(), Some("11" | "26")) {
            Self::Damaged { place, source }
        } else {
            Self::Database {
                action,
                place,
                source,
            }
        }
    }

    /// Whether the same may succeed later: the database is busy, starting or out of reach.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Database { source, .. } => is_transient(source),
            Self::Create { .. }
            | Self::Damaged { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. } => false,
        }
    }
}

pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        // A socket that is not there, a connection that was reset, a host that has no name now.
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(_) => primary_code(error).is_some_and(|code| {
            // SQLITE_BUSY, SQLITE_LOCKED.
            matches!(code.as_str(), "5" | "6")
                // Of PostgreSQL: connection lost, out of connections, shut down or starting,
                // cancelled by a time limit, lost against another transaction, lock not available.
                || code.len() == 5
                    && ["08", "53", "57", "40", "55P03", "25P03"]
                        .iter()
                        .any(|class| code.starts_with(class))
        }),
        _ => false,
    }
}

/// SQLite's primary result code (the low byte of the extended one), or PostgreSQL's SQLSTATE.
fn primary_code(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => Some((number & 0xff).to_string()),
        _ => Some(code.into_owned()),
    }
}
