//! What examples' states say of each latent space beside SALF's gains.

use rayon::prelude::*;

use super::example_traces::ExampleTrace;
use super::states::Centred;
use super::{cka, variability};

/// What a space's states say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Signals {
    /// ν, where the examples have classes that differ here.
    pub variability: Option<f64>,
    /// 1 − CKA of the space below and this one, where states differ in both.
    pub cka_distance: Option<f64>,
}

/// Signals of each of so many spaces. `classes` are those of the examples, in the order of their traces, where they have any.
pub(crate) fn of_spaces(traces: &[ExampleTrace], classes: Option<&[Option<usize>]>, spaces: usize) -> Vec<Signals> {
    let centred: Vec<Option<Centred>> =
        (0..spaces).into_par_iter().map(|space| Centred::new(&states_of(traces, space, spaces))).collect();
    let signals = |space: usize| {
        let own = centred[space].as_ref();
        let below = space.checked_sub(1).and_then(|below| centred[below].as_ref());
        Signals {
            variability: own.zip(classes).and_then(|(own, classes)| variability::variability(own, classes)),
            cka_distance: own.zip(below).map(|(own, below)| cka::distance(below, own)),
        }
    };
    (0..spaces).into_par_iter().map(signals).collect()
}

/// The states of one space out of `spaces`, of the examples that have them: [n, hidden].
fn states_of(traces: &[ExampleTrace], space: usize, spaces: usize) -> Vec<&[f32]> {
    let own = |trace: &'_ ExampleTrace| {
        let hidden = trace.states.len().checked_div(spaces).filter(|hidden| *hidden > 0)?;
        Some(space * hidden..(space + 1) * hidden)
    };
    traces.iter().filter_map(|trace| trace.states.get(own(trace)?)).collect()
}
