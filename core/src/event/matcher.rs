//! Decides whether a value is what a pattern asks for.

use serde_json::{Number, Value};

/// Whether `value` is what `pattern` asks for.
///
/// - `null` matches everything that is there;
/// - an object matches an object that has all its members, each matching; further members do not matter;
/// - everything else matches what is equal to it: arrays member by member, numbers by their value.
///
/// These are the rules of `event_match` in QEMU's Python class, with its accidents left out: there, `{}`, `[]` and
/// `""` match anything, members of an array are used as indices, and `True` equals `1`.
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
    left == right || ((left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64())
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::prelude::v1::*;

    use super::matches;
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    /// The documented truth table of the original, each row (pattern, value, matches).
    #[test]
    fn the_examples_of_the_original_hold() {
        let table = [
            (json!(null), json!(7), true),
            (json!({"foo": null}), json!({"foo": {"bar": 1}}), true),
            (json!({"foo": null}), json!({"foo": 5}), true),
            (json!({"foo": {"abc": null}}), json!({"foo": {"bar": 1}}), false),
            (json!({"foo": {"rab": 2}}), json!({"foo": {"bar": 1, "rab": 2}}), true),
            (json!({"foo": 5}), json!({"foo": null}), false),
            (json!({"foo": {"x": 1}}), json!({"foo": null}), false),
            (json!("abc"), json!("abcd"), false),
            (json!(5), json!([5]), false),
        ];
        for (pattern, value, expected) in table {
            assert_eq!(matches(&pattern, &value), expected, "{pattern} on {value}");
        }
    }

    #[test]
    fn the_accidents_of_the_original_do_not() {
        let table = [
            (json!({}), json!(5), false),
            (json!({}), json!({"a": 1}), true),
            (json!([]), json!("xyz"), false),
            (json!(""), json!("xyz"), false),
            (json!([1]), json!([1]), true),
            (json!([1]), json!([1, 2]), false),
            (json!([null]), json!([1]), false),
            (json!(true), json!(1), false),
            (json!(0), json!(false), false),
            (json!(1), json!(1.0), true),
            (json!(u64::MAX), json!(u64::MAX - 1), false),
            (json!([{"a": 1.0}]), json!([{"a": 1}]), true),
            (json!([{"a": 1}]), json!([{"a": 1, "b": 2}]), false),
        ];
        for (pattern, value, expected) in table {
            assert_eq!(matches(&pattern, &value), expected, "{pattern} on {value}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2_i64..3).prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..3)
                    .prop_map(|members| Value::Object(Map::from_iter(members))),
            ]
        })
    }

    /// Every path to a leaf of a pattern, with the leaf; an empty object and an array are leaves.
    fn leaves(pattern: &Value, path: &str, out: &mut Vec<(String, Value)>) {
        match pattern {
            Value::Object(members) if !members.is_empty() => {
                for (name, member) in members {
                    leaves(member, &format!("{path}/{name}"), out);
                }
            }
            leaf => out.push((path.to_string(), leaf.clone())),
        }
    }

    proptest! {
        /// An independent definition: a value matches when it has, at the path of each leaf of the pattern, that
        /// leaf; an empty object asks for an object, and `null` for anything.
        #[test]
        fn a_pattern_is_the_set_of_its_leaves(pattern in json_value(), value in json_value()) {
            let mut wanted = Vec::new();
            leaves(&pattern, "", &mut wanted);
            let expected = wanted.iter().all(|(path, leaf)| value.pointer(path).is_some_and(|found| match leaf {
                Value::Null => true,
                Value::Object(_) => found.is_object(),
                other => *found == *other,
            }));
            prop_assert_eq!(matches(&pattern, &value), expected);
        }

        #[test]
        fn a_value_without_null_matches_itself(value in json_value()) {
            prop_assert!(matches(&value, &value));
        }
    }
}
