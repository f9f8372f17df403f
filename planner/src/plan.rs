//! From settings to a plan, step by step: examples → traces → gains → frost line → plan.
//!
//! SALF, re-derived (arXiv 2406.11753): see the [crate].

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use frostline_schemas::cost::{CostTable, ROWS_PER_STEP, StepShape};
use frostline_schemas::device::Device;
use frostline_schemas::digest::Digest;
use frostline_schemas::examples::{self, Example, Examples};
use frostline_schemas::folder::ModelFolder;
use frostline_schemas::plan::{
    Aggregate, DataIdentity, Decision, EngineUsed, Gain, Method, OnnxIdentity, Plan, Precision, SpaceMeasured,
    Strategy, VERSION,
};
use frostline_schemas::scope;

use crate::basis::Basis;
use crate::batches::{self, Limits};
use crate::engine::ort::Ort;
use crate::engine::ort_library;
use crate::engine::tract::Tract;
use crate::engine::{Engine, Traces};
use crate::error::{Error, Result};
use crate::latent::LatentSpaces;
use crate::onnx::Model;
use crate::{deviation, frost_line, gain, same_model, surgery};

/// Tokens of a batch, padding included: enough to fill the matrix products of two cores.
const TOKENS_PER_BATCH: usize = 512;
/// Stack of a thread, in bytes: as large as a main thread's, since optimisers of graphs recurse.
const STACK: usize = 8 << 20;

/// What a plan is made from, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder of config.json, safetensors and tokenizer.json.
    pub model: PathBuf,
    /// The export; where `None`, `model.onnx` or `onnx/model.onnx` in the model folder.
    pub onnx: Option<PathBuf>,
    /// JSONL of examples.
    pub data: PathBuf,
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
}

/// What runs the model.
#[derive(Clone, Debug, Default)]
pub enum EngineChoice {
    #[default]
    Tract,
    /// ONNX Runtime; where no library is given it is looked for.
    Ort { library: Option<PathBuf>, device: Device },
}

/// A step of planning that takes a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading and hashing model, export and examples.
    Reading,
    /// Comparing the export's weights with the folder's.
    Comparing,
    /// The semantic basis.
    Basis,
    /// Loading the graph into the engine.
    Loading,
    /// Running examples.
    Running,
}

/// Hears how far planning has come, on the thread that called [`plan`].
pub trait Progress {
    /// A step begins; `total` examples lie ahead where they are counted, else 0.
    fn begin(&self, step: Step, total: u64);

    /// So many more are done.
    fn advance(&self, done: u64);
}

