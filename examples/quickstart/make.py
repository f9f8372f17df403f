#!/usr/bin/env python3
"""Makes the quickstart: a small language model pretrained on the texts of world.py, its ONNX graph, and the rows of a task.

  python examples/quickstart/make.py               all of it, into this folder; 3 to 6 minutes on one core
  python examples/quickstart/make.py --into DIR    somewhere else
  python examples/quickstart/make.py --export      only the graph, for the model.safetensors that is there
  python examples/quickstart/make.py --task        only the rows of the task

Seeded throughout. Made with Python 3.11, torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3, onnx 1.23.2, onnxscript 0.7.2,
onnxruntime 1.32.0, safetensors 0.8.0. Another processor or number of threads rounds sums otherwise, and so gives another
model of the same kind; the tokenizer and the rows are the same everywhere.
"""
import argparse, json, logging, math, os, sys, time, warnings

if os.environ.get("PYTHONHASHSEED") != "0":  # transformers walks over sets of strings while exporting
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import onnx
import onnxruntime
import tokenizers
import torch
import transformers as hf
from onnx import TensorProto, helper, numpy_helper

from world import World, corpus, task

HERE = os.path.dirname(os.path.abspath(__file__))
SEED, DOCUMENTS, VOCABULARY, LENGTH, BATCH, STEPS, RATE = 2406, 40000, 512, 64, 32, 1000, 3e-3
TRAIN_ROWS, TEST_ROWS = 600, 200


def train_tokenizer(texts, folder):
    """Byte-level BPE: any text can be encoded; <s> opens each text, </s> ends it and pads."""
    tok = tokenizers.Tokenizer(tokenizers.models.BPE())
    tok.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = tokenizers.decoders.ByteLevel()
    tok.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], show_progress=False,
                                                                  initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tok.post_processor = tokenizers.processors.Sequence([
        tokenizers.processors.ByteLevel(trim_offsets=False),
        tokenizers.processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tok.token_to_id("<s>"))])])
    tok.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>", eos_token="</s>", pad_token="</s>",
                       model_max_length=128, clean_up_tokenization_spaces=False), f, indent=2)
        f.write("\n")
    return tok


def build():
    torch.manual_seed(SEED)
    config = hf.LlamaConfig(vocab_size=VOCABULARY, hidden_size=96, intermediate_size=192, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2,
                            head_dim=24, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1,
                            rope_parameters=dict(rope_type="default", rope_theta=10000.0), initializer_range=0.05)
    return hf.LlamaForCausalLM(config).float()


