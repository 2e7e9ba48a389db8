//! Tests of waits: nothing between a mark and a wait is missed, deadlines are exact, and a wait for what cannot come
//! ends.

use crate::rig::{GREETING, Rig, SIGKILL, at, config, secs};
use proptest::prelude::*;
use qemu_machine_core::{
    Channel, Config, Event, ExitStatus, FOREVER, Found, Hit, Input, Limits, Mark, Missed, Misuse, Notice, Wait,
    WaitError, WaitId, Why, json,
};

fn limits(events: usize, console: usize) -> Limits {
    let mut limits = Limits::default();
    (limits.events, limits.console) = (events, console);
    limits
}

fn hit(rig: &mut Rig, id: WaitId) -> Hit {
    match rig.vm.claim_wait(id) {
        Some(Ok(hit)) => hit,
        other => panic!("{other:?}"),
    }
}

fn event(hit: &Hit) -> &Event {
    assert_eq!(hit.text(), None);
    hit.event().unwrap_or_else(|| panic!("{hit:?}"))
}

fn text(hit: &Hit) -> &str {
    assert_eq!(hit.event(), None);
    hit.text().unwrap_or_else(|| panic!("{hit:?}"))
}

/// Returns what a wait without time finds.
fn find(rig: &mut Rig, from: &Mark, things: impl IntoIterator<Item = Wait>) -> Option<Hit> {
    let id = rig.vm.wait(rig.now, from, things, secs(0).into()).unwrap();
    match rig.vm.claim_wait(id) {
        Some(Ok(hit)) => Some(hit),
        Some(Err(WaitError::TimedOut)) => None,
        other => panic!("{other:?}"),
    }
}

/// The event of a command may come before its reply, in the same read, or after it.
#[test]
fn g08_an_event_is_seen_from_a_mark_before_its_command() {
    let (stop, reply) = ("{\"event\": \"STOP\"}\r\n", "{\"return\": {}, \"id\": 1}\r\n");
    for pieces in [vec![stop, reply], vec![&*[stop, reply].concat()], vec![&*[reply, stop].concat()], vec![reply, stop]]
    {
        for waits_early in [false, true] {
            let mut rig = Rig::ready(config());
            rig.happens("STOP");
            let mark = rig.vm.mark();
            let stop = rig.issue("stop");
            let early = waits_early.then(|| rig.wait(&mark, [Wait::event("STOP")]));
            pieces.iter().for_each(|piece| rig.handle(Input::Received(Channel::Monitor, piece.as_bytes())));
            assert!(rig.vm.claim(&stop).unwrap().is_ok());
            let id = early.unwrap_or_else(|| rig.wait(&mark, [Wait::event("STOP")]));
            let hit = hit(&mut rig, id);
            assert_eq!((event(&hit).name(), hit.index, hit.missed), ("STOP", 0, Missed::default()));
            assert_eq!(find(&mut rig, &hit.mark, [Wait::event("STOP")]), None, "there is only one event");
        }
    }
}

