//! The Gram matrix WᵀW of an LM head, which planning needs of it besides a few rows: [D, D] in f64, from weights that are
//! read chunk by chunk. It costs V·D² operations and depends on the weights alone, so it is kept for later plans.
//!
//! A kept one is `gram-<key>.safetensors` in the cache's root: its only tensor `gram` holds the matrix, and its metadata
//! the digest of that. One that is broken is as good as none.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par};
use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::files;
use frostline_schemas::model::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Elements of the head that are converted to f64 at a time (32 MiB).
const CHUNK: usize = 1 << 22;
const PREFIX: &str = "gram-";
const SUFFIX: &str = ".safetensors";
const TENSOR: &str = "gram";
/// Where the metadata holds the digest of the tensor's bytes.
const CONTENT: &str = "frostline.content";

/// The Gram matrix of an LM head; its lower triangle alone is filled.
pub struct Gram(pub Mat<f64>);

/// Where the Gram matrix of a model's head is kept.
#[derive(Clone, Debug)]
pub struct Keep {
    root: PathBuf,
    key: Digest,
}

impl Keep {
    /// Below the cache's root, for the head of this name in weights of this digest.
    pub fn new(root: &Path, weights: &Digest, head: &str) -> Keep {
        let mut hasher = Hasher::default();
        hasher.update_framed(b"gram 1");
        hasher.update_framed(weights.as_bytes());
        hasher.update_framed(head.as_bytes());
        Keep { root: root.into(), key: hasher.finish() }
    }

    fn path(&self) -> PathBuf {
        self.root.join(format!("{PREFIX}{}{SUFFIX}", self.key.hex()))
    }

    fn read(&self, width: usize) -> Option<Gram> {
        let map = files::map(&self.path()).ok()?;
        let file = SafeTensors::deserialize(&map).ok()?;
        let (_, metadata) = SafeTensors::read_metadata(&map).ok()?;
        let stated = metadata.metadata().as_ref()?.get(CONTENT)?;
        let view = file.tensor(TENSOR).ok()?;
        let whole = (view.dtype(), view.shape()) == (Dtype::F64, &[width, width]);
        if !whole || Digest::of(view.data()).hex() != *stated {
            tracing::warn!("{}: is not what was written; the Gram matrix is computed anew", self.path().display());
            return None;
        }
        let (values, _) = view.data().as_chunks::<8>();
        let values: Vec<f64> = values.iter().map(|&eight| f64::from_le_bytes(eight)).collect();
        tracing::debug!(path = %self.path().display(), "Gram matrix read");
        Some(Gram(MatRef::from_row_major_slice(&values, width, width).to_owned()))
    }

    /// A matrix that cannot be kept is computed again the next time.
    fn write(&self, gram: &Gram) {
        let written = self.to_bytes(gram).and_then(|bytes| {
            std::fs::create_dir_all(&self.root)?;
            files::write_bytes(&self.path(), &bytes)
        });
        match written {
            Ok(()) => tracing::debug!(path = %self.path().display(), "Gram matrix kept"),
            Err(error) => tracing::warn!("{}: the Gram matrix is not kept: {error}", self.path().display()),
        }
    }

    fn to_bytes(&self, Gram(gram): &Gram) -> std::io::Result<Vec<u8>> {
        let width = gram.nrows();
        let rows = (0..width).flat_map(|row| (0..width).map(move |column| gram[(row, column)]));
        let bytes: Vec<u8> = rows.flat_map(f64::to_le_bytes).collect();
        let view = safetensors::tensor::TensorView::new(Dtype::F64, vec![width, width], &bytes);
        let metadata = HashMap::from([(CONTENT.to_owned(), Digest::of(&bytes).hex())]);
        safetensors::serialize([(TENSOR, view.map_err(std::io::Error::other)?)], Some(metadata))
            .map_err(std::io::Error::other)
    }
}

