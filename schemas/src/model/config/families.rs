//! What sets each model family apart: the names of its tensors, the parts of a decoder that it uses, its defaults.

use super::RawConfig;
use crate::model::{Family, LinearLayout, NormKind};

/// What sets one family apart from the others.
pub struct Dialect {
    pub family: Family,
    pub norm: NormKind,
    pub norm_bias: bool,
    pub tied_by_default: bool,
    pub activation: &'static str,
    /// What transformers takes for fields that a config leaves out.
    pub defaults: Defaults,
    pub fields: Fields,
    pub layout: LinearLayout,
    pub positions: Positions,
    pub windows: Windows,
    /// Whether embeddings are multiplied by √hidden.
    pub scaled_embedding: bool,
    pub query_key_norms: QueryKeyNorms,
    pub query_key_value_bias: Presence,
    pub output_bias: Presence,
    pub mlp_bias: Presence,
    /// Whether attention and MLP lie side by side unless `use_parallel_residual` is false.
    pub parallel_residual: bool,
    pub names: Names,
}

/// What transformers' config class takes for fields that are left out, where it is neither an error nor worked out
/// from other fields. Sizes that say which model it is (`hidden_size` and the like) have no default here.
pub struct Defaults {
    pub epsilon: f64,
    /// As many as there are attention heads where `None`.
    pub kv_heads: Option<usize>,
    /// `hidden_size / num_attention_heads` where `None`.
    pub head_dim: Option<usize>,
    /// `head_dim` where `None`.
    pub query_scalar: Option<f64>,
    pub rope_theta: f64,
    /// Of layers with a sliding window, where they turn by a base of their own.
    pub local_rope_theta: Option<f64>,
    /// The share of a head that is turned; only whole heads are where `None`.
    pub rotary_share: Option<f64>,
    /// No window where `None`.
    pub sliding_window: Option<usize>,
}

/// Fields of `config.json` that families name differently. Those that others use are left-overs, which transformers does
/// not look at either.
pub struct Fields {
    pub epsilon: Field<f64>,
    pub activation: Field<String>,
    pub rope_theta: Field<f64>,
    pub rotary_share: Field<f64>,
}

/// A field of `config.json`.
pub struct Field<T> {
    pub name: &'static str,
    pub read: fn(&RawConfig) -> Option<T>,
}

/// How a family knows places.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    Learned,
    Rotary,
    /// Rotary but in the layers of which `no_rope_layers` says 0, or else in every `no_rope_layer_interval`-th.
    PartlyRotary,
}

/// Which layers see a sliding window only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    /// None; `layer_types` is not looked at.
    Never,
    /// All if `sliding_window` is set; `layer_types` is not looked at.
    Everywhere,
    /// As `layer_types` says, else all but every `sliding_window_pattern`-th.
    Pattern,
    /// As `layer_types` says, else those from `max_window_layers` up if `use_sliding_window`.
    Upper,
    /// As `layer_types` says, else those without a rotary embedding if `use_sliding_window`.
    WithoutRope,
}

/// Whether queries and keys are normalised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum QueryKeyNorms {
    Never,
    /// Each head for itself.
    PerHead,
    /// All heads together.
    Whole,
}

/// Of `LlamaConfig`, and of `Qwen2Config` but for a number of key and value heads (32) that would only be refused, as
/// the tensors' shapes say otherwise.
const LLAMA_DEFAULTS: Defaults = Defaults {
    epsilon: 1e-6,
    kv_heads: None,
    head_dim: None,
    query_scalar: None,
    rope_theta: 1e4,
    local_rope_theta: None,
    rotary_share: None,
    sliding_window: None,
};

const LLAMA_FIELDS: Fields = Fields {
    epsilon: Field { name: "rms_norm_eps", read: |raw| raw.rms_norm_eps },
    activation: Field { name: "hidden_act", read: |raw| raw.hidden_act.clone() },
    rope_theta: Field { name: "rope_theta", read: |raw| raw.rope_theta },
    rotary_share: Field { name: "partial_rotary_factor", read: |raw| raw.partial_rotary_factor },
};

/// Whether a family has a tensor.
#[derive(Clone, Copy)]
pub enum Presence {
    Always,
    Never,
    /// As the config says, or this where it says nothing.
    Configured(bool),
}

/// Names of tensors: those of a layer stand behind `{layers}.{index}.`.
pub struct Names {
    pub embedding: &'static str,
    pub positions: &'static str,
    pub layers: &'static str,
    pub final_norm: &'static str,
    pub head: &'static str,
    pub attention_norm: Option<&'static str>,
    pub projection: ProjectionNames,
    pub output: &'static str,
    pub attention_out_norm: Option<&'static str>,
    pub mlp_norm: Option<&'static str>,
    pub mlp_projection: MlpProjectionNames,
    pub down: &'static str,
    pub mlp_out_norm: Option<&'static str>,
}

