//! `frostline merge`.

use frostline_runtime::run::Run;
use frostline_runtime::run::merge;
use serde_json::json;

use crate::arguments::MergeArguments;
use crate::output::Output;
use crate::render::units::plural;

pub(crate) fn run(arguments: &MergeArguments, output: &Output) -> anyhow::Result<()> {
    let run = Run::open(&arguments.run)?;
    let model = arguments.model.as_ref().unwrap_or(&run.record.model_folder);
    let report = merge(&run, model, &arguments.out, arguments.types())?;
    let summary = json!({
        "out": arguments.out,
        "tensors": report.tensors,
        "files": report.files,
        "change_lost_in_rounding": report.lost(),
    });
    output.result(&summary, || {
        format!(
            "{}: {} put into {}; rounding loses {:.2} % of what training changed{}\n",
            arguments.out.display(),
            plural(report.tensors, "trained tensor"),
            plural(report.files, "safetensors file"),
            100.0 * report.lost(),
            if report.lost() > 0.01 { " (--dtype exact keeps all of it)" } else { "" }
        )
    })
}
