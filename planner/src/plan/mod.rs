//! From settings to a plan, step by step: examples → traces → gains → frost line → plan.
//!
//! One machine does all of it ([`plan()`]); or several compute the traces of a shard each ([`trace_shard`]), and any one
//! makes the plan of them ([`plan_from_traces`]).
//!
//! SALF, re-derived (arXiv 2406.11753): see the [crate].

use std::path::{Path, PathBuf};

use frostline_schemas::data::{self, Encoder, Example, Examples};
use frostline_schemas::device::Device;
use frostline_schemas::digest::Digest;
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::plan::ExampleFrostLines;
use frostline_schemas::plan::{
    Aggregate, DataIdentity, Decision, EngineUsed, ExportPrecision, Gain, OnnxIdentity, PerExample, Plan, PlanMethod,
    REVISION, SpaceMeasured, VERSION,
};
use frostline_schemas::select::scope;
use frostline_schemas::select::{self, Strategy};
use frostline_schemas::select::{CostTable, ROWS_PER_STEP, StepShape};

use crate::batch::{self, Group, Limits};
use crate::engine::ort::Ort;
use crate::engine::ort_library;
use crate::engine::tract::Tract;
use crate::engine::{Engine, Traces};
use crate::error::{Error, Result};
use crate::heuristics::rule;
use crate::onnx::{self, Model};
use crate::progress::{Progress, Step, on_threads};
use crate::rewrite::latent::LatentSpaces;
use crate::rewrite::{prune_embedding, trace_outputs};
use crate::salf::basis::Basis;
use crate::salf::gram::Keep;
use crate::salf::{deviation, frost_line, gain};
use crate::traces::merge::{self, Wanted};
use crate::traces::shard::Shard;
use crate::traces::{self, ExampleTrace, Origin, ShardTraces};
use crate::verify;

/// Tokens of a batch, padding included: enough to fill the matrix products of two cores.
const TOKENS_PER_BATCH: usize = 512;

/// What a plan is made from, and how.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// Folder of config.json, safetensors and tokenizer.json.
    pub model: PathBuf,
    /// The export; where `None`, `model.onnx` or `onnx/model.onnx` in the model folder.
    pub onnx: Option<PathBuf>,
    /// JSONL of examples.
    pub data: PathBuf,
    /// By what rule is chosen what is trained. All but [`Strategy::Salf`] run no export: `onnx`, `engine`
    /// and `cache` do not matter to them, and what else only SALF heeds is refused.
    pub strategy: Strategy,
    pub engine: EngineChoice,
    /// Threads for everything, engines included; `None` for one a core.
    pub threads: Option<usize>,
    /// Examples in the sample.
    pub examples: usize,
    /// Seed of the sample.
    pub seed: u64,
    /// Tokens of an example; what goes beyond is cut off.
    pub max_length: usize,
    pub gain: Gain,
    pub aggregate: Aggregate,
    /// Layers at the output that are always trained, at least 1.
    pub min_trainable_layers: usize,
    /// The share of a full step's FLOPs that a step may cost, in (0, 1].
    pub budget: Option<f64>,
    /// Tensors of the latent spaces, embedding's output first, where they are named by hand.
    pub latent_spaces: Option<Vec<String>>,
    /// Whether each example shall have a frost line of its own.
    pub per_example: bool,
    /// Folder in which the Gram matrix of the LM head is kept for later plans; not kept where `None`.
    pub cache: Option<PathBuf>,
}

impl PlanSettings {
    /// The settings that are used where nothing else is asked for.
    pub fn new(model: PathBuf, data: PathBuf) -> PlanSettings {
        PlanSettings {
            model,
            onnx: None,
            data,
            strategy: Strategy::Salf,
            engine: EngineChoice::Tract,
            threads: None,
            examples: 256,
            seed: 0,
            max_length: 512,
            gain: Gain::PowerLaw,
            aggregate: Aggregate::Median,
            min_trainable_layers: 1,
            budget: None,
            latent_spaces: None,
            per_example: false,
            cache: None,
        }
    }
}

/// What runs the model.
#[derive(Clone, Debug, Default)]
pub enum EngineChoice {
    #[default]
    Tract,
    /// ONNX Runtime; where no library is given it is looked for.
    Ort { library: Option<PathBuf>, device: Device },
}

