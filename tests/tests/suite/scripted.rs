//! Stories with a script, for what a real QEMU cannot be made to do. They run on every row, also in the simulated
//! world.

use std::time::Duration;

use qemu_machine_core::{CommandError, Config, Deadline, Mark, Phase, Shutdown, Wait};
use qemu_machine_tests::scripted::Script;

use crate::harness::{Harness, Transcript, launch_stalled};
use crate::rows;

/// Deadline of what must happen: longer than it ever takes.
pub(crate) const LONG: Deadline = Deadline::after(Duration::from_secs(10));

/// Deadline of what must not happen in time.
pub(crate) const SHORT: Duration = Duration::from_millis(100);

pub(crate) fn config(script: Script) -> Config {
    script.config(env!("CARGO_BIN_EXE_scripted-qemu")).recorded()
}

/// Launches a script, or notes why not.
fn launch<H: Harness>(script: Script) -> (Transcript, Option<H>) {
    let mut told = Transcript::default();
    let machine = told.launched(H::launch(config(script)));
    (told, machine)
}

/// Launches a script that becomes ready.
pub(crate) fn launched<H: Harness>(script: Script) -> (Transcript, H) {
    let (told, machine) = launch(script);
    (told, machine.expect("the script greets and negotiates"))
}

fn from_launch_to_quit<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().hear().reply(r#"{"answer": 42}"#).obey());
    told.note(format!("{:?}", machine.state()));
    told.reply(&machine.execute("question", LONG));
    told.outcome(machine.shutdown(Shutdown::default()));
    told.note(format!("{:?}", machine.state()));
    told.reply(&machine.execute("question", LONG));
    told.outcome(machine.shutdown(Shutdown::default()));
    told
}

fn events_in_every_gap<H: Harness>() -> Transcript {
    let script = Script::new()
        .event("BEFORE_GREETING")
        .greet()
        .event("BEFORE_NEGOTIATION")
        .hear()
        .event("BEFORE_ANSWER")
        .reply("{}")
        .event("AFTER_ANSWER")
        .hear()
        .event("BEFORE_REPLY")
        .reply("{}")
        .event("AFTER_REPLY")
        .obey();
    let (mut told, mut machine) = launched::<H>(script);
    told.reply(&machine.execute("act", LONG));
    let mut mark = Mark::default();
    for _ in 0..6 {
        mark = told.hit(machine.wait_any(&mark, &[Wait::any_event()], LONG)).expect("there are six events");
    }
    told.hit(machine.wait_any(&mark, &[Wait::any_event()], SHORT.into()));
    told.outcome(machine.kill());
    told
}

fn events_before_a_mark_are_not_found<H: Harness>() -> Transcript {
    let script = Script::launched().hear().event("OLD").reply("1").hear().event("NEW").reply("2").obey();
    let (mut told, mut machine) = launched::<H>(script);
    told.reply(&machine.execute("first", LONG));
    let mark = machine.mark();
    told.reply(&machine.execute("second", LONG));
    told.hit(machine.wait_any(&mark, &[Wait::event("OLD"), Wait::event("NEW")], LONG));
    told.hit(machine.wait_any(&Mark::default(), &[Wait::event("OLD"), Wait::event("NEW")], LONG));
    told.outcome(machine.kill());
    told
}

fn a_late_reply_reaches_no_other_caller<H: Harness>() -> Transcript {
    let script = Script::launched().hear().hear().reply("\"late\"").reply("\"in time\"").obey();
    let (mut told, mut machine) = launched::<H>(script);
    told.reply(&machine.execute("slow", SHORT.into()));
    told.reply(&machine.execute("quick", LONG));
    told.reply(&machine.execute("next", LONG));
    told.outcome(machine.shutdown(Shutdown::default()));
    told
}

fn a_raw_command_has_a_deadline_of_its_own<H: Harness>() -> Transcript {
    let script = Script::launched().hear().hear().reply("\"late\"").reply("\"in time\"").obey();
    let (mut told, mut machine) = launched::<H>(script);
    told.raw(machine.execute_raw_by("{\"execute\": \"slow\"}", SHORT.into()));
    told.raw(machine.execute_raw_by("{\"execute\": \"quick\"}", LONG));
    told.outcome(machine.shutdown(Shutdown::default()));
    told
}

