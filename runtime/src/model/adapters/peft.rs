//! The file in which Hugging Face's PEFT says what adapters are.

use std::path::Path;

use frostline_schemas::model::LinearLayout;
use frostline_schemas::run::Lora;
use serde_json::{Value as Json, json};

use super::spec::{self, Adapter};

/// `adapter_config.json`. Modules are named in full, as the same last part may stand in layers without an adapter.
pub(crate) fn config(adapters: &[&Adapter], lora: &Lora, base_model: &Path) -> Json {
    let inputs_first = |adapter: &&Adapter| adapter.linear().layout == LinearLayout::InputsFirst;
    let modules: Vec<&str> = adapters.iter().map(|adapter| spec::module(adapter.linear())).collect();
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
        "fan_in_fan_out": adapters.iter().any(inputs_first),
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
