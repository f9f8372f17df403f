//! What sets each model family apart: the names of its tensors, the parts of a decoder that it uses, its defaults.
//!
//! [`ALL`] is the one place that lists the families; a new one is an entry there, if its fields are ones that
//! [`RawConfig`] holds already, and a reference case in `tests/cases`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::raw::RawConfig;
use crate::model::{LinearLayout, NormKind};

/// A model family whose `config.json` is understood.
#[derive(Clone, Copy)]
pub struct Family(&'static FamilySpec);

impl Family {
    /// Every family, in the order in which messages list them.
    pub fn all() -> impl Iterator<Item = Family> {
        ALL.iter().map(Family)
    }

    /// The family's name as plans spell it.
    pub fn name(self) -> &'static str {
        self.0.name
    }
}

impl From<&'static FamilySpec> for Family {
    fn from(family: &'static FamilySpec) -> Family {
        Family(family)
    }
}

/// A text that names no [`Family`].
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a known model family; known: {known}", known = Family::all().map(Family::name).collect::<Vec<_>>().join(", "))]
pub struct UnknownFamily(String);

impl FromStr for Family {
    type Err = UnknownFamily;

    fn from_str(name: &str) -> Result<Family, UnknownFamily> {
        Family::all().find(|family| family.name() == name).ok_or_else(|| UnknownFamily(name.into()))
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Family) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.name().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Family, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Family {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Family".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let families: Vec<_> = ALL
            .iter()
            .map(|family| serde_json::json!({"description": family.about, "type": "string", "const": family.name}))
            .collect();
        schemars::json_schema!({"description": "The model families whose `config.json` is understood.", "oneOf": families})
    }
}

/// The properties that set one family apart from the others.
pub(super) struct FamilySpec {
    /// As plans and messages spell it.
    pub(super) name: &'static str,
    /// As `config.json` spells it.
    pub(super) model_type: &'static str,
    /// Which models belong to it.
    pub(super) about: &'static str,
    pub(super) norm: NormKind,
    pub(super) norm_bias: bool,
    pub(super) tied_by_default: bool,
    pub(super) activation: &'static str,
    /// What transformers takes for fields that a config leaves out.
    pub(super) defaults: Defaults,
    pub(super) fields: Fields,
    /// Whether sizes may stand under GPT-2's names (`n_layer`, `n_embd` and so on).
    pub(super) older_size_names: bool,
    pub(super) layout: LinearLayout,
    pub(super) positions: Positions,
    pub(super) windows: Windows,
    /// Whether embeddings are multiplied by √hidden.
    pub(super) scaled_embedding: bool,
    /// Whether embeddings, branches, scores and logits are multiplied by numbers that the config names.
    pub(super) multipliers: bool,
    /// The caps where the config names none; the family has no caps where `None`.
    pub(super) softcaps: Option<Softcaps>,
    pub(super) query_key_norms: QueryKeyNorms,
    pub(super) query_key_value_bias: Presence,
    pub(super) output_bias: Presence,
    pub(super) mlp_bias: Presence,
    /// Whether attention and MLP lie side by side unless `use_parallel_residual` is false.
    pub(super) parallel_residual: bool,
    pub(super) names: Names,
}

/// What transformers' config class takes for fields that are left out, where it is neither an error nor worked out
/// from other fields. Sizes that say which model it is (`hidden_size` and the like) have no default here.
pub(super) struct Defaults {
    pub(super) epsilon: f64,
    /// As many as there are attention heads where `None`.
    pub(super) kv_heads: Option<usize>,
    /// `hidden_size / num_attention_heads` where `None`.
    pub(super) head_dim: Option<usize>,
    /// `head_dim` where `None`.
    pub(super) query_scalar: Option<f64>,
    pub(super) rope_theta: f64,
    /// Of layers with a sliding window, where they turn by a base of their own.
    pub(super) local_rope_theta: Option<f64>,
    /// The share of a head that is turned; only whole heads are where `None`.
    pub(super) rotary_share: Option<f64>,
    /// No window where `None`.
    pub(super) sliding_window: Option<usize>,
}

