//! Tokens and targets of texts, against transformers' own, and each way in which a tokenizer can be bad.

#![allow(clippy::single_range_in_vec_init, reason = "one part of a text is wanted")]

use std::path::Path;
use std::sync::LazyLock;

use frostline_schemas::data::{Encoded, Encoder, SpecialTokensAround};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

/// A model folder with these files.
fn folder(files: &Json) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files.as_object().unwrap() {
        std::fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    folder
}

/// A kind of tokenizer that `tokens/make.py` has written.
fn kind(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokens").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn joint(encoder: &Encoder, prompt: &str, completion: &str, max_length: usize) -> Encoded {
    let text = format!("{prompt}{completion}");
    encoder.encode(&text, &[prompt.len()..text.len()], SpecialTokensAround::Add, max_length).unwrap()
}

#[test]
fn tokens_and_targets_are_those_of_transformers_for_every_kind_of_tokenizer() {
    let mut wrong = Vec::new();
    let kinds = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokens")).unwrap();
    let mut names: Vec<String> = kinds.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names.iter().filter_map(|name| name.strip_suffix(".json")) {
        let made = kind(name);
        let folder = folder(&made["files"]);
        let encoder = Encoder::new(folder.path());
        for row in made["rows"].as_array().unwrap() {
            let (prompt, completion) = (row["prompt"].as_str().unwrap(), row["completion"].as_str().unwrap());
            let encoded = joint(&encoder, prompt, completion, usize::MAX);
            let targets: Vec<u8> = encoded.wanted.iter().map(|&wanted| wanted.into()).collect();
            if json!(encoded.tokens) != row["ids"] || json!(targets) != row["targets"] {
                wrong.push(format!("{name}: {prompt:?} + {completion:?}\n  {row}\n  {encoded:?}"));
            }
        }
        let special = encoder.special_tokens().unwrap();
        let variables: serde_json::Map<_, _> = special.variables().into_iter().map(|(k, v)| (k, v.into())).collect();
        let eos = made["eos"].as_u64().or(made["files"]["generation_config.json"]["eos_token_id"][0].as_u64());
        if Json::Object(variables) != made["special_tokens"] || special.eos().map(u64::from) != eos {
            wrong.push(format!("{name}: {special:?}\n  {} {eos:?}", made["special_tokens"]));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} differ", wrong.join("\n"), wrong.len());
}

#[test]
fn tokens_of_one_character_are_shown_with_its_last_one_and_replacement_characters_are_shown_too() {
    let decoder = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let folder = changed("byte-level", |tokenizer| tokenizer["decoder"] = decoder);
    let encoder = Encoder::new(folder.path());
    let pieces = |text: &str| {
        let tokens = encoder.encode(text, &[], SpecialTokensAround::None, usize::MAX).unwrap().tokens;
        let pieces = encoder.pieces(&tokens).unwrap();
        assert_eq!(pieces.len(), tokens.len());
        pieces
    };
    assert_eq!(pieces("é 大 🙂").concat(), "é 大 🙂");
    let replaced = pieces(&"\u{fffd}".repeat(1000));
    assert!(
        replaced.chunks(4).filter(|chunk| chunk.len() == 4).all(|chunk| !chunk.concat().is_empty()),
        "{replaced:?}"
    );
}

/// The files of a kind whose `tokenizer.json` was changed.
fn changed(name: &str, change: impl FnOnce(&mut Json)) -> tempfile::TempDir {
    let mut files = kind(name)["files"].take();
    change(&mut files["tokenizer.json"]);
    folder(&files)
}

/// What an encoder says of a text; it must name the file and end soon.
fn refused_text(folder: &Path, text: &str) -> String {
    let start = std::time::Instant::now();
    let encoded = Encoder::new(folder).encode(text, &[], SpecialTokensAround::Add, 512);
    let message = encoded.map(|encoded| encoded.tokens.len()).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json: "), "{message}");
    assert!(message.contains("`input_ids`"), "no cure: {message}");
    assert!(start.elapsed().as_secs() < 60, "{message} after {:?}", start.elapsed());
    message
}

/// What is said of a tokenizer with one part changed.
fn refused(part: &str, value: Json, text: &str) -> String {
    let folder = changed("metaspace-first", |tokenizer| tokenizer[part] = value);
    refused_text(folder.path(), text)
}

fn tokens(folder: &Path, text: &str) -> Vec<u32> {
    Encoder::new(folder).encode(text, &[], SpecialTokensAround::None, usize::MAX).unwrap().tokens
}

#[test]
fn a_folder_without_a_tokenizer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    refused_text(folder.path(), "x");
    std::fs::write(folder.path().join("tokenizer.json"), "{").unwrap();
    assert!(refused_text(folder.path(), "x").contains("EOF"));
    std::fs::write(folder.path().join("tokenizer.json"), "{\"model\": null}").unwrap();
    refused_text(folder.path(), "x");
}

