//! The learning rate that a plan recommends.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::DecoderConfig;
use crate::select::scope;

/// Where training of all layers begins, and where LoRA on all layers does.
const ALL: f64 = 2e-5;
/// Adapters begin at zero and are small: they want about ten times the rate of the weights themselves.
const LORA_FACTOR: f64 = 10.0;
/// Fewer trained layers want a larger rate, but not beyond this factor.
const LARGEST_FACTOR: f64 = 10.0;

/// The largest learning rate of AdamW to train a plan with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LearningRate {
    /// Of the planned tensors themselves.
    pub full: f64,
    /// Of low-rank adapters beside them.
    pub lora: f64,
    /// What they come from.
    pub origin: RateOrigin,
}

/// What a learning rate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RateOrigin {
    /// From how many of the model's layers are trained.
    Rule,
    /// From how large the gradients of what is trained are, against those of all layers.
    Gradients,
    /// From trainings with several rates.
    Probe,
}

impl fmt::Display for RateOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RateOrigin::Rule => "by how many layers are trained",
            RateOrigin::Gradients => "by how large gradients are",
            RateOrigin::Probe => "the best of those tried",
        })
    }
}

impl LearningRate {
    /// 2e-5 for all layers, and more for fewer: in proportion, at most ten times.
    pub fn by_rule(config: &DecoderConfig, tensors: &[String]) -> LearningRate {
        let trained = scope::layers(config, tensors).len();
        LearningRate::scaled(config.layers.len() as f64 / trained.max(1) as f64, RateOrigin::Rule)
    }

    /// That of all layers times a factor, at most ten.
    pub fn scaled(factor: f64, origin: RateOrigin) -> LearningRate {
        LearningRate::measured(ALL * factor.min(LARGEST_FACTOR), origin)
    }

    /// A rate of the planned tensors, to two significant digits, and what adapters want beside it.
    pub fn measured(full: f64, origin: RateOrigin) -> LearningRate {
        LearningRate { full: two_digits(full), lora: two_digits(full * LORA_FACTOR), origin }
    }

    /// Whether both can be rates.
    pub(super) fn is_possible(&self) -> bool {
        [self.full, self.lora].iter().all(|rate| *rate > 0.0 && rate.is_finite())
    }
}

fn two_digits(rate: f64) -> f64 {
    format!("{rate:.1e}").parse().unwrap_or(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_layers_and_adapters_want_larger_rates() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama");
        let config = crate::model::read_config(&path).unwrap();
        let rates = [0, 2, 3].map(|frost_line| LearningRate::by_rule(&config, &scope::tensors(&config, frost_line)));
        assert_eq!(rates.map(|rate| rate.full), [2e-5, 4e-5, 8e-5]);
        assert_eq!(rates.map(|rate| rate.lora), [2e-4, 4e-4, 8e-4]);
        assert_eq!(LearningRate::scaled(24.0 / 7.0, RateOrigin::Rule).full, 6.9e-5);
        assert_eq!(LearningRate::scaled(80.0, RateOrigin::Gradients).full, 2e-4);
    }
}
