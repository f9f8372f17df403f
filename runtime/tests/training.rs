//! Training on the tiny cases, what it leaves behind, and what it refuses.

mod common;

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{Device as TensorDevice, Tensor};
use common::{Case, Losses, folder, largest_difference, record, settings};
use frostline_runtime::Error;
use frostline_runtime::cache::{CacheSettings, CacheUse};
use frostline_runtime::data::Batch;
use frostline_runtime::evaluate::evaluate;
use frostline_runtime::model::Model;
use frostline_runtime::model::Scope;
use frostline_runtime::model::check_coverage;
use frostline_runtime::model::{ComputePrecision, Parameters};
use frostline_runtime::run::{MergeTypes, merge};
use frostline_runtime::run::{Run, RunWriter};
use frostline_runtime::system::Device;
use frostline_runtime::train::{self, Caching, Hook, Hooks, Start, Step, TrainSettings, Trained};
use frostline_schemas::cache::{CacheError, Store};
use frostline_schemas::data::{Example, Target};
use frostline_schemas::digest::Digest;
use frostline_schemas::model;
use frostline_schemas::model::{Dtype, Weights};
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::run::*;

fn train(model: &Path, frost_line: usize, settings: &TrainSettings, hook: &mut dyn Hook) -> Result<Trained, Error> {
    let model = ModelFolder::open(model).unwrap();
    let (identity, scope) = (model.identity().unwrap(), Scope::above(&model.config, frost_line).unwrap());
    train::train(model, &identity, scope, &Case::open("llama").examples(), settings, hook)
}

fn identity(model: &Path) -> ModelIdentity {
    ModelFolder::open(model).unwrap().identity().unwrap()
}

/// Trains above frost line 2 and leaves a run in `out`.
fn run(model: &Path, out: &Path) -> Trained {
    run_with(&settings(5, 2, 1), model, out)
}

fn run_with(settings: &TrainSettings, model: &Path, out: &Path) -> Trained {
    let mut writer = RunWriter::new(out, record(settings, model, 2)).unwrap();
    train(model, 2, settings, &mut writer).unwrap()
}

fn logits(model: &Model) -> Tensor {
    model.logits(&Batch::new(&Case::open("llama").examples())).unwrap()
}

fn logits_of(model: &Path) -> Tensor {
    let config = model::read_config(model).unwrap();
    let scope = Scope::everything(&config);
    let weights = Weights::open(model).unwrap();
    let parameters = Parameters::new(&config, weights, &scope, TensorDevice::Cpu, ComputePrecision::F32).unwrap();
    logits(&Model::new(config, scope, parameters))
}

