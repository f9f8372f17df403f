//! Model folders: config and weights, and each way in which they can be bad.

mod corrupt;

use std::path::{Path, PathBuf};

use frostline_schemas::data::{self, Encoder, RowSettings};
use frostline_schemas::digest::Digest;
use frostline_schemas::model::ModelFolder;
use frostline_schemas::model::{self, ConfigError};
use frostline_schemas::model::{
    Activation, DecoderConfig, Family, MlpProjectionSpec, NormKind, NormSpec, ProjectionSpec, Residual, RopeScaling,
};
use frostline_schemas::model::{INDEX_FILE, SINGLE_FILE, Weights};
use frostline_schemas::select::{CostTable, StepShape};
use proptest::prelude::*;
use serde_json::json;

/// A case of each family, and one more.
fn cases() -> Vec<&'static str> {
    Family::all().map(Family::name).chain(["llama-tied"]).collect()
}

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name)
}

/// A copy of a case's config and weights, to be corrupted.
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
    for name in cases() {
        let model = ModelFolder::open(&case(name)).unwrap();
        let mut described: Vec<&str> = model.config.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        described.sort_unstable();
        let found: Vec<&str> = model.weights.names().collect();
        assert_eq!(described, found, "{name}");
    }
}

#[test]
fn every_family_is_spelt_in_plans_as_in_messages() {
    for family in Family::all() {
        assert_eq!(serde_json::to_value(family).unwrap(), family.name());
        assert_eq!(family.name().parse::<Family>().unwrap(), family);
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
    assert_eq!(model.weights.on_disk_name("transformer.wte.weight"), Some("wte.weight"));
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
    assert!(message.contains("`mamba`"), "{message}");
    assert!(message.ends_with(
        "supported: llama, qwen2, gemma3_text, gpt2, mistral, qwen3, phi3, olmo2, gpt_neox, smollm3, gemma2, granite"
    ));
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
    for (name, field, value) in [
        ("llama", "layer_types", json!(["full_attention", "sliding_attention", "full_attention", "full_attention"])),
        ("mistral", "layer_types", json!(["full_attention", "full_attention", "full_attention", "full_attention"])),
        ("llama", "partial_rotary_factor", json!(0.5)),
        ("gpt_neox", "num_key_value_heads", json!(2)),
        ("smollm3", "no_rope_layers", json!([1, 0])),
        ("smollm3", "no_rope_layers", json!([])),
    ] {
        let message = with(name, json!({field: value})).unwrap_err().to_string();
        assert!(message.contains(&format!("`{field}`")), "{message}");
    }
    let longrope =
        json!({"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [1.0, 2.0]}});
    assert!(with("phi3", longrope).unwrap_err().to_string().contains("`rope_type` is longrope"));
}

#[test]
fn impossible_sizes_are_refused_by_name() {
    for (field, value) in [
        ("hidden_size", serde_json::json!(0)),
        ("num_hidden_layers", serde_json::json!(1_000_000)),
        ("vocab_size", serde_json::json!(u64::MAX / 2)),
        ("num_key_value_heads", serde_json::json!(3)),
        ("head_dim", serde_json::json!(7)),
        ("head_dim", serde_json::json!(1 << 24)),
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
    let newer = model::read_config(folder.path()).unwrap();
    edit(&folder, "config.json", |config| {
        let rope = config.as_object_mut().unwrap().remove("rope_parameters").unwrap();
        config["rope_theta"] = rope["full_attention"]["rope_theta"].clone();
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"].clone();
    });
    assert_eq!(model::read_config(folder.path()).unwrap(), newer);
}

/// A case's config with fields set, or taken out where the value is null.
fn with(name: &str, fields: serde_json::Value) -> Result<DecoderConfig, ConfigError> {
    let mut json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(case(name).join("config.json")).unwrap()).unwrap();
    for (field, value) in fields.as_object().unwrap() {
        match value {
            serde_json::Value::Null => drop(json.as_object_mut().unwrap().remove(field)),
            value => json[field] = value.clone(),
        }
    }
    model::parse_config(Path::new("config.json"), json.to_string().as_bytes())
}

#[test]
fn both_spellings_of_the_rope_type_are_read_if_they_agree() {
    let rope = |old: &str| json!({"rope_parameters": null, "rope_scaling": {"type": old, "rope_type": "linear", "factor": 2.0}});
    let config = with("llama", rope("linear")).unwrap();
    assert_eq!(config.layers[0].attention.rope.unwrap().scaling, RopeScaling::Linear { factor: 2.0 });
    let message = with("llama", rope("dynamic")).unwrap_err().to_string();
    assert!(message.contains("`rope_type` is linear: `type` says dynamic"), "{message}");
}

#[test]
fn older_and_newer_rope_fields_must_agree() {
    let rope = |factor: f64| {
        json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
        "rope_scaling": {"type": "linear", "factor": factor}})
    };
    with("llama", rope(2.0)).unwrap();
    assert!(with("llama", rope(4.0)).unwrap_err().to_string().contains("`rope_scaling`"));
}

#[test]
fn both_spellings_of_the_window_pattern_are_read_if_they_agree() {
    let pattern =
        |old: usize| json!({"layer_types": null, "_sliding_window_pattern": 2, "sliding_window_pattern": old});
    let config = with("gemma3", pattern(2)).unwrap();
    let windows: Vec<bool> = config.layers.iter().map(|layer| layer.attention.window.is_some()).collect();
    assert_eq!(windows, [true, false, true, false]);
    assert!(with("gemma3", pattern(3)).unwrap_err().to_string().contains("`_sliding_window_pattern` is 2"));
}

#[test]
fn gemmas_hidden_activation_wins_over_its_left_over_hidden_act() {
    let config = with("gemma3", json!({"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"})).unwrap();
    assert_eq!(config.layers[0].mlp.activation, Activation::GeluTanh);
    let config = with("gemma3", json!({"hidden_act": "relu", "hidden_activation": "gelu"})).unwrap();
    assert_eq!(config.layers[0].mlp.activation, Activation::Gelu);
}

#[test]
fn both_of_gpt2s_spellings_of_a_size_must_agree() {
    let hidden = with("gpt2", json!({})).unwrap().hidden;
    assert_eq!(with("gpt2", json!({"hidden_size": hidden, "n_embd": hidden})).unwrap().hidden, hidden);
    assert!(with("gpt2", json!({"hidden_size": hidden + 4, "n_embd": hidden})).is_err());
}

/// As `Gemma3TextConfig` of transformers 5 fills them in.
#[test]
fn what_a_gemma3_config_leaves_out_is_what_transformers_takes() {
    let left_out = [
        "head_dim",
        "query_pre_attn_scalar",
        "rope_parameters",
        "sliding_window",
        "rms_norm_eps",
        "tie_word_embeddings",
        "num_key_value_heads",
        "hidden_activation",
    ];
    let fields = left_out.into_iter().map(|field| (field.to_owned(), serde_json::Value::Null)).collect();
    let config = with("gemma3", serde_json::Value::Object(fields)).unwrap();
    let (sliding, full) = (&config.layers[0].attention, &config.layers[1].attention);
    assert_eq!((full.kv_heads, full.head_dim, full.scale), (4, 256, 1.0 / 16.0));
    assert_eq!((full.window, full.rope.unwrap().theta), (None, 1e6));
    assert_eq!((sliding.window, sliding.rope.unwrap().theta), (Some(4096), 1e4));
    assert_eq!((config.final_norm.epsilon, config.tied()), (1e-6, true));
    assert_eq!(config.layers[0].mlp.activation, Activation::GeluTanh);
}

/// As `Gemma2Config` of transformers 5 fills them in.
#[test]
fn what_a_gemma2_config_leaves_out_is_what_transformers_takes() {
    let left_out = json!({
        "head_dim": null, "query_pre_attn_scalar": null, "rope_parameters": null, "sliding_window": null,
        "rms_norm_eps": null, "tie_word_embeddings": null, "num_key_value_heads": null, "hidden_activation": null,
        "layer_types": null, "attn_logit_softcapping": null, "final_logit_softcapping": null,
    });
    let config = with("gemma2", left_out).unwrap();
    let (sliding, full) = (&config.layers[0].attention, &config.layers[1].attention);
    assert_eq!((full.kv_heads, full.head_dim, full.scale), (4, 256, 1.0 / 16.0));
    assert_eq!([sliding.window, full.window], [Some(4096), None]);
    assert_eq!([sliding, full].map(|attention| attention.rope.unwrap().theta), [1e4, 1e4]);
    assert_eq!((sliding.softcap, full.softcap, config.logit_softcap), (Some(50.0), Some(50.0), Some(30.0)));
    assert_eq!((config.final_norm.epsilon, config.tied()), (1e-6, true));
    assert_eq!(config.layers[0].mlp.activation, Activation::GeluTanh);
    assert_eq!(config.embedding_scale, Some(32.0f64.sqrt()));
}

#[test]
fn gemma2s_layers_alternate_whatever_pattern_is_left_over() {
    let pattern = json!({"layer_types": null, "sliding_window_pattern": 3, "_sliding_window_pattern": 4});
    let windows = with("gemma2", pattern).unwrap().layers.into_iter().map(|layer| layer.attention.window);
    assert_eq!(windows.collect::<Vec<_>>(), [Some(4), None, Some(4), None]);
}

#[test]
fn gemma2_has_four_norms_a_layer_and_none_of_queries_and_keys() {
    let layer = with("gemma2", json!({})).unwrap().layers.swap_remove(0);
    assert_eq!(layer.norms().filter(|norm| norm.kind == NormKind::RmsUnitOffset).count(), 4);
    assert_eq!((layer.attention.query_norm, layer.attention.key_norm), (None, None));
}

#[test]
fn a_softcap_of_null_is_none() {
    assert_eq!(with_null("gemma2", "attn_logit_softcapping").layers[0].attention.softcap, None);
    assert_eq!(with_null("gemma2", "final_logit_softcapping").logit_softcap, None);
}

#[test]
fn a_softcap_that_is_not_above_0_is_refused() {
    for field in ["attn_logit_softcapping", "final_logit_softcapping"] {
        for value in [json!(0), json!(0.0), json!(-30.0)] {
            let message = with("gemma2", json!({field: value})).unwrap_err().to_string();
            assert!(message.contains(&format!("`{field}` is")) && message.contains("must be above 0"), "{message}");
        }
        assert!(with("gemma2", json!({field: "30"})).is_err(), "a text is no number");
    }
}

#[test]
fn granites_multipliers_are_read() {
    let config = with("granite", json!({})).unwrap();
    assert_eq!((config.embedding_scale, config.logit_scale), (Some(3.0), Some(1.0 / 1.7)));
    assert!(config.layers.iter().all(|layer| layer.residual_scale == Some(0.6) && layer.attention.scale == 0.7));
}

/// As `GraniteConfig` of transformers 5 fills them in.
#[test]
fn what_a_granite_config_leaves_out_is_what_transformers_takes() {
    let left_out = json!({
        "rms_norm_eps": null, "tie_word_embeddings": null, "rope_parameters": null, "hidden_act": null,
        "embedding_multiplier": null, "residual_multiplier": null, "attention_multiplier": null,
        "logits_scaling": null, "num_key_value_heads": null,
    });
    let config = with("granite", left_out).unwrap();
    let layer = &config.layers[0];
    assert_eq!((config.embedding_scale, layer.residual_scale, config.logit_scale), (None, None, None));
    // Not the root of a head's width, which the multiplier replaces.
    assert_eq!(layer.attention.scale, 1.0);
    assert_eq!((layer.attention.kv_heads, layer.mlp.activation), (4, Activation::Silu));
    assert_eq!((config.final_norm.epsilon, config.tied()), (1e-6, false));
    assert_eq!(layer.attention.rope.unwrap().theta, 1e4);
}

#[test]
fn a_multiplier_that_is_not_above_0_is_refused() {
    for field in ["embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"] {
        for value in [json!(0), json!(-1.0)] {
            let message = with("granite", json!({field: value})).unwrap_err().to_string();
            assert!(message.contains(&format!("`{field}` is")) && message.contains("must be above 0"), "{message}");
        }
        let message = null("granite", field).unwrap_err().to_string();
        assert!(message.contains(&format!("`{field}` is null")), "{message}");
    }
}

#[test]
fn gemma2_and_granite_read_the_older_fields_of_rope() {
    for name in ["gemma2", "granite"] {
        let older =
            json!({"rope_parameters": null, "rope_theta": 5e4, "rope_scaling": {"type": "linear", "factor": 2.0}});
        let config = with(name, older).unwrap();
        for layer in &config.layers {
            let rope = layer.attention.rope.unwrap();
            assert_eq!((rope.theta, rope.scaling), (5e4, RopeScaling::Linear { factor: 2.0 }), "{name}");
        }
    }
}

/// As `LlamaConfig`, `Qwen2Config` and `GPT2Config` of transformers 5 fill them in.
#[test]
fn what_other_configs_leave_out_is_what_transformers_takes() {
    for name in ["llama", "qwen2"] {
        let config = with(name, json!({"rms_norm_eps": null, "rope_parameters": null, "rope_theta": null})).unwrap();
        assert_eq!((config.final_norm.epsilon, config.layers[0].attention.rope.unwrap().theta), (1e-6, 1e4), "{name}");
    }
    let config = with("gpt2", json!({"layer_norm_epsilon": null, "activation_function": null})).unwrap();
    assert_eq!((config.final_norm.epsilon, config.layers[0].mlp.activation), (1e-5, Activation::GeluTanh));
}

/// As `MistralConfig`, `Qwen3Config`, `Phi3Config`, `Olmo2Config`, `GPTNeoXConfig` and `SmolLM3Config` of transformers 5 do.
#[test]
fn what_the_newer_families_configs_leave_out_is_what_transformers_takes() {
    let rope_is_default = json!({"rope_parameters": null, "rms_norm_eps": null, "layer_norm_eps": null});
    for (name, epsilon, theta, width, tied) in [
        ("mistral", 1e-6, 1e4, 12, false),
        ("qwen3", 1e-6, 1e4, 16, false),
        ("phi3", 1e-5, 1e4, 8, false),
        ("olmo2", 1e-5, 1e4, 8, false),
        ("gpt_neox", 1e-5, 1e4, 2, false),
        ("smollm3", 1e-6, 2e6, 8, true),
    ] {
        let mut fields = rope_is_default.clone();
        fields["tie_word_embeddings"] = json!(null);
        let config = with(name, fields).unwrap();
        let rope = config.layers[0].attention.rope.unwrap();
        assert_eq!((config.final_norm.epsilon, rope.theta, rope.width), (epsilon, theta, width), "{name}");
        assert_eq!(config.tied(), tied, "{name}");
    }
    let first = |name, fields| with(name, fields).unwrap().layers.swap_remove(0).attention;
    assert_eq!(first("mistral", json!({"num_attention_heads": 16, "num_key_value_heads": null})).kv_heads, 8);
    assert_eq!(first("smollm3", json!({"num_key_value_heads": null})).kv_heads, 4);
    assert_eq!(first("olmo2", json!({"num_key_value_heads": null})).kv_heads, 4);
    assert_eq!(first("qwen3", json!({"head_dim": null})).head_dim, 128);
    assert!(first("gpt_neox", json!({"attention_bias": null})).output.bias.is_some());
    assert!(first("gpt_neox", json!({"attention_bias": false})).output.bias.is_none());
    assert!(first("smollm3", json!({"no_rope_layers": null, "no_rope_layer_interval": null})).rope.is_some());
}

/// A field set to `null`, which says something else than one that is left out.
fn null(name: &str, field: &str) -> Result<DecoderConfig, ConfigError> {
    let text = std::fs::read(case(name).join("config.json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    json[field] = json!(null);
    model::parse_config(Path::new("config.json"), json.to_string().as_bytes())
}

fn with_null(name: &str, field: &str) -> DecoderConfig {
    null(name, field).unwrap()
}

#[test]
fn a_window_of_null_is_none_and_one_left_out_is_the_familys() {
    let windows = |config: DecoderConfig| config.layers.iter().map(|layer| layer.attention.window).collect::<Vec<_>>();
    assert_eq!(windows(with("mistral", json!({})).unwrap()), [Some(4); 4]);
    assert_eq!(windows(with("mistral", json!({"sliding_window": null})).unwrap()), [Some(4096); 4]);
    assert_eq!(windows(with_null("mistral", "sliding_window")), [None; 4]);
    assert_eq!(windows(with("phi3", json!({"sliding_window": null})).unwrap()), [None; 4]);
    assert_eq!(windows(with("phi3", json!({})).unwrap()), [Some(5); 4]);
    let upper = [None, None, Some(4), Some(4)];
    assert_eq!(windows(with("qwen3", json!({})).unwrap()), upper);
    assert_eq!(windows(with("qwen3", json!({"layer_types": null})).unwrap()), upper);
    let unused = json!({"layer_types": null, "use_sliding_window": false});
    assert_eq!(windows(with("qwen3", unused).unwrap()), [None; 4]);
    let without_rope = json!({"layer_types": null, "use_sliding_window": true, "sliding_window": 3});
    assert_eq!(windows(with("smollm3", without_rope).unwrap()), [None, Some(3), None, Some(3)]);
}

#[test]
fn key_value_heads_of_null_are_as_many_as_attention_heads() {
    assert_eq!(with_null("smollm3", "num_key_value_heads").layers[0].attention.kv_heads, 4);
    assert_eq!(with_null("mistral", "num_key_value_heads").layers[0].attention.kv_heads, 4);
}

#[test]
fn smollm3s_layers_without_a_rotary_embedding() {
    let turns = |fields| -> Vec<bool> {
        with("smollm3", fields).unwrap().layers.iter().map(|layer| layer.attention.rope.is_some()).collect()
    };
    assert_eq!(turns(json!({})), [true, false, true, false]);
    assert_eq!(turns(json!({"no_rope_layers": [0, 1, 1, 0, 1]})), [false, true, true, false]);
    assert_eq!(turns(json!({"no_rope_layers": null})), [true, false, true, false]);
    assert_eq!(turns(json!({"no_rope_layers": null, "no_rope_layer_interval": null})), [true, true, true, false]);
}

#[test]
fn how_families_lay_out_a_layer() {
    let first = |name, fields| with(name, fields).unwrap().layers.swap_remove(0);
    let neox = first("gpt_neox", json!({}));
    assert!(matches!(&neox.attention.projection, ProjectionSpec::Interleaved(all) if all.outputs == 96));
    assert_eq!(neox.residual, Residual::Parallel);
    assert_eq!(first("gpt_neox", json!({"use_parallel_residual": false})).residual, Residual::Sequential);
    let phi = first("phi3", json!({"use_parallel_residual": true}));
    assert!(matches!(&phi.attention.projection, ProjectionSpec::Fused(all) if all.outputs == 64));
    assert!(matches!(&phi.mlp.projection, MlpProjectionSpec::FusedGated(both) if both.outputs == 128));
    assert_eq!(phi.residual, Residual::Sequential);
    let olmo = first("olmo2", json!({}));
    assert_eq!((&olmo.attention_norm, &olmo.mlp_norm), (&None, &None));
    let widths = |norms: [&Option<NormSpec>; 2]| norms.map(|norm| norm.as_ref().map_or(0, NormSpec::width));
    assert_eq!(widths([&olmo.attention.query_norm, &olmo.attention.key_norm]), [32, 16]);
    let qwen = first("qwen3", json!({}));
    assert_eq!(widths([&qwen.attention.query_norm, &qwen.attention.key_norm]), [16, 16]);
}

#[test]
fn older_spellings_of_a_partial_rotary_embedding() {
    let rope = |name, fields| with(name, fields).unwrap().layers[0].attention.rope.unwrap();
    // As Pythia's configs have it.
    let pythia = rope("gpt_neox", json!({"rope_parameters": null, "rotary_pct": 0.75, "rotary_emb_base": 500}));
    assert_eq!((pythia.width, pythia.theta), (6, 500.0));
    let phi = rope("phi3", json!({"rope_parameters": null, "partial_rotary_factor": 0.75, "rope_theta": 50.0}));
    assert_eq!((phi.width, phi.theta), (6, 50.0));
    for share in [0.0, 0.2, 0.4, 1.5] {
        let message = with("phi3", json!({"rope_parameters": null, "partial_rotary_factor": share})).unwrap_err();
        assert!(message.to_string().contains("`partial_rotary_factor`"), "{message}");
    }
}

#[test]
fn rope_parameters_that_lack_the_layers_kind_are_refused_by_name() {
    let one = |kind: &str| json!({"rope_parameters": {kind: {"rope_type": "default", "rope_theta": 1e4}}});
    let message = |fields| with("gemma3", fields).unwrap_err().to_string();
    assert!(message(one("full_attention")).contains("`rope_parameters.sliding_attention` is missing"));
    assert!(message(one("sliding_attention")).contains("`rope_parameters.full_attention` is missing"));
    let flat = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}});
    assert!(message(flat).contains("`rope_parameters.sliding_attention` is missing"));
}

