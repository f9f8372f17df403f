//! Who makes and who reads each tensor of a graph.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};

/// The first name that is there twice.
pub fn doubled<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}

/// The input of token ids, as exporters name it.
pub const TOKENS: &str = "input_ids";
/// The input that tells tokens from padding.
pub const MASK: &str = "attention_mask";
/// The input of the tokens' places in their rows.
pub const PLACES: &str = "position_ids";
/// Inputs that engines are fed.
const FED: [&str; 3] = [TOKENS, MASK, PLACES];

/// Producers, consumers and constants of a graph, by tensor name.
pub struct Index<'a> {
    pub graph: &'a GraphProto,
    producers: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    initializers: HashMap<&'a str, usize>,
    /// What each node reads, as [`reads`] says.
    reads: Vec<Vec<&'a str>>,
    /// Whether a node depends on no input of the graph.
    constant: Vec<bool>,
}

impl<'a> Index<'a> {
    /// Looks through a graph once. It need not be sorted.
    pub fn new(graph: &'a GraphProto) -> Index<'a> {
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
        let mut index = Index { graph, producers, consumers, initializers, reads, constant: Vec::new() };
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
    pub fn is_constant(&self, tensor: &str) -> bool {
        let computed = |id: usize| self.constant.get(id).copied().unwrap_or(false);
        self.producer(tensor).is_some_and(computed) || self.constant(tensor).is_some()
    }

    /// Checks that every name is defined once and before it is read, so that the graph has no cycles and its nodes can be
    /// walked in the order in which they stand; or says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let inputs = self.graph.input.iter().map(|input| input.name.as_str());
        let weights = self.graph.initializer.iter().map(|tensor| tensor.name.as_str());
        // Old files list every initializer among the inputs, too.
        for (twice, what) in [(doubled(inputs.clone()), "input"), (doubled(weights.clone()), "initializer")] {
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

    /// A node by its place in the graph.
    pub fn node(&self, id: usize) -> &'a NodeProto {
        &self.graph.node[id]
    }

    /// The node that makes a tensor.
    pub fn producer(&self, tensor: &str) -> Option<usize> {
        self.producers.get(tensor).copied()
    }

    /// All names that a node reads, those inside its subgraphs included.
    pub fn reads(&self, id: usize) -> &[&'a str] {
        &self.reads[id]
    }

    /// The nodes that read a tensor, in order.
    pub fn consumers(&self, tensor: &str) -> &[usize] {
        self.consumers.get(tensor).map_or(&[], Vec::as_slice)
    }

    /// The constant of that name: an initializer, or what a `Constant` node holds.
    pub fn constant(&self, tensor: &str) -> Option<&'a TensorProto> {
        if let Some(&id) = self.initializers.get(tensor) {
            return self.graph.initializer.get(id);
        }
        constant_value(self.node(self.producer(tensor)?))
    }

    /// The last steps by which a tensor is made, for messages: `logits ← MatMul(h, w) ← …`.
    pub fn history(&self, tensor: &str, steps: usize) -> String {
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

/// What a `Constant` node holds.
pub fn constant_value(node: &NodeProto) -> Option<&TensorProto> {
    if node.op_type != "Constant" {
        return None;
    }
    attribute(node, "value")?.t.as_ref()
}

/// A node's attribute of that name.
pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// All names that a node reads, those inside its subgraphs included.
pub fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for graph in subgraphs(node) {
        names.extend(graph.node.iter().flat_map(reads));
        names.extend(graph.output.iter().map(|output| output.name.as_str()));
    }
    names
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

/// Every constant tensor of a model: initializers and attributes, subgraphs and functions included.
pub fn tensors(model: &ModelProto) -> Vec<&TensorProto> {
    let mut found = Vec::new();
    model.graph.iter().for_each(|graph| graph_tensors(graph, &mut found));
    model.functions.iter().flat_map(|function| &function.node).for_each(|node| node_tensors(node, &mut found));
    found
}

fn graph_tensors<'a>(graph: &'a GraphProto, found: &mut Vec<&'a TensorProto>) {
    found.extend(&graph.initializer);
    graph.node.iter().for_each(|node| node_tensors(node, found));
}

fn node_tensors<'a>(node: &'a NodeProto, found: &mut Vec<&'a TensorProto>) {
    for attribute in &node.attribute {
        found.extend(attribute.t.iter().chain(&attribute.tensors));
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| graph_tensors(graph, found));
    }
}

/// As [`tensors`], to change them.
pub fn tensors_mut(model: &mut ModelProto, change: &mut impl FnMut(&mut TensorProto)) {
    model.graph.iter_mut().for_each(|graph| graph_tensors_mut(graph, change));
    model.functions.iter_mut().flat_map(|function| &mut function.node).for_each(|node| node_tensors_mut(node, change));
}

fn graph_tensors_mut(graph: &mut GraphProto, change: &mut impl FnMut(&mut TensorProto)) {
    graph.initializer.iter_mut().for_each(&mut *change);
    graph.node.iter_mut().for_each(|node| node_tensors_mut(node, change));
}

fn node_tensors_mut(node: &mut NodeProto, change: &mut impl FnMut(&mut TensorProto)) {
    for attribute in &mut node.attribute {
        attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(&mut *change);
        for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            graph_tensors_mut(graph, change);
        }
    }
}
