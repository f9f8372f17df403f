#!/usr/bin/env python3
"""Makes the reference cases: tiny models with random weights, and what PyTorch says of them.

  python tests/cases/make.py                    every family, into this folder
  python tests/cases/make.py llama gemma3       only these
  python tests/cases/make.py --into DIR llama   somewhere else
  python tests/cases/make.py --check DIR ...    recompute expected.safetensors of a case from its own weights and inputs
                                                and print how far the two lie apart; writes nothing

Families: gpt2, llama, llama-tied, qwen2, gemma2, gemma3, mistral, qwen3, phi3, olmo2, gpt_neox, smollm3, granite, llama-sharded.
The files are the same on every run. Made with Python 3.11, torch 2.15.0, transformers 5.23.0, onnx 1.23.2, onnxscript 0.7.2,
onnxruntime 1.32.0, safetensors 0.8.0; other versions give another graph, and may give other last digits.
"""
import argparse, logging, os, shutil, sys, warnings

if os.environ.get("PYTHONHASHSEED") != "0":
    # transformers walks over sets of strings (gemma3's layer types): their order decides the order of nodes in the graph.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import onnx
import onnxruntime
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
LAYERS, HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY, PLACES = 4, 32, 64, 4, 2, 8, 61, 32
SEQUENCE = 10
LENGTHS = [10, 7, 5]  # tokens of each row; the rest is padding on the right
TARGETS = [4, 2, 1]  # the last so many tokens of each row are targets


def llama(**changed):
    settings = dict(vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                    num_key_value_heads=KV_HEADS, head_dim=HEAD_DIM, max_position_embeddings=PLACES, rms_norm_eps=1e-6, tie_word_embeddings=False,
                    bos_token_id=1, eos_token_id=2, rope_parameters=dict(rope_type="default", rope_theta=10000.0))
    return hf.LlamaForCausalLM(hf.LlamaConfig(**{**settings, **changed}))


def llama_tied():
    # Another base of the rope than llama's, so that one that is not read from config.json shows.
    return llama(tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=100.0))


def gpt2():
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=VOCABULARY, n_embd=HIDDEN, n_inner=INTERMEDIATE, n_layer=LAYERS, n_head=HEADS, n_positions=PLACES,
                                            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2))


def qwen2():
    return hf.Qwen2ForCausalLM(hf.Qwen2Config(vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS,
                                              num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, max_position_embeddings=PLACES, rms_norm_eps=1e-6,
                                              tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0)))


def gemma3():
    # The window of 4 is smaller than a row; head_dim 16 differs from hidden / heads; the query scale differs from head_dim.
    return hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS, head_dim=2 * HEAD_DIM, query_pre_attn_scalar=12, max_position_embeddings=PLACES, sliding_window=4,
        layer_types=["sliding_attention", "full_attention"] * 2, bos_token_id=2, eos_token_id=1, pad_token_id=0, tie_word_embeddings=True,
        rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=1000000.0),
                             sliding_attention=dict(rope_type="default", rope_theta=10000.0))))


def gemma2():
    # Scores reach about three times their cap and logits about twice theirs, so tanh bends both; a cap of 1 would hide whether it
    # divides and multiplies. The window of 4 is smaller than a row; head_dim 16 differs from hidden / heads; the query scale differs
    # from head_dim.
    return hf.Gemma2ForCausalLM(gated(hf.Gemma2Config, head_dim=2 * HEAD_DIM, query_pre_attn_scalar=12, sliding_window=4,
                                      layer_types=["sliding_attention", "full_attention"] * 2, attn_logit_softcapping=1.2,
                                      final_logit_softcapping=1.5, tie_word_embeddings=True))


def gated(config, **changed):
    """What the newer families' configs have in common."""
    settings = dict(vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                    num_key_value_heads=KV_HEADS, max_position_embeddings=PLACES, rms_norm_eps=1e-6, tie_word_embeddings=False,
                    bos_token_id=1, eos_token_id=2, pad_token_id=0, rope_parameters=dict(rope_type="default", rope_theta=10000.0))
    return config(**{**settings, **changed})


def mistral():
    # The window of 4 is smaller than a row, and on every layer; head_dim 12 differs from hidden / heads.
    return hf.MistralForCausalLM(gated(hf.MistralConfig, head_dim=12, sliding_window=4))


def qwen3():
    # Layers 3 and 4 have a window.
    return hf.Qwen3ForCausalLM(gated(hf.Qwen3Config, head_dim=2 * HEAD_DIM, attention_bias=True, use_sliding_window=True, sliding_window=4,
                                     max_window_layers=2, tie_word_embeddings=True))


def phi3():
    # Half of each head is turned.
    return hf.Phi3ForCausalLM(gated(hf.Phi3Config, sliding_window=5, rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5)))


def olmo2():
    return hf.Olmo2ForCausalLM(gated(hf.Olmo2Config))


def gpt_neox():
    # Half of each head is turned.
    return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, intermediate_size=INTERMEDIATE, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        max_position_embeddings=PLACES, bos_token_id=1, eos_token_id=2,
        rope_parameters=dict(rope_type="default", rope_theta=100.0, partial_rotary_factor=0.5)))


