//! `explain`: how the outcome of a run was concluded, in plain words.

use std::fmt::Write as _;

use crate::cli::args::RecordArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::model::outcome::{EXIT_SUCCESS, Outcome};
use crate::model::record::{EvidenceSource, Record};
use crate::model::text;
use crate::store::{format, reader};

/// Explains a run.
pub(crate) fn explain(world: &World, arguments: &RecordArguments) -> Result<u8, CliError> {
    let settings = world.settings(Overrides::default())?;
    let run = wiring::find_run(&wiring::layout(&settings), &arguments.reference.run)?;
    if arguments.json {
        world.ui.data(&format::write(&run.record));
    } else {
        world.ui.prose(&words(&run.record, &run.path.to_string()));
    }
    Ok(EXIT_SUCCESS)
}

fn words(record: &Record, path: &str) -> String {
    let mut words = if reader::unreadable(record).is_some() {
        format!("What became of {path} is not known: its record cannot be read.\n")
    } else {
        let (outcome, meaning) = (record.outcome, meaning(record.outcome));
        format!("{path} is {outcome}: {meaning}.\n")
    };
    if let Some(error) = &record.error {
        writeln!(words, "\nWhat went wrong: {}", text::first_line(error, 500)).expect(INFALLIBLE);
    }
    for (source, title) in SOURCES {
        let facts: Vec<_> = record
            .evidence
            .iter()
            .filter(|fact| fact.source == source)
            .collect();
        if !facts.is_empty() {
            writeln!(words, "\n{title}").expect(INFALLIBLE);
        }
        for fact in facts {
            writeln!(
                words,
                "  - {}",
                text::sanitize(&fact.fact).replace('\n', "\n    ")
            )
            .expect(INFALLIBLE);
        }
    }
    if record.evidence.is_empty() {
        words.push_str(
            "\nIts record holds no evidence: an older program wrote it, or it did not end.\n",
        );
    }
    words
}

const INFALLIBLE: &str = "writing to a string cannot fail";

const SOURCES: [(EvidenceSource, &str); 6] = [
    (EvidenceSource::Runner, "The runner itself:"),
    (
        EvidenceSource::Process,
        "What the kernel saw of the agent's processes:",
    ),
    (
        EvidenceSource::Agent,
        "What the agent said, which proves nothing by itself:",
    ),
    (EvidenceSource::Git, "What the repository shows:"),
    (EvidenceSource::Verify, "What the task's checks found:"),
    (EvidenceSource::Policy, "What the rules say:"),
];

/// An outcome in a sentence.
fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Running => "it has not ended yet",
        Outcome::Success => "the agent did the task, and everything that was checked agrees",
        Outcome::NoChange => {
            "the agent found nothing to do, which this task allows, and left no change"
        }
        Outcome::AgentError => "the agent failed, or its success is not credible",
        Outcome::StartFailed => "the agent could not be started",
        Outcome::CommitMissing => "the task requires a commit, and none of the run's own counts",
        Outcome::VerifyFailed => "the work was done, and a check of the task failed on it",
        Outcome::PolicyBlocked => {
            "a rule of the task or the configuration forbids the work or its start, or the run threw \
             away what was there before"
        }
        Outcome::RateLimited => "a rate limit or a usage limit ended it, or kept it from starting",
        Outcome::Timeout => "it reached its time limit",
        Outcome::Stalled => "it was silent for longer than its stall timeout",
        Outcome::Interrupted { .. } => "the runner was told to stop",
        Outcome::Skipped => "another run held the repository",
        Outcome::LostLease => "another worker took the task over",
        Outcome::Crashed => "its runner ended without a final record",
    }
}
