//! Model folders: config and weights, and each way in which they can be bad.

use std::path::{Path, PathBuf};

use frostline_schemas::config;
use frostline_schemas::folder::ModelFolder;
use frostline_schemas::weights::{INDEX_FILE, SINGLE_FILE, Weights};
use proptest::prelude::*;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name)
}

/// A copy of a case's config and weights, to be spoilt.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(case(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "safetensors" || kind == "json") {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// The message with which a folder is refused.
fn refused(folder: &tempfile::TempDir) -> String {
    ModelFolder::open(folder.path()).map(|_| ()).unwrap_err().to_string()
}

fn edit(folder: &tempfile::TempDir, file: &str, change: impl Fn(&mut serde_json::Value)) {
    let path = folder.path().join(file);
    let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(&path, json.to_string()).unwrap();
}

/// The message with which llama's config is refused once a field has another value.
fn refused_with(field: &str, value: serde_json::Value) -> String {
    let folder = copy("llama");
    edit(&folder, "config.json", |config| config[field] = value.clone());
    refused(&folder)
}

#[test]
fn every_family_is_understood_and_its_tensors_are_those_of_the_file() {
    for name in ["gpt2", "llama", "llama-tied", "qwen2", "gemma3"] {
        let model = ModelFolder::open(&case(name)).unwrap();
        let mut described: Vec<&str> = model.config.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        described.sort_unstable();
        let found: Vec<&str> = model.weights.names().collect();
        assert_eq!(described, found, "{name}");
    }
}

#[test]
fn identity_does_not_depend_on_sharding_or_on_what_saved_the_config() {
    let whole = ModelFolder::open(&case("llama")).unwrap().identity().unwrap();
    assert_eq!(ModelFolder::open(&case("llama-sharded")).unwrap().identity().unwrap().weights, whole.weights);
    let folder = copy("llama");
    edit(&folder, "config.json", |config| config["transformers_version"] = "9.9".into());
    assert_eq!(ModelFolder::open(folder.path()).unwrap().identity().unwrap(), whole);
    edit(&folder, "config.json", |config| config["rms_norm_eps"] = 1e-5.into());
    assert_ne!(ModelFolder::open(folder.path()).unwrap().identity().unwrap().config, whole.config);
}

#[test]
fn one_changed_weight_is_another_model() {
    let folder = copy("llama");
    let path = folder.path().join(SINGLE_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let whole = ModelFolder::open(&case("llama")).unwrap().identity().unwrap();
    assert_eq!(whole.differences(&ModelFolder::open(folder.path()).unwrap().identity().unwrap()).len(), 1);
}

#[test]
fn a_base_models_shorter_names_are_found() {
    let folder = copy("gpt2");
    let path = folder.path().join(SINGLE_FILE);
    let bytes = std::fs::read(&path).unwrap();
    // As long as before, so that the header stays as it is otherwise.
    let text = String::from_utf8_lossy(&bytes[8..16]).into_owned();
    assert!(text.starts_with('{'));
    let shorter = replace_all(&bytes, b"\"transformer.", b"            \"");
    std::fs::write(&path, shorter).unwrap();
    let model = ModelFolder::open(folder.path()).unwrap();
    assert_eq!(model.weights.spelling("transformer.wte.weight"), Some("wte.weight"));
}

fn replace_all(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    for i in 0..out.len() - from.len() {
        if &out[i..i + from.len()] == from {
            out[i..i + from.len()].copy_from_slice(to);
        }
    }
    out
}

#[test]
fn a_folder_without_config_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(&folder).contains("config.json"));
}

#[test]
fn a_folder_without_weights_names_both_files() {
    let folder = copy("llama");
    std::fs::remove_file(folder.path().join(SINGLE_FILE)).unwrap();
    let message = refused(&folder);
    assert!(message.contains(SINGLE_FILE) && message.contains(INDEX_FILE), "{message}");
}

