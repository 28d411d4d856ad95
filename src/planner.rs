//! From settings to a plan: everything a run needs, resolved before anything is started.
//!
//! [`RunPlan`] is what was asked for; [`prepare`] turns it into one [`Prepared`] start for one run,
//! or into the reason why it cannot start, which is an outcome and no error.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::agents::{AgentInterface, AgentRequest};
use crate::config::env;
use crate::git::{Identity, REPOSITORY_VARIABLES};
use crate::model::caps::{Caps, WorstCase};
use crate::model::change::Earlier;
use crate::model::dispatch::{DISPATCH_TASK, WorkRequest};
use crate::model::ids::{AgentName, RunPath};
use crate::model::invocation::Invocation;
use crate::model::patch::patch_blocks;
use crate::model::record::Evidence;
use crate::model::task::{Containment, PromptSource, Task};
use crate::model::text;
use crate::model::verdict::Policy;
use crate::process::containment;
use crate::process::identity::is_root;
use crate::process::program::{ProgramError, find_program, packaged_version};
use crate::process::watchdog::Limits;
use crate::prompt::{self, PromptError};

/// One agent on one task in one repository, with every setting resolved.
#[derive(Clone, Debug)]
pub struct RunPlan {
    /// The task.
    pub task: Task,
    /// The agent's name.
    pub agent: AgentName,
    /// How the agent is spoken to.
    pub backend: Arc<dyn AgentInterface>,
    /// Its program: a path, or a name to be found in `PATH`.
    pub binary: PathBuf,
    /// The key of the agent's table that names it: `binary`, or `command` for one of the user's own.
    pub binary_key: &'static str,
    /// The model to name.
    pub model: Option<String>,
    /// How much the model should think.
    pub effort: Option<String>,
    /// Arguments from the configuration.
    pub arguments: Vec<String>,
    /// Variables from the configuration.
    pub set_environment: BTreeMap<String, String>,
    /// Names of inherited variables that the configuration lets through.
    pub pass_environment: Vec<String>,
    /// The runner's own environment, `PATH` with the configured prefix.
    pub inherited: BTreeMap<OsString, OsString>,
    /// The repository, absolute.
    pub repository: PathBuf,
    /// Where prompts lie, absolute.
    pub prompts_directory: PathBuf,
    /// The built-in debug prompt that replaces the task's.
    pub debug_prompt: Option<&'static str>,
    /// The limits of the agent's process.
    pub limits: Limits,
    /// Who commits, where the repository does not say.
    pub identity: Identity,
    /// Whose configuration it is of, in a word; others in the same log root may have their own topics.
    pub configuration: String,
    /// The most that the agent's runs may use up on one day.
    pub caps: Caps,
    /// What a run of unknown use counts as.
    pub worst_case: WorstCase,
    /// How long the agent is parked by a limit whose end is not known.
    pub park_default: Duration,
    /// The pause before a failure that passes by itself is tried again for the first time.
    pub retry_pause: Duration,
    /// What must not be written anywhere; see [`secrets`].
    pub secrets: Vec<String>,
    /// The dispatched work that is asked for, for the task `dispatch_issue`.
    pub request: Option<WorkRequest>,
    /// The prompt of another run, where it is to be given once more; the task's own is not looked
    /// at then.
    pub exact_prompt: Option<OldPrompt>,
    /// The commit from which a run in a work tree of its own begins; the branch's without it.
    pub base: Option<String>,
    /// The run that this one repeats or continues.
    pub previous_run: Option<String>,
    /// What earlier tries of the same work left.
    pub earlier: Option<Earlier>,
    /// What happened before this run was chosen, for its record.
    pub notes: Vec<Evidence>,
}

impl RunPlan {
    /// What counts as done.
    pub fn policy(&self) -> Policy {
        Policy {
            // A debug prompt asks for no work, so none is required.
            requires_commit: self.task.requires_commit && self.debug_prompt.is_none(),
            allow_no_change: self.task.allow_no_change || self.has_nothing_to_apply(),
            min_changes: self.task.min_changes,
        }
    }

    /// Whether a dispatched instruction leaves nothing to do for the agent without a model: it has no
    /// diff block.
    fn has_nothing_to_apply(&self) -> bool {
        let request = self
            .request
            .as_ref()
            .filter(|_| self.agent.as_str() == "patch");
        request.is_some_and(|request| patch_blocks(&request.instruction).is_empty())
    }

    fn search_path(&self) -> &OsStr {
        let path = self.inherited.get(OsStr::new("PATH"));
        path.map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// The agent's program, when it is there.
    pub fn find_program(&self) -> Result<PathBuf, ProgramError> {
        find_program(&self.binary, self.search_path())
    }
}

/// A run's prompt, to be given byte by byte to another, except for where it names the run's place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OldPrompt {
    /// The prompt.
    pub text: String,
    /// The repository of the run.
    pub repository: String,
    /// Its work tree, if it had one of its own.
    pub work_tree: String,
    /// Its branch, if it had a work tree of its own.
    pub branch: String,
}

