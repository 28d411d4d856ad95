//! Who works on what: claims with a lease and a fence, shared by processes and machines.
//!
//! A source [offers](Queue::offer) work; a worker [claims](Queue::claim) one piece of it for a
//! lease, [renews](Queue::renew) the lease while it works, and [finishes](Queue::finish). A lease
//! that ran out lets others claim the work. Each claim has a higher fence than the one before, and
//! whatever a holder writes names its fence, so one that slept too long is refused.
//!
//! The queue is a SQLite file, or a PostgreSQL database for many machines; the statements are the
//! same but for the fragments of `dialect`. Leases are measured by the clock of the
//! database (with SQLite, of the machine), never by one of a worker. Every change is one statement, or one short transaction
//! that begins as a writer. It runs no work and knows no source. Those who share it tell each other
//! through it, too, which agents are parked and what a day has used up (`shared`).

mod dialect;
mod error;
mod schema;
mod shared;
mod url;
mod work;

pub use error::QueueError;
pub use shared::AgentNews;
pub use url::{QueueUrl, QueueUrlError};
pub use work::{Claim, End, NewWork, State, Work};

use std::time::Duration;

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Row as _};

use crate::model::dispatch::WorkKey;
use dialect::Dialect;

/// The longest wait for one answer. PostgreSQL itself gives up a little earlier, and SQLite waits
/// 10 s for another writer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// A lease or delay that is longer than any life of the queue, yet can be added to every time.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An open queue. Clones share its connections, which are renewed when they were lost.
#[derive(Clone, Debug)]
pub struct Queue {
    pool: AnyPool,
    dialect: Dialect,
    /// How errors call the queue.
    place: String,
}

/// What of the candidates `w` may be claimed.
const READY: &str = "w.work_key IN ({texts of $3})
    AND (w.state IN ('waiting', 'retrying') AND w.not_before <= {now}
         OR w.state = 'claimed' AND w.lease_until <= {now})";

/// Restricts a change to the claim that makes it.
const HELD: &str = "work_key = $1 AND fence = $2 AND state = 'claimed'";

impl Queue {
    /// Opens the queue, and creates it where there is none. Safe when many processes do it at once.
    ///
    /// A new SQLite file, and the directories it needs, are for their owner alone. It must lie on
    /// a local file system: over NFS, SQLite's locks do not hold.
    ///
    /// # Errors
    ///
    /// When the database cannot be reached, is damaged, belongs to another program or to a newer
    /// version of this one. Nothing is changed then.
    pub async fn open(url: &QueueUrl) -> Result<Self, QueueError> {
        schema::open(url).await
    }

    /// Closes all connections. Without it they are closed in the background.
    pub async fn close(self) {
        self.pool.close().await;
    }

    /// Adds the works that are not known yet, and tells how many those are. All or none are added;
    /// a known work stays as it is.
    pub async fn offer(&self, works: &[NewWork]) -> Result<usize, QueueError> {
        // In one order everywhere, so that two that offer the same never wait for each other.
        let mut works: Vec<&NewWork> = works.iter().collect();
        works.sort_by(|a, b| a.key.cmp(&b.key));
        let insert = async {
            let mut transaction = self.pool.begin_with(self.dialect.begin()).await?;
            let mut added = 0;
            for work in works {
                added += self.insert(&mut transaction, work).await?;
            }
            transaction.commit().await?;
            Ok(usize::try_from(added).unwrap_or(usize::MAX))
        };
        self.limited("offer work", insert).await
    }

    /// Adds a work whose origin is `prefix` with the next number: one more than the highest that any
    /// work has. `false`: it is known, and stays as it is.
    pub async fn offer_numbered(
        &self,
        prefix: &str,
        work: impl FnOnce(u64) -> NewWork,
    ) -> Result<bool, QueueError> {
        let highest = "SELECT CAST(coalesce(max(CAST(substr(origin, $2) AS BIGINT)), 0) AS BIGINT)
             AS number FROM agent_runner_work WHERE substr(origin, 1, $2 - 1) = $1";
        let insert = async {
            let mut transaction = self.pool.begin_with(self.dialect.begin()).await?;
            if let Some(lock) = self.dialect.lock() {
                sqlx::query(lock).execute(&mut *transaction).await?;
            }
            let query = sqlx::query(highest)
                .bind(prefix)
                .bind(i32::try_from(prefix.len() + 1).unwrap_or(i32::MAX));
            let row = query.fetch_one(&mut *transaction).await?;
            let number = u64::try_from(row.try_get::<i64, _>("number")?).unwrap_or_default() + 1;
            let added = self.insert(&mut transaction, &work(number)).await?;
            transaction.commit().await?;
            Ok(added > 0)
        };
        self.limited("offer work", insert).await
    }

