//! Tests of pattern matching: the cases of `event_match` in QEMU's Python class, the differences from it, and a second
//! definition that is written in another way.

use crate::rig::{Rig, config, secs};
use proptest::prelude::*;
use qemu_machine_core::{Found, Mark, Wait, json, matches};
use serde_json::{Map, Value};

/// The result of Python's `QEMUMachine.event_match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Original {
    Yes,
    No,
    /// It raises an exception.
    Raises,
}

use Original::{No, Raises, Yes};

fn check(table: &[(Value, Value, Original)], agrees: bool) {
    for (pattern, value, original) in table {
        let expected = (*original == Yes) == agrees;
        assert_eq!(matches(pattern, value), expected, "{pattern} on {value}: Python says {original:?}");
    }
}

#[test]
fn row_23_the_documented_cases_of_event_match_hold() {
    let table = [
        (json!(null), json!(7), Yes),
        (json!(null), json!({"bar": [1]}), Yes),
        (json!(null), json!(null), Yes),
        (json!({"foo": null}), json!({"foo": {"bar": 1}}), Yes),
        (json!({"foo": null}), json!({"foo": 5}), Yes),
        (json!({"foo": {"abc": null}}), json!({"foo": {"bar": 1}}), No),
        (json!({"foo": {"rab": 2}}), json!({"foo": {"bar": 1, "rab": 2}}), Yes),
        (json!({"foo": 5}), json!({"foo": null}), No),
        (json!({"foo": {"x": 1}}), json!({"foo": null}), No),
        (json!("abc"), json!("abcd"), No),
        (json!(5), json!([5]), No),
    ];
    check(&table, true);
}

#[test]
fn row_23_the_undocumented_cases_of_event_match_hold() {
    let table = [
        (json!({"foo": null}), json!({}), No),
        (json!({"foo": null}), json!({"foo": null}), Yes),
        (json!({}), json!({"a": 1}), Yes),
        (json!({"a": 1}), json!([{"a": 1}]), No),
        (json!([]), json!([]), Yes),
        (json!(""), json!(""), Yes),
        (json!([0]), json!([0]), Yes),
        (json!(["a"]), json!(["a"]), Yes),
        (json!([null]), json!([1]), No),
        (json!([0]), json!({"0": 1}), No),
        (json!(1), json!(1.0), Yes),
        (json!({"a": {"b": 1.0}}), json!({"a": {"b": 1, "c": 2}}), Yes),
    ];
    check(&table, true);
}

/// Accidental results of `event_match`. `matches` returns the opposite.
#[test]
fn row_23_matches_differs_from_event_match() {
    let table = [
        (json!({}), json!(5), Yes),
        (json!({}), json!("xyz"), Yes),
        (json!({}), json!(null), Yes),
        (json!({"a": {}}), json!({"a": "x"}), Yes),
        (json!([]), json!(5), Yes),
        (json!([]), json!("xyz"), Yes),
        (json!({"a": []}), json!({"a": [1]}), Yes),
        (json!(""), json!(5), Yes),
        (json!(""), json!("xyz"), Yes),
        (json!([1]), json!([1]), Raises),
        (json!([0]), json!([0, 1]), Yes),
        (json!(true), json!(1), Yes),
        (json!(true), json!(1.0), Yes),
        (json!(0), json!(false), Yes),
    ];
    check(&table, false);
    assert!(!matches(&json!([1]), &json!([1, 2])), "Python raises an exception here as well");
}

#[test]
fn row_23_numbers_are_equal_by_value_and_exactly() {
    assert!(!matches(&json!(u64::MAX), &json!(u64::MAX - 1)));
    assert!(matches(&json!(u64::MAX), &json!(u64::MAX)));
    assert!(matches(&json!([{"a": 1.0}]), &json!([{"a": 1}])));
    // 2^53 + 1 and 2^64 - 1: converted to floats, these would be equal.
    assert!(!matches(&json!(9_007_199_254_740_993_u64), &json!(9_007_199_254_740_992.0)));
    assert!(!matches(&json!(u64::MAX), &json!(u64::MAX as f64)));
    assert!(matches(&json!(1_u64 << 63), &json!((1_u64 << 63) as f64)) && matches(&json!(-0.0), &json!(0)));
    assert!(matches(&json!(1e300), &json!(1e300)) && !matches(&json!(1e300), &json!(i64::MAX)));
    assert!(!matches(&json!([{"a": 1}]), &json!([{"a": 1, "b": 2}])), "array elements are no patterns");
    assert!(!matches(&json!([{"a": null}]), &json!([{"a": 1}])), "array elements are no wildcards");
}

