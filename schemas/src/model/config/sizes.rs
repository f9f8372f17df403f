//! The widths that all layers share.

use super::error::ConfigError;
use super::families::{Positions, ProjectionNames};
use super::reader::{MAX_SIZE, Reader};

const MAX_LAYERS: usize = 4096;

/// The widths that all layers share.
pub(super) struct SharedSizes {
    pub(super) layers: usize,
    pub(super) hidden: usize,
    pub(super) vocabulary: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) intermediate: usize,
    pub(super) max_positions: usize,
    pub(super) epsilon: f64,
}

impl Reader<'_> {
    pub(super) fn sizes(&self) -> Result<SharedSizes, ConfigError> {
        let raw = self.raw;
        let defaults = &self.family.defaults;
        let layers = self.renamed_size("num_hidden_layers", raw.num_hidden_layers, "n_layer", raw.n_layer)?;
        let layers = self.size("num_hidden_layers", layers)?;
        if layers > MAX_LAYERS {
            return Err(self.bad("num_hidden_layers", layers, format!("at most {MAX_LAYERS} are read")));
        }
        let hidden = self.renamed_size("hidden_size", raw.hidden_size, "n_embd", raw.n_embd)?;
        let hidden = self.size("hidden_size", hidden)?;
        let heads = self.renamed_size("num_attention_heads", raw.num_attention_heads, "n_head", raw.n_head)?;
        let heads = self.size("num_attention_heads", heads)?;
        let kv_heads = raw.num_key_value_heads.unwrap_or(defaults.kv_heads).unwrap_or(heads);
        let kv_heads = self.size("num_key_value_heads", Some(kv_heads))?;
        let given_head_dim = raw.head_dim.or(defaults.head_dim);
        let head_dim = self.size("head_dim", given_head_dim.or(Some(hidden / heads)))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.bad("num_key_value_heads", kv_heads, format!("does not divide {heads} attention heads")));
        }
        if let ProjectionNames::Interleaved(_) = self.family.names.projection
            && kv_heads != heads
        {
            let reason = format!("a {} model has as many as attention heads, {heads}", self.family.name);
            return Err(self.bad("num_key_value_heads", kv_heads, reason));
        }
        if given_head_dim.is_none() && !hidden.is_multiple_of(heads) {
            return Err(self.bad("num_attention_heads", heads, format!("does not divide hidden_size {hidden}")));
        }
        if heads * head_dim > MAX_SIZE {
            return Err(self.bad("head_dim", head_dim, format!("{heads} heads of it are more than {MAX_SIZE}")));
        }
        let learned = self.family.positions == Positions::Learned;
        if !learned && !head_dim.is_multiple_of(2) {
            return Err(self.bad("head_dim", head_dim, "a rotary embedding turns pairs, so it must be even"));
        }
        let four_times = learned.then_some(hidden.saturating_mul(4));
        let intermediate = self.renamed_size("intermediate_size", raw.intermediate_size, "n_inner", raw.n_inner)?;
        let (field, older) = ("max_position_embeddings", "n_positions");
        let positions = self.renamed_size(field, raw.max_position_embeddings, older, raw.n_positions)?;
        Ok(SharedSizes {
            layers,
            hidden,
            vocabulary: self.size("vocab_size", raw.vocab_size)?,
            heads,
            kv_heads,
            head_dim,
            intermediate: self.size("intermediate_size", intermediate.or(four_times))?,
            max_positions: self.size(field, positions)?,
            epsilon: self.epsilon()?,
        })
    }

    fn epsilon(&self) -> Result<f64, ConfigError> {
        let field = &self.family.fields.epsilon;
        let epsilon = (field.read)(self.raw).unwrap_or(self.family.defaults.epsilon);
        let possible = epsilon > 0.0 && epsilon < 1.0;
        if possible { Ok(epsilon) } else { Err(self.bad(field.name, epsilon, "must lie between 0 and 1")) }
    }
}
