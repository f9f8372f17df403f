//! The constants of an export that may be weights, and which of them hold a tensor of the folder.

use std::collections::HashSet;

use frostline_schemas::plan::ExportPrecision;
use rayon::prelude::*;
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

use super::folder_matrix::FolderMatrix;
use super::hash::{Layout, hash};
use super::nearness;
use super::precision::{holds_f16, in_f16, precision};
use super::sizes::{MatrixSizes, matrix};
use crate::error::Result;
use crate::onnx::quantised::{Quantised, QuantisedMatrix};
use crate::onnx::{GraphIndex, OnnxModel, Tensor};

/// The constants of an ONNX file that may be weights.
pub(super) struct WeightConstants<'a> {
    pub precision: ExportPrecision,
    /// Whether it holds weights in f16.
    half: bool,
    /// Name, sizes and hash.
    plain: Vec<(&'a str, MatrixSizes, u64)>,
    quantised: Vec<(&'a str, MatrixSizes, Quantised<'a>)>,
}

impl<'a> WeightConstants<'a> {
    /// Looks through an export.
    pub(super) fn read(model: &'a OnnxModel, index: &GraphIndex<'a>) -> Result<WeightConstants<'a>> {
        let matrices: Vec<QuantisedMatrix> =
            index.graph.node.iter().filter_map(|node| QuantisedMatrix::of(index, node)).collect();
        let half = holds_f16(model)?;
        let precision = precision(model, half, &matrices);
        let open = |matrix: &QuantisedMatrix<'a>| {
            Ok((matrix.packed.name.as_str(), (matrix.rows, matrix.columns), matrix.open(model)?))
        };
        let quantised = matrices.iter().map(open).collect::<Result<_>>()?;
        Ok(WeightConstants { precision, half, plain: constants(model)?, quantised })
    }

    /// Names of the constants that hold sources; none where a source is missing.
    pub(super) fn holding(&self, sources: &[FolderMatrix], own: Option<&HashSet<&str>>) -> HashSet<&'a str> {
        let mut all = HashSet::new();
        for source in sources {
            let found = self.equals(source, own);
            // Of several sources none may lie in another layer.
            if found.is_empty() || (sources.len() > 1 && own.is_some_and(|own| own.is_disjoint(&found))) {
                return HashSet::new();
            }
            all.extend(found);
        }
        all
    }

    /// Names of the constants that equal a source. Of quantised ones only those in `own` are looked at, if it is given,
    /// as nearness is dear to find out.
    fn equals(&self, source: &FolderMatrix, own: Option<&HashSet<&str>>) -> HashSet<&'a str> {
        let is_there = |sizes: &MatrixSizes| self.plain.iter().any(|(_, found, _)| found == sizes);
        let forms = forms(source, self.half, is_there);
        let plain =
            self.plain.iter().filter(|(_, sizes, hash)| forms.contains(&(*sizes, *hash))).map(|(name, ..)| *name);
        let mut found: HashSet<&str> = plain.collect();
        let near = |(name, sizes, matrix): &&(&str, MatrixSizes, Quantised)| {
            own.is_none_or(|own| own.contains(name)) && nearness::near(source, *sizes, matrix)
        };
        found.extend(self.quantised.iter().filter(near).map(|(name, ..)| *name));
        found
    }
}

/// Names of the constants that nodes read, directly or through nodes that depend on constants alone.
pub(super) fn constants_read<'a>(index: &GraphIndex<'a>, nodes: &[usize]) -> HashSet<&'a str> {
    let mut found = HashSet::new();
    let mut open = nodes.to_vec();
    while let Some(id) = open.pop() {
        for &name in index.reads(id) {
            if index.is_constant(name) && found.insert(name) {
                open.extend(index.producer(name));
            }
        }
    }
    found
}

/// Name, sizes and hash of each float constant that is a vector or a matrix.
fn constants(model: &OnnxModel) -> Result<Vec<(&str, MatrixSizes, u64)>> {
    let view = |(name, tensor)| Ok((name, tensor, model.tensor(tensor)?));
    let views: Vec<(&str, &TensorProto, Tensor)> = model.constants().map(view).collect::<Result<_>>()?;
    let hashed = views.par_iter().filter(|(.., view)| view.is_float()).filter_map(|(name, tensor, view)| {
        let sizes = matrix(&view.shape)?;
        let read = |start: usize, out: &mut [f32]| view.read_f32(start, out);
        let hash = match view.dtype {
            DataType::Float16 => hash(sizes, read, Layout::Same, in_f16),
            _ => hash(sizes, read, Layout::Same, |x| x),
        };
        model.release(tensor, view.bytes.len());
        Some((*name, sizes, hash))
    });
    Ok(hashed.collect())
}

/// The forms in which a source may be found, of sizes that `is_there` says yes to. A file with weights in f16 (`half`)
/// may hold some in f32.
fn forms(source: &FolderMatrix, half: bool, is_there: impl Fn(&MatrixSizes) -> bool) -> Vec<(MatrixSizes, u64)> {
    let mut forms = rounded_forms(source, |x| x, &is_there);
    if half {
        forms.extend(rounded_forms(source, in_f16, &is_there));
    }
    forms
}

fn rounded_forms(
    source: &FolderMatrix,
    round: impl Fn(f32) -> f32 + Sync,
    is_there: &impl Fn(&MatrixSizes) -> bool,
) -> Vec<(MatrixSizes, u64)> {
    let read = |start: usize, out: &mut [f32]| source.read(start, out);
    let (rows, columns) = source.sizes;
    let (same, swapped) = ((rows, columns), (columns, rows));
    let mut forms = Vec::new();
    if is_there(&same) {
        forms.push((same, hash(same, read, Layout::Same, &round)));
    }
    if rows == 1 && is_there(&same) {
        forms.push((same, hash(same, read, Layout::Same, |x| round(x + 1.0))));
    } else if rows > 1 && is_there(&swapped) {
        forms.push((swapped, hash(same, read, Layout::Transposed, &round)));
    }
    forms
}

#[cfg(test)]
mod tests {
    use frostline_schemas::model::{Dtype, TensorView};

    use super::*;

    fn forms_of(values: &[f32], shape: &[usize]) -> Vec<(MatrixSizes, u64)> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView { dtype: Dtype::F32, shape, bytes: &bytes };
        forms(&FolderMatrix::whole(view), false, |_| true)
    }

    #[test]
    fn a_transposed_matrix_is_found_and_a_changed_one_is_not() {
        let matrix = forms_of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let transposed = forms_of(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0], &[3, 2]);
        assert_eq!(matrix[0], transposed[1]);
        assert_eq!(matrix[1], transposed[0]);
        let swapped = forms_of(&[2.0, 1.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        assert!(!swapped.contains(&matrix[0]));
    }

    #[test]
    fn a_vector_is_found_with_one_added() {
        assert_eq!(forms_of(&[0.5, -0.25], &[2])[1], forms_of(&[1.5, 0.75], &[2])[0]);
    }
}
