//! The class that transformers chooses for a tokenizer: most take `tokenizer.json` as it stands, some keep its vocabulary and
//! its post-processor and build the rest themselves.

use serde_json::{Map, Value as Json, json};

/// What transformers makes of a model folder's tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// What `tokenizer.json` says.
    File,
    Llama,
    CodeLlama,
    Gemma,
    Qwen2,
    Qwen35,
    Gpt2,
    CodeGen,
    GptNeoX,
    Cohere,
    Bert,
}

/// What a class builds itself.
pub(super) struct Rebuilt {
    pub(super) normalizer: Json,
    pub(super) pre_tokenizer: Json,
    pub(super) model: Model,
    pub(super) ends: Ends,
    /// Special tokens where the folder names none.
    pub(super) defaults: &'static [(&'static str, &'static str)],
    pub(super) again: Again,
}

/// The settings of a model that a class builds from the vocabulary alone.
#[derive(Clone, Copy)]
pub(super) enum Model {
    Bpe { fuse_unknown: bool, byte_fallback: bool, unknown: bool },
    WordPiece,
}

/// What is put around texts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// What `tokenizer.json` puts there.
    File,
    Nothing,
    Bos,
    ClsAndSep,
}

/// Whether special tokens are added once more, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    No,
    /// As special tokens of no other property.
    Plain,
    /// As special tokens with the properties that they have.
    Special,
}

/// Classes by their names without `Fast`.
const NAMES: &[(&str, Class)] = &[
    ("LlamaTokenizer", Class::Llama),
    ("CodeLlamaTokenizer", Class::CodeLlama),
    ("GemmaTokenizer", Class::Gemma),
    ("Qwen2Tokenizer", Class::Qwen2),
    ("Qwen3_5Tokenizer", Class::Qwen35),
    ("GPT2Tokenizer", Class::Gpt2),
    ("CodeGenTokenizer", Class::CodeGen),
    ("GPTNeoXTokenizer", Class::GptNeoX),
    ("CohereTokenizer", Class::Cohere),
    ("BertTokenizer", Class::Bert),
];

/// Classes that build more than the vocabulary, too, and which are taken here as their files stand.
const TAKEN_AS_FILES: &[&str] = &[
    "AlbertTokenizer",
    "BarthezTokenizer",
    "BigBirdTokenizer",
    "BlenderbotTokenizer",
    "CLIPTokenizer",
    "CamembertTokenizer",
    "DebertaTokenizer",
    "DebertaV2Tokenizer",
    "HerbertTokenizer",
    "MBart50Tokenizer",
    "MBartTokenizer",
    "MPNetTokenizer",
    "NllbTokenizer",
    "OpenAIGPTTokenizer",
    "PegasusTokenizer",
    "ReformerTokenizer",
    "RemBertTokenizer",
    "RobertaTokenizer",
    "T5Tokenizer",
    "XGLMTokenizer",
    "XLMRobertaTokenizer",
    "XLNetTokenizer",
];

/// The class of a model type: of decoders only, those that have one of their own.
fn of_model_type(model_type: &str) -> Option<Class> {
    Some(match model_type {
        "qwen2" | "qwen3" | "qwen2_moe" | "qwen3_moe" | "qwen3_next" | "qwen2_vl" | "qwen2_5_vl" | "qwen3_vl" => {
            Class::Qwen2
        }
        "qwen3_5" | "qwen3_5_text" | "qwen3_5_moe" => Class::Qwen35,
        "gemma" | "gemma2" | "gemma3" | "gemma3_text" | "gemma3n" | "gemma3n_text" => Class::Gemma,
        "gpt2" | "phi" | "opt" | "starcoder2" | "codegen" => Class::Gpt2,
        "gpt_neox" | "olmo" | "mpt" => Class::GptNeoX,
        "cohere" | "cohere2" => Class::Cohere,
        "mistral" | "ministral" | "ministral3" | "mistral3" | "mixtral" | "phi3" | "olmo2" | "olmo3" | "stablelm"
        | "granite" | "glm" | "glm4" | "ernie4_5" | "nemotron" | "internlm2" => Class::File,
        _ => return None,
    })
}