#[test]
fn training_lowers_the_loss_of_every_family() {
    for case in Case::all() {
        let model = ModelFolder::open(&case.folder).unwrap();
        let scope = Scope::above(&model.config, 2).unwrap();
        let (mut losses, identity) = (Losses::default(), model.identity().unwrap());
        train::train(model, &identity, scope, &case.examples(), &settings(20, 3, 1), &mut losses).unwrap();
        let (first, last) = (losses.0[0], losses.0[19]);
        // Capped logits bound the loss from below; their cap or scale slows its fall.
        let (cap, scale) = (case.config.logit_softcap, case.config.logit_scale);
        let floor = cap.map_or(0.0, |cap| ((case.config.vocabulary - 1) as f64 * (-2.0 * cap).exp()).ln_1p());
        let share = if cap.or(scale).is_some() { 0.4 } else { 0.2 };
        assert!((first - case.loss()).abs() < 1e-5, "{}: {first}", case.name);
        assert!(last - floor < share * (first - floor), "{}: {first} {last}", case.name);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [a, b] = folders.each_ref().map(|folder_| {
        run(&folder("llama"), folder_.path());
        std::fs::read(folder_.path().join(TRAINED_FILE)).unwrap()
    });
    assert!(a == b);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let [one, two, five] = [1, 2, 5].map(|threads| {
        let out = tempfile::tempdir().unwrap();
        run_with(&TrainSettings { threads: Some(threads), ..settings(5, 3, 1) }, &folder("llama"), out.path());
        (losses(out.path()), std::fs::read(out.path().join(TRAINED_FILE)).unwrap())
    });
    assert!(one == two && one == five);
}

fn cached(root: &Path, using: CacheUse) -> Option<CacheSettings> {
    Some(CacheSettings { store: Store::new(root, 1 << 30), using })
}

/// What is heard of a run with these settings above frost line 2: losses, and states that were cached first.
#[derive(Default)]
struct Heard {
    losses: Vec<f64>,
    cached: usize,
    bytes: u64,
}

impl Hook for Heard {
    fn caching(&mut self, progress: Caching) -> Result<(), Error> {
        (self.cached, self.bytes) = (progress.done, progress.bytes);
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        self.losses.push(step.metrics.loss);
        Ok(ControlFlow::Continue(()))
    }
}

fn heard(case: &Case, settings: &TrainSettings) -> Heard {
    let model = ModelFolder::open(&case.folder).unwrap();
    let (identity, scope) = (model.identity().unwrap(), Scope::above(&model.config, 2).unwrap());
    let mut heard = Heard::default();
    train::train(model, &identity, scope, &case.examples(), settings, &mut heard).unwrap();
    heard
}

#[test]
fn a_cache_changes_no_bit_of_any_loss() {
    for case in Case::all() {
        let root = tempfile::tempdir().unwrap();
        let uncached = heard(&case, &settings(6, 2, 1));
        assert_eq!(uncached.cached, 0);
        // Cold and in batches of one, then warm with other settings.
        let cache = cached(root.path(), CacheUse::Always);
        let one = heard(&case, &TrainSettings { cache: cache.clone(), ..settings(6, 1, 2) });
        assert!(one.cached == case.examples().len() && one.bytes > 0, "{}", case.name);
        let warm = heard(&case, &TrainSettings { cache, ..settings(6, 2, 1) });
        assert_eq!((warm.losses, warm.cached), (uncached.losses, 0), "{}", case.name);
    }
}

#[test]
fn a_cache_is_used_where_it_pays() {
    let (case, root) = (Case::open("llama"), tempfile::tempdir().unwrap());
    let rows = case.examples().len();
    let settings =
        |steps| TrainSettings { cache: cached(root.path(), CacheUse::WhereItPays), ..settings(steps, rows, 1) };
    // Each row once: nothing would be read again.
    assert_eq!(heard(&case, &settings(1)).cached, 0);
    assert_eq!(heard(&case, &settings(2)).cached, rows);
    assert_eq!(heard(&case, &settings(1)).cached, 0);
}

#[test]
fn a_cache_without_room_is_no_reason_to_stop_unless_it_was_asked_for() {
    let (case, root) = (Case::open("llama"), tempfile::tempdir().unwrap());
    let cache = |using| Some(CacheSettings { store: Store::new(root.path(), 100), using });
    let uncached = heard(&case, &settings(2, 2, 1));
    let tight = heard(&case, &TrainSettings { cache: cache(CacheUse::WhereItPays), ..settings(2, 2, 1) });
    assert_eq!(tight.losses, uncached.losses);
    let model = ModelFolder::open(&case.folder).unwrap();
    let (identity, scope) = (model.identity().unwrap(), Scope::above(&model.config, 2).unwrap());
    let settings = TrainSettings { cache: cache(CacheUse::Always), ..settings(2, 2, 1) };
    let refused = train::train(model, &identity, scope, &case.examples(), &settings, &mut ());
    let refused = refused.err().unwrap();
    assert!(matches!(refused, Error::Cache(CacheError::Limit { .. })), "{refused}");
    assert_eq!(refused.setting(), Some("cache_limit"));
}

/// In a folder that cannot be one, as in a home that cannot be written to.
#[test]
fn a_cache_that_cannot_be_written_is_no_reason_to_stop_unless_it_was_asked_for() {
    let (case, folder) = (Case::open("llama"), tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let uncached = heard(&case, &settings(2, 2, 1)).losses;
    let cache = |using| cached(&file.join("cache"), using);
    let unwritten = heard(&case, &TrainSettings { cache: cache(CacheUse::WhereItPays), ..settings(2, 2, 1) });
    assert_eq!(unwritten.losses, uncached);
    let model = ModelFolder::open(&case.folder).unwrap();
    let (identity, scope) = (model.identity().unwrap(), Scope::above(&model.config, 2).unwrap());
    let settings = TrainSettings { cache: cache(CacheUse::Always), ..settings(2, 2, 1) };
    let refused = train::train(model, &identity, scope, &case.examples(), &settings, &mut ());
    assert!(matches!(refused.err().unwrap(), Error::Cache(CacheError::File { .. })));
}

#[test]
fn targets_outside_their_row_are_named() {
    let case = Case::open("llama");
    let model = case.model(Scope::nothing());
    for positions in [vec![3], vec![1, 0], vec![1, 1]] {
        let targets = positions.iter().map(|&position| Target { position, token: 1 }).collect();
        let refused = model.check(&[Example::new(7, vec![1, 2, 3], targets)]).unwrap_err();
        assert!(refused.to_string().starts_with("line 7: targets must stand"), "{refused}");
    }
}

/// A layer updated as soon as its gradients are there is updated as it would be at the end.
#[test]
fn updating_layer_by_layer_changes_no_bit() {
    for case in Case::all() {
        let at_once = settings(5, 3, 1);
        let mut at_the_end = at_once.clone();
        // A norm that is never reached: gradients are multiplied by 1.
        at_the_end.training.gradient_clip = Some(1e30);
        let mut both = [at_once, at_the_end];
        both[0].training.gradient_clip = None;
        let [a, b] = both.map(|settings| heard(&case, &settings).losses);
        assert_eq!(a, b, "{}", case.name);
    }
}

fn losses(run: &Path) -> Vec<f64> {
    let metrics = std::fs::read_to_string(run.join(METRICS_FILE)).unwrap();
    metrics.lines().map(|line| serde_json::from_str::<StepMetrics>(line).unwrap().loss).collect()
}

#[test]
fn micro_batches_add_up_to_one_batch() {
    let [whole, parts] = [settings(6, 4, 1), settings(6, 2, 2)].map(|settings| {
        let mut losses = Losses::default();
        train(&folder("llama"), 1, &settings, &mut losses).unwrap();
        losses.0
    });
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-4, "{whole:?} {parts:?}");
    }
}

