//! The gradient card: what gradients of a few batches at the starting weights say of each layer, and the plan that follows.
//!
//! No export is needed. It costs as many steps of full training as there are batches, less their updates, and about as much
//! memory as full training with AdamW: three numbers beside each weight.

mod measure;

use frostline_schemas::data::Example;
use frostline_schemas::model::{DecoderConfig, ModelFolder};
use frostline_schemas::plan::{Draft, GradientCard, LearningRate, Plan, PlanTask, RateOrigin};
use frostline_schemas::select::{ScoreOrigin, Scores, StepShape, Strategy, best_layers, scope};

use self::measure::Sums;
use crate::error::Error;
use crate::model::{ComputePrecision, Model, Scope};
use crate::system::{Device, ReuseBuffers, on_threads};

/// How gradients are computed.
#[derive(Clone, Copy, Debug)]
pub struct CardSettings {
    /// Batches at most, at least 2.
    pub batches: usize,
    /// Examples of a batch at most.
    pub rows: usize,
    /// Where to compute.
    pub device: Device,
    /// What is usual on the device where `None`.
    pub precision: Option<ComputePrecision>,
    /// Threads for the arithmetic; all that the machine has where `None`.
    pub threads: Option<usize>,
}

impl CardSettings {
    /// Eight batches of 16 examples, on all cores of the CPU.
    pub const DEFAULT: CardSettings =
        CardSettings { batches: 8, rows: 16, device: Device::Cpu, precision: None, threads: None };

    /// Examples that gradients are computed of at most.
    pub const fn examples(&self) -> usize {
        self.batches.saturating_mul(self.rows)
    }
}

impl Default for CardSettings {
    fn default() -> CardSettings {
        CardSettings::DEFAULT
    }
}

/// Computes the card of some examples, of which the first that make up the batches are taken. `progress` is told how many
/// batches of all are done.
///
/// # Errors
/// [`Error::Setting`] for fewer than two examples or batches, and as for [`train`](crate::train::train) where the model
/// or its gradients cannot be used.
pub fn card(
    folder: ModelFolder,
    examples: &[Example],
    settings: &CardSettings,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<GradientCard, Error> {
    let batches = batches(examples, settings)?;
    let scope = Scope::above(&folder.config, 0)?;
    let mut model = Model::open(folder, scope, settings.device, settings.precision)?;
    model.check(examples)?;
    on_threads(settings.threads, || {
        let _reuse = ReuseBuffers::new();
        let rows = batches.iter().map(Vec::len).max().unwrap_or(0);
        let mut sums = Sums::default();
        progress(0, batches.len());
        for (number, batch) in batches.iter().enumerate() {
            sums.add(&mut model, batch)?;
            progress(number + 1, batches.len());
        }
        Ok(GradientCard { batches: batches.len(), rows, loss: sums.loss(), layers: sums.layers(&model)? })
    })?
}

/// Plans by a task's gradients: the layers that promise most of all sets whose step costs at most `share` of a full one.
///
/// # Errors
/// As for [`card()`]; [`Error::Setting`] where no set of layers that promises anything is as cheap.
pub fn plan(
    task: PlanTask,
    share: f64,
    settings: &CardSettings,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Plan, Error> {
    let card = card(ModelFolder::open(&task.folder.path)?, &task.examples, settings, progress)?;
    let (config, step) = (&task.folder.config, task.step());
    let tensors = tensors(&card, config, step, share)?;
    let learning_rate = learning_rate(&card, config, &tensors);
    let draft = Draft::of_choice(Strategy::Gradient(share), tensors, config, step);
    Ok(Draft { learning_rate, gradients: Some(card), ..draft }.sealed(task))
}

/// The tensors of the layers that promise most within a share of a full step.
///
/// # Errors
/// [`Error::Setting`] where none that promises anything is as cheap.
pub fn tensors(card: &GradientCard, config: &DecoderConfig, step: StepShape, share: f64) -> Result<Vec<String>, Error> {
    let gains = card.layers.iter().map(|layer| layer.held_out_fall);
    let chosen = best_layers(config, step, share, &Scores::of_layers(ScoreOrigin::Gradients, gains));
    if chosen.is_empty() {
        let reason = "no layers that cost so little of a full step promise that the loss falls; allow for more";
        return Err(Error::Setting { field: "strategy", value: Strategy::Gradient(share).to_string(), reason });
    }
    Ok(scope::of_layers(config, |layer| chosen.contains(&layer)))
}

/// η of all layers times ‖ḡ of all layers‖₁ / ‖ḡ of the planned ones‖₁, at most tenfold: AdamW moves every weight by about
/// η, so to first order the loss falls as much with the part as with the whole.
pub fn learning_rate(card: &GradientCard, config: &DecoderConfig, tensors: &[String]) -> LearningRate {
    let planned = scope::layers(config, tensors);
    let sum = |chosen: &dyn Fn(usize) -> bool| -> f64 {
        (0..).zip(&card.layers).filter(|(index, _)| chosen(*index)).map(|(_, layer)| layer.gradient_l1).sum()
    };
    let factor = sum(&|_| true) / sum(&|index| planned.contains(&index)).max(f64::MIN_POSITIVE);
    LearningRate::scaled(factor, RateOrigin::Gradients)
}

/// Deals the examples out, so that a sorted file's batches are alike.
fn batches<'a>(examples: &'a [Example], settings: &CardSettings) -> Result<Vec<Vec<&'a Example>>, Error> {
    let CardSettings { batches, rows, .. } = *settings;
    let least = [("batches", batches), ("examples", examples.len()), ("batch_size", rows.saturating_mul(2))];
    if let Some((field, value)) = least.into_iter().find(|(_, value)| *value < 2) {
        let reason = "gradients of at least two batches are compared";
        return Err(Error::Setting { field, value: value.to_string(), reason });
    }
    let taken = &examples[..settings.examples().min(examples.len())];
    let count = taken.len().div_ceil(rows).max(2);
    let mut dealt = vec![Vec::new(); count];
    for (number, example) in taken.iter().enumerate() {
        dealt[number % count].push(example);
    }
    Ok(dealt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_schemas::data::Target;

    fn rows(count: u32) -> Vec<Example> {
        let row = |token| Example::new(u64::from(token), vec![token, 3, 4], vec![Target { position: 1, token: 5 }]);
        (6..6 + count).map(row).collect()
    }

    fn sizes(examples: u32, batches: usize, rows_each: usize) -> Vec<usize> {
        let settings = CardSettings { batches, rows: rows_each, ..CardSettings::DEFAULT };
        self::batches(&rows(examples), &settings).unwrap().iter().map(Vec::len).collect()
    }

    #[test]
    fn examples_are_dealt_out_evenly() {
        assert_eq!(sizes(40, 8, 16), [14, 13, 13]);
        assert_eq!(sizes(200, 8, 16), [16; 8]);
        assert_eq!(sizes(9, 8, 16), [5, 4]);
        assert_eq!(sizes(2, 8, 16), [1, 1]);
    }

    #[test]
    fn one_example_is_too_few() {
        let said = super::batches(&rows(1), &CardSettings::DEFAULT).unwrap_err().to_string();
        assert!(said.contains("gradients of at least two batches are compared"), "{said}");
    }
}
