//! Decides whether a value is what a pattern asks for.

use serde_json::{Number, Value};

/// Whether `value` is what `pattern` asks for.
///
/// - `null` matches everything that is there;
/// - an object matches an object that has all its members, each matching; further members do not matter;
/// - everything else matches what is equal to it: arrays member by member, numbers by their value.
///
/// These are the rules of `event_match` in QEMU's Python class, with its accidents left out: there, `{}`, `[]` and
/// `""` match anything, members of an array are used as indices, and `True` equals `1`. There is no pattern for `null`
/// itself, as there.
///
/// ```
/// use qemu_machine_core::matches;
/// use serde_json::json;
///
/// let data = json!({"device": "virtio0", "len": 512, "speed": 0});
/// assert!(matches(&json!({"device": "virtio0", "len": null}), &data));
/// assert!(!matches(&json!({"device": "virtio1"}), &data));
/// assert!(!matches(&json!({"offset": null}), &data));
/// ```
#[must_use]
pub fn matches(pattern: &Value, value: &Value) -> bool {
    match (pattern, value) {
        (Value::Null, _) => true,
        (Value::Object(wanted), Value::Object(members)) => {
            wanted.iter().all(|(name, pattern)| members.get(name).is_some_and(|member| matches(pattern, member)))
        }
        _ => equal(pattern, value),
    }
}

/// Equality of JSON values: numbers by what they count, not by how they are written (QEMU writes `1.0` as `1`).
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => equal_numbers(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, left)| right.get(name).is_some_and(|right| equal(left, right)))
        }
        _ => left == right,
    }
}

fn equal_numbers(left: &Number, right: &Number) -> bool {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// A whole number, however it is written, with all its digits: as a float, one of 64 bits may lose some of them. One
/// beyond 128 bits is written in one way only.
fn whole(number: &Number) -> Option<i128> {
    match number.as_f64().filter(|_| number.is_f64()) {
        // What has a fraction, or does not fit, does not come back as it was.
        Some(float) => Some(float as i128).filter(|whole| *whole != i128::MAX && *whole as f64 == float),
        None => number.as_i128(),
    }
}
