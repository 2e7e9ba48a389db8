//! Decoder of JSON values, also of those that are nested too deep for `serde_json`, whose readers recurse.
//!
//! QEMU nests the images of a backing chain in one another, two levels for each, so the reply to `query-block` has more
//! levels than `serde_json` reads from 62 overlays on (measured with QEMU 7.2.22).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Error, Map, Value};

use super::{Cursor, Token};

/// The most levels that a [`Value`] is decoded with: as many as QEMU accepts in a command (QEMU,
/// `qobject/json-streamer.c`, `MAX_NESTING`). What QEMU sends has no such bound.
const VALUE_LEVELS: usize = 1024;

/// The most levels that a type of the caller is decoded with: the limit of `serde_json`, which protects the stack.
const TYPE_LEVELS: usize = 127;

/// Decodes a type of the caller.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| match Cursor::new(text).depth() {
        ..=TYPE_LEVELS => error,
        depth => Error::custom(format!(
            "{error}; it is nested {depth} levels deep, and a type is read with at most {TYPE_LEVELS}: read it as a \
             `Value`, or leave it unparsed"
        )),
    })
}

/// Decodes a value of any depth up to [`VALUE_LEVELS`], with little of the stack.
pub(crate) fn read_value(text: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(text).or_else(|error| match Cursor::new(text).depth() {
        0..=TYPE_LEVELS => Err(error),
        depth if depth <= VALUE_LEVELS => read_deep(text),
        depth => Err(Error::custom(format!(
            "it is nested {depth} levels deep, and a `Value` is read with at most {VALUE_LEVELS}: leave it unparsed"
        ))),
    })
}

/// A value that is not complete.
enum Open {
    Array(Vec<Value>),
    /// The members so far, and the name of the next one, once it was read.
    Object(Map<String, Value>, Option<String>),
}

impl Open {
    /// Adds a value, and drops one that it replaces.
    fn add(&mut self, value: Value) {
        match self {
            Self::Array(values) => values.push(value),
            Self::Object(members, name) => {
                // Of members with the same name the last counts, as for `serde_json`.
                if let Some(replaced) = name.take().and_then(|name| members.insert(name, value)) {
                    drop_deep(replaced);
                }
            }
        }
    }

    fn close(self) -> Value {
        match self {
            Self::Array(values) => Value::Array(values),
            Self::Object(members, _) => Value::Object(members),
        }
    }
}

/// Decodes a value without recursion.
fn read_deep(text: &[u8]) -> Result<Value, Error> {
    let mut open = Vec::new();
    let result = read_into(text, &mut open);
    open.into_iter().for_each(|open: Open| drop_deep(open.close()));
    result
}

fn read_into(text: &[u8], open: &mut Vec<Open>) -> Result<Value, Error> {
    let mut cursor = Cursor::new(text);
    loop {
        let value = match (cursor.token(), open.last_mut()) {
            (Some(Token::Object), _) => {
                open.push(Open::Object(Map::new(), None));
                continue;
            }
            (Some(Token::Array), _) => {
                open.push(Open::Array(Vec::new()));
                continue;
            }
            (Some(Token::String(name)), Some(Open::Object(_, next @ None))) => {
                *next = Some(serde_json::from_slice(name)?);
                continue;
            }
            (Some(Token::String(text) | Token::Plain(text)), _) => serde_json::from_slice(text)?,
            (Some(Token::End), _) => open.pop().map(Open::close).ok_or_else(unfinished)?,
            (None, _) => return Err(unfinished()),
        };
        match open.last_mut() {
            Some(outer) => outer.add(value),
            None => return Ok(value),
        }
    }
}

fn unfinished() -> Error {
    Error::custom("the value is incomplete")
}

/// Drops a value without recursion.
///
/// The drop of a [`Value`] recurses, and needs up to 700 bytes of the stack for each level in an unoptimised build
/// (measured with Rust 1.95). So 1,024 levels, the most that a reply is read with, overflow a stack of 512 KiB, which
/// aborts the program. A thread with so small a stack drops deep values with this function.
pub fn drop_deep(value: Value) {
    let mut rest = Vec::from([value]);
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(values) => rest.extend(values),
            Value::Object(members) => rest.extend(members.into_iter().map(|(_, value)| value)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::prelude::v1::*;

    use super::*;
    use proptest::prelude::*;

    fn nested(begin: &str, inside: &str, end: &str, levels: usize) -> String {
        [&*begin.repeat(levels), inside, &*end.repeat(levels)].concat()
    }

    /// Runs a test on a thread whose stack has 512 KiB.
    fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new().stack_size(512 << 10).spawn(test).unwrap().join().unwrap();
    }

    #[test]
    fn a_value_of_1024_levels_is_read_and_dropped_on_a_small_stack() {
        on_a_small_stack(|| {
            for (begin, end) in [("[", "]"), (r#"{"a":"#, "}"), (r#"[0,{"image": "#, ", \"b\": 1}]")] {
                let levels = VALUE_LEVELS / begin.matches(['[', '{']).count();
                let text = nested(begin, "7", end, levels);
                assert_eq!(Cursor::new(text.as_bytes()).depth(), VALUE_LEVELS);
                let value = read_value(text.as_bytes()).unwrap();
                let mut inner = &value;
                for _ in 0..VALUE_LEVELS {
                    inner = match inner {
                        Value::Array(values) => values.last().unwrap(),
                        Value::Object(members) => &members[if members.len() > 1 { "image" } else { "a" }],
                        shallow => shallow,
                    };
                }
                assert_eq!(*inner, 7);
                drop_deep(value);
            }
        });
    }

    #[test]
    fn a_deeper_value_is_an_error_that_names_its_depth() {
        on_a_small_stack(|| {
            for levels in [VALUE_LEVELS + 1, 1_000_000] {
                let error = read_value(nested("[", "", "]", levels).as_bytes()).unwrap_err().to_string();
                assert!(error.contains(&format!("{levels} levels")), "{error}");
            }
            let error = read::<Vec<Value>>(nested("[", "", "]", 128).as_bytes()).unwrap_err().to_string();
            assert!(error.contains("128 levels"), "{error}");
            assert!(read::<Vec<Value>>(nested("[", "", "]", TYPE_LEVELS).as_bytes()).is_ok());
        });
    }

    #[test]
    fn a_deep_value_that_cannot_be_read_is_dropped_on_a_small_stack() {
        on_a_small_stack(|| {
            let deep = nested(r#"{"a":"#, "7", "}", VALUE_LEVELS - 2);
            for text in [format!("[{deep},1e999]"), format!(r#"{{"b":{deep},"b":1,"c":{deep},"c":2}}"#)] {
                assert_eq!(read_value(text.as_bytes()).is_ok(), text.starts_with('{'));
            }
        });
    }

    proptest! {
        /// The two decoders agree on every value that both read.
        #[test]
        fn the_decoders_agree(value in any_value(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(read_deep(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 60, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }
}
