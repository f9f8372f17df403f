//! `frostline merge`.

use frostline_runtime::merge::merge;
use frostline_runtime::run_folder::Run;
use frostline_schemas::weights::Dtype;
use serde_json::json;

use crate::arguments::{MergeArguments, TypeName};
use crate::output::Output;

pub fn run(arguments: &MergeArguments, output: &Output) -> anyhow::Result<()> {
    let run = Run::open(&arguments.run)?;
    let model = arguments.model.as_ref().unwrap_or(&run.record.model_folder);
    let dtype = match arguments.dtype {
        TypeName::Source => None,
        TypeName::F32 => Some(Dtype::F32),
        TypeName::Bf16 => Some(Dtype::BF16),
        TypeName::F16 => Some(Dtype::F16),
    };
    let report = merge(&run, model, &arguments.out, dtype)?;
    let summary = json!({
        "out": arguments.out,
        "tensors": report.tensors,
        "files": report.files,
        "change_lost_in_rounding": report.lost(),
    });
    output.result(&summary, || {
        format!(
            "{}: {} trained tensors in {} safetensors file(s); rounding to the file's type loses {:.2} % of what \
             training changed{}\n",
            arguments.out.display(),
            report.tensors,
            report.files,
            100.0 * report.lost(),
            if report.lost() > 0.01 { " (--dtype f32 keeps all of it)" } else { "" }
        )
    })
}
