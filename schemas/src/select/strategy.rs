//! The rule by which a plan chooses what is trained.
//!
//! [`Strategy::Salf`], [`Strategy::Gradient`] and [`Strategy::Probe`] need runs of the model and
//! [`Strategy::Spectrum`] its weights; all others follow from the
//! model's config alone, and are checked against it whenever a plan is used.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::{DecoderConfig, LayerSpec, NormSpec};
use crate::select::{sample, scope};
use crate::units::plural;

/// A rule, written as `salf`, `last:7`, `spectrum:0.4` and so on. Whatever it chooses, the final norm is trained, too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Strategy {
    /// Semantic-aware layer freezing, re-derived (arXiv 2406.11753).
    Salf,
    /// The N layers nearest to the output.
    Last(usize),
    /// The N layers nearest to the input.
    First(usize),
    /// The N layers in the middle; where there is no exact middle, the lower ones.
    Middle(usize),
    /// Every N-th layer: numbers N, 2N, 3N …, counted from 1 at the input.
    Every(usize),
    /// N layers, drawn with the sample's seed.
    Random(usize),
    /// All layers.
    All,
    /// Of the weight matrices of each kind (all `mlp.down_proj`, say) the share whose singular values stand out most
    /// against noise, at least one of each.
    Spectrum(f64),
    /// The layers whose gradients promise the largest fall of the loss of all sets whose step costs at most this share of a
    /// full one.
    Gradient(f64),
    /// What short trainings of several arms show to be best, or as good for less.
    Probe,
    /// Layers by number, counted from 1 at the input (`3`, `5-7`), and tensors by name, where `*` stands for anything.
    Manual(Vec<String>),
}

/// How strategies are spelled, as messages show it.
pub const SPELLINGS: &str = "salf, probe, gradient, gradient:SHARE (above 0, at most 1), last:N, first:N, middle:N, \
                             every:N, random:N, all, spectrum:FRACTION (above 0, at \
                             most 1), manual:PATTERN+PATTERN+… (layers such as 3 or 5-7, names such as *.mlp.down_proj.weight)";

/// A text that names no strategy, or a strategy that does not fit a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum StrategyError {
    /// A text that names no strategy.
    #[error("`{0}` is no strategy; there are {SPELLINGS}")]
    Unknown(String),
    /// It asks for more layers than there are.
    #[error("strategy {strategy}: the model has {}", plural(*layers, "layer"))]
    TooMany { strategy: String, layers: usize },
    /// Patterns that match nothing.
    #[error("strategy manual: nothing matches {}; layers are 1 to {layers}, tensors are named like `{example}`", .patterns.join(", "))]
    Unmatched { patterns: Vec<String>, layers: usize, example: String },
    /// Nothing in a layer would be trained.
    #[error("strategy {strategy}: it trains no tensor of any layer")]
    NoLayer { strategy: String },
}

impl StrategyError {
    /// The setting that caused the error or would cure it.
    pub fn setting(&self) -> Option<&'static str> {
        Some("strategy")
    }
}

impl Strategy {
    /// The share of a full step that [`Strategy::Gradient`] may cost where none is named.
    pub const GRADIENT_SHARE: f64 = 0.6;

    /// Names of the tensors to train, from the input up, where config and seed decide on them; `None` for
    /// [`Strategy::Salf`], [`Strategy::Probe`], [`Strategy::Gradient`] and [`Strategy::Spectrum`].
    ///
    /// # Errors
    /// Where the strategy does not fit the model.
    pub fn tensors(&self, config: &DecoderConfig, seed: u64) -> Option<Result<Vec<String>, StrategyError>> {
        let all = config.layers.len();
        let layers: BTreeSet<usize> = match *self {
            Strategy::Salf | Strategy::Probe | Strategy::Gradient(_) | Strategy::Spectrum(_) => return None,
            Strategy::Manual(ref patterns) => return Some(self.by_hand(config, patterns)),
            Strategy::Last(count) | Strategy::First(count) | Strategy::Middle(count) | Strategy::Random(count)
                if count > all =>
            {
                return Some(Err(StrategyError::TooMany { strategy: self.to_string(), layers: all }));
            }
            Strategy::Last(count) => (all - count..all).collect(),
            Strategy::First(count) => (0..count).collect(),
            Strategy::Middle(count) => ((all - count) / 2..(all - count) / 2 + count).collect(),
            Strategy::Every(step) => (1..=all).filter(|number| number % step == 0).map(|number| number - 1).collect(),
            Strategy::Random(count) => sample(all, count, seed).into_iter().collect(),
            Strategy::All => (0..all).collect(),
        };
        let chosen = |index: &usize| layers.contains(index);
        Some(self.some_layer(config, scope::of_layers(config, |index| chosen(&index))))
    }

