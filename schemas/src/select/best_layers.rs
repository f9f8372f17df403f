//! The set of layers that gains most for what a step may cost.

use std::collections::BTreeSet;

use crate::model::DecoderConfig;
use crate::select::cost::{LayerCost, StepCosts};
use crate::select::{Scores, StepShape};

/// Parts of a full step that costs are counted in, so that choices of equal cost are seen to be equal.
const PARTS: f64 = 1e6;

/// A set of layers, what its weights' gradients cost and what it gains.
struct Choice {
    cost: u64,
    gain: f64,
    layers: Vec<usize>,
}

/// The layers, counted from 0, whose gains have the largest sum of all sets whose training costs at most the share
/// `budget` of a full step; empty where none that gains anything is as cheap.
///
/// A set S costs the forward pass, the gradient of inputs down to its lowest layer, and the gradient of the weights of its
/// layers; so for each lowest layer the others are chosen exactly.
pub fn best_layers(config: &DecoderConfig, step: StepShape, budget: f64, gains: &Scores<usize>) -> BTreeSet<usize> {
    let costs = StepCosts::new(config, step);
    let parts = |flops: f64| (flops / costs.full() * PARTS).round() as u64;
    // Rounding must not forbid what fits exactly.
    let allowed = (budget * PARTS) as u64 + config.layers.len() as u64;
    let gain = |layer: usize| gains.get(&(layer + 1)).filter(|gain| *gain > 0.0);
    let weights: Vec<u64> = costs.layers.iter().map(|layer: &LayerCost| parts(layer.weight_gradient)).collect();
    let mut best = Choice { cost: 0, gain: 0.0, layers: Vec::new() };
    // From the output down: of equal sets the one that reaches less deep.
    for lowest in (0..weights.len()).rev() {
        let (Some(own), Some(&weight)) = (gain(lowest), weights.get(lowest)) else { continue };
        let reached = parts(costs.reaching(lowest)).saturating_add(weight);
        let Some(rest) = allowed.checked_sub(reached) else { continue };
        let others = (lowest + 1..weights.len()).filter_map(|layer| Some((layer, *weights.get(layer)?, gain(layer)?)));
        let found = best_within(rest, others);
        if own + found.gain > best.gain {
            best = Choice { gain: own + found.gain, layers: [vec![lowest], found.layers].concat(), ..found };
        }
    }
    best.layers.into_iter().collect()
}

/// The best choice of layers, each with its cost and gain, that costs at most `allowed`: the choices that no cheaper one
/// outdoes, one layer after the other.
fn best_within(allowed: u64, layers: impl Iterator<Item = (usize, u64, f64)>) -> Choice {
    let mut front = vec![Choice { cost: 0, gain: 0.0, layers: Vec::new() }];
    for (layer, cost, gain) in layers {
        let with = |choice: &Choice| Choice {
            cost: choice.cost.saturating_add(cost),
            gain: choice.gain + gain,
            layers: [&choice.layers[..], &[layer]].concat(),
        };
        let with_it: Vec<Choice> = front.iter().map(with).filter(|choice| choice.cost <= allowed).collect();
        front.extend(with_it);
        front.sort_by(|a, b| a.cost.cmp(&b.cost).then(b.gain.total_cmp(&a.gain)));
        let mut most = f64::NEG_INFINITY;
        front.retain(|choice| {
            let better = choice.gain > most;
            most = most.max(choice.gain);
            better
        });
    }
    front.pop().unwrap_or(Choice { cost: 0, gain: 0.0, layers: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::ScoreOrigin;
    use crate::select::{CostTable, scope};
    use proptest::prelude::*;

    const STEP: StepShape = StepShape { rows: 16, tokens_per_row: 20.0, targets_per_row: 1.0 };

    fn llama() -> DecoderConfig {
        crate::model::read_config(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama"))
            .unwrap()
    }

    fn share(config: &DecoderConfig, layers: &BTreeSet<usize>) -> f64 {
        let tensors = scope::of_layers(config, |layer| layers.contains(&layer));
        let cost = CostTable::of_tensors(config, STEP, &tensors);
        let of_plan = cost.of_plan(scope::frost_line(config, &tensors)).unwrap();
        of_plan.flops as f64 / cost.at(0).unwrap().flops as f64
    }

    /// All sets of layers of a small model, by their sum of gains within the budget.
    fn by_trying_all(config: &DecoderConfig, budget: f64, gains: &[f64]) -> f64 {
        let sets =
            (1u32..1 << gains.len()).map(|bits| (0..gains.len()).filter(|layer| bits >> layer & 1 == 1).collect());
        let affordable = sets.filter(|set: &BTreeSet<usize>| share(config, set) <= budget - 1e-3);
        affordable.map(|set| set.iter().map(|&layer| gains[layer]).sum()).fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn no_other_set_within_the_budget_gains_more(
            gains in prop::collection::vec(-0.5f64..1.0, 4), budget in 0.3f64..1.0
        ) {
            let config = llama();
            let scores = Scores::of_layers(ScoreOrigin::Gradients, gains.iter().copied());
            let found = best_layers(&config, STEP, budget, &scores);
            let gained: f64 = found.iter().map(|&layer| gains[layer]).sum();
            prop_assert!(found.is_empty() || share(&config, &found) <= budget + 1e-5);
            prop_assert!(gained >= by_trying_all(&config, budget, &gains) - 1e-12);
        }
    }

    #[test]
    fn a_full_budget_takes_all_that_gains_and_a_small_one_none() {
        let chosen = |budget, gains: [f64; 4]| {
            let scores = Scores::of_layers(ScoreOrigin::Gradients, gains);
            best_layers(&llama(), STEP, budget, &scores).into_iter().collect::<Vec<usize>>()
        };
        assert_eq!(chosen(1.0, [1.0, 1.0, 1.0, 1.0]), [0, 1, 2, 3]);
        assert_eq!(chosen(1.0, [1.0, -1.0, f64::NAN, 1.0]), [0, 3]);
        assert_eq!(chosen(0.2, [1.0, 1.0, 1.0, 1.0]), [0; 0]);
    }
}
