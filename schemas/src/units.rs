//! Numbers as people read and write them, with their units.

use std::fmt;

/// A number with a decimal unit: 33.1 M.
pub fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", " k", " M", " G", " T", " P"])
}

/// Bytes with a binary unit: 512.0 MiB.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// A number of things, in words: 1 step, 2 steps.
pub fn plural<N: fmt::Display + PartialEq + From<u8>>(number: N, thing: &str) -> String {
    if number == N::from(1) { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

/// To six significant digits, so that a file in which it stands is readable.
pub fn significant(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// Text that is no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a size above 0, such as 500MB or 20GiB")]
pub struct NotASize;

/// Bytes, from a number with a decimal unit (20GB), a binary one (20GiB) or none.
///
/// # Errors
/// [`NotASize`] for anything else, 0 and more than `i64::MAX` included.
pub fn parse_bytes(text: &str) -> Result<u64, NotASize> {
    const UNITS: [(&str, u64); 10] = [
        ("", 1),
        ("B", 1),
        ("KB", 1000),
        ("KIB", 1 << 10),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("TIB", 1 << 40),
    ];
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let unit = unit.trim_start().to_ascii_uppercase();
    let factor = UNITS.into_iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor as f64);
    let bytes = factor.and_then(|factor| number.parse::<f64>().ok().map(|number| number * factor));
    match bytes {
        Some(bytes) if (1.0..=i64::MAX as f64).contains(&bytes) => Ok(bytes as u64),
        _ => Err(NotASize),
    }
}

fn scaled(mut number: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    if unit == 0 { format!("{number:.0}{}", units[0]) } else { format!("{number:.1}{}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!([count(999.0), count(33_100_000.0)], ["999", "33.1 M"]);
        assert_eq!([bytes(1023), bytes(1536)], ["1023 B", "1.5 KiB"]);
    }

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!([0u64, 1, 2].map(|number| plural(number, "step")), ["0 steps", "1 step", "2 steps"]);
    }

    #[test]
    fn sizes_have_units() {
        let sizes = ["1500", "20GB", "1.5 GiB", "3mb", "2TiB", "7B"].map(|text| parse_bytes(text).unwrap());
        assert_eq!(sizes, [1500, 20_000_000_000, 3 << 29, 3_000_000, 2 << 40, 7]);
        for bad in ["", "GB", "-1GB", "1e3", "0", "0.0GB", "1..5GB", "20 G B", "99999999TB", "nan", "∞", "1é"] {
            assert_eq!(parse_bytes(bad), Err(NotASize), "{bad}");
        }
    }
}
