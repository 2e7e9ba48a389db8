//! Search of a file for the identifiers that match a pattern of the table.

use std::collections::HashMap;

use qemu_machine_tests::sources::uses::paths;
use qemu_machine_tests::sources::{Source, Token, lex};

use crate::table::{INSIDE, NAMES, PARTS};

/// A retired name, with its place and the name that replaces it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub(crate) path: String,
    /// Counted from 1; 0 for the name of the file.
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) right: String,
}

impl Finding {
    pub(crate) fn new(source: &Source, line: usize, name: &str, right: &str) -> Self {
        Self { path: source.path.clone(), line, name: name.into(), right: right.into() }
    }

    pub(crate) fn told(&self) -> String {
        format!("{}:{}: {}: {}", self.path, self.line, self.name, self.right)
    }
}

/// Returns the words of an identifier in lower case: `in` and `flight` for `InFlight` and for `in_flight`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let letters: Vec<char> = name.chars().collect();
    for (at, letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && letters[at - 1].is_lowercase();
        let before_lower = letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if *letter == '_' || *letter == '-' || (letter.is_uppercase() && (after_lower || before_lower)) {
            words.push(String::new());
        }
        if letter.is_alphanumeric() {
            words.last_mut().expect("there is one").extend(letter.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns whether an identifier matches a pattern that has no prefix such as `fn `.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let inside = pattern.trim_matches('*');
    if inside == pattern {
        return pattern == name;
    }
    let (wanted, words) = (words(inside), words(name));
    let most = words.len().saturating_sub(wanted.len());
    words.windows(wanted.len()).enumerate().any(|(at, window)| {
        let begins = pattern.starts_with('*') || at == 0;
        let ends = pattern.ends_with('*') || at == most;
        begins && ends && window == wanted
    })
}

/// The role of an identifier, as far as the tokens before it show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    Function,
    Type,
    Other,
}

fn role(tokens: &[Token<'_>], at: usize) -> Role {
    let before = at.checked_sub(1).map_or("", |before| tokens[before].text);
    let is_variant = |text: &str| text.starts_with(char::is_uppercase) && matches!(before, "," | "{" | "]");
    match before {
        "fn" => Role::Function,
        "struct" | "enum" | "trait" | "type" | "mod" => Role::Type,
        _ if is_variant(tokens[at].text) => Role::Type,
        _ => Role::Other,
    }
}

/// The table with a cache of its results: most identifiers occur many times.
#[derive(Default)]
pub(crate) struct Judge {
    known: HashMap<(String, Role, bool), Option<&'static str>>,
}

impl Judge {
    /// Returns the name that replaces the identifier at this position. `None` means that the identifier is not retired.
    fn judged(&mut self, path: &str, tokens: &[Token<'_>], at: usize) -> Option<&'static str> {
        let name = tokens[at].text;
        if at > 1 && tokens[at - 1].text == "::" {
            let joined = format!("{}::{name}", tokens[at - 2].text);
            if let Some((_, right)) = NAMES.iter().find(|(pattern, _)| *pattern == joined) {
                return Some(right);
            }
        }
        let role = role(tokens, at);
        let is_inside = path.starts_with(INSIDE);
        *self.known.entry((name.to_owned(), role, is_inside)).or_insert_with(|| {
            let everywhere = |pattern: &'static str| match pattern.split_once(": ") {
                Some((_, pattern)) => is_inside.then_some(pattern),
                None => Some(pattern),
            };
            let is_meant = |pattern: &str| match pattern.split_once(' ') {
                Some(("fn", pattern)) => role == Role::Function && matches(pattern, name),
                Some(("type", pattern)) => role == Role::Type && matches(pattern, name),
                Some(_) => false,
                None => matches(pattern, name),
            };
            let meant = NAMES.iter().find(|(pattern, _)| everywhere(pattern).is_some_and(is_meant));
            meant.map(|(_, right)| *right)
        })
    }

    /// Finds identifiers in code.
    fn in_code(&mut self, source: &Source, text: &str, first: usize, found: &mut Vec<Finding>) {
        let lexed = lex(text);
        for (at, token) in lexed.tokens.iter().enumerate().filter(|(_, token)| token.is_name()) {
            if let Some(right) = self.judged(&source.path, &lexed.tokens, at) {
                found.push(Finding::new(source, first + token.line - 1, token.text, right));
            }
        }
    }

    /// Finds identifiers in prose, between backticks.
    fn in_prose(&mut self, source: &Source, line: usize, text: &str, found: &mut Vec<Finding>) {
        for span in text.split('`').skip(1).step_by(2) {
            self.in_code(source, span, line, found);
        }
    }

    /// Finds identifiers in a Rust or Markdown file, and in the path of any file.
    pub(crate) fn find(&mut self, source: &Source) -> Vec<Finding> {
        let mut found = Vec::new();
        if source.path.ends_with(".rs") {
            self.in_code(source, &source.text, 1, &mut found);
            bare_imports(source, &mut found);
            for (line, comment) in lex(&source.text).comments {
                self.in_prose(source, line, comment, &mut found);
            }
        } else if source.path.ends_with(".md") {
            for (at, line) in source.text.lines().enumerate() {
                self.in_prose(source, at + 1, line, &mut found);
            }
        }
        in_path(source, &mut found);
        found
    }
}

/// Finds retired names in the path of a file.
fn in_path(source: &Source, found: &mut Vec<Finding>) {
    for component in source.path.split('/') {
        let stem = component.strip_suffix(".rs").unwrap_or(component);
        let is_meant = |pattern: &str| match pattern.split_once(' ') {
            Some(("file", name)) => name == component,
            Some(_) => false,
            None => pattern.contains('*') && matches(pattern, stem),
        };
        if let Some((_, right)) = NAMES.iter().find(|(pattern, _)| is_meant(pattern)) {
            found.push(Finding::new(source, 0, component, right));
        }
    }
}

/// Finds each `use` that imports the `Input` or `Output` of a part without its module.
fn bare_imports(source: &Source, found: &mut Vec<Finding>) {
    let lexed = lex(&source.text);
    for path in paths(&lexed.tokens).imported {
        let [.., part, name @ ("Input" | "Output")] = path.segments[..] else { continue };
        if PARTS.contains(&part) && path.name == name {
            found.push(Finding::new(source, path.line, name, &format!("{part}::{name}, with its module")));
        }
    }
}

/// Returns the names that follow one of these keywords, such as `struct` or `fn`.
pub(crate) fn definitions<'a>(text: &'a str, keywords: &[&str]) -> Vec<Token<'a>> {
    let lexed = lex(text);
    let pairs = lexed.tokens.windows(2);
    pairs.filter(|pair| keywords.contains(&pair[0].text)).map(|pair| pair[1]).collect()
}
