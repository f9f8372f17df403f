//! Makes sure that an ONNX file and a model folder are the same model, by what the weights hold, not what they are called.
//!
//! Exporters rename weights, transpose them and fold constants into them. So each tensor of the folder is looked for among
//! the ONNX file's constants by a hash of its numbers and their places: as it is, transposed, or (norm weights that are
//! stored less one) with one added; and where the file holds weights in f16, rounded to that. One pass over each file,
//! on all cores, over memory-mapped bytes.
//!
//! A layer's matrices must be read by the nodes of that layer, so that layers in another order are noticed. Vectors may be
//! anywhere, and so may matrices where the latent spaces were named by hand.

use std::collections::HashSet;

use frostline_schemas::decoder::{DecoderConfig, TensorSpec};
use frostline_schemas::folder::ModelFolder;
use frostline_schemas::plan::Precision;
use frostline_schemas::weights::TensorView;
use half::f16;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::latent::LatentSpaces;
use crate::onnx::{Index, Model, Tensor, pb, type_name};
use pb::tensor_proto::DataType;

/// Elements hashed at a time.
const CHUNK: usize = 1 << 16;

/// Sizes of a matrix; a vector has one row.
type Sizes = (usize, usize);

/// Refuses an ONNX file that is not the model in `folder`; says in what it keeps the weights.
pub fn check(model: &Model, spaces: &LatentSpaces, folder: &ModelFolder) -> Result<Precision> {
    let refuse = |reason| Error::OtherModel { path: model.path().into(), folder: folder.path.clone(), reason };
    let precision = precision(model)?;
    check_sizes(spaces, &folder.config).map_err(refuse)?;
    let index = Index::new(model.graph());
    let read: Vec<_> = spaces.layers.iter().map(|layer| constants_read(&index, &layer.nodes)).collect();
    let specs = folder.config.tensors();
    let wanted: HashSet<Sizes> = specs.iter().filter_map(|spec| matrix(&spec.shape)).flat_map(both_ways).collect();
    let found = constants(model, &wanted)?;
    for spec in specs {
        let forms = forms(spec, folder.weights.require(&spec.name)?, precision);
        let is_form = |(_, sizes, hash): &(&str, Sizes, u64)| forms.contains(&(*sizes, *hash));
        // Exporters may write a tied weight twice, as embedding and as head; then both must be it.
        let used = [(&folder.config.embedding, &spaces.embedding.weight), (&folder.config.head, &spaces.head.weight)];
        let mut used = used.into_iter().filter(|(of, _)| of.name == spec.name).map(|(_, name)| name);
        let both = used.all(|name| found.iter().any(|constant| constant.0 == name && is_form(constant)));
        if !both || !found.iter().any(is_form) {
            let reason = format!("no constant in it equals tensor `{}` {:?}{}", spec.name, spec.shape, hint(model));
            return Err(refuse(reason));
        }
        let layer =
            folder.config.layers.iter().position(|layer| layer.tensors().iter().any(|own| own.name == spec.name));
        if let Some((layer, read)) = layer.and_then(|layer| Some((layer, read.get(layer)?)))
            && spec.shape.len() == 2
            && !found.iter().any(|constant| read.contains(constant.0) && is_form(constant))
        {
            return Err(refuse(format!("its layer {} does not read tensor `{}`", layer + 1, spec.name)));
        }
    }
    Ok(precision)
}

/// In what the weights are kept: f16 where any of them is.
fn precision(model: &Model) -> Result<Precision> {
    let holds = |dtype: DataType| {
        let is_weight = |tensor: &pb::TensorProto| tensor.dims.iter().any(|&size| size > 1);
        model.constants().find(|(_, tensor)| tensor.data_type == dtype as i32 && is_weight(tensor))
    };
    if let Some((name, _)) = holds(DataType::Bfloat16) {
        return Err(Error::Bfloat16 { path: model.path().into(), tensor: name.into() });
    }
    if holds(DataType::Float16).is_none() {
        return Ok(Precision::F32);
    }
    tracing::warn!(
        "{}: the weights are in f16, so deviations carry its rounding; the plan says so",
        model.path().display()
    );
    Ok(Precision::F16)
}

/// A number as an f16 holds it. Exporters differ in what becomes of numbers next to zero, so all those are 0 here.
fn in_f16(x: f32) -> f32 {
    let rounded = f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()));
    if rounded.to_bits() & 0x7fff <= 1 { 0.0 } else { rounded.to_f32() }
}

/// Names of the constants that nodes read, directly or through nodes that depend on constants alone.
fn constants_read<'a>(index: &Index<'a>, nodes: &[usize]) -> HashSet<&'a str> {
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

fn check_sizes(spaces: &LatentSpaces, config: &DecoderConfig) -> Result<(), String> {
    let sizes = [
        ("layers", spaces.layer_count(), config.layers.len()),
        ("rows in its LM head", spaces.head.vocabulary, config.vocabulary),
        ("as its hidden size", spaces.head.hidden, config.hidden),
    ];
    match sizes.iter().find(|(_, found, expected)| found != expected) {
        Some((what, found, expected)) => Err(format!("it has {found} {what}, config.json says {expected}")),
        None => Ok(()),
    }
}

