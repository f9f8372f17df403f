//! Rows of JSONL to tokens and targets, and each way in which a row can be bad.

mod corrupt;

use std::path::Path;
use std::sync::LazyLock;

use frostline_schemas::data::Encoder;
use frostline_schemas::data::{self, Example, ExampleError, Examples, Reading, Target};
use frostline_schemas::select::sample;
use proptest::prelude::*;

/// A model folder with a tokenizer of one token a word, `<s>` put before a whole text, and a chat template.
fn model_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let words = ["<s>", "<unk>", "what", "is", "red", "colour", "blue", "user", "assistant", "<end>"];
    let vocabulary: serde_json::Map<_, _> = words.iter().enumerate().map(|(i, w)| (w.to_string(), i.into())).collect();
    let special = |id: usize| {
        serde_json::json!({"id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true})
    };
    let tokenizer = serde_json::json!({
        "version": "1.0",
        // A leftover of somebody's training: it must not cut anything here.
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [special(0), special(1), special(9)],
        "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let template = "{{ bos_token }}{% for m in messages %} {{ m.role }} {{ m.content }}<end>\n{% endfor %}\
                    {% if add_generation_prompt %} assistant{% endif %}";
    let config = serde_json::json!({"bos_token": {"content": "<s>"}, "chat_template": template});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(model_folder);

fn read_with(folder: &Path, rows: &str, max_length: usize) -> Result<Examples, ExampleError> {
    read_bytes(folder, rows.as_bytes(), max_length)
}

fn read_bytes(folder: &Path, rows: &[u8], max_length: usize) -> Result<Examples, ExampleError> {
    let data = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(data.path(), rows).unwrap();
    data::read(data.path(), &Reading { encoder: &Encoder::new(folder), vocabulary: 10, max_length })
}

fn read(rows: &str) -> Result<Examples, ExampleError> {
    read_with(model_folder().path(), rows, 512)
}

fn one(row: &str) -> Example {
    read(row).unwrap().examples.remove(0)
}

/// The message of the error that a row gives, which must name its line.
fn refused(row: &str) -> String {
    let message = read(&format!("{{\"text\": \"what is\"}}\n\n{row}\n")).unwrap_err().to_string();
    assert!(message.contains(":3: "), "{message}");
    message
}

fn targets(pairs: &[(u32, u32)]) -> Vec<Target> {
    pairs.iter().map(|&(position, token)| Target { position, token }).collect()
}

#[test]
fn a_prompt_gets_special_tokens_and_the_completion_is_the_target() {
    let example = one(r#"{"prompt": "what is red", "completion": "colour blue", "id": 17}"#);
    assert_eq!(example.tokens, [0, 2, 3, 4, 5, 6]);
    assert_eq!(example.targets, targets(&[(3, 5), (4, 6)]));
    assert_eq!(example.completion().unwrap(), (&[0, 2, 3, 4][..], &[5, 6][..]));
}

#[test]
fn the_assistants_turns_are_the_targets_of_a_conversation() {
    let row =
        r#"{"messages": [{"role": "user", "content": "what is red"}, {"role": "assistant", "content": "colour"}]}"#;
    let example = one(row);
    assert_eq!(example.tokens, [0, 7, 2, 3, 4, 9, 8, 5, 9]);
    assert_eq!(example.targets, targets(&[(6, 5), (7, 9)]));
}

#[test]
fn all_of_a_text_is_a_target() {
    let example = one(r#"{"text": "red is red"}"#);
    assert_eq!(example.tokens, [0, 4, 3, 4]);
    assert_eq!(example.targets, targets(&[(0, 4), (1, 3), (2, 4)]));
    assert_eq!(example.completion(), None);
}

#[test]
fn tokens_and_labels_need_no_tokenizer() {
    let empty = tempfile::tempdir().unwrap();
    let rows = r#"{"input_ids": [1, 2, 3, 0], "labels": [-100, -100, 3, -100], "attention_mask": [1, 1, 1, 0]}"#;
    let example = read_with(empty.path(), rows, 512).unwrap().examples.remove(0);
    assert_eq!(example.tokens, [1, 2, 3]);
    assert_eq!(example.targets, targets(&[(1, 3)]));
}

#[test]
fn text_without_a_tokenizer_names_the_file_and_the_cure() {
    let empty = tempfile::tempdir().unwrap();
    let message = read_with(empty.path(), r#"{"text": "what"}"#, 512).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json") && message.contains("`input_ids`"), "{message}");
}

#[test]
fn a_row_beyond_the_maximum_length_is_cut_and_counted_if_nothing_is_left() {
    let rows = "{\"text\": \"what is red\"}\n{\"prompt\": \"what is red\", \"completion\": \"blue\"}\n";
    let read = read_with(model_folder().path(), rows, 3).unwrap();
    assert_eq!((read.rows, read.examples.len(), read.without_targets), (2, 1, vec![2]));
    assert_eq!(read.examples[0].tokens, [0, 2, 3]);
}

#[test]
fn what_was_cut_is_listed_and_marked() {
    let rows = "{\"text\": \"what is\"}\n{\"text\": \"what is red\"}\n{\"prompt\": \"what is red\", \"completion\": \"blue\"}\n";
    let read = read_with(model_folder().path(), rows, 3).unwrap();
    assert_eq!((read.truncated, read.without_targets, read.max_length), (vec![2, 3], vec![3], 3));
    assert_eq!(read.examples.iter().map(|example| example.cut).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_stump_of_a_completion_is_no_completion() {
    let row = r#"{"prompt": "what is", "completion": "red colour"}"#;
    let cut = |length| read_with(model_folder().path(), row, length).unwrap().examples.remove(0);
    assert_eq!(cut(5).completion().unwrap().1, [4, 5]);
    assert!(cut(4).cut && cut(4).completion().is_none());
}

#[test]
fn a_completion_of_which_only_what_follows_was_cut_is_whole() {
    let row = r#"{"input_ids": [1, 2, 3, 9], "labels": [-100, -100, 3, -100]}"#;
    let example = read_with(Path::new("."), row, 3).unwrap().examples.remove(0);
    assert!(example.cut);
    assert_eq!(example.completion().unwrap(), (&[1, 2][..], &[3][..]));
}

#[test]
fn the_digest_of_an_example_does_not_depend_on_what_was_cut_off() {
    let row = r#"{"input_ids": [1, 2, 3, 9], "labels": [-100, -100, 3, -100]}"#;
    let cut = read_with(Path::new("."), row, 3).unwrap().examples.remove(0);
    assert_eq!(cut.digest(), Example::new(9, cut.tokens.clone(), cut.targets.clone()).digest());
}

#[test]
fn a_template_that_does_not_compile_names_its_file() {
    let folder = model_folder();
    let row = r#"{"messages": [{"role": "user", "content": "what"}]}"#;
    let config = serde_json::json!({"chat_template": "{% if %}"});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let message = read_with(folder.path(), row, 512).unwrap_err().to_string();
    assert!(message.contains("tokenizer_config.json: chat template: "), "{message}");
    std::fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let message = read_with(folder.path(), row, 512).unwrap_err().to_string();
    assert!(message.contains("chat_template.jinja: chat template: "), "{message}");
}

#[test]
fn a_file_in_which_nothing_is_to_be_predicted_is_refused() {
    let error = read_with(model_folder().path(), r#"{"prompt": "what is", "completion": "red"}"#, 2).unwrap_err();
    assert!(matches!(error, ExampleError::NoTargets { rows: 1, max_length: 2, .. }));
}

#[test]
fn an_empty_file_is_refused() {
    assert!(matches!(read(" \n\n").unwrap_err(), ExampleError::Empty { .. }));
}

#[test]
fn a_missing_file_is_named() {
    let encoder = Encoder::new(Path::new("."));
    let reading = Reading { encoder: &encoder, vocabulary: 10, max_length: 8 };
    let message = data::read(Path::new("no/such.jsonl"), &reading).unwrap_err().to_string();
    assert!(message.starts_with("no/such.jsonl: "), "{message}");
}

#[test]
fn a_row_that_is_not_json_is_refused() {
    assert!(refused("{\"text\": ").contains("not a JSON object"));
    assert!(refused("[1, 2]").contains("not a JSON object"));
}

#[test]
fn a_row_of_no_known_form_lists_its_keys() {
    assert!(refused(r#"{"question": "q", "answer": "a"}"#).contains("this one has `answer`, `question`"));
}

#[test]
fn a_prompt_without_a_completion_is_refused() {
    assert!(refused(r#"{"prompt": "what"}"#).contains("`completion` is missing"));
}

#[test]
fn a_text_that_is_no_string_is_refused() {
    assert!(refused(r#"{"text": 5}"#).contains("`text` must be a string"));
}

#[test]
fn messages_without_roles_are_refused() {
    assert!(refused(r#"{"messages": [{"content": "what"}]}"#).contains("`messages` must be a list"));
}

#[test]
fn labels_of_another_length_are_refused() {
    assert!(refused(r#"{"input_ids": [1, 2], "labels": [1]}"#).contains("`labels` has 1 entries, `input_ids` 2"));
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    assert!(refused(r#"{"input_ids": [1, 10], "labels": [1, 1]}"#).contains("token 10 is outside"));
    assert!(refused(r#"{"input_ids": [1, 2], "labels": [1, 11]}"#).contains("token 11 is outside"));
    assert!(refused(r#"{"input_ids": [1, -2], "labels": [1, 1]}"#).contains("token -2 is outside"));
}

#[test]
fn padding_on_the_left_is_refused() {
    let row = r#"{"input_ids": [0, 2, 3], "labels": [-100, 2, 3], "attention_mask": [0, 1, 1]}"#;
    assert!(refused(row).contains("padding on the right"));
}

#[test]
fn a_conversation_without_a_template_names_the_cure() {
    let folder = model_folder();
    std::fs::remove_file(folder.path().join("tokenizer_config.json")).unwrap();
    let row = r#"{"messages": [{"role": "user", "content": "what"}]}"#;
    let message = read_with(folder.path(), row, 512).unwrap_err().to_string();
    assert!(message.contains("chat_template.jinja"), "{message}");
}

#[test]
fn the_digest_of_a_file_is_that_of_sha256sum() {
    let rows = "{\"text\": \"what is\"}\n\n";
    assert_eq!(read(rows).unwrap().digest, frostline_schemas::digest::Digest::of(rows.as_bytes()));
}

#[test]
fn a_sample_is_the_same_on_every_machine() {
    assert_eq!(sample(10, 4, 7), sample(10, 4, 7));
    assert_eq!(sample(1000, 5, 0), [62, 466, 699, 709, 879]);
}

/// One row of each form that is read.
const ROWS: [&str; 4] = [
    r#"{"prompt": "what is red", "completion": "colour blue"}"#,
    r#"{"messages": [{"role": "user", "content": "what"}, {"role": "assistant", "content": "red"}], "tools": []}"#,
    r#"{"text": "red is red"}"#,
    r#"{"input_ids": [1, 2, 3, 0], "labels": [-100, -100, 3, -100], "attention_mask": [1, 1, 1, 0]}"#,
];

proptest! {
    #[test]
    fn no_changed_byte_of_a_row_panics(row in 0..ROWS.len(), changes in corrupt::byte_changes(), length in 0usize..8) {
        let text = corrupt::bytes(ROWS[row].as_bytes(), &changes);
        let _ = read_bytes(FOLDER.path(), &text, length);
    }

    #[test]
    fn no_changed_value_of_a_row_panics(row in 0..ROWS.len(), changes in corrupt::value_changes(), length in 0usize..8) {
        let json = corrupt::values(serde_json::from_str(ROWS[row]).unwrap(), &changes);
        if let Ok(read) = read_bytes(FOLDER.path(), json.to_string().as_bytes(), length) {
            for example in &read.examples {
                prop_assert!(example.tokens.len() <= length && !example.targets.is_empty());
                prop_assert!(example.targets.iter().all(|target| (target.position as usize) + 1 < example.tokens.len()));
                let _ = (example.completion(), example.digest());
            }
        }
    }

    #[test]
    fn rows_of_tokens_survive(tokens in prop::collection::vec(0u32..10, 2..20), kept in prop::collection::vec(any::<bool>(), 20)) {
        let labels: Vec<i64> =
            tokens.iter().zip(&kept).map(|(&t, &keep)| if keep { i64::from(t) } else { data::IGNORED }).collect();
        let row = serde_json::json!({"input_ids": tokens, "labels": labels}).to_string();
        let expected = tokens.iter().zip(&kept).skip(1).filter(|(_, keep)| **keep).count();
        let found = read_with(Path::new("."), &row, 512).map_or(0, |read| read.examples[0].targets.len());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_sample_has_no_repetition(all in 1usize..200, count in 0usize..250, seed: u64) {
        let chosen = sample(all, count, seed);
        prop_assert_eq!(chosen.len(), count.min(all));
        prop_assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]) && chosen.iter().all(|&i| i < all));
    }
}
