//! The file of one machine's results, where several share the arms of a comparison.
//!
//! It is JSON. What must be the same for the files of all shards is its [`ResultsOrigin`]; its checksum is the digest of
//! all the rest in canonical form.

use std::io;
use std::path::{Path, PathBuf};

use frostline_schemas::canonical;
use frostline_schemas::data::RowsAsRead;
use frostline_schemas::digest::Digest;
use frostline_schemas::files;
use frostline_schemas::model::ModelIdentity;
use frostline_schemas::run::TrainingSettings;
use frostline_schemas::select::{Shard, Strategy};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::compare::arm::{Arm, ArmMethod, ArmResult};
use crate::compare::budget::Budget;
use crate::compare::sweep::Rates;

/// The version of the results file that is written, and the newest that is read.
const VERSION: u64 = 1;
/// The format of results: raised by hand whenever the same arms and settings are trained otherwise.
pub(super) const FORMAT: u64 = 1;
/// The largest results file read, in bytes: some hundred times that of many arms.
const MAX_RESULTS: u64 = 1 << 26;

/// What the results of a comparison come from: the same for all shards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultsOrigin {
    /// Which code trained the arms.
    pub format: u64,
    /// The model that all arms begin with.
    pub model: ModelIdentity,
    /// What is trained on, and chosen and evaluated by.
    pub data: ComparedRows,
    /// What each training may take.
    pub budget: Budget,
    /// The rates that are tried.
    pub rates: Rates,
    /// Seeds that the best rate of each arm is trained with.
    pub seeds: u64,
    /// All else of a training. Steps, rate and method are the arms' own.
    pub training: TrainingSettings,
    /// What kind of device computes, and in which precision.
    pub device: String,
    /// Whether states at frost lines may be kept: it decides how many steps fit into seconds.
    pub caches: bool,
    /// All arms of the comparison, in their order.
    pub arms: Vec<ArmIdentity>,
}

/// The rows of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparedRows {
    /// SHA-256 of the file.
    pub file: Digest,
    /// How it was read.
    pub rows_as: RowsAsRead,
    /// Tokens of an example at most.
    pub max_length: usize,
    /// The share of the rows that is held back.
    pub held_out: f64,
    /// The seed that says which.
    pub seed: u64,
    /// Rows that are trained on.
    pub trained_rows: usize,
    /// Rows that are held back.
    pub held_out_rows: usize,
    /// Digest of the tokens and targets of the rows to evaluate on.
    pub evaluated: Option<Digest>,
}

/// What an arm is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmIdentity {
    /// The strategy of its plan.
    pub strategy: Strategy,
    /// The plan's id.
    pub plan: Digest,
    /// The method.
    pub method: ArmMethod,
}

impl ArmIdentity {
    /// That of an arm.
    pub(super) fn of(arm: &Arm) -> ArmIdentity {
        ArmIdentity { strategy: arm.plan.method.strategy.clone(), plan: arm.plan.id, method: arm.method }
    }

    fn name(&self) -> String {
        self.method.name(&self.strategy)
    }
}

/// The results of one shard's arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardResults {
    version: u64,
    /// Which shard it is.
    pub shard: Shard,
    /// What the results come from.
    pub origin: ResultsOrigin,
    /// Threads that computed them.
    pub threads: usize,
    /// Of the shard's arms, in their order; none where there are more shards than arms.
    pub arms: Vec<ArmResult>,
    /// Digest of everything above.
    checksum: Digest,
}

/// Results that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum ResultsError {
    /// The file is missing, unreadable or cannot be written.
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// What stands where results are to be written is something else.
    #[error("{}: is there already and holds no results of arms; name another place or remove it", path.display())]
    Taken { path: PathBuf },
    /// The file is something else, or cut off.
    #[error("{}: not a whole file of arms' results: {reason}; give the results of a shard, or train its arms again", path.display())]
    NotResults { path: PathBuf, reason: String },
    /// The file was written by a newer Frostline.
    #[error("{}: version {found} of the results file is newer than {VERSION}, the newest that this Frostline reads; update Frostline", path.display())]
    Newer { path: PathBuf, found: u64 },
    /// The content is not what was written.
    #[error("{}: changed since it was written: `checksum` says {stated}, the content gives {found}; restore the file or train shard {shard} again", path.display())]
    Changed { path: PathBuf, shard: Shard, stated: Digest, found: Digest },
    /// The parts of the file contradict each other.
    #[error("{}: contradicts itself: {reason}; train shard {shard} again", path.display())]
    Inconsistent { path: PathBuf, shard: Shard, reason: String },
    /// The arms were trained by other code.
    #[error("{}: its results are of format {found}, this Frostline's are of format {FORMAT}; train shard {shard} again, with the same Frostline on all machines", path.display())]
    OtherFormat { path: PathBuf, shard: Shard, found: u64 },
    /// Two shards of different comparisons.
    #[error("{}: of another comparison than {}: {}; train one of them again, so that all shards are alike", path.display(), other.display(), differences.join("; "))]
    Unlike { path: PathBuf, other: PathBuf, differences: Vec<String> },
    /// Equal seconds on machines that are not equal.
    #[error("{}: trained for {seconds} s by {own}, {} by {others}; equal seconds are fair on equal machines alone: compare by steps, or give all machines as many threads", path.display(), other.display())]
    OtherThreads { path: PathBuf, other: PathBuf, seconds: f64, own: String, others: String },
    /// A shard that is given twice.
    #[error("{}: shard {shard}, which {} is, too; give each shard once", path.display(), other.display())]
    Twice { path: PathBuf, other: PathBuf, shard: Shard },
    /// Shards that are not given.
    #[error("{}: shard {shard}, but no file holds shard {missing}; train each of the {} shards, and give all files", path.display(), shard.of())]
    Missing { path: PathBuf, shard: Shard, missing: String },
    /// Nothing was given.
    #[error("no results to compare; give the files of all shards")]
    NoFiles,
}

