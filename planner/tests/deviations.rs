//! Deviations of every family, from both exports, through both engines, against PyTorch's.

mod common;

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

/// For the project's other references, which do not travel with the repository: `FROSTLINE_GOLDEN=folder`.
#[test]
fn other_references_agree_too() {
    let Some(golden) = std::env::var_os("FROSTLINE_GOLDEN") else { return };
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
