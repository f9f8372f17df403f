#!/usr/bin/env python3
"""Frostline against PyTorch: the same layers, batches and precision, in turn on one machine.

  python benches/compare.py --model DIR --train train.jsonl --frost-lines 0,9,14 --batch-size 16 --steps 15 --runs 5
  python benches/compare.py --model DIR --rows 240,16 --train any.jsonl --frost-lines 0,12,18 --batch-size 8 --steps 4 --runs 5

For each frost line and run: Frostline without a cache, Frostline with a warm cache, PyTorch (benches/peer.py, head at
targets only). Prints the medians and their ratios as a table in Markdown, and the same as JSON to --out. --rows P,C makes
the data: rows of exactly P prompt tokens and C completion tokens, cut from the text of --train. Needs cargo, torch,
transformers.
"""
import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--train", required=True)
parser.add_argument("--rows")
parser.add_argument("--frost-lines", required=True)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--steps", type=int, default=15)
parser.add_argument("--settle", type=int, default=3, help="steps that are not timed")
parser.add_argument("--runs", type=int, default=5)
parser.add_argument("--threads", type=int, default=os.cpu_count())
parser.add_argument("--device", default="cpu")
parser.add_argument("--out")
arguments = parser.parse_args()


def exact_rows(path, prompt_tokens, completion_tokens, count):
    """Rows whose tokens are counted out, from the words of a JSONL file."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    words = [word for line in open(arguments.train, encoding="utf-8") for word in json.loads(line)["prompt"].split()]
    chance = random.Random(0)

    def tokens(text):
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    def text_of(wanted, lead):
        while True:
            start = chance.randrange(max(1, len(words) - 2 * wanted))
            text = lead + " ".join(words[start : start + wanted])
            while tokens(text) > wanted:
                text = text.rsplit(" ", 1)[0]
            while tokens(text) < wanted:
                text += " a"
            if tokens(text) == wanted:
                return text

    with open(path, "w", encoding="utf-8") as file:
        for _ in range(count):
            row = {"prompt": text_of(prompt_tokens, ""), "completion": text_of(completion_tokens, " ")}
            file.write(json.dumps(row) + "\n")


def bench_binary():
    command = ["cargo", "bench", "--bench", "training", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout
    messages = [json.loads(line) for line in built.splitlines() if line.startswith("{")]
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "training")


def run(way, frost_line, data, cache, binary):
    common = ["--model", arguments.model, "--frost-line", str(frost_line), "--steps", str(arguments.steps)]
    common += ["--batch-size", str(arguments.batch_size), "--threads", str(arguments.threads)]
    common += ["--settle", str(arguments.settle)]
    if way == "torch":
        out = os.path.join(cache, "peer.json")
        command = [sys.executable, os.path.join(HERE, "peer.py"), *common, "--train", data, "--out", out]
        subprocess.run(command, check=True, capture_output=True)
        return json.load(open(out, encoding="utf-8"))
    command = [binary, *common, "--data", data, "--device", arguments.device]
    command += ["--cache", cache] if way == "warm" else []
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    binary = bench_binary()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.train
        if arguments.rows:
            prompt, completion = map(int, arguments.rows.split(","))
            data = os.path.join(folder, "rows.jsonl")
            exact_rows(data, prompt, completion, arguments.batch_size * arguments.steps)
        for frost_line in map(int, arguments.frost_lines.split(",")):
            ways = ["cold", "warm", "torch"] if frost_line else ["cold", "torch"]
            if frost_line:
                run("warm", frost_line, data, folder, binary)
            measured = {way: [] for way in ways}
            for number in range(arguments.runs):
                for way in ways:
                    measured[way].append(run(way, frost_line, data, folder, binary))
                    print(f"frost line {frost_line} run {number + 1} {way}: {measured[way][-1]['tokens_per_second']:.1f}", file=sys.stderr)
            results.append({"frost_line": frost_line, **{way: summary(measured[way], measured["torch"]) for way in ways}})
            print(json.dumps(results[-1]), file=sys.stderr)
    if arguments.out:
        with open(arguments.out, "w", encoding="utf-8") as file:
            json.dump({"machine": platform.processor(), "threads": arguments.threads, "results": results}, file, indent=1)
    print(table(results))


def summary(runs, torch_runs):
    speeds = [one["tokens_per_second"] for one in runs]
    apart = max(abs(a / b - 1) for a, b in zip(runs[0]["losses"], torch_runs[0]["losses"]))
    return {
        "tokens_per_second": statistics.median(speeds),
        "slowest": min(speeds),
        "fastest": max(speeds),
        "peak_bytes": statistics.median(one["peak_bytes"] for one in runs),
        "largest_difference_of_losses": apart,
    }


def table(results):
    lines = [
        "| frost line | PyTorch tokens/s, GB | Frostline tokens/s, GB | ratios | warm cache tokens/s, GB | ratios | losses apart |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results:
        torch = row["torch"]

        def cells(way):
            if way not in row:
                return ["-", "-"]
            one = row[way]
            speed, memory = (one[key] / torch[key] for key in ("tokens_per_second", "peak_bytes"))
            return [f"{one['tokens_per_second']:.0f}, {one['peak_bytes'] / 1e9:.2f}", f"{speed:.2f}, {memory:.2f}"]

        peer = f"{torch['tokens_per_second']:.0f}, {torch['peak_bytes'] / 1e9:.2f}"
        apart = f"{row['cold']['largest_difference_of_losses']:.0e}"
        lines.append("| " + " | ".join([str(row["frost_line"]), peer, *cells("cold"), *cells("warm"), apart]) + " |")
    return "\n".join(lines)


main()