/// Makes a plan.
///
/// # Errors
/// [`Error::Setting`] for settings that make no sense; else for the first of what is read that cannot be used: model
/// folder, examples, export ([`Error::OtherModel`] where it is another model's), engine; [`Error::Budget`] where no frost
/// line fits it.
pub fn plan(settings: &PlanSettings, progress: &dyn Progress) -> Result<Planned> {
    check(settings)?;
    if settings.strategy != Strategy::Salf {
        check_rule(settings)?;
        return on_threads(settings.threads, progress, |progress| {
            progress.begin(Step::Reading, 0);
            let task = Task::read(settings, ModelFolder::open(&settings.model)?)?;
            Ok(Planned { plan: rule::plan(settings, task, progress)?, depths: None })
        });
    }
    load_engine(settings)?;
    on_threads(settings.threads, progress, |progress| {
        let (task, found) = compute(settings, Shard::WHOLE, progress)?;
        let traces = traces::in_order(task.sample.examples.len(), found.traces);
        decide(settings, task, found.origin, &traces)
    })
}

/// What [`plan`] and [`plan_from_traces`] make.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub plan: Plan,
    /// Where the settings ask for them, the examples' own frost lines.
    pub depths: Option<ExampleFrostLines>,
}

/// Computes the traces of one shard of the sample: what one machine of several does for a plan.
///
/// # Errors
/// As for [`plan()`], and [`Error::Setting`] for a strategy that has no traces.
pub fn trace_shard(settings: &PlanSettings, shard: Shard, progress: &dyn Progress) -> Result<ShardTraces> {
    check(settings)?;
    check_runs(settings)?;
    load_engine(settings)?;
    on_threads(settings.threads, progress, |progress| Ok(compute(settings, shard, progress)?.1))
}

/// Makes the plan of all shards' traces, the very one that [`plan`] makes on one machine. No model is run: of the
/// settings, `onnx` and `engine` are not looked at.
///
/// # Errors
/// [`Error::Traces`] for files that are damaged, of something else, or not all shards; and as for [`plan()`].
pub fn plan_from_traces(settings: &PlanSettings, files: &[PathBuf], progress: &dyn Progress) -> Result<Planned> {
    check(settings)?;
    check_runs(settings)?;
    on_threads(settings.threads, progress, |progress| {
        progress.begin(Step::Reading, 0);
        let task = Task::read(settings, ModelFolder::open(&settings.model)?)?;
        check_layers(settings, task.folder.config.layers.len())?;
        let (origin, traces) = merge::merge(files, &task.wanted(settings))?;
        decide(settings, task, origin, &traces)
    })
}

/// A model and the sample that it is run over.
pub(crate) struct Task {
    pub folder: ModelFolder,
    pub model: ModelIdentity,
    pub sample: Sample,
    /// All of the sample's batches.
    groups: Vec<Group>,
}

impl Task {
    fn read(settings: &PlanSettings, folder: ModelFolder) -> Result<Task> {
        let sample = sample(settings, &folder)?;
        let limits = Limits { tokens: TOKENS_PER_BATCH, length: folder.config.max_positions };
        let groups = batch::groups(&sample.examples, limits);
        Ok(Task { model: folder.identity()?, folder, sample, groups })
    }

    /// The step that costs are worked out for.
    pub fn step(&self) -> StepShape {
        let examples = &self.sample.examples;
        let mean = |count: fn(&Example) -> usize| {
            rounded(examples.iter().map(count).sum::<usize>() as f64 / examples.len().max(1) as f64)
        };
        StepShape {
            rows: ROWS_PER_STEP,
            tokens_per_row: mean(|example| example.tokens.len()),
            targets_per_row: mean(|example| example.targets.len()),
        }
    }

    /// What traces must be of to make a plan of this task.
    fn wanted<'a>(&'a self, settings: &'a PlanSettings) -> Wanted<'a> {
        Wanted {
            model: &self.model,
            data: &self.sample.identity,
            latent_spaces: settings.latent_spaces.as_deref(),
            groups: &self.groups,
        }
    }
}

