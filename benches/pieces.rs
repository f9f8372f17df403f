//! The operations of a training step one by one, at the sizes of real models.
//!
//!   cargo bench --bench pieces [-- FILTER]
//!
//! `gemma` is Gemma 3 270M with 16 rows of 18 tokens, `qwen` Qwen2.5 0.5B with 8 rows of 256. Throughput is in
//! multiplications and additions for products (elements per second), else in bytes read and written.

use candle_core::{Device, Tensor};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use frostline_runtime::model::Gradients;
use frostline_runtime::model::Scope;
use frostline_runtime::model::{ComputePrecision, Parameters};
use frostline_runtime::ops::loss::{HeadInput, Targets};
use frostline_runtime::ops::matrix::{Matrix, WriteMode};
use frostline_runtime::ops::sequences::{Sequences, Span};
use frostline_runtime::ops::{NeedsGrad, activation, attention, linear, loss, norm, rope};
use frostline_runtime::train::{AdamW, Optimizer, Update};
use frostline_schemas::model::ModelFolder;
use frostline_schemas::model::{Activation, LinearLayout, NormKind, RopeScaling, RopeSpec};
use rand::{RngExt, SeedableRng};

#[global_allocator]
static ALLOCATOR: frostline_runtime::system::CachingAllocator = frostline_runtime::system::CachingAllocator;

const FLOAT: u64 = 4;

/// The sizes of a model and of a step on it.
struct Shape {
    name: &'static str,
    rows: usize,
    row_tokens: usize,
    targets: usize,
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    window: Option<usize>,
    activation: Activation,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "gemma",
        rows: 16,
        row_tokens: 18,
        targets: 16,
        hidden: 640,
        intermediate: 2048,
        heads: 4,
        kv_heads: 1,
        head_dim: 256,
        vocabulary: 262_144,
        window: Some(512),
        activation: Activation::GeluTanh,
    },
    Shape {
        name: "qwen",
        rows: 8,
        row_tokens: 256,
        targets: 128,
        hidden: 896,
        intermediate: 4864,
        heads: 14,
        kv_heads: 2,
        head_dim: 64,
        vocabulary: 151_936,
        window: None,
        activation: Activation::Silu,
    },
];

impl Shape {
    fn tokens(&self) -> usize {
        self.rows * self.row_tokens
    }

    fn sequences(&self) -> Sequences {
        let span = |row| Span::alone(row * self.row_tokens..(row + 1) * self.row_tokens);
        let positions = (0..self.rows).flat_map(|_| 0..self.row_tokens as u32).collect();
        Sequences::new((0..self.rows).map(span).collect(), positions)
    }
}

/// Values in [−1, 1), the same at every run.
fn random(shape: &[usize]) -> Tensor {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| random.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape has")
}

fn measure<R>(
    group: &mut BenchmarkGroup<WallTime>,
    shape: &Shape,
    work: Throughput,
    mut f: impl FnMut() -> candle_core::Result<R>,
) {
    group.throughput(work).bench_function(shape.name, |bencher| bencher.iter(|| f().expect("sizes fit")));
}

/// What passing `tensors` tensors of this size through memory comes to.
fn traffic(tensors: u64, elements: usize) -> Throughput {
    Throughput::Bytes(tensors * FLOAT * elements as u64)
}

fn products(criterion: &mut Criterion) {
    let layout = LinearLayout::OutputsFirst;
    for shape in &SHAPES {
        let (tokens, width, outputs) = (shape.tokens(), shape.hidden, shape.intermediate);
        let work = Throughput::Elements(2 * (tokens * width * outputs) as u64);
        let (x, dy, weight) = (random(&[tokens, width]), random(&[tokens, outputs]), random(&[outputs, width]));
        let gradient = weight.zeros_like().expect("there is memory");
        let mut group = criterion.benchmark_group("product: forward");
        measure(&mut group, shape, work.clone(), || linear::forward(&x, &Matrix::Tensor(&weight), None, layout));
        group.finish();
        let mut group = criterion.benchmark_group("product: gradient of inputs");
        measure(&mut group, shape, work.clone(), || {
            linear::input_gradient(&dy, &Matrix::Tensor(&weight), layout, None)
        });
        group.finish();
        let mut group = criterion.benchmark_group("product: gradient of weights");
        measure(&mut group, shape, work, || linear::weight_gradient(&dy, &x, layout, &gradient, WriteMode::Accumulate));
        group.finish();
    }
}

