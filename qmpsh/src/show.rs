//! Decides how a reply looks.

use qemu_machine_blocking::Value;

/// How JSON is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// All of it in one line, for programs.
    Compact,
    /// Each member in a line of its own.
    Pretty,
    /// What fits into a line of so many letters stands in one.
    Fitting(usize),
}

/// Lays out a reply.
pub(crate) fn show(value: &Value, layout: Layout) -> String {
    match layout {
        Layout::Compact => value.to_string(),
        Layout::Pretty => format!("{value:#}"),
        Layout::Fitting(width) => fit(value, 0, 0, width),
    }
}

/// A value whose lines are indented by so much, and whose first has so much before it already.
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

/// A value in one line, with the blanks that people are used to.
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
    fn what_fits_stands_in_one_line() {
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
    fn programs_get_one_line_and_people_many() {
        let value = json!({"a": [1]});
        assert_eq!(show(&value, Layout::Compact), r#"{"a":[1]}"#);
        assert_eq!(show(&value, Layout::Pretty), "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
