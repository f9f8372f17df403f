//! Low-rank adapters: PEFT's loss, gradients and logits; training, the run folder, evaluation and merging.

mod common;

use std::collections::HashMap;
use std::path::Path;

use candle_core::Tensor;
use common::{Case, Losses, folder, largest_difference, record, relative_distance};
use frostline_runtime::Error;
use frostline_runtime::model::ComputePrecision;
use frostline_runtime::model::Model;
use frostline_runtime::model::Scope;
use frostline_runtime::model::check_coverage;
use frostline_runtime::model::target_names;
use frostline_runtime::run::{MergeTypes, merge};
use frostline_runtime::run::{Run, RunWriter};
use frostline_runtime::system::Device;
use frostline_runtime::train::{self, Hook, Hooks, Start, TrainSettings, Trained};
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::model::LinearLayout;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::run::*;

const FROST_LINE: usize = 2;

/// All tensors of a model.
fn names(config: &DecoderConfig) -> Vec<String> {
    config.tensors().into_iter().map(|spec| spec.name.clone()).collect()
}

fn lora(case: &Case, rank: usize, alpha: f64) -> TrainingMethod {
    TrainingMethod::Lora(Lora { rank, alpha, targets: target_names(&case.config, &names(&case.config)) })
}

fn scope(case: &Case, method: &TrainingMethod) -> Scope {
    Scope::above(&case.config, FROST_LINE).unwrap().by(&case.config, method).unwrap()
}

/// A case's model with the adapters of `tests/cases/lora`, and what PEFT says of it.
fn peft(name: &'static str, precision: ComputePrecision) -> (Case, Model, HashMap<String, Tensor>) {
    let case = Case::open(name);
    let path = folder("lora").join(format!("{name}.safetensors"));
    let expected = candle_core::safetensors::load(path, &common::device()).unwrap();
    let mut model = case.model_in(scope(&case, &lora(&case, 3, 5.0)), precision);
    for name in model.scope().clone().names() {
        model.parameters_mut().replace(name, expected[name].clone()).unwrap();
    }
    (case, model, expected)
}

/// The largest difference of logits, where there is a token.
fn difference(case: &Case, model: &Model, expected: &Tensor) -> f32 {
    let ours = model.logits(&case.batch()).unwrap();
    let (mut start, mut largest) = (0, 0f32);
    for (row, example) in case.examples().iter().enumerate() {
        let length = example.tokens.len();
        let theirs = expected.get(row).unwrap().narrow(0, 0, length).unwrap();
        largest = largest.max(largest_difference(&ours.narrow(0, start, length).unwrap(), &theirs));
        start += length;
    }
    largest
}

fn scalar(x: &Tensor) -> f64 {
    f64::from(x.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0])
}

#[test]
fn loss_logits_and_gradients_are_those_of_peft() {
    for name in ["llama", "gpt2"] {
        let (case, model, expected) = peft(name, ComputePrecision::F32);
        let apart = difference(&case, &model, &expected["logits"]);
        assert!(apart < 2e-5, "{name}: {apart:e}");
        let scope = model.scope().clone();
        for recomputes in [false, true] {
            let (_, model, _) = peft(name, ComputePrecision::F32);
            let (loss, gradients) = case.step_of(model.recomputing(recomputes));
            assert!((loss - scalar(&expected["loss"])).abs() < 1e-5, "{name}: {loss}");
            for (tensor, gradient) in gradients.iter() {
                let distance = relative_distance(gradient, &expected[&format!("grad.{tensor}")]);
                assert!(distance < 1e-5, "{name} {tensor}: {distance:e}");
            }
            assert!(gradients.names().eq(scope.names()));
            let theirs = expected.keys().filter(|name| name.starts_with("grad.")).count();
            assert_eq!(scope.names().len(), theirs);
        }
    }
}

