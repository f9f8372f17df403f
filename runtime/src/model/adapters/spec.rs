//! Which linear layers have an adapter beside them, and how the adapter's tensors are named and shaped.

use std::collections::{BTreeMap, BTreeSet};

use frostline_schemas::model::{DecoderConfig, LayerSpec, LinearLayout, LinearSpec, TensorSpec};
use frostline_schemas::run::Lora;

use crate::error::Error;

/// The largest alpha: so that a wrong one is refused and does not overflow.
const MAX_ALPHA: f64 = 1e6;

/// The adapter of one linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The layer that it stands beside.
    pub(super) linear: LinearSpec,
    /// A, [rank, inputs].
    pub(super) a: LinearSpec,
    /// B, [outputs, rank].
    pub(super) b: LinearSpec,
    /// alpha / rank.
    pub(super) scale: f64,
}

impl Adapter {
    fn new(linear: &LinearSpec, lora: &Lora) -> Result<Adapter, Error> {
        let (inputs, outputs, rank) = (linear.inputs, linear.outputs, lora.rank);
        if rank == 0 || rank > inputs.min(outputs) {
            return Err(Error::Rank { rank, module: module(linear).to_owned(), inputs, outputs });
        }
        let [a, b] = tensor_names(module(linear));
        let part = |name, inputs, outputs| LinearSpec {
            inputs,
            outputs,
            weight: TensorSpec { name, shape: vec![outputs, inputs] },
            bias: None,
            layout: LinearLayout::OutputsFirst,
        };
        let (a, b) = (part(a, inputs, rank), part(b, rank, outputs));
        Ok(Adapter { linear: linear.clone(), a, b, scale: lora.alpha / rank as f64 })
    }

    /// The layer that it stands beside.
    pub fn linear(&self) -> &LinearSpec {
        &self.linear
    }

    /// A [rank, inputs] and B [outputs, rank].
    pub fn tensors(&self) -> [&TensorSpec; 2] {
        [&self.a.weight, &self.b.weight]
    }
}

/// Adapters beside those of the planned weights that `lora` targets, by the name of the weight.
///
/// # Errors
/// [`Error::Targets`] for targets that none of them is named, [`Error::Rank`] and [`Error::Setting`] for a rank and an
/// alpha that make no sense.
pub(crate) fn beside(
    config: &DecoderConfig,
    is_planned: impl Fn(&TensorSpec) -> bool,
    lora: &Lora,
) -> Result<BTreeMap<String, Adapter>, Error> {
    check(lora)?;
    let planned = config.layers.iter().flat_map(LayerSpec::linears).filter(|linear| is_planned(&linear.weight));
    let planned: Vec<&LinearSpec> = planned.collect();
    let known: BTreeSet<&str> = planned.iter().map(|linear| short_name(linear)).collect();
    let unknown: Vec<String> = lora.targets.iter().filter(|name| !known.contains(name.as_str())).cloned().collect();
    if !unknown.is_empty() {
        return Err(Error::Targets { unknown, known: known.into_iter().map(str::to_owned).collect() });
    }
    let targeted = planned.into_iter().filter(|linear| lora.targets.iter().any(|name| name == short_name(linear)));
    targeted.map(|linear| Ok((linear.weight.name.clone(), Adapter::new(linear, lora)?))).collect()
}

fn check(lora: &Lora) -> Result<(), Error> {
    if !(lora.alpha > 0.0 && lora.alpha <= MAX_ALPHA) {
        let reason = "it must be a number above 0 and at most a million";
        return Err(Error::Setting { field: "alpha", value: lora.alpha.to_string(), reason });
    }
    if lora.targets.is_empty() {
        let reason = "name at least one linear layer";
        return Err(Error::Setting { field: "targets", value: "an empty list".into(), reason });
    }
    Ok(())
}

/// What those of a model's linear layers are called whose weights are among `tensors`, sorted: the last parts of their
/// names.
pub fn target_names(config: &DecoderConfig, tensors: &[String]) -> Vec<String> {
    let linears = config.layers.iter().flat_map(LayerSpec::linears);
    let names: BTreeSet<&str> =
        linears.filter(|linear| tensors.contains(&linear.weight.name)).map(short_name).collect();
    names.into_iter().map(str::to_owned).collect()
}

/// The linear layer's name in the model.
pub(crate) fn module(linear: &LinearSpec) -> &str {
    linear.weight.name.strip_suffix(".weight").unwrap_or(&linear.weight.name)
}

fn short_name(linear: &LinearSpec) -> &str {
    module(linear).rsplit('.').next().unwrap_or_default()
}

/// The names of A and B beside a module of the model, as Hugging Face's PEFT spells them.
fn tensor_names(module: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("base_model.model.{module}.{part}.weight"))
}
