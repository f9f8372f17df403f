//! The Gram matrix WᵀW of an LM head, which planning needs of it besides a few rows: [D, D] in f64, from weights that are
//! read chunk by chunk. It costs V·D² operations and depends on the weights alone, so it is kept for later plans.
//!
//! A kept one is the one file of its entry in the cache: its only tensor `gram` holds the matrix, and its metadata the
//! digest of that. One that is broken is removed and computed again.

use std::collections::HashMap;

use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::{Accum, Mat, MatRef, Par};
use frostline_schemas::cache::{CacheError, Content, EntryId, Store, discard, lock_in_use};
use frostline_schemas::digest::{Digest, Hasher};
use frostline_schemas::files;
use frostline_schemas::model::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

/// Elements of the head that are converted to f64 at a time (32 MiB).
const CHUNK: usize = 1 << 22;
/// To be raised with every change to the file's format or to the arithmetic that the matrix comes from.
const FORMAT: u64 = 2;
const TENSOR: &str = "gram";
/// Where the metadata holds the digest of the tensor's bytes.
const CONTENT: &str = "frostline.content";

/// The Gram matrix of an LM head; its lower triangle alone is filled.
pub(crate) struct Gram(pub Mat<f64>);

/// Where the Gram matrix of a model's head is kept.
#[derive(Clone, Debug)]
pub(crate) struct GramCache {
    store: Store,
    key: GramKey,
}

/// What decides on a Gram matrix.
#[derive(Clone, Debug, Serialize)]
struct GramKey {
    /// Digest of the model's weights.
    weights: Digest,
    /// Name of the head.
    head: String,
}

impl GramKey {
    fn entry(&self) -> EntryId {
        let mut hasher = Hasher::default();
        hasher.update_framed(&FORMAT.to_le_bytes());
        hasher.update_framed(self.weights.as_bytes());
        hasher.update_framed(self.head.as_bytes());
        EntryId { content: Content::GramMatrix, key: hasher.finish() }
    }
}

impl GramCache {
    /// In a cache, for the head of this name in weights of this digest.
    pub(crate) fn new(store: Store, weights: &Digest, head: &str) -> GramCache {
        GramCache { store, key: GramKey { weights: *weights, head: head.into() } }
    }

    fn read(&self, width: usize) -> Option<Gram> {
        let _lock = self.store.lock();
        let files = self.store.files(&self.key.entry());
        let files = files.inspect_err(|error| tracing::warn!("no Gram matrix is read: {error}")).ok()?;
        files.iter().find_map(|path| {
            let _in_use = lock_in_use(path);
            let map = files::map(path).inspect_err(|error| tracing::debug!("{}: {error}", path.display())).ok()?;
            let gram = parse(&map, width);
            match gram {
                Some(_) => tracing::debug!(path = %path.display(), "Gram matrix read"),
                None => discard(path, "not the Gram matrix that was written"),
            }
            gram
        })
    }

    /// A matrix that cannot be kept is computed again the next time.
    fn write(&self, gram: &Gram) {
        if let Err(error) = self.try_write(gram) {
            tracing::warn!("the Gram matrix of `{}` is not kept: {error}", self.key.head);
        }
    }

    fn try_write(&self, gram: &Gram) -> Result<(), CacheError> {
        let (store, entry) = (&self.store, self.key.entry());
        let path = store.only_file(&entry);
        let failed = |source| CacheError::File { path: path.clone(), source };
        let bytes = to_bytes(gram).map_err(failed)?;
        store.make_root()?;
        let _lock = store.lock();
        store.make_room(bytes.len() as u64)?;
        store.make_folder(&entry, &self.key)?;
        files::write_bytes(&path, &bytes).map_err(failed)?;
        tracing::debug!(path = %path.display(), "Gram matrix kept");
        Ok(())
    }
}

/// The matrix that a file's bytes hold; `None` where they are not what was written.
fn parse(bytes: &[u8], width: usize) -> Option<Gram> {
    let file = SafeTensors::deserialize(bytes).ok()?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let stated = metadata.metadata().as_ref()?.get(CONTENT)?;
    let view = file.tensor(TENSOR).ok()?;
    let whole = (view.dtype(), view.shape()) == (Dtype::F64, &[width, width]);
    if !whole || Digest::of(view.data()).hex() != *stated {
        return None;
    }
    let (values, _) = view.data().as_chunks::<8>();
    let values: Vec<f64> = values.iter().map(|&eight| f64::from_le_bytes(eight)).collect();
    Some(Gram(MatRef::from_row_major_slice(&values, width, width).to_owned()))
}

