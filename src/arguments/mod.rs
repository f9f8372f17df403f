//! The command line: flags as they are typed, and the crates' settings that they come to.
//!
//! A module holds the flags of one subject; each heading of a help text is one struct. What can be said of a flag alone
//! is checked where it is parsed ([`values`]), all else where a crate's settings are made of the flags.

mod cache;
mod check;
#[cfg(all(feature = "plan", feature = "train"))]
mod compare;
#[cfg(any(feature = "plan", feature = "train"))]
mod compute;
#[cfg(feature = "train")]
mod evaluate;
#[cfg(feature = "plan")]
mod plan;
#[cfg(any(feature = "plan", feature = "train"))]
mod rows;
#[cfg(feature = "train")]
mod train;
mod values;

use clap::{Arg, ArgAction, Args, CommandFactory, Parser, Subcommand};

#[cfg(feature = "train")]
pub(crate) use cache::{CacheCommand, CacheFolder};
pub(crate) use check::{CheckArguments, ShowArguments};
#[cfg(all(feature = "plan", feature = "train"))]
pub(crate) use compare::{CompareArguments, QuickstartArguments};
#[cfg(feature = "train")]
pub(crate) use evaluate::{EvalArguments, MergeArguments};
#[cfg(feature = "plan")]
pub(crate) use plan::{Evidence, LayersArguments, PlanArguments, ShardArguments};
#[cfg(any(feature = "plan", feature = "train"))]
pub(crate) use rows::RowsArguments;
#[cfg(feature = "train")]
pub(crate) use train::TrainArguments;
#[cfg(feature = "train")]
pub(crate) use values::LogEvery;

/// Where to fine-tune: plans which layers of a language model are worth training, and trains only those.
///
/// Results go to stdout, logs and progress to stderr. Exit status: 0 done, 1 a check said no, 2 an error.
#[derive(Parser)]
#[command(name = "frostline", version, arg_required_else_help = true, disable_help_flag = true)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten, next_help_heading = "Global options")]
    pub global: GlobalArguments,
}

/// What every command takes.
#[derive(Args)]
pub(crate) struct GlobalArguments {
    /// Write results as JSON, for machines.
    #[arg(long, global = true, display_order = 1000)]
    pub json: bool,
    /// Draw no progress bars and log warnings only.
    #[arg(long, global = true, display_order = 1001)]
    pub quiet: bool,
    /// Print help.
    #[arg(long, short, global = true, action = ArgAction::Help, display_order = 1002)]
    help: Option<bool>,
}

/// The program as clap knows it.
pub(crate) fn program() -> clap::Command {
    // No flag looks like a number: one below 0 is a value, and it is refused as a value where it makes no sense.
    let takes_values = |flag: Arg| match flag.get_action().takes_values() && !flag.is_positional() {
        true => flag.allow_negative_numbers(true),
        false => flag,
    };
    let mut program = Arguments::command();
    // Before that, commands have no flags.
    program.build();
    program.mut_subcommands(|command| command.mut_args(takes_values))
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show what a model will see of a data set: its tokens, which of them are targets, what was cut, added or left out.
    #[cfg(any(feature = "plan", feature = "train"))]
    Rows(Box<RowsArguments>),
    /// Run a model over examples of a task and write which layers are worth training.
    #[cfg(feature = "plan")]
    Plan(Box<PlanArguments>),
    /// Say which latent spaces were found in an ONNX file.
    #[cfg(feature = "plan")]
    Layers(LayersArguments),
    /// Show a plan: the transition trace, the gains, the frost line and why, what each frost line costs.
    Show(ShowArguments),
    /// Check that a plan is unchanged and fits a model; exit status 1 if it does not.
    Check(CheckArguments),
    /// Train what a plan names, and nothing else.
    #[cfg(feature = "train")]
    Train(Box<TrainArguments>),
    /// Measure loss, perplexity and, where rows have few distinct completions, accuracy.
    #[cfg(feature = "train")]
    Eval(EvalArguments),
    /// Put a run's trained tensors into a copy of its model, for Hugging Face transformers to load.
    #[cfg(feature = "train")]
    Merge(MergeArguments),
    /// List or clear what is kept between runs.
    #[cfg(feature = "train")]
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Train by several strategies, each at its own best rate and for the same steps or seconds, and say which differ.
    #[cfg(all(feature = "plan", feature = "train"))]
    Compare(Box<CompareArguments>),
    /// Plan and train a small language model that comes with the project, in under a minute.
    #[cfg(all(feature = "plan", feature = "train"))]
    Quickstart(QuickstartArguments),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_consistent() {
        program().debug_assert();
    }

    /// Flags without a heading would come first, away from their subject.
    #[test]
    fn every_flag_stands_under_a_heading() {
        for command in program().get_subcommands() {
            for flag in command.get_arguments().filter(|argument| !argument.is_positional()) {
                assert!(flag.get_help_heading().is_some(), "{} {flag}", command.get_name());
            }
        }
    }
}
