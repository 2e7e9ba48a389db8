//! Tests of the handshake: the greeting, the capabilities negotiation, the events around them, and failures.

use crate::rig::{GREETING, GREETING_OOB, HANDSHAKE, HANDSHAKE_OOB, Rig, at, config, secs};
use proptest::prelude::*;
use qemu_machine_core::session;
use qemu_machine_core::session::Session;
use qemu_machine_core::{Channel, Input, LaunchFailure, Limits, Moment, ProtocolError, Refusal};

const EVENT: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "E"}"#;
const READY: &str = r#"{"return": {}, "id": 0}"#;

/// Passes these pieces to a session, and sends all of its bytes. Returns the session, its outputs and the sent text.
fn converse<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Session, Vec<session::Output>, String) {
    let (mut outputs, mut sent) = (Vec::new(), Vec::new());
    let mut session = Session::new(&Limits::default()).step(Moment::ORIGIN, session::Input::Opened, &mut |_| ());
    for piece in pieces {
        session = session.step(Moment::ORIGIN, session::Input::Received(piece), &mut |output| outputs.push(output));
        sent.extend_from_slice(session.outgoing());
        let count = session.outgoing().len();
        session = session.sent(count);
    }
    (session, outputs, String::from_utf8(sent).unwrap())
}

fn lines(lines: &[&str]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\r\n").into_bytes()).collect()
}

fn failure(said: &[&str]) -> LaunchFailure {
    let (session, mut outputs, _) = converse([&lines(said)[..]]);
    assert!(!session.is_open());
    match outputs.pop() {
        Some(session::Output::Failed(failure)) => failure,
        other => panic!("{said:?}: {other:?}"),
    }
}

#[test]
fn the_handshake_enables_the_offered_capabilities() {
    for (greeting, expected, out_of_band) in [(GREETING, HANDSHAKE, false), (GREETING_OOB, HANDSHAKE_OOB, true)] {
        let (session, outputs, sent) = converse([&lines(&[greeting])[..]]);
        assert_eq!((outputs, sent.as_str()), (vec![session::Output::Greeted], expected));
        assert!(session.is_open() && !session.is_ready());
        let (session, outputs, sent) = converse([&lines(&[greeting, READY])[..]]);
        assert_eq!((outputs, sent.as_str()), (vec![session::Output::Greeted, session::Output::Ready], expected));
        assert_eq!((session.is_ready(), session.out_of_band()), (true, out_of_band));
        assert_eq!(session.greeting().unwrap().version.to_string(), "7.2.22");
    }
}

