//! Reads a model's `config.json` into a [`DecoderConfig`].
//!
//! Each family is a [`Dialect`]: which names its tensors have and which of a decoder's parts it uses. What a config asks
//! for and the runtime does not do is refused here, by name, rather than computed wrongly.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::decoder::*;

/// A `config.json` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing or unreadable.
    #[error("{}: {source}: a model folder has config.json, safetensors weights and tokenizer.json, as Hugging Face saves them", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// Not JSON, or a field of the wrong type.
    #[error("{}: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    /// A model family that is not described here.
    #[error("{}: model_type `{family}` is not supported; supported: llama, qwen2, gemma3_text, gpt2", path.display())]
    Family { path: PathBuf, family: String },
    /// A field that the family needs is not there.
    #[error("{}: `{field}` is missing", path.display())]
    Missing { path: PathBuf, field: &'static str },
    /// A field with a value that is impossible, or that asks for something that is not computed here.
    #[error("{}: `{field}` is {value}: {reason}", path.display())]
    Value { path: PathBuf, field: &'static str, value: String, reason: String },
}

/// The largest size read from a config: far above any model, and small enough that no sum over all tensors overflows.
const MAX_SIZE: usize = 1 << 24;
const MAX_LAYERS: usize = 4096;

/// Reads `config.json` in `folder`.
pub fn read(folder: &Path) -> Result<DecoderConfig, ConfigError> {
    let path = folder.join("config.json");
    let text = std::fs::read(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
    parse(&path, &text)
}

/// Parses the text of a `config.json`; `path` is for messages.
pub fn parse(path: &Path, text: &[u8]) -> Result<DecoderConfig, ConfigError> {
    let raw: RawConfig =
        serde_json::from_slice(text).map_err(|source| ConfigError::Parse { path: path.into(), source })?;
    Reader { path, raw: &raw }.decoder()
}

/// The fields of `config.json` that matter, under the names that the families give them.
#[derive(Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    #[serde(alias = "n_layer")]
    num_hidden_layers: Option<usize>,
    #[serde(alias = "n_embd")]
    hidden_size: Option<usize>,
    #[serde(alias = "n_head")]
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(alias = "n_inner")]
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    #[serde(alias = "n_positions")]
    max_position_embeddings: Option<usize>,
    #[serde(alias = "layer_norm_epsilon")]
    rms_norm_eps: Option<f64>,
    #[serde(alias = "hidden_activation", alias = "activation_function")]
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    query_pre_attn_scalar: Option<f64>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    layer_types: Option<Vec<String>>,
    sliding_window: Option<usize>,
    #[serde(alias = "_sliding_window_pattern")]
    sliding_window_pattern: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRopeParameters>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
    add_cross_attention: Option<bool>,
}

/// `rope_parameters`, for all layers alike or by the kind of layer.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawRopeParameters {
    ByLayerType(BTreeMap<String, RawRope>),
    All(RawRope),
}

#[derive(Clone, Deserialize)]
struct RawRope {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

/// What sets one family apart from the others.
struct Dialect {
    family: Family,
    norm: NormKind,
    norm_bias: bool,
    tied_by_default: bool,
    activation: &'static str,
    layout: LinearLayout,
    /// Whether positions are a learned embedding, rather than rotary.
    learned_positions: bool,
    /// Whether embeddings are multiplied by √hidden.
    scaled_embedding: bool,
    query_key_norms: bool,
    query_key_value_bias: Presence,
    output_bias: Presence,
    mlp_bias: Presence,
    names: Names,
}

/// Whether a family has a tensor.
#[derive(Clone, Copy)]
enum Presence {
    Always,
    Never,
    /// As the config says, `false` unless said.
    Configured,
}

/// Names of tensors: those of a layer stand behind `{layers}.{index}.`.
struct Names {
    embedding: &'static str,
    positions: &'static str,
    layers: &'static str,
    final_norm: &'static str,
    attention_norm: &'static str,
    projection: &'static [&'static str],
    output: &'static str,
    attention_out_norm: Option<&'static str>,
    mlp_norm: &'static str,
    gate: Option<&'static str>,
    up: &'static str,
    down: &'static str,
    mlp_out_norm: Option<&'static str>,
}