#[test]
fn an_event_is_found_by_its_data() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    rig.says(r#"{"event": "DEVICE_DELETED", "data": {"path": "/machine/peripheral/a"}}"#);
    rig.says(r#"{"event": "DEVICE_DELETED", "data": {"path": "/machine/peripheral/a", "device": "a"}}"#);
    let wanted = || Wait::event("DEVICE_DELETED").with(json!({"device": "a"}));
    let hit = find(&mut rig, &mark, [wanted()]).unwrap();
    assert_eq!(event(&hit).read_data::<serde_json::Value>().unwrap()["device"], "a");
    assert_eq!(find(&mut rig, &mark, [Wait::any_event().with(json!({"device": "b"}))]), None);
    assert_eq!(
        event(&find(&mut rig, &mark, [Wait::any_event()]).unwrap()).data(),
        Some(r#"{"path": "/machine/peripheral/a"}"#)
    );
    assert_eq!(find(&mut rig, &hit.mark, [wanted()]), None);
}

#[test]
fn the_first_event_wins_and_its_index_is_reported() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    rig.happens("A");
    rig.happens("B");
    let hit = find(&mut rig, &mark, [Wait::event("B"), Wait::event("A"), Wait::any_event()]).unwrap();
    assert_eq!((event(&hit).name(), hit.index), ("A", 1));
    let hit = find(&mut rig, &hit.mark, [Wait::event("A"), Wait::event("B")]).unwrap();
    assert_eq!((event(&hit).name(), hit.index), ("B", 1));
}

#[test]
fn evicted_events_are_counted_exactly() {
    let one = "{\"event\": \"E0\"}".len() + Event::OVERHEAD;
    let mut rig = Rig::ready(config().limits(limits(3 * one, 100)));
    let mark = rig.vm.mark();
    (0..9).for_each(|number| rig.says(&format!("{{\"event\": \"E{number}\"}}")));
    assert_eq!((rig.vm.history().first(), rig.vm.history().end()), (6, 9));
    let hit = find(&mut rig, &mark, [Wait::any_event()]).unwrap();
    assert_eq!((event(&hit).name(), hit.missed), ("E6", Missed { events: 6, bytes: 0 }));
    let hit = find(&mut rig, &hit.mark, [Wait::any_event()]).unwrap();
    assert_eq!((event(&hit).name(), hit.missed), ("E7", Missed::default()));
    assert_eq!(find(&mut rig, &mark, [Wait::event("E5")]), None, "evicted");
    assert_eq!((rig.vm.event(5), rig.vm.event(8).map(Event::name)), (None, Some("E8")));
}

#[test]
fn evicted_bytes_are_counted_exactly() {
    let mut rig = Rig::ready(config().limits(limits(1000, 10)));
    let mark = rig.vm.mark();
    ["0123456789", "abcde", "fgh"].into_iter().for_each(|part| rig.prints(part));
    let hit = find(&mut rig, &mark, [Wait::text("tty", "gh")]).unwrap();
    assert_eq!((text(&hit), hit.missed), ("89abcdefgh", Missed { events: 0, bytes: 8 }));
}

proptest! {
    /// The match ends at the same byte, however the output is cut, and whether it was printed before the wait or after.
    #[test]
    fn text_is_found_however_it_is_cut(before in "[ab\n]{0,20}", needle in "[ab]{1,4}", after in "[ab]{0,9}", sizes in prop::collection::vec(1_usize..6, 1..6), looks_back in any::<bool>()) {
        let printed = format!("{before}{needle}{after}");
        let expected = &printed[..printed.find(&needle).unwrap() + needle.len()];
        let mut rig = Rig::ready(config());
        rig.prints("earlier ");
        let mark = rig.vm.mark();
        let wanted = || [Wait::text("tty", needle.as_str())];
        let early = (!looks_back).then(|| rig.wait(&mark, wanted()));
        let mut rest = printed.as_bytes();
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            rig.handle(Input::Received(Channel::Console(0), piece));
            rest = behind;
            if rest.is_empty() { break; }
        }
        let id = early.unwrap_or_else(|| rig.wait(&mark, wanted()));
        let hit = hit(&mut rig, id);
        prop_assert_eq!(text(&hit), expected);
        let rest = rig.vm.console_since("tty", &hit.mark).unwrap();
        prop_assert_eq!(rest, &printed.as_bytes()[expected.len()..]);
    }

    /// From hit to hit, every occurrence of the text is found once.
    #[test]
    fn marks_chain_from_text_to_text(printed in "[ab]{0,30}", needle in "[ab]{1,3}") {
        let mut rig = Rig::ready(config());
        let mut mark = rig.vm.mark();
        rig.prints(&printed);
        let mut found = 0;
        while let Some(hit) = find(&mut rig, &mark, [Wait::text("tty", needle.as_str())]) {
            found += 1;
            mark = hit.mark;
        }
        prop_assert_eq!(found, printed.matches(&needle).count());
    }
}

#[test]
fn of_several_texts_the_one_that_ends_first_wins() {
    for looks_back in [true, false] {
        let mut rig = Rig::ready(config());
        let mark = rig.vm.mark();
        let wanted = || [Wait::text("tty", "bcdef"), Wait::text("tty", "cd"), Wait::text("tty", "d")];
        let early = (!looks_back).then(|| rig.wait(&mark, wanted()));
        rig.prints("abcdefg");
        let id = early.unwrap_or_else(|| rig.wait(&mark, wanted()));
        let hit = hit(&mut rig, id);
        assert_eq!((hit.index, text(&hit)), (1, "abcd"), "of texts that end together, the first in the list wins");
    }
}

