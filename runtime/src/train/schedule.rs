//! How the learning rate runs over a training.

use frostline_schemas::run::{Schedule, TrainingSettings};

/// The share of a training that has passed before a step, counted from 0, where its length is counted in steps.
pub(super) fn passed(settings: &TrainingSettings, step: u64) -> f64 {
    step as f64 / settings.steps.max(1) as f64
}

/// The learning rate of step s, counted from 0: `learning_rate · min(1, (s + 1)/w) · decay(passed)` with w warm-up steps
/// and the share of the training that has passed; decay(x) is 1, 1 − x or (1 + cos πx)/2.
pub(super) fn learning_rate(settings: &TrainingSettings, step: u64, passed: f64) -> f64 {
    let warmup = ((step + 1) as f64 / settings.warmup_steps.max(1) as f64).min(1.0);
    let passed = passed.clamp(0.0, 1.0);
    let decay = match settings.schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => 1.0 - passed,
        Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * passed).cos()),
    };
    settings.learning_rate * warmup * decay
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::run::{Order, TrainingMethod};

    fn settings(schedule: Schedule, warmup_steps: u64) -> TrainingSettings {
        TrainingSettings {
            method: TrainingMethod::Full,
            steps: 100,
            batch_size: 1,
            accumulation: 1,
            learning_rate: 2.0,
            schedule,
            warmup_steps,
            weight_decay: 0.0,
            gradient_clip: None,
            max_length: 8,
            order: Order::File,
            seed: 0,
        }
    }

    #[test]
    fn rates_follow_their_formulas() {
        let rate = |schedule, warmup, step| {
            let settings = settings(schedule, warmup);
            learning_rate(&settings, step, passed(&settings, step))
        };
        assert_eq!(rate(Schedule::Constant, 0, 0), 2.0);
        assert_eq!(rate(Schedule::Constant, 10, 0), 0.2);
        assert_eq!(rate(Schedule::Constant, 10, 99), 2.0);
        assert_eq!(rate(Schedule::Linear, 10, 4), 2.0 * 0.5 * 0.96);
        assert_eq!(rate(Schedule::Linear, 10, 50), 1.0);
        assert!((rate(Schedule::Cosine, 1, 50) - 1.0).abs() < 1e-12);
        assert!(rate(Schedule::Cosine, 1, 99) < 1e-3);
    }

    #[test]
    fn a_rate_follows_the_share_that_has_passed() {
        let rate = |warmup, step, passed| learning_rate(&settings(Schedule::Linear, warmup), step, passed);
        assert_eq!([rate(0, 3, 0.0), rate(0, 3, 0.25), rate(10, 0, 0.5), rate(0, 3, 1.5)], [2.0, 1.5, 0.1, 0.0]);
    }
}
