//! Whether an export's attention is what config.json describes, as far as weights do not tell.

use std::collections::HashSet;

use frostline_schemas::model::{AttentionSpec, DecoderConfig, LayerSpec, ModelFolder};

use crate::error::{Error, Result};
use crate::onnx::GraphIndex;
use crate::onnx::node::float;
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;
use crate::rewrite::lower::attention::FusedAttention;

/// Refuses attention that is not config.json's, for rows of up to `longest` tokens. Exporters are known to drop windows
/// and caps.
pub(super) fn check(
    export: &Export,
    index: &GraphIndex,
    spaces: &LatentSpaces,
    folder: &ModelFolder,
    longest: usize,
) -> Result<()> {
    check_fused(export, index, spaces, folder, longest)?;
    match uncapped(index, spaces, &folder.config) {
        Some(place) => {
            let reason = format!(
                "attention in {place} does not cap scores, as config.json says (the exporter has dropped the cap; \
                 export with eager attention)"
            );
            Err(Error::OtherModel { path: export.model.path().into(), folder: folder.path.clone(), reason })
        }
        None => Ok(()),
    }
}

/// Where attention does not cap its scores although config.json says so.
fn uncapped(index: &GraphIndex, spaces: &LatentSpaces, config: &DecoderConfig) -> Option<String> {
    let caps = |spec: &LayerSpec| spec.attention.softcap.is_some();
    if spaces.layers.is_empty() {
        // Where the spaces were named by hand, layers cannot be told apart, but such a model caps scores in all of them.
        let all = config.layers.iter().all(caps);
        let found = all && (0..index.graph.node.len()).any(|id| is_uncapped_attention(index, id));
        return found.then(|| "a layer".into());
    }
    let uncapped = config
        .layers
        .iter()
        .zip(&spaces.layers)
        .position(|(spec, layer)| caps(spec) && layer.nodes.iter().any(|&id| is_uncapped_attention(index, id)));
    uncapped.map(|layer| format!("its layer {}", layer + 1))
}

/// Whether a node is attention without a cap: the standard's own operator, or a softmax of products that no `Tanh` has
/// capped.
fn is_uncapped_attention(index: &GraphIndex, id: usize) -> bool {
    match index.node(id).op_type.as_str() {
        "Attention" => return float(index.node(id), "softcap", 0.0) == 0.0,
        "Softmax" => {}
        _ => return false,
    }
    let (mut seen, mut open) = (HashSet::from([id]), vec![id]);
    while let Some(id) = open.pop() {
        for producer in index.reads(id).iter().filter_map(|name| index.producer(name)) {
            match index.node(producer).op_type.as_str() {
                "Tanh" => return false,
                "MatMul" | "Einsum" => {}
                _ if seen.insert(producer) => open.push(producer),
                _ => {}
            }
        }
    }
    true
}

fn check_fused(
    export: &Export,
    index: &GraphIndex,
    spaces: &LatentSpaces,
    folder: &ModelFolder,
    longest: usize,
) -> Result<()> {
    let (all, layers) = (&export.attention, &folder.config.layers);
    let path = export.model.path();
    let refuse = |reason| Error::OtherModel { path: path.into(), folder: folder.path.clone(), reason };
    for (number, fused) in all.iter().enumerate() {
        let producer = index.producer(&fused.output);
        let layer = match spaces.layers.is_empty() {
            false => spaces.layers.iter().position(|layer| producer.is_some_and(|id| layer.nodes.contains(&id))),
            // Where the spaces were named by hand, only the order tells.
            true if all.len() == layers.len() => Some(number),
            true => return Err(refuse(format!("it has {} fused attentions for {} layers", all.len(), layers.len()))),
        };
        let Some((layer, spec)) = layer.and_then(|layer| Some((layer, &layers.get(layer)?.attention))) else {
            continue;
        };
        let of_layer = |reason| format!("attention in its layer {} {reason}", layer + 1);
        check_settings(fused, spec).map_err(|reason| refuse(of_layer(reason)))?;
        if let Some((reason, max_length)) = other_window(fused.window, spec.window, longest) {
            let (path, folder) = (path.into(), folder.path.clone());
            return Err(Error::OtherWindow { path, folder, reason: of_layer(reason), max_length });
        }
    }
    Ok(())
}

fn check_settings(fused: &FusedAttention, spec: &AttentionSpec) -> Result<(), String> {
    for (what, found, expected) in
        [("heads", fused.heads, spec.heads), ("key and value heads", fused.kv_heads, spec.kv_heads)]
    {
        if found != expected {
            return Err(format!("has {found} {what}, config.json says {expected}"));
        }
    }
    let scale = fused.scale.map_or((spec.head_dim as f64).sqrt().recip(), f64::from);
    if !is_near(scale, spec.scale) {
        return Err(format!("multiplies scores by {scale}, config.json says {}", spec.scale));
    }
    let softcap = fused.softcap.map(f64::from);
    let same = match (softcap, spec.softcap) {
        (Some(found), Some(expected)) => is_near(found, expected),
        (found, expected) => found == expected,
    };
    if !same {
        let say = |softcap: Option<f64>| softcap.map_or("none".into(), |softcap| softcap.to_string());
        return Err(format!("caps scores at {}, config.json says {}", say(softcap), say(spec.softcap)));
    }
    Ok(())
}

/// Whether a factor is config.json's: builders write it in f32 or to a few digits.
fn is_near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-3 * expected
}

/// What is wrong with a window for rows of up to `longest` tokens, and the largest length for which nothing is.
fn other_window(found: Option<usize>, expected: Option<usize>, longest: usize) -> Option<(String, usize)> {
    let reach = |window: Option<usize>| window.unwrap_or(longest).min(longest);
    if reach(found) == reach(expected) {
        return None;
    }
    let say = |window: Option<usize>| window.map_or("all positions".into(), |window| format!("{window} positions"));
    let cause = match found {
        None => " (the exporter has dropped the window)",
        Some(_) => "",
    };
    let (found_text, expected_text) = (say(found), say(expected));
    let reason =
        format!("sees {found_text}, config.json says {expected_text}, and rows have up to {longest} tokens{cause}");
    Some((reason, expected.unwrap_or(longest).min(found.unwrap_or(longest))))
}
