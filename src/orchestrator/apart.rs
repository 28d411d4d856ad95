//! The story of a run in a work tree of its own, and the way of its commits home.

use std::sync::Arc;

use crate::admission::Refusal;
use crate::git::{Git, Homecoming};
use crate::isolation::{self, Ending, Room};
use crate::model::outcome::Outcome;
use crate::model::process_end::StopReason;
use crate::model::record::EvidenceSource;
use crate::model::task::Overlap;
use crate::model::text;
use crate::model::verdict;
use crate::occupancy::{self, Hold};
use crate::orchestrator::begun::Begun;
use crate::orchestrator::{
    Services, Story, carry_out_checks, look_again, not_started, refused, sweep, tell_or_refuse,
};
use crate::planner::{self, RunPlan};
use crate::process::budget::{self, Budget};

/// The story of a run in a work tree of its own. The repository is held only at its end.
pub(super) async fn tell_apart(
    plan: &RunPlan,
    services: &mut Services<'_>,
    begun: &mut Begun,
) -> Story {
    let environment = planner::inheritable(&plan.inherited, &[], &[]);
    let git = Git::new(&environment, &plan.repository);
    let make = {
        let (git, layout) = (git.clone(), services.layout.clone());
        let run = begun.folder.run().clone();
        let (base, first) = (plan.base.clone(), services.first_programs.clone());
        let is_checked = !plan.task.verify.is_empty();
        move |budget: &Budget| {
            let mut git = git.within(budget);
            if let Some(first) = &first {
                let guarded = git.with_programs_since(first);
                git = guarded.map_err(|error| text::chain(&error))?;
            }
            Room::make(&git, &layout, &run, base.as_deref(), is_checked)
        }
    };
    let (room, signal) = budget::within(isolation::MAKING, services.shutdown, make).await;
    let stopped =
        signal.map(|signal| refused(Refusal::stopped(signal, "while it made a work tree")));
    let room = match room {
        Ok(room) => room,
        Err(reason) => {
            let Some(mut story) = stopped else {
                return not_started(plan, reason);
            };
            story.note(EvidenceSource::Git, reason);
            return story;
        }
    };
    begun.record.branch = Some(room.home().to_owned());
    let mut story = match stopped {
        None => tell_or_refuse(&room.plan(plan), services, begun).await,
        Some(story) => story,
    };
    if story.verdict.outcome.is_good() {
        bring_home(plan, services, begun, &room, &mut story).await;
    }
    if story.change.is_err() && room.is_there() && services.shutdown.heard().is_none() {
        // Tidying up would wait for what looking has waited for.
        story.notes.push(room.left());
        return story;
    }
    let was_started = begun.record.was_started();
    // In a work tree that the run removed there is nothing to be looked at.
    let aftermath = story.aftermath.clone().filter(|_| room.is_there());
    let put_away = move |budget: &Budget| {
        let guarded = aftermath.map(|aftermath| aftermath.git(budget));
        let git = guarded.unwrap_or_else(|| Ok(git.within(budget)));
        room.put_away(git, was_started)
    };
    let left = budget::patiently(isolation::ENDING, services.shutdown, put_away).await;
    story.notes.extend(left);
    story
}

/// Brings the commits of a good run to the branch where it began; where that fails, the run is
/// judged again without them.
async fn bring_home(
    plan: &RunPlan,
    services: &mut Services<'_>,
    begun: &Begun,
    room: &Room,
    story: &mut Story,
) {
    if !matches!(&story.change, Ok(Some(change)) if !change.commits.is_empty()) {
        return;
    }
    let mut patient = plan.clone();
    patient.task.overlap = Overlap::Wait;
    let came = match occupancy::hold(&patient, services.shutdown).await {
        Hold::Refused(verdict) => {
            if let Outcome::Interrupted { signal } = verdict.outcome {
                story.end.stopped = Some(StopReason::Shutdown(signal));
            }
            Err(verdict.error.unwrap_or_default())
        }
        Hold::Ours(_lock) => come_home(plan, services, begun, room, story).await,
    };
    let Err(why) = came else {
        return story.judge(plan);
    };
    let (home, branch) = (room.home(), room.branch());
    if let Ok(Some(change)) = &mut story.change {
        isolation::strand(change, branch);
    }
    story.judge(plan);
    let fact = format!("the run's commits are on `{branch}` and not on `{home}`: {why}");
    if let Some(error) = &mut story.verdict.error {
        *error = format!("{error}; {fact}");
    }
    story.note(EvidenceSource::Git, fact);
}

/// How often commits are checked on a branch that keeps moving.
const TRIES: usize = 3;

/// Brings the commits home while the repository is held; what has to be rebased passes the task's
/// checks once more before. The error says why they are not there.
async fn come_home(
    plan: &RunPlan,
    services: &mut Services<'_>,
    begun: &Begun,
    room: &Room,
    story: &mut Story,
) -> Result<(), String> {
    let mut room = room.clone();
    for _ in 0..TRIES {
        let (Some(aftermath), Ok(Some(change))) = (story.aftermath.clone(), story.change.clone())
        else {
            return Err("the repository could not be looked at after the rebase".to_owned());
        };
        let come = {
            let (room, aftermath) = (room.clone(), Arc::clone(&aftermath));
            move |budget: &Budget| aftermath.bring_home(&room, &change, budget)
        };
        let (ending, signal) = budget::within(isolation::ENDING, services.shutdown, come).await;
        story.end.stopped = story.end.stopped.or(signal.map(StopReason::Shutdown));
        let Ending {
            homecoming,
            filters,
            change,
            signatures,
        } = ending.map_err(|error| text::chain(&error))?;
        if let Some(change) = change {
            story.change = Ok(Some(change));
        }
        if matches!(homecoming, Homecoming::Home { .. }) && !filters.is_empty() {
            let names: Vec<_> = filters.iter().map(|name| format!("`{name}`")).collect();
            let names = names.join(", ");
            let fact = format!(
                "filters that changed during the run did not run as they are now on \
                 what came home: {names}"
            );
            story.note(EvidenceSource::Git, text::first_line(&fact, 500));
        }
        let (onto, is_home) = match homecoming {
            Homecoming::Nothing | Homecoming::Home { onto: None } => return Ok(()),
            Homecoming::Left { why } => return Err(why),
            Homecoming::Home { onto: Some(onto) } => (onto, true),
            Homecoming::Rebased { onto } => (onto, false),
        };
        let short = verdict::short(&onto);
        story.note(
            EvidenceSource::Git,
            format!("the run's commits were rebased onto {short}"),
        );
        if signatures > 0 {
            let lost = text::count(signatures, "commit");
            let fact = format!("{lost} lost the signature by that; the runner signs nothing");
            story.note(EvidenceSource::Git, fact);
        }
        if is_home {
            return Ok(());
        }
        let (folder, redactor) = (&begun.folder, &begun.redactor);
        let there = room.plan(plan);
        story.checks = carry_out_checks(&there, folder, services, redactor, &mut story.end).await;
        sweep(folder.run(), &mut story.end);
        let seen = std::mem::replace(&mut story.change, Ok(None));
        let there = Some(onto.clone());
        story.change = look_again(&aftermath, there, seen, services, &mut story.end).await;
        if story.checks.iter().any(|check| check.failure.is_some()) {
            return Err(format!(
                "the task's checks fail on them as rebased onto {short}"
            ));
        }
        room = room.moved_to(&onto);
    }
    Err(format!("`{}` kept moving", room.home()))
}
