//! Tests of parsing each kind of message, as QEMU 7.2 sends it and as no peer should.

use bytes::Bytes;
use proptest::prelude::*;
use qemu_machine_core::session;
use qemu_machine_core::session::Session;
use qemu_machine_core::wire::{ErrorReply, Greeting, Message};
use qemu_machine_core::{Event, FromReply as _, Limits, Moment, Payload, ProtocolError, RawReply, Timestamp};

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18"}, "capabilities": ["oob"]}}"#;

fn read(text: impl AsRef<[u8]>) -> Result<Message, ProtocolError> {
    Message::read(&Bytes::copy_from_slice(text.as_ref()))
}

fn greeting(text: &str) -> Greeting {
    match read(text) {
        Ok(Message::Greeting(greeting)) => greeting,
        other => panic!("{text}: {other:?}"),
    }
}

fn reply(text: &str) -> (Option<u16>, Result<Payload, ErrorReply>) {
    match read(text) {
        Ok(Message::Reply { id, result }) => (id, result),
        other => panic!("{text}: {other:?}"),
    }
}

fn event(text: &str) -> Event {
    match read(text) {
        Ok(Message::Event(event)) => event,
        other => panic!("{text}: {other:?}"),
    }
}

/// The excerpt of a message that cannot be read.
fn excerpt(text: impl AsRef<[u8]>) -> String {
    match read(text.as_ref()) {
        Err(ProtocolError::Malformed { reason, excerpt }) => {
            assert!(!reason.is_empty());
            excerpt.into()
        }
        other => panic!("{}: {other:?}", String::from_utf8_lossy(text.as_ref())),
    }
}

#[test]
fn the_greeting_of_qemu_is_read() {
    let greeting = greeting(GREETING);
    let numbers = greeting.version.qemu;
    assert_eq!((numbers.major, numbers.minor, numbers.micro), (7, 2, 22));
    assert_eq!(greeting.version.to_string(), "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)");
    assert_eq!(greeting.capabilities, ["oob"]);
}

#[test]
fn a_greeting_may_know_more_and_less() {
    let old = greeting(r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 12, "major": 0}, "package": ""}}}"#);
    assert_eq!((old.version.to_string().as_str(), old.capabilities.len()), ("0.12.0", 0));
    let new = greeting(
        r#"{"motd": 1, "QMP": {"capabilities": ["oob", {"name": "x"}, "new", 5], "age": null,
            "version": {"qemu": {"major": 99, "minor": 0, "micro": 0, "nano": 1}}}}"#,
    );
    assert_eq!((new.version.to_string().as_str(), new.capabilities), ("99.0.0", vec!["oob".into(), "new".into()]));
}

