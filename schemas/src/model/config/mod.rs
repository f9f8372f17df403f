//! Reads a model's `config.json` into a [`DecoderConfig`].
//!
//! Each family is one entry of the table in `families`: which names its tensors have and which of a decoder's parts it
//! uses. What a config asks for and the runtime does not do is refused here, by name, rather than computed wrongly.

mod error;
mod families;
mod layers;
mod raw;
mod reader;
mod rope;
mod scales;
mod sizes;
mod windows;

use std::path::Path;

pub use self::error::ConfigError;
pub use self::families::{Family, UnknownFamily};
use self::families::{FamilySpec, Positions};
use self::raw::RawConfig;
use self::reader::Reader;
use crate::files;
use crate::model::{DecoderConfig, TensorSpec};

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
    let model_type =
        raw.model_type.as_deref().ok_or_else(|| ConfigError::Missing { path: path.into(), field: "model_type" })?;
    let family = FamilySpec::of_model_type(model_type)
        .ok_or_else(|| ConfigError::Family { path: path.into(), family: model_type.into() })?;
    Reader { path, raw: &raw, family }.decoder()
}

impl Reader<'_> {
    fn decoder(&self) -> Result<DecoderConfig, ConfigError> {
        self.refuse_what_is_not_computed()?;
        let sizes = self.sizes()?;
        let names = &self.family.names;
        let matrix = |name: &str, rows| TensorSpec { name: name.into(), shape: vec![rows, sizes.hidden] };
        let embedding = matrix(names.embedding, sizes.vocabulary);
        let tied = self.raw.tie_word_embeddings.unwrap_or(self.family.tied_by_default);
        let head = if tied { embedding.clone() } else { matrix(names.head, sizes.vocabulary) };
        let learned = self.family.positions == Positions::Learned;
        let layers = (0..sizes.layers).map(|i| self.layer(&sizes, i)).collect::<Result<_, _>>()?;
        Ok(DecoderConfig {
            logit_scale: self.logit_scale()?,
            logit_softcap: self.softcaps()?.logits,
            family: Family::from(self.family),
            hidden: sizes.hidden,
            vocabulary: sizes.vocabulary,
            max_positions: sizes.max_positions,
            embedding,
            embedding_scale: self.embedding_scale(&sizes)?,
            position_embedding: learned.then(|| matrix(names.positions, sizes.max_positions)),
            layers,
            final_norm: self.norm(&sizes, names.final_norm, sizes.hidden),
            head,
        })
    }
}
