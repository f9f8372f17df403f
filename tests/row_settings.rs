//! How rows are read, from outside: what `frostline rows` shows of it, and that training and evaluation read rows as the
//! plan's were.
#![cfg(all(feature = "plan", feature = "train"))]

mod desk;

use std::path::Path;

use desk::Desk;
use serde_json::{Value as Json, json};

/// A desk with the quickstart's model in `model`, and its rows.
fn desk() -> Desk {
    let desk = Desk::new();
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
    std::fs::create_dir(desk.path("model")).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(quickstart.join(name), desk.path("model").join(name)).unwrap();
    }
    for name in ["train.jsonl", "test.jsonl"] {
        std::fs::copy(quickstart.join(name), desk.path(name)).unwrap();
    }
    desk
}

/// The same with conversations, and a template that tells the date and a mood.
fn chat_desk() -> Desk {
    let desk = desk();
    let template = "{{ strftime_now('%d.%m.%Y') }} {{ mood }}{% for m in messages %} {{ m.role }}: {{ m.content }}\
                    {{ eos_token }}{% endfor %}{% if add_generation_prompt %} assistant:{% endif %}";
    std::fs::write(desk.path("model/chat_template.jinja"), template).unwrap();
    let row = |question: &str, answer: &str| {
        let messages = [json!({"role": "user", "content": question}), json!({"role": "assistant", "content": answer})];
        json!({"messages": messages}).to_string() + "\n"
    };
    std::fs::write(desk.path("chat.jsonl"), row("what?", " food") + &row("who?", " person")).unwrap();
    desk
}

const PLAN: [&str; 9] = ["plan", "--model", "model", "--strategy", "last:1", "--cache", "off", "--out", "plan.json"];
const TRAIN: [&str; 10] =
    ["train", "--model", "model", "--plan", "plan.json", "--steps", "1", "--cache", "off", "--out"];

fn shown(desk: &Desk, flags: &[&str]) -> Json {
    desk.json(&[&["rows", "--model", "model"], flags].concat())
}

#[test]
fn targets_stand_in_brackets_and_what_was_added_is_said() {
    let desk = desk();
    std::fs::write(desk.path("two.jsonl"), "{\"prompt\": \"a\\n\", \"completion\": \" food\"}\n{\"text\": \"b\"}\n")
        .unwrap();
    let said = desk.done(&["rows", "--model", "model", "--data", "two.jsonl", "--eos", "always"]);
    assert!(said.starts_with("two.jsonl: 2 rows, 2 examples with 8 tokens, 4 of them targets\n"), "{said}");
    assert!(said.contains("\nbegin      2 examples with the beginning-of-sequence token\n"), "{said}");
    assert!(said.contains("\nend        the end-of-sequence token was put behind 2 completions\n"), "{said}");
    assert!(said.contains("\nline 1: 5 tokens, 2 targets\n<s>a\\n\n[ food][</s>]\n"), "{said}");
    assert!(said.contains("\nline 2: 3 tokens, 2 targets\n<s>[b][</s>]\n"), "{said}");
}

#[test]
fn a_row_whose_text_a_terminal_would_obey_is_shown_written_out() {
    let desk = desk();
    std::fs::write(desk.path("odd.jsonl"), "{\"text\": \"a\\u001b[2J\\ufdd0b\"}\n").unwrap();
    let said = desk.done(&["rows", "--model", "model", "--data", "odd.jsonl"]);
    assert!(said.contains("\\u{1b}") && said.contains("\\u{fdd0}"), "{said}");
}

#[test]
fn rows_need_no_weights() {
    let desk = desk();
    std::fs::remove_file(desk.path("model/model.safetensors")).unwrap();
    assert_eq!(shown(&desk, &["--data", "test.jsonl", "--show", "2"])["shown"].as_array().unwrap().len(), 2);
}

#[test]
fn labels_get_no_end_unless_it_is_asked_for_and_it_does_not_count_where_they_are_ranked() {
    let desk = desk();
    assert_eq!(shown(&desk, &["--data", "test.jsonl"])["read_as"]["eos"], false);
    let evaluate = |eos| desk.json(&["eval", "--model", "model", "--data", "test.jsonl", "--eos", eos]);
    let (without, with) = (evaluate("auto"), evaluate("always"));
    assert_eq!(with["targets"].as_u64().unwrap(), 2 * without["targets"].as_u64().unwrap());
    assert_eq!(with["accuracy"], without["accuracy"]);
    assert_ne!(with["loss"], without["loss"]);
}

#[test]
fn training_and_evaluation_read_rows_as_the_plans_were() {
    let desk = chat_desk();
    let flags = ["--data", "chat.jsonl", "--date", "2026-01-31", "--template-variable", "mood=calm"];
    desk.done(&[&PLAN[..], &flags].concat());
    let bound = &desk.read_json("plan.json")["data"]["rows_as"];
    assert_eq!(*bound, json!({"date": "2026-01-31", "template_variables": {"mood": "calm"}}));
    desk.done(&[&TRAIN[..], &["run", "--data", "chat.jsonl"]].concat());
    assert_eq!(desk.read_json("run/settings.json")["rows_as"], *bound);
    let evaluate = |flags: &[&str]| {
        desk.json(&[&["eval", "--model", "model", "--run", "run", "--data", "chat.jsonl"], flags].concat())["loss"]
            .clone()
    };
    assert_eq!(evaluate(&[]), evaluate(&["--date", "2026-01-31", "--template-variable", "mood=\"calm\""]));
}

