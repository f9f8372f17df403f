//! The command from end to end, as a user runs it: real files in, real files out, exit statuses.
#![cfg(all(feature = "plan", feature = "train"))]

mod desk;

use std::process::{Command, Output};

use frostline_schemas::plan::Plan;
use serde_json::{Value as Json, json};

use desk::{Desk, FAILED, REFUSED, TRAIN, case, fill_cache, rows};

#[test]
fn plan_train_evaluate_merge() {
    let desk = Desk::new();
    let llama = case("llama");
    desk.plan_two();
    assert!(desk.done(&["show", "plan.json"]).contains("frost line 2 of 4: 2 layers frozen, 2 layers trained"));
    assert!(desk.done(&["check", "plan.json", "--model", &llama]).starts_with("yes: "));

    let flags = ["--out", "run", "--steps", "60", "--eval", "test.jsonl"];
    let trained = desk.json(&[&TRAIN[..], &[&llama], &flags].concat());
    assert!(trained["last_loss"].as_f64().unwrap() < trained["first_loss"].as_f64().unwrap() / 2.0, "{trained}");
    let metrics = std::fs::read_to_string(desk.path("run/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 60);
    assert_eq!(desk.read_json("run/settings.json")["plan"], desk.read_json("plan.json")["id"]);

    let before = desk.json(&["eval", "--model", &llama, "--data", "test.jsonl"]);
    let after = desk.json(&["eval", "--model", &llama, "--run", "run", "--data", "test.jsonl"]);
    assert_eq!(after["ranking"]["candidates"], 3);
    assert!(after["loss"].as_f64().unwrap() < before["loss"].as_f64().unwrap(), "{before} {after}");
    // Batched with other rows than in `train`, so the last digits may differ.
    let close = |a: &Json, b: &Json| (a["loss"].as_f64().unwrap() - b["loss"].as_f64().unwrap()).abs() < 1e-5;
    assert!(close(&after, &trained["evaluation"]), "{after} {trained}");

    desk.done(&["merge", "run", "--out", "merged"]);
    let merged = desk.json(&["eval", "--model", "merged", "--data", "test.jsonl"]);
    assert_eq!(merged, after);
}

#[test]
fn adapters_are_trained_evaluated_and_merged() {
    let desk = Desk::new();
    let llama = case("llama");
    desk.plan_two();
    let lora = ["--method", "lora", "--rank", "4", "--alpha", "8", "--targets", "q_proj,v_proj,down_proj"];
    let flags = ["--out", "run", "--steps", "60", "--eval", "test.jsonl"];
    let trained = desk.json(&[&TRAIN[..], &[&llama], &flags, &lora].concat());
    assert!(trained["last_loss"].as_f64().unwrap() < 0.7 * trained["first_loss"].as_f64().unwrap(), "{trained}");
    // Two layers; of 32 → 32, 32 → 16 and 64 → 32.
    assert_eq!(trained["trained_parameters"], 2 * 4 * (64 + 48 + 96));
    let method = &desk.read_json("run/settings.json")["training"]["method"];
    let expected = json!({"name": "lora", "rank": 4, "alpha": 8.0, "targets": ["q_proj", "v_proj", "down_proj"]});
    assert_eq!(method, &expected);
    assert_eq!(desk.read_json("run/adapter_config.json")["target_modules"].as_array().unwrap().len(), 6);
    assert!(!desk.path("run/trained.safetensors").exists());

    let after = desk.json(&["eval", "--model", &llama, "--run", "run", "--data", "test.jsonl"]);
    desk.done(&["merge", "run", "--out", "merged"]);
    let merged = desk.json(&["eval", "--model", "merged", "--data", "test.jsonl"]);
    for other in [&trained["evaluation"], &merged] {
        let apart = (after["loss"].as_f64().unwrap() - other["loss"].as_f64().unwrap()).abs();
        assert!(apart < 1e-5 && after["ranking"] == other["ranking"], "{after} {other}");
    }
}

#[test]
fn flags_of_adapters_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    desk.plan_two();
    let llama = case("llama");
    let fails = |flags: &[&str]| desk.fails(&[&TRAIN[..], &[&llama, "--out", "run", "--steps", "1"], flags].concat());
    let said = fails(&["--method", "lora", "--targets", "q_proj,query"]);
    assert!(said.contains("is named `query`; there are down_proj, gate_proj, k_proj"), "{said}");
    let said = fails(&["--method", "lora", "--rank", "17"]);
    assert!(said.contains("at most 16") && said.contains("k_proj"), "{said}");
    assert!(fails(&["--method", "lora", "--rank", "0"]).contains("--rank"));
    assert!(fails(&["--method", "lora", "--alpha", "0"]).contains("--alpha"));
    assert!(fails(&["--rank", "8"]).contains("add --method lora"));
    assert!(!desk.path("run").exists());
}

#[test]
fn a_run_holds_the_planned_tensors_and_no_other() {
    let desk = Desk::new();
    desk.plan_two();
    desk.done(&[&TRAIN[..], &[&case("llama"), "--out", "run", "--steps", "1"]].concat());
    let bytes = std::fs::read(desk.path("run/trained.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let plan = desk.read_json("plan.json");
    let mut planned: Vec<&str> =
        plan["tensors"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    planned.sort_unstable();
    let mut trained = file.names();
    trained.sort_unstable();
    assert_eq!(trained, planned);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata["frostline.plan"], plan["id"].as_str().unwrap());
}

#[test]
fn the_same_command_writes_the_same_bytes() {
    let desk = Desk::new();
    desk.plan("gemma3", "one.json", &["--examples", "16"]);
    desk.plan("gemma3", "two.json", &["--examples", "16"]);
    assert_eq!(std::fs::read(desk.path("one.json")).unwrap(), std::fs::read(desk.path("two.json")).unwrap());
    desk.plan("gemma3", "other.json", &["--examples", "16", "--seed", "1"]);
    assert_ne!(desk.read_json("one.json")["id"], desk.read_json("other.json")["id"]);
}

#[test]
fn without_a_number_examples_are_read_until_the_frost_line_is_stable() {
    let desk = Desk::new();
    let (model, onnx) = (case("llama"), case("llama") + "/model.dynamo.onnx");
    // The budget alone decides, whichever examples there are.
    let fixed = ["plan", "--model", &model, "--onnx", &onnx, "--data", "train.jsonl", "--budget", "0.55", "--out"];
    let summary = desk.json(&[&fixed[..], &["open.json"]].concat());
    assert_eq!((&summary["examples"], &summary["stability"]["agree"]), (&json!(32), &json!(1.0)), "{summary}");
    desk.done(&[&fixed[..], &["auto.json", "--examples", "auto"]].concat());
    desk.done(&[&fixed[..], &["counted.json", "--examples", "32"]].concat());
    let plans = ["open.json", "auto.json", "counted.json"].map(|name| std::fs::read(desk.path(name)).unwrap());
    assert!(plans[0] == plans[1] && plans[0] == plans[2]);
    assert!(
        desk.done(&["show", "open.json"]).contains("stable: 100 % of resamples of the examples give the same line; ")
    );
    let said = desk.fails(&[&fixed[..], &["no.json", "--examples", "some"]].concat());
    assert!(said.contains("must be a whole number, or auto"), "{said}");
}

/// The flags of a shard of `llama` whose traces go to a file.
fn shard_flags<'a>(model: &'a str, onnx: &'a str, shard: &'a str, traces: &'a str) -> Vec<&'a str> {
    let fixed = ["plan", "--model", model, "--onnx", onnx, "--data", "train.jsonl", "--examples", "40"];
    [&fixed[..], &["--shard", shard, "--traces", traces]].concat()
}

#[test]
fn traces_of_shards_make_the_plan_of_one_machine() {
    let desk = Desk::new();
    let (model, onnx) = (case("llama"), case("llama") + "/model.dynamo.onnx");
    desk.plan("llama", "one.json", &["--examples", "40"]);
    let said = desk.done(&shard_flags(&model, &onnx, "1/2", "part-1.safetensors"));
    assert!(said.starts_with("part-1.safetensors: shard 1/2, ") && said.contains(" of 40 examples in "), "{said}");
    let summary = desk.json(&shard_flags(&model, &onnx, "2/2", "part-2.safetensors"));
    assert_eq!((&summary["shard"], &summary["sample"], &summary["layers"]), (&json!("2/2"), &json!(40), &json!(4)));
    // A shard may be computed again.
    desk.done(&shard_flags(&model, &onnx, "2/2", "part-2.safetensors"));

    // In a folder without an export, in any order, with the files before other flags.
    let merge = ["plan", "--from-traces", "part-2.safetensors", "part-1.safetensors", "--model", &model];
    let said = desk.done(&[&merge[..], &["--data", "train.jsonl", "--examples", "40", "--out", "two.json"]].concat());
    assert!(said.contains("40 examples (") && said.contains(" from 2 shards with tract on cpu"), "{said}");
    assert_eq!(std::fs::read(desk.path("one.json")).unwrap(), std::fs::read(desk.path("two.json")).unwrap());
    let other = [&merge[..], &["--data", "train.jsonl", "--examples", "40", "--seed", "3", "--out", "no.json"]];
    let said = desk.fails(&other.concat());
    assert!(said.contains("part-2.safetensors: computed with seed 0") && said.contains("made with 3"), "{said}");
    assert!(said.contains("(set with --seed N)"), "{said}");
    let alone = ["plan", "--from-traces", "part-2.safetensors", "--model", &model, "--data", "train.jsonl"];
    let said = desk.fails(&[&alone[..], &["--examples", "40", "--out", "no.json"]].concat());
    assert!(said.contains("part-2.safetensors: shard 2/2, but no file holds shard 1; "), "{said}");
    assert!(!desk.path("no.json").exists());
}

#[test]
fn flags_of_shards_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    let (model, onnx) = (case("llama"), case("llama") + "/model.dynamo.onnx");
    let fixed = ["plan", "--model", &model, "--data", "train.jsonl"];
    let fails = |flags: &[&str]| desk.fails(&[&fixed, flags].concat());
    assert!(fails(&["--shard", "1/2"]).contains("--traces"));
    assert!(fails(&["--traces", "part.safetensors"]).contains("--shard"));
    assert!(fails(&["--traces", "part.safetensors", "--out", "plan.json"]).contains("cannot be used with"));
    assert!(fails(&["--shard", "1/2", "--traces", "part.safetensors", "--out", "plan.json"]).contains("--out"));
    assert!(fails(&["--shard", "3/2", "--traces", "part.safetensors"]).contains("K from 1 to N"));
    assert!(fails(&["--from-traces", "part.safetensors"]).contains("--out"));
    for flags in [["--engine", "ort"], ["--onnx", &onnx], ["--ort-library", "x.so"], ["--device", "cpu"]] {
        let said = fails(&[&["--from-traces", "part.safetensors", "--out", "plan.json"], &flags[..]].concat());
        assert!(said.contains("cannot be used with") && said.contains(flags[0]), "{said}");
    }
    let said = fails(&["--from-traces", "part.safetensors", "--shard", "1/2", "--traces", "part.safetensors"]);
    assert!(said.contains("cannot be used with"), "{said}");
    assert!(!desk.path("part.safetensors").exists() && !desk.path("plan.json").exists());
}

#[test]
fn traces_are_not_written_over_other_files() {
    let desk = Desk::new();
    let (model, onnx) = (case("llama"), case("llama") + "/model.dynamo.onnx");
    for (name, from) in [("weights.safetensors", model.clone() + "/model.safetensors"), ("export.onnx", onnx.clone())] {
        std::fs::copy(&from, desk.path(name)).unwrap();
        let said = desk.fails(&shard_flags(&model, &onnx, "1/2", name));
        assert!(said.contains(&format!("{name}: is there already and holds no traces")), "{said}");
        assert_eq!(std::fs::read(desk.path(name)).unwrap(), std::fs::read(from).unwrap());
    }
}

#[test]
fn both_exports_give_the_same_plan_id() {
    let desk = Desk::new();
    desk.plan("llama", "dynamo.json", &[]);
    let onnx = case("llama") + "/model.torchscript.onnx";
    desk.done(&["plan", "--model", &case("llama"), "--onnx", &onnx, "--data", "train.jsonl", "--out", "script.json"]);
    let (dynamo, script) = (desk.read_json("dynamo.json"), desk.read_json("script.json"));
    assert_eq!(dynamo["id"], script["id"]);
    assert_ne!(dynamo["onnx"], script["onnx"]);
}

#[test]
fn a_sharded_model_with_external_data_gives_the_same_plan_id() {
    let desk = Desk::new();
    desk.plan("llama", "whole.json", &[]);
    desk.done(&["plan", "--model", &case("llama-sharded"), "--data", "train.jsonl", "--out", "shards.json"]);
    assert_eq!(desk.read_json("whole.json")["id"], desk.read_json("shards.json")["id"]);
}

#[test]
fn layers_prints_every_latent_space() {
    let desk = Desk::new();
    for (name, layers) in [("gpt2", 4), ("gemma3", 4)] {
        let found = desk.json(&["layers", &(case(name) + "/model.torchscript.onnx")]);
        assert_eq!(found["latent_spaces"].as_array().unwrap().len(), layers + 1);
        assert_eq!(found["head"]["shape"], json!([61, 32]));
    }
}

#[test]
fn check_says_no_to_another_model() {
    let desk = Desk::new();
    desk.plan_two();
    let said = desk.says_no(&["check", "plan.json", "--model", &case("qwen2")]);
    assert!(said.contains("family: planned for llama, found qwen2"), "{said}");
}

#[test]
fn training_with_a_plan_for_another_model_is_refused_and_leaves_nothing() {
    let desk = Desk::new();
    desk.plan_two();
    let said = desk.fails(&[&TRAIN[..], &[&case("qwen2"), "--out", "run", "--steps", "1"]].concat());
    assert!(said.contains("does not fit the model") && said.contains("plan again"), "{said}");
    assert!(!desk.path("run").exists());
}

#[test]
fn a_plan_is_not_written_over_other_files() {
    let desk = Desk::new();
    let (model, onnx, data) = (case("llama"), case("llama") + "/model.dynamo.onnx", desk.path("train.jsonl"));
    let before = std::fs::read(&data).unwrap();
    let plan = ["plan", "--model", &model, "--onnx", &onnx, "--data", "train.jsonl", "--out", "train.jsonl"];
    assert!(desk.fails(&plan).contains("train.jsonl: is there already and is no plan"));
    assert_eq!(std::fs::read(&data).unwrap(), before);
    let fails = |out: &str, flags: &[&str]| desk.fails(&[&plan[..7], &["--out", out], flags].concat());
    std::fs::write(desk.path("map.json"), r#"{"version": 3, "sources": []}"#).unwrap();
    assert!(fails("map.json", &[]).contains("map.json: is there already and is no plan"));
    std::fs::write(desk.path("rows.examples.safetensors"), "somebody's").unwrap();
    assert!(fails("rows.json", &["--per-example"]).contains("rows.examples.safetensors: is there already"));
    assert_eq!(std::fs::read(desk.path("rows.examples.safetensors")).unwrap(), b"somebody's");
    assert!(fails(".", &[]).contains("is a folder"));
    desk.plan_two();
    desk.plan_two();
}

#[test]
fn an_edited_plan_is_refused() {
    let desk = Desk::new();
    desk.plan_two();
    let text = std::fs::read_to_string(desk.path("plan.json")).unwrap();
    std::fs::write(desk.path("plan.json"), text.replace("\"frost_line\": 2,\n", "\"frost_line\": 3,\n")).unwrap();
    let said = desk.fails(&[&TRAIN[..], &[&case("llama"), "--out", "run", "--steps", "1"]].concat());
    assert!(said.contains("plan.json: changed since it was written"), "{said}");
    assert_eq!(desk.run(&["check", "plan.json", "--model", &case("llama")]).status.code(), Some(REFUSED));
}

#[test]
fn what_a_terminal_would_obey_is_not_shown() {
    let desk = Desk::new();
    desk.plan_two();
    let mut plan = Plan::read(&desk.path("plan.json")).unwrap();
    plan.onnx.as_mut().unwrap().producer = "\u{1b}[2Jpytorch".into();
    plan.engine.as_mut().unwrap().version = "1\u{1b}[31m".into();
    plan.seal();
    plan.write(&desk.path("plan.json")).unwrap();
    let shown = desk.done(&["show", "plan.json"]);
    assert!(shown.contains("\u{fffd}[31m") && !shown.contains('\u{1b}'), "{shown:?}");
    // Nor in what is wrong, whether a command or its arguments are.
    for arguments in [&["show", "\u{1b}[2J.json"][..], &["show", "plan.json", "\u{1b}[2J.json"]] {
        let said = desk.fails(arguments);
        assert!(said.contains("\u{fffd}[2J.json") && !said.contains('\u{1b}'), "{said:?}");
    }
}

#[test]
fn a_run_is_not_written_over() {
    let desk = Desk::new();
    desk.plan_two();
    let llama = case("llama");
    let train = [&TRAIN[..], &[&llama, "--out", "run", "--steps", "1"]].concat();
    let said = desk.done(&train);
    assert!(said.contains("parameters trained in 1 step, "), "{said}");
    let trained = std::fs::read(desk.path("run/trained.safetensors")).unwrap();
    assert!(desk.fails(&train).contains("exists already"));
    assert_eq!(std::fs::read(desk.path("run/trained.safetensors")).unwrap(), trained);
}

#[test]
fn a_bad_row_names_file_and_line() {
    let desk = Desk::new();
    desk.plan_two();
    std::fs::write(desk.path("bad.jsonl"), rows(2, 0) + "{\"prompt\": \"no end\"}\n").unwrap();
    let said =
        desk.fails(&[&TRAIN[..], &[&case("llama"), "--out", "run", "--steps", "1", "--eval", "bad.jsonl"]].concat());
    assert!(said.contains("bad.jsonl:3: "), "{said}");
    assert!(!desk.path("run").exists());
}

#[test]
fn an_export_of_another_model_is_refused() {
    let desk = Desk::new();
    let onnx = case("llama") + "/model.dynamo.onnx";
    let said = desk.fails(&[
        "plan",
        "--model",
        &case("llama-tied"),
        "--onnx",
        &onnx,
        "--data",
        "train.jsonl",
        "--out",
        "plan.json",
    ]);
    assert!(said.contains("model.dynamo.onnx: not the model in") && said.contains("export this model again"), "{said}");
    assert!(!desk.path("plan.json").exists());
}

#[test]
fn a_budget_that_cannot_be_kept_is_refused() {
    let desk = Desk::new();
    let (model, onnx) = (case("llama"), case("llama") + "/model.dynamo.onnx");
    let said = desk.fails(&[
        "plan",
        "--model",
        &model,
        "--onnx",
        &onnx,
        "--data",
        "train.jsonl",
        "--out",
        "plan.json",
        "--budget",
        "0.1",
    ]);
    assert!(said.contains("budget"), "{said}");
}

#[test]
fn files_that_are_not_there_are_named() {
    let desk = Desk::new();
    assert!(desk.fails(&["show", "no.json"]).contains("no.json"));
    assert!(desk.fails(&["layers", "no.onnx"]).contains("no.onnx"));
    assert!(desk.fails(&["eval", "--model", "no-model", "--data", "test.jsonl"]).contains("no-model"));
    assert!(desk.fails(&["merge", "no-run", "--out", "merged"]).contains("no-run"));
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let desk = Desk::new();
    assert_eq!(desk.run(&["plan"]).status.code(), Some(FAILED));
    desk.plan_two();
    let said = desk.fails(&[&TRAIN[..], &[&case("llama"), "--out", "run", "--steps", "0"]].concat());
    assert!(said.contains("--steps"), "{said}");
    let said = desk.fails(&[&TRAIN[..], &[&case("llama"), "--out", "run", "--epochs", "1e300"]].concat());
    assert!(said.contains("--epochs"), "{said}");
    let said = desk.fails(&["eval", "--model", &case("llama"), "--data", "test.jsonl", "--device", "tpu"]);
    assert!(said.contains("tpu"), "{said}");
}

#[test]
fn lines_every_none_steps_are_refused() {
    let desk = Desk::new();
    let said = desk.fails(&[&TRAIN[..], &["model", "--out", "run", "--steps", "4", "--log-every", "0"]].concat());
    assert!(said.contains("'--log-every <N>': must be a number of steps of at least 1"), "{said}");
}

#[test]
fn a_number_below_zero_is_refused_as_a_value() {
    let desk = Desk::new();
    let files = ["--model", "m", "--data", "d", "--eval", "e", "--strategies", "all", "--steps", "1"];
    let train = ["train", "--plan", "p", "--model", "m", "--data", "d", "--out", "run", "--steps", "1"];
    for (fixed, flag, value, said) in [
        (&train[..], "--lr", "-1", "must be a number above 0"),
        (&train, "--weight-decay", "-0.01", "must be a number not below 0"),
        (&train, "--gradient-clip", "-1", "must be a number above 0"),
        (&train, "--batch-size", "-1", "must be a whole number"),
        (&["plan", "--model", "m", "--data", "d", "--out", "p"], "--budget", "-0.5", "must be a number above 0"),
        (&[&["compare"], &files[..]].concat(), "--learning-rate", "-1", "must be a number above 0"),
    ] {
        let found = desk.fails(&[fixed, &[flag, value]].concat());
        assert!(found.contains(&format!("invalid value '{value}'")) && found.contains(said), "{found}");
    }
}

#[test]
fn a_level_of_the_log_that_there_is_none_of_is_named() {
    let desk = Desk::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_frostline"));
    let output = command.env("FROSTLINE_LOG", "bogus").args(["cache", "list"]).current_dir(desk.path("")).output();
    let (code, said) = output.map(|output| (output.status.code(), String::from_utf8(output.stderr).unwrap())).unwrap();
    assert_eq!(code, Some(FAILED));
    assert!(said.starts_with("error: FROSTLINE_LOG=bogus: `bogus` is no level"), "{said}");
}

#[test]
fn an_output_folder_that_is_not_there_is_found_before_any_work() {
    let desk = Desk::new();
    let llama = case("llama");
    // What is read first is not there either, and is not what is complained of.
    let model = ["--model", "no-model", "--data", "no.jsonl"];
    for flags in [&["--out", "none/plan.json"][..], &["--shard", "1/2", "--traces", "none/plan.json"]] {
        let said = desk.fails(&[&["plan"], &model[..], flags].concat());
        assert_eq!(said, "error: none/plan.json: there is no folder none\n");
    }
    let train = ["train", "--plan", "no.json", "--out", "test.jsonl/run", "--steps", "1"];
    assert_eq!(desk.fails(&[&train, &model[..]].concat()), "error: test.jsonl/run: test.jsonl is no folder\n");

    desk.plan_two();
    let train = [&TRAIN[..], &[&llama, "--out", "new/run", "--steps", "1"]].concat();
    desk.done(&train);
    let said = desk.fails(&["merge", "new/run", "--out", "test.jsonl/merged", "--model", "no-model"]);
    assert_eq!(said, "error: test.jsonl/merged: test.jsonl is no folder\n");
    desk.done(&["merge", "new/run", "--out", "new/merged"]);
}

/// A row that the model was not trained on may lead to what is not finite: said with the model, not as a result.
#[test]
fn a_loss_that_is_not_finite_is_an_error_wherever_one_evaluates() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("model")).unwrap();
    std::fs::copy(case("llama") + "/config.json", desk.path("model/config.json")).unwrap();
    // No row for training holds token 60.
    let weights = std::fs::read(case("llama") + "/model.safetensors").unwrap();
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&weights).unwrap();
    let embedding = metadata.info("model.embed_tokens.weight").unwrap();
    let row = (embedding.data_offsets.1 - embedding.data_offsets.0) / embedding.shape[0];
    let mut weights = weights;
    let from = 8 + header + embedding.data_offsets.0 + 60 * row;
    weights[from..from + row].fill(0xff);
    std::fs::write(desk.path("model/model.safetensors"), weights).unwrap();
    std::fs::write(desk.path("bad.jsonl"), "{\"input_ids\": [3, 60, 5], \"labels\": [-100, -100, 5]}\n").unwrap();

    let model = ["--model", "model", "--data", "train.jsonl"];
    desk.done(&[&["plan", "--strategy", "last:1", "--out", "plan.json"], &model[..]].concat());
    let eval = ["--eval", "bad.jsonl", "--steps", "1"];
    for arguments in [
        &["eval", "--model", "model", "--data", "bad.jsonl"][..],
        &[&["train", "--plan", "plan.json", "--out", "run"], &model[..], &eval].concat(),
        &[&["compare", "--strategies", "last:1"], &model[..], &eval].concat(),
    ] {
        let said = desk.fails(arguments);
        assert!(said.contains("error: model: the loss is NaN: the weights hold or lead to numbers that are"), "{said}");
    }
    // What was trained is kept.
    desk.done(&["eval", "--model", "model", "--run", "run", "--data", "test.jsonl"]);
}

