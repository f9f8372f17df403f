//! `frostline eval`.

use frostline_runtime::run::EvalJob;

use crate::arguments::EvalArguments;
use crate::output::Output;
use crate::progress::Bar;
use crate::render::evaluation::{to_json, to_text};

pub(crate) fn run(arguments: &EvalArguments, output: &Output) -> anyhow::Result<()> {
    let bar = Bar::new(output, "reading model and rows");
    let job = EvalJob::open(&arguments.files())?;
    bar.begin("loading the model", 0);
    let mut progress = |done, all| bar.go_on("evaluating", done as u64, all as u64, "rows");
    let evaluation = job.run(&arguments.settings(), &mut progress)?;
    drop(bar);
    output.result(&to_json(&evaluation), || to_text(&evaluation))
}
