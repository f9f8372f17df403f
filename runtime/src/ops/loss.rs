//! The LM head and cross-entropy, at targets only and in pieces, so that logits never stand in memory for all of them.

use candle_core::{D, DType, Error, Result, Tensor};

use super::cpu::{self, loss::States};
use super::matrix::{Matrix, WriteMode};

/// The largest block of logits kept at a time where there is no kernel, in elements (64 MiB of f32).
const MAX_LOGITS: usize = 1 << 24;

/// Loss, and the gradient of the hidden states.
#[derive(Debug)]
pub struct Outcome {
    /// Sum over targets of −ln p(target), in nats.
    pub loss: f64,
    /// Gradient of the hidden states, [targets, hidden].
    pub hidden: Tensor,
}

/// Where a trained head's gradient goes: a tensor [vocabulary, hidden] that nobody else holds.
pub type HeadGradient<'a> = Option<(&'a Tensor, WriteMode)>;

/// Loss and gradients of `scale · Σ −ln softmax(h Wᵀ)[target]`, forward and backward in one pass.
///
/// `hidden` is [targets, hidden] (after the final norm), `head` [vocabulary, hidden]. The gradient of the logits is
/// `scale · (softmax − onehot)`; `loss` itself is not scaled. A frozen head's gradient is not computed.
pub fn cross_entropy(
    hidden: &Tensor,
    head: &Matrix,
    targets: &[u32],
    scale: f64,
    head_gradient: HeadGradient,
) -> Result<Outcome> {
    if !cpu::has_kernels_for(hidden) {
        return reference(hidden, on_device(head)?, targets, scale);
    }
    let (count, width) = hidden.dims2()?;
    let scale = scale as f32;
    let (losses, gradient) = cpu::with_slices([hidden], |[hidden]| {
        let states = States::new(hidden, width);
        head.with(|head| match head_gradient {
            None => cpu::loss::cross_entropy(states, head, targets, scale, None),
            Some((tensor, into)) => cpu::in_place(tensor, |gradient| {
                cpu::loss::cross_entropy(states, head, targets, scale, Some((gradient, into)))
            })?,
        })
    })??;
    let loss = losses.iter().map(|&loss| f64::from(loss)).sum();
    Ok(Outcome { loss, hidden: Tensor::from_vec(gradient, (count, width), hidden.device())? })
}

/// The gradient of a trained head as a tensor of its own, on any device.
pub fn reference_head_gradient(hidden: &Tensor, head: &Tensor, targets: &[u32], scale: f64) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (start, chunk) in chunks(targets, head.dim(0)?) {
        let states = hidden.narrow(0, start, chunk.len())?;
        let (_, gradient) = softmax_minus_onehot(&states.matmul(&head.t()?)?, chunk, scale)?;
        let part = gradient.to_dtype(hidden.dtype())?.t()?.matmul(&states)?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    sum.map_or_else(|| head.zeros_like(), Ok)
}

/// `ln softmax(h Wᵀ)[token]`, in nats, of each pair of a state (a row of `hidden`) and a token.
pub fn log_probabilities(hidden: &Tensor, head: &Matrix, pairs: &[(u32, u32)]) -> Result<Vec<f32>> {
    if !cpu::has_kernels_for(hidden) {
        return reference_log_probabilities(hidden, on_device(head)?, pairs);
    }
    let width = hidden.dim(1)?;
    let losses = cpu::with_slices([hidden], |[hidden]| {
        head.with(|head| cpu::loss::losses(States::new(hidden, width), head, pairs))
    })??;
    Ok(losses.into_iter().map(|loss| -loss).collect())
}

fn on_device<'a>(head: &Matrix<'a>) -> Result<&'a Tensor> {
    match head {
        Matrix::Tensor(head) => Ok(head),
        Matrix::Mapped(_) => Err(Error::Msg("a mapped head on a device that cannot read it".into())),
    }
}

