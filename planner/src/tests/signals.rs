//! Variability and CKA against numpy's, and what must hold of them whatever the states are.

use super::common::{self, case};
use crate::salf::example_traces::ExampleTrace;
use crate::salf::signals::{self, Signals};
use crate::{PlanSettings, Silent, plan};
use frostline_schemas::data::RowSettings;
use proptest::prelude::*;
use serde::Deserialize;
use std::io::Write;

/// By `tests/cases/signals.py`.
#[derive(Deserialize)]
struct Case {
    name: String,
    classes: Vec<Option<usize>>,
    /// [examples, spaces, hidden].
    states: Vec<Vec<Vec<f32>>>,
    variability: Vec<Option<f64>>,
    cka_distance: Vec<Option<f64>>,
}

fn judged() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(case("signals.json")).unwrap()).unwrap()
}

fn of(states: &[Vec<Vec<f32>>], classes: &[Option<usize>]) -> Vec<Signals> {
    let trace = |(example, states): (usize, &Vec<Vec<f32>>)| ExampleTrace {
        example,
        deviations: vec![0.0; states.len()],
        states: states.concat(),
    };
    let traces: Vec<ExampleTrace> = states.iter().enumerate().map(trace).collect();
    signals::of_spaces(&traces, Some(classes), states[0].len())
}

fn near(found: Option<f64>, expected: Option<f64>, tolerance: f64) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (found - expected).abs() <= tolerance * expected.abs().max(1e-2),
        (None, None) => true,
        _ => false,
    }
}

#[test]
fn signals_are_numpys() {
    for case in judged() {
        let expected = case.variability.iter().zip(&case.cka_distance);
        for (space, (found, (variability, distance))) in
            of(&case.states, &case.classes).iter().zip(expected).enumerate()
        {
            assert!(near(found.variability, *variability, 1e-6), "{}, space {space}: {found:?}", case.name);
            assert!(near(found.cka_distance, *distance, 1e-6), "{}, space {space}: {found:?}", case.name);
        }
    }
}

#[test]
fn without_classes_there_is_no_variability() {
    let case = &judged()[0];
    let none = vec![None; case.classes.len()];
    assert!(of(&case.states, &none).iter().all(|found| found.variability.is_none()));
    // One class alone has nothing between it.
    let one = vec![Some(0); case.classes.len()];
    assert!(of(&case.states, &one).iter().all(|found| found.variability.is_none()));
}

#[test]
fn a_class_of_one_row_counts_for_nothing() {
    let case = &judged()[0];
    let (mut states, mut classes) = (case.states.clone(), case.classes.clone());
    let before = of(&states, &classes);
    let alone = states[0].iter().map(|state| state.iter().map(|x| 3.0 - x).collect()).collect();
    states.push(alone);
    classes.push(Some(9));
    for (before, after) in before.iter().zip(of(&states, &classes)) {
        assert!(near(after.variability, before.variability, 1e-9), "{before:?} {after:?}");
    }
}

#[test]
fn the_order_of_examples_and_the_numbers_of_classes_do_not_matter() {
    let case = &judged()[0];
    let before = of(&case.states, &case.classes);
    let states: Vec<_> = case.states.iter().rev().cloned().collect();
    let classes: Vec<_> = case.classes.iter().rev().map(|class| class.map(|class| 5 - class)).collect();
    for (before, after) in before.iter().zip(of(&states, &classes)) {
        assert!(near(after.variability, before.variability, 1e-9));
        assert!(near(after.cka_distance, before.cka_distance, 1e-9));
    }
}

/// Examples, spaces and hidden size of made-up states.
const SIZES: (usize, usize, usize) = (8, 2, 3);

fn states() -> impl Strategy<Value = Vec<Vec<Vec<f32>>>> {
    let state = || proptest::collection::vec(-1.0f32..1.0, SIZES.2);
    proptest::collection::vec(proptest::collection::vec(state(), SIZES.1), SIZES.0)
}

