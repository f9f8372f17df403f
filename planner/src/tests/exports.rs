//! Every export in `tests/exports` through every engine, against PyTorch's numbers for the same model.
//!
//! The README's table of exports and engines says what stands here, the pairs that do not work included.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use crate::batch::{BatchShape, PaddedBatch};
use crate::engine::Engine;
use crate::engine::tract::Tract;
use crate::onnx::quantised::QuantisedMatrix;
use crate::onnx::{GraphIndex, OnnxModel, build, pb};
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;
use crate::rewrite::trace_outputs;
use crate::verify;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::ExportPrecision;

use super::common::{self, Expected, Opener, case, traces, traces_of, worst};

/// What becomes of an export.
enum Cell {
    /// Deviations within this of PyTorch's.
    Agrees(f64),
    /// Deviations of a coarser model: within this of PyTorch's, and ONNX Runtime's, which rounds what it multiplies with
    /// quantised weights, within the other of those of the weights in f32.
    Coarse(f64, f64),
    /// The same through ONNX Runtime; tract says that it does not know this.
    OrtAlone(f64, &'static str),
    /// A refusal that says this.
    Refused(&'static str),
}

use Cell::{Agrees, Coarse, OrtAlone, Refused};

/// What is seen is 4e-7 at most.
const FULL: f64 = 1e-6;
/// What is seen of tract's own products with weights of 4 bits is 2.3e-4 at most.
const TRACT_INT4: f64 = 5e-4;
/// What is seen is 1.2e-3 at most.
const HALF: f64 = 2e-3;

/// The exports of a family, each with its precision and what becomes of it, the same through both engines.
fn exports(family: &str) -> Vec<(&'static str, ExportPrecision, Cell)> {
    let of_optimum = || match family {
        "gemma2" => Refused("the exporter has dropped the cap"),
        _ => Agrees(FULL),
    };
    let mut exports = vec![
        ("optimum", ExportPrecision::F32, of_optimum()),
        ("optimum-past", ExportPrecision::F32, of_optimum()),
        ("optimized", ExportPrecision::F32, Agrees(FULL)),
        ("optimized-float16", ExportPrecision::F16, Agrees(HALF)),
    ];
    if ["llama", "gpt2"].contains(&family) {
        exports.push(("optimum-merged", ExportPrecision::F32, Agrees(FULL)));
    }
    if family == "llama" {
        exports.push(("external", ExportPrecision::F32, Agrees(FULL)));
        exports.push(("blocks", ExportPrecision::Int4, OrtAlone(0.2, "_Q4` is int4")));
        exports.push(("blocks-zero-points", ExportPrecision::Int4, OrtAlone(0.2, "_Q4` is uint4")));
        exports.push(("int8", ExportPrecision::F32, Refused("its weights are quantised for MatMulInteger; export")));
    }
    if folder(family).join("genai-fp32.onnx").is_file() {
        let full = match family {
            // The builder rounds the embedding's scale, √32, to 5.66.
            "gemma2" | "gemma3" => 5e-4,
            _ => FULL,
        };
        for (name, precision, cell) in [
            ("genai-fp32", ExportPrecision::F32, Agrees(full)),
            ("genai-fp16", ExportPrecision::F16, Agrees(HALF)),
            // ONNX Runtime rounds what is multiplied with weights of 4 bits to 8 bits, tract does not.
            ("genai-int4", ExportPrecision::Int4, Coarse(0.2, 0.03)),
        ] {
            let windowless = ["mistral", "phi3"].contains(&family);
            exports.push((
                name,
                precision,
                if windowless { Refused("the exporter has dropped the window") } else { cell },
            ));
        }
    }
    exports
}

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/exports").join(family)
}

/// As `frostline plan` does before it runs a model.
fn examined(family: &str, file: &Path, expected: &Expected) -> crate::Result<ExportPrecision> {
    let export = Export::open(file)?;
    let spaces = LatentSpaces::find(&export.model, None)?;
    let longest = expected.examples().iter().map(|example| example.tokens.len()).max().unwrap();
    verify::check(&export, &spaces, &ModelFolder::open(&case(family)).unwrap(), longest)
}

/// What tract says of an export that it cannot run.
fn refusal_of_tract(file: &Path) -> String {
    let export = Export::open(file).unwrap();
    let spaces = LatentSpaces::find(&export.model, None).unwrap();
    let mut engine = Tract::new(trace_outputs::trace(export.model, &spaces), &spaces.embedding.ids).unwrap();
    let shape = BatchShape { rows: 1, length: 2, positions: 1 };
    let batch = PaddedBatch { tokens: vec![1, 2], mask: vec![1, 1], positions: vec![0, 0] };
    engine.run(shape, &[batch], &mut |_, _| Ok(())).unwrap_err().to_string()
}

/// Names of the families with exports.
fn families() -> Vec<String> {
    common::folders(&folder(""))
}

/// Plans with every export of every family through one engine.
fn every_export(engine_name: &str, engine: Opener) {
    for family in families() {
        let expected = Expected::read(&family);
        for (name, precision, cell) in exports(&family) {
            let file = folder(&family).join(format!("{name}.onnx"));
            let examined = examined(&family, &file, &expected);
            let bound = match cell {
                Refused(words) => {
                    let error = examined.unwrap_err().to_string();
                    assert!(error.contains(words) && error.contains(name), "{family} {name}: {error}");
                    continue;
                }
                OrtAlone(_, words) if engine_name == "tract" => {
                    let error = refusal_of_tract(&file);
                    assert!(error.contains(words) && error.contains(name), "{family} {name}: {error}");
                    assert!(error.ends_with("try ort, or another export"), "{error}");
                    continue;
                }
                Agrees(bound) | Coarse(bound, _) | OrtAlone(bound, _) => bound,
            };
            assert_eq!(examined.unwrap(), precision, "{family} {name}");
            let worst = worst(&expected, &traces(&case(&family), &file, &expected, engine, 512));
            println!("{family} {name}: {worst:.1e}");
            assert!(worst < bound, "{family} {name}: off by {worst}");
        }
    }
}

#[test]
fn tract_agrees_with_every_export() {
    every_export("tract", common::tract);
}

#[test]
#[ignore = "needs ONNX Runtime: ORT_DYLIB_PATH, or the Python package onnxruntime"]
fn onnx_runtime_agrees_with_every_export() {
    every_export("ort", common::ort);
}

/// The same model with its quantised matrices written out in f32, in the standard's own operators.
fn dequantised(model: OnnxModel) -> OnnxModel {
    let index = GraphIndex::new(model.graph());
    let mut graph = model.graph().clone();
    for (id, node) in model.graph().node.iter().enumerate() {
        let Some(matrix) = QuantisedMatrix::of(&index, node) else { continue };
        let (rows, columns) = (matrix.rows, matrix.columns);
        let weights = matrix.open(&model).unwrap();
        let mut values = vec![0.0; rows * columns];
        values.chunks_exact_mut(columns).enumerate().for_each(|(row, out)| weights.read_row(row, out));
        let name = format!("dequantised.{id}");
        let (op, inputs, dims) = match node.op_type.as_str() {
            "MatMulNBits" => {
                values = (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect();
                ("MatMul", [node.input[0].as_str(), &name], [columns, rows])
            }
            _ => ("Gather", [name.as_str(), node.input[1].as_str()], [rows, columns]),
        };
        graph.node[id] = build::node(op, &inputs, &node.output[0], Vec::new());
        graph.initializer.push(pb::TensorProto {
            dims: dims.map(|size| size as i64).to_vec(),
            data_type: 1,
            float_data: values,
            name,
            ..Default::default()
        });
    }
    model.with_graph(|_| graph)
}

/// Quantised models are far from PyTorch's, so a wrong bit may hide there: but it cannot in comparison with the same
/// weights written out.
fn engine_reads_quantised_weights(engine_name: &str, engine: Opener) {
    for family in families() {
        let expected = Expected::read(&family);
        for (name, precision, cell) in exports(&family) {
            let bound = match (cell, engine_name) {
                (Coarse(_, bound), "ort") => bound,
                (OrtAlone(..), "tract") | (Agrees(_) | Refused(_), _) => continue,
                (_, "tract") => TRACT_INT4,
                _ => FULL,
            };
            assert_eq!(precision, ExportPrecision::Int4);
            let file = folder(&family).join(format!("{name}.onnx"));
            let open = || Export::open(&file).unwrap().model;
            let found = traces_of(&case(&family), open(), &expected, engine, 512);
            let written_out = traces_of(&case(&family), dequantised(open()), &expected, common::tract, 512);
            let pairs = found.iter().flatten().zip(written_out.iter().flatten());
            let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("{family} {name}: {apart:.1e} from its weights in f32");
            assert!(apart < bound, "{family} {name}: {apart} from its weights in f32");
        }
    }
}

#[test]
fn tract_reads_quantised_weights() {
    engine_reads_quantised_weights("tract", common::tract);
}

#[test]
#[ignore = "needs ONNX Runtime: ORT_DYLIB_PATH, or the Python package onnxruntime"]
fn onnx_runtime_reads_quantised_weights() {
    engine_reads_quantised_weights("ort", common::ort);
}

#[test]
fn no_export_is_left_out() {
    for family in families() {
        let told: BTreeSet<String> = exports(&family).iter().map(|(name, ..)| format!("{name}.onnx")).collect();
        let names =
            std::fs::read_dir(folder(&family)).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(told, names.filter(|name| name.ends_with(".onnx")).collect(), "{family}");
    }
}

/// Within the window the exports whose window was dropped compute the same.
#[test]
fn a_dropped_window_matters_to_longer_rows_alone() {
    for (family, window) in [("mistral", 4), ("phi3", 5)] {
        let export = Export::open(&folder(family).join("genai-fp32.onnx")).unwrap();
        let spaces = LatentSpaces::find(&export.model, None).unwrap();
        let folder = ModelFolder::open(&case(family)).unwrap();
        assert!(verify::check(&export, &spaces, &folder, window).is_ok());
        let named = LatentSpaces::find(&export.model, Some(&spaces.spaces)).unwrap();
        for spaces in [spaces, named] {
            let error = verify::check(&export, &spaces, &folder, window + 1).unwrap_err().to_string();
            assert!(error.contains(&format!("a max length of {window}")), "{error}");
        }
    }
}

/// llama as the builder exports it, with one setting of all its attention changed.
fn with_attention(name: &str, i: i64, f: f32) -> (Export, LatentSpaces) {
    use prost::Message;

    let path = folder("llama").join("genai-fp32.onnx");
    let mut proto = pb::ModelProto::decode(std::fs::read(&path).unwrap().as_slice()).unwrap();
    for node in proto.graph.iter_mut().flat_map(|graph| &mut graph.node) {
        if node.op_type == "GroupQueryAttention" {
            node.attribute.retain(|attribute| attribute.name != name);
            let r#type = if f == 0.0 { 2 } else { 1 };
            node.attribute.push(pb::AttributeProto { name: name.into(), i, f, r#type, ..Default::default() });
        }
    }
    let export = Export::parse(&path, &proto.encode_to_vec()).unwrap();
    let spaces = LatentSpaces::find(&export.model, None).unwrap();
    (export, spaces)
}

#[test]
fn fused_attention_that_is_not_written_out_is_named() {
    for (name, value) in [("smooth_softmax", 1), ("rotary_interleaved", 1), ("num_heads", 3), ("num_heads", 0)] {
        let (export, spaces) = with_attention(name, value, 0.0);
        let error =
            Tract::new(trace_outputs::trace(export.model, &spaces), &spaces.embedding.ids).err().unwrap().to_string();
        assert!(error.contains("genai-fp32.onnx: node `"), "{error}");
        assert!(error.contains(&format!("(GroupQueryAttention) has {name} {value}")), "{error}");
        assert!(error.ends_with("export with PyTorch or Optimum"), "{error}");
    }
}

#[test]
fn fused_attention_of_other_settings_is_another_model() {
    let said = |name: &str, i: i64, f: f32| {
        let (export, spaces) = with_attention(name, i, f);
        verify::check(&export, &spaces, &ModelFolder::open(&case("llama")).unwrap(), 8).unwrap_err().to_string()
    };
    for (name, i, f, expected) in [
        ("num_heads", 2, 0.0, "attention in its layer 1 has 2 heads, config.json says 4"),
        ("kv_num_heads", 4, 0.0, "has 4 key and value heads, config.json says 2"),
        ("scale", 0, 2.0, "multiplies scores by 2"),
        ("scale", 0, -1.0, "multiplies scores by -1"),
        ("softcap", 0, 1.0, "caps scores at 1, config.json says none"),
    ] {
        let text = said(name, i, f);
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn a_branch_out_of_order_is_an_error() {
    use prost::Message;

    let bytes = std::fs::read(folder("llama").join("optimum-merged.onnx")).unwrap();
    let mut proto = pb::ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    let branches =
        graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|attribute| attribute.g.as_mut());
    branches.for_each(|branch| branch.node.reverse());
    let error = Export::parse(Path::new("merged.onnx"), &proto.encode_to_vec()).err().unwrap().to_string();
    assert!(error.contains("merged.onnx") && error.contains("which nothing before it makes"), "{error}");
}

/// Files of a builder may say anything.
#[test]
fn broken_fused_operators_are_errors_not_panics() {
    use prost::Message;

    let bytes = std::fs::read(folder("qwen3").join("genai-int4.onnx")).unwrap();
    let whole = pb::ModelProto::decode(bytes.as_slice()).unwrap();
    let nodes = whole.graph.as_ref().unwrap().node.len();
    let model_folder = ModelFolder::open(&case("qwen3")).unwrap();
    let try_it = |proto: &pb::ModelProto| {
        let Ok(export) = Export::parse(Path::new("broken.onnx"), &proto.encode_to_vec()) else { return };
        if let Ok(spaces) = LatentSpaces::find(&export.model, None) {
            let _ = verify::check(&export, &spaces, &model_folder, 4);
        }
    };
    let mut tried = 0;
    for id in 0..nodes {
        let node = whole.graph.as_ref().unwrap().node[id].clone();
        if node.domain.is_empty() && node.op_type != "SimplifiedLayerNormalization" {
            continue;
        }
        let mut change = |edit: &dyn Fn(&mut pb::NodeProto)| {
            let mut proto = whole.clone();
            edit(&mut proto.graph.as_mut().unwrap().node[id]);
            let calm = std::panic::catch_unwind(AssertUnwindSafe(|| try_it(&proto)));
            assert!(calm.is_ok(), "{} panics", node.op_type);
            tried += 1;
        };
        for place in 0..node.attribute.len() {
            for value in [0, -1, 1, 3, i64::MAX, i64::MIN] {
                change(&|node| node.attribute[place].i = value);
            }
            change(&|node| drop(node.attribute.remove(place)));
        }
        for place in 0..node.input.len() {
            change(&|node| node.input[place].clear());
        }
        change(&|node| node.input.clear());
        change(&|node| node.output.clear());
    }
    assert!(tried > 500, "{tried}");
}
