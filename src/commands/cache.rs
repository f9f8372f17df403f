//! `frostline cache`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::bail;
use frostline_runtime::cache::{CacheKey, ListedStates};
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
        format!("{}{matrices}{}: {} in all\n", table(&listed), root.display(), bytes(total))
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

/// One line a key, below a title, each column as wide as what is in it.
fn table(listed: &[ListedStates]) -> String {
    let titles = ["key", "family", "frost line", "precision", "examples", "size", "last used"].map(str::to_owned);
    let lines: Vec<[String; 7]> = std::iter::once(titles).chain(listed.iter().map(line)).collect();
    let wide = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let [a, b, c, d, e, f] = [0, 1, 2, 3, 4, 5].map(wide);
    let text = |[key, family, frost_line, precision, examples, size, used]: &[String; 7]| {
        format!("{key:<a$}  {family:<b$}  {frost_line:>c$}  {precision:<d$}  {examples:>e$}  {size:>f$}  {used}\n")
    };
    lines.iter().map(text).collect()
}

fn line(listed: &ListedStates) -> [String; 7] {
    let of_key = |what: fn(&CacheKey) -> String| listed.key.as_ref().map_or_else(|| "?".into(), what);
    [
        listed.digest.short(),
        of_key(|key| key.family.name().into()),
        of_key(|key| key.frost_line.to_string()),
        of_key(|key| key.precision.clone()),
        listed.examples.to_string(),
        bytes(listed.bytes),
        // A time to come is that of a clock that was put back.
        listed.last_used.map_or_else(|| "never".into(), |time| ago(time.elapsed().unwrap_or_default())),
    ]
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
            number => format!("; {} in use and kept", plural(number as u64, "key")),
        };
        let matrices = match grams.len() {
            0 => String::new(),
            1 => " and 1 Gram matrix".into(),
            number => format!(" and {number} Gram matrices"),
        };
        let keys = plural(keys.len() as u64, "key");
        format!("{}: {keys}{matrices} cleared, {} freed{kept}\n", root.display(), bytes(cleared.bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_runtime::cache::StateDtype;
    use frostline_schemas::digest::Digest;
    use frostline_schemas::model::ModelIdentity;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let digest = Digest::of(b"");
        let model = ModelIdentity {
            family: "llama".parse().unwrap(),
            layers: 4,
            hidden_size: 32,
            vocabulary: 61,
            config: digest,
            weights: digest,
            tokenizer: None,
        };
        let listed = |precision: &str, examples| ListedStates {
            digest,
            key: Some(CacheKey::new(&model, 2, StateDtype::F32, precision)),
            examples,
            bytes: 1 << 20,
            last_used: None,
        };
        let table = table(&[listed("f32 on x86-64 with avx512", 7), listed("bf16", 12_345_678_901)]);
        let ends: Vec<Option<usize>> =
            table.lines().map(|line| line.find("  never").or(line.find("  last used"))).collect();
        assert!(ends.iter().all(|end| end.is_some() && *end == ends[0]), "{table}");
    }
}
