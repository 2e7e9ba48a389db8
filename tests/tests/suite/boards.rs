//! Stories with the guests of other architectures: console, events, reset, power button and end.

use std::time::Duration;

use qemu_machine_core::{Deadline, Mark, Shutdown, Wait, json};
use qemu_machine_tests::PATIENCE;
use qemu_machine_tests::guest::GREETING;
use qemu_machine_tests::guest::board::{BOARDS, Board};

use crate::harness::Transcript;
use crate::hosted::Hosted;
use crate::rows;

const LONG: Deadline = Deadline::after(Duration::from_secs(PATIENCE.as_secs() / 2));

/// Returns the whole line with which a guest greets: it echoes input after it.
fn greeting() -> String {
    format!("{GREETING}\r\n")
}

/// Types this, and waits for text that the guest prints after it.
fn answers<H: Hosted>(told: &mut Transcript, machine: &mut H, typed: &str, text: &str) {
    let mark = machine.mark();
    machine.console_write("tty", typed).expect("the console accepts the input");
    told.hit(machine.wait_any(&mark, &[Wait::text("tty", text), Wait::end()], LONG));
}

/// Tells the run of a guest. Its last letter powers it off, or resets it where a reset ends QEMU.
fn whole_run<H: Hosted>(architecture: &str, last: &str) -> Transcript {
    let board = Board::of(architecture);
    let image = board.image().expect("the image can be written");
    let mut told = Transcript::default();
    let launched = told.launched(H::launch(board.config(&image).serial("tty").recorded()));
    let mut machine = launched.expect("the guest boots");
    told.hit(machine.wait_any(&Mark::default(), &[Wait::text("tty", greeting()), Wait::end()], LONG));
    answers(&mut told, &mut machine, "Hello!", "Hello!");
    let mut mark = machine.mark();
    for command in ["stop", "cont"] {
        told.reply(&machine.execute(command, LONG));
        let event = machine.wait_any(&mark, &[Wait::event("STOP"), Wait::event("RESUME")], LONG);
        mark = told.hit(event).expect("an event follows");
    }
    answers(&mut told, &mut machine, "r", &greeting());
    told.hit(machine.wait_any(&mark, &[Wait::event("RESET")], LONG));
    if last == "r" {
        told.reply(&machine.execute_with("set-action", json!({"reboot": "shutdown"})));
    }
    machine.console_write("tty", last).expect("the console accepts a letter");
    told.outcome(machine.wait(LONG));
    told
}

fn a_guest_of_aarch64<H: Hosted>() -> Transcript {
    whole_run::<H>("aarch64", "p")
}

fn a_guest_of_ppc64<H: Hosted>() -> Transcript {
    whole_run::<H>("ppc64", "p")
}

fn a_guest_of_riscv64<H: Hosted>() -> Transcript {
    whole_run::<H>("riscv64", "r")
}

fn a_guest_of_s390x<H: Hosted>() -> Transcript {
    whole_run::<H>("s390x", "p")
}

/// A board without the button gets it in vain, and is then asked to quit.
fn the_power_button_of_other_architectures<H: Hosted>() -> Transcript {
    let mut told = Transcript::default();
    for board in &BOARDS {
        let image = board.image().expect("the image can be written");
        let mut machine = H::launch(board.config(&image).serial("tty")).expect("the guest boots");
        machine.wait_for(Wait::text("tty", GREETING));
        let patience = if board.has_power_button { PATIENCE / 4 } else { Duration::from_millis(50) };
        let outcome = machine.shutdown(Shutdown::default().power_down(patience)).expect("it was launched");
        told.note(format!("{}: {}", board.architecture, outcome.cause));
    }
    told
}

macro_rules! stories {
    ($harness:ty) => {
        crate::each! { $harness:
            a_guest_of_aarch64 [
                "launched",
                "text 0: \"guest: ready\\r\\n\"",
                "text 0: \"Hello!\"",
                "reply: {}",
                "event 0: STOP",
                "reply: {}",
                "event 1: RESUME",
                "text 0: \"guest: ready\\r\\n\"",
                "event 0: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: powered off by the guest",
                "end: exit status 0",
                "end: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}",
            ]
            a_guest_of_ppc64 [
                "launched",
                "text 0: \"guest: ready\\r\\n\"",
                "text 0: \"Hello!\"",
                "reply: {}",
                "event 0: STOP",
                "reply: {}",
                "event 1: RESUME",
                "text 0: \"guest: ready\\r\\n\"",
                "event 0: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: powered off by the guest",
                "end: exit status 0",
                "end: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}",
            ]
            a_guest_of_riscv64 [
                "launched",
                "text 0: \"guest: ready\\r\\n\"",
                "text 0: \"Hello!\"",
                "reply: {}",
                "event 0: STOP",
                "reply: {}",
                "event 1: RESUME",
                "text 0: \"guest: ready\\r\\n\"",
                "event 0: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "reply: {}",
                "end: reset by the guest",
                "end: exit status 0",
                "end: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-reset\"}",
            ]
            a_guest_of_s390x [
                "launched",
                "text 0: \"guest: ready\\r\\n\"",
                "text 0: \"Hello!\"",
                "reply: {}",
                "event 0: STOP",
                "reply: {}",
                "event 1: RESUME",
                "text 0: \"guest: ready\\r\\n\"",
                "event 0: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: powered off by the guest",
                "end: exit status 0",
                "end: RESET {\"guest\": true, \"reason\": \"guest-reset\"}",
                "end: SHUTDOWN {\"guest\": true, \"reason\": \"guest-shutdown\"}",
            ]
            the_power_button_of_other_architectures [
                "aarch64: ended by the caller (power button)", "riscv64: ended by the caller (quit)",
                "s390x: ended by the caller (power button)", "ppc64: ended by the caller (quit)",
            ]
        }
    };
}

rows!(stories, strict);
