//! The few words in which SQLite and PostgreSQL differ.

/// Which database answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Milliseconds since 1970 by the clock of the database, the same throughout a statement.
    pub(super) fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('now', 'subsec') * 1000 AS INTEGER)",
            Self::Postgres => "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// The texts of a parameter that is a JSON list, as rows.
    pub(super) fn texts(self, parameter: &str) -> String {
        match self {
            Self::Sqlite => format!("SELECT value FROM json_each({parameter})"),
            Self::Postgres => {
                format!("SELECT json_array_elements_text(CAST({parameter} AS json))")
            }
        }
    }

    /// Takes the row `w` from others that look for work. SQLite has one writer at a time.
    pub(super) fn for_update(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => "FOR UPDATE OF w SKIP LOCKED",
        }
    }

    /// Lets nobody else write until the transaction ends. In SQLite it is the one writer already.
    pub(super) fn lock(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("LOCK TABLE agent_runner_work IN SHARE ROW EXCLUSIVE MODE"),
        }
    }

    /// Begins a transaction that writes. In SQLite one that becomes a writer later may fail at
    /// once, however long it was told to wait.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }
}
