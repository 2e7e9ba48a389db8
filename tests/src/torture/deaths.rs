//! Decides at which bytes a peer dies: at each of them.

use super::{LOST, Torture};
use crate::scripted::Script;

/// What the peer says first, as briefly as it can: each byte is a process on each row.
const GREETING: &str =
    "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 9, \"minor\": 2, \"micro\": 3}}, \"capabilities\": []}}\r\n";
/// What the peer answers to the negotiation and to the first command, which have the ids 0 and 1.
const NEGOTIATED: &str = "{\"return\": {}, \"id\": 0}\r\n";
const ANSWERED: &str = "{\"return\": 1, \"id\": 1}\r\n";
const EVENT: &str = "{\"event\": \"STOP\"}\r\n";

const END: [&str; 2] = ["end: QEMU exited by itself (status 3)", "end: exit status 3"];

/// One peer for each byte of the handshake before which it can die.
pub fn in_the_handshake() -> impl Iterator<Item = Torture> {
    let plays = "Dies at a byte of the handshake.";
    let greeting = (0..GREETING.len()).map(move |at| {
        let told = ["not launched: QEMU ended before its monitor greeted", END[0], END[1]];
        Torture::new("greeting", plays, Script::new().say(&GREETING[..at]).exit(3)).tells(&told)
    });
    let negotiation = (0..NEGOTIATED.len()).map(move |at| {
        let script = Script::new().greet().hear().say(&NEGOTIATED[..at]).exit(3);
        let phase = "not launched: QEMU ended before its monitor answered the capabilities negotiation";
        Torture::new("negotiation", plays, script).tells(&[phase, END[0], END[1]])
    });
    greeting.chain(negotiation)
}

/// One peer for each byte of a reply before which it can die.
pub fn in_a_reply() -> impl Iterator<Item = Torture> {
    (0..ANSWERED.len()).map(|at| under_a_command("reply", &ANSWERED[..at]))
}

/// One peer for each byte of an event before which it can die.
pub fn in_an_event() -> impl Iterator<Item = Torture> {
    (0..EVENT.len()).map(|at| under_a_command("event", &EVENT[..at]))
}

fn under_a_command(name: &'static str, last_words: &str) -> Torture {
    let told = ["launched", LOST, "the machine ended first", END[0], END[1], "end: 1 without a reply"];
    Torture::new(name, "Dies at a byte of a message.", Script::launched().hear().say(last_words).exit(3)).tells(&told)
}