#[test]
fn settings_beside_the_tokenizer_that_are_no_json_are_refused() {
    for name in ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "generation_config.json"] {
        let folder = changed("byte-level", |_| {});
        if name != "tokenizer_config.json" {
            std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
        }
        std::fs::write(folder.path().join(name), "{]").unwrap();
        let error = Encoder::new(folder.path()).special_tokens().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn a_panic_while_a_tokenizer_loads_is_an_error() {
    for charsmap in ["AAAA", "BAAAAAAAAAAA"] {
        refused("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": charsmap}), "x");
    }
}

#[test]
fn an_empty_text_is_not_replaced_and_pieces_of_no_length_are_not_made() {
    let replace = json!({"type": "Replace", "pattern": {"String": ""}, "content": "z"});
    refused("normalizer", replace, "a");
    refused("pre_tokenizer", json!({"type": "FixedLength", "length": 0}), "a");
}

#[test]
fn a_normalizer_that_blows_texts_up_is_refused_before_memory_is_taken() {
    let step = |pattern: Json| json!({"type": "Replace", "pattern": pattern, "content": "a".repeat(1000)});
    for pattern in [json!({"String": "a"}), json!({"Regex": "a"})] {
        let steps = vec![step(pattern); 3];
        let error = refused("normalizer", json!({"type": "Sequence", "normalizers": steps}), "a");
        assert!(error.contains("makes too much of this text"), "{error}");
    }
    // Many pieces share what one text may become.
    let pieces = "b<s>".repeat(10_000);
    let replace = json!({"type": "Replace", "pattern": {"String": "b"}, "content": "a".repeat(50_000)});
    refused("normalizer", replace, &pieces);
    refused("normalizer", json!({"type": "Prepend", "prepend": "a".repeat(1 << 20)}), "b");
}

#[test]
fn a_normalizer_or_pre_tokenizer_of_endless_steps_is_refused() {
    let many = vec![json!({"type": "NFC"}); 300];
    refused("normalizer", json!({"type": "Sequence", "normalizers": many}), "a");
    let many = vec![json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}); 100];
    refused("pre_tokenizer", json!({"type": "Sequence", "pretokenizers": many}), "a");
}

