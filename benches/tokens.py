#!/usr/bin/env python3
"""Compares what `frostline rows` shows with what transformers gives, row by row, for real tokenizers and templates.

  python benches/tokens.py --tokenizers DIR [--frostline target/release/frostline] [--only WORD…] [--out benches/TOKENS.md]

DIR holds a folder for each tokenizer (llama2, llama3, llama3_1, llama3_2, qwen3, gemma3, gptoss, deepseek_v3) with its tokenizer.json
and tokenizer_config.json; the templates are those of the tokenizers and those that come with the package trl. Needs the packages
transformers (5.23), trl and tokenizers.

A pair is a template and a tokenizer; all pairs get the same rows, which a seeded generator writes. Tokens are compared with
`apply_chat_template` of the pair's template. Targets are compared with `return_assistant_tokens_mask` of that template where it has
generation marks, else of trl's training variant in those rows where both variants give the same text; position 0 is left out, as nothing
predicts it. A row that transformers refuses must be refused. Pairs named `plain` are rows of prompt and completion and rows of text: the
judge is the tokenizer on both as one text, with targets by offsets.
"""
import argparse
import datetime
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import transformers
import trl
from tokenizers import Tokenizer
from transformers.utils import chat_template_utils

DATE = "2025-03-09"
TRL = Path(trl.__file__).parent / "chat_templates"
# trl's templates and the tokenizer that comes nearest to their own.
NEAR = {
    "qwen3": "qwen3", "qwen3_instruct_2507": "qwen3", "qwen2_5": "qwen3", "qwen3_5_think": "qwen3", "qwen3_5_nothink": "qwen3", "qwen3_6": "qwen3",
    "qwen3_8": "qwen3", "qwen3_vl": "qwen3", "qwen2_5_vl": "qwen3", "glm4moe": "qwen3", "nemotron_3_nano": "qwen3", "nemotron_3_super": "qwen3",
    "nemotron_3_ultra": "qwen3", "nemotron_3_5_lightning": "qwen3", "deepseek_r1_distill": "qwen3", "muse_glimmer": "qwen3",
    "llama3": "llama3", "cohere": "llama3", "cohere2": "llama3", "lfm2": "llama3", "lfm2_v2": "llama3", "idefics3": "llama3_1", "smolvlm": "llama3_2",
    "gemma": "gemma3", "gemma3": "gemma3", "diffusion_gemma": "gemma3", "gptoss": "gptoss", "deepseekv3": "deepseek_v3",
    "phi3": "llama2", "phi3_5": "llama2",
}
# Those without a training variant: their own marks, or tokens alone.
ALONE = {"lfm2_2_5": "llama3", "lfm2_2_5_v2": "llama3", "lfm2_2_5_vl": "llama3", "llama3_1": "llama3_1", "llama3_2": "llama3_2",
         "gemma4": "gemma3", "gemma4_v2": "gemma3", "gemma4_v3": "gemma3", "gemma4_v4": "gemma3", "gemma4_v5": "gemma3"}
# A tokenizer's own template and trl's training variant of it.
OWN = {"llama3": "llama3_training", "llama3_1": None, "llama3_2": None, "qwen3": "qwen3_training", "gemma3": "gemma3_training", "deepseek_v3": "deepseekv3_training"}
MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")

# Rows -------------------------------------------------------------------------------------------------------------------

