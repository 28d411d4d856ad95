//! What stands below the options in `--help`: exit codes and examples, where a command has them. No
//! line is longer than 80 characters, so that clap breaks none.

pub(super) const MAIN: &str = "\
Exit codes: 0 success, 1 the run or the command failed, 2 wrong usage or
configuration (nothing was started), 10 rate limit, 11 timeout, 128+n stopped by
signal n. Read any other as failure.

Try it: agent-runner demo
Help for one command: agent-runner run --help";

pub(super) const RUN: &str = "\
Exit codes:
  0      success; also `no_change` where the task allows it, and `skipped` while
         another run holds the repository
  1      the run failed, could not start, was stopped by a cap, or could not be
         recorded; with --dry-run: machine, limit or cap let none start
  2      wrong usage or configuration; nothing was started
  10     rate limit or usage limit, also when the agent is parked
  11     time limit or stall timeout
  128+n  stopped by signal n (130: Ctrl-C)

Examples:
  agent-runner run --agent claude --task debug_hello_simple --dry-run
  agent-runner run --agent claude --task document_coverage --timeout 30m
  agent-runner run --agent kilo,claude --task document_coverage --repo ~/project";

pub(super) const DEMO: &str = "\
Exit code 0 when everything went as it should.

Examples:
  agent-runner demo
  agent-runner demo /tmp/demo";

pub(super) const INIT: &str = "\
Files that exist are kept as they are.

Example:
  cd your-repository && agent-runner init && agent-runner doctor";

pub(super) const DOCTOR: &str = "\
Takes half a minute at most and costs nothing, a probe aside.

Exit codes: 0 no error was found, 1 one was: a run would fail, or nobody would
be told of it; 2 wrong usage or configuration.

Examples:
  agent-runner doctor
  agent-runner doctor --probe claude";

pub(super) const AGENTS: &str = "\
Examples:
  agent-runner agents
  agent-runner agents --json
  agent-runner agents unpark claude";

pub(super) const TASKS: &str = "\
Examples:
  agent-runner tasks
  agent-runner run --agent auto --task document_coverage";

pub(super) const RUNS: &str = "\
Exit codes: 0 also when there is no such run, 2 wrong usage or configuration.

Examples:
  agent-runner runs --since 24h
  agent-runner runs --task document_coverage --outcome timeout --limit 0";

pub(super) const SHOW: &str = "\
Exit codes: 0 whatever the run's outcome, 1 there is no such run, 2 wrong usage
or configuration.

Examples:
  agent-runner show
  agent-runner show latest:document_coverage/claude
  agent-runner show 20260219_204003 --junit > report.xml";

pub(super) const LOGS: &str = "\
Exit codes: 0 whatever the run's outcome, 1 there is no such run, 2 wrong usage
or configuration.

Examples:
  agent-runner logs -f
  agent-runner logs --raw document_coverage/claude/20260219_204003";

pub(super) const LOOKING: &str = "\
Exit codes: 0 whatever the run's outcome, 1 there is no such run, 2 wrong usage
or configuration.";

pub(super) const STATS: &str = "\
The part of good runs counts `success` and `no_change` of all that were made and
have ended. `12761 +44?` leaves out 44 runs of which the number is not known.

Examples:
  agent-runner stats --since 7d
  agent-runner stats --by agent --csv > agents.csv";

pub(super) const RERUN: &str = "\
Exit codes: the new run's, as of `agent-runner run`; 1 also when there is no
such run, or when it cannot be repeated.

Examples:
  agent-runner rerun
  agent-runner rerun latest:document_coverage/claude --agent codex
  agent-runner rerun 20260219_204003 --isolation worktree";

pub(super) const CANCEL: &str = "\
`latest` is the newest run that goes on, where one does.

Exit codes: 0 the run has ended, also before; 1 there is no such run, it cannot
be cancelled from here, or it goes on; 2 wrong usage or configuration.";

pub(super) const CLEAN: &str = "\
Runs that are active, that a person is still to be told of, those of today,
which caps count, and those whose work tree holds what is nowhere else always
stay.
Without a limit only what crashes left goes.

Exit codes: 0, 1 not everything could be removed, 2 wrong usage or
configuration.

Examples:
  agent-runner clean --older-than 90d --dry-run
  agent-runner clean --max-size 5GiB";

pub(super) const TRIAGE: &str = "\
Exit codes: 0 there is nothing to do, 1 there is, 2 wrong usage or configuration.

Example:
  agent-runner triage --since 24h";

pub(super) const SCHEDULE: &str = "\
Cron starts a task that has a `schedule` or `schedules` in config.toml.

Exit codes of `check`: 0 as config.toml wants it, 1 it differs, 2 wrong usage or
configuration.

Examples:
  agent-runner schedule print --all
  agent-runner schedule install --dry-run
  agent-runner schedule check";

pub(super) const HEARTBEAT: &str = "\
Exit codes: 0, 1 the sign of life cannot be written, or what else it does
failed, 2 wrong usage or configuration.";

pub(super) const NOTIFY: &str = "\
Exit codes: 0 the server has it, 1 it was not published, 2 wrong usage, or no
topic is configured.

Examples:
  agent-runner notify --test
  agent-runner notify --title 'Backup' --body 'done' --priority low";

pub(super) const DISPATCH: &str = "\
Exit codes:
  0      what was there is done, or nothing was there; the worker is well
  1      a task failed; the named issue is not to be done, or not now: another
         worker holds it, or it is tried again later; the worker that was asked
         is not well
  2      wrong usage or configuration
  128+n  stopped by signal n

Examples:
  GITHUB_TOKEN=… DISPATCH_REPO=owner/dispatch agent-runner dispatch
  agent-runner dispatch --issue 12
  agent-runner dispatch --source local --once";

pub(super) const DELEGATE: &str = "\
Exit codes: 0 the task is handed over (with --wait: done), 1 it failed or could
not be handed over, 2 wrong usage or configuration, 11 the wait was over first;
the task goes on.

Examples:
  agent-runner delegate \"$(cat task.md)\" --repo owner/project --wait
  agent-runner delegate - --provider local < task.md";

pub(super) const SMOKE: &str = "\
Exit codes: 0 all criteria are met, 1 some are not, 2 wrong usage or
configuration, 128+n stopped by signal n.

Examples:
  agent-runner smoke --repo owner/project
  agent-runner smoke --wait-for-worker --timeout 10m";

pub(super) const DELEGATED: &str = "\
Asks first how far those are that have not ended.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  agent-runner completions bash \\
    > ~/.local/share/bash-completion/completions/agent-runner
  agent-runner completions zsh > ~/.zfunc/_agent-runner
  agent-runner completions fish > ~/.config/fish/completions/agent-runner.fish

The directory for zsh must be in its `fpath`.";

pub(super) const MAN: &str = "\
Examples:
  agent-runner man | man -l -
  agent-runner man ~/.local/share/man/man1";