#[test]
fn a_config_that_is_too_large_is_not_read() {
    let folder = copy("llama");
    std::fs::File::create(folder.path().join("config.json")).unwrap().set_len((1 << 24) + 1).unwrap();
    assert!(refused(&folder).contains("are more than the"));
}

#[test]
fn an_index_that_is_too_large_is_not_read() {
    let folder = copy("llama-sharded");
    std::fs::File::create(folder.path().join(INDEX_FILE)).unwrap().set_len((1 << 28) + 1).unwrap();
    assert!(refused(&folder).contains("are more than the"));
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let folder = copy("llama-sharded");
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    std::fs::copy(folder.path().join(one), folder.path().join(two)).unwrap();
    let message = refused(&folder);
    assert!(message.contains(two) && message.contains(&format!("which {one} holds too")), "{message}");
}

#[test]
fn a_tensor_in_another_shard_than_the_index_says_is_refused() {
    let folder = copy("llama-sharded");
    edit(&folder, INDEX_FILE, |index| {
        let shards: Vec<serde_json::Value> = index["weight_map"].as_object().unwrap().values().cloned().collect();
        let real = index["weight_map"]["model.norm.weight"].clone();
        index["weight_map"]["model.norm.weight"] = shards.into_iter().find(|shard| *shard != real).unwrap();
    });
    let message = refused(&folder);
    assert!(message.contains("says that tensor `model.norm.weight` is in"), "{message}");
}

