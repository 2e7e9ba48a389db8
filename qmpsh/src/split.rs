//! Splitter of a line into words, at white space that is neither in quotes nor in JSON.

use std::ops::Range;

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// The text before the first `=`, or the whole word without one.
    pub(crate) key: String,
    /// The value after the `=`. `None` means that the word has no `=`.
    pub(crate) value: Option<Written>,
    /// The bytes of the word in the line.
    pub(crate) at: Range<usize>,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// The text, without single quotes around it.
    pub(crate) text: String,
    /// Whether the value was in single quotes, so that it is not read as JSON.
    pub(crate) quoted: bool,
}

/// A quote or a bracket is not closed, or the last character is a backslash: the line continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished;

impl Word {
    /// A word that another program, such as a shell, has split off.
    pub(crate) fn whole(text: &str) -> Self {
        let (key, value) = text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)));
        let value = value.map(|text| Written { text: text.into(), quoted: false });
        Self { key: key.into(), value, at: 0..text.len() }
    }
}

/// Joins lines that end with a backslash with the next ones, as a shell does. A comment does not continue.
///
/// # Errors
///
/// [`Unfinished`], if the last line ends with a backslash.
pub(crate) fn joined(lines: &str) -> Result<String, Unfinished> {
    let (mut text, mut continues) = (String::new(), false);
    for line in lines.split_inclusive('\n') {
        let bare = line.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).unwrap_or(line);
        let is_comment = !continues && line.trim_start().starts_with('#');
        let continued = if is_comment { None } else { bare.strip_suffix('\\') };
        continues = continued.is_some();
        text.push_str(continued.unwrap_or(line));
    }
    // An empty last line ends the text.
    if continues && !lines.ends_with('\n') { Err(Unfinished) } else { Ok(text) }
}

/// Reports whether a text is one word of a line, without a value.
pub(crate) fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(['{', '#']) && !text.contains(|c: char| c == '=' || c.is_whitespace())
}

/// Returns a text as the value of an argument, in quotes if it needs them. `None` means that it cannot be written so: a
/// text with quotes of its own, and a path that continues, which would be behind the quotes.
pub(crate) fn as_value(text: &str) -> Option<String> {
    let is_bare = !text.starts_with(['{', '[', '"', '\'']) && !text.contains(char::is_whitespace);
    match is_bare {
        true => Some(text.to_owned()),
        false if text.contains('\'') || text.ends_with('/') => None,
        false => Some(format!("'{text}'")),
    }
}

/// Splits a line into words. If it is several lines, each further one that begins with `#` is a comment.
///
/// # Errors
///
/// [`Unfinished`], if a quote or a bracket is not closed.
pub(crate) fn cut(line: &str) -> Result<Vec<Word>, Unfinished> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(blank) = line[at..].find(|c: char| !c.is_whitespace()) {
        let start = at + blank;
        if line[start..].starts_with('#') && line[at..start].contains('\n') {
            at = line[start..].find('\n').map_or(line.len(), |end| start + end);
            continue;
        }
        let key_end = start + line[start..].find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len() - start);
        let key = line[start..key_end].to_owned();
        let value = line[key_end..].strip_prefix('=');
        let (value, rest) = match value {
            Some(value) => written(value).map(|(value, rest)| (Some(value), rest))?,
            None => (None, &line[key_end..]),
        };
        at = line.len() - rest.len();
        words.push(Word { key, value, at: start..at });
    }
    Ok(words)
}

/// Returns the value at the beginning of a text, and the text after it.
fn written(text: &str) -> Result<(Written, &str), Unfinished> {
    if let Some(inside) = text.strip_prefix('\'') {
        let (inside, rest) = inside.split_once('\'').ok_or(Unfinished)?;
        return Ok((Written { text: inside.into(), quoted: true }, rest));
    }
    let json = if text.starts_with(['{', '[', '"']) { json_end(text)? } else { 0 };
    // After its last bracket a value extends to the next white space. Otherwise `[1]x` would silently be two words.
    let end = json + text[json..].find(char::is_whitespace).unwrap_or(text.len() - json);
    let (value, rest) = text.split_at(end);
    Ok((Written { text: value.into(), quoted: false }, rest))
}

