//! Puts the results of all shards together into those of the whole comparison, once each is known to be a part of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use frostline_schemas::digest::Digest;
use frostline_schemas::units::plural;
use serde_json::{Value as Json, json};

use crate::compare::arm::ArmResult;
use crate::compare::budget::Budget;
use crate::compare::results::{ResultsError, ResultsOrigin, ShardResults};

/// Differences that a message names.
const NAMED: usize = 4;

impl ShardResults {
    /// The results of all arms, in their order, and what they come from. Files may be in any order.
    ///
    /// # Errors
    /// Those of [`ShardResults::read`]; [`ResultsError::Unlike`] and [`ResultsError::OtherThreads`] where the shards are
    /// not of one comparison, [`ResultsError::Twice`] and [`ResultsError::Missing`] where they are not all of it.
    pub fn merge(files: &[PathBuf]) -> Result<(ResultsOrigin, Vec<ArmResult>), ResultsError> {
        let mut seen: BTreeMap<usize, (&Path, ShardResults)> = BTreeMap::new();
        for path in files {
            let part = ShardResults::read(path)?;
            if let Some((other, first)) = seen.values().next() {
                check_alike(path, &part, other, first)?;
            }
            if let Some((other, part)) = seen.insert(part.shard.number(), (path, part)) {
                return Err(ResultsError::Twice { path: path.clone(), other: other.into(), shard: part.shard });
            }
        }
        let (path, first) = seen.values().next().ok_or(ResultsError::NoFiles)?;
        let (shard, origin) = (first.shard, first.origin.clone());
        if let Some(missing) = shard.missing(seen.len(), |number| seen.contains_key(&number)) {
            return Err(ResultsError::Missing { path: (*path).into(), shard, missing });
        }
        // As they were dealt: one of each shard, then the next of each.
        let mut shards: Vec<_> = seen.into_values().map(|(_, part)| part.arms.into_iter()).collect();
        let mut arms = Vec::new();
        while let Some(round) = some(shards.iter_mut().filter_map(Iterator::next).collect()) {
            arms.extend(round);
        }
        Ok((origin, arms))
    }
}

fn some<T>(things: Vec<T>) -> Option<Vec<T>> {
    (!things.is_empty()).then_some(things)
}

/// Checks that two shards are of one comparison.
fn check_alike(path: &Path, part: &ShardResults, other: &Path, first: &ShardResults) -> Result<(), ResultsError> {
    let mut differences = Vec::new();
    if part.shard.of() != first.shard.of() {
        differences.push(format!("`shard` is {}, there {}", part.shard, first.shard));
    }
    find_differences("", &json!(part.origin), &json!(first.origin), &mut differences);
    if !differences.is_empty() {
        let more = differences.len().saturating_sub(NAMED);
        differences.truncate(NAMED);
        if more > 0 {
            differences.push(format!("and {more} more"));
        }
        return Err(ResultsError::Unlike { path: path.into(), other: other.into(), differences });
    }
    match part.origin.budget {
        Budget::Seconds(seconds) if part.threads != first.threads => {
            let [own, others] = [part, first].map(|part| plural(part.threads, "thread"));
            Err(ResultsError::OtherThreads { path: path.into(), other: other.into(), seconds, own, others })
        }
        _ => Ok(()),
    }
}

/// Names each field that differs, with both values.
fn find_differences(place: &str, own: &Json, other: &Json, found: &mut Vec<String>) {
    if own == other {
        return;
    }
    let (Some(fields), Some(others)) = (own.as_object(), other.as_object()) else {
        return found.push(format!("`{place}` is {}, there {}", shown(own), shown(other)));
    };
    let only_there = others.keys().filter(|key| !fields.contains_key(*key));
    for key in fields.keys().chain(only_there) {
        let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        let value = |of: &serde_json::Map<String, Json>| of.get(key).cloned().unwrap_or(Json::Null);
        find_differences(&place, &value(fields), &value(others), found);
    }
}

/// A value for people: digests short, and arms by their strategy and method.
fn shown(value: &Json) -> String {
    match value {
        Json::String(text) => text.parse().map_or_else(|_| text.clone(), |digest: Digest| digest.short()),
        Json::Array(list) => format!("[{}]", list.iter().map(shown).collect::<Vec<String>>().join(", ")),
        Json::Object(fields) if fields.len() == 1 => {
            fields.iter().map(|(key, value)| format!("{key} {}", shown(value))).collect()
        }
        Json::Object(fields) => fields.values().map(shown).collect::<Vec<String>>().join(" "),
        other => other.to_string(),
    }
}
