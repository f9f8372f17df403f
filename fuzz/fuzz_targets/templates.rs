//! Any text as a chat template, any conversation in it: a rendering or an error, in bounded time and memory.
//!
//! The input is a template, a zero byte, and a JSON object with `messages` and `tools`.
#![no_main]

use std::sync::LazyLock;

use frostline_schemas::data::{ChatTemplate, Conversation, TemplateSettings};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value as Json, json};

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), "{}").unwrap();
    folder
});

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |&byte| byte == 0);
    let Ok(source) = std::str::from_utf8(parts.next().unwrap_or_default()) else { return };
    let row: Map<String, Json> = serde_json::from_slice(parts.next().unwrap_or_default()).unwrap_or_default();
    let messages = match row.get("messages").and_then(Json::as_array) {
        Some(messages) => messages.clone(),
        None => vec![
            json!({"role": "user", "content": "a <b>"}),
            json!({"role": "assistant", "content": "c"}),
            json!({"role": "user", "content": "d"}),
            json!({"role": "assistant", "content": "é"}),
        ],
    };
    std::fs::write(FOLDER.path().join("chat_template.jinja"), source).unwrap();
    let special = [("bos_token", "<s>"), ("eos_token", "</s>")].map(|(name, text)| (name.to_owned(), text.to_owned()));
    let Ok(template) = ChatTemplate::open(FOLDER.path(), &special, &TemplateSettings::default()) else { return };
    let (tools, variables) = (row.get("tools").filter(|tools| tools.is_array()), None);
    let conversation = Conversation { messages: &messages, tools, documents: None, variables };
    if let Ok(rendered) = template.render(&conversation) {
        for answer in rendered.answers {
            // Panics where a range is none of the text, or begins or ends within a character.
            let _ = &rendered.text[answer.range];
        }
    }
});
