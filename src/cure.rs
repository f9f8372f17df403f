//! What cures an error, in this command's words. Libraries speak of settings; here alone it is known which flag sets one.

use clap::builder::PossibleValue;
use clap::{Arg, ArgMatches, Command};

/// A short line on the flag that sets what caused the error, where the command that was run has one.
pub(crate) fn cure(error: &anyhow::Error, program: &Command, matches: &ArgMatches) -> Option<String> {
    let setting = setting(error)?;
    // A key is no flag, but there is a command that shows them.
    if setting == "cache_key" {
        return Some("`frostline cache list` shows the keys".into());
    }
    let flag = command_that_ran(program, matches)?.get_arguments().find(|flag| flag.get_id() == setting)?;
    let without = if setting.starts_with("cache") { ", or do without: --cache off" } else { "" };
    Some(format!("(set with {}{without})", spelled(flag)?))
}

/// The setting that an error of one of the crates names.
fn setting(error: &anyhow::Error) -> Option<&'static str> {
    #[cfg(feature = "plan")]
    if let Some(error) = error.downcast_ref::<frostline_planner::Error>() {
        return error.setting();
    }
    None
}

fn command_that_ran<'a>(program: &'a Command, mut matches: &ArgMatches) -> Option<&'a Command> {
    let mut command = program;
    while let Some((name, below)) = matches.subcommand() {
        command = command.find_subcommand(name)?;
        matches = below;
    }
    Some(command)
}

/// A flag with its value, as it is typed: `--max-length N`, `--engine tract|ort`.
fn spelled(flag: &Arg) -> Option<String> {
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
