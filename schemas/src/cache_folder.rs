//! Where what is computed once is kept for later runs.

use std::path::PathBuf;

/// Frostline's folder in the platform's cache folder; none where the user has no home directory.
pub fn default_root() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("frostline"))
}
