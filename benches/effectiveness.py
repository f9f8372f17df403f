#!/usr/bin/env python3
"""Where training pays: full training, LoRA, the last and the middle layers and what each rule chooses, each at its best learning rate.

  python benches/effectiveness.py --model gemma3-270m=DIR --model qwen2.5-0.5b=DIR --trec DIR --sst2 DIR [--minutes 60]
  python benches/effectiveness.py --table          # writes benches/EFFECTIVENESS.md of what is measured so far

A cell is a model and a task. Each training is one run of `frostline compare` at one rate; what it gave is a line of
benches/effectiveness.jsonl, and what stands there is not done again: the command may be stopped at any time and goes on where it was. A
training keeps to steps, not to a clock, so that other work on the machine changes nothing that it gives. Steps of equal seconds come from
the pace of an arm against full training's, measured in turn, by the rule of `compare --seconds`: the cache is filled and used where the
training comes back to its rows. They are fixed once (lines of kind `budget`); `--only pace` measures again for the table's seconds.

Tasks: TREC and SST-2 are folders of train.jsonl and test.jsonl. `docs` is made of Python's own standard library (a function → the first line
of its docstring), `notes` by a seeded generator (a remark with a date, a time and a sum in words → the same in figures). Needs Python alone.
"""
import argparse
import ast
import hashlib
import json
import math
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
GRID = [6e-6, 2e-5, 6e-5, 2e-4, 6e-4, 2e-3]
BATCH = 16
HELD_OUT = 0.04
TRAIN_ROWS, TEST_ROWS = 5500, 500
MAX_LENGTH = 96
LABELS = {"trec", "sst2"}
TASKS = ["trec", "docs", "sst2", "notes"]
TITLES = {
    "trec": "TREC: a question → one of six types",
    "sst2": "SST-2: a sentence of a film review → positive or negative",
    "docs": "docs: a Python function's signature → the first line of its docstring",
    "notes": "notes: a date, a time and a sum in words → in figures",
}

# Tasks ------------------------------------------------------------------------------------------------------------------


