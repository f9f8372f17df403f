//! The resolved scope: which tensors are trained.

use std::collections::{BTreeMap, BTreeSet};

use frostline_schemas::model::ModelIdentity;
use frostline_schemas::model::{DecoderConfig, LayerSpec, TensorSpec};
use frostline_schemas::plan::Plan;
use frostline_schemas::run::TrainingMethod;

use crate::error::Error;
use crate::model::adapters::{self, Adapter};

/// The names of the tensors to train, all of them tensors of one model or of adapters beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    names: BTreeSet<String>,
    /// By the name of the weight that they stand beside.
    adapters: BTreeMap<String, Adapter>,
}

impl Scope {
    /// Exactly the tensors named.
    ///
    /// # Errors
    /// [`Error::UnknownTensors`] with all names that the model does not have; [`Error::EmptyScope`] without any name.
    pub fn of_names<'a>(config: &DecoderConfig, names: impl IntoIterator<Item = &'a str>) -> Result<Scope, Error> {
        let known: BTreeSet<&str> = config.tensors().into_iter().map(|spec| spec.name.as_str()).collect();
        let (names, unknown): (BTreeSet<&str>, BTreeSet<&str>) =
            names.into_iter().partition(|name| known.contains(name));
        match (unknown.is_empty(), names.is_empty()) {
            (false, _) => Err(Error::UnknownTensors { names: unknown.into_iter().map(str::to_owned).collect() }),
            (true, true) => Err(Error::EmptyScope),
            (true, false) => Ok(Scope::of(names.into_iter().map(str::to_owned))),
        }
    }

    /// What a plan names, once it is sure that the plan was made for this model.
    ///
    /// # Errors
    /// [`Error::Plan`] where the plan does not fit.
    pub fn of_plan(plan: &Plan, model: &ModelIdentity, config: &DecoderConfig) -> Result<Scope, Error> {
        plan.check_model(model, config)?;
        Scope::of_names(config, plan.tensors.iter().map(String::as_str))
    }

    /// No tensor at all: a model to be evaluated.
    pub fn nothing() -> Scope {
        Scope::default()
    }

    /// The layers above the frost line and the final norm: what a plan trains unless asked for more.
    ///
    /// # Errors
    /// [`Error::FrostLine`] where no layer would be left to train.
    pub fn above(config: &DecoderConfig, frost_line: usize) -> Result<Scope, Error> {
        if frost_line >= config.layers.len() {
            return Err(Error::FrostLine { frost_line, layers: config.layers.len() });
        }
        Ok(Scope::of(frostline_schemas::select::scope::tensors(config, frost_line)))
    }

    /// Every tensor of the model: for comparison with other implementations, no plan asks for it.
    pub fn everything(config: &DecoderConfig) -> Scope {
        Scope::of(config.tensors().into_iter().map(|spec| spec.name.clone()))
    }

    fn of(names: impl IntoIterator<Item = String>) -> Scope {
        Scope { names: names.into_iter().collect(), adapters: BTreeMap::new() }
    }

    /// What a method trains of the scope: its tensors themselves, or adapters beside its weights and nothing else.
    ///
    /// # Errors
    /// [`Error::Targets`], [`Error::Rank`] and [`Error::Setting`] for adapters that the model cannot have.
    pub fn by(self, config: &DecoderConfig, method: &TrainingMethod) -> Result<Scope, Error> {
        let TrainingMethod::Lora(lora) = method else { return Ok(self) };
        let adapters = adapters::beside(config, |weight| self.holds(weight), lora)?;
        let names = adapters.values().flat_map(Adapter::tensors).map(|spec| spec.name.clone()).collect();
        Ok(Scope { names, adapters })
    }

    /// The scope with those of its adapters alone whose tensors are all among `names`.
    pub fn adapters_among<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Scope {
        let kept: BTreeSet<&str> = names.into_iter().collect();
        let is_kept = |adapter: &Adapter| adapter.tensors().iter().all(|spec| kept.contains(spec.name.as_str()));
        let adapters: BTreeMap<_, _> = self.adapters.into_iter().filter(|(_, adapter)| is_kept(adapter)).collect();
        let names = adapters.values().flat_map(Adapter::tensors).map(|spec| spec.name.clone()).collect();
        Scope { names, adapters }
    }

    /// The adapter beside a weight.
    pub fn adapter(&self, weight: &TensorSpec) -> Option<&Adapter> {
        self.adapters.get(&weight.name)
    }

    /// All adapters, by the names of the weights that they stand beside.
    pub fn adapters(&self) -> impl Iterator<Item = &Adapter> {
        self.adapters.values()
    }

    /// Whether a tensor's first gradient is zero everywhere: that of an adapter's A, whose B begins at zero.
    pub fn is_zero_at_first(&self, name: &str) -> bool {
        self.adapters().any(|adapter| adapter.tensors()[0].name == name)
    }

    /// Elements of all tensors that are trained.
    pub fn parameters(&self, config: &DecoderConfig) -> u64 {
        let own = config.tensors().into_iter().filter(|spec| self.holds(spec));
        own.chain(self.adapters().flat_map(Adapter::tensors)).map(TensorSpec::elements).sum()
    }

    /// Whether the tensor is trained.
    pub fn holds(&self, spec: &TensorSpec) -> bool {
        self.names.contains(&spec.name)
    }

    /// What of the scope gradients reach that go no deeper than a frost line.
    pub fn reached_above(&self, config: &DecoderConfig, frost_line: usize) -> Scope {
        if frost_line == 0 {
            return self.clone();
        }
        let below = config.layers.iter().take(frost_line).flat_map(LayerSpec::tensors);
        let embeddings = std::iter::once(&config.embedding).chain(&config.position_embedding);
        let mut reached = self.clone();
        for spec in below.chain(embeddings.filter(|spec| spec.name != config.head.name)) {
            reached.names.remove(&spec.name);
            for own in reached.adapters.remove(&spec.name).iter().flat_map(Adapter::tensors) {
                reached.names.remove(&own.name);
            }
        }
        reached
    }

    /// Whether any of the tensors is trained.
    pub fn holds_any<'a>(&self, specs: impl IntoIterator<Item = &'a TensorSpec>) -> bool {
        specs.into_iter().any(|spec| self.holds(spec))
    }

    /// Names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// How many of the lowest layers hold nothing that is trained and lie below all that is: their output never changes
    /// and no gradient reaches it. 0 where an embedding is trained (a tied one both where it is read and as the head).
    pub fn frost_line(&self, config: &DecoderConfig) -> usize {
        if self.holds(&config.embedding) || self.holds_any(&config.position_embedding) {
            return 0;
        }
        let reached = |spec: &TensorSpec| self.holds(spec) || self.adapter(spec).is_some();
        let lowest = config.layers.iter().position(|layer| LayerSpec::tensors(layer).into_iter().any(reached));
        lowest.unwrap_or(config.layers.len())
    }
}