#[test]
#[cfg(not(feature = "cuda"))]
fn a_build_without_cuda_does_not_fall_back_to_the_cpu() {
    let desk = Desk::new();
    let said = desk.fails(&["eval", "--model", &case("llama"), "--data", "test.jsonl", "--device", "cuda:0"]);
    assert!(said.contains("build with the feature `cuda`"), "{said}");
}

#[test]
fn a_cache_changes_nothing_but_the_time() {
    let desk = Desk::new();
    desk.plan_two();
    let llama = case("llama");
    let train = |out: &str, flags: &[&str]| {
        let fixed = [&TRAIN[..], &[&llama, "--steps", "12", "--out", out]].concat();
        desk.done(&[&fixed, flags].concat());
        std::fs::read(desk.path(out).join("trained.safetensors")).unwrap()
    };
    let uncached = train("uncached", &["--cache", "off"]);
    assert!(!desk.path("cache").exists());
    assert!(train("cold", &[]) == uncached);
    let listed = desk.json(&["cache", "list"]);
    assert_eq!((&listed["keys"][0]["examples"], &listed["keys"][0]["of"]["frost_line"]), (&json!(48), &json!(2)));
    assert!(train("warm", &[]) == uncached);
    // Another seed, other batches: nothing is computed again.
    train("other", &["--seed", "7", "--accumulation", "3"]);
    assert_eq!(desk.json(&["cache", "list"])["bytes"], listed["bytes"]);
    let refused = [&TRAIN[..], &[&llama, "--steps", "12", "--out", "run", "--cache", "tight", "--cache-limit", "1KB"]];
    let said = desk.fails(&refused.concat());
    assert!(said.contains("--cache-limit") && said.contains("--cache off"), "{said}");
    assert!(!desk.path("run").exists());
    assert!(desk.fails(&["cache", "clear", ""]).contains("would match every key"));
    assert_eq!(desk.json(&["cache", "list"])["bytes"], listed["bytes"]);
}