#[test]
fn a_run_holds_the_trained_tensors_and_nothing_else() {
    let out = tempfile::tempdir().unwrap();
    let trained = run(&folder("llama"), out.path());
    let run = Run::open(out.path()).unwrap();
    assert!(run.names().eq(trained.model.scope().names()));
    assert_eq!((run.record.frost_line, run.record.plan), (2, Digest::of(b"a plan")));
    let metrics = std::fs::read_to_string(out.path().join(METRICS_FILE)).unwrap();
    let steps: Vec<StepMetrics> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.iter().map(|metrics| metrics.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(matches!(RunWriter::new(out.path(), run.record.clone()), Err(Error::Exists(_))));

    let mut model = Model::frozen(ModelFolder::open(&folder("llama")).unwrap(), Device::Cpu, None).unwrap();
    run.apply(&identity(&folder("llama")), model.parameters_mut()).unwrap();
    let reloaded = logits(&model);
    assert_eq!(largest_difference(&reloaded, &logits(&trained.model)), 0.0);
}

#[test]
fn a_merged_folder_is_the_trained_model_and_frozen_tensors_keep_every_bit() {
    for name in ["llama", "llama-sharded"] {
        let (model, out) = (folder(name), tempfile::tempdir().unwrap());
        let (run_folder, merged) = (out.path().join("run"), out.path().join("merged"));
        let trained = run(&model, &run_folder);
        let run = Run::open(&run_folder).unwrap();
        let report = merge(&run, &model, &merged, MergeTypes::Source).unwrap();
        assert_eq!((report.tensors, report.lost()), (run.names().count(), 0.0));
        assert_eq!(largest_difference(&logits_of(&merged), &logits(&trained.model)), 0.0);

        let (before, after) = (Weights::open(&model).unwrap(), Weights::open(&merged).unwrap());
        assert_eq!(before.shards(), after.shards());
        for tensor in before.names() {
            let same = before.get(tensor).unwrap().bytes == after.get(tensor).unwrap().bytes;
            assert_eq!(same, !run.names().any(|name| name == tensor), "{name} {tensor}");
        }
        assert!(merged.join("config.json").exists());
        assert!(!merged.join("model.onnx").exists() && !merged.join("model.dynamo.onnx").exists());
        assert!(matches!(merge(&run, &model, &merged, MergeTypes::Source), Err(Error::Exists(_))));
    }
}

#[test]
fn casting_says_what_it_loses() {
    let (model, out) = (folder("llama-sharded"), tempfile::tempdir().unwrap());
    let (run_folder, merged) = (out.path().join("run"), out.path().join("merged"));
    run(&model, &run_folder);
    let report = merge(&Run::open(&run_folder).unwrap(), &model, &merged, MergeTypes::All(Dtype::BF16)).unwrap();
    assert!(report.lost() > 1e-4 && report.lost() < 0.2, "{report:?}");
    let weights = Weights::open(&merged).unwrap();
    assert!(weights.names().all(|name| weights.get(name).unwrap().dtype == Dtype::BF16));
    let bytes: usize = weights.names().map(|name| weights.get(name).unwrap().bytes.len()).sum();
    let json = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(merged.join(file)).unwrap()).unwrap()
    };
    assert_eq!(json("model.safetensors.index.json")["metadata"]["total_size"], bytes);
    assert_eq!(json("config.json")["dtype"], "bfloat16");
    assert!(largest_difference(&logits_of(&merged), &logits_of(&model)) > 0.0);
}