#[test]
fn texts_on_several_consoles_do_not_mix() {
    let mut rig = Rig::ready(config().serial("aux"));
    let mark = rig.vm.mark();
    let id = rig.wait(&mark, [Wait::text("tty", "ok"), Wait::text("aux", "ok")]);
    rig.prints("o");
    rig.handle(Input::Received(Channel::Console(1), b"k"));
    assert_eq!(rig.vm.claim_wait(id), None);
    rig.handle(Input::Received(Channel::Console(1), b" ok!"));
    let hit = hit(&mut rig, id);
    assert_eq!((hit.index, text(&hit)), (1, "k ok"));
    assert_eq!(rig.vm.console_since("aux", &hit.mark), Ok(&b"!"[..]));
    assert_eq!(rig.vm.console_since("tty", &hit.mark), Ok(&b"o"[..]), "the mark on the other console does not move");
    assert_eq!(rig.vm.console_names().collect::<Vec<_>>(), ["tty", "aux"]);
}

/// The mark after an event does not move on the consoles, and a mark after text does not move on the events.
#[test]
fn marks_of_events_and_texts_are_apart() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    rig.prints("login: ");
    rig.happens("STOP");
    let hit = find(&mut rig, &mark, [Wait::event("STOP"), Wait::text("tty", "login")]).unwrap();
    assert_eq!(event(&hit).name(), "STOP");
    let hit = find(&mut rig, &hit.mark, [Wait::event("STOP"), Wait::text("tty", "login")]).unwrap();
    assert_eq!((hit.index, text(&hit)), (1, "login"));
    assert_eq!(find(&mut rig, &hit.mark, [Wait::event("STOP"), Wait::text("tty", "login")]), None);
}

#[test]
fn text_that_is_not_utf8_is_found_and_replaced() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    rig.handle(Input::Received(Channel::Console(0), b"\xff\xfeok"));
    let hit = find(&mut rig, &mark, [Wait::text("tty", &b"\xfeok"[..])]).unwrap();
    assert_eq!(text(&hit), "\u{fffd}\u{fffd}ok");
}

/// Text is found also in a read that is larger than the console history.
#[test]
fn text_in_a_piece_larger_than_the_memory_is_found() {
    let stream = format!("{}login: {}", "x".repeat(100), "y".repeat(100));
    for size in [1, 7, 64, stream.len()] {
        let mut rig = Rig::ready(config().limits(limits(1000, 64)));
        let mark = rig.vm.mark();
        let id = rig.wait(&mark, [Wait::text("tty", "login: ")]);
        for piece in stream.as_bytes().chunks(size) {
            rig.handle(Input::Received(Channel::Console(0), piece));
        }
        assert!(matches!(rig.vm.claim_wait(id), Some(Ok(_))), "in pieces of {size}");
    }
}

#[test]
fn the_deadline_is_exact() {
    let mut rig = Rig::ready(config());
    rig.pass(secs(1));
    let mark = rig.vm.mark();
    let id = rig.vm.wait(rig.now, &mark, [Wait::event("NEVER"), Wait::end()], secs(3).into()).unwrap();
    assert_eq!(rig.vm.deadline(), Some((at(secs(4)), Why::Wait)));
    rig.pass_exactly_pending(id);
    assert_eq!(rig.vm.claim_wait(id), Some(Err(WaitError::TimedOut)));
    assert_eq!((rig.vm.claim_wait(id), rig.vm.deadline()), (None, None));
    let id = rig.vm.wait(rig.now, &mark, [Wait::event("LATE")], secs(3).into()).unwrap();
    rig.now = at(secs(7));
    rig.happens("LATE");
    assert_eq!(event(&hit(&mut rig, id)).name(), "LATE", "an event at the deadline is in time");
}

impl Rig {
    fn pass_exactly_pending(&mut self, id: WaitId) {
        self.pass(secs(3) - core::time::Duration::from_nanos(1));
        assert_eq!(self.vm.claim_wait(id), None);
        self.pass(core::time::Duration::from_nanos(1));
    }
}

