//! What decides on a state besides its tokens.

use frostline_schemas::cache::{Content, EntryId};
use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::model::Family;
use frostline_schemas::model::ModelIdentity;
use serde::{Deserialize, Serialize};

/// To be raised with every change to the segments' format or to the arithmetic below the frost line.
const FORMAT: u64 = 2;

/// All that the state at the frost line depends on but the tokens. Nothing below the frost line may be trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// The model's family, which decides on the arithmetic.
    pub family: Family,
    /// Digest of the model's weights.
    pub weights: Digest,
    /// Digest of the model's config.
    pub config: Digest,
    /// Layers below the state.
    pub frost_line: usize,
    /// Width of the state.
    pub hidden: usize,
    /// What the state's values are kept as.
    pub dtype: StateDtype,
    /// The arithmetic that the states come from, such as `f32 on avx2`: states of one name are taken for equal.
    pub precision: String,
}

/// The type of a state's values: the one that the model computes in, so that they come back bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateDtype {
    /// 4 bytes a value.
    F32,
    /// 2 bytes a value.
    Bf16,
}

impl StateDtype {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            StateDtype::F32 => 4,
            StateDtype::Bf16 => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            StateDtype::F32 => "f32",
            StateDtype::Bf16 => "bf16",
        }
    }
}

impl CacheKey {
    /// The key of a model's states at a frost line.
    pub fn new(model: &ModelIdentity, frost_line: usize, dtype: StateDtype, precision: &str) -> CacheKey {
        CacheKey {
            family: model.family,
            weights: model.weights,
            config: model.config,
            frost_line,
            hidden: model.hidden_size,
            dtype,
            precision: precision.into(),
        }
    }

    /// Digest of the key, of the number of format and arithmetic, and of this machine's byte order.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        hasher.update_framed(self.family.name().as_bytes());
        hasher.update_framed(self.weights.as_bytes());
        hasher.update_framed(self.config.as_bytes());
        let numbers = [FORMAT, self.frost_line as u64, self.hidden as u64, cfg!(target_endian = "big").into()];
        for number in numbers {
            hasher.update_framed(&number.to_le_bytes());
        }
        hasher.update_framed(self.dtype.name().as_bytes());
        hasher.update_framed(self.precision.as_bytes());
        hasher.finish()
    }

    /// The entry that the states lie in.
    pub(super) fn entry(&self) -> EntryId {
        EntryId { content: Content::States, key: self.digest() }
    }

    /// Bytes of the state at one position.
    pub(super) fn row_bytes(&self) -> usize {
        self.hidden.saturating_mul(self.dtype.bytes())
    }
}
