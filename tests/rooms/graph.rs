//! Which file of a crate needs which: paths resolved to the file that defines what they name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{CodePath, Import, Module, ModulePath, Modules, joined};

/// One file's need of another, where it is seen first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) line: usize,
    pub(crate) path: String,
    /// The file that defines what `path` names.
    pub(crate) to: String,
}

/// A crate other than `std` that a file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Foreign {
    pub(crate) from: String,
    pub(crate) line: usize,
    pub(crate) name: String,
}

/// What a path leads to.
enum Meaning {
    Module(ModulePath),
    /// Something defined in a module.
    Item(ModulePath),
    /// Something of the crate of this name, where it is one at all.
    Foreign(String),
}

/// The arrows between a crate's files, one for each pair, and the names of crates that its files mention.
pub(crate) fn arrows(modules: &Modules) -> (Vec<Arrow>, BTreeSet<Foreign>) {
    let mut arrows = BTreeMap::new();
    let mut foreign = BTreeSet::new();
    for (at, module) in modules {
        for path in needs(module) {
            match Resolver::new(modules).resolve(at, &path.segments) {
                Meaning::Foreign(name) => {
                    foreign.insert(Foreign { from: module.file.clone(), line: path.line, name });
                }
                Meaning::Module(to) | Meaning::Item(to) => {
                    let to = modules[&to].file.clone();
                    if to != module.file {
                        let arrow = Arrow {
                            from: module.file.clone(),
                            line: path.line,
                            path: path.segments.join("::"),
                            to: to.clone(),
                        };
                        let first = arrows.entry((module.file.clone(), to)).or_insert_with(|| arrow.clone());
                        if arrow.line < first.line {
                            *first = arrow;
                        }
                    }
                }
            }
        }
    }
    (arrows.into_values().collect(), foreign)
}

/// The paths that a module's code rests on: all but re-exports that it does not use itself, and single names.
fn needs(module: &Module) -> impl Iterator<Item = &CodePath> {
    let used: BTreeSet<&str> = module.paths.iter().map(|path| path.segments[0].as_str()).collect();
    let imports = module
        .imports
        .iter()
        .filter(move |import| !import.public || used.contains(import.name.as_str()))
        .map(|import| &import.path);
    imports.chain(module.paths.iter().filter(|path| path.segments.len() > 1))
}

/// Follows paths through `crate`, `self`, `super`, imports, re-exports and child modules.
struct Resolver<'a> {
    modules: &'a Modules,
    /// Names being looked up, each in a module: an import that leads back to itself leads nowhere.
    open: Vec<(ModulePath, String)>,
}

impl<'a> Resolver<'a> {
    fn new(modules: &'a Modules) -> Self {
        Self { modules, open: Vec::new() }
    }

    /// What a path means in a module.
    fn resolve(&mut self, from: &ModulePath, segments: &[String]) -> Meaning {
        let mut at = from.clone();
        for (i, segment) in segments.iter().enumerate() {
            match segment.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => {
                    at.pop();
                }
                name => match self.look_up(&at, name, i == 0) {
                    Some(Meaning::Module(module)) => at = module,
                    Some(meaning) => return meaning,
                    None if i == 0 => return Meaning::Foreign(name.to_owned()),
                    None => return Meaning::Item(at),
                },
            }
        }
        Meaning::Module(at)
    }

    /// What a name means in a module, if the module knows it; private globs count for the module's own code alone.
    fn look_up(&mut self, at: &ModulePath, name: &str, is_own: bool) -> Option<Meaning> {
        let child = joined(at, name);
        if self.modules.contains_key(&child) {
            return Some(Meaning::Module(child));
        }
        let module = self.modules.get(at)?;
        if module.items.contains(name) {
            return Some(Meaning::Item(at.clone()));
        }
        if self.open.iter().any(|(module, open)| module == at && open == name) {
            return None;
        }
        self.open.push((at.clone(), name.to_owned()));
        let meaning = self.imported(at, module, name, is_own);
        self.open.pop();
        meaning
    }

    fn imported(&mut self, at: &ModulePath, module: &Module, name: &str, is_own: bool) -> Option<Meaning> {
        if let Some(import) = module.imports.iter().find(|import| import.name == name) {
            return match self.resolve(at, &import.path.segments) {
                // `use serde;` and the like.
                Meaning::Foreign(found) if found == name => None,
                meaning => Some(meaning),
            };
        }
        let globs = module.imports.iter().filter(|import| import.name == "*" && (import.public || is_own));
        for Import { path, .. } in globs {
            if let Meaning::Module(target) = self.resolve(at, &path.segments)
                && let Some(meaning) = self.look_up(&target, name, false)
            {
                return Some(meaning);
            }
        }
        None
    }
}

/// The shortest circle through each arrow that is part of one, each circle once, short ones first.
pub(crate) fn circles(arrows: &[Arrow]) -> Vec<Vec<Arrow>> {
    let mut found: BTreeMap<Vec<&str>, Vec<Arrow>> = BTreeMap::new();
    for arrow in arrows {
        let Some(mut back) = way(arrows, &arrow.to, &arrow.from) else { continue };
        back.insert(0, arrow);
        let first = (0..back.len()).min_by_key(|&i| &back[i].from).unwrap_or(0);
        back.rotate_left(first);
        found
            .entry(back.iter().map(|arrow| arrow.from.as_str()).collect())
            .or_insert_with(|| back.into_iter().cloned().collect());
    }
    let mut circles: Vec<_> = found.into_values().collect();
    circles.sort_by_key(Vec::len);
    circles
}

/// A shortest way along arrows.
fn way<'a>(arrows: &'a [Arrow], from: &str, to: &str) -> Option<Vec<&'a Arrow>> {
    let mut reached: BTreeMap<&str, &Arrow> = BTreeMap::new();
    let mut queue = VecDeque::from([from.to_owned()]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let mut way = Vec::new();
            let mut file = to;
            while file != from {
                let arrow = reached[file];
                way.push(arrow);
                file = &arrow.from;
            }
            way.reverse();
            return Some(way);
        }
        for arrow in arrows.iter().filter(|arrow| arrow.from == file) {
            if arrow.to != from && !reached.contains_key(arrow.to.as_str()) {
                reached.insert(&arrow.to, arrow);
                queue.push_back(arrow.to.clone());
            }
        }
    }
    None
}