impl ShardResults {
    /// Results with their checksum.
    pub fn new(shard: Shard, origin: ResultsOrigin, threads: usize, arms: Vec<ArmResult>) -> ShardResults {
        let mut results = ShardResults { version: VERSION, shard, origin, threads, arms, checksum: Digest::of(b"") };
        results.checksum = results.derive_checksum();
        results
    }

    /// Refuses a place where results cannot be written: they may take the place of results, even of some that were
    /// changed, not of a plan or data.
    ///
    /// # Errors
    /// [`ResultsError::Taken`] for a file of something else; [`ResultsError::File`] for a folder, and where the folder
    /// that `path` lies in is missing or may not be written in.
    pub fn check_place(path: &Path) -> Result<(), ResultsError> {
        if path.is_file() && matches!(ShardResults::read(path), Err(ResultsError::NotResults { .. })) {
            return Err(ResultsError::Taken { path: path.into() });
        }
        files::check_place(path).map_err(|source| ResultsError::File { path: path.into(), source })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`ResultsError::File`].
    pub fn write(&self, path: &Path) -> Result<(), ResultsError> {
        let failed = |source| ResultsError::File { path: path.into(), source };
        let text = canonical::to_text(self).map_err(|error| failed(error.into()))?;
        files::write_bytes(path, text.as_bytes()).map_err(failed)
    }

