//! Matcher of JSON text against patterns: one pass over the text for all patterns, and no tree of values.
//!
//! An event may have 64 MiB of data, and its tree of values ten times as much. So the text is matched as it stands, by
//! the same rules as values are by [`matches`](super::matches). Members that no pattern has are skipped.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde_json::{Number, Value};

use super::matcher::equal_numbers;
use crate::json::{Cursor, Token};

/// A pattern, and whether the value at hand matches it.
#[derive(Clone, Copy, Debug)]
struct Candidate<'p> {
    pattern: &'p Value,
    matches: bool,
    /// The name of the member that it is the pattern of, and the index of the pattern of the whole object.
    name: &'p str,
    object: usize,
}

impl<'p> Candidate<'p> {
    fn of_member(pattern: &'p Value, name: &'p str, object: usize) -> Self {
        Self { pattern, matches: false, name, object }
    }
}

/// Patterns for one text, each with a key of its own.
#[derive(Debug)]
pub(crate) struct Patterns<'p, K> {
    keys: Vec<K>,
    candidates: Vec<Candidate<'p>>,
}

impl<'p, K> Patterns<'p, K> {
    pub(crate) fn new() -> Self {
        Self { keys: Vec::new(), candidates: Vec::new() }
    }

    pub(crate) fn add(&mut self, key: K, pattern: &'p Value) {
        self.keys.push(key);
        self.candidates.push(Candidate::of_member(pattern, "", 0));
    }

    /// Returns the keys of the patterns that a text matches, in the order in which they were added. Without a pattern
    /// the text is not read.
    pub(crate) fn matching(mut self, text: &str) -> impl Iterator<Item = K> {
        if !self.candidates.is_empty() {
            visit(&mut Cursor::new(text.as_bytes()), &mut self.candidates);
        }
        let matching = self.keys.into_iter().zip(self.candidates);
        matching.filter_map(|(key, candidate)| candidate.matches.then_some(key))
    }
}

/// Matches the value at the cursor against all candidates, and moves the cursor after it.
fn visit<'a>(cursor: &mut Cursor<'a>, candidates: &mut [Candidate<'_>]) {
    let begin = *cursor;
    match cursor.token() {
        Some(Token::Object) => visit_members(cursor, candidates),
        Some(first) => {
            for candidate in candidates {
                candidate.matches = candidate.pattern.is_null() || equal(&mut { begin }, candidate.pattern);
            }
            cursor.skip_rest(first);
        }
        None => {}
    }
}

/// Matches the members of an object. Of members with the same name the last counts, as for `serde_json`.
fn visit_members(cursor: &mut Cursor<'_>, candidates: &mut [Candidate<'_>]) {
    let mut members = Vec::new();
    for (object, candidate) in candidates.iter_mut().enumerate() {
        candidate.matches = candidate.pattern.is_null() || candidate.pattern.is_object();
        let wanted = candidate.pattern.as_object().into_iter().flatten();
        members.extend(wanted.map(|(name, pattern)| Candidate::of_member(pattern, name, object)));
    }
    members.sort_by_key(|member| member.name);
    while let Some(Token::String(name)) = cursor.token() {
        let name = unquoted(name);
        let first = members.partition_point(|member| member.name.as_bytes() < &*name);
        let behind = members.partition_point(|member| member.name.as_bytes() <= &*name);
        match members.get_mut(first..behind) {
            Some(wanted) if !wanted.is_empty() => visit(cursor, wanted),
            _ => cursor.skip(),
        }
    }
    for member in members.iter().filter(|member| !member.matches) {
        if let Some(candidate) = candidates.get_mut(member.object) {
            candidate.matches = false;
        }
    }
}

/// Returns whether the value at the cursor is equal to a pattern, and then moves the cursor after it. When it is not, the
/// cursor stays somewhere within.
fn equal(cursor: &mut Cursor<'_>, pattern: &Value) -> bool {
    match (pattern, cursor.token()) {
        (Value::Null, Some(Token::Plain(text))) => text == b"null",
        (Value::Bool(pattern), Some(Token::Plain(text))) => text == if *pattern { "true" } else { "false" }.as_bytes(),
        (Value::Number(pattern), Some(Token::Plain(text))) => {
            serde_json::from_slice::<Number>(text).is_ok_and(|number| equal_numbers(pattern, &number))
        }
        (Value::String(pattern), Some(Token::String(text))) => *unquoted(text) == *pattern.as_bytes(),
        (Value::Array(pattern), Some(Token::Array)) => {
            pattern.iter().all(|pattern| equal(cursor, pattern)) && cursor.token() == Some(Token::End)
        }
        (Value::Object(pattern), Some(Token::Object)) => {
            let mut members: Vec<_> =
                pattern.iter().map(|(name, pattern)| Candidate::of_member(pattern, name, 0)).collect();
            members.sort_by_key(|member| member.name);
            equal_members(cursor, &mut members)
        }
        _ => false,
    }
}

