//! Deviations of every family, from both exports, through both engines, against PyTorch's.

mod common;

use frostline_planner::batch::{self, Limits};
use frostline_planner::onnx::Model;
use frostline_planner::rewrite::latent::LatentSpaces;
use frostline_planner::salf::basis::Basis;
use frostline_planner::verify;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::plan::ExportPrecision;

use common::{EXPORTS, Expected, FAMILIES, Opener, case, ort_is_here, traces, worst};

/// Issue 2 asks for 1e-4; two correct implementations in f32 agree to about 1e-5.
const TOLERANCE: f64 = 1e-4;

fn agrees(family: &str, engine: Opener) {
    let expected = Expected::read(family);
    for export in EXPORTS {
        for tokens in [16, 512] {
            let found = traces(&case(family), &case(family).join(export), &expected, engine, tokens);
            let worst = worst(&expected, &found);
            println!("{family} {export} batches of {tokens} tokens: {worst:.1e}");
            assert!(worst < TOLERANCE, "{family} {export}: off by {worst}");
        }
    }
}

#[test]
fn tract_agrees_with_pytorch() {
    FAMILIES.iter().for_each(|family| agrees(family, common::tract));
}

#[test]
fn onnx_runtime_agrees_with_pytorch() {
    if ort_is_here() {
        FAMILIES.iter().for_each(|family| agrees(family, common::ort));
    }
}

/// Hidden states after the final norm, element by element, at every target.
fn hidden_states_agree(family: &str, engine: Opener) {
    let expected = Expected::read(family);
    let examples = expected.examples();
    let hidden = expected.hidden;
    for export in EXPORTS {
        let model = Model::open(&case(family).join(export)).unwrap();
        let spaces = LatentSpaces::find(&model, None).unwrap();
        let mut engine = engine(model, &spaces);
        let mut compared = 0;
        for group in batch::groups(&examples, Limits { tokens: 64, length: 64 }) {
            let mut check = |batch: usize, found: frostline_planner::engine::Traces| {
                assert_eq!((found.spaces, found.hidden), (expected.normed.len(), hidden));
                // Each example has one target; it is example `index`'s, at `positions[index]`.
                for (place, &index) in group.examples[batch].iter().enumerate() {
                    let at = &expected.integers["positions"][2 * index..2 * index + 2];
                    let start = (at[0] as usize * expected.sequence + at[1] as usize) * hidden;
                    for (space, normed) in expected.normed.iter().enumerate() {
                        let pairs = found.hidden_state(space, place).iter().zip(&normed[start..start + hidden]);
                        let worst = pairs.map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
                        assert!(f64::from(worst) < TOLERANCE, "{family} {export}: space {space} is off by {worst}");
                    }
                    compared += 1;
                }
                Ok(())
            };
            engine.run(group.shape, &group.batches, &mut check).unwrap();
        }
        assert_eq!(compared, expected.targets());
    }
}

#[test]
fn tracts_hidden_states_are_pytorchs() {
    FAMILIES.iter().for_each(|family| hidden_states_agree(family, common::tract));
}

#[test]
fn onnx_runtimes_hidden_states_are_pytorchs() {
    if ort_is_here() {
        FAMILIES.iter().for_each(|family| hidden_states_agree(family, common::ort));
    }
}

#[test]
fn the_semantic_basis_is_pytorchs() {
    for family in FAMILIES {
        let expected = Expected::read(family);
        let folder = ModelFolder::open(&case(family)).unwrap();
        let head = &folder.config.head.name;
        let rows = expected.basis.chunks_exact(expected.hidden);
        let basis = Basis::new(head, folder.weights.require(head).unwrap(), 0..rows.len() as u32, None).unwrap();
        for (token, wanted) in rows.enumerate() {
            let found = basis.row(token as u32).unwrap();
            let length = wanted.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let apart = found.iter().zip(wanted).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum::<f64>().sqrt();
            assert!(apart <= 1e-4 * length, "{family}: token {token} is off by {}", apart / length);
        }
    }
}

#[test]
fn external_data_gives_the_same_traces() {
    let expected = Expected::read("llama");
    let folder = case("llama-sharded");
    let mut engines: Vec<Opener> = vec![common::tract];
    if ort_is_here() {
        engines.push(common::ort);
    }
    for engine in engines {
        let found = traces(&folder, &folder.join("model.onnx"), &expected, engine, 512);
        assert!(worst(&expected, &found) < TOLERANCE);
    }
}

/// In f16 everything is rounded to 11 bits; issue 4 asks for 1e-2.
const HALF_TOLERANCE: f64 = 1e-2;

fn agrees_in_half_precision(family: &str, engine: Opener) {
    let expected = Expected::read(family);
    let export = case(family).join("model.float16.onnx");
    let model = Model::open(&export).unwrap();
    let spaces = LatentSpaces::find(&model, None).unwrap();
    let folder = ModelFolder::open(&case(family)).unwrap();
    assert_eq!(verify::check(&model, &spaces, &folder, 4).unwrap(), ExportPrecision::F16);
    let worst = worst(&expected, &traces(&case(family), &export, &expected, engine, 512));
    println!("{family} in f16: {worst:.1e}");
    assert!(worst < HALF_TOLERANCE, "{family}: off by {worst}");
}

#[test]
fn tract_agrees_in_half_precision() {
    FAMILIES.iter().for_each(|family| agrees_in_half_precision(family, common::tract));
}

#[test]
fn onnx_runtime_agrees_in_half_precision() {
    if ort_is_here() {
        FAMILIES.iter().for_each(|family| agrees_in_half_precision(family, common::ort));
    }
}

/// For the project's other references, which do not travel with the repository: `FROSTLINE_GOLDEN=folder`.
#[test]
#[ignore = "needs the project's other references in the folder FROSTLINE_GOLDEN"]
fn other_references_agree_too() {
    let golden = std::env::var_os("FROSTLINE_GOLDEN").expect("FROSTLINE_GOLDEN");
    for family in FAMILIES {
        let folder = std::path::Path::new(&golden).join(family);
        let expected = Expected::read_from(&folder);
        for export in EXPORTS {
            for engine in [common::tract, common::ort] {
                let worst = worst(&expected, &traces(&folder, &folder.join(export), &expected, engine, 512));
                println!("{family} {export}: {worst:.1e}");
                assert!(worst < TOLERANCE, "{family} {export}: off by {worst}");
            }
        }
    }
}
