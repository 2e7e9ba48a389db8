//! Tests of broken messages: which command fails, and that the connection stays usable.

use crate::rig::{Rig, config, secs};
use qemu_machine_core::{CommandError, Limits, Misuse, OutOfBand, ProtocolError, json};

const LIMIT: usize = 200;
const NAMELESS: &str = r#"{"error": {"class": "GenericError", "desc": "JSON parse error, stray 'x'"}}"#;

fn small() -> qemu_machine_core::Config {
    let mut limits = Limits::default();
    limits.message = LIMIT;
    config().limits(limits)
}

/// Returns a reply beyond the limit.
fn large() -> String {
    format!(r#"{{"return": "{}", "id": 1}}"#, "x".repeat(LIMIT))
}

fn is_too_large(answer: &Option<Result<u64, CommandError>>) -> bool {
    *answer == Some(Err(CommandError::Broken(ProtocolError::TooLarge { limit: LIMIT })))
}

fn is_malformed(answer: &Option<Result<u64, CommandError>>) -> bool {
    matches!(answer, Some(Err(CommandError::Broken(ProtocolError::Malformed { .. }))))
}

/// Returns whether a command can still be sent and answered.
fn is_usable(rig: &mut Rig) -> bool {
    rig.take_sent();
    let (tickets, ids) = rig.issue_many(1);
    let Some(id) = ids.first() else { return false };
    rig.replies(*id);
    rig.claim(&tickets[0]) == Some(Ok(u64::from(*id)))
}

#[test]
fn g10_a_reply_beyond_the_limit_fails_the_oldest_command_in_band() {
    let mut rig = Rig::ready_oob(small());
    let out_of_band = rig.issue(OutOfBand("query-yank"));
    rig.take_sent();
    let (tickets, ids) = rig.issue_many(2);
    rig.says(&large());
    assert!(is_too_large(&rig.claim(&tickets[0])));
    assert_eq!((rig.claim(&tickets[1]), rig.claim(&out_of_band)), (None, None));
    rig.replies(ids[1]);
    rig.replies(1);
    assert_eq!(rig.claim(&tickets[1]), Some(Ok(u64::from(ids[1]))));
    assert_eq!(rig.claim(&out_of_band), Some(Ok(1)));
    assert_eq!(rig.vm.session().counters().too_large, 1);
    assert!(is_usable(&mut rig));
}

/// An out-of-band reply may overtake others, so it proves nothing about earlier commands (`docs/interop/qmp-spec.rst`,
/// Out-of-band execution).
#[test]
fn the_id_of_a_lost_command_is_reused_after_a_later_in_band_reply() {
    let mut rig = Rig::ready_oob(small());
    let _lost = rig.issue_many(1);
    rig.says(&large());
    let _out_of_band = rig.issue(OutOfBand("query-yank"));
    let ids = rig.take_ids();
    rig.replies(ids[0]);
    assert_eq!(rig.vm.session().in_flight(), 1);
    let (_tickets, ids) = rig.issue_many(1);
    rig.replies(ids[0]);
    assert_eq!(rig.vm.session().in_flight(), 0);
}

#[test]
fn a_malformed_reply_fails_the_oldest_command_in_band() {
    for bad in ["garbage", r#"{"return": inf, "id": 1}"#, "\u{fffd}", "{}", "[]"] {
        let mut rig = Rig::ready_oob(small());
        let (tickets, ids) = rig.issue_many(2);
        rig.says(bad);
        assert!(is_malformed(&rig.claim(&tickets[0])), "{bad}");
        assert_eq!(rig.claim(&tickets[1]), None);
        rig.replies(ids[1]);
        assert_eq!(rig.claim(&tickets[1]), Some(Ok(u64::from(ids[1]))));
        assert_eq!(rig.vm.session().counters().malformed, 1);
        assert!(is_usable(&mut rig));
    }
}

#[test]
fn a_broken_message_while_nothing_is_in_flight_is_only_counted() {
    let mut rig = Rig::ready(small());
    for bad in ["garbage", &large(), NAMELESS] {
        rig.says(bad);
    }
    let counters = rig.vm.session().counters();
    assert_eq!((counters.malformed, counters.too_large, counters.nameless), (1, 1, 1));
    assert!(is_usable(&mut rig));
}

/// The broken message may have been an event. Then the true reply comes later, and must reach no other command.
#[test]
fn the_true_reply_after_a_broken_message_is_late() {
    let mut rig = Rig::ready(small());
    let (tickets, ids) = rig.issue_many(2);
    rig.says("garbage");
    assert!(is_malformed(&rig.claim(&tickets[0])));
    rig.replies(ids[0]);
    rig.replies(ids[1]);
    assert_eq!((rig.claim(&tickets[0]), rig.claim(&tickets[1])), (None, Some(Ok(u64::from(ids[1])))));
    assert_eq!((rig.vm.session().counters().late, rig.vm.session().counters().unmatched), (1, 0));
}

/// QEMU has finished each of these commands, whatever the reply was, so none occupies a place in its queue.
#[test]
fn g10_more_broken_replies_than_the_in_band_limit_leave_the_connection_usable() {
    for bad in [large(), "garbage".to_string()] {
        let mut rig = Rig::ready_oob(small());
        for count in 0..20 {
            let ticket = rig.issue("query-status");
            assert_ne!(rig.take_sent(), "", "command {count} is never sent");
            rig.says(&bad);
            assert!(matches!(rig.claim(&ticket), Some(Err(CommandError::Broken(_)))));
        }
        assert!(is_usable(&mut rig));
    }
}

#[test]
fn g10_waiting_commands_are_sent_after_broken_replies() {
    let mut rig = Rig::ready_oob(small());
    let (tickets, _) = rig.issue_many(8);
    for _ in 0..7 {
        rig.says(&large());
    }
    assert!(tickets[..7].iter().all(|ticket| is_too_large(&rig.claim(ticket))));
    assert_eq!(rig.take_ids().len(), 1, "the eighth");
    assert_eq!(rig.claim(&tickets[7]), None);
}

/// An answered command has no deadline, and its id is reused when a later reply proves that QEMU has finished it.
#[test]
fn a_broken_reply_ends_the_deadline_of_its_command() {
    let mut rig = Rig::ready(small());
    let ticket = rig.issue_within("a", secs(1));
    rig.says("garbage");
    assert!(is_malformed(&rig.claim(&ticket)));
    assert_eq!(rig.vm.deadline(), None);
    rig.pass(secs(2));
    assert_eq!((rig.claim(&ticket), rig.times_answered(ticket.id())), (None, 1));
    assert!(is_usable(&mut rig));
    assert_eq!(rig.vm.session().commands(), 0, "nothing is in flight");
    let mut ids = rig.issue_many(10).1;
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], "no id is lost");
}

