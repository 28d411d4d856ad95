//! The program as people use it: the real binary, real git, real processes. One module a
//! behaviour; agents are shell scripts that misbehave on purpose, or the real CLIs (`real`).
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on must say where"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests spawn, write and wait by themselves"
)]

mod support;

mod acting;
mod caps;
mod clean;
mod clock;
mod commits;
mod containment;
mod contract;
mod crash_sweep;
mod dispatch;
mod doctor;
mod durability;
mod faults;
mod full_disk;
mod github;
mod golden_days;
mod help;
mod hostile;
mod hostile_git;
mod isolation;
mod layers;
mod log_root;
mod looking;
mod misbehaviour;
mod operations;
mod overlap;
mod parking;
mod process_limit;
mod processes;
mod promises;
mod publishing;
mod queue;
mod real;
mod records;
mod recovery;
mod retries;
mod runs;
mod schedule;
mod schemas;
mod screens;
mod secrets;
mod sharing;
mod shell;
mod terminal;
mod timers;
mod triage;
mod uninterruptible;
mod usage;
