//! Peers that exit in the middle of their output: one for each byte of the handshake, of a reply and of an event.

use super::{LOST, Torture};
use crate::scripted::Script;

/// The greeting of these peers. It is short, because each of its bytes is a process on each row.
const GREETING: &str =
    "{\"QMP\": {\"version\": {\"qemu\": {\"major\": 9, \"minor\": 2, \"micro\": 3}}, \"capabilities\": []}}\r\n";
/// The replies to the negotiation and to the first command, which have the ids 0 and 1.
const NEGOTIATED: &str = "{\"return\": {}, \"id\": 0}\r\n";
const ANSWERED: &str = "{\"return\": 1, \"id\": 1}\r\n";
const EVENT: &str = "{\"event\": \"STOP\"}\r\n";

const END: [&str; 2] = ["end: QEMU exited (status 3)", "end: exit status 3"];

/// Returns a peer for each byte of the handshake. It exits before that byte.
pub fn in_the_handshake() -> impl Iterator<Item = Torture> {
    let plays = "Exits within the handshake.";
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

/// Returns a peer for each byte of a reply. It exits before that byte.
pub fn in_a_reply() -> impl Iterator<Item = Torture> {
    (0..ANSWERED.len()).map(|at| under_a_command("reply", &ANSWERED[..at]))
}

/// Returns a peer for each byte of an event. It exits before that byte.
pub fn in_an_event() -> impl Iterator<Item = Torture> {
    (0..EVENT.len()).map(|at| under_a_command("event", &EVENT[..at]))
}

fn under_a_command(name: &'static str, last_words: &str) -> Torture {
    let told = ["launched", LOST, "the machine ended first", END[0], END[1], "end: 1 without a reply"];
    Torture::new(name, "Exits within a message.", Script::launched().hear().say(last_words).exit(3)).tells(&told)
}