/// Nobody listens.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: Step, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Makes a plan.
pub fn plan(settings: &Settings, progress: &dyn Progress) -> Result<Plan> {
    check(settings)?;
    if let EngineChoice::Ort { library, .. } = &settings.engine {
        // Looked for before anything large is read; the engine then finds it loaded.
        ort_library::load(library.as_deref())?;
    }
    let no_threads = |reason: String| Error::Setting(format!("no threads to plan on: {reason}"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(settings.threads.unwrap_or(0)).stack_size(STACK).build();
    let pool = pool.map_err(|error| no_threads(error.to_string()))?;
    let (sender, heard) = channel();
    let mut result = None;
    pool.in_place_scope(|scope| {
        scope.spawn(|_| result = Some(plan_here(settings, &Relay(sender))));
        // Ends when the relay is dropped, with the plan made or not.
        for event in heard {
            match event {
                Event::Begin(step, total) => progress.begin(step, total),
                Event::Advance(done) => progress.advance(done),
            }
        }
    });
    result.unwrap_or_else(|| Err(no_threads("they have ended".into())))
}

/// What a relay hands on.
enum Event {
    Begin(Step, u64),
    Advance(u64),
}

/// Hands progress on from the pool's threads to the one that called.
struct Relay(Sender<Event>);

impl Progress for Relay {
    fn begin(&self, step: Step, total: u64) {
        // Fails where nobody listens any more, and then nobody minds.
        let _ = self.0.send(Event::Begin(step, total));
    }

    fn advance(&self, done: u64) {
        let _ = self.0.send(Event::Advance(done));
    }
}

/// Makes a plan on the threads of the rayon pool that it is called in.
fn plan_here(settings: &Settings, progress: &dyn Progress) -> Result<Plan> {
    progress.begin(Step::Reading, 0);
    let folder = ModelFolder::open(&settings.model)?;
    let model = Model::open(&onnx_path(settings)?)?;
    let spaces = LatentSpaces::find(&model, settings.latent_spaces.as_deref())?;
    let sample = sample(settings, &folder)?;
    let identity = folder.identity()?;

    progress.begin(Step::Comparing, 0);
    let onnx = onnx_identity(&model, same_model::check(&model, &spaces, &folder)?);
    check_layers(settings, spaces.layer_count())?;

    progress.begin(Step::Basis, 0);
    let basis = basis(&folder, &sample.examples)?;

    let (traces, engine) = run(settings, model, &spaces, &folder, &sample.examples, &basis, progress)?;
    let cost = cost(&folder, &sample.examples);
    let measured = Measured::new(&traces, settings);
    let decision = measured.decide(settings, &cost)?;
    let unset = Digest::of(b"");
    let mut plan = Plan {
        version: VERSION,
        id: unset,
        model: identity,
        onnx,
        data: sample.identity,
        method: method(settings),
        engine,
        tensors: scope::tensors(&folder.config, decision.frost_line),
        decision,
        spaces: measured.spaces(),
        ridge: rounded(basis.ridge),
        cost,
        checksum: unset,
    };
    plan.seal();
    Ok(plan)
}

fn check(settings: &Settings) -> Result<()> {
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
    if settings.max_length < 2 {
        return bad(format!("--max-length {}: a target needs a token before it", settings.max_length));
    }
    Ok(())
}

fn check_layers(settings: &Settings, layers: usize) -> Result<()> {
    match settings.min_trainable_layers {
        wanted if wanted > layers => {
            Err(Error::Setting(format!("--min-trainable-layers {wanted}: the model has only {layers} layers")))
        }
        _ => Ok(()),
    }
}

fn onnx_path(settings: &Settings) -> Result<PathBuf> {
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

fn onnx_identity(model: &Model, precision: Precision) -> OnnxIdentity {
    let mut producer = model.producer();
    producer.truncate(producer.floor_char_boundary(MAX_PRODUCER));
    OnnxIdentity { digest: model.digest(), producer, opset: model.opset(), precision }
}

fn method(settings: &Settings) -> Method {
    Method {
        strategy: Strategy::Salf,
        gain: settings.gain,
        aggregate: settings.aggregate,
        min_trainable_layers: settings.min_trainable_layers,
        budget: settings.budget,
        latent_spaces: settings.latent_spaces.clone(),
    }
}

/// The sampled examples and what identifies them.
struct Sample {
    examples: Vec<Example>,
    identity: DataIdentity,
}

fn sample(settings: &Settings, folder: &ModelFolder) -> Result<Sample> {
    let Examples { examples: all, rows, digest, max_length, .. } =
        folder.read_examples(&settings.data, settings.max_length)?;
    let chosen = examples::sample(all.len(), settings.examples, settings.seed);
    let examples: Vec<Example> = chosen.into_iter().filter_map(|index| all.get(index).cloned()).collect();
    let identity = identity(settings, max_length, &examples, rows, digest);
    Ok(Sample { examples, identity })
}

fn identity(settings: &Settings, max_length: usize, examples: &[Example], rows: u64, file: Digest) -> DataIdentity {
    DataIdentity {
        file,
        rows,
        examples: examples.len(),
        seed: settings.seed,
        max_length,
        sample: examples::digest(examples),
        tokens: examples.iter().map(|example| example.tokens.len() as u64).sum(),
        targets: examples.iter().map(|example| example.targets.len() as u64).sum(),
    }
}

fn basis(folder: &ModelFolder, examples: &[Example]) -> Result<Basis> {
    let head = &folder.config.head.name;
    let tokens = examples.iter().flat_map(|example| &example.targets).map(|target| target.token);
    Basis::new(head, folder.weights.require(head)?, tokens)
}

fn engine(settings: &Settings, traced: Model, ids: &str) -> Result<Box<dyn Engine>> {
    Ok(match &settings.engine {
        EngineChoice::Tract => Box::new(Tract::new(traced, ids)?),
        EngineChoice::Ort { library, device } => Box::new(Ort::new(&traced, ids, library.as_deref(), *device)?),
    })
}

/// Runs the examples; each one's trace, and what ran them.
fn run(
    settings: &Settings,
    model: Model,
    spaces: &LatentSpaces,
    folder: &ModelFolder,
    examples: &[Example],
    basis: &Basis,
    progress: &dyn Progress,
) -> Result<(Vec<Vec<f64>>, EngineUsed)> {
    progress.begin(Step::Loading, 0);
    let traced = surgery::trace(model, spaces);
    let mut engine = engine(settings, traced, &spaces.embedding.ids)?;
    progress.begin(Step::Running, examples.len() as u64);
    let limits = Limits { tokens: TOKENS_PER_BATCH, length: folder.config.max_positions };
    let traces = example_traces(engine.as_mut(), examples, limits, basis, &settings.data, progress)?;
    let used = EngineUsed { name: engine.name().into(), version: engine.version(), provider: engine.provider().into() };
    Ok((traces, used))
}

/// Each example's trace: for each latent space, the mean deviation over its targets. `data`, where the examples came
/// from, is for messages.
pub fn example_traces(
    engine: &mut dyn Engine,
    examples: &[Example],
    limits: Limits,
    basis: &Basis,
    data: &Path,
    progress: &dyn Progress,
) -> Result<Vec<Vec<f64>>> {
    let mut traces = vec![Vec::new(); examples.len()];
    for group in batches::groups(examples, limits) {
        tracing::debug!(shape = ?group.shape, batches = group.batches.len(), "running");
        engine.run(group.shape, &group.batches, &mut |batch, found: Traces| {
            let mut first = 0;
            for &index in &group.examples[batch] {
                let example = &examples[index];
                traces[index] = deviation::example_trace(&found, first, example, basis, data)?;
                first += example.targets.len();
            }
            progress.advance(group.examples[batch].len() as u64);
            Ok(())
        })?;
    }
    Ok(traces)
}

fn cost(folder: &ModelFolder, examples: &[Example]) -> CostTable {
    let mean = |count: fn(&Example) -> usize| {
        rounded(examples.iter().map(count).sum::<usize>() as f64 / examples.len().max(1) as f64)
    };
    let step = StepShape {
        rows: ROWS_PER_STEP,
        tokens_per_row: mean(|example| example.tokens.len()),
        targets_per_row: mean(|example| example.targets.len()),
    };
    CostTable::new(&folder.config, step)
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
    fn new(traces: &[Vec<f64>], settings: &Settings) -> Measured {
        let end =
            |trace: &Vec<f64>| gain::end_of_freezing(&gain::gains(trace, settings.gain), settings.min_trainable_layers);
        let trace = deviation::mean_and_spread(traces);
        let means: Vec<f64> = trace.iter().map(|(mean, _)| *mean).collect();
        Measured { gains: gain::gains(&means, settings.gain), ends: traces.iter().map(end).collect(), trace }
    }

    fn decide(&self, settings: &Settings, cost: &CostTable) -> Result<Decision> {
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
