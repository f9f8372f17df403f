//! Logits, loss and every gradient against PyTorch's, for every family and for several frost lines.

mod common;

use std::collections::BTreeSet;

use common::{Case, golden, largest_difference, relative_distance};
use frostline_runtime::data::Batch;
use frostline_runtime::model::ComputePrecision;
use frostline_runtime::model::CrossEntropy;
use frostline_runtime::model::Objective;
use frostline_runtime::model::Scope;
use frostline_runtime::model::{Gradients, check_coverage};
use frostline_schemas::model::{Family, ModelFolder};

/// PyTorch's own f32 results lie about 1e-5 from those in f64.
const LOGITS: f32 = 2e-5;
/// Relative to the gradient's norm.
const GRADIENTS: f64 = 1e-5;
/// What is left of a gradient that is zero but for rounding.
const ROUNDING: f32 = 1e-7;

#[test]
fn every_family_has_a_case() {
    let family = |case: &Case| ModelFolder::open(&case.folder).unwrap().identity().unwrap().family.name();
    let tested: BTreeSet<&str> = Case::all().iter().map(family).collect();
    assert_eq!(tested, Family::all().map(Family::name).collect());
}

#[test]
fn logits_are_those_of_pytorch() {
    logits_agree(&Case::all());
}

#[test]
fn all_gradients_are_those_of_pytorch() {
    gradients_agree(&Case::all());
}

#[test]
fn frozen_layers_change_no_other_gradient_and_have_none() {
    frozen_layers_have_no_gradient(&Case::all());
}

/// A batch whose rows ask for less than the scope goes no deeper than they ask.
#[test]
fn a_shallower_batch_has_the_gradients_above_its_frost_line_and_no_other() {
    for case in Case::all() {
        let scope = Scope::above(&case.config, 1).unwrap();
        for frost_line in 0..case.config.layers.len() {
            let mut model = case.model(scope.clone());
            let batch = Batch { frost_line, ..case.batch() };
            let scale = 1.0 / batch.targets.len() as f64;
            let objective = Objective { loss: &CrossEntropy, scale };
            let mut gradients = Gradients::default();
            let state = model.prefix(&batch).unwrap();
            let loss = model.loss_and_gradients(&batch, state, objective, &mut gradients, &mut ()).unwrap();
            assert!((loss * scale - case.loss()).abs() < 1e-5, "{}", case.name);
            compare(&case, &gradients);
            let reached = scope.reached_above(&case.config, frost_line);
            assert_eq!(reached, Scope::above(&case.config, frost_line.max(1)).unwrap());
            assert!(gradients.names().eq(reached.names()), "{} above {frost_line}", case.name);
        }
    }
}

#[test]
fn computing_again_changes_no_bit() {
    for case in Case::all() {
        let scope = Scope::everything(&case.config);
        let model = case.model(scope.clone());
        let (loss, gradients) = case.step_of(model.recomputing(true));
        let (expected_loss, expected) = case.step(scope);
        assert_eq!(loss, expected_loss, "{}", case.name);
        for ((name, a), (_, b)) in gradients.iter().zip(expected.iter()) {
            assert_eq!(largest_difference(a, b), 0.0, "{} {name}", case.name);
        }
    }
}

/// In bf16, on operations that every device has: what a GPU computes, to bf16's own precision.
#[test]
fn half_precision_is_near() {
    for case in Case::all() {
        let scope = Scope::above(&case.config, 1).unwrap();
        let (loss, gradients) = case.step_of(case.model_in(scope, ComputePrecision::Bf16));
        assert!((loss / case.loss() - 1.0).abs() < 1e-2, "{}: {loss} {}", case.name, case.loss());
        let (mut distance, mut all) = (0.0, 0.0);
        for (name, gradient) in gradients.iter() {
            let expected = &case.expected[&format!("grad.{name}")];
            let norm = squares(expected);
            distance += squares(&(gradient - expected).unwrap());
            all += norm;
        }
        assert!((distance / all).sqrt() < 3e-2, "{}: {:e}", case.name, (distance / all).sqrt());
    }
}

fn squares(x: &candle_core::Tensor) -> f64 {
    f64::from(x.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap())
}

/// A scope need not be whole layers: each tensor alone receives its gradient, and nothing else does.
#[test]
fn each_tensor_can_be_trained_alone() {
    single_tensors_agree(&Case::all());
}

/// For the project's other references, which do not travel with the repository: `FROSTLINE_GOLDEN=folder`.
#[test]
#[ignore = "needs FROSTLINE_GOLDEN=folder"]
fn other_references_agree_too() {
    let cases = golden();
    [logits_agree, gradients_agree, frozen_layers_have_no_gradient, single_tensors_agree]
        .iter()
        .for_each(|agree| agree(&cases));
}

fn logits_agree(cases: &[Case]) {
    for case in cases {
        let model = case.model(Scope::everything(&case.config));
        let batch = case.batch();
        let logits = model.logits(&batch).unwrap();
        let mut start = 0;
        for (row, example) in case.examples().iter().enumerate() {
            let length = example.tokens.len();
            let ours = logits.narrow(0, start, length).unwrap();
            start += length;
            let theirs = case.expected["logits"].get(row).unwrap().narrow(0, 0, length).unwrap();
            let difference = largest_difference(&ours, &theirs);
            assert!(difference < LOGITS, "{} row {row}: {difference:e}", case.name);
        }
    }
}

fn gradients_agree(cases: &[Case]) {
    for case in cases {
        let (loss, gradients) = case.step(Scope::everything(&case.config));
        assert!((loss - case.loss()).abs() < 1e-5, "{}: {loss} {}", case.name, case.loss());
        compare(case, &gradients);
        let expected: BTreeSet<&str> = case.expected.keys().filter_map(|name| name.strip_prefix("grad.")).collect();
        assert_eq!(gradients.names().collect::<BTreeSet<_>>(), expected, "{}", case.name);
    }
}

fn frozen_layers_have_no_gradient(cases: &[Case]) {
    for case in cases {
        for frost_line in 0..case.config.layers.len() {
            let scope = Scope::above(&case.config, frost_line).unwrap();
            let (loss, gradients) = case.step(scope.clone());
            assert!((loss - case.loss()).abs() < 1e-5, "{}: {loss} {}", case.name, case.loss());
            compare(case, &gradients);
            assert!(gradients.names().eq(scope.names()), "{} above {frost_line}", case.name);
            assert_eq!(check_coverage(&gradients.squares().unwrap(), &scope).unwrap(), [""; 0]);
        }
    }
}

fn single_tensors_agree(cases: &[Case]) {
    for case in cases {
        for spec in case.config.tensors() {
            let scope = Scope::of_names(&case.config, [spec.name.as_str()]).unwrap();
            let (_, gradients) = case.step(scope);
            assert_eq!(gradients.names().collect::<Vec<_>>(), [spec.name.as_str()], "{}", case.name);
            compare(case, &gradients);
        }
    }
}

fn compare(case: &Case, gradients: &Gradients) {
    for (name, gradient) in gradients.iter() {
        let expected = &case.expected[&format!("grad.{name}")];
        let distance = relative_distance(gradient, expected);
        // The softmax does not see a key's bias: its gradient is rounding alone, in PyTorch and here.
        if expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < ROUNDING {
            let ours = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(name.ends_with("bias") && ours < ROUNDING, "{} {name}: {ours:e}", case.name);
        } else {
            assert!(distance < GRADIENTS, "{} {name}: {distance:e}", case.name);
        }
    }
}
