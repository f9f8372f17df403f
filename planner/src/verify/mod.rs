//! Makes sure that an ONNX file and a model folder are the same model, by what the weights hold, not what they are called.
//!
//! Exporters rename weights, transpose them and fold constants into them. So each tensor of the folder is looked for among
//! the ONNX file's constants by a hash of its numbers and their places: as it is, transposed, or (norm weights that are
//! stored less one) with one added; and where the file holds weights in f16, rounded to that. Tensors that stand side by
//! side, such as queries, keys and values, may also lie in one constant. A quantised matrix only comes [near](nearness)
//! the tensor that it was made from. One pass over each file, on all cores, over memory-mapped bytes.
//!
//! A layer's matrices must be read by the nodes of that layer, so that layers in another order are noticed. Vectors may be
//! anywhere, and so may matrices where the latent spaces were named by hand.

mod nearness;
mod source;

use std::collections::{HashMap, HashSet};

use frostline_schemas::model::ModelFolder;
use frostline_schemas::model::{AttentionSpec, DecoderConfig, LayerSpec};
use frostline_schemas::plan::ExportPrecision;
use half::f16;
use rayon::prelude::*;

use self::source::Source;
use crate::error::{Error, Result};
use crate::onnx::quantised::{self, Quantised, QuantisedMatrix};
use crate::onnx::{Index, Model, Tensor, pb};
use crate::rewrite::latent::LatentSpaces;
use crate::rewrite::lower::FusedAttention;
use pb::tensor_proto::DataType;

/// Elements hashed at a time.
const CHUNK: usize = 1 << 16;

/// Sizes of a matrix; a vector has one row.
type Sizes = (usize, usize);

