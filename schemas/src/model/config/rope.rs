//! Rotary embeddings: which layers have one, how wide it is, how it is scaled.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::families::Positions;
use super::raw::{RawRope, RawRopeParameters};
use super::reader::Reader;
use super::sizes::SharedSizes;
use crate::model::{RopeScaling, RopeSpec};

impl Reader<'_> {
    /// Whether layer `index` (from 0) has a rotary embedding.
    pub(super) fn is_rotary(&self, sizes: &SharedSizes, index: usize) -> Result<bool, ConfigError> {
        match (self.family.positions, &self.raw.no_rope_layers) {
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

    /// The rotary embedding of a layer, from the newer `rope_parameters` or the older fields beside each other.
    pub(super) fn rope(&self, sizes: &SharedSizes, sliding: bool) -> Result<RopeSpec, ConfigError> {
        let raw = self.raw;
        let defaults = &self.family.defaults;
        let local = defaults.local_rope_theta.filter(|_| sliding);
        let theta = match local {
            Some(theta) => raw.rope_local_base_freq.unwrap_or(theta),
            None => (self.family.fields.rope_theta.read)(raw).unwrap_or(defaults.rope_theta),
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
        Ok(RopeSpec { width: self.rotary_width(sizes, share)?, theta: self.theta(theta)?, scaling })
    }

    /// How many dimensions of a head are turned, by the share that the rotary embedding's parameters name, or else the
    /// config itself.
    fn rotary_width(&self, sizes: &SharedSizes, share: Option<f64>) -> Result<usize, ConfigError> {
        let field = &self.family.fields.rotary_share;
        let bad = |share: f64, reason: &str| Err(self.bad(field.name, share, reason));
        let given = share.or_else(|| (field.read)(self.raw));
        match (given, self.family.defaults.rotary_share) {
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
}
