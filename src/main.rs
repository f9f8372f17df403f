//! The `frostline` command: flags → settings → one call into a crate → exit status.

mod arguments;
mod commands;
mod cure;
mod output;
#[cfg(any(feature = "plan", feature = "train"))]
mod progress;
mod render;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use arguments::{Arguments, Command};
use output::Output;

#[cfg(feature = "train")]
#[global_allocator]
static ALLOCATOR: frostline_runtime::system::CachingAllocator = frostline_runtime::system::CachingAllocator;

/// A check said no.
const REFUSED: u8 = 1;
/// Bad input, bad flags, or anything else that kept the work from being done.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let mut program = Arguments::command();
    let matches = program.get_matches_mut();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut program).exit());
    let output = Output::new(arguments.global.json, arguments.global.quiet);
    match output.start_log().and_then(|()| run(arguments.command, &output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Every error's own message says what caused it.
            eprintln!("error: {error}");
            if let Some(cure) = cure::cure(&error, &program, &matches) {
                eprintln!("  {cure}");
            }
            ExitCode::from(FAILED)
        }
    }
}

/// Runs a command; false where it was a check and the answer is no.
fn run(command: Command, output: &Output) -> anyhow::Result<bool> {
    match command {
        #[cfg(feature = "plan")]
        Command::Plan(arguments) => commands::plan::run(&arguments, output)?,
        #[cfg(feature = "plan")]
        Command::Layers(arguments) => commands::layers::run(&arguments, output)?,
        Command::Show(arguments) => commands::show::run(&arguments, output)?,
        Command::Check(arguments) => return commands::check::run(&arguments, output),
        #[cfg(feature = "train")]
        Command::Train(arguments) => commands::train::run(&arguments, output)?,
        #[cfg(feature = "train")]
        Command::Eval(arguments) => commands::eval::run(&arguments, output)?,
        #[cfg(feature = "train")]
        Command::Merge(arguments) => commands::merge::run(&arguments, output)?,
        #[cfg(feature = "train")]
        Command::Cache(command) => commands::cache::run(&command, output)?,
        #[cfg(all(feature = "plan", feature = "train"))]
        Command::Compare(arguments) => commands::compare::run(&arguments, output)?,
        #[cfg(all(feature = "plan", feature = "train"))]
        Command::Quickstart(arguments) => commands::quickstart::run(&arguments, output)?,
    }
    Ok(true)
}