NOUNS = "lighthouse orchard ferry engine compass ledger glacier violin harbour printer meadow satellite kettle library tunnel".split()
VERBS = "repairs carries measures paints forgets follows opens counts lifts remembers describes signals".split()
ADJECTIVES = "old quiet narrow bright frozen careful distant heavy green sudden hollow patient".split()
CITIES = ["Bergen", "Łódź", "São Paulo", "Kraków", "大阪", "Αθήνα", "القاهرة", "Zürich", "Nuuk", "Đà Nẵng"]
UNICODE = [
    "Grüße aus Köln — 12 €", "naïve café, re\u0301sume\u0301", "Привет, как дела?", "東京は夜です。", "안녕하세요, 세계", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇳🇴", "zero\u200bwidth\u00a0space", "ﬁne ｆｕｌｌ ＷＩＤＴＨ ①", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "e\u0327\u0301", "ßẞ İı", "tab\tand\r\nreturn", "\u2028line\u2029ends", "\ufeffmark",
    "̈starts with a mark", "ends with a joiner\u200d", "½ × ¾ ≠ ∞", "ﷺ", "\u0085next\u001cline",
]
CODE = [
    "def f(x):\n    return {k: v for k, v in x.items() if v}\n", "```rust\nfn main() {\n    println!(\"{:?}\", vec![1, 2]);\n}\n```", "SELECT * FROM t WHERE a <> 'b' AND c >= 3;",
    "<div class=\"a\">&amp; <b>x</b></div>", "{% for x in y %}{{ x }}{% endfor %}", "#include <stdio.h>\nint main(void) { return 0; }\n", "for i in $(seq 1 3); do echo \"$i\"; done",
    "{\"a\": [1, 2.50, null, true], \"b\": {\"c\": \"\\u00e9\\n\"}}", "x = 'it''s'; y = \"\\\\path\\\\to\"", "\t\tif (a && b || !c) { a ^= b << 2; }  // done", "λ = lambda x, *y, **z: (yield)",
]
MARKERS = ["<|im_end|>", "<|im_start|>user", "</s>", "<eos>", "<|eot_id|>", "<think>so</think>", "<tool_call>", "[INST]", "<|end|>", "<|return|>", "<end_of_turn>", "{{ messages }}"]


class Writer:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, items):
        return items[self.random.randrange(len(items))]

    def sentence(self):
        sentence = f"The {self.pick(ADJECTIVES)} {self.pick(NOUNS)} {self.pick(VERBS)} the {self.pick(NOUNS)} in {self.pick(CITIES)}"
        return sentence + self.pick([".", "!", "?", ", " + str(self.random.randrange(10_000)) + " times.", "...", f" ({self.random.random():.3f})."])

    def text(self, most=3):
        return " ".join(self.sentence() for _ in range(1 + self.random.randrange(most)))

    def turns(self, count, write=None, **fields):
        write = write or self.text
        return [{"role": role, "content": write()} | (fields if role == "assistant" else {}) for _ in range(count) for role in ("user", "assistant")]

    def edges(self):
        """A text with white space or a mark of some template where it may be lost."""
        return self.pick(["", " ", "\n", "\n\n", "\t", "  "]) + self.text(1) + self.pick(["", " ", "\n", "\n\n", " \n", "\u00a0", "\r\n"])

    def tool(self, name):
        kind = lambda: self.pick([{"type": "string"}, {"type": "integer"}, {"type": "number", "minimum": 0.5}, {"type": "string", "enum": ["é", "b<c", "d&e"]}, {"type": "array", "items": {"type": "string"}},
                                  {"type": "boolean", "default": False}, {"type": "object", "properties": {"inner": {"type": "string", "description": "it's \"inner\""}}}])
        names = self.random.sample(["zone", "city", "at", "Limit", "unit", "flags"], 1 + self.random.randrange(4))
        properties = {n: kind() | ({"description": self.sentence()} if self.random.random() < 0.8 else {}) for n in names}
        return {"type": "function", "function": {"name": name, "description": self.sentence(), "parameters": {"type": "object", "properties": properties, "required": names[:1]}}}

    def arguments(self):
        values = [lambda: self.pick(CITIES), lambda: self.random.randrange(-9, 10**6), lambda: self.random.random() * 10 ** self.random.randrange(-6, 20), lambda: True, lambda: None,
                  lambda: [1, "two", {"three": 3.0}], lambda: {"z": "<&>'", "a": []}, lambda: self.pick(UNICODE), lambda: "a \"quoted\"\ntext\\"]
        return {key: self.pick(values)() for key in self.random.sample(["zone", "city", "at", "Limit", "unit", "flags"], 1 + self.random.randrange(3))}

    def calls(self, names, many):
        return [{"id": f"call{i:05}", "type": "function", "function": {"name": self.pick(names), "arguments": self.arguments()}} for i in range(1 + self.random.randrange(2) if many else 1)]

    def with_tools(self, i):
        names = ["find_ferry", "weather.now", "lookup"][: 1 + self.random.randrange(3)]
        calls = self.calls(names, many=i % 3 == 0)
        content = [{"content": None}, {"content": ""}, {"content": self.sentence()}, {}][i % 4]
        messages = [{"role": "user", "content": self.text()}, {"role": "assistant", **content, "tool_calls": calls}]
        messages += [{"role": "tool", "name": call["function"]["name"], "tool_call_id": call["id"], "content": self.pick(["21 °C", "{\"ok\": true, \"x\": [1.0]}", "none & never", ""])} for call in calls]
        messages += [{"role": "assistant", "content": self.text()}]
        if i % 5 == 0:
            messages += self.turns(1)
        if i % 2:
            messages.insert(0, {"role": "system", "content": self.sentence()})
        return {"messages": messages, "tools": [self.tool(name) for name in names]} if i % 7 else {"messages": messages}


