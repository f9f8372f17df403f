//! `GroupQueryAttention`, all of attention in one operator: ONNX Runtime's, and so its model builder's.
//!
//! On the CPU it requires head sizes that are multiples of 16 and caches as large as a sliding window, and knows no norms of
//! queries and keys. Written out it needs none of that, and no cache either.

use tract_onnx::pb::NodeProto;

use super::norms;
use super::writer::Writer;
use crate::onnx::build;
use crate::onnx::node::{float, input, integer, output};

/// What a fused attention says of itself, which cannot be seen in the graph any more.
#[derive(Clone, Debug)]
pub(crate) struct FusedAttention {
    /// The tensor that it makes.
    pub output: String,
    /// Heads of queries, and of keys and of values each.
    pub heads: usize,
    pub kv_heads: usize,
    /// What scores are multiplied by; 1/√size where `None`.
    pub scale: Option<f32>,
    /// The softcap on scores.
    pub softcap: Option<f32>,
    /// A query sees itself and the `window − 1` positions before it; all positions before it where `None`.
    pub window: Option<usize>,
}

/// The operator's settings. A sequence's positions run from 0.
struct GroupedQuery<'a> {
    /// Heads of queries, and of keys and of values each.
    heads: i64,
    kv_heads: i64,
    /// What scores are multiplied by; 1/√size where it is not given.
    scale: Option<f32>,
    /// The softcap on scores.
    softcap: Option<f32>,
    /// A query sees itself and the `window − 1` positions before it.
    window: Option<i64>,
    /// Cosines and sines [positions, pairs] of the rotary embedding.
    rotary: Option<(&'a str, &'a str)>,
    /// Weights of the norms of queries and of keys.
    norms: Option<(&'a str, &'a str)>,
    epsilon: f32,
    /// The element type of what comes and goes; between, all is f32.
    dtype: i32,
}

/// What a node says of itself, if it is such an attention.
pub(crate) fn described(node: &NodeProto) -> Option<FusedAttention> {
    let output = output(node, 0).filter(|_| node.op_type == "GroupQueryAttention")?.to_owned();
    let heads = |name: &str| usize::try_from(integer(node, name, 0)).unwrap_or(0);
    Some(FusedAttention {
        output,
        heads: heads("num_heads"),
        kv_heads: heads("kv_num_heads"),
        scale: given(node, "scale"),
        softcap: given(node, "softcap"),
        window: window(node).and_then(|window| usize::try_from(window).ok()),
    })
}

/// A factor, which 0 stands for leaving out.
fn given(node: &NodeProto, name: &str) -> Option<f32> {
    Some(float(node, name, 0.0)).filter(|&value| value != 0.0)
}

/// The most heads that are written out.
const MAX_HEADS: i64 = 1 << 16;

/// What of a node's settings is not written out here; `None` where all is.
pub(crate) fn unsupported(node: &NodeProto) -> Option<String> {
    let named = [
        (10, "an attention bias"),
        (11, "a head sink"),
        (12, "a quantised cache"),
        (13, "a quantised cache"),
        (16, "an input more than is known"),
    ];
    if let Some((_, what)) = named.into_iter().find(|&(index, _)| input(node, index).is_some()) {
        return Some(what.into());
    }
    let said = |name: &str, off: &[i64]| {
        let found = integer(node, name, off[0]);
        (!off.contains(&found)).then(|| format!("{name} {found}"))
    };
    let flags = [("rotary_interleaved", &[0][..]), ("kv_cache_bit_width", &[0]), ("smooth_softmax", &[0, -1])];
    if let Some(flag) = flags.into_iter().find_map(|(name, off)| said(name, off)) {
        return Some(flag);
    }
    let (heads, kv_heads) = (integer(node, "num_heads", 0), integer(node, "kv_num_heads", 0));
    if kv_heads < 1 || !(kv_heads..=MAX_HEADS).contains(&heads) || heads % kv_heads != 0 {
        return Some(format!("num_heads {heads} with kv_num_heads {kv_heads}"));
    }
    let factors = ["scale", "softcap"].into_iter().find(|name| !(0.0..f32::INFINITY).contains(&float(node, name, 0.0)));
    if let Some(name) = factors {
        return Some(format!("{name} {}", float(node, name, 0.0)));
    }
    if integer(node, "do_rotary", 0) != 0 && (input(node, 7).is_none() || input(node, 8).is_none()) {
        return Some("do_rotary without its tables of cosines and sines".into());
    }
    let norms = [14, 15].map(|index| input(node, index).is_some());
    (norms[0] != norms[1]).then(|| "a norm of queries or of keys alone".into())
}

