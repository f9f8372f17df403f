//! Reads a model's `config.json` into a [`DecoderConfig`].
//!
//! Each family is a [`Dialect`]: which names its tensors have and which of a decoder's parts it uses. What a config asks
//! for and the runtime does not do is refused here, by name, rather than computed wrongly.

mod families;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::families::{Dialect, MlpProjectionNames, Positions, ProjectionNames, QueryKeyNorms, Windows};
use crate::files;
use crate::model::*;

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
    #[error("{}: model_type `{family}` is not supported; supported: {}", path.display(), Dialect::model_types())]
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

/// The largest `config.json` read, in bytes.
pub(crate) const MAX_CONFIG: u64 = 1 << 24;

/// Reads `config.json` in `folder`.
pub fn read(folder: &Path) -> Result<DecoderConfig, ConfigError> {
    let path = folder.join("config.json");
    let text =
        files::read_at_most(&path, MAX_CONFIG).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
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
    num_hidden_layers: Option<usize>,
    n_layer: Option<usize>,
    hidden_size: Option<usize>,
    n_embd: Option<usize>,
    num_attention_heads: Option<usize>,
    n_head: Option<usize>,
    /// Outer `None` where it is left out: `null` says something else.
    #[serde(default, deserialize_with = "given")]
    num_key_value_heads: Option<Option<usize>>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    n_inner: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    n_positions: Option<usize>,
    rms_norm_eps: Option<f64>,
    layer_norm_epsilon: Option<f64>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    activation_function: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    query_pre_attn_scalar: Option<f64>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    layer_types: Option<Vec<String>>,
    /// Outer `None` where it is left out: `null` says something else.
    #[serde(default, deserialize_with = "given")]
    sliding_window: Option<Option<usize>>,
    sliding_window_pattern: Option<usize>,
    /// What newer versions of transformers write.
    _sliding_window_pattern: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    use_parallel_residual: Option<bool>,
    no_rope_layers: Option<Vec<usize>>,
    no_rope_layer_interval: Option<usize>,
    partial_rotary_factor: Option<f64>,
    rotary_pct: Option<f64>,
    rotary_emb_base: Option<f64>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<RawRope>,
    rope_parameters: Option<RawRopeParameters>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
    add_cross_attention: Option<bool>,
}

fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// `rope_parameters`, for all layers alike or by the kind of layer.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawRopeParameters {
    ByLayerType(BTreeMap<String, Option<RawRope>>),
    All(RawRope),
}

