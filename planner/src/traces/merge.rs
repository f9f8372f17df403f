//! From the files of all shards to the traces of the whole sample, once each file is known to be a part of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use frostline_schemas::model::ModelIdentity;
use frostline_schemas::plan::{DataIdentity, EngineUsed};

use super::{Origin, RELEASE, ShardTraces, TracesError, in_order};
use crate::batch::Group;
use crate::traces::shard::Shard;

/// Missing shards that a message names.
const NAMED: usize = 8;

/// What traces must be of.
pub struct Wanted<'a> {
    pub model: &'a ModelIdentity,
    pub data: &'a DataIdentity,
    /// Latent spaces that are named by hand.
    pub latent_spaces: Option<&'a [String]>,
    /// All of the sample's batches.
    pub groups: &'a [Group],
}

/// The traces of the whole sample, by the examples' index, and their origin. Files may be in any order.
pub fn merge(files: &[PathBuf], wanted: &Wanted) -> Result<(Origin, Vec<Vec<f64>>), TracesError> {
    let mut first: Option<(&Path, Shard, Origin)> = None;
    let mut seen: BTreeMap<usize, &Path> = BTreeMap::new();
    let mut traces = Vec::with_capacity(wanted.data.examples);
    for path in files {
        let part = ShardTraces::read(path)?;
        check_origin(path, &part, wanted)?;
        match &first {
            Some((other, shard, origin)) => check_alike(path, &part, other, *shard, origin)?,
            None => first = Some((path, part.shard, part.origin.clone())),
        }
        if let Some(other) = seen.insert(part.shard.number(), path) {
            return Err(TracesError::Twice { path: path.clone(), other: other.into(), shard: part.shard });
        }
        check_examples(path, &part, wanted)?;
        traces.extend(part.traces);
    }
    let (path, shard, origin) = first.ok_or(TracesError::NoFiles)?;
    match missing(&seen, shard.of()) {
        Some(missing) => Err(TracesError::Missing { path: path.into(), shard, missing }),
        None => Ok((origin, in_order(wanted.data.examples, traces))),
    }
}

/// A thing that must be the same: its name, whether it is, and for people what was found and what was wanted.
type Compared = (&'static str, bool, String, String);

fn compared<T: PartialEq>(what: &'static str, found: T, wanted: T, shown: impl Fn(T) -> String) -> Compared {
    (what, found == wanted, shown(found), shown(wanted))
}

/// Checks that traces are of the model, the sample and the latent spaces that are wanted.
fn check_origin(path: &Path, part: &ShardTraces, wanted: &Wanted) -> Result<(), TracesError> {
    let (found, shard) = (&part.origin, part.shard);
    let (data, wanted_data) = (&found.data, wanted.data);
    // Told apart before all else: another release may know the same model by another digest.
    let release = compared("Frostline", found.release.as_str(), RELEASE, str::to_owned);
    refuse_other(path, shard, [release])?;
    if found.model != *wanted.model {
        let differences = found.model.differences(wanted.model);
        return Err(TracesError::OtherModel { path: path.into(), shard, differences });
    }
    let things = [
        compared("--data of digest", data.file, wanted_data.file, |digest| digest.short()),
        compared("--seed", data.seed, wanted_data.seed, |seed| seed.to_string()),
        compared("--max-length", data.max_length, wanted_data.max_length, |length| length.to_string()),
        compared("--examples", data.examples, wanted_data.examples, |count| count.to_string()),
        compared("a sample of digest", data.sample, wanted_data.sample, |digest| digest.short()),
        compared("rows in --data", data.rows, wanted_data.rows, |count| count.to_string()),
        compared("tokens in the sample", data.tokens, wanted_data.tokens, |count| count.to_string()),
        compared("targets in the sample", data.targets, wanted_data.targets, |count| count.to_string()),
        compared("--latent-spaces", found.latent_spaces.as_deref(), wanted.latent_spaces, |names| {
            names.map_or_else(|| "not given".into(), |names| names.join(","))
        }),
    ];
    refuse_other(path, shard, things)
}

fn refuse_other(path: &Path, shard: Shard, things: impl IntoIterator<Item = Compared>) -> Result<(), TracesError> {
    match things.into_iter().find(|(_, same, ..)| !same) {
        Some((what, _, found, wanted)) => {
            Err(TracesError::OtherSetting { path: path.into(), shard, what, found, wanted })
        }
        None => Ok(()),
    }
}

/// Checks that two shards were computed alike; what both share with the plan is checked already.
fn check_alike(
    path: &Path,
    part: &ShardTraces,
    other: &Path,
    shard: Shard,
    origin: &Origin,
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
        Some((what, _, found, wanted)) => {
            Err(TracesError::Unlike { path: path.into(), other: other.into(), what, found, wanted })
        }
        None => Ok(()),
    }
}

/// Checks that a file holds its shard's examples and no other, in the order of the batches.
fn check_examples(path: &Path, part: &ShardTraces, wanted: &Wanted) -> Result<(), TracesError> {
    let own = part.shard.take(wanted.groups);
    let expected = own.iter().flat_map(|group| &group.examples).flatten();
    if part.traces.iter().map(|(index, _)| index).eq(expected) {
        return Ok(());
    }
    let reason = "its examples are not those of its shard".into();
    Err(TracesError::Content { path: path.into(), shard: part.shard, reason })
}

/// The shards that are not there, for people; `None` where all are.
fn missing(seen: &BTreeMap<usize, &Path>, of: usize) -> Option<String> {
    let count = of - seen.len();
    // Ends after as many steps as there are files, and a few: `of` is only what a file says.
    let named = (1..=of).filter(|number| !seen.contains_key(number)).take(NAMED);
    let named: Vec<String> = named.map(|number| number.to_string()).collect();
    match count.saturating_sub(named.len()) {
        _ if count == 0 => None,
        0 => Some(named.join(", ")),
        more => Some(format!("{} and {more} more", named.join(", "))),
    }
}
