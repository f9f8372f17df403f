//! The cost table against sums done by hand.

use std::path::Path;

use frostline_schemas::model;
use frostline_schemas::model::{Family, ModelFolder};
use frostline_schemas::select::Strategy;
use frostline_schemas::select::scope;
use frostline_schemas::select::{CostTable, StepShape};

/// The case `llama`: 4 layers, hidden 32, 4 heads of 8, 2 key/value heads, intermediate 64, vocabulary 61, untied.
fn table() -> CostTable {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama");
    let step = StepShape { rows: 2, tokens_per_row: 10.0, targets_per_row: 3.0 };
    CostTable::new(&model::read_config(&folder).unwrap(), step)
}

/// Queries 32 × 32, keys and values 16 × 32 each, output 32 × 32, three MLP matrices of 64 × 32.
const MATRICES: u64 = 32 * 32 + 2 * 16 * 32 + 32 * 32 + 3 * 64 * 32;
/// Two norms of 32 beside the matrices.
const LAYER: u64 = MATRICES + 2 * 32;
/// Forward FLOPs of one layer for 20 tokens: two for each weight, and scores and values over 10 places.
const FORWARD: u64 = 20 * (2 * MATRICES + 4 * 32 * 10);
/// Forward and gradient of inputs for 6 targets.
const HEAD: u64 = 6 * 2 * 2 * 61 * 32;

#[test]
fn a_frozen_layer_costs_its_forward_a_trained_one_three_times_that() {
    for cost in &table().frost_lines {
        let frozen = cost.frost_line as u64;
        assert_eq!(cost.flops, (frozen + 3 * (4 - frozen)) * FORWARD + HEAD);
    }
}

#[test]
fn a_cache_takes_the_frozen_layers_away() {
    for cost in &table().frost_lines {
        let trained = 4 - cost.frost_line as u64;
        assert_eq!(cost.cached_flops, 3 * trained * FORWARD + HEAD);
        // The head and the final norm stay; the token embedding is not read either.
        assert_eq!(cost.cached_weight_bytes, 4 * (trained * LAYER + 32 + 61 * 32));
    }
}

#[test]
fn what_is_trained_has_a_gradient_and_two_moments() {
    for cost in &table().frost_lines {
        let trained = (4 - cost.frost_line as u64) * LAYER + 32;
        assert_eq!(cost.trained_parameters, trained);
        assert_eq!((cost.gradient_bytes, cost.optimizer_bytes), (4 * trained, 8 * trained));
        assert_eq!(cost.weight_bytes, 4 * (4 * LAYER + 32 + 2 * 61 * 32));
    }
}

#[test]
fn shares_fall_with_the_frost_line() {
    let table = table();
    assert_eq!(table.frost_lines[0].share, 1.0);
    assert!(table.frost_lines.windows(2).all(|pair| pair[1].share < pair[0].share));
    assert!(table.frost_lines.windows(2).all(|pair| pair[1].activation_bytes < pair[0].activation_bytes));
}

/// What a layer multiplies by is what its file holds as matrices.
#[test]
fn every_familys_matrices_are_counted_once() {
    for name in Family::all().map(Family::name) {
        let model =
            ModelFolder::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name)).unwrap();
        let in_layers = model.weights.names().filter(|name| name.contains("layers.") || name.contains(".h."));
        let shapes: Vec<&[usize]> = in_layers.map(|name| model.weights.get(name).unwrap().shape).collect();
        let matrices: usize =
            shapes.iter().filter(|shape| shape.len() == 2).map(|shape| shape.iter().product::<usize>()).sum();
        let scores: usize =
            model.config.layers.iter().map(|layer| 4 * layer.attention.heads * layer.attention.head_dim * 10).sum();
        let step = StepShape { rows: 2, tokens_per_row: 10.0, targets_per_row: 3.0 };
        let table = CostTable::new(&model.config, step);
        assert_eq!(table.frost_lines[0].flops, 3 * 20 * (2 * matrices + scores) as u64 + HEAD, "{name}");
        let all: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
        let norm: u64 = model.config.final_norm.tensors().map(|tensor| tensor.elements()).sum();
        assert_eq!(table.frost_lines[0].trained_parameters, all as u64 + norm, "{name}");
    }
}

#[test]
fn a_frozen_layer_above_a_trained_one_costs_no_gradient_of_weights() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama");
    let config = model::read_config(&folder).unwrap();
    let step = StepShape { rows: 2, tokens_per_row: 10.0, targets_per_row: 3.0 };
    let of = |strategy: &str| {
        let tensors = strategy.parse::<Strategy>().unwrap().tensors(&config, 0).unwrap().unwrap();
        (CostTable::of_tensors(&config, step, &tensors), tensors)
    };
    // Layers 2 and 4 are trained: 1 costs its forward, 3 no gradient of its weights.
    let (table, tensors) = of("every:2");
    let planned = table.planned.unwrap();
    assert_eq!((planned.frost_line, planned.trained_parameters), (1, 2 * LAYER + 32));
    assert_eq!(planned.flops, FORWARD + 3 * 3 * FORWARD - 20 * 2 * MATRICES + HEAD);
    assert_eq!(planned.cached_flops, planned.flops - FORWARD);
    assert_eq!(scope::frost_line(&config, &tensors), 1);
    // A trained head has a gradient of weights at targets.
    let (table, _) = of("manual:4+lm_head.weight");
    let planned = table.planned.unwrap();
    assert_eq!(planned.flops, 3 * FORWARD + 3 * FORWARD + HEAD + HEAD / 2);
    assert_eq!(of("last:3").0.planned, None);
}