/// Returns the length of the JSON at the beginning of a text, in bytes. Only its brackets and quotes are checked.
///
/// # Errors
///
/// [`Unfinished`], if a quote or a bracket is not closed.
pub(crate) fn json_end(text: &str) -> Result<usize, Unfinished> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => depth += 1,
            '}' | ']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && !in_string {
            return Ok(at + c.len_utf8());
        }
    }
    Err(Unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the words of a line, each as `KEY=VALUE`.
    fn words(line: &str) -> Vec<String> {
        let shown = |word: Word| match word.value {
            Some(Written { text, quoted: true }) => format!("{}='{text}'", word.key),
            Some(Written { text, quoted: false }) => format!("{}={text}", word.key),
            None => word.key,
        };
        cut(line).unwrap().into_iter().map(shown).collect()
    }

    #[test]
    fn a_line_is_split_at_white_space() {
        assert_eq!(words(""), [""; 0]);
        assert_eq!(words("  stop\t"), ["stop"]);
        assert_eq!(words("a b=c  d.e=f=g"), ["a", "b=c", "d.e=f=g"]);
        assert_eq!(words("a b="), ["a", "b="]);
        assert_eq!(words("größe ß=ü"), ["größe", "ß=ü"]);
    }

    #[test]
    fn white_space_in_quotes_and_json_does_not_split() {
        assert_eq!(words("a b='c d' e=f"), ["a", "b='c d'", "e=f"]);
        assert_eq!(words(r#"a b={"c": [1, 2]} d="e f""#), ["a", r#"b={"c": [1, 2]}"#, r#"d="e f""#]);
        assert_eq!(words(r#"a b="}\" {" c"#), ["a", r#"b="}\" {""#, "c"]);
        assert_eq!(words("a b=[1]x c"), ["a", "b=[1]x", "c"]);
    }

    #[test]
    fn a_written_value_is_read_as_the_text() {
        for text in ["disk", "my disk", "{x", "[x", "\"x", "a'b", "a=b", "x}", "größe"] {
            let words = cut(&format!("a b={}", as_value(text).unwrap())).unwrap();
            assert_eq!((words.len(), words[1].value.as_ref().unwrap().text.as_str()), (2, text));
        }
        for text in ["it's x", "'x", "/my disk/"] {
            assert_eq!(as_value(text), None, "{text}");
        }
    }

    #[test]
    fn an_open_quote_or_bracket_is_unfinished() {
        for line in ["a b='c", "a b={\"c\": ", "a b=[1, 2", "a b=\"c", r#"a b="c\""#] {
            assert_eq!(cut(line), Err(Unfinished), "{line}");
        }
    }

    #[test]
    fn a_backslash_at_the_end_joins_lines() {
        assert_eq!(joined("a \\\n b\\\r\nc\n"), Ok("a  bc\n".into()));
        assert_eq!(joined("a\nb"), Ok("a\nb".into()));
        assert_eq!(joined("a \\\n"), Ok("a ".into()), "an empty line ends it");
        assert_eq!(joined("a\n # b \\\nc"), Ok("a\n # b \\\nc".into()), "a comment");
        assert_eq!(joined("a \\\n# b \\\nc"), Ok("a # b c".into()), "no comment");
        for line in ["a \\", "a \\\nb\\"] {
            assert_eq!(joined(line), Err(Unfinished), "{line}");
        }
    }

    #[test]
    fn a_word_has_its_position_in_the_line() {
        let at: Vec<_> = cut(" ab c='d e' f").unwrap().into_iter().map(|word| word.at).collect();
        assert_eq!(at, [1..3, 4..11, 12..13]);
    }
}
