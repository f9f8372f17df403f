//! The plan file: what it is bound to, and each way in which it can be bad.

mod corrupt;

use std::path::Path;
use std::sync::LazyLock;

use frostline_schemas::data::{self, Encoder, Example, RowSettings, RowsAsRead};
use frostline_schemas::digest::Digest;
use frostline_schemas::model::DecoderConfig;
use frostline_schemas::model::{ModelFolder, ModelIdentity};
use frostline_schemas::plan::{
    Aggregate, DataIdentity, DecidedBy, Decision, EngineUsed, ExampleFrostLines, Expected, ExportPrecision, Gain,
    GradientCard, LayerGradients, LearningRate, OnnxIdentity, Plan, PlanError, PlanMethod, ProbeMethod, ProbeRule,
    ProbeTraining, ProbeVerdict, ProbedArm, Probes, REVISION, RateOrigin, SpaceMeasured, Stability, VERSION, beside,
};
use frostline_schemas::select::Strategy;
use frostline_schemas::select::{CostTable, StepShape};
use frostline_schemas::{model, select::scope};
use proptest::prelude::{prop_assert, prop_assert_eq, prop_assume, proptest};

fn case(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases").join(name)
}

fn plan() -> Plan {
    let config = model::read_config(&case("llama")).unwrap();
    let layers = config.layers.len();
    let space = |space: usize| SpaceMeasured {
        space,
        deviation: 0.9 - 0.1 * space as f64,
        spread: 0.01,
        gain: (space > 0).then_some(0.2),
        ends_here: usize::from(space == 2) * 8,
        variability: Some(1.5),
        cka_distance: (space > 0).then_some(0.25),
    };
    let mut plan = Plan {
        version: VERSION,
        revision: REVISION,
        id: Digest::of(b""),
        model: frostline_schemas::model::ModelFolder::open(&case("llama")).unwrap().identity().unwrap(),
        onnx: Some(OnnxIdentity {
            digest: Digest::of(b"onnx"),
            producer: "pytorch 2.15".into(),
            opset: 18,
            precision: ExportPrecision::F32,
        }),
        data: DataIdentity {
            file: Digest::of(b"data"),
            rows: 10,
            examples: 8,
            seed: 0,
            max_length: 512,
            sample: Digest::of(b"sample"),
            tokens: 80,
            targets: 8,
            rows_as: RowsAsRead::default(),
        },
        method: PlanMethod {
            strategy: Strategy::Salf,
            gain: Some(Gain::PowerLaw),
            aggregate: Some(Aggregate::Median),
            min_trainable_layers: Some(1),
            budget: None,
            probe: None,
            latent_spaces: None,
        },
        engine: Some(EngineUsed { name: "tract".into(), version: "0.23".into(), provider: "cpu".into() }),
        decision: Decision {
            frost_line: 2,
            decided_by: DecidedBy::Examples,
            before_budget: 2,
            per_example: None,
            stability: Some(Stability { agree: 0.97, low: 1, high: 2 }),
        },
        learning_rate: Some(LearningRate::by_rule(&config, &scope::tensors(&config, 2))),
        spaces: (0..=layers).map(space).collect(),
        gradients: None,
        probes: None,
        ridge: Some(0.0),
        cost: CostTable::new(&config, StepShape { rows: 16, tokens_per_row: 10.0, targets_per_row: 1.0 }),
        tensors: scope::tensors(&config, 2),
        checksum: Digest::of(b""),
    };
    plan.seal();
    plan
}

static SEALED: LazyLock<Plan> = LazyLock::new(plan);
static MODEL: LazyLock<(ModelIdentity, DecoderConfig)> = LazyLock::new(|| {
    let llama = ModelFolder::open(&case("llama")).unwrap();
    (llama.identity().unwrap(), llama.config)
});

fn parse(text: &str) -> Result<Plan, PlanError> {
    Plan::parse(Path::new("plan.json"), text.as_bytes())
}

