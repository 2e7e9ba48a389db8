//! Lexer of Rust files: identifiers and punctuation, with comments apart and without literals.

/// An identifier or a punctuation mark (`::` is one mark), with the number of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// The identifier, without `r#`, or the mark.
    pub text: &'a str,
    /// Counted from 1.
    pub line: usize,
}

/// The tokens and comments of a file.
#[derive(Clone, Debug, Default)]
pub struct Lexed<'a> {
    /// The code.
    pub tokens: Vec<Token<'a>>,
    /// The lines of the comments, each with its number, counted from 1.
    pub comments: Vec<(usize, &'a str)>,
}

impl Token<'_> {
    /// Returns whether the token is an identifier or a keyword.
    #[must_use]
    pub fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// Splits a file into tokens. A string or character literal is one token, `"`.
#[must_use]
pub fn lex(text: &str) -> Lexed<'_> {
    let mut lexed = Lexed::default();
    let (mut at, mut line) = (0, 1);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            let comment = rest.split('\n').next().unwrap_or_default();
            lexed.comments.push((line, comment));
            comment.len()
        } else if rest.starts_with("/*") {
            let comment = &rest[..block_comment(rest)];
            lexed.comments.extend(comment.split('\n').enumerate().map(|(below, text)| (line + below, text)));
            comment.len()
        } else if let Some(length) = literal(rest) {
            lexed.tokens.push(Token { text: "\"", line });
            length
        } else if c.is_alphabetic() || c == '_' || c.is_ascii_digit() {
            let raw = if rest.starts_with("r#") { 2 } else { 0 };
            let name = rest[raw..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            if !c.is_ascii_digit() {
                lexed.tokens.push(Token { text: name, line });
            }
            raw + name.len()
        } else if c.is_whitespace() {
            c.len_utf8()
        } else {
            let length = if rest.starts_with("::") { 2 } else { c.len_utf8() };
            lexed.tokens.push(Token { text: &rest[..length], line });
            length
        };
        line += rest[..length].matches('\n').count();
        at += length.max(c.len_utf8());
    }
    lexed
}

/// Returns the length of the block comment at the start of a text. Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        let step = match (rest[0], rest.get(1)) {
            (b'/', Some(b'*')) => {
                depth += 1;
                2
            }
            (b'*', Some(b'/')) => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Returns the length of the string or character literal at the start of a text; `None` means that there is none.
fn literal(text: &str) -> Option<usize> {
    let prefix = text.find(|c: char| !matches!(c, 'b' | 'c' | 'r'))?;
    let quoted = &text[prefix..];
    let raw = text[..prefix].ends_with('r');
    if prefix > 2 {
        return None;
    }
    if raw && quoted.starts_with(['"', '#']) {
        let hashes = quoted.len() - quoted.trim_start_matches('#').len();
        let inside = quoted[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(prefix + hashes + 1 + length);
    }
    if quoted.starts_with('"') {
        return Some(prefix + closed_by(quoted, '"'));
    }
    let inside = quoted.strip_prefix('\'')?;
    let mut chars = inside.chars();
    // Otherwise it is a lifetime.
    let is_character = matches!((chars.next(), chars.next()), (Some('\\'), _) | (Some(_), Some('\'')));
    is_character.then(|| prefix + closed_by(quoted, '\''))
}

/// Returns the length of a quoted literal, including both quotes.
fn closed_by(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&str> {
        lex(text).tokens.into_iter().filter(Token::is_name).map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_hold_no_names() {
        assert_eq!(names("fn a() { /* b /* c */ d */ e(\"f \\\" g\"); } // h"), ["fn", "a", "e"]);
        assert_eq!(names("a(r#\"b \" c\"#, b\"d\", br##\"e\"#\"##, 'f', '\\'', b'g') h"), ["a", "h"]);
        assert_eq!(names("impl<'a> B<'a> { r#type: 1u8 + 0xff }"), ["impl", "a", "B", "a", "type"]);
    }

    #[test]
    fn tokens_and_comments_have_their_line_numbers() {
        let lexed = lex("a\n\"b\nc\"\n// d\ne /* f\ng */ h");
        let tokens: Vec<_> = lexed.tokens.iter().map(|token| (token.line, token.text)).collect();
        assert_eq!(tokens, [(1, "a"), (2, "\""), (5, "e"), (6, "h")]);
        assert_eq!(lexed.comments, [(4, "// d"), (5, "/* f"), (6, "g */")]);
    }
}