#[test]
fn flags_that_read_rows_otherwise_than_the_plan_are_refused() {
    let desk = chat_desk();
    desk.done(&[&PLAN[..], &["--data", "chat.jsonl", "--date", "2026-01-31"]].concat());
    for (flags, cure) in [
        (&["--date", "2026-02-01"], "--date DATE"),
        (&["--template-variable", "mood=calm"], "--template-variable NAME=VALUE"),
        (&["--chat-template", "default"], "--chat-template NAME"),
        (&["--row-form", "messages"], "--row-form tokens|messages"),
    ] {
        let said = desk.fails(&[&TRAIN[..], &["run", "--data", "chat.jsonl"], &flags[..]].concat());
        assert!(said.contains("plan.json: its rows were read with ") && said.contains(cure), "{said}");
        assert!(!desk.path("run").exists());
    }
    desk.done(
        &[
            &["plan", "--model", "model", "--strategy", "last:1", "--out", "ends.json"][..],
            &["--data", "train.jsonl", "--eos", "always"],
        ]
        .concat(),
    );
    let train =
        ["train", "--model", "model", "--plan", "ends.json", "--steps", "1", "--out", "run", "--data", "test.jsonl"];
    let said = desk.fails(&[&train[..], &["--eos", "never"]].concat());
    assert!(said.contains("the end-of-sequence token always, and never is asked for"), "{said}");
    desk.done(&train);
    assert_eq!(desk.read_json("run/settings.json")["rows_as"]["eos"], true);
}

#[test]
fn rows_that_were_planned_with_and_have_other_tokens_now_are_refused() {
    let desk = desk();
    desk.done(&[&PLAN[..], &["--data", "train.jsonl", "--eos", "always"]].concat());
    let tokenizer = std::fs::read_to_string(desk.path("model/tokenizer_config.json")).unwrap();
    let other = tokenizer.replace(r#""eos_token": "</s>""#, r#""eos_token": "<s>""#);
    assert_ne!(other, tokenizer);
    std::fs::write(desk.path("model/tokenizer_config.json"), other).unwrap();
    let said = desk.fails(&[&TRAIN[..], &["run", "--data", "train.jsonl"]].concat());
    assert!(said.contains("the plan's rows were read as other tokens"), "{said}");
    assert!(!desk.path("run").exists());
}

#[test]
fn todays_date_is_told_and_bound() {
    let desk = chat_desk();
    let output = desk.run(&[&PLAN[..], &["--data", "chat.jsonl"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    let plan = desk.read_json("plan.json");
    let date = plan["data"]["rows_as"]["date"].as_str().unwrap();
    assert!(said.contains(&format!("chat.jsonl: the chat template was told that today is {date}")), "{said}");
}

#[test]
fn rows_that_cannot_be_read_are_left_out_and_named_where_that_is_asked_for() {
    let desk = desk();
    let rows = "{\"text\": \"a b\"}\n{\"prompt\": 5, \"completion\": \"b\"}\n{\"text\": \"c d\"}\n{\"text\":\n";
    std::fs::write(desk.path("bad.jsonl"), rows).unwrap();
    let said = desk.fails(&["rows", "--model", "model", "--data", "bad.jsonl"]);
    assert!(said.contains("bad.jsonl:2: `prompt` must be a string") && said.contains("--on-bad-row skip"), "{said}");
    let read = shown(&desk, &["--data", "bad.jsonl", "--on-bad-row", "skip"]);
    assert_eq!((&read["rows"], &read["examples"], &read["skipped"]), (&json!(4), &json!(2), &json!(2)));
    assert_eq!(read["skipped_first"][0]["place"], 2);
    let said = desk.done(&["rows", "--model", "model", "--data", "bad.jsonl", "--on-bad-row", "skip"]);
    assert!(said.contains("\nskipped    2 rows (first: line 2): `prompt` must be a string\n"), "{said}");
}

#[test]
fn flags_of_rows_that_make_no_sense_are_refused() {
    let desk = desk();
    let refused = |flags: &[&str]| desk.fails(&[&["rows", "--model", "model", "--data", "test.jsonl"], flags].concat());
    assert!(refused(&["--date", "31.1.2026"]).contains("a date is written as 2026-01-31"));
    assert!(refused(&["--template-variable", "mood"]).contains("a name, `=` and a value are expected"));
    assert!(refused(&["--template-variable", "a b=1"]).contains("`a b` is no name of a variable"));
    assert!(refused(&["--show", "some"]).contains("a number or `all` is expected"));
    let tokenizer = std::fs::read_to_string(desk.path("model/tokenizer_config.json")).unwrap();
    std::fs::write(desk.path("model/tokenizer_config.json"), tokenizer.replace("eos_token", "other_token")).unwrap();
    let config = std::fs::read_to_string(desk.path("model/config.json")).unwrap();
    std::fs::write(desk.path("model/config.json"), config.replace("eos_token_id", "other_token_id")).unwrap();
    assert!(refused(&["--eos", "always"]).contains("model: names no end-of-sequence token"));
}
