//! What a plan is made from and how, and whether that makes sense.

use std::path::PathBuf;

use frostline_schemas::cache::Store;
use frostline_schemas::data::RowSettings;
use frostline_schemas::device::Device;
use frostline_schemas::plan::{Aggregate, Gain};
use frostline_schemas::select::Strategy;
use frostline_schemas::units::plural;

use crate::batch::rounds;
use crate::error::{Error, Result};
use crate::onnx::names::duplicate;

/// What a plan is made from, and how.
#[derive(Clone, Debug)]
pub struct PlanSettings {
    /// Folder of config.json, safetensors and tokenizer.json.
    pub model: PathBuf,
    /// The export; where `None`, `model.onnx` or `onnx/model.onnx` in the model folder.
    pub onnx: Option<PathBuf>,
    /// The file of examples.
    pub data: PathBuf,
    /// How its rows become examples.
    pub rows: RowSettings,
    /// Which rule chooses what is trained. All but [`Strategy::Salf`] run no export: they ignore `onnx`, `engine` and
    /// `cache`, and refuse whatever else only SALF uses.
    pub strategy: Strategy,
    /// What runs the model.
    pub engine: EngineChoice,
    /// Threads for everything, engines included; `None` for one a core.
    pub threads: Option<usize>,
    /// Examples in the sample. Where `None` as many as it takes until the frost line is stable (95 % of resamples of
    /// them agree): 32, 64, 128 or 256, and 256 for a strategy that looks at none. The plan is
    /// the one for just so many.
    pub examples: Option<usize>,
    /// Seed of the sample.
    pub seed: u64,
    /// How gains are computed from deviations.
    pub gain: Gain,
    /// How the examples' end-of-freezing layers become one frost line.
    pub aggregate: Aggregate,
    /// Layers at the output that are always trained, at least 1.
    pub min_trainable_layers: usize,
    /// The share of a full step's FLOPs that a step may cost, in (0, 1].
    pub budget: Option<f64>,
    /// Tensors of the latent spaces, embedding's output first, where they are named by hand.
    pub latent_spaces: Option<Vec<String>>,
    /// Whether each example gets a frost line of its own.
    pub per_example: bool,
    /// Where the Gram matrix of the LM head is kept for later plans; not kept where `None`.
    pub cache: Option<Store>,
}

/// What runs the model.
#[derive(Clone, Debug, Default)]
pub enum EngineChoice {
    /// tract, which needs nothing installed.
    #[default]
    Tract,
    /// ONNX Runtime.
    Ort {
        /// Its library, which is looked for where `None`.
        library: Option<PathBuf>,
        /// Where it runs.
        device: Device,
    },
}

impl PlanSettings {
    /// The settings that are used where nothing else is asked for.
    pub const fn new(model: PathBuf, data: PathBuf) -> PlanSettings {
        PlanSettings {
            model,
            onnx: None,
            data,
            rows: RowSettings::new(),
            strategy: Strategy::Salf,
            engine: EngineChoice::Tract,
            threads: None,
            examples: None,
            seed: 0,
            gain: Gain::PowerLaw,
            aggregate: Aggregate::Median,
            min_trainable_layers: 1,
            budget: None,
            latent_spaces: None,
            per_example: false,
            cache: None,
        }
    }

    /// The most examples that may be read.
    pub(super) fn most_examples(&self) -> usize {
        self.examples.unwrap_or(rounds::MOST)
    }

    /// Refuses settings outside their range, and what only SALF uses together with another strategy.
    ///
    /// # Errors
    /// [`Error::Setting`] with the setting.
    pub fn check(&self) -> Result<()> {
        if let Some(budget) = self.budget.filter(|budget| !(*budget > 0.0 && *budget <= 1.0)) {
            return refused("budget", format!("budget {budget}: must be above 0 and at most 1"));
        }
        if self.examples == Some(0) {
            return refused("examples", "examples 0: at least one example is needed".into());
        }
        if self.min_trainable_layers == 0 {
            let reason = "min trainable layers 0: at least one layer must be left to train";
            return refused("min_trainable_layers", reason.into());
        }
        if let Some(name) = duplicate(self.latent_spaces.iter().flatten().map(String::as_str)) {
            return refused("latent_spaces", format!("latent spaces: `{name}` is named twice"));
        }
        if self.rows.max_length() < 2 {
            let reason = format!("max length {}: a target needs a token before it", self.rows.max_length());
            return refused("max_length", reason);
        }
        if self.strategy == Strategy::Salf { Ok(()) } else { self.check_rule() }
    }

    fn check_rule(&self) -> Result<()> {
        let given = [
            ("per_example", "a frost line for each example", self.per_example),
            ("min_trainable_layers", "min trainable layers", self.min_trainable_layers != 1),
            ("gain", "gain", self.gain != Gain::PowerLaw),
            ("aggregate", "aggregate", self.aggregate != Aggregate::Median),
            ("latent_spaces", "latent spaces", self.latent_spaces.is_some()),
        ];
        match given.into_iter().find(|(.., given)| *given) {
            None => Ok(()),
            Some((setting, what, _)) => {
                let strategy = &self.strategy;
                refused(
                    setting,
                    format!("{what}: strategy {strategy} measures no deviations; leave one of the two out"),
                )
            }
        }
    }

    /// Refuses strategies that do not run the model: only a run of it can be shared among machines.
    pub(super) fn check_runs(&self) -> Result<()> {
        match &self.strategy {
            Strategy::Salf => Ok(()),
            other => refused("strategy", format!("strategy {other} has no traces; plan with it on one machine")),
        }
    }

    /// Refuses to train more layers than there are.
    pub(super) fn check_layers(&self, layers: usize) -> Result<()> {
        match self.min_trainable_layers {
            least if least > layers => {
                let reason = format!("min trainable layers {least}: the model has only {}", plural(layers, "layer"));
                refused("min_trainable_layers", reason)
            }
            _ => Ok(()),
        }
    }

    /// Whether an export is named, or lies in the model's folder.
    pub fn has_export(&self) -> bool {
        self.onnx_path().is_ok()
    }

    /// The export's file.
    pub(super) fn onnx_path(&self) -> Result<PathBuf> {
        if let Some(path) = &self.onnx {
            return Ok(path.clone());
        }
        let candidates = [self.model.join("model.onnx"), self.model.join("onnx").join("model.onnx")];
        match candidates.into_iter().find(|path| path.is_file()) {
            Some(path) => Ok(path),
            None => refused("onnx", format!("{}: holds no model.onnx; name the export", self.model.display())),
        }
    }
}

fn refused<T>(setting: &'static str, reason: String) -> Result<T> {
    Err(Error::Setting { setting, reason })
}
