#!/usr/bin/env python3
"""Planning against one plain pass of the same export over the same batches, in turn on one machine.

  python benches/plan.py --model DIR --data train.jsonl --examples 256 --runs 5

DIR holds model.onnx. For each run, one after the other: a plain pass through ONNX Runtime from Python, logits included;
`frostline plan` through ONNX Runtime, with the Gram matrix of the head computed and then kept; and through tract. Prints
medians of the whole time (without Python's imports and tokenizing) and of the running alone, peak memory, and ratios to
the plain pass, as a table in Markdown. --data must be JSONL of {"prompt", "completion"}; its first rows are taken.
Needs cargo, onnxruntime, transformers.
"""
import argparse
import glob
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__)
parser.add_argument("--model", required=True)
parser.add_argument("--data", required=True)
parser.add_argument("--examples", type=int, default=256)
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--out")
parser.add_argument("--plain", metavar="SHAPES", help=argparse.SUPPRESS)


def plain_pass(arguments):
    """A session of the whole export, and batches of random tokens in the shapes that planning ran: time is all that counts."""
    import resource
    import time

    import numpy
    import onnxruntime

    chance = numpy.random.default_rng(0)
    begun = time.monotonic()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(os.path.join(arguments.model, "model.onnx"), options, providers=["CPUExecutionProvider"])
    loaded = time.monotonic()
    for rows, length, batches in json.loads(arguments.plain):
        for _ in range(batches):
            ids = chance.integers(1000, 30000, (rows, length))
            feeds = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "position_ids": numpy.tile(numpy.arange(length), (rows, 1))}
            session.run(["logits"], {entry.name: feeds[entry.name] for entry in session.get_inputs()})
    done = time.monotonic()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    json.dump({"seconds": done - begun, "running": done - loaded, "peak": peak}, sys.stdout)


def measured(command):
    """Time, peak memory and stdout of a command."""
    run = subprocess.run(["/usr/bin/env", "time", "-f", "%e %M", *command], capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    seconds, kib = run.stderr.strip().splitlines()[-1].split()
    return float(seconds), int(kib) * 1024, run.stdout, run.stderr
def plan(engine, cache, folder):
    """One plan: its figures, and the shapes that it ran."""
    command = [BINARY, "plan", "--json", "--model", arguments.model, "--data", data, "--examples", str(arguments.examples)]
    command += ["--engine", engine, "--threads", str(arguments.threads), "--cache", cache, "--out", os.path.join(folder, "plan.json")]
    seconds, peak, out, log = measured(command)
    found = json.loads(out)
    shapes = re.findall(r"running shape=Shape \{ rows: (\d+), length: (\d+), positions: \d+ \} batches=(\d+)", log)
    figures = {"seconds": seconds, "running": found["seconds_of_steps"]["running"], "peak": peak, "frost_line": found["frost_line"]}
    return figures, [[int(size) for size in shape] for shape in shapes]


def plain(shapes):
    command = [sys.executable, __file__, "--model", arguments.model, "--data", "-", "--threads", str(arguments.threads)]
    return json.loads(measured([*command, "--plain", json.dumps(shapes)])[2])


arguments = parser.parse_args()
if arguments.plain:
    plain_pass(arguments)
    sys.exit()

subprocess.run(["cargo", "build", "--release", "--quiet"], check=True, cwd=os.path.dirname(HERE))
BINARY = os.path.join(os.path.dirname(HERE), "target", "release", "frostline")
os.environ["FROSTLINE_LOG"] = "debug"
libraries = glob.glob(os.path.join(os.path.dirname(__import__("onnxruntime").__file__), "capi", "libonnxruntime.so.*"))
os.environ.setdefault("ORT_DYLIB_PATH", libraries[0])

results = {"plain pass": [], "ort": [], "ort, Gram matrix kept": [], "tract, Gram matrix kept": []}
with tempfile.TemporaryDirectory() as folder:
    data = os.path.join(folder, "data.jsonl")
    with open(arguments.data, encoding="utf-8") as source, open(data, "w", encoding="utf-8") as taken:
        taken.writelines(line for line, _ in zip(source, range(arguments.examples)))
    cache = os.path.join(folder, "cache")
    _, shapes = plan("ort", cache, folder)
    for run in range(arguments.runs):
        results["plain pass"].append(plain(shapes))
        results["ort"].append(plan("ort", "off", folder)[0])
        results["ort, Gram matrix kept"].append(plan("ort", cache, folder)[0])
        results["tract, Gram matrix kept"].append(plan("tract", cache, folder)[0])
        print(f"run {run + 1} of {arguments.runs} done", file=sys.stderr)

print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads; batches {shapes} (rows, length, number)\n")
print("| | whole | ratio | running | ratio | peak memory |\n| --- | --- | --- | --- | --- | --- |")
median = {name: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "running", "peak")} for name, runs in results.items()}
for name, row in median.items():
    ratios = {key: row[key] / median["plain pass"][key] for key in ("seconds", "running")}
    print(f"| {name} | {row['seconds']:.1f} s | {ratios['seconds']:.2f} | {row['running']:.1f} s | {ratios['running']:.2f} | {row['peak'] / 1e9:.2f} GB |")
if arguments.out:
    with open(arguments.out, "w", encoding="utf-8") as out:
        json.dump({"shapes": shapes, "runs": results}, out, indent=1)