fn window(node: &NodeProto) -> Option<i64> {
    Some(integer(node, "local_window_size", -1)).filter(|&window| window > 0)
}

/// `GroupQueryAttention(query, key?, value?, past_key, past_value, seqlens_k, total_sequence_length, cos?, sin?,
/// position_ids?, attention_bias?, head_sink?, k_scale?, v_scale?, q_norm?, k_norm?)`. Without keys and values the
/// queries hold all three.
pub(crate) fn grouped_query(writer: &mut Writer, node: &NodeProto) -> Option<()> {
    let attention = GroupedQuery::of(writer, node)?;
    let (query, to) = (input(node, 0)?, output(node, 0)?);
    let [queries, keys, values] = match (input(node, 1), input(node, 2)) {
        (Some(key), Some(value)) => attention.separate(writer, query, key, value),
        _ => attention.packed(writer, query),
    };
    let (query_norm, key_norm) = attention.norms.unzip();
    let queries = attention.positioned(writer, &queries, query_norm, query);
    let keys = attention.positioned(writer, &keys, key_norm, query);
    let attended = attention.attend(writer, [&queries, &keys, &values], query);
    let downcast = writer.cast(&attended, attention.dtype);
    let sizes = writer.vector(&[0, 0, -1]);
    writer.op_to("Reshape", &[&downcast, &sizes], to, Vec::new());
    Some(())
}

