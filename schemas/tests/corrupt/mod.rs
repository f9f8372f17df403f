//! Corrupts what is valid, so that a test reaches the code behind the parser.

#![allow(dead_code, reason = "each test file uses its own part")]

use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A change of bytes: where (as a share of the length), how, and the byte to use.
pub(crate) type ByteChange = (f64, u8, u8);
/// A change of a JSON value: the number of the value in the order of its document (modulo their count), and what to do.
pub(crate) type ValueChange = (usize, usize);

pub(crate) fn byte_changes() -> impl Strategy<Value = Vec<ByteChange>> {
    prop::collection::vec((0.0..1.0f64, 0u8..4, any::<u8>()), 1..4)
}

pub(crate) fn value_changes() -> impl Strategy<Value = Vec<ValueChange>> {
    prop::collection::vec((any::<usize>(), 0usize..=REPLACEMENTS), 1..4)
}

/// Replaces, deletes, inserts or flips bits of bytes.
pub(crate) fn bytes(valid: &[u8], changes: &[ByteChange]) -> Vec<u8> {
    let mut out = valid.to_vec();
    for &(share, how, byte) in changes {
        let at = (share * out.len() as f64) as usize;
        match how {
            _ if out.is_empty() => {}
            0 => out[at] = byte,
            1 => drop(out.remove(at)),
            2 => out.insert(at, byte),
            _ => out[at] ^= byte,
        }
    }
    out
}

const REPLACEMENTS: usize = 16;

fn replacement(number: usize) -> Json {
    let all: [Json; REPLACEMENTS] = [
        json!(null),
        json!(true),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(7),
        json!(-1),
        json!(-100),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(1e308),
        json!(0.5),
        json!(""),
        json!([]),
        json!({}),
    ];
    all[number].clone()
}

/// Replaces values of a document by others, or takes them out of their object or list.
pub(crate) fn values(mut document: Json, changes: &[ValueChange]) -> Json {
    for &(number, what) in changes {
        let count = count(&document);
        if count > 0 {
            change(&mut document, &mut (number % count), what);
        }
    }
    document
}

/// The values inside a value, at any depth.
fn count(value: &Json) -> usize {
    match value {
        Json::Object(fields) => fields.values().map(|inner| 1 + count(inner)).sum(),
        Json::Array(items) => items.iter().map(|inner| 1 + count(inner)).sum(),
        _ => 0,
    }
}

/// Counts down through the values inside; whether the one to change was met.
fn change(value: &mut Json, left: &mut usize, what: usize) -> bool {
    let remove = what == REPLACEMENTS;
    match value {
        Json::Object(fields) => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            for key in keys {
                if *left == 0 {
                    if remove {
                        drop(fields.remove(&key))
                    } else {
                        fields[&key] = replacement(what)
                    }
                    return true;
                }
                *left -= 1;
                if change(&mut fields[&key], left, what) {
                    return true;
                }
            }
        }
        Json::Array(items) => {
            for i in 0..items.len() {
                if *left == 0 {
                    if remove {
                        drop(items.remove(i))
                    } else {
                        items[i] = replacement(what)
                    }
                    return true;
                }
                *left -= 1;
                if change(&mut items[i], left, what) {
                    return true;
                }
            }
        }
        _ => {}
    }
    false
}
