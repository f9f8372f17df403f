//! `frostline show`.

use frostline_schemas::plan::Plan;

use crate::arguments::ShowArguments;
use crate::output::Output;
use crate::render;

pub(crate) fn run(arguments: &ShowArguments, output: &Output) -> anyhow::Result<()> {
    let plan = Plan::read(&arguments.plan)?;
    let text = render::plan::render(&plan)?;
    output.result(&plan, || text)
}
