//! Numbers that a family caps or multiplies with, and what is refused because it is not computed.

use super::error::ConfigError;
use super::families::Softcaps;
use super::reader::Reader;
use super::sizes::SharedSizes;

impl Reader<'_> {
    /// What the scores of layer `index` (from 0) are multiplied by.
    pub(super) fn attention_scale(&self, sizes: &SharedSizes, index: usize) -> Result<f64, ConfigError> {
        if self.family.multipliers {
            return Ok(self.multiplier("attention_multiplier", self.raw.attention_multiplier)?.unwrap_or(1.0));
        }
        let by_default = self.family.defaults.query_scalar.unwrap_or(sizes.head_dim as f64);
        let per_head = self.raw.query_pre_attn_scalar.unwrap_or(by_default);
        if !(per_head > 0.0 && per_head.is_finite()) {
            return Err(self.bad("query_pre_attn_scalar", per_head, "must be above 0"));
        }
        let scale = if self.raw.scale_attn_weights.unwrap_or(true) { per_head.powf(-0.5) } else { 1.0 };
        let by_layer = self.raw.scale_attn_by_inverse_layer_idx.unwrap_or(false);
        Ok(if by_layer { scale / (index + 1) as f64 } else { scale })
    }

    /// The caps of attention's scores and of logits, of families that have them.
    pub(super) fn softcaps(&self) -> Result<Softcaps, ConfigError> {
        let Some(by_default) = &self.family.softcaps else { return Ok(Softcaps { attention: None, logits: None }) };
        let cap = |field, given: Option<Option<f64>>, by_default: Option<f64>| match given.unwrap_or(by_default) {
            Some(cap) => self.positive(field, Some(cap)).map(Some),
            None => Ok(None),
        };
        Ok(Softcaps {
            attention: cap("attn_logit_softcapping", self.raw.attn_logit_softcapping, by_default.attention)?,
            logits: cap("final_logit_softcapping", self.raw.final_logit_softcapping, by_default.logits)?,
        })
    }

    /// One of the numbers that families with multipliers multiply with; `None` for other families and where it is 1.
    pub(super) fn multiplier(
        &self,
        field: &'static str,
        given: Option<Option<f64>>,
    ) -> Result<Option<f64>, ConfigError> {
        let multiplier = match given {
            Some(None) if self.family.multipliers => return Err(self.bad(field, "null", "must be above 0")),
            Some(Some(multiplier)) if self.family.multipliers => self.positive(field, Some(multiplier))?,
            _ => return Ok(None),
        };
        Ok(Some(multiplier).filter(|&multiplier| multiplier != 1.0))
    }

    /// What rows of the embedding are multiplied by, if anything.
    pub(super) fn embedding_scale(&self, sizes: &SharedSizes) -> Result<Option<f64>, ConfigError> {
        if self.family.scaled_embedding {
            return Ok(Some((sizes.hidden as f64).sqrt()));
        }
        self.multiplier("embedding_multiplier", self.raw.embedding_multiplier)
    }

    /// What the head's product is multiplied by, if anything: configs name what it is divided by.
    pub(super) fn logit_scale(&self) -> Result<Option<f64>, ConfigError> {
        let divisor = self.multiplier("logits_scaling", self.raw.logits_scaling)?;
        Ok(divisor.map(|divisor| divisor.recip()))
    }

    /// Refuses what a config asks for and no model of its family does.
    pub(super) fn refuse_what_is_not_computed(&self) -> Result<(), ConfigError> {
        let raw = self.raw;
        let number = |given: Option<Option<f64>>, computed: bool| given.flatten().filter(|_| !computed);
        let softcap = |given| number(given, self.family.softcaps.is_some());
        let flag = |given: Option<bool>| given.filter(|&v| v).map(|v| v.to_string());
        let asked = [
            ("attn_logit_softcapping", softcap(raw.attn_logit_softcapping).map(|v| v.to_string())),
            ("final_logit_softcapping", softcap(raw.final_logit_softcapping).map(|v| v.to_string())),
            ("use_bidirectional_attention", flag(raw.use_bidirectional_attention)),
            ("add_cross_attention", flag(raw.add_cross_attention)),
        ];
        for (field, value) in asked {
            if let Some(value) = value {
                let reason = format!("this is not computed for a {} model", self.family.name);
                return Err(self.bad(field, value, reason));
            }
        }
        Ok(())
    }
}