/// Runs a shard's examples, on the threads of the rayon pool that it is called in.
fn compute(settings: &PlanSettings, shard: Shard, progress: &dyn Progress) -> Result<(Task, ShardTraces)> {
    progress.begin(Step::Reading, 0);
    let folder = ModelFolder::open(&settings.model)?;
    let onnx = onnx_path(settings)?;
    let (opened, task) = rayon::join(|| examine(settings, &onnx), || Task::read(settings, folder));
    let ((model, spaces), task) = (opened?, task?);

    progress.begin(Step::Comparing, 0);
    let longest = task.sample.examples.iter().map(|example| example.tokens.len()).max().unwrap_or_default();
    let onnx = onnx_identity(&model, verify::check(&model, &spaces, &task.folder, longest)?);
    check_layers(settings, spaces.layer_count())?;

    progress.begin(Step::Loading, 0);
    // The basis is for the targets of all shards: its rows are solved for together, and so are the same to the last bit
    // in each.
    let tokens = task.sample.examples.iter().flat_map(|example| &example.tokens).map(|&token| i64::from(token));
    let (model, rows) = prune_embedding::leave(model, &spaces.embedding, tokens);
    let load = || engine(settings, trace_outputs::trace(model, &spaces), &spaces.embedding.ids);
    let (engine, basis) = rayon::join(load, || basis(settings, &task));
    let (mut engine, basis) = (engine?, basis?);

    let mut groups = shard.take(&task.groups);
    if let Some(rows) = rows {
        groups.iter_mut().flat_map(|group| &mut group.batches).for_each(|batch| rows.renumber(batch));
    }
    let (traces, engine) = run(engine.as_mut(), settings, &task.sample.examples, &groups, &basis, progress)?;
    let origin = Origin {
        release: traces::RELEASE.into(),
        model: task.model.clone(),
        onnx,
        data: task.sample.identity.clone(),
        latent_spaces: settings.latent_spaces.clone(),
        engine,
        ridge: rounded(basis.ridge),
    };
    Ok((task, ShardTraces { origin, shard, traces }))
}

/// Opens an export and finds its latent spaces.
fn examine(settings: &PlanSettings, path: &Path) -> Result<(Model, LatentSpaces)> {
    let model = Model::open(path)?;
    let spaces = LatentSpaces::find(&model, settings.latent_spaces.as_deref())?;
    Ok((model, spaces))
}

/// Makes the plan of all examples' traces.
fn decide(settings: &PlanSettings, task: Task, origin: Origin, traces: &[Vec<f64>]) -> Result<Planned> {
    let cost = CostTable::new(&task.folder.config, task.step());
    let measured = Measured::new(traces, settings);
    let mut decision = measured.decide(settings, &cost)?;
    let depths = settings.per_example.then(|| {
        let frost_lines =
            frost_line::per_example(&measured.ends, settings.budget, &cost, settings.min_trainable_layers);
        let others = decision.frost_line;
        decision.frost_line = frost_lines.iter().copied().min().unwrap_or(others).min(others);
        let depths = ExampleFrostLines::new(task.sample.examples.iter().zip(frost_lines));
        decision.per_example = Some(PerExample { digest: depths.digest(), others });
        depths
    });
    let unset = Digest::of(b"");
    let mut plan = Plan {
        version: VERSION,
        revision: REVISION,
        id: unset,
        model: task.model,
        onnx: Some(origin.onnx),
        data: task.sample.identity,
        method: method(settings),
        engine: Some(origin.engine),
        tensors: scope::tensors(&task.folder.config, decision.frost_line),
        decision,
        spaces: measured.spaces(),
        ridge: Some(origin.ridge),
        cost,
        checksum: unset,
    };
    plan.seal();
    Ok(Planned { plan, depths })
}

/// Looks for the engine's library before anything large is read; the engine then finds it loaded.
fn load_engine(settings: &PlanSettings) -> Result<()> {
    if let EngineChoice::Ort { library, .. } = &settings.engine {
        ort_library::load(library.as_deref())?;
    }
    Ok(())
}