/// Why nothing may have been found.
fn hint(model: &Model) -> &'static str {
    let is = |dtype: &str| model.constants().any(|(_, tensor)| type_name(tensor.data_type) == dtype);
    match () {
        _ if is("int4") || is("uint4") || is("int8") || is("uint8") => {
            " (its weights seem quantised; only an f32 or f16 export can be compared)"
        }
        _ => "",
    }
}

/// A shape as a matrix, dimensions of 1 left out; `None` for three dimensions and more.
fn matrix(shape: &[usize]) -> Option<Sizes> {
    let large: Vec<usize> = shape.iter().copied().filter(|&n| n != 1).collect();
    match large.as_slice() {
        [] => Some((1, 1)),
        [columns] => Some((1, *columns)),
        [rows, columns] => Some((*rows, *columns)),
        _ => None,
    }
}

fn both_ways((rows, columns): Sizes) -> [Sizes; 2] {
    [(rows, columns), (columns, rows)]
}

/// Name, sizes and hash of each float constant that has one of the wanted sizes.
fn constants<'a>(model: &'a Model, wanted: &HashSet<Sizes>) -> Result<Vec<(&'a str, Sizes, u64)>> {
    let view = |(name, tensor)| Ok((name, model.tensor(tensor)?));
    let views: Vec<(&str, Tensor)> = model.constants().map(view).collect::<Result<_>>()?;
    let hashed = views.par_iter().filter(|(_, view)| view.is_float()).filter_map(|(name, view)| {
        let sizes = matrix(&view.shape).filter(|sizes| wanted.contains(sizes))?;
        let read = |start: usize, out: &mut [f32]| view.read_f32(start, out);
        let hash = match view.dtype {
            DataType::Float16 => hash(view.elements(), read, |place| place, in_f16),
            _ => hash(view.elements(), read, |place| place, |x| x),
        };
        Some((*name, sizes, hash))
    });
    Ok(hashed.collect())
}

/// The forms in which a tensor of the folder may be found. A file with weights in f16 may hold some in f32.
fn forms(spec: &TensorSpec, view: TensorView, precision: Precision) -> Vec<(Sizes, u64)> {
    let Some((rows, columns)) = matrix(&spec.shape) else { return Vec::new() };
    let mut forms = rounded_forms(rows, columns, view, |x| x);
    if precision == Precision::F16 {
        forms.extend(rounded_forms(rows, columns, view, in_f16));
    }
    forms
}

fn rounded_forms(
    rows: usize,
    columns: usize,
    view: TensorView,
    round: impl Fn(f32) -> f32 + Sync,
) -> Vec<(Sizes, u64)> {
    let read = |start: usize, out: &mut [f32]| {
        view.read_f32(start, out);
    };
    let elements = rows * columns;
    let plain = hash(elements, read, |place| place, &round);
    if rows == 1 {
        return vec![((1, columns), plain), ((1, columns), hash(elements, read, |place| place, |x| round(x + 1.0)))];
    }
    let turned = hash(elements, read, |place| (place % columns) * rows + place / columns, &round);
    vec![((rows, columns), plain), ((columns, rows), turned)]
}

/// A hash of numbers and places that does not depend on the order in which they come.
fn hash(
    elements: usize,
    read: impl Fn(usize, &mut [f32]) + Sync,
    place: impl Fn(usize) -> usize + Sync,
    change: impl Fn(f32) -> f32 + Sync,
) -> u64 {
    let chunk = |number: usize| {
        let start = number * CHUNK;
        let mut values = vec![0.0; CHUNK.min(elements - start)];
        read(start, &mut values);
        let mixed = values.iter().enumerate().map(|(i, &x)| mix(place(start + i), change(x)));
        mixed.fold(0u64, u64::wrapping_add)
    };
    (0..elements.div_ceil(CHUNK)).into_par_iter().map(chunk).reduce(|| 0, u64::wrapping_add)
}

/// SplitMix64's finaliser over a number's bits and its place. Both zeros count as one: 0.0 and −0.0 are the same weight.
fn mix(place: usize, value: f32) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    let mut z = ((place as u64) << 32 ^ (place as u64) >> 32 ^ u64::from(bits)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::weights::Dtype;

    fn forms_of(values: &[f32], shape: &[usize]) -> Vec<(Sizes, u64)> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let spec = TensorSpec { name: "w".into(), shape: shape.to_vec() };
        forms(&spec, TensorView { dtype: Dtype::F32, shape, bytes: &bytes }, Precision::F32)
    }

    #[test]
    fn a_transposed_matrix_is_found_and_a_changed_one_is_not() {
        let matrix = forms_of(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        let turned = forms_of(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0], &[3, 2]);
        assert_eq!(matrix[0], turned[1]);
        assert_eq!(matrix[1], turned[0]);
        let swapped = forms_of(&[2.0, 1.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        assert!(!swapped.contains(&matrix[0]));
    }

    #[test]
    fn a_vector_is_found_with_one_added() {
        assert_eq!(forms_of(&[0.5, -0.25], &[2])[1], forms_of(&[1.5, 0.75], &[2])[0]);
    }

    #[test]
    fn numbers_are_rounded_as_exporters_do() {
        assert_eq!(in_f16(0.1), f16::from_f32(0.1).to_f32());
        assert_eq!([1e-9, 5.96e-8, -3e-8].map(in_f16), [0.0; 3]);
        assert_eq!(in_f16(1e30), 65504.0);
    }
}
