//! The resolved scope: which tensors are trained.

use std::collections::BTreeSet;

use frostline_schemas::decoder::{DecoderConfig, TensorSpec};
use frostline_schemas::folder::ModelIdentity;
use frostline_schemas::plan::Plan;

use crate::error::Error;

/// The names of the tensors to train, all of them tensors of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    names: BTreeSet<String>,
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
            (true, false) => Ok(Scope { names: names.into_iter().map(str::to_owned).collect() }),
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
        Scope { names: BTreeSet::new() }
    }

    /// The layers above the frost line and the final norm: what a plan trains unless asked for more.
    ///
    /// # Errors
    /// [`Error::FrostLine`] where no layer would be left to train.
    pub fn above(config: &DecoderConfig, frost_line: usize) -> Result<Scope, Error> {
        if frost_line >= config.layers.len() {
            return Err(Error::FrostLine { frost_line, layers: config.layers.len() });
        }
        Ok(Scope { names: frostline_schemas::scope::tensors(config, frost_line).into_iter().collect() })
    }

    /// Every tensor of the model: for comparison with other implementations, no plan asks for it.
    pub fn everything(config: &DecoderConfig) -> Scope {
        Scope { names: config.tensors().into_iter().map(|spec| spec.name.clone()).collect() }
    }

    /// Whether the tensor is trained.
    pub fn holds(&self, spec: &TensorSpec) -> bool {
        self.names.contains(&spec.name)
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
        let lowest = config.layers.iter().position(|layer| self.holds_any(layer.tensors()));
        lowest.unwrap_or(config.layers.len())
    }
}