fn a_refusal_quotes_the_peer<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().hear().refuse("not today").obey());
    told.reply(&machine.execute("please", LONG));
    told.reply(&machine.execute("thanks", LONG));
    told.raw(machine.execute_raw("{\"execute\": \"raw\"}"));
    told.raw(machine.execute_raw("[]"));
    told.outcome(machine.kill());
    told
}

fn an_error_without_an_id_answers_the_raw_command<H: Harness>() -> Transcript {
    let error = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n";
    let (mut told, mut machine) = launched::<H>(Script::launched().hear().say(error).ignore().obey());
    told.raw(machine.execute_raw("{\"execute\": 1}"));
    told.reply(&machine.execute("next", LONG));
    told.outcome(machine.kill());
    told
}

fn g21_many_commands_at_once<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().obey());
    let replies = machine.execute_all(&["command"; 20], LONG);
    told.note(format!("{} replies", replies.iter().filter(|reply| reply.is_ok()).count()));
    told.outcome(machine.shutdown(Shutdown::default()));
    told
}

fn a_broken_reply_costs_one_command<H: Harness>() -> Transcript {
    let (mut told, mut machine) =
        launched::<H>(Script::launched().hear().say("{\"return\": inf, \"id\": 1}\r\n").ignore().obey());
    told.note(format!("broken: {}", matches!(machine.execute("divide", LONG), Err(CommandError::Broken(_)))));
    told.reply(&machine.execute("next", LONG));
    told.outcome(machine.kill());
    told
}

fn death_while_a_command_waits<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().hear().print("oops").exit(3));
    told.reply(&machine.execute("deadly", LONG));
    told.hit(machine.wait_any(&Mark::default(), &[Wait::event("NEVER")], LONG));
    told.hit(machine.wait_any(&Mark::default(), &[Wait::event("NEVER"), Wait::end()], LONG));
    told
}

fn death_before_the_greeting<H: Harness>() -> Transcript {
    launch::<H>(Script::new().print("no room").exit(1)).0
}

fn death_in_the_greeting<H: Harness>() -> Transcript {
    launch::<H>(Script::new().say("{\"QMP\": {\"version\"").abort()).0
}

fn death_in_the_negotiation<H: Harness>() -> Transcript {
    launch::<H>(Script::new().greet().hear().exit(0)).0
}

fn garbage_instead_of_a_greeting<H: Harness>() -> Transcript {
    launch::<H>(Script::new().say("SSH-2.0-OpenSSH_9.2\r\n").stall()).0
}

fn a_refused_negotiation<H: Harness>() -> Transcript {
    launch::<H>(Script::new().greet().hear().refuse("no capabilities today").stall()).0
}

fn silence_instead_of_a_greeting<H: Harness>() -> Transcript {
    let mut told = Transcript::default();
    let config = config(Script::new().stall());
    told.launched(launch_stalled::<H>(&config, SHORT, |phase| phase == Phase::Greeting));
    told
}

fn a_quit_that_is_never_read<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().stall());
    told.outcome(machine.shutdown(Shutdown::within(3 * SHORT)));
    told
}

fn a_quit_that_the_caller_issued<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().obey());
    told.reply(&machine.execute("quit", LONG));
    told.outcome(machine.wait(LONG));
    told
}

fn waiting_for_an_end_that_does_not_come<H: Harness>() -> Transcript {
    let (mut told, mut machine) = launched::<H>(Script::launched().obey());
    told.outcome(machine.wait(SHORT.into()));
    told.reply(&machine.execute("still there", LONG));
    told.outcome(machine.kill());
    told
}

