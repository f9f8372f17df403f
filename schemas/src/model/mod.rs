//! A model folder as Hugging Face saves it: its description, its weights, and the identity that plans are bound to.

mod config;
mod decoder;
mod folder;
mod weights;

use self::config::MAX_CONFIG;
pub use self::config::{ConfigError, Family, UnknownFamily, parse as parse_config, read as read_config};
pub use self::decoder::{
    Activation, AttentionSpec, DecoderConfig, LayerSpec, LinearLayout, LinearSpec, MlpProjectionSpec, MlpSpec,
    NormKind, NormSpec, ProjectionSpec, Residual, RopeScaling, RopeSpec, TensorSpec,
};
pub use self::folder::{FolderError, ModelFolder, ModelIdentity};
pub use self::weights::{Dtype, INDEX_FILE, SINGLE_FILE, TensorView, Weights, WeightsError};