/// The sealed plan's text with one piece of it replaced.
fn edited(from: &str, to: &str) -> String {
    let text = plan().to_text().unwrap();
    assert!(text.contains(from), "{text}");
    text.replacen(from, to, 1)
}

#[test]
fn what_is_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    plan().write(&path).unwrap();
    assert_eq!(Plan::read(&path).unwrap(), plan());
}

#[test]
fn white_space_and_line_ends_do_not_matter() {
    let text = plan().to_text().unwrap();
    assert_eq!(parse(&text.replace('\n', "\r\n")).unwrap(), plan());
}

#[test]
fn the_id_does_not_depend_on_measured_floats_or_the_engine() {
    let mut other = plan();
    other.spaces[1].deviation += 1e-6;
    other.engine.as_mut().unwrap().name = "ort".into();
    other.onnx.as_mut().unwrap().digest = Digest::of(b"another export");
    other.ridge = Some(1e-9);
    other.seal();
    assert_eq!(other.id, plan().id);
    assert_ne!(other.checksum, plan().checksum);
}

#[test]
fn the_id_depends_on_all_that_is_bound_and_decided() {
    let changes: [fn(&mut Plan); 7] = [
        |plan| plan.method.latent_spaces = Some(vec!["hidden".into()]),
        |plan| plan.model.weights = Digest::of(b"other"),
        |plan| plan.model.tokenizer = Some(Digest::of(b"other")),
        |plan| plan.data.sample = Digest::of(b"other"),
        |plan| plan.method.budget = Some(0.5),
        |plan| plan.decision.frost_line = 1,
        |plan| plan.tensors.truncate(1),
    ];
    for change in changes {
        let mut other = plan();
        change(&mut other);
        other.seal();
        assert_ne!(other.id, plan().id);
    }
}

#[test]
fn a_plan_says_how_many_parameters_its_frost_line_leaves_to_train() {
    let (config, plan) = (model::read_config(&case("llama")).unwrap(), plan());
    let wanted = config.tensors().into_iter().filter(|tensor| plan.tensors.contains(&tensor.name));
    assert_eq!(plan.trained_parameters(), wanted.map(|tensor| tensor.elements()).sum::<u64>());
}

#[test]
fn a_share_that_is_only_rounded_to_the_budget_does_not_fit_it() {
    let mut cost = plan().cost;
    cost.frost_lines[0].flops = 1_000_000;
    (cost.frost_lines[2].flops, cost.frost_lines[2].share) = (500_040, 0.5);
    (cost.frost_lines[3].flops, cost.frost_lines[3].share) = (500_000, 0.5);
    assert!(!cost.fits(2, 0.5) && cost.fits(3, 0.5) && cost.fits(0, 1.0) && !cost.fits(4, 1.0));
}

#[test]
fn a_plan_that_is_too_large_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len((1 << 26) + 1).unwrap();
    let error = Plan::read(file.path()).unwrap_err();
    assert!(matches!(error, PlanError::NotAPlan { .. }) && error.to_string().contains("are more than the"), "{error}");
}

#[test]
fn a_newer_revision_is_told_apart_from_a_broken_file() {
    let error = parse(&edited("\"revision\": 2", "\"revision\": 3, \"new_field\": []")).unwrap_err();
    assert!(matches!(error, PlanError::Newer { version: 1, revision: 3, .. }), "{error}");
    assert!(error.to_string().contains("version 1.3 of the plan file is newer than 1.2"), "{error}");
}

#[test]
fn a_field_that_the_own_revision_does_not_know_is_refused() {
    let error = parse(&edited("\"revision\": 2", "\"revision\": 2, \"new_field\": []")).unwrap_err();
    assert!(matches!(error, PlanError::Field { .. }) && error.to_string().contains("new_field"), "{error}");
}

