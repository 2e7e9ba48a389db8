//! Stories of original bytes: a raw reply and an event are also the bytes of the peer, of which parsing loses some.

use qemu_machine_core::{Deadline, Event, Found, Mark, Wait};
use qemu_machine_tests::PATIENCE;
use qemu_machine_tests::scripted::{ID, Script};

use crate::harness::Harness;
use crate::rows;
use crate::scripted::config;

const LONG: Deadline = Deadline::after(PATIENCE);

/// A value with an integer beyond 64 bits, a member that comes twice, an order that is not that
/// of the names, spaces that no writer adds, and escapes.
const VALUE: &str = r#"{"z": 36893488147419103232,  "a": 1.50, "a" :2, "\u0061b": "\u00e9\/é"}"#;

const EVENT: &str = r#"{"data": VALUE , "event":"ST\u004fP", "timestamp":  {"seconds": 1, "microseconds": 2}}"#;

fn g11_the_bytes_of_a_raw_reply_and_of_an_event_are_those_of_the_peer<H: Harness>() {
    let (event, reply) = (EVENT.replace("VALUE", VALUE), format!(r#"{{ "id": {ID},"return": {VALUE} }}"#));
    let script = Script::launched().hear().line(&event).line(&reply).ignore().obey();
    let mut machine = H::launch(config(script)).unwrap_or_else(|error| panic!("{error}"));
    let mut events = machine.subscribe(&Mark::default(), &[Wait::event("STOP")]).expect("the filter names an event");
    let raw = machine.execute_raw("{\"execute\": \"question\"}").expect("the peer replies");
    let expected = reply.replace(ID, &raw["id"].to_string());
    assert_eq!((raw.as_str(), raw.as_bytes()), (&*expected, expected.as_bytes()));
    assert_eq!(raw["return"]["a"], 2, "the value has the last of both");
    let check = |received: &Event| assert_eq!((received.as_str(), received.as_bytes()), (&*event, event.as_bytes()));
    check(&machine.next(&mut events, LONG).expect("it came before the reply"));
    let hit = machine.wait_any(&Mark::default(), &[Wait::event("STOP")], LONG).expect("it is in the history");
    let Found::Event(kept) = hit.found else { panic!("{hit:?}") };
    check(&kept);
    machine.kill().expect("the machine was launched");
}

macro_rules! stories {
    ($harness:ty) => {
        crate::prove! { $harness:
            g11_the_bytes_of_a_raw_reply_and_of_an_event_are_those_of_the_peer
        }
    };
}

rows!(stories, in_world);
