//! Rows as people have them: `frostline rows` shows the tokens and targets that transformers gives, which `tests/rows/make.py` wrote.
#![cfg(all(feature = "plan", feature = "train", feature = "parquet"))]

mod desk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use desk::Desk;

/// What the cases' names begin with; each has a test below.
const KINDS: [&str; 15] = [
    "bad",
    "begin",
    "date",
    "end",
    "file",
    "form",
    "json",
    "marks",
    "named",
    "python",
    "space",
    "special",
    "template",
    "turns",
    "variables",
];

#[test]
fn json_in_templates_is_what_python_writes() {
    agree("json");
}

#[test]
fn turns_whose_past_is_written_anew_keep_their_targets() {
    agree("turns");
}

#[test]
fn a_date_in_a_template_is_the_one_given() {
    agree("date");
}

#[test]
fn marks_of_generation_count_where_they_are_marks() {
    agree("marks");
}

#[test]
fn a_completion_is_tokenised_as_it_stands_after_its_prompt() {
    agree("space");
}

#[test]
fn answers_end_and_labels_do_not() {
    agree("end");
}

#[test]
fn every_form_of_row_gives_the_same_tokens() {
    agree("form");
}

#[test]
fn every_kind_of_file_holds_the_same_rows() {
    agree("file");
}

#[test]
fn a_template_is_chosen_by_its_name() {
    agree("named");
    agree("template");
}

#[test]
fn variables_reach_the_template() {
    agree("variables");
}

#[test]
fn special_tokens_are_those_of_the_folder() {
    agree("special");
    agree("begin");
}

#[test]
fn templates_call_pythons_methods() {
    agree("python");
}

#[test]
fn bad_rows_are_skipped_where_that_is_wanted() {
    agree("bad");
}

