//! The result of a piece of work: made in a clone by a run, judged, and sealed with its trace.

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tracing::Span;

use crate::git::Mirror;
use crate::model::outcome::Outcome;
use crate::model::record::Record;
use crate::model::text::{self, chain};
use crate::model::tree_policy::{TreeEvidence, TreePolicy};
use crate::model::work_name::WorkName;
use crate::redact::Redactor;
use crate::sources::source::{SourceError, TaskSource};
use crate::store::reader;
use crate::worker::notes::Kept;
use crate::worker::settings::WorkerSettings;
use crate::worker::story::{Failure, Story};
use crate::worker::workspace::Workspace;
use crate::worker::{record, run, trace};

/// The most of an agent's last message that is passed on to whoever asked; it is asked for that
/// much.
const MAX_MESSAGE_CHARS: usize = 1500;

/// A result that may be published.
pub(super) struct Finished {
    tip: String,
    pub(super) record: Record,
    started: DateTime<Utc>,
}

impl<S: TaskSource> Story<'_, S> {
    /// The result of an attempt before, where it was noted, is still here and stands on what the
    /// base still has. It is judged again: what may be published may be less now.
    pub(super) async fn kept(&self) -> Result<Option<Finished>, Failure> {
        let settings = self.settings;
        let kept = self.lease.notes().kept;
        let Some(kept) = kept.filter(|kept| kept.revision == self.work.revision) else {
            return Ok(None);
        };
        let Ok(run) = kept.run.parse() else {
            return Ok(None);
        };
        let record = reader::read_run(&settings.layout, run).record;
        let (now, tip) = (self.base.commit.clone(), kept.tip.clone());
        let below = kept.base.clone();
        let stands =
            self.ask(move |mirror| Ok(mirror.has(&tip)? && mirror.continues(&below, &now)?));
        if !stands.await? || judge_run(settings, &record).is_err() {
            return Ok(None);
        }
        let (below, tip) = (kept.base, kept.tip.clone());
        let (policy, redactor) = (settings.policy.clone(), Arc::clone(&settings.redactor));
        let judged = self.ask(move |mirror| judge_tree(mirror, &below, &tip, &policy, &redactor));
        let judged = judged.await;
        if let Err(Failure::Source(SourceError::Refused(reason))) = &judged {
            self.not_published(&record, Outcome::PolicyBlocked, reason);
            // When somebody asks again, it is done anew.
            self.note_kept(None).await;
        }
        judged?;
        tracing::info!("The work was done before and is only to be pushed");
        let started = record.start_time.unwrap_or_else(|| settings.clock.now());
        Ok(Some(Finished {
            tip: kept.tip,
            record,
            started,
        }))
    }

    /// Notes the result that the next attempt need not make again, or that there is none.
    pub(super) async fn note_kept(&self, kept: Option<Kept>) {
        if let Err(error) = self.lease.note(|notes| notes.kept = kept).await {
            tracing::warn!("{}", chain(&error));
        }
    }

    /// Does the work in a clone of its own, and takes the result if it may be published.
    pub(super) async fn run_in_clone(&self, name: &WorkName) -> Result<Finished, Failure> {
        let (settings, lease) = (self.settings, self.lease);
        if lease.claim.attempt > settings.attempts {
            let attempts = text::count(settings.attempts as usize, "attempt");
            let reason = format!("{attempts} began, and the worker died in the last");
            return Err(Failure::refused(reason));
        }
        lease.hold(self.source.tell_started(&self.work)).await??;
        let started = settings.clock.now();
        let workspace = Workspace::create(&settings.workspace, &self.work.request)
            .map_err(|error| Failure::later(format!("no workspace can be made: {error}")))?;
        let branch = name.branch();
        tracing::info!("Creating new branch {branch}");
        let (tree, commit) = (workspace.tree(), self.base.commit.clone());
        let cloned = self.ask(move |mirror| Ok(mirror.clone_to(&tree, &commit, &branch)?));
        lease.unless_stopped(cloned).await?;

        let take = async || self.take(workspace.tree(), name.branch()).await;
        let run::Ended { record, taken } = run::carry_out(self, &workspace, &take).await?;
        Span::current().record("run", record.path());
        let result = judge_run(settings, &record);
        let tip = match taken {
            // Its own record says so.
            Some(Err(failure)) if result.is_err() => return Err(failure),
            taken => {
                result?;
                let taken = match taken {
                    Some(taken) => taken,
                    None => lease.unless_stopped(take()).await,
                };
                taken.inspect_err(|failure| {
                    if let Failure::Source(SourceError::Refused(reason)) = failure {
                        self.not_published(&record, Outcome::PolicyBlocked, reason);
                    }
                })?
            }
        };
        // Whatever comes now, it may be pushed later.
        let kept = Kept {
            tip: tip.clone(),
            run: record.path(),
            revision: self.work.revision.clone(),
            base: self.base.commit.clone(),
        };
        self.note_kept(Some(kept)).await;
        Ok(Finished {
            tip,
            record,
            started,
        })
    }

    /// Takes the result into the mirror, and judges it.
    async fn take(&self, tree: PathBuf, branch: String) -> Result<String, Failure> {
        let (key, base) = (self.work.request.key.clone(), self.base.commit.clone());
        let settings = self.settings;
        let (policy, redactor) = (settings.policy.clone(), Arc::clone(&settings.redactor));
        self.ask(move |mirror| {
            let taken = mirror.take(&tree, &base, &branch, &key);
            // What has no name stays for two weeks, and is pushed long before.
            if let Err(error) = mirror.forget(&key) {
                tracing::warn!("{}", chain(&error));
            }
            let tip = taken?;
            judge_tree(mirror, &base, &tip, &policy, &redactor)?;
            Ok(tip)
        })
        .await
    }

    /// Puts the trace under this name on a result; gives the commit that is to be pushed.
    pub(super) async fn seal(&self, name: &WorkName, result: &Finished) -> Result<String, Failure> {
        let settings = self.settings;
        let (agent, now) = (&settings.agent_name, settings.clock.now());
        let trace = trace::file(&self.work.request, name, agent, result.started, now);
        let trace = settings.redactor.text(&trace);
        let message = self.commit_message(&self.work.revision);
        let identity = settings.identity.clone();
        let (path, tip) = (name.trace_path(), result.tip.clone());
        let made = self.ask(move |mirror| {
            Ok(mirror.commit_file(&tip, &path, trace.as_bytes(), &message, &identity)?)
        });
        let commit = made.await?;
        tracing::info!("Created trace file: {}", name.trace_path());
        Ok(commit)
    }

    /// Records that the result of a run is not published.
    pub(super) fn not_published(&self, run: &Record, outcome: Outcome, reason: &str) {
        if let Err(error) = record::unpublished(self.settings, run, outcome, reason) {
            tracing::error!("the failure is not recorded: {}", chain(&error));
        }
    }
}