#[test]
fn a_revision_that_is_left_out_is_0() {
    let mut first = Plan { revision: 0, ..plan() };
    first.seal();
    let text = first.to_text().unwrap().replacen("\"revision\": 0,", "", 1);
    assert_eq!(parse(&text).unwrap(), first);
}

/// `tests/plans/1.0.json` is kept as the first build that wrote version 1.0 left it; `canonical.py` computes the seals.
#[test]
fn a_plan_kept_since_its_version_was_first_written_is_read() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans/1.0.json");
    let plan = Plan::read(&kept).unwrap();
    assert_eq!(plan.id.to_string(), "sha256:395daec005460ae6e7d23b53997424726c2e47de3cb67f0b5345794d1b2ff1d0");
    assert_eq!(plan.checksum.to_string(), "sha256:260a3cb4909c91d37445590115fb894b0b18212e1af71955e26a6f5987334df6");
}

#[test]
fn plan_and_examples_are_written_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    let examples = ExampleFrostLines::new([(&Example::new(1, vec![1, 2], Vec::new()), 2)]);
    plan().write_with(&path, Some(&examples)).unwrap();
    assert_eq!(ExampleFrostLines::read(&beside(&path), examples.digest(), 4).unwrap(), examples);
    assert_eq!(Plan::read(&path).unwrap(), plan());
}

#[test]
fn without_the_plan_its_examples_are_not_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    // A folder is in the plan's place, so that it cannot be written.
    std::fs::create_dir(&path).unwrap();
    let examples = |frost_line| ExampleFrostLines::new([(&Example::new(1, vec![1, 2], Vec::new()), frost_line)]);
    assert!(plan().write_with(&path, Some(&examples(2))).is_err());
    assert!(!beside(&path).exists());
    examples(1).write(&beside(&path)).unwrap();
    assert!(plan().write_with(&path, Some(&examples(2))).is_err());
    assert_eq!(ExampleFrostLines::read(&beside(&path), examples(1).digest(), 4).unwrap(), examples(1));
}

#[test]
fn what_is_no_file_of_frost_lines_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    std::fs::write(beside(&path), "weights").unwrap();
    let said = plan().write_with(&path, Some(&ExampleFrostLines::default())).unwrap_err().to_string();
    assert!(said.contains("holds no frost lines of examples"), "{said}");
    assert!(!path.exists());
}

#[test]
fn a_newer_version_is_told_apart_from_a_broken_file() {
    let error = parse(&edited("\"version\": 1", "\"version\": 2, \"new_field\": []")).unwrap_err();
    assert!(matches!(error, PlanError::Newer { version: 2, revision: 2, .. }), "{error}");
    assert!(error.to_string().contains("update Frostline"));
}

#[test]
fn an_unknown_field_is_named() {
    let error = parse(&edited("\"ridge\": 0.0", "\"ridge\": 0.0, \"thaw\": 1")).unwrap_err();
    assert!(matches!(error, PlanError::Field { .. }) && error.to_string().contains("`thaw`"), "{error}");
}

#[test]
fn a_missing_field_is_named() {
    let error = parse(&edited("    \"rows\": 10,\n", "")).unwrap_err();
    assert!(matches!(error, PlanError::Field { .. }) && error.to_string().contains("`rows`"), "{error}");
}

#[test]
fn a_changed_measurement_is_noticed() {
    let error = parse(&edited("\"spread\": 0.01", "\"spread\": 0.02")).unwrap_err();
    assert!(matches!(error, PlanError::Changed { field: "checksum", .. }), "{error}");
}

#[test]
fn a_changed_tensor_is_noticed() {
    let error = parse(&edited("layers.2.mlp.up_proj", "layers.3.mlp.up_proj")).unwrap_err();
    assert!(matches!(error, PlanError::Changed { .. }), "{error}");
}