def smollm3():
    # Layers 2 and 4 turn nothing.
    return hf.SmolLM3ForCausalLM(gated(hf.SmolLM3Config, no_rope_layer_interval=2, tie_word_embeddings=True))


def granite():
    # No multiplier is 1, and the attention's differs from 1 / sqrt(head_dim).
    return hf.GraniteForCausalLM(gated(hf.GraniteConfig, embedding_multiplier=3.0, residual_multiplier=0.6, attention_multiplier=0.7,
                                       logits_scaling=1.7, tie_word_embeddings=True))


FAMILIES = {"gpt2": gpt2, "llama": llama, "llama-tied": llama_tied, "qwen2": qwen2, "gemma2": gemma2, "gemma3": gemma3, "mistral": mistral,
            "qwen3": qwen3, "phi3": phi3, "olmo2": olmo2, "gpt_neox": gpt_neox, "smollm3": smollm3, "granite": granite}

# Tensors that transformers calls otherwise in a family's files than in its model.
NAMES_IN_FILES = {"gpt_neox": {"lm_head.weight": "embed_out.weight"}}


def build(family):
    """The model of a family. Its weights depend on the family's name alone."""
    model = FAMILIES[family]()
    model.config._attn_implementation = "eager"
    g = torch.Generator().manual_seed(sum(map(ord, family)))
    with torch.no_grad():
        for _, p in sorted(model.named_parameters()):
            # Far from the usual start (std 0.02, norms 1 or 0, biases 0): there a forgotten bias, norm weight or `1 +` hardly shows.
            noise = torch.randn(p.shape, generator=g)
            p.copy_(0.15 * noise if p.dim() > 1 else p + 0.2 * noise)
    return model.float().eval()


def inputs(family):
    """input_ids, attention_mask and labels, all [3, 10] i64. Padded places hold tokens too: they must not count."""
    g = torch.Generator().manual_seed(1000 + sum(map(ord, family)))
    ids = torch.randint(3, VOCABULARY, (len(LENGTHS), SEQUENCE), generator=g)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (length, targets) in enumerate(zip(LENGTHS, TARGETS)):
        mask[row, :length] = 1
        labels[row, length - targets:length] = ids[row, length - targets:length]
    return ids, mask, labels


def parts(model):
    """The decoder layers and the final norm, whatever the family calls them."""
    base = model.base_model
    if hasattr(base, "final_layer_norm"):
        return base.layers, base.final_layer_norm
    return (base.layers, base.norm) if hasattr(base, "layers") else (base.h, base.ln_f)


def latent_spaces(model, ids, mask):
    """Hidden states 0 to L before any final norm, each [batch, sequence, hidden], and the logits.

    Not `output_hidden_states`: its last entry has been through the final norm.
    """
    layers, _ = parts(model)
    seen = []
    first = lambda out: out[0] if isinstance(out, tuple) else out
    hooks = [layers[0].register_forward_pre_hook(lambda _, args, kwargs: seen.append(first(args) if args else kwargs["hidden_states"]), with_kwargs=True)]
    hooks += [layer.register_forward_hook(lambda _, args, out: seen.append(first(out))) for layer in layers]
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    assert len(seen) == len(layers) + 1
    return seen, logits


def semantic_basis(model):
    """Row y is the basis of token y: row y of W (W^T W)^-1, the transposed pseudo-inverse of the LM head, by way of f64."""
    w = model.get_output_embeddings().weight.detach().double()
    return (w @ torch.linalg.inv(w.T @ w)).float()


def expected(model, ids, mask, labels):
    """Every tensor of expected.safetensors, by name."""
    _, norm = parts(model)
    model.zero_grad(set_to_none=True)
    hidden, logits = latent_spaces(model, ids, mask)
    positions = (labels[:, 1:] != -100).nonzero()  # the label at t is predicted at t - 1
    row, place = positions.T
    targets = labels[row, place + 1]
    loss = torch.nn.functional.cross_entropy(logits[row, place], targets)
    loss.backward()
    normed, basis = [norm(h) for h in hidden], semantic_basis(model)
    deviation = torch.stack([1 - torch.cosine_similarity(n[row, place].double(), basis[targets].double(), dim=-1) for n in normed]).float()
    out = dict(input_ids=ids, attention_mask=mask, labels=labels, positions=positions, targets=targets,
               logits=logits, loss=loss.reshape(1), basis=basis, deviation=deviation)
    out |= {f"hidden.{i}": h for i, h in enumerate(hidden)} | {f"normed.{i}": n for i, n in enumerate(normed)}
    in_file = NAMES_IN_FILES.get(model.config.model_type, {})
    # Tied weights appear once, under the embedding's name.
    out |= {f"grad.{in_file.get(name, name)}": p.grad for name, p in model.named_parameters()}
    return {name: t.detach().contiguous().clone() for name, t in out.items()}