def functions(node, prefix):
    """Functions with their qualified names, those inside classes and branches too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + child.name, child
        elif isinstance(child, (ast.If, ast.Try)):
            yield from functions(child, prefix)


def docs():
    """No docstring is there twice, so that none is both trained on and tested."""
    root, rows = Path(sysconfig.get_paths()["stdlib"]), {}
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip"}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if left_out & set(parts) or parts[0].startswith(("config-", "_sysconfigdata")):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        module = ".".join(parts).removesuffix(".__init__")
        for name, function in functions(tree, ""):
            said = (ast.get_docstring(function) or "").strip().split("\n")[0].strip()
            prompt = f"{module}: def {name}({ast.unparse(function.args)})\nDoes:"
            if len(prompt) <= 90 and 12 <= len(said) <= 90:
                rows.setdefault(said, {"prompt": prompt, "completion": " " + said})
    return split(list(rows.values()), "docs", 400)


UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
DAYS = dict(enumerate("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth "
                      "eighteenth nineteenth twentieth".split(), 1)) | {30: "thirtieth"}
MONTHS = "January February March April May June July August September October November December".split()
NAMES = "Ingrid Marek Lucia Tomas Amina Pavel Greta Owen Sofia Henrik Nadia Bruno Elsa Viktor Mira Jonas".split()


def words(number):
    if number < 20:
        return UNITS[number]
    tens, unit = divmod(number, 10)
    return TENS[tens] + (f"-{UNITS[unit]}" if unit else "")


def day_words(day):
    return DAYS[day] if day in DAYS else f"{TENS[day // 10]}-{DAYS[day % 10]}"


def clock_words(hour, minute):
    half = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    twelve = lambda hour: words((hour - 1) % 12 + 1)
    if minute == 0:
        return f"{twelve(hour)} o'clock {half}"
    if minute == 30:
        return f"half past {twelve(hour)} {half}"
    if minute in (15, 45):
        return f"a quarter {'past' if minute == 15 else 'to'} {twelve(hour + (minute == 45))} {half}"
    return f"{words(minute)} past {twelve(hour)} {half}" if minute < 30 else f"{words(60 - minute)} to {twelve(hour + 1)} {half}"


def notes():
    chance, rows = random.Random("notes"), {}
    while len(rows) < 4400:
        name, day, month, year = chance.choice(NAMES), chance.randint(1, 28), chance.randint(1, 12), chance.randint(1960, 2029)
        hour, minute, euros = chance.randint(7, 21), chance.randrange(0, 60, 5), chance.randint(3, 99)
        date = chance.choice([f"the {day_words(day)} of {MONTHS[month - 1]} {year}", f"{MONTHS[month - 1]} the {day_words(day)}, {year}"])
        clock = clock_words(hour, minute)
        remark = chance.choice([f"{name} comes on {date} at {clock} and pays {words(euros)} euros.", f"On {date}, at {clock}, {name} owes {words(euros)} euros.",
                                f"{words(euros).capitalize()} euros from {name}, {date}, {clock}."])
        rows[remark] = {"prompt": f"{remark}\n=", "completion": f" {year}-{month:02}-{day:02} {hour:02}:{minute:02} {name} {euros}"}
    return split(list(rows.values()), "notes", 400)


def split(rows, name, test):
    random.Random(name).shuffle(rows)
    return rows[test : test + 4000], rows[:test]


def from_files(folder):
    read = lambda name: [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    part = lambda rows, most: [rows[k] for k in sorted(random.Random(0).sample(range(len(rows)), most))] if len(rows) > most else rows
    return part(read("train.jsonl"), TRAIN_ROWS), part(read("test.jsonl"), TEST_ROWS)


class Task:
    """Files of rows, made where they are not there yet."""

    def __init__(self, name, arguments):
        self.name, self.labels = name, name in LABELS
        folder = arguments.work / "tasks"
        folder.mkdir(parents=True, exist_ok=True)
        self.train, self.test = folder / f"{name}-train.jsonl", folder / f"{name}-test.jsonl"
        if not (self.train.exists() and self.test.exists()):
            made = {"docs": docs, "notes": notes}[name]() if not self.labels else from_files(getattr(arguments, name))
            for path, rows in zip((self.train, self.test), made):
                path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        self.digest = hashlib.sha256(self.train.read_bytes() + self.test.read_bytes()).hexdigest()[:8]
        self.rows = sum(1 for _ in self.train.open(encoding="utf-8"))
        self.trained_rows = self.rows - round(self.rows * HELD_OUT)


# Results ----------------------------------------------------------------------------------------------------------------


class Results:
    """Lines of JSON, one for each thing measured."""

    def __init__(self, path):
        self.path = path
        self.lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

    def add(self, line):
        self.lines.append(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def of(self, kind, **wanted):
        return [line for line in self.lines if line["kind"] == kind and all(line.get(key) == value for key, value in wanted.items())]


def span(numbers):
    """[1, 2, 3, 7] → 1-3+7, as the strategy `manual` takes them."""
    runs = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return "+".join(f"{a}-{b}" if b > a else f"{a}" for a, b in runs)


def numbers(layers):
    return [n for run in layers.split("+") for n in range(int(run.split("-")[0]), int(run.split("-")[-1]) + 1)]


def strategy_of(layers, all_layers):
    """What `--strategy` trains these layers."""
    chosen = numbers(layers)
    if len(chosen) == all_layers:
        return "all"
    return f"last:{len(chosen)}" if chosen == list(range(all_layers - len(chosen) + 1, all_layers + 1)) else f"manual:{layers}"


def nearest(rate):
    return min(GRID, key=lambda other: abs(math.log(other / rate)))


class Cell:
    """A model and a task."""

    def __init__(self, model, folder, task, results, arguments):
        self.model, self.folder, self.task, self.results, self.arguments = model, folder, task, results, arguments
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.layers = config.get("num_hidden_layers") or config["text_config"]["num_hidden_layers"]
        self.name = f"{model}/{task.name}"
        self.key = {"cell": self.name, "data": task.digest}
        digest = hashlib.sha256(Path(arguments.frostline).read_bytes()).hexdigest()[:8]
        self.version = f"{self.command('--version').split()[-1]} {digest}"

    def command(self, *rest):
        done = subprocess.run([self.arguments.frostline, *map(str, rest)], capture_output=True, encoding="utf-8")
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, rest))}: {done.stderr.strip().splitlines()[-1:]}")
        return done.stdout

    def files(self, *, data=True):
        return ["--model", self.folder, *(["--data", self.task.train] if data else []), "--max-length", MAX_LENGTH]

    # What is trained

    def arms(self):
        """Name, strategy and method, most telling first."""
        half, third = self.layers // 2, self.layers // 3
        return [("all", "all", "full"), (f"last:{half}", f"last:{half}", "full"), ("LoRA on all", "all", "lora"), (f"last:{third}", f"last:{third}", "full"),
                (f"middle:{half}", f"middle:{half}", "full"), ("salf", "salf", "full"), (f"middle:{third}", f"middle:{third}", "full"), ("gradient", "gradient", "full"), ("probe", "probe", "full")]

    def plan(self, strategy):
        """The line of a plan, made where there is none; none where the binary cannot."""
        wanted = {**self.key, "strategy": strategy} | ({"horizon": self.arguments.horizon} if strategy == "probe" else {})
        if found := self.results.of("plan", **wanted):
            if strategy not in self.arguments.replan:
                return found[-1]
            self.arguments.replan.remove(strategy)
        path = self.arguments.work / f"{self.model}-{self.task.name}-{strategy.replace(':', '-')}.json"
        begun = time.monotonic()
        flags = {"probe": ["--steps", self.steps()], "salf": ["--engine", self.arguments.engine]}.get(strategy, [])
        if strategy == "salf" and "--signals" in self.command("plan", "--help"):
            flags += ["--signals", "gradient"]
        try:
            self.command("plan", *self.files(), "--strategy", strategy, "--out", path, "--quiet", *flags)
        except RuntimeError as error:
            print(f"{self.name}: no plan: {error}", file=sys.stderr)
            return None
        plan = json.loads(path.read_text(encoding="utf-8"))
        trained = {int(number) for name in plan["tensors"] for number in re.findall(r"\.(\d+)\.", name)}
        cost = plan["cost"].get("planned") or plan["cost"]["frost_lines"][plan["decision"]["frost_line"]]
        line = {"kind": "plan", **wanted, "layers": span(number + 1 for number in trained), "seconds": round(time.monotonic() - begun, 1),
                "frost_line": plan["decision"]["frost_line"], "share": cost["share"], "cached_share": cost["cached_share"],
                "learning_rate": plan.get("learning_rate"), "signals": signals(plan, self.layers),
                "stability": plan["decision"].get("stability"), "probes": probes(plan), "version": self.version}
        self.results.add({key: value for key, value in line.items() if value is not None})
        return line

    # Trainings

    def steps(self):
        """Of full training over the horizon."""
        return round(self.arguments.horizon * self.task.trained_rows / BATCH)

    def trainings(self, layers, method, steps, seed=0):
        return {line["rate"]: line for line in self.results.of("train", **self.key, layers=layers, method=method, steps=steps, seed=seed)}

    def train(self, layers, method, rate, steps, seed=0):
        command = ["compare", *self.files(), "--eval", self.task.test, "--strategies", strategy_of(layers, self.layers), "--only", "--methods", method, "--learning-rates", f"{rate:g}",
                   "--steps", steps, "--seeds", 1, "--seed", seed, "--held-out", HELD_OUT, "--batch-size", BATCH, "--cache", self.arguments.work / "cache", "--cache-limit", "4GiB", "--json", "--quiet",
                   *(["--threads", self.arguments.threads] if self.arguments.threads else [])]
        print(f"{time.strftime('%H:%M:%S')} {self.name} {method} {layers} rate {rate:g} seed {seed}: {steps} steps", file=sys.stderr, flush=True)
        found = json.loads(self.command(*command))
        run = found["arms"][0]["trainings"][0]
        evaluation = run["evaluation"] or {}
        rounded = lambda value: value if value is None else float(f"{value:.6g}")
        ranking = evaluation.get("ranking") or evaluation
        self.results.add({"kind": "train", **self.key, "layers": layers, "method": method, "rate": rate, "seed": seed, "steps": steps, "version": self.version,
                          "rows": found["rows"], "held_out_rows": found["held_out_rows"], "held_out_loss": rounded(run["held_out_loss"]), "curve": [[p["step"], rounded(p["held_out_loss"])] for p in run["curve"]],
                          "test_rows": evaluation.get("examples"), "test_loss": rounded(evaluation.get("loss")), "accuracy": rounded(ranking.get("accuracy")),
                          "parameters": found["arms"][0]["trained_parameters"], "wall_seconds": round(run["seconds"], 1), "peak_bytes": run["peak_bytes"]})
        print(f"         held-out {run['held_out_loss']} test {evaluation.get('loss')} accuracy {ranking.get('accuracy')} in {run['seconds']:.0f} s", file=sys.stderr, flush=True)

    def usual(self, layers, method):
        """The rate that an arm begins with."""
        return nearest(2e-5 * min(10, self.layers / len(numbers(layers))) * (10 if method == "lora" else 1))

    def next_rate(self, layers, method, steps, start=None):
        """The next rate of a walk up, then down, to where both neighbours are worse; none when it is done."""
        tried = {rate: line["held_out_loss"] if line["held_out_loss"] is not None else math.inf for rate, line in self.trainings(layers, method, steps).items()}
        return self.walk(tried) if tried else start or self.usual(layers, method)

    @staticmethod
    def walk(tried):
        at = GRID.index(min(tried, key=tried.get))
        return next((GRID[k] for k in (at + 1, at - 1) if 0 <= k < len(GRID) and GRID[k] not in tried), None)

    # Frost lines of examples

    def train_each(self, way, rate):
        """Trains above one frost line for all rows or above each row's own; `compare` takes no such plans, so rows are held back here."""
        work, steps = self.arguments.work, self.steps()
        part, held = work / f"{self.task.name}-part.jsonl", work / f"{self.task.name}-held.jsonl"
        if not held.exists():
            rows = self.task.train.read_text(encoding="utf-8").splitlines(keepends=True)
            chosen = set(random.Random("held").sample(range(len(rows)), round(HELD_OUT * len(rows))))
            part.write_text("".join(row for k, row in enumerate(rows) if k not in chosen), encoding="utf-8")
            held.write_text("".join(row for k, row in enumerate(rows) if k in chosen), encoding="utf-8")
        common = ["--model", self.folder, "--data", part, "--max-length", MAX_LENGTH]
        plan = work / f"{self.model}-{self.task.name}-{'one' if way == 'one' else 'each'}" / "plan.json"
        if not plan.exists():
            plan.parent.mkdir(exist_ok=True)
            self.command("plan", *common, "--examples", self.task.rows, "--engine", self.arguments.engine, "--out", plan, "--quiet", *([] if way == "one" else ["--per-example"]))
        parted = ["--batch-size", BATCH // 4, "--accumulation", 4] if way == "each, 4 times 4 rows" else ["--batch-size", BATCH]
        print(f"{time.strftime('%H:%M:%S')} {self.name} {way} rate {rate:g}: {steps} steps", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=work) as folder:
            out = Path(folder) / "run"
            run = json.loads(self.command("train", *common, "--plan", plan, "--eval", held, "--out", out, "--steps", steps, "--learning-rate", f"{rate:g}", *parted, "--cache", "off", "--json", "--quiet"))
            tested = json.loads(self.command("eval", "--model", self.folder, "--run", out, "--data", self.task.test, "--json", "--quiet"))
        self.results.add({"kind": "each", **self.key, "way": way, "rate": rate, "steps": steps, "version": self.version, "mean_frost_line": run["mean_frost_line"] or run["frost_line"],
                          "step_seconds": round(run["median_step_seconds"], 4), "held_out_loss": float(f"{run['evaluation']['loss']:.6g}"), "test_rows": tested["examples"],
                          "test_loss": float(f"{tested['loss']:.6g}"), "accuracy": tested["ranking"] and tested["ranking"]["accuracy"]})

    def next_each(self, way):
        """The next rate, as for arms; it begins with the rule's."""
        lines = self.results.of("each", **self.key, way=way, steps=self.steps())
        return self.walk({line["rate"]: line["held_out_loss"] for line in lines}) if lines else 6e-5

    # Seconds

    def measure_pace(self, layers, method, turn):
        plan = self.arguments.work / f"{self.model}-{self.task.name}-layers-{layers}.json"
        if not plan.exists():
            self.command("plan", *self.files(), "--strategy", strategy_of(layers, self.layers), "--out", plan, "--quiet")
        load = round(os.getloadavg()[0], 1)
        found = json.loads(self.command("train", *self.files(), "--plan", plan, "--method", method, "--learning-rate", "1e-5", "--steps", 100, "--dry-run", "--cache", "off", "--json", "--quiet"))
        step = found["step_seconds"]
        self.results.add({"kind": "pace", **self.key, "turn": turn, "layers": layers, "method": method, "step": round(step, 4), "cached_step": round(found.get("cached_step_seconds") or step, 4),
                          "load": load, "peak_bytes": found["peak_bytes"], "version": self.version})

    def measure_paces(self, trained, turns):
        """Steps of all in turn, so that what else the machine does meets all alike."""
        for _ in range(turns):
            turn = time.strftime("%Y-%m-%d %H:%M:%S")
            print(f"{turn[11:]} {self.name} pace of {len(trained)} arms", file=sys.stderr, flush=True)
            for layers, method in trained:
                self.measure_pace(layers, method, turn)

    def budget(self, layers, method, share):
        """Steps in a share of the seconds that full training takes for the horizon."""
        full, horizon = (span(range(1, self.layers + 1)), "full"), self.arguments.horizon
        if (layers, method) == full:
            return round(share * self.steps())
        wanted = {**self.key, "layers": layers, "method": method, "horizon": horizon, "share": share}
        if found := self.results.of("budget", **wanted):
            return found[0]["steps"]
        turns = Paces(self.results, self.key, full).turns(layers, method)
        if self.arguments.turns > len(turns):
            self.measure_paces([full, (layers, method)], self.arguments.turns - len(turns))
        ratios = Paces(self.results, self.key, full).ratios(layers, method) if self.arguments.turns else None
        step, cached = ratios or self.predicted(layers, method)
        steps = spend(share * self.steps(), step, cached, self.task.trained_rows)
        self.results.add({"kind": "budget", **wanted, "steps": steps, "step_ratio": round(step, 4), "cached_ratio": round(cached, 4), "by": "pace" if ratios else "flops"})
        return steps

    def predicted(self, layers, method):
        """A step against full training's by the plan's FLOPs. Adapters everywhere leave out the gradients of all weights, as freezing the lower half leaves out two thirds of
        half of the layers: as much."""
        if method == "lora":
            return (self.plan(f"last:{self.layers // 2}")["share"],) * 2
        plan = self.results.of("plan", **self.key, layers=layers)[0]
        return plan["share"], plan["cached_share"]


def spend(budget, step, cached, rows):
    """Steps within a budget, all in steps of full training: from the cache where the training comes back to its rows."""
    computed = budget / step
    if computed * BATCH <= rows or cached >= step:
        return max(1, int(computed))
    return max(1, int((budget - (step - cached) * rows / BATCH) / cached))


def spent(steps, step, cached, rows):
    """What steps take, by the same rule."""
    return steps * step if steps * BATCH <= rows or cached >= step else (step - cached) * rows / BATCH + steps * cached


class Paces:
    """Paces of a cell's arms, against full training's of the same turn."""

    def __init__(self, results, key, full):
        self.full, self.measured = full, {}
        for line in results.of("pace", **key):
            self.measured.setdefault((line["layers"], line["method"]), {})[line["turn"]] = line

    def turns(self, layers, method):
        return [turn for turn in self.measured.get((layers, method), {}) if turn in self.measured.get(self.full, {})]

    def ratios(self, layers, method):
        own, full = self.measured.get((layers, method), {}), self.measured.get(self.full, {})
        turns = self.turns(layers, method)
        return tuple(statistics.median(own[turn][what] / full[turn]["step"] for turn in turns) for what in ("step", "cached_step")) if turns else None

    def full_step(self):
        steps = [line["step"] for line in self.measured.get(self.full, {}).values()]
        return statistics.median(steps) if steps else None

    def loads(self):
        return [line["load"] for lines in self.measured.values() for line in lines.values()]


def signals(plan, layers):
    """Every number that the plan has for each layer, from layer 1 up."""
    found, spaces = {}, [space for space in plan.get("spaces", []) if space["space"] > 0]
    cards = (plan.get("gradients") or {}).get("layers", [])
    for lines, left_out in ((spaces, {"space"}), (cards, {"layer"})):
        for name in sorted({name for line in lines for name, value in line.items() if isinstance(value, (int, float)) and name not in left_out}):
            found[name] = [line.get(name) for line in lines]
    if spaces:
        deviations = [space["deviation"] for space in plan["spaces"]]
        found["fall of deviation"] = [before - after for before, after in zip(deviations, deviations[1:])]
    if cards:
        found["relative norm"] = [line["gradient_norm"] / line["weight_norm"] for line in cards]
    return {name: [float(f"{value:.4g}") for value in values] for name, values in found.items() if len(values) == layers and None not in values}


def probes(plan):
    """What short trainings promised, arm by arm."""
    if not (found := plan.get("probes")):
        return None
    arms = {arm["name"]: {key: arm["expected"].get(key) for key in ("steps", "learning_rate", "loss", "accuracy", "share")} for arm in found["arms"]}
    return {key: found[key] for key in ("share", "seconds", "noise", "chosen", "verdict")} | {"arms": arms}


# What is run ------------------------------------------------------------------------------------------------------------


def blocks(layers):
    """Sixths of the model, from the input up."""
    return [span(range(1 + layers * k // 6, 1 + layers * (k + 1) // 6)) for k in range(6)]


def frost_lines(layers):
    return [span(range(1 + layers * k // 6, layers + 1)) for k in (0, 2, 3, 4, 5)]


WAYS = ["one", "each", "each, 4 times 4 rows"]
SHORT, BLOCK_STEPS, BLOCK_RATE = (24, 64), 64, 2e-4


def todo(cell, arguments):
    """Trainings that are left, most telling first; each is worked out when those before it are done."""
    wanted = [arm for arm in cell.arms() if not arguments.arms or arm[0] in arguments.arms]
    if set(arguments.only) & {"plan", "seconds", "steps", "part"}:
        planned = [(name, plan["layers"], method) for name, strategy, method in wanted if (plan := cell.plan(strategy))]
    for mode in arguments.only:
        if mode in ("seconds", "steps", "part"):
            share = {"seconds": 1.0, "part": 0.6}.get(mode)
            chosen = [arm for arm in planned if mode != "part" or arm[0] == "probe"]
            for _ in range(arguments.rates):
                for _, layers, method in chosen:
                    steps = cell.budget(layers, method, share) if share else cell.steps()
                    if len(cell.trainings(layers, method, steps)) >= arguments.rates:
                        continue
                    rate = cell.next_rate(layers, method, steps, best_rate(cell, layers, method, steps))
                    if rate:
                        yield layers, method, rate, steps, 0
            for _, layers, method in chosen:
                steps = cell.budget(layers, method, share) if share else cell.steps()
                for seed in range(1, arguments.seeds):
                    tried = cell.trainings(layers, method, steps)
                    rate = min(tried, key=lambda rate: tried[rate]["held_out_loss"] or math.inf)
                    if rate not in cell.trainings(layers, method, steps, seed):
                        yield layers, method, rate, steps, seed
        elif mode == "blocks":
            for layers in blocks(cell.layers):
                if BLOCK_RATE not in cell.trainings(layers, "full", BLOCK_STEPS):
                    yield layers, "full", BLOCK_RATE, BLOCK_STEPS, 0
        elif mode == "short":
            for steps in (*SHORT, cell.steps()):
                for layers in frost_lines(cell.layers):
                    for _ in range(arguments.rates):
                        if rate := cell.next_rate(layers, "full", steps, best_rate(cell, layers, "full")):
                            yield layers, "full", rate, steps, 0


def run_each(cell, arguments, end):
    for _ in range(arguments.rates):
        for way in WAYS:
            try:
                if time.monotonic() < end and (rate := cell.next_each(way)):
                    cell.train_each(way, rate)
            except RuntimeError as error:
                print(f"{cell.name}: {way}: {error}", file=sys.stderr)


def best_rate(cell, layers, method, steps):
    """To begin with: the best of other trainings of the arm that are not much shorter, else what a plan recommends; none where nothing is known."""
    lines = [line for line in cell.results.of("train", **cell.key, layers=layers, method=method, seed=0) if line["held_out_loss"] is not None and line["steps"] >= steps / 2]
    if lines:
        nearest_steps = min((line["steps"] for line in lines), key=lambda other: abs(math.log(other / steps)))
        return min((line for line in lines if line["steps"] == nearest_steps), key=lambda line: line["held_out_loss"])["rate"]
    recommended = [line["learning_rate"][method] for line in cell.results.of("plan", **cell.key, layers=layers) if line.get("learning_rate")]
    return nearest(recommended[-1]) if recommended else None


def run(arguments, results):
    end = time.monotonic() + 60 * arguments.minutes
    for name in arguments.tasks:
        task = Task(name, arguments)
        for model, folder in arguments.model:
            cell = Cell(model, Path(folder), task, results, arguments)
            about = {"kind": "cell", **cell.key, "layers": cell.layers, "rows": task.trained_rows, "python": platform.python_version() if name == "docs" else None}
            horizon = {"kind": "horizon", **cell.key, "horizon": arguments.horizon, "steps": cell.steps()}
            for line in (about, horizon):
                if line not in results.lines:
                    results.add(line)
            if "pace" in arguments.only:
                trained = dict.fromkeys((line["layers"], line["method"]) for line in results.of("budget", **cell.key))
                cell.measure_paces([(span(range(1, cell.layers + 1)), "full"), *trained], arguments.turns)
            if "each" in arguments.only:
                run_each(cell, arguments, end)
            for training in todo(cell, arguments):
                if time.monotonic() > end:
                    print("the minutes are up", file=sys.stderr)
                    return
                try:
                    cell.train(*training)
                except RuntimeError as error:
                    sys.exit(f"{cell.name}: {error}")


# The report -------------------------------------------------------------------------------------------------------------

HEAD = """# Where training pays, measured

```sh
python benches/effectiveness.py --model gemma3-270m=DIR --model qwen2.5-0.5b=DIR --trec DIR --sst2 DIR
```

makes the tasks, trains, measures, appends what came of it to [`effectiveness.jsonl`](effectiveness.jsonl) and writes this file. It goes on where it was stopped.

- A training is one run of `frostline compare` at one rate: AdamW, {batch} rows a step, linear decay over its own steps, rows of at most {length} tokens. A share of {held:.0%} of
  the training rows is held back, the same rows for all arms; rates of the grid 6e-6, 2e-5, 6e-5, 2e-4, 6e-4, 2e-3 are tried from the one that is usual for the arm, on while
  better, and the best is that of the least loss on rows held back. ≤ and ≥ mark a best rate at the edge of those tried so far, ? one that alone was tried.
- Arms keep to steps, not to a clock. **Equal seconds**: as many steps as fit into the seconds of full training, by the median pace of a step against full training's, measured
  in turn; the filling of the cache is counted, and it is used where a training comes back to its rows, as `compare --seconds` does. **Equal steps**: as many as full training.
  Seconds in the tables are steps times those paces times full training's median step; planning and evaluating are not among them.
- The horizon is a share of an epoch of full training. Figures of a short horizon are a preview of those of an epoch, no more.
- Accuracy is by ranking the labels; ± is one standard error of its rows (and of seeds, where there are several). Two accuracies differ by more than the noise where they are
  two standard errors of their difference apart. Where the answer is text, the measure is the loss on rows held back at the best checkpoint; 5 % apart counts as alike.
"""


class View:
    """What was measured of a cell."""

    def __init__(self, results, name):
        about = [line for line in results.of("cell", cell=name)]
        count = lambda line: len(results.of("train", cell=name, data=line["data"]))
        self.about = max(about, key=count)
        self.results, self.name, self.key = results, name, {"cell": name, "data": self.about["data"]}
        self.layers, self.rows, self.task = self.about["layers"], self.about["rows"], name.split("/")[1]
        self.full = (span(range(1, self.layers + 1)), "full")
        self.paces = Paces(results, self.key, self.full)
        self.horizons = sorted({line["horizon"]: line["steps"] for line in results.of("horizon", **self.key)}.items())

    def arms(self, horizon):
        """Names, layers and methods."""
        found = {}
        for line in self.results.of("plan", **self.key):
            if line.get("horizon", horizon) == horizon:
                found.setdefault(line["strategy"], (line["strategy"], line["layers"], "full"))
        lora = [("LoRA on all", self.full[0], "lora")] if self.results.of("train", **self.key, method="lora") else []
        order = ["all", f"last:{self.layers // 2}", f"last:{self.layers // 3}", f"middle:{self.layers // 2}", f"middle:{self.layers // 3}", "salf", "gradient", "probe"]
        return [found[name] for name in order[:1] if name in found] + lora + [found[name] for name in order[1:] if name in found]

    def best(self, layers, method, steps):
        """Outcome of the best rate; none where nothing was trained."""
        lines = self.results.of("train", **self.key, layers=layers, method=method, steps=steps)
        finished = [line for line in lines if line["seed"] == 0 and line["held_out_loss"] is not None]
        return Outcome(min(finished, key=lambda line: line["held_out_loss"]), lines) if finished else None

    def steps(self, layers, method, horizon, full_steps, share):
        """Of an arm by the mode: a share of the seconds or, without one, full training's steps."""
        if share is None:
            return full_steps
        if (layers, method) == self.full:
            return round(share * full_steps)
        found = self.results.of("budget", **self.key, layers=layers, method=method, horizon=horizon, share=share)
        return found[0]["steps"] if found else None

    def by(self, layers, method, steps):
        return "*" if self.results.of("budget", **self.key, layers=layers, method=method, steps=steps, by="flops") else ""

    def outcomes(self, horizon, full_steps, share):
        for name, layers, method in self.arms(horizon):
            steps = self.steps(layers, method, horizon, full_steps, share)
            if outcome := steps and self.best(layers, method, steps):
                yield name, layers, method, outcome

    def seconds(self, layers, method, steps):
        """In steps of full training."""
        ratios = (1.0, 1.0) if (layers, method) == self.full else self.paces.ratios(layers, method)
        return ratios and spent(steps, *ratios, self.rows)


class Outcome:
    """A training at the best of its rates, over seeds."""

    def __init__(self, best, lines):
        at_best = [line for line in lines if line["rate"] == best["rate"] and line["held_out_loss"] is not None]
        others = [line["rate"] for line in lines if line["seed"] == 0 and line["rate"] != best["rate"]]
        mean = lambda name: statistics.mean(line[name] for line in at_best) if all(line.get(name) is not None for line in at_best) else None
        self.rate, self.steps, self.seeds = best["rate"], best["steps"], len(at_best)
        self.mark = "?" if not others else "≤" if min(others) > self.rate else "≥" if max(others) < self.rate else ""
        self.held_out, self.test_loss, self.accuracy = mean("held_out_loss"), mean("test_loss"), mean("accuracy")
        self.checkpoint = statistics.mean(min([loss for _, loss in line["curve"] if loss is not None] + [line["held_out_loss"]]) for line in at_best)
        self.error = None
        if self.accuracy is not None:
            of_seeds = statistics.variance(line["accuracy"] for line in at_best) / self.seeds if self.seeds > 1 else 0.0
            self.error = math.sqrt(self.accuracy * (1 - self.accuracy) / best["test_rows"] + of_seeds)

    def against(self, full):
        """1 where it is better than full training by more than the noise, -1 where worse, 0 where neither can be said."""
        if self.accuracy is not None and full.accuracy is not None:
            apart, noise = self.accuracy - full.accuracy, 2 * math.hypot(self.error, full.error)
        else:
            apart, noise = full.checkpoint - self.checkpoint, 0.05 * full.checkpoint
        return 0 if abs(apart) <= noise else 1 if apart > 0 else -1


def ranks(values):
    order = sorted(values)
    return [statistics.mean(k for k, other in enumerate(order) if other == value) for value in values]


def spearman(a, b):
    a, b = ranks(a), ranks(b)
    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return statistics.correlation(a, b)


def table(header, rows):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + " --- |" * len(header), *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def loss_text(loss):
    return "-" if loss is None else f"{loss:.4f}"


def outcome_row(view, name, layers, method, outcome):
    seconds, full_step = view.seconds(layers, method, outcome.steps), view.paces.full_step()
    timed = f"{seconds * full_step:.0f}" if seconds and full_step else "-"
    accuracy = "" if outcome.accuracy is None else f"{100 * outcome.accuracy:.1f} ± {100 * outcome.error:.1f} %" + (f" ({outcome.seeds} seeds)" if outcome.seeds > 1 else "")
    measures = [loss_text(outcome.held_out), loss_text(outcome.checkpoint), loss_text(outcome.test_loss)]
    return [name, layers, f"{outcome.mark} {outcome.rate:g}".strip(), f"{outcome.steps}{view.by(layers, method, outcome.steps)}", timed, *measures, *([accuracy] if view.task in LABELS else [])]


def tables(view):
    header = ["trained", "layers", "best rate", "steps", "seconds", "loss, held back", "its least on the way", "test loss"] + (["accuracy"] if view.task in LABELS else [])
    said = ""
    for horizon, steps in view.horizons:
        for title, share in (("equal seconds", 1.0), ("equal steps", None), ("0.6 of full training's seconds", 0.6)):
            found = list(view.outcomes(horizon, steps, share))
            if [outcome for _, layers, method, outcome in found if (layers, method) != view.full]:
                said += f"\n{horizon:g} epochs ({steps} steps of full training), {title}:\n\n" + table(header, [outcome_row(view, *one) for one in found])
                said += against_full(view, found, steps)
    return said


def against_full(view, found, steps):
    full = view.best(*view.full, steps)
    if not full:
        return "\nFull training at these steps is not measured yet.\n"
    names = {1: [], 0: [], -1: []}
    for name, layers, method, outcome in found:
        if (layers, method) != view.full:
            names[outcome.against(full)].append(name)
    listed = lambda sign: ", ".join(names[sign]) or "none"
    return f"\nBetter than full training by more than the noise: {listed(1)}. Not to be told from it: {listed(0)}. Worse: {listed(-1)}.\n"


def paces_table(view):
    rows = []
    for (layers, method), lines in view.paces.measured.items():
        ratios = (1.0, 1.0) if (layers, method) == view.full else view.paces.ratios(layers, method)
        if ratios:
            rows.append([layers, method, *(f"{ratio:.2f}" for ratio in ratios), str(len(lines)), f"{max(line['peak_bytes'] for line in lines.values()) / 1e9:.2f}"])
    loads, step = view.paces.loads(), view.paces.full_step()
    if not rows:
        return ""
    machine = f"The machine's load was {min(loads):.1f} to {max(loads):.1f} meanwhile" + (": it was not quiet, so seconds are too many and only ratios mean something" if max(loads) > 2.5 else "")
    return f"\nPaces, as shares of full training's step ({step:.2f} s, median). {machine}.\n\n" + table(["layers", "method", "step", "from the cache", "times measured", "GB"], rows)


def said_of_itself(line):
    said = [f"for {line['horizon']:g} epochs"] if "horizon" in line else []
    if probed := line.get("probes"):
        said.append(f"{probed['verdict']}; probing took {probed['share']:.2f} of full training's FLOPs")
    if stable := line.get("stability"):
        said.append(f"{stable['agree']:.0%} of resamples agree ({stable['low']} to {stable['high']})")
    return "; ".join(said)


def choices(views):
    rows = []
    for view in views:
        full_step = view.paces.full_step()
        for line in view.results.of("plan", **view.key):
            if line["strategy"] in ("salf", "gradient", "probe"):
                epoch = full_step and full_step * view.rows / BATCH
                rate = (line.get("learning_rate") or {}).get("full")
                rows.append([view.name, line["strategy"], f"{line['layers']} of {view.layers}", f"{rate:g}" if rate else "-", f"{line['share']:.2f}", f"{line['seconds']:.0f}" + (f" ({line['seconds'] / epoch:.2f} of an epoch of full training)" if epoch else ""), said_of_itself(line)])
    return table(["cell", "rule", "layers", "rate it recommends", "a step, of full training's FLOPs", "seconds of planning", "what it says of itself"], rows) if rows else "Not measured yet.\n"


def signal_rows(view):
    losses = {layers: line[0]["held_out_loss"] for layers in blocks(view.layers) if (line := view.results.of("train", **view.key, layers=layers, steps=BLOCK_STEPS, rate=BLOCK_RATE, seed=0, method="full"))}
    found = {}
    for line in view.results.of("plan", **view.key):
        found |= line.get("signals", {})
    rows = []
    for name, values in found.items():
        means = [statistics.mean(values[n - 1] for n in numbers(layers)) for layers in losses]
        rho = spearman(means, [-loss for loss in losses.values()]) if len(losses) > 3 else None
        if rho is not None:
            rows.append([view.name, name, f"{rho:+.2f}", str(len(losses))])
    return losses, rows


def signals_section(views):
    said, rows = "", []
    for view in views:
        losses, own = signal_rows(view)
        rows += own
        if losses:
            said += f"\n{view.name}: " + ", ".join(f"layers {layers} {loss_text(loss)}" for layers, loss in losses.items()) + ".\n"
    if not said:
        return "Not measured yet.\n"
    return f"Sixths of the model trained alone, {BLOCK_STEPS} steps at {BLOCK_RATE:g} each; loss on rows held back:\n" + said + ("\nSpearman's correlation of a signal's mean over a sixth with how low its loss became (+1: the signal orders the sixths as training does). Of six, |ρ| below 0.89 may be chance.\n\n" + table(["cell", "signal", "ρ", "sixths"], rows) if rows else "\nSignals are not measured yet.\n")


def short_section(views):
    said = ""
    for view in views:
        lengths = [*SHORT, *(steps for _, steps in view.horizons)]
        by_length = {}
        for steps in lengths:
            found = {layers: outcome for layers in frost_lines(view.layers) if (outcome := view.best(layers, "full", steps))}
            if len(found) > 2:
                by_length[steps] = found
        if not by_length:
            continue
        cell = lambda outcome: f"{outcome.held_out:.4f} at {outcome.mark} {outcome.rate:g}".replace("  ", " ") if outcome else "-"
        said += f"\n{view.name}, loss on rows held back at the best rate:\n\n" + table(["layers trained", *(f"{steps} steps" for steps in by_length)], [[layers, *(cell(found.get(layers)) for found in by_length.values())] for layers in frost_lines(view.layers)])
        longest = max(by_length)
        for steps in by_length:
            both = [layers for layers in by_length[steps] if layers in by_length[longest]]
            if steps < longest and len(both) > 2:
                rho = spearman([by_length[steps][layers].held_out for layers in both], [by_length[longest][layers].held_out for layers in both])
                said += f"\n{steps} steps order these {len(both)} as {longest} do with ρ = {rho:+.2f}.\n"
    return said or "Not measured yet.\n"


def criteria(views):
    """What was asked of the probe, in numbers or not measured yet."""
    reached, better, worse, shares = [], [], [], []
    for view in views:
        full_step = view.paces.full_step()
        for line in view.results.of("plan", **view.key, strategy="probe"):
            if full_step:
                shares.append((view.name, line["seconds"] / (full_step * view.rows / BATCH)))
        for horizon, steps in view.horizons[-1:]:
            full = view.best(*view.full, steps)
            part = dict((name, outcome) for name, _, _, outcome in view.outcomes(horizon, steps, 0.6))
            whole = dict((name, outcome) for name, _, _, outcome in view.outcomes(horizon, steps, 1.0))
            if full and "probe" in part:
                reached.append((view.name, part["probe"].against(full) >= 0))
            if full and "probe" in whole:
                better.append((view.name, whole["probe"].against(full) > 0))
                lasts = [outcome for name, outcome in whole.items() if name.startswith("last:")]
                worse.append((view.name, any(whole["probe"].against(last) < 0 for last in lasts)))
    yes = lambda found: sum(said for _, said in found)
    lines = [
        ("the probe's plan reaches full training's quality in 0.6 of its seconds, in 5 of 6 cells", f"{yes(reached)} of {len(reached)} cells" if reached else None),
        ("at equal seconds it is better than full training by more than the noise, in half of the cells", f"{yes(better)} of {len(better)} cells" if better else None),
        ("it is never worse than the last layers by more than the noise", f"worse in {yes(worse)} of {len(worse)} cells" if worse else None),
        ("probing costs at most 0.4 of one full training (an epoch)", ", ".join(f"{name} {share:.2f}" for name, share in shares) if shares else None),
        ("per-example frost lines at the best rate", "below" if any(view.results.of("each", **view.key) for view in views) else None),
    ]
    said = table(["asked", "measured"], [[asked, found or "not measured yet"] for asked, found in lines])
    return said + "\nWithout the probe: what at equal seconds came of arms against full training, in the longest horizon so far.\n\n" + table(["cell", "best arm", "better than full", "alike", "worse"], standing(views))


def earlier_section(results):
    """Whole epochs, trained by `frostline train` before this command was: no rows were held back, so rates can only be compared by the test rows."""
    said = ""
    for name in dict.fromkeys(line["cell"] for line in results.of("earlier")):
        lines = results.of("earlier", cell=name)
        arms = sorted({(line["layers"], line["steps"]) for line in lines}, key=lambda arm: (arm[1], int(arm[0].split("-")[0])))
        of_rate = lambda line: f"{line['rate']:g}" if line["rate"] else "not noted"
        said_of = lambda line: f"{of_rate(line)}: {line['test_loss']:.4f}, {100 * line['accuracy']:.1f} %"
        shown = lambda layers, steps: [said_of(line) for line in lines if (line["layers"], line["steps"]) == (layers, steps)]
        rows = [[layers, str(steps), "; ".join(shown(layers, steps))] for layers, steps in arms]
        said += f"\n{name}, one run each, {lines[0]['test_rows']} test rows:\n\n" + table(["layers trained", "steps", "rate: test loss, accuracy"], rows)
    return said


def each_section(views):
    rows = []
    for view in views:
        for way in WAYS:
            lines = view.results.of("each", **view.key, way=way)
            if lines:
                best = min(lines, key=lambda line: (-line["steps"], line["held_out_loss"]))
                accuracy = "-" if best["accuracy"] is None else f"{100 * best['accuracy']:.1f} ± {100 * math.sqrt(best['accuracy'] * (1 - best['accuracy']) / best['test_rows']):.1f} %"
                rates = sorted({line["rate"] for line in lines if line["steps"] == best["steps"]})
                rows.append([view.name, way, f"{best['mean_frost_line']:.1f}", f"{best['rate']:g} of " + ", ".join(f"{rate:g}" for rate in rates), str(best["steps"]), f"{best['step_seconds']:.2f}", loss_text(best["held_out_loss"]), loss_text(best["test_loss"]), accuracy])
    return table(["cell", "frost lines", "their mean", "best rate", "steps", "seconds a step", "loss, held back", "test loss", "accuracy"], rows) if rows else "Not measured yet.\n"


def standing(views):
    rows = []
    for view in views:
        for horizon, steps in view.horizons[-1:]:
            full, found = view.best(*view.full, steps), list(view.outcomes(horizon, steps, 1.0))
            others = [(name, outcome) for name, layers, method, outcome in found if (layers, method) != view.full]
            if full and others:
                names = lambda sign: ", ".join(name for name, outcome in others if outcome.against(full) == sign) or "none"
                quality = lambda one: -one[1].accuracy if one[1].accuracy is not None else one[1].checkpoint
                rows.append([view.name, min([("all", full), *others], key=quality)[0], names(1), names(0), names(-1)])
    return rows or [["none yet", "", "", "", ""]]


def report(results):
    names = dict.fromkeys(line["cell"] for line in results.of("cell"))
    planned = [View(results, name) for name in names]
    views = [view for view in planned if results.of("train", **view.key)]
    said = HEAD.format(batch=BATCH, length=MAX_LENGTH, held=HELD_OUT)
    said += "\n## What was asked, and what came of it\n\n" + criteria(views)
    for view in views:
        python = f", made with Python {view.about['python']}" if view.about.get("python") else ""
        said += f"\n## {view.name}\n\n{TITLES[view.task]}. {view.rows} rows to train on, files `{view.key['data']}`{python}.\n" + tables(view) + paces_table(view)
    if earlier := earlier_section(results):
        said += "\n## Measured before, without rows held back\n\n340 steps are one epoch; the others take about the seconds of full training's epoch, filling the cache included.\n" + earlier
    said += "\n## What each rule chose\n\n" + choices(planned)
    said += "\n## Signals and what training gave\n\n" + signals_section(views)
    said += "\n## Frost lines of examples\n\n" + each_section(views)
    return said + "\n## Do short trainings order frost lines as longer ones do?\n" + short_section(views)


def pair(text):
    name, _, folder = text.partition("=")
    return name, folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pair, action="append", default=[], help="NAME=DIR; may be repeated")
    parser.add_argument("--trec", type=Path)
    parser.add_argument("--sst2", type=Path)
    parser.add_argument("--tasks", nargs="*", default=TASKS, choices=TASKS)
    parser.add_argument("--frostline", default=os.environ.get("FROSTLINE", "target/release/frostline"))
    parser.add_argument("--engine", default="tract", help="what runs the export for salf")
    parser.add_argument("--work", type=Path, default=Path("target/effectiveness"), help="tasks and plans")
    parser.add_argument("--results", type=Path, default=HERE / "effectiveness.jsonl")
    parser.add_argument("--horizon", type=float, default=1.0, help="epochs of full training")
    parser.add_argument("--only", nargs="*", default=["seconds", "steps", "part", "blocks", "short", "pace"], choices=["plan", "seconds", "steps", "part", "blocks", "short", "each", "pace"])
    parser.add_argument("--arms", nargs="*", help="these alone, as all, salf, last:9, 'LoRA on all'")
    parser.add_argument("--rates", type=int, default=4, help="the most rates to try for an arm")
    parser.add_argument("--seeds", type=int, default=1, help="of the best rate")
    parser.add_argument("--turns", type=int, default=3, help="times that paces are measured; 0: budgets are worked out of the FLOPs that plans predict")
    parser.add_argument("--threads", type=int, help="of trainings; one is faster than two where other work takes half of the machine")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no training after so many")
    parser.add_argument("--replan", nargs="*", default=[], help="strategies to plan with once more")
    parser.add_argument("--table", action="store_true", help="write EFFECTIVENESS.md and train nothing")
    arguments = parser.parse_args()
    results = Results(arguments.results)
    if not arguments.table:
        run(arguments, results)
    (HERE / "EFFECTIVENESS.md").write_text(report(results), encoding="utf-8")


if __name__ == "__main__":
    main()
