//! Each way in which an ONNX file, or what is given with it, can be bad is an error that names the culprit.

use std::path::{Path, PathBuf};

use super::common::{self, Expected, case};
use crate::batch;
use crate::engine::tract::Tract;
use crate::onnx::pb;
use crate::rewrite::export::Export;
use crate::rewrite::{latent::LatentSpaces, trace_outputs};
use crate::salf::basis::Basis;
use crate::{Error, PlanSettings, Silent, plan, verify};
use frostline_schemas::data::RowSettings;
use frostline_schemas::model::ModelFolder;
use proptest::prelude::*;
use prost::Message;

fn export(family: &str) -> PathBuf {
    case(family).join("model.dynamo.onnx")
}

fn read(path: &Path) -> pb::ModelProto {
    pb::ModelProto::decode(std::fs::read(path).unwrap().as_slice()).unwrap()
}

/// A model whose message was changed, as if it lay at `path`.
fn changed(path: &Path, change: impl FnOnce(&mut pb::GraphProto)) -> Result<Export, Error> {
    let mut proto = read(path);
    change(proto.graph.as_mut().unwrap());
    Export::parse(path, &proto.encode_to_vec())
}

fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("an error").to_string()
}

/// The sharded case's export with its data file in a folder of its own, to be damaged.
fn external() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["model.onnx", "model.onnx.data"] {
        std::fs::copy(case("llama-sharded").join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("model.onnx");
    (folder, path)
}

fn relocate(path: &Path, key: &str, value: &str) -> Result<Export, Error> {
    changed(path, |graph| {
        let outside = graph.initializer.iter_mut().find(|tensor| !tensor.external_data.is_empty()).unwrap();
        outside.external_data.retain(|entry| entry.key != key);
        outside.external_data.push(pb::StringStringEntryProto { key: key.into(), value: value.into() });
    })
}

#[test]
fn a_missing_file() {
    assert!(matches!(Export::open(Path::new("/nowhere/model.onnx")), Err(Error::Read { .. })));
}

#[test]
fn a_truncated_file() {
    let bytes = std::fs::read(export("llama")).unwrap();
    let text = message(Export::parse(Path::new("cut.onnx"), &bytes[..bytes.len() / 2]));
    assert!(text.starts_with("cut.onnx: not a whole ONNX file"), "{text}");
}

#[test]
fn no_onnx_file_at_all() {
    assert!(matches!(Export::parse(Path::new("x"), b"not protobuf \xff\xff"), Err(Error::Malformed { .. })));
    assert!(message(Export::parse(Path::new("x"), b"")).contains("holds no graph"));
}

#[test]
fn external_data_that_is_missing() {
    let (folder, path) = external();
    std::fs::remove_file(folder.path().join("model.onnx.data")).unwrap();
    let text = message(Export::open(&path));
    assert!(text.contains("external data `model.onnx.data`") && text.contains("keep the .onnx file"), "{text}");
}

#[test]
fn external_data_that_is_too_short() {
    let (folder, path) = external();
    let data = std::fs::OpenOptions::new().write(true).open(folder.path().join("model.onnx.data")).unwrap();
    data.set_len(5000).unwrap();
    let text = message(Export::open(&path));
    assert!(text.contains("of a file of 5000 bytes"), "{text}");
}

#[test]
fn external_data_outside_the_folder() {
    let (folder, path) = external();
    let elsewhere = folder.path().join("model.onnx.data");
    for location in ["../model.onnx.data", "a/../../x", "", elsewhere.to_str().unwrap(), "..\\model.onnx.data"] {
        let text = message(relocate(&path, "location", location));
        assert!(text.contains("leaves the model's folder") || text.contains("names no file"), "{text}");
    }
}

#[test]
fn external_data_with_impossible_places() {
    let (_folder, path) = external();
    let most = usize::MAX.to_string();
    for (key, value, said) in [
        ("offset", most.as_str(), "overflow"),
        ("offset", "163072", "of a file of"),
        ("offset", "-1", "not a number"),
        ("length", "4", "needs"),
    ] {
        let text = message(relocate(&path, key, value));
        assert!(text.contains(said), "{key} {value}: {text}");
    }
}

#[test]
fn a_tensor_whose_bytes_do_not_fit_its_shape() {
    for dims in [vec![61, 31], vec![-1, 32], vec![i64::MAX, i64::MAX]] {
        let text = message(changed(&export("llama"), |graph| {
            let tensor = graph.initializer.iter_mut().find(|tensor| tensor.dims == [61, 32]).unwrap();
            tensor.dims = dims.clone();
        }));
        assert!(text.contains("tensor `"), "{text}");
    }
}

#[test]
fn a_graph_that_reads_what_nothing_makes() {
    let text = message(changed(&export("llama"), |graph| graph.node.swap(0, 200)));
    assert!(text.contains("which nothing before it makes"), "{text}");
    let text = message(changed(&export("llama"), |graph| {
        let twice = graph.node[10].output[0].clone();
        graph.node[11].output[0] = twice;
    }));
    assert!(text.contains("made twice"), "{text}");
}

#[test]
fn constants_and_inputs_that_are_there_twice() {
    let text = message(changed(&export("llama"), |graph| graph.initializer.push(graph.initializer[0].clone())));
    assert!(text.contains("initializer `") && text.contains("is there twice"), "{text}");
    let text = message(changed(&export("llama"), |graph| graph.input.push(graph.input[0].clone())));
    assert!(text.contains("input `input_ids` is there twice"), "{text}");
}

#[test]
fn an_input_whose_value_is_in_the_file() {
    let text = message(changed(&export("llama"), |graph| {
        let mut mask = graph.initializer[0].clone();
        mask.name = "attention_mask".into();
        graph.initializer.push(mask);
    }));
    assert!(text.contains("input `attention_mask` has a value in the file"), "{text}");
}

#[test]
fn no_logits() {
    // A base model: the output is the final norm's.
    let export = changed(&export("llama"), |graph| {
        let head = graph.node.pop().unwrap();
        graph.output[0].name.clone_from(&head.input[0]);
    });
    let text = message(LatentSpaces::find(&export.unwrap().model, None));
    assert!(text.contains("no logits found") && text.contains("Mul(") && text.contains("with its LM head"), "{text}");
}

#[test]
fn no_embedding() {
    // The ids are added to instead of looked up.
    let export = changed(&export("llama"), |graph| {
        let gather = graph.node.iter_mut().find(|node| node.op_type == "Gather").unwrap();
        gather.op_type = "GatherElements".into();
    });
    let text = message(LatentSpaces::find(&export.unwrap().model, None));
    assert!(text.contains("no token embedding found") && text.contains("has 61 rows"), "{text}");
}

#[test]
fn no_layers() {
    // Without attention nothing marks a layer.
    let export = changed(&export("llama"), |graph| {
        graph.node.iter_mut().filter(|node| node.op_type == "Softmax").for_each(|node| node.op_type = "Relu".into());
    });
    let text = message(LatentSpaces::find(&export.unwrap().model, None));
    assert!(text.contains("8 residual adds and 0 blocks with attention") && text.contains("by hand"), "{text}");
    assert!(text.contains("candidates are `"), "{text}");
}

#[test]
fn latent_spaces_named_by_hand() {
    let export = Export::open(&export("llama")).unwrap();
    let found = LatentSpaces::find(&export.model, None).unwrap();
    let named = LatentSpaces::find(&export.model, Some(&found.spaces)).unwrap();
    assert_eq!((named.spaces, named.norm.nodes), (found.spaces, found.norm.nodes));
    let text = message(LatentSpaces::find(&export.model, Some(&["a".into(), "b".into()])));
    assert!(text.contains("no node makes a tensor `a`") && text.contains("candidates are `"), "{text}");
    let text = message(LatentSpaces::find(&export.model, Some(&["a".into()])));
    assert!(text.contains("at least two"), "{text}");
}

#[test]
fn an_input_that_nobody_feeds() {
    let export = changed(&export("llama"), |graph| {
        // Something every layer depends on: the mask that attention adds.
        let (from, to) = ("attention_mask", "past_key_values.0.key");
        graph.input.iter_mut().filter(|input| input.name == from).for_each(|input| input.name = to.into());
        let names = graph.node.iter_mut().flat_map(|node| &mut node.input);
        names.filter(|name| *name == from).for_each(|name| *name = to.into());
    })
    .unwrap();
    let spaces = LatentSpaces::find(&export.model, None).unwrap();
    let text = message(Tract::new(trace_outputs::trace(export.model, &spaces), &spaces.embedding.ids));
    assert!(text.contains("input `past_key_values.0.key` (int64 [batch, sequence])"), "{text}");
}

#[test]
fn another_models_weights() {
    for family in common::cases() {
        for export in common::EXPORTS {
            let path = case(&family).join(export);
            let folder = ModelFolder::open(&case(&family)).unwrap();
            let export = Export::open(&path).unwrap();
            let spaces = LatentSpaces::find(&export.model, None).unwrap();
            verify::check(&export, &spaces, &folder, 1).unwrap();
            each_changed_weight_is_noticed(&path, &spaces, &folder);
        }
    }
}

/// Changes one element of each float weight in turn, by as little as a float can change.
fn each_changed_weight_is_noticed(path: &Path, spaces: &LatentSpaces, folder: &ModelFolder) {
    let proto = read(path);
    let graph = proto.graph.as_ref().unwrap();
    let large = |tensor: &pb::TensorProto| tensor.data_type == 1 && tensor.raw_data.len() >= 32 * 4;
    for id in (0..graph.initializer.len()).filter(|&id| large(&graph.initializer[id])) {
        let export = changed(path, |graph| graph.initializer[id].raw_data[4] ^= 1).unwrap();
        let text = message(verify::check(&export, spaces, folder, 1));
        assert!(text.contains("not the model in") && text.contains("equals tensor `"), "{text}");
    }
}

#[test]
fn layers_in_another_order() {
    let folder = ModelFolder::open(&case("llama")).unwrap();
    let path = export("llama");
    let spaces = LatentSpaces::find(&Export::open(&path).unwrap().model, None).unwrap();
    let export = changed(&path, |graph| {
        // The first square matrix that a layer reads, in two layers.
        let first = |graph: &pb::GraphProto, layer: usize| {
            let read = spaces.layers[layer].nodes.iter().flat_map(|&id| &graph.node[id].input);
            let place = |name: &String| graph.initializer.iter().position(|t| t.name == *name && t.dims == [32, 32]);
            read.filter_map(place).next().unwrap()
        };
        let (a, b) = (first(graph, 0), first(graph, 1));
        let bytes = std::mem::take(&mut graph.initializer[a].raw_data);
        graph.initializer[a].raw_data = std::mem::replace(&mut graph.initializer[b].raw_data, bytes);
    });
    let text = message(verify::check(&export.unwrap(), &spaces, &folder, 1));
    assert!(text.contains("its layer 1 does not read tensor `"), "{text}");
}

#[test]
fn weights_in_bfloat16() {
    let text = half_precision(16);
    assert!(text.contains("is bfloat16; export the model in f32 or f16"), "{text}");
}

#[test]
fn other_weights_in_float16() {
    let text = half_precision(10);
    assert!(text.contains("no constant in it equals tensor `"), "{text}");
}

/// What is said of an export whose embedding is all zeros, in a type of two bytes.
fn half_precision(dtype: i32) -> String {
    let export = changed(&export("llama"), |graph| {
        let weight = graph.initializer.iter_mut().find(|tensor| tensor.dims == [61, 32]).unwrap();
        weight.data_type = dtype;
        weight.raw_data = vec![0; 61 * 32 * 2];
    })
    .unwrap();
    let spaces = LatentSpaces::find(&export.model, None).unwrap();
    message(verify::check(&export, &spaces, &ModelFolder::open(&case("llama")).unwrap(), 1))
}

#[test]
fn another_models_sizes() {
    let export = Export::open(&export("qwen2")).unwrap();
    let mut spaces = LatentSpaces::find(&export.model, None).unwrap();
    spaces.spaces.pop();
    let folder = ModelFolder::open(&case("qwen2")).unwrap();
    let text = message(verify::check(&export, &spaces, &folder, 1));
    assert!(text.contains("it has 3 layers, config.json says 4"), "{text}");
}

#[test]
fn a_token_outside_the_vocabulary() {
    let folder = ModelFolder::open(&case("llama")).unwrap();
    let head = folder.weights.require(&folder.config.head.name).unwrap();
    let text = message(Basis::new("lm_head.weight", head, [[61]], None));
    assert!(text.contains("token 61 is outside its 61 rows"), "{text}");

    let data = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(data.path(), r#"{"input_ids": [1, 61], "labels": [-100, 1]}"#).unwrap();
    let text = message(plan(&settings(data.path()), &Silent));
    assert!(text.contains("token 61 is outside the model's vocabulary of 61"), "{text}");
}

#[test]
fn hidden_states_that_are_not_finite() {
    let expected = Expected::read("llama");
    let export = changed(&export("llama"), |graph| {
        // An infinity in the embedding of each token.
        let embedding = graph.initializer.iter_mut().find(|tensor| tensor.dims == [61, 32]).unwrap();
        let infinite = f32::INFINITY.to_le_bytes();
        embedding.raw_data.chunks_exact_mut(128).for_each(|row| row[..4].copy_from_slice(&infinite));
    })
    .unwrap();
    let spaces = LatentSpaces::find(&export.model, None).unwrap();
    let folder = ModelFolder::open(&case("llama")).unwrap();
    let basis = Basis::new("head", folder.weights.require(&folder.config.head.name).unwrap(), [0..61], None).unwrap();
    let mut engine = common::tract(export.model, &spaces);
    let (examples, data) = (expected.examples(), Path::new("rows.jsonl"));
    let groups = batch::groups(&examples, batch::BatchLimits { tokens: 64, length: 64 });
    let traces =
        crate::salf::example_traces::example_traces(engine.as_mut(), &examples, &groups, &basis, data, &Silent);
    let text = message(traces);
    assert!(text.starts_with("rows.jsonl:1: latent space ") && text.contains("not finite"), "{text}");
}

#[test]
fn settings_outside_their_range() {
    let data = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(data.path(), r#"{"input_ids": [1, 2], "labels": [-100, 2]}"#).unwrap();
    let good = settings(data.path());
    for (bad, said) in [
        (PlanSettings { budget: Some(0.0), ..good.clone() }, "budget 0"),
        (PlanSettings { budget: Some(f64::NAN), ..good.clone() }, "budget NaN"),
        (PlanSettings { examples: Some(0), ..good.clone() }, "examples 0"),
        (PlanSettings { min_trainable_layers: 0, ..good.clone() }, "min trainable layers 0"),
        (PlanSettings { rows: RowSettings::up_to(1), ..good.clone() }, "max length 1"),
        (PlanSettings { min_trainable_layers: 5, ..good.clone() }, "min trainable layers 5"),
        (PlanSettings { onnx: None, ..good }, "holds no model.onnx"),
    ] {
        let text = message(plan(&bad, &Silent));
        assert!(text.contains(said), "{text}");
    }
}

fn settings(data: &Path) -> PlanSettings {
    PlanSettings {
        onnx: Some(export("llama")),
        threads: Some(2),
        examples: Some(8),
        rows: RowSettings::up_to(64),
        ..PlanSettings::new(case("llama"), data.into())
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Export::parse(Path::new("x.onnx"), &bytes);
    }

    /// A real file with some bytes changed gets further into the code than arbitrary bytes do.
    #[test]
    fn no_damage_panics(places: [proptest::sample::Index; 4], bytes: [u8; 4], graph_only: bool) {
        let mut proto = read(&export("llama"));
        if graph_only {
            // So that the damage hits the graph, not some weight.
            proto.graph.as_mut().unwrap().initializer.retain(|tensor| tensor.raw_data.len() < 64);
        }
        let mut file = proto.encode_to_vec();
        for (place, byte) in places.iter().zip(bytes) {
            let place = place.index(file.len());
            file[place] = byte;
        }
        if let Ok(export) = Export::parse(Path::new("x.onnx"), &file)
            && let Ok(spaces) = LatentSpaces::find(&export.model, None)
        {
            let ids = spaces.embedding.ids.clone();
            let _ = crate::engine::inputs::inputs(&trace_outputs::trace(export.model, &spaces), &ids);
        }
    }
    /// Nodes that read other tensors, or are other operators, in a file that is otherwise whole.
    #[test]
    fn no_other_wiring_panics(changes: [(proptest::sample::Index, proptest::sample::Index, bool); 3]) {
        let export = changed(&export("llama"), |graph| {
            for (to, from, operator) in changes {
                let (to, from) = (to.index(graph.node.len()), from.index(graph.node.len()));
                let other = graph.node[from].clone();
                match operator {
                    true => graph.node[to].op_type = other.op_type,
                    false => graph.node[to].input = other.input,
                }
            }
        });
        if let Ok(export) = export && let Ok(spaces) = LatentSpaces::find(&export.model, None) {
            let folder = ModelFolder::open(&case("llama")).unwrap();
            let _ = verify::check(&export, &spaces, &folder, 1);
            let _ = trace_outputs::trace(export.model, &spaces);
        }
    }
}