#[test]
fn half_precision_is_near() {
    for name in ["llama", "gpt2"] {
        let (case, model, expected) = peft(name, ComputePrecision::Bf16);
        let (loss, gradients) = case.step_of(model);
        assert!((loss / scalar(&expected["loss"]) - 1.0).abs() < 1e-2, "{name}: {loss}");
        for (tensor, gradient) in gradients.iter() {
            let distance = relative_distance(gradient, &expected[&format!("grad.{tensor}")]);
            assert!(distance < 1e-1, "{name} {tensor}: {distance:e}");
        }
    }
}

/// A run folder of the adapters of `tests/cases/lora`.
#[test]
fn a_run_of_pefts_adapters_is_evaluated_and_merged_as_peft_does() {
    for name in ["llama", "gpt2"] {
        let (case, model, expected) = peft(name, ComputePrecision::F32);
        let out = tempfile::tempdir().unwrap();
        let (run_folder, merged) = (out.path().join("run"), out.path().join("merged"));
        let settings = settings(lora(&case, 3, 5.0));
        let mut writer = RunWriter::new(&run_folder, record(&settings, &case.folder, FROST_LINE)).unwrap();
        writer
            .started(&Start { frost_line: 2, trained_tensors: 1, trained_parameters: 1, steps: 1, by_clock: false })
            .unwrap();
        let base_weights = ModelFolder::open(&case.folder).unwrap().weights.digest().unwrap();
        writer.trained(&Trained { model, base_weights, seconds: 0.0 }).unwrap();

        let run = Run::open(&run_folder).unwrap();
        let model = open(&run, &case.folder);
        assert!(difference(&case, &model, &expected["logits"]) < 2e-5, "{name}");
        let report = merge(&run, &case.folder, &merged, MergeTypes::Exact).unwrap();
        assert_eq!((2 * report.tensors, report.lost()), (run.names().count(), 0.0));
        let model = Model::frozen(ModelFolder::open(&merged).unwrap(), Device::Cpu, None).unwrap();
        assert!(difference(&case, &model, &expected["merged.logits"]) < 2e-5, "{name}");
    }
}

/// By the chain rule from the gradient of `W + s B A`: dA = s Bᵀ dW, dB = s dW Aᵀ.
#[test]
fn gradients_of_every_family_follow_from_those_of_the_merged_weights() {
    for case in Case::all() {
        let name = &case.name;
        let out = tempfile::tempdir().unwrap();
        let (run_folder, merged) = (out.path().join("run"), out.path().join("merged"));
        let settings = settings(lora(&case, 2, 3.0));
        run(&case, &settings, &run_folder, &mut ());
        let run = Run::open(&run_folder).unwrap();
        merge(&run, &case.folder, &merged, MergeTypes::Exact).unwrap();

        let (loss, gradients) = case.step_of(open(&run, &case.folder));
        let whole = Case { folder: merged, ..Case::open(name) };
        let (merged_loss, whole_gradients) = whole.step(Scope::above(&case.config, FROST_LINE).unwrap());
        assert!((loss - merged_loss).abs() < 1e-5, "{name}: {loss} {merged_loss}");
        let whole: HashMap<&str, &Tensor> = whole_gradients.iter().collect();
        let model = open(&run, &case.folder);
        let gradients: HashMap<&str, &Tensor> = gradients.iter().collect();
        for adapter in scope(&case, &settings.training.method).adapters() {
            let [a, b] = adapter.tensors().map(|spec| spec.name.as_str());
            let linear = adapter.linear();
            let mut dw = whole[linear.weight.name.as_str()].clone();
            if linear.layout == LinearLayout::InputsFirst {
                dw = dw.t().unwrap().contiguous().unwrap();
            }
            let value = |name| model.parameters().trained_tensor(name).unwrap();
            let da = (value(b).t().unwrap().contiguous().unwrap().matmul(&dw).unwrap() * 1.5).unwrap();
            let db = (dw.matmul(&value(a).t().unwrap().contiguous().unwrap()).unwrap() * 1.5).unwrap();
            for (tensor, expected) in [(a, da), (b, db)] {
                let distance = relative_distance(gradients[tensor], &expected);
                assert!(distance < 1e-4, "{name} {tensor}: {distance:e}");
            }
        }
    }
}

