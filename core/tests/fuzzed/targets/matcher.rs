//! Properties of patterns: `matches` agrees with a second implementation, and every value matches itself.

use qemu_machine_core::{Value, json, matches};
use serde_json::{Map, Number};

use super::Tape;

/// Numbers at the limits of the precision of their types.
const EDGES: [u64; 8] = [0, 1, 2, 1 << 53, (1 << 53) + 1, 1 << 63, u64::MAX - 1, u64::MAX];

const NAMES: [&str; 4] = ["a", "b", "c", ""];

/// The first byte of an input with deeply nested values.
pub(super) const DEEP: u8 = 254;

/// The deepest nesting: deeper than any that QEMU reads or writes (QEMU, `qobject/json-parser.c`, `MAX_NESTING`). The
/// functions here are recursive.
const DEEPEST: usize = 1_200;

pub(super) fn run(data: &[u8]) {
    let mut tape = Tape::new(data);
    let first = tape.byte();
    let (pattern, value) = if first == DEEP {
        let (depth, kinds) = (tape.number() % DEEPEST, tape.byte());
        let value = any_value(&mut tape, 2);
        let inner = if tape.flag() { thinned(&value, &mut tape) } else { any_value(&mut tape, 2) };
        let other = if tape.flag() { depth } else { tape.number() % DEEPEST };
        (nested(inner, other, kinds), nested(value, depth, kinds))
    } else if first & 1 == 1 {
        // Two lines of JSON.
        let mut texts = tape.rest().splitn(2, |byte| *byte == b'\n').map(serde_json::from_slice);
        let (Some(Ok(pattern)), Some(Ok(value))) = (texts.next(), texts.next()) else { return };
        (pattern, value)
    } else {
        let value = any_value(&mut tape, 4);
        let pattern = if tape.flag() { any_value(&mut tape, 4) } else { thinned(&value, &mut tape) };
        (pattern, value)
    };
    assert_eq!(matches(&pattern, &value), is_found(&pattern, &value), "{pattern} on {value}");
    assert!(matches(&value, &value) && matches(&pattern, &pattern));
    assert!(matches(&Value::Null, &value));
}

fn any_value(tape: &mut Tape<'_>, depth: usize) -> Value {
    match tape.below(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => tape.flag().into(),
        2 => any_number(tape),
        3 => tape.text().into(),
        4 => tape.pick(&NAMES).into(),
        5 => (0..tape.below(4)).map(|_| any_value(tape, depth - 1)).collect::<Vec<_>>().into(),
        _ => {
            let members = (0..tape.below(4)).map(|_| (tape.pick(&NAMES).into(), any_value(tape, depth - 1)));
            Value::Object(Map::from_iter(members.collect::<Vec<_>>()))
        }
    }
}

/// Returns a value inside of nested arrays and objects. The bits of `kinds` are the kinds, repeated.
fn nested(value: Value, depth: usize, kinds: u8) -> Value {
    (0..depth).fold(value, |value, level| match kinds >> (level % 8) & 1 {
        0 => Value::Array(vec![value]),
        _ => json!({"a": value}),
    })
}

fn any_number(tape: &mut Tape<'_>) -> Value {
    let edge = tape.pick(&EDGES);
    match tape.below(5) {
        0 => edge.into(),
        1 => (edge as i64).into(),
        2 => (edge as f64).into(),
        3 => (edge as f64 / 2.0).into(),
        _ => (-(edge as f64)).into(),
    }
}

/// Returns a pattern made from a value: members left out, wildcards put in, numbers in their other form.
fn thinned(value: &Value, tape: &mut Tape<'_>) -> Value {
    match (tape.below(8), value) {
        (1, _) => Value::Null,
        (2, _) => any_value(tape, 1),
        (_, Value::Object(members)) => {
            let kept = members.iter().filter_map(|(name, member)| {
                let outlives_parent = tape.below(4) != 1;
                outlives_parent.then(|| (name.clone(), thinned(member, tape)))
            });
            Value::Object(kept.collect())
        }
        (3, Value::Number(number)) => number.as_f64().into(),
        (_, other) => other.clone(),
    }
}

/// Each place of the pattern is looked up in the value by its path.
fn is_found(pattern: &Value, value: &Value) -> bool {
    let mut places = vec![(pattern, Some(value))];
    while let Some((pattern, place)) = places.pop() {
        let Some(place) = place else { return false };
        match pattern {
            Value::Null => {}
            Value::Object(members) if place.is_object() => {
                places.extend(members.iter().map(|(name, member)| (member, place.get(name))));
            }
            Value::Object(_) => return false,
            other if normal(other) == normal(place) => {}
            _ => return false,
        }
    }
    true
}

/// Returns a text that is the same for equal values.
fn normal(value: &Value) -> String {
    let mut text = String::new();
    write_normal(value, &mut text);
    text
}

/// Appends the text, so that each part is copied once, however deep it is.
fn write_normal(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => text.push_str(&digits(number)),
        Value::Array(members) => {
            text.push('[');
            for member in members {
                write_normal(member, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (name, member) in members {
                text.push_str(&format!("{name:?}:"));
                write_normal(member, text);
                text.push(',');
            }
            text.push('}');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// Returns a number exactly, without an exponent: all digits of a whole one, and the shortest text of any other, which is
/// different for different floats.
fn digits(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) if float.fract() == 0.0 => format!("{:.0}", float + 0.0),
        Some(float) => float.to_string(),
        None => number.to_string(),
    }
}
