//! `rerun`: the same prompt once more, with the same limits and from the same commit where the run
//! gets a work tree of its own.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::attempts::is_further_try;
use crate::cli::args::RerunArguments;
use crate::cli::error::CliError;
use crate::cli::wiring::{self, World};
use crate::config::Overrides;
use crate::config::settings::AgentSettings;
use crate::git::Git;
use crate::isolation;
use crate::model::dispatch::DISPATCH_TASK;
use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, EvidenceSource};
use crate::model::text;
use crate::model::verdict::short;
use crate::planner::{self, OldPrompt, RunPlan};
use crate::prompt;
use crate::store::reader::{self, Run};

/// Repeats a run; the exit code is the new run's.
pub(crate) fn rerun(world: &World, arguments: &RerunArguments) -> Result<u8, CliError> {
    let mut overrides = Overrides {
        repo: arguments.repo.clone(),
        ..Overrides::default()
    };
    let settings = world.settings(overrides.clone())?;
    let run = wiring::find_run(&wiring::layout(&settings), &arguments.reference.run)?;
    refuse_unrepeatable(&run)?;
    let record = &run.record;
    let name = arguments
        .agent
        .as_deref()
        .unwrap_or(run.path.agent.as_str());
    let model = record.model.clone().filter(|_| {
        let takes_model = |agent: &AgentSettings| {
            let own = agent.command.as_ref();
            own.is_none_or(|own| own.model_flag.is_some())
        };
        name == run.path.agent.as_str() && settings.agent(name).is_ok_and(takes_model)
    });
    overrides.model = arguments.model.clone().or(model);
    overrides.timeout = arguments.timeout.or_else(|| whole_limit(&run));
    let settings = world.settings(overrides)?;
    let agent = settings.agent(name)?;
    let task = settings.task(run.path.task.as_str())?;
    let mut plan = wiring::plan(world, &settings, agent, task)?;
    if record.timeout.is_some() {
        plan.limits.stall_timeout = record.stall_timeout;
        plan.task.stall_timeout = record.stall_timeout;
    }
    if let Some(place) = arguments.isolation {
        plan.task.isolation = place.isolation();
    }
    plan.debug_prompt = record
        .debug_prompt
        .as_deref()
        .and_then(super::run::debug_prompt);
    plan.previous_run = Some(run.path.to_string());
    let prompt = if arguments.new_prompt {
        planner::check_variables(&plan)
            .map_err(|error| CliError::usage("the prompt is wrong").because(error))?;
        "the task's prompt as it is now"
    } else {
        let configured = world.settings(Overrides::default());
        let configured = configured.map(|settings| settings.runner.repo_root.value);
        // A place that is not known cannot be what the prompt names.
        let old = old_prompt(&run, &plan, configured.ok().as_deref())?;
        let moved = is_moved(&old, &plan, &run)?;
        plan.exact_prompt = Some(old);
        if moved {
            "its prompt, in which the new run's place and branch stand for the old ones"
        } else {
            "its prompt"
        }
    };
    let base = choose_base(&mut plan, &run)?;
    let model = match (&record.model, arguments.model.is_some()) {
        (Some(old), false) if plan.model.as_ref() != Some(old) => other_model(&plan, old, &run),
        _ => String::new(),
    };
    let fact = format!("it repeats {} with {prompt}{model}, {base}", run.path);
    world.ui.talk(&format!("note: {fact}"));
    plan.notes.push(Evidence::new(EvidenceSource::Runner, fact));
    if arguments.dry_run {
        let layout = wiring::layout(&settings);
        return super::plan::show(world, &layout, &[plan], arguments.json);
    }
    let record = super::run::carry_out(world, &settings, vec![plan], arguments.follow)?;
    Ok(super::run::tell(world, &settings, &record, arguments.json))
}

/// The time limit of all tries of a run, of which each one's record has what was left.
fn whole_limit(run: &Run) -> Option<Duration> {
    /// More than are ever made: records can name each other in a circle.
    const MOST: usize = 100;
    let mut record = run.record.clone();
    let layout = run.layout();
    for _ in 0..MOST {
        let before = record.previous_run.as_deref();
        let before = before.filter(|_| is_further_try(&record));
        let Some(before) = before.and_then(|run| run.parse().ok()) else {
            break;
        };
        let before = reader::read_run(&layout, before).record;
        if before.timeout.is_none() {
            break;
        }
        record = before;
    }
    record.timeout
}