#[test]
fn precision_recomputing_and_order_are_flags() {
    let desk = Desk::new();
    desk.plan_two();
    let llama = case("llama");
    let train = |out: &str, flags: &[&str]| {
        let fixed = [&TRAIN[..], &[&llama, "--steps", "6", "--cache", "off", "--out", out]].concat();
        desk.json(&[&fixed, flags].concat())["last_loss"].as_f64().unwrap()
    };
    let plain = train("plain", &[]);
    assert_eq!(train("recomputed", &["--recompute"]), plain);
    let half = train("half", &["--precision", "bf16"]);
    assert!(half != plain && (half / plain - 1.0).abs() < 0.05, "{half} {plain}");
    assert!(train("by-length", &["--order", "length"]) != plain);
}

#[test]
fn a_dry_run_measures_and_leaves_nothing() {
    let desk = Desk::new();
    desk.plan_two();
    let llama = case("llama");
    let dry = [&TRAIN[..], &[&llama, "--steps", "12", "--dry-run"]].concat();
    let said = desk.json(&dry);
    assert_eq!((&said["frost_line"], &said["steps"]), (&json!(2), &json!(12)), "{said}");
    let seconds = |name: &str| said[name].as_f64().unwrap();
    assert!(seconds("step_seconds") > 0.0 && seconds("cached_step_seconds") < seconds("step_seconds"), "{said}");
    #[cfg(target_os = "linux")]
    assert!(said["peak_bytes"].as_u64().unwrap() > 1 << 20, "{said}");
    assert!(desk.done(&dry).starts_with("would train "));
    desk.done(&[&dry[..], &["--out", "run"]].concat());
    assert!(!desk.path("run").exists() && !desk.path("cache").exists());
}

