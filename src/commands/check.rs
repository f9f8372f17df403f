//! `frostline check`.

use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::ExampleFrostLines;
use frostline_schemas::plan::{Plan, PlanError};
use serde_json::json;

use crate::arguments::CheckArguments;
use crate::output::{self, Output};

/// Whether the plan is whole, with what it says of examples, and fits the model. A plan that cannot be read at all is an
/// error, not a no.
pub(crate) fn run(arguments: &CheckArguments, output: &Output) -> anyhow::Result<bool> {
    let model = ModelFolder::open(&arguments.model)?;
    let identity = model.identity()?;
    let checked =
        Plan::read(&arguments.plan).and_then(|plan| plan.check_model(&identity, &model.config).map(|()| plan));
    let (fits, reason) = match checked {
        Ok(plan) => match ExampleFrostLines::of_plan(&plan, &arguments.plan) {
            Ok(_) => (true, format!("plan {} fits the model", plan.id)),
            Err(error) => (false, error.to_string()),
        },
        Err(error @ (PlanError::Changed { .. } | PlanError::Inconsistent { .. } | PlanError::Misfit(_))) => {
            (false, error.to_string())
        }
        Err(error) => return Err(error.into()),
    };
    let said = output.result(&json!({"fits": fits, "reason": reason}), || {
        format!("{}: {reason}\n", if fits { "yes" } else { "no" })
    });
    // The exit status is the answer even where nobody reads the words.
    said.or_else(|error| if output::is_broken_pipe(&error) { Ok(()) } else { Err(error) })?;
    Ok(fits)
}
