//! The derivative of each operation: written out where it can be, and against finite differences.

use candle_core::{Device, Tensor};
use frostline_runtime::ops::loss::{HeadInput, Targets};
use frostline_runtime::ops::matrix::{Matrix, WriteMode};
use frostline_runtime::ops::select::{self, Selection};
use frostline_runtime::ops::sequences::{Sequences, Span};
use frostline_runtime::ops::{NeedsGrad, activation, attention, embedding, linear, loss, norm, residual, rope};
use frostline_schemas::model::{Activation, LinearLayout, NormKind, RopeScaling, RopeSpec};
use rand::{RngExt, SeedableRng};

const ALL: NeedsGrad = NeedsGrad { input: true, weight: true, bias: true };

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
    tensor(&values, shape)
}

fn assert_close(got: &Tensor, expected: &[f32]) {
    let got = values(got);
    assert_eq!(got.len(), expected.len());
    for (a, b) in got.iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{got:?} {expected:?}");
    }
}

/// Checks a gradient of Σ dy · f(x) by central differences.
fn assert_derivative(x: &Tensor, dy: &Tensor, gradient: &Tensor, f: impl Fn(&Tensor) -> Tensor) {
    const STEP: f32 = 1e-2;
    assert_eq!(x.dims(), gradient.dims());
    let at = |k: usize, step: f32| {
        let mut moved = values(x);
        moved[k] += step;
        let y = values(&f(&tensor(&moved, x.dims())));
        y.iter().zip(values(dy)).map(|(y, dy)| f64::from(*y) * f64::from(dy)).sum::<f64>()
    };
    for (k, got) in values(gradient).into_iter().enumerate() {
        let expected = (at(k, STEP) - at(k, -STEP)) / f64::from(2.0 * STEP);
        assert!((f64::from(got) - expected).abs() < 2e-3, "element {k}: {got} {expected}");
    }
}

/// The sequences of a batch whose rows have these lengths.
fn sequences(lengths: &[usize]) -> Sequences {
    let (mut spans, mut positions) = (Vec::new(), Vec::new());
    for &length in lengths {
        spans.push(Span::alone(positions.len()..positions.len() + length));
        positions.extend(0..length as u32);
    }
    Sequences::new(spans, positions)
}

struct LinearGradients {
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
}

fn linear_backward(dy: &Tensor, x: &Tensor, weight: &Tensor, layout: LinearLayout) -> LinearGradients {
    let gradient = weight.zeros_like().unwrap();
    linear::weight_gradient(dy, x, layout, &gradient, WriteMode::Overwrite).unwrap();
    close(&gradient, &linear::reference_weight_gradient(dy, x, layout).unwrap());
    LinearGradients {
        input: linear::input_gradient(dy, &Matrix::Tensor(weight), layout, None).unwrap(),
        weight: gradient,
        bias: linear::bias_gradient(dy).unwrap(),
    }
}

fn close(a: &Tensor, b: &Tensor) {
    assert_close(a, &values(b));
}

#[test]
fn linear_gradients() {
    let x = tensor(&[1.0, 2.0, 3.0, 4.0], &[2, 2]);
    let weight = tensor(&[1.0, -1.0, 0.5, 2.0, 0.0, 3.0], &[3, 2]);
    let bias = tensor(&[0.1, 0.2, 0.3], &[3]);
    let layout = LinearLayout::OutputsFirst;
    let y = linear::forward(&x, &Matrix::Tensor(&weight), Some(&bias), layout).unwrap();
    assert_close(&y, &[-0.9, 4.7, 6.3, -0.9, 9.7, 12.3]);
    let dy = tensor(&[1.0, 0.0, 2.0, 0.0, 1.0, -1.0], &[2, 3]);
    let got = linear_backward(&dy, &x, &weight, layout);
    assert_close(&got.input, &[1.0, 5.0, 0.5, -1.0]); // dy W
    assert_close(&got.weight, &[1.0, 2.0, 3.0, 4.0, -1.0, 0.0]); // dyᵀ x
    assert_close(&got.bias, &[1.0, 1.0, 1.0]); // Σ dy
    let sum = tensor(&[1.0, 1.0, 1.0, 1.0], &[2, 2]);
    let sum = linear::input_gradient(&dy, &Matrix::Tensor(&weight), layout, Some(sum)).unwrap();
    assert_close(&sum, &[2.0, 6.0, 1.5, 0.0]);
    linear::weight_gradient(&dy, &x, layout, &got.weight, WriteMode::Accumulate).unwrap();
    assert_close(&got.weight, &[2.0, 4.0, 6.0, 8.0, -2.0, 0.0]);
}

