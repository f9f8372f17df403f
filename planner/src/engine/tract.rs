//! tract, the default engine: pure Rust, nothing to install.
//!
//! It gets concrete shapes, since symbolic ones fail or go wrong on real exports: one compiled graph for each shape in
//! use, dropped when that shape is done. Weights are read from the memory maps for each: tract repacks them for its matrix
//! products, and a copy kept for the next shape would lie beside the packed one all the while.

use std::collections::HashMap;
use std::sync::Arc;

use frostline_schemas::guard::guarded;
use rayon::prelude::*;
use tract_onnx::pb::{self, tensor_proto::DataType};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractErrorContext, bail};
use tract_onnx::tract_hir::ops::konst::Const;

use super::inputs::{GraphInput, InputValues, inputs};
use super::{BatchTraces, Engine, Sink};
use crate::batch::{BatchShape, PaddedBatch};
use crate::error::{Error, Result};
use crate::onnx::{OnnxModel, type_name};
use crate::rewrite::trace_outputs::TRACES;

type Runnable = RunnableModel<TypedFact, Box<dyn TypedOp>>;

const NAME: &str = "tract";
/// The release in use; held to Cargo.lock by a test.
pub(crate) const VERSION: &str = "0.23.9";

/// A graph without its weights, and the model that holds them.
pub(crate) struct Tract {
    model: OnnxModel,
    proto: pb::ModelProto,
    inputs: Vec<GraphInput>,
}

impl Tract {
    /// Takes an edited graph; `ids` is the input that holds token ids. It runs on the threads of the rayon pool that it
    /// is called in.
    ///
    /// # Errors
    /// [`Error::Input`] for an input that nobody can feed.
    pub(crate) fn new(model: OnnxModel, ids: &str) -> Result<Tract> {
        let inputs = inputs(&model, ids)?;
        let graph = model.graph();
        let mut proto = pb::ModelProto {
            ir_version: model.proto().ir_version,
            opset_import: model.proto().opset_import.clone(),
            functions: model.proto().functions.clone(),
            graph: Some(pb::GraphProto {
                node: graph.node.clone(),
                input: graph
                    .input
                    .iter()
                    .filter(|input| inputs.iter().any(|fed| fed.name == input.name))
                    .cloned()
                    .collect(),
                output: graph.output.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        model.inline_external(&mut proto)?;
        Ok(Tract { model, proto, inputs })
    }

    fn compile(&self, shape: BatchShape) -> Result<Arc<Runnable>> {
        let started = std::time::Instant::now();
        let weights: HashMap<&str, &pb::TensorProto> =
            self.model.graph().initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let graph = self.guard("compiling", || {
            let framework = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
            let parsed = framework.parse(&self.proto, None)?;
            let mut graph = parsed.model;
            for name in &parsed.unresolved_inputs {
                let proto =
                    weights.get(name.as_str()).with_context(|| format!("tensor `{name}` is made by nothing"))?;
                let weight = weight(&self.model, proto)?;
                let outlet = *parsed.outlets_by_name.get(name).context("a weight is gone")?;
                graph.set_outlet_fact(outlet, InferenceFact::dt_shape(weight.datum_type(), weight.shape()))?;
                graph.node_mut(outlet.node).op = Box::new(Const::new(Arc::new(weight))?);
            }
            let mut outlets = Vec::new();
            for input in &self.inputs {
                let outlet = *parsed.outlets_by_name.get(&input.name).context("an input is gone")?;
                graph.set_outlet_fact(outlet, InferenceFact::dt_shape(datum_type(input.dtype), input.dims(shape)))?;
                outlets.push(outlet);
            }
            graph.set_input_outlets(&outlets)?;
            graph.into_optimized()?.into_runnable()
        })?;
        tracing::debug!(?shape, seconds = started.elapsed().as_secs_f64(), "compiled");
        Ok(graph)
    }

    fn run_one(&self, graph: &Arc<Runnable>, shape: BatchShape, batch: &PaddedBatch) -> Result<BatchTraces> {
        self.guard("running", || {
            let values: TractResult<TVec<TValue>> =
                self.inputs.iter().map(|input| value(input, shape, batch)).collect();
            let outputs = graph.run(values?)?;
            let traces = outputs.first().with_context(|| format!("no output `{TRACES}`"))?;
            let view = traces.to_plain_array_view::<f32>()?;
            Ok((view.shape().to_vec(), view.iter().copied().collect::<Vec<f32>>()))
        })
        .and_then(|(found, values)| BatchTraces::new(NAME, shape, &found, values))
    }

    /// Runs tract's code, whose panics on graphs that it does not know become errors.
    fn guard<T>(&self, doing: &'static str, work: impl FnOnce() -> TractResult<T>) -> Result<T> {
        let failed = |error: String| {
            let (path, reason) = (self.model.path().into(), format!("{doing}: {error}"));
            Error::Graph { path, engine: NAME, reason, other: "ort" }
        };
        match guarded(work) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(format!("{error:#}"))),
            Err(panic) => Err(failed(panic)),
        }
    }
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        NAME
    }