#[test]
fn a_file_cut_off_is_not_a_plan() {
    let text = plan().to_text().unwrap();
    let error = parse(&text[..text.len() / 2]).unwrap_err();
    assert!(matches!(error, PlanError::NotAPlan { .. }), "{error}");
}

#[test]
fn a_plan_that_leaves_nothing_to_train_is_refused() {
    let mut all_frozen = plan();
    all_frozen.decision.frost_line = all_frozen.model.layers;
    all_frozen.seal();
    let error = parse(&all_frozen.to_text().unwrap()).unwrap_err();
    assert!(matches!(error, PlanError::Inconsistent { .. }), "{error}");
}

#[test]
fn a_plan_for_another_model_says_what_differs() {
    let llama = frostline_schemas::model::ModelFolder::open(&case("llama")).unwrap();
    let qwen2 = frostline_schemas::model::ModelFolder::open(&case("qwen2")).unwrap();
    plan().check_model(&llama.identity().unwrap(), &llama.config).unwrap();
    let error = plan().check_model(&qwen2.identity().unwrap(), &qwen2.config).unwrap_err().to_string();
    assert!(error.contains("family: planned for llama, found qwen2") && error.contains("weights:"), "{error}");
}

#[test]
fn a_plan_that_does_not_name_what_its_frost_line_calls_for_is_refused() {
    let llama = frostline_schemas::model::ModelFolder::open(&case("llama")).unwrap();
    let mut short = plan();
    let left_out = short.tensors.pop().unwrap();
    short.seal();
    let error = short.check_model(&llama.identity().unwrap(), &llama.config).unwrap_err().to_string();
    assert!(error.contains(&left_out), "{error}");
}

/// A plan by a strategy that runs no model, for the case `llama`.
fn by_rule(strategy: &str) -> Plan {
    let mut plan = plan();
    let strategy: Strategy = strategy.parse().unwrap();
    plan.tensors = strategy.tensors(&MODEL.1, plan.data.seed).unwrap().unwrap();
    plan.cost = CostTable::of_tensors(&MODEL.1, plan.cost.step, &plan.tensors);
    let frost_line = scope::frost_line(&MODEL.1, &plan.tensors);
    plan.decision = Decision {
        frost_line,
        decided_by: DecidedBy::Strategy,
        before_budget: frost_line,
        per_example: None,
        stability: None,
    };
    (plan.onnx, plan.engine, plan.ridge, plan.spaces) = (None, None, None, Vec::new());
    plan.method = PlanMethod { strategy, gain: None, aggregate: None, min_trainable_layers: None, ..plan.method };
    plan.seal();
    plan
}

#[test]
fn plans_of_other_strategies_are_read_and_fit() {
    for strategy in ["last:2", "first:1", "every:2", "random:2", "all", "manual:1+*.down_proj.weight"] {
        let plan = by_rule(strategy);
        let read = parse(&plan.to_text().unwrap()).unwrap();
        assert_eq!(read, plan);
        read.check_model(&MODEL.0, &MODEL.1).unwrap();
        let trained: u64 =
            MODEL.1.tensors().iter().filter(|spec| plan.tensors.contains(&spec.name)).map(|spec| spec.elements()).sum();
        assert_eq!(read.trained_parameters(), trained, "{strategy}");
    }
}

#[test]
fn tensors_that_the_strategy_does_not_choose_are_a_misfit() {
    let said = |change: &dyn Fn(&mut Plan)| {
        let mut plan = by_rule("every:2");
        change(&mut plan);
        plan.seal();
        parse(&plan.to_text().unwrap()).unwrap().check_model(&MODEL.0, &MODEL.1).unwrap_err().to_string()
    };
    let text = said(&|plan| drop(plan.tensors.remove(0)));
    assert!(
        text.contains("leaves out tensor `model.layers.1.input_layernorm.weight`, which strategy every:2 trains"),
        "{text}"
    );
    let text = said(&|plan| plan.tensors.insert(0, "model.embed_tokens.weight".into()));
    assert!(text.contains("names tensor `model.embed_tokens.weight`, which strategy every:2 does not train"), "{text}");
    let text = said(&|plan| plan.decision.frost_line = 0);
    assert!(text.contains("its frost line is 0, and its tensors begin above 1"), "{text}");
    let text = said(&|plan| plan.method.strategy = Strategy::Last(9));
    assert!(text.contains("the model has 4 layers"), "{text}");
}

