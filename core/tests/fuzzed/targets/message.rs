//! Properties of messages: our reader accepts and refuses the same messages as one made with `serde_json` alone.

use qemu_machine_core::wire::{ErrorReply, Greeting, Message};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub(super) fn run(data: &[u8]) {
    let read = Message::read(&data.to_vec().into()).ok().map(|message| told(&message));
    assert_eq!(read, expected(data), "{}", String::from_utf8_lossy(data));
}

/// The kind of a message, the id of a reply, and the texts in it.
type Read = (&'static str, Option<u16>, Vec<String>);

fn texts(refusal: &ErrorReply) -> Vec<String> {
    [&refusal.class, &refusal.description].map(|text| text.as_str().into()).into()
}

fn told(message: &Message) -> Read {
    match message {
        Message::Greeting(greeting) => ("greeting", None, vec![format!("{greeting:?}")]),
        Message::Reply { id, result: Ok(payload) } => ("reply", *id, vec![payload.as_str().into()]),
        Message::Reply { id, result: Err(refusal) } => ("refusal", *id, texts(refusal)),
        Message::Nameless(refusal) => ("nameless", None, texts(refusal)),
        Message::Event(event) => {
            ("event", None, [event.name()].into_iter().chain(event.data()).map(Into::into).collect())
        }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "QMP", borrow, default)]
    greeting: Option<&'a RawValue>,
    #[serde(rename = "return", borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Returns what the message must be read as. `None` means that it must be refused.
fn expected(data: &[u8]) -> Option<Read> {
    let is_object = |text: &[u8]| text.trim_ascii_start().starts_with(b"{");
    let envelope: Envelope<'_> = serde_json::from_slice(data).ok().filter(|_| is_object(data))?;
    let object = |member: &&RawValue| is_object(member.get().as_bytes());
    let id = envelope.id.map(|id| id.get().parse().ok());
    match envelope {
        Envelope { event: Some(name), data, .. } => {
            let name: String = serde_json::from_str(name.get()).ok()?;
            Some(("event", None, [name].into_iter().chain(data.map(|data| data.get().into())).collect()))
        }
        Envelope { value: Some(_), error: Some(_), .. } => None,
        Envelope { value: Some(value), .. } => Some(("reply", id.flatten(), vec![value.get().into()])),
        Envelope { error: Some(error), .. } => {
            let Refused { class, desc } = serde_json::from_str(Some(error).filter(object)?.get()).ok()?;
            Some((if id.is_some() { "refusal" } else { "nameless" }, id.flatten(), vec![class, desc]))
        }
        Envelope { greeting, .. } => {
            let greeting: Greeting = serde_json::from_str(greeting.filter(object)?.get()).ok()?;
            Some(("greeting", None, vec![format!("{greeting:?}")]))
        }
    }
}
