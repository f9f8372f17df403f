//! Puts the files of all shards together into the traces of the whole sample, once each is known to be a part of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use frostline_schemas::model::ModelIdentity;
use frostline_schemas::plan::{DataIdentity, EngineUsed};

use super::file::{ShardTraces, TraceFormats, TracesOrigin};
use crate::batch::BatchGroup;
use crate::batch::shard::{self, SampleShard};
use crate::error::TracesError;
use crate::salf::example_traces::{ExampleTrace, in_order};

/// What traces must have been computed from to make a plan.
pub(crate) struct ExpectedTraces<'a> {
    pub model: &'a ModelIdentity,
    pub data: &'a DataIdentity,
    /// Latent spaces that are named by hand.
    pub latent_spaces: Option<&'a [String]>,
    /// All of the sample's batches.
    pub groups: Vec<BatchGroup>,
}

/// The traces of the whole sample, in its order, and their origin. Files may be in any order.
pub(crate) fn merge(
    files: &[PathBuf],
    expected: &ExpectedTraces,
) -> Result<(TracesOrigin, Vec<ExampleTrace>), TracesError> {
    let mut first: Option<(&Path, SampleShard, TracesOrigin)> = None;
    let mut seen: BTreeMap<usize, &Path> = BTreeMap::new();
    let mut traces = Vec::with_capacity(expected.data.examples);
    for path in files {
        let part = ShardTraces::read(path)?;
        check_origin(path, &part, expected)?;
        match &first {
            Some((other, shard, origin)) => check_alike(path, &part, other, *shard, origin)?,
            None => first = Some((path, part.shard, part.origin.clone())),
        }
        if let Some(other) = seen.insert(part.shard.number(), path) {
            return Err(TracesError::Twice { path: path.clone(), other: other.into(), shard: part.shard });
        }
        check_examples(path, &part, expected)?;
        traces.extend(part.traces);
    }
    let (path, shard, origin) = first.ok_or(TracesError::NoFiles)?;
    match shard.missing(seen.len(), |number| seen.contains_key(&number)) {
        Some(missing) => Err(TracesError::Missing { path: path.into(), shard, missing }),
        None => Ok((origin, in_order(traces))),
    }
}

/// A thing that must be the same: its name, whether it is, and for people what was found and what was expected.
type Compared = (&'static str, bool, String, String);

fn compared<T: PartialEq>(what: &'static str, found: T, expected: T, shown: impl Fn(T) -> String) -> Compared {
    (what, found == expected, shown(found), shown(expected))
}

/// Checks that traces are of the model, the sample and the latent spaces that the plan is to be made of.
fn check_origin(path: &Path, part: &ShardTraces, expected: &ExpectedTraces) -> Result<(), TracesError> {
    let (found, shard) = (&part.origin, part.shard);
    // Before all else: other code may know the same model by another digest.
    if found.formats != TraceFormats::CURRENT {
        return Err(other_format(path, shard, found.formats));
    }
    if found.model != *expected.model {
        let differences = found.model.differences(expected.model);
        return Err(TracesError::OtherModel { path: path.into(), shard, differences });
    }
    let (data, expected_data) = (&found.data, expected.data);
    let settings = [
        ("data", compared("data of digest", data.file, expected_data.file, |digest| digest.short())),
        ("seed", compared("seed", data.seed, expected_data.seed, |seed| seed.to_string())),
        ("max_length", compared("max length", data.max_length, expected_data.max_length, |length| length.to_string())),
        ("examples", compared("examples", data.examples, expected_data.examples, |count| count.to_string())),
        (
            "latent_spaces",
            compared("latent spaces", found.latent_spaces.as_deref(), expected.latent_spaces, |names| {
                names.map_or_else(|| "not given".into(), |names| names.join(","))
            }),
        ),
    ];
    let read = |data: &DataIdentity| serde_json::to_string(&data.rows_as).unwrap_or_default();
    let sample = [
        compared("rows read as", read(data), read(expected_data), |read| read),
        compared("a sample of digest", data.sample, expected_data.sample, |digest| digest.short()),
        compared("rows in the data", data.rows, expected_data.rows, |count| count.to_string()),
        compared("tokens in the sample", data.tokens, expected_data.tokens, |count| count.to_string()),
        compared("targets in the sample", data.targets, expected_data.targets, |count| count.to_string()),
    ];
    let settings = settings.into_iter().map(|(setting, compared)| (Some(setting), compared));
    let all = settings.chain(sample.into_iter().map(|compared| (None, compared)));
    match all.into_iter().find(|(_, (_, same, ..))| !same) {
        Some((setting, (what, _, found, expected))) => {
            Err(TracesError::OtherSetting { path: path.into(), shard, what, setting, found, expected })
        }
        None => Ok(()),
    }
}

fn other_format(path: &Path, shard: SampleShard, found: TraceFormats) -> TracesError {
    let current = TraceFormats::CURRENT;
    let kinds = [
        ("deviations", found.deviations, current.deviations),
        ("states", found.states, current.states),
        ("batches", found.batches, current.batches),
    ];
    let other = kinds.into_iter().find(|(_, found, current)| found != current);
    let (kind, found, format) = other.unwrap_or(kinds[0]);
    TracesError::OtherFormat { path: path.into(), shard, kind, found, format }
}

/// Checks that two shards were computed alike; what both share with the plan is checked already.
fn check_alike(
    path: &Path,
    part: &ShardTraces,
    other: &Path,
    shard: SampleShard,
    origin: &TracesOrigin,
) -> Result<(), TracesError> {
    let (own, onnx) = (&part.origin.onnx, &origin.onnx);
    let engine = |engine: &EngineUsed| format!("{} {} on {}", engine.name, engine.version, engine.provider);
    let things = [
        compared("a number of shards of", part.shard.of(), shard.of(), |of| of.to_string()),
        compared("an export of digest", own.digest, onnx.digest, |digest| digest.short()),
        compared("an export by", own.producer.as_str(), onnx.producer.as_str(), str::to_owned),
        compared("an export of opset", own.opset, onnx.opset, |opset| opset.to_string()),
        compared("an export in", own.precision, onnx.precision, |precision| precision.to_string()),
        compared("the engine", &part.origin.engine, &origin.engine, engine),
        compared("a semantic basis of ridge", part.origin.ridge, origin.ridge, |ridge| ridge.to_string()),
    ];
    match things.into_iter().find(|(_, same, ..)| !same) {
        Some((what, _, found, expected)) => {
            Err(TracesError::Unlike { path: path.into(), other: other.into(), what, found, expected })
        }
        None => Ok(()),
    }
}

/// Checks that a file holds its shard's examples and no other, in the order of the batches.
fn check_examples(path: &Path, part: &ShardTraces, expected: &ExpectedTraces) -> Result<(), TracesError> {
    let own = shard::take(part.shard, &expected.groups);
    let examples = own.iter().flat_map(|group| &group.examples).flatten();
    if part.traces.iter().map(|trace| &trace.example).eq(examples) {
        return Ok(());
    }
    let reason = "its examples are not those of its shard".into();
    Err(TracesError::Content { path: path.into(), shard: part.shard, reason })
}
