//! What arms are measured by, and how it varies over seeds.

/// A number over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation over seeds; `None` for one seed.
    pub deviation: Option<f64>,
    /// Seeds.
    pub seeds: usize,
}

impl Spread {
    /// Of the values of all seeds; `None` where there is none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let seeds = values.len();
        let mean = values.iter().sum::<f64>() / seeds as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let deviation = (seeds > 1).then(|| (squares / (seeds - 1) as f64).sqrt());
        (seeds > 0).then_some(Spread { mean, deviation, seeds })
    }
}

/// By what arms are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Accuracy on the rows to evaluate on.
    Accuracy,
    /// Loss on the rows to evaluate on.
    Loss,
    /// Loss on the rows held back, where there are no others.
    HeldOutLoss,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_have_a_mean_and_a_spread() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[0.5]), Some(Spread { mean: 0.5, deviation: None, seeds: 1 }));
        assert_eq!(Spread::of(&[1.0, 3.0]), Some(Spread { mean: 2.0, deviation: Some(2f64.sqrt()), seeds: 2 }));
    }
}
