//! What `triage` says of dispatched work that failed.

use std::time::Duration;

use agent_runner::model::dispatch::WorkKey;
use agent_runner::queue::{End, NewWork, Queue, QueueUrl};
use chrono::Utc;
use serde_json::Value;

use super::place::{DISPATCH, Place, adds, body};
use crate::queue::block_on;
use crate::support::postgres::Postgres;
use crate::support::{Done, TestEnv};

fn works(done: &Done) -> Vec<Value> {
    let report: Value = serde_json::from_str(&done.stdout).expect(&done.stderr);
    report["works"].as_array().unwrap().clone()
}

#[test]
fn an_issue_at_rest_is_something_to_do_until_its_label_is_taken_off() {
    let place = Place::new();
    let diff = "```diff\n--- a/none.txt\n+++ b/none.txt\n@@ -1 +1 @@\n-x\n+y\n```";
    let issue = place.issue("t", &body("task-1", diff));
    place.dispatches(1);
    let done = place.env.agent_runner(&["triage", "--json"]);
    let [work] = &works(&done)[..] else {
        panic!("{}", done.stdout);
    };
    assert_eq!(work["origin"], format!("{DISPATCH}#{issue}"));
    assert!(work["why"].as_str().unwrap().contains("block 1"), "{work}");
    assert!(work["next"].as_str().unwrap().contains("label `failed`"));
    assert_eq!((&work["retry_at"], done.code), (&Value::Null, Some(1)));
    let page = place.env.agent_runner(&["triage"]).stdout;
    assert!(
        page.contains("resting") && page.contains("dispatched work at rest"),
        "{page}"
    );

    place.host.unlabel(DISPATCH, issue, "failed", "alice");
    let mended = body("task-1", &adds("a.txt"));
    place
        .host
        .change_issue(DISPATCH, issue, Some(&mended), false);
    place.dispatches(0);
    let done = place.env.agent_runner(&["triage", "--json"]);
    assert_eq!(works(&done), [Value::Null; 0], "{}", done.stdout);
}

/// A queue with a work at rest, one that is tried again, one that waits and one that is done.
async fn fill(url: &str) {
    let queue = Queue::open(&url.parse::<QueueUrl>().unwrap())
        .await
        .unwrap();
    let ends = [
        Some(End::Rested {
            reason: "no such file".to_owned(),
        }),
        Some(End::Retry {
            after: Duration::from_hours(1),
            reason: "a limit".to_owned(),
            counts: false,
        }),
        Some(End::Done),
        None,
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let key = WorkKey::new("test", &[&number.to_string()]);
        let new = NewWork {
            key: key.clone(),
            origin: format!("octo/dispatch#{number}"),
            group_repository: "octo/target".to_owned(),
            group_author: "alice".to_owned(),
            created: Utc::now(),
            payload: None,
        };
        queue.offer(&[new]).await.unwrap();
        if let Some(end) = end {
            let claim = queue
                .claim("me", Duration::from_mins(1), &[key])
                .await
                .unwrap();
            assert!(queue.finish(&claim.unwrap(), &end).await.unwrap());
        }
    }
    queue.close().await;
}

#[test]
fn work_at_rest_is_told_from_either_database_and_no_queue_is_made_by_looking() {
    let postgres = Postgres::start();
    let env = || TestEnv::new().variable("PATH", "/usr/bin:/bin");
    let fresh = env();
    assert_eq!(fresh.agent_runner(&["triage"]).code, Some(0));
    assert!(!fresh.logs().exists());
    let file = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}/queue", file.path().display());
    let absent = env().variable("AGENT_RUNNER_QUEUE_URL", &sqlite);
    assert_eq!(absent.agent_runner(&["triage"]).code, Some(0));
    assert!(!file.path().join("queue").exists());
    for url in [Some(sqlite), postgres.as_ref().map(Postgres::url)]
        .into_iter()
        .flatten()
    {
        block_on(fill(&url));
        let env = env().variable("AGENT_RUNNER_QUEUE_URL", &url);
        let done = env.agent_runner(&["triage", "--json"]);
        let told: Vec<_> = works(&done)
            .iter()
            .map(|work| {
                (
                    work["origin"].clone(),
                    work["why"].clone(),
                    work["retry_at"].is_null(),
                )
            })
            .collect();
        let expected = [
            ("octo/dispatch#0".into(), "no such file".into(), true),
            ("octo/dispatch#1".into(), "a limit".into(), false),
        ];
        assert_eq!(told, expected, "{}", done.stdout);
        assert_eq!(done.code, Some(1));
    }
    let unreachable = env().variable(
        "AGENT_RUNNER_QUEUE_URL",
        "postgres://u:s3cret@127.0.0.1:1/x",
    );
    let done = unreachable.agent_runner(&["triage"]);
    assert_eq!(done.code, Some(1));
    assert!(
        done.stdout
            .replace("\n  ", " ")
            .contains("a queue cannot be asked"),
        "{}",
        done.stdout
    );
    assert!(!done.stdout.contains("s3cret"));

    // The queue of local tasks answers all the same.
    let own = unreachable.logs().join(".state/queue.sqlite");
    std::fs::create_dir_all(own.parent().unwrap()).unwrap();
    block_on(fill(&format!("sqlite:{}", own.display())));
    let done = unreachable.agent_runner(&["triage", "--json"]);
    assert_eq!(works(&done).len(), 2, "{}", done.stdout);
    assert!(done.stdout.contains("postgres://127.0.0.1:1/x"));
    let mut mistyped = unreachable.command(&["triage", "--json"]);
    mistyped.env("AGENT_RUNNER_QUEUE_URL", "postgres://127.0.0.1:port/x");
    let done = Done::from(mistyped.output().unwrap());
    assert_eq!(works(&done).len(), 2, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("address"), "{}", done.stdout);
}
