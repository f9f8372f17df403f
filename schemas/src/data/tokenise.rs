//! A row to an example: tokens and targets by the model's own tokenizer and chat template.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use serde_json::{Map, Value as Json};

use super::rows::{self, ConversationRow, Row, RowError};
use crate::data::{
    ChatTemplate, Conversation, Encoded, Encoder, Example, ExampleError, FoundBy, NoTarget, RowSettings,
    SpecialTokensAround, Target, TemplateError,
};

/// How rows become examples.
pub(super) struct Tokeniser<'a> {
    /// The model's tokenizer and chat template.
    pub encoder: &'a Encoder,
    /// Tokens must lie below it.
    pub vocabulary: usize,
    /// Tokens of an example; what goes beyond is cut off.
    pub max_length: usize,
    /// How rows are to be read.
    pub settings: &'a RowSettings,
    /// The model's chat template, once a row has asked for it.
    template: OnceLock<Result<ChatTemplate, TemplateError>>,
}

/// A row's example and what is to be known of it.
pub(super) struct TokenisedRow {
    /// The tokens, with targets or without.
    pub example: Example,
    /// Why it has no target, where it would have none however long it might be. Of a text that is known only when it is
    /// known whether it ends.
    pub no_target: Option<NoTarget>,
    /// What of it the end of the text may follow; none where it is no text.
    pub text: Option<TextEnd>,
    /// A token holds the end of what is given and the beginning of what is to be said.
    pub straddles: bool,
    /// Of a conversation's answers that are to be targets only the last could be told from the rest.
    pub last_answer_only: bool,
}

/// The end of a completion, or of a text that is a target as a whole.
#[derive(Clone, Copy)]
pub(super) struct TextEnd {
    /// Stands for the completion's text: equal ones have the same.
    pub completion: u64,
    /// The completion is empty.
    pub empty: bool,
    /// The tokenizer ended it, or it ends so itself.
    pub ended: bool,
}

