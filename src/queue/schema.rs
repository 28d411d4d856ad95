//! Opening the queue: the private file, the connections, and the versions of the tables.

use std::fmt::Write as _;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use crate::queue::dialect::Dialect;
use crate::queue::error;
use crate::queue::url::Target;
use crate::queue::{ANSWER_LIMIT, Queue, QueueError, QueueUrl};
use crate::regular;

/// What makes each version of the tables out of the one before. Published ones never change.
const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE TABLE agent_runner_work (
         work_key TEXT PRIMARY KEY,
         origin TEXT NOT NULL,
         group_repository TEXT NOT NULL,
         group_author TEXT NOT NULL,
         position BIGINT NOT NULL,
         payload TEXT,
         state TEXT NOT NULL,
         fence BIGINT NOT NULL,
         attempts BIGINT NOT NULL,
         holder TEXT,
         lease_until BIGINT,
         not_before BIGINT NOT NULL,
         reason TEXT,
         revision TEXT,
         notes TEXT,
         offered_at BIGINT NOT NULL,
         changed_at BIGINT NOT NULL
     )",
        "CREATE INDEX agent_runner_work_state ON agent_runner_work (state)",
    ],
    // The number of a work's latest claim among all claims of the queue; 0 before the first. The
    // indexes answer who was served when, see `Queue::claim`.
    &[
        "ALTER TABLE agent_runner_work ADD COLUMN served BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX agent_runner_work_served ON agent_runner_work (served)",
        "CREATE INDEX agent_runner_work_author ON agent_runner_work (group_author, served)",
        "CREATE INDEX agent_runner_work_group
         ON agent_runner_work (group_author, group_repository, served)",
    ],
    &[
        "CREATE TABLE agent_runner_parked (
             agent TEXT PRIMARY KEY,
             since BIGINT NOT NULL,
             until BIGINT NOT NULL,
             run TEXT NOT NULL,
             reason TEXT NOT NULL,
             unparked_at BIGINT NOT NULL
         )",
        "CREATE TABLE agent_runner_spent (
             place TEXT NOT NULL,
             day TEXT NOT NULL,
             subject TEXT NOT NULL,
             runs BIGINT NOT NULL,
             tokens BIGINT NOT NULL,
             usd DOUBLE PRECISION NOT NULL,
             unknown_tokens BIGINT NOT NULL,
             unknown_usd BIGINT NOT NULL,
             told_at BIGINT NOT NULL,
             PRIMARY KEY (place, day, subject)
         )",
    ],
];

#[expect(clippy::cast_possible_wrap, reason = "they are few")]
const KNOWN: i64 = MIGRATIONS.len() as i64;

/// How long one writer of SQLite waits for another. A write takes milliseconds; the rest is a
/// machine that is short of breath.
const SQLITE_SETTINGS: &str = "PRAGMA busy_timeout = 10000";
/// A worker that was stopped in the middle of a transaction must not hold up the others for ever.
const POSTGRES_SETTINGS: &str = "SET statement_timeout = '20s';
    SET idle_in_transaction_session_timeout = '10s'";

/// A number for PostgreSQL's advisory locks, ours by chance alone: `agentrun` in ASCII.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7017575155838055790)";

pub(super) async fn open(url: &QueueUrl) -> Result<Queue, QueueError> {
    install_default_drivers();
    let place = url.to_string();
    let failed = |source| QueueError::new("open the connection", &place, source);
    let (dialect, address) = match &url.0 {
        Target::Sqlite(path) => {
            let file = create_file(path).map_err(|source| QueueError::Create {
                path: path.clone(),
                source,
            })?;
            (Dialect::Sqlite, address(&file))
        }
        Target::Postgres(address) => (Dialect::Postgres, address.clone()),
    };
    let options: AnyConnectOptions = address.parse().map_err(failed)?;
    let settings = match dialect {
        Dialect::Sqlite => SQLITE_SETTINGS,
        Dialect::Postgres => POSTGRES_SETTINGS,
    };
    // Statements are few and short; more connections would only wait for each other.
    let pool = AnyPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(ANSWER_LIMIT)
        .after_connect(move |connection, _| {
            Box::pin(async move { connection.execute(settings).await.map(drop) })
        })
        .connect_lazy_with(options.disable_statement_logging());
    let queue = Queue {
        pool,
        dialect,
        place,
    };
    let mut connection = queue
        .limited("open a connection", queue.pool.acquire())
        .await?;
    prepare(&queue, &mut connection).await?;
    drop(connection);
    Ok(queue)
}

