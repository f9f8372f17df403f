//! Any bytes as a file of rows: examples or an error, in bounded time and memory.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use frostline_schemas::data::{BadRows, Encoder, RowSettings, read_examples};
use frostline_schemas::model::{self, DecoderConfig};
use libfuzzer_sys::fuzz_target;

const MAX_LENGTH: usize = 64;

struct Model {
    folder: tempfile::TempDir,
    config: DecoderConfig,
    encoder: Encoder,
}

/// The tiny model of `tests/rows` with a tokenizer and a template.
static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let (folder, rows) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/rows"));
    let files = [
        "model/config.json",
        "tokenizers/byte-level-begin/tokenizer.json",
        "cases/turns-headers/tokenizer_config.json",
        "cases/turns-headers/chat_template.jinja",
    ];
    for file in files.map(|file| rows.join(file)) {
        std::fs::copy(&file, folder.path().join(file.file_name().unwrap())).unwrap();
    }
    let config = model::read_config(folder.path()).unwrap();
    let encoder = Encoder::new(folder.path());
    Model { folder, config, encoder }
});

fuzz_target!(|input: &[u8]| {
    let path = MODEL.folder.path().join("rows");
    std::fs::write(&path, input).unwrap();
    for bad_rows in [BadRows::Stop, BadRows::Skip] {
        let settings = RowSettings { bad_rows, ..RowSettings::up_to(MAX_LENGTH) };
        let Ok(read) = read_examples(&MODEL.config, &MODEL.encoder, &path, &settings) else { continue };
        for example in &read.examples {
            assert!(example.tokens.len() <= MAX_LENGTH);
            assert!(example.targets.iter().all(|target| (target.position as usize) + 1 < example.tokens.len()));
        }
    }
});