#[test]
fn a_wait_that_is_over_is_announced() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let id = rig.vm.wait(rig.now, &mark, [Wait::event("STOP")], FOREVER).unwrap();
    assert_eq!(rig.vm.poll_notice(), None);
    rig.vm.handle(rig.now, Input::Received(Channel::Monitor, b"{\"event\": \"STOP\"}\n"));
    let notices: Vec<_> = core::iter::from_fn(|| rig.vm.poll_notice()).collect();
    assert_eq!(notices, [Notice::Event(0), Notice::Waited(id)]);
    hit(&mut rig, id);
    rig.vm.handle(rig.now, Input::TimePassed);
    assert_eq!(rig.vm.poll_notice(), None, "the wait is claimed");
}

#[test]
fn a_disowned_wait_has_neither_a_result_nor_a_deadline() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let id = rig.vm.wait(rig.now, &mark, [Wait::event("STOP")], secs(3).into()).unwrap();
    rig.vm.disown_wait(id);
    rig.happens("STOP");
    assert_eq!((rig.vm.claim_wait(id), rig.vm.deadline()), (None, None));
    let id = rig.wait(&mark, [Wait::event("STOP")]);
    rig.vm.disown_wait(id);
    assert_eq!((rig.vm.claim_wait(id), rig.vm.poll_notice()), (None, None));
}

#[test]
fn the_end_is_found_or_ends_the_wait() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let end = rig.wait(&mark, [Wait::event("NEVER"), Wait::end()]);
    let other = rig.wait(&mark, [Wait::text("tty", "never")]);
    rig.prints("last words");
    let outcome = rig.dies(ExitStatus::Code(3));
    let found = hit(&mut rig, end);
    assert_eq!((found.index, found.found), (1, Found::End(Box::new(outcome.clone()))));
    assert_eq!(rig.vm.claim_wait(other), Some(Err(WaitError::Ended(Box::new(outcome.clone())))));
    // On a machine that has ended, earlier output is still found, and no more can come.
    assert_eq!(text(&find(&mut rig, &mark, [Wait::text("tty", "words"), Wait::end()]).unwrap()), "last words");
    let id = rig.wait(&mark, [Wait::event("NEVER")]);
    assert_eq!(rig.vm.claim_wait(id), Some(Err(WaitError::Ended(Box::new(outcome)))));
    let id = rig.wait(&mark, [Wait::event("NEVER"), Wait::end()]);
    assert_eq!(hit(&mut rig, id).index, 1);
}

#[test]
fn without_a_monitor_no_event_can_come() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let events = rig.wait(&mark, [Wait::event("NEVER"), Wait::any_event()]);
    let more = rig.wait(&mark, [Wait::event("NEVER"), Wait::text("tty", "ok")]);
    rig.closes(Channel::Monitor);
    assert_eq!(rig.vm.deadline(), Some((at(secs(5)), Why::HangUp)), "the end of the process may explain it");
    rig.pass(secs(5) - core::time::Duration::from_nanos(1));
    assert_eq!(rig.vm.claim_wait(events), None);
    rig.pass(core::time::Duration::from_nanos(1));
    assert_eq!(rig.vm.claim_wait(events), Some(Err(WaitError::Disconnected)));
    assert_eq!((rig.vm.claim_wait(more), rig.vm.deadline()), (None, None));
    rig.prints("ok");
    assert_eq!(hit(&mut rig, more).index, 1);
}

/// A request at this moment or later must not consume the deadline: a wait without a deadline would never end.
#[test]
fn a_request_does_not_cancel_the_end_of_waits_without_a_monitor() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let events = rig.wait(&mark, [Wait::event("NEVER")]);
    rig.closes(Channel::Monitor);
    rig.now = at(secs(7));
    rig.vm.console_write(rig.now, "tty", b"x").expect("a console");
    assert_eq!(rig.vm.deadline(), Some((at(secs(5)), Why::HangUp)));
    rig.pass(secs(0));
    assert_eq!((rig.vm.claim_wait(events), rig.vm.deadline()), (Some(Err(WaitError::Disconnected)), None));
}

