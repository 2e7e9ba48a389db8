//! Layout of replies as JSON text, and the printable form of texts for a terminal.

use std::ffi::OsStr;

use qemu_machine_blocking::{UntrustedText, Value};

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// One line, for programs.
    Compact,
    /// Each member on its own line.
    Pretty,
    /// As much on one line as fits the width, in characters.
    Fitting(usize),
}

/// How texts of QEMU and the guest are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Escapes {
    /// As they are: to a pipe or a file, or by request.
    Never,
    /// Without characters that could control a terminal.
    ForTerminal,
}

impl Escapes {
    /// Returns the text of a reply in JSON, in any layout. Escaped, it is JSON of the same value.
    pub(crate) fn json(self, text: String) -> String {
        match self {
            Self::Never => text,
            Self::ForTerminal => {
                // The line feeds are those of the layout: JSON has none in a string.
                let lines = text.split('\n').map(|line| UntrustedText::from(line).json().to_string());
                lines.collect::<Vec<_>>().join("\n")
            }
        }
    }

    /// Returns a text of several lines.
    pub(crate) fn text(self, text: &str) -> String {
        match self {
            Self::Never => text.to_owned(),
            Self::ForTerminal => UntrustedText::from(text).multiline().to_string(),
        }
    }
}

/// Returns a word of the command line, or a path, as one complete printable line.
pub(crate) fn printable(text: impl AsRef<OsStr>) -> String {
    format!("{:#}", UntrustedText::from_utf8_lossy(text.as_ref().as_encoded_bytes()))
}

/// Returns whether a text is printed as it is.
pub(crate) fn is_printable(text: &str) -> bool {
    printable(text) == text
}

/// Returns the text of a reply.
pub(crate) fn show(value: &Value, layout: Layout) -> String {
    match layout {
        Layout::Compact => value.to_string(),
        Layout::Pretty => format!("{value:#}"),
        Layout::Fitting(width) => fit(value, 0, 0, width),
    }
}

/// Lays out a value. All lines are indented by `indent`, and the first one has `before` more characters in front.
fn fit(value: &Value, indent: usize, before: usize, width: usize) -> String {
    let line = spaced(value);
    // A comma may follow.
    if indent + before + line.chars().count() < width {
        return line;
    }
    let inner = indent + 2;
    let (open, close, parts): (_, _, Vec<String>) = match value {
        Value::Array(elements) if !elements.is_empty() => {
            ('[', ']', elements.iter().map(|element| fit(element, inner, 0, width)).collect())
        }
        Value::Object(members) if !members.is_empty() => {
            let member = |(name, value): (&String, &Value)| {
                let name = format!("{}: ", Value::from(name.as_str()));
                let value = fit(value, inner, name.chars().count(), width);
                name + &value
            };
            ('{', '}', members.iter().map(member).collect())
        }
        _ => return line,
    };
    let (margin, end) = (" ".repeat(inner), " ".repeat(indent));
    format!("{open}\n{margin}{}\n{end}{close}", parts.join(&format!(",\n{margin}")))
}

/// Lays out a value on one line, with a blank after each comma and colon.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(elements) => format!("[{}]", elements.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{}: {}", Value::from(name.as_str()), spaced(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use qemu_machine_blocking::json;

    use super::*;

    #[test]
    fn a_value_that_fits_is_on_one_line() {
        let value = json!({"running": true, "list": [1, "two", null], "none": {}});
        let line = r#"{"list": [1, "two", null], "none": {}, "running": true}"#;
        assert_eq!(show(&value, Layout::Fitting(line.len() + 1)), line);
        let lines = "{\n  \"list\": [1, \"two\", null],\n  \"none\": {},\n  \"running\": true\n}";
        assert_eq!(show(&value, Layout::Fitting(line.len())), lines);
    }

    #[test]
    fn no_line_is_longer_than_it_must_be() {
        let value = json!([{"name": "first", "of": [1, 2, 3]}, {"name": "second", "of": {"a": [10, 20, 30, 40, 50]}}]);
        let shown = show(&value, Layout::Fitting(30));
        assert!(shown.lines().all(|line| line.len() < 30), "{shown}");
        assert_eq!(shown.parse::<Value>().unwrap(), value);
    }

    #[test]
    fn compact_is_one_line_and_pretty_is_several() {
        let value = json!({"a": [1]});
        assert_eq!(show(&value, Layout::Compact), r#"{"a":[1]}"#);
        assert_eq!(show(&value, Layout::Pretty), "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