def conversations(count):
    """`count` rows of each kind."""
    rows = []

    def add(kind, make):
        writer = Writer(kind)
        rows.extend({"kind": kind} | make(writer, i) for i in range(count))

    add("single", lambda w, i: {"messages": w.turns(1)})
    add("several", lambda w, i: {"messages": w.turns(2 + i % 4)})
    add("system", lambda w, i: {"messages": [{"role": "system", "content": w.text()}, *w.turns(1 + i % 3)]})
    add("tools", lambda w, i: w.with_tools(i))
    add("unicode", lambda w, i: {"messages": w.turns(1 + i % 2, lambda: w.pick(UNICODE) + w.pick(["", " ", "\n"]) + w.pick(UNICODE))})
    add("code", lambda w, i: {"messages": w.turns(1 + i % 2, lambda: w.pick(["", w.sentence() + "\n\n"]) + w.pick(CODE))})
    add("edges", lambda w, i: {"messages": w.turns(1 + i % 3, w.edges)})
    add("empty", lambda w, i: {"messages": w.turns(1 + i % 3, lambda: w.pick(["", "", w.sentence(), " "]))})
    add("long", lambda w, i: {"messages": w.turns(1 + i % 4, lambda: w.text(40))})
    add("reasoning", lambda w, i: {"messages": w.turns(1 + i % 3, **({"reasoning_content": w.pick([w.text(), "\n" + w.sentence() + "\n", ""])} if i % 2 else {}))})
    add("thinking", lambda w, i: {"messages": w.turns(1 + i % 3, lambda: w.pick(["<think>\n" + w.sentence() + "\n</think>\n\n", "<think>" + w.sentence() + "</think>", "</think>", ""]) + w.text())})
    add("markers", lambda w, i: {"messages": w.turns(1 + i % 2, lambda: w.sentence() + w.pick(["", " ", "\n"]) + w.pick(MARKERS) + w.pick(["", " ", "\n"]) + w.sentence())})
    add("same", lambda w, i: {"messages": [{"role": r, "content": t} for r, t in zip(["user", "assistant"] * (1 + i % 3), ["yes", "yes", "assistant", "yes", "yes", "user"])]})
    add("no answer last", lambda w, i: {"messages": [*w.turns(1 + i % 2), {"role": "user", "content": w.text()}]})
    return rows


def plain(count):
    writer, rows = Writer("plain"), []
    write = lambda: writer.pick([writer.text, writer.edges, lambda: writer.pick(UNICODE), lambda: writer.pick(CODE), lambda: writer.sentence() + writer.pick(MARKERS)])()
    for i in range(count):
        cut, whole = i % 5, write() + writer.pick(["", " ", "\n"]) + write()
        place = writer.random.randrange(1, len(whole))
        rows.append({"kind": "prompt", "prompt": whole[:place], "completion": whole[place:]} if cut < 4 else {"kind": "text", "text": whole})
    return rows


# Judges -----------------------------------------------------------------------------------------------------------------


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


chat_template_utils.datetime = Frozen


def rendered(tokenizer, row, template):
    """Tokens and mask, or why transformers refuses."""
    try:
        # A row's columns are read from JSON, so numbers and texts are those that the other side reads.
        out = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), chat_template=template, return_dict=True, return_assistant_tokens_mask=bool(MARKS.search(template)))
        return out["input_ids"], out.get("assistant_masks")
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def judge_chat(tokenizer, rows, template, training):
    marked = bool(MARKS.search(template))
    judged = []
    for row in rows:
        ids, mask = rendered(tokenizer, row, template)
        why = mask if ids is None else None
        if ids is not None and not marked:
            other, mask = rendered(tokenizer, row, training) if training else (None, None)
            mask = mask if other == ids else None
        if ids is not None and mask is not None and not any(mask[1:]):
            mask = None
        judged.append((ids, None if ids is None else mask, why))
    return judged


