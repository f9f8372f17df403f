//! The file of one shard's traces.
//!
//! It is a safetensors file. `deviations` is f64 [examples, L + 1], a row for each example of the shard; `examples` is
//! i64, of each row the example's place in the sample, in the order drawn. `states` is f32 [kept, L + 1, hidden], the
//! states of those examples of which they are kept, in the order of the rows. Where they come from stands in the header's
//! metadata, as JSON.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::files;
use frostline_schemas::model::ModelIdentity;
use frostline_schemas::plan::{DataIdentity, EngineUsed, OnnxIdentity};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::batch;
use crate::batch::shard::SampleShard;
use crate::error::TracesError;
use crate::salf::example_traces::ExampleTrace;
use crate::salf::{deviation, states};

/// The version of the traces file that is written, and the newest that is read.
pub(crate) const VERSION: u64 = 2;
/// Where the metadata holds the header.
const KEY: &str = "frostline.traces";
const DEVIATIONS: &str = "deviations";
const EXAMPLES: &str = "examples";
const STATES: &str = "states";
/// How far rounding may carry a deviation out of [0, 2].
const SLACK: f64 = 1e-9;

/// Which code computed traces: of each kind of number the format that was current then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceFormats {
    /// How examples are sorted into batches.
    pub batches: u64,
    /// How deviations are computed.
    pub deviations: u64,
    /// Which states are kept.
    pub states: u64,
}

impl TraceFormats {
    /// What this build computes.
    pub const CURRENT: TraceFormats =
        TraceFormats { batches: batch::FORMAT, deviations: deviation::FORMAT, states: states::FORMAT };
}

/// What traces were computed from, and with: the same for all shards of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesOrigin {
    /// Which code computed them.
    pub formats: TraceFormats,
    /// The model.
    pub model: ModelIdentity,
    /// Its export.
    pub onnx: OnnxIdentity,
    /// Of the whole sample, not of the shard.
    pub data: DataIdentity,
    /// Latent spaces that were named by hand.
    pub latent_spaces: Option<Vec<String>>,
    /// What ran the export.
    pub engine: EngineUsed,
    /// The semantic basis's ridge, as a plan states it.
    pub ridge: f64,
}

/// One shard's traces.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardTraces {
    /// What they were computed from.
    pub origin: TracesOrigin,
    /// Which shard it is.
    pub shard: SampleShard,
    /// In the order of the shard's batches; none where there are more shards than batches.
    pub traces: Vec<ExampleTrace>,
}

impl TracesOrigin {
    /// Latent spaces of the model: L + 1.
    fn spaces(&self) -> usize {
        self.model.layers.saturating_add(1)
    }
}

/// The metadata's JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u64,
    shard: SampleShard,
    origin: TracesOrigin,
    /// Of the examples' places, their deviations and their states, as they lie in the file.
    content: Digest,
}

impl ShardTraces {
    /// Refuses a place where traces cannot be written: they may take the place of traces, not of an export or weights.
    ///
    /// # Errors
    /// [`TracesError::Taken`] for a file of something else; [`TracesError::File`] for a folder, and where the folder that
    /// `path` lies in is missing or may not be written in.
    pub fn check_place(path: &Path) -> Result<(), TracesError> {
        if path.is_file() && matches!(ShardTraces::read(path), Err(TracesError::NotTraces { .. })) {
            return Err(TracesError::Taken { path: path.into() });
        }
        files::check_place(path).map_err(|source| TracesError::File { path: path.into(), source })
    }

