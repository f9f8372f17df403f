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
if __name__ == "__main__":
    a = parser.parse_args()
    if a.plain: plain_pass(a)