/// Makes the file for its owner alone before SQLite would make it for everybody; what SQLite puts
/// beside it gets the same permissions. Gives its path without links and dots.
fn create_file(path: &Path) -> io::Result<PathBuf> {
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false);
    let file = regular::open(options.mode(0o600), path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    path.canonicalize()
}

/// The file as the database library wants it: an URL.
fn address(file: &Path) -> String {
    let mut address = String::from("sqlite://");
    for byte in file.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            address.push(char::from(*byte));
        } else {
            write!(address, "%{byte:02X}").expect("a string takes everything");
        }
    }
    address
}

/// Brings the tables to the known version.
async fn prepare(queue: &Queue, connection: &mut AnyConnection) -> Result<(), QueueError> {
    let read = version(queue.dialect, connection);
    let found = queue.limited("read the version", read).await?;
    if found == Some(KNOWN) {
        return Ok(());
    }
    if let Some(found) = found.filter(|found| *found > KNOWN) {
        return Err(newer(queue, found));
    }
    if queue.dialect == Dialect::Sqlite && found.is_none() {
        let is_ours = queue.limited("read the tables", is_ours(connection));
        if !is_ours.await? {
            return Err(QueueError::Foreign {
                place: queue.place.clone(),
            });
        }
        queue.limited("set up the log", use_log(connection)).await?;
    }
    let found = queue
        .limited("create the tables", migrate(queue.dialect, connection))
        .await?;
    match found {
        Some(found) if found > KNOWN => Err(newer(queue, found)),
        _ => Ok(()),
    }
}

fn newer(queue: &Queue, found: i64) -> QueueError {
    QueueError::Newer {
        place: queue.place.clone(),
        found,
        known: KNOWN,
    }
}

/// The version of the tables; `None` where there are none.
async fn version(
    dialect: Dialect,
    connection: &mut AnyConnection,
) -> Result<Option<i64>, sqlx::Error> {
    let tables = match dialect {
        Dialect::Sqlite => "SELECT count(*) FROM sqlite_master WHERE name = 'agent_runner_schema'",
        Dialect::Postgres => {
            "SELECT count(*) FROM pg_class WHERE oid = to_regclass('agent_runner_schema')"
        }
    };
    let tables: i64 = connection.fetch_one(tables).await?.try_get(0)?;
    if tables == 0 {
        return Ok(None);
    }
    let row = connection.fetch_one("SELECT max(version) FROM agent_runner_schema");
    row.await?.try_get(0)
}

/// Whether no other program has put anything into a SQLite database. Another process may just have
/// made our tables.
async fn is_ours(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let foreign = "SELECT count(*) FROM sqlite_master WHERE tbl_name NOT LIKE 'agent_runner_%'";
    let foreign: i64 = connection.fetch_one(foreign).await?.try_get(0)?;
    Ok(foreign == 0)
}

/// Lets readers and the writer of a SQLite database work side by side, for good.
///
/// While another does the same, SQLite answers "locked" at once, whatever its time limit says.
async fn use_log(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    loop {
        match connection.execute("PRAGMA journal_mode = WAL").await {
            Err(error) if error::is_transient(&error) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            result => return result.map(drop),
        }
    }
}

/// Applies what is missing, one process at a time. Gives the version that was there.
async fn migrate(
    dialect: Dialect,
    connection: &mut AnyConnection,
) -> Result<Option<i64>, sqlx::Error> {
    let mut transaction = connection.begin_with(dialect.begin()).await?;
    if dialect == Dialect::Postgres {
        transaction.execute(LOCK).await?;
    }
    let found = version(dialect, &mut transaction).await?;
    if found.is_none() {
        let table = "CREATE TABLE agent_runner_schema (version BIGINT PRIMARY KEY)";
        transaction.execute(table).await?;
    }
    for (number, statements) in (1_i64..).zip(MIGRATIONS) {
        if number > found.unwrap_or(0) {
            for statement in *statements {
                transaction.execute(*statement).await?;
            }
            sqlx::query("INSERT INTO agent_runner_schema (version) VALUES ($1)")
                .bind(number)
                .execute(&mut *transaction)
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(found)
}
