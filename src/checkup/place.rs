//! What runs stand on: settings, machine, repository, prompts, log root.

use std::time::Duration;

use crate::checkup::facts::{Facts, RepositoryState, Runs};
use crate::checkup::{Report, Section};
use crate::git::LEAST_VERSION;
use crate::model::{duration, text};
use crate::store::ground::Ground;
use crate::writers;

pub(super) fn configuration(facts: &Facts, report: &mut Report) {
    const SECTION: Section = Section::Configuration;
    let configuration = &facts.configuration;
    match &configuration.file {
        Some(file) => {
            report.ok(SECTION, "file", file.display().to_string());
            if configuration.open_to_others {
                let what = "other users may write the file, and so decide what is run";
                report.warning(SECTION, "file", what, writers::remedy("go", file));
            }
        }
        None => report.ok(SECTION, "file", "none; the built-in defaults hold"),
    }
    if !configuration.set.is_empty() {
        let set = configuration.set.iter();
        let set: Vec<_> = set
            .map(|(key, origin)| format!("{key} ({origin})"))
            .collect();
        report.ok(SECTION, "set", set.join(", "));
    }
    for warning in &configuration.warnings {
        report.warning(SECTION, warning.about, &warning.what, &warning.fix);
    }
    if !configuration.has_home {
        let what = "HOME is not set: agents do not find their sign-in";
        report.warning(SECTION, "environment", what, "set HOME");
    }
    if configuration.is_root {
        let what = "runs as root: an agent may do everything on this machine";
        let fix = "give it a user of its own, or a container";
        report.note(SECTION, "user", what, fix);
    }
    if !configuration.can_look {
        let what = "processes cannot be seen: what an agent leaves running is not found";
        report.error(
            SECTION,
            "machine",
            what,
            "mount proc on /proc, on Linux; else see to ps",
        );
    }
}

/// A lock that is held for so long is of a git that died.
const STALE_LOCK: Duration = Duration::from_secs(60);

pub(super) fn repository(facts: &Facts, report: &mut Report) {
    const SECTION: Section = Section::Repository;
    let repository = &facts.repository;
    let (major, minor) = LEAST_VERSION;
    match &repository.git {
        Ok((version, text)) if *version >= LEAST_VERSION => report.ok(SECTION, "git", text),
        Ok((_, text)) => {
            let what = format!("{text} is older than {major}.{minor}");
            report.error(SECTION, "git", what, "install a newer git");
        }
        Err(why) => {
            let fix = format!("install git {major}.{minor} or newer, and check PATH");
            report.error(SECTION, "git", why, fix);
            return;
        }
    }
    let path = repository.path.display().to_string();
    match &repository.state {
        Ok(state) => state_of(state, &path, report),
        Err((why, fix)) => {
            let usual = "name the right one: AGENT_RUNNER_REPO_ROOT or `repo_root`; or make it one: git init";
            report.error(SECTION, "place", why, fix.as_deref().unwrap_or(usual));
        }
    }
    for (task, why) in &facts.bad_prompts {
        let fix = format!("mend the prompt, or `prompt` in [tasks.{task}]");
        report.error(SECTION, "prompts", format!("{task}: {why}"), fix);
    }
    if facts.bad_prompts.is_empty() {
        let what = format!("{} can be made", text::count(facts.prompts, "prompt"));
        report.ok(SECTION, "prompts", what);
    }
}

fn state_of(state: &RepositoryState, path: &str, report: &mut Report) {
    const SECTION: Section = Section::Repository;
    match (&state.branch, state.has_commit) {
        (Some(branch), true) => report.ok(SECTION, "place", format!("{path}, branch {branch}")),
        (Some(branch), false) => {
            let what = format!("{path}, branch {branch} without a commit");
            report.note(SECTION, "place", what, "make a first commit");
        }
        (None, _) => {
            let what = format!("{path}: no branch is checked out, commits would be on none");
            report.warning(SECTION, "place", what, "git switch to a branch");
        }
    }
    if state.is_committer_configured {
        report.ok(SECTION, "committer", &state.committer);
    } else {
        let what = format!("git knows nobody, so commits are by {}", state.committer);
        let fix = "git config user.name and user.email, or `name` and `email` in [git]";
        report.note(SECTION, "committer", what, fix);
    }
    if let Some(operation) = &state.in_progress {
        let what = format!("a {operation} is half-done; agents would work in the middle of it");
        let fix = match operation.as_str() {
            "bisect" => "git bisect reset".to_owned(),
            _ => format!("git {operation} --continue or --abort"),
        };
        report.warning(SECTION, "state", what, fix);
    }
    if state.changes > 0 {
        let changed = text::count(state.changes, "uncommitted change");
        let what = format!("{changed}; an agent may commit or overwrite them");
        let fix = "commit or stash, or use isolation = \"worktree\"";
        report.warning(SECTION, "state", what, fix);
    }
    match state.index_lock {
        Some(held) if held >= STALE_LOCK => {
            let what = format!("index.lock is there for {}", duration::words(held));
            let fix = "if no git works there, remove it: git rev-parse --git-path index.lock";
            report.error(
                SECTION,
                "state",
                format!("{what}: no commit can be made"),
                fix,
            );
        }
        Some(_) | None => {}
    }
}