#[test]
fn merging_into_a_model_in_half_precision_loses_nothing_unless_asked_to() {
    let out = tempfile::tempdir().unwrap();
    let at = |name: &str| out.path().join(name);
    run(&folder("llama"), &at("first"));
    let halves = at("halves");
    merge(&Run::open(&at("first")).unwrap(), &folder("llama"), &halves, MergeTypes::All(Dtype::BF16)).unwrap();

    let trained = run(&halves, &at("run"));
    let run = Run::open(&at("run")).unwrap();
    assert_eq!(merge(&run, &halves, &at("exact"), MergeTypes::Exact).unwrap().lost(), 0.0);
    let expected = logits(&trained.model);
    assert_eq!(largest_difference(&logits_of(&at("exact")), &expected), 0.0);
    let weights = Weights::open(&at("exact")).unwrap();
    assert_eq!(weights.get("model.layers.0.mlp.up_proj.weight").unwrap().dtype, Dtype::BF16);
    assert_eq!(weights.get("model.layers.3.mlp.up_proj.weight").unwrap().dtype, Dtype::F32);

    assert!(merge(&run, &halves, &at("source"), MergeTypes::Source).unwrap().lost() > 0.0);
    assert!(largest_difference(&logits_of(&at("source")), &expected) > 0.0);
}