/// Names of what projects queries, keys and values, and how they lie there.
#[derive(Clone, Copy)]
pub enum ProjectionNames {
    Separate { query: &'static str, key: &'static str, value: &'static str },
    Fused(&'static str),
    Interleaved(&'static str),
}

/// Names of what projects into an MLP, and how it lies there.
#[derive(Clone, Copy)]
pub enum MlpProjectionNames {
    Plain(&'static str),
    Gated { gate: &'static str, up: &'static str },
    FusedGated(&'static str),
}

const LLAMA_NAMES: Names = Names {
    embedding: "model.embed_tokens.weight",
    positions: "",
    layers: "model.layers",
    final_norm: "model.norm",
    head: "lm_head.weight",
    attention_norm: Some("input_layernorm"),
    projection: ProjectionNames::Separate {
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
    },
    output: "self_attn.o_proj",
    attention_out_norm: None,
    mlp_norm: Some("post_attention_layernorm"),
    mlp_projection: MlpProjectionNames::Gated { gate: "mlp.gate_proj", up: "mlp.up_proj" },
    down: "mlp.down_proj",
    mlp_out_norm: None,
};

const LLAMA: Dialect = Dialect {
    family: Family::Llama,
    norm: NormKind::Rms,
    norm_bias: false,
    tied_by_default: false,
    activation: "silu",
    defaults: LLAMA_DEFAULTS,
    fields: LLAMA_FIELDS,
    layout: LinearLayout::OutputsFirst,
    positions: Positions::Rotary,
    windows: Windows::Never,
    scaled_embedding: false,
    query_key_norms: QueryKeyNorms::Never,
    query_key_value_bias: Presence::Configured(false),
    output_bias: Presence::Configured(false),
    mlp_bias: Presence::Configured(false),
    parallel_residual: false,
    names: LLAMA_NAMES,
};

const QWEN2: Dialect = Dialect {
    family: Family::Qwen2,
    windows: Windows::Upper,
    query_key_value_bias: Presence::Always,
    output_bias: Presence::Never,
    mlp_bias: Presence::Never,
    ..LLAMA
};

const QWEN3: Dialect = Dialect {
    family: Family::Qwen3,
    // Of `Qwen3Config`.
    defaults: Defaults { head_dim: Some(128), sliding_window: Some(4096), ..LLAMA_DEFAULTS },
    windows: Windows::Upper,
    query_key_norms: QueryKeyNorms::PerHead,
    mlp_bias: Presence::Never,
    ..LLAMA
};

const MISTRAL: Dialect = Dialect {
    family: Family::Mistral,
    // Of `MistralConfig`.
    defaults: Defaults { kv_heads: Some(8), sliding_window: Some(4096), ..LLAMA_DEFAULTS },
    windows: Windows::Everywhere,
    query_key_value_bias: Presence::Never,
    output_bias: Presence::Never,
    mlp_bias: Presence::Never,
    ..LLAMA
};

const PHI3: Dialect = Dialect {
    family: Family::Phi3,
    // Of `Phi3Config`.
    defaults: Defaults { epsilon: 1e-5, rotary_share: Some(1.0), ..LLAMA_DEFAULTS },
    names: Names {
        projection: ProjectionNames::Fused("self_attn.qkv_proj"),
        mlp_projection: MlpProjectionNames::FusedGated("mlp.gate_up_proj"),
        ..LLAMA_NAMES
    },
    ..MISTRAL
};

const OLMO2: Dialect = Dialect {
    family: Family::Olmo2,
    // Of `Olmo2Config`.
    defaults: Defaults { epsilon: 1e-5, ..LLAMA_DEFAULTS },
    query_key_norms: QueryKeyNorms::Whole,
    mlp_bias: Presence::Never,
    names: Names {
        attention_norm: None,
        attention_out_norm: Some("post_attention_layernorm"),
        mlp_norm: None,
        mlp_out_norm: Some("post_feedforward_layernorm"),
        ..LLAMA_NAMES
    },
    ..LLAMA
};

const SMOLLM3: Dialect = Dialect {
    family: Family::SmolLm3,
    tied_by_default: true,
    // Of `SmolLM3Config`.
    defaults: Defaults { kv_heads: Some(4), rope_theta: 2e6, ..LLAMA_DEFAULTS },
    positions: Positions::PartlyRotary,
    windows: Windows::WithoutRope,
    ..LLAMA
};

const GEMMA3: Dialect = Dialect {
    family: Family::Gemma3,
    norm: NormKind::RmsUnitOffset,
    tied_by_default: true,
    activation: "gelu_pytorch_tanh",
    // Of `Gemma3TextConfig`.
    defaults: Defaults {
        kv_heads: Some(4),
        head_dim: Some(256),
        query_scalar: Some(256.0),
        rope_theta: 1e6,
        local_rope_theta: Some(1e4),
        sliding_window: Some(4096),
        ..LLAMA_DEFAULTS
    },
    fields: Fields {
        activation: Field { name: "hidden_activation", read: |raw| raw.hidden_activation.clone() },
        ..LLAMA_FIELDS
    },
    windows: Windows::Pattern,
    scaled_embedding: true,
    query_key_norms: QueryKeyNorms::PerHead,
    mlp_bias: Presence::Never,
    names: Names {
        attention_out_norm: Some("post_attention_layernorm"),
        mlp_norm: Some("pre_feedforward_layernorm"),
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
    // Of `GPT2Config`.
    defaults: Defaults { epsilon: 1e-5, ..LLAMA_DEFAULTS },
    fields: Fields {
        epsilon: Field { name: "layer_norm_epsilon", read: |raw| raw.layer_norm_epsilon },
        activation: Field { name: "activation_function", read: |raw| raw.activation_function.clone() },
        ..LLAMA_FIELDS
    },
    layout: LinearLayout::InputsFirst,
    positions: Positions::Learned,
    query_key_value_bias: Presence::Always,
    output_bias: Presence::Always,
    mlp_bias: Presence::Always,
    names: Names {
        embedding: "transformer.wte.weight",
        positions: "transformer.wpe.weight",
        layers: "transformer.h",
        final_norm: "transformer.ln_f",
        head: "lm_head.weight",
        attention_norm: Some("ln_1"),
        projection: ProjectionNames::Fused("attn.c_attn"),
        output: "attn.c_proj",
        attention_out_norm: None,
        mlp_norm: Some("ln_2"),
        mlp_projection: MlpProjectionNames::Plain("mlp.c_fc"),
        down: "mlp.c_proj",
        mlp_out_norm: None,
    },
    ..LLAMA
};

const GPT_NEOX: Dialect = Dialect {
    family: Family::GptNeox,
    norm: NormKind::Layer,
    norm_bias: true,
    activation: "gelu",
    // Of `GPTNeoXConfig`.
    defaults: Defaults { epsilon: 1e-5, rotary_share: Some(0.25), ..LLAMA_DEFAULTS },
    fields: Fields {
        epsilon: Field { name: "layer_norm_eps", read: |raw| raw.layer_norm_eps },
        rope_theta: Field { name: "rotary_emb_base", read: |raw| raw.rotary_emb_base },
        rotary_share: Field { name: "rotary_pct", read: |raw| raw.rotary_pct },
        ..LLAMA_FIELDS
    },
    query_key_value_bias: Presence::Configured(true),
    output_bias: Presence::Configured(true),
    mlp_bias: Presence::Always,
    parallel_residual: true,
    names: Names {
        embedding: "gpt_neox.embed_in.weight",
        layers: "gpt_neox.layers",
        final_norm: "gpt_neox.final_layer_norm",
        head: "embed_out.weight",
        projection: ProjectionNames::Interleaved("attention.query_key_value"),
        output: "attention.dense",
        mlp_projection: MlpProjectionNames::Plain("mlp.dense_h_to_4h"),
        down: "mlp.dense_4h_to_h",
        ..LLAMA_NAMES
    },
    ..LLAMA
};

/// Every family by its `model_type`, in the order in which messages list them.
const ALL: [(&str, &Dialect); 10] = [
    ("llama", &LLAMA),
    ("qwen2", &QWEN2),
    ("gemma3_text", &GEMMA3),
    ("gpt2", &GPT2),
    ("mistral", &MISTRAL),
    ("qwen3", &QWEN3),
    ("phi3", &PHI3),
    ("olmo2", &OLMO2),
    ("gpt_neox", &GPT_NEOX),
    ("smollm3", &SMOLLM3),
];

impl Dialect {
    pub fn of(model_type: &str) -> Option<&'static Dialect> {
        ALL.iter().find(|(name, _)| *name == model_type).map(|(_, dialect)| *dialect)
    }

    /// Every `model_type` that is understood, for messages.
    pub fn model_types() -> String {
        ALL.map(|(name, _)| name).join(", ")
    }
}

impl Presence {
    pub fn resolve(self, configured: Option<bool>) -> bool {
        match self {
            Presence::Always => true,
            Presence::Never => false,
            Presence::Configured(unless_said) => configured.unwrap_or(unless_said),
        }
    }
}
