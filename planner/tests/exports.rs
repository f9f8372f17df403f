//! Every export in `tests/exports` through every engine, against PyTorch's numbers for the same model.
//!
//! The README's table of exports and engines says what stands here, the pairs that do not work included.

mod common;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use frostline_planner::engine::tract::Tract;
use frostline_planner::engine::{Batch, Engine, Shape};
use frostline_planner::onnx::Model;
use frostline_planner::rewrite::latent::LatentSpaces;
use frostline_planner::rewrite::trace_outputs;
use frostline_planner::verify;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::ExportPrecision;

use common::{Expected, Opener, case, ort_is_here, traces, worst};

/// What becomes of an export.
enum Cell {
    /// Deviations within this of PyTorch's.
    Agrees(f64),
    /// Deviations of a coarser model: within this of PyTorch's, and the engines within the other of each other.
    Coarse(f64, f64),
    /// The same through ONNX Runtime; tract says that it does not know this.
    OrtAlone(f64, &'static str),
    /// A refusal that says this.
    Refused(&'static str),
}

use Cell::{Agrees, Coarse, OrtAlone, Refused};

const FULL: f64 = 1e-4;
const HALF: f64 = 1e-2;

/// Families with what onnxruntime-genai's builder makes of them.
const FAMILIES: [(&str, bool); 10] = [
    ("gpt2", false),
    ("llama", true),
    ("qwen2", true),
    ("gemma3", true),
    ("mistral", true),
    ("qwen3", true),
    ("phi3", true),
    ("olmo2", false),
    ("gpt_neox", false),
    ("smollm3", false),
];

/// The exports of a family, each with its precision and what becomes of it, the same through both engines.
fn exports(family: &str, built: bool) -> Vec<(&'static str, ExportPrecision, Cell)> {
    let mut exports = vec![
        ("optimum", ExportPrecision::F32, Agrees(FULL)),
        ("optimum-past", ExportPrecision::F32, Agrees(FULL)),
        ("optimized", ExportPrecision::F32, Agrees(FULL)),
        ("optimized-float16", ExportPrecision::F16, Agrees(HALF)),
    ];
    if ["llama", "gpt2"].contains(&family) {
        exports.push(("optimum-merged", ExportPrecision::F32, Agrees(FULL)));
    }
    if family == "llama" {
        exports.push(("external", ExportPrecision::F32, Agrees(FULL)));
        exports.push(("blocks", ExportPrecision::Int4, OrtAlone(0.25, "_Q4` is int4")));
        exports.push(("blocks-zero-points", ExportPrecision::Int4, OrtAlone(0.25, "_Q4` is uint4")));
        exports.push(("int8", ExportPrecision::F32, Refused("its weights are quantised for MatMulInteger; export")));
    }
    if built {
        let full = match family {
            // The builder rounds the embedding's scale, √32, to 5.66.
            "gemma3" => 1e-3,
            _ => FULL,
        };
        for (name, precision, cell) in [
            ("genai-fp32", ExportPrecision::F32, Agrees(full)),
            ("genai-fp16", ExportPrecision::F16, Agrees(HALF)),
            // ONNX Runtime rounds what is multiplied with weights of 4 bits to 8 bits, tract does not.
            ("genai-int4", ExportPrecision::Int4, Coarse(0.25, 0.05)),
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
fn examined(family: &str, file: &Path, expected: &Expected) -> frostline_planner::Result<ExportPrecision> {
    let model = Model::open(file)?;
    let spaces = LatentSpaces::find(&model, None)?;
    let longest = expected.examples().iter().map(|example| example.tokens.len()).max().unwrap();
    verify::check(&model, &spaces, &ModelFolder::open(&case(family)).unwrap(), longest)
}

/// What tract says of an export that it cannot run.
fn refusal_of_tract(file: &Path) -> String {
    let model = Model::open(file).unwrap();
    let spaces = LatentSpaces::find(&model, None).unwrap();
    let mut engine = Tract::new(trace_outputs::trace(model, &spaces), &spaces.embedding.ids).unwrap();
    let shape = Shape { rows: 1, length: 2, positions: 1 };
    let batch = Batch { tokens: vec![1, 2], mask: vec![1, 1], positions: vec![0, 0] };
    engine.run(shape, &[batch], &mut |_, _| Ok(())).unwrap_err().to_string()
}

fn holds(family: &str, built: bool) {
    let expected = Expected::read(family);
    let engines: &[Opener] = if ort_is_here() { &[common::tract, common::ort] } else { &[common::tract] };
    for (name, precision, cell) in exports(family, built) {
        let file = folder(family).join(format!("{name}.onnx"));
        let examined = examined(family, &file, &expected);
        if let Refused(words) = cell {
            let error = examined.unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(name), "{family} {name}: {error}");
            continue;
        }
        assert_eq!(examined.unwrap(), precision, "{family} {name}");
        let run = |engine: &Opener| traces(&case(family), &file, &expected, *engine, 512);
        let engines = match cell {
            OrtAlone(_, words) => {
                let error = refusal_of_tract(&file);
                assert!(error.contains(words) && error.contains(name), "{family} {name}: {error}");
                assert!(error.ends_with("try --engine ort, or another export"), "{error}");
                &engines[1..]
            }
            _ => engines,
        };
        let found: Vec<Vec<Vec<f64>>> = engines.iter().map(run).collect();
        let bound = match cell {
            Agrees(bound) | Coarse(bound, _) | OrtAlone(bound, _) => bound,
            Refused(_) => unreachable!(),
        };
        for traces in &found {
            let worst = worst(&expected, traces);
            println!("{family} {name}: {worst:.1e}");
            assert!(worst < bound, "{family} {name}: off by {worst}");
        }
        if let (Coarse(_, bound), [tract, ort]) = (cell, found.as_slice()) {
            let pairs = tract.iter().flatten().zip(ort.iter().flatten());
            let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            println!("{family} {name}: the engines are {apart:.1e} apart");
            assert!(apart < bound, "{family} {name}: the engines are {apart} apart");
        }
    }
}

macro_rules! families {
    ($($family:ident)*) => {$(
        #[test]
        fn $family() {
            let (name, built) = FAMILIES.into_iter().find(|(name, _)| *name == stringify!($family)).unwrap();
            holds(name, built);
        }
    )*};
}

families!(gpt2 llama qwen2 gemma3 mistral qwen3 phi3 olmo2 gpt_neox smollm3);

#[test]
fn no_export_is_left_out() {
    for (family, built) in FAMILIES {
        let told: BTreeSet<String> = exports(family, built).iter().map(|(name, ..)| format!("{name}.onnx")).collect();
        let names =
            std::fs::read_dir(folder(family)).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        assert_eq!(told, names.filter(|name| name.ends_with(".onnx")).collect(), "{family}");
    }
}

/// Within the window the exports whose window was dropped compute the same.
#[test]
fn a_dropped_window_matters_to_longer_rows_alone() {
    for (family, window) in [("mistral", 4), ("phi3", 5)] {
        let model = Model::open(&folder(family).join("genai-fp32.onnx")).unwrap();
        let spaces = LatentSpaces::find(&model, None).unwrap();
        let folder = ModelFolder::open(&case(family)).unwrap();
        assert!(verify::check(&model, &spaces, &folder, window).is_ok());
        let named = LatentSpaces::find(&model, Some(&spaces.spaces)).unwrap();
        for spaces in [spaces, named] {
            let error = verify::check(&model, &spaces, &folder, window + 1).unwrap_err().to_string();
            assert!(error.contains(&format!("--max-length {window})")), "{error}");
        }
    }
}

/// llama as the builder exports it, with one setting of all its attention changed.
fn with_attention(name: &str, i: i64, f: f32) -> (Model, LatentSpaces) {
    use frostline_planner::onnx::pb;
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
    let model = Model::parse(&path, &proto.encode_to_vec()).unwrap();
    let spaces = LatentSpaces::find(&model, None).unwrap();
    (model, spaces)
}

#[test]
fn fused_attention_that_is_not_written_out_is_named() {
    for (name, value) in [("smooth_softmax", 1), ("rotary_interleaved", 1), ("num_heads", 3), ("num_heads", 0)] {
        let (model, spaces) = with_attention(name, value, 0.0);
        let error = Tract::new(trace_outputs::trace(model, &spaces), &spaces.embedding.ids).err().unwrap().to_string();
        assert!(error.contains("genai-fp32.onnx: node `"), "{error}");
        assert!(error.contains(&format!("(GroupQueryAttention) has {name} {value}")), "{error}");
        assert!(error.ends_with("export with PyTorch or Optimum"), "{error}");
    }
}

#[test]
fn fused_attention_of_other_settings_is_another_model() {
    let said = |name: &str, i: i64, f: f32| {
        let (model, spaces) = with_attention(name, i, f);
        verify::check(&model, &spaces, &ModelFolder::open(&case("llama")).unwrap(), 8).unwrap_err().to_string()
    };
    for (name, i, f, expected) in [
        ("num_heads", 2, 0.0, "attention in its layer 1 has 2 heads, config.json says 4"),
        ("kv_num_heads", 4, 0.0, "has 4 key and value heads, config.json says 2"),
        ("scale", 0, 2.0, "multiplies scores by 2"),
        ("scale", 0, -1.0, "multiplies scores by -1"),
        ("softcap", 0, 1.0, "stay within 1"),
    ] {
        let text = said(name, i, f);
        assert!(text.contains(expected), "{name}: {text}");
    }
}

#[test]
fn a_branch_out_of_order_is_an_error() {
    use frostline_planner::onnx::pb;
    use prost::Message;

    let bytes = std::fs::read(folder("llama").join("optimum-merged.onnx")).unwrap();
    let mut proto = pb::ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = proto.graph.as_mut().unwrap();
    let branches =
        graph.node.iter_mut().flat_map(|node| &mut node.attribute).filter_map(|attribute| attribute.g.as_mut());
    branches.for_each(|branch| branch.node.reverse());
    let error = Model::parse(Path::new("merged.onnx"), &proto.encode_to_vec()).err().unwrap().to_string();
    assert!(error.contains("merged.onnx") && error.contains("which nothing before it makes"), "{error}");
}

/// Files of a builder may say anything.
#[test]
fn broken_fused_operators_are_errors_not_panics() {
    use frostline_planner::onnx::pb;
    use prost::Message;

    let bytes = std::fs::read(folder("qwen3").join("genai-int4.onnx")).unwrap();
    let whole = pb::ModelProto::decode(bytes.as_slice()).unwrap();
    let nodes = whole.graph.as_ref().unwrap().node.len();
    let model_folder = ModelFolder::open(&case("qwen3")).unwrap();
    let try_it = |proto: &pb::ModelProto| {
        let Ok(model) = Model::parse(Path::new("broken.onnx"), &proto.encode_to_vec()) else { return };
        if let Ok(spaces) = LatentSpaces::find(&model, None) {
            let _ = verify::check(&model, &spaces, &model_folder, 4);
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
