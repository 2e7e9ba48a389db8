//! Tests of descriptors: which command each is sent with, which commands wait for it, and that it is dropped
//! afterwards.
#![allow(unused_must_use, reason = "many commands here are only sent")]

use std::sync::Arc;

use crate::rig::{GREETING, HANDSHAKE, Rig, config, secs};
use qemu_machine_core::wire::Encoded;
use qemu_machine_core::{
    Channel, CommandError, CommandId, Descriptor, FOREVER, Limits, Liveness, Misuse, Monitor, OutOfBand, Phase,
    Progress, Shutdown, State, Ticket,
};

const MONITOR: Channel = Channel::Monitor;

/// Returns a descriptor with this number, and a count of its holders.
fn counted(number: u32) -> (Arc<u32>, Descriptor) {
    let counted = Arc::new(number);
    (counted.clone(), Descriptor::new(counted))
}

/// Returns whether only the test holds the descriptor.
fn is_dropped(counted: &Arc<u32>) -> bool {
    Arc::strong_count(counted) == 1
}

impl Rig {
    /// Sends a command of this name together with a descriptor.
    fn hand(&mut self, name: &'static str, number: u32) -> (Ticket<&'static str>, Arc<u32>) {
        let (counted, descriptor) = counted(number);
        let ticket = self.vm.execute_with_fd(self.now, &name, descriptor, FOREVER).expect("a command");
        self.serve();
        (ticket, counted)
    }

    /// Returns the number of the descriptor that must be sent with the next byte.
    fn carried(&self) -> Option<u32> {
        self.vm.outgoing_descriptor(MONITOR).and_then(|descriptor| descriptor.get::<Arc<u32>>()).map(|number| **number)
    }

    /// Sends everything, and returns each message: its descriptor, and the names of its commands.
    fn messages(&mut self) -> Vec<(Option<u32>, String)> {
        let mut messages = Vec::new();
        while !self.vm.outgoing(MONITOR).is_empty() {
            let carried = self.carried();
            let sent = self.take_sent();
            let names: Vec<_> = sent.split('"').skip(3).step_by(6).collect();
            messages.push((carried, names.join(" ")));
        }
        messages
    }
}

/// Writes messages as text: `7:a b` is a message with the descriptor 7 and the commands `a` and `b`.
fn written(messages: &[(Option<u32>, String)]) -> Vec<String> {
    let number = |carried: &Option<u32>| carried.map(|number| format!("{number}:")).unwrap_or_default();
    messages.iter().map(|(carried, names)| format!("{}{names}", number(carried))).collect()
}

fn messages(rig: &mut Rig) -> Vec<String> {
    written(&rig.messages())
}