fn check(settings: &PlanSettings) -> Result<()> {
    let bad = |text: String| Err(Error::Setting(text));
    match settings.budget {
        Some(budget) if !(budget > 0.0 && budget <= 1.0) => {
            return bad(format!("--budget {budget}: must be above 0 and at most 1"));
        }
        _ => {}
    }
    if settings.examples == 0 {
        return bad("--examples 0: at least one example is needed".into());
    }
    if settings.min_trainable_layers == 0 {
        return bad("--min-trainable-layers 0: at least one layer must be left to train".into());
    }
    if let Some(twice) = onnx::doubled(settings.latent_spaces.iter().flatten().map(String::as_str)) {
        return bad(format!("--latent-spaces: `{twice}` is there twice"));
    }
    if settings.max_length < 2 {
        return bad(format!("--max-length {}: a target needs a token before it", settings.max_length));
    }
    Ok(())
}

/// What only SALF heeds must not be asked of a rule.
fn check_rule(settings: &PlanSettings) -> Result<()> {
    let given = [
        ("--per-example", settings.per_example),
        ("--min-trainable-layers", settings.min_trainable_layers != 1),
        ("--gain", settings.gain != Gain::PowerLaw),
        ("--aggregate", settings.aggregate != Aggregate::Median),
        ("--latent-spaces", settings.latent_spaces.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => {
            let strategy = &settings.strategy;
            Err(Error::Setting(format!("{flag}: strategy {strategy} looks at no examples; leave one of them out")))
        }
    }
}

/// Only a run of the model can be shared among machines.
fn check_runs(settings: &PlanSettings) -> Result<()> {
    match &settings.strategy {
        Strategy::Salf => Ok(()),
        other => Err(Error::Setting(format!("--strategy {other} has no traces; plan with it on one machine"))),
    }
}

fn check_layers(settings: &PlanSettings, layers: usize) -> Result<()> {
    match settings.min_trainable_layers {
        wanted if wanted > layers => {
            Err(Error::Setting(format!("--min-trainable-layers {wanted}: the model has only {layers} layers")))
        }
        _ => Ok(()),
    }
}

fn onnx_path(settings: &PlanSettings) -> Result<PathBuf> {
    if let Some(path) = &settings.onnx {
        return Ok(path.clone());
    }
    let candidates = [settings.model.join("model.onnx"), settings.model.join("onnx").join("model.onnx")];
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::Setting(format!("{}: holds no model.onnx; name the export with --onnx", settings.model.display()))
    })
}

/// The longest name of a producer that a plan keeps, in bytes.
const MAX_PRODUCER: usize = 200;

fn onnx_identity(model: &Model, precision: ExportPrecision) -> OnnxIdentity {
    let mut producer = model.producer();
    producer.truncate(producer.floor_char_boundary(MAX_PRODUCER));
    OnnxIdentity { digest: model.digest(), producer, opset: model.opset(), precision }
}

fn method(settings: &PlanSettings) -> PlanMethod {
    PlanMethod {
        strategy: Strategy::Salf,
        gain: Some(settings.gain),
        aggregate: Some(settings.aggregate),
        min_trainable_layers: Some(settings.min_trainable_layers),
        budget: settings.budget,
        latent_spaces: settings.latent_spaces.clone(),
    }
}

/// The sampled examples and what identifies them.
pub(crate) struct Sample {
    pub examples: Vec<Example>,
    pub identity: DataIdentity,
}

fn sample(settings: &PlanSettings, folder: &ModelFolder) -> Result<Sample> {
    let Examples { examples: all, rows, digest, max_length, .. } =
        data::read_examples(folder, &Encoder::new(&folder.path), &settings.data, settings.max_length)?;
    let chosen = select::sample(all.len(), settings.examples, settings.seed);
    let examples: Vec<Example> = chosen.into_iter().filter_map(|index| all.get(index).cloned()).collect();
    let identity = identity(settings, max_length, &examples, rows, digest);
    Ok(Sample { examples, identity })
}

fn identity(settings: &PlanSettings, max_length: usize, examples: &[Example], rows: u64, file: Digest) -> DataIdentity {
    DataIdentity {
        file,
        rows,
        examples: examples.len(),
        seed: settings.seed,
        max_length,
        sample: data::digest(examples),
        tokens: examples.iter().map(|example| example.tokens.len() as u64).sum(),
        targets: examples.iter().map(|example| example.targets.len() as u64).sum(),
    }
}