    fn by_hand(&self, config: &DecoderConfig, patterns: &[String]) -> Result<Vec<String>, StrategyError> {
        let names: Vec<&str> = config.tensors().into_iter().map(|spec| spec.name.as_str()).collect();
        let mut chosen: BTreeSet<&str> = NormSpec::tensors(&config.final_norm).map(|spec| spec.name.as_str()).collect();
        let mut unmatched = Vec::new();
        for pattern in patterns {
            let matched: Vec<&str> = match range(pattern) {
                Some((first, last)) => {
                    let layers = first.checked_sub(1).and_then(|first| config.layers.get(first..last));
                    let tensors = layers.unwrap_or_default().iter().flat_map(LayerSpec::tensors);
                    tensors.map(|spec| spec.name.as_str()).collect()
                }
                None => names.iter().copied().filter(|name| matches(pattern, name)).collect(),
            };
            if matched.is_empty() {
                unmatched.push(format!("`{pattern}`"));
            }
            chosen.extend(matched);
        }
        if !unmatched.is_empty() {
            let example = config.layers.first().map(|layer| layer.mlp.down.weight.name.clone()).unwrap_or_default();
            return Err(StrategyError::Unmatched { patterns: unmatched, layers: config.layers.len(), example });
        }
        self.some_layer(config, scope::ordered(config, |name| chosen.contains(name)))
    }

    fn some_layer(&self, config: &DecoderConfig, tensors: Vec<String>) -> Result<Vec<String>, StrategyError> {
        match scope::layers(config, &tensors).is_empty() {
            false => Ok(tensors),
            true => Err(StrategyError::NoLayer { strategy: self.to_string() }),
        }
    }
}

