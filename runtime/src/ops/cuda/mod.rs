//! Kernels of our own for CUDA: one launch where candle's operations would be a chain of several.
//!
//! Each module here is the CUDA half of the operation whose name it bears; the formulas stand there. Tensors are f32 or
//! bf16, the arithmetic is f32, and no result depends on the order in which threads run. `kernels.cu` is compiled when
//! the first kernel is launched, for the device at hand, by the NVRTC that candle needs anyway.

pub(crate) mod activation;
pub(crate) mod adamw;
pub(crate) mod attention;
pub(crate) mod norm;
pub(crate) mod rope;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaView, CudaViewMut, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaStorageSlice, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Error, Layout, Result, Shape, Storage, Tensor};
use half::bf16;

const SOURCE: &str = include_str!("kernels.cu");
/// The name under which a device keeps the compiled kernels.
const MODULE: &str = "frostline";
/// As in the source.
const MOST_THREADS: usize = 256;
const LANES: usize = 32;
const ITEMS: usize = 4;

/// Whether the kernels compute with these tensors: all on one device, of one storage type, none empty.
pub(crate) fn has_kernels_for<const N: usize>(tensors: [&Tensor; N]) -> bool {
    let [first, ..] = tensors.as_slice() else { return false };
    let like = |tensor: &&Tensor| {
        tensor.dtype() == first.dtype() && tensor.device().same_device(first.device()) && tensor.elem_count() > 0
    };
    first.device().is_cuda() && matches!(first.dtype(), DType::F32 | DType::BF16) && tensors.iter().all(like)
}

/// Blocks of a launch in two directions, and threads of a block.
#[derive(Clone, Copy)]
struct Grid {
    blocks: [usize; 2],
    threads: usize,
}

impl Grid {
    /// A block for each row of this width.
    fn rows(count: usize, width: usize) -> Grid {
        Grid { blocks: [count, 1], threads: width.next_power_of_two().clamp(LANES, MOST_THREADS) }
    }

    /// A thread for each column of each of the chunks.
    fn columns(width: usize, chunks: usize) -> Grid {
        let threads = width.next_power_of_two().clamp(LANES, MOST_THREADS);
        Grid { blocks: [width.div_ceil(threads), chunks], threads }
    }

    /// Elements, some for each thread.
    fn elements(count: usize) -> Grid {
        Grid { blocks: [count.div_ceil(MOST_THREADS * ITEMS), 1], threads: MOST_THREADS }
    }

    fn config(self) -> Result<LaunchConfig> {
        // What every device allows in the second direction; in the first it is 2³¹ − 1.
        const MOST_CHUNKS: usize = 65535;
        let [x, y] = self.blocks;
        match (i32::try_from(x), y <= MOST_CHUNKS) {
            (Ok(_), true) => Ok(LaunchConfig {
                grid_dim: (x as u32, y as u32, 1),
                block_dim: (self.threads as u32, 1, 1),
                shared_mem_bytes: 0,
            }),
            _ => Err(Error::Msg(format!("{x} times {y} blocks are more than a CUDA device takes"))),
        }
    }
}