const LLAMA_NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    positions: "",
    layers: "model.layers",
    final_norm: "model.norm",
    attention_norm: "input_layernorm",
    projection: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    output: "self_attn.o_proj",
    attention_out_norm: None,
    mlp_norm: "post_attention_layernorm",
    gate: Some("mlp.gate_proj"),
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    mlp_out_norm: None,
};

const LLAMA: Dialect = Dialect {
    family: Family::Llama,
    norm: NormKind::Rms,
    norm_bias: false,
    tied_by_default: false,
    activation: "silu",
    layout: LinearLayout::OutputsFirst,
    learned_positions: false,
    scaled_embedding: false,
    query_key_norms: false,
    query_key_value_bias: Presence::Configured,
    output_bias: Presence::Configured,
    mlp_bias: Presence::Configured,
    names: LLAMA_NAMES,
};

const QWEN2: Dialect = Dialect {
    family: Family::Qwen2,
    query_key_value_bias: Presence::Always,
    output_bias: Presence::Never,
    mlp_bias: Presence::Never,
    ..LLAMA
};

const GEMMA3: Dialect = Dialect {
    family: Family::Gemma3,
    norm: NormKind::RmsUnitOffset,
    tied_by_default: true,
    activation: "gelu_pytorch_tanh",
    scaled_embedding: true,
    query_key_norms: true,
    mlp_bias: Presence::Never,
    names: Names {
        attention_out_norm: Some("post_attention_layernorm"),
        mlp_norm: "pre_feedforward_layernorm",
        mlp_out_norm: Some("post_feedforward_layernorm"),
        ..LLAMA_NAMES
    },
    ..LLAMA
};

const GPT2: Dialect = Dialect {
    family: Family::Gpt2,
    norm: NormKind::Layer,
    norm_bias: true,
    tied_by_default: true,
    activation: "gelu_new",
    layout: LinearLayout::InputsFirst,
    learned_positions: true,
    scaled_embedding: false,
    query_key_norms: false,
    query_key_value_bias: Presence::Always,
    output_bias: Presence::Always,
    mlp_bias: Presence::Always,
    names: Names {
        embedding: "transformer.wte.weight",
        positions: "transformer.wpe.weight",
        layers: "transformer.h",
        final_norm: "transformer.ln_f",
        attention_norm: "ln_1",
        projection: &["attn.c_attn"],
        output: "attn.c_proj",
        attention_out_norm: None,
        mlp_norm: "ln_2",
        gate: None,
        up: "mlp.c_fc",
        down: "mlp.c_proj",
        mlp_out_norm: None,
    },
};

const HEAD: &str = "lm_head.weight";

impl Dialect {
    fn of(model_type: &str) -> Option<&'static Dialect> {
        match model_type {
            "llama" => Some(&LLAMA),
            "qwen2" => Some(&QWEN2),
            "gemma3_text" => Some(&GEMMA3),
            "gpt2" => Some(&GPT2),
            _ => None,
        }
    }
}

/// The widths that all layers share.
struct Sizes {
    layers: usize,
    hidden: usize,
    vocabulary: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    intermediate: usize,
    max_positions: usize,
    epsilon: f64,
}

struct Reader<'a> {
    path: &'a Path,
    raw: &'a RawConfig,
}