/// A wait that begins long after the end of the monitor must not last until the end of the machine.
#[test]
fn a_wait_for_events_that_begins_without_a_monitor_is_over_at_once() {
    let mut rig = Rig::ready(config());
    rig.happens("STOP");
    rig.closes(Channel::Monitor);
    rig.pass(secs(6));
    let id = rig.wait(&Mark::default(), [Wait::event("STOP")]);
    assert_eq!(event(&hit(&mut rig, id)).name(), "STOP", "an earlier event is found");
    let mark = rig.vm.mark();
    let id = rig.wait(&mark, [Wait::event("STOP")]);
    assert_eq!(rig.vm.claim_wait(id), Some(Err(WaitError::Disconnected)));
    let mut never = Rig::launched(Config::new("qemu").autostart().without_monitor());
    let id = never.wait(&Mark::default(), [Wait::any_event()]);
    assert_eq!(never.vm.claim_wait(id), Some(Err(WaitError::Disconnected)), "the machine never had a monitor");
}

#[test]
fn a_death_within_the_grace_explains_the_silence() {
    let mut rig = Rig::ready(config());
    let id = rig.wait(&Mark::default(), [Wait::event("NEVER")]);
    rig.closes(Channel::Monitor);
    rig.pass(secs(4));
    let outcome = rig.dies(SIGKILL);
    assert_eq!(rig.vm.claim_wait(id), Some(Err(WaitError::Ended(Box::new(outcome)))));
}

#[test]
fn a_wait_for_nothing_is_misuse() {
    let mut rig = Rig::ready(config());
    let mark = rig.vm.mark();
    let mut wait = |things: Vec<Wait>| rig.vm.wait(at(secs(0)), &mark, things, FOREVER).map(|_| ());
    assert_eq!(wait(vec![]), Err(Misuse::EmptyWait));
    assert_eq!(wait(vec![Wait::text("tty", "")]), Err(Misuse::EmptyText));
    assert_eq!(wait(vec![Wait::end(), Wait::text("nope", "x")]), Err(Misuse::UnknownConsole("nope".into())));
    assert_eq!(wait(vec![Wait::end()]), Ok(()));
}

#[test]
fn a_wait_during_the_launch_sees_what_comes_before_readiness() {
    let mut rig = Rig::launched(config());
    let id = rig.wait(&Mark::default(), [Wait::event("VSERPORT_CHANGE")]);
    rig.happens("VSERPORT_CHANGE");
    rig.says(GREETING);
    assert_eq!(event(&hit(&mut rig, id)).name(), "VSERPORT_CHANGE");
}

/// A console is read as it prints by waiting again from where the last wait ended.
#[test]
fn row_16_output_is_found_piece_by_piece() {
    let mut rig = Rig::ready(config().limits(limits(1000, 6)));
    let start = rig.vm.mark();
    assert_eq!(find(&mut rig, &start, [Wait::output("tty")]), None, "nothing was printed");
    rig.prints("one");
    let first = find(&mut rig, &start, [Wait::text("tty", "never"), Wait::output("tty")]).unwrap();
    assert_eq!((first.index, text(&first), first.missed.bytes), (1, "one", 0));
    assert_eq!(find(&mut rig, &first.mark, [Wait::output("tty")]), None, "nothing more was printed");
    let wait = rig.vm.wait(rig.now, &first.mark, [Wait::output("tty"), Wait::end()], FOREVER).unwrap();
    rig.prints("two");
    let second = hit(&mut rig, wait);
    assert_eq!((second.index, text(&second)), (0, "two"));
    rig.prints("three, four");
    let third = find(&mut rig, &second.mark, [Wait::output("tty")]).unwrap();
    assert_eq!((text(&third), third.missed.bytes), (", four", 5), "evicted bytes are counted");
    assert_eq!(rig.vm.wait(rig.now, &start, [Wait::output("x")], FOREVER), Err(Misuse::UnknownConsole("x".into())));
}

