//! Runs a model over a shard of the sample: from an export to the shard's traces.

use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::{EngineUsed, ExportPrecision, OnnxIdentity};

use super::settings::{EngineChoice, PlanSettings};
use super::task::PlanningTask;
use crate::batch::shard::SampleShard;
use crate::engine::ort::Ort;
use crate::engine::tract::Tract;
use crate::engine::{Engine, ort_library};
use crate::error::Result;
use crate::onnx::OnnxModel;
use crate::progress::{Progress, Stage};
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;
use crate::rewrite::{prune_embedding, trace_outputs};
use crate::salf::basis::Basis;
use crate::salf::example_traces::example_traces;
use crate::salf::gram::GramCache;
use crate::salf::measured::rounded;
use crate::traces::file::{ShardTraces, TraceFormats, TracesOrigin};
use crate::verify;

/// The longest name of a producer that a plan keeps, in bytes.
const MAX_PRODUCER: usize = 200;

/// Looks for the engine's library before anything large is read; the engine then finds it loaded.
pub(super) fn load_engine(settings: &PlanSettings) -> Result<()> {
    if let EngineChoice::Ort { library, .. } = &settings.engine {
        ort_library::load(library.as_deref())?;
    }
    Ok(())
}

/// Runs a shard's examples, on the threads of the rayon pool that it is called in.
pub(super) fn trace(
    settings: &PlanSettings,
    shard: SampleShard,
    progress: &dyn Progress,
) -> Result<(PlanningTask, ShardTraces)> {
    progress.begin(Stage::Reading, 0);
    let folder = ModelFolder::open(&settings.model)?;
    let onnx = settings.onnx_path()?;
    let open = || -> Result<(Export, LatentSpaces)> {
        let export = Export::open(&onnx)?;
        let spaces = LatentSpaces::find(&export.model, settings.latent_spaces.as_deref())?;
        Ok((export, spaces))
    };
    let (opened, task) = rayon::join(open, || PlanningTask::read(settings, folder));
    let ((export, spaces), task) = (opened?, task?);

    progress.begin(Stage::Comparing, 0);
    let longest = task.examples.iter().map(|example| example.tokens.len()).max().unwrap_or_default();
    let precision = verify::check(&export, &spaces, &task.folder, longest)?;
    let onnx = onnx_identity(&export.model, precision);
    settings.check_layers(spaces.layer_count())?;

    progress.begin(Stage::Loading, 0);
    // The basis is for the targets of all shards: its rows are solved for together, and so are the same to the last bit
    // in each.
    let tokens = task.examples.iter().flat_map(|example| &example.tokens).map(|&token| i64::from(token));
    let (model, rows) = prune_embedding::prune(export.model, &spaces.embedding, tokens);
    let load = || engine(settings, trace_outputs::trace(model, &spaces), &spaces.embedding.ids);
    let (engine, basis) = rayon::join(load, || basis(settings, &task));
    let (mut engine, basis) = (engine?, basis?);
    let mut groups = shard.take(&task.groups);
    if let Some(rows) = rows {
        groups.iter_mut().flat_map(|group| &mut group.batches).for_each(|batch| rows.renumber(batch));
    }

    let total: usize = groups.iter().flat_map(|group| &group.examples).map(Vec::len).sum();
    progress.begin(Stage::Running, total as u64);
    let traces = example_traces(engine.as_mut(), &task.examples, &groups, &basis, &settings.data, progress)?;
    let origin = TracesOrigin {
        formats: TraceFormats::CURRENT,
        model: task.model.clone(),
        onnx,
        data: task.data.clone(),
        latent_spaces: settings.latent_spaces.clone(),
        engine: EngineUsed {
            name: engine.name().into(),
            version: engine.version(),
            provider: engine.provider().into(),
        },
        ridge: rounded(basis.ridge),
    };
    Ok((task, ShardTraces { origin, shard, traces }))
}

fn onnx_identity(model: &OnnxModel, precision: ExportPrecision) -> OnnxIdentity {
    let mut producer = model.producer();
    producer.truncate(producer.floor_char_boundary(MAX_PRODUCER));
    OnnxIdentity { digest: model.digest(), producer, opset: model.opset(), precision }
}

fn basis(settings: &PlanSettings, task: &PlanningTask) -> Result<Basis> {
    let (weights, head) = (&task.folder.weights, &task.folder.config.head.name);
    let tokens = task.examples.iter().flat_map(|example| &example.targets).map(|target| target.token);
    let cache = settings.cache.clone().map(|store| GramCache::new(store, &task.model.weights, head));
    let basis = Basis::new(head, weights.require(head)?, tokens, cache.as_ref());
    weights.release(head);
    basis
}

fn engine(settings: &PlanSettings, traced: OnnxModel, ids: &str) -> Result<Box<dyn Engine + Send>> {
    Ok(match &settings.engine {
        EngineChoice::Tract => Box::new(Tract::new(traced, ids)?),
        EngineChoice::Ort { library, device } => Box::new(Ort::new(&traced, ids, library.as_deref(), *device)?),
    })
}
