//! How deep training reaches for each example: beside a plan by example, the file that holds their frost lines.
//!
//! It is a safetensors file. `digests` is u8 [examples, 32], the digest of each example's tokens and targets, ascending;
//! `frost_lines` is u32 [examples]. A plan names the file's content, so the two belong together.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::data::Example;
use crate::digest::{Digest, Hasher};
use crate::files;
use crate::plan::{PerExample, Plan};

const DIGESTS: &str = "digests";
const FROST_LINES: &str = "frost_lines";
/// Bytes of a digest.
const WIDTH: usize = 32;

/// The frost line of each example, by the example's digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExampleFrostLines(BTreeMap<[u8; WIDTH], usize>);

/// A file of frost lines that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ExampleFrostLinesError {
    /// The file is unreadable or cannot be written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The file is not where the plan says it is.
    #[error("{}: is not there; it belongs to the plan and lies beside it: planning with a frost line for each example writes both", path.display())]
    Missing { path: PathBuf },
    /// The file is no safetensors file with what must be in it.
    #[error("{}: no frost lines of examples: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    /// The file is not the one that the plan was written with.
    #[error("{}: not the frost lines that the plan was made with: it names {stated}, these are {found}; restore the file or plan again", path.display())]
    Changed { path: PathBuf, stated: Digest, found: Digest },
}

impl ExampleFrostLinesError {
    /// The setting that caused the error or would cure it.
    pub fn setting(&self) -> Option<&'static str> {
        match self {
            ExampleFrostLinesError::Missing { .. } => Some("per_example"),
            _ => None,
        }
    }
}

/// Where the frost lines of a plan's examples lie: `plan.json` → `plan.examples.safetensors`.
pub fn beside(plan: &Path) -> PathBuf {
    plan.with_extension("examples.safetensors")
}