#[test]
fn a_run_goes_with_its_own_model_only() {
    let out = tempfile::tempdir().unwrap();
    run(&folder("llama"), out.path());
    let run = Run::open(out.path()).unwrap();
    let error = merge(&run, &folder("llama-tied"), &out.path().join("merged"), MergeTypes::Source).unwrap_err();
    assert!(matches!(&error, Error::OtherModel { .. }), "{error}");
    assert!(error.to_string().contains("weights: ") && error.to_string().contains("config.json: "), "{error}");
    assert!(!out.path().join("merged").exists());
}

#[test]
fn a_run_does_not_go_with_the_same_weights_and_another_tokenizer() {
    let out = tempfile::tempdir().unwrap();
    let model = copy_of("llama", &out.path().join("model"));
    run(&model, &out.path().join("run"));
    let run = Run::open(&out.path().join("run")).unwrap();
    std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
    let Err(Error::OtherModel { differences, .. }) = run.check_model(&identity(&model)) else { panic!("accepted") };
    assert!(differences.len() == 1 && differences[0].starts_with("tokenizer"), "{differences:?}");
}

/// A model folder that a test may change.
fn copy_of(case: &str, to: &Path) -> std::path::PathBuf {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(folder(case)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    to.into()
}

/// As `save_pretrained` may leave it: one file, but of another name and found through an index.
fn one_shard(to: &Path, metadata: serde_json::Value) -> std::path::PathBuf {
    const SHARD: &str = "model-00001-of-00001.safetensors";
    let model = copy_of("llama", to);
    std::fs::rename(model.join("model.safetensors"), model.join(SHARD)).unwrap();
    let weights = Weights::open(&folder("llama")).unwrap();
    let files: serde_json::Map<_, _> = weights.names().map(|name| (name.to_owned(), SHARD.into())).collect();
    let index = serde_json::json!({ "metadata": metadata, "weight_map": files });
    std::fs::write(model.join("model.safetensors.index.json"), index.to_string()).unwrap();
    model
}

#[test]
fn a_single_file_that_an_index_names_keeps_its_index() {
    let out = tempfile::tempdir().unwrap();
    let model = one_shard(&out.path().join("model"), serde_json::json!({}));
    let (run_folder, merged) = (out.path().join("run"), out.path().join("merged"));
    let trained = run(&model, &run_folder);
    merge(&Run::open(&run_folder).unwrap(), &model, &merged, MergeTypes::Source).unwrap();
    assert_eq!(largest_difference(&logits_of(&merged), &logits(&trained.model)), 0.0);
}

#[test]
fn an_index_that_cannot_be_edited_is_named_and_nothing_stays() {
    let out = tempfile::tempdir().unwrap();
    let model = one_shard(&out.path().join("model"), serde_json::json!("none"));
    let run_folder = out.path().join("run");
    run(&model, &run_folder);
    let error =
        merge(&Run::open(&run_folder).unwrap(), &model, &out.path().join("merged"), MergeTypes::Source).unwrap_err();
    let error = error.to_string();
    assert!(error.ends_with("model.safetensors.index.json: `metadata` is not a JSON object"), "{error}");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 2);
}

/// The run and the merged folder lie in the model's, and links lead in circles.
#[cfg(unix)]
#[test]
fn what_lies_beside_the_weights_is_copied_once_and_runs_are_not() {
    use std::os::unix::fs::symlink;
    let out = tempfile::tempdir().unwrap();
    let model = copy_of("llama", &out.path().join("model"));
    std::fs::create_dir(model.join("extras")).unwrap();
    std::fs::write(model.join("extras/notes.txt"), "notes").unwrap();
    std::fs::write(out.path().join("blob"), "linked").unwrap();
    symlink(out.path().join("blob"), model.join("LICENSE")).unwrap();
    symlink(&model, model.join("extras/circle")).unwrap();
    let run_folder = model.join("run");
    run(&model, &run_folder);
    let merged = model.join("merged");
    merge(&Run::open(&run_folder).unwrap(), &model, &merged, MergeTypes::Source).unwrap();
    assert_eq!(std::fs::read(merged.join("extras/notes.txt")).unwrap(), b"notes");
    assert!(merged.join("LICENSE").symlink_metadata().unwrap().is_file());
    assert_eq!(std::fs::read(merged.join("LICENSE")).unwrap(), b"linked");
    for absent in ["run", "merged", "extras/circle"] {
        assert!(!merged.join(absent).exists(), "{absent}");
    }
}

