//! What could be planned, and what a step of it costs.

use frostline_schemas::model::DecoderConfig;
use frostline_schemas::plan::LearningRate;
use frostline_schemas::select::{Cost, CostTable, StepShape, Strategy, scope};

/// Shares of the layers that are frozen in the arms that are always tried, beside full training: steps of about equal cost.
const FROZEN: [f64; 3] = [1.0 / 3.0, 1.0 / 2.0, 3.0 / 4.0];

/// Something that could be planned, by a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Names of the tensors to train, from the input up.
    pub tensors: Vec<String>,
    /// The rate that is expected to be good for a whole training.
    pub learning_rate: LearningRate,
}

/// A candidate with what its steps cost.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    pub candidate: Candidate,
    pub frost_line: usize,
    pub cost: Cost,
}

impl Candidate {
    /// The tensors of a strategy that follows from the config alone.
    fn of_strategy(strategy: &Strategy, config: &DecoderConfig) -> Option<Candidate> {
        let tensors = strategy.tensors(config, 0)?.ok()?;
        let learning_rate = LearningRate::by_rule(config, &tensors);
        Some(Candidate { name: strategy.to_string(), tensors, learning_rate })
    }
}

impl Arm {
    fn new(candidate: Candidate, config: &DecoderConfig, step: StepShape) -> Option<Arm> {
        let frost_line = scope::frost_line(config, &candidate.tensors);
        let cost = *CostTable::of_tensors(config, step, &candidate.tensors).of_plan(frost_line)?;
        Some(Arm { candidate, frost_line, cost })
    }

    /// FLOPs of the layers below the frost line in a step, over those of a full step: what a cache saves.
    pub(super) fn prefix_share(&self) -> f64 {
        self.cost.share - self.cost.cached_share
    }
}

/// Full training, a few frost lines spread by cost, and what else is proposed; of those that train the same tensors the
/// first. The dearest first.
pub(super) fn arms(config: &DecoderConfig, step: StepShape, proposed: Vec<Candidate>) -> Vec<Arm> {
    let layers = config.layers.len();
    let last = |frozen: f64| layers - ((layers as f64 * frozen).round() as usize).min(layers - 1);
    let spread = FROZEN.into_iter().map(|frozen| Strategy::Last(last(frozen)));
    let always = [Strategy::All].into_iter().chain(spread);
    let mut arms: Vec<Arm> = Vec::new();
    for candidate in always.filter_map(|strategy| Candidate::of_strategy(&strategy, config)).chain(proposed) {
        let is_new = arms.iter().all(|arm| arm.candidate.tensors != candidate.tensors);
        arms.extend(Arm::new(candidate, config, step).filter(|_| is_new));
    }
    arms.sort_by(|a, b| b.cost.cached_share.total_cmp(&a.cost.cached_share));
    arms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_spread_by_cost_and_none_is_there_twice() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama");
        let config = frostline_schemas::model::read_config(&path).unwrap();
        let step = StepShape { rows: 16, tokens_per_row: 20.0, targets_per_row: 1.0 };
        let proposed = |name: &str| Candidate::of_strategy(&name.parse().unwrap(), &config).unwrap();
        let found = arms(&config, step, vec![proposed("last:2"), proposed("manual:1+4")]);
        let names: Vec<&str> = found.iter().map(|arm| arm.candidate.name.as_str()).collect();
        assert_eq!(names, ["all", "manual:1+4", "last:3", "last:2", "last:1"]);
        assert!(found.iter().all(|arm| arm.prefix_share() >= 0.0));
        assert_eq!(found[0].cost.share, 1.0);
    }
}