#[test]
fn linear_with_inputs_first_is_the_transpose() {
    let (x, dy) = (random(&[6, 4], 1), random(&[6, 5], 2));
    let weight = random(&[4, 5], 3);
    let transposed = weight.t().unwrap().contiguous().unwrap();
    let (first, last) = (LinearLayout::InputsFirst, LinearLayout::OutputsFirst);
    let y = linear::forward(&x, &Matrix::Tensor(&weight), None, first).unwrap();
    close(&y, &linear::forward(&x, &Matrix::Tensor(&transposed), None, last).unwrap());
    let got = linear_backward(&dy, &x, &weight, first);
    let expected = linear_backward(&dy, &x, &transposed, last);
    close(&got.input, &expected.input);
    close(&got.weight, &expected.weight.t().unwrap());
}

#[test]
fn what_is_not_wanted_is_not_computed() {
    let wanted = NeedsGrad { input: true, weight: false, bias: false };
    let dy = random(&[2, 3], 1);
    let got = norm::backward(&dy, &dy, NormKind::Layer, 1e-5, &random(&[3], 3), wanted).unwrap();
    assert!(got.input.is_some() && got.weight.is_none() && got.bias.is_none());
}

#[test]
fn selected_rows_get_their_gradient_back() {
    let selection = Selection::new(vec![2, 0], &Device::Cpu).unwrap();
    let x = tensor(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]);
    assert_close(&select::forward(&x, &selection).unwrap(), &[5.0, 6.0, 1.0, 2.0]);
    let dy = tensor(&[10.0, 20.0, 30.0, 40.0], &[2, 2]);
    let sum = select::backward(&dy, &selection, x.copy().unwrap()).unwrap();
    assert_close(&sum, &[31.0, 42.0, 3.0, 4.0, 15.0, 26.0]);
}

#[test]
fn norm_gradients() {
    let (x, dy) = (random(&[2, 3, 19], 1), random(&[2, 3, 19], 2));
    let (weight, bias) = (random(&[19], 3), random(&[19], 4));
    for kind in [NormKind::Rms, NormKind::RmsUnitOffset, NormKind::Layer] {
        let bias = (kind == NormKind::Layer).then_some(&bias);
        let f = |x: &Tensor, weight: &Tensor| norm::forward(x, kind, 1e-5, weight, bias).unwrap();
        let got = norm::backward(&dy, &x, kind, 1e-5, &weight, ALL).unwrap();
        assert_derivative(&x, &dy, &got.input.unwrap(), |x| f(x, &weight));
        assert_derivative(&weight, &dy, &got.weight.unwrap(), |weight| f(&x, weight));
        let sum = dy.sum((0, 1)).unwrap();
        assert_close(&got.bias.unwrap(), &values(&sum)); // Σ dy
    }
}

#[test]
fn norm_of_a_vector() {
    let (x, weight) = (tensor(&[3.0, 4.0], &[1, 2]), tensor(&[2.0, 1.0], &[2]));
    let rms = 12.5f32.sqrt();
    assert_close(&norm::forward(&x, NormKind::Rms, 0.0, &weight, None).unwrap(), &[6.0 / rms, 4.0 / rms]);
    assert_close(&norm::forward(&x, NormKind::RmsUnitOffset, 0.0, &weight, None).unwrap(), &[9.0 / rms, 8.0 / rms]);
    assert_close(&norm::forward(&x, NormKind::Layer, 0.0, &weight, None).unwrap(), &[-2.0, 1.0]);
    // Along x itself the RMS norm is constant: with dy = x / w the input's gradient is r (x − x̂ mean(x x̂)) = 0.
    let dy = tensor(&[1.5, 4.0], &[1, 2]);
    let got = norm::backward(&dy, &x, NormKind::Rms, 0.0, &weight, ALL).unwrap();
    assert_close(&got.input.unwrap(), &[0.0, 0.0]);
    assert_close(&got.weight.unwrap(), &[4.5 / rms, 16.0 / rms]); // dy x̂
}