    /// Writes the file, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<(), TracesError> {
        let failed = |source| TracesError::File { path: path.into(), source };
        let bytes = self.to_bytes().map_err(failed)?;
        files::write_bytes(path, &bytes).map_err(failed)
    }

    /// The file's bytes, always the same for the same traces.
    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let deviations = self.traces.iter().flat_map(|trace| &trace.deviations).flat_map(|d| d.to_le_bytes());
        let deviations: Vec<u8> = deviations.collect();
        let states: Vec<u8> =
            self.traces.iter().flat_map(|trace| &trace.states).flat_map(|x| x.to_le_bytes()).collect();
        let examples: Vec<u8> = self.traces.iter().flat_map(|trace| (trace.example as i64).to_le_bytes()).collect();
        let content = content(&examples, &deviations, &states);
        let header = Header { version: VERSION, shard: self.shard, origin: self.origin.clone(), content };
        // One key alone, as the library writes several in any order.
        let metadata = HashMap::from([(KEY.to_owned(), serde_json::to_string(&header)?)]);
        let rows = self.traces.len();
        let kept = self.traces.iter().filter(|trace| !trace.states.is_empty()).count();
        let of_states = vec![kept, self.origin.spaces(), self.origin.model.hidden_size];
        let shape = vec![rows, self.origin.spaces()];
        let tensors = [
            (DEVIATIONS, TensorView::new(Dtype::F64, shape, &deviations).map_err(io::Error::other)?),
            (EXAMPLES, TensorView::new(Dtype::I64, vec![rows], &examples).map_err(io::Error::other)?),
            (STATES, TensorView::new(Dtype::F32, of_states, &states).map_err(io::Error::other)?),
        ];
        safetensors::serialize(tensors, Some(metadata)).map_err(io::Error::other)
    }

    /// Reads a file and checks that it is whole and holds what it says.
    pub fn read(path: &Path) -> Result<ShardTraces, TracesError> {
        // Mapped, so that a file that is something else, however large, takes no memory.
        let map = files::map(path).map_err(|source| TracesError::File { path: path.into(), source })?;
        ShardTraces::parse(path, &map)
    }

    /// Parses a file's bytes; `path` is for messages.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<ShardTraces, TracesError> {
        let not_traces = |reason: String| TracesError::NotTraces { path: path.into(), reason };
        let file = SafeTensors::deserialize(bytes).map_err(|error| not_traces(error.to_string()))?;
        let Header { shard, origin, content: stated, .. } = header(path, bytes)?;
        let bad = |reason: String| TracesError::Content { path: path.into(), shard, reason };
        let rows = file.tensor(EXAMPLES).map_or(0, |view| view.shape().iter().product());
        let width = origin.spaces();
        let examples = tensor::<8>(&file, EXAMPLES, Dtype::I64, &[rows]).map_err(bad)?;
        let deviations = tensor::<8>(&file, DEVIATIONS, Dtype::F64, &[rows, width]).map_err(bad)?;
        let places: Vec<usize> = examples.iter().map(|&bytes| place(bytes)).collect::<Result<_, _>>().map_err(bad)?;
        let kept = places.iter().filter(|&&place| states::are_kept(place)).count();
        let hidden = origin.model.hidden_size;
        let states = tensor::<4>(&file, STATES, Dtype::F32, &[kept, width, hidden]).map_err(bad)?;
        if content(examples.as_flattened(), deviations.as_flattened(), states.as_flattened()) != stated {
            return Err(bad("its numbers have changed since it was written".into()));
        }
        // As many as the tensor holds: the header's sizes alone are never taken for room.
        let mut states = states.chunks_exact(width.saturating_mul(hidden).max(1));
        let mut traces = Vec::with_capacity(rows);
        for (example, row) in places.into_iter().zip(deviations.chunks_exact(width)) {
            let deviations: Vec<f64> = row.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
            if !deviations.iter().all(|d| (-SLACK..=2.0 + SLACK).contains(d)) {
                return Err(bad(format!("a deviation of example {example} is not between 0 and 2")));
            }
            let own = if states::are_kept(example) { states.next().unwrap_or_default() } else { &[] };
            let states: Vec<f32> = own.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
            if states.iter().any(|x| !x.is_finite()) {
                return Err(bad(format!("a state of example {example} is not finite")));
            }
            traces.push(ExampleTrace { example, deviations, states });
        }
        Ok(ShardTraces { origin, shard, traces })
    }
}

fn content(examples: &[u8], deviations: &[u8], states: &[u8]) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update_framed(examples);
    hasher.update_framed(deviations);
    hasher.update_framed(states);
    hasher.finish()
}

/// An example's place in the sample.
fn place(bytes: [u8; 8]) -> Result<usize, String> {
    let place = i64::from_le_bytes(bytes);
    usize::try_from(place).map_err(|_| format!("example {place} does not exist"))
}

fn header(path: &Path, bytes: &[u8]) -> Result<Header, TracesError> {
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u64,
    }
    let not_traces = |reason: String| TracesError::NotTraces { path: path.into(), reason };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| not_traces(error.to_string()))?;
    let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let text = text.ok_or_else(|| not_traces(format!("its metadata has no `{KEY}`")))?;
    let wrong = |error: serde_json::Error| not_traces(format!("its metadata's `{KEY}`: {error}"));
    match serde_json::from_str(text).map_err(wrong)? {
        VersionOnly { version: VERSION } => serde_json::from_str(text).map_err(wrong),
        VersionOnly { version } if version > VERSION => {
            Err(TracesError::Newer { path: path.into(), found: version, newest: VERSION })
        }
        VersionOnly { version: 0 } => Err(not_traces("version 0 does not exist".into())),
        VersionOnly { version } => Err(TracesError::Older { path: path.into(), found: version, oldest: VERSION }),
    }
}

/// A tensor's elements, each still its bytes; the reason where it is not as it must be.
fn tensor<'a, const BYTES: usize>(
    file: &SafeTensors<'a>,
    name: &str,
    dtype: Dtype,
    shape: &[usize],
) -> Result<&'a [[u8; BYTES]], String> {
    let view = file.tensor(name).map_err(|_| format!("it has no tensor `{name}`"))?;
    if (view.dtype(), view.shape()) != (dtype, shape) {
        return Err(format!("`{name}` must be {dtype:?} {shape:?}, and is {:?} {:?}", view.dtype(), view.shape()));
    }
    // Nothing is left over: the library has checked that the bytes are those of the shape.
    Ok(view.data().as_chunks().0)
}