impl<'a> GroupedQuery<'a> {
    /// `None` for what is [`unsupported`], or of a type that cannot be told.
    fn of(writer: &Writer, node: &'a NodeProto) -> Option<GroupedQuery<'a>> {
        if unsupported(node).is_some() {
            return None;
        }
        let rotary = match integer(node, "do_rotary", 0) {
            0 => None,
            _ => Some((input(node, 7)?, input(node, 8)?)),
        };
        Some(GroupedQuery {
            heads: integer(node, "num_heads", 0),
            kv_heads: integer(node, "kv_num_heads", 0),
            scale: given(node, "scale"),
            softcap: given(node, "softcap"),
            window: window(node),
            rotary,
            norms: input(node, 14).zip(input(node, 15)),
            epsilon: float(node, "qk_norm_epsilon", 1e-6),
            dtype: writer.type_of(input(node, 3).or(rotary.map(|(cosines, _)| cosines))?)?,
        })
    }

    /// Queries, keys and values as [batch, sequence, heads, size].
    fn separate(&self, writer: &mut Writer, query: &str, key: &str, value: &str) -> [String; 3] {
        [(query, self.heads), (key, self.kv_heads), (value, self.kv_heads)].map(|(x, heads)| {
            let x = writer.upcast(x);
            writer.reshape(&x, &[0, 0, heads, -1])
        })
    }

    /// The same out of one tensor that holds all queries, then all keys, then all values.
    fn packed(&self, writer: &mut Writer, all: &str) -> [String; 3] {
        let all = writer.upcast(all);
        let all = writer.reshape(&all, &[0, 0, self.heads + 2 * self.kv_heads, -1]);
        let keys = self.heads + self.kv_heads;
        [(0, self.heads), (self.heads, keys), (keys, keys + self.kv_heads)]
            .map(|(from, to)| writer.slice(&all, from, to, 2))
    }

    /// Queries or keys after norm and rotary embedding; `like` is any tensor [batch, sequence, …].
    fn positioned(&self, writer: &mut Writer, x: &str, norm: Option<&str>, like: &str) -> String {
        let x = match norm {
            Some(gamma) => norms::heads(writer, x, gamma, self.epsilon),
            None => x.to_owned(),
        };
        match self.rotary {
            Some((cosines, sines)) => rotate(writer, &x, cosines, sines, like),
            None => x,
        }
    }

    /// Values weighted by the softmax of scores, [batch, sequence, kv heads, heads for each, size].
    fn attend(&self, writer: &mut Writer, [queries, keys, values]: [&str; 3], like: &str) -> String {
        let queries = writer.reshape(queries, &[0, 0, self.kv_heads, self.heads / self.kv_heads, -1]);
        let queries = writer.transpose(&queries, &[0, 2, 3, 1, 4]);
        let keys = writer.reshape(keys, &[0, 0, 0, 1, -1]);
        let keys = writer.transpose(&keys, &[0, 2, 3, 4, 1]);
        let values = writer.reshape(values, &[0, 0, 0, 1, -1]);
        let values = writer.transpose(&values, &[0, 2, 3, 1, 4]);
        let queries = self.scaled(writer, &queries);
        let mut scores = writer.op("MatMul", &[&queries, &keys], Vec::new());
        if let Some(cap) = self.softcap {
            let cap = writer.float(cap);
            let within = writer.op("Div", &[&scores, &cap], Vec::new());
            let capped = writer.op("Tanh", &[&within], Vec::new());
            scores = writer.op("Mul", &[&capped, &cap], Vec::new());
        }
        let (hidden, least) = (self.hidden(writer, like), writer.float(f32::MIN));
        let seen = writer.op("Where", &[&hidden, &least, &scores], Vec::new());
        let shares = writer.op("Softmax", &[&seen], vec![build::integer("axis", -1)]);
        let weighted = writer.op("MatMul", &[&shares, &values], Vec::new());
        writer.transpose(&weighted, &[0, 3, 1, 2, 4])
    }

    fn scaled(&self, writer: &mut Writer, queries: &str) -> String {
        if let Some(scale) = self.scale {
            let scale = writer.float(scale);
            return writer.op("Mul", &[queries, &scale], Vec::new());
        }
        let size = size(writer, queries, 4);
        let size = writer.upcast(&size);
        let root = writer.op("Sqrt", &[&size], Vec::new());
        writer.op("Div", &[queries, &root], Vec::new())
    }

    /// [sequence, sequence]: which positions a query does not see.
    fn hidden(&self, writer: &mut Writer, like: &str) -> String {
        let window = self.window;
        writer.once(&format!("hidden.{}", window.unwrap_or_default()), |writer, name| {
            let positions = positions(writer, like);
            let (query, key) = (writer.reshape(&positions, &[-1, 1]), writer.reshape(&positions, &[1, -1]));
            let Some(window) = window else { return writer.op_to("Greater", &[&key, &query], name, Vec::new()) };
            let later = writer.op("Greater", &[&key, &query], Vec::new());
            let window = writer.vector(&[window - 1]);
            let first = writer.op("Sub", &[&query, &window], Vec::new());
            let earlier = writer.op("Less", &[&key, &first], Vec::new());
            writer.op_to("Or", &[&later, &earlier], name, Vec::new());
        })
    }
}

/// Rotates the pairs (k, k + pairs) of `x` [batch, sequence, heads, size] by the angles of their positions; elements
/// beyond the last pair stay.
fn rotate(writer: &mut Writer, x: &str, cosines: &str, sines: &str, like: &str) -> String {
    let [cosines, sines] = [cosines, sines].map(|table| {
        writer.once(&format!("rotary.{table}"), |writer, name| {
            let positions = positions(writer, like);
            let rows = writer.op("Gather", &[table, &positions], vec![build::integer("axis", 0)]);
            let rows = writer.upcast(&rows);
            // [sequence, pairs] → [sequence, 1, pairs]: the same for all heads.
            let sizes = writer.vector(&[0, 1, -1]);
            writer.op_to("Reshape", &[&rows, &sizes], name, Vec::new());
        })
    });
    let pairs = size(writer, &cosines, 2);
    let (zero, end, last) = (writer.vector(&[0]), writer.vector(&[i64::MAX]), writer.vector(&[-1]));
    let twice = writer.op("Add", &[&pairs, &pairs], Vec::new());
    let part = |writer: &mut Writer, from: &str, to: &str| writer.op("Slice", &[x, from, to, &last], Vec::new());
    let (first, second) = (part(writer, &zero, &pairs), part(writer, &pairs, &twice));
    let rest = part(writer, &twice, &end);
    let product = |writer: &mut Writer, a: &str, b: &str| writer.op("Mul", &[a, b], Vec::new());
    let (a, b) = (product(writer, &first, &cosines), product(writer, &second, &sines));
    let (c, d) = (product(writer, &second, &cosines), product(writer, &first, &sines));
    let (rotated_first, rotated_second) =
        (writer.op("Sub", &[&a, &b], Vec::new()), writer.op("Add", &[&c, &d], Vec::new()));
    writer.op("Concat", &[&rotated_first, &rotated_second, &rest], vec![build::integer("axis", -1)])
}

/// [sequence]: 0, 1, 2 …
fn positions(writer: &mut Writer, like: &str) -> String {
    writer.once("row_positions", |writer, name| {
        let sequence = size(writer, like, 1);
        let sequence = writer.reshape(&sequence, &[]);
        let (zero, one) = (writer.scalar(0), writer.scalar(1));
        writer.op_to("Range", &[&zero, &sequence, &one], name, Vec::new());
    })
}

/// The size of one dimension of a tensor, [1] of i64.
fn size(writer: &mut Writer, of: &str, dimension: i64) -> String {
    let sizes = writer.op("Shape", &[of], Vec::new());
    let index = writer.vector(&[dimension]);
    writer.op("Gather", &[&sizes, &index], vec![build::integer("axis", 0)])
}
