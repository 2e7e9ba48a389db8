//! Tests of a session: the order and the ids of requests, and the assignment of replies to commands.
#![allow(unused_must_use, reason = "many commands here are only sent")]

use crate::rig::{GREETING, GREETING_OOB, HANDSHAKE, Rig, config, secs};
use proptest::prelude::*;
use qemu_machine_core::{
    Channel, CommandError, FOREVER, Input, Limits, Liveness, Misuse, Notice, OmitNull, OutOfBand, Phase, Progress,
    State, WithRawReply, json,
};

const READY: &str = r#"{"return": {}, "id": 0}"#;

#[test]
fn a_request_is_as_short_as_it_can_be() {
    let mut rig = Rig::ready_oob(config());
    rig.issue("query-status");
    rig.issue(("stop", json!({})));
    rig.issue(("device_del", json!({"id": "a\"b"})));
    rig.issue(("odd \"name\"", ()));
    rig.issue(OutOfBand("query-yank"));
    rig.issue(WithRawReply("query-qmp-schema"));
    rig.issue_raw(" { \"execute\" : \"x\" } ");
    assert_eq!(
        rig.take_sent(),
        concat!(
            r#"{"execute":"query-status","id":1}{"execute":"stop","id":2}"#,
            r#"{"execute":"device_del","arguments":{"id":"a\"b"},"id":3}{"execute":"odd \"name\"","id":4}"#,
            r#"{"exec-oob":"query-yank","id":5}{"execute":"query-qmp-schema","id":6}{"execute" : "x","id":7}"#,
        )
    );
}

