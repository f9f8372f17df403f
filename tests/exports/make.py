#!/usr/bin/env python3
"""Makes ONNX exports of the models of ../cases with the tools that people export with.

  python3 tests/exports/make.py                    every family, into this folder; then the tables of README.md
  python3 tests/exports/make.py llama gemma3       only these; README.md stays as it is
  python3 tests/exports/make.py --check            only runs what is there, and prints the table of README.md

It needs Python 3.11 and nothing else: the two environments that the tools call for (below, ENVIRONMENTS) it makes itself, in
~/.cache/frostline-exports or what --cache names. --torch-from DIR takes PyTorch, ONNX and ONNX Runtime from the site-packages
DIR of another environment instead of downloading them; nothing is written there.
"""
import argparse, contextlib, io, json, logging, os, re, shutil, subprocess, sys, tempfile, warnings

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = os.path.join(os.path.dirname(HERE), "cases")
FAMILIES = ["gpt2", "llama", "qwen2", "gemma2", "gemma3", "mistral", "qwen3", "phi3", "olmo2", "gpt_neox", "smollm3", "granite"]

# Each environment: what it installs, and what that stands on, which --torch-from may bring along.
BELOW = ["torch==2.15.0", "onnx==1.23.2", "onnxruntime==1.32.0", "onnxscript==0.7.2", "onnx-ir==1.1.0", "safetensors==0.8.0", "tqdm", "requests", "pyyaml",
         "regex", "fsspec", "filelock", "packaging", "numpy==2.4.6", "sympy"]
ENVIRONMENTS = {
    "optimum": ["optimum-onnx==0.1.0", "optimum==2.1.0", "transformers==4.57.6", "huggingface-hub==0.36.2", "tokenizers==0.22.2"],
    "current": ["onnxruntime-genai==0.18.0", "transformers==5.23.0", "huggingface-hub==2.4.0", "tokenizers==0.23.3"],
}


def environment(name, cache, torch_from):
    """The interpreter of an environment, which is made where it is not there yet."""
    folder = os.path.join(cache, name)
    python, done = os.path.join(folder, "bin", "python"), os.path.join(folder, "done")
    if os.path.exists(done):
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    if torch_from:
        subprocess.run([*pip, "--no-deps", *ENVIRONMENTS[name]], check=True)
        # Only after the install, so that pip does not know of that folder. Python looks there last.
        packages = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True).stdout.strip()
        with open(os.path.join(packages, "torch-from.pth"), "w") as f:
            f.write(os.path.abspath(os.path.expanduser(torch_from)) + "\n")
    else:
        subprocess.run([*pip, *ENVIRONMENTS[name], *BELOW], check=True)
    open(done, "w").close()
    return python


# What stands below runs inside an environment.


def older_config(config):
    """A config.json of transformers 5 as transformers 4 reads it: there the rope's settings stand in the open."""
    rope = config.pop("rope_parameters", None)
    if rope and "full_attention" in rope:
        config |= dict(rope_theta=rope["full_attention"]["rope_theta"], rope_local_base_freq=rope["sliding_attention"]["rope_theta"])
    elif rope:
        part = rope.get("partial_rotary_factor", 1.0)
        config |= dict(rope_theta=rope["rope_theta"], partial_rotary_factor=part)
        if config["model_type"] == "gpt_neox":
            config |= dict(rotary_emb_base=rope["rope_theta"], rotary_pct=part)
    return config


