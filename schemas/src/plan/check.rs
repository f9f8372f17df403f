//! Whether a plan agrees with itself and with a model.

use crate::data::{self, Examples};
use crate::model::{DecoderConfig, ModelIdentity};
use crate::plan::{Plan, PlanError, Probes, RateOrigin, Stability, VERSION};
use crate::select::{self, Strategy, scope};

/// How far rounding may carry a deviation out of [0, 2].
const SLACK: f64 = 1e-6;

/// Whether a frost line's stability can be one in a model with so many layers.
fn is_possible(layers: usize) -> impl Fn(Stability) -> bool {
    move |Stability { agree, low, high }| (0.0..=1.0).contains(&agree) && low <= high && high < layers
}

impl Plan {
    pub(super) fn check_consistency(&self) -> Result<(), String> {
        let layers = self.model.layers;
        let frost_line = self.decision.frost_line;
        if self.version != VERSION {
            return Err(format!("version {} does not exist", self.version));
        }
        if frost_line >= layers {
            return Err(format!("frost line {frost_line} leaves none of {layers} layers to train"));
        }
        if self.tensors.is_empty() {
            return Err("it names no tensor to train".into());
        }
        let others = self.decision.per_example.map_or(frost_line, |examples| examples.others);
        if !(frost_line..layers).contains(&others) {
            return Err(format!("frost line {others} of rows without their own, with {frost_line} of all"));
        }
        let in_order = |numbers: &mut dyn Iterator<Item = usize>, length: usize| numbers.eq(0..length);
        let measured = self.method.strategy == Strategy::Salf;
        if [self.onnx.is_some(), self.engine.is_some(), self.ridge.is_some()].contains(&!measured) {
            return Err(format!("strategy {} and what was run (`onnx`, `engine`, `ridge`)", self.method.strategy));
        }
        if [self.method.gain.is_some(), self.method.aggregate.is_some()].contains(&!measured) {
            return Err(format!("strategy {} and how gains are measured", self.method.strategy));
        }
        if [self.method.probe.is_some(), self.probes.is_some()].contains(&(self.method.strategy != Strategy::Probe)) {
            return Err(format!("strategy {} and what probes gave", self.method.strategy));
        }
        if let Some(chosen) = self.probes.as_ref().and_then(Probes::chosen).filter(|arm| arm.frost_line != frost_line) {
            return Err(format!("frost line {frost_line}, and probes chose one with {}", chosen.frost_line));
        }
        let by_probes = self.learning_rate.is_some_and(|rate| rate.origin == RateOrigin::Probe);
        if by_probes != self.probes.is_some() {
            return Err("a learning rate by probes without them, or probes without a rate".into());
        }
        if !measured && self.decision.per_example.is_some() {
            return Err(format!("strategy {} and examples with frost lines of their own", self.method.strategy));
        }
        if !measured && self.decision.stability.is_some() {
            return Err(format!("strategy {} and how stable the examples' frost line is", self.method.strategy));
        }
        let spaces = if measured { layers + 1 } else { 0 };
        if !in_order(&mut self.spaces.iter().map(|space| space.space), spaces) {
            return Err(format!(
                "`spaces` must list 0 to {layers} where they were measured, and must otherwise be empty"
            ));
        }
        if !in_order(&mut self.cost.frost_lines.iter().map(|cost| cost.frost_line), layers) {
            return Err(format!("`cost.frost_lines` must list 0 to {}", layers.saturating_sub(1)));
        }
        self.check_numbers()
    }

