//! What sets each model family apart: the names of its tensors, the parts of a decoder that it uses, its defaults.

use crate::decoder::{Family, LinearLayout, NormKind};

/// What sets one family apart from the others.
pub struct Dialect {
    pub family: Family,
    pub norm: NormKind,
    pub norm_bias: bool,
    pub tied_by_default: bool,
    pub activation: &'static str,
    /// What transformers takes for fields that a config leaves out.
    pub defaults: Defaults,
    pub layout: LinearLayout,
    /// Whether positions are a learned embedding, rather than rotary.
    pub learned_positions: bool,
    /// Whether embeddings are multiplied by √hidden.
    pub scaled_embedding: bool,
    pub query_key_norms: bool,
    pub query_key_value_bias: Presence,
    pub output_bias: Presence,
    pub mlp_bias: Presence,
    pub names: Names,
}

/// What transformers' config class takes for fields that are left out, where it is neither an error nor worked out
/// from other fields. Sizes that say which model it is (`hidden_size` and the like) have no default here.
#[derive(Clone, Copy)]
pub struct Defaults {
    pub epsilon: f64,
    /// As many as there are attention heads where `None`.
    pub kv_heads: Option<usize>,
    /// `hidden_size / num_attention_heads` where `None`.
    pub head_dim: Option<usize>,
    /// `head_dim` where `None`.
    pub query_scalar: Option<f64>,
    pub rope_theta: f64,
    /// Of layers with a sliding window.
    pub local_rope_theta: f64,
    /// An error to leave out where `None` and a layer has one.
    pub sliding_window: Option<usize>,
}

/// Of `LlamaConfig`, and of `Qwen2Config` but for a number of key and value heads (32) that would only be refused, as
/// the tensors' shapes say otherwise.
const LLAMA_DEFAULTS: Defaults = Defaults {
    epsilon: 1e-6,
    kv_heads: None,
    head_dim: None,
    query_scalar: None,
    rope_theta: 1e4,
    local_rope_theta: 1e4,
    sliding_window: None,
};

/// Of `Gemma3TextConfig`.
const GEMMA3_DEFAULTS: Defaults = Defaults {
    kv_heads: Some(4),
    head_dim: Some(256),
    query_scalar: Some(256.0),
    rope_theta: 1e6,
    sliding_window: Some(4096),
    ..LLAMA_DEFAULTS
};

/// Whether a family has a tensor.
#[derive(Clone, Copy)]
pub enum Presence {
    Always,
    Never,
    /// As the config says, `false` unless said.
    Configured,
}

/// Names of tensors: those of a layer stand behind `{layers}.{index}.`.
pub struct Names {
    pub embedding: &'static str,
    pub positions: &'static str,
    pub layers: &'static str,
    pub final_norm: &'static str,
    pub attention_norm: &'static str,
    pub projection: &'static [&'static str],
    pub output: &'static str,
    pub attention_out_norm: Option<&'static str>,
    pub mlp_norm: &'static str,
    pub gate: Option<&'static str>,
    pub up: &'static str,
    pub down: &'static str,
    pub mlp_out_norm: Option<&'static str>,
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
    defaults: LLAMA_DEFAULTS,
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
    defaults: GEMMA3_DEFAULTS,
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
    // Of `GPT2Config`.
    defaults: Defaults { epsilon: 1e-5, ..LLAMA_DEFAULTS },
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

pub const HEAD: &str = "lm_head.weight";

impl Dialect {
    pub fn of(model_type: &str) -> Option<&'static Dialect> {
        match model_type {
            "llama" => Some(&LLAMA),
            "qwen2" => Some(&QWEN2),
            "gemma3_text" => Some(&GEMMA3),
            "gpt2" => Some(&GPT2),
            _ => None,
        }
    }
}

impl Presence {
    pub fn resolve(self, configured: Option<bool>) -> bool {
        match self {
            Presence::Always => true,
            Presence::Never => false,
            Presence::Configured => configured.unwrap_or(false),
        }
    }
}