/// What a kernel reads or writes.
enum Argument<'a> {
    ReadF32(CudaView<'a, f32>),
    ReadBf16(CudaView<'a, bf16>),
    ReadU32(CudaView<'a, u32>),
    WriteF32(CudaViewMut<'a, f32>),
    WriteBf16(CudaViewMut<'a, bf16>),
}

impl<'a> Argument<'a> {
    fn read(storage: &'a Storage, layout: &Layout) -> Result<Argument<'a>> {
        let Some((start, end)) = layout.contiguous_offsets() else { return unfit(storage.dtype()) };
        let view = match storage {
            Storage::Cuda(CudaStorage { slice: CudaStorageSlice::F32(slice), .. }) => {
                slice.try_slice(start..end).map(Argument::ReadF32)
            }
            Storage::Cuda(CudaStorage { slice: CudaStorageSlice::BF16(slice), .. }) => {
                slice.try_slice(start..end).map(Argument::ReadBf16)
            }
            Storage::Cuda(CudaStorage { slice: CudaStorageSlice::U32(slice), .. }) => {
                slice.try_slice(start..end).map(Argument::ReadU32)
            }
            _ => None,
        };
        view.map_or_else(|| unfit(storage.dtype()), Ok)
    }

    fn write(slice: &'a mut CudaStorageSlice) -> Result<Argument<'a>> {
        match slice {
            CudaStorageSlice::F32(slice) => Ok(Argument::WriteF32(slice.as_view_mut())),
            CudaStorageSlice::BF16(slice) => Ok(Argument::WriteBf16(slice.as_view_mut())),
            _ => Err(Error::Msg("a kernel writes f32 or bf16".into())),
        }
    }
}

fn unfit<R>(dtype: DType) -> Result<R> {
    Err(Error::Msg(format!("expected contiguous f32, bf16 or u32 on a CUDA device, got {dtype:?}")))
}

/// Runs a kernel for the storage type of the first tensor that it reads; returns what it writes.
///
/// # Safety
/// The kernel must have these parameters and stay within the tensors, and must write every element of what it writes.
unsafe fn run<const R: usize, const W: usize>(
    kernel: &str,
    grid: Grid,
    reads: [&Tensor; R],
    writes: [(&Shape, DType); W],
    sizes: &[usize],
    numbers: &[f32],
) -> Result<[Tensor; W]> {
    let contiguous = reads.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    let Some(first) = contiguous.first() else { return Err(Error::Msg("a kernel that reads nothing".into())) };
    let device = first.device().as_cuda_device()?;
    let guards: Vec<_> = contiguous.iter().map(Tensor::storage_and_layout).collect();
    let mut written = writes.iter().map(|(shape, dtype)| memory(device, shape, *dtype)).collect::<Result<Vec<_>>>()?;
    let read = guards.iter().map(|(storage, layout)| Argument::read(storage, layout));
    let mut arguments = read.chain(written.iter_mut().map(Argument::write)).collect::<Result<Vec<_>>>()?;
    // SAFETY: as the caller promises.
    unsafe { launch(device, kernel, first.dtype(), grid, &mut arguments, sizes, numbers) }?;
    drop(arguments);
    let tensor = |(slice, (shape, _)): (CudaStorageSlice, &(&Shape, DType))| {
        let storage = Storage::Cuda(CudaStorage { slice, device: device.clone() });
        Tensor::from_storage(storage, *shape, BackpropOp::none(), false)
    };
    let tensors: Vec<Tensor> = written.into_iter().zip(&writes).map(tensor).collect();
    <[Tensor; W]>::try_from(tensors).map_err(|_| Error::Msg("as many tensors as were written".into()))
}

/// Memory that holds anything.
fn memory(device: &CudaDevice, shape: &Shape, dtype: DType) -> Result<CudaStorageSlice> {
    let count = shape.elem_count();
    // SAFETY: f32 and bf16 are numbers whatever their bits, and kernels write all of it before anything reads it.
    unsafe {
        match dtype {
            DType::F32 => Ok(CudaStorageSlice::F32(device.alloc(count)?)),
            DType::BF16 => Ok(CudaStorageSlice::BF16(device.alloc(count)?)),
            _ => unfit(dtype),
        }
    }
}

/// # Safety
/// The kernel must have these parameters and stay within the memory that they name.
unsafe fn launch(
    device: &CudaDevice,
    kernel: &str,
    dtype: DType,
    grid: Grid,
    arguments: &mut [Argument],
    sizes: &[usize],
    numbers: &[f32],
) -> Result<()> {
    let function = device.get_or_load_custom_func(&format!("{kernel}_{}", dtype.as_str()), MODULE, &ptx(device)?)?;
    let sizes: Vec<u64> = sizes.iter().map(|&size| size as u64).collect();
    let mut builder = function.builder();
    for argument in arguments {
        match argument {
            Argument::ReadF32(view) => builder.arg(&*view),
            Argument::ReadBf16(view) => builder.arg(&*view),
            Argument::ReadU32(view) => builder.arg(&*view),
            Argument::WriteF32(view) => builder.arg(view),
            Argument::WriteBf16(view) => builder.arg(view),
        };
    }
    sizes.iter().for_each(|size| {
        builder.arg(size);
    });
    numbers.iter().for_each(|number| {
        builder.arg(number);
    });
    // SAFETY: as the caller promises.
    unsafe { builder.launch(grid.config()?) }.w()?;
    Ok(())
}

/// The kernels compiled for a device of this kind, once per process.
fn ptx(device: &CudaDevice) -> Result<Arc<str>> {
    static COMPILED: Mutex<BTreeMap<(i32, i32), Arc<str>>> = Mutex::new(BTreeMap::new());
    let capability = device.cuda_stream().context().compute_capability().w()?;
    // Whoever panicked with the lock left a whole map behind.
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ptx) = compiled.get(&capability) {
        return Ok(ptx.clone());
    }
    let (major, minor) = capability;
    let options = vec![format!("--gpu-architecture=compute_{major}{minor}")];
    let ptx = compile_ptx_with_opts(SOURCE, CompileOptions { options, ..CompileOptions::default() });
    let ptx: Arc<str> = ptx.map_err(refused)?.to_src().into();
    compiled.insert(capability, ptx.clone());
    Ok(ptx)
}

/// The compiler's own words, which its error would print as a list of bytes.
fn refused(error: CompileError) -> Error {
    match error {
        CompileError::CompileError { log, .. } => {
            Error::Msg(format!("NVRTC does not compile the kernels: {}", log.to_string_lossy()))
        }
        error => Error::Msg(format!("NVRTC does not compile the kernels: {error:?}")),
    }
}
