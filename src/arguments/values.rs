//! Values of flags: what a text must be to be one.

#[cfg(any(feature = "plan", feature = "train"))]
use std::path::PathBuf;

#[cfg(any(feature = "plan", feature = "train"))]
use clap::builder::{PathBufValueParser, TypedValueParser};

/// Where something is kept, if it is.
#[cfg(any(feature = "plan", feature = "train"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FolderOrOff {
    Off,
    Folder(PathBuf),
}

/// The largest gradient norm, if there is one.
#[cfg(feature = "train")]
#[derive(Clone, Copy)]
pub(super) struct NormOrOff(pub Option<f64>);

/// How often training says on stderr how it goes.
#[cfg(feature = "train")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEvery {
    /// Ten times a run, more often where that takes long; on a terminal a bar says it.
    Auto,
    Off,
    Steps(u64),
}

#[cfg(any(feature = "plan", feature = "train"))]
pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number".into()),
    }
}

#[cfg(any(feature = "plan", feature = "train"))]
fn number(text: &str, fits: impl Fn(f64) -> bool, what: &str) -> Result<f64, String> {
    text.parse().ok().filter(|&number| fits(number)).ok_or_else(|| format!("must be a number {what}"))
}

#[cfg(any(feature = "plan", feature = "train"))]
pub(super) fn threads(text: &str) -> Result<usize, String> {
    const MOST: usize = 1024;
    at_least_one(text).and_then(|n| if n <= MOST { Ok(n) } else { Err(format!("must be at most {MOST}")) })
}

#[cfg(feature = "plan")]
pub(super) fn share(text: &str) -> Result<f64, String> {
    number(text, |share| share > 0.0 && share <= 1.0, "above 0 and at most 1")
}

#[cfg(feature = "train")]
pub(super) fn epochs(text: &str) -> Result<f64, String> {
    number(text, |epochs| epochs > 0.0 && epochs <= 1e6, "above 0 and at most a million")
}

#[cfg(feature = "train")]
pub(super) fn positive(text: &str) -> Result<f64, String> {
    number(text, |number| number > 0.0 && number.is_finite(), "above 0")
}

#[cfg(feature = "train")]
pub(super) fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |number| number >= 0.0 && number.is_finite(), "not below 0")
}

#[cfg(feature = "train")]
pub(super) fn norm_or_off(text: &str) -> Result<NormOrOff, String> {
    if text == "off" { Ok(NormOrOff(None)) } else { positive(text).map(|norm| NormOrOff(Some(norm))) }
}

#[cfg(feature = "train")]
pub(super) fn log_every(text: &str) -> Result<LogEvery, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(LogEvery::Auto),
        ("off", _) | (_, Ok(0)) => Ok(LogEvery::Off),
        (_, Ok(steps)) => Ok(LogEvery::Steps(steps)),
        _ => Err("must be a number of steps, `auto` or `off`".into()),
    }
}

#[cfg(any(feature = "plan", feature = "train"))]
pub(super) fn folder_or_off() -> impl TypedValueParser<Value = FolderOrOff> {
    PathBufValueParser::new().map(|path| match path.to_str() {
        Some("off") => FolderOrOff::Off,
        _ => FolderOrOff::Folder(path),
    })
}

/// Bytes, with a decimal unit (20GB), a binary one (20GiB) or none.
#[cfg(any(feature = "plan", feature = "train"))]
pub(super) fn size(text: &str) -> Result<u64, String> {
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
        _ => Err("must be a size above 0, such as 500MB or 20GiB".into()),
    }
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["1500", "20GB", "1.5 GiB", "3mb", "2TiB", "7B"].map(|text| size(text).unwrap());
        assert_eq!(sizes, [1500, 20_000_000_000, 3 << 29, 3_000_000, 2 << 40, 7]);
        for bad in ["", "GB", "-1GB", "1e3", "0", "0.0GB", "1..5GB", "20 G B", "99999999TB", "nan", "∞", "1é"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_lines_may_be_asked_for() {
        let read = ["auto", "off", "0", "7"].map(|text| log_every(text).unwrap());
        assert_eq!(read, [LogEvery::Auto, LogEvery::Off, LogEvery::Off, LogEvery::Steps(7)]);
        assert!(log_every("-1").is_err() && log_every("often").is_err());
    }
}
