//! Where the state at the frost line comes from: computed for each batch, or from the cache.

use bytemuck::Pod;
use candle_core::{DType, Device as TensorDevice, Tensor};
use frostline_schemas::cache::{CacheError, Store};
use frostline_schemas::data::Example;
use frostline_schemas::model::ModelIdentity;

use half::bf16;

use super::key::{CacheKey, StateDtype};
use super::states::Cache;
use super::writer::StateWriter;
use crate::data::Batch;
use crate::error::Error;
use crate::model::Model;
use crate::model::Parameters;
use crate::ops::cpu;

/// Whether states at the frost line are kept, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Where they are kept.
    pub store: Store,
    /// When they are.
    pub using: CacheUse,
}

/// When the cache is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheUse {
    /// Where all states are there already, or the run comes back to its rows and there is room for them.
    WhereItPays,
    /// Where there is room for them.
    WherePossible,
    /// Always; where there is no room, training fails.
    Always,
}

/// Is told how many states of all are cached, and how many bytes all of them take; first of all with none done.
pub(super) type CachingProgress<'a> = &'a mut dyn FnMut(usize, usize, u64) -> Result<(), Error>;

/// What a run needs states of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling<'a> {
    /// The rows that the run will see.
    pub examples: &'a [Example],
    /// How many rows it takes, each counted as often as it comes.
    pub visits: u64,
    /// Rows computed at a time.
    pub batch_size: usize,
}

/// The source of states at the frost line: a cache that holds those of all rows, or the layers below it.
#[derive(Debug)]
pub(crate) struct StateSource {
    cache: Option<Cache>,
}

impl StateSource {
    /// Computed for each batch.
    pub(crate) fn computed() -> StateSource {
        StateSource { cache: None }
    }

    /// Decides for a run whether the cache is used, and fills it where it is.
    ///
    /// # Errors
    /// [`Error::Cache`] where the cache is asked for and has no room; [`Error::File`].
    pub(crate) fn open(
        settings: &CacheSettings,
        model: &Model,
        identity: &ModelIdentity,
        filling: Filling,
        progress: CachingProgress,
    ) -> Result<StateSource, Error> {
        match StateSource::cached(settings, model, identity, filling, progress) {
            Err(error) if settings.using != CacheUse::Always && is_of_cache(&error, settings) => {
                tracing::warn!("states at the frost line are not cached: {error}");
                Ok(StateSource::computed())
            }
            opened => opened,
        }
    }

    fn cached(
        settings: &CacheSettings,
        model: &Model,
        identity: &ModelIdentity,
        filling: Filling,
        progress: CachingProgress,
    ) -> Result<StateSource, Error> {
        let (dtype, arithmetic) = (state_dtype(model.parameters())?, arithmetic(model.parameters()));
        let mut cache =
            Cache::new(settings.store.clone(), CacheKey::new(identity, model.frost_line(), dtype, &arithmetic));
        let Filling { examples, visits, batch_size } = filling;
        let missing = cache.missing(examples)?;
        if settings.using == CacheUse::WhereItPays && !missing.is_empty() && visits <= examples.len() as u64 {
            return Ok(StateSource::computed());
        }
        if !missing.is_empty() {
            let bytes = cache.bytes_needed(examples, &missing);
            fill(&mut cache, model, examples, batch_size, &mut |done| progress(done, missing.len().max(done), bytes))?;
        }
        Ok(StateSource { cache: Some(cache) })
    }

    /// The states of a batch that lie in the cache; `None` where any is missing.
    pub(crate) fn read(&self, examples: &[&Example]) -> Option<CachedStates> {
        let cache = self.cache.as_ref()?;
        let states = examples.iter().map(|example| cache.get(&example.tokens)).collect::<Option<Vec<&[u8]>>>()?;
        Some(match cache.key.dtype {
            StateDtype::F32 => CachedStates::F32(concatenated(&states)?),
            StateDtype::Bf16 => CachedStates::Bf16(concatenated(&states)?),
        })
    }
}

/// States of a batch that were read, [positions · hidden].
#[derive(Clone, Debug)]
pub(crate) enum CachedStates {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

fn concatenated<T: Pod>(states: &[&[u8]]) -> Option<Vec<T>> {
    let states = states.iter().map(|state| bytemuck::try_cast_slice(state).ok());
    Some(states.collect::<Option<Vec<&[T]>>>()?.concat())
}

/// The state at the frost line of a batch, [positions, hidden], from what was read of it.
pub(crate) fn state(read: Option<CachedStates>, model: &Model, batch: &Batch) -> Result<Tensor, Error> {
    let Some(read) = read else { return model.prefix(batch) };
    let (shape, device) = ((batch.tokens.len(), model.config().hidden), model.parameters().device());
    Ok(match read {
        CachedStates::F32(values) => Tensor::from_vec(values, shape, device),
        CachedStates::Bf16(values) => Tensor::from_vec(values, shape, device),
    }?)
}

/// Computes what the cache lacks; `progress` is told how many states are done.
fn fill(
    cache: &mut Cache,
    model: &Model,
    examples: &[Example],
    batch_size: usize,
    progress: &mut dyn FnMut(usize) -> Result<(), Error>,
) -> Result<(), Error> {
    progress(0)?;
    let (cache_dtype, row_bytes) = (cache.key.dtype, cache.key.row_bytes());
    let mut writer = cache.writer(examples)?;
    let rows = writer.rows().to_vec();
    let mut done = 0;
    for rows in rows.chunks(batch_size) {
        let batch = Batch::new(rows.iter().map(|&row| &examples[row]));
        let state = model.prefix(&batch)?.to_device(&TensorDevice::Cpu)?;
        match cache_dtype {
            StateDtype::F32 => cpu::with_slices([&state], |[state]| {
                add(&mut writer, examples, rows, bytemuck::cast_slice(state), row_bytes)
            })??,
            StateDtype::Bf16 => {
                let state = state.flatten_all()?.to_vec1::<bf16>()?;
                add(&mut writer, examples, rows, bytemuck::cast_slice(&state), row_bytes)?;
            }
        }
        done += rows.len();
        progress(done)?;
    }
    writer.finish()
}

/// Adds the states of these rows, which lie back to back.
fn add(
    writer: &mut StateWriter,
    examples: &[Example],
    rows: &[usize],
    mut states: &[u8],
    row_bytes: usize,
) -> Result<(), Error> {
    for &row in rows {
        let tokens = &examples[row].tokens;
        let own;
        (own, states) = states.split_at(tokens.len() * row_bytes);
        writer.add(tokens, own)?;
    }
    Ok(())
}

/// Whether it is the cache's files or room that failed.
fn is_of_cache(error: &Error, settings: &CacheSettings) -> bool {
    match error {
        Error::Cache(CacheError::Limit { .. } | CacheError::Disk { .. }) => true,
        Error::Cache(CacheError::File { path, .. }) | Error::File { path, .. } => {
            path.starts_with(settings.store.root())
        }
        _ => false,
    }
}

/// What states are kept as: what they are computed in.
fn state_dtype(parameters: &Parameters) -> Result<StateDtype, Error> {
    match parameters.dtype() {
        DType::F32 => Ok(StateDtype::F32),
        DType::BF16 => Ok(StateDtype::Bf16),
        _ => Err(Error::Internal("states in f32 or bf16")),
    }
}

/// What the states come from beside the model: the same arithmetic gives the same bits.
fn arithmetic(parameters: &Parameters) -> String {
    let device = if parameters.device().is_cpu() { cpu::instructions() } else { "cuda with fused kernels" };
    format!("{} on {device}", parameters.dtype().as_str())
}
