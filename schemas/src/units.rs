//! Numbers as people read them, with their units.

/// A number with a decimal unit: 33.1 M.
pub fn count(number: f64) -> String {
    scaled(number, 1000.0, &["", " k", " M", " G", " T", " P"])
}

/// Bytes with a binary unit: 512.0 MiB.
pub fn bytes(number: u64) -> String {
    scaled(number as f64, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
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
}
