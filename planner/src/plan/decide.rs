//! From traces, or from a rule, to a plan.

use frostline_schemas::data::labels;
use frostline_schemas::plan::{
    Decision, Draft, ExampleFrostLines, LearningRate, Measurement, PerExample, Plan, PlanMethod, PlanTask,
};
use frostline_schemas::select::{CostTable, Strategy, scope};

use super::settings::PlanSettings;
use crate::error::Result;
use crate::heuristics::rule;
use crate::progress::Progress;
use crate::salf::example_traces::ExampleTrace;
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

/// Whether the frost line that these of a task's examples give, the first ones, is stable.
pub(crate) fn is_enough(settings: &PlanSettings, task: &PlanTask, traces: &[ExampleTrace]) -> Result<bool> {
    let cost = CostTable::new(&task.folder.config, task.step_of(traces.len()));
    let measured = Measured::new(traces, settings.gain, settings.min_trainable_layers);
    let decision = measured.decide(settings.aggregate, settings.budget, &cost, settings.seed)?;
    tracing::debug!(examples = traces.len(), frost_line = decision.frost_line, stability = ?decision.stability);
    Ok(decision.stability.is_some_and(|stability| stability.is_stable()))
}

/// Makes the plan of all examples' traces, which lie in the order of the sample.
pub(crate) fn from_traces(
    settings: &PlanSettings,
    task: PlanTask,
    origin: TracesOrigin,
    traces: &[ExampleTrace],
) -> Result<Planned> {
    let config = &task.folder.config;
    let cost = CostTable::new(config, task.step());
    let measured = Measured::new(traces, settings.gain, settings.min_trainable_layers);
    let mut decision = measured.decide(settings.aggregate, settings.budget, &cost, settings.seed)?;
    let example_frost_lines =
        settings.per_example.then(|| per_example(settings, &task, &measured, &cost, &mut decision));
    let tensors = scope::tensors(config, decision.frost_line);
    let TracesOrigin { onnx, engine, ridge, .. } = origin;
    let draft = Draft {
        method: PlanMethod {
            gain: Some(settings.gain),
            aggregate: Some(settings.aggregate),
            min_trainable_layers: Some(settings.min_trainable_layers),
            budget: settings.budget,
            latent_spaces: settings.latent_spaces.clone(),
            ..PlanMethod::of(Strategy::Salf)
        },
        measured: Some(Measurement { onnx, engine, ridge, spaces: measured.spaces(labels(&task.examples).as_deref()) }),
        learning_rate: LearningRate::by_rule(config, &tensors),
        tensors,
        decision,
        cost,
        gradients: None,
        probes: None,
    };
    Ok(Planned { plan: draft.sealed(task), example_frost_lines })
}

/// Gives each example its own frost line, and the decision the lowest of all.
fn per_example(
    settings: &PlanSettings,
    task: &PlanTask,
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
pub(crate) fn without_examples(settings: &PlanSettings, task: PlanTask, progress: &dyn Progress) -> Result<Planned> {
    let strategy = &settings.strategy;
    let tensors = rule::choose(strategy, &task.folder, settings.seed, progress)?;
    let mut draft = Draft::of_choice(strategy.clone(), tensors, &task.folder.config, task.step());
    rule::check_budget(&draft, settings.budget)?;
    draft.method.budget = settings.budget;
    Ok(Planned { plan: draft.sealed(task), example_frost_lines: None })
}