fn to_bytes(Gram(gram): &Gram) -> std::io::Result<Vec<u8>> {
    let width = gram.nrows();
    let rows = (0..width).flat_map(|row| (0..width).map(move |column| gram[(row, column)]));
    let bytes: Vec<u8> = rows.flat_map(f64::to_le_bytes).collect();
    let view = safetensors::tensor::TensorView::new(Dtype::F64, vec![width, width], &bytes);
    let metadata = HashMap::from([(CONTENT.to_owned(), Digest::of(&bytes).hex())]);
    safetensors::serialize([(TENSOR, view.map_err(std::io::Error::other)?)], Some(metadata))
        .map_err(std::io::Error::other)
}

impl Gram {
    /// The kept matrix of a head [V, D], or else the matrix itself, which is then kept; `None` for types that are no
    /// floats.
    pub(crate) fn cached_or_computed(
        head: TensorView,
        rows: usize,
        width: usize,
        keep: Option<&GramCache>,
    ) -> Option<Gram> {
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
    pub(crate) fn is_finite(&self) -> bool {
        (0..self.0.nrows()).all(|i| self.0[(i, i)].is_finite())
    }

    fn of(head: TensorView, rows: usize, width: usize) -> Option<Gram> {
        let mut gram = Mat::zeros(width, width);
        let most = (CHUNK / width).max(1);
        let mut in_f32 = Vec::new();
        let mut in_f64 = Vec::new();
        for start in (0..rows).step_by(most) {
            let here = most.min(rows - start);
            in_f32.resize(here * width, 0.0);
            if !head.read_f32(start * width, &mut in_f32) {
                return None;
            }
            in_f64.clear();
            in_f64.extend(in_f32.iter().map(|&x| f64::from(x)));
            let chunk = MatRef::from_row_major_slice(&in_f64, here, width);
            let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
            matmul(gram.as_mut(), lower, Accum::Add, chunk.transpose(), whole, chunk, whole, 1.0, Par::rayon(0));
        }
        Some(Gram(gram))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use frostline_schemas::cache::{self, DEFAULT_LIMIT};
    use std::path::PathBuf;

    const WEIGHTS: [f32; 6] = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0];

    fn gram(keep: &GramCache) -> Mat<f64> {
        let bytes: Vec<u8> = WEIGHTS.iter().flat_map(|x| x.to_le_bytes()).collect();
        let head = TensorView { dtype: Dtype::F32, shape: &[3, 2], bytes: &bytes };
        Gram::cached_or_computed(head, 3, 2, Some(keep)).unwrap().0
    }

    fn keep(root: &Path) -> GramCache {
        GramCache::new(Store::new(root, DEFAULT_LIMIT), &Digest::of(b"weights"), "head")
    }

    fn file(keep: &GramCache) -> PathBuf {
        let files = keep.store.files(&keep.key.entry()).unwrap();
        assert_eq!(files.len(), 1);
        files[0].clone()
    }

    #[test]
    fn a_kept_matrix_is_read_and_a_broken_one_is_computed_anew() {
        let root = tempfile::tempdir().unwrap();
        let keep = keep(root.path());
        let fresh = gram(&keep);
        assert_eq!([fresh[(0, 0)], fresh[(1, 0)], fresh[(1, 1)]], [2.0, 1.0, 2.0]);
        assert_eq!(keep.read(2).unwrap().0, fresh);

        let mut bytes = std::fs::read(file(&keep)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(file(&keep), &bytes).unwrap();
        assert!(keep.read(2).is_none());
        assert_eq!(gram(&keep), fresh);
        assert_eq!(keep.read(2).unwrap().0, fresh);
        assert!(keep.read(3).is_none(), "of another width");
        assert_eq!(cache::list(root.path()).unwrap().len(), 1);
    }

    #[test]
    fn other_weights_have_another_key() {
        let entry = |weights: &[u8], head: &str| GramKey { weights: Digest::of(weights), head: head.into() }.entry();
        assert_ne!(entry(b"a", "head"), entry(b"b", "head"));
        assert_ne!(entry(b"a", "head"), entry(b"a", "other"));
    }

    #[test]
    fn a_matrix_that_the_cache_has_no_room_for_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let keep = GramCache::new(Store::new(root.path(), 16), &Digest::of(b"weights"), "head");
        gram(&keep);
        assert!(keep.read(2).is_none());
    }

    /// Whoever has to change these raises [`FORMAT`].
    #[test]
    fn key_and_file_are_those_of_this_format() {
        let root = tempfile::tempdir().unwrap();
        let keep = keep(root.path());
        gram(&keep);
        assert_eq!(keep.key.entry().key.short(), "8f5078909418");
        assert_eq!(Digest::of(&std::fs::read(file(&keep)).unwrap()).short(), "ce350ecc365f");
    }
}
