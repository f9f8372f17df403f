//! Where plans are written with what lies beside them, and what they may not be written over.

use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::plan::{ExampleFrostLines, ExampleFrostLinesError, Plan, PlanError, beside};
use crate::select::Strategy;

/// Refuses a place where a plan cannot be written. It may take the place of a plan, even of one that somebody has
/// changed, not of data, a config or weights.
///
/// # Errors
/// [`PlanFilesError::NoPlan`] for a file of something else; [`PlanError::File`] for a folder, and where the folder that
/// `path` lies in is missing or may not be written in.
pub fn check_place(path: &Path) -> Result<(), PlanFilesError> {
    let is_plan =
        || matches!(Plan::read(path), Ok(_) | Err(PlanError::Changed { .. } | PlanError::Inconsistent { .. }));
    if path.is_file() && !is_plan() {
        return Err(PlanFilesError::NoPlan { path: path.into() });
    }
    files::check_place(path).map_err(|source| PlanError::File { path: path.into(), source }.into())
}

/// Where the plans of several strategies are written, in their order: `2-last-7.json` for the second. The folder is made
/// if need be.
///
/// # Errors
/// [`PlanFilesError::Folder`] where it cannot be, and as for [`check_place`].
pub fn places_in(folder: &Path, strategies: &[Strategy]) -> Result<Vec<PathBuf>, PlanFilesError> {
    std::fs::create_dir_all(folder).map_err(|source| PlanFilesError::Folder { path: folder.into(), source })?;
    let place = |(number, strategy)| {
        let path = folder.join(file_name(number, strategy));
        check_place(&path).map(|()| path)
    };
    (1..).zip(strategies).map(place).collect()
}

/// Patterns hold characters that are none of a file's name.
fn file_name(number: usize, strategy: &Strategy) -> String {
    let text = match strategy {
        Strategy::Manual(_) => "manual".into(),
        other => other.to_string().replace(':', "-"),
    };
    format!("{number}-{text}.json")
}

/// Where the frost lines of a plan's examples are written, unless a file of something else is there.
///
/// # Errors
/// [`PlanFilesError::Taken`] if it is.
pub fn free_beside(plan: &Path) -> Result<PathBuf, PlanFilesError> {
    let path = beside(plan);
    if path.exists() && !ExampleFrostLines::is_at(&path) {
        return Err(PlanFilesError::Taken { path });
    }
    Ok(path)
}

/// Where a plan is going to be written: found free before anything is computed.
#[derive(Clone, Debug)]
pub struct PlanPlace(PathBuf);

impl PlanPlace {
    /// Checks the place, and the one beside it where examples get frost lines of their own.
    ///
    /// # Errors
    /// As for [`check_place`]; [`PlanFilesError::Taken`] where a file of something else lies beside it.
    pub fn free(path: &Path, per_example: bool) -> Result<PlanPlace, PlanFilesError> {
        check_place(path)?;
        if per_example {
            free_beside(path)?;
        }
        Ok(PlanPlace(path.into()))
    }

    /// Writes a plan there and beside it the frost lines of its examples, where it has them.
    ///
    /// # Errors
    /// As for [`Plan::write_with`].
    pub fn write(&self, plan: &Plan, examples: Option<&ExampleFrostLines>) -> Result<(), PlanFilesError> {
        plan.write_with(&self.0, examples)
    }
}

impl Plan {
    /// Writes the plan and beside it the frost lines of its examples, where it has them: both or neither.
    ///
    /// # Errors
    /// [`ExampleFrostLinesError`] and [`PlanError`] where a file cannot be written, and where the place beside the plan is
    /// taken by a file of something else.
    pub fn write_with(&self, path: &Path, examples: Option<&ExampleFrostLines>) -> Result<(), PlanFilesError> {
        let Some(examples) = examples else { return Ok(self.write(path)?) };
        let beside = free_beside(path)?;
        let before = match std::fs::read(&beside) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(ExampleFrostLinesError::File { path: beside, source }.into()),
        };
        // The plan last: where there is one, what it names is there.
        examples.write(&beside)?;
        self.write(path).inspect_err(|_| restore(&beside, before.as_deref()))?;
        Ok(())
    }
}

/// Puts back what was there before a write that failed later; that failure is the one reported.
fn restore(path: &Path, before: Option<&[u8]>) {
    let restored = match before {
        Some(bytes) => files::write_bytes(path, bytes),
        None => std::fs::remove_file(path),
    };
    if let Err(error) = restored {
        tracing::warn!(%error, path = %path.display(), "frost lines of examples stay without their plan");
    }
}

/// A plan and the frost lines of its examples that cannot be written together.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields are")]
pub enum PlanFilesError {
    /// The plan cannot be written.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The frost lines of its examples cannot be written.
    #[error(transparent)]
    Examples(#[from] ExampleFrostLinesError),
    /// What stands where they belong is no such file.
    #[error("{}: is there already and holds no frost lines of examples; name another plan file or move it", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// What stands where the plan belongs is no plan.
    #[error("{}: is there already and is no plan of this version; name another place or remove it", path.display())]
    NoPlan {
        /// The file.
        path: PathBuf,
    },
    /// The folder for plans cannot be made.
    #[error("{}: cannot be made a folder for plans: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_number_and_strategy() {
        let names = ["salf", "last:7", "spectrum:0.4", "manual:2+*.up_proj.*"];
        let names = names.map(|text| file_name(2, &text.parse().unwrap()));
        assert_eq!(names, ["2-salf.json", "2-last-7.json", "2-spectrum-0.4.json", "2-manual.json"]);
    }

    #[test]
    fn a_folder_of_plans_is_made_and_other_files_in_it_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let plans = folder.path().join("all/plans");
        let strategies = [Strategy::Salf, Strategy::All];
        assert_eq!(places_in(&plans, &strategies).unwrap(), ["1-salf.json", "2-all.json"].map(|name| plans.join(name)));
        std::fs::write(plans.join("2-all.json"), "{}").unwrap();
        assert!(matches!(places_in(&plans, &strategies), Err(PlanFilesError::NoPlan { .. })));
        let in_the_way = places_in(&plans.join("2-all.json"), &strategies).unwrap_err().to_string();
        assert!(in_the_way.contains("2-all.json: cannot be made a folder for plans: "), "{in_the_way}");
    }
}
