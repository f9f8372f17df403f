//! `frostline show`.

use frostline_schemas::plan::Plan;

use crate::arguments::ShowArguments;
use crate::output::Output;
use crate::show;

pub fn run(arguments: &ShowArguments, output: &Output) -> anyhow::Result<()> {
    let plan = Plan::read(&arguments.plan)?;
    let text = show::render(&plan)?;
    output.result(&plan, || text)
}
