//! One decoder, described by data.
//!
//! [`DecoderConfig`] says everything that the planner and the runtime must know of a model: its sizes, what each layer
//! is made of, and the name and shape of every tensor. [`read_config`](crate::model::read_config) reads
//! it from Hugging Face's `config.json`; code that works with it need not know model families.

use crate::model::{Activation, Family, LinearLayout, NormKind, Residual};

/// A decoder-only language model, fully resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// The family that its `config.json` names.
    pub family: Family,
    /// Width of the residual stream (D).
    pub hidden: usize,
    /// Rows of the LM head (V).
    pub vocabulary: usize,
    /// The longest sequence the model was made for, in tokens.
    pub max_positions: usize,
    /// Token embedding, [vocabulary, hidden].
    pub embedding: TensorSpec,
    /// What the embedding's rows are multiplied by, if anything.
    pub embedding_scale: Option<f64>,
    /// Learned position embedding, [positions, hidden], added to the token's; `None` where positions are rotary.
    pub position_embedding: Option<TensorSpec>,
    /// From the input up.
    pub layers: Vec<LayerSpec>,
    /// Applied to the residual stream before the head.
    pub final_norm: NormSpec,
    /// The LM head, [vocabulary, hidden]: the same tensor as `embedding` where the two are tied.
    pub head: TensorSpec,
    /// What the head's product is multiplied by before anything else, if anything.
    pub logit_scale: Option<f64>,
    /// Logits `z` (scaled) become `cap · tanh(z / cap)`, where there is a cap.
    pub logit_softcap: Option<f64>,
}

/// A tensor's name in the safetensors files, and the shape it must have there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// As the files name it, or with the first part of it that some leave out.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
}

/// One decoder layer: two branches off the residual stream, each `out_norm(inner(norm(h)))` with norms where it has them.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpec {
    /// Applied to what attention reads.
    pub attention_norm: Option<NormSpec>,
    /// The first branch.
    pub attention: AttentionSpec,
    /// Applied to what attention adds to the residual stream, before it is added.
    pub attention_out_norm: Option<NormSpec>,
    /// Applied to what the MLP reads.
    pub mlp_norm: Option<NormSpec>,
    /// The second branch.
    pub mlp: MlpSpec,
    /// Applied to what the MLP adds to the residual stream, before it is added.
    pub mlp_out_norm: Option<NormSpec>,
    /// How the two branches are joined.
    pub residual: Residual,
    /// What each branch's output is multiplied by before it is added to the residual stream, if anything.
    pub residual_scale: Option<f64>,
}

/// Causal attention with grouped heads.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionSpec {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What the scores are multiplied by before the softmax.
    pub scale: f64,
    /// Scores `s` (scaled) become `cap · tanh(s / cap)` before the mask and the softmax, where there is a cap.
    pub softcap: Option<f64>,
    /// A query sees itself and the `window − 1` positions before it; all positions before it where `None`.
    pub window: Option<usize>,
    /// `None` where positions are a learned embedding, and in layers that have no positions.
    pub rope: Option<RopeSpec>,
    /// `[hidden]` → queries, keys and values.
    pub projection: ProjectionSpec,
    /// Norms of queries and of keys, before the rotary embedding: of each head if their [`width`](NormSpec::width) is
    /// `head_dim`, of all heads together if it is that of all heads.
    pub query_norm: Option<NormSpec>,
    /// As `query_norm`.
    pub key_norm: Option<NormSpec>,
    /// [heads · head_dim] → `[hidden]`.
    pub output: LinearSpec,
}

/// How queries, keys and values are projected.
#[expect(clippy::large_enum_variant, reason = "there is one for each layer, and nearly all are the large one")]
#[derive(Clone, Debug, PartialEq)]
pub enum ProjectionSpec {
    /// A matrix for each.
    Separate {
        /// `[hidden]` → [heads · head_dim].
        query: LinearSpec,
        /// `[hidden]` → [kv_heads · head_dim].
        key: LinearSpec,
        /// `[hidden]` → [kv_heads · head_dim].
        value: LinearSpec,
    },
    /// One matrix whose outputs are all queries, then all keys, then all values.
    Fused(LinearSpec),
    /// One matrix whose outputs are, head after head, its query, its key and its value: [heads, 3, head_dim].
    Interleaved(LinearSpec),
}

/// The feed-forward half of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct MlpSpec {
    /// Width between the two projections.
    pub intermediate: usize,
    /// Applied to the gate, or without one to what goes up.
    pub activation: Activation,
    /// `[hidden]` → `[intermediate]`.
    pub projection: MlpProjectionSpec,
    /// `[intermediate]` → `[hidden]`.
    pub down: LinearSpec,
}

/// How an MLP projects `[hidden]` → `[intermediate]`.
#[derive(Clone, Debug, PartialEq)]
pub enum MlpProjectionSpec {
    /// `down(activation(up(x)))`.
    Plain(LinearSpec),
    /// `down(activation(gate(x)) · up(x))`.
    Gated {
        /// What the activation is applied to.
        gate: LinearSpec,
        /// What the gate multiplies.
        up: LinearSpec,
    },
    /// As `Gated`, of one matrix whose outputs are the gate, then what goes up.
    FusedGated(LinearSpec),
}

/// `y = x Wᵀ + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSpec {
    /// Width of `x`.
    pub inputs: usize,
    /// Width of `y`.
    pub outputs: usize,
    /// W.
    pub weight: TensorSpec,
    /// b, `[outputs]`.
    pub bias: Option<TensorSpec>,
    /// How the weight lies in the file.
    pub layout: LinearLayout,
}