/// Says that the run's model was dropped: another agent would not know it.
fn other_model(plan: &RunPlan, old: &str, run: &Run) -> String {
    let own = format!("the default model of {}", plan.agent);
    let new = (plan.model.as_ref()).map_or(own, |new| format!("the model {new}"));
    let old = text::first_line(old, 100);
    format!(", {new} instead of {old} of {}", run.path.agent)
}

fn refuse_unrepeatable(run: &Run) -> Result<(), CliError> {
    let failed = || CliError::failure(format!("{} cannot be repeated", run.path));
    if run.record.outcome == Outcome::Running {
        let hint = format!("it goes on; `agent-runner cancel {}` ends it", run.path);
        return Err(failed().hint(hint));
    }
    if run.path.task.as_str() == DISPATCH_TASK {
        let hint = "`dispatch` alone starts such work: take the label `failed` from its issue";
        return Err(failed().hint(hint));
    }
    Ok(())
}

/// The run's prompt, with the names that its place may have in it.
fn old_prompt(run: &Run, plan: &RunPlan, configured: Option<&Path>) -> Result<OldPrompt, CliError> {
    let text = prompt(run)?;
    let tree = run.layout().work_tree(&run.path);
    let repository = plan.repository.display().to_string();
    let names_it = prompt::moved(&text, &[(repository.trim_end_matches('/'), "")]) != text;
    Ok(OldPrompt {
        text,
        work_tree: tree.display().to_string(),
        repository: if names_it {
            repository
        } else {
            // The run was made where the configuration says, and this one is made elsewhere.
            let configured = configured.map(|place| place.display().to_string());
            configured.unwrap_or(repository)
        },
        branch: isolation::branch(&run.path),
    })
}

/// Whether the new run will be told another place than the old one was.
fn is_moved(old: &OldPrompt, plan: &RunPlan, run: &Run) -> Result<bool, CliError> {
    let repository = plan.repository.display().to_string();
    let place = if isolation::is_wanted(plan) {
        ""
    } else {
        &repository
    };
    let is_moved = old.moved_to(place, "") != old.text;
    // In a work tree of its own a run that is made below the top has the place below.
    let below = !plan.repository.join(".git").exists();
    let in_tree = isolation::is_wanted(plan) || old.text.contains(&old.work_tree);
    if is_moved && below && in_tree {
        let place = "its prompt names its place, and the new run has another";
        return Err(unrepeatable(run, place));
    }
    Ok(is_moved)
}

fn unrepeatable(run: &Run, why: &str) -> CliError {
    CliError::failure(format!("{} cannot be repeated: {why}", run.path))
        .hint("`rerun --new-prompt` gives the task's prompt as it is now")
}

/// The prompt that the run was given, byte by byte.
fn prompt(run: &Run) -> Result<String, CliError> {
    let failed = |why: String| unrepeatable(run, &why);
    let Some(wanted) = &run.record.prompt_sha256 else {
        return Err(failed("its record does not name its prompt".to_owned()));
    };
    let prompt = reader::read_prompt(&run.directory)
        .map_err(|error| failed("its prompt.md cannot be read".to_owned()).because(error))?;
    if text::hexadecimal(&Sha256::digest(&prompt)) != *wanted {
        let why = "its prompt.md is not what the agent was given: secrets were masked in it, or it \
                   was changed";
        return Err(failed(why.to_owned()));
    }
    Ok(prompt)
}

/// Lets an isolated run begin where the old one began, and says where the new one begins.
fn choose_base(plan: &mut RunPlan, run: &Run) -> Result<String, CliError> {
    let isolated = isolation::is_wanted(plan);
    let environment = planner::inheritable(&plan.inherited, &[], &[]);
    let git = Git::new(&environment, &plan.repository);
    let commit = |name: &str| git.commit_of(name).ok().flatten();
    let now = commit("HEAD");
    let Some(before) = &run.record.head_before else {
        return Ok("on the repository as it is now: its record names no commit".to_owned());
    };
    let old = short(before);
    if isolated {
        // A commit and no option, whatever a record says.
        let is_name = before.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_name || commit(before).is_none() {
            let place = plan.repository.display();
            let message = format!("the repository `{place}` has no commit {old}, where it began");
            return Err(CliError::failure(message).hint("`--repo` names another repository"));
        }
        plan.base = Some(before.clone());
        return Ok(format!(
            "in a work tree of its own at {old}, where it began"
        ));
    }
    Ok(match now {
        Some(now) if now == *before => format!("on {old}, where it began"),
        Some(now) => format!(
            "on the repository as it is now, at {}; it began at {old} (`--isolation worktree` \
             begins there)",
            short(&now)
        ),
        None => "on the repository as it is now".to_owned(),
    })
}