def stage(family, folder, older):
    """A model folder for the tools: the case's weights, its config.json, and the tokenizer that genai's builder wants."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    with open(os.path.join(CASES, family, "config.json")) as f:
        config = json.load(f)
    if family == "phi3":
        # Where the two differ, genai's builder takes the rope to be a long one.
        config["original_max_position_embeddings"] = config["max_position_embeddings"]
    if family == "gemma3" and not older:
        # The builder reads a rope's settings where those of models with one kind of rope stand.
        rope = config["rope_parameters"]
        rope |= rope["full_attention"]
        # transformers 5 has no such attribute any more.
        transformers.Gemma3TextConfig.rope_local_base_freq = rope["sliding_attention"]["rope_theta"]
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(older_config(config) if older else config, f)
    os.symlink(os.path.join(CASES, family, "model.safetensors"), os.path.join(folder, "model.safetensors"))
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, config["vocab_size"])}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", unk_token="<unk>", bos_token="<s>", eos_token="</s>"), f)


def keep(model, path):
    """Writes a model with its weights inside and without what is only for people to read, and the shapes of intermediate values.

    Nodes, edges, names and weights stay as the tool wrote them.
    """
    import onnx

    def strip(graph):
        for holder in [graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
            holder.doc_string = ""
            if hasattr(holder, "metadata_props"):
                del holder.metadata_props[:]
        del graph.value_info[:]
        for node in graph.node:
            for attribute in node.attribute:
                for inner in [attribute.g, *attribute.graphs] if attribute.HasField("g") or attribute.graphs else []:
                    strip(inner)

    if isinstance(model, str):
        model = onnx.load(model)
    model.doc_string = ""
    del model.metadata_props[:]
    strip(model.graph)
    onnx.save(model, path)


def attempt(family, name, make):
    """Runs one tool; a failure is printed for `main` to collect, and leaves no file."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            make()
        print(f"  {family}/{name}.onnx", flush=True)
    except (Exception, SystemExit) as error:
        if os.environ.get("FROSTLINE_TRACEBACK"):
            import traceback

            traceback.print_exc()
            print(said.getvalue()[-3000:], file=sys.stderr)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        message = re.sub("/tmp/[^ ]*", "…", lines[0][:300])
        print(f"failed\t{family}\t{name}\t{type(error).__name__}: {message}", flush=True)


def export_optimum(family, out):
    """Optimum, by what `optimum-cli export onnx` calls."""
    import torch
    from optimum.exporters.onnx import main_export
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as work:
        model = os.path.join(work, "model")
        os.mkdir(model)
        stage(family, model, older=True)
        case = load_file(os.path.join(CASES, family, "expected.safetensors"))
        loaded = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager").eval()
        with torch.no_grad():
            logits = loaded(input_ids=case["input_ids"], attention_mask=case["attention_mask"]).logits
        error = (logits - case["logits"]).abs()[case["attention_mask"] == 1].max().item()
        print(f"  {family} in transformers 4: largest difference of logits {error:.1e}", flush=True)

        def export(task, name):
            into = os.path.join(work, name)
            main_export(model, into, task=task, do_validation=False)
            keep(os.path.join(into, "model.onnx"), os.path.join(out, f"{name}.onnx"))

        attempt(family, "optimum", lambda: export("text-generation", "optimum"))
        attempt(family, "optimum-past", lambda: export("text-generation-with-past", "optimum-past"))
        if family in ("llama", "gpt2"):
            attempt(family, "optimum-merged", lambda: merge(model, family, os.path.join(work, "optimum-past", "model.onnx"), work, out))


def merge(model, family, with_past, work, out):
    """One graph with both of Optimum's older two, the decoder without and with a past, in the branches of an `If`."""
    from optimum.exporters.onnx.convert import export
    from optimum.exporters.tasks import TasksManager
    from optimum.onnx import merge_decoders
    from pathlib import Path
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model).eval()
    config = TasksManager.get_exporter_config_constructor("onnx", model=loaded, task="text-generation", library_name="transformers")
    first = os.path.join(work, "first.onnx")
    export(loaded, config(loaded.config, task="text-generation", use_past=True, use_past_in_inputs=False), Path(first))
    merged = os.path.join(work, "merged.onnx")
    merge_decoders(first, with_past, save_path=merged)
    keep(merged, os.path.join(out, "optimum-merged.onnx"))


# The families that genai's builder knows; the others it is asked for as well, for its message.
PRECISIONS = {"fp32": "cpu", "fp16": "cuda", "int4": "cpu"}


def export_genai(family, out):
    """onnxruntime-genai's model builder, as `python -m onnxruntime_genai.models.builder -i … -p … -e …` runs it."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    for precision, provider in PRECISIONS.items():

        def build():
            with tempfile.TemporaryDirectory() as work:
                model, into, cache = (os.path.join(work, name) for name in ("model", "out", "cache"))
                os.mkdir(model)
                stage(family, model, older=False)
                options = parse_extra_options(None, model, into, precision, provider, cache, [])
                create_model(None, model, into, precision, provider, cache, **options)
                keep(os.path.join(into, "model.onnx"), os.path.join(out, f"genai-{precision}.onnx"))

        attempt(family, f"genai-{precision}", build)


def export_optimized(family, out):
    """ONNX Runtime's optimiser, and its converter to half precision after it, over PyTorch's older export."""
    from onnxruntime.transformers.optimizer import optimize_model

    source = os.path.join(CASES, family, "model.torchscript.onnx")
    with open(os.path.join(CASES, family, "config.json")) as f:
        config = json.load(f)

    def optimize():
        # Optimum, too, has the optimiser take most families for gpt2, and its level O2 is 2 here.
        heads, hidden = config.get("num_attention_heads", config.get("n_head")), config.get("hidden_size", config.get("n_embd"))
        kind = family if family in ("qwen3", "gpt_neox") else "gpt2"
        return optimize_model(source, model_type=kind, num_heads=heads, hidden_size=hidden, opt_level=2)

    def half():
        model = optimize()
        model.convert_float_to_float16(keep_io_types=True)
        keep(model.model, os.path.join(out, "optimized-float16.onnx"))

    attempt(family, "optimized", lambda: keep(optimize().model, os.path.join(out, "optimized.onnx")))
    attempt(family, "optimized-float16", half)


def export_int8(family, out):
    """ONNX Runtime's dynamic quantisation to 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as work:
        model = os.path.join(work, "model.onnx")
        quantize_dynamic(os.path.join(CASES, family, "model.torchscript.onnx"), model, weight_type=QuantType.QInt8)
        keep(model, os.path.join(out, "int8.onnx"))