/// Refuses an ONNX file that is not the model in `folder`, or not for rows of up to `longest` tokens; says in what it
/// keeps the weights.
pub fn check(model: &Model, spaces: &LatentSpaces, folder: &ModelFolder, longest: usize) -> Result<ExportPrecision> {
    let refuse = |reason| Error::OtherModel { path: model.path().into(), folder: folder.path.clone(), reason };
    check_sizes(spaces, &folder.config).map_err(refuse)?;
    let index = Index::new(model.graph());
    if let Some(op) = quantised::other_kind(&index) {
        return Err(Error::Quantised { path: model.path().into(), op: op.into() });
    }
    let export = Export::read(model, &index)?;
    let read: Vec<_> = spaces.layers.iter().map(|layer| constants_read(&index, &layer.nodes)).collect();
    let layers: HashMap<&str, usize> = folder.config.layers.iter().enumerate().flat_map(own_layer).collect();
    let used = [(&folder.config.embedding, &spaces.embedding.weight), (&folder.config.head, &spaces.head.weight)];
    for spec in folder.config.tensors() {
        // Exporters may write a tied weight twice, as embedding and as head; then both must be it.
        let mut used = used.iter().filter(|(of, _)| of.name == spec.name).map(|(_, name)| name.as_str());
        let layer = layers.get(spec.name.as_str()).copied();
        let own = layer.filter(|_| spec.shape.len() == 2).and_then(|layer| read.get(layer));
        let ways = source::ways(spec, layer.map(|layer| &folder.config.layers[layer]), folder)?;
        let found = ways.iter().map(|way| export.holds(way, own)).find(|found| !found.is_empty()).unwrap_or_default();
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
    check_attention(model, &index, spaces, &folder.config, longest).map_err(refuse)?;
    Ok(export.precision)
}

/// Attention that came fused must be what config.json says. Builders are known to drop windows.
fn check_attention(
    model: &Model,
    index: &Index,
    spaces: &LatentSpaces,
    config: &DecoderConfig,
    longest: usize,
) -> Result<(), String> {
    let all = model.fused_attention();
    for (place, fused) in all.iter().enumerate() {
        let made = index.producer(&fused.output);
        let layer = match spaces.layers.is_empty() {
            false => spaces.layers.iter().position(|layer| made.is_some_and(|id| layer.nodes.contains(&id))),
            // Where the spaces were named by hand, only the order tells.
            true if all.len() == config.layers.len() => Some(place),
            true => return Err(format!("it has {} fused attentions for {} layers", all.len(), config.layers.len())),
        };
        let Some((layer, spec)) = layer.and_then(|layer| Some((layer, config.layers.get(layer)?))) else { continue };
        check_settings(fused, &spec.attention)
            .and_then(|()| check_window(fused.window, spec.attention.window, longest))
            .map_err(|reason| format!("attention in its layer {} {reason}", layer + 1))?;
    }
    Ok(())
}

fn check_settings(fused: &FusedAttention, spec: &AttentionSpec) -> Result<(), String> {
    for (what, found, expected) in
        [("heads", fused.heads, spec.heads), ("key and value heads", fused.kv_heads, spec.kv_heads)]
    {
        if found != expected {
            return Err(format!("has {found} {what}, config.json says {expected}"));
        }
    }
    let scale = fused.scale.map_or((spec.head_dim as f64).sqrt().recip(), f64::from);
    // Builders write it in f32 or to a few digits.
    let near = (scale - spec.scale).abs() <= 1e-3 * spec.scale;
    if !near {
        return Err(format!("multiplies scores by {scale}, config.json says {}", spec.scale));
    }
    match fused.softcap {
        Some(softcap) => Err(format!("bends scores to stay within {softcap}, which no supported model does")),
        None => Ok(()),
    }
}

fn check_window(found: Option<usize>, wanted: Option<usize>, longest: usize) -> Result<(), String> {
    let reach = |window: Option<usize>| window.unwrap_or(longest).min(longest);
    if reach(found) == reach(wanted) {
        return Ok(());
    }
    let say = |window: Option<usize>| window.map_or("all places".into(), |window| format!("{window} places"));
    let cause = match found {
        None => "the exporter has dropped the window; ",
        Some(_) => "",
    };
    Err(format!(
        "sees {}, config.json says {}, and rows have up to {longest} tokens \
         ({cause}export with PyTorch or Optimum, or give --max-length {})",
        say(found),
        say(wanted),
        wanted.unwrap_or(longest).min(found.unwrap_or(longest)),
    ))
}

/// A layer's tensors, each with the layer's number.
fn own_layer((number, layer): (usize, &LayerSpec)) -> impl Iterator<Item = (&str, usize)> {
    layer.tensors().into_iter().map(move |spec| (spec.name.as_str(), number))
}

/// The constants of an ONNX file that may be weights.
struct Export<'a> {
    precision: ExportPrecision,
    /// Whether it holds weights in f16.
    half: bool,
    /// Name, sizes and hash.
    plain: Vec<(&'a str, Sizes, u64)>,
    quantised: Vec<(&'a str, Sizes, Quantised<'a>)>,
}

impl<'a> Export<'a> {
    fn read(model: &'a Model, index: &Index<'a>) -> Result<Export<'a>> {
        let matrices: Vec<QuantisedMatrix> =
            index.graph.node.iter().filter_map(|node| QuantisedMatrix::of(index, node)).collect();
        let half = holds_half(model)?;
        let precision = precision(model, half, &matrices);
        let open = |matrix: &QuantisedMatrix<'a>| {
            Ok((matrix.packed.name.as_str(), (matrix.rows, matrix.columns), matrix.open(model)?))
        };
        let quantised = matrices.iter().map(open).collect::<Result<_>>()?;
        Ok(Export { precision, half, plain: constants(model)?, quantised })
    }

    /// Names of the constants that hold sources; none where a source is missing.
    fn holds(&self, sources: &[Source], own: Option<&HashSet<&str>>) -> HashSet<&'a str> {
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
    fn equals(&self, source: &Source, own: Option<&HashSet<&str>>) -> HashSet<&'a str> {
        let is_there = |sizes: &Sizes| self.plain.iter().any(|(_, found, _)| found == sizes);
        let forms = forms(source, self.half, is_there);
        let plain =
            self.plain.iter().filter(|(_, sizes, hash)| forms.contains(&(*sizes, *hash))).map(|(name, ..)| *name);
        let mut found: HashSet<&str> = plain.collect();
        let near = |(name, sizes, matrix): &&(&str, Sizes, Quantised)| {
            own.is_none_or(|own| own.contains(name)) && nearness::near(source, *sizes, matrix)
        };
        found.extend(self.quantised.iter().filter(near).map(|(name, ..)| *name));
        found
    }
}

/// Whether any weight is in f16; one in bf16 is an error.
fn holds_half(model: &Model) -> Result<bool> {
    let holds = |dtype: DataType| {
        let is_weight = |tensor: &pb::TensorProto| tensor.dims.iter().any(|&size| size > 1);
        model.constants().find(|(_, tensor)| tensor.data_type == dtype as i32 && is_weight(tensor))
    };
    match holds(DataType::Bfloat16) {
        Some((name, _)) => Err(Error::Bfloat16 { path: model.path().into(), tensor: name.into() }),
        None => Ok(holds(DataType::Float16).is_some()),
    }
}

