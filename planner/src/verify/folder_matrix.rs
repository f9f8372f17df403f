//! What constants of an export may hold of a folder's tensors.
//!
//! Exporters lay matrices that are multiplied with the same input (queries, keys and values; gate and up) side by side
//! in one constant, or take apart what a model keeps so.

use frostline_schemas::model::ModelFolder;
use frostline_schemas::model::TensorView;
use frostline_schemas::model::{LayerSpec, LinearLayout, LinearSpec, MlpProjectionSpec, ProjectionSpec, TensorSpec};

use super::sizes::{MatrixSizes, matrix};
use crate::error::Result;

/// Elements of the folder's tensors one after the other, as rows of one matrix.
pub(super) struct FolderMatrix<'a> {
    pub sizes: MatrixSizes,
    parts: Vec<ElementRange<'a>>,
}

/// Neighbouring elements of a tensor.
struct ElementRange<'a> {
    view: TensorView<'a>,
    first: usize,
    elements: usize,
}

/// The ways in which a tensor may be found: all sources of one of them. It alone; with those that stand beside it in its
/// layer; or taken apart.
pub(super) fn ways<'a>(
    spec: &TensorSpec,
    layer: Option<&LayerSpec>,
    folder: &'a ModelFolder,
) -> Result<Vec<Vec<FolderMatrix<'a>>>> {
    let open = |spec: &TensorSpec| FolderMatrix::of(spec, folder);
    let mut ways = vec![vec![open(spec)?]];
    let Some(layer) = layer else { return Ok(ways) };
    for linears in [layer.attention.projection.linears(), layer.mlp.projection.linears()] {
        let weights: Vec<&TensorSpec> = linears.iter().map(|linear| &linear.weight).collect();
        let biases: Vec<&TensorSpec> = linears.iter().filter_map(|linear| linear.bias.as_ref()).collect();
        for stack in [weights, biases] {
            if stack.len() > 1 && stack.iter().any(|own| own.name == spec.name) {
                let sources: Vec<FolderMatrix> = stack.into_iter().map(open).collect::<Result<_>>()?;
                ways.push(vec![FolderMatrix::stacked(sources)]);
            }
        }
    }
    for (linear, outputs) in fused(layer) {
        let of_rows = linear.weight.name == spec.name && linear.layout == LinearLayout::OutputsFirst;
        if of_rows || linear.bias.as_ref().is_some_and(|bias| bias.name == spec.name) {
            ways.push(open(spec)?.split(&outputs));
        }
    }
    Ok(ways)
}

/// Matrices that hold several, with the outputs of each.
fn fused(layer: &LayerSpec) -> Vec<(&LinearSpec, Vec<usize>)> {
    let attention = &layer.attention;
    let (queries, keys) = (attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim);
    let mut found = Vec::new();
    if let ProjectionSpec::Fused(linear) = &attention.projection {
        found.push((linear, vec![queries, keys, keys]));
    }
    if let MlpProjectionSpec::FusedGated(linear) = &layer.mlp.projection {
        found.push((linear, vec![layer.mlp.intermediate; 2]));
    }
    found
}

impl<'a> FolderMatrix<'a> {
    fn of(spec: &TensorSpec, folder: &'a ModelFolder) -> Result<FolderMatrix<'a>> {
        Ok(FolderMatrix::whole(folder.weights.require(&spec.name)?))
    }

    /// All of a vector or a matrix; of no size where it is neither.
    pub(super) fn whole(view: TensorView<'a>) -> FolderMatrix<'a> {
        let sizes = matrix(view.shape).unwrap_or((0, 0));
        FolderMatrix { sizes, parts: vec![ElementRange { first: 0, elements: sizes.0 * sizes.1, view }] }
    }

    /// Matrices with the same columns, one below the other; vectors, one after the other.
    fn stacked(sources: Vec<FolderMatrix<'a>>) -> FolderMatrix<'a> {
        let vectors = sources.iter().all(|source| source.sizes.0 == 1);
        let sum = |size: fn(&FolderMatrix) -> usize| sources.iter().map(size).sum();
        let columns = sources.first().map_or(0, |source| source.sizes.1);
        let sizes = if vectors { (1, sum(|source| source.sizes.1)) } else { (sum(|source| source.sizes.0), columns) };
        FolderMatrix { sizes, parts: sources.into_iter().flat_map(|source| source.parts).collect() }
    }

    /// Rows of a matrix, or elements of a vector, in groups of so many each; none where they are not as many.
    fn split(self, groups: &[usize]) -> Vec<FolderMatrix<'a>> {
        let (rows, columns) = self.sizes;
        let (count, width) = if rows == 1 { (columns, 1) } else { (rows, columns) };
        let Some(part) = self.parts.into_iter().next().filter(|_| groups.iter().sum::<usize>() == count) else {
            return Vec::new();
        };
        let mut first = 0;
        let mut group = |&size: &usize| {
            let elements = size * width;
            let sizes = if rows == 1 { (1, size) } else { (size, width) };
            first += elements;
            FolderMatrix { sizes, parts: vec![ElementRange { view: part.view, first: first - elements, elements }] }
        };
        groups.iter().map(&mut group).collect()
    }

    /// Elements from `start` on.
    pub(super) fn read(&self, mut start: usize, mut out: &mut [f32]) {
        for part in &self.parts {
            if start < part.elements && !out.is_empty() {
                let (here, rest) = out.split_at_mut(out.len().min(part.elements - start));
                part.view.read_f32(part.first + start, here);
                (start, out) = (0, rest);
            } else {
                start = start.saturating_sub(part.elements);
            }
        }
    }
}
