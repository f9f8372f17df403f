//! Which modules a crate's source has, and which paths its code names: comments, strings, documentation and what is
//! compiled for tests alone are left out.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A module's place in its crate: `["ops", "cpu"]`; the root is empty.
pub(crate) type ModulePath = Vec<String>;

/// A path as it stands in code, by its segments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CodePath {
    pub(crate) segments: Vec<String>,
    pub(crate) line: usize,
}

/// One name that a `use` brings into a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    pub(crate) path: CodePath,
    /// What the module calls it; `*` for all names of `path`, `_` for none.
    pub(crate) name: String,
    /// Whether others see it too (`pub use`).
    pub(crate) public: bool,
}

/// What one module says.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) file: String,
    pub(crate) imports: Vec<Import>,
    /// Paths outside `use`, single names included.
    pub(crate) paths: Vec<CodePath>,
    /// Items that the module defines itself.
    pub(crate) items: BTreeSet<String>,
}

/// The modules of a crate, by path.
pub(crate) type Modules = BTreeMap<ModulePath, Module>;

/// Reads a crate's files: names relative to `src/`, with `/`, and their text.
pub(crate) fn modules(files: &[(String, String)]) -> Result<Modules, String> {
    let mut modules = Modules::new();
    let mut for_tests = BTreeSet::new();
    for (name, text) in files {
        let tokens: TokenStream = text.parse().map_err(|error| format!("{name}: {error}"))?;
        let path = module_path(name);
        Reader { file: name, modules: &mut modules, for_tests: &mut for_tests }.module(path, tokens);
    }
    modules.retain(|path, _| !for_tests.iter().any(|test: &ModulePath| path.starts_with(test)));
    Ok(modules)
}

/// The module that a file holds: `ops/cpu/mod.rs` is `ops::cpu`, `lib.rs` the root.
fn module_path(file: &str) -> ModulePath {
    let mut path: ModulePath = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    let is_root = path.len() == 1 && matches!(path[0].as_str(), "lib" | "main");
    if is_root || path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

struct Reader<'a> {
    file: &'a str,
    modules: &'a mut Modules,
    /// Modules that only tests have, declared in one file and written in another.
    for_tests: &'a mut BTreeSet<ModulePath>,
}

impl Reader<'_> {
    fn module(&mut self, path: ModulePath, tokens: TokenStream) {
        let mut module = Module { file: self.file.into(), ..Module::default() };
        self.tokens(&path, &mut module, &tokens.into_iter().collect::<Vec<_>>(), 0);
        self.modules.insert(path, module);
    }

    /// Reads tokens of one nesting level, and those inside their groups; items are those at depth 0.
    fn tokens(&mut self, path: &ModulePath, module: &mut Module, tokens: &[TokenTree], depth: usize) {
        let mut at = 0;
        while at < tokens.len() {
            if is_punct(tokens.get(at), '#') {
                let (attribute, after) = attribute(tokens, at);
                at = after;
                let Some(attribute) = attribute else { continue };
                if is_for_tests(&attribute) {
                    at = self.skip_item(path, tokens, at);
                } else if !first_is(&attribute, "doc") {
                    self.group(path, module, &attribute, depth);
                }
                continue;
            }
            match &tokens[at] {
                TokenTree::Group(group) => {
                    self.group(path, module, group, depth);
                    at += 1;
                }
                TokenTree::Ident(ident) if ident == "use" && !is_punct(tokens.get(at + 1), '<') => {
                    let end = (at..tokens.len()).find(|&i| is_punct(tokens.get(i), ';')).unwrap_or(tokens.len());
                    let public = is_public(&tokens[..at]);
                    imports(&tokens[at + 1..end], &[], public, &mut module.imports);
                    at = end + 1;
                }
                TokenTree::Ident(ident) if ident == "pub" => {
                    // `pub(crate)` and `pub(in …)` say who sees an item, not what it needs.
                    let restricted = matches!(tokens.get(at + 1), Some(TokenTree::Group(group))
                        if ["crate", "super", "self", "in"].iter().any(|word| first_is(group, word)));
                    at += if restricted { 2 } else { 1 };
                }
                TokenTree::Ident(ident) if ident == "mod" => match (tokens.get(at + 1), tokens.get(at + 2)) {
                    (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) => {
                        self.module(joined(path, &name.to_string()), body.stream());
                        at += 3;
                    }
                    _ => at += 2,
                },
                TokenTree::Ident(ident) => {
                    let defines = depth == 0 && DEFINES.iter().any(|keyword| ident == keyword);
                    if let (true, Some(TokenTree::Ident(name))) = (defines, tokens.get(at + 1)) {
                        module.items.insert(name.to_string());
                    }
                    at = code_path(tokens, at, &mut module.paths);
                }
                _ => at += 1,
            }
        }
    }

    fn group(&mut self, path: &ModulePath, module: &mut Module, group: &Group, depth: usize) {
        self.tokens(path, module, &group.stream().into_iter().collect::<Vec<_>>(), depth + 1);
    }

    /// The index after the item, field or statement at `at`; a module declared there is left out wherever it is written.
    fn skip_item(&mut self, path: &ModulePath, tokens: &[TokenTree], mut at: usize) -> usize {
        while is_punct(tokens.get(at), '#') {
            at = attribute(tokens, at).1;
        }
        let mut is_item = false;
        let mut is_use = false;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Ident(word) if word == "mod" => {
                    is_item = true;
                    if let Some(TokenTree::Ident(name)) = tokens.get(at) {
                        self.for_tests.insert(joined(path, &name.to_string()));
                    }
                }
                TokenTree::Ident(word) if word == "use" => (is_item, is_use) = (true, true),
                TokenTree::Ident(word) => is_item |= ITEMS.iter().any(|keyword| word == keyword),
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => break,
                TokenTree::Punct(punct) if punct.as_char() == ';' || (punct.as_char() == ',' && !is_item) => break,
                _ => {}
            }
        }
        at
    }
}