#[test]
fn no_case_is_left_out() {
    let known = |name: &String| KINDS.iter().any(|kind| name.starts_with(kind));
    let unknown: Vec<String> = cases().into_iter().filter(|name| !known(name)).collect();
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn rows_and_their_tokens_have_the_same_loss() {
    for name in ["turns-marked", "end-of-answers-metaspace", "json-tools", "end-of-labels"] {
        let (desk, case) = open(name);
        let losses = [case.data.as_str(), "expected.jsonl"].map(|data| {
            let summary = desk.json(&["eval", "--model", "model", "--data", data, "--max-length", "2048"]);
            (summary["targets"].as_u64().unwrap(), summary["loss"].as_f64().unwrap())
        });
        assert_eq!(losses[0].0, losses[1].0, "{name}");
        assert!((losses[0].1 - losses[1].1).abs() < 1e-6, "{name}: {losses:?}");
    }
}

#[test]
fn the_kind_of_a_file_is_seen_in_its_bytes() {
    for name in ["file-gzip-answers", "file-zstd-answers", "file-parquet-answers", "file-arrow-file-answers"] {
        let (desk, mut case) = open(name);
        std::fs::rename(desk.path(&case.data), desk.path("rows")).unwrap();
        case.data = "rows".into();
        assert_eq!(differences(&desk, &case), "", "{name}");
    }
}

#[test]
fn tools_given_as_text_are_refused_with_their_line() {
    let (desk, _) = open("json-tools");
    let row =
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": "[]"}"#;
    refused(&desk, row, &["rows.txt", "1", "tools"]);
}

#[test]
fn rows_that_cannot_be_read_are_named_by_file_and_line() {
    let (desk, _) = open("json-tools");
    let good = r#"{"prompt": "Type:", "completion": " number"}"#;
    let said =
        |row: &str, words: &[&str]| refused(&desk, &format!("{good}\n{row}\n"), &[&["rows.txt", "2"], words].concat());
    said(r#"{"prompt": "a", "completion": "b", "text": "c"}"#, &["prompt", "text"]);
    said(r#"{"prompt": "a", "completion": "b", "prompt": "c"}"#, &["prompt"]);
    said(r#"{"input_ids": [1, NaN], "labels": [1, 2]}"#, &["NaN"]);
    said(r#"{"messages": [{"role": "user", "content": [{"type": "image"}]}]}"#, &["image"]);
    said(r#"{"prompt": "a"}"#, &["completion"]);
    said(r#"{"prompt": "a", "completion": 1}"#, &["completion"]);
}

#[test]
fn the_cause_is_named_where_no_row_has_a_target() {
    let (desk, _) = open("json-tools");
    refused(&desk, r#"{"prompt": "a", "completion": ""}"#, &["rows.txt", "empty completion"]);
    refused(&desk, r#"{"messages": [{"role": "user", "content": "a"}]}"#, &["rows.txt", "assistant"]);
    refused(&desk, r#"{"prompt": "a", "completion": "b", "weight": 0}"#, &["rows.txt", "weight"]);
}

#[test]
fn utf_16_is_named() {
    let (desk, _) = open("json-tools");
    let bytes: Vec<u8> = "\u{feff}{\"text\": \"a\"}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(desk.path("rows.txt"), bytes).unwrap();
    let said = desk.fails(&["rows", "--model", "model", "--data", "rows.txt"]);
    assert!(said.contains("rows.txt") && said.contains("UTF-16"), "{said}");
}

#[test]
fn a_template_that_is_not_there_is_named_with_those_that_are() {
    let (desk, case) = open("named-other");
    let said = desk.fails(&["rows", "--model", "model", "--data", &case.data, "--chat-template", "another"]);
    assert!(said.contains("another") && said.contains("tool_use"), "{said}");
}

/// A case's rows and the flags to read them with.
struct Case {
    data: String,
    flags: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rows")
}

fn cases() -> BTreeSet<String> {
    let names = std::fs::read_dir(folder().join("cases")).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Lays a case out: its model folder as `model`, its rows and what is expected of them beside it.
fn open(name: &str) -> (Desk, Case) {
    let (desk, from) = (Desk::new(), folder().join("cases").join(name));
    let read: Json = serde_json::from_slice(&std::fs::read(from.join("case.json")).unwrap()).unwrap();
    let data = read["data"].as_str().unwrap().to_owned();
    let flags = read["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap().to_owned()).collect();
    copy(&folder().join("model"), &desk.path("model"));
    copy(&folder().join("tokenizers").join(read["tokenizer"].as_str().unwrap()), &desk.path("model"));
    copy(&from, &desk.path("model"));
    for moved in [&data, "expected.jsonl"] {
        std::fs::rename(desk.path("model").join(moved), desk.path(moved)).unwrap();
    }
    (desk, Case { data, flags })
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(path, to.join(name)).unwrap();
        }
    }
}

/// Reads all cases whose names begin with `kind`.
fn agree(kind: &str) {
    let found: Vec<String> = cases().into_iter().filter(|name| name.starts_with(kind)).collect();
    assert!(!found.is_empty());
    let said: Vec<String> = found
        .iter()
        .map(|name| {
            let (desk, case) = open(name);
            (name, differences(&desk, &case))
        })
        .filter(|(_, said)| !said.is_empty())
        .map(|(name, said)| format!("{name}: {said}"))
        .collect();
    assert!(said.is_empty(), "{} of {} cases differ\n{}", said.len(), found.len(), said.join("\n"));
}

/// What is otherwise than expected, in words; nothing where all is the same.
fn differences(desk: &Desk, case: &Case) -> String {
    let fixed = ["rows", "--model", "model", "--data", &case.data, "--show", "all", "--json", "--max-length", "2048"];
    let flags: Vec<&str> = case.flags.iter().map(String::as_str).collect();
    // A length that the case names takes the place of the large one.
    let fixed = if flags.contains(&"--max-length") { &fixed[..8] } else { &fixed[..] };
    let output = desk.run(&[fixed, &flags].concat());
    if !output.status.success() {
        return format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let summary: Json = serde_json::from_slice(&output.stdout).unwrap();
    let shown = summary["shown"].as_array().unwrap();
    let text = std::fs::read_to_string(desk.path("expected.jsonl")).unwrap();
    let expected: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places = |rows: &[Json]| rows.iter().map(|row| row["place"].to_string()).collect::<Vec<_>>().join(", ");
    if places(shown) != places(&expected) {
        return format!("rows {} instead of {}", places(shown), places(&expected));
    }
    let apart = |(got, wanted): (&Json, &Json)| {
        let field = ["input_ids", "labels"].into_iter().find(|&field| got[field] != wanted[field])?;
        let place = &wanted["place"];
        Some(format!("row {place}: {field}\n    got      {}\n    expected {}", got[field], wanted[field]))
    };
    shown.iter().zip(&expected).filter_map(apart).collect::<Vec<_>>().join("\n  ")
}

/// Rows that must be refused, with words that the message must have.
fn refused(desk: &Desk, rows: &str, words: &[&str]) {
    std::fs::write(desk.path("rows.txt"), rows).unwrap();
    let said = desk.fails(&["rows", "--model", "model", "--data", "rows.txt"]);
    for word in words {
        assert!(said.contains(word), "{word} is not in: {said}");
    }
}