#[test]
fn optional_arguments_that_are_missing_are_not_sent() {
    let mut rig = Rig::ready(config());
    let speed = None::<u64>;
    rig.issue(("a", OmitNull(json!({"id": "x", "speed": speed, "deep": {"stays": null}}))));
    rig.issue(("b", OmitNull(json!({"speed": speed}))));
    rig.issue(("c", json!({"backing": null})));
    let arguments = [r#","arguments":{"deep":{"stays":null},"id":"x"}"#, "", r#","arguments":{"backing":null}"#];
    let expected = ["a", "b", "c"]
        .iter()
        .zip(arguments)
        .zip(1..)
        .map(|((name, arguments), id)| format!(r#"{{"execute":"{name}"{arguments},"id":{id}}}"#));
    assert_eq!(rig.take_sent(), expected.collect::<String>());
    for bad in [json!([null]), json!(5)] {
        let refused = rig.vm.execute(rig.now, &("stop", OmitNull(bad)), FOREVER);
        assert!(matches!(refused, Err(Misuse::Arguments { .. })), "{refused:?}");
    }
}

#[test]
fn an_invalid_command_is_refused_and_leaves_nothing() {
    let mut rig = Rig::ready(config());
    for bad in [json!([]), json!(5), json!("x")] {
        let refused = rig.vm.execute(rig.now, &("stop", bad), FOREVER);
        assert!(matches!(refused, Err(Misuse::Arguments { command, .. }) if command == "stop"));
    }
    for bad in ["", "{", "[]", "{}{}", "5", "\"x\"", "{\"id\": 1}", "[1, 2]"] {
        let refused = rig.vm.execute_raw(rig.now, bad.as_bytes(), FOREVER);
        assert!(matches!(refused, Err(Misuse::Raw(_))), "{bad}: {refused:?}");
    }
    assert_eq!((rig.take_sent().as_str(), rig.vm.session().commands()), ("", 0));
}

/// QEMU refuses an object with a duplicate key (measured with QEMU 7.2.22), so a second `id` must not be added.
#[test]
fn a_raw_command_whose_id_is_null_has_an_id_of_its_own() {
    let mut rig = Rig::ready(config());
    let refused = rig.vm.execute_raw(rig.now, br#"{"execute": "x", "id": null}"#, FOREVER);
    assert!(matches!(refused, Err(Misuse::Raw(_))), "{refused:?}: {}", rig.take_sent());
}

#[test]
fn commands_before_the_machine_is_ready_are_sent_in_order_when_it_is() {
    let mut rig = Rig::launched(config());
    rig.issue("a");
    rig.says(GREETING);
    rig.issue("b");
    assert_eq!(rig.take_sent(), HANDSHAKE);
    rig.says(READY);
    rig.issue("c");
    assert_eq!(rig.take_sent(), r#"{"execute":"a","id":1}{"execute":"b","id":2}{"execute":"c","id":3}"#);
}

/// A caller cannot know when the driver has opened the monitor, so commands are queued from the launch on.
#[test]
fn commands_before_the_monitor_is_open_are_sent_as_well() {
    let mut rig = Rig::new(config());
    rig.held = |_| true;
    rig.launch();
    assert_eq!(rig.vm.state(), State::Launching(Phase::Starting));
    let early = rig.issue("a");
    rig.held = |_| false;
    let prepare = rig.take_effects().remove(0);
    rig.answer(&prepare);
    rig.serve();
    rig.negotiate(GREETING);
    assert_eq!(rig.claim(&early), None);
    assert_eq!(rig.take_sent(), r#"{"execute":"a","id":1}"#);
}

#[test]
fn seven_commands_are_in_band_and_the_next_is_sent_after_a_reply() {
    let mut rig = Rig::ready_oob(config());
    assert_eq!(rig.issue_many(9).1, [1, 2, 3, 4, 5, 6, 7]);
    rig.issue(OutOfBand("query-yank"));
    assert_eq!(rig.take_sent(), r#"{"exec-oob":"query-yank","id":8}"#, "an out-of-band command overtakes the others");
    rig.replies(8);
    assert_eq!(rig.take_sent(), "", "an out-of-band reply makes no room in band");
    rig.replies(1);
    assert_eq!(rig.take_ids(), [9]);
    rig.refuses(2);
    assert_eq!(rig.take_ids(), [0]);
}

#[test]
fn without_out_of_band_the_depth_has_no_limit_and_the_order_holds() {
    let mut rig = Rig::ready(config());
    let (tickets, ids) = rig.issue_many(300);
    assert_eq!(ids.len(), 300);
    for (ticket, id) in tickets.iter().zip(&ids) {
        rig.replies(*id);
        assert_eq!(rig.claim(ticket), Some(Ok(u64::from(*id))));
    }
}

#[test]
fn out_of_band_that_was_not_offered_is_misuse() {
    let mut rig = Rig::launched(config());
    let early = rig.issue(OutOfBand("query-yank"));
    rig.negotiate(GREETING);
    let late = rig.issue(OutOfBand("query-yank"));
    for ticket in [early, late] {
        assert!(matches!(rig.claim(&ticket), Some(Err(CommandError::Misuse(Misuse::NoOutOfBand(_))))));
    }
    assert_eq!(rig.take_sent(), "");
}

/// A doubled reply then finds no command, and requests stay short.
#[test]
fn ids_are_small_and_the_oldest_free_id_is_used_again() {
    let mut rig = Rig::ready(config());
    let mut used = Vec::new();
    for _ in 0..21 {
        let (_, ids) = rig.issue_many(1);
        rig.replies(ids[0]);
        used.extend(ids);
    }
    assert_eq!(used, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    assert_eq!(rig.issue_many(12).1, [2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 10, 11]);
    for id in [11, 2, 9] {
        rig.replies(id);
    }
    assert_eq!(rig.issue_many(4).1, [11, 2, 9, 12]);
}

#[test]
fn unmatched_replies_are_counted_and_change_nothing() {
    let mut rig = Rig::ready(config());
    let (tickets, ids) = rig.issue_many(1);
    rig.replies(ids[0]);
    rig.replies(ids[0]);
    rig.replies(77);
    rig.says(r#"{"return": {}}"#);
    rig.says(r#"{"return": {}, "id": "1"}"#);
    rig.says(r#"{"error": {"class": "C", "desc": "d"}, "id": null}"#);
    rig.says(GREETING);
    let counters = rig.vm.session().counters();
    assert_eq!((counters.unmatched, counters.late, counters.nameless), (6, 0, 0));
    assert_eq!(rig.claim(&tickets[0]), Some(Ok(1)));
    assert_eq!(rig.claim(&tickets[0]), None, "an answer is returned once");
    assert_eq!(rig.times_answered(tickets[0].id()), 1);
}

/// Before or after the late reply, the other command gets its own.
#[test]
fn g02_a_late_reply_reaches_no_other_caller() {
    for times_out in [false, true] {
        for order in [[0, 1], [1, 0]] {
            let mut rig = Rig::ready(config());
            let a = rig.issue_within("a", secs(1));
            if times_out {
                rig.pass_exactly_answering(secs(1));
                assert_eq!(rig.claim(&a), Some(Err(CommandError::TimedOut(Progress::Sent, Liveness::Unknown))));
            } else {
                rig.vm.disown(a.id());
                assert_eq!(rig.vm.deadline(), None, "a disowned command has no deadline");
            }
            let b = rig.issue("b");
            let ids = rig.take_ids();
            order.iter().for_each(|which| rig.replies(ids[*which]));
            assert_eq!(rig.claim(&b), Some(Ok(u64::from(ids[1]))));
            assert_eq!((rig.claim(&a), rig.vm.session().counters().late), (None, 1));
            let (tickets, ids) = rig.issue_many(1);
            rig.replies(ids[0]);
            assert_eq!(rig.claim(&tickets[0]), Some(Ok(u64::from(ids[0]))), "the connection stays usable");
        }
    }
}

impl Rig {
    /// Passes time to a deadline, and asserts that nothing is answered a nanosecond before it.
    fn pass_exactly_answering(&mut self, duration: core::time::Duration) {
        assert_eq!(self.vm.deadline().map(|(until, _)| until), Some(self.now.after(duration)));
        self.pass_exactly(duration);
    }
}

#[test]
fn deadlines_are_exact_and_report_the_progress_of_the_command() {
    let mut rig = Rig::ready_oob(config());
    let sent = rig.issue_within("a", secs(3));
    rig.issue_many(6);
    let unsent = rig.issue_within("b", secs(2));
    rig.pass(secs(1));
    rig.pass_exactly_answering(secs(1));
    assert_eq!(rig.claim(&unsent), Some(Err(CommandError::TimedOut(Progress::Unsent, Liveness::Stuck))));
    rig.pass_exactly_answering(secs(1));
    assert_eq!(rig.claim(&sent), Some(Err(CommandError::TimedOut(Progress::Sent, Liveness::Stuck))));
    assert_eq!(rig.vm.deadline(), None);
    rig.take_sent();
    (1..8).for_each(|id| rig.replies(id));
    assert_eq!(rig.take_sent(), "", "what timed out unsent is never sent");
    assert_eq!(rig.vm.session().counters().late, 1);
}

#[test]
fn a_reply_at_the_deadline_is_in_time() {
    let mut rig = Rig::ready(config());
    let ticket = rig.issue_within("a", secs(1));
    rig.now = rig.now.after(secs(1));
    rig.replies(1);
    assert_eq!(rig.claim(&ticket), Some(Ok(1)));
}

#[test]
fn a_command_that_is_disowned_before_it_is_sent_is_never_sent() {
    let mut rig = Rig::launched(config());
    let (a, b) = (rig.issue("a"), rig.issue("b"));
    rig.vm.disown(a.id());
    rig.negotiate(GREETING);
    assert_eq!(rig.take_sent(), r#"{"execute":"b","id":1}"#);
    rig.replies(1);
    rig.vm.disown(b.id());
    assert_eq!(rig.claim(&b), None, "the answer is disowned as well");
}

#[test]
fn the_end_of_the_connection_answers_everything_once_with_its_progress() {
    let mut rig = Rig::ready_oob(config());
    let (tickets, _) = rig.issue_many(9);
    let raw = rig.issue_raw(r#"{"execute": "x"}"#);
    rig.vm.disown(tickets[3].id());
    rig.replies(1);
    rig.closes(Channel::Monitor);
    let after = rig.issue("too-late");
    assert_eq!(rig.claim(&tickets[0]), Some(Ok(1)));
    let gone = |progress| Some(Err(CommandError::Disconnected(progress)));
    for (index, ticket) in tickets.iter().enumerate().skip(1) {
        let expected = match index {
            3 => None,
            1..8 => gone(Progress::Sent),
            _ => gone(Progress::Unsent),
        };
        assert_eq!(rig.claim(ticket), expected, "{index}");
        assert_eq!(rig.times_answered(ticket.id()), usize::from(index != 3));
    }
    assert_eq!((rig.claim(&raw), rig.claim(&after)), (gone(Progress::Unsent), gone(Progress::Unsent)));
    assert_eq!((rig.vm.session().commands(), rig.take_sent().as_str()), (0, ""));
    rig.dies(crate::rig::SIGKILL);
    assert_eq!(rig.notices.iter().filter(|notice| matches!(notice, Notice::Answered(_))).count(), 10);
}

#[test]
fn the_limit_of_commands_counts_unclaimed_answers() {
    let mut few = Limits::default();
    few.commands = 2;
    let mut rig = Rig::ready(config().limits(few));
    let (tickets, ids) = rig.issue_many(2);
    let refused = |rig: &mut Rig| rig.vm.execute(rig.now, &"x", FOREVER).map(|_| ()).unwrap_err();
    assert_eq!(refused(&mut rig), Misuse::TooManyCommands(2));
    rig.replies(ids[0]);
    assert_eq!(refused(&mut rig), Misuse::TooManyCommands(2));
    assert_eq!(rig.claim(&tickets[0]), Some(Ok(1)));
    rig.issue("x");
}

/// Returns the notices, the answers with the counters, and the requests after these pieces were received with commands
/// in flight.
fn told<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Notice>, Vec<String>, String) {
    let mut rig = Rig::launched(config());
    let tickets: Vec<_> = (0..4).map(|_| rig.issue("query-status")).collect();
    let raw = rig.issue_raw(r#"{"execute": "x"}"#);
    let mut sent = String::new();
    for piece in pieces {
        rig.handle(Input::Received(Channel::Monitor, piece));
        sent += &rig.take_sent();
    }
    let mut answers: Vec<_> = tickets.iter().map(|ticket| format!("{:?}", rig.claim(ticket))).collect();
    answers.push(format!("{:?}", rig.claim(&raw)));
    answers.push(format!("{:?}", rig.vm.session().counters()));
    (rig.notices.clone(), answers, sent)
}

proptest! {
    #[test]
    fn answers_do_not_depend_on_the_cut(sizes in prop::collection::vec(1_usize..80, 1..12)) {
        let said = [
            GREETING_OOB, READY, r#"{"event": "STOP"}"#, r#"{"return": {"n": 5}, "id": 1}"#, "garbage",
            "{\r\n    \"return\": {\r\n        \"n\": 3\r\n    },\r\n    \"id\": 3\r\n}",
            r#"{"error": {"class": "C", "desc": "nameless"}}"#, r#"{"error": {"class": "C", "desc": "d"}, "id": 4}"#,
            r#"{"return": {}, "id": 4}"#, r#"{"event": "RESUME"}"#, "{\"re",
        ];
        let stream = said.map(|line| format!("{line}\r\n")).concat();
        let expected = told([stream.as_bytes()]);
        prop_assert_eq!(&expected.1[0], "Some(Ok(5))");
        prop_assert_eq!(expected.0.len(), 8);
        prop_assert_eq!(&told(stream.as_bytes().chunks(1)), &expected);
        let mut pieces = Vec::new();
        let mut rest = stream.as_bytes();
        for size in sizes.iter().cycle() {
            let (piece, behind) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = behind;
            if rest.is_empty() { break; }
        }
        prop_assert_eq!(&told(pieces), &expected);
    }
}
