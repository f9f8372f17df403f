#!/usr/bin/env python3
"""Times the reading of many short rows beside Python's `tokenizers`, in turn, with the same number of threads.

  python benches/tokenise.py --model DIR [--data train.jsonl] [--rows 100000] [--threads N] [--times 5]

DIR needs config.json and the tokenizer's files. The rows are {"prompt", "completion"}, as long as TREC's questions: those of --data over and
over, or, where it is absent, questions that a seeded generator writes, all different. Python's time is that of `encode_batch` over the joined
texts alone: its tokenizer is open, its file read and parsed. Frostline's is its own measure ("seconds" of `frostline rows --json`), from opening
the tokenizer to tokens and targets, less what ten rows take, which is opening the tokenizer; what both say is printed. Needs the package tokenizers.
"""
import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", type=Path, required=True)
parser.add_argument("--data", type=Path)
parser.add_argument("--rows", type=int, default=100_000)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--times", type=int, default=5)
parser.add_argument("--frostline", default=os.environ.get("FROSTLINE", "target/release/frostline"))
arguments = parser.parse_args()
# Before the library is loaded: it makes its pool of threads once.
os.environ.update(RAYON_NUM_THREADS=str(arguments.threads), TOKENIZERS_PARALLELISM="true" if arguments.threads > 1 else "false")

from tokenizers import Tokenizer

ASKED = "What Who When Where Which How many How far Why Name the Whose".split()
THINGS = "county capital inventor distance river century mountain author language currency island planet painter battle bridge".split()
NAMES = "Denver Modesto Galileo Hawaii Sears Aspen Norway Vivaldi Titan Lisbon Everest Marlowe Quito Avalon Tesla".split()
VERBS = "borders built discovered wrote crossed measured founded named carries became".split()
LABELS = [" Number", " Location", " Human", " Description", " Entity", " Abbreviation"]


def written(count):
    r = random.Random(14)
    for _ in range(count):
        words = [r.choice(ASKED), r.choice(THINGS)] + [r.choice(THINGS + NAMES + VERBS + ["of", "the", "in", "is", str(r.randrange(3000))]) for _ in range(r.randrange(3, 11))]
        yield {"prompt": f"Question: {' '.join(words)} ?\nType:", "completion": r.choice(LABELS)}


def taken(count):
    rows = [json.loads(line) for line in arguments.data.open(encoding="utf-8")]
    return (rows[i % len(rows)] for i in range(count))


def frostline(path):
    """Seconds by its own measure."""
    command = [arguments.frostline, "rows", "--model", arguments.model, "--data", path, "--show", "0", "--json", "--eos", "never"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)["seconds"]


def python(tokenizer, texts):
    start = time.perf_counter()
    encodings = tokenizer.encode_batch(texts)
    return time.perf_counter() - start, sum(len(e.ids) for e in encodings)


tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
tokenizer.no_truncation()
tokenizer.no_padding()
with tempfile.TemporaryDirectory() as folder:
    rows = list(taken(arguments.rows) if arguments.data else written(arguments.rows))
    paths = [os.path.join(folder, name) for name in ("ten.jsonl", "all.jsonl")]
    for path, part in zip(paths, (rows[:10], rows)):
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in part)
    texts = [row["prompt"] + row["completion"] for row in rows]
    python(tokenizer, texts[:1000])  # starts the threads
    opening, whole, theirs = [], [], []
    for turn in range(arguments.times):
        for times, path in zip((opening, whole), paths):
            times.append(frostline(path))
        peer, tokens = python(tokenizer, texts)
        theirs.append(peer)
        print(f"turn {turn + 1}: frostline {whole[-1]:.3f} s, {opening[-1]:.3f} s of it to open the tokenizer; tokenizers {peer:.3f} s", flush=True)
opened, all_of_it, peer = map(statistics.median, (opening, whole, theirs))
ours = statistics.median(a - b for a, b in zip(whole, opening))
print(f"{arguments.rows} rows, {tokens / arguments.rows:.1f} tokens each, {arguments.threads} threads, medians of {arguments.times}: frostline {ours:.3f} s "
      f"({all_of_it:.3f} s with opening the tokenizer, {opened:.3f} s), tokenizers {peer:.3f} s; {peer / ours:.2f} times its speed ({peer / all_of_it:.2f} with opening)")
