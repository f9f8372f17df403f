//! Which node makes and which nodes read each tensor of a graph.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::names::{FED, duplicate};
use super::node::{constant_value, reads};

/// Producers, consumers and constants of a graph, by tensor name.
pub(crate) struct GraphIndex<'a> {
    pub graph: &'a GraphProto,
    producers: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    initializers: HashMap<&'a str, usize>,
    /// What each node reads, as [`reads`] says.
    reads: Vec<Vec<&'a str>>,
    /// Whether a node depends on no input of the graph.
    constant: Vec<bool>,
}

impl<'a> GraphIndex<'a> {
    /// Looks through a graph once. It need not be sorted.
    pub(crate) fn new(graph: &'a GraphProto) -> GraphIndex<'a> {
        let mut producers = HashMap::new();
        let reads: Vec<Vec<&str>> = graph.node.iter().map(reads).collect();
        let mut consumers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (id, node) in graph.node.iter().enumerate() {
            producers.extend(node.output.iter().filter(|name| !name.is_empty()).map(|name| (name.as_str(), id)));
            for &name in &reads[id] {
                let readers = consumers.entry(name).or_default();
                if readers.last() != Some(&id) {
                    readers.push(id);
                }
            }
        }
        let initializers =
            graph.initializer.iter().enumerate().map(|(id, tensor)| (tensor.name.as_str(), id)).collect();
        let mut index = GraphIndex { graph, producers, consumers, initializers, reads, constant: Vec::new() };
        for id in 0..graph.node.len() {
            let constant = index.computes_constant(id);
            index.constant.push(constant);
        }
        index
    }

    /// Whether a node depends on no input of the graph, by what is known of the nodes before it.
    fn computes_constant(&self, id: usize) -> bool {
        match self.reads(id) {
            [] => self.node(id).op_type == "Constant",
            names => names.iter().all(|name| self.is_constant(name)),
        }
    }

    /// Whether a tensor depends on no input of the graph.
    pub(crate) fn is_constant(&self, tensor: &str) -> bool {
        let computed = |id: usize| self.constant.get(id).copied().unwrap_or(false);
        self.producer(tensor).is_some_and(computed) || self.constant(tensor).is_some()
    }

    /// Checks that every name is defined once and before it is read, so that the graph has no cycles and its nodes can be
    /// walked in the order in which they stand; or says what is wrong.
    pub(crate) fn check(&self) -> Result<(), String> {
        let inputs = self.graph.input.iter().map(|input| input.name.as_str());
        let weights = self.graph.initializer.iter().map(|tensor| tensor.name.as_str());
        // Old files list every initializer among the inputs, too.
        for (twice, what) in [(duplicate(inputs.clone()), "input"), (duplicate(weights.clone()), "initializer")] {
            if let Some(name) = twice {
                return Err(format!("{what} `{name}` is there twice"));
            }
        }
        if let Some(name) = FED.iter().find(|name| self.initializers.contains_key(*name)) {
            return Err(format!("input `{name}` has a value in the file, which would be taken for what is fed"));
        }
        let mut defined: HashSet<&str> = weights.chain(inputs).collect();
        defined.extend(
            self.graph.sparse_initializer.iter().filter_map(|sparse| Some(sparse.values.as_ref()?.name.as_str())),
        );
        for node in &self.graph.node {
            if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !defined.contains(name.as_str())) {
                return Err(format!(
                    "node `{}` ({}) reads `{name}`, which nothing before it makes",
                    node.name, node.op_type
                ));
            }
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                if !defined.insert(name) {
                    return Err(format!("tensor `{name}` is made twice"));
                }
            }
        }
        match self.graph.output.iter().find(|output| !defined.contains(output.name.as_str())) {
            Some(output) => Err(format!("output `{}` is made by no node", output.name)),
            None => Ok(()),
        }
    }

    /// A node by its index in the graph.
    pub(crate) fn node(&self, id: usize) -> &'a NodeProto {
        &self.graph.node[id]
    }

    /// The node that makes a tensor.
    pub(crate) fn producer(&self, tensor: &str) -> Option<usize> {
        self.producers.get(tensor).copied()
    }

    /// All names that a node reads, those inside its subgraphs included.
    pub(crate) fn reads(&self, id: usize) -> &[&'a str] {
        &self.reads[id]
    }

    /// The nodes that read a tensor, in order.
    pub(crate) fn consumers(&self, tensor: &str) -> &[usize] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// The constant of that name: an initializer, or what a `Constant` node holds.
    pub(crate) fn constant(&self, tensor: &str) -> Option<&'a TensorProto> {
        if let Some(&id) = self.initializers.get(tensor) {
            return self.graph.initializer.get(id);
        }
        constant_value(self.node(self.producer(tensor)?))
    }

    /// The last steps by which a tensor is made, for messages: `logits ← MatMul(h, w) ← …`.
    pub(crate) fn history(&self, tensor: &str, steps: usize) -> String {
        let mut text = format!("`{tensor}`");
        let mut at = tensor;
        for _ in 0..steps {
            let Some(node) = self.producer(at).map(|id| self.node(id)) else { return text };
            text += &format!(" ← {}({})", node.op_type, node.input.join(", "));
            match node.input.iter().find(|name| self.producer(name).is_some()) {
                Some(next) => at = next,
                None => return text,
            }
        }
        text + " ← …"
    }
}
