//! What is kept between runs, and where.

#![cfg(any(feature = "plan", feature = "train"))]

use std::path::PathBuf;

use clap::Args;
#[cfg(feature = "train")]
use clap::{Subcommand, builder::Resettable};
#[cfg(feature = "train")]
use frostline_runtime::cache::{CacheSettings, CacheUse};
use frostline_schemas::cache::{self, Store};
use frostline_schemas::units::parse_bytes;

use super::values::{FolderOrOff, folder_or_off};

/// Where what is computed once is kept: states at frost lines, Gram matrices of LM heads.
#[derive(Args)]
pub(crate) struct CacheFolderArguments {
    /// Folder of the cache, or `off` [default: frostline in the platform's cache folder].
    #[arg(long, value_name = "DIR", env = "FROSTLINE_CACHE", hide_env_values = true, value_parser = folder_or_off())]
    cache: Option<FolderOrOff>,
}

/// The folder of the cache, as flags and platform say.
pub(crate) enum CacheFolder {
    Off,
    /// Nobody named it.
    Default(PathBuf),
    Named(PathBuf),
    /// Nobody named it, and the platform has none.
    Unknown,
}

impl CacheFolderArguments {
    /// Which folder it is.
    pub(crate) fn folder(&self) -> CacheFolder {
        match &self.cache {
            Some(FolderOrOff::Off) => CacheFolder::Off,
            Some(FolderOrOff::Folder(folder)) => CacheFolder::Named(folder.clone()),
            None => cache::default_root().map_or(CacheFolder::Unknown, CacheFolder::Default),
        }
    }
}

/// Whether anything is kept, where, and how much.
#[derive(Args)]
pub(super) struct CacheArguments {
    #[command(flatten)]
    folder: CacheFolderArguments,
    /// Bytes that the cache takes at most, such as 500MB or 20GiB; the least recently used goes first.
    #[arg(long, value_name = "SIZE", default_value = "20GiB", value_parser = parse_bytes)]
    cache_limit: u64,
}

impl CacheArguments {
    /// The cache, where there is a folder to keep something in.
    #[cfg(feature = "plan")]
    pub(crate) fn store(&self) -> Option<Store> {
        match self.folder.folder() {
            CacheFolder::Named(root) | CacheFolder::Default(root) => Some(Store::new(root, self.cache_limit)),
            CacheFolder::Off | CacheFolder::Unknown => None,
        }
    }

    /// A cache in a folder that was named is always used, one in the platform's folder where it pays.
    #[cfg(feature = "train")]
    pub(super) fn settings(&self) -> Option<CacheSettings> {
        let (root, using) = match self.folder.folder() {
            CacheFolder::Off => return None,
            CacheFolder::Named(root) => (root, CacheUse::Always),
            CacheFolder::Default(root) => (root, CacheUse::WhereItPays),
            CacheFolder::Unknown => {
                tracing::warn!("states at the frost line are not cached: there is no home directory to keep them in");
                return None;
            }
        };
        Some(CacheSettings { store: Store::new(root, self.cache_limit), using })
    }
}

/// `frostline cache`.
#[cfg(feature = "train")]
#[derive(Subcommand)]
pub(crate) enum CacheCommand {
    /// Say what is kept for which models and frost lines, and how much it takes.
    #[command(next_help_heading = "Cache")]
    List(CacheFolderArguments),
    /// Remove what is kept and no run is using.
    #[command(next_help_heading = "Cache")]
    Clear {
        /// Beginnings of the keys to clear, as `cache list` shows them [default: all].
        #[arg(value_name = "KEY", help_heading = Resettable::Reset)]
        keys: Vec<String>,
        #[command(flatten)]
        folder: CacheFolderArguments,
    },
}

#[cfg(all(test, feature = "train"))]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn cache_flags_have_defaults() {
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            cache: CacheArguments,
        }
        let flags = |arguments: &[&str]| Flags::try_parse_from([&["train"], arguments].concat()).unwrap().cache;
        assert_eq!(flags(&[]).cache_limit, cache::DEFAULT_LIMIT);
        assert_eq!(flags(&["--cache", "off"]).folder.cache, Some(FolderOrOff::Off));
        assert_eq!(flags(&["--cache", "x/y"]).folder.cache, Some(FolderOrOff::Folder("x/y".into())));
    }
}