    fn version(&self) -> String {
        VERSION.into()
    }

    fn provider(&self) -> &'static str {
        "cpu"
    }

    fn run(&mut self, shape: BatchShape, batches: &[PaddedBatch], sink: &mut Sink) -> Result<()> {
        let graph = self.compile(shape)?;
        // tract runs a graph on one thread, so as many batches as there are threads run side by side.
        let threads = rayon::current_num_threads();
        for (round, batches) in batches.chunks(threads).enumerate() {
            let run = |batch| self.run_one(&graph, shape, batch);
            let traces: Vec<Result<BatchTraces>> = batches.par_iter().map(run).collect();
            let first = round * threads;
            for (batch, traces) in traces.into_iter().enumerate() {
                sink(first + batch, traces?)?;
            }
        }
        Ok(())
    }
}

fn weight(model: &OnnxModel, proto: &pb::TensorProto) -> TractResult<Tensor> {
    let view = model.tensor(proto)?;
    let dtype = match view.dtype {
        DataType::Float => f32::datum_type(),
        DataType::Double => f64::datum_type(),
        DataType::Float16 => f16::datum_type(),
        DataType::Int64 => i64::datum_type(),
        DataType::Int32 => i32::datum_type(),
        DataType::Int16 => i16::datum_type(),
        DataType::Int8 => i8::datum_type(),
        DataType::Uint64 => u64::datum_type(),
        DataType::Uint32 => u32::datum_type(),
        DataType::Uint16 => u16::datum_type(),
        DataType::Uint8 => u8::datum_type(),
        DataType::Bool => {
            let values: Vec<bool> = view.bytes.iter().map(|&byte| byte != 0).collect();
            return Tensor::from_shape(&view.shape, &values);
        }
        _ => bail!("tensor `{}` is {}, which tract does not know", proto.name, type_name(proto.data_type)),
    };
    // SAFETY: `Tensor::view` has checked that there are as many bytes as shape and type call for, and any bytes are
    // values of these types.
    let tensor = unsafe { Tensor::from_raw_dt(dtype, &view.shape, &view.bytes) };
    model.release(proto, view.bytes.len());
    tensor
}

fn datum_type(dtype: DataType) -> DatumType {
    match dtype {
        DataType::Int32 => i32::datum_type(),
        DataType::Float => f32::datum_type(),
        DataType::Bool => bool::datum_type(),
        _ => i64::datum_type(),
    }
}

fn value(input: &GraphInput, shape: BatchShape, batch: &PaddedBatch) -> TractResult<TValue> {
    let (dims, values) = input.values(shape, batch);
    let tensor = match values {
        InputValues::Int64(values) => Tensor::from_shape(&dims, &values),
        InputValues::Int32(values) => Tensor::from_shape(&dims, &values),
        InputValues::Float(values) => Tensor::from_shape(&dims, &values),
        InputValues::Bool(values) => Tensor::from_shape(&dims, &values),
    };
    Ok(tensor?.into_tvalue())
}