fn basis(settings: &PlanSettings, task: &Task) -> Result<Basis> {
    let (weights, head) = (&task.folder.weights, &task.folder.config.head.name);
    let tokens = task.sample.examples.iter().flat_map(|example| &example.targets).map(|target| target.token);
    let keep = settings.cache.as_deref().map(|root| Keep::new(root, &task.model.weights, head));
    let basis = Basis::new(head, weights.require(head)?, tokens, keep.as_ref());
    weights.release(head);
    basis
}

fn engine(settings: &PlanSettings, traced: Model, ids: &str) -> Result<Box<dyn Engine + Send>> {
    Ok(match &settings.engine {
        EngineChoice::Tract => Box::new(Tract::new(traced, ids)?),
        EngineChoice::Ort { library, device } => Box::new(Ort::new(&traced, ids, library.as_deref(), *device)?),
    })
}

/// Runs batches; each of their examples' trace, and what ran them.
fn run(
    engine: &mut dyn Engine,
    settings: &PlanSettings,
    examples: &[Example],
    groups: &[Group],
    basis: &Basis,
    progress: &dyn Progress,
) -> Result<(Vec<ExampleTrace>, EngineUsed)> {
    let total: usize = groups.iter().flat_map(|group| &group.examples).map(Vec::len).sum();
    progress.begin(Step::Running, total as u64);
    let traces = example_traces(engine, examples, groups, basis, &settings.data, progress)?;
    let used = EngineUsed { name: engine.name().into(), version: engine.version(), provider: engine.provider().into() };
    Ok((traces, used))
}

/// The trace of each example in `groups`, in their order: for each latent space, the mean deviation over its targets.
/// `data`, where the examples came from, is for messages.
pub fn example_traces(
    engine: &mut dyn Engine,
    examples: &[Example],
    groups: &[Group],
    basis: &Basis,
    data: &Path,
    progress: &dyn Progress,
) -> Result<Vec<ExampleTrace>> {
    let mut traces = Vec::new();
    for group in groups {
        tracing::debug!(shape = ?group.shape, batches = group.batches.len(), "running");
        engine.run(group.shape, &group.batches, &mut |batch, found: Traces| {
            let mut first = 0;
            for &index in &group.examples[batch] {
                let example = &examples[index];
                traces.push((index, deviation::example_trace(&found, first, example, basis, data)?));
                first += example.targets.len();
            }
            progress.advance(group.examples[batch].len() as u64);
            Ok(())
        })?;
    }
    Ok(traces)
}

/// What the examples say.
struct Measured {
    /// Mean and spread of each space's deviation.
    trace: Vec<(f64, f64)>,
    /// Gains of the mean trace.
    gains: Vec<f64>,
    /// Each example's end-of-freezing layer.
    ends: Vec<usize>,
}

impl Measured {
    fn new(traces: &[Vec<f64>], settings: &PlanSettings) -> Measured {
        let end =
            |trace: &Vec<f64>| gain::end_of_freezing(&gain::gains(trace, settings.gain), settings.min_trainable_layers);
        let trace = deviation::mean_and_spread(traces);
        let means: Vec<f64> = trace.iter().map(|(mean, _)| *mean).collect();
        Measured { gains: gain::gains(&means, settings.gain), ends: traces.iter().map(end).collect(), trace }
    }

    fn decide(&self, settings: &PlanSettings, cost: &CostTable) -> Result<Decision> {
        let mean = gain::end_of_freezing(&self.gains, settings.min_trainable_layers);
        let wanted = frost_line::aggregate(&self.ends, mean, settings.aggregate);
        frost_line::within_budget(wanted, settings.budget, cost, settings.min_trainable_layers)
    }

    fn spaces(&self) -> Vec<SpaceMeasured> {
        let measured = self.trace.iter().enumerate();
        measured
            .map(|(space, &(deviation, spread))| SpaceMeasured {
                space,
                deviation: rounded(deviation),
                spread: rounded(spread),
                gain: space.checked_sub(1).and_then(|layer| self.gains.get(layer)).copied().map(rounded),
                ends_here: self.ends.iter().filter(|&&end| end == space).count(),
            })
            .collect()
    }
}

/// To six significant digits, so that the file is readable.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_keep_six_digits() {
        assert_eq!(rounded(0.123_456_789), 0.123457);
        assert_eq!(rounded(-1234567.8), -1234570.0);
        assert_eq!(rounded(0.0), 0.0);
    }
}
