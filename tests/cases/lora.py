#!/usr/bin/env python3
"""Makes the reference values of low-rank adapters: what PEFT and PyTorch say of the tiny models with adapters beside their upper layers.

  python tests/cases/lora.py                        llama and gpt2, into lora/
  python tests/cases/lora.py --check MODEL RUN ROWS  PEFT loads a run folder of `frostline train --method lora`, adds its
                                                     adapters to the weights, and prints its loss on rows of input_ids and
                                                     labels both ways: as `frostline eval` should

The files are the same on every run. Made with torch 2.15.0, transformers 5.23.0, peft 0.21.2 and safetensors 0.8.0.
"""
import json, logging, os, sys, warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import peft
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
FROST_LINE, LAYERS, RANK, ALPHA = 2, 4, 3, 5
MODULES = {
    "llama": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
    "gpt2": ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
}
PREFIX = {"llama": "model.layers", "gpt2": "transformer.h"}


def load(folder):
    return hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def adapted(family):
    """The model of a family with adapters that are not zero."""
    targets = [f"{PREFIX[family]}.{layer}.{module}" for layer in range(FROST_LINE, LAYERS) for module in MODULES[family]]
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, fan_in_fan_out=family == "gpt2", task_type="CAUSAL_LM")
    model = peft.get_peft_model(load(os.path.join(HERE, family)), config).eval()
    g = torch.Generator().manual_seed(2000 + sum(map(ord, family)))
    with torch.no_grad():
        for _, p in sorted((n, p) for n, p in model.named_parameters() if p.requires_grad):
            p.copy_(0.2 * torch.randn(p.shape, generator=g))
    return model


def expected(family):
    """Every tensor of lora/FAMILY.safetensors, by name."""
    case = load_file(os.path.join(HERE, family, "expected.safetensors"))
    run = lambda model: model(input_ids=case["input_ids"], attention_mask=case["attention_mask"], use_cache=False).logits
    model = adapted(family)
    logits = run(model)
    row, place = case["positions"].T
    loss = torch.nn.functional.cross_entropy(logits[row, place], case["targets"])
    loss.backward()
    trained = {n.replace(".default", ""): p for n, p in model.named_parameters() if p.requires_grad}
    assert set(trained) == set(peft.get_peft_model_state_dict(model)), "PEFT's own names"
    out = {"loss": loss.reshape(1), "logits": logits} | trained | {f"grad.{n}": p.grad for n, p in trained.items()}
    out = {n: t.detach().contiguous().clone() for n, t in out.items()}
    return out | {"merged.logits": run(model.merge_and_unload()).detach().contiguous()}


def check(folder, run, rows):
    losses = lambda model: [t for row in map(json.loads, open(rows)) for t in row_losses(model, row)]
    model = peft.PeftModel.from_pretrained(load(folder), run).eval()
    with torch.no_grad():
        apart = losses(model)
        merged = losses(model.merge_and_unload())
    print(f"{len(apart)} targets: loss {sum(apart) / len(apart):.6f} with adapters beside the weights, {sum(merged) / len(merged):.6f} with them added")


def row_losses(model, row):
    logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:]), reduction="none")[[l >= 0 for l in row["labels"][1:]]].tolist()


def main():
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    if sys.argv[1:2] == ["--check"] and len(sys.argv) == 5:
        return check(*sys.argv[2:])
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    os.makedirs(os.path.join(HERE, "lora"), exist_ok=True)
    for family in MODULES:
        case = expected(family)
        path = os.path.join(HERE, "lora", f"{family}.safetensors")
        save_file(case, path, {"format": "pt"})
        os.chmod(path, 0o644)
        print(f"{family}: loss {case['loss'].item():.4f}, adding the adapters moves logits by {(case['merged.logits'] - case['logits']).abs().max():.1e}")


if __name__ == "__main__":
    main()
