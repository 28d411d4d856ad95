//! What the values of one file must be to each other.
//!
//! Single values were checked when they were read ([`value`](crate::config::value)).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::config::error::ConfigError;
use crate::config::file::{AgentTable, Form, TaskTable};
use crate::config::layer::Layer;
use crate::config::value::Setting;
use crate::model::dispatch::DISPATCH_TASK;
use crate::model::ids::{AgentName, TaskName};
use crate::model::text;

const BUILT_IN_KEYS: &[&str] = &[
    "binary",
    "model",
    "effort",
    "args",
    "env",
    "pass_env",
    "max_runs_per_day",
    "max_tokens_per_day",
    "max_usd_per_day",
];
const OWN_KEYS: &[&str] = &[
    "command",
    "prompt",
    "output",
    "model",
    "model_flag",
    "env",
    "pass_env",
    "stop_signal",
    "max_runs_per_day",
    "max_tokens_per_day",
    "max_usd_per_day",
];

/// Checks a user's file against itself and the shipped configuration.
pub(crate) fn own_file(layer: &Layer<'_>, shipped: &Form) -> Result<(), ConfigError> {
    let checker = Checker { layer, shipped };
    for (name, agent) in &layer.form.agents {
        checker.agent(name, agent)?;
    }
    for (name, task) in &layer.form.tasks {
        checker.task(name, task)?;
    }
    checker.known_agents("runner.auto_order", &layer.form.runner.auto_order)?;
    if let Some([]) = layer.form.runner.auto_order.get().map(Vec::as_slice) {
        let problem = "`runner.auto_order` is empty".to_owned();
        return Err(layer.wrong(layer.form.runner.auto_order.span(), problem));
    }
    checker.dispatch_agents()?;
    checker.app()?;
    checker.credentials()
}

struct Checker<'a> {
    layer: &'a Layer<'a>,
    shipped: &'a Form,
}

