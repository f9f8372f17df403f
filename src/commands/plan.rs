//! `frostline plan`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use frostline_planner::traces::TracesError;
use frostline_planner::{EngineChoice, PlanSettings, Planned, Progress, Shard, ShardTraces, Step};
use frostline_schemas::cache_folder;
use frostline_schemas::device::Device;
use frostline_schemas::plan::{self, ExampleFrostLines};
use frostline_schemas::plan::{Plan, PlanError};
use serde_json::json;

use crate::arguments::{CachePlace, CachePlaceArguments, EngineArguments, EngineName, PlanArguments, ShardArguments};
use crate::output::Output;
use crate::progress::Bar;
use crate::render::plan::count;

pub fn run(arguments: &PlanArguments, output: &Output) -> anyhow::Result<()> {
    match (&arguments.shards, &arguments.out) {
        (ShardArguments { shard: Some(shard), traces: Some(traces), .. }, _) => {
            run_shard(arguments, *shard, traces, output)
        }
        (_, Some(out)) => run_plan(arguments, out, output),
        // The flags' own rules leave no such case.
        _ => anyhow::bail!("say where to write the plan: --out FILE"),
    }
}

/// Makes a plan, by running the model or of shards' traces.
fn run_plan(arguments: &PlanArguments, out: &Path, output: &Output) -> anyhow::Result<()> {
    refuse_to_write_over(out)?;
    let beside = plan::beside(out);
    if arguments.per_example && beside.exists() && !ExampleFrostLines::is_at(&beside) {
        anyhow::bail!("{}: is there already and holds no depths; name another --out or move it", beside.display());
    }
    let begun = Instant::now();
    let (settings, progress) = (settings(arguments)?, Drawn::new(output));
    let files = arguments.shards.from_traces.as_deref();
    let Planned { plan, depths } = match files {
        Some(files) => frostline_planner::plan_from_traces(&settings, files, &progress)?,
        None => frostline_planner::plan(&settings, &progress)?,
    };
    let steps = progress.seconds();
    // The plan last: where there is one, what it names is there.
    depths.map_or(Ok(()), |depths| depths.write(&beside))?;
    plan.write(out)?;
    let seconds = begun.elapsed().as_secs_f64();
    let shards = files.map(<[_]>::len);
    // Of a model that ran elsewhere this machine's clock says nothing.
    let speed = steps.get("running").map(|running| plan.data.tokens as f64 / running);
    let summary = json!({
        "plan": out,
        "id": plan.id,
        "strategy": plan.method.strategy,
        "frost_line": plan.decision.frost_line,
        "per_example": plan.decision.per_example,
        "layers": plan.model.layers,
        "tensors": plan.tensors.len(),
        "trained_parameters": plan.trained_parameters(),
        "engine": plan.engine,
        "shards": shards,
        "seconds": seconds,
        "seconds_of_steps": steps,
        "tokens_per_second": speed,
    });
    output.result(&summary, || {
        let chosen = format!(
            "{}: frost line {} of {} layers; {} tensors, {} parameters to train\n",
            out.display(),
            plan.decision.frost_line,
            plan.model.layers,
            plan.tensors.len(),
            count(plan.trained_parameters() as f64)
        );
        let time = shards.map_or_else(|| format!("in {seconds:.1} s"), |shards| format!("from {shards} shards"));
        let made = match &plan.engine {
            Some(engine) => format!(
                "{} examples ({} tokens) {time} with {} on {}{}",
                plan.data.examples,
                plan.data.tokens,
                engine.name,
                engine.provider,
                speed.map_or_else(String::new, |speed| format!(", {speed:.0} tokens/s"))
            ),
            None => format!("strategy {} {time}", plan.method.strategy),
        };
        format!("{chosen}{made}; id {}\n", plan.id)
    })
}

/// Computes one shard's traces.
fn run_shard(arguments: &PlanArguments, shard: Shard, out: &Path, output: &Output) -> anyhow::Result<()> {
    if out.is_file() && matches!(ShardTraces::read(out), Err(TracesError::NotTraces { .. })) {
        anyhow::bail!("{}: is there already and holds no traces; name another place or remove it", out.display());
    }
    let begun = Instant::now();
    let progress = Drawn::new(output);
    let found = frostline_planner::trace_shard(&settings(arguments)?, shard, &progress)?;
    let steps = progress.seconds();
    found.write(out)?;
    let seconds = begun.elapsed().as_secs_f64();
    let (examples, engine) = (found.traces.len(), &found.origin.engine);
    let summary = json!({
        "traces": out,
        "shard": shard,
        "examples": examples,
        "sample": found.origin.data.examples,
        "layers": found.origin.model.layers,
        "engine": engine,
        "seconds": seconds,
        "seconds_of_steps": steps,
    });
    output.result(&summary, || {
        format!(
            "{}: shard {shard}, {examples} of {} examples in {seconds:.1} s with {} on {}\n",
            out.display(),
            found.origin.data.examples,
            engine.name,
            engine.provider
        )
    })
}