/// Whether a run did what it should.
fn judge_run(settings: &WorkerSettings, record: &Record) -> Result<(), Failure> {
    let said = record
        .error
        .clone()
        .unwrap_or_else(|| record.outcome.to_string());
    let mut reason = format!("{} ({}, run {})", said, record.outcome, record.path());
    if let (Outcome::CommitMissing, Some(last_message)) = (record.outcome, &record.last_message) {
        let last_message = text::shorten(last_message.trim(), MAX_MESSAGE_CHARS);
        reason = format!("{reason}\n\nThe agent's last message:\n\n{last_message}");
    }
    match record.outcome {
        // Where no change is allowed, the trace is published alone.
        Outcome::Success | Outcome::NoChange => Ok(()),
        Outcome::RateLimited => Err(Failure::Source(SourceError::Later {
            reason,
            retry_at: record.resets_at,
        })),
        Outcome::Skipped => Err(Failure::later(reason)),
        Outcome::PolicyBlocked => Err(Failure::refused(reason)),
        // Not by the worker: by a person, or by the agent itself each time.
        Outcome::StartFailed | Outcome::Interrupted { .. } => Err(Failure::Failed(reason)),
        _ if settings.run.is_deterministic() => Err(Failure::refused(reason)),
        _ => Err(Failure::Failed(reason)),
    }
}

/// Judges what `base..tip` changed.
fn judge_tree(
    mirror: &Mirror,
    base: &str,
    tip: &str,
    policy: &TreePolicy,
    redactor: &Redactor,
) -> Result<(), Failure> {
    let changes = mirror.changes(base, tip)?;
    let (paths, links) = mirror.tree(tip)?;
    let mut secrets = Vec::new();
    mirror.added_content(base, tip, &changes, |place, content| {
        if redactor.finds(content) {
            secrets.push(place.to_owned());
        }
    })?;
    let violations = policy.violations(TreeEvidence {
        changes: &changes,
        paths: &paths,
        links: &links,
        secrets: &secrets,
    });
    if violations.is_empty() {
        return Ok(());
    }
    let shown = violations.iter().take(10).map(ToString::to_string);
    let list = shown.collect::<Vec<_>>().join("; ");
    Err(Failure::refused(format!("not published: {list}")))
}
