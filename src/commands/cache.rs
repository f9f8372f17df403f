//! `frostline cache`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::bail;
use frostline_runtime::cache::ListedStates;
use frostline_schemas::cache::{self, Content, EntryId};
use serde_json::{Value as Json, json};

use crate::arguments::{CacheCommand, CacheFolder};
use crate::output::Output;
use crate::render::units::{ago, bytes, plural};

pub(crate) fn run(command: &CacheCommand, output: &Output) -> anyhow::Result<()> {
    match command {
        CacheCommand::List(folder) => list(root(folder.folder())?, output),
        CacheCommand::Clear { keys, .. } if keys.iter().any(String::is_empty) => {
            bail!("an empty KEY would match every key; give none to clear all")
        }
        CacheCommand::Clear { keys, folder } => clear(root(folder.folder())?, keys, output),
    }
}

fn root(folder: CacheFolder) -> anyhow::Result<PathBuf> {
    match folder {
        CacheFolder::Named(root) | CacheFolder::Default(root) => Ok(root),
        CacheFolder::Off => bail!("the cache is off; give its folder with --cache DIR"),
        CacheFolder::Unknown => {
            bail!("there is no home directory with a cache in it; give its folder with --cache DIR")
        }
    }
}

fn list(root: PathBuf, output: &Output) -> anyhow::Result<()> {
    let (listed, grams) = (frostline_runtime::cache::list(&root)?, grams(&root)?);
    let of_grams: u64 = grams.iter().map(|gram| gram.bytes).sum();
    let total = of_grams + listed.iter().map(|listed| listed.bytes).sum::<u64>();
    let summary = json!({
        "cache": root,
        "bytes": total,
        "keys": listed.iter().map(to_json).collect::<Vec<_>>(),
        "gram_matrices": {"files": grams.len(), "bytes": of_grams},
    });
    output.result(&summary, || {
        if listed.is_empty() && grams.is_empty() {
            return format!("{}: nothing is cached\n", root.display());
        }
        let matrices = match grams.len() {
            0 => String::new(),
            number => format!("Gram matrices of LM heads: {number}, {}\n", bytes(of_grams)),
        };
        if listed.is_empty() {
            return format!("{matrices}{}: {} in all\n", root.display(), bytes(total));
        }
        let title = "key           family   frost line  precision    examples        size  last used\n";
        let rows: String = listed.iter().map(to_text).collect();
        format!("{title}{rows}{matrices}{}: {} in all\n", root.display(), bytes(total))
    })
}

/// What planning keeps.
fn grams(root: &Path) -> anyhow::Result<Vec<cache::Listed>> {
    let listed = cache::list(root)?.into_iter();
    Ok(listed.filter(|listed| listed.id.content == Content::GramMatrix && !listed.files.is_empty()).collect())
}

fn to_json(listed: &ListedStates) -> Json {
    let last_used = listed.last_used.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    json!({
        "key": listed.digest,
        "of": listed.key,
        "examples": listed.examples,
        "bytes": listed.bytes,
        "last_used_unix_seconds": last_used.map(|time| time.as_secs()),
    })
}

fn to_text(listed: &ListedStates) -> String {
    let (family, frost_line, precision) = listed
        .key
        .as_ref()
        .map_or(("?", "?".into(), "?"), |key| (key.family.name(), key.frost_line.to_string(), key.precision.as_str()));
    format!(
        "{}  {family:<8} {frost_line:>10}  {precision:<10} {:>10}  {:>10}  {}\n",
        listed.digest.short(),
        listed.examples,
        bytes(listed.bytes),
        // A time to come is that of a clock that was put back.
        listed.last_used.map_or_else(|| "never".into(), |time| ago(time.elapsed().unwrap_or_default()))
    )
}

fn clear(root: PathBuf, keys: &[String], output: &Output) -> anyhow::Result<()> {
    let cleared = cache::clear(&root, keys)?;
    let of = |ids: &[EntryId], content| -> Vec<_> {
        ids.iter().filter(|id| id.content == content).map(|id| id.key).collect()
    };
    let keys = of(&cleared.removed, Content::States);
    let grams = of(&cleared.removed, Content::GramMatrix);
    let in_use: Vec<_> = cleared.in_use.iter().map(|id| id.key).collect();
    let summary = json!({"cache": root, "cleared": cleared.removed.iter().map(|id| id.key).collect::<Vec<_>>(),
        "in_use": in_use, "bytes": cleared.bytes});
    output.result(&summary, || {
        let kept = match cleared.in_use.len() {
            0 => String::new(),
            number => format!("; {} in use and kept", plural(number, "key")),
        };
        let matrices = match grams.len() {
            0 => String::new(),
            1 => " and 1 Gram matrix".into(),
            number => format!(" and {number} Gram matrices"),
        };
        let keys = plural(keys.len(), "key");
        format!("{}: {keys}{matrices} cleared, {} freed{kept}\n", root.display(), bytes(cleared.bytes))
    })
}
