#!/usr/bin/env python3
"""The same job in PyTorch and transformers, as a user would write it: to be measured against, in turn, on one machine.

  python benches/peer.py --model DIR --train train.jsonl --eval test.jsonl --frost-line 12 --steps 120 --out peer.json

Trains the layers above the frost line and the final norm, with the head at targets only, in f32. Batches are consecutive
rows of {"prompt", "completion"}; AdamW without weight decay; linear warm-up over 10 steps times linear decay to 0, no
clipping: what `frostline train --order file --gradient-clip off` does. Evaluation ranks the completions that occur in the
evaluation file by the sum of their log-probabilities. Needs the packages torch and transformers.
"""
import argparse
import json
import os
import resource
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--train")
parser.add_argument("--eval")
parser.add_argument("--frost-line", type=int, default=0)
parser.add_argument("--steps", type=int, default=0)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--learning-rate", type=float, default=2e-5)
parser.add_argument("--settle", type=int, default=5, help="steps that are not timed")
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

torch.set_num_threads(arguments.threads)
tokenizer = AutoTokenizer.from_pretrained(arguments.model)
model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="sdpa")
base = model.base_model
layers = base.layers if hasattr(base, "layers") else base.h
norm = base.norm if hasattr(base, "norm") else base.ln_f
model.requires_grad_(False)
for module in [*layers[arguments.frost_line :], norm]:
    module.requires_grad_(True)


def read(path):
    rows = []
    for line in open(path, encoding="utf-8"):
        row = json.loads(line)
        prompt = tokenizer(row["prompt"]).input_ids
        rows.append((prompt, tokenizer(row["completion"], add_special_tokens=False).input_ids))
    return rows


def losses_at_targets(rows):
    """-ln p of each target, the row each belongs to, and the tokens without padding."""
    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for k, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[k, :end] = torch.tensor(prompt + completion)
        labels[k, len(prompt) : end] = torch.tensor(completion)
        mask[k, :end] = 1
    hidden = base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
    kept = labels[:, 1:] != -100
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[kept]).float(), labels[:, 1:][kept], reduction="none")
    return losses, kept.nonzero()[:, 0], int(mask.sum())


def train(rows):
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate, weight_decay=0.0)
    losses, tokens, seconds = [], [], []
    for step in range(arguments.steps):
        begun = time.perf_counter()
        first = step * arguments.batch_size
        batch = [rows[(first + k) % len(rows)] for k in range(arguments.batch_size)]
        factor = min(1, (step + 1) / 10) * (1 - step / arguments.steps)
        optimizer.param_groups[0]["lr"] = arguments.learning_rate * factor
        optimizer.zero_grad(set_to_none=True)
        each, _, count = losses_at_targets(batch)
        loss = each.mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        tokens.append(count)
        seconds.append(time.perf_counter() - begun)
    return losses, tokens, seconds


@torch.no_grad()
def accuracy(rows):
    candidates = sorted({tuple(completion) for _, completion in rows})
    right = 0
    for first in range(0, len(rows), 8):
        chunk = rows[first : first + 8]
        scores = []
        for candidate in candidates:
            each, owners, _ = losses_at_targets([(prompt, list(candidate)) for prompt, _ in chunk])
            scores.append(torch.zeros(len(chunk)).index_add_(0, owners, -each))
        best = torch.stack(scores).argmax(0).tolist()
        right += sum(candidates[k] == tuple(completion) for k, (_, completion) in zip(best, chunk))
    return right / len(rows)


result = {"peer": f"torch {torch.__version__}", "frost_line": arguments.frost_line, "threads": arguments.threads}
if arguments.steps:
    losses, tokens, seconds = train(read(arguments.train))
    settled = slice(arguments.settle, None)
    result |= {
        "losses": losses,
        "seconds_per_step": sum(seconds[settled]) / len(seconds[settled]),
        "tokens_per_second": sum(tokens[settled]) / sum(seconds[settled]),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
if arguments.eval:
    begun = time.perf_counter()
    result |= {"accuracy": accuracy(read(arguments.eval)), "evaluation_seconds": time.perf_counter() - begun}
with open(arguments.out, "w", encoding="utf-8") as file:
    json.dump(result, file, indent=1)