/// A plan may take the place of a plan, even of one that somebody has changed, not of data, a config or weights.
pub fn refuse_to_write_over(out: &Path) -> anyhow::Result<()> {
    if out.is_dir() {
        anyhow::bail!("{}: is a folder; name a file in it", out.display());
    }
    let is_plan = || matches!(Plan::read(out), Ok(_) | Err(PlanError::Changed { .. } | PlanError::Inconsistent { .. }));
    if out.is_file() && !is_plan() {
        anyhow::bail!(
            "{}: is there already and is no plan of this version; name another place or remove it",
            out.display()
        );
    }
    Ok(())
}

fn settings(arguments: &PlanArguments) -> anyhow::Result<PlanSettings> {
    Ok(PlanSettings {
        model: arguments.model.clone(),
        onnx: arguments.engine.onnx.clone(),
        data: arguments.data.clone(),
        strategy: arguments.strategy.clone(),
        engine: engine(&arguments.engine, arguments.compute.device)?,
        threads: arguments.compute.threads,
        examples: arguments.examples,
        seed: arguments.seed,
        max_length: arguments.max_length,
        gain: arguments.gain,
        aggregate: arguments.aggregate,
        min_trainable_layers: arguments.min_trainable_layers,
        budget: arguments.budget,
        latent_spaces: arguments.latent_spaces.clone(),
        per_example: arguments.per_example,
        cache: cache_root(&arguments.cache),
    })
}

/// What runs the model, by its flags.
pub fn engine(arguments: &EngineArguments, device: Device) -> anyhow::Result<EngineChoice> {
    match arguments.engine {
        EngineName::Ort => Ok(EngineChoice::Ort { library: arguments.ort_library.clone(), device }),
        EngineName::Tract if device == Device::Cpu => Ok(EngineChoice::Tract),
        EngineName::Tract => anyhow::bail!("--device {device}: tract runs on the CPU; add --engine ort"),
    }
}

/// Where Gram matrices are kept, by the flags.
pub fn cache_root(arguments: &CachePlaceArguments) -> Option<PathBuf> {
    match &arguments.cache {
        Some(CachePlace::Folder(folder)) => Some(folder.clone()),
        Some(CachePlace::Off) => None,
        None => cache_folder::default_root(),
    }
}

/// Planning's progress as a bar.
pub struct Drawn {
    bar: Bar,
    total: Cell<u64>,
    done: Cell<u64>,
    begun: RefCell<Vec<(Step, Instant)>>,
}

impl Drawn {
    pub fn new(output: &Output) -> Drawn {
        let bar = Bar::new(output, "reading");
        Drawn { bar, total: Cell::new(0), done: Cell::new(0), begun: RefCell::default() }
    }

    /// What each step took up to now, in seconds, by its name.
    fn seconds(&self) -> BTreeMap<&'static str, f64> {
        let begun = self.begun.borrow();
        let ends = begun.iter().skip(1).map(|(_, end)| *end).chain([Instant::now()]);
        begun.iter().zip(ends).map(|(&(step, start), end)| (name(step), (end - start).as_secs_f64())).collect()
    }
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Reading => "reading",
        Step::Comparing => "comparing",
        Step::Loading => "loading",
        Step::Running => "running",
        Step::Spectrum => "spectrum",
    }
}

impl Progress for Drawn {
    fn begin(&self, step: Step, total: u64) {
        tracing::debug!(?step);
        self.begun.borrow_mut().push((step, Instant::now()));
        self.bar.say(name(step));
        self.total.set(total);
        self.done.set(0);
    }

    fn advance(&self, done: u64) {
        self.done.set(self.done.get() + done);
        let of_what = match self.begun.borrow().last() {
            Some((Step::Spectrum, _)) => "matrices",
            _ => "examples",
        };
        self.bar.set(self.done.get(), self.total.get(), of_what.into());
    }
}
