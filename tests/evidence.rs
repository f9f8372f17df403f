//! Plans by what gradients and short trainings show, and the learning rates that come with any plan.
#![cfg(all(feature = "plan", feature = "train"))]

mod desk;

use std::path::Path;

use desk::{Desk, case};
use serde_json::{Value as Json, json};

/// A desk with the quickstart's model and rows.
fn quickstart() -> Desk {
    let desk = Desk::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
    std::fs::create_dir(desk.path("qs")).unwrap();
    for file in
        ["config.json", "model.safetensors", "model.onnx", "tokenizer.json", "tokenizer_config.json", "train.jsonl"]
    {
        std::fs::copy(from.join(file), desk.path("qs").join(file)).unwrap();
    }
    desk
}

const QUICKSTART: [&str; 7] = ["plan", "--model", "qs", "--data", "qs/train.jsonl", "--max-length", "64"];
/// Probes for a training of 200 steps.
const PROBES: [&str; 6] = ["--strategy", "probe", "--steps", "300", "--probe-budget", "0.3"];

/// Plans the llama of the tests by gradients, its rows alone: no export is there.
fn by_gradients(desk: &Desk, strategy: &str, out: &str) -> Json {
    let llama = case("llama");
    let fixed = ["plan", "--model", &llama, "--data", "train.jsonl", "--strategy", strategy, "--out", out];
    desk.done(&fixed);
    desk.read_json(out)
}

#[test]
fn gradients_choose_layers_within_a_share_and_the_plan_trains() {
    let desk = Desk::new();
    let plan = by_gradients(&desk, "gradient:0.8", "plan.json");
    assert_eq!(plan["method"]["strategy"], "gradient:0.8");
    let card = &plan["gradients"];
    assert_eq!((&card["batches"], &card["rows"]), (&json!(3), &json!(16)));
    assert_eq!(card["layers"].as_array().unwrap().len(), 4);
    let share = match &plan["cost"]["planned"] {
        Json::Null => &plan["cost"]["frost_lines"][plan["decision"]["frost_line"].as_u64().unwrap() as usize]["share"],
        planned => &planned["share"],
    };
    assert!(share.as_f64().unwrap() <= 0.8, "{share}");
    assert_eq!(plan["learning_rate"]["origin"], "gradients");
    let llama = case("llama");
    desk.done(&["check", "plan.json", "--model", &llama]);
    let train = ["train", "--plan", "plan.json", "--data", "train.jsonl", "--steps", "2", "--out", "run", "--model"];
    let trained = desk.json(&[&train[..], &[&llama]].concat());
    assert_eq!(trained["learning_rate"], plan["learning_rate"]["full"]);
    let shown = desk.done(&["show", "plan.json"]);
    assert!(shown.contains("gradients of 3 batches of at most 16 examples"), "{shown}");
    assert!(shown.contains("by how large gradients are"), "{shown}");
}

#[test]
fn gradients_give_the_same_plan_each_time_and_all_layers_for_all_of_a_step() {
    let desk = Desk::new();
    let (one, two) = (by_gradients(&desk, "gradient", "one.json"), by_gradients(&desk, "gradient:0.6", "two.json"));
    assert_eq!(one, two);
    let all = by_gradients(&desk, "gradient:1", "all.json");
    assert_eq!((&all["decision"]["frost_line"], &all["learning_rate"]["full"]), (&json!(0), &json!(2e-5)));
}

#[test]
fn layers_that_cost_so_little_are_none() {
    let desk = Desk::new();
    let llama = case("llama");
    let plan = ["plan", "--model", &llama, "--data", "train.jsonl", "--out", "no.json", "--strategy"];
    let said = desk.fails(&[&plan[..], &["gradient:0.1"]].concat());
    assert!(said.contains("no layers that cost so little of a full step"), "{said}");
    assert!(said.contains("(set with --strategy NAME)"), "{said}");
    let said = desk.fails(&[&plan[..], &["gradient", "--per-example"]].concat());
    assert!(said.contains("strategy gradient:0.6 measures no deviations"), "{said}");
    assert!(!desk.path("no.json").exists());
}