/// A normalisation over the last dimension.
#[derive(Clone, Debug, PartialEq)]
pub struct NormSpec {
    /// What is computed.
    pub kind: NormKind,
    /// Added to the mean square, or to the variance, before the root.
    pub epsilon: f64,
    /// w, `[width]`.
    pub weight: TensorSpec,
    /// b, `[width]`; a [`NormKind::Layer`] alone has one.
    pub bias: Option<TensorSpec>,
}

/// Rotary position embedding in the half-split form: dimension k turns with dimension k + width / 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeSpec {
    /// The first so many dimensions of each head are turned, an even number; the others stay as they are.
    pub width: usize,
    /// The base of the frequencies.
    pub theta: f64,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

/// How a rotary embedding's frequencies are stretched to longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by `factor`.
    Linear {
        /// Above 0.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between blended.
    Llama3 {
        /// Above 0.
        factor: f64,
        /// Turns within the original context below which a frequency is divided.
        low_frequency: f64,
        /// Turns within the original context above which a frequency is kept.
        high_frequency: f64,
        /// The context that the model was first trained for.
        original_positions: f64,
    },
}

impl RopeSpec {
    /// Radians per position of each of the `width / 2` planes.
    ///
    /// `theta^(−2k/width)`, then the scaling as Hugging Face's `modeling_rope_utils` defines it.
    pub fn frequencies(&self) -> Vec<f64> {
        let frequency = |k: usize| self.theta.powf(-2.0 * k as f64 / self.width as f64);
        (0..self.width / 2).map(|k| self.scaling.apply(frequency(k))).collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            RopeScaling::None => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low_frequency, high_frequency, original_positions } => {
                let turns = original_positions * frequency / std::f64::consts::TAU;
                if turns > high_frequency {
                    frequency
                } else if turns < low_frequency {
                    frequency / factor
                } else {
                    let kept = (turns - low_frequency) / (high_frequency - low_frequency);
                    frequency * (kept + (1.0 - kept) / factor)
                }
            }
        }
    }
}

impl DecoderConfig {
    /// Whether the LM head is the token embedding itself.
    pub fn tied(&self) -> bool {
        self.head.name == self.embedding.name
    }

    /// Every tensor of the model, each once: embeddings, layers from the input up, final norm, head.
    pub fn tensors(&self) -> Vec<&TensorSpec> {
        let mut tensors = vec![&self.embedding];
        tensors.extend(&self.position_embedding);
        for layer in &self.layers {
            tensors.extend(layer.tensors());
        }
        tensors.extend(self.final_norm.tensors());
        if !self.tied() {
            tensors.push(&self.head);
        }
        tensors
    }
}

impl LayerSpec {
    /// The layer's tensors in the order in which a forward pass meets them.
    pub fn tensors(&self) -> Vec<&TensorSpec> {
        let mut tensors = Vec::new();
        tensors.extend(self.attention_norm.iter().flat_map(NormSpec::tensors));
        for linear in self.attention.projection.linears() {
            tensors.extend(linear.tensors());
        }
        for norm in self.attention.query_norm.iter().chain(&self.attention.key_norm) {
            tensors.extend(norm.tensors());
        }
        tensors.extend(self.attention.output.tensors());
        tensors.extend(self.attention_out_norm.iter().flat_map(NormSpec::tensors));
        tensors.extend(self.mlp_norm.iter().flat_map(NormSpec::tensors));
        for linear in self.mlp.linears() {
            tensors.extend(linear.tensors());
        }
        tensors.extend(self.mlp_out_norm.iter().flat_map(NormSpec::tensors));
        tensors
    }

    /// The layer's weight matrices.
    pub fn linears(&self) -> impl Iterator<Item = &LinearSpec> {
        self.attention.projection.linears().into_iter().chain([&self.attention.output]).chain(self.mlp.linears())
    }

    /// The norms on the residual stream or on what is added to it; not those of queries and keys.
    pub fn norms(&self) -> impl Iterator<Item = &NormSpec> {
        [&self.attention_norm, &self.attention_out_norm, &self.mlp_norm, &self.mlp_out_norm].into_iter().flatten()
    }
}

impl MlpSpec {
    /// The matrices in the order in which a forward pass meets them.
    pub fn linears(&self) -> impl Iterator<Item = &LinearSpec> {
        self.projection.linears().into_iter().chain([&self.down])
    }
}

impl MlpProjectionSpec {
    /// The matrices, the gate first.
    pub fn linears(&self) -> Vec<&LinearSpec> {
        match self {
            MlpProjectionSpec::Gated { gate, up } => vec![gate, up],
            MlpProjectionSpec::Plain(linear) | MlpProjectionSpec::FusedGated(linear) => vec![linear],
        }
    }

    /// Whether there is a gate.
    pub fn is_gated(&self) -> bool {
        !matches!(self, MlpProjectionSpec::Plain(_))
    }
}

impl ProjectionSpec {
    /// The matrices, queries first.
    pub fn linears(&self) -> Vec<&LinearSpec> {
        match self {
            ProjectionSpec::Separate { query, key, value } => vec![query, key, value],
            ProjectionSpec::Fused(linear) | ProjectionSpec::Interleaved(linear) => vec![linear],
        }
    }
}

impl LinearSpec {
    /// Weight, then bias.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorSpec> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

impl NormSpec {
    /// Size of the dimension that is normalised.
    pub fn width(&self) -> usize {
        self.weight.shape.iter().product()
    }

    /// Weight, then bias.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorSpec> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product()
    }
}
