//! Envelope of a message: its members that QMP knows, each as the bytes that stand there.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The members that QMP knows, each as it stands in the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(rename = "QMP", borrow, default, deserialize_with = "text_unless_null")]
    pub(super) greeting: Option<&'a [u8]>,
    #[serde(rename = "return", borrow, default, deserialize_with = "text")]
    pub(super) value: Option<&'a [u8]>,
    #[serde(borrow, default, deserialize_with = "text_unless_null")]
    pub(super) error: Option<&'a [u8]>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) event: Option<&'a [u8]>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) data: Option<&'a [u8]>,
    #[serde(borrow, default, deserialize_with = "text")]
    pub(super) id: Option<&'a [u8]>,
}

/// Tells a member that is `null` from one that is absent.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de [u8]>, D::Error> {
    Ok(present(deserializer)?.map(bytes))
}

fn text_unless_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de [u8]>, D::Error> {
    let member: Option<&RawValue> = Deserialize::deserialize(deserializer)?;
    Ok(member.map(bytes))
}

fn bytes(member: &RawValue) -> &[u8] {
    member.get().as_bytes()
}
