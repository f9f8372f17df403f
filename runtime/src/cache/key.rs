//! What decides on a state besides its tokens.

use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::model::Family;
use frostline_schemas::model::ModelIdentity;
use serde::{Deserialize, Serialize};

/// To be raised with every change to the segments' format or to the arithmetic below the frost line.
const VERSION: u64 = 1;

/// All that the state at the frost line depends on but the tokens. Nothing below the frost line may be trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    pub family: Family,
    /// Digest of the model's weights.
    pub weights: Digest,
    /// Digest of the model's config.
    pub config: Digest,
    /// Layers below the state.
    pub frost_line: usize,
    /// Width of the state.
    pub hidden: usize,
    /// The arithmetic that the states come from, such as `f32`: states of one name are taken for equal.
    pub precision: String,
}

impl CacheKey {
    /// The key of a model's states at a frost line.
    pub fn new(model: &ModelIdentity, frost_line: usize, precision: &str) -> CacheKey {
        CacheKey {
            family: model.family,
            weights: model.weights,
            config: model.config,
            frost_line,
            hidden: model.hidden_size,
            precision: precision.into(),
        }
    }

    /// Digest of the key, of the version of format and arithmetic, and of this machine's byte order.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        // What a config means, and how it is computed, is this program's to say.
        hasher.update_framed(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.update_framed(self.family.name().as_bytes());
        hasher.update_framed(self.weights.as_bytes());
        hasher.update_framed(self.config.as_bytes());
        let numbers = [VERSION, self.frost_line as u64, self.hidden as u64, cfg!(target_endian = "big").into()];
        for number in numbers {
            hasher.update_framed(&number.to_le_bytes());
        }
        hasher.update_framed(self.precision.as_bytes());
        hasher.finish()
    }
}
