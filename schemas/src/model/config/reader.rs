//! What reading a config needs throughout: the family, the fields, and checks of single values.

use std::path::Path;

use super::error::ConfigError;
use super::families::FamilySpec;
use super::raw::RawConfig;

/// The largest size read from a config: far above any model, and small enough that no sum over all tensors overflows.
pub(super) const MAX_SIZE: usize = 1 << 24;

/// A config that is being read as that of a family; `path` is for messages.
pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) raw: &'a RawConfig,
    pub(super) family: &'static FamilySpec,
}

impl Reader<'_> {
    pub(super) fn needed<T>(&self, field: &'static str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| ConfigError::Missing { path: self.path.into(), field })
    }

    /// The value of a size that some families have under an older name, too.
    pub(super) fn renamed_size(
        &self,
        field: &'static str,
        value: Option<usize>,
        older_field: &'static str,
        older: Option<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        if self.family.older_size_names { self.one_of(field, value, older_field, older) } else { Ok(value) }
    }

    /// The value of a field with two spellings, of which a config may hold both: then they must agree.
    pub(super) fn one_of<T: PartialEq + ToString>(
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

    pub(super) fn size(&self, field: &'static str, value: Option<usize>) -> Result<usize, ConfigError> {
        let size = self.needed(field, value)?;
        if size == 0 || size > MAX_SIZE {
            return Err(self.bad(field, size, format!("must lie between 1 and {MAX_SIZE}")));
        }
        Ok(size)
    }

    pub(super) fn positive(&self, field: &'static str, value: Option<f64>) -> Result<f64, ConfigError> {
        let value = self.needed(field, value)?;
        if value > 0.0 && value.is_finite() { Ok(value) } else { Err(self.bad(field, value, "must be above 0")) }
    }

    pub(super) fn bad(&self, field: &'static str, value: impl ToString, reason: impl Into<String>) -> ConfigError {
        ConfigError::Value { path: self.path.into(), field, value: value.to_string(), reason: reason.into() }
    }
}
