"""Small tokenizers of many kinds, and the tokens that transformers gives with them.

Writes one file a kind beside this script: the files of a model folder, and rows of prompt and completion with the ids that
`AutoTokenizer` gives for both in one text, and which of them are targets. A target is a token that touches a byte of the
completion; a token of no width goes with the one after it.

    python make.py            makes them with transformers 5.23, tokenizers 0.23
    python make.py --check    says whether transformers gives the same for the tokenizers that lie here
"""

import json
import sys
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

HERE = Path(__file__).parent

TEXTS = [
    "Question: What is the capital of Peru?\nType: Location\n",
    "Question: Who wrote the song that plays in the café?\nType: Person\n",
    "def double(x):\n    return 2 * x  # twice\n",
    "The quick brown fox jumps over the lazy dog, 12345 times.\n",
    "Où est la gare? Это тест. 日本語のテキスト。 naïve façade\n",
    "<|user|>hi<|end|><s>a</s>[CLS] ▁ under_score HELLO World\n",
] * 4

ROWS = [
    ("Question: What is the capital of Peru?\nType:", " Location"),
    ("Question: What is the capital of Peru?\nType: ", "Location"),
    ("Question: Peru\n", '{"type": "function"}'),
    ("Question: Peru\n", "4"),
    ("", "all of it"),
    ("", " with a space before"),
    ("nothing after", ""),
    ("the cap", "ital of Peru"),
    ("  two spaces ", "  and more  "),
    ("line\n", "\nbreaks\n\n"),
    ("café na", "ïve façade"),
    ("cafe\u0301 ", "nai\u0308ve ﬁne ① ﷺ"),
    ("日本", "語のテキスト🦀"),
    ("a 🦀", "🦀 b"),
    ("ZZ\u0416\u4e2d", "\u4e2d\u0416 QQ"),
    ("<s>begins", " with its token"),
    ("ends", " with its token</s>"),
    ("<|user|>hi<|end|>", "there<|end|>"),
    ("<|user|> hi <|end|>  ", " <tool> there <|end|>\n"),
    ("HELLO ", "World"),
    ("[CLS] a", " b [SEP]"),
    ("under", "_score ▁ x"),
    ("def double(x):\n", "    return 2 * x\n"),
    ("\u00a0no\u3000break", "\u2028space "),
]

SPECIAL = ["<unk>", "<s>", "</s>"]


def train(model, trainer, normalizer=None, pre_tokenizer=None, post_processor=None):
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.train_from_iterator(TEXTS, trainer)
    if post_processor is not None:
        tokenizer.post_processor = post_processor
    return tokenizer


def bpe(size=230, special=SPECIAL, alphabet=(), **options):
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(special), initial_alphabet=list(alphabet), show_progress=False
    )
    return models.BPE(**options), trainer


def byte_level(prefix=False, trim=True, special=SPECIAL, post=None, normalizer=None):
    model, trainer = bpe(320, special, pre_tokenizers.ByteLevel.alphabet())
    splits = pre_tokenizers.ByteLevel(add_prefix_space=prefix, trim_offsets=trim)
    post = post or processors.ByteLevel(add_prefix_space=prefix, trim_offsets=trim)
    return train(model, trainer, normalizer, splits, post)


def with_bytes(tokenizer):
    """Adds the 256 byte tokens of a model with byte fallback."""
    made = json.loads(tokenizer.to_str())
    vocabulary = made["model"]["vocab"]
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    made["model"].update(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    return Tokenizer.from_str(json.dumps(made))


def template(single="<s> $A"):
    tokens = [("<s>", 1), ("</s>", 2)]
    return processors.TemplateProcessing(single=single, pair="$A $B", special_tokens=tokens)


def metaspace(scheme="first", split=False, post=None):
    model, trainer = bpe(unk_token="<unk>")
    splits = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)
    # Words are learnt split, as SentencePiece learns them.
    tokenizer = train(model, trainer, None, pre_tokenizers.Metaspace(prepend_scheme=scheme), post or template())
    tokenizer.pre_tokenizer = splits
    return with_bytes(tokenizer)


def llama2():
    model, trainer = bpe(unk_token="<unk>")
    normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = train(model, trainer, normalizer, pre_tokenizers.Split("▁", "merged_with_next"), template())
    tokenizer.pre_tokenizer = None
    return with_bytes(tokenizer)


def gemma():
    model, trainer = bpe(special=["<pad>", "<eos>", "<bos>", "<unk>"], unk_token="<unk>")
    tokenizer = train(
        model, trainer, normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", "merged_with_previous"),
        processors.TemplateProcessing(single="<bos> $A", pair="$A $B", special_tokens=[("<bos>", 2)]),
    )
    return with_bytes(tokenizer)