/// The coarsest in which any weight is kept; a warning where that is not f32.
fn precision(model: &Model, half: bool, matrices: &[QuantisedMatrix]) -> ExportPrecision {
    let precision = match matrices.iter().map(|matrix| matrix.bits).min() {
        Some(8) => ExportPrecision::Int8,
        Some(4) => ExportPrecision::Int4,
        Some(_) => ExportPrecision::Int2,
        None if half => ExportPrecision::F16,
        None => ExportPrecision::F32,
    };
    let path = model.path().display();
    match precision {
        ExportPrecision::F32 => {}
        ExportPrecision::F16 => {
            tracing::warn!("{path}: the weights are in f16, so deviations carry its rounding; the plan says so");
        }
        _ => tracing::warn!(
            "{path}: weights are quantised to {precision}, so deviations are those of another, coarser model; the plan says so"
        ),
    }
    precision
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

/// Name, sizes and hash of each float constant that is a vector or a matrix.
fn constants(model: &Model) -> Result<Vec<(&str, Sizes, u64)>> {
    let view = |(name, tensor)| Ok((name, tensor, model.tensor(tensor)?));
    let views: Vec<(&str, &pb::TensorProto, Tensor)> = model.constants().map(view).collect::<Result<_>>()?;
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
fn forms(source: &Source, half: bool, is_there: impl Fn(&Sizes) -> bool) -> Vec<(Sizes, u64)> {
    let mut forms = rounded_forms(source, |x| x, &is_there);
    if half {
        forms.extend(rounded_forms(source, in_f16, &is_there));
    }
    forms
}

fn rounded_forms(
    source: &Source,
    round: impl Fn(f32) -> f32 + Sync,
    is_there: &impl Fn(&Sizes) -> bool,
) -> Vec<(Sizes, u64)> {
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

/// As what a matrix is hashed.
#[derive(Clone, Copy)]
enum Layout {
    Same,
    Transposed,
}

/// A hash of a matrix's numbers and their rows and columns, in whatever order they come: that of a matrix is the
/// [`Layout::Transposed`] one of its transpose.
fn hash(
    sizes: Sizes,
    read: impl Fn(usize, &mut [f32]) + Sync,
    layout: Layout,
    change: impl Fn(f32) -> f32 + Sync,
) -> u64 {
    let (rows, columns) = sizes;
    let elements = rows * columns;
    let (of_row, of_column) = match layout {
        Layout::Same => (ROW, COLUMN),
        Layout::Transposed => (COLUMN, ROW),
    };
    let chunk = |number: usize| {
        let start = number * CHUNK;
        let mut values = vec![0.0; CHUNK.min(elements - start)];
        read(start, &mut values);
        let (mut row, mut column) = (start / columns, start % columns);
        let mut rest = values.as_slice();
        let mut sum = 0u64;
        while !rest.is_empty() {
            let (here, later) = rest.split_at(rest.len().min(columns - column));
            let first = of_row.times(row).plus(of_column.times(column));
            sum = sum.wrapping_add(hash_of_row(here, first, of_column, &change));
            (rest, row, column) = (later, row + 1, 0);
        }
        sum
    };
    (0..elements.div_ceil(CHUNK)).into_par_iter().map(chunk).reduce(|| 0, u64::wrapping_add)
}

/// What a number's place adds to its hash, in two halves.
#[derive(Clone, Copy)]
struct Place(u32, u32);

const ROW: Place = Place(0x9e37_79b9, 0x7f4a_7c15);
const COLUMN: Place = Place(0xd1b5_4a33, 0xd192_ed03);

impl Place {
    fn times(self, n: usize) -> Place {
        Place(self.0.wrapping_mul(n as u32), self.1.wrapping_mul(n as u32))
    }

    fn plus(self, other: Place) -> Place {
        Place(self.0.wrapping_add(other.0), self.1.wrapping_add(other.1))
    }
}

/// Of neighbours in a row: `first` is the place of the first, `step` leads from each to the next.
fn hash_of_row(values: &[f32], first: Place, step: Place, change: impl Fn(f32) -> f32) -> u64 {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let places = (0..values.len()).map(|i| first.plus(step.times(i)));
            values.iter().zip(places).map(|(&x, place)| mix(place, change(x))).fold(0, u64::wrapping_add)
        },
    )
}

/// A number's bits and its place stirred together, with products of 32 bits only, of which compilers make vectors. Both
/// zeros count as one: 0.0 and −0.0 are the same weight.
#[inline(always)]
fn mix(place: Place, value: f32) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    let stirred = (bits ^ place.0).wrapping_mul(0x9e37_79b1);
    let stirred = stirred ^ stirred >> 15;
    u64::from(stirred) * u64::from((stirred ^ place.1).wrapping_add(bits))
}

#[cfg(test)]
mod tests {
    use frostline_schemas::model::{Dtype, TensorView};

    use super::*;

    fn forms_of(values: &[f32], shape: &[usize]) -> Vec<(Sizes, u64)> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView { dtype: Dtype::F32, shape, bytes: &bytes };
        forms(&Source::whole(view), false, |_| true)
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
