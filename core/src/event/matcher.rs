//! Matcher of JSON values against patterns.

use serde_json::{Number, Value};

/// Returns whether a value matches a pattern.
///
/// - `null` matches any value;
/// - an object matches an object that has all members of the pattern, each matching; further members are ignored;
/// - any other pattern matches a value that is equal to it: arrays element by element, numbers by value (`1` equals
///   `1.0`).
///
/// So no pattern matches only `null`. These are the rules of QEMU's Python class (QEMU,
/// `python/qemu/machine/machine.py`, `event_match`) without its exceptions: there `{}`, `[]` and `""` match
/// anything, the elements of an array are used as keys, and `True` equals `1`.
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

/// Returns whether two JSON values are equal: numbers by value, not by notation. QEMU writes `1.0` as `1` (measured
/// with QEMU 7.2.22).
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

pub(super) fn equal_numbers(left: &Number, right: &Number) -> bool {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

/// Returns a number as an integer, in any notation. As a float, an integer of 64 bits could lose digits. `None` means
/// that the number has a fraction or does not fit 128 bits.
fn whole(number: &Number) -> Option<i128> {
    match number.as_f64().filter(|_| number.is_f64()) {
        // A number with a fraction, or one that does not fit, differs after the conversion there and back.
        Some(float) => Some(float as i128).filter(|whole| *whole != i128::MAX && *whole as f64 == float),
        None => number.as_i128(),
    }
}
