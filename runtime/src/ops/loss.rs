//! The LM head and cross-entropy, at targets only and in chunks, so that logits never stand in memory for all of them.

use candle_core::{D, DType, Result, Tensor};

use super::cpu;

/// The largest block of logits kept at a time, in elements (64 MiB of f32).
const MAX_LOGITS: usize = 1 << 24;

/// What came of a set of targets.
#[derive(Debug)]
pub struct Outcome {
    /// Sum over targets of −ln p(target), in nats.
    pub loss: f64,
    /// Gradient of the hidden states, [targets, hidden].
    pub hidden: Tensor,
    /// Gradient of the head, [vocabulary, hidden], where it was wanted.
    pub head: Option<Tensor>,
}

/// Loss and gradients of `scale · Σ −ln softmax(h Wᵀ)[target]`, forward and backward in one pass.
///
/// `hidden` is [targets, hidden] (after the final norm), `head` [vocabulary, hidden]. The gradient of the logits is
/// `scale · (softmax − onehot)`; `loss` itself is not scaled. A frozen head's gradient is not computed.
pub fn cross_entropy(hidden: &Tensor, head: &Tensor, targets: &[u32], scale: f64, wants_head: bool) -> Result<Outcome> {
    let mut outcome = Outcome { loss: 0.0, hidden: hidden.clone(), head: None };
    let mut parts = Vec::new();
    for (start, chunk) in chunks(targets, head.dim(0)?) {
        let states = hidden.narrow(0, start, chunk.len())?;
        let logits = states.matmul(&head.t()?)?;
        let (losses, gradient) = softmax_minus_onehot(logits, chunk, scale)?;
        outcome.loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        parts.push(gradient.matmul(head)?);
        if wants_head {
            let part = gradient.t()?.matmul(&states)?;
            outcome.head = Some(match outcome.head.take() {
                Some(sum) => super::residual::add(&sum, &part)?,
                None => part,
            });
        }
    }
    outcome.hidden = if parts.is_empty() { hidden.zeros_like()? } else { Tensor::cat(&parts, 0)? };
    Ok(outcome)
}

/// `ln softmax(h Wᵀ)[target]` of each target, in nats; shapes as for [`cross_entropy`].
pub fn log_probabilities(hidden: &Tensor, head: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let mut all = Vec::with_capacity(targets.len());
    for (start, chunk) in chunks(targets, head.dim(0)?) {
        let logits = hidden.narrow(0, start, chunk.len())?.matmul(&head.t()?)?;
        let losses =
            if logits.device().is_cpu() { cpu::cross_entropy(&logits, chunk)? } else { losses(&logits, chunk)? };
        all.extend(losses.iter().map(|loss| -loss));
    }
    Ok(all)
}

/// Runs of targets whose logits fit into [`MAX_LOGITS`], with the place of each run.
fn chunks(targets: &[u32], vocabulary: usize) -> impl Iterator<Item = (usize, &[u32])> {
    let size = (MAX_LOGITS / vocabulary.max(1)).max(1);
    targets.chunks(size).enumerate().map(move |(k, chunk)| (k * size, chunk))
}

/// Losses, and the gradient of logits [targets, vocabulary].
fn softmax_minus_onehot(logits: Tensor, targets: &[u32], scale: f64) -> Result<(Vec<f32>, Tensor)> {
    if logits.device().is_cpu() {
        return cpu::softmax_minus_onehot(logits, targets, scale as f32);
    }
    composed(&logits, targets, scale)
}

fn composed(logits: &Tensor, targets: &[u32], scale: f64) -> Result<(Vec<f32>, Tensor)> {
    let losses = losses(logits, targets)?;
    let softmax = (candle_nn::ops::softmax_last_dim(logits)? * scale)?;
    let minus = Tensor::full(-scale as f32, (targets.len(), 1), logits.device())?;
    Ok((losses, softmax.scatter_add(&indices(targets, logits)?, &minus, 1)?))
}

/// −ln softmax(logits)[target], with candle's operations.
fn losses(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let logits = logits.to_dtype(DType::F32)?;
    let max = logits.max_keepdim(D::Minus1)?;
    let total = (logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + max)?;
    (total - logits.gather(&indices(targets, &logits)?, 1)?)?.flatten_all()?.to_vec1()
}

/// Targets as [targets, 1] indices.
fn indices(targets: &[u32], beside: &Tensor) -> Result<Tensor> {
    Tensor::from_slice(targets, (targets.len(), 1), beside.device())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn both_spellings_agree() {
        let logits = (random(&[3, 1001], 1) * 5.0).unwrap();
        let targets = [1000, 0, 7];
        let (expected, gradient) = composed(&logits, &targets, 0.5).unwrap();
        let forward_only = cpu::cross_entropy(&logits, &targets).unwrap();
        let (losses, ours) = softmax_minus_onehot(logits, &targets, 0.5).unwrap();
        close(&ours, &gradient);
        for ((a, b), c) in losses.iter().zip(&expected).zip(&forward_only) {
            assert!((a - b).abs() < 1e-4 && (a - c).abs() < 1e-5, "{a} {b} {c}");
        }
    }
}