#[derive(Clone, Deserialize)]
struct RawRope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    /// The older spelling of `rope_type`; configs that old and new code shall read hold both.
    #[serde(rename = "type")]
    old_rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    partial_rotary_factor: Option<f64>,
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
        let head = if tied { embedding.clone() } else { matrix(names.head, sizes.vocabulary) };
        let learned = dialect.positions == Positions::Learned;
        let layers = (0..sizes.layers).map(|i| self.layer(dialect, &sizes, i)).collect::<Result<_, _>>()?;
        Ok(DecoderConfig {
            logit_scale: None,
            logit_softcap: None,
            family: dialect.family,
            hidden: sizes.hidden,
            vocabulary: sizes.vocabulary,
            max_positions: sizes.max_positions,
            embedding,
            embedding_scale: dialect.scaled_embedding.then(|| (sizes.hidden as f64).sqrt()),
            position_embedding: learned.then(|| matrix(names.positions, sizes.max_positions)),
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
        let defaults = &dialect.defaults;
        let layers = self.named(dialect, "num_hidden_layers", raw.num_hidden_layers, "n_layer", raw.n_layer)?;
        let layers = self.size("num_hidden_layers", layers)?;
        if layers > MAX_LAYERS {
            return Err(self.bad("num_hidden_layers", layers, format!("at most {MAX_LAYERS} are read")));
        }
        let hidden = self.named(dialect, "hidden_size", raw.hidden_size, "n_embd", raw.n_embd)?;
        let hidden = self.size("hidden_size", hidden)?;
        let heads = self.named(dialect, "num_attention_heads", raw.num_attention_heads, "n_head", raw.n_head)?;
        let heads = self.size("num_attention_heads", heads)?;
        let kv_heads = raw.num_key_value_heads.unwrap_or(defaults.kv_heads).unwrap_or(heads);
        let kv_heads = self.size("num_key_value_heads", Some(kv_heads))?;
        let given_head_dim = raw.head_dim.or(defaults.head_dim);
        let head_dim = self.size("head_dim", given_head_dim.or(Some(hidden / heads)))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(self.bad("num_key_value_heads", kv_heads, format!("does not divide {heads} attention heads")));
        }
        if let ProjectionNames::Interleaved(_) = dialect.names.projection
            && kv_heads != heads
        {
            let reason = format!("a {} model has as many as attention heads, {heads}", dialect.family.name());
            return Err(self.bad("num_key_value_heads", kv_heads, reason));
        }
        if given_head_dim.is_none() && !hidden.is_multiple_of(heads) {
            return Err(self.bad("num_attention_heads", heads, format!("does not divide hidden_size {hidden}")));
        }
        if heads * head_dim > MAX_SIZE {
            return Err(self.bad("head_dim", head_dim, format!("{heads} heads of it are more than {MAX_SIZE}")));
        }
        let learned = dialect.positions == Positions::Learned;
        if !learned && !head_dim.is_multiple_of(2) {
            return Err(self.bad("head_dim", head_dim, "a rotary embedding turns pairs, so it must be even"));
        }
        let four_times = learned.then_some(hidden.saturating_mul(4));
        let intermediate = self.named(dialect, "intermediate_size", raw.intermediate_size, "n_inner", raw.n_inner)?;
        let (field, older) = ("max_position_embeddings", "n_positions");
        let positions = self.named(dialect, field, raw.max_position_embeddings, older, raw.n_positions)?;
        Ok(Sizes {
            layers,
            hidden,
            vocabulary: self.size("vocab_size", raw.vocab_size)?,
            heads,
            kv_heads,
            head_dim,
            intermediate: self.size("intermediate_size", intermediate.or(four_times))?,
            max_positions: self.size(field, positions)?,
            epsilon: self.epsilon(dialect)?,
        })
    }

    fn epsilon(&self, dialect: &Dialect) -> Result<f64, ConfigError> {
        let field = &dialect.fields.epsilon;
        let epsilon = (field.read)(self.raw).unwrap_or(dialect.defaults.epsilon);
        let possible = epsilon > 0.0 && epsilon < 1.0;
        if possible { Ok(epsilon) } else { Err(self.bad(field.name, epsilon, "must lie between 0 and 1")) }
    }

    fn layer(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<LayerSpec, ConfigError> {
        let names = &dialect.names;
        let norm_at = |part: &str| norm(dialect, sizes, &format!("{}.{index}.{part}", names.layers), sizes.hidden);
        let parallel = dialect.parallel_residual && self.raw.use_parallel_residual.unwrap_or(true);
        Ok(LayerSpec {
            residual_scale: None,
            attention_norm: names.attention_norm.map(norm_at),
            attention: self.attention(dialect, sizes, index)?,
            attention_out_norm: names.attention_out_norm.map(norm_at),
            mlp_norm: names.mlp_norm.map(norm_at),
            mlp: self.mlp(dialect, sizes, index)?,
            mlp_out_norm: names.mlp_out_norm.map(norm_at),
            residual: if parallel { Residual::Parallel } else { Residual::Sequential },
        })
    }

    fn mlp(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<MlpSpec, ConfigError> {
        let at = |part: &str| format!("{}.{index}.{part}", dialect.names.layers);
        let bias = dialect.mlp_bias.resolve(self.raw.mlp_bias);
        let (hidden, intermediate) = (sizes.hidden, sizes.intermediate);
        let project = |part: &str, outputs| linear(dialect, &at(part), hidden, outputs, bias);
        Ok(MlpSpec {
            intermediate,
            activation: self.activation(dialect)?,
            projection: match dialect.names.mlp_projection {
                MlpProjectionNames::Plain(up) => MlpProjectionSpec::Plain(project(up, intermediate)),
                MlpProjectionNames::Gated { gate, up } => {
                    MlpProjectionSpec::Gated { gate: project(gate, intermediate), up: project(up, intermediate) }
                }
                MlpProjectionNames::FusedGated(both) => MlpProjectionSpec::FusedGated(project(both, 2 * intermediate)),
            },
            down: linear(dialect, &at(dialect.names.down), intermediate, hidden, bias),
        })
    }

    fn attention(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<AttentionSpec, ConfigError> {
        let at = |part: &str| format!("{}.{index}.{part}", dialect.names.layers);
        let (queries, keys) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
        let head_norm = |part: &str, whole: usize| match dialect.query_key_norms {
            QueryKeyNorms::Never => None,
            QueryKeyNorms::PerHead => Some(norm(dialect, sizes, &at(part), sizes.head_dim)),
            QueryKeyNorms::Whole => Some(norm(dialect, sizes, &at(part), whole)),
        };
        let sliding = self.sliding(dialect, sizes, index)?;
        let output_bias = dialect.output_bias.resolve(self.raw.attention_bias);
        Ok(AttentionSpec {
            softcap: None,
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            head_dim: sizes.head_dim,
            scale: self.attention_scale(dialect, sizes, index)?,
            window: if sliding { Some(self.size("sliding_window", self.window(dialect))?) } else { None },
            rope: if self.turns(dialect, sizes, index)? { Some(self.rope(dialect, sizes, sliding)?) } else { None },
            projection: self.projection(dialect, sizes, index),
            query_norm: head_norm("self_attn.q_norm", queries),
            key_norm: head_norm("self_attn.k_norm", keys),
            output: linear(dialect, &at(dialect.names.output), queries, sizes.hidden, output_bias),
        })
    }

    fn projection(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> ProjectionSpec {
        let (queries, keys) = (sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim);
        let bias = dialect.query_key_value_bias.resolve(self.raw.attention_bias);
        let project = |part: &str, outputs| {
            linear(dialect, &format!("{}.{index}.{part}", dialect.names.layers), sizes.hidden, outputs, bias)
        };
        match dialect.names.projection {
            ProjectionNames::Separate { query, key, value } => ProjectionSpec::Separate {
                query: project(query, queries),
                key: project(key, keys),
                value: project(value, keys),
            },
            ProjectionNames::Fused(all) => ProjectionSpec::Fused(project(all, queries + 2 * keys)),
            ProjectionNames::Interleaved(all) => ProjectionSpec::Interleaved(project(all, 3 * queries)),
        }
    }

    fn window(&self, dialect: &Dialect) -> Option<usize> {
        self.raw.sliding_window.unwrap_or(dialect.defaults.sliding_window)
    }

    /// Whether layer `index` (from 0) has a rotary embedding.
    fn turns(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<bool, ConfigError> {
        match (dialect.positions, &self.raw.no_rope_layers) {
            (Positions::Learned, _) => Ok(false),
            (Positions::Rotary, _) => Ok(true),
            (Positions::PartlyRotary, Some(layers)) => match layers.get(index) {
                Some(&turns) => Ok(turns != 0),
                None => {
                    let reason = format!("must be of all {} layers", sizes.layers);
                    Err(self.bad("no_rope_layers", format!("of {} layers", layers.len()), reason))
                }
            },
            (Positions::PartlyRotary, None) => {
                let interval = self.raw.no_rope_layer_interval.or(Some(4));
                Ok(!(index + 1).is_multiple_of(self.size("no_rope_layer_interval", interval)?))
            }
        }
    }

    fn attention_scale(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<f64, ConfigError> {
        let by_default = dialect.defaults.query_scalar.unwrap_or(sizes.head_dim as f64);
        let per_head = self.raw.query_pre_attn_scalar.unwrap_or(by_default);
        if !(per_head > 0.0 && per_head.is_finite()) {
            return Err(self.bad("query_pre_attn_scalar", per_head, "must be above 0"));
        }
        let scale = if self.raw.scale_attn_weights.unwrap_or(true) { per_head.powf(-0.5) } else { 1.0 };
        let by_layer = self.raw.scale_attn_by_inverse_layer_idx.unwrap_or(false);
        Ok(if by_layer { scale / (index + 1) as f64 } else { scale })
    }

    /// Whether layer `index` (from 0) sees a sliding window only.
    fn sliding(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<bool, ConfigError> {
        let Some(said) = self.layer_type(sizes, index)? else { return self.sliding_unless_said(dialect, sizes, index) };
        if let Windows::Never | Windows::Everywhere = dialect.windows
            && said != self.sliding_unless_said(dialect, sizes, index)?
        {
            let types = self.raw.layer_types.as_ref().map_or_else(String::new, |types| types.join(", "));
            let reason = format!("a {} model has no kinds of layer", dialect.family.name());
            return Err(self.bad("layer_types", types, reason));
        }
        Ok(said)
    }

    /// Whether `layer_types` calls layer `index` sliding, where it is given.
    fn layer_type(&self, sizes: &Sizes, index: usize) -> Result<Option<bool>, ConfigError> {
        let Some(types) = &self.raw.layer_types else { return Ok(None) };
        match types.get(index).map(String::as_str) {
            _ if types.len() != sizes.layers => {
                Err(self.bad("layer_types", types.len(), format!("must name all {} layers", sizes.layers)))
            }
            Some("full_attention") => Ok(Some(false)),
            Some("sliding_attention") => Ok(Some(true)),
            other => {
                let reason = "only full_attention and sliding_attention are computed";
                Err(self.bad("layer_types", other.unwrap_or_default(), reason))
            }
        }
    }

    fn sliding_unless_said(&self, dialect: &Dialect, sizes: &Sizes, index: usize) -> Result<bool, ConfigError> {
        let raw = self.raw;
        let used = raw.use_sliding_window.unwrap_or(false) && self.window(dialect).is_some();
        Ok(match dialect.windows {
            Windows::Never => false,
            Windows::Everywhere => self.window(dialect).is_some(),
            Windows::Pattern => {
                let (new, old) = (raw._sliding_window_pattern, raw.sliding_window_pattern);
                let pattern = self.one_of("_sliding_window_pattern", new, "sliding_window_pattern", old)?;
                let pattern = self.size("sliding_window_pattern", pattern.or(Some(6)))?;
                !(index + 1).is_multiple_of(pattern)
            }
            Windows::Upper => used && index >= raw.max_window_layers.unwrap_or(28),
            Windows::WithoutRope => used && !self.turns(dialect, sizes, index)?,
        })
    }

    /// The rotary embedding of a layer, from the newer `rope_parameters` or the older fields beside each other.
    fn rope(&self, dialect: &Dialect, sizes: &Sizes, sliding: bool) -> Result<RopeSpec, ConfigError> {
        let raw = self.raw;
        let defaults = &dialect.defaults;
        let local = defaults.local_rope_theta.filter(|_| sliding);
        let theta = match local {
            Some(theta) => raw.rope_local_base_freq.unwrap_or(theta),
            None => (dialect.fields.rope_theta.read)(raw).unwrap_or(defaults.rope_theta),
        };
        let of_layer = match &raw.rope_parameters {
            Some(RawRopeParameters::All(_)) if defaults.local_rope_theta.is_some() => {
                // The family has two kinds of layer and would have to guess for which of them this is meant.
                Some(self.rope_of_kind(None, sliding)?)
            }
            Some(RawRopeParameters::All(rope)) => Some(rope),
            Some(RawRopeParameters::ByLayerType(by_type)) if !by_type.is_empty() => {
                Some(self.rope_of_kind(Some(by_type), sliding)?)
            }
            _ => None,
        };
        let older = raw.rope_scaling.as_ref().filter(|_| local.is_none());
        let scaling = self.rope_scaling(of_layer.or(older))?;
        if older.is_some() && self.rope_scaling(older)? != scaling {
            return Err(self.bad("rope_scaling", "something else than `rope_parameters`", "they must agree"));
        }
        let theta = of_layer.and_then(|rope| rope.rope_theta).unwrap_or(theta);
        let share = |rope: Option<&RawRope>| rope.and_then(|rope| rope.partial_rotary_factor);
        let (field, older_field) = ("rope_parameters.partial_rotary_factor", "rope_scaling.partial_rotary_factor");
        let share = self.one_of(field, share(of_layer), older_field, share(older))?;
        Ok(RopeSpec { width: self.rotary_width(dialect, sizes, share)?, theta: self.theta(theta)?, scaling })
    }

    /// How many dimensions of a head are turned, by the share that the rotary embedding's parameters name, or else the
    /// config itself.
    fn rotary_width(&self, dialect: &Dialect, sizes: &Sizes, share: Option<f64>) -> Result<usize, ConfigError> {
        let field = &dialect.fields.rotary_share;
        let bad = |share: f64, reason: &str| Err(self.bad(field.name, share, reason));
        let given = share.or_else(|| (field.read)(self.raw));
        match (given, dialect.defaults.rotary_share) {
            (Some(share), None) if share != 1.0 => bad(share, "this family turns whole heads only"),
            (_, None) => Ok(sizes.head_dim),
            (given, Some(default)) => {
                let share = given.unwrap_or(default);
                if !(share > 0.0 && share <= 1.0) {
                    return bad(share, "must be above 0 and at most 1");
                }
                // Rounded down, as transformers does.
                let width = (sizes.head_dim as f64 * share) as usize;
                if width == 0 || !width.is_multiple_of(2) {
                    return bad(
                        share,
                        &format!("that is {width} of {} dimensions, but they turn in pairs", sizes.head_dim),
                    );
                }
                Ok(width)
            }
        }
    }

    fn rope_of_kind<'a>(
        &self,
        by_type: Option<&'a BTreeMap<String, Option<RawRope>>>,
        sliding: bool,
    ) -> Result<&'a RawRope, ConfigError> {
        let (kind, field) = match sliding {
            true => ("sliding_attention", "rope_parameters.sliding_attention"),
            false => ("full_attention", "rope_parameters.full_attention"),
        };
        self.needed(field, by_type.and_then(|by_type| by_type.get(kind)?.as_ref()))
    }

    fn theta(&self, theta: f64) -> Result<f64, ConfigError> {
        if theta > 1.0 && theta.is_finite() { Ok(theta) } else { Err(self.bad("rope_theta", theta, "must be above 1")) }
    }

    fn rope_scaling(&self, rope: Option<&RawRope>) -> Result<RopeScaling, ConfigError> {
        let Some(rope) = rope else { return Ok(RopeScaling::None) };
        let factor = || self.positive("factor", rope.factor);
        let kind = self.one_of("rope_type", rope.rope_type.as_deref(), "type", rope.old_rope_type.as_deref())?;
        match kind.unwrap_or("default") {
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
        let field = &dialect.fields.activation;
        match (field.read)(self.raw).as_deref().unwrap_or(dialect.activation) {
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

    fn needed<T>(&self, field: &'static str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| ConfigError::Missing { path: self.path.into(), field })
    }

    /// The value of a field that GPT-2's configs have under a name of their own.
    fn named(
        &self,
        dialect: &Dialect,
        field: &'static str,
        value: Option<usize>,
        of_gpt2: &'static str,
        gpt2_value: Option<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        match dialect.family {
            Family::Gpt2 => self.one_of(field, value, of_gpt2, gpt2_value),
            _ => Ok(value),
        }
    }

    /// The value of a field with two spellings, of which a config may hold both: then they must agree.
    fn one_of<T: PartialEq + ToString>(
        &self,
        field: &'static str,
        value: Option<T>,
        other_field: &'static str,
        other: Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match (value, other) {
            (Some(value), Some(other)) if value != other => {
                Err(self.bad(field, value, format!("`{other_field}` says {}", other.to_string())))
            }
            (value, other) => Ok(value.or(other)),
        }
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