def judge_plain(tokenizer, folder, rows):
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    for part in [content["post_processor"] or {}, *(content["post_processor"] or {}).get("processors", [])]:
        if "trim_offsets" in part:
            part["trim_offsets"] = False
    whole_offsets = Tokenizer.from_str(json.dumps(content))
    judged = []
    for row in rows:
        before, after = ("", row["text"]) if "text" in row else (row["prompt"], row["completion"])
        ids, out = tokenizer(before + after)["input_ids"], whole_offsets.encode(before + after)
        mask = [int(end > len(before)) for _, end in out.offsets] if ids == out.ids else None
        judged.append((ids, mask, None))
    return judged


def read_rows(binary, model, rows, flags):
    """What the command shows, by place, and what it says where it fails."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        file.flush()
        command = [binary, "rows", "--model", model, "--data", file.name, "--show", "all", "--json", "--max-length", "100000", "--on-bad-row", "skip", *flags]
        done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        return None, done.stderr.strip()
    return {row["place"]: row for row in json.loads(done.stdout)["shown"]}, done.stderr.strip()


def model_folder(tokenizer_folder, template, vocabulary, into):
    shutil.copy(tokenizer_folder / "tokenizer.json", into)
    config = json.loads((tokenizer_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if template is not None:
        config.pop("chat_template", None)
        (into / "chat_template.jinja").write_text(template, encoding="utf-8", newline="")
    (into / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6}
    (into / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": vocabulary, "hidden_act": "silu", "tie_word_embeddings": True} | sizes))


# The table --------------------------------------------------------------------------------------------------------------


class Result:
    def __init__(self, pair, rows):
        self.pair, self.rows = pair, rows
        self.ids = self.mask = self.judged = self.refused = 0
        self.apart, self.failed = [], None

    def line(self):
        if self.failed:
            return f"| {self.pair} | {self.rows} | failed | | | {self.failed} |"
        read = self.rows - self.refused
        mask = f"{self.mask} of {self.judged}" if self.judged else "not judged"
        kinds = {}
        for what, kind, *_ in self.apart:
            kinds.setdefault(what, []).append(kind)
        said = "; ".join(f"{what}: {len(k)} ({', '.join(sorted(set(k)))})" for what, k in kinds.items())
        return f"| {self.pair} | {self.rows} | {self.ids} of {read} | {mask} | {self.refused} | {said or 'none'} |"


def window(tokenizer, ids, mask, at):
    said, inside = "", False
    for k in range(max(0, at - 6), min(len(ids), at + 8)):
        if mask and mask[k] != inside:
            said, inside = said + ("⟦" if mask[k] else "⟧"), mask[k]
        said += tokenizer.decode([ids[k]])
    return repr(said)


def beside(mask, other):
    """Whether two masks differ in a few tokens before or after what both mark and nowhere else."""
    runs, k = [], 0
    while k < len(mask):
        end = k
        while end < len(mask) and mask[end] != other[end]:
            end += 1
        runs += [(k, end)] if end > k else []
        k = end + 1
    both = [a and b for a, b in zip(mask, other)] + [False]
    return all(end - begin <= 8 and (both[begin - 1] or both[end]) for begin, end in runs)


def compare(pair, rows, judged, shown, tokenizer, said):
    result = Result(pair, len(rows))
    if shown is None:
        result.failed = " ".join(said.split())[:200]
        return result
    for place, (row, (ids, mask, why)) in enumerate(zip(rows, judged), 1):
        got = shown.get(place)
        if ids is None:
            result.refused += got is None
            if got is not None:
                result.apart.append(("refused by transformers alone", row["kind"], place, why))
            continue
        if got is None:
            result.apart.append(("refused by frostline alone", row["kind"], place, next((line for line in said.splitlines() if re.search(rf"\b{place}\b", line)), "")))
            continue
        got_mask = [False] + [label != -100 for label in got["labels"][1:]]
        if got["input_ids"] != ids:
            at = next((k for k, (a, b) in enumerate(zip(ids, got["input_ids"])) if a != b), min(len(ids), len(got["input_ids"])))
            result.apart.append(("tokens", row["kind"], place, f"got {window(tokenizer, got['input_ids'], None, at)}, expected {window(tokenizer, ids, None, at)}"))
            continue
        result.ids += 1
        if mask is None:
            continue
        result.judged += 1
        mask = [False] + [bool(m) for m in mask[1:]]
        if mask == got_mask:
            result.mask += 1
        else:
            apart = [k for k, (a, b) in enumerate(zip(mask, got_mask)) if a != b]
            at = apart[0]
            result.apart.append(("targets beside answers alone" if beside(mask, got_mask) else "targets", row["kind"], place, f"got {window(tokenizer, ids, got_mask, at)}, expected {window(tokenizer, ids, mask, at)}"))
    return result


def pairs(folders):
    """Name, tokenizer, template (none: plain rows), training variant."""
    read = lambda name: (TRL / f"{name}.jinja").read_text(encoding="utf-8")
    for name, training in OWN.items():
        config = json.loads((folders / name / "tokenizer_config.json").read_text(encoding="utf-8"))
        yield f"{name}'s own × {name}", name, config["chat_template"], read(training) if training else None
    for name, near in NEAR.items():
        training = read(f"{name}_training")
        yield f"{name} × {near}", near, read(name), training
        yield f"{name}_training × {near}", near, training, training
    for name, near in ALONE.items():
        yield f"{name} × {near}", near, read(name), None
    for folder in sorted(folders.iterdir()):
        yield f"plain × {folder.name}", folder.name, None, None


HEAD = """# Tokens and targets beside transformers' own

