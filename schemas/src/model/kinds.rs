//! The kinds of parts that decoders are put together from.

/// What a norm computes, along the last dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / rms(x) · w`.
    Rms,
    /// `x / rms(x) · (1 + w)`.
    RmsUnitOffset,
    /// `(x − mean) / deviation · w + b`.
    Layer,
}

/// What the MLP applies between its projections, elementwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU by the error function.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

/// How a layer's two branches stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// `h += attention(h)`, then `h += mlp(h)`.
    Sequential,
    /// `h += attention(h) + mlp(h)`: both of the same `h`.
    Parallel,
}

/// How a linear layer's weight lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearLayout {
    /// [outputs, inputs], as PyTorch's `Linear` keeps it.
    OutputsFirst,
    /// [inputs, outputs], as GPT-2's `Conv1D` keeps it.
    InputsFirst,
}