/// `5` or `5-7`, if it is that.
fn range(pattern: &str) -> Option<(usize, usize)> {
    let (first, last) = pattern.split_once('-').unwrap_or((pattern, pattern));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// Whether a name is a pattern's, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(start) => rest = &rest[start + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Strategy::Salf => f.write_str("salf"),
            Strategy::Probe => f.write_str("probe"),
            Strategy::Last(count) => write!(f, "last:{count}"),
            Strategy::First(count) => write!(f, "first:{count}"),
            Strategy::Middle(count) => write!(f, "middle:{count}"),
            Strategy::Every(step) => write!(f, "every:{step}"),
            Strategy::Random(count) => write!(f, "random:{count}"),
            Strategy::All => f.write_str("all"),
            Strategy::Spectrum(share) => write!(f, "spectrum:{share}"),
            Strategy::Gradient(share) => write!(f, "gradient:{share}"),
            Strategy::Manual(patterns) => write!(f, "manual:{}", patterns.join("+")),
        }
    }
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Strategy, StrategyError> {
        let unknown = || StrategyError::Unknown(text.into());
        let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value)));
        let count = || value.and_then(|value| value.parse().ok()).filter(|&count| count > 0).ok_or_else(unknown);
        let share = || {
            let share = value.and_then(|value| value.parse().ok()).filter(|&share| share > 0.0 && share <= 1.0);
            share.ok_or_else(unknown)
        };
        match (name, value) {
            ("salf", None) => Ok(Strategy::Salf),
            ("probe", None) => Ok(Strategy::Probe),
            ("all", None) => Ok(Strategy::All),
            ("last", _) => Ok(Strategy::Last(count()?)),
            ("first", _) => Ok(Strategy::First(count()?)),
            ("middle", _) => Ok(Strategy::Middle(count()?)),
            ("every", _) => Ok(Strategy::Every(count()?)),
            ("random", _) => Ok(Strategy::Random(count()?)),
            ("gradient", None) => Ok(Strategy::Gradient(Strategy::GRADIENT_SHARE)),
            ("gradient", _) => Ok(Strategy::Gradient(share()?)),
            ("spectrum", _) => Ok(Strategy::Spectrum(share()?)),
            ("manual", Some(patterns)) if patterns.split('+').all(|pattern| !pattern.is_empty()) => {
                Ok(Strategy::Manual(patterns.split('+').map(str::to_owned).collect()))
            }
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Strategy {
    type Error = StrategyError;

    fn try_from(text: String) -> Result<Strategy, StrategyError> {
        text.parse()
    }
}

impl From<Strategy> for String {
    fn from(strategy: Strategy) -> String {
        strategy.to_string()
    }
}

impl schemars::JsonSchema for Strategy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Strategy".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^(salf|probe|all|(last|first|middle|every|random):[0-9]+|(spectrum|gradient):[0-9.e-]+|manual:.+)$",
            "description": "The rule that chooses what is trained."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> DecoderConfig {
        crate::model::read_config(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama"))
            .unwrap()
    }

    /// The layers of which a strategy trains all tensors, counted from 1, and the tensors that it trains of others.
    fn chosen(strategy: &str) -> Result<(Vec<usize>, Vec<String>), StrategyError> {
        let config = llama();
        let mut tensors = strategy.parse::<Strategy>()?.tensors(&config, 3).unwrap()?;
        assert!(tensors.contains(&config.final_norm.weight.name));
        tensors.retain(|name| *name != config.final_norm.weight.name);
        let mut whole = Vec::new();
        for (index, layer) in config.layers.iter().enumerate() {
            let own: Vec<&String> = layer.tensors().into_iter().map(|spec| &spec.name).collect();
            if own.iter().all(|name| tensors.contains(name)) {
                whole.push(index + 1);
                tensors.retain(|name| !own.contains(&name));
            }
        }
        Ok((whole, tensors))
    }

    #[test]
    fn layers_are_chosen_by_rule() {
        let layers = |strategy: &str| chosen(strategy).unwrap();
        assert_eq!(layers("last:1"), (vec![4], vec![]));
        assert_eq!(layers("first:3"), (vec![1, 2, 3], vec![]));
        assert_eq!(layers("middle:2"), (vec![2, 3], vec![]));
        assert_eq!(layers("middle:1"), (vec![2], vec![]));
        assert_eq!(layers("middle:4"), layers("all"));
        assert_eq!(layers("every:2"), (vec![2, 4], vec![]));
        assert_eq!(layers("all"), (vec![1, 2, 3, 4], vec![]));
        assert_eq!(layers("random:2").0.len(), 2);
        assert_eq!(layers("random:2"), layers("random:2"));
    }

    #[test]
    fn layers_and_names_are_chosen_by_hand() {
        let biases: Vec<String> = [1, 2].map(|layer| format!("model.layers.{layer}.mlp.down_proj.weight")).into();
        assert_eq!(chosen("manual:1+4+model.layers.[*").unwrap_err().to_string().matches('`').count(), 4);
        assert_eq!(chosen("manual:1+4+*.mlp.down_proj.*").unwrap(), (vec![1, 4], biases));
        assert_eq!(chosen("manual:2-3").unwrap(), (vec![2, 3], vec![]));
        let head = chosen("manual:4+lm_head.weight").unwrap();
        assert_eq!(head, (vec![4], vec!["lm_head.weight".to_owned()]));
    }

    #[test]
    fn what_matches_nothing_is_an_error() {
        let said = |strategy: &str| chosen(strategy).unwrap_err().to_string();
        assert!(said("manual:4-5").contains("nothing matches `4-5`; layers are 1 to 4"));
        assert!(said("manual:0").contains("`0`"));
        for range in ["0-2", "3-2", "1-18446744073709551615"] {
            assert!(said(&format!("manual:{range}")).contains(&format!("nothing matches `{range}`")), "{range}");
        }
        let text = said("manual:3+*.q_porj.*+x");
        assert!(text.contains("nothing matches `*.q_porj.*`, `x`;") && text.contains("down_proj.weight"), "{text}");
        assert!(said("last:5").contains("strategy last:5: the model has 4 layers"));
        assert!(said("middle:5").contains("strategy middle:5: the model has 4 layers"));
        assert!(said("every:5").contains("trains no tensor of any layer"));
        assert!(said("manual:lm_head.weight").contains("trains no tensor of any layer"));
    }

    #[test]
    fn spellings_round_trip_and_others_are_errors() {
        for text in [
            "salf",
            "last:7",
            "first:1",
            "middle:3",
            "every:3",
            "random:2",
            "all",
            "spectrum:0.4",
            "gradient:0.25",
            "probe",
            "manual:1+5-7+a.*.b",
        ] {
            assert_eq!(text.parse::<Strategy>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "last",
            "last:0",
            "last:-1",
            "middle:0",
            "all:2",
            "spectrum:0",
            "spectrum:1.5",
            "spectrum",
            "gradient:0",
            "gradient:x",
            "manual:",
            "manual:1++2",
            "lisa",
        ] {
            assert!(
                text.parse::<Strategy>().unwrap_err().to_string().contains("is no strategy; there are salf"),
                "{text}"
            );
        }
    }

    #[test]
    fn stars_stand_for_anything() {
        assert!(matches("*", "a") && matches("a*", "a") && matches("*a", "a") && matches("a*b*c", "abbc"));
        assert!(!matches("a", "ab") && !matches("a*c", "ab") && !matches("ab*b", "ab") && !matches("", "a"));
    }
}
