//! Low-rank adapters beside frozen linear layers (LoRA; Hu et al., arXiv 2106.09685):
//! `y = x Wᵀ + b + (alpha / rank) · (x Aᵀ) Bᵀ`, of which A and B are trained.

pub(crate) mod peft;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};
use frostline_schemas::model::{DecoderConfig, LayerSpec, LinearLayout, LinearSpec, TensorSpec};
use frostline_schemas::run::Lora;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::Error;
use crate::model::gradients::Gradients;
use crate::model::parameters::Parameters;
use crate::model::scope::Scope;
use crate::ops::cpu::product::Into;
use crate::ops::linear;

/// The largest alpha: so that a wrong one is refused and does not overflow.
const MAX_ALPHA: f64 = 1e6;
/// The stream of random numbers that A is drawn from; rows are shuffled with that of 0.
const STREAM: u64 = 1;

/// The adapter of one linear layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The layer that it stands beside.
    linear: LinearSpec,
    /// A, [rank, inputs].
    a: LinearSpec,
    /// B, [outputs, rank].
    b: LinearSpec,
    /// alpha / rank.
    scale: f64,
}

impl Adapter {
    fn new(linear: &LinearSpec, lora: &Lora) -> Result<Adapter, Error> {
        let (inputs, outputs, rank) = (linear.inputs, linear.outputs, lora.rank);
        if rank == 0 || rank > inputs.min(outputs) {
            return Err(Error::Rank { rank, module: module(linear).to_owned(), inputs, outputs });
        }
        let [a, b] = peft::tensor_names(module(linear));
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

    /// Adds what the adapter gives for `x` [rows, inputs] to `y` [rows, outputs], which nobody else holds.
    pub fn forward(&self, parameters: &Parameters, x: &Tensor, y: Tensor) -> Result<Tensor, Error> {
        let b = parameters.matrix(&self.b.weight)?;
        Ok(linear::forward_onto(&self.narrow(parameters, x)?, &b, self.b.layout, y)?)
    }

    /// Adds the gradients of A and B; `x` is the input of the forward pass.
    pub fn collect(
        &self,
        parameters: &Parameters,
        x: &Tensor,
        dy: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<(), Error> {
        gradients.add_weight(&self.b, &self.narrow(parameters, x)?, dy)?;
        gradients.add_weight(&self.a, x, &self.narrow_gradient(parameters, dy)?)
    }

    /// Adds the gradient of the input to `sum`, which nobody else holds.
    pub fn input_gradient(&self, parameters: &Parameters, dy: &Tensor, sum: Tensor) -> Result<Tensor, Error> {
        let a = parameters.matrix(&self.a.weight)?;
        let dy = self.narrow_gradient(parameters, dy)?;
        Ok(linear::input_gradient(&dy, &a, self.a.layout, Some(sum))?)
    }

    /// `(alpha / rank) · x Aᵀ`, [rows, rank].
    fn narrow(&self, parameters: &Parameters, x: &Tensor) -> Result<Tensor, Error> {
        let a = parameters.matrix(&self.a.weight)?;
        Ok((linear::forward(x, &a, None, self.a.layout)? * self.scale)?)
    }

    /// `(alpha / rank) · dy B`, [rows, rank].
    fn narrow_gradient(&self, parameters: &Parameters, dy: &Tensor) -> Result<Tensor, Error> {
        let b = parameters.matrix(&self.b.weight)?;
        Ok((linear::input_gradient(dy, &b, self.b.layout, None)? * self.scale)?)
    }

    /// Adds `(alpha / rank) · B A` to a weight as it lies in the file, in f32 on the CPU, which nobody else holds.
    pub fn add_to_weight(&self, weight: &Tensor, a: &Tensor, b: &Tensor) -> Result<(), Error> {
        let b = (b.t()? * self.scale)?;
        Ok(linear::weight_gradient(&b, a, self.linear.layout, weight, Into::Add)?)
    }
}

/// Adapters beside those of a scope's weights that `lora` targets, by the name of the weight.
///
/// # Errors
/// [`Error::Targets`] for targets that none of them is named, [`Error::Rank`] and [`Error::Setting`] for a rank and an
/// alpha that make no sense.
pub fn beside(config: &DecoderConfig, scope: &Scope, lora: &Lora) -> Result<BTreeMap<String, Adapter>, Error> {
    check(lora)?;
    let planned = config.layers.iter().flat_map(LayerSpec::linears).filter(|linear| scope.holds(&linear.weight));
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
        let reason = "name a linear layer, or leave --targets out to adapt all of them";
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

/// Gives every A its first values, uniform within ±1/√inputs as PEFT draws them; every B is zero.
pub fn initialise(scope: &Scope, parameters: &mut Parameters, seed: u64) -> Result<(), Error> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(STREAM);
    for Adapter { a, .. } in scope.adapters() {
        let bound = (a.inputs as f32).sqrt().recip();
        let values: Vec<f32> = (0..a.weight.elements()).map(|_| random.random_range(-bound..bound)).collect();
        parameters.replace(&a.weight.name, Tensor::from_vec(values, a.weight.shape.as_slice(), &Device::Cpu)?)?;
    }
    Ok(())
}

/// The linear layer's name in the model.
pub(crate) fn module(linear: &LinearSpec) -> &str {
    linear.weight.name.strip_suffix(".weight").unwrap_or(&linear.weight.name)
}

fn short_name(linear: &LinearSpec) -> &str {
    module(linear).rsplit('.').next().unwrap_or_default()
}
