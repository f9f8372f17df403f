//! Runs a model over examples of the sample: from an export to their traces.

use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::{EngineUsed, ExportPrecision, OnnxIdentity, PlanTask};
use frostline_schemas::units::significant;

use super::settings::{EngineChoice, PlanSettings};
use super::task;
use crate::batch::{BatchGroup, rounds};
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
use crate::salf::example_traces::{ExampleTrace, example_traces};
use crate::salf::gram::GramCache;
use crate::traces::file::{TraceFormats, TracesOrigin};
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

/// A model that is loaded to run a task's examples.
pub(super) struct Run<'a> {
    settings: &'a PlanSettings,
    /// What it is loaded for.
    pub task: PlanTask,
    engine: Box<dyn Engine + Send>,
    basis: Basis,
    /// Where the embedding holds the sample's tokens alone.
    rows: Option<prune_embedding::Rows>,
    onnx: OnnxIdentity,
}

impl<'a> Run<'a> {
    /// Reads model and examples and loads the export, on the threads of the rayon pool that it is called in.
    pub(super) fn open(settings: &'a PlanSettings, progress: &dyn Progress) -> Result<Run<'a>> {
        progress.begin(Stage::Reading, 0);
        let folder = ModelFolder::open(&settings.model)?;
        let onnx = settings.onnx_path()?;
        let open = || -> Result<(Export, LatentSpaces)> {
            let export = Export::open(&onnx)?;
            let spaces = LatentSpaces::find(&export.model, settings.latent_spaces.as_deref())?;
            Ok((export, spaces))
        };
        let (opened, task) = rayon::join(open, || task::read(settings, folder));
        let ((export, spaces), task) = (opened?, task?);

        progress.begin(Stage::Comparing, 0);
        let longest = task.examples.iter().map(|example| example.tokens.len()).max().unwrap_or_default();
        let precision = verify::check(&export, &spaces, &task.folder, longest)?;
        let onnx = onnx_identity(&export.model, precision);
        settings.check_layers(spaces.layer_count())?;

        progress.begin(Stage::Loading, 0);
        let tokens = task.examples.iter().flat_map(|example| &example.tokens).map(|&token| i64::from(token));
        let (model, rows) = prune_embedding::prune(export.model, &spaces.embedding, tokens);
        let load = || engine(settings, trace_outputs::trace(model, &spaces), &spaces.embedding.ids);
        let (engine, basis) = rayon::join(load, || basis(settings, &task));
        Ok(Run { settings, engine: engine?, basis: basis?, rows, onnx, task })
    }

    /// Runs batches of the task's examples: their traces, in the order of the batches.
    pub(super) fn traces(&mut self, mut groups: Vec<BatchGroup>, progress: &dyn Progress) -> Result<Vec<ExampleTrace>> {
        if let Some(rows) = &self.rows {
            groups.iter_mut().flat_map(|group| &mut group.batches).for_each(|batch| rows.renumber(batch));
        }
        let (engine, examples) = (self.engine.as_mut(), &self.task.examples);
        example_traces(engine, examples, &groups, &self.basis, &self.settings.data, progress)
    }

    /// What the traces are computed from.
    pub(super) fn origin(&self) -> TracesOrigin {
        let engine = EngineUsed {
            name: self.engine.name().into(),
            version: self.engine.version(),
            provider: self.engine.provider().into(),
        };
        TracesOrigin {
            formats: TraceFormats::CURRENT,
            model: self.task.model.clone(),
            onnx: self.onnx.clone(),
            data: self.task.data.clone(),
            latent_spaces: self.settings.latent_spaces.clone(),
            engine,
            ridge: significant(self.basis.ridge),
        }
    }
}

fn onnx_identity(model: &OnnxModel, precision: ExportPrecision) -> OnnxIdentity {
    let mut producer = model.producer();
    producer.truncate(producer.floor_char_boundary(MAX_PRODUCER));
    OnnxIdentity { digest: model.digest(), producer, opset: model.opset(), precision }
}

fn basis(settings: &PlanSettings, task: &PlanTask) -> Result<Basis> {
    let (weights, head) = (&task.folder.weights, &task.folder.config.head.name);
    // For the targets of all rounds and shards, round by round: so a row is the same to the last bit whichever of them run.
    let rounds = rounds::rounds(task.examples.len()).into_iter();
    let tokens = rounds.map(|round| {
        let examples = task.examples.get(round).unwrap_or_default();
        examples.iter().flat_map(|example| &example.targets).map(|target| target.token)
    });
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
