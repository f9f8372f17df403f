//! Whole models against candle-transformers', written by others on the same tensors, beside PyTorch's numbers.
//!
//! It has no GPT-2 and no GPT-NeoX, and its Granite knows no multipliers. Of windows its Mistral and its Gemma 3 alone compute
//! what transformers does: rows of other families with windows are compared as far as their windows reach. Its Gemmas scale
//! scores by the width of a head whatever `config.json` says, so that their queries are scaled beforehand.

mod common;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{gemma2, gemma3, llama, mistral, olmo2, phi3, qwen2, qwen3, smol::smollm3};
use common::{Case, largest_difference};
use frostline_runtime::model::Scope;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// As near as PyTorch's own results in f32 lie to those in f64.
const LOGITS: f32 = 2e-5;

/// Logits at the last of some tokens: [1, tokens] to any shape of [vocabulary] elements.
type Forward = Box<dyn FnMut(&Tensor) -> Result<Tensor>>;

/// Builds candle-transformers' model from `config.json` and the weights.
type Build = fn(Value, VarBuilder) -> Result<Forward>;

/// What is built as `Model::new(&config, weights)` and remembers keys and values until told to forget them.
macro_rules! model {
    ($family:ident :: $model:ident) => {
        |config, weights| {
            let mut model = $family::$model::new(&from(config), weights)?;
            Ok(Box::new(move |tokens| {
                model.clear_kv_cache();
                model.forward(tokens, 0)
            }))
        }
    };
}

const ALL: usize = usize::MAX;

/// Cases, and the number of tokens of a row up to which candle-transformers computes the same function.
const REFERENCES: [(&str, usize, Build); 10] = [
    ("llama", ALL, llama),
    ("llama-tied", ALL, llama),
    ("qwen2", ALL, model!(qwen2::ModelForCausalLM)),
    ("mistral", ALL, model!(mistral::Model)),
    ("olmo2", ALL, model!(olmo2::Model)),
    ("smollm3", ALL, model!(smollm3::ModelForCausalLM)),
    ("qwen3", 4, model!(qwen3::ModelForCausalLM)),
    ("phi3", 5, model!(phi3::Model)),
    ("gemma2", 4, gemma2),
    ("gemma3", ALL, gemma3),
];

fn llama(config: Value, weights: VarBuilder) -> Result<Forward> {
    let device = weights.device().clone();
    let config = from::<llama::LlamaConfig>(config).into_config(false);
    let model = llama::Llama::load(weights, &config)?;
    Ok(Box::new(move |tokens| model.forward(tokens, 0, &mut llama::Cache::new(false, DType::F32, &config, &device)?)))
}

fn gemma2(config: Value, weights: VarBuilder) -> Result<Forward> {
    let mut model = gemma2::Model::new(false, &from(config), weights)?;
    Ok(Box::new(move |tokens| {
        model.clear_kv_cache();
        model.forward(tokens, 0)
    }))
}

/// Token by token: its cache forgets what is out of the window, and takes no more than one token at once on a CPU.
fn gemma3(config: Value, weights: VarBuilder) -> Result<Forward> {
    let mut model = gemma3::Model::new(false, &from(config), weights)?;
    Ok(Box::new(move |tokens| {
        model.clear_kv_cache();
        let length = tokens.dim(1)?;
        let mut logits = model.forward(&tokens.narrow(1, 0, 1)?, 0)?;
        for position in 1..length {
            logits = model.forward(&tokens.narrow(1, position, 1)?, position)?;
        }
        Ok(logits)
    }))
}

fn from<Config: DeserializeOwned>(config: Value) -> Config {
    serde_json::from_value(config).unwrap()
}

#[test]
fn logits_are_those_of_candle_transformers_and_of_pytorch() {
    for (name, longest, build) in REFERENCES {
        let case = Case::open(name);
        let mut reference = build(settings(&case), weights(&case)).unwrap();
        let ours = case.model(Scope::everything(&case.config)).logits(&case.batch()).unwrap();
        let mut start = 0;
        for (row, example) in case.examples().iter().enumerate() {
            for length in 1..=example.tokens.len().min(longest) {
                let tokens = Tensor::new(&example.tokens[..length], ours.device()).unwrap().unsqueeze(0).unwrap();
                let theirs = reference(&tokens).unwrap().flatten_all().unwrap();
                let pytorch = case.expected["logits"].get(row).unwrap().get(length - 1).unwrap();
                let ours = ours.get(start + length - 1).unwrap();
                for (other, logits) in [("ours", &ours), ("PyTorch's", &pytorch)] {
                    let difference = largest_difference(logits, &theirs);
                    assert!(difference < LOGITS, "{name} row {row} after {length} tokens: {difference:e} from {other}");
                }
            }
            start += example.tokens.len();
        }
    }
}

fn weights(case: &Case) -> VarBuilder<'static> {
    let device: Device = common::device();
    let mut tensors = candle_core::safetensors::load(case.folder.join("model.safetensors"), &device).unwrap();
    let attention = &case.config.layers[0].attention;
    let scale = attention.scale * (attention.head_dim as f64).sqrt();
    for (name, tensor) in &mut tensors {
        *tensor = match case.name.as_str() {
            "gemma2" if name.ends_with("q_proj.weight") => (&*tensor * scale).unwrap(),
            // Counted from one: (1 + weight) · scale.
            "gemma3" if name.ends_with("q_norm.weight") => tensor.affine(scale, scale - 1.0).unwrap(),
            _ => continue,
        };
    }
    VarBuilder::from_tensors(tensors, DType::F32, &device)
}

/// A case's `config.json` with the names that older releases of transformers wrote, which candle-transformers reads.
fn settings(case: &Case) -> Value {
    let text = std::fs::read_to_string(case.folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let rope = config["rope_parameters"].take();
    let base = |kind: &str| rope.get(kind).map_or(&rope, |of_kind| of_kind)["rope_theta"].clone();
    config["rope_theta"] = base("full_attention");
    config["rope_local_base_freq"] = base("sliding_attention");
    config["partial_rotary_factor"] = rope["partial_rotary_factor"].clone();
    config["sliding_window_pattern"] = 2.into();
    match case.name.as_str() {
        // Wanted, and not read.
        "qwen2" => config["sliding_window"] = 32.into(),
        "qwen3" => config["use_sliding_window"] = false.into(),
        // candle-transformers counts the keys before a query, transformers the query's own as well.
        "mistral" => config["sliding_window"] = (config["sliding_window"].as_u64().unwrap() - 1).into(),
        _ => {}
    }
    config
}
