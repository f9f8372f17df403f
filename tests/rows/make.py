#!/usr/bin/env python3
"""Makes the reference rows: data sets as people have them, tiny tokenizers, and the tokens and labels that transformers gives.

  python tests/rows/make.py            everything, into this folder
  python tests/rows/make.py --check    makes all but the model into a temporary folder and says whether it is what lies here

`model/` holds one tiny model for all cases, `tokenizers/KIND/tokenizer.json` the tokenizers, `cases/NAME/` a case:

  case.json             the kind of tokenizer, the file of rows, the flags of the command
  tokenizer_config.json and whatever else of a model folder the case has (templates, special_tokens_map.json, …)
  rows.*                the rows
  expected.jsonl        for each row that can be read its place in the file, its tokens and its labels (-100: no target)

The judge of conversations is `apply_chat_template(..., return_assistant_tokens_mask=True)`. A template without generation
marks is judged by the same template with marks. The judge of other rows is the tokenizer on the prompt and the completion as
one text, a token being a target when some of it lies in the completion, with the end token that TRL adds. Where such a text
begins as the post-processor lets texts begin, it does so once; transformers would write the token twice. Nothing is a target at
position 0, where nothing predicts it.

The files are the same on every run. Made with Python 3.11, torch 2.15.0, transformers 5.23.0, trl 1.16.0, tokenizers 0.23.3,
pyarrow 26.0.1; other versions may give other bytes.
"""
import argparse
import copy
import datetime
import gzip
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TQDM_DISABLE", "1")

import pyarrow as pa
import pyarrow.parquet as pq
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers.utils import chat_template_utils

HERE = os.path.dirname(os.path.abspath(__file__))
VOCABULARY = 512
DATE = "2024-02-29"

# Tokenizers -------------------------------------------------------------------------------------------------------------

CORPUS = """
Question: which river runs through the old town? Answer: the Moldau runs through the old town of Prague.
Question: how many stars has the Plough? Answer: seven stars, and an eighth that few people see.
Name a colour of the evening sky. Red, then violet, then a deep blue before the night.
You are a helpful assistant. Answer in one short sentence. Type: number, place, person or thing.
def area(width, height): return width * height
for i in range(10): print(i, i * i)
{"type": "function", "function": {"name": "find_train", "description": "finds a train", "parameters": {"type": "object"}}}
{"name": "find_train", "arguments": {"from": "Basel", "to": "Oslo", "when": "2024-02-29"}}
Der Fluss fließt durch die Stadt. Où est la gare? ¿Cuántas estrellas hay? Привет, мир. 東京は夜です。
The train leaves at 9:40 from platform 12 and the ferry at 11:15 from the north pier.
Today is Thursday, 29 February 2024. Thinking is switched off. user assistant system tool model
"""

SPECIAL = [
    "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>",
    "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>",
]
PLAIN = ["<think>", "</think>"]


def texts():
    lines = CORPUS.strip().splitlines()
    return lines + [line + "\n" + line for line in lines]


def bpe(**settings):
    return Tokenizer(models.BPE(**settings))


def train(tokenizer, **settings):
    wanted = settings.pop("vocab_size", VOCABULARY) - len(PLAIN)
    trainer = trainers.BpeTrainer(vocab_size=wanted, special_tokens=SPECIAL, show_progress=False, min_frequency=2, **settings)
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in PLAIN])
    return tokenizer


def around(tokenizer, before=None, after=None):
    """A post-processor that puts special tokens around a text."""
    parts = ([before] if before else []) + ["$A"] + ([after] if after else [])
    special = [(token, tokenizer.token_to_id(token)) for token in (before, after) if token]
    return processors.TemplateProcessing(single=parts, pair=[*parts, *(p.replace("$A", "$B") + ":1" for p in parts)], special_tokens=special)


def byte_level(prefix_space=False):
    tokenizer = bpe()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    tokenizer = train(tokenizer, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    # GPT-2's: its offsets leave out the space that a token begins with.
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=prefix_space, add_prefix_space=prefix_space)
    return tokenizer


def byte_level_with(before=None, after=None):
    tokenizer = byte_level()
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), around(tokenizer, before, after)])
    return tokenizer


def bare():
    """Without any post-processor."""
    tokenizer = byte_level()
    content = json.loads(tokenizer.to_str())
    content["post_processor"] = None
    return Tokenizer.from_str(json.dumps(content))


def metaspace(scheme):
    tokenizer = bpe(unk_token="<unk>", fuse_unk=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer = train(tokenizer)
    tokenizer.post_processor = around(tokenizer, "<s>")
    return tokenizer


def with_byte_tokens(tokenizer):
    """The vocabulary with a token for each byte after the special tokens."""
    content = json.loads(tokenizer.to_str())
    words = sorted(content["model"]["vocab"], key=content["model"]["vocab"].get)
    words = [w for w in words if w not in PLAIN]
    words = words[: len(SPECIAL)] + [f"<0x{byte:02X}>" for byte in range(256)] + words[len(SPECIAL):]
    content["model"]["vocab"] = {word: i for i, word in enumerate(words)}
    content["model"]["byte_fallback"] = True
    content["added_tokens"] = [added for added in content["added_tokens"] if added["content"] not in PLAIN]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in PLAIN])
    assert tokenizer.get_vocab_size() <= VOCABULARY, tokenizer.get_vocab_size()
    return tokenizer