    /// Refuses numbers that no plan can have: the seal shows damage, but anyone can compute a new one.
    fn check_numbers(&self) -> Result<(), String> {
        let (layers, method, data) = (self.model.layers, &self.method, &self.data);
        let deviates = |value: f64| (-SLACK..=2.0 + SLACK).contains(&value);
        let ends: usize = self.spaces.iter().fold(0, |sum, space| sum.saturating_add(space.ends_here));
        let mut variabilities = self.spaces.iter().filter_map(|space| space.variability);
        let mut distances = self.spaces.iter().filter_map(|space| space.cka_distance);
        let possible = [
            ("`budget` is above 0 and at most 1", method.budget.is_none_or(|budget| budget > 0.0 && budget <= 1.0)),
            (
                "`min_trainable_layers` is at least 1 and at most all",
                method.min_trainable_layers.is_none_or(|least| (1..=layers).contains(&least)),
            ),
            ("`max_length` is at least 2", data.max_length >= 2),
            ("`examples` is at least 1", data.examples >= 1),
            ("`before_budget` is a frost line", self.decision.before_budget < layers),
            ("`learning_rate` is above 0", self.learning_rate.is_none_or(|rate| rate.is_possible())),
            ("`gradients` lists every layer", self.gradients.as_ref().is_none_or(|card| card.is_possible(layers))),
            ("`method.probe` plans for something", method.probe.is_none_or(|probe| probe.is_possible())),
            ("`probes` are of arms that can be", self.probes.as_ref().is_none_or(|probes| probes.is_possible(layers))),
            ("`ridge` is at least 0", self.ridge.is_none_or(|ridge| ridge >= 0.0)),
            ("a deviation is from 0 to 2", self.spaces.iter().all(|space| deviates(space.deviation))),
            ("a spread is from 0 to 2", self.spaces.iter().all(|space| deviates(space.spread))),
            (
                "`stability` is a share and a range of frost lines",
                self.decision.stability.is_none_or(is_possible(layers)),
            ),
            ("`variability` is at least 0", variabilities.all(|value| value >= 0.0 && value.is_finite())),
            ("`cka_distance` is from 0 to 1", distances.all(|value| (0.0..=1.0).contains(&value))),
            ("each example ends in one space", self.spaces.is_empty() || ends == data.examples),
        ];
        match possible.iter().find(|(_, held)| !held) {
            Some((rule, _)) => Err(format!("{rule}, but not here")),
            None => Ok(()),
        }
    }

    /// Checks that the plan was made for this very model and names the tensors that its frost line calls for.
    pub fn check_model(&self, model: &ModelIdentity, config: &DecoderConfig) -> Result<(), PlanError> {
        let mut misfits = self.model.differences(model);
        if misfits.is_empty() {
            misfits.extend(self.tensor_misfit(config));
        }
        if misfits.is_empty() { Ok(()) } else { Err(PlanError::Misfit(misfits)) }
    }

    /// Checks that rows of the file that the plan was made with, up to the same length, have the tokens and targets that they
    /// had then: the model's identity does not cover all that decides on them. Rows of other files pass.
    pub fn check_rows(&self, rows: &Examples) -> Result<(), PlanError> {
        let planned = &self.data;
        if (rows.digest, rows.max_length) != (planned.file, planned.max_length) {
            return Ok(());
        }
        let chosen = select::sample(rows.examples.len(), planned.examples, planned.seed);
        let found = data::digest(chosen.into_iter().filter_map(|index| rows.examples.get(index)));
        if found == planned.sample {
            return Ok(());
        }
        Err(PlanError::OtherTokens { planned: planned.sample.short(), found: found.short() })
    }

    fn tensor_misfit(&self, config: &DecoderConfig) -> Option<String> {
        let expected = match self.method.strategy.tensors(config, self.data.seed) {
            Some(Ok(tensors)) => tensors,
            Some(Err(error)) => return Some(error.to_string()),
            None if self.method.strategy == Strategy::Salf => scope::tensors(config, self.decision.frost_line),
            // Which matrices stand out only the weights tell.
            None => scope::ordered(config, |name| self.tensors.iter().any(|tensor| tensor == name)),
        };
        let frost_line = scope::frost_line(config, &expected);
        if self.tensors == expected && self.decision.frost_line == frost_line {
            return None;
        }
        let unknown = self.tensors.iter().find(|name| !expected.contains(name));
        let missing = expected.iter().find(|name| !self.tensors.contains(name));
        let strategy = &self.method.strategy;
        Some(match (unknown, missing) {
            (Some(name), _) => format!("it names tensor `{name}`, which strategy {strategy} does not train here"),
            (None, Some(name)) => format!("it leaves out tensor `{name}`, which strategy {strategy} trains"),
            (None, None) if self.tensors == expected => {
                format!("its frost line is {}, and its tensors begin above {frost_line}", self.decision.frost_line)
            }
            (None, None) => "it names a tensor twice or out of order".into(),
        })
    }
}
