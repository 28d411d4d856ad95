//! The command line: what was typed, one file a verb, and the place where everything is put
//! together.

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::args::{Arguments, Command, RerunArguments, RunArguments};
use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::wiring::World;
use crate::model::outcome::EXIT_SUCCESS;

mod actions;
pub mod args;
mod columns;
mod commands;
mod complete;
pub mod error;
mod happenings;
mod help;
mod log_root;
mod logging;
mod metrics;
mod service;
mod sharing;
mod timeline;
pub mod ui;
mod wiring;

/// Runs the program.
pub fn main() -> ExitCode {
    match complete::answer() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => return report(&Ui::new(true, None, false), &error),
    }
    let arguments = Arguments::parse();
    let world = match World::new(arguments.config) {
        Ok(world) => world,
        Err(error) => return report(&Ui::new(true, None, false), &error),
    };
    let result = match &arguments.command {
        Command::Run(run) => commands::run::run(&world, run),
        Command::Agents(list) => commands::agents::agents(&world, list),
        Command::Tasks(list) => commands::tasks::tasks(&world, list),
        Command::Demo(demo) => commands::demo::demo(&world, demo),
        Command::Delegate(delegate) => commands::delegate::delegate(&world, delegate),
        Command::Delegated(list) => commands::delegate::delegated(&world, list),
        Command::Doctor(doctor) => commands::doctor::doctor(&world, doctor),
        Command::Dispatch(dispatch) => commands::dispatch::dispatch(&world, dispatch),
        Command::Notify(notify) => commands::notify::notify(&world, notify),
        Command::Heartbeat => commands::heartbeat::heartbeat(&world),
        Command::Runs(runs) => commands::runs::runs(&world, runs),
        Command::Show(run) => commands::show::show(&world, run),
        Command::Logs(logs) => commands::logs::logs(&world, logs),
        Command::Smoke(smoke) => commands::smoke::smoke(&world, smoke),
        Command::Stats(stats) => commands::stats::stats(&world, stats),
        Command::Explain(run) => commands::explain::explain(&world, run),
        Command::Schedule(schedule) => commands::schedule::schedule(&world, schedule),
        Command::Triage(triage) => commands::triage::triage(&world, triage),
        Command::Clean(clean) => commands::clean::clean(&world, clean),
        Command::Completions(shell) => commands::shell::completions(&world, shell),
        Command::Man(man) => commands::shell::man(&world, man),
        Command::Rerun(rerun) => commands::rerun::rerun(&world, rerun),
        Command::Cancel(run) => commands::cancel::cancel(&world, run),
        Command::Init(init) => commands::init::init(&world, init),
        Command::NamespaceInit(init) => commands::namespace_init::namespace_init(init),
        Command::ApplyPatches => commands::apply_patches::apply_patches(&world),
    };
    let code = match result {
        Ok(code) => code,
        Err(error) => return report(&world.ui, &error),
    };
    world.ui.finish();
    let Some(failure) = world.ui.failure() else {
        return ExitCode::from(code);
    };
    let error = CliError::failure("not everything was printed").because(failure);
    let failed = report(&world.ui, &error);
    // The exit code of a run is what its record says.
    let is_run = matches!(
        &arguments.command,
        Command::Run(RunArguments { dry_run: false, .. })
            | Command::Rerun(RerunArguments { dry_run: false, .. })
    );
    if is_run || code != EXIT_SUCCESS {
        ExitCode::from(code)
    } else {
        failed
    }
}

fn report(ui: &Ui, error: &CliError) -> ExitCode {
    ui.error(&error.to_string());
    ExitCode::from(error.exit_code())
}
