//! The reference cases of tests/cases: tiny models and what PyTorch says of them.
#![allow(dead_code)] // Each test file uses its own part.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use frostline_runtime::Error;
use frostline_runtime::data::Batch;
use frostline_runtime::model::CrossEntropy;
use frostline_runtime::model::Gradients;
use frostline_runtime::model::Scope;
use frostline_runtime::model::{ComputePrecision, Parameters};
use frostline_runtime::model::{Model, Objective};
use frostline_runtime::train::{Hook, Step, TrainSettings};
use frostline_schemas::data::{Example, RowsAsRead, Target};
use frostline_schemas::digest::Digest;
use frostline_schemas::model;
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::model::Weights;
use frostline_schemas::run::{RunRecord, Schedule, TrainingSettings, VERSION};

pub(crate) struct Case {
    pub name: String,
    pub folder: PathBuf,
    pub config: DecoderConfig,
    pub expected: HashMap<String, Tensor>,
}

/// The folder of a case.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name)
}

/// The project's other references, which do not travel with the repository: those in `FROSTLINE_GOLDEN`.
pub(crate) fn golden() -> Vec<Case> {
    let golden = PathBuf::from(std::env::var_os("FROSTLINE_GOLDEN").expect("FROSTLINE_GOLDEN names a folder"));
    Case::in_folder(&golden)
}

impl Case {
    pub(crate) fn open(name: &str) -> Case {
        Case::open_in(folder(name))
    }

    fn open_in(folder: PathBuf) -> Case {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let expected = candle_core::safetensors::load(folder.join("expected.safetensors"), &device()).unwrap();
        Case { name, config: model::read_config(&folder).unwrap(), folder, expected }
    }

    pub(crate) fn all() -> Vec<Case> {
        Case::in_folder(&folder(""))
    }

    /// Every folder with what PyTorch says in it.
    fn in_folder(folder: &Path) -> Vec<Case> {
        let mut folders: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|folder| folder.join("expected.safetensors").exists());
        folders.sort();
        folders.into_iter().map(Case::open_in).collect()
    }

    /// The rows as examples, without padding.
    pub(crate) fn examples(&self) -> Vec<Example> {
        let read = |name: &str| self.expected[name].to_vec2::<i64>().unwrap();
        let (ids, mask, labels) = (read("input_ids"), read("attention_mask"), read("labels"));
        let rows = ids.into_iter().zip(mask).zip(labels).enumerate();
        rows.map(|(row, ((ids, mask), labels))| {
            let length = mask.iter().filter(|&&seen| seen == 1).count();
            let wanted = labels.iter().enumerate().filter(|(_, label)| **label >= 0);
            let target =
                |(position, &label): (usize, &i64)| Target { position: position as u32 - 1, token: label as u32 };
            let tokens = ids[..length].iter().map(|&id| id as u32).collect();
            Example::new(row as u64 + 1, tokens, wanted.map(target).collect())
        })
        .collect()
    }

    pub(crate) fn batch(&self) -> Batch {
        Batch::new(&self.examples())
    }

    pub(crate) fn loss(&self) -> f64 {
        f64::from(self.expected["loss"].flatten_all().unwrap().to_vec1::<f32>().unwrap()[0])
    }

    pub(crate) fn model(&self, scope: Scope) -> Model {
        self.model_in(scope, ComputePrecision::F32)
    }

    pub(crate) fn model_in(&self, scope: Scope, precision: ComputePrecision) -> Model {
        let weights = Weights::open(&self.folder).unwrap();
        let parameters = Parameters::new(&self.config, weights, &scope, device(), precision).unwrap();
        Model::new(self.config.clone(), scope, parameters)
    }

    /// Mean loss over the case's targets, and its gradients.
    pub(crate) fn step(&self, scope: Scope) -> (f64, Gradients) {
        self.step_of(self.model(scope))
    }

    pub(crate) fn step_of(&self, mut model: Model) -> (f64, Gradients) {
        let batch = self.batch();
        let scale = 1.0 / batch.targets.len() as f64;
        let objective = Objective { loss: &CrossEntropy, scale };
        let mut gradients = Gradients::default();
        let state = model.prefix(&batch).unwrap();
        let sum = model.loss_and_gradients(&batch, state, objective, &mut gradients, &mut ()).unwrap();
        (sum * scale, gradients)
    }
}

/// The losses of a run, step by step.
#[derive(Default)]
pub(crate) struct Losses(pub Vec<f64>);

impl Hook for Losses {
    fn step(&mut self, step: &Step) -> Result<ControlFlow<()>, Error> {
        self.0.push(step.metrics.loss);
        Ok(ControlFlow::Continue(()))
    }
}

/// The device under test: `FROSTLINE_DEVICE`, or the CPU.
pub(crate) fn device() -> Device {
    let name = std::env::var("FROSTLINE_DEVICE").unwrap_or_else(|_| "cpu".into());
    frostline_runtime::system::open_device(name.parse().unwrap()).unwrap()
}

/// ‖a − b‖ / ‖b‖.
pub(crate) fn relative_distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (a.to_dtype(DType::F64).unwrap(), b.to_dtype(DType::F64).unwrap());
    let norm = |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
    norm(&(a - &b).unwrap()) / norm(&b).max(1e-30)
}

/// max |a − b|.
pub(crate) fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Training on two threads, at a learning rate that shows within a few steps.
pub(crate) fn settings(steps: u64, batch_size: usize, accumulation: usize) -> TrainSettings {
    let training = TrainingSettings {
        batch_size,
        accumulation,
        learning_rate: 1e-2,
        schedule: Schedule::Constant,
        warmup_steps: 0,
        max_length: 32,
        seed: 3,
        ..TrainingSettings::of_steps(steps)
    };
    TrainSettings { threads: Some(2), ..TrainSettings::new(training) }
}

/// What a run above a frost line says of itself.
pub(crate) fn record(settings: &TrainSettings, model: &Path, frost_line: usize) -> RunRecord {
    let model_folder = ModelFolder::open(model).unwrap();
    let config = &model_folder.config;
    let scope = Scope::above(config, frost_line).unwrap().by(config, &settings.training.method).unwrap();
    RunRecord {
        version: VERSION,
        plan: Digest::of(b"a plan"),
        frost_line,
        trained_parameters: scope.parameters(config),
        model: model_folder.identity().unwrap(),
        model_folder: model.into(),
        data: Digest::of(b"data"),
        examples: 3,
        rows_as: RowsAsRead::default(),
        training: settings.training.clone(),
    }
}
