//! From traces, or from a rule, to a plan.

use frostline_schemas::digest::Digest;
use frostline_schemas::plan::{
    DecidedBy, Decision, ExampleFrostLines, PerExample, Plan, PlanMethod, REVISION, SpaceMeasured, VERSION,
};
use frostline_schemas::select::{CostTable, Strategy, scope};

use super::settings::PlanSettings;
use super::task::PlanningTask;
use crate::error::Result;
use crate::heuristics::rule;
use crate::progress::Progress;
use crate::salf::frost_line;
use crate::salf::measured::Measured;
use crate::traces::file::TracesOrigin;

/// What planning makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Where the settings ask for them, the examples' own frost lines.
    pub example_frost_lines: Option<ExampleFrostLines>,
}

/// Makes the plan of all examples' traces, which lie in the order of the sample.
pub(crate) fn from_traces(
    settings: &PlanSettings,
    task: PlanningTask,
    origin: TracesOrigin,
    traces: &[Vec<f64>],
) -> Result<Planned> {
    let cost = CostTable::new(&task.folder.config, task.step());
    let measured = Measured::new(traces, settings.gain, settings.min_trainable_layers);
    let mut decision = measured.decide(settings.aggregate, settings.budget, &cost)?;
    let example_frost_lines =
        settings.per_example.then(|| per_example(settings, &task, &measured, &cost, &mut decision));
    let parts = Parts {
        method: PlanMethod {
            strategy: Strategy::Salf,
            gain: Some(settings.gain),
            aggregate: Some(settings.aggregate),
            min_trainable_layers: Some(settings.min_trainable_layers),
            budget: settings.budget,
            latent_spaces: settings.latent_spaces.clone(),
        },
        origin: Some(origin),
        spaces: measured.spaces(),
        tensors: scope::tensors(&task.folder.config, decision.frost_line),
        decision,
        cost,
    };
    Ok(Planned { plan: parts.sealed(task), example_frost_lines })
}

/// Gives each example its own frost line, and the decision the lowest of all.
fn per_example(
    settings: &PlanSettings,
    task: &PlanningTask,
    measured: &Measured,
    cost: &CostTable,
    decision: &mut Decision,
) -> ExampleFrostLines {
    let own = frost_line::per_example(&measured.ends, settings.budget, cost, settings.min_trainable_layers);
    let others = decision.frost_line;
    decision.frost_line = own.iter().copied().min().unwrap_or(others).min(others);
    let frost_lines = ExampleFrostLines::new(task.examples.iter().zip(own));
    decision.per_example = Some(PerExample { digest: frost_lines.digest(), others });
    frost_lines
}

/// Makes the plan of a strategy that looks at no examples.
pub(crate) fn without_examples(
    settings: &PlanSettings,
    task: PlanningTask,
    progress: &dyn Progress,
) -> Result<Planned> {
    let strategy = &settings.strategy;
    let choice = rule::choose(strategy, &task.folder, settings.seed, task.step(), progress)?;
    choice.check_budget(settings.budget, strategy)?;
    let parts = Parts {
        method: PlanMethod {
            strategy: strategy.clone(),
            gain: None,
            aggregate: None,
            min_trainable_layers: None,
            budget: settings.budget,
            latent_spaces: None,
        },
        origin: None,
        spaces: Vec::new(),
        decision: Decision {
            frost_line: choice.frost_line,
            decided_by: DecidedBy::Strategy,
            before_budget: choice.frost_line,
            per_example: None,
        },
        tensors: choice.tensors,
        cost: choice.cost,
    };
    Ok(Planned { plan: parts.sealed(task), example_frost_lines: None })
}

/// What a plan says of a task.
struct Parts {
    method: PlanMethod,
    /// Where traces come from, if the decision is made of any.
    origin: Option<TracesOrigin>,
    spaces: Vec<SpaceMeasured>,
    decision: Decision,
    tensors: Vec<String>,
    cost: CostTable,
}

impl Parts {
    fn sealed(self, task: PlanningTask) -> Plan {
        let Parts { method, origin, spaces, decision, tensors, cost } = self;
        let unset = Digest::of(b"");
        let ridge = origin.as_ref().map(|origin| origin.ridge);
        let (onnx, engine) = origin.map(|origin| (origin.onnx, origin.engine)).unzip();
        let mut plan = Plan {
            version: VERSION,
            revision: REVISION,
            id: unset,
            model: task.model,
            onnx,
            data: task.data,
            method,
            engine,
            decision,
            spaces,
            ridge,
            cost,
            tensors,
            checksum: unset,
        };
        plan.seal();
        plan
    }
}
