//! `tokenizer.json` and the files beside it to the tokenizer that transformers makes of them.

use std::collections::HashSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;
use tokenizers::models::bpe::BPE;
use tokenizers::{AddedToken, AddedVocabulary, DecoderWrapper, ModelWrapper};

use super::around::Around;
use super::class::{Again, Class, Ends, Model, Rebuilt};
use super::error::{TokenError, json_file};
use super::normalizer::Normalizer;
use super::special::{FileToken, Given, Settings, SpecialToken, SpecialTokens, model_eos};
use super::splits::Splits;
use super::tokenizer::Tokenizer;
use crate::files;
use crate::guard::guarded;
use crate::model::TOKENIZER_FILE;

/// The largest tokenizer read, in bytes; those of a quarter of a million tokens have 40 MB.
const MAX_TOKENIZER: u64 = 1 << 27;
/// The longest added token, in bytes.
const MAX_ADDED: usize = 1 << 16;
/// The bytes of all added tokens, each of which counts for a few more than it has: searching for them takes a hundred
/// times as much.
const MAX_ALL_ADDED: usize = 1 << 22;
/// What an added token counts for beside its text.
const ADDED: usize = 16;

/// What is read of `tokenizer.json`. Some files carry the length of the last training run; it is not taken.
#[derive(Deserialize)]
struct File<M> {
    #[serde(default)]
    added_tokens: Vec<FileToken>,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    post_processor: Json,
    #[serde(default)]
    padding: Json,
    #[serde(default)]
    decoder: Option<DecoderWrapper>,
    model: M,
}

impl File<ModelWrapper> {
    /// Reads the file. The largest vocabularies are those of BPE: they are read without a copy as JSON in between.
    fn read(bytes: &[u8]) -> serde_json::Result<File<ModelWrapper>> {
        #[derive(Deserialize)]
        struct Kind {
            #[serde(rename = "type")]
            kind: Option<String>,
        }
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(serde::de::Error::custom("not a JSON object"));
        }
        let file: File<Kind> = serde_json::from_slice(bytes)?;
        if file.model.kind.as_deref() != Some("BPE") {
            return serde_json::from_slice(bytes);
        }
        let model = serde_json::from_slice::<Part<BPE>>(bytes)?.model.into();
        let File { added_tokens, normalizer, pre_tokenizer, post_processor, padding, decoder, .. } = file;
        Ok(File { added_tokens, normalizer, pre_tokenizer, post_processor, padding, decoder, model })
    }
}

/// The model alone.
#[derive(Deserialize)]
struct Part<M> {
    model: M,
}

/// Reads the tokenizer of the model in `folder`.
pub(super) fn load(folder: &Path) -> Result<Tokenizer, TokenError> {
    let path = folder.join(TOKENIZER_FILE);
    let failed = |reason: String| TokenError::Tokenizer { path: path.clone(), reason };
    let bytes = files::read_at_most(&path, MAX_TOKENIZER).map_err(|error| failed(error.to_string()))?;
    let settings = Settings::read(folder)?;
    let config = json_file(folder, "config.json")?.unwrap_or(Json::Null);
    let byte_level = || std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("\"ByteLevel\""));
    let class = Class::choose(&settings.config, &config, byte_level);
    let eos = model_eos(folder, &config)?;
    let built = guarded(|| build(&bytes, settings, class));
    let built = built.unwrap_or_else(|panic| {
        tracing::debug!("{}: {panic}", path.display());
        Err("is no tokenizer that can be read: its parts do not fit together".into())
    });
    let mut tokenizer = built.map_err(failed)?;
    tokenizer.special.model_eos = eos;
    Ok(tokenizer)
}

fn build(bytes: &[u8], mut settings: Settings, class: Class) -> Result<Tokenizer, String> {
    let file = File::read(bytes).map_err(|error| format!("is no tokenizer that can be read: {error}"))?;
    settings.complete(&file.added_tokens);
    let rebuilt = class.rebuilt(&settings.config);
    let defaults = rebuilt.as_ref().map_or(&[][..], |rebuilt| rebuilt.defaults);
    let padding = file.padding.get("pad_token").and_then(Json::as_str).filter(|_| class.pads_as_the_file());
    let special = settings.special(defaults, padding);
    let (normalizer, pre_tokenizer) =
        rebuilt.as_ref().map_or((&file.normalizer, &file.pre_tokenizer), |r| (&r.normalizer, &r.pre_tokenizer));
    let (normalizer, splits) = (Normalizer::read(normalizer)?, Splits::read(pre_tokenizer)?);
    let mut model = without_chance(file.model);
    if let Some(rebuilt) = &rebuilt {
        let unknown = special.iter().find(|(name, _)| name.as_deref() == Some("unk_token"));
        model = with_settings(model, rebuilt.model, unknown.map(|(_, given)| given.text()))?;
    }
    let mut vocabulary = Vocabulary { added: AddedVocabulary::new(), model: &model, normalizer: &normalizer, bytes: 0 };
    if rebuilt.is_none() {
        vocabulary.add(file.added_tokens.into_iter().map(|token| token.token).collect())?;
    }
    vocabulary.add_missing(&settings, &special)?;
    vocabulary.add_again(rebuilt.as_ref().map_or(Again::No, |rebuilt| rebuilt.again), &special)?;
    let split_special = settings.config.get("split_special_tokens") == Some(&Json::Bool(true));
    vocabulary.added.set_encode_special_tokens(split_special);
    let mut tokens = vocabulary.special_tokens(special);
    let around = ends(&file.post_processor, rebuilt.as_ref(), &tokens)?;
    tokens.adds_bos = around.as_ref().map(|around| tokens.bos().is_some_and(|bos| around.before.contains(&bos)));
    tokens.adds_eos = around.as_ref().map(|around| tokens.eos().is_some_and(|eos| around.after.contains(&eos)));
    let (added, around) = (vocabulary.added, around.unwrap_or_default());
    Ok(Tokenizer { added, normalizer, splits, model, decoder: file.decoder, around, special: tokens })
}

