//! Writes nodes one after the other into a graph.

use std::collections::{BTreeSet, HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto, tensor_proto::DataType};

use crate::onnx::build;
use crate::onnx::value_info::element_type;

/// What the names of added tensors begin with.
const PREFIX: &str = "frostline";

/// Element types by the names of tensors.
pub(super) type ElementTypes = HashMap<String, i32>;

/// The element types of a graph's constants and inputs.
pub(super) fn element_types(graph: &GraphProto) -> ElementTypes {
    let constants = graph.initializer.iter().map(|tensor| (tensor.name.clone(), tensor.data_type));
    let inputs = graph.input.iter().filter_map(|input| Some((input.name.clone(), element_type(input)?)));
    inputs.chain(constants).collect()
}

/// A graph in the making: its nodes come in order, and constants as they are needed.
pub(crate) struct Writer {
    graph: GraphProto,
    opset: i64,
    /// Element types of constants and inputs.
    types: ElementTypes,
    /// What has been written once for all nodes to read.
    shared: BTreeSet<String>,
    /// Tensors named so far.
    named: usize,
}

impl Writer {
    /// Goes on with a graph whose nodes were taken out.
    pub(crate) fn new(graph: GraphProto, types: ElementTypes, opset: i64) -> Writer {
        Writer { graph, opset, types, shared: BTreeSet::new(), named: 0 }
    }

    /// The graph that was written. Outputs that fused operators alone made, their caches, are gone with them.
    pub(crate) fn finish(mut self) -> GraphProto {
        let made: HashSet<&str> =
            self.graph.node.iter().flat_map(|node| &node.output).chain(self.types.keys()).map(String::as_str).collect();
        self.graph.output.retain(|output| made.contains(output.name.as_str()));
        self.graph
    }

    /// Appends a node as it is.
    pub(crate) fn keep(&mut self, node: NodeProto) {
        self.graph.node.push(node);
    }

    /// Appends a node; the name of its output.
    pub(crate) fn op(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        self.named += 1;
        let output = format!("{PREFIX}.lowered.{}", self.named);
        self.op_to(op, inputs, &output, attributes);
        output
    }

    /// Appends a node whose output has a name already.
    pub(crate) fn op_to(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        self.graph.node.push(build::node(op, inputs, output, attributes));
    }

    /// Writes a tensor that all nodes may read, where it is not there yet.
    pub(crate) fn once(&mut self, name: &str, write: impl FnOnce(&mut Writer, &str)) -> String {
        let name = format!("{PREFIX}.{name}");
        if self.shared.insert(name.clone()) {
            write(self, &name);
        }
        name
    }

    /// A constant vector of i64.
    pub(crate) fn vector(&mut self, values: &[i64]) -> String {
        let joined: Vec<String> = values.iter().map(i64::to_string).collect();
        self.constant(&format!("vector.{}", joined.join(".")), |name| build::vector(name, values))
    }

    /// A constant i64 without dimensions.
    pub(crate) fn scalar(&mut self, value: i64) -> String {
        self.constant(&format!("scalar.{value}"), |name| build::scalar(name, value))
    }

    /// A constant f32 without dimensions.
    pub(crate) fn float(&mut self, value: f32) -> String {
        self.constant(&format!("float.{value:e}"), |name| build::float(name, value))
    }

    fn constant(&mut self, name: &str, make: impl FnOnce(&str) -> TensorProto) -> String {
        self.once(name, |writer, name| writer.graph.initializer.push(make(name)))
    }

    /// The element type of a constant or an input that the graph came with.
    pub(crate) fn type_of(&self, tensor: &str) -> Option<i32> {
        self.types.get(tensor).copied()
    }

    /// `x` in another element type.
    pub(crate) fn cast(&mut self, x: &str, to: i32) -> String {
        self.op("Cast", &[x], vec![build::integer("to", to.into())])
    }

    /// `x` in f32.
    pub(crate) fn upcast(&mut self, x: &str) -> String {
        self.cast(x, DataType::Float as i32)
    }

    /// `x` with other sizes; 0 keeps one, −1 takes what is left.
    pub(crate) fn reshape(&mut self, x: &str, sizes: &[i64]) -> String {
        let sizes = self.vector(sizes);
        self.op("Reshape", &[x, &sizes], Vec::new())
    }

    /// `x` with its dimensions in another order.
    pub(crate) fn transpose(&mut self, x: &str, order: &[i64]) -> String {
        self.op("Transpose", &[x], vec![build::integers("perm", order)])
    }

    /// Elements `from..to` of a dimension.
    pub(crate) fn slice(&mut self, x: &str, from: i64, to: i64, dimension: i64) -> String {
        let [from, to, dimension] = [from, to, dimension].map(|value| self.vector(&[value]));
        self.op("Slice", &[x, &from, &to, &dimension], Vec::new())
    }

    /// The mean over the last dimension, which stays as one element.
    pub(crate) fn mean(&mut self, x: &str) -> String {
        // Its axes became an input with opset 18.
        if self.opset >= 18 {
            let axes = self.vector(&[-1]);
            self.op("ReduceMean", &[x, &axes], Vec::new())
        } else {
            self.op("ReduceMean", &[x], vec![build::integers("axes", &[-1])])
        }
    }
}
