//! Bytes in a line of JSON: text where they are UTF-8, hexadecimal digits otherwise.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(with = …)]` on bytes, on lists of them, and on bytes that may be absent.
pub(crate) mod as_text {
    use super::{Deserialize, Deserializer, Serialize, Serializer, Textual};

    pub(crate) fn serialize<T: Textual, S: Serializer>(bytes: &T, to: S) -> Result<S::Ok, S::Error> {
        bytes.to_text().serialize(to)
    }

    pub(crate) fn deserialize<'de, T: Textual, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        T::Text::deserialize(from).and_then(|text| T::from_text(text).map_err(serde::de::Error::custom))
    }
}

/// Bytes, a list of bytes, or optional bytes.
pub(crate) trait Textual: Sized {
    type Text: Serialize + for<'de> Deserialize<'de>;

    fn to_text(&self) -> Self::Text;

    fn from_text(text: Self::Text) -> Result<Self, &'static str>;
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Plain(String),
    Digits { hex: String },
}

impl Textual for Vec<u8> {
    type Text = Text;

    fn to_text(&self) -> Text {
        core::str::from_utf8(self).map_or_else(|_| Text::Digits { hex: digits(self) }, |text| Text::Plain(text.into()))
    }

    fn from_text(text: Text) -> Result<Self, &'static str> {
        match text {
            Text::Plain(text) => Ok(text.into_bytes()),
            Text::Digits { hex } => undigits(&hex).ok_or("not pairs of hexadecimal digits"),
        }
    }
}

impl Textual for Option<Vec<u8>> {
    type Text = Option<Text>;

    fn to_text(&self) -> Self::Text {
        self.as_ref().map(Textual::to_text)
    }

    fn from_text(text: Self::Text) -> Result<Self, &'static str> {
        text.map(Textual::from_text).transpose()
    }
}

impl Textual for Vec<Vec<u8>> {
    type Text = Vec<Text>;

    fn to_text(&self) -> Self::Text {
        self.iter().map(Textual::to_text).collect()
    }

    fn from_text(text: Self::Text) -> Result<Self, &'static str> {
        text.into_iter().map(Textual::from_text).collect()
    }
}

impl Textual for Vec<(usize, Vec<u8>)> {
    type Text = Vec<(usize, Text)>;

    fn to_text(&self) -> Self::Text {
        self.iter().map(|(index, bytes)| (*index, bytes.to_text())).collect()
    }

    fn from_text(text: Self::Text) -> Result<Self, &'static str> {
        text.into_iter().map(|(index, text)| Ok((index, Vec::from_text(text)?))).collect()
    }
}

pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

pub(super) fn undigits(hex: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let pairs = hex.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_survive_a_round_trip(some in any::<Vec<u8>>()) {
            let json = serde_json::to_string(&some.to_text()).unwrap();
            prop_assert_eq!(Vec::<u8>::from_text(serde_json::from_str(&json).unwrap()).unwrap(), some);
        }
    }

    #[test]
    fn an_odd_digit_or_another_letter_is_refused() {
        assert_eq!((undigits("0"), undigits("zz"), undigits("ff0A")), (None, None, Some([0xff, 0x0a].into())));
    }
}