def unigram(normalizer=None):
    trainer = trainers.UnigramTrainer(
        vocab_size=160, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False, max_piece_length=8
    )
    splits = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return train(models.Unigram(), trainer, normalizer, splits, template("$A </s>"))


def word_piece(lower=True):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=special, show_progress=False)
    post = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="$A $B", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    normalizer = normalizers.BertNormalizer(lowercase=lower)
    return train(models.WordPiece(unk_token="[UNK]"), trainer, normalizer, pre_tokenizers.BertPreTokenizer(), post)


def word_level():
    trainer = trainers.WordLevelTrainer(vocab_size=100, special_tokens=SPECIAL, show_progress=False)
    return train(models.WordLevel(unk_token="<unk>"), trainer, normalizers.Lowercase(), pre_tokenizers.Whitespace())


def characters(normalizer):
    """Characters and their pairs, unknown ones in a row as one token."""
    model, trainer = bpe(120, unk_token="<unk>", fuse_unk=True)
    return train(model, trainer, normalizer, None, template("<s> $A </s>"))


def split_by_pattern():
    model, trainer = bpe(320, SPECIAL, pre_tokenizers.ByteLevel.alphabet())
    words = Regex(r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    splits = [pre_tokenizers.Split(words, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    post = processors.Sequence([processors.ByteLevel(trim_offsets=False), template()])
    return train(model, trainer, normalizers.NFC(), pre_tokenizers.Sequence(splits), post)


def added(tokenizer, *tokens):
    tokenizer.add_tokens(list(tokens))
    return tokenizer


def token(content, **flags):
    plain = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
    return {"content": content, **plain, **flags}


FAST = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def settings(**values):
    return {**FAST, **values}


def of_class(name, **values):
    return settings(tokenizer_class=name, **values)


USER = [AddedToken("<|user|>", special=True), AddedToken("<|end|>", special=True, rstrip=True)]

# A kind, its tokenizer, tokenizer_config.json, and what else its folder holds.
KINDS = [
    ("byte-level", byte_level(), settings(), {}),
    ("byte-level-prefix-space", byte_level(prefix=True), settings(), {}),
    ("byte-level-trimmed-eos", byte_level(post=processors.Sequence([
        processors.ByteLevel(trim_offsets=True), template("<s> $A </s>")])), settings(), {}),
    ("split-by-pattern", split_by_pattern(), settings(), {}),
    ("metaspace-first", metaspace("first"), settings(), {}),
    ("metaspace-first-split", metaspace("first", split=True), settings(), {}),
    ("metaspace-always", added(metaspace("always"), *USER), settings(), {}),
    ("metaspace-never-eos", metaspace("never", post=template("<s> $A </s>")), settings(), {}),
    ("prepend-and-replace", added(llama2(), *USER), settings(), {}),
    ("replace-and-split", gemma(), {**FAST, "bos_token": "<bos>", "eos_token": "<eos>"}, {}),
    ("unigram", unigram(), settings(), {}),
    ("unigram-nfkc", unigram(normalizers.NFKC()), settings(), {}),
    ("word-piece", word_piece(), {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}, {}),
    ("word-level", word_level(), settings(), {}),
    ("characters-stripped", characters(normalizers.Sequence([normalizers.Strip(), normalizers.NFD(),
        normalizers.StripAccents()])), settings(), {}),
    ("characters-compatible", characters(normalizers.NFKC()), settings(), {}),
    # Classes that build more than the vocabulary.
    ("class-llama", metaspace("never"), of_class("LlamaTokenizer"), {}),
    ("class-llama-legacy", llama2(), of_class("LlamaTokenizerFast", legacy=True), {}),
    ("class-llama-no-prefix", llama2(), of_class("LlamaTokenizer", add_prefix_space=False), {}),
    ("class-llama-bytes", byte_level(), of_class("LlamaTokenizer"), {}),
    ("class-llama-of-mistral", llama2(), of_class("LlamaTokenizer", legacy=False), {"model_type": "mistral"}),
    ("class-code-llama", metaspace("always"), of_class("CodeLlamaTokenizer"), {}),
    ("class-gemma", metaspace("first"), of_class("GemmaTokenizer"), {"model_type": "gemma3_text"}),
    ("class-gemma-by-model", gemma(), {"bos_token": "<bos>", "eos_token": "<eos>"}, {"model_type": "gemma3_text"}),
    ("class-qwen2", added(byte_level(prefix=True), *USER), of_class("Qwen2Tokenizer"), {"model_type": "qwen3"}),
    ("class-qwen2-of-another", byte_level(), of_class("LlamaTokenizer"), {"model_type": "qwen2"}),
    ("class-qwen3-fast", byte_level(prefix=True), settings(), {"model_type": "qwen3"}),
    ("class-gpt2", split_by_pattern(), of_class("GPT2Tokenizer", add_prefix_space=True), {}),
    ("class-gpt-neox", split_by_pattern(), of_class("GPTNeoXTokenizerFast"), {}),
    ("class-cohere", added(byte_level(), *USER), of_class("CohereTokenizerFast"), {}),
    ("class-bert", word_piece(), {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False}, {}),
    # Special tokens by the files beside tokenizer.json.
    ("added-in-settings", byte_level(), settings(added_tokens_decoder={
        "1": token("<s>"), "2": token("</s>"), "400": token("<|end|>", lstrip=True),
        "399": token("<|user|>", special=False, normalized=True)}), {}),
    ("added-as-objects", byte_level(), settings(
        bos_token={"__type": "AddedToken", **token("<s>", rstrip=True)},
        eos_token={"__type": "AddedToken", **token("<|end|>", normalized=True, special=False)}), {}),
    ("added-extra", metaspace(), settings(additional_special_tokens=["<|user|>", "<|end|>"]), {}),
    ("added-by-name", metaspace(), settings(extra_special_tokens={"user_token": "<|user|>"}, tool_token="<tool>"), {}),
    ("added-older-files", byte_level(), {"tokenizer_class": "PreTrainedTokenizerFast"}, {
        "special_tokens_map.json": {"bos_token": "<s>", "eos_token": token("<|end|>", rstrip=True),
                                    "additional_special_tokens": ["<|user|>"]},
        "added_tokens.json": {"<|user|>": 361, "<|end|>": 360, "<tool>": 362}}),
    ("split-special-tokens", byte_level(), settings(split_special_tokens=True), {}),
    ("add-eos-is-not-read", metaspace(), settings(add_bos_token=False, add_eos_token=True), {}),
    ("no-post-processor", llama2(), settings(add_bos_token=True), {"post_processor": None}),
    ("no-settings", byte_level(), None, {"generation_config.json": {"eos_token_id": [2, 0]}}),
]


def write_folder(folder, tokenizer, config, others):
    files = {"tokenizer.json": json.loads(tokenizer.to_str())}
    others = dict(others)
    if "post_processor" in others:
        files["tokenizer.json"]["post_processor"] = others.pop("post_processor")
    files["config.json"] = {"model_type": others.pop("model_type", "llama"), "transformers_version": "5.23.0"}
    if config is not None:
        files["tokenizer_config.json"] = config
    files.update(others)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return files


def targets(backend, text, boundary):
    """Whether each token touches the completion: by offsets as the model's pieces have them, before any are trimmed."""
    post, backend.post_processor = backend.post_processor, None
    offsets = backend.encode(text, add_special_tokens=False).offsets
    backend.post_processor = post
    wanted, following = [], None
    for start, end in reversed(offsets):
        if start < end:
            following = end > boundary and boundary < len(text)
        elif following is None:
            following = start >= boundary
        wanted.append(following)
    return wanted[::-1]


def row(tokenizer, prompt, completion):
    text = prompt + completion
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = tokenizer(text)["input_ids"]
    wanted = targets(tokenizer.backend_tokenizer, text, len(prompt))
    # What stands around: once, also where the text has it.
    empty = tokenizer("a")["input_ids"]
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    at = next(i for i in range(len(empty) + 1) if empty[i : i + len(inner)] == inner)
    before, after = empty[:at], empty[at + len(inner) :]
    assert whole == before + plain + after, (text, whole)
    if after and plain[-len(after) :] != after:
        plain, wanted = plain + after, wanted + [True] * len(after)
    if before and plain[: len(before)] != before:
        plain, wanted = before + plain, [False] * len(before) + wanted
    return {"prompt": prompt, "completion": completion, "ids": plain, "targets": [int(w) for w in wanted]}


def judged(folder, files):
    loaded = AutoTokenizer.from_pretrained(folder)
    rows = [row(loaded, *texts) for texts in ROWS]
    return {"files": files, "special_tokens": loaded.special_tokens_map, "eos": loaded.eos_token_id, "rows": rows}


def check():
    """Whether transformers still gives what lies here for the tokenizers that lie here: trainers do not give the same twice."""
    differing = []
    for path in sorted(HERE.glob("*.json")):
        made = json.loads(path.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            for name, content in made["files"].items():
                (Path(folder) / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
            if judged(folder, made["files"]) != made:
                differing.append(path.name)
    sys.exit("\n".join(["differ:", *differing]) if differing else 0)


def main():
    if sys.argv[1:] == ["--check"]:
        check()
    for name, tokenizer, config, others in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            made = judged(folder, write_folder(Path(folder), tokenizer, config, others))
        text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
        (HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
