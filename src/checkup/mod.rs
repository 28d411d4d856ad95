//! What a machine and its settings are like, judged: facts become findings, each with what to do.
//!
//! Pure. [`Facts`] are gathered by the command line, which asks every other room; nothing here
//! asks anybody. A fact that is not known is no finding: silence is better than a false claim.

mod agents;
pub mod facts;
mod place;
mod services;
pub mod smoke;
#[cfg(test)]
mod tests;

use crate::checkup::facts::Facts;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// Good to know.
    Note,
    /// Something will probably go wrong, or is weaker than it could be.
    Warning,
    /// A run would fail, or nobody would be told of it.
    Error,
}

impl Level {
    /// The level's name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a finding is about, in the order in which they are shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Section {
    /// The configuration file, the environment, the machine.
    Configuration,
    /// The agents' CLIs.
    Agents,
    /// The repository that agents work in, and the tasks' prompts.
    Repository,
    /// The log root and what lies in it, and how processes are held together.
    Runs,
    /// ntfy and the outbox.
    Notifications,
    /// GitHub and the queue.
    Dispatch,
    /// cron, the heartbeat and the clock.
    Schedule,
}

impl Section {
    /// The section's name, as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Agents => "agents",
            Self::Repository => "repository",
            Self::Runs => "runs",
            Self::Notifications => "notifications",
            Self::Dispatch => "dispatch",
            Self::Schedule => "schedule",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// Where it belongs.
    pub section: Section,
    /// How much it matters.
    pub level: Level,
    /// What it is about, in a word or two.
    pub subject: String,
    /// How it is.
    pub what: String,
    /// What to do about it; `None` where nothing needs to be done.
    pub fix: Option<String>,
}

/// Judges the facts, section by section.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut report = Report::default();
    place::configuration(facts, &mut report);
    agents::agents(facts, &mut report);
    place::repository(facts, &mut report);
    place::runs(facts, &mut report);
    services::notifications(facts, &mut report);
    services::dispatch(facts, &mut report);
    services::schedule(facts, &mut report);
    report.findings
}

/// The findings so far. All but the good ones are given what to do.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(
        &mut self,
        (section, level, subject): (Section, Level, &str),
        what: impl Into<String>,
        fix: Option<String>,
    ) {
        self.findings.push(Finding {
            section,
            level,
            subject: subject.to_owned(),
            what: what.into(),
            fix,
        });
    }

    fn ok(&mut self, section: Section, subject: &str, what: impl Into<String>) {
        self.add((section, Level::Ok, subject), what, None);
    }

    fn note(
        &mut self,
        section: Section,
        subject: &str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add((section, Level::Note, subject), what, Some(fix.into()));
    }

    fn warning(
        &mut self,
        section: Section,
        subject: &str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add((section, Level::Warning, subject), what, Some(fix.into()));
    }

    fn error(
        &mut self,
        section: Section,
        subject: &str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add((section, Level::Error, subject), what, Some(fix.into()));
    }
}
