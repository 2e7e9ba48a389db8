//! Escapes of HTML: for texts, and for JSON inside of a script element.

use core::fmt::{self, Write};

/// Text in an element or in a quoted attribute.
pub(super) struct Escaped<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaper(f), "{:#}", self.0)
    }
}

/// Writer that escapes each text on its way, so that no escaped copy is made.
struct Escaper<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaper<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            let (before, special) = rest.split_at(at);
            self.0.write_str(before)?;
            self.0.write_str(match special.as_bytes().first() {
                Some(b'&') => "&amp;",
                Some(b'<') => "&lt;",
                Some(b'>') => "&gt;",
                Some(b'"') => "&quot;",
                _ => "&#39;",
            })?;
            rest = special.get(1..).unwrap_or_default();
        }
        self.0.write_str(rest)
    }
}

/// String of JSON that is also safe in a script element: the characters of the syntax of HTML or of an older JavaScript are
/// escaped (HTML, section 4.12.1.3, Restrictions for contents of script elements).
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_special =
            |one: char| one.is_control() || matches!(one, '"' | '\\' | '<' | '>' | '&' | '\'') || one > '~';
        f.write_char('"')?;
        let mut rest = self.0;
        while let Some(at) = rest.find(is_special) {
            let (before, special) = rest.split_at(at);
            f.write_str(before)?;
            let Some(character) = special.chars().next() else { break };
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(f, "\\u{unit:04x}")?;
            }
            rest = special.get(character.len_utf8()..).unwrap_or_default();
        }
        f.write_str(rest)?;
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn syntax_of_html_is_escaped() {
        assert_eq!(Escaped("</a><!--&'\"ä").to_string(), "&lt;/a&gt;&lt;!--&amp;&#39;&quot;ä");
    }

    #[test]
    fn json_cannot_end_its_script() {
        let quoted = Quoted("</script><!--]]>\u{2028}\0\\\"'&😀").to_string();
        assert!(!quoted.contains(['<', '>', '&', '\'', '\u{2028}', '\0']) && quoted.is_ascii(), "{quoted}");
    }

    proptest! {
        #[test]
        fn json_is_read_back(text in any::<String>()) {
            let quoted = Quoted(&text).to_string();
            prop_assert!(!quoted.contains(['<', '>', '&']));
            prop_assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        }
    }
}
