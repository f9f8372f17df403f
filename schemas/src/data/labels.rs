//! The classes of examples whose completions are labels.

use std::collections::HashMap;

use super::end::are_labels;
use crate::data::Example;

/// The class of each example, counted from 0 in the order in which they are first seen, where the completions are labels: at
/// most [`MAX_LABELS`](crate::data::MAX_LABELS) distinct ones, each on average twice. An example that is no prompt with
/// one completion has no class.
pub fn labels(examples: &[Example]) -> Option<Vec<Option<usize>>> {
    let mut classes: HashMap<&[u32], usize> = HashMap::new();
    let mut found = Vec::with_capacity(examples.len());
    for example in examples {
        let completion = example.completion().filter(|completion| completion.words > 0);
        found.push(completion.map(|completion| {
            let next = classes.len();
            *classes.entry(completion.tokens).or_insert(next)
        }));
    }
    are_labels(classes.len(), found.iter().flatten().count()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Target;

    /// A prompt of two tokens, with these behind it.
    fn example(completion: &[u32]) -> Example {
        let targets = completion.iter().zip(1..).map(|(&token, position)| Target { position, token }).collect();
        Example::new(1, [&[1, 2], completion].concat(), targets)
    }

    #[test]
    fn classes_are_counted_as_they_are_seen() {
        let examples = [&[7, 8][..], &[9], &[7, 8], &[9], &[9]].map(example);
        assert_eq!(labels(&examples).unwrap(), [0, 1, 0, 1, 1].map(Some));
    }

    #[test]
    fn an_example_without_a_completion_has_no_class() {
        let text = Example::new(1, vec![1, 2], vec![Target { position: 0, token: 2 }]);
        let examples = [example(&[7]), text, example(&[8]), example(&[7]), example(&[8])];
        assert_eq!(labels(&examples).unwrap(), [Some(0), None, Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn completions_that_seldom_repeat_are_no_labels() {
        assert_eq!(labels(&[7, 8, 9].map(|token| example(&[token]))), None);
        assert_eq!(labels(&[7, 7, 7].map(|token| example(&[token]))), None);
        assert_eq!(labels(&[]), None);
    }
}