#[test]
fn a_strategy_that_runs_nothing_has_measured_nothing() {
    let contradictory = |change: &dyn Fn(&mut Plan)| {
        let mut plan = by_rule("last:2");
        change(&mut plan);
        plan.seal();
        let error = parse(&plan.to_text().unwrap()).unwrap_err();
        assert!(matches!(error, PlanError::Inconsistent { .. }), "{error}");
    };
    contradictory(&|by_rule| {
        (by_rule.onnx, by_rule.engine, by_rule.ridge) = (plan().onnx, plan().engine, plan().ridge)
    });
    contradictory(&|by_rule| by_rule.onnx = plan().onnx);
    contradictory(&|by_rule| by_rule.engine = plan().engine);
    contradictory(&|by_rule| by_rule.ridge = plan().ridge);
    contradictory(&|by_rule| by_rule.spaces = plan().spaces);
    contradictory(&|by_rule| by_rule.decision.stability = plan().decision.stability);
    contradictory(&|by_rule| by_rule.method.gain = plan().method.gain);
    contradictory(&|by_rule| by_rule.method.aggregate = plan().method.aggregate);
    contradictory(&|by_rule| by_rule.method.strategy = Strategy::Salf);
}

#[test]
fn numbers_that_no_plan_can_have_are_refused() {
    let impossible = |rule: &str, change: &dyn Fn(&mut Plan)| {
        let mut plan = plan();
        change(&mut plan);
        plan.seal();
        let error = parse(&plan.to_text().unwrap()).unwrap_err().to_string();
        assert!(error.contains(&format!("contradicts itself: {rule}")), "{error}");
    };
    impossible("`budget`", &|plan| plan.method.budget = Some(-3.0));
    impossible("`budget`", &|plan| plan.method.budget = Some(1.5));
    impossible("`min_trainable_layers`", &|plan| plan.method.min_trainable_layers = Some(0));
    impossible("`min_trainable_layers`", &|plan| plan.method.min_trainable_layers = Some(99));
    impossible("`max_length`", &|plan| plan.data.max_length = 0);
    impossible("`examples`", &|plan| plan.data.examples = 0);
    impossible("`before_budget`", &|plan| plan.decision.before_budget = 99);
    impossible("`ridge`", &|plan| plan.ridge = Some(-1.0));
    impossible("a deviation", &|plan| plan.spaces[1].deviation = 1e308);
    impossible("a deviation", &|plan| plan.spaces[1].deviation = -0.1);
    impossible("a spread", &|plan| plan.spaces[1].spread = -0.1);
    let stability = |agree, low, high| Some(Stability { agree, low, high });
    impossible("`stability`", &|plan| plan.decision.stability = stability(1.5, 1, 2));
    impossible("`stability`", &|plan| plan.decision.stability = stability(0.5, 2, 1));
    impossible("`stability`", &|plan| plan.decision.stability = stability(0.5, 1, plan.model.layers));
    impossible("`variability`", &|plan| plan.spaces[2].variability = Some(-0.5));
    impossible("`cka_distance`", &|plan| plan.spaces[2].cka_distance = Some(1.5));
    let rate = |full, lora| Some(LearningRate { full, lora, origin: RateOrigin::Rule });
    impossible("`learning_rate`", &|plan| plan.learning_rate = rate(-1e-5, 1e-4));
    impossible("`learning_rate`", &|plan| plan.learning_rate = rate(1e-5, 0.0));
    impossible("`gradients`", &|plan| plan.gradients = Some(card(plan.model.layers + 1)));
    impossible("`gradients`", &|plan| plan.gradients = Some(GradientCard { batches: 1, ..card(plan.model.layers) }));
    impossible("each example", &|plan| plan.spaces[1].ends_here = usize::MAX);
}

