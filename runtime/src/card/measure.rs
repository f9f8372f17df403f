//! Sums over the gradients of several batches, from which the card is worked out.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use frostline_schemas::data::Example;
use frostline_schemas::model::LayerSpec;
use frostline_schemas::plan::LayerGradients;
use frostline_schemas::units::significant;

use crate::data::Batch;
use crate::error::Error;
use crate::model::{CrossEntropy, GradientObserver, Gradients, Model, Objective, Parameters};

/// AdamW's, below which a square root divides nothing.
const EPSILON: f64 = 1e-8;

/// Of one tensor, over the batches so far, each in the tensor's shape.
struct TensorSums {
    /// Σ g over even batches and over odd ones.
    halves: [Option<Tensor>; 2],
    /// Σ g².
    squares: Tensor,
}

/// Over the batches so far.
#[derive(Default)]
pub(super) struct Sums {
    tensors: BTreeMap<String, TensorSums>,
    batches: usize,
    /// Sum of the batches' mean losses.
    loss: f64,
}

impl Sums {
    /// Adds a batch's gradients, layer by layer, so that those of all layers never stand in memory together.
    pub(super) fn add(&mut self, model: &mut Model, examples: &[&Example]) -> Result<(), Error> {
        let batch = Batch::new(examples.iter().copied());
        let scale = 1.0 / batch.targets.len().max(1) as f64;
        let objective = Objective { loss: &CrossEntropy, scale };
        let state = model.prefix(&batch)?;
        let mut gradients = Gradients::default();
        let mut adding = Adding { half: self.batches % 2, sums: self };
        let loss = model.loss_and_gradients(&batch, state, objective, &mut gradients, &mut adding)? * scale;
        if !loss.is_finite() {
            return Err(Error::NotFinite { what: "loss", batch: self.batches + 1 });
        }
        self.loss += loss;
        self.batches += 1;
        Ok(())
    }

    /// Mean over the batches.
    pub(super) fn loss(&self) -> f64 {
        significant(self.loss / self.batches.max(1) as f64)
    }

    /// What the sums say of each layer, from the input up.
    ///
    /// # Errors
    /// [`Error::NotFinite`] where gradients are not finite.
    pub(super) fn layers(&self, model: &Model) -> Result<Vec<LayerGradients>, Error> {
        let layers = model.config().layers.iter().enumerate();
        layers.map(|(index, layer)| self.layer(index + 1, layer, model.parameters())).collect()
    }

    fn layer(&self, number: usize, layer: &LayerSpec, parameters: &Parameters) -> Result<LayerGradients, Error> {
        let mut all = [0.0; 6];
        for spec in layer.tensors() {
            let Some(sums) = self.tensors.get(&spec.name) else { continue };
            let weight = parameters.trained_tensor(&spec.name)?;
            let own = self.tensor(sums, weight)?;
            all.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
        }
        if all.iter().any(|sum| !sum.is_finite()) {
            return Err(Error::NotFinite { what: "gradient", batch: self.batches });
        }
        let [weight, gradient, gradient_l1, signal, fall, held_out_fall] = all;
        Ok(LayerGradients {
            layer: number,
            weight_norm: significant(weight.sqrt()),
            gradient_norm: significant(gradient.sqrt()),
            gradient_l1: significant(gradient_l1),
            signal: significant(signal),
            fall: significant(fall),
            held_out_fall: significant(held_out_fall),
        })
    }

    /// ‖W‖², ‖ḡ‖², ‖ḡ‖₁, the mean of ⟨g_b, g_c⟩, and the falls by a step of Adam.
    fn tensor(&self, sums: &TensorSums, weight: &Tensor) -> Result<[f64; 6], Error> {
        let [Some(even), Some(odd)] = &sums.halves else { return Err(Error::Internal("gradients of both halves")) };
        let batches = self.batches as f64;
        let [even_batches, odd_batches] = [self.batches.div_ceil(2), self.batches / 2].map(|count| count as f64);
        let mean = ((even + odd)? / batches)?;
        let root = ((&sums.squares / batches)?.sqrt()? + EPSILON)?;
        let (squared, squares) = (sum(&mean.sqr()?)?, sum(&sums.squares)?);
        let signal = (squared * batches * batches - squares) / (batches * (batches - 1.0));
        let held_out = sum(&((even * odd)? / &root)?)? / (even_batches * odd_batches);
        Ok([sum(&weight.sqr()?)?, squared, sum(&mean.abs()?)?, signal, sum(&(mean.sqr()? / &root)?)?, held_out])
    }
}

/// Adds gradients as they come.
struct Adding<'a> {
    half: usize,
    sums: &'a mut Sums,
}

