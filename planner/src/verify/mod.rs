//! Makes sure that an ONNX file and a model folder are the same model, by what the weights hold, not what they are called.
//!
//! Exporters rename weights, transpose them and fold constants into them. So each tensor of the folder is looked for among
//! the ONNX file's constants by a hash of its numbers and where they stand: as it is, transposed, or (norm weights that are
//! stored less one) with one added; and where the file holds weights in f16, rounded to that. Tensors that stand side by
//! side, such as queries, keys and values, may also lie in one constant. A quantised matrix only comes [near](nearness)
//! the tensor that it was made from. One pass over each file, on all cores, over memory-mapped bytes.
//!
//! A layer's matrices must be read by the nodes of that layer, so that layers in another order are noticed. Vectors may be
//! anywhere, and so may matrices where the latent spaces were named by hand.

mod attention;
mod constants;
mod folder_matrix;
mod hash;
mod nearness;
mod precision;
mod sizes;

use std::collections::HashMap;

use frostline_schemas::model::{LayerSpec, ModelFolder};
use frostline_schemas::plan::ExportPrecision;

use self::constants::{WeightConstants, constants_read};
use crate::error::{Error, Result};
use crate::onnx::{GraphIndex, quantised};
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;

/// Refuses an export that is not the model in `folder`, or not for rows of up to `longest` tokens; returns the precision
/// of its weights.
pub(crate) fn check(
    export: &Export,
    spaces: &LatentSpaces,
    folder: &ModelFolder,
    longest: usize,
) -> Result<ExportPrecision> {
    let model = &export.model;
    let refuse = |reason| Error::OtherModel { path: model.path().into(), folder: folder.path.clone(), reason };
    sizes::check(spaces, &folder.config).map_err(refuse)?;
    let index = GraphIndex::new(model.graph());
    if let Some(op) = quantised::other_kind(&index) {
        return Err(Error::Quantised { path: model.path().into(), op: op.into() });
    }
    let weights = WeightConstants::read(model, &index)?;
    let read: Vec<_> = spaces.layers.iter().map(|layer| constants_read(&index, &layer.nodes)).collect();
    let layers: HashMap<&str, usize> = folder.config.layers.iter().enumerate().flat_map(own_layer).collect();
    let used = [(&folder.config.embedding, &spaces.embedding.weight), (&folder.config.head, &spaces.head.weight)];
    for spec in folder.config.tensors() {
        // Exporters may write a tied weight twice, as embedding and as head; then both must be it.
        let mut used = used.iter().filter(|(of, _)| of.name == spec.name).map(|(_, name)| name.as_str());
        let layer = layers.get(spec.name.as_str()).copied();
        let own = layer.filter(|_| spec.shape.len() == 2).and_then(|layer| read.get(layer));
        let ways = folder_matrix::ways(spec, layer.map(|layer| &folder.config.layers[layer]), folder)?;
        let found =
            ways.iter().map(|way| weights.holding(way, own)).find(|found| !found.is_empty()).unwrap_or_default();
        folder.weights.release(&spec.name);
        if found.is_empty() || !used.all(|name| found.contains(name)) {
            return Err(refuse(format!("no constant in it equals tensor `{}` {:?}", spec.name, spec.shape)));
        }
        if let (Some(layer), Some(own)) = (layer, own)
            && own.is_disjoint(&found)
        {
            return Err(refuse(format!("its layer {} does not read tensor `{}`", layer + 1, spec.name)));
        }
    }
    attention::check(export, &index, spaces, folder, longest)?;
    Ok(weights.precision)
}

/// A layer's tensors, each with the layer's index.
fn own_layer((index, layer): (usize, &LayerSpec)) -> impl Iterator<Item = (&str, usize)> {
    layer.tensors().into_iter().map(move |spec| (spec.name.as_str(), index))
}
