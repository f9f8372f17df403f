//! From examples to a plan, end to end.

use std::io::Write;
use std::path::Path;

use super::common::{self, Expected, case};
use crate::{Aggregate, EngineChoice, Error, PlanSettings, Silent, Strategy, plan};
use frostline_schemas::data::RowSettings;
use frostline_schemas::device::Device;
use frostline_schemas::plan::{DecidedBy, Plan, Stability};

/// The reference's rows as `{"input_ids", "labels"}`.
fn data(family: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for example in Expected::read(family).examples() {
        let mut labels = vec![-100; example.tokens.len()];
        for target in &example.targets {
            labels[target.position as usize + 1] = i64::from(target.token);
        }
        writeln!(file, r#"{{"input_ids": {:?}, "labels": {labels:?}}}"#, example.tokens).unwrap();
    }
    file
}

fn settings(family: &str, export: &str, data: &Path) -> PlanSettings {
    PlanSettings {
        onnx: Some(case(family).join(export)),
        rows: RowSettings::up_to(64),
        ..PlanSettings::new(case(family), data.into())
    }
}

fn text(plan: &Plan) -> String {
    plan.to_text().unwrap()
}

#[test]
fn a_plan_is_whole_and_the_same_each_time() {
    let data = data("gemma3");
    let settings = settings("gemma3", "model.dynamo.onnx", data.path());
    let first = plan(&settings, &Silent).unwrap().plan;
    assert_eq!(Plan::parse(Path::new("plan.json"), text(&first).as_bytes()).unwrap(), first);
    assert_eq!(text(&plan(&settings, &Silent).unwrap().plan), text(&first));
    assert_eq!(first.spaces.len(), 5);
    assert_eq!(first.spaces.iter().map(|space| space.ends_here).sum::<usize>(), first.data.examples);
    assert_eq!(first.decision.frost_line, frost_line(&Expected::read("gemma3")));
}

/// Many rows of unlike lengths, whose every token is a target.
fn many_rows(rows: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for i in 0..rows {
        let tokens: Vec<usize> = (0..3 + i * 5 % 17).map(|j| (i * 13 + j * (7 + i % 5)) % 61).collect();
        writeln!(file, r#"{{"input_ids": {tokens:?}, "labels": {tokens:?}}}"#).unwrap();
    }
    file
}

#[test]
fn left_open_the_examples_are_as_many_as_it_takes_and_the_plan_is_that_of_so_many() {
    let data = many_rows(300);
    for aggregate in [Aggregate::Median, Aggregate::MeanTrace, Aggregate::Quantile(0.3)] {
        for seed in 0..3 {
            let open = PlanSettings { aggregate, seed, ..settings("llama", "model.dynamo.onnx", data.path()) };
            let found = plan(&open, &Silent).unwrap().plan;
            let count = found.data.examples;
            assert!([32, 64, 128, 256].contains(&count), "{count}");
            let counted = PlanSettings { examples: Some(count), ..open.clone() };
            assert_eq!(text(&plan(&counted, &Silent).unwrap().plan), text(&found), "{aggregate} {seed}");
            assert!(count == 256 || found.decision.stability.unwrap().agree >= 0.95);
            // Of fewer it was not stable.
            for fewer in [32, 64, 128].into_iter().filter(|&fewer| fewer < count) {
                let fewer = PlanSettings { examples: Some(fewer), ..open.clone() };
                assert!(plan(&fewer, &Silent).unwrap().plan.decision.stability.unwrap().agree < 0.95);
            }
        }
    }
}

#[test]
fn a_frost_line_that_the_budget_decides_takes_the_fewest_examples() {
    let data = many_rows(300);
    let free = settings("llama", "model.dynamo.onnx", data.path());
    let cost = plan(&free, &Silent).unwrap().plan.cost;
    let share = cost.frost_lines[3].flops as f64 / cost.frost_lines[0].flops as f64;
    let tight = plan(&PlanSettings { budget: Some(share * 1.01), ..free }, &Silent).unwrap().plan;
    assert_eq!((tight.data.examples, tight.decision.frost_line), (32, 3));
    assert_eq!(tight.decision.stability.unwrap(), Stability { agree: 1.0, low: 3, high: 3 });
}

#[test]
fn all_of_a_small_file_are_read_where_the_line_is_not_stable() {
    let data = many_rows(20);
    let found = plan(&settings("llama", "model.dynamo.onnx", data.path()), &Silent).unwrap().plan;
    assert_eq!(found.data.examples, 20);
}

#[test]
fn without_a_run_the_examples_that_costs_are_worked_out_for_are_256() {
    let data = many_rows(300);
    let by_rule = PlanSettings { strategy: Strategy::All, ..settings("llama", "", data.path()) };
    let found = plan(&by_rule, &Silent).unwrap().plan;
    assert_eq!((found.data.examples, found.decision.stability), (256, None));
}

/// The frost line that PyTorch's deviations call for. One example for each target, as in `data`.
fn frost_line(expected: &Expected) -> usize {
    let (targets, layers) = (expected.targets(), expected.normed.len() - 1);
    let d = |space: usize, target: usize| f64::from(expected.deviation[space * targets + target]).max(1e-6);
    let gain = |i: usize, target: usize| (d(i - 1, target) / d(i, target)).ln() / ((i + 1) as f64 / i as f64).ln();
    let end = |target: usize| {
        // Strictly larger, from the input up: ties go to the lower layer; the last layer is always trained.
        (1..layers).fold((0, 0.0), |best, i| if gain(i, target) > best.1 { (i, gain(i, target)) } else { best }).0
    };
    let mut ends: Vec<usize> = (0..targets).map(end).collect();
    ends.sort_unstable();
    ends[(targets - 1) / 2]
}

#[test]
fn exports_and_engines_decide_alike() {
    for family in common::cases() {
        let data = data(&family);
        let first = plan(&settings(&family, "model.dynamo.onnx", data.path()), &Silent).unwrap().plan;
        assert_eq!(first.decision.frost_line, frost_line(&Expected::read(&family)), "{family}");
        let other = plan(&settings(&family, "model.torchscript.onnx", data.path()), &Silent).unwrap().plan;
        assert_eq!(first.id, other.id, "{family}");
        assert_ne!(first.onnx.as_ref().unwrap().digest, other.onnx.as_ref().unwrap().digest);
    }
}

#[test]
#[ignore = "needs ONNX Runtime: ORT_DYLIB_PATH, or the Python package onnxruntime"]
fn onnx_runtime_decides_alike() {
    for family in common::cases() {
        let data = data(&family);
        let first = settings(&family, "model.dynamo.onnx", data.path());
        let engine = EngineChoice::Ort { library: None, device: Device::Cpu };
        let other = plan(&PlanSettings { engine, ..first.clone() }, &Silent).unwrap().plan;
        let first = plan(&first, &Silent).unwrap().plan;
        assert_eq!((first.id, other.engine.as_ref().unwrap().name.as_str()), (other.id, "ort"), "{family}");
    }
}

#[test]
fn a_budget_decides_or_is_refused() {
    let data = data("llama");
    let settings = settings("llama", "model.dynamo.onnx", data.path());
    let free = plan(&settings, &Silent).unwrap().plan;
    let last = free.cost.frost_lines.last().unwrap();
    let share = last.flops as f64 / free.cost.frost_lines[0].flops as f64;
    let tight = PlanSettings { budget: Some(share), ..settings.clone() };
    let bound = plan(&tight, &Silent).unwrap().plan;
    assert_eq!(bound.decision.frost_line, 3);
    assert_eq!(bound.decision.decided_by == DecidedBy::Budget, free.decision.frost_line < 3);
    let impossible = PlanSettings { budget: Some(0.01), ..settings };
    assert!(matches!(plan(&impossible, &Silent), Err(Error::Budget { .. })));
}

#[test]
fn a_model_in_shards_with_external_data() {
    let data = data("llama");
    let sharded = PlanSettings { onnx: None, ..settings("llama-sharded", "", data.path()) };
    let whole = plan(&settings("llama", "model.dynamo.onnx", data.path()), &Silent).unwrap().plan;
    assert_eq!(plan(&sharded, &Silent).unwrap().plan.id, whole.id);
}
