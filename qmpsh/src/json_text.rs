//! Text of a JSON object, of which a member is removed or set while the rest stays as it is written.
//!
//! A parsed object has its members in another order, and integers beyond 64 bits as floats.

use std::ops::Range;

use crate::split::json_end;

/// A member of an object: the text of its name, without quotes, and the bytes of the whole member and of its value.
struct Member<'a> {
    name: &'a str,
    at: Range<usize>,
    value: Range<usize>,
}

/// Returns the members of an object. The text must be valid JSON; otherwise some are missing.
fn members(object: &str) -> Vec<Member<'_>> {
    let mut members = Vec::new();
    let blank = |c: char| c.is_ascii_whitespace() || ",:".contains(c);
    let skip = |at: usize| object[at..].find(|c| !blank(c)).map(|blanks| at + blanks);
    let mut at = object.find('{').map_or(object.len(), |at| at + 1);
    while let Some(start) = skip(at).filter(|start| object[*start..].starts_with('"')) {
        let Ok(length) = json_end(&object[start..]) else { break };
        let name = &object[start + 1..start + length - 1];
        let Some(value) = skip(start + length) else { break };
        let Some(length) = value_end(&object[value..]) else { break };
        at = value + length;
        members.push(Member { name, at: start..at, value: value..at });
    }
    members
}

/// Returns the length of the value at the beginning of a text.
fn value_end(text: &str) -> Option<usize> {
    if text.starts_with(['{', '[', '"']) {
        return json_end(text).ok();
    }
    text.find(|c: char| c.is_ascii_whitespace() || ",}".contains(c))
}

/// Returns the text of an object without the member of this name, and the text of its value. `None` means that there is
/// no such member.
pub(crate) fn without(object: &str, name: &str) -> Option<(String, String)> {
    let members = members(object);
    let index = members.iter().position(|member| member.name == name)?;
    let (before, [member, after @ ..]) = members.split_at(index) else { return None };
    let cut = match (before.last(), after.first()) {
        (_, Some(next)) => member.at.start..next.at.start,
        (Some(previous), None) => previous.at.end..member.at.end,
        (None, None) => member.at.clone(),
    };
    Some((format!("{}{}", &object[..cut.start], &object[cut.end..]), object[member.value.clone()].to_owned()))
}

/// Returns the text of an object whose member of this name has this value. A new member is the last one.
pub(crate) fn with(object: &str, name: &str, value: &str) -> String {
    let members = members(object);
    if let Some(member) = members.iter().find(|member| member.name == name) {
        return format!("{}{value}{}", &object[..member.value.start], &object[member.value.end..]);
    }
    let end = object.rfind('}').unwrap_or(object.len());
    let comma = if members.is_empty() { "" } else { ", " };
    format!("{}{comma}\"{name}\": {value}{}", object[..end].trim_end(), &object[end..])
}

/// Returns JSON without the white space between its tokens.
pub(crate) fn compact(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_kept = |c: &char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        in_string || !c.is_ascii_whitespace()
    };
    json.chars().filter(is_kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(object: &str) -> Option<(String, String)> {
        without(object, "id")
    }

    #[test]
    fn a_member_is_removed_and_the_rest_stays() {
        let removed = |object: &str, id: &str| Some((object.to_owned(), id.to_owned()));
        assert_eq!(cut(r#"{"id": 1, "b": 1.50}"#), removed(r#"{"b": 1.50}"#, "1"));
        assert_eq!(cut(r#"{"b": [1, {"id": 2}], "id":"}\"" }"#), removed(r#"{"b": [1, {"id": 2}] }"#, r#""}\"""#));
        assert_eq!(cut(r#"{"z":1,"id":null,"a":-1e3}"#), removed(r#"{"z":1,"a":-1e3}"#, "null"));
        assert_eq!(cut(r#" { "id" : [1,2] } "#), removed(" {  } ", "[1,2]"));
        for other in ["{}", r#"{"a": {"id": 1}}"#, r#"{"a": "id"}"#, "{", r#"{"id"#, r#"{"id":"#, r#"{"ö": 1"#] {
            assert_eq!(cut(other), None, "{other}");
        }
    }

    #[test]
    fn a_member_is_set() {
        assert_eq!(with(r#"{"return": {}, "id": 4}"#, "id", "[7]"), r#"{"return": {}, "id": [7]}"#);
        assert_eq!(with(r#"{"id": 4, "return": {}}"#, "id", "\"a\""), r#"{"id": "a", "return": {}}"#);
        assert_eq!(with(r#"{"return": {} }"#, "id", "7"), r#"{"return": {}, "id": 7}"#);
        assert_eq!(with("{}", "id", "7"), r#"{"id": 7}"#);
    }

    #[test]
    fn white_space_in_strings_stays() {
        assert_eq!(compact("{ \"a b\\\" c\" :\r\n [1, 2.50] }"), "{\"a b\\\" c\":[1,2.50]}");
    }
}