/// Turns the first two elements of a state by an angle, and scales all.
fn turned(state: &[f32], angle: f64, scale: f64) -> Vec<f32> {
    let (sin, cos) = angle.sin_cos();
    let mut state: Vec<f64> = state.iter().map(|&x| f64::from(x) * scale).collect();
    (state[0], state[1]) = (cos * state[0] - sin * state[1], sin * state[0] + cos * state[1]);
    state.into_iter().map(|x| x as f32).collect()
}

proptest! {
    #[test]
    fn signals_are_in_range_and_ignore_rotation_and_scale(states in states(), angle in 0.0..6.2f64, scale in 0.1..50.0f64) {
        let classes: Vec<Option<usize>> = (0..SIZES.0).map(|row| Some(row % 3)).collect();
        let before = of(&states, &classes);
        let other: Vec<Vec<Vec<f32>>> =
            states.iter().map(|spaces| vec![spaces[0].clone(), turned(&spaces[1], angle, scale)]).collect();
        let after = of(&other, &classes);
        prop_assert!(before[0].cka_distance.is_none());
        prop_assert!(before[1].cka_distance.is_none_or(|distance| (0.0..=1.0).contains(&distance)));
        prop_assert!(before.iter().all(|found| found.variability.is_none_or(|value| value >= 0.0 && value.is_finite())));
        prop_assert!(near(after[1].cka_distance, before[1].cka_distance, 1e-3));
        // Where classes hardly differ ν is as large as rounding makes it.
        prop_assume!(before[1].variability.is_some_and(|value| value < 1e3));
        prop_assert!(near(after[1].variability, before[1].variability, 1e-3), "{:?} {:?}", before, after);
    }

    #[test]
    fn a_space_and_its_own_rotation_are_no_distance_apart(states in states(), angle in 0.0..6.2f64, scale in 0.1..50.0f64) {
        let states: Vec<Vec<Vec<f32>>> =
            states.iter().map(|spaces| vec![spaces[0].clone(), turned(&spaces[0], angle, scale)]).collect();
        let found = of(&states, &[None; SIZES.0]);
        prop_assert!(found[1].cka_distance.is_none_or(|distance| distance < 1e-9), "{:?}", found);
    }
}

/// Rows of a prompt and one of three labels behind it, or of text.
fn rows(labels: bool) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for i in 0..60usize {
        let label = 20 + i % 3;
        let tokens: Vec<usize> =
            (0..4 + i % 9).map(|j| (i * 7 + j * 11 + j * i % 3) % 61).chain([label, label + 1]).collect();
        let prompt = if labels { tokens.len() - 2 } else { 1 };
        let labels: Vec<i64> =
            tokens.iter().enumerate().map(|(j, &token)| if j < prompt { -100 } else { token as i64 }).collect();
        writeln!(file, r#"{{"input_ids": {tokens:?}, "labels": {labels:?}}}"#).unwrap();
    }
    file
}

fn planned(labels: bool) -> Vec<frostline_schemas::plan::SpaceMeasured> {
    let data = rows(labels);
    let settings = PlanSettings {
        onnx: Some(case("llama").join(common::EXPORTS[0])),
        rows: RowSettings::up_to(64),
        ..PlanSettings::new(case("llama"), data.path().into())
    };
    plan(&settings, &Silent).unwrap().plan.spaces
}

#[test]
fn a_plan_holds_what_its_rows_states_say() {
    let spaces = planned(true);
    assert!(spaces.iter().all(|space| space.variability.is_some_and(|value| value > 0.0)), "{spaces:?}");
    assert!(spaces[0].cka_distance.is_none());
    assert!(spaces[1..].iter().all(|space| space.cka_distance.is_some_and(|value| value > 0.0 && value < 1.0)));
}

#[test]
fn rows_without_labels_have_no_variability_in_the_plan() {
    let spaces = planned(false);
    assert!(spaces.iter().all(|space| space.variability.is_none()), "{spaces:?}");
    assert!(spaces[1..].iter().all(|space| space.cka_distance.is_some()));
}