#[test]
fn the_tokenizers_identity_is_also_that_of_the_chat_template() {
    let folder = copy("llama");
    let tokenizer = || ModelFolder::open(folder.path()).unwrap().identity().unwrap().tokenizer;
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    let _ = std::fs::remove_file(folder.path().join("tokenizer_config.json"));
    write("tokenizer.json", "{}");
    let alone = tokenizer();
    assert_eq!(alone, Some(Digest::of(b"{}")));
    write("tokenizer_config.json", r#"{"chat_template": "a"}"#);
    let in_config = tokenizer();
    assert_ne!(in_config, alone);
    write("chat_template.jinja", "a");
    assert_eq!(tokenizer(), in_config, "where the template lies does not count");
    write("chat_template.jinja", "b");
    assert_ne!(tokenizer(), in_config);
}

#[test]
fn examples_are_never_longer_than_the_models_positions() {
    let model = ModelFolder::open(&case("llama")).unwrap();
    let positions = model.config.max_positions;
    let rows = tempfile::NamedTempFile::new().unwrap();
    let ids = vec![1; positions + 5];
    std::fs::write(rows.path(), json!({"input_ids": ids, "labels": ids}).to_string()).unwrap();
    let encoder = Encoder::new(&model.path);
    let read = |max_length| {
        data::read_examples(&model.config, &encoder, rows.path(), &RowSettings::up_to(max_length)).unwrap()
    };
    let all = read(usize::MAX);
    assert_eq!((all.max_length, all.truncated, all.examples[0].tokens.len()), (positions, vec![1], positions));
    assert_eq!(read(3).max_length, 3);
}

proptest! {
    #[test]
    fn no_changed_byte_of_a_config_panics(name in prop::sample::select(cases()), changes in corrupt::byte_changes()) {
        let text = std::fs::read(case(name).join("config.json")).unwrap();
        let _ = model::parse_config(Path::new("config.json"), &corrupt::bytes(&text, &changes));
    }

    #[test]
    fn no_changed_value_of_a_config_panics(name in prop::sample::select(cases()), changes in corrupt::value_changes()) {
        let text = std::fs::read(case(name).join("config.json")).unwrap();
        let json = corrupt::values(serde_json::from_slice(&text).unwrap(), &changes);
        if let Ok(config) = model::parse_config(Path::new("config.json"), json.to_string().as_bytes()) {
            // What is read can be computed with: no size of it is 0, no sum of it overflows.
            prop_assert!(config.tensors().iter().all(|tensor| tensor.elements() > 0));
            prop_assert!(config.layers.iter().filter_map(|layer| layer.attention.rope).all(|rope| rope.width > 0));
            let step = StepShape { rows: 1, tokens_per_row: 8.0, targets_per_row: 1.0 };
            prop_assert_eq!(CostTable::new(&config, step).frost_lines.len(), config.layers.len());
        }
    }

    #[test]
    fn no_changed_byte_of_weights_panics(changes in corrupt::byte_changes(), header_only: bool) {
        let bytes = std::fs::read(case("llama").join(SINGLE_FILE)).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let corrupted = if header_only {
            [corrupt::bytes(&bytes[..header], &changes), bytes[header..].to_vec()].concat()
        } else {
            corrupt::bytes(&bytes, &changes)
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SINGLE_FILE), corrupted).unwrap();
        let _ = Weights::open(folder.path()).map(|weights| weights.digest());
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
