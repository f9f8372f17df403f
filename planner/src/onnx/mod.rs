//! Reads ONNX files: the graph, and the weights that lie beside it.
//!
//! Nothing in a file is trusted. [`Model::open`] checks that the graph is sorted and defines each name once, that
//! external data lies inside the model's folder, and that every tensor's bytes are there and fit its shape. Data files
//! are memory-mapped, never read whole. What was read is then [lowered](crate::rewrite::lower).

pub mod build;
mod external;
mod graph;
pub mod quantised;
mod tensor;

use std::path::{Path, PathBuf};

use frostline_schemas::digest::{Digest, Fingerprint, Hasher};
use frostline_schemas::files;
use prost::Message;
use rayon::prelude::*;
pub use tract_onnx::pb;

pub use self::external::ExternalFiles;
pub use self::graph::{Index, MASK, PLACES, TOKENS, attribute, doubled, reads};
pub use self::tensor::{Tensor, type_name};
use crate::error::{Error, Result};
use crate::rewrite::lower::{self, FusedAttention};

/// An ONNX model whose tensors have been checked.
pub struct Model {
    path: PathBuf,
    proto: pb::ModelProto,
    external: ExternalFiles,
    digest: Digest,
    attention: Vec<FusedAttention>,
}

impl Model {
    /// Reads and checks a file and maps the data files that it refers to.
    pub fn open(path: &Path) -> Result<Model> {
        let map = files::map(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Model::parse(path, &map)
    }

    /// As [`Model::open`], from bytes; `path` says where external data is looked for.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Model> {
        let malformed = |reason: String| Error::Malformed { path: path.into(), reason };
        let proto = pb::ModelProto::decode(bytes).map_err(|error| malformed(error.to_string()))?;
        let graph = proto.graph.as_ref().ok_or_else(|| malformed("it holds no graph".into()))?;
        Index::new(graph).check().map_err(malformed)?;
        let tensors = graph::tensors(&proto);
        let external = ExternalFiles::map(path, &tensors)?;
        for tensor in &tensors {
            Tensor::view(path, tensor, &external)?;
        }
        let digest = digest(path, bytes, &proto, &external)?;
        let mut model = Model { path: path.into(), proto, external, digest, attention: Vec::new() };
        let opset = model.opset();
        if let Some(graph) = model.proto.graph.take() {
            let (graph, attention) = lower::lower(graph, opset);
            // Again, as what lay inside a branch was not looked at before.
            Index::new(&graph).check().map_err(malformed)?;
            (model.proto.graph, model.attention) = (Some(graph), attention);
        }
        Ok(model)
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Digest of the graph and all weights. What data files are called does not count.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The message as it was read.
    pub fn proto(&self) -> &pb::ModelProto {
        &self.proto
    }

    /// The main graph.
    pub fn graph(&self) -> &pb::GraphProto {
        // `parse` refuses a file without a graph.
        static EMPTY: std::sync::LazyLock<pb::GraphProto> = std::sync::LazyLock::new(Default::default);
        self.proto.graph.as_ref().unwrap_or(&EMPTY)
    }

    /// Attention that came fused.
    pub fn fused_attention(&self) -> &[FusedAttention] {
        &self.attention
    }

    /// The version of the standard operator set, 0 if none is named.
    pub fn opset(&self) -> i64 {
        let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        self.proto.opset_import.iter().find(|import| standard(&import.domain)).map_or(0, |import| import.version)
    }

    /// The program that wrote the file, with its version.
    pub fn producer(&self) -> String {
        [self.proto.producer_name.as_str(), &self.proto.producer_version].join(" ").trim().to_owned()
    }

    /// Data files, mapped.
    pub fn external(&self) -> &ExternalFiles {
        &self.external
    }

    /// A tensor's type, shape and bytes, wherever they lie.
    pub fn tensor<'a>(&'a self, tensor: &'a pb::TensorProto) -> Result<Tensor<'a>> {
        Tensor::view(&self.path, tensor, &self.external)
    }

    /// Lets go of the memory in which a tensor's bytes stand, once they have been read; those inside the file stay.
    pub fn release(&self, tensor: &pb::TensorProto, bytes: usize) {
        if external::is_external(tensor) {
            self.external.release(&self.path, tensor, bytes);
        }
    }

    /// Every constant of the main graph with its name: initializers and `Constant` nodes.
    pub fn constants(&self) -> impl Iterator<Item = (&str, &pb::TensorProto)> {
        let initializers = self.graph().initializer.iter().map(|tensor| (tensor.name.as_str(), tensor));
        let nodes = self
            .graph()
            .node
            .iter()
            .filter_map(|node| Some((node.output.first()?.as_str(), graph::constant_value(node)?)));
        initializers.chain(nodes)
    }

    /// Puts the bytes of every external tensor of `proto`, whose tensors must be this model's, into the message itself.
    pub(crate) fn inline_external(&self, proto: &mut pb::ModelProto) -> Result<()> {
        let mut result = Ok(());
        graph::tensors_mut(proto, &mut |tensor| {
            if external::is_external(tensor) && result.is_ok() {
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
    pub(crate) fn with_graph(mut self, edit: impl FnOnce(pb::GraphProto) -> pb::GraphProto) -> Model {
        let graph = self.proto.graph.take().map(edit);
        let proto = pb::ModelProto { graph, ..self.proto };
        Model { proto, ..self }
    }
}

/// Of a file without external data the digest of its bytes; else of the graph without the names of its data files,
/// followed by the fingerprints of what they hold, tensor by tensor.
fn digest(path: &Path, bytes: &[u8], proto: &pb::ModelProto, external: &ExternalFiles) -> Result<Digest> {
    if external.is_empty() {
        return Ok(Digest::of(bytes));
    }
    let outside: Vec<&pb::TensorProto> =
        graph::tensors(proto).into_iter().filter(|tensor| external::is_external(tensor)).collect();
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
    graph::tensors_mut(&mut nameless, &mut |tensor| tensor.external_data.clear());
    let mut hasher = Hasher::default();
    hasher.update_framed(&nameless.encode_to_vec());
    contents.iter().for_each(|content| hasher.update(content));
    Ok(hasher.finish())
}
