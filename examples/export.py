#!/usr/bin/env python3
"""Exports a Hugging Face model folder to ONNX beside its weights, as `frostline plan` wants it.

  python examples/export.py DIR        writes DIR/model.onnx, and its weights as DIR/model.onnx.data

Needs the packages torch, transformers, onnx and onnxscript. The export is in f32, with inputs input_ids and attention_mask
[batch, sequence] and output logits, both sizes dynamic.
"""
import os
import sys

import torch
from transformers import AutoModelForCausalLM

if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = sys.argv[1]


class Logits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


ids = torch.arange(3, 19).reshape(2, 8)
axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
torch.onnx.export(
    Logits().eval(),
    (ids, torch.ones_like(ids)),
    os.path.join(folder, "model.onnx"),
    input_names=["input_ids", "attention_mask"],
    output_names=["logits"],
    dynamo=True,
    dynamic_shapes={"input_ids": axes, "attention_mask": axes},
    external_data=True,
)