#[test]
fn g19_a_nameless_error_fails_the_oldest_raw_command() {
    let mut rig = Rig::ready(small());
    let typed = rig.issue("query-status");
    let raws = [rig.issue_raw(r#"{"execute": "a"}"#), rig.issue_raw(r#"{"execute": "b"}"#)];
    rig.says(NAMELESS);
    let reply = rig.claim_raw(&raws[0]).unwrap().unwrap();
    assert_eq!(reply["error"]["desc"], "JSON parse error, stray 'x'");
    assert_eq!((rig.claim(&typed), rig.claim_raw(&raws[1]), rig.vm.session().counters().nameless), (None, None, 0));
    rig.says(NAMELESS);
    assert_eq!(rig.claim_raw(&raws[1]).unwrap().unwrap()["error"]["class"], "GenericError");
    rig.says(NAMELESS);
    assert_eq!((rig.claim(&typed), rig.vm.session().counters().nameless), (None, 1));
    rig.replies(1);
    assert_eq!(rig.claim(&typed), Some(Ok(1)));
    assert!(is_usable(&mut rig));
}

/// QEMU sends nothing more for a request that it could not parse.
#[test]
fn g19_raw_commands_that_failed_without_an_id_occupy_no_place() {
    let mut rig = Rig::ready_oob(small());
    for _ in 0..20 {
        let raw = rig.issue_raw(r#"{"execute": "a"}"#);
        assert_ne!(rig.take_sent(), "");
        rig.says(NAMELESS);
        assert_eq!(rig.claim_raw(&raw).unwrap().unwrap()["error"]["class"], "GenericError");
    }
    assert!(is_usable(&mut rig));
}

#[test]
fn g19_a_raw_command_is_one_object_without_an_id() {
    let mut rig = Rig::ready(small());
    let refused = rig.vm.execute_raw(rig.now, b"{\"execute\": \"a\"} {", qemu_machine_core::FOREVER);
    assert!(matches!(refused, Err(Misuse::Raw(_))));
    let raw = rig.issue_raw(r#"{"execute": "a", "arguments": {"x": "}"}}"#);
    assert_eq!(rig.take_sent(), r#"{"execute": "a", "arguments": {"x": "}"},"id":1}"#);
    rig.replies(1);
    assert_eq!(rig.claim_raw(&raw), Some(Ok(json!({"return": {"n": 1}, "id": 1}))), "the whole message");
}

#[test]
fn a_reply_of_another_type_keeps_its_bytes() {
    #[derive(serde::Serialize)]
    struct Nothing {}
    impl qemu_machine_core::Command for Nothing {
        type Reply = u8;
        fn name(&self) -> &str {
            "x"
        }
        fn arguments(&self) -> Option<impl serde::Serialize> {
            Some(self)
        }
    }
    let mut rig = Rig::ready(config());
    let ticket = rig.issue(Nothing {});
    assert_eq!(rig.take_sent(), r#"{"execute":"x","id":1}"#);
    rig.says(r#"{"return": [300], "id": 1}"#);
    match rig.vm.claim(&ticket) {
        Some(Err(CommandError::Unexpected { reply, .. })) => assert_eq!(reply.as_str(), "[300]"),
        other => panic!("{other:?}"),
    }
}

/// A message that begins like an event is no reply.
#[test]
fn an_unreadable_event_fails_no_command() {
    let mut rig = Rig::ready(config());
    let ticket = rig.issue("query-status");
    rig.take_sent();
    rig.says(r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "X", "data": inf}"#);
    assert_eq!(rig.claim(&ticket), None);
    assert_eq!(rig.vm.session().counters().malformed, 1);
    rig.replies(1);
    assert_eq!(rig.claim(&ticket), Some(Ok(1)));
}

/// A successful `quit` counts, whatever its JSON looks like.
#[test]
fn a_raw_quit_is_a_quit() {
    for (object, is_quit) in [
        (r#"{"execute": "quit"}"#, true),
        (r#"{"execute": "qu\u0069t", "arguments": {}}"#, true),
        (r#"{"execute": "query-quit"}"#, false),
    ] {
        let mut rig = Rig::ready(config());
        let _ticket = rig.issue_raw(object);
        rig.take_sent();
        rig.replies(1);
        assert_eq!(rig.vm.lifecycle().is_quit_issued(), is_quit, "{object}");
    }
}