/// The stories, each with its transcript on every row.
macro_rules! stories {
    ($harness:ty) => {
        crate::each! { $harness:
            from_launch_to_quit [
                "launched", "Running", "reply: {\"answer\":42}",
                "end: ended by the caller (quit)", "end: exit status 0", "Ended",
                "no reply: the monitor was closed before the command was sent",
                "end: ended by the caller (quit)", "end: exit status 0",
            ]
            events_in_every_gap [
                "launched", "reply: {}",
                "event 0: BEFORE_GREETING", "event 0: BEFORE_NEGOTIATION", "event 0: BEFORE_ANSWER",
                "event 0: AFTER_ANSWER", "event 0: BEFORE_REPLY", "event 0: AFTER_REPLY",
                "the deadline passed before the wait found anything",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            events_before_a_mark_are_not_found [
                "launched", "reply: 1", "reply: 2", "event 1: NEW", "event 0: OLD",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            a_late_reply_reaches_no_other_caller [
                "launched", "no reply: no reply within the deadline, after the command was sent",
                "reply: \"in time\"", "reply: {}",
                "end: ended by the caller (quit)", "end: exit status 0", "end: 1 without a reply",
            ]
            a_raw_command_has_a_deadline_of_its_own [
                "launched", "no reply: no reply within the deadline, after the command was sent",
                "reply: {\"return\":\"in time\"}",
                "end: ended by the caller (quit)", "end: exit status 0", "end: 1 without a reply",
            ]
            a_refusal_quotes_the_peer [
                "launched", "no reply: `please` was refused: GenericError: not today", "reply: {}", "reply: {\"return\":{}}",
                "no reply: the raw command is not valid: it must be an object without an `id`",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            an_error_without_an_id_answers_the_raw_command [
                "launched",
                "reply: {\"error\":{\"class\":\"GenericError\",\"desc\":\"JSON parse error\"}}", "reply: {}",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            g21_many_commands_at_once [
                "launched", "20 replies", "end: ended by the caller (quit)", "end: exit status 0",
            ]
            a_broken_reply_costs_one_command [
                "launched", "broken: true", "reply: {}",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
            death_while_a_command_waits [
                "launched", "no reply: the monitor was closed after the command was sent",
                "the machine ended first",
                "end: QEMU exited (status 3)", "end: exit status 3", "end: 1 without a reply",
                "end: QEMU exited (status 3)", "end: exit status 3", "end: 1 without a reply",
            ]
            death_before_the_greeting [
                "not launched: QEMU ended before its monitor greeted",
                "end: QEMU exited (status 1)", "end: exit status 1",
            ]
            death_in_the_greeting [
                "not launched: QEMU ended before its monitor greeted",
                "end: ended by signal 6, which the caller did not send", "end: signal 6 (SIGABRT)",
            ]
            death_in_the_negotiation [
                "not launched: QEMU ended before its monitor answered the capabilities negotiation",
                "end: QEMU exited (status 0)", "end: exit status 0",
            ]
            garbage_instead_of_a_greeting [
                "not launched: the monitor broke the protocol: not a QMP message (not an object): SSH-2.0-OpenSSH_9.2",
                "end: killed because its launch had failed", "end: signal 9 (SIGKILL)",
            ]
            a_refused_negotiation [
                "not launched: capabilities negotiation failed: `qmp_capabilities` was refused: GenericError: no capabilities today",
                "end: killed because its launch had failed", "end: signal 9 (SIGKILL)",
            ]
            silence_instead_of_a_greeting [
                "not launched: the deadline passed before its monitor greeted",
                "end: killed because its launch had failed", "end: signal 9 (SIGKILL)",
            ]
            a_quit_that_is_never_read [
                "launched", "end: ended by the caller (SIGTERM)", "end: signal 15 (SIGTERM)",
            ]
            a_quit_that_the_caller_issued [
                "launched", "reply: {}", "end: ended by the caller (quit)", "end: exit status 0",
            ]
            waiting_for_an_end_that_does_not_come [
                "launched", "the deadline passed before the wait found anything", "reply: {}",
                "end: ended by the caller (SIGKILL)", "end: signal 9 (SIGKILL)",
            ]
        }
    };
}

rows!(stories, in_world);