def export_blocks(family, out):
    """ONNX Runtime's quantisation to 4 bits in blocks, the embedding included, with zero points and without."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    for name, symmetric in [("blocks", True), ("blocks-zero-points", False)]:
        config = DefaultWeightOnlyQuantConfig(
            block_size=16, is_symmetric=symmetric, op_types_to_quantize=("MatMul", "Gather"), quant_axes=(("MatMul", 0), ("Gather", 1)))
        quantizer = MatMulNBitsQuantizer(onnx.load(os.path.join(CASES, family, "model.dynamo.onnx")), algo_config=config)
        quantizer.process()
        onnx.save(quantizer.model.model, os.path.join(out, f"{name}.onnx"))


def export_external(family, out):
    """PyTorch's current export with its weights in two files, as large models lie on the Hugging Face hub."""
    import onnx

    model = onnx.load(os.path.join(CASES, family, "model.dynamo.onnx"))
    weights = [tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= 1024]
    for number, name in enumerate(["external.onnx_data", "external.onnx_data_1"]):
        half = slice(len(weights) // 2) if number == 0 else slice(len(weights) // 2, None)
        with open(os.path.join(out, name), "wb") as f:
            for tensor in weights[half]:
                f.write(bytes(-f.tell() % 4096))
                onnx.external_data_helper.set_external_data(tensor, name, offset=f.tell(), length=len(tensor.raw_data))
                f.write(tensor.raw_data)
                tensor.ClearField("raw_data")
    onnx.save(model, os.path.join(out, "external.onnx"))


def run_stage(name, families, into):
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(1)  # sums in one order, whatever the machine
    for family in families:
        out = os.path.join(into, family)
        os.makedirs(out, exist_ok=True)
        if name == "optimum":
            export_optimum(family, out)
        else:
            export_optimized(family, out)
            export_genai(family, out)
            if family == "llama":
                attempt(family, "external", lambda: export_external(family, out))
                attempt(family, "int8", lambda: export_int8(family, out))
                attempt(family, "blocks", lambda: export_blocks(family, out))


def feeds(session, case, head_size, use_cache):
    """Inputs for the rows of a case: all the tokens at once, after a past of no length."""
    import numpy as np

    ids, mask = case["input_ids"], case["attention_mask"]
    types = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
    given = {}
    for entry in session.get_inputs():
        if entry.name.startswith("past"):
            # The tools agree on [batch, heads, past, head size].
            value = np.zeros([len(ids), entry.shape[1], 0, head_size])
        else:
            value = {"input_ids": ids, "attention_mask": mask, "position_ids": np.tile(np.arange(ids.shape[1]), (len(ids), 1)),
                     "use_cache_branch": np.array([use_cache])}[entry.name]
        given[entry.name] = value.astype(types[entry.type])
    return given


# How far the logits may lie from PyTorch's; weights of few bits are reported only.
def tolerance(name):
    return float("inf") if "int" in name or "blocks" in name else 1e-2 if "16" in name else 1e-4


def count(names):
    """`input_ids`, `attention_mask`, `past_key_values.N.key/value` × 8."""
    alone = [name for name in names if not any(part.isdigit() for part in name.split("."))]
    many = {}
    for name in names:
        if name not in alone:
            pattern = ".".join("N" if part.isdigit() else part for part in name.split("."))
            many.setdefault(pattern.rsplit(".", 1)[0], []).append(pattern)
    return ", ".join([*(f"`{name}`" for name in alone), *(f"`{name}.*` × {len(found)}" for name, found in many.items())])


def check(into):
    """Runs every export on its case's rows; prints a row of the table for each."""
    import numpy as np
    import onnx
    import onnxruntime
    from safetensors.numpy import load_file

    onnxruntime.set_default_logger_severity(4)
    for family in FAMILIES:
        folder = os.path.join(into, family)
        case = load_file(os.path.join(CASES, family, "expected.safetensors"))
        with open(os.path.join(CASES, family, "config.json")) as f:
            config = json.load(f)
        head_size = config.get("head_dim") or (config.get("hidden_size") or config["n_embd"]) // (config.get("num_attention_heads") or config["n_head"])
        for file in sorted(f for f in os.listdir(folder) if f.endswith(".onnx")) if os.path.isdir(folder) else []:
            path = os.path.join(folder, file)
            model = onnx.load(path, load_external_data=False)
            opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
            own = sorted({node.op_type for node in nodes(model.graph) if node.domain == "com.microsoft"})
            # ONNX Runtime has operators of its own under the standard's name, too.
            own += sorted({f"{node.op_type}¹" for node in nodes(model.graph) if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type)})
            try:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = 1
                session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
                branches = [False, True] if any(entry.name == "use_cache_branch" for entry in session.get_inputs()) else [False]
                errors = []
                for use_cache in branches:
                    logits = session.run(["logits"], feeds(session, case, head_size, use_cache))[0].astype(np.float32)
                    errors.append(np.abs(logits - case["logits"])[case["attention_mask"] == 1].max())
                error = float(np.max(errors))
                result = f"{error:.1e}" + ("" if error <= tolerance(file) else " (!)")
            except Exception as problem:
                result = "does not run: " + str(problem).strip().splitlines()[0][:160]
            inputs, outputs = count([entry.name for entry in model.graph.input]), count([entry.name for entry in model.graph.output])
            kib = sum(os.path.getsize(os.path.join(folder, f)) for f in os.listdir(folder) if f == file or f.startswith(file + "_data")) / 1024
            print(f"| {family} | `{file[:-5]}` | {kib:.0f} | {opset} | {', '.join(own) or '–'} | {inputs} | {outputs} | {result} |", flush=True)


def nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)


def replace(text, mark, lines):
    """README.md with other lines between two comments."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->\n"
    head, rest = text.split(begin)
    return head + begin + "".join(line + "\n" for line in lines) + end + rest.split(end)[1]


HEADER = ["| family | export | KiB | opset | ONNX Runtime's own operators | inputs | outputs | difference |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="FAMILY")
    p.add_argument("--into", default=HERE)
    p.add_argument("--cache", default=os.path.expanduser("~/.cache/frostline-exports"))
    p.add_argument("--torch-from", metavar="DIR")
    p.add_argument("--check", action="store_true")
    p.add_argument("--stage", help=argparse.SUPPRESS)
    a = p.parse_args()
    if unknown := set(a.names) - set(FAMILIES):
        sys.exit(f"no family {', '.join(sorted(unknown))}; there are {', '.join(FAMILIES)}")
    families = a.names or FAMILIES
    if a.stage:
        return check(a.into) if a.stage == "check" else run_stage(a.stage, families, a.into)

    # transformers walks over sets of strings, whose order decides the order of nodes in a graph.
    settings = {**os.environ, "PYTHONHASHSEED": "0", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

    def run(name, environment_name):
        python = environment(environment_name, a.cache, a.torch_from)
        command = [python, os.path.abspath(__file__), "--stage", name, "--into", os.path.abspath(a.into), *families]
        with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir()) as process:
            lines = []
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip("\n"))
        if process.returncode != 0:
            sys.exit(f"stage {name} ended with status {process.returncode}")
        return lines

    failed = []
    if not a.check:
        for family in families:
            shutil.rmtree(os.path.join(a.into, family), ignore_errors=True)
        for name in ENVIRONMENTS:
            failed += [line.split("\t")[1:] for line in run(name, name) if line.startswith("failed\t")]
    rows = run("check", "current")
    if not (a.names or a.check):
        readme = os.path.join(HERE, "README.md")
        with open(readme) as f:
            text = f.read()
        text = replace(text, "table", [*HEADER, *(row for row in rows if row.startswith("| "))])
        text = replace(text, "failures", ["| family | export | what the tool says |", "| --- | --- | --- |", *(f"| {f} | `{n}` | {m} |" for f, n, m in failed)])
        with open(readme, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
