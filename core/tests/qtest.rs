//! Tests of qtest: each reply answers its line, and interrupts are events.

use core::time::Duration;

use crate::rig::{Rig, secs};
use proptest::collection::vec;
use proptest::prelude::*;
use qemu_machine_core::{
    Address, Channel, CommandError, Config, Dialect, FOREVER, Input, Liveness, Misuse, Peer, Progress, QtestLine,
    State, Ticket, Wait,
};

/// A machine that speaks qtest. It is ready when connected: qtest has no greeting and no negotiation.
fn qtest() -> Rig {
    let rig = Rig::launched(Config::attach(Peer::Dial(Address::unix("/qtest"))).speaking(Dialect::Qtest));
    assert_eq!((rig.vm.state(), rig.vm.outgoing(Channel::Monitor)), (State::Running, [].as_slice()));
    rig
}

fn line(rig: &mut Rig, line: &str) -> Ticket<QtestLine> {
    line_within(rig, line, None)
}

fn line_within(rig: &mut Rig, line: &str, within: Option<Duration>) -> Ticket<QtestLine> {
    let ticket = rig.vm.execute_line(rig.now, line, within.map_or(FOREVER, Into::into)).expect("a line");
    rig.serve();
    ticket
}

fn hears(rig: &mut Rig, text: &str) {
    rig.handle(Input::Received(Channel::Monitor, text.as_bytes()));
}

fn claim(rig: &mut Rig, ticket: &Ticket<QtestLine>) -> Option<Result<String, String>> {
    rig.vm.claim(ticket).map(|answer| answer.map_err(|error| error.to_string()))
}

/// Returns the answer of one line after these bytes were received.
fn answered(said: &str) -> Option<Result<String, String>> {
    let mut rig = qtest();
    let ticket = line(&mut rig, "readl 0x1000");
    assert_eq!(rig.take_sent(), "readl 0x1000\n");
    hears(&mut rig, said);
    claim(&mut rig, &ticket)
}

#[test]
fn the_reply_to_a_line_is_the_text_after_ok() {
    for (said, value) in [
        ("OK\n", ""),
        ("OK 0x00000000deadbeef\n", "0x00000000deadbeef"),
        ("OK little\r\n", "little"),
        ("OK\r\n", ""),
        ("OK  a  b \n", "a  b"),
        ("OK \"quoted\\\" {\n", "\"quoted\\\" {"),
    ] {
        assert_eq!(answered(said), Some(Ok(value.trim().into())), "{said:?}");
    }
}

#[test]
fn any_other_reply_is_a_refusal_that_quotes_qemu() {
    for (said, words) in [
        ("FAIL Unknown command 'x'\n", "FAIL: Unknown command 'x'"),
        ("ERR no such interrupt\r\n", "ERR: no such interrupt"),
        ("OKAY then\n", "OKAY: then"),
    ] {
        let Some(Err(told)) = answered(said) else { panic!("{said:?} is no success") };
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn half_a_line_is_no_answer() {
    assert_eq!([answered("OK 0x1"), answered("\n"), answered("\r\n")], [None, None, None]);
}

/// An interrupt may come at any time.
#[test]
fn interrupts_between_a_command_and_its_answer_are_events() {
    let mut rig = qtest();
    let mark = rig.vm.mark();
    let subscription = rig.vm.subscribe(&mark, [Wait::event("IRQ")]).expect("the filter names events");
    let ticket = line(&mut rig, "irq_intercept_in ioapic");
    hears(&mut rig, "IRQ raise 3\nIRQ lower 3\r\n");
    assert_eq!(claim(&mut rig, &ticket), None);
    hears(&mut rig, "OK\nIRQ raise 14\n");
    assert_eq!(claim(&mut rig, &ticket), Some(Ok(String::new())));
    let raised =
        std::iter::from_fn(|| rig.vm.next_event(subscription)).map(|event| event.to_string()).collect::<Vec<_>>();
    let told = |raised, line| format!(r#"IRQ {{"raised":{raised},"line":{line}}}"#);
    assert_eq!(raised, [told(true, 3), told(false, 3), told(true, 14)]);
}

/// A malformed interrupt is counted, and is no reply.
#[test]
fn an_interrupt_that_cannot_be_read_answers_no_command() {
    let mut rig = qtest();
    let ticket = line(&mut rig, "readl 0");
    for odd in ["IRQ", "IRQ raise", "IRQ raise x", "IRQ raise -1"] {
        hears(&mut rig, &format!("{odd}\n"));
        assert_eq!(claim(&mut rig, &ticket), None, "{odd}");
    }
    hears(&mut rig, "OK 1\n");
    assert_eq!(claim(&mut rig, &ticket), Some(Ok("1".into())));
    assert_eq!(rig.vm.session().counters().malformed, 4);
}

#[test]
fn lines_go_one_at_a_time() {
    let mut rig = qtest();
    let [first, second] = ["readl 0", "readl 4"].map(|text| line(&mut rig, text));
    assert_eq!(rig.take_sent(), "readl 0\n");
    hears(&mut rig, "OK 0x1\n");
    assert_eq!(rig.take_sent(), "readl 4\n");
    hears(&mut rig, "FAIL\nOK for nobody\n");
    assert_eq!(claim(&mut rig, &first), Some(Ok("0x1".into())));
    assert!(matches!(claim(&mut rig, &second), Some(Err(_))));
    assert_eq!(rig.vm.session().counters().unmatched, 1);
}

/// qtest has no synchronisation, so the next line is sent after the late reply.
#[test]
fn the_late_answer_of_a_line_that_timed_out_reaches_no_other_line() {
    let mut rig = qtest();
    let slow = line_within(&mut rig, "clock_step", Some(secs(1)));
    let next = line(&mut rig, "readl 0");
    rig.take_sent();
    rig.pass_exactly(secs(1));
    assert_eq!(rig.vm.claim(&slow), Some(Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown))));
    assert_eq!(rig.take_sent(), "");
    hears(&mut rig, "OK late\n");
    assert_eq!((claim(&mut rig, &next), rig.take_sent().as_str()), (None, "readl 0\n"));
    hears(&mut rig, "OK in time\n");
    assert_eq!(claim(&mut rig, &next), Some(Ok("in time".into())));
    assert_eq!(rig.vm.session().counters().late, 1);
}

#[test]
fn text_that_is_not_one_line_is_refused() {
    let mut rig = qtest();
    for bad in ["", "  ", "readl 0\nreadl 4", "readl 0\n", "readl\r0", "a\0b"] {
        assert_eq!(rig.vm.execute_line(rig.now, bad, FOREVER).map(drop), Err(Misuse::QtestLine), "{bad:?}");
    }
    assert_eq!(rig.vm.execute(rig.now, &"query-status", FOREVER).map(drop), Err(Misuse::WrongDialect));
    assert_eq!(rig.take_sent(), "");
}

proptest! {
    #[test]
    fn no_bytes_of_qtest_do_harm(said in vec(any::<u8>(), 0..200), cut in 0..200_usize) {
        let whole = received([said.as_slice()]);
        let (before, behind) = said.split_at(cut.min(said.len()));
        prop_assert_eq!(received([before, behind]), whole);
    }
}

/// Returns the answers of three lines after these pieces were received.
fn received<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> [Option<Result<String, String>>; 3] {
    let mut rig = qtest();
    let tickets = ["a", "b", "c"].map(|text| line(&mut rig, text));
    for piece in pieces {
        rig.handle(Input::Received(Channel::Monitor, piece));
    }
    tickets.map(|ticket| claim(&mut rig, &ticket))
}
