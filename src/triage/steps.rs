//! What to do next about a failure, as data. The first rule that fits is said.

use crate::model::outcome::Outcome;
use crate::model::record::Record;
use crate::model::report::ErrorClass;

/// When a step is the one to take: all that is named must fit, an empty list fits everything.
struct Rule {
    outcomes: &'static [&'static str],
    classes: &'static [ErrorClass],
    /// One of these, in the error or the evidence, in lower case.
    words: &'static [&'static str],
    step: &'static str,
}

const fn on_outcome(outcomes: &'static [&'static str], step: &'static str) -> Rule {
    Rule {
        outcomes,
        classes: &[],
        words: &[],
        step,
    }
}

const fn on_class(classes: &'static [ErrorClass], step: &'static str) -> Rule {
    Rule {
        outcomes: &[],
        classes,
        words: &[],
        step,
    }
}

const fn on_words(
    outcomes: &'static [&'static str],
    words: &'static [&'static str],
    step: &'static str,
) -> Rule {
    Rule {
        outcomes,
        classes: &[],
        words,
        step,
    }
}

const RULES: &[Rule] = &[
    // The runner or its machine.
    on_words(
        &[],
        &["no space left", "disk quota", "full disk"],
        "make room on the disk of the log root and the repository",
    ),
    on_words(
        &["crashed"],
        &["unreadable record"],
        "what became of it is not known: look at its metadata.json, who may read it, and at the disk",
    ),
    on_words(
        &["crashed"],
        &["it left no metadata.json", "no record"],
        "nothing is known of it: logs/cron.log, and the machine's log at that time",
    ),
    on_outcome(
        &["crashed"],
        "the runner died (killed, out of memory, reboot): `dmesg`, `last -x`; its work may lie uncommitted in the repository",
    ),
    on_outcome(
        &["interrupted"],
        "somebody or the machine stopped it; run it again with `agent-runner run`",
    ),
    on_outcome(
        &["lost_lease"],
        "another worker has the work; nothing, unless it happens often",
    ),
    on_words(
        &[],
        &["timedelta", "unexpected keyword argument"],
        "a fault of the older runner itself, not of the agent; run it again",
    ),
    // Starting.
    on_words(
        &["start_failed"],
        &["not found", "no such file", "not in path"],
        "the program is missing for cron: `agent-runner agents`, then PATH in the crontab or `path_prefix`",
    ),
    on_words(
        &["start_failed"],
        &["permission denied", "not executable"],
        "the program may not be executed: `chmod +x`, or set `binary`",
    ),
    on_words(
        &["start_failed"],
        &["prompt"],
        "the prompt is missing or wrong: `agent-runner run --dry-run`",
    ),
    on_words(
        &["start_failed"],
        &["repository", "work tree", "refs/heads", "head"],
        "the repository is not usable: it needs a first commit and a branch; see `git status`",
    ),
    on_outcome(
        &["start_failed"],
        "`agent-runner run --dry-run` with the same agent and task says what is missing",
    ),
    // The provider.
    on_class(
        &[ErrorClass::Auth],
        "log in again with the agent's own command, or renew its key",
    ),
    on_class(
        &[ErrorClass::ModelNotFound],
        "set `model` of the agent in config.toml to one that is offered",
    ),
    on_words(
        &[],
        &["model not found", "modelnotfound"],
        "set `model` of the agent in config.toml to one that is offered",
    ),
    on_class(
        &[ErrorClass::RateLimit],
        "nothing: the agent is parked until its limit is over; `agents unpark` if that is wrong",
    ),
    on_outcome(
        &["rate_limited"],
        "nothing: the agent is parked until its limit is over; `agents unpark` if that is wrong",
    ),
    on_class(
        &[ErrorClass::Network],
        "look at the network, name server and proxy of this machine",
    ),
    on_class(
        &[ErrorClass::Overloaded],
        "the provider's side; wait, or give the task a second agent",
    ),
    on_class(
        &[ErrorClass::ContextLimit],
        "split the task or shorten the prompt: it does not fit the model",
    ),
    on_class(
        &[ErrorClass::TurnLimit],
        "raise the agent's own limit of turns in `args`, or split the task",
    ),
    on_class(
        &[ErrorClass::BudgetLimit],
        "raise the agent's own limit of money, or split the task",
    ),
    on_class(
        &[ErrorClass::PermissionDenied],
        "allow the tool in the agent's own settings or in `args`",
    ),
    on_class(
        &[ErrorClass::Refused],
        "read the transcript: the model refused; word the prompt otherwise",
    ),
    // The work.
    on_words(
        &["commit_missing"],
        &["uncommitted"],
        "work lies uncommitted in the repository: commit or discard it before the next run",
    ),
    on_words(
        &["commit_missing"],
        &["left off the branch"],
        "the work is on another branch: `git log --all`; bring it over, and check out the right branch",
    ),
    on_words(
        &["commit_missing"],
        &["but empty", "too small", "amended"],
        "a commit without a change does not count: read the transcript for what it claimed",
    ),
    on_words(
        &["commit_missing"],
        &["by somebody else"],
        "the commits there are not its own: read the transcript for what it claimed",
    ),
    on_outcome(
        &["commit_missing"],
        "read what it claims (`agent-runner show`): a claim to be done is no commit; mend the prompt, or set `allow_no_change`",
    ),
    on_outcome(
        &["verify_failed"],
        "the checks fail after its commit: checks.log of the run; mend or revert the commit",
    ),
    on_words(
        &["policy_blocked"],
        &["there before the run", "from before the run are gone"],
        "it threw away what was there before: `git fsck --lost-found` still finds commits and stashes; `isolation` keeps uncommitted work out of reach",
    ),
    on_words(
        &["policy_blocked"],
        &["cap", "per_day", "per day", "a day"],
        "a cap of the day is reached: nothing, or raise it in config.toml",
    ),
    on_outcome(
        &["policy_blocked"],
        "it broke a rule of the task: look at its commit, and revert it or widen `paths`",
    ),
    on_outcome(
        &["stalled"],
        "the agent was silent too long: the end of transcript.log shows what it waited for",
    ),
    on_words(
        &["timeout"],
        &["transcript is empty"],
        "it never got going, whatever its time limit: run it by hand",
    ),
    on_outcome(
        &["timeout"],
        "if transcript.log is empty, it never got going: run it by hand; else raise `timeout` or split the task",
    ),
    on_words(
        &[],
        &["(exit=137)", "signal: killed", "sigkill", "out of memory"],
        "something killed the agent, often the kernel out of memory: `dmesg`",
    ),
    on_words(
        &[],
        &["(exit=139)", "sigsegv", "segmentation"],
        "the agent's program crashed: update it",
    ),
    on_words(
        &[],
        &["is not installed", "not found"],
        "something it needs is not installed, or not in PATH under cron",
    ),
];