/// A caller that reads a console as it prints gets the same characters, however the reads are cut.
#[test]
fn row_16_output_is_cut_between_characters() {
    const TEXT: &str = "a\u{fc}\u{20ac}\u{1f600}b";
    for (first, second) in (0..=TEXT.len()).flat_map(|cut| (cut..=TEXT.len()).map(move |other| (cut, other))) {
        let (mut rig, mut mark, mut read) = (Rig::ready(config()), Mark::default(), String::new());
        for part in [&TEXT.as_bytes()[..first], &TEXT.as_bytes()[first..second], &TEXT.as_bytes()[second..]] {
            rig.prints(part);
            if let Some(hit) = find(&mut rig, &mark, [Wait::output("tty")]) {
                read += text(&hit);
                mark = hit.mark;
            }
        }
        assert_eq!(read, TEXT, "cut at {first} and {second}");
    }
}

#[test]
fn row_16_bytes_that_can_become_no_character_are_returned_at_once() {
    let mut rig = Rig::ready(config());
    let wait = rig.wait(&Mark::default(), [Wait::output("tty")]);
    rig.prints(b"\xe2\x82");
    assert_eq!(rig.vm.claim_wait(wait), None, "the bytes may become a character");
    rig.prints(b"(\xff");
    assert_eq!(text(&hit(&mut rig, wait)), "\u{fffd}(\u{fffd}");
}

/// The reason of a kernel panic follows the text that callers wait for, so the whole line is needed.
#[test]
fn a_line_is_found_when_it_is_whole() {
    let mut rig = Rig::ready(config());
    rig.prints("[1] Kernel panic at none\n");
    let start = rig.vm.mark();
    let wait = rig.vm.wait(rig.now, &start, [Wait::line("tty", "Kernel panic")], FOREVER).unwrap();
    for part in ["[2] Ker", "nel pan", "ic - not syncing: ", "no init\r"] {
        rig.prints(part);
        assert_eq!(rig.vm.claim_wait(wait), None, "{part}");
    }
    rig.prints("\nnext line\n");
    let hit = rig.vm.claim_wait(wait).unwrap().unwrap();
    let line = "[2] Kernel panic - not syncing: no init";
    assert_eq!(hit.found, Found::Line { line: line.into(), text: format!("{line}\r\n").into() });
    assert_eq!(rig.vm.console_since("tty", &hit.mark), Ok(&b"next line\n"[..]));
    let again = rig.vm.wait(rig.now, &Mark::default(), [Wait::line("tty", "panic at")], FOREVER).unwrap();
    assert!(matches!(rig.vm.claim_wait(again), Some(Ok(_))), "an earlier line is found");
}

/// The line is whole also if the mark is in the middle of it; the text is from the mark on.
#[test]
fn a_line_is_apart_from_the_text_before_it() {
    let mut rig = Rig::ready(config());
    rig.prints("zero\none ");
    let start = rig.vm.mark();
    rig.prints("half\r\ntwo\r\r\n\x1b[1mthree\x1b[0m\n");
    let hit = find(&mut rig, &start, [Wait::line("tty", "half")]).unwrap();
    assert_eq!((hit.line().map(|line| &**line), text(&hit)), (Some("one half"), "half\r\n"));
    let hit = find(&mut rig, &start, [Wait::line("tty", "two")]).unwrap();
    assert_eq!((hit.line().map(|line| &**line), text(&hit)), (Some("two"), "half\r\ntwo\r\r\n"));
    let next = find(&mut rig, &start, [Wait::any_line("tty")]).unwrap();
    assert_eq!(next.line().map(|line| &**line), Some("one half"));
    let next = find(&mut rig, &hit.mark, [Wait::any_line("tty").plain()]).unwrap();
    assert_eq!((next.line().map(|line| &**line), text(&next)), (Some("three"), "three\n"));
    assert_eq!(find(&mut rig, &next.mark, [Wait::any_line("tty")]), None);
    let hit = find(&mut rig, &start, [Wait::text("tty", "half")]).unwrap();
    assert_eq!((hit.line(), text(&hit)), (None, "half"));
}