/// Fields of `config.json` that families name differently. Fields of other families are leftovers, which transformers
/// ignores, too.
pub(super) struct Fields {
    pub(super) epsilon: Field<f64>,
    pub(super) activation: Field<String>,
    pub(super) rope_theta: Field<f64>,
    pub(super) rotary_share: Field<f64>,
}

/// A field of `config.json`.
pub(super) struct Field<T> {
    pub(super) name: &'static str,
    pub(super) read: fn(&RawConfig) -> Option<T>,
}

/// What bends large values of attention's scores and of logits; not at all where `None`.
pub(super) struct Softcaps {
    pub(super) attention: Option<f64>,
    pub(super) logits: Option<f64>,
}

/// How a family encodes positions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Positions {
    Learned,
    Rotary,
    /// Rotary but in the layers of which `no_rope_layers` says 0, or else in every `no_rope_layer_interval`-th.
    PartlyRotary,
}

/// Which layers see a sliding window only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    /// None; `layer_types` is not looked at.
    Never,
    /// All if `sliding_window` is set; `layer_types` is not looked at.
    Everywhere,
    /// As `layer_types` says, else all but every `sliding_window_pattern`-th.
    Pattern,
    /// As `layer_types` says, else all but every second.
    Alternating,
    /// As `layer_types` says, else those from `max_window_layers` up if `use_sliding_window`.
    Upper,
    /// As `layer_types` says, else those without a rotary embedding if `use_sliding_window`.
    WithoutRope,
}

/// Whether queries and keys are normalised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryKeyNorms {
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
pub(super) enum Presence {
    Always,
    Never,
    /// As the config says, or this where it says nothing.
    Configured(bool),
}

/// Names of tensors: those of a layer stand behind `{layers}.{index}.`.
pub(super) struct Names {
    pub(super) embedding: &'static str,
    pub(super) positions: &'static str,
    pub(super) layers: &'static str,
    pub(super) final_norm: &'static str,
    pub(super) head: &'static str,
    pub(super) attention_norm: Option<&'static str>,
    pub(super) projection: ProjectionNames,
    pub(super) output: &'static str,
    pub(super) attention_out_norm: Option<&'static str>,
    pub(super) mlp_norm: Option<&'static str>,
    pub(super) mlp_projection: MlpProjectionNames,
    pub(super) down: &'static str,
    pub(super) mlp_out_norm: Option<&'static str>,
}

