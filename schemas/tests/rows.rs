//! Rows of JSONL to tokens and targets, and each way in which a row can be bad.

mod corrupt;

use std::path::Path;
use std::sync::LazyLock;

use frostline_schemas::data::{
    self, BadRows, Completion, Encoder, EndOfText, Example, ExampleError, Examples, NoTarget, RowForm, RowSettings,
    Target,
};
use frostline_schemas::model::{DecoderConfig, read_config};
use frostline_schemas::select::sample;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

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

/// A model of ten tokens.
static CONFIG: LazyLock<DecoderConfig> = LazyLock::new(|| {
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    DecoderConfig { vocabulary: 10, max_positions: 1 << 20, ..read_config(&quickstart).unwrap() }
});

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(model_folder);

fn read_with(folder: &Path, rows: &str, max_length: usize) -> Result<Examples, ExampleError> {
    read_bytes(folder, rows.as_bytes(), max_length)
}

fn read_bytes(folder: &Path, rows: &[u8], max_length: usize) -> Result<Examples, ExampleError> {
    let data = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(data.path(), rows).unwrap();
    read_file(folder, data.path(), &RowSettings::up_to(max_length))
}

fn read_file(folder: &Path, data: &Path, settings: &RowSettings) -> Result<Examples, ExampleError> {
    data::read_examples(&CONFIG, &Encoder::new(folder), data, settings)
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

/// The tokens that are targets in the conversation or text that a row is.
fn wanted(row: Json) -> Vec<u32> {
    one(&row.to_string()).targets.iter().map(|target| target.token).collect()
}

/// Why a row has no target; with a text before it, as a file without any target is an error.
fn left_out(row: Json) -> NoTarget {
    let mut read = read(&format!("{{\"text\": \"what is\"}}\n{row}\n")).unwrap();
    assert_eq!((read.rows, read.examples.len(), read.without_targets.len()), (2, 1, 1));
    read.without_targets.remove(0).1
}

/// Reads rows as settings say.
fn read_as(folder: &Path, rows: &str, settings: &RowSettings) -> Result<Examples, ExampleError> {
    let data = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(data.path(), rows).unwrap();
    read_file(folder, data.path(), settings)
}

/// A model folder whose end-of-sequence token is `<end>`, with a template of one's own if there is one.
fn folder_with_end(template: Option<&str>) -> tempfile::TempDir {
    let folder = model_folder();
    let config = json!({"bos_token": "<s>", "eos_token": "<end>", "chat_template": template});
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

fn say(role: &str, content: &str) -> Json {
    json!({"role": role, "content": content})
}

fn targets(pairs: &[(u32, u32)]) -> Vec<Target> {
    pairs.iter().map(|&(position, token)| Target { position, token }).collect()
}

#[test]
fn a_prompt_gets_special_tokens_and_the_completion_is_the_target() {
    let example = one(r#"{"prompt": "what is red", "completion": " colour blue", "id": 17}"#);
    assert_eq!(example.tokens, [0, 2, 3, 4, 5, 6]);
    assert_eq!(example.targets, targets(&[(3, 5), (4, 6)]));
    assert_eq!(example.completion().unwrap(), Completion { prompt: &[0, 2, 3, 4], tokens: &[5, 6], words: 2 });
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
    let rows = "{\"text\": \"what is red\"}\n{\"prompt\": \"what is red\", \"completion\": \" blue\"}\n";
    let read = read_with(model_folder().path(), rows, 3).unwrap();
    assert_eq!((read.rows, read.examples.len(), read.without_targets), (2, 1, vec![(2, NoTarget::Cut)]));
    assert_eq!(read.examples[0].tokens, [0, 2, 3]);
}

#[test]
fn what_was_cut_is_listed_and_marked() {
    let rows = "{\"text\": \"what is\"}\n{\"text\": \"what is red\"}\n{\"prompt\": \"what is red\", \"completion\": \" blue\"}\n";
    let read = read_with(model_folder().path(), rows, 3).unwrap();
    assert_eq!((read.truncated, read.without_targets, read.max_length), (vec![2, 3], vec![(3, NoTarget::Cut)], 3));
    assert_eq!(read.examples.iter().map(|example| example.cut).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_stump_of_a_completion_is_no_completion() {
    let row = r#"{"prompt": "what is", "completion": " red colour"}"#;
    let cut = |length| read_with(model_folder().path(), row, length).unwrap().examples.remove(0);
    assert_eq!(cut(5).completion().unwrap().tokens, [4, 5]);
    assert!(cut(4).cut && cut(4).completion().is_none());
}

#[test]
fn a_completion_of_which_only_what_follows_was_cut_is_whole() {
    let row = r#"{"input_ids": [1, 2, 3, 9], "labels": [-100, -100, 3, -100]}"#;
    let example = read_with(Path::new("."), row, 3).unwrap().examples.remove(0);
    assert!(example.cut);
    assert_eq!(example.completion().unwrap(), Completion { prompt: &[1, 2], tokens: &[3], words: 1 });
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
    assert!(message.contains("tokenizer_config.json: chat template, line 1: "), "{message}");
    std::fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let message = read_with(folder.path(), row, 512).unwrap_err().to_string();
    assert!(message.contains("chat_template.jinja: chat template, line 1: "), "{message}");
}

#[test]
fn a_file_in_which_nothing_is_to_be_predicted_is_refused() {
    let error = read_with(model_folder().path(), r#"{"prompt": "what is", "completion": " red"}"#, 2).unwrap_err();
    assert!(error.to_string().ends_with("no row has a target: 1 row with no target within the first 2 tokens"));
    assert_eq!(error.setting(), Some("max_length"));
}

#[test]
fn an_empty_file_is_refused() {
    assert!(matches!(read(" \n\n").unwrap_err(), ExampleError::Empty { .. }));
}

#[test]
fn a_missing_file_is_named() {
    let message =
        read_file(Path::new("."), Path::new("no/such.jsonl"), &RowSettings::default()).unwrap_err().to_string();
    assert!(message.starts_with("no/such.jsonl: "), "{message}");
}

#[test]
fn a_row_that_is_not_json_is_refused() {
    assert!(refused("{\"text\": ").contains("not a JSON object"));
    assert!(refused("[1, 2]").contains("not a JSON object"));
}

#[test]
fn a_row_of_no_known_form_lists_its_keys() {
    assert!(refused(r#"{"question": "q", "answer": "a"}"#).contains("this one has `question`, `answer`"));
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
    assert!(refused(r#"{"messages": [{"content": "what"}]}"#).contains("message 1 of `messages`: has no `role`"));
}

#[test]
fn a_role_that_is_the_assistants_elsewhere_is_refused_by_its_name() {
    let row = r#"{"messages": [{"role": "user", "content": "what"}, {"role": "gpt", "content": "red"}]}"#;
    assert!(refused(row).contains("message 2 of `messages`: its role is `gpt`"));
}

#[test]
fn a_completion_that_is_null_is_as_good_as_missing() {
    assert!(refused(r#"{"prompt": "what", "response": null}"#).contains("`completion` is missing or null"));
}

#[test]
fn a_label_below_zero_is_refused_at_the_first_token_too() {
    assert!(refused(r#"{"input_ids": [1, 2], "labels": [-1, 2]}"#).contains("token -1 is outside"));
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

// Forms.

#[test]
fn a_response_is_a_completion() {
    assert_eq!(wanted(json!({"prompt": "what is", "response": " red"})), [4]);
}

#[test]
fn of_a_prompt_in_messages_no_answer_is_a_target() {
    let prompt = [say("user", "what"), say("assistant", "colour"), say("user", "is")];
    let row = json!({"prompt": prompt, "completion": [say("assistant", "red")]});
    let example = one(&row.to_string());
    assert_eq!(example.tokens, [0, 7, 2, 9, 8, 5, 9, 7, 3, 9, 8, 4, 9]);
    assert_eq!(example.targets, targets(&[(10, 4), (11, 9)]));
}

#[test]
fn a_prompt_in_messages_with_a_completion_as_text_is_refused() {
    let row = json!({"prompt": [say("user", "what")], "completion": "red"});
    assert!(refused(&row.to_string()).contains("`completion` must be a list of messages"));
}

#[test]
fn every_role_of_sharegpt_is_known() {
    let said = |from: &str, value: &str| json!({"from": from, "value": value});
    for assistant in ["gpt", "assistant", "chatgpt", "bing", "bard", "model"] {
        for user in ["human", "user"] {
            let row = json!({"conversations": [said("system", "is"), said(user, "what"), said(assistant, "red")]});
            assert_eq!(one(&row.to_string()).tokens, [0, 1, 3, 9, 7, 2, 9, 8, 4, 9], "{user} {assistant}");
            assert_eq!(wanted(row), [4, 9]);
        }
    }
    for tool in ["tool", "observation", "function_response"] {
        let row = json!({"conversations": [said("human", "what"), said(tool, "is"), said("gpt", "red")]});
        assert_eq!(one(&row.to_string()).tokens, [0, 7, 2, 9, 1, 3, 9, 8, 4, 9], "{tool}");
    }
}

#[test]
fn a_function_call_of_sharegpt_is_the_assistants() {
    let template = "{% for m in messages %}{{ m.role }} {{ m.content or m.tool_calls[0].function.name }}<end> {% endfor %}\
                    {% if add_generation_prompt %}assistant {% endif %}";
    let call = r#"{"name": "red", "arguments": {}}"#;
    let row = json!({"conversations": [{"from": "human", "value": "what"}, {"from": "function_call", "value": call}]});
    let example = read_with(folder_with_end(Some(template)).path(), &row.to_string(), 512).unwrap().examples.remove(0);
    assert_eq!((example.tokens, example.targets), (vec![7, 2, 9, 8, 4, 9], targets(&[(3, 4), (4, 9)])));
}

#[test]
fn a_null_role_is_none_where_a_message_has_from() {
    let said = |from: &str, value: &str| json!({"from": from, "value": value, "role": null, "content": null});
    assert_eq!(wanted(json!({"conversations": [said("human", "what"), said("gpt", "red")]})), [4, 9]);
}

#[test]
fn the_system_of_a_column_of_its_own_begins_a_conversation() {
    let row =
        json!({"system": "is", "conversations": [{"from": "human", "value": "what"}, {"from": "gpt", "value": "red"}]});
    assert_eq!(one(&row.to_string()).tokens, [0, 1, 3, 9, 7, 2, 9, 8, 4, 9]);
}

#[test]
fn a_system_column_beside_a_system_message_is_refused() {
    let said = [json!({"from": "system", "value": "is"}), json!({"from": "human", "value": "what"})];
    let message = refused(&json!({"system": "red", "conversations": said}).to_string());
    assert!(message.contains("`system` must be left out"), "{message}");
}

#[test]
fn an_instruction_is_a_turn_and_its_input_stands_on_a_line_of_its_own() {
    let row = json!({"instruction": "what is", "input": "blue", "output": "colour"});
    let example = one(&row.to_string());
    assert_eq!(example.tokens, [0, 7, 2, 3, 6, 9, 8, 5, 9]);
    assert_eq!(example.targets, targets(&[(6, 5), (7, 9)]));
    let without = json!({"instruction": "what is", "input": "", "response": "colour"});
    assert_eq!(one(&without.to_string()).tokens, [0, 7, 2, 3, 9, 8, 5, 9]);
}

#[test]
fn system_and_history_come_before_an_instruction() {
    let row = json!({"system": "is", "history": [["what", "blue"]], "instruction": "what", "output": "red"});
    assert_eq!(one(&row.to_string()).tokens, [0, 1, 3, 9, 7, 2, 9, 8, 6, 9, 7, 2, 9, 8, 4, 9]);
    assert_eq!(wanted(row), [6, 9, 4, 9]);
}

#[test]
fn history_that_is_no_list_of_pairs_is_refused() {
    for history in [json!("what"), json!([["what"]]), json!([["what", 5]]), json!([{"what": "red"}])] {
        let row = json!({"history": history, "instruction": "what", "output": "red"});
        assert!(refused(&row.to_string()).contains("`history` must be a list of pairs of texts"));
    }
}

#[test]
fn without_a_chat_template_an_instruction_stands_in_alpacas_words() {
    let folder = folder_with_end(None);
    let row = json!({"instruction": "what is red", "output": "colour"}).to_string();
    let example = read_with(folder.path(), &row, 512).unwrap().examples.remove(0);
    assert_eq!(example.targets.len(), 1, "{example:?}");
    assert_eq!(example.tokens.last(), Some(&5));
    let with_history = json!({"history": [["what", "blue"]], "instruction": "what", "output": "red"}).to_string();
    let message = read_with(folder.path(), &with_history, 512).unwrap_err().to_string();
    assert!(message.contains("need a chat template"), "{message}");
}

#[test]
fn content_in_parts_is_one_text_for_a_template_that_takes_no_parts() {
    let parts = json!([{"type": "text", "text": "what "}, {"type": "text", "text": "is"}]);
    let row = json!({"messages": [{"role": "user", "content": parts}, say("assistant", "red")]});
    assert_eq!(one(&row.to_string()).tokens, [0, 7, 2, 3, 9, 8, 4, 9]);
}

#[test]
fn nulls_are_as_good_as_nothing_there() {
    let row = json!({"text": null, "prompt": "what", "completion": " red", "messages": null, "weight": null});
    assert_eq!(wanted(row), [4]);
    let message = json!({"role": "assistant", "content": "red", "weight": null, "train": null, "name": null});
    assert_eq!(wanted(json!({"messages": [say("user", "what"), message]})), [4, 9]);
}

#[test]
fn the_end_of_an_answer_is_no_word_of_it() {
    let template = "{% for m in messages %}{{ m.role }} {{ m.content }}<end> {% endfor %}\
                    {% if add_generation_prompt %}assistant {% endif %}";
    let row = json!({"messages": [say("user", "what"), say("assistant", "red blue")]}).to_string();
    let example = read_with(folder_with_end(Some(template)).path(), &row, 512).unwrap().examples.remove(0);
    let completion = Completion { prompt: &[7, 2, 9, 8], tokens: &[4, 6, 9], words: 2 };
    assert_eq!(example.completion().unwrap(), completion);
}

// What is trained on.

#[test]
fn an_answer_of_weight_0_or_not_to_be_trained_on_is_no_target() {
    for (key, value) in
        [("weight", json!(0)), ("weight", json!(0.0)), ("train", json!(false)), ("training", json!(false))]
    {
        let mut first = say("assistant", "blue");
        first[key] = value;
        let messages = [say("user", "what"), first, say("user", "is"), say("assistant", "red")];
        assert_eq!(wanted(json!({"messages": messages})), [4, 9], "{key}");
    }
}

#[test]
fn an_answer_of_weight_1_or_to_be_trained_on_is_a_target() {
    for (key, value) in
        [("weight", json!(1)), ("weight", json!(1.0)), ("train", json!(true)), ("training", json!(true))]
    {
        let mut answer = say("assistant", "red");
        answer[key] = value;
        assert_eq!(wanted(json!({"messages": [say("user", "what"), answer]})), [4, 9], "{key}");
    }
}

#[test]
fn a_message_of_somebody_else_cannot_be_trained_on() {
    let mut question = say("user", "what");
    question["train"] = true.into();
    let message = refused(&json!({"messages": [question, say("assistant", "red")]}).to_string());
    assert!(
        message.contains("message 1 of `messages`: ") && message.contains("the assistant's messages alone"),
        "{message}"
    );
}

#[test]
fn a_train_flag_that_is_neither_true_nor_false_is_refused() {
    let mut answer = say("assistant", "red");
    answer["train"] = 1.into();
    let message = refused(&json!({"messages": [say("user", "what"), answer]}).to_string());
    assert!(message.contains("message 2 of `messages`: `train` must be true or false"), "{message}");
}

#[test]
fn a_weight_other_than_0_and_1_is_refused() {
    for weight in [json!(0.5), json!(-1), json!("1"), json!(true)] {
        let message = refused(&json!({"text": "what is", "weight": weight}).to_string());
        assert!(message.contains("`weight` is ") && message.contains("1 (a target) and 0 (no target)"), "{message}");
    }
}

#[test]
fn answers_to_leave_out_that_cannot_be_told_are_refused() {
    let template =
        "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %} {{ m.content }} {% endfor %}";
    let mut first = say("assistant", "blue");
    first["weight"] = 0.into();
    let row = json!({"messages": [say("user", "what"), first, say("user", "is"), say("assistant", "red")]});
    let message = read_with(folder_with_end(Some(template)).path(), &row.to_string(), 512).unwrap_err().to_string();
    assert!(message.contains("which answers `weight` or `train` leave out cannot be told"), "{message}");
}

// Rows without a target.

#[test]
fn an_empty_completion_is_left_out_as_such() {
    assert_eq!(left_out(json!({"prompt": "what is", "completion": ""})), NoTarget::Empty);
    assert_eq!(left_out(json!({"text": ""})), NoTarget::Empty);
}

#[test]
fn an_empty_completion_behind_a_prompt_that_was_cut_is_still_an_empty_one() {
    let row = json!({"prompt": "what ".repeat(10_000), "completion": ""});
    let rows = format!("{{\"text\": \"what is\"}}\n{row}\n");
    let read = read_with(FOLDER.path(), &rows, 8).unwrap();
    assert_eq!(read.without_targets, [(2, NoTarget::Empty)]);
}

#[test]
fn a_conversation_without_an_answer_is_left_out_as_such() {
    assert_eq!(left_out(json!({"messages": [say("user", "what")]})), NoTarget::NoAnswer);
    assert_eq!(left_out(json!({"messages": []})), NoTarget::NoAnswer);
    let mut answer = say("assistant", "red");
    answer["weight"] = 0.into();
    assert_eq!(left_out(json!({"messages": [say("user", "what"), answer]})), NoTarget::NoAnswer);
}

#[test]
fn an_answer_that_the_template_leaves_out_is_counted_as_such() {
    let template = "{% for m in messages %}{{ m.role }}{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}\
                    {% endgeneration %}{% endif %} {% endfor %}";
    let messages = |answer: &str| json!({"messages": [say("user", "what"), say("assistant", answer)]});
    let rows = format!("{}\n{}\n", messages(" red"), messages(" "));
    let read = read_with(folder_with_end(Some(template)).path(), &rows, 512).unwrap();
    assert_eq!(read.without_targets, [(2, NoTarget::NotRendered)]);
}

#[test]
fn tokens_without_a_label_after_the_first_are_left_out_as_such() {
    assert_eq!(left_out(json!({"input_ids": [1, 2], "labels": [1, -100]})), NoTarget::NoLabels);
    assert_eq!(left_out(json!({"input_ids": [], "labels": []})), NoTarget::NoLabels);
}

#[test]
fn a_row_of_weight_0_is_left_out_as_such() {
    assert_eq!(left_out(json!({"prompt": "what", "completion": " red", "weight": 0})), NoTarget::Weight);
}

// Bad rows.

#[test]
fn a_key_that_stands_twice_is_refused() {
    assert!(refused(r#"{"text": "what", "text": "red"}"#).contains("the key `text` stands twice"));
}

#[test]
fn a_row_of_two_forms_is_refused_and_read_in_the_one_that_is_asked_for() {
    let row = json!({"text": "what is", "prompt": "what", "completion": " red"}).to_string();
    assert!(refused(&row).contains("two forms in one row, `prompt` with `completion` and `text`"));
    let tokens = |form| {
        let settings = RowSettings { form: Some(form), ..RowSettings::new() };
        read_as(FOLDER.path(), &row, &settings).unwrap().examples.remove(0).tokens
    };
    assert_eq!((tokens(RowForm::Text), tokens(RowForm::Prompt)), (vec![0, 2, 3], vec![0, 2, 4]));
}

#[test]
fn two_keys_for_one_part_of_a_row_are_refused() {
    for (first, second, rest) in [
        ("messages", "conversations", json!({})),
        ("completion", "response", json!({"prompt": "what"})),
        ("output", "response", json!({"instruction": "what"})),
        ("output", "completion", json!({"instruction": "what"})),
        ("response", "completion", json!({"instruction": "what"})),
        ("input", "context", json!({"instruction": "what", "output": "red"})),
    ] {
        let mut row = rest;
        (row[first], row[second]) = ("red".into(), "blue".into());
        let message = refused(&row.to_string());
        assert!(message.contains(&format!("two forms in one row, `{first}` and `{second}`")), "{message}");
    }
}

#[test]
fn a_row_that_lacks_the_form_asked_for_is_refused() {
    let settings = RowSettings { form: Some(RowForm::Messages), ..RowSettings::new() };
    let message = read_as(FOLDER.path(), r#"{"text": "what is"}"#, &settings).unwrap_err().to_string();
    assert!(message.contains(":1: ") && message.contains("this one has `text`"), "{message}");
}

#[test]
fn labels_without_tokens_and_tokens_without_labels_are_refused() {
    assert!(refused(r#"{"input_ids": [1, 2]}"#).contains("`labels` is missing"));
    assert!(refused(r#"{"input_ids": "1 2", "labels": [1]}"#).contains("`input_ids` must be a list of whole numbers"));
    assert!(refused(r#"{"input_ids": [1.5], "labels": [1]}"#).contains("`input_ids` must be a list of whole numbers"));
}

#[test]
fn a_mask_of_another_length_is_refused() {
    assert!(refused(r#"{"input_ids": [1, 2], "labels": [1, 2], "attention_mask": [1]}"#).contains("`attention_mask`"));
}

#[test]
fn tools_as_a_text_are_refused() {
    let row = json!({"messages": [say("user", "what"), say("assistant", "red")], "tools": "[]"});
    assert!(refused(&row.to_string()).contains("`tools` is a text: give the list of tools itself"));
}

#[test]
fn tools_documents_and_variables_of_other_types_are_refused() {
    for (key, expected) in
        [("tools", "a list of tools"), ("documents", "a list"), ("chat_template_kwargs", "an object")]
    {
        let mut row = json!({"messages": [say("user", "what"), say("assistant", "red")]});
        row[key] = 5.into();
        assert!(refused(&row.to_string()).contains(&format!("`{key}` must be {expected}")));
    }
}

#[test]
fn messages_that_are_none_are_refused_by_their_number() {
    for (message, reason) in [
        (json!("red"), "is no object"),
        (json!({"role": 5}), "has no `role`"),
        (json!({"from": "gpt"}), "has `from` and no text as `value`"),
        (json!({"from": "narrator", "value": "red"}), "`from` is `narrator`; known are human, gpt"),
        (json!({"from": 5, "value": "red"}), "`from` is no text"),
        (json!({"from": "function_call", "value": "red"}), "its function call is no JSON"),
        (json!({"from": "function_call", "value": "{}"}), "its function call has no `name`"),
        (json!({"role": "assistant", "content": 5}), "`content` is neither a text nor a list of parts"),
        (json!({"role": "assistant", "content": [{"type": "image"}]}), "has a part of type `image`"),
    ] {
        let said = refused(&json!({"messages": [say("user", "what"), message]}).to_string());
        assert!(said.contains(&format!("message 2 of `messages`: {reason}")), "{said}");
    }
}

#[test]
fn a_conversation_that_the_template_refuses_says_what_the_template_says() {
    let template = "{% if messages[0].role != 'user' %}{{ raise_exception('the user begins') }}{% endif %}\
                    {% for m in messages %}{{ m.content }} {% endfor %}";
    let row = json!({"messages": [say("assistant", "red")]}).to_string();
    let message = read_with(folder_with_end(Some(template)).path(), &row, 512).unwrap_err().to_string();
    assert!(message.contains(":1: the chat template says: the user begins"), "{message}");
}

#[test]
fn bad_rows_are_skipped_where_that_is_asked_for_and_each_is_named() {
    let rows = "{\"text\": \"what is\"}\n{\"text\": 5}\n{\n{\"text\": \"red is\"}\n";
    let settings = RowSettings { bad_rows: BadRows::Skip, ..RowSettings::new() };
    let read = read_as(FOLDER.path(), rows, &settings).unwrap();
    assert_eq!((read.rows, read.examples.len(), read.skipped.rows), (4, 2, 2));
    assert_eq!(read.skipped.first.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    let error = read_as(FOLDER.path(), rows, &RowSettings::new()).unwrap_err();
    assert_eq!(error.setting(), Some("on_bad_row"));
}

#[test]
fn a_file_of_which_every_row_is_skipped_is_refused_with_the_first_reason() {
    let settings = RowSettings { bad_rows: BadRows::Skip, ..RowSettings::new() };
    let message = read_as(FOLDER.path(), "{\"text\": 5}\n{\n", &settings).unwrap_err().to_string();
    assert!(message.contains("2 rows skipped, first line 1: `text` must be a string"), "{message}");
}

// The end of texts.

const ANSWERS: &str =
    "{\"prompt\": \"what\", \"completion\": \" red\"}\n{\"prompt\": \"what\", \"completion\": \" blue\"}\n";

fn ended(folder: &Path, rows: &str, eos: EndOfText) -> (Option<bool>, u64, Vec<Vec<u32>>) {
    let read = read_as(folder, rows, &RowSettings { eos, ..RowSettings::new() }).unwrap();
    (read.read.eos, read.ended, read.examples.into_iter().map(|example| example.tokens).collect())
}

#[test]
fn the_end_of_sequence_token_follows_answers_and_not_labels() {
    let folder = folder_with_end(None);
    let labels = ANSWERS.repeat(2);
    assert_eq!(
        ended(folder.path(), ANSWERS, EndOfText::Auto),
        (Some(true), 2, vec![vec![0, 2, 4, 9], vec![0, 2, 6, 9]])
    );
    assert_eq!(ended(folder.path(), &labels, EndOfText::Auto).0, Some(false));
    assert_eq!(ended(folder.path(), &labels, EndOfText::Always).1, 4);
    assert_eq!(ended(folder.path(), ANSWERS, EndOfText::Never), (Some(false), 0, vec![vec![0, 2, 4], vec![0, 2, 6]]));
}

#[test]
fn a_text_that_ends_already_gets_no_second_end() {
    let row = r#"{"prompt": "what", "completion": " red <end>"}"#;
    assert_eq!(ended(folder_with_end(None).path(), row, EndOfText::Always), (Some(true), 0, vec![vec![0, 2, 4, 9]]));
}

#[test]
fn an_end_for_which_there_is_no_room_is_cut_off_and_counted() {
    let settings = RowSettings { eos: EndOfText::Always, ..RowSettings::up_to(3) };
    let read = read_as(folder_with_end(None).path(), ANSWERS, &settings).unwrap();
    assert_eq!((read.ended, read.truncated), (0, vec![1, 2]));
    assert!(read.examples.iter().all(|example| example.cut && example.completion().is_none()));
}

#[test]
fn an_empty_completion_whose_end_was_cut_off_is_one_that_was_cut() {
    let rows = "{\"text\": \"what\"}\n{\"prompt\": \"what is\", \"completion\": \"\"}\n";
    let settings = RowSettings { eos: EndOfText::Always, ..RowSettings::up_to(3) };
    let read = read_as(folder_with_end(None).path(), rows, &settings).unwrap();
    assert_eq!((read.truncated, read.without_targets), (vec![2], vec![(2, NoTarget::Cut)]));
}

#[test]
fn an_end_that_the_model_does_not_name_is_refused_only_where_it_is_asked_for() {
    assert_eq!(ended(FOLDER.path(), ANSWERS, EndOfText::Auto).0, Some(false));
    let settings = RowSettings { eos: EndOfText::Always, ..RowSettings::new() };
    let error = read_as(FOLDER.path(), ANSWERS, &settings).unwrap_err();
    assert!(error.to_string().ends_with("names no end-of-sequence token to put behind completions"), "{error}");
    assert_eq!(error.setting(), Some("eos"));
}

#[test]
fn an_end_outside_the_vocabulary_is_refused() {
    let folder = model_folder();
    std::fs::write(folder.path().join("generation_config.json"), r#"{"eos_token_id": [10]}"#).unwrap();
    let error = read_as(folder.path(), ANSWERS, &RowSettings::new()).unwrap_err();
    assert!(
        error.to_string().contains("the end-of-sequence token 10 is outside the model's vocabulary of 10"),
        "{error}"
    );
    assert_eq!(error.setting(), Some("eos"));
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
    r#"{"prompt": "what is red", "completion": " colour blue"}"#,
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