    /// Reads a file and checks that it is whole and holds what it says.
    ///
    /// # Errors
    /// The [`ResultsError`] of what is wrong with it.
    pub fn read(path: &Path) -> Result<ShardResults, ResultsError> {
        let text = files::read_at_most(path, MAX_RESULTS).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => ResultsError::NotResults { path: path.into(), reason: source.to_string() },
            _ => ResultsError::File { path: path.into(), source },
        })?;
        ShardResults::parse(path, &text)
    }

    fn parse(path: &Path, text: &[u8]) -> Result<ShardResults, ResultsError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u64,
        }
        let wrong =
            |error: serde_json::Error| ResultsError::NotResults { path: path.into(), reason: error.to_string() };
        let VersionOnly { version } = serde_json::from_slice(text).map_err(wrong)?;
        if version > VERSION {
            return Err(ResultsError::Newer { path: path.into(), found: version });
        }
        let results: ShardResults = serde_json::from_slice(text).map_err(wrong)?;
        let (shard, stated, found) = (results.shard, results.checksum, results.derive_checksum());
        if stated != found {
            return Err(ResultsError::Changed { path: path.into(), shard, stated, found });
        }
        if results.origin.format != FORMAT {
            return Err(ResultsError::OtherFormat { path: path.into(), shard, found: results.origin.format });
        }
        match results.check() {
            Ok(()) => Ok(results),
            Err(reason) => Err(ResultsError::Inconsistent { path: path.into(), shard, reason }),
        }
    }

    fn derive_checksum(&self) -> Digest {
        let mut everything = json!(self);
        if let Some(fields) = everything.as_object_mut() {
            fields.remove("checksum");
        }
        canonical::digest(&everything)
    }

    /// Whether the results are of the shard's arms and of no others; the reason where they are not.
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("version {} does not exist", self.version));
        }
        let own = self.shard.deal(&self.origin.arms).map(|arm| (arm.name(), arm.plan));
        if !own.eq(self.arms.iter().map(|arm| (arm.name.clone(), arm.plan))) {
            return Err("its arms are not those of its shard".into());
        }
        match self.arms.iter().find(|arm| arm.best.is_some() && arm.at_best().next().is_none()) {
            Some(arm) => Err(format!("no training of {} at its best rate came to an end", arm.name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::arm::tests::arm;
    use crate::compare::run::{Point, TrainedArm};
    use frostline_schemas::model::ModelFolder;

    fn origin(arms: usize) -> ResultsOrigin {
        let digest = Digest::of(b"");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama");
        let model = ModelFolder::open(&folder).unwrap().identity().unwrap();
        let data = ComparedRows {
            file: digest,
            rows_as: RowsAsRead::default(),
            max_length: 8,
            held_out: 0.1,
            seed: 0,
            trained_rows: 9,
            held_out_rows: 1,
            evaluated: None,
        };
        let arm = ArmIdentity { strategy: Strategy::All, plan: Digest::of(b"plan"), method: ArmMethod::Full };
        ResultsOrigin {
            format: FORMAT,
            model,
            data,
            budget: Budget::Seconds(2.0),
            rates: Rates::Auto,
            seeds: 1,
            training: TrainingSettings::of_steps(1),
            device: "cpu in f32".into(),
            caches: true,
            arms: vec![arm; arms],
        }
    }

    fn all(arm: ArmResult) -> ArmResult {
        ArmResult { name: "all".into(), ..arm }
    }

    fn shard(text: &str, origin: ResultsOrigin, threads: usize, arms: Vec<ArmResult>) -> ShardResults {
        ShardResults::new(text.parse().unwrap(), origin, threads, arms)
    }

    /// What reading says of these results as they are written.
    fn read(results: &ShardResults) -> Result<ShardResults, String> {
        let text = canonical::to_text(results).unwrap();
        ShardResults::parse(Path::new("part.json"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn results_come_back_to_the_last_bit() {
        let point = Point { step: 1, seconds: 0.1 + 0.2, loss: f64::INFINITY, held_out_loss: 1.0 / 3.0 };
        let training = TrainedArm { learning_rate: 6e-5, curve: vec![point], ..TrainedArm::default() };
        let mut result = all(arm(&[(0.1 + 0.2, 2.0 / 3.0)]));
        result.trainings.push(training);
        let found = read(&shard("1/2", origin(2), 2, vec![result.clone()])).unwrap();
        assert_eq!(found.origin, origin(2));
        let point = found.arms[0].trainings[1].curve[0];
        // What is not finite is no number.
        assert!(point.loss.is_nan() && point.held_out_loss == 1.0 / 3.0 && point.seconds == 0.1 + 0.2);
        assert_eq!(found.arms[0].trainings[0], result.trainings[0]);
    }

    #[test]
    fn results_of_other_arms_than_the_shards_are_refused() {
        let said = |arms| read(&shard("1/2", origin(3), 2, arms)).unwrap_err();
        let arms = "part.json: contradicts itself: its arms are not those of its shard; train shard 1/2 again";
        assert_eq!(said(vec![all(arm(&[]))]), arms);
        assert_eq!(said(vec![all(arm(&[])), arm(&[])]), arms);
        assert!(read(&shard("4/4", origin(3), 2, Vec::new())).is_ok());
        let without_end = ArmResult { best: Some(1e-3), ..all(arm(&[])) };
        let found = said(vec![all(arm(&[])), without_end]);
        assert!(found.contains("no training of all at its best rate came to an end"), "{found}");
    }

    #[test]
    fn results_of_another_format_are_refused() {
        let other = ResultsOrigin { format: FORMAT + 1, ..origin(1) };
        let said = read(&shard("1/1", other, 2, vec![all(arm(&[]))])).unwrap_err();
        assert!(
            said.contains("its results are of format 2, this Frostline's are of format 1; train shard 1/1"),
            "{said}"
        );
    }

    #[test]
    fn equal_seconds_want_equal_threads() {
        let folder = tempfile::tempdir().unwrap();
        let written = |number: usize, threads, origin: ResultsOrigin| {
            let path = folder.path().join(format!("{number}.json"));
            shard(&format!("{number}/2"), origin, threads, vec![all(arm(&[]))]).write(&path).unwrap();
            path
        };
        let files = [written(1, 2, origin(2)), written(2, 8, origin(2))];
        let said = ShardResults::merge(&files).unwrap_err().to_string();
        assert!(
            said.contains("trained for 2 s by 8 threads, ") && said.contains(" by 2 threads; equal seconds"),
            "{said}"
        );
        let steps = || ResultsOrigin { budget: Budget::Steps(5), ..origin(2) };
        let files = [written(1, 2, steps()), written(2, 8, steps())];
        assert_eq!(ShardResults::merge(&files).unwrap().1.len(), 2);
        assert!(ShardResults::merge(&[]).unwrap_err().to_string().starts_with("no results to compare"));
    }
}
