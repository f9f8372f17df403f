//! Special and added tokens, as the files beside `tokenizer.json` name them and transformers takes them.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tokenizers::AddedToken;

use super::error::{TokenError, json_file};

/// The special tokens that every tokenizer may have, in the order in which they are added.
const NAMES: [&str; 7] = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A special token of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialToken {
    /// What the token is for: `bos_token`, `eos_token`, or a name of the model's own such as `image_token`.
    pub name: String,
    /// How the token is written in text.
    pub text: String,
    /// The token's id.
    pub id: Option<u32>,
}

/// The special tokens of a model, and which of them its tokenizer puts around texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Those that have a name.
    pub named: Vec<SpecialToken>,
    /// Whether the tokenizer begins each text with the beginning-of-sequence token; `None` where it has no
    /// post-processor.
    pub adds_bos: Option<bool>,
    /// Whether the tokenizer ends each text with the end-of-sequence token; `None` where it has no post-processor.
    pub adds_eos: Option<bool>,
    pub(super) model_eos: Option<u32>,
}

impl SpecialTokens {
    /// The token of that name.
    pub fn get(&self, name: &str) -> Option<&SpecialToken> {
        self.named.iter().find(|token| token.name == name)
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.get("bos_token")?.id
    }

    /// The end-of-sequence token: the tokenizer's, else the first that `generation_config.json` or `config.json` names.
    pub fn eos(&self) -> Option<u32> {
        self.get("eos_token").and_then(|token| token.id).or(self.model_eos)
    }

    /// Names and texts of the special tokens, which chat templates may use.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.named.iter().map(|token| (token.name.clone(), token.text.clone())).collect()
    }
}

/// A token as a file names it: by its text alone, or with its properties.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Text(String),
    Token(AddedToken),
}

impl Given {
    fn read(json: &Json) -> Option<Given> {
        match json {
            Json::String(text) => Some(Given::Text(text.clone())),
            Json::Object(_) => Properties::deserialize(json).ok().map(|token| Given::Token(token.into())),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Given::Text(text) => text,
            Given::Token(token) => &token.content,
        }
    }

    /// The token that is added for it where it is special.
    pub(super) fn special(&self) -> AddedToken {
        match self {
            Given::Text(text) => AddedToken::from(text, true),
            Given::Token(token) => token.clone().special(true),
        }
    }
}

/// The properties of an added token, each with its default.
#[derive(Deserialize)]
struct Properties {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl From<Properties> for AddedToken {
    fn from(given: Properties) -> AddedToken {
        let Properties { content, single_word, lstrip, rstrip, normalized, special } = given;
        let normalized = normalized.unwrap_or(!special);
        AddedToken { content, single_word, lstrip, rstrip, normalized, special }
    }
}

/// A token of `tokenizer.json` with its id.
#[derive(Clone, Deserialize)]
pub(super) struct FileToken {
    pub(super) id: u32,
    #[serde(flatten)]
    pub(super) token: AddedToken,
}

/// What the files beside `tokenizer.json` say of tokens.
pub(super) struct Settings {
    /// `tokenizer_config.json`, completed by `special_tokens_map.json` where transformers reads it.
    pub(super) config: Map<String, Json>,
    /// Tokens that are added, by id.
    pub(super) added: BTreeMap<i64, AddedToken>,
    /// Whether `added` was completed by the tokens of `tokenizer.json`.
    legacy: bool,
}

impl Settings {
    /// Reads what stands beside `tokenizer.json` in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Settings, TokenError> {
        let config = match json_file(folder, "tokenizer_config.json")? {
            Some(Json::Object(config)) => config,
            _ => Map::new(),
        };
        let legacy = !config.contains_key("added_tokens_decoder");
        let mut settings = Settings { config, added: BTreeMap::new(), legacy };
        if legacy {
            settings.read_older(folder)?;
        } else if let Some(tokens) = settings.config.get("added_tokens_decoder").and_then(Json::as_object) {
            let read = |(id, token): (&String, &Json)| match Given::read(token)? {
                Given::Token(token) => Some((id.parse().ok()?, token)),
                Given::Text(_) => None,
            };
            settings.added = tokens.iter().filter_map(read).collect();
        }
        Ok(settings)
    }

