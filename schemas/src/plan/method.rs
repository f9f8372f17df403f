//! How a frost line is decided: the strategy and its settings, and how they are spelled.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::plan::ProbeMethod;
use crate::select::Strategy;

/// How a frost line is decided, with every setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanMethod {
    /// The rule that chooses what is trained.
    pub strategy: Strategy,
    /// Where the strategy measures gains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<Gain>,
    /// Where the strategy measures gains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Layers at the output that are always trained, whatever the gains are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_trainable_layers: Option<usize>,
    /// The share of a full fine-tuning step's FLOPs that a step may cost, in (0, 1].
    pub budget: Option<f64>,
    /// Where probes decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<ProbeMethod>,
    /// Tensors of the ONNX graph that were named by hand as its latent spaces; none where they were found by structure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent_spaces: Option<Vec<String>>,
}

impl PlanMethod {
    /// A strategy with nothing else set.
    pub fn of(strategy: Strategy) -> PlanMethod {
        PlanMethod {
            strategy,
            gain: None,
            aggregate: None,
            min_trainable_layers: None,
            budget: None,
            probe: None,
            latent_spaces: None,
        }
    }
}

/// How well a layer reduces the deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gain {
    /// `ln(d_{i−1} / d_i) / ln((i + 1) / i)`: the local exponent of the scaling law.
    PowerLaw,
    /// `d_{i−1} − d_i`.
    Difference,
}

/// How the examples' end-of-freezing layers become one frost line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Aggregate {
    /// The lower median.
    Median,
    /// The end-of-freezing layer of the mean trace.
    MeanTrace,
    /// The lower quantile `q` in [0, 1].
    Quantile(f64),
}

impl Gain {
    /// The gain's name as plans and flags spell it.
    pub fn name(self) -> &'static str {
        match self {
            Gain::PowerLaw => "power-law",
            Gain::Difference => "difference",
        }
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no [`Gain`] or no [`Aggregate`].
#[derive(Debug, thiserror::Error)]
#[error("`{found}` is none of {known}")]
pub struct UnknownName {
    found: String,
    known: &'static str,
}

impl FromStr for Gain {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Gain, UnknownName> {
        let gains = [Gain::PowerLaw, Gain::Difference];
        let known = "power-law, difference";
        gains.into_iter().find(|gain| gain.name() == text).ok_or_else(|| UnknownName { found: text.into(), known })
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aggregate::Median => f.write_str("median"),
            Aggregate::MeanTrace => f.write_str("mean-trace"),
            Aggregate::Quantile(q) => write!(f, "quantile:{q}"),
        }
    }
}

impl FromStr for Aggregate {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Aggregate, UnknownName> {
        let unknown = || UnknownName { found: text.into(), known: "median, mean-trace, quantile:Q with Q from 0 to 1" };
        match text {
            "median" => Ok(Aggregate::Median),
            "mean-trace" => Ok(Aggregate::MeanTrace),
            _ => {
                let q = text.strip_prefix("quantile:").and_then(|q| q.parse().ok()).ok_or_else(unknown)?;
                if (0.0..=1.0).contains(&q) { Ok(Aggregate::Quantile(q)) } else { Err(unknown()) }
            }
        }
    }
}

impl TryFrom<String> for Aggregate {
    type Error = UnknownName;

    fn try_from(text: String) -> Result<Aggregate, UnknownName> {
        text.parse()
    }
}

impl From<Aggregate> for String {
    fn from(aggregate: Aggregate) -> String {
        aggregate.to_string()
    }
}

impl schemars::JsonSchema for Aggregate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Aggregate".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(median|mean-trace|quantile:[0-9.]+)$",
            "description": "How the examples' end-of-freezing layers become one frost line."
        })
    }
}
