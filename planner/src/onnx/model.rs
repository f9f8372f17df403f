//! One ONNX model: its graph, its weights wherever they lie, and its digest.

use std::path::{Path, PathBuf};

use frostline_schemas::digest::{Digest, Fingerprint, Hasher};
use prost::Message;
use rayon::prelude::*;
use tract_onnx::pb;

use super::constants;
use super::external::{ExternalFiles, is_external};
use super::graph::GraphIndex;
use super::node::constant_value;
use super::tensor::Tensor;
use crate::error::{Error, Result};

/// An ONNX model whose tensors have been checked.
pub(crate) struct OnnxModel {
    path: PathBuf,
    proto: pb::ModelProto,
    external: ExternalFiles,
    digest: Digest,
}

impl OnnxModel {
    /// Reads and checks a file's bytes and maps the data files that it refers to, which lie beside `path`.
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no whole and sorted graph; [`Error::Tensor`] and [`Error::External`] for weights
    /// that are not there or do not fit.
    pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<OnnxModel> {
        let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
        let proto = pb::ModelProto::decode(bytes).map_err(|error| malformed(error.to_string()))?;
        let graph = proto.graph.as_ref().ok_or_else(|| malformed("it holds no graph".into()))?;
        GraphIndex::new(graph).check().map_err(malformed)?;
        let tensors = constants::tensors(&proto);
        let external = ExternalFiles::map(path, &tensors)?;
        for tensor in &tensors {
            Tensor::view(path, tensor, &external)?;
        }
        let digest = digest(path, bytes, &proto, &external)?;
        Ok(OnnxModel { path: path.into(), proto, external, digest })
    }

    /// The file that was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Digest of the graph and all weights. What data files are called does not count.
    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }

    /// The message as it was read.
    pub(crate) fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    /// The main graph.
    pub(crate) fn graph(&self) -> &pb::GraphProto {
        // `parse` refuses a file without a graph.
        static EMPTY: std::sync::LazyLock<pb::GraphProto> = std::sync::LazyLock::new(Default::default);
        self.proto.graph.as_ref().unwrap_or(&EMPTY)
    }

    /// The version of the standard operator set, 0 if none is named.
    pub(crate) fn opset(&self) -> i64 {
        let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        self.proto.opset_import.iter().find(|import| standard(&import.domain)).map_or(0, |import| import.version)
    }

    /// The program that wrote the file, with its version.
    pub(crate) fn producer(&self) -> String {
        [self.proto.producer_name.as_str(), &self.proto.producer_version].join(" ").trim().to_owned()
    }

    /// Data files, mapped.
    pub(crate) fn external(&self) -> &ExternalFiles {
        &self.external
    }

    /// A tensor's type, shape and bytes, wherever they lie.
    pub(crate) fn tensor<'a>(&'a self, tensor: &'a pb::TensorProto) -> Result<Tensor<'a>> {
        Tensor::view(&self.path, tensor, &self.external)
    }

    /// Lets go of the memory that a tensor's bytes occupy, once they have been read; bytes inside the file stay.
    pub(crate) fn release(&self, tensor: &pb::TensorProto, bytes: usize) {
        if is_external(tensor) {
            self.external.release(&self.path, tensor, bytes);
        }
    }

    /// Every constant of the main graph with its name: initializers and `Constant` nodes.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&str, &pb::TensorProto)> {
        let initializers = self.graph().initializer.iter().map(|tensor| (tensor.name.as_str(), tensor));
        let nodes =
            self.graph().node.iter().filter_map(|node| Some((node.output.first()?.as_str(), constant_value(node)?)));
        initializers.chain(nodes)
    }

    /// Puts the bytes of every external tensor of `proto`, whose tensors must be this model's, into the message itself.
    pub(crate) fn inline_external(&self, proto: &mut pb::ModelProto) -> Result<()> {
        let mut result = Ok(());
        constants::tensors_mut(proto, &mut |tensor| {
            if is_external(tensor) && result.is_ok() {
                match self.tensor(tensor).map(|view| view.bytes.into_owned()) {
                    Ok(bytes) => {
                        tensor.raw_data = bytes;
                        tensor.external_data.clear();
                        tensor.data_location = None;
                    }
                    Err(error) => result = Err(error),
                }
            }
        });
        result
    }

    /// The same model with another graph; its tensors must be tensors of this model, or lie inside the graph.
    pub(crate) fn with_graph(mut self, edit: impl FnOnce(pb::GraphProto) -> pb::GraphProto) -> OnnxModel {
        let graph = self.proto.graph.take().map(edit);
        let proto = pb::ModelProto { graph, ..self.proto };
        OnnxModel { proto, ..self }
    }
}

/// The digest of a file's bytes if it has no external data; otherwise of the graph without the names of its data files,
/// followed by the fingerprints of what they hold, tensor by tensor.
fn digest(path: &Path, bytes: &[u8], proto: &pb::ModelProto, external: &ExternalFiles) -> Result<Digest> {
    if external.is_empty() {
        return Ok(Digest::of(bytes));
    }
    let outside: Vec<&pb::TensorProto> =
        constants::tensors(proto).into_iter().filter(|tensor| is_external(tensor)).collect();
    let contents = outside
        .par_iter()
        .map(|tensor| {
            let bytes = Tensor::view(path, tensor, external)?.bytes;
            let content = Fingerprint::of(&bytes);
            external.release(path, tensor, bytes.len());
            Ok(content)
        })
        .collect::<Result<Vec<[u8; 32]>>>()?;
    let mut nameless = proto.clone();
    constants::tensors_mut(&mut nameless, &mut |tensor| tensor.external_data.clear());
    let mut hasher = Hasher::default();
    hasher.update_framed(&nameless.encode_to_vec());
    contents.iter().for_each(|content| hasher.update(content));
    Ok(hasher.finish())
}
