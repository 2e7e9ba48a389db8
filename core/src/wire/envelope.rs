//! Envelope of a message: the members that QMP defines, each as a slice of the message.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The members that QMP defines (`docs/interop/qmp-spec.rst`, Server Greeting, Commands Responses, Asynchronous
/// events), each as its bytes in the message. `None` means that the message lacks the member; an `error` or `QMP` that
/// is `null` counts as absent.
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

/// Reads a member, so that `null` is `Some` and an absent member is `None`.
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
