//! Values of flags: what a text must be to be one.

#[cfg(any(feature = "plan", feature = "train"))]
use std::fmt;
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

#[cfg(feature = "train")]
impl fmt::Display for NormOrOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(norm) => write!(f, "{norm:?}"),
            None => f.write_str("off"),
        }
    }
}

/// How many of something, or as many as are needed.
#[cfg(feature = "plan")]
#[derive(Clone, Copy)]
pub(super) struct CountOrAuto(pub Option<usize>);

#[cfg(feature = "plan")]
impl fmt::Display for CountOrAuto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => write!(f, "{count}"),
            None => f.write_str("auto"),
        }
    }
}

#[cfg(feature = "plan")]
pub(super) fn count_or_auto(text: &str) -> Result<CountOrAuto, String> {
    match text {
        "auto" => Ok(CountOrAuto(None)),
        _ => at_least_one(text).map(|count| CountOrAuto(Some(count))).map_err(|said| format!("{said}, or auto")),
    }
}

/// Learning rates to try.
#[cfg(all(feature = "plan", feature = "train"))]
#[derive(Clone, Debug, PartialEq)]
pub(super) enum RatesOrAuto {
    Auto,
    These(Vec<f64>),
}

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

#[cfg(all(feature = "plan", feature = "train"))]
pub(super) fn rates(text: &str) -> Result<RatesOrAuto, String> {
    if text == "auto" {
        return Ok(RatesOrAuto::Auto);
    }
    let rates = text.split(',').map(positive).collect::<Result<Vec<f64>, String>>()?;
    let twice = rates.iter().enumerate().any(|(index, rate)| rates[..index].contains(rate));
    if twice { Err("one is there twice".into()) } else { Ok(RatesOrAuto::These(rates)) }
}

/// A share that leaves something.
#[cfg(all(feature = "plan", feature = "train"))]
pub(super) fn part(text: &str) -> Result<f64, String> {
    number(text, |share| share > 0.0 && share < 1.0, "above 0 and below 1")
}

#[cfg(feature = "train")]
pub(super) fn norm_or_off(text: &str) -> Result<NormOrOff, String> {
    if text == "off" { Ok(NormOrOff(None)) } else { positive(text).map(|norm| NormOrOff(Some(norm))) }
}

#[cfg(feature = "train")]
pub(super) fn log_every(text: &str) -> Result<LogEvery, String> {
    match (text, text.parse()) {
        ("auto", _) => Ok(LogEvery::Auto),
        ("off", _) => Ok(LogEvery::Off),
        (_, Ok(steps @ 1..)) => Ok(LogEvery::Steps(steps)),
        _ => Err("must be a number of steps of at least 1, `auto` or `off`".into()),
    }
}

#[cfg(any(feature = "plan", feature = "train"))]
pub(super) fn folder_or_off() -> impl TypedValueParser<Value = FolderOrOff> {
    PathBufValueParser::new().map(|path| match path.to_str() {
        Some("off") => FolderOrOff::Off,
        _ => FolderOrOff::Folder(path),
    })
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "plan")]
    fn rates_are_a_list_or_left_to_the_comparison() {
        assert_eq!(rates("auto"), Ok(RatesOrAuto::Auto));
        assert_eq!(rates("2e-5,1e-3"), Ok(RatesOrAuto::These(vec![2e-5, 1e-3])));
        assert!(["", "2e-5,", "0", "1e-3,0.001", "1e-3,auto"].into_iter().all(|text| rates(text).is_err()));
    }

    #[test]
    fn no_lines_may_be_asked_for() {
        let read = ["auto", "off", "7"].map(|text| log_every(text).unwrap());
        assert_eq!(read, [LogEvery::Auto, LogEvery::Off, LogEvery::Steps(7)]);
        assert!(["0", "-1", "often"].into_iter().all(|text| log_every(text).is_err()));
    }
}