#[test]
fn rope_gradients() {
    let spec = RopeSpec { width: 4, theta: 100.0, scaling: RopeScaling::None };
    let table = rope::Table::new(&spec, 3, &Device::Cpu).unwrap();
    let positions = [0, 1, 2, 0, 1, 2];
    let x = random(&[6, 2, 4], 1);
    let y = rope::forward(&x, &table, &positions).unwrap();
    // Place 1 turns dimension 0 with 2 by 1 radian, and 1 with 3 by 100^(−1/2) = 0.1.
    let (x1, y1) = (values(&x)[8..12].to_vec(), values(&y)[8..12].to_vec());
    let ((s, c), (s1, c1)) = (1f32.sin_cos(), 0.1f32.sin_cos());
    let expected = [x1[0] * c - x1[2] * s, x1[1] * c1 - x1[3] * s1, x1[2] * c + x1[0] * s, x1[3] * c1 + x1[1] * s1];
    assert_close(&tensor(&y1, &[4]), &expected);
    close(&rope::backward(&y, &table, &positions).unwrap(), &x); // The rotation's transpose undoes it.
    let dy = random(&[6, 2, 4], 2);
    let gradient = rope::backward(&dy, &table, &positions).unwrap();
    assert_derivative(&x, &dy, &gradient, |x| rope::forward(x, &table, &positions).unwrap());
}

#[test]
fn attention_gradients() {
    let all = sequences(&[5, 3]);
    for (sequences, queries) in [(all.clone(), 8), (all.at(&[2, 4, 7]), 3)] {
        for (kv_heads, window, softcap) in
            [(1, None, None), (2, Some(2), Some(0.4)), (4, Some(3), None), (4, None, Some(0.4))]
        {
            let scoring = attention::Scoring { scale: 0.7, softcap, window };
            let q = random(&[queries, 4, 3], 1);
            let (k, v) = (random(&[8, kv_heads, 3], 2), random(&[8, kv_heads, 3], 3));
            let dy = random(&[queries, 12], 4);
            let f = |q: &Tensor, k: &Tensor, v: &Tensor| attention::forward(q, k, v, scoring, &sequences).unwrap();
            let saved = f(&q, &k, &v);
            let [dq, dk, dv] = attention::backward(&dy, [&q, &k, &v], &saved, scoring, &sequences).unwrap();
            assert_derivative(&q, &dy, &dq, |q| f(q, &k, &v).output);
            assert_derivative(&k, &dy, &dk, |k| f(&q, k, &v).output);
            assert_derivative(&v, &dy, &dv, |v| f(&q, &k, v).output);
        }
    }
}

#[test]
fn a_window_of_one_sees_itself_alone() {
    let scoring = attention::Scoring { scale: 1.0, softcap: None, window: Some(1) };
    let sequences = sequences(&[4]);
    let (q, k, v) = (random(&[4, 2, 3], 1), random(&[4, 2, 3], 2), random(&[4, 2, 3], 3));
    let saved = attention::forward(&q, &k, &v, scoring, &sequences).unwrap();
    close(&saved.output, &v);
    let dy = random(&[4, 6], 4);
    let [dq, dk, dv] = attention::backward(&dy, [&q, &k, &v], &saved, scoring, &sequences).unwrap();
    close(&dv, &dy); // y = v
    assert_close(&dq, &[0.0; 24]); // A softmax over one key is constant.
    assert_close(&dk, &[0.0; 24]);
}

/// More queries than are computed at a time.
#[test]
fn blocks_of_queries_change_nothing() {
    let sequences = sequences(&[150]);
    let scoring = attention::Scoring { scale: 0.7, softcap: None, window: Some(90) };
    let (q, k, v) = (random(&[150, 2, 3], 1), random(&[150, 1, 3], 2), random(&[150, 1, 3], 3));
    let all = attention::forward(&q, &k, &v, scoring, &sequences).unwrap().output;
    for token in [0u32, 63, 64, 149] {
        let one = q.narrow(0, token as usize, 1).unwrap();
        let one = attention::forward(&one, &k, &v, scoring, &sequences.at(&[token])).unwrap().output;
        close(&one, &all.narrow(0, token as usize, 1).unwrap());
    }
}