#[test]
fn the_cache_is_listed_and_cleared() {
    let desk = Desk::new();
    assert!(desk.done(&["cache", "list", "--cache", "kept"]).contains("kept: nothing is cached"));
    assert!(!desk.path("kept").exists());

    let (one, two) = (fill_cache(&desk.path("kept"), 1, 4), fill_cache(&desk.path("kept"), 2, 40));
    let listed = desk.done(&["cache", "list", "--cache", "kept"]);
    let row = listed.lines().find(|line| line.starts_with(&two)).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words, [&two, "llama", "2", "f32", "1", "5.2", "KiB", "just", "now"]);
    let listed = desk.json(&["cache", "list", "--cache", "kept"]);
    let frost_lines: Vec<&Json> =
        listed["keys"].as_array().unwrap().iter().map(|key| &key["of"]["frost_line"]).collect();
    assert!(frost_lines.contains(&&json!(1)) && frost_lines.contains(&&json!(2)), "{listed}");

    let said = desk.fails(&["cache", "clear", &one, "no", "--cache", "kept"]);
    assert!(said.contains("no keys begin with `no`") && said.contains("frostline cache list"), "{said}");
    std::fs::write(desk.path("kept/mine.txt"), "mine").unwrap();
    let said = desk.done(&["cache", "clear", &one, "--cache", "kept"]);
    assert!(said.contains("kept: 1 key cleared, ") && said.ends_with("freed\n"), "{said}");
    let left = desk.json(&["cache", "list", "--cache", "kept"]);
    assert_eq!(left["keys"].as_array().unwrap().len(), 1);
    assert_eq!(desk.json(&["cache", "clear", "--cache", "kept"])["bytes"], left["bytes"]);
    assert!(desk.path("kept/mine.txt").exists());
    assert!(desk.done(&["cache", "list", "--cache", "kept"]).contains("nothing is cached"));
}

#[test]
fn a_gram_matrix_is_kept_for_the_next_plan() {
    let desk = Desk::new();
    let plan = |out: &str, flags: &[&str]| {
        desk.plan("llama", out, flags);
        std::fs::read(desk.path(out)).unwrap()
    };
    let fresh = plan("fresh.json", &["--cache", "off"]);
    assert!(!desk.path("cache").exists());
    assert!(plan("kept.json", &[]) == fresh);
    let listed = desk.json(&["cache", "list"]);
    assert_eq!(listed["gram_matrices"]["files"], 1);
    assert!(desk.done(&["cache", "list"]).contains("Gram matrices of LM heads: 1, "));
    assert!(plan("again.json", &[]) == fresh);
    assert_eq!(desk.json(&["cache", "list"]), listed);

    // A broken one is noticed, and made again.
    let folders = std::fs::read_dir(desk.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    let folder = folders.into_iter().find(|path| path.is_dir()).unwrap();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "safetensors")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() - 8]).unwrap();
    assert!(plan("mended.json", &[]) == fresh && std::fs::read(&file).unwrap() == whole);
    let said = desk.done(&["cache", "clear"]);
    assert!(said.contains("0 keys and 1 Gram matrix cleared"), "{said}");
    assert!(!file.exists());
}

