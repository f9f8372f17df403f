//! Where the state at the frost line comes from: computed for each batch, or from the cache.

use std::path::PathBuf;

use candle_core::{DType, Device as TensorDevice, Tensor};
use frostline_schemas::data::Example;
use frostline_schemas::model::ModelIdentity;

use crate::cache::{Cache, CacheKey};
use crate::data::Batch;
use crate::error::Error;
use crate::model::Model;
use crate::model::parameters::Parameters;
use crate::ops::cpu;

/// Whether states at the frost line are kept, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// The folder that all caches lie in.
    pub root: PathBuf,
    /// Bytes that they take at most.
    pub limit: u64,
    pub using: Using,
}

/// When the cache is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Using {
    /// Where all states are there already, or the run comes back to its rows and there is room for them.
    WhereItPays,
    Always,
}

/// Is told how many states of all are cached, and how many bytes all of them take; first of all with none done.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize, u64) -> Result<(), Error>;

/// What a run needs states of.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// The rows that the run will see.
    pub examples: &'a [Example],
    /// How many rows it takes, each counted as often as it comes.
    pub visits: u64,
    /// Rows computed at a time.
    pub batch_size: usize,
}

/// The source of states at the frost line: a cache that holds those of all rows, or the layers below it.
#[derive(Debug)]
pub struct StateSource {
    cache: Option<Cache>,
}

impl StateSource {
    /// Computed for each batch.
    pub fn computed() -> StateSource {
        StateSource { cache: None }
    }

    /// Decides for a run whether the cache is used, and fills it where it is.
    ///
    /// # Errors
    /// [`Error::CacheLimit`] and [`Error::CacheDisk`] where the cache shall be used and there is no room for it;
    /// [`Error::File`].
    pub fn open(
        settings: &CacheSettings,
        model: &Model,
        identity: &ModelIdentity,
        filling: Filling,
        progress: Progress,
    ) -> Result<StateSource, Error> {
        match StateSource::cached(settings, model, identity, filling, progress) {
            Err(error) if settings.using == Using::WhereItPays && is_of_cache(&error, settings) => {
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
        progress: Progress,
    ) -> Result<StateSource, Error> {
        let key = CacheKey::new(identity, model.frost_line(), &arithmetic(model.parameters()));
        let mut cache = Cache::new(&settings.root, key, settings.limit);
        let Filling { examples, visits, batch_size } = filling;
        let missing = cache.missing(examples)?;
        if settings.using == Using::WhereItPays && !missing.is_empty() && visits <= examples.len() as u64 {
            return Ok(StateSource::computed());
        }
        if !missing.is_empty() {
            let bytes = cache.bytes_needed(examples, &missing);
            fill(&mut cache, model, examples, batch_size, &mut |done| progress(done, missing.len().max(done), bytes))?;
        }
        Ok(StateSource { cache: Some(cache) })
    }

    /// The states of a batch that lie in the cache, [places · hidden]; `None` where any is not there.
    pub fn read(&self, examples: &[&Example]) -> Option<Vec<f32>> {
        let cache = self.cache.as_ref()?;
        let states = examples.iter().map(|example| cache.get(&example.tokens)).collect::<Option<Vec<&[f32]>>>()?;
        Some(states.concat())
    }
}

/// The state at the frost line of a batch, [places, hidden], from what was read of it.
pub fn state(read: Option<Vec<f32>>, model: &Model, batch: &Batch) -> Result<Tensor, Error> {
    let Some(values) = read else { return model.prefix(batch) };
    let (shape, parameters) = ((batch.tokens.len(), model.config().hidden), model.parameters());
    Ok(Tensor::from_vec(values, shape, parameters.device())?.to_dtype(parameters.dtype())?)
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
    let mut writer = cache.writer(examples)?;
    let rows = writer.rows().to_vec();
    let mut done = 0;
    for rows in rows.chunks(batch_size) {
        let batch = Batch::new(rows.iter().map(|&row| &examples[row]));
        let state = model.prefix(&batch)?.to_dtype(DType::F32)?.to_device(&TensorDevice::Cpu)?;
        let width = model.config().hidden;
        cpu::with_slices([&state], |[state]| {
            let mut rest = state;
            rows.iter().try_for_each(|&row| {
                let tokens = &examples[row].tokens;
                let (own, others) = rest.split_at(tokens.len() * width);
                rest = others;
                writer.add(tokens, own)
            })
        })??;
        done += rows.len();
        progress(done)?;
    }
    writer.finish()
}

/// Whether it is the cache's files or room that failed.
fn is_of_cache(error: &Error, settings: &CacheSettings) -> bool {
    match error {
        Error::CacheLimit { .. } | Error::CacheDisk { .. } => true,
        Error::File { path, .. } => path.starts_with(&settings.root),
        _ => false,
    }
}

/// What the states come from beside the model: the same arithmetic gives the same bits.
fn arithmetic(parameters: &Parameters) -> String {
    let device = if parameters.device().is_cpu() { cpu::instructions() } else { "cuda with fused kernels" };
    format!("{} on {device}", parameters.dtype().as_str())
}