impl Reader<'_> {
    fn decoder(&self) -> Result<DecoderConfig, ConfigError> {
        let model_type = self.needed("model_type", self.raw.model_type.as_deref())?;
        let dialect = Dialect::of(model_type)
            .ok_or_else(|| ConfigError::Family { path: self.path.into(), family: model_type.into() })?;
        self.refuse_what_is_not_computed()?;
        let sizes = self.sizes(dialect)?;
        let names = &dialect.names;
        let matrix = |name: &str, rows| TensorSpec { name: name.into(), shape: vec![rows, sizes.hidden] };
        let embedding = matrix(names.embedding, sizes.vocabulary);
        let tied = self.raw.tie_word_embeddings.unwrap_or(dialect.tied_by_default);
        let head = if tied { embedding.clone() } else { matrix(HEAD, sizes.vocabulary) };
        let layers = (0..sizes.layers).map(|i| self.layer(dialect, &sizes, i)).collect::<Result<_, _>>()?;
        Ok(DecoderConfig {
            family: dialect.family,
            hidden: sizes.hidden,
            vocabulary: sizes.vocabulary,
            max_positions: sizes.max_positions,
            embedding,
            embedding_scale: dialect.scaled_embedding.then(|| (sizes.hidden as f64).sqrt()),
            position_embedding: dialect.learned_positions.then(|| matrix(names.positions, sizes.max_positions)),
            layers,
            final_norm: norm(dialect, &sizes, names.final_norm, sizes.hidden),
            head,
        })
    }

    fn refuse_what_is_not_computed(&self) -> Result<(), ConfigError> {
        let raw = self.raw;
        let asked = [
            ("attn_logit_softcapping", raw.attn_logit_softcapping.map(|v| v.to_string())),
            ("final_logit_softcapping", raw.final_logit_softcapping.map(|v| v.to_string())),
            ("use_bidirectional_attention", raw.use_bidirectional_attention.filter(|&v| v).map(|v| v.to_string())),
            ("add_cross_attention", raw.add_cross_attention.filter(|&v| v).map(|v| v.to_string())),
        ];
        for (field, value) in asked {
            if let Some(value) = value {
                return Err(self.bad(field, value, "this is not computed here"));
            }
        }
        Ok(())
    }

    fn sizes(&self, dialect: &Dialect) -> Result<Sizes, ConfigError> {
        let raw = self.raw;
        let layers = self.size("num_hidden_layers", raw.num_hidden_layers)?;
        if layers > MAX_LAYERS {
            return Err(self.bad("num_hidden_layers", layers, format!("at most {MAX_LAYERS} are read")));
        }
        let hidden = self.size("hidden_size", raw.hidden_size)?;
        let heads = self.size("num_attention_heads", raw.num_attention_heads)?;
        let kv_heads = self.size("num_key_value_heads", raw.num_key_value_heads.or(Some(heads)))?;
        let head_dim = self.size("head_dim", raw.head_dim.or(Some(hidden / heads)))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.bad("num_key_value_heads", kv_heads, format!("does not divide {heads} attention heads")));
        }
        if raw.head_dim.is_none() && !hidden.is_multiple_of(heads) {
            return Err(self.bad("num_attention_heads", heads, format!("does not divide hidden_size {hidden}")));
        }
        if !dialect.learned_positions && !head_dim.is_multiple_of(2) {
            return Err(self.bad("head_dim", head_dim, "a rotary embedding turns pairs, so it must be even"));
        }
        let four_times = dialect.learned_positions.then_some(hidden.saturating_mul(4));
        let epsilon = self.needed("rms_norm_eps", raw.rms_norm_eps)?;
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return Err(self.bad("rms_norm_eps", epsilon, "must lie between 0 and 1"));
        }
        Ok(Sizes {
            layers,
            hidden,
            vocabulary: self.size("vocab_size", raw.vocab_size)?,
            heads,
            kv_heads,
            head_dim,
            intermediate: self.size("intermediate_size", raw.intermediate_size.or(four_times))?,
            max_positions: self.size("max_position_embeddings", raw.max_position_embeddings)?,
            epsilon,
        })
    }

    fn layer(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<LayerSpec, ConfigError> {
        let names = &dialect.names;
        let at = |part: &str| format!("{}.{index}.{part}", names.layers);
        let norm_at = |part: &str| norm(dialect, sizes, &at(part), sizes.hidden);
        let mlp_bias = dialect.mlp_bias.resolve(self.raw.mlp_bias);
        let mlp_linear = |part: &str, inputs, outputs| linear(dialect, &at(part), inputs, outputs, mlp_bias);
        Ok(LayerSpec {
            attention_norm: norm_at(names.attention_norm),
            attention: self.attention(dialect, sizes, index)?,
            attention_out_norm: names.attention_out_norm.map(norm_at),
            mlp_norm: norm_at(names.mlp_norm),
            mlp: MlpSpec {
                intermediate: sizes.intermediate,
                activation: self.activation(dialect)?,
                gate: names.gate.map(|gate| mlp_linear(gate, sizes.hidden, sizes.intermediate)),
                up: mlp_linear(names.up, sizes.hidden, sizes.intermediate),
                down: mlp_linear(names.down, sizes.intermediate, sizes.hidden),
            },
            mlp_out_norm: names.mlp_out_norm.map(norm_at),
        })
    }

    fn attention(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<AttentionSpec, ConfigError> {
        let at = |part: &str| format!("{}.{index}.{part}", dialect.names.layers);
        let bias = dialect.query_key_value_bias.resolve(self.raw.attention_bias);
        let (queries, keys) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
        let project = |part: &str, outputs| linear(dialect, &at(part), sizes.hidden, outputs, bias);
        let projection = match dialect.names.projection {
            [query, key, value] => ProjectionSpec::Separate {
                query: project(query, queries),
                key: project(key, keys),
                value: project(value, keys),
            },
            fused => ProjectionSpec::Fused(project(fused[0], queries + 2 * keys)),
        };
        let head_norm = |part: &str| norm(dialect, sizes, &at(part), sizes.head_dim);
        let sliding = self.sliding(dialect, sizes, index)?;
        Ok(AttentionSpec {
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            head_dim: sizes.head_dim,
            scale: self.attention_scale(sizes, index)?,
            window: if sliding { Some(self.size("sliding_window", self.raw.sliding_window)?) } else { None },
            rope: if dialect.learned_positions { None } else { Some(self.rope(sliding)?) },
            projection,
            query_norm: dialect.query_key_norms.then(|| head_norm("self_attn.q_norm")),
            key_norm: dialect.query_key_norms.then(|| head_norm("self_attn.k_norm")),
            output: linear(
                dialect,
                &at(dialect.names.output),
                queries,
                sizes.hidden,
                dialect.output_bias.resolve(self.raw.attention_bias),
            ),
        })
    }

    fn attention_scale(&self, sizes: &Sizes, index: usize) -> Result<f64, ConfigError> {
        let per_head = self.raw.query_pre_attn_scalar.unwrap_or(sizes.head_dim as f64);
        if !(per_head > 0.0 && per_head.is_finite()) {
            return Err(self.bad("query_pre_attn_scalar", per_head, "must be above 0"));
        }
        let scale = if self.raw.scale_attn_weights.unwrap_or(true) { per_head.powf(-0.5) } else { 1.0 };
        let by_layer = self.raw.scale_attn_by_inverse_layer_idx.unwrap_or(false);
        Ok(if by_layer { scale / (index + 1) as f64 } else { scale })
    }

    /// Whether layer `index` (from 0) sees a sliding window only.
    fn sliding(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<bool, ConfigError> {
        if let Some(types) = &self.raw.layer_types {
            if types.len() != sizes.layers {
                return Err(self.bad("layer_types", types.len(), format!("must name all {} layers", sizes.layers)));
            }
            return match types[index].as_str() {
                "full_attention" => Ok(false),
                "sliding_attention" => Ok(true),
                other => Err(self.bad("layer_types", other, "only full_attention and sliding_attention are computed")),
            };
        }
        Ok(match dialect.family {
            Family::Gemma3 => {
                let pattern = self.size("sliding_window_pattern", self.raw.sliding_window_pattern.or(Some(6)))?;
                !(index + 1).is_multiple_of(pattern)
            }
            Family::Qwen2 => {
                self.raw.use_sliding_window.unwrap_or(false) && index >= self.raw.max_window_layers.unwrap_or(28)
            }
            Family::Llama | Family::Gpt2 => false,
        })
    }

    /// The rotary embedding of a layer, from the newer `rope_parameters` or the older fields beside each other.
    fn rope(&self, sliding: bool) -> Result<RopeSpec, ConfigError> {
        let raw = self.raw;
        let of_layer = match &raw.rope_parameters {
            Some(RawRopeParameters::All(rope)) => Some(rope),
            Some(RawRopeParameters::ByLayerType(by_type)) => {
                by_type.get(if sliding { "sliding_attention" } else { "full_attention" })
            }
            None => None,
        };
        let Some(rope) = of_layer else {
            let local = raw.rope_local_base_freq.filter(|_| sliding);
            let scaling = raw.rope_scaling.as_ref().filter(|_| local.is_none());
            let theta = local.or(raw.rope_theta).unwrap_or(10_000.0);
            return Ok(RopeSpec { theta: self.theta(theta)?, scaling: self.rope_scaling(scaling)? });
        };
        let theta = self.needed("rope_theta", rope.rope_theta.or(raw.rope_theta))?;
        Ok(RopeSpec { theta: self.theta(theta)?, scaling: self.rope_scaling(Some(rope))? })
    }

    fn theta(&self, theta: f64) -> Result<f64, ConfigError> {
        if theta > 1.0 && theta.is_finite() { Ok(theta) } else { Err(self.bad("rope_theta", theta, "must be above 1")) }
    }

    fn rope_scaling(&self, rope: Option<&RawRope>) -> Result<RopeScaling, ConfigError> {
        let Some(rope) = rope else { return Ok(RopeScaling::None) };
        if let Some(part) = rope.partial_rotary_factor.filter(|&part| part != 1.0) {
            return Err(self.bad("partial_rotary_factor", part, "only whole heads are turned here"));
        }
        let factor = || self.positive("factor", rope.factor);
        match rope.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: factor()? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: factor()?,
                low_frequency: self.positive("low_freq_factor", rope.low_freq_factor)?,
                high_frequency: self.positive("high_freq_factor", rope.high_freq_factor)?,
                original_positions: self
                    .positive("original_max_position_embeddings", rope.original_max_position_embeddings)?,
            }),
            other => Err(self.bad("rope_type", other, "only default, linear and llama3 are computed here")),
        }
    }

    fn activation(&self, dialect: &Dialect) -> Result<Activation, ConfigError> {
        let name = self.raw.hidden_act.as_deref().unwrap_or(dialect.activation);
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => Err(self.bad(
                "hidden_act",
                other,
                "only silu, gelu, gelu_new, gelu_pytorch_tanh and relu are computed here",
            )),
        }
    }

    fn needed<T>(&self, field: &'static str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| ConfigError::Missing { path: self.path.into(), field })
    }

    fn size(&self, field: &'static str, value: Option<usize>) -> Result<usize, ConfigError> {
        let size = self.needed(field, value)?;
        if size == 0 || size > MAX_SIZE {
            return Err(self.bad(field, size, format!("must lie between 1 and {MAX_SIZE}")));
        }
        Ok(size)
    }

    fn positive(&self, field: &'static str, value: Option<f64>) -> Result<f64, ConfigError> {
        let value = self.needed(field, value)?;
        if value > 0.0 && value.is_finite() { Ok(value) } else { Err(self.bad(field, value, "must be above 0")) }
    }

    fn bad(&self, field: &'static str, value: impl ToString, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value { path: self.path.into(), field, value: value.to_string(), reason: reason.into() }
    }
}

impl Presence {
    fn resolve(self, configured: Option<bool>) -> bool {
        match self {
            Presence::Always => true,
            Presence::Never => false,
            Presence::Configured => configured.unwrap_or(false),
        }
    }
}

fn norm(dialect: &Dialect, sizes: &Sizes, name: &str, width: usize) -> NormSpec {
    let part = |suffix: &str| TensorSpec { name: format!("{name}.{suffix}"), shape: vec![width] };
    NormSpec {
        kind: dialect.norm,
        epsilon: sizes.epsilon,
        weight: part("weight"),
        bias: dialect.norm_bias.then(|| part("bias")),
    }
}

fn linear(dialect: &Dialect, name: &str, inputs: usize, outputs: usize, bias: bool) -> LinearSpec {
    let shape = match dialect.layout {
        LinearLayout::OutputsFirst => vec![outputs, inputs],
        LinearLayout::InputsFirst => vec![inputs, outputs],
    };
    LinearSpec {
        inputs,
        outputs,
        weight: TensorSpec { name: format!("{name}.weight"), shape },
        bias: bias.then(|| TensorSpec { name: format!("{name}.bias"), shape: vec![outputs] }),
        layout: dialect.layout,
    }
}