#[test]
fn a_descriptor_is_sent_with_the_first_byte_of_its_command() {
    let mut rig = Rig::ready(config());
    rig.issue("a");
    let (ticket, counted) = rig.hand("b", 7);
    rig.issue("c");
    assert_eq!((rig.carried(), rig.vm.outgoing(MONITOR)), (None, &br#"{"execute":"a","id":1}"#[..]));
    rig.vm.sent(MONITOR, 5);
    assert_eq!((rig.carried(), rig.vm.outgoing(MONITOR)), (None, &br#"cute":"a","id":1}"#[..]));
    // The driver reports more than it could send: the excess is ignored.
    rig.vm.sent(MONITOR, 1000);
    let rest = br#"{"execute":"b","id":2}{"execute":"c","id":3}"#;
    assert_eq!((rig.carried(), rig.vm.outgoing(MONITOR)), (Some(7), &rest[..]));
    rig.vm.sent(MONITOR, 0);
    assert_eq!(rig.carried(), Some(7), "nothing was sent");
    assert_eq!(rig.vm.outgoing_descriptor(Channel::Console(0)), None);
    rig.vm.sent(MONITOR, 1);
    assert_eq!((rig.carried(), rig.vm.outgoing(MONITOR)), (None, &rest[1..]));
    assert!(is_dropped(&counted), "it was sent");
    rig.vm.sent(MONITOR, 1000);
    rig.replies(2);
    assert_eq!(rig.claim(&ticket), Some(Ok(2)));
}

/// QEMU keeps only the last descriptor that it received (measured with QEMU 7.2.22), so the next one must wait until
/// the command has taken it.
#[test]
fn the_next_descriptor_waits_for_the_reply_of_the_last() {
    for (ready, name) in [(Rig::ready as fn(_) -> Rig, "in band only"), (Rig::ready_oob, "with out-of-band")] {
        let mut rig = ready(config());
        rig.hand("a", 1);
        rig.issue("b");
        let (refused, second) = rig.hand("c", 2);
        rig.issue("d");
        rig.hand("e", 3);
        assert_eq!(messages(&mut rig), ["1:a b"], "{name}");
        assert_eq!((rig.vm.session().in_flight(), rig.vm.session().commands()), (2, 5));
        // The reply to the other command does not release the next descriptor.
        rig.replies(2);
        assert_eq!((rig.messages(), is_dropped(&second)), (vec![], false), "{name}");
        rig.replies(1);
        assert_eq!(messages(&mut rig), ["2:c d"], "{name}: the order is kept");
        rig.refuses(3);
        assert!(matches!(rig.claim(&refused), Some(Err(CommandError::Refused(_)))));
        assert_eq!(messages(&mut rig), ["3:e"], "{name}: a refusal is a reply");
        rig.replies(4);
        rig.replies(5);
        assert_eq!(rig.vm.session().commands(), 0);
    }
}

#[test]
fn out_of_band_commands_overtake_a_descriptor_unless_they_have_one() {
    let mut rig = Rig::ready_oob(config());
    rig.hand("a", 1);
    rig.hand("b", 2);
    rig.issue(OutOfBand("c"));
    let (_, descriptor) = counted(3);
    rig.vm.execute_with_fd(rig.now, &OutOfBand("d"), descriptor, FOREVER).unwrap();
    rig.issue(OutOfBand("e"));
    assert_eq!(messages(&mut rig), ["1:a c e"]);
    rig.replies(2);
    rig.replies(3);
    assert_eq!(messages(&mut rig), [""; 0]);
    rig.replies(1);
    assert_eq!(messages(&mut rig), ["2:b"]);
    rig.replies(4);
    assert_eq!(messages(&mut rig), ["3:d"]);
}

/// An out-of-band command that waits for a descriptor does not delay in-band commands.
#[test]
fn in_band_commands_overtake_an_out_of_band_command_that_waits() {
    let mut rig = Rig::ready_oob(config());
    rig.hand("a", 1);
    let (_, descriptor) = counted(2);
    rig.vm.execute_with_fd(rig.now, &OutOfBand("b"), descriptor, FOREVER).unwrap();
    rig.issue("c");
    assert_eq!(messages(&mut rig), ["1:a c"]);
    rig.issue("d");
    assert_eq!(messages(&mut rig), ["d"]);
    rig.replies(1);
    assert_eq!(messages(&mut rig), ["2:b"]);
}

/// Only the reply shows that QEMU took the descriptor, also when the caller no longer wants the reply.
#[test]
fn the_reply_of_a_disowned_command_releases_the_next_descriptor() {
    type Abandon = fn(&mut Rig, CommandId);
    let ways: [Abandon; 2] = [|rig, id| rig.vm.disown(id), |rig, _| rig.pass(secs(3))];
    for disown in ways {
        let mut rig = Rig::ready(config());
        let (first, descriptor) = counted(1);
        let id = rig.vm.execute_with_fd(rig.now, &"a", descriptor, secs(3).into()).unwrap().id();
        assert_eq!(messages(&mut rig), ["1:a"]);
        rig.hand("b", 2);
        disown(&mut rig, id);
        assert!(is_dropped(&first));
        assert_eq!(rig.messages(), []);
        rig.replies(1);
        assert_eq!((messages(&mut rig), rig.vm.session().counters().late), (vec!["2:b".to_string()], 1));
    }
}

/// The command is in the outgoing bytes already: to send a part of it would break the stream.
#[test]
fn a_command_that_is_disowned_while_outgoing_is_sent_whole() {
    let mut rig = Rig::ready(config());
    let (ticket, counted) = rig.hand("a", 1);
    rig.vm.disown(ticket.id());
    assert_eq!((rig.carried(), is_dropped(&counted)), (Some(1), false));
    assert_eq!(messages(&mut rig), ["1:a"]);
    assert!(is_dropped(&counted));
}

/// QEMU has finished a command whose reply is unreadable.
#[test]
fn an_unreadable_reply_releases_the_next_descriptor() {
    let mut limits = Limits::default();
    limits.message = 200;
    let large = format!("{{\"return\": \"{}\"}}", "x".repeat(200));
    for bad in ["garbage", &large] {
        let mut rig = Rig::ready(config().limits(limits));
        let (lost, _) = rig.hand("a", 1);
        rig.hand("b", 2);
        assert_eq!(messages(&mut rig), ["1:a"]);
        rig.says(bad);
        assert!(matches!(rig.claim(&lost), Some(Err(CommandError::Broken(_)))));
        assert_eq!(messages(&mut rig), ["2:b"]);
        rig.hand("c", 3);
        assert_eq!(rig.messages(), [], "the third waits for the second");
        rig.replies(2);
        assert_eq!(messages(&mut rig), ["3:c"]);
    }
}

#[test]
fn an_error_without_an_id_releases_the_next_descriptor() {
    let mut rig = Rig::ready(config());
    let (counted, descriptor) = counted(1);
    let raw = Encoded::raw(br#"{"execute": "a", "x": 1}"#).unwrap().with_descriptor(descriptor);
    let id = rig.vm.send(rig.now, &raw, FOREVER).unwrap();
    drop(raw);
    rig.hand("b", 2);
    assert_eq!((rig.carried(), rig.take_sent().as_str()), (Some(1), r#"{"execute": "a", "x": 1,"id":1}"#));
    assert!(is_dropped(&counted));
    rig.says(r#"{"error": {"class": "GenericError", "desc": "Invalid JSON syntax"}}"#);
    assert!(rig.vm.take(id).expect("an answer").is_ok(), "the error is the answer of the raw command");
    assert_eq!(messages(&mut rig), ["2:b"]);
}

/// A peer may send anything at any time, also before it received the command.
#[test]
fn a_message_before_a_descriptor_was_sent_does_not_move_it_to_another_command() {
    for said in ["garbage", r#"{"return": {}, "id": 1}"#] {
        let mut rig = Rig::ready(config());
        rig.hand("a", 1);
        rig.hand("b", 2);
        rig.says(said);
        assert_eq!(messages(&mut rig), ["1:a", "2:b"], "{said}");
    }
}

#[test]
fn an_unsent_descriptor_is_dropped_with_its_disowned_or_expired_command() {
    let mut rig = Rig::ready(config());
    rig.hand("a", 1);
    let (disowned, second) = rig.hand("b", 2);
    let (third, descriptor) = counted(3);
    let expired = rig.vm.execute_with_fd(rig.now, &"c", descriptor, secs(3).into()).unwrap();
    let (_, fourth) = rig.hand("d", 4);
    rig.take_sent();
    rig.vm.disown(disowned.id());
    assert_eq!([&second, &third, &fourth].map(is_dropped), [true, false, false]);
    rig.pass(secs(3));
    assert_eq!([&second, &third, &fourth].map(is_dropped), [true, true, false]);
    assert_eq!(rig.claim(&expired), Some(Err(CommandError::TimedOut(Progress::Unsent, Liveness::Unknown))));
    rig.replies(1);
    assert_eq!(messages(&mut rig), ["4:d"]);
}

/// The end of the connection ends all of its commands, whether they were sent, partly sent or queued.
#[test]
fn a_close_drops_all_descriptors() {
    type Close = fn(&mut Rig);
    let ways: [Close; 2] = [|rig| rig.closes(MONITOR), |rig| drop(rig.dies(crate::rig::SIGKILL))];
    for close in ways {
        for partly in [false, true] {
            let mut rig = Rig::ready(config());
            rig.issue("x");
            let (sent, first) = rig.hand("a", 1);
            let (queued, second) = rig.hand("b", 2);
            if partly {
                rig.vm.sent(MONITOR, 10);
            }
            close(&mut rig);
            assert_eq!(rig.vm.outgoing_descriptor(MONITOR), None);
            assert!(is_dropped(&first) && is_dropped(&second));
            assert_eq!(rig.claim(&sent), Some(Err(CommandError::Disconnected(Progress::Sent))));
            assert_eq!(rig.claim(&queued), Some(Err(CommandError::Disconnected(Progress::Unsent))));
        }
    }
}

#[test]
fn descriptors_wait_until_the_machine_is_ready() {
    let mut rig = Rig::launched(config());
    let (_, first) = rig.hand("a", 1);
    let (_, second) = rig.hand("b", 2);
    rig.says(GREETING);
    assert_eq!((rig.carried(), rig.take_sent().as_str()), (None, HANDSHAKE));
    rig.says(r#"{"return": {}, "id": 0}"#);
    assert_eq!(messages(&mut rig), ["1:a"]);
    assert_eq!([&first, &second].map(is_dropped), [true, false]);
    rig.replies(1);
    assert_eq!(messages(&mut rig), ["2:b"]);
}

#[test]
fn a_failed_launch_drops_all_descriptors() {
    let mut greeted = Rig::launched(config());
    let (_, first) = greeted.hand("a", 1);
    greeted.says("garbage");
    assert!(is_dropped(&first));
    // A machine whose monitor was never opened.
    let mut unborn = Rig::new(config());
    unborn.held = |_| true;
    unborn.launch();
    assert_eq!(unborn.vm.state(), State::Launching(Phase::Starting));
    let (ticket, second) = unborn.hand("b", 2);
    unborn.held = |_| false;
    unborn.failing = |_| true;
    let prepare = unborn.take_effects().remove(0);
    unborn.answer(&prepare);
    unborn.serve();
    assert_eq!(unborn.claim(&ticket), Some(Err(CommandError::Disconnected(Progress::Unsent))));
    assert!(is_dropped(&second));
}

#[test]
fn a_refused_command_drops_its_descriptor() {
    let mut limits = Limits::default();
    limits.commands = 1;
    let mut full = Rig::ready(config().limits(limits));
    full.issue("x");
    let mut ended = Rig::ready(config());
    ended.dies(crate::rig::SIGKILL);
    let without = Rig::launched(config().monitor(Monitor::None));
    for (mut rig, expected) in [
        (Rig::new(config()), Misuse::NotLaunched),
        (ended, Misuse::Ended),
        (without, Misuse::NoMonitor),
        (full, Misuse::TooManyCommands(1)),
    ] {
        let (counted, descriptor) = counted(1);
        assert_eq!(rig.vm.execute_with_fd(rig.now, &"a", descriptor, FOREVER).map(|_| ()), Err(expected));
        assert!(is_dropped(&counted));
    }
    // An out-of-band command on a monitor without that capability: known at once, or after the negotiation.
    let mut known = Rig::ready(config());
    let mut unknown = Rig::launched(config());
    for rig in [&mut known, &mut unknown] {
        let (counted, descriptor) = counted(1);
        let ticket = rig.vm.execute_with_fd(rig.now, &OutOfBand("a"), descriptor, FOREVER).unwrap();
        if !rig.vm.session().is_ready() {
            rig.negotiate(GREETING);
        }
        assert!(matches!(rig.claim(&ticket), Some(Err(CommandError::Misuse(Misuse::NoOutOfBand(_))))));
        assert!(is_dropped(&counted) && rig.carried().is_none());
    }
}

/// A command may be sent more than once, each time with the same descriptor.
#[test]
fn an_encoded_command_keeps_its_descriptor() {
    let mut rig = Rig::ready(config());
    let (counted, descriptor) = counted(7);
    let command = Encoded::command(&"a").unwrap().with_descriptor(descriptor.clone());
    assert_eq!(command, Encoded::command(&"a").unwrap().with_descriptor(descriptor));
    assert_ne!(command, Encoded::command(&"a").unwrap());
    for id in 1..3 {
        rig.vm.send(rig.now, &command, FOREVER).unwrap();
        assert_eq!(messages(&mut rig), ["7:a"]);
        rig.replies(id);
    }
    assert!(!is_dropped(&counted));
    drop(command);
    assert!(is_dropped(&counted));
}

/// The `quit` of the ladder is an in-band command, behind those that wait. The next rung does not depend on it.
#[test]
fn a_quit_waits_behind_a_waiting_command_no_longer_than_its_time() {
    let mut rig = Rig::ready(config());
    rig.hand("a", 1);
    rig.hand("b", 2);
    rig.shutdown(Shutdown::within(secs(30)));
    assert_eq!(messages(&mut rig), ["1:a"]);
    rig.pass_exactly(secs(20));
    assert_eq!(rig.signals(), [qemu_machine_core::Signal::Terminate]);
    rig.replies(1);
    assert_eq!(messages(&mut rig), ["2:b"], "the unsent quit is not sent any more");
}
