//! `agent-runner` runs coding-agent CLIs without a person watching: one agent, one task, one
//! repository, one record. This page is its architecture.
//!
//! # Data flows one way
//!
//! ```text
//! config ─► Task ─► RunPlan ─► Invocation ─► ProcessEnd ─► AgentReport ─► RepositoryChange ─► Verdict ─► Record
//!                   planner    agents        process       agents         git                 model      store ─► outbox ─► notify
//! ```
//!
//! [`orchestrator::run`] tells that story top to bottom. Four ends of a run are kept apart because
//! four people act on them: what the kernel saw ([`ProcessEnd`](model::process_end::ProcessEnd)),
//! what the agent said ([`AgentReport`](model::report::AgentReport)), what the repository shows
//! ([`RepositoryChange`](model::change::RepositoryChange)) and what we conclude
//! ([`Verdict`](model::verdict::Verdict)). [`conclude`](model::verdict::conclude) is pure, total,
//! and its whole table is a snapshot beside it.
//!
//! One process per run: `agent-runner run` supervises exactly one agent at a time, so "all my
//! descendants belong to this run" is exact, and a crash takes one run and no other.
//!
//! # Rooms and floors
//!
//! | floor | room | what it is for |
//! | --- | --- | --- |
//! | 0 | [`model`] | the vocabulary; no I/O, clock, process or file format |
//! | 0 | [`regular`] | regular files, opened without waiting for what else lies there |
//! | 0 | [`tls`] | the one TLS stack, made ready before a client is built |
//! | 0 | [`writers`] | who else can write a file, or in a directory |
//! | 0 | [`schedule`] | when a task is due, by cron's own rules; the text of a crontab |
//! | 1 | [`config`] | the file, the environment and flags; the only reader of environment variables |
//! | 1 | [`prompt`] | template and variables become the exact prompt |
//! | 1 | [`agents`] | the backends: a request becomes an invocation, bytes become a report |
//! | 1 | [`process`] | one process tree under limits; the only room that spawns |
//! | 1 | [`github`] | GitHub's REST API: one function an endpoint |
//! | 1 | [`git`] | the git commands we use; whose commit it is; the way of work to a remote repository |
//! | 1 | [`redact`] | secrets out of byte streams |
//! | 1 | [`store`] | what runs leave on disk: records, logs, the outbox |
//! | 1 | [`queue`] | who works on what: claims with lease and fence, SQLite or PostgreSQL |
//! | 1 | [`sources`] | where work comes from: dispatch issues |
//! | 1 | [`notify`] | the wording of notifications, and ntfy |
//! | 2 | [`planner`] | settings become a plan; a plan becomes one start |
//! | 2 | [`checks`] | a task's own checks after the agent |
//! | 2 | [`occupancy`] | one run at a time in a repository |
//! | 2 | [`isolation`] | a run in a work tree of its own, and the way of its commits home |
//! | 2 | [`admission`] | whether a run may start: parked agents, caps of the day |
//! | 2 | [`sharing`] | parked agents and used-up caps, in step with those who share the queue |
//! | 2 | [`attempts`] | which run comes next: a list's next agent, or the same once more |
//! | 2 | [`orchestrator`] | the story of one run |
//! | 2 | [`recovery`] | ends the runs whose runner died |
//! | 2 | [`deliver`] | where the outbox and a notifier meet |
//! | 2 | [`checkup`] | what was seen of machine and settings, judged |
//! | 2 | [`triage`] | what was due against what ran and what a person heard of it |
//! | 2 | [`worker`] | dispatched work: claim, run, publish, tell |
//! | 2 | [`metrics`] | numbers for Prometheus |
//! | 3 | [`cli`] | arguments, verbs, wiring, the only mouth |
//!
//! A room names only rooms on lower floors. On floor 0 the arrow is `schedule -> model`, on floor 1
//! they are `git -> process` and `sources -> git, github, queue`; on floor 2
//! `checks, occupancy, isolation, admission -> planner`, `attempts, sharing -> planner, admission`,
//! `orchestrator -> planner, checks, occupancy, isolation, admission` and
//! `recovery -> orchestrator, isolation`, `worker -> orchestrator`, `metrics -> worker`. A test holds this table as data
//! (`tests/integration/layers.rs`).
//!
//! # Invariants, mostly absences
//!
//! - [`model`] knows no file, clock, process or format; its values are always valid.
//! - [`agents`] know no process, file or clock. A new one is a file, a line in
//!   [`AGENTS`](agents::AGENTS) and its recorded output; or a table in `config.toml` and no code.
//! - [`process`] knows no agent, task or repository.
//! - [`orchestrator`] names no concrete agent and no notifier.
//! - [`cli`]'s `ui` alone prints, `main` alone exits, [`config::env`] alone reads the environment,
//!   [`process`] alone spawns. Clippy's `disallowed_methods` says so.
//! - No git command that holds a token runs in a repository that an agent could write:
//!   [`git::Mirror`] alone speaks with remote repositories.
//! - `unsafe` is in one place, `process/system`.
//!
//! # What survives what
//!
//! A record that says `running`, and the mark by which it is found, are durable before the agent is
//! spawned, under locks that die with the runner. The notification lies in the outbox before the
//! record is final; where the outbox does not take it, the mark stays, and [`recovery`] puts it there.
//! `metadata.json` is absent, the old or the new version, never torn.
//!
//! A parked agent is a file below the log root, replaced whole; what a day has used up is counted
//! from the day's records. No database is opened for either: on one machine files and locks hold
//! all that runs share, and looking for a file that is not there costs a start nothing. Where
//! `[queue] url` names a queue of several machines, [`sharing`] keeps these files in step with it.
//!
//! What a dead runner leaves alive depends on how the run was held together, which
//! [`containment`](process::containment) tells; [`recovery`] ends what a control group or the marker
//! in the environment still shows. It never believes the number of a process in a record.
//!
//! # Systems
//!
//! Linux is what this is made for. For the rest, macOS among it, `process/system/portable.rs` has
//! what every Unix has in the place of `process/system/linux.rs`, `process/ps.rs` asks ps(1) where
//! `/proc` is missing, and a few functions of [`git`] and [`store`] have a second form. It is weaker,
//! and [`containment`](process::containment) says so by the name `group`. With
//! `--cfg agent_runner_portable` the room [`process`] is built and tested on Linux as it is
//! elsewhere; for macOS the program was type-checked and never run.

pub mod model;
pub mod regular;
pub mod schedule;
pub mod tls;
pub mod writers;

pub mod agents;
pub mod config;
pub mod git;
pub mod github;
pub mod notify;
pub mod process;
pub mod prompt;
pub mod queue;
pub mod redact;
pub mod sources;
pub mod store;

pub mod admission;
pub mod attempts;
pub mod checks;
pub mod checkup;
pub mod deliver;
pub mod isolation;
pub mod metrics;
pub mod occupancy;
pub mod orchestrator;
pub mod planner;
pub mod recovery;
pub mod sharing;
pub mod triage;
pub mod worker;

pub mod cli;
