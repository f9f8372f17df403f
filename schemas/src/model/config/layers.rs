//! What a layer is made of.

use super::error::ConfigError;
use super::families::{MlpProjectionNames, ProjectionNames, QueryKeyNorms};
use super::reader::Reader;
use super::sizes::SharedSizes;
use crate::model::*;

impl Reader<'_> {
    pub(super) fn layer(&self, sizes: &SharedSizes, index: usize) -> Result<LayerSpec, ConfigError> {
        let names = &self.family.names;
        let norm_at = |part: &str| self.norm(sizes, &format!("{}.{index}.{part}", names.layers), sizes.hidden);
        let parallel = self.family.parallel_residual && self.raw.use_parallel_residual.unwrap_or(true);
        Ok(LayerSpec {
            residual_scale: self.multiplier("residual_multiplier", self.raw.residual_multiplier)?,
            attention_norm: names.attention_norm.map(norm_at),
            attention: self.attention(sizes, index)?,
            attention_out_norm: names.attention_out_norm.map(norm_at),
            mlp_norm: names.mlp_norm.map(norm_at),
            mlp: self.mlp(sizes, index)?,
            mlp_out_norm: names.mlp_out_norm.map(norm_at),
            residual: if parallel { Residual::Parallel } else { Residual::Sequential },
        })
    }

    fn mlp(&self, sizes: &SharedSizes, index: usize) -> Result<MlpSpec, ConfigError> {
        let at = |part: &str| format!("{}.{index}.{part}", self.family.names.layers);
        let bias = self.family.mlp_bias.resolve(self.raw.mlp_bias);
        let (hidden, intermediate) = (sizes.hidden, sizes.intermediate);
        let project = |part: &str, outputs| self.linear(&at(part), hidden, outputs, bias);
        Ok(MlpSpec {
            intermediate,
            activation: self.activation()?,
            projection: match self.family.names.mlp_projection {
                MlpProjectionNames::Plain(up) => MlpProjectionSpec::Plain(project(up, intermediate)),
                MlpProjectionNames::Gated { gate, up } => {
                    MlpProjectionSpec::Gated { gate: project(gate, intermediate), up: project(up, intermediate) }
                }
                MlpProjectionNames::FusedGated(both) => MlpProjectionSpec::FusedGated(project(both, 2 * intermediate)),
            },
            down: self.linear(&at(self.family.names.down), intermediate, hidden, bias),
        })
    }

    fn attention(&self, sizes: &SharedSizes, index: usize) -> Result<AttentionSpec, ConfigError> {
        let at = |part: &str| format!("{}.{index}.{part}", self.family.names.layers);
        let (queries, keys) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
        let head_norm = |part: &str, whole: usize| match self.family.query_key_norms {
            QueryKeyNorms::Never => None,
            QueryKeyNorms::PerHead => Some(self.norm(sizes, &at(part), sizes.head_dim)),
            QueryKeyNorms::Whole => Some(self.norm(sizes, &at(part), whole)),
        };
        let sliding = self.sliding(sizes, index)?;
        let output_bias = self.family.output_bias.resolve(self.raw.attention_bias);
        Ok(AttentionSpec {
            softcap: self.softcaps()?.attention,
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            head_dim: sizes.head_dim,
            scale: self.attention_scale(sizes, index)?,
            window: if sliding { Some(self.size("sliding_window", self.window())?) } else { None },
            rope: if self.is_rotary(sizes, index)? { Some(self.rope(sizes, sliding)?) } else { None },
            projection: self.projection(sizes, index),
            query_norm: head_norm("self_attn.q_norm", queries),
            key_norm: head_norm("self_attn.k_norm", keys),
            output: self.linear(&at(self.family.names.output), queries, sizes.hidden, output_bias),
        })
    }

    fn projection(&self, sizes: &SharedSizes, index: usize) -> ProjectionSpec {
        let (queries, keys) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
        let bias = self.family.query_key_value_bias.resolve(self.raw.attention_bias);
        let project = |part: &str, outputs| {
            self.linear(&format!("{}.{index}.{part}", self.family.names.layers), sizes.hidden, outputs, bias)
        };
        match self.family.names.projection {
            ProjectionNames::Separate { query, key, value } => ProjectionSpec::Separate {
                query: project(query, queries),
                key: project(key, keys),
                value: project(value, keys),
            },
            ProjectionNames::Fused(all) => ProjectionSpec::Fused(project(all, queries + 2 * keys)),
            ProjectionNames::Interleaved(all) => ProjectionSpec::Interleaved(project(all, 3 * queries)),
        }
    }

    fn activation(&self) -> Result<Activation, ConfigError> {
        let field = &self.family.fields.activation;
        match (field.read)(self.raw).as_deref().unwrap_or(self.family.activation) {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => {
                let reason = "only silu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh and relu are computed here";
                Err(self.bad(field.name, other, reason))
            }
        }
    }

    pub(super) fn norm(&self, sizes: &SharedSizes, name: &str, width: usize) -> NormSpec {
        let part = |suffix: &str| TensorSpec { name: format!("{name}.{suffix}"), shape: vec![width] };
        NormSpec {
            kind: self.family.norm,
            epsilon: sizes.epsilon,
            weight: part("weight"),
            bias: self.family.norm_bias.then(|| part("bias")),
        }
    }

    fn linear(&self, name: &str, inputs: usize, outputs: usize, bias: bool) -> LinearSpec {
        let shape = match self.family.layout {
            LinearLayout::OutputsFirst => vec![outputs, inputs],
            LinearLayout::InputsFirst => vec![inputs, outputs],
        };
        LinearSpec {
            inputs,
            outputs,
            weight: TensorSpec { name: format!("{name}.weight"), shape },
            bias: bias.then(|| TensorSpec { name: format!("{name}.bias"), shape: vec![outputs] }),
            layout: self.family.layout,
        }
    }
}