#[test]
fn activation_derivatives() {
    let x = tensor(&[-2.0, -0.5, 0.3, 1.0, 30.0, -30.0], &[6]);
    let one = Tensor::ones(6, candle_core::DType::F32, &Device::Cpu).unwrap();
    // From the formulas, in f64.
    let expected = [
        (Activation::Silu, [-0.090_784, 0.260_039, 0.647_785, 0.927_671, 1.0, 0.0]),
        (Activation::GeluTanh, [-0.086_099, 0.132_630, 0.732_304, 1.082_964, 1.0, 0.0]),
        (Activation::Gelu, [-0.085_232, 0.132_505, 0.732_328, 1.083_316, 1.0, 0.0]),
        (Activation::Relu, [0.0, 0.0, 1.0, 1.0, 1.0, 0.0]),
    ];
    for (kind, derivative) in expected {
        assert_close(&activation::backward(&one, &x, kind).unwrap(), &derivative);
        let x = tensor(&[-1.7, -0.4, 0.2, 0.9], &[4]);
        let dy = random(&[4], 1);
        let got = activation::backward(&dy, &x, kind).unwrap();
        assert_derivative(&x, &dy, &got, |x| activation::forward(x, kind).unwrap());
    }
}

#[test]
fn gated_activation_gradients() {
    let (gate, up, dy) = (random(&[3, 7], 1), random(&[3, 7], 2), random(&[3, 7], 3));
    for kind in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        let (dgate, dup) = activation::gated_backward(&dy, &gate, &up, kind).unwrap();
        assert_derivative(&gate, &dy, &dgate, |gate| activation::gated_forward(gate, &up, kind).unwrap());
        assert_derivative(&up, &dy, &dup, |up| activation::gated_forward(&gate, up, kind).unwrap());
    }
}

#[test]
fn residual_sum() {
    let (x, z) = (random(&[3, 5], 1), random(&[3, 5], 2));
    close(&residual::add(x.copy().unwrap(), &z).unwrap(), &(&x + &z).unwrap());
}

#[test]
fn embedding_gradients_add_up_where_a_row_was_read_twice() {
    let ids = Tensor::new(&[2u32, 0, 2], &Device::Cpu).unwrap();
    let dy = tensor(&[1.0, 2.0, 3.0, 4.0, 10.0, 20.0], &[3, 2]);
    let got = embedding::backward(&dy, &ids, 3).unwrap();
    assert_close(&got, &[3.0, 4.0, 0.0, 0.0, 11.0, 22.0]);
}

/// Loss, gradient of the hidden states, gradient of the head.
fn cross_entropy(hidden: &Tensor, head: &Tensor, tokens: &[u32], scale: f64) -> (f64, Tensor, Tensor) {
    let gradient = head.zeros_like().unwrap();
    let into = Some((&gradient, WriteMode::Overwrite));
    let input = HeadInput { hidden, head: &Matrix::Tensor(head), softcap: None };
    let got = loss::cross_entropy(input, Targets { tokens, weights: None }, scale, into).unwrap();
    (got.loss, got.hidden, gradient)
}

#[test]
fn cross_entropy_of_equal_logits() {
    let (hidden, head) = (tensor(&[1.0, 2.0], &[1, 2]), tensor(&[0.0; 8], &[4, 2]));
    let (loss, dhidden, dhead) = cross_entropy(&hidden, &head, &[3], 0.5);
    assert!((loss - 4f64.ln()).abs() < 1e-6);
    assert_close(&dhidden, &[0.0, 0.0]);
    // ½ (softmax − onehot)ᵀ h
    assert_close(&dhead, &[0.125, 0.25, 0.125, 0.25, 0.125, 0.25, -0.375, -0.75]);
}