impl ExampleFrostLines {
    /// Of examples with their frost lines; if two are alike, the lower frost line counts.
    pub fn new<'a>(examples: impl IntoIterator<Item = (&'a Example, usize)>) -> ExampleFrostLines {
        let mut by_example = BTreeMap::new();
        for (example, frost_line) in examples {
            let deepest = by_example.entry(*example.digest().as_bytes()).or_insert(frost_line);
            *deepest = frost_line.min(*deepest);
        }
        ExampleFrostLines(by_example)
    }

    /// The frost line of an example, if it has one of its own.
    pub fn of(&self, example: &Example) -> Option<usize> {
        self.0.get(example.digest().as_bytes()).copied()
    }

    /// Digest of what is in the file.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::default();
        for (digest, frost_line) in &self.0 {
            hasher.update(digest);
            hasher.update(&(*frost_line as u64).to_le_bytes());
        }
        hasher.finish()
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`ExampleFrostLinesError`] where it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ExampleFrostLinesError> {
        let failed = |source| ExampleFrostLinesError::File { path: path.into(), source };
        files::write_bytes(path, &self.to_bytes().map_err(failed)?).map_err(failed)
    }

    fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let digests: Vec<u8> = self.0.keys().flatten().copied().collect();
        let frost_lines: Vec<u8> = self.0.values().flat_map(|&line| (line as u32).to_le_bytes()).collect();
        let rows = self.0.len();
        let tensors = [
            (DIGESTS, TensorView::new(Dtype::U8, vec![rows, WIDTH], &digests).map_err(io::Error::other)?),
            (FROST_LINES, TensorView::new(Dtype::U32, vec![rows], &frost_lines).map_err(io::Error::other)?),
        ];
        safetensors::serialize(tensors, None).map_err(io::Error::other)
    }

    /// Reads a file, and checks that it is the one of this digest and that every frost line leaves one of `layers`.
    ///
    /// # Errors
    /// [`ExampleFrostLinesError`] for a file that is missing, damaged, or another plan's.
    pub fn read(path: &Path, stated: Digest, layers: usize) -> Result<ExampleFrostLines, ExampleFrostLinesError> {
        let map = files::map(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ExampleFrostLinesError::Missing { path: path.into() },
            _ => ExampleFrostLinesError::File { path: path.into(), source },
        })?;
        ExampleFrostLines::parse(path, &map, stated, layers)
    }

    /// Reads what lies beside a plan that has a frost line for each example; `path` is the plan's.
    ///
    /// # Errors
    /// As for [`ExampleFrostLines::read`].
    pub fn of_plan(plan: &Plan, path: &Path) -> Result<Option<ExampleFrostLines>, ExampleFrostLinesError> {
        let read = |examples: PerExample| ExampleFrostLines::read(&beside(path), examples.digest, plan.model.layers);
        plan.decision.per_example.map(read).transpose()
    }

    /// Whether a file holds frost lines of examples, of whatever plan.
    pub fn is_at(path: &Path) -> bool {
        let holds = |map: &[u8]| {
            SafeTensors::deserialize(map).is_ok_and(|file| {
                let mut names = file.names();
                names.sort_unstable();
                names == [DIGESTS, FROST_LINES]
            })
        };
        files::map(path).is_ok_and(|map| holds(&map))
    }

    /// The same from bytes; `path` is for messages.
    ///
    /// # Errors
    /// As for [`ExampleFrostLines::read`].
    pub fn parse(
        path: &Path,
        bytes: &[u8],
        stated: Digest,
        layers: usize,
    ) -> Result<ExampleFrostLines, ExampleFrostLinesError> {
        let bad = |reason: String| ExampleFrostLinesError::Content { path: path.into(), reason };
        let file = SafeTensors::deserialize(bytes).map_err(|error| bad(error.to_string()))?;
        let tensor = |name: &str| file.tensor(name).map_err(|_| bad(format!("it has no tensor `{name}`")));
        let (digests, frost_lines) = (tensor(DIGESTS)?, tensor(FROST_LINES)?);
        let rows: usize = frost_lines.shape().iter().product();
        let kinds = [(&digests, Dtype::U8, vec![rows, WIDTH]), (&frost_lines, Dtype::U32, vec![rows])];
        if let Some((view, ..)) =
            kinds.iter().find(|(view, dtype, shape)| (view.dtype(), view.shape()) != (*dtype, shape))
        {
            return Err(bad(format!("a tensor is {:?} {:?}", view.dtype(), view.shape())));
        }
        let lines = frost_lines.data().as_chunks::<4>().0.iter().map(|&four| u32::from_le_bytes(four) as usize);
        let by_example: BTreeMap<[u8; WIDTH], usize> =
            digests.data().as_chunks::<WIDTH>().0.iter().copied().zip(lines).collect();
        if by_example.len() != rows {
            return Err(bad("an example is there twice".into()));
        }
        if let Some(line) = by_example.values().find(|&&line| line >= layers) {
            return Err(bad(format!("frost line {line} leaves none of {layers} layers to train")));
        }
        let found = ExampleFrostLines(by_example);
        match found.digest() {
            digest if digest == stated => Ok(found),
            digest => Err(ExampleFrostLinesError::Changed { path: path.into(), stated, found: digest }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(token: u32) -> Example {
        Example::new(1, vec![token, 2], Vec::new())
    }

    fn three_examples() -> ExampleFrostLines {
        let examples = [example(5), example(6), example(5)];
        ExampleFrostLines::new(examples.iter().zip([3, 1, 2]))
    }

    fn parse(bytes: &[u8]) -> Result<ExampleFrostLines, ExampleFrostLinesError> {
        ExampleFrostLines::parse(Path::new("plan.examples.safetensors"), bytes, three_examples().digest(), 4)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = beside(&folder.path().join("plan.json"));
        assert!(path.ends_with("plan.examples.safetensors"));
        three_examples().write(&path).unwrap();
        let read = ExampleFrostLines::read(&path, three_examples().digest(), 4).unwrap();
        assert_eq!(read, three_examples());
        // If two examples are alike, the lower frost line counts.
        assert_eq!([5, 6, 7].map(|token| read.of(&example(token))), [Some(2), Some(1), None]);
    }

    #[test]
    fn a_file_that_is_not_there_says_where_it_comes_from() {
        let said =
            ExampleFrostLines::read(Path::new("/nonexistent/plan.examples.safetensors"), three_examples().digest(), 4)
                .unwrap_err();
        assert!(said.to_string().contains("writes both"), "{said}");
    }

    #[test]
    fn another_files_frost_lines_are_refused() {
        let other = ExampleFrostLines::new([(&example(5), 2)]);
        assert!(matches!(parse(&other.to_bytes().unwrap()), Err(ExampleFrostLinesError::Changed { .. })));
    }

    #[test]
    fn a_frost_line_beyond_the_layers_is_refused() {
        let deep = ExampleFrostLines::new([(&example(5), 4)]);
        let said = parse(&deep.to_bytes().unwrap()).unwrap_err().to_string();
        assert!(said.contains("frost line 4 leaves none of 4 layers"), "{said}");
    }

    #[test]
    fn an_example_that_is_there_twice_is_refused() {
        let digests = [7u8; 2 * WIDTH];
        let tensors = [
            (DIGESTS, TensorView::new(Dtype::U8, vec![2, WIDTH], &digests).unwrap()),
            (FROST_LINES, TensorView::new(Dtype::U32, vec![2], &[0; 8]).unwrap()),
        ];
        let said = parse(&safetensors::serialize(tensors, None).unwrap()).unwrap_err().to_string();
        assert!(said.contains("there twice"), "{said}");
    }

    #[test]
    fn damage_is_an_error_or_changes_nothing() {
        let whole = three_examples().to_bytes().unwrap();
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err());
        }
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 0x11;
            if let Ok(read) = parse(&damaged) {
                assert_eq!(read, three_examples(), "byte {index}");
            }
        }
    }
}