#[test]
fn weights_cut_off_are_refused() {
    let folder = copy("llama");
    let path = folder.path().join(SINGLE_FILE);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 4, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(refused(&folder).contains("model.safetensors"), "{length}");
    }
}

#[test]
fn a_missing_shard_is_named() {
    let folder = copy("llama-sharded");
    std::fs::remove_file(folder.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(refused(&folder).contains("model-00002-of-00002.safetensors"));
}

#[test]
fn an_index_that_points_outside_is_refused() {
    let folder = copy("llama-sharded");
    edit(&folder, INDEX_FILE, |index| index["weight_map"]["model.norm.weight"] = "../other.safetensors".into());
    assert!(refused(&folder).contains("does not lie beside it"));
}

#[test]
fn an_index_that_names_what_no_shard_holds_is_refused() {
    let folder = copy("llama-sharded");
    edit(&folder, INDEX_FILE, |index| {
        let shard = index["weight_map"]["model.norm.weight"].clone();
        index["weight_map"]["model.extra.weight"] = shard;
    });
    assert!(refused(&folder).contains("model.extra.weight"));
}

#[test]
fn a_missing_tensor_is_named() {
    assert!(refused_with("num_hidden_layers", 5.into()).contains("model.layers.4.input_layernorm.weight"));
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let message = refused_with("intermediate_size", 65.into());
    assert!(message.contains("shape") && message.contains("mlp.gate_proj.weight"), "{message}");
}

#[test]
fn an_unknown_family_lists_the_known_ones() {
    let message = refused_with("model_type", "mamba".into());
    assert!(message.contains("`mamba`") && message.contains("gemma3_text"), "{message}");
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (field, value) in [
        ("final_logit_softcapping", serde_json::json!(30.0)),
        ("attn_logit_softcapping", serde_json::json!(50.0)),
        ("use_bidirectional_attention", serde_json::json!(true)),
        ("hidden_act", serde_json::json!("quick_gelu")),
        ("layer_types", serde_json::json!(["full_attention", "linear_attention", "full_attention", "full_attention"])),
    ] {
        assert!(refused_with(field, value).contains(&format!("`{field}`")), "{field}");
    }
    let yarn = serde_json::json!({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0});
    assert!(refused_with("rope_parameters", yarn).contains("yarn"));
}

#[test]
fn impossible_sizes_are_refused_by_name() {
    for (field, value) in [
        ("hidden_size", serde_json::json!(0)),
        ("num_hidden_layers", serde_json::json!(1_000_000)),
        ("vocab_size", serde_json::json!(u64::MAX / 2)),
        ("num_key_value_heads", serde_json::json!(3)),
        ("head_dim", serde_json::json!(7)),
        ("rms_norm_eps", serde_json::json!(0)),
    ] {
        assert!(refused_with(field, value).contains(&format!("`{field}`")), "{field}");
    }
}

#[test]
fn a_config_that_leaves_out_a_size_is_refused() {
    let folder = copy("llama");
    edit(&folder, "config.json", |config| {
        config.as_object_mut().unwrap().remove("hidden_size");
    });
    assert!(refused(&folder).contains("`hidden_size` is missing"));
}

#[test]
fn older_configs_say_the_same_as_newer_ones() {
    let folder = copy("gemma3");
    let newer = config::read(folder.path()).unwrap();
    edit(&folder, "config.json", |config| {
        let rope = config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
        config["rope_theta"] = rope["full_attention"]["rope_theta"].clone();
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"].clone();
    });
    assert_eq!(config::read(folder.path()).unwrap(), newer);
}

proptest! {
    #[test]
    fn no_config_panics(text in ".{0,200}") {
        let _ = config::parse(Path::new("config.json"), text.as_bytes());
    }

    #[test]
    fn no_weights_panic(header in "\\PC{0,120}", data in prop::collection::vec(any::<u8>(), 0..64)) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(folder.path().join(SINGLE_FILE), bytes).unwrap();
        let _ = Weights::open(folder.path()).map(|weights| weights.digest());
    }
}