    /// What transformers reads only where `tokenizer_config.json` lists no added tokens.
    fn read_older(&mut self, folder: &Path) -> Result<(), TokenError> {
        if let Some(Json::Object(map)) = json_file(folder, "special_tokens_map.json")? {
            for (name, mut value) in map {
                if let Json::Object(token) = &mut value
                    && name != "extra_special_tokens"
                {
                    token.insert("special".into(), true.into());
                }
                self.config.insert(name, value);
            }
        }
        if let Some(Json::Object(tokens)) = json_file(folder, "added_tokens.json")? {
            let special: HashSet<String> =
                self.special(&[], None).iter().map(|(_, given)| given.text().to_owned()).collect();
            for (text, id) in tokens {
                let is_special = special.contains(&text);
                if let Some(id) = id.as_i64() {
                    self.added.insert(id, AddedToken::from(text, is_special));
                }
            }
        }
        Ok(())
    }

    /// Takes the tokens of `tokenizer.json` where no other list of added tokens was found.
    pub(super) fn complete(&mut self, tokens: &[FileToken]) {
        if self.legacy {
            self.added.extend(tokens.iter().map(|token| (token.id.into(), token.token.clone())));
        }
    }

    /// Special tokens in the order in which they are added; those without a name are last. `defaults` are taken where
    /// the folder does not speak of a name, `padding` for the token that texts are filled up with.
    pub(super) fn special(&self, defaults: &[(&str, &str)], padding: Option<&str>) -> Vec<(Option<String>, Given)> {
        let mut found: Vec<(Option<String>, Given)> = Vec::new();
        for name in NAMES {
            let default = defaults.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
            let default = default.or(padding.filter(|_| name == "pad_token"));
            let given = match self.config.get(name) {
                Some(json) => Given::read(json).map(|given| self.with_properties(given)),
                None => default.map(|text| Given::Text(text.to_owned())),
            };
            found.extend(given.map(|given| (Some(name.to_owned()), given)));
        }
        found.extend(self.of_the_model(defaults));
        found.extend(self.without_name().into_iter().map(|given| (None, given)));
        found
    }

    /// The properties that the added token of that text has.
    fn with_properties(&self, given: Given) -> Given {
        let added = self.added.values().rev().find(|token| token.content == given.text());
        added.map_or(given, |token| Given::Token(token.clone()))
    }

    /// Tokens under names of the model's own.
    fn of_the_model(&self, defaults: &[(&str, &str)]) -> Vec<(Option<String>, Given)> {
        let own = |name: &str| name.ends_with("_token") && !NAMES.contains(&name);
        let mut found: Vec<(Option<String>, Given)> = Vec::new();
        let named = self.config.iter().filter(|(name, _)| own(name));
        let listed = ["extra_special_tokens", "model_specific_special_tokens"].into_iter();
        let listed = listed.filter_map(|list| self.config.get(list)?.as_object()).flatten();
        for (name, json) in named.chain(listed) {
            found.retain(|(known, _)| known.as_ref() != Some(name));
            found.extend(Given::read(json).map(|given| (Some(name.clone()), given)));
        }
        for (name, text) in defaults.iter().filter(|(name, _)| own(name) && !self.config.contains_key(*name)) {
            found.push((Some((*name).to_owned()), Given::Text((*text).to_owned())));
        }
        found
    }

    /// `extra_special_tokens`, or its older name `additional_special_tokens` where that is empty.
    fn without_name(&self) -> Vec<Given> {
        let list = |name: &str| -> Option<Vec<Given>> {
            let tokens = self.config.get(name)?.as_array()?;
            Some(tokens.iter().filter_map(Given::read).collect())
        };
        let is_map =
            self.config.get("extra_special_tokens").and_then(Json::as_object).is_some_and(|map| !map.is_empty());
        if is_map {
            return Vec::new();
        }
        list("extra_special_tokens")
            .filter(|tokens| !tokens.is_empty())
            .or(list("additional_special_tokens"))
            .unwrap_or_default()
    }
}

/// The first end-of-sequence token that `generation_config.json` or `config.json` names.
pub(super) fn model_eos(folder: &Path, config: &Json) -> Result<Option<u32>, TokenError> {
    let first = |json: &Json| {
        let eos = json.get("eos_token_id")?;
        eos.as_array().map_or(Some(eos), |list| list.first())?.as_u64()?.try_into().ok()
    };
    let generation = json_file(folder, "generation_config.json")?;
    Ok(generation.as_ref().and_then(first).or(first(config)))
}