impl OldPrompt {
    /// The prompt for a run at `place` on `branch`.
    pub fn moved_to(&self, place: &str, branch: &str) -> String {
        let place = place.trim_end_matches('/');
        let moves = [
            (self.repository.trim_end_matches('/'), place),
            (&self.work_tree, place),
            (&self.branch, branch),
        ];
        prompt::moved(&self.text, &moves)
    }
}

/// A run that is ready to be spawned.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The exact prompt.
    pub prompt: String,
    /// What is spawned.
    pub invocation: Invocation,
    /// The whole environment of the agent.
    pub environment: Vec<(OsString, OsString)>,
    /// How its processes will be held together.
    pub containment: Containment,
    /// The CLI's version, where its package tells.
    pub version: Option<String>,
}

/// What [`prepare`] needs to know of the run at hand.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Which run.
    pub run: &'a RunPath,
    /// Its directory for files of its own.
    pub private_directory: &'a Path,
    /// The branch that is checked out.
    pub branch: Option<&'a str>,
    /// When it starts.
    pub start: DateTime<Utc>,
    /// Variables that make git mark and sign what the agent commits.
    pub git_environment: &'a [(OsString, OsString)],
}

/// Prepares one run. Reads the prompt, finds the program; starts and writes nothing.
///
/// # Errors
/// Why the run cannot start, as a sentence for its record.
pub fn prepare(plan: &RunPlan, place: Place<'_>) -> Result<Prepared, String> {
    if !plan.repository.is_dir() {
        return Err(format!(
            "the repository `{}` does not exist",
            plan.repository.display()
        ));
    }
    let prompt = prompt_text(plan, place)?;
    let program = plan.find_program().map_err(|error| {
        let (variable, key) = (env::binary_variable(&plan.agent), plan.binary_key);
        format!("{error}; {variable} or `{key}` in config.toml can name it")
    })?;
    let request = AgentRequest {
        program: &program,
        repository: &plan.repository,
        private_directory: place.private_directory,
        prompt: &prompt,
        model: plan.model.as_deref(),
        effort: plan.effort.as_deref(),
        arguments: &plan.arguments,
        title: &place.run.to_string(),
        as_root: is_root(),
    };
    let invocation = plan
        .backend
        .invocation(&request)
        .map_err(|error| error.to_string())?;
    let environment = environment(plan, &invocation, place);
    let containment = containment::choose(plan.task.containment, plan.search_path())?;
    let version = packaged_version(&program);
    Ok(Prepared {
        prompt,
        invocation,
        environment,
        containment,
        version,
    })
}

fn prompt_text(plan: &RunPlan, place: Place<'_>) -> Result<String, String> {
    if let Some(exact) = &plan.exact_prompt {
        let place_now = plan.repository.display().to_string();
        return Ok(exact.moved_to(&place_now, place.branch.unwrap_or("HEAD")));
    }
    let (run_id, date) = (
        place.run.run_id.to_string(),
        place.start.format("%F").to_string(),
    );
    let repository = plan.repository.display().to_string();
    let number = plan
        .request
        .as_ref()
        .map(|request| request.number.to_string());
    // A second line of a title could open a block in which the instruction is lost.
    let title = (plan.request.as_ref()).map(|request| text::first_line(&request.title, 300));
    let title = title.unwrap_or_default();
    let mut variables = vec![
        ("task", plan.task.name.as_str()),
        ("agent", plan.agent.as_str()),
        ("run_id", &run_id),
        ("repo_root", &repository),
        ("branch", place.branch.unwrap_or("HEAD")),
        ("date", &date),
    ];
    if let Some(request) = &plan.request {
        variables.extend([
            ("instruction", request.instruction.as_str()),
            ("title", &title),
            ("issue_number", number.as_deref().unwrap_or_default()),
            ("task_id", &request.task_id),
            ("target_repo", &request.target),
        ]);
    }
    template(plan)
        .and_then(|text| prompt::render(&text, &variables))
        .map_err(|error| text::chain(&error))
}

fn template(plan: &RunPlan) -> Result<String, PromptError> {
    let debug = plan
        .debug_prompt
        .map(|name| PromptSource::File(format!("debug/{name}.md")));
    prompt::load(
        debug.as_ref().unwrap_or(&plan.task.prompt),
        &plan.prompts_directory,
    )
}