/// Ends training after a step.
struct StopAfter(u64);

impl Hook for StopAfter {
    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        let enough = step.metrics.step == self.0;
        Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}

/// A clock that shows these shares, and the rates of the steps that were taken.
struct Clock {
    shares: Vec<f64>,
    rates: Vec<f64>,
}

impl Hook for Clock {
    fn started(&mut self, start: &Start) -> Result<(), Error> {
        assert!(start.by_clock);
        Ok(())
    }

    fn passed(&mut self) -> Option<f64> {
        self.shares.get(self.rates.len()).copied()
    }

    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        self.rates.push(step.metrics.learning_rate);
        Ok(ControlFlow::Continue(()))
    }
}

#[test]
fn a_clock_decides_on_rates_and_end() {
    let mut settings = settings(2, 2, 1);
    (settings.training.schedule, settings.training.warmup_steps) = (Schedule::Linear, 0);
    let rate = settings.training.learning_rate;
    let rates = |shares: &[f64]| {
        let mut clock = Clock { shares: shares.to_vec(), rates: Vec::new() };
        train(&folder("llama"), 2, &settings, &mut clock).unwrap();
        clock.rates
    };
    assert_eq!(rates(&[0.0, 0.25, 0.5, 0.75, 1.0]), [rate, 0.75 * rate, 0.5 * rate, 0.25 * rate]);
    // One step is always taken.
    assert_eq!(rates(&[1.5, 2.0]), [0.0]);
}

#[test]
fn a_hook_can_end_training_early_and_keep_what_was_trained() {
    let out = tempfile::tempdir().unwrap();
    let settings = settings(5, 2, 1);
    let writer = RunWriter::new(out.path(), record(&settings, &folder("llama"), 2)).unwrap();
    let mut hooks = Hooks::default().with(StopAfter(3)).with(writer);
    let trained = train(&folder("llama"), 2, &settings, &mut hooks).unwrap();
    let metrics = std::fs::read_to_string(out.path().join(METRICS_FILE)).unwrap();
    assert_eq!(metrics.lines().count(), 3);
    assert!(Run::open(out.path()).unwrap().names().eq(trained.model.scope().names()));
}

#[test]
fn a_run_that_did_not_end_is_told_apart() {
    let out = tempfile::tempdir().unwrap();
    let mut writer = RunWriter::new(out.path(), record(&settings(5, 2, 1), &folder("llama"), 2)).unwrap();
    writer
        .started(&Start { frost_line: 2, trained_tensors: 18, trained_parameters: 100, steps: 5, by_clock: false })
        .unwrap();
    let Err(error) = Run::open(out.path()) else { panic!("opened a run without weights") };
    assert!(error.to_string().contains("training has not ended"), "{error}");
}

#[test]
fn gradients_that_do_not_match_the_scope_are_named() {
    let case = Case::open("llama");
    let (_, mut gradients) = case.step(Scope::above(&case.config, 3).unwrap());
    let error = check_coverage(&gradients.squares().unwrap(), &Scope::above(&case.config, 2).unwrap()).unwrap_err();
    let Error::Coverage(gap) = error else { panic!("{error}") };
    assert!(gap.missing.iter().all(|name| name.starts_with("model.layers.2.")) && gap.missing.len() == 9);
    assert!(gap.unplanned.is_empty() && gap.infinite.is_empty());

    let norm = Scope::of_names(&case.config, ["model.norm.weight"]).unwrap();
    let Err(Error::Coverage(gap)) = check_coverage(&gradients.squares().unwrap(), &norm) else { panic!("covered") };
    assert_eq!(gap.unplanned.len(), 9);

    let nan = Tensor::full(f32::NAN, case.config.hidden, &TensorDevice::Cpu).unwrap();
    gradients.add("model.norm.weight", nan).unwrap();
    let error = check_coverage(&gradients.squares().unwrap(), &Scope::above(&case.config, 3).unwrap()).unwrap_err();
    assert!(error.to_string().ends_with("not finite: model.norm.weight; no weights were written"), "{error}");
}