impl GradientObserver for Adding<'_> {
    fn layer_done(&mut self, _: &mut Parameters, gradients: &mut Gradients) -> Result<(), Error> {
        for (name, gradient) in gradients.iter() {
            let square = gradient.sqr()?;
            match self.sums.tensors.get_mut(name) {
                Some(sums) => {
                    sums.squares = (&sums.squares + square)?;
                    let half = &mut sums.halves[self.half];
                    *half = Some(half.as_ref().map_or_else(|| gradient.copy(), |sum| sum + gradient)?);
                }
                None => {
                    let mut halves = [None, None];
                    // The gradient's own memory is used again.
                    halves[self.half] = Some(gradient.copy()?);
                    self.sums.tensors.insert(name.to_owned(), TensorSums { halves, squares: square });
                }
            }
        }
        gradients.clear();
        Ok(())
    }
}

fn sum(tensor: &Tensor) -> Result<f64, Error> {
    Ok(tensor.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::{CardSettings, card};
    use crate::model::Scope;
    use crate::system::Device;
    use frostline_schemas::data::Target;
    use frostline_schemas::model::ModelFolder;

    fn llama() -> ModelFolder {
        ModelFolder::open(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/llama")).unwrap()
    }

    fn rows() -> Vec<Example> {
        let row = |token| Example::new(u64::from(token), vec![token, 3, 4], vec![Target { position: 1, token: 5 }]);
        (6..18).map(row).collect()
    }

    /// The gradient of a batch for the tensors of a layer, one after the other.
    fn gradient(batch: &[&Example], layer: usize) -> Vec<f64> {
        let folder = llama();
        let scope = Scope::above(&folder.config, 0).unwrap();
        let mut model = Model::open(folder, scope, Device::Cpu, None).unwrap();
        let batch = Batch::new(batch.iter().copied());
        let mut gradients = Gradients::default();
        let objective = Objective { loss: &CrossEntropy, scale: 1.0 / batch.targets.len() as f64 };
        let state = model.prefix(&batch).unwrap();
        model.loss_and_gradients(&batch, state, objective, &mut gradients, &mut ()).unwrap();
        let own: Vec<&str> =
            model.config().layers[layer].tensors().into_iter().map(|spec| spec.name.as_str()).collect();
        let values = |(_, tensor): (&str, &Tensor)| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        gradients.iter().filter(|(name, _)| own.contains(name)).flat_map(values).map(f64::from).collect()
    }

    /// The card's numbers by their definitions, element by element.
    #[test]
    fn a_layer_is_what_its_formulas_say() {
        let rows = rows();
        let settings = CardSettings { batches: 3, rows: 4, ..CardSettings::DEFAULT };
        let found = card(llama(), &rows, &settings, &mut |_, _| ()).unwrap();
        assert_eq!((found.batches, found.rows, found.layers.len()), (3, 4, 4));
        let dealt: Vec<Vec<&Example>> = (0..3).map(|batch| rows.iter().skip(batch).step_by(3).collect()).collect();
        let of_batches: Vec<Vec<f64>> = dealt.iter().map(|batch| gradient(batch, 2)).collect();
        let elements = (0..of_batches[0].len()).map(|k| [of_batches[0][k], of_batches[1][k], of_batches[2][k]]);
        let sum = |of: &dyn Fn([f64; 3]) -> f64| elements.clone().map(of).sum::<f64>();
        let mean = |g: [f64; 3]| g.iter().sum::<f64>() / 3.0;
        let root = |g: [f64; 3]| (g.iter().map(|g| g * g).sum::<f64>() / 3.0).sqrt() + 1e-8;
        let expected = [
            sum(&|g| mean(g).powi(2)).sqrt(),
            sum(&|g| mean(g).abs()),
            sum(&|g| (g[0] * g[1] + g[0] * g[2] + g[1] * g[2]) / 3.0),
            sum(&|g| mean(g).powi(2) / root(g)),
            sum(&|g| (g[0] + g[2]) / 2.0 * g[1] / root(g)),
        ];
        let LayerGradients { gradient_norm, gradient_l1, signal, fall, held_out_fall, .. } = found.layers[2];
        let found = [gradient_norm, gradient_l1, signal, fall, held_out_fall];
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-4 * expected.abs(), "{found} {expected}");
        }
    }

    #[test]
    fn layers_have_the_norms_of_their_weights() {
        let found = card(llama(), &rows(), &CardSettings::DEFAULT, &mut |_, _| ()).unwrap();
        let folder = llama();
        let squares = folder.config.layers[1].tensors().into_iter().map(|spec| {
            let view = folder.weights.require(&spec.name).unwrap();
            view.to_f32().unwrap().iter().map(|value| f64::from(*value).powi(2)).sum::<f64>()
        });
        let expected = squares.sum::<f64>().sqrt();
        assert!((found.layers[1].weight_norm - expected).abs() < 1e-4 * expected);
    }
}
