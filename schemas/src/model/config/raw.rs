//! The fields of `config.json`, under the names that the families give them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// The fields of `config.json` that matter, under the names that the families give them.
///
/// Of two nested `Option`s the outer is `None` where the field is left out, which is not the same as `null`.
#[derive(Deserialize)]
pub(super) struct RawConfig {
    pub(super) model_type: Option<String>,
    pub(super) num_hidden_layers: Option<usize>,
    pub(super) n_layer: Option<usize>,
    pub(super) hidden_size: Option<usize>,
    pub(super) n_embd: Option<usize>,
    pub(super) num_attention_heads: Option<usize>,
    pub(super) n_head: Option<usize>,
    #[serde(default, deserialize_with = "given")]
    pub(super) num_key_value_heads: Option<Option<usize>>,
    pub(super) head_dim: Option<usize>,
    pub(super) intermediate_size: Option<usize>,
    pub(super) n_inner: Option<usize>,
    pub(super) vocab_size: Option<usize>,
    pub(super) max_position_embeddings: Option<usize>,
    pub(super) n_positions: Option<usize>,
    pub(super) rms_norm_eps: Option<f64>,
    pub(super) layer_norm_epsilon: Option<f64>,
    pub(super) layer_norm_eps: Option<f64>,
    pub(super) hidden_act: Option<String>,
    pub(super) hidden_activation: Option<String>,
    pub(super) activation_function: Option<String>,
    pub(super) tie_word_embeddings: Option<bool>,
    pub(super) attention_bias: Option<bool>,
    pub(super) mlp_bias: Option<bool>,
    pub(super) query_pre_attn_scalar: Option<f64>,
    pub(super) scale_attn_weights: Option<bool>,
    pub(super) scale_attn_by_inverse_layer_idx: Option<bool>,
    pub(super) layer_types: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) sliding_window: Option<Option<usize>>,
    pub(super) sliding_window_pattern: Option<usize>,
    /// What newer versions of transformers write.
    pub(super) _sliding_window_pattern: Option<usize>,
    pub(super) use_sliding_window: Option<bool>,
    pub(super) max_window_layers: Option<usize>,
    pub(super) use_parallel_residual: Option<bool>,
    pub(super) no_rope_layers: Option<Vec<usize>>,
    pub(super) no_rope_layer_interval: Option<usize>,
    pub(super) partial_rotary_factor: Option<f64>,
    pub(super) rotary_pct: Option<f64>,
    pub(super) rotary_emb_base: Option<f64>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_local_base_freq: Option<f64>,
    pub(super) rope_scaling: Option<RawRope>,
    pub(super) rope_parameters: Option<RawRopeParameters>,
    #[serde(default, deserialize_with = "given")]
    pub(super) attn_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) final_logit_softcapping: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) embedding_multiplier: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) residual_multiplier: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) attention_multiplier: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) logits_scaling: Option<Option<f64>>,
    pub(super) use_bidirectional_attention: Option<bool>,
    pub(super) add_cross_attention: Option<bool>,
}

/// Reads a field that is there, so that `null` and a field that is left out can be told apart.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// `rope_parameters`, for all layers alike or by the kind of layer.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawRopeParameters {
    ByLayerType(BTreeMap<String, Option<RawRope>>),
    All(RawRope),
}

/// The parameters of one rotary embedding.
#[derive(Clone, Deserialize)]
pub(super) struct RawRope {
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_type: Option<String>,
    /// The older spelling of `rope_type`; configs that both old and new code are to read hold both.
    #[serde(rename = "type")]
    pub(super) old_rope_type: Option<String>,
    pub(super) factor: Option<f64>,
    pub(super) low_freq_factor: Option<f64>,
    pub(super) high_freq_factor: Option<f64>,
    pub(super) original_max_position_embeddings: Option<f64>,
    pub(super) partial_rotary_factor: Option<f64>,
}
