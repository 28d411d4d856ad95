//! Opening the queue: many at once, private, and never over something else.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use agent_runner::queue::{Queue, QueueError, QueueUrl};

use super::{MINUTE, Place, block_on, claim_any, open, runtime, work};
use crate::support::postgres::Postgres;

#[test]
fn twenty_that_open_a_new_queue_at_once_all_succeed() {
    // With SQLite, what goes wrong here does so one time in ten.
    let again = (0..4).map(|_| Place::sqlite());
    for place in Place::all().into_iter().chain(again) {
        std::thread::scope(|scope| {
            for number in 0..20 {
                let url = place.url();
                scope.spawn(move || {
                    block_on(async {
                        let queue = open(&url).await;
                        assert_eq!(queue.offer(&[work(number)]).await.unwrap(), 1);
                        queue.close().await;
                    });
                });
            }
        });
        block_on(async {
            let works = place.open().await.list().await.unwrap();
            assert_eq!(works.len(), 20, "{place:?}");
        });
    }
}

#[test]
fn a_queue_of_a_later_version_is_refused_and_says_what_to_do() {
    for place in Place::all() {
        block_on(async {
            place.open().await.close().await;
            place
                .execute("INSERT INTO agent_runner_schema (version) VALUES (99)")
                .await;
            let error = refused(&place.url()).await;
            assert!(
                matches!(error, QueueError::Newer { found: 99, .. }),
                "{error}"
            );
            assert!(!error.is_transient());
            assert!(error.to_string().contains("update agent-runner"), "{error}");
        });
    }
}

#[test]
fn a_queue_of_the_first_version_is_brought_up_to_date_with_its_works() {
    for place in Place::all() {
        block_on(async {
            let queue = place.open().await;
            queue.offer(&[work(1), work(2)]).await.unwrap();
            assert!(claim_any(&queue, "me", MINUTE).await.is_some());
            queue.close().await;
            for statement in [
                "DROP INDEX agent_runner_work_served",
                "DROP INDEX agent_runner_work_author",
                "DROP INDEX agent_runner_work_group",
                "ALTER TABLE agent_runner_work DROP COLUMN served",
                "DROP TABLE agent_runner_parked",
                "DROP TABLE agent_runner_spent",
                "DELETE FROM agent_runner_schema WHERE version > 1",
            ] {
                place.execute(statement).await;
            }
            let queue = place.open().await;
            assert!(claim_any(&queue, "me", MINUTE).await.is_some(), "{place:?}");
            assert!(claim_any(&queue, "me", MINUTE).await.is_none(), "{place:?}");
        });
    }
}

#[test]
fn the_file_and_its_directory_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/deeper ?#%20/queue.db");
    block_on(async {
        let queue = Queue::open(&QueueUrl::sqlite(&path)).await.unwrap();
        queue.offer(&[work(1)]).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
            assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
        }
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        queue.close().await;
        // One that was open to others is closed to them.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        Queue::open(&QueueUrl::sqlite(&path))
            .await
            .unwrap()
            .close()
            .await;
        assert_eq!(mode(&path), 0o600);
    });
}

#[test]
fn what_is_no_queue_is_left_alone_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let url = |name: &str| format!("sqlite:{}", at(name).display());
    block_on(async {
        let text = "these are the notes of a person and no database at all\n".repeat(50);
        fs::write(at("notes"), &text).unwrap();
        let error = refused(&url("notes")).await;
        assert!(matches!(error, QueueError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(at("notes").to_str().unwrap()));
        assert_eq!(fs::read_to_string(at("notes")).unwrap(), text);

        open(&url("torn")).await.close().await;
        let whole = fs::read(at("torn")).unwrap();
        fs::write(at("torn"), &whole[..whole.len() - 4096]).unwrap();
        let error = refused(&url("torn")).await;
        assert!(matches!(error, QueueError::Damaged { .. }), "{error}");

        fs::write(at("foreign"), "").unwrap();
        let mut foreign = super::connect(&url("foreign")).await;
        sqlx::Executor::execute(&mut foreign, "CREATE TABLE theirs (x)")
            .await
            .unwrap();
        let error = refused(&url("foreign")).await;
        assert!(matches!(error, QueueError::Foreign { .. }), "{error}");

        symlink(at("torn"), at("link")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        for name in ["link", "directory"] {
            let error = refused(&url(name)).await;
            assert!(
                matches!(error, QueueError::Create { .. }),
                "{name}: {error}"
            );
        }
    });
}

#[test]
fn a_server_that_is_away_is_a_transient_error_and_the_queue_goes_on_after_it() {
    let absent = "postgres:///x?host=/nonexistent&user=x&password=s3cret";
    let error = block_on(refused(absent));
    assert!(error.is_transient(), "{error:?}");
    assert!(!format!("{error} {error:?}").contains("s3cret"));

    let Some(mut server) = Postgres::start() else {
        return;
    };
    let runtime = runtime();
    let queue = runtime.block_on(open(&server.url()));
    runtime.block_on(queue.offer(&[work(1)])).unwrap();
    server.restart();
    runtime.block_on(async {
        // The lost connection may be noticed by the first statement or before it.
        if let Err(error) = queue.list().await {
            assert!(error.is_transient(), "{error:?}");
        }
        assert!(claim_any(&queue, "me", MINUTE).await.is_some());
    });
}

async fn refused(url: &str) -> QueueError {
    let url: QueueUrl = url.parse().unwrap();
    Queue::open(&url).await.expect_err("it must be refused")
}