#[test]
fn cross_entropy_gradients() {
    let (hidden, head, targets) = (random(&[3, 5], 1), random(&[7, 5], 2), [6, 0, 3]);
    let loss = |hidden: &Tensor, head: &Tensor| {
        let input = HeadInput { hidden, head: &Matrix::Tensor(head), softcap: None };
        let sum = loss::cross_entropy(input, Targets { tokens: &targets, weights: None }, 1.0, None).unwrap().loss;
        tensor(&[sum as f32], &[1])
    };
    let (sum, dhidden, dhead) = cross_entropy(&hidden, &head, &targets, 1.0);
    let one = tensor(&[1.0], &[1]);
    assert_derivative(&hidden, &one, &dhidden, |hidden| loss(hidden, &head));
    assert_derivative(&head, &one, &dhead, |head| loss(&hidden, head));
    let pairs = [(0, 6), (1, 0), (2, 3)];
    let input = HeadInput { hidden: &hidden, head: &Matrix::Tensor(&head), softcap: None };
    let scores: f32 = loss::log_probabilities(input, &pairs).unwrap().iter().sum();
    assert!((f64::from(scores) + sum).abs() < 1e-5);
}

/// More targets than are taken at a time, and a vocabulary of many blocks.
#[test]
fn pieces_of_targets_and_vocabulary_change_nothing() {
    const VOCABULARY: usize = 9000;
    const TARGETS: usize = 700;
    let (hidden, head) = ((random(&[TARGETS, 4], 1) * 8.0).unwrap(), random(&[VOCABULARY, 4], 2));
    let targets: Vec<u32> = (0..TARGETS as u32).map(|k| k * 12 + 7).collect();
    let (loss, dhidden, dhead) = cross_entropy(&hidden, &head, &targets, 1.0);
    let (mut alone, mut dhead_alone) = (0.0, head.zeros_like().unwrap());
    for (k, target) in targets.iter().enumerate() {
        let (one, d, dh) = cross_entropy(&hidden.narrow(0, k, 1).unwrap(), &head, &[*target], 1.0);
        alone += one;
        close(&dhidden.get(k).unwrap(), &d.get(0).unwrap());
        dhead_alone = (dhead_alone + dh).unwrap();
    }
    assert!((loss / alone - 1.0).abs() < 1e-6, "{loss} {alone}");
    for (a, b) in values(&dhead).iter().zip(values(&dhead_alone)) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn a_target_outside_the_vocabulary_is_an_error() {
    let (hidden, head) = (random(&[1, 2], 1), random(&[3, 2], 2));
    let input = HeadInput { hidden: &hidden, head: &Matrix::Tensor(&head), softcap: None };
    let error = loss::cross_entropy(input, Targets { tokens: &[3], weights: None }, 1.0, None).unwrap_err();
    assert!(error.to_string().contains("target token 3 is outside the vocabulary of 3"), "{error}");
}

/// In matrices large enough for threads to share.
#[test]
fn the_number_of_threads_changes_no_bit() {
    for rows in [300, 1100] {
        let (x, weight, dy) = (random(&[rows, 200], 1), random(&[700, 200], 2), random(&[rows, 700], 3));
        let targets: Vec<u32> = (0..rows as u32).map(|k| k % 700).collect();
        let q = random(&[rows, 5, 40], 4);
        let k = random(&[rows, 1, 40], 5);
        let sequences = sequences(&[rows - 10, 10]);
        let scoring = attention::Scoring { scale: 0.2, softcap: None, window: None };
        let results = |threads| {
            let compute = || {
                let linear = linear_backward(&dy, &x, &weight, LinearLayout::OutputsFirst);
                let (loss, dhidden, dhead) = cross_entropy(&x, &weight, &targets, 0.5);
                let saved = attention::forward(&q, &k, &k, scoring, &sequences).unwrap();
                let [dq, dk, dv] = attention::backward(&x, [&q, &k, &k], &saved, scoring, &sequences).unwrap();
                let all = [linear.input, linear.weight, linear.bias, dhidden, dhead, saved.output, dq, dk, dv];
                (loss, all.map(|tensor| values(&tensor)))
            };
            frostline_runtime::system::on_threads(Some(threads), compute).unwrap()
        };
        let one = results(1);
        assert!([2, 3, 8].into_iter().all(|threads| results(threads) == one), "{rows} rows");
    }
}