#[test]
fn a_normalizer_nested_ten_thousand_deep_is_refused() {
    let folder = changed("metaspace-first", |_| {});
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let (open, close) = (r#"{"type":"Sequence","normalizers":["#, "]}");
    let nested = format!(r#""normalizer":{}{}"#, open.repeat(10_000), close.repeat(10_000));
    std::fs::write(&path, text.replace(r#""normalizer":null"#, &nested)).unwrap();
    assert!(refused_text(folder.path(), "a").contains("recursion limit"));
}

#[test]
fn a_pattern_that_tracks_back_without_end_is_an_error_and_not_another_split() {
    let split = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let text = "a".repeat(100);
    assert!(refused("pre_tokenizer", split(r"(?:a|a)*(?!a)b"), &text).contains("a pattern fails on this text"));
    let replace = json!({"type": "Replace", "pattern": {"Regex": r"(?:a|a)*(?!a)b"}, "content": "x"});
    assert!(refused("normalizer", replace, &text).contains("a pattern fails on this text"));
    refused("pre_tokenizer", split("(?=(?:a{999}){999})"), "a");
    refused("pre_tokenizer", split("("), "a");
    refused("pre_tokenizer", split(&"(?:".repeat(20_000)), "a");
}

#[test]
fn an_empty_pattern_splits_between_all_characters() {
    let split = json!({"type": "Split", "pattern": {"String": ""}, "behavior": "Isolated", "invert": false});
    let folder = changed("byte-level", |tokenizer| tokenizer["pre_tokenizer"] = split);
    let encoded = Encoder::new(folder.path()).encode("the", &[], SpecialTokensAround::None, 512).unwrap();
    assert_eq!(encoded.tokens.len(), 3);
}

#[test]
fn pieces_of_a_huge_length_are_no_pieces() {
    let huge = json!({"type": "FixedLength", "length": u64::MAX});
    let folder = changed("byte-level", |tokenizer| tokenizer["pre_tokenizer"] = huge);
    let none = changed("byte-level", |tokenizer| tokenizer["pre_tokenizer"] = Json::Null);
    assert_eq!(tokens(folder.path(), "thethe"), tokens(none.path(), "thethe"));
}

#[test]
fn a_post_processor_that_names_no_token_or_writes_the_text_twice_or_never_is_refused() {
    let template = |single: Json| {
        json!({"type": "TemplateProcessing", "single": single, "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]})
    };
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let missing = json!({"SpecialToken": {"id": "[X]", "type_id": 0}});
    refused("post_processor", template(json!([text, missing])), "a");
    refused("post_processor", template(json!([])), "a");
    refused("post_processor", template(json!([{"Sequence": {"id": "B", "type_id": 0}}])), "a");
    let twice = template(json!([text, text]));
    refused("post_processor", json!({"type": "Sequence", "processors": vec![twice; 40]}), "a");
    let many = vec![json!({"SpecialToken": {"id": "<s>", "type_id": 0}}); 1000];
    let many: Vec<Json> = std::iter::once(text).chain(many).collect();
    refused("post_processor", template(json!(many)), "a");
}

#[test]
fn vocabularies_with_scores_that_are_none_or_ids_that_are_none_are_refused() {
    let unigram = |vocab: Json| {
        let folder = changed("unigram", |tokenizer| tokenizer["model"]["vocab"] = vocab);
        refused_text(folder.path(), "what is")
    };
    unigram(json!([]));
    unigram(json!([["<unk>", null]]));
    let beyond = changed("byte-level", |tokenizer| tokenizer["model"]["vocab"]["a"] = json!(1_u64 << 32));
    refused_text(beyond.path(), "a");
    let merges = changed("byte-level", |tokenizer| tokenizer["model"]["merges"] = json!([["no such", "token"]]));
    refused_text(merges.path(), "a");
    let huge = changed("unigram", |tokenizer| tokenizer["model"]["unk_id"] = json!(u64::MAX));
    refused_text(huge.path(), "what is");
}

#[test]
fn a_score_beyond_all_numbers_is_refused() {
    let folder = changed("unigram", |tokenizer| tokenizer["model"]["vocab"][5][1] = json!("BEYOND"));
    let path = folder.path().join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"BEYOND\"", "-1e999")).unwrap();
    refused_text(folder.path(), "what is");
}

#[test]
fn an_unknown_character_without_a_token_for_it_is_an_error() {
    let folder = changed("unigram", |tokenizer| tokenizer["model"]["unk_id"] = Json::Null);
    refused_text(folder.path(), "\u{4e2d}");
    let folder = changed("characters-compatible", |tokenizer| tokenizer["model"]["unk_token"] = json!("[none]"));
    refused_text(folder.path(), "\u{4e2d}");
}

#[test]
fn words_of_no_length_are_all_unknown() {
    let folder = changed("word-piece", |tokenizer| tokenizer["model"]["max_input_chars_per_word"] = json!(0));
    assert_eq!(tokens(folder.path(), "the cat"), [1, 1]);
}

#[test]
fn an_added_token_without_text_is_left_out() {
    let empty = json!({"id": 900, "content": "", "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": true});
    let folder = changed("byte-level", |tokenizer| tokenizer["added_tokens"].as_array_mut().unwrap().push(empty));
    let plain = changed("byte-level", |_| {});
    assert_eq!(tokens(folder.path(), "the <s>"), tokens(plain.path(), "the <s>"));
}

#[test]
fn merges_are_never_left_out_by_chance() {
    let folder = changed("byte-level", |tokenizer| tokenizer["model"]["dropout"] = json!(0.9));
    let plain = changed("byte-level", |_| {});
    let text = "What is the capital of Peru? ".repeat(20);
    assert_eq!(tokens(folder.path(), &text), tokens(plain.path(), &text));
}

#[test]
fn a_token_that_covers_both_prompt_and_completion_is_wanted_and_said() {
    let folder = changed("byte-level", |_| {});
    let encoder = Encoder::new(folder.path());
    let apart = joint(&encoder, "What is the", " capital", 512);
    let across = joint(&encoder, "What is the ", "capital", 512);
    assert_eq!(apart.tokens, across.tokens);
    assert_eq!(apart.wanted, across.wanted);
    assert!(!apart.straddles && across.straddles);
}

#[test]
fn the_end_of_a_sequence_is_seen_and_what_is_cut_is_said() {
    let folder = changed("metaspace-never-eos", |_| {});
    let encoder = Encoder::new(folder.path());
    let whole = joint(&encoder, "What is", " Peru", 512);
    assert!(whole.ended && !whole.cut && !whole.wanted_cut);
    assert_eq!(whole.wanted.last(), Some(&true));
    let length = whole.tokens.len();
    let shorter = joint(&encoder, "What is", " Peru", length - 1);
    assert!(!shorter.ended && shorter.cut && shorter.wanted_cut);
    assert_eq!(shorter.tokens, whole.tokens[..length - 1]);
    let text = "What is Peru";
    let prompt = encoder.encode(text, &[0..4], SpecialTokensAround::None, 3).unwrap();
    assert!(prompt.cut && !prompt.wanted_cut);
    let none = encoder.encode(text, &[], SpecialTokensAround::Add, 0).unwrap();
    assert!(none.cut && none.tokens.is_empty());
}

#[test]
fn a_long_text_costs_no_more_than_the_tokens_that_are_taken_of_it() {
    let text = "a ".repeat(8 << 20);
    for name in ["byte-level", "metaspace-first", "prepend-and-replace", "unigram", "word-piece"] {
        let folder = changed(name, |_| {});
        let encoder = Encoder::new(folder.path());
        let start = std::time::Instant::now();
        let encoded = encoder.encode(&text, &[text.len() - 1..text.len()], SpecialTokensAround::Add, 16).unwrap();
        assert!(start.elapsed().as_secs() < 60);
        let shorter = encoder.encode(&text[..1 << 10], &[], SpecialTokensAround::Add, 16).unwrap();
        assert_eq!(encoded.tokens, shorter.tokens, "{name}");
        assert!(encoded.cut && encoded.wanted_cut && !encoded.ended);
    }
}

#[test]
fn a_long_text_of_hardly_any_tokens_is_refused() {
    let folder = changed("word-piece", |_| {});
    let error = refused_text(folder.path(), &" ".repeat(4 << 20));
    assert!(error.contains("give fewer than 512 tokens"), "{error}");
}

/// Encoders of kinds that split texts in different ways.
static ENCODERS: LazyLock<Vec<(&str, Encoder)>> = LazyLock::new(|| {
    let kinds =
        ["byte-level", "split-by-pattern", "metaspace-always", "prepend-and-replace", "unigram-nfkc", "word-piece"];
    let read = |name| {
        let folder = changed(name, |_| {});
        let encoder = Encoder::new(folder.path());
        encoder.special_tokens().unwrap();
        (name, encoder)
    };
    kinds.into_iter().chain(["characters-stripped"]).map(read).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_first_tokens_of_a_long_text_are_those_of_the_whole(
        words in prop::collection::vec(prop_oneof!["[a-z]{1,12}", "[ \n]{1,40}", "\\PC{1,6}", "(ab|th|zz){1,60}", "<s>| the| Peru"], 1..60),
        times in 20..80_usize,
        length in 0..40_usize,
        at in 0.0..1.0_f64,
    ) {
        let text = words.concat().repeat(times);
        let start = text.floor_char_boundary((at * at * at * text.len() as f64) as usize);
        for (name, encoder) in ENCODERS.iter() {
            let encode = |max| encoder.encode(&text, &[start..text.len()], SpecialTokensAround::Add, max).unwrap();
            let (whole, first) = (encode(usize::MAX), encode(length));
            let kept = length.min(whole.tokens.len());
            prop_assert_eq!(&first.tokens[..], &whole.tokens[..kept]);
            prop_assert_eq!(&first.wanted[..], &whole.wanted[..kept]);
            prop_assert_eq!(first.cut, whole.tokens.len() > length);
            prop_assert_eq!(first.wanted_cut, whole.wanted.iter().skip(length).any(|&wanted| wanted), "{}", name);
        }
    }
}

#[test]
fn added_tokens_that_are_very_long_or_very_many_are_refused() {
    let token = |id: usize, content: String| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false});
    let with = |tokens: Vec<Json>| {
        let folder =
            changed("byte-level", |tokenizer| tokenizer["added_tokens"].as_array_mut().unwrap().extend(tokens));
        Encoder::new(folder.path()).special_tokens().map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(with(vec![token(600, "a".repeat(1 << 16))]), Ok(()));
    assert!(with(vec![token(600, "a".repeat(70_000))]).unwrap_err().contains("an added token is longer than 64 KiB"));
    let many = (0..300_000).map(|i| token(1000 + i, format!("tok{i}"))).collect();
    assert!(with(many).unwrap_err().contains("its added tokens have more than 4 MiB"));
}

#[test]
fn a_normalizer_that_puts_a_long_text_before_each_text_is_refused() {
    let prepend = json!({"type": "Prepend", "prepend": "x".repeat(1 << 20)});
    let said = refused("normalizer", json!({"type": "Sequence", "normalizers": [prepend]}), "a");
    assert!(said.contains("its normalizer puts more than 1024 bytes before each text"), "{said}");
}

#[test]
fn what_is_no_tokenizer_is_refused_in_plain_words() {
    let said = |content: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), content).unwrap();
        refused_text(folder.path(), "a")
    };
    for content in ["[]", "null", " 7", ""] {
        assert!(
            said(content).contains("is no tokenizer that can be read: not a JSON object; rows of text"),
            "{content}"
        );
    }
    assert!(said("{}").contains("is no tokenizer that can be read: missing field `model`"));
    let prefix =
        changed("byte-level", |tokenizer| tokenizer["model"]["continuing_subword_prefix"] = json!("a".repeat(100)));
    let said = refused_text(prefix.path(), "a");
    assert!(said.contains("is no tokenizer that can be read: its parts do not fit together"), "{said}");
}
