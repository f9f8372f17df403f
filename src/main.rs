//! The `frostline` command: flags → settings → one call into a crate → exit status.

mod arguments;
mod commands;
mod output;
#[cfg(any(feature = "plan", feature = "train"))]
mod progress;
mod render;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};
use output::Output;

#[cfg(feature = "train")]
#[global_allocator]
static ALLOCATOR: frostline_runtime::system::allocator::Reusing = frostline_runtime::system::allocator::Reusing;

/// A check said no.
const REFUSED: u8 = 1;
/// Bad input, bad flags, or anything else that kept the work from being done.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json, arguments.quiet);
    match log_to_stderr(output.quiet).and_then(|()| run(arguments.command, &output)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Every error's own message says what caused it.
            eprintln!("error: {error}");
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

/// Logs go to stderr; `FROSTLINE_LOG` sets what is logged (`debug`, `frostline_planner=trace` and so on).
fn log_to_stderr(quiet: bool) -> anyhow::Result<()> {
    let default = if quiet { "warn" } else { "warn,frostline=info,frostline_planner=info,frostline_runtime=info" };
    let wanted = std::env::var("FROSTLINE_LOG").unwrap_or_else(|_| default.into());
    let filter = EnvFilter::try_new(&wanted).map_err(|error| anyhow::anyhow!("FROSTLINE_LOG={wanted}: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
    Ok(())
}