/// Whether a folder brings code for its tokenizer; transformers then looks at the class that it names alone.
fn has_own_code(settings: &Map<String, Json>) -> bool {
    settings.get("auto_map").is_some_and(|map| map.is_array() || map.get("AutoTokenizer").is_some())
}

/// Model types whose folders often name a wrong class, so that transformers takes the model type's own.
fn names_wrong_classes(model_type: &str) -> bool {
    matches!(model_type, "qwen2" | "qwen3_5" | "qwen3_5_moe" | "phi3" | "ernie4_5" | "nemotron" | "internlm2")
}

impl Class {
    /// The class that transformers takes: by `tokenizer_config.json`, by `config.json`, and by whether `tokenizer.json`
    /// speaks of bytes.
    pub(super) fn choose(settings: &Map<String, Json>, config: &Json, byte_level: impl FnOnce() -> bool) -> Class {
        let class =
            |json: Option<&Json>| json.and_then(Json::as_str).map(|name| name.trim_end_matches("Fast").to_owned());
        let named = class(settings.get("tokenizer_class")).or(class(config.get("tokenizer_class")));
        let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
        let (own, custom) = (of_model_type(model_type), has_own_code(settings));
        let Some(name) = named else { return own.unwrap_or(Class::File) };
        if !custom && name == "LlamaTokenizer" && !names_wrong_classes(model_type) && byte_level() {
            return Class::File;
        }
        match own {
            Some(Class::File) if !custom => Class::File,
            Some(own) if !custom && names_wrong_classes(model_type) => own,
            _ => Class::named(&name),
        }
    }

    fn named(name: &str) -> Class {
        if TAKEN_AS_FILES.contains(&name) {
            tracing::warn!(
                "tokenizer_config.json: {name} is taken as tokenizer.json describes it, which transformers may not do"
            );
        }
        NAMES.iter().find(|(known, _)| *known == name).map_or(Class::File, |&(_, class)| class)
    }

    /// Whether the token that `tokenizer.json` fills texts up with is a special token where no other is named.
    pub(super) fn pads_as_the_file(self) -> bool {
        !matches!(self, Class::Gpt2 | Class::CodeGen)
    }

    /// What the class builds by itself, by the settings in `tokenizer_config.json`; nothing where it takes the file.
    pub(super) fn rebuilt(self, settings: &Map<String, Json>) -> Option<Rebuilt> {
        let on = |name: &str, default: bool| match settings.get(name) {
            Some(Json::Bool(on)) => *on,
            _ => default,
        };
        let bytes = |space: bool, use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": true, "use_regex": use_regex});
        let (plain, fallback) = (bpe(false, false, false), bpe(true, true, false));
        let nfc = json!({"type": "NFC"});
        let prefix = on("add_prefix_space", false);
        Some(match self {
            Class::File => return None,
            Class::Llama => {
                let scheme = if on("legacy", false) { "always" } else { "first" };
                let scheme = if on("add_prefix_space", true) { scheme } else { "never" };
                Rebuilt::new(Json::Null, metaspace(scheme), fallback).defaults(LLAMA)
            }
            Class::CodeLlama => {
                let scheme = if on("add_prefix_space", true) { "first" } else { "never" };
                Rebuilt::new(Json::Null, metaspace(scheme), bpe(true, true, true)).defaults(CODE_LLAMA).ends(Ends::Bos)
            }
            Class::Gemma => Rebuilt::new(
                json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}),
                json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
                bpe(true, true, true),
            )
            .defaults(GEMMA),
            Class::Qwen2 => {
                let splits = sequence(vec![split(QWEN2_WORDS), bytes(prefix, false)]);
                Rebuilt::new(nfc, splits, plain).defaults(QWEN).again(Again::Plain)
            }
            Class::Qwen35 => {
                Rebuilt::new(nfc, sequence(vec![split(QWEN35_WORDS), bytes(prefix, false)]), plain).defaults(QWEN)
            }
            Class::Gpt2 => Rebuilt::new(Json::Null, bytes(prefix, true), plain).defaults(GPT2),
            Class::CodeGen => Rebuilt::new(Json::Null, bytes(prefix, true), plain).defaults(GPT2),
            Class::GptNeoX => Rebuilt::new(nfc, bytes(prefix, true), plain).defaults(GPT_NEOX).ends(Ends::Nothing),
            Class::Cohere => {
                let digits = json!({"type": "Digits", "individual_digits": true});
                let splits = sequence(vec![digits, bytes(prefix, true)]);
                Rebuilt::new(nfc, splits, plain).defaults(COHERE).again(Again::Special)
            }
            Class::Bert => {
                let normalizer = json!({
                    "type": "BertNormalizer", "clean_text": true,
                    "handle_chinese_chars": on("tokenize_chinese_chars", true),
                    "strip_accents": settings.get("strip_accents"), "lowercase": on("do_lower_case", true),
                });
                let splits = json!({"type": "BertPreTokenizer"});
                Rebuilt::new(normalizer, splits, Model::WordPiece).defaults(BERT).ends(Ends::ClsAndSep)
            }
        })
    }
}