    async fn insert(&self, place: &mut AnyConnection, work: &NewWork) -> Result<u64, sqlx::Error> {
        let statement = self.statement(
            "INSERT INTO agent_runner_work (work_key, origin, group_repository, group_author, position,
                 payload, state, fence, attempts, not_before, offered_at, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6, 'waiting', 0, 0, 0, {now}, {now})
             ON CONFLICT (work_key) DO NOTHING",
        );
        let query = sqlx::query(AssertSqlSafe(statement))
            .bind(work.key.as_str())
            .bind(storable(&work.origin))
            .bind(storable(&work.group_repository))
            .bind(storable(&work.group_author))
            .bind(work.created.timestamp_millis())
            .bind(work.payload.as_deref().map(storable));
        Ok(query.execute(place).await?.rows_affected())
    }

    /// Claims the next of the candidates for `lease`, counted from now; `None` where none is ready.
    ///
    /// Ready is what waits and whose delay is over, and what is claimed by a holder whose lease ran
    /// out. Candidates that were never offered are passed over.
    ///
    /// Of the ready ones authors take turns: first comes the author with the fewest works in
    /// progress, then the one who was served least recently. Of an author's works the repositories
    /// take turns in the same way, and of one repository's the oldest comes first. So with one
    /// worker a work waits for one work of each other author at most, and that once for each
    /// repository of its own author that waits too, and for what is older in its own repository.
    ///
    /// The cost grows with the works of the authors and repositories that have candidates, ended
    /// ones included; who was served when is looked up in an index. Of 20,000 works it is 50 ms.
    ///
    /// When the answer is lost, the work may be claimed all the same: until its lease has run out.
    pub async fn claim(
        &self,
        holder: &str,
        lease: Duration,
        candidates: &[WorkKey],
    ) -> Result<Option<Claim>, QueueError> {
        if candidates.is_empty() {
            return Ok(None);
        }
        let keys: Vec<&str> = candidates.iter().map(WorkKey::as_str).collect();
        let statement = self.statement(
            "WITH busy AS MATERIALIZED (
                 SELECT group_author, group_repository FROM agent_runner_work
                 WHERE state = 'claimed' AND lease_until > {now}
             ), groups AS (
                 SELECT DISTINCT w.group_author, w.group_repository FROM agent_runner_work w
                 WHERE {ready}
             ), turns AS MATERIALIZED (
                 SELECT g.group_author, g.group_repository,
                     (SELECT count(*) FROM busy b WHERE b.group_author = g.group_author)
                         AS author_busy,
                     (SELECT max(s.served) FROM agent_runner_work s
                      WHERE s.group_author = g.group_author) AS author_served,
                     (SELECT count(*) FROM busy b WHERE b.group_author = g.group_author
                          AND b.group_repository = g.group_repository) AS group_busy,
                     (SELECT max(s.served) FROM agent_runner_work s
                      WHERE s.group_author = g.group_author
                          AND s.group_repository = g.group_repository) AS group_served
                 FROM groups g
             ), next AS MATERIALIZED (
                 SELECT w.work_key FROM agent_runner_work w
                 JOIN turns t ON t.group_author = w.group_author
                     AND t.group_repository = w.group_repository
                 WHERE {ready}
                 ORDER BY t.author_busy, t.author_served, t.group_busy, t.group_served,
                     w.position, w.work_key
                 LIMIT 1 {for update of w}
             )
             UPDATE agent_runner_work SET state = 'claimed', holder = $1, lease_until = {now} + $2,
                 fence = fence + 1, attempts = attempts + 1, changed_at = {now},
                 served = (SELECT max(served) FROM agent_runner_work) + 1
             WHERE work_key IN (SELECT work_key FROM next) RETURNING {columns}",
        );
        let query = sqlx::query(AssertSqlSafe(statement))
            .bind(storable(holder))
            .bind(milliseconds(lease))
            .bind(serde_json::json!(keys).to_string());
        let row = self.rows("claim work", query).await?.pop();
        let work = row.map(|row| self.work(&row)).transpose()?;
        Ok(work.map(Claim::from))
    }

    /// Lets the lease end `lease` from now. `false`: another has claimed the work, or it is ended.
    pub async fn renew(&self, claim: &Claim, lease: Duration) -> Result<bool, QueueError> {
        let set = "lease_until = {now} + $3";
        self.change_held("renew a lease", claim, set, |query| {
            query.bind(milliseconds(lease))
        })
        .await
    }

    /// Keeps small notes of the holder with the work, instead of earlier ones. `false` as with
    /// [`renew`](Self::renew).
    pub async fn note(&self, claim: &Claim, notes: &str) -> Result<bool, QueueError> {
        self.change_held("keep notes", claim, "notes = $3", |query| {
            query.bind(storable(notes))
        })
        .await
    }

    /// Keeps which revision of its text the work is done from. `false` as with
    /// [`renew`](Self::renew).
    pub async fn set_revision(&self, claim: &Claim, revision: &str) -> Result<bool, QueueError> {
        self.change_held("keep a revision", claim, "revision = $3", |query| {
            query.bind(storable(revision))
        })
        .await
    }

    /// Ends the claim. `false`: another has claimed the work meanwhile, or a person changed its
    /// state; nothing is changed then.
    ///
    /// Safe to repeat when the answer was lost. A holder whose lease ran out and whom nobody
    /// replaced may still finish.
    pub async fn finish(&self, claim: &Claim, end: &End) -> Result<bool, QueueError> {
        let (state, after, reason, uncounted) = match end {
            End::Done => (State::Done, Duration::ZERO, None, false),
            End::Rested { reason } => (State::Rested, Duration::ZERO, Some(reason), false),
            End::Cancelled { reason } => (State::Cancelled, Duration::ZERO, Some(reason), false),
            End::Retry {
                after,
                reason,
                counts,
            } => (State::Retrying, *after, Some(reason), !counts),
        };
        let statement = self.statement(
            "UPDATE agent_runner_work SET state = $3, not_before = {now} + $4, reason = $5,
                 attempts = CASE WHEN state = 'claimed' THEN attempts - $6 ELSE attempts END,
                 holder = NULL, lease_until = NULL, changed_at = {now}
             WHERE work_key = $1 AND fence = $2 AND state IN ('claimed', $3)",
        );
        let query = sqlx::query(AssertSqlSafe(statement))
            .bind(claim.key.as_str())
            .bind(claim.fence)
            .bind(state.as_str())
            .bind(milliseconds(after))
            .bind(reason.map(|reason| storable(reason)))
            .bind(i64::from(uncounted));
        self.changes("finish work", query).await
    }

    /// Lets the work be done afresh: it waits, and its attempts begin at none. `false`: it is
    /// unknown, or somebody works on it.
    pub async fn reset(&self, key: &WorkKey) -> Result<bool, QueueError> {
        let set = "state = 'waiting', reason = $2, attempts = 0, not_before = 0,
             revision = NULL, notes = NULL";
        self.change_unheld("reset work", key, set, "", None).await
    }

    /// Ends work that nobody holds and that was not ended. `false`: there is none such.
    pub async fn cancel(&self, key: &WorkKey, reason: &str) -> Result<bool, QueueError> {
        let set = "state = 'cancelled', reason = $2";
        let which = "AND state IN ('waiting', 'retrying', 'claimed')";
        self.change_unheld("cancel work", key, set, which, Some(reason))
            .await
    }

    /// Ends work that nobody holds and that turned out to be done. `false`: there is none such.
    pub async fn settle(&self, key: &WorkKey) -> Result<bool, QueueError> {
        let set = "state = 'done', reason = $2";
        let which = "AND state IN ('waiting', 'retrying', 'claimed')";
        self.change_unheld("settle work", key, set, which, None)
            .await
    }

    /// Forgets the works that ended so long ago; tells how many those are. One that is offered again
    /// is new then: its source has to know that it was done. Works with a payload stay, the queue is
    /// all that knows them.
    pub async fn prune(&self, age: Duration) -> Result<u64, QueueError> {
        let statement = self.statement(
            "DELETE FROM agent_runner_work
             WHERE state IN ('done', 'rested', 'cancelled') AND payload IS NULL
                 AND changed_at <= {now} - $1",
        );
        let query = sqlx::query(AssertSqlSafe(statement)).bind(milliseconds(age));
        let result = self.limited("forget ended works", query.execute(&self.pool));
        Ok(result.await?.rows_affected())
    }

    /// What is known of a work; `None` when it was never offered.
    pub async fn state(&self, key: &WorkKey) -> Result<Option<Work>, QueueError> {
        let statement =
            self.statement("SELECT {columns} FROM agent_runner_work WHERE work_key = $1");
        let query = sqlx::query(AssertSqlSafe(statement)).bind(key.as_str());
        let row = self.rows("look up work", query).await?.pop();
        row.map(|row| self.work(&row)).transpose()
    }

    /// What is known of these works, in no order. Those that were never offered are left out.
    pub async fn states(&self, keys: &[WorkKey]) -> Result<Vec<Work>, QueueError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<&str> = keys.iter().map(WorkKey::as_str).collect();
        let statement = self
            .statement("SELECT {columns} FROM agent_runner_work WHERE work_key IN ({texts of $1})");
        let query = sqlx::query(AssertSqlSafe(statement)).bind(serde_json::json!(keys).to_string());
        let rows = self.rows("look up work", query).await?;
        rows.iter().map(|row| self.work(row)).collect()
    }

    /// The works that are not ended and that nobody holds, the oldest first.
    pub async fn idle(&self) -> Result<Vec<Work>, QueueError> {
        let statement = self.statement(
            "SELECT {columns} FROM agent_runner_work
             WHERE state IN ('waiting', 'retrying') OR state = 'claimed' AND lease_until <= {now}
             ORDER BY position, work_key",
        );
        let rows = self.rows("list work", sqlx::query(AssertSqlSafe(statement)));
        rows.await?.iter().map(|row| self.work(row)).collect()
    }

    /// The works that failed and rest or are tried again, the latest change first.
    pub async fn failed(&self) -> Result<Vec<Work>, QueueError> {
        let statement = self.statement(
            "SELECT {columns} FROM agent_runner_work WHERE state IN ('rested', 'retrying')
             ORDER BY changed_at DESC, work_key",
        );
        let rows = self.rows("list work", sqlx::query(AssertSqlSafe(statement)));
        rows.await?.iter().map(|row| self.work(row)).collect()
    }

    /// All works, the oldest first.
    pub async fn list(&self) -> Result<Vec<Work>, QueueError> {
        let statement =
            self.statement("SELECT {columns} FROM agent_runner_work ORDER BY position, work_key");
        let rows = self.rows("list work", sqlx::query(AssertSqlSafe(statement)));
        rows.await?.iter().map(|row| self.work(row)).collect()
    }

    /// A change by the holder; its value is the third parameter.
    async fn change_held<'a>(
        &self,
        action: &'static str,
        claim: &'a Claim,
        set: &str,
        bind: impl FnOnce(Query<'a, Any, AnyArguments>) -> Query<'a, Any, AnyArguments>,
    ) -> Result<bool, QueueError> {
        let statement = self.statement(&format!(
            "UPDATE agent_runner_work SET {set}, changed_at = {{now}} WHERE {HELD}"
        ));
        let query = sqlx::query(AssertSqlSafe(statement))
            .bind(claim.key.as_str())
            .bind(claim.fence);
        self.changes(action, bind(query)).await
    }

    /// A change by others than a holder. Its fence refuses the holder whose lease ran out.
    async fn change_unheld(
        &self,
        action: &'static str,
        key: &WorkKey,
        set: &str,
        which: &str,
        reason: Option<&str>,
    ) -> Result<bool, QueueError> {
        let statement = self.statement(&format!(
            "UPDATE agent_runner_work SET {set}, holder = NULL, lease_until = NULL,
                 fence = fence + 1, changed_at = {{now}}
             WHERE work_key = $1 AND NOT (state = 'claimed' AND lease_until > {{now}}) {which}"
        ));
        let query = sqlx::query(AssertSqlSafe(statement))
            .bind(key.as_str())
            .bind(reason.map(storable));
        self.changes(action, query).await
    }

    /// Fills in what differs between databases.
    fn statement(&self, text: &str) -> String {
        text.replace("{columns}", work::COLUMNS)
            .replace("{ready}", READY)
            .replace("{texts of $1}", &self.dialect.texts("$1"))
            .replace("{texts of $3}", &self.dialect.texts("$3"))
            .replace("{for update of w}", self.dialect.for_update())
            .replace("{now}", self.dialect.now())
    }

    async fn rows(
        &self,
        action: &'static str,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Vec<AnyRow>, QueueError> {
        self.limited(action, query.fetch_all(&self.pool)).await
    }

    /// Whether the statement changed a work.
    async fn changes(
        &self,
        action: &'static str,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<bool, QueueError> {
        let result = self.limited(action, query.execute(&self.pool)).await?;
        Ok(result.rows_affected() > 0)
    }

    fn work(&self, row: &AnyRow) -> Result<Work, QueueError> {
        work::from_row(row).map_err(|source| self.error("read work", source))
    }

    /// Waits for an answer, but not for ever.
    async fn limited<T>(
        &self,
        action: &'static str,
        answer: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, QueueError> {
        match tokio::time::timeout(ANSWER_LIMIT, answer).await {
            Ok(result) => result.map_err(|source| self.error(action, source)),
            Err(_) => Err(QueueError::NoAnswer {
                action,
                place: self.place.clone(),
                limit: ANSWER_LIMIT,
            }),
        }
    }

    fn error(&self, action: &'static str, source: sqlx::Error) -> QueueError {
        QueueError::new(action, &self.place, source)
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.min(LONGEST).as_millis()).expect("a century has fewer milliseconds")
}

/// PostgreSQL's texts hold no NUL; what strangers write may.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
