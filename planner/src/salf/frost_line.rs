//! From the examples' end-of-freezing layers to one frost line, under a budget.

use frostline_schemas::plan::{Aggregate, DecidedBy, Decision};
use frostline_schemas::select::CostTable;

use crate::error::{Error, Result};

/// The frost line that the examples call for. `mean_trace` is the end-of-freezing layer of the mean trace.
pub(crate) fn aggregate(ends: &[usize], mean_trace: usize, aggregate: Aggregate) -> usize {
    match aggregate {
        Aggregate::Median => lower_quantile(ends, 0.5),
        Aggregate::Quantile(q) => lower_quantile(ends, q),
        Aggregate::MeanTrace => mean_trace,
    }
}

/// Element ⌊q (n − 1)⌋ of the n sorted ones; 0 where there are none.
fn lower_quantile(values: &[usize], q: f64) -> usize {
    let mut values = values.to_vec();
    let index = (q.clamp(0.0, 1.0) * values.len().saturating_sub(1) as f64).floor() as usize;
    if values.is_empty() { 0 } else { *values.select_nth_unstable(index).1 }
}

/// Raises a frost line to the lowest one whose step costs at most `budget` of a full step.
///
/// `cost` holds every frost line from 0 to L − 1. At least `min_trainable` layers are left to train; if no such frost
/// line fits, that is an error.
pub(crate) fn within_budget(
    wanted: usize,
    budget: Option<f64>,
    cost: &CostTable,
    min_trainable: usize,
) -> Result<Decision> {
    let layers = cost.frost_lines.len();
    let highest = layers.saturating_sub(min_trainable.max(1));
    let Some(budget) = budget else {
        return Ok(Decision {
            frost_line: wanted,
            decided_by: DecidedBy::Examples,
            before_budget: wanted,
            per_example: None,
            stability: None,
        });
    };
    match (wanted..=highest).find(|&frozen| cost.fits(frozen, budget)) {
        Some(frost_line) => {
            let decided_by = if frost_line == wanted { DecidedBy::Examples } else { DecidedBy::Budget };
            Ok(Decision { frost_line, decided_by, before_budget: wanted, per_example: None, stability: None })
        }
        None => {
            let share = cost.at(highest).map_or(1.0, |cost| cost.share);
            Err(Error::Budget { budget, frozen: highest, layers, share })
        }
    }
}

/// The examples' own frost lines: their end-of-freezing layers, raised to the lowest floor at which the mean step fits the
/// budget. The highest floor always fits where [`within_budget`] has found a frost line.
pub(crate) fn per_example(ends: &[usize], budget: Option<f64>, cost: &CostTable, min_trainable: usize) -> Vec<usize> {
    let highest = cost.frost_lines.len().saturating_sub(min_trainable.max(1));
    let flops = |frost_line: usize| cost.at(frost_line).map_or(0.0, |cost| cost.flops as f64);
    let raised = |floor: usize| ends.iter().map(|&end| end.max(floor)).collect::<Vec<usize>>();
    let fits = |floor: &usize| {
        let mean = raised(*floor).into_iter().map(flops).sum::<f64>() / ends.len().max(1) as f64;
        budget.is_none_or(|budget| mean / flops(0) <= budget)
    };
    raised((0..=highest).find(fits).unwrap_or(highest))
}

#[cfg(test)]
mod tests {
    use frostline_schemas::select::{Cost, StepShape};

    use super::*;

    #[test]
    fn medians_and_quantiles_are_the_lower_ones() {
        let ends = [4, 1, 3, 2];
        assert_eq!(aggregate(&ends, 9, Aggregate::Median), 2);
        assert_eq!(aggregate(&[5, 1, 3], 9, Aggregate::Median), 3);
        assert_eq!(aggregate(&ends, 9, Aggregate::Quantile(0.0)), 1);
        assert_eq!(aggregate(&ends, 9, Aggregate::Quantile(1.0)), 4);
        // 0.7 of three steps is 2.1: the third.
        assert_eq!(aggregate(&ends, 9, Aggregate::Quantile(0.7)), 3);
        assert_eq!(aggregate(&ends, 9, Aggregate::MeanTrace), 9);
    }

    /// A table of steps with so many FLOPs.
    fn table(flops: [u64; 4]) -> CostTable {
        let cost = |(frost_line, flops): (usize, u64)| Cost {
            frost_line,
            trained_parameters: 0,
            flops,
            share: flops as f64 / 10_000.0,
            cached_flops: flops,
            cached_share: 1.0,
            weight_bytes: 0,
            cached_weight_bytes: 0,
            gradient_bytes: 0,
            optimizer_bytes: 0,
            activation_bytes: 0,
        };
        let step = StepShape { rows: 1, tokens_per_row: 1.0, targets_per_row: 1.0 };
        CostTable { step, frost_lines: flops.into_iter().enumerate().map(cost).collect(), planned: None }
    }

    #[test]
    fn a_budget_raises_the_deepest_examples_alone() {
        let cost = table([10_000, 8_000, 6_000, 4_000]);
        assert_eq!(per_example(&[0, 3, 1, 3], None, &cost, 1), [0, 3, 1, 3]);
        // (10 + 4 + 8 + 4) / 4 = 6.5 of 10.
        assert_eq!(per_example(&[0, 3, 1, 3], Some(0.65), &cost, 1), [0, 3, 1, 3]);
        assert_eq!(per_example(&[0, 3, 1, 3], Some(0.6), &cost, 1), [1, 3, 1, 3]);
        assert_eq!(per_example(&[0, 3, 1, 3], Some(0.4), &cost, 1), [3, 3, 3, 3]);
    }

    #[test]
    fn a_share_is_not_rounded_before_it_is_compared() {
        let mut cost = table([1_000_000, 600_040, 500_000, 400_000]);
        cost.frost_lines.iter_mut().for_each(|cost| cost.share = (cost.flops / 100) as f64 / 1e4);
        assert_eq!(cost.frost_lines[1].share, 0.6);
        assert_eq!(within_budget(1, Some(0.6), &cost, 1).unwrap().frost_line, 2);
    }

    #[test]
    fn a_budget_raises_the_frost_line_only_as_far_as_it_must() {
        let cost = table([10_000, 8_000, 6_000, 4_000]);
        let decision = within_budget(1, Some(0.6), &cost, 1).unwrap();
        assert_eq!((decision.frost_line, decision.before_budget), (2, 1));
        assert_eq!(decision.decided_by, DecidedBy::Budget);
        let decision = within_budget(3, Some(0.6), &cost, 1).unwrap();
        assert_eq!((decision.frost_line, decision.decided_by), (3, DecidedBy::Examples));
        let decision = within_budget(1, None, &cost, 1).unwrap();
        assert_eq!((decision.frost_line, decision.decided_by), (1, DecidedBy::Examples));
    }

    #[test]
    fn a_budget_that_leaves_nothing_to_train_is_an_error() {
        let cost = table([10_000, 8_000, 6_000, 4_000]);
        let error = within_budget(1, Some(0.3), &cost, 1).unwrap_err().to_string();
        assert!(error.contains("even with 3 of 4 layers frozen a step costs 0.400"), "{error}");
        assert!(within_budget(1, Some(0.4), &cost, 2).is_err());
    }
}
