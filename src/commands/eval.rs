//! `frostline eval`.

use std::fmt::Write;

use frostline_runtime::evaluate::{Evaluation, evaluate};
use frostline_runtime::model::decoder::Decoder;
use frostline_runtime::model::parameters::Parameters;
use frostline_runtime::run::folder::Run;
use frostline_runtime::system::device;
use frostline_schemas::data::Example;
use frostline_schemas::model::ModelFolder;
use serde_json::{Value as Json, json};

use crate::arguments::EvalArguments;
use crate::output::Output;
use crate::progress::Bar;

pub fn run(arguments: &EvalArguments, output: &Output) -> anyhow::Result<()> {
    let model = ModelFolder::open(&arguments.model)?;
    let examples = model.read_examples(&arguments.data, arguments.max_length)?.examples;
    let run = arguments.run.as_deref().map(Run::open).transpose()?;
    let (decoder, parameters) = match &run {
        Some(run) => run.decoder(model, arguments.compute.device, None)?,
        None => Decoder::frozen(model, arguments.compute.device, None)?,
    };
    let evaluation =
        watched((&decoder, &parameters), &examples, arguments.batch_size, arguments.compute.threads, output)?;
    if !evaluation.loss.is_finite() {
        let folder = arguments.model.display();
        anyhow::bail!(
            "{folder}: the loss is {}: the weights hold or lead to numbers that are not finite",
            evaluation.loss
        );
    }
    output.result(&to_json(&evaluation), || to_text(&evaluation))
}

/// Evaluates under a progress bar.
pub fn watched(
    (decoder, parameters): (&Decoder, &Parameters),
    examples: &[Example],
    batch_size: usize,
    threads: Option<usize>,
    output: &Output,
) -> Result<Evaluation, frostline_runtime::Error> {
    let bar = Bar::new(output, "evaluating");
    let mut progress = |done, all| bar.set(done as u64, all as u64, "rows".into());
    device::on_threads(threads, || evaluate(decoder, parameters, examples, batch_size, &mut progress))?
}

pub fn to_json(evaluation: &Evaluation) -> Json {
    json!({
        "examples": evaluation.examples,
        "targets": evaluation.targets,
        "loss": evaluation.loss,
        "perplexity": evaluation.perplexity(),
        "ranking": evaluation.ranking.as_ref().map(|ranking| json!({
            "candidates": ranking.candidates,
            "accuracy": ranking.accuracy,
            "macro_f1": ranking.macro_f1,
        })),
    })
}

pub fn to_text(evaluation: &Evaluation) -> String {
    let mut text = format!(
        "{} examples, {} targets: loss {:.4}, perplexity {:.3}\n",
        evaluation.examples,
        evaluation.targets,
        evaluation.loss,
        evaluation.perplexity()
    );
    if let Some(ranking) = &evaluation.ranking {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "ranking {} completions: accuracy {:.1} %, macro-F1 {:.1} %",
            ranking.candidates,
            100.0 * ranking.accuracy,
            100.0 * ranking.macro_f1
        );
    }
    text
}