impl<'a> Tokeniser<'a> {
    pub(super) fn new(
        encoder: &'a Encoder,
        vocabulary: usize,
        max_length: usize,
        settings: &'a RowSettings,
    ) -> Tokeniser<'a> {
        Tokeniser { encoder, vocabulary, max_length, settings, template: OnceLock::new() }
    }

    /// The model's chat template.
    fn template(&self) -> Result<&ChatTemplate, RowError> {
        let special_tokens = self.encoder.special_tokens()?;
        let open = || ChatTemplate::open(self.encoder.folder(), &special_tokens.variables(), &self.settings.template);
        self.template.get_or_init(open).as_ref().map_err(|error| error.clone().into())
    }

    /// Whether the template was told a date.
    pub(super) fn told_a_date(&self) -> bool {
        let template = self.template.get().and_then(|template| template.as_ref().ok());
        template.is_some_and(ChatTemplate::asks_for_date)
    }

    /// The token that ends texts.
    pub(super) fn end(&self) -> Result<u32, ExampleError> {
        let (folder, vocabulary) = (self.encoder.folder().to_owned(), self.vocabulary);
        match self.encoder.special_tokens()?.eos() {
            None => Err(ExampleError::NoEnd { folder }),
            Some(token) if token as usize >= vocabulary => Err(ExampleError::EndOutside { folder, token, vocabulary }),
            Some(token) => Ok(token),
        }
    }

    /// Makes an example of a row that stands at `line`.
    pub(super) fn row(&self, row: Map<String, Json>, line: u64) -> Result<TokenisedRow, RowError> {
        let tokenised = match rows::read(row, self.settings.form, self.vocabulary)? {
            Row::Tokens(tokens, targets) => self.tokens(line, tokens, targets),
            Row::Text { prompt, completion } => self.text(line, prompt, &completion)?,
            Row::Conversation(conversation) => self.conversation(line, conversation)?,
            Row::Instruction { conversation, prompt, completion } => match self.template() {
                Err(RowError::Template(TemplateError::NoTemplate { .. })) if conversation.is_one_turn() => {
                    self.text(line, prompt, &completion)?
                }
                _ => self.conversation(line, conversation)?,
            },
            Row::Weightless => without_targets(line, NoTarget::Weight),
        };
        self.check_vocabulary(&tokenised.example)?;
        Ok(tokenised)
    }

    fn tokens(&self, line: u64, mut tokens: Vec<u32>, mut targets: Vec<Target>) -> TokenisedRow {
        let whole = (tokens.len(), targets.len());
        tokens.truncate(self.max_length);
        targets.retain(|target| (target.position as usize) + 1 < tokens.len());
        let (cut, targets_cut) = (tokens.len() < whole.0, targets.len() < whole.1);
        TokenisedRow {
            example: Example { cut, targets_cut, ..Example::new(line, tokens, targets) },
            no_target: (whole.1 == 0).then_some(NoTarget::NoLabels),
            text: None,
            straddles: false,
            last_answer_only: false,
        }
    }

    fn text(&self, line: u64, prompt: String, completion: &str) -> Result<TokenisedRow, RowError> {
        let begin = prompt.len();
        let mut text = prompt;
        text.push_str(completion);
        let encoded = self.encoder.encode(&text, &[begin..text.len()], SpecialTokensAround::Add, self.max_length)?;
        let mut hasher = DefaultHasher::new();
        completion.hash(&mut hasher);
        let end = TextEnd { completion: hasher.finish(), empty: completion.is_empty(), ended: encoded.ended };
        Ok(TokenisedRow {
            no_target: None,
            text: Some(end),
            straddles: encoded.straddles,
            last_answer_only: false,
            example: example(line, encoded),
        })
    }

    fn conversation(&self, line: u64, mut row: ConversationRow) -> Result<TokenisedRow, RowError> {
        let template = self.template()?;
        let answers = row.answers();
        if answers == 0 {
            return Ok(without_targets(line, NoTarget::NoAnswer));
        }
        if !template.takes_content_parts() {
            row.join_content_parts();
        }
        let conversation = Conversation {
            messages: &row.messages,
            tools: row.tools.as_ref(),
            documents: row.documents.as_ref(),
            variables: row.variables.as_ref(),
        };
        let rendered = template.render(&conversation)?;
        let wanted = row.trained_answers(&rendered)?;
        // Templates write the special tokens themselves.
        let encoded = self.encoder.encode(&rendered.text, &wanted, SpecialTokensAround::None, self.max_length)?;
        let straddles = encoded.straddles;
        let mut example = example(line, encoded);
        let end = self.encoder.special_tokens()?.eos();
        example.ended = end.is_some() && example.targets.last().map(|target| target.token) == end;
        Ok(TokenisedRow {
            no_target: wanted.iter().all(std::ops::Range::is_empty).then_some(NoTarget::NotRendered),
            text: None,
            straddles,
            last_answer_only: rendered.found_by == FoundBy::LastAnswer && answers > 1,
            example,
        })
    }

    fn check_vocabulary(&self, example: &Example) -> Result<(), RowError> {
        let vocabulary = self.vocabulary;
        let ids = example.tokens.iter().chain(example.targets.iter().map(|target| &target.token));
        match ids.copied().find(|&token| token as usize >= vocabulary) {
            Some(token) => Err(RowError::Vocabulary { token: token.into(), vocabulary }),
            None => Ok(()),
        }
    }
}

/// An example whose targets are the wanted tokens from the second on; before the first there is no position to predict
/// it at.
fn example(line: u64, encoded: Encoded) -> Example {
    let Encoded { tokens, wanted, cut, wanted_cut, .. } = encoded;
    let targets = (1..tokens.len().min(wanted.len()))
        .filter(|&position| wanted[position])
        .map(|position| Target { position: (position - 1) as u32, token: tokens[position] })
        .collect();
    Example { cut, targets_cut: wanted_cut, ..Example::new(line, tokens, targets) }
}

fn without_targets(line: u64, why: NoTarget) -> TokenisedRow {
    TokenisedRow {
        example: Example::new(line, Vec::new(), Vec::new()),
        no_target: Some(why),
        text: None,
        straddles: false,
        last_answer_only: false,
    }
}