`python benches/tokens.py --tokenizers DIR` with transformers {transformers}, trl {trl}, tokenizers {tokenizers}: {conversations} conversations a pair
({kinds}) and {plain} plain rows a tokenizer, the same for all pairs. "Tokens" and "targets" count the rows that are equal, position by position; targets are
judged where the template has generation marks, or where trl's training variant gives the row the same text. "Refused" counts the rows that both sides refuse.
Rows whose targets differ "beside answers alone" differ in up to eight tokens directly before or after an answer that both mark: trl's variants disagree about them (the header
that names the assistant, the line break after the end of a turn), and a template without marks says nothing of them.

| template × tokenizer | rows | tokens | targets | refused | differences |
| --- | --- | --- | --- | --- | --- |
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizers", type=Path, required=True)
    parser.add_argument("--frostline", default=os.environ.get("FROSTLINE", "target/release/frostline"))
    parser.add_argument("--only", nargs="*", help="pairs whose names have one of these words")
    parser.add_argument("--rows", type=int, default=16, help="conversations of each kind")
    parser.add_argument("--out", type=Path, help="where the table goes, too")
    parser.add_argument("--details", type=Path, help="each row that differs")
    arguments = parser.parse_args()
    chats, texts = conversations(arguments.rows), plain(14 * arguments.rows)
    # What JSON cannot say is not compared.
    chats = [json.loads(json.dumps(row)) for row in chats]
    tokenizers, results, details = {}, [], []
    chosen = [pair for pair in pairs(arguments.tokenizers) if not arguments.only or any(word in pair[0] for word in arguments.only)]
    # One tokenizer at a time in memory.
    for pair, name, template, training in sorted(chosen, key=lambda pair: pair[1]):
        if name not in tokenizers:
            tokenizers = {name: transformers.AutoTokenizer.from_pretrained(arguments.tokenizers / name)}
        tokenizer, rows = tokenizers[name], texts if template is None else chats
        judged = judge_plain(tokenizer, arguments.tokenizers / name, rows) if template is None else judge_chat(tokenizer, rows, template, training)
        with tempfile.TemporaryDirectory() as folder:
            model_folder(arguments.tokenizers / name, template, len(tokenizer) + 512, Path(folder))
            shown, said = read_rows(arguments.frostline, folder, rows, ["--eos", "never"] if template is None else ["--date", DATE])
        result = compare(pair, rows, judged, shown, tokenizer, said)
        results.append(result)
        print(result.line(), flush=True)
        if result.failed:
            details.append(f"## {pair}\nfailed: {said}\n")
        details += [f"## {pair}: row {place} ({kind}): {what}: {more}\n{json.dumps(rows[place - 1], ensure_ascii=False)[:600]}\n" for what, kind, place, more in result.apart]
    kinds = ", ".join(dict.fromkeys(row["kind"] for row in chats))
    head = HEAD.format(transformers=transformers.__version__, trl=trl.__version__, tokenizers=__import__("tokenizers").__version__, conversations=len(chats), kinds=kinds, plain=len(texts))
    if arguments.out:
        arguments.out.write_text(head + "".join(result.line() + "\n" for result in results), encoding="utf-8")
    if arguments.details:
        arguments.details.write_text("\n".join(details), encoding="utf-8")
    sys.exit(any(result.failed or result.apart for result in results))


if __name__ == "__main__":
    main()
