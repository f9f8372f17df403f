//! Finds the final norm: what stands between the last latent space and the LM head.

use std::collections::HashSet;

use super::head::LmHead;
use crate::error::{Error, Result};
use crate::onnx::{GraphIndex, OnnxModel};

/// The nodes that turn a hidden state into the LM head's input.
#[derive(Clone, Debug, Default)]
pub(crate) struct FinalNorm {
    /// The norm's own nodes, in order; none where the model has no final norm.
    pub nodes: Vec<usize>,
    /// Changes of shape and choices of positions (`Reshape`, last-token `Slice`) among them: left out of a copy, whose rows
    /// are chosen already.
    pub passed_over: Vec<usize>,
}

/// Collects the nodes that depend on `space` and that the head's input depends on.
pub(super) fn find(model: &OnnxModel, index: &GraphIndex, space: &str, head: &LmHead) -> Result<FinalNorm> {
    let failed = |seen: String| Error::FinalNorm { path: model.path().into(), seen };
    let after = descendants(index, space);
    let leading = leading(index, space);
    let (trailing, input) = trailing(index, &after, &head.input);
    let mut norm = FinalNorm { nodes: Vec::new(), passed_over: trailing };
    let mut wanted: HashSet<&str> = HashSet::from([input]);
    for (id, node) in index.graph.node.iter().enumerate().rev() {
        if !after.contains(&id) || !node.output.iter().any(|name| wanted.contains(name.as_str())) {
            continue;
        }
        if leading.contains(&id) {
            norm.passed_over.push(id);
            wanted.extend(node.input.first().map(String::as_str));
            continue;
        }
        let own = |name: &str| name == space || index.producer(name).is_some_and(|id| after.contains(&id));
        if let Some(name) = node.input.iter().find(|name| !name.is_empty() && !own(name) && !index.is_constant(name)) {
            return Err(failed(format!("{}(…, `{name}`) depends on more than the hidden state", node.op_type)));
        }
        norm.nodes.push(id);
        wanted.extend(node.input.iter().map(String::as_str));
    }
    if !wanted.contains(space) {
        let seen = format!("`{space}` does not lead to the LM head; its input is {}", index.history(&head.input, 4));
        return Err(failed(seen));
    }
    norm.nodes.reverse();
    norm.passed_over.sort_unstable();
    Ok(norm)
}

/// Whether a copy leaves an operator out. Casts stay: they say in which type the norm computes.
fn passes_over(op: &str) -> bool {
    matches!(op, "Slice" | "Gather" | "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Dropout")
}

/// What changes the shape of, or chooses positions from, the hidden state before the norm.
fn leading(index: &GraphIndex, space: &str) -> HashSet<usize> {
    let mut tensors = HashSet::from([space]);
    let mut found = HashSet::new();
    for (id, node) in index.graph.node.iter().enumerate() {
        let of_stream = node.input.first().is_some_and(|name| tensors.contains(name.as_str()));
        if of_stream && passes_over(&node.op_type) {
            found.insert(id);
            tensors.extend(node.output.iter().map(String::as_str));
        }
    }
    found
}

/// The same after the norm, and the norm's own output.
fn trailing<'a>(index: &GraphIndex<'a>, after: &HashSet<usize>, head_input: &'a str) -> (Vec<usize>, &'a str) {
    let mut found = Vec::new();
    let mut at = head_input;
    while let Some(id) = index.producer(at).filter(|id| after.contains(id)) {
        let node = index.node(id);
        let (true, Some(input)) = (passes_over(&node.op_type), node.input.first()) else { break };
        found.push(id);
        at = input;
    }
    (found, at)
}

fn descendants(index: &GraphIndex, tensor: &str) -> HashSet<usize> {
    let mut found = HashSet::new();
    let mut open = vec![tensor];
    while let Some(name) = open.pop() {
        for &id in index.consumers(name) {
            if found.insert(id) {
                open.extend(index.node(id).output.iter().map(String::as_str));
            }
        }
    }
    found
}
