//! The whole table of the verdict as a snapshot, and the laws that every row obeys.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::change::{Commit, RepositoryChange, Standing};
use crate::model::outcome::Outcome;
use crate::model::process_end::{ProcessEnd, ProcessExit, StopReason};
use crate::model::report::{AgentError, AgentReport, Ending, ErrorClass};
use crate::model::reset::ResetHint;
use crate::model::verdict::{Check, Policy, Seen, Verdict, conclude, wants_checks};

fn ends() -> Vec<(&'static str, ProcessEnd)> {
    let end = |exit, stopped| ProcessEnd {
        exit,
        stopped,
        elapsed: Duration::from_secs(65),
        ..ProcessEnd::not_started("")
    };
    let stopped = |reason| end(ProcessExit::Signal(15), Some(reason));
    vec![
        ("exit 0", end(ProcessExit::Code(0), None)),
        ("exit 1", end(ProcessExit::Code(1), None)),
        ("exit 173", end(ProcessExit::Code(173), None)),
        ("signal 9", end(ProcessExit::Signal(9), None)),
        (
            "unknown end",
            end(ProcessExit::Unknown("lost".into()), None),
        ),
        ("not started", ProcessEnd::not_started("`x` does not exist")),
        ("time limit", stopped(StopReason::Timeout)),
        (
            "time limit, exit 0 in the grace period",
            end(ProcessExit::Code(0), Some(StopReason::Timeout)),
        ),
        ("stalled", stopped(StopReason::Stalled)),
        ("only waiting", stopped(StopReason::Limited)),
        ("shutdown by 15", stopped(StopReason::Shutdown(15))),
    ]
}

fn reports() -> Vec<(&'static str, AgentReport)> {
    let report = |ending, message: Option<&str>| AgentReport {
        ending,
        final_message: message.map(str::to_owned),
        ..AgentReport::default()
    };
    let error = |class| AgentReport {
        error: Some(AgentError::new(class, "it failed")),
        ..report(Ending::Completed, Some("done"))
    };
    vec![
        (
            "completed",
            report(Ending::Completed, Some("done: rate limit exceeded")),
        ),
        ("plain text", report(Ending::Untold, Some("done"))),
        ("completed, silent", report(Ending::Completed, None)),
        (
            "no closing event",
            report(Ending::Missing, Some("working on it")),
        ),
        ("nothing", report(Ending::Missing, None)),
        ("rate limit error", error(ErrorClass::RateLimit)),
        ("auth error", error(ErrorClass::Auth)),
        (
            "waiting for a limit",
            AgentReport {
                waiting_for_limit: true,
                ..report(Ending::Missing, None)
            },
        ),
        (
            "completed, denied a tool",
            AgentReport {
                permission_denials: vec!["Bash".into()],
                ..report(Ending::Completed, Some("could not"))
            },
        ),
    ]
}

fn commit(standing: Standing, lines: u64) -> Commit {
    Commit {
        id: "0123456789abcdef".into(),
        subject: "work".into(),
        author: "somebody".into(),
        date: None,
        insertions: lines,
        deletions: 0,
        binary: false,
        files: if lines == 0 {
            Vec::new()
        } else {
            vec!["a.txt".into()]
        },
        outside_paths: Vec::new(),
        standing,
    }
}

type Change = Result<Option<RepositoryChange>, &'static str>;

fn seen(change: &Change) -> Seen<'_> {
    change
        .as_ref()
        .map(Option::as_ref)
        .map_err(|reason| *reason)
}

fn changes() -> Vec<(&'static str, Change)> {
    let with = |commits: Vec<Commit>| {
        Ok(Some(RepositoryChange {
            commits,
            ..RepositoryChange::default()
        }))
    };
    let foreign = || {
        commit(
            Standing::Foreign {
                why: "somebody else".into(),
                is_fetched: false,
            },
            9,
        )
    };
    let outside = Commit {
        outside_paths: vec!["secret".into()],
        ..commit(Standing::Own, 3)
    };
    vec![
        ("no repository", Ok(None)),
        ("unreadable", Err("git did not end")),
        ("untouched", with(vec![])),
        ("own commit", with(vec![commit(Standing::Own, 3)])),
        (
            "own binary commit",
            with(vec![Commit {
                binary: true,
                ..commit(Standing::Own, 0)
            }]),
        ),
        ("own empty commit", with(vec![commit(Standing::Own, 0)])),
        (
            "own and outside the paths",
            with(vec![commit(Standing::Own, 3), outside]),
        ),
        (
            "amended an old one",
            with(vec![commit(
                Standing::Amended {
                    of: "fedcba98".into(),
                },
                3,
            )]),
        ),
        (
            "on another branch",
            with(vec![commit(
                Standing::Elsewhere {
                    branch: Some("side".into()),
                },
                3,
            )]),
        ),
        ("somebody else's commit", with(vec![foreign()])),
        (
            "own and somebody else's",
            with(vec![foreign(), commit(Standing::Own, 3)]),
        ),
        (
            "left uncommitted",
            Ok(Some(RepositoryChange {
                left_uncommitted: vec!["a.txt".into()],
                ..Default::default()
            })),
        ),
        (
            "own commit, and uncommitted changes are gone",
            Ok(Some(RepositoryChange {
                commits: vec![commit(Standing::Own, 3)],
                discarded: vec!["a.txt".into()],
                ..Default::default()
            })),
        ),
    ]
}

fn policies() -> Vec<(&'static str, Policy)> {
    let policy = |requires_commit, allow_no_change| Policy {
        requires_commit,
        allow_no_change,
        min_changes: 1,
    };
    vec![
        ("any", policy(false, false)),
        ("commit required", policy(true, false)),
        ("commit or no change", policy(true, true)),
    ]
}

