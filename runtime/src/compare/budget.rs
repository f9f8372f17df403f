//! How many steps an arm may take.

use serde::{Deserialize, Serialize};

/// What each training of a comparison may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// So many steps.
    Steps(u64),
    /// So many seconds of wall clock, the filling of the cache among them; not counted are loading and evaluating.
    Seconds(f64),
}

/// How fast an arm was seen to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// Seconds of a step without a cache.
    pub step: f64,
    /// The part of them that goes where the state at the frost line comes from the cache.
    pub prefix: f64,
}

/// How an arm spends its budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spending {
    /// Steps, at least one; of a budget of seconds as many as are expected, and its clock ends the training.
    pub steps: u64,
    /// Whether the cache is used.
    pub cached: bool,
    /// Seconds that filling it is expected to take, where that is known.
    pub filling: f64,
}

impl Budget {
    /// The seconds, where they are the limit.
    pub(super) fn seconds(self) -> Option<f64> {
        match self {
            Budget::Steps(_) => None,
            Budget::Seconds(seconds) => Some(seconds),
        }
    }

    /// The cache is used where the training comes back to its rows: then its filling is earned back, and no arm lives on
    /// what another one has filled. `passes` are those over all rows that a step makes.
    pub(super) fn spend(self, pace: Pace, passes: f64, may_cache: bool) -> Spending {
        let steps = |seconds: f64, step: f64| (seconds / step.max(1e-6)).floor().clamp(1.0, 1e12) as u64;
        let computed = match self {
            Budget::Steps(steps) => steps,
            Budget::Seconds(seconds) => steps(seconds, pace.step),
        };
        if !may_cache || computed as f64 * passes <= 1.0 {
            return Spending { steps: computed, cached: false, filling: 0.0 };
        }
        let filling = pace.prefix / passes.max(1e-12);
        let steps = match self {
            Budget::Steps(steps) => steps,
            Budget::Seconds(seconds) => steps((seconds - filling).max(0.0), pace.step - pace.prefix),
        };
        Spending { steps, cached: true, filling }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { step: 0.5, prefix: 0.3 };

    #[test]
    fn steps_are_taken_as_they_are() {
        let spent = Budget::Steps(40).spend(PACE, 0.01, true);
        assert_eq!(spent, Spending { steps: 40, cached: false, filling: 0.0 });
        let spent = Budget::Steps(101).spend(PACE, 0.01, true);
        assert!(spent.steps == 101 && spent.cached && (spent.filling - 30.0).abs() < 1e-9, "{spent:?}");
        assert!(!Budget::Steps(1000).spend(PACE, 0.01, false).cached);
    }

    #[test]
    fn seconds_become_steps_and_the_filling_counts() {
        let steps = |seconds, may_cache| Budget::Seconds(seconds).spend(PACE, 0.01, may_cache);
        assert_eq!(steps(100.2, false).steps, 200);
        // 30.0 s of filling, then steps of 0.2 s.
        assert_eq!((steps(100.1, true).steps, steps(100.1, true).cached), (350, true));
        // Shorter than a pass over the rows.
        assert_eq!(steps(40.2, true), Spending { steps: 80, cached: false, filling: 0.0 });
        assert_eq!(steps(0.1, true).steps, 1);
    }
}