#[test]
fn a_loss_that_is_not_finite_stops_training_and_names_the_step() {
    let diverging = |learning_rate| {
        let mut settings = settings(50, 3, 1);
        settings.training.learning_rate = learning_rate;
        train(&folder("llama"), 0, &settings, &mut ()).err().unwrap().to_string()
    };
    let error = diverging(1e38);
    assert!(error.contains("of step 2 is") && error.contains("stopped before its update"), "{error}");
}

#[test]
fn weights_that_the_last_step_made_infinite_are_not_written() {
    let out = tempfile::tempdir().unwrap();
    let mut settings = settings(1, 3, 1);
    settings.training.learning_rate = 1e39;
    let mut writer = RunWriter::new(out.path(), record(&settings, &folder("llama"), 2)).unwrap();
    let error = train(&folder("llama"), 2, &settings, &mut writer).err().unwrap();
    let Error::Diverged { names } = &error else { panic!("{error}") };
    assert!(names.contains(&"model.norm.weight".to_owned()), "{error}");
    assert!(!out.path().join(TRAINED_FILE).exists());
}

#[test]
fn names_that_the_model_does_not_have_are_an_error() {
    let case = Case::open("llama");
    let names = ["model.norm.weight", "model.layers.4.mlp.up_proj.weight", "lm_head.bias"];
    let error = Scope::of_names(&case.config, names).unwrap_err().to_string();
    assert!(error.contains("`lm_head.bias`, `model.layers.4.mlp.up_proj.weight`;"), "{error}");
    assert!(matches!(Scope::of_names(&case.config, []), Err(Error::EmptyScope)));
    assert!(matches!(Scope::above(&case.config, 4), Err(Error::FrostLine { frost_line: 4, layers: 4 })));
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let error = |edit: &dyn Fn(&mut TrainSettings)| {
        let mut settings = settings(1, 1, 1);
        edit(&mut settings);
        train(&folder("llama"), 0, &settings, &mut ()).err().unwrap().to_string()
    };
    assert!(error(&|settings| settings.training.steps = 0).starts_with("steps is 0"));
    assert!(error(&|settings| settings.training.batch_size = 0).starts_with("batch size is 0"));
    assert!(error(&|settings| settings.training.batch_size = usize::MAX).starts_with("batch size is 18446"));
    assert!(error(&|settings| settings.training.batch_size = 1 << 30).starts_with("batch size is 1073741824"));
    assert!(error(&|settings| settings.training.accumulation = usize::MAX).starts_with("accumulation is 18446"));
    assert!(error(&|settings| settings.training.learning_rate = f64::NAN).starts_with("learning rate is NaN"));
    assert!(error(&|settings| settings.threads = Some(0)).starts_with("threads is 0"));
    if !cfg!(feature = "cuda") {
        assert!(
            error(&|settings| settings.device = Device::Cuda(0)).starts_with("device cuda:0: this build has no CUDA")
        );
    }
}

#[test]
fn rows_longer_than_learned_positions_are_an_error() {
    let case = Case::open("gpt2");
    let positions = case.config.max_positions;
    let tokens = vec![1; positions + 1];
    let example = Example::new(7, tokens, vec![Target { position: 0, token: 1 }]);
    let model = case.model(Scope::above(&case.config, 0).unwrap());
    let direct = model.prefix(&Batch::new([&example])).unwrap_err();
    let evaluated = evaluate(&model, &[example], 1, &mut |_, _| ()).unwrap_err();
    for error in [direct, evaluated] {
        assert!(error.to_string().starts_with("line 7: "), "{error}");
        assert_eq!(error.setting(), Some("max_length"));
    }
}

