"""Makes each case's export in half precision, as ONNX Runtime's converter does: model.float16.onnx.

  python tests/cases/half.py             every case
  python tests/cases/half.py llama       only these

Needs onnx and onnxruntime.
"""
import pathlib
import sys

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

for export in sorted(pathlib.Path(__file__).parent.glob("*/model.torchscript.onnx")):
    if sys.argv[1:] and export.parent.name not in sys.argv[1:]:
        continue
    half = convert_float_to_float16(onnx.load(export), keep_io_types=True)
    onnx.save(half, export.with_name("model.float16.onnx"))