fn norms(criterion: &mut Criterion) {
    let wanted = NeedsGrad { input: true, weight: true, bias: false };
    for kind in [NormKind::Rms, NormKind::Layer] {
        for shape in &SHAPES {
            let size = shape.tokens() * shape.hidden;
            let (x, weight) = (random(&[shape.tokens(), shape.hidden]), random(&[shape.hidden]));
            let mut group = criterion.benchmark_group(format!("{kind:?} norm: forward"));
            measure(&mut group, shape, traffic(2, size), || norm::forward(&x, kind, 1e-6, &weight, None));
            group.finish();
            let mut group = criterion.benchmark_group(format!("{kind:?} norm: backward"));
            measure(&mut group, shape, traffic(3, size), || norm::backward(&x, &x, kind, 1e-6, &weight, wanted));
            group.finish();
        }
    }
}

fn rotations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rotary embedding");
    for shape in &SHAPES {
        let spec = RopeSpec { width: shape.head_dim, theta: 1e4, scaling: RopeScaling::None };
        let table = rope::Table::new(&spec, shape.row_tokens, &Device::Cpu).expect("there is memory");
        let x = random(&[shape.tokens(), shape.heads, shape.head_dim]);
        let sequences = shape.sequences();
        measure(&mut group, shape, traffic(2, x.elem_count()), || rope::forward(&x, &table, sequences.positions()));
    }
    group.finish();
}

fn attentions(criterion: &mut Criterion) {
    for shape in &SHAPES {
        let queries = random(&[shape.tokens(), shape.heads, shape.head_dim]);
        let keys = random(&[shape.tokens(), shape.kv_heads, shape.head_dim]);
        let of =
            attention::Scoring { scale: (shape.head_dim as f64).sqrt().recip(), softcap: None, window: shape.window };
        let sequences = shape.sequences();
        // Each query sees half of its row on average; scores and weighted values are a product each.
        let pairs = shape.tokens() * (shape.row_tokens + 1) / 2 * shape.heads;
        let work = |products: usize| Throughput::Elements((products * 2 * pairs * shape.head_dim) as u64);
        let mut group = criterion.benchmark_group("attention: forward");
        measure(&mut group, shape, work(2), || attention::forward(&queries, &keys, &keys, of, &sequences));
        group.finish();
        let saved = attention::forward(&queries, &keys, &keys, of, &sequences).expect("sizes fit");
        let dy = random(&[shape.tokens(), shape.heads * shape.head_dim]);
        let mut group = criterion.benchmark_group("attention: backward");
        measure(&mut group, shape, work(5), || {
            attention::backward(&dy, [&queries, &keys, &keys], &saved, of, &sequences)
        });
        group.finish();
    }
}

fn activations(criterion: &mut Criterion) {
    for shape in &SHAPES {
        let gate = random(&[shape.tokens(), shape.intermediate]);
        let size = gate.elem_count();
        let mut group = criterion.benchmark_group("gated activation: forward");
        measure(&mut group, shape, traffic(3, size), || activation::gated_forward(&gate, &gate, shape.activation));
        group.finish();
        let mut group = criterion.benchmark_group("gated activation: backward");
        measure(&mut group, shape, traffic(5, size), || {
            activation::gated_backward(&gate, &gate, &gate, shape.activation)
        });
        group.finish();
    }
}

fn losses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head and loss, with the gradient of states");
    for shape in &SHAPES {
        let (states, head) = (random(&[shape.targets, shape.hidden]), random(&[shape.vocabulary, shape.hidden]));
        let targets: Vec<u32> = (0..shape.targets as u32).collect();
        // Logits and gradient: a product each.
        let work = Throughput::Elements(4 * (shape.targets * head.elem_count()) as u64);
        let head = Matrix::Tensor(&head);
        let input = HeadInput { hidden: &states, head: &head, softcap: None };
        let targets = Targets { tokens: &targets, weights: None };
        measure(&mut group, shape, work, || loss::cross_entropy(input, targets, 1.0, None));
    }
    group.finish();
}

fn optimizer(criterion: &mut Criterion) {
    let model = ModelFolder::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart").as_ref())
        .expect("the quickstart's model is there");
    let scope = Scope::everything(&model.config);
    let mut parameters = Parameters::new(&model.config, model.weights, &scope, Device::Cpu, ComputePrecision::F32)
        .expect("the quickstart's model is whole");
    let mut gradients = Gradients::default();
    let mut elements = 0;
    for tensor in model.config.tensors() {
        gradients.add(&tensor.name, random(&tensor.shape)).expect("there is memory");
        elements += tensor.elements() as usize;
    }
    let mut adamw = AdamW::new(0.01);
    let mut group = criterion.benchmark_group("AdamW");
    group.throughput(traffic(7, elements)).bench_function("quickstart", |bencher| {
        bencher.iter(|| {
            let step = Update { learning_rate: 1e-6, clip: 1.0 };
            adamw.update(&mut parameters, &gradients, step).expect("every gradient has its tensor");
        });
    });
    group.finish();
}

criterion_group! {
    name = pieces;
    config = Criterion::default().sample_size(20);
    targets = products, norms, rotations, attentions, activations, losses, optimizer
}
criterion_main!(pieces);
