//! Norms that ONNX Runtime's optimiser has fused, with or without the residual add before them.

use tract_onnx::pb::NodeProto;

use super::writer::Writer;
use crate::onnx::node::{float, input, integer, output};

/// The operators' default.
const EPSILON: f32 = 1e-12;

/// `SkipLayerNormalization(x, skip, gamma, beta?, bias?)`: LayerNorm of `x + skip + bias`, and that sum as output 3.
pub(super) fn skip_layer_norm(writer: &mut Writer, node: &NodeProto) -> Option<()> {
    let scale = Scale::of(writer, node, 2, Some(3))?;
    let summed = residual(writer, node, input(node, 4))?;
    let normed = layer_norm(writer, &summed, float(node, "epsilon", EPSILON));
    scale.apply(writer, &normed);
    Some(())
}

/// `SkipSimplifiedLayerNormalization(x, skip, gamma, bias?)`: RMS norm of `x + skip + bias`, and that sum as output 3.
pub(super) fn skip_rms_norm(writer: &mut Writer, node: &NodeProto) -> Option<()> {
    let scale = Scale::of(writer, node, 2, None)?;
    let summed = residual(writer, node, input(node, 3))?;
    let normed = rms(writer, &summed, float(node, "epsilon", EPSILON));
    scale.apply(writer, &normed);
    Some(())
}

/// `SimplifiedLayerNormalization(x, gamma)`: RMS norm over the last dimension.
pub(super) fn rms_norm(writer: &mut Writer, node: &NodeProto) -> Option<()> {
    let x = input(node, 0)?;
    if integer(node, "axis", -1) != -1 {
        return None;
    }
    let scale = Scale::of(writer, node, 1, None)?;
    let normed = rms(writer, x, float(node, "epsilon", 1e-5));
    scale.apply(writer, &normed);
    Some(())
}

/// The RMS norm of each head of `x` [batch, sequence, heads, size], in f32.
pub(super) fn heads(writer: &mut Writer, x: &str, gamma: &str, epsilon: f32) -> String {
    let normed = rms(writer, x, epsilon);
    let gamma = writer.upcast(gamma);
    writer.op("Mul", &[&normed, &gamma], Vec::new())
}

/// What a norm ends with: its weight, its bias, and the name of what it makes.
struct Scale<'a> {
    gamma: &'a str,
    beta: Option<&'a str>,
    /// The element type of the weight, and so of what is made.
    dtype: i32,
    to: &'a str,
}

impl<'a> Scale<'a> {
    /// `None` where nothing should be written: the weight is no constant, or the graph reads mean and deviation, which
    /// only training uses.
    fn of(writer: &Writer, node: &'a NodeProto, gamma: usize, beta: Option<usize>) -> Option<Scale<'a>> {
        let gamma = input(node, gamma)?;
        let statistics = output(node, 1).or(output(node, 2)).is_some();
        let dtype = writer.type_of(gamma).filter(|_| !statistics)?;
        Some(Scale { gamma, beta: beta.and_then(|index| input(node, index)), dtype, to: output(node, 0)? })
    }

    fn apply(&self, writer: &mut Writer, normed: &str) {
        let downcast = writer.cast(normed, self.dtype);
        match self.beta {
            Some(beta) => {
                let scaled = writer.op("Mul", &[&downcast, self.gamma], Vec::new());
                writer.op_to("Add", &[&scaled, beta], self.to, Vec::new());
            }
            None => writer.op_to("Mul", &[&downcast, self.gamma], self.to, Vec::new()),
        }
    }
}

/// Writes the residual stream after an add.
fn residual(writer: &mut Writer, node: &NodeProto, bias: Option<&str>) -> Option<String> {
    let (x, skip) = (input(node, 0)?, input(node, 1)?);
    let sum = |writer: &mut Writer, a: &str, b: &str, last: bool| match output(node, 3) {
        Some(name) if last => {
            writer.op_to("Add", &[a, b], name, Vec::new());
            name.to_owned()
        }
        _ => writer.op("Add", &[a, b], Vec::new()),
    };
    let summed = sum(writer, x, skip, bias.is_none());
    Some(match bias {
        Some(bias) => sum(writer, &summed, bias, true),
        None => summed,
    })
}

/// `x / rms(x)` in f32.
fn rms(writer: &mut Writer, x: &str, epsilon: f32) -> String {
    let x = writer.upcast(x);
    over_root_of_square(writer, &x, epsilon)
}

/// `(x − mean) / deviation` in f32.
fn layer_norm(writer: &mut Writer, x: &str, epsilon: f32) -> String {
    let x = writer.upcast(x);
    let mean = writer.mean(&x);
    let centred = writer.op("Sub", &[&x, &mean], Vec::new());
    over_root_of_square(writer, &centred, epsilon)
}

fn over_root_of_square(writer: &mut Writer, x: &str, epsilon: f32) -> String {
    let (two, epsilon) = (writer.float(2.0), writer.float(epsilon));
    let squares = writer.op("Pow", &[x, &two], Vec::new());
    let mean = writer.mean(&squares);
    let above_zero = writer.op("Add", &[&mean, &epsilon], Vec::new());
    let root = writer.op("Sqrt", &[&above_zero], Vec::new());
    writer.op("Div", &[x, &root], Vec::new())
}