/// Less is gone in one run.
const LOW_BYTES: u64 = 1 << 30;
/// Less does not hold a run's reserve and its logs' heads.
const NO_BYTES: u64 = 16 << 20;
const LOW_FILES: u64 = 10_000;
const NO_FILES: u64 = 100;

pub(super) fn runs(facts: &Facts, report: &mut Report) {
    const SECTION: Section = Section::Runs;
    let runs = &facts.runs;
    let root = runs.root.display().to_string();
    match &runs.ground {
        Ok(ground) => ground_of(ground, &root, report),
        Err(why) => report.error(SECTION, "log root", format!("{root}: {why}"), ANOTHER_ROOT),
    }
    guests(runs, report);
    for run in &runs.crashed {
        let fix = format!("agent-runner show {run}");
        report.warning(SECTION, "crashed", format!("the runner of {run} died"), fix);
    }
    if runs.running > 0 {
        report.ok(SECTION, "running", text::count(runs.running, "run"));
    }
    for (wanted, tried) in &facts.containments {
        match tried {
            Ok(got) if got == "subreaper" && wanted == "auto" => {
                let what = "auto gives subreaper here, the weakest way; tried";
                let fix = "a cgroup to write in (README, Containment), or bubblewrap and \
                           containment = \"namespace\"";
                report.note(SECTION, "containment", what, fix);
            }
            Ok(got) if got == "group" => {
                let what = "auto gives group, the only way on this system; tried. An agent outlives a \
                            runner that is killed, until the next run or heartbeat";
                report.note(
                    SECTION,
                    "containment",
                    what,
                    "see Containment in the README",
                );
            }
            Ok(got) if got == wanted => {
                report.ok(SECTION, "containment", format!("{got} works; tried"));
            }
            Ok(got) => report.ok(
                SECTION,
                "containment",
                format!("{wanted} gives {got}; tried"),
            ),
            Err(why) => {
                let fix = "see Containment in the README, or use containment = \"auto\"";
                report.error(SECTION, "containment", why, fix);
            }
        }
    }
}

/// What else lies in the log root, and whether git leaves it alone.
fn guests(runs: &Runs, report: &mut Report) {
    const SECTION: Section = Section::Runs;
    let own = "give records a directory of their own: AGENT_RUNNER_LOG_ROOT or `log_root`";
    if let Some(first) = runs.foreign.first() {
        let others = match runs.foreign.len() - 1 {
            0 => "is".to_owned(),
            others => format!("and {} are", text::count(others, "other")),
        };
        let what = format!(
            "`{}` {others} none of agent-runner's; it lists and removes nothing of that",
            first.display()
        );
        report.warning(SECTION, "log root", what, own);
    }
    for why in &runs.unlisted {
        let what = format!("{why}; runs in it are passed over, and no capped run starts");
        let fix = "let the user who runs this list it, or move it elsewhere";
        report.warning(SECTION, "log root", what, fix);
    }
    if let Some(file) = &runs.tracked {
        let what = format!(
            "git tracks `{}` in it; what agents add there is not seen",
            file.display()
        );
        report.warning(SECTION, "log root", what, own);
    }
    if let Some(first) = runs.unignored.first() {
        let what = format!("git does not ignore `{first}` in it: agents could commit records");
        let fix = "let the .gitignore in it hold the line `*`; else the next run writes \
                   .git/info/exclude";
        report.warning(SECTION, "log root", what, fix);
    }
}

const ANOTHER_ROOT: &str = "name another one: AGENT_RUNNER_LOG_ROOT or `log_root`";

fn ground_of(ground: &Ground, root: &str, report: &mut Report) {
    const SECTION: Section = Section::Runs;
    if let Some(why) = &ground.unwritable {
        let what = format!(
            "nothing can be written in {}: {why}",
            ground.directory.display()
        );
        report.error(SECTION, "log root", what, ANOTHER_ROOT);
        return;
    }
    if let Some(why) = &ground.unlockable {
        let what = format!("{why}: two runs would work in one repository at once");
        report.error(SECTION, "log root", what, "put it on a local file system");
    }
    if let Some(network) = ground.network {
        let what = format!("it lies on {network}, where locks do not hold between machines");
        report.error(SECTION, "log root", what, "put it on a local file system");
    }
    if ground.open_to_others {
        let what = "other users may write in it, and change records and notifications";
        report.warning(
            SECTION,
            "log root",
            what,
            writers::remedy("go", &ground.directory),
        );
    }
    let size = duration::size(ground.free_bytes);
    let clean = "make room; `agent-runner clean --older-than 30d` removes old runs";
    match ground.free_bytes {
        ..NO_BYTES => report.error(SECTION, "log root", format!("only {size} are free"), clean),
        NO_BYTES..LOW_BYTES => {
            report.warning(SECTION, "log root", format!("only {size} are free"), clean);
        }
        _ if ground.exists => report.ok(SECTION, "log root", format!("{root}, {size} free")),
        _ => report.ok(
            SECTION,
            "log root",
            format!("{root}, made by the first run; {size} free"),
        ),
    }
    match ground.free_files {
        Some(files @ ..NO_FILES) => {
            report.error(
                SECTION,
                "log root",
                format!("only {files} files can be made"),
                clean,
            );
        }
        Some(files @ NO_FILES..LOW_FILES) => {
            report.warning(
                SECTION,
                "log root",
                format!("only {files} files can be made"),
                clean,
            );
        }
        Some(_) | None => {}
    }
}