#[test]
fn a_prompt_that_leaves_no_room_for_the_longest_completion_is_an_error() {
    let case = Case::open("gpt2");
    let positions = case.config.max_positions;
    let model = case.model(Scope::above(&case.config, 0).unwrap());
    let example = |line, prompt: usize, completion: usize| {
        let target = |k| Target { position: (prompt + k - 1) as u32, token: 1 };
        Example::new(line, vec![1; prompt + completion], (0..completion).map(target).collect())
    };
    let examples = [example(4, 2, 3), example(9, positions - 1, 1)];
    let error = evaluate(&model, &examples, 2, &mut |_, _| ()).unwrap_err();
    let expected = positions + 2;
    assert!(matches!(error, Error::RankingTooLong { line: 9, tokens, .. } if tokens == expected), "{error}");
}

#[test]
fn a_token_outside_the_vocabulary_is_named_with_its_line() {
    let case = Case::open("llama");
    let model = case.model(Scope::above(&case.config, 0).unwrap());
    let vocabulary = case.config.vocabulary as u32;
    for (token, target) in [(vocabulary, 1), (1, vocabulary)] {
        let example = Example::new(5, vec![1, token], vec![Target { position: 0, token: target }]);
        let error = evaluate(&model, &[example], 1, &mut |_, _| ()).unwrap_err();
        assert!(matches!(error, Error::Token { line: 5, .. }), "{error}");
    }
}

#[test]
fn evaluation_is_the_mean_over_targets() {
    for case in Case::all() {
        let model = case.model(Scope::above(&case.config, 0).unwrap());
        for batch_size in [1, 3] {
            let got = evaluate(&model, &case.examples(), batch_size, &mut |_, _| ()).unwrap();
            assert!((got.loss - case.loss()).abs() < 1e-5, "{}: {} {}", case.name, got.loss, case.loss());
        }
    }
}

/// Against each sequence scored alone.
#[test]
fn ranking_takes_the_likeliest_completion() {
    let case = Case::open("qwen2");
    let model = case.model(Scope::above(&case.config, 0).unwrap());
    let completions: [&[u32]; 3] = [&[7, 9], &[11], &[7, 30, 2]];
    let example = |prompt: &[u32], completion: &[u32]| {
        let targets = completion.iter().enumerate();
        let target = |(k, &token): (usize, &u32)| Target { position: (prompt.len() + k - 1) as u32, token };
        Example::new(1, [prompt, completion].concat(), targets.map(target).collect())
    };
    let score = |example: &Example| -> f32 { model.log_probabilities(&Batch::new([example])).unwrap().iter().sum() };
    let prompts: Vec<Vec<u32>> =
        (0..7u32).map(|k| (0..2 + k % 4).map(|place| (k * 13 + place * 5) % 61).collect()).collect();
    let (mut examples, mut right, mut sum) = (Vec::new(), 0, 0.0);
    for (k, prompt) in prompts.iter().enumerate() {
        let scores: Vec<f32> = completions.iter().map(|completion| score(&example(prompt, completion))).collect();
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        right += usize::from(best == k % 3);
        sum += scores[k % 3];
        examples.push(example(prompt, completions[k % 3]));
    }
    let targets: usize = examples.iter().map(|example| example.targets.len()).sum();
    let got = evaluate(&model, &examples, 8, &mut |_, _| ()).unwrap();
    let ranking = got.ranking.unwrap();
    assert_eq!((ranking.candidates, ranking.accuracy), (3, right as f64 / 7.0));
    assert!((got.loss + f64::from(sum) / targets as f64).abs() < 1e-4);
}
