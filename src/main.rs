//! The `frostline` command: flags → settings → one call into a crate → exit status.

mod arguments;
mod commands;
mod cure;
mod output;
#[cfg(any(feature = "plan", feature = "train"))]
mod progress;
mod render;

use std::env::args_os;
use std::process::ExitCode;

use clap::FromArgMatches;

use arguments::{Arguments, Command};
use output::{Output, printable};

#[cfg(feature = "train")]
#[global_allocator]
static ALLOCATOR: frostline_runtime::system::CachingAllocator = frostline_runtime::system::CachingAllocator;

/// A check said no.
const REFUSED: u8 = 1;
/// Bad input, bad flags, or anything else that kept the work from being done.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let mut program = arguments::program();
    let matches = program.try_get_matches_from_mut(args_os()).unwrap_or_else(|error| refuse(&mut program, &error));
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut program).exit());
    let output = Output::new(arguments.global.json, arguments.global.quiet);
    match output.start_log().and_then(|()| run(arguments.command, &output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Every error's own message says what caused it.
            eprintln!("error: {}", printable(&error.to_string()));
            if let Some(cure) = cure::cure(&error, &program, &matches) {
                eprintln!("  {}", printable(&cure));
            }
            ExitCode::from(FAILED)
        }
    }
}

/// Says what is wrong with the arguments, or prints the help that they ask for, and exits.
fn refuse(program: &mut clap::Command, error: &clap::Error) -> ! {
    // The message shows arguments, and names of files that a shell has filled in may hold what a terminal would obey:
    // it is that of the same arguments without.
    let arguments = args_os().map(|argument| printable(&argument.to_string_lossy()));
    program.try_get_matches_from_mut(arguments).err().as_ref().unwrap_or(error).exit()
}

/// Runs a command; false where it was a check and the answer is no.
fn run(command: Command, output: &Output) -> anyhow::Result<bool> {
    match command {
        #[cfg(any(feature = "plan", feature = "train"))]
        Command::Rows(arguments) => commands::rows::run(&arguments, output)?,
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
