//! Which layers see a sliding window only.

use super::error::ConfigError;
use super::families::Windows;
use super::reader::Reader;
use super::sizes::SharedSizes;

impl Reader<'_> {
    /// How many positions a layer with a sliding window sees, itself included; `None` where there is no window.
    pub(super) fn window(&self) -> Option<usize> {
        self.raw.sliding_window.unwrap_or(self.family.defaults.sliding_window)
    }

    /// Whether layer `index` (from 0) sees a sliding window only.
    pub(super) fn sliding(&self, sizes: &SharedSizes, index: usize) -> Result<bool, ConfigError> {
        let Some(given) = self.layer_type(sizes, index)? else { return self.sliding_by_default(sizes, index) };
        if let Windows::Never | Windows::Everywhere = self.family.windows
            && given != self.sliding_by_default(sizes, index)?
        {
            let types = self.raw.layer_types.as_ref().map_or_else(String::new, |types| types.join(", "));
            let reason = format!("a {} model has no kinds of layer", self.family.name);
            return Err(self.bad("layer_types", types, reason));
        }
        Ok(given)
    }

    /// Whether `layer_types` calls layer `index` sliding, where it is given.
    fn layer_type(&self, sizes: &SharedSizes, index: usize) -> Result<Option<bool>, ConfigError> {
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

    fn sliding_by_default(&self, sizes: &SharedSizes, index: usize) -> Result<bool, ConfigError> {
        let raw = self.raw;
        let used = raw.use_sliding_window.unwrap_or(false) && self.window().is_some();
        Ok(match self.family.windows {
            Windows::Never => false,
            Windows::Everywhere => self.window().is_some(),
            Windows::Pattern => {
                let (new, old) = (raw._sliding_window_pattern, raw.sliding_window_pattern);
                let pattern = self.one_of("_sliding_window_pattern", new, "sliding_window_pattern", old)?;
                let pattern = self.size("sliding_window_pattern", pattern.or(Some(6)))?;
                !(index + 1).is_multiple_of(pattern)
            }
            Windows::Alternating => !(index + 1).is_multiple_of(2),
            Windows::Upper => used && index >= raw.max_window_layers.unwrap_or(28),
            Windows::WithoutRope => used && !self.is_rotary(sizes, index)?,
        })
    }
}
