//! Conversion of written arguments to JSON values of the types that the schema has for them.

use qemu_machine_blocking::Value;
use qemu_machine_blocking::core::schema::{Kind, Shape};
use qemu_machine_blocking::json;

use crate::arguments::choices;
use crate::split::{Word, Written};

/// A written argument before the schema gives it a type, or all arguments of a command by their names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unparsed {
    Text(String),
    /// A text in single quotes: no number, and nothing else of JSON, where the schema does not ask for that.
    Quoted(String),
    Json(Value),
    Members(Vec<(String, Unparsed)>),
}

impl Unparsed {
    /// Gathers words into members: `a.b=c` is `c` for the member `b` of `a`.
    ///
    /// # Errors
    ///
    /// A message, for a word without `=`, an empty name, a key that is given twice, or a value that is not valid JSON.
    pub(crate) fn gather(words: &[Word]) -> Result<Self, String> {
        let mut all = Self::Members(Vec::new());
        for Word { key, value, .. } in words {
            let value = value.as_ref().ok_or_else(|| format!("`{key}`: an argument is written as NAME=VALUE"))?;
            if key.split('.').any(str::is_empty) {
                return Err(format!("`{key}=`: a name is missing"));
            }
            let member = key.split('.').try_fold(&mut all, Self::member);
            match member {
                Some(member) if *member == Self::Members(Vec::new()) => *member = Self::read(key, value)?,
                _ => return Err(format!("`{key}` is given twice")),
            }
        }
        Ok(all)
    }

    /// Returns the member of this name, and creates it if it is missing. `None` means that this is a value already.
    fn member(&mut self, name: &str) -> Option<&mut Self> {
        let Self::Members(members) = self else { return None };
        let index = members.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
            members.push((name.to_owned(), Self::Members(Vec::new())));
            members.len() - 1
        });
        members.get_mut(index).map(|(_, member)| member)
    }

    fn read(key: &str, written: &Written) -> Result<Self, String> {
        let Written { text, quoted } = written;
        if *quoted {
            return Ok(Self::Quoted(text.clone()));
        }
        if !text.starts_with(['{', '[', '"']) {
            return Ok(Self::Text(text.clone()));
        }
        let json = text.parse().map(Self::Json);
        json.map_err(|error| format!("`{key}`: not JSON: {error}; text that looks like JSON needs single quotes"))
    }

    /// Returns the JSON value. `None` for the shape means that the schema does not have the argument.
    pub(crate) fn value(&self, shape: Option<Shape<'_>>) -> Value {
        match self {
            Self::Text(text) => shape.map_or_else(|| guess(text), |shape| typed(text, shape, guess)),
            Self::Quoted(text) => {
                shape.map_or_else(|| text.as_str().into(), |shape| typed(text, shape, |text| text.into()))
            }
            Self::Json(value) => value.clone(),
            Self::Members(members) => below(members, shape),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Quoted(text) => Some(text),
            Self::Json(value) => value.as_str(),
            Self::Members(_) => None,
        }
    }
}

/// Returns the object of the members, or the list, if the schema has a list there and the names are its indices.
fn below(given: &[(String, Unparsed)], shape: Option<Shape<'_>>) -> Value {
    let of_kind = |kind| shape.and_then(|shape| choices(shape).find(|shape| shape.kind() == kind));
    let numbered = !given.is_empty() && (0..given.len()).all(|index| find(given, &index.to_string()).is_some());
    if let Some(list) = of_kind(Kind::Array).filter(|_| numbered) {
        let elements = (0..given.len()).filter_map(|index| find(given, &index.to_string()));
        return elements.map(|element| element.value(list.element())).collect();
    }
    let object = of_kind(Kind::Object);
    let tag = object.and_then(Shape::tag).and_then(|tag| find(given, tag)).and_then(Unparsed::text);
    let shape_of = |name: &str| object?.members_with(tag).find(|member| member.name == name).map(|member| member.shape);
    Value::Object(given.iter().map(|(name, given)| (name.clone(), given.value(shape_of(name)))).collect())
}

fn find<'a>(given: &'a [(String, Unparsed)], name: &str) -> Option<&'a Unparsed> {
    given.iter().find(|(other, _)| other == name).map(|(_, given)| given)
}

/// Converts a text to a value of this shape. A text that does not fit stays text: the check of the whole command then
/// reports the expected type. `of_any` converts it where any type is possible.
fn typed(text: &str, shape: Shape<'_>, of_any: fn(&str) -> Value) -> Value {
    // A word of an enumeration stays that word: `on` is not a boolean where `on`, `off` and `auto` are possible. Any
    // text fits a string, so that comes last.
    let mut shapes: Vec<_> = choices(shape).collect();
    shapes.sort_by_key(|shape| match shape.kind() {
        Kind::Enum => 0,
        Kind::String => 2,
        _ => 1,
    });
    let fits = shapes.into_iter().find_map(|shape| match shape.kind() {
        Kind::Enum => shape.values().find(|word| *word == text).map(Value::from),
        Kind::Boolean => boolean(text),
        Kind::Integer => integer(text),
        Kind::Number => integer(text).or_else(|| number(text)),
        Kind::Null => (text == "null").then_some(Value::Null),
        Kind::Any => Some(of_any(text)),
        Kind::String => Some(text.into()),
        _ => None,
    });
    fits.unwrap_or_else(|| text.into())
}

/// Converts a text without a known type: to the JSON value that the text is (a number, `true`, `null`), or to a string.
fn guess(text: &str) -> Value {
    let value: Option<Value> = text.parse().ok();
    value.filter(|value| !value.is_string()).unwrap_or_else(|| text.into())
}

fn boolean(text: &str) -> Option<Value> {
    match text {
        "true" | "on" | "yes" => Some(true.into()),
        "false" | "off" | "no" => Some(false.into()),
        _ => None,
    }
}

fn number(text: &str) -> Option<Value> {
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| json!(number))
}

/// Converts an integer: decimal, hexadecimal (`0x`), or with a unit `K`, `M`, `G` or `T`, a power of 1024.
fn integer(text: &str) -> Option<Value> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().map(Value::from);
    }
    if let Ok(negative) = text.parse::<i64>() {
        return Some(negative.into());
    }
    let power = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => 1,
        b'M' => 2,
        b'G' => 3,
        b'T' => 4,
        _ => 0,
    };
    let digits = if power == 0 { text } else { &text[..text.len() - 1] };
    let number = digits.parse::<u64>().ok()?;
    number.checked_mul(1024_u64.pow(power)).map(Value::from)
}
