//! Hearing the agent: every byte is kept, every event read.

use std::mem;
use std::time::Duration;

use chrono::{DateTime, Local, TimeDelta, Utc};

use crate::agents::{AgentExit, TranscriptParser};
use crate::model::event::AgentEvent;
use crate::model::process_end::{ProcessEnd, Stream};
use crate::model::record::{Evidence, EvidenceSource};
use crate::model::report::{AgentError, AgentReport, ErrorClass};
use crate::model::reset::{ResetHint, ToldResets};
use crate::orchestrator::Spectator;
use crate::planner::RunPlan;
use crate::process::supervise::{Act, Observer};
use crate::process::watchdog::Activity;
use crate::redact::{MASK, Masked, Redactor};
use crate::store::StoreError;
use crate::store::capped_log::{CappedLog, LogCaps, LogEnd};
use crate::store::event_log::EventLog;
use crate::store::recorder::RunFolder;

/// Hears the agent: keeps every byte, reads the events, and tells the watchdog what they mean.
pub(super) struct Listener<'a> {
    redactor: &'a Redactor,
    /// Standard output and standard error on their way through the redactor.
    masked: [Masked; 2],
    transcript: CappedLog,
    stdout: CappedLog,
    event_log: EventLog,
    parser: Box<dyn TranscriptParser>,
    events: Vec<AgentEvent>,
    /// When limits end, as it was told.
    told: ToldResets,
    /// When the agent last said anything.
    last_heard: DateTime<Utc>,
    start: DateTime<Utc>,
    spectator: &'a mut dyn Spectator,
}

/// What was heard of an agent, which has ended.
pub(super) struct Heard {
    pub(super) end: ProcessEnd,
    pub(super) report: AgentReport,
    /// What was left out of the transcript.
    pub(super) dropped_bytes: u64,
    pub(super) notes: Vec<Evidence>,
}

impl<'a> Listener<'a> {
    pub(super) fn new(
        plan: &RunPlan,
        folder: &RunFolder,
        caps: LogCaps,
        start: DateTime<Utc>,
        spectator: &'a mut dyn Spectator,
        redactor: &'a Redactor,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            redactor,
            masked: [Masked::default(), Masked::default()],
            transcript: folder.transcript(caps)?,
            stdout: folder.stdout(caps)?,
            event_log: folder.events(caps.head)?,
            parser: plan.backend.parser(&plan.arguments),
            events: Vec::new(),
            told: ToldResets::default(),
            last_heard: start,
            start,
            spectator,
        })
    }

    fn at(&self, elapsed: Duration) -> DateTime<Utc> {
        self.start + TimeDelta::from_std(elapsed).unwrap_or_default()
    }

    /// Takes an event: what it means, and until when, from the start, the agent said that it waits.
    fn hear(&mut self, event: &AgentEvent, time: DateTime<Utc>) -> Activity {
        let (is_wait, hint) = match event {
            AgentEvent::RateLimit { resets, .. } => (true, resets.as_ref()),
            AgentEvent::Error(error) => (false, error.resets.as_ref()),
            AgentEvent::Session { .. }
            | AgentEvent::Message { .. }
            | AgentEvent::ToolUse { .. }
            | AgentEvent::ToolResult { .. }
            | AgentEvent::PermissionDenied { .. }
            | AgentEvent::Turn
            | AgentEvent::Usage { .. }
            | AgentEvent::Cost { .. }
            | AgentEvent::Turns(_)
            | AgentEvent::Retry { .. }
            | AgentEvent::Warning { .. }
            | AgentEvent::Completed
            | AgentEvent::Progress
            | AgentEvent::Other { .. } => (false, None),
        };
        let moment = hint.and_then(|hint| self.told.hear(hint, time, &Local));
        if !is_wait {
            return Activity::Progress;
        }
        Activity::Waiting {
            until: moment.map(|moment| (moment - self.start).to_std().unwrap_or_default()),
            anew: false,
        }
    }

    /// Takes bytes without secrets: keeps them, shows them, reads them.
    fn take(&mut self, stream: Stream, bytes: &[u8], elapsed: Duration) -> Activity {
        self.transcript.write(bytes);
        if stream == Stream::Stdout {
            self.stdout.write(bytes);
        }
        self.spectator.printed(bytes);
        let mut events = mem::take(&mut self.events);
        events.clear();
        self.parser.feed(stream, bytes, &mut events);
        let time = self.at(elapsed);
        let mut activity = Activity::Output;
        for event in &events {
            self.event_log.event(time, event);
            activity = activity.then(self.hear(event, time));
        }
        self.event_log.flush();
        self.spectator.happened(&events, elapsed);
        self.events = events;
        if !bytes.is_empty() {
            self.last_heard = time;
        }
        activity
    }

    pub(super) fn finish(mut self, end: ProcessEnd, result_file: Option<&str>) -> Heard {
        for (masked, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
            let rest = self.masked[masked].finish(self.redactor);
            self.take(stream, &rest, end.elapsed);
        }
        let mut report = self.parser.finish(&AgentExit {
            code: end.exit_code(),
            result_file,
        });
        let holds_mask = |patch: &String| patch.contains(MASK);
        if self.masked[0].has_masked() && report.patches.iter().any(holds_mask) {
            report.patches.clear();
            let message = "the answer's diffs hold a secret, which was masked in them, so they are not applied";
            let error = AgentError::new(ErrorClass::Unknown, message);
            report.error.get_or_insert(error);
        }
        let failure = report.error.as_mut().map(|error| &mut error.resets);
        for resets in failure.into_iter().chain([&mut report.limit_resets]) {
            let meant = |hint| self.told.meant(&hint, self.last_heard, &Local);
            *resets = resets.take().and_then(meant).map(ResetHint::At);
        }
        let LogEnd {
            dropped_bytes,
            error,
        } = self.transcript.finish();
        let failure = error
            .or(self.stdout.finish().error)
            .or(self.event_log.finish().err());
        let note = failure.map(|failure| {
            Evidence::new(
                EvidenceSource::Runner,
                format!("the logs are not complete: {failure}"),
            )
        });
        Heard {
            end,
            report,
            dropped_bytes,
            notes: note.into_iter().collect(),
        }
    }
}

impl Observer for Listener<'_> {
    fn printed(&mut self, stream: Stream, bytes: &[u8], elapsed: Duration) -> Activity {
        let masked = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let mut activity = Activity::Output;
        let pieces = self.masked[masked].push(self.redactor, bytes);
        for clean in pieces.iter().filter(|clean| !clean.is_empty()) {
            activity = activity.then(self.take(stream, clean, elapsed));
        }
        activity
    }

    fn acted(&mut self, act: Act, elapsed: Duration) {
        tracing::info!(?act, ?elapsed, "agent process");
        let (name, detail) = match act {
            Act::Started(pid) => ("started", format!("process {pid}")),
            Act::Stopping(reason) => ("stopping", format!("{reason:?}").to_lowercase()),
            Act::Killed => ("killed", String::new()),
            Act::Paused => ("paused", String::new()),
            Act::Resumed => ("resumed", String::new()),
            Act::Ended => ("ended", String::new()),
        };
        self.event_log.lifecycle(self.at(elapsed), name, &detail);
        self.event_log.flush();
        self.spectator.acted(act);
    }
}
