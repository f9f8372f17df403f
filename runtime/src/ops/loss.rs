//! The LM head and cross-entropy, at targets only and in pieces, so that logits never stand in memory for all of them.

use candle_core::{D, DType, Error, Result, Tensor};

use super::cpu::{self, loss::Head, loss::States};
pub use super::head::{HeadInput, Targets};
use super::matrix::{Matrix, WriteMode};

/// The largest block of logits kept at a time where there is no kernel, in elements (64 MiB of f32).
const MAX_LOGITS: usize = 1 << 24;

/// Loss, and the gradient of the hidden states.
#[derive(Debug)]
pub struct Outcome {
    /// Sum over targets of their weight times −ln p(target), in nats.
    pub loss: f64,
    /// Gradient of the hidden states, [targets, hidden].
    pub hidden: Tensor,
}

/// Where a trained head's gradient goes: a tensor [vocabulary, hidden] that nobody else holds.
pub type HeadGradient<'a> = Option<(&'a Tensor, WriteMode)>;

/// Loss and gradients of `scale · Σ −w ln softmax(logits)[target]` with a weight w for each target, forward and backward
/// in one pass.
///
/// The gradient of a logit a is `scale · w · (softmax − onehot)`, times `1 − (a / cap)²` where it was capped; `loss` itself
/// is not scaled. A frozen head's gradient is not computed.
pub fn cross_entropy(input: HeadInput, targets: Targets, scale: f64, head_gradient: HeadGradient) -> Result<Outcome> {
    if !cpu::has_kernels_for(input.hidden) {
        return reference(input, targets, scale);
    }
    let (count, width) = input.hidden.dims2()?;
    let scale = scale as f32;
    let (losses, gradient) = cpu::with_slices([input.hidden], |[hidden]| {
        let states = States::new(hidden, width);
        input.head.with(|head| match head_gradient {
            None => cpu::loss::cross_entropy(states, Head::new(head, input.softcap), targets, scale, None),
            Some((tensor, mode)) => cpu::in_place(tensor, |gradient| {
                cpu::loss::cross_entropy(states, Head::new(head, input.softcap), targets, scale, Some((gradient, mode)))
            })?,
        })
    })??;
    let weighted = |(k, &loss): (usize, &f32)| f64::from(targets.weight(k) * loss);
    let loss = losses.iter().enumerate().map(weighted).sum();
    Ok(Outcome { loss, hidden: Tensor::from_vec(gradient, (count, width), input.hidden.device())? })
}

/// The gradient of a trained head as a tensor of its own, on any device.
pub fn reference_head_gradient(input: HeadInput, targets: Targets, scale: f64) -> Result<Tensor> {
    let (hidden, head) = (input.hidden, on_device(input.head)?);
    let mut sum: Option<Tensor> = None;
    for (start, chunk) in chunks(targets, head.dim(0)?) {
        let states = hidden.narrow(0, start, chunk.tokens.len())?;
        let (_, gradient) = logit_gradient(&states.matmul(&head.t()?)?, input.softcap, chunk, scale)?;
        let part = gradient.to_dtype(hidden.dtype())?.t()?.matmul(&states)?;
        sum = Some(match sum {
            Some(sum) => (sum + part)?,
            None => part,
        });
    }
    sum.map_or_else(|| head.zeros_like(), Ok)
}

/// `ln softmax(logits)[token]`, in nats, of each pair of a state (a row of `hidden`) and a token.
pub fn log_probabilities(input: HeadInput, pairs: &[(u32, u32)]) -> Result<Vec<f32>> {
    let HeadInput { hidden, head, softcap } = input;
    if !cpu::has_kernels_for(hidden) {
        return reference_log_probabilities(hidden, on_device(head)?, softcap, pairs);
    }
    let width = hidden.dim(1)?;
    let losses = cpu::with_slices([hidden], |[hidden]| {
        head.with(|head| cpu::loss::losses(States::new(hidden, width), Head::new(head, softcap), pairs))
    })??;
    Ok(losses.into_iter().map(|loss| -loss).collect())
}

/// `cap · tanh(z / cap)` of each logit z, where there is a cap.
pub fn capped(logits: &Tensor, softcap: Option<f32>) -> Result<Tensor> {
    match softcap {
        Some(cap) => (logits / f64::from(cap))?.tanh()? * f64::from(cap),
        None => Ok(logits.clone()),
    }
}

fn on_device<'a>(head: &Matrix<'a>) -> Result<&'a Tensor> {
    match head {
        Matrix::Tensor(head) => Ok(head),
        Matrix::Mapped(_) => Err(Error::Msg("a mapped head on a device that cannot read it".into())),
    }
}

fn reference(input: HeadInput, targets: Targets, scale: f64) -> Result<Outcome> {
    let (hidden, head) = (input.hidden, on_device(input.head)?);
    let (mut loss, mut parts) = (0.0, Vec::new());
    for (start, chunk) in chunks(targets, head.dim(0)?) {
        let logits = hidden.narrow(0, start, chunk.tokens.len())?.matmul(&head.t()?)?;
        let (losses, gradient) = logit_gradient(&logits, input.softcap, chunk, scale)?;
        loss += losses.iter().enumerate().map(|(k, &loss)| f64::from(chunk.weight(k) * loss)).sum::<f64>();
        parts.push(gradient.to_dtype(hidden.dtype())?.matmul(head)?);
    }
    let hidden = if parts.is_empty() { hidden.zeros_like()? } else { Tensor::cat(&parts, 0)? };
    Ok(Outcome { loss, hidden })
}

