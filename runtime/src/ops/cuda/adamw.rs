//! The optimiser's update, in place.

use std::cell::Cell;

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::CudaViewMut;
use candle_core::{CpuStorage, CudaDevice, CudaStorage, DType, Error, InplaceOp1, Layout, Result, Tensor};

use super::{Argument, Grid, launch};

/// The numbers of one step, in the order in which the kernel has_kernels_for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// What gradients are multiplied by.
    pub clip: f32,
    /// What parameters are multiplied by.
    pub decay: f32,
    /// What the first moment is multiplied by.
    pub size: f32,
    /// What the root of the second moment is multiplied by.
    pub correction: f32,
    /// Each moment's beta and one minus it.
    pub betas: [[f32; 2]; 2],
    pub epsilon: f32,
}

/// One pass over parameter, gradient and both moments: f32 and contiguous, of one shape. Nobody else holds what is
/// written, which is all but the gradient.
pub(crate) fn update(parameter: &Tensor, gradient: &Tensor, moments: [&Tensor; 2], numbers: Numbers) -> Result<()> {
    let [first, second] = moments;
    if [gradient, first, second].iter().any(|tensor| tensor.shape() != parameter.shape()) {
        return Err(Error::Msg("a gradient of another shape than its parameter".into()));
    }
    let gradient = gradient.contiguous()?;
    let (storage, layout) = gradient.storage_and_layout();
    let gradient = Argument::read(&storage, layout)?;
    if !matches!(gradient, Argument::ReadF32(_)) {
        return Err(Error::Msg("a gradient that is not f32".into()));
    }
    let count = parameter.elem_count();
    let Numbers { clip, decay, size, correction, betas: [[beta_1, rest_1], [beta_2, rest_2]], epsilon } = numbers;
    let numbers = [clip, decay, size, correction, beta_1, rest_1, beta_2, rest_2, epsilon];
    in_place(parameter, |device, parameter| {
        in_place(first, |_, first| {
            in_place(second, |_, second| {
                let [parameter, first, second] = [parameter, first, second].map(Argument::WriteF32);
                let mut arguments = [gradient, parameter, first, second];
                let grid = Grid::elements(count);
                // SAFETY: all four are f32 of one shape, and one thread reads and writes each element.
                unsafe { launch(device, "adamw", DType::F32, grid, &mut arguments, &[count], &numbers) }
            })
        })
    })
}

/// Lends the elements of a tensor to be changed.
fn in_place(tensor: &Tensor, f: impl FnOnce(&CudaDevice, CudaViewMut<f32>) -> Result<()>) -> Result<()> {
    tensor.inplace_op1(&InPlace(Cell::new(Some(f))))
}

/// Work that is done once, through the shared reference that candle gives.
struct InPlace<F>(Cell<Option<F>>);

impl<F: FnOnce(&CudaDevice, CudaViewMut<f32>) -> Result<()>> InplaceOp1 for InPlace<F> {
    fn name(&self) -> &'static str {
        "in-place"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        Err(Error::Msg("expected a tensor on a CUDA device".into()))
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        let CudaStorage { slice: CudaStorageSlice::F32(slice), device } = storage else {
            return Err(Error::Msg("expected f32".into()));
        };
        let offsets = layout.contiguous_offsets();
        let view = offsets.and_then(|(start, end)| slice.try_slice_mut(start..end));
        match (self.0.take(), view) {
            (Some(work), Some(view)) => work(device, view),
            _ => Err(Error::Msg("expected contiguous f32, once".into())),
        }
    }
}