/// Returns whether an object has exactly these members.
fn equal_members(cursor: &mut Cursor<'_>, members: &mut [Candidate<'_>]) -> bool {
    while let Some(Token::String(name)) = cursor.token() {
        let name = unquoted(name);
        let place = members.binary_search_by(|member| member.name.as_bytes().cmp(&name));
        let Some(member) = place.ok().and_then(|place| members.get_mut(place)) else { return false };
        let mut inside = *cursor;
        member.matches = equal(&mut inside, member.pattern);
        if member.matches { *cursor = inside } else { cursor.skip() }
    }
    members.iter().all(|member| member.matches)
}

/// Returns the content of a string without its quotes and escapes.
fn unquoted(quoted: &[u8]) -> Cow<'_, [u8]> {
    let inside = quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default();
    if memchr::memchr(b'\\', inside).is_none() {
        return Cow::Borrowed(inside);
    }
    // A string that `serde_json` refuses, as one with half of a surrogate pair, is compared as it stands.
    serde_json::from_slice::<String>(quoted).map_or(Cow::Borrowed(inside), |text| Cow::Owned(text.into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use crate::matches;
    use proptest::prelude::*;

    /// Values of few kinds and few names, so that patterns often match.
    fn any_value() -> impl Strategy<Value = Value> {
        let names = || prop_oneof![Just("a"), Just("b"), Just("ä\n\"")];
        let leaf = prop_oneof![
            2 => Just(Value::Null),
            1 => any::<bool>().prop_map(Value::from),
            2 => (0..2).prop_map(Value::from),
            1 => Just(Value::from(1.0)),
            1 => names().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 20, 3, move |inner| {
            prop_oneof![
                1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                3 => prop::collection::vec((names(), inner), 0..3)
                    .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_string(), value)).collect()),
            ]
        })
    }

    /// Writes a value, with white space, and with escapes where JSON allows them.
    fn written(value: &Value, pretty: bool, escaped: bool) -> String {
        let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) }.unwrap();
        if escaped { text.replace('a', "\\u0061").replace("f\\u0061lse", "false") } else { text }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Text matches a pattern exactly if its value does, also beside other patterns.
        #[test]
        fn text_matches_as_its_value_does(
            value in any_value(),
            patterns in prop::collection::vec(any_value(), 0..4),
            pretty in any::<bool>(),
            escaped in any::<bool>(),
        ) {
            let text = written(&value, pretty, escaped);
            prop_assert_eq!(&serde_json::from_str::<Value>(&text).unwrap(), &value);
            let mut all = Patterns::new();
            // The value itself is a pattern that matches, apart from members that are null.
            for (key, pattern) in patterns.iter().chain([&value]).enumerate() {
                all.add(key, pattern);
            }
            let matching: Vec<_> = all.matching(&text).collect();
            let expected = patterns.iter().chain([&value]).enumerate().filter(|(_, pattern)| matches(pattern, &value));
            prop_assert_eq!(matching, expected.map(|(key, _)| key).collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_members_with_the_same_name_the_last_counts() {
        let one = serde_json::json!({"a": 1});
        let exactly = serde_json::json!({"list": [{"a": 1}]});
        for (text, expected) in [
            (r#"{"a": 2, "a": 1}"#, true),
            (r#"{"a": 1, "a": 2}"#, false),
            (r#"{"list": [{"a": 2, "a": 1}]}"#, true),
            (r#"{"list": [{"a": 1, "\u0061": 2}]}"#, false),
        ] {
            let mut patterns = Patterns::new();
            patterns.add((), if text.contains("list") { &exactly } else { &one });
            assert_eq!(patterns.matching(text).next().is_some(), expected, "{text}");
        }
    }

    #[test]
    fn patterns_match_data_of_any_depth_on_a_small_stack() {
        let test = || {
            let deep = ["[".repeat(500_000), "]".repeat(500_000)].concat();
            let text = std::format!(r#"{{"deep": {deep}, "id": 1, "same": {deep}}}"#);
            let pattern = serde_json::json!({"id": 1, "same": [[[]]]});
            let mut patterns = Patterns::new();
            patterns.add(0, &pattern["id"]);
            patterns.add(1, &pattern);
            let part = serde_json::json!({"id": 1});
            patterns.add(2, &part);
            assert_eq!(patterns.matching(&text).collect::<Vec<_>>(), [2]);
        };
        std::thread::Builder::new().stack_size(256 << 10).spawn(test).unwrap().join().unwrap();
    }
}
