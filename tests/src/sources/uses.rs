//! Paths in a Rust file: those that it imports, and those in its code.

use super::Token;

/// A path, and the name under which it is imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// The segments. The last segment of a glob is `*`; `self` at the end of a tree is left out.
    pub segments: Vec<&'a str>,
    /// The name that the import introduces: the last segment, or the name after `as`. Empty for a path in code.
    pub name: &'a str,
    /// The number of the line, counted from 1.
    pub line: usize,
    /// Whether the import is visible outside of its module: `pub use`, `pub(crate) use`.
    pub public: bool,
}

/// The paths of a file.
#[derive(Clone, Debug, Default)]
pub struct Paths<'a> {
    /// The paths of `use` declarations.
    pub imported: Vec<Path<'a>>,
    /// The paths of two and more segments in the code.
    pub named: Vec<Path<'a>>,
}

/// Finds the paths of a file.
#[must_use]
pub fn paths<'a>(tokens: &[Token<'a>]) -> Paths<'a> {
    let mut paths = Paths::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let follows = |text: &str| tokens.get(at + 1).is_some_and(|next| next.text == text);
        if token.text == "use" && !follows("<") {
            let public = at > 0 && matches!(tokens[at - 1].text, "pub" | ")");
            at += 1;
            tree(tokens, &mut at, &[], public, &mut paths.imported);
        } else if token.is_name() && follows("::") {
            paths.named.push(named(tokens, &mut at));
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads a path in code, such as `session::Input::Expired`. It ends before `::<` and `::{`.
fn named<'a>(tokens: &[Token<'a>], at: &mut usize) -> Path<'a> {
    let line = tokens[*at].line;
    let mut segments = vec![tokens[*at].text];
    *at += 1;
    while tokens.get(*at).is_some_and(|token| token.text == "::") {
        *at += 1;
        let Some(next) = tokens.get(*at).filter(|token| token.is_name()) else { break };
        segments.push(next.text);
        *at += 1;
    }
    Path { segments, name: "", line, public: false }
}

/// Reads a tree of imports, and moves `at` past it.
fn tree<'a>(tokens: &[Token<'a>], at: &mut usize, above: &[&'a str], public: bool, found: &mut Vec<Path<'a>>) {
    let mut segments = above.to_vec();
    while let Some(token) = tokens.get(*at) {
        *at += 1;
        match token.text {
            "::" => {}
            "{" => {
                while tokens.get(*at).is_some_and(|token| token.text != "}") {
                    tree(tokens, at, &segments, public, found);
                    if tokens.get(*at).is_some_and(|token| token.text == ",") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "self" if !above.is_empty() => return leaf(tokens, at, segments, token.line, public, found),
            text => {
                segments.push(text);
                if tokens.get(*at).is_none_or(|next| next.text != "::") {
                    return leaf(tokens, at, segments, token.line, public, found);
                }
            }
        }
    }
}

fn leaf<'a>(
    tokens: &[Token<'a>],
    at: &mut usize,
    segments: Vec<&'a str>,
    line: usize,
    public: bool,
    found: &mut Vec<Path<'a>>,
) {
    let mut name = segments.last().copied().unwrap_or_default();
    if tokens.get(*at).is_some_and(|token| token.text == "as") {
        name = tokens.get(*at + 1).map_or(name, |token| token.text);
        *at += 2;
    }
    found.push(Path { segments, name, line, public });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::lex;

    #[test]
    fn trees_are_split_into_paths() {
        let lexed = lex("pub use a::{self, b::{C, D as E}, f::*};\nuse super::G;\n");
        let paths = paths(&lexed.tokens);
        let shown: Vec<_> =
            paths.imported.iter().map(|path| (path.segments.join("::"), path.name, path.line)).collect();
        let expected = [
            ("a".into(), "a", 1),
            ("a::b::C".into(), "C", 1),
            ("a::b::D".into(), "E", 1),
            ("a::f::*".into(), "*", 1),
            ("super::G".into(), "G", 2),
        ];
        assert_eq!(shown, expected);
        assert!(paths.imported[0].public && !paths.imported[4].public);
    }

    #[test]
    fn paths_in_code_are_found() {
        let lexed = lex("fn a(b: c::D) -> Vec<E> { crate::f::g::<H>(Self::I) }");
        let shown: Vec<_> = paths(&lexed.tokens).named.iter().map(|path| path.segments.join("::")).collect();
        assert_eq!(shown, ["c::D", "crate::f::g", "Self::I"]);
    }
}
