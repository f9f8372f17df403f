//! What cures an error, in this command's words. Libraries speak of settings; here alone it is known which flag sets one.

use clap::builder::PossibleValue;
use clap::{ArgMatches, Command};
use frostline_schemas::cache::CacheError;
use frostline_schemas::data::{ExampleError, OtherRows};
use frostline_schemas::plan::ExampleFrostLinesError;

/// A short line on the flag that sets what caused the error: of the command that was run or, where it has none, of the
/// first that has.
pub(crate) fn cure(error: &anyhow::Error, program: &Command, matches: &ArgMatches) -> Option<String> {
    let setting = setting(error)?;
    // A key is no flag, but there is a command that shows them.
    if setting == "cache_key" {
        return Some("(`frostline cache list` shows the keys)".into());
    }
    if setting == "on_bad_row" {
        return Some("(`--on-bad-row skip` leaves such rows out)".into());
    }
    if let Some(flag) = command_that_ran(program, matches).and_then(|command| flag(command, setting)) {
        let without = if setting.starts_with("cache") { ", or do without: --cache off" } else { "" };
        return Some(format!("(set with {flag}{without})"));
    }
    let elsewhere =
        |command: &Command| Some(format!("(set with `frostline {} {}`)", command.get_name(), flag(command, setting)?));
    program.get_subcommands().find_map(elsewhere)
}

/// The setting that an error of one of the crates names.
fn setting(error: &anyhow::Error) -> Option<&'static str> {
    #[cfg(feature = "plan")]
    if let Some(error) = error.downcast_ref::<frostline_planner::Error>() {
        return error.setting();
    }
    #[cfg(feature = "train")]
    if let Some(error) = error.downcast_ref::<frostline_runtime::Error>() {
        return error.setting();
    }
    if let Some(error) = error.downcast_ref::<CacheError>() {
        return error.setting();
    }
    if let Some(error) = error.downcast_ref::<ExampleFrostLinesError>() {
        return error.setting();
    }
    if let Some(error) = error.downcast_ref::<OtherRows>() {
        return Some(error.setting);
    }
    error.downcast_ref::<ExampleError>()?.setting()
}

fn command_that_ran<'a>(program: &'a Command, mut matches: &ArgMatches) -> Option<&'a Command> {
    let mut command = program;
    while let Some((name, below)) = matches.subcommand() {
        command = command.find_subcommand(name)?;
        matches = below;
    }
    Some(command)
}

/// The flag of a setting with its value, as it is typed: `--max-length N`, `--engine tract|ort`.
fn flag(command: &Command, setting: &str) -> Option<String> {
    let flag = command.get_arguments().find(|flag| flag.get_id() == setting)?;
    let long = flag.get_long()?;
    if !flag.get_action().takes_values() {
        return Some(format!("--{long}"));
    }
    let values: Vec<PossibleValue> = flag.get_possible_values();
    let value = match flag.get_value_names() {
        _ if !values.is_empty() => values.iter().map(PossibleValue::get_name).collect::<Vec<&str>>().join("|"),
        Some([name, ..]) => name.to_string(),
        _ => long.to_ascii_uppercase(),
    };
    Some(format!("--{long} {value}"))
}
