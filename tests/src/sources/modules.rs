//! Dependency graph of the files of a crate: an arrow for each path in one file to an item of another file.
//!
//! A path to a re-export leads to the file that defines the item. There is no arrow for:
//!
//! - a `mod` declaration, and a `pub use` of an item in a submodule,
//! - the import of a module, which only introduces a name: the paths through that name are arrows,
//! - a path to an item of a parent module: a submodule is a part of its parent, and may hold methods of its types.
//!   Otherwise no type could have its methods in several files.
//!
//! Code with `#[cfg(test)]` is left out. Method calls are not resolved.

use std::collections::{BTreeMap, BTreeSet};

use super::uses::{self, Path};
use super::{Token, lex};

/// An arrow from one file to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// The file that names something.
    pub from: String,
    /// The file that defines it.
    pub to: String,
    /// The path, as it is written.
    pub path: String,
    /// The line where it is written, counted from 1.
    pub line: usize,
}

/// The modules of one crate.
#[derive(Debug)]
pub struct Crate {
    modules: Vec<Module>,
}

#[derive(Debug, Default)]
struct Module {
    file: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    imported: Vec<Named>,
    named: Vec<Named>,
}

/// A path that owns its text, unlike [`Path`].
#[derive(Clone, Debug)]
struct Named {
    segments: Vec<String>,
    name: String,
    line: usize,
    public: bool,
}

/// The target of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Module(usize),
    /// An item that this module defines.
    Item(usize),
}

/// The bound on imports that lead to imports. The deepest re-export here has three steps; a circle of imports has no
/// end.
const STEPS: usize = 16;

impl Crate {
    /// Reads a crate, starting at its root file. `text_of` returns the text of a file; `None` means that it is missing.
    ///
    /// # Panics
    ///
    /// If a declared file is missing, or if `text_of` panics.
    pub fn read(root: &str, text_of: &mut dyn FnMut(&str) -> Option<String>) -> Self {
        let mut read = Self { modules: Vec::new() };
        let directory = root.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned();
        read.file(root, &directory, None, text_of);
        read
    }

    fn file(
        &mut self,
        file: &str,
        below: &str,
        parent: Option<usize>,
        text_of: &mut dyn FnMut(&str) -> Option<String>,
    ) -> usize {
        let text = text_of(file).unwrap_or_else(|| panic!("{file} is declared and missing"));
        let lexed = lex(&text);
        self.module(file, below, parent, &lexed.tokens, text_of)
    }

    /// Adds a module: a file, or an inline module. Its submodules are in the directory `below`.
    fn module(
        &mut self,
        file: &str,
        below: &str,
        parent: Option<usize>,
        tokens: &[Token<'_>],
        text_of: &mut dyn FnMut(&str) -> Option<String>,
    ) -> usize {
        let this = self.modules.len();
        self.modules.push(Module { file: file.into(), parent, ..Module::default() });
        let (mut at, mut depth, mut rest) = (0, 0_usize, Vec::new());
        while let Some(token) = tokens.get(at) {
            let name = tokens.get(at + 1).map_or("", |next| next.text);
            let behind = tokens.get(at + 2).map_or("", |next| next.text);
            if token.text == "mod" && matches!(behind, ";" | "{") {
                let end = if behind == ";" { at + 3 } else { closing(tokens, at + 2) };
                if !is_for_tests(&tokens[..at]) {
                    let directory = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
                    let child = if behind == ";" {
                        let flat = format!("{directory}.rs");
                        let own = if text_of(&flat).is_some() { flat } else { format!("{directory}/mod.rs") };
                        self.file(&own, &directory, Some(this), text_of)
                    } else {
                        self.module(file, &directory, Some(this), &tokens[at + 3..end - 1], text_of)
                    };
                    self.modules[this].children.insert(name.into(), child);
                }
                at = end;
                continue;
            }
            match token.text {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                "struct" | "enum" | "union" | "trait" | "fn" | "type" | "const" | "static" if depth == 0 => {
                    self.modules[this].items.insert(name.into());
                }
                "macro_rules" => {
                    self.modules[this].items.insert(behind.into());
                }
                _ => {}
            }
            rest.push(*token);
            at += 1;
        }
        let paths = uses::paths(&rest);
        self.modules[this].imported = paths.imported.into_iter().map(Named::from).collect();
        self.modules[this].named = paths.named.into_iter().map(Named::from).collect();
        this
    }

    /// Returns the arrows between different files, sorted.
    #[must_use]
    pub fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (at, module) in self.modules.iter().enumerate() {
            for path in module.imported.iter().chain(&module.named) {
                let glob = path.segments.last().is_some_and(|last| last == "*");
                let segments = &path.segments[..path.segments.len() - usize::from(glob)];
                let target = match self.resolve(at, segments, STEPS) {
                    Some(Target::Item(target)) => target,
                    Some(Target::Module(target)) if glob => target,
                    _ => continue,
                };
                let to = &self.modules[target].file;
                let is_reexport = path.public && self.is_below(target, at);
                if *to != module.file && !is_reexport && !self.is_below(at, target) {
                    let path_text = path.segments.join("::");
                    arrows.push(Arrow { from: module.file.clone(), to: to.clone(), path: path_text, line: path.line });
                }
            }
        }
        arrows.sort();
        arrows.dedup();
        arrows
    }