/// Checks that the prompt names no unknown variable. Anything else that is wrong with it is found,
/// and recorded, by the run.
///
/// # Errors
/// When it does: whoever wrote it must mend it before anything is started.
pub fn check_variables(plan: &RunPlan) -> Result<(), PromptError> {
    match check_prompt(plan) {
        Err(error @ PromptError::Variable { .. }) => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Checks that the prompt is there and names only variables that it is given.
///
/// # Errors
/// Why no prompt can be made.
pub fn check_prompt(plan: &RunPlan) -> Result<(), PromptError> {
    let mut names = vec!["task", "agent", "run_id", "repo_root", "branch", "date"];
    if plan.task.name.as_str() == DISPATCH_TASK {
        names.extend([
            "instruction",
            "title",
            "issue_number",
            "task_id",
            "target_repo",
        ]);
    }
    let any: Vec<_> = names.into_iter().map(|name| (name, "any")).collect();
    template(plan)
        .and_then(|text| prompt::render(&text, &any))
        .map(drop)
}

/// The agent's whole environment: what it may inherit, then git's, the configuration's and the
/// backend's variables, then the run's own.
fn environment(
    plan: &RunPlan,
    invocation: &Invocation,
    place: Place<'_>,
) -> Vec<(OsString, OsString)> {
    let mut environment = inheritable(
        &plan.inherited,
        plan.backend.credentials(),
        &plan.pass_environment,
    );
    let text = |(name, value): (&String, &String)| (name.into(), value.into());
    environment.extend(place.git_environment.iter().cloned());
    environment.extend(invocation.environment.iter().map(text));
    environment.extend(plan.set_environment.iter().map(text));
    environment.insert("PWD".into(), plan.repository.clone().into());
    environment.insert(
        "AGENT_RUNNER_RUN_ID".into(),
        place.run.run_id.as_str().into(),
    );
    environment.into_iter().collect()
}

/// Endings of the names of variables that hold secrets.
const SECRET_ENDINGS: [&str; 4] = ["_TOKEN", "_KEY", "_SECRET", "_PASSWORD"];

/// Further variables that would mislead an agent, hold secrets in part, or let it speak for the
/// runner to what started it: a service manager, the steps of a workflow.
const WITHHELD: [&str; 13] = [
    "DATABASE_URL",
    "OLDPWD",
    "CLAUDECODE",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "GITHUB_ENV",
    "GITHUB_OUTPUT",
    "GITHUB_PATH",
    "GITHUB_STATE",
    "GITHUB_STEP_SUMMARY",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_RESULTS_URL",
];

/// The part of the runner's environment that an agent, or a check of a task, may see.
pub fn inheritable(
    inherited: &BTreeMap<OsString, OsString>,
    credentials: &[&str],
    pass: &[String],
) -> BTreeMap<OsString, OsString> {
    let named = |name: &OsStr| {
        credentials.iter().any(|known| name == OsStr::new(known))
            || pass.iter().any(|known| name == OsStr::new(known))
    };
    inherited
        .iter()
        .filter(|(name, value)| named(name) || !is_withheld(name, value))
        .filter(|(name, _)| !REPOSITORY_VARIABLES.iter().any(|known| *name == *known))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The values that must not be written anywhere: those of inherited and configured variables whose
/// names or contents are secret, and `others`.
pub fn secrets(
    inherited: &BTreeMap<OsString, OsString>,
    set: &BTreeMap<String, String>,
    others: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let set = set
        .iter()
        .map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
    let inherited = inherited
        .iter()
        .map(|(name, value)| (name.as_os_str(), value.as_os_str()));
    inherited
        .chain(set)
        .filter(|(name, value)| is_secret(name, value))
        .filter_map(|(_, value)| value.to_str().map(str::to_owned))
        .chain(others)
        .collect()
}

fn is_withheld(name: &OsStr, value: &OsStr) -> bool {
    let upper = name.to_ascii_uppercase();
    let upper = upper.as_bytes();
    is_secret(name, value)
        || WITHHELD.iter().any(|withheld| upper == withheld.as_bytes())
        || upper.starts_with(b"AGENT_RUNNER_")
}

/// Whether a variable is secret by its name or its content.
pub fn is_secret(name: &OsStr, value: &OsStr) -> bool {
    let upper = name.to_ascii_uppercase();
    let upper = upper.as_bytes();
    let database = |scheme: &str| {
        let value = value.as_bytes();
        value.starts_with(scheme.as_bytes())
    };
    SECRET_ENDINGS
        .iter()
        .any(|ending| upper.ends_with(ending.as_bytes()))
        || database("postgres://")
        || database("postgresql://")
        || database("mysql://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_withheld_unless_the_backend_or_the_configuration_names_them() {
        let names = [
            "PATH",
            "HOME",
            "GITHUB_TOKEN",
            "GH_TOKEN",
            "AGENT_RUNNER_NTFY_TOKEN",
            "MY_API_KEY",
            "DB_PASSWORD",
            "X_SECRET",
            "aws_session_token",
            "OPENAI_API_KEY",
            "NPM_TOKEN",
            "KEYBOARD",
        ];
        let mut inherited: BTreeMap<OsString, OsString> =
            names.iter().map(|name| (name.into(), "v".into())).collect();
        inherited.insert("QUEUE".into(), "postgres://user:secret@host/db".into());
        let seen = inheritable(&inherited, &["OPENAI_API_KEY"], &["NPM_TOKEN".to_owned()]);
        let seen: Vec<_> = seen
            .keys()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            seen,
            ["HOME", "KEYBOARD", "NPM_TOKEN", "OPENAI_API_KEY", "PATH"]
        );
    }
}