const DEFINES: [&str; 8] = ["fn", "struct", "enum", "union", "trait", "type", "const", "static"];
const ITEMS: [&str; 9] = ["fn", "struct", "enum", "union", "trait", "type", "const", "static", "impl"];

/// The attribute at `at`, which is a `#`, and the index after it.
fn attribute(tokens: &[TokenTree], at: usize) -> (Option<Group>, usize) {
    let inner = usize::from(is_punct(tokens.get(at + 1), '!'));
    match tokens.get(at + 1 + inner) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            (Some(group.clone()), at + 2 + inner)
        }
        _ => (None, at + 1),
    }
}

/// Whether an attribute is a `cfg` that holds in tests alone.
fn is_for_tests(attribute: &Group) -> bool {
    let tokens: Vec<_> = attribute.stream().into_iter().collect();
    let [TokenTree::Ident(name), TokenTree::Group(condition)] = tokens.as_slice() else { return false };
    name == "cfg" && wants_test(condition)
}

/// Whether a condition cannot hold without `test`: `test` itself, or `all(…)` with it.
fn wants_test(condition: &Group) -> bool {
    let tokens: Vec<_> = condition.stream().into_iter().collect();
    tokens.iter().enumerate().any(|(i, token)| match token {
        TokenTree::Ident(word) if word == "test" => {
            tokens.len() == 1 || is_punct(tokens.get(i + 1), ',') || i + 1 == tokens.len()
        }
        TokenTree::Group(group) => {
            matches!(tokens.get(i.wrapping_sub(1)), Some(TokenTree::Ident(word)) if word == "all") && wants_test(group)
        }
        _ => false,
    })
}

/// Whether `pub` or `pub(…)` stands right before.
fn is_public(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(word)] => word == "pub",
        [.., TokenTree::Ident(word), TokenTree::Group(_)] => word == "pub",
        _ => false,
    }
}

/// Adds what a tree of `use` brings: `a::{b, c::d as e}` after the segments in `before`.
fn imports(tokens: &[TokenTree], before: &[String], public: bool, into: &mut Vec<Import>) {
    let mut segments = before.to_vec();
    let mut line = 0;
    let mut at = 0;
    while at < tokens.len() {
        line = tokens[at].span().start().line;
        match &tokens[at] {
            TokenTree::Group(group) => {
                let inside: Vec<_> = group.stream().into_iter().collect();
                for branch in inside.split(|token| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',')) {
                    imports(branch, &segments, public, into);
                }
                return;
            }
            TokenTree::Punct(punct) if punct.as_char() == '*' => {
                into.push(Import { path: CodePath { segments, line }, name: "*".into(), public });
                return;
            }
            TokenTree::Ident(word) if word == "as" => {
                let name = tokens.get(at + 1).map(ToString::to_string).unwrap_or_default();
                into.push(Import { path: CodePath { segments, line }, name, public });
                return;
            }
            // `a::{self}` names `a`; a leading `self` is the module itself.
            TokenTree::Ident(word) if word == "self" && !segments.is_empty() => {}
            TokenTree::Ident(word) => segments.push(word.to_string()),
            _ => {}
        }
        at += 1;
    }
    let is_path = segments.len() > before.len() || ends_in_self(tokens);
    if let (true, Some(name)) = (is_path, segments.last().cloned()) {
        into.push(Import { path: CodePath { segments, line }, name, public });
    }
}

fn ends_in_self(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Ident(word)] if word == "self")
}

/// Adds the path that begins at `at`, an identifier; the index after it.
fn code_path(tokens: &[TokenTree], at: usize, into: &mut Vec<CodePath>) -> usize {
    let mut segments = vec![tokens[at].to_string()];
    let mut end = at + 1;
    while is_punct(tokens.get(end), ':') && is_punct(tokens.get(end + 1), ':') {
        let Some(TokenTree::Ident(segment)) = tokens.get(end + 2) else { break };
        segments.push(segment.to_string());
        end += 3;
    }
    // A field, a method or the tail of a longer path is no path of its own.
    let is_tail = at > 0 && is_punct(tokens.get(at - 1), '.')
        || at > 1 && is_punct(tokens.get(at - 1), ':') && is_punct(tokens.get(at - 2), ':');
    if !is_tail {
        into.push(CodePath { segments, line: tokens[at].span().start().line });
    }
    end
}

fn is_punct(token: Option<&TokenTree>, wanted: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn first_is(group: &Group, word: &str) -> bool {
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(first)) if first == word)
}

pub(crate) fn joined(path: &[String], name: &str) -> ModulePath {
    path.iter().cloned().chain([name.to_owned()]).collect()
}