#[test]
fn the_cache_is_found_by_the_environment() {
    let desk = Desk::new();
    let key = fill_cache(&desk.path("cache/frostline"), 1, 4);
    let list = |name: &str, value: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frostline"));
        command.args(["cache", "list"]).current_dir(desk.path("")).env_remove("FROSTLINE_CACHE");
        command.env(name, desk.path(value)).output().unwrap()
    };
    let found = |output: Output| String::from_utf8(output.stdout).unwrap().contains(&key);
    assert!(found(list("FROSTLINE_CACHE", "cache/frostline")));
    assert!(!found(list("FROSTLINE_CACHE", "cache")));
    #[cfg(not(windows))]
    assert!(found(list("XDG_CACHE_HOME", "cache")));
    assert!(desk.fails(&["cache", "list", "--cache", "off"]).contains("--cache DIR"));
}

/// Each strategy's plan fits the model, trains what it names and nothing else, and can be shown.
#[test]
fn every_strategy_plans_and_trains() {
    let desk = Desk::new();
    let llama = case("llama");
    for (strategy, frost_line) in [
        ("last:1", 3),
        ("first:2", 0),
        ("every:2", 1),
        ("all", 0),
        ("spectrum:0.5", 0),
        ("manual:2+*.3.mlp.up_proj.weight", 1),
    ] {
        let fixed = ["--model", &llama, "--data", "train.jsonl", "--strategy", strategy, "--out", "rule.json"];
        // No export is named, and the folder holds none by that name: none is run.
        assert_eq!(desk.json(&[&["plan"], &fixed[..]].concat())["frost_line"], frost_line, "{strategy}");
        assert!(desk.done(&["show", "rule.json"]).contains(&format!("decided by the strategy ({strategy})")));
        desk.done(&["check", "rule.json", "--model", &llama]);
        let train = [
            "train",
            "--model",
            &llama,
            "--data",
            "train.jsonl",
            "--plan",
            "rule.json",
            "--steps",
            "3",
            "--out",
            "rule",
        ];
        let trained = desk.json(&train);
        let plan = desk.read_json("rule.json");
        let bytes = std::fs::read(desk.path("rule/trained.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut named: Vec<&str> = plan["tensors"].as_array().unwrap().iter().filter_map(Json::as_str).collect();
        let mut found: Vec<&str> = tensors.names();
        named.sort();
        found.sort();
        assert_eq!(named, found, "{strategy}");
        let cost = plan["cost"].get("planned").unwrap_or(&plan["cost"]["frost_lines"][frost_line as usize]);
        assert_eq!(cost["trained_parameters"], trained["trained_parameters"], "{strategy}");
        std::fs::remove_dir_all(desk.path("rule")).unwrap();
    }
}

/// Plans with gaps, of some kinds of matrices only, and with tensors that have no adapters.
#[test]
fn adapters_beside_what_any_strategy_plans_are_evaluated_and_merged() {
    let desk = Desk::new();
    let llama = case("llama");
    for strategy in ["every:2", "spectrum:0.3", "manual:2+model.embed_tokens.weight", "manual:*.mlp.down_proj.weight"] {
        let model = ["--model", &llama, "--data", "train.jsonl"];
        desk.done(&[&["plan", "--strategy", strategy, "--out", "gaps.json"], &model[..]].concat());
        let lora = ["--method", "lora", "--rank", "4", "--steps", "3", "--out", "gaps"];
        desk.done(&[&["train", "--plan", "gaps.json"], &model[..], &lora].concat());
        let loss = |flags: &[&str]| desk.json(&[&["eval", "--data", "test.jsonl"], flags].concat())["loss"].as_f64();
        desk.done(&["merge", "gaps", "--out", "merged"]);
        let (run, merged) = (loss(&["--model", &llama, "--run", "gaps"]), loss(&["--model", "merged"]));
        assert!((run.unwrap() - merged.unwrap()).abs() < 1e-5, "{strategy}: {run:?} {merged:?}");
        for folder in ["gaps", "merged"] {
            std::fs::remove_dir_all(desk.path(folder)).unwrap();
        }
    }
}

/// Each example as deep as it asks: the plan names the file beside it, and training takes it from there.
#[test]
fn examples_have_frost_lines_of_their_own() {
    let desk = Desk::new();
    let llama = case("llama");
    desk.plan("llama", "one.json", &["--examples", "40"]);
    desk.plan("llama", "each.json", &["--examples", "40", "--per-example"]);
    assert!(desk.path("each.examples.safetensors").exists() && !desk.path("one.examples.safetensors").exists());
    let (one, each) = (desk.read_json("one.json"), desk.read_json("each.json"));
    let ends: Vec<u64> =
        each["spaces"].as_array().unwrap().iter().filter_map(|space| space["ends_here"].as_u64()).collect();
    let lowest = ends.iter().position(|&ends| ends > 0).unwrap();
    assert_eq!(each["decision"]["frost_line"], lowest);
    assert_eq!(each["decision"]["per_example"]["others"], one["decision"]["frost_line"]);
    assert_eq!(each["spaces"], one["spaces"]);
    assert_ne!(each["id"], one["id"]);
    assert!(desk.done(&["show", "each.json"]).contains("each example trains above its own end-of-freezing layer"));
    desk.done(&["check", "each.json", "--model", &llama]);

    let train = |plan: &str, out: &str, flags: &[&str]| {
        let fixed =
            ["train", "--model", &llama, "--data", "train.jsonl", "--plan", plan, "--steps", "12", "--out", out];
        desk.json(&[&fixed[..], &["--batch-size", "4", "--cache", "off"], flags].concat())
    };
    let trained = train("each.json", "each", &[]);
    let metrics = std::fs::read_to_string(desk.path("each/metrics.jsonl")).unwrap();
    let lines: Vec<u64> = metrics
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap()["frost_line"].as_u64().unwrap())
        .collect();
    assert!(lines.iter().min() < lines.iter().max(), "{lines:?}");
    let mean = lines.iter().sum::<u64>() as f64 / lines.len() as f64;
    assert!((trained["mean_frost_line"].as_f64().unwrap() - mean).abs() < 1e-9);
    for (number, flags) in
        [&["--recompute"][..], &["--gradient-clip", "off"], &["--method", "lora"], &["--order", "length"]]
            .iter()
            .enumerate()
    {
        train("each.json", &format!("other-{number}"), flags);
    }
    train("each.json", "dry", &["--dry-run"]);

    // Of one batch a step takes no more than one depth or two: not all seeds reach the deepest layer.
    let refused = (0..12).filter(|seed| {
        let (out, seed) = (format!("short-{seed}"), seed.to_string());
        let plan = ["train", "--model", &llama, "--data", "train.jsonl", "--plan", "each.json", "--cache", "off"];
        let short = ["--steps", "1", "--batch-size", "2", "--seed", &seed, "--out", &out];
        let output = desk.run(&[&plan[..], &short].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        let shallow = output.status.code() == Some(2) && said.contains("in 1 step no row goes below frost line");
        assert!(shallow || output.status.success(), "{said}");
        if !shallow {
            let line = std::fs::read_to_string(desk.path(&format!("{out}/metrics.jsonl"))).unwrap();
            assert_eq!(serde_json::from_str::<Json>(&line).unwrap()["frost_line"], lowest);
        }
        shallow
    });
    assert!((1..12).contains(&refused.count()));
    let shallow = train("one.json", "one", &[]);
    assert_eq!(shallow["mean_frost_line"], Json::Null);

    let fails = |flags: &[&str]| {
        let fixed =
            ["train", "--model", &llama, "--data", "train.jsonl", "--plan", "each.json", "--steps", "1", "--out", "no"];
        desk.fails(&[&fixed, flags].concat())
    };
    assert!(fails(&["--order", "file"]).contains("batches of equal frost lines cannot keep the file's order"));
    // A file of other frost lines, and none at all.
    desk.plan("llama", "other.json", &["--examples", "20", "--per-example"]);
    std::fs::copy(desk.path("other.examples.safetensors"), desk.path("each.examples.safetensors")).unwrap();
    assert!(fails(&[]).contains("each.examples.safetensors: not the frost lines that the plan was made with"));
    std::fs::remove_file(desk.path("each.examples.safetensors")).unwrap();
    let said = fails(&[]);
    assert!(said.contains("each.examples.safetensors: ") && said.contains("writes both"), "{said}");
    assert!(said.contains("(set with `frostline plan --per-example`)"), "{said}");
    assert!(desk.says_no(&["check", "each.json", "--model", &llama]).contains("each.examples.safetensors: "));
    let rule =
        ["plan", "--model", &llama, "--data", "train.jsonl", "--out", "no.json", "--strategy", "all", "--per-example"];
    assert!(desk.fails(&rule).contains("strategy all measures no deviations"));
}

#[test]
fn strategies_that_do_not_fit_are_refused() {
    let desk = Desk::new();
    let llama = case("llama");
    let fixed = ["plan", "--model", &llama, "--data", "train.jsonl", "--out", "no.json", "--strategy"];
    let fails = |flags: &[&str]| desk.fails(&[&fixed, flags].concat());
    assert!(fails(&["lisa"]).contains("`lisa` is no strategy; there are salf, probe, gradient"));
    assert!(fails(&["last:5"]).contains("strategy last:5: the model has 4 layers"));
    assert!(fails(&["manual:1-18446744073709551615"]).contains("nothing matches `1-18446744073709551615`"));
    for (flag, value) in [("--min-trainable-layers", "2"), ("--gain", "difference"), ("--latent-spaces", "a,b")] {
        let said = fails(&["last:1", flag, value]);
        assert!(said.contains("strategy last:1 measures no deviations"), "{said}");
        assert!(said.contains(&format!("(set with {flag} ")), "{said}");
    }
    assert!(fails(&["manual:1+*.q_porj.*"]).contains("nothing matches `*.q_porj.*`"));
    let said = fails(&["all", "--budget", "0.5"]);
    assert!(said.contains("a step costs 1.0000 of a full one, more than the budget of 0.5"), "{said}");
    assert!(said.contains("(set with --budget SHARE)"), "{said}");
    let shard = ["plan", "--model", &llama, "--data", "train.jsonl", "--strategy", "all"];
    let said = desk.fails(&[&shard[..], &["--shard", "1/2", "--traces", "part.safetensors"]].concat());
    assert!(said.contains("strategy all has no traces") && said.contains("(set with --strategy NAME)"), "{said}");
    assert!(!desk.path("no.json").exists());
}

/// A desk with the quickstart's model and rows, and the flags of a comparison of them.
fn comparing() -> (Desk, Vec<&'static str>) {
    let desk = Desk::new();
    desk.done(&["quickstart", "--out", "qs"]);
    let compare = ["compare", "--model", "qs/model", "--data", "qs/train.jsonl", "--max-length", "64"];
    (desk, compare.to_vec())
}

/// The first training of an arm at a rate.
fn training(arm: &Json, rate: f64) -> &Json {
    let trainings = arm["trainings"].as_array().unwrap();
    trainings.iter().find(|training| training["learning_rate"] == rate).unwrap()
}

fn names<'a>(found: &'a Json, list: &str, name: &str) -> Vec<&'a str> {
    found[list].as_array().unwrap().iter().filter_map(|one| one[name].as_str()).collect()
}