class Graph(torch.nn.Module):
    """What is exported: two inputs, one output, no cache."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


def export_dynamo(model, path, external_data):
    ids = torch.arange(3, 19).reshape(2, 8)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    torch.onnx.export(Graph(model).eval(), (ids, torch.ones_like(ids)), path, input_names=["input_ids", "attention_mask"], output_names=["logits"],
                      dynamo=True, dynamic_shapes={"input_ids": axes, "attention_mask": axes}, external_data=external_data, verbose=False)


def export_torchscript(model, path):
    ids = torch.arange(3, 19).reshape(2, 8)
    axes = {0: "batch", 1: "sequence"}
    torch.onnx.export(Graph(model).eval(), (ids, torch.ones_like(ids)), path, input_names=["input_ids", "attention_mask"], output_names=["logits"],
                      dynamo=False, opset_version=17, dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": axes})


def slim(path, keep_shapes=False):
    """Drops what is only for people to read (stack traces with local paths among it) and the shapes of intermediate values.

    Nodes, edges, names and weights stay as the exporter wrote them; weights in a second file are not touched.
    """
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for holder in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        holder.doc_string = ""
        if hasattr(holder, "metadata_props"):
            del holder.metadata_props[:]
    for value in graph.value_info:
        del value.metadata_props[:]
    if not keep_shapes:
        del graph.value_info[:]
    onnx.save(model, path)
    onnx.checker.check_model(path, full_check=True)


def graph_error(path, case):
    """The largest difference of an ONNX file's logits from PyTorch's, where there is a token."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(["logits"], {"input_ids": case["input_ids"].numpy(), "attention_mask": case["attention_mask"].numpy()})[0]
    return np.abs(got - case["logits"].numpy())[case["attention_mask"].numpy() == 1].max()


def make_case(family, folder):
    model = build(family)
    model.save_pretrained(folder)
    case = expected(model, *inputs(family))
    save_file(case, os.path.join(folder, "expected.safetensors"))
    # The loss and its gradients are taken; exporters trace better without them.
    model.requires_grad_(False)
    export_dynamo(model, os.path.join(folder, "model.dynamo.onnx"), external_data=False)
    export_torchscript(model, os.path.join(folder, "model.torchscript.onnx"))
    for name in ["model.dynamo.onnx", "model.torchscript.onnx"]:
        slim(os.path.join(folder, name))
        error = graph_error(os.path.join(folder, name), case)
        assert error < 1e-4, (family, name, error)
        print(f"  {name}: largest difference of logits {error:.1e}")
    print(f"  loss {case['loss'].item():.4f}, deviations {case['deviation'].min():.3f} to {case['deviation'].max():.3f}, "
          f"condition of the LM head {np.linalg.cond(model.get_output_embeddings().weight.numpy()):.1f}")


def make_sharded(folder):
    """The model of `llama` as large models lie on disk: shards with an index, and a graph whose weights are in a second file.

    The graph keeps the exporter's shapes of intermediate values, which the other cases have cut away.
    """
    model = build("llama")
    model.save_pretrained(folder, max_shard_size="96KB")
    assert len([f for f in os.listdir(folder) if f.endswith(".safetensors")]) == 2
    case = expected(model, *inputs("llama"))
    model.requires_grad_(False)
    export_dynamo(model, os.path.join(folder, "model.onnx"), external_data=True)
    assert os.path.getsize(os.path.join(folder, "model.onnx.data")) > 100_000
    slim(os.path.join(folder, "model.onnx"), keep_shapes=True)
    print(f"  model.onnx: largest difference of logits {graph_error(os.path.join(folder, 'model.onnx'), case):.1e}")


def check(folder):
    """Recomputes a case from its own weights and inputs; prints the largest differences by kind."""
    model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    want = load_file(os.path.join(folder, "expected.safetensors"))
    got = expected(model, want["input_ids"], want["attention_mask"], want["labels"])
    assert set(got) == set(want), set(got) ^ set(want)
    worst = {}
    for name, tensor in want.items():
        assert got[name].shape == tensor.shape and got[name].dtype == tensor.dtype, name
        difference = (got[name] - tensor).abs().double()
        if name.split(".")[0] in ("hidden", "normed", "logits"):
            difference = difference[want["attention_mask"] == 1]  # what stands at padded places means nothing
        kind = name.split(".")[0]
        worst[kind] = max(worst.get(kind, 0.0), difference.max().item())
    print(folder, " ".join(f"{kind} {error:.1e}" for kind, error in sorted(worst.items())))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="FAMILY")
    p.add_argument("--into", default=HERE)
    p.add_argument("--check", action="store_true")
    a = p.parse_args()
    torch.set_num_threads(1)  # sums in one order, whatever the machine
    if a.check:
        return [check(folder) for folder in a.names]
    known = [*FAMILIES, "llama-sharded"]
    if unknown := set(a.names) - set(known):
        sys.exit(f"no family {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in a.names or known:
        folder = os.path.join(a.into, name)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        print(name)
        make_sharded(folder) if name == "llama-sharded" else make_case(name, folder)
        generation = os.path.join(folder, "generation_config.json")  # says nothing of the model
        if os.path.exists(generation):
            os.remove(generation)
        for file in os.listdir(folder):
            os.chmod(os.path.join(folder, file), 0o644)


if __name__ == "__main__":
    main()