impl Checker<'_> {
    fn agent(&self, name: &AgentName, agent: &AgentTable) -> Result<(), ConfigError> {
        if name.as_str() == "auto" {
            return self.refuse_name("agents", "auto", "is reserved: `--agent auto` chooses one");
        }
        let Some(built_in) = self.shipped.agents.get(name) else {
            return self.own_agent(name, agent);
        };
        for (key, span) in self.layer.keys("agents", name.as_str()) {
            let problem = if built_in.binary.get().is_none() {
                "is part of the runner and has no keys".to_owned()
            } else if key == "mode" && built_in.mode.get().is_some() || BUILT_IN_KEYS.contains(&key)
            {
                continue;
            } else {
                format!("is built in and takes {}", list(BUILT_IN_KEYS))
            };
            let problem = format!("`agents.{name}.{key}` cannot be set: {name} {problem}");
            return Err(self.layer.wrong(Some(span), problem));
        }
        Ok(())
    }

    fn own_agent(&self, name: &AgentName, agent: &AgentTable) -> Result<(), ConfigError> {
        match agent.command.get().map(Vec::as_slice) {
            None => {
                let known = text::suggest(name.as_str(), names(self.shipped));
                let problem = format!("is no built-in agent and has no `command`; {known}");
                return self.refuse_name("agents", name.as_str(), &problem);
            }
            Some([program, ..]) if !program.0.trim().is_empty() => {}
            Some(_) => {
                let problem = format!("`agents.{name}.command` names no program");
                return Err(self.layer.wrong(agent.command.span(), problem));
            }
        }
        let foreign = |(key, _): &(&str, _)| !OWN_KEYS.contains(key);
        if let Some((key, span)) = self.layer.keys("agents", name.as_str()).find(foreign) {
            let problem = format!(
                "`agents.{name}.{key}` is for built-in agents; one of your own takes {}",
                list(OWN_KEYS)
            );
            return Err(self.layer.wrong(Some(span), problem));
        }
        if let Some(output) = agent.output.get() {
            let known = names(self.shipped).chain(["text"]);
            if !known.clone().any(|known| known == output) {
                let problem = format!(
                    "`agents.{name}.output`: no agent has the format `{output}`; {}",
                    text::suggest(output, known)
                );
                return Err(self.layer.wrong(agent.output.span(), problem));
            }
        }
        if agent.model.get().is_some() && agent.model_flag.get().is_none() {
            let problem = format!("`agents.{name}.model` has no effect without `model_flag`");
            return Err(self.layer.wrong(agent.model.span(), problem));
        }
        Ok(())
    }

    fn task(&self, name: &TaskName, task: &TaskTable) -> Result<(), ConfigError> {
        let built_in = self.shipped.tasks.contains_key(name);
        match (task.prompt.get(), task.prompt_text.get()) {
            (Some(_), Some(_)) => {
                let problem = format!(
                    "`tasks.{name}` has both `prompt` and `prompt_text`; one of them is the prompt"
                );
                return Err(self.layer.wrong(task.prompt_text.span(), problem));
            }
            (None, None) if !built_in => {
                let known = self.shipped.tasks.keys().map(TaskName::as_str);
                let problem = format!(
                    "is no built-in task and has no `prompt` or `prompt_text`; {}",
                    text::suggest(name.as_str(), known)
                );
                return self.refuse_name("tasks", name.as_str(), &problem);
            }
            (Some(_), None) | (None, Some(_) | None) => {}
        }
        let (schedule, schedules) = (task.schedule.span(), task.schedules.span());
        if let Some(span) = schedule.or(schedules)
            && name.as_str() == DISPATCH_TASK
        {
            let problem = format!(
                "`tasks.{name}` cannot be scheduled: `dispatch` alone starts it, with work that waits; \
                 a crontab line of your own can start `agent-runner dispatch --once`"
            );
            return Err(self.layer.wrong(Some(span), problem));
        }
        let scheduled = task.schedules.get().into_iter().flat_map(BTreeMap::keys);
        self.are_known(
            &format!("tasks.{name}.schedules"),
            scheduled,
            task.schedules.span(),
        )?;
        self.known_agents(&format!("tasks.{name}.agents"), &task.agents)
    }

    fn known_agents(
        &self,
        key: &str,
        setting: &Setting<Vec<AgentName>>,
    ) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        let mut listed = setting.get().into_iter().flatten();
        if let Some(twice) = listed.find(|name| !seen.insert(*name)) {
            let problem = format!("`{key}` names `{twice}` twice");
            return Err(self.layer.wrong(setting.span(), problem));
        }
        self.are_known(key, setting.get().into_iter().flatten(), setting.span())
    }

    fn are_known<'b>(
        &self,
        key: &str,
        mut listed: impl Iterator<Item = &'b AgentName>,
        span: Option<Range<usize>>,
    ) -> Result<(), ConfigError> {
        let known = names(self.shipped).chain(names(&self.layer.form));
        match listed.find(|name| !known.clone().any(|known| known == name.as_str())) {
            None => Ok(()),
            Some(name) => {
                let suggestion = text::suggest(name.as_str(), known);
                let problem = format!("`{key}`: there is no agent `{name}`; {suggestion}");
                Err(self.layer.wrong(span, problem))
            }
        }
    }

    fn dispatch_agents(&self) -> Result<(), ConfigError> {
        let setting = &self.layer.form.dispatch.agent;
        let listed = setting.get().map_or("auto", String::as_str).split(',');
        let known = names(self.shipped).chain(names(&self.layer.form));
        let known = known.chain(["auto"]);
        for name in listed.map(str::trim) {
            if !known.clone().any(|known| known == name) {
                let suggestion = text::suggest(name, known);
                let problem = format!("`dispatch.agent`: there is no agent `{name}`; {suggestion}");
                return Err(self.layer.wrong(setting.span(), problem));
            }
        }
        Ok(())
    }

    fn app(&self) -> Result<(), ConfigError> {
        let github = &self.layer.form.github;
        let (id, key_file) = (github.app_id.span(), github.app_key_file.span());
        let (span, problem) = match (id, key_file, github.token.span()) {
            (Some(_), Some(_), None) | (None, None, _) => return Ok(()),
            (Some(id), None, _) => (id, "`github.app_id` has no `github.app_key_file`"),
            (None, Some(key_file), _) => (key_file, "`github.app_key_file` has no `github.app_id`"),
            (Some(_), Some(_), Some(token)) => (
                token,
                "`github` has a token and an App; one of them is enough",
            ),
        };
        Err(self.layer.wrong(Some(span), problem.to_owned()))
    }

    fn credentials(&self) -> Result<(), ConfigError> {
        let ntfy = &self.layer.form.ntfy;
        let named = (
            ntfy.token.span(),
            ntfy.username.span(),
            ntfy.password.span(),
        );
        let (span, problem) = match named {
            (None | Some(_), None, None) | (None, Some(_), Some(_)) => return Ok(()),
            (Some(_), username, password) => (
                username.or(password),
                "`ntfy` has a token and a user; one of them is enough",
            ),
            (None, Some(username), None) => {
                (Some(username), "`ntfy.username` has no `ntfy.password`")
            }
            (None, None, Some(password)) => {
                (Some(password), "`ntfy.password` has no `ntfy.username`")
            }
        };
        Err(self.layer.wrong(span, problem.to_owned()))
    }

    fn refuse_name(&self, table: &str, name: &str, problem: &str) -> Result<(), ConfigError> {
        let span = self.layer.name(table, name);
        Err(self
            .layer
            .wrong(span, format!("`{table}.{name}` {problem}")))
    }
}

fn names(form: &Form) -> impl Iterator<Item = &str> + Clone {
    form.agents.keys().map(AgentName::as_str)
}

fn list(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    keys.join(", ")
}
