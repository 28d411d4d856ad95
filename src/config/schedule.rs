//! What the configuration schedules: one entry for each line of a crontab.

use std::time::Duration;

use crate::config::settings::Settings;
use crate::model::ids::{AgentName, TaskName};
use crate::model::task::CatchUp;
use crate::schedule::Zone;
use crate::schedule::expression::Expression;

/// Something that is started at certain times.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// The task.
    pub task: TaskName,
    /// The agents as `run --agent` takes them: a name, or `auto`.
    pub agent: String,
    /// When, as it is written.
    pub text: String,
    /// When.
    pub expression: Expression,
    /// The name of the zone; `None` is the machine's.
    pub timezone: Option<String>,
    /// The most that a start is put off, so that not everything starts at once.
    pub jitter: Duration,
    /// What becomes of a start that was missed.
    pub catch_up: CatchUp,
}

impl Scheduled {
    /// The zone whose clock it follows.
    pub fn zone(&self) -> Zone {
        Zone::of(self.timezone.as_deref())
    }
}

/// When the built-in tasks are meant to run, for whoever wants all of them.
pub const SUGGESTED: [(&str, &str, &str); 14] = [
    ("document_coverage", "claude", "0 * * * *"),
    ("document_coverage", "ollama", "10 * * * *"),
    ("document_coverage", "qwen", "15 * * * *"),
    ("document_coverage", "kilo", "20 * * * *"),
    ("document_coverage", "opencode", "30 * * * *"),
    ("document_coverage", "gemini", "40 * * * *"),
    ("document_coverage", "codex", "50 * * * *"),
    ("document_test_alignment", "claude", "5 0-23/3 * * *"),
    ("document_test_alignment", "codex", "35 0-23/3 * * *"),
    ("document_test_alignment", "ollama", "5 1-23/3 * * *"),
    ("document_test_alignment", "kilo", "35 1-23/3 * * *"),
    ("document_test_alignment", "opencode", "5 2-23/3 * * *"),
    ("document_test_alignment", "qwen", "35 2-23/3 * * *"),
    ("agent_management", "claude", "40 6 * * *"),
];

impl Settings {
    /// Everything that is scheduled, by task and agent.
    pub fn scheduled(&self) -> Vec<Scheduled> {
        let mut found = Vec::new();
        for settings in self.tasks.values() {
            let task = &settings.task;
            let mut add = |agent: &str, text: &str| {
                found.extend(self.entry(&task.name, agent, text));
            };
            for (agent, text) in &task.schedules {
                add(agent.as_str(), text);
            }
            let Some(text) = &task.schedule else { continue };
            if task.agents.is_empty() && task.schedules.is_empty() {
                add("auto", text);
            }
            let others = |agent: &&AgentName| !task.schedules.contains_key(*agent);
            for agent in task.agents.iter().filter(others) {
                add(agent.as_str(), text);
            }
        }
        found
    }

    /// The same, with the built-in tasks at their suggested times where the configuration says
    /// nothing of a task.
    pub fn scheduled_or_suggested(&self) -> Vec<Scheduled> {
        let mut found = self.scheduled();
        let named = |task: &str| found.iter().any(|entry| entry.task.as_str() == task);
        let suggested = SUGGESTED.iter().filter(|(task, ..)| !named(task));
        let suggested = suggested.filter_map(|(task, agent, text)| {
            let task = self.task(task).ok()?;
            self.entry(&task.task.name, agent, text)
        });
        found.extend(suggested.collect::<Vec<_>>());
        found
    }

    fn entry(&self, task: &TaskName, agent: &str, text: &str) -> Option<Scheduled> {
        let settings = &self.tasks.get(task)?.task;
        Some(Scheduled {
            task: task.clone(),
            agent: agent.to_owned(),
            text: text.to_owned(),
            // Every text was checked when it was read.
            expression: Expression::parse(text).ok()?,
            timezone: settings.timezone.clone(),
            jitter: settings.jitter,
            catch_up: settings.catch_up,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::schedule::crontab;

    #[test]
    fn the_crontab_example_has_the_suggested_times() {
        let example = include_str!("../../crontab.example");
        // gemini's line is commented out until somebody has tried it.
        let example = example.replace("\n#40 * * * *", "\n40 * * * *");
        let found: BTreeSet<_> = crontab::jobs(&example, &BTreeMap::new())
            .into_iter()
            .filter_map(|job| {
                let call = job.call().filter(|call| call.verb == "run")?;
                let option = |name: &str| call.option(name).map(str::to_owned);
                Some((option("--task")?, option("--agent")?, job.expression))
            })
            .collect();
        let suggested = SUGGESTED
            .map(|(task, agent, text)| (task.to_owned(), agent.to_owned(), text.to_owned()));
        assert_eq!(found, BTreeSet::from(suggested));
    }
}