#[test]
fn text_is_found_between_escape_sequences() {
    let mut rig = Rig::ready(config());
    let start = rig.vm.mark();
    let colour = rig.wait(&start, [Wait::text("tty", "[  OK  ] Reached").plain()]);
    let line = rig.wait(&start, [Wait::line("tty", "OK  ] R").plain()]);
    for part in ["[  \x1b", "[0;32mOK\x1b[", "0m  ] \x1b]0;title", "\x1b\\Rea", "ched tar", "get\r\n"] {
        assert_eq!(rig.vm.claim_wait(line), None);
        rig.prints(part);
    }
    let found = hit(&mut rig, colour);
    assert_eq!(found.found, Found::Text("[  OK  ] Reached".into()));
    assert_eq!(rig.vm.console_since("tty", &found.mark), Ok(&b" target\r\n"[..]));
    let target = "[  OK  ] Reached target";
    assert_eq!(hit(&mut rig, line).found, Found::Line { line: target.into(), text: format!("{target}\r\n").into() });
    assert_eq!(find(&mut rig, &start, [Wait::text("tty", "[  OK  ]")]), None, "as it was printed");
}

#[test]
fn text_is_found_by_a_pattern_however_it_is_cut() {
    let printed = b"\x1b[1mroot@guest\x1b[0m:~# took 12 ms\r\n";
    for cut in 0..=printed.len() {
        let mut rig = Rig::ready(config());
        rig.prints("old root@guest:~# ");
        let start = rig.vm.mark();
        let wait = |pattern: &str| Wait::regex("tty", pattern).unwrap();
        let prompt = rig.wait(&start, [wait("^[a-z]+@[a-z]+:[^ ]*[#$] ").plain()]);
        let raw = rig.wait(&start, [wait(r"guest\S*:~# t")]);
        let line = rig.wait(&start, [Wait::line_regex("tty", r"took \d+ ms$").unwrap().plain()]);
        rig.prints("\n");
        rig.prints(&printed[..cut]);
        rig.prints(&printed[cut..]);
        assert_eq!(text(&hit(&mut rig, prompt)), "\nroot@guest:~# ", "{cut}");
        assert!(text(&hit(&mut rig, raw)).ends_with("\x1b[0m:~# t"));
        assert_eq!(hit(&mut rig, line).line().map(|line| &**line), Some("root@guest:~# took 12 ms"));
        let later = find(&mut rig, &start, [wait("^[a-z]+@").plain()]).unwrap();
        assert_eq!(text(&later), "\nroot@", "a search of the past finds the same");
    }
    let mut rig = Rig::ready(config());
    rig.prints("ab");
    let middle = rig.vm.mark();
    rig.prints("cd\n");
    assert_eq!(find(&mut rig, &middle, [Wait::regex("tty", "^c").unwrap()]), None, "the mark is not a line");
    assert!(find(&mut rig, &middle, [Wait::regex("tty", "^d|c").unwrap()]).is_some());
}

#[test]
fn a_pattern_does_not_begin_a_line_after_evicted_output() {
    let mut limits = Limits::default();
    limits.console = 4;
    let mut rig = Rig::ready(config().limits(limits));
    let start = rig.vm.mark();
    rig.prints("abcd");
    assert!(find(&mut rig, &start, [Wait::regex("tty", "^a").unwrap()]).is_some(), "the run begins with a line");
    rig.prints("efgh\ni");
    let middle = Wait::regex("tty", "^g").unwrap();
    assert_eq!(find(&mut rig, &start, [middle]), None, "it is the middle of a line");
    assert!(find(&mut rig, &start, [Wait::regex("tty", "^i").unwrap()]).is_some());
}

#[test]
fn a_console_is_read_as_it_prints_and_each_byte_once() {
    let mut rig = Rig::ready(config());
    let (mut read, mut mark) = (Vec::new(), Mark::default());
    for part in ["a\u{fc}", "b", "", "cd"] {
        rig.prints(part);
        rig.handle(Input::Received(Channel::Console(0), b"\xff"));
        let (bytes, behind) = rig.vm.console_from("tty", &mark).unwrap();
        read.extend_from_slice(bytes);
        mark = behind;
    }
    assert_eq!(read, b"a\xc3\xbc\xffb\xff\xffcd\xff");
    assert_eq!(rig.vm.console_from("tty", &mark), Ok((&b""[..], mark.clone())));
    assert!(rig.vm.console_from("none", &mark).is_err());
}