/// Events may arrive before the greeting, and between `qmp_capabilities` and its reply (measured with QEMU 7.2.22).
#[test]
fn g07_events_around_the_handshake_are_delivered_in_order() {
    for count in 0..4_usize.pow(3) {
        let gaps = [count % 4, count / 4 % 4, count / 16];
        let mut said = Vec::new();
        let mut expected = Vec::new();
        for (gap, message) in gaps.iter().zip([GREETING_OOB, READY, ""]) {
            for _ in 0..*gap {
                let name = format!("E{}", said.len());
                said.push(EVENT.replace("\"E\"", &format!("\"{name}\"")));
                expected.push(name);
            }
            said.push(message.to_string());
            expected.extend(match message {
                GREETING_OOB => Some("greeted".to_string()),
                READY => Some("ready".to_string()),
                _ => None,
            });
        }
        let stream = lines(&said.iter().map(String::as_str).collect::<Vec<_>>());
        let (session, outputs, sent) = converse([&stream[..]]);
        let found = outputs.iter().map(|output| match output {
            session::Output::Greeted => "greeted".to_string(),
            session::Output::Ready => "ready".to_string(),
            session::Output::Event(event) => event.name().to_string(),
            other => panic!("{other:?}"),
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert!(session.out_of_band());
        assert_eq!(sent, HANDSHAKE_OOB);
    }
}

#[test]
fn the_failure_of_a_handshake_names_its_cause() {
    let refusal =
        Refusal { command: "qmp_capabilities".into(), class: "GenericError".into(), description: "no".into() };
    let refused = r#"{"error": {"class": "GenericError", "desc": "no"}, "id": 0}"#;
    assert_eq!(failure(&[GREETING, refused]), LaunchFailure::Refused(refusal));
    let nameless = r#"{"error": {"class": "GenericError", "desc": "no"}}"#;
    for early in [READY, refused, nameless] {
        let broken = LaunchFailure::Broken(ProtocolError::NoGreeting { excerpt: early.into() });
        assert_eq!(failure(&[early]), broken);
        assert_eq!(failure(&[EVENT, early, GREETING]), broken);
    }
    for said in
        [&["SSH-2.0-OpenSSH"][..], &[EVENT, "{\"x\": 1}"], &[GREETING, "{]"], &[GREETING, EVENT, "\u{7f}", READY]]
    {
        assert!(matches!(failure(said), LaunchFailure::Broken(ProtocolError::Malformed { .. })), "{said:?}");
    }
}

#[test]
fn a_greeting_beyond_the_limit_fails_the_handshake() {
    let mut rig = Rig::launched(config().limits(limits(50)));
    rig.says(GREETING);
    rig.dies(crate::rig::SIGKILL);
    let broken = LaunchFailure::Broken(ProtocolError::TooLarge { limit: 50 });
    assert!(rig.vm.launched().unwrap().unwrap_err().to_string().starts_with(&format!("launch failed: {broken}\n")));
}

#[test]
fn a_negotiating_session_ignores_other_replies() {
    let nameless = r#"{"error": {"class": "C", "desc": "d"}}"#;
    let (session, outputs, _) = converse([&lines(&[GREETING, r#"{"return": {}, "id": 1}"#, nameless, GREETING])[..]]);
    assert_eq!(outputs, [session::Output::Greeted]);
    assert_eq!((session.counters().unmatched, session.counters().nameless), (2, 1));
    assert!(session.is_open() && !session.is_ready());
}

/// No caller waits for an event in the handshake, so an unreadable one is only counted.
#[test]
fn g07_an_unreadable_event_fails_no_handshake() {
    let unreadable = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "E", "data": {"x": inf}}"#;
    let (session, outputs, _) = converse([&lines(&[unreadable, GREETING, unreadable, READY])[..]]);
    assert_eq!(outputs, [session::Output::Greeted, session::Output::Ready]);
    assert_eq!(session.counters().malformed, 2);
}

fn limits(message: usize) -> Limits {
    let mut limits = Limits::default();
    limits.message = message;
    limits
}

/// A conversation: events before and within the handshake, a pretty-printed message, garbage, an error without an id,
/// and an unmatched reply.
const RECORDED: &str = concat!(
    "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"VSERPORT_CHANGE\", \"data\": {\"open\": true, \"id\": \"}{\\\"\"}}\r\n",
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n",
    "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 3}, \"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 0}}\r\n\r\n",
    "{\"return\": {}, \"id\": 0}\r\n",
    "{\r\n    \"timestamp\": {\r\n        \"seconds\": 1,\r\n        \"microseconds\": 4\r\n    },\r\n    \"event\": \"STOP\"\r\n}\r\n",
    "{\"return\": [], \"id\": 77}\r\ngarbage\r\n{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n",
    "{\"torn\": \"\r\n{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": false, \"reason\": \"host-qmp-quit\"}}\r\n{\"ev",
);

proptest! {
    #[test]
    fn outputs_do_not_depend_on_how_the_bytes_are_split(sizes in prop::collection::vec(1_usize..80, 1..12)) {
        let (session, outputs, sent) = converse([RECORDED.as_bytes()]);
        prop_assert_eq!(outputs.len(), 6);
        let mut pieces = Vec::new();
        let mut rest = RECORDED.as_bytes();
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = behind;
            if rest.is_empty() { break; }
        }
        for pieces in [pieces, RECORDED.as_bytes().chunks(1).collect()] {
            let (other, others, also_sent) = converse(pieces);
            prop_assert_eq!(&others, &outputs);
            prop_assert_eq!(&also_sent, &sent);
            prop_assert_eq!(other.counters(), session.counters());
        }
    }
}

#[test]
fn a_monitor_that_cannot_be_opened_is_a_host_fault() {
    let mut rig = Rig::new(config());
    rig.failing = |effect| matches!(effect, qemu_machine_core::Effect::Open(Channel::Monitor));
    rig.launch();
    rig.dies(crate::rig::SIGKILL);
    let expected = LaunchFailure::Host(crate::rig::fault("oblige"));
    assert!(rig.vm.launched().unwrap().unwrap_err().to_string().starts_with(&format!("launch failed: {expected}\n")));
    assert_eq!(rig.now, at(secs(0)));
    rig.handle(Input::TimePassed);
}