#[test]
fn gradients_are_recorded_beside_what_decides() {
    let desk = Desk::new();
    desk.plan("llama", "plain.json", &[]);
    desk.plan("llama", "both.json", &["--signals", "gradient"]);
    let [plain, both] = ["plain.json", "both.json"].map(|name| desk.read_json(name));
    assert_eq!((&plain["id"], &plain["spaces"]), (&both["id"], &both["spaces"]));
    assert!(plain["gradients"].is_null() && both["gradients"].is_object());
    assert_ne!(plain["checksum"], both["checksum"]);
}

#[test]
fn a_plan_recommends_a_rate_and_training_takes_it_unless_told_otherwise() {
    let desk = Desk::new();
    desk.plan_two();
    let llama = case("llama");
    let train = ["train", "--plan", "plan.json", "--data", "train.jsonl", "--steps", "2", "--model", &llama];
    let rate =
        |flags: &[&str], out: &str| desk.json(&[&train[..], flags, &["--out", out]].concat())["learning_rate"].clone();
    // Two layers of four: twice the rate of all, and ten times that for adapters.
    assert_eq!(desk.read_json("plan.json")["learning_rate"], json!({"full": 4e-5, "lora": 4e-4, "origin": "rule"}));
    assert_eq!(rate(&[], "a"), 4e-5);
    assert_eq!(rate(&["--method", "lora"], "b"), 4e-4);
    assert_eq!(rate(&["--learning-rate", "1e-3"], "c"), 1e-3);
    let run = desk.run(&[&train[..], &["--out", "d"]].concat());
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains("learning rate 4e-5, as planned: by how many layers are trained"), "{said}");
}