#[test]
fn arms_are_compared_at_their_best_rates() {
    let (desk, compare) = comparing();
    let rates = ["--steps", "30", "--learning-rates", "3e-3,1e-5", "--cache", "off"];
    let how =
        ["--strategies", "salf,last:4", "--eval", "qs/test.jsonl", "--plans", "plans", "--picture", "picture.svg"];
    let found = desk.json(&[&compare[..], &rates, &how].concat());
    let arms = found["arms"].as_array().unwrap();
    assert_eq!(names(&found, "arms", "trained"), ["salf", "last:4", "all", "all lora"]);
    assert_eq!((&found["rows"], &found["held_out_rows"]), (&json!(540), &json!(60)));
    for arm in arms {
        // By the loss on rows held back the larger rate is the better one, and it alone is evaluated.
        let [large, small] = [3e-3, 1e-5].map(|rate| training(arm, rate));
        assert!(large["held_out_loss"].as_f64() < small["held_out_loss"].as_f64(), "{arm}");
        assert_eq!((&arm["best_rate"], &arm["best_rate_at_edge"]), (&json!(3e-3), &json!("largest")));
        assert_eq!(arm["test_loss"]["mean"], large["evaluation"]["loss"]);
        assert_eq!(large["steps"], 30);
        let curve = large["curve"].as_array().unwrap();
        assert_eq!(
            curve.iter().map(|point| point["step"].as_u64().unwrap()).collect::<Vec<_>>(),
            [5, 10, 15, 20, 25, 30]
        );
        assert_eq!(curve[5]["held_out_loss"], large["held_out_loss"]);
        let held_out = |point: &&Json| point["held_out_loss"].as_f64().unwrap();
        let least = curve.iter().min_by(|a, b| held_out(a).total_cmp(&held_out(b)));
        assert_eq!(Some(&large["best_point"]), least);
    }
    // The model's own plan trains its last four layers: the same tensors, batches and start give the same losses.
    let evaluation = |arm: &Json| training(arm, 3e-3)["evaluation"].clone();
    assert_eq!(evaluation(&arms[0]), evaluation(&arms[1]));
    assert!(evaluation(&arms[2])["ranking"]["accuracy"].as_f64() > Some(0.5), "{found}");
    assert_eq!(arms[0]["predicted_share"], arms[1]["predicted_share"]);
    assert!(arms[3]["trained_parameters"].as_u64() < arms[2]["trained_parameters"].as_u64());
    assert_eq!(found["verdict"]["measure"], "accuracy");
    for name in ["1-salf", "2-last-4", "3-all"] {
        desk.done(&["check", &format!("plans/{name}.json"), "--model", "qs/model"]);
    }
    assert_eq!(std::fs::read_to_string(desk.path("picture.svg")).unwrap().matches("<polyline").count(), 4);
}

