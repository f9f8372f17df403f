"""Prints what Spectrum ranks the matrices of a case by, for the test in planner/src/spectrum.rs.

  python tests/cases/spectrum.py llama

Needs torch and safetensors.
"""
import pathlib
import sys

import torch
from safetensors.torch import load_file

tensors = load_file(pathlib.Path(__file__).parent / sys.argv[1] / "model.safetensors")
kinds = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
layers = sum(name.endswith("mlp.up_proj.weight") for name in tensors)
for layer in range(layers):
    for kind in kinds:
        weight = tensors[f"model.layers.{layer}.{kind}.weight"].double()
        values = torch.linalg.svdvals(weight)
        sigma = (torch.quantile(values, 0.75) - torch.quantile(values, 0.25)) / 1.349
        edge = sigma * (1 + (min(weight.shape) / max(weight.shape)) ** 0.5)
        signal, noise = values[values > edge].sum(), values[values <= edge].sum()
        print(f"{(signal / noise / values[0]).item():.8e},")