/// Gradients of so many layers.
fn card(layers: usize) -> GradientCard {
    let layer = |layer| LayerGradients {
        layer,
        weight_norm: 1.0,
        gradient_norm: 1.0,
        gradient_l1: 1.0,
        signal: -0.5,
        fall: 1.0,
        held_out_fall: 0.5,
    };
    GradientCard { batches: 2, rows: 4, loss: 1.0, layers: (1..=layers).map(layer).collect() }
}

#[test]
fn gradients_beside_what_decided_change_the_checksum_alone() {
    let with = plan().with_gradients(card(MODEL.0.layers));
    assert_eq!(parse(&with.to_text().unwrap()).unwrap(), with);
    assert_eq!(with.id, SEALED.id);
    assert_ne!(with.checksum, SEALED.checksum);
}

#[test]
fn a_plan_without_a_rate_gets_that_of_the_rule_and_its_own_id() {
    let mut without = Plan { learning_rate: None, ..plan() };
    without.seal();
    assert_eq!(without.learning_rates(&MODEL.1), plan().learning_rates(&MODEL.1));
    assert_ne!(without.id, SEALED.id);
}

/// The llama with its upper two layers planned by probes.
fn probed(change: impl FnOnce(&mut Probes)) -> Result<Plan, PlanError> {
    let expected = Expected { steps: 100, learning_rate: 1e-4, loss: 0.5, accuracy: None, share: 0.5, seconds: 9.0 };
    let arm = |name: &str, frost_line, step_share| ProbedArm {
        name: name.into(),
        frost_line,
        step_share,
        trainings: vec![ProbeTraining { learning_rate: 1e-4, steps: 8, loss: Some(0.9), accuracy: None }],
        expected,
    };
    let mut probes = Probes {
        rows: 128,
        held_out: 32,
        share: 0.3,
        seconds: 5.0,
        noise: 0.1,
        arms: vec![arm("all", 0, 1.0), arm("last:2", 2, 0.66)],
        chosen: "last:2".into(),
        verdict: ProbeVerdict::Tolerable,
    };
    change(&mut probes);
    let rule = ProbeRule::Cheapest { tolerance: 0.05 };
    let method = ProbeMethod { steps: 100, batch_size: 16, share: 0.3, rule };
    let mut plan = Plan {
        method: PlanMethod { probe: Some(method), ..PlanMethod::of(Strategy::Probe) },
        onnx: None,
        engine: None,
        ridge: None,
        spaces: Vec::new(),
        probes: Some(probes),
        ..plan()
    };
    plan.decision.decided_by = DecidedBy::Strategy;
    plan.decision.stability = None;
    plan.learning_rate = Some(LearningRate::measured(1e-4, RateOrigin::Probe));
    plan.seal();
    parse(&plan.to_text().unwrap())
}

#[test]
fn probes_are_read_and_fit_the_model() {
    let plan = probed(|_| ()).unwrap();
    plan.check_model(&MODEL.0, &MODEL.1).unwrap();
    let probes = plan.probes.as_ref().unwrap();
    assert_eq!((probes.chosen().unwrap().frost_line, probes.full().unwrap().frost_line), (2, 0));
}