/// What to do about the failure of a run.
pub fn next_step(record: &Record) -> &'static str {
    let facts = record.evidence.iter().map(|evidence| &evidence.fact);
    let mut said = String::new();
    for part in record.error.iter().chain(facts) {
        said.extend(part.chars().take(2000).flat_map(char::to_lowercase));
        said.push('\n');
    }
    let fits = |rule: &&Rule| {
        (rule.outcomes.is_empty() || rule.outcomes.contains(&record.outcome.as_str()))
            && (rule.classes.is_empty()
                || record
                    .error_class
                    .is_some_and(|class| rule.classes.contains(&class)))
            && (rule.words.is_empty() || rule.words.iter().any(|word| said.contains(word)))
    };
    match RULES.iter().find(fits) {
        Some(rule) => rule.step,
        None if record.outcome == Outcome::Running => {
            "it runs past its limit: is its runner alive? `agent-runner show`"
        }
        None => {
            "read the end of transcript.log; `agent-runner explain` says how the outcome was concluded"
        }
    }
}

/// What to do about a fire that left no run.
pub const MISSED: &str = "see logs/cron.log, or `journalctl` of its service; `agent-runner schedule check`; then `agent-runner run` by hand";
/// What to do about a run that nobody heard of.
pub const SILENT: &str = "`agent-runner notify --test`; check server, topic and token of [ntfy]; the run itself: `agent-runner show`";