fn reference(hidden: &Tensor, head: &Tensor, targets: &[u32], scale: f64) -> Result<Outcome> {
    let (mut loss, mut parts) = (0.0, Vec::new());
    for (start, chunk) in chunks(targets, head.dim(0)?) {
        let logits = hidden.narrow(0, start, chunk.len())?.matmul(&head.t()?)?;
        let (losses, gradient) = softmax_minus_onehot(&logits, chunk, scale)?;
        loss += losses.iter().map(|&loss| f64::from(loss)).sum::<f64>();
        parts.push(gradient.to_dtype(hidden.dtype())?.matmul(head)?);
    }
    let hidden = if parts.is_empty() { hidden.zeros_like()? } else { Tensor::cat(&parts, 0)? };
    Ok(Outcome { loss, hidden })
}

fn reference_log_probabilities(hidden: &Tensor, head: &Tensor, pairs: &[(u32, u32)]) -> Result<Vec<f32>> {
    let (states, tokens): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
    let mut all = Vec::with_capacity(pairs.len());
    for (start, chunk) in chunks(&tokens, head.dim(0)?) {
        let rows = Tensor::from_slice(&states[start..start + chunk.len()], chunk.len(), hidden.device())?;
        let logits = hidden.index_select(&rows, 0)?.matmul(&head.t()?)?;
        all.extend(losses(&logits.to_dtype(DType::F32)?, chunk)?.iter().map(|loss| -loss));
    }
    Ok(all)
}

/// Runs of targets whose logits fit into [`MAX_LOGITS`], with the place of each run.
fn chunks(targets: &[u32], vocabulary: usize) -> impl Iterator<Item = (usize, &[u32])> {
    let size = (MAX_LOGITS / vocabulary.max(1)).max(1);
    targets.chunks(size).enumerate().map(move |(k, chunk)| (k * size, chunk))
}

/// Losses, and the gradient of logits [targets, vocabulary], in f32.
fn softmax_minus_onehot(logits: &Tensor, targets: &[u32], scale: f64) -> Result<(Vec<f32>, Tensor)> {
    let logits = logits.to_dtype(DType::F32)?;
    let losses = losses(&logits, targets)?;
    let softmax = (candle_nn::ops::softmax_last_dim(&logits)? * scale)?;
    let minus = Tensor::full(-scale as f32, (targets.len(), 1), logits.device())?;
    Ok((losses, softmax.scatter_add(&indices(targets, &logits)?, &minus, 1)?))
}

/// −ln softmax(logits)[target].
fn losses(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let max = logits.max_keepdim(D::Minus1)?;
    let total = (logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?.log()? + max)?;
    (total - logits.gather(&indices(targets, logits)?, 1)?)?.flatten_all()?.to_vec1()
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
    fn kernels_agree_with_the_reference() {
        let (hidden, head) = ((random(&[3, 20], 1) * 3.0).unwrap(), random(&[1001, 20], 2));
        let targets = [1000, 0, 7];
        let expected = reference(&hidden, &head, &targets, 0.5).unwrap();
        let expected_head = reference_head_gradient(&hidden, &head, &targets, 0.5).unwrap();
        let gradient = random(&[1001, 20], 3);
        let matrix = Matrix::Tensor(&head);
        let ours = cross_entropy(&hidden, &matrix, &targets, 0.5, Some((&gradient, WriteMode::Overwrite))).unwrap();
        close(&ours.hidden, &expected.hidden);
        close(&gradient, &expected_head);
        assert!((ours.loss - expected.loss).abs() < 1e-4, "{} {}", ours.loss, expected.loss);
        let pairs = [(2, 5), (0, 1000), (2, 999)];
        let ours = log_probabilities(&hidden, &matrix, &pairs).unwrap();
        let theirs = reference_log_probabilities(&hidden, &head, &pairs).unwrap();
        ours.iter().zip(&theirs).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
    }
}
