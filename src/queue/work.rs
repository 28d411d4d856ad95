//! Work in the queue, and a claim on it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::model::dispatch::WorkKey;

/// Work that a source offers. All texts are data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewWork {
    /// Which work it is.
    pub key: WorkKey,
    /// Where it comes from, such as `owner/repo#7`.
    pub origin: String,
    /// The repository it is for; the repositories of an author take turns.
    pub group_repository: String,
    /// Who asked; authors take turns.
    pub group_author: String,
    /// When it was asked for; older work comes first.
    pub created: DateTime<Utc>,
    /// What the source wants to find again.
    pub payload: Option<String>,
}

/// Where a work stands.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum State {
    /// Never claimed, or reset.
    Waiting,
    /// A holder works on it, or its lease ran out ([`Work::is_lapsed`]).
    Claimed,
    /// It failed, and is tried again after a delay.
    Retrying,
    /// Ended well.
    Done,
    /// Ended until a person resets it.
    Rested,
    /// Nobody wants it any more.
    Cancelled,
}

impl State {
    const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Claimed,
        Self::Retrying,
        Self::Done,
        Self::Rested,
        Self::Cancelled,
    ];

    /// The word for people and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Claimed => "claimed",
            Self::Retrying => "retrying",
            Self::Done => "done",
            Self::Rested => "rested",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a claim ends.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// The work is done.
    Done,
    /// It rests until a person resets it.
    Rested {
        /// Why.
        reason: String,
    },
    /// It is tried again.
    Retry {
        /// The delay, from now.
        after: Duration,
        /// Why.
        reason: String,
        /// Whether this attempt counts. One that never began, as at a limit of use, does not.
        counts: bool,
    },
    /// Nobody wants it any more.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// The right to work on something until the lease runs out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim {
    /// Which work it is.
    pub key: WorkKey,
    /// Higher than that of every claim on this work before.
    pub fence: i64,
    /// Which attempt this is, from 1. A holder that died has used up one.
    pub attempt: u32,
    /// As offered.
    pub origin: String,
    /// As offered.
    pub payload: Option<String>,
    /// Why the last attempt ended, when it said so.
    pub reason: Option<String>,
    /// The revision of the text that an earlier attempt worked from.
    pub revision: Option<String>,
    /// What an earlier attempt noted.
    pub notes: Option<String>,
}

impl From<Work> for Claim {
    fn from(work: Work) -> Self {
        Self {
            key: work.key,
            fence: work.fence,
            attempt: work.attempts,
            origin: work.origin,
            payload: work.payload,
            reason: work.reason,
            revision: work.revision,
            notes: work.notes,
        }
    }
}

/// All that the queue knows of a work. Times are by the clock of the database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Work {
    /// Which work it is.
    pub key: WorkKey,
    /// As offered.
    pub origin: String,
    /// As offered.
    pub group_repository: String,
    /// As offered.
    pub group_author: String,
    /// As offered.
    pub created: DateTime<Utc>,
    /// As offered.
    pub payload: Option<String>,
    /// Where it stands.
    pub state: State,
    /// The number of the latest claim; 0 when it was never claimed.
    pub fence: i64,
    /// The attempts that count, with the present one.
    pub attempts: u32,
    /// Who holds it.
    pub holder: Option<String>,
    /// When the holder's lease ends.
    pub lease_until: Option<DateTime<Utc>>,
    /// Whether it is claimed and the lease has run out: anybody may claim it.
    pub is_lapsed: bool,
    /// When a retry may begin.
    pub not_before: Option<DateTime<Utc>>,
    /// Why it ended or is tried again.
    pub reason: Option<String>,
    /// The revision of the text that was worked from.
    pub revision: Option<String>,
    /// The notes of its latest holder.
    pub notes: Option<String>,
    /// When it was first offered.
    pub offered_at: DateTime<Utc>,
    /// When anything about it changed.
    pub changed_at: DateTime<Utc>,
}

/// What [`from_row`] reads.
pub(super) const COLUMNS: &str =
    "work_key, origin, group_repository, group_author, position, payload,
    state, fence, attempts, holder, lease_until, not_before, reason, revision, notes,
    offered_at, changed_at, {now} AS present";

pub(super) fn from_row(row: &AnyRow) -> Result<Work, sqlx::Error> {
    let wrong = |column: &str, value: String| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: format!("`{value}` is not possible here").into(),
    };
    let time = |column: &str, milliseconds: i64| {
        DateTime::from_timestamp_millis(milliseconds)
            .ok_or_else(|| wrong(column, milliseconds.to_string()))
    };
    let key: String = row.try_get("work_key")?;
    let word: String = row.try_get("state")?;
    let state = State::ALL.into_iter().find(|state| state.as_str() == word);
    let state = state.ok_or_else(|| wrong("state", word))?;
    let attempts: i64 = row.try_get("attempts")?;
    let lease_until: Option<i64> = row.try_get("lease_until")?;
    let not_before: i64 = row.try_get("not_before")?;
    let present: i64 = row.try_get("present")?;
    Ok(Work {
        key: WorkKey::from_text(&key).ok_or_else(|| wrong("work_key", key))?,
        origin: row.try_get("origin")?,
        group_repository: row.try_get("group_repository")?,
        group_author: row.try_get("group_author")?,
        created: time("position", row.try_get("position")?)?,
        payload: row.try_get("payload")?,
        state,
        fence: row.try_get("fence")?,
        attempts: u32::try_from(attempts).map_err(|_| wrong("attempts", attempts.to_string()))?,
        holder: row.try_get("holder")?,
        lease_until: lease_until
            .map(|until| time("lease_until", until))
            .transpose()?,
        is_lapsed: state == State::Claimed && lease_until.is_some_and(|until| until <= present),
        not_before: (state == State::Retrying)
            .then(|| time("not_before", not_before))
            .transpose()?,
        reason: row.try_get("reason")?,
        revision: row.try_get("revision")?,
        notes: row.try_get("notes")?,
        offered_at: time("offered_at", row.try_get("offered_at")?)?,
        changed_at: time("changed_at", row.try_get("changed_at")?)?,
    })
}