#[test]
fn a_reply_carries_any_value_as_it_came() {
    for value in [
        "{}",
        r#"{"status": "running", "singlestep": false, "running": true}"#,
        r#"[{"name": "quit"}, []]"#,
        r#""VM status: running\r\n""#,
        "18446744073709551615",
        "-9.2233720368547758e+18",
        "null",
        "false",
        r#""\ud83d\uDE00 \u007F""#,
    ] {
        for text in [format!(r#"{{"return": {value}, "id": 7}}"#), format!(r#"{{"id":7,"return":{value}}}"#)] {
            let (id, result) = reply(&text);
            assert_eq!((id, result.unwrap().as_str()), (Some(7), value), "{text}");
        }
    }
}

#[test]
fn only_small_numbers_are_ids_of_ours() {
    for (id, ours) in [
        ("0", Some(0)),
        ("7", Some(7)),
        ("65535", Some(65535)),
        ("65536", None),
        ("18446744073709551616", None),
        ("-1", None),
        ("-0", None),
        ("7.0", None),
        ("7e0", None),
        ("\"7\"", None),
        ("null", None),
        ("[7]", None),
        ("{\"id\": 7}", None),
    ] {
        assert_eq!(reply(&format!(r#"{{"return": {{}}, "id": {id}}}"#)).0, ours, "{id}");
        // An error with a foreign id is unmatched, and not an error without an id.
        assert_eq!(reply(&format!(r#"{{"error": {{"class": "C", "desc": "d"}}, "id": {id}}}"#)).0, ours, "{id}");
    }
    assert_eq!(reply(r#"{"return": {}}"#).0, None);
}

#[test]
fn errors_are_read_with_their_members_in_any_order() {
    let refusal =
        ErrorReply { class: "CommandNotFound".into(), description: "The command x has not been found".into() };
    for text in [
        r#"{"id": 3, "error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}"#,
        r#"{"error": {"desc": "The command x has not been found", "class": "CommandNotFound"}, "id": 3}"#,
        r#"{"x": [1], "error": {"desc": "The command x has not been found", "hint": {}, "class": "CommandNotFound"}, "id": 3}"#,
    ] {
        assert_eq!(reply(text), (Some(3), Err(refusal.clone())), "{text}");
    }
    let nameless = read(r#"{"error": {"class": "CommandNotFound", "desc": "The command x has not been found"}}"#);
    assert_eq!(nameless, Ok(Message::Nameless(refusal)));
    let new = reply(r#"{"error": {"class": "ErrorOfTomorrow", "desc": "\u00e4 \"b\""}, "id": 0}"#).1.unwrap_err();
    assert_eq!((new.class.as_str(), new.description.as_str()), ("ErrorOfTomorrow", "ä \"b\""));
}

#[test]
fn events_are_read_with_and_without_data() {
    let stop = event(r#"{"timestamp": {"seconds": 1700000000, "microseconds": 654321}, "event": "STOP"}"#);
    assert_eq!((stop.name(), stop.data(), stop.to_string().as_str()), ("STOP", None, "STOP"));
    assert_eq!(stop.timestamp(), Timestamp { seconds: 1_700_000_000, microseconds: 654_321 });
    let shutdown = event(
        r#"{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}, "x": 0, "timestamp": {"seconds": -1, "microseconds": -1}}"#,
    );
    assert_eq!(shutdown.data(), Some(r#"{"guest": true, "reason": "guest-shutdown"}"#));
    assert_eq!(shutdown.timestamp(), Timestamp { seconds: -1, microseconds: -1 });
    let value: serde_json::Value = shutdown.read_data().unwrap();
    assert_eq!(value["reason"], "guest-shutdown");
    assert_eq!(event(r#"{"event":"X"}"#).timestamp(), Timestamp::default());
    // An event with a malformed timestamp is still an event.
    for time in [r#"{"seconds": "now", "microseconds": 0}"#, "null", "1e30", "{}"] {
        let event = event(&format!("{{\"event\": \"STOP\", \"timestamp\": {time}}}"));
        assert_eq!((event.name(), event.timestamp()), ("STOP", Timestamp::default()), "{time}");
    }
    assert_eq!(event(r#"{"event":"X","data":null}"#).data(), Some("null"));
}

#[test]
fn names_of_events_are_open_and_may_be_escaped() {
    for (name, plain) in [
        ("__com.example_THING", "__com.example_THING"),
        ("", ""),
        (r"ST\u004fP", "STOP"),
        (r#"a\"b\\"#, "a\"b\\"),
        ("größe", "größe"),
        (r"\ud83d\ude00", "😀"),
    ] {
        let event = event(&format!(r#"{{"event": "{name}", "data": {{"a": 1}}}}"#));
        assert_eq!((event.name(), event.data()), (plain, Some(r#"{"a": 1}"#)), "{name}");
    }
}

/// The bytes are those of the message, also where the unescaped name is stored behind them.
#[test]
fn an_event_is_read_as_it_came() {
    for name in ["X", "", r"ST\u004fP"] {
        let message = format!(
            r#"{{"data": {{"z": 36893488147419103232, "a": -1e400, "a": 1.50}}, "event":"{name}", "timestamp":  {{}}}}"#
        );
        let event = event(&message);
        assert_eq!((event.as_str(), event.as_bytes()), (message.as_str(), message.as_bytes()));
    }
    assert_eq!(event(r#"{"timestamp": {}, "event": "X"}"#).as_str(), r#"{"timestamp": {}, "event": "X"}"#);
}

/// Parsing rounds integers beyond 64 bits and loses the order and the repetition of members, and the bytes do not.
#[test]
fn a_raw_reply_has_its_bytes_beside_its_value() {
    let message = r#"{"return": {"z": 36893488147419103232, "a": 1, "a": 2}, "id": 3}"#;
    let (_, received) = reply(&format!(r#"{{"return": {message}, "id": 0}}"#));
    let reply = RawReply::from_reply(&received.expect("it succeeded")).expect("it is JSON");
    assert_eq!((reply.as_str(), reply.as_bytes()), (message, message.as_bytes()));
    assert_eq!((&reply["return"]["a"], reply["id"].as_u64()), (&serde_json::json!(2), Some(3)));
    assert_eq!(reply.to_string(), message);
    assert_eq!(reply.clone().into_value(), *reply);
}

#[test]
fn text_that_is_no_message_is_malformed_and_quoted() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "{}",
        "null",
        "5",
        "\"QMP\"",
        "garbage",
        r#"{"id": 1}"#,
        r#"{"data": {}}"#,
        r#"{"QMP": null}"#,
        r#"{"QMP": {"capabilities": []}}"#,
        r#"{"QMP": {"version": {"qemu": {"major": "7", "minor": 2, "micro": 1}}}}"#,
        r#"{"error": null, "id": 1}"#,
        r#"{"error": "no", "id": 1}"#,
        r#"{"error": {"class": 1, "desc": "d"}, "id": 1}"#,
        r#"{"return": {}, "error": {"class": "C", "desc": "d"}, "id": 1}"#,
        r#"{"event": null}"#,
        r#"{"event": 5}"#,
        r#"{"event": ["STOP"]}"#,
        r#"{"event": "\ud83d"}"#,
        r#"{"return": {}, "id": 1"#,
        r#"{"return": {}, "id": 1}}"#,
        r#"{"return": {}, "id": 1} {"return": {}, "id": 2}"#,
        r#"{"return": {}, "return": {}, "id": 1}"#,
        r#"{"return": {}, "id": 1, "id": 2}"#,
        r#"{"return": inf, "id": 1}"#,
        r#"{"return": {"x": nan}, "id": 1}"#,
        r#"{"return": {}, "id": inf}"#,
        r#"{"return": 01, "id": 1}"#,
        r#"{'return': {}, 'id': 1}"#,
    ] {
        assert_eq!(excerpt(text), text);
    }
}

/// serde could deserialize a struct from an array. In QMP a message is an object (`docs/interop/qmp-spec.rst`).
#[test]
fn an_array_is_no_message() {
    for text in [
        "[]",
        r#"[{"return": {}, "id": 1}]"#,
        "[null, {}]",
        r#"[null, null, {"class": "C", "desc": "d"}]"#,
        r#"{"error": ["C", "d"], "id": 1}"#,
        r#"{"error": [], "id": 1}"#,
        r#"{"QMP": [{"qemu": [9, 2, 0]}, ["oob"]]}"#,
    ] {
        assert_eq!(excerpt(text), text);
    }
}

/// Some peers send absent members as `null`.
#[test]
fn a_member_that_is_null_is_absent() {
    assert!(reply(r#"{"return": {}, "error": null, "QMP": null, "id": 1}"#).1.is_ok());
    assert!(reply(r#"{"error": {"class": "C", "desc": "d"}, "QMP": null, "id": 1}"#).1.is_err());
}

#[test]
fn bytes_that_are_no_text_are_malformed_and_replaced_in_the_excerpt() {
    assert_eq!(excerpt(b"\xff"), "\u{fffd}");
    assert_eq!(excerpt(b"\xff{\"return\": 5}"), "\u{fffd}{\"return\": 5}");
    assert_eq!(excerpt(b"{\"return\": \"\xc3\x28\", \"id\": 1}"), "{\"return\": \"\u{fffd}(\", \"id\": 1}");
    assert_eq!(excerpt(b"{\"event\": \"\xff\"}"), "{\"event\": \"\u{fffd}\"}");
    assert_eq!(excerpt(b"{\"event\": \"A\", \"data\": \"\xff\"}"), "{\"event\": \"A\", \"data\": \"\u{fffd}\"}");
}

#[test]
fn an_excerpt_is_short() {
    let long = "x".repeat(100_000);
    assert_eq!(excerpt(&long), "x".repeat(200) + "…");
    assert_eq!(excerpt("x".repeat(200)), "x".repeat(200));
}

#[test]
fn nesting_costs_no_stack() {
    let (open, close) = ("[".repeat(2000), "]".repeat(2000));
    for text in [
        open.clone(),
        format!("{open}{close}"),
        format!(r#"{{"return": {open}"#),
        format!(r#"{{"QMP": {open}{close}}}"#),
        format!(r#"{{"error": {open}{close}}}"#),
        format!(r#"{{"event": {open}{close}}}"#),
        format!(
            r#"{{"QMP": {{"version": {{"qemu": {{"major": 1, "minor": 1, "micro": 1}}}}, "capabilities": {open}{close}}}}}"#
        ),
    ] {
        assert!(excerpt(&text).ends_with('…'));
    }
    // Deeper than serde's default limit, and still a valid reply and event: the values are kept unparsed.
    let (id, result) = reply(&format!(r#"{{"return": {open}{close}, "id": 1}}"#));
    assert_eq!((id, result.unwrap().as_bytes().len()), (Some(1), 4000));
    assert_eq!(event(&format!(r#"{{"event": "DEEP", "data": {open}{close}}}"#)).data().map(str::len), Some(4000));
    assert!(event(&format!(r#"{{"event": "DEEP", "data": {open}{close}}}"#)).read_data::<serde_json::Value>().is_err());
}

/// Bytes that resemble a message, so that the parser often gets past the first brace.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\n",
        "\"QMP\"",
        "\"return\"",
        "\"error\"",
        "\"event\"",
        "\"id\"",
        "\"data\"",
        "1",
        "null",
        "\"version\"",
        "\"timestamp\"",
        "{\"class\":\"C\",\"desc\":\"d\"}",
        "\\ud800",
        "-",
        "1e400",
        "inf",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec());
    prop::collection::vec(prop_oneof![6 => word, 1 => prop::collection::vec(any::<u8>(), 1..4)], 0..30)
        .prop_map(|parts| parts.concat())
}

/// A JSON value with white space and numbers of all kinds.
fn value() -> impl Strategy<Value = String> {
    let plain =
        ["null", "true", "false", "0", "-1", "18446744073709551616", "-0.5", "1e9", "2E-3", "[]", "{ }", "\"\""];
    let escaped = Just(r#"größe \u00e4 \\ \" \n"#.to_string());
    let text = prop_oneof![4 => "[a-z {:,]{0,20}", 1 => escaped].prop_map(|text| format!("\"{text}\""));
    let leaf = prop_oneof![prop::sample::select(plain.to_vec()).prop_map(String::from), text];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let list = prop::collection::vec(inner.clone(), 1..4).prop_map(|items| format!("[{}]", items.join(", ")));
        let member = ("[a-z\"-]{0,12}", inner).prop_map(|(name, value)| format!("{name:?}:\t{value}"));
        let object = prop::collection::vec(member, 1..4).prop_map(|members| format!("{{{}\n}}", members.join(" ,")));
        prop_oneof![list, object]
    })
}

/// A message that a monitor might send, or a malformed one.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let names = ["QMP", "return", "error", "event", "data", "id", "timestamp", "x", r"ev\u0065nt", "idx", "ä"];
    let known = [r#""STOP""#, "7", r#"{"class": "C", "desc": "d"}"#, r#"{"seconds": 1, "microseconds": 2}"#];
    let value = prop_oneof![prop::sample::select(known.to_vec()).prop_map(String::from), value()];
    let member = (prop::sample::select(names.to_vec()), value).prop_map(|(name, value)| format!("\"{name}\": {value}"));
    let members = prop::collection::vec(member, 0..5).prop_map(|all| format!("{{{}}}", all.join(", ")).into_bytes());
    let stamp = br#"{"timestamp": {"seconds": 1700000000, "microseconds": 654321}, "event": "STOP"}"#;
    let whole = prop_oneof![8 => members, 1 => Just(stamp.to_vec())];
    let byte = prop::option::of(prop::sample::select(b" \"\\{}[]:,-0e.n\xc3\x1f".to_vec()));
    (whole, prop::collection::vec((any::<prop::sample::Index>(), byte), 0..2)).prop_map(|(mut bytes, slips)| {
        for (at, byte) in slips {
            let at = at.index(bytes.len());
            match byte {
                Some(byte) => bytes[at] = byte,
                None => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn a_message_is_read_as_serde_alone_would(bytes in message()) {
        crate::fuzzed::targets::run("message", &bytes);
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_a_message(bytes in any_bytes()) {
        crate::fuzzed::targets::run("message", &bytes);
        if let Err(error) = read(&bytes) {
            let is_malformed = matches!(error, ProtocolError::Malformed { .. });
            prop_assert!(is_malformed);
        }
    }

    #[test]
    fn no_bytes_panic_a_session(parts in prop::collection::vec(any_bytes(), 0..6), greeted in any::<bool>(), negotiated in any::<bool>()) {
        let mut outputs = 0_usize;
        let mut session = Session::new(&Limits::default());
        let mut hear = |session: Session, received: session::Input<'_>| session.step(Moment::ORIGIN, received, &mut |_| outputs += 1);
        session = hear(session, session::Input::Opened);
        if greeted {
            session = hear(session, session::Input::Received(format!("{GREETING}\r\n").as_bytes()));
        }
        if greeted && negotiated {
            session = hear(session, session::Input::Received(b"{\"return\": {}, \"id\": 0}\r\n"));
            prop_assert!(session.is_ready());
        }
        for part in &parts {
            session = hear(session, session::Input::Received(part));
        }
        session = hear(session, session::Input::Closed);
        prop_assert!(!session.is_open() && session.outgoing().is_empty());
    }
}