/// Two texts alike are tokenized alike: sampling is for trainings that ask for it.
fn without_chance(mut model: ModelWrapper) -> ModelWrapper {
    match &mut model {
        ModelWrapper::BPE(model) => model.dropout = None,
        ModelWrapper::Unigram(model) => (model.alpha, model.nbest_size) = (None, None),
        ModelWrapper::WordPiece(_) | ModelWrapper::WordLevel(_) => {}
    }
    model
}

/// The model that a class makes of a vocabulary.
fn with_settings(model: ModelWrapper, settings: Model, unk_token: Option<&str>) -> Result<ModelWrapper, String> {
    match (model, settings) {
        (ModelWrapper::BPE(mut model), Model::Bpe { fuse_unknown, byte_fallback, unknown }) => {
            (model.fuse_unk, model.byte_fallback, model.ignore_merges) = (fuse_unknown, byte_fallback, false);
            (model.continuing_subword_prefix, model.end_of_word_suffix) = (None, None);
            model.unk_token = unk_token.filter(|_| unknown).map(str::to_owned);
            Ok(ModelWrapper::BPE(model))
        }
        (ModelWrapper::WordPiece(mut model), Model::WordPiece) => {
            unk_token.unwrap_or("[UNK]").clone_into(&mut model.unk_token);
            "##".clone_into(&mut model.continuing_subword_prefix);
            model.max_input_chars_per_word = 100;
            Ok(ModelWrapper::WordPiece(model))
        }
        _ => Err("its model is not of the kind that tokenizer_config.json's `tokenizer_class` builds".into()),
    }
}

/// Added tokens while they are put together.
struct Vocabulary<'a> {
    added: AddedVocabulary,
    model: &'a ModelWrapper,
    normalizer: &'a Normalizer,
    /// What the added tokens count for.
    bytes: usize,
}

impl Vocabulary<'_> {
    fn add(&mut self, tokens: Vec<AddedToken>) -> Result<(), String> {
        let known = self.added.get_vocab();
        let new = tokens.iter().filter(|token| !known.contains_key(&token.content));
        self.bytes += new.map(|token| token.content.len() + ADDED).sum::<usize>();
        if self.bytes > MAX_ALL_ADDED {
            return Err(format!("its added tokens have more than {} MiB", MAX_ALL_ADDED >> 20));
        }
        if tokens.iter().any(|token| token.content.len() > MAX_ADDED) {
            return Err(format!("an added token is longer than {} KiB", MAX_ADDED >> 10));
        }
        let bytes = tokens.iter().map(|token| token.content.len()).sum();
        let bounded = self.normalizer.bounded(bytes);
        self.added.add_tokens(tokens, self.model, bounded.as_ref()).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Adds the tokens that the files beside `tokenizer.json` list, with their properties, then special tokens that are
    /// none yet.
    fn add_missing(&mut self, settings: &Settings, special: &[(Option<String>, Given)]) -> Result<(), String> {
        let named: HashSet<&str> =
            special.iter().filter(|(name, _)| name.is_some()).map(|(_, given)| given.text()).collect();
        let listed = settings.added.values().cloned().map(|mut token| {
            token.special |= named.contains(token.content.as_str());
            token
        });
        let mut tokens: Vec<AddedToken> = listed.collect();
        let known: HashSet<String> =
            tokens.iter().map(|token| &token.content).chain(self.added.get_vocab().keys()).cloned().collect();
        for (name, given) in special.iter().filter(|(_, given)| !known.contains(given.text())) {
            tokens.push(match given {
                Given::Token(token) if name.is_none() => token.clone(),
                _ => given.special(),
            });
        }
        self.add(tokens)
    }

    fn add_again(&mut self, again: Again, special: &[(Option<String>, Given)]) -> Result<(), String> {
        match again {
            Again::No => Ok(()),
            Again::Plain => self.add(special.iter().map(|(_, given)| AddedToken::from(given.text(), true)).collect()),
            Again::Special => self.add(special.iter().map(|(_, given)| given.special()).collect()),
        }
    }

    /// Special tokens with their ids.
    fn special_tokens(&self, special: Vec<(Option<String>, Given)>) -> SpecialTokens {
        let named = special.into_iter().filter_map(|(name, given)| {
            let text = given.text().to_owned();
            Some(SpecialToken { name: name?, id: self.added.token_to_id(&text, self.model), text })
        });
        SpecialTokens { named: named.collect(), ..SpecialTokens::default() }
    }
}

/// What is put around texts, by the file or by the class.
fn ends(file: &Json, rebuilt: Option<&Rebuilt>, special: &SpecialTokens) -> Result<Option<Around>, String> {
    let id = |name: &str| special.get(name).and_then(|token| token.id);
    match rebuilt.map_or(Ends::File, |rebuilt| rebuilt.ends) {
        Ends::File => Around::read(file),
        Ends::Nothing => Ok(Some(Around::default())),
        Ends::Bos => Ok(Some(Around { before: id("bos_token").into_iter().collect(), after: Vec::new() })),
        Ends::ClsAndSep => {
            let (before, after) = (id("cls_token").unwrap_or(2), id("sep_token").unwrap_or(3));
            Ok(Some(Around { before: vec![before], after: vec![after] }))
        }
    }
}
