//! What is found in each export, and what is left of a graph once only traces are wanted.

use std::collections::HashSet;

use super::common::{EXPORTS, case, cases};
use crate::inspect::layers;
use crate::onnx::node::reads;
use crate::onnx::{GraphIndex, OnnxModel};
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;
use crate::rewrite::trace_outputs::{self, TARGET_POSITIONS, TRACES};

fn open(family: &str, export: &str) -> (OnnxModel, LatentSpaces) {
    let model = Export::open(&case(family).join(export)).unwrap().model;
    let spaces = LatentSpaces::find(&model, None).unwrap();
    (model, spaces)
}

#[test]
fn latent_spaces_of_every_export() {
    for family in cases() {
        for export in EXPORTS {
            let found = layers(&case(&family).join(export), None).unwrap();
            assert_eq!(found.latent_spaces.len(), 5, "{family} {export}");
            assert_eq!((found.head.shape, found.embedding.shape), ([61, 32], [61, 32]));
            // Attention and MLP of GPT-NeoX lie side by side.
            let adds = if family == "gpt_neox" { 1 } else { 2 };
            assert!(found.latent_spaces[1..].iter().all(|space| space.op == "Add" && space.residual_adds == adds));
            // Where an exporter's names number the layers, they agree with what was found by structure.
            for space in &found.latent_spaces[1..] {
                let number = space.label.as_deref().and_then(|label| label.split('.').next_back()?.parse().ok());
                assert!(number.is_none_or(|number: usize| number + 1 == space.space), "{family} {export}: {space:?}");
            }
            let normalises = |op: &String| ["LayerNormalization", "ReduceMean"].contains(&op.as_str());
            assert_eq!(found.final_norm.iter().filter(|op| normalises(op)).count(), 1, "{:?}", found.final_norm);
        }
    }
}

#[test]
fn what_only_the_logits_need_is_cut_away() {
    for family in cases() {
        for export in EXPORTS {
            let (model, spaces) = open(&family, export);
            let traced = trace_outputs::trace(model, &spaces);
            let graph = traced.graph();
            let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
            assert_eq!(outputs, [TRACES]);
            assert!(graph.input.iter().any(|input| input.name == TARGET_POSITIONS));
            assert!(graph.value_info.is_empty());
            let head = graph.initializer.iter().any(|tensor| tensor.name == spaces.head.weight);
            let shared = spaces.head.weight == spaces.embedding.weight;
            assert_eq!(head, shared, "{family} {export}: `{}`", spaces.head.weight);
            assert_eq!(graph.initializer.iter().filter(|tensor| tensor.dims.contains(&61)).count(), 1);
            assert_no_dead_ends(&traced);
        }
    }
}

#[test]
fn the_last_mlp_reads_target_positions_alone() {
    for family in cases() {
        for export in EXPORTS {
            let (model, spaces) = open(&family, export);
            let traced = trace_outputs::trace(model, &spaces);
            let products = traced.graph().node.iter().filter(|node| node.op_type == "MatMul");
            let at_positions = products.filter(|node| node.name.starts_with("frostline.last/")).count();
            // GPT-2's products are of matrices, so that tokens no longer lie by rows; GPT-NeoX adds attention and MLP up
            // before the stream.
            let expected = match (family.as_str(), export) {
                ("gpt2" | "gpt_neox", _) => 0,
                // One product makes gate and values; where to part them, TorchScript works out from shapes.
                ("phi3", "model.torchscript.onnx") => 0,
                ("phi3", _) => 2,
                _ => 3,
            };
            assert_eq!(at_positions, expected, "{family} {export}");
        }
    }
}

fn assert_no_dead_ends(model: &OnnxModel) {
    let graph = model.graph();
    GraphIndex::new(graph).check().unwrap();
    let mut read: HashSet<&str> = graph.node.iter().flat_map(reads).collect();
    read.insert(TRACES);
    let dead = graph.node.iter().find(|node| !node.output.iter().any(|name| read.contains(name.as_str())));
    assert!(dead.is_none(), "{dead:?}");
    let unused = graph.initializer.iter().find(|tensor| !read.contains(tensor.name.as_str()));
    assert!(unused.is_none(), "{:?}", unused.map(|tensor| &tensor.name));
}

#[test]
fn digests_are_of_content_not_of_names() {
    let original = case("llama-sharded");
    let digest = Export::open(&original.join("model.onnx")).unwrap().model.digest();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.onnx");
    // The same length, so that the message needs no re-encoding.
    let mut bytes = std::fs::read(original.join("model.onnx")).unwrap();
    let (from, to) = (b"model.onnx.data", b"other.onnx.data");
    for start in 0..bytes.len() - from.len() {
        if bytes[start..].starts_with(from) {
            bytes[start..start + to.len()].copy_from_slice(to);
        }
    }
    std::fs::write(&path, &bytes).unwrap();
    let data = std::fs::read(original.join("model.onnx.data")).unwrap();
    std::fs::write(folder.path().join("other.onnx.data"), &data).unwrap();
    assert_eq!(Export::open(&path).unwrap().model.digest(), digest);
    let mut changed = data;
    changed[5000] ^= 1;
    std::fs::write(folder.path().join("other.onnx.data"), &changed).unwrap();
    assert_ne!(Export::open(&path).unwrap().model.digest(), digest);
}

#[test]
fn the_version_of_tract_is_the_locked_one() {
    let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    let version = crate::engine::tract::VERSION;
    assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{version}\"")));
}