def prepend():
    """The older way of Llama 2: the normalizer writes the space, nothing splits words."""
    tokenizer = bpe(unk_token="<unk>", fuse_unk=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer = train(tokenizer, vocab_size=VOCABULARY - 256)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = with_byte_tokens(tokenizer)
    tokenizer.post_processor = around(tokenizer, "<s>")
    return tokenizer


def gemma():
    """The way of Gemma: spaces become words' last letters, nothing is put before."""
    tokenizer = bpe(unk_token="<unk>", fuse_unk=True)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer = with_byte_tokens(train(tokenizer, vocab_size=VOCABULARY - 256))
    tokenizer.post_processor = around(tokenizer, "<s>")
    return tokenizer


def unigram(before=None, after=None):
    """T5's way, with a normalizer that changes the text's length. Its pieces are BPE's, whose trainer gives the same on every run."""
    words = metaspace("always").get_vocab()
    words = [word for word in sorted(words, key=words.get) if word not in PLAIN]
    pieces = [(word, 0.0 if k < len(SPECIAL) else -math.log(k) - 1.0 / len(word)) for k, word in enumerate(words)]
    tokenizer = Tokenizer(models.Unigram([(word, round(score, 4)) for word, score in pieces], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in PLAIN])
    if before or after:
        tokenizer.post_processor = around(tokenizer, before, after)
    return tokenizer


KINDS = {
    "byte-level": byte_level,
    "byte-level-space": lambda: byte_level(prefix_space=True),
    "byte-level-begin": lambda: byte_level_with("<s>"),
    "byte-level-end": lambda: byte_level_with(None, "</s>"),
    "bare": bare,
    "metaspace-first": lambda: metaspace("first"),
    "metaspace-always": lambda: metaspace("always"),
    "metaspace-never": lambda: metaspace("never"),
    "prepend": prepend,
    "gemma": gemma,
    "unigram": unigram,
    "unigram-end": lambda: unigram(None, "</s>"),
}

# Templates; marks of `{% generation %}` are taken out where a case has none --------------------------------------------

CHATML = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' %}{% generation %}\
{{- m.content + '<|im_end|>' }}{% endgeneration %}{%- else %}{{- m.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""

HEADERS = """{{- bos_token }}
{%- for m in messages %}
    {{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' }}
    {%- if m.role == 'assistant' %}
        {%- generation %}
        {{- m.content | trim + '<|eot_id|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- m.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""

# Qwen3's way: only answers after the last question keep a place for thinking.
THINKING = """{%- set ns = namespace(last=-1) %}
{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for m in messages %}
    {{- '<|im_start|>' + ('user' if m.role == 'tool' else m.role) + '\\n' }}
    {%- if m.role == 'assistant' %}
        {%- generation %}
        {%- if loop.index0 > ns.last %}{{- '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' }}{%- endif %}
        {{- m.content + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- m.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

# Phi-3's way: what ends a text is written where no answer is asked for.
ENDING = """{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{% generation %}\
{{ m['content'] + '<|end|>' }}{% endgeneration %}{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{% generation %}{{ '<|endoftext|>' }}{% endgeneration %}{% endif %}"""

# DeepSeek's way: what was thought in earlier turns is dropped.
DROPPING = """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}\
{% elif message['role'] == 'assistant' %}{{ '<｜Assistant｜>' }}{% generation %}{% set content = message['content'] %}\
{% if '</think>' in content and not loop.last %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}\
{{ content + '<｜end▁of▁sentence｜>' }}{% endgeneration %}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"""

TOOLS = """{%- if tools %}{{- '<|im_start|>system\\nTools:' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
    {%- if m.role == 'assistant' %}
        {%- generation %}
        {%- if m.content %}{{- m.content }}{%- endif %}
        {%- for call in m.tool_calls or [] %}{{- '\\n{"name": "' + call.function.name + '", "arguments": ' }}{{- call.function.arguments | tojson }}{{- '}' }}{%- endfor %}
        {{- '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- m.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

JSON_OPTIONS = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
    {%- if m.role == 'assistant' %}{%- generation %}{{- m.content + '<|im_end|>' }}{%- endgeneration %}
    {%- else %}{{- m.content | tojson }}{{- '<|im_end|>' }}{%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- for tool in tools or [] %}
    {{- tool | tojson(indent=2) + '\\n' }}
    {{- tool | tojson(separators=(',', ':')) + '\\n' }}
    {{- tool | tojson(sort_keys=true) + '\\n' }}
    {{- tool | tojson(ensure_ascii=true) + '\\n' }}
    {{- tool | tojson(true, 1, sort_keys=True) + '\\n' }}
    {{- tool.function | tojson(indent=4, separators=(', ', ' : ')) + '\\n' }}
{%- endfor %}"""

MARK = re.compile(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}")


def without_marks(template):
    """The template with comments in the place of its marks, which keep white space as the marks do."""
    return MARK.sub(lambda mark: "{#" + ("-" if mark[1] == "-" else "") + ("-" if mark[2] == "-" else "") + "#}", template)


# Files of rows --------------------------------------------------------------------------------------------------------

def lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def zipped(rows):
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as file:
        file.write(lines(rows))
    return out.getvalue()


def zstandard(rows):
    with tempfile.NamedTemporaryFile(suffix=".zst") as file:
        with pa.CompressedOutputStream(file.name, "zstd") as stream:
            stream.write(lines(rows))
        return open(file.name, "rb").read()


def parquet(**settings):
    def write(rows):
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), out, **settings)
        return out.getvalue()
    return write


def arrow(stream):
    def write(rows):
        out, table = io.BytesIO(), pa.Table.from_pylist(rows)
        with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
        return out.getvalue()
    return write


def columnar(rows):
    """Rows as columns give them back: every struct has every key."""
    return pa.Table.from_pylist(rows).to_pylist()


# Cases ------------------------------------------------------------------------------------------------------------------


class Case:
    def __init__(self, name, kind, rows, template=None, marks=True, flags=(), eos=None, config=None, files=None, judge=None, form=None, chosen=None, bad=(), variables=None, max_length=None, own=False):
        self.name, self.kind, self.rows, self.marks, self.flags, self.eos = name, kind, rows, marks, list(flags), eos
        self.template, self.files, self.judge, self.form = template, files or {}, judge, form or ("rows.jsonl", lines)
        self.chosen, self.bad, self.variables, self.max_length = chosen, bad, variables or {}, max_length
        self.own = own
        self.config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | (config or {})


CASES = []


def case(*positional, **named):
    CASES.append(Case(*positional, **named))


def say(*turns, **more):
    """A row of turns: a text is said by the user and the assistant in turn, a pair names the role, a dict is a message."""
    messages, roles = [], ["user", "assistant"]
    for turn in turns:
        if isinstance(turn, dict):
            messages.append(turn)
        else:
            role, content = turn if isinstance(turn, tuple) else (roles[0], turn)
            messages.append({"role": role, "content": content})
        if messages[-1]["role"] in roles:
            roles = ["assistant", "user"] if messages[-1]["role"] == "user" else ["user", "assistant"]
    return {"messages": messages} | more


def prompt(question, answer, **more):
    return {"prompt": question, "completion": answer} | more


def tool(name, description, properties, **more):
    function = {"name": name, "description": description, "parameters": {"type": "object", "properties": properties, **more}}
    return {"type": "function", "function": function}


def call(name, arguments, content=""):
    return {"role": "assistant", "content": content, "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}


TRAIN_TOOL = tool("find_train", "Trains <from> & to; the user's choice isn't \"fixed\"",
                  {"when": {"type": "string"}, "from": {"type": "string", "enum": ["Basel", "Zürich", "東京"]}, "class": {"type": "integer", "default": None}},
                  required=["when", "from"])
CHILD_TOOL = tool("zeta", "tabs\tbreaks\nand \\ back/slashes", {"b": {"type": "number", "minimum": 1.0, "maximum": 1e22}, "a": {"anyOf": [{"type": "null"}, {"const": True}]}})
TALK = [
    say("which river runs through the old town?", "The Moldau."),
    say(("system", "Answer in one short sentence."), "how many stars?", "Seven.", "and who sees them?", "Few people, on a clear night."),
    say("Où est la gare?", "À gauche 🚆, puis tout droit."),
    say("", "Ask me anything.", "print(i)", "for i in range(10):\n    print(i)\n"),
]
TURNS = [
    say("Name a colour.", "Red."),
    say("Name a colour.", "Red.", "And another?", "Violet."),
    say(("system", "Answer in one short sentence."), "Red?", "Red.", "Red?", "Red.", "Red?", "Red."),
    say("Привет", "мир", "東京は?", "夜です。", "night", "deep blue\n\nbefore the night"),
]
ANSWERS = [
    prompt("Question: which river?\nAnswer:", " the Moldau"),
    prompt("Question: how many stars?\nAnswer:", " seven stars"),
    prompt("Question: which colour?\nAnswer:", " violet"),
    prompt("Question: who sees it?\nAnswer:", " few people"),
    prompt("Question: from where?\nAnswer:", " platform 12"),
    prompt("Question: at which time?\nAnswer:", " at 9:40"),
    prompt("Question: which day?\nAnswer:", " Thursday, 29 February"),
    prompt("Question: in which town?\nAnswer:", " Prague"),
]
LABELS = [prompt(f"Question: {question}?\nType:", label) for question, label in [
    ("which river", " thing"), ("which town", " place"), ("who", " person"), ("how many", " number"), ("where", " place"), ("whose train", " person"),
    ("what", " thing"), ("at which time", " number"), ("which pier", " place"), ("how few", " number"), ("which sky", " thing"), ("which people", " person")]]
BOUNDARIES = [
    prompt("Question: the old town\n", '{"type": "function"}'),
    prompt("Type: ", "number"),
    prompt("Type:", " number"),
    prompt("Type:", "number"),
    prompt("Question: how many sta", "rs?"),
    prompt("the night", "  and the old  town"),
    prompt("", "The train leaves"),
    prompt("The ferry ", " leaves\n"),
    prompt("Der Flu", "ß fließt. Où? 東京🚆"),
    prompt("<s>Question:", " the ferry"),
    prompt("<|user|>", "which?"),
    prompt("a\n\n", "\n\nb"),
]
WIDTHS = [prompt("Type: ﬁnd ", "ﬁve ｎｕｍｂｅｒｓ"), prompt("the  old   town", "   and ① star"), prompt("e\u0301", "\u0301tude")]

case("json-tools", "byte-level", [
    say("trains from Zürich?", call("find_train", {"when": "2024-02-29", "from": "Zürich", "class": None}), ("tool", "9:40 & 11:15"), ("assistant", "At 9:40."), tools=[TRAIN_TOOL]),
    say("both?", call("zeta", {"b": -0.0, "a": True, "<z>": [1, 2.5, {"k": []}, {}]}, "I'll look."), ("tool", "[]"), ("assistant", "None."), tools=[CHILD_TOOL, TRAIN_TOOL]),
    say("none", "none"),
    say("an empty list", "none", tools=[]),
    say("numbers", call("zeta", {"x": [0.1, 1e-7, 1e16, 123456789012345678, 1.5e300, 100.0, 1e-5, 0.0001]})),
    say("texts", call("zeta", {"q": "\"\\/\b\f\n\r\t\u0001\u007f\u2028é🚆", "": "e"})),
], TOOLS)
case("json-tools-unmarked", "byte-level", [
    say("trains from Oslo?", call("find_train", {"when": "2024-03-01", "from": "Oslo"}), ("tool", "none & never"), ("assistant", "There is none."), tools=[TRAIN_TOOL]),
    say("a name", "<b>&'"),
], TOOLS, marks=False)
case("json-options", "byte-level", [say("it's <b>\"bold\"</b> & 東京🚆", "done", tools=[CHILD_TOOL])], JSON_OPTIONS)
case("turns-marked", "byte-level", TURNS + [
    say("both?", {"role": "assistant", "content": "Red.", "reasoning_content": "Which colour?"}, "why?", {"role": "assistant", "content": "Evening.", "reasoning_content": "the sky"}),
    say("tool?", {"role": "assistant", "content": "look"}, ("tool", "seven"), {"role": "assistant", "content": "Seven."}),
], THINKING)
case("turns-unmarked", "byte-level", TURNS, THINKING, marks=False)
case("turns-ending-marked", "byte-level-begin", TURNS[:3], ENDING)
case("turns-ending-unmarked", "byte-level-begin", TURNS[:3], ENDING, marks=False)
THOUGHTS = [
    say("Name a colour.", "<think>\nthe sky\n</think>\n\nRed.", "And another?", "<think>\nthe night\n</think>\n\nBlue."),
    say("Name a colour.", "<think>\nthe sky\n</think>\n\nRed."),
    say("which?", "Red.", "which?", "Blue.", "which?", "<think>at night</think>Violet."),
]
case("turns-dropping-marked", "metaspace-first", THOUGHTS, DROPPING, config={"eos_token": "<｜end▁of▁sentence｜>"})
case("turns-dropping-unmarked", "metaspace-first", THOUGHTS, DROPPING, marks=False, config={"eos_token": "<｜end▁of▁sentence｜>"})
case("turns-headers", "byte-level-begin", TALK, HEADERS)
case("turns-headers-unmarked", "byte-level-begin", TALK, HEADERS, marks=False)
case("turns-gemma-tokens", "gemma", TALK, HEADERS)
case("turns-unigram-tokens", "unigram", TALK, HEADERS)
case("turns-prepended", "prepend", TALK, HEADERS, marks=False)

FORMATS = ["%d %B %Y", "%Y-%m-%d", "%A", "%a %b %e", "%-d.%-m.%y", "%j", "%d/%m/%Y at %H:%M:%S", "%U %u %%"]
case("date", "byte-level", [say("today?", "Thursday.")],
     "{%- for f in " + json.dumps(FORMATS) + " %}{{- 'Today is ' + strftime_now(f) + '\\n' }}{%- endfor %}\n" + CHATML, flags=["--date", DATE])
case("date-of-a-condition", "byte-level", TALK[:2],
     "{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}"
     "{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}{{- 'Today is ' + date_string + '\\n' }}" + CHATML, flags=["--date", DATE])

case("marks-in-a-comment", "byte-level", TALK, "{#- A training copy: {% generation %} and {% endgeneration %} stand around answers. -#}\n" + CHATML)
case("marks-only-in-a-comment", "byte-level", TALK, "{#- Has no {% generation %} or {% endgeneration %}. -#}\n" + without_marks(CHATML),
     judge="{#- Has no marks. -#}\n" + CHATML)
case("marks-in-raw-text", "byte-level", TALK[:2], "{% raw %}{% generation %}{% endraw %}{{ '{% endgeneration %}' }}\n" + CHATML)
case("marks-with-white-space", "byte-level", TALK[:2], """
{% for m in messages %}
    {% if m.role == 'assistant' %}
        {%- generation -%}
            {{ m.content }}<|im_end|>
        {%- endgeneration -%}
    {% else %}
        {{ m.content }}<|im_end|>
    {% endif %}
{% endfor %}
""")
case("marks-twice-in-an-answer", "byte-level", TALK[:2], """{%- for m in messages %}{%- if m.role == 'assistant' %}
{%- generation %}{{- m.content }}{%- endgeneration %}{{- ' | ' }}{%- generation %}{{- '<|im_end|>' }}{%- endgeneration %}
{%- else %}{{- m.content }}{%- endif %}{{- '\\n' }}{%- endfor %}""")

for kind in ["metaspace-first", "metaspace-always", "metaspace-never", "prepend", "gemma", "unigram", "byte-level", "byte-level-space", "byte-level-begin"]:
    case(f"space-{kind}", kind, BOUNDARIES + (WIDTHS if kind == "unigram" else []), flags=["--eos", "never"], eos=False)
case("space-in-texts", "metaspace-first", [{"text": row["prompt"] + row["completion"]} for row in BOUNDARIES], flags=["--eos", "never"], eos=False)
case("space-in-prepended-texts", "prepend", [{"text": row["prompt"] + row["completion"]} for row in BOUNDARIES], flags=["--eos", "never"], eos=False)

case("end-of-answers", "byte-level", ANSWERS, eos=True)
case("end-of-answers-begin", "byte-level-begin", ANSWERS, eos=True)
case("end-of-answers-metaspace", "metaspace-always", ANSWERS, eos=True)
case("end-of-answers-never", "byte-level", ANSWERS, flags=["--eos", "never"], eos=False)
case("end-of-labels", "byte-level", LABELS, eos=False)
case("end-of-labels-metaspace", "metaspace-first", LABELS, eos=False)
case("end-of-labels-always", "byte-level", LABELS, flags=["--eos", "always"], eos=True)
case("end-of-one-bare", "bare", ANSWERS[:1], eos=True)
case("end-of-one-begin", "byte-level-begin", ANSWERS[:1], eos=False)
case("end-of-one-end", "byte-level-end", ANSWERS[:1], eos=True)
case("end-there-already", "byte-level", [prompt(row["prompt"], row["completion"] + "</s>") for row in ANSWERS[:4]] + ANSWERS[4:], eos=True)
case("end-of-texts", "byte-level", [{"text": row["prompt"] + row["completion"]} for row in ANSWERS], eos=True)
case("end-of-another-name", "byte-level", ANSWERS, eos=True, config={"eos_token": {"__type": "AddedToken", "content": "<|im_end|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}})
case("end-by-post-processor", "byte-level-end", ANSWERS, eos=True)
case("end-by-post-processor-unigram", "unigram-end", ANSWERS, eos=True)
case("end-by-post-processor-texts", "byte-level-end", [{"text": row["prompt"] + row["completion"]} for row in ANSWERS], eos=True)
case("end-cut-off", "byte-level-begin", ANSWERS, eos=True, flags=["--max-length", "18"], max_length=18)

TRL = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in TALK]
case("form-trl-conversations", "byte-level-begin", TRL, HEADERS)
case("form-trl-conversations-unmarked", "byte-level-begin", TRL, HEADERS, marks=False)
SHARED = {"user": "human", "assistant": "gpt", "system": "system"}
case("form-sharegpt", "byte-level", [{"id": f"row-{i}", "conversations": [{"from": SHARED[m["role"]], "value": m["content"]} for m in row["messages"]]} for i, row in enumerate(TALK)], CHATML)
case("form-conversations", "byte-level", [{"conversations": row["messages"]} for row in TALK], CHATML)
case("form-parts", "byte-level", [{"messages": [m | {"content": [{"type": "text", "text": m["content"]}]} for m in row["messages"]]} for row in TALK], CHATML)
case("form-response", "byte-level", [{"prompt": row["prompt"], "response": row["completion"]} for row in ANSWERS], eos=True)
case("form-nulls", "byte-level", [
    {"messages": None, "prompt": None, "completion": None, "text": "the old town", "input_ids": None, "labels": None},
    {"messages": None, "prompt": "Type:", "completion": " number", "text": None},
    {"prompt": None, "messages": TALK[0]["messages"], "tools": None},
    {"messages": [m | {"tool_calls": None, "name": None} for m in TALK[1]["messages"]], "text": None},
], CHATML, flags=["--eos", "always"], eos=True)
case("form-other-columns", "byte-level", [{"prompt": "which river runs?", "prompt_id": "7f", "score": 0.5} | row for row in TALK], CHATML)
case("form-weights", "byte-level", [
    say("which?", {"role": "assistant", "content": "Red.", "weight": 0}, "which?", {"role": "assistant", "content": "Blue.", "weight": 1}),
    say("which?", {"role": "assistant", "content": "Red.", "weight": 1}, "which?", {"role": "assistant", "content": "Blue."}),
    say("which?", {"role": "assistant", "content": "Red.", "train": False}, "which?", {"role": "assistant", "content": "Blue.", "train": True}),
    say("which?", {"role": "assistant", "content": "Red.", "weight": None, "train": None}),
], CHATML)
case("form-weights-unmarked", "byte-level", CASES[-1].rows, CHATML, marks=False)
case("form-alpaca", "byte-level", [
    {"instruction": "Name a colour of the sky.", "input": "", "output": "Red."},
    {"instruction": "Name a colour of it.", "input": "the evening sky", "output": "Violet."},
    {"instruction": "Name another.", "output": "Blue."},
    {"instruction": "Name a third.", "input": None, "output": "Deep blue."},
], CHATML)
case("form-alpaca-history", "byte-level", [
    {"instruction": "And another?", "input": "", "output": "Blue.", "system": "Answer in one short sentence.", "history": [["Name a colour.", "Red."], ["Name one of the night.", "Violet."]]},
    {"instruction": "Name a colour.", "output": "Red.", "history": [], "system": ""},
], CHATML)
case("form-alpaca-base", "byte-level", [
    {"instruction": "Name a colour of the sky.", "input": "", "output": "Red."},
    {"instruction": "Name a colour of it.", "input": "the evening sky", "output": "Violet, then a deep blue."},
    {"instruction": "Name another.", "output": "Blue."},
], eos=True)
case("form-sharegpt-tools", "byte-level", [
    {"system": "Answer in one short sentence.", "conversations": [
        {"from": "human", "value": "trains to Oslo?"}, {"from": "function_call", "value": '{"name": "find_train", "arguments": {"when": "9:40", "from": "Basel"}}'},
        {"from": "observation", "value": "at 11:15 & never"}, {"from": "gpt", "value": "At 11:15."}], "tools": [TRAIN_TOOL]},
    {"conversations": [{"from": "system", "value": "short"}, {"from": "user", "value": "which?"}, {"from": "assistant", "value": "Red."}, {"from": "tool", "value": "seven"}, {"from": "gpt", "value": "Seven."}]},
], TOOLS)
case("form-trl-earlier-answers", "byte-level-begin", [
    {"prompt": say("which?", "Red.", "which?")["messages"], "completion": [{"role": "assistant", "content": "Blue."}]},
    {"prompt": say("which?")["messages"], "completion": say(("assistant", "Red."), "and?", "Violet.")["messages"]},
], HEADERS)
case("form-trl-response", "byte-level-begin", [{"prompt": row["prompt"], "response": row["completion"]} for row in TRL], HEADERS)
case("form-asked-for", "byte-level", [row | {"text": "another form"} for row in ANSWERS], flags=["--row-form", "prompt"], eos=True)
case("form-own-variables", "byte-level", [TALK[0] | {"chat_template_kwargs": {"style": "short", "level": 2}}, TALK[1] | {"chat_template_kwargs": None}],
     "{{ style | default('none') }}{{ (level | default(0)) + 1 }}\n" + CHATML, own=True)
case("form-tokens", "byte-level", [{"input_ids": [5, 301, 20, 77], "labels": [-100, -100, 20, 77]}, {"input_ids": [9, 8, 7, 0, 0], "labels": [9, 8, 7, -100, -100], "attention_mask": [1, 1, 1, 0, 0]}])


FORMS = {
    "array": ("rows.json", lambda rows: json.dumps(rows, ensure_ascii=False).encode()),
    "array-indented": ("rows.json", lambda rows: (json.dumps(rows, ensure_ascii=False, indent=2) + "\n").encode()),
    "gzip": ("rows.jsonl.gz", zipped),
    "zstd": ("rows.jsonl.zst", zstandard),
    "parquet": ("rows.parquet", parquet()),
    "parquet-zstd": ("rows.parquet", parquet(compression="zstd", row_group_size=3, data_page_version="2.0")),
    "arrow-stream": ("rows.arrow", arrow(stream=True)),
    "arrow-file": ("rows.arrow", arrow(stream=False)),
}
MIXED = [TALK[0], TALK[1], say("both?", call("find_train", {"from": "Basel", "when": "2024-02-29"}), ("tool", "9:40"), ("assistant", "At 9:40."), tools=[TRAIN_TOOL])]
for name, form in FORMS.items():
    case(f"file-{name}-answers", "byte-level-begin", ANSWERS, eos=True, form=form)
    if "parquet" in name or "arrow" in name:
        case(f"file-{name}-messages", "byte-level", columnar(MIXED), TOOLS, form=form)
    else:
        case(f"file-{name}-messages", "byte-level", MIXED, TOOLS, form=form)

OTHER = CHATML.replace("<|im_start|>", "<|start_header_id|>")
NAMED = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": TOOLS}, {"name": "other", "template": OTHER}]
case("named", "byte-level", MIXED[:2] + [MIXED[2]], config={"chat_template": NAMED})
case("named-other", "byte-level", TALK, config={"chat_template": NAMED}, flags=["--chat-template", "other"], chosen="other")
case("named-file", "byte-level", TALK, files={"chat_template.jinja": CHATML, "additional_chat_templates/other.jinja": OTHER})
case("named-file-other", "byte-level", TALK, files={"chat_template.jinja": CHATML, "additional_chat_templates/other.jinja": OTHER}, flags=["--chat-template", "other"], chosen="other")
case("named-file-tools", "byte-level", MIXED, files={"chat_template.jinja": CHATML, "additional_chat_templates/tool_use.jinja": TOOLS})
case("template-in-config", "byte-level", TALK, config={"chat_template": CHATML})

VARIABLES = "{%- if enable_thinking is defined and not enable_thinking %}{{- 'Thinking is switched off.\\n' }}{%- endif %}{{- style | default('none') }}{{- (level | default(0)) + 1 }}\n" + CHATML
case("variables-none", "byte-level", TALK[:2], VARIABLES)
case("variables-false", "byte-level", TALK[:2], VARIABLES, flags=["--template-variable", "enable_thinking=false"], variables={"enable_thinking": False})
case("variables-several", "byte-level", TALK[:2], VARIABLES, variables={"enable_thinking": True, "style": "short and dry", "level": 3},
     flags=["--template-variable", "enable_thinking=true", "--template-variable", "style=short and dry", "--template-variable", "level=3"])

SPECIALS = "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token }}\n" + CHATML
case("special-tokens", "byte-level", TALK[:1], SPECIALS, config={"pad_token": "<|endoftext|>"})
case("special-tokens-named", "byte-level", TALK[:1], "{{ image_token }}" + SPECIALS, config={"extra_special_tokens": {"image_token": "<|user|>"}})
case("special-tokens-map", "byte-level", TALK[:1], SPECIALS, config={"bos_token": None, "eos_token": None, "unk_token": None},
     files={"special_tokens_map.json": json.dumps({"bos_token": "<s>", "eos_token": {"content": "<|im_end|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}})})
case("begin-once-in-texts", "byte-level-begin", [prompt("<s>" + row["prompt"], row["completion"]) for row in ANSWERS[:4]] + [{"text": "<s>the old town"}, {"text": "the <s> sky"}],
     flags=["--eos", "never"], eos=False)
case("begin-once", "byte-level-begin", TALK[:2], "{{ bos_token }}" + CHATML)

PYTHONIC = """{%- set names = {'user': 'Human'} %}{%- for m in messages %}{%- if loop.index > 4 %}{%- break %}{%- endif %}
{%- if m.role == 'system' %}{%- continue %}{%- endif %}{{- names.get(m.role, m.role.title()) + ': ' }}
{%- if m['role'] == 'assistant' %}{%- generation %}{{- m['content'].strip().replace('\\n', ' ') }}{{- '<|im_end|>' }}{%- endgeneration %}
{%- else %}{{- m['content'][:20].upper().lower() if m.content is string and m.content else '-' }}{%- endif %}{{- '\\n' }}{%- endfor %}
{%- set parts = messages | map(attribute='role') | list %}{{- parts | join(',') + ' ' ~ parts[::-1][0] ~ ' ' ~ messages | selectattr('role', 'equalto', 'user') | list | length }}
{%- for key, value in {'a': 1, 'b': [1.0, None, True]}.items() %}{{- ' ' ~ key ~ '=' ~ value }}{%- endfor %}"""
case("python-methods", "byte-level", TALK, PYTHONIC)

REFUSING = "{%- if messages[0].role == 'system' %}{{- raise_exception('no system here') }}{%- endif %}" + CHATML
case("bad-rows-skipped", "byte-level", [TALK[0], TALK[1], TALK[2], {"messages": "no list"}, {"unknown": 1}, TALK[3]], REFUSING, flags=["--on-bad-row", "skip"], bad=(2, 4, 5))


# The judge --------------------------------------------------------------------------------------------------------------


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


chat_template_utils.datetime = Frozen


def as_message(message):
    if "role" in message:
        return message
    if message["from"] == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": json.loads(message["value"])}]}
    roles = {"human": "user", "gpt": "assistant", "observation": "tool"}
    return {"role": roles.get(message["from"], message["from"]), "content": message["value"]}


def as_messages(row):
    """The row's conversation in transformers' own form and the first message that is trained, or none."""
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    if row.get("messages") is not None:
        return row["messages"], 0
    if row.get("conversations") is not None:
        return system + [as_message(m) for m in row["conversations"]], 0
    answer = row.get("completion", row.get("response"))
    if isinstance(answer, list):
        return row["prompt"] + answer, len(row["prompt"])
    if "instruction" in row:
        asked = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
        return system + say(*(text for pair in row.get("history") or [] for text in pair), asked, row["output"])["messages"], 0
    return None, 0


def alpaca(row):
    """The words of Stanford's Alpaca, for models without a template."""
    task = "Below is an instruction that describes a task" + (", paired with an input that provides further context" if row.get("input") else "")
    given = f"### Input:\n{row['input']}\n\n" if row.get("input") else ""
    request = "Write a response that appropriately completes the request."
    return {"prompt": f"{task}. {request}\n\n### Instruction:\n{row['instruction']}\n\n{given}### Response:\n", "completion": row["output"]}


def untrained(message):
    return message.get("weight") == 0 or message.get("train") is False


def judged_chat(tokenizer, case, row, messages, first):
    template = case.judge or (case.template if not case.marks else None)
    variables = case.variables | ((row.get("chat_template_kwargs") or {}) if case.own else {})
    options = dict(return_dict=True, return_assistant_tokens_mask=True, tools=row.get("tools"), chat_template=template or case.chosen, **variables)
    plain = [{k: v for k, v in m.items() if k not in ("weight", "train")} for m in messages]
    for m in plain:
        if isinstance(m.get("content"), list):
            m["content"] = "".join(part["text"] for part in m["content"])
    whole = tokenizer.apply_chat_template(plain, **options)
    ids, mask = whole["input_ids"], list(whole["assistant_masks"])
    if template:
        assert ids == tokenizer.apply_chat_template(plain, tools=row.get("tools"), return_dict=True, **variables)["input_ids"], case.name
    answers = [i for i, m in enumerate(plain) if m["role"] == "assistant"]
    leave = [i for i in answers if i < first or untrained(messages[i])]
    if leave:
        # Each answer is one run of masked tokens here.
        runs, at = [], 0
        while at < len(mask):
            if mask[at]:
                end = next((k for k in range(at, len(mask)) if not mask[k]), len(mask))
                runs.append((at, end))
                at = end
            at += 1
        assert len(runs) == len(answers), (case.name, runs)
        for i in leave:
            start, end = runs[answers.index(i)]
            mask[start:end] = [0] * (end - start)
    return ids, mask


def judged_text(tokenizer, case, row):
    before, after = ("", row["text"]) if row.get("prompt") is None else (row["prompt"], row.get("completion", row.get("response")))
    end = tokenizer.eos_token_id
    out = tokenizer(before + after, return_offsets_mapping=True)
    ids, offsets = list(out["input_ids"]), out["offset_mapping"]
    # `</s>` has no width where the post-processor put it.
    mask = [int(stop > len(before)) for _, stop in offsets]
    mask = [int(bool(m) or (k > 0 and ids[k] == end and k == len(ids) - 1)) for k, m in enumerate(mask)]
    if ids[:2] == [tokenizer.bos_token_id] * 2:
        # The text begins as the post-processor lets it begin.
        ids, mask = ids[1:], mask[1:]
    if case.eos and ids[-1] != end:
        ids, mask = ids + [end], mask + [1]
        text = before + after
        assert ids == tokenizer(text + tokenizer.eos_token)["input_ids"], (case.name, "TRL's tokens", text)
    return ids, mask


def judged(tokenizer, case, row):
    if row.get("input_ids") is not None:
        seen = sum(row.get("attention_mask", [1] * len(row["input_ids"])))
        ids, labels = row["input_ids"][:seen], row["labels"][:seen]
        return ids, [-100] + labels[1:]
    messages, first = as_messages(row)
    if "instruction" in row and not tokenizer.chat_template:
        messages, row = None, alpaca(row)
    ids, mask = judged_chat(tokenizer, case, row, messages, first) if messages else judged_text(tokenizer, case, row)
    ids, mask = ids[: case.max_length], mask[: case.max_length]
    return ids, [token if m and k else -100 for k, (token, m) in enumerate(zip(ids, mask))]


# Writing ----------------------------------------------------------------------------------------------------------------


def write(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def make_model(folder):
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                                      max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    torch.set_num_threads(1)
    model, generator = transformers.LlamaForCausalLM(config), torch.Generator().manual_seed(14)
    with torch.no_grad():
        for _, p in sorted(model.named_parameters()):
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(0.3 * noise if p.dim() > 1 else 1 + 0.2 * noise)
    model.float().save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    os.chmod(os.path.join(folder, "model.safetensors"), 0o644)


def whole_offsets(content):
    """Offsets that cover a token's leading space; tokens are the same."""
    content = copy.deepcopy(content)
    for processor in [content["post_processor"] or {}, *(content["post_processor"] or {}).get("processors", [])]:
        if "trim_offsets" in processor:
            processor["trim_offsets"] = False
    return content


def make_case(case, into):
    folder = os.path.join(into, "cases", case.name)
    config = {k: v for k, v in case.config.items() if v is not None}
    write(os.path.join(folder, "tokenizer_config.json"), json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    files = dict(case.files)
    if case.template:
        files["chat_template.jinja"] = case.template if case.marks else without_marks(case.template)
    for name, text in files.items():
        write(os.path.join(folder, name), text)
    data, writer = case.form
    write(os.path.join(folder, data), writer(case.rows))
    write(os.path.join(folder, "case.json"), json.dumps({"tokenizer": case.kind, "data": data, "flags": case.flags}) + "\n")
    with tempfile.TemporaryDirectory() as model:
        shutil.copytree(folder, model, dirs_exist_ok=True)
        tokenizer_json = json.load(open(os.path.join(into, "tokenizers", case.kind, "tokenizer.json"), encoding="utf-8"))
        write(os.path.join(model, "tokenizer.json"), json.dumps(whole_offsets(tokenizer_json), ensure_ascii=False))
        shutil.copy(os.path.join(into, "model", "config.json"), model)
        tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        expected = []
        for place, row in enumerate(case.rows, 1):
            try:
                ids, labels = judged(tokenizer, case, row)
            except Exception as error:
                assert place in case.bad, (case.name, place, repr(error))
                continue
            assert place not in case.bad, (case.name, place)
            assert len(ids) == len(labels) and max(ids) < VOCABULARY, case.name
            assert any(label != -100 for label in labels), (case.name, place)
            expected.append({"place": place, "input_ids": ids, "labels": labels})
    write(os.path.join(folder, "expected.jsonl"), lines(expected))


def make(into):
    for kind, build in KINDS.items():
        tokenizer = build()
        assert tokenizer.get_vocab_size() <= VOCABULARY, (kind, tokenizer.get_vocab_size())
        write(os.path.join(into, "tokenizers", kind, "tokenizer.json"), tokenizer.to_str() + "\n")
    for case in CASES:
        make_case(case, into)


def files_below(folder):
    found = {}
    for name in ["model", "tokenizers", "cases"]:
        for place, _, names in os.walk(os.path.join(folder, name)):
            for file in names:
                path = os.path.join(place, file)
                found[os.path.relpath(path, folder)] = open(path, "rb").read()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if not arguments.check:
        for name in ["model", "tokenizers", "cases"]:
            shutil.rmtree(os.path.join(HERE, name), ignore_errors=True)
        make_model(os.path.join(HERE, "model"))
        make(HERE)
        print(f"{len(CASES)} cases, {sum(len(case.rows) for case in CASES)} rows")
        return
    with tempfile.TemporaryDirectory() as other:
        shutil.copytree(os.path.join(HERE, "model"), os.path.join(other, "model"))
        make(other)
        here, there = files_below(HERE), files_below(other)
        found = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
        sys.exit("\n".join(["differ:", *found]) if found else 0)


if __name__ == "__main__":
    main()
