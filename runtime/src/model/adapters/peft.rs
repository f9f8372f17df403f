//! Adapters as Hugging Face's PEFT keeps them: the names of their tensors, and the file that says what they are.

use std::path::Path;

use frostline_schemas::model::LinearLayout;
use frostline_schemas::run::Lora;
use serde_json::{Value as Json, json};

use crate::model::adapters::{self, Adapter};
use crate::model::scope::Scope;

/// The names of A and B beside a module of the model.
pub fn tensor_names(module: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("base_model.model.{module}.{part}.weight"))
}

/// `adapter_config.json`. Modules are named in full, as the same last part may stand in layers without an adapter.
pub fn config(scope: &Scope, lora: &Lora, base_model: &Path) -> Json {
    let inputs_first = |adapter: &Adapter| adapter.linear().layout == LinearLayout::InputsFirst;
    let modules: Vec<&str> = scope.adapters().map(|adapter| adapters::module(adapter.linear())).collect();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "revision": null,
        "inference_mode": true,
        "r": lora.rank,
        "lora_alpha": number(lora.alpha),
        "lora_dropout": 0.0,
        "target_modules": modules,
        "fan_in_fan_out": scope.adapters().any(inputs_first),
        "bias": "none",
        "init_lora_weights": true,
        "use_rslora": false,
        "use_dora": false,
    })
}

/// A whole number without a decimal point, as PEFT writes it.
fn number(x: f64) -> Json {
    if x.fract() == 0.0 && x.abs() < 2f64.powi(53) { json!(x as i64) } else { json!(x) }
}