/// In Python, the pattern is of the whole event.
#[test]
fn row_23_the_pattern_of_a_wait_is_of_the_data() {
    let mut rig = Rig::ready(config());
    rig.says(r#"{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}"#);
    rig.says(r#"{"event": "DEVICE_DELETED", "data": {"device": "disk1", "path": "/machine"}}"#);
    let table = [
        ("STOP", json!(null), true),
        ("STOP", json!({}), false),
        ("DEVICE_DELETED", json!({}), true),
        ("DEVICE_DELETED", json!({"device": "disk1"}), true),
        ("DEVICE_DELETED", json!({"device": "disk1", "path": null}), true),
        ("DEVICE_DELETED", json!({"device": "disk"}), false),
        ("DEVICE_DELETED", json!({"data": {"device": "disk1"}}), false),
    ];
    for (name, pattern, expected) in table {
        let wait = Wait::event(name).with(pattern.clone());
        let id = rig.vm.wait(rig.now, &Mark::default(), [wait], secs(0).into()).unwrap();
        let found = rig.vm.claim_wait(id).expect("the deadline is zero").map(|hit| hit.found);
        assert_eq!(found.is_ok(), expected, "{name} with {pattern}");
        assert!(found.is_err() || matches!(found, Ok(Found::Event(event)) if event.name() == name));
    }
}

/// Values with few names and numbers, so that they are often equal in part. Whole numbers are integers or floats.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        (-4_i64..5).prop_map(|halves| Value::from(halves as f64 / 2.0)),
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

/// A pattern made from a value, which it mostly matches: members left out, wildcards put in, integers as floats, and
/// sometimes another value.
fn thinned(value: &Value, choices: &mut impl Iterator<Item = u8>) -> Value {
    match (choices.next().unwrap_or(9), value) {
        (0, _) => Value::Null,
        (1, _) => json!({}),
        (2, _) => json!({"a": 1}),
        (_, Value::Object(members)) => {
            let kept = members.iter().filter_map(|(name, member)| {
                let outlives_parent = choices.next().unwrap_or(9) > 3;
                outlives_parent.then(|| (name.clone(), thinned(member, choices)))
            });
            Value::Object(kept.collect())
        }
        (3..9, Value::Number(number)) => json!(number.as_f64()),
        (_, other) => other.clone(),
    }
}

fn any_pair() -> impl Strategy<Value = (Value, Value)> {
    let made_of_it = (any_value(), prop::collection::vec(0_u8..20, 0..12))
        .prop_map(|(value, choices)| (thinned(&value, &mut choices.into_iter()), value));
    prop_oneof![(any_value(), any_value()), made_of_it]
}

/// Collects every place in a pattern with its path of names, and what the pattern demands there.
fn demands<'a>(pattern: &'a Value, path: &mut Vec<&'a str>, all: &mut Vec<(Vec<&'a str>, &'a Value)>) {
    all.push((path.clone(), pattern));
    for (name, member) in pattern.as_object().into_iter().flatten() {
        path.push(name);
        demands(member, path, all);
        path.pop();
    }
}

/// Returns the same text for equal values. `{:?}` writes a float with its point.
fn text(value: &Value) -> String {
    match value {
        Value::Number(number) => format!("{:?}", number.as_f64().expect("a small number") + 0.0),
        Value::Array(members) => format!("[{}]", members.iter().map(text).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| format!("{name:?}:{}", text(member)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A value matches when it has every place of the pattern: anything at a wildcard, an object at an object, and an
    /// equal value everywhere else.
    #[test]
    fn row_23_a_pattern_is_its_demands_on_each_path((pattern, value) in any_pair()) {
        let mut all = Vec::new();
        demands(&pattern, &mut Vec::new(), &mut all);
        let expected = all.into_iter().all(|(path, wanted)| {
            let found = path.into_iter().try_fold(&value, |place, name| place.get(name));
            found.is_some_and(|found| match wanted {
                Value::Null => true,
                Value::Object(_) => found.is_object(),
                other => text(other) == text(found),
            })
        });
        prop_assert_eq!(matches(&pattern, &value), expected);
    }

    #[test]
    fn row_23_a_value_matches_itself(value in any_value()) {
        prop_assert!(matches(&value, &value));
    }
}