fn reference_log_probabilities(
    hidden: &Tensor,
    head: &Tensor,
    softcap: Option<f32>,
    pairs: &[(u32, u32)],
) -> Result<Vec<f32>> {
    let (states, tokens): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
    let mut all = Vec::with_capacity(pairs.len());
    for (start, chunk) in chunks(Targets { tokens: &tokens, weights: None }, head.dim(0)?) {
        let rows = Tensor::from_slice(&states[start..start + chunk.tokens.len()], chunk.tokens.len(), hidden.device())?;
        let logits = hidden.index_select(&rows, 0)?.matmul(&head.t()?)?;
        let logits = capped(&logits.to_dtype(DType::F32)?, softcap)?;
        all.extend(losses(&logits, chunk.tokens)?.iter().map(|loss| -loss));
    }
    Ok(all)
}

/// Runs of targets whose logits fit into [`MAX_LOGITS`], with the index of each run's first.
fn chunks(targets: Targets<'_>, vocabulary: usize) -> impl Iterator<Item = (usize, Targets<'_>)> {
    let size = (MAX_LOGITS / vocabulary.max(1)).max(1);
    targets.tokens.chunks(size).enumerate().map(move |(k, tokens)| {
        let start = k * size;
        (
            start,
            Targets { tokens, weights: targets.weights.and_then(|weights| weights.get(start..start + tokens.len())) },
        )
    })
}

/// Losses, and the gradient of logits [targets, vocabulary] before their cap, in f32.
fn logit_gradient(logits: &Tensor, softcap: Option<f32>, targets: Targets, scale: f64) -> Result<(Vec<f32>, Tensor)> {
    let logits = capped(&logits.to_dtype(DType::F32)?, softcap)?;
    let losses = losses(&logits, targets.tokens)?;
    let minus = Tensor::full(-1f32, (targets.tokens.len(), 1), logits.device())?;
    let softmax = candle_nn::ops::softmax_last_dim(&logits)?;
    let mut gradient = softmax.scatter_add(&indices(targets.tokens, &logits)?, &minus, 1)?;
    if let Some(cap) = softcap {
        gradient = (gradient * (logits / f64::from(cap))?.sqr()?.affine(-1.0, 1.0)?)?;
    }
    let weights: Vec<f32> = (0..targets.tokens.len()).map(|k| scale as f32 * targets.weight(k)).collect();
    let weights = Tensor::from_vec(weights, (targets.tokens.len(), 1), gradient.device())?;
    Ok((losses, gradient.broadcast_mul(&weights)?))
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

    /// Loss, gradient of the hidden states, gradient of the head.
    fn kernels(input: HeadInput, targets: Targets) -> (f64, Tensor, Tensor) {
        let gradient = random(&[1001, 20], 3);
        let ours = cross_entropy(input, targets, 0.5, Some((&gradient, WriteMode::Overwrite))).unwrap();
        (ours.loss, ours.hidden, gradient)
    }

    #[test]
    fn kernels_agree_with_the_reference() {
        let (hidden, head) = ((random(&[3, 20], 1) * 3.0).unwrap(), random(&[1001, 20], 2));
        let (matrix, tokens) = (Matrix::Tensor(&head), [1000, 0, 7]);
        for softcap in [None, Some(2.5)] {
            let input = HeadInput { hidden: &hidden, head: &matrix, softcap };
            for weights in [None, Some(&[1.0, 0.0, 2.5][..])] {
                let targets = Targets { tokens: &tokens, weights };
                let expected = reference(input, targets, 0.5).unwrap();
                let (loss, dhidden, dhead) = kernels(input, targets);
                close(&dhidden, &expected.hidden);
                close(&dhead, &reference_head_gradient(input, targets, 0.5).unwrap());
                assert!((loss - expected.loss).abs() < 1e-4, "{loss} {}", expected.loss);
            }
            let pairs = [(2, 5), (0, 1000), (2, 999)];
            let ours = log_probabilities(input, &pairs).unwrap();
            let theirs = reference_log_probabilities(&hidden, &head, softcap, &pairs).unwrap();
            ours.iter().zip(&theirs).for_each(|(a, b)| assert!((a - b).abs() < 1e-5, "{a} {b}"));
        }
    }

    /// d loss / d h by central differences, capped and weighted.
    #[test]
    fn gradients_are_those_of_the_loss() {
        let (hidden, head) = ((random(&[2, 4], 1) * 2.0).unwrap(), random(&[9, 4], 2));
        let (matrix, targets) = (Matrix::Tensor(&head), Targets { tokens: &[8, 3], weights: Some(&[0.5, 2.0]) });
        let loss = |hidden: &Tensor| {
            let input = HeadInput { hidden, head: &matrix, softcap: Some(1.5) };
            cross_entropy(input, targets, 1.0, None).unwrap()
        };
        let gradient: Vec<f32> = loss(&hidden).hidden.flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f32> = hidden.flatten_all().unwrap().to_vec1().unwrap();
        for (k, slope) in gradient.into_iter().enumerate() {
            let at = |step: f32| {
                let mut values = values.clone();
                values[k] += step;
                loss(&Tensor::from_vec(values, (2, 4), hidden.device()).unwrap()).loss
            };
            let expected = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((f64::from(slope) - expected).abs() < 1e-3, "{k}: {slope} {expected}");
        }
    }
}