#[test]
fn the_first_step_is_proved_without_a_word() {
    let case = Case::open("llama");
    let scope = scope(&case, &lora(&case, 4, 8.0));
    let mut model = case.model(scope.clone());
    model.initialise_adapters(1).unwrap();
    let (loss, gradients) = case.step_of(model);
    assert!((loss - case.loss()).abs() < 1e-5);
    let squares = gradients.squares().unwrap();
    for (name, square) in &squares {
        assert_eq!(*square == 0.0, name.ends_with("lora_A.weight"), "{name}");
    }
    assert_eq!(check_coverage(&squares, &scope).unwrap(), [""; 0]);
}

#[test]
fn training_moves_the_adapters_alone() {
    for case in Case::all() {
        let name = &case.name;
        let out = tempfile::tempdir().unwrap();
        let (run_folder, merged) = (out.path().join("run"), out.path().join("merged"));
        let mut losses = Losses::default();
        let trained = run(&case, &settings(lora(&case, 4, 8.0)), &run_folder, &mut losses);
        let losses = losses.0;
        assert!((losses[0] - case.loss()).abs() < 1e-5, "{name}: {losses:?}");
        assert!(losses[losses.len() - 1] < 0.8 * losses[0], "{name}: {losses:?}");

        let run = Run::open(&run_folder).unwrap();
        assert!(run.names().eq(trained.model.scope().names()));
        let model = open(&run, &case.folder);
        let batch = case.batch();
        let logits = model.logits(&batch).unwrap();
        let expected = trained.model.logits(&batch).unwrap();
        assert_eq!(largest_difference(&logits, &expected), 0.0, "{name}");

        let report = merge(&run, &case.folder, &merged, MergeTypes::Source).unwrap();
        assert_eq!(report.tensors, trained.model.scope().adapters().count());
        let model = Model::frozen(ModelFolder::open(&merged).unwrap(), Device::Cpu, None).unwrap();
        let difference = largest_difference(&model.logits(&batch).unwrap(), &expected);
        assert!(difference < 1e-4, "{name}: {difference:e}");
    }
}

#[test]
fn the_seed_decides_what_adapters_begin_with() {
    let case = Case::open("llama");
    let bytes = |seed: u64| {
        let out = tempfile::tempdir().unwrap();
        let mut settings = settings(lora(&case, 2, 4.0));
        (settings.training.seed, settings.training.steps) = (seed, 2);
        run(&case, &settings, out.path(), &mut ());
        std::fs::read(out.path().join(ADAPTER_FILE)).unwrap()
    };
    assert!(bytes(1) == bytes(1) && bytes(1) != bytes(2));

    let scope = scope(&case, &lora(&case, 2, 4.0));
    let mut model = case.model(scope.clone());
    model.initialise_adapters(1).unwrap();
    for adapter in scope.adapters() {
        let [a, b] = adapter.tensors().map(|spec| model.parameters().trained_tensor(&spec.name).unwrap());
        let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let bound = (adapter.linear().inputs as f32).sqrt().recip();
        assert!(largest(a) <= bound && largest(a) > 0.8 * bound && largest(b) == 0.0);
    }
}

#[test]
fn the_config_is_what_peft_reads() {
    let case = Case::open("gpt2");
    let out = tempfile::tempdir().unwrap();
    let method = TrainingMethod::Lora(Lora { rank: 2, alpha: 4.0, targets: vec!["c_attn".into()] });
    run(&case, &settings(method), out.path(), &mut ());
    let text = std::fs::read(out.path().join(ADAPTER_CONFIG_FILE)).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        config["target_modules"],
        serde_json::json!(["transformer.h.2.attn.c_attn", "transformer.h.3.attn.c_attn"])
    );
    assert_eq!((&config["r"], &config["lora_alpha"]), (&2.into(), &4.into()));
    assert_eq!((&config["peft_type"], &config["fan_in_fan_out"]), (&"LORA".into(), &true.into()));
    let run = Run::open(out.path()).unwrap();
    assert_eq!(run.names().next(), Some("base_model.model.transformer.h.2.attn.c_attn.lora_A.weight"));
}

