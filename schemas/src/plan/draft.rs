//! What was decided of a task, and the plan that it comes to.

use crate::digest::Digest;
use crate::model::DecoderConfig;
use crate::plan::{
    DecidedBy, Decision, EngineUsed, GradientCard, LearningRate, OnnxIdentity, Plan, PlanMethod, PlanTask, Probes,
    REVISION, SpaceMeasured, VERSION,
};
use crate::select::{CostTable, StepShape, Strategy, scope};

/// All that a plan says beside the model and the rows that it is bound to.
#[derive(Clone, Debug)]
pub struct Draft {
    /// How was decided.
    pub method: PlanMethod,
    /// The run that hidden states come from, where there was one.
    pub measured: Option<Measurement>,
    /// What was decided.
    pub decision: Decision,
    /// Names of the tensors to train, from the input up.
    pub tensors: Vec<String>,
    /// What a step costs.
    pub cost: CostTable,
    /// The rate to train them with.
    pub learning_rate: LearningRate,
    /// What gradients say, where they were computed.
    pub gradients: Option<GradientCard>,
    /// What short trainings gave, where they were made.
    pub probes: Option<Probes>,
}

/// What a run of the model over the examples gave, and what ran it.
#[derive(Clone, Debug)]
pub struct Measurement {
    /// The export.
    pub onnx: OnnxIdentity,
    /// What ran it.
    pub engine: EngineUsed,
    /// What was added to the Gram matrix's diagonal to invert it.
    pub ridge: f64,
    /// The latent spaces, from the embedding output up.
    pub spaces: Vec<SpaceMeasured>,
}

impl Draft {
    /// What a strategy chose, with a rate by the rule.
    pub fn of_choice(strategy: Strategy, tensors: Vec<String>, config: &DecoderConfig, step: StepShape) -> Draft {
        let frost_line = scope::frost_line(config, &tensors);
        Draft {
            method: PlanMethod::of(strategy),
            measured: None,
            decision: Decision {
                frost_line,
                decided_by: DecidedBy::Strategy,
                before_budget: frost_line,
                per_example: None,
                stability: None,
            },
            cost: CostTable::of_tensors(config, step, &tensors),
            learning_rate: LearningRate::by_rule(config, &tensors),
            tensors,
            gradients: None,
            probes: None,
        }
    }

    /// The plan, with its id and checksum.
    pub fn sealed(self, task: PlanTask) -> Plan {
        let unset = Digest::of(b"");
        let spaces = self.measured.as_ref().map(|measured| measured.spaces.clone());
        let ridge = self.measured.as_ref().map(|measured| measured.ridge);
        let (onnx, engine) = self.measured.map(|measured| (measured.onnx, measured.engine)).unzip();
        let mut plan = Plan {
            version: VERSION,
            revision: REVISION,
            id: unset,
            model: task.model,
            onnx,
            data: task.data,
            method: self.method,
            engine,
            decision: self.decision,
            learning_rate: Some(self.learning_rate),
            spaces: spaces.unwrap_or_default(),
            gradients: self.gradients,
            probes: self.probes,
            ridge,
            cost: self.cost,
            tensors: self.tensors,
            checksum: unset,
        };
        plan.seal();
        plan
    }
}
