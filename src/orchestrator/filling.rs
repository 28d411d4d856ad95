//! What a record is told of its run.

use chrono::{DateTime, Local, Utc};
use sha2::{Digest as _, Sha256};

use crate::git::Snapshot;
use crate::model::change::{Commit, RepositoryChange};
use crate::model::ids::RunPath;
use crate::model::record::{CommitRecord, Evidence, EvidenceSource, Record};
use crate::model::{text, verdict};
use crate::orchestrator::Story;
use crate::planner::{Prepared, RunPlan};
use crate::process::identity;
use crate::redact::Redactor;

pub(super) fn opening(plan: &RunPlan, run: &RunPath, start: DateTime<Utc>) -> Record {
    let mut record = Record::begun(&run.task, &run.agent, run.run_id.clone(), start);
    record.requires_commit = Some(plan.policy().requires_commit);
    record.debug_prompt = plan.debug_prompt.map(str::to_owned);
    record.previous_run.clone_from(&plan.previous_run);
    record.source = plan.request.as_ref().map(|request| request.origin.clone());
    record.model.clone_from(&plan.model);
    record.timeout = Some(plan.limits.timeout);
    record.stall_timeout = plan.limits.stall_timeout;
    record.binary = Some(plan.binary.clone());
    record.host = Some(identity::host_name());
    record.pid = Some(std::process::id());
    record.boot_id = identity::boot_id();
    record.runner_version = Some(env!("CARGO_PKG_VERSION").to_owned());
    record
}

pub(super) fn describe_start(record: &mut Record, prepared: &Prepared, before: Option<&Snapshot>) {
    record.binary = Some(prepared.invocation.program.clone());
    record.agent_version.clone_from(&prepared.version);
    record.prompt_sha256 = Some(text::hexadecimal(&Sha256::digest(&prepared.prompt)));
    record.containment = Some(prepared.containment.as_str().to_owned());
    record.head_before = before.and_then(Snapshot::head).map(str::to_owned);
    // Of an isolated run it is known already: it is not the one that is checked out for it.
    if record.branch.is_none() {
        record.branch = before.and_then(Snapshot::branch).map(str::to_owned);
    }
}

/// Takes secrets out of the texts of a record that did not come through the agent's output.
pub(super) fn mask(record: &mut Record, redactor: &Redactor) {
    let facts = record
        .evidence
        .iter_mut()
        .map(|evidence| &mut evidence.fact);
    let commits = record.commits.iter_mut();
    let commits = commits.flat_map(|commit| [&mut commit.subject, &mut commit.author]);
    for text in facts
        .chain(commits)
        .chain(&mut record.files_changed)
        .chain(&mut record.branch)
        .chain(&mut record.error)
        .chain(&mut record.last_message)
    {
        *text = redactor.text(text);
    }
}

/// Completes the record from the whole story.
pub(super) fn close(record: &mut Record, plan: &RunPlan, story: &Story, now: DateTime<Utc>) {
    let Story {
        end,
        report,
        change,
        checks: _,
        verdict,
        aftermath: _,
        dropped_bytes,
        notes,
        refusal: _,
    } = story;
    record.end_time = Some(now);
    record.outcome = verdict.outcome;
    record.exit_code = verdict.outcome.exit_code().map(i32::from);
    record.error.clone_from(&verdict.error);
    record.error_class = verdict.error_class;
    record.resets_at = verdict
        .resets
        .as_ref()
        .and_then(|hint| hint.resolve(now, &Local));
    record.evidence = [&plan.notes[..], &verdict.evidence, notes].concat();

    record.agent_exit_code = end.exit_code();
    record.agent_signal = end.signal();
    if let Some(containment) = end.containment {
        // `auto` may have found that what it chose does not work here.
        record.containment = Some(containment.as_str().to_owned());
    }
    record.survivors_killed = Some(end.survivors_killed);
    record.leaked_output = Some(end.leaked_output);
    record.max_rss_bytes = end.max_rss_bytes;
    record.cpu = end.cpu;
    record.output_bytes = Some(end.output_bytes);
    record.output_dropped_bytes = Some(*dropped_bytes);

    record.last_message.clone_from(&report.final_message);
    record.model = report.model.clone().or_else(|| record.model.take());
    record.agent_version = report
        .version
        .clone()
        .or_else(|| record.agent_version.take());
    record.session_id.clone_from(&report.session_id);
    record.usage = report.usage;
    record.cost_usd = report.cost_usd;
    record.turns = report.turns;

    if let Ok(Some(change)) = change {
        close_repository(record, change, plan);
    }
}

fn close_repository(record: &mut Record, change: &RepositoryChange, plan: &RunPlan) {
    record.head_after.clone_from(&change.head_after);
    record.dirty_after = Some(change.dirty_after);
    let policy = plan.policy();
    let counted: Vec<&Commit> = change
        .own_commits()
        .filter(|commit| !policy.requires_commit || verdict::counts(commit, policy))
        .collect();
    record.commits = (counted.iter().take(MAX_LISTED))
        .map(|commit| commit_record(commit))
        .collect();
    let mut files: Vec<String> = counted
        .iter()
        .flat_map(|commit| commit.files.clone())
        .collect();
    files.sort();
    files.dedup();
    for (noun, number) in [("commit", counted.len()), ("changed file", files.len())] {
        if number > MAX_LISTED {
            let fact = format!(
                "{}, of which {MAX_LISTED} are listed",
                text::count(number, noun)
            );
            record
                .evidence
                .push(Evidence::new(EvidenceSource::Git, fact));
        }
    }
    record.files_changed_dropped = files.len().saturating_sub(MAX_LISTED);
    files.truncate(MAX_LISTED);
    record.files_changed = files;
    record.insertions = counted.iter().map(|commit| commit.insertions).sum();
    record.deletions = counted.iter().map(|commit| commit.deletions).sum();
}

/// The most commits, and the most changed files, that a record names; git knows them all.
const MAX_LISTED: usize = 10_000;

/// The longest subject and author that are kept of a commit; git knows the whole.
const MAX_COMMIT_TEXT_BYTES: usize = 1000;

fn commit_record(commit: &Commit) -> CommitRecord {
    CommitRecord {
        commit: commit.id.clone(),
        subject: text::cut_middle(&commit.subject, MAX_COMMIT_TEXT_BYTES),
        author: text::cut_middle(&commit.author, MAX_COMMIT_TEXT_BYTES),
        date: commit
            .date
            .map(|date| date.to_rfc3339())
            .unwrap_or_default(),
    }
}
