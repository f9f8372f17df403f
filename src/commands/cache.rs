//! `frostline cache`.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::bail;
use frostline_runtime::cache::{self, Listed};
use serde_json::{Value as Json, json};

use crate::arguments::{CacheCommand, CachePlace, CachePlaceArguments};
use crate::output::Output;
use crate::show::bytes;

pub fn run(command: &CacheCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        CacheCommand::List(place) => list(root(place)?, output),
        CacheCommand::Clear { keys, .. } if keys.iter().any(String::is_empty) => {
            bail!("an empty KEY is the beginning of every key; name none to clear all")
        }
        CacheCommand::Clear { keys, place } => clear(root(place)?, keys, output),
    }
}

fn root(place: &CachePlaceArguments) -> anyhow::Result<PathBuf> {
    match &place.cache {
        Some(CachePlace::Folder(folder)) => Ok(folder.clone()),
        Some(CachePlace::Off) => bail!("the cache is off; give its folder with --cache DIR"),
        None => Ok(cache::default_root()?),
    }
}

fn list(root: PathBuf, output: &Output) -> anyhow::Result<()> {
    let listed = cache::list(&root)?;
    let total: u64 = listed.iter().map(|listed| listed.bytes).sum();
    let summary = json!({"cache": root, "bytes": total, "keys": listed.iter().map(to_json).collect::<Vec<_>>()});
    output.result(&summary, || {
        if listed.is_empty() {
            return format!("{}: nothing is cached\n", root.display());
        }
        let title = "key           family   frost line  precision    examples        size  last used\n";
        let rows: String = listed.iter().map(to_text).collect();
        format!("{title}{rows}{}: {} in all\n", root.display(), bytes(total))
    })
}

fn to_json(listed: &Listed) -> Json {
    let last_used = listed.last_used.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    json!({
        "key": listed.digest,
        "of": listed.key,
        "examples": listed.examples,
        "bytes": listed.bytes,
        "last_used_unix_seconds": last_used.map(|time| time.as_secs()),
    })
}

fn to_text(listed: &Listed) -> String {
    let (family, frost_line, precision) = listed
        .key
        .as_ref()
        .map_or(("?", "?".into(), "?"), |key| (key.family.name(), key.frost_line.to_string(), key.precision.as_str()));
    format!(
        "{}  {family:<8} {frost_line:>10}  {precision:<10} {:>10}  {:>10}  {}\n",
        listed.digest.short(),
        listed.examples,
        bytes(listed.bytes),
        listed.last_used.map_or_else(|| "never".into(), ago)
    )
}

/// How long ago something was, in its largest unit.
fn ago(time: SystemTime) -> String {
    const UNITS: [(u64, &str); 3] = [(86400, "day"), (3600, "hour"), (60, "minute")];
    // A time to come is that of a clock that was put back.
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match UNITS.into_iter().find(|&(unit, _)| seconds >= unit) {
        Some((unit, name)) => {
            let number = seconds / unit;
            format!("{number} {name}{} ago", if number == 1 { "" } else { "s" })
        }
        None => "just now".into(),
    }
}

fn clear(root: PathBuf, keys: &[String], output: &Output) -> anyhow::Result<()> {
    let cleared = cache::clear(&root, keys)?;
    let summary = json!({"cache": root, "cleared": cleared.keys, "in_use": cleared.in_use, "bytes": cleared.bytes});
    output.result(&summary, || {
        let kept = match cleared.in_use.len() {
            0 => String::new(),
            number => format!("; of {} something is in use and stays", plural(number)),
        };
        format!("{}: {} cleared, {} freed{kept}\n", root.display(), plural(cleared.keys.len()), bytes(cleared.bytes))
    })
}

fn plural(keys: usize) -> String {
    if keys == 1 { "1 key".into() } else { format!("{keys} keys") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let said = |seconds| ago(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!(
            [said(5), said(61), said(7300), said(86400)],
            ["just now", "1 minute ago", "2 hours ago", "1 day ago"]
        );
        assert_eq!(ago(SystemTime::now() + Duration::from_secs(100)), "just now");
    }
}
