//! What commands print, as a whole: help, results, logs, errors with their cures.
//!
//! `FROSTLINE_BLESS=1 cargo test --test snapshots` writes what is printed now; read the difference before it is kept.
#![cfg(all(feature = "plan", feature = "train"))]

mod desk;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use desk::{Desk, TRAIN, case, fill_cache};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots")
}

/// Compares a text with the snapshot of this name, or makes it the snapshot.
fn check(name: &str, text: &str) {
    let path = folder().join(name).with_extension("txt");
    if std::env::var_os("FROSTLINE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == text, "{name} differs; FROSTLINE_BLESS=1 makes it\n{text}\ninstead of\n{kept}");
}

/// A command, and what it prints, as a terminal of 80 columns would hold it.
fn session(desk: &Desk, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_frostline"));
    command.env("FROSTLINE_CACHE", "cache").env("COLUMNS", "80").env_remove("FROSTLINE_LOG");
    let Output { status, stdout, stderr } = command.args(arguments).current_dir(desk.path("")).output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    let mut text = format!("$ frostline {}\n{stdout}", arguments.join(" "));
    if !stderr.is_empty() {
        text += &format!("--- stderr\n{stderr}");
    }
    match status.code() {
        Some(0) => text,
        code => text + &format!("--- status {}\n", code.unwrap()),
    }
    .replace(&case("")[..case("").len() - 1], "CASES")
    .replace(env!("CARGO_BIN_EXE_frostline"), "frostline")
}

/// A text without what differs from run to run and from machine to machine: fractions, times, digests. In a table its
/// columns stay where they are.
fn without_measures(text: &str) -> String {
    masked(text, |number, next| number.contains('.') || is_unit_of_time(next))
}

/// A text without digests, which change with the formats of files.
fn without_digests(text: &str) -> String {
    masked(text, |_, _| false)
}

fn is_unit_of_time(word: &str) -> bool {
    ["s", "tokens/s"].contains(&word.trim_matches([')', ',', ';']))
}

fn masked(text: &str, is_measure: impl Fn(&str, &str) -> bool) -> String {
    let line = |line: &str| {
        if line.trim_start_matches("$ ").trim_start().starts_with("frostline ") {
            return format!("{line}\n");
        }
        let words: Vec<&str> = line.split(' ').collect();
        let shown = (0..words.len()).map(|index| {
            let core = words[index].trim_matches(['(', ')', ',', ';', ':', '%']);
            let next = words.get(index + 1).copied().unwrap_or_default();
            let is_number = core.parse::<f64>().is_ok() && is_measure(core, next);
            let is_digest =
                core.starts_with("sha256:") || core.len() == 12 && core.chars().all(|c| c.is_ascii_hexdigit());
            if !is_number && !is_digest {
                return words[index].to_owned();
            }
            // After two spaces stands a column, aligned to the right.
            let width = if is_number && index > 0 && words[index - 1].is_empty() { core.len() } else { 1 };
            words[index].replace(core, &format!("{:>width$}", "#"))
        });
        shown.collect::<Vec<String>>().join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

const HELP: [&[&str]; 12] = [
    &[],
    &["plan"],
    &["layers"],
    &["show"],
    &["check"],
    &["train"],
    &["eval"],
    &["merge"],
    &["cache", "list"],
    &["cache", "clear"],
    &["compare"],
    &["quickstart"],
];

#[test]
fn help() {
    let desk = Desk::new();
    for command in HELP {
        let text = session(&desk, &[command, &["--help"]].concat());
        // How a command is called is one line, however long.
        let mut lines = text.lines().filter(|line| !line.starts_with("Usage: "));
        assert!(lines.all(|line| line.chars().count() <= 80), "{text}");
        // What all commands have comes last.
        let (_, last) = text.split_once("Global options:").unwrap();
        assert!(last.contains("--json") && last.contains("--quiet"), "{text}");
        let name = if command.is_empty() { "frostline".into() } else { command.join("-") };
        check(&format!("help/{name}"), &text);
    }
}

#[test]
fn show() {
    let desk = Desk::new();
    std::fs::copy(folder().join("plan.json"), desk.path("plan.json")).unwrap();
    let text = session(&desk, &["show", "plan.json"]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    check("show", &text);
}

/// A plan whose choice above the frost line has gaps.
#[test]
fn show_a_choice() {
    let desk = Desk::new();
    let strategy = ["--strategy", "manual:2+*.3.mlp.up_proj.weight", "--out", "choice.json"];
    desk.done(&[&["plan", "--model", &case("llama"), "--data", "train.jsonl"], &strategy[..]].concat());
    check("show-choice", &without_digests(&session(&desk, &["show", "choice.json"])));
}

#[test]
fn plan_check_train_evaluate_merge() {
    let desk = Desk::new();
    let (model, onnx) = (case("llama"), case("llama") + "/model.dynamo.onnx");
    let plan = ["plan", "--model", &model, "--onnx", &onnx, "--data", "train.jsonl", "--out", "plan.json"];
    let decision = ["--budget", "0.72", "--aggregate", "quantile:0"];
    let train = [&TRAIN[..], &[&model, "--eval", "test.jsonl", "--steps", "60"]].concat();
    let run = ["--log-every", "20", "--cache", "off", "--out", "run"];
    let other = case("qwen2");
    for (name, arguments) in [
        ("plan", &[&plan[..], &decision].concat()[..]),
        ("layers", &["layers", &onnx]),
        ("check", &["check", "plan.json", "--model", &model]),
        ("check-no", &["check", "plan.json", "--model", &other]),
        ("train", &[&train[..], &run].concat()),
        ("train-quiet", &[&train[..], &["--quiet", "--out", "quiet"]].concat()),
        ("eval", &["eval", "--model", &model, "--run", "run", "--data", "test.jsonl"]),
        ("merge", &["merge", "run", "--out", "merged"]),
    ] {
        check(name, &without_measures(&session(&desk, arguments)));
    }
    let dry_run = session(&desk, &[&train[..], &["--dry-run"]].concat());
    // Its numbers are aligned to the left: one space before each, whatever their width.
    let words: Vec<&str> = dry_run.split("  ").filter(|part| !part.is_empty()).map(str::trim_start).collect();
    check("dry-run", &without_measures(&words.join(" ")));
}

#[test]
fn cache() {
    let desk = Desk::new();
    let list = ["cache", "list", "--cache", "kept"];
    let empty = session(&desk, &list);
    fill_cache(&desk.path("kept"), 1, 4);
    fill_cache(&desk.path("kept"), 2, 40);
    let full = without_measures(&session(&desk, &list));
    // Keys come in the order of their last use, which may be the same second.
    let mut lines: Vec<&str> = full.lines().collect();
    lines[2..4].sort_unstable();
    let cleared = session(&desk, &["cache", "clear", "--cache", "kept"]);
    check("cache", &format!("{empty}\n{}\n\n{}", lines.join("\n"), without_measures(&cleared)));
}

/// Errors of the libraries, with the flag that this command sets their setting with.
#[test]
fn errors() {
    let desk = Desk::new();
    desk.plan_two();
    let (model, onnx) = (case("llama"), case("llama") + "/model.dynamo.onnx");
    let plan = ["plan", "--model", &model, "--onnx", &onnx, "--data", "train.jsonl", "--out", "no.json"];
    let train = [&TRAIN[..], &[&model, "--out", "run", "--steps", "4"]].concat();
    let sessions = [
        [&plan[..], &["--budget", "0.1"]].concat(),
        [&plan[..], &["--latent-spaces", "embedding,nowhere"]].concat(),
        [&plan[..], &["--min-trainable-layers", "9"]].concat(),
        [&plan[..], &["--strategy", "last:1", "--gain", "difference"]].concat(),
        [&plan[..], &["--strategy", "lisa"]].concat(),
        ["plan", "--model", &model, "--data", "train.jsonl", "--out", "no.json"].to_vec(),
        [&train[..], &["--method", "lora", "--rank", "17"]].concat(),
        [&train[..], &["--method", "lora", "--targets", "query"]].concat(),
        [&train[..], &["--cache", "tight", "--cache-limit", "1KB", "--order", "length"]].concat(),
        ["cache", "clear", "none", "--cache", "tight"].to_vec(),
        ["show", "no.json"].to_vec(),
    ];
    let text: Vec<String> = sessions.iter().map(|arguments| session(&desk, arguments)).collect();
    check("errors", &without_digests(&text.join("\n")));
}

#[test]
fn compare() {
    let desk = Desk::new();
    check("quickstart", &without_measures(&session(&desk, &["quickstart", "--quiet", "--out", "qs"])));
    let files = ["--model", "qs/model", "--data", "qs/train.jsonl", "--eval", "qs/test.jsonl"];
    let how = ["--strategies", "last:1,all", "--only", "--steps", "30", "--lr", "3e-3", "--quiet"];
    check("compare", &without_measures(&session(&desk, &[&["compare"], &files[..], &how].concat())));
}