impl Rebuilt {
    fn new(normalizer: Json, pre_tokenizer: Json, model: Model) -> Rebuilt {
        Rebuilt { normalizer, pre_tokenizer, model, ends: Ends::File, defaults: &[], again: Again::No }
    }

    fn defaults(self, defaults: &'static [(&'static str, &'static str)]) -> Rebuilt {
        Rebuilt { defaults, ..self }
    }

    fn ends(self, ends: Ends) -> Rebuilt {
        Rebuilt { ends, ..self }
    }

    fn again(self, again: Again) -> Rebuilt {
        Rebuilt { again, ..self }
    }
}

fn bpe(fuse_unknown: bool, byte_fallback: bool, unknown: bool) -> Model {
    Model::Bpe { fuse_unknown, byte_fallback, unknown }
}

fn metaspace(scheme: &str) -> Json {
    json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false})
}

fn split(pattern: &str) -> Json {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

fn sequence(pre_tokenizers: Vec<Json>) -> Json {
    json!({"type": "Sequence", "pretokenizers": pre_tokenizers})
}

const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const LLAMA: &[(&str, &str)] = &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
const CODE_LLAMA: &[(&str, &str)] = &[
    ("bos_token", "<s>"),
    ("eos_token", "</s>"),
    ("unk_token", "<unk>"),
    ("prefix_token", "▁<PRE>"),
    ("middle_token", "▁<MID>"),
    ("suffix_token", "▁<SUF>"),
    ("eot_token", "▁<EOT>"),
    ("fill_token", "<FILL_ME>"),
];
const GEMMA: &[(&str, &str)] = &[
    ("bos_token", "<bos>"),
    ("eos_token", "<eos>"),
    ("unk_token", "<unk>"),
    ("pad_token", "<pad>"),
    ("mask_token", "<mask>"),
];
const QWEN: &[(&str, &str)] =
    &[("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>"), ("pad_token", "<|endoftext|>")];
const GPT2: &[(&str, &str)] =
    &[("bos_token", "<|endoftext|>"), ("eos_token", "<|endoftext|>"), ("unk_token", "<|endoftext|>")];
const GPT_NEOX: &[(&str, &str)] = &[
    ("bos_token", "<|endoftext|>"),
    ("eos_token", "<|endoftext|>"),
    ("unk_token", "<|endoftext|>"),
    ("pad_token", "<|padding|>"),
];
const COHERE: &[(&str, &str)] = &[
    ("bos_token", "<BOS_TOKEN>"),
    ("eos_token", "<|END_OF_TURN_TOKEN|>"),
    ("unk_token", "<UNK>"),
    ("sep_token", "<SEP>"),
    ("pad_token", "<PAD>"),
    ("cls_token", "<CLS>"),
    ("mask_token", "<MASK_TOKEN>"),
];
const BERT: &[(&str, &str)] = &[
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
