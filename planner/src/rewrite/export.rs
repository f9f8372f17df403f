//! Opens an export: reads it, lowers it, and checks what came of that.

use std::path::Path;

use frostline_schemas::files;

use super::lower::{self, attention::FusedAttention};
use crate::error::{Error, Result};
use crate::onnx::{GraphIndex, OnnxModel};

/// An export in the standard's own operators.
pub(crate) struct Export {
    /// The model with the graph that lowering wrote.
    pub model: OnnxModel,
    /// Attention that was fused in the file, as its nodes described it.
    pub attention: Vec<FusedAttention>,
}

impl Export {
    /// Opens a file and maps the data files that it refers to.
    ///
    /// # Errors
    /// [`Error::Read`] for a file that cannot be read; else as for [`Model::parse`].
    pub(crate) fn open(path: &Path) -> Result<Export> {
        let map = files::map(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Export::parse(path, &map)
    }

    /// As [`Export::open`], from bytes; `path` says where external data is looked for.
    ///
    /// # Errors
    /// As for [`Model::parse`].
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Export> {
        let model = OnnxModel::parse(path, bytes)?;
        let opset = model.opset();
        let mut attention = Vec::new();
        let model = model.with_graph(|graph| {
            let (graph, fused) = lower::lower(graph, opset);
            attention = fused;
            graph
        });
        // Again, because reading does not look inside the branches that lowering takes out.
        let malformed = |reason| Error::Malformed { path: path.into(), reason };
        GraphIndex::new(model.graph()).check().map_err(malformed)?;
        Ok(Export { model, attention })
    }
}