#[test]
fn probes_plan_with_and_without_an_export() {
    let desk = quickstart();
    desk.done(&[&QUICKSTART[..], &PROBES, &["--out", "plan.json"]].concat());
    let plan = desk.read_json("plan.json");
    let probes = &plan["probes"];
    let named = |probes: &Json| -> Vec<String> {
        probes["arms"].as_array().unwrap().iter().map(|arm| arm["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(["all", "last:5", "last:4", "last:2"].iter().all(|name| named(probes).contains(&(*name).to_owned())));
    assert_eq!(plan["learning_rate"]["origin"], "probe");
    assert_eq!(plan["method"]["probe"]["rule"], json!({"name": "cheapest", "tolerance": 0.01}));
    // What is stated of the budget is kept.
    assert!(probes["share"].as_f64().unwrap() <= 0.31, "{}", probes["share"]);
    let chosen = probes["arms"].as_array().unwrap().iter().find(|arm| arm["name"] == probes["chosen"]).unwrap();
    assert_eq!(chosen["frost_line"], plan["decision"]["frost_line"]);
    desk.done(&["check", "plan.json", "--model", "qs"]);

    let shown = desk.done(&["show", "plan.json"]);
    let last: Vec<&str> = shown.lines().rev().take(3).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(last, ["expect", "costs", "trains"], "{shown}");
    assert!(shown.contains("full training"), "{shown}");

    // Again, and without an export: SALF's choice is no arm then.
    std::fs::remove_file(desk.path("qs/model.onnx")).unwrap();
    desk.done(&[&QUICKSTART[..], &PROBES, &["--out", "without.json"]].concat());
    let without = desk.read_json("without.json");
    assert!(!named(&without["probes"]).contains(&"salf".to_owned()));
    assert_eq!(without["data"], plan["data"]);
}

#[test]
fn probes_give_the_same_plan_each_time() {
    let desk = quickstart();
    let ids = ["one.json", "two.json"].map(|out| {
        desk.done(&[&QUICKSTART[..], &PROBES, &["--out", out]].concat());
        let plan = desk.read_json(out);
        let trainings: Vec<Json> =
            plan["probes"]["arms"].as_array().unwrap().iter().map(|arm| arm["trainings"].clone()).collect();
        (plan["id"].clone(), trainings)
    });
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn within_a_budget_probes_choose_the_best() {
    let desk = quickstart();
    desk.done(&[&QUICKSTART[..], &PROBES, &["--budget", "0.5", "--out", "plan.json"]].concat());
    let plan = desk.read_json("plan.json");
    assert_eq!(plan["method"]["probe"]["rule"], json!({"name": "within", "share": 0.5}));
    for arm in plan["probes"]["arms"].as_array().unwrap() {
        assert!(arm["expected"]["share"].as_f64().unwrap() <= 0.5, "{arm}");
    }
}

#[test]
fn within_seconds_probes_choose_what_fits_and_the_id_stays() {
    let desk = quickstart();
    let ids = ["one.json", "two.json"].map(|out| {
        desk.done(&[&QUICKSTART[..], &PROBES, &["--seconds", "3", "--out", out]].concat());
        let plan = desk.read_json(out);
        assert_eq!(plan["method"]["probe"]["rule"], json!({"name": "seconds", "seconds": 3.0}));
        for arm in plan["probes"]["arms"].as_array().unwrap() {
            let expected = &arm["expected"];
            assert!(expected["seconds"].as_f64().unwrap() <= 3.0 || expected["steps"] == 1, "{arm}");
        }
        plan["method"].clone()
    });
    assert_eq!(ids[0], ids[1]);
}

/// Answers that are text are judged by their loss.
#[test]
fn probes_of_text_say_what_loss_to_expect() {
    let desk = quickstart();
    let rows = std::fs::read_to_string(desk.path("qs/train.jsonl")).unwrap();
    let text = |line: &str| {
        let row: Json = serde_json::from_str(line).unwrap();
        json!({"text": format!("{}{}", row["prompt"].as_str().unwrap(), row["completion"].as_str().unwrap())})
    };
    let rows: Vec<String> = rows.lines().map(|line| text(line).to_string() + "\n").collect();
    std::fs::write(desk.path("text.jsonl"), rows.concat()).unwrap();
    let plan = ["plan", "--model", "qs", "--data", "text.jsonl", "--max-length", "64", "--out", "plan.json"];
    desk.done(&[&plan[..], &PROBES].concat());
    let plan = desk.read_json("plan.json");
    assert_eq!(plan["method"]["probe"]["rule"], json!({"name": "cheapest", "tolerance": 0.05}));
    assert!(plan["probes"]["arms"].as_array().unwrap().iter().all(|arm| arm["expected"]["accuracy"].is_null()));
    assert!(desk.done(&["show", "plan.json"]).contains("expect   loss "));
}

#[test]
fn probes_that_make_no_sense_are_refused() {
    let desk = quickstart();
    let fails = |flags: &[&str]| desk.fails(&[&QUICKSTART[..], flags, &["--out", "no.json"]].concat());
    let said = fails(&["--strategy", "probe", "--steps", "200", "--probe-budget", "0.01"]);
    assert!(
        said.contains("probes of the fewest steps cost 0.") && said.contains("(set with --probe-budget SHARE)"),
        "{said}"
    );
    let said = fails(&["--strategy", "probe", "--steps", "300", "--budget", "1e-9"]);
    assert!(said.contains("not one step of any arm costs or takes so little"), "{said}");
    for flags in [["--steps", "9"], ["--tolerance", "0.1"], ["--seconds", "5"], ["--probe-budget", "0.2"]] {
        let said = fails(&flags);
        assert!(said.contains(&format!("{} says how probes plan: add --strategy probe", flags[0])), "{said}");
    }
    let said = fails(&["--strategy", "probe", "--tolerance", "0.1", "--budget", "0.5"]);
    assert!(said.contains("cannot be used with"), "{said}");
    let said = fails(&["--strategy", "probe", "--shard", "1/2", "--traces", "t.safetensors"]);
    assert!(said.contains("cannot be used with") || said.contains("has no traces"), "{said}");
    assert!(!desk.path("no.json").exists());
}

#[test]
fn an_edited_rate_shows() {
    let desk = Desk::new();
    desk.plan_two();
    let text = std::fs::read_to_string(desk.path("plan.json")).unwrap();
    let edited = text.replacen("4e-05", "5e-05", 1).replacen("0.00004", "0.00005", 1);
    assert_ne!(edited, text);
    std::fs::write(desk.path("edited.json"), edited).unwrap();
    assert!(desk.fails(&["show", "edited.json"]).contains("changed since it was written"));
}
