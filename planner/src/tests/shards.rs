//! Traces of shards add up to the plan of one machine, and what does not belong together is refused.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::common::case;
use crate::TracesError;
use crate::rewrite::export::Export;
use crate::rewrite::latent::LatentSpaces;
use crate::{
    Aggregate, EngineChoice, Error, Gain, PlanSettings, SampleShard, ShardTraces, Silent, plan, plan_from_traces,
    trace_shard,
};
use frostline_schemas::data::RowSettings;
use frostline_schemas::device::Device;
use frostline_schemas::digest::Digest;
use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};

/// A folder with examples of many lengths, enough for several batches, and the traces of their shards.
struct Desk {
    folder: tempfile::TempDir,
    settings: PlanSettings,
}

impl Desk {
    fn new(family: &str) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data.jsonl");
        let mut file = std::fs::File::create(&data).unwrap();
        for i in 0..150usize {
            let tokens: Vec<usize> = (0..3 + i * 7 % 40).map(|j| (i * 7 + j * 11) % 61).collect();
            let label = |j: usize| if j % (1 + i % 4) == 1 || j == 1 { tokens[j] as i64 } else { -100 };
            let labels: Vec<i64> = (0..tokens.len()).map(label).collect();
            writeln!(file, r#"{{"input_ids": {tokens:?}, "labels": {labels:?}}}"#).unwrap();
        }
        let settings = PlanSettings {
            onnx: Some(case(family).join("model.dynamo.onnx")),
            threads: Some(2),
            examples: Some(140),
            rows: RowSettings::up_to(64),
            ..PlanSettings::new(case(family), data)
        };
        Desk { folder, settings }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Computes one shard with these settings and writes its file.
    fn shard_of(&self, settings: &PlanSettings, number: usize, of: usize) -> PathBuf {
        let path = self.path(&format!("part-{number}-of-{of}.safetensors"));
        trace_shard(settings, SampleShard::new(number, of).unwrap(), &Silent).unwrap().write(&path).unwrap();
        path
    }

    fn shards(&self, of: usize) -> Vec<PathBuf> {
        (1..=of).map(|number| self.shard_of(&self.settings, number, of)).collect()
    }

    /// The plan of these files, as its file's text. The export is nowhere to be found and the engine is none.
    fn merged(&self, files: &[PathBuf]) -> Result<String, Error> {
        let library = Some("no-library".into());
        let engine = EngineChoice::Ort { library, device: Device::Cpu };
        let settings = PlanSettings { onnx: Some("no.onnx".into()), engine, ..self.settings.clone() };
        Ok(plan_from_traces(&settings, files, &Silent)?.plan.to_text().unwrap())
    }

    fn one_machine(&self) -> String {
        plan(&self.settings, &Silent).unwrap().plan.to_text().unwrap()
    }

    /// What is said where shard 2 of 2 is computed with other settings than shard 1 and the plan.
    fn said_of_other(&self, settings: PlanSettings) -> String {
        let files = [self.shard_of(&self.settings, 1, 2), self.shard_of(&settings, 2, 2)];
        refusal(self.merged(&files), &files[1])
    }

    /// What is said where shard 2 of 2 was changed after it was computed.
    fn said_of_changed(&self, change: impl FnOnce(&mut ShardTraces)) -> String {
        let files = self.shards(2);
        let mut part = ShardTraces::read(&files[1]).unwrap();
        change(&mut part);
        part.write(&files[1]).unwrap();
        refusal(self.merged(&files), &files[1])
    }
}

/// The error's text, which must begin with the file's name.
fn refusal(result: Result<String, Error>, file: &Path) -> String {
    let text = result.expect_err("an error").to_string();
    assert!(text.starts_with(&file.display().to_string()), "{text}");
    text
}

#[test]
fn shards_add_up_to_one_machines_bytes() {
    for family in ["llama", "gemma3"] {
        let desk = Desk::new(family);
        let whole = desk.one_machine();
        // The last one has more shards than there are batches.
        for of in [1, 3, 40] {
            let mut files = desk.shards(of);
            assert!(desk.merged(&files).unwrap() == whole, "{family}, {of} shards");
            files.reverse();
            files.rotate_left(of / 3);
            assert!(desk.merged(&files).unwrap() == whole, "{family}, {of} shards in another order");
        }
    }
}

#[test]
fn left_open_shards_add_up_to_as_many_examples_as_one_machine_reads() {
    for budget in [None, Some(0.6)] {
        let mut desk = Desk::new("llama");
        desk.settings = PlanSettings { examples: None, budget, ..desk.settings };
        let files = desk.shards(3);
        assert_eq!(ShardTraces::read(&files[0]).unwrap().origin.data.examples, 150);
        assert_eq!(desk.merged(&files).unwrap(), desk.one_machine());
    }
}

#[test]
#[ignore = "needs ONNX Runtime: ORT_DYLIB_PATH, or the Python package onnxruntime"]
fn shards_of_onnx_runtime_add_up_to_one_machines_bytes() {
    let mut desk = Desk::new("qwen2");
    desk.settings.engine = EngineChoice::Ort { library: None, device: Device::Cpu };
    let whole = desk.one_machine();
    assert!(whole.contains(r#""name": "ort""#));
    assert!(desk.merged(&desk.shards(3)).unwrap() == whole);
}

#[test]
fn a_shard_holds_some_examples_and_may_hold_none() {
    let desk = Desk::new("llama");
    let counts = |of: usize| -> Vec<usize> {
        desk.shards(of).iter().map(|path| ShardTraces::read(path).unwrap().traces.len()).collect()
    };
    let three = counts(3);
    assert!(three.iter().sum::<usize>() == 140 && three.iter().all(|&count| count > 20), "{three:?}");
    assert!(counts(40).contains(&0));
}

#[test]
fn what_only_the_decision_needs_may_be_chosen_at_the_end() {
    let mut desk = Desk::new("llama");
    let files = desk.shards(2);
    desk.settings = PlanSettings {
        gain: Gain::Difference,
        aggregate: Aggregate::Quantile(1.0),
        min_trainable_layers: 2,
        budget: Some(0.7),
        ..desk.settings
    };
    assert_eq!(desk.merged(&files).unwrap(), desk.one_machine());
}

#[test]
fn a_shard_is_the_same_file_each_time_and_reads_as_it_was_written() {
    let desk = Desk::new("llama");
    let path = desk.shard_of(&desk.settings, 2, 3);
    let before = std::fs::read(&path).unwrap();
    let read = ShardTraces::read(&path).unwrap();
    assert_eq!(read, trace_shard(&desk.settings, "2/3".parse().unwrap(), &Silent).unwrap());
    read.write(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == before);
}

#[test]
fn no_file_at_all() {
    assert!(matches!(Desk::new("llama").merged(&[]), Err(Error::Traces(TracesError::NoFiles))));
}

#[test]
fn a_file_that_is_not_there() {
    let desk = Desk::new("llama");
    let files = [desk.path("part-1.safetensors")];
    refusal(desk.merged(&files), &files[0]);
}

#[test]
fn a_missing_shard() {
    let desk = Desk::new("llama");
    let mut files = desk.shards(3);
    files.remove(1);
    let text = refusal(desk.merged(&files), &files[0]);
    assert!(text.contains("shard 1/3, but no file holds shard 2; "), "{text}");
    assert!(text.contains("compute each of the 3 shards"), "{text}");
    let text = refusal(desk.merged(&[desk.shard_of(&desk.settings, 2, 40)]), &desk.path("part-2-of-40.safetensors"));
    assert!(text.contains("1, 3, 4, 5, 6, 7, 8, 9 and 31 more; "), "{text}");
}

#[test]
fn a_shard_given_twice() {
    let desk = Desk::new("llama");
    let mut files = desk.shards(2);
    files.push(desk.path("copy.safetensors"));
    std::fs::copy(&files[0], &files[2]).unwrap();
    let text = refusal(desk.merged(&files), &files[2]);
    assert!(text.contains("shard 1/2, which") && text.contains("part-1-of-2") && text.contains("once"), "{text}");
}

#[test]
fn another_number_of_shards() {
    let desk = Desk::new("llama");
    let files = [desk.shard_of(&desk.settings, 1, 2), desk.shard_of(&desk.settings, 2, 3)];
    let text = refusal(desk.merged(&files), &files[1]);
    assert!(text.contains("a number of shards of 3, ") && text.contains("part-1-of-2.safetensors with 2"), "{text}");
}

#[test]
fn another_models_traces() {
    let desk = Desk::new("llama");
    let other = Desk::new("qwen2");
    let mut settings = other.settings.clone();
    settings.data.clone_from(&desk.settings.data);
    let text = desk.said_of_other(settings);
    assert!(text.contains("another model: family: ") && text.contains("shard 2/2 again"), "{text}");
}

#[test]
fn another_files_traces() {
    let desk = Desk::new("llama");
    let data = desk.path("other.jsonl");
    let text = std::fs::read_to_string(&desk.settings.data).unwrap();
    std::fs::write(&data, text + "\n").unwrap();
    let said = desk.said_of_other(PlanSettings { data, ..desk.settings.clone() });
    assert!(said.contains("data of digest ") && said.contains("shard 2/2 again"), "{said}");
}

#[test]
fn another_seed() {
    let desk = Desk::new("llama");
    let said = desk.said_of_other(PlanSettings { seed: 7, ..desk.settings.clone() });
    assert!(said.contains("seed 7, the plan is to be made with 0; give both the same"), "{said}");
}

#[test]
fn another_max_length() {
    let desk = Desk::new("llama");
    let said = desk.said_of_other(PlanSettings { rows: RowSettings::up_to(20), ..desk.settings.clone() });
    assert!(said.contains("max length 20, "), "{said}");
}

#[test]
fn another_number_of_examples() {
    let desk = Desk::new("llama");
    let said = desk.said_of_other(PlanSettings { examples: Some(139), ..desk.settings.clone() });
    assert!(said.contains("examples 139, the plan is to be made with 140"), "{said}");
}

#[test]
fn another_sample() {
    let desk = Desk::new("llama");
    let said = desk.said_of_changed(|part| part.origin.data.sample = Digest::of(b"another"));
    assert!(said.contains("a sample of digest"), "{said}");
    let said = desk.said_of_changed(|part| part.origin.data.tokens += 1);
    assert!(said.contains("tokens in the sample 2999, the plan is to be made with 2998"), "{said}");
}

#[test]
fn latent_spaces_named_for_one_shard_alone() {
    let desk = Desk::new("llama");
    let export = Export::open(desk.settings.onnx.as_ref().unwrap()).unwrap();
    let named = LatentSpaces::find(&export.model, None).unwrap().spaces;
    let said = desk.said_of_other(PlanSettings { latent_spaces: Some(named.clone()), ..desk.settings.clone() });
    assert!(said.contains(&format!("latent spaces {}, ", named.join(","))) && said.contains("not given"), "{said}");
}

#[test]
fn another_export() {
    let desk = Desk::new("llama");
    let onnx = Some(case("llama").join("model.torchscript.onnx"));
    let said = desk.said_of_other(PlanSettings { onnx, ..desk.settings.clone() });
    assert!(said.contains("an export of digest") && said.contains("part-1-of-2.safetensors with"), "{said}");
}

#[test]
fn another_engine() {
    let said = Desk::new("llama").said_of_changed(|part| part.origin.engine.version = "0.0.1".into());
    assert!(said.contains("the engine tract 0.0.1 on cpu, ") && said.contains("all shards are alike"), "{said}");
}

#[test]
fn another_ridge() {
    let said = Desk::new("llama").said_of_changed(|part| part.origin.ridge = 0.125);
    assert!(said.contains("a semantic basis of ridge 0.125"), "{said}");
}

#[test]
fn another_format() {
    let said = Desk::new("llama").said_of_changed(|part| part.origin.formats.deviations = 99);
    assert!(said.contains("its deviations are of format 99, this Frostline computes format 1"), "{said}");
    let said = Desk::new("llama").said_of_changed(|part| part.origin.formats.states = 7);
    assert!(said.contains("its states are of format 7, this Frostline computes format 1"), "{said}");
    let said = Desk::new("llama").said_of_changed(|part| part.origin.formats.batches = 0);
    assert!(said.contains("its batches are of format 0") && said.contains("compute shard 2/2 again"), "{said}");
}

#[test]
fn another_shards_examples() {
    let said = Desk::new("llama").said_of_changed(|part| part.traces.swap(0, 1));
    assert!(said.contains("not those of its shard; compute shard 2/2 again"), "{said}");
    let said = Desk::new("llama").said_of_changed(|part| part.traces.truncate(1));
    assert!(said.contains("not those of its shard"), "{said}");
    let said = Desk::new("llama").said_of_changed(|part| part.traces[0].example += 1);
    assert!(said.contains("not those of its shard"), "{said}");
}

#[test]
fn deviations_that_are_none() {
    for bad in [f64::NAN, f64::INFINITY, -0.5, 2.5] {
        let said = Desk::new("llama").said_of_changed(|part| part.traces[3].deviations[2] = bad);
        assert!(said.contains("is not between 0 and 2") && said.contains("shard 2/2 again"), "{said}");
    }
}

#[test]
fn states_that_are_none() {
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        let said = Desk::new("llama").said_of_changed(|part| part.traces[3].states[2] = bad);
        assert!(said.contains("a state of example ") && said.contains(" is not finite"), "{said}");
    }
}

#[test]
fn numbers_changed_in_the_file() {
    let desk = Desk::new("llama");
    let files = desk.shards(2);
    let mut bytes = std::fs::read(&files[1]).unwrap();
    let place = bytes.len() - 8;
    bytes[place] ^= 1;
    std::fs::write(&files[1], bytes).unwrap();
    let said = refusal(desk.merged(&files), &files[1]);
    assert!(said.contains("its numbers have changed since it was written; compute shard 2/2 again"), "{said}");
}

#[test]
fn a_file_cut_off() {
    let desk = Desk::new("llama");
    let files = desk.shards(1);
    let whole = std::fs::read(&files[0]).unwrap();
    for length in [0, 4, 100, whole.len() - 1] {
        std::fs::write(&files[0], &whole[..length]).unwrap();
        refusal(desk.merged(&files), &files[0]);
    }
}

#[test]
fn a_file_that_is_something_else() {
    let desk = Desk::new("llama");
    let files = [desk.settings.data.clone()];
    let said = refusal(desk.merged(&files), &files[0]);
    assert!(said.contains("not a whole traces file"), "{said}");
    let files = [case("llama").join("model.safetensors")];
    let said = refusal(desk.merged(&files), &files[0]);
    assert!(said.contains("its metadata has no `frostline.traces`"), "{said}");
}

/// Parses a file of one shard whose header or tensors were changed: the header as text, the tensors by name.
fn rebuilt(
    change: impl FnOnce(String) -> String,
    tensors: impl FnOnce(&mut Vec<(&'static str, TensorView)>),
) -> String {
    let desk = Desk::new("llama");
    let bytes = std::fs::read(desk.shard_of(&desk.settings, 2, 3)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = metadata.metadata().clone().unwrap();
    metadata.entry("frostline.traces".into()).and_modify(|text| *text = change(std::mem::take(text)));
    let mut held = ["deviations", "examples", "states"].map(|name| (name, file.tensor(name).unwrap())).to_vec();
    tensors(&mut held);
    let bytes = safetensors::serialize(held, Some(metadata)).unwrap();
    ShardTraces::parse(Path::new("part.safetensors"), &bytes).unwrap_err().to_string()
}

#[test]
fn an_older_file() {
    let said = rebuilt(|text| text.replace(r#""version":2,"#, r#""version":1,"#), |_| {});
    assert!(said.contains("version 1 of the traces file, of an older Frostline") && said.contains("again"), "{said}");
}

#[test]
fn a_newer_file() {
    let said = rebuilt(|text| text.replace(r#""version":2,"#, r#""version":3,"future":0,"#), |_| {});
    assert!(said.contains("version 3 of the traces file is newer than 2") && said.contains("update"), "{said}");
    let said = rebuilt(|text| text.replace(r#""version":2,"#, r#""version":0,"#), |_| {});
    assert!(said.contains("version 0 does not exist"), "{said}");
}

#[test]
fn a_header_with_other_fields() {
    let said = rebuilt(|text| text.replace("ridge", "rigde"), |_| {});
    assert!(said.contains("unknown field `rigde`"), "{said}");
    let said = rebuilt(|_| "{".into(), |_| {});
    assert!(said.contains("part.safetensors: not a whole traces file"), "{said}");
}

#[test]
fn a_shard_that_does_not_exist() {
    for bad in ["0/3", "4/3", "1/0", "one"] {
        let said = rebuilt(|text| text.replace(r#""2/3""#, &format!("{bad:?}")), |_| {});
        assert!(said.contains(&format!("`{bad}` is no shard")), "{said}");
    }
}

#[test]
fn tensors_of_other_sizes() {
    let said = rebuilt(String::from, |tensors| _ = tensors.remove(0));
    assert!(said.contains("it has no tensor `deviations`") && said.contains("shard 2/3"), "{said}");
    let said = rebuilt(String::from, |tensors| _ = tensors.remove(1));
    assert!(said.contains("it has no tensor `examples`"), "{said}");
    let said = rebuilt(|text| text.replace(r#""layers":4"#, r#""layers":3"#), |_| {});
    assert!(said.contains("`deviations` must be F64 [") && said.contains(", 4], and is F64 ["), "{said}");
    let said = rebuilt(String::from, |tensors| _ = tensors.remove(2));
    assert!(said.contains("it has no tensor `states`"), "{said}");
    let said = rebuilt(|text| text.replace(r#""hidden_size":32"#, r#""hidden_size":31"#), |_| {});
    assert!(said.contains("`states` must be F32 [") && said.contains(", 31], and is F32 ["), "{said}");
    let said = rebuilt(|text| text.replace(r#""hidden_size":32"#, r#""hidden_size":18446744073709551615"#), |_| {});
    assert!(said.contains("`states` must be F32 ["), "{said}");
    // The largest number there is: nothing is taken for what a header says alone.
    let said = rebuilt(|text| text.replace(r#""layers":4"#, r#""layers":18446744073709551615"#), |_| {});
    assert!(said.contains("`deviations` must be F64 ["), "{said}");
    let said = rebuilt(String::from, |tensors| {
        let (bytes, shape) = (tensors[0].1.data(), tensors[0].1.shape().to_vec());
        tensors[0].1 = TensorView::new(Dtype::I64, shape, bytes).unwrap();
    });
    assert!(said.contains("and is I64 ["), "{said}");
}

proptest! {
    /// Damage to a real file is an error or goes unnoticed, and never a panic.
    #[test]
    fn no_damage_panics(places: [proptest::sample::Index; 3], bytes: [u8; 3], header_only: bool) {
        static FILE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            let desk = Desk::new("llama");
            std::fs::read(desk.shard_of(&desk.settings, 1, 3)).unwrap()
        });
        let mut file = FILE.clone();
        for (place, byte) in places.iter().zip(bytes) {
            let place = place.index(if header_only { 1500 } else { file.len() });
            file[place] = byte;
        }
        let _ = ShardTraces::parse(Path::new("x.safetensors"), &file);
    }
}