def pretrain(model, tok, texts, steps, watch=None):
    """Next-token training on windows of the texts laid end to end, each between <s> and </s>. AdamW, cosine rate."""
    end = tok.token_to_id("</s>")
    stream = torch.tensor([i for e in tok.encode_batch(texts) for i in e.ids + [end]])
    print(f"pretraining: {sum(p.numel() for p in model.parameters())} parameters, {len(stream)} tokens of text, {steps} steps of {BATCH} x {LENGTH}", flush=True)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    opt = torch.optim.AdamW([dict(params=matrices, weight_decay=0.05), dict(params=vectors, weight_decay=0.0)], lr=RATE, betas=(0.9, 0.98))
    g = torch.Generator().manual_seed(SEED)
    began, total = time.time(), 0.0
    model.train()
    for step in range(steps):
        for group in opt.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100) * (0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2)
        at = torch.randint(len(stream) - LENGTH - 1, (BATCH,), generator=g)
        window = stream[at[:, None] + torch.arange(LENGTH + 1)]
        logits = model(input_ids=window[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        total += loss.item()
        if (step + 1) % 250 == 0:
            print(f"  step {step + 1}: loss {total / 250:.4f}, {time.time() - began:.0f} s", flush=True)
            total = 0.0
            if watch:
                watch(step + 1)
    return model.eval()


class Graph(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).logits


def tensors_in(path):
    """Name -> (first byte in the file, length in bytes, array) of a safetensors file in f32."""
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        start = f.tell()
        data = f.read()
    header.pop("__metadata__", None)
    return {name: (start + t["data_offsets"][0], t["data_offsets"][1] - t["data_offsets"][0],
                   np.frombuffer(data[slice(*t["data_offsets"])], np.float32).reshape(t["shape"])) for name, t in header.items()}


def share_weights(graph, weights):
    """Makes the graph's weights external data that is model.safetensors itself, so that they lie on disk once.

    The exporter stores a matrix transposed where a MatMul wants it so; there the file's tensor and a Transpose node take
    its place. Returns how many weights were found.
    """
    found, nodes = 0, []
    for init in graph.initializer:
        array = numpy_helper.to_array(init)
        if array.dtype != np.float32 or array.size < 64:
            continue
        for name, (offset, length, tensor) in weights.items():
            turned = array.ndim == 2 and array.shape == tensor.shape[::-1] and np.array_equal(array, tensor.T)
            if not turned and not np.array_equal(array, tensor):
                continue
            if turned and array.shape[0] == array.shape[1] and np.array_equal(array, tensor):
                turned = False
            if turned:
                nodes.append(helper.make_node("Transpose", [name], [init.name], name=f"{name}.transpose", perm=[1, 0]))
                init.name = name
            init.ClearField("raw_data")
            init.ClearField("float_data")
            init.dims[:] = tensor.shape
            init.data_location = TensorProto.EXTERNAL
            for key, value in [("location", "model.safetensors"), ("offset", str(offset)), ("length", str(length))]:
                init.external_data.add(key=key, value=value)
            found += 1
            break
    for node in reversed(nodes):
        graph.node.insert(0, node)
    return found


def export(model, folder):
    path = os.path.join(folder, "model.onnx")
    model = model.eval().requires_grad_(False)
    model.config._attn_implementation = "eager"
    ids = torch.arange(3, 19).reshape(2, 8)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    torch.onnx.export(Graph(model), (ids, torch.ones_like(ids)), path, input_names=["input_ids", "attention_mask"], output_names=["logits"],
                      dynamo=True, dynamic_shapes={"input_ids": axes, "attention_mask": axes}, external_data=False, verbose=False)
    onx = onnx.load(path)
    weights = tensors_in(os.path.join(folder, "model.safetensors"))
    found = share_weights(onx.graph, weights)
    assert found == len(weights), (found, len(weights))
    for holder in [onx, onx.graph, *onx.graph.node, *onx.graph.initializer, *onx.graph.input, *onx.graph.output]:
        holder.doc_string = ""
        del holder.metadata_props[:]  # stack traces with local paths
    del onx.graph.value_info[:]
    onnx.save(onx, path)
    onnx.checker.check_model(path, full_check=True)
    print(f"model.onnx: {os.path.getsize(path)} bytes, {len(onx.graph.node)} nodes, {found} weights in model.safetensors; "
          f"largest difference of logits from PyTorch {graph_error(model, path):.1e}")


def graph_error(model, path):
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(2, VOCABULARY, (3, 21), generator=g)
    mask = (torch.arange(21) < torch.tensor([[21], [13], [5]])).long()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    error = np.abs(got - model(input_ids=ids, attention_mask=mask).logits.numpy())[mask.numpy() == 1].max()
    assert error < 1e-4, error
    return error


def write_task(world, folder):
    for name, rows in zip(["train.jsonl", "test.jsonl"], task(SEED + 2, world, TRAIN_ROWS, TEST_ROWS)):
        with open(os.path.join(folder, name), "w") as f:
            f.writelines(json.dumps(row) + "\n" for row in rows)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--into", default=HERE)
    p.add_argument("--export", action="store_true")
    p.add_argument("--task", action="store_true")
    p.add_argument("--steps", type=int, default=STEPS)
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    os.makedirs(a.into, exist_ok=True)
    world = World(SEED)
    if not a.export:
        write_task(world, a.into)
    if a.task:
        return
    if a.export:
        model = hf.AutoModelForCausalLM.from_pretrained(a.into, dtype=torch.float32, attn_implementation="eager")
    else:
        texts = corpus(SEED + 1, world, DOCUMENTS)
        tok = train_tokenizer(texts, a.into)
        model = pretrain(build(), tok, texts, a.steps)
        model.save_pretrained(a.into)
        if os.path.exists(extra := os.path.join(a.into, "generation_config.json")):
            os.remove(extra)
        os.chmod(os.path.join(a.into, "model.safetensors"), 0o644)
    export(model, a.into)


if __name__ == "__main__":
    main()