/// Gram matrices below a cache's root, each with its size in bytes. Of a root that is not there, none.
///
/// # Errors
/// Where the folder cannot be read.
pub fn kept(root: &Path) -> std::io::Result<Vec<(PathBuf, u64)>> {
    let entries = match std::fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let ours = |name: &str| {
            let key = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
            key.is_some_and(|key| Digest::from_hex(key).is_ok())
        };
        if entry.file_name().to_str().is_some_and(ours) && entry.file_type()?.is_file() {
            found.push((entry.path(), entry.metadata()?.len()));
        }
    }
    found.sort();
    Ok(found)
}

impl Gram {
    /// The kept matrix of a head [V, D], or else the matrix itself, which is then kept; `None` for types that are no
    /// floats.
    pub fn kept_or_of(head: TensorView, rows: usize, width: usize, keep: Option<&Keep>) -> Option<Gram> {
        if let Some(gram) = keep.and_then(|keep| keep.read(width)) {
            return Some(gram);
        }
        let gram = Gram::of(head, rows, width)?;
        if let Some(keep) = keep.filter(|_| gram.is_finite()) {
            keep.write(&gram);
        }
        Some(gram)
    }

    /// Whether the weights were free of infinities and NaNs.
    pub fn is_finite(&self) -> bool {
        (0..self.0.nrows()).all(|i| self.0[(i, i)].is_finite())
    }

    fn of(head: TensorView, rows: usize, width: usize) -> Option<Gram> {
        let mut gram = Mat::zeros(width, width);
        let most = (CHUNK / width).max(1);
        let mut narrow = Vec::new();
        let mut wide = Vec::new();
        for start in (0..rows).step_by(most) {
            let here = most.min(rows - start);
            narrow.resize(here * width, 0.0);
            if !head.read_f32(start * width, &mut narrow) {
                return None;
            }
            wide.clear();
            wide.extend(narrow.iter().map(|&x| f64::from(x)));
            let chunk = MatRef::from_row_major_slice(&wide, here, width);
            let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
            matmul(gram.as_mut(), lower, Accum::Add, chunk.transpose(), whole, chunk, whole, 1.0, Par::rayon(0));
        }
        Some(Gram(gram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: [f32; 6] = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];

    fn gram(keep: &Keep) -> Mat<f64> {
        let bytes: Vec<u8> = WEIGHTS.iter().flat_map(|x| x.to_le_bytes()).collect();
        let head = TensorView { dtype: Dtype::F32, shape: &[3, 2], bytes: &bytes };
        Gram::kept_or_of(head, 3, 2, Some(keep)).unwrap().0
    }

    #[test]
    fn a_kept_matrix_is_read_and_a_broken_one_is_computed_anew() {
        let root = tempfile::tempdir().unwrap();
        let keep = Keep::new(root.path(), &Digest::of(b"weights"), "head");
        let fresh = gram(&keep);
        assert_eq!([fresh[(0, 0)], fresh[(1, 0)], fresh[(1, 1)]], [2.0, 1.0, 2.0]);
        assert_eq!(keep.read(2).unwrap().0, fresh);
        assert!(keep.read(3).is_none());
        assert_eq!(kept(root.path()).unwrap().len(), 1);

        let mut bytes = std::fs::read(keep.path()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(keep.path(), &bytes).unwrap();
        assert!(keep.read(2).is_none());
        assert_eq!(gram(&keep), fresh);
        assert_eq!(keep.read(2).unwrap().0, fresh);
    }

    #[test]
    fn other_weights_have_another_key() {
        let at = |weights: &[u8], head| Keep::new(Path::new(""), &Digest::of(weights), head).path();
        assert_ne!(at(b"a", "head"), at(b"b", "head"));
        assert_ne!(at(b"a", "head"), at(b"a", "other"));
    }

    #[test]
    fn of_a_folder_that_is_not_there_nothing_is_kept() {
        assert!(kept(Path::new("/nonexistent/frostline")).unwrap().is_empty());
    }
}
