//! `frostline eval`.

use frostline_runtime::evaluate::evaluate;
use frostline_runtime::model::Model;
use frostline_runtime::run::Run;
use frostline_runtime::system::on_threads;
use frostline_schemas::data::{self, Encoder};
use frostline_schemas::model::ModelFolder;

use crate::arguments::EvalArguments;
use crate::output::Output;
use crate::progress::Bar;
use crate::render::evaluation::{to_json, to_text};

pub(crate) fn run(arguments: &EvalArguments, output: &Output) -> anyhow::Result<()> {
    let (files, rows, compute) = (&arguments.files, &arguments.rows, &arguments.compute);
    let bar = Bar::new(output, "reading model and rows");
    let model = ModelFolder::open(&files.model)?;
    let examples = data::read_examples(&model, &Encoder::new(&model.path), &files.data, rows.max_length)?.examples;
    let run = files.run.as_deref().map(Run::open).transpose()?;
    bar.begin("loading the model", 0);
    let model = match &run {
        Some(run) => run.model(model, compute.device, None)?,
        None => Model::frozen(model, compute.device, None)?,
    };
    bar.begin("evaluating", examples.len() as u64);
    let mut progress = |done, _| bar.set(done as u64, "rows");
    let evaluation = on_threads(compute.threads, || evaluate(&model, &examples, rows.batch_size, &mut progress))??;
    drop(bar);
    if !evaluation.loss.is_finite() {
        anyhow::bail!(
            "{}: the loss is {}: the weights hold or lead to numbers that are not finite",
            files.model.display(),
            evaluation.loss
        );
    }
    output.result(&to_json(&evaluation), || to_text(&evaluation))
}
