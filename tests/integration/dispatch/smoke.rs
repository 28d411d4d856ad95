//! The smoke test: every criterion, met by a real worker and missed by one that is played.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use agent_runner::github::Permission;
use agent_runner::model::dispatch::WorkKey;
use serde_json::{Value, json};

use super::place::{DISPATCH, Place, TARGET};
use crate::schemas;
use crate::support::github::{Action, Fault, git};
use crate::support::{Done, TestEnv, eventually};

const LONG: Duration = Duration::from_secs(90);

fn answer(done: &Done) -> Value {
    schemas::check("smoke", &done.stdout);
    serde_json::from_str(&done.stdout).unwrap()
}

/// How a criterion stands, and what is said of it.
#[track_caller]
fn criterion(answer: &Value, name: &str) -> (String, String) {
    let mut criteria = answer["criteria"].as_array().unwrap().iter();
    let found = criteria
        .find(|criterion| criterion["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {answer:#}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(text("fix").is_empty(), text("state") != "failed", "{found}");
    (text("state"), text("what"))
}

#[test]
fn a_smoke_test_goes_the_whole_way_and_leaves_nothing_behind() {
    let place = Place::new();
    let done = place.env.agent_runner(&["smoke", "--repo", TARGET]);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let signs = done.stdout.lines().filter(|line| line.starts_with("✓ "));
    assert_eq!(signs.count(), 13, "{}", done.stdout);
    assert!(done.stdout.ends_with("\nall 13 criteria are met\n"));

    let issue = place.host.issue(DISPATCH, 1);
    assert_eq!(issue["state"], "closed");
    place.assert_done(1);
    let pulls = place.host.pulls(TARGET);
    assert_eq!(pulls.len(), 1);
    assert_eq!(pulls[0]["state"], "closed");
    assert_eq!(place.branches(), Vec::<String>::new());
    assert_eq!(place.workspaces(), Vec::<String>::new());
    // The run has a record as every other has.
    assert_eq!(
        place.env.record("dispatch_issue", "patch")["outcome"],
        "success"
    );

    // Once more, beside the first: nothing of it is in the way, and all of it stays.
    let kept = ["smoke", "--repo", TARGET, "--keep", "--json"];
    let done = place.env.agent_runner(&kept);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    let answer = answer(&done);
    assert_eq!(
        (&answer["ok"], &answer["worker"]),
        (&json!(true), &json!("own"))
    );
    let pulls = place.host.pulls(TARGET);
    assert_eq!(answer["pull_request"], pulls[1]["html_url"]);
    assert_eq!(pulls[1]["state"], "open");
    assert_eq!(place.branches().len(), 1);
}

#[test]
fn a_smoke_test_can_be_done_by_a_worker_that_runs_already() {
    let place = Place::new();
    let mut worker = place.env.spawn(&["dispatch"]);
    let told = ["smoke", "--repo", TARGET, "--wait-for-worker", "--json"];
    let done = place.other_env("").agent_runner(&told);
    end(&mut worker);
    assert_eq!(done.code, Some(0), "{}{}", done.stdout, done.stderr);
    assert_eq!(answer(&done)["worker"], "other");
    assert_eq!(place.host.issue(DISPATCH, 1)["state"], "closed");
}

fn end(worker: &mut Child) {
    let kill = std::process::Command::new("kill")
        .arg(worker.id().to_string())
        .status();
    assert!(kill.unwrap().success());
    worker.wait().unwrap();
}

#[test]
fn a_smoke_test_says_which_permission_is_missing() {
    let labels = Place::new();
    labels.host.permit(DISPATCH, "runner-bot", Permission::Read);
    let done = labels
        .env
        .agent_runner(&["smoke", "--repo", TARGET, "--json"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let said = answer(&done);
    let (state, what) = criterion(&said, "issue");
    assert_eq!(state, "failed");
    assert!(what.contains("without the label `copilot-agent`"), "{what}");
    let (state, what) = criterion(&said, "noticed");
    assert_eq!(state, "failed");
    assert!(what.contains("does not carry the label"), "{what}");
    assert_eq!(criterion(&said, "pull_request").0, "not_reached");

    let push = Place::new();
    push.host.permit(TARGET, "runner-bot", Permission::Read);
    let done = push
        .env
        .agent_runner(&["smoke", "--repo", TARGET, "--json"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let said = answer(&done);
    let (state, what) = criterion(&said, "branch");
    assert_eq!(state, "failed");
    assert!(what.contains("403"), "{what}");
    assert_eq!(criterion(&said, "noticed").0, "met");
    assert_eq!(criterion(&said, "comments").0, "failed");
    // The person at the terminal reads the same.
    let done = push.env.agent_runner(&["smoke", "--repo", TARGET]);
    assert!(
        done.stdout
            .contains("\n✗ branch        octo/target has no branch"),
        "{}",
        done.stdout
    );
    assert!(
        done.stdout
            .contains("fix: the token needs Contents: read and write on octo/target")
    );

    let pulls = Place::new();
    let forbidden = Fault::on("POST", "/repos/*/*/pulls").before(Action::Status(403));
    pulls.host.fault(forbidden);
    let done = pulls
        .env
        .agent_runner(&["smoke", "--repo", TARGET, "--json"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    let said = answer(&done);
    assert_eq!(criterion(&said, "branch").0, "met");
    let (state, what) = criterion(&said, "pull_request");
    assert_eq!(state, "failed");
    assert!(what.contains("403"), "{what}");
    // What there was is gone all the same.
    assert_eq!(criterion(&said, "cleaned_up").0, "met");
    assert_eq!(pulls.branches(), Vec::<String>::new());
}

#[test]
fn a_smoke_test_with_a_wrong_configuration_exits_2_and_opens_nothing() {
    let place = Place::new();
    let bare = TestEnv::new();
    for (env, arguments, words) in [
        (
            &bare,
            &["smoke"][..],
            "no dispatch repository is configured",
        ),
        (
            &place.env,
            &["smoke", "--repo", "no name"],
            "--repo is wrong",
        ),
        (&place.env, &["smoke", "--repo", "octo/none"], "(404)"),
    ] {
        let done = env.agent_runner(arguments);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(words), "{}", done.stderr);
    }
    let done = bare
        .variable("DISPATCH_REPO", DISPATCH)
        .agent_runner(&["smoke"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("GITHUB_TOKEN"), "{}", done.stderr);
    place.host.revoke(&place.token);
    let done = place.env.agent_runner(&["smoke"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("(401)"), "{}", done.stderr);
    assert!(place.host.writes().is_empty());
}

/// What a played worker does wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flaw {
    None,
    NoWorker,
    Refuses,
    NoTrace,
    OtherTrace,
    NoChange,
    OtherChange,
    NoPull,
    TwoPulls,
    /// Somebody else names the task in a pull request of a branch that is theirs.
    NamedByAnother,
    OtherBase,
    NoMetadata,
    OtherTask,
    NoReference,
    StartsTwice,
    NoAddress,
    NoLabel,
    ComesBack,
    LeavesAClone,
    CannotBeClosed,
}

const FLAWS: [(Flaw, &str, &str); 20] = [
    (Flaw::None, "", ""),
    (Flaw::NoWorker, "noticed", "no worker has begun"),
    (Flaw::Refuses, "branch", "has no branch `agent-task-"),
    (Flaw::NoTrace, "trace_file", "there is no `agent-tasks/"),
    (
        Flaw::OtherTrace,
        "trace_file",
        "does not hold the task's metadata",
    ),
    (Flaw::NoChange, "change", "there is no `smoke-test-"),
    (
        Flaw::OtherChange,
        "change",
        "is another one than was asked for",
    ),
    (
        Flaw::NoPull,
        "pull_request",
        "has no pull request for the task",
    ),
    (Flaw::NoLabel, "label", "lacks the label `processed`"),
    (Flaw::TwoPulls, "pull_request", "there are 2, and not one"),
    (
        Flaw::NamedByAnother,
        "pull_request",
        "there are 2, and not one",
    ),
    (
        Flaw::OtherBase,
        "pull_request",
        "goes to `release`, and not to `main`",
    ),
    (Flaw::NoMetadata, "metadata", "names no task"),
    (Flaw::OtherTask, "metadata", "names the task `another`"),
    (
        Flaw::NoReference,
        "reference",
        "does not say `Fixes octo/dispatch#1`",
    ),
    (Flaw::StartsTwice, "comments", "there are 2 🤖 and 1 ✅"),
    (
        Flaw::NoAddress,
        "comments",
        "does not name the pull request",
    ),
    (Flaw::ComesBack, "second_look", "has changed the comments"),
    (Flaw::LeavesAClone, "workspace", "left: "),
    (Flaw::CannotBeClosed, "cleaned_up", "left: the issue "),
];

#[test]
fn a_smoke_test_says_of_every_criterion_that_is_missed_which_one() {
    // Most of the time is waiting.
    for some in FLAWS.chunks(7) {
        thread::scope(|scope| {
            for (flaw, name, words) in some {
                scope.spawn(move || misses(*flaw, name, words));
            }
        });
    }
}

fn misses(flaw: Flaw, name: &str, words: &str) {
    let place = Place::new();
    // Where an end is waited for in vain.
    let timeout = match flaw {
        Flaw::NoWorker => "2s",
        Flaw::NoLabel | Flaw::NoPull => "20s",
        _ => "5m",
    };
    if flaw == Flaw::CannotBeClosed {
        let patch = Fault::on("PATCH", "/repos/*/*/issues/*");
        place.host.fault(patch.before(Action::Status(403)));
    }
    let told = [
        "smoke",
        "--repo",
        TARGET,
        "--json",
        "--wait-for-worker",
        "--timeout",
        timeout,
    ];
    let smoke = place.env.spawn(&told);
    let is_open = eventually(LONG, || {
        let writes = place.host.writes();
        writes
            .iter()
            .any(|write| write.path.ends_with("/issues") && write.status.is_some())
    });
    assert!(is_open, "{flaw:?}: {:?}", smoke.wait_with_output());
    if flaw != Flaw::NoWorker {
        play(&place, flaw);
    }
    let done = Done::from(smoke.wait_with_output().unwrap());
    let said = answer(&done);
    let told = format!("{flaw:?}: {said:#}\n{}", done.stderr);
    let criteria = said["criteria"].as_array().unwrap();
    let failed = criteria
        .iter()
        .filter(|criterion| criterion["state"] == "failed");
    let failed: Vec<&str> = failed
        .filter_map(|criterion| criterion["name"].as_str())
        .collect();
    if flaw == Flaw::None {
        assert_eq!((done.code, failed.len()), (Some(0), 0), "{told}");
        assert!(
            criteria.iter().all(|criterion| criterion["state"] == "met"),
            "{told}"
        );
        return;
    }
    assert_eq!(done.code, Some(1), "{told}");
    // A worker that refuses says so in its comment, and one without a pull request or an end in none.
    let also = match flaw {
        Flaw::Refuses | Flaw::NoPull => vec![name, "comments"],
        _ => vec![name],
    };
    assert_eq!(failed, also, "{told}");
    let (_, what) = criterion(&said, name);
    assert!(what.contains(words), "{told}");
    if flaw == Flaw::NamedByAnother {
        assert_eq!(place.branches(), ["release"], "what is not its own stays");
        assert_eq!(place.host.pulls(TARGET)[1]["state"], "open");
    }
}

/// Does by hand what a worker does, but for one thing.
fn play(place: &Place, flaw: Flaw) {
    let host = &place.host;
    let issue = host.issue(DISPATCH, 1);
    let body = issue["body"].as_str().unwrap();
    let after = |mark: &str| {
        let rest = body.split_once(mark).unwrap().1;
        rest.split(['`', '"', '\n']).next().unwrap().to_owned()
    };
    let (id, file, line) = (
        after("\"task_id\": \""),
        after("add the file `"),
        after("\n+Written"),
    );
    let branch = format!("agent-task-{}", &id[..8]);
    let metadata = format!("<!-- agent_task_metadata {{\"task_id\": \"{id}\"}} -->");
    let say = |text: &str| host.comment(DISPATCH, 1, "runner-bot", text);
    say("🤖 w started processing this task at noon");
    if flaw == Flaw::StartsTwice {
        say("🤖 w started processing this task at one");
    }
    if flaw == Flaw::Refuses {
        say("❌ w failed to process this task: because");
        host.label(DISPATCH, 1, "failed", "runner-bot");
        return;
    }
    let bare = host.bare(TARGET);
    let commit = |file: &str, text: &str| git::commit(&bare, &branch, file, text, "work");
    commit("other.txt", "other\n");
    match flaw {
        Flaw::NoChange => {}
        Flaw::OtherChange => drop(commit(&file, "another\n")),
        _ => drop(commit(&file, &format!("Written{line}\n"))),
    }
    let trace = format!("agent-tasks/{}.md", &id[..8]);
    match flaw {
        Flaw::NoTrace => {}
        Flaw::OtherTrace => drop(commit(&trace, "nothing\n")),
        _ => drop(commit(
            &trace,
            &format!("# Agent Task Trace\n\n{metadata}\n"),
        )),
    }
    let text = match flaw {
        Flaw::NoMetadata => "Fixes octo/dispatch#1".to_owned(),
        Flaw::OtherTask => format!(
            "{}\n\nFixes octo/dispatch#1",
            metadata.replace(&id, "another")
        ),
        Flaw::NoReference => format!("{metadata}\n\nFixes #1"),
        _ => format!("{metadata}\n\nFixes octo/dispatch#1"),
    };
    let open = |branch: &str, base: &str| {
        let number = host.open_pull(TARGET, "runner-bot", "Agent task: x", branch, base);
        host.change_issue(TARGET, number, Some(&text), false);
        format!("{}/{TARGET}/pull/{number}", host.url())
    };
    let address = match flaw {
        Flaw::NoPull => String::new(),
        Flaw::OtherBase => {
            git::run(&bare, &["branch", "release", "main"]).unwrap();
            open(&branch, "release")
        }
        _ => open(&branch, "main"),
    };
    if flaw == Flaw::TwoPulls {
        let second = format!("{branch}-00000000");
        git::run(&bare, &["branch", &second, &branch]).unwrap();
        open(&second, "main");
    }
    if flaw == Flaw::NamedByAnother {
        git::run(&bare, &["branch", "release", &branch]).unwrap();
        open("release", "main");
    }
    if flaw == Flaw::LeavesAClone {
        let key = WorkKey::new("github-issue", &[&issue["id"].to_string()]);
        let work = place.env.logs().join(".state/workspaces/work");
        std::fs::create_dir_all(work.join(format!("{}-1", key.short()))).unwrap();
    }
    let address = if flaw == Flaw::NoAddress {
        ""
    } else {
        &address
    };
    if flaw != Flaw::NoPull {
        say(&format!("✅ w completed processing this task. {address}"));
    }
    if !matches!(flaw, Flaw::NoLabel | Flaw::NoPull) {
        host.label(DISPATCH, 1, "processed", "runner-bot");
    }
    if flaw == Flaw::ComesBack {
        // After the first look at everything, and long before the second.
        let began = Instant::now();
        let is_seen = eventually(LONG, || {
            let mut history = host.history().into_iter();
            history.any(|seen| seen.path.contains("/contents/smoke-test"))
        });
        assert!(is_seen, "{:?}", began.elapsed());
        say("🤖 w started processing this task at two");
    }
}
