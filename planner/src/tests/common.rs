//! What the tests share: the reference cases in `tests/cases` at the root, and engines over them.
//!
//! Tests that need ONNX Runtime's library have `onnx_runtime` in their names and are ignored by default; they run with
//! `cargo test -p frostline-planner onnx_runtime -- --ignored`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Silent;
use crate::batch::{self, BatchLimits};
use crate::engine::Engine;
use crate::engine::ort::Ort;
use crate::engine::tract::Tract;
use crate::onnx::OnnxModel;
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;
use crate::rewrite::trace_outputs;
use crate::salf::basis::Basis;
use crate::salf::example_traces::{example_traces, in_order};
use frostline_schemas::data::{Example, Target};
use frostline_schemas::device::Device;
use frostline_schemas::model::{Family, ModelFolder};
use safetensors::SafeTensors;

/// The exports that each case has, of PyTorch's two exporters.
pub(super) const EXPORTS: [&str; 2] = ["model.dynamo.onnx", "model.torchscript.onnx"];

/// Names of the cases: every folder of `tests/cases` with both exports.
pub(super) fn cases() -> Vec<String> {
    let whole = |name: &String| EXPORTS.iter().all(|export| case(name).join(export).is_file());
    let mut names: Vec<String> = folders(&case("")).into_iter().filter(whole).collect();
    names.sort();
    names
}

/// Names of a folder's subfolders.
pub(super) fn folders(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn every_family_has_a_case() {
    let families: Vec<Family> =
        cases().iter().map(|name| ModelFolder::open(&case(name)).unwrap().config.family).collect();
    for family in Family::all() {
        assert!(families.contains(&family), "{family:?}");
    }
}

pub(super) fn case(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(family)
}

/// The integer tensors of a case's `expected.safetensors`, and its deviations.
pub(super) struct Expected {
    pub integers: BTreeMap<String, Vec<i64>>,
    pub sequence: usize,
    /// [spaces, targets].
    pub deviation: Vec<f32>,
    /// [vocabulary, hidden].
    pub basis: Vec<f32>,
    /// Each latent space's [rows, sequence, hidden] after the final norm.
    pub normed: Vec<Vec<f32>>,
    pub hidden: usize,
}

impl Expected {
    pub(super) fn read(family: &str) -> Expected {
        Expected::read_from(&case(family))
    }

    pub(super) fn read_from(folder: &Path) -> Expected {
        let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let names = ["input_ids", "attention_mask", "positions", "targets"];
        let integers = names.map(|name| (name.to_owned(), integers(file.tensor(name).unwrap().data())));
        let sequence = file.tensor("input_ids").unwrap().shape()[1];
        let floats = |name: &str| floats(file.tensor(name).unwrap().data());
        let hidden = file.tensor("basis").unwrap().shape()[1];
        let spaces = file.tensor("deviation").unwrap().shape()[0];
        let normed = (0..spaces).map(|space| floats(&format!("normed.{space}"))).collect();
        let (deviation, basis) = (floats("deviation"), floats("basis"));
        Expected { integers: integers.into(), sequence, deviation, basis, normed, hidden }
    }

    pub(super) fn targets(&self) -> usize {
        self.integers["targets"].len()
    }

    /// One example for each target, so that an example's trace is the target's.
    pub(super) fn examples(&self) -> Vec<Example> {
        let rows = self.integers["input_ids"].chunks_exact(self.sequence);
        let masks = self.integers["attention_mask"].chunks_exact(self.sequence);
        let rows: Vec<Vec<u32>> = rows
            .zip(masks)
            .map(|(row, mask)| row.iter().zip(mask).filter(|(_, m)| **m != 0).map(|(&id, _)| id as u32).collect())
            .collect();
        let positions = self.integers["positions"].chunks_exact(2);
        positions
            .zip(&self.integers["targets"])
            .map(|(at, &token)| {
                let target = Target { position: at[1] as u32, token: token as u32 };
                Example::new(1, rows[at[0] as usize].clone(), vec![target])
            })
            .collect()
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
}

fn integers(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|eight| i64::from_le_bytes(eight.try_into().unwrap())).collect()
}

/// Opens an engine over a model.
pub(super) type Opener = fn(OnnxModel, &LatentSpaces) -> Box<dyn Engine>;

pub(super) fn tract(model: OnnxModel, spaces: &LatentSpaces) -> Box<dyn Engine> {
    Box::new(Tract::new(trace_outputs::trace(model, spaces), &spaces.embedding.ids).unwrap())
}

pub(super) fn ort(model: OnnxModel, spaces: &LatentSpaces) -> Box<dyn Engine> {
    Box::new(Ort::new(&trace_outputs::trace(model, spaces), &spaces.embedding.ids, None, Device::Cpu).unwrap())
}

/// The traces of a case's targets, through an engine.
pub(super) fn traces(
    folder: &Path,
    export: &Path,
    expected: &Expected,
    engine: Opener,
    tokens: usize,
) -> Vec<Vec<f64>> {
    traces_of(folder, Export::open(export).unwrap().model, expected, engine, tokens)
}

/// The same of a model that is open.
pub(super) fn traces_of(
    folder: &Path,
    model: OnnxModel,
    expected: &Expected,
    engine: Opener,
    tokens: usize,
) -> Vec<Vec<f64>> {
    let folder = ModelFolder::open(folder).unwrap();
    let spaces = LatentSpaces::find(&model, None).unwrap();
    let examples = expected.examples();
    let head = &folder.config.head.name;
    let wanted = examples.iter().flat_map(|example| &example.targets).map(|target| target.token);
    let basis = Basis::new(head, folder.weights.require(head).unwrap(), [wanted], None).unwrap();
    let mut engine = engine(model, &spaces);
    let limits = BatchLimits { tokens, length: folder.config.max_positions };
    let groups = batch::groups(&examples, limits);
    let data = Path::new("data.jsonl");
    let found = example_traces(engine.as_mut(), &examples, &groups, &basis, data, &Silent).unwrap();
    in_order(found).into_iter().map(|trace| trace.deviations).collect()
}

/// The largest difference between traces and `deviation`.
pub(super) fn worst(expected: &Expected, traces: &[Vec<f64>]) -> f64 {
    let targets = expected.targets();
    assert_eq!(traces.len(), targets);
    assert_eq!(traces[0].len() * targets, expected.deviation.len());
    let at = |target: usize, space: usize| f64::from(expected.deviation[space * targets + target]);
    let pairs = traces.iter().enumerate().flat_map(|(target, trace)| {
        trace.iter().enumerate().map(move |(space, &found)| (found - at(target, space)).abs())
    });
    pairs.fold(0.0, f64::max)
}