#[test]
fn adapters_that_make_no_sense_are_errors() {
    let case = Case::open("llama");
    let error = |rank, alpha, targets: &[&str]| {
        let targets = targets.iter().map(|&name| name.to_owned()).collect();
        let method = TrainingMethod::Lora(Lora { rank, alpha, targets });
        Scope::above(&case.config, FROST_LINE).unwrap().by(&case.config, &method).unwrap_err().to_string()
    };
    let said = error(4, 8.0, &["q_proj", "c_attn", "norm"]);
    assert!(
        said.ends_with(
            "named `c_attn`, `norm`; there are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
        ),
        "{said}"
    );
    assert!(error(4, 8.0, &[]).starts_with("targets is an empty list"));
    assert!(error(0, 8.0, &["q_proj"]).starts_with("rank is 0"));
    let said = error(17, 8.0, &["q_proj", "k_proj"]);
    assert!(
        said.contains("at most 16, the smaller side of `model.layers.2.self_attn.k_proj` (16 outputs, 32 inputs)"),
        "{said}"
    );
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e7] {
        assert!(error(4, alpha, &["q_proj"]).starts_with("alpha is "));
    }
}

#[test]
fn a_run_that_is_not_what_its_settings_say_is_refused() {
    let case = Case::open("llama");
    let out = tempfile::tempdir().unwrap();
    run(&case, &settings(lora(&case, 2, 4.0)), out.path(), &mut ());
    let settings = std::fs::read_to_string(out.path().join(SETTINGS_FILE)).unwrap();
    let refused = |from: &str, to: &str| {
        assert!(settings.contains(from), "{settings}");
        std::fs::write(out.path().join(SETTINGS_FILE), settings.replace(from, to)).unwrap();
        let run = Run::open(out.path()).unwrap();
        let evaluated = run.model(ModelFolder::open(&case.folder).unwrap(), Device::Cpu, None).err().unwrap();
        let merged = merge(&run, &case.folder, &out.path().join("merged"), MergeTypes::Exact).unwrap_err();
        assert_eq!(evaluated.to_string(), merged.to_string());
        evaluated
    };
    for (from, to) in [
        ("\"rank\": 2", "\"rank\": 3"),
        ("\"frost_line\": 2", "\"frost_line\": 3"),
        ("\"trained_parameters\": ", "\"trained_parameters\": 1"),
    ] {
        let said = refused(from, to).to_string();
        assert!(
            said.contains("adapter_model.safetensors: does not hold the adapters that settings.json tells of"),
            "{said}"
        );
    }
    assert!(matches!(refused("\"frost_line\": 2", "\"frost_line\": 9"), Error::FrostLine { .. }));
}

fn open(run: &Run, model: &Path) -> Model {
    run.model(ModelFolder::open(model).unwrap(), Device::Cpu, None).unwrap()
}

fn run(case: &Case, settings: &TrainSettings, out: &Path, hook: &mut dyn Hook) -> Trained {
    let model = ModelFolder::open(&case.folder).unwrap();
    let identity = model.identity().unwrap();
    let scope = scope(case, &settings.training.method);
    let mut writer = RunWriter::new(out, record(settings, &case.folder, FROST_LINE)).unwrap();
    let mut both = Hooks::default().with(&mut writer).with(hook);
    train::train(model, &identity, scope, &case.examples(), settings, &mut both).unwrap()
}

fn settings(method: TrainingMethod) -> TrainSettings {
    let mut settings = common::settings(20, 3, 1);
    settings.training.method = method;
    settings.training.gradient_clip = None;
    settings.training.order = Order::File;
    settings
}