#[test]
fn probes_that_cannot_be_are_refused() {
    let said = |change: fn(&mut Probes)| probed(change).unwrap_err().to_string();
    for text in [
        said(|probes| probes.chosen = "last:3".into()),
        said(|probes| probes.share = -0.1),
        said(|probes| probes.arms[0].frost_line = 99),
        said(|probes| probes.arms[1].expected.accuracy = Some(1.5)),
        said(|probes| probes.arms[1].expected.learning_rate = 0.0),
        said(|probes| probes.arms[1].step_share = -0.5),
        said(|probes| probes.arms[1].trainings[0].loss = Some(-1.0)),
    ] {
        assert!(text.contains("contradicts itself: `probes` are of arms that can be"), "{text}");
    }
    let mut without = plan();
    without.method.strategy = Strategy::Probe;
    without.seal();
    assert!(parse(&without.to_text().unwrap()).unwrap_err().to_string().contains("strategy probe"));
}

proptest! {
    #[test]
    fn no_changed_byte_panics(changes in corrupt::byte_changes()) {
        let text = corrupt::bytes(SEALED.to_text().unwrap().as_bytes(), &changes);
        let _ = Plan::parse(Path::new("plan.json"), &text);
    }

    #[test]
    fn a_changed_value_is_refused_or_leaves_a_plan_that_can_be_used(changes in corrupt::value_changes()) {
        let json = corrupt::values(serde_json::to_value(&*SEALED).unwrap(), &changes);
        // Sealed anew, so that the checks behind the seal are reached.
        if let Ok(mut corrupted) = serde_json::from_value::<Plan>(json.clone()) {
            corrupted.seal();
            if let Ok(read) = Plan::parse(Path::new("plan.json"), corrupted.to_text().unwrap().as_bytes()) {
                prop_assert!(read.decision.frost_line < read.model.layers);
                prop_assert_eq!(Some(read.trained_parameters()), read.cost.at(read.decision.frost_line).map(|cost| cost.trained_parameters));
                let _ = (read.check_model(&MODEL.0, &MODEL.1), read.cost.fits(read.decision.frost_line, 0.5));
            }
        }
        if let Ok(read) = Plan::parse(Path::new("plan.json"), json.to_string().as_bytes()) {
            prop_assert_eq!(&read, &*SEALED);
        }
    }

    #[test]
    fn no_single_changed_byte_goes_unnoticed(at in 0.0..1.0f64, byte in 0x21u8..0x7f) {
        let sealed = &*SEALED;
        let mut text = sealed.to_text().unwrap().into_bytes();
        let place = (at * text.len() as f64) as usize;
        prop_assume!(!text[place].is_ascii_whitespace() && text[place] != byte);
        text[place] = byte;
        // A digit far behind the point may name the same float; then nothing has changed.
        prop_assert!(Plan::parse(Path::new("plan.json"), &text).map_or(true, |read| read == *sealed));
    }

    #[test]
    fn aggregates_round_trip(q in 0.0..=1.0f64) {
        for aggregate in [Aggregate::Median, Aggregate::MeanTrace, Aggregate::Quantile(q)] {
            prop_assert_eq!(aggregate.to_string().parse::<Aggregate>().unwrap(), aggregate);
        }
    }
}

#[test]
fn rows_that_were_planned_with_must_have_the_tokens_that_they_had() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"input_ids\": [1, 2, 3], \"labels\": [-100, 2, 3]}\n").unwrap();
    let config = model::read_config(&case("llama")).unwrap();
    let read = |max_length| {
        let settings = RowSettings::up_to(max_length);
        data::read_examples(&config, &Encoder::new(&case("llama")), file.path(), &settings).unwrap()
    };
    let rows = read(3);
    let mut plan = plan();
    assert!(plan.check_rows(&rows).is_ok(), "rows of another file");
    (plan.data.file, plan.data.max_length, plan.data.sample) = (rows.digest, 3, data::digest(&rows.examples));
    assert!(plan.check_rows(&rows).is_ok());
    assert!(plan.check_rows(&read(2)).is_ok(), "another length cuts otherwise");
    plan.data.sample = Digest::of(b"other");
    let message = plan.check_rows(&rows).unwrap_err().to_string();
    assert!(message.contains("read as other tokens") && message.contains("plan again"), "{message}");
}
