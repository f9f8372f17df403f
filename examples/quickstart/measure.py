#!/usr/bin/env python3
"""Measures the quickstart's model with the method, in PyTorch: where the frost line falls, and what training above it gives.

  python examples/quickstart/measure.py [DIR] [--lr 1e-3] [--steps 120] [--frozen 0 4 7 ...] [--seeds 1]

Prints the mean trace, the gains, the histogram of end-of-freezing layers over 128 training rows, and the test accuracy for
each number of frozen layers (the final norm always trains; embeddings and head never). One rate for all.
"""
import argparse, json, logging, math, os, statistics, time, warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
import torch
import transformers as hf
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


def rows(folder, name):
    tok = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    read = [json.loads(line) for line in open(os.path.join(folder, name))]
    return [(tok.encode(r["prompt"]).ids, tok.encode(r["completion"], add_special_tokens=False).ids) for r in read]


def batch(pairs):
    """Right-padded ids, mask and labels; the label at t is predicted at t - 1."""
    n = max(len(p) + len(c) for p, c in pairs)
    ids = torch.ones(len(pairs), n, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for k, (p, c) in enumerate(pairs):
        ids[k, :len(p) + len(c)] = torch.tensor(p + c)
        mask[k, :len(p) + len(c)] = 1
        labels[k, len(p):len(p) + len(c)] = torch.tensor(c)
    return ids, mask, labels


@torch.no_grad()
def traces(model, pairs):
    """Deviation of each example in each latent space [examples, L + 1]: mean over its targets of 1 - cos(norm(h), s_y)."""
    w = model.get_output_embeddings().weight.double()
    basis = (w @ torch.linalg.inv(w.T @ w)).float()
    base, seen = model.base_model, []
    hooks = [base.layers[0].register_forward_pre_hook(lambda _, a, k: seen.append(a[0] if a else k["hidden_states"]), with_kwargs=True)]
    hooks += [layer.register_forward_hook(lambda _, a, o: seen.append(o[0] if isinstance(o, tuple) else o)) for layer in base.layers]
    ids, mask, labels = batch(pairs)
    base(input_ids=ids, attention_mask=mask, use_cache=False)
    for hook in hooks:
        hook.remove()
    row, place = (labels[:, 1:] != -100).nonzero().T
    wanted = basis[labels[row, place + 1]]
    d = torch.stack([1 - torch.cosine_similarity(base.norm(h[row, place]), wanted, dim=-1) for h in seen], 1)
    count = torch.zeros(len(pairs)).index_add_(0, row, torch.ones(len(row)))
    return torch.zeros(len(pairs), d.shape[1]).index_add_(0, row, d) / count[:, None]


def gains(d):
    """Power-law gain of layers 1 .. L: ln(d[i-1] / d[i]) / ln((i + 1) / i)."""
    d = d.clamp_min(1e-6)
    i = torch.arange(1, d.shape[-1], dtype=torch.float)
    return (d[..., :-1] / d[..., 1:]).log() / ((i + 1) / i).log()


def frost_line(model, pairs, say=True):
    d = traces(model, pairs)
    g = gains(d)[:, :-1]  # at least one layer must stay to train
    ends = [0 if v <= 0 else i + 1 for v, i in zip(*[t.tolist() for t in g.max(1)])]
    line = statistics.median_low(ends)
    if say:
        print("mean trace     ", " ".join(f"{x:.3f}" for x in d.mean(0)))
        print("its gains      ", " ".join(f"{x:+.3f}" for x in gains(d.mean(0))))
        print("end of freezing", " ".join(f"{i}:{ends.count(i)}" for i in range(len(model.base_model.layers))), " frost line", line, flush=True)
    return line


@torch.no_grad()
def accuracy(model, pairs):
    """Share of rows whose own completion has the highest log-likelihood of all completions that occur."""
    names = sorted({tuple(c) for _, c in pairs})
    right = 0
    for k in range(0, len(pairs), 50):
        part, scores = pairs[k:k + 50], []
        for name in names:
            ids, mask, labels = batch([(p, list(name)) for p, _ in part])
            logp = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].log_softmax(-1)
            wanted = labels[:, 1:]
            scores.append((logp.gather(-1, wanted.clamp_min(0)[..., None])[..., 0] * (wanted != -100)).sum(1))
        best = torch.stack(scores).argmax(0).tolist()
        right += sum(names[b] == tuple(c) for b, (_, c) in zip(best, part))
    return right / len(pairs)


def train(model, pairs, frozen, steps, lr, seed):
    """AdamW, no weight decay, 16 rows a step, linear warm-up over 10 steps, then linear decay to 0."""
    base = model.base_model
    model.requires_grad_(False)
    for part in [*base.layers[frozen:], base.norm]:
        part.requires_grad_(True)
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
    g = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(pairs), generator=g) for _ in range(math.ceil(steps * 16 / len(pairs)))])
    for step in range(steps):
        opt.param_groups[0]["lr"] = lr * min(1, (step + 1) / 10) * (1 - step / steps)
        ids, mask, labels = batch([pairs[i] for i in order[step * 16:step * 16 + 16]])
        h = base(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state[:, :-1]
        keep = labels[:, 1:] != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(h[keep]), labels[:, 1:][keep])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
    return loss.item()


def load(folder):
    return hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", default=HERE)
    p.add_argument("--lr", type=float, nargs="+", default=[1e-3])
    p.add_argument("--steps", type=int, default=120)
    p.add_argument("--frozen", type=int, nargs="*")
    p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    learn, test = rows(a.folder, "train.jsonl"), rows(a.folder, "test.jsonl")
    print("rows:", len(learn), len(test), "tokens a row: mean", round(statistics.mean(len(x) + len(y) for x, y in learn), 1), "most", max(len(x) + len(y) for x, y in learn))
    model = load(a.folder)
    depth, line = len(model.base_model.layers), frost_line(model, learn[:128])
    print("untrained accuracy", accuracy(model, test), flush=True)
    for lr in a.lr:
        for frozen in a.frozen or sorted({0, line, depth - 1}):
            began, found = time.time(), []
            for seed in range(a.seeds):
                model = load(a.folder)
                loss = train(model, learn, frozen, a.steps, lr, seed)
                found.append(accuracy(model, test))
            print(f"lr {lr:g} frozen {frozen}: accuracy {' '.join(f'{x:.3f}' for x in found)} mean {statistics.mean(found):.3f}, last loss {loss:.3f}, "
                  f"{(time.time() - began) / a.seeds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