fn outcome(verdict: &Verdict) -> String {
    let class = verdict
        .error_class
        .map(|class| format!(" ({class})"))
        .unwrap_or_default();
    format!("{}{class}", verdict.outcome)
}

#[test]
fn only_a_limit_has_an_end() {
    let (_, end) = ends().remove(0);
    for (name, mut report) in reports() {
        report.limit_resets = Some(ResetHint::After(Duration::from_secs(7200)));
        let policy = Policy {
            requires_commit: false,
            allow_no_change: false,
            min_changes: 1,
        };
        let verdict = conclude(&end, &report, Ok(None), &[], policy);
        let is_limit = verdict.outcome == Outcome::RateLimited;
        assert_eq!(verdict.resets.is_some(), is_limit, "{name}");
    }
}

#[test]
fn the_table_of_outcomes() {
    let mut table = Vec::new();
    for (end_name, end) in ends() {
        for (report_name, report) in reports() {
            let mut rows = Vec::new();
            for (change_name, change) in changes() {
                for (policy_name, policy) in policies() {
                    let verdict = conclude(&end, &report, seen(&change), &[], policy);
                    rows.push((format!("{change_name}, {policy_name}"), outcome(&verdict)));
                }
            }
            let outcomes: BTreeSet<_> = rows.iter().map(|(_, outcome)| outcome.clone()).collect();
            let title = format!("{end_name} | {report_name}");
            match outcomes.first() {
                Some(only) if outcomes.len() == 1 => table.push(format!("{title} -> {only}")),
                _ => {
                    table.push(format!("{title} ->"));
                    table.extend(
                        rows.iter()
                            .map(|(row, outcome)| format!("    {row} -> {outcome}")),
                    );
                }
            }
        }
    }
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn a_good_outcome_needs_every_witness() {
    for (_, end) in ends() {
        for (_, report) in reports() {
            for (_, change) in changes() {
                for (_, policy) in policies() {
                    let verdict = conclude(&end, &report, seen(&change), &[], policy);
                    if verdict.outcome.is_good() {
                        assert_eq!(end.exit, ProcessExit::Code(0));
                        assert_eq!(end.stopped, None);
                        assert_eq!(report.error, None);
                        assert_ne!(report.ending, Ending::Missing);
                        assert!(report.final_message.is_some());
                        assert_eq!(verdict.error, None);
                    } else {
                        assert!(verdict.error.is_some(), "{verdict:?}");
                    }
                    assert!(verdict.outcome.is_final() && !verdict.evidence.is_empty());
                }
            }
        }
    }
}

#[test]
fn failed_checks_fail_a_run_that_is_good_otherwise() {
    let (_, end) = ends().swap_remove(0);
    let (_, report) = reports().swap_remove(0);
    let (_, change) = changes().swap_remove(3);
    let (_, policy) = policies().swap_remove(1);
    assert!(wants_checks(&end, &report, seen(&change), policy));
    let check = |failure: Option<&str>| Check {
        command: "make test".into(),
        failure: failure.map(str::to_owned),
    };
    let verdict = |checks: &[Check]| conclude(&end, &report, seen(&change), checks, policy);
    assert_eq!(verdict(&[check(None)]).outcome, Outcome::Success);
    let failed = verdict(&[check(None), check(Some("exit 2\n1 test failed"))]);
    assert_eq!(failed.outcome, Outcome::VerifyFailed);
    insta::assert_snapshot!(failed.error.unwrap(), @"the task's check `make test` failed: exit 2");
    let (_, untouched) = changes().swap_remove(2);
    assert!(!wants_checks(&end, &report, seen(&untouched), policy));
}

#[test]
fn a_fact_names_twenty_paths_and_counts_the_others() {
    let (_, end) = ends().swap_remove(0);
    let (_, report) = reports().swap_remove(0);
    let (_, policy) = policies().swap_remove(1);
    let paths = || (0..50).map(|number| format!("f{number:02}")).collect();
    let verdict = |change| conclude(&end, &report, Ok(Some(&change)), &[], policy);
    let left = verdict(RepositoryChange {
        left_uncommitted: paths(),
        ..Default::default()
    });
    let error = left.error.unwrap();
    assert!(error.ends_with("50 paths left uncommitted"), "{error}");
    let fact = &left.evidence.last().unwrap().fact;
    assert!(fact.ends_with("f18, f19 and 30 more"), "{fact}");
    let discarded = verdict(RepositoryChange {
        discarded: paths(),
        ..Default::default()
    });
    let error = discarded.error.unwrap();
    assert!(error.ends_with("f18, f19 and 30 more"), "{error}");
}

#[test]
fn a_lock_of_the_index_that_stays_is_named_where_a_commit_is_missing() {
    let (_, end) = ends().swap_remove(0);
    let (_, report) = reports().swap_remove(0);
    let (_, policy) = policies().swap_remove(1);
    let (_, change) = changes().swap_remove(3);
    for (commits, locked_before, says) in [
        (
            vec![],
            true,
            "the index was locked before the run and still is",
        ),
        (
            change.unwrap().unwrap().commits,
            false,
            "the index is locked since the run",
        ),
    ] {
        let is_missing = commits.is_empty();
        let change = RepositoryChange {
            commits,
            locked_before,
            locked_after: true,
            ..Default::default()
        };
        let verdict = conclude(&end, &report, Ok(Some(&change)), &[], policy);
        assert!(verdict.evidence.last().unwrap().fact.contains(says));
        assert_eq!(
            verdict.error.is_some_and(|error| error.contains(says)),
            is_missing
        );
    }
}
