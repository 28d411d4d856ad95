//! The trace file of a piece of work, and the commit that brings it.

use chrono::{DateTime, SecondsFormat, Utc};

use crate::model::dispatch::{REVISION_TRAILER, WorkKey, WorkRequest};
use crate::model::text;
use crate::model::work_name::WorkName;
use crate::sources::correlation::task_metadata;

/// The text of `agent-tasks/<name>.md`.
pub(super) fn file(
    request: &WorkRequest,
    name: &WorkName,
    agent_name: &str,
    started: DateTime<Utc>,
    finished: DateTime<Utc>,
) -> String {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (started, finished) = (time(started), time(finished));
    let task_id = text::first_line(&request.task_id, 300);
    let correlation = task_metadata(&request.task_id);
    let instruction = request.instruction.replace("\r\n", "\n");
    let (number, instruction) = (request.number, instruction.trim_end());
    format!(
        "# Agent Task Trace: {name}\n\n\
         ## Task Metadata\n\n\
         - **Task ID**: {task_id}\n\
         - **Issue Number**: #{number}\n\
         - **Started At**: {started}\n\
         - **Agent**: {agent_name}\n\n\
         ## Instruction\n\n\
         {instruction}\n\n\
         ## Correlation Metadata\n\n\
         {correlation}\n\n\
         ## Status\n\n\
         Processing completed at {finished}\n"
    )
}

/// The message of the commit. No two claims, of whatever queue, make the same commit: only one of
/// them can push it.
pub(super) fn commit_message(request: &WorkRequest, revision: &str, holder: &str) -> String {
    let task_id = text::unlinked(&text::first_line(&request.task_id, 300));
    let (number, trailer) = (request.number, request.key.trailer());
    let claim = WorkKey::new(
        "claim",
        &[holder, request.key.as_str(), &request.fence.to_string()],
    );
    let claim = claim.short();
    format!(
        "Process agent task from dispatch issue #{number}\n\n\
         Task ID: {task_id}\n\n\
         {trailer}\n\
         {REVISION_TRAILER}: {revision}\n\
         Agent-Runner-Claim: {claim}\n"
    )
}
