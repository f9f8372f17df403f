//! What a plan says of layers beside their gains, each signal in a column of its own.

use frostline_schemas::plan::{Plan, SpaceMeasured};

/// A signal.
#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Variability,
    CkaDistance,
    Fall,
}

impl Signal {
    pub(crate) const ALL: [Signal; 3] = [Signal::Variability, Signal::CkaDistance, Signal::Fall];

    pub(crate) fn title(&self) -> &'static str {
        match self {
            Signal::Variability => "ν",
            Signal::CkaDistance => "1-CKA",
            Signal::Fall => "fall",
        }
    }

    /// Of its column, with what is before it.
    pub(crate) fn width(&self) -> usize {
        match self {
            Signal::Variability => 8,
            Signal::CkaDistance => 7,
            Signal::Fall => 9,
        }
    }

    pub(crate) fn meaning(&self) -> &'static str {
        match self {
            Signal::Variability => "spread of states within labels against between them; low: told apart",
            Signal::CkaDistance => "how much the layer changes what tells examples apart, from 0 to 1",
            Signal::Fall => "of the loss held out, to first order, for each unit of learning rate",
        }
    }

    pub(crate) fn of(&self, plan: &Plan, space: &SpaceMeasured) -> Option<f64> {
        match self {
            Signal::Variability => space.variability,
            Signal::CkaDistance => space.cka_distance,
            Signal::Fall => {
                let layers = plan.gradients.as_ref().map(|card| &card.layers)?;
                layers.iter().find(|layer| layer.layer == space.space).map(|layer| layer.held_out_fall)
            }
        }
    }

    pub(crate) fn is_in(&self, plan: &Plan) -> bool {
        plan.spaces.iter().any(|space| self.of(plan, space).is_some())
    }

    pub(crate) fn shown(&self, plan: &Plan, space: &SpaceMeasured) -> String {
        match (self, self.of(plan, space)) {
            (_, None) => "-".into(),
            (Signal::Variability, Some(value)) if value < 1e3 => format!("{value:.3}"),
            (Signal::CkaDistance, Some(value)) => format!("{value:.4}"),
            (Signal::Variability | Signal::Fall, Some(value)) => format!("{value:.1e}"),
        }
    }
}