    /// Returns whether a module is another one or a descendant of that one.
    fn is_below(&self, module: usize, above: usize) -> bool {
        let mut at = Some(module);
        while let Some(module) = at {
            if module == above {
                return true;
            }
            at = self.modules[module].parent;
        }
        false
    }

    /// Resolves a path in a module; `None` means that it leads to another crate.
    fn resolve(&self, module: usize, segments: &[String], steps: usize) -> Option<Target> {
        let (first, mut rest) = segments.split_first()?;
        let mut target = match first.as_str() {
            "crate" => Target::Module(0),
            "self" => Target::Module(module),
            "super" => Target::Module(self.modules[module].parent?),
            name => self.look_up(module, name, steps)?,
        };
        while let (Target::Module(module), Some((next, behind))) = (target, rest.split_first()) {
            target = match next.as_str() {
                "super" => Target::Module(self.modules[module].parent?),
                // Items that a macro defines are not seen: they count as items of this module.
                name => self.look_up(module, name, steps).unwrap_or(Target::Item(module)),
            };
            rest = behind;
        }
        Some(target)
    }

    /// Resolves a name in a module.
    fn look_up(&self, at: usize, name: &str, steps: usize) -> Option<Target> {
        let module = &self.modules[at];
        let steps = steps.checked_sub(1)?;
        if let Some(child) = module.children.get(name) {
            return Some(Target::Module(*child));
        }
        if module.items.contains(name) {
            return Some(Target::Item(at));
        }
        let by_name = module.imported.iter().filter(|path| path.name == name && path.segments.len() > 1);
        let mut targets = by_name.map(|path| self.resolve(at, &path.segments, steps));
        if let Some(target) = targets.next() {
            return target;
        }
        let globs = module.imported.iter().filter(|path| path.name == "*");
        let mut targets = globs.filter_map(|path| {
            let above = self.resolve(at, &path.segments[..path.segments.len() - 1], steps)?;
            let Target::Module(above) = above else { return None };
            self.look_up(above, name, steps)
        });
        targets.next()
    }
}

impl From<Path<'_>> for Named {
    fn from(path: Path<'_>) -> Self {
        let segments = path.segments.into_iter().map(String::from).collect();
        Self { segments, name: path.name.into(), line: path.line, public: path.public }
    }
}

/// Returns whether the attribute before an item is `#[cfg(test)]`.
fn is_for_tests(before: &[Token<'_>]) -> bool {
    let texts: Vec<_> = before.iter().rev().take(8).rev().map(|token| token.text).collect();
    let visible = texts.iter().rposition(|text| *text == "]").map_or(0, |at| at + 1);
    texts[..visible].ends_with(&["#", "[", "cfg", "(", "test", ")", "]"])
        && texts[visible..].iter().all(|text| matches!(*text, "pub" | "(" | ")" | "crate"))
}

/// Returns the position after the brace that closes the one at `open`.
fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Returns the cycles of the graph: groups of files that lead to one another, each group sorted.
#[must_use]
pub fn circles(arrows: &[Arrow]) -> Vec<Vec<&str>> {
    let mut to: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in arrows {
        to.entry(&arrow.from).or_default().insert(&arrow.to);
    }
    let reached = |from: &str| {
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = to.get(from).into_iter().flatten().copied().collect();
        while let Some(file) = open.pop() {
            if found.insert(file) {
                open.extend(to.get(file).into_iter().flatten());
            }
        }
        found
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = to.keys().map(|file| (*file, reached(file))).collect();
    let mut circles = BTreeSet::new();
    for (file, others) in &reach {
        let back: Vec<&str> =
            others.iter().filter(|other| reach.get(*other).is_some_and(|r| r.contains(file))).copied().collect();
        if others.contains(file) {
            circles.insert(back);
        }
    }
    circles.into_iter().collect()
}