#[test]
fn seeds_give_a_spread_and_only_leaves_out_the_rest() {
    let (desk, compare) = comparing();
    let how = ["--strategies", "last:1", "--methods", "full,lora", "--only", "--rank", "4", "--seeds", "3"];
    let found = desk.json(&[&compare[..], &how, &["--steps", "6", "--lr", "3e-3"]].concat());
    assert_eq!(names(&found, "arms", "trained"), ["last:1", "last:1 lora"]);
    for arm in found["arms"].as_array().unwrap() {
        let trainings = arm["trainings"].as_array().unwrap();
        let seeds: Vec<u64> = trainings.iter().filter_map(|training| training["seed"].as_u64()).collect();
        assert_eq!(seeds, [0, 1, 2]);
        let losses: Vec<f64> = trainings.iter().filter_map(|training| training["held_out_loss"].as_f64()).collect();
        let mean = losses.iter().sum::<f64>() / 3.0;
        assert!((arm["held_out_loss"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{arm}");
        assert!(arm["held_out_loss"]["deviation"].as_f64() > Some(0.0), "{arm}");
        assert_eq!((&arm["test_loss"], &arm["accuracy"]), (&Json::Null, &Json::Null));
        assert_eq!(arm["best_rate_at_edge"], Json::Null);
    }
    assert_eq!(found["verdict"]["measure"], "loss on rows held back");
    assert!(found["verdict"]["noise"].as_f64() > Some(0.0), "{found}");
}

/// A comparison of four arms by steps, so that all of it but its clock is the same whenever it is made.
const FOUR_ARMS: [&str; 8] =
    ["--strategies", "last:1,last:2", "--steps", "3", "--learning-rates", "3e-3,1e-3", "--cache", "off"];

/// What two machines write of it: the files `1.json` and `2.json`.
fn two_shards(desk: &Desk, compare: &[&str]) {
    for number in ["1", "2"] {
        let (shard, results) = (format!("{number}/2"), format!("{number}.json"));
        desk.done(&[compare, &FOUR_ARMS, &["--arm", &shard, "--results", &results]].concat());
    }
}

/// Without what a clock and the system's memory say.
fn without_clock(mut found: Json) -> Json {
    match &mut found {
        Json::Object(fields) => {
            fields.retain(|name, _| !["seconds", "filling_seconds", "peak_bytes"].contains(&name.as_str()));
            fields.values_mut().for_each(|value| *value = without_clock(value.take()));
        }
        Json::Array(list) => list.iter_mut().for_each(|value| *value = without_clock(value.take())),
        _ => {}
    }
    found
}

#[test]
fn results_of_shards_make_the_comparison_of_one_machine() {
    let (desk, compare) = comparing();
    let compare = [&compare[..], &["--eval", "qs/test.jsonl"]].concat();
    let one = desk.json(&[&compare[..], &FOUR_ARMS].concat());
    let said = desk.done(&[&compare[..], &FOUR_ARMS, &["--arm", "1/2", "--results", "1.json"]].concat());
    assert!(said.starts_with("1.json: shard 1/2, 2 of 4 arms in ") && said.ends_with(" s: last:1, all\n"), "{said}");
    two_shards(&desk, &compare);
    // The model and the rows need not be there.
    std::fs::remove_dir_all(desk.path("qs")).unwrap();
    let merge = ["compare", "--from-results", "2.json", "1.json"];
    let merged = desk.json(&[&merge[..], &["--picture", "picture.svg"]].concat());
    assert_eq!(without_clock(merged.clone()), without_clock(one));
    assert_eq!(names(&merged, "arms", "trained"), ["last:1", "last:2", "all", "all lora"]);
    let results = desk.read_json("2.json");
    assert_eq!(merged["arms"][1]["trainings"][0]["seconds"], results["arms"][0]["trainings"][0]["seconds"]);
    assert_eq!(std::fs::read_to_string(desk.path("picture.svg")).unwrap().matches("<polyline").count(), 4);
    let said = desk.done(&merge);
    assert!(said.starts_with("3 steps for each training, 16 rows a step; rates chosen by the loss on 60"), "{said}");
}

#[test]
fn results_that_are_not_one_comparison_are_refused() {
    let (desk, compare) = comparing();
    two_shards(&desk, &compare);
    let said = |files: &[&str]| desk.fails(&[&["compare", "--from-results"], files].concat());
    assert!(said(&["2.json"]).contains("2.json: shard 2/2, but no file holds shard 1; train each of the 2 shards"));
    std::fs::copy(desk.path("1.json"), desk.path("copy.json")).unwrap();
    assert!(
        said(&["1.json", "copy.json"]).contains("copy.json: shard 1/2, which 1.json is, too; give each shard once")
    );
    assert!(said(&["1.json", "none.json"]).contains("none.json: "));
    let other = |flags: &[&str], shard: &str| {
        desk.done(&[&compare[..], flags, &["--arm", shard, "--results", "other.json"]].concat());
        said(&["1.json", "other.json"])
    };
    let found = other(&FOUR_ARMS, "2/3");
    assert!(found.contains("other.json: of another comparison than 1.json: `shard` is 2/3, there 1/2;"), "{found}");
    let found = other(&[&FOUR_ARMS[..], &["--batch-size", "8"]].concat(), "2/2");
    assert!(found.contains("1.json: `training.batch_size` is 8, there 16; train one of them again"), "{found}");
    let found =
        other(&["--strategies", "last:1", "--steps", "5", "--lr", "1e-3", "--only", "--methods", "lora"], "2/2");
    for differs in ["`budget.steps` is 5, there 3", "`rates.these` is [0.001], there [0.003, 0.001]", "lora rank 16"] {
        assert!(found.contains(differs), "{found}");
    }
    let rows = std::fs::read_to_string(desk.path("qs/train.jsonl")).unwrap();
    std::fs::write(desk.path("qs/train.jsonl"), rows.split_inclusive('\n').take(500).collect::<String>()).unwrap();
    let found = other(&FOUR_ARMS, "2/2");
    assert!(found.contains("`data.file` is ") && found.contains("`data.trained_rows` is 450, there 540"), "{found}");
}

#[test]
fn results_that_are_damaged_are_refused() {
    let (desk, compare) = comparing();
    desk.done(&[&compare[..], &FOUR_ARMS, &["--arm", "4/4", "--results", "part.json"]].concat());
    let text = std::fs::read_to_string(desk.path("part.json")).unwrap();
    let said = |text: &str| {
        std::fs::write(desk.path("bad.json"), text).unwrap();
        desk.fails(&["compare", "--from-results", "bad.json"])
    };
    assert!(said(&text[..text.len() / 2]).contains("bad.json: not a whole file of arms' results: EOF"));
    assert!(said("").contains("not a whole file of arms' results"));
    assert!(said("[".repeat(100_000).as_str()).contains("not a whole file of arms' results"));
    let found = said(&text.replacen("\"version\": 1", "\"version\": 2", 1));
    assert!(found.contains("version 2 of the results file is newer than 1") && found.contains("update"), "{found}");
    let found = said(&text.replacen("\"seeds\": 1", "\"seeds\": 3", 1));
    assert!(found.contains("bad.json: changed since it was written: `checksum` says sha256:"), "{found}");
    assert!(found.contains("restore the file or train shard 4/4 again"), "{found}");
    assert!(said(&text.replacen("\"seeds\": 1", "\"seeds\": 1, \"extra\": 0", 1)).contains("unknown field `extra`"));
    assert!(said(&text.replacen("\"4/4\"", "\"5/4\"", 1)).contains("`5/4` is no shard"));
    assert!(said(&text.replacen("\"seeds\": 1", "\"seeds\": -1", 1)).contains("not a whole file"));
    desk.plan_two();
    assert!(desk.fails(&["compare", "--from-results", "plan.json"]).contains("not a whole file of arms' results"));
    assert_eq!(desk.run(&["compare", "--from-results", "."]).status.code(), Some(FAILED));
}

#[test]
fn flags_of_results_that_make_no_sense_are_refused() {
    let (desk, compare) = comparing();
    let said = |flags: &[&str]| desk.fails(&[&compare[..], &FOUR_ARMS, flags].concat());
    assert!(said(&["--arm", "1/2"]).contains("--results"));
    assert!(said(&["--results", "part.json"]).contains("--arm"));
    assert!(said(&["--arm", "3/2", "--results", "part.json"]).contains("K from 1 to N"));
    assert!(said(&["--arm", "1/2", "--results", "part.json", "--picture", "x.svg"]).contains("cannot be used with"));
    let found = said(&["--arm", "1/2", "--results", "qs/train.jsonl"]);
    assert!(found.contains("qs/train.jsonl: is there already and holds no results of arms"), "{found}");
    assert!(said(&["--arm", "1/2", "--results", "none/part.json"]).contains("there is no folder none"));
    for flags in [
        ["--model", "qs/model"],
        ["--data", "qs/train.jsonl"],
        ["--steps", "3"],
        ["--seconds", "3"],
        ["--seed", "3"],
        ["--seeds", "3"],
        ["--strategies", "all"],
        ["--threads", "1"],
        ["--max-length", "64"],
        ["--arm", "1/2"],
    ] {
        let found = desk.fails(&[&["compare", "--from-results", "part.json"], &flags[..]].concat());
        assert!(found.contains("cannot be used with") && found.contains(flags[0]), "{found}");
    }
    assert!(!desk.path("part.json").exists());
}

#[test]
fn seconds_are_a_budget_of_which_filling_the_cache_is_a_part() {
    let (desk, compare) = comparing();
    // So few that the budget is several passes on any machine.
    let rows = std::fs::read_to_string(desk.path("qs/train.jsonl")).unwrap();
    let few: String = rows.split_inclusive('\n').take(48).collect();
    std::fs::write(desk.path("few.jsonl"), few).unwrap();
    let compare = compare.iter().map(|&flag| if flag == "qs/train.jsonl" { "few.jsonl" } else { flag });
    let compare: Vec<&str> = compare.collect();
    let how = ["--only", "--seconds", "1.5", "--lr", "1e-3"];
    let found = desk.json(&[&compare[..], &how, &["--strategies", "last:2,manual:7-8"]].concat());
    let number = |arm: usize, name: &str| found["arms"][arm]["trainings"][0][name].as_f64().unwrap();
    for arm in [0, 1] {
        // The last step ends a little later.
        let (seconds, steps) = (number(arm, "seconds"), number(arm, "steps"));
        assert!((1.5..3.0).contains(&seconds) && steps > 3.0, "{found}");
        assert!(number(arm, "filling_seconds") > 0.0, "{found}");
    }
    // The second arm finds what the first has kept, and pays as much for it.
    assert_eq!(number(0, "filling_seconds"), number(1, "filling_seconds"));
    let found = desk.json(&[&compare[..], &how, &["--strategies", "last:2", "--cache", "off"]].concat());
    assert_eq!(found["arms"][0]["trainings"][0]["filling_seconds"], 0.0);
}

#[test]
fn a_training_that_overfits_is_said_to() {
    let (desk, compare) = comparing();
    // Completions that follow from nothing: what is learned of some says nothing of the others.
    let rows = std::fs::read_to_string(desk.path("qs/train.jsonl")).unwrap();
    let rows: Vec<Json> = rows.lines().take(40).map(|row| serde_json::from_str(row).unwrap()).collect();
    let shuffled = (0..40).map(|row| {
        let (prompt, completion) = (&rows[row]["prompt"], &rows[(row * 7 + 3) % 40]["completion"]);
        json!({"prompt": prompt, "completion": completion}).to_string() + "\n"
    });
    std::fs::write(desk.path("qs/train.jsonl"), shuffled.collect::<String>()).unwrap();
    let how = ["--strategies", "all", "--only", "--steps", "60", "--lr", "3e-3", "--held-out", "0.3"];
    let said = desk.done(&[&compare[..], &how, &["--batch-size", "8"]].concat());
    let (_, line) = said.split_once("\n* all: the loss on rows held back was least at step ").unwrap();
    assert!(line.contains(" of 60: a longer training overfits\n") && said.contains("  * "), "{said}");
}

#[test]
fn a_rate_that_diverges_is_no_choice() {
    let (desk, compare) = comparing();
    let how = ["--strategies", "last:2", "--only", "--steps", "8", "--learning-rates", "1e30,1e-3"];
    let found = desk.json(&[&compare[..], &how].concat());
    let arm = &found["arms"][0];
    assert_eq!((&training(arm, 1e30)["held_out_loss"], &arm["best_rate"]), (&Json::Null, &json!(1e-3)));
    let how = ["--strategies", "last:2", "--only", "--steps", "8", "--learning-rates", "1e30"];
    let said = desk.done(&[&compare[..], &how].concat());
    assert!(said.contains("diverged") && said.contains("all trainings diverged"), "{said}");
}

#[test]
fn a_comparison_that_makes_no_sense_is_refused() {
    let (desk, compare) = comparing();
    let said = |flags: &[&str]| desk.fails(&[&compare[..], flags].concat());
    let steps = ["--steps", "2", "--strategies"];
    assert!(said(&[&steps[..], &["all,salf,all"]].concat()).contains("all is there twice"));
    assert!(said(&[&steps[..], &["all,last:9"]].concat()).contains("strategy last:9: the model has 8 layers"));
    assert!(said(&["--strategies", "all"]).contains("--steps <N>|--seconds <N>"));
    assert!(said(&["--strategies", "all", "--steps", "2", "--seconds", "3"]).contains("cannot be used with"));
    assert!(said(&[&steps[..], &["all", "--held-out", "1"]].concat()).contains("above 0 and below 1"));
    assert!(said(&[&steps[..], &["all", "--lr", "1e-3,1e-3"]].concat()).contains("one is there twice"));
    assert!(said(&[&steps[..], &["all", "--picture", "qs"]].concat()).contains("qs: is a folder; name a file in it"));
    let rows = said(&[&steps[..], &["all", "--picture", "qs/train.jsonl"]].concat());
    assert!(rows.contains("train.jsonl: is there already and is no picture"), "{rows}");
    std::fs::write(desk.path("one.jsonl"), "{\"prompt\": \"a\", \"completion\": \" b\"}\n").unwrap();
    let one = ["compare", "--model", "qs/model", "--data", "one.jsonl", "--strategies", "all", "--steps", "2"];
    let said = desk.fails(&one);
    assert!(said.contains("of fewer than two different ones none can be"), "{said}");
}

#[test]
fn the_quickstart_runs() {
    let desk = Desk::new();
    let summary = desk.json(&["quickstart", "--out", "quickstart"]);
    let ways = summary["ways"].as_array().unwrap();
    let accuracy = |way: &Json| way["evaluation"]["ranking"]["accuracy"].as_f64().unwrap();
    assert_eq!(ways.len(), 2);
    // All layers and the plan learn the task, each at its own rate; the plan trains less.
    assert!(accuracy(&ways[0]) > 0.8 && accuracy(&ways[1]) > 0.8, "{summary}");
    assert!(ways[1]["trained_parameters"].as_u64() < ways[0]["trained_parameters"].as_u64());
    desk.done(&["check", "quickstart/plan.json", "--model", "quickstart/model"]);
}

/// What is printed after `next:` works as it stands.
#[test]
fn what_comes_next_works_as_it_stands() {
    let desk = Desk::new();
    let said = desk.done(&["quickstart", "--out", "my quickstart"]);
    let (_, next) = said.split_once("next:\n").unwrap();
    let commands: Vec<&str> = next.lines().map(str::trim).collect();
    assert_eq!(commands.len(), 2, "{said}");
    for command in commands {
        let output = Command::new("sh").args(["-c", command]).current_dir(desk.path("")).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // The rate in it is one that teaches.
    let trained = std::fs::read_to_string(desk.path("my quickstart/run/metrics.jsonl")).unwrap();
    let loss = |line: Option<&str>| serde_json::from_str::<Json>(line.unwrap()).unwrap()["loss"].as_f64().unwrap();
    assert!(loss(trained.lines().last()) < 0.1 * loss(trained.lines().next()), "{trained}");
}

#[test]
fn training_says_how_it_goes() {
    let desk = Desk::new();
    desk.plan_two();
    let llama = case("llama");
    let train = |out: &str, flags: &[&str]| {
        let fixed = [&TRAIN[..], &[&llama, "--steps", "40", "--out", out]].concat();
        let output = desk.run(&[&fixed, flags].concat());
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let lines = |said: &str| said.lines().filter(|line| line.contains(" of 40: loss ")).count();
    let said = train("auto", &[]);
    assert_eq!(lines(&said), 10, "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains("the loss has not fallen"), "{said}");
    assert_eq!(lines(&train("some", &["--log-every", "16"])), 2);
    assert_eq!(lines(&train("off", &["--log-every", "off"])), 0);
    assert_eq!(train("quiet", &["--quiet"]), "");
    let still = ["train", "--plan", "plan.json", "--data", "train.jsonl", "--model", &llama, "--lr", "1e-12"];
    let output = desk.run(&[&still[..], &["--steps", "40", "--out", "still"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the loss has not fallen") && said.contains("--learning-rate"), "{said}");
}
