//! A model folder as Hugging Face saves it: its description, its weights, and the identity that plans are bound to.

pub(crate) mod chat_template;
mod config;
mod decoder;
mod folder;
mod identity;
mod kinds;
mod weights;

pub use self::chat_template::ChatTemplateError;
pub use self::config::{ConfigError, Family, UnknownFamily, parse as parse_config, read as read_config};
pub use self::decoder::{
    AttentionSpec, DecoderConfig, LayerSpec, LinearSpec, MlpProjectionSpec, MlpSpec, NormSpec, ProjectionSpec,
    RopeScaling, RopeSpec, TensorSpec,
};
pub use self::folder::{FolderError, ModelFolder, TOKENIZER_FILE};
pub use self::identity::ModelIdentity;
pub use self::kinds::{Activation, LinearLayout, NormKind, Residual};
pub use self::weights::{Dtype, INDEX_FILE, SINGLE_FILE, TensorView, Weights, WeightsError};
