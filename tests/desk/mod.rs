//! A desk to work at: a folder with examples, and the command run in it.
// Each test binary uses some of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value as Json, json};

pub(crate) const DONE: i32 = 0;
pub(crate) const REFUSED: i32 = 1;
pub(crate) const FAILED: i32 = 2;

/// A folder to work in, with examples for the small models of `tests/cases`.
pub(crate) struct Desk(tempfile::TempDir);

impl Desk {
    pub(crate) fn new() -> Desk {
        let desk = Desk(tempfile::tempdir().unwrap());
        std::fs::write(desk.path("train.jsonl"), rows(48, 0)).unwrap();
        std::fs::write(desk.path("test.jsonl"), rows(12, 1000)).unwrap();
        desk
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs the command in this folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_frostline"));
        command.env("FROSTLINE_CACHE", self.path("cache")).args(arguments).current_dir(self.0.path()).output().unwrap()
    }

    /// Runs a command that must be done; returns its stdout.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(DONE), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Json {
        serde_json::from_str(&self.done(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Runs a command that must fail; returns what it says on stderr, its stdout being empty.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(FAILED), "{arguments:?}: {said}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        said
    }

    /// Runs a check that must say no; returns what it says.
    pub(crate) fn says_no(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(REFUSED), "{arguments:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("no: "), "{said}");
        said
    }

    /// Plans a case into `out` with the flags given.
    pub(crate) fn plan(&self, case: &str, out: &str, flags: &[&str]) {
        let (model, onnx) = (self::case(case), self::case(case) + "/model.dynamo.onnx");
        let fixed = ["plan", "--model", &model, "--onnx", &onnx, "--data", "train.jsonl", "--out", out];
        self.done(&[&fixed, flags].concat());
    }

    /// The plan of `llama` that trains its upper two layers, whatever its traces say.
    pub(crate) fn plan_two(&self) {
        self.plan("llama", "plan.json", &["--budget", "0.72", "--aggregate", "quantile:0", "--cache", "off"]);
        assert_eq!(self.read_json("plan.json")["decision"]["frost_line"], 2);
    }

    pub(crate) fn read_json(&self, name: &str) -> Json {
        serde_json::from_slice(&std::fs::read(self.path(name)).unwrap()).unwrap()
    }
}

pub(crate) fn case(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name).to_str().unwrap().to_owned()
}

/// Rows of tokens, of different lengths; the last token is one of three completions and follows from the first.
pub(crate) fn rows(count: usize, from: usize) -> String {
    let row = |i: usize| {
        let mut tokens: Vec<usize> = (0..4 + i % 5).map(|j| 3 + (i * 7 + j * 11) % 50).collect();
        tokens.push(54 + tokens[0] % 3);
        let mut labels = vec![-100i64; tokens.len()];
        *labels.last_mut().unwrap() = *tokens.last().unwrap() as i64;
        json!({"input_ids": tokens, "labels": labels}).to_string() + "\n"
    };
    (from..from + count).map(row).collect()
}

/// The flags of a training that all have in common; what they begin with comes last.
pub(crate) const TRAIN: [&str; 10] = [
    "train",
    "--plan",
    "plan.json",
    "--data",
    "train.jsonl",
    "--batch-size",
    "8",
    "--learning-rate",
    "5e-3",
    "--model",
];

/// States of one example at a frost line of `llama`, as training leaves them.
pub(crate) fn fill_cache(root: &Path, frost_line: usize, tokens: u32) -> String {
    use frostline_runtime::cache::{Cache, CacheKey, StateDtype};
    use frostline_schemas::cache::{DEFAULT_LIMIT, Store};
    use frostline_schemas::{data::Example, model::ModelFolder};
    let identity = ModelFolder::open(Path::new(&case("llama"))).unwrap().identity().unwrap();
    let key = CacheKey::new(&identity, frost_line, StateDtype::F32, "f32");
    let examples = [Example::new(1, (0..tokens).collect(), Vec::new())];
    let mut cache = Cache::new(Store::new(root, DEFAULT_LIMIT), key.clone());
    let mut writer = cache.writer(&examples).unwrap();
    writer.add(&examples[0].tokens, &vec![0; tokens as usize * key.hidden * 4]).unwrap();
    writer.finish().unwrap();
    key.digest().short()
}
