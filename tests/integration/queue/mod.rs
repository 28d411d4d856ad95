//! The queue: one holder at a time, whatever dies, sleeps or comes twice. On SQLite and PostgreSQL.

mod model;
mod opening;
mod workers;

use std::time::Duration;

use agent_runner::model::dispatch::WorkKey;
use agent_runner::queue::{Claim, NewWork, Queue, QueueUrl};
use chrono::DateTime;
use sqlx::{AnyConnection, Connection as _, Executor as _};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::support::postgres::Postgres;

pub const MINUTE: Duration = Duration::from_secs(60);

/// A database of a test's own.
#[derive(Debug)]
pub enum Place {
    Sqlite(TempDir),
    Postgres(Postgres),
}

impl Place {
    pub fn sqlite() -> Self {
        let builder = tempfile::Builder::new()
            .prefix("agent-runner-queue-")
            .tempdir();
        Self::Sqlite(builder.unwrap())
    }

    /// One of each kind that this machine has.
    pub fn all() -> Vec<Self> {
        let mut places = vec![Self::sqlite()];
        places.extend(Postgres::start().map(Self::Postgres));
        places
    }

    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => format!("sqlite:{}/queue.db", directory.path().display()),
            Self::Postgres(server) => server.url(),
        }
    }

    pub async fn open(&self) -> Queue {
        open(&self.url()).await
    }

    /// A connection to the same database, for what the queue itself never does.
    pub async fn connect(&self) -> AnyConnection {
        connect(&self.url()).await
    }

    /// Lets time pass in the queue: all that ends, ends earlier.
    pub async fn pass(&self, time: Duration) {
        let milliseconds = i64::try_from(time.as_millis()).unwrap();
        sqlx::query(
            "UPDATE agent_runner_work
             SET lease_until = lease_until - $1, not_before = not_before - $1",
        )
        .bind(milliseconds)
        .execute(&mut self.connect().await)
        .await
        .unwrap();
    }

    pub async fn execute(&self, statement: &'static str) {
        self.connect().await.execute(statement).await.unwrap();
    }
}

pub async fn open(url: &str) -> Queue {
    let url: QueueUrl = url.parse().unwrap();
    Queue::open(&url).await.unwrap()
}

pub async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.unwrap()
}

pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

pub fn key(number: usize) -> WorkKey {
    WorkKey::new("test", &[&number.to_string()])
}

/// Work of two repositories and three authors, some of it equally old.
pub fn work(number: usize) -> NewWork {
    NewWork {
        key: key(number),
        origin: format!("owner/dispatch#{number}"),
        group_repository: format!("owner/repository{}", number % 2),
        group_author: format!("author{}", number % 3),
        created: DateTime::UNIX_EPOCH + Duration::from_secs(number as u64 * 7 % 4),
        payload: number
            .is_multiple_of(2)
            .then(|| format!("{{\"number\":{number}}}")),
    }
}

pub async fn claim_any(queue: &Queue, holder: &str, lease: Duration) -> Option<Claim> {
    let keys: Vec<WorkKey> = queue
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|work| work.key)
        .collect();
    queue.claim(holder, lease, &keys).await.unwrap()
}