/// Names of what projects queries, keys and values, and how they lie there.
#[derive(Clone, Copy)]
pub(super) enum ProjectionNames {
    Separate { query: &'static str, key: &'static str, value: &'static str },
    Fused(&'static str),
    Interleaved(&'static str),
}

/// Names of what projects into an MLP, and how it lies there.
#[derive(Clone, Copy)]
pub(super) enum MlpProjectionNames {
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

const LLAMA: FamilySpec = FamilySpec {
    name: "llama",
    model_type: "llama",
    about: "Llama 2 and 3, and what is built alike.",
    norm: NormKind::Rms,
    norm_bias: false,
    tied_by_default: false,
    activation: "silu",
    defaults: LLAMA_DEFAULTS,
    fields: LLAMA_FIELDS,
    older_size_names: false,
    layout: LinearLayout::OutputsFirst,
    positions: Positions::Rotary,
    windows: Windows::Never,
    scaled_embedding: false,
    multipliers: false,
    softcaps: None,
    query_key_norms: QueryKeyNorms::Never,
    query_key_value_bias: Presence::Configured(false),
    output_bias: Presence::Configured(false),
    mlp_bias: Presence::Configured(false),
    parallel_residual: false,
    names: LLAMA_NAMES,
};

const QWEN2: FamilySpec = FamilySpec {
    name: "qwen2",
    model_type: "qwen2",
    about: "Qwen 2 and 2.5.",
    windows: Windows::Upper,
    query_key_value_bias: Presence::Always,
    output_bias: Presence::Never,
    mlp_bias: Presence::Never,
    ..LLAMA
};

const QWEN3: FamilySpec = FamilySpec {
    name: "qwen3",
    model_type: "qwen3",
    about: "Qwen 3, dense.",
    // Of `Qwen3Config`.
    defaults: Defaults { head_dim: Some(128), sliding_window: Some(4096), ..LLAMA_DEFAULTS },
    windows: Windows::Upper,
    query_key_norms: QueryKeyNorms::PerHead,
    mlp_bias: Presence::Never,
    ..LLAMA
};

const MISTRAL: FamilySpec = FamilySpec {
    name: "mistral",
    model_type: "mistral",
    about: "Mistral 7B and what is built alike.",
    // Of `MistralConfig`.
    defaults: Defaults { kv_heads: Some(8), sliding_window: Some(4096), ..LLAMA_DEFAULTS },
    windows: Windows::Everywhere,
    query_key_value_bias: Presence::Never,
    output_bias: Presence::Never,
    mlp_bias: Presence::Never,
    ..LLAMA
};

const PHI3: FamilySpec = FamilySpec {
    name: "phi3",
    model_type: "phi3",
    about: "Phi 3, and what of Phi 4 is built alike.",
    // Of `Phi3Config`.
    defaults: Defaults { epsilon: 1e-5, rotary_share: Some(1.0), ..LLAMA_DEFAULTS },
    names: Names {
        projection: ProjectionNames::Fused("self_attn.qkv_proj"),
        mlp_projection: MlpProjectionNames::FusedGated("mlp.gate_up_proj"),
        ..LLAMA_NAMES
    },
    ..MISTRAL
};

const OLMO2: FamilySpec = FamilySpec {
    name: "olmo2",
    model_type: "olmo2",
    about: "OLMo 2.",
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

const SMOLLM3: FamilySpec = FamilySpec {
    name: "smollm3",
    model_type: "smollm3",
    about: "SmolLM3.",
    tied_by_default: true,
    // Of `SmolLM3Config`.
    defaults: Defaults { kv_heads: Some(4), rope_theta: 2e6, ..LLAMA_DEFAULTS },
    positions: Positions::PartlyRotary,
    windows: Windows::WithoutRope,
    ..LLAMA
};

const GEMMA3: FamilySpec = FamilySpec {
    name: "gemma3",
    model_type: "gemma3_text",
    about: "Gemma 3, text only.",
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

const GEMMA2: FamilySpec = FamilySpec {
    name: "gemma2",
    model_type: "gemma2",
    about: "Gemma 2.",
    // Of `Gemma2Config`.
    defaults: Defaults { rope_theta: 1e4, local_rope_theta: None, ..GEMMA3.defaults },
    windows: Windows::Alternating,
    softcaps: Some(Softcaps { attention: Some(50.0), logits: Some(30.0) }),
    query_key_norms: QueryKeyNorms::Never,
    ..GEMMA3
};

const GRANITE: FamilySpec =
    FamilySpec { name: "granite", model_type: "granite", about: "Granite 3, dense.", multipliers: true, ..LLAMA };

const GPT2: FamilySpec = FamilySpec {
    name: "gpt2",
    model_type: "gpt2",
    about: "GPT-2.",
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
    older_size_names: true,
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

const GPT_NEOX: FamilySpec = FamilySpec {
    name: "gpt_neox",
    model_type: "gpt_neox",
    about: "GPT-NeoX and Pythia.",
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

/// Every family, in the order in which messages list them.
static ALL: [FamilySpec; 12] =
    [LLAMA, QWEN2, GEMMA3, GPT2, MISTRAL, QWEN3, PHI3, OLMO2, GPT_NEOX, SMOLLM3, GEMMA2, GRANITE];

impl FamilySpec {
    pub(super) fn of_model_type(model_type: &str) -> Option<&'static FamilySpec> {
        ALL.iter().find(|family| family.model_type == model_type)
    }
}

/// Every `model_type` that is understood, for messages.
pub(super) fn model_types() -> String {
    ALL.each_ref().map(|family| family.model_type).join(", ")
}

impl Presence {
    pub(super) fn resolve(self, configured: Option<bool>) -> bool {
        match self {
            Presence::Always => true,
            Presence::Never => false,
            Presence::Configured(unless_said) => configured.unwrap_or(unless_said),
        }
    }
}
