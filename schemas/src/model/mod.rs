//! A model folder as Hugging Face saves it: its description, its weights, and the identity that plans are bound to.

pub(crate) mod chat_template;
mod config;
mod decoder;
mod folder;
mod identity;
mod weights;

pub use self::chat_template::ChatTemplateError;
pub use self::config::{ConfigError, Family, UnknownFamily, parse as parse_config, read as read_config};
pub use self::decoder::{
    Activation, AttentionSpec, DecoderConfig, LayerSpec, LinearLayout, LinearSpec, MlpProjectionSpec, MlpSpec,
    NormKind, NormSpec, ProjectionSpec, Residual, RopeScaling, RopeSpec, TensorSpec,
};
pub use self::folder::{FolderError, ModelFolder, TOKENIZER_FILE};
pub use self::identity::ModelIdentity;
pub use self::weights::{Dtype, INDEX_FILE, SINGLE_FILE, TensorView, Weights, WeightsError};
