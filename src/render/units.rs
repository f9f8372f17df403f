//! Numbers with their units.

use std::time::Duration;

pub(crate) use frostline_schemas::units::{bytes, count, plural};

/// A number of layers, in words.
pub(crate) fn layers(number: usize) -> String {
    plural(number, "layer")
}

/// A time in its two largest units: 12 s, 3 min 20 s, 2 h 5 min.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// How long ago something was, in its largest unit.
#[cfg(feature = "train")]
pub(crate) fn ago(elapsed: Duration) -> String {
    const UNITS: [(u64, &str); 3] = [(86400, "day"), (3600, "hour"), (60, "minute")];
    let seconds = elapsed.as_secs();
    match UNITS.into_iter().find(|&(unit, _)| seconds >= unit) {
        Some((unit, name)) => format!("{} ago", plural(seconds / unit, name)),
        None => "just now".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!([layers(1), layers(2)], ["1 layer", "2 layers"]);
    }

    #[test]
    #[cfg(any(feature = "plan", feature = "train"))]
    fn times_are_told_in_their_two_largest_units() {
        let said = |seconds| duration(Duration::from_secs_f64(seconds));
        assert_eq!([said(0.2), said(59.4), said(59.6), said(7300.0)], ["0 s", "59 s", "1 min 0 s", "2 h 1 min"]);
    }

    #[test]
    #[cfg(feature = "train")]
    fn what_was_is_told_in_its_largest_unit() {
        let said = |seconds| ago(Duration::from_secs(seconds));
        assert_eq!(
            [said(5), said(61), said(7300), said(86400)],
            ["just now", "1 minute ago", "2 hours ago", "1 day ago"]
        );
    }
}
