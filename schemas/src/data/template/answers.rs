//! Where in a rendered conversation the assistant speaks.

use std::cell::Cell;
use std::ops::Range;

use minijinja::Value;
use minijinja::value::ValueKind;

use super::conversation::Prepared;
use super::engine::Engine;
use super::habits::Habits;
use super::rendered::{Answer, FoundBy};
use super::values;

/// How many bytes of text may be rendered to find the answers of one conversation.
const MAX_RENDERED: usize = 1 << 27;

/// What stands in for an answer's text, twice: their first and their last characters differ.
const OTHERS: [&str; 2] = ["Zq7xW", "Kj4vY"];

/// The rendering of one conversation, by which its answers are found.
pub(super) struct Search<'a> {
    engine: &'a Engine,
    prepared: &'a Prepared,
    text: &'a str,
    left: Cell<usize>,
}

/// Answers with what found them.
pub(super) type Found = (Vec<Answer>, FoundBy);

impl<'a> Search<'a> {
    pub(super) fn new(engine: &'a Engine, prepared: &'a Prepared, text: &'a str) -> Search<'a> {
        Search { engine, prepared, text, left: Cell::new(MAX_RENDERED) }
    }

    /// The answers; none where they cannot be told from the rest.
    pub(super) fn answers(&self) -> Option<Found> {
        let assistant: Vec<usize> = assistants(&self.prepared.messages);
        let mut found_by = FoundBy::Prefix;
        let mut answers = Vec::new();
        for &i in &assistant {
            if let Some(range) = self.by_prefix(i) {
                answers.push(Answer { range, message: Some(i) });
                continue;
            }
            found_by = FoundBy::Comparison;
            let Some(ranges) = self.by_comparison(i) else { return self.last_answer(&assistant) };
            answers.extend(ranges.into_iter().map(|range| Answer { range, message: Some(i) }));
        }
        let in_order = answers.windows(2).all(|pair| matches!(pair, [a, b] if a.range.end <= b.range.start));
        if in_order { Some((answers, found_by)) } else { self.last_answer(&assistant) }
    }

    /// The last answer alone, where it is the end of the conversation.
    fn last_answer(&self, assistant: &[usize]) -> Option<Found> {
        self.left.set(MAX_RENDERED);
        let &last = assistant.last()?;
        let ranges = self.by_prefix(last).map(|range| vec![range]).or_else(|| self.by_comparison(last))?;
        let answers = ranges.into_iter().map(|range| Answer { range, message: Some(last) });
        Some((answers.collect(), FoundBy::LastAnswer))
    }

    /// Where the conversation is written alike up to the answer and up to its end.
    fn by_prefix(&self, i: usize) -> Option<Range<usize>> {
        if self.habits().ignores_prompt {
            return None;
        }
        let start = self.start_by_prefix(i)?;
        let after = self.render(self.prepared.messages.get(..=i)?.to_vec(), false)?;
        let whole = self.text.starts_with(&after) && after.len() >= start;
        // The line break after the end-of-turn token belongs to the template, not to the answer.
        whole.then(|| start..start.max(after.trim_end().len()))
    }

    fn start_by_prefix(&self, i: usize) -> Option<usize> {
        let before = self.render(self.prepared.messages.get(..i)?.to_vec(), true)?;
        let rest = self.text.strip_prefix(&before)?;
        let header = self.habits().unasked_header.as_str();
        rest.starts_with(header).then_some(before.len() + header.len())
    }

    /// Where an answer begins after its header, which stands before `at` and after what the message before it says.
    fn start_by_header(&self, i: usize, at: usize) -> Option<usize> {
        let header = self.header()?;
        let from = match i.checked_sub(1) {
            Some(previous) => self.differences(previous).iter().map(|range| range.end).max()?,
            None => 0,
        };
        let found = self.text.get(from..at)?.find(&header)?;
        Some(from + found + header.len())
    }

    /// Where the full text differs when the answer is another, with the end of the turn: one range, unless the template
    /// writes what others say in the middle of it, as results between a call and the words that came with it.
    fn by_comparison(&self, i: usize) -> Option<Vec<Range<usize>>> {
        let differences = self.differences(i);
        let end = differences.iter().map(|range| range.end).max()?;
        let between = self.results_within(i, differences.first()?.start..end);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for range in differences {
            match ranges.last_mut() {
                Some(last) => match between.as_ref().filter(|gap| last.end <= gap.start && gap.end <= range.start) {
                    Some(gap) => {
                        last.end = gap.start;
                        ranges.push(gap.end..range.end);
                    }
                    None => last.end = last.end.max(range.end),
                },
                None => ranges.push(range),
            }
        }
        if let Some(first) = ranges.first_mut() {
            let by_prefix = self.start_by_prefix(i).filter(|prefix| *prefix <= first.end);
            first.start = by_prefix.or_else(|| self.start_by_header(i, first.start)).unwrap_or(first.start);
        }
        if let Some(last) = ranges.last_mut() {
            last.end = self.end_of_turn(i, last.end);
        }
        Some(ranges)
    }

    /// What of a range the messages are that answer an answer's calls, with all that the template writes for them; none
    /// where they stand elsewhere.
    fn results_within(&self, i: usize, range: Range<usize>) -> Option<Range<usize>> {
        let messages = &self.prepared.messages;
        let results = messages.iter().skip(i + 1).take_while(|message| has_role(message, "tool")).count();
        if results == 0 {
            return None;
        }
        let kept = |&(j, _): &(usize, &Value)| j <= i || j > i + results;
        let others: Vec<Value> = messages.iter().enumerate().filter(kept).map(|(_, message)| message.clone()).collect();
        let gap = changed(self.text, &self.render(others, false)?);
        (range.start <= gap.start && gap.end <= range.end).then_some(gap)
    }

    /// What of the full text changes with each of the things that a message says, in order.
    fn differences(&self, i: usize) -> Vec<Range<usize>> {
        let variants = self.prepared.messages.get(i).map(variants).unwrap_or_default();
        let mut differences: Vec<Range<usize>> =
            variants.into_iter().filter_map(|variant| self.difference(i, variant)).collect();
        differences.sort_by_key(|range| (range.start, range.end));
        differences
    }

    /// What of the full text changes with a message.
    fn difference(&self, i: usize, variant: Value) -> Option<Range<usize>> {
        let mut messages = self.prepared.messages.clone();
        *messages.get_mut(i)? = variant;
        let other = self.render(messages, false)?;
        (other != self.text).then(|| changed(self.text, &other))
    }

    /// The end of the turn whose text ends at `end`.
    fn end_of_turn(&self, i: usize, end: usize) -> usize {
        if i + 1 == self.prepared.messages.len() && !self.habits().ignores_prompt {
            return self.text.trim_end().len().max(end);
        }
        let Some(mark) = self.end_mark() else { return end };
        let rest = self.text.get(end..).unwrap_or_default();
        let first = first_token(&mark);
        let Some(at) = rest.find(first) else { return end };
        // What comes between is the end of a tool call, and never the next message.
        if at > 0 && self.next_message(i).is_none_or(|next| end + at >= next) {
            return end;
        }
        let rest = rest.get(at..).unwrap_or_default();
        end + at + shared_tokens(&mark, rest).max(first.len())
    }

    /// Where the text of the message after the answer begins.
    fn next_message(&self, i: usize) -> Option<usize> {
        if i + 1 == self.prepared.messages.len() {
            return Some(self.text.len());
        }
        self.differences(i + 1).first().map(|range| range.start)
    }

    /// What the template writes after an answer that others follow.
    fn end_mark(&self) -> Option<String> {
        let [content, _] = OTHERS;
        let user = message("user", "?");
        let dialogue = || vec![user.clone(), message("assistant", content)];
        let follows = self.render(dialogue(), true)?;
        let (_, follows) = follows.rsplit_once(content)?;
        let mark = if self.habits().ignores_prompt {
            first_token(follows)
        } else {
            // Without a prompt some templates write the end of the text instead.
            follows.strip_suffix(self.prompt()?.as_str()).unwrap_or(follows)
        };
        let mark = mark.trim_end();
        (!mark.trim().is_empty()).then(|| mark.to_owned())
    }

    /// What the template writes to ask for an answer, where it is told to.
    fn prompt(&self) -> Option<String> {
        let user = vec![message("user", "?")];
        let (asked, prompted) = (self.render(user.clone(), false)?, self.render(user, true)?);
        prompted.get(token_end(&prompted, common_prefix(&asked, &prompted))..).map(str::to_owned)
    }

    /// What the template writes before an answer.
    fn header(&self) -> Option<String> {
        let prompt = self.prompt()?;
        let header = if prompt.trim().is_empty() { &self.habits().unasked_header } else { prompt.trim_start() };
        (!header.is_empty()).then(|| header.to_owned())
    }

    fn habits(&self) -> &Habits {
        self.engine.habits.get_or_init(|| Habits {
            ignores_prompt: self.ignores_prompt(),
            unasked_header: self.unasked_header().unwrap_or_default(),
        })
    }

    /// Whether the template writes the beginning of another answer after the last one, asked for or not.
    fn ignores_prompt(&self) -> bool {
        let [content, _] = OTHERS;
        let dialogue = || vec![message("user", "?"), message("assistant", content)];
        let (plain, prompted) = (self.render(dialogue(), false), self.render(dialogue(), true));
        let alike = plain.is_some() && plain == prompted;
        let end = plain.as_deref().and_then(|text| text.rsplit_once(content)).map(|(_, end)| end.trim_end());
        alike && end.is_some_and(|end| first_token(end).len() < end.len())
    }

    /// What the template writes before an answer but not as a prompt, since it knows none.
    fn unasked_header(&self) -> Option<String> {
        let [content, _] = OTHERS;
        let user = message("user", "?");
        let prompted = self.render(vec![user.clone()], true)?;
        if self.render(vec![user.clone()], false)? != prompted {
            return None;
        }
        // The last answer may begin with more, which is its own.
        let answered = self.render(vec![user.clone(), message("assistant", content), user], false)?;
        let (before, _) = answered.split_once(content)?;
        // A space before a word is mostly part of its token.
        let header = before.get(token_end(before, common_prefix(&prompted, before))..)?.trim_end_matches(' ');
        (!header.trim().is_empty()).then(|| header.to_owned())
    }

    /// A rendering, unless too much has been rendered already.
    fn render(&self, messages: Vec<Value>, prompt: bool) -> Option<String> {
        let left = self.left.get().checked_sub(messages.len() * 64)?;
        let text = self.engine.render(self.prepared.variables(messages, prompt), None).ok()?;
        self.left.set(left.checked_sub(text.len())?);
        Some(text)
    }
}

fn message(role: &str, content: &str) -> Value {
    Value::from_pairs([("role", role), ("content", content)])
}

fn has_role(message: &Value, role: &str) -> bool {
    message.get_attr("role").is_ok_and(|found| found.as_str() == Some(role))
}

/// Which messages are the assistant's.
pub(super) fn assistants(messages: &[Value]) -> Vec<usize> {
    messages.iter().enumerate().filter(|(_, message)| has_role(message, "assistant")).map(|(i, _)| i).collect()
}

/// A message with other text, other reasoning, other tool calls, each where it has them.
fn variants(message: &Value) -> Vec<Value> {
    let fields = values::pairs(message);
    let with = |names: &[&str], value: Value| -> Value {
        let mut fields = fields.clone();
        let mut found = false;
        for (name, known) in &mut fields {
            if name.as_str().is_some_and(|name| names.contains(&name)) {
                *known = value.clone();
                found = true;
            }
        }
        if !found {
            fields.extend(names.first().map(|name| (Value::from(*name), value)));
        }
        Value::from_pairs(fields)
    };
    let get = |wanted: &str| fields.iter().find(|(name, _)| name.as_str() == Some(wanted)).map(|(_, value)| value);
    let parts = get("content").is_some_and(|content| content.kind() == ValueKind::Seq);
    let mut variants = Vec::new();
    for other in OTHERS {
        let content = if parts { text_part(other) } else { Value::from(other) };
        variants.push(with(&["content"], content));
        if get("reasoning_content").is_some() {
            variants.push(with(&["reasoning_content", "thinking", "reasoning"], Value::from(other)));
        }
        if let Some(calls) = get("tool_calls").and_then(|calls| calls.try_iter().ok()) {
            variants.push(with(&["tool_calls"], calls.map(|call| other_call(&call, other)).collect()));
        }
    }
    variants
}

fn text_part(text: &str) -> Value {
    Value::from(vec![Value::from_pairs([("type", "text"), ("text", text)])])
}

/// A tool call with other arguments, or of another function where it has none. Names may come again in later messages.
fn other_call(call: &Value, other: &str) -> Value {
    let has_arguments = call.get_attr("arguments").is_ok_and(|arguments| arguments.is_true());
    Value::from_pairs(values::pairs(call).into_iter().map(|(name, value)| {
        let value = match name.as_str() {
            Some("function") => other_call(&value, other),
            Some("name") if !has_arguments => Value::from(other),
            Some("arguments") if value.as_str().is_some() => Value::from(format!("{{\"{other}\": \"{other}\"}}")),
            Some("arguments") => Value::from_pairs([(other, other)]),
            _ => value,
        };
        (name, value)
    }))
}

/// What of a text is not so in another.
fn changed(text: &str, other: &str) -> Range<usize> {
    let start = common_prefix(text, other);
    let rest = text.len().min(other.len()) - start;
    start..text.len() - common_suffix(text, other).min(rest)
}

fn common_prefix(a: &str, b: &str) -> usize {
    let shared = |(x, y): &(char, char)| x == y;
    a.chars().zip(b.chars()).take_while(shared).map(|(c, _)| c.len_utf8()).sum()
}

fn common_suffix(a: &str, b: &str) -> usize {
    let shared = |(x, y): &(char, char)| x == y;
    a.chars().rev().zip(b.chars().rev()).take_while(shared).map(|(c, _)| c.len_utf8()).sum()
}

/// Whether a token may end between two characters.
fn is_boundary(before: char, after: char) -> bool {
    matches!(before, '>' | ']') || matches!(after, '<' | '[') || after.is_whitespace() || before.is_whitespace()
}

/// The first token of what ends a turn, with white space before it.
fn first_token(mark: &str) -> &str {
    let from = mark.len() - mark.trim_start().len();
    let mut characters = mark.get(from..).unwrap_or_default().char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if let Some(&(_, next)) = characters.peek()
            && is_boundary(c, next)
        {
            return mark.get(..from + at + c.len_utf8()).unwrap_or(mark);
        }
    }
    mark
}

/// How much of what ends a turn, whole tokens of it, `rest` begins with.
fn shared_tokens(mark: &str, rest: &str) -> usize {
    let end = token_end(mark, common_prefix(mark, rest));
    mark.get(..end).map_or(0, |tokens| tokens.trim_end().len())
}

/// The last place up to `at` where a token may end.
fn token_end(text: &str, at: usize) -> usize {
    let ends_token = |at: usize| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text.get(at..).and_then(|text| text.chars().next());
        match (before, after) {
            (Some(before), Some(after)) => is_boundary(before, after),
            _ => true,
        }
    };
    (0..=at).rev().find(|&at| text.is_char_boundary(at) && ends_token(at)).unwrap_or(0)
}
